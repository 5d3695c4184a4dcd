"""Equality in (5): there (GN) has no solution either, which Proposition 1 leaves out.

The paper says. (GN) "is not feasible if" ε‖g‖_q < L (5); it does not say what happens elsewhere, and reads as if (GN)
were feasible there. This is so except where ε‖g‖_q = L.

Program (Section II). Find η with

    L + gᵀη < 0,   ‖η‖_p ≤ ε.                                                          (GN)

Lagrangian and dual. The multiplier v = −g of the ball bounds L + gᵀη by L − ε‖g‖_q from below (proposition_2.py).

Proof. The inequality in (GN) is strict, so L + gᵀη ≥ 0 is already enough to exclude η:

    ε‖g‖_q = L   ⇒   L + gᵀη ≥ L − ε‖g‖_q = 0 for every η of the ball   ⇒   (GN) is infeasible.

The proof in the paper shows "> 0" from "<" in (5); "≥ 0" is all it needs. And "always bigger than −ε‖g‖_q" there should
read "never less": the bound is attained.

Counterexample to the converse of Proposition 1 as it stands: p = ∞, g = (1, 2), ε = 1/2, L = 3/2. Here (5) does not
hold, 3/2 < 3/2 being false, and yet L + gᵀη ≥ 3/2 − 1/2 − 1 = 0.

Optimum. With proposition_1.py the statement is complete:  (GN) is feasible  ⇔  ε‖g‖_q > L.

The check. As in proposition_1.py, with data for which equality is equality: integer gradients, for p = 2 with an
integer ‖g‖₂, and powers of two for ε and all scales. A library that compares floating-point sums with ≤ fails here, and
so does a conic solver, for which the strict inequality cannot even be written down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from verification.claims import Finding, claim
from verification.proposition_1 import judged


@claim(
    "(GN) is infeasible at ε‖g‖_q = L too, so it is feasible if and only if ε‖g‖_q > L",
    "Section II, Proposition 1, (5), at equality",
    cases=[1.0, 2.0, math.inf],
    small=8,
    full=100,
    formulas=(
        r"\varepsilon\|g\|_q=L\;\Rightarrow\;L+g^{T}\eta\ge 0\text{ for every }\|\eta\|_p\le\varepsilon",
        r"\text{(GN) feasible}\;\Leftrightarrow\;\varepsilon\|g\|_q>L",
    ),
    slip="Proposition 1 has (5) with <; (GN) is infeasible for ≤, because its own inequality is strict.",
)
def check(case: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    yield from judged(case, "equality: ε‖g‖_q = L", 0, rng, n)
