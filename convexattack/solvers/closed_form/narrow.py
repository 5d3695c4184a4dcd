"""The stops of `path` in float32, for boxes around 0 and p = 2 or ∞: the steps of an attack, without copies in float64.

What float32 loses is looked at afterwards, by sums in float64. Where an inequality below fails the item is solved in
float64.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.numerics import round_up, sum64
from convexattack.solvers.closed_form.path import Path

__all__ = ["lowest", "shortest"]

HALF = 2.0**-24  # half a unit in the last place of float32: what rounding one product costs at most
SHORT = (
    1 - 2.99 * HALF,
    1 - 2 * HALF,
    1 - 1.01 * HALF,
)  # ‖η‖² ÷ ε²: optimal to 1.5 units; aimed at; inside, as its terms are rounded
FAR = (1 + 1.01 * HALF, 1 + 1.5 * HALF)  # −gᵀη ÷ L: enough, as its terms are rounded; aimed at
EXCESS = 4 * HALF  # what −gᵀη, and bounds that were rounded inwards, may have in excess, ÷ Σ share·a, which is ‖η‖/λ
RANGE = (1e-15, 1e15)  # of κ, and of the square root of ε² or L: squares stay in the range of float32


def _within(x: Tensor) -> Bool[Tensor, " n"]:
    return (x > RANGE[0]) & (x < RANGE[1])


def _path(g: Float[Tensor, "n d"], low: Tensor, high: Tensor, p: float) -> Path:
    down = g.sign().neg_()
    return Path(g.abs(), torch.maximum(down * low, down.mul_(high)), None, p)


def lowest(g: Float[Tensor, "n d"], radius: Float[Tensor, " n"], low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """(GNII), p = 2: η, log μ in units of the largest |g_i| and of ε, 0, and which items hold."""
    square, path = radius.square(), _path(g, low, high, 2.0)
    kappa, _ = path.climbed(path.most.square(), square * SHORT[1], 2.0)
    eta = _scaled(g, kappa, low, high)
    length = sum64(eta * eta)
    good = (length >= square * SHORT[0]) & (length <= square * SHORT[2]) & _within(kappa) & _within(radius)
    return eta, (radius / (kappa * path.w.amax(-1))).log(), torch.zeros_like(radius), good


def shortest(
    g: Float[Tensor, "n d"], L: Float[Tensor, " n"], low: Tensor, high: Tensor, p: float
) -> tuple[Tensor, ...]:
    """(8), p = 2 or ∞: η, log μ (p = ∞: the length) in units of max |g_i| and of L, the claim, no cost, what holds."""
    path = _path(g, low, high, p)
    kappa, fixed = path.climbed(path.falls, L * FAR[1], 1.0)
    top = path.w.amax(-1)
    if p == 2:
        eta, mark = _scaled(g, kappa, low, high), (L / (kappa * top.square())).log()
        worth = sum64(eta * eta) / kappa
    else:
        eta = torch.minimum(torch.maximum(g.sign().mul_(-round_up(kappa, g.dtype)[:, None]), low), high)
        mark, worth = kappa * top / L, L - fixed
    fall = sum64(g * eta).neg_()
    good = (fall >= L * FAR[0]) & (fall - L + 2 * HALF * fixed <= EXCESS * worth)
    claim, costly = torch.zeros_like(fixed, dtype=torch.int64), torch.zeros_like(good)
    return eta, mark, claim, costly, good & _within(kappa) & _within(L) & (fixed < math.inf)


def _scaled(g: Tensor, kappa: Float[Tensor, " n"], low: Tensor, high: Tensor) -> Float[Tensor, "n d"]:
    """−κg within its bounds, κ being more than a float32."""
    head = kappa.to(g.dtype)
    rest = (kappa - head).to(g.dtype)
    eta = torch.addcmul(g * -rest[:, None], g, -head[:, None])
    return torch.minimum(torch.maximum(eta, low), high)
