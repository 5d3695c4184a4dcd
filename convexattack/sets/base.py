"""A convex set of perturbations: an atom seen through a linear map, C = {η : Kη ∈ S}.

A multiplier u of the set lives in the rows of K. For every η in C, uᵀKη ≤ σ_S(u): `price(u)` is that number and
`pull(u)` = Kᵀu, and these two are all that duality needs. σ_C itself is never needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import gamma, ratio, times, two_level_sum
from convexattack.sets.atoms import Atom, Interval, NormBall, replaced
from convexattack.sets.maps import Diagonal, Identity, Map, Rows

__all__ = ["ConvexSet", "Extent", "Point"]


@dataclass(frozen=True, eq=False)
class Point:
    """η of N items, and for each set the values of its text's own unknowns (None where it has none)."""

    eta: Float[Tensor, "N d"]
    aux: tuple[Tensor | None, ...]

    def towards(self, other: Point, t: Float[Tensor, " N"]) -> Point:
        """(1 − t)·self + t·other, item by item; `self` itself where t = 0, `other` where t = 1."""

        def mixed(a: Tensor, b: Tensor) -> Tensor:
            part = a + t[:, None] * (b - a)
            return torch.where(t[:, None] == 0, a, torch.where(t[:, None] == 1, b, part))

        pairs = zip(self.aux, other.aux, strict=True)
        aux = tuple(None if a is None else a if b is None else mixed(a, b) for a, b in pairs)
        return Point(mixed(self.eta, other.eta), aux)

    def where(self, good: Bool[Tensor, " N"], other: Point) -> Point:
        """`self` where told, `other` elsewhere."""
        pairs = zip(self.aux, other.aux, strict=True)
        aux = tuple(None if a is None or b is None else torch.where(good[:, None], a, b) for a, b in pairs)
        return Point(torch.where(good[:, None], self.eta, other.eta), aux)


@dataclass(frozen=True, eq=False)
class Extent:
    """Bounds on each η_i that sets imply, (N, d); ±∞ where they imply none."""

    low: Float[Tensor, "N d"]
    high: Float[Tensor, "N d"]

    @staticmethod
    def of(sets: tuple[ConvexSet, ...], like: Float[Tensor, "N d"]) -> Extent:
        """What all of them imply together."""
        low = torch.full_like(like, -torch.inf, dtype=torch.float64)
        high = -low
        for item in sets:
            one = item.extent(like)
            low, high = torch.maximum(low, one.low), torch.minimum(high, one.high)
        return Extent(low, high)

    @property
    def reach(self) -> Float[Tensor, "N d"]:
        """A bound on each |η_i|."""
        return torch.maximum(self.low.abs(), self.high.abs())

    @property
    def width(self) -> Float[Tensor, "N d"]:
        """high − low, 0 where they cross."""
        return (self.high - self.low).nan_to_num(math.inf, math.inf, 0.0).clamp_min(0)

    def centre(self) -> Float[Tensor, "N d"]:
        """A point in the middle; 0, or the nearest to it, where one side is open."""
        bounded = self.low.isfinite() & self.high.isfinite()
        middle = self.low + (self.high - self.low) / 2
        nearest = torch.minimum(torch.maximum(torch.zeros_like(self.low), self.low), self.high)
        return torch.where(bounded, torch.minimum(torch.maximum(middle, self.low), self.high), nearest)


@dataclass(frozen=True, eq=False)
class ConvexSet:
    """{η : Kη ∈ S} for each of N programs: a set of one's own, composed of an atom S and a map K.

    Args:
        atom: one of `ca.atoms`, e.g. `ca.atoms.Interval(-math.inf, b)` or `ca.atoms.NormBall(ca.Lp(1), radius)`.
        map: one of `ca.maps`, e.g. `ca.maps.Rows(A)`; by default η itself.
        label: what a sentence calls it.

    Raises:
        TypeError: an atom or a map that is none.

    >>> import convexattack as ca
    >>> halfspace = ca.ConvexSet(ca.atoms.Interval(-math.inf, 1.0), ca.maps.Rows(torch.tensor([[1.0, 2.0]])))
    >>> halfspace.violation(torch.tensor([[1.0, 1.0]]))
    tensor([2.], dtype=torch.float64)
    """

    atom: Atom
    map: Map = field(default_factory=Identity)
    label: str = "ConvexSet"

    def __post_init__(self) -> None:
        if type(self.atom) not in ATOMS:
            raise TypeError(
                f"atom must be one of convexattack.atoms, got {self.atom!r}; write ca.atoms.Interval(low, high)"
            )
        if type(self.map) not in MAPS:
            raise TypeError(f"map must be one of convexattack.maps, got {self.map!r}; write ca.maps.Rows(A)")

    @property
    def rigorous(self) -> bool:
        """Whether its prices are theorems about its data."""
        return self.atom.rigorous

    @property
    def symmetric(self) -> bool:
        """Whether this is a ball around 0 whose norm sees sizes alone, so that a bound on vᵀη needs no signs of v."""
        return isinstance(self.atom, NormBall) and self.atom.centre is None and not isinstance(self.map, Rows)

    def rows(self, d: int) -> int:
        """r, the length of a multiplier."""
        return self.map.rows(d)

    def check(self, n: int, d: int) -> None:
        """Raise ValueError unless the set can serve N programs in d dimensions."""
        self.map.check(n, d)
        self.atom.check(n, self.map.rows(d))

    def fitted(self, n: int, d: int) -> ConvexSet:
        """The set as N programs in d dimensions hold it."""
        return self

    @property
    def hides(self) -> bool:
        """Whether its text has unknowns of its own, whose values are η's witness."""
        return False

    def strayed(self, aux: Tensor | None) -> float | Float[Tensor, "N r"]:
        """What changes of the text's unknowns by ±aux do to the rows."""
        return 0.0

    def loose(self, u: Float[Tensor, "N r"], reach: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """What unknowns of the text can add to uᵀKη beyond `price`, for |η_i| ≤ reach_i."""
        return torch.zeros_like(u[:, 0])

    # --- what duality needs -------------------------------------------------------------------------------------------

    def price(self, u: Float[Tensor, "N r"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """sup {uᵀKη : η ∈ C} is at most this number; and a bound on its rounding error."""
        return self.atom.support(u)

    def pull(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N d"]:
        """Kᵀu."""
        return self.map.pull(u)

    def clip(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N r"]:
        """The nearest u of finite price."""
        return self.atom.clip(u)

    def apart(
        self, u: Float[Tensor, "N r"], eta: Float[Tensor, "N d"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """price(u) − uᵀKη ≥ 0 for η in C, with its error: what complementary slackness wants to be 0."""
        value, error = self.atom.apart(u, self.map(eta))
        return value, error + two_level_sum(u.abs() * self.map.blur(eta)) * (1 + gamma(4))

    def extent(self, like: Float[Tensor, "N d"]) -> Extent:
        """Bounds on each η_i over C, as far as C itself gives them."""
        wide = like.new_empty((len(like), 1), dtype=torch.float64).expand(like.shape)
        if isinstance(self.map, Rows):
            endless = torch.full_like(wide, torch.inf)
            return Extent(-endless, endless)
        low, high = self.atom.extent(wide)
        if isinstance(self.map, Diagonal):
            w = self.map.of(wide)
            low = torch.where(w > 0, low / w - (low / w).abs() * gamma(4), -math.inf)
            high = torch.where(w > 0, high / w + (high / w).abs() * gamma(4), math.inf)
        return Extent(low, high)

    def reach(self, like: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        """A bound on each |η_i| over C; ∞ where C gives none."""
        return self.extent(like).reach

    def highest(self, v: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """A bound on vᵀη over C, rounding included; ∞ where C gives none."""
        u = self.map.lift(v)
        if u is None:
            return torch.full_like(v[:, 0], torch.inf)
        known = u.isfinite().all(-1)
        u = torch.where(known[:, None], u, 0.0)
        value, error = self.price(u)
        return torch.where(known, value + error + gamma(8) * value.abs(), torch.inf)

    def span(self, other: ConvexSet, like: Float[Tensor, "N d"]) -> Float[Tensor, "N r"] | None:
        """How far each row of another set's map varies over this ball; None where this is no plain ball of an `Lp`."""
        if not (isinstance(self.atom, NormBall) and isinstance(self.map, Identity) and isinstance(self.atom.norm, Lp)):
            return None
        lengths = other.map.row_lengths(self.atom.norm.conjugate, like.shape[-1]).to(like.device)
        return 2 * times(self.atom.radii(like)[:, None], lengths)

    # --- membership ---------------------------------------------------------------------------------------------------

    def widths(self, reach: Float[Tensor, "N d"]) -> Float[Tensor, "N b"]:
        """How wide C is along each row, for |η_i| ≤ reach_i: the unit of its violation; 0 or ∞ where C gives none."""
        return self.atom.widths(self.map.absolute(reach))

    def valid(self, like: Float[Tensor, "N d"]) -> Bool[Tensor, " N"]:
        """Whether the numbers of each item describe a set."""
        r = self.map.rows(like.shape[-1])
        return self.atom.valid(like.new_empty((len(like), 1), dtype=torch.float64).expand(-1, r))

    def excess(self, eta: Float[Tensor, "N d"], aux: Tensor | None = None) -> Float[Tensor, "N b"]:
        """How far η is beyond each row, in units of that row; ≤ 0 inside."""
        return self.atom.excess(self.map(eta.to(torch.float64)), aux)

    def blur(self, eta: Float[Tensor, "N d"], aux: Tensor | None = None) -> Float[Tensor, "N b"]:
        """What rounding can do to `excess`."""
        return self.atom.blur(self.map(eta), self.map.blur(eta), aux)

    def equalities(self, eta: Float[Tensor, "N d"], aux: Tensor | None = None) -> Equalities | None:
        """The rows that are equalities in some item, where η alone does not give them coordinate by coordinate."""
        if not self.atom.separable or isinstance(self.map, Identity):
            return None
        rows = self.map(eta)
        low, high = self.atom.extent(rows)
        equal = low == high
        some = equal.any(0)
        if not bool(some.any()):
            return None
        table = self.map.table(eta.shape[1]).to(eta.device)[..., some, :]
        equal, off = equal[:, some], (rows - low)[:, some]
        if not bool(equal.all()):
            table, off = torch.where(equal[..., None], table, 0.0), torch.where(equal, off, 0.0)
        return table, None, off

    def violation(self, eta: Float[Tensor, "N d"], aux: Tensor | None = None) -> Float[Tensor, " N"]:
        """How far η is outside, in units of the row that is violated most; 0 inside, NaN for NaN."""
        return self.excess(eta, aux).amax(-1).clamp_min(0)

    def contains_ray(self, ray: Float[Tensor, "N d"]) -> Bool[Tensor, " N"]:
        """Whether η + t·ray stays in C for every η in C and t ≥ 0, for certain."""
        return self.atom.recedes(self.map(ray), self.map.blur(ray))

    # --- the same set for other items, after a step, in other units ---------------------------------------------------

    def take(self, rows: Int[Tensor, " M"]) -> ConvexSet:
        """The set of these items; what serves all items stays."""
        return self._as(self.atom.take(rows), self.map.take(rows))

    def __getitem__(self, rows: Any) -> ConvexSet:
        return self.take(torch.as_tensor(rows))

    def shifted(self, total: Float[Tensor, "N d"]) -> ConvexSet:
        """C − e = {η : e + η ∈ C}: what is left of C after a total perturbation e."""
        return self._as(self.atom.moved(-self.map(total.to(torch.float64))), self.map)

    def scaled(self, by: Float[Tensor, " N"]) -> ConvexSet:
        """by·C, for positive numbers: C in other units of η."""
        return self._as(self.atom.scaled(by), self.map)

    def _as(self, atom: Atom, map: Map) -> ConvexSet:
        return self if atom is self.atom and map is self.map else replaced(self, atom=atom, map=map)

    # --- CVXPY --------------------------------------------------------------------------------------------------------

    def parameters(self, n: int, d: int) -> dict[str, np.ndarray]:
        """The numbers in the text of C, one row an item."""
        return {**self.map.parameters(n, d), **self.atom.parameters(n, self.map.rows(d))}

    def text(self, eta: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        """CVXPY constraints that say η ∈ C, with `parameters` as numbers or as `cvxpy.Parameter`s."""
        return self.atom.text(self.map.text(eta, parameters), parameters)

    def constraints(self, eta: cp.Expression, i: int = 0, n: int = 1) -> list[cp.Constraint]:
        """CVXPY constraints that say η ∈ C for item i of n, as on paper."""
        return self.text(eta, {name: rows[i] for name, rows in self.parameters(n, eta.size).items()})


Equalities = tuple[Tensor, Tensor | None, Tensor]
"""(K, A, off): rows of η and of the set's own unknowns, and by how much they are missed."""

Inverse = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class _Equations:
    """The equality rows of all sets that no single coordinate settles, as one system in (η, the sets' own unknowns)."""

    table: Float[Tensor, "M m D"]  # 0 in the columns of fixed coordinates; M = 1 where it serves all items
    off: Float[Tensor, "N m"]  # by how much η misses them
    size: Float[Tensor, "N m"]  # Σ|K_ij||η_j|, what rounding in `off` is relative to
    starts: np.ndarray  # where the unknowns of each set begin among the D columns

    @staticmethod
    def of(sets: tuple[ConvexSet, ...], extent: Extent, point: Point) -> _Equations | None:
        eta, d = point.eta, point.eta.shape[1]
        found = [item.equalities(eta, aux) for item, aux in zip(sets, point.aux, strict=True)]
        rows = [(j, *one) for j, one in enumerate(found) if one is not None]
        if not rows:
            return None
        fixed = extent.low == extent.high
        fixed = fixed[:1] if bool((fixed == fixed[:1]).all()) else fixed
        starts = np.cumsum([d, *(0 if aux is None else aux.shape[1] for aux in point.aux)])
        tables, sizes = [], []
        for j, K, A, off in rows:
            size = (K.abs() @ eta.abs()[..., None]).squeeze(-1).expand(off.shape)
            x = point.aux[j]
            sizes.append(size if A is None or x is None else size + (A.abs() @ x.abs()[..., None]).squeeze(-1))
            wide = torch.nn.functional.pad(torch.where(fixed[:, None], 0.0, K), (0, int(starts[-1]) - d))
            if A is not None:
                wide[..., starts[j] : starts[j + 1]] = A
            tables.append(wide)
        most = max(map(len, tables))
        whole = torch.cat([part.expand(most, -1, -1) for part in tables], 1)
        whole = whole[:1] if bool((whole == whole[:1]).all()) else whole  # one factorization serves all
        return _Equations(whole, torch.cat([off for *_, off in rows], 1), torch.cat(sizes, 1), starts)


def met(sets: tuple[ConvexSet, ...], extent: Extent, point: Point, inverse: Inverse = torch.linalg.pinv) -> Point:
    """The nearest point within the bounds on each coordinate, moved onto the other equality rows by least squares."""
    eta = torch.minimum(torch.maximum(point.eta, extent.low), extent.high)
    system = _Equations.of(sets, extent, Point(eta, point.aux))
    if system is None:
        return Point(eta, point.aux)
    step = (inverse(system.table) @ system.off[..., None]).squeeze(-1)
    starts = system.starts
    aux = [a if a is None else a - step[:, starts[j] : starts[j + 1]] for j, a in enumerate(point.aux)]
    return Point(eta - step[:, : eta.shape[1]], tuple(aux))


def drift(sets: tuple[ConvexSet, ...], extent: Extent, point: Point, inverse: Inverse = torch.linalg.pinv) -> Point:
    """How far from a point, entry by entry, one is at which the equality rows hold exactly; ∞ where that is not known.

    With P near K⁺ and ‖KP − I‖_∞ ≤ ½, the system Kδ = −r has the solution δ = −P(KP)⁻¹r, and |δ| ≤ 2|P|·‖r‖_∞.
    """
    system = _Equations.of(sets, extent, point)
    if system is None:
        return Point(torch.zeros_like(point.eta), tuple(None if x is None else torch.zeros_like(x) for x in point.aux))
    K, off, size, d = system.table, system.off, system.size, system.table.shape[-1]
    alike = torch.zeros_like(off, dtype=torch.bool)
    if len(K) == 1:  # an equation that stands twice is one
        first = _firsts(K[0])
        again = first != torch.arange(len(first), device=first.device)
        alike = (again & (off == off[:, first])).all(0).expand_as(off)
        K = torch.where(alike[:1, :, None], 0.0, K)
    P, used = inverse(K), (K != 0).any(-1).to(K)
    wrong = (K @ P - torch.diag_embed(used)).abs() + gamma(d + 2) * (K.abs() @ P.abs())
    close = (wrong * used[:, None] * used[..., None]).sum(-1).amax(-1) <= 0.5
    lost = ((used == 0) & (off != 0) & ~alike).any(-1)
    missed = (off.abs() + gamma(d + 4) * (2 * size + off.abs())).amax(-1)
    far = 2 * (1 + gamma(d)) * (P.abs() @ used[..., None]).squeeze(-1) * missed[:, None]
    far = torch.where((close & ~lost)[:, None], far, torch.inf)
    starts = system.starts
    aux = [None if x is None else far[:, starts[j] : starts[j + 1]] for j, x in enumerate(point.aux)]
    return Point(far[:, : starts[0]], tuple(aux))


def _firsts(table: Float[Tensor, "m d"]) -> Int[Tensor, " m"]:
    """For each row the first that is the same."""
    _, kind = torch.unique(table, dim=0, return_inverse=True)
    places = torch.arange(len(table), device=table.device)
    return torch.full_like(places, len(table)).scatter_reduce(0, kind, places, "amin")[kind]


ATOMS: set[type[Atom]] = {Interval, NormBall}
MAPS: set[type[Map]] = {Identity, Diagonal, Rows}


def relative(
    excess: Float[Tensor, "N b"], blur: Float[Tensor, "N b"], unit: Float[Tensor, "N b"]
) -> Float[Tensor, "N b"]:
    """Violations in units of their rows; without a unit, what rounding explains is forgiven and the rest is ∞."""
    known = (unit > 0) & (unit < math.inf)
    beyond = torch.where(excess <= blur, 0.0, torch.where(excess.isnan(), excess, math.inf))
    return torch.where(known, ratio(excess.clamp_min(0), unit), beyond)
