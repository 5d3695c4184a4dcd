"""Verdicts near a tie: no margin is so small that the library says FEASIBLE or INFEASIBLE where rational numbers say
the opposite.

Program. (GN) over a ball, and over ball ∩ box; and (8) over a box, which is infeasible where no corner of the box
is good enough.

    find η:  L + gᵀη < 0,  ‖η‖_p ≤ ε,  l ≤ η ≤ u;              minimize ‖η‖_p:  L + gᵀη ≤ 0,  l ≤ η ≤ u.

Lagrangian and dual: proposition_1.py for the ball. With a box around 0 let c_i be what the box leaves in the
direction −sign(g_i), that is u_i or −l_i. The largest possible decrease −gᵀη is, for p = ∞ and for p = 1,

    D = Σ|g_i| min(ε, c_i),        D = max { Σ|g_i|a_i : 0 ≤ a_i ≤ c_i, Σa_i ≤ ε },

the second a knapsack that is filled by descending |g_i|; without a ball D = Σ|g_i|c_i. All are rational. Optimum:
(GN) is feasible if and only if D > L, and (8) if and only if D ≥ L.

What must be true of a verdict. In floating point D and L cannot be told apart once their distance is below the
rounding errors of the sum. A solver that compares them all the same is wrong on some instances; conic solvers,
which stop at 1e-8 or so, on many. The library may answer UNDECIDED for (GN), and its certificate may refuse a claim
of (8); neither may contradict D and L. So for (GN) the claim is: FEASIBLE and INFEASIBLE are never wrong. For (8):
where the certificate holds and has proved INFEASIBLE, it is never wrong; and where it does not hold, D and L are
closer than its tolerance. INEXACT, where the dtype of η cannot hold the answer, claims nothing; but what is infeasible
by more than the tolerance is infeasible in every dtype, and has to be called so.

The check. L = D(1 ± δ), δ from 1e-3 to 1e-16, rounded to the dtype, gradients of any scale; then D > L in rational
numbers, from the rounded data. For p = 2 (no box) the squares ε²Σg_i² and L² are compared.
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
from verification.draws import boxes, gradients, scales, word

DIMENSION = 12
TYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}


@claim(
    "no verdict of (GN), and no proof that (8) is infeasible, is wrong, however near the tie",
    "Section II, (GN), Proposition 1 and (8)",
    cases=[
        *((p, "(GN)", dtype) for p in (1.0, 2.0, math.inf) for dtype in TYPES),
        *((p, "(GN) with a box", dtype) for p in (1.0, math.inf) for dtype in TYPES),
        *((p, "(8) with a box", dtype) for p in (1.0, 2.0, math.inf) for dtype in TYPES),
    ],
    small=28,
    full=400,
    formulas=(
        r"\text{(GN) feasible}\Leftrightarrow D>L,\qquad\text{(8) feasible}\Leftrightarrow D\ge L,\qquad"
        r" D=\max_{\eta\in C}\,-g^{T}\eta",
    ),
)
def check(case: tuple[float, str, str], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, kind, dtype = case
    decades = 1.0 if dtype == "float16" else 12.0
    g = gradients(rng, n, DIMENSION)
    g[(g == 0).all(1), 0] = 1.0
    gradient = torch.from_numpy(g * scales(rng, n, decades)[:, None]).to(TYPES[dtype])
    low, high = boxes(rng, n, DIMENSION, True)
    unit = scales(rng, n, decades)
    low, high = low * unit[:, None], high * unit[:, None]
    radius = unit * rng.uniform(0.2, 3.0, n)

    decrease = [_decrease(gradient[i], p, radius[i], low[i], high[i], kind) for i in range(n)]
    margin = 10.0 ** -rng.uniform(3, 16, n) * rng.choice([-1, 1], n)
    near = [math.sqrt(D) if kind == "(GN)" and p == 2 else float(D) for D in decrease]
    value = torch.from_numpy(np.array(near) * (1 + margin)).to(TYPES[dtype])
    L = oracles.rational(value.tolist())
    box, ball = ca.Box(torch.from_numpy(low), torch.from_numpy(high)), ca.Ball(ca.Lp(p), torch.from_numpy(radius))

    where = f"{word(p)}, {dtype}"
    if kind == "(8) with a box":
        program = ca.MinNorm(value, gradient, ca.Lp(p), (box,))
        found = ca.solve(program)
        certificate = ca.certify(program, found)
        held = certificate.holds().numpy()
        limit = ca.Tolerance().at(TYPES[dtype])
        infeasible = np.array([value > D for D, value in zip(decrease, L, strict=True)])
        close = np.array([abs(D - value) <= limit * value for D, value in zip(decrease, L, strict=True)])
        said, inexact = found.status == ca.Status.INFEASIBLE, int((found.status == ca.Status.INEXACT).sum())
        yield Finding("fractions, (8): a certified INFEASIBLE is right", said & held & ~infeasible, 0, where)
        yield Finding(
            "fractions, (8): a claim is right or within the tolerance", (said != infeasible) & ~close, 0, where, inexact
        )
        return
    status = ca.solve(ca.GN(value, gradient, (ball, box) if "box" in kind else (ball,))).status
    squared = kind == "(GN)" and p == 2
    feasible = np.array([(value * value if squared else value) < D for D, value in zip(decrease, L, strict=True)])
    undecided = status == ca.Status.UNDECIDED
    right = undecided | np.where(feasible, status == ca.Status.FEASIBLE, status == ca.Status.INFEASIBLE)
    yield Finding(f"fractions, {kind}: no verdict is wrong", ~right, 0, where, int(undecided.sum()))


def _decrease(
    gradient: torch.Tensor, p: float, radius: float, low: np.ndarray, high: np.ndarray, kind: str
) -> Fraction:
    """D, or D² for p = 2."""
    g, eps = oracles.rational(gradient.tolist()), Fraction(radius)
    size = [abs(x) for x in g]
    room = [(-Fraction(below) if x > 0 else Fraction(above)) for x, below, above in zip(g, low, high, strict=True)]
    if kind == "(8) with a box":
        return oracles.rational_dot(size, room)
    if kind == "(GN)":
        return eps * max(size) if p == 1 else eps * eps * sum(x * x for x in size) if p == 2 else eps * sum(size)
    if p == math.inf:
        return oracles.rational_dot(size, [min(eps, c) for c in room])
    total, left = Fraction(0), eps
    for x, c in sorted(zip(size, room, strict=True), reverse=True):
        taken = min(left, c)
        total, left = total + x * taken, left - taken
    return total
