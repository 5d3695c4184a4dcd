"""Proposition 1: when (GN) has no solution, and the converse, when it has one.

Program (Section II). Find η with

    L + gᵀη < 0,   ‖η‖_p ≤ ε.                                                          (GN)

Dual norm. sup {aᵀη : ‖η‖_p ≤ 1} = ‖a‖_q with 1/p + 1/q = 1, and the supremum is attained, because the ball is
compact. By symmetry, the least value of gᵀη over the ball of radius ε is −ε‖g‖_q, and some η₀ of the ball attains
it.

Lagrangian and dual. As in proposition_2.py: the multiplier v = −g of the ball bounds L + gᵀη by L − ε‖g‖_q from
below. For every η of the ball, L + gᵀη ≥ L − ε‖g‖_q. Therefore

    ε‖g‖_q < L   ⇒   L + gᵀη > 0 for every η of the ball   ⇒   (GN) is infeasible.          (5)

Optimum, and the converse. ε‖g‖_q > L   ⇒   L + gᵀη₀ = L − ε‖g‖_q < 0   ⇒   (GN) is feasible, and η₀ is a solution.

Between the two lies ε‖g‖_q = L, of which Proposition 1 says nothing: proposition_1_equality.py. With it, (GN) is
feasible if and only if ε‖g‖_q > L.

The check. Floating-point numbers are rational numbers, so for p ∈ {1, ∞}, and for p = 2 by squares, the right
verdict is a comparison in Q. Gradients with a rational ‖g‖₂ come from reflecting an integer multiple of a unit
vector at an integer vector; ε and all scales are powers of two. For p ∈ {1, ∞} the
corners of the ball say the same without any duality: a linear function is least at a corner. Other p: fifty digits
decide margins of one in 10⁹, SCS margins of one in 10³. A claim FEASIBLE is right only if its η satisfies (GN) in Q
(in fifty digits, for other p).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

import convexattack as ca
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import gradients, tensors, word

RELATIONS = {"(5): ε‖g‖_q < L": 1, "converse: ε‖g‖_q > L": -1}
MARGINS = (1e-2, 1e-6, 1e-9)
Array = NDArray[np.float64]


@claim(
    "(GN) is infeasible under (5), ε‖g‖_q < L, and feasible where ε‖g‖_q > L",
    "Section II, Proposition 1, (5)",
    cases=[
        *((p, side) for p in (1.0, 2.0, math.inf) for side in RELATIONS),
        (1.5, ""),
        (3.0, ""),
        (math.pi, ""),
        (10.0, ""),
    ],
    small=8,
    full=100,
    formulas=(
        r"\text{find }\eta:\quad L+g^{T}\eta<0,\quad \|\eta\|_p\le\varepsilon\qquad\text{(GN)}",
        r"\varepsilon\|g\|_q<L\;\Rightarrow\; L+g^{T}\eta\ge L-\varepsilon\|g\|_q>0\;\Rightarrow\;"
        r"\text{infeasible}\qquad (5)",
    ),
)
def check(case: tuple[float, str], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, side = case
    yield from judged(p, side, RELATIONS[side], rng, n) if side else _other_norms(p, rng, n)


def judged(p: float, side: str, sign: int, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    """Instances with ε‖g‖_q below (sign 1), at (0) or above (−1) L, in rational numbers and by the ball's vertices."""
    value, g, radius = _exact(p, sign, rng, n)
    eta, status = _solve(value, g, p, radius)
    wrong, by_corner = [], []
    for i in range(n):
        L, row, eps = Fraction(value[i]), oracles.rational(g[i]), Fraction(radius[i])
        feasible = _longer(eps, row, p, L)
        wrong.append(not _right(status[i], feasible) or (feasible and not _solves(L, row, eps, p, eta[i])))
        if p != 2:
            by_corner.append(
                _right(status[i], any(L + oracles.rational_dot(row, v) < 0 for v in oracles.vertices(p, len(row), eps)))
            )
    yield Finding(f"fractions, {side}", wrong, 0, word(p))
    if by_corner:
        yield Finding(f"vertices, {side}", ~np.array(by_corner), 0, word(p))


def _exact(p: float, side: int, rng: np.random.Generator, n: int) -> tuple[Array, Array, Array]:
    """L, g, ε with ε‖g‖_q below, at or above L by a margin, everything exactly representable when it is at."""
    w = rng.integers(-9, 10, (n, 5)).astype(float)
    w[:, 0] = np.where(w[:, 0] == 0, 1, w[:, 0])
    if p == 2:  # the reflection of |w|² e₁ at w: an integer vector of length |w|²
        length = (w * w).sum(1)
        g = 2 * w[:, :1] * w
        g[:, 0] -= length
    else:
        g = w
        length = np.abs(w).max(1) if p == 1 else np.abs(w).sum(1)
    radius, scale = (np.exp2(rng.integers(-30, 30, n).astype(float)) for _ in range(2))
    return radius * scale * length * (1 + side * rng.choice(MARGINS, n)), scale[:, None] * g, radius


def _solve(value: Array, g: Array, p: float, radius: Array) -> tuple[Array, NDArray[np.object_]]:
    L, gradient, eps = tensors(value, g, radius)
    found = ca.solve(ca.GN(L, gradient, (ca.Ball(ca.Lp(p), eps),)))
    return found.eta.numpy(), found.status


def _right(status: ca.Status, feasible: bool) -> bool:
    return status is (ca.Status.FEASIBLE if feasible else ca.Status.INFEASIBLE)


def _longer(eps: Fraction, g: list[Fraction], p: float, L: Fraction) -> bool:
    """ε‖g‖_q > L in Q; for p = 2 as squares."""
    if p == 2:
        return L < 0 or eps * eps * sum(x * x for x in g) > L * L
    return eps * (max(map(abs, g)) if p == 1 else sum(map(abs, g))) > L


def _solves(L: Fraction, g: list[Fraction], eps: Fraction, p: float, eta: Array) -> bool:
    """Whether η satisfies (GN) in Q."""
    if not np.isfinite(eta).all():
        return False
    point = oracles.rational(eta)
    size, limit = {
        1: (sum(map(abs, point)), eps),
        2: (sum(x * x for x in point), eps * eps),
        math.inf: (max(map(abs, point)), eps),
    }[p]
    return L + oracles.rational_dot(g, point) < 0 and size <= limit


def _other_norms(p: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    """Both sides of the threshold, where it is irrational: by fifty digits close to it, by SCS further away."""
    g = gradients(rng, n, 5)
    g[:, 0] += np.where((g == 0).all(1), 1.0, 0.0)
    radius = np.exp2(rng.integers(-20, 20, n).astype(float))
    side = rng.choice([-1, 1], n)
    for margin, oracle in ((1e-9, "50 digits"), (1e-3, "SCS")):
        reach = radius * np.array([float(oracles.digits_dual(row, p)) for row in g])
        value = reach * (1 + margin * side)
        eta, status = _solve(value, g, p, radius)
        wrong = []
        for i in range(n):
            if oracle == "SCS":
                feasible = oracles.feasible_by_cone(value[i], g[i], p, radius[i])
            else:
                feasible = bool(radius[i] * oracles.digits_dual(g[i], p) > value[i])
            reached = value[i] + oracles.digits_dot(g[i], eta[i])
            solves = not feasible or (reached < 0 and oracles.digits_norm(eta[i], p) <= radius[i])
            wrong.append(not (_right(status[i], feasible) and solves))
        yield Finding(f"{oracle}, margins ±{margin:g}", wrong, 0, word(p))
