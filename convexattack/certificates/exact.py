"""Certificates without floating-point trust: weak duality in exact numbers and balls, for anyone who must know.

The same numbers as in float64, the objective at η, the bound from the multipliers, the distance to the sets and what a
gap is relative to, but each an enclosure of its own: nothing is taken over from float64. Membership is exact. A point
outside buys nothing: it is pulled inside, exactly, before its gap is judged. A claim of optimality is refuted by a
violated row, or by a better point that is checked as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from flint import arb, ctx
from torch import Tensor

from convexattack.certificates.certificate import Tolerance
from convexattack.certificates.proof import ExactCertificate, Proof, Verdict, collected
from convexattack.enclosures import (
    Enclosure,
    Vector,
    dot,
    dual_exponent,
    exactly,
    largest,
    length,
    minus,
    quotient,
    rounded,
    shown,
    total,
    vector,
)
from convexattack.programs import GN, Program
from convexattack.sets.exact import Family, Place, Sets, worst
from convexattack.solution import Solution, Status

__all__ = ["BITS", "Limits", "nothing", "prove"]

BITS = (128, 512, 4096)  # of the balls, tried in turn until the claim is decided
NOTHING = Enclosure(math.nan, math.nan)
ZERO, ONE = arb(0), arb(1)
AROUND = (2.0, 1.0 + 2.0**-20)  # how far (8) is overshot in search of a point beyond its own row
_SETTLED = (Status.OPTIMAL, Status.FEASIBLE, Status.INFEASIBLE, Status.UNBOUNDED)  # claims that are true or false
Rival = Callable[[int], Tensor]


@dataclass(frozen=True)
class Limits:
    """What a verdict forgives: gaps of PROVED and ROUNDING, violations of ROUNDING, and both of TOLERATED."""

    closed: arb
    rounding: arb
    loose: arb

    @staticmethod
    def of(dtype: torch.dtype, d: int) -> Limits:
        """By the dtype of the gradient; rounding is one unit in the last place a coordinate."""
        closed, loose = Tolerance.closed_form(dtype).at(dtype), Tolerance().at(dtype)
        return Limits(arb(closed), d * arb(torch.finfo(dtype).eps), arb(loose))

    def grade(self, out: arb | None, gap: arb | None, inside: bool | None) -> Verdict | None:
        """The verdict that a violation and a gap earn; None where that is none."""
        if out is None or gap is None:
            return None
        if gap <= self.closed and inside:
            return Verdict.PROVED
        if gap <= self.closed and out <= self.rounding:
            return Verdict.ROUNDING
        return Verdict.TOLERATED if out <= self.loose and gap <= self.loose else None


def prove(
    program: Program, solution: Solution, tick: Callable[[int], object], rival: Rival | None = None
) -> ExactCertificate:
    """Judge N claims exactly.

    Args:
        program: any but (9).
        solution: the claims, already checked.
        tick: called with 1 after each item.
        rival: gives a point (d,) of item i that may be better than η; asked for where a claim is in doubt, and checked.

    Raises:
        ValueError: a set that exact arithmetic does not know.
    """
    d = program.gradient.shape[-1]
    family, good, members = Family(program.sets, d), program.valid().tolist(), list(Status)
    limits = Limits.of(program.gradient.dtype, d)
    data = _Data.of(program, solution)
    proofs = []
    for i, code in enumerate(solution.codes.tolist()):
        if good[i]:
            proofs.append(data.item(i, family.item(i)).judge(members[code], limits, lambda i=i: rival and rival(i)))  # type: ignore[misc]
        else:
            why = "The value, the gradient, a bound or a radius of this item is NaN or infinite."
            proofs.append(nothing(Verdict.UNDECIDED, why, members[code]))
        tick(1)
    return collected(proofs, solution.eta, program.gradient.dtype, decides=isinstance(program, GN))


def nothing(verdict: Verdict, why: str, claim: Status) -> Proof:
    """Of an item about which no number is known."""
    return Proof(verdict, why, claim, Status.UNDECIDED, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)


@dataclass(frozen=True, eq=False)
class _Data:
    """Program and claims on the host, in float64, which holds every narrower float exactly."""

    program: Program
    solution: Solution
    c: Tensor
    A: Tensor
    w: Tensor
    u: list[Tensor]

    @staticmethod
    def of(program: Program, solution: Solution) -> _Data:
        w, multipliers = program.weight(solution.multipliers)
        u = [part.to("cpu", torch.float64) for part in multipliers]
        return _Data(program, solution.to("cpu"), program.c.cpu(), program.A.cpu(), w.cpu(), u)

    def item(self, i: int, sets: Sets) -> _Item:
        program = self.program
        u, hints = [part[i] for part in self.u], [self.solution.inside, self.solution.ray, self.solution.eta]
        inside, ray, eta = (_finite(None if part is None else part[i]) for part in hints)
        sound = all(bool(part[i].isfinite().all()) for part in self.solution.multipliers)
        return _Item(
            c=vector(self.c[i]),
            A=[vector(row) for row in self.A[i]],
            sets=sets,
            norm=None if program.norm is None else program.norm.p,
            pieces=program.pieces,
            strict=isinstance(program, GN),
            eta=None if eta is None else Place(eta),
            inside=inside,
            ray=ray,
            w=vector(self.w[i]) if sound else [],
            u=[part.clip(vector(v)) for part, v in zip(sets.parts, u, strict=True)] if sound else None,
        )


def _finite(row: Tensor | None) -> Vector | None:
    return vector(row.to(torch.float64)) if row is not None and bool(row.isfinite().all()) else None


@dataclass(frozen=True, eq=False)
class _Item:
    """One program, one η and its multipliers, as exact numbers.

    Attributes:
        c, A: the pieces c + Aη, one of them but for sums of hinges.
        norm: p of (8), None for the others.
        pieces, strict: whether the program is a sum of hinges, or (GN).
        eta, inside, ray: what was claimed; None where a number in it is not finite.
        w, u: the multipliers, those of the sets clipped to finite prices; u is None where one of them is not finite.
    """

    c: Vector
    A: list[Vector]
    sets: Sets
    norm: float | None
    pieces: bool
    strict: bool
    eta: Place | None
    inside: Vector | None
    ray: Vector | None
    w: Vector
    u: list[Vector] | None

    # --- what any point and any multipliers are worth -----------------------------------------------------------------

    def linear(self, place: Place) -> Vector:
        """c + Aη times the denominator of η."""
        return [dot(a, place.top, place.times(c)) for c, a in zip(self.c, self.A, strict=True)]

    def objective(self, place: Place) -> arb:
        if self.norm is not None:
            return place.over(length(place.top, self.norm))
        t = self.linear(place)
        return place.over(exactly(lambda: sum((x.max(ZERO) for x in t), ZERO)) if self.pieces else t[0])

    def outside(self, place: Place) -> tuple[bool | None, arb | None, str]:
        """As of the sets; L + gᵀη ≤ 0 of (8) is a row as well, in units of |L|."""
        found = self.sets.outside(place)
        if self.norm is not None and not (excess := self.linear(place)[0]) <= 0:
            own = (False if excess > 0 else None, quotient(place.over(excess), abs(self.c[0])), "L + gᵀη ≤ 0")
            return worst([own] if found[0] else [found, own])
        return found

    def left(self, w: Vector) -> Vector:
        """−Aᵀw − Σ_j K_jᵀu_j."""
        if len(w) == 1 and w[0] == 1:
            target = [-x for x in self.A[0]]
        elif all(x == 0 for x in w):
            target = [ZERO] * self.sets.d
        else:
            target = exactly(
                lambda: [
                    -sum((x * a for x, a in zip(w, column, strict=True)), ZERO) for column in zip(*self.A, strict=True)
                ]
            )
        return self.sets.left(target, self.u or [])

    def bound(self) -> arb | None:
        """The lower bound on the optimum that the multipliers prove; None for −∞."""
        if self.u is None:
            return None
        start, left = dot(self.w, self.c), self.left(self.w)
        if self.norm is None:
            paid = self.sets.paid(self.u, left)
            return None if paid is None else minus(start, paid)
        paid = total(self.sets.prices(self.u))
        return (
            ZERO if paid is None else (minus(start, paid) / length(left, dual_exponent(self.norm)).max(ONE)).max(ZERO)
        )

    def empty(self) -> bool:
        """Whether the multipliers, or bounds that exclude each other, prove that no η is feasible."""
        if self.u is None:
            return False
        w = [ZERO] * len(self.w) if self.norm is None else self.w
        paid = self.sets.paid(self.u, self.left(w))
        return self.sets.crossed() or (paid is not None and bool(dot(w, self.c) > paid))

    def gap(self, place: Place, bound: arb | None) -> tuple[arb | None, arb | None]:
        """How far the objective is above the bound, relative; and what it is relative to. None for ∞."""
        missing = None if bound is None else minus(self.objective(place), bound)
        if self.norm is not None:
            known = bound is not None and bound > 0
            idle = not known and self.c[0] <= 0 and self.sets.outside(Place([ZERO] * self.sets.d))[0]
            scale = bound if known else self.sets.reach() if idle else ZERO
            return quotient(missing, scale), scale
        scale = total(self.sets.swing(a) for a in self.A)
        if scale is not None and scale == 0 and self.u is not None:  # every point of the sets is as good
            return ZERO, scale
        return quotient(missing, scale), scale

    # --- a point inside -----------------------------------------------------------------------------------------------

    def goals(self) -> Iterator[Vector]:
        """Towards which η is pulled: the claimant's `inside`, 0, the centre of the extents; for (8) beyond its row."""
        if self.inside is not None:
            yield self.inside
        yield [ZERO] * self.sets.d
        if (centre := self.sets.centre()) is not None:
            yield centre.top
        if self.norm is not None and self.eta is not None:
            top = self.eta.top
            for more in AROUND:
                yield exactly(lambda more=more: [more * x for x in top])  # type: ignore[misc]
            far = length(top, math.inf)
            ends = zip(top, self.A[0], *self.sets.extent, strict=True)
            yield exactly(lambda: [_corner(x, g, low, high, far) for x, g, low, high in ends])

    def pulled(self, place: Place) -> Place | None:
        """A point inside near a float point, the best of those found; None where none was."""
        first = self.sets.met(place)
        found = [first] if self.outside(first)[0] else []
        for goal in [] if found else self.goals():
            end = self.sets.met(Place(goal))
            tried = first.towards(end, self.share(first, end))
            if self.outside(tried)[0]:
                found.append(tried)
        return min(found, key=lambda tried: float(self.objective(tried)), default=None)

    def share(self, here: Place, goal: Place) -> arb:
        """The least t for which (1 − t)·here + t·goal is inside, by the convexity of each row, and a little more."""
        pairs = [(over, part.room(goal, k)) for part in self.sets.parts for k, over, _ in part.beyond(here)]
        if self.norm is not None and not (excess := self.linear(here)[0]) <= 0:
            pairs.append((here.over(excess), -goal.over(self.linear(goal)[0])))
        t = ZERO
        for over, room in pairs:
            over = over.upper().max(ZERO)
            room = room.lower().max(ZERO)
            t = t.max((over / (over + room)).upper() if room > 0 else ONE)
        more = t * (1 + arb(2) ** -20) + arb(2) ** -(ctx.prec // 2)
        return more.mid() if more < 1 else ONE

    def falls(self) -> bool:
        """Whether some point of the sets, and a ray along which L + gᵀη falls without end, are known."""
        if self.norm is not None or self.pieces or self.u is None:
            return False
        ends = zip(self.A[0], *self.sets.extent, strict=True)
        own = [-g if (low if g > 0 else high) is None else ZERO for g, low, high in ends]
        rays = [ray for ray in (self.ray, own) if ray is not None and dot(self.A[0], ray) < 0]
        if not any(all(part.recedes(ray) for part in self.sets.parts) for ray in rays):
            return False
        places = [*([] if self.eta is None else [self.eta]), *map(Place, self.goals())]
        return any(self.outside(found)[0] for place in places for found in (place, self.sets.met(place)))

    # --- the verdict --------------------------------------------------------------------------------------------------

    def judge(self, claim: Status, limits: Limits, rival: Callable[[], Tensor | None]) -> Proof:
        """Raise the precision until the claim is decided, or more cannot help; then ask for a better point."""
        for bits in BITS:
            proof = rounded(bits, lambda: self._judge(claim, limits))
            edge = proof.violation.lower <= 0 < proof.violation.upper
            if claim not in _SETTLED or (proof.verdict is not Verdict.UNDECIDED and not edge):
                return proof
            if not edge and (proof.gap.width == 0 or proof.gap.lower > float(limits.loose)):
                break
        return (
            proof
            if proof.verdict is not Verdict.UNDECIDED
            else rounded(BITS[0], lambda: self._compared(proof, limits, rival))
        )

    def _judge(self, claim: Status, limits: Limits) -> Proof:
        bound, (inside, out, where) = self.bound(), (None, None, "") if self.eta is None else self.outside(self.eta)
        place = self.eta if inside else self.pulled(self.eta) if self.eta is not None and claim in _SETTLED else None
        gap, scale = (None, None) if place is None else self.gap(place, bound)
        if place is not self.eta and self.eta is not None and bound is not None and gap is not None:
            stolen = minus(bound, self.objective(self.eta))  # what η gains by being outside
            gap = largest([gap, quotient(stolen, scale)])
        shown_at = place or self.eta
        proved = self._proved(claim, bound, place, gap, limits)
        proof = Proof(
            Verdict.UNDECIDED, "", claim, proved,
            NOTHING if shown_at is None else Enclosure.of(self.objective(shown_at)),
            Enclosure(-math.inf, -math.inf) if bound is None else Enclosure.of(bound),
            NOTHING if self.eta is None else Enclosure.of(gap),
            NOTHING if self.eta is None else Enclosure.of(out),
            Enclosure.of(scale),
        )  # fmt: skip
        verdict, why = self._verdict(proof, (inside, out, where), place, gap, limits)
        return replace(proof, verdict=verdict, why=why)

    def _proved(self, claim: Status, bound: arb | None, place: Place | None, gap: arb | None, limits: Limits) -> Status:
        """What the vectors prove, whatever was claimed."""
        if self.u is None:
            return Status.UNDECIDED
        below = self.strict and place is not None and self.linear(place)[0] < 0
        if below:
            return Status.FEASIBLE
        if (place is None and self.empty()) or (self.strict and bound is not None and bound >= 0):
            return Status.INFEASIBLE
        if (claim is Status.UNBOUNDED or bound is None) and self.falls():
            return Status.UNBOUNDED
        good = place is not None and gap is not None and gap <= limits.closed
        return Status.OPTIMAL if good and not self.strict else Status.UNDECIDED

    def _verdict(
        self,
        proof: Proof,
        away: tuple[bool | None, arb | None, str],
        place: Place | None,
        gap: arb | None,
        limits: Limits,
    ) -> tuple[Verdict, str]:
        """Of the claim, with its reason, as far as its own vectors decide it."""
        claim, proved, (inside, out, where) = proof.claimed, proof.proved, away
        if claim not in _SETTLED:
            known = f" Exactly, it is {proved.name}." if claim is Status.UNDECIDED and proved is not claim else ""
            return Verdict.UNDECIDED, f"It claims nothing that could be proved.{known}"
        if claim in (Status.INFEASIBLE, Status.UNBOUNDED):
            return self._claims_nothing(proof, place)
        if self.eta is None:
            return Verdict.REFUTED, "η holds a NaN or an infinite number."
        if inside is False and (out is None or out > limits.loose):
            return Verdict.REFUTED, f"η violates {where}, by {shown(proof.violation)} of that row's own unit."
        if proved in (Status.INFEASIBLE, Status.UNBOUNDED):
            return Verdict.REFUTED, REASONS[proved]
        if claim is Status.FEASIBLE and not self.strict:
            return Verdict.UNDECIDED, "FEASIBLE is a claim about (GN) alone."
        if claim is Status.FEASIBLE and self.linear(self.eta)[0] >= 0:
            return Verdict.REFUTED, f"L + gᵀη = {shown(proof.primal)} is not below 0."
        if self.u is None:
            return Verdict.UNDECIDED, "A multiplier is NaN or infinite, so that nothing holds."
        if claim is Status.FEASIBLE:
            gap = ZERO if proved is claim else None
        verdict = limits.grade(out, gap, inside)
        if verdict is None and place is None and out is not None and out <= limits.loose:
            return (
                Verdict.UNDECIDED,
                f"η is outside {where} by {shown(proof.violation)}, and no point inside was found nearby.",
            )
        if verdict is None:
            return (
                Verdict.UNDECIDED,
                f"The multipliers leave a gap of {shown(proof.gap)} relative, and no better point was found.",
            )
        return verdict, _sentence(verdict, proof, where)

    def _claims_nothing(self, proof: Proof, place: Place | None) -> tuple[Verdict, str]:
        """Of a claim that there is no optimum."""
        claim, proved = proof.claimed, proof.proved
        if claim is proved:
            return Verdict.PROVED, REASONS[claim]
        if claim is Status.INFEASIBLE and (proved is Status.FEASIBLE or (place is not None and not self.strict)):
            return Verdict.REFUTED, "η, or a point near it, is inside" + (
                f", with L + gᵀη = {shown(proof.primal)} < 0." if self.strict else "."
            )
        if claim is Status.UNBOUNDED and (
            proved is Status.INFEASIBLE or (self.u is not None and proof.dual.lower > -math.inf)
        ):
            return (
                Verdict.REFUTED,
                f"The multipliers prove that no η is below {float(proof.dual.lower):.3g}, or that there is none.",
            )
        return Verdict.UNDECIDED, f"The vectors do not prove {claim.name}."

    def _compared(self, proof: Proof, limits: Limits, rival: Callable[[], Tensor | None]) -> Proof:
        """The claim belied by a point of the sets, if a rival is one that does; else as it was."""
        claim = proof.claimed
        there = rival() if self.u is not None and claim in (Status.OPTIMAL, Status.INFEASIBLE) else None
        if there is None or (point := _finite(there.cpu())) is None:
            return proof
        place = Place(point)
        found = place if self.outside(place)[0] else self.pulled(place)
        if found is None or (claim is Status.OPTIMAL and self.eta is None):
            return proof
        worth, witness = self.objective(found), there.cpu() if found is place else found.floats()
        if claim is Status.INFEASIBLE and self.strict and not worth < 0:
            return proof
        if claim is Status.INFEASIBLE:
            value = f", with L + gᵀη = {shown(Enclosure.of(worth))} < 0" if self.strict else ""
            return replace(proof, verdict=Verdict.REFUTED, why=f"The witness is inside{value}.", witness=witness)
        assert self.eta is not None
        _, scale = self.gap(found, worth if self.norm is not None else None)
        better = quotient(minus(self.objective(self.eta), worth), scale)
        if better is None or not better > limits.loose:
            return proof
        margin = Enclosure.of(better)
        why = f"The witness is inside and better by {shown(margin)} relative."
        return replace(proof, verdict=Verdict.REFUTED, why=why, better=margin, witness=witness)


REASONS = {
    Status.INFEASIBLE: "The multipliers, or bounds that exclude each other, leave no η.",
    Status.UNBOUNDED: "No set stops the objective along a ray from a point inside.",
}


def _sentence(verdict: Verdict, proof: Proof, where: str) -> str:
    """Why a claim about η holds."""
    if proof.claimed is Status.FEASIBLE:
        good = f"L + gᵀη = {shown(proof.primal)} < 0"
    else:
        good = f"no η is better by more than {shown(proof.gap)} relative"
    if proof.violation.upper == 0:
        return f"η is inside, and {good}."
    kind = "rounding alone" if verdict is Verdict.ROUNDING else "less than the tolerance"
    return f"η is outside {where} by {shown(proof.violation)}, {kind}, and at a point inside nearby {good}."


def _corner(x: arb, g: arb, low: arb | None, high: arb | None, far: arb) -> arb:
    """Where coordinate x of (8) goes furthest down: to its bound if that is a known number, else far."""
    if g == 0:
        return x
    end = low if g > 0 else high
    step = -far if g > 0 else far
    return x + step if end is None or not end.is_exact() else end
