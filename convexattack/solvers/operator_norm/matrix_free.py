"""(9) from products with J and Jᵀ alone: the top singular pair by Lanczos, and η for other p by alternation from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convexattack.linearize import JacobianOperator
from convexattack.norms import Lp
from convexattack.numerics import round_down
from convexattack.programs import OperatorNorm
from convexattack.solution import Solution, Status

__all__ = ["solve"]

BASIS = 40  # Lanczos vectors before a restart
RESTARTS = 10
LEADING = 3  # Ritz vectors that the alternation starts from,
DRAWS = 2  # and random directions
TURNS = 100  # of the alternation, at most
Product = Callable[[Tensor], Tensor]


def solve(program: OperatorNorm) -> Solution:
    """η for every item; multipliers (1, w) with w the top left singular vector, on which the bound rests."""
    J = program.jacobian
    assert isinstance(J, JacobianOperator)
    n, m, d = J.shape

    def forward(eta: Tensor) -> Tensor:
        return J.forward(eta.to(J.dtype)).to(torch.float64)

    def adjoint(w: Tensor) -> Tensor:
        return J.adjoint(w.to(J.dtype)).to(torch.float64)

    if d <= m:
        top, steps = _top(lambda v: adjoint(forward(v)), n, d, J)
    else:
        top, steps = _top(lambda w: forward(adjoint(w)), n, m, J)
        top = torch.stack([adjoint(w) for w in top.unbind(2)], 2)
    v, w = top[..., 0], forward(top[..., 0])
    size = Lp(2)(w)
    w = torch.where((size > 0)[:, None], w / torch.where(size > 0, size, 1.0)[:, None], 0.0)
    valid = v.isfinite().all(1) & w.isfinite().all(1)
    radius = program.ball.radii(v)
    starts = (
        [v]
        if program.norm.p == 2
        else [*top.unbind(2), *torch.randn(DRAWS, n, d, generator=torch.Generator().manual_seed(1)).to(v)]
    )
    ways = [_climb(forward, adjoint, program.norm, start) for start in starts]
    lengths = torch.stack([length for _, length in ways])
    eta = torch.stack([way for way, _ in ways])[lengths.argmax(0), torch.arange(n, device=v.device)]
    eta = round_down(eta * (radius * (1 - 2.0**-51))[:, None], J.dtype)
    eta = torch.where(valid[:, None], eta, torch.nan)
    low, high = program.primal(eta), program.bound((torch.ones_like(v), w[..., None])).value
    codes = torch.where(
        low >= high * (1 - 1e-9 - 64 * torch.finfo(J.dtype).eps), Status.OPTIMAL.code, Status.BRACKETED.code
    )
    codes = torch.where(valid, codes, Status.INVALID.code).to(torch.int8)
    stats = {
        "solver": "matrix_free",
        "lanczos_steps": steps,
        "exact": torch.full_like(valid, program.norm.p == 2) & valid,
    }
    return Solution(eta, codes, (torch.ones_like(v), w[..., None]), stats)


def _climb(forward: Product, adjoint: Product, norm: Lp, v: Tensor) -> tuple[Tensor, Tensor]:
    """Alternate η = steepest(−Jᵀw), w = Jη from η along v, until no item gains; the best η, ε = 1, and ‖Jη‖₂ there."""
    eta = -norm.steepest(v)
    best, last = eta, torch.full_like(v[:, 0], -1.0)
    for _ in range(TURNS):
        change = forward(eta)
        length = Lp(2)(change)
        better = length > last * (1 + 1e-9)
        best = torch.where(better[:, None], eta, best)
        if not bool(better.any()):
            break
        last = torch.maximum(last, length)
        eta = -norm.steepest(adjoint(change / torch.where(length > 0, length, 1.0)[:, None]))
    return best, last


def _top(product: Product, n: int, size: int, like: JacobianOperator) -> tuple[Tensor, Tensor]:
    """The leading Ritz vectors (n, size, k) of a positive semidefinite operator, the top one converged, by restarted
    Lanczos with full orthogonalization; and its steps."""
    tolerance = 1e-10 if like.dtype == torch.float64 else 8 * torch.finfo(like.dtype).eps
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(n, size, generator=generator, dtype=torch.float64).to(like.device)
    v = v / v.norm(dim=1, keepdim=True)
    steps = 0
    for _ in range(RESTARTS):
        basis, images = [v], []
        for _ in range(min(BASIS, size)):
            images.append(product(basis[-1]))
            steps += 1
            rest = images[-1]
            for _ in range(2):
                for old in basis:
                    rest = rest - (rest * old).sum(1, keepdim=True) * old
            length = rest.norm(dim=1, keepdim=True)
            scale = images[0].norm(dim=1, keepdim=True)
            basis.append(torch.where(length > 1e-14 * scale, rest / torch.where(length > 0, length, 1.0), 0.0))
        B, A = torch.stack(basis[: len(images)], 2), torch.stack(images, 2)
        T = B.mT @ A
        sound = T.isfinite().flatten(1).all(1)
        values, vectors = torch.linalg.eigh(torch.where(sound[:, None, None], (T + T.mT) / 2, 0.0))
        leading = B @ vectors[..., -LEADING:].flip(-1)
        v, image = leading[..., 0], (A @ vectors[..., -1:]).squeeze(-1)
        v = torch.where(sound[:, None], v / v.norm(dim=1, keepdim=True).clamp_min(1e-300), torch.nan)
        residual = (image - values[:, -1:] * v).norm(dim=1)
        if bool((~sound | (residual <= tolerance * values[:, -1])).all()) or size <= BASIS:
            break
    leading[..., 0] = v
    return leading, torch.full((n,), steps, device=like.device)
