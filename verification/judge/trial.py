"""One wrong claim before the judge, as it is written and in disguises: what holds, or is PROVED, is a finding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

import convexattack as ca
from verification.judge.spec import solved
from verification.judge.wrong.row import Row

__all__ = ["ERRORS", "GIVEN", "Finding", "accepted", "disguises", "tried", "unsupported"]

GIVEN = ("inside", "witness", "witness_inside", "ray")  # what a claim may hand over besides η and multipliers
ERRORS = (ValueError, TypeError)


@dataclass(frozen=True)
class Finding:
    """What is wrong with the judge, in one case.

    Attributes:
        rule: the one that is broken.
        name: of the row, and of its disguise.
        mode: "float64" or "exact".
        what: what happened, in words.
        why: why the claim is wrong.
    """

    rule: int
    name: str
    mode: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"rule {self.rule}, {self.mode}, {self.name}: {self.what} ({self.why})"


def accepted(certificate: Any, i: int, exact: bool, verdicts: frozenset[str]) -> str:
    """How the judge accepts item i, in a word; "" where it does not."""
    if not exact:
        return "holds" if bool(certificate.holds()[i]) else ""
    verdict = str(certificate.verdict[i].name)
    if verdict in verdicts:
        return verdict
    return "holds" if "TOLERATED" in verdicts and bool(certificate.holds(ca.Tolerance())[i]) else ""


def disguises(row: Row, program: Any, claim: Any, exact: bool = False) -> Iterator[tuple[str, Any]]:
    """The claim as written; η alone (float64); with the multipliers, and a point inside, of whoever solves it."""
    yield "", claim
    if not isinstance(claim, ca.Solution) or row.spec is None or len(program) != 1:
        return
    status = row.said.status if row.said else ""
    if status == "OPTIMAL" and row.spec.kind != "gn" and row.rule != 6 and not _broken(claim) and not exact:
        yield ", η alone", claim.eta
    found = solved(row.spec)
    if found is None or _broken(claim):
        return
    extra: dict[str, Any] = {name: getattr(found, name, None) for name in ("inside", "witness", "witness_inside")}
    extra = {name: entry for name, entry in extra.items() if entry is not None and getattr(claim, name, None) is None}
    yield (
        ", with the solver's multipliers",
        ca.Solution(claim.eta, claim.codes, found.multipliers, **_kept(claim), **extra),
    )
    there = row.right.status == "OPTIMAL" and bool(found.eta.isfinite().all())
    if there and row.spec.kind != "operator" and not exact:
        inside = _kept(claim) | {"inside": found.eta.to(torch.float64)}
        yield ", with the optimum inside", ca.Solution(claim.eta, claim.codes, found.multipliers, **inside)


def _kept(claim: Any) -> dict[str, Any]:
    """What the claim hands over besides η and multipliers."""
    return {name: entry for name in GIVEN if (entry := getattr(claim, name, None)) is not None}


def _broken(claim: Any) -> bool:
    """Whether the multipliers are the point of the claim: NaN or ∞."""
    return not all(bool(part.isfinite().all()) for part in claim.multipliers)


def unsupported(error: Exception) -> bool:
    """Whether this says, in a sentence, that exact arithmetic does not know the sets: nothing is claimed then."""
    return "exact must be False" in str(error)


def tried(row: Row, exact: bool) -> tuple[int, list[Finding]]:
    """How many claims the row made of itself, and what the judge did wrong with them."""
    mode = "exact" if exact else "float64"
    if not exact and not row.floats:
        return 0, []

    def say(name: str, what: str) -> Finding:
        return Finding(row.rule, row.name + name, mode, what, row.why)

    try:
        program, claim = row.claim()
        given = list(disguises(row, program, claim, exact))
    except ERRORS as error:
        return 1, [] if row.raises else [say("", f"no program: {type(error).__name__}: {error}")]
    findings = []
    for name, each in given:
        try:
            certificate = ca.certify(program, each, exact=exact)
        except ERRORS as error:
            if not row.raises and not unsupported(error):
                findings.append(say(name, f"no certificate: {type(error).__name__}: {error}"))
            continue
        except Exception as error:
            findings.append(say(name, f"broke down: {type(error).__name__}: {error}"))
            continue
        findings += [say(name, what) for what in _judged(row, certificate, exact)]
    return len(given), findings


def _judged(row: Row, certificate: Any, exact: bool) -> Iterator[str]:
    for i in row.items:
        how = accepted(certificate, i, exact, row.accepted)
        if how:
            yield f"{how}; right is {row.right.status}, {row.right.optimum:.9g}"
    for i in row.neighbours:
        if not bool(certificate.holds(ca.Tolerance())[i]):
            yield f"item {i}, which is right, does not hold"
    yield from _lied(row, certificate)


def _lied(row: Row, certificate: Any) -> Iterator[str]:
    """A bound beyond the optimum: whatever the multipliers are, weak duality allows none (rule 2)."""
    optimum = row.right.optimum
    if row.spec is None or row.right.status != "OPTIMAL" or not math.isfinite(optimum):
        return
    bound = float(certificate.dual[0])
    slack = 1e-9 * abs(optimum) + 1e-300
    beyond = optimum - bound if row.spec.kind == "operator" else bound - optimum
    if row.spec.kind == "operator" and abs(optimum) < 100:
        slack = 2e-3 * abs(optimum) + 1e-300  # these optima are rounded
    if beyond > slack:
        yield f"dual = {bound:.12g} lies beyond the optimum {optimum:.12g}"
