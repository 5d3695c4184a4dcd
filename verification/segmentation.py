"""A designated class, for one image and for every pixel of a segmentation.

The paper says (Section III) that with a fixed target t "one can instead use L_t = f_k − f_t", and "the above analysis
applies directly". For one image it does. A segmentation has a target at every pixel, hence P losses L_i at once, and
then it applies to their sum, or to all of them by a convex program of its own.

Programs.

    minimize  L_t + ηᵀ∇L_t             subject to  ‖η‖_p ≤ ε                           (one image)
    minimize  Σ_i (c_i + a_iᵀη)        subject to  ‖η‖_p ≤ ε                           (the sum)
    minimize  Σ_i max(0, c_i + a_iᵀη)  subject to  ‖η‖_p ≤ ε                           (every pixel)

The first two are (GNII), with g = ∇L_t and with L = Σ c_i, g = Σ a_i. But the sum can be negative while pixels are
lost, and a pixel that is far beyond its target pays for another. Every pixel at its target is a system of halfspaces,
c_i + a_iᵀη ≤ 0 for all i, and the third program has value 0 if and only if one η satisfies them all.

Lagrangian of the third, with multipliers u_i for t_i ≥ c_i + a_iᵀη and t_i ≥ 0: Σ t_i(1 − u_i − w_i) + Σ
u_i(c_i + a_iᵀη), u, w ≥ 0.

Dual. The infimum over t needs u_i + w_i = 1, so 0 ≤ u ≤ 1; what remains is a (GNII): uᵀc − ε‖Aᵀu‖_q. Any such u is a
bound, and where it is positive, a proof that no η in the ball wins every pixel (Farkas).

Optimum. Of the first two by proposition_2.py; of the third there is none in closed form. By Slater's condition (the
ball has an interior) its value is max {uᵀc − ε‖Aᵀu‖_q : 0 ≤ u ≤ 1}.

The check. One image: the shipped classifier and every target, values and gradients from NumPy. The sum and every pixel:
random c and A, the library's (GNII) of the sum against Σc_i − ε‖Σa_i‖_q in fifty digits, and its hinge program for
p ∈ {1, ∞} against scipy's HiGHS on the linear program written here, primal and dual; p = 2 against SCS. Its certificate
must hold, and its verdict (can all pixels be won?) must be HiGHS's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cvxpy as cp
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

import convexattack as ca
from convexattack import datasets, models
from verification import oracles
from verification.claims import CONIC, Finding, claim
from verification.draws import tensors, word

Array = NDArray[np.float64]
SAME = 1e-9
RADIUS = 0.5


@claim(
    "a designated class is (GNII) with L_t = f_k − f_t; "
    "every pixel of a segmentation at once is a sum of hinges, with its own dual",
    "Section III, segmentation",
    cases=[("one image", math.inf), ("one image", 2.0), ("pixels", 1.0), ("pixels", 2.0), ("pixels", math.inf)],
    small=6,
    full=60,
    formulas=(
        r"L_t(x+\eta)=f_{k(x)}(x+\eta)-f_t(x+\eta)",
        r"\min_{\|\eta\|_p\le\varepsilon}\sum_i\max(0,c_i+a_i^{T}\eta)"
        r"=\max_{0\le u\le1}\,u^{T}c-\varepsilon\|A^{T}u\|_q",
    ),
)
def check(case: tuple[str, float], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    kind, p = case
    yield from (_one_image if kind == "one image" else _pixels)(p, rng, n)


def _one_image(p: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    q = 1.0 if p == math.inf else 2.0
    images = datasets.load("digits")
    x = images.x[torch.from_numpy(rng.permutation(len(images))[:n])].double()
    model = models.load("digits").double()
    weights = [w.detach().numpy() for w in model.parameters()]
    passes = [oracles.network(row, weights)[:2] for row in x.flatten(1).numpy()]
    for t in range(10):
        found = ca.algorithm1(0.05, ca.Lp(p), loss=ca.targeted(t))(model, x).eta.flatten(1).numpy()
        apart = []
        for (f, J), eta in zip(passes, found, strict=True):
            k = int(f.argmax())
            g = J[k] - J[t]
            reached = f[k] - f[t] + g @ eta
            apart.append(abs(reached - (f[k] - f[t] - 0.05 * np.linalg.norm(g, q))) / np.abs(f).max())
        yield Finding("one image, NumPy: L_t − ε‖∇L_t‖_q", apart, SAME, f"{word(p)}, t = {t}")


def _pixels(p: float, rng: np.random.Generator, n: int) -> Iterator[Finding]:
    P, d = 7, 5
    c, A = rng.standard_normal((n, P)) + rng.uniform(-1, 1, (n, 1)), rng.standard_normal((n, P, d))
    value, gradient = tensors(c, A)
    ball, where = ca.Ball(ca.Lp(p), RADIUS), word(p)
    total = ca.GNII(value.sum(1), gradient.sum(1), (ball,))
    eta = ca.solve(total).eta.numpy()
    wanted = [float(row.sum() - RADIUS * oracles.digits_dual(rows.sum(0), p)) for row, rows in zip(c, A, strict=True)]
    reached = c.sum(1) + np.einsum("npd,nd->n", A, eta)
    scale = np.abs(c).sum(1) + RADIUS * np.abs(A).sum((1, 2))
    yield Finding("the sum, 50 digits", np.abs(reached - wanted) / scale, SAME, where)

    program = ca.HingeSum(value, gradient, (ball,))
    found = ca.solve(program)
    certificate = ca.certify(program, found)
    primal, dual = certificate.primal.numpy(), certificate.dual.numpy()
    least = np.array([_hinges(row, rows, p) for row, rows in zip(c, A, strict=True)])
    judge = "SCS" if p == 2 else "HiGHS by scipy"
    yield Finding(f"every pixel, {judge}", np.abs(primal - least) / scale, CONIC, where)
    yield Finding(f"every pixel, {judge}: the bound", np.abs(dual - least) / scale, CONIC, where)
    yield Finding("every pixel: its certificate is refused", ~certificate.holds().numpy(), 0, where)
    can, proved = least < CONIC * scale, dual > CONIC * scale
    lost = ((c + np.einsum("npd,nd->np", A, eta)) > 0).any(1) & (reached < 0)
    said = (
        f"{where}: one η wins every pixel on {int(can.sum())} of {n}; the sum is negative and a pixel lost on "
        f"{int(lost.sum())}"
    )
    wrong = (can & proved) | (~proved & (least > 10 * CONIC * scale))
    yield Finding(f"every pixel, {judge}: proved impossible", wrong, 0, where, note=said)


def _hinges(c: Array, A: Array, p: float) -> float:
    """min Σ max(0, c + Aη) over the ball, in other words."""
    P, d = A.shape
    if p == 2:
        eta, t = cp.Variable(d), cp.Variable(P, nonneg=True)
        problem = cp.Problem(cp.Minimize(cp.sum(t)), [c + A @ eta <= t, cp.SOC(cp.Constant(RADIUS), eta)])
        problem.solve(solver=cp.SCS, eps_abs=1e-10, eps_rel=1e-10, max_iters=50_000)
        return float(problem.value)
    # η = a − b; |η_i| ≤ a_i + b_i
    ones = np.ones((1, 2 * d)) if p == 1 else np.hstack([np.eye(d), np.eye(d)])
    rows = np.vstack([np.hstack([A, -A, -np.eye(P)]), np.hstack([ones, np.zeros((len(ones), P))])])
    limits = np.concatenate([-c, np.full(len(ones), RADIUS)])
    return float(linprog(np.concatenate([np.zeros(2 * d), np.ones(P)]), rows, limits).fun)
