"""Exact certificates: what is true is PROVED, what is false REFUTED, and every enclosure holds its number."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from examples import DTYPES, GOLDEN, INF, Golden, inside, length, linear
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca
from convexattack.testing import programs

PROVED, ROUNDING, TOLERATED, REFUTED, UNDECIDED = ca.Verdict
CLAIMS = {ca.Status.OPTIMAL, ca.Status.FEASIBLE, ca.Status.INFEASIBLE, ca.Status.UNBOUNDED}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly(program: ca.Program | ca.OperatorNorm, solution: ca.Solution | Tensor) -> ca.ExactCertificate:
    return ca.certify(program, solution, exact=True)


def claiming(solution: ca.Solution, eta: Tensor, status: ca.Status = ca.Status.OPTIMAL) -> ca.Solution:
    return ca.Solution(eta, torch.full_like(solution.codes, status.code), solution.multipliers)


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
    """Nearly: at p = 1e6 a point can be so near the ball that no precision worth having tells on which side; nothing is ever refuted."""
    solution = ca.solve(program)
    certificate = exactly(program, solution)
    for status, proof in zip(solution.status, certificate.proofs, strict=True):
        assert proof.verdict is not REFUTED, proof.why
        if status in CLAIMS:
            assert proof.verdict is PROVED or "cannot tell" in proof.why, proof.why


@given(programs(dtypes=(torch.float64,)))
def test_the_enclosures_hold_what_they_enclose(program: ca.Program) -> None:
    solution = ca.solve(program)
    certificate = exactly(program, solution)
    plain = ca.certify(program, solution)
    for i, proof in enumerate(certificate.proofs):
        if not solution.eta[i].isfinite().all():
            continue
        is_inside = inside(program, solution.eta, i) and not over(program, solution.eta, i)
        assert (proof.violation.upper == 0) == is_inside or program_is_wide(program)
        if not isinstance(program, ca.MinNorm):
            assert proof.primal.lower == proof.primal.upper == linear(program, solution.eta, i)
        else:
            size = length(solution.eta[i], program.norm.p)
            assert float(proof.primal.lower) * (1 - 1e-15) <= size <= float(proof.primal.upper) * (1 + 1e-15)
        scale = float(program.scale()[i])
        if math.isfinite(scale) and plain.dual[i].isfinite() and math.isfinite(proof.dual.lower):
            assert abs(float(proof.dual.lower) - plain.dual[i].item()) <= 1e-12 * scale
        assert proof.gap.lower >= 0 or proof.violation.upper != 0, "weak duality"


def over(program: ca.Program, eta: Tensor, i: int) -> bool:
    return isinstance(program, ca.MinNorm) and linear(program, eta, i) > 0


def program_is_wide(program: ca.Program) -> bool:
    """Whether a ball has so large a p that 40 digits, in `inside`, are too few."""
    return any(isinstance(item, ca.Ball) and 100 < item.norm.p < INF for item in program.sets)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
@pytest.mark.parametrize("box", [False, True])
def test_one_unit_in_the_last_place_outside_is_refuted(p: float, box: bool) -> None:
    g, x = random(8, 5), torch.rand(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    edge: tuple[ca.Box, ...] = (ca.PixelRange().at(x),) if box else ()
    program = ca.GNII(random(8, seed=2), g, (ca.Ball(ca.Lp(p), 0.5), *edge))
    eta = ca.solve(program).eta
    assert verdicts(exactly(program, eta)) == {PROVED}
    if p not in (1, INF) or (p == 1 and box):  # most of the kernel's own margin
        eta = eta * (1 + 60 * 2.0**-53)
        eta = torch.minimum(torch.maximum(eta, edge[0].bounds(g)[0]), edge[0].bounds(g)[1]) if box else eta
    for _ in range(60):  # outwards by one unit in the last place at a time, until the exact oracle says it is outside
        longer = torch.where(eta == 0, eta, torch.nextafter(eta, eta * INF))
        moved = torch.tensor([inside(program, longer, i) for i in range(8)])
        out = ~moved
        if bool(out.any()):
            refused = exactly(program, torch.where(out[:, None], longer, eta))
            assert [verdict is REFUTED for verdict in refused.verdict] == out.tolist()
            proof = refused.proofs[int(out.nonzero()[0])]
            assert "violates sets[" in proof.why
            assert 0 < proof.violation.lower <= proof.violation.upper < 1e-13
            if bool(out.all()):
                return
        eta = torch.where(moved[:, None], longer, eta)
    pytest.fail("it never left the sets")


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize("kind", ["gnii", "min_norm"])
def test_a_worse_point_is_refuted_by_a_better_one(kind: str, p: float, box: bool) -> None:
    g, x = random(20, 6), torch.rand(20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    edge: tuple[ca.Box, ...] = (ca.PixelRange().at(x),) if box else ()
    program: ca.Program = ca.GNII(torch.zeros(20, dtype=torch.float64), g, (ca.Ball(ca.Lp(p), 0.3), *edge))
    if kind == "min_norm":
        program = ca.MinNorm(torch.full((20,), 0.05, dtype=torch.float64), g, ca.Lp(p), edge)
    solution = ca.solve(program)
    assert verdicts(exactly(program, solution)) == {PROVED}
    worse = solution.eta * (1 - 1e-9) if kind == "gnii" else solution.eta * (1 + 1e-9)
    if kind == "min_norm" and box:
        low, high = edge[0].bounds(g)
        worse = torch.minimum(torch.maximum(worse, low), high)
        worse = torch.where(worse == solution.eta, solution.eta, worse)
    for claim in (worse, claiming(solution, worse)):
        certificate = exactly(program, claim)
        for i, proof in enumerate(certificate.proofs):
            if torch.equal(program.primal(worse)[i], program.primal(solution.eta)[i]):
                continue  # the box left it where it was
            assert proof.verdict is REFUTED, proof.why
            assert proof.witness is not None
            assert proof.better is not None
            assert inside(program, proof.witness[None].expand(20, -1), i)
            assert not over(program, proof.witness[None].expand(20, -1), i)
            assert 1e-12 < proof.better.lower <= proof.better.upper < 1e-8
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
    assert certificate.holds(ca.Tolerance(1e-1)).all()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
@pytest.mark.parametrize(("m", "d"), [(1, 4), (3, 7), (6, 3), (10, 40)])
def test_operator_norm(p: float, m: int, d: int) -> None:
    program = ca.OperatorNorm(random(3, m, d), ca.Ball(ca.Lp(p), 0.5))
    solution = ca.solve(program)
    certificate, plain = exactly(program, solution), ca.certify(program, solution)
    assert verdicts(certificate) == {PROVED}
    torch.testing.assert_close(certificate.primal, plain.primal, rtol=1e-14, atol=0)
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
    assert verdicts(exactly(program, claiming(solution, solution.eta * (1 + 1e-9), ca.Status.BRACKETED))) == {REFUTED}


@pytest.mark.parametrize("share", [0.5, 1 - 1e-9, 1.0])
def test_the_bound_of_an_operator_norm_does_not_trust_eigenvalues(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too small an estimate of λ_max, with another eigenvector, is refused by the pivots of LDLᵀ, and a larger one is tried."""
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


def test_what_cannot_be_exact_is_named() -> None:
    program = ca.GNII(torch.zeros(1), torch.ones(1, 2), (ca.Ball(ca.Lp(2), 1.0), ca.CustomSet(lambda eta: [eta >= -1])))
    with pytest.raises(ValueError, match=r"exact must be False with sets\[1\], a CustomSet"):
        exactly(program, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="exact must be False for a HingeSum"):
        ca.certify(
            ca.HingeSum(torch.zeros(1, 1), torch.ones(1, 1, 2), (ca.Ball(ca.Lp(2), 1.0),)),
            torch.zeros(1, 2),
            exact=True,
        )
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
