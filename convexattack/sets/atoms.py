"""Atoms: sets S ⊂ R^r, known by what duality needs of them; `base` makes sets of perturbations of them and a map.

Every atom serves N items at once; z, u are (N, r) in float64. Rows are what a violation is measured in: the r entries
of an interval, the one norm of a ball.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import Lp, Mixed, Norm
from convexattack.numerics import UNIT, rounding_slack, times, two_level_sum

__all__ = ["Atom", "Interval", "NormBall"]

_Record = TypeVar("_Record")


class Atom(abc.ABC):
    """A closed convex set S ⊂ R^r for each of N items: a frozen record that copies its data.

    Attributes:
        rigorous: False where a bound leans on an estimate.
        separable: whether each entry of z is a row by itself.
        shared: how many dimensions the data of an atom have that serves all items, by field; one more means a row an
            item.
    """

    rigorous: bool = True
    separable: bool = False
    shared: ClassVar[Mapping[str, int]] = {}

    @abc.abstractmethod
    def check(self, n: int, r: int) -> None:
        """Raise ValueError unless the atom can serve N items of r rows."""

    @abc.abstractmethod
    def valid(self, like: Float[Tensor, "N r"]) -> Bool[Tensor, " N"]:
        """Whether the numbers of each item describe a set: no NaN, no bound of the wrong infinity."""

    @abc.abstractmethod
    def excess(self, z: Float[Tensor, "N r"], aux: Tensor | None = None) -> Float[Tensor, "N b"]:
        """How far z is beyond each row, in units of z; ≤ 0 inside. `aux`: values of the text's own unknowns, if any."""

    @abc.abstractmethod
    def blur(
        self, z: Float[Tensor, "N r"], dz: Float[Tensor, "N r"], aux: Tensor | None = None
    ) -> Float[Tensor, "N b"]:
        """What rounding can do to `excess` if z is known to ±dz."""

    def tied(self, excess: Float[Tensor, "N b"]) -> Bool[Tensor, "N b"]:
        """Which rows are equalities; `excess` are their excesses at any point."""
        return torch.zeros_like(excess, dtype=torch.bool)

    @abc.abstractmethod
    def widths(self, reach: Float[Tensor, "N r"]) -> Float[Tensor, "N b"]:
        """How wide S is along each row, the unit of its violation, for |z| ≤ reach; 0 or ∞ where the rows give none."""

    @abc.abstractmethod
    def support(self, u: Float[Tensor, "N r"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """σ(u) = sup {uᵀz : z ∈ S} and a bound on its rounding error."""

    @abc.abstractmethod
    def apart(
        self, u: Float[Tensor, "N r"], z: Float[Tensor, "N r"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """σ(u) − uᵀz (complementary slackness), summed so that nothing large cancels, and a bound on its error."""

    @abc.abstractmethod
    def charge(self, u: Float[Tensor, "N r"], rho: Float[Tensor, "N b"]) -> Float[Tensor, " N"]:
        """What u pays at most for rows that are widened by `rho`."""

    @abc.abstractmethod
    def clip(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N r"]:
        """The nearest u of finite support."""

    @abc.abstractmethod
    def recedes(self, ray: Float[Tensor, "N r"], blur: Float[Tensor, "N r"]) -> Bool[Tensor, " N"]:
        """Whether z + t·ray stays in S for every t ≥ 0, for all that rounding (`blur`) leaves open."""

    @abc.abstractmethod
    def extent(self, like: Float[Tensor, "N r"]) -> tuple[Float[Tensor, "N r"], Float[Tensor, "N r"]]:
        """Bounds on each z_i over S, ±∞ where there are none."""

    @abc.abstractmethod
    def moved(self, by: Float[Tensor, "N r"]) -> Atom:
        """S + by."""

    @abc.abstractmethod
    def scaled(self, by: Float[Tensor, " N"]) -> Atom:
        """by·S, for positive numbers: the same set in other units."""

    @abc.abstractmethod
    def parameters(self, n: int, r: int) -> dict[str, np.ndarray]:
        """The numbers in the text of S, one row an item."""

    @abc.abstractmethod
    def text(self, z: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        """CVXPY constraints that say z ∈ S, with `parameters` as numbers or as `cvxpy.Parameter`s."""

    def take(self, rows: Int[Tensor, " M"]) -> Atom:
        """S of these items; what serves all items stays."""
        parts = {}
        for name, dims in self.shared.items():
            entry = getattr(self, name)
            if isinstance(entry, Tensor) and entry.ndim > dims and len(entry) > 1:
                parts[name] = entry.index_select(0, rows.to(entry.device))
        return replaced(self, **parts) if parts else self


def replaced(record: _Record, **parts: Any) -> _Record:
    """The record with other fields, as they are: neither checked nor copied, so they must be nobody else's."""
    fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)} | parts  # type: ignore[arg-type]
    new = object.__new__(type(record))
    new.__dict__.update(fields)
    return new


def numbers(name: str, value: Any) -> float | Tensor:
    """A float, or a float64 tensor of its own memory; anything else is the caller's mistake."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise TypeError(f"{name} must hold floating-point numbers, got {value.dtype}; write {name}.double()")
        return value.detach().to(torch.float64, copy=True)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number or a tensor, got {value!r}")
    return float(value)


def fits(name: str, value: float | Tensor, shape: tuple[int, ...], letters: str) -> None:
    """Raise ValueError unless the value broadcasts to `shape`, which is called `letters`."""
    found = tuple(value.shape) if isinstance(value, Tensor) else ()
    try:
        good = torch.broadcast_shapes(found, shape) == shape
    except RuntimeError:
        good = False
    if not good:
        raise ValueError(f"{name} must be a number or broadcast to {letters} = {shape}, got shape {found}")


@dataclass(frozen=True, eq=False)
class Interval(Atom):
    """{z : low ≤ z ≤ high}; equal bounds make an equality. σ(u) = Σ_i high_i max(u_i, 0) + low_i min(u_i, 0).

    Args:
        low, high: numbers, or tensors that broadcast to (N, r); −∞ and ∞ mean "no bound".

    Raises:
        ValueError: NaN given as a number, or low > high for a pair of numbers.
    """

    low: float | Tensor
    high: float | Tensor
    separable = True
    shared: ClassVar[Mapping[str, int]] = {"low": 1, "high": 1}

    def __post_init__(self) -> None:
        low, high = numbers("lower", self.low), numbers("upper", self.high)
        for name, bound in (("lower", low), ("upper", high)):
            if isinstance(bound, float) and bound != bound:
                raise ValueError(f"{name} must be a number, got nan; use -math.inf or math.inf for no bound")
        if isinstance(low, float) and isinstance(high, float) and low > high:
            raise ValueError(f"the box is empty: lower = {low} is above upper = {high}; swap them")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def check(self, n: int, r: int) -> None:
        fits("lower", self.low, (n, r), "(N, d)")
        fits("upper", self.high, (n, r), "(N, d)")

    def ends(self, like: Float[Tensor, "N r"]) -> tuple[Float[Tensor, "N r"], Float[Tensor, "N r"]]:
        """(low, high), each (N, r), without a copy where a number or a row serves all."""
        low, high = (
            torch.as_tensor(b, dtype=torch.float64, device=like.device).expand(like.shape)
            for b in (self.low, self.high)
        )
        return low, high

    def valid(self, like: Float[Tensor, "N r"]) -> Bool[Tensor, " N"]:
        low, high = self.ends(like)
        return (low < math.inf).all(-1) & (high > -math.inf).all(-1)  # False for NaN

    def excess(self, z: Float[Tensor, "N r"], aux: Tensor | None = None) -> Float[Tensor, "N r"]:
        low, high = self.ends(z)
        return torch.maximum(low - z, z - high)

    def blur(
        self, z: Float[Tensor, "N r"], dz: Float[Tensor, "N r"], aux: Tensor | None = None
    ) -> Float[Tensor, "N r"]:
        return dz  # a difference of floats has the right sign

    def tied(self, excess: Float[Tensor, "N r"]) -> Bool[Tensor, "N r"]:
        low, high = self.ends(excess)
        return low == high

    def widths(self, reach: Float[Tensor, "N r"]) -> Float[Tensor, "N r"]:
        low, high = self.ends(reach)
        return torch.where(high > low, high - low, 0.0)

    def support(self, u: Float[Tensor, "N r"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        low, high = self.ends(u)
        terms = times(u, torch.where(u > 0, high, low))
        return two_level_sum(terms), two_level_sum(terms.abs()) * rounding_slack(u.shape[-1])

    def apart(
        self, u: Float[Tensor, "N r"], z: Float[Tensor, "N r"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        low, high = self.ends(u)
        terms = times(u, torch.where(u > 0, high, low) - z)
        return two_level_sum(terms), two_level_sum(terms.abs()) * rounding_slack(u.shape[-1])

    def charge(self, u: Float[Tensor, "N r"], rho: Float[Tensor, "N r"]) -> Float[Tensor, " N"]:
        return two_level_sum(u.abs() * rho) * (1 + rounding_slack(u.shape[-1]))

    def clip(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N r"]:
        low, high = self.ends(u)
        return torch.where(torch.where(u > 0, high, low).isinf(), 0.0, u)

    def recedes(self, ray: Float[Tensor, "N r"], blur: Float[Tensor, "N r"]) -> Bool[Tensor, " N"]:
        low, high = self.ends(ray)
        return (((ray - blur >= 0) | (low == -math.inf)) & ((ray + blur <= 0) | (high == math.inf))).all(-1)

    def extent(self, like: Float[Tensor, "N r"]) -> tuple[Float[Tensor, "N r"], Float[Tensor, "N r"]]:
        return self.ends(like)

    def moved(self, by: Float[Tensor, "N r"]) -> Interval:
        low, high = self.ends(by)
        return replaced(self, low=low + by, high=high + by)

    def scaled(self, by: Float[Tensor, " N"]) -> Interval:
        low, high = (
            torch.as_tensor(b, dtype=torch.float64, device=by.device) * by[:, None] for b in (self.low, self.high)
        )
        return replaced(self, low=low, high=high)

    def parameters(self, n: int, r: int) -> dict[str, np.ndarray]:
        low, high = self.ends(torch.empty(n, r, dtype=torch.float64))
        return {"lower": low.cpu().numpy(), "upper": high.cpu().numpy()}

    def text(self, z: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        low, high = parameters["lower"], parameters["upper"]
        if isinstance(low, cp.Parameter):
            return [z >= low, z <= high]
        rows = []
        equal, below, above = low == high, (low > -math.inf) & (low != high), (high < math.inf) & (low != high)
        if equal.all():
            return [z == low]
        if below.all() and above.all():
            return [z >= low, z <= high]
        for pick, relation, end in ((equal, operator.eq, low), (below, operator.ge, low), (above, operator.le, high)):
            if pick.any():
                k = np.flatnonzero(pick)
                rows.append(relation(z[k], end[k]))
        return rows


@dataclass(frozen=True, eq=False)
class NormBall(Atom):
    """{z : ‖z − centre‖ ≤ radius}, with σ(u) = radius·‖u‖_* + uᵀcentre.

    Args:
        norm: an `Lp` or a `Mixed`.
        radius: ≥ 0, a number or (N,), in the units of z.
        centre: None for 0, or a tensor that broadcasts to (N, r).

    Raises:
        ValueError: a radius that is negative, NaN or infinite.
        TypeError: a norm that is none of these.
    """

    norm: Norm
    radius: float | Tensor
    centre: Tensor | None = None
    shared: ClassVar[Mapping[str, int]] = {"radius": 0, "centre": 1}

    def __post_init__(self) -> None:
        if type(self.norm) not in (Lp, Mixed):
            raise TypeError(f"norm must be a ca.Lp, got {self.norm!r}; write ca.Ball(ca.Lp(2), radius)")
        radius = numbers("radius", self.radius)
        least = torch.as_tensor(radius, dtype=torch.float64).nan_to_num(-1.0, -1.0)
        if least.numel() and float(least.min()) < 0:
            raise ValueError(f"radius must be a finite number >= 0, got {self.radius}; leave the Ball out for no bound")
        object.__setattr__(self, "radius", radius)
        if self.centre is not None:
            object.__setattr__(self, "centre", torch.as_tensor(numbers("centre", self.centre)))

    def check(self, n: int, r: int) -> None:
        if isinstance(self.radius, Tensor) and self.radius.ndim and self.radius.shape != (n,):
            raise ValueError(
                f"radius must be a number or have shape (N,) = ({n},), got shape {tuple(self.radius.shape)}"
            )
        self.norm.check(r)
        if self.centre is not None:
            fits("centre", self.centre, (n, r), "(N, d)")

    def radii(self, like: Float[Tensor, "N *r"]) -> Float[Tensor, " N"]:
        """The radius of each item."""
        return torch.as_tensor(self.radius, dtype=torch.float64, device=like.device).expand(len(like))

    def middle(self, like: Float[Tensor, "N r"]) -> Float[Tensor, "N r"]:
        """The centre of each item."""
        c = torch.zeros((), dtype=torch.float64) if self.centre is None else self.centre
        return c.to(like.device).expand(like.shape)

    def valid(self, like: Float[Tensor, "N r"]) -> Bool[Tensor, " N"]:
        return self.radii(like).isfinite() & self.middle(like).isfinite().all(-1)

    def excess(self, z: Float[Tensor, "N r"], aux: Tensor | None = None) -> Float[Tensor, "N 1"]:
        away = z if self.centre is None else z - self.middle(z)
        return (self.norm.length(away) - self.radii(z))[:, None]

    def blur(
        self, z: Float[Tensor, "N r"], dz: Float[Tensor, "N r"], aux: Tensor | None = None
    ) -> Float[Tensor, "N 1"]:
        slack = 4 * self.norm.slack(z.shape[-1]) + (4 * UNIT if self.centre is not None else 0.0)
        far = self.norm.length(z if self.centre is None else z.abs() + self.middle(z).abs())
        return (slack * far + self.norm.length(dz) * (1 + slack))[:, None]

    def widths(self, reach: Float[Tensor, "N r"]) -> Float[Tensor, "N 1"]:
        return self.radii(reach)[:, None]

    def support(self, u: Float[Tensor, "N r"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        value = self.radii(u) * self.norm.conjugate.length(u)
        error = value * (self.norm.conjugate.slack(u.shape[-1]) + UNIT)
        if self.centre is None:
            return value, error
        terms = u * self.middle(u)
        error = error + two_level_sum(terms.abs()) * rounding_slack(u.shape[-1]) + UNIT * value
        return value + two_level_sum(terms), error

    def apart(
        self, u: Float[Tensor, "N r"], z: Float[Tensor, "N r"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        value = self.radii(u) * self.norm.conjugate.length(u)
        terms = u * (z - self.middle(z))
        error = value * (self.norm.conjugate.slack(u.shape[-1]) + UNIT) + two_level_sum(terms.abs()) * rounding_slack(
            u.shape[-1]
        )
        return value - two_level_sum(terms), error

    def charge(self, u: Float[Tensor, "N r"], rho: Float[Tensor, "N 1"]) -> Float[Tensor, " N"]:
        return self.norm.conjugate.length(u) * rho[:, 0] * (1 + 4 * self.norm.conjugate.slack(u.shape[-1]) + 4 * UNIT)

    def clip(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N r"]:
        return u

    def recedes(self, ray: Float[Tensor, "N r"], blur: Float[Tensor, "N r"]) -> Bool[Tensor, " N"]:
        return (ray == 0).all(-1) & (blur == 0).all(-1)

    def extent(self, like: Float[Tensor, "N r"]) -> tuple[Float[Tensor, "N r"], Float[Tensor, "N r"]]:
        r, c = self.radii(like)[:, None], self.middle(like)
        if self.centre is None:
            return (-r).expand(like.shape), r.expand(like.shape)
        outward = 2 * UNIT * (c.abs() + r)
        return c - r - outward, c + r + outward

    def moved(self, by: Float[Tensor, "N r"]) -> NormBall:
        return replaced(self, centre=self.middle(by) + by)

    def scaled(self, by: Float[Tensor, " N"]) -> NormBall:
        radius = torch.as_tensor(self.radius, dtype=torch.float64, device=by.device) * by
        centre = None if self.centre is None else self.centre.to(by.device) * by[:, None]
        return replaced(self, radius=radius, centre=centre)

    def parameters(self, n: int, r: int) -> dict[str, np.ndarray]:
        like = torch.empty(n, r, dtype=torch.float64)
        numbers = {"radius": self.radii(like).cpu().numpy()}
        return numbers if self.centre is None else numbers | {"centre": self.middle(like).cpu().numpy()}

    def text(self, z: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        return self.norm.text(z - parameters["centre"] if "centre" in parameters else z, parameters["radius"])
