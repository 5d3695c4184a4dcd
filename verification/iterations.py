"""The iterative methods: Algorithm 1-n stays in the ball, and DeepFool is (8) repeated "until the classifier output
changes".

Program. Algorithm 1-n: at e_0 = 0, e_1, …, the (GNII) of the network linearized at x + e_t, with the ball of radius
ε/n:

    minimize  L(x + e_t) + δᵀ∇L(x + e_t)   subject to  ‖δ‖_∞ ≤ ε/n,        e_{t+1} = e_t + δ.

Lagrangian, dual and optimum of each step: sign.py; δ = −(ε/n) sign(g) for the piece l with the smallest
L_l − (ε/n)‖g_l‖₁ (pieces.py). By the triangle inequality ‖e_n‖_∞ ≤ Σ ε/n = ε: "the sum of n noise vectors with ℓ∞-norm
of ε/n" obeys the constraint of (GNII). So does the sum in any ‖·‖_p.

DeepFool: the same with (8) for each step, the nearest piece l̂ (deepfool_step.py), made 1 + 0.02 times as long
(min_norm_edge.py says why), until the network itself says another class. On an affine classifier the first step is
enough, since its linear model is itself.

The check. The shipped network on handwritten digits. The oracle is the loop above in NumPy, its values and gradients
from a pass through the layers. The sum of Algorithm 1-n must be the same, entry by entry relative to ε; its largest
entry must not exceed ε in rational numbers; and its verdict is NumPy's, where NumPy's margin is not within rounding of
0. DeepFool: the sum, relative to its own largest entry, the number of steps, and the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

import convexattack as ca
from convexattack import datasets, models
from verification import oracles
from verification.claims import Finding, claim

Array = NDArray[np.float64]
SAME = 1e-9
OVERSHOOT = 0.02


@claim(
    "Algorithm 1-n is n steps of (GNII) with ε/n and stays within ε; "
    "DeepFool is (8), repeated until the output changes",
    "Section II after (8); Section IV, Algorithm 1-n, DeepFool",
    cases=[
        ("Algorithm 1-n", 2),
        ("Algorithm 1-n", 5),
        ("Algorithm 1-n", 10),
        ("DeepFool", 2.0),
        ("DeepFool", math.inf),
    ],
    small=16,
    full=200,
    formulas=(
        r"e_{t+1}=e_t+\delta_t,\quad \|\delta_t\|_\infty\le\frac{\varepsilon}{n}\;\Rightarrow\;"
        r"\|e_n\|_\infty\le\varepsilon",
        r"\text{DeepFool:}\quad\delta_t=1.02\,\operatorname{argmin}"
        r"\{\|\delta\|_p: L_{\hat l}+\delta^{T}\nabla L_{\hat l}\le 0\}",
    ),
)
def check(case: tuple[str, float], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    name, number = case
    images = datasets.load("digits")
    x = images.x[torch.from_numpy(rng.permutation(len(images))[:n])].double()
    model = models.load("digits").double()
    weights = [w.detach().numpy() for w in model.parameters()]
    rows = x.flatten(1).numpy()
    if name == "DeepFool":
        found = ca.deepfool(ca.Lp(number), overshoot=OVERSHOOT)(model, x)
        runs = [_deepfool(row, weights, number) for row in rows]
        where = f"DeepFool, p = {'∞' if number == math.inf else f'{number:g}'}"
        yield Finding(
            "the loop in NumPy: steps", [int(a) != b for a, (_, b) in zip(found.steps, runs, strict=True)], 0, where
        )
        totals = [total for total, _ in runs]
        unit = np.array([np.abs(total).max() for total in totals])
    else:
        steps, radius = int(number), 0.06
        found = ca.algorithm1(radius, steps=steps)(model, x)
        totals = [_algorithm1(row, weights, radius, steps) for row in rows]
        where, unit = f"Algorithm 1-{steps}", np.full(n, radius)
        outside = [
            max(abs(Fraction(float(entry))) for entry in eta) > Fraction(radius) for eta in found.eta.flatten(1).numpy()
        ]
        yield Finding("fractions: ‖e_n‖_∞ ≤ ε", outside, 0, where)
    eta = found.eta.flatten(1).numpy()
    apart = [np.abs(a - b).max() / u for a, b, u in zip(eta, totals, unit, strict=True)]
    yield Finding("the loop in NumPy: the sum", apart, SAME, where)
    margins = np.array([_lowest(row, total, weights) for row, total in zip(rows, totals, strict=True)])
    wrong = (found.fooled.numpy() != (margins < 0)) & (np.abs(margins) > SAME)
    said = f"{where} fools {int(found.fooled.sum())} of {n}"
    yield Finding("the loop in NumPy: fooled", wrong, 0, where, note=said)


def _pieces(x: Array, k: int, weights: list[Array]) -> tuple[Array, Array]:
    f, J, _ = oracles.network(x, weights)
    return np.delete(f[k] - f, k), np.delete(J[k] - J, k, axis=0)


def _lowest(x: Array, total: Array, weights: list[Array]) -> float:
    k = int(oracles.network(x, weights)[0].argmax())
    return float(_pieces(x + total, k, weights)[0].min())


def _algorithm1(x: Array, weights: list[Array], radius: float, steps: int) -> Array:
    total, k = np.zeros(len(x)), int(oracles.network(x, weights)[0].argmax())
    for _ in range(steps):
        L, g = _pieces(x + total, k, weights)
        best = int((L - radius / steps * np.abs(g).sum(1)).argmin())
        total = total - radius / steps * np.sign(g[best])
    return total


def _deepfool(x: Array, weights: list[Array], p: float) -> tuple[Array, int]:
    """The sum of the steps, and their number."""
    q = 1.0 if p == math.inf else p / (p - 1)
    total, k = np.zeros(len(x)), int(oracles.network(x, weights)[0].argmax())
    for step in range(50):
        L, g = _pieces(x + total, k, weights)
        if L.min() < 0:
            return total, step
        size = np.linalg.norm(g, q, axis=1)
        near = int((L / size).argmin())
        total = total - (1 + OVERSHOOT) * L[near] * np.sign(g[near]) * np.abs(g[near]) ** (q - 1) / size[near] ** q
    return total, 50
