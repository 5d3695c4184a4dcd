"""(9) with p = ∞ contains MAX CUT, which is why it is NP-hard, and its relaxation is that of Goemans and Williamson.

Program (Section III). maximize ‖Jη‖₂² subject to ‖η‖_∞ ≤ ε, of which the paper says that it "turns out to be NP-hard
[18]". (Reference [18] is about ‖A‖_{∞→1}. For ‖J‖_{∞→2} two lines do.)

Reduction. Take a graph with vertices 1, …, d and edges e = {a, b}; let J have one row for each edge, J_e = 1 at a, −1
at b, 0 elsewhere (the incidence matrix, JᵀJ the Laplacian). A convex function on the cube is largest at a vertex,
η = ε·s with signs s, and a sign vector is a cut:

    ‖Jη‖₂² = ε² Σ_e (s_a − s_b)² = 4ε² · (number of edges cut),

so the optimum is 4ε² times the largest cut. Whoever solves (9) for p = ∞ solves MAX CUT, one of Karp's 21 problems.

Lagrangian, dual and relaxation: operator_norm_sdp.py. Here the relaxation, maximize ⟨JᵀJ, X⟩/4 over X ⪰ 0, diag X = 1,
is that of Goemans and Williamson, and as the weights of the edges are not negative its quality is better than the 2/π
of rounding.py:

    largest cut ≥ α · relaxation,    α = min_θ (2/π) θ/(1 − cos θ) = 0.87856…

Optimum. The bracket of the library, squared and over 4ε², thus encloses the largest cut, and is never wider than 1/α.

The check. Random graphs with 3 to 11 vertices, and the cycles C_3, C_5, …, on which the relaxation is not exact. The
largest cut by trying all of them in integers. It must equal the square of the library's value over 4ε² with all signs
tried (solver "enumeration"), lie within the bracket of the default solver, and be at least α times its upper end; for
the five-cycle the relaxation is known, (25 + 5√5)/8 = 4.52….
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import convexattack as ca
from verification.claims import Finding, claim
from verification.draws import tensors

TIGHT = 1e-12
RELAXED = 1e-7  # a gap of 1e-8 in the norm, squared
ALPHA = 0.87856


@claim(
    "for p = ∞, (9) of a graph's incidence matrix is 4ε² times its largest cut; "
    "the relaxation is at most 1/0.878 times that",
    "Section III, (9), p = ∞: 'NP-hard'",
    cases=[3, 5, 8, 11],
    small=4,
    full=40,
    formulas=(
        r"\|J\eta\|_2^2=\varepsilon^2\sum_{\{a,b\}}(s_a-s_b)^2=4\varepsilon^2\cdot\text{cut}(s),\quad "
        r"\eta=\varepsilon s,\; s\in\{-1,1\}^d",
        r"\text{MAX CUT}\;\ge\;\alpha\cdot\max_{X\succeq 0,\;\operatorname{diag}X=1}"
        r"\tfrac14\langle J^{T}J,X\rangle,\quad "
        r"\alpha=0.878",
    ),
)
def check(case: int, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    edges = [_cycle(case) if k == 0 and case % 2 else _graph(rng, case) for k in range(n)]
    radius = np.exp2(rng.integers(-3, 4, n).astype(float))
    where = f"{case} vertices"
    exact, low, high, quality = [], [], [], []
    for pairs, eps in zip(edges, radius, strict=True):
        cut = _largest_cut(pairs, case)
        J = np.zeros((1, len(pairs), case))
        for row, (a, b) in enumerate(pairs):
            J[0, row, a], J[0, row, b] = 1, -1
        program = ca.OperatorNorm(tensors(J)[0], ca.Ball(ca.Lp(math.inf), float(eps)))
        unit = 4 * float(eps) ** 2
        every = ca.certify(program, ca.solve(program, "enumeration")).primal.item() ** 2 / unit
        certificate = ca.certify(program, ca.solve(program))
        below, above = certificate.primal.item() ** 2 / unit, certificate.dual.item() ** 2 / unit
        exact.append(abs(every - cut) / cut)
        low.append(max(below - cut, 0) / cut)
        high.append(max(cut - above, 0) / cut)
        quality.append(max(ALPHA * above - cut, 0) / cut)
        if pairs == _cycle(5):
            yield Finding("C₅: (25 + 5√5)/8", abs(above / ((25 + 5 * math.sqrt(5)) / 8) - 1), RELAXED, where)
    yield Finding("all cuts, in integers: the optimum", exact, TIGHT, where)
    yield Finding("all cuts, in integers: within the bracket", np.maximum(low, high), TIGHT, where)
    yield Finding("all cuts: at least 0.878 of the bound", quality, TIGHT, where)


def _cycle(d: int) -> list[tuple[int, int]]:
    return [(min(a, b), max(a, b)) for a, b in ((k, (k + 1) % d) for k in range(d))]


def _graph(rng: np.random.Generator, d: int) -> list[tuple[int, int]]:
    every = [(a, b) for a in range(d) for b in range(a + 1, d)]
    kept: NDArray[np.bool_] = rng.random(len(every)) < rng.uniform(0.3, 0.9)
    kept[rng.integers(len(every))] = True
    return [pair for pair, keep in zip(every, kept, strict=True) if keep]


def _largest_cut(pairs: list[tuple[int, int]], d: int) -> int:
    return max(sum((side >> a ^ side >> b) & 1 for a, b in pairs) for side in range(2 ** (d - 1)))
