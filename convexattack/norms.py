"""The norm ‖·‖_p for every real p in [1, ∞]: value, dual, steepest direction (eqs. 6 and 7), and its CVXPY text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Lp", "by_rows", "dot64", "largest", "round_down", "round_inwards", "round_up", "rounding_slack", "sum64"]

UNIT = 2.0**-53  # unit roundoff of float64
BLOCK = 2**17  # entries at a time of what is copied to float64 on a CPU


def by_rows(function: Callable[..., Any], *parts: Float[Tensor, "N *D"]) -> Any:
    """function(*parts), which is one tensor or a tuple of them, N rows each, and takes every row by itself.

    On a CPU it is called for a few rows at a time: what it makes on the way stays in the cache, and in memory that was touched before. A
    fresh float64 copy of a batch of images costs ten times its arithmetic.
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

    The sum runs over a √d × √d table and a remainder, so a term takes part in fewer than 3√d + 4 additions, whatever their order;
    the rest covers powers and roots.
    """
    return (3 * math.isqrt(d) + 70) * UNIT


def _sum(x: Tensor) -> Tensor:
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
    bits = y.view(
        torch.int16 if y.element_size() == 2 else torch.int32
    )  # one unit in the last place is one as an integer
    return (bits + wrong(back).to(bits.dtype).mul_(by)).view(dtype)


def round_inwards(
    low: Float[Tensor, "..."], high: Float[Tensor, "..."], dtype: torch.dtype, centred: bool | None = None
) -> tuple[Tensor, Tensor]:
    """The numbers of `dtype` from low to high begin and end here; `centred`: whether low ≤ 0 ≤ high throughout, if that is known."""
    if dtype == low.dtype or not low.numel():
        return low.to(dtype), high.to(dtype)
    if centred is None:
        centred = bool((low.amax() <= 0) & (high.amin() >= 0))
    if centred:
        return round_down(low, dtype), round_down(high, dtype)
    above = torch.where(low > 0, round_up(low, dtype), round_down(low, dtype))
    return above, torch.where(high > 0, round_down(high, dtype), round_up(high, dtype))


@dataclass(frozen=True)
class Lp:
    """‖x‖_p = (Σ_i |x_i|^p)^{1/p}, max_i |x_i| for p = ∞; norms run over the last dimension of a tensor.

    Args:
        p: any real number in [1, ∞]; `math.inf` for the largest entry.

    Everything is computed in float64 after division by the largest entry, so nothing overflows on the way (q = 1001,
    entries of 1e±30, float16); results come back in the dtype of the argument.

    Raises:
        ValueError: p < 1 or NaN: then ‖·‖_p is no norm and the programs are not convex.

    >>> Lp(2)(torch.tensor([[3.0, 4.0]]))
    tensor([5.])
    >>> Lp(1).q
    inf
    """

    p: float

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or not isinstance(self.p, int | float | np.integer | np.floating):
            raise TypeError(f"p must be a number in [1, inf], got {self.p!r}; write Lp(2) or Lp(math.inf)")
        if not self.p >= 1:
            raise ValueError(
                f"p must be in [1, inf], got p = {self.p}: below 1 the ball is not convex; use Lp(1) for sparse perturbations"
            )
        object.__setattr__(self, "p", float(self.p))

    @property
    def q(self) -> float:
        """The dual exponent, 1/p + 1/q = 1."""
        if self.p == 1:
            return math.inf
        return 1.0 if self.p == math.inf else self.p / (self.p - 1)

    def __call__(self, x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        """‖x‖_p."""
        return _norm(x, self.p).to(x.dtype)

    def length(self, x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        """‖x‖_p in float64, whatever the dtype of x."""
        return _norm(x, self.p)

    def dual(self, g: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        """The dual norm sup {gᵀη : ‖η‖_p ≤ 1} = ‖g‖_q."""
        return _norm(g, self.q).to(g.dtype)

    def steepest(self, g: Float[Tensor, "*N d"], radius: float | Float[Tensor, "*N"] = 1.0) -> Float[Tensor, "*N d"]:
        """The minimizer of gᵀη over ‖η‖_p ≤ radius: eq. (6), for p = ∞ eq. (7).

            η = −radius · sign(g) |g|^{q−1} / ‖g‖_q^{q−1},    so that gᵀη = −radius · ‖g‖_q.

        p = 1 puts everything on the first largest |g_i|. A zero g gives 0, which is as good as any point. The result is
        inside the ball in its own dtype, in exact arithmetic: it is scaled by 1 − `rounding_slack` and rounded towards zero.
        A row with a NaN or an infinite entry comes back without a single number in it.
        """
        if self.p == 2 and g.dtype == torch.float32:
            return self._scaled_once(g, torch.as_tensor(radius, dtype=torch.float64, device=g.device))
        if self.p == 2:
            length = _sum(g.to(torch.float64).square()).sqrt()
            r = torch.as_tensor(radius, dtype=torch.float64, device=g.device)
            eta = round_down(g * (-r * (1 - rounding_slack(g.shape[-1])) / length)[..., None], g.dtype)
            plain = (length > 1e-140) & (
                length < 1e140
            )  # the squares neither vanish nor overflow, so nothing has to be scaled
            return eta if bool(plain.all()) else torch.where(plain[..., None], eta, self._scaled(g, radius))
        if self.p == math.inf:
            r = torch.as_tensor(radius, dtype=torch.float64, device=g.device)
            if bool(g.sum(-1).isfinite().all()):  # as it is not where an entry is not
                return g.sign().mul_(round_down(-r, g.dtype)[..., None])
        return self._scaled(g, radius)

    def _scaled_once(self, g: Float[Tensor, "*N d"], radius: Float[Tensor, "*N"]) -> Float[Tensor, "*N d"]:
        """`steepest` for p = 2 in float32: each entry is rounded by half a unit in the last place, and aimed half a unit lower.

        What is not finite, and a radius that the smallest numbers of float32 cannot resolve, is for `_scaled`.
        """
        least = 1 - torch.finfo(g.dtype).eps / 2 - (g.shape[-1] + 70) * UNIT  # however the sum of squares is rounded

        def scaled(g: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
            wide = g.to(torch.float64)
            length = torch.linalg.vector_norm(wide, 2, -1)
            return wide.mul_((radius * -least / length)[..., None]).to(g.dtype), length

        eta: Tensor
        eta, length = by_rows(scaled, g, radius.expand(g.shape[:-1]))
        good = (length > 0) & (length < math.inf) & (radius > 1e-10) & (radius < 1e30)
        if not bool(good.all()):
            bad = ~good
            eta[bad] = self._scaled(g[bad], radius.expand(good.shape)[bad])
        return eta

    def _scaled(self, g: Float[Tensor, "*N d"], radius: float | Float[Tensor, "*N"]) -> Float[Tensor, "*N d"]:
        """`steepest` from g divided by its largest entry."""
        k = g.abs().argmax(-1, keepdim=True)  # NaN counts as the largest
        top = g.gather(-1, k).abs().to(torch.float64)
        r = (
            torch.as_tensor(radius, dtype=torch.float64, device=g.device)[..., None] + 0 * top
        )  # NaN where a gradient is not finite
        if self.p == math.inf:
            return g.sign().mul_(round_down(-r, g.dtype))
        if self.p == 1:
            return (
                (0 * top)
                .to(g.dtype)
                .expand_as(g)
                .clone()
                .scatter_(-1, k, round_down(-r, g.dtype) * g.gather(-1, k).sign())
            )
        h = g / torch.where(top > 0, top, 1.0)
        if self.p == 2:
            reach = _sum(h * h)
        else:
            a = h.abs()
            power = a.pow(1 / (self.p - 1))
            reach = _sum(a.mul_(power))  # Σ |h|^q, the p-th power of the norm of |h|^{q−1}
            h = power.copysign(h)
        length = reach.pow(1 / self.p)[..., None]
        scale = r * (1 - rounding_slack(g.shape[-1])) / torch.where(length > 0, length, 1.0)
        return round_down(h.mul_(-scale), g.dtype)

    def epigraph(self, eta: cp.Expression, t: float | cp.Expression) -> list[cp.Constraint]:
        """The constraints ‖eta‖_p ≤ t in CVXPY, exact for every p.

        `cvxpy.norm` replaces p by a nearby fraction (π becomes 355/113); here a p other than 1, 2, ∞ becomes power cones,
        |η_i| ≤ r_i^{1/p} t^{1−1/p} with Σ_i r_i ≤ t, which says Σ_i |η_i|^p ≤ t^p.
        """
        if self.p in (1, 2, math.inf):
            return [cp.norm(eta, "inf" if self.p == math.inf else int(self.p)) <= t]
        r = cp.Variable(eta.shape, name="r")
        return [cp.PowCone3D(r, t * np.ones(eta.shape), eta, 1 / self.p), cp.sum(r) <= t]

    def __str__(self) -> str:
        return "inf" if self.p == math.inf else f"{self.p:g}"


def largest(x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
    """max_i |x_i|, in the dtype of x and without a copy of it."""
    return torch.maximum(x.amax(-1), -x.amin(-1)).abs()


def _norm(x: Tensor, p: float) -> Tensor:
    """‖x‖_p in float64, scale-free."""
    if p == math.inf:
        return largest(x).to(torch.float64)
    if x.dtype != torch.float64 and p == 2:  # its squares neither vanish nor overflow in float64
        short: Tensor = by_rows(lambda x: torch.linalg.vector_norm(x, 2, -1, dtype=torch.float64), x)
        return short
    if x.dtype != torch.float64 and p == 1:  # nor does its sum
        sums: Tensor = by_rows(lambda x: _sum(x.abs().to(torch.float64)), x)
        return sums
    if x.dtype != torch.float64:
        wide: Tensor = by_rows(lambda x: _norm(x.to(torch.float64), p), x)
        return wide
    if p == 2:
        length = _sum(x * x).sqrt()
        plain = (length > 1e-140) & (length < 1e140)
        return length if bool(plain.all()) else torch.where(plain, length, _unit_norm(x, p))
    return _unit_norm(x, p)


def _unit_norm(x: Tensor, p: float) -> Tensor:
    """`_norm` from x divided by its largest entry."""
    a = x.abs()
    top = a.amax(-1)
    unit = torch.where((top > 0) & (top < math.inf), top, 1.0)
    a = a / unit[..., None]
    return unit * (_sum(a) if p == 1 else _sum(a * a).sqrt() if p == 2 else _sum(a.pow(p)).pow(1 / p))
