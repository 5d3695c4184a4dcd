"""What is true of a program in plain numbers. No line is shared with the package.

`exactly` enumerates, in rationals, the corners of the arrangement of all rows, kinks and coordinate planes: linear
sets, and at most three entries. `by_root` takes one ball and boxes, to 40 digits. `by_solver` gives anything to CVXPY
and Clarabel. `stretched` is for (9).
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import cvxpy as cp
import mpmath
import numpy as np
from numpy.typing import NDArray

from verification.judge.spec import Part, Spec

__all__ = ["answer", "by_root", "by_solver", "distance", "exactly", "polyhedral", "scale", "stretched", "value_at"]

Array = NDArray[np.float64]
Row = tuple[list[Fraction], Fraction]  # a, b of aᵀη ≤ b
FAR = Fraction(10) ** 30  # an optimum out there is none
INF = math.inf


# --- a set as rows ---------------------------------------------------------------------------------------------------


def _matrix(part: Part, d: int) -> list[list[Fraction]]:
    if part.rows is None:
        return [[Fraction(int(i == j)) for j in range(d)] for i in range(d)]
    return [[Fraction(entry) for entry in row] for row in part.rows]


def polyhedral(spec: Spec) -> bool:
    """Whether all sets are made of rows: bounds, and norms of p = 1 and p = ∞ without groups."""
    linear = all(part.p in (None, 1, INF) and not part.groups for part in spec.parts)
    return linear and (spec.kind != "min_norm" or spec.p in (1, INF))


def _rows(part: Part, d: int) -> list[Row]:
    """The part as aᵀη ≤ b."""
    K = _matrix(part, d)
    if part.p is None:
        above = [(row, Fraction(b)) for row, b in zip(K, part.high, strict=True) if b < INF]
        below = [([-x for x in row], -Fraction(b)) for row, b in zip(K, part.low, strict=True) if b > -INF]
        return above + below
    r, centre = Fraction(part.radius), [Fraction(c) for c in part.centre]
    if part.p == INF:
        signs: Iterable[tuple[int, ...]] = [
            tuple(s * int(k == i) for k in range(len(K))) for i in range(len(K)) for s in (1, -1)
        ]
    else:
        signs = itertools.product((1, -1), repeat=len(K))
    rows = []
    for sign in signs:
        a = [sum((s * row[j] for s, row in zip(sign, K, strict=True)), Fraction(0)) for j in range(d)]
        rows.append((a, r + sum((s * c for s, c in zip(sign, centre, strict=True)), Fraction(0))))
    return rows


def _planes(spec: Spec) -> list[Row]:
    """Where the objective may have its kinks, and the coordinate planes, one of which any line meets."""
    d = spec.d
    unit = [[Fraction(int(i == j)) for j in range(d)] for i in range(d)]
    zero = Fraction(0)
    kinks = [(row, zero) for row in unit]
    if spec.kind == "hinges":
        kinks += [([Fraction(x) for x in a], -Fraction(c)) for c, a in zip(spec.value, spec.gradient, strict=True)]
    if spec.kind == "min_norm" and spec.p == INF:
        pairs = itertools.combinations(range(d), 2)
        kinks += [([unit[i][k] + s * unit[j][k] for k in range(d)], zero) for i, j in pairs for s in (1, -1)]
    return kinks


def _solve(rows: Sequence[Row]) -> list[Fraction] | None:
    """The point where d rows meet, by elimination; None where they do not meet in one point."""
    table = [[*a, b] for a, b in rows]
    d = len(table)
    for k in range(d):
        pivot = next((i for i in range(k, d) if table[i][k] != 0), None)
        if pivot is None:
            return None
        table[k], table[pivot] = table[pivot], table[k]
        table[k] = [x / table[k][k] for x in table[k]]
        for i in range(d):
            if i != k and table[i][k] != 0:
                table[i] = [x - table[i][k] * y for x, y in zip(table[i], table[k], strict=True)]
    return [row[-1] for row in table]


def _dot(a: Iterable[Any], b: Iterable[Any]) -> Any:
    return sum((x * y for x, y in zip(a, b, strict=True)), 0 * Fraction(0))


def value_at(spec: Spec, eta: Sequence[Any]) -> Any:
    """The objective at η, in the arithmetic of η; the length of (8) for p = 1 and ∞ only."""
    if spec.kind == "hinges":
        rows = zip(spec.value, spec.gradient, strict=True)
        return sum((max(Fraction(0), Fraction(c) + _dot(map(Fraction, a), eta)) for c, a in rows), Fraction(0))
    if spec.kind == "min_norm":
        return sum(map(abs, eta)) if spec.p == 1 else max(map(abs, eta))
    return Fraction(spec.value) + _dot(map(Fraction, spec.gradient), eta)


def exactly(spec: Spec) -> tuple[str, float]:
    """(status, optimum) in rationals; the status is OPTIMAL, INFEASIBLE or UNBOUNDED."""
    d = spec.d
    rows = [row for part in spec.parts for row in _rows(part, d)]
    if spec.kind == "min_norm":
        rows.append(([Fraction(x) for x in spec.gradient], -Fraction(spec.value)))
    walls = [([Fraction(s * int(i == j)) for j in range(d)], FAR) for i in range(d) for s in (1, -1)]
    best: tuple[Any, bool] | None = None
    for chosen in itertools.combinations([*rows, *_planes(spec), *walls], d):
        point = _solve(chosen)
        if point is None or any(_dot(a, point) > b for a, b in itertools.chain(rows, walls)):
            continue
        found = value_at(spec, point)
        outside = any(abs(x) == FAR for x in point)
        if best is None or (found, outside) < best:
            best = found, outside
    if best is None:
        return "INFEASIBLE", INF
    return ("UNBOUNDED", -INF) if best[1] else ("OPTIMAL", _float(best[0]))


def _float(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return INF if x > 0 else -INF


# --- one ball and boxes, to 40 digits --------------------------------------------------------------------------------


def _one_ball(spec: Spec) -> Part | None:
    balls = [part for part in spec.parts if part.p is not None]
    plain = all(part.rows is None and not part.groups for part in spec.parts)
    if (
        not plain
        or len(balls) > 1
        or any(any(part.centre) for part in balls)
        or spec.kind not in ("gnii", "gn", "min_norm")
    ):
        return None
    return balls[0] if balls else Part(p=None)


def by_root(spec: Spec) -> tuple[str, float] | None:
    """(status, optimum) for one centred ball and boxes; None where the program is no such."""
    ball = _one_ball(spec)
    if ball is None or (spec.kind == "min_norm" and ball.p is not None):
        return None
    with mpmath.workdps(40):
        low, high = _bounds(spec)
        if any(a > b for a, b in zip(low, high, strict=True)):
            return "INFEASIBLE", INF
        g = [mpmath.mpf(x) for x in spec.gradient]
        near = [min(max(mpmath.mpf(0), a), b) for a, b in zip(low, high, strict=True)]
        if spec.kind == "min_norm":
            return _shortest(spec, g, low, high, near)
        return _lowest(spec, ball, g, low, high, near)


def _bounds(spec: Spec) -> tuple[list[Any], list[Any]]:
    low, high = [mpmath.mpf("-inf")] * spec.d, [mpmath.mpf("inf")] * spec.d
    for part in spec.parts:
        if part.p is None:
            low = [max(a, mpmath.mpf(b)) for a, b in zip(low, part.low, strict=True)]
            high = [min(a, mpmath.mpf(b)) for a, b in zip(high, part.high, strict=True)]
    return low, high


def _length(x: Iterable[Any], p: float) -> Any:
    parts = [abs(entry) for entry in x]
    top = max(parts)
    if p == INF or top == 0 or mpmath.isinf(top):
        return top
    return top * mpmath.fsum((a / top) ** mpmath.mpf(p) for a in parts) ** (1 / mpmath.mpf(p))


def _along(y: Any, g: list[Any], p: float, low: list[Any], high: list[Any]) -> list[Any]:
    """The point of the path at y: each entry goes against its slope, within its bounds."""
    point = []
    for c, a, b in zip(g, low, high, strict=True):
        size = (
            mpmath.mpf(0)
            if c == 0
            else mpmath.exp(y)
            if p == INF
            else mpmath.exp(y) * abs(c) ** (1 / mpmath.mpf(p - 1))
        )
        point.append(min(max(-mpmath.sign(c) * size, a), b))
    return point


def _bisected(test: Callable[[Any], bool]) -> Any:
    """The y at which the test turns true."""
    low, high = mpmath.mpf(-3000), mpmath.mpf(3000)
    for _ in range(160):
        middle = (low + high) / 2
        low, high = (low, middle) if test(middle) else (middle, high)
    return low


def _corner(g: list[Any], low: list[Any], high: list[Any], near: list[Any]) -> list[Any]:
    rows = zip(g, low, high, near, strict=True)
    return [a if c > 0 else b if c < 0 else n for c, a, b, n in rows]


def _linear(L: float, g: list[Any], point: list[Any]) -> Any:
    return mpmath.mpf(L) + mpmath.fsum(c * x for c, x in zip(g, point, strict=True) if c != 0)


def _lowest(
    spec: Spec, ball: Part, g: list[Any], low: list[Any], high: list[Any], near: list[Any]
) -> tuple[str, float]:
    p, r = ball.p, ball.radius
    if p is not None and _length(near, p) > r:
        return "INFEASIBLE", INF
    point = _corner(g, low, high, near)
    if p is not None and _length(point, p) > r:
        if p == 1:
            point = _budget(mpmath.mpf(r), g, low, high, near)
        else:
            y = _bisected(lambda y: _length(_along(y, g, p, low, high), p) > r)
            point = _along(y, g, p, low, high)
    found = _linear(spec.value, g, point)
    return ("UNBOUNDED", -INF) if found == -mpmath.inf else ("OPTIMAL", float(found))


def _budget(r: Any, g: list[Any], low: list[Any], high: list[Any], near: list[Any]) -> list[Any]:
    """p = 1: spend what is left on the steepest entries first."""
    point, left = list(near), r - mpmath.fsum(map(abs, near))
    for i in sorted(range(len(g)), key=lambda i: -abs(g[i])):
        end = low[i] if g[i] > 0 else high[i]
        if g[i] == 0:
            continue
        toward_zero = point[i] != 0 and (point[i] > 0) == (g[i] > 0)
        move = min(abs(end - point[i]), left) if not toward_zero else mpmath.mpf(0)
        point[i] += -mpmath.sign(g[i]) * move
        left -= move
    return point


def _shortest(spec: Spec, g: list[Any], low: list[Any], high: list[Any], near: list[Any]) -> tuple[str, float]:
    p = spec.p
    if _linear(spec.value, g, near) <= 0:
        return "OPTIMAL", float(_length(near, p))
    if _linear(spec.value, g, _corner(g, low, high, near)) > 0:
        return "INFEASIBLE", INF
    if p == 1:
        return _cheapest(spec, g, low, high, near)
    y = _bisected(lambda y: _linear(spec.value, g, _along(y, g, p, low, high)) <= 0)
    return "OPTIMAL", float(_length(_along(y, g, p, low, high), p))


def _cheapest(spec: Spec, g: list[Any], low: list[Any], high: list[Any], near: list[Any]) -> tuple[str, float]:
    """p = 1: the steepest entries first, until L + gᵀη = 0."""
    point, need = list(near), _linear(spec.value, g, near)
    for i in sorted(range(len(g)), key=lambda i: -abs(g[i])):
        if g[i] == 0 or need <= 0 or (point[i] != 0 and (point[i] > 0) == (g[i] > 0)):
            continue
        end = low[i] if g[i] > 0 else high[i]
        move = min(abs(end - point[i]), need / abs(g[i]))
        point[i] += -mpmath.sign(g[i]) * move
        need -= abs(g[i]) * move
    return "OPTIMAL", float(_length(point, 1))


# --- anything, by a conic solver --------------------------------------------------------------------------------------


def _pnorm(x: Any, p: float) -> Any:
    return cp.pnorm(x, p)  # type: ignore[arg-type]


def _text(part: Part, eta: cp.Variable) -> list[cp.Constraint]:
    image = eta if part.rows is None else np.array(part.rows) @ eta
    if part.p is None:
        low, high = np.array(part.low), np.array(part.high)
        below, above = np.flatnonzero(low > -INF), np.flatnonzero(high < INF)
        return ([image[below] >= low[below]] if below.size else []) + (
            [image[above] <= high[above]] if above.size else []
        )
    away = image - np.array(part.centre)
    if part.groups:
        names = sorted(set(part.groups))
        lengths = cp.hstack([cp.norm(away[[i for i, g in enumerate(part.groups) if g == name]], 2) for name in names])
        return [_pnorm(lengths, part.p) <= part.radius]
    return [_pnorm(away, part.p) <= part.radius]


def by_solver(spec: Spec) -> tuple[str, float]:
    """(status, optimum) by CVXPY and Clarabel, good to about 1e-7; the status is FAILED where the solver gives up."""
    eta = cp.Variable(spec.d)
    rows = [row for part in spec.parts for row in _text(part, eta)]
    if spec.kind == "hinges":
        goal = cp.sum(cp.pos(np.array(spec.value) + np.array(spec.gradient) @ eta))
    elif spec.kind == "min_norm":
        goal = _pnorm(eta, spec.p)
        rows.append(spec.value + np.array(spec.gradient) @ eta <= 0)
    else:
        goal = spec.value + np.array(spec.gradient) @ eta
    problem = cp.Problem(cp.Minimize(goal), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        except cp.SolverError:
            return "FAILED", math.nan
    names = {cp.OPTIMAL: "OPTIMAL", cp.INFEASIBLE: "INFEASIBLE", cp.UNBOUNDED: "UNBOUNDED"}
    status = names.get(problem.status, "FAILED")
    return status, float(problem.value) if problem.value is not None else math.nan


# --- (9) -------------------------------------------------------------------------------------------------------------


def stretched(spec: Spec) -> float:
    """max ‖Jη‖₂ over the ball: by corners, columns or singular values; else, for two entries, by a search of angles."""
    J, (part,) = np.array(spec.gradient, dtype=float), spec.parts
    p, r = part.p, part.radius
    if p == 1:
        return float(r * np.linalg.norm(J, axis=0).max())
    if p == 2:
        return float(r * np.linalg.norm(J, 2))
    if p == INF:
        corners = np.array(list(itertools.product((-1.0, 1.0), repeat=spec.d)))
        return float(r * np.linalg.norm(corners @ J.T, axis=1).max())
    if spec.d != 2:
        raise ValueError(f"p = {p} is for two entries only, got {spec.d}")
    angle = np.linspace(0, math.pi, 400_001)
    eta = np.stack([np.cos(angle), np.sin(angle)])
    eta = eta / np.linalg.norm(eta, p, axis=0)
    return float(r * np.linalg.norm(J @ eta, axis=0).max())


# --- and what a claim is measured against -----------------------------------------------------------------------------


def answer(spec: Spec) -> tuple[str, float]:
    """(status, optimum) by the best oracle that there is; (GN) is asked for its least value."""
    if spec.kind == "operator":
        return "OPTIMAL", stretched(spec)
    if polyhedral(spec) and spec.d <= 3:
        return exactly(spec)
    return by_root(spec) or by_solver(spec)


def scale(spec: Spec) -> float:
    """What the sets let gᵀη vary, the least that one of them says, summed over hinges; ∞ where none says."""
    slopes = spec.gradient if spec.kind == "hinges" else [spec.gradient]
    return float(
        sum(min((_varies(part, np.array(g, dtype=float)) for part in spec.parts), default=INF) for g in slopes)
    )


def _varies(part: Part, g: Array) -> float:
    if part.rows is not None or part.groups:
        return INF
    if part.p is None:
        width = np.array(part.high) - np.array(part.low)
        return float(sum(abs(c) * w for c, w in zip(g, width, strict=True) if c))
    q = {1.0: INF, INF: 1.0}.get(float(part.p)) or part.p / (part.p - 1)
    return float(2 * part.radius * np.linalg.norm(g, q))


def distance(spec: Spec, eta: Array) -> float:
    """How far η is outside: the worst row, each in its own unit; ∞ for a row that is not met and has none."""
    return max((_outside(part, spec.parts, eta) for part in spec.parts), default=0.0)


def _outside(part: Part, parts: tuple[Part, ...], eta: Array) -> float:
    image = eta if part.rows is None else np.array(part.rows) @ eta
    if part.p is not None:
        away = image - np.array(part.centre)
        if part.groups:
            away = np.array([np.linalg.norm(away[np.array(part.groups) == name]) for name in sorted(set(part.groups))])
        over = float(np.linalg.norm(away, part.p)) - part.radius
        return 0.0 if over <= 0 else over / part.radius if part.radius else INF
    worst = 0.0
    for i, (z, a, b) in enumerate(zip(image, part.low, part.high, strict=True)):
        over = max(a - z, z - b)
        if over > 0:
            row = np.eye(len(eta))[i] if part.rows is None else np.array(part.rows[i])
            others = [_varies(other, row) for other in parts if other is not part]
            unit = b - a if 0 < b - a < INF else min(others, default=INF)
            unit = unit if unit < INF else max(abs(x) for x in (a, b) if abs(x) < INF)
            worst = max(worst, over / unit if unit > 0 else INF)
    return worst
