"""Certificates without floating-point trust: weak duality in exact numbers and balls, for anyone who must know.

The same three numbers as in float64, the objective at η, the bound from the multipliers, the distance to the sets, but each an enclosure.
Membership is exact: one unit in the last place outside is outside. Multipliers that do not quite sum to −g are completed exactly, so the
bound is a theorem whatever they are. A claim of optimality is refuted by a better point of the sets, which is checked exactly as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from flint import arb
from torch import Tensor

from convexattack.enclosures import (
    Enclosure,
    Vector,
    dot,
    dual_exponent,
    exactly,
    least,
    length,
    quotient,
    rounded,
    shown,
    total,
    vector,
    within,
)
from convexattack.certificates.certificate import Tolerance
from convexattack.certificates.proof import ExactCertificate, Proof, Verdict, collected
from convexattack.programs import GN, MinNorm, Program
from convexattack.sets import Ball, Box
from convexattack.solution import Status

__all__ = ["BITS", "NOTHING", "prove"]

BITS = (128, 512, 4096)  # of the balls, tried in turn until the claim is decided
NOTHING = Enclosure(math.nan, math.nan)
_SETTLED = (Status.OPTIMAL, Status.FEASIBLE, Status.INFEASIBLE, Status.UNBOUNDED)  # claims that are true or false


def prove(
    program: Program,
    eta: Tensor,
    multipliers: Sequence[Tensor],
    claimed: Tensor,
    bare: bool,
    tight: bool,
    tick: Callable[[int], object],
) -> ExactCertificate:
    """Judge N claims exactly.

    Args:
        program: (GN), (GNII) or (8) over balls and boxes.
        eta, multipliers, claimed: what `certify` was given, or recovered.
        bare: whether η came alone; of (GN) it then claims to settle feasibility.
        tight: as in `Certificate`.
        tick: called with 1 after each item.

    Raises:
        ValueError: a set that is neither a Ball nor a Box, for its support function is no formula.
    """
    other = next((j for j, item in enumerate(program.sets) if not isinstance(item, Ball | Box)), None)
    if other is not None:
        raise ValueError(
            f"exact must be False with sets[{other}], a {type(program.sets[other]).__name__}: exact certificates know balls and boxes alone"
        )
    tolerance = Tolerance.closed_form(eta.dtype).at(eta.dtype)
    points: list[Tensor] = []

    def rival(i: int) -> Tensor:
        if not points:
            points.append(program.nearly_optimal().cpu())
        return points[0][i]

    members, limit = list(Status), arb(tolerance)
    wide, host = eta.to("cpu", torch.float64), [part.to("cpu", torch.float64) for part in multipliers]
    proofs = []
    for i, code in enumerate(claimed.tolist()):
        item = _Item.of(program, i, wide[i], [part[i] for part in host])
        if item is None:
            why = "The value, the gradient, a bound or a radius of this item is NaN or infinite."
            proofs.append(
                Proof(Verdict.UNDECIDED, why, members[code], Status.UNDECIDED, NOTHING, NOTHING, NOTHING, NOTHING)
            )
        else:
            proofs.append(item.judge(members[code], bare, limit, rival, i))
        tick(1)
    return collected(proofs, eta, tolerance, tight=tight, decides=isinstance(program, GN))


@dataclass(frozen=True, eq=False)
class _Bounds:
    """A box, bound by bound; None where there is none."""

    low: list[arb | None]
    high: list[arb | None]

    def __str__(self) -> str:
        return "lower ≤ η ≤ upper"

    def far(self) -> list[arb | None]:
        """max(|lower_i|, |upper_i|)."""
        return [
            None if a is None or b is None else abs(a).max(abs(b)) for a, b in zip(self.low, self.high, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Round:
    """A ball ‖η‖_p ≤ radius."""

    p: float
    radius: arb

    def __str__(self) -> str:
        return f"‖η‖_{'∞' if self.p == math.inf else f'{self.p:g}'} ≤ {float(self.radius):g}"


@dataclass(frozen=True, eq=False)
class _Item:
    """One program, one η and its multipliers, as exact numbers.

    Attributes:
        value, gradient, sets: L, g and the balls and boxes.
        norm: p of (8), None for the others.
        strict: whether the program is (GN).
        falls: whether the objective falls without end.
        eta: None where a number in it is not finite.
        weight, multipliers: λ of (8), else 0, and the v_j; None where a number in them is not finite.
    """

    value: arb
    gradient: Vector
    sets: list[_Bounds | _Round]
    norm: float | None
    strict: bool
    falls: bool
    eta: Vector | None
    weight: arb
    multipliers: list[Vector] | None

    @staticmethod
    def of(program: Program, i: int, eta: Tensor, multipliers: Sequence[Tensor]) -> _Item | None:
        """None where the data are not finite."""
        L, g = float(program.L[i]), program.g[i].cpu()
        sets: list[_Bounds | _Round] = []
        low, high = torch.full_like(g, -math.inf), torch.full_like(g, math.inf)
        for item in program.sets:
            if isinstance(item, Ball):
                sets.append(_Round(item.norm.p, arb(float(item.radii(program.g)[i]))))
            elif isinstance(item, Box):
                ends = [bound[i].cpu() for bound in item.bounds(program.g)]
                low, high = torch.maximum(low, ends[0]), torch.minimum(high, ends[1])
                sets.append(_Bounds(*([None if math.isinf(x) else arb(x) for x in bound.tolist()] for bound in ends)))
        if not (math.isfinite(L) and bool(g.isfinite().all()) and not bool((low.isnan() | high.isnan()).any())):
            return None
        endless = bool((((g > 0) & (low == -math.inf)) | ((g < 0) & (high == math.inf))).any() & (low <= high).all())
        smallest = isinstance(program, MinNorm)
        sound = all(bool(part.isfinite().all()) for part in multipliers)
        return _Item(
            value=arb(L),
            gradient=vector(g),
            sets=sets,
            norm=program.norm.p if isinstance(program, MinNorm) else None,
            strict=isinstance(program, GN),
            falls=endless and not smallest and not any(isinstance(item, _Round) for item in sets),
            eta=vector(eta) if bool(eta.isfinite().all()) else None,
            weight=arb(max(0.0, float(multipliers[0]))) if smallest and sound else arb(0),
            multipliers=[vector(part) for part in multipliers[int(smallest) :]] if sound else None,
        )

    # --- what any point and any multipliers are worth ---------------------------------------------------------------------------------

    def linear(self, eta: Vector) -> arb:
        """L + gᵀη."""
        return dot(self.gradient, eta, self.value)

    def objective(self, eta: Vector) -> arb:
        return self.linear(eta) if self.norm is None else length(eta, self.norm)

    def outside(self, eta: Vector) -> tuple[bool | None, arb | None, str]:
        """Whether η is in every set, and satisfies the inequality of (8); how far it is out, relative; and of what first."""
        reach = least(item.radius if isinstance(item, _Round) else _largest(item.far()) for item in self.sets)
        size = length(eta, math.inf) if reach is None else reach
        found: list[tuple[bool | None, arb | None, str]] = []
        for j, item in enumerate(self.sets):
            if isinstance(item, _Round):
                inside = within(eta, item.p, item.radius)
                far = None if inside else quotient(_minus(length(eta, item.p), item.radius).max(arb(0)), item.radius)
            else:
                over = [_minus(b, x) for x, b in zip(eta, item.low, strict=True) if b is not None and x < b]
                over += [_minus(x, b) for x, b in zip(eta, item.high, strict=True) if b is not None and x > b]
                inside, far = not over, quotient(_largest(over), size)
            if inside is not True:
                found.append((inside, far, f"sets[{j}], {item}"))
        if self.norm is not None and (excess := self.linear(eta)) > 0:
            steep = length(self.gradient, dual_exponent(self.norm)) * length(eta, self.norm)
            found.append((False, quotient(excess, abs(self.value) + steep), "L + gᵀη ≤ 0"))
        if not found:
            return True, arb(0), ""
        surely = [entry for entry in found if entry[0] is False]
        return (False if surely else None), _largest([far for _, far, _ in found]), (surely or found)[0][2]

    def support(self, item: _Bounds | _Round, v: Vector) -> arb | None:
        """σ(v); None for ∞."""
        if isinstance(item, _Round):
            size = length(v, dual_exponent(item.p)) if item.radius > 0 else arb(0)
            return dot([item.radius], [size])
        return _weighed(v, [high if x > 0 else low for x, low, high in zip(v, item.low, item.high, strict=True)])

    def cost(self, v: Sequence[Vector], target: Vector) -> arb | None:
        """Σ_j σ_j(v_j), once one set has taken what Σ_j v_j = target still wants: the set at which that costs least; None for ∞."""
        missing = exactly(lambda: [t - sum(parts, arb(0)) for t, *parts in zip(target, *v, strict=True)])
        plain = [self.support(item, part) for item, part in zip(self.sets, v, strict=True)]
        if all(x == 0 for x in missing):
            return total(plain)
        moved = [exactly(lambda part=part: [a + b for a, b in zip(part, missing, strict=True)]) for part in v]  # type: ignore[misc]
        taken = [self.support(item, part) for item, part in zip(self.sets, moved, strict=True)]
        return least(total([*plain[:j], taken[j], *plain[j + 1 :]]) for j in range(len(v)))

    def bound(self) -> arb | None:
        """The lower bound on the optimum that the multipliers prove; None for −∞."""
        if self.multipliers is None:
            return None
        pull = exactly(lambda: [-x if self.norm is None else -self.weight * x for x in self.gradient])
        if self.norm is None:
            cost = self.cost(self.multipliers, pull) if self.sets else None
            return None if cost is None else _minus(self.value, cost)
        cost = total(self.support(item, v) for item, v in zip(self.sets, self.multipliers, strict=True))
        if cost is None:
            return arb(0)  # no norm is below
        u = exactly(lambda: [x - sum(parts, arb(0)) for x, *parts in zip(pull, *(self.multipliers or []), strict=True)])
        above = _minus(dot([self.weight], [self.value]), cost)
        return (above / length(u, dual_exponent(self.norm)).max(arb(1))).max(arb(0))

    def empty(self) -> bool:
        """Whether the multipliers, or bounds that exclude each other, prove that no η is feasible."""
        d = len(self.gradient)
        boxes = [item for item in self.sets if isinstance(item, _Bounds)]
        boxes += [
            _Bounds([-item.radius] * d, [item.radius] * d)
            for item in self.sets
            if isinstance(item, _Round) and item.p == math.inf
        ]
        for one in boxes:
            for other in boxes:
                if any(a is not None and b is not None and a > b for a, b in zip(one.low, other.high, strict=True)):
                    return True
        if self.norm is not None and not self.sets:
            return bool(self.value > 0) and all(x == 0 for x in self.gradient)
        if self.multipliers is None or not self.sets:
            return False
        weight = arb(0) if self.norm is None else self.weight
        cost = self.cost(self.multipliers, exactly(lambda: [-weight * x for x in self.gradient]))
        return cost is not None and bool(dot([weight], [self.value]) > cost)

    def scale(self, eta: Vector) -> arb:
        """What a gap is relative to, as in `Certificate`."""
        if self.norm is not None:
            size = quotient(abs(self.value), length(self.gradient, dual_exponent(self.norm)))
            return length(eta, self.norm).max(arb(0) if size is None else size)
        reach = []
        for item in self.sets:
            if isinstance(item, _Round):
                reach.append(self.support(item, self.gradient))
            else:
                reach.append(_weighed([abs(x) for x in self.gradient], item.far()))
        known = least(reach)
        if known is None:
            known = length(exactly(lambda: [a * b for a, b in zip(self.gradient, eta, strict=True)]), 1)
        return abs(self.value) + known

    # --- the verdict ------------------------------------------------------------------------------------------------------------------

    def judge(self, claim: Status, bare: bool, limit: arb, rival: Callable[[int], Tensor], i: int) -> Proof:
        """Raise the precision until the claim is decided, or more cannot help. `rival(i)` is the point to compare η with."""
        for bits in BITS:
            proof = rounded(bits, lambda: self._judge(claim, bare, limit, rival, i))
            if proof.verdict is not Verdict.UNDECIDED or claim not in _SETTLED or proof.gap.width == 0:
                break
        return proof

    def _judge(self, claim: Status, bare: bool, limit: arb, rival: Callable[[int], Tensor], i: int) -> Proof:
        bound = self.bound()
        proved = Status.INFEASIBLE if self.empty() else Status.UNBOUNDED if self.falls else Status.UNDECIDED
        if self.strict and proved is Status.UNDECIDED and bound is not None and bound >= 0:
            proved = Status.INFEASIBLE
        dual = Enclosure(-math.inf, -math.inf) if bound is None else Enclosure.of(bound)
        primal = gap = violation = NOTHING
        inside, where = None, ""
        if self.eta is not None:
            here = self.objective(self.eta)
            inside, out, where = self.outside(self.eta)
            short = None if bound is None else quotient(_minus(here, bound), self.scale(self.eta))
            primal, gap, violation = Enclosure.of(here), Enclosure.of(short), Enclosure.of(out)
            if inside and self.strict and here < 0:
                proved = Status.FEASIBLE
            elif inside and not self.strict and proved is Status.UNDECIDED and short is not None and short <= limit:
                proved = Status.OPTIMAL
        if self.strict and bare:
            claim = proved if proved is not Status.UNDECIDED else Status.FEASIBLE
        reasons = {
            Status.OPTIMAL: f"η is inside, and no η is better by more than {shown(gap)} relative.",
            Status.FEASIBLE: f"η is inside, and L + gᵀη = {shown(primal)} < 0.",
            Status.INFEASIBLE: "The multipliers, or bounds that exclude each other, leave no η.",
            Status.UNBOUNDED: "No bound stops η along −g.",
        }

        def say(verdict: Verdict, why: str, better: Enclosure | None = None, witness: Tensor | None = None) -> Proof:
            return Proof(verdict, why, claim, proved, primal, dual, gap, violation, better, witness)

        if claim not in _SETTLED:
            known = f" Exactly, it is {proved.name}." if claim is Status.UNDECIDED and proved is not claim else ""
            return say(Verdict.UNDECIDED, f"It claims nothing that could be proved.{known}")
        if claim is proved:
            return say(Verdict.PROVED, reasons[claim])
        if claim in (Status.OPTIMAL, Status.FEASIBLE) and self.eta is None:
            return say(Verdict.REFUTED, "η holds a NaN or an infinite number.")
        if claim in (Status.OPTIMAL, Status.FEASIBLE) and inside is False:
            return say(Verdict.REFUTED, f"η violates {where}, by {shown(violation)} relative.")
        if claim is Status.FEASIBLE and inside and not bare:
            return say(Verdict.REFUTED, f"L + gᵀη = {shown(primal)} is not below 0.")
        if claim is Status.OPTIMAL and proved in (Status.INFEASIBLE, Status.UNBOUNDED):
            return say(Verdict.REFUTED, reasons[proved])
        if inside is None and claim in (Status.OPTIMAL, Status.FEASIBLE):
            return say(
                Verdict.UNDECIDED, f"η is so near the edge of {where} that {BITS[-1]:,} bits cannot tell on which side."
            )
        return self._compared(claim, limit, rival(i), say) or say(
            Verdict.UNDECIDED, f"The multipliers leave a gap of {shown(gap)} relative, and no better point was found."
        )

    def _compared(self, claim: Status, limit: arb, point: Tensor, say: Callable[..., Proof]) -> Proof | None:
        """The claim belied by a point of the sets, if this is one that does."""
        if claim is Status.UNBOUNDED or not bool(point.isfinite().all()):
            return None
        there = vector(point)
        if self.outside(there)[0] is not True:
            return None
        worth = self.objective(there)
        if claim is Status.OPTIMAL and self.eta is not None:
            better = quotient(_minus(self.objective(self.eta), worth), self.scale(self.eta))
            if better is not None and not better > limit:
                return None
            margin = Enclosure.of(better)
            return say(Verdict.REFUTED, f"The witness is inside and better by {shown(margin)} relative.", margin, point)
        if self.strict and not worth < 0:
            return None
        value = f", with L + gᵀη = {shown(Enclosure.of(worth))} < 0" if self.strict else ""
        return say(Verdict.REFUTED, f"The witness is inside{value}.", None, point)


def _minus(a: arb, b: arb) -> arb:
    """a − b, without a rounding of its own where both are exact."""
    return exactly(lambda: a - b)


def _weighed(x: Vector, edges: Sequence[arb | None]) -> arb | None:
    """Σ x_i·edge_i with 0·∞ = 0; None for ∞."""
    used = [(a, edge) for a, edge in zip(x, edges, strict=True) if a != 0]
    finite = [edge for _, edge in used if edge is not None]
    return dot((a for a, _ in used), finite) if len(finite) == len(used) else None


def _largest(numbers: Sequence[arb | None]) -> arb | None:
    """The largest of 0 and these; None stands for ∞."""
    found = arb(0)
    for number in numbers:
        if number is None:
            return None
        found = found.max(number)
    return found
