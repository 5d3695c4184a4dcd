"""A box as well: the solution of (GNII) over ball ∩ box and of (8) over a box, and why clipping is not it.

The paper says of (GNII) that "one can incorporate other convex constraints into it" (Section II); the first that
images ask for is the range of the pixels, −x ≤ η ≤ 1 − x.

Programs.

    minimize  L + gᵀη   subject to  ‖η‖_p ≤ ε,  l ≤ η ≤ u                             (GNII) with a box
    minimize  ‖η‖_p     subject to  L + gᵀη ≤ 0,  l ≤ η ≤ u                           (8) with a box

Lagrangian, 1 < p < ∞, with a multiplier for the ball (or the inequality) alone; the box stays a constraint:

    L + gᵀη + (μ/p)(Σ|η_i|^p − ε^p),  l ≤ η ≤ u;        (1/p)Σ|η_i|^p + λ(L + gᵀη),  l ≤ η ≤ u,

where (8) minimizes (1/p)‖η‖_p^p, which has the same minimizer. Both are sums over coordinates of g_iη_i +
(μ/p)|η_i|^p (with μ = 1/λ), convex in η_i, so the minimizer over the interval is the free one,
−sign(g_i)(|g_i|/μ)^{q−1}, clipped:

    η_i(y) = clip(−sign(g_i) e^y |g_i|^{q−1}, l_i, u_i),   e^y = μ^{1−q} = λ^{q−1}.

Dual. One number y is left, and the dual is concave in the multiplier, so its optimum is where the constraint of that
multiplier is tight (or where the multiplier is 0). Along the path gᵀη falls, and ‖η‖_p grows from the point of the
box nearest to 0, both monotonically, so each has one root:

    (GNII):  ‖η(y)‖_p = ε, or the corner of the box in direction −g if that is inside the ball;    (8):  gᵀη(y) = −L.

(GNII) is infeasible where the point of the box nearest to 0 is outside the ball, (8) where even the corner has L +
gᵀη > 0. For p = ∞ in (8) the same path with |g_i|⁰ = 1; (GNII) for p = ∞, and p = 1, are linear programs.

Clipping. Libraries clip the answer for the ball, or for (8), to the range of the pixels. For (GNII) with p = ∞ that
is optimal: cube ∩ box is a box. For any other p it gives away the length that clipped coordinates no longer use; and
after clipping (8), L + gᵀη ≤ 0 is lost.

The check. Against HiGHS (through scipy) for p ∈ {1, ∞}; against SCS (Clarabel where it does not converge), and
against the root above by scipy's brentq, for the others. Boxes around 0 and boxes that leave it out. (GNII): gᵀη
relative to |g|ᵀ of the larger bound, or ε‖g‖_∞; (8): relative to the optimum. Where the oracle finds no η, the
library must say INFEASIBLE. The witnesses for clipping report the share of the optimum gᵀη that the clipped answer
keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

import convexattack as ca
from verification import oracles
from verification.claims import CONIC, LINEAR, Finding, claim
from verification.draws import NORMS, boxes, gradients, radii, scales, tensors, values, word

TIGHT = ca.Tolerance.closed_form().at(torch.float64)
ROOT = 1e-10  # the root y of the path is found to about 1e-13, and at p = 1.01 e^y |g|^100 multiplies that
DIMENSION = 8
IMAGE = 64
Array = NDArray[np.float64]
Oracle = Callable[..., float]


@claim(
    "the closed forms of (GNII) over ball ∩ box and of (8) over a box are optimal; "
    "clipping is so for (GNII) with p = ∞ only",
    "Section II, (GNII) and (8), with 'other convex constraints'",
    cases=[(p, kind) for p in NORMS for kind in ("(GNII)", "(8)")],
    small=4,
    full=30,
    formulas=(
        r"\min_\eta L+g^{T}\eta\quad\text{s.t.}\quad\|\eta\|_p\le\varepsilon,\; l\le\eta\le u",
        r"\eta_i=\operatorname{clip}\bigl(-\operatorname{sign}(g_i)\,(|g_i|/\mu)^{q-1},\,l_i,\,u_i\bigr)",
    ),
)
def check(case: tuple[float, str], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, kind = case
    for around_zero in (True, False):
        yield from (_least if kind == "(GNII)" else _shortest)(p, rng, n, around_zero)
    yield _clipped(p, kind, rng, n)


def _least(p: float, rng: np.random.Generator, n: int, around_zero: bool) -> Iterator[Finding]:
    low, high = boxes(rng, n, DIMENSION, around_zero)
    g, unit = gradients(rng, n, DIMENSION) * scales(rng, n)[:, None], scales(rng, n)
    radius = radii(rng, g, p, low, high) * unit
    low, high = low * unit[:, None], high * unit[:, None]
    value, gradient, eps, below, above = tensors(np.zeros(n), g, radius, low, high)
    found = ca.solve(ca.GNII(value, gradient, (ca.Ball(ca.Lp(p), eps), ca.Box(below, above))))
    scale = np.minimum((np.abs(g) * np.maximum(-low, high)).sum(1), np.abs(g).sum(1) * radius)
    reached = (g * found.eta.numpy()).sum(1)
    where = f"{word(p)}, (GNII), box {'around' if around_zero else 'without'} 0"
    for oracle, tolerance, least in _judges(p, oracles.least_by_linprog, oracles.least_by_cone, oracles.least_by_root):
        wanted = np.array([least(g[i], p, radius[i], low[i], high[i]) for i in range(n)])
        yield _compared(oracle, tolerance, where, found, reached, wanted, scale)


def _shortest(p: float, rng: np.random.Generator, n: int, around_zero: bool) -> Iterator[Finding]:
    low, high = boxes(rng, n, DIMENSION, around_zero)
    g, unit = gradients(rng, n, DIMENSION), scales(rng, n)
    g[(g == 0).all(1), 0] = 1.0
    L = values(rng, g, low, high) * unit
    low, high = low * unit[:, None], high * unit[:, None]
    size = scales(rng, n)
    value, gradient, below, above = tensors(L * size, g * size[:, None], low, high)
    found = ca.solve(ca.MinNorm(value, gradient, ca.Lp(p), (ca.Box(below, above),)))
    length = np.array([np.linalg.norm(row, p) for row in found.eta.numpy()])
    where = f"{word(p)}, (8), box {'around' if around_zero else 'without'} 0"
    for oracle, tolerance, shortest in _judges(
        p, oracles.shortest_by_linprog, oracles.shortest_by_cone, oracles.shortest_by_root
    ):
        wanted = np.array([shortest(L[i], g[i], p, low[i], high[i]) for i in range(n)])
        yield _compared(oracle, tolerance, where, found, length, wanted, wanted)


def _judges(p: float, linprog: Oracle, cone: Oracle, root: Oracle) -> list[tuple[str, float, Oracle]]:
    first = ("HiGHS by scipy", LINEAR, linprog) if p in (1, math.inf) else ("SCS, or Clarabel", CONIC, cone)
    return [first, ("one root, by brentq", ROOT, root)][: 1 if p == 1 else 2]


def _compared(
    oracle: str, tolerance: float, where: str, found: ca.Solution, reached: Array, wanted: Array, scale: Array
) -> Finding:
    """Relative difference; ∞ where one finds an optimum and the other none."""
    none = np.isnan(wanted)
    agree = np.where(none, found.status == ca.Status.INFEASIBLE, found.status == ca.Status.OPTIMAL)
    difference = np.where(none, 0.0, np.abs(reached - wanted) / np.where(scale > 0, scale, 1.0))
    return Finding(oracle, np.where(agree, difference, np.inf), tolerance, where)


def _clipped(p: float, kind: str, rng: np.random.Generator, n: int) -> Finding:
    """The answer without the box, clipped to a binding pixel range, against that with it: shares of gᵀη (8: of L)."""
    g = rng.standard_t(3, (n, IMAGE))
    low, high = boxes(rng, n, IMAGE, True)
    room = np.where(g > 0, -low, high)
    radius = 0.5 * np.array([np.linalg.norm(row, p) for row in room])
    L = 0.5 * (np.abs(g) * room).sum(1)
    value, gradient, eps, below, above = tensors(L, g, radius, low, high)
    box, norm = ca.Box(below, above), ca.Lp(p)
    if kind == "(GNII)":
        ball = ca.Ball(norm, eps)
        plain, best = ca.solve(ca.GNII(value, gradient, (ball,))), ca.solve(ca.GNII(value, gradient, (ball, box)))
    else:
        plain, best = ca.solve(ca.MinNorm(value, gradient, norm)), ca.solve(ca.MinNorm(value, gradient, norm, (box,)))
    clipped = np.clip(plain.eta.numpy(), low, high)
    share = (g * clipped).sum(1) / (g * best.eta.numpy()).sum(1)
    if kind == "(GNII)" and p == math.inf:
        return Finding("clipping, (GNII), p = ∞: optimal", np.abs(share - 1), TIGHT, word(p))
    said = f"{word(p)} keeps {share.min():.2f} to {share.max():.2f}, median {np.median(share):.2f}"
    return Finding(f"clipping, {kind}: the share it keeps is below 1", share.min(), 0.99, word(p), note=said)
