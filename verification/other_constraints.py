"""Other convex constraints: (GNII) over any of them is still a convex program with a certificate.

The paper says of (GNII) that "one can incorporate other convex constraints into it for different scenarios".
with_box.py has the box; this file has a subspace, halfspaces, a bound on the total variation, each with a ball.

Program. C_1 the ball, C_2, …, C_k convex:

    minimize  L + gᵀη   subject to  η ∈ C_1 ∩ … ∩ C_k.

Lagrangian. A copy z_j of η in each set, with a multiplier v_j for η − z_j = 0:

    L + gᵀη + Σ v_jᵀ(η − z_j),    z_j ∈ C_j, η free.

Dual. The infimum over η is −∞ unless Σ v_j = −g, and what remains is L − Σ σ_j(v_j) with the support functions
σ_j(v) = sup {vᵀz : z ∈ C_j}. So any v_j with Σ v_j = −g bound every η of the intersection from below.

Optimum. There is no closed form in general. Where a point lies in the interior of all sets (here 0 does, or, for a
subspace, in its relative interior) Slater's condition gives multipliers for which the bound is attained, and
complementary slackness z_j = η ∈ argmax v_jᵀz.

The check. The library is given each constraint as CVXPY text alone (`CustomSet`). Its value against another formulation
by another solver: for p ∈ {1, ∞} all is linear and scipy's HiGHS gets matrices written here; for p = 2 and a subspace,
ε times the distance that is left after projection, ‖Pg‖₂ by NumPy's least squares. The η must lie in the sets, by
NumPy, and its certificate must hold. No η of 200 random ones in the intersection may be better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

import convexattack as ca
from verification.claims import CONIC, Finding, claim
from verification.draws import tensors, word

Array = NDArray[np.float64]
DIMENSION = 6
BALL = 1.5


@claim(
    "(GNII) over a ball and other convex constraints is solved and certified: subspaces, halfspaces, total variation",
    "Section II, after Proposition 2: 'other convex constraints'",
    cases=[
        (p, kind)
        for p in (1.0, 2.0, math.inf)
        for kind in ("Aη = 0", "Bη ≤ c", "Σ|η_i − η_{i+1}| ≤ r")
        if p != 2 or kind == "Aη = 0"
    ],
    small=2,
    full=12,
    formulas=(
        r"\min_\eta L+g^{T}\eta\quad\text{s.t.}\quad \eta\in C_1\cap\dots\cap C_k",
        r"\sum_j v_j=-g\;\Rightarrow\;L+g^{T}\eta\ge L-\sum_j\sigma_{C_j}(v_j),\qquad \sigma_C(v)=\sup_{z\in C}v^{T}z",
    ),
)
def check(case: tuple[float, str], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, kind = case
    where = f"{word(p)}, {kind}"
    apart, outside, refused, beaten = [], [], [], []
    for _ in range(n):
        g = rng.standard_normal(DIMENSION)
        rows = rng.standard_normal((2, DIMENSION))
        limit = np.array([0.2, 0.3])
        value, gradient = tensors(np.zeros(1), g[None])
        program = ca.GNII(value, gradient, (ca.Ball(ca.Lp(p), BALL), ca.CustomSet(partial(_text, kind, rows, limit))))
        found = ca.solve(program)
        eta = found.eta[0].numpy()
        scale = BALL * float(np.linalg.norm(g, 1 if p == math.inf else math.inf if p == 1 else 2))
        apart.append(abs(g @ eta - _least(g, p, kind, rows, limit)) / scale)
        outside.append(_outside(eta, p, kind, rows, limit))
        refused.append(not ca.certify(program, found).holds().item())
        beaten.append(max(0.0, g @ eta - min(g @ z for z in _inside(rng, p, kind, rows, limit))) / scale)
    judge = "projection, by least squares" if p == 2 else "HiGHS by scipy"
    yield Finding(judge, apart, CONIC, where)
    yield Finding("membership, in NumPy", outside, CONIC, where)
    yield Finding("random points of the intersection", beaten, CONIC, where)
    yield Finding("its certificate is refused", refused, 0, where)


def _text(kind: str, rows: Array, limit: Array, eta: cp.Variable) -> list[cp.Constraint]:
    if kind == "Aη = 0":
        return [rows @ eta == 0]
    return [rows @ eta <= limit] if kind == "Bη ≤ c" else [cp.norm1(cp.diff(eta)) <= 0.5]


def _least(g: Array, p: float, kind: str, rows: Array, limit: Array) -> float:
    """min gᵀη, by other means."""
    d = len(g)
    if p == 2:
        return -BALL * float(np.linalg.norm(g - rows.T @ np.linalg.lstsq(rows.T, g, rcond=None)[0]))
    eye, wide = np.eye(d), np.zeros((d, 2 * d - 1))  # η, |η_i| ≤ a_i, |η_i − η_{i+1}| ≤ b_i
    steps = np.diff(eye, axis=0)
    a, b = np.hstack([np.zeros((d, d)), eye, wide[:, : d - 1]]), np.hstack([np.zeros((d - 1, 2 * d)), np.eye(d - 1)])
    matrix = [np.hstack([eye, wide]) - a, -np.hstack([eye, wide]) - a]
    matrix += [np.hstack([s * steps, np.zeros((d - 1, 2 * d - 1))]) - b for s in (1, -1)]
    bound = [np.zeros(4 * d - 2)]
    matrix.append(a.sum(0)[None] if p == 1 else a)
    bound.append(np.full(1 if p == 1 else d, BALL))
    if kind == "Bη ≤ c":
        matrix.append(np.hstack([rows, np.zeros((2, 2 * d - 1))]))
        bound.append(limit)
    elif kind != "Aη = 0":
        matrix.append(b.sum(0)[None])
        bound.append(np.array([0.5]))
    equal = np.hstack([rows, np.zeros((2, 2 * d - 1))]) if kind == "Aη = 0" else None
    cost = np.concatenate([g, np.zeros(2 * d - 1)])
    found = linprog(
        cost,
        np.vstack(matrix),
        np.concatenate(bound),
        equal,
        None if equal is None else np.zeros(2),
        bounds=(None, None),
    )
    return float(found.fun) if found.status == 0 else math.nan


def _outside(eta: Array, p: float, kind: str, rows: Array, limit: Array) -> float:
    own = {"Aη = 0": np.abs(rows @ eta).max(), "Bη ≤ c": (rows @ eta - limit).max()}.get(
        kind, np.abs(np.diff(eta)).sum() - 0.5
    )
    return max(float(np.linalg.norm(eta, p)) - BALL, float(own), 0.0)


def _inside(rng: np.random.Generator, p: float, kind: str, rows: Array, limit: Array) -> Array:
    """Random points of the intersection, most of them on its boundary."""
    z = rng.standard_normal((200, DIMENSION))
    if kind == "Aη = 0":
        z -= (np.linalg.pinv(rows) @ (rows @ z.T)).T
    size = np.linalg.norm(z, p, axis=1) / BALL
    if kind == "Bη ≤ c":
        size = np.maximum(size, (z @ rows.T / limit).max(1))
    elif kind != "Aη = 0":
        size = np.maximum(size, np.abs(np.diff(z, axis=1)).sum(1) / 0.5)
    return np.asarray(z / size[:, None])
