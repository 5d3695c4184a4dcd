"""L is a minimum over classes: the piece that is active at x, against the piece that is lowest after the step.

The paper says. L(x + η) = min_l {f_k − f_l} (3) is replaced by L(x) + ηᵀ∇L(x), "the gradient of L(x)".
This is so except that L is a minimum of m − 1 functions, and linearizing it at x keeps only the one that is smallest
there, the active piece. The class that is overtaken first is often another one.

Program. With a linearization L_l + g_lᵀη of each piece, what (3) asks for is

    minimize  min_l {L_l + g_lᵀη}   subject to  ‖η‖_p ≤ ε.                             (pieces)

It is not convex (the objective is concave), but two minima may be exchanged:

    min_η min_l {L_l + g_lᵀη} = min_l min_η {L_l + g_lᵀη}.

Lagrangian, dual and optimum of each inner problem, a (GNII): proposition_2.py. So the optimum of (pieces) is min_l
{L_l − ε‖g_l‖_q}, by m − 1 closed forms, and the η of the best l attains it.

Slip. ∇L(x) is g_a with a = argmin_l L_l, so the text's step reaches L_a − ε‖g_a‖_q on its own piece, never less than
the best. As to the published figures, they choose the smallest linearized objective over all l (the search "over all
l ≠ k(x)" in Algorithm 1).

Counterexample. p = ∞, d = 1, ε = 1/2, two pieces 1 + η and 2 − 8η at x = 0. Active is the first: (GN) is infeasible for
it, 1 − 1/2 > 0. The second has 2 − 4 < 0 at η = 1/2: the class behind it wins. Proposition 1 with the active piece
would certify a classifier that is fooled. In the same way ρ̂₂ of the active piece, L_a/‖g_a‖_q, is never less than
min_l L_l/‖g_l‖_q, which is the shortest perturbation of the linear model.

The check. The shipped network on handwritten digits, where L_l and g_l come from a pass through its layers in NumPy.
Algorithm 1 with piece="best" must reach min_l {L_l − ε‖g_l‖_q} and with piece="active" L_a − ε‖g_a‖_q; the first is
never larger; and no η of 50 random ones in the ball, nor the optimum of any other piece, has a smaller min_l
{L_l + g_lᵀη}. The note says on how many images the two differ and how many each fools. And the counterexample, in
rational numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch

import convexattack as ca
from convexattack import datasets, models
from verification import oracles
from verification.claims import Finding, claim
from verification.draws import word

TIGHT = 1e-11  # of the scores: NumPy's sums against torch's


@claim(
    "the best piece attains min_l {L_l − ε‖g_l‖_q}, the least value of the linearized margin; "
    "the active one, ∇L at x, may miss it",
    "Section II, linearization of (3); Section IV, Algorithm 1",
    cases=[(2.0, 0.3), (math.inf, 0.03), (math.inf, 0.1)],
    small=24,
    full=360,
    formulas=(
        r"\min_{\|\eta\|_p\le\varepsilon}\;\min_{l\ne k}\{L_l+g_l^{T}\eta\}=\min_{l\ne k}\{L_l-\varepsilon\|g_l\|_q\}",
        r"\nabla L(x)=g_a,\quad a=\operatorname{argmin}_l L_l,\qquad"
        r" L_a-\varepsilon\|g_a\|_q\;\ge\;\min_l\{L_l-\varepsilon\|g_l\|_q\}",
    ),
    slip="It linearizes L itself, which keeps the class that is closest at x; "
    "its figures take the one that is lowest after the step.",
)
def check(case: tuple[float, float], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, radius = case
    q = 1.0 if p == math.inf else p / (p - 1)
    images = datasets.load("digits")
    x = images.x[torch.from_numpy(rng.permutation(len(images))[:n])].double()
    model = models.load("digits").double()
    weights = [w.detach().numpy() for w in model.parameters()]
    best = ca.algorithm1(radius, ca.Lp(p))(model, x)
    active = ca.algorithm1(radius, ca.Lp(p), piece="active")(model, x)
    where = f"{word(p)}, ε = {radius:g}"

    apart, other, above, beaten, differ = [], [], [], [], 0
    for i, row in enumerate(x.flatten(1).numpy()):
        f, J, _ = oracles.network(row, weights)
        k = int(f.argmax())
        L, g = np.delete(f[k] - f, k), np.delete(J[k] - J, k, axis=0)
        optimum, a = L - radius * np.linalg.norm(g, q, axis=1), int(L.argmin())
        scale = np.abs(f).max()
        first, second = ((L + g @ found.eta[i].flatten().numpy()) for found in (best, active))
        apart.append(abs(first.min() - optimum.min()) / scale)
        other.append(abs(second[a] - optimum[a]) / scale)
        above.append(max(first.min() - second.min(), 0) / scale)
        points = rng.standard_normal((50, len(row)))
        points *= radius / np.linalg.norm(points, p, axis=1, keepdims=True)
        beaten.append(max(first.min() - (L + points @ g.T).min(), 0) / scale)
        differ += int(optimum.argmin() != a)
    fooled = f"best fools {int(best.fooled.sum())}, active {int(active.fooled.sum())}"
    said = f"{where}: another piece is lower on {differ} of {n} images ({differ / n:.0%}); {fooled}"
    yield Finding("NumPy: best reaches min_l {L_l − ε‖g_l‖_q}", apart, TIGHT, where, note=said)
    yield Finding("NumPy: active reaches L_a − ε‖g_a‖_q", other, TIGHT, where)
    yield Finding("best is never above active", above, TIGHT, where)
    yield Finding("random points of the ball", beaten, TIGHT, where)
    if p == math.inf:
        yield Finding("the counterexample, in fractions", not _counterexample(), 0, where)


def _counterexample() -> bool:
    """Both statuses, and the values behind them, of 1 + η and 2 − 8η over |η| ≤ 1/2."""
    L, g = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([[1.0], [-8.0]], dtype=torch.float64)
    found = ca.solve(ca.GN(L, g, (ca.Ball(ca.Lp(math.inf), 0.5),)))
    values = [min(Fraction(1) + eta, Fraction(2) - 8 * eta) for eta in oracles.rational([-0.5, 0.5])]
    return list(found.status) == [ca.Status.INFEASIBLE, ca.Status.FEASIBLE] and min(values) == Fraction(-2)
