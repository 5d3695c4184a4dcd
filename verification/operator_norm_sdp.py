"""The relaxation of (9): from d × d to m × m, exactly, for every p from 2 to ∞.

Program. (9) with ε = 1: maximize ‖Jη‖₂ subject to ‖η‖_p ≤ 1. Let X = ηηᵀ; then ‖Jη‖₂² = ⟨JᵀJ, X⟩, diag X = (η_i²), and
‖η‖_p² = ‖diag X‖_{p/2}. Without the condition that X has rank one, that is the paper's semidefinite program (p = ∞:
diag X ≤ 1),

    maximize  ⟨JᵀJ, X⟩   subject to  X ⪰ 0, ‖diag X‖_{p/2} ≤ 1                          (d × d)

which bounds the square of the norm. The paper says that it "scales badly with input dimension" and so "might not be
suitable for fast generation of adversarial examples". This is so except that the program need not be solved in that
form. X has d(d + 1)/2 unknowns, eleven billion for an image of ImageNet; but JᵀJ has rank m, and the program below has
m(m + 1)/2, which is 55 for ten outputs, whatever d is. Its cost grows in proportion to d (a pass over J);
`benchmarks/results/sdp.md` has the times of both.

Lagrangian and dual. ⟨JᵀJ, X⟩ + Σ y_i(r_i − X_ii) with ‖r‖_{p/2} ≤ 1: its supremum over r is ‖y‖_σ, 1/σ + 2/p = 1, and
over X ⪰ 0 it is finite only where Diag(y) ⪰ JᵀJ. X = cI is strictly feasible, so the values are equal:

    minimize  ‖y‖_σ   subject to  Diag(y) ⪰ JᵀJ,        σ = p/(p − 2).                     (y)

Schur. For y > 0 both Diag(y) ⪰ JᵀJ and J Diag(1/y) Jᵀ ⪯ I (m × m) say that the matrix [Diag(y), Jᵀ; J, I] is ⪰ 0. With
y scaled freely, (y) is: minimize λ_max(J Diag(1/y) Jᵀ)‖y‖_σ over y > 0.

Minimax. λ_max(A) = max {⟨W, A⟩ : W ⪰ 0, tr W = 1}, and ⟨W, J Diag(1/y) Jᵀ⟩ = Σ s_i²/y_i, s_i² = j_iᵀWj_i. The set of W
is compact, the expression linear in W and, on ‖y‖_σ ≤ 1, convex in y: by Sion's theorem min and max may be exchanged.

Hölder. For the exponents 2/q and 2/(2 − q), Σ s_i^q = Σ (s_i²/y_i)^{q/2} y_i^{q/2} ≤ (Σ s_i²/y_i)^{q/2} (Σ
y_i^{q/(2−q)})^{1−q/2}, with q/(2 − q) = p/(p − 2) = σ. To the power 2/q,

    min over y > 0 of ‖y‖_σ Σ s_i²/y_i = ‖s‖_q²,     attained at y_i = s_i^{2−q}.

Optimum. The bound on the norm itself, not its square, is

    max { ‖s(W)‖_q : W ⪰ 0 (m × m), tr W = 1 },          s_i(W) = (j_iᵀWj_i)^{1/2}          (m × m)

with m(m + 1)/2 unknowns, concave as W ↦ Σ s_i^q is. It relaxes ‖Jᵀ‖_{2→q} = ‖J‖_{p→2}: W = wwᵀ gives ‖Jᵀw‖_q. For p = 2
it is max ⟨W, JJᵀ⟩^{1/2}, the largest singular value; and as ‖·‖_p ≤ ‖·‖₂ ≤ d^{1/2−1/p}‖·‖_p, its value for p > 2 lies
between that and d^{1/2−1/p} times that, and tends to it as p → 2.

The check. Seven values must be the same: (d × d) and (y) and (m × m) written down in an oracle and solved by Clarabel,
SCS and Clarabel; the library's two forms, `problem(i, "primal")`, whose value is the square, and `problem(i)`; its
solver's bound; and the bound of solver="reference". No column is 0 here: a cone solver's ε in j_iᵀWj_i = 0 would become
√ε in s_i (operator_norm.py has such columns). Then each step by itself on random y, s, W and w, in NumPy. p → 2:
`solve` at p = 2 and at p = 2 + 1e-6.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

import convexattack as ca
from verification import oracles
from verification.claims import CONIC, Finding, claim
from verification.draws import jacobian, tensors, word

Array = NDArray[np.float64]
EXACT = 1e-11
KINDS = ("normal", "log-normal columns", "rows that sum to 0", "±1", "equal columns")


@claim(
    "the d × d relaxation of (9) has the value of an m × m program, squared, for every p from 2 to ∞; "
    "p = 2 is the spectral norm",
    "Section III, (9) and its semidefinite relaxation",
    cases=[(p, m, d) for p in (2.0, 2.5, 4.0, math.inf) for m, d in ((1, 4), (2, 5), (3, 8), (6, 4))],
    small=1,
    full=12,
    formulas=(
        r"\max\langle J^{T}J,X\rangle\quad\text{s.t.}\quad X\succeq0,\;\|\operatorname{diag}X\|_{p/2}\le1"
        r"\qquad(d\times d)",
        r"\max\|s\|_q\quad\text{s.t.}\quad s_i=\sqrt{j_i^{T}Wj_i},\;W\succeq0,\;\operatorname{tr}W=1\qquad(m\times m)",
    ),
    slip="It says that the semidefinite program scales badly with the input; "
    "its value is that of an m × m program, m the outputs.",
)
def check(case: tuple[float, int, int], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    p, m, d = case
    first = rng.integers(len(KINDS))
    J = np.stack([_not_zero(jacobian(rng, KINDS[(first + k) % len(KINDS)], m, d)) for k in range(n)])
    where = f"{word(p)}, {m} × {d}"
    (jacobian_of,) = tensors(J)
    program = ca.OperatorNorm(jacobian_of, ca.Ball(ca.Lp(p), 1.0))
    bound = ca.certify(program, ca.solve(program)).dual.numpy()

    for form, solver in (("X", "CLARABEL"), ("y", "CLARABEL"), ("W", "CLARABEL"), ("X", "SCS")):
        values = np.array([oracles.relaxed_by_cone(A, p, form, solver) for A in J])
        yield Finding(
            f"{NAMES[form]} by {solver.replace('CLARABEL', 'Clarabel')}", np.abs(values / bound - 1), CONIC, where
        )
    primal = np.array([math.sqrt(_value(program.problem(i, "primal"))) for i in range(n)])
    reduced = np.array([_value(program.problem(i)) for i in range(n)])
    yield Finding("the root of problem(i, 'primal') is problem(i)", np.abs(primal / reduced - 1), CONIC, where)
    yield Finding("problem(i) is the solver's bound", np.abs(reduced / bound - 1), CONIC, where)
    reference = ca.certify(program, ca.solve(program, "reference")).dual.numpy()
    yield Finding("solver='reference' has that bound", np.abs(reference / bound - 1), CONIC, where)

    yield from _steps(J, p, bound, rng, where)

    spectral = np.array([np.linalg.norm(A, 2) for A in J])
    if p == 2:
        yield Finding("p = 2: (m × m) is the largest singular value", np.abs(reduced / spectral - 1), CONIC, where)
        yield Finding("p = 2: so is the solver's bound", np.abs(bound / spectral - 1), EXACT, where)
        near = 2 + 1e-6
        program = ca.OperatorNorm(jacobian_of, ca.Ball(ca.Lp(near), 1.0))
        close = ca.certify(program, ca.solve(program)).dual.numpy()
        outside = np.maximum(spectral - close, close - d ** (1 / 2 - 1 / near) * spectral) / spectral
        yield Finding("p = 2 + 1e-6: between it and d^{1/2−1/p} times it", outside.clip(0), 1e-8, where)


NAMES = {"X": "(d × d)", "y": "(y)", "W": "(m × m)"}


def _not_zero(J: Array) -> Array:
    return J if J.any() else np.ones_like(J)


def _value(problem: cp.Problem) -> float:
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        problem.solve(solver=cp.CLARABEL, **oracles.CLARABEL)
    return float(problem.value)


def _steps(J: Array, p: float, bound: Array, rng: np.random.Generator, where: str) -> Iterator[Finding]:
    _, m, d = J.shape
    q = p / (p - 1) if p < math.inf else 1.0
    sigma = 1.0 if p == math.inf else math.inf if p == 2 else p / (p - 2)
    schur, sides, holder, below, trace, rank, pairing = _lists(7)
    for A, most in zip(J, bound, strict=True):
        y = np.exp(rng.standard_normal(d))
        y *= np.linalg.norm(A / np.sqrt(y), 2) ** 2  # now λ_max(J Diag(1/y) Jᵀ) = 1
        edge = [np.linalg.eigvalsh(np.diag(y * (1 + t)) - A.T @ A)[0] / y.max() for t in (0.0, 1e-6, -1e-6)]
        schur.append(abs(edge[0]))
        sides.append(not edge[1] > 0 > edge[2])

        root = rng.standard_normal((m, rng.integers(1, m + 1)))
        root /= np.linalg.norm(root)
        s = np.maximum(np.linalg.norm(root.T @ A, axis=0), 1e-3)
        least = float(np.linalg.norm(s, q)) ** 2
        holder.append(abs(_cost(s ** (2 - q), s, sigma) / least - 1))
        others = s ** (2 - q) * np.exp(10.0 ** rng.uniform(-3, 0.5, (200, 1)) * rng.standard_normal((200, d)))
        below.append(max(0.0, 1 - min(_cost(other, s, sigma) for other in others) / least))

        G = A / y @ A.T
        top = np.linalg.eigh(G)[1][:, -1]
        trace.append(max(abs(float(top @ G @ top) - 1), float(np.sum(root * (G @ root))) - 1))

        w = root[:, 0] / np.linalg.norm(root[:, 0])
        reach = float(np.linalg.norm(A.T @ w, q))
        sizes = np.sqrt(np.einsum("ji,jk,ki->i", A, np.outer(w, w), A).clip(0))
        rank.append(abs(float(np.linalg.norm(sizes, q)) / reach - 1))
        eta = oracles.along(A.T @ w, p)
        pairing.append(max(abs(float(w @ A @ eta) / reach - 1), float(np.linalg.norm(A @ eta)) / most - 1))
    yield Finding("NumPy, Schur: both are singular at the same y", schur, EXACT, where)
    yield Finding("NumPy, Schur: and definite on the same side of it", sides, 0, where)
    yield Finding("NumPy, Hölder: ‖s‖_q² is attained at s^{2−q}", holder, EXACT, where)
    yield Finding("NumPy, Hölder: no other y is better", below, EXACT, where)
    yield Finding("NumPy, minimax: λ_max is the largest ⟨W, ·⟩", trace, EXACT, where)
    yield Finding("NumPy, W = wwᵀ: ‖s‖_q is ‖Jᵀw‖_q", rank, EXACT, where)
    yield Finding("NumPy, W = wwᵀ: attained, below the bound", pairing, EXACT, where)


def _lists(n: int) -> list[list[float]]:
    return [[] for _ in range(n)]


def _cost(y: Array, s: Array, sigma: float) -> float:
    return float(np.linalg.norm(y, sigma) * (s * s / y).sum())
