"""FastGrad is (GNII) with the negative training loss (Section II after Remark 1, Section IV).

FastGrad (Goodfellow, Shlens and Szegedy, reference [6]) takes one step of size ε along the sign of the gradient of
the training loss, which for classification is the cross entropy CE(x) = −log p_k(x), p = softmax(f), k the label:

    η = ε sign(∇CE(x)).

Program. An attack in this framework decreases L, so put L(x) = −CE(x) = log p_k(x) and p = ∞ in (GNII):

    minimize  L + gᵀη   subject to  ‖η‖_∞ ≤ ε,     g = ∇ log p_k = −∇CE.

Lagrangian, dual and optimum are those of sign.py. Its solution (7) is

    η = −ε sign(g) = −ε sign(−∇CE) = ε sign(∇CE),

which is FastGrad; the linearized training loss it reaches is CE + ε‖∇CE‖₁, the largest over the cube.

The gradient itself. ∇_f log p_k = e_k − p, so g = J_fᵀ(e_k − p). In single precision p_k rounds to 1 on a confident
network and e_k − p loses its digits; the check therefore runs in float64.

The check. The shipped network on handwritten digits, at the true labels, for several ε. One side: `linearize` with
the loss `negative_cross_entropy`, then (GNII). The other: PyTorch's own `cross_entropy`, its own `backward`, and ε
times the sign. Every entry must be the same number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

import convexattack as ca
from convexattack import datasets, models
from verification.claims import Finding, claim


@claim(
    "FastGrad is (GNII) with L = log p_k, the negative training loss, and p = ∞",
    "Section II after Remark 1; Section IV",
    cases=[0.01, 0.1, 0.3],
    small=32,
    full=360,
    formulas=(
        r"L=-\operatorname{CE}=\log p_k",
        r"\eta=-\varepsilon\operatorname{sign}(\nabla L)=\varepsilon\operatorname{sign}(\nabla\operatorname{CE})",
    ),
)
def check(case: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    images = datasets.load("digits")
    rows = torch.from_numpy(rng.permutation(len(images))[:n])
    x, label = images.x[rows].double(), images.label[rows]
    model = models.load("digits").double()

    value, gradient = ca.linearize(model, x, label, ca.negative_cross_entropy).flat()
    found = ca.solve(ca.GNII(value, gradient, (ca.Ball(ca.Lp(math.inf), case),)))

    point = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(point), label, reduction="none")
    (slope,) = torch.autograd.grad(loss.sum(), point)
    slope = slope.flatten(1)
    loss = loss.detach()
    fastgrad = case * slope.sign()
    yield Finding("cross_entropy of torch", (found.eta != fastgrad).any(1).numpy(), 0, f"ε = {case}")

    linear = loss + case * slope.abs().sum(1)
    reached = -(value + (gradient * found.eta).sum(1))
    tight = ca.Tolerance.closed_form().at(torch.float64)
    yield Finding("CE + ε‖∇CE‖₁, by torch", ((reached - linear).abs() / linear.abs()).numpy(), tight, f"ε = {case}")
