"""Towards 0 by a hair: how what rounding or a solver left outside comes back into sets that hold 0."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.numerics import round_down
from convexattack.sets.base import ConvexSet

__all__ = ["shrunk"]


def shrunk(sets: Sequence[ConvexSet], exact: Float[Tensor, "n d"], near: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """`near`, what `exact` is in its dtype, moved towards 0 by the hair by which rounding or a solver left a set.

    Where that does not help, because 0 is outside or on the edge, it stays, and the certificate speaks.
    """
    t = fraction(sets, exact)
    exact, near = exact * t, torch.where(t < 1, (exact * t).to(near.dtype), near)
    for _ in range(3 * (near.dtype != torch.float64)):  # towards 0 is into a ball, but into another set only mostly
        t = fraction(sets, near.to(torch.float64))
        if not bool((t < 1).any()):
            break
        near = torch.where(t < 1, round_down(exact, near.dtype), near)
        exact = exact * t.square()
    return near


def fraction(sets: Sequence[ConvexSet], eta: Float[Tensor, "n d"]) -> Float[Tensor, "n 1"]:
    """The largest t ≤ 1 known with tη in all sets for certain, by the convexity of each row between 0 and η.

    1 for a set that 0 is outside of, and for a row that it is on the edge of.
    """
    least = torch.ones_like(eta[:, :1])
    for item in sets:
        beyond = item.excess(eta) + item.blur(eta)
        if not bool((beyond > 0).any()):
            continue
        room = -item.excess(torch.zeros_like(eta))
        helps = (beyond > 0) & (room > 0) & (room >= 0).all(-1, keepdim=True)
        t = torch.where(helps, room / (room + beyond), 1.0)
        least = torch.minimum(least, t.amin(-1, keepdim=True))
    return least
