"""ρ₁, ρ₂, fooling ratios and radii: on an affine model, where each is known, and on the digits network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from examples import INF, normal
from scipy import stats
from torch import Tensor

import convexattack as ca
from convexattack.attacks import algorithm1, deepfool, random_sign
from convexattack.datasets import load as load_data
from convexattack.models import load as load_model
from convexattack.robustness import Estimate, FoolingCurve, fooling_curve, fooling_ratio, rho_1, rho_2, smallest_radius

NORMS = [ca.Lp(1), ca.Lp(2), ca.Lp(INF)]
WEIGHT, X = normal(1, 4, 5), normal(2, 40, 5)
CLEAN = (X @ WEIGHT.T).argmax(1)
LABEL = CLEAN.clone()
LABEL[:3] = (LABEL[:3] + 1) % 4  # three images are misclassified
DIGITS = load_data("digits")
NETWORK = load_model("digits")


def model(x: Tensor) -> Tensor:
    return x @ WEIGHT.T


def ratios(norm: ca.Lp) -> tuple[Tensor, Tensor]:
    """L/‖∇L‖_q of the active class and the smallest one, by the book, of each correctly classified image."""
    active, smallest = [], []
    for x, k in zip(X[3:], LABEL[3:].tolist(), strict=True):
        scores = WEIGHT @ x
        pieces = {l: (float(scores[k] - scores[l]), WEIGHT[k] - WEIGHT[l]) for l in range(4) if l != k}  # noqa: E741
        dual = {l: float(torch.linalg.vector_norm(g, norm.q)) for l, (_, g) in pieces.items()}  # noqa: E741
        best = min(pieces, key=lambda l: pieces[l][0])  # noqa: E741
        active.append(pieces[best][0] / dual[best])
        smallest.append(min(pieces[l][0] / dual[l] for l in pieces))  # noqa: E741
    return torch.tensor(active, dtype=torch.float64), torch.tensor(smallest, dtype=torch.float64)


def near(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("batch", [7, 256])
def test_rho_2_is_the_mean_of_the_bound_of_proposition_1(norm: ca.Lp, batch: int) -> None:
    found = rho_2(model, X, LABEL, norm, batch=batch)
    for estimate, expected in zip((found.active, found.smallest), ratios(norm), strict=True):
        near(estimate.value, float(expected.mean()))
        half = stats.t.ppf(0.975, 36) * float(expected.std()) / math.sqrt(37)
        near(estimate.low, estimate.value - half)
        near(estimate.high, estimate.value + half)
        assert estimate.images == 37
        assert estimate.left_out == {"misclassified": 3, "without a gradient": 0}


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("batch", [7, 256])
def test_rho_1_is_the_mean_of_relative_sizes(norm: ca.Lp, batch: int) -> None:
    found = rho_1(model, X, LABEL, norm, batch=batch)
    near(found.value, float((1.02 * ratios(norm)[1] / torch.linalg.vector_norm(X[3:], norm.p, dim=1)).mean()))
    assert found.low < found.value < found.high
    assert (found.images, found.left_out) == (37, {"misclassified": 3, "not fooled": 0, "of norm 0": 0})


def test_rho_1_counts_fooled_images_only() -> None:
    sizes = 1.02 * ratios(ca.Lp(INF))[1]
    edge = float(sizes.median())
    found = rho_1(model, X, LABEL, attack=deepfool(sets=(ca.Ball(ca.Lp(INF), edge * (1 + 1e-9)),)))
    hit = sizes <= edge * (1 + 1e-9)
    near(found.value, float((sizes / X[3:].abs().amax(1))[hit].mean()))
    assert (found.images, found.left_out["not fooled"]) == (int(hit.sum()), int((~hit).sum()))


def test_images_without_a_ratio_are_left_out_and_counted() -> None:
    x = X.clone()
    x[5] = 0
    x[6] = torch.nan
    label = model(x).argmax(1)
    one, two = rho_1(lambda x: model(x) + torch.arange(4).double(), x, None), rho_2(model, x, label)
    assert one.left_out == {"misclassified": 1, "not fooled": 0, "of norm 0": 1}
    assert one.images == 38
    assert two.active.left_out["misclassified"] == 1
    assert math.isfinite(two.active.value)
    flat = rho_2(
        lambda x: 0 * x[:, :2] + torch.tensor([1.0, 0.0], dtype=torch.float64), X, torch.zeros(40, dtype=torch.int64)
    )
    assert flat.smallest.left_out == {"misclassified": 0, "without a gradient": 40}
    assert math.isnan(flat.smallest.value)


def test_the_fooling_ratio_with_wilsons_interval() -> None:
    radius = float(ratios(ca.Lp(INF))[1].median())
    found = fooling_ratio(algorithm1(radius * (1 + 1e-9)), model, X, LABEL)
    k, n, z = 19, 37, stats.norm.ppf(0.975)  # the median and all below it
    middle, half = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * math.sqrt(k * (n - k) / n + z**2 / 4)
    assert (found.value, found.images, found.left_out) == (k / n, n, {"misclassified": 3})
    near(found.low, middle - half)
    near(found.high, middle + half)


def test_nothing_is_fooled_where_nothing_counts() -> None:
    found = fooling_ratio(algorithm1(0.1), model, X[:3], LABEL[:3])
    assert math.isnan(found.value)
    assert (found.low, found.high, found.images) == (0.0, 1.0, 0)
    assert math.isnan(smallest_radius(model, X[:3], LABEL[:3]).value)
    assert math.isnan(rho_1(model, X[:3], LABEL[:3]).value)


def test_the_curve_is_each_attack_at_each_radius() -> None:
    radii = [0.05, 0.2, 0.5]
    found = fooling_curve([algorithm1(9.0), deepfool()], model, X, LABEL, radii, batch=16)
    assert isinstance(found, FoolingCurve)
    assert found.radii == (0.05, 0.2, 0.5)
    needed = ratios(ca.Lp(INF))[1]
    for i, radius in enumerate(radii):
        near(found.ratios["Algorithm 1"][i].value, float((needed < radius).double().mean()))
        near(found.ratios["DeepFool"][i].value, float((1.02 * needed < radius).double().mean()))
    named = fooling_curve({"mine": algorithm1(9.0), "other": random_sign(9.0)}, model, X, LABEL, radii)
    assert named.ratios["mine"] == found.ratios["Algorithm 1"]
    assert set(named.ratios) == {"mine", "other"}


def test_deepfool_fools_at_a_radius_strictly_above_its_size() -> None:
    size = float(deepfool()(model, X[3:4], LABEL[3:4]).size[0])
    found = fooling_curve([deepfool()], model, X[3:4], LABEL[3:4], [size, math.nextafter(size, INF)])
    assert [estimate.value for estimate in found.ratios["DeepFool"]] == [0.0, 1.0]


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.9, 0.99])
def test_the_smallest_radius_is_where_the_curve_passes_the_ratio(ratio: float) -> None:
    found = smallest_radius(model, X, LABEL, ratio=ratio)
    here, above = (
        fooling_curve([deepfool()], model, X, LABEL, [radius]).ratios["DeepFool"][0].value
        for radius in (found.value, math.nextafter(found.value, INF))
    )
    assert here <= ratio < above
    assert found.low <= found.value <= found.high


def test_the_interval_of_the_smallest_radius_covers_as_often_as_it_says() -> None:
    """One feature, two classes: the smallest radius of an image is |x|·1.02, so the true quantile is known."""
    x = torch.rand(120, 60, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e-3

    def line(x: Tensor) -> Tensor:
        return torch.cat([x, -x], 1)

    found = [smallest_radius(line, sample, None, ratio=0.8) for sample in x]
    true = 1.02 * (0.8 + 1e-3)
    covered = sum(estimate.low <= true <= estimate.high for estimate in found)
    assert stats.binomtest(covered, 120, 0.95, alternative="less").pvalue > 0.01
    assert covered < 120  # nor is the interval everything


def test_too_few_fooled_images_leave_no_radius() -> None:
    found = smallest_radius(model, X, LABEL, attack=deepfool(sets=(ca.Ball(ca.Lp(INF), 1e-6),)))
    assert (found.value, found.low, found.high) == (INF, INF, INF)
    assert smallest_radius(model, X, LABEL).high == INF  # 37 images do not bound a 99% quantile


def test_batches_do_not_matter_even_to_numbers_per_image() -> None:
    target = (DIGITS.label + 1) % 10
    room = torch.linspace(0.1, 0.5, len(target), dtype=torch.float64)[:, None].expand(-1, 64)
    attacks = {
        "targeted": deepfool(max_steps=3, loss=ca.targeted(target), sets=(ca.Box(-room, room), ca.PixelRange())),
        "many radii": algorithm1(room[:, 0], steps=2),
    }
    for attack in attacks.values():
        few, many = (fooling_ratio(attack, NETWORK, DIGITS.x, DIGITS.label, batch=batch) for batch in (50, 1000))
        assert few == many
    signs = random_sign(room[:, 0])
    assert fooling_ratio(signs, NETWORK, DIGITS.x, DIGITS.label, batch=50).images == 355


def test_progress_counts_images() -> None:
    done: list[int] = []
    fooling_curve([algorithm1(9.0), deepfool()], model, X, LABEL, [0.1, 0.2], batch=16, progress=done.append)
    assert done == [16, 16, 8] * 3
    done.clear()
    rho_2(model, X, LABEL, batch=30, progress=done.append)
    assert done == [30, 10]


def test_an_estimate_reads_as_a_sentence() -> None:
    estimate = Estimate(0.5, 0.25, 0.75, 8, {"misclassified": 2, "not fooled": 0})
    assert str(estimate) == "0.5 [0.25, 0.75] (95%; 8 images; 2 misclassified)"
    assert float(estimate) == 0.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.value = 1.0  # type: ignore[misc]


def test_the_measures_of_the_digits_network_agree() -> None:
    """The first DeepFool step is 1.02 times the smallest ratio, and further steps only add to the path."""
    two, median = rho_2(NETWORK, DIGITS.x, DIGITS.label), smallest_radius(NETWORK, DIGITS.x, DIGITS.label, ratio=0.5)
    assert two.smallest.value <= two.active.value
    assert two.smallest.low < median.value < 2 * two.smallest.value
    curve = fooling_curve([deepfool()], NETWORK, DIGITS.x, DIGITS.label, [median.value, 10.0]).ratios["DeepFool"]
    assert curve[0].value <= 0.5
    assert curve[1].value == 1


_MISTAKES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: smallest_radius(model, X, LABEL, ratio=1.0), ValueError, "ratio must be between 0 and 1, got 1.0"),
    (
        lambda: smallest_radius(model, X, LABEL, attack=algorithm1(1.0)),
        ValueError,
        "attack must find its own size, but Algorithm 1 has a",
    ),
    (lambda: fooling_curve([algorithm1(1.0)], model, X, LABEL, []), ValueError, "radii must hold at least one number"),
    (
        lambda: fooling_curve([algorithm1(1.0), algorithm1(2.0)], model, X, LABEL, [1.0]),
        ValueError,
        "attacks must have names of their own",
    ),
    (
        lambda: fooling_curve([algorithm1(1.0)], model, X, LABEL, [-1.0]),
        ValueError,
        r"radii must be finite numbers >= 0, got \[-1.0\]",
    ),
    (
        lambda: fooling_curve([deepfool()], model, X, LABEL, [math.nan]),
        ValueError,
        r"radii must be finite numbers >= 0, got \[nan\]",
    ),
    (lambda: fooling_curve([deepfool()], model, X, LABEL, 0.1), TypeError, "radii must be numbers, got 0.1"),  # type: ignore[arg-type]
    (lambda: fooling_curve(["fastgrad"], model, X, LABEL, [0.1]), TypeError, "attack must be one of convexattack's"),  # type: ignore[list-item]
    (lambda: fooling_curve(deepfool, model, X, LABEL, [0.1]), TypeError, "attacks must be attacks or names"),  # type: ignore[arg-type]
    (lambda: fooling_curve([], model, X, LABEL, [0.1]), ValueError, "attacks must hold at least one attack, got none"),
    (lambda: smallest_radius(model, X, LABEL, attack=deepfool), TypeError, "attack must be one of convexattack's"),  # type: ignore[arg-type]
    (lambda: smallest_radius(model, X, LABEL, ratio="all"), ValueError, "ratio must be between 0 and 1, got 'all'"),  # type: ignore[arg-type]
    (lambda: rho_2(model, X, LABEL, 2), TypeError, "norm must be a ca.Lp, got 2"),  # type: ignore[arg-type]
    (lambda: rho_1(model, X, LABEL, 2, deepfool()), TypeError, "norm must be a ca.Lp, got 2"),  # type: ignore[arg-type]
    (lambda: rho_1(model, X, LABEL[:-1]), ValueError, r"label must have shape \(40,\), got \(39,\)"),
    (lambda: rho_2(model, X, torch.cat([LABEL, LABEL])), ValueError, r"label must have shape \(40,\), got \(80,\)"),
    (lambda: rho_2(model, X, LABEL.tolist()), TypeError, "label must be an integer tensor"),  # type: ignore[arg-type]
    (lambda: fooling_ratio(lambda model, x: x, model, X, LABEL), TypeError, "attack must be one of convexattack's"),  # type: ignore[arg-type]
    (lambda: rho_1(model, X, LABEL, batch=0), ValueError, "batch must be an int >= 1, got 0"),
    (lambda: rho_2(model, X, LABEL, batch=0), ValueError, "batch must be an int >= 1, got 0"),
    (lambda: rho_1(model, X.tolist(), LABEL), TypeError, "x must be a tensor of images"),  # type: ignore[arg-type]
    (lambda: rho_2(model, X[:0], LABEL[:0]), ValueError, "is empty: pass at least one image"),
]


@pytest.mark.parametrize(("call", "kind", "words"), _MISTAKES)
def test_a_mistake_is_one_sentence(call: Callable[[], object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)
