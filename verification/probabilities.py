"""Probabilities against logits: with the f of unit ℓ1 norm, Algorithm 2 is FastGrad, and the linear model of DeepFool
and ρ̂₂ is wrong.

The paper says. f "has unit ℓ1-norm", with each f_l "interpreted as the probability of class belonging" (2), and
proposes Algorithm 2 as a method of its own beside FastGrad. This is so except where f is what it says: then the two are
the same, image by image.

Proof. Let z be the logits, p = softmax(z), k the label. FastGrad has L = log p_k (fastgrad.py), Algorithm 2 has
L = p_k, and

    ∇p_k = p_k ∇log p_k,      p_k > 0:

their gradients are parallel, and (6) does not change when g is multiplied by a positive number. The two η are equal for
every p. With logits they are not: ∇z_k lacks the other classes.

Program. A DeepFool step, and the ratio in ρ̂₂, is (8): minimize ‖η‖_p subject to L + gᵀη ≤ 0. Lagrangian, dual,
optimum: min_norm.py, ‖η‖_p = L/‖g‖_q. Take two classes and let t = z_k − z_l > 0, affine in x. On logits L = t, and η
is exact: the classifier changes at ‖η‖_p = t/‖∇t‖_q. On probabilities L = p_k − p_l = tanh(t/2), whose gradient is
∇t/(2 cosh²(t/2)), so that (8) gives

    ‖η‖_p = 2 sinh(t/2) cosh(t/2)/‖∇t‖_q = sinh(t)/‖∇t‖_q,

sinh(t)/t times as long as it has to be: twice at t = 2.2, a thousand times at t = 9.9, and p_k = 0.99995 there. The
saturation of the softmax is taken for robustness. ρ̂₂ of a network that is sure of itself explodes in the same way,
though no decision changes when softmax is added.

Optimum. So the experiments must have used logits, whatever (2) says; the library works with what the model returns, and
`ca.probabilities(model)` is there to see the difference.

The check. Two classes: random affine logits, t up to 30; the library's (8) on probabilities against sinh(t)/‖∇t‖_q, and
on logits against t/‖∇t‖_q, in fifty digits, for the t that float64 sees. (With 1 − p_k below 1e-3 or so rounding makes
itself felt: the error of tanh(t/2)'s gradient is 2u cosh²(t/2), and the tolerance is relative to that.) Digits: η of
Algorithm 2 on probabilities against η of FastGrad on logits, for p = ∞ the largest |g_i| (relative) at which they
differ; and, as a note, ρ̂₂ and the median size of DeepFool's η both ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import mpmath
import numpy as np
import torch
from torch import nn

import convexattack as ca
from convexattack import datasets, models
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import word

UNIT = 2.0**-52
SAME = 1e-9


@claim(
    "on probabilities Algorithm 2 is FastGrad, and (8) is sinh(t)/t times too long at a lead of t logits; "
    "on logits neither is so",
    "Section II, (2); Section IV",
    cases=["two classes", *((p, eps) for p, eps in ((2.0, 0.5), (3.0, 0.3), (math.inf, 0.1)))],
    small=24,
    full=360,
    formulas=(
        r"\nabla p_k=p_k\,\nabla\log p_k\;\Rightarrow\;\eta_{\text{Algorithm 2}}=\eta_{\text{FastGrad}}",
        r"L=p_k-p_l=\tanh\frac t2,\qquad"
        r"\frac{L}{\|\nabla L\|_q}=\frac{\sinh t}{\|\nabla t\|_q}\;\text{for}\;\frac{t}{\|\nabla t\|_q}",
    ),
    slip="It takes f for probabilities of unit ℓ1 norm; "
    "with them Algorithm 2 is nothing but FastGrad and ρ̂₂ explodes. Logits it must be.",
)
def check(case: str | tuple[float, float], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    if isinstance(case, str):
        yield from _two_classes(rng, n)
        return
    p, radius = case
    images = datasets.load("digits")
    rows = torch.from_numpy(rng.permutation(len(images))[:n])
    model, x = models.load("digits").double(), images.x[rows].double()
    soft = ca.probabilities(model)
    where = f"{word(p)}, ε = {radius:g}"
    label = model(x).argmax(1)
    one = ca.algorithm2(radius, ca.Lp(p))(soft, x, label).eta.flatten(1)
    two = ca.fastgrad(radius, ca.Lp(p))(model, x, label).eta.flatten(1)
    slope = ca.linearize(model, x, label, ca.negative_cross_entropy).gradient[:, 0].abs()
    error, unit = (torch.where(one != two, slope, 0), slope) if p == math.inf else ((one - two).abs(), two.abs())
    apart = error.amax(1) / unit.amax(1)
    logits = ca.algorithm2(radius, ca.Lp(p))(model, x, label).eta.flatten(1)
    said = f"{where}: on logits Algorithm 2 differs from FastGrad on {int((logits != two).any(1).sum())} of {n} images"
    if p == math.inf:
        said += "; " + _measured(model, soft, x, label)
    yield Finding("FastGrad, image by image", apart.numpy(), SAME, where, note=said)


def _two_classes(rng: np.random.Generator, n: int) -> Iterator[Finding]:
    d = 6
    long: list[float] = []
    short: list[float] = []
    for _ in range(n):
        weight, x = rng.standard_normal((2, d)), rng.standard_normal(d)
        lead = rng.uniform(0.1, 30)
        shift = np.array([lead - weight[0] @ x, -(weight[1] @ x)])
        model = nn.Linear(d, 2).double()
        model.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(shift)})
        point = torch.from_numpy(x)[None]
        z = model(point)[0].tolist()
        t, slope = mpmath.mpf(z[0]) - mpmath.mpf(z[1]), oracles.digits_dual(weight[0] - weight[1], 2)
        for network, wanted, errors in (
            (ca.probabilities(model), mpmath.sinh(t) / slope, long),
            (model, t / slope, short),
        ):
            program = ca.MinNorm(*ca.linearize(network, point, torch.tensor([0])).flat(), ca.Lp(2))
            size = oracles.digits_norm(ca.solve(program).eta[0].numpy(), 2)
            rounding = 16 * UNIT * (float(mpmath.cosh(t / 2) ** 2) + 1 + float(np.abs(z).max() / t))
            errors.append(float(abs(size / wanted - 1)) / rounding)
    yield Finding("50 digits, probabilities: sinh(t)/‖∇t‖₂, in units of rounding", long, 1, "two classes")
    yield Finding("50 digits, logits: t/‖∇t‖₂, in units of rounding", short, 1, "two classes")


def _measured(model: nn.Module, soft: nn.Module, x: torch.Tensor, label: torch.Tensor) -> str:
    sizes = [ca.deepfool()(network, x, label) for network in (model, soft)]
    rho = [ca.rho_2(network, x, label).smallest.value for network in (model, soft)]
    median = [found.size[found.fooled].median().item() if found.fooled.any() else math.nan for found in sizes]
    fooled = [int(found.fooled.sum()) for found in sizes]
    return (
        f"ρ̂₂ {rho[0]:.3g} on logits, {rho[1]:.3g} on probabilities; DeepFool fools {fooled[0]} and {fooled[1]}, "
        f"median ‖η‖_∞ {median[0]:.3g} and {median[1]:.3g}"
    )
