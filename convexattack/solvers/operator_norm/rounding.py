"""Feasible η for (9): rounding a factor of W, the alternation that never decreases ‖Jη‖₂, and the cases that can be solved exactly.

For w ∈ R^m the best η is ε·steepest(−Jᵀw), with wᵀJη = ε‖Jᵀw‖_q; for η the best w is Jη/‖Jη‖₂. Alternating the two is the nonlinear
power method (Boyd): ‖Jη_{k+1}‖ ≥ w_kᵀJη_{k+1} ≥ w_kᵀJη_k = ‖Jη_k‖.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp

__all__ = ["MOST_SIGNS", "climb", "enumerate_signs", "in_two_rows", "round_factor", "sweep"]

DRAWS = 48  # Gaussian draws from W
KEPT = 8  # of them, the best go on to alternate
TURNS = 60  # of the alternation, at most
AT_ONCE = 2**22  # numbers of one block of candidates
MOST_SIGNS = 20  # coordinates up to which all signs are tried


def round_factor(J: Float[Tensor, "N m d"], F: Float[Tensor, "N m r"], norm: Lp) -> tuple[Float[Tensor, "N d"], Float[Tensor, " N"]]:
    """The best η, ε = 1, of many w drawn from N(0, FFᵀ) and its principal directions, each improved by alternation; and the mean over the
    plain draws of ‖Jη‖₂² (Nesterov's rounding, before any alternation)."""
    n, m, d = J.shape
    r = F.shape[2]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(r, DRAWS, generator=generator, dtype=torch.float64).to(J)
    eta, mean = torch.empty_like(J[:, 0]), torch.empty_like(J[:, 0, 0])
    items = max(1, AT_ONCE // (DRAWS * d))
    for a in range(0, n, items):
        part, factor = J[a : a + items], F[a : a + items]
        own = torch.linalg.svd(factor, full_matrices=False)[0][..., :KEPT] if min(m, r) <= 64 else factor[..., :KEPT]
        longest = part.gather(2, part.square().sum(1).topk(min(KEPT, d), dim=1)[1][:, None].expand(-1, m, -1))
        w = torch.cat((factor @ z, own, longest), 2)
        length = _value(part, w, norm)
        mean[a : a + items] = length[:, :DRAWS].square().mean(1)
        kept = length.topk(min(KEPT, w.shape[2]), dim=1)[1]
        eta[a : a + items] = climb(part, w.gather(2, kept[:, None].expand(-1, m, -1)), norm)
    return eta, mean


def climb(J: Float[Tensor, "N m d"], w: Float[Tensor, "N m k"], norm: Lp) -> Float[Tensor, "N d"]:
    """Alternate from each of k starts until none improves; the best η of each item, ε = 1."""
    n, m, d = J.shape
    best_w, best = torch.zeros_like(w[..., 0]), torch.full_like(w[:, 0, 0], -1.0)
    live, part = torch.arange(n, device=J.device), J
    last = torch.full_like(w[:, 0], -1.0)
    for _ in range(TURNS):
        u = _ascent(part, w, norm)
        length = u.square().sum(1).sqrt()
        top, k = length.max(1)
        better = top > best[live]
        best[live[better]] = top[better]
        best_w[live[better]] = w.gather(2, k[:, None, None].expand(-1, m, 1)).squeeze(2)[better]
        rising = (length > last * (1 + 1e-14)).any(1) & (top > 0)
        if not bool(rising.any()):
            break
        live, part, last = live[rising], part[rising], length[rising]
        w = u[rising] / torch.where(last > 0, last, 1.0)[:, None]
    return norm.steepest(-(J.mT @ best_w[..., None]).squeeze(-1))


def _ascent(J: Tensor, w: Tensor, norm: Lp) -> Tensor:
    """J·steepest(−Jᵀw) for each column of w."""
    g = w.mT @ J
    eta = g.sign_() if norm.p == math.inf else -norm.steepest(g)
    return J @ eta.mT


def _value(J: Tensor, w: Tensor, norm: Lp) -> Tensor:
    """‖J·steepest(−Jᵀw)‖₂, (N, k)."""
    return _ascent(J, w, norm).square().sum(1).sqrt()


def sweep(J: Float[Tensor, "N 2 d"]) -> Float[Tensor, "N d"]:
    """The optimum for p = ∞, ε = 1 and a J of rank at most 2, given in two rows: the signs of Jᵀw(θ) change at d angles only."""
    a, b = J[:, 0], J[:, 1]
    turn = torch.atan2(-a, b)  # cos θ·a + sin θ·b = 0
    turn = torch.where(turn < 0, turn + math.pi, turn)
    turn = torch.where(turn >= math.pi, 0.0, turn)
    order = turn.argsort(-1)
    at_zero = torch.where(a != 0, a.sign(), -b.sign())  # the signs just before the first angle, θ = 0⁻
    sums = (J * at_zero[:, None]).sum(2)[..., None] - 2 * (J * at_zero[:, None]).gather(2, order[:, None].expand(-1, 2, -1)).cumsum(2)
    k = sums.square().sum(1).argmax(1)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(J.shape[2], device=J.device).expand_as(order))
    return torch.where(rank <= k[:, None], -at_zero, at_zero)


def enumerate_signs(J: Float[Tensor, "N m d"]) -> Float[Tensor, "N d"]:
    """The optimum for p = ∞, ε = 1, by trying all 2^{d−1} vertices up to sign."""
    n, _, d = J.shape
    bits = torch.arange(d - 1, device=J.device)
    best, eta = torch.full_like(J[:, 0, 0], -1.0), torch.ones_like(J[:, 0])
    block = max(1, min(2 ** (d - 1), AT_ONCE // (n * J.shape[1])))
    for start in range(0, 2 ** (d - 1), block):
        index = torch.arange(start, min(start + block, 2 ** (d - 1)), device=J.device)
        signs = 1.0 - 2.0 * ((index[:, None] >> bits) & 1).to(J)
        signs = torch.cat((signs, torch.ones_like(signs[:, :1])), 1)
        top, k = (J @ signs.mT).square().sum(1).max(1)
        better = top > best
        best, eta = torch.where(better, top, best), torch.where(better[:, None], signs[k], eta)
    return eta


def in_two_rows(J: Float[Tensor, "N m d"]) -> tuple[Bool[Tensor, " N"], Float[Tensor, "N 2 d"]]:
    """Which J have rank at most 2 to within rounding, and their coordinates in an orthonormal basis of the range."""
    m, d = J.shape[1:]
    probe = torch.randn(d, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(J)
    basis = torch.linalg.qr(J @ probe)[0]
    two = basis.mT @ J
    rest = (J - basis @ two).abs().flatten(1).amax(1)
    return rest <= 1e-13 * J.abs().flatten(1).amax(1), torch.nn.functional.pad(two, (0, 0, 0, 2 - two.shape[1]))
