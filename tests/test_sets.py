"""Membership and support functions against brute force; pixel ranges against rational arithmetic; CVXPY texts."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from examples import DTYPES, INF, NORMS, PATHS, SETS, dual_length, fractions, normal, numbers, random, rows
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca

ends = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0])


def support(part: ca.ConvexSet, v: Tensor) -> Tensor:
    """σ_C(v) without the bound on its error."""
    return part.price(v)[0]


# --- balls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_ball(norm: ca.Lp) -> None:
    radius = numbers(0.5, 0.0, 3.0)
    ball, points, v = ca.Ball(norm, radius), normal(1, 3, 5), normal(2, 3, 5)
    assert ball.violation(points).tolist() == (norm(points) - radius).clamp_min(0).tolist()
    assert (ball.violation(norm.steepest(points, radius)) == 0).all()
    assert (ball.violation(1.001 * norm.steepest(points, radius))[[0, 2]] > 1e-4).all()
    exact = [float(r * dual_length(row, norm.p)) for r, row in zip(radius.tolist(), v, strict=True)]
    assert support(ball, v).tolist() == pytest.approx(exact, rel=1e-14)
    assert ball.reach(v).tolist() == [[r] * 5 for r in radius.tolist()]
    assert ball.violation(rows([math.nan, 0, 0, 0, 0])[[0, 0, 0]]).isnan().all()


@pytest.mark.parametrize("radius", [-1.0, -1e-300, math.nan, INF])
def test_a_radius_that_bounds_nothing_is_refused(radius: float) -> None:
    for given_as in (radius, numbers(1.0, radius), np.array([1.0, radius])):
        with pytest.raises(ValueError, match="radius must be a finite number >= 0"):
            ca.Ball(ca.Lp(2), given_as)  # type: ignore[arg-type]


@pytest.mark.parametrize("radius", ["1", None, True, torch.tensor([1])])
def test_a_ball_of_the_wrong_type_is_refused(radius: Any) -> None:
    with pytest.raises(TypeError, match=r"^radius must"):
        ca.Ball(ca.Lp(2), radius)
    with pytest.raises(TypeError, match=r"^norm must be a ca.Lp, got 2; write ca.Ball\(ca.Lp\(2\), radius\)"):
        ca.Ball(2, 1.0)  # type: ignore[arg-type]


def test_a_radius_for_each_item() -> None:
    with pytest.raises(ValueError, match=r"radius must be a number or have shape \(N,\) = \(3,\), got shape \(2,\)"):
        ca.GNII(torch.zeros(3), torch.zeros(3, 2), (ca.Ball(ca.Lp(2), numbers(1, 2)),))


# --- boxes ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(ends, ends, ends, ends), min_size=1, max_size=4))
def test_box_against_its_vertices(columns: list[tuple[float, float, float, float]]) -> None:
    """σ(v) is attained at a vertex, and a point is as far outside as its worst coordinate."""
    low, high = ([f(a, b) for a, b, _, _ in columns] for f in (min, max))
    v, point = ([column[k] for column in columns] for k in (2, 3))
    box = ca.Box(numbers(*low), numbers(*high))
    vertices = itertools.product(*zip(low, high, strict=True))
    assert support(box, rows(v)).item() == max(
        sum(a * b for a, b in zip(v, vertex, strict=True)) for vertex in vertices
    )
    assert box.violation(rows(point)).item() == max(
        max(lo - x, x - hi, 0) for lo, x, hi in zip(low, point, high, strict=True)
    )


def test_zero_times_infinity_is_zero_in_a_box() -> None:
    v = rows([0.0, -2.0], [0.0, 2.0], [-0.0, 0.0], [1.0, 0.0])
    box = ca.Box(numbers(-INF, -1.0), numbers(INF, 3.0))
    assert support(box, v).tolist() == [2, 6, 0, INF]
    assert box.violation(rows([1e300, 5], [-1e300, -1.5], [0, 0], [0, INF])).tolist() == [2, 0.5, 0, INF]
    assert box.reach(v).tolist() == [[INF, 3]] * 4


def test_a_box_charges_its_rounding() -> None:
    """σ is off by no more than the error it states: the sum cancels to nothing in float64 and is 2 in Q."""
    v, high = rows([1.0, 1.0, 1.0]), numbers(1e17, 2.0, -1e17)
    exact = sum(a * b for a, b in zip(fractions(v[0]), fractions(high), strict=True))
    value, error = ca.Box(high, high).price(v)
    assert abs(Fraction(value.item()) - exact) <= Fraction(error.item()) < 10000


def test_an_empty_box() -> None:
    with pytest.raises(ValueError, match=r"the box is empty: lower = 1.0 is above upper = -1.0; swap them"):
        ca.Box(1.0, -1.0)
    box = ca.Box(rows([0.0], [2.0]), 1.0)  # one item of two: that item's affair
    assert box.violation(rows([0.5], [0.5])).tolist() == [0, 1.5]
    program = ca.GNII(torch.zeros(2, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64), (box,))
    assert [status.name for status in ca.solve(program).status] == ["OPTIMAL", "INFEASIBLE"]


def test_nan_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="lower must be a number, got nan"):
        ca.Box(math.nan, 1.0)
    with pytest.raises(ValueError, match="upper must be a number, got nan"):
        ca.Box(1.0, math.nan)


@pytest.mark.parametrize("bound", ["1", None, True, torch.tensor([1])])
def test_bounds_of_the_wrong_type_are_refused(bound: Any) -> None:
    with pytest.raises(TypeError, match=r"^upper must"):
        ca.Box(-1.0, bound)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3), (1, 1, 2)])
def test_bounds_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"upper must be a number or broadcast to \(N, d\) = \(4, 2\)"):
        ca.GNII(torch.zeros(4), torch.zeros(4, 2), (ca.Box(-1.0, torch.ones(shape)),))


# --- pixel ranges -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=5),
    st.sampled_from(DTYPES),
    st.sampled_from([(0.0, 1.0), (-0.1, 0.7), (0.3, 255.1)]),
)
def test_pixel_range_is_rounded_inwards(pixels: list[float], dtype: torch.dtype, span: tuple[float, float]) -> None:
    """x + η ∈ [low, high] in rational arithmetic for η at either bound, and one step further it is not."""
    x = torch.tensor([pixels], dtype=dtype)
    box = ca.PixelRange(*span).at(x)
    low, high = (torch.as_tensor(bound)[0] for bound in (box.lower, box.upper))
    lowest, highest = map(Fraction, span)
    for pixel, lo, hi in zip(fractions(x[0]), fractions(low), fractions(high), strict=True):
        assert lowest <= pixel + lo
        assert pixel + hi <= highest
    further = (torch.nextafter(bound, torch.full_like(bound, to)) for bound, to in ((low, -INF), (high, INF)))
    for pixel, lo, hi in zip(fractions(x[0]), *map(fractions, further), strict=True):
        assert pixel + lo < lowest
        assert pixel + hi > highest


def test_pixel_range_repeats_an_image_for_its_pieces() -> None:
    x = torch.rand(2, 1, 2, 3, generator=random(1))
    box = ca.PixelRange(0.0, 1.0).at(x, pieces=3)
    low = torch.as_tensor(box.lower)
    assert low.shape == (6, 6)
    assert torch.equal(low, -x.flatten(1).double()[[0, 0, 0, 1, 1, 1]])


def test_pixel_range_needs_an_image() -> None:
    program = torch.zeros(1), torch.zeros(1, 2)
    for make in (ca.GNII, ca.GN):
        with pytest.raises(
            ValueError, match=r"sets\[1\] is a PixelRange that knows no image yet; resolve it with .*at\(x, pieces=K\)"
        ):
            make(*program, (ca.Ball(ca.Lp(2), 1.0), ca.PixelRange()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sets\[0\] is a PixelRange"):
        ca.MinNorm(*program, ca.Lp(2), ca.PixelRange())  # type: ignore[arg-type]


def test_pixel_range_refuses_what_is_no_image() -> None:
    with pytest.raises(TypeError, match=r"x must be a floating-point tensor of images, got torch.uint8"):
        ca.PixelRange().at(torch.zeros(1, 2, dtype=torch.uint8))
    with pytest.raises(TypeError, match="x must be a floating-point tensor"):
        ca.PixelRange().at([[0.5]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x must have a batch dimension .*, got shape \(2,\)"):
        ca.PixelRange().at(torch.zeros(2))


@pytest.mark.parametrize("span", [(1.0, 0.0), (0.5, 0.5), (math.nan, 1.0), (0.0, math.nan)])
def test_an_empty_pixel_range_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"the pixel range is empty: low = .* is not below high ="):
        ca.PixelRange(*span)


# --- every set and its CVXPY text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", SETS.values(), ids=SETS.keys())
def test_constraints_say_what_violation_says(make: Any) -> None:
    for part in make(3, 4):
        points = torch.cat([normal(4, 3, 4), torch.zeros(3, 4, dtype=torch.float64)])
        for i in range(3):
            eta = cp.Variable(4)
            written = part.constraints(eta, i, 3)
            for point in points:
                eta.value = point.numpy()
                says = max((float(np.max(row.violation())) for row in written), default=0.0)
                assert says == pytest.approx(part.violation(point.expand(3, 4))[i].item(), abs=1e-15)


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_the_support_of_a_ball_is_that_of_its_text(norm: ca.Lp) -> None:
    v = normal(6, 2, 3)
    ball = ca.Ball(norm, numbers(0.5, 2.0))
    for i in range(2):
        eta = cp.Variable(3)
        problem = cp.Problem(cp.Maximize(v[i].numpy() @ eta), ball.constraints(eta, i, 2))
        problem.solve(solver=cp.CLARABEL)
        assert problem.value == pytest.approx(support(ball, v)[i].item(), rel=PATHS.at(torch.float64))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
def test_a_float_radius_is_float64_in_the_text(p: float) -> None:
    """0.1 is not a float32 number; rounded to one, the ball would be 1.5e-8 too large."""
    ball = ca.Ball(ca.Lp(p), 0.1)
    radius = ball.parameters(1, 3)["radius"]
    assert radius.tolist() == [0.1]
