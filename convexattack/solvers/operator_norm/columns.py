"""The relaxation of ‖J‖_{p→2}, p ≥ 2, as a problem in y ∈ R^d, for where W would have far more unknowns: m(m+1)/2 ≫ d.

    minimize ‖y‖_σ  subject to  Z = Diag(y) − C ⪰ 0,     C = JᵀJ,  σ = p/(p − 2)
    maximize ⟨C, X⟩  subject to  X ⪰ 0,  ‖diag X‖_{p/2} ≤ 1

are dual to each other and equal to the square of the bound for ε = 1. The primal-dual method of Helmberg, Rendl,
Vanderbei and Wolkowicz runs on ZX = μI and diag X = ∇‖y‖_σ: one Newton step is X + dX = μZ⁻¹ − sym(Z⁻¹ Diag(dy) X), and
dy solves the d × d system

    (Z⁻¹ ∘ X + ∇²‖y‖_σ) dy = μ diag Z⁻¹ − ∇‖y‖_σ        (with Mehrotra's corrector on the right).

W = JXJᵀ then gives the bracket of the rows' problem: s_i² = (CXC)_ii.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.solvers.operator_norm.rows import Relaxed

__all__ = ["relax"]

GAP = 5e-9
STEPS = 60
PATIENCE = 10  # steps without a narrower bracket
BACK = 0.9  # from one trial step to the next


def relax(J: Float[Tensor, "N m d"], q: float) -> Relaxed:
    """Solve N items, each scaled to ‖J‖_F = 1, float64. Columns that are 0 get y = 0."""
    n, m, d = J.shape
    whole, C = J, J.mT @ J
    sigma = q / (2 - q)
    y = 2 * torch.linalg.eigvalsh(J @ J.mT if m < d else C)[:, -1:].clamp_min(1e-300).expand(n, d)
    X = torch.diag_embed(_length(y, sigma)[1])
    best_y, best_X = y.clone(), X.clone()
    width, idle, steps = (torch.full_like(y[:, 0], fill) for fill in (torch.inf, 0.0, 0.0))
    live = torch.arange(n, device=J.device)
    for step in range(STEPS):
        value = _length(y, sigma)[0]
        reached = (C * X).sum((1, 2)) / _length(
            X.diagonal(dim1=1, dim2=2), sigma / (sigma - 1) if sigma > 1 else torch.inf
        )[0]
        gap = 1 - (reached / value).clamp_min(0).sqrt()
        better = gap < width[live]
        idle[live] = torch.where(gap < 0.7 * width[live], 0.0, idle[live] + 1)
        chosen = live[better]
        best_y[chosen], best_X[chosen], width[chosen], steps[live] = y[better], X[better], gap[better], float(step)
        keep = (width[live] > GAP) & (idle[live] < PATIENCE)
        if not bool(keep.all()):
            live, C, y, X = (part[keep] for part in (live, C, y, X))
        if not len(live):
            break
        y, X = _newton(C, y, X, sigma)
        sound = y.isfinite().all(1) & X.isfinite().flatten(1).all(1)
        if not bool(sound.all()):
            live, C, y, X = (part[sound] for part in (live, C, y, X))
            if not len(live):
                break
    return _in_rows(whole, best_y, best_X, q, steps)


def _in_rows(J: Tensor, y: Tensor, X: Tensor, q: float, steps: Tensor) -> Relaxed:
    """The same multipliers for the rows' problem, W = JXJᵀ as a factor, with its bracket."""
    y = torch.where(J.any(1), y, 0.0)
    chol, bad = torch.linalg.cholesky_ex(X)
    if bool((bad != 0).any()):
        values, vectors = torch.linalg.eigh(X)
        chol = torch.where((bad == 0)[:, None, None], chol, vectors * values.clamp_min(0).sqrt()[:, None])
    F = J @ chol
    if F.shape[1] < F.shape[2]:
        F = torch.linalg.qr(F.mT, mode="r")[1].mT
    s = (F.mT @ J).square().sum(1).sqrt()
    size = F.square().sum((1, 2)).sqrt()
    low = s.abs().pow(q).sum(-1).pow(1 / q) / torch.where(size > 0, size, 1.0)
    Z = J * torch.where(y > 0, y.rsqrt(), 0.0)[:, None]
    top = torch.linalg.eigvalsh(Z @ Z.mT if J.shape[1] <= J.shape[2] else Z.mT @ Z)[:, -1]
    high = (top * _length(y, q / (2 - q))[0]).sqrt()
    return Relaxed(y, F, low, high, steps.long())


def _length(y: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """‖y‖_σ (N,), its gradient t (N, d), and the diagonal of its Hessian before − (σ − 1)ttᵀ/‖y‖; y ≥ 0."""
    top = y.amax(-1, keepdim=True)
    u = y / torch.where(top > 0, top, 1.0)
    if sigma == 1:
        return y.sum(-1), torch.ones_like(y), torch.zeros_like(y)
    if sigma == torch.inf:
        return top[:, 0], torch.zeros_like(y), torch.zeros_like(y)
    length = u.pow(sigma).sum(-1, keepdim=True).pow(1 / sigma)
    u = u / length
    size = (top * length)[:, 0]
    return size, u.pow(sigma - 1), (sigma - 1) * u.pow(sigma - 2) / size[:, None]


def _newton(C: Tensor, y: Tensor, X: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """One predictor-corrector step."""
    d = y.shape[1]
    value, t, curvature = _length(y, sigma)
    Z = torch.diag_embed(y) - C
    root, broken = torch.linalg.cholesky_ex(Z)
    inverse = torch.cholesky_inverse(torch.where((broken == 0)[:, None, None], root, torch.eye(d).to(Z)))
    H = inverse * X
    H.diagonal(dim1=1, dim2=2).add_(curvature)
    if sigma > 1:
        H.baddbmm_(t[:, :, None], t[:, None] * ((1 - sigma) / value)[:, None, None])
    chol = torch.linalg.cholesky_ex(H)[0]
    mu = ((Z * X).sum((1, 2)) / d)[:, None]
    around = inverse.diagonal(dim1=1, dim2=2)

    def solve(target: Tensor, extra: Tensor | None) -> tuple[Tensor, Tensor]:
        """dy, dX for ZX → target·I, less the second-order term `extra`."""
        right = target * around - t
        if extra is not None:
            right = right - extra.diagonal(dim1=1, dim2=2)
        dy = torch.cholesky_solve(right[..., None], chol).squeeze(-1)
        move = inverse @ (dy[:, :, None] * X)
        dX = target[..., None] * inverse - X - (move + move.mT) / 2
        return dy, dX if extra is None else dX - extra

    dy, dX = solve(torch.zeros_like(mu), None)
    along_y = _reach(Z, torch.diag_embed(dy), 0.75)
    along_X = _reach(X, dX, 0.75)
    if sigma > 1:
        along_y = along_X = torch.minimum(along_y, along_X)
    left = ((Z + along_y[:, None, None] * torch.diag_embed(dy)) * (X + along_X[:, None, None] * dX)).sum((1, 2))[
        :, None
    ] / d
    cross = inverse @ (dy[:, :, None] * dX)
    target = (left / mu).clamp(1e-6, 1.0).pow(3) * mu
    dy, dX = solve(target, (cross + cross.mT) / 2)
    along_y, along_X = _reach(Z, torch.diag_embed(dy), BACK), _reach(X, dX, BACK)
    if sigma > 1:
        along_y = along_X = torch.minimum(along_y, along_X)
    along_y = torch.where(broken == 0, along_y, torch.nan)
    return y + along_y[:, None] * dy, X + along_X[:, None, None] * dX


def _reach(A: Tensor, D: Tensor, back: float) -> Tensor:
    """A step α in {1, back, back², …} with A + αD ≻ 0, drawn in a little where that is not the whole step; NaN where
    there is none.
    """
    alpha = torch.ones_like(A[:, 0, 0])
    open_ = torch.arange(len(A), device=A.device)
    for _ in range(60):
        root, bad = torch.linalg.cholesky_ex(torch.addcmul(A, alpha[open_, None, None], D))
        left = (bad != 0) | ~root.diagonal(dim1=1, dim2=2).isfinite().all(1)
        if not bool(left.all()):
            open_, A, D = open_[left], A[left], D[left]
            if not len(open_):
                break
        alpha[open_] *= back
    alpha[open_] = torch.nan
    return torch.where(alpha < 1, 0.95 * alpha, alpha)
