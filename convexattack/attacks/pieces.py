"""Which of K linearized pieces is the best, without solving K programs: weak duality rules most of them out.

Every piece has a lower bound on its optimal value that takes one pass over its gradient. The piece of the lowest bound
is solved first; another is solved only where its bound is below the value found. Without a box the bound is the optimal
value itself, equation (6), so that one program an image is left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import dot64, largest
from convexattack.programs import Program
from convexattack.programs.normal import Normal
from convexattack.sets import ConvexSet
from convexattack.solution import Solution, Status

__all__ = ["Part", "Step", "best_piece", "bounds", "least_norm", "least_value", "steepness"]


class Part(NamedTuple):
    """Of some images: row rows_i of a step is item items_i of a program, and of its solution."""

    rows: Int[Tensor, " n"]
    items: Int[Tensor, " n"]
    program: Program
    solution: Solution

    def where(self, kept: Bool[Tensor, " n"]) -> Part:
        """Those told alone."""
        return self._replace(rows=self.rows[kept], items=self.items[kept])

    def renumbered(self, new: Int[Tensor, " m"]) -> Part:
        """With new_r for row r; −1 leaves it out."""
        part = self._replace(rows=new[self.rows])
        return part.where(part.rows >= 0)


@dataclass(frozen=True, eq=False)
class Step:
    """The convex step chosen for each of n images.

    Attributes:
        eta: (n, d) the step.
        codes: (n,) the claim about it, positions in `Status`.
        objective: (n,) what pieces are compared by; 0 where there is one piece alone, NaN where η is not finite.
        usable: (n,) whether there is a step; `moved`: whether it is not 0.
        relaxed: (n,) whether it is of (GNII) in place of (8).
        inside: whether every η is in its sets to the last bit, as closed forms are.
        parts: where the programs and the multipliers are; a later part replaces an earlier one.
    """

    eta: Float[Tensor, "n d"]
    codes: Int[Tensor, " n"]
    objective: Float[Tensor, " n"]
    usable: Bool[Tensor, " n"]
    moved: Bool[Tensor, " n"]
    relaxed: Bool[Tensor, " n"]
    inside: bool
    parts: tuple[Part, ...]

    @staticmethod
    def of(program: Program, found: Solution, alone: bool = False) -> Step:
        """Of what a solver found; where no other piece is there to be compared, no objective is computed."""
        length, every = largest(found.eta), torch.arange(len(program), device=found.eta.device)
        if alone:
            objective = length.to(torch.float64) * 0
        elif program.norm is not None:
            objective = program.norm.length(found.eta)
        else:
            objective = program.L + dot64(program.gradient, found.eta)
        solved = (found.codes == Status.OPTIMAL.code) | (found.codes == Status.INEXACT.code)
        usable = solved & objective.isfinite()
        moved, inside = usable & (length > 0), found.stats.get("solver") == "closed_form"
        parts = (Part(every, every, program, found),)
        return Step(found.eta, found.codes, objective, usable, moved, torch.zeros_like(usable), inside, parts)

    def put(self, rows: Int[Tensor, " m"], other: Step, index: Int[Tensor, " m"]) -> Step:
        """These images take the steps `index` of another."""
        names = ("eta", "codes", "objective", "usable", "moved", "relaxed")
        mixed = {name: getattr(self, name).index_copy(0, rows, getattr(other, name)[index]) for name in names}
        new = torch.full_like(other.codes, -1, dtype=torch.int64).index_copy(0, index, rows)
        parts = (*self.parts, *(part.renumbered(new) for part in other.parts))
        return dataclasses.replace(self, **mixed, inside=self.inside and other.inside, parts=parts)

    def instead(self) -> Step:
        """As a step in place of (8), which is none where its linear model gains less than a solver's tolerance."""
        gains = torch.zeros_like(self.moved)
        for rows, items, program, found in self.parts:
            fall = -dot64(program.gradient[items], found.eta[items])
            gains[rows] = fall > 1e-6 * program.L[items].abs()
        return dataclasses.replace(self, moved=self.moved & gains, relaxed=self.usable)


def best_piece(
    least: Float[Tensor, "n K"], solve: Callable[[Int[Tensor, " m"], Int[Tensor, " m"], bool], Step]
) -> Step:
    """Of each image the piece of the smallest objective: the lowest L + gᵀη for (GNII), the shortest η for (8).

    Args:
        least: a lower bound on each objective, −∞ where none is known.
        solve: (image, piece, whole) → the steps of these m programs; `whole`: they are one of each image, in order.
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
        step = step.put(image[won], others, won)
    return step


def least_value(
    value: Float[Tensor, "n K"],
    gradient: Float[Tensor, "n K d"],
    norm: Lp,
    radius: Float[Tensor, " n"],
    sets: Sequence[ConvexSet],
) -> Float[Tensor, "n K"]:
    """A lower bound on (GNII) over ‖η‖_p ≤ ε and the boxes among `sets`: L − ε‖g‖_q over what no box blocks.

    For p = ∞ it is L − Σ|g_i|c_i, c_i the room that ball and boxes leave along −g_i: the optimum, but for rounding.
    −∞ where there is one piece alone.
    """
    if value.shape[1] == 1:
        return torch.full_like(value, -torch.inf)
    boxes = bounds(sets, gradient[:, 0])
    if boxes is None or norm.p < math.inf:
        reach = radius[:, None] * steepness(norm, gradient, boxes)
    else:
        g = _wide(gradient)
        down, up = (
            torch.minimum(room, radius[:, None]).clamp_min(0).to(g).expand_as(g[:, 0])[:, :, None]
            for room in (-boxes[0], boxes[1])
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
    if value.shape[1] == 1:
        return torch.full_like(value, -torch.inf)
    steep = steepness(norm, gradient, bounds(sets, gradient[:, 0])) if steep is None else steep
    return _rounded(value.clamp_min(0) / steep * (1 - _slack(gradient)), steep)


def steepness(
    norm: Lp, gradient: Float[Tensor, "n K d"], boxes: tuple[Tensor, Tensor] | None = None
) -> Float[Tensor, "n K"]:
    """‖g‖_q of each piece, as exact as the gradients, over those coordinates alone that the boxes let go downhill."""
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


def bounds(sets: Sequence[ConvexSet], like: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor] | None:
    """All boxes as one, (n, d) or (n, 1), as far as η in the dtype of `like` can go; None where there are none."""
    normal = Normal.of(tuple(sets), like)
    return normal.ends if normal.boxes else None


def _wide(gradient: Tensor) -> Tensor:
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def _slack(gradient: Tensor) -> float:
    """More than the relative error of a sum of d terms of one sign, and of a norm, in the dtype of `_wide`."""
    return (gradient.shape[-1] + 8) * torch.finfo(torch.promote_types(gradient.dtype, torch.float32)).eps


def _rounded(least: Float[Tensor, "n K"], size: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
    """−∞ where it is no number, or where what it was computed from leaves what float32 holds exactly enough."""
    known = least.isfinite() & (size > 1e-15) & (size < 1e15)
    return torch.where(known, least, -torch.inf)
