"""Proposition 2: equation (6) is the solution of (GNII), for every p in [1, ∞].

Program (Section II).

    minimize  L + gᵀη   subject to  ‖η‖_p ≤ ε                                         (GNII)

Lagrangian. Give the constraint, written η − z = 0 with z in the ball, the multiplier v:

    L + gᵀη + vᵀ(η − z),   z in the ball, η free.

Dual. The infimum over the free η is −∞ unless v = −g; then what remains is L − sup {vᵀz : ‖z‖_p ≤ ε} = L − ε‖v‖_q.
There is one dual point, v = −g, and it bounds every η of the ball from below (weak duality; for the paper, the
definition of the dual norm):

    L + gᵀη ≥ L − ε‖g‖_q.

Optimum. Equality in Hölder's inequality |gᵀη| ≤ ‖g‖_q ‖η‖_p needs |η_i|^p proportional to |g_i|^q, hence |η_i| to
|g_i|^{q/p} = |g_i|^{q−1}, and opposite signs. Scaled to length ε (for (q − 1)p = q, ‖ |g|^{q−1} ‖_p = ‖g‖_q^{q/p} =
‖g‖_q^{q−1}):

    η = −ε sign(g) |g|^{q−1} / ‖g‖_q^{q−1}.                                           (6)

Then gᵀη = −ε Σ|g_i|^q / ‖g‖_q^{q−1} = −ε‖g‖_q: the bound is attained, so both are optimal and strong duality holds
without a theorem.

The ends. p = ∞ has q = 1 and |g_i|⁰ = 1: equation (7), see sign.py. p = 1 has q = ∞, where (6) has no meaning as it
stands; its limit q → ∞ puts all of ε on a largest |g_i|, and any such coordinate attains −ε max|g_i|. (g/‖g‖₁, which
some libraries take, does not.) Where g = 0 every η of the ball is optimal.

The check. The value gᵀη of the library's η against the least one, relative to ε‖g‖_q, and how far η is outside the
ball, relative to ε: by HiGHS (through scipy) for p ∈ {1, ∞}, by SCS for the others (Clarabel where it does not
converge), by the bound of weak duality in fifty digits for all. And no random point of the ball, near η or not, may
be better.
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
    "(6) attains the least value L − ε‖g‖_q of (GNII)",
    "Section II, Proposition 2, (6)",
    cases=[(p, d) for p in NORMS for d in (1, 3, 30)],
    small=4,
    full=40,
    formulas=(
        r"\min_\eta\{L+g^{T}\eta\}\quad\text{s.t.}\quad\|\eta\|_p\le\varepsilon\qquad\text{(GNII)}",
        r"\eta=-\varepsilon\,\frac{\operatorname{sign}(g)\,|g|^{q-1}}{\|g\|_q^{q-1}}\qquad(6)",
        r"L+g^{T}\eta=L-\varepsilon\|g\|_q\quad\text{(primal = dual)}",
    ),
)
def check(case: tuple[float, int], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, d = case
    g = gradients(rng, n, d) * scales(rng, n)[:, None]
    radius = scales(rng, n)
    value, gradient, eps = tensors(rng.standard_normal(n) * radius * np.abs(g).max(1), g, radius)
    found = ca.solve(ca.GNII(value, gradient, (ca.Ball(ca.Lp(p), eps),)))
    eta, optimal = found.eta.numpy(), found.status == ca.Status.OPTIMAL
    where = f"{word(p)}, d = {d}"

    gap, outside = np.zeros(n), np.zeros(n)
    for i in range(n):
        bound = radius[i] * oracles.digits_dual(g[i], p)
        reached = oracles.digits_dot(g[i], eta[i])
        gap[i] = abs(reached + bound) / bound if bound else abs(reached)
        outside[i] = max(oracles.digits_norm(eta[i], p) / radius[i] - 1, 0)
    yield Finding("50 digits, bound and ball", np.where(optimal, np.maximum(gap, outside), np.inf), TIGHT, where)

    unit = np.abs(g).max(1, initial=0.0) * radius
    unit[unit == 0] = 1.0
    reached = (g * eta).sum(1)
    yield Finding(
        "random points of the ball", np.maximum(reached - _best_random(rng, g, p, radius, eta), 0) / unit, TIGHT, where
    )

    linear = p in (1, math.inf)
    least = [(oracles.least_by_linprog if linear else oracles.least_by_cone)(g[i], p, radius[i]) for i in range(n)]
    yield Finding(
        "HiGHS by scipy" if linear else "SCS, or Clarabel",
        np.abs(reached - least) / unit,
        LINEAR if linear else CONIC,
        where,
    )


def _best_random(rng: np.random.Generator, g: np.ndarray, p: float, radius: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """The least gᵀη among a hundred points of the sphere, half of them near η."""
    n, d = g.shape
    points = rng.standard_normal((n, 100, d))
    points[:, 50:] = eta[:, None] / radius[:, None, None] + 10.0 ** rng.uniform(-6, -1, (n, 50, 1)) * points[:, 50:]
    points *= radius[:, None, None] / np.linalg.norm(points, p, axis=-1, keepdims=True)
    return np.asarray(np.einsum("nkd,nd->nk", points, g).min(1))
