"""Closed forms against oracles that share no line with them: HiGHS, a search over the plane, the conic path."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from examples import CATALOGUE, DTYPES, INF, NORMS, ORACLE, PATHS, names, normal, random, rows, simplex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import convexattack as ca

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


# --- p = 1 and p = ∞: linear programs -------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, INF])
@pytest.mark.parametrize("kind", ["gnii", "min_norm"])
@pytest.mark.parametrize("around", [True, False])
def test_against_the_simplex_method(p: float, kind: str, around: bool) -> None:
    """60 items with ties and zeros, boxes around 0 and boxes anywhere; where HiGHS finds no point, neither do we."""
    n, d = 60, 7
    gradient = (normal(1, n, d) * 2).round() / 2 if around else normal(1, n, d)
    low = -normal(2, n, d).abs() if around else 0.6 * normal(2, n, d)
    box = ca.Box(0.5 * low, 0.5 * normal(3, n, d).abs() + (0 if around else 0.5 * low))
    norm, value = ca.Lp(p), normal(4, n).abs()
    ball = ca.Ball(norm, 0.6 if p == INF else 1.5)
    program = ca.GNII(value, gradient, (ball, box)) if kind == "gnii" else ca.MinNorm(value, gradient, norm, (box,))
    solution = ca.solve(program, "closed_form")
    optimum = torch.tensor([simplex(program, i) for i in range(n)], dtype=torch.float64)
    assert names(solution) == ["OPTIMAL" if math.isfinite(best) else "INFEASIBLE" for best in optimum.tolist()]
    solved = optimum.isfinite()
    assert 10 < solved.sum() <= n
    assert bool(solved.all()) == (around and kind == "gnii")
    found = program.primal(solution.eta)
    unit = optimum if kind == "min_norm" else program.scale()
    assert ((found - optimum).abs() <= ORACLE.at(torch.float64) * unit)[solved].all()


# --- every other p: a search over the plane -------------------------------------------------------------------------


def search(f: object, low: float, high: float) -> float:
    """The least value of a convex function on [low, high], by golden sections."""
    assert callable(f)
    a, b = high - GOLDEN_RATIO * (high - low), low + GOLDEN_RATIO * (high - low)
    fa, fb = f(a), f(b)
    for _ in range(90):
        if fa <= fb:
            high, b, fb = b, a, fa
            a = high - GOLDEN_RATIO * (high - low)
            fa = f(a)
        else:
            low, a, fa = a, b, fb
            b = low + GOLDEN_RATIO * (high - low)
            fb = f(b)
    return float(min(f(low), f(high), fa, fb))


def power_norm(x: float, y: float, p: float) -> float:
    """‖(x, y)‖_p."""
    top = max(abs(x), abs(y))
    return top if p == INF or top == 0 else top * ((abs(x) / top) ** p + (abs(y) / top) ** p) ** (1 / p)


def plane(program: ca.Program, low: list[float], high: list[float], p: float, radius: float) -> float:
    """The optimum in two dimensions: the best η_2 for each η_1 is explicit, and what it is worth is convex in η_1."""
    g, value = program.g[0].tolist(), float(program.L[0])
    if isinstance(program, ca.MinNorm):

        def worth(x: float) -> float:  # the η_2 nearest to 0 that keeps the inequality
            need = -(value + g[0] * x)
            below, above = (low[1], min(high[1], need / g[1])) if g[1] > 0 else (max(low[1], need / g[1]), high[1])
            return power_norm(x, min(max(0.0, below), above), p)

        edge = [-(value + g[1] * y) / g[0] for y in (low[1], high[1])]  # where the line leaves the box
        reach = min(edge) if g[0] < 0 else max(edge)
        return search(worth, max(low[0], reach) if g[0] < 0 else low[0], high[0] if g[0] < 0 else min(high[0], reach))

    def objective(x: float) -> float:
        rest = radius if p == INF else radius * max(0.0, 1 - (abs(x) / radius) ** p) ** (1 / p)
        y = max(low[1], -rest) if g[1] > 0 else min(high[1], rest)
        return float(value + g[0] * x + g[1] * y)

    closest = min(max(0.0, low[1]), high[1])  # of η_2; it leaves this much to η_1
    rest = radius if p == INF else radius * max(0.0, 1 - (abs(closest) / radius) ** p) ** (1 / p)
    return search(objective, max(low[0], -rest), min(high[0], rest))


@settings(max_examples=150)
@given(
    st.sampled_from(NORMS),
    st.sampled_from(["gnii", "min_norm"]),
    st.lists(st.sampled_from([-2.0, -1.0, -0.7, 0.3, 1.0, 1.5]), min_size=2, max_size=2),
    st.lists(st.sampled_from([-1.5, -1.0, -0.4, -0.1, 0.0, 0.1]), min_size=2, max_size=2),
    st.lists(st.sampled_from([0.2, 0.5, 1.0, 3.0]), min_size=2, max_size=2),
    st.sampled_from([0.1, 0.45, 1.3]),
)
def test_against_a_search_over_the_plane(
    norm: ca.Lp, kind: str, g: list[float], low: list[float], width: list[float], value: float
) -> None:
    high = [a + b for a, b in zip(low, width, strict=True)]
    box = ca.Box(rows(low), rows(high))
    data = torch.tensor([value], dtype=torch.float64), rows(g)
    program = ca.GNII(*data, (ca.Ball(norm, 1.1), box)) if kind == "gnii" else ca.MinNorm(*data, norm, (box,))
    solution = ca.solve(program, "closed_form")
    reach = value + sum(x * (a if x > 0 else b) for x, a, b in zip(g, low, high, strict=True))
    nearest = [min(max(0.0, a), b) for a, b in zip(low, high, strict=True)]
    excess = reach if kind == "min_norm" else power_norm(nearest[0], nearest[1], norm.p) - 1.1
    assume(abs(excess) > 1e-9)
    assert names(solution) == ["INFEASIBLE" if excess > 0 else "OPTIMAL"]
    if excess < 0:
        assert float(program.primal(solution.eta)[0]) == pytest.approx(
            plane(program, low, high, norm.p, 1.1), rel=0, abs=1e-8
        )


# --- every p in a few dimensions: the conic path --------------------------------------------------------------------


@pytest.mark.parametrize("norm", [ca.Lp(p) for p in (1, 1.5, 2, math.pi, 10, INF)], ids=str)
@pytest.mark.parametrize("kind", ["gnii", "gn", "min_norm"])
@pytest.mark.parametrize("boxed", [False, True])
def test_against_the_conic_path(norm: ca.Lp, kind: str, boxed: bool) -> None:
    """30 items of every scale and dtype; objectives agree to 1e-6, verdicts altogether, and both are certified."""
    n, d = 30, 12
    for dtype in DTYPES[:2]:
        powers = torch.randint(-12, 13, (2, n), generator=random(1))
        unit_g, unit_r = 10.0 ** powers.double()
        gradient = (normal(2, n, d) * unit_g[:, None]).to(dtype)
        low = -normal(3, n, d).abs() * unit_r[:, None]
        box = (ca.Box(low, -0.7 * low.flip(1)),) if boxed else ()
        value = (normal(4, n).abs() * unit_g * unit_r * (0.3 if kind == "min_norm" else 1)).to(dtype)
        sets, bounded = (ca.Ball(norm, 1.5 * unit_r), *box), ca.GN if kind == "gn" else ca.GNII
        program = ca.MinNorm(value, gradient, norm, box) if kind == "min_norm" else bounded(value, gradient, sets)
        exact, conic = ca.solve(program, "closed_form"), ca.solve(program, "reference")
        assert ca.certify(program, exact).holds(ca.Tolerance.closed_form(dtype)).all()
        assert ca.certify(program, conic).holds().all()
        assert names(exact) == names(conic)
        solved = ~exact.eta.isnan().any(1)
        found = program.primal(exact.eta)
        off = (found - program.primal(conic.eta)).abs() / (found if kind == "min_norm" else program.scale())
        assert (off[solved].nan_to_num(0.0) <= PATHS.at(dtype)).all()
        assert solved.sum() > n // 3


# --- the catalogue: every set in every program, by every solver that takes it ---------------------------------------


@pytest.mark.parametrize("p", [1, 2, INF])
@pytest.mark.parametrize("kind", ["gnii", "gn", "min_norm"])
@pytest.mark.parametrize("sets", CATALOGUE.values(), ids=CATALOGUE)
def test_the_catalogue(sets: Callable[[int, int], tuple[ca.ConvexSet, ...]], kind: str, p: float) -> None:
    """Certified whoever solves it; what has a closed form agrees with the conic path; what has none says why."""
    n, d, norm = 4, 9, ca.Lp(p)
    value, gradient, chosen = normal(6, n).abs() * 0.3, normal(7, n, d), sets(n, d)
    program: ca.Program = ca.MinNorm(value, gradient, norm, chosen)
    if kind != "min_norm":
        program = (ca.GN if kind == "gn" else ca.GNII)(value, gradient, (*chosen, ca.Ball(norm, 0.8)))
    found = ca.solve(program)
    assert ca.certify(program, found).holds().all(), ca.certify(program, found).why
    if found.stats["solver"] != "closed_form":
        assert "sets[" in found.stats["passed_over"]["closed_form"]
        return
    conic = ca.solve(program, "reference")
    assert ca.certify(program, conic).holds().all()
    assert names(found) == names(conic)
    torch.testing.assert_close(
        program.primal(found.eta), program.primal(conic.eta), rtol=1e-6, atol=1e-6, equal_nan=True
    )
