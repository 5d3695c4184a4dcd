"""The total perturbation: a step η from the total e satisfies the sets where e + η does, η ∈ C − e."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.attacks.pieces import Step, bounds
from convexattack.numerics import largest, round_down
from convexattack.programs.normal import Normal
from convexattack.sets import ConvexSet
from convexattack.sets.shrink import shrunk

__all__ = ["Total", "of_rows"]


class Total:
    """The total perturbation e of B images, inside their sets twice: as it is summed, and as the images get it.

    Args:
        x: (B, d) the images.
        sets: what e must satisfy.

    Attributes:
        sum: (B, d) e in float32 at least.
        eta: (B, d) e rounded to the dtype of the images.
    """

    def __init__(self, x: Float[Tensor, "B d"], sets: Sequence[ConvexSet]) -> None:
        self.sum = x.new_zeros((), dtype=torch.promote_types(x.dtype, torch.float32)).expand(x.shape)
        self.eta = x.new_zeros(()).expand(x.shape)
        self.nothing = True  # no step was added so far
        boxes = Normal.of(tuple(sets), x).boxes
        self._others = [item for j, item in enumerate(sets) if j not in boxes]
        self._mixing = [item for item in self._others if not item.symmetric]  # rounding towards 0 may leave these
        self._box = cache(lambda dtype: bounds(sets, x.new_empty((), dtype=dtype).expand(x.shape)))

    def left(self, sets: Sequence[ConvexSet], rows: Int[Tensor, " n"]) -> tuple[ConvexSet, ...]:
        """What e has left of sets of B images for a step of these rows."""
        taken = sets if len(rows) == len(self.sum) else [item.take(rows) for item in sets]
        return tuple(taken if self.nothing else [item.shifted(of_rows(self.sum, rows)) for item in taken])

    def add(self, rows: Int[Tensor, " n"], step: Step) -> Bool[Tensor, " n"]:
        """e + η for these rows, where there is a step; and whether it moved them."""
        base, moved = of_rows(self.sum, rows), step.moved
        same, trusted = self.eta.dtype == self.sum.dtype, self.nothing and step.inside
        reached = step.eta.to(self.sum.dtype) if self.nothing else base + step.eta
        if not trusted:
            reached = self._inside(self._others, base.to(torch.float64) + step.eta, reached, rows)
            moved = moved & (largest(reached - base) > 0)
        eta = reached
        if not same:
            eta = self._inside(self._mixing, reached.to(torch.float64), round_down(reached, self.eta.dtype), rows)
        if not bool(step.usable.all()):
            reached = torch.where(step.usable[:, None], reached, base)
            eta = reached if same else torch.where(step.usable[:, None], eta, of_rows(self.eta, rows))
        self.nothing, whole = False, len(rows) == len(self.sum)
        self.sum = reached if whole else self.sum.index_copy(0, rows, reached)
        self.eta = self.sum if same else eta if whole else self.eta.index_copy(0, rows, eta)
        return moved

    def _inside(
        self, sets: Sequence[ConvexSet], exact: Float[Tensor, "n d"], near: Float[Tensor, "n d"], rows: Tensor
    ) -> Float[Tensor, "n d"]:
        """`near`, what `exact` is in its dtype, moved into these sets and all boxes."""
        if sets:
            near = shrunk([item if len(rows) == len(self.sum) else item.take(rows) for item in sets], exact, near)
        box = self._box(near.dtype)
        if box is None:
            return near
        low, high = (of_rows(edge, rows) for edge in box)
        return torch.minimum(torch.maximum(near, low), high)


def of_rows(whole: Tensor, rows: Int[Tensor, " n"]) -> Tensor:
    """These rows, ascending; without a copy where they are all."""
    return whole if len(rows) == len(whole) else whole.index_select(0, rows)
