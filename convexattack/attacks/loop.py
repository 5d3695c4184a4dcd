"""The one loop: linearize, solve one program per piece, keep the best piece, step, ask the real model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.attacks.given import as_sets, check_row, resolved
from convexattack.attacks.live import Live, of_batch
from convexattack.attacks.overshoot import beyond
from convexattack.attacks.perturbation import LastSteps, Perturbation
from convexattack.attacks.pieces import Step, best_piece, least_norm, least_value, steepness
from convexattack.attacks.total import Total, of_rows
from convexattack.linearize import Linearization, check_images, check_label
from convexattack.losses import Loss, Model
from convexattack.norms import Lp
from convexattack.programs import GNII, MinNorm, Program
from convexattack.programs.normal import Normal
from convexattack.sets import Ball, ConvexSet, PixelRange
from convexattack.solvers import solve

__all__ = ["Attack"]

Sets = tuple[ConvexSet, ...]


@dataclass(frozen=True, eq=False)
class Attack:
    """One row of the table: what is linearized, which program is solved, how often. `attack(model, x, label=None)`.

    Attributes:
        name: as in the paper's Figure 2.
        loss: (output (B, m), label (B,)) → pieces (B, K), to be decreased.
        norm: ‖·‖_p of the radius, or of what (8) minimizes.
        radius: ε of (GNII), a number or (B,), in the units of the images; None for (8).
        steps: how many convex steps; each of (GNII) has the ball of radius ε/steps.
        until_fooled: stop an image once a piece of its loss is negative at the real model; only images still alive are
            computed.
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
        check_row(self)
        if self.radius is not None:
            object.__setattr__(self, "radius", Ball(self.norm, self.radius).radius)
        object.__setattr__(self, "sets", as_sets(self.sets))

    def at(self, radius: float | Tensor) -> Attack:
        """The same attack with another radius ε; an attack without one is returned as it is."""
        return self if self.radius is None else dataclasses.replace(self, radius=radius)

    def part(self, rows: Int[Tensor, " n"], images: int) -> Attack:
        """The same attack on these rows of a batch: with their radii, their sets, and their share of the loss."""

        def loss(output: Tensor, label: Tensor) -> Tensor:
            here = rows.to(output.device)
            whole = torch.zeros(images, dtype=torch.int64, device=output.device).index_copy(0, here, label)
            return of_batch(self.loss, output, whole, here)

        radius = self.radius
        if isinstance(radius, Tensor) and radius.ndim:
            radius = radius[rows.to(radius.device)]
        sets = tuple(item.take(rows) if hasattr(item, "take") else item for item in self.sets)
        return dataclasses.replace(self, loss=loss, radius=radius, sets=sets)

    @torch.inference_mode(False)
    def __call__(self, model: Model, x: Float[Tensor, "B *S"], label: Int[Tensor, " B"] | None = None) -> Perturbation:
        """Perturb B images.

        A step costs one forward pass and K backward passes (one for piece="active"). One more forward pass follows the
        last step; with `until_fooled` one follows every step, all of them are over the images still alive, and where
        few images fall the next step starts from the pass that told so.

        Args:
            model: (B, *S) → (B, m): any callable, as for `linearize`, whose rules hold.
            x: images of any floating-point dtype, on any device.
            label: the classes k(x), fixed over all steps; by default the clean predictions.

        Raises:
            TypeError, ValueError: as `linearize`; a set or a radius that does not fit the images; a solver that cannot
                take the program. What is wrong with one image is that image's status.
        """
        check_images(x)
        check_label(label, x)
        sets, ball = resolved(self.sets, x), self._ball(len(x), 1)
        live = Live(model, x, label, self.loss, self.piece)
        total, last = Total(live.x, (*ball, *sets)), LastSteps(len(x))
        taken, flagged = torch.zeros_like(live.rows), torch.zeros_like(live.rows, dtype=torch.bool)
        codes = torch.zeros_like(live.rows, dtype=torch.int8)
        for count in range(1, self.steps + 1):
            rows = live.rows
            lin, output = live.look(total.eta, first=count == 1)
            step = self._step(lin, output, live, total, sets)
            moved = total.add(rows, step)
            taken[rows] += moved
            flagged[rows] |= step.relaxed | ~step.usable
            codes[rows] = step.codes
            last.add(rows, step)
            if self.until_fooled and not live.ask(total.eta, moved, lin.pieces, more=count < self.steps):
                break
        if not self.until_fooled:
            live.finish(total.eta)
        eta = total.eta.view_as(x).clone()  # whoever writes to it leaves the certificate alone
        return Perturbation(
            eta, live.margin < 0, live.wrong, live.label, self.norm.length(total.eta), live.margin, live.loss, taken,
            flagged, codes, last.certificate,
        )  # fmt: skip

    def _step(self, lin: Linearization, output: Tensor, live: Live, total: Total, sets: Sets) -> Step:
        """The best piece of each image alive, over what the total has left of the sets."""
        value, here = lin.value.to(torch.float64), total.left(sets, live.rows)
        if self.radius is None:
            e = None if total.nothing else of_rows(total.sum, live.rows)
            scale = Lp(2) if self.norm.p not in (1, 2, math.inf) or Normal.of(here, live.x).boxes else self.norm
            steep = steepness(scale, lin.gradient)
            value = value + beyond(lin, output, of_rows(live.x, live.rows), e, self.overshoot, scale, steep)
            return self._shortest(value, lin.gradient, here, steep if scale is self.norm else None)
        (ball,) = self._ball(len(live.x), self.steps)
        step_ball = ball if len(live.rows) == len(live.x) else ball.take(live.rows)
        solved = self._solving(GNII.owning, value, lin.gradient, (step_ball, *here))
        radius = ball.radii(live.x)[live.rows]
        return best_piece(least_value(value, lin.gradient, self.norm, radius, here), solved)

    def _shortest(
        self, value: Float[Tensor, "n K"], gradient: Float[Tensor, "n K d"], sets: Sets, steep: Tensor | None
    ) -> Step:
        """(8) for the best piece; where no piece has a solution, the best (GNII) over the sets alone."""

        def posed(value: Tensor, gradient: Tensor, sets: Sets) -> MinNorm:
            return MinNorm.owning(value, gradient, self.norm, sets)

        least = least_norm(value, gradient, self.norm, sets, steep)
        step = best_piece(least, self._solving(posed, value, gradient, sets))
        stuck = (~step.usable).nonzero().flatten()
        if len(stuck) == 0:
            return step
        solved = self._solving(GNII.owning, value, gradient, sets)
        unknown = torch.full_like(value[stuck], -torch.inf)
        instead = best_piece(unknown, lambda image, piece, _: solved(stuck[image], piece, False)).instead()
        usable = instead.usable.nonzero().flatten()
        return step.put(stuck[usable], instead, usable)

    def _solving(
        self, make: Callable[..., Program], value: Float[Tensor, "n K"], gradient: Float[Tensor, "n K d"], sets: Sets
    ) -> Callable[[Tensor, Tensor, bool], Step]:
        """(image, piece, whole) → the steps of these programs; `whole` where they are one of each image, in order."""
        pieces = value.shape[1]

        def solved(image: Tensor, piece: Tensor, whole: bool) -> Step:
            here = sets if whole else tuple(item.take(image) for item in sets)
            if whole and pieces == 1:
                program = make(value[:, 0], gradient[:, 0], here)
            else:
                flat = gradient.flatten(0, 1).index_select(0, image * pieces + piece)
                program = make(value[image, piece], flat, here)
            return Step.of(program, solve(program, self.solver), alone=pieces == 1)

        return solved

    def _ball(self, images: int, steps: int) -> tuple[Ball, ...]:
        """The ball of one of so many steps; none for (8)."""
        radius = self.radius
        if isinstance(radius, Tensor) and radius.ndim and radius.shape != (images,):
            raise ValueError(
                f"radius must be a number or have shape (B,) = ({images},), got shape {tuple(radius.shape)}"
            )
        return () if radius is None else (Ball(self.norm, radius / steps),)
