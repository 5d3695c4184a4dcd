"""Programs and claims in plain numbers: what the oracles read, and what the package is asked to build from them.

A program is `gnii(0, [3, 4], ball(2, 0.5))`, a claim `optimal([-0.3, -0.4], [-3, -4])`: η, then one multiplier for each
set, in its rows. Nothing here decides anything.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

import convexattack as ca

__all__ = [
    "INF", "NAN", "Part", "Piece", "Said", "Spec", "affine", "ball", "box", "bracketed", "custom", "feasible", "gn",
    "gnii", "group", "halfspaces", "hinges", "infeasible", "interval_rows", "min_norm", "off_centre", "operator",
    "optimal", "pixels", "said", "solved", "support", "total_variation", "unbounded", "undecided", "weighted",
]  # fmt: skip

INF, NAN = math.inf, math.nan
Numbers = Sequence[float]
Table = Sequence[Numbers]
WIDE = torch.float64


def tensor(entries: Any, dtype: torch.dtype = WIDE) -> Tensor:
    """The numbers as a tensor of one item."""
    return torch.tensor([entries], dtype=dtype)


@dataclass(frozen=True)
class Part:
    """One constraint: low ≤ Kη ≤ high where p is None, else ‖Kη − centre‖_p ≤ radius.

    `rows` is K, None for the identity; with `groups` it is the ℓ_p of their ℓ2 lengths.
    """

    rows: tuple[tuple[float, ...], ...] | None = None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    p: float | None = None
    radius: float = 0.0
    centre: tuple[float, ...] = ()
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A set: how the package makes it, what it is in numbers, and how many rows its multiplier has (None: unknown)."""

    words: str
    make: Callable[[int], Any]
    parts: Callable[[int], tuple[Part, ...]]
    rows: Callable[[int], int | None]


def _wide(entry: float | Numbers, d: int) -> tuple[float, ...]:
    return (float(entry),) * d if isinstance(entry, int | float) else tuple(map(float, entry))


def _table(rows: Table) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)


def _diagonal(w: Numbers) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(w[i]) if i == j else 0.0 for j in range(len(w))) for i in range(len(w)))


def _norm(p: float) -> ca.Lp:
    return ca.Lp(p)


def ball(p: float, radius: float = 1.0) -> Piece:
    """‖η‖_p ≤ radius."""
    return Piece(
        f"ball {p:g}",
        lambda d: ca.Ball(_norm(p), radius),
        lambda d: (Part(p=p, radius=radius, centre=(0.0,) * d),),
        lambda d: d,
    )


def box(low: float | Numbers, high: float | Numbers) -> Piece:
    """low ≤ η ≤ high, given as tensors, so that an empty box is an item's matter and not the call's."""
    return Piece(
        "box",
        lambda d: ca.Box(tensor(_wide(low, d)), tensor(_wide(high, d))),
        lambda d: (Part(low=_wide(low, d), high=_wide(high, d)),),
        lambda d: d,
    )


def pixels(x: Numbers, low: float = 0.0, high: float = 1.0) -> Piece:
    """low ≤ x + η ≤ high at the image x."""
    return Piece(
        "pixel range",
        lambda d: ca.PixelRange(low, high).at(tensor(x)),
        lambda d: (Part(low=tuple(low - a for a in x), high=tuple(high - a for a in x)),),
        lambda d: d,
    )


def support(mask: Sequence[bool]) -> Piece:
    """Only the marked entries may change."""
    ends = tuple(INF if free else 0.0 for free in mask)
    return Piece(
        "support",
        lambda d: ca.Support(torch.tensor(mask)),
        lambda d: (Part(low=tuple(0.0 - end for end in ends), high=ends),),
        lambda d: d,
    )


def weighted(p: float, weights: Numbers, radius: float) -> Piece:
    """‖w∗η‖_p ≤ radius."""
    return Piece(
        f"weighted ball {p:g}",
        lambda d: ca.WeightedBall(_norm(p), torch.tensor(weights, dtype=WIDE), radius),
        lambda d: (Part(rows=_diagonal(weights), p=p, radius=radius, centre=(0.0,) * d),),
        lambda d: d,
    )


def group(labels: Sequence[int], radius: float, outer: float = 1.0) -> Piece:
    """ℓ_outer of the groups' ℓ2 lengths at most radius."""
    return Piece(
        "group ball",
        lambda d: ca.GroupBall(torch.tensor(labels), radius, outer=outer),
        lambda d: (Part(p=outer, radius=radius, centre=(0.0,) * d, groups=tuple(labels)),),
        lambda d: d,
    )


def total_variation(shape: tuple[int, int], radius: float) -> Piece:
    """The sum of all differences of neighbours, downwards and to the right, at most radius."""
    h, w = shape
    at = {(i, j): i * w + j for i in range(h) for j in range(w)}
    pairs = [(at[i, j], at[i + 1, j]) for i in range(h - 1) for j in range(w)]
    pairs += [(at[i, j], at[i, j + 1]) for i in range(h) for j in range(w - 1)]
    rows = tuple(tuple(float((k == b) - (k == a)) for k in range(h * w)) for a, b in pairs)
    return Piece(
        "total variation",
        lambda d: ca.TotalVariation(shape, radius),
        lambda d: (Part(rows=rows, p=1, radius=radius, centre=(0.0,) * len(rows)),),
        lambda d: len(rows),
    )


def affine(rows: Table, right: Numbers) -> Piece:
    """Aη = b."""
    return Piece(
        "equalities",
        lambda d: ca.Affine(torch.tensor(rows, dtype=WIDE), torch.tensor(right, dtype=WIDE)),
        lambda d: (Part(rows=_table(rows), low=tuple(right), high=tuple(right)),),
        lambda d: len(rows),
    )


def halfspaces(rows: Table, right: Numbers) -> Piece:
    """Aη ≤ b."""
    return Piece(
        "halfspaces",
        lambda d: ca.Halfspaces(torch.tensor(rows, dtype=WIDE), torch.tensor(right, dtype=WIDE)),
        lambda d: (Part(rows=_table(rows), low=(-INF,) * len(rows), high=tuple(right)),),
        lambda d: len(rows),
    )


def interval_rows(rows: Table, low: Numbers, high: Numbers) -> Piece:
    """low ≤ Kη ≤ high, from a public atom and a public map."""
    return Piece(
        "interval rows",
        lambda d: ca.ConvexSet(
            ca.atoms.Interval(tensor(list(low)), tensor(list(high))), ca.maps.Rows(torch.tensor(rows, dtype=WIDE))
        ),
        lambda d: (Part(rows=_table(rows), low=tuple(low), high=tuple(high)),),
        lambda d: len(rows),
    )


def off_centre(p: float, radius: float, centre: Numbers) -> Piece:
    """‖η − centre‖_p ≤ radius, from a public atom and a public map."""
    return Piece(
        f"ball {p:g} off centre",
        lambda d: ca.ConvexSet(
            ca.atoms.NormBall(_norm(p), radius, centre=torch.tensor(centre, dtype=WIDE)), ca.maps.Identity()
        ),
        lambda d: (Part(p=p, radius=radius, centre=tuple(map(float, centre))),),
        lambda d: d,
    )


def custom(text: Callable[..., list[Any]], same: Piece) -> Piece:
    """A user's CVXPY text that says what `same` says; only the package knows its rows."""
    return Piece("custom", lambda d: ca.CustomSet(text), same.parts, lambda d: None)


# --- programs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """One item of a program: its kind, L and g (c and A for hinges, J for (9)), its sets, and p of (8)'s objective."""

    kind: str
    value: Any
    gradient: Any
    sets: tuple[Piece, ...] = ()
    p: float = 2.0
    dtype: torch.dtype = WIDE

    @property
    def d(self) -> int:
        """How many entries η has."""
        return len(self.gradient if self.kind in ("gnii", "gn", "min_norm") else self.gradient[0])

    @property
    def parts(self) -> tuple[Part, ...]:
        """All constraints, in numbers."""
        return tuple(part for piece in self.sets for part in piece.parts(self.d))

    def of(self, dtype: torch.dtype) -> Spec:
        """The same in another dtype."""
        return replace(self, dtype=dtype)

    def build(self) -> Any:
        """The program of the package."""
        sets = tuple(piece.make(self.d) for piece in self.sets)
        gradient = tensor(self.gradient, self.dtype)
        if self.kind == "operator":
            return ca.OperatorNorm(gradient, sets[0])
        value = tensor(self.value, self.dtype)
        if self.kind == "min_norm":
            return ca.MinNorm(value, gradient, _norm(self.p), sets)
        kind: Any = {"gnii": ca.GNII, "gn": ca.GN, "hinges": ca.HingeSum}[self.kind]
        return kind(value, gradient, sets)

    @property
    def shapes(self) -> list[tuple[int, ...]] | None:
        """The shapes of one item's multipliers; None where only the package knows them."""
        rows = [piece.rows(self.d) for piece in self.sets]
        if self.kind == "operator":
            return [(self.d,), (len(self.gradient), 1)]
        if any(r is None for r in rows):
            return None
        first: dict[str, list[tuple[int, ...]]] = {"min_norm": [()], "hinges": [(len(self.gradient),)]}
        return [*first.get(self.kind, []), *((r,) for r in rows if r is not None)]


def gnii(value: float, gradient: Numbers, *sets: Piece) -> Spec:
    """minimize L + gᵀη."""
    return Spec("gnii", value, tuple(gradient), sets)


def gn(value: float, gradient: Numbers, *sets: Piece) -> Spec:
    """Find η with L + gᵀη < 0."""
    return Spec("gn", value, tuple(gradient), sets)


def min_norm(value: float, gradient: Numbers, p: float, *sets: Piece) -> Spec:
    """minimize ‖η‖_p subject to L + gᵀη ≤ 0."""
    return Spec("min_norm", value, tuple(gradient), sets, p)


def hinges(value: Numbers, gradient: Table, *sets: Piece) -> Spec:
    """minimize Σ_i max(0, c_i + a_iᵀη)."""
    return Spec("hinges", tuple(value), _table(gradient), sets)


def operator(jacobian: Table, piece: Piece) -> Spec:
    """maximize ‖Jη‖₂."""
    return Spec("operator", None, _table(jacobian), (piece,))


@cache
def solved(spec: Spec) -> ca.Solution | None:
    """What the package finds, once for all claims about it; None where it raises, which is another test's matter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ca.solve(spec.build())
            _ = found.multipliers
            return found
    except Exception:
        return None


# --- claims ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What is claimed of one item. `u` None: the multipliers that `ca.solve` finds, or zeros where it finds none."""

    status: str
    eta: tuple[float, ...]
    u: tuple[Any, ...] | None = None
    inside: tuple[float, ...] | None = None
    witness: Any = None
    ray: tuple[float, ...] | None = None
    dtype: torch.dtype = WIDE

    def of(self, dtype: torch.dtype) -> Said:
        """The same η in another dtype."""
        return replace(self, dtype=dtype)

    def solution(self, spec: Spec) -> ca.Solution:
        """The claim as the package takes it."""
        extra = {name: entry for name, entry in self._extra().items() if entry is not None}
        code = torch.tensor([ca.Status[self.status].code], dtype=torch.int8)
        return ca.Solution(tensor(self.eta, self.dtype), code, self._multipliers(spec), **extra)

    def _extra(self) -> dict[str, Any]:
        return {
            "inside": None if self.inside is None else tensor(self.inside),
            "witness": self.witness,
            "ray": None if self.ray is None else tensor(self.ray),
        }

    def _multipliers(self, spec: Spec) -> tuple[Tensor, ...]:
        if self.u is not None:
            return tuple(tensor(entry) for entry in self.u)
        found = solved(spec)
        if found is None:
            raise ValueError("the package finds no multipliers here: write some")
        return tuple(found.multipliers)


def said(status: str, eta: Numbers, *u: Any, **more: Any) -> Said:
    """A claim of any status; without u the multipliers of `ca.solve`."""
    return Said(status, tuple(map(float, eta)), tuple(u) or None, **more)


def optimal(eta: Numbers, *u: Any, **more: Any) -> Said:
    """η is claimed optimal."""
    return said("OPTIMAL", eta, *u, **more)


def feasible(eta: Numbers, *u: Any, **more: Any) -> Said:
    """η is claimed to satisfy (GN)."""
    return said("FEASIBLE", eta, *u, **more)


def infeasible(d: int, *u: Any, **more: Any) -> Said:
    """It is claimed that there is no η."""
    return said("INFEASIBLE", [NAN] * d, *u, **more)


def unbounded(eta: Numbers, ray: Numbers, *u: Any, **more: Any) -> Said:
    """The objective is claimed to fall without end, from η along `ray`."""
    return said("UNBOUNDED", eta, *u, ray=tuple(map(float, ray)), **more)


def undecided(eta: Numbers, *u: Any, **more: Any) -> Said:
    """It is claimed that float64 cannot tell whether (GN) is feasible."""
    return said("UNDECIDED", eta, *u, **more)


def bracketed(eta: Numbers, *u: Any, **more: Any) -> Said:
    """(9): η is claimed to lie in the ball, and the bound to hold."""
    return said("BRACKETED", eta, *u, **more)
