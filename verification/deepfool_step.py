"""A step of DeepFool is (8) for the piece l̂ (Section II after (8), Section IV).

DeepFool (Moosavi-Dezfooli, Fawzi and Frossard, reference [7]) replaces the classifier by its linearization at x.
With f' = f_l − f_k and w_l = ∇f_l − ∇f_k for the other classes l, its step for an ℓp norm is

    l̂ = argmin_{l ≠ k} |f'_l| / ‖w_l‖_q,      r = |f'_l̂| / ‖w_l̂‖_q^q · |w_l̂|^{q−1} ⊙ sign(w_l̂).

Program. For one class l, the linearized classifier prefers l to k, at least as much, where L + gᵀη ≤ 0 with

    L = f_k − f_l = −f'_l,    g = ∇f_k − ∇f_l = −w_l,

and the shortest such η is (8).

Lagrangian, dual, optimum: min_norm.py. For L > 0 (k is the prediction, so f_k ≥ f_l),

    η = −L sign(g) |g|^{q−1} / ‖g‖_q^q = |f'_l| sign(w_l) |w_l|^{q−1} / ‖w_l‖_q^q = r,      ‖η‖_p = |f'_l| / ‖w_l‖_q.

Over all classes. The linearized classifier changes its mind on a union of halfspaces, one for each l; the nearest
point of a union is the nearest of the nearest points, so the piece to take is that of the smallest optimum of (8),
and this is l̂. (The paper's display of L has l where it means l̂.)

The check. The shipped network on handwritten digits. One side: `linearize` with the margin (3), (8) for all nine
pieces, the smallest norm. The other: forward and backward pass of the network in NumPy from its weights, and
DeepFool's own formula. The class must be the same, and the step to within rounding, relative to its largest entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

import convexattack as ca
from convexattack import datasets, models
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import word

TIGHT = ca.Tolerance.closed_form().at(torch.float64)
Array = NDArray[np.float64]


@claim(
    "a DeepFool step is (8) for its l̂, and l̂ is the piece with the smallest optimum of (8)",
    "Section II after (8); Section IV",
    cases=[1.5, 2.0, 3.0, math.inf],
    small=32,
    full=360,
    formulas=(
        r"\hat l=\operatorname{argmin}_{l\ne k}\frac{|f_k-f_l|}{\|\nabla f_k-\nabla f_l\|_q}",
        r"r=\frac{|f'_{\hat l}|}{\|w_{\hat l}\|_q^q}\,|w_{\hat l}|^{q-1}\odot\operatorname{sign}(w_{\hat l})",
    ),
)
def check(case: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    images = datasets.load("digits")
    x = images.x[torch.from_numpy(rng.permutation(len(images))[:n])].double()
    model = models.load("digits").double()

    lin = ca.linearize(model, x)
    value, gradient = lin.flat()
    eta = ca.solve(ca.MinNorm(value, gradient, ca.Lp(case))).eta.numpy().reshape(len(x), lin.pieces, -1)
    size = np.linalg.norm(eta, case, axis=-1)
    piece, label = size.argmin(1), lin.label.numpy()
    chosen = piece + (piece >= label)  # the pieces are the classes but k, in ascending order

    weights = [w.detach().numpy() for w in model.parameters()]
    steps = [_deepfool(image, weights, case) for image in x.flatten(1).numpy()]
    apart = [_apart(eta[i, piece[i]], steps[i][1]) for i in range(len(x))]
    yield Finding("DeepFool's own step, in NumPy", apart, TIGHT, word(case))
    yield Finding("DeepFool's own l̂, in NumPy", [chosen[i] != steps[i][0] for i in range(len(x))], 0, word(case))


def _apart(eta: Array, step: Array) -> float:
    return float(np.abs(eta - step).max() / np.abs(step).max())


def _deepfool(x: Array, weights: list[Array], p: float) -> tuple[int, Array]:
    """(l̂, r) of reference [7] for a network of linear layers with ReLU between them."""
    output, jacobian, _ = oracles.network(x, weights)
    label = int(output.argmax())
    q = 1.0 if p == math.inf else p / (p - 1)
    f = output - output[label]
    w = jacobian - jacobian[label]
    distance = [math.inf if k == label else abs(f[k]) / np.linalg.norm(w[k], q) for k in range(len(f))]
    nearest = int(np.argmin(distance))
    v = w[nearest]
    return nearest, abs(f[nearest]) / np.linalg.norm(v, q) ** q * np.abs(v) ** (q - 1) * np.sign(v)
