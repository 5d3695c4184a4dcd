"""Solvers: each makes a claim, none judges it. `solve` asks those of a roster in turn; the first that takes it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convexattack.programs import OperatorNorm, Program
from convexattack.solution import Solution
from convexattack.solvers import closed_form, conic, operator_norm
from convexattack.solvers.conic import witness

__all__ = ["ROSTER", "Solver", "solve", "witness"]

AnyProgram = Program | OperatorNorm
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Solver:
    """One of the roster.

    Attributes:
        name: as given to `solve`.
        why_not: a sentence that says why it cannot take a program; None where it can.
        run: solves all items at once.
    """

    name: str
    why_not: Callable[[Any], str | None]
    run: Callable[[Any], Solution]


ROSTER = (
    Solver("closed_form", closed_form.why_not, closed_form.solve),
    Solver("closed_form", operator_norm.why_not, operator_norm.solve),
    Solver("enumeration", operator_norm.why_not_exactly, lambda program: operator_norm.solve(program, exact=True)),
)
"""In order; whatever none of them takes goes through CVXPY. For (9) "closed_form" is the batched torch path."""


def solve(program: AnyProgram, solver: str | None = None, progress: Progress | None = None) -> Solution:
    """Solve all N items of a program.

    Args:
        program: `GN`, `GNII`, `MinNorm`, `OperatorNorm` or `HingeSum`.
        solver: None takes the closed form where one exists and CVXPY elsewhere; "closed_form"; "reference" (CVXPY, with
            HiGHS for linear programs and mostly Clarabel for the rest); or the name of any installed CVXPY solver, such
            as "SCS". For `OperatorNorm`, None and "closed_form" mean the batched torch path, which for p other than 1
            and 2 is a Newton method with a certificate; "enumeration" (p = ∞, d ≤ 20) tries all signs.
        progress: called with the number of items done since the last call.

    Returns:
        A `Solution`: a claim for each item, to be judged by `certify`. A failed item is a status, never an exception.
        `stats["solver"]` says who found it, `stats["passed_over"]` why others were not asked, a sentence a name.

    Raises:
        ValueError: an unknown or uninstalled solver, or a program that the named solver cannot take.
    """
    passed_over: dict[str, str] = {}
    for one in (one for one in ROSTER if solver in (None, one.name)):
        reason = one.why_not(program)
        if reason is None:
            found = one.run(program)
            if progress is not None:
                progress(len(program))
            return _told(found, one.name, {} if solver else passed_over)
        passed_over.setdefault(one.name, reason)
    if passed_over and solver is not None:
        raise ValueError(f"solver={solver!r} cannot take this program: {passed_over[solver]}; use solver=None")
    return _told(conic.solve(program, None if solver == "reference" else solver, progress), "reference", passed_over)


def _told(found: Solution, name: str, passed_over: dict[str, str]) -> Solution:
    found.stats.setdefault("solver", name)
    found.stats["passed_over"] = passed_over
    return found
