"""The closed forms: known solutions, the product of programs, norms, sets and dtypes, and whatever hypothesis can
make degenerate."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from examples import (
    DTYPES,
    GOLDEN,
    INF,
    NORMS,
    PROVED,
    SETS,
    UNIT,
    Golden,
    ball,
    fractions,
    gn,
    inside,
    item,
    like,
    linear,
    min_norm,
    names,
    normal,
    numbers,
    random,
    rows,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca
from convexattack.testing import programs

KINDS: dict[str, Callable[[Tensor, Tensor, ca.Lp, tuple[ca.ConvexSet, ...]], ca.Program]] = {
    "gnii": lambda value, gradient, norm, sets: ca.GNII(value, gradient, (ca.Ball(norm, 0.7), *sets)),
    "gn": lambda value, gradient, norm, sets: ca.GN(value, gradient, (*sets, ca.Ball(norm, 0.7))),
    "min_norm": lambda value, gradient, norm, sets: ca.MinNorm(value, gradient, norm, sets),
}
lists = st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=5)
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
each_norm = pytest.mark.parametrize("norm", NORMS, ids=str)
each_set = pytest.mark.parametrize("sets", SETS.values(), ids=SETS.keys())
TIGHT = {dtype: ca.Tolerance.closed_form(dtype) for dtype in DTYPES}
SAME = TIGHT[torch.float64].at(torch.float64)
WITH_A_POINT = (ca.Status.OPTIMAL, ca.Status.FEASIBLE)


def touching(program: ca.Program, i: int) -> bool:
    """Whether the boxes meet the ball in next to a point: then float64 cannot tell the point from none."""
    low, high, balls = torch.tensor(-INF).double(), torch.tensor(INF).double(), []
    for part in program.sets:
        if isinstance(part, ca.Box):
            below, above = part.bounds(program.g)
            low, high = torch.maximum(low, below[i]), torch.minimum(high, above[i])
        elif isinstance(part, ca.Ball):
            balls.append((part.norm, float(part.radii(program.g)[i])))
    nearest = torch.minimum(torch.maximum(low, torch.zeros(program.gradient.shape[1], dtype=torch.float64)), high)
    return any(abs(float(norm(nearest)) - radius) <= 1e-12 * radius for norm, radius in balls if radius > 0)


def too_narrow(program: ca.Program, i: int) -> bool:
    """Whether a box leaves a coordinate no number of the gradient's dtype, as [0.1, 0.1] does in float32: the nearest
    must do."""
    dtype, low, high = program.gradient.dtype, torch.tensor(-INF).double(), torch.tensor(INF).double()
    for part in program.sets:
        if isinstance(part, ca.Box):
            below, above = part.bounds(program.g)
            low, high = torch.maximum(low, below[i]), torch.minimum(high, above[i])
    least = low.to(dtype)
    least = torch.where(least.double() < low, torch.nextafter(least, torch.full_like(least, INF)), least)
    return bool((least.double() > high).any())


def decided(program: ca.Program, solution: ca.Solution, i: int) -> bool:
    """Whether a near tie of (GN), which float64 leaves open, is proved in exact arithmetic."""
    rows = torch.tensor([i])
    return isinstance(program, ca.GN) and bool(ca.certify(program[rows], solution[rows], exact=True).holds()[0])


def judge(program: ca.Program, solution: ca.Solution) -> None:
    """Every claim is proved to the tight tolerance, also by η alone, inside its sets in exact arithmetic, in the
    gradient's dtype."""
    dtype = program.gradient.dtype
    proved = ca.certify(program, solution).holds(TIGHT[dtype])
    alone = ca.certify(program, solution.eta).holds(TIGHT[dtype])
    assert solution.eta.dtype == dtype
    for i, status in enumerate(solution.status):
        if status == ca.Status.OPTIMAL and touching(program, i):
            continue
        if status in PROVED:
            assert proved[i] or decided(program, solution, i), (status, item(program, i))
        if status in WITH_A_POINT:
            assert alone[i] or decided(program, solution, i), (status, item(program, i))
        none = isinstance(program, ca.MinNorm) and status not in WITH_A_POINT and bool(solution.eta[i].isnan().all())
        if status in (*WITH_A_POINT, ca.Status.UNDECIDED, ca.Status.INEXACT) and not none:
            assert touching(program, i) or too_narrow(program, i) or inside(program, solution.eta, i)
        elif not isinstance(program, ca.GN):  # whose point is the minimizer of (GNII) whatever the verdict
            assert solution.eta[i].isnan().all()
        assert status not in (ca.Status.FAILED, ca.Status.INVALID)
        assert status != ca.Status.INEXACT or dtype != torch.float64
        assert status != ca.Status.UNDECIDED or not isinstance(program, ca.GNII) or touching(program, i)


# --- known solutions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", GOLDEN, ids=repr)
def test_golden(golden: Golden) -> None:
    solution = ca.solve(golden.program)
    assert solution.stats["solver"] == "closed_form"
    assert solution.status[0] == golden.status
    judge(golden.program, solution)
    assert ca.certify(golden.program, solution).holds(TIGHT[torch.float64]).all()
    if golden.eta is not None:
        torch.testing.assert_close(solution.eta, rows(golden.eta), rtol=SAME, atol=SAME)
    if math.isfinite(golden.optimum) and golden.status in WITH_A_POINT:
        assert golden.program.primal(solution.eta).item() == pytest.approx(golden.optimum, rel=SAME, abs=SAME)


@each_norm
def test_propositions_1_and_2(norm: ca.Lp) -> None:
    """The (GNII) optimum is L − ε‖g‖_q; (GN) is feasible if and only if L < ε‖g‖_q; (8) has the distance L/‖g‖_q."""
    value, gradient, radius = normal(1, 50).abs(), normal(2, 50, 7), normal(3, 50).abs()
    dual = norm.dual(gradient)
    program = ca.GNII(value, gradient, (ca.Ball(norm, radius),))
    torch.testing.assert_close(program.primal(ca.solve(program).eta), value - radius * dual, rtol=0, atol=1e-13)
    verdicts = names(ca.solve(ca.GN(value, gradient, (ca.Ball(norm, radius),))))
    assert verdicts == ["FEASIBLE" if yes else "INFEASIBLE" for yes in (value < radius * dual).tolist()]
    assert {"FEASIBLE", "INFEASIBLE"} == set(verdicts)
    smallest = ca.MinNorm(value, gradient, norm)
    torch.testing.assert_close(smallest.primal(ca.solve(smallest).eta), value / dual, rtol=1e-13, atol=0)


@each_kind
@each_norm
@each_set
def test_every_program_norm_set_and_dtype(kind: Any, norm: ca.Lp, sets: Any) -> None:
    value, gradient = normal(4, 6).abs() * numbers(0.1, 0.3, 1, 3, 0, -1), normal(5, 6, 9) * (normal(6, 6, 9) > -1)
    for dtype in DTYPES:
        program = kind(value.to(dtype), gradient.to(dtype), norm, sets(6, 9))
        solution = ca.solve(program, "closed_form")
        judge(program, solution)
        assert dtype != torch.float32 or "INEXACT" not in names(solution)


# --- degenerate programs --------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(programs(dtypes=(torch.float64,)))
def test_degenerate_programs_in_float64(program: ca.Program) -> None:
    judge(program, ca.solve(program, "closed_form"))


@settings(max_examples=100)
@given(programs(dtypes=(torch.float32,)))
def test_degenerate_programs_in_float32(program: ca.Program) -> None:
    """INEXACT only where a box holds no float32, or one unit in the last place of tolerance refuses the point, were
    it called optimal."""
    solution = ca.solve(program, "closed_form")
    judge(program, solution)
    pretended = ca.Solution(solution.eta, torch.zeros_like(solution.codes), solution.multipliers)
    refused = ~ca.certify(program, pretended).holds(ca.Tolerance(2 * UNIT[torch.float32]))
    for i, status in enumerate(solution.status):
        assert status != ca.Status.INEXACT or refused[i] or too_narrow(program, i)


@settings(max_examples=100)
@given(programs(dtypes=(torch.float16, torch.bfloat16)))
def test_degenerate_programs_in_half_precision(program: ca.Program) -> None:
    judge(program, ca.solve(program, "closed_form"))


@settings(max_examples=60)
@given(programs(dtypes=DTYPES), st.data())
def test_an_item_that_is_no_number_never_touches_its_neighbours(program: ca.Program, data: st.DataObject) -> None:
    """Bit for bit what each item alone would give, whatever stands beside it; but for a last digit of torch.pow,
    which vectorizes."""
    n, d = program.gradient.shape
    bad = data.draw(st.integers(0, n - 1))
    value, gradient = program.value.clone(), program.gradient.clone()
    number = data.draw(st.sampled_from([math.nan, INF, -INF]))
    if data.draw(st.booleans()):
        value[bad] = number
    else:
        gradient[bad, data.draw(st.integers(0, d - 1))] = number
    spoilt = like(program, value, gradient, program.sets)
    found = ca.solve(spoilt, "closed_form")
    assert found.status[bad] == ca.Status.INVALID
    assert found.eta[bad].isnan().all()
    assert not ca.certify(spoilt, found).holds(ca.Tolerance(INF))[bad]
    norms = (
        [program.norm]
        if isinstance(program, ca.MinNorm)
        else [part.norm for part in program.sets if isinstance(part, ca.Ball)]
    )
    slack = 0.0 if all(norm.p in (1, 2, INF) for norm in norms) else max(SAME, 2 * UNIT[program.gradient.dtype])
    for i in range(n):
        if i != bad:
            alone = ca.solve(item(program, i), "closed_form")
            assert found.status[i] == alone.status[0]
            torch.testing.assert_close(found.eta[i], alone.eta[0], rtol=slack, atol=0, equal_nan=True)
            if not slack:
                for together, single in zip(found.multipliers, alone.multipliers, strict=True):
                    torch.testing.assert_close(together[i], single[0], rtol=0, atol=0)


@each_norm
def test_the_order_of_the_sets_does_not_matter(norm: ca.Lp) -> None:
    value, gradient = normal(1, 5), normal(2, 5, 6)
    sets = (ca.Ball(norm, 0.5), ca.Box(-0.3, 0.2), ca.Ball(ca.Lp(INF), 0.25))
    forwards, backwards = (ca.GNII(value, gradient, order) for order in (sets, sets[::-1]))
    torch.testing.assert_close(ca.solve(forwards).eta, ca.solve(backwards).eta, rtol=0, atol=0)
    for program in (forwards, backwards):
        judge(program, ca.solve(program))


@each_kind
def test_no_item_at_all(kind: Any) -> None:
    program = kind(torch.zeros(0), torch.zeros(0, 3), ca.Lp(2), (ca.Box(-1.0, 1.0),))
    solution = ca.solve(program)
    assert solution.eta.shape == (0, 3)
    assert ca.certify(program, solution).holds().tolist() == []
    assert "N=0" in repr(solution)


@each_kind
@each_norm
def test_a_thousand_dimensions(kind: Any, norm: ca.Lp) -> None:
    value, gradient = normal(1, 3).abs(), normal(2, 3, 3000)
    for dtype in (torch.float64, torch.float32):
        program = kind(value.to(dtype), gradient.to(dtype), norm, (ca.Box(-0.02, 0.05),))
        solution = ca.solve(program)
        assert ca.certify(program, solution).holds(TIGHT[dtype]).all()


# --- (GN): equality in (5) ------------------------------------------------------------------------------------------

TIES = [(p, scale, L) for p, L in ((2, 2.5), (1, 2.0), (INF, 3.5)) for scale in (1.0, 2.0**-40, 2.0**40)]


@pytest.mark.parametrize(("p", "scale", "L"), TIES)
def test_equality_in_5_is_infeasible_and_its_neighbours_are_never_wrong(p: float, scale: float, L: float) -> None:
    """ε‖g‖_q = L for g = (3, 4), ε = ½: the inequality of (GN) is strict, so there is no perturbation."""
    gradient = [3 * scale, 4 * scale]
    at = gn(L * scale, gradient, ball(p, 0.5))
    assert names(ca.solve(at)) == ["INFEASIBLE"]
    above = gn(math.nextafter(L * scale, INF), gradient, ball(p, 0.5))
    assert names(ca.solve(above)) == ["INFEASIBLE"]
    below = gn(math.nextafter(L * scale, 0), gradient, ball(p, 0.5))
    assert names(ca.solve(below)) in (["FEASIBLE"], ["UNDECIDED"])
    for program in (at, above):
        assert ca.certify(program, ca.solve(program)).holds().all()
    clearly = gn(L * scale * (1 - 1e-12), gradient, ball(p, 0.5))
    assert names(ca.solve(clearly)) == ["FEASIBLE"]


def exactly_feasible(program: ca.GN, i: int) -> bool:
    """L < ε‖g‖_q in rational arithmetic, for p in {1, 2, ∞} and the ball alone."""
    (part,) = program.sets
    assert isinstance(part, ca.Ball)
    g = [abs(x) for x in fractions(program.gradient[i])]
    value, radius = Fraction(float(program.value[i])), Fraction(float(part.radii(program.g)[i]))
    if part.norm.p == 2:
        return value < 0 or value * value < radius * radius * sum(x * x for x in g)
    return value < radius * (max(g) if part.norm.p == 1 else sum(g))


@settings(max_examples=200)
@given(
    st.lists(st.integers(-4, 4), min_size=1, max_size=5),
    st.sampled_from([1, 2, INF]),
    st.sampled_from([0.0, 0.5, 0.1, 1 / 3, 1e-12, 1e12]),
    st.integers(-3, 3),
    st.sampled_from(DTYPES),
)
def test_near_ties_against_rational_arithmetic(
    entries: list[int], p: float, radius: float, steps: int, dtype: torch.dtype
) -> None:
    """A few units in the last place around L = ε‖g‖_q: FEASIBLE and INFEASIBLE are never wrong, and a point is one in
    exact arithmetic."""
    gradient = torch.tensor([entries], dtype=dtype)
    value = (radius * ca.Lp(p).dual(gradient.double())).to(dtype)
    for _ in range(abs(steps)):
        value = torch.nextafter(value, torch.full_like(value, math.copysign(INF, steps)))
    assume(value.isfinite())
    program = ca.GN(value, gradient, (ca.Ball(ca.Lp(p), radius),))
    solution = ca.solve(program)
    if solution.status[0] == ca.Status.FEASIBLE:
        assert exactly_feasible(program, 0)
        assert linear(program, solution.eta, 0) < 0
        assert inside(program, solution.eta, 0)
    elif solution.status[0] == ca.Status.INFEASIBLE:
        assert not exactly_feasible(program, 0)
    assert ca.certify(program, solution).proved[0] == solution.codes[0] or decided(program, solution, 0)


@given(programs(dtypes=DTYPES))
def test_a_feasible_point_is_one_in_rational_arithmetic(program: ca.Program) -> None:
    if isinstance(program, ca.GN):
        solution = ca.solve(program, "closed_form")
        for i, status in enumerate(solution.status):
            if status == ca.Status.FEASIBLE:
                assert linear(program, solution.eta, i) < 0
            elif status == ca.Status.INFEASIBLE:
                relaxed = ca.solve(program.relaxed, "closed_form")
                assert relaxed.status[i] == ca.Status.INFEASIBLE or linear(program, relaxed.eta, i) >= 0


# --- clipping is no solution ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
def test_clipping_the_answer_of_the_ball(p: float) -> None:
    """What most libraries return for ball ∩ pixel range: optimal for p = ∞, refused for every other p."""
    x = torch.rand(20, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    range_, value, gradient = ca.PixelRange(0.0, 1.0).at(x), torch.zeros(20, dtype=torch.float64), normal(2, 20, 30)
    norm = ca.Lp(p)
    clipped = norm.steepest(gradient, 2.0 if p < INF else 0.3).clamp(
        torch.as_tensor(range_.lower), torch.as_tensor(range_.upper)
    )
    program = ca.GNII(value, gradient, (ca.Ball(norm, 2.0 if p < INF else 0.3), range_))
    certificate = ca.certify(program, clipped)
    assert (certificate.violation == 0).all()
    assert certificate.holds(TIGHT[torch.float64]).tolist() == [p == INF] * 20
    assert certificate.holds().tolist() == [p == INF] * 20
    found = ca.solve(program)
    assert ca.certify(program, found).holds(TIGHT[torch.float64]).all()
    assert p == INF or (program.primal(found.eta) < program.primal(clipped)).all()


# --- (8) ------------------------------------------------------------------------------------------------------------


@each_norm
@each_set
def test_min_norm_where_nothing_is_to_do(norm: ca.Lp, sets: Any) -> None:
    """L ≤ 0, or g = 0: η = 0, or the point of the sets nearest to 0; g = 0 and L > 0: INFEASIBLE."""
    value, gradient = numbers(-1, 0, 0, -2, 1), rows([0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 2, -3], [0, 0, 0])
    program = ca.MinNorm(value, gradient, norm, sets(5, 3))
    solution = ca.solve(program)
    assert names(solution) == ["OPTIMAL"] * 4 + ["INFEASIBLE"]
    nearest = torch.zeros(5, 3, dtype=torch.float64)
    for part in program.sets:
        if isinstance(part, ca.Box):
            nearest = nearest.clamp(*part.bounds(nearest))
    assert torch.equal(program.primal(solution.eta[:3]), norm(nearest[:3]))
    judge(program, solution)


@given(programs(dtypes=(torch.float64,)))
def test_min_norm_is_infeasible_exactly_where_the_box_is_too_small(program: ca.Program) -> None:
    """Σ|g_i|c_i < L in rational arithmetic, but for a last digit."""
    if not isinstance(program, ca.MinNorm):
        return
    low, high = program.extent.low, program.extent.high
    statuses = ca.solve(program, "closed_form").status
    for i in range(len(program)):
        ends = [
            (lo if x > 0 else hi, x)
            for x, lo, hi in zip(*(part[i].tolist() for part in (program.g, low, high)), strict=True)
            if x
        ]
        empty = bool((low[i] > high[i]).any())
        if not empty and any(math.isinf(c) for c, _ in ends):
            assert statuses[i] == ca.Status.OPTIMAL
            continue
        terms = [] if empty else [Fraction(c) * Fraction(x) for c, x in ends]
        left = Fraction(float(program.value[i])) + sum(terms)
        if empty or left > sum(map(abs, terms)) * Fraction(1, 10**14):
            assert statuses[i] == ca.Status.INFEASIBLE
        elif left < -sum(map(abs, terms)) * Fraction(1, 10**14):
            assert statuses[i] == ca.Status.OPTIMAL


@settings(max_examples=200)
@given(lists, st.floats(0, 4, width=16), st.sampled_from(NORMS), st.integers(-12, 12))
def test_min_norm_keeps_its_inequality_in_rational_arithmetic(
    entries: list[float], value: float, norm: ca.Lp, power: int
) -> None:
    program = min_norm(value * 10.0**power, entries, norm.p)
    solution = ca.solve(program)
    if solution.status[0] == ca.Status.OPTIMAL:
        assert linear(program, solution.eta, 0) <= 0
        assert (
            float(norm(solution.eta)) <= float(value * 10.0**power / norm.dual(rows(entries))) * (1 + 1e-13)
            or value == 0
        )
    else:
        assert not any(entries)


# --- what it refuses ------------------------------------------------------------------------------------------------


def test_programs_without_a_closed_form() -> None:
    value, gradient = numbers(0), rows([1, 2])
    for sets, reason in (
        ((ball(2), ball(1)), r"sets\[1\], a Ball, is neither a box nor one ball beside boxes"),
        (
            (ball(2), ca.CustomSet(lambda eta: [eta >= 0])),
            r"sets\[1\], a CustomSet, is neither a box nor one ball beside boxes",
        ),
    ):
        program = ca.GNII(value, gradient, sets)
        with pytest.raises(
            ValueError, match=f"solver='closed_form' cannot take this program: {reason}; use solver=None"
        ):
            ca.solve(program, "closed_form")
        assert ca.solve(program).stats["passed_over"]["closed_form"].startswith("sets[1]")
    with pytest.raises(ValueError, match=r"\(8\) has one within boxes alone, and sets\[0\] is a ball"):
        ca.solve(ca.MinNorm(value, gradient, ca.Lp(2), (ball(2),)), "closed_form")
    assert ca.solve(ca.GNII(value, gradient, (ball(2),))).stats["passed_over"] == {}


@each_norm
@each_kind
def test_what_is_not_finite_is_invalid(kind: Any, norm: ca.Lp) -> None:
    """NaN or ∞ in the value, or anywhere in the gradient: no claim and no number."""
    value, gradient = (
        numbers(math.nan, INF, 1, 1, 1, 1),
        rows([3, 4], [3, 4], [math.nan, 4], [3, math.nan], [3, -INF], [3, 4]),
    )
    for sets in ((), (ca.Box(-1.0, 1.0),)):
        found = ca.solve(kind(value, gradient, norm, sets), "closed_form")
        assert names(found)[:5] == ["INVALID"] * 5
        assert names(found)[5] != "INVALID"
        assert found.eta[2:5].isnan().all()


@each_kind
def test_what_is_invalid_has_no_number(kind: Any) -> None:
    """η is NaN wherever nothing is claimed, also where L alone is at fault."""
    for sets in ((), (ca.Box(-1.0, 1.0),)):
        found = ca.solve(kind(numbers(math.nan, 1), rows([3, 4], [3, 4]), ca.Lp(2), sets), "closed_form")
        assert names(found)[0] == "INVALID"
        assert found.eta[0].isnan().all()


def test_nan_in_a_bound_is_that_items_affair() -> None:
    low = rows([-1, -1], [math.nan, -1], [-1, -1])
    for make in KINDS.values():
        found = ca.solve(make(numbers(0.1, 0.1, 0.1), rows([1, 2], [1, 2], [1, 2]), ca.Lp(2), (ca.Box(low, 1.0),)))
        assert found.status[1] == ca.Status.INVALID
        assert found.status[0] == found.status[2] != ca.Status.INVALID
        assert torch.equal(found.eta[0], found.eta[2])


def test_half_precision_says_where_it_is_too_coarse() -> None:
    """ε = 1e-7 is 1.7 times the smallest float16: what fits there is far from the optimum, and OPTIMAL would be a
    lie."""
    program = ca.GNII(
        torch.zeros(1, dtype=torch.float16), torch.tensor([[3, 4]], dtype=torch.float16), (ball(2, 1e-7),)
    )
    solution = ca.solve(program)
    assert names(solution) == ["INEXACT"]
    assert inside(program, solution.eta, 0)
    assert not ca.certify(program, solution).holds(ca.Tolerance(INF)).any()
    wide = ca.GNII(program.value.float(), program.gradient.float(), program.sets)
    assert names(ca.solve(wide)) == ["OPTIMAL"]


def test_units_in_the_last_place() -> None:
    for dtype, unit in UNIT.items():
        assert 2 * unit == torch.finfo(dtype).eps


def test_at_the_edge_of_feasibility_min_norm_is_undecided() -> None:
    """Infeasible by 3.5e-35 in Q, which float64 cannot prove: no claim is made that its certificate would refuse."""
    value = torch.tensor([-1.91305900150863316e-19], dtype=torch.float64)
    gradient = torch.tensor([[1.61956088241879966e-12]], dtype=torch.float64)
    program = ca.MinNorm(value, gradient, ca.Lp(1), (ca.Box(1.18122080020326067e-07, 2.36e-07),))
    assert ca.solve(program, "closed_form").status[0] is ca.Status.UNDECIDED


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, math.inf])
def test_a_box_with_0_keeps_its_answer_beside_one_without(p: float) -> None:
    """The two take different roads; neither item may be moved by the other."""
    g = torch.tensor([[1.0, -2.0, 0.5], [1.0, -2.0, 0.5]], dtype=torch.float64)
    low = torch.tensor([[-0.1, -0.2, -0.3], [0.05, -0.2, -0.3]], dtype=torch.float64)
    high = low + 0.4
    value = torch.tensor([0.3, 0.3], dtype=torch.float64)
    ball = ca.Ball(ca.Lp(p), 0.35)

    def answers(n: int) -> list[torch.Tensor]:
        box = ca.Box(low[:n], high[:n])
        programs = ca.GNII(value[:n], g[:n], (ball, box)), ca.MinNorm(value[:n], g[:n], ca.Lp(p), (box,))
        return [ca.solve(program).eta[0] for program in programs]

    for together, alone in zip(answers(2), answers(1), strict=True):
        assert torch.equal(together, alone)


# --- images and their pixel range, as in attacks --------------------------------------------------------------------

N, D = 24, 784
CASES = [(kind, p) for kind in KINDS for p in (1.0, 1.5, 2.0, INF)]
each_case = pytest.mark.parametrize(("kind", "p"), CASES)


def posed(
    kind: str, p: float, scale: float = 1.0, reach: float = 0.3, dtype: torch.dtype = torch.float32
) -> ca.Program:
    """A program within the pixel range whose optimum uses `reach` of what that gives: dark margins, a bright stroke,
    greys between."""
    x, g = torch.rand(N, D, generator=random(0)), (scale * normal(1, N, D)).to(dtype)
    box = ca.PixelRange(0.0, 1.0).at(torch.where(x < 0.5, 0.0, torch.where(x > 0.9, 1.0, x)))
    low, high = box.bounds(g)
    most, norm = torch.where(g > 0, -low, high), ca.Lp(p)
    if kind == "min_norm":
        return ca.MinNorm((reach * (g.abs() * most).sum(1)).to(dtype), g, norm, (box,))
    return (ca.GN if kind == "gn" else ca.GNII)(normal(2, N).to(dtype), g, (ca.Ball(norm, reach * norm(most)), box))


@each_case
@pytest.mark.parametrize(("scale", "reach"), [(1.0, 0.003), (1.0, 0.3), (1e-6, 0.03), (1e6, 0.8)])
def test_images_in_float32_are_optimal_in_exact_arithmetic(kind: str, p: float, scale: float, reach: float) -> None:
    """Whether few or many coordinates move: optimal to four units in the last place."""
    program = posed(kind, p, scale, reach)
    program = program.relaxed if isinstance(program, ca.GN) else program
    found = ca.solve(program)
    assert names(found) == ["OPTIMAL"] * N
    assert (ca.certify(program, found).gap <= 8 * UNIT[torch.float32]).all()
    assert ca.certify(program[:6], found[torch.arange(6)], exact=True).holds().all()


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_bounds_whose_rounding_costs_too_much(p: float) -> None:
    """Steep coordinates end at bounds that float32 has rounded; what they lose, a flat one makes good a thousand
    times over."""
    box = ca.Box(-1.0, torch.tensor([[0.1, 0.3, 1.0, 1.0]], dtype=torch.float64) + 1e-9)
    program = ca.MinNorm(torch.tensor([0.3104]), torch.tensor([[-1.0, -0.7, -1e-3, -5e-4]]), ca.Lp(p), (box,))
    found = ca.solve(program)
    gap = ca.certify(program, found).gap[0]
    assert found.status[0] == (ca.Status.OPTIMAL if gap <= 2 * UNIT[torch.float32] else ca.Status.INEXACT)


@each_case
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_no_item_leans_on_another(kind: str, p: float, alone: bool, dtype: torch.dtype) -> None:
    """Bit for bit what each gives alone, among items that are flat, tied, tiny, empty, endless, without 0, or no
    numbers."""
    plain = posed(kind, p, reach=0.02 if p == 1 else 0.3, dtype=dtype)
    g, value = plain.gradient.clone(), plain.value.clone()
    g[0], g[1] = 0.0, g[1].sign()
    g[2, 5], g[3, 6], value[5], value[6], value[7] = math.nan, INF, INF, math.nan, 0.0
    g[4] *= 1e-25
    low, high = (bound.clone() for bound in next(part for part in plain.sets if isinstance(part, ca.Box)).bounds(g))
    low[8] += 0.01 * (high[8] - low[8]).clamp_max(0.5)
    low[9], high[9] = low[9] - 0.5, low[9] - 0.25
    high[10], low[11, 3] = INF, high[11, 3] + 1
    sets = tuple(ca.Box(low, high) if isinstance(part, ca.Box) else part for part in plain.sets)
    program = like(plain, value, g, sets[:-1] if alone else sets)
    found = ca.solve(program)
    for i in range(N if dtype == torch.float32 else 14):
        single = ca.solve(item(program, i))
        assert found.status[i] == single.status[0], i
        slack = 0.0 if p in (1, 2, INF) else 4 * UNIT[dtype]  # torch.pow vectorizes
        torch.testing.assert_close(found.eta[i], single.eta[0], rtol=slack, atol=0, equal_nan=True)
        for together, one in zip(found.multipliers, single.multipliers, strict=True):
            torch.testing.assert_close(together[i], one[0], rtol=1e-12, atol=1e-300, equal_nan=True)


def test_what_is_unbounded_says_along_which_ray() -> None:
    program = ca.GNII(numbers(0, 0), rows([1, 0, -2], [1, 1, 1]), (ca.Box(rows([-INF, 1, -1], [-1, -1, -1]), 3.0),))
    found = ca.solve(program)
    assert names(found) == ["UNBOUNDED", "OPTIMAL"]
    assert found.ray is not None
    assert found.inside is not None
    assert found.ray.tolist() == [[-1, 0, 0], [0, 0, 0]]
    assert found.inside[0].tolist() == [0, 1, 0]
    assert ca.certify(program, found).holds().all()


@each_norm
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_weights_are_scaled_away(norm: ca.Lp, dtype: torch.dtype) -> None:
    """A weighted ball with a mask, a weighted cube and a weighted interval; weight 0 leaves a coordinate to the
    boxes."""
    n, d = 6, 9
    w = normal(1, d).abs() * (torch.arange(d) % 4 != 0)
    value, gradient = normal(2, n).abs().to(dtype), normal(3, n, d).to(dtype)
    cube = ca.ConvexSet(ca.atoms.Interval(-0.2, 0.3), ca.maps.Diagonal(1 + normal(4, d).abs()))
    sets = (ca.WeightedBall(norm, w, 0.4), ca.Box(-1.0, 0.5), ca.Support(torch.arange(d) != 1), cube)
    for kind in (ca.GNII, ca.GN):
        program = kind(value, gradient, sets)
        found = ca.solve(program, "closed_form")
        assert ca.certify(program, found).holds(TIGHT[dtype]).all()
        assert (program.violation(found.eta) == 0).all()
    plain = ca.GNII(value, gradient, (ca.Ball(norm, 0.4), ca.Box(-1.0, 0.5)))
    same = ca.GNII(value, gradient, (ca.WeightedBall(norm, torch.full((d,), 2.0), 0.8), ca.Box(-1.0, 0.5)))
    torch.testing.assert_close(plain.primal(ca.solve(same).eta), plain.primal(ca.solve(plain).eta))


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_inference_mode(p: float) -> None:
    with torch.inference_mode():
        program = posed("gnii", p)
        assert ca.certify(program, ca.solve(program)).holds().all()
