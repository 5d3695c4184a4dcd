"""One million random programs, each with its own proof; ten thousand of them in exact arithmetic; none refuted.

Programs. (GN), (GNII) and (8) in 4, 16 and 64 dimensions, for eight norms; without a box, with a box around 0 and with
one that leaves 0 out; in three dtypes; gradients with ties, zeros, heavy tails and entries decades apart, scales from
1e−12 to 1e+12 (1e±1.5 in float16).

Lagrangian and dual. For any v_j with Σ v_j = −g weak duality bounds L + gᵀη over ∩ C_j by L − Σ σ_j(v_j) from below
(other_constraints.py); for (8) and λ ≥ 0, u = −λg − Σ v_j with ‖u‖_q ≤ 1, it bounds ‖η‖_p by λL − Σ σ_j(v_j). Nothing
else is needed to judge a claim, and whoever made it need not be trusted:

    OPTIMAL       η is in the sets, and the bound is within the tolerance of what η attains;
    FEASIBLE      η is in the sets, and L + gᵀη < 0;
    INFEASIBLE    for (GN) the bound is not negative; for (8) the bound of L + gᵀη over the box is positive.

Optimum. The closed forms attain the bound to 1e-12 of the program's scale in float64, 1e-6 in float32, 1e-3 in float16.

The check. Here the library's own certificate is the judge, which shares no code with the closed forms and sees only the
program and the claimed vectors; what it says in float64 is within the tight tolerance for all. Of about one program in
a hundred it then judges the same claim in exact arithmetic: floats are rational numbers, irrational powers are enclosed
by balls, membership is exact to the last bit. A claim that is REFUTED, or that exact arithmetic cannot prove, counts as
wrong. INEXACT and UNDECIDED claim nothing; they are counted as abstained. (The other files judge the certificates'
mathematics, by solvers and numbers that are not the library's.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

import convexattack as ca
from verification.claims import Finding, claim
from verification.draws import BOXES, NORMS, TYPES, programs, word

KINDS = ("(GN)", "(GNII)", "(8)")
EXACT = 100  # one program in so many


@claim(
    "what the closed forms claim is proved by their own multipliers, in float64 and in exact arithmetic; "
    "nothing is refuted",
    "Section II, (GN), (GNII), (8)",
    cases=[
        (kind, p, box, name, d) for kind in KINDS for p in NORMS for box in BOXES for name in TYPES for d in (4, 16, 64)
    ],
    small=3,
    full=1544,
    formulas=(
        r"\sum_j v_j=-g\;\Rightarrow\;L+g^{T}\eta\;\ge\;L-\sum_j\sigma_{C_j}(v_j)"
        r"\quad\text{for every }\eta\in\bigcap_j C_j",
        r"\lambda\ge0,\;\left\|\lambda g+\sum_j v_j\right\|_q\le1\;\Rightarrow\;"
        r"\|\eta\|_p\ge\lambda L-\sum_j\sigma_{C_j}(v_j)",
    ),
)
def check(case: tuple[str, float, str, str, int], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    kind, p, box, name, d = case
    dtype = TYPES[name]
    program = programs(rng, n, kind, p, box, dtype, d)
    found = ca.solve(program, "closed_form")
    claims = (found.status != ca.Status.INEXACT) & (found.status != ca.Status.UNDECIDED)
    where = f"{kind}, {word(p)}, {box}, {name}, d = {d}"

    tight = ca.Tolerance.closed_form(dtype)
    held = ca.certify(program, found).holds(tight).numpy()
    yield Finding(f"certificate in float64, {name}", claims & ~held, 0, where, int((~claims).sum()))

    some = torch.from_numpy(np.sort(rng.choice(n, math.ceil(n / EXACT), replace=False)))
    few = program[some]
    proof = ca.certify(few, ca.solve(few, "closed_form"), exact=True)
    proved = proof.verdict == ca.Verdict.PROVED
    said = claims[some.numpy()]
    yield Finding(f"certificate in exact arithmetic, {name}", said & ~proved, 0, where, int((~said).sum()))
