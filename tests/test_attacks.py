"""Attacks. On an affine model, its own linearization, the best that any attack can do is known exactly."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import cvxpy as cp
import pytest
import torch
from examples import INF, ORACLE, PATHS, in_ball, in_box, normal, numbers
from torch import Tensor, nn

import convexattack as ca
from convexattack.attacks import Attack, Perturbation, algorithm1, algorithm2, deepfool, fastgrad, random_sign
from convexattack.datasets import load as load_data
from convexattack.models import load as load_model

NORMS = {"1": ca.Lp(1), "2": ca.Lp(2), "inf": ca.Lp(INF)}
each_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
RADIUS = 0.25
OVERSHOOT = 0.02

# --- an affine model whose scores are exact in float64: integers, eighths, and one margin of 2⁻³⁰ ---------------------

WEIGHT = torch.tensor(
    [[3, -1, 4, 1, -5, 9], [2, 6, -5, 3, 5, -8], [-9, 7, 9, -3, 2, 3], [8, 4, -6, 2, 6, -4]], dtype=torch.float64
)
X = (
    torch.tensor([[3, 1, 5, 2, 7, 4], [6, 5, 1, 2, 3, 1], [1, 7, 4, 0, 8, 2], [8, 0, 2, 5, 4, 3]], dtype=torch.float64)
    / 8
)
CLEAN = X @ WEIGHT.T
_order = CLEAN[0].argsort(descending=True)
BIAS = torch.zeros(4, dtype=torch.float64)
BIAS[_order[1]] = CLEAN[0, _order[0]] - CLEAN[0, _order[1]] - 2.0**-30
LABEL = (CLEAN + BIAS).argmax(1)
TARGET = (LABEL + 1) % 4


def affine(x: Tensor) -> Tensor:
    return x.flatten(1) @ WEIGHT.to(x).T + BIAS.to(x)


Row = Callable[..., Attack]
ONE_STEP: dict[str, Row] = {
    "best piece": lambda norm, **rest: algorithm1(RADIUS, norm, **rest),
    "active piece": lambda norm, **rest: algorithm1(RADIUS, norm, piece="active", **rest),
    "targeted": lambda norm, **rest: algorithm1(RADIUS, norm, loss=ca.targeted(TARGET), **rest),
    "class score": lambda norm, **rest: algorithm2(RADIUS, norm, **rest),
    "cross entropy": lambda norm, **rest: fastgrad(RADIUS, norm, **rest),
    "targeted class score": lambda norm, **rest: algorithm2(
        RADIUS, norm, loss=ca.targeted(TARGET, ca.class_score), **rest
    ),
    "targeted cross entropy": lambda norm, **rest: fastgrad(
        RADIUS, norm, loss=ca.targeted(2, ca.negative_cross_entropy), **rest
    ),
}
ROWS: dict[str, Row] = {
    **ONE_STEP,
    "three steps": lambda norm, **rest: algorithm1(RADIUS, norm, steps=3, **rest),
    "deepfool": lambda norm, **rest: deepfool(norm, overshoot=OVERSHOOT, **rest),
    "targeted deepfool": lambda norm, **rest: deepfool(norm, overshoot=OVERSHOOT, loss=ca.targeted(TARGET), **rest),
}
AFFINE_LOSS = ("best piece", "targeted", "class score", "targeted class score")

SETS: dict[str, tuple[Any, ...]] = {
    "ball alone": (),
    "pixels": (ca.PixelRange(0.0, 1.0),),
    "boxes": (ca.Box(-0.15, 0.2), ca.Ball(ca.Lp(INF), torch.tensor([0.125, 0.25, 0.5, 1.0], dtype=torch.float64))),
}
BOUNDS = {
    "ball alone": (torch.full_like(X, -INF), torch.full_like(X, INF)),
    "pixels": (-X, 1 - X),
    "boxes": (
        -numbers(0.125, 0.15, 0.15, 0.15)[:, None].expand(4, 6),
        numbers(0.125, 0.2, 0.2, 0.2)[:, None].expand(4, 6),
    ),
}


def test_the_affine_model_has_a_tiny_margin_and_large_ones() -> None:
    margins = ca.linearize(affine, X).value.amin(1)
    assert margins[0] == 2.0**-30
    assert (margins[1:] > 0.5).all()


def capacities(g: Tensor, low: Tensor, high: Tensor) -> list[tuple[float, float]]:
    """(|g_i|, how far coordinate i may go against g), for a box that holds 0; largest |g_i| first."""
    room = [(abs(a), b if a < 0 else -c) for a, b, c in zip(g.tolist(), high.tolist(), low.tolist(), strict=True) if a]
    return sorted(room, reverse=True)


def bisect(enough: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    while not enough(high):
        high *= 2
    for _ in range(1200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def furthest(room: Sequence[tuple[float, float]], p: float, radius: float) -> float:
    """max −gᵀη over ‖η‖_p ≤ radius and the box."""
    if p == INF:
        return math.fsum(w * min(c, radius) for w, c in room)
    if p == 1:
        total, left = 0.0, radius
        for w, c in room:
            total, left = total + w * min(c, left), left - min(c, left)
        return total
    if math.fsum(c * c for _, c in room) <= radius**2:
        return math.fsum(w * c for w, c in room)
    t = bisect(lambda t: math.fsum(min(t * w, c) ** 2 for w, c in room) >= radius**2)
    return math.fsum(w * min(t * w, c) for w, c in room)


def shortest(room: Sequence[tuple[float, float]], p: float, need: float) -> float:
    """min ‖η‖_p with −gᵀη ≥ need in the box; ∞ where that cannot be."""
    if math.fsum(w * c for w, c in room) < need:
        return INF
    if p == 1:
        total, left = 0.0, need
        for w, c in room:
            part = min(c, left / w)
            total, left = total + part, left - w * part
        return total
    if p == INF:
        return bisect(lambda t: math.fsum(w * min(c, t) for w, c in room) >= need)
    t = bisect(lambda t: math.fsum(w * min(t * w, c) for w, c in room) >= need)
    return math.sqrt(math.fsum(min(t * w, c) ** 2 for w, c in room))


def optima(attack: Attack, sets: str, what: Callable[[float, list[tuple[float, float]]], float]) -> Tensor:
    """min over the pieces of what(L, room), for each image."""
    lin, (low, high) = ca.linearize(affine, X, LABEL, attack.loss), BOUNDS[sets]
    found = []
    for i in range(len(X)):
        pieces = range(lin.pieces) if attack.piece == "best" else [int(lin.value[i].argmin())]
        found.append(min(what(float(lin.value[i, k]), capacities(lin.gradient[i, k], low[i], high[i])) for k in pieces))
    return numbers(*found)


def close(found: Tensor, expected: Tensor, scale: Tensor, tolerance: ca.Tolerance = ORACLE) -> None:
    assert ((found - expected).abs() <= tolerance.at(torch.float64) * scale).all(), (found, expected)


@pytest.mark.parametrize("solver", [None, "reference"])
@pytest.mark.parametrize("sets", SETS)
@each_norm
@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_optimal_on_the_affine_model(row: str, norm: ca.Lp, sets: str, solver: str | None) -> None:
    attack = ROWS[row](norm, sets=SETS[sets], solver=solver)
    result = attack(affine, X, LABEL)
    tolerance = ORACLE if solver is None else PATHS
    assert result.certificate is not None
    assert result.certificate.holds(ca.Tolerance.closed_form() if solver is None else PATHS).all()
    low, high = BOUNDS[sets]
    assert in_box(result.eta, low, high)
    assert torch.equal(result.fooled, ca.margin(affine(X + result.eta), LABEL).amin(1) < 0)
    if attack.radius is not None:
        assert all(in_ball(eta, norm.p, RADIUS) for eta in result.eta)
        assert not result.flagged.any()
    if row in ONE_STEP:
        best = optima(attack, sets, lambda value, room: value - furthest(room, norm.p, RADIUS))
        scale = optima(attack, sets, lambda value, room: abs(value) + furthest(room, norm.p, RADIUS))
        close(result.certificate.primal, best, scale, tolerance)
        if row in AFFINE_LOSS:
            close(result.loss, best, scale, tolerance)
        if row == "best piece":
            close(result.margin, best, scale, tolerance)
    if "deepfool" in row:
        best = optima(attack, sets, lambda value, room: shortest(room, norm.p, (1 + OVERSHOOT) * value))
        reachable = best < INF
        assert torch.equal(result.flagged, ~reachable)
        close(result.size[reachable], best[reachable], best[reachable], tolerance)
        assert (result.loss[reachable] < 0).all()
        assert result.fooled[reachable].all()
        assert (result.steps == 1).all()  # where there is nowhere to go, it stops


def test_deepfool_fools_every_image_of_the_affine_model() -> None:
    for norm in NORMS.values():
        assert deepfool(norm)(affine, X).fooled.all()


@pytest.mark.parametrize("row", ROWS)
@each_norm
def test_both_paths_find_perturbations_of_the_same_size(row: str, norm: ca.Lp) -> None:
    closed, reference = (
        ROWS[row](norm, sets=SETS["pixels"], solver=solver)(affine, X) for solver in ("closed_form", "reference")
    )
    torch.testing.assert_close(closed.size, reference.size, rtol=PATHS.at(torch.float64), atol=0)
    assert torch.equal(closed.fooled, reference.fooled)


# --- DeepFool at the boundary -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@each_norm
def test_deepfool_without_overshoot_neither_stalls_nor_inflates(norm: ca.Lp, dtype: torch.dtype) -> None:
    x = X.to(dtype)
    lin = ca.linearize(affine, x)
    tie = deepfool(norm, overshoot=0.0)(affine, x)
    assert tie.fooled.all()
    best = (lin.value.double() / norm.dual(lin.gradient.double())).amin(1)
    slack = 64 * torch.finfo(dtype).eps  # of scores of about 10 with gradients of about 10
    assert ((tie.size - best) <= slack * (1 + best)).all()
    assert (tie.steps <= 5).all()


def test_an_image_on_the_boundary_moves_by_rounding_alone() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], x[:, 1]], 1)

    result = deepfool(ca.Lp(2))(model, torch.tensor([[0.5, 0.5]]))
    assert result.fooled.all()
    assert not result.wrong.any()
    assert 0 < result.size[0] < 1e-6


def test_the_overshoot_is_relative() -> None:
    sizes = [deepfool(ca.Lp(2), overshoot=o)(affine, X).size for o in (0.02, 0.5)]
    torch.testing.assert_close(
        sizes[1] / sizes[0], torch.full((4,), 1.5 / 1.02, dtype=torch.float64), rtol=1e-9, atol=0
    )


# --- a real network ---------------------------------------------------------------------------------------------------

DIGITS = load_data("digits", limit=24)
NETWORK = load_model("digits")
WIDE = load_model("digits").double()
HALF = ca.CustomSet(lambda eta: [cp.sum(eta[:32]) == 0])
TOTALS: dict[str, tuple[Any, ...]] = {
    "pixels": (ca.PixelRange(),),
    "cube": (ca.Ball(ca.Lp(INF), torch.linspace(0.05, 0.2, 24, dtype=torch.float64)),),
    "second ball": (ca.Ball(ca.Lp(2), torch.linspace(0.3, 0.8, 24, dtype=torch.float64)), ca.PixelRange()),
    "binding balls": (ca.Ball(ca.Lp(1), 0.4), ca.Ball(ca.Lp(2), torch.linspace(0.05, 0.2, 24, dtype=torch.float64))),
    "own set": (HALF,),
    "own set with data": (
        ca.CustomSet(lambda eta, most: [cp.norm(eta, 1) <= most], data={"most": torch.linspace(0.5, 3, 24)}),
        ca.Box(-0.4, 0.4),
    ),
}


@pytest.mark.parametrize("kind", ["steps", "deepfool"])
@pytest.mark.parametrize("name", TOTALS)
def test_the_total_satisfies_every_set_at_every_step(name: str, kind: str) -> None:
    n = 24 if name in ("pixels", "cube") else 3
    x = DIGITS.x[:n].double()
    sets = tuple(item if isinstance(item, ca.PixelRange) else item.take(torch.arange(n)) for item in TOTALS[name])
    known = [item.at(x) if isinstance(item, ca.PixelRange) else item for item in sets]
    for count in (1, 3):
        attack = (
            algorithm1(0.3, ca.Lp(2), steps=count, sets=sets)
            if kind == "steps"
            else deepfool(ca.Lp(2), max_steps=count, sets=sets)
        )
        result = attack(WIDE, x, DIGITS.label[:n])
        eta = result.eta.flatten(1)
        assert all(item.violation(eta).max() <= (1e-7 if isinstance(item, ca.CustomSet) else 0) for item in known)
        balls = [item for item in known if isinstance(item, ca.Ball)]
        assert all(
            in_ball(row, ball.norm.p, float(r)) for ball in balls for row, r in zip(eta, ball.radii(eta), strict=True)
        )
        assert result.certificate is not None
        assert result.certificate.holds().all()
        assert (result.steps <= count).all()
    assert result.steps.max() > (1 if kind == "steps" else 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
def test_the_total_stays_in_the_ball_in_exact_arithmetic(p: float, steps: int, dtype: torch.dtype) -> None:
    x = DIGITS.x[:6].to(dtype)
    radius = 0.3  # not a binary fraction
    result = algorithm1(radius, ca.Lp(p), steps=steps)(load_model("digits").to(dtype), x)
    assert result.eta.dtype == dtype
    assert all(in_ball(eta, p, radius) for eta in result.eta.flatten(1))
    if steps == 1:
        assert (result.size >= radius * (1 - 64 * torch.finfo(dtype).eps)).all()
    assert result.certificate is not None
    assert result.certificate.holds().all()


TILT = torch.linspace(-1, 1, 64).double()
COMPOSED: dict[str, tuple[Any, ...]] = {
    "halfspaces": (
        ca.ConvexSet(
            ca.atoms.Interval(-INF, numbers(0.02, 0.05)), ca.maps.Rows(torch.stack([TILT, TILT.flip(0) ** 2]))
        ),
        ca.PixelRange(),
    ),
    "halfspaces on the edge": (ca.Halfspaces(TILT[None], 0.0), ca.Box(-1.0, 1.0)),
    "hyperplane": (ca.Affine(torch.ones(1, 64).double(), 0.0), ca.Box(-0.3, 0.3)),
    "total variation": (ca.TotalVariation((8, 8), 0.9),),
    "smooth": (ca.TotalVariation((8, 8), 0.9, isotropic=True), ca.PixelRange()),
    "weighted": (ca.WeightedBall(ca.Lp(2), 1 + TILT.square(), 0.4),),
    "groups": (ca.GroupBall(torch.arange(64) // 8, 0.5), ca.Support(torch.arange(64) % 3 > 0)),
}
COMPOSED_ATTACKS: dict[str, Row] = {
    "one step": lambda norm, **rest: algorithm1(0.3, norm, **rest),
    "three steps": lambda norm, **rest: algorithm1(0.3, norm, steps=3, **rest),
    "fastgrad": lambda norm, **rest: fastgrad(0.3, norm, **rest),
    "deepfool": lambda norm, **rest: deepfool(norm, max_steps=4, **rest),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("row", COMPOSED_ATTACKS)
@pytest.mark.parametrize("name", COMPOSED)
def test_any_set_works_in_any_attack(name: str, row: str, dtype: torch.dtype) -> None:
    x = DIGITS.x[:3].to(dtype)
    model = WIDE if dtype == torch.float64 else NETWORK
    result = COMPOSED_ATTACKS[row](ca.Lp(2), sets=COMPOSED[name])(model, x, DIGITS.label[:3])
    assert result.certificate is not None
    assert result.certificate.holds().all()
    eta = result.eta.flatten(1)
    edge = 64 * torch.finfo(dtype).eps if name in ("halfspaces on the edge", "hyperplane") else 0.0
    for item in COMPOSED[name]:
        known = item.at(x) if isinstance(item, ca.PixelRange) else item
        assert float(known.violation(eta).max()) <= edge
    assert (result.steps > 0).all()
    assert (eta != 0).any(1).all()


def test_every_perturbed_image_the_model_sees_is_in_range() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        output: Tensor = NETWORK(x)
        return output

    for attack in (
        algorithm1(0.4, steps=4, sets=(ca.PixelRange(),)),
        deepfool(sets=(ca.PixelRange(),)),
        fastgrad(0.4, sets=(ca.PixelRange(),)),
    ):
        attack(model, DIGITS.x, DIGITS.label)
    assert len(seen) >= 5 + 2 + 2
    assert all((x >= 0).all() and (x <= 1).all() for x in seen)


def test_several_steps_sum_to_the_radius_with_the_class_chosen_again() -> None:
    result = algorithm1(0.1, steps=5)(NETWORK, DIGITS.x, DIGITS.label)
    assert (result.steps == 5).all()
    torch.testing.assert_close(result.size, torch.full((24,), 0.1, dtype=torch.float64), rtol=1e-6, atol=0)
    x = DIGITS.x
    for _ in range(5):
        x = x + algorithm1(0.1 / 5)(NETWORK, x, DIGITS.label).eta
    torch.testing.assert_close(DIGITS.x + result.eta, x, rtol=0, atol=1e-6)


def test_an_image_misclassified_to_begin_with_is_left_alone_by_deepfool_and_said_so() -> None:
    label = DIGITS.label.clone()
    label[3] = (label[3] + 1) % 10
    result = deepfool()(NETWORK, DIGITS.x, label)
    expected = ca.margin(NETWORK(DIGITS.x), label).amin(1) < 0
    assert expected[3]
    assert torch.equal(result.wrong, expected)
    assert (result.eta[expected] == 0).all()
    assert (result.steps[expected] == 0).all()
    assert result.fooled.all()
    assert not result.flagged.any()
    assert (result.steps[~expected] > 0).all()


def test_every_row_can_aim_at_a_class() -> None:
    target = (DIGITS.label + 1) % 10
    with torch.no_grad():
        before = NETWORK(DIGITS.x)
    for attack in (
        algorithm1(0.2, loss=ca.targeted(target)),
        algorithm2(0.2, loss=ca.targeted(target, ca.class_score)),
        fastgrad(0.2, loss=ca.targeted(target, ca.negative_cross_entropy)),
        deepfool(loss=ca.targeted(target)),
    ):
        result = attack(NETWORK, DIGITS.x, DIGITS.label)
        with torch.no_grad():
            after = NETWORK(DIGITS.x + result.eta)
        rise = after.softmax(1).gather(1, target[:, None]) > before.softmax(1).gather(1, target[:, None])
        assert rise.float().mean() > 0.9


def test_a_target_for_each_image() -> None:
    target = (DIGITS.label + torch.arange(24) % 10) % 10
    result = deepfool(loss=ca.targeted(target))(NETWORK, DIGITS.x, DIGITS.label)
    output = NETWORK(DIGITS.x + result.eta)
    there = output.gather(1, target[:, None]) > output.gather(1, DIGITS.label[:, None])
    aimed = target != DIGITS.label
    assert torch.equal(there[:, 0], aimed)
    assert torch.equal(result.loss < 0, aimed)
    assert (result.eta[~aimed] == 0).all()  # L = 0 and no gradient: nothing to do
    assert not result.flagged.any()
    assert result.steps.max() > 1  # images go on alone, each with its own target


@pytest.mark.parametrize(
    "attack",
    [row(ca.Lp(2)) for row in (ROWS["best piece"], ROWS["active piece"], ROWS["three steps"], ROWS["deepfool"])],
)
def test_a_bad_image_is_its_own_status_and_spoils_no_other(attack: Attack) -> None:
    x = DIGITS.x.clone()
    x[5, 0, 3, 3] = torch.nan
    bad = attack(NETWORK, x, DIGITS.label)
    good = attack(NETWORK, DIGITS.x, DIGITS.label)
    others = torch.arange(24) != 5
    for name in ("eta", "fooled", "size", "margin", "loss", "steps", "flagged", "wrong", "codes"):
        torch.testing.assert_close(getattr(bad, name)[others], getattr(good, name)[others], rtol=1e-5, atol=1e-6)
    assert bad.status[5] is ca.Status.INVALID
    assert bad.wrong[5]
    assert bad.flagged[5]
    assert not bad.fooled[5]
    assert bad.steps[5] == 0
    assert (bad.eta[5] == 0).all()
    assert bad.certificate is not None
    assert torch.equal(bad.certificate.holds(), others)


def test_where_the_sets_are_too_small_deepfool_goes_as_far_as_they_allow_and_flags_it() -> None:
    room = torch.where(torch.arange(24) % 2 == 0, 0.01, 1.0)[:, None].expand(-1, 64).double()
    box = (ca.Box(-room, room),)
    result = deepfool(sets=box)(WIDE, DIGITS.x.double(), DIGITS.label)
    tight = torch.arange(24) % 2 == 0
    assert torch.equal(result.flagged, tight)
    assert torch.equal(result.fooled, ~tight)
    assert (result.size[tight] == room[0, 0]).all()
    assert result.certificate is not None
    assert result.certificate.holds(ca.Tolerance.closed_form()).all()
    assert (result.certificate.dual[tight] > 0).all()  # the proof that (8) has no solution there
    first, best = (
        attack(WIDE, DIGITS.x.double(), DIGITS.label)
        for attack in (deepfool(max_steps=1, sets=box), algorithm1(9.0, sets=box))
    )
    assert torch.equal(first.eta[tight], best.eta[tight])


def test_sets_without_a_point_are_that_images_status() -> None:
    low = torch.zeros(4, 6, dtype=torch.float64)
    low[2] = 0.5
    for attack in (algorithm1(RADIUS, sets=(ca.Box(low, 1.0),)), deepfool(sets=(ca.Box(low, 1.0), ca.Box(-1.0, 0.25)))):
        result = attack(affine, X)
        assert [status is ca.Status.INFEASIBLE for status in result.status] == [False, False, True, False]
        assert (result.eta[2] == 0).all()
        assert result.flagged[2]
        assert result.certificate is not None
        assert result.certificate.holds().all()


def test_sets_without_zero_are_met_by_the_first_step() -> None:
    box = ca.Box(numbers(0.1, -1, -1, -1, -1, -1), numbers(0.2, 1, 1, 1, 1, 1))
    for attack in (algorithm1(1.0, ca.Lp(2), steps=2, sets=(box,)), deepfool(ca.Lp(2), sets=(box,))):
        result = attack(affine, X)
        assert in_box(result.eta, *box.bounds(X))
        assert not result.flagged.any()


def test_a_radius_for_each_image() -> None:
    radius = numbers(0.0, 0.1, 0.2, 0.3)
    result = algorithm1(radius, ca.Lp(2), steps=2)(affine, X)
    torch.testing.assert_close(result.size, radius, rtol=1e-9, atol=0)
    assert all(
        torch.equal(algorithm1(float(r), ca.Lp(2), steps=2)(affine, X).eta[i], result.eta[i])
        for i, r in enumerate(radius)
    )


def test_one_score_is_pushed_down_and_is_never_called_fooled() -> None:
    def score(x: Tensor) -> Tensor:
        return x.square().sum(1, keepdim=True)

    result = algorithm2(0.5, ca.Lp(2))(score, X)
    assert (result.loss < score(X)[:, 0]).all()
    assert not result.fooled.any()
    assert not result.wrong.any()
    assert result.margin.isnan().all()


def test_random_signs() -> None:
    def run(seed: int) -> Perturbation:
        return random_sign(0.3, torch.Generator().manual_seed(seed))(NETWORK, DIGITS.x, DIGITS.label)

    one = run(0)
    assert (one.eta.abs().double() <= 0.3).all()
    assert (one.size > 0.2999999).all()
    assert 0.45 < (one.eta > 0).double().mean() < 0.55
    assert torch.equal(one.eta, run(0).eta)
    assert not torch.equal(one.eta, run(1).eta)
    assert torch.equal(one.fooled, ca.margin(NETWORK(DIGITS.x + one.eta), DIGITS.label).amin(1) < 0)
    assert one.certificate is None
    assert (one.status == None).all()  # noqa: E711  an array of None


def test_the_label_is_the_clean_prediction_unless_given() -> None:
    assert torch.equal(algorithm1(0.3, steps=3)(NETWORK, DIGITS.x).label, NETWORK(DIGITS.x).argmax(1))
    assert torch.equal(deepfool()(NETWORK, DIGITS.x, DIGITS.label).label, DIGITS.label)


def test_names_and_radii() -> None:
    given = algorithm1(1.0), algorithm1(1.0, steps=5), algorithm2(1.0), fastgrad(1.0), deepfool(), random_sign(1.0)
    names = ["Algorithm 1", "Algorithm 1-5", "Algorithm 2", "FastGrad", "DeepFool", "Random"]
    assert [attack.name for attack in given] == names
    assert algorithm1(1.0).at(0.5).radius == 0.5
    assert random_sign(1.0).at(0.5).radius == 0.5
    assert deepfool().at(0.5).radius is None


def test_a_part_of_an_attack_takes_its_own_numbers() -> None:
    rows = torch.tensor([1, 3])
    sets = (ca.Box(-normal(1, 4, 6).abs(), normal(2, 4, 6).abs()), ca.PixelRange())
    for attack in (
        algorithm1(numbers(0.1, 0.2, 0.3, 0.4), loss=ca.targeted(TARGET), sets=sets),
        deepfool(loss=ca.targeted(TARGET)),
    ):
        whole, part = attack(affine, X, LABEL), attack.part(rows, 4)(affine, X[rows], LABEL[rows])
        assert torch.equal(part.eta, whole.eta[rows])


def test_what_a_result_says_of_itself() -> None:
    label = affine(X).argmax(1)
    label[3] = (label[3] + 1) % 4
    room = ca.Box(-numbers(0, 1, 1, 1)[:, None].expand(4, 6), 1.0)
    said = repr(deepfool(sets=(room, ca.Box(-1.0, numbers(0, 1, 1, 1)[:, None].expand(4, 6))))(affine, X, label))
    assert said.startswith("Perturbation(fooled 2 of 3, 1 wrong, 1 flagged; Certificate(4 of 4 hold, worst |gap| ")


# --- cost -------------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Counts images by forward passes with and without a graph, and by backward passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_with, self.forward_without, self.backward = 0, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.forward_with += len(x)
            x.register_hook(self._count)
        else:
            self.forward_without += len(x)
        output: Tensor = self.model(x)
        return output

    def _count(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setattr(
        importlib.import_module("convexattack.linearize"), "ENTRIES_AT_ONCE", 1
    )  # one piece a pass, to be counted
    return Counting(NETWORK)


@pytest.mark.parametrize(
    ("attack", "forward", "backward"),
    [
        (algorithm1(0.1), 1, 9),
        (algorithm1(0.1, piece="active"), 1, 1),
        (algorithm1(0.1, steps=3), 3, 27),
        (algorithm1(0.1, steps=3, piece="active", sets=(ca.PixelRange(),)), 3, 3),
        (algorithm2(0.1), 1, 1),
        (fastgrad(0.1), 1, 1),
    ],
)
def test_an_attack_costs_its_floor(attack: Attack, forward: int, backward: int, counting: Counting) -> None:
    attack(counting, DIGITS.x, DIGITS.label)
    assert (counting.forward_with, counting.backward, counting.forward_without) == (24 * forward, 24 * backward, 24)


@pytest.mark.parametrize("sets", [(), (ca.PixelRange(),)])
def test_deepfool_costs_its_floor_over_live_images(sets: tuple[Any, ...], counting: Counting) -> None:
    x = load_data("digits").x
    result = deepfool(ca.Lp(2), sets=sets)(counting, x)
    steps = int(result.steps.sum())
    assert result.steps.max() > result.steps.min() >= 1
    assert counting.forward_with + counting.forward_without <= 2 * steps
    assert (
        9 * steps <= counting.backward <= 9 * steps + steps / 2
    )  # of images that fell in a pass that the others went on from
    floor = steps * (1 + 9) + len(x)
    assert counting.forward_with + counting.backward + counting.forward_without <= 1.1 * floor


class Exponential(nn.Module):
    """f = (e^t, e^−t) with t = Σx, or (e^t, 0): a step of (8) moves t by about 1; images fall one by one, or never."""

    def __init__(self, endless: bool = False, drifting: bool = False) -> None:
        super().__init__()
        self.endless, self.drifting = endless, drifting
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()).double())

    def forward(self, x: Tensor) -> Tensor:
        if self.drifting:  # then the graph does not outlive the pass: the buffer is put back
            self.scale.add_(0)
        t = x.sum(1) * self.scale
        return torch.stack([t.exp(), torch.zeros_like(t) if self.endless else (-t).exp()], 1)


def test_deepfool_goes_on_from_the_pass_that_asked_the_model() -> None:
    model = Counting(Exponential(endless=True))
    result = deepfool(ca.Lp(2), max_steps=5)(model, torch.ones(3, 2).double(), torch.zeros(3, dtype=torch.int64))
    assert result.steps.tolist() == [5, 5, 5]
    assert (model.forward_with, model.backward, model.forward_without) == (3 * 5, 3 * 5, 3)


@pytest.mark.parametrize("drifting", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("sets", [(), (ca.PixelRange(-20.0, 20.0),)], ids=["no box", "pixel range"])
def test_images_that_fall_in_a_shared_pass_leave_the_others_alone(
    sets: tuple[Any, ...], targeted: bool, drifting: bool
) -> None:
    x = torch.linspace(0.2, 3.0, 29).double()[:, None].expand(29, 2) * (-1.0) ** torch.arange(29)[:, None]
    label = (x[:, 0] < 0).long()
    model = Counting(Exponential(drifting=drifting))
    result = deepfool(ca.Lp(2), sets=sets, loss=ca.targeted(1 - label) if targeted else ca.margin)(model, x, label)
    assert result.steps.unique().tolist() == [2, 3, 4, 5, 6, 7]
    assert result.fooled.all()
    assert result.certificate is not None
    assert result.certificate.holds().all()
    saved = 2 * int(result.steps.sum()) - model.forward_with - model.forward_without
    assert saved == 0 if drifting else saved > 29
    for i in range(29):
        alone = deepfool(ca.Lp(2), sets=sets)(Exponential(), x[i : i + 1], label[i : i + 1])
        assert alone.steps == result.steps[i]
        torch.testing.assert_close(alone.eta[0], result.eta[i], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, INF])
def test_totals_of_several_steps_are_inside_in_exact_arithmetic(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)
    x = torch.rand(8, 20, generator=torch.Generator().manual_seed(1)).to(dtype)
    low, high = torch.full((8, 20), -0.3).double(), torch.full((8, 20), 0.17).double()
    low[:, 0] = 0.013  # an entry that has to go up
    for sets in ((), (ca.PixelRange(0.0, 1.0),), (ca.Box(low, high),)):
        for radius in (0.21, 0.37, 0.7, 1.1) if sets else (0.1, 0.21, 0.3, 0.37, 0.7, 1.1):
            result = algorithm1(radius, ca.Lp(p), steps=4, sets=sets)(model, x)
            assert all(in_ball(eta, p, radius) for eta in result.eta)
            for item in sets:
                below, above = (item if isinstance(item, ca.Box) else item.at(x)).bounds(x.double())
                assert in_box(result.eta, below, above)
            assert (result.eta != 0).any(1).all()
    radii = torch.linspace(0.1, 1.0, 60, dtype=torch.float64) / 3
    for steps in (3, 5):
        result = algorithm1(radii, ca.Lp(p), steps=steps)(model[0], x[:1].expand(60, 20))
        assert all(in_ball(eta, p, float(radius)) for eta, radius in zip(result.eta, radii, strict=True))


def falls_slowly(output: Tensor, label: Tensor) -> Tensor:
    """The margin, by a loss that writes to the output."""
    output *= 2
    return ca.margin(output, label)


def test_a_loss_that_writes_to_the_output_spoils_no_step() -> None:
    x, label = torch.linspace(0.5, 3.0, 12).double()[:, None].expand(12, 2), torch.zeros(12, dtype=torch.int64)
    wild, tame = (deepfool(ca.Lp(2), loss=loss)(Exponential(), x, label) for loss in (falls_slowly, ca.margin))
    assert wild.steps.tolist() == tame.steps.tolist()
    torch.testing.assert_close(wild.eta, tame.eta, rtol=1e-12, atol=0)


def test_an_attack_keeps_its_radius_whatever_its_owner_does() -> None:
    radius = numbers(0.5, 0.5, 0.5, 0.5)
    attack = algorithm1(radius, ca.Lp(2))
    radius.mul_(0.1)
    assert torch.allclose(attack(affine, X, LABEL).size, 10 * radius, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_an_image_without_a_step_stays_whatever_the_box(dtype: torch.dtype) -> None:
    result = algorithm1(0.5, ca.Lp(2), steps=2, sets=(ca.Box(-0.2, -0.1),))(
        lambda x: x[:, :2] * math.nan, torch.ones(2, 3).to(dtype)
    )
    assert (result.eta == 0).all()
    assert result.flagged.all()
    assert (result.steps == 0).all()


def test_who_writes_to_a_perturbation_leaves_its_certificate_alone() -> None:
    for attack in (deepfool(ca.Lp(2)), algorithm1(0.1), algorithm1(0.1, steps=2)):
        result = attack(affine, X[:1].float(), LABEL[:1])
        result.eta.mul_(100)
        assert result.certificate is not None
        assert result.certificate.holds().all()


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_totals_lose_no_more_with_more_steps(p: float) -> None:
    """Of an affine model, whose steps add up: at most a few units in the last place of float32 of the whole radius."""
    radius = 8 / 255
    result = algorithm1(radius, ca.Lp(p), steps=50, piece="active")(
        lambda x: x @ torch.linspace(-1, 1, 24).view(12, 2), torch.rand(3, 12), torch.zeros(3).long()
    )
    assert (result.size >= radius * (1 - 4 * 2.0**-23)).all()
    assert all(in_ball(eta, p, radius) for eta in result.eta)


def test_steps_that_the_sets_take_back_are_none() -> None:
    result = algorithm1(20.0, ca.Lp(2), steps=10, sets=(ca.Ball(ca.Lp(INF), 0.1),))(
        lambda x: x @ torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]]), torch.zeros(1, 3), torch.zeros(1).long()
    )
    assert result.steps[0] == 1
    assert in_ball(result.eta[0], INF, 0.1)


# --- the caller's mistakes --------------------------------------------------------------------------------------------

_MISTAKES: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: algorithm1(-1.0), ValueError, "radius must be a finite number >= 0, got -1.0"),
    (lambda: algorithm1(INF), ValueError, "radius must be a finite number >= 0, got inf"),
    (lambda: algorithm1("1"), TypeError, "radius must be a number or a tensor, got '1'"),  # type: ignore[arg-type]
    (lambda: random_sign(-1.0), ValueError, "radius must be a finite number >= 0"),
    (lambda: algorithm1(1.0, 2), TypeError, "norm must be a ca.Lp, got 2"),  # type: ignore[arg-type]
    (lambda: deepfool(2), TypeError, "norm must be a ca.Lp, got 2"),  # type: ignore[arg-type]
    (lambda: algorithm1(1.0, steps=0), ValueError, "steps must be at least 1, got 0"),
    (lambda: algorithm1(1.0, steps=1.5), TypeError, "steps must be an int, got 1.5"),  # type: ignore[arg-type]
    (lambda: algorithm1(None), TypeError, "must be a number or a tensor, got None; ca.deepfool finds its own size"),  # type: ignore[arg-type]
    (lambda: fastgrad(None), TypeError, "radius must be a number or a tensor, got None"),  # type: ignore[arg-type]
    (lambda: deepfool(sets=None), TypeError, "sets must be a tuple of convex sets, got None"),  # type: ignore[arg-type]
    (lambda: deepfool(sets=[ca.PixelRange]), TypeError, r"sets\[0\] must be a convex set such as"),  # type: ignore[list-item]
    (lambda: deepfool()(affine, X, LABEL[:3]), ValueError, r"label must have shape \(4,\), got \(3,\)"),
    (lambda: deepfool()(affine, X, torch.cat([LABEL, LABEL])), ValueError, r"label must have shape \(4,\), got \(8,\)"),
    (lambda: algorithm1(1.0)(affine, X, LABEL.tolist()), TypeError, "label must be an integer tensor"),  # type: ignore[arg-type]
    (lambda: algorithm1(1.0)(nn.Flatten, X), TypeError, r"got the class Flatten: make one, Flatten\(\)"),  # type: ignore[arg-type]
    (lambda: algorithm1(1.0, piece="worst"), ValueError, "piece must be 'best' or 'active', got 'worst'"),
    (lambda: algorithm1(1.0, loss=3), TypeError, r"loss must be a function \(output, label\)"),  # type: ignore[arg-type]
    (lambda: algorithm1(1.0, sets=[3]), TypeError, r"a convex set such as ca.Box or ca.PixelRange, got 3"),  # type: ignore[list-item]
    (lambda: deepfool(max_steps=0), ValueError, "max_steps must be an int >= 1, got 0"),
    (lambda: deepfool(overshoot=-0.1), ValueError, "overshoot must be a finite number >= 0, got -0.1"),
    (lambda: deepfool(overshoot=math.nan), ValueError, "overshoot must be a finite number >= 0, got nan"),
    (lambda: deepfool(overshoot="a"), TypeError, "overshoot must be a number, got 'a'"),  # type: ignore[arg-type]
    (lambda: algorithm1(1.0, solver="simplex")(affine, X), ValueError, "solver='simplex' is neither"),
    (lambda: algorithm1(numbers(1, 2))(affine, X), ValueError, r"or have shape \(B,\) = \(4,\), got shape \(2,\)"),
    (lambda: random_sign(numbers(1, 2))(affine, X), ValueError, r"radius must be a number or have shape"),
    (lambda: algorithm1(1.0, sets=[ca.Box(-torch.ones(3, 6), 1.0)])(affine, X), ValueError, r"\(N, d\) = \(4, 6\)"),
    (lambda: algorithm1(1.0)(affine, X, torch.tensor([0, 1, 2, 4])), ValueError, "label 4 is out of range"),
    (lambda: algorithm1(1.0)(affine, X.long()), TypeError, "x must be floating point"),
    (lambda: random_sign(1.0)(affine, X[0]), ValueError, "has no batch dimension"),
    (lambda: deepfool()(lambda x: x.detach(), X), ValueError, "no gradient with respect to x"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), _MISTAKES)
def test_a_mistake_is_one_sentence(call: Callable[[], object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_any_row_can_be_written_out() -> None:
    written = Attack("mine", ca.margin, ca.Lp(2), 0.25, steps=2)
    assert torch.equal(written(affine, X).eta, algorithm1(0.25, ca.Lp(2), steps=2)(affine, X).eta)
    assert dataclasses.replace(written, steps=1).steps == 1
