"""One ball alone: (GNII) by eqs. (6) and (7), and (8) without sets, for every p in [1, ∞]."""

from __future__ import annotations

import math
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import by_rows, round_up, rounding_slack, two_level_sum
from convexattack.programs import Program
from convexattack.solution import Solution, Status

__all__ = ["lowest", "shortest"]

TINY = 64  # smallest normal numbers an entry: in a shorter vector the lost digits of small entries add up to one unit of the largest


def lowest(program: Program) -> tuple[Solution, Bool[Tensor, " N"]]:
    """(GNII) over one ball; and where η has entries so small that their rounding counts."""
    g, radius = program.gradient, program.sets[0].atom.radii(program.gradient)  # type: ignore[attr-defined]
    eta = program.sets[0].atom.norm.steepest(g, radius)  # type: ignore[attr-defined]
    good = eta[:, 0].isfinite() & program.value.isfinite()
    code = torch.where(good, Status.OPTIMAL.code, Status.INVALID.code).to(torch.int8)
    return Solution(eta, code, lambda: (-program.g,)), (radius > 0) & (radius < _least(g))


def shortest(program: Program) -> tuple[Solution, Bool[Tensor, " N"]]:
    """(8) without sets, η = −L⁺/‖g‖_q^q · sign(g)|g|^{q−1}; and where η has entries whose rounding counts."""
    g, norm = program.gradient, program.norm
    assert norm is not None
    if norm.p in (1, math.inf):
        eta, lam, code, length = _one_number(g, program.L, norm)
    else:
        eta, lam, code, length = by_rows(partial(_shortest, p=norm.p), g, program.L)
    risky = ((length > 0) & (length < _least(g))) | (length > torch.finfo(g.dtype).max / 2)
    return Solution(eta, code, (lam,)), risky


def _least(g: Tensor) -> float:
    return g.shape[1] * TINY * torch.finfo(g.dtype).smallest_normal


def _claimed(reach: Float[Tensor, " n"], L: Float[Tensor, " n"]) -> Tensor:
    """The claims, with reach 0 where g = 0."""
    code = torch.where((reach <= 0) & (L > 0), Status.INFEASIBLE.code, Status.OPTIMAL.code)
    return torch.where(reach.isfinite() & L.isfinite(), code, Status.INVALID.code).to(torch.int8)


def _lam(steep: Float[Tensor, " n"], L: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """λ = 1/‖g‖_q; 1 proves that nothing is feasible where g = 0, and 0 that 0 is optimal where L ≤ 0."""
    return torch.where(L > 0, torch.where(steep > 0, 1 / steep, 1.0), 0.0)


def _one_number(g: Float[Tensor, "N d"], L: Float[Tensor, " N"], norm: Lp) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """p = 1: all on the steepest coordinate; p = ∞: the same size everywhere. One number, rounded up, is all of η."""
    if norm.p == 1:
        at = g.abs().argmax(-1, keepdim=True)
        first = g.gather(1, at)
        steep = first[:, 0].abs().to(torch.float64)
    else:
        steep = by_rows(lambda g: two_level_sum(g.abs().to(torch.float64)), g)
    need = L.clamp_min(0) * (1 + 2 * rounding_slack(g.shape[1]))
    length = torch.where(steep > 0, need / steep, 0.0)
    edge = -round_up(length, g.dtype)[:, None]
    eta = g.sign().mul_(edge) if norm.p == math.inf else torch.zeros_like(g).scatter_(1, at, edge * first.sign())
    found = eta, _lam(steep, L), _claimed(steep, L), length
    over = (steep.isinf() & L.isfinite()).nonzero().flatten()  # a sum beyond the range of float64, or an infinite entry
    if not len(over):
        return found
    return tuple(old.index_copy(0, over, new) for old, new in zip(found, _shortest(g[over], L[over], norm.p), strict=True))


def _shortest(g: Float[Tensor, "n d"], L: Float[Tensor, " n"], p: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """η, λ, the claim, and the largest |η_i|."""
    dtype, h, unit = g.dtype, g.to(torch.float64), torch.ones_like(L)
    direction, reach = _direction(h, p)
    plain = (reach > 1e-280) & (reach < 1e280)  # nothing vanished or overflowed
    if not bool(plain.all()):
        top = h.abs().amax(-1)
        unit = torch.where(plain | (top == 0), 1.0, top)
        direction, reach = _direction(h / unit[:, None], p)
    some = torch.where(reach > 0, reach, 1.0)
    step = L.clamp_min(0) * (1 + 2 * rounding_slack(g.shape[1])) / some / unit  # so that L + gᵀη ≤ 0 survives rounding
    half = torch.finfo(dtype).eps / 2 if dtype != torch.float64 else 0.0
    aim = (
        -step * (1 + half) * (1 + half * half + 2.0**-52)
    )  # each entry is rounded by half a unit in the last place at most
    length = step * direction.abs().amax(-1)
    steep = some ** (1 / Lp(p).q) * unit
    return (direction * aim[:, None]).to(dtype), _lam(torch.where(reach > 0, steep, 0.0), L), _claimed(reach, L), length


def _direction(h: Float[Tensor, "n d"], p: float) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """sign(h)|h|^{q−1} and Σ|h|^q."""
    if p == 2:
        return h, torch.linalg.vecdot(h, h)
    if p == math.inf:
        return h.sign(), h.abs().sum(-1)
    size = h.abs()
    power = size.pow(1 / (p - 1))
    return power.copysign(h), torch.linalg.vecdot(size, power)
