"""The door to CVXPY: certified for every program, norm and set; the optimum on paper; proofs; failures of one item."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from examples import (
    FIRST_ORDER,
    GOLDEN,
    INF,
    PATHS,
    SETS,
    Golden,
    ball,
    gn,
    gnii,
    min_norm,
    names,
    normal,
    numbers,
    rows,
)
from torch import Tensor

import convexattack as ca
from convexattack.solvers import conic
from convexattack.solvers.conic import compiled
from convexattack.solvers.conic.text import Text

N, D = 4, 6
FEW = [ca.Lp(p) for p in (1, 1.5, 2, 3, INF)]
KINDS: dict[str, Any] = {
    "gnii": lambda value, gradient, norm, sets: ca.GNII(value, gradient, (ca.Ball(norm, 0.7), *sets)),
    "gn": lambda value, gradient, norm, sets: ca.GN(value, gradient, (*sets, ca.Ball(norm, 0.7))),
    "min_norm": lambda value, gradient, norm, sets: ca.MinNorm(value, gradient, norm, sets),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
RELATIVE = PATHS.at(torch.float64)


def data() -> tuple[Tensor, Tensor]:
    """Values of which some can be reached and some cannot, gradients with a zero."""
    return normal(4, N).abs() * numbers(0.2, 1, 3, 0.5), normal(5, N, D) * (normal(6, N, D) > -1)


def agree(program: ca.Program, found: ca.Solution, tolerance: ca.Tolerance = PATHS) -> None:
    """The verdict and the objective of the closed form, to the tolerance relative to the program's scale."""
    exact = ca.solve(program, "closed_form")
    assert names(found) == names(exact)
    solved = ~exact.eta.isnan().any(1)
    size = ca.certify(program, exact).scale
    off = (program.primal(found.eta) - program.primal(exact.eta)).abs() / size.where(size > 0, 1.0)
    assert (off[solved] <= tolerance.at(torch.float64)).all(), off


@each_kind
@pytest.mark.parametrize("norm", FEW, ids=str)
@pytest.mark.parametrize("sets", SETS)
def test_every_program_norm_and_set(kind: str, norm: ca.Lp, sets: str) -> None:
    program = KINDS[kind](*data(), norm, SETS[sets](N, D))
    found = ca.solve(program, "reference")
    assert ca.certify(program, found).holds().all()
    agree(program, found)
    linear = norm.p in (1, INF)
    assert found.stats["solver"].split("/")[0] == ("HIGHS" if linear else "CLARABEL")


@each_kind
@pytest.mark.parametrize("p", [1.01, math.pi, 10, 100])
def test_power_cones(kind: str, p: float) -> None:
    for sets in ("nothing", "lopsided"):
        program = KINDS[kind](*data(), ca.Lp(p), SETS[sets](N, D))
        found = ca.solve(program, "reference")
        assert ca.certify(program, found).holds().all()
        agree(program, found)


@pytest.mark.parametrize("solver", ["CLARABEL", "SCS"])
@pytest.mark.parametrize("norm", [ca.Lp(p) for p in (1, 2, 3, INF)], ids=str)
@pytest.mark.parametrize("sets", ["nothing", "lopsided"])
def test_another_solver_by_name(solver: str, norm: ca.Lp, sets: str) -> None:
    tolerance = FIRST_ORDER if solver == "SCS" else ca.Tolerance()
    for kind in ("gnii", "min_norm"):
        program = KINDS[kind](numbers(0.3, 0.2, 0.1, 0.05), data()[1], norm, SETS[sets](N, D))
        found = ca.solve(program, solver)
        assert found.stats["solver"] == solver
        assert ca.certify(program, found).holds(tolerance).all()
        agree(program, found, tolerance)
        assert torch.equal(ca.solve(program, solver.lower()).eta, found.eta)


@pytest.mark.parametrize("golden", GOLDEN, ids=repr)
def test_golden(golden: Golden) -> None:
    found = ca.solve(golden.program, "reference")
    assert found.status[0] == golden.status or (
        isinstance(golden.program, ca.GN) and found.status[0] == ca.Status.UNDECIDED
    )
    if found.status[0] in (ca.Status.OPTIMAL, ca.Status.FEASIBLE):
        assert golden.program.primal(found.eta).item() == pytest.approx(golden.optimum, rel=RELATIVE, abs=RELATIVE)
    if golden.eta is not None and math.isfinite(golden.optimum):
        torch.testing.assert_close(found.eta, rows(golden.eta), rtol=0, atol=1e-4)
    if found.status[0] != ca.Status.UNDECIDED:
        assert ca.certify(golden.program, found).holds().all()


@each_kind
@pytest.mark.parametrize("norm", FEW, ids=str)
def test_the_normalised_text_has_the_optimum_of_the_text_on_paper(kind: str, norm: ca.Lp) -> None:
    program = KINDS[kind](numbers(0.3, 0.2, 0.1, 0.05), data()[1], norm, (ca.Box(-0.3, 0.4),))
    found = ca.solve(program, "reference")
    for i in range(N):
        problem = program.problem(i)
        problem.solve(solver=cp.CLARABEL)
        written = -problem.value if kind == "gn" else problem.value
        assert program.primal(found.eta)[i].item() == pytest.approx(written, rel=RELATIVE, abs=RELATIVE)


@pytest.mark.parametrize("norm", FEW, ids=str)
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_unnormalised_data(norm: ca.Lp, scale: float) -> None:
    """Gradients of 1e±12 and radii of 1e∓12, 1e±12: to an unnormalised solver the one is zero, the other infinite."""
    value, gradient = data()
    for length in (scale, 1 / scale):
        sets = (ca.Ball(norm, 0.7 * length), ca.Box(-0.3 * length, 0.2 * length))
        for program in (
            ca.GNII(value * scale * length, gradient * scale, sets),
            ca.MinNorm(0.2 * value * scale * length, gradient * scale, norm, sets[1:]),
        ):
            found = ca.solve(program, "reference")
            assert ca.certify(program, found).holds().all()
            agree(program, found)


def test_items_keep_apart() -> None:
    """NaN, infinite and impossible items are their own affair, and the answer of each is the same alone."""
    value, gradient = numbers(1, math.nan, 1, 1, 1, 1), rows([3, 4], [3, 4], [math.nan, 4], [INF, 4], [0, 0], [3, 4])
    for norm in (ca.Lp(2), ca.Lp(INF)):
        program = ca.MinNorm(value, gradient, norm, (ca.Box(-1.0, 1.0),))
        found = ca.solve(program, "reference")
        assert names(found) == ["OPTIMAL", "INVALID", "INVALID", "INVALID", "INFEASIBLE", "OPTIMAL"]
        assert ca.certify(program, found).holds().tolist() == [True, False, False, False, True, True]
        assert found.eta[1:5].isnan().all()
        alone = ca.solve(ca.MinNorm(value[:1], gradient[:1], norm, program.sets), "reference")
        assert torch.equal(found.eta[[0, 5]], alone.eta[[0, 0]])


def test_a_solver_that_raises_fails_one_item(monkeypatch: pytest.MonkeyPatch) -> None:
    program = gnii(0, [1, 2, 3, 4, 5], ball(2), ca.Box(-0.25, 0.75))
    program = ca.GNII(program.value.expand(3), program.gradient.expand(3, 5) * numbers(1, -1, 1)[:, None], program.sets)
    calls = iter(range(9))
    genuine = compiled.Compiled.call

    def second_item_unlucky(made: compiled.Compiled, arguments: Any) -> Any:
        if made.solver == "CLARABEL" and next(calls) in (1, 2):
            raise RuntimeError("the factorization is out of luck")
        return genuine(made, arguments)

    monkeypatch.setattr(compiled.Compiled, "call", second_item_unlucky)
    found = ca.solve(program, "CLARABEL")
    assert names(found) == ["OPTIMAL", "FAILED", "OPTIMAL"]
    assert found.eta[1].isnan().all()
    assert found.stats["words"][1] == "RuntimeError: the factorization is out of luck"
    assert ca.certify(program, found).holds().tolist() == [True, False, True]
    calls = iter(range(9))
    found = ca.solve(program, "reference")  # which asks another solver
    assert names(found) == ["OPTIMAL"] * 3
    assert found.stats["words"][1] == "RuntimeError: the factorization is out of luck, SCS: optimal"
    assert ca.certify(program, found).holds().all()


@pytest.mark.parametrize("kind", ["gnii", "min_norm"])
def test_dtype_is_the_gradients(kind: str) -> None:
    value, gradient = numbers(0.3, 0.2, 0.1, 0.05).float(), data()[1].float()
    program = KINDS[kind](value, gradient, ca.Lp(2), ())
    found = ca.solve(program, "reference")
    assert found.eta.dtype == torch.float32
    assert ca.certify(program, found).holds().all()


def test_a_solver_that_is_not_installed() -> None:
    program = gnii(0, [1, 2], ball(2))
    for wrong in ("MOSEKK", "closed form", ""):
        with pytest.raises(
            ValueError, match=r"solver='.*' is neither .* nor an installed CVXPY solver; installed are .*CLARABEL"
        ):
            ca.solve(program, wrong)
    with pytest.raises(ValueError, match=r"solver='HIGHS' cannot take this program: .*; use 'CLARABEL' or 'SCS'"):
        ca.solve(program, "HIGHS")


def test_progress_is_told_of_each_item() -> None:
    program = KINDS["gnii"](*data(), ca.Lp(2), ())
    for solver, expected in (("reference", [1] * N), ("closed_form", [N])):
        told: list[int] = []
        ca.solve(program, solver, progress=told.append)
        assert told == expected


def test_statistics() -> None:
    found = ca.solve(KINDS["gnii"](*data(), ca.Lp(2), ()), "reference")
    assert found.stats["words"] == ["optimal"] * N
    assert np.shape(found.stats["seconds"]) == (N,)
    assert (np.asarray(found.stats["seconds"]) > 0).all()


def test_what_has_no_closed_form_goes_to_the_reference() -> None:
    """A disc cut by a diamond: the optimum is where their edges cross."""
    program = gnii(0, [2, 1], ball(1, 1.2), ball(2, 1.0))
    found = ca.solve(program)
    assert found.stats["solver"] == "CLARABEL"
    assert ca.certify(program, found).holds().all()
    x = (1.2 + math.sqrt(2 - 1.2**2)) / 2  # where circle and diamond cross
    assert program.primal(found.eta).item() == pytest.approx(-(2 * x + 1.2 - x), rel=RELATIVE)


def test_a_custom_ball_is_the_ball() -> None:
    value, gradient = data()
    made = ca.CustomSet(lambda eta: [cp.norm(eta, 1) <= 0.7])
    known, own = (
        ca.GNII(value, gradient, (ca.Ball(ca.Lp(2), 0.5), second)) for second in (ca.Ball(ca.Lp(1), 0.7), made)
    )
    exact, found = ca.solve(known), ca.solve(own)
    torch.testing.assert_close(known.primal(exact.eta), own.primal(found.eta), rtol=RELATIVE, atol=RELATIVE)
    assert ca.certify(known, exact).holds().all()
    assert ca.certify(own, found).holds().all()
    smallest = ca.MinNorm(0.1 * value, gradient, ca.Lp(2), (made,))
    found = ca.solve(smallest)
    assert ca.certify(smallest, found).holds().all()
    agree(ca.MinNorm(0.1 * value, gradient, ca.Lp(2)), found)


@pytest.mark.parametrize("p", [1, 2, 3, INF])
def test_gn_near_equality_is_never_wrong(p: float) -> None:
    """Within 1e-3 to 1e-12 of equality in (5), on either side: the verdict is right or UNDECIDED."""
    norm = ca.Lp(p)
    gradient = normal(9, 1, 5)
    edge = 0.5 * float(norm.dual(gradient))
    for step in (1e-3, 1e-6, 1e-9, 1e-12):
        for side, right in ((1 - step, "FEASIBLE"), (1 + step, "INFEASIBLE")):
            program = gn(edge * side, gradient[0].tolist(), ball(p, 0.5))
            assert names(ca.solve(program, "reference"))[0] in (right, "UNDECIDED")
            assert names(ca.solve(program, "closed_form"))[0] == right


def test_min_norm_at_its_last_point() -> None:
    """The corner of the box is the only point: found, or proved impossible one part in a thousand further."""
    assert names(ca.solve(min_norm(2, [1, 1], INF, ca.Box(-1.0, 1.0)), "reference")) == ["OPTIMAL"]
    beyond = min_norm(2.002, [1, 1], INF, ca.Box(-1.0, 1.0))
    found = ca.solve(beyond, "reference")
    assert names(found) == ["INFEASIBLE"]
    assert ca.certify(beyond, found).holds().all()


@pytest.mark.parametrize("norm", FEW, ids=str)
@pytest.mark.parametrize("boxed", [False, True])
def test_a_re_solve_does_not_compile_again(norm: ca.Lp, boxed: bool) -> None:
    """CVXPY's own map from parameters to data is found and reproduces it; else each item costs a millisecond more."""
    box = (ca.Box(-0.2, 0.3),) if boxed else ()
    value, gradient = data()
    for program in (ca.GNII(value, gradient, (ca.Ball(norm, 0.1), *box)), ca.MinNorm(0.1 * value, gradient, norm, box)):
        ca.solve(program, "reference")
        text = Text(program)
        made = text.of(1, "solve", None)
        assert made is text.of(2, "solve", None)
        assert made.affine is not None
        assert conic.bare(program, 0)() is not None


# --- other sets ------------------------------------------------------------------------------------------------------


ROWS = normal(7, 2, D)
OTHER: dict[str, tuple[ca.ConvexSet, ...]] = {
    "a subspace": (ca.Affine(ROWS, 0.0),),
    "an affine space": (ca.Affine(ROWS, numbers(0.1, 0.2)),),
    "halfspaces": (ca.Halfspaces(ROWS, 0.1),),
    "halfspaces an item": (ca.Halfspaces(normal(8, N, 2, D), 0.1),),
    "total variation": (ca.TotalVariation((2, 3), 0.5),),
    "total variation, isotropic": (ca.TotalVariation((2, 3), 0.5, isotropic=True),),
    "groups": (ca.GroupBall(torch.tensor([0, 0, 1, 1, 2, 2]), 0.6),),
    "weights": (ca.WeightedBall(ca.Lp(2), numbers(1, 2, 3, 1, 0, 1), 0.5),),
    "balls": (ca.Ball(ca.Lp(1), 1.0), ca.Ball(ca.Lp(INF), 0.3)),
    "one's own": (ca.ConvexSet(ca.atoms.NormBall(ca.Lp(1), 0.4), ca.maps.Rows(ROWS)),),
    "a box and halfspaces": (ca.Box(-0.2, 0.3), ca.Halfspaces(ROWS, 0.05)),
}
KINDS_OF_ALL: dict[str, Any] = {
    **KINDS,
    "hinges": lambda value, gradient, norm, sets: ca.HingeSum(
        normal(9, N, 3), normal(10, N, 3, D), (ca.Ball(norm, 0.7), *sets)
    ),
}


def written(program: ca.Program, i: int) -> float:
    """The optimum of the text on paper, by another solver than ours."""
    problem = program.problem(i)
    problem.solve(solver=cp.SCS if problem.is_qp() else cp.CLARABEL, **({"eps": 1e-9} if problem.is_qp() else {}))
    return float(-problem.value if isinstance(program, ca.GN) else problem.value)


@pytest.mark.parametrize("kind", KINDS_OF_ALL)
@pytest.mark.parametrize("norm", FEW, ids=str)
@pytest.mark.parametrize("sets", OTHER)
def test_every_program_over_other_sets(kind: str, norm: ca.Lp, sets: str) -> None:
    value, gradient = data()
    program = KINDS_OF_ALL[kind](0.2 * value, gradient, norm, OTHER[sets])
    found = conic.solve(program)
    certificate = ca.certify(program, found)
    assert certificate.holds().all(), certificate.why
    for i in (0, 1):
        if names(found)[i] != "INFEASIBLE" or kind == "gn":
            optimum = written(program, i)
            assert program.primal(found.eta)[i].item() == pytest.approx(optimum, rel=1e-5, abs=1e-5)
            assert certificate.dual[i] <= optimum + 1e-5 * (1 + abs(optimum))


@pytest.mark.parametrize("power", [1e8, 1e-8])
@pytest.mark.parametrize("norm", [ca.Lp(2), ca.Lp(3), ca.Lp(INF)], ids=str)
def test_the_scale_of_a_text_changes_nothing(power: float, norm: ca.Lp) -> None:
    value, gradient = data()
    wide = np.diff(np.eye(D), axis=0)
    made: dict[str, Any] = {
        "affine": lambda k: ca.Affine(ROWS * k, numbers(0.1, 0.2) * k),
        "halfspaces": lambda k: ca.Halfspaces(ROWS * k, numbers(0.1, 0.2) * k),
        "norm": lambda k: ca.ConvexSet(ca.atoms.NormBall(ca.Lp(1), 0.5 * k), ca.maps.Rows(wide * k)),
        "weights": lambda k: ca.WeightedBall(ca.Lp(2), numbers(1, 2, 3, 1, 0, 1) * k, 0.5 * k),
    }
    for name, make in made.items():
        for kind in ("gnii", "min_norm"):
            one, other = (KINDS[kind](0.2 * value, gradient, norm, (make(k),)) for k in (1.0, power))
            found = conic.solve(other)
            assert ca.certify(other, found).holds().all(), name
            torch.testing.assert_close(one.primal(conic.solve(one).eta), other.primal(found.eta), rtol=1e-6, atol=1e-6)


EMPTY: dict[str, tuple[ca.ConvexSet, ...]] = {
    "a box far away": (ca.Box(1.0, 2.0),),
    "two halfspaces": (ca.Halfspaces(rows([1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]), numbers(-0.1, -0.1)),),
    "two equations": (ca.Affine(torch.ones(2, D), numbers(0.1, 0.2)),),
    "a subspace far away": (ca.Affine(torch.ones(1, D), 9.0),),
    "variation and a jump": (ca.TotalVariation((2, 3), 0.01), ca.Halfspaces(rows([1, 0, 0, 0, 0, -1]), numbers(-0.1))),
    "a box": (ca.Box(torch.full((N, D), 0.2), torch.full((N, D), 0.1)),),
}


@pytest.mark.parametrize("kind", KINDS_OF_ALL)
@pytest.mark.parametrize("norm", FEW, ids=str)
@pytest.mark.parametrize("sets", EMPTY)
def test_what_is_empty_is_proved_to_be(kind: str, norm: ca.Lp, sets: str) -> None:
    program = KINDS_OF_ALL[kind](*data(), norm, (*EMPTY[sets], ca.Ball(ca.Lp(2), 0.5)))
    found = conic.solve(program)
    assert set(names(found)) == {"INFEASIBLE"}
    assert program.excludes(found.multipliers).all()
    assert ca.certify(program, found).holds().all()


def test_an_unbounded_program_comes_with_a_ray() -> None:
    value, gradient = data()
    sets = (ca.Halfspaces(rows([1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0]), numbers(-0.1, 0.1)),)
    program = ca.GNII(value, gradient, sets)
    found = conic.solve(program)
    assert names(found) == ["UNBOUNDED"] * N
    assert found.ray is not None
    assert found.inside is not None
    assert ((gradient * found.ray).sum(-1) < 0).all()
    assert (sets[0].violation(found.inside) == 0).all()
    assert ca.certify(program, found).holds().all()
    for free in (sets, (ca.TotalVariation((2, 3), 0.5),), (ca.Affine(torch.ones(1, D), 0.0),), ()):
        strict = ca.GN(value, gradient, free)
        found = conic.solve(strict)
        assert names(found) == ["FEASIBLE"] * N
        assert ca.certify(strict, found).holds().all()


def test_a_point_inside_comes_with_answers_that_are_not() -> None:
    """In float32 an answer is outside by rounding; where 0 is outside as well, only the door knows a point inside."""
    value, gradient = data()
    sets = (ca.Box(-0.5, 0.4), ca.Halfspaces(-torch.ones(1, D), -1.5))
    program = ca.GNII(value.float(), gradient.float(), (ca.Ball(ca.Lp(2), 0.7), *sets))
    found = conic.solve(program)
    assert found.eta.dtype == torch.float32
    assert found.inside is not None
    assert (program.violation(found.inside) == 0).all()
    assert ca.certify(program, found).holds().all()


# --- what a solver says, and who listens -----------------------------------------------------------------------------


def test_almost_solved_is_not_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    program = KINDS["gnii"](*data(), ca.Lp(2), ())
    monkeypatch.setitem(compiled.OPTIONS, "CLARABEL", {"max_iter": 4})
    found = conic.solve(program, "CLARABEL")
    assert names(found) == ["FAILED"] * N
    assert not {"optimal"} & set(found.stats["words"])
    found = conic.solve(program)
    assert names(found) == ["OPTIMAL"] * N
    assert all(word.endswith("SCS: optimal") for word in found.stats["words"])


def test_there_is_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    program = KINDS["gnii"](*data(), ca.Lp(2), (ca.Box(-0.2, 0.3),))
    monkeypatch.setitem(compiled.OPTIONS, "CLARABEL", compiled.OPTIONS["CLARABEL"] | {"time_limit": 0.0})
    assert names(conic.solve(program, "CLARABEL")) == ["FAILED"] * N
    assert all("time_limit" in options or "time_limit_secs" in options for options in compiled.OPTIONS.values())


def test_solvers_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for norm in (ca.Lp(1), ca.Lp(2), ca.Lp(3)):
        conic.solve(KINDS["gnii"](*data(), norm, (ca.Box(1.0, 2.0),)))
        conic.solve(KINDS["min_norm"](*data(), norm, ()), "SCS")
    assert capfd.readouterr() == ("", "")


def test_threads_share_a_program() -> None:
    """Each thread has its own compiled problem: every answer is its own, a thousand times."""
    value, gradient = data()
    program = ca.GNII(value, gradient, (ca.Ball(ca.Lp(INF), 0.5), ca.Ball(ca.Lp(1), 0.7)))
    alone = conic.solve(program)

    def right(k: int) -> bool:
        again = conic.solve(program[[k % N]])
        return torch.equal(again.eta[0], alone.eta[k % N]) and torch.equal(
            again.multipliers[1][0], alone.multipliers[1][k % N]
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(1000)))
