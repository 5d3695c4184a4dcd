"""Section III's other tasks: one score pushed up or down (anomaly detection), a class for each pixel (segmentation)."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from examples import INF, ORACLE, in_ball, in_box, names, normal, numbers, random, rows
from scipy.optimize import linprog
from torch import Tensor

import convexattack as ca
from convexattack import datasets, models

CUBE = ca.Lp(INF)


# --- anomaly detection ------------------------------------------------------------------------------------------------


def affine(x: Tensor) -> Tensor:
    """One score, 3x_1 − 4x_2 + 1."""
    return x @ torch.tensor([[3.0], [-4.0]], dtype=x.dtype) + 1


def test_a_score_is_pushed_down_or_up_as_far_as_the_ball_allows() -> None:
    x = rows([0.25, 0.5], [1.0, 0.0])
    for p, far in ((1, 4.0), (2, 5.0), (INF, 7.0)):
        down = ca.algorithm1(0.5, ca.Lp(p), loss=ca.below(2.0))(affine, x)
        up = ca.algorithm1(0.5, ca.Lp(p), loss=ca.above(numbers(2.0, 7.0)))(affine, x)
        assert torch.allclose(down.loss, affine(x)[:, 0] - far / 2 - 2.0, rtol=0, atol=1e-12)
        assert torch.allclose(up.loss, numbers(2.0, 7.0) - affine(x)[:, 0] - far / 2, rtol=0, atol=1e-12)
        assert torch.equal(down.eta, ca.algorithm2(0.5, ca.Lp(p))(affine, x).eta)
        for result in (down, up):
            assert result.certificate is not None
            assert result.certificate.holds(ca.Tolerance.closed_form()).all()
            assert not result.fooled.any()


def test_the_shortest_way_to_a_threshold() -> None:
    x = rows([0.25, 0.5], [1.0, 0.0])
    for loss, gap in ((ca.below(-1.0), numbers(0.75, 5.0)), (ca.above(5.0), numbers(5.25, 1.0))):
        found = ca.deepfool(ca.Lp(2), overshoot=0.0, loss=loss)(affine, x)
        assert (found.loss < 0).all()
        assert torch.allclose(found.size, gap / 5, rtol=1e-9, atol=0)


def test_a_reconstruction_error_is_one_score() -> None:
    score = ca.reconstruction_error(lambda x: 2 * x.flatten(1))
    x = normal(1, 3, 2, 2)
    assert torch.allclose(score(x), x.square().mean((1, 2))[:, None])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 4)).eval()
    assert ca.reconstruction_error(model)(x.float()).shape == (3, 1)
    assert not ca.reconstruction_error(model).training
    assert not model.training


@pytest.mark.parametrize("loss", [ca.below(0.0), ca.above(0.0)])
def test_a_threshold_wants_one_score(loss: Any) -> None:
    with pytest.raises(
        ValueError, match=r"output of shape \(2, 3\) has several scores, and (below|above) a threshold is one"
    ):
        loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    ("threshold", "kind", "words"),
    [
        ("high", TypeError, "threshold must be a number or a tensor .B,., got 'high': give the score"),
        (True, TypeError, "threshold must be a number"),
        (
            torch.tensor([1, 2]),
            ValueError,
            r"threshold must be a number or a floating-point tensor \(B,\), got torch.int64",
        ),
        (torch.ones(2, 1), ValueError, r"got torch.float32 of shape \(2, 1\)"),
    ],
)
def test_a_threshold_is_a_number(threshold: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        ca.below(threshold)
    with pytest.raises(kind, match=words):
        ca.above(threshold)


def test_thresholds_are_counted() -> None:
    with pytest.raises(ValueError, match=r"threshold must be a number or have shape \(B,\) = \(2,\), got \(3,\)"):
        ca.above(torch.ones(3))(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))


def test_digits_look_anomalous_and_anomalies_look_normal() -> None:
    score = ca.reconstruction_error(models.load("digits-autoencoder"))
    train, test = datasets.load("digits", "train"), datasets.load("digits")
    with torch.no_grad():
        alarm = float(score(train.x).quantile(0.99))
        x = test.x[score(test.x)[:, 0] < alarm][:64]
        turned = x.rot90(1, (2, 3))
        assert (score(turned) > alarm).all()
    up = ca.algorithm1(0.1, steps=10, loss=ca.above(alarm), sets=(ca.PixelRange(),))(score, x)
    down = ca.deepfool(CUBE, loss=ca.below(alarm), sets=(ca.PixelRange(),))(score, turned)
    with torch.no_grad():
        assert (score(x + up.eta) > alarm).all()
        assert (score(turned + down.eta) < alarm).all()
    assert (up.size <= 0.1).all()
    assert (down.size.median() > 0.3).all()
    for result, start in ((up, x), (down, turned)):
        assert result.certificate is not None
        assert result.certificate.holds().all()
        assert ((start + result.eta >= 0) & (start + result.eta <= 1)).all()


# --- the losses of a segmentation -------------------------------------------------------------------------------------


def test_pixel_margins_are_rival_less_target_at_every_pixel() -> None:
    scores = torch.tensor([[[1.0, 5.0], [2.0, 4.0], [3.0, 9.0]]])  # one image, three classes, two pixels
    label = torch.zeros(1, dtype=torch.long)
    for target, wanted in (([[2, 2]], [-1.0, -4.0]), ([[0, 1]], [2.0, 5.0]), ([[1, 0]], [1.0, 4.0])):
        loss = ca.pixel_margins(torch.tensor(target))
        assert loss(scores.flatten(1), label).tolist() == [wanted]
        assert ca.summed(loss)(scores.flatten(1), label).tolist() == [[sum(wanted)]]


def test_pixel_margins_take_one_target_for_all_or_one_for_each() -> None:
    output, label = normal(2, 3, 4 * 6), torch.zeros(3, dtype=torch.long)
    target = torch.randint(4, (3, 2, 3), generator=random(3))
    each = ca.pixel_margins(target)(output, label)
    assert torch.equal(each, ca.pixel_margins(target.flatten(1))(output, label))
    for i in range(3):
        assert torch.equal(each[i], ca.pixel_margins(target[i])(output, label)[i])
        scores = output[i].view(4, 6)
        for j, t in enumerate(target[i].flatten().tolist()):
            others = [float(scores[k, j]) for k in range(4) if k != t]
            assert float(each[i, j]) == max(others) - float(scores[t, j])


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        (torch.zeros(2, 2), TypeError, "target must be an integer tensor of one class per pixel, got torch.float32"),
        ([[0, 1]], TypeError, "target must be an integer tensor of one class per pixel, got list"),
        (
            torch.zeros(4, dtype=torch.long),
            ValueError,
            r"target must have shape \(B, P\), \(B, H, W\) or \(H, W\), got \(4,\)",
        ),
    ],
)
def test_a_target_is_a_class_per_pixel(target: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        ca.pixel_margins(target)


def test_a_target_fits_the_output() -> None:
    label = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"target of shape \(2, 5\) does not fit an output of shape \(2, 12\)"):
        ca.pixel_margins(torch.zeros(2, 5, dtype=torch.long))(torch.zeros(2, 12), label)
    with pytest.raises(ValueError, match="target has classes from -1 to 3: with 3 classes use 0 to 2"):
        ca.pixel_margins(torch.tensor([[0, 3], [-1, 2]]))(torch.zeros(2, 6), label)
    with pytest.raises(TypeError, match="loss must be a function"):
        ca.summed(3)  # type: ignore[arg-type]


# --- the sum of hinges ------------------------------------------------------------------------------------------------


def draw(seed: int, n: int = 3, demands: int = 7, d: int = 5) -> tuple[Tensor, Tensor]:
    return normal(seed, n, demands) + 1.0, normal(seed + 1, n, demands, d)


def simplex(c: Tensor, A: Tensor, p: float, radius: float, low: Tensor, high: Tensor) -> float:
    """The optimum for ‖·‖_1 or ‖·‖_∞ and a box, as a linear program in (η, h, r): h ≥ c + Aη, |η_j| ≤ r_j."""
    m, d = A.shape
    one, none = np.eye(d), np.zeros((d, m))
    table = [
        np.hstack([A.numpy(), -np.eye(m), np.zeros((m, d))]),
        np.hstack([one, none, -one]),
        np.hstack([-one, none, -one]),
        np.concatenate([np.zeros(d + m), np.ones(d)])[None] if p == 1 else np.hstack([0 * one, none, one]),
    ]
    right = [-c.numpy(), np.zeros(2 * d), np.full(1 if p == 1 else d, radius)]
    bounds = [*zip(low.tolist(), high.tolist(), strict=True), *[(0.0, None)] * (m + d)]
    cost = np.concatenate([np.zeros(d), np.ones(m), np.zeros(d)])
    found = linprog(cost, np.vstack(table), np.concatenate(right), bounds=bounds, method="highs")
    assert found.status == 0, found.message
    return float(found.fun)


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("p", [1, INF])
def test_the_optimum_is_that_of_a_linear_program(p: float, boxed: bool) -> None:
    c, A = draw(10)
    edge = (
        0.05 + 0.3 * torch.rand(3, 5, generator=random(4), dtype=torch.float64)
        if boxed
        else torch.full((3, 5), INF).double()
    )
    sets = (ca.Ball(ca.Lp(p), 0.4), *([ca.Box(-edge, edge)] if boxed else []))
    program = ca.HingeSum(c, A, sets)
    found = ca.solve(program)
    certificate = ca.certify(program, found)
    assert certificate.holds(ORACLE).all()
    for i in range(3):
        optimum = simplex(c[i], A[i], p, 0.4, -edge[i], edge[i])
        assert abs(float(certificate.primal[i]) - optimum) <= 1e-8 * (1 + optimum)
        assert in_ball(found.eta[i], p, 0.4)
        assert in_box(found.eta[i], -edge[i], edge[i])
    assert (certificate.primal > 0.1).any()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
def test_the_text_has_the_same_optimum(p: float) -> None:
    c, A = draw(20, n=2)
    program = ca.HingeSum(c, A, (ca.Ball(ca.Lp(p), numbers(0.3, 0.6)),))
    certificate = ca.certify(program, ca.solve(program))
    assert certificate.holds().all()
    for i in range(2):
        value = program.problem(i).solve(solver=cp.CLARABEL)
        assert abs(float(certificate.dual[i]) - value) <= 1e-6 * (1 + value)


@pytest.mark.parametrize("solver", ["CLARABEL", "SCS"])
def test_any_solver_is_judged_alike(solver: str) -> None:
    c, A = draw(30)
    program = ca.HingeSum(c, A, (ca.Ball(ca.Lp(2), 0.5), ca.Box(-0.2, 0.3)))
    assert ca.certify(program, ca.solve(program, solver)).holds(ca.Tolerance(1e-5)).all()


def test_a_small_program_by_hand() -> None:
    c, A = rows([1.0, 1.0], [1.0, -3.0]), torch.stack([rows([2.0, 0.0], [0.0, 1.0])] * 2)
    program = ca.HingeSum(c, A, (ca.Ball(CUBE, 0.5),))
    found = ca.solve(program)
    certificate = ca.certify(program, found)
    assert torch.allclose(certificate.primal, numbers(0.5, 0.0), rtol=0, atol=1e-9)
    assert torch.allclose(certificate.dual, numbers(0.5, 0.0), rtol=0, atol=1e-9)
    assert torch.allclose(found.eta[0], numbers(-0.5, -0.5), rtol=0, atol=1e-9)
    assert program.lost(numbers(-0.5, -0.5).expand(2, 2)).tolist() == [1, 0]
    assert program.lost(rows([0.0, 0.0], [math.nan, 0.0])).tolist() == [2, 2]
    assert program.least_lost(ca.solve(program.counted()).multipliers).tolist() == [1, 0]


def test_any_multipliers_give_a_lower_bound() -> None:
    c, A = draw(40, n=40, demands=4, d=3)
    sets = (ca.Ball(ca.Lp(2), 0.5), ca.Box(-0.3, 0.4))
    program = ca.HingeSum(c, A, sets)
    optimum = ca.certify(program, ca.solve(program)).primal
    u, v, w = 1.5 * normal(41, 40, 4), normal(42, 40, 3), normal(43, 40, 3)
    u[::2], v[::3] = u[::2].clamp(0, 1), 0.0
    certificate = ca.certify(program, ca.Solution(torch.zeros(40, 3).double(), ca.solve(program).codes, (u, v, w)))
    assert (certificate.dual <= optimum + 1e-9).all()
    assert (certificate.dual > 0).any()
    assert not certificate.holds().any()


def test_not_a_number_proves_nothing() -> None:
    c, A = draw(50)
    c[1, 2] = math.nan
    A[2, 0, 0] = INF
    program = ca.HingeSum(c, A, (ca.Ball(CUBE, 0.3),))
    found = ca.solve(program)
    assert names(found) == ["OPTIMAL", "INVALID", "INVALID"]
    assert ca.certify(program, found).holds().tolist() == [True, False, False]
    assert torch.equal(found.eta[0], ca.solve(ca.HingeSum(c[:1], A[:1], program.sets)).eta[0])
    u, v = found.multipliers
    broken = ca.certify(program, ca.Solution(found.eta, found.codes, (u * math.nan, v)))
    assert not broken.holds().any()


def test_a_step_that_is_not_ours_is_judged() -> None:
    c, A = draw(60)
    program = ca.HingeSum(c, A, (ca.Ball(CUBE, 0.3),))
    best = ca.certify(program, ca.solve(program))
    bare = ca.certify(program, torch.zeros(3, 5).double())
    assert not bare.holds().any()
    assert (bare.dual <= best.primal + 1e-9).all()
    assert (ca.certify(program, torch.ones(3, 5).double()).violation > 1).all()
    all_missed = ca.HingeSum(c.abs() + 100, A, program.sets)  # then the sum of hinges is linear, and u = 1 is known
    assert ca.certify(all_missed, -0.3 * A.sum(1).sign()).holds(ca.Tolerance.closed_form()).all()


def test_sets_of_any_kind() -> None:
    c, A = draw(70)
    flat = ca.CustomSet(lambda eta: [cp.sum(eta) == 0])
    for sets in (
        (ca.Ball(CUBE, 0.3), flat),
        (flat, ca.Box(-0.2, 0.3)),
        (ca.Box(-0.2, 0.3),),
        (ca.Ball(ca.Lp(2), 0.4), ca.Ball(CUBE, 0.2)),
    ):
        program = ca.HingeSum(c, A, sets)
        found = ca.solve(program)
        certificate = ca.certify(program, found)
        assert certificate.holds().all()
        assert certificate.rigorous
        if flat in sets:
            assert (found.eta.sum(-1).abs() < 1e-6).all()


def test_sets_that_exclude_each_other() -> None:
    c, A = draw(80)
    apart = torch.tensor([[0.5], [0.1], [0.1]], dtype=torch.float64).expand(3, 5)
    program = ca.HingeSum(c, A, (ca.Ball(CUBE, 0.2), ca.Box(apart, 1.0)))
    found = ca.solve(program)
    assert names(found) == ["INFEASIBLE", "OPTIMAL", "OPTIMAL"]
    assert ca.certify(program, found).holds().all()
    assert found.eta[0].isnan().all()


@pytest.mark.parametrize("p", [1, 2, 3])
def test_a_ball_that_misses_a_box_is_proved_to(p: float) -> None:
    c, A = draw(80)
    apart = torch.tensor([[0.5], [0.01], [-0.1]], dtype=torch.float64).expand(3, 5)
    program = ca.HingeSum(c, A, (ca.Ball(ca.Lp(p), 0.2), ca.Box(apart, 1.0)))
    found = ca.solve(program)
    assert names(found) == ["INFEASIBLE", "OPTIMAL", "OPTIMAL"]
    assert ca.certify(program, found).holds().all()
    assert found.eta[0].isnan().all()


@pytest.mark.parametrize("p", [1, 2, 3, INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_perturbation_is_inside_in_its_own_dtype(p: float, dtype: torch.dtype) -> None:
    c, A = draw(90)
    program = ca.HingeSum(c.to(dtype), A.to(dtype), (ca.Ball(ca.Lp(p), 0.3),))
    found = ca.solve(program)
    assert found.eta.dtype == dtype
    assert all(in_ball(eta, p, 0.3) for eta in found.eta)
    assert ca.certify(program, found).holds().all()


def fewest(c: Tensor, A: Tensor, radius: float) -> int:
    """The fewest demands that any ‖η‖_∞ ≤ radius misses, by trying every subset to be met."""
    m, d = A.shape
    for count in range(m + 1):
        for missed in itertools.combinations(range(m), count):
            met = [i for i in range(m) if i not in missed]
            if (
                not met
                or linprog(
                    np.zeros(d), A[met].numpy(), -c[met].numpy(), bounds=[(-radius, radius)] * d, method="highs"
                ).status
                == 0
            ):
                return count
    raise AssertionError("no demand at all can always be met")


def test_the_count_lies_between_its_bounds() -> None:
    c, A = draw(100, n=10, demands=6, d=3)
    program = ca.HingeSum(c, A, (ca.Ball(CUBE, 0.4),))
    relaxed = program.counted()
    found = ca.solve(relaxed)
    least, there = program.least_lost(found.multipliers), program.lost(found.eta)
    truth = [fewest(c[i], A[i], 0.4) for i in range(10)]
    assert all(low <= true <= high for low, true, high in zip(least.tolist(), truth, there.tolist(), strict=True))
    assert sum(least.tolist()) > 0.5 * sum(truth)
    assert any(0 < true < 6 for true in truth)
    garbage = (3 * normal(5, 10, 6), normal(6, 10, 3))
    assert all(low <= true for low, true in zip(program.least_lost(garbage).tolist(), truth, strict=True))
    assert program.least_lost((garbage[0] * math.nan, garbage[1])).tolist() == [0] * 10


def test_what_is_never_met_counts_in_full_and_what_always_is_not_at_all() -> None:
    c, A = rows([5.0, -5.0, 0.5]), rows([1.0, 1.0], [1.0, 1.0], [1.0, 0.0])[None]
    for sets in ((ca.Ball(CUBE, 1.0),), (ca.Box(-1.0, 1.0),), (ca.Ball(ca.Lp(2), 9.0), ca.Box(-1.0, 1.0))):
        relaxed = ca.HingeSum(c, A, sets).counted()
        assert relaxed.value[0, :2].tolist() == [1.0, 0.0]
        assert relaxed.gradient[0, :2].abs().sum() == 0
        assert abs(float(relaxed.value[0, 2]) - 1 / 3) < 1e-12
    with pytest.raises(
        ValueError, match="sets must hold a Ball or a finite Box, which bounds how far a demand can be missed"
    ):
        ca.HingeSum(c, A, (ca.Box(-INF, 1.0),)).counted()


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (
            (torch.ones(2, 3), torch.ones(2, 4), ()),
            ValueError,
            r"gradient must have shape (N, P, d), P, d >= 1, got (2, 4)",
        ),
        (
            (torch.ones(2, 4), torch.ones(2, 3, 4), ()),
            ValueError,
            "value must have shape (N, P) = (2, 3), like the rows of gradient",
        ),
        (
            (torch.ones(2, 3).long(), torch.ones(2, 3, 4), ()),
            TypeError,
            "value must hold floating-point numbers, got torch.int64",
        ),
        (([1.0], torch.ones(1, 1, 4), ()), TypeError, "value must be a torch tensor or a NumPy array, got list"),
        (
            (torch.ones(2, 3), torch.ones(2, 3, 4), (ca.PixelRange(),)),
            ValueError,
            "sets[0] is a PixelRange that knows no image yet",
        ),
        (
            (torch.ones(2, 3), torch.ones(2, 3, 4), (3,)),
            TypeError,
            "sets[0] must be a convex set such as ca.Ball or ca.Box, got 3",
        ),
    ],
)
def test_what_is_wrong_with_the_program_is_named(arguments: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        ca.HingeSum(*arguments)


def test_what_is_wrong_with_a_claim_is_named() -> None:
    c, A = draw(110)
    program = ca.HingeSum(c.numpy(), A.numpy(), ca.Ball(CUBE, 0.3))  # type: ignore[arg-type]
    found = ca.solve(program)
    with pytest.raises(ValueError, match=r"eta must have the shape \(N, d\) = \(3, 5\) of the gradient, got \(3, 7\)"):
        ca.certify(program, torch.zeros(3, 7))
    with pytest.raises(
        ValueError,
        match=r"multipliers must have the shapes \[\(3, 7\), \(3, 5\)\] .*, got \[\(3, 5\)\]",
    ):
        ca.certify(program, ca.Solution(found.eta, found.codes, found.multipliers[1:]))
    for solver, words in (
        ("closed_form", "cannot take this program"),
        ("OSQP", "cannot take this program"),
    ):
        round_one = ca.HingeSum(c, A, (ca.Ball(ca.Lp(2), 0.3),))
        with pytest.raises(ValueError, match=words):
            ca.solve(round_one, solver)
    with pytest.raises(IndexError, match=r"i must be in \[0, 3\), got 3"):
        program.problem(3)
    seen: list[int] = []
    ca.solve(program, progress=seen.append)
    assert sum(seen) == 3


# --- segmentation of scenes -------------------------------------------------------------------------------------------


def test_scenes_are_digits_on_background() -> None:
    scenes, source = datasets.scenes(), datasets.load("digits")
    assert (scenes.x.shape, scenes.label.shape, len(scenes)) == ((500, 1, 20, 20), (500, 20, 20), 500)
    assert (float(scenes.x.min()), float(scenes.x.max())) == (0.0, 1.0)
    assert torch.equal(scenes.label > 0, scenes.x[:, 0] >= 0.25)
    windows = (
        scenes.x[:20, 0].unfold(1, 8, 1).unfold(2, 8, 1).flatten(1, 2).flatten(2)
    )  # every 8 × 8 frame of 20 scenes
    known = source.x.flatten(1)
    for i, frames in enumerate(windows):
        there = (frames[:, None] == known[None]).all(-1)
        classes = source.label[there.any(0)] + 1
        assert int(there.any(1).sum()) >= 2
        assert set(scenes.label[i].unique().tolist()) - {0} <= set(classes.tolist())
    assert torch.equal(datasets.scenes(limit=7).x, scenes.x[:7])
    assert not torch.equal(datasets.scenes("train", 7).x, scenes.x[:7])
    assert "two digits on 20 × 20 pixels" in scenes.note
    with pytest.raises(ValueError, match="limit must be a whole number, at least 1, got 0"):
        datasets.scenes(limit=0)
    with pytest.raises(ValueError, match="scenes has no split 'all': use one of train, test"):
        datasets.scenes("all")


def scores(x: Tensor) -> Tensor:
    with torch.no_grad():
        flat: Tensor = models.load("scenes")(x)
    return flat.view(len(x), 11, -1)


def test_the_network_is_fully_convolutional() -> None:
    model, x = models.load("scenes"), torch.zeros(1, 1, 30, 40)
    part = datasets.scenes(limit=1).x
    x[:, :, 4:24, 10:30] = part
    with torch.no_grad():
        whole, alone = model(x).view(1, 11, 30, 40)[:, :, 4:24, 10:30], model(part).view(1, 11, 20, 20)
    assert torch.allclose(whole[:, :, 8:-8, 8:-8], alone[:, :, 8:-8, 8:-8], atol=1e-4)


def test_one_digit_becomes_another_and_none_vanishes() -> None:
    """All at once: more pixels than by the summed loss, and a proof of how few can be won where the digit vanishes."""
    model, scenes = models.load("scenes"), datasets.scenes(limit=3)
    x, clean = scenes.x, scores(scenes.x)
    predicted = clean.argmax(1)
    other, gone = predicted.clone(), predicted.clone()
    for i in range(3):
        digit = int(scenes.label[i][scenes.label[i] > 0].mode().values)
        here = predicted[i] == digit
        rival = clean[i][:, here].mean(1)
        rival[[0, digit]] = -INF
        other[i][here], gone[i][here] = int(rival.argmax()), 0
    sets = (ca.Ball(CUBE, 0.2), ca.PixelRange(0.0, 1.0).at(x))

    def won(eta: Tensor, target: Tensor) -> Tensor:
        return (scores(x + eta.view_as(x)).argmax(1) == target).float().mean(1)

    loss = ca.pixel_margins(other)
    lin = ca.linearize(model, x, loss=loss)
    assert torch.equal(((lin.value < 0).sum(1)), (predicted == other).sum(1))
    program = ca.HingeSum(lin.value + 1, lin.gradient, sets)
    found = ca.solve(program)
    assert ca.certify(program, found).holds().all()
    one = ca.GNII(*ca.linearize(model, x, loss=ca.summed(loss)).flat(), sets)
    assert ca.certify(one, ca.solve(one)).holds().all()
    assert (ca.HingeSum(lin.value, lin.gradient, sets).lost(found.eta) == 0).any()
    assert won(found.eta, other).mean() > won(ca.solve(one).eta, other).mean() + 0.01

    small = (ca.Ball(CUBE, 0.05), sets[1])
    lin = ca.linearize(model, x, loss=ca.pixel_margins(gone))
    program = ca.HingeSum(lin.value, lin.gradient, small)
    found = ca.solve(program.counted())
    least, there = program.least_lost(found.multipliers), program.lost(found.eta)
    changed = (gone != predicted).sum(1)
    assert (least <= there).all()
    assert (least > 0.7 * changed).all()
