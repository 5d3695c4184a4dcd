"""The relaxation of ‖J‖_{p→2}, p ≥ 2, as a problem in a symmetric m × m matrix W: a batched primal-dual interior-point method.

    maximize  2‖s(W)‖_q − tr W   over  W ⪰ 0,      s_i(W) = (j_iᵀ W j_i)^{1/2}

is the relaxation without its scale (at the optimum tr W = ‖s(W)‖_q, which is the bound for ε = 1). Its gradient vanishes where
S = I − G(W) ⪰ 0 and SW = 0, with G = ‖s‖_q^{1−q} Σ_i s_i^{q−2} j_i j_iᵀ. Any W gives the bracket

    ‖s(W)‖_q / (tr W)^{1/2}  ≤  relaxation  ≤  (‖s(W)‖_q λ_max(G))^{1/2},

the right-hand side by y_i = s_i^{2−q}. Newton's method runs on SW = μI in the scaling of Nesterov and Todd, R⁻¹WR⁻ᵀ = RᵀSR = Λ, with
Mehrotra's corrector. W = L₁L₁ᵀ and S = L₂L₂ᵀ are kept as factors and never formed, because W loses rank at the optimum. A step costs
d·(m(m+1)/2)² multiplications for the Hessian, which is summed in blocks that stay in cache, in float32 until μ is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Relaxed", "relax"]

GAP = 5e-9  # relative, between the two sides of the bracket of the norm
STEPS = 40
PATIENCE = 4  # steps without a better bracket, after which rounding has the last word
ROUGH = 1e-4  # μ above which a float32 Hessian does
IN_CACHE = 600_000  # numbers of one block of products of rows


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Multipliers of N items and the bracket that the solver believes in, for ε = 1."""

    y: Float[Tensor, "N d"]
    factor: Float[Tensor, "N m r"]
    low: Float[Tensor, " N"]
    high: Float[Tensor, " N"]
    steps: Int[Tensor, " N"]


def relax(J: Float[Tensor, "N m d"], q: float) -> Relaxed:
    """Solve N items, each scaled to ‖J‖_F = 1, float64. Columns that are 0 get y = 0."""
    n, m, d = J.shape
    real = J.any(1)
    eye = torch.eye(m, dtype=J.dtype, device=J.device)
    s, a, G = _gradient(J, real, eye.expand(n, m, m), q)
    t = (torch.linalg.eigvalsh(G)[:, -1] / 0.7).square()  # G(tI) = G(I)/√t
    L1 = eye * t.sqrt()[:, None, None]
    L2 = torch.linalg.cholesky(eye - G / t.sqrt()[:, None, None])
    best = Relaxed(s.pow(2 - q), L1.clone(), torch.zeros_like(a), torch.full_like(a, torch.inf), torch.zeros_like(a, dtype=torch.int64))
    idle = torch.zeros_like(best.steps)
    live = torch.arange(n, device=J.device)
    for step in range(STEPS):
        s, a, G = _gradient(J, real, L1, q)
        keep = _record(best, idle, live, step, s.pow(2 - q), a, G, L1)
        if not bool(keep.all()):
            live, J, real, s, a, G, L1, L2, idle = (part[keep] for part in (live, J, real, s, a, G, L1, L2, idle))
        if not len(live):
            break
        L1, L2 = _newton(J, s, a, G, L1, L2, q)
        sound = (L1.isfinite() & L2.isfinite()).flatten(1).all(1)
        if not bool(sound.all()):  # a factorization broke down: the bracket so far stands
            live, J, real, L1, L2, idle = (part[sound] for part in (live, J, real, L1, L2, idle))
            if not len(live):
                break
    return best


def _record(best: Relaxed, idle: Tensor, live: Tensor, step: int, y: Tensor, a: Tensor, G: Tensor, L1: Tensor) -> Tensor:
    """Keep what improves the bracket of the live items; which of them go on."""
    low, high = a / L1.square().sum((1, 2)).sqrt(), (a * torch.linalg.eigvalsh(G)[:, -1]).sqrt()
    old = best.high[live] - best.low[live]
    better = high < best.high[live]
    best.y[live[better]], best.high[live[better]] = y[better], high[better]
    better = low > best.low[live]
    best.factor[live[better]], best.low[live[better]] = L1[better], low[better]
    best.steps[live] = step
    width = best.high[live] - best.low[live]
    idle += 1
    idle[width < 0.7 * old] = 0
    return (width > GAP * best.high[live]) & (idle < PATIENCE)


def _gradient(J: Tensor, real: Tensor, L1: Tensor, q: float) -> tuple[Tensor, Tensor, Tensor]:
    """s (N, d), 1 where a column is 0; ‖s‖_q; G, for W = L₁L₁ᵀ."""
    s = (L1.mT @ J).square_().sum(1).sqrt_()
    s = torch.where(real, s.clamp_min(1e-150), 0.0)
    a = s.sum(-1) if q == 1 else s.pow(q).sum(-1).pow(1 / q)
    a = torch.where(a > 0, a, 1.0)
    Z = J * torch.where(real, s.pow((q - 2) / 2), 0.0)[:, None]
    return s, a, Z @ Z.mT * a.pow(1 - q)[:, None, None]


def _newton(J: Tensor, s: Tensor, a: Tensor, G: Tensor, L1: Tensor, L2: Tensor, q: float) -> tuple[Tensor, Tensor]:
    """One predictor-corrector step: the next factors of W and S."""
    n, m, _ = J.shape
    eye = torch.eye(m, dtype=J.dtype, device=J.device)
    i, j = torch.triu_indices(m, m, device=J.device)
    c = torch.where(i == j, 1.0, 2.0**0.5).to(J)  # svec: ⟨A, B⟩ is the product of the vectors c·A_ij, c·B_ij, i ≤ j
    B = L2.mT @ L1
    squares, V = torch.linalg.eigh(B.mT @ B)
    lam = squares.clamp_min(1e-300).sqrt()
    R = L1 @ (V * lam.rsqrt()[:, None])
    mu = squares.mean(-1)
    H = _hessian(R, J, torch.where(s > 0, s.pow((q - 4) / 4), 0.0), bool((mu > ROUGH).all()))
    H *= ((1 - q / 2) * a.pow(1 - q))[:, None, None] * c[:, None] * c
    if q > 1:
        g = c * (R.mT @ G @ R)[:, i, j]
        H.baddbmm_(g[:, :, None], g[:, None] * ((q - 1) / 2 / a)[:, None, None])
    H.diagonal(dim1=1, dim2=2).add_(1.0)
    chol = torch.linalg.cholesky_ex(H)[0]
    Lam = torch.diag_embed(lam)
    residual = R.mT @ (eye - G) @ R - Lam

    def solve(v: Tensor) -> tuple[Tensor, Tensor]:
        """dW + dS = v and dS = residual + (−∇²φ)dW."""
        x = torch.cholesky_solve((c * (v - residual)[:, i, j])[..., None], chol).squeeze(-1) / c
        dW = torch.empty_like(v)
        dW[:, i, j] = x
        dW[:, j, i] = x
        return dW, v - dW

    root = lam.rsqrt()

    def reach(dW: Tensor, dS: Tensor) -> Tensor:
        """The longest step that keeps both Λ + α dW and Λ + α dS positive semidefinite."""
        scaled = root[:, :, None] * torch.stack((dW, dS)) * root[:, None]
        least = torch.linalg.eigvalsh(scaled.nan_to_num(0.0, 0.0, 0.0))[..., 0].amin(0)
        return torch.where(least < 0, -1 / least, torch.inf)

    dW, dS = solve(-Lam)
    alpha = reach(dW, dS).clamp_max(1.0)[:, None, None]
    left = ((Lam + alpha * dW) * (Lam + alpha * dS)).sum((1, 2)) / m
    sigma = (left / mu).clamp(1e-6, 1.0).pow(3)
    cross = dW @ dS
    v = 2 * ((sigma * mu)[:, None, None] * eye - torch.diag_embed(squares) - (cross + cross.mT) / 2) / (lam[:, :, None] + lam[:, None])
    dW, dS = solve(v)
    alpha = (0.98 * reach(dW, dS)).clamp_max(1.0)[:, None, None]
    X1, bad1 = torch.linalg.cholesky_ex(Lam + alpha * dW)
    X2, bad2 = torch.linalg.cholesky_ex(Lam + alpha * dS)
    X1 = torch.where(((bad1 != 0) | (bad2 != 0))[:, None, None], torch.nan, X1)
    return R @ X1, torch.linalg.solve_ex(R.mT, X2)[0]


def _hessian(R: Tensor, J: Tensor, weight: Tensor, rough: bool) -> Tensor:
    """Σ_e vec(v vᵀ)vec(v vᵀ)ᵀ over the columns v = weight_e Rᵀj_e, upper triangles, block by block."""
    n, m, d = J.shape
    k = m * (m + 1) // 2
    H = torch.zeros(n, k, k, dtype=J.dtype, device=J.device)
    dtype = torch.float32 if rough else J.dtype
    room = IN_CACHE if J.device.type == "cpu" else 64 * IN_CACHE
    columns = min(d, max(256, room // k))
    items = max(1, room // k // columns)
    R = R.mT.contiguous()
    for a in range(0, n, items):
        for b in range(0, d, columns):
            v = ((R[a : a + items] @ J[a : a + items, :, b : b + columns]) * weight[a : a + items, None, b : b + columns]).to(dtype)
            products = torch.empty(len(v), k, v.shape[2], dtype=dtype, device=J.device)
            start = 0
            for r in range(m):
                torch.mul(v[:, r : r + 1], v[:, r:], out=products[:, start : start + m - r])
                start += m - r
            H[a : a + items] += products @ products.mT
    return H
