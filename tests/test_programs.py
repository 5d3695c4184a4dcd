"""Programs as data: text on paper, objective, violation, scale, and the sentences for data that make no program."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import pytest
import torch
from examples import GOLDEN, INF, NORMS, PATHS, Golden, ball, box, gn, gnii, min_norm, normal, numbers, rows

import convexattack as ca

KINDS: dict[str, Any] = {
    "gnii": lambda value, gradient, *sets: ca.GNII(value, gradient, sets),
    "gn": lambda value, gradient, *sets: ca.GN(value, gradient, sets),
    "min_norm": lambda value, gradient, *sets: ca.MinNorm(value, gradient, ca.Lp(2), sets),
}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
ONE, TWO = numbers(1.0), rows([3.0, 4.0])


@pytest.mark.parametrize("golden", GOLDEN, ids=repr)
def test_the_text_on_paper_has_the_known_optimum(golden: Golden) -> None:
    """CVXPY on `problem(0)` alone; (GN) maximizes s = −(L + gᵀη)."""
    problem = golden.program.problem(0)
    problem.solve(solver=cp.CLARABEL)
    expected = -golden.optimum if isinstance(golden.program, ca.GN) else golden.optimum
    assert problem.value == pytest.approx(expected, rel=PATHS.at(torch.float64), abs=PATHS.at(torch.float64))


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_the_text_of_each_norm(norm: ca.Lp) -> None:
    """Proposition 2: L − ε‖g‖_q, and the distance L/‖g‖_q of (8)."""
    value, gradient = numbers(0.7, 2.0), normal(1, 2, 4)
    dual = norm.dual(gradient)
    for i in range(2):
        program = ca.GNII(value, gradient, (ca.Ball(norm, 0.5),))
        assert program.problem(i).solve(solver=cp.CLARABEL) == pytest.approx(
            float(value[i] - 0.5 * dual[i]), rel=PATHS.at(torch.float64)
        )
        smallest = ca.MinNorm(value, gradient, norm)
        assert smallest.problem(i).solve(solver=cp.CLARABEL) == pytest.approx(
            float(value[i] / dual[i]), rel=PATHS.at(torch.float64)
        )


def test_the_text_reads_as_on_paper() -> None:
    problem = gnii(1.0, [3.0, 4.0], ball(2, 0.5), ca.Box(-0.1, 0.2)).problem()
    assert str(problem.objective) == "minimize 1.0 + [3. 4.] @ eta"
    assert [str(row) for row in problem.constraints[1:]] == ["[-0.1 -0.1] <= eta", "eta <= [0.2 0.2]"]
    assert str(problem.constraints[0]) == str(cp.norm(problem.variables()[0], 2) <= 0.5)


@each_kind
def test_data_that_make_no_program_are_refused(make: Any) -> None:
    one = ca.Box(-1.0, 1.0)
    for value, gradient, name in (
        (ONE, torch.zeros(2), r"gradient must have shape \(N, d\)"),
        (ONE, torch.zeros(1, 2, 2), r"gradient must have shape \(N, d\)"),
        (ONE, torch.zeros(1, 0), r"gradient must have shape \(N, d\), d >= 1, got \(1, 0\)"),
        (
            torch.zeros(2),
            TWO,
            r"value must have shape \(N,\) = \(1,\), like the rows of gradient, got \(2,\); "
            r"gradient has shape \(1, 2\)",
        ),
        (torch.zeros(1, 1), TWO, r"value must have shape \(N,\)"),
    ):
        with pytest.raises(ValueError, match=name):
            make(value, gradient, one)
    wrong: tuple[tuple[Any, Any, str], ...] = (
        (1.0, TWO, "value must be a torch tensor or a NumPy array, got float"),
        (ONE, [[3.0, 4.0]], "gradient must be a torch tensor or a NumPy array, got list"),
        (ONE, TWO.long(), r"gradient must hold floating-point numbers, got torch.int64; write gradient.float\(\)"),
        (ONE.int(), TWO, "value must hold floating-point numbers, got torch.int32"),
    )
    for value, gradient, name in wrong:
        with pytest.raises(TypeError, match=name):
            make(value, gradient, one)
    with pytest.raises(TypeError, match=r"sets\[1\] must be a convex set such as ca.Ball or ca.Box, got 0.5"):
        make(ONE, TWO, one, 0.5)


def test_a_norm_that_is_no_norm_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"norm must be a ca.Lp, got 2; write ca.MinNorm\(value, gradient, ca.Lp\(2\)\)"
    ):
        ca.MinNorm(ONE, TWO, 2)  # type: ignore[arg-type]


@each_kind
def test_items_are_counted_and_addressed(make: Any) -> None:
    program = make(torch.zeros(3), torch.zeros(3, 2), ca.Box(-1.0, 1.0))
    assert len(program) == 3
    for i in (3, -4):
        with pytest.raises(IndexError, match=r"i must be in \[0, 3\)"):
            program.problem(i)


@each_kind
def test_the_last_item_from_the_end(make: Any) -> None:
    value, gradient = numbers(1.0, 2.0), rows([1.0, 1.0], [3.0, 4.0])
    program = make(value, gradient, ca.Ball(ca.Lp(2), numbers(1.0, 5.0)))
    assert program.problem(-1).solve(solver=cp.CLARABEL) == pytest.approx(program.problem(1).solve(solver=cp.CLARABEL))
    assert program.problem(0).solve(solver=cp.CLARABEL) != pytest.approx(program.problem(1).solve(solver=cp.CLARABEL))


@each_kind
def test_numpy_and_graphs_are_welcome(make: Any) -> None:
    program = make(ONE.numpy(), TWO.numpy(), ca.Box(-1.0, 1.0))
    assert torch.equal(program.gradient, TWO)
    program = make(ONE.clone().requires_grad_(), TWO.clone().requires_grad_(), ca.Box(-1.0, 1.0))
    assert not program.gradient.requires_grad
    assert not ca.solve(program).eta.requires_grad


def test_one_set_needs_no_tuple() -> None:
    program = ca.GNII(ONE, TWO, ball(2))  # type: ignore[arg-type]
    assert len(program.sets) == 1


def test_objective() -> None:
    eta = rows([1.0, -2.0])
    assert gnii(1, [3, 4], ball(2)).primal(eta).item() == -4
    assert gn(1, [3, 4], ball(2)).primal(eta).item() == -4
    for p, expected in ((1, 3), (2, math.sqrt(5)), (INF, 2)):
        assert min_norm(1, [3, 4], p).primal(eta).item() == pytest.approx(expected)


def test_a_violation_is_in_units_of_its_row() -> None:
    """A ball's radius; a row's width; without one, how far the row varies over the other sets; |L| for (8)'s own."""
    eta = rows([3.0, 4.0])
    assert gnii(1, [1, 1], ball(2, 2.5)).violation(eta).item() == 1
    assert gnii(1, [1, 1], ball(2, 5.0)).violation(eta).item() == 0
    assert gnii(1, [1, 1], box([-1, -2], [1, 2])).violation(eta).item() == 1
    assert gnii(1, [1, 1], ball(INF, 4.0), ca.Box(-INF, 3.0)).violation(eta).item() == 1 / 8
    assert gnii(1, [1, 1], ball(2, 5.0), ca.Support(torch.tensor([True, False]))).violation(eta).item() == 0.4
    halfspace = ca.Halfspaces(rows([3.0, 4.0]), 20.0)
    assert gnii(1, [1, 1], ball(2, 5.0), halfspace).violation(eta).item() == pytest.approx(5 / 50)
    assert gnii(1, [1, 1], ca.Box(0.0, 5.0), halfspace).violation(eta).item() == pytest.approx(5 / 35)
    assert gnii(1, [1, 1], halfspace).violation(eta).item() == pytest.approx(5 / 20)
    assert min_norm(1, [1, 1], INF).violation(eta).item() == 8
    assert min_norm(-7, [1, 1], INF).violation(eta).item() == 0
    assert gnii(1, [1, 1], ball(2)).violation(rows([math.nan, 0])).isnan().item()


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e8])
def test_scaling_the_rows_of_a_set_changes_no_violation(factor: float) -> None:
    A, eta = normal(1, 3, 4), normal(2, 1, 4)
    for make in (ca.Halfspaces, ca.Affine):
        one, other = (gnii(0, [1, 1, 1, 1], ball(2), make(c * A, c * numbers(0.1, -0.2, 0.0))) for c in (1.0, factor))
        assert one.violation(eta).item() == pytest.approx(other.violation(eta).item(), rel=1e-12)


def test_scale() -> None:
    """How far the sets let L + gᵀη vary, the least that is known; no |L|. For (8) the least reach."""
    inf = torch.tensor(INF)
    assert gnii(-1, [3, 4], ball(2, 2.0)).scale().item() == pytest.approx(20)
    assert gnii(1e12, [3, 4], ball(2, 2.0), box([-0.1, -1], [0.2, 0])).scale().item() == pytest.approx(4.9)
    assert gnii(-1, [3, 4], box([-INF, 0], [0, 0])).scale() == inf
    assert gnii(-1, [0, 4], box([-INF, 0], [0, 0])).scale().item() == 0
    assert gnii(-1, [3, 4], ca.Halfspaces(rows([1.0, 1.0]), 1.0)).scale() == inf
    assert gnii(0, [3, 4], ca.WeightedBall(ca.Lp(2), numbers(1, 2), 1.0)).scale().item() == pytest.approx(
        2 * math.sqrt(13)
    )
    assert gnii(0, [3, 4], ca.GroupBall(torch.tensor([0, 0]), 1.0)).scale().item() == pytest.approx(10)
    assert min_norm(-1, [3, 4], 2, ca.Box(-0.5, 2.0), ball(2, 3.0)).scale().item() == 2
    assert min_norm(-1, [3, 4], 2).scale().item() == 0
    assert ca.HingeSum(
        rows([1.0, 1.0]), rows([3.0, 4.0], [4.0, 3.0])[None], (ball(2),)
    ).scale().item() == pytest.approx(20)


def test_multiplier_shapes() -> None:
    assert gnii(1, [3, 4], ball(2), ca.Box(-1.0, 1.0)).multiplier_shapes == [(1, 2), (1, 2)]
    assert min_norm(1, [3, 4], 2, ca.Box(-1.0, 1.0)).multiplier_shapes == [(1,), (1, 2)]
    assert min_norm(1, [3, 4], 2).multiplier_shapes == [(1,)]


PROGRAMS: dict[str, Callable[[], ca.Program]] = {
    "gnii": lambda: ca.GNII(
        normal(1, 4), normal(2, 4, 3), (ca.Ball(ca.Lp(2), numbers(1, 2, 3, 4)), ca.Box(-1.0, normal(3, 4, 3).abs()))
    ),
    "gn": lambda: ca.GN(normal(1, 4), normal(2, 4, 3), (ball(INF), ca.Affine(normal(3, 4, 2, 3), normal(4, 4, 2)))),
    "min_norm": lambda: ca.MinNorm(
        normal(1, 4), normal(2, 4, 3), ca.Lp(3), (ca.Halfspaces(normal(3, 2, 3), numbers(1, 2)),)
    ),
    "hinges": lambda: ca.HingeSum(
        normal(1, 4, 2), normal(2, 4, 2, 3), (ca.WeightedBall(ca.Lp(1), normal(3, 3).abs(), 1.0),)
    ),
}


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_taken_items_are_those_items(make: Callable[[], ca.Program]) -> None:
    """program[rows] has the objective, violation and bound of these rows; so has what was pickled."""
    program, eta = make(), normal(5, 4, 3)
    multipliers = tuple(normal(6 + j, *shape) for j, shape in enumerate(program.multiplier_shapes))
    for rows_, taken in (([2, 0], program[[2, 0]]), ([1, 2], program[1:3]), ([3], program[torch.tensor([3])])):
        assert len(taken) == len(rows_)
        parts = tuple(part[rows_] for part in multipliers)
        assert torch.equal(taken.primal(eta[rows_]), program.primal(eta)[rows_])
        torch.testing.assert_close(taken.violation(eta[rows_]), program.violation(eta)[rows_], rtol=1e-12, atol=0)
        torch.testing.assert_close(
            taken.bound(parts).value, program.bound(multipliers).value[rows_], rtol=1e-12, atol=1e-12
        )
    again = copy.deepcopy(program)  # by the protocol of pickle
    assert torch.equal(again.bound(multipliers).value, program.bound(multipliers).value)


def test_a_program_keeps_its_own_data() -> None:
    value, gradient, radius = ONE.clone(), TWO.clone(), numbers(0.5)
    program = ca.GNII(value, gradient, (ca.Ball(ca.Lp(2), radius),))
    before = program.bound((-TWO,)).value.item()
    for data in (value, gradient, radius):
        data *= 100
    assert program.bound((-TWO,)).value.item() == before
    with pytest.raises(AttributeError):
        program.value = value  # type: ignore[misc]


class Generous(ca.Ball):
    """A set that says it contains everything."""

    def excess(self, eta: torch.Tensor, aux: torch.Tensor | None = None) -> torch.Tensor:
        return -torch.ones_like(eta)


@each_kind
def test_a_subclass_of_a_set_is_refused(make: Any) -> None:
    with pytest.raises(TypeError, match=r"sets\[0\] is a Generous, a subclass whose answers nobody can check; compose"):
        make(ONE, TWO, Generous(ca.Lp(2), 1.0))


def test_float64_holds_the_data_of_every_dtype() -> None:
    program = ca.GNII(
        torch.tensor([0.1], dtype=torch.float16), torch.tensor([[0.1, -0.3]], dtype=torch.float16), (ball(2),)
    )
    assert program.L.dtype == program.g.dtype == torch.float64
    assert program.L.tolist() == program.value.tolist()
    value, gradient = program.row(0)
    assert (value, gradient.tolist()) == (program.value.item(), program.gradient[0].tolist())


def test_one_point_for_many_items() -> None:
    program = ca.GNII(torch.zeros(40), torch.ones(40, 5000), (ca.Ball(ca.Lp(2), 1.0),))
    assert torch.equal(program.linear(torch.ones(1, 5000)), torch.full((40,), 5000.0, dtype=torch.float64))
