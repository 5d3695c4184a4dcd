"""Equation (8): the smallest perturbation, and what it has to do with Proposition 1.

Program (Section II).

    minimize  ‖η‖_p   subject to  L + gᵀη ≤ 0                                         (8)

Lagrangian, λ ≥ 0.   ‖η‖_p + λ(L + gᵀη).

Dual. The infimum over η of ‖η‖_p + λgᵀη is 0 where ‖λg‖_q ≤ 1, and −∞ elsewhere (take η along the direction in which
λgᵀη falls faster than ‖η‖_p grows). So the dual is

    maximize  λL   subject to  λ ≥ 0, λ‖g‖_q ≤ 1,

which for L > 0 and g ≠ 0 is solved by λ = 1/‖g‖_q, with value L/‖g‖_q.

Optimum. The direction of (6), made as long as it must be for gᵀη = −L:

    η = −L sign(g) |g|^{q−1} / ‖g‖_q^q,    since gᵀη = −L Σ|g_i|^q / ‖g‖_q^q = −L,

and ‖η‖_p = L ‖g‖_q^{q−1} / ‖g‖_q^q = L/‖g‖_q: the bound is attained. p = 1: all on a largest |g_i|, η_i = −L/g_i.
Where L ≤ 0, η = 0 satisfies the inequality and nothing is shorter. Where g = 0 < L no η does: infeasible.

Proposition 1 again. (GN) with ε' is feasible if and only if ε'‖g‖_q > L, that is if ε' exceeds the optimum of (8). So
the optimum of (8) is the infimum of the radii for which (GN) has a solution; it is not attained, because (GN) is
strict and (8) is not.

The check. The norm of the library's η against the optimum, relative to it, by HiGHS (through scipy) for p ∈ {1, ∞},
by SCS for the others (Clarabel where it does not converge), and against L/‖g‖_q in fifty digits; L + gᵀη ≤ 0 in
rational numbers. Then (GN) at radii one part in 10⁹ above and below that norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

import convexattack as ca
from verification import oracles
from verification.claims import CONIC, LINEAR, Finding, claim
from verification.draws import NORMS, gradients, scales, tensors, word

TIGHT = ca.Tolerance.closed_form().at(torch.float64)


@claim(
    "−L sign(g)|g|^{q−1}/‖g‖_q^q solves (8), and its norm is the infimum of the radii at which (GN) is feasible",
    "Section II, (8), with Proposition 1",
    cases=[(p, d) for p in NORMS for d in (1, 3, 30)],
    small=4,
    full=40,
    formulas=(
        r"\min_\eta\|\eta\|_p\quad\text{s.t.}\quad L+g^{T}\eta\le0\qquad(8)",
        r"\max_{\lambda\ge0}\lambda L\quad\text{s.t.}\quad\lambda\|g\|_q\le1",
        r"\eta=-L\,\frac{\operatorname{sign}(g)\,|g|^{q-1}}{\|g\|_q^{q}},\qquad\|\eta\|_p=\frac{L}{\|g\|_q}",
    ),
)
def check(case: tuple[float, int], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, d = case
    g = gradients(rng, n, d)
    g[(g == 0).all(1), 0] = 1.0
    g *= scales(rng, n)[:, None]
    L = scales(rng, n)
    value, gradient = tensors(L, g)
    found = ca.solve(ca.MinNorm(value, gradient, ca.Lp(p)))
    eta, optimal = found.eta.numpy(), found.status == ca.Status.OPTIMAL
    where = f"{word(p)}, d = {d}"

    length = np.array([float(oracles.digits_norm(row, p)) for row in eta])
    gap = [float(abs(oracles.digits_norm(eta[i], p) * oracles.digits_dual(g[i], p) / L[i] - 1)) for i in range(n)]
    yield Finding("50 digits, L/‖g‖_q", np.where(optimal, gap, np.inf), TIGHT, where)

    left = [
        oracles.rational([L[i]])[0] + oracles.rational_dot(oracles.rational(g[i]), oracles.rational(eta[i])) > 0
        for i in range(n)
    ]
    yield Finding("fractions, L + gᵀη ≤ 0", left, 0, where)

    linear = p in (1, math.inf)
    least = np.array(
        [(oracles.shortest_by_linprog if linear else oracles.shortest_by_cone)(L[i], g[i], p) for i in range(n)]
    )
    yield Finding(
        "HiGHS by scipy" if linear else "SCS, or Clarabel",
        np.abs(length / least - 1),
        LINEAR if linear else CONIC,
        where,
    )

    for factor, expected in ((1 + 1e-9, ca.Status.FEASIBLE), (1 - 1e-9, ca.Status.INFEASIBLE)):
        (eps,) = tensors(length * factor)
        verdict = ca.solve(ca.GN(value, gradient, (ca.Ball(ca.Lp(p), eps),))).status
        yield Finding("(GN) at ε = (1 ± 1e-9) times that norm", verdict != expected, 0, where)

    none, flat = torch.zeros_like(gradient), torch.zeros_like(value)
    still = [
        (ca.solve(ca.MinNorm(-value, gradient, ca.Lp(p))).eta != 0).any(1).numpy(),
        (ca.solve(ca.MinNorm(flat, none, ca.Lp(p))).eta != 0).any(1).numpy(),
        ca.solve(ca.MinNorm(value, none, ca.Lp(p))).status != ca.Status.INFEASIBLE,
    ]
    yield Finding("L ≤ 0 gives η = 0; g = 0 < L is infeasible", np.any(still, axis=0), 0, where)
