"""How far below 0 a step of (8) aims: what is asked for, and no less than rounding can hide."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.linearize import Linearization
from convexattack.norms import Lp

__all__ = ["beyond"]


def beyond(
    lin: Linearization,
    output: Float[Tensor, "n m"],
    x: Float[Tensor, "n d"],
    total: Float[Tensor, "n d"] | None,
    overshoot: float,
    scale: Lp,
    steep: Float[Tensor, "n K"],
) -> Float[Tensor, "n K"]:
    """How far below 0 (8) is to push each piece with L ≥ 0: overshoot·L, and no less than rounding can hide.

    That is 2u(‖f‖_∞ + Σ|g_i|(|x_i| + |e_i|)) with the unit u of the images' dtype: an error of half a unit in the last
    place in each pixel of x + e and in each output is below it. By Hölder the sum is at most ‖g‖_q(‖x‖_p + ‖e‖_p), p of
    `scale` and ‖g‖_q = `steep`; it is summed itself only where that does not suffice.
    """
    value, unit = lin.value.to(torch.float64), 2 * torch.finfo(x.dtype).eps
    wide = torch.promote_types(x.dtype, torch.float32)
    asked = torch.where(value < 0, 0.0, overshoot * value)
    score = output.to(torch.float64).abs().amax(1, keepdim=True)
    length = torch.linalg.vector_norm(x, scale.p, -1, dtype=wide).to(torch.float64)
    if total is not None:
        length = length + torch.linalg.vector_norm(total, scale.p, -1).to(torch.float64)
    most = 2 * unit * (score + steep * length[:, None])  # twice, for sums in float32 lose a percent of many entries
    near = (~(asked >= most) & ~(value < 0)).any(1).nonzero().flatten()
    if len(near) == 0:
        return asked
    slope, size = lin.gradient[near].to(wide).abs(), x[near].to(torch.float64).abs()
    if total is not None:
        size = size + total[near].abs()
    hidden = unit * (score[near] + (slope @ size.to(slope)[:, :, None])[:, :, 0])
    hidden = torch.where(value[near] < 0, 0.0, hidden * (slope.amax(-1) > 0))  # a constant L goes nowhere
    return asked.index_copy(0, near, torch.maximum(asked[near], hidden))
