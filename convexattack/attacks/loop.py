"""The one loop: linearize, solve one program per piece, keep the best piece, step, ask the real model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.attacks.pieces import LastSteps, Step, best_piece, least_norm, least_value, steepness
from convexattack.attacks.total import Edges, bind, within
from convexattack.certificates import Certificate
from convexattack.judged import certify
from convexattack.linearize import (
    Linearization,
    backward_pass,
    check_images,
    check_label,
    evaluating,
    forward_pass,
    linearize,
)
from convexattack.losses import Loss, Model
from convexattack.norms import Lp
from convexattack.numerics import largest, round_down
from convexattack.programs import GNII, MinNorm, Program
from convexattack.sets import Ball, Box, ConvexSet, PixelRange
from convexattack.solution import Solution
from convexattack.solvers import solve

__all__ = ["Attack", "Perturbation", "evaluate", "lowest_margin"]

Pass = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # images as a leaf, their output with its graph, which rows they are, who of them is alive


@dataclass(frozen=True, eq=False)
class Perturbation:
    """What an attack did to B images. The certificate speaks of the last convex step, `fooled` of the network.

    Attributes:
        eta: (B, *S) the total perturbation η, in the dtype and on the device of the images.
        fooled: (B,) whether the margin (3) of the real model is negative at x + η. True as well for an image that was misclassified to
            begin with, and False throughout for a model of one score.
        wrong: (B,) whether the image was misclassified to begin with: its margin at x is not ≥ 0. Such images belong in no ratio.
        label: (B,) the class k(x) attacked: the given one, or the clean prediction.
        size: (B,) ‖η‖_p in the attack's norm, float64, in the units of the images.
        margin: (B,) min_l f_k − f_l at x + η, equation (3).
        loss: (B,) the smallest piece of the attack's own loss at x + η: negative where a targeted attack has won.
        steps: (B,) how many convex steps moved the image.
        flagged: (B,) where some step was not the program as stated: (8) had no solution within the sets, so that the (GNII) minimizer was
            taken; or the step had no solution at all (see `status`), and the image stays where it was.
        codes: (B,) positions in `Status`: the claim about the last step. None where no program was solved.
        judge: computes `certificate`, once and only if someone asks.
    """

    eta: Float[Tensor, "B *S"]
    fooled: Bool[Tensor, " B"]
    wrong: Bool[Tensor, " B"]
    label: Int[Tensor, " B"]
    size: Float[Tensor, " B"]
    margin: Float[Tensor, " B"]
    loss: Float[Tensor, " B"]
    steps: Int[Tensor, " B"]
    flagged: Bool[Tensor, " B"]
    codes: Int[Tensor, " B"] | None = None
    judge: Callable[[], Certificate] | None = None

    @cached_property
    def certificate(self) -> Certificate | None:
        """The certificate of each image's last convex step, judged in float64 from its program and multipliers.

        It is of (8), or of (GNII), also where that replaced (8); there a `dual` above 0 proves that (8) has no solution. None where no
        program was solved.
        """
        return None if self.judge is None else self.judge()

    @property
    def status(self) -> np.ndarray:
        """(B,) array of `Status` members: the claim about the last step; None where no program was solved."""
        return np.full(len(self), None) if self.codes is None else Solution(self.eta, self.codes, ()).status

    def __len__(self) -> int:
        return len(self.eta)

    def __repr__(self) -> str:
        right = ~self.wrong
        said = [f"fooled {int((self.fooled & right).sum())} of {int(right.sum())}"]
        said += [f"{count} {what}" for what in ("wrong", "flagged") if (count := int(getattr(self, what).sum()))]
        return f"Perturbation({', '.join(said)}; {self.certificate})"


@dataclass(frozen=True, eq=False)
class Attack:
    """One row of the table: what is linearized, which program is solved, how often. Called as `attack(model, x, label=None)`.

    Attributes:
        name: as in the paper's Figure 2.
        loss: (output (B, m), label (B,)) → pieces (B, K), to be decreased.
        norm: ‖·‖_p of the radius, or of what (8) minimizes.
        radius: ε of (GNII), a number or (B,), in the units of the images; None for (8).
        steps: how many convex steps; each of (GNII) has the ball of radius ε/steps.
        until_fooled: stop an image once a piece of its loss is negative at the real model; only images still alive are computed.
        overshoot: the relative decrease of L that (8) is asked for beyond reaching 0.
        piece: "best" solves one program per piece and keeps the best; "active" linearizes the smallest piece alone.
        sets: what the total perturbation must satisfy at every step: convex sets for B images, or a `PixelRange`.
        solver: as for `solve`.
    """

    name: str
    loss: Loss
    norm: Lp
    radius: float | Tensor | None
    steps: int = 1
    until_fooled: bool = False
    overshoot: float = 0.0
    piece: str = "best"
    sets: Sequence[ConvexSet | PixelRange] = ()
    solver: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise TypeError(
                f"loss must be a function (output, label) -> pieces (B, K), got {self.loss!r}; use ca.margin or ca.targeted(t)"
            )
        if not isinstance(self.norm, Lp):
            raise TypeError(f"norm must be a ca.Lp, got {self.norm!r}; write ca.Lp(2)")
        if self.radius is not None:
            object.__setattr__(self, "radius", Ball(self.norm, self.radius).radius)
        if isinstance(self.steps, bool) or not isinstance(self.steps, int):
            raise TypeError(f"steps must be an int, got {self.steps!r}; one step is the attack as the paper states it")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}; for no perturbation give radius 0")
        if isinstance(self.overshoot, bool) or not isinstance(self.overshoot, int | float):
            raise TypeError(f"overshoot must be a number, got {self.overshoot!r}; 0.02 goes 2% beyond the boundary")
        if not 0 <= self.overshoot < math.inf:
            raise ValueError(
                f"overshoot must be a finite number >= 0, got {self.overshoot}; 0.02 goes 2% beyond the boundary"
            )
        if self.piece not in ("best", "active"):
            raise ValueError(
                f"piece must be 'best' or 'active', got {self.piece!r}; 'best' solves one program per piece"
            )
        if not isinstance(self.sets, ConvexSet | PixelRange | Iterable):
            raise TypeError(f"sets must be a tuple of convex sets, got {self.sets!r}; () is no constraint")
        sets = (self.sets,) if isinstance(self.sets, ConvexSet | PixelRange) else tuple(self.sets)
        for j, item in enumerate(sets):
            if isinstance(item, type) or not (isinstance(item, ConvexSet) or hasattr(item, "at")):
                raise TypeError(
                    f"sets[{j}] must be a convex set such as ca.Box or ca.PixelRange, got {item!r}; put sets into a tuple"
                )
        object.__setattr__(self, "sets", sets)

    def at(self, radius: float | Tensor) -> Attack:
        """The same attack with another radius ε; an attack without one is returned as it is."""
        return self if self.radius is None else dataclasses.replace(self, radius=radius)

    def part(self, rows: Int[Tensor, " n"], images: int) -> Attack:
        """The same attack on these rows of a batch of `images` images: with their radii, their sets, and their share of the loss."""

        def loss(output: Tensor, label: Tensor) -> Tensor:
            whole = torch.zeros(images, dtype=torch.int64, device=output.device)
            here = rows.to(output.device)
            return self._pieces(output, whole.index_copy(0, here, label), here)

        radius = (
            self.radius[rows.to(self.radius.device)]
            if isinstance(self.radius, Tensor) and self.radius.ndim
            else self.radius
        )
        sets = tuple(item.take(rows) if isinstance(item, ConvexSet) else item for item in self.sets)
        return dataclasses.replace(self, loss=loss, radius=radius, sets=sets)

    @torch.inference_mode(False)
    def __call__(self, model: Model, x: Float[Tensor, "B *S"], label: Int[Tensor, " B"] | None = None) -> Perturbation:
        """Perturb B images.

        A step costs one forward pass and K backward passes (one for piece="active"). One more forward pass follows the last step; with
        `until_fooled` one follows every step, all of them are over the images still alive, and where few images fall the next step starts
        from the pass that told so.

        Args:
            model: (B, *S) → (B, m): any callable, as for `linearize`, whose rules hold.
            x: images of any floating-point dtype, on any device.
            label: the classes k(x), fixed over all steps; by default the clean predictions.

        Raises:
            TypeError, ValueError: as `linearize`; a set or a radius that does not fit the images; a solver that cannot take the program.
                What is wrong with one image is that image's status.
        """
        check_images(x)
        check_label(label, x)
        clean = x.detach().flatten(1)
        sets = resolve(self.sets, x)
        rows, wide = torch.arange(len(x), device=x.device), torch.promote_types(x.dtype, torch.float32)
        outer = Edges.of(sets, clean, wide)
        edges = outer if x.dtype == wide else Edges.of(sets, clean, x.dtype)
        ball = None if self.radius is None else Ball(self.norm, self.radius)
        if ball is not None and isinstance(ball.radius, Tensor) and ball.radius.ndim and ball.radius.shape != (len(x),):
            raise ValueError(
                f"radius must be a number or have shape (B,) = ({len(x)},), got shape {tuple(ball.radius.shape)}"
            )
        balls = [item for item in (ball, *sets) if isinstance(item, Ball)]
        total, eta = (torch.zeros((), dtype=dtype, device=x.device).expand(clean.shape) for dtype in (wide, x.dtype))
        taken, flagged = torch.zeros_like(rows), torch.zeros_like(rows, dtype=torch.bool)
        codes, kept = torch.zeros_like(rows, dtype=torch.int8), LastSteps(len(x))
        longest = torch.linalg.vector_norm(clean, self._scale(sets).p, -1, dtype=wide) if self.radius is None else None
        own = False  # whether these tensors are nobody else's, so that they may be written to
        passed: Pass | None = None
        steady = (
            self.until_fooled
        )  # few images fell at the last step: then the pass that asks the model keeps its graph
        for step in range(self.steps):
            base = _rows(total, rows)
            point = clean if step == 0 else _rows(clean, rows) + _rows(eta, rows)
            lin, output = self._look(model, point.view(-1, *x.shape[1:]), label, rows, passed)
            passed = None
            label = lin.label if label is None or step == 0 else label
            if step == 0:
                start = at_end = lowest_margin(output, label)
                lowest = lin.value.amin(1)
            found = self._solve(lin, output, clean, longest, sets, None if step == 0 else total, rows)
            moved = found.moved()
            reached = found.eta.to(wide) if step == 0 else base + found.eta
            if step > 0 or found.solver != "closed_form":  # else it is inside to the last bit
                reached = outer.clip(within(balls, base, found.eta, clean, rows) if balls else reached, rows)
                moved = moved & (largest(reached - base) > 0)
            there = reached if x.dtype == wide else edges.clip(round_down(reached, x.dtype), rows)
            if not bool(found.usable.all()):
                reached = torch.where(found.usable[:, None], reached, base)
                there = reached if x.dtype == wide else torch.where(found.usable[:, None], there, eta[rows])
            total = _put(total, rows, reached, own)
            eta = total if x.dtype == wide else _put(eta, rows, there, own)
            taken[rows] += moved
            flagged[rows] |= found.relaxed | ~found.usable
            codes = _put(codes, rows, found.codes, own)
            own = len(rows) < len(x)
            kept.add(rows, found, base)
            if self.until_fooled:
                point = (_rows(clean, rows) + there).view(-1, *x.shape[1:])
                traced = trace(model, point) if steady and step + 1 < self.steps else None
                output = evaluate(model, point, own=True) if traced is None else traced[1].detach().clone()
                least = self._pieces(output, label, rows).amin(1).to(lowest)
                lowest, at_end = (
                    lowest.index_copy(0, rows, least),
                    at_end.index_copy(0, rows, lowest_margin(output, label[rows])),
                )
                alive = (moved & ~(least < 0)).nonzero().flatten()
                steady = 2 * lin.pieces * (len(rows) - len(alive)) <= len(alive)
                passed = (*traced, rows, alive) if steady and traced is not None else None
                del traced  # its graph is as large as that of the next step
                rows = rows[alive]
                if len(rows) == 0:
                    break
        assert label is not None  # at least one step was taken
        if not self.until_fooled:
            output = evaluate(model, (clean + eta).view_as(x), own=True)
            lowest, at_end = self.loss(output, label).amin(1), lowest_margin(output, label)
        return Perturbation(
            eta=eta.view_as(x).clone(),  # whoever writes to it leaves the certificate alone
            fooled=at_end < 0,
            wrong=~(start >= 0) if output.shape[1] > 1 else torch.zeros_like(flagged),
            label=label,
            size=self.norm.length(eta),
            margin=at_end,
            loss=lowest,
            steps=taken,
            flagged=flagged,
            codes=codes,
            judge=partial(self._certify, kept, sets),
        )

    def _look(
        self, model: Model, point: Tensor, label: Tensor | None, rows: Tensor, passed: Pass | None
    ) -> tuple[Linearization, Tensor]:
        """The linearization of these rows, and the output that it started from; it may start from a pass that has been made."""
        seen: list[Tensor] = []

        def loss(rows: Tensor, output: Tensor, classes: Tensor) -> Tensor:
            seen.append(output.detach())
            pieces = self._pieces(output, classes if label is None or len(rows) == len(label) else label, rows)
            if self.piece == "best" or not isinstance(pieces, Tensor) or pieces.ndim != 2:
                return pieces
            return pieces.gather(1, pieces.detach().argmin(1, keepdim=True))

        if passed is not None and label is not None:
            leaf, output, before, alive = passed
            try:
                with torch.enable_grad(), evaluating(model, len(before)):
                    return backward_pass(leaf, output, _rows(label, before), partial(loss, before), alive), seen[0][
                        alive
                    ]
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # the model has changed in place what its graph needs
                seen.clear()
        return linearize(model, point, label if label is None else _rows(label, rows), partial(loss, rows)), seen[0]

    def _pieces(self, output: Tensor, label: Tensor, rows: Tensor) -> Tensor:
        """The loss of these rows alone; it is shown a whole batch, for it may hold one number (a target class) per image."""
        if len(output) == len(label):
            return self.loss(output, label)
        whole = torch.zeros(len(label), output.shape[1], dtype=output.dtype, device=output.device)
        return self.loss(whole.index_copy(0, rows, output), label).index_select(0, rows)

    def _solve(
        self,
        lin: Linearization,
        output: Tensor,
        clean: Tensor,
        longest: Tensor | None,
        sets: Sequence[ConvexSet],
        total: Tensor | None,
        rows: Tensor,
    ) -> Step:
        """The best piece of each image, by as few programs as that takes."""
        value, gradient, whole = lin.value.to(torch.float64), lin.gradient, len(rows) == len(clean)
        here = bind(sets, total, rows, whole)

        def posed(image: Tensor, piece: Tensor, each: bool, ball: bool = False, small: bool = False) -> Step:
            bound = here if each else bind(sets, total, rows[image])
            if each and lin.pieces == 1:
                data = value[:, 0], gradient[:, 0]
            else:
                data = value[image, piece], gradient.flatten(0, 1).index_select(0, image * lin.pieces + piece)
            if small:
                program: Program = MinNorm(*data, self.norm, bound)
            else:
                balls = (self._ball if each and whole else self._ball.take(rows[image]),) if ball else ()
                program = GNII(*data, (*balls, *bound))
            return Step.of(program, solve(program, self.solver), alone=lin.pieces == 1)

        nothing = torch.full_like(value, -torch.inf)
        if self.radius is not None:
            radius = self._ball.radii(clean)[rows]
            least = nothing if lin.pieces == 1 else least_value(value, gradient, self.norm, radius, here)
            return best_piece(least, partial(posed, ball=True))
        assert longest is not None
        scale = self._scale(here)
        steep = steepness(scale, gradient)
        value = value + self._beyond(lin, output, clean, longest, total, rows, scale, steep)
        least = (
            nothing
            if lin.pieces == 1
            else least_norm(value, gradient, self.norm, here, steep if scale is self.norm else None)
        )
        step = best_piece(least, partial(posed, small=True))
        stuck = (~step.usable).nonzero().flatten()
        if len(stuck) == 0:
            return step
        instead = best_piece(nothing[stuck], lambda image, piece, _: posed(stuck[image], piece, False))
        usable = instead.usable.nonzero().flatten()
        instead = dataclasses.replace(instead, relaxed=instead.usable)
        return step.updated(stuck[usable], instead.at(usable))

    @property
    def _ball(self) -> Ball:
        """The ball of one step, for B images."""
        assert self.radius is not None
        return Ball(self.norm, self.radius / self.steps)

    def _scale(self, sets: Sequence[ConvexSet]) -> Lp:
        """The norm in which rounding is bounded: the attack's own where its dual is computed in any case, and is cheap."""
        boxes = any(isinstance(item, Box) or (isinstance(item, Ball) and item.norm.p == math.inf) for item in sets)
        return Lp(2) if boxes or self.norm.p not in (1, 2, math.inf) else self.norm

    def _beyond(
        self,
        lin: Linearization,
        output: Tensor,
        clean: Tensor,
        longest: Tensor,
        total: Tensor | None,
        rows: Tensor,
        scale: Lp,
        steep: Tensor,
    ) -> Float[Tensor, "n K"]:
        """How far below 0 (8) is to push each piece with L ≥ 0: overshoot·L, and no less than rounding can hide.

        That is 2u(‖f‖_∞ + Σ|g_i|(|x_i| + |e_i|)) with the unit u of the images' dtype: an error of half a unit in the last place in
        each pixel of x + η and in each output is below it.
        """
        value, unit = lin.value.to(torch.float64), 2 * torch.finfo(clean.dtype).eps
        beyond = torch.where(value < 0, 0.0, self.overshoot * value)
        score = output.to(torch.float64).abs().amax(1, keepdim=True)
        length = _rows(longest, rows).to(torch.float64)
        if total is not None:
            length = length + torch.linalg.vector_norm(_rows(total, rows), scale.p, -1).to(torch.float64)
        most = (
            2 * unit * (score + steep * length[:, None])
        )  # by Hölder; sums in float32 may lose a percent of many entries
        near = (~(beyond >= most) & ~(value < 0)).any(1).nonzero().flatten()
        if len(near):
            slope = _rows(lin.gradient, near).to(torch.promote_types(clean.dtype, torch.float32)).abs()
            far = _rows(rows, near)
            size = clean.index_select(0, far).to(torch.float64).abs()
            if total is not None:
                size = size + total.index_select(0, far).abs()
            hidden = unit * (score[near] + (slope @ size.to(slope)[:, :, None])[:, :, 0])
            hidden = torch.where(value[near] < 0, 0.0, hidden * (slope.amax(-1) > 0))  # a constant L goes nowhere
            beyond = beyond.index_copy(0, near, torch.maximum(beyond[near], hidden))
        return beyond

    def _certify(self, kept: LastSteps, sets: Sequence[ConvexSet]) -> Certificate:
        """The last step of every image, judged from its own program."""
        last, base = kept.merged()
        lam, multipliers = last.proof()
        index = torch.arange(len(base), device=base.device)
        bound = bind(sets, base if self.steps > 1 else None, index, True)
        if self.radius is not None:
            program: Program = GNII(last.value, last.gradient, (self._ball, *bound))
            return certify(program, Solution(last.eta, last.codes, multipliers))
        smallest = MinNorm(last.value, last.gradient, self.norm, bound)
        judged = certify(smallest, Solution(last.eta, last.codes, (lam, *multipliers)))
        if not bool(last.relaxed.any()):
            return judged
        instead = certify(GNII(last.value, last.gradient, bound), Solution(last.eta, last.codes, multipliers))
        return _merged(last.relaxed, instead, judged)


def _rows(whole: Tensor, rows: Int[Tensor, " n"]) -> Tensor:
    """These rows, ascending; without a copy where they are all."""
    return whole if len(rows) == len(whole) else whole.index_select(0, rows)


def _put(whole: Tensor, rows: Int[Tensor, " n"], part: Tensor, own: bool) -> Tensor:
    """The whole with these rows replaced, in place where told."""
    if len(rows) == len(whole):
        return part
    return whole.index_copy_(0, rows, part) if own else whole.index_copy(0, rows, part)


def resolve(sets: Sequence[ConvexSet | PixelRange], x: Tensor) -> tuple[ConvexSet, ...]:
    """The sets at these images, each checked against them."""
    known = tuple(item if isinstance(item, ConvexSet) else item.at(x) for item in sets)
    for item in known:
        item.check(len(x), x[0].numel())
    return known


def evaluate(model: Model, x: Float[Tensor, "B *S"], flat: bool = False, own: bool = False) -> Float[Tensor, "B m"]:
    """f(x) as `linearize` sees it: eval mode, no graph, and the same errors. `own` says that nobody else looks at x."""
    with torch.inference_mode(False), torch.no_grad(), evaluating(model, len(x)) as function:
        return forward_pass(function, x, flat, own)[1]


def lowest_margin(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """L of equation (3), for classes that are known to be some; NaN for a model of one score, which has no margin."""
    if output.shape[1] == 1:
        return torch.full_like(output[:, 0], torch.nan)
    classes = label.to(output.device)[:, None]
    return output.gather(1, classes)[:, 0] - output.scatter(1, classes, -torch.inf).amax(1)


def trace(model: Model, x: Float[Tensor, "B *S"]) -> tuple[Float[Tensor, "B *S"], Float[Tensor, "B m"]]:
    """x as a leaf, and f(x) with the graph that leads there; for the rest as `evaluate`."""
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model, len(x)) as function:
        return forward_pass(function, x)


def _merged(where: Tensor, one: Certificate, other: Certificate) -> Certificate:
    """The rows of `one` where told, those of `other` elsewhere."""
    names = ("primal", "dual", "gap", "violation", "residual", "claimed", "proved")
    parts: dict[str, Any] = {name: torch.where(where, getattr(one, name), getattr(other, name)) for name in names}
    return dataclasses.replace(other, **parts, tight=one.tight and other.tight)
