"""The dual norm: sup {aᵀη : ‖η‖_p ≤ 1} = ‖a‖_q with q = p/(p − 1), the one tool of both propositions.

Program (proof of Proposition 1).

    maximize  aᵀη   subject to  ‖η‖_p ≤ 1                                             ‖a‖_p*

Lagrangian and dual. Hölder: aᵀη ≤ Σ|a_i||η_i| ≤ ‖a‖_q‖η‖_p, so ‖a‖_q is a bound. (In the words of proposition_2.py: the
only dual point is v = a, and the support function of the unit ball at it is ‖a‖_q. There is nothing else to choose.)

Optimum. η = sign(a)|a|^{q−1}/‖a‖_q^{q−1} has ‖η‖_p = 1, as (q − 1)p = q, and aᵀη = Σ|a_i|^q/‖a‖_q^{q−1} = ‖a‖_q. The
supremum is a maximum. p = 1 has q = ∞ (the paper's p/(p − 1) is its limit): e_i for a largest |a_i|; p = ∞ has q = 1:
the signs.

Twice. The dual of the dual norm is the norm, q/(q − 1) = p: ‖η‖_p = max {aᵀη : ‖a‖_q ≤ 1}.

The check. The library's `dual`, and its `steepest` direction −η, on vectors of all scales. In fifty digits: ‖a‖_q, that
‖η‖_p ≤ 1, and that the direction attains −‖a‖_q; HiGHS (through scipy) for p ∈ {1, ∞} and SCS for the others solve the
program itself. The dual of the dual: `Lp(q).dual` against ‖·‖_p in fifty digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

import convexattack as ca
from verification import oracles
from verification.claims import CONIC, LINEAR, Finding, claim
from verification.draws import NORMS, gradients, scales, word

TIGHT = ca.Tolerance.closed_form().at(torch.float64)


@claim(
    "the dual of ‖·‖_p is ‖·‖_q with q = p/(p − 1), it is attained, and the dual of the dual is ‖·‖_p",
    "Section II, proof of Proposition 1",
    cases=[(p, d) for p in NORMS for d in (1, 4, 20)],
    small=4,
    full=60,
    formulas=(r"\|a\|_p^{*}=\sup\{a^{T}\eta:\|\eta\|_p\le 1\}=\|a\|_q,\qquad \frac1p+\frac1q=1",),
)
def check(case: tuple[float, int], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, d = case
    a = gradients(rng, n, d)
    a[(a == 0).all(1), 0] = 1.0
    a *= scales(rng, n)[:, None]
    norm, rows = ca.Lp(p), torch.from_numpy(a)
    value, eta = norm.dual(rows).numpy(), norm.steepest(rows).numpy()
    where = f"{word(p)}, d = {d}"

    exact = [oracles.digits_dual(row, p) for row in a]
    yield Finding("50 digits: ‖a‖_q", [float(abs(v / e - 1)) for v, e in zip(value, exact, strict=True)], TIGHT, where)
    attained = [abs(oracles.digits_dot(row, step) / e + 1) for row, step, e in zip(a, eta, exact, strict=True)]
    outside = [max(oracles.digits_norm(step, p) - 1, 0) for step in eta]
    yield Finding(
        "50 digits: attained, within the ball",
        [float(max(x)) for x in zip(attained, outside, strict=True)],
        TIGHT,
        where,
    )
    twice = ca.Lp(norm.q).dual(rows).numpy()
    back = [float(abs(v / oracles.digits_norm(row, p) - 1)) for v, row in zip(twice, a, strict=True)]
    yield Finding("50 digits: the dual of the dual", back, TIGHT, where)

    linear = p in (1, math.inf)
    largest = [-(oracles.least_by_linprog if linear else oracles.least_by_cone)(row, p, 1.0) for row in a]
    yield Finding(
        "HiGHS by scipy" if linear else "SCS, or Clarabel",
        np.abs(value / largest - 1),
        LINEAR if linear else CONIC,
        where,
    )
