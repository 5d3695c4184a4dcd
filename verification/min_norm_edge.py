"""From (GN) to (8): the solution of (8) lies on the edge and does not solve (GN); any overshoot does.

The paper says. "The feasibility problem of (GN) can be also simplified to" (8), minimize ‖η‖_p subject to L + gᵀη ≤ 0.
This is so except that (GN) has < where (8) has ≤: for L > 0 the solution of (8) never solves (GN), within any ball.

Program (Section II).

    minimize  ‖η‖_p   subject to  L + gᵀη ≤ 0                                         (8)

Lagrangian and dual: min_norm.py. Optimum: ‖η‖_p = L/‖g‖_q.

Proof. Let η solve (8), L > 0. If L + gᵀη were negative, tη with t = L/(−gᵀη) < 1 would satisfy the constraint and be
shorter. So L + gᵀη = 0, and η is not in (GN). Nor is any other η of that length: ε = L/‖g‖_q is the case of equality,
proposition_1_equality.py. The radii for which (GN) is feasible are (L/‖g‖_q, ∞), an open interval; (8) is its infimum,
and is not attained.

Cure. Ask for (1 + δ)L + gᵀη ≤ 0, δ > 0. The solution is (1 + δ)η, 1 + δ times as long, and L + gᵀ(1 + δ)η = −δL < 0: it
solves (GN) with ε = (1 + δ)L/‖g‖_q. That is DeepFool's overshoot, which [7] has and the paper omits.

The check. Integer gradients with a power of two as ‖g‖_∞ (p = 1), ‖g‖₁ (p = ∞) or ‖g‖₂ (p = 2: one entry only), and
dyadic L, so that ε = L/‖g‖_q is a floating-point number. In rational numbers: |L + gᵀη| for the library's η, relative
to L (a kernel rounds η so that L + gᵀη ≤ 0 holds to the last bit); of (GN) at that ε the library says INFEASIBLE; with
the overshoot, L + gᵀη < 0, and (GN) at (1 + δ)ε is FEASIBLE. The vertices of the ball, p ≠ 2: none has L + gᵀη < 0 at
ε, one has at (1 + δ)ε.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch

import convexattack as ca
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import tensors, word

OVERSHOOT = 2.0**-6
TIGHT = ca.Tolerance.closed_form().at(torch.float64)


@claim(
    "the solution of (8) has L + gᵀη = 0 and does not solve (GN); "
    "with an overshoot δ it does, at 1 + δ times the length",
    "Section II, from (GN) to (8)",
    cases=[1.0, 2.0, math.inf],
    small=20,
    full=400,
    formulas=(
        r"\min_\eta\|\eta\|_p\quad\text{s.t.}\quad L+g^{T}\eta\le 0\qquad (8)",
        r"L>0\;\Rightarrow\;L+g^{T}\eta^{\star}=0,\qquad L+g^{T}(1+\delta)\eta^{\star}=-\delta L<0",
    ),
    slip="It simplifies (GN) to (8); but (GN) is strict and (8) is not, so no solution of (8) solves (GN).",
)
def check(case: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    d = 5
    g = rng.integers(-3, 4, (n, d)).astype(float)
    if case == 2:
        g = np.where(np.arange(d) == rng.integers(0, d, (n, 1)), rng.choice([-4.0, 4.0], (n, 1)), 0.0)
    elif case == 1:
        g[np.arange(n), rng.integers(0, d, n)] = rng.choice([-4.0, 4.0], n)
    else:
        g[:, 0] = 16 - np.abs(g[:, 1:]).sum(1)
    L = rng.integers(1, 64, n) / 8.0
    edge = L / (16.0 if case == math.inf else 4.0)
    norm, where = ca.Lp(case), word(case)
    value, gradient, radius = tensors(L, g, edge)
    rows = [oracles.rational(row) for row in g]

    def left(found: ca.Solution) -> list[Fraction]:
        """L + gᵀη."""
        etas = [oracles.rational(eta) for eta in found.eta.numpy()]
        return [Fraction(v) + oracles.rational_dot(row, eta) for v, row, eta in zip(L, rows, etas, strict=True)]

    on = left(ca.solve(ca.MinNorm(value, gradient, norm)))
    apart = [float(abs(x) / Fraction(v)) for x, v in zip(on, L, strict=True)]
    yield Finding("fractions: |L + gᵀη| of (8), relative to L", apart, TIGHT, where)
    beyond = left(ca.solve(ca.MinNorm(value * (1 + OVERSHOOT), gradient, norm)))
    yield Finding("fractions: with the overshoot, L + gᵀη < 0", [x >= 0 for x in beyond], 0, where)
    for factor, status in ((1.0, ca.Status.INFEASIBLE), (1 + OVERSHOOT, ca.Status.FEASIBLE)):
        said = ca.solve(ca.GN(value, gradient, (ca.Ball(norm, radius * factor),))).status
        yield Finding("(GN) at L/‖g‖_q, and at 1 + δ times that", said != status, 0, where)
        if case != 2:
            least = [
                Fraction(v)
                + min(oracles.rational_dot(row, corner) for corner in oracles.vertices(case, d, Fraction(eps * factor)))
                for v, row, eps in zip(L, rows, edge, strict=True)
            ]
            wrong = [(x < 0) != (status is ca.Status.FEASIBLE) for x in least]
            yield Finding("vertices, in fractions, at the same radii", wrong, 0, where)
