"""Which of K linearized pieces is the best, without solving K programs: weak duality rules most of them out.

Every piece has a lower bound on its optimal value that takes one pass over its gradient. The piece of the lowest bound is solved first;
another is solved only where its bound is below the value found. Without a box the bound is the optimal value itself, equation (6), so
that one program an image is left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import dot64, largest
from convexattack.programs import MinNorm, Program
from convexattack.sets import Box, ConvexSet
from convexattack.solution import Solution, Status

__all__ = ["LastSteps", "Step", "best_piece", "least_norm", "least_value", "steepness"]


@dataclass(frozen=True, eq=False)
class Step:
    """The convex step chosen for each of n images, with the data of its program."""

    value: Float[Tensor, " n"]
    gradient: Float[Tensor, "n d"]
    eta: Float[Tensor, "n d"]
    objective: Float[Tensor, " n"]  # 0 where there is one piece alone, NaN where η is not finite
    length: Float[Tensor, " n"]  # ‖η‖_∞
    codes: Int[Tensor, " n"]
    proof: Callable[[], Proof]  # computed when someone looks
    usable: Bool[Tensor, " n"]
    relaxed: Bool[Tensor, " n"]  # (GNII) in place of (8)
    solver: str

    @staticmethod
    def of(program: Program, found: Solution, alone: bool = False) -> Step:
        """Of what a solver found; where no other piece is there to be compared, no objective is computed."""
        length = largest(found.eta)
        small = isinstance(program, MinNorm)
        if alone:
            objective = length.to(torch.float64) * 0
        elif isinstance(program, MinNorm):
            objective = program.norm.length(found.eta)
        else:
            objective = program.L + dot64(program.gradient, found.eta)
        usable = ((found.codes == Status.OPTIMAL.code) | (found.codes == Status.INEXACT.code)) & objective.isfinite()

        def proof() -> Proof:
            lam = found.multipliers[0] if small else torch.zeros_like(objective)
            return lam, found.multipliers[small:]

        return Step(
            program.value, program.gradient, found.eta, objective, length, found.codes, proof, usable, torch.zeros_like(usable),
            str(found.stats.get("solver")),
        )  # fmt: skip

    def moved(self) -> Bool[Tensor, " n"]:
        """Whether there was a step; one in place of (8) is none where its linear model gains less than a solver's tolerance."""
        some = self.usable & (self.length > 0)
        if not bool(self.relaxed.any()):
            return some
        fall = -dot64(self.gradient, self.eta)
        return some & (~self.relaxed | (fall > 1e-6 * self.value.abs()))

    def at(self, rows: Tensor) -> Step:
        """These images alone."""

        def proof() -> Proof:
            lam, multipliers = self.proof()
            return lam[rows], tuple(part[rows] for part in multipliers)

        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in _TENSORS}, proof=proof)

    def updated(self, rows: Tensor, step: Step) -> Step:
        """These rows replaced by those of another step."""

        def proof() -> Proof:
            (lam, multipliers), (new, others) = self.proof(), step.proof()
            return lam.index_copy(0, rows, new), tuple(
                _replaced(old, rows, part) for old, part in zip(multipliers, others, strict=True)
            )

        parts = {name: getattr(self, name).index_copy(0, rows, getattr(step, name)) for name in _TENSORS}
        return dataclasses.replace(self, **parts, proof=proof)


Proof = tuple[Float[Tensor, " n"], tuple[Tensor, ...]]  # λ of (8), and one multiplier a set
_TENSORS = ("value", "gradient", "eta", "objective", "length", "codes", "usable", "relaxed")


def _replaced(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    wide = torch.promote_types(old.dtype, new.dtype)
    return old.to(wide).index_copy(0, rows, new.to(wide))


class LastSteps:
    """The last step of each of B images, which live for different numbers of steps; put together only when someone looks."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.parts: list[tuple[Tensor, Step, Tensor]] = []  # rows, their step, the total from which it was taken

    def add(self, rows: Int[Tensor, " n"], step: Step, base: Float[Tensor, "n d"]) -> None:
        """The step of these rows replaces an earlier one of theirs; at most four rows an image are kept."""
        if len(rows) == self.images:
            self.parts.clear()
        self.parts.append((rows, step, base))
        if sum(len(part[0]) for part in self.parts) > 4 * self.images:
            whole, start = self.merged()
            known = whole.proof()
            whole = dataclasses.replace(whole, proof=lambda: known)
            self.parts = [(torch.arange(self.images, device=rows.device), whole, start)]

    def merged(self) -> tuple[Step, Float[Tensor, "B d"]]:
        """The last step of every image, and the total from which it was taken."""
        (_, whole, start), *others = self.parts
        for rows, step, base in others:
            whole, start = whole.updated(rows, step), start.index_copy(0, rows, base)
        return whole, start


def best_piece(
    least: Float[Tensor, "n K"], solve: Callable[[Int[Tensor, " m"], Int[Tensor, " m"], bool], Step]
) -> Step:
    """Of each image the piece of the smallest objective: the lowest L + gᵀη for (GNII), the shortest η for (8).

    Args:
        least: a lower bound on each objective, −∞ where none is known.
        solve: (image, piece, whole) → the steps of these m programs; `whole` where they are one of each image, in order.
    """
    images, known = torch.arange(len(least), device=least.device), torch.full_like(least, torch.inf)
    first = least.argmin(1)
    step = solve(images, first, True)
    if least.shape[1] == 1:
        return step
    known[images, first] = torch.where(step.usable, step.objective, torch.inf)
    open_ = least < known.gather(1, first[:, None])
    open_[images, first] = False
    if bool(open_.any()):
        image, piece = open_.nonzero(as_tuple=True)
        others = solve(image, piece, False)
        known[image, piece] = torch.where(others.usable, others.objective, torch.inf)
        won = (known.argmin(1)[image] == piece).nonzero().flatten()
        step = step.updated(image[won], others.at(won))
    return step


def least_value(
    value: Float[Tensor, "n K"],
    gradient: Float[Tensor, "n K d"],
    norm: Lp,
    radius: Float[Tensor, " n"],
    sets: Sequence[ConvexSet],
) -> Float[Tensor, "n K"]:
    """A lower bound on (GNII) over ‖η‖_p ≤ ε and the boxes among `sets`, (n, d): L − ε‖g‖_q over the coordinates that no box blocks.

    For p = ∞ it is L − Σ|g_i|c_i, with c_i the room that ball and boxes leave along −g_i: the optimum, but for the rounding of bounds.
    """
    boxes = _boxes(sets, gradient)
    if boxes is None or norm.p < math.inf:
        reach = radius[:, None] * _dual(norm, gradient, boxes)
    else:
        g = _wide(gradient)
        down, up = (
            torch.minimum(room, radius[:, None]).clamp_min(0).to(g)[:, :, None] for room in (-boxes[0], boxes[1])
        )
        reach = (g.clamp_min(0) @ down - g.clamp_max(0) @ up)[:, :, 0].to(torch.float64)
    return _rounded(value - reach * (1 + _slack(gradient)), reach)


def least_norm(
    value: Float[Tensor, "n K"],
    gradient: Float[Tensor, "n K d"],
    norm: Lp,
    sets: Sequence[ConvexSet],
    steep: Float[Tensor, "n K"] | None = None,
) -> Float[Tensor, "n K"]:
    """A lower bound on (8) over the boxes among `sets`, (n, d): L⁺/‖g‖_q over the coordinates that no box blocks.

    `steep` is `steepness` of these gradients, where that is known and there is no box.
    """
    steep = _dual(norm, gradient, _boxes(sets, gradient)) if steep is None else steep
    return _rounded(value.clamp_min(0) / steep * (1 - _slack(gradient)), steep)


def steepness(norm: Lp, gradient: Float[Tensor, "n K d"]) -> Float[Tensor, "n K"]:
    """‖g‖_q of each piece, as exact as the gradients."""
    return _dual(norm, gradient, None)


def _dual(norm: Lp, gradient: Tensor, boxes: tuple[Tensor, Tensor] | None) -> Float[Tensor, "n K"]:
    """‖g‖_q in the dtype of the gradient, over those coordinates alone that the boxes let go downhill."""
    g = _wide(gradient)
    if boxes is not None:
        most = torch.finfo(g.dtype).max
        down, up = (room.sign().clamp_min_(0).to(g).mul_(most)[:, None] for room in (-boxes[0], boxes[1]))
        g = g.clamp(-up, down)
    if norm.q == 1:
        length = g.abs().sum(-1)
    elif norm.q == math.inf:
        length = largest(g)
    elif norm.q == 2:
        length = torch.linalg.vector_norm(g, 2, -1)
    else:  # a power may leave the range of float32
        length = norm.dual(g)
    return length.to(torch.float64)


def _boxes(sets: Sequence[ConvexSet], gradient: Tensor) -> tuple[Tensor, Tensor] | None:
    """All boxes as one, (n, d), as far as η in the dtype of the gradient can go; None where there are none."""
    pairs = [item.inwards(gradient[:, 0]) for item in sets if isinstance(item, Box)]
    if not pairs:
        return None
    return reduce(torch.maximum, [pair[0] for pair in pairs]), reduce(torch.minimum, [pair[1] for pair in pairs])


def _wide(gradient: Tensor) -> Tensor:
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def _slack(gradient: Tensor) -> float:
    """More than the relative error of a sum of d terms of one sign, and of a norm, in the dtype of `_wide`."""
    return (gradient.shape[-1] + 8) * torch.finfo(torch.promote_types(gradient.dtype, torch.float32)).eps


def _rounded(least: Float[Tensor, "n K"], size: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
    """−∞ where the size it was computed from is so small or large that float32 has lost some of it, and where it is no number."""
    known = least.isfinite() & (size > 1e-15) & (size < 1e15)
    return torch.where(known, least, -torch.inf)
