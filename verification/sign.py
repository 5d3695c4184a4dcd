"""Equation (7): for p = ∞ the solution of (GNII) is −ε sign(g).

Program. minimize L + gᵀη subject to −ε ≤ η_i ≤ ε for every i: the ball is a cube, and both objective and
constraints fall apart into coordinates.

Lagrangian, one coordinate, multipliers a, b ≥ 0 of its two bounds:   g_i η_i + a(η_i − ε) + b(−ε − η_i).

Dual. The infimum over η_i is −∞ unless g_i + a − b = 0, and then −ε(a + b). The best choice is (a, b) = (−g_i, 0)
or (0, g_i), whichever is not negative: a + b = |g_i|. Summed up, L − ε Σ|g_i| = L − ε‖g‖₁, which is the bound of
Proposition 2 for q = 1.

Optimum. A positive multiplier needs its bound to be active (complementary slackness), so η_i = ε where g_i < 0, −ε
where g_i > 0:

    η = −ε sign(g).                                                                  (7)

Where g_i = 0 both multipliers are 0 and any η_i will do; sign(0) = 0 takes none of the budget.

The check. A linear function on the cube is least at one of its 2^d corners. All are enumerated in rational numbers,
and the least value must equal the one that the library's η reaches, exactly. No tolerance: ε sign(g) needs no
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

import convexattack as ca
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import gradients, scales, tensors


@claim(
    "for p = ∞ the solution of (GNII) is −ε sign(g)",
    "Section II, Proposition 2, (7)",
    cases=[1, 2, 5, 8],
    small=8,
    full=50,
    formulas=(r"\eta=-\varepsilon\operatorname{sign}(g)\qquad(7)",),
)
def check(case: int, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    g, radius = gradients(rng, n, case) * scales(rng, n)[:, None], scales(rng, n)
    value, gradient, eps = tensors(rng.standard_normal(n), g, radius)
    eta = ca.solve(ca.GNII(value, gradient, (ca.Ball(ca.Lp(math.inf), eps),))).eta.numpy()
    wrong = []
    for i in range(n):
        row, point, (limit,) = oracles.rational(g[i]), oracles.rational(eta[i]), oracles.rational([radius[i]])
        least = min(oracles.rational_dot(row, corner) for corner in oracles.vertices(math.inf, case, limit))
        wrong.append(oracles.rational_dot(row, point) != least or max(map(abs, point)) > limit)
    yield Finding("vertices, in fractions", wrong, 0, f"d = {case}")
    yield Finding("(7) as written, in NumPy", (eta != -radius[:, None] * np.sign(g)).any(1), 0, f"d = {case}")
