"""A point inside: where a claimed η is outside by a tolerance, a point of the sets near it is judged in its place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.numerics import UNIT, ratio, rounding_slack
from convexattack.programs import MinNorm, Program
from convexattack.sets.base import Point
from convexattack.sets.maps import Identity
from convexattack.solution import Solution

__all__ = ["Inside", "pulled"]

FINE = 1e-12  # of a row's unit: rounding finer than this may be forgiven, for no sharp corner makes much of so little
AROUND = (2.0, 1.0 + 2.0**-20)  # how far (8) is overshot in search of a point beyond its own row


@dataclass(frozen=True, eq=False)
class Inside:
    """A point near a claimed one, item by item.

    Attributes:
        point: the claimed one where that is inside.
        good: whether it is inside: no row is exceeded by more than the rounding of its own evaluation; with `sure`, a
            point that is inside beyond doubt lies within `near` of it.
        forgiven: by how much each row of each set, and last (8)'s own, is exceeded.
        near: (N, d) 0 but with `sure`.
    """

    point: Point
    good: Bool[Tensor, " N"]
    forgiven: list[Float[Tensor, "N b"]]
    near: Float[Tensor, "N d"]


def pulled(program: Program, point: Point, solution: Solution, sure: bool = False) -> Inside:
    """η itself, or η moved onto the equalities and pulled towards the best of several goals, as little as will do."""
    best = Point(point.eta.nan_to_num(0.0, 0.0, 0.0), point.aux)
    inside = _inside(program, best, sure)
    if not bool(inside.all()):
        start = program.met(best).where(~inside, best)
        best, outside, inside = start, ~inside, _inside(program, start, sure)
        least = torch.where(inside, 0.0, torch.inf)
        for goal in goals(program, start, solution):
            t = _fraction(program, start, goal, sure)
            tried = start.towards(goal, t)
            good = outside & (t < least) & _inside(program, tried, sure)
            best, inside, least = tried.where(good, best), inside | good, torch.where(good, t, least)
    near = program.drift(best).eta if sure else torch.zeros_like(best.eta)
    return Inside(best, inside, [row.excess.clamp_min(0) for row in _rows(program, best, False)], near)


def goals(program: Program, point: Point, solution: Solution) -> list[Point]:
    """What to pull towards: the claimant's `inside`, 0, the middle of the boxes; for (8) points beyond its own row."""
    eta, found = point.eta, []
    if solution.inside is not None:
        given = Point(solution.inside.to(eta).nan_to_num(0.0, 0.0, 0.0), solution.witness_inside or point.aux)
        found.append(program.met(given))
    centre = program.extent.centre().nan_to_num(0.0, 0.0, 0.0)
    found += [program.met(Point(place, point.aux)) for place in (torch.zeros_like(eta), centre)]
    if isinstance(program, MinNorm):
        found += [Point(more * eta, point.aux) for more in AROUND]
        down = torch.where(program.g > 0, program.extent.low, program.extent.high)
        far = eta - program.g.sign() * eta.abs().amax(-1, keepdim=True)
        found.append(Point(torch.where(program.g == 0, eta, torch.where(down.isfinite(), down, far)), point.aux))
    return found


@dataclass(frozen=True, eq=False)
class _Row:
    """Rows of one set at a point: how far they are exceeded, what rounding hides of that, and what is allowed."""

    excess: Float[Tensor, "N b"]
    blur: Float[Tensor, "N b"]
    allowed: Float[Tensor, "N b"]


def _rows(program: Program, point: Point, sure: bool) -> list[_Row]:
    """Rows of the sets, then (8)'s own, L + gᵀη ≤ 0. What is not sure may be exceeded by rounding that is fine."""
    far = program.drift(point) if sure else None
    near = torch.zeros_like(point.eta) if far is None else far.eta
    found = []
    for j, (item, aux, unit) in enumerate(zip(program.sets, point.aux, program.units_at(point), strict=True)):
        z, dz = item.map(point.eta), item.map.blur(point.eta) + item.map.absolute(near)
        if far is not None:
            dz = dz + item.strayed(far.aux[j])
        excess, blur = item.atom.excess(z, aux), item.atom.blur(z, dz, aux)
        allowed = torch.where((blur <= FINE * unit) | (unit == 0), blur, -blur)
        if sure:
            settled = item.atom.tied(excess) & (not isinstance(item.map, Identity))
            allowed = torch.where(
                settled, torch.where(near.isfinite().all(-1, keepdim=True), torch.inf, -torch.inf), -blur
            )
        found.append(_Row(excess, blur, allowed))
    if isinstance(program, MinNorm):
        excess, blur = program.linear(point.eta)[:, None], program.linear_error(point.eta)
        blur = blur + (program.g.abs() * near).sum(-1, keepdim=True)
        fine = (blur <= FINE * program.L.abs()[:, None]) & (not sure)
        found.append(_Row(excess, blur, torch.where(fine, blur, -blur)))
    return found


def _inside(program: Program, point: Point, sure: bool) -> Bool[Tensor, " N"]:
    good = torch.ones_like(point.eta[:, 0], dtype=torch.bool)
    for row in _rows(program, point, sure):
        good = good & (row.excess <= row.allowed).all(-1)
    return good


def _fraction(program: Program, point: Point, goal: Point, sure: bool) -> Float[Tensor, " N"]:
    """The least t for which (1 − t)·point + t·goal is inside, by the convexity of each row, and a little more."""
    t = torch.zeros_like(point.eta[:, 0])
    for here, there in zip(_rows(program, point, sure), _rows(program, goal, sure), strict=True):
        out, room = here.excess + 2 * here.blur, (-there.excess - 2 * there.blur).clamp_min(0)
        t = torch.maximum(t, torch.where(here.excess > here.allowed, ratio(out, out + room), 0.0).amax(-1))
    return (t * (1 + 8 * UNIT)).clamp(0, 1)


def cost_of(program: Program, found: Inside) -> Float[Tensor, " N"]:
    """What the objective of (GN) can be more at the point that is inside beyond doubt."""
    far = torch.where(program.g == 0, 0.0, program.g.abs() * found.near).sum(-1)
    return far * (1 + 2 * rounding_slack(program.g.shape[-1] ** 2))
