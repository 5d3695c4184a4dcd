"""The judge of (9) in float64: ‖Jη‖₂ from η, the upper bound from y, the value of the relaxation from F, each alone."""

from __future__ import annotations

import torch

from convexattack.certificates.certificate import Certificate
from convexattack.numerics import UNIT, gamma, ratio
from convexattack.programs import OperatorNorm
from convexattack.solution import Solution, Status

__all__ = ["bracketed"]


def bracketed(program: OperatorNorm, solution: Solution) -> Certificate:
    """Judge N claims about (9); arguments as for `certify`, already checked."""
    eta, multipliers = solution.eta.to(torch.float64), solution.multipliers
    violation = program.violation(eta)
    length = program.norm.length(eta)
    radius = program.ball.radii(eta)
    slack = 1 + 4 * program.norm.slack(eta.shape[-1]) + 4 * UNIT
    inwards = ratio(radius, length * slack).clamp_max(1)
    value = program.primal(eta) * torch.where(length > 0, inwards, 1.0)
    _, m, d = program.shape
    primal = value - program.primal_error(eta)
    dual = program.bound(multipliers).value
    gap = ratio(dual - program.relaxation(multipliers), dual) if program.relaxes else 0 * dual
    width = ratio(dual - primal, dual)
    sound = (violation <= 1) & dual.isfinite() & (width >= -gamma(d + m))
    proved = torch.where(sound, Status.BRACKETED.code, Status.UNDECIDED.code)
    proved = torch.where(sound & (width <= gamma(d + m)), Status.OPTIMAL.code, proved).to(torch.int8)
    return Certificate(
        primal, dual, gap, violation, dual, width, solution.codes, proved, program.jacobian.dtype, program.rigorous,
        brackets=True,
    )  # fmt: skip
