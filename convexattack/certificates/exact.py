"""Certificates without floating-point trust: weak duality in exact numbers and balls, for anyone who must know.

The same three numbers as in float64, the objective at η, the bound from the multipliers, the distance to the sets, but each an enclosure.
Membership is exact: one unit in the last place outside is outside. Multipliers that do not quite sum to −g are completed exactly, so the
bound is a theorem whatever they are. A claim of optimality is refuted by a better point of the sets, which is checked exactly as well.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from flint import arb
from torch import Tensor

from convexattack.certificates.balls import (
    Enclosure,
    Vector,
    dual_exponent,
    exactly,
    length,
    maximum,
    quotient,
    rounded,
    vector,
    within,
)
from convexattack.certificates.certificate import Certificate, Tolerance
from convexattack.programs import GN, MinNorm, Program
from convexattack.sets import Ball, Box
from convexattack.solution import Status

__all__ = ["BITS", "ExactCertificate", "Proof", "Verdict", "collected", "prove"]

BITS = (128, 512, 4096)  # of the balls, tried in turn until the claim is decided


class Verdict(enum.Enum):
    """What exact arithmetic says of one claim. The value is the sentence to show."""

    PROVED = "The claim is true, in exact arithmetic."
    REFUTED = "The claim is false, in exact arithmetic."
    UNDECIDED = "These vectors prove nothing either way, or the item claims nothing."


@dataclass(frozen=True, eq=False)
class Proof:
    """What is known exactly of one item.

    Attributes:
        verdict: of the claim, at the certificate's own tolerance.
        why: the reason, one sentence.
        claimed, proved: the claim, and what the vectors prove whatever was claimed (UNDECIDED where that is nothing).
        primal, dual, gap, violation: as in `Certificate`, enclosed. `violation` is 0 exactly where η is inside every set.
        better: how much better the witness is than η, relative like the gap; None without a witness.
        witness: (d,) a feasible point that is better than η (of (GN), one with L + gᵀη < 0; for a claim of infeasibility, any), or None.
    """

    verdict: Verdict
    why: str
    claimed: Status
    proved: Status
    primal: Enclosure
    dual: Enclosure
    gap: Enclosure
    violation: Enclosure
    better: Enclosure | None = None
    witness: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class ExactCertificate(Certificate):
    """A `Certificate` whose numbers are proved: its tensors are the ends of the enclosures that are worse for the claim, as float64.

    Attributes:
        proofs: one `Proof` an item, with the enclosures as rational numbers.
        tolerance: what the gap was allowed by `verdict`, relative; membership is allowed nothing.
    """

    proofs: tuple[Proof, ...] = ()
    tolerance: float = 0.0

    @property
    def verdict(self) -> np.ndarray:
        """(N,) array of `Verdict` members."""
        found = np.empty(len(self.proofs), dtype=object)
        found[:] = [proof.verdict for proof in self.proofs]
        return found

    def holds(self, tolerance: Tolerance | None = None) -> Tensor:
        """Which claims are PROVED; with a tolerance, those whose gap is proved to be within it, too. η is exactly inside its sets in all."""
        proved = [proof.verdict is Verdict.PROVED for proof in self.proofs]
        if tolerance is not None:
            limit = Fraction(tolerance.at(self.dtype))
            gaps = [max(abs(proof.gap.lower), abs(proof.gap.upper)) <= limit for proof in self.proofs]
            optimal = [proof.claimed in (Status.OPTIMAL, Status.BRACKETED) and proof.violation.upper == 0 for proof in self.proofs]
            proved = [(gap if inside else known) for gap, inside, known in zip(gaps, optimal, proved, strict=True)]
        return torch.tensor(proved, dtype=torch.bool, device=self.primal.device)

    def __repr__(self) -> str:
        counts = ", ".join(f"{int((self.verdict == verdict).sum())} {verdict.name}" for verdict in Verdict)
        return f"ExactCertificate({counts}; gaps within {self.tolerance:.0e} relative)"


def prove(program: Program, eta: Tensor, multipliers: Sequence[Tensor], claimed: Tensor, bare: bool, tight: bool) -> ExactCertificate:
    """Judge N claims exactly.

    Args:
        program: (GN), (GNII) or (8) over balls and boxes.
        eta, multipliers, claimed: what `certify` was given, or recovered.
        bare: whether η came alone; of (GN) it then claims to settle feasibility.
        tight: as in `Certificate`.

    Raises:
        ValueError: a set that is neither a Ball nor a Box, for its support function is no formula.
    """
    other = next((j for j, item in enumerate(program.sets) if not isinstance(item, Ball | Box)), None)
    if other is not None:
        raise ValueError(
            f"exact must be False with sets[{other}], a {type(program.sets[other]).__name__}: exact certificates know balls and boxes alone"
        )
    tolerance = Tolerance.closed_form(eta.dtype).relative or 0.0
    points: list[Tensor] = []

    def nearly_optimal(i: int) -> Tensor:
        if not points:
            points.append(program.nearly_optimal().cpu())
        return points[0][i]

    members, limit = list(Status), arb(tolerance)
    host = [part.to("cpu", torch.float64) for part in multipliers]
    wide, codes = eta.to("cpu", torch.float64), claimed.tolist()
    proofs = []
    for i, code in enumerate(codes):
        item = _Item.of(program, i, wide[i], [part[i] for part in host])
        claim = members[code]
        proofs.append(_invalid(claim) if item is None else item.judge(claim, bare, limit, lambda i=i: nearly_optimal(i)))  # type: ignore[misc]
    return collected(proofs, eta, tolerance, tight=tight, decides=isinstance(program, GN))


def collected(proofs: Sequence[Proof], eta: Tensor, tolerance: float, tight: bool, decides: bool = False, brackets: bool = False) -> ExactCertificate:
    """The proofs of N items as a certificate for η."""

    def column(ends: Callable[[Proof], Fraction | float]) -> Tensor:
        return torch.tensor([_float(ends(proof)) for proof in proofs], dtype=torch.float64, device=eta.device)

    def codes(ends: Callable[[Proof], Status]) -> Tensor:
        return torch.tensor([ends(proof).code for proof in proofs], dtype=torch.int8, device=eta.device)

    primal = column(lambda proof: proof.primal.lower if brackets else proof.primal.upper)
    dual = column(lambda proof: proof.dual.upper if brackets else proof.dual.lower)
    residual = (dual - primal) / dual if brackets else torch.zeros_like(primal)
    return ExactCertificate(
        primal, dual, column(lambda proof: proof.gap.upper), column(lambda proof: proof.violation.upper), residual,
        codes(lambda proof: proof.claimed), codes(lambda proof: proof.proved), eta.dtype, tight,
        decides=decides, brackets=brackets, proofs=tuple(proofs), tolerance=tolerance,
    )  # fmt: skip


def _float(x: Fraction | float) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.copysign(math.inf, x)


_NOTHING = Enclosure(math.nan, math.nan)


def _invalid(claim: Status) -> Proof:
    """An item whose data are not finite."""
    why = "The value, the gradient, a bound or a radius of this item is NaN or infinite."
    return Proof(Verdict.UNDECIDED, why, claim, Status.UNDECIDED, _NOTHING, _NOTHING, _NOTHING, _NOTHING)


@dataclass(frozen=True, eq=False)
class _Edges:
    """A box, bound by bound; None where there is none."""

    low: list[arb | None]
    high: list[arb | None]


@dataclass(frozen=True, eq=False)
class _Round:
    """A ball ‖η‖_p ≤ radius."""

    p: float
    radius: arb


@dataclass(frozen=True, eq=False)
class _Item:
    """One program, one η and its multipliers, as exact numbers; η None where a solver left none."""

    value: arb
    gradient: Vector
    sets: list[_Edges | _Round]
    norm: float | None  # p of (8)
    strict: bool  # (GN)
    unbounded: bool
    eta: Vector | None
    weight: arb | None  # λ of (8)
    multipliers: list[Vector] | None

    @staticmethod
    def of(program: Program, i: int, eta: Tensor, multipliers: Sequence[Tensor]) -> _Item | None:
        """None where the data are not finite."""
        L, g = program.L[i].cpu(), program.g[i].cpu()
        sets: list[_Edges | _Round] = []
        falls = bool(program.sets) and not isinstance(program, MinNorm)
        low, high = torch.full_like(g, -math.inf), torch.full_like(g, math.inf)
        finite = bool(L.isfinite() & g.isfinite().all())
        for item in program.sets:
            if isinstance(item, Ball):
                sets.append(_Round(item.norm.p, arb(float(item.radii(program.g)[i]))))
                falls = False
            elif isinstance(item, Box):
                ends = [bound[i].cpu() for bound in item.bounds(program.g)]
                finite = finite and not any(bool(bound.isnan().any()) for bound in ends)
                low, high = torch.maximum(low, ends[0]), torch.minimum(high, ends[1])
                sets.append(_Edges(*([None if math.isinf(x) else arb(x) for x in bound.tolist()] for bound in ends)))
        if not finite:
            return None
        endless = bool((((g > 0) & (low == -math.inf)) | ((g < 0) & (high == math.inf))).any() & (low <= high).all())
        free = isinstance(program, MinNorm)
        weight, v = (multipliers[0], multipliers[1:]) if free else (None, multipliers)
        sound = all(bool(part.isfinite().all()) for part in multipliers)
        return _Item(
            arb(float(L)), vector(g), sets, program.norm.p if isinstance(program, MinNorm) else None, isinstance(program, GN),
            falls and endless, vector(eta) if bool(eta.isfinite().all()) else None,
            None if weight is None or not sound else arb(max(0.0, float(weight))), [vector(part) for part in v] if sound else None,
        )  # fmt: skip

    # --- what any point and any multipliers are worth ---

    def linear(self, eta: Vector) -> arb:
        """L + gᵀη, exactly."""
        return exactly(lambda: sum((a * b for a, b in zip(self.gradient, eta, strict=True)), self.value))

    def objective(self, eta: Vector) -> arb:
        return self.linear(eta) if self.norm is None else length(eta, self.norm)

    def excess(self, eta: Vector) -> tuple[bool | None, arb | None, str]:
        """Whether η is in every set (and satisfies the inequality of (8)), how far it is out, relative, and of what."""
        size: arb | None = length(eta, math.inf)
        for item in self.sets:
            reach = item.radius if isinstance(item, _Round) else maximum(*(maximum(*(b and abs(b) for b in ends)) for ends in (item.low, item.high)))
            size = reach if size is None or (reach is not None and reach < size) else size
        all_inside: bool | None = True
        worst, what = arb(0), ""
        for j, item in enumerate(self.sets):
            if isinstance(item, _Round):
                inside = within(eta, item.p, item.radius)
                far = quotient(exactly_minus(length(eta, item.p), item.radius).max(arb(0)), item.radius)
            else:
                out = [low - x for x, low in zip(eta, item.low, strict=True) if low is not None and x < low]
                out += [x - high for x, high in zip(eta, item.high, strict=True) if high is not None and x > high]
                inside, far = not out, quotient(maximum(arb(0), *out), size)
            if inside is not True:
                all_inside = inside if all_inside is True or inside is False else all_inside
                what = what or f"sets[{j}]"
                worst = maximum(worst, far) if worst is not None else None  # type: ignore[assignment]
        if self.norm is not None and (over := self.linear(eta)) > 0:
            all_inside, what = False, what or "L + gᵀη ≤ 0"
            steep = length(self.gradient, dual_exponent(self.norm)) * length(eta, self.norm)
            worst = maximum(worst, quotient(over, abs(self.value) + steep))  # type: ignore[assignment]
        return all_inside, worst if all_inside is not True else arb(0), what

    def support(self, j: int, v: Vector) -> arb | None:
        """σ_j(v); None for ∞."""
        item = self.sets[j]
        if isinstance(item, _Round):
            size = length(v, dual_exponent(item.p)) if item.radius > 0 else arb(0)
            return exactly(lambda: item.radius * size)
        terms = []
        for x, low, high in zip(v, item.low, item.high, strict=True):
            edge = high if x > 0 else low
            if x != 0 and edge is None:
                return None
            if x != 0:
                terms.append((x, edge))
        return exactly(lambda: sum((x * edge for x, edge in terms), arb(0)))

    def cost(self, v: Sequence[Vector], target: Vector) -> arb | None:
        """Σ_j σ_j(v_j), after one set has taken what is missing to Σ_j v_j = target: the one at which that costs least; None for ∞."""
        missing = exactly(lambda: [t - sum(parts, arb(0)) for t, *parts in zip(target, *v, strict=True)])
        plain = [self.support(j, part) for j, part in enumerate(v)]
        if all(x == 0 for x in missing):
            return _total(plain)
        found: arb | None = None
        for j, part in enumerate(v):
            moved = exactly(lambda part=part: [a + b for a, b in zip(part, missing, strict=True)])
            total = _total([*plain[:j], self.support(j, moved), *plain[j + 1 :]])
            found = total if found is None or (total is not None and total < found) else found
        return found

    def bound(self) -> arb | None:
        """The lower bound that the multipliers prove; None for −∞."""
        if self.multipliers is None:
            return None
        if self.norm is None:
            cost = self.cost(self.multipliers, exactly(lambda: [-x for x in self.gradient])) if self.sets else None
            return None if cost is None else exactly_minus(self.value, cost)
        cost = _total([self.support(j, v) for j, v in enumerate(self.multipliers)])
        if cost is None:
            return arb(0)  # no norm is below
        u = exactly(lambda: [self.weight * x + sum(parts, arb(0)) for x, *parts in zip(self.gradient, *self.multipliers, strict=True)])
        above = exactly_minus(exactly(lambda: self.weight * self.value), cost)
        return (above / length(u, dual_exponent(self.norm)).max(arb(1))).max(arb(0))

    def refuted(self) -> bool:
        """Whether the multipliers, or bounds that exclude each other, prove that no η is feasible."""
        if self._clash():
            return True
        if self.multipliers is None or not self.sets:
            return self.norm is not None and self.value > 0 and all(x == 0 for x in self.gradient)
        if self.norm is None:
            cost = self.cost(self.multipliers, [arb(0)] * len(self.gradient))
            return cost is not None and cost < 0
        cost = self.cost(self.multipliers, exactly(lambda: [-self.weight * x for x in self.gradient]))
        return cost is not None and exactly(lambda: self.weight * self.value) > cost

    def _clash(self) -> bool:
        edges = [item if isinstance(item, _Edges) else _Edges([-item.radius] * len(self.gradient), [item.radius] * len(self.gradient))
                 for item in self.sets if isinstance(item, _Edges) or item.p == math.inf]  # fmt: skip
        return any(
            low is not None and high is not None and low > high
            for one in edges for other in edges for low, high in zip(one.low, other.high, strict=True)
        )  # fmt: skip

    def scale(self, eta: Vector) -> arb:
        """What a gap is relative to, as in `Certificate`."""
        if self.norm is not None:
            size = quotient(abs(self.value), length(self.gradient, dual_exponent(self.norm)))
            return length(eta, self.norm) if size is None else length(eta, self.norm).max(size)
        found: arb | None = None
        for j, item in enumerate(self.sets):
            if isinstance(item, _Round):
                reach = self.support(j, self.gradient)
            else:
                ends = [(abs(x), maximum(low and abs(low), high and abs(high))) for x, low, high in zip(self.gradient, item.low, item.high, strict=True) if x != 0]
                reach = None if any(far is None for _, far in ends) else exactly(lambda ends=ends: sum((x * far for x, far in ends), arb(0)))
            found = reach if found is None or (reach is not None and reach < found) else found
        if found is None:
            found = exactly(lambda: sum((abs(a * b) for a, b in zip(self.gradient, eta, strict=True)), arb(0)))
        return abs(self.value) + found

    # --- the verdict ---

    def judge(self, claim: Status, bare: bool, limit: arb, nearly_optimal: Callable[[], Tensor]) -> Proof:
        """Raise the precision until the claim is decided."""
        proof = None
        for bits in BITS:
            proof = rounded(bits, lambda: self._judge(claim, bare, limit, nearly_optimal))
            if proof.verdict is not Verdict.UNDECIDED or proof.gap.width == 0:
                break
        assert proof is not None
        return proof

    def _judge(self, claim: Status, bare: bool, limit: arb, nearly_optimal: Callable[[], Tensor]) -> Proof:
        bound, eta = self.bound(), self.eta
        dual = Enclosure(-math.inf, -math.inf) if bound is None else Enclosure.of(bound)
        if self.refuted():
            proved = Status.INFEASIBLE
        elif self.unbounded:
            proved = Status.UNBOUNDED
        elif self.strict and bound is not None and bound >= 0:
            proved = Status.INFEASIBLE
        else:
            proved = Status.UNDECIDED
        primal = gap = violation = _NOTHING
        inside: bool | None = False
        if eta is not None:
            here = self.objective(eta)
            inside, out, where = self.excess(eta)
            primal, violation = Enclosure.of(here), Enclosure.of(out)
            scale = self.scale(eta)
            short = None if bound is None else quotient(exactly_minus(here, bound), scale)
            gap = Enclosure.of(short)
            if self.strict and inside and here < 0:
                proved = Status.FEASIBLE
            elif not self.strict and proved is Status.UNDECIDED and inside and short is not None and short <= limit:
                proved = Status.OPTIMAL
        if self.strict and bare:
            claim = proved if proved is not Status.UNDECIDED else Status.FEASIBLE
        facts = (claim, proved, primal, dual, gap, violation)

        def say(verdict: Verdict, why: str, better: Enclosure | None = None, witness: Tensor | None = None) -> Proof:
            return Proof(verdict, why, *facts, better, witness)

        if claim in (Status.INFEASIBLE, Status.UNBOUNDED) and claim is proved:
            reasons = {Status.INFEASIBLE: "The multipliers, or bounds that exclude each other, leave no η.", Status.UNBOUNDED: "No bound stops η along −g."}
            return say(Verdict.PROVED, reasons[claim])
        if claim in (Status.OPTIMAL, Status.FEASIBLE):
            if eta is None:
                return say(Verdict.REFUTED, "η holds a NaN or an infinite number.")
            if inside is False:
                return say(Verdict.REFUTED, f"η is outside {where}, by {_shown(violation)} relative.")
            if claim is proved and claim is Status.OPTIMAL:
                return say(Verdict.PROVED, f"η is inside, and no η is better by more than {_shown(gap)} relative.")
            if claim is proved:
                return say(Verdict.PROVED, f"η is inside, and L + gᵀη = {_shown(primal)} < 0.")
            if claim is Status.FEASIBLE and not bare and inside:
                return say(Verdict.REFUTED, f"L + gᵀη = {_shown(primal)} is not below 0.")
        if claim in (Status.OPTIMAL, Status.FEASIBLE, Status.INFEASIBLE):
            found = self._witness(claim, limit, nearly_optimal())
            if found is not None:
                return say(Verdict.REFUTED, *found)
        if claim is Status.UNDECIDED and proved is not claim:
            return say(Verdict.UNDECIDED, f"It claims nothing; exactly, it is {proved.name}.")
        why = "It claims nothing that could be proved." if claim not in (Status.OPTIMAL, Status.FEASIBLE, Status.INFEASIBLE, Status.UNBOUNDED) else (
            f"The multipliers leave a gap of {_shown(gap)} relative, and no better point was found.")  # fmt: skip
        return say(Verdict.UNDECIDED, why)

    def _witness(self, claim: Status, limit: arb, point: Tensor) -> tuple[str, Enclosure | None, Tensor] | None:
        """A point of the sets that belies the claim, if the one offered is one."""
        if not bool(point.isfinite().all()):
            return None
        there = vector(point)
        if self.excess(there)[0] is not True:
            return None
        worth = self.objective(there)
        if claim in (Status.INFEASIBLE, Status.FEASIBLE):
            if self.strict and not worth < 0:
                return None
            return f"The witness is inside{f', with L + gᵀη = {_shown(Enclosure.of(worth))} < 0' if self.strict else ''}.", None, point
        assert self.eta is not None
        better = quotient(exactly_minus(self.objective(self.eta), worth), self.scale(self.eta))
        if better is not None and not better > limit:
            return None
        margin = Enclosure.of(better)
        return f"The witness is inside and better by {_shown(margin)} relative.", margin, point


def exactly_minus(a: arb, b: arb) -> arb:
    """a − b, without a rounding of its own where both are exact."""
    return exactly(lambda: a - b)


def _total(parts: Sequence[arb | None]) -> arb | None:
    """The sum; None for ∞."""
    return None if any(part is None for part in parts) else exactly(lambda: sum(parts, arb(0)))


def _shown(x: Enclosure) -> str:
    return f"{_float(x.upper):.3g}"
