"""Norms, their duals, CVXPY texts and rounding errors: ‖·‖_p for every real p in [1, ∞], also over groups."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from itertools import pairwise

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.numerics import UNIT, by_rows, largest, round_down, rounding_slack, two_level_sum

__all__ = ["Lp", "Mixed", "Norm"]


class Norm(abc.ABC):
    """A norm of the last dimension of a tensor, at least as large as every entry: |x_i| ≤ ‖x‖."""

    @abc.abstractmethod
    def length(self, x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        """‖x‖ in float64, whatever the dtype of x; off by at most `slack(d)`, relative."""

    @property
    @abc.abstractmethod
    def conjugate(self) -> Norm:
        """The dual norm, ‖u‖_* = sup {uᵀx : ‖x‖ ≤ 1}."""

    @abc.abstractmethod
    def text(self, z: cp.Expression, t: float | cp.Expression) -> list[cp.Constraint]:
        """‖z‖ ≤ t in CVXPY."""

    def slack(self, d: int) -> float:
        """A relative error that `length` never exceeds."""
        return rounding_slack(d)

    def check(self, d: int) -> None:
        """Raise ValueError unless vectors of d entries have this norm."""
        return None

    def __call__(self, x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        """‖x‖, in the dtype of x."""
        return self.length(x).to(x.dtype)

    def dual(self, g: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        """The dual norm sup {gᵀη : ‖η‖ ≤ 1} = ‖g‖_*, in the dtype of g."""
        return self.conjugate(g)


@dataclass(frozen=True)
class Lp(Norm):
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
                f"p must be in [1, inf], got p = {self.p}: below 1 the ball is not convex; "
                "use Lp(1) for sparse perturbations"
            )
        object.__setattr__(self, "p", float(self.p))

    @property
    def q(self) -> float:
        """The dual exponent, 1/p + 1/q = 1."""
        if self.p == 1:
            return math.inf
        return 1.0 if self.p == math.inf else self.p / (self.p - 1)

    def length(self, x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        """‖x‖_p in float64, whatever the dtype of x."""
        return _norm(x, self.p)

    @property
    def conjugate(self) -> Lp:
        """‖·‖_q."""
        return Lp(self.q)

    def steepest(self, g: Float[Tensor, "*N d"], radius: float | Float[Tensor, "*N"] = 1.0) -> Float[Tensor, "*N d"]:
        """The minimizer of gᵀη over ‖η‖_p ≤ radius: eq. (6), for p = ∞ eq. (7).

            η = −radius · sign(g) |g|^{q−1} / ‖g‖_q^{q−1},    so that gᵀη = −radius · ‖g‖_q.

        p = 1 puts everything on the first largest |g_i|. A zero g gives 0, which is as good as any point. The result is
        inside the ball in its own dtype, in exact arithmetic: it is scaled by 1 − `rounding_slack` and rounded towards
        zero. A row with a NaN or an infinite entry comes back without a single number in it.
        """
        if self.p == 2 and g.dtype == torch.float32:
            return self._scaled_once(g, torch.as_tensor(radius, dtype=torch.float64, device=g.device))
        if self.p == 2:
            length = two_level_sum(g.to(torch.float64).square()).sqrt()
            r = torch.as_tensor(radius, dtype=torch.float64, device=g.device)
            eta = round_down(g * (-r * (1 - rounding_slack(g.shape[-1])) / length)[..., None], g.dtype)
            plain = (length > 1e-140) & (length < 1e140)  # the squares neither vanish nor overflow: no scaling
            return eta if bool(plain.all()) else torch.where(plain[..., None], eta, self._scaled(g, radius))
        if self.p == math.inf:
            r = torch.as_tensor(radius, dtype=torch.float64, device=g.device)
            if bool(g.sum(-1).isfinite().all()):  # as it is not where an entry is not
                return g.sign().mul_(round_down(-r, g.dtype)[..., None])
        return self._scaled(g, radius)

    def _scaled_once(self, g: Float[Tensor, "*N d"], radius: Float[Tensor, "*N"]) -> Float[Tensor, "*N d"]:
        """`steepest` for p = 2 in float32: aimed half a unit in the last place lower, as much as rounding may add.

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
        nothing = 0 * top  # NaN where a gradient is not finite
        r = torch.as_tensor(radius, dtype=torch.float64, device=g.device)[..., None] + nothing
        if self.p == math.inf:
            return g.sign().mul_(round_down(-r, g.dtype))
        if self.p == 1:
            entry = round_down(-r, g.dtype) * g.gather(-1, k).sign()
            return nothing.to(g.dtype).expand_as(g).scatter(-1, k, entry)
        h = g / torch.where(top > 0, top, 1.0)
        if self.p == 2:
            reach = two_level_sum(h * h)
        else:
            a = h.abs()
            power = a.pow(1 / (self.p - 1))
            reach = two_level_sum(a.mul_(power))  # Σ |h|^q, the p-th power of the norm of |h|^{q−1}
            h = power.copysign(h)
        length = reach.pow(1 / self.p)[..., None]
        scale = r * (1 - rounding_slack(g.shape[-1])) / torch.where(length > 0, length, 1.0)
        return round_down(h.mul_(-scale), g.dtype)

    def slack(self, d: int) -> float:
        """0 for p = ∞: the largest entry of a vector is one of its entries."""
        return 0.0 if self.p == math.inf else rounding_slack(d)

    def text(self, z: cp.Expression, t: float | cp.Expression) -> list[cp.Constraint]:
        """‖z‖_p ≤ t in CVXPY, exact for every p.

        `cvxpy.norm` replaces p by a nearby fraction (π becomes 355/113); here a p other than 1, 2, ∞ becomes power
        cones, |z_i| ≤ r_i^{1/p} t^{1−1/p} with Σ_i r_i ≤ t, which says Σ_i |z_i|^p ≤ t^p.
        """
        if self.p in (1, 2, math.inf):
            return [cp.norm(z, "inf" if self.p == math.inf else int(self.p)) <= t]
        r = cp.Variable(z.shape, name="r")
        return [cp.PowCone3D(r, t * np.ones(z.shape), z, 1 / self.p), cp.sum(r) <= t]

    def __str__(self) -> str:
        return "inf" if self.p == math.inf else f"{self.p:g}"


@dataclass(frozen=True, eq=False)
class Mixed(Norm):
    """‖(‖x_1‖_2, …, ‖x_G‖_2)‖_outer, x_k the entries of group k: sparse in groups for outer = 1.

    Args:
        labels: (d,) ints from 0 to G − 1, the group of each entry; a group may have any size.
        outer: the norm of the groups' lengths.

    >>> Mixed(torch.tensor([0, 0, 1]), Lp(1))(torch.tensor([[3.0, 4.0, -2.0]]))
    tensor([7.])
    """

    labels: Int[Tensor, " d"]
    outer: Lp

    def __post_init__(self) -> None:
        labels = torch.as_tensor(self.labels).detach().to("cpu", copy=True).flatten()
        if labels.is_floating_point() or labels.dtype == torch.bool or labels.numel() == 0 or int(labels.min()) < 0:
            raise ValueError(
                f"labels must be ints >= 0, one for each entry, got {self.labels!r}; number the groups from 0"
            )
        if type(self.outer) is not Lp:
            raise TypeError(f"outer must be a ca.Lp, got {self.outer!r}; write ca.Lp(1)")
        object.__setattr__(self, "labels", labels.to(torch.int64))

    @property
    def groups(self) -> int:
        """G."""
        return int(self.labels.max()) + 1

    def lengths(self, x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N G"]:
        """‖x_k‖_2 of each group, float64."""
        wide = x.to(torch.float64)
        top = largest(wide)[..., None]
        unit = torch.where((top > 0) & (top < math.inf), top, 1.0)
        sums = torch.zeros(*x.shape[:-1], self.groups, dtype=torch.float64, device=x.device)
        return sums.index_add_(-1, self.labels.to(x.device), (wide / unit).square()).sqrt() * unit

    def length(self, x: Float[Tensor, "*N d"]) -> Float[Tensor, "*N"]:
        return self.outer.length(self.lengths(x))

    @property
    def conjugate(self) -> Mixed:
        """The same groups, their lengths in the dual of `outer`."""
        return Mixed(self.labels, self.outer.conjugate)

    def slack(self, d: int) -> float:
        """`index_add_` adds in any order: d/2 roundings of a sum of squares, and those of `outer`."""
        return rounding_slack(self.groups) + (d + 8) * UNIT

    def check(self, d: int) -> None:
        if len(self.labels) != d:
            raise ValueError(f"labels must have one entry for each of the d = {d} coordinates, got {len(self.labels)}")

    def text(self, z: cp.Expression, t: float | cp.Expression) -> list[cp.Constraint]:
        s = cp.Variable(self.groups, name="s")
        d, order = len(self.labels), self.labels.argsort(stable=True).numpy()
        ends = np.searchsorted(self.labels.numpy()[order], np.arange(self.groups + 1))
        pick = sp.csr_array((np.ones(d), order, np.arange(d + 1)), shape=(d, d)) @ z
        parts = [cp.SOC(s[k], pick[a:b]) for k, (a, b) in enumerate(pairwise(ends)) if b > a]
        return [*parts, s >= 0, *self.outer.text(s, t)]

    def __str__(self) -> str:
        return f"{self.outer} of {self.groups} groups"


def _norm(x: Tensor, p: float) -> Tensor:
    """‖x‖_p in float64, scale-free."""
    if p == math.inf:
        return largest(x).to(torch.float64)
    if x.dtype != torch.float64 and p == 2:  # its squares neither vanish nor overflow in float64
        short: Tensor = by_rows(lambda x: torch.linalg.vector_norm(x, 2, -1, dtype=torch.float64), x)
        return short
    if x.dtype != torch.float64 and p == 1:  # nor does its sum
        sums: Tensor = by_rows(lambda x: two_level_sum(x.abs().to(torch.float64)), x)
        return sums
    if x.dtype != torch.float64:
        wide: Tensor = by_rows(lambda x: _norm(x.to(torch.float64), p), x)
        return wide
    if p == 2:
        length = two_level_sum(x * x).sqrt()
        plain = (length > 1e-140) & (length < 1e140)
        return length if bool(plain.all()) else torch.where(plain, length, _unit_norm(x, p))
    return _unit_norm(x, p)


def _unit_norm(x: Tensor, p: float) -> Tensor:
    """`_norm` from x divided by its largest entry."""
    a = x.abs()
    top = a.amax(-1)
    unit = torch.where((top > 0) & (top < math.inf), top, 1.0)
    a = a / unit[..., None]
    if p == 1:
        return unit * two_level_sum(a)
    return unit * (two_level_sum(a * a).sqrt() if p == 2 else two_level_sum(a.pow(p)).pow(1 / p))
