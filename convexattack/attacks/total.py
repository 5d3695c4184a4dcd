"""Constraints on the total perturbation: a step η from the total e satisfies them where e + η does, η ∈ C − e."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import round_down, round_inwards, rounding_slack
from convexattack.sets import Ball, Box, ConvexSet

__all__ = ["Edges", "bind", "within"]

def bind(
    sets: Sequence[ConvexSet], total: Float[Tensor, "B d"] | None, index: Int[Tensor, " N"], whole: bool = False
) -> tuple[ConvexSet, ...]:
    """The sets of a step of N items: item i belongs to image index_i, whose total so far is row index_i of `total` (None: 0).

    `whole` says that the items are the images, each once and in order, so that nothing has to be copied.
    """
    e = total if total is None or whole else total[index]
    taken = [item if whole else item.take(index) for item in sets]
    return tuple(item if e is None else item.shifted(e) for item in taken)


@dataclass(frozen=True, eq=False)
class Edges:
    """All boxes (and ℓ∞ balls) among the sets of B images, as one: (lower, upper), each (B, d), in a dtype and rounded inwards."""

    bounds: tuple[Float[Tensor, "B d"], Float[Tensor, "B d"]] | None  # None where there are none

    @staticmethod
    def of(sets: Sequence[ConvexSet], like: Float[Tensor, "B d"], dtype: torch.dtype) -> Edges:
        pairs = []
        for item in sets:
            if isinstance(item, Box):
                pairs.append(item.bounds(like))
            elif isinstance(item, Ball) and item.norm.p == math.inf:
                edge = item.radii(like)[:, None].expand(like.shape)
                pairs.append((-edge, edge))
        if not pairs:
            return Edges(None)
        box = next((item for item in sets if isinstance(item, Box)), None)
        if box is not None and len(pairs) == 1 and dtype == like.dtype:
            return Edges(box.inwards(like)[:2])
        low, high = (
            reduce(torch.maximum, [pair[0] for pair in pairs]),
            reduce(torch.minimum, [pair[1] for pair in pairs]),
        )
        return Edges(round_inwards(low, high, dtype))

    def clip(self, total: Float[Tensor, "n d"], rows: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The totals of these images, in this dtype: what rounding has moved outside comes back."""
        if self.bounds is None:
            return total
        low, high = (edge if len(rows) == len(edge) else edge.index_select(0, rows) for edge in self.bounds)
        return torch.minimum(torch.maximum(total, low), high)


def within(
    balls: Sequence[Ball],
    base: Float[Tensor, "n d"],
    step: Float[Tensor, "n d"],
    whole: Float[Tensor, "B d"],
    rows: Int[Tensor, " n"],
) -> Float[Tensor, "n d"]:
    """base + step in the dtype of base, shrunk into the balls of these rows: rounded to nearest where that is inside, else towards zero."""
    exact = base.to(torch.float64) + step
    limits = [(item.norm, item.radii(whole)[rows]) for item in balls]
    for norm, radius in limits:
        exact = shrink(exact, norm, radius)
    near = exact.to(base.dtype)
    if base.dtype == torch.float64:
        return near
    slack = 1 - rounding_slack(near.shape[-1] ** 2)
    outside = torch.stack([norm.length(near) > radius * slack for norm, radius in limits]).any(0)
    return torch.where(outside[:, None], round_down(exact, base.dtype), near) if bool(outside.any()) else near


def shrink(total: Float[Tensor, "n d"], norm: Lp, radius: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """‖e‖_p ≤ ε in exact arithmetic, for a total whose rounding (or whose solver) may have carried it just outside."""
    if norm.p == math.inf:
        return torch.minimum(torch.maximum(total, -radius[:, None]), radius[:, None])
    slack, length = rounding_slack(total.shape[-1]), norm(total)
    factor = torch.where(length > radius * (1 - 2 * slack), radius * (1 - 3 * slack) / length, 1.0)
    return total * torch.where(length > 0, factor, 1.0)[:, None]
