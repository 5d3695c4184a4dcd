"""The reference for (9): the m × m relaxation through CVXPY, item by item, and η by rounding along the eigenvectors of W.

The text is normalised, in the range of J and with columns of length 1, and written in K, whose rows are the entries of j_ij_iᵀ:
j_iᵀWj_i = K_i vec(W).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import torch

from convexattack.norms import Lp
from convexattack.programs import OperatorNorm
from convexattack.solution import Solution, Status

__all__ = ["solve"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "CLARABEL": {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9},
    "SCS": {"eps_abs": 1e-8, "eps_rel": 1e-8, "max_iters": 100_000},
}


def solve(
    program: OperatorNorm, solver: str | None = None, progress: Callable[[int], object] | None = None
) -> Solution:
    """Solve item by item; p < 2 and p = 2 by NumPy's singular values instead, as there is no cone program to ask.

    Args:
        program: with J held.
        solver: an installed CVXPY solver for semidefinite and (2 < p < ∞) power cones; None picks Clarabel, and asks SCS where that one
            gave up.
        progress: called with 1 after each item.

    Raises:
        ValueError: a solver that is unknown, not installed, or without these cones; or a matrix-free Jacobian.
    """
    if not program.explicit:
        raise ValueError(
            "solver='reference' needs the Jacobian itself; write ca.OperatorNorm(ca.jacobian(model, x), ball)"
        )
    names = [_installed(solver)] if solver else [cp.CLARABEL, cp.SCS]
    J = program.J.cpu().numpy()
    radius = program.ball.radii(program.J).cpu().numpy()
    n, m, d = J.shape
    eta, y, F = np.full((n, d), np.nan), np.ones((n, d)), np.zeros((n, m, m))
    codes, words, seconds = np.full(n, Status.INVALID.code, dtype=np.int8), ["not run"] * n, np.zeros(n)
    for i in range(n):
        if np.isfinite(J[i]).all():
            begin = time.perf_counter()
            for name in names:
                codes[i], word, eta[i], y[i], F[i] = _one(J[i], program.norm, name)
                words[i] = word if name == names[0] else f"{words[i]}, {name}: {word}"
                if codes[i] != Status.FAILED.code:
                    break
            seconds[i] = time.perf_counter() - begin
        if progress is not None:
            progress(1)
    like = program.J
    step = torch.from_numpy(eta) * torch.from_numpy(np.asarray(radius))[:, None]
    found = (torch.from_numpy(y).to(like), torch.from_numpy(F).to(like))
    stats = {"solver": names[0] if program.norm.p > 2 else "NumPy", "words": words, "seconds": seconds}
    return Solution(
        step.to(program.jacobian.dtype).to(like.device), torch.from_numpy(codes).to(like.device), found, stats
    )


def _installed(solver: str) -> str:
    found: dict[str, str] = {name.upper(): name for name in cp.installed_solvers()}
    if str(solver).upper() not in found:
        raise ValueError(
            f"solver={solver!r} is neither 'closed_form', 'enumeration', 'reference' nor an installed CVXPY solver; "
            f"installed are {', '.join(found)}"
        )
    return found[str(solver).upper()]


def _one(J: np.ndarray, norm: Lp, solver: str) -> tuple[int, str, np.ndarray, np.ndarray, np.ndarray]:
    """Code, the solver's word, η for ε = 1, y and F of one item."""
    m, d = J.shape
    p, q = norm.p, norm.q
    largest = np.abs(J).max()
    A = J / largest if largest > 0 else J
    size = np.linalg.norm(A)
    A = A / size if size > 0 else A
    lengths = np.linalg.norm(A, axis=0)
    word, W, y = "not needed", np.eye(m) / m, np.ones(d)
    if p == 1:
        k = int(lengths.argmax())
        W = np.outer(A[:, k], A[:, k])
    elif p <= 2:
        u = np.linalg.svd(A, full_matrices=False)[0][:, 0]
        W = np.outer(u, u)
    elif size > 0:
        word, found, slope = _relax(A, q, solver)
        if found is None or slope is None:
            return Status.FAILED.code, word, np.full(d, np.nan), np.ones(d), np.eye(m)
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
    return code, word, best, y, F


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


def _relax(A: np.ndarray, q: float, solver: str) -> tuple[str, np.ndarray | None, np.ndarray | None]:
    """maximize Σ_i l_i^q r_i^{q/2} subject to r = K vec(V), V ⪰ 0, tr V = 1, in the range of A and for columns of length 1 (l_i is theirs).

    With W = UVUᵀ, U a basis of the range, and the dual value u_i of the row of r_i, 1/y_i ~ u_i/l_i².
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
        raise ValueError(
            f"solver={solver!r} cannot take this program: {str(error).rstrip('.')}; use 'CLARABEL' or 'SCS'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": the certificate says how much
            problem.solve(solver=solver, **_OPTIONS.get(solver, {}))
    except Exception as error:  # solvers raise what they like, Rust panics included
        return f"{type(error).__name__}: {error}", None, None
    if V.value is None or link.dual_value is None:
        return str(problem.status), None, None
    slope = np.zeros(len(lengths))
    slope[kept] = np.abs(link.dual_value) / lengths[kept] ** 2
    return str(problem.status), U @ V.value @ U.T, slope
