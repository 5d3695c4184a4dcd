"""Solvers: each makes a claim, none judges it. `solve` picks one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from convexattack.programs import HingeSum, OperatorNorm, Program
from convexattack.solution import Solution, Status
from convexattack.solvers import closed_form, operator_norm, reference, reference_hinge, reference_norm

__all__ = ["solve"]


def solve(
    program: Program | OperatorNorm | HingeSum,
    solver: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Solution:
    """Solve all N items of a program.

    Args:
        program: `GN`, `GNII`, `MinNorm`, `OperatorNorm` or `HingeSum`.
        solver: None takes the closed form where one exists and CVXPY elsewhere; "closed_form"; "reference" (CVXPY with HiGHS for
            linear programs, Clarabel for the rest); or the name of any installed CVXPY solver, such as "SCS". For `OperatorNorm`, None and
            "closed_form" mean the batched torch path, which for p other than 1 and 2 is a Newton method with a certificate;
            "enumeration" (p = ∞, d ≤ 20) finds the optimum by trying all signs.
        progress: called with the number of items done since the last call.

    Returns:
        A `Solution`: a claim for each item, to be judged by `certify`. A failed item is a status, never an exception.

    Raises:
        ValueError: an unknown or uninstalled solver, or a program that the named solver cannot take.
    """
    if isinstance(program, OperatorNorm) and solver in (None, "closed_form", "enumeration"):
        found = operator_norm.solve(program, exact=solver == "enumeration")
        if progress is not None:
            progress(len(program))
        return found
    if isinstance(program, OperatorNorm):
        return reference_norm.solve(program, None if solver == "reference" else solver, progress)
    if isinstance(program, HingeSum):
        name = None if solver == "reference" else solver
        return _with_proofs(program, reference_hinge.solve(program, name, progress), name)
    if solver is None:
        solver = "reference" if closed_form.why_not(program) else "closed_form"
    if solver == "closed_form":
        found = closed_form.solve(program)
        if progress is not None:
            progress(len(program))
        return found
    return reference.solve(program, None if solver == "reference" else solver, progress)


def _with_proofs(program: HingeSum, found: Solution, solver: str | None) -> Solution:
    """Where a sum of hinges failed because its sets have no point in common, the (GNII) with u = 0 has the proof of that."""
    failed = found.codes == Status.FAILED.code
    if not (program.sets and bool(failed.any())):
        return found
    proof = reference.solve(program.weighted(torch.zeros_like(program.c)), solver)
    empty = failed & (proof.codes == Status.INFEASIBLE.code)
    parts = zip(found.multipliers, (torch.zeros_like(program.c), *proof.multipliers), strict=True)
    multipliers = tuple(torch.where(empty[:, None], new, old) for old, new in parts)
    return Solution(
        found.eta, torch.where(empty, Status.INFEASIBLE.code, found.codes).to(torch.int8), multipliers, found.stats
    )
