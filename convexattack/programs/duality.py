"""Lagrange duality that the programs share: absorbing a residual, and the multipliers of ball ∩ box as a path in one unknown.

For any v_j with Σ_j v_j = −g,  min {L + gᵀη : η ∈ ∩ C_j} ≥ L − Σ_j σ_{C_j}(v_j). Any other choice of v_j becomes valid once one
set takes the residual −g − Σ_j v_j on top.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.norms import rounding_slack
from convexattack.sets import Ball, Box, ConvexSet

__all__ = ["BallAndBox", "absorb", "best_split", "supports"]


def supports(sets: Sequence[ConvexSet], multipliers: Sequence[Tensor], within: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j σ_{C_j}(v_j) and the sum of its errors."""
    total, error = torch.zeros_like(within), torch.zeros_like(within)
    for item, v in zip(sets, multipliers, strict=True):
        value, slip = item.support(v, within)
        total, error = total + value, error + slip
    return total, error


def absorb(sets: Sequence[ConvexSet], multipliers: Sequence[Tensor], target: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Multipliers that sum to `target`, the residual that the first ball (else the first set) had to take, and its rounding error as a cost."""
    v = [item.to(torch.float64) for item in multipliers]
    if not v:
        return v, target, torch.zeros_like(target[:, 0])
    residual = target - torch.stack(v).sum(0)
    j = next((k for k, item in enumerate(sets) if isinstance(item, Ball)), 0)
    moved = torch.where(residual == 0, 0.0, target.abs() + torch.stack(v).abs().sum(0))
    v[j] = v[j] + residual
    slip = (len(v) + 2) * rounding_slack(1) * sets[j].magnitude(moved)
    return v, residual, torch.where(moved.amax(-1) == 0, 0.0, slip)


@dataclass(frozen=True, eq=False)
class BallAndBox:
    """The sets of a program as one ball and one box, where they are no more than that (an ℓ∞ ball beside another ball is a box)."""

    ball: Ball | None
    low: Float[Tensor, "N d"]
    high: Float[Tensor, "N d"]
    boxes: tuple[int, ...]
    bounds: tuple[tuple[Tensor, Tensor], ...]

    @staticmethod
    def of(sets: Sequence[ConvexSet], like: Float[Tensor, "N d"], keep_ball: bool) -> BallAndBox | None:
        """None where a set is neither, or where two balls with p < ∞ meet; `keep_ball` lets a lone ℓ∞ ball be the ball."""
        balls = [j for j, item in enumerate(sets) if isinstance(item, Ball)]
        chosen = next((j for j in balls if sets[j].norm.p < math.inf), balls[0] if balls else None) if keep_ball else None  # type: ignore[attr-defined]
        boxes = tuple(j for j in range(len(sets)) if j != chosen)
        bounds = []
        for j in boxes:
            item = sets[j]
            if isinstance(item, Box):
                bounds.append(item.bounds(like))
            elif isinstance(item, Ball) and item.norm.p == math.inf:
                r = item.radii(like)[:, None].expand(like.shape)
                bounds.append((-r, r))
            else:
                return None
        low = torch.stack([b[0] for b in bounds]).amax(0) if bounds else torch.full_like(like, -torch.inf)
        high = torch.stack([b[1] for b in bounds]).amin(0) if bounds else torch.full_like(like, torch.inf)
        ball = sets[chosen] if chosen is not None else None
        return BallAndBox(ball if isinstance(ball, Ball) else None, low, high, boxes, tuple(bounds))

    def spread(self, sets: Sequence[ConvexSet], v_ball: Tensor, v_box: Tensor) -> tuple[Tensor, ...]:
        """One multiplier for each set: the box's goes, coordinate by coordinate, to the set whose bound is the tight one."""
        parts, left = {}, v_box
        for j, (low, high) in zip(self.boxes, self.bounds, strict=True):
            mine = torch.where(left > 0, high == self.high, low == self.low)
            parts[j] = torch.where(mine, left, 0.0)
            left = torch.where(mine, 0.0, left)
        return tuple(parts.get(j, v_ball) for j in range(len(sets)))


def best_split(
    g: Float[Tensor, "N d"],
    low: Float[Tensor, "N d"],
    high: Float[Tensor, "N d"],
    p: float,
    unit: Float[Tensor, " N"],
    bound: Callable[[Float[Tensor, "N d"]], Float[Tensor, " N"]],
) -> Float[Tensor, "N d"]:
    """The share of −g that the ball's multiplier takes, the box taking the rest, so that `bound(share)` is largest.

    Stationarity of gᵀη + (μ/p)‖η‖_p^p over the box gives share_i = −sign(g_i)·clip(|g_i|, μ φ(l_i), μ φ(h_i)) with φ(x) = sign(x)|x|^{p−1},
    where [l, h] is the box in the direction of descent, in units of `unit`. One unknown, μ, and a bound that is unimodal in it
    (for (GNII) it is concave): golden section on log μ between the breakpoints |g_i| / |φ|. Every μ gives a valid bound, so a
    search that stops early costs tightness and nothing else. For p = ∞, φ is 0 inside the unit and ∞ outside: no search.
    """
    down = torch.where(g > 0, -1.0, 1.0)
    w = g.abs()
    safe = torch.where(unit > 0, unit, 1.0)[:, None]
    least, most = torch.where(g > 0, -high, low) / safe, torch.where(g > 0, -low, high) / safe
    if p == math.inf:
        return down * torch.where(most >= 1, w, 0.0)

    def log_phi(x: Tensor) -> Tensor:
        return torch.where(x == 0, -torch.inf, (p - 1) * x.abs().log()) if p > 1 else torch.where(x == 0, -torch.inf, 0.0)

    log_least, log_most = log_phi(least), log_phi(most)

    def share(log_mu: Tensor) -> Tensor:
        lowest = least.sign() * (log_mu[:, None] + log_least).exp()
        highest = most.sign() * (log_mu[:, None] + log_most).exp()
        return down * torch.minimum(torch.maximum(w, lowest), highest)

    breaks = torch.stack([w.log() - log_least, w.log() - log_most])
    usable = breaks.isfinite()
    a = torch.where(usable, breaks, torch.inf).amin((0, 2)) - 1
    b = torch.where(usable, breaks, -torch.inf).amax((0, 2)) + 1
    a, b = torch.where(a.isfinite(), a, 0.0), torch.where(b.isfinite(), b, 0.0)

    def value(log_mu: Tensor) -> Tensor:
        return bound(share(log_mu)).nan_to_num(-torch.inf, torch.inf, -torch.inf)

    golden = (math.sqrt(5) - 1) / 2
    left, right = b - golden * (b - a), a + golden * (b - a)
    at_left, at_right = value(left), value(right)
    for _ in range(110):
        to_left = at_left >= at_right
        a, b = torch.where(to_left, a, left), torch.where(to_left, right, b)
        probe = torch.where(to_left, b - golden * (b - a), a + golden * (b - a))
        at_probe = value(probe)
        left, right = torch.where(to_left, probe, right), torch.where(to_left, left, probe)
        at_left, at_right = torch.where(to_left, at_probe, at_right), torch.where(to_left, at_left, at_probe)
    best = torch.where(at_left >= at_right, left, right)
    without = torch.full_like(best, -torch.inf)  # the ball takes no part
    return share(torch.where(value(without) >= torch.maximum(at_left, at_right), without, best))
