"""(9) through CVXPY: the m × m relaxation, item by item, and η by rounding along the eigenvectors of W.

The text is normalised, in the range of J and with columns of length 1, and written in K, whose rows are the entries of
j_ij_iᵀ: j_iᵀWj_i = K_i vec(W).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import cvxpy as cp
import numpy as np
import torch

from convexattack.norms import Lp
from convexattack.programs import OperatorNorm
from convexattack.solution import Solution, Status
from convexattack.solvers.conic.compiled import SECOND, Compiled, compiled, refused

__all__ = ["solve"]


def solve(program: OperatorNorm, solver: str | None, progress: Callable[[int], object] | None) -> Solution:
    """Solve item by item; p ≤ 2 by NumPy's singular values, as there is no cone program to ask. See `conic.solve`."""
    names = [solver] if solver else [cp.CLARABEL, SECOND[cp.CLARABEL]]
    J = program.J.cpu().numpy()
    radius = program.ball.radii(program.J).cpu()
    n, m, d = J.shape
    eta, y, F = np.full((n, d), np.nan), np.ones((n, d)), np.zeros((n, m, m))
    codes, words, seconds = np.full(n, Status.INVALID.code, dtype=np.int8), ["not run"] * n, np.zeros(n)
    for i in range(n):
        if np.isfinite(J[i]).all():
            for name in names:
                codes[i], word, spent, eta[i], y[i], F[i] = _one(J[i], program.norm, name)
                words[i] = word if name == names[0] else f"{words[i]}, {name}: {word}"
                seconds[i] += spent
                if codes[i] != Status.FAILED.code:
                    break
        if progress is not None:
            progress(1)
    like = program.J
    step = (torch.from_numpy(eta) * radius[:, None]).to(program.jacobian.dtype)
    stats = {"solver": names[0] if program.norm.p > 2 else "NumPy", "words": words, "seconds": seconds}
    proof = (torch.from_numpy(y).to(like), torch.from_numpy(F).to(like))
    return Solution(step.to(like.device), torch.from_numpy(codes).to(like.device), proof, stats)


def _one(J: np.ndarray, norm: Lp, solver: str) -> tuple[int, str, float, np.ndarray, np.ndarray, np.ndarray]:
    """Code, the solver's word, seconds, η for ε = 1, y and F of one item."""
    m, d = J.shape
    p, q = norm.p, norm.q
    largest = np.abs(J).max()
    A = J / largest if largest > 0 else J
    size = np.linalg.norm(A)
    A = A / size if size > 0 else A
    lengths = np.linalg.norm(A, axis=0)
    word, spent, W, y = "not needed", 0.0, np.eye(m) / m, np.ones(d)
    if p == 1:
        k = int(lengths.argmax())
        W = np.outer(A[:, k], A[:, k])
    elif p <= 2:
        u = np.linalg.svd(A, full_matrices=False)[0][:, 0]
        W = np.outer(u, u)
    elif size > 0:
        word, spent, found, slope = _relax(A, q, solver)
        if found is None or slope is None:
            return Status.FAILED.code, word, spent, np.full(d, np.nan), np.ones(d), np.eye(m)
        W = found
        y = np.where(lengths > 0, 1 / np.maximum(slope, 1e-12 * slope.max()), 0.0)
    values, vectors = np.linalg.eigh((W + W.T) / 2)
    F = vectors * np.sqrt(values.clip(0))
    starts = [*F.T[::-1][: min(m, 8)], A[:, int(lengths.argmax())]]
    best, code = np.zeros(d), Status.BRACKETED.code
    for w in starts:
        step = _steepest(A.T @ w, p, q)
        for _ in range(50):
            step, last = _steepest(A.T @ (A @ step), p, q), step
            if np.linalg.norm(A @ step) <= np.linalg.norm(A @ last) * (1 + 1e-13):
                break
        if np.linalg.norm(A @ step) > np.linalg.norm(A @ best):
            best = step
    if p in (1, 2) or size == 0:
        code = Status.OPTIMAL.code
    return code, word, spent, best, y, F


def _steepest(v: np.ndarray, p: float, q: float) -> np.ndarray:
    """The maximizer of vᵀη over ‖η‖_p ≤ 1, a little inside."""
    a = np.abs(v)
    if a.max() == 0:
        return np.zeros_like(v)
    if p == 1:
        return np.where(np.arange(len(v)) == a.argmax(), np.sign(v), 0.0)
    if p == math.inf:
        return np.asarray(np.sign(v))
    step = np.sign(v) * (a / a.max()) ** (q - 1)
    return np.asarray(step / np.linalg.norm(step, ord=p) * (1 - 1e-14))


def _relax(A: np.ndarray, q: float, solver: str) -> tuple[str, float, np.ndarray | None, np.ndarray | None]:
    """maximize Σ_i l_i^q r_i^{q/2} subject to r = K vec(V), V ⪰ 0, tr V = 1, in the range of A, columns of length 1.

    l_i is what their length was, W = UVUᵀ, U a basis of the range; with the dual value u_i of row i, 1/y_i ~ u_i/l_i².
    """
    lengths = np.linalg.norm(A, axis=0)
    kept = lengths > 0
    axes, values, _ = np.linalg.svd(A, full_matrices=False)
    full = len(values) == len(A) and values[-1] > 1e-13 * values[0]
    U = np.eye(len(A)) if full else axes[:, values > 1e-13 * values[0]]
    B = (U.T @ A)[:, kept] / lengths[kept]
    m, d = B.shape
    K = (B[:, None] * B[None]).reshape(m * m, d).T
    weights = (lengths[kept] / lengths.max()) ** q
    made = compiled(None, partial(_write, K, weights, q, solver))
    answer = made.run({})
    get = made.reads[0]
    if answer.primal is None or get is None:
        return answer.word, made.seconds, None, None
    slope = np.zeros(len(lengths))
    slope[kept] = np.abs(get()) / lengths[kept] ** 2
    return answer.word, made.seconds, U @ made.value(answer, "V").reshape(m, m) @ U.T, slope


def _write(K: np.ndarray, weights: np.ndarray, q: float, solver: str) -> Compiled:
    d, m = len(K), math.isqrt(K.shape[1])
    V, r = cp.Variable((m, m), PSD=True), cp.Variable(d)
    link = r == K @ cp.vec(V, order="C")
    rows = [link, cp.trace(V) == 1]
    if q == 1:
        value = weights @ cp.sqrt(r)
    else:
        t = cp.Variable(d)
        value = weights @ t
        rows.append(cp.PowCone3D(r, np.ones(d), t, q / 2))
    problem = cp.Problem(cp.Maximize(value), rows)
    try:
        problem._construct_chain(solver=solver)
    except cp.error.SolverError as error:
        raise refused(solver, error) from error
    return Compiled(problem, {}, solver, [lambda: np.ravel(link.dual_value)], {"V": V})
