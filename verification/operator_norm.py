"""(9), the operator norm: what `solve` attains and what `certify` proves enclose the optimum, for every p and every
kind of Jacobian.

Program (Section III, regression).

    maximize  ‖Jη‖₂   subject to  ‖η‖_p ≤ ε                                             (9)

Two ways to read it. max_w wᵀJη over ‖w‖₂ ≤ 1 is ‖Jη‖₂, and max_η wᵀJη over the ball is ε‖Jᵀw‖_q, so

    ε‖J‖_{p→2} = max { ε‖Jᵀw‖_q : ‖w‖₂ = 1 }.

A convex function on a ball has its maximum at an extreme point. p = 1: one of the 2d points ±εe_i, so ε max_i ‖j_i‖₂.
p = ∞: one of the 2^d vertices, and no way around them in general (the problem is NP-hard). 1 < p < ∞: for m = 2 or
d = 2 a function of one angle.

Lagrangian and dual. For p ≥ 2 and y > 0, ‖Jη‖₂² ≤ λ_max(J Diag(1/y) Jᵀ) Σ y_iη_i², by Cauchy and Schwarz for
Diag(y)^{1/2}η, and Σ y_iη_i² ≤ ε²‖y‖_σ, σ = p/(p − 2), by Hölder's inequality for p/2. So for every y > 0

    optimum ≤ ε (λ_max(J Diag(1/y) Jᵀ) ‖y‖_σ)^{1/2}.

operator_norm_sdp.py derives the best y. For p < 2, with 1/p = (1 − θ) + θ/2, that is θ = 2/q, Riesz and Thorin say
‖J‖_{p→2} ≤ ‖J‖_{1→2}^{1−θ} ‖J‖_{2→2}^θ; and for an orthogonal U, ‖Jη‖₂² = Σ_k (UJη)_k² ≤ ε² Σ_k ‖(UJ)_k‖_q².

Optimum. p = 1 is the longest column, p = 2 the top singular pair. Elsewhere the optimum lies between primal and dual,
and is known where J has rank one or two (p = ∞: Jᵀw(θ) changes its signs at d angles only) or d ≤ 20 and all signs are
tried.

The check. Jacobians of sixteen kinds, of any scale, from 1 × 1 to 5 × 16 and 3 × 20, d < m as well; d = 10, 15 and 16
are next to m(m + 1)/2, where the relaxation changes its method. The best η is found by enumeration of all signs
(p = ∞), of the columns (p = 1), by LAPACK's SVD (p = 2), on a grid of the one angle with alternation from its 32 best
points (m = 2 or d = 2), or by alternation from 1,024 random starts. In fifty digits ‖Jη‖₂/‖η‖_p of that η must not
exceed the library's bound, not by one bit; the library's own η must lie in the ball, again in fifty digits, and attain
what is said of it. Not exceeding the optimum, and equality where `stats["exact"]` says so, are judged to 1e-12. The
bracket of the relaxation itself is computed again from (y, F) in NumPy, from other formulas (singular values instead of
eigenvalues), and its relative gap must not exceed 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import mpmath
import numpy as np

import convexattack as ca
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import jacobians, scales, tensors, word

TIGHT = 1e-12
GAP = 1e-8
FEW = ((1, 7), (7, 1), (2, 9), (5, 2), (4, 9), (4, 10), (10, 4))
SHAPES = ((1, 1), (1, 7), (7, 1), (2, 2), (2, 9), (5, 2), (3, 6), (4, 9), (4, 10), (10, 4), (5, 12), (5, 16), (3, 20))
NORMS = (1.0, 1.01, 1.5, 2.0, 2.0001, 2.5, math.pi, 10.0, math.inf)


@claim(
    "the optimum of (9) lies between primal and dual, is primal where the solver says so, "
    "and the relaxation is solved to a gap of 1e-8",
    "Section III, (9)",
    cases=[(p, m, d) for p in NORMS for m, d in (SHAPES if p == math.inf else FEW)],
    small=16,
    full=64,
    formulas=(
        r"\max_\eta\|J\eta\|_2\quad\text{s.t.}\quad\|\eta\|_p\le\varepsilon\qquad(9)",
        r"\varepsilon\|J\|_{1\to2}=\varepsilon\max_k\|j_k\|_2,\qquad"
        r"\varepsilon\|J\|_{2\to2}=\varepsilon\,\sigma_{\max}(J)",
        r"p\ge2,\;y>0:\quad\varepsilon\|J\|_{p\to2}\le"
        r"\varepsilon\sqrt{\lambda_{\max}(J\operatorname{Diag}(1/y)J^{T})\,\|y\|_{p/(p-2)}}",
    ),
)
def check(case: tuple[float, int, int], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, m, d = case
    J, eps = jacobians(rng, n, m, d), scales(rng, n)
    jacobian, radius = tensors(J, eps)
    program = ca.OperatorNorm(jacobian, ca.Ball(ca.Lp(p), radius))
    found = ca.solve(program)
    certificate = ca.certify(program, found)
    primal, dual = certificate.primal.numpy(), certificate.dual.numpy()
    where = f"{word(p)}, {m} × {d}"

    judge, best = _best(J, p)
    with mpmath.workdps(oracles.DIGITS):
        reached = [oracles.digits_stretch(J[i], best[i], p) * mpmath.mpf(eps[i]) for i in range(n)]
    own = found.eta.numpy()
    said = [_length(J[i], own[i]) for i in range(n)]
    above = [not mpmath.mpf(dual[i]) >= max(reached[i], said[i]) for i in range(n)]
    yield Finding("50 digits: no η goes beyond the bound", above, 0, where)
    yield Finding(
        "50 digits: the library's η is in the ball",
        [not oracles.digits_norm(own[i], p) <= eps[i] for i in range(n)],
        0,
        where,
    )
    yield Finding("50 digits: ‖Jη‖₂ is what is said", [_apart(primal[i], said[i]) for i in range(n)], TIGHT, where)

    complete = p in (1, 2, math.inf) or min(m, d) <= 2
    if complete:
        yield Finding(
            f"{judge}: η is not better than the best",
            [max(0.0, _over(said[i], reached[i])) for i in range(n)],
            TIGHT,
            where,
        )
        exact = found.stats["exact"].numpy()
        claimed = [_apart(said[i], reached[i]) if exact[i] else 0.0 for i in range(n)]
        yield Finding(f"{judge}: exact means the best", claimed, TIGHT, where)
    if p in (1, 2):
        yield Finding(f"{judge}: the bound is the best", [_apart(dual[i], reached[i]) for i in range(n)], TIGHT, where)
    if p == math.inf:
        trying = ca.solve(program, "enumeration").eta.numpy()
        each = [_apart(_length(J[i], trying[i]), reached[i]) for i in range(n)]
        yield Finding(f"{judge}: solver='enumeration' finds the best", each, TIGHT, where)
    if p >= 2:
        y, F = (part.numpy() for part in found.multipliers)
        pairs = [oracles.relaxed(J[i], p, y[i], F[i]) for i in range(n)]
        gaps = [(high - low) / high if high > 0 else 0.0 for low, high in pairs]
        yield Finding("NumPy, from (y, F): gap of the relaxation", np.abs(gaps), GAP, where)
        yield Finding(
            "NumPy, from y: the bound", [_apart(dual[i], eps[i] * pairs[i][1]) for i in range(n)], 1e-10, where
        )


def _best(J: np.ndarray, p: float) -> tuple[str, np.ndarray]:
    if p == 1:
        return "columns", oracles.stretching_column(J)
    if p == 2:
        return "SVD by scipy", oracles.stretching_vector(J)
    if p == math.inf:
        return "all signs", oracles.stretching_signs(J)
    return "grid of angles", oracles.stretching(J, p)


def _length(J: np.ndarray, eta: np.ndarray) -> mpmath.mpf:
    """‖Jη‖₂ to 50 digits."""
    with mpmath.workdps(oracles.DIGITS):
        return mpmath.sqrt(mpmath.fsum(oracles.digits_dot(row, eta) ** 2 for row in J))


def _over(a: float | mpmath.mpf, b: mpmath.mpf | float) -> float:
    """a/b − 1, and 0/0 is 1."""
    if b == 0:
        return 0.0 if a == 0 else math.inf
    return float(mpmath.mpf(a) / b - 1)


def _apart(a: float | mpmath.mpf, b: mpmath.mpf | float) -> float:
    return abs(_over(a, b))
