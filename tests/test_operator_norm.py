"""(9): program, solvers and certificate against enumeration, NumPy's singular values and each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import convexattack as ca
from convexattack.solvers.operator_norm import columns, rows

GAP = ca.Tolerance(1e-8)
NORMS = [1, 1.01, 1.5, 2, 2.05, 3, 8, math.inf]
KINDS = [
    "gauss", "zero columns", "duplicate columns", "rows that sum to zero", "signs", "sixteen decades",
    "decades of rows", "rank one", "rank two", "zero", "nearly rank one", "bits", "identity",
]  # fmt: skip


def matrices(kind: str, n: int, m: int, d: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    J = normal(n, m, d)
    match kind:
        case "zero columns":
            J[:, :, torch.rand(d, generator=g) < 0.5] = 0
        case "duplicate columns":
            J[:, :, 1::2] = J[:, :, : d - d % 2 : 2]
        case "rows that sum to zero":
            J = J - J.mean(1, keepdim=True)
        case "signs":
            J = J.sign()
        case "sixteen decades":
            J = J * 10 ** (16 * torch.rand(n, 1, d, generator=g, dtype=torch.float64) - 8)
        case "decades of rows":
            J = J * 10 ** (16 * torch.rand(n, m, 1, generator=g, dtype=torch.float64) - 8)
        case "rank one":
            J = normal(n, m, 1) * normal(n, 1, d)
        case "rank two":
            J = normal(n, m, 2) @ normal(n, 2, d)
        case "zero":
            J = 0 * J
        case "nearly rank one":
            J = normal(n, m, 1) * normal(n, 1, d) + 1e-8 * J
        case "bits":
            J = (J > 0.5).to(J)
        case "identity":
            J = torch.eye(max(m, d), dtype=J.dtype)[:m, :d].expand(n, m, d).clone()
    return J


def program(J: Tensor, p: float, radius: float | Tensor = 1.0) -> ca.OperatorNorm:
    return ca.OperatorNorm(J, ca.Ball(ca.Lp(p), radius))


def by_all_signs(J: Tensor) -> np.ndarray:
    d = J.shape[2]
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=d))).T
    return np.asarray(np.sqrt(((J.numpy() @ signs) ** 2).sum(1)).max(1))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    m=st.integers(1, 9),
    d=st.integers(1, 10),
    p=st.sampled_from(NORMS),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    radius=st.sampled_from([0.0, 1e-9, 0.3, 1e9]),
    seed=st.integers(0, 2**31),
)
def test_every_claim_is_certified(kind: str, m: int, d: int, p: float, scale: float, radius: float, seed: int) -> None:
    whole = program(scale * matrices(kind, 2, m, d, seed), p, radius)
    found = ca.solve(whole)
    judged = ca.certify(whole, found)
    assert judged.holds(GAP).all(), judged
    assert (judged.primal <= judged.dual).all()
    assert (judged.violation == 0).all()
    assert judged.rigorous
    bare = ca.certify(whole, found.eta)
    assert (bare.dual >= judged.primal).all()
    if p <= 2:
        assert (bare.dual == judged.dual).all()
    if p in (1, 2):
        assert judged.holds(ca.Tolerance(1e-12)).all()
        assert (found.codes == ca.Status.OPTIMAL.code).all()


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), m=st.integers(1, 6), d=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_no_bound_is_below_the_optimum(kind: str, m: int, d: int, seed: int) -> None:
    J = matrices(kind, 3, m, d, seed)
    best = torch.from_numpy(by_all_signs(J))
    whole = program(J, math.inf)
    found = ca.solve(whole)
    judged, bare = ca.certify(whole, found), ca.certify(whole, torch.ones(3, d, dtype=torch.float64))
    assert (judged.dual >= best).all()
    assert (bare.dual >= best).all()
    assert (judged.primal <= best * (1 + 1e-14)).all()
    exact = found.stats["exact"]
    if min(m, d) <= 2 or kind in ("rank one", "rank two", "zero"):
        assert exact.all()
    torch.testing.assert_close(judged.primal[exact], best[exact], rtol=1e-12, atol=1e-290)
    every = ca.certify(whole, ca.solve(whole, "enumeration"))
    torch.testing.assert_close(every.primal, best, rtol=1e-13, atol=1e-290)


@pytest.mark.parametrize(
    ("m", "d"), [(1, 1), (1, 7), (5, 1), (2, 9), (9, 4), (10, 55), (10, 56), (10, 54), (30, 40), (40, 30), (3, 200)]
)
@pytest.mark.parametrize("p", [2.05, 3, math.inf])
def test_rows_and_columns_agree(m: int, d: int, p: float) -> None:
    q = ca.Lp(p).q
    J = matrices("gauss", 2, m, d, 0)
    J /= J.flatten(1).norm(dim=1)[:, None, None]
    one, other = rows.relax(J, q), columns.relax(J, q)
    for found in (one, other):
        assert ((found.high - found.low) / found.high <= 1e-8).all()
    torch.testing.assert_close(one.high, other.high, rtol=1e-8, atol=0)


def test_conjugate_gradients_do_where_the_hessian_is_too_large() -> None:
    J = matrices("gauss", 2, 12, 60, 0)
    J /= J.flatten(1).norm(dim=1)[:, None, None]
    for q in (1.0, 1.5):
        one, other = rows.relax(J, q), rows.relax(J, q, direct=False)
        assert ((other.high - other.low) / other.high <= 1e-6).all()
        torch.testing.assert_close(one.high, other.high, rtol=1e-6, atol=0)


@pytest.mark.parametrize("threshold", [0.0, 1e-12, 1e9])
def test_float32_on_the_way_does_not_show_at_the_end(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROUGH", threshold)
    for kind in KINDS:
        J = matrices(kind, 2, 5, 30, 0)
        J /= J.flatten(1).norm(dim=1).clamp_min(1e-300)[:, None, None]
        if kind != "zero":
            found = rows.relax(J, 1.0)
            assert ((found.high - found.low) / found.high <= 1e-8).all(), kind


def test_the_general_routine_gives_the_spectral_norm_at_p_2() -> None:
    J = matrices("gauss", 4, 6, 30, 0)
    size = J.flatten(1).norm(dim=1)
    spectral = torch.from_numpy(np.linalg.norm(J.numpy(), ord=2, axis=(1, 2)))
    found = rows.relax(J / size[:, None, None], 2.0)
    torch.testing.assert_close(found.high * size, spectral, rtol=1e-8, atol=0)
    near = program(J, 2 + 1e-9)
    torch.testing.assert_close(ca.certify(near, ca.solve(near)).dual, spectral, rtol=1e-7, atol=0)


@pytest.mark.parametrize("p", [2, 2.5, 4, math.inf])
@pytest.mark.parametrize("solver", ["reference", "SCS"])
def test_the_reference_agrees(p: float, solver: str) -> None:
    whole = program(matrices("gauss", 3, 4, 12, 0), p, torch.tensor([0.5, 1.0, 1e-6], dtype=torch.float64))
    ours, theirs = ca.certify(whole, ca.solve(whole)), ca.certify(whole, ca.solve(whole, solver))
    assert theirs.holds().all()
    torch.testing.assert_close(theirs.dual, ours.dual, rtol=1e-6, atol=0)
    assert (theirs.primal <= ours.dual).all()
    assert (theirs.primal >= 0.9 * ours.primal).all()


@pytest.mark.parametrize("p", [1, 1.5])
def test_below_2_the_reference_needs_no_cone_program(p: float) -> None:
    whole = program(matrices("gauss", 3, 4, 12, 0), p)
    ours, theirs = ca.certify(whole, ca.solve(whole)), ca.certify(whole, ca.solve(whole, "reference"))
    assert theirs.holds().all()
    torch.testing.assert_close(theirs.primal, ours.primal, rtol=1e-2 if p > 1 else 1e-12, atol=0)


@pytest.mark.parametrize("p", [2, 3, math.inf])
def test_both_texts_are_the_same_bound(p: float) -> None:
    whole = program(matrices("gauss", 2, 3, 8, 0), p, 0.01)
    dual = ca.certify(whole, ca.solve(whole)).dual
    for i in range(2):
        reduced = whole.problem(i)
        primal = whole.problem(i, form="primal")
        assert reduced.is_dcp()
        assert reduced.solve(solver="CLARABEL") == pytest.approx(dual[i].item(), rel=1e-5)
        root = math.sqrt(primal.solve(solver="CLARABEL"))  # 1e-4 in its square, unscaled
        assert root == pytest.approx(dual[i].item(), rel=1e-3)


def test_golden() -> None:
    whole = program(torch.tensor([[[3.0, 4.0]]], dtype=torch.float64), math.inf, 0.5)
    judged = ca.certify(whole, ca.solve(whole))
    assert judged.primal.item() == pytest.approx(3.5, rel=1e-12)
    assert judged.dual.item() == pytest.approx(3.5, rel=1e-8)
    J = 1e-2 * torch.tensor([[[1.0, 1.0], [1.0, -1.0]]], dtype=torch.float64)
    whole = program(J, math.inf)  # norms, not squares
    judged = ca.certify(whole, ca.solve(whole))
    assert judged.primal.item() == pytest.approx(0.02, rel=1e-12)
    assert judged.dual.item() == pytest.approx(0.02, rel=1e-8)
    whole = program(torch.tensor([[[1.0, 0.0, 2.0], [0.0, 2.0, 2.0]]], dtype=torch.float64), 1, 0.1)
    found = ca.solve(whole)
    assert found.eta.tolist() == [[0.0, 0.0, 0.1]]
    assert ca.certify(whole, found).dual.item() == pytest.approx(0.1 * math.sqrt(8), rel=1e-12)


def test_the_bracket_is_wide_where_it_must_be() -> None:
    """Three directions at 120°: the relaxation gives 3/√2·…, the signs cannot reach it."""
    angle = torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3)
    whole = program(torch.stack((angle.cos(), angle.sin()))[None], math.inf)
    found = ca.solve(whole)
    judged = ca.certify(whole, found)
    assert judged.primal.item() == pytest.approx(2.0, rel=1e-12)
    assert judged.dual.item() == pytest.approx(3 / math.sqrt(2), rel=1e-8)
    assert found.status[0] is ca.Status.BRACKETED
    assert bool(found.stats["exact"])
    assert judged.holds(GAP).all()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_corrupted_solutions_are_refused(p: float) -> None:
    whole = program(matrices("gauss", 1, 4, 9, 0), p, 0.5)
    found = ca.solve(whole)
    y, F = found.multipliers
    assert ca.certify(whole, found).holds().all()

    def refused(eta: Tensor = found.eta, pair: tuple[Tensor, Tensor] = (y, F), codes: Tensor = found.codes) -> bool:
        return not bool(ca.certify(whole, ca.Solution(eta, codes, pair)).holds().any())

    assert refused(eta=found.eta * 1.01)
    assert refused(eta=found.eta * torch.nan)
    if p in (1, 2):
        assert refused(eta=found.eta * 0.99)
    if p >= 2:
        random = torch.randn(F.shape, generator=torch.Generator().manual_seed(0), dtype=F.dtype)
        assert refused(pair=(y, random))
        assert refused(pair=(y, 0 * F))
    if p > 2:
        assert refused(pair=(y + y.max(), F))
        assert refused(pair=(-y, F))
        assert refused(pair=(0 * y, F))
        assert refused(pair=(y * torch.nan, F))
        assert refused(codes=torch.full_like(found.codes, ca.Status.OPTIMAL.code)) == (
            found.status[0] is not ca.Status.OPTIMAL
        )


def test_the_wrong_bound_is_never_below_the_right_one() -> None:
    """Any y ≥ 0 is a theorem: random ones give bounds above the optimum."""
    J = matrices("gauss", 64, 3, 8, 0)
    whole = program(J, math.inf)
    best = torch.from_numpy(by_all_signs(J))
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        y = torch.rand(64, 8, generator=g, dtype=torch.float64)
        assert (whole.bound((y, torch.ones(64, 3, 1, dtype=torch.float64))).value >= best).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_eta_has_the_dtype_of_the_jacobian_and_stays_inside(dtype: torch.dtype, p: float) -> None:
    whole = program(matrices("gauss", 6, 4, 20, 0).to(dtype), p, 0.3)
    found = ca.solve(whole)
    assert found.eta.dtype == dtype
    assert (
        (found.eta.double().abs().pow(p).sum(1) <= 0.3**p).all()
        if p < math.inf
        else (found.eta.double().abs() <= 0.3).all()
    )
    assert ca.certify(whole, found).holds().all()


def test_an_eta_that_the_dtype_cannot_hold_is_inexact() -> None:
    whole = program(matrices("gauss", 1, 3, 5, 0).half(), math.inf, 1e-9)
    assert ca.solve(whole).status[0] is ca.Status.INEXACT


def test_one_bad_item_spoils_no_other() -> None:
    J = matrices("gauss", 4, 3, 9, 0)
    bad = J.clone()
    bad[1, 2, 3], bad[2, 0, 0] = math.nan, math.inf
    for p in (1, 1.5, 2, 3, math.inf):
        good, found = ca.solve(program(J, p)), ca.solve(program(bad, p))
        assert [status.name for status in found.status[1:3]] == ["INVALID", "INVALID"]
        assert found.eta[1:3].isnan().all()
        torch.testing.assert_close(good.eta[[0, 3]], found.eta[[0, 3]], rtol=1e-6, atol=0)
        judged = ca.certify(program(bad, p), found)
        assert judged.holds().tolist() == [True, False, False, True]
        assert judged.dual[1:3].isnan().all()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_an_empty_batch(p: float) -> None:
    whole = program(torch.zeros(0, 3, 5), p)
    found = ca.solve(whole)
    assert found.eta.shape == (0, 5)
    assert ca.certify(whole, found).holds().shape == (0,)


def test_a_batch_larger_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = program(matrices("gauss", 7, 3, 8, 0), math.inf)
    once = ca.solve(whole)
    monkeypatch.setattr("convexattack.solvers.operator_norm.NUMBERS", 48)
    pieces = ca.solve(whole)
    assert torch.equal(once.eta, pieces.eta)
    assert pieces.stats["newton_steps"].shape == (7,)
    torch.testing.assert_close(once.multipliers[0], pieces.multipliers[0], rtol=1e-5, atol=0)


def test_stats() -> None:
    whole = program(matrices("gauss", 5, 10, 100, 0), math.inf)
    found = ca.solve(whole)
    assert (found.stats["gap"] <= 1e-8).all()
    assert (found.stats["newton_steps"] > 3).all()
    assert ((found.stats["rounding_ratio"] > 0.5) & (found.stats["rounding_ratio"] <= 1)).all()
    assert not found.stats["exact"].any()


# --- the real model ---------------------------------------------------------------------------------------------------


def network(m: int = 7, d: int = 12) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, m)).double()


@pytest.mark.parametrize(("m", "d"), [(7, 12), (40, 6), (1, 12), (7, 1)])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_without_the_jacobian(m: int, d: int, p: float) -> None:
    model, x = network(m, d), matrices("gauss", 3, 1, d, 1)[:, 0]
    ball = ca.Ball(ca.Lp(p), 0.1)
    free, held = ca.OperatorNorm.from_model(model, x, ball), ca.OperatorNorm(ca.jacobian(model, x), ball)
    assert free.shape == held.shape == (3, m, d)
    eta = matrices("gauss", 1, 3, d, 2)[0]
    torch.testing.assert_close(free.change(eta), held.change(eta))
    found = ca.solve(free)
    judged, known = ca.certify(free, found), ca.certify(held, ca.solve(held))
    assert judged.holds().all()
    assert not judged.rigorous or p == 1
    assert (judged.dual >= known.primal * (1 - 1e-9)).all()
    assert (judged.primal <= known.dual).all()
    assert (judged.primal >= (0.9 if p != 2 else 1 - 1e-9) * known.primal).all()
    with pytest.raises(TypeError, match="matrix-free"):
        _ = free.J
    with pytest.raises(ValueError, match="needs the Jacobian itself"):
        ca.solve(free, "reference")


def test_outputs_of_any_shape() -> None:
    model = nn.Conv2d(1, 3, 3, padding=1).double()
    x = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    whole = ca.OperatorNorm.from_model(model, x, ca.Ball(ca.Lp(2), 1.0))
    assert whole.shape == (2, 75, 25)
    J = torch.func.jacrev(lambda v: model(v.view(1, 1, 5, 5)).flatten())(x[0].flatten())
    judged = ca.certify(whole, ca.solve(whole))
    torch.testing.assert_close(judged.primal[0], torch.linalg.matrix_norm(J, 2), rtol=1e-8, atol=0)
    assert judged.holds().all()


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_the_regression_attack_measures_the_real_change(p: float) -> None:
    model, x = network(), matrices("gauss", 4, 1, 12, 1)[:, 0]
    result = ca.regression_attack(0.1, ca.Lp(p))(model, x)
    with torch.no_grad():
        change = (model(x + result.eta) - model(x)).norm(dim=1)
    torch.testing.assert_close(result.change, change)
    assert (result.size <= 0.1).all()
    assert result.certificate.holds().all()
    torch.testing.assert_close(result.predicted, result.certificate.primal)
    small = ca.regression_attack(1e-6, ca.Lp(p))(model, x)
    torch.testing.assert_close(small.change, small.predicted, rtol=1e-4, atol=0)  # to first order


def test_the_attack_takes_the_better_sign() -> None:
    result = ca.regression_attack(0.5, ca.Lp(2))(
        lambda x: (x + x.square()).sum(1, keepdim=True), torch.zeros(1, 3).double()
    )
    assert (result.eta > 0).all()
    assert result.change.item() == pytest.approx(0.5 * math.sqrt(3) + 0.25)


def test_an_output_image() -> None:
    result = ca.regression_attack(0.1, ca.Lp(math.inf))(nn.Conv2d(1, 2, 3), torch.rand(3, 1, 6, 6))
    assert result.eta.shape == (3, 1, 6, 6)
    assert result.certificate.holds().all()


# --- arguments --------------------------------------------------------------------------------------------------------


BALL = ca.Ball(ca.Lp(math.inf), 1.0)


@pytest.mark.parametrize(
    ("jacobian", "ball", "kind", "sentence"),
    [
        (
            torch.zeros(3, 4),
            BALL,
            ValueError,
            r"jacobian must have shape \(N, m, d\), m, d >= 1, got \(3, 4\); a single matrix is",
        ),
        (torch.zeros(3, 4, 0), BALL, ValueError, r"got \(3, 4, 0\)"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), BALL, TypeError, "floating-point numbers, got torch.int64"),
        ([[1.0]], BALL, TypeError, "jacobian must be a torch tensor or a NumPy array, got list"),
        (torch.zeros(3, 4, 5), ca.Box(-1.0, 1.0), TypeError, "ball must be one ca.Ball"),
        (
            torch.zeros(3, 4, 5),
            ca.Ball(ca.Lp(2), torch.ones(2)),
            ValueError,
            r"radius must be a number or have shape \(N,\) = \(3,\)",
        ),
    ],
)
def test_wrong_arguments_are_named(jacobian: object, ball: object, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        ca.OperatorNorm(jacobian, ball)  # type: ignore[arg-type]


def test_wrong_questions_are_named() -> None:
    whole = program(matrices("gauss", 2, 3, 30, 0), math.inf)
    with pytest.raises(ValueError, match="tries the 2\\^d vertices of an l-inf ball, d <= 20, got p = inf and d = 30"):
        ca.solve(whole, "enumeration")
    with pytest.raises(ValueError, match="neither 'closed_form', 'reference' nor an installed"):
        ca.solve(whole, "simplex")
    with pytest.raises(ValueError, match="solver='HIGHS' cannot take this program"):
        ca.solve(whole, "HIGHS")
    with pytest.raises(ValueError, match="form must be 'primal'"):
        whole.problem(0, form="dual")
    with pytest.raises(IndexError, match="i must be in"):
        whole.problem(2)
    with pytest.raises(ValueError, match=r"the relaxation needs p >= 2, got p = 1\.5"):
        program(whole.jacobian, 1.5).problem()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"eta must have the shape \(N, d\) = \(2, 30\)"):
        ca.certify(whole, torch.zeros(2, 29))
    found = ca.solve(whole)
    with pytest.raises(ValueError, match=r"multipliers must be \(y, F\) of shapes \(2, 30\) and \(2, 3, r\)"):
        ca.certify(whole, ca.Solution(found.eta, found.codes, found.multipliers[:1]))
    with pytest.raises(TypeError, match=r"norm must be a ca\.Lp"):
        ca.regression_attack(0.1, 2)  # type: ignore[arg-type]
