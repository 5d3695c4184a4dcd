"""What the tests share: norms, sets, programs with known solutions, exact arithmetic and an oracle. One line a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

import convexattack as ca

INF = math.inf
PS = (1, 1.001, 1.01, 1.5, 2, 3, math.pi, 10, 100, 1000, 1e6, INF)
NORMS = tuple(ca.Lp(p) for p in PS)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
UNIT = dict(zip(DTYPES, (2.0**-53, 2.0**-24, 2.0**-11, 2.0**-8), strict=True))  # half a unit in the last place of 1

ORACLE = ca.Tolerance(1e-9)  # what an oracle in float64 (HiGHS, a golden-section search) is trusted to
PATHS = ca.Tolerance(1e-6)  # the agreement of closed form and conic solver in the objective
FIRST_ORDER = ca.Tolerance(1e-3)  # SCS stops early
PROVED = (ca.Status.OPTIMAL, ca.Status.FEASIBLE, ca.Status.INFEASIBLE, ca.Status.UNBOUNDED)


def rows(*entries: Sequence[float], dtype: torch.dtype = torch.float64) -> Tensor:
    """A matrix, written out."""
    return torch.tensor(entries, dtype=dtype)


def numbers(*entries: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A vector, written out."""
    return torch.tensor(entries, dtype=dtype)


def random(seed: int) -> torch.Generator:
    """The same numbers on every machine."""
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    """Gaussian numbers in float64."""
    return torch.randn(*shape, generator=random(seed), dtype=torch.float64)


# --- sets: how each is made for N items in d dimensions ---------------------------------------------------------------

SETS: dict[str, Callable[[int, int], tuple[ca.ConvexSet, ...]]] = {
    "nothing": lambda n, d: (),
    "symmetric": lambda n, d: (ca.Box(-0.3, 0.3),),
    "lopsided": lambda n, d: (ca.Box(-normal(1, n, d).abs(), normal(2, n, d).abs()),),
    "one-sided": lambda n, d: (ca.Box(-INF, 0.2),),
    "unbounded": lambda n, d: (ca.Box(-INF, INF),),
    "flat": lambda n, d: (ca.Box(torch.zeros(d), (torch.arange(d) % 2).double()),),
    "without zero": lambda n, d: (ca.Box(0.05 + 0.1 * (torch.arange(d) % 3 == 0), 0.6),),
    "two boxes": lambda n, d: (ca.Box(-0.4, 0.2), ca.Box(-0.2, 0.4)),
    "pixels": lambda n, d: (ca.PixelRange(0.0, 1.0).at(torch.rand(n, d, generator=random(3))),),
    "small cube": lambda n, d: (ca.Ball(ca.Lp(INF), 0.25),),
}


CATALOGUE: dict[str, Callable[[int, int], tuple[ca.ConvexSet, ...]]] = {
    "affine": lambda n, d: (ca.Affine(normal(4, 2, d), 0.1),),
    "affine by item": lambda n, d: (ca.Affine(normal(4, n, 1, d), 0.1 * normal(5, n, 1)), ca.Box(-1.0, 1.0)),
    "halfspaces": lambda n, d: (ca.Halfspaces(normal(4, 3, d), 0.2), ca.Box(-0.5, 1.0)),
    "support": lambda n, d: (ca.Support(torch.arange(d) % 3 != 1), ca.Box(-0.4, 0.6)),
    "weighted ball": lambda n, d: (ca.WeightedBall(ca.Lp(2), 0.1 + normal(4, d).abs(), 0.6),),
    "weighted cube": lambda n, d: (ca.WeightedBall(ca.Lp(INF), 0.1 + normal(4, d).abs(), 0.3), ca.Box(-1.0, 0.5)),
    "groups": lambda n, d: (ca.GroupBall(torch.arange(d) // 3, 0.5), ca.Box(-1.0, 1.0)),
    "each group a little": lambda n, d: (ca.GroupBall(torch.arange(d) // 3, 0.3, outer=INF),),
    "total variation": lambda n, d: (ca.TotalVariation((3, d // 3), 0.9), ca.Box(-1.0, 1.0)),
    "isotropic": lambda n, d: (ca.TotalVariation((3, d // 3), 0.9, isotropic=True), ca.Box(-1.0, 1.0)),
}


# --- programs with known solutions ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Golden:
    """One program and what it is known to be worth; `eta` is None where there is none, or more than one."""

    name: str
    program: ca.Program
    optimum: float
    eta: Sequence[float] | None = None
    status: ca.Status = ca.Status.OPTIMAL

    def __repr__(self) -> str:
        return self.name


def gnii(value: float, gradient: Sequence[float], *sets: ca.ConvexSet) -> ca.GNII:
    """(GNII) for one item."""
    return ca.GNII(numbers(value), rows(gradient), sets)


def gn(value: float, gradient: Sequence[float], *sets: ca.ConvexSet) -> ca.GN:
    """(GN) for one item."""
    return ca.GN(numbers(value), rows(gradient), sets)


def min_norm(value: float, gradient: Sequence[float], p: float, *sets: ca.ConvexSet) -> ca.MinNorm:
    """(8) for one item."""
    return ca.MinNorm(numbers(value), rows(gradient), ca.Lp(p), sets)


def ball(p: float, radius: float = 1.0) -> ca.Ball:
    """A ball, in short."""
    return ca.Ball(ca.Lp(p), radius)


def box(lower: Sequence[float], upper: Sequence[float]) -> ca.Box:
    """A box, in short."""
    return ca.Box(numbers(*lower), numbers(*upper))


NO, OUT, YES, FALLS = math.nan, ca.Status.INFEASIBLE, ca.Status.FEASIBLE, ca.Status.UNBOUNDED
GOLDEN = (
    Golden("gnii p=2 3-4-5", gnii(1, [3, 4], ball(2, 0.5)), -1.5, [-0.3, -0.4]),
    Golden("gnii p=inf", gnii(1, [3, -4], ball(INF, 0.5)), -2.5, [-0.5, 0.5]),
    Golden("gnii p=1", gnii(1, [3, -4], ball(1, 0.5)), -1.0, [0, 0.5]),
    Golden("gnii p=1 tie", gnii(0, [2, -2, 1], ball(1)), -2.0),
    Golden("gnii p=3", gnii(0, [4, -1], ball(3)), -(9 ** (2 / 3)), [-2 / 9 ** (1 / 3), 1 / 9 ** (1 / 3)]),
    Golden("gnii p=1.5", gnii(0, [1, -1], ball(1.5)), -(2 ** (1 / 3)), [-(2 ** (-2 / 3)), 2 ** (-2 / 3)]),
    Golden("gnii g=0", gnii(7, [0, 0], ball(2)), 7.0),
    Golden("gnii radius 0", gnii(7, [1, 2], ball(3, 0.0)), 7.0, [0, 0]),
    Golden("gnii p=2 box", gnii(0, [3, 4], ball(2), ca.Box(-0.6, 0.6)), -4.2, [-0.6, -0.6]),
    Golden("gnii p=2 box on one side", gnii(0, [3, 4], ball(2), box([-1, -0.6], [1, 0.6])), -4.8, [-0.8, -0.6]),
    Golden("gnii p=1 knapsack", gnii(0, [3, -2, 1], ball(1), ca.Box(-0.6, 0.6)), -2.6, [-0.6, 0.4, 0]),
    Golden("gnii p=inf one-sided", gnii(0, [1, -1], ball(INF), ca.Box(0.0, INF)), -1.0, [0, 1]),
    Golden(
        "gnii box without 0", gnii(0, [-1, -1], ball(2), box([0.5, -2], [2, 2])), -math.sqrt(2), [math.sqrt(0.5)] * 2
    ),
    Golden("gnii p=1 box without 0", gnii(0, [1, -2], ball(1), box([0.25, -1], [1, 1])), -1.25, [0.25, 0.75]),
    Golden("gnii box alone", gnii(0, [1, -2], ca.Box(-1.0, 2.0)), -5.0, [-1, 2]),
    Golden("gnii two boxes", gnii(0, [1, -2], ca.Box(-1.0, 2.0), ca.Box(-2.0, 1.0)), -3.0, [-1, 1]),
    Golden("gnii cube in ball", gnii(0, [3, 4], ball(2), ball(INF, 0.6)), -4.2, [-0.6, -0.6]),
    Golden("gnii falls", gnii(0, [1.0, 0], ca.Box(-INF, 1.0)), -INF, status=FALLS),
    Golden("gnii empty box", gnii(0, [1.0, 1], ca.Box(-1.0, 1.0), ca.Box(2.0, 3.0)), INF, status=OUT),
    Golden("gnii box far from ball", gnii(0, [1.0, 1], ball(2), ca.Box(1.0, 2.0)), INF, status=OUT),
    Golden("gnii box far from ball, p=1", gnii(0, [1.0, 1], ball(1), ca.Box(0.75, 2.0)), INF, status=OUT),
    Golden("gnii box touches ball", gnii(0, [-1.0, -1], ball(1), ca.Box(0.5, 2.0)), -1.0, [0.5, 0.5]),
    Golden("min_norm p=2 3-4-5", min_norm(2.5, [3, 4], 2), 0.5, [-0.3, -0.4]),
    Golden("min_norm p=inf", min_norm(3.5, [3, -4], INF), 0.5, [-0.5, 0.5]),
    Golden("min_norm p=1", min_norm(2, [3, -4], 1), 0.5, [0, 0.5]),
    Golden("min_norm p=3", min_norm(9, [4, -1], 3), 9 ** (1 / 3), [-2, 1]),
    Golden("min_norm L<0", min_norm(-1, [3, 4], 2), 0.0, [0, 0]),
    Golden("min_norm L=0", min_norm(0, [3, 4], 1.5), 0.0, [0, 0]),
    Golden("min_norm g=0, L=0", min_norm(0, [0, 0], 1), 0.0, [0, 0]),
    Golden("min_norm g=0, L>0", min_norm(1, [0, 0], 2), INF, status=OUT),
    Golden("min_norm g=0, L>0, box", min_norm(1, [0, 0], 2, ca.Box(-1.0, 1.0)), INF, status=OUT),
    Golden("min_norm p=2 box", min_norm(3, [1, 1], 2, box([-1, -INF], [INF, INF])), math.sqrt(5), [-1, -2]),
    Golden("min_norm p=inf box", min_norm(5, [3, 1], INF, box([-1, -9], [1, 9])), 2.0, [-1, -2]),
    Golden("min_norm p=1 box", min_norm(5, [3, 1], 1, box([-1, -9], [1, 9])), 3.0, [-1, -2]),
    Golden("min_norm corner", min_norm(2, [1, 1], 2, ca.Box(-1.0, 1.0)), math.sqrt(2), [-1, -1]),
    Golden("min_norm beyond the corner", min_norm(2.001, [1, 1], 2, ca.Box(-1.0, 1.0)), INF, status=OUT),
    Golden("min_norm box without 0, idle", min_norm(-10, [1, 1], 2, ca.Box(1.0, 2.0)), math.sqrt(2), [1, 1]),
    Golden("min_norm box without 0", min_norm(3, [-1, -1], 1, ca.Box(1.0, 2.0)), 3.0),
    Golden("min_norm one-sided wrong way", min_norm(1, [1, 0], 2, ca.Box(0.0, INF)), INF, status=OUT),
    Golden("min_norm empty box", min_norm(-1, [1, 0], 2, ca.Box(-1.0, 1.0), ca.Box(2.0, 3.0)), INF, status=OUT),
    Golden("gn p=2", gn(2.4, [3, 4], ball(2, 0.5)), -0.1, [-0.3, -0.4], YES),
    Golden("gn p=2 equality in (5)", gn(2.5, [3, 4], ball(2, 0.5)), 0.0, status=OUT),
    Golden("gn p=1 equality in (5)", gn(2, [3, 4], ball(1, 0.5)), 0.0, status=OUT),
    Golden("gn p=inf equality in (5)", gn(3.5, [3, 4], ball(INF, 0.5)), 0.0, status=OUT),
    Golden("gn g=0", gn(0, [0, 0], ball(2)), 0.0, status=OUT),
    Golden("gn box", gn(4.2, [3, 4], ball(2), ca.Box(-0.6, 0.6)), 0.0, status=OUT),  # 7·0.6 < 4.2 in binary
    Golden("gn box, equality", gn(4.375, [3, 4], ball(2), ca.Box(-0.625, 0.625)), 0.0, status=OUT),
    Golden("gn empty box", gn(-1, [1.0, 1], ca.Box(-1.0, 1.0), ca.Box(2.0, 3.0)), INF, status=OUT),
)


# --- one item, other data ---------------------------------------------------------------------------------------------


def item(program: ca.Program, i: int) -> ca.Program:
    """Item i alone."""
    return program[torch.tensor([i])]


def like(program: ca.Program, value: Tensor, gradient: Tensor, sets: tuple[ca.ConvexSet, ...]) -> ca.Program:
    """A program of the same kind with other data."""
    if isinstance(program, ca.MinNorm):
        return ca.MinNorm(value, gradient, program.norm, sets)
    return (ca.GN if isinstance(program, ca.GN) else ca.GNII)(value, gradient, sets)


# --- exact arithmetic -------------------------------------------------------------------------------------------------


def fractions(x: Tensor) -> list[Fraction]:
    """The rational numbers that a vector of floats is."""
    return [Fraction(entry) for entry in x.to(torch.float64).tolist()]


def in_ball(eta: Tensor, p: float, radius: float) -> bool:
    """‖η‖_p ≤ ε in rational arithmetic, with 40 digits for p other than 1, 2, ∞."""
    point, r = [abs(x) for x in fractions(eta)], Fraction(radius)
    if p == INF:
        return max(point) <= r
    if p == 1:
        return sum(point) <= r
    if p == 2:
        return sum(x * x for x in point) <= r * r
    if not any(point):
        return r >= 0
    return r > 0 and length(eta, p) <= mpmath.mpf(radius)


def length(x: Tensor, p: float) -> mpmath.mpf:
    """‖x‖_p to 40 digits."""
    with mpmath.workdps(40):
        parts = [mpmath.mpf(abs(entry)) for entry in x.to(torch.float64).tolist()]
        top = max(parts)
        if p == INF or top == 0:
            return top
        return top * mpmath.fsum((a / top) ** mpmath.mpf(p) for a in parts) ** (1 / mpmath.mpf(p))


def dual_length(g: Tensor, p: float) -> mpmath.mpf:
    """‖g‖_q to 40 digits, 1/p + 1/q = 1 without rounding."""
    if p in (1, INF):
        return length(g, INF if p == 1 else 1)
    with mpmath.workdps(40):
        return length(g, mpmath.mpf(p) / (mpmath.mpf(p) - 1))


def in_box(eta: Tensor, low: Tensor, high: Tensor) -> bool:
    """lo ≤ η ≤ hi, compared without rounding: float64 holds every narrower float."""
    wide = eta.to(torch.float64)
    return bool(((low <= wide) & (wide <= high)).all())


def inside(program: ca.Program, eta: Tensor, i: int) -> bool:
    """η_i ∈ C_j for all j, in exact arithmetic."""
    for part in program.sets:
        if isinstance(part, ca.Ball) and not in_ball(eta[i], part.norm.p, float(part.radii(program.g)[i])):
            return False
        if isinstance(part, ca.Box) and not in_box(eta[i], *(bound[i] for bound in part.bounds(program.g))):
            return False
    return True


def linear(program: ca.Program, eta: Tensor, i: int) -> Fraction:
    """L + gᵀη of item i in rational arithmetic."""
    terms = zip(fractions(program.gradient[i]), fractions(eta[i]), strict=True)
    return Fraction(float(program.value[i])) + sum(a * b for a, b in terms)


def names(solution: ca.Solution) -> list[str]:
    """Statuses, by name."""
    return [status.name for status in np.atleast_1d(solution.status)]


# --- an oracle that shares no line with what it judges ----------------------------------------------------------------


def simplex(program: ca.Program, i: int) -> float:
    """The optimum of item i for ‖·‖_1 or ‖·‖_∞ and boxes, by HiGHS in (η, r) with |η_j| ≤ r_j; ∞ if infeasible."""
    d = program.gradient.shape[1]
    g, value = program.g[i].numpy(), float(program.L[i])
    one, zero = np.eye(d), np.zeros(d)
    bounds = [(-INF, INF)] * d + [(0.0, INF)] * d
    table, right = [np.hstack([one, -one]), np.hstack([-one, -one])], [zero, zero]
    for part in program.sets:
        if isinstance(part, ca.Ball):
            below = np.concatenate([zero, np.ones(d)])[None] if part.norm.p == 1 else np.hstack([0 * one, one])
            table, right = [*table, below], [*right, np.full(len(below), float(part.radii(program.g)[i]))]
        elif isinstance(part, ca.Box):
            low, high = (bound[i].tolist() for bound in part.bounds(program.g))
            bounds[:d] = [(max(a, lo), min(b, hi)) for (a, b), lo, hi in zip(bounds[:d], low, high, strict=True)]
    if any(a > b for a, b in bounds):
        return INF
    if isinstance(program, ca.MinNorm):
        table, right = [*table, np.concatenate([g, zero])[None]], [*right, np.array([-value])]
        cost = np.concatenate([zero, np.ones(d)])
        if program.norm.p == INF:  # one more unknown t ≥ r_j
            table = [np.hstack([part, np.zeros((len(part), 1))]) for part in table]
            table.append(np.hstack([0 * one, one, -np.ones((d, 1))]))
            right, cost, bounds = [*right, zero], np.concatenate([zero, zero, [1.0]]), [*bounds, (0.0, INF)]
        value = 0.0
    else:
        cost = np.concatenate([g, zero])
    found = linprog(cost, np.vstack(table), np.concatenate(right), bounds=bounds, method="highs")
    if found.status == 2:
        return INF
    return -INF if found.status == 3 else value + float(found.fun)
