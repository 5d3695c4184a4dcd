"""Closed forms: Proposition 1, eqs. (6) and (7), and (8) for every p in [1, ∞], within boxes as well. Batched, exact.

`ball` has one ball alone, `ball_and_box` the rest, as two stops of one `path`. Each item takes the road that its own
data want.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.numerics import rounding_slack
from convexattack.programs import GN, OperatorNorm, Program
from convexattack.sets.base import Point
from convexattack.solution import Solution, Status
from convexattack.solvers.closed_form import ball, ball_and_box

__all__ = ["solve", "why_not"]

NEAR = 1e-9  # (GN) is a near tie where |L + gᵀη| ≤ (NEAR + 4 units in the last place)·(|L| + Σ|g_i η_i|)
PROVED = 1e-12  # the gap, relative to `_unit`, within which float64 calls a point optimal


def why_not(program: Any) -> str | None:
    """Why there is no closed form for this program; None where there is one."""
    if isinstance(program, OperatorNorm):
        return "(9) maximizes a convex function"
    if program.pieces:
        return "a sum of hinges has no closed form"
    normal = program.normal
    if normal.rest:
        return f"{normal.others} is neither a box nor one ball beside boxes"
    if program.norm is not None and normal.ball is not None:
        return f"(8) has one within boxes alone, and sets[{normal.ball}] is a ball beside the norm that it minimizes"
    return None


def solve(program: Program) -> Solution:
    """Solve all items at once; the program is one that `why_not` does not refuse."""
    normal, g = program.normal, program.gradient
    if program.norm is not None and not program.sets:
        found, risky = ball.shortest(program)
    elif program.norm is None and normal.alone:
        found, risky = ball.lowest(program)
    elif len(g) and normal.around and bool(g.sum().isfinite() & program.L.sum().isfinite()):
        found, risky = _within(program, around=True)
    else:
        found, risky = _each(program)
    if bool((risky | (found.codes != Status.OPTIMAL.code)).any()):
        found = _judged(program, _blank(program, found), risky | (found.codes == Status.INFEASIBLE.code))
    return _verdict(program, found) if isinstance(program, GN) else found


def _within(program: Program, around: bool) -> tuple[Solution, Bool[Tensor, " N"]]:
    """Claims, and which want a proof: all in half precision or of boxes not around 0, else where rounding is risky."""
    if program.norm is not None:
        found, risky = ball_and_box.shortest(program, around)
    else:
        found, risky = (
            ball_and_box.corner(program) if program.normal.ball is None else ball_and_box.lowest(program, around)
        )
    return found, risky if around and torch.finfo(found.eta.dtype).bits >= 32 else torch.ones_like(risky)


def _each(program: Program) -> tuple[Solution, Bool[Tensor, " N"]]:
    """Each item by its own data: those that are no numbers, those whose bounds cross, boxes around 0, other boxes."""
    low, high = program.normal.merged
    valid = program.valid()
    crossed, around = (low > high).any(-1), ((low <= 0) & (high >= 0)).all(-1)
    code = torch.where(valid, Status.INFEASIBLE.code, Status.INVALID.code).to(torch.int8)
    nothing = tuple(torch.zeros(shape, dtype=torch.float64, device=code.device) for shape in program.multiplier_shapes)
    found, risky = Solution(torch.full_like(program.gradient, torch.nan), code, nothing), torch.zeros_like(valid)
    for kind in (True, False):
        rows = (valid & ~crossed & (around == kind)).nonzero().flatten()
        if len(rows):
            some, doubtful = _within(program.take(rows), kind)
            found, risky = found.put(rows, some), risky.index_copy(0, rows, doubtful)
    return found, risky


def _judged(program: Program, found: Solution, risky: Bool[Tensor, " N"]) -> Solution:
    """Risky claims that their vectors do not prove become UNDECIDED, or INEXACT in a narrower dtype than float64.

    That has cost more than a unit in the last place of the optimum, or has no number within the bounds.
    """
    rows = risky.nonzero().flatten()
    if not len(rows):
        return found
    some = program.take(rows)
    part = found.take(rows)
    eta, info = part.eta.to(torch.float64), torch.finfo(part.eta.dtype)
    balance = some.balance(*some.weight(part.multipliers))
    if program.norm is None:
        gap = some.shortfall(Point(eta, (None,) * len(program.sets)), balance)[0]
    else:
        gap = some.primal(eta) - some.bound_of(balance).value
    blur = rounding_slack(eta.shape[1]) * (some.g * eta).abs().sum(-1)
    limit = PROVED if info.bits == 64 else info.eps
    fine = (gap <= limit * _unit(some, eta) + 4 * blur) & (some.violation(eta) <= limit)
    if info.bits < 64:
        low, high = some.normal.merged
        fine = fine & ((low <= eta) & (eta <= high)).all(-1)
    none, optimal = part.codes == Status.INFEASIBLE.code, part.codes == Status.OPTIMAL.code
    fine = torch.where(none, some.excludes(part.multipliers), fine | ~optimal)
    less = Status.UNDECIDED if info.bits == 64 else Status.INEXACT
    return found.with_codes(found.codes.index_copy(0, rows, torch.where(fine, part.codes, less.code).to(torch.int8)))


def _unit(program: Program, eta: Tensor) -> Float[Tensor, " N"]:
    """What a gap is relative to: the optimum of (8), else how far the objective varies, 0 if that has no limit."""
    scale = program.scale()
    return program.primal(eta) if program.norm is not None else torch.where(scale < torch.inf, scale, 0.0)


def _blank(program: Program, found: Solution) -> Solution:
    """η, NaN where the claim is that there is none.

    An unbounded item falls along −g on its open coordinates, from the point of the sets that is nearest to 0.
    """
    code = found.codes
    endless = code == Status.UNBOUNDED.code
    nothing = endless | (code == Status.INVALID.code) | (code == Status.INFEASIBLE.code)
    inside = ray = None
    if bool(endless.any()):
        low, high = program.normal.merged
        inside = torch.minimum(torch.maximum(torch.zeros_like(low), low), high)
        ray = torch.where(endless[:, None] & found.eta.isinf(), -program.g, 0.0)
    return Solution(
        torch.where(nothing[:, None], torch.nan, found.eta),
        code,
        lambda: found.multipliers,
        found.stats,
        inside=inside,
        ray=ray,
    )


def _verdict(program: GN, found: Solution) -> Solution:
    """(GN) by Proposition 1: the sign of the optimum of (GNII). Near ties take the program's own, rigorous `decide`."""
    value, sizes = program.linear(found.eta), program.L.abs() + (program.g * found.eta).abs().sum(-1)
    optimal = found.codes == Status.OPTIMAL.code
    away = optimal & (value.abs() > (NEAR + 4 * torch.finfo(found.eta.dtype).eps) * sizes)
    verdict = torch.where(value < 0, Status.FEASIBLE.code, Status.INFEASIBLE.code).to(torch.int8)
    near = optimal | (found.codes == Status.INEXACT.code) | (found.codes == Status.UNDECIDED.code)
    rows = (near & ~away).nonzero().flatten()
    if len(rows):
        decided = program.take(rows).decide(found.eta[rows], tuple(part[rows] for part in found.multipliers))
        verdict = verdict.index_copy(0, rows, decided)
    return found.with_codes(torch.where(near, verdict, found.codes))
