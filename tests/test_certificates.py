"""Certificates accept what is right, from η alone if need be, and refuse everything else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from examples import (
    DTYPES,
    INF,
    ORACLE,
    ball,
    box,
    gn,
    gnii,
    inside,
    like,
    min_norm,
    names,
    normal,
    numbers,
    random,
    rows,
    simplex,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca

N, D = 6, 8
FEW = [ca.Lp(p) for p in (1, 1.5, 2, INF)]
TIGHT = ca.Tolerance.closed_form()
UNHELD = [ca.Status.INVALID, ca.Status.FAILED, ca.Status.INEXACT]


def programs_of(kind: str, norm: ca.Lp, boxed: bool, seed: int = 8) -> ca.Program:
    """Six items without a tie; in (GN) the inequality leaves a thousandth of room."""
    gradient = normal(seed, N, D)
    low = -0.1 - 0.2 * torch.rand(N, D, generator=random(seed), dtype=torch.float64)
    box = (ca.Box(low, 0.25),) if boxed else ()
    if kind == "min_norm":
        return ca.MinNorm(0.3 * gradient.abs().amax(1), gradient, norm, box)
    sets = (ca.Ball(norm, 0.4), *box)
    value = normal(seed + 1, N) if kind == "gnii" else torch.zeros(N, dtype=torch.float64)
    program = ca.GNII(value, gradient, sets)
    if kind == "gnii":
        return program
    reach = -program.primal(ca.solve(program).eta)
    return ca.GN(reach * (0.999 if kind == "gn" else 1.001), gradient, sets)


CASES = [(kind, norm, boxed) for kind in ("gnii", "min_norm", "gn") for norm in FEW for boxed in (False, True)]
IDS = [f"{kind}-{norm}-{'box' if boxed else 'free'}" for kind, norm, boxed in CASES]
each_case = pytest.mark.parametrize(("kind", "norm", "boxed"), CASES, ids=IDS)
each_norm = pytest.mark.parametrize("norm", FEW, ids=str)


def claim(eta: Tensor, status: ca.Status, multipliers: tuple[Tensor, ...]) -> ca.Solution:
    """The same claim for every item."""
    return ca.Solution(eta, torch.full((len(eta),), status.code, dtype=torch.int8), multipliers)


@each_case
def test_the_right_answer_passes_with_its_multipliers_and_without(kind: str, norm: ca.Lp, boxed: bool) -> None:
    program = programs_of(kind, norm, boxed)
    solution = ca.solve(program)
    assert set(names(solution)) == {"FEASIBLE" if kind == "gn" else "OPTIMAL"}
    for answer in (solution, solution.eta):
        certificate = ca.certify(program, answer)
        assert certificate.holds(TIGHT).all()
        assert certificate.holds().all()
        assert certificate.rigorous
        assert "6 of 6 hold" in repr(certificate)


# --- tampering with η -------------------------------------------------------------------------------------------------

POINTS: dict[str, tuple[Callable[[Tensor], Tensor], ca.Tolerance]] = {
    "scaled": (lambda eta: 1.001 * eta, ca.Tolerance()),
    "scaled by a hair": (lambda eta: (1 + 1e-9) * eta, TIGHT),
    "shortened": (lambda eta: 0.99 * eta, ca.Tolerance()),
    "flipped": (lambda eta: -eta, ca.Tolerance()),
    "turned sideways": (lambda eta: eta.roll(1, 1), ca.Tolerance()),
    "of another item": (lambda eta: eta.roll(1, 0), ca.Tolerance()),
    "zero": (lambda eta: 0 * eta, ca.Tolerance()),
    "NaN": (lambda eta: eta + math.nan, ca.Tolerance()),
    "one NaN": (lambda eta: torch.cat([eta[:, :-1], eta[:, -1:] + math.nan], 1), ca.Tolerance()),
    "NaN, whatever is allowed": (lambda eta: eta + math.nan, ca.Tolerance(INF)),
    "infinite": (lambda eta: eta / 0, ca.Tolerance()),
}


@each_case
@pytest.mark.parametrize("change", POINTS)
def test_a_changed_point_is_refused(kind: str, norm: ca.Lp, boxed: bool, change: str) -> None:
    program = programs_of(kind, norm, boxed)
    solution, (move, tolerance) = ca.solve(program), POINTS[change]
    changed = ca.Solution(move(solution.eta), solution.codes, solution.multipliers)
    assert not ca.certify(program, changed).holds(tolerance).any()
    if kind != "gn":  # where η alone claims no verdict
        assert not ca.certify(program, changed.eta).holds(tolerance).any()


@each_case
def test_another_programs_solution_is_refused(kind: str, norm: ca.Lp, boxed: bool) -> None:
    mine, other = (programs_of(kind, norm, boxed, seed) for seed in (8, 7))
    assert not ca.certify(mine, ca.solve(other)).holds().any()
    if kind != "gn":
        assert not ca.certify(mine, ca.solve(other).eta).holds().any()


def test_only_the_changed_item_is_refused() -> None:
    program = programs_of("gnii", ca.Lp(2), True)
    solution = ca.solve(program)
    solution.eta[2] *= 1.001
    solution.eta[4, 3] = math.nan
    assert ca.certify(program, solution).holds().tolist() == [i not in (2, 4) for i in range(N)]
    assert ca.certify(program, solution.eta).holds().tolist() == [i not in (2, 4) for i in range(N)]


# --- tampering with the multipliers -----------------------------------------------------------------------------------

PROOFS: dict[str, Callable[[Tensor], Tensor]] = {
    "doubled": lambda v: 2 * v,
    "scaled": lambda v: 0.999 * v,
    "zero": lambda v: 0 * v,
    "flipped": lambda v: -v,
    "of another item": lambda v: v.roll(1, 0),
    "huge": lambda v: 1e17 * v,
    "NaN": lambda v: v + math.nan,
    "infinite": lambda v: v / 0,
}


@each_norm
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("kind", ["gnii", "min_norm"])
@pytest.mark.parametrize("change", PROOFS)
def test_other_multipliers_never_prove_more(kind: str, norm: ca.Lp, boxed: bool, change: str) -> None:
    """Whatever they are, the bound is one; with a multiplier that is no number nothing holds."""
    program = programs_of(kind, norm, boxed)
    solution = ca.solve(program)
    right = ca.certify(program, solution)
    assert right.holds(TIGHT).all()
    changed = ca.Solution(solution.eta, solution.codes, tuple(PROOFS[change](part) for part in solution.multipliers))
    certificate = ca.certify(program, changed)
    assert (certificate.dual <= right.primal).all()
    if change in ("NaN", "infinite"):
        assert not certificate.holds(ca.Tolerance(INF)).any()
    elif change == "flipped" and boxed:
        assert not certificate.holds().any()


def test_multipliers_that_are_not_finite_prove_nothing() -> None:
    """Neither optimality nor, above all, infeasibility: ∞ − ∞ is no certificate."""
    tries = [INF, -INF, math.nan, 1e308, -1e308]
    half_line, unit = ca.Box(1.0, INF), ca.Box(-1.0, 1.0)
    for program in (
        gnii(0, [-1], ball(2, 5.0), half_line),
        min_norm(1, [-1], 2, half_line),
        gn(-1, [1], ball(1), unit),
    ):
        eta = ca.solve(program).eta
        for a in tries:
            for b in tries:
                filled = zip(program.multiplier_shapes, (a, b), strict=True)
                multipliers = tuple(torch.full(shape, entry, dtype=torch.float64) for shape, entry in filled)
                certificate = ca.certify(program, claim(eta, ca.Status.INFEASIBLE, multipliers))
                assert not certificate.holds().any(), multipliers
                assert certificate.proved.item() != ca.Status.INFEASIBLE.code, multipliers


@pytest.mark.parametrize("kind", ["gnii", "min_norm", "gn"])
def test_multipliers_of_the_wrong_shape_raise(kind: str) -> None:
    program = programs_of(kind, ca.Lp(2), True)
    solution = ca.solve(program)
    for wrong in (
        solution.multipliers[:-1],
        (*solution.multipliers, solution.eta),
        tuple(part[1:] for part in solution.multipliers),
        (),
    ):
        with pytest.raises(
            ValueError, match=r"multipliers must have the shapes .* \(one per set, in its rows; .*\), got"
        ):
            ca.certify(program, ca.Solution(solution.eta, solution.codes, wrong))


def test_a_point_of_the_wrong_shape_or_type_raises() -> None:
    program = programs_of("gnii", ca.Lp(2), True)
    for shape in ((N, D + 1), (N + 1, D), (D,), (1, N, D)):
        with pytest.raises(ValueError, match=r"eta must have the shape \(N, d\) = \(6, 8\) of the gradient, got"):
            ca.certify(program, torch.zeros(shape))
    with pytest.raises(TypeError, match=r"eta must hold floating-point numbers, got torch.int64; write eta.float\(\)"):
        ca.certify(program, torch.zeros(N, D, dtype=torch.int64))


# --- tampering with the claim -----------------------------------------------------------------------------------------


@each_norm
@pytest.mark.parametrize("boxed", [False, True])
def test_feasible_and_infeasible_are_no_synonyms(norm: ca.Lp, boxed: bool) -> None:
    yes, no = programs_of("gn", norm, boxed), programs_of("gn, infeasible", norm, boxed)
    for program, right in ((yes, ca.Status.FEASIBLE), (no, ca.Status.INFEASIBLE)):
        solution = ca.solve(program)
        for status in ca.Status:
            if status != ca.Status.OPTIMAL:
                certificate = ca.certify(program, claim(solution.eta, status, solution.multipliers))
                assert certificate.holds().tolist() == [status == right] * N, status


@each_norm
@pytest.mark.parametrize("kind", ["gnii", "min_norm"])
def test_infeasible_is_refused_where_there_is_a_point(kind: str, norm: ca.Lp) -> None:
    for boxed in (False, True):
        program = programs_of(kind, norm, boxed)
        solution = ca.solve(program)
        for status in set(ca.Status) - {ca.Status.OPTIMAL}:
            assert not ca.certify(program, claim(solution.eta, status, solution.multipliers)).holds().any(), status
        nothing = claim(solution.eta + math.nan, ca.Status.INFEASIBLE, solution.multipliers)
        assert not ca.certify(program, nothing).holds().any()


@pytest.mark.parametrize("status", UNHELD, ids=lambda status: status.name)
def test_who_claims_nothing_holds_nothing(status: ca.Status) -> None:
    for kind in ("gnii", "min_norm", "gn", "gn, infeasible"):
        program = programs_of(kind, ca.Lp(2), True)
        solution = ca.solve(program)
        assert not ca.certify(program, claim(solution.eta, status, solution.multipliers)).holds(ca.Tolerance(INF)).any()


def test_infeasible_with_its_proof_holds_and_without_it_does_not() -> None:
    for program in (
        gnii(0, [1, 1], ball(2), ca.Box(1.0, 2.0)),
        gnii(0, [1, 1], ball(1), ca.Box(0.75, 2.0)),
        gnii(0, [1, 1], ca.Box(-1.0, 1.0), ca.Box(2.0, 3.0)),
        gn(-5, [1, 1], ball(2), ca.Box(1.0, 2.0)),
        min_norm(3, [1, 1], 2, ca.Box(-1.0, 1.0)),
        min_norm(-3, [1, 1], 3, ca.Box(-1.0, 1.0), ca.Box(2.0, 3.0)),
        min_norm(1, [0, 0], 3),
    ):
        solution = ca.solve(program)
        assert names(solution) == ["INFEASIBLE"]
        assert ca.certify(program, solution).holds(TIGHT).all()
        stripped = ca.Solution(solution.eta, solution.codes, tuple(0 * part for part in solution.multipliers))
        itself = bool(program.crossed().any())  # bounds that exclude each other are their own proof
        assert ca.certify(program, stripped).holds().any() == itself
        flipped = ca.Solution(solution.eta, solution.codes, tuple(-part for part in solution.multipliers))
        assert ca.certify(program, flipped).holds().any() == itself


def test_unbounded_holds_only_where_it_is_so() -> None:
    falls, stays = gnii(0, [1, 0], ca.Box(-INF, 1.0)), gnii(0, [-1, 0], ca.Box(-INF, 1.0))
    nothing, none = rows([math.nan, math.nan]), (rows([0.0, 0.0]),)
    assert ca.certify(falls, claim(nothing, ca.Status.UNBOUNDED, none)).holds().all()
    assert not ca.certify(stays, claim(nothing, ca.Status.UNBOUNDED, none)).holds().any()
    assert not ca.certify(falls, claim(rows([-1e9, 0.0]), ca.Status.OPTIMAL, none)).holds().any()


def test_undecided_holds_only_where_float64_cannot_tell() -> None:
    """p = 3 is beyond rational arithmetic: at a near tie UNDECIDED is all there is; elsewhere it is no excuse."""
    near = gn(0.5 * 2 ** (2 / 3), [1, 1], ball(3, 0.5))
    solution = ca.solve(near)
    assert names(solution) == ["UNDECIDED"]
    assert ca.certify(near, solution).holds(TIGHT).all()
    for status in (ca.Status.FEASIBLE, ca.Status.INFEASIBLE):
        assert not ca.certify(near, claim(solution.eta, status, solution.multipliers)).holds().any()
    clear = gn(0.5, [1, 1], ball(3, 0.5))
    assert (
        not ca.certify(clear, claim(ca.solve(clear).eta, ca.Status.UNDECIDED, ca.solve(clear).multipliers))
        .holds()
        .any()
    )


def test_what_is_gained_outside_the_sets_is_charged() -> None:
    """(GN) at equality in (5): a point one part in a million outside has L + gᵀη < 0 and proves nothing."""
    program = gn(2.5, [3, 4], ball(2, 0.5))
    outside = rows([-0.3, -0.4]) * (1 + 5e-7)
    assert program.primal(outside).item() < 0
    certificate = ca.certify(program, claim(outside, ca.Status.FEASIBLE, (-program.g,)))
    assert certificate.violation.item() < ca.Tolerance().at(torch.float64)
    assert not certificate.holds().any()


def test_a_point_outside_buys_nothing() -> None:
    """A ball touches a box: 5e-7 outside buys 1e-3 of the objective, where the one feasible point is worth more."""
    program = gnii(0, [1, 0], ball(2), box([-1, 1], [1, 2]))
    right, wrong = rows([0.0, 1.0]), rows([-1e-3, 1.0])
    u = (rows([-1e3, -1e6]), rows([1e3 - 1, 1e6]))
    assert program.violation(wrong).item() < 1e-6
    for eta in (wrong, right):
        for status in (ca.Status.OPTIMAL, ca.Status.INFEASIBLE, ca.Status.UNBOUNDED):
            held = ca.certify(program, claim(eta, status, u)).holds().item()
            assert not held or eta is right
    asked = gn(5e-4, [1, 0], ball(2), box([-1, 1], [1, 2]))
    assert not ca.certify(asked, claim(wrong, ca.Status.FEASIBLE, u)).holds().any()


def test_a_shortened_answer_is_refused() -> None:
    program = min_norm(2.5, [3, 4], 2)
    solution = ca.solve(program)
    short = ca.Solution(solution.eta * (1 - 1.5e-6), solution.codes, solution.multipliers)
    assert not ca.certify(program, short).holds().any()
    assert ca.certify(program, short).why[0] == "η is outside by 1.5e-06 of the violated row's own unit."


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_a_certificate_is_float64_whatever_it_judges(dtype: torch.dtype) -> None:
    for kind in ("gnii", "min_norm", "gn"):
        wide = programs_of(kind, ca.Lp(2), True)
        program = like(wide, wide.value.to(dtype), wide.gradient.to(dtype), wide.sets)
        solution = ca.solve(program)
        assert solution.eta.dtype == dtype
        certificate = ca.certify(program, solution)
        assert certificate.dtype == dtype
        for part in (
            certificate.primal,
            certificate.dual,
            certificate.gap,
            certificate.violation,
            certificate.residual,
        ):
            assert part.dtype == torch.float64
            assert part.shape == (N,)
        assert certificate.holds().dtype == torch.bool


def test_primal_dual_and_gap_by_hand() -> None:
    program = gnii(1, [3, 4], ball(2, 0.5))
    certificate = ca.certify(program, rows([-0.3, -0.3]))
    assert certificate.primal.item() == pytest.approx(-1.1)
    assert certificate.dual.item() == pytest.approx(-1.5)
    assert certificate.gap.item() == pytest.approx(0.4 / 5)
    assert certificate.scale.item() == pytest.approx(5)
    assert certificate.violation.item() == 0
    assert ca.certify(program, rows([-0.6, -0.8])).violation.item() == pytest.approx(1)
    smallest = min_norm(2.5, [3, 4], 2)
    certificate = ca.certify(smallest, rows([-0.6, -0.8]))
    assert (certificate.primal.item(), certificate.dual.item(), certificate.gap.item()) == pytest.approx((1, 0.5, 1))


def test_tolerance() -> None:
    assert [ca.Tolerance().at(dtype) for dtype in DTYPES] == [1e-6, 1e-5, 1e-2, 1e-1]
    assert [ca.Tolerance.closed_form(dtype).at(dtype) for dtype in DTYPES] == [1e-12, 1e-6, 1e-3, 2e-2]
    assert ca.Tolerance(0.5).at(torch.float64) == ca.Tolerance(0.5).at(torch.float16) == 0.5
    for wrong in (-1e-9, math.nan):
        with pytest.raises(ValueError, match="relative must be a number >= 0"):
            ca.Tolerance(wrong)


# --- weak duality -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, INF]),
    st.sampled_from(["gnii", "min_norm"]),
    st.booleans(),
    st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 30.0]),
    st.sampled_from([0.5, 1.0, 1.5]),
)
def test_no_multipliers_lift_the_bound_above_the_optimum(
    seed: int, p: float, kind: str, boxed: bool, noise: float, factor: float
) -> None:
    """Near the optimal multipliers, where a false bound shows, and far; the optimum is HiGHS's or Proposition 2's."""
    boxed = boxed and p != 2
    program = programs_of(kind, ca.Lp(p), boxed, seed)
    solution = ca.solve(program)
    if p != 2:
        optimum = torch.tensor([simplex(program, i) for i in range(N)], dtype=torch.float64)
    elif kind == "gnii":
        optimum = program.L - 0.4 * program.g.square().sum(1).sqrt()
    else:
        optimum = program.L / program.g.square().sum(1).sqrt()
    multipliers = tuple(factor * part + noise * normal(seed, *part.shape) for part in solution.multipliers)
    scale = program.L.abs() + program.primal(solution.eta).abs() + solution.eta.abs().amax(1)
    slack = ORACLE.at(torch.float64) * scale
    bound = program.bound(multipliers)
    assert (bound.value - bound.error <= optimum + slack).all()
    assert not program.excludes(multipliers).any()
    exact = program.bound(solution.multipliers).value
    torch.testing.assert_close(exact, optimum, rtol=0, atol=float(slack.max()))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([1, 1.5, 2, 3, INF]), st.booleans(), st.sampled_from([1e-9, 1e-3, 1.0]))
def test_no_multipliers_refute_a_point(seed: int, p: float, boxed: bool, noise: float) -> None:
    """(GN) that is feasible by a thousandth is never proved infeasible, nor the reverse by a point nearby."""
    yes, no = (programs_of(kind, ca.Lp(p), boxed, seed) for kind in ("gn", "gn, infeasible"))
    for program, never in ((yes, ca.Status.INFEASIBLE), (no, ca.Status.FEASIBLE)):
        assert isinstance(program, ca.GN)
        solution = ca.solve(program)
        assert all(inside(program, solution.eta, i) for i in range(N))
        near = tuple(part + noise * normal(seed, N, D) for part in (solution.eta, *solution.multipliers))
        verdict = program.decide(near[0] if never == ca.Status.FEASIBLE else solution.eta, near[1:])
        assert not (verdict == never.code).any()


def test_a_negative_lambda_is_no_multiplier() -> None:
    """With L < 0 the optimum of (8) is 0; λL > 0 for λ < 0 would be a bound above it, and prove infeasibility."""
    for sets in ((), (ca.Box(-1.0, 1.0),)):
        program = min_norm(-1, [3, 4], 2, *sets)
        for factor in (-0.2, -1.0, -100.0):
            multipliers = (numbers(factor), *(-factor * program.g for _ in sets))
            assert program.bound(multipliers).value.item() <= 0
            assert not program.excludes(multipliers).any()
