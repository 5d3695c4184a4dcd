"""Constraints on the total perturbation: a step η from the total e satisfies them where e + η does, η ∈ C − e."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.norms import Lp, round_down, round_inwards, rounding_slack
from convexattack.sets import Ball, Box, ConvexSet, CustomSet
from convexattack.sets import Link as Linked

__all__ = ["Edges", "Shifted", "bind", "take", "within"]

OFFSET = "the total so far"  # no keyword of a user's function can be called that


@dataclass(frozen=True, eq=False)
class Shifted(ConvexSet):
    """C − e = {η : e + η ∈ C}: σ(v) = σ_C(v) − vᵀe, the violation is C's at e + η, the text is C's with e added.

    Two of them are equal where their texts are, whatever the numbers: then CVXPY compiles once for all steps of an attack.

    Args:
        inner: C, for N items.
        total: e, (N, d) in float64; None for 0.
        origin: the set that `inner` was taken from, which owns the text.
    """

    inner: ConvexSet
    total: Float[Tensor, "N d"] | None
    origin: ConvexSet
    rigorous: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rigorous", self.inner.rigorous)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shifted) and other.origin is self.origin

    def __hash__(self) -> int:
        return hash((Shifted, id(self.origin)))

    def check(self, n: int, d: int) -> None:
        self.inner.check(n, d)

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.inner.violation(eta if self.total is None else eta + self.total)

    def support(self, v: Float[Tensor, "N d"], within: Float[Tensor, " N"]) -> tuple[Tensor, Tensor]:
        if self.total is None:
            return self.inner.support(v, within)
        value, error = self.inner.support(v, within + self._far(v))
        terms = v * self.total
        return value - terms.sum(-1), error + terms.abs().sum(-1) * rounding_slack(v.shape[-1] ** 2)

    def radius_inf(self, like: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.inner.radius_inf(like) + self._far(like)

    def magnitude(self, g: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        known = self.inner.magnitude(g)
        return known if self.total is None else known + (g * self.total).abs().sum(-1)

    def parameters(self, n: int, d: int, scale: np.ndarray, limit: np.ndarray) -> dict[str, np.ndarray]:
        if self.total is None:
            return self.inner.parameters(n, d, scale, limit)
        shift = self.total.cpu().numpy() / scale[:, None]
        return {**self.inner.parameters(n, d, scale, limit + np.abs(shift).max(-1)), OFFSET: shift}

    def text(self, u: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        if OFFSET not in parameters:
            return self.inner.text(u, parameters)
        z = cp.Variable(u.shape, name="total")
        return [z == u + parameters[OFFSET], *self.inner.text(z, _without_offset(parameters))]

    def link(self, u: cp.Variable, parameters: Mapping[str, Any]) -> Linked:
        if OFFSET not in parameters:
            return self.inner.link(u, parameters)
        z = cp.Variable(u.shape, name="total")
        row = u + parameters[OFFSET] - z == 0
        return [row, *self.inner.text(z, _without_offset(parameters))], lambda: np.asarray(row.dual_value)

    def _far(self, like: Tensor) -> Float[Tensor, " N"]:
        """‖e‖_∞."""
        nothing = torch.zeros(len(like), dtype=torch.float64, device=like.device)
        return nothing if self.total is None else self.total.abs().amax(-1)


def _without_offset(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name != OFFSET}


def take(item: ConvexSet, index: Int[Tensor, " N"]) -> ConvexSet:
    """The set for N items, from one for B images: item i takes the numbers of image index_i. A set without numbers per image serves all."""
    if isinstance(item, Ball) and isinstance(item.radius, Tensor) and item.radius.ndim:
        return Ball(item.norm, item.radius[index.to(item.radius.device)])
    if isinstance(item, Box):
        return Box(*(_rows(bound, index) for bound in (item.lower, item.upper)))
    if isinstance(item, CustomSet) and item.data:
        return CustomSet(item.build, {name: rows[index.cpu()] for name, rows in item.data.items()})
    return item


def _rows(bound: float | Tensor, index: Tensor) -> float | Tensor:
    return (
        bound.index_select(0, index.to(bound.device))
        if isinstance(bound, Tensor) and bound.ndim == 2 and len(bound) > 1
        else bound
    )


def bind(
    sets: Sequence[ConvexSet], total: Float[Tensor, "B d"] | None, index: Int[Tensor, " N"], whole: bool = False
) -> tuple[ConvexSet, ...]:
    """The sets of a step of N items: item i belongs to image index_i, whose total so far is row index_i of `total` (None: 0).

    `whole` says that the items are the images, each once and in order, so that nothing has to be copied.

    A shifted box is a box, and so is a shifted ℓ∞ ball, so their closed forms stay; any other shifted set is the reference solver's.
    """
    e = total if total is None or whole else total[index]
    bound: list[ConvexSet] = []
    for origin in sets:
        item = origin if whole else take(origin, index)
        if isinstance(item, Ball) and item.norm.p == math.inf:
            edge = item.radii(index)[:, None]
            item = Box(-edge, edge)
        if isinstance(item, Box) and e is not None:
            low, high = item.bounds(e)
            item = Box(low - e, high - e)
        elif not isinstance(item, Box) and (e is not None or (item is not origin and not isinstance(item, Ball))):
            item = Shifted(item, None if e is None else e.to(torch.float64), origin)
        bound.append(item)
    return tuple(bound)


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
