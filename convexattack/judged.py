"""`certify`: the judge's face. For a bare η it fetches multipliers from `solve`; the judge believes nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor

from convexattack.certificates import Certificate, ExactCertificate, judge
from convexattack.programs import GN, OperatorNorm, Program
from convexattack.solution import Solution, Status, codes
from convexattack.solvers import solve, witness

__all__ = ["certify"]

AnyProgram = Program | OperatorNorm
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
        solution: a `Solution`, or a bare tensor η (N, d), which claims to be optimal ((GN): to settle feasibility). For
            a bare η the program is solved, and the multipliers found are handed to the judge with it.
        exact: whether to trust no floating-point number: rational arithmetic, and balls for what is irrational, with
            the precision raised until the claim is decided. Milliseconds an item.
        progress: called with the number of items done since the last call.

    Returns:
        A `Certificate`; `.holds(Tolerance())` says which claims are proved, `.why` why. With exact=True an
        `ExactCertificate`, whose `.verdict` is PROVED, ROUNDING (outside by rounding alone), TOLERATED (within
        `Tolerance()`), REFUTED or UNDECIDED.

    Raises:
        ValueError: η, codes or a multiplier of the wrong shape; exact=True with a set or a program whose numbers are
            not rational.
        TypeError: η that is no floating-point tensor, codes that are no ints.

    >>> import convexattack as ca
    >>> program = ca.GNII(torch.tensor([1.0]), torch.tensor([[3.0, 4.0]]), (ca.Ball(ca.Lp(2), 0.5),))
    >>> bool(certify(program, torch.tensor([[-0.3, -0.4]])).holds())
    True
    """
    claim = solution if isinstance(solution, Solution) else _claimed(program, torch.as_tensor(solution))
    return judge(program, claim, exact, progress, lambda i: solve(program[[i]]).eta[0])


def _claimed(program: AnyProgram, eta: Tensor) -> Solution:
    """What a bare η claims, with the multipliers of whoever solves the program."""
    shape = (len(program), (program.jacobian if isinstance(program, OperatorNorm) else program.gradient).shape[-1])
    if not eta.is_floating_point():
        raise TypeError(f"eta must hold floating-point numbers, got {eta.dtype}; write eta.float()")
    if eta.shape != shape:
        where = "columns of the jacobian" if isinstance(program, OperatorNorm) else "gradient"
        raise ValueError(f"eta must have the shape (N, d) = {shape} of the {where}, got {tuple(eta.shape)}")
    found = solve(program)
    eta = eta.detach().to(found.eta.device)
    claimed = codes(Status.OPTIMAL, eta)
    if isinstance(program, GN):
        linear, tie = program.linear(eta), 1e3 * program.primal_error(eta)
        claimed = torch.where(linear < 0, Status.FEASIBLE.code, Status.INFEASIBLE.code).to(torch.int8)
        if bool((linear.abs() <= tie).any()):
            claimed = torch.where(linear.abs() <= tie, program.decide(eta, found.multipliers), claimed)
    known = () if isinstance(program, OperatorNorm) else witness(program, eta)
    extra: dict[str, Any] = {"inside": found.inside, "witness": known, "witness_inside": found.witness_inside}
    return Solution(eta, claimed, lambda: found.multipliers, found.stats, **extra)
