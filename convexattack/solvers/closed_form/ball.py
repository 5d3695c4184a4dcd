"""One ball alone: (GNII) by eqs. (6) and (7), and (8) without sets, for every p in [1, ∞]."""

from __future__ import annotations

import math
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import UNIT, by_rows, gamma, round_up, sum64, two_level_sum
from convexattack.programs import Program
from convexattack.solution import Solution, Status, codes

__all__ = ["lowest", "shortest"]

TINY = (
    64  # smallest normal numbers an entry: in a shorter vector what small entries lose adds up to a unit of the largest
)


def lowest(program: Program) -> tuple[Solution, Bool[Tensor, " N"]]:
    """(GNII) over one ball; and where η has entries so small that their rounding counts."""
    g, radius = program.gradient, program.sets[0].atom.radii(program.gradient)  # type: ignore[attr-defined]
    eta = program.sets[0].atom.norm.steepest(g, radius)  # type: ignore[attr-defined]
    good = eta[:, 0].isfinite() & program.value.isfinite()
    code = torch.where(good, Status.OPTIMAL.code, Status.INVALID.code).to(torch.int8)
    return Solution(eta, code, lambda: (-program.g,)), (radius > 0) & (radius < _least(g))


def shortest(program: Program) -> tuple[Solution, Bool[Tensor, " N"]]:
    """(8) without sets, η = −L⁺/‖g‖_q^q · sign(g)|g|^{q−1}; and where η has entries whose rounding counts."""
    g, L, norm = program.gradient, program.L, program.norm
    assert norm is not None
    slack = 2 * math.isqrt(g.shape[1]) * UNIT if g.dtype == torch.float64 else gamma(g.shape[1])
    need = L.clamp_min(0) * (1 + slack + 8 * UNIT)  # so that L + gᵀη ≤ 0 survives the rounding of a sum of d products
    if norm.p in (1, math.inf):
        eta, steep = _one_number(g, need, norm)
    else:
        eta, steep = by_rows(partial(_shortest, norm=norm), g, need)
    length = L / steep
    if bool(((length > 0) & (length < math.inf) & (steep < math.inf)).all()):
        found = Solution(eta, codes(Status.OPTIMAL, g), lambda: (1 / steep,))
    else:
        none = (steep == 0) & (L > 0)
        code = torch.where(none, Status.INFEASIBLE.code, Status.OPTIMAL.code)
        code = torch.where(steep.isfinite() & L.isfinite(), code, Status.INVALID.code).to(torch.int8)
        found = Solution(eta, code, (torch.where(none, 1.0, torch.where(L > 0, 1 / steep, 0.0)),))
    return found, (length > 0) & ((length < g.shape[1] * _least(g)) | (length > torch.finfo(g.dtype).max / 2))


def _least(g: Tensor) -> float:
    return g.shape[1] * TINY * torch.finfo(g.dtype).smallest_normal


def _one_number(g: Float[Tensor, "N d"], need: Float[Tensor, " N"], norm: Lp) -> tuple[Tensor, Tensor]:
    """η and ‖g‖_q for p = 1, all on the steepest coordinate, and p = ∞, one size everywhere: one number, rounded up."""
    if norm.p == 1:
        at = g.abs().argmax(-1, keepdim=True)
        first = g.gather(1, at)
        steep = first[:, 0].abs().to(torch.float64)
    else:
        steep = two_level_sum(g.abs()) if g.dtype == torch.float64 else sum64(g.abs())
        if bool((over := steep.isinf()).any()):  # a sum beyond the range of float64, or an infinite entry
            steep[over] = norm.dual(g[over].to(torch.float64))
    edge = round_up((need / steep).nan_to_num_(0.0), g.dtype).neg_()[:, None]
    if norm.p == math.inf:
        return g.sign().mul_(edge), steep
    return torch.zeros_like(g).scatter_(1, at, edge * first.sign()), steep


def _shortest(g: Float[Tensor, "n d"], need: Float[Tensor, " n"], norm: Lp) -> tuple[Tensor, Tensor]:
    """η and ‖g‖_q, 1 < p < ∞."""
    h, p = g.to(torch.float64), norm.p
    direction, reach = _direction(h, p)
    unit: Tensor | float = 1.0
    plain = (reach > 1e-280) & (reach < 1e280)  # nothing vanished or overflowed
    if not bool(plain.all()):
        top = h.abs().amax(-1)
        unit = torch.where(plain | (top == 0), 1.0, top)
        direction, reach = _direction(h / unit[:, None], p)
    half = torch.finfo(g.dtype).eps / 2 if g.dtype != torch.float64 else 0.0
    aim = -(1 + half + half * half + 2 * UNIT)  # each entry is rounded by half a unit in the last place at most
    step = (need / reach / unit).nan_to_num_(0.0).mul_(aim)[:, None]
    return (direction * step if direction is g else direction.mul_(step)).to(g.dtype), reach ** (1 / norm.q) * unit


def _direction(h: Float[Tensor, "n d"], p: float) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """sign(h)|h|^{q−1} and Σ|h|^q, 1 < p < ∞."""
    if p == 2:
        return h, torch.linalg.vector_norm(h, 2, -1).square_()
    size = h.abs()
    power = size.pow(1 / (p - 1))
    return power.copysign(h), torch.linalg.vecdot(size, power)
