"""The judge in float64: what a claimed η and its multipliers prove, recomputed from the program alone, every rounding
error charged.

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
from convexattack.numerics import UNIT, gamma, ratio, rounding_slack
from convexattack.programs import GN, MinNorm, Program
from convexattack.programs.base import Balance
from convexattack.sets.base import Point, met
from convexattack.solution import Solution, Status

__all__ = ["judged"]

LEAST = 1e-280  # below it products lose digits to underflow, and no error bound here counts that
TIE = 1e-9  # relative: (GN) nearer to its edge than this is decided in exact arithmetic, where its sets have that
AROUND = (2.0, 1.0 + 2.0**-20)  # how far (8) is overshot in search of a point beyond its own row


def judged(program: Program, solution: Solution) -> Certificate:
    """Judge N claims about (GN), (GNII), (8) or sums of hinges; arguments as for `certify`, already checked."""
    sound = program.valid() & _finite(solution, len(program))
    point = Point(solution.eta.to(torch.float64), solution.witness or (None,) * len(program.sets))
    balance = program.balance(*program.weight(solution.multipliers))
    dual = torch.where(sound, program.bound_of(balance).sure, -torch.inf)
    violation = program.violation(point.eta, point.aux)
    found, inside, forgiven = _pulled(program, point, solution)
    primal = program.primal(found.eta) + program.primal_error(found.eta)
    primal = torch.where(point.eta.isfinite().all(-1), primal, torch.nan)
    missing, scale = _missing(program, found, balance, dual, primal)
    charge = _charge(program, balance, forgiven)
    primal, missing = primal + charge, (missing + charge).clamp_min(0)
    moved = (program.primal(point.eta) - program.primal(found.eta)).abs()  # what being outside bought, or cost
    gap = ratio(torch.where(missing >= moved, missing, moved), scale)
    gap = torch.where(inside & sound & (primal >= dual) & ((scale < torch.inf) | (missing == 0)), gap, torch.inf)
    gap = torch.where(violation.isnan() | primal.isnan(), torch.nan, gap)
    proved = _proved(program, solution, found, inside & sound, primal, dual, sound)
    return Certificate(
        primal, dual, gap, violation, scale, torch.zeros_like(gap), solution.codes, proved, program.gradient.dtype,
        program.rigorous, decides=isinstance(program, GN),
    )  # fmt: skip


def _finite(solution: Solution, n: int) -> Bool[Tensor, " N"]:
    """Whether every multiplier of an item is a number: with one that is not, nothing holds."""
    rows = [part.reshape(n, -1).isfinite().all(-1) for part in solution.multipliers]
    return torch.stack(rows).all(0) if rows else torch.ones(n, dtype=torch.bool, device=solution.eta.device)


def _missing(
    program: Program, point: Point, b: Balance, dual: Tensor, primal: Tensor
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """primal − dual, summed so that nothing large cancels, and the scale that it is relative to.

    Where the objective can vary by no more than the rounding of its own evaluation, every point inside is optimal.
    """
    if isinstance(program, MinNorm):
        none = torch.zeros_like(point.eta)
        idle = (program.L <= 0) & (program.violation(none) == 0)
        return primal - dual.clamp_min(0), torch.where(dual > 0, dual, torch.where(idle, program.scale(), 0.0))
    total, error = program.shortfall(point, b)
    scale, width = program.scale(), program.extent.width[:, None]
    still = ((program.A == 0) | (width == 0)).flatten(1).all(-1)
    own = (program.A.abs() * (point.eta.abs()[:, None] * (width > 0))).sum((1, 2)) * 4 * rounding_slack(width.shape[-1])
    alike = still | ((scale <= own) & (own > LEAST))
    return torch.where(alike, 0.0, torch.where(scale > LEAST, total + error, torch.inf)), scale


def _charge(program: Program, b: Balance, forgiven: Sequence[Tensor]) -> Float[Tensor, " N"]:
    """What the multipliers pay for rows that rounding was forgiven."""
    total = torch.zeros_like(b.start)
    for item, u, rho in zip(program.sets, b.u, forgiven, strict=False):
        total = total + item.atom.charge(u, rho)
    return total + b.w[:, 0] * forgiven[-1][:, 0] if isinstance(program, MinNorm) else total


# --- a point inside ---------------------------------------------------------------------------------------------------


def _pulled(program: Program, point: Point, solution: Solution) -> tuple[Point, Bool[Tensor, " N"], list[Tensor]]:
    """A point inside near the claimed one, whether there is one, and by how much rounding was forgiven in each row.

    Inside means: no row is exceeded by more than the rounding of its own evaluation, which `_charge` then pays for.
    """
    point = Point(point.eta.nan_to_num(0.0, 0.0, 0.0), point.aux)
    best, inside = point, _inside(program, point)
    if not bool(inside.all()):
        nearest = met(program.sets, program.extent, point)
        best = nearest.where(~inside, point)
        outside, inside = ~inside, _inside(program, best)
        start, least = best, torch.where(inside, 0.0, torch.inf)
        for goal in _goals(program, start, solution):
            t = _fraction(program, start, goal)
            tried = start.towards(goal, t)
            good = outside & (t < least) & _inside(program, tried)
            best, inside, least = tried.where(good, best), inside | good, torch.where(good, t, least)
    rows = _excesses(program, best)
    blurs = _blurs(program, best)
    return best, inside, [torch.minimum(e.clamp_min(0), b) for e, b in zip(rows, blurs, strict=True)]


def _excesses(program: Program, point: Point) -> list[Float[Tensor, "N b"]]:
    """How far each row is exceeded: those of the sets, then (8)'s own, L + gᵀη ≤ 0."""
    rows = [item.excess(point.eta, aux) for item, aux in zip(program.sets, point.aux, strict=True)]
    return [*rows, program.linear(point.eta)[:, None]] if isinstance(program, MinNorm) else rows


def _blurs(program: Program, point: Point) -> list[Float[Tensor, "N b"]]:
    """What rounding can do to each of `_excesses`."""
    rows = [item.blur(point.eta, aux) for item, aux in zip(program.sets, point.aux, strict=True)]
    return [*rows, program.linear_error(point.eta)] if isinstance(program, MinNorm) else rows


def _inside(program: Program, point: Point) -> Bool[Tensor, " N"]:
    good = torch.ones_like(point.eta[:, 0], dtype=torch.bool)
    for excess, blur in zip(_excesses(program, point), _blurs(program, point), strict=True):
        good = good & (excess <= blur).all(-1)
    return good


def _goals(program: Program, point: Point, solution: Solution) -> list[Point]:
    """Points towards which η is pulled: the claimant's `inside`, 0, the middle of the boxes; for (8) points beyond its
    own row.
    """
    eta, found = point.eta, []
    if solution.inside is not None:
        aux = solution.witness_inside or point.aux
        given = Point(solution.inside.to(eta).nan_to_num(0.0, 0.0, 0.0), aux)
        found.append(met(program.sets, program.extent, given))
    centre = program.extent.centre().nan_to_num(0.0, 0.0, 0.0)
    found += [Point(place, point.aux) for place in (torch.zeros_like(eta), centre)]
    if isinstance(program, MinNorm):
        found += [Point(more * eta, point.aux) for more in AROUND]
        down = torch.where(program.g > 0, program.extent.low, program.extent.high)
        far = eta - program.g.sign() * eta.abs().amax(-1, keepdim=True)
        corner = torch.where(program.g == 0, eta, torch.where(down.isfinite(), down, far))
        found.append(Point(corner, point.aux))
    return found


def _fraction(program: Program, point: Point, goal: Point) -> Float[Tensor, " N"]:
    """The least t for which (1 − t)·point + t·goal is inside, by the convexity of each row, and a little more."""
    t = torch.zeros_like(point.eta[:, 0])
    rows = zip(
        _excesses(program, point), _blurs(program, point), _excesses(program, goal), _blurs(program, goal), strict=True
    )
    for here, blur, there, other in rows:
        out, room = here + blur, (-there - other).clamp_min(0)
        need = torch.where(here > blur, ratio(out, out + room), 0.0)
        t = torch.maximum(t, need.amax(-1))
    return (t * (1 + 8 * UNIT)).clamp(0, 1)


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
    """What the vectors prove by themselves: INFEASIBLE, UNBOUNDED, and for (GN) FEASIBLE; UNDECIDED where that is
    nothing or too much.
    """
    proved = torch.full_like(solution.codes, Status.UNDECIDED.code)
    there = inside & primal.isfinite()
    empty = program.excludes(solution.multipliers) & sound
    none = empty & ~there
    if isinstance(program, GN):
        yes, no = there & (primal < 0), sound & (dual >= 0)
        near = (
            (there & sound & ~yes & ~no & (primal - dual <= TIE * (program.L.abs() + primal.abs()))).nonzero().flatten()
        )
        if len(near):
            known = program.take(near).decide(solution.eta[near], tuple(part[near] for part in solution.multipliers))
            yes = yes.index_copy(0, near, known == Status.FEASIBLE.code)
            no = no.index_copy(0, near, known == Status.INFEASIBLE.code)
        none = (no | empty) & ~yes & ~(empty & there)
        proved = torch.where(yes & ~no & ~empty, Status.FEASIBLE.code, proved)
    if program.norm is None and not program.pieces:
        proved = torch.where(_falls(program, solution, point, inside) & ~empty, Status.UNBOUNDED.code, proved)
    return torch.where(none, Status.INFEASIBLE.code, proved).to(torch.int8)


def _falls(program: Program, solution: Solution, point: Point, inside: Bool[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """Whether some point of the sets and a ray along which L + gᵀη falls without end are known, for items that claim
    it.
    """
    claims = solution.codes == Status.UNBOUNDED.code
    if not bool(claims.any()):
        return claims
    g, extent = program.g, program.extent
    own = torch.where(g > 0, extent.low == -torch.inf, extent.high == torch.inf) * -g
    falls, there = torch.zeros_like(claims), inside
    for ray in [own] if solution.ray is None else [solution.ray.to(g).nan_to_num(0.0, 0.0, 0.0), own]:
        slope = (g * ray).sum(-1) + gamma(g.shape[1] + 1) * (g * ray).abs().sum(-1)
        stays = torch.stack([item.contains_ray(ray) for item in program.sets] or [claims]).all(0)
        falls = falls | (stays & (slope < 0))
    for goal in _goals(program, point, solution):
        there = there | _inside(program, goal)
    return claims & falls & there & program.valid()
