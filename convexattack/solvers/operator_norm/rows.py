"""The relaxation of ‖J‖_{p→2}, p ≥ 2, as a problem in a symmetric m × m matrix W: a batched primal-dual interior-point
method.

    maximize  2‖s(W)‖_q − tr W   over  W ⪰ 0,      s_i(W) = (j_iᵀ W j_i)^{1/2}

is the relaxation without its scale (at the optimum tr W = ‖s(W)‖_q, which is the bound for ε = 1). Its gradient
vanishes where S = I − G(W) ⪰ 0 and SW = 0, with G = ‖s‖_q^{1−q} Σ_i s_i^{q−2} j_i j_iᵀ. Any W gives the bracket

    ‖s(W)‖_q / (tr W)^{1/2}  ≤  relaxation  ≤  (‖s(W)‖_q λ_max(G))^{1/2},

the right-hand side by y_i = s_i^{2−q}. Newton's method runs on SW = μI in the scaling of Nesterov and Todd, R⁻¹WR⁻ᵀ =
RᵀSR = Λ, with Mehrotra's corrector. W = L₁L₁ᵀ and S = L₂L₂ᵀ are kept as factors and never formed, because W loses rank
at the optimum. A step costs d·(m(m+1)/2)² multiplications for the Hessian, which is summed in blocks that stay in
cache, in float32 until μ is small. Where that is too much (`direct=False`) conjugate gradients, with the Hessian's
diagonal as preconditioner, take 2dm² for each product with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Relaxed", "relax"]

GAP = 8e-9  # relative, between the two sides of the bracket of the norm
STEPS = 40
PATIENCE = 10  # steps without a better bracket, after which rounding has the last word
ROUGH = 1e-4  # μ down to which float32 products do,
NARROW = 1e-15  # unless columns are this short, ‖J‖_F being 1
LONG = 12  # and for so many steps at most: they give no bracket
TURNS, CENTRE = 5, 0.1  # of the fixed point that the start is taken from, and the share of I in it
CLOSE = 1e-6  # relative residual of conjugate gradients
PRODUCTS = 400  # of theirs, at most
IN_CACHE = 1_200_000  # float32 numbers of one block of products of rows, half as many in float64


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Multipliers of N items and the bracket that the solver believes in, for ε = 1."""

    y: Float[Tensor, "N d"]
    factor: Float[Tensor, "N m r"]
    low: Float[Tensor, " N"]
    high: Float[Tensor, " N"]
    steps: Int[Tensor, " N"]


def relax(J: Float[Tensor, "N m d"], q: float, direct: bool = True) -> Relaxed:
    """Solve N items, each scaled to ‖J‖_F = 1, float64. Columns that are 0 get y = 0."""
    real = J.any(1)
    rough = direct and bool(((J.abs().amax(1) > NARROW) | ~real).all())
    found = _relax(J, real, q, direct, rough)
    missed = (found.high - found.low > GAP * found.high) | found.high.isinf()
    if rough and bool(missed.any()):  # float32 may have led astray
        again = _relax(J[missed], real[missed], q, direct, False)
        for old, new in zip(vars(found).values(), vars(again).values(), strict=True):
            old[missed] = new
    return found


def _relax(J: Tensor, real: Tensor, q: float, direct: bool, rough: bool) -> Relaxed:
    n, m = J.shape[:2]
    eye = torch.eye(m, dtype=J.dtype, device=J.device)
    single = J.float() if rough else J
    L1 = eye.expand(n, m, m)
    for _ in range(TURNS):  # F ← GF never lowers ‖s(FFᵀ)‖_q/‖F‖
        L1 = _gradient(single, real, L1, q)[2] @ L1
        L1 = L1 / L1.flatten(1).norm(dim=1)[:, None, None]
    L1 = torch.linalg.cholesky((1 - CENTRE) * L1 @ L1.mT + CENTRE / m * eye)
    G = _gradient(single, real, L1, q)[2]
    root = torch.linalg.eigvalsh(G)[:, -1] / 0.8  # G(tW) = G(W)/√t
    L2 = torch.linalg.cholesky(eye - G / root[:, None, None])
    L1 = L1 * root[:, None, None]
    none, all_ = torch.zeros_like(root), torch.full_like(root, torch.inf)
    best = Relaxed(torch.ones_like(J[:, 0]), L1.clone(), none.clone(), all_, none.to(torch.int64))
    idle = torch.zeros_like(best.steps)
    live = torch.arange(n, device=J.device)
    for step in range(STEPS):
        s, a, G = _gradient(single if rough else J, real, L1, q)
        if not rough:
            keep = _record(best, idle, live, step, s, a, G, L1, q)
            if not bool(keep.all()):
                live, J, real, s, a, G, L1, L2, idle = (part[keep] for part in (live, J, real, s, a, G, L1, L2, idle))
            if not len(live):
                break
        L1, L2, mu = _newton(J, s, a, G, L1, L2, q, direct, rough)
        rough = rough and step < LONG and bool((mu > ROUGH).all())
        sound = (L1.isfinite() & L2.isfinite()).flatten(1).all(1)
        if not bool(sound.all()):  # a factorization broke down: the bracket so far stands
            live, J, real, L1, L2, idle = (part[sound] for part in (live, J, real, L1, L2, idle))
            rough = False
            if not len(live):
                break
    return best


def _record(
    best: Relaxed, idle: Tensor, live: Tensor, step: int, s: Tensor, a: Tensor, G: Tensor, L1: Tensor, q: float
) -> Tensor:
    """Keep what improves the bracket of the live items; which of them go on."""
    low, high = a / L1.square().sum((1, 2)).sqrt(), (a * torch.linalg.eigvalsh(G)[:, -1]).sqrt()
    old = best.high[live] - best.low[live]
    better = high < best.high[live]
    best.y[live[better]], best.high[live[better]] = s[better].pow_(2 - q), high[better]
    better = low > best.low[live]
    best.factor[live[better]], best.low[live[better]] = L1[better], low[better]
    best.steps[live] = step
    width = best.high[live] - best.low[live]
    idle += 1
    idle[~(width >= 0.7 * old)] = 0
    return (width > GAP * best.high[live]) & (idle < PATIENCE)


def _gradient(J: Tensor, real: Tensor, L1: Tensor, q: float) -> tuple[Tensor, Tensor, Tensor]:
    """s (N, d), 0 where a column is 0; ‖s‖_q; G, for W = L₁L₁ᵀ. The products are in the dtype of J, the rest in
    float64.
    """
    n, m, d = J.shape
    s, M = L1.new_empty(n, d), torch.empty_like(L1)
    factor = L1.mT.to(J.dtype)
    for part in _blocks(n, m * d, J):
        length = (factor[part] @ J[part]).square_().sum(1).sqrt_()
        length = torch.where(real[part], length.clamp_min_(1e-150 if J.dtype == torch.float64 else 1e-30), 0.0)
        Z = J[part] * torch.where(real[part], length.pow((q - 2) / 2), 0.0)[:, None]
        s[part], M[part] = length, Z @ Z.mT
    a = s.sum(-1) if q == 1 else s.pow(q).sum(-1).pow(1 / q)
    a = torch.where(a > 0, a, 1.0)
    return s, a, M * a.pow(1 - q)[:, None, None]


def _blocks(n: int, numbers: int, like: Tensor) -> list[slice]:
    """The items in blocks of `numbers` each that stay in cache together."""
    room = IN_CACHE // 8 if like.device.type == "cpu" else 64 * IN_CACHE
    items = max(1, room // numbers)
    return [slice(a, a + items) for a in range(0, n, items)]


def _newton(
    J: Tensor, s: Tensor, a: Tensor, G: Tensor, L1: Tensor, L2: Tensor, q: float, direct: bool, rough: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """One predictor-corrector step: the next factors of W and S, and μ before it."""
    m = J.shape[1]
    eye = torch.eye(m, dtype=J.dtype, device=J.device)
    B = L2.mT @ L1
    squares, V = torch.linalg.eigh(B.mT @ B)
    lam = squares.clamp_min(1e-300).sqrt()
    R = L1 @ (V * lam.rsqrt()[:, None])
    mu = squares.mean(-1)
    Lam = torch.diag_embed(lam)
    scaled_G = R.mT @ G @ R
    residual = R.mT @ R - scaled_G - Lam
    weight = torch.where(s > 0, s.pow((q - 2) / 4) * s.rsqrt(), 0.0)
    curve, bend = (1 - q / 2) * a.pow(1 - q), (q - 1) / 2 / a
    if direct:
        invert = _direct(_hessian(R, J, weight, rough), curve, bend, scaled_G)
    else:
        invert = _iterative(R.mT @ J * weight[:, None], curve, bend, scaled_G)

    def solve(v: Tensor) -> tuple[Tensor, Tensor]:
        """dW + dS = v and dS = residual + (−∇²φ)dW."""
        dW = invert(v - residual)
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
    v = (
        2
        * ((sigma * mu)[:, None, None] * eye - torch.diag_embed(squares) - (cross + cross.mT) / 2)
        / (lam[:, :, None] + lam[:, None])
    )
    dW, dS = solve(v)
    alpha = (0.99 * reach(dW, dS)).clamp_max(1.0)[:, None, None]
    X1, bad1 = torch.linalg.cholesky_ex(Lam + alpha * dW)
    X2, bad2 = torch.linalg.cholesky_ex(Lam + alpha * dS)
    X1 = torch.where(((bad1 != 0) | (bad2 != 0))[:, None, None], torch.nan, X1)
    return R @ X1, torch.linalg.solve_ex(R.mT, X2)[0], mu


def _direct(H: Tensor, curve: Tensor, bend: Tensor, G: Tensor) -> Callable[[Tensor], Tensor]:
    """B → D with D − ∇²φ[D] = B, by Cholesky in the coordinates c·D_ij, i ≤ j; H without its weights."""
    m = G.shape[1]
    i, j = torch.triu_indices(m, m, device=G.device)
    c = torch.where(i == j, 1.0, 2.0**0.5).to(G)
    g = c * G[:, i, j]
    H *= curve[:, None, None] * c[:, None] * c
    if bool((bend > 0).any()):
        H.baddbmm_(g[:, :, None], g[:, None] * bend[:, None, None])
    H.diagonal(dim1=1, dim2=2).add_(1.0)
    chol = torch.linalg.cholesky_ex(H)[0]

    def invert(B: Tensor) -> Tensor:
        x = torch.cholesky_solve((c * B[:, i, j])[..., None], chol).squeeze(-1) / c
        D = torch.empty_like(B)
        D[:, i, j] = x
        D[:, j, i] = x
        return D

    return invert


def _iterative(V: Tensor, curve: Tensor, bend: Tensor, G: Tensor) -> Callable[[Tensor], Tensor]:
    """The same by conjugate gradients, V = weighted RᵀJ."""

    def times(D: Tensor) -> Tensor:
        bent = ((V * (D @ V)).sum(1) * curve[:, None])[:, None]
        return D + (V * bent) @ V.mT + G * ((G * D).sum((1, 2)) * bend)[:, None, None]

    squared = V.square()
    diagonal = 1 + curve[:, None, None] * (squared @ squared.mT) + bend[:, None, None] * G.square()

    def invert(B: Tensor) -> Tensor:
        x, rest = torch.zeros_like(B), B
        z = rest / diagonal
        along, size = z, (rest * z).sum((1, 2))
        stop = CLOSE**2 * size
        for _ in range(PRODUCTS):
            image = times(along)
            step = size / (along * image).sum((1, 2)).clamp_min(1e-300)
            x = x + step[:, None, None] * along
            rest = rest - step[:, None, None] * image
            z = rest / diagonal
            last, size = size, (rest * z).sum((1, 2))
            if bool((size <= stop).all()):
                break
            along = z + (size / last.clamp_min(1e-300))[:, None, None] * along
        return (x + x.mT) / 2

    return invert


def _hessian(R: Tensor, J: Tensor, weight: Tensor, rough: bool) -> Tensor:
    """Σ_e vec(v vᵀ)vec(v vᵀ)ᵀ over the columns v = weight_e Rᵀj_e, upper triangles, block by block."""
    n, m, d = J.shape
    k = m * (m + 1) // 2
    H = torch.zeros(n, k, k, dtype=J.dtype, device=J.device)
    dtype = torch.float32 if rough else J.dtype
    room = IN_CACHE * 4 // dtype.itemsize if J.device.type == "cpu" else 64 * IN_CACHE
    columns = min(d, max(256, room // k))
    items = max(1, room // k // columns)
    R = R.mT.contiguous()
    for a in range(0, n, items):
        for b in range(0, d, columns):
            v = (
                (R[a : a + items] @ J[a : a + items, :, b : b + columns]) * weight[a : a + items, None, b : b + columns]
            ).to(dtype)
            products = torch.empty(len(v), k, v.shape[2], dtype=dtype, device=J.device)
            start = 0
            for r in range(m):
                torch.mul(v[:, r : r + 1], v[:, r:], out=products[:, start : start + m - r])
                start += m - r
            H[a : a + items] += products @ products.mT
    return H
