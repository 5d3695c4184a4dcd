"""Feasible η for (9): rounding a factor of W, the alternation that never decreases ‖Jη‖₂, and the cases that can be
solved exactly.

For w ∈ R^m the best η is ε·steepest(−Jᵀw), with wᵀJη = ε‖Jᵀw‖_q; for η the best w is Jη/‖Jη‖₂. Alternating the two is
the nonlinear power method (Boyd): ‖Jη_{k+1}‖ ≥ w_kᵀJη_{k+1} ≥ w_kᵀJη_k = ‖Jη_k‖.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp

__all__ = ["MOST_SIGNS", "climb", "enumerate_signs", "in_few_rows", "round_factor", "sweep"]

DRAWS = 32  # Gaussian draws from W
KEPT = (6, 2)  # the best of them go on to alternate, and the best of those for longer
TURNS = (4, 12, 6)  # of the alternation, at most: of the many, of the few, of the few in float64
AT_ONCE = 2**20  # numbers of one block of candidates
SAMPLE = 64  # columns that are looked at first for a rank above 2
MOST_SIGNS = 20  # coordinates up to which all signs are tried


def round_factor(
    J: Float[Tensor, "N m d"], F: Float[Tensor, "N m r"], norm: Lp
) -> tuple[Float[Tensor, "N d"], Float[Tensor, " N"]]:
    """The best η, ε = 1, of many w drawn from N(0, FFᵀ) and its principal directions, each improved by alternation; and
    the mean over the plain draws of ‖Jη‖₂² (Nesterov's rounding, before any alternation). All but the last turns run in
    float32."""
    n, m, d = J.shape
    r = F.shape[2]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(r, DRAWS, generator=generator).to(J.device)
    eta, mean = torch.empty_like(J[:, 0]), torch.empty_like(J[:, 0, 0])
    items = max(1, AT_ONCE // (KEPT[0] * d))
    for a in range(0, n, items):
        wide, part = J[a : a + items], J[a : a + items].float()
        size = F[a : a + items].abs().amax((1, 2), keepdim=True)
        factor = (F[a : a + items] / torch.where(size > 0, size, 1.0)).float()
        if min(m, r) <= 64:
            own = torch.linalg.svd(factor, full_matrices=False)[0][..., : KEPT[0]]
        else:
            own = factor @ (factor.mT @ (factor @ z[:, : KEPT[0]]))  # towards the leading ones
        longest = part.gather(2, part.square().sum(1).topk(min(KEPT[0], d), dim=1)[1][:, None].expand(-1, m, -1))
        w = torch.cat((factor @ z, own, longest), 2)
        length = _ascent(part, w, norm).square().sum(1).sqrt()
        mean[a : a + items] = length[:, :DRAWS].square().mean(1)
        for kept, turns in zip(KEPT, TURNS, strict=False):
            w = w.gather(2, length.topk(min(kept, w.shape[2]), dim=1)[1][:, None].expand(-1, m, -1))
            w, length = climb(part, w, norm, turns)
        w, length = climb(wide, w.to(wide), norm, TURNS[2])
        w = w.gather(2, length.argmax(1)[:, None, None].expand(-1, m, 1)).squeeze(2)
        eta[a : a + items] = -norm.steepest((wide.mT @ w[..., None]).squeeze(-1))
    return eta, mean


def climb(
    J: Float[Tensor, "N m d"], w: Float[Tensor, "N m k"], norm: Lp, turns: int
) -> tuple[Float[Tensor, "N m k"], Float[Tensor, "N k"]]:
    """Alternate from each of k starts until no start of an item gains: the best w on each way, and ‖Jη‖₂ there."""
    gain = 1 + 8 * torch.finfo(J.dtype).eps
    best, length = w.clone(), torch.full_like(w[:, 0], -1.0)
    live = torch.arange(len(J), device=J.device)
    for _ in range(turns):
        u = _ascent(J, w, norm)
        reached, last = u.square().sum(1).sqrt(), length[live]
        better = reached > last
        length[live] = torch.where(better, reached, last)
        best[live] = torch.where(better[:, None], w, best[live])
        rising = (reached > last * gain).any(1) & (reached > 0).any(1)
        alive = int(rising.sum())
        if alive == 0:
            break
        if alive <= len(live) // 2:  # a copy of J costs as much as a turn
            live, J, u, reached = live[rising], J[rising], u[rising], reached[rising]
        w = u / torch.where(reached > 0, reached, 1.0)[:, None]
    return best, length


def _ascent(J: Tensor, w: Tensor, norm: Lp) -> Tensor:
    """J·steepest(−Jᵀw) for each column of w."""
    columns = max(1, AT_ONCE // J[:, 0].numel())
    found = []
    for part in w.split(columns, dim=2):
        g = part.mT @ J
        eta = g.sign_() if norm.p == math.inf else -norm.steepest(g)
        found.append(J @ eta.mT)
    return torch.cat(found, 2)


def sweep(J: Float[Tensor, "N 2 d"]) -> Float[Tensor, "N d"]:
    """The optimum for p = ∞, ε = 1 and a J of rank at most 2, given in two rows: the signs of Jᵀw(θ) change at d angles
    only.
    """
    a, b = J[:, 0], J[:, 1]
    turn = torch.atan2(-a, b)  # cos θ·a + sin θ·b = 0
    turn = torch.where(turn < 0, turn + math.pi, turn)
    turn = torch.where(turn >= math.pi, 0.0, turn)
    order = turn.argsort(-1)
    at_zero = torch.where(a != 0, a.sign(), -b.sign())  # the signs just before the first angle, θ = 0⁻
    sums = (J * at_zero[:, None]).sum(2)[..., None] - 2 * (J * at_zero[:, None]).gather(
        2, order[:, None].expand(-1, 2, -1)
    ).cumsum(2)
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
        signs = torch.nn.functional.pad(signs, (0, 1), value=1.0)
        top, k = (J @ signs.mT).square().sum(1).max(1)
        better = top > best
        best, eta = torch.where(better, top, best), torch.where(better[:, None], signs[k], eta)
    return eta


def in_few_rows(J: Float[Tensor, "N m d"], rank: int) -> tuple[Bool[Tensor, " N"], Float[Tensor, "N rank d"]]:
    """Which J have at most this rank to within rounding, and their coordinates in an orthonormal basis of the range."""
    m, d = J.shape[1:]
    if m > rank and d > SAMPLE:
        sample = in_few_rows(J[:, :, :: -(-d // SAMPLE)], rank)[0]
        if not bool(sample.any()):
            return sample, J[:, :rank]
    probe = torch.randn(d, rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(J)
    basis = torch.linalg.qr(J @ probe)[0]
    few = basis.mT @ J
    rest = (J - basis @ few).abs().flatten(1).amax(1)
    return rest <= 1e-13 * J.abs().flatten(1).amax(1), torch.nn.functional.pad(few, (0, 0, 0, rank - few.shape[1]))
