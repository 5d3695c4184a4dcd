"""check_step: wrong steps get a small, true counterexample, right ones pass, the strategies draw what they say."""

from __future__ import annotations

import functools
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import DTYPES, INF, in_ball, in_box, linear
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca
from convexattack import testing
from convexattack.testing import Counterexample, check_step, gradients, images, programs

FEW: dict[str, Any] = {"examples": 25}
SEARCH = settings(max_examples=2000, database=None, deadline=None, phases=[Phase.generate])
TINY = 1e-30  # keeps 0/0 away, in float32 too
each_p = pytest.mark.parametrize("p", [1, 1.001, 1.5, 2, 3, math.pi, 1000, INF])


def length(g: Tensor, p: float) -> Tensor:
    return ca.Lp(p)(g)[:, None].clamp_min(TINY)


def l1_step(g: Tensor, radius: float) -> Tensor:
    return -radius * g / length(g, 1)


def l2_step(g: Tensor, radius: float) -> Tensor:
    return -radius * g / length(g, 2)


def clipped(g: Tensor, radius: float, lower: Tensor, upper: Tensor) -> Tensor:
    return l2_step(g, radius).clamp(lower, upper)


def clipped_at_the_image(g: Tensor, radius: float, x: Tensor) -> Tensor:
    return (x + l2_step(g, radius)).clamp(0, 1) - x


def one_ulp_outside(g: Tensor, radius: float) -> Tensor:
    eta = -radius * g.sign()
    return torch.nextafter(eta, 2 * eta)


def q_for_q_minus_1(g: Tensor, radius: float) -> Tensor:
    """Eq. (6) at p = 3, q = 3/2."""
    return -radius * g.sign() * g.abs() ** 1.5 / length(g, 1.5) ** 0.5


def q_for_q_minus_1_twice(g: Tensor, radius: float) -> Tensor:
    """The same, with the norm of what stands above, so that it is inside the ball."""
    top = g.abs() ** 1.5
    return -radius * g.sign() * top / length(top, 3)


def deepfool(g: Tensor, value: Tensor) -> Tensor:
    return -value.abs()[:, None] * g / (g * g).sum(-1, keepdim=True).clamp_min(TINY)


def ties_counted_twice(g: Tensor, radius: float) -> Tensor:
    return -radius * g.sign() * (g.abs() == g.abs().amax(-1, keepdim=True))


def one_coordinate(g: Tensor, radius: float) -> Tensor:
    k = g.abs().argmax(-1, keepdim=True)
    return torch.zeros_like(g).scatter(-1, k, -radius * g.gather(-1, k).sign())


def row_0_for_all(g: Tensor, radius: float) -> Tensor:
    return (-radius * g[:1].sign()).expand_as(g)


def wrong_if(condition: Callable[[Tensor], bool]) -> Callable[[Tensor, float], Tensor]:
    """Half the right step where the condition holds, the right one elsewhere."""
    return lambda g, radius: -radius * g.sign() * (0.5 if condition(g) else 1.0)


def clipped_deepfool(g: Tensor, value: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return ca.solve(ca.MinNorm(value, g, ca.Lp(2))).eta.clamp(lower, upper)


PIXELS = (ca.PixelRange(0.0, 1.0),)
WRONG: dict[str, tuple[Callable[..., Any], type[ca.Program], float, Any]] = {
    "g/‖g‖₁ for p = 1": (l1_step, ca.GNII, 1, ()),
    "g/‖g‖₁ for p = 1 in (GN)": (l1_step, ca.GN, 1, ()),
    "clip after an ℓ2 step": (clipped, ca.GNII, 2, PIXELS),
    "clip after an ℓ2 step, drawn boxes": (clipped, ca.GNII, 2, ca.Box),
    "clip after an ℓ2 step, at the image": (clipped_at_the_image, ca.GNII, 2, PIXELS),
    "wrong sign": (lambda g, radius: radius * g.sign(), ca.GNII, INF, ()),
    "wrong sign in (GN)": (lambda g, radius: radius * g.sign(), ca.GN, INF, ()),
    "one ulp outside": (one_ulp_outside, ca.GNII, INF, ()),
    "eq. (6) with q": (q_for_q_minus_1, ca.GNII, 3, ()),
    "eq. (6) with q, normalized": (q_for_q_minus_1_twice, ca.GNII, 3, ()),
    "DeepFool with |f|": (deepfool, ca.MinNorm, 2, ()),
    "DeepFool, clipped": (clipped_deepfool, ca.MinNorm, 2, PIXELS),
    "box ignored": (l2_step, ca.GNII, 2, (ca.Box(-0.3, 0.3),)),
    "ties counted twice": (ties_counted_twice, ca.GNII, 1, ()),
    "ball ignored": (lambda g, radius: -g, ca.GNII, 2, ()),
    "for another norm": (lambda g, radius: -radius * g.sign(), ca.GNII, 2, ()),
    "NaN at g = 0": (lambda g, radius: -radius * g / ca.Lp(2)(g)[:, None] * (1 - 1e-7), ca.GNII, 2, ()),
    "too small": (lambda g, radius: -radius * g.sign() * (1 - 1e-4), ca.GNII, INF, ()),
    "row 0 for all": (row_0_for_all, ca.GNII, INF, ()),
    "the whole batch as one vector": (lambda g, radius: -radius * g / g.norm().clamp_min(TINY), ca.GNII, 2, ()),
    "wrong for d = 1": (wrong_if(lambda g: g.shape[1] == 1), ca.GNII, INF, ()),
    "wrong in float32": (wrong_if(lambda g: g.dtype == torch.float32), ca.GNII, INF, ()),
    "wrong at 1e-12": (wrong_if(lambda g: bool((g.abs().amax(-1) < 1e-9).any())), ca.GNII, INF, ()),
    "1e-12 in the denominator": (lambda g, radius: -radius * g / (ca.Lp(2)(g)[:, None] + 1e-12), ca.GNII, 2, ()),
}
UNFIT: dict[str, tuple[Callable[..., Any], str]] = {
    "shape": (lambda g, radius: -radius * g[0].sign(), r"returns the shape \(1,\) for a gradient of shape \(1, 1\)"),
    "dtype": (lambda g, radius: -radius * g.double().sign(), "returns float64 for a gradient in float32"),
    "in place": (lambda g, radius: g.sign_().mul_(-radius), "changes its argument gradient in place"),
    "a list": (lambda g, radius: (-radius * g.sign()).tolist(), "returns a list, not a tensor"),
    "nothing": (lambda g, radius: None, "returns a NoneType"),
    "raises": (lambda g, radius: g.view(0), "raises RuntimeError"),
}


def refuted(
    step: Callable[..., Any], program: type[ca.Program], p: float, sets: Any = (), **options: Any
) -> Counterexample:
    with pytest.raises(Counterexample) as caught:
        check_step(step, program, ca.Lp(p), sets, **options)
    return caught.value


@functools.cache
def known(name: str) -> Counterexample:
    step, program, p, sets = WRONG[name]
    return refuted(step, program, p, sets, exact=name == "one ulp outside")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_is_refuted(name: str) -> None:
    """By at most three coordinates; what the counterexample says is true in exact arithmetic, of a step run again."""
    step, program, _, sets = WRONG[name]
    found = known(name)
    own, i = found.program, found.item
    assert isinstance(own, program)
    assert own.gradient.numel() <= 3
    assert found.eta is not None
    assert found.certificate is not None
    if not isinstance(own, ca.MinNorm) and not sets:
        (ball,) = own.sets
        assert isinstance(ball, ca.Ball)
        torch.testing.assert_close(
            step(own.gradient, float(torch.as_tensor(ball.radius))), found.eta, rtol=0, atol=0, equal_nan=True
        )
    finite = bool(found.eta.isfinite().all())
    if finite and inside(own, found.eta, i) and (program is not ca.MinNorm or linear(own, found.eta, i) <= 0):
        assert inside(own, found.optimal, i)
        assert own.primal(found.optimal)[i] < own.primal(found.eta)[i]
        assert (
            program is ca.GNII
            or program is ca.MinNorm
            or linear(own, found.eta, i) >= 0 > linear(own, found.optimal, i)
        )
        assert not 0.999999 < found.ratio < 1.000001
    assert not found.certificate.holds()[i]
    for word in ("gradient", "optimal", "proof", "returned"):
        assert f"\n  {word}" in str(found)


def inside(program: ca.Program, eta: Tensor, i: int) -> bool:
    """η_i in every set, in rational arithmetic."""
    balls = [
        in_ball(eta[i], part.norm.p, float(part.radii(program.g)[i]))
        for part in program.sets
        if isinstance(part, ca.Ball)
    ]
    boxes = [
        in_box(eta[i], *(bound[i] for bound in part.bounds(program.g)))
        for part in program.sets
        if isinstance(part, ca.Box)
    ]
    return all(balls + boxes)


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_no_answer_is_said_plainly(name: str) -> None:
    step, sentence = UNFIT[name]
    found = refuted(step, ca.GNII, INF)
    assert found.eta is None
    assert found.certificate is None
    assert math.isnan(found.ratio)
    with pytest.raises(Counterexample, match=sentence) as caught:
        raise found
    assert (caught.value.__cause__ is None) == (name != "raises")


def test_the_message_in_full() -> None:
    assert str(known("g/‖g‖₁ for p = 1")) == (
        "The step is wrong on (GNII) with p = 1 in 2 coordinates, float64: it reaches 0.8333 of the possible "
        "decrease.\n"
        "  gradient  [1, 2]\n"
        "  radius ε  1\n"
        "  returned  [-0.3333333333333333, -0.6666666666666666], gᵀη = -1.66667\n"
        "  optimal   [0, -1], gᵀη = -2\n"
        "  proof     v sums to −g, so every η in the sets has gᵀη ≥ −Σσ(v) = -2: v(C1) = [-1, -2]"
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "one ulp outside",
            "‖η‖_∞ exceeds ε = 1 by 2.2e-16, 1 ulp of float64.*This is rounding.*tolerance=ca.Tolerance()",
        ),
        ("DeepFool with |f|", "‖η‖ is not 0, though η = 0 will do.*value L   -1"),
        ("NaN at g = 0", "returns NaN or ∞, though at g = 0"),
        ("wrong sign", "reaches -1 of the possible decrease"),
        ("wrong in float32", "float32.*reaches 0.5 of the possible decrease"),
        ("row 0 for all", r"item \d of 2; all of them below.*all rows  gradient = \[\["),
        ("box ignored", r"η\[0\] leaves its bounds by"),
        ("ball ignored", "exceeds ε"),
        ("wrong sign in (GN)", "L \\+ gᵀη is not below 0, though it can be"),
    ],
)
def test_what_the_message_says(name: str, sentence: str) -> None:

    assert re.search(sentence, str(known(name)), re.DOTALL)


# --- right steps ------------------------------------------------------------------------------------------------------


@each_p
def test_the_closed_form_passes(p: float) -> None:
    assert check_step(ca.Lp(p).steepest, ca.GNII, ca.Lp(p), **FEW) > 25
    assert check_step(ca.Lp(p).steepest, ca.GN, ca.Lp(p), **FEW) > 25
    assert check_step(lambda g, value: ca.solve(ca.MinNorm(value, g, ca.Lp(p))).eta, ca.MinNorm, ca.Lp(p), **FEW) > 15


@pytest.mark.parametrize("p", [1, 1.5, 2, INF])
@pytest.mark.parametrize("sets", [PIXELS, ca.Box, ca.PixelRange(-1.0, 1.0)], ids=str)
def test_the_closed_form_with_a_box_passes(p: float, sets: Any) -> None:
    norm = ca.Lp(p)

    def best(g: Tensor, radius: float, lower: Tensor, upper: Tensor) -> Tensor:
        return ca.solve(ca.GNII(g.new_zeros(len(g)), g, (ca.Ball(norm, radius), ca.Box(lower, upper)))).eta

    def least(g: Tensor, value: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return ca.solve(ca.MinNorm(value, g, norm, (ca.Box(lower, upper),))).eta

    assert check_step(best, ca.GNII, norm, sets, **FEW) > 25
    assert check_step(least, ca.MinNorm, norm, sets, **FEW) > 10


def test_steps_of_other_people_pass() -> None:
    assert check_step(lambda g, radius: -radius * g.sign(), ca.GNII, ca.Lp(INF)) > 200
    assert check_step(lambda g, radius: -radius * np.sign(g.numpy()), ca.GNII, ca.Lp(INF), **FEW) > 25
    assert check_step(one_coordinate, ca.GNII, ca.Lp(1), **FEW) > 25
    sign_and_clip = check_step(
        lambda g, r, lower, upper: (-r * g.sign()).clamp(lower, upper), ca.GNII, ca.Lp(INF), PIXELS, **FEW
    )
    assert sign_and_clip > 25
    assert (
        check_step(
            lambda g, radius: (-radius * g.sign()).clamp(-0.25, 0.25), ca.GNII, ca.Lp(INF), ca.Box(-0.25, 0.25), **FEW
        )
        > 25
    )
    assert (
        check_step(
            lambda g, radius: -radius * g.sign(), ca.GNII, ca.Lp(INF), dtypes=(torch.float16, torch.bfloat16), **FEW
        )
        > 25
    )


def test_a_step_that_rounds_passes_and_says_so() -> None:
    found = check_step(l2_step, ca.GNII, ca.Lp(2), **FEW)
    assert found > 25
    assert 0 < found.ulps <= 20
    assert str(found) == f"{int(found)} (correct to {found.ulps:.1g} ulp)"
    assert str(check_step(right, ca.GNII, ca.Lp(INF), **FEW)).isdigit()
    assert check_step(one_ulp_outside, ca.GNII, ca.Lp(INF), dtypes=(torch.float32,), **FEW).ulps == 1.0
    assert "This is rounding" in str(refuted(l2_step, ca.GNII, 2, exact=True))
    assert isinstance(
        refuted(lambda g, r: l2_step(g, r) * (1 + 1e-13), ca.GNII, 2, dtypes=(torch.float64,)), Counterexample
    )

    def to_the_hyperplane(g: Tensor, value: Tensor) -> Tensor:
        return -g / length(g, 2) * (value.clamp_min(0)[:, None] / length(g, 2))

    assert "This is rounding" in str(refuted(to_the_hyperplane, ca.MinNorm, 2, exact=True))
    assert check_step(to_the_hyperplane, ca.MinNorm, ca.Lp(2), **FEW) > 15


def test_a_tolerance_forgives_more() -> None:
    assert check_step(l2_step, ca.GNII, ca.Lp(2), tolerance=ca.Tolerance(1e-9), dtypes=(torch.float64,), **FEW) > 25
    assert isinstance(refuted(l1_step, ca.GNII, 1, tolerance=ca.Tolerance(0.1)), Counterexample)
    assert check_step(wrong_if(lambda g: True), ca.GNII, ca.Lp(INF), tolerance=ca.Tolerance(0.6), **FEW) > 25


def test_sets_of_a_fixed_size_come_as_a_function() -> None:
    def edge(shape: tuple[int, int]) -> ca.ConvexSet:
        return ca.ConvexSet(ca.atoms.Interval(-INF, 0.5), ca.maps.Rows(torch.ones(1, shape[1])), "edge")

    def best(g: Tensor, radius: float, sets: tuple[ca.ConvexSet, ...]) -> Tensor:
        return ca.solve(ca.GNII(g.new_zeros(len(g)), g, (ca.Ball(ca.Lp(INF), radius), *sets))).eta

    assert check_step(best, ca.GNII, ca.Lp(INF), edge, examples=10, tolerance=ca.Tolerance()) > 10
    assert "violates edge, row 0, by" in str(refuted(right, ca.GNII, INF, edge, examples=50))
    weights = check_step(
        lambda g, radius, sets: sets[0].map(ca.Lp(INF).steepest(g).double()).to(g.dtype) * min(radius, 0.25) * 0.5,
        ca.GNII,
        ca.Lp(INF),
        lambda shape: ca.WeightedBall(ca.Lp(INF), torch.full((shape[1],), 2.0), 0.25),
        tolerance=ca.Tolerance(2.0),
        **FEW,
    )
    assert weights > 25


def test_a_set_without_a_closed_form_is_judged_by_cvxpy() -> None:
    import cvxpy as cp

    flat = ca.CustomSet(lambda eta: [cp.sum(eta) == 0])

    def best(g: Tensor, radius: float) -> Tensor:
        return ca.solve(ca.GNII(g.new_zeros(len(g)), g, (ca.Ball(ca.Lp(INF), radius), flat))).eta

    assert check_step(best, ca.GNII, ca.Lp(INF), flat, examples=5)
    assert "CustomSet" in str(refuted(lambda g, radius: -radius * g.sign(), ca.GNII, INF, flat, examples=20))


def test_a_zero_gradient_allows_any_point_inside() -> None:
    def step(g: Tensor, radius: float) -> Tensor:
        return torch.where((g == 0).all(-1, keepdim=True), torch.full_like(g, radius), -radius * g.sign())

    assert check_step(step, ca.GNII, ca.Lp(INF), **FEW) > 25
    assert (
        check_step(lambda g, radius: torch.where(g == 0, radius, -radius * g.sign()), ca.GNII, ca.Lp(INF), **FEW) > 25
    )


# --- how it runs ------------------------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_programs() -> None:
    def drawn(seed: int) -> list[Any]:
        seen: list[Any] = []

        def step(g: Tensor, radius: float) -> Tensor:
            seen.append((g.tolist(), radius))
            return right(g, radius)

        check_step(step, ca.GNII, ca.Lp(INF), examples=20, seed=seed)
        return seen

    first = drawn(1)
    assert first == drawn(1) != drawn(2)
    assert any(len(g) >= 8 and len(g[0]) >= 17 for g, _ in first)
    assert any(radius not in (1.0, 0.5, 0.25, 2.0, 0.1, 0.3, 0.0) for _, radius in drawn(3))


def test_chance_is_named() -> None:
    dice = random.Random(0)
    with pytest.raises(AssertionError, match=r"two different answers|The step is wrong"):
        check_step(lambda g, radius: -radius * g.sign() * dice.choice([1.0, 1.0, 0.5]), ca.GNII, ca.Lp(INF))


def test_the_first_case_is_asked_again() -> None:
    calls = [0]

    def tires(g: Tensor, radius: float) -> Tensor:
        calls[0] += 1
        return torch.zeros_like(g) if calls[0] > until else right(g, radius)

    until: float = 10**9
    check_step(tires, ca.GNII, ca.Lp(INF), examples=20)
    until, calls[0] = calls[0] - 1, 0
    with pytest.raises(AssertionError, match="two different answers"):
        check_step(tires, ca.GNII, ca.Lp(INF), examples=20)


def test_it_runs_inside_a_hypothesis_test() -> None:
    @settings(max_examples=2, deadline=None, database=None, suppress_health_check=[HealthCheck.nested_given])
    @given(st.sampled_from([1, INF]))
    def test(p: float) -> None:
        check_step(ca.Lp(p).steepest, ca.GNII, ca.Lp(p), examples=5)

    test()


def test_an_interrupt_is_not_taken_for_an_answer() -> None:
    def step(g: Tensor, radius: float) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_step(step, ca.GNII, ca.Lp(2))


def test_no_file_is_left_and_the_package_does_without_hypothesis(tmp_path: Path) -> None:
    root = str(Path(testing.__file__).parents[2])
    script = f"""
import sys
sys.path.insert(0, {root!r})
import math, convexattack as ca
assert 'hypothesis' not in sys.modules
from convexattack.testing import check_step
check_step(lambda g, radius: -radius * g.sign(), ca.GNII, ca.Lp(math.inf), examples=5)
for name in [name for name in sys.modules if name.startswith(('hypothesis', 'convexattack.testing'))]:
    del sys.modules[name]
sys.modules['hypothesis'] = None
try:
    import convexattack.testing
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'convexattack[testing]'" in done.stdout
    assert list(tmp_path.iterdir()) == []


# --- arguments --------------------------------------------------------------------------------------------------------


def right(g: Tensor, radius: float) -> Tensor:
    return -radius * g.sign()


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"step": 3}, TypeError, "step must be a function .*, got 3; write"),
        (
            {"step": lambda g, r, low: g},
            TypeError,
            "a third named 'low': it is called .* and gets sets if it has them",
        ),
        (
            {"step": lambda g, r, x: g, "sets": ca.Box(-1.0, 1.0)},
            TypeError,
            "a third named 'x'.*gets lower, upper, sets if it has them",
        ),
        (
            {"program": ca.OperatorNorm},
            ValueError,
            "program must be ca.GNII, ca.GN or ca.MinNorm, got .*OperatorNorm.*certify",
        ),
        ({"norm": 2}, TypeError, r"norm must be a ca.Lp, got 2; write .*ca.Lp\(2\)"),
        ({"sets": (3,)}, TypeError, r"sets must hold convex sets.*got 3; write sets=\(ca.Box"),
        (
            {"sets": (ca.Box(torch.zeros(4), 1.0),)},
            ValueError,
            "sets must fit any N and d, got Box.*give its bounds as numbers",
        ),
        (
            {"sets": (ca.Box(5.0, 6.0),)},
            ValueError,
            "sets must leave some program feasible, but none of .*boxes should hold 0",
        ),
        (
            {"tolerance": 1e-9},
            TypeError,
            r"tolerance must be a ca.Tolerance, got 1e-09; write tolerance=ca.Tolerance\(1e-9\)",
        ),
        ({"dtypes": (torch.int64,)}, TypeError, "dtypes must be floating-point dtypes, got .*write dtypes="),
        ({"dtypes": ()}, TypeError, "dtypes must be floating-point dtypes"),
        ({"examples": 0}, ValueError, "examples must be a whole number >= 1, got 0"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    options: dict[str, Any] = {"step": right, "program": ca.GNII, "norm": ca.Lp(INF), **arguments}
    with pytest.raises(error, match=sentence):
        check_step(**options)


# --- strategies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        lambda g: bool((g == 0).all()),
        lambda g: g.shape[1] > 2 and bool((g.abs() == g.abs().amax()).all()),
        lambda g: bool(g.abs().amax() > 1e11),
        lambda g: 0 < float(g.abs().amax()) < 1e-11,
        lambda g: len(g) == 3 and g.shape[1] == 6,
        lambda g: 0 < float(g.abs().amin()) < 1e-5 * float(g.abs().amax()),
    ],
    ids=["zero", "ties", "large", "small", "many", "decades apart"],
)
def test_gradients_are_degenerate(wanted: Callable[[Tensor], bool]) -> None:
    find(gradients(), wanted, settings=SEARCH, random=random.Random(0))


@settings(max_examples=50)
@given(st.data(), st.sampled_from(DTYPES))
def test_what_is_drawn_has_the_dtype_the_shape_and_the_range(data: st.DataObject, dtype: torch.dtype) -> None:
    g = data.draw(gradients(dtype, st.just((2, 3))))
    x = data.draw(images(dtype, (2, 3), ca.PixelRange(-1.0, 1.0)))
    for drawn in (g, x):
        assert drawn.dtype == dtype
        assert drawn.shape == (2, 3)
        assert drawn.isfinite().all()
    assert (x.abs() <= 1).all()
    if dtype != torch.bfloat16:
        box = ca.PixelRange(-1.0, 1.0).at(x)
        upper = torch.as_tensor(box.upper)
        assert torch.equal(upper.to(dtype).double(), upper)
    program = data.draw(programs(kinds=(ca.GN,), norms=(ca.Lp(3),), dtypes=(dtype,), shape=(2, 3)))
    assert isinstance(program, ca.GN)
    assert any(isinstance(part, ca.Ball) and part.norm.p == 3 for part in program.sets)
    assert program.gradient.dtype == dtype
    assert program.gradient.shape == (2, 3)


@pytest.mark.parametrize("kind", [ca.GN, ca.GNII, ca.MinNorm])
@pytest.mark.parametrize("status", [ca.Status.OPTIMAL, ca.Status.FEASIBLE, ca.Status.INFEASIBLE, ca.Status.UNBOUNDED])
def test_programs_of_every_status_are_drawn(kind: type[ca.Program], status: ca.Status) -> None:
    never = {ca.GN: ["OPTIMAL", "UNBOUNDED"], ca.GNII: ["FEASIBLE"], ca.MinNorm: ["FEASIBLE", "UNBOUNDED"]}
    if status.name not in never[kind]:
        find(
            programs(kinds=(kind,)),
            lambda program: status in ca.solve(program).status,
            settings=SEARCH,
            random=random.Random(0),
        )
