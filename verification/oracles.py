"""Judges that share no line with what they judge: HiGHS by scipy, SCS, enumeration of vertices, rational numbers, 50 digits, root finding.

All take NumPy arrays and numbers of one item, none a program of the library. The two minima are scaled so that
|g_i| ≤ 1 and the length is about 1, because every solver here stops at an absolute tolerance.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fractions import Fraction

import cvxpy as cp
import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog

__all__ = [
    "digits_dot",
    "digits_dual",
    "digits_norm",
    "feasible_by_cone",
    "least_by_cone",
    "least_by_linprog",
    "least_by_root",
    "rational",
    "rational_dot",
    "shortest_by_cone",
    "shortest_by_linprog",
    "shortest_by_root",
    "vertices",
]  # fmt: skip

Array = NDArray[np.float64]
SCS = {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 20_000}
CLARABEL = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
HIGHS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
DIGITS = 50


# --- linear programs: p = 1 and p = ∞ -------------------------------------------------------------------------------


def least_by_linprog(g: Array, p: float, radius: float, low: Array | None = None, high: Array | None = None) -> float:
    """min gᵀη over ‖η‖_p ≤ radius and low ≤ η ≤ high, p ∈ {1, ∞}; NaN where there is no such η."""
    top, low, high = _units(g, radius, low, high)
    c = g / top
    if p == math.inf:
        low, high = np.maximum(low, -1), np.minimum(high, 1)
        found = linprog(c, bounds=np.stack([low, high], axis=1), options=HIGHS) if (low <= high).all() else None
    else:
        split = np.hstack([np.eye(len(g)), -np.eye(len(g))])  # η = a − b, a, b ≥ 0, Σ(a + b) ≤ 1
        rows, limits = _finite_rows([(split, high), (-split, -low), (np.ones((1, 2 * len(g))), np.ones(1))])
        found = linprog(np.concatenate([c, -c]), A_ub=rows, b_ub=limits, options=HIGHS)
    return top * radius * found.fun if found is not None and found.status == 0 else math.nan


def shortest_by_linprog(value: float, g: Array, p: float, low: Array | None = None, high: Array | None = None) -> float:
    """min ‖η‖_p over value + gᵀη ≤ 0 and low ≤ η ≤ high, p ∈ {1, ∞}; NaN where there is no such η."""
    unit, need, c, low, high = _reach(value, g, low, high)
    d = len(g)
    eye, one = np.eye(d), np.ones((d, 1))
    if p == math.inf:  # minimize t: −t ≤ η_i ≤ t
        rows, limits = _finite_rows([
            (np.hstack([eye, -one]), np.zeros(d)), (np.hstack([-eye, -one]), np.zeros(d)), (np.append(c, 0.0)[None], np.array([-need])),
            (np.hstack([eye, 0 * one]), high), (np.hstack([-eye, 0 * one]), -low),
        ])  # fmt: skip
        found = linprog(np.append(np.zeros(d), 1.0), A_ub=rows, b_ub=limits, bounds=[(None, None)] * d + [(0, None)], options=HIGHS)
    else:
        split = np.hstack([eye, -eye])
        rows, limits = _finite_rows([(np.concatenate([c, -c])[None], np.array([-need])), (split, high), (-split, -low)])
        found = linprog(np.ones(2 * d), A_ub=rows, b_ub=limits, options=HIGHS)
    return unit * found.fun if found.status == 0 else math.nan


# --- conic programs: 1 < p < ∞ --------------------------------------------------------------------------------------


def least_by_cone(g: Array, p: float, radius: float, low: Array | None = None, high: Array | None = None) -> float:
    """min gᵀη over ‖η‖_p ≤ radius and low ≤ η ≤ high by SCS, 1 < p < ∞; NaN where there is no such η."""
    top, low, high = _units(g, radius, low, high)
    u = cp.Variable(len(g))
    return top * radius * _conic(cp.Problem(cp.Minimize((g / top) @ u), [*_within(u, p, 1.0), *_box(u, low, high)]))


def shortest_by_cone(value: float, g: Array, p: float, low: Array | None = None, high: Array | None = None) -> float:
    """min ‖η‖_p over value + gᵀη ≤ 0 and low ≤ η ≤ high by SCS, 1 < p < ∞; NaN where there is no such η."""
    unit, need, c, low, high = _reach(value, g, low, high)
    u, t = cp.Variable(len(g)), cp.Variable()
    return unit * _conic(cp.Problem(cp.Minimize(t), [need + c @ u <= 0, *_within(u, p, t), *_box(u, low, high)]))


def feasible_by_cone(value: float, g: Array, p: float, radius: float) -> bool:
    """Whether L + gᵀη < 0 somewhere in the ball, by the sign of the least value. A conic solver can tell that only away from a tie."""
    return value + least_by_cone(g, p, radius) < 0


def _within(u: cp.Variable, p: float, t: float | cp.Variable) -> list[cp.Constraint]:
    """‖u‖_p ≤ t as Σ_i w_i ≤ t, |u_i|^p ≤ w_i t^{p−1}: one three-dimensional power cone a coordinate."""
    if p == 2:
        return [cp.SOC(cp.Constant(1.0) * t, u)]
    w = cp.Variable(u.size)
    return [cp.PowCone3D(w, t * np.ones(u.size), u, 1 / p), cp.sum(w) <= t]


def _box(u: cp.Variable, low: Array, high: Array) -> list[cp.Constraint]:
    below, above = np.isfinite(low), np.isfinite(high)
    return ([u[below] >= low[below]] if below.any() else []) + ([u[above] <= high[above]] if above.any() else [])


def _conic(problem: cp.Problem) -> float:
    """The optimum, NaN if there is no feasible point, ∞ if nobody can tell. Where SCS goes in circles, Clarabel answers."""
    for solver, options in ((cp.SCS, SCS), (cp.CLARABEL, CLARABEL)):
        with warnings.catch_warnings(action="ignore", category=UserWarning), suppress(cp.SolverError):
            problem.solve(solver=solver, warm_start=False, **options)
            if problem.status == cp.OPTIMAL:
                return float(problem.value)
            if problem.status == cp.INFEASIBLE:
                return math.nan
    return math.inf


# --- one equation in one unknown: a box as well, 1 < p ≤ ∞ (derived in with_box.py) ---------------------------------


def least_by_root(g: Array, p: float, radius: float, low: Array, high: Array) -> float:
    """min gᵀη over ‖η‖_p ≤ radius and low ≤ η ≤ high from the root of Σ_i |η_i(y)|^p = radius^p; NaN where there is no such η."""
    top, low, high = _units(g, radius, low, high)
    c = g / top
    nearest = np.clip(0.0, low, high)
    if np.linalg.norm(nearest, p) > 1:
        return math.nan
    corner = np.where(c > 0, low, np.where(c < 0, high, nearest))
    if p == math.inf:
        return top * radius * float(c @ np.clip(-np.sign(c), low, high))
    best = corner
    if np.linalg.norm(corner, p) > 1:
        best = _path(_root(lambda y: float(np.linalg.norm(_path(y, c, p, low, high), p)) - 1), c, p, low, high)
    return top * radius * float(c @ best)


def shortest_by_root(value: float, g: Array, p: float, low: Array, high: Array) -> float:
    """min ‖η‖_p over value + gᵀη ≤ 0 and low ≤ η ≤ high from the root of value + gᵀη(y) = 0; NaN where there is no such η."""
    unit, need, c, low, high = _reach(value, g, low, high)
    nearest = np.clip(0.0, low, high)
    if need + c @ nearest <= 0:
        return unit * float(np.linalg.norm(nearest, p))
    if need + c @ np.where(c > 0, low, np.where(c < 0, high, nearest)) > 0:
        return math.nan
    y = _root(lambda y: -need - float(c @ _path(y, c, p, low, high)))
    return unit * float(np.linalg.norm(_path(y, c, p, low, high), p))


def _path(y: float, c: Array, p: float, low: Array, high: Array) -> Array:
    """clip(−sign(c_i) e^y |c_i|^{q−1}, low_i, high_i), q − 1 = 1/(p − 1)."""
    with np.errstate(divide="ignore", over="ignore"):
        size = np.exp(y + np.log(np.abs(c)) / (p - 1)) if p < math.inf else np.where(c != 0, np.exp(y), 0.0)
    return np.asarray(np.clip(-np.sign(c) * size, low, high))


def _root(f: Callable[[float], float]) -> float:
    return float(brentq(f, -5000.0, 5000.0, xtol=1e-15, rtol=4 * np.finfo(float).eps, maxiter=500))


# --- scales ---------------------------------------------------------------------------------------------------------


def _units(g: Array, radius: float, low: Array | None, high: Array | None) -> tuple[float, Array, Array]:
    """max |g_i| (1 for g = 0), and the box in units of the radius."""
    free = np.full(len(g), np.inf)
    return float(np.abs(g).max()) or 1.0, -free if low is None else low / radius, free if high is None else high / radius


def _reach(value: float, g: Array, low: Array | None, high: Array | None) -> tuple[float, float, Array, Array, Array]:
    """(unit, need, c, low, high): need + cᵀu ≤ 0 with |c_i| ≤ 1, η = unit·u, and u about 1."""
    top = float(np.abs(g).max()) or 1.0
    unit = abs(value) / top or 1.0
    free = np.full(len(g), np.inf)
    return unit, value / (top * unit), g / top, -free if low is None else low / unit, free if high is None else high / unit


def _finite_rows(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    rows, limits = np.vstack([a for a, _ in parts]), np.concatenate([b for _, b in parts])
    keep = np.isfinite(limits)
    return rows[keep], limits[keep]


# --- vertices and rational numbers ----------------------------------------------------------------------------------


def rational(x: Iterable[float]) -> list[Fraction]:
    """Every floating-point number is a rational one."""
    return [Fraction(float(entry)) for entry in x]


def rational_dot(a: Iterable[Fraction], b: Iterable[Fraction]) -> Fraction:
    return sum((s * t for s, t in zip(a, b, strict=True)), Fraction(0))


def vertices(p: float, d: int, radius: Fraction) -> Iterator[list[Fraction]]:
    """The corners of the ℓ1 ball (2d of them) or of the ℓ∞ ball (2^d)."""
    if p == math.inf:
        yield from (list(corner) for corner in itertools.product((-radius, radius), repeat=d))
    else:
        yield from ([sign * radius if i == k else Fraction(0) for i in range(d)] for k in range(d) for sign in (-1, 1))


# --- fifty digits ---------------------------------------------------------------------------------------------------


def digits_norm(x: Iterable[float], p: float) -> mpmath.mpf:
    """‖x‖_p to 50 digits. For p = 1.01 or π it is the exponent as stored that counts, here and in the library."""
    with mpmath.workdps(DIGITS):
        entries = [abs(mpmath.mpf(float(entry))) for entry in x]
        if p == math.inf:
            return max(entries)
        return mpmath.fsum(entry ** mpmath.mpf(p) for entry in entries if entry) ** (1 / mpmath.mpf(p))


def digits_dual(g: Iterable[float], p: float) -> mpmath.mpf:
    """‖g‖_q to 50 digits, q = p/(p − 1) for the p that is stored."""
    with mpmath.workdps(DIGITS):
        entries = [abs(mpmath.mpf(float(entry))) for entry in g]
        if p == 1:
            return max(entries)
        q = mpmath.mpf(1) if p == math.inf else mpmath.mpf(p) / (mpmath.mpf(p) - 1)
        return mpmath.fsum(entry**q for entry in entries if entry) ** (1 / q)


def digits_dot(a: Iterable[float], b: Iterable[float]) -> mpmath.mpf:
    with mpmath.workdps(DIGITS):
        return mpmath.fsum(mpmath.mpf(float(s)) * mpmath.mpf(float(t)) for s, t in zip(a, b, strict=True))
