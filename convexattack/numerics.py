"""Floating point, named: directed rounding, error bounds of sums, blocks of rows that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "UNIT",
    "by_rows",
    "dot64",
    "gamma",
    "largest",
    "ratio",
    "round_down",
    "round_inwards",
    "round_up",
    "rounding_slack",
    "sum64",
    "times",
    "two_level_sum",
]

UNIT = 2.0**-53  # unit roundoff of float64
BLOCK = 2**17  # entries at a time of what is copied to float64 on a CPU


def by_rows(function: Callable[..., Any], *parts: Float[Tensor, "N *D"]) -> Any:
    """function(*parts), which is one tensor or a tuple of them, N rows each, and takes every row by itself.

    On a CPU it is called for a few rows at a time: what it makes on the way stays in the cache, and in memory that was
    touched before. A fresh float64 copy of a batch of images costs ten times its arithmetic.
    """
    first = parts[0]
    rows = max(1, BLOCK // max(1, first[:1].numel()))
    if first.ndim < 2 or first.device.type != "cpu" or len(first) <= rows:
        return function(*parts)
    found = [function(*block) for block in zip(*(part.split(rows) for part in parts), strict=True)]
    return (
        torch.cat(found)
        if isinstance(found[0], Tensor)
        else tuple(torch.cat(column) for column in zip(*found, strict=True))
    )


def sum64(x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
    """Σ_i x_i, summed in float64."""
    found: Tensor = by_rows(lambda x: x.sum(-1, dtype=torch.float64), x)
    return found


def dot64(x: Float[Tensor, "*N d"], y: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
    """Σ_i x_i y_i in float64."""
    found: Tensor = by_rows(lambda x, y: (x.to(torch.float64) * y.to(torch.float64)).sum(-1), x, y)
    return found


def rounding_slack(d: int) -> float:
    """A relative error that no norm or inner product of d terms exceeds when summed by `_sum`: about (3√d + 70)·2⁻⁵³.

    The sum runs over a √d × √d table and a remainder, so a term takes part in fewer than 3√d + 4 additions, whatever
    their order; the rest covers powers and roots.
    """
    return (3 * math.isqrt(d) + 70) * UNIT


def two_level_sum(x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
    """Sum over the last dimension in two levels, which bounds the rounding error by `rounding_slack`."""
    d = x.shape[-1]
    k = math.isqrt(d)
    head = x[..., : k * (d // k)].unflatten(-1, (k, d // k)).sum(-1).sum(-1) if k > 1 else x.sum(-1)
    return head if k <= 1 or d % k == 0 else head + x[..., k * (d // k) :].sum(-1)


def round_down(x: Float[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
    """x in `dtype`, rounded towards zero: |result| ≤ |x| exactly (beyond the range of dtype, its largest number)."""
    y = _cut(x, dtype, 0)
    return _nudge(x, dtype, lambda back: back.abs() > x.abs(), -1) if y is None else y


def round_up(x: Float[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
    """x in `dtype`, rounded away from zero: |result| ≥ |x| exactly."""
    y = _cut(x, dtype, 1)
    return _nudge(x, dtype, lambda back: back.abs() < x.abs(), 1) if y is None else y


def _cut(x: Tensor, dtype: torch.dtype, up: int) -> Tensor | None:
    """float64 in `dtype` with the excess bits of each fraction cut off, or one more where they are not 0 (`up`).

    None where that is not the answer: another dtype, or an entry outside the normal numbers of `dtype`.
    """
    if x.dtype != torch.float64 or dtype == torch.float64:
        return None
    last = 52 + round(math.log2(torch.finfo(dtype).eps))  # how many bits are in excess
    bits = x.view(torch.int64)
    cut = (bits + ((1 << last) - 1) if up else bits).bitwise_and(-1 << last).view(torch.float64)
    y = cut.to(dtype)
    return y if torch.equal(y.to(torch.float64), cut) else None


def _nudge(x: Tensor, dtype: torch.dtype, wrong: Callable[[Tensor], Tensor], by: int) -> Tensor:
    if dtype == x.dtype:
        return x
    y = x.to(dtype)
    back = y.to(x.dtype)
    if torch.equal(back, x):  # as the bounds of a pixel range are, which come from an image of this dtype
        return y
    bits = y.view(torch.int16 if y.element_size() == 2 else torch.int32)  # a unit in the last place is 1 there
    return (bits + wrong(back).to(bits.dtype).mul_(by)).view(dtype)


def round_inwards(
    low: Float[Tensor, "..."], high: Float[Tensor, "..."], dtype: torch.dtype, centred: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Where the numbers of `dtype` from low to high begin and end; `centred`: low ≤ 0 ≤ high throughout, if known."""
    if dtype == low.dtype or not low.numel():
        return low.to(dtype), high.to(dtype)
    if centred is None:
        centred = bool((low.amax() <= 0) & (high.amin() >= 0))
    if centred:
        return round_down(low, dtype), round_down(high, dtype)
    above = torch.where(low > 0, round_up(low, dtype), round_down(low, dtype))
    return above, torch.where(high > 0, round_down(high, dtype), round_up(high, dtype))


def largest(x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
    """max_i |x_i|, in the dtype of x and without a copy of it."""
    return torch.maximum(x.amax(-1), -x.amin(-1)).abs()


def gamma(terms: int) -> float:
    """γ_n = nu/(1 − nu): the error of a sum of n products in any order, relative to Σ of their sizes (Higham, §3.1)."""
    return terms * UNIT / (1 - terms * UNIT)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a/b with 0/0 = 0."""
    return torch.where(a == 0, a, a / b)


def times(a: Tensor, b: Tensor) -> Tensor:
    """a·b with 0·∞ = 0."""
    return torch.where((a == 0) | (b == 0), 0.0, a * b)
