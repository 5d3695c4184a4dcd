"""How robust a classifier is: ρ₁, ρ₂, fooling ratios, the radius that fools 99% (Sections II, IV, Figure 2, Table I).

Only images that are classified correctly count, and every estimate says how many were left out and why. An interval
speaks of the sampling of images alone: it is where the number would lie for the distribution that these images are
drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from convexattack.attacks import Attack, RandomSign, deepfool
from convexattack.linearize import check_label, linearize
from convexattack.losses import Model, margin
from convexattack.norms import Lp

__all__ = ["Estimate", "FoolingCurve", "Rho2", "fooling_curve", "fooling_ratio", "rho_1", "rho_2", "smallest_radius"]

CUBE = Lp(math.inf)
BATCH = 256
LEVEL = 0.95
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Estimate:
    """A number estimated from images.

    Attributes:
        value: the estimate; NaN where no image counts.
        low, high: the confidence interval.
        images: how many images count.
        left_out: how many do not, by reason.
        level: the confidence of the interval.
    """

    value: float
    low: float
    high: float
    images: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    level: float = LEVEL

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        left = "".join(f"; {count} {why}" for why, count in self.left_out.items() if count)
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] ({self.level:.0%}; {self.images} images{left})"


@dataclass(frozen=True)
class Rho2:
    """ρ₂ in both readings.

    Attributes:
        active: L/‖∇L‖_q of the class with the smallest margin, as the paper's text has it.
        smallest: the smallest ratio over all classes, min_l L_l/‖∇L_l‖_q, as its figures have it: the size of the first
            DeepFool step.
    """

    active: Estimate
    smallest: Estimate


@dataclass(frozen=True)
class FoolingCurve:
    """Fooling ratios over radii, Figure 2.

    Attributes:
        radii: ε, ascending or not, as given.
        ratios: attack name → one `Estimate` per radius.
    """

    radii: tuple[float, ...]
    ratios: Mapping[str, tuple[Estimate, ...]]


def rho_1(
    model: Model,
    x: Float[Tensor, "n *S"],
    label: Int[Tensor, " n"] | None,
    norm: Lp = CUBE,
    attack: Attack | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Estimate:
    """ρ₁ = mean of ‖r(x)‖_p / ‖x‖_p, r the smallest perturbation found that fools the model (Section II, Table I).

    The mean is over images that are classified correctly and that the attack fools; an image of norm 0 has no ratio.
    The interval is Student's.

    Args:
        model, x, label: as for an attack, for all n images; label=None takes the model's own predictions.
        norm: ‖·‖_p.
        attack: what finds r; by default `ca.deepfool(norm)`.
        batch: images at a time.
        progress: called with the number of images done since the last call.

    Raises:
        TypeError, ValueError: as the attack; a batch that is no int ≥ 1.
    """
    runs = _run(deepfool(norm) if attack is None else attack, norm, model, x, label, batch, progress)
    length = norm(x.detach().flatten(1).to(torch.float64)).cpu()
    hit, there = runs.right & runs.fooled, length > 0
    left_out = {"misclassified": int((~runs.right).sum()), "not fooled": int((runs.right & ~runs.fooled).sum())}
    return _mean((runs.size / length)[hit & there], {**left_out, "of norm 0": int((hit & ~there).sum())})


def rho_2(
    model: Model,
    x: Float[Tensor, "n *S"],
    label: Int[Tensor, " n"] | None,
    norm: Lp = CUBE,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Rho2:
    """ρ₂ = mean of L(x)/‖∇L(x)‖_q, Proposition 1's bound on what fools the linear model (Section II, Table I).

    L is the margin (3); the mean is over images that are classified correctly and have a gradient. Arguments, interval
    and errors are those of `rho_1`; the ratio is in the units of the images.
    """
    active, smallest, right = [], [], []
    _check_norm(norm)
    for rows in _batches(x, label, batch):
        lin = linearize(model, x[rows], label if label is None else label[rows], margin)
        value, gradient = lin.value.to(torch.float64), lin.gradient.to(torch.float64)
        ratios = value / norm.dual(gradient)
        ratios = torch.where(gradient.isfinite().all(-1), ratios, torch.nan)
        active.append(ratios.gather(1, value.argmin(1, keepdim=True))[:, 0].cpu())
        smallest.append(ratios.amin(1).cpu())
        right.append((value.amin(1) >= 0).cpu())
        if progress is not None:
            progress(len(value))
    correct = torch.cat(right)

    def mean(parts: list[Tensor]) -> Estimate:
        ratio = torch.cat(parts)
        left_out = {
            "misclassified": int((~correct).sum()),
            "without a gradient": int((correct & ~ratio.isfinite()).sum()),
        }
        return _mean(ratio[correct & ratio.isfinite()], left_out)

    return Rho2(mean(active), mean(smallest))


def fooling_ratio(
    attack: Attack | RandomSign,
    model: Model,
    x: Float[Tensor, "n *S"],
    label: Int[Tensor, " n"] | None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Estimate:
    """The share of correctly classified images that are misclassified at x + η (Section IV), with Wilson's interval.

    Arguments and errors are those of `rho_1`.
    """
    runs = _run(attack, None, model, x, label, batch, progress)
    return _share(runs.fooled[runs.right], int((~runs.right).sum()))


def fooling_curve(
    attacks: Mapping[str, Attack | RandomSign] | Sequence[Attack | RandomSign],
    model: Model,
    x: Float[Tensor, "n *S"],
    label: Int[Tensor, " n"] | None,
    radii: Sequence[float],
    batch: int = BATCH,
    progress: Progress | None = None,
) -> FoolingCurve:
    """The fooling ratio of each attack at each radius: Figure 2.

    An attack with a radius runs at each ε in turn, whatever radius it was made with. One that finds its own size
    (DeepFool) runs once, and fools an image at ε if its perturbation is smaller than ε, strictly.

    Args:
        attacks: attacks, or names and attacks.
        model, x, label, batch, progress: as for `rho_1`; `progress` counts images once per run, `len(radii)` times for
            an attack with a radius and once for one without.
        radii: ε ≥ 0, in the units of the images.

    Raises:
        TypeError, ValueError: as the attacks; two attacks of one name; no radii.
    """
    if isinstance(attacks, Attack | RandomSign):
        attacks = (attacks,)
    if not isinstance(attacks, Iterable):
        raise TypeError(
            f"attacks must be attacks or names and attacks, got {attacks!r}; write for instance [ca.fastgrad(0.1)]"
        )
    each = list(attacks.values() if isinstance(attacks, Mapping) else attacks)
    for attack in each:
        _check_attack(attack)
    if not each:
        raise ValueError(
            "attacks must hold at least one attack, got none; write for instance [ca.fastgrad(0.1), ca.deepfool()]"
        )
    pairs = list(attacks.items()) if isinstance(attacks, Mapping) else [(attack.name, attack) for attack in each]
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError(
            f"attacks must have names of their own, got {[name for name, _ in pairs]}; "
            "give a dict from names to attacks"
        )
    try:
        levels = tuple(float(radius) for radius in radii)
    except (TypeError, ValueError) as error:
        raise TypeError(f"radii must be numbers, got {radii!r}; write for instance [0.01, 0.02]") from error
    if not levels:
        raise ValueError("radii must hold at least one number, got none; write for instance [0.01, 0.02]")
    if not all(0 <= radius < math.inf for radius in levels):
        raise ValueError(f"radii must be finite numbers >= 0, got {list(levels)}; write for instance [0.01, 0.02]")
    ratios = {}
    for name, attack in named.items():
        if attack.radius is None:
            runs = _run(attack, None, model, x, label, batch, progress)
            wrong = int((~runs.right).sum())
            ratios[name] = tuple(_share((runs.fooled & (runs.size < radius))[runs.right], wrong) for radius in levels)
        else:
            ratios[name] = tuple(
                fooling_ratio(attack.at(radius), model, x, label, batch, progress) for radius in levels
            )
    return FoolingCurve(levels, ratios)


def smallest_radius(
    model: Model,
    x: Float[Tensor, "n *S"],
    label: Int[Tensor, " n"] | None,
    norm: Lp = CUBE,
    ratio: float = 0.99,
    attack: Attack | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Estimate:
    """The smallest ε at which DeepFool fools more than `ratio` of the correctly classified images (Table I).

    At every larger ε the share with ‖η‖_p < ε is above `ratio`; ∞ where the attack does not fool that many. The
    interval is that of a quantile, by order statistics: it needs no distribution, and its upper end is ∞ where there
    are too few images to bound it.

    Args:
        model, x, label, norm, batch, progress: as for `rho_1`.
        ratio: in (0, 1).
        attack: one without a radius; by default `ca.deepfool(norm)`.

    Raises:
        TypeError, ValueError: as `rho_1`; a ratio outside (0, 1); an attack with a radius.
    """
    if not isinstance(ratio, int | float) or not 0 < ratio < 1:
        raise ValueError(f"ratio must be between 0 and 1, got {ratio!r}; the paper takes 0.99")
    if attack is not None:
        _check_attack(attack)
    if attack is not None and attack.radius is not None:
        raise ValueError(
            f"attack must find its own size, but {attack.name} has a radius; "
            "use ca.deepfool(), or ca.fooling_curve for it"
        )
    runs = _run(deepfool(norm) if attack is None else attack, norm, model, x, label, batch, progress)
    length = torch.where(runs.fooled, runs.size, torch.inf)[runs.right]
    sizes = np.sort(length.numpy())
    n = len(sizes)

    def smallest(k: float) -> float:
        """The k-th smallest size, counted from 1; 0 below and ∞ above."""
        return 0.0 if k < 1 else math.inf if k > n else float(sizes[int(k) - 1])

    tail = (1 - LEVEL) / 2
    low, high = (stats.binom.ppf(tail, n, ratio), stats.binom.ppf(1 - tail, n, ratio) + 1) if n else (0, 1)
    needed = next((k for k in range(math.floor(ratio * n), n + 1) if k / n > ratio), n + 1) if n else 1
    left_out = {"misclassified": int((~runs.right).sum())}
    return Estimate(smallest(needed) if n else math.nan, smallest(low), smallest(high), n, left_out)


@dataclass(frozen=True, eq=False)
class _Runs:
    """An attack's results for all images, on the host."""

    size: Float[Tensor, " n"]
    fooled: Bool[Tensor, " n"]
    right: Bool[Tensor, " n"]


def _run(
    attack: Attack | RandomSign,
    norm: Lp | None,
    model: Model,
    x: Tensor,
    label: Tensor | None,
    batch: int,
    progress: Progress | None,
) -> _Runs:
    _check_attack(attack)
    norm, parts = attack.norm if norm is None else norm, []
    _check_norm(norm)
    for rows in _batches(x, label, batch):
        here = attack if len(rows) == len(x) else attack.part(rows, len(x))
        found = here(model, x[rows], label if label is None else label[rows])
        parts.append((norm(found.eta.flatten(1).to(torch.float64)).cpu(), found.fooled.cpu(), ~found.wrong.cpu()))
        if progress is not None:
            progress(len(rows))
    return _Runs(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _check_attack(attack: object) -> None:
    if not isinstance(attack, Attack | RandomSign):
        raise TypeError(f"attack must be one of convexattack's, such as ca.deepfool(), got {attack!r}")


def _check_norm(norm: object) -> None:
    if not isinstance(norm, Lp):
        raise TypeError(f"norm must be a ca.Lp, got {norm!r}; write ca.Lp(2)")


def _batches(x: Tensor, label: Tensor | None, batch: int) -> list[Tensor]:
    """The row numbers of each batch, of images and labels that go together."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch must be an int >= 1, got {batch!r}; 256 images at a time is the default")
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor of images (n, *S), got {type(x).__name__}: use torch.as_tensor(...)")
    check_label(label, x)
    return list(torch.arange(len(x), device=x.device).split(batch))


def _share(hit: Tensor, wrong: int) -> Estimate:
    """A proportion with Wilson's interval."""
    n, k = len(hit), int(hit.sum())
    left_out = {"misclassified": wrong}
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, left_out)
    interval = stats.binomtest(k, n).proportion_ci(LEVEL, method="wilson")
    return Estimate(k / n, float(interval.low), float(interval.high), n, left_out)


def _mean(values: Tensor, left_out: Mapping[str, int]) -> Estimate:
    """A mean with Student's interval, mean ± t·s/√n."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, left_out)
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std() / math.sqrt(n)) if n > 1 else math.inf
    return Estimate(mean, mean - half, mean + half, n, left_out)
