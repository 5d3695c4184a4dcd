"""‖·‖_p against 40 digits and rational arithmetic: value, dual, steepest direction (6) and (7), CVXPY text."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import cvxpy as cp
import mpmath
import numpy as np
import pytest
import torch
from examples import DTYPES, INF, NORMS, PS, UNIT, dual_length, fractions, in_ball, length, normal, numbers, rows
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca
from convexattack import numerics
from convexattack.norms import Mixed
from convexattack.numerics import round_down, round_up, rounding_slack

each_norm = pytest.mark.parametrize("norm", NORMS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
SCALES = {dtype: (1e-4, 1.0, 1e4) if dtype == torch.float16 else (1e-30, 1.0, 1e30) for dtype in DTYPES}
VECTORS = {
    "one": torch.ones(1, dtype=torch.float64),
    "ties": numbers(2, -2, 1, 0, 2, -1, 0),
    "normal": normal(1, 20),
    "decades": normal(2, 40) * 10.0 ** -torch.linspace(0, 3, 40, dtype=torch.float64),
    "single": numbers(0, -3, 0),
}
each_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())


def close(found: Tensor, exact: mpmath.mpf, d: int, dtype: torch.dtype) -> bool:
    """Within the stated slack of float64, and half a unit in the last place of the dtype."""
    unit = 0.0 if dtype == torch.float64 else UNIT[dtype]
    return bool(
        abs(mpmath.mpf(float(found)) - exact)
        <= (unit + rounding_slack(d)) * exact + torch.finfo(dtype).smallest_normal * unit
    )


@each_norm
@each_dtype
@each_vector
def test_value_and_dual_at_every_scale(norm: ca.Lp, dtype: torch.dtype, vector: Tensor) -> None:
    d = len(vector)
    for scale in SCALES[dtype]:
        x = (scale * vector).to(dtype)
        if float(length(x, norm.p)) < torch.finfo(dtype).max:
            assert close(norm(x), length(x, norm.p), d, dtype)
        if float(dual_length(x, norm.p)) < torch.finfo(dtype).max:
            assert close(norm.dual(x), dual_length(x, norm.p), d, dtype)


@pytest.mark.parametrize("p", [1, 1.5, 2, 10])
def test_value_and_dual_in_many_dimensions(p: float) -> None:
    d = 3000
    x = normal(3, d)
    assert close(ca.Lp(p)(x), length(x, p), d, torch.float64)
    assert close(ca.Lp(p).dual(x), dual_length(x, p), d, torch.float64)


def test_values_that_rational_arithmetic_knows() -> None:
    x = rows([3, -4, 0], [0, 0, 0], [1e-300, 1e-300, 0], [3e200, 4e200, 0])
    assert ca.Lp(1)(x).tolist() == [7, 0, 2e-300, 7e200]
    assert ca.Lp(2)(x).tolist() == pytest.approx([5, 0, math.sqrt(2) * 1e-300, 5e200], rel=1e-15, abs=0)
    assert ca.Lp(INF)(x).tolist() == [4, 0, 1e-300, 4e200]
    for p, q in ((1, INF), (INF, 1), (2, 2)):
        assert torch.equal(ca.Lp(p).dual(x), ca.Lp(q)(x))


def test_float16_near_its_largest_number() -> None:
    x = torch.full((4,), 6e4, dtype=torch.float16)
    assert float(ca.Lp(INF)(x)) == float(ca.Lp(1e6)(x)) == 6e4
    assert float(ca.Lp(INF).dual(x / 4)) == 6e4
    eta = ca.Lp(2).steepest(x, 6e4)
    assert bool(eta.isfinite().all())
    assert in_ball(eta, 2, 6e4)


@pytest.mark.parametrize("p", PS)
def test_the_dual_exponent(p: float) -> None:
    q = ca.Lp(p).q
    assert (1 / p + 1 / q) == pytest.approx(1, abs=1e-15)
    assert ca.Lp(1.001).q == pytest.approx(1001)
    assert str(ca.Lp(p)) == ("inf" if p == INF else f"{p:g}")


@each_norm
@each_dtype
@each_vector
def test_steepest_is_inside_in_exact_arithmetic_and_attains_the_dual_norm(
    norm: ca.Lp, dtype: torch.dtype, vector: Tensor
) -> None:
    """gᵀη = −ε‖g‖_q, eqs. (6) and (7); rounding towards zero loses a unit in the last place of each entry."""
    for scale, radius in zip(SCALES[dtype], (0.3, 1.0, 7.0), strict=True):
        g = (scale * vector).to(dtype)
        eta = norm.steepest(g, radius)
        assert eta.dtype == dtype
        assert in_ball(eta, norm.p, radius)
        with mpmath.workdps(40):
            reached = -mpmath.fsum(mpmath.mpf(a) * mpmath.mpf(b) for a, b in zip(g.tolist(), eta.tolist(), strict=True))
            lost = 1 - reached / (mpmath.mpf(radius) * dual_length(g, norm.p))
        assert (
            -1e-36 < lost <= 2 * UNIT[dtype] + 3 * rounding_slack(len(g)) + torch.finfo(dtype).smallest_normal * len(g)
        )


@pytest.mark.parametrize(("p", "d"), [(1, 3000), (2, 3000), (INF, 3000), (1.5, 3000), (3, 784), (math.pi, 784)])
def test_steepest_is_inside_in_many_dimensions(p: float, d: int) -> None:
    for dtype in (torch.float64, torch.float32):
        g = normal(7, d).to(dtype)
        eta = ca.Lp(p).steepest(g, 0.3)
        assert in_ball(eta, p, 0.3)
        reached = -float((g.double() * eta.double()).sum())
        assert reached == pytest.approx(0.3 * float(dual_length(g, p)), rel=2 * UNIT[dtype] + 3 * rounding_slack(d))


@given(
    st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=6),
    st.sampled_from(NORMS),
    st.sampled_from(DTYPES),
    st.floats(0, 4, width=32),
)
def test_steepest_never_leaves_the_ball(entries: list[float], norm: ca.Lp, dtype: torch.dtype, radius: float) -> None:
    g = torch.tensor(entries, dtype=dtype)
    eta = norm.steepest(g, radius)
    assert in_ball(eta, norm.p, radius)
    assert all(a * b <= 0 for a, b in zip(fractions(g), fractions(eta), strict=True))
    assert (eta[g == 0] == 0).all()


@each_norm
def test_steepest_at_zero_at_radius_zero_and_with_a_radius_for_each(norm: ca.Lp) -> None:
    g = rows([0, 0, 0], [1, -2, 2], [1, -2, 2], [-1, 2, -2])
    eta = norm.steepest(g, numbers(5, 0, 2, 1))
    assert (eta[:2] == 0).all()
    assert torch.equal(eta[2], -2 * eta[3])
    assert float(norm(eta[2])) == pytest.approx(2, rel=1e-14)


def test_one_maximizer_at_a_tie_of_p_1() -> None:
    assert ca.Lp(1).steepest(rows([1, -2, 2, -2]), 0.5).tolist() == [[0, 0.5, 0, 0]]
    assert ca.Lp(INF).steepest(rows([1, -2, 0]), 0.5).tolist() == [[-0.5, 0.5, 0]]


@each_norm
def test_steepest_of_a_gradient_that_is_no_number(norm: ca.Lp) -> None:
    good = rows([3.0, 4.0])
    eta = norm.steepest(torch.cat([rows([math.nan, 1.0]), good, rows([INF, 1.0]), rows([0.0, -INF])]), 0.5)
    assert eta[[0, 2, 3]].isnan().all()
    assert torch.equal(eta[1:2], norm.steepest(good, 0.5))


@each_norm
def test_any_leading_shape(norm: ca.Lp) -> None:
    g = normal(1, 2, 3, 5)
    assert norm(g).shape == norm.dual(g).shape == (2, 3)
    assert torch.equal(norm.steepest(g, 0.1)[1, 2], norm.steepest(g[1, 2], 0.1))


@each_norm
def test_the_dual_norm_of_the_dual_norm(norm: ca.Lp) -> None:
    """gᵀη over a thousand points with ‖η‖_p ≤ 1 stays below ‖g‖_q, and `steepest` meets Hölder with equality."""
    g, points = normal(2, 6), normal(3, 1000, 6)
    points = points / norm(points)[:, None]
    assert (points @ g).max() <= norm.dual(g) * (1 + 1e-14)
    assert float(norm.steepest(g) @ g) == pytest.approx(-float(norm.dual(g)), rel=1e-14)


@each_norm
def test_the_text_is_the_norm(norm: ca.Lp) -> None:
    """minimize t subject to ‖x‖_p ≤ t gives ‖x‖_p, also for p = π, which CVXPY itself would replace by 355/113."""
    x = np.array([0.5, -1.0, 0.75])
    eta, t = cp.Variable(3), cp.Variable()
    problem = cp.Problem(cp.Minimize(t), [*norm.text(eta, t), eta == x])
    problem.solve(solver=cp.CLARABEL)
    assert problem.value == pytest.approx(float(length(torch.from_numpy(x), norm.p)), rel=1e-7)


@each_dtype
def test_rounding_is_directed(dtype: torch.dtype) -> None:
    x = torch.cat([normal(5, 200), numbers(0, 1, -1, 0.3, -0.3, 1e-9, -1e-9)])
    for exact, down, up in zip(
        fractions(x), fractions(round_down(x, dtype)), fractions(round_up(x, dtype)), strict=True
    ):
        assert abs(down) <= abs(exact) <= abs(up)
        assert abs(up) - abs(down) <= abs(up) * 2 * UNIT[dtype] + torch.finfo(dtype).smallest_normal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@given(entries=st.lists(st.floats(width=64, allow_nan=False), min_size=1, max_size=6))
def test_rounding_is_directed_by_one_number_for_any_float(dtype: torch.dtype, entries: list[float]) -> None:
    """Down: the next number of the dtype is beyond x. Up: the one before falls short. Out of range: largest, or ∞."""
    x = numbers(*entries)
    down, up = round_down(x, dtype).double(), round_up(x, dtype).double()
    one_more = torch.nextafter(round_down(x, dtype), torch.full_like(x, INF).copysign(x).to(dtype)).double()
    one_less = torch.nextafter(round_up(x, dtype), torch.zeros_like(x).to(dtype)).double()
    assert ((down.abs() <= x.abs()) & ((one_more.abs() > x.abs()) | x.isinf())).all()
    assert ((up.abs() >= x.abs()) & ((one_less.abs() < x.abs()) | (x == 0) | x.isinf())).all()


def test_float32_of_0_3_is_above_it_and_so_not_the_radius() -> None:
    eta = ca.Lp(INF).steepest(rows([1.0], dtype=torch.float32), 0.3)
    assert float(eta) > -0.3
    assert float(eta) == -float(np.nextafter(np.float32(0.3), np.float32(0)))


@pytest.mark.parametrize("p", [0.5, 0.999999, 0, -1, -INF, math.nan])
def test_p_below_1_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"p must be in \[1, inf\], got p = .* use Lp\(1\)"):
        ca.Lp(p)


@pytest.mark.parametrize("p", ["2", None, True, [2], 2j])
def test_p_that_is_no_number_is_refused(p: Any) -> None:
    with pytest.raises(TypeError, match="p must be a number"):
        ca.Lp(p)


def test_norms_are_values() -> None:
    assert ca.Lp(2) == ca.Lp(2.0) == ca.Lp(np.float64(2))
    assert len({ca.Lp(2), ca.Lp(2.0), ca.Lp(3)}) == 2


def test_rows_are_taken_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(0, 7, 3)
    monkeypatch.setattr(numerics, "BLOCK", 6)
    seen: list[int] = []

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(x))
        return x + y[:, None], y

    total, last = numerics.by_rows(both, x, x[:, 0])
    assert seen == [2, 2, 2, 1]
    assert torch.equal(total, x + x[:, :1])
    assert torch.equal(last, x[:, 0])
    assert torch.equal(numerics.by_rows(lambda x: 2 * x, x[0]), 2 * x[0])
    assert numerics.by_rows(lambda x: x.sum(-1), x[:0]).shape == (0,)
    assert numerics.sum64(torch.ones(5, 2, 3)).shape == (5, 2)
    big = torch.tensor([[2.0**30, 1.0, -(2.0**30)]] * 4)
    assert numerics.sum64(big).tolist() == [1.0] * 4  # float32 would lose the 1
    tiny = torch.full((4, 3), 1e-30)
    assert (numerics.dot64(tiny, tiny) > 0).all()  # float32 would lose all


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, INF])
def test_blocks_change_nothing(p: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    g, value = normal(1, 9, 50).to(dtype), normal(2, 9).abs().to(dtype)

    def answers() -> list[Tensor]:
        alone = ca.solve(ca.MinNorm(value, g, ca.Lp(p)))
        return [ca.Lp(p).length(g), ca.Lp(p).steepest(g, value.double()), alone.eta, alone.multipliers[0]]

    whole = answers()
    monkeypatch.setattr(numerics, "BLOCK", 100)
    for one, other in zip(whole, answers(), strict=True):
        rtol = 2 * torch.finfo(one.dtype).eps if p == 1.5 else 0  # a power may differ
        torch.testing.assert_close(one, other, rtol=rtol, atol=0)


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
@pytest.mark.parametrize("radius", [1e-44, 3e-41, 1e-37, 1e-12, 1e12, 3e38])
def test_steepest_at_radii_that_float32_hardly_resolves(p: float, radius: float) -> None:
    for vector in VECTORS.values():
        eta = ca.Lp(p).steepest(vector.float()[None], torch.tensor([radius], dtype=torch.float64))[0]
        assert in_ball(eta, p, radius)
        assert (eta * vector.sign() <= 0).all()


@pytest.mark.parametrize("factor", [1.0, 1.0000028610229492, 1.3])
def test_steepest_of_many_equal_entries_is_inside(factor: float) -> None:
    """All of them are rounded the same way, and a sum of as many equal squares may be off by its length."""
    d = 150528
    for radius in (387.97988965353085, 1.0, 0.1):
        eta = ca.Lp(2).steepest(torch.full((1, d), factor), torch.tensor([radius], dtype=torch.float64))[0]
        assert d * fractions(eta[:1])[0] ** 2 <= Fraction(radius) ** 2
        assert eta.unique().numel() == 1


GROUPS = torch.tensor([1, 0, 0, 3, 1])  # unequal, and none is number 2


@pytest.mark.parametrize("outer", [1.0, 1.5, 2.0, INF])
def test_a_mixed_norm(outer: float) -> None:
    """Its value by hand; Hölder's inequality with its dual, attained; |x_i| ≤ ‖x‖; its text in CVXPY."""
    norm, x, y = Mixed(GROUPS, ca.Lp(outer)), normal(1, 40, 5), normal(2, 40, 5)
    parts = torch.stack([x[:, [1, 2]].norm(dim=1), x[:, [0, 4]].norm(dim=1), x[:, 3].abs()], 1)
    torch.testing.assert_close(norm(x), ca.Lp(outer)(parts), rtol=1e-14, atol=0)
    assert ((x * y).sum(1) <= norm(x) * norm.dual(y) * (1 + 1e-14)).all()
    assert (x.abs() <= norm(x)[:, None] * (1 + 1e-14)).all()
    eta, t = cp.Variable(5), cp.Variable()
    problem = cp.Problem(cp.Maximize(y[0].numpy() @ eta), norm.text(eta, 1.0))
    assert problem.solve(solver=cp.CLARABEL) == pytest.approx(norm.dual(y)[0].item(), rel=1e-6)
    problem = cp.Problem(cp.Minimize(t), [*norm.text(eta, t), eta == x[0].numpy()])
    assert problem.solve(solver=cp.CLARABEL) == pytest.approx(norm(x)[0].item(), rel=1e-6)
    for scale in (1e-200, 1e200):
        torch.testing.assert_close(norm(scale * x), scale * norm(x), rtol=1e-13, atol=0)


def test_labels_that_are_none_are_refused() -> None:
    for wrong in (torch.tensor([0.0, 1.0]), torch.tensor([-1, 0]), torch.tensor([], dtype=torch.int64)):
        with pytest.raises(ValueError, match="labels must be ints >= 0, one for each entry"):
            Mixed(wrong, ca.Lp(1))
    with pytest.raises(ValueError, match=r"labels must have one entry for each of the d = 3 coordinates, got 5"):
        Mixed(GROUPS, ca.Lp(1)).check(3)
    with pytest.raises(TypeError, match=r"outer must be a ca\.Lp"):
        Mixed(GROUPS, 1)  # type: ignore[arg-type]
