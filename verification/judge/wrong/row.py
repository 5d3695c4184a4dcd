"""One wrong claim of the table, with the right answer beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from verification.judge.spec import Said, Spec

__all__ = ["ACCEPTED", "Right", "Row", "exact_only", "falls", "found", "is_", "made", "met", "none", "wrong"]

ACCEPTED = frozenset({"PROVED", "ROUNDING", "TOLERATED"})


@dataclass(frozen=True)
class Right:
    """What is true of the program: the status that would be right, and the optimum (∞ where there is no η)."""

    status: str
    optimum: float


def is_(optimum: float) -> Right:
    """There is an optimum, and this is it."""
    return Right("OPTIMAL", optimum)


def met(least: float) -> Right:
    """(GN) has a solution: the least L + gᵀη is below 0."""
    return Right("FEASIBLE", least)


def none(least: float = math.inf) -> Right:
    """No η will do; of (GN) the least L + gᵀη is given where there is one."""
    return Right("INFEASIBLE", least)


def falls() -> Right:
    """The objective has no minimum."""
    return Right("UNBOUNDED", -math.inf)


@dataclass(frozen=True)
class Row:
    """A claim that must not hold.

    Attributes:
        name: in few words.
        rule: of the judge, which it would break.
        right: what is true instead.
        why: in one line, why the claim is wrong.
        spec, said: program and claim in numbers; or
        make: a function that returns (program, claim), for what numbers cannot say.
        items: which items of the program must not hold; `neighbours` are right, and must.
        accepted: verdicts that would be wrong; a claim that is true up to rounding must not be PROVED.
        floats: whether the claim is wrong in float64 too, or only too weak to be PROVED.
        raises: whether the package may refuse it with an error, or must not (False).
    """

    name: str
    rule: int
    right: Right
    why: str
    spec: Spec | None = None
    said: Said | None = None
    make: Callable[[], tuple[Any, Any]] | None = None
    items: tuple[int, ...] = (0,)
    neighbours: tuple[int, ...] = ()
    accepted: frozenset[str] = field(default=ACCEPTED)
    floats: bool = True
    raises: bool = False

    def claim(self) -> tuple[Any, Any]:
        """(program, claim), made anew."""
        if self.make is not None:
            return self.make()
        assert self.spec is not None
        assert self.said is not None
        program = self.spec.build()
        return program, self.said.solution(self.spec)


def wrong(rule: int, name: str, spec: Spec, said: Said, right: Right, why: str, raises: bool = False) -> Row:
    """A row in numbers."""
    return Row(name, rule, right, why, spec, said, raises=raises)


def exact_only(rule: int, name: str, spec: Spec, said: Said, right: Right, why: str, *accepted: str) -> Row:
    """A row in numbers that only exact arithmetic has to refuse; `accepted` are the verdicts that would be wrong."""
    return Row(name, rule, right, why, spec, said, accepted=frozenset(accepted), floats=False)


def made(rule: int, name: str, make: Callable[[], tuple[Any, Any]], right: Right, why: str, **more: Any) -> Row:
    """A row that a function makes; an error is as good as a refusal."""
    return Row(name, rule, right, why, make=make, raises=more.pop("raises", True), **more)


def found(row: Row) -> str:
    """The row in one line."""
    return f"rule {row.rule}, {row.name}: {row.why}"
