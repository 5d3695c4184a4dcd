"""The judge in float64: what a claimed η and its multipliers prove by the program alone, every rounding error charged.

Nothing here knows a solver. Weak duality does the work: any multipliers give a lower bound, any point of the sets an
upper bound, and where the two meet the point is optimal, whoever found it. A point outside buys nothing: it is pulled
inside before it is judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.certificates.certificate import Certificate
from convexattack.certificates.inside import cost_of, pulled
from convexattack.numerics import gamma, ratio
from convexattack.programs import GN, MinNorm, Program
from convexattack.programs.base import Balance
from convexattack.sets.base import Point
from convexattack.solution import Solution, Status

__all__ = ["judged"]

BLOCK = 2**16  # entries of gradients at a time
LEAST = 1e-280  # below it products lose digits to underflow, and no error bound here counts that
TIE = 1e-8  # relative: (GN) nearer to its edge than this is decided in exact arithmetic, where its sets have that


def judged(program: Program, solution: Solution) -> Certificate:
    """Judge N claims about (GN), (GNII), (8) or sums of hinges; arguments as for `certify`, already checked.

    On a CPU some items at a time, so that what is made on the way stays in the cache.
    """
    rows = max(1, BLOCK // max(1, program.gradient[:1].numel()))
    if program.gradient.device.type != "cpu" or len(program) <= rows:
        return _judged(program, solution)
    blocks = torch.arange(len(program)).split(rows)
    return Certificate.cat([_judged(program.take(block), solution.take(block)) for block in blocks])


def _judged(program: Program, solution: Solution) -> Certificate:
    sound = program.valid() & _finite(solution, len(program))
    point = Point(solution.eta.to(torch.float64), solution.witness or (None,) * len(program.sets))
    balance = program.balance(*program.weight(solution.multipliers))
    dual = torch.where(sound, program.bound_of(balance).sure, -torch.inf)
    violation = program.violation(point.eta, point.aux)
    nearest = pulled(program, point, solution)
    found, inside = nearest.point, nearest.good
    primal = program.primal(found.eta) + program.primal_error(found.eta)
    primal = torch.where(point.eta.isfinite().all(-1), primal, torch.nan)
    missing, scale = _missing(program, found, balance, dual, primal)
    charge = _charge(program, balance, nearest.forgiven)
    primal, missing = primal + charge, missing + charge
    missing = torch.where(missing.isfinite() & dual.isfinite(), missing.clamp_min(0), torch.inf)  # nothing overflowed
    moved = (program.primal(point.eta) - program.primal(found.eta)).abs()  # what being outside bought, or cost
    gap = ratio(torch.where(missing >= moved, missing, moved), scale)
    gap = torch.where(inside & sound & (primal >= dual) & ((scale < torch.inf) | (missing == 0)), gap, torch.inf)
    gap = torch.where(violation.isnan() | primal.isnan(), torch.nan, gap)
    proved = _proved(program, solution, point, inside & sound, primal, dual, sound)
    return Certificate(
        primal, dual, gap, violation, scale, torch.zeros_like(gap), solution.codes, proved, program.gradient.dtype,
        program.rigorous, decides=isinstance(program, GN),
    )  # fmt: skip


def _finite(solution: Solution, n: int) -> Bool[Tensor, " N"]:
    """Whether every multiplier of an item is a number: with one that is not, nothing holds."""
    rows = [part.isfinite().reshape(n, part.shape[1:].numel()).all(-1) for part in solution.multipliers]
    return torch.stack(rows).all(0) if rows else torch.ones(n, dtype=torch.bool, device=solution.eta.device)


def _missing(
    program: Program, point: Point, b: Balance, dual: Tensor, primal: Tensor
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """primal − dual, summed so that nothing large cancels, and the scale that it is relative to.

    Where the objective cannot vary, every point inside is optimal.
    """
    if isinstance(program, MinNorm):
        none = torch.zeros_like(point.eta)
        idle = (program.L <= 0) & (program.violation(none) == 0)
        return primal - dual.clamp_min(0), torch.where(dual > 0, dual, torch.where(idle, program.scale(), 0.0))
    total, error = program.shortfall(point, b)
    scale, still = program.scale(), program.still()
    return torch.where(still, 0.0, torch.where(scale > LEAST, total + error, torch.inf)), scale


def _charge(program: Program, b: Balance, forgiven: Sequence[Tensor]) -> Float[Tensor, " N"]:
    """What the multipliers pay for rows that rounding was forgiven."""
    total = torch.zeros_like(b.start)
    for item, u, rho in zip(program.sets, b.u, forgiven, strict=False):
        total = total + item.atom.charge(u, rho)
    return total + b.w[:, 0] * forgiven[-1][:, 0] if isinstance(program, MinNorm) else total


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _proved(
    program: Program,
    solution: Solution,
    point: Point,
    inside: Bool[Tensor, " N"],
    primal: Float[Tensor, " N"],
    dual: Float[Tensor, " N"],
    sound: Bool[Tensor, " N"],
) -> Tensor:
    """What the vectors prove by themselves: INFEASIBLE, UNBOUNDED, for (GN) FEASIBLE; UNDECIDED for none or several."""
    proved = torch.full_like(solution.codes, Status.UNDECIDED.code)
    there = inside & primal.isfinite()
    empty = torch.zeros_like(there)
    if not bool((there & (solution.codes != Status.INFEASIBLE.code)).all()):
        empty = program.excludes(solution.multipliers) & sound
    none = empty & ~there
    if isinstance(program, GN):
        yes, no = _feasible(program, solution, point) & sound, sound & (dual >= 0)
        tie = primal.abs() <= TIE * (program.L.abs() + (program.L - primal).abs())
        near = (there & sound & ~yes & ~no & tie).nonzero().flatten()
        if len(near):
            known = program.take(near).decide(solution.eta[near], tuple(part[near] for part in solution.multipliers))
            yes = yes.index_copy(0, near, known == Status.FEASIBLE.code)
            no = no.index_copy(0, near, known == Status.INFEASIBLE.code)
        none = (no | empty) & ~yes & ~(empty & there)
        proved = torch.where(yes & ~no & ~empty, Status.FEASIBLE.code, proved)
    if program.norm is None and not program.pieces:
        proved = torch.where(_falls(program, solution, point) & sound & ~empty, Status.UNBOUNDED.code, proved)
    return torch.where(none, Status.INFEASIBLE.code, proved).to(torch.int8)


def _feasible(program: GN, solution: Solution, point: Point) -> Bool[Tensor, " N"]:
    """Whether a point that is inside beyond doubt has L + gᵀη < 0, for certain."""
    found = pulled(program, point, solution, sure=True)
    most = program.primal(found.point.eta) + program.primal_error(found.point.eta) + cost_of(program, found)
    return found.good & point.eta.isfinite().all(-1) & (most < 0) & (program.primal(point.eta) < 0)


def _falls(program: Program, solution: Solution, point: Point) -> Bool[Tensor, " N"]:
    """Whether a point of the sets and a ray along which L + gᵀη falls without end are known, where that is claimed."""
    claims = solution.codes == Status.UNBOUNDED.code
    if not bool(claims.any()):
        return claims
    g, extent = program.g, program.extent
    own = torch.where(g > 0, extent.low == -torch.inf, extent.high == torch.inf) * -g
    falls = torch.zeros_like(claims)
    for ray in [own] if solution.ray is None else [solution.ray.to(g).nan_to_num(0.0, 0.0, 0.0), own]:
        slope = (g * ray).sum(-1) + gamma(g.shape[1] + 1) * (g * ray).abs().sum(-1)
        stays = torch.stack([item.contains_ray(ray) for item in program.sets] or [claims]).all(0)
        falls = falls | (stays & (slope < 0))
    return claims & falls & pulled(program, point, solution, sure=True).good
