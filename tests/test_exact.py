"""Exact certificates: what is true is PROVED, what is false REFUTED, and every enclosure holds its number."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest
import torch
from examples import (
    DTYPES,
    GOLDEN,
    INF,
    Golden,
    ball,
    box,
    gn,
    gnii,
    inside,
    length,
    linear,
    min_norm,
    normal,
    numbers,
    rows,
)
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

import convexattack as ca
from convexattack.certificates import judge
from convexattack.cli import app
from convexattack.enclosures import vector
from convexattack.files import write_solution
from convexattack.sets.exact import Family, Place
from convexattack.testing import programs

PROVED, ROUNDING, TOLERATED, REFUTED, UNDECIDED = ca.Verdict
CLAIMS = {ca.Status.OPTIMAL, ca.Status.FEASIBLE, ca.Status.INFEASIBLE, ca.Status.UNBOUNDED}


def random(*shape: int, seed: int = 0) -> Tensor:
    return normal(seed, *shape)


def exactly(program: ca.Program | ca.OperatorNorm, solution: ca.Solution | Tensor) -> ca.ExactCertificate:
    return ca.certify(program, solution, exact=True)


def claiming(solution: ca.Solution, eta: Tensor, status: ca.Status = ca.Status.OPTIMAL) -> ca.Solution:
    return ca.Solution(eta, torch.full_like(solution.codes, status.code), solution.multipliers, inside=solution.inside)


def said(
    status: ca.Status, eta: Tensor, *multipliers: Tensor, inside: Tensor | None = None, ray: Tensor | None = None
) -> ca.Solution:
    """A claim about one item, by hand."""
    return ca.Solution(eta, torch.tensor([status.code], dtype=torch.int8), multipliers, inside=inside, ray=ray)


def verdicts(certificate: ca.ExactCertificate) -> set[ca.Verdict]:
    return set(certificate.verdict)


@pytest.mark.parametrize("golden", GOLDEN, ids=repr)
def test_what_is_known_is_proved(golden: Golden) -> None:
    solution = ca.solve(golden.program)
    certificate = exactly(golden.program, solution)
    (proof,) = certificate.proofs
    assert proof.verdict is PROVED, proof.why
    assert certificate.holds().all()
    if golden.status is ca.Status.OPTIMAL:
        # the golden number is itself a float, off by its own rounding
        near = 1e-15 * (1 + abs(golden.optimum))
        assert proof.dual.lower <= Fraction(golden.optimum + near)
        assert proof.primal.upper >= Fraction(golden.optimum - near)


@given(programs(dtypes=DTYPES))
def test_closed_forms_are_proved(program: ca.Program) -> None:
    """Nearly: at p = 1e6 a point can be so near the ball that no precision worth having tells on which side."""
    solution = ca.solve(program)
    certificate = exactly(program, solution)
    for status, proof in zip(solution.status, certificate.proofs, strict=True):
        if status in CLAIMS:
            assert proof.verdict is PROVED or (proof.verdict is ROUNDING and proof.violation.lower <= 0), proof.why
        else:
            assert proof.verdict is UNDECIDED


@given(programs(dtypes=(torch.float64,)))
def test_the_enclosures_hold_what_they_enclose(program: ca.Program) -> None:
    solution = ca.solve(program)
    certificate = exactly(program, solution)
    plain = ca.certify(program, solution)
    for i, proof in enumerate(certificate.proofs):
        if not solution.eta[i].isfinite().all():
            continue
        is_inside = inside(program, solution.eta, i) and not over(program, solution.eta, i)
        unseen = 0 < proof.violation.upper < 1e-38  # by the 40 digits of `inside`
        assert (proof.violation.upper == 0) == is_inside or program_is_wide(program) or unseen
        if not isinstance(program, ca.MinNorm):
            assert proof.primal.lower == proof.primal.upper == linear(program, solution.eta, i)
        else:
            size = length(solution.eta[i], program.norm.p)
            assert float(proof.primal.lower) * (1 - 1e-15) <= size <= float(proof.primal.upper) * (1 + 1e-15)
        if plain.dual[i].isfinite():
            size = plain.scale[i].nan_to_num(0.0, 0.0, 0.0) + abs(program.L[i]) + plain.dual[i].abs()
            assert 0 <= float(proof.dual.lower) - plain.dual[i] <= 1e-12 * size, "float64 charges its own errors"
        assert proof.gap.upper >= 0 or proof.violation.upper != 0, "weak duality"


def over(program: ca.Program, eta: Tensor, i: int) -> bool:
    return isinstance(program, ca.MinNorm) and linear(program, eta, i) > 0


def program_is_wide(program: ca.Program) -> bool:
    """Whether a ball has so large a p that 40 digits, in `inside`, are too few."""
    return any(isinstance(item, ca.Ball) and 100 < item.norm.p < INF for item in program.sets)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
@pytest.mark.parametrize("box", [False, True])
def test_one_unit_in_the_last_place_outside_is_rounding(p: float, box: bool) -> None:
    g, x = random(8, 5), torch.rand(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    edge: tuple[ca.Box, ...] = (ca.PixelRange().at(x),) if box else ()
    program = ca.GNII(random(8, seed=2), g, (ca.Ball(ca.Lp(p), 0.5), *edge))
    solution = ca.solve(program)
    eta = solution.eta
    assert verdicts(exactly(program, eta)) == {PROVED}
    if p not in (1, INF) or (p == 1 and box):  # most of the kernel's own margin
        eta = eta * (1 + 60 * 2.0**-53)
        eta = torch.minimum(torch.maximum(eta, edge[0].bounds(g)[0]), edge[0].bounds(g)[1]) if box else eta
    for _ in range(60):  # outwards by one unit in the last place at a time, until the exact oracle says it is outside
        longer = torch.where(eta == 0, eta, torch.nextafter(eta, eta * INF))
        out = torch.tensor([not inside(program, longer, i) for i in range(8)])
        if bool(out.any()):
            claim = claiming(solution, torch.where(out[:, None], longer, eta))
            found = exactly(program, claim)
            assert [verdict is ROUNDING for verdict in found.verdict] == out.tolist()
            assert found.holds().tolist() == (~out).tolist()
            assert found.holds(ca.Tolerance(1e-12)).all()
            proof = found.proofs[int(out.nonzero()[0])]
            assert "outside sets[" in proof.why
            assert 0 < proof.violation.lower <= proof.violation.upper < 5 * 2.0**-52
            assert proof.gap.lower >= 0
            if bool(out.all()):
                return
        eta = torch.where(out[:, None], eta, longer)
    pytest.fail("it never left the sets")


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize("kind", ["gnii", "min_norm"])
@pytest.mark.parametrize("away", [1e-9, 1e-3])
def test_a_worse_point_is_tolerated_or_refuted_by_a_better_one(away: float, kind: str, p: float, box: bool) -> None:
    g, x = random(20, 6), torch.rand(20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    edge: tuple[ca.Box, ...] = (ca.PixelRange().at(x),) if box else ()
    program: ca.Program = ca.GNII(torch.zeros(20, dtype=torch.float64), g, (ca.Ball(ca.Lp(p), 0.3), *edge))
    if kind == "min_norm":
        program = ca.MinNorm(torch.full((20,), 0.05, dtype=torch.float64), g, ca.Lp(p), edge)
    solution = ca.solve(program)
    assert verdicts(exactly(program, solution)) == {PROVED}
    worse = solution.eta * (1 - away) if kind == "gnii" else solution.eta * (1 + away)
    if kind == "min_norm" and box:
        low, high = edge[0].bounds(g)
        worse = torch.minimum(torch.maximum(worse, low), high)
        worse = torch.where(worse == solution.eta, solution.eta, worse)
    for claim in (worse, claiming(solution, worse)):
        certificate = exactly(program, claim)
        for i, proof in enumerate(certificate.proofs):
            if torch.equal(program.primal(worse)[i], program.primal(solution.eta)[i]):
                continue  # the box left it where it was
            if away < 1e-6:
                assert proof.verdict is TOLERATED, proof.why
                continue
            assert proof.verdict is REFUTED, proof.why
            assert proof.witness is not None
            assert proof.better is not None
            assert inside(program, proof.witness[None].expand(20, -1), i)
            assert not over(program, proof.witness[None].expand(20, -1), i)
            assert 1e-6 < proof.better.lower <= proof.better.upper < 1e-2
    assert not exactly(program, claiming(solution, solution.eta, ca.Status.INFEASIBLE)).holds().any()
    assert verdicts(exactly(program, claiming(solution, solution.eta, ca.Status.INFEASIBLE))) == {REFUTED}


def test_claims_about_feasibility() -> None:
    g = torch.tensor([[3.0, 4.0]] * 3, dtype=torch.float64)
    program = ca.GN(torch.tensor([2.5, 2.4, 2.6], dtype=torch.float64), g, (ca.Ball(ca.Lp(2), 0.5),))
    solution = ca.solve(program)
    assert [status.name for status in solution.status] == ["INFEASIBLE", "FEASIBLE", "INFEASIBLE"]
    assert verdicts(exactly(program, solution)) == {PROVED}
    swapped = ca.Solution(solution.eta, solution.codes[[1, 0, 1]], solution.multipliers)
    assert verdicts(exactly(program, swapped)) == {REFUTED}
    nothing = ca.Solution(solution.eta, torch.full_like(solution.codes, ca.Status.UNDECIDED.code), solution.multipliers)
    assert [proof.proved.name for proof in exactly(program, nothing).proofs] == ["INFEASIBLE", "FEASIBLE", "INFEASIBLE"]
    assert verdicts(exactly(program, nothing)) == {UNDECIDED}


def test_equality_in_5_is_infeasible_for_cubes_and_squares_too() -> None:
    """‖g‖_q of small integers is an integer: 3-4-5 for q = 2, 1 + 4 for q = 1, the largest for q = ∞."""
    for p, value in ((2, 5.0), (INF, 7.0), (1, 4.0)):
        program = ca.GN(torch.tensor([value]), torch.tensor([[3.0, 4.0]]), (ca.Ball(ca.Lp(p), 1.0),))
        certificate = exactly(program, ca.solve(program))
        assert certificate.proofs[0].dual.lower == certificate.proofs[0].dual.upper == 0
        assert certificate.verdict[0] is PROVED


def test_multipliers_that_do_not_sum_to_minus_g_are_completed() -> None:
    g = random(3, 6)
    program = ca.GNII(torch.zeros(3, dtype=torch.float64), g, (ca.Ball(ca.Lp(2), 1.0), ca.Box(-0.1, 0.1)))
    solution = ca.solve(program)
    off = tuple(v + 1e-3 * random(3, 6, seed=j) for j, v in enumerate(solution.multipliers))
    certificate = exactly(program, ca.Solution(solution.eta, solution.codes, off))
    assert (certificate.dual <= exactly(program, solution).primal).all()
    assert (certificate.gap > 0).all()
    assert verdicts(certificate) == {UNDECIDED}
    assert not certificate.holds(ca.Tolerance()).any()
    assert certificate.holds(ca.Tolerance(1e-1)).all()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
@pytest.mark.parametrize(("m", "d"), [(1, 4), (3, 7), (6, 3), (10, 40)])
def test_operator_norm(p: float, m: int, d: int) -> None:
    program = ca.OperatorNorm(random(3, m, d), ca.Ball(ca.Lp(p), 0.5))
    solution = ca.solve(program)
    certificate, plain = exactly(program, solution), ca.certify(program, solution)
    assert verdicts(certificate) == {PROVED}
    torch.testing.assert_close(certificate.primal, plain.primal, rtol=1e-12, atol=0)
    assert (certificate.primal >= plain.primal).all()
    torch.testing.assert_close(certificate.dual, plain.dual, rtol=1e-12, atol=0)
    assert (certificate.dual <= plain.dual * (1 + 1e-12)).all()
    signs = (
        torch.tensor([[1.0 if k >> i & 1 else -1.0 for i in range(d)] for k in range(2**d)], dtype=torch.float64)
        if d <= 7
        else None
    )
    if p == INF and signs is not None:
        best = (0.5 * program.J @ signs.mT).norm(dim=1).amax(1)
        assert (certificate.dual >= best * (1 - 1e-14)).all()
        assert (certificate.primal <= best * (1 + 1e-14)).all()
    assert verdicts(exactly(program, claiming(solution, solution.eta * 0.9))) == {REFUTED}
    bracketed = ca.Solution(
        solution.eta * (1 + 1e-9), torch.full_like(solution.codes, ca.Status.BRACKETED.code), solution.multipliers
    )
    assert verdicts(exactly(program, bracketed)) == {TOLERATED}
    far = ca.Solution(solution.eta * (1 + 1e-3), bracketed.codes, solution.multipliers)
    assert verdicts(exactly(program, far)) == {REFUTED}


@pytest.mark.parametrize("share", [0.5, 1 - 1e-9, 1.0])
def test_the_bound_of_an_operator_norm_does_not_trust_eigenvalues(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too small an estimate of λ_max, with another eigenvector, is refused by the pivots of LDLᵀ."""
    program = ca.OperatorNorm(random(3, 6, 9), ca.Ball(ca.Lp(2), 1.0))
    solution = ca.solve(program)
    exact = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (share * exact(matrix)[0], exact(matrix)[1][:, ::-1]))
    certificate, top = exactly(program, solution), torch.linalg.matrix_norm(program.J, 2)
    assert (certificate.dual >= top * (1 - 1e-14)).all()
    assert (certificate.dual <= top * (1 + 1e-8)).all() or share < 1  # a ball so wide has a radius of 30 bits


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_operator_norm_of_degenerate_matrices(scale: float) -> None:
    J = (
        torch.stack([torch.zeros(3, 4), torch.ones(3, 4), torch.diag(torch.tensor([1.0, 1e-9, 0.0, 0.0]))[:3]]).double()
        * scale
    )
    for p in (1, 1.5, 2, 3, INF):
        program = ca.OperatorNorm(J, ca.Ball(ca.Lp(p), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)))
        certificate = exactly(program, ca.solve(program))
        assert verdicts(certificate) == {PROVED}
        assert certificate.residual[0] == 0


def test_an_operator_norm_with_bad_multipliers_is_undecided_and_never_wrong() -> None:
    program = ca.OperatorNorm(random(1, 3, 5), ca.Ball(ca.Lp(INF), 1.0))
    solution = ca.solve(program)
    best = exactly(program, solution).dual
    for y in (torch.ones(1, 5), torch.rand(1, 5, generator=torch.Generator().manual_seed(0))):
        found = exactly(program, ca.Solution(solution.eta, solution.codes, (y.double(), solution.multipliers[1])))
        assert (found.dual >= best * (1 - 1e-8)).all()
    for y in (torch.zeros(1, 5), -torch.ones(1, 5), torch.full((1, 5), math.nan)):
        found = exactly(program, ca.Solution(solution.eta, solution.codes, (y.double(), solution.multipliers[1])))
        assert found.dual.isinf().all()
        assert verdicts(found) == {UNDECIDED}


def test_items_that_are_not_finite_claim_nothing() -> None:
    value, gradient = torch.tensor([0.0, math.nan, 0.0]), torch.tensor([[1.0, 2.0], [1.0, 2.0], [math.inf, 0.0]])
    program = ca.GNII(value, gradient, (ca.Ball(ca.Lp(2), 1.0),))
    certificate = exactly(program, ca.solve(program))
    assert list(certificate.verdict) == [PROVED, UNDECIDED, UNDECIDED]
    assert certificate.holds().tolist() == [True, False, False]
    bare = exactly(program, torch.tensor([[math.nan, 0.0]] * 3))
    assert bare.verdict[0] is REFUTED
    assert "1 REFUTED, 2 UNDECIDED" in repr(bare)
    for u in (math.nan, INF):
        off = ca.Solution(torch.tensor([[-1.0, 0.0]] * 3), certificate.claimed, (torch.full((3, 2), u),))
        assert not exactly(program, off).holds(ca.Tolerance(1.0)).any()


def test_what_cannot_be_exact_is_named() -> None:
    custom = ca.CustomSet(lambda eta: [eta >= -1])
    program = ca.GNII(torch.zeros(1), torch.ones(1, 2), (ca.Ball(ca.Lp(2), 1.0), custom))
    multipliers = tuple(torch.zeros(shape) for shape in program.multiplier_shapes)
    with pytest.raises(ValueError, match=r"exact must be False with sets\[1\], a CustomSet"):
        exactly(program, said(ca.Status.OPTIMAL, torch.zeros(1, 2), *multipliers))
    model = torch.nn.Linear(2, 2)
    free = ca.OperatorNorm.from_model(model, torch.zeros(1, 2), ca.Ball(ca.Lp(2), 1.0))
    with pytest.raises(ValueError, match="exact must be False for a matrix-free OperatorNorm"):
        exactly(free, torch.zeros(1, 2))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=4), st.sampled_from([1, 1.5, 2, 3, 7.5, 1e3, INF]))
def test_any_scale(entries: list[float], p: float) -> None:
    g = torch.tensor([entries], dtype=torch.float64)
    program = ca.GNII(torch.zeros(1, dtype=torch.float64), g, (ca.Ball(ca.Lp(p), 1e-3),))
    assert verdicts(exactly(program, ca.Lp(p).steepest(g, 1e-3))) == {PROVED}


def test_progress_is_told_item_by_item() -> None:
    program = ca.GNII(torch.zeros(3), torch.ones(3, 2), (ca.Ball(ca.Lp(2), 1.0),))
    seen: list[int] = []
    ca.certify(program, ca.solve(program), exact=True, progress=seen.append)
    assert seen == [1, 1, 1]
    seen.clear()
    ca.certify(program, ca.solve(program), progress=seen.append)
    assert seen == [3]


# --- every set of the catalogue ---------------------------------------------------------------------------------------

D = 12
TABLE = normal(5, 2, D)
SETS: dict[str, Callable[[], tuple[ca.ConvexSet, ...]]] = {
    "line": lambda: (ca.Affine(torch.ones(1, D, dtype=torch.float64)), ball(2)),
    "equalities twice": lambda: (ca.Affine(torch.cat([TABLE, TABLE]), 0.1), ca.Box(-0.5, 0.5)),
    "equalities on a mask": lambda: (ca.Affine(TABLE, 0.1), ca.Support(torch.arange(D) % 3 > 0), ball(2)),
    "halfspaces": lambda: (ca.Halfspaces(TABLE, 0.05), ball(INF, 0.4)),
    "halfspaces an item": lambda: (ca.Halfspaces(normal(9, 2, 2, D), 0.1), ball(2)),
    "total variation": lambda: (ca.TotalVariation((3, 4), 1.0), ball(2)),
    "isotropic": lambda: (ca.TotalVariation((3, 4), 1.0, isotropic=True), ca.Box(-0.3, 0.4)),
    "shifted": lambda: (ca.TotalVariation((3, 4), 1.0).shifted(0.05 * normal(8, 2, D)), ball(2)),
    "weights": lambda: (ca.WeightedBall(ca.Lp(3), normal(6, D).abs(), 1.0), ca.Box(-0.3, 0.3)),
    "weights of 0": lambda: (ca.WeightedBall(ca.Lp(1), (torch.arange(D) % 3).double(), 1.0), ca.Box(-0.3, 0.3)),
    "groups": lambda: (ca.GroupBall(torch.arange(D) // 3, 1.0),),
    "largest group": lambda: (ca.GroupBall(torch.arange(D) // 3, 1.0, INF),),
    "groups and equalities": lambda: (ca.GroupBall(torch.arange(D) // 3, 1.0, 3), ca.Affine(TABLE)),
    "three balls": lambda: (ball(1), ball(2, 0.6), ball(INF, 0.4)),
    "a mask": lambda: (ca.Support(torch.arange(D) % 3 > 0), ball(2)),
}
PROGRAMS: dict[str, Callable[[tuple[ca.ConvexSet, ...]], ca.Program]] = {
    "gnii": lambda sets: ca.GNII(normal(2, 2), normal(1, 2, D), sets),
    "gn": lambda sets: ca.GN(normal(2, 2), normal(1, 2, D), sets),
    "hinges": lambda sets: ca.HingeSum(8 + normal(3, 2, 4), normal(4, 2, 4, D), sets),
    "min_norm": lambda sets: ca.MinNorm(torch.full((2,), 0.2, dtype=torch.float64), normal(1, 2, D), ca.Lp(2), sets),
}


def conic(program: ca.Program) -> ca.Solution:
    """Clarabel's answers, their multipliers as the duals of K_j η = z_j, and a point well inside but for equalities."""
    n, d = len(program), program.gradient.shape[-1]
    points: list[np.ndarray] = []
    found: list[list[np.ndarray]] = []
    for i in range(n):
        eta, links, texts = cp.Variable(d), [], []
        for item in program.sets:
            parameters = {name: entry[i] for name, entry in item.parameters(n, d).items()}
            z = cp.Variable(item.rows(d))
            links.append(item.map.text(eta, parameters) == z)
            texts += item.atom.text(z, parameters)
        t = program.A[i].numpy() @ eta + program.c[i].numpy()
        slack = cp.Variable(t.size)
        own = [t <= 0] if program.norm is not None else [t <= slack, slack >= 0] if program.pieces else []
        goal = cp.norm(eta, 2) if program.norm is not None else cp.sum(slack) if program.pieces else cp.sum(t)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cp.Problem(cp.Minimize(goal), [*links, *texts, *own]).solve(cp.CLARABEL)
        points.append(np.asarray(eta.value))
        first = [own[0].dual_value] if own else []
        found.append([np.asarray(part) for part in (*first, *(link.dual_value for link in links))])
    made = [torch.tensor(np.stack(column)) for column in zip(*found, strict=True)]
    multipliers = tuple(part.reshape(shape) for part, shape in zip(made, program.multiplier_shapes, strict=True))
    point = torch.tensor(np.stack(points))
    codes = torch.where(program.linear(point) < 0, 1, 2) if isinstance(program, ca.GN) else torch.zeros(n)
    return ca.Solution(point, codes.to(torch.int8), multipliers, inside=-0.05 * normal(8, 2, D))


@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize("name", SETS)
def test_a_conic_solvers_answer_is_tolerated_and_what_is_worse_refuted(name: str, kind: str) -> None:
    program = PROGRAMS[kind](SETS[name]())
    solution = conic(program)

    def judged(claim: ca.Solution) -> ca.ExactCertificate:
        return judge(program, claim, True, None, lambda i: solution.eta[i])

    found = judged(solution)
    assert verdicts(found) <= {PROVED, ROUNDING, TOLERATED}, found.why
    assert found.holds(ca.Tolerance()).all()
    for proof, held in zip(found.proofs, judge(program, solution).holds().tolist(), strict=True):
        assert proof.verdict in (PROVED, ROUNDING) or proof.violation.upper > 0 or proof.gap.upper > 1e-12
        assert held or "equalities" in name, "float64 says so too"
    if kind == "gn":
        return
    assert solution.inside is not None
    for worse in (solution.eta * 1.01, solution.eta + 0.05 * (solution.inside - solution.eta)):
        for proof in judged(claiming(solution, worse)).proofs:
            assert proof.verdict is REFUTED, proof.why
    assert verdicts(judged(claiming(solution, solution.eta, ca.Status.INFEASIBLE))) == {REFUTED}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("p", [2, 3])
def test_a_users_step_is_right_to_rounding(p: float, dtype: torch.dtype) -> None:
    """−ε g/‖g‖ as one writes it: some are inside by luck, others outside by a unit in the last place."""
    g = random(40, 50).to(dtype)
    power = g.abs() ** (1 / (p - 1)) * g.sign()
    eta = -0.1 * power / power.norm(p, dim=1, keepdim=True)
    found = exactly(ca.GNII(torch.zeros(40, dtype=dtype), g, (ca.Ball(ca.Lp(p), 0.1),)), eta)
    assert verdicts(found) == {PROVED, ROUNDING}
    assert "rounding alone" in found.why[found.verdict.tolist().index(ROUNDING)]


def test_the_tolerance_is_the_programs_and_not_that_of_eta() -> None:
    program = gnii(1, [3, 4], ball(2, 0.5))
    eta = torch.tensor([[-0.3, -0.4]])  # float32: 2e-8 off
    assert verdicts(exactly(program, eta)) == {TOLERATED}
    assert verdicts(exactly(ca.GNII(program.value.float(), program.gradient.float(), program.sets), eta)) <= {
        PROVED,
        ROUNDING,
    }


# --- what judge.md says was believed ----------------------------------------------------------------------------------

OPTIMAL, INFEASIBLE, UNBOUNDED = ca.Status.OPTIMAL, ca.Status.INFEASIBLE, ca.Status.UNBOUNDED
HUGE = 1e17
WRONG: dict[str, tuple[ca.Program, ca.Solution]] = {
    "multipliers that cancel": (
        gnii(0, [1, 0], ball(2), ca.Box(-1.0, 1.0)),
        said(OPTIMAL, rows([0, 0]), rows([HUGE, 0]), rows([-HUGE, 0])),
    ),
    "an empty box": (
        gnii(0, [1, 1], box([0, 1], [1e9, 0])),
        said(OPTIMAL, rows([0, 0.5]), rows([-1, -1])),
    ),
    "no box is empty": (
        gnii(0, [1, 1], box([0, 0], [1, 0])),
        said(INFEASIBLE, rows([math.nan, math.nan]), rows([-1, -1])),
    ),
    "the widest coordinate's unit": (
        gnii(0, [0, -1], box([-1e9, -1e-3], [1e9, 1e-3])),
        said(OPTIMAL, rows([0, 0.9]), rows([0, 1])),
    ),
    "a large L": (gnii(1e12, [1, 0], ball(2)), said(OPTIMAL, rows([0, 0]), rows([-1, 0]))),
    "a mask that ends nothing": (
        gnii(0, [1, 1], ca.Support(torch.tensor([True, False]))),
        said(OPTIMAL, rows([-0.7, 0]), rows([-1, -1])),
    ),
    "(8) of a large L": (min_norm(-1e9, [1, 0], 2), said(OPTIMAL, rows([500, 0]), numbers(0))),
    "(8) of a small L": (min_norm(1e-9, [1, 0], 2), said(OPTIMAL, rows([0, 0]), numbers(0))),
    "outside a ball that touches a box": (
        gnii(0, [0, 1], ball(2), box([1, -1], [2, 1])),
        said(OPTIMAL, rows([1, -1e-3]), rows([-500, -1]), rows([500, 0])),
    ),
    "a ray that leaves": (
        gnii(0, [1, 0], ca.Halfspaces(rows([-1, 1]), 0.0)),
        said(UNBOUNDED, rows([0, 0]), numbers(0)[None], ray=rows([-1, 0])),
    ),
    "a ray from nowhere": (
        gnii(0, [1, 0], box([-INF, 1], [INF, 0])),
        said(UNBOUNDED, rows([0, 0]), rows([0, 0]), ray=rows([-1, 0])),
    ),
    "hinges with u = 2": (
        ca.HingeSum(rows([1.0]), rows([1.0, 0])[None], (ball(2, 0.5),)),
        said(OPTIMAL, rows([0, 0]), rows([2]), rows([-2, 0])),
    ),
    "a needle's tip": (
        gnii(0, [0, -1], ball(INF), ca.Halfspaces(rows([1, 1e-5], [-1, 1e-5]), 0.0)),
        said(OPTIMAL, rows([0, 0.05]), rows([0, 0]), rows([5e4, 5e4])),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_not_believed(name: str) -> None:
    program, claim = WRONG[name]
    found = judge(program, claim, exact=True)
    assert verdicts(found) <= {REFUTED, UNDECIDED}
    assert not found.holds(ca.Tolerance()).any()


def test_a_right_ray_is_proved_also_along_halfspaces() -> None:
    sets = (ca.Halfspaces(rows([-1, 1]), 0.0), ca.Box(-INF, 5.0))
    program = gnii(0, [2, -1], *sets)
    zero = (numbers(0)[None], rows([0, 0]))
    assert verdicts(judge(program, said(UNBOUNDED, rows([9, 9]), *zero, ray=rows([-1, -1])), True)) == {PROVED}
    assert verdicts(judge(program, said(UNBOUNDED, rows([0, 0]), *zero, ray=rows([1, 1])), True)) == {UNDECIDED}
    bounded = gnii(0, [1, -1], *sets)
    claim = said(UNBOUNDED, rows([0, 0]), numbers(1)[None], rows([0, 0]), ray=rows([-1, -1]))
    assert verdicts(judge(bounded, claim, True)) == {REFUTED}


def test_bounds_that_exclude_each_other_prove_infeasible_whatever_the_multipliers() -> None:
    program = gnii(0, [1, 1], box([0, 1], [1, 0]), ball(2))
    for u, verdict in ((1.0, PROVED), (math.nan, UNDECIDED)):
        claim = said(INFEASIBLE, rows([math.nan, 0]), rows([u, 0]), rows([0, 0]))
        assert verdicts(judge(program, claim, True)) == {verdict}
        assert verdicts(judge(program, said(OPTIMAL, rows([0.5, 0.5]), *claim.multipliers), True)) == {REFUTED}


def test_near_ties_of_gn_are_decided_exactly() -> None:
    third = 1 / 3  # below 1/3
    for value, status in ((1.0, ca.Status.INFEASIBLE), (math.nextafter(1.0, 0), ca.Status.FEASIBLE)):
        program = gn(value, [3], ca.Box(-third, third))
        eta, u = rows([-third]), (rows([-3]),)
        assert program.decide(eta, u).tolist() == [status.code]
        found = judge(program, said(status, eta, *u), True)
        assert verdicts(found) == {PROVED}
    custom = gn(1.0, [3], ca.Box(-third, third), ca.Halfspaces(rows([3]), 7.0))
    assert custom.decide(rows([-third]), (rows([-3]), rows([0]))).tolist() == [ca.Status.INFEASIBLE.code]


# --- the sets in rationals --------------------------------------------------------------------------------------------


def rational(x: arb) -> Fraction:
    mantissa, exponent = (int(part) for part in x.man_exp())
    return Fraction(mantissa) * Fraction(2) ** exponent


@given(st.integers(0, 10**6))
def test_rows_pulls_prices_and_membership_against_fractions(seed: int) -> None:
    d, r = 4, 3
    x, u, K = normal(seed, d).mul(8).round() / 8, normal(seed + 1, r), normal(seed + 2, r, d).mul(4).round() / 4
    low, high = -normal(seed + 3, r).abs(), normal(seed + 4, r).abs().mul(16).round() / 16
    item = ca.ConvexSet(ca.atoms.Interval(low, high), ca.maps.Rows(K))
    sets = Family((item,), d).item(0)
    (part,) = sets.parts
    f = [Fraction(entry) for entry in x.tolist()]
    image = [sum(Fraction(a) * b for a, b in zip(row, f, strict=True)) for row in K.tolist()]
    assert [rational(z) for z in part.map(vector(x))] == image
    pulled = [sum(Fraction(K[k, i].item()) * Fraction(u[k].item()) for k in range(r)) for i in range(d)]
    assert [rational(z) for z in part.map.pull(vector(u))] == pulled
    ends = [Fraction((b if v > 0 else a).item()) for v, a, b in zip(u, low, high, strict=True)]
    price = part.support(vector(u))
    assert price is not None
    assert rational(price) == sum(Fraction(v) * e for v, e in zip(u.tolist(), ends, strict=True))
    within = all(Fraction(a) <= z <= Fraction(b) for a, z, b in zip(low.tolist(), image, high.tolist(), strict=True))
    assert sets.outside(Place(vector(x)))[0] is within


@pytest.mark.parametrize("copies", [1, 2])
def test_equality_rows_are_met_exactly_or_not_at_all(copies: int) -> None:
    K, b = normal(0, 3, 7), normal(1, 3)
    tables, right = K.repeat(copies, 1), b.repeat(copies)
    sets = Family((ca.Affine(tables, right), ca.Support(torch.arange(7) > 0)), 7).item(0)
    met = sets.met(Place(vector(normal(2, 7))))
    assert sets.outside(met)[0] is True
    assert met.top[0] == 0
    right[-1] += 2.0**-52
    off = Family((ca.Affine(tables, right), ca.Support(torch.arange(7) > 0)), 7).item(0)
    assert off.outside(off.met(Place(vector(normal(2, 7)))))[0] is (copies == 1)


@pytest.mark.parametrize("outer", [1, 2, 3, INF])
def test_groups_are_measured_exactly_where_they_can_be(outer: float) -> None:
    sets = Family((ca.GroupBall(torch.tensor([0, 0, 1, 1]), 5.0, outer),), 4).item(0)
    for point, expected in (([3, 4, 0, 0], True), ([3, 4.0000001, 0, 0], False), ([0, 0, 0, 5], True)):
        assert sets.outside(Place(vector(numbers(*point))))[0] is expected
    both = Place(vector(numbers(3, 4, 3, 4)))
    assert sets.outside(both)[0] is (outer == INF)


def test_a_violation_is_in_units_of_its_row() -> None:
    sets = (
        ca.Affine(rows([3, 4]), 1.0),
        ca.Halfspaces(rows([0, 1]), 0.5),
        ca.Box(numbers(-1, -1e-3), numbers(1, 1e-3)),
    )
    found = Family(sets, 2).item(0).outside(Place(vector(numbers(1.0, 0.5 + 1e-3))))[1]
    assert found is not None
    assert float(found) == pytest.approx((0.501 - 1e-3) / 2e-3)  # of the box
    line = Family((sets[0], ball(2, 0.5)), 2).item(0).outside(Place(vector(numbers(0.1, 0.1))))[1]
    assert line is not None
    assert float(line) == pytest.approx(0.3 / 5)  # 2·0.5·‖(3, 4)‖
    alone = Family(sets[:1], 2).item(0).outside(Place(vector(numbers(0.1, 0.1))))[1]
    assert alone is not None
    assert float(alone) == pytest.approx(0.3)  # |b|


# --- the command line -------------------------------------------------------------------------------------------------


def test_exit_statuses_tell_proved_from_nearly_and_from_wrong(tmp_path: Path) -> None:
    program = gnii(1, [3, 4], ball(2, 0.5))
    for eta, status, word in (([-0.25, -0.375], 1, "REFUTED"), ([-0.3, -0.4], 3, "ROUNDING"), (None, 0, "PROVED")):
        solution = ca.solve(program)
        claim = solution if eta is None else claiming(solution, rows(eta))
        write_solution(tmp_path / "solution.npz", program, claim)
        done = CliRunner().invoke(app, ["certify", "--exact", str(tmp_path / "solution.npz")], env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        assert word in done.output
