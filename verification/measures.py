"""The measures of Section IV: ρ̂₁, ρ̂₂, the fooling ratio and the ε that fools more than 99%.

Definitions (Sections II and IV), over the images that are classified correctly:

    ρ̂₁ = mean ‖r̂(x)‖_p/‖x‖_p,     ρ̂₂ = mean L(x)/‖∇L(x)‖_q,     fooling ratio(ε) = share with k(x + η) ≠ k(x).

Program. r̂(x) is the shortest η that changes the output; of the linear model it is (8) for the best piece (pieces.py).

Lagrangian, dual, optimum: min_norm.py; ‖r̂‖_p = min_l L_l/‖g_l‖_q.

On an affine classifier everything is known without a search. r̂ is that minimum. So ρ̂₂ with the smallest ratio over
classes is the mean size of r̂; DeepFool with overshoot δ finds (1 + δ)r̂ in one step, and ρ̂₁ is the mean of
(1 + δ)‖r̂‖/‖x‖; Algorithm 1 fools at ε if and only if ε > ‖r̂‖, and DeepFool's curve, which counts ‖η‖ < ε, is the
distribution of (1 + δ)‖r̂‖. "The lower ρ̂₂, the easier it gets to fool the classifier" is then a theorem about means:
by Markov's inequality at least half of the images are fooled at ε = 2ρ̂₂.

ρ̂₁ and ρ̂₂ are not in one unit: the first is relative to the size of the image, the second is not. Only their order can
be compared, as Table I does; and with ∇L of the active class ρ̂₂ is larger (pieces.py).

The check. Random affine classifiers and images, a tenth of the labels wrong on purpose, everything by NumPy from the
matrix: ρ̂₁, ρ̂₂ in both readings, the fooling ratios of Algorithm 1 and DeepFool at ten radii (away from ties), the 99%
radius, the numbers of images left out; and the consequence of Markov's inequality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

import convexattack as ca
from verification.claims import Finding, claim
from verification.draws import word

SAME = 1e-11
OVERSHOOT = 0.02


@claim(
    "on an affine classifier ρ̂₁, ρ̂₂, the fooling ratio and the 99% radius are what min_l L_l/‖g_l‖_q makes of them",
    "Section II, ρ̂₁ and ρ̂₂; Section IV, Table I",
    cases=[1.0, 2.0, 3.0, math.inf],
    small=60,
    full=2000,
    formulas=(
        r"\hat\rho_1=\frac1{|D|}\sum_{x\in D}\frac{\|\hat r(x)\|_p}{\|x\|_p}",
        r"\hat\rho_2=\frac1{|D|}\sum_{x\in D}\frac{L(x)}{\|\nabla L(x)\|_q}",
        r"\text{affine }f:\quad\|\hat r(x)\|_p=\min_l\frac{L_l(x)}{\|g_l\|_q}",
    ),
)
def check(case: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    d, m = 8, 4
    q = {1.0: math.inf, math.inf: 1.0}.get(case) or case / (case - 1)
    A, b, x = rng.standard_normal((m, d)), rng.standard_normal(m), rng.random((n, d)) + 0.1
    model = nn.Linear(d, m).double()
    model.load_state_dict({"weight": torch.from_numpy(A), "bias": torch.from_numpy(b)})
    f = x @ A.T + b
    label = np.where(rng.random(n) < 0.1, rng.integers(0, m, n), f.argmax(1))
    right = f.argmax(1) == label
    ratios, active = np.full((n, m), np.inf), np.zeros(n)
    for i, k in enumerate(label):
        gap = f[i, k] - f[i]
        for other in set(range(m)) - {k}:
            ratios[i, other] = gap[other] / np.linalg.norm(A[k] - A[other], q)
        active[i] = ratios[i, int(np.where(np.arange(m) == k, np.inf, gap).argmin())]
    shortest = ratios.min(1)[right]
    images, classes, norm, where = torch.from_numpy(x), torch.from_numpy(label), ca.Lp(case), word(case)

    one, two = ca.rho_1(model, images, classes, norm), ca.rho_2(model, images, classes, norm)
    size = np.linalg.norm(x[right], case, axis=1)
    yield Finding("NumPy: ρ̂₁", _apart(one.value, ((1 + OVERSHOOT) * shortest / size).mean()), SAME, where)
    yield Finding("NumPy: ρ̂₂, smallest ratio", _apart(two.smallest.value, shortest.mean()), SAME, where)
    yield Finding("NumPy: ρ̂₂, active class", _apart(two.active.value, active[right].mean()), SAME, where)
    estimates, wrong = (one, two.smallest, two.active), int((~right).sum())
    left_out = [found.images != n - wrong or found.left_out["misclassified"] != wrong for found in estimates]
    yield Finding("NumPy: the images that count", left_out, 0, where)

    sizes = np.sort((1 + OVERSHOOT) * shortest)
    radii = np.quantile(shortest, np.linspace(0.05, 0.95, 10)) * (1 + 1e-7)
    curve = ca.fooling_curve(
        {"1": ca.algorithm1(1.0, norm), "D": ca.deepfool(norm)}, model, images, classes, radii.tolist()
    )
    for name, reach, oracle in (("1", shortest, "NumPy: Algorithm 1"), ("D", sizes, "NumPy: DeepFool")):
        wanted = [(reach < eps).mean() for eps in radii]
        yield Finding(
            f"{oracle}, fooling ratios",
            [abs(a.value - b) for a, b in zip(curve.ratios[name], wanted, strict=True)],
            SAME,
            where,
        )
    needed = math.floor(0.99 * len(sizes))  # this many are not more than 99%
    yield Finding(
        "NumPy: 99% radius", _apart(ca.smallest_radius(model, images, classes, norm).value, sizes[needed]), SAME, where
    )

    half = ca.fooling_ratio(ca.algorithm1(2 * two.smallest.value, norm), model, images, classes)
    yield Finding(
        "Markov: half are fooled at 2ρ̂₂", half.value < 0.5, 0, where, note=f"{where}: {half.value:.0%} at 2ρ̂₂"
    )


def _apart(found: float, wanted: float) -> float:
    return abs(found / float(wanted) - 1)
