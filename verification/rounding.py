"""p = ∞: the relaxation of (9) is never more than √(π/2) times the optimum, and drawing random signs shows it.

Program. (9) with p = ∞, ε = 1, maximize ‖Jη‖₂ over the signs η ∈ {−1, 1}^d, and its relaxation, maximize ⟨JᵀJ, X⟩ over
X ⪰ 0 with diag X ≤ 1 (operator_norm_sdp.py), whose optimum is the square of the bound.

Lagrangian and dual: operator_norm_sdp.py. The m × m program gives W, and with s_i = (j_iᵀWj_i)^{1/2} and
v_i = W^{1/2}j_i/s_i the matrix X = (v_iᵀv_j) has a unit diagonal. It is an optimal X: at the optimum GW = λW for G = Σ
j_ij_iᵀ/s_i, λ = Σ s_i the bound (the derivative of Σ s_i with multiplier λ for tr W = 1), so ⟨JᵀJ, X⟩ = tr GWG = λ² tr
W = λ².

Optimum, rounded (Nesterov). Draw z ~ N(0, I), η = sign(JᵀW^{1/2}z), η_i = sign(v_iᵀz). By Grothendieck's identity E
η_iη_j = (2/π) arcsin v_iᵀv_j, so E‖Jη‖₂² = (2/π)⟨JᵀJ, arcsin[X]⟩. The Taylor coefficients of arcsin t − t are not
negative, and powers entry by entry keep X ⪰ 0 (Schur): arcsin[X] ⪰ X. Therefore

    E‖Jη‖₂² ≥ (2/π) ⟨JᵀJ, X⟩ = (2/π) bound²,    and the optimum is at least √(2/π) = 0.798 times the bound.

The check. W = FFᵀ comes from the library's multipliers, the bound from its certificate; everything else is NumPy's. The
mean above from arcsin[X] must not be below 2/π of the bound², to 1e-7, as W is optimal to 1e-8; so must the mean of
many draws be, within five of its standard errors. The draws must have the mean that arcsin[X] says, within five as
well; and so must the library's own, few, draws, stats["rounding_ratio"]. (One over the number of draws is added to a
standard error, for signs that change too seldom to be seen.) The η that the library returns must not be worse than
their mean (to 1e-5: the draws are made in float32).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import convexattack as ca
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import jacobian, tensors

Array = NDArray[np.float64]
DRAWS = 4000
OWN = 48  # draws of the library's own
KINDS = (
    "normal", "log-normal columns", "±1", "orthogonal", "rows that sum to 0", "zero columns", "equal columns", "rank 2",
    "small integers",
)  # fmt: skip


@claim(
    "Gaussian signs drawn from the optimal W attain 2/π of the squared bound in the mean, "
    "so bound ≤ √(π/2) times the optimum",
    "Section III, (9), p = ∞",
    cases=[(1, 6), (2, 9), (3, 12), (5, 30), (10, 10), (10, 100), (20, 12), (12, 60)],
    small=9,
    full=90,
    formulas=(
        r"\eta=\operatorname{sign}(J^{T}W^{1/2}z),\quad z\sim N(0,I)",
        r"E\|J\eta\|_2^2=\tfrac2\pi\langle J^{T}J,\arcsin[X]\rangle"
        r"\ge\tfrac2\pi\langle J^{T}J,X\rangle=\tfrac2\pi\,\text{bound}^2",
    ),
)
def check(case: tuple[int, int], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    m, d = case
    J = np.stack([jacobian(rng, KINDS[k % len(KINDS)], m, d) for k in range(n)])
    J[~J.any((1, 2)), 0, 0] = 1.0
    (jacobians,) = tensors(J)
    program = ca.OperatorNorm(jacobians, ca.Ball(ca.Lp(math.inf), 1.0))
    found = ca.solve(program)
    certificate = ca.certify(program, found)
    primal, bound = certificate.primal.numpy(), certificate.dual.numpy()
    F, own = found.multipliers[1].numpy(), found.stats["rounding_ratio"].numpy()
    where = f"{m} × {d}"

    judged = [_judged(J[i], F[i], primal[i], bound[i], own[i], rng) for i in range(n)]
    for (oracle, tolerance), each in zip(JUDGES.items(), np.array(judged).T, strict=True):
        yield Finding(oracle, each, tolerance, where)


JUDGES = {
    "arcsin[X]: the mean is at least 2/π": 1e-7,
    "NumPy: arcsin[X] − X ⪰ 0": 1e-11,
    f"{DRAWS:,} draws: at least 2/π, in standard errors": 5.0,
    f"{DRAWS:,} draws: the mean is that of arcsin[X], in standard errors": 5.0,
    "arcsin[X]: stats['rounding_ratio'], in standard errors": 5.0,
    "the η returned is at least the mean of the library's own draws": 1e-5,
}


def _judged(J: Array, F: Array, primal: float, bound: float, own: float, rng: np.random.Generator) -> tuple[float, ...]:
    """What the judges say of one item, in their order."""
    expected, X, angles = oracles.expected_square(J, F)
    expected /= bound**2
    squares = oracles.rounded_squares(J, F, rng, DRAWS) / bound**2
    mean, spread = float(squares.mean()), float(squares.std(ddof=1))
    error = spread / math.sqrt(DRAWS) + 1 / DRAWS
    return (
        max(0.0, 2 / math.pi - expected),
        max(0.0, -float(np.linalg.eigvalsh(angles - X)[0])),
        max(0.0, (2 / math.pi - mean) / error),
        abs(mean - expected) / error,
        abs(own - expected) / (spread / math.sqrt(OWN) + 1 / OWN),
        max(0.0, own * (bound / primal) ** 2 - 1),
    )
