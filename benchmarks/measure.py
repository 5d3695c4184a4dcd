"""The measurements of Section IV on a network and images, p = ∞: fooling ratios over radii, the numbers of Table I.

Figure 2's are kept image by image, so that two methods can be compared on the same images. Every one is a plain dict,
as JSON has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

import convexattack as ca
from benchmarks.subjects import BATCH, SEED, Subject

__all__ = [
    "ITERATIVE",
    "MEASURES",
    "ONE_STEP",
    "deepfool",
    "fooled_at",
    "iterated",
    "measure",
    "one_step",
    "random",
    "wilson",
]

CUBE = ca.Lp(math.inf)
LEVEL = 0.95
Progress = Callable[[int], object]

ONE_STEP = {"FastGrad": ca.negative_cross_entropy, "Algorithm 1": ca.margin, "Algorithm 2": ca.class_score}
ITERATIVE = {"Algorithm 1-5": 5, "Algorithm 1-10": 10}


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


def one_step(
    subject: Subject, method: str, piece: str, output: str, radii: Sequence[float], progress: Progress | None = None
) -> dict[str, Any]:
    """A one-step attack at every ε from one linearization an image: whether it fools each correctly classified image.

    For p = ∞, (GNII) has η = −ε sign(g) for a piece (7), and the value L − ε‖g‖₁, eq. (6); which of the pieces is best
    depends on ε. `other` counts the images on which that is not the piece active at x. FastGrad descends the training
    loss, which is one of the logits whatever `output` is.
    """
    model = subject.model if method == "FastGrad" else subject.function(output)
    hits: dict[float, list[Tensor]] = {radius: [] for radius in radii}
    other = dict.fromkeys(radii, 0)
    for x, label in _batches(subject):
        lin = ca.linearize(model, x, label, ONE_STEP[method])
        value, gradient = lin.value.to(torch.float64), lin.gradient.to(torch.float64)
        slope, active = CUBE.dual(gradient), value.argmin(1)
        for radius in radii:
            best = (value - radius * slope).argmin(1)
            other[radius] += int((best != active).sum())
            chosen = active if piece == "active" else best
            eta = CUBE.steepest(lin.gradient[torch.arange(len(x), device=x.device), chosen], radius)
            hits[radius].append(_fooled(model, x + eta.view_as(x), label))
        if progress is not None:
            progress(len(x))
    return {**_curve(hits), "other": [other[radius] for radius in radii]}


def iterated(
    subject: Subject, method: str, piece: str, output: str, radius: float, progress: Progress | None = None
) -> dict[str, Any]:
    """Algorithm 1-n at one ε."""
    attack = ca.algorithm1(radius, CUBE, ITERATIVE[method], piece)
    model, hits = subject.function(output), []
    for x, label in _batches(subject):
        hits.append(attack(model, x, label).fooled)
        if progress is not None:
            progress(len(x))
    return _curve({radius: hits})


def random(subject: Subject, output: str, radii: Sequence[float], progress: Progress | None = None) -> dict[str, Any]:
    """Random signs, the same for every ε."""
    model = subject.function(output)
    generator = torch.Generator().manual_seed(SEED)
    hits: dict[float, list[Tensor]] = {radius: [] for radius in radii}
    for x, label in _batches(subject):
        kept = generator.get_state()
        for radius in radii:
            generator.set_state(kept)
            hits[radius].append(ca.random_sign(radius, generator)(model, x, label).fooled)
        if progress is not None:
            progress(len(x))
    return _curve(hits)


def deepfool(subject: Subject, output: str, progress: Progress | None = None) -> dict[str, Any]:
    """DeepFool, once: ‖η‖_∞ of each correctly classified image, None where it does not fool."""
    model, attack = subject.function(output), ca.deepfool(CUBE)
    sizes: list[float | None] = []
    steps = 0
    for x, label in _batches(subject):
        found = attack(model, x, label)
        sizes += [size if hit else None for size, hit in zip(found.size.tolist(), found.fooled.tolist(), strict=True)]
        steps += int(found.steps.sum())
        if progress is not None:
            progress(len(x))
    return {"images": len(sizes), "sizes": sizes, "steps": steps}


def fooled_at(result: dict[str, Any], radius: float) -> np.ndarray:
    """(n,) which of the correctly classified images are fooled at ε; for DeepFool by an η smaller than ε, strictly."""
    if "sizes" in result:
        return np.array([size is not None and size < radius for size in result["sizes"]], dtype=bool)
    packed = np.frombuffer(bytes.fromhex(result["fooled"][result["radii"].index(radius)]), np.uint8)
    return np.unpackbits(packed, count=result["images"]).astype(bool)


def wilson(hits: int, images: int) -> tuple[float, float]:
    """The 95% interval of a proportion."""
    interval = stats.binomtest(hits, images).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def _batches(subject: Subject) -> list[tuple[Tensor, Tensor]]:
    """The correctly classified images and their labels."""
    return list(zip(subject.x[subject.right].split(BATCH), subject.label[subject.right].split(BATCH), strict=True))


def _fooled(model: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    with torch.no_grad():
        return ca.margin(model(x), label).amin(1) < 0


def _curve(hits: dict[float, list[Tensor]]) -> dict[str, Any]:
    whole = [torch.cat(parts).cpu().numpy() for parts in hits.values()]
    return {
        "images": len(whole[0]),
        "radii": list(hits),
        "fooled": [np.packbits(bits).tobytes().hex() for bits in whole],
    }


# --- Table I ----------------------------------------------------------------------------------------------------------


def _test_error(subject: Subject, output: str, progress: Progress) -> list[dict[str, Any]]:
    n, k = subject.tested, subject.wrong
    progress(len(subject.x))
    return [_plain(ca.Estimate(k / n, *wilson(k, n), n), math.sqrt(k / n * (1 - k / n) / n))]


def _rho_1(subject: Subject, output: str, progress: Progress) -> list[dict[str, Any]]:
    return [_of_mean(ca.rho_1(subject.function(output), subject.x, subject.label, CUBE, progress=progress))]


def _rho_2(subject: Subject, output: str, progress: Progress) -> list[dict[str, Any]]:
    found = ca.rho_2(subject.function(output), subject.x, subject.label, CUBE, progress=progress)
    return [_of_mean(found.active), _of_mean(found.smallest)]


def _epsilon(subject: Subject, output: str, progress: Progress) -> list[dict[str, Any]]:
    """Its standard error is the width of the interval, which order statistics give, over that of a normal one."""
    found = ca.smallest_radius(subject.function(output), subject.x, subject.label, CUBE, progress=progress)
    return [_plain(found, (found.high - found.low) / (2 * float(stats.norm.ppf((1 + LEVEL) / 2))))]


MEASURES = {"test error": _test_error, "rho_1": _rho_1, "rho_2": _rho_2, "epsilon": _epsilon}
"""(subject, output, progress) → one result, or two for ρ₂: of the active piece and the smallest."""


def measure(subject: Subject, name: str, output: str, progress: Progress) -> dict[str, Any]:
    return {"estimates": MEASURES[name](subject, output, progress)}


def _of_mean(found: ca.Estimate) -> dict[str, Any]:
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, found.images - 1)) if found.images > 1 else math.nan
    return _plain(found, (found.high - found.low) / (2 * quantile))


def _plain(found: ca.Estimate, error: float) -> dict[str, Any]:
    """An estimate and its standard error; None for what is not finite."""
    numbers = {"value": found.value, "low": found.low, "high": found.high, "standard error": error}
    finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return {
        **finite,
        "images": found.images,
        "left out": {why: count for why, count in found.left_out.items() if count},
    }
