"""A claim of the paper, what an oracle found, and the record. Adding a claim: one file, and its line in `__init__`."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["CLAIMS", "CONIC", "LINEAR", "PACKAGES", "Claim", "Finding", "Record", "claim", "run"]

LINEAR = 1e-9  # HiGHS takes a coefficient below 1e-10 of the largest for 0
CONIC = 1e-7  # SCS stops at residuals of 1e-9; its value can be off by more, 1e-8 as measured

PACKAGES = ("torch", "cvxpy", "scipy", "scs", "mpmath")  # whose versions stand beside a result


@dataclass(frozen=True)
class Finding:
    """How far the library and one oracle are apart, on the instances of one case.

    Attributes:
        oracle: who judged, in words; findings of one oracle become one record.
        discrepancy: one number an instance; for a verdict 1 is wrong and 0 right; ∞ for an answer that is missing.
        tolerance: what the discrepancy must not exceed. A NaN exceeds it.
        where: the case, in words.
        abstained: instances on which the library said that it cannot tell (UNDECIDED, INEXACT), which is never wrong.
        note: what was measured besides.
    """

    oracle: str
    discrepancy: ArrayLike
    tolerance: float
    where: str
    abstained: int = 0
    note: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of a claim from one oracle: the worst discrepancy of all instances, where, and what was allowed."""

    claim: str
    equation: str
    statement: str
    oracle: str
    instances: int
    discrepancy: float
    tolerance: float
    where: str
    abstained: int
    note: str
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every instance was judged, and none beyond the tolerance."""
        return self.instances > 0 and self.discrepancy <= self.tolerance


Check = Callable[[Any, np.random.Generator, int], Iterator[Finding]]


@dataclass(frozen=True)
class Claim:
    """A statement that can be checked.

    Attributes:
        name: of the file that derives it.
        statement: one sentence.
        equation: where it stands in the paper.
        check: (case, rng, n) → findings on n random instances of one case.
        cases: every one of them is checked, however few instances are asked for.
        small, full: instances a case.
        source: the file.
        formulas: the claim in LaTeX, for the report: program, dual, optimum.
        slip: what the paper says instead, in a sentence; "" where the claim is the paper's own.
    """

    name: str
    statement: str
    equation: str
    check: Check
    cases: Sequence[Any]
    small: int
    full: int
    source: Path
    formulas: tuple[str, ...] = ()
    slip: str = ""


CLAIMS: dict[str, Claim] = {}


def claim(
    statement: str,
    equation: str,
    cases: Sequence[Any],
    small: int,
    full: int,
    formulas: tuple[str, ...] = (),
    slip: str = "",
) -> Callable[[Check], Check]:
    """Register the function below as the check of a claim, under the name of its file."""

    def register(check: Check) -> Check:
        source = Path(check.__code__.co_filename)
        CLAIMS[source.stem] = Claim(source.stem, statement, equation, check, cases, small, full, source, formulas, slip)
        return check

    return register


def run(claim: Claim, n: int, seed: int = 0, advance: Callable[[], object] = lambda: None) -> list[Record]:
    """Check every case on n instances; one record an oracle. `advance` is called after each case.

    A case's instances depend on the seed, the claim and the case alone, whatever else is run.
    """
    found: dict[str, Record] = {}
    for k, case in enumerate(claim.cases):
        rng = np.random.default_rng([seed, zlib.crc32(claim.name.encode()), k])
        begin = time.perf_counter()
        for finding in claim.check(case, rng, n):
            now = time.perf_counter()
            found[finding.oracle] = _joined(claim, found.get(finding.oracle), finding, now - begin)
            begin = now
        advance()
    return list(found.values())


def _joined(claim: Claim, old: Record | None, finding: Finding, seconds: float) -> Record:
    """The record with one more finding in it, the notes of both."""
    each = np.atleast_1d(np.asarray(finding.discrepancy, dtype=float))
    each = np.where(np.isnan(each), np.inf, each)
    worst = int(each.argmax()) if len(each) else 0
    where = f"{finding.where}, item {worst}" if len(each) > 1 else finding.where
    new = Record(
        claim.name, claim.equation, claim.statement, finding.oracle, len(each), float(each.max(initial=0.0)),
        finding.tolerance, where, finding.abstained, finding.note, seconds,
    )  # fmt: skip
    if old is None:
        return new
    worse = new if _excess(new) > _excess(old) else old
    return Record(
        new.claim, new.equation, new.statement, new.oracle, old.instances + new.instances, worse.discrepancy,
        worse.tolerance, worse.where, old.abstained + new.abstained, "; ".join(filter(None, (old.note, new.note))),
        old.seconds + seconds,
    )  # fmt: skip


def _excess(record: Record) -> tuple[bool, float]:
    """What makes one finding worse than another: that it does not hold, then its size in units of what is allowed."""
    return not record.holds, record.discrepancy / (record.tolerance or 1.0)
