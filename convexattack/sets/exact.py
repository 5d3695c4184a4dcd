"""Sets in exact arithmetic, one item at a time: rows, prices, membership and units, as rationals and balls.

A point is η = top/bottom: floats have bottom 1, and a point that was moved onto equality rows has the denominator of
that linear system. A comparison is True only where it is certain; what the precision cannot tell is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from flint import arb, fmpz, fmpz_mat, nmod_mat
from torch import Tensor

from convexattack.enclosures import (
    Vector,
    dot,
    dual_exponent,
    exactly,
    largest,
    least,
    length,
    minus,
    quotient,
    total,
    vector,
    weighed,
    within,
)
from convexattack.norms import Lp, Mixed
from convexattack.sets.atoms import Interval, NormBall
from convexattack.sets.base import ConvexSet
from convexattack.sets.maps import Diagonal, Identity, Rows

__all__ = ["Family", "Place", "Sets"]

ZERO, ONE = arb(0), arb(1)
MOST_EQUATIONS = 256  # equality rows that are met exactly; their system is solved in integers
PRIME = 18446744073709551557  # the largest below 2^64, to tell which rows depend on others

Table = list[list[tuple[int, arb]]]
Edges = Sequence[arb | None]


@dataclass(frozen=True, eq=False)
class Place:
    """η = top/bottom, bottom > 0."""

    top: Vector
    bottom: arb = ONE

    def towards(self, other: Place, t: arb) -> Place:
        """(1 − t)·self + t·other."""
        a, b = exactly(lambda: ((1 - t) * other.bottom, t * self.bottom))
        top = exactly(lambda: [a * x + b * y for x, y in zip(self.top, other.top, strict=True)])
        return Place(top, exactly(lambda: self.bottom * other.bottom))

    def over(self, x: arb) -> arb:
        """x/bottom, without a rounding of its own for floats."""
        return x if self.bottom == 1 else x / self.bottom

    def times(self, x: arb) -> arb:
        """x·bottom."""
        return x if self.bottom == 1 else exactly(lambda: x * self.bottom)

    def floats(self) -> Tensor:
        """The nearest float64 numbers, or nearly."""
        return torch.tensor([float(self.over(x)) for x in self.top], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class _Map:
    """K of one item: weights, or rows of (column, entry); η itself where it has neither."""

    d: int
    weights: Vector | None = None
    rows: Table | None = None

    @property
    def plain(self) -> bool:
        return self.rows is None and self.weights is None

    def __call__(self, x: Vector) -> Vector:
        """Kx."""
        if self.rows is not None:
            rows = self.rows
            return exactly(lambda: [sum((a * x[k] for k, a in row), ZERO) for row in rows])
        if self.weights is not None:
            weights = self.weights
            return exactly(lambda: [w * a for w, a in zip(weights, x, strict=True)])
        return x

    def pull(self, u: Vector) -> Vector:
        """Kᵀu."""
        if self.rows is None:
            return self(u)
        out, rows = [ZERO] * self.d, self.rows

        def add() -> Vector:
            for row, y in zip(rows, u, strict=True):
                if not y.is_zero():
                    for k, a in row:
                        out[k] = out[k] + a * y
            return out

        return exactly(add)

    def lift(self, v: Vector) -> Vector | None:
        """u with Kᵀu = v; None where there is none, or none is known."""
        if self.plain:
            return v
        if self.weights is None or any(w == 0 and not x.is_zero() for w, x in zip(self.weights, v, strict=True)):
            return None
        return [x if x == 0 else x / w for w, x in zip(self.weights, v, strict=True)]

    def row(self, k: int) -> list[tuple[int, arb]]:
        """The entries of row k."""
        return self.rows[k] if self.rows is not None else [(k, ONE if self.weights is None else self.weights[k])]


@dataclass(frozen=True, eq=False)
class _Span:
    """An `Interval`; None where a bound is infinite."""

    map: _Map
    low: list[arb | None]
    high: list[arb | None]
    text: str
    symmetric = False

    @property
    def boxy(self) -> bool:
        """Whether the set is its own extent."""
        return self.map.plain

    def clip(self, u: Vector) -> Vector:
        """The nearest u of finite price."""
        edges = zip(u, self.low, self.high, strict=True)
        return [ZERO if (high if x > 0 else low) is None else x for x, low, high in edges]

    def support(self, u: Vector) -> arb | None:
        """σ(u); None for ∞."""
        return weighed(u, self.low, self.high)

    def beyond(self, place: Place) -> list[tuple[int, arb, bool]]:
        """(row, how far it is exceeded, whether for certain) of each row that is not for certain kept."""
        found = []
        plain = place.bottom == 1
        for k, (z, low, high) in enumerate(zip(self.map(place.top), self.low, self.high, strict=True)):
            if low is not None and not z >= (a := low if plain else place.times(low)):
                found.append((k, place.over(minus(a, z)), bool(z < a)))
            if high is not None and not z <= (b := high if plain else place.times(high)):
                found.append((k, place.over(minus(z, b)), bool(z > b)))
        return found

    def room(self, place: Place, k: int) -> arb:
        """How far row k is from being exceeded."""
        z = dot((a for _, a in self.map.row(k)), (place.top[i] for i, _ in self.map.row(k)))
        ends = [(self.high[k], 1), (self.low[k], -1)]
        rooms = [place.over(exactly(lambda e=e, s=s: s * (e * place.bottom - z))) for e, s in ends if e is not None]  # type: ignore[misc]
        found = rooms[0]
        return found.min(rooms[1]) if len(rooms) > 1 else found

    def unit(self, k: int, others: Sets, place: Place) -> arb | None:
        """Of row k: its width; where that is 0 or ∞, how far the others let it vary; else the size of its bound, or, of
        a bound of 0, of what it sums at η."""
        low, high = self.low[k], self.high[k]
        if low is not None and high is not None and high > low:
            return minus(high, low)
        known = others.varies(self.map.row(k))
        bound = low if high is None else high
        if known is None and bound is not None and bound == 0:
            return place.over(exactly(lambda: sum((abs(a * place.top[i]) for i, a in self.map.row(k)), arb(0))))
        return known if known is not None else None if bound is None else abs(bound)

    def equations(self) -> Iterator[tuple[list[tuple[int, arb]], arb]]:
        """Its equality rows and their right-hand sides."""
        for k, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if low is not None and high is not None and low == high:
                yield self.map.row(k), low

    def recedes(self, ray: Vector) -> bool:
        """Whether η + t·ray stays in the set for every t ≥ 0."""
        rows = zip(self.map(ray), self.low, self.high, strict=True)
        return all((low is None or z >= 0) and (high is None or z <= 0) for z, low, high in rows)

    def extent(self) -> tuple[list[arb | None], list[arb | None]]:
        """Bounds on each η_i."""
        return _weighted(self.map, self.low, self.high)


@dataclass(frozen=True, eq=False)
class _Round:
    """A `NormBall` of an `Lp`, or of a `Mixed` with these groups of rows."""

    map: _Map
    p: float
    radius: arb
    centre: Vector | None
    groups: list[list[int]] | None
    text: str

    @property
    def symmetric(self) -> bool:
        return self.centre is None

    @property
    def boxy(self) -> bool:
        """Whether the set is its own extent."""
        return self.map.plain and self.p == float("inf") and self.groups is None

    def clip(self, u: Vector) -> Vector:
        """u: every price is finite."""
        return u

    def _size(self, z: Vector, p: float | int | arb) -> arb:
        return length(z if self.groups is None else [length([z[k] for k in group], 2) for group in self.groups], p)

    def support(self, u: Vector) -> arb | None:
        """σ(u)."""
        size = self._size(u, dual_exponent(self.p)) if self.radius > 0 else ZERO
        return dot([self.radius, *(self.centre or [])], [size, *(u if self.centre else [])])

    def _away(self, place: Place) -> Vector:
        z, c = self.map(place.top), self.centre
        return z if c is None else exactly(lambda: [x - place.bottom * m for x, m in zip(z, c, strict=True)])

    def beyond(self, place: Place) -> list[tuple[int, arb, bool]]:
        """(0, how far the radius is exceeded, whether for certain), if it is not for certain kept."""
        z, radius = self._away(place), place.times(self.radius)
        if self.groups is None:
            inside = within(z, self.p, radius)
        else:
            squares = exactly(lambda: [sum((z[k] ** 2 for k in group), ZERO) for group in self.groups or []])
            inside = within(squares, self.p, radius, 2)
        return [] if inside else [(0, place.over(minus(self._size(z, self.p), radius)), inside is False)]

    def room(self, place: Place, k: int) -> arb:
        """How far the radius is from being exceeded."""
        return self.radius - place.over(self._size(self._away(place), self.p))

    def unit(self, k: int, others: Sets, place: Place) -> arb | None:
        """The radius."""
        return self.radius

    def equations(self) -> Iterator[tuple[list[tuple[int, arb]], arb]]:
        """None."""
        return iter(())

    def recedes(self, ray: Vector) -> bool:
        """Whether η + t·ray stays in the set for every t ≥ 0."""
        return all(z == 0 for z in self.map(ray))

    def extent(self) -> tuple[list[arb | None], list[arb | None]]:
        """Bounds on each η_i."""
        if self.centre is None or self.map.rows is not None:
            n = self.map.d
            return _weighted(self.map, [-self.radius] * n, [self.radius] * n)
        ends = exactly(lambda: [(c - self.radius, c + self.radius) for c in self.centre or []])
        return _weighted(self.map, [a for a, _ in ends], [b for _, b in ends])


def _weighted(map: _Map, low: Edges, high: Edges) -> tuple[list[arb | None], list[arb | None]]:
    """Bounds on η from bounds on Kη."""
    if map.rows is not None:
        return [None] * map.d, [None] * map.d
    if map.weights is None:
        return list(low), list(high)
    pairs = [
        [None if e is None or w == 0 else e / w for w, e in zip(map.weights, ends, strict=True)] for ends in (low, high)
    ]
    return pairs[0], pairs[1]


@dataclass(frozen=True, eq=False)
class Sets:
    """The sets of one item."""

    parts: list[_Span | _Round]
    d: int

    @cached_property
    def extent(self) -> tuple[list[arb | None], list[arb | None]]:
        """Bounds on each η_i that the sets imply together."""
        if len(self.parts) == 1:
            return self.parts[0].extent()
        ends = [part.extent() for part in self.parts]
        none: list[arb | None] = [None] * self.d
        low = [_extreme(bounds, arb.max) for bounds in zip(*(a for a, _ in ends), strict=True)] or none
        high = [_extreme(bounds, arb.min) for bounds in zip(*(b for _, b in ends), strict=True)] or none
        return low, high

    def crossed(self) -> bool:
        """Whether bounds on a coordinate exclude each other."""
        return any(a is not None and b is not None and a > b for a, b in zip(*self.extent, strict=True))

    def reach(self) -> arb:
        """The least of the known bounds on the |η_i|; 0 where there is none."""
        ends = zip(*self.extent, strict=True)
        return least(None if a is None or b is None else abs(a).max(abs(b)) for a, b in ends) or ZERO

    def centre(self) -> Place | None:
        """The middle of the extents, or nearest to 0 where one side is open. None where a bound is irrational."""
        low, high = self.extent
        if not all(end is None or end.is_exact() for end in (*low, *high)):
            return None

        def middle(a: arb | None, b: arb | None) -> arb:
            if a is not None and b is not None:
                return exactly(lambda: (a + b) * arb(0.5))
            return ZERO.max(a) if a is not None else ZERO.min(b) if b is not None else ZERO

        return Place([middle(a, b) for a, b in zip(low, high, strict=True)])

    def varies(self, row: list[tuple[int, arb]]) -> arb | None:
        """The least bound on how far a row varies: 2r‖K_i‖_q for a ball, Σ_j |K_ij|(hi_j − lo_j); None for ∞."""
        entries = [a for _, a in row]
        balls = [part for part in self.parts if isinstance(part, _Round) and part.map.plain and part.groups is None]
        known = [dot([part.radius, part.radius], [length(entries, dual_exponent(part.p))] * 2) for part in balls]
        ends = [(self.extent[0][k], self.extent[1][k]) for k, _ in row]
        widths = [None if a is None or b is None else minus(b, a).max(ZERO) for a, b in ends]
        return least([*known, weighed([abs(a) for a in entries], widths, widths)])

    def swing(self, v: Vector) -> arb | None:
        """The least known bound on how far vᵀη varies over the sets; None for ∞."""
        back = exactly(lambda: [-x for x in v])
        pairs = []
        for part in self.parts:
            if not part.boxy and (u := part.map.lift(v)) is not None:
                up = part.support(u)
                pairs.append((up, up if part.symmetric else part.support(exactly(lambda u=u: [-x for x in u]))))  # type: ignore[misc]
        if not pairs or any(part.boxy for part in self.parts):
            pairs.append((weighed(v, *self.extent), weighed(back, *self.extent)))
        found = total([least(up for up, _ in pairs), least(down for _, down in pairs)])
        return None if found is None else found.max(ZERO)

    def left(self, target: Vector, u: Sequence[Vector]) -> Vector:
        """target − Σ_j K_jᵀu_j."""
        pulls = [part.map.pull(v) for part, v in zip(self.parts, u, strict=True)]
        if not pulls:
            return target
        if len(pulls) == 1:
            return exactly(lambda: [t - x for t, x in zip(target, pulls[0], strict=True)])
        return exactly(lambda: [t - sum(parts, ZERO) for t, *parts in zip(target, *pulls, strict=True)])

    def prices(self, u: Sequence[Vector]) -> list[arb | None]:
        """σ_j(u_j)."""
        return [part.support(v) for part, v in zip(self.parts, u, strict=True)]

    def paid(self, u: Sequence[Vector], left: Vector) -> arb | None:
        """A bound on (Σ_j K_jᵀu_j + left)ᵀη over the sets: what u_j pay, and what a set or the extents pay for left."""
        prices = self.prices(u)
        if all(x == 0 for x in left):
            return total(prices)
        ways = [total([*prices, weighed(left, *self.extent)])]
        for j, (part, v) in enumerate(zip(self.parts, u, strict=True)):
            if (more := part.map.lift(left)) is not None:
                moved = exactly(lambda v=v, more=more: [a + b for a, b in zip(v, more, strict=True)])  # type: ignore[misc]
                ways.append(total([*prices[:j], part.support(moved), *prices[j + 1 :]]))
        return least(ways)

    def outside(self, place: Place) -> tuple[bool | None, arb | None, str]:
        """Whether η is in every set; how far it is out, in units of the row (None for ∞); and of what set."""
        found: list[tuple[bool | None, arb | None, str]] = []
        for j, part in enumerate(self.parts):
            rows = part.beyond(place)
            if rows:
                others = Sets(self.parts[:j] + self.parts[j + 1 :], self.d)
                far = largest([quotient(over, part.unit(k, others, place)) for k, over, _ in rows])
                found.append((False if any(sure for *_, sure in rows) else None, far, f"sets[{j}], {part.text}"))
        return worst(found)

    def met(self, place: Place) -> Place:
        """A float point moved to the nearest within the extents, and onto the equality rows by least squares."""
        low, high = self.extent
        top = list(place.top)
        for k, (a, b) in enumerate(zip(low, high, strict=True)):
            if a is not None and a.is_exact() and top[k] < a:
                top[k] = a
            if b is not None and b.is_exact() and top[k] > b:
                top[k] = b
        fixed = {
            k for k, (a, b) in enumerate(zip(low, high, strict=True)) if a is not None and b is not None and a == b
        }
        rows = [equation for part in self.parts if not part.map.plain for equation in part.equations()]
        return _projected(top, rows, fixed) if rows and len(rows) <= MOST_EQUATIONS else Place(top)


def worst(found: Sequence[tuple[bool | None, arb | None, str]]) -> tuple[bool | None, arb | None, str]:
    """All rows in one: whether inside, how far out, of what first."""
    if not found:
        return True, ZERO, ""
    surely = [entry for entry in found if entry[0] is False]
    return (False if surely else None), largest([far for _, far, _ in found]), (surely or found)[0][2]


def _extreme(bounds: Sequence[arb | None], pick: Callable[[arb, arb], arb]) -> arb | None:
    found = None
    for bound in bounds:
        found = bound if found is None else found if bound is None else pick(found, bound)
    return found


def _projected(x: Vector, rows: Sequence[tuple[list[tuple[int, arb]], arb]], fixed: set[int]) -> Place:
    """The nearest point with Kx = b, fixed coordinates staying: x − Kᵀy, KKᵀy = Kx − b, in integers."""
    off = exactly(lambda: [sum((a * x[k] for k, a in row), -b) for row, b in rows])
    if all(entry == 0 for entry in off):
        return Place(x)
    free = [[(k, a) for k, a in row if k not in fixed] for row, _ in rows]
    columns = {k: i for i, k in enumerate(sorted({k for row in free for k, _ in row}))}
    if not columns:
        return Place(x)
    K, right = fmpz_mat(len(rows), len(columns)), fmpz_mat(len(rows), 1)
    units = []
    for i, (row, o) in enumerate(zip(free, off, strict=True)):
        unit = _unit([o, *(a for _, a in row)])
        units.append(unit)
        right[i, 0] = _whole(o, unit)
        for k, a in row:
            K[i, columns[k]] = _whole(a, unit)
    used = _independent(K * K.transpose())
    K = fmpz_mat([[K[i, c] for c in range(len(columns))] for i in used])
    right = fmpz_mat([[right[i, 0]] for i in used])
    numerators, bottom = (K * K.transpose()).solve(right).numer_denom()  # type: ignore[attr-defined]
    step = K.transpose() * numerators
    D = arb(fmpz(bottom))
    top = exactly(lambda: [D * entry for entry in x])
    for k, c in columns.items():
        top[k] = exactly(lambda k=k, c=c: top[k] - arb(step[c, 0]))  # type: ignore[misc]
    return Place(top, D)


def _unit(numbers: Sequence[arb]) -> int:
    """e such that 2^e times these numbers are integers."""
    return max([0, *(-int(x.man_exp()[1]) for x in numbers if not x.is_zero())])


def _whole(x: arb, e: int) -> fmpz:
    found = exactly(lambda: x * arb(2) ** e).unique_fmpz()
    assert found is not None  # x is exact
    return found


def _independent(gram: fmpz_mat) -> list[int]:
    """Rows that do not depend on earlier ones: the pivots of KKᵀ modulo a prime."""
    n = gram.nrows()
    reduced, rank = nmod_mat([[int(entry) % PRIME for entry in row] for row in gram.tolist()], PRIME).rref()
    return [next(c for c in range(n) if int(reduced[i, c])) for i in range(rank)]


class Family:
    """The sets of a program, to be looked at item by item.

    Raises:
        ValueError: a set whose rows or prices are no formula in rationals and roots.
    """

    def __init__(self, sets: Sequence[ConvexSet], d: int) -> None:
        self.sets, self.d = tuple(sets), d
        self.tables: dict[int, Table] = {}  # rows that serve all items
        for j, item in enumerate(self.sets):
            atom, map = type(item.atom), type(item.map)
            norm = type(item.atom.norm) if isinstance(item.atom, NormBall) else Lp
            if atom not in (Interval, NormBall) or map not in (Identity, Diagonal, Rows) or norm not in (Lp, Mixed):
                raise ValueError(
                    f"exact must be False with sets[{j}], a {item.label}: its price is no formula; trust float64 there"
                )

    def item(self, i: int) -> Sets:
        """The sets of item i, whose numbers are finite."""
        one = torch.tensor([i])
        return Sets([self._part(j, item.take(one)) for j, item in enumerate(self.sets)], self.d)

    def _part(self, j: int, item: ConvexSet) -> _Span | _Round:
        map = self._map(j, item)
        like = torch.empty(1, item.map.rows(self.d), dtype=torch.float64)
        atom = item.atom
        if isinstance(atom, Interval):
            low, high = (
                [None if abs(x) == float("inf") else arb(x) for x in end[0].tolist()] for end in atom.ends(like)
            )
            text = "lower ≤ η ≤ upper" if map.plain else f"the {item.label}"
            return _Span(map, low, high, text)
        assert isinstance(atom, NormBall)
        radius, centre = arb(float(atom.radii(like))), None if atom.centre is None else vector(atom.middle(like)[0])
        if isinstance(atom.norm, Lp):
            text = f"‖η‖_{'∞' if atom.norm.p == float('inf') else f'{atom.norm.p:g}'} ≤ {float(radius):g}"
            return _Round(map, atom.norm.p, radius, centre, None, text if map.plain else f"the {item.label}")
        assert isinstance(atom.norm, Mixed)
        groups: list[list[int]] = [[] for _ in range(atom.norm.groups)]
        for k, label in enumerate(atom.norm.labels.tolist()):
            groups[label].append(k)
        return _Round(map, atom.norm.outer.p, radius, centre, groups, f"the {item.label}")

    def _map(self, j: int, item: ConvexSet) -> _Map:
        d = self.d
        if isinstance(item.map, Identity):
            return _Map(d)
        if isinstance(item.map, Diagonal):
            return _Map(d, weights=vector(item.map.of(torch.empty(1, d, dtype=torch.float64))[0]))
        assert isinstance(item.map, Rows)
        matrix = item.map.matrix
        if matrix.ndim == 3:
            return _Map(d, rows=_table(matrix[0]))
        if j not in self.tables:
            self.tables[j] = _table(matrix)
        return _Map(d, rows=self.tables[j])


def _table(matrix: object) -> Table:
    """The entries of a matrix that are not 0, row by row."""
    if isinstance(matrix, Tensor):
        return [[(k, arb(a)) for k, a in enumerate(row) if a] for row in matrix.tolist()]
    starts, columns, data = (part.tolist() for part in (matrix.indptr, matrix.indices, matrix.data))  # type: ignore[attr-defined]
    pairs = [(k, arb(a)) for k, a in zip(columns, data, strict=True)]
    return [pairs[a:b] for a, b in pairwise(starts)]
