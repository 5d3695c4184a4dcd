"""Equation (1) and Remark 1: f(x + η) ≈ f(x) + J_f(x)η, how good that is, and that for an affine classifier nothing is
approximate.

Program. None yet: (1) is what makes programs of the rest. Every L in the paper is replaced by L(x) + ηᵀ∇L(x), a row of
f(x) + Jη.

Three networks, three statements.

Affine, f(x) = Ax + b. J = A and (1) is an equality for every η. This is the linearity hypothesis of Remark 1 taken at
its word, and what the paper says of the linear model then holds of the classifier: by proposition_1.py a class l wins
somewhere in the ball if and only if ε‖g_l‖_q > L_l, so the classifier can be fooled within ε if and only if that is so
for one of them.

Piecewise linear (ReLU). Where every unit keeps its sign, f is affine. The set of such points is an intersection of
halfspaces, hence convex: if x and x + η are in it, so is the segment between them, and (1) is an equality there.

Smooth, f_l(x) = Σ_k W_lk tanh(w_kᵀx + b_k). Taylor with the remainder of second order, and |tanh''| ≤ 4/(3√3):

    |f_l(x + η) − f_l(x) − (Jη)_l| ≤ (1/2) (4/(3√3)) Σ_k |W_lk| (w_kᵀη)².

The error falls with ε² while the decrease ε‖g‖_q falls with ε: for small ε the linear model decides.

Lagrangian, dual, optimum: of the program that (1) leads to, proposition_2.py.

The check. Affine: integer weights and dyadic ε, the verdict of Algorithm 1 on the classifier itself against
ε‖g_l‖_q > L_l in rational numbers. ReLU: the shipped network on handwritten digits; its Jacobian against a pass through
the layers in NumPy, and (1) against NumPy's own f(x + η) for η that are halved until no unit changes its sign. Smooth:
random networks, the remainder in fifty digits against the bound above, for η from 1e-6 to 1.
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

ROUNDING = 1e-12
CURVATURE = 4 / (3 * math.sqrt(3))


@claim(
    "(1) is exact for an affine classifier and where no ReLU changes its sign; "
    "elsewhere its error is of second order in η",
    "Section II, (1), Remark 1",
    cases=["affine, p = 1", "affine, p = ∞", "ReLU", "tanh"],
    small=12,
    full=200,
    formulas=(
        r"f(x+\eta)\approx f(x)+J_f(x)\,\eta",
        r"\bigl|f_l(x+\eta)-f_l(x)-(J\eta)_l\bigr|\le\frac12\cdot\frac{4}{3\sqrt3}\sum_k|W_{lk}|\,(w_k^{T}\eta)^2",
    ),
)
def check(case: str, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    if case == "ReLU":
        yield from _relu(rng, n)
    elif case == "tanh":
        yield _tanh(rng, n)
    else:
        yield _affine(1.0 if case.endswith("1") else math.inf, rng, n)


def _affine(p: float, rng: np.random.Generator, n: int) -> Finding:
    m, d = 4, 6
    wrong = []
    for _ in range(n):
        A, b = rng.integers(-9, 10, (m, d)), rng.integers(-20, 21, m)
        x, eps = rng.integers(-8, 9, d) / 8, float(rng.integers(1, 17)) / 16
        model = nn.Linear(d, m).double()
        model.load_state_dict({"weight": torch.from_numpy(A).double(), "bias": torch.from_numpy(b).double()})
        rows, point = [oracles.rational(row) for row in A], oracles.rational(x)
        f = [oracles.rational_dot(row, point) + int(c) for row, c in zip(rows, b, strict=True)]
        k = max(range(m), key=f.__getitem__)
        radius = oracles.rational([eps])[0]
        can = False
        for other in set(range(m)) - {k}:
            g = [a - c for a, c in zip(rows[k], rows[other], strict=True)]
            can |= radius * (max(map(abs, g)) if p == 1 else sum(map(abs, g))) > f[k] - f[other]
        found = ca.algorithm1(eps, ca.Lp(p))(model, torch.from_numpy(x)[None], torch.tensor([k]))
        wrong.append(bool(found.fooled) != can)
    return Finding("fractions: fooled if and only if ε‖g_l‖_q > L_l for some l", wrong, 0, word(p))


def _relu(rng: np.random.Generator, n: int) -> Iterator[Finding]:
    images = datasets.load("digits")
    x = images.x[torch.from_numpy(rng.integers(0, len(images), n))].double()
    model = models.load("digits").double()
    weights = [w.detach().numpy() for w in model.parameters()]
    jacobian = ca.jacobian(model, x).numpy()
    apart, error = [], []
    for row, J in zip(x.flatten(1).numpy(), jacobian, strict=True):
        f, own, signs = oracles.network(row, weights)
        apart.append(np.abs(J - own).max() / np.abs(own).max())
        eta = rng.standard_normal(len(row)) * 10.0 ** rng.uniform(-4, 0)
        while (oracles.network(row + eta, weights)[2] != signs).any():
            eta /= 2
        there = oracles.network(row + eta, weights)[0]
        error.append(np.abs(there - f - J @ eta).max() / np.abs(f).max())
    yield Finding("layer by layer, in NumPy: J_f", apart, ROUNDING, "digits")
    yield Finding("layer by layer, in NumPy: f(x + η) within a linear piece", error, ROUNDING, "digits")


def _tanh(rng: np.random.Generator, n: int) -> Finding:
    d, units, m = 5, 7, 3
    excess = []
    for _ in range(n):
        inner, shift, outer = (
            rng.standard_normal((units, d)),
            rng.standard_normal(units),
            rng.standard_normal((m, units)),
        )
        x, eta = rng.standard_normal(d), rng.standard_normal(d) * 10.0 ** rng.uniform(-6, 0)
        model = nn.Sequential(nn.Linear(d, units), nn.Tanh(), nn.Linear(units, m, bias=False)).double()
        tensors = (torch.from_numpy(part) for part in (inner, shift, outer))
        model.load_state_dict(dict(zip(("0.weight", "0.bias", "2.weight"), tensors, strict=True)))
        J = ca.jacobian(model, torch.from_numpy(x)[None])[0].numpy()
        remainder = _remainder(inner, shift, outer, x, eta, J)
        bound = 0.5 * CURVATURE * np.abs(outer) @ (inner @ eta) ** 2
        rounding = 2.0**-50 * (np.abs(outer) @ np.abs(inner)) @ np.abs(eta)  # of J's entries, a dozen operations each
        excess.append(
            max(float(r / (limit + slack)) for r, limit, slack in zip(remainder, bound, rounding, strict=True))
        )
    return Finding("50 digits: the remainder in units of its bound", excess, 1, "tanh")


def _remainder(
    inner: np.ndarray, shift: np.ndarray, outer: np.ndarray, x: np.ndarray, eta: np.ndarray, J: np.ndarray
) -> list[mpmath.mpf]:
    """|f(x + η) − f(x) − Jη| for each output."""
    with mpmath.workdps(oracles.DIGITS):
        at = [mpmath.fdot(map(float, w), map(float, x)) + float(b) for w, b in zip(inner, shift, strict=True)]
        moved = [a + mpmath.fdot(map(float, w), map(float, eta)) for a, w in zip(at, inner, strict=True)]
        change = [mpmath.tanh(b) - mpmath.tanh(a) for a, b in zip(at, moved, strict=True)]
        return [
            abs(mpmath.fdot(map(float, w), change) - oracles.digits_dot(row, eta))
            for w, row in zip(outer, J, strict=True)
        ]
