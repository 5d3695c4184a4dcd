"""Lagrange duality that the programs share: absorbing a residual, and the multipliers of ball ∩ box as a path in one unknown.

For any v_j with Σ_j v_j = −g,  min {L + gᵀη : η ∈ ∩ C_j} ≥ L − Σ_j σ_{C_j}(v_j). Any other choice of v_j becomes valid once one
set takes the residual −g − Σ_j v_j on top.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp, rounding_slack
from convexattack.sets import Ball, Box, ConvexSet

__all__ = ["BallAndBox", "absorb", "split", "supports"]


def supports(sets: Sequence[ConvexSet], multipliers: Sequence[Tensor], within: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j σ_{C_j}(v_j) and the sum of its errors."""
    total, error = torch.zeros_like(within), torch.zeros_like(within)
    for item, v in zip(sets, multipliers, strict=True):
        value, slip = item.support(v, within)
        total, error = total + value, error + slip
    return total, error


def absorb(
    sets: Sequence[ConvexSet], multipliers: Sequence[Tensor], target: Tensor
) -> tuple[list[Tensor], Tensor | None, Tensor]:
    """Multipliers that sum to `target`, the residual (None for 0) that the first ball, else the first set, takes, and the cost."""
    v = [item.to(torch.float64) for item in multipliers]
    nothing = torch.zeros_like(target[:, 0])
    if not v:
        return v, target, nothing
    residual = target - (v[0] if len(v) == 1 else torch.stack(v).sum(0))
    if not bool(residual.any()):
        return v, None, nothing
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
        chosen = (
            next((j for j in balls if sets[j].norm.p < math.inf), balls[0] if balls else None) if keep_ball else None
        )  # type: ignore[attr-defined]
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


def split(
    g: Float[Tensor, "N d"],
    low: Float[Tensor, "N d"],
    high: Float[Tensor, "N d"],
    p: float,
    unit: Float[Tensor, " N"],
    enough: Callable[[Float[Tensor, "N d"]], Bool[Tensor, " N"]],
) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"], Float[Tensor, "N d"]]:
    """Complementary slackness for a norm and a box: the share of −g that the norm's multiplier takes; the box takes the rest.

    In the direction of descent, a = −sign(g)·η/unit within [l, h], stationarity of −|g|ᵀa + (μ/p)‖a‖_p^p over the box gives
    a_i = clip((|g_i|/μ)^{q−1}, l_i, h_i), and the norm takes clip(|g_i|, μφ(l_i), μφ(h_i)) with φ(x) = sign(x)|x|^{p−1}.
    One unknown: μ falls (by bisection on its logarithm) until `enough(a)`. The bound holds for any μ; its tightness alone depends on that.

    Returns:
        the norm's share of −g, and the last η/unit on either side of `enough`: the longer one, for which it is true (if it ever is), and
        the shorter one.
    """
    down, w = torch.where(g > 0, -1.0, 1.0), g.abs()
    top = w.amax(-1, keepdim=True)
    log_w = (w / torch.where(top > 0, top, 1.0)).log()
    least, most = torch.where(g > 0, -high, low) / unit[:, None], torch.where(g > 0, -low, high) / unit[:, None]
    least = torch.maximum(torch.minimum(torch.zeros_like(w), most), least)
    most = torch.where(w > 0, most, least)
    r = 0.0 if p == math.inf else 1 / (p - 1) if p > 1 else math.nan
    log_e = torch.where(w > 0, r * log_w if r else torch.zeros_like(w), -torch.inf)

    moderate = r <= 4  # then |g|^{q−1} stays in range, and one exponential an item is enough
    e = log_e.exp() if moderate else log_e

    def path(y: Tensor) -> Tensor:  # y = (q − 1)·log(1/μ), and log(1/μ) for p = 1
        if p == 1:
            return torch.minimum(torch.where(log_w > -y[:, None], torch.inf, least), most)
        t = e * y.exp()[:, None] if moderate else (y[:, None] + e).exp()
        return torch.minimum(torch.maximum(t, least), most)

    spread = torch.where(w > 0, -log_w, 0.0).amax(-1)
    below, above = torch.full_like(unit, -100.0), 100.0 + spread * (r if p > 1 else 1.0)
    for _ in range(64):  # 200 / 2⁶⁴ is below the spacing of the floats
        middle = (below + above) / 2
        stop = enough(path(middle))
        below, above = torch.where(stop, below, middle), torch.where(stop, middle, above)
    a = path(above)
    ends = down * a, down * path(below)
    if p == math.inf:
        return down * torch.where(most >= Lp(p)(a)[:, None], w, 0.0), *ends
    log_mu = (1 - p) * above if p > 1 else -above

    def slope(x: Tensor) -> Tensor:
        size = log_mu[:, None] + ((p - 1) * x.abs().log() if p > 1 else torch.zeros_like(x))
        return torch.where((x == 0) | x.isinf(), x, top * x.sign() * size.exp())

    return down * torch.minimum(torch.maximum(w, slope(least)), slope(most)), *ends
