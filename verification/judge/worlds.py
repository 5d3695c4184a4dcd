"""Random programs in numbers, many at once: ties, zeros, tight boxes, sets that touch, units of 1e±12, four dtypes.

Most are made of eighths, so that what touches does so exactly; the others are Gaussian. `World.build` asks the package
for the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cvxpy as cp
import numpy as np
import torch

import convexattack as ca

__all__ = ["DTYPES", "Array", "Shape", "World", "drawn", "narrowed"]

Array = Any  # a NumPy array of floats or bools; its shape is said where it counts
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INF = math.inf


def _tensor(x: Array, dtype: torch.dtype = torch.float64) -> Any:
    return torch.tensor(np.ascontiguousarray(x)).to(dtype)


@dataclass(frozen=True)
class Shape:
    """One set for N items: a name, and its numbers, one row an item."""

    name: str
    p: float = 2.0
    radius: Array = None
    low: Array = None
    high: Array = None
    rows: Array = None
    fixed: Array = None  # a mask, weights or labels, the same for all items

    def make(self) -> Any:
        """The set of the package."""
        given: list[Any] = [self.radius, self.low, self.high, self.rows]
        made: list[Any] = [None if x is None else _tensor(x) for x in given]
        r, low, high, rows = made
        match self.name:
            case "ball":
                return ca.Ball(ca.Lp(self.p), r)
            case "box":
                return ca.Box(low, high)
            case "halfspaces":
                return ca.Halfspaces(rows, high)
            case "equalities":
                return ca.Affine(rows, high)
            case "support":
                return ca.Support(torch.tensor(self.fixed == 1))
            case "weighted":
                return ca.WeightedBall(ca.Lp(self.p), _tensor(np.asarray(self.fixed)), r)
            case "group":
                return ca.GroupBall(torch.tensor(np.asarray(self.fixed, dtype=int)), r, outer=self.p)
            case "variation":
                return ca.TotalVariation((1, self._d), r)
            case "rows":
                return ca.ConvexSet(ca.atoms.Interval(low, high), ca.maps.Rows(rows[0]))
        return ca.CustomSet(lambda eta, edge: [cp.abs(eta) <= edge], {"edge": self.radius})

    @property
    def _d(self) -> int:
        return len(np.asarray(self.fixed))

    def take(self, k: Any) -> Shape:
        """The set of these items."""
        return self._each(("radius", "low", "high", "rows"), lambda x: x[k])

    def times(self, s: Array) -> Shape:
        """The set in other units."""
        return self._each(("radius", "low", "high"), lambda x: x * (s if x.ndim == 1 else s[:, None]))

    def _each(self, names: tuple[str, ...], change: Callable[[Array], Array]) -> Shape:
        parts: dict[str, Any] = {name: change(x) for name in names if (x := getattr(self, name)) is not None}
        return replace(self, **parts)

    def planes(self, n: int, d: int) -> list[tuple[Array, Array]]:
        """(A, b) of Aη ≤ b, (N, m, d) and (N, m), for what is made of rows; ∞ where there is none."""
        eye = np.broadcast_to(np.eye(d), (n, d, d))
        if self.name in ("box", "rows"):
            A = eye if self.rows is None else self.rows
            return [(A, np.asarray(self.high)), (-A, -np.asarray(self.low))]
        if self.name == "support":
            zero = np.where(self.fixed == 1, INF, 0.0) * np.ones((n, 1))
            return [(eye, zero), (-eye, zero)]
        if self.name == "halfspaces":
            return [(np.asarray(self.rows), np.asarray(self.high))]
        if self.name == "equalities":
            A, b = np.asarray(self.rows), np.asarray(self.high)
            return [(A, b), (-A, -b)]
        return self._norm_planes(n, d)

    def _norm_planes(self, n: int, d: int) -> list[tuple[Array, Array]]:
        if self.disk:
            return []
        K = np.eye(d)
        if self.name == "weighted":
            K = np.diag(np.asarray(self.fixed))
        if self.name == "variation":
            K = np.diff(np.eye(d), axis=0)
        every = self.name != "text" and (self.name == "variation" or self.p == 1)
        signs = (
            np.array(np.meshgrid(*[[-1.0, 1.0]] * len(K))).reshape(len(K), -1).T
            if every
            else np.vstack([np.eye(len(K)), -np.eye(len(K))])
        )
        A = np.broadcast_to(signs @ K, (n, len(signs), d))
        return [(A, np.broadcast_to(np.asarray(self.radius)[:, None], A.shape[:2]))]

    @property
    def disk(self) -> bool:
        """Whether it is a ball of ℓ2."""
        whole = self.name == "group" and len(set(np.asarray(self.fixed).tolist())) == 1
        return whole or (self.name == "ball" and self.p == 2)

    def varies(self, g: Array) -> Array:
        """σ(g) + σ(−g) of each item, g (N, d); ∞ where it is not known."""
        if self.name == "box":
            width = np.asarray(self.high) - np.asarray(self.low)
            return np.asarray(np.where(g != 0, np.abs(g) * width, 0.0).sum(1))
        if self.name == "text":
            return 2 * np.abs(g).sum(1) * np.asarray(self.radius)
        if self.name in ("ball", "weighted", "group"):
            p = 2.0 if self.disk else self.p
            q = INF if p == 1 else 1.0 if p == INF else p / (p - 1)
            w = np.asarray(self.fixed) if self.name == "weighted" else 1.0
            return np.asarray(2 * np.asarray(self.radius) * np.linalg.norm(g / w, q, axis=1))
        return np.full(len(g), INF)


@dataclass(frozen=True)
class World:
    """N programs in numbers.

    Attributes:
        kind: gnii, gn, min_norm, hinges or operator.
        value, gradient: L and g; c and A for hinges; for (9) the gradient is J.
        shapes: the sets.
        p: of the norm of (8).
        dtype: of the program.
        eighths: whether the data are such that what touches does so exactly.
        unit: the unit of η, of each item (a power of two); `slope` is that of g.
        broken: items whose data will be given a NaN or an ∞: nothing is true of them.
    """

    kind: str
    value: Array
    gradient: Array
    shapes: tuple[Shape, ...]
    p: float
    dtype: torch.dtype
    eighths: bool
    unit: Array
    slope: Array
    broken: Array

    def __len__(self) -> int:
        return len(self.gradient)

    @property
    def d(self) -> int:
        return int(self.gradient.shape[-1])

    def take(self, k: Any) -> World:
        """These items."""
        fields = {name: getattr(self, name)[k] for name in ("value", "gradient", "unit", "slope", "broken")}
        return replace(self, shapes=tuple(shape.take(k) for shape in self.shapes), **fields)

    def build(self) -> Any:
        """The program of the package, in its units."""
        sets = tuple(shape.times(self.unit).make() for shape in self.shapes)
        wide = (slice(None),) + (None,) * (self.gradient.ndim - 1)
        gradient = _tensor(self.gradient * self.slope[wide], self.dtype)
        if self.kind == "operator":
            gradient[torch.tensor(self.broken)] = math.nan
            return ca.OperatorNorm(gradient, sets[0])
        rise = self.unit * self.slope
        value = _tensor(self.value * (rise if self.value.ndim == 1 else rise[:, None]), self.dtype)
        value[torch.tensor(self.broken)] = math.nan
        if self.kind == "min_norm":
            return ca.MinNorm(value, gradient, ca.Lp(self.p), sets)
        kind: Any = {"gnii": ca.GNII, "gn": ca.GN, "hinges": ca.HingeSum}[self.kind]
        return kind(value, gradient, sets)

    def varies(self) -> Array:
        """What the sets let the objective vary, in units of 1; ∞ where none says."""
        if self.kind == "operator":
            return np.full(len(self), INF)
        slopes = self.gradient if self.kind == "hinges" else self.gradient[:, None]
        each = [self._least(slopes[:, k]) for k in range(slopes.shape[1])]
        return np.asarray(np.sum(each, axis=0))

    def _least(self, g: Array, skip: Shape | None = None) -> Array:
        known = [shape.varies(g) for shape in self.shapes if shape is not skip]
        return np.asarray(np.min(known, axis=0)) if known else np.full(len(g), INF)

    def outside(self, eta: Array) -> Array:
        """How far η (in units of 1) is outside: the worst row in its own unit; ∞ for one that has none, and for NaN."""
        worst = np.zeros(len(self))
        for shape in self.shapes:
            worst = np.maximum(worst, self._beyond(shape, eta))
        return np.where(np.isfinite(eta).all(1), worst, INF)

    def _beyond(self, shape: Shape, eta: Array) -> Array:
        if shape.radius is not None:
            length = np.linalg.norm(eta, shape.p, axis=1)
            if shape.name == "weighted":
                length = np.linalg.norm(eta * shape.fixed, shape.p, axis=1)
            if shape.name == "variation":
                length = np.abs(np.diff(eta, axis=1)).sum(1)
            if shape.name == "text":
                length = np.abs(eta).max(1)
            if shape.disk:
                length = np.linalg.norm(eta, axis=1)
            return _over(length - shape.radius - 1e-13 * np.abs(eta).max(1), shape.radius)
        worst = np.zeros(len(self))
        for A, b in shape.planes(len(self), self.d):
            for i in range(A.shape[1]):
                over = np.einsum("nd,nd->n", A[:, i], eta) - b[:, i]
                width = np.full(len(self), INF)
                if shape.name in ("box", "rows"):
                    width = np.asarray(shape.high)[:, i] - np.asarray(shape.low)[:, i]
                others = self._least(np.ascontiguousarray(A[:, i]), shape)
                unit = np.where((width > 0) & (width < INF), width, np.where(others < INF, others, np.abs(b[:, i])))
                size = np.abs(A[:, i] * eta).sum(1)  # what the sum itself rounds
                worst = np.maximum(worst, _over(over - 1e-13 * size, unit))
        return worst


def _over(over: Array, unit: Array) -> Array:
    """over/unit, 0 inside, ∞ where the unit is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(over > 1e-13 * np.maximum(unit, 1e-300), np.where(unit > 0, over / unit, INF), 0.0)


# --- drawing ---------------------------------------------------------------------------------------------------------


def _numbers(rng: np.random.Generator, shape: Sequence[int], eighths: bool, top: float = 2.0) -> Array:
    """Eighths with zeros and ties, or Gaussian numbers."""
    if not eighths:
        return rng.standard_normal(shape) * top / 2
    coarse = rng.integers(-int(top), int(top) + 1, shape).astype(float)
    fine = rng.integers(-int(8 * top), int(8 * top) + 1, shape) / 8
    return np.where(rng.random(shape) < 0.5, coarse, fine)


def _positive(rng: np.random.Generator, n: int, eighths: bool) -> Array:
    """Radii, a few of them 0."""
    if not eighths:
        return rng.uniform(0.1, 2, n)
    return np.where(rng.random(n) < 0.03, 0.0, rng.integers(1, 17, n) / 8)


def _box(rng: np.random.Generator, n: int, d: int, eighths: bool) -> Shape:
    """A box, often flat, one-sided or away from 0; now and then empty."""
    low, width = _numbers(rng, (n, d), eighths), np.abs(_numbers(rng, (n, d), eighths))
    around = rng.random((n, 1)) < 0.6
    low = np.where(around, -np.abs(low), low)
    high = np.where(around, np.abs(_numbers(rng, (n, d), eighths)), low + width)
    high = np.where(rng.random((n, d)) < 0.1, INF, high)
    low = np.where(rng.random((n, d)) < 0.1, -INF, low)
    return Shape("box", low=low, high=high)


def _shape(rng: np.random.Generator, name: str, n: int, d: int, eighths: bool, ps: Sequence[float]) -> Shape:
    p, radius = float(rng.choice(ps)), _positive(rng, n, eighths)
    match name:
        case "box":
            return _box(rng, n, d, eighths)
        case "halfspaces" | "equalities" | "rows":
            r = 1 if name == "equalities" else int(rng.integers(1, 3))
            rows = _numbers(rng, (1 if name == "rows" else n, r, d), eighths)
            rows[..., 0] = np.where(np.abs(rows).max(-1) == 0, 1.0, rows[..., 0])
            right = _numbers(rng, (n, r), eighths)
            if name == "rows":
                return Shape(
                    name, low=-np.abs(right), high=np.abs(_numbers(rng, (n, r), eighths)), rows=np.repeat(rows, n, 0)
                )
            return Shape(name, high=right, rows=rows)
        case "support":
            return Shape(name, fixed=np.append(rng.integers(0, 2, d - 1), 1).astype(float))
        case "weighted":
            return Shape(name, p=float(rng.choice([1.0, INF])), radius=radius, fixed=2.0 ** rng.integers(-2, 3, d))
        case "group":
            whole = rng.random() < 0.5 and d == 2
            labels = np.zeros(d) if whole else np.arange(d, dtype=float)
            return Shape(name, p=1.0 if not whole or rng.random() < 0.5 else INF, radius=radius, fixed=labels)
        case "variation":
            return Shape(name, p=1.0, radius=radius, fixed=np.zeros(d))
        case "text":
            return Shape(name, p=INF, radius=radius)
    return Shape("ball", p=p, radius=radius)


ROWS = ("ball", "box", "halfspaces", "equalities", "support", "weighted", "group", "variation", "rows")


def drawn(rng: np.random.Generator, n: int, kind: str, room: str, texts: bool = False) -> World:
    """N programs of one kind: one ball and a box ("ball"), or rows and two or three entries ("plane", "space")."""
    eighths = bool(rng.random() < 0.75)
    d = {"plane": 2, "space": 3}.get(room) or int(rng.integers(2, 9))
    if kind == "operator":
        return _operator(rng, n, eighths)
    ps: Sequence[float] = {"plane": (1.0, 2.0, INF), "space": (1.0, INF)}.get(room) or (1.0, 1.5, 2.0, 3.0, INF)
    if room == "ball":
        names = [["ball"], ["box"], ["ball", "box"]][int(rng.integers(3))]
        if kind == "min_norm":
            names = [[], ["box"]][int(rng.integers(2))]
    else:
        names = list(rng.choice(ROWS, size=int(rng.integers(1, 4)), replace=False))
        names += ["text"] if texts else []
        if room == "space" or sum(name in ("ball", "group") for name in names) > 1:
            names = [name for name in names if name != "group"] or ["box"]
    shapes = tuple(_shape(rng, str(name), n, d, eighths, ps) for name in names)
    value, gradient = _numbers(rng, (n,), eighths, 4), _numbers(rng, (n, d), eighths)
    if kind == "hinges":
        pieces = int(rng.integers(1, 4))
        value, gradient = _numbers(rng, (n, pieces), eighths), _numbers(rng, (n, pieces, d), eighths)
    if kind == "min_norm":
        value = np.where(rng.random(n) < 0.8, np.abs(value), value)
    return _finished(
        rng,
        World(
            kind,
            value,
            gradient,
            shapes,
            float(rng.choice(ps)),
            torch.float64,
            eighths,
            np.ones(n),
            np.ones(n),
            np.zeros(n, bool),
        ),
    )


def _operator(rng: np.random.Generator, n: int, eighths: bool) -> World:
    p = float(rng.choice([1.0, 2.0, INF, 3.0]))
    d = 2 if p == 3 else int(rng.integers(2, 5))
    J = _numbers(rng, (n, int(rng.integers(1, 4)), d), eighths)
    ball = Shape("ball", p=p, radius=_positive(rng, n, eighths))
    return _finished(
        rng,
        World(
            "operator", np.zeros(n), J, (ball,), p, torch.float64, eighths, np.ones(n), np.ones(n), np.zeros(n, bool)
        ),
    )


def _finished(rng: np.random.Generator, world: World) -> World:
    """In some dtype and units, a few items broken. Numbers are rounded to the dtype before anybody sees them."""
    dtype = DTYPES[int(rng.choice(4, p=[0.55, 0.25, 0.1, 0.1]))]
    top = 2 if dtype == torch.float16 else 40
    n = len(world)
    exponents = rng.integers(-top, top + 1, (2, n)) if rng.random() < 0.5 else np.zeros((2, n))
    units = 2.0**exponents
    return replace(
        world, value=_rounded(world.value, dtype), gradient=_rounded(world.gradient, dtype), dtype=dtype, unit=units[0],
        slope=units[1], broken=rng.random(n) < 0.01,
    )  # fmt: skip


def _rounded(x: Array, dtype: torch.dtype) -> Array:
    return np.asarray(torch.tensor(x).to(dtype).double().numpy())


def narrowed(rng: np.random.Generator, world: World) -> World:
    """The same programs with other data: L shifted, g turned, or a set made narrower, after somebody solved them."""
    n, choice = len(world), int(rng.integers(4))
    if choice == 0 and world.kind != "operator":
        shift = rng.choice([-1.0, -0.125, 0.125, 1.0], (n,) + (1,) * (world.value.ndim - 1))
        return replace(world, value=_rounded(world.value + shift, world.dtype))
    if choice == 1:
        return replace(world, gradient=np.flip(world.gradient, -1).copy())
    shapes = list(world.shapes)
    if not shapes:
        return replace(world, gradient=-world.gradient)
    k = int(rng.integers(len(shapes)))
    shape, factor = shapes[k], 1.0 - 2.0 ** -float(rng.integers(1, 4))
    shapes[k] = shape.times(np.full(n, factor))
    return replace(world, shapes=tuple(shapes))
