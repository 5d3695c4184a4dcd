"""Judges that share no line with what they judge: HiGHS, SCS, enumeration, rational numbers, 50 digits, root finding.

All take NumPy arrays and numbers of one item (the enumerations for (9): of many), none a program of the library. The
two minima are scaled so that |g_i| ≤ 1 and the length is about 1, as solvers stop at absolute tolerances.
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
from scipy.linalg import svd
from scipy.optimize import brentq, linprog

__all__ = [
    "DIGITS",
    "along",
    "digits_dot",
    "digits_dual",
    "digits_norm",
    "digits_stretch",
    "expected_square",
    "feasible_by_cone",
    "least_by_cone",
    "least_by_linprog",
    "least_by_root",
    "network",
    "rational",
    "rational_dot",
    "relaxed",
    "relaxed_by_cone",
    "rounded_squares",
    "shortest_by_cone",
    "shortest_by_linprog",
    "shortest_by_root",
    "stretching",
    "stretching_column",
    "stretching_signs",
    "stretching_vector",
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
            (np.hstack([eye, -one]), np.zeros(d)), (np.hstack([-eye, -one]), np.zeros(d)),
            (np.append(c, 0.0)[None], np.array([-need])),
            (np.hstack([eye, 0 * one]), high), (np.hstack([-eye, 0 * one]), -low),
        ])  # fmt: skip
        found = linprog(
            np.append(np.zeros(d), 1.0), A_ub=rows, b_ub=limits, bounds=[(None, None)] * d + [(0, None)], options=HIGHS
        )
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
    """Whether L + gᵀη < 0 somewhere in the ball, by the sign of the least value; sure only away from a tie."""
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
    """The optimum, NaN if infeasible, ∞ if nobody can tell. Where SCS goes in circles, Clarabel answers."""
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
    """min gᵀη over ‖η‖_p ≤ radius and low ≤ η ≤ high from the root of Σ_i |η_i(y)|^p = radius^p; NaN if infeasible."""
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
    """min ‖η‖_p over value + gᵀη ≤ 0 and low ≤ η ≤ high from the root of value + gᵀη(y) = 0; NaN if infeasible."""
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


# --- the operator norm ‖J‖_{p→2} ------------------------------------------------------------------------------------


def stretching_column(J: Array) -> Array:
    """p = 1: the unit vector of the longest column, (n, m, d) → (n, d)."""
    return np.asarray(np.eye(J.shape[2])[np.linalg.norm(_scaled(J), axis=1).argmax(1)])


def stretching_vector(J: Array) -> Array:
    """p = 2: the top right singular vector, by LAPACK's dense SVD through scipy, (n, m, d) → (n, d)."""
    return np.stack([svd(A, lapack_driver="gesvd")[2][0] for A in _scaled(J)])


def stretching_signs(J: Array) -> Array:
    """p = ∞: a vertex of the cube with the longest Jη, of all 2^d but for an overall sign; (n, m, d) → (n, d)."""
    A = _scaled(J)
    n, m, d = A.shape
    best, eta = np.full(n, -1.0), np.ones((n, d))
    block = 2 ** min(d - 1, 13)
    for start in range(0, 2 ** (d - 1), block):
        bits = (np.arange(start, start + block)[:, None] >> np.arange(d)) & 1
        signs = 1.0 - 2.0 * bits
        squares = ((signs @ A.reshape(n * m, d).T).reshape(block, n, m) ** 2).sum(2)
        k = squares.argmax(0)
        top = squares[k, np.arange(n)]
        eta = np.where((top > best)[:, None], signs[k], eta)
        best = np.maximum(best, top)
    return eta


def stretching(J: Array, p: float, starts: int = 1024) -> Array:
    """1 < p < ∞: the best η of Boyd's alternation from many starts, (n, m, d) → (n, d).

    For m = 2 the starts w are a grid of half a circle, for d = 2 the starts η are: with one angle to search, nothing is
    missed. Elsewhere they are random, and η only shows that the optimum is not less.
    """
    found = []
    for A in _scaled(J):
        m, d = A.shape
        angle = np.pi * np.arange(starts) / starts
        circle = np.stack([np.cos(angle), np.sin(angle)])
        if m == 2:
            eta = along(A.T @ circle, p)
        elif d == 2:
            eta = circle / np.linalg.norm(circle, p, axis=0)
        else:
            eta = along(A.T @ np.random.default_rng(0).standard_normal((m, starts)), p)
        eta = eta[:, np.argsort(-np.linalg.norm(A @ eta, axis=0))[:32]]
        length = np.zeros(eta.shape[1])
        for _ in range(300):
            image = A @ eta
            last, length = length, np.linalg.norm(image, axis=0)
            if (length <= last * (1 + 1e-15)).all():
                break
            eta = along(A.T @ image, p)
        found.append(eta[:, np.linalg.norm(A @ eta, axis=0).argmax()])
    return np.stack(found)


def along(v: Array, p: float) -> Array:
    """sign(v)|v|^{q−1} of length ‖·‖_p = 1, the maximizer of vᵀη, by columns of v. For v = 0, all entries are equal."""
    top = np.abs(v).max(0)
    u = np.where(top > 0, v / np.where(top > 0, top, 1.0), 1.0)
    if p == math.inf:
        return np.asarray(np.where(u >= 0, 1.0, -1.0))
    step = np.sign(u) * np.abs(u) ** (1 / (p - 1))
    return np.asarray(step / np.linalg.norm(step, p, axis=0))


def digits_stretch(J: Array, eta: Array, p: float) -> mpmath.mpf:
    """‖Jη‖₂/‖η‖_p to 50 digits, of (m, d) and (d,): whatever η ≠ 0 is, ‖J‖_{p→2} is not less."""
    with mpmath.workdps(DIGITS):
        if p == math.inf and set(np.abs(eta)) == {1.0}:
            return mpmath.sqrt(
                mpmath.fsum(
                    mpmath.fsum(float(a) * s for a, s in zip(row, map(float, eta), strict=True)) ** 2 for row in J
                )
            )
        return mpmath.sqrt(mpmath.fsum(digits_dot(row, eta) ** 2 for row in J)) / digits_norm(eta, p)


def relaxed(J: Array, p: float, y: Array, F: Array) -> tuple[float, float]:
    """What (y, F) prove of the relaxation of one item, p ≥ 2, ε = 1: a value and an upper bound, in NumPy's float64."""
    q, sigma = p / (p - 1) if p < math.inf else 1.0, 1.0 if p == math.inf else math.inf if p == 2 else p / (p - 2)
    top = np.abs(J).max()
    if top == 0:
        return 0.0, 0.0
    A, y, F = J / top, y / y.max(), F / np.abs(F).max()
    used = y > 0
    high = math.inf
    if not A[:, ~used].any():
        root = A[:, used] / np.sqrt(y[used])
        high = float(np.linalg.norm(root, 2)) * math.sqrt(float(np.linalg.norm(y[used], sigma)))
    s = np.linalg.norm(F.T @ A, axis=0)
    return float(top * np.linalg.norm(s, q) / np.linalg.norm(F)), float(top * high)


def relaxed_by_cone(J: Array, p: float, form: str, solver: str) -> float:
    """The optimal value of the relaxation for ε = 1, p ≥ 2, as a bound of the norm, from one of three cone programs:

    "X", d × d: maximize ⟨JᵀJ, X⟩;  "y": minimize ‖y‖_σ, Diag(y) ⪰ JᵀJ;  "W", m × m: maximize Σ_i (j_iᵀWj_i)^{q/2}.
    """
    top = np.linalg.norm(J)
    A = J / top
    m, d = A.shape
    q, sigma = p / (p - 1) if p < math.inf else 1.0, 1.0 if p == math.inf else math.inf if p == 2 else p / (p - 2)
    if form == "X":
        X, r = cp.Variable((d, d), PSD=True), cp.Variable(d)
        limit = {2: [cp.sum(r) <= 1], math.inf: [r <= 1]}.get(p) or _within(r, p / 2, 1.0)
        problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(A.T @ A, X))), [cp.diag(X) == r, *limit])
    elif form == "y":
        y, t = cp.Variable(d), cp.Variable()
        limit = {1: [cp.sum(y) <= t, y >= 0], math.inf: [y <= t]}.get(sigma) or _within(y, sigma, t)
        problem = cp.Problem(cp.Minimize(t), [cp.diag(y) - A.T @ A >> 0, *limit])
    else:
        W, r, t = cp.Variable((m, m), PSD=True), cp.Variable(d), cp.Variable(d)
        rows = [r[i] == cp.sum(cp.multiply(np.outer(A[:, i], A[:, i]), W)) for i in range(d)]
        limit = [t == r] if q == 2 else [cp.PowCone3D(r, np.ones(d), t, q / 2)]
        problem = cp.Problem(cp.Maximize(cp.sum(t)), [*rows, *limit, cp.trace(W) == 1])
    with warnings.catch_warnings(action="ignore", category=UserWarning), suppress(cp.SolverError):
        problem.solve(solver=solver, **{"SCS": SCS, "CLARABEL": CLARABEL}[solver])
    value = max(float(problem.value), 0.0) if problem.value is not None else math.nan
    return float(top * (value ** (1 / q) if form == "W" else math.sqrt(value)))


def rounded_squares(J: Array, F: Array, rng: np.random.Generator, draws: int) -> Array:
    """‖Jη‖₂² for η = sign(JᵀFz), one for each of `draws` Gaussian z; J is (m, d), F (m, r)."""
    eta = np.sign(J.T @ (F @ rng.standard_normal((F.shape[1], draws))))
    return np.asarray(((J @ eta) ** 2).sum(0))


def expected_square(J: Array, F: Array) -> tuple[float, Array, Array]:
    """(2/π)⟨JᵀJ, arcsin[X]⟩, the mean of those squares (Grothendieck's identity); X, JᵀFz's correlations; arcsin[X]."""
    v = F.T @ J
    s = np.linalg.norm(v, axis=0)
    v = v / np.where(s > 0, s, 1.0)
    minus, plus = (np.linalg.norm(v[:, :, None] + sign * v[:, None], axis=0) for sign in (-1, 1))
    angles = np.where(
        np.outer(s, s) > 0, np.pi / 2 - 2 * np.arctan2(minus, plus), 0.0
    )  # arcsin would lose half the digits at ±1
    return float(2 / np.pi * ((J.T @ J) * angles).sum()), np.sin(angles), angles


def _scaled(J: Array) -> Array:
    top = np.abs(J).max((1, 2), keepdims=True)
    return np.asarray(J / np.where(top > 0, top, 1.0))


# --- scales ---------------------------------------------------------------------------------------------------------


def _units(g: Array, radius: float, low: Array | None, high: Array | None) -> tuple[float, Array, Array]:
    """max |g_i| (1 for g = 0), and the box in units of the radius."""
    free = np.full(len(g), np.inf)
    return (
        float(np.abs(g).max()) or 1.0,
        -free if low is None else low / radius,
        free if high is None else high / radius,
    )


def _reach(value: float, g: Array, low: Array | None, high: Array | None) -> tuple[float, float, Array, Array, Array]:
    """(unit, need, c, low, high): need + cᵀu ≤ 0 with |c_i| ≤ 1, η = unit·u, and u about 1."""
    top = float(np.abs(g).max()) or 1.0
    unit = abs(value) / top or 1.0
    free = np.full(len(g), np.inf)
    return (
        unit,
        value / (top * unit),
        g / top,
        -free if low is None else low / unit,
        free if high is None else high / unit,
    )


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


# --- a network of linear layers with ReLU between them ---------------------------------------------------------------


def network(x: Array, weights: list[Array]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """(f(x), J_f(x), which units are on), forward in NumPy; `weights` is matrix, bias, matrix, bias, …"""
    output, jacobian, signs = x, np.eye(len(x)), [np.zeros(0, dtype=bool)]
    for k, (matrix, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        if k:
            on = output > 0
            output, jacobian = output * on, jacobian * on[:, None]
            signs.append(on)
        output, jacobian = matrix @ output + bias, matrix @ jacobian
    return output, jacobian, np.concatenate(signs)


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
