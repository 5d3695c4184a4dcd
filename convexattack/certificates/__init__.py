"""Certificates: what a claimed perturbation and its multipliers prove, recomputed in float64 from the program alone.

Nothing here knows a solver. Weak duality does the work: any multipliers give a lower bound, any feasible η an upper bound, and where
the two meet η is optimal, whoever found it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor

from convexattack.certificates.balls import Enclosure
from convexattack.certificates.certificate import Certificate, Tolerance
from convexattack.certificates.exact import prove
from convexattack.certificates.exact_norm import prove_bracket
from convexattack.certificates.proof import ExactCertificate, Proof, Verdict
from convexattack.programs import GN, HingeSum, OperatorNorm, Program
from convexattack.programs.base import ratio
from convexattack.solution import Solution, Status, codes

__all__ = ["Certificate", "Enclosure", "ExactCertificate", "Proof", "Tolerance", "Verdict", "certify"]


AnyProgram = Program | OperatorNorm | HingeSum
Claim = Solution | Tensor
Progress = Callable[[int], object]


@overload
def certify(
    program: AnyProgram, solution: Claim, exact: Literal[False] = False, progress: Progress | None = None
) -> Certificate: ...


@overload
def certify(
    program: AnyProgram, solution: Claim, exact: Literal[True], progress: Progress | None = None
) -> ExactCertificate: ...


@overload
def certify(program: AnyProgram, solution: Claim, exact: bool, progress: Progress | None = None) -> Certificate: ...


def certify(program: AnyProgram, solution: Claim, exact: bool = False, progress: Progress | None = None) -> Certificate:
    """Judge a claim from the program and the claimed vectors alone.

    Args:
        program: N programs.
        solution: a `Solution`, or a bare tensor η (N, d), which claims to be optimal ((GN): to settle feasibility). For a bare η
            multipliers are recovered from complementary slackness; where the sets do not allow that, the bound comes from the ball and
            `tight` is False.
        exact: whether to trust no floating-point number: rational arithmetic, and balls for what is irrational, with the precision raised
            until the claim is PROVED or REFUTED. η must then be inside its balls and boxes to the last bit, and its gap within
            `Tolerance.closed_form`, for (9) `Tolerance()`. Milliseconds an item.
        progress: called with the number of items done since the last call.

    Returns:
        A `Certificate`; `.holds(Tolerance())` says which claims are proved. With exact=True an `ExactCertificate`, whose `.verdict`
        says so, and `.proofs` why.

    Raises:
        ValueError: η or a multiplier of the wrong shape; exact=True with a set that is neither Ball nor Box, or a program that is
            `HingeSum` or matrix-free.
        TypeError: η that is no floating-point tensor.

    >>> import convexattack as ca
    >>> program = ca.GNII(torch.tensor([1.0]), torch.tensor([[3.0, 4.0]]), (ca.Ball(ca.Lp(2), 0.5),))
    >>> bool(certify(program, torch.tensor([[-0.3, -0.4]])).holds())
    True
    >>> certify(program, torch.tensor([[-0.3, -0.4]]), exact=True).proofs[0].why  # float32(0.3) is above 0.3
    'η violates sets[0], ‖η‖_2 ≤ 0.5, by 2.38e-08 relative.'
    """
    bare = not isinstance(solution, Solution)
    eta = solution.eta if isinstance(solution, Solution) else torch.as_tensor(solution)
    if not eta.is_floating_point():
        raise TypeError(f"eta must hold floating-point numbers, got {eta.dtype}; write eta.float()")
    shape, given = _eta_shape(program)
    if eta.shape != shape:
        raise ValueError(f"eta must have the shape (N, d) = {tuple(shape)} of {given}, got {tuple(eta.shape)}")
    data: Any = program.jacobian if isinstance(program, OperatorNorm) else program.gradient
    eta = eta.detach().to(data.device)
    tight = True
    if isinstance(solution, Solution):
        multipliers, claimed = (
            tuple(part.to(eta.device) for part in solution.multipliers),
            solution.codes.to(eta.device),
        )
        _check(program, multipliers)
    else:
        (multipliers, tight), claimed = program.recover(eta.to(torch.float64)), codes(Status.OPTIMAL, eta)
    tick = progress or (lambda items: None)
    if exact and isinstance(program, HingeSum):
        raise ValueError("exact must be False for a HingeSum: exact certificates know (GN), (GNII), (8) and (9)")
    if exact and isinstance(program, OperatorNorm):
        return prove_bracket(program, eta, multipliers, claimed, tight, tick)
    if exact:
        return prove(program, eta, multipliers, claimed, bare, tight, tick)  # type: ignore[arg-type]
    tick(len(eta))
    if isinstance(program, OperatorNorm):
        return _bracket(program, eta, multipliers, claimed, tight)
    if isinstance(program, HingeSum):
        return _hinges(program, eta, multipliers, claimed, tight)
    return _judged(program, eta, multipliers, claimed, bare, tight)


def _eta_shape(program: AnyProgram) -> tuple[torch.Size, str]:
    """(N, d), and where it is found."""
    if isinstance(program, OperatorNorm):
        n, _, d = program.shape
        return torch.Size((n, d)), "the columns of the jacobian"
    if isinstance(program, HingeSum):
        n, _, d = program.shape
        return torch.Size((n, d)), "the rows of the gradient"
    return program.gradient.shape, "the gradient"


def _judged(
    program: Program, eta: Tensor, multipliers: tuple[Tensor, ...], claimed: Tensor, bare: bool, tight: bool
) -> Certificate:
    """(GN), (GNII) and (8), in float64."""
    wide = eta.to(torch.float64)
    bound = program.bound(multipliers, wide)
    primal, violation = program.primal(wide), program.violation(wide)
    residual = torch.where(claimed == Status.INFEASIBLE.code, 0.0, bound.residual)
    proved = torch.full_like(claimed, Status.UNDECIDED.code)
    if isinstance(program, GN):
        proved = program.decide(wide, multipliers)
        claimed = proved if bare else claimed
        residual = torch.where(proved == Status.INFEASIBLE.code, bound.residual, residual)
    empty = torch.zeros_like(violation, dtype=torch.bool)
    if not bool((violation == 0).all()):  # an η inside refutes the refutation
        empty = program.refuted(multipliers)
    residual = torch.where(empty, 0.0, residual)
    proved = torch.where(
        empty, Status.INFEASIBLE.code, torch.where(program.unbounded(), Status.UNBOUNDED.code, proved)
    ).to(torch.int8)
    gap = ratio(primal - bound.value, program.scale(wide))
    decides = isinstance(program, GN)
    return Certificate(
        primal, bound.value, gap, violation, residual, claimed, proved, eta.dtype, tight, program.rigorous, decides
    )


def _bracket(
    program: OperatorNorm, eta: Tensor, multipliers: tuple[Tensor, ...], claimed: Tensor, tight: bool
) -> Certificate:
    """(9): ‖Jη‖₂ from η alone, the upper bound from y alone, the value of the relaxation from F alone."""
    primal, violation, dual = program.primal(eta), program.violation(eta), program.bound(multipliers).value
    gap = ratio(dual - program.relaxation(multipliers), dual) if program.relaxes else 0 * dual
    width = ratio(dual - primal, dual)
    inside = (violation == 0) & dual.isfinite()
    proved = torch.where(inside, Status.BRACKETED.code, Status.UNDECIDED.code)
    proved = torch.where(inside & (width <= 0), Status.OPTIMAL.code, proved).to(torch.int8)
    return Certificate(
        primal, dual, gap, violation, width, claimed, proved, eta.dtype, tight, program.rigorous, brackets=True
    )


def _hinges(
    program: HingeSum, eta: Tensor, multipliers: tuple[Tensor, ...], claimed: Tensor, tight: bool
) -> Certificate:
    """A sum of hinges: the value at η, and the (GNII) bound that u and v prove."""
    wide = eta.to(torch.float64)
    bound, primal = program.bound(multipliers, wide), program.primal(wide)
    empty = program.weighted(multipliers[0] * 0).refuted(multipliers[1:])
    proved = torch.where(empty, Status.INFEASIBLE.code, Status.UNDECIDED.code).to(torch.int8)
    residual = torch.where(empty, 0.0, bound.residual)
    gap = ratio(primal - bound.value, program.scale(wide))
    return Certificate(
        primal, bound.value, gap, program.violation(wide), residual, claimed, proved, eta.dtype, tight, program.rigorous
    )


def _check(program: AnyProgram, multipliers: tuple[Tensor, ...]) -> None:
    if isinstance(program, OperatorNorm | HingeSum):
        program.check(multipliers)
        return
    expected = program.multiplier_shapes
    found = [tuple(part.shape) for part in multipliers]
    if found != expected:
        raise ValueError(f"multipliers must have the shapes {expected} (one per set; (8) has λ first), got {found}")
