"""(GN): is there a perturbation inside the sets that the linear model calls adversarial? (Section II, Proposition 1)"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import cvxpy as cp
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import rounding_slack
from convexattack.programs.base import Bound, Multipliers, Program
from convexattack.programs.gnii import GNII
from convexattack.sets import Ball, Box, ConvexSet
from convexattack.solution import Status

__all__ = ["GN"]


@dataclass(frozen=True, eq=False)
class GN(Program):
    """find η  subject to  L + gᵀη < 0,  η ∈ C_1 ∩ … ∩ C_k.

    Decided from (GNII), which has the same sets: a point with L + gᵀη < 0 proves FEASIBLE; multipliers whose (GNII) bound is ≥ 0
    prove INFEASIBLE (Farkas). The inequality is strict, so equality in (5), ε‖g‖_q = L, is infeasible as well: the case that
    Proposition 1 leaves out. Both verdicts allow for rounding; a near tie with p ∈ {1, 2, ∞} is settled in rational arithmetic,
    and what remains is UNDECIDED. Arguments, multipliers, scale and errors as in `GNII`.
    """

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N d"]
    sets: tuple[ConvexSet, ...]

    @property
    def relaxed(self) -> GNII:
        """(GNII) with the same data."""
        return GNII(self.value, self.gradient, self.sets)

    def problem(self, i: int = 0) -> cp.Problem:
        """maximize s subject to L + gᵀη + s ≤ 0, η ∈ C_j: feasible if and only if the optimal s is positive."""
        value, gradient = self.row(i)
        eta, s = cp.Variable(len(gradient), name="eta"), cp.Variable(name="s")
        return cp.Problem(cp.Maximize(s), [value + gradient @ eta + s <= 0, *self.constraints(eta, i)])

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """L + gᵀη = −s."""
        return self.linear(eta)

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Of the sets; the sign of L + gᵀη is what `decide` is about."""
        return self.outside(eta)

    def scale(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.relaxed.scale(eta)

    def bound(self, multipliers: Multipliers, eta: Float[Tensor, "N d"]) -> Bound:
        return self.relaxed.bound(multipliers, eta)

    def refuted(self, multipliers: Multipliers) -> Bool[Tensor, " N"]:
        return self.relaxed.refuted(multipliers)

    def unbounded(self) -> Bool[Tensor, " N"]:
        return self.relaxed.unbounded()

    def recover(self, eta: Float[Tensor, "N d"]) -> tuple[Multipliers, bool]:
        return self.relaxed.recover(eta)

    def nearly_optimal(self) -> Float[Tensor, "N d"]:
        return self.relaxed.nearly_optimal()

    def decide(self, eta: Float[Tensor, "N d"], multipliers: Multipliers) -> Int[Tensor, " N"]:
        """The verdict that η and the multipliers prove: codes of FEASIBLE, INFEASIBLE or UNDECIDED.

        What η gains by being outside its sets is charged against it.
        """
        wide = eta.to(torch.float64)
        bound, primal, g = self.bound(multipliers, wide), self.primal(wide), self.g
        moved = (g * wide).abs().sum(-1)
        slack = rounding_slack(g.shape[1] ** 2) * (self.L.abs() + moved)
        stolen = self.outside(wide)
        stolen = torch.where(stolen == 0, 0.0, stolen * (moved + self.size(wide) * g.abs().sum(-1)))
        feasible, infeasible = primal + slack + stolen < 0, (bound.value - bound.error >= 0) & bound.value.isfinite()
        verdict = torch.full_like(primal, Status.UNDECIDED.code, dtype=torch.int8)
        verdict[feasible] = Status.FEASIBLE.code
        verdict[infeasible] = Status.INFEASIBLE.code
        near = torch.isfinite(primal) & ~feasible & ~infeasible & ((bound.value + bound.error >= 0) | (primal < slack))
        for i in near.nonzero().flatten().tolist() if self._rational() else []:
            if _exact_linear(self.L[i], g[i], wide[i]) < 0 and self._exactly_inside(i, wide):
                verdict[i] = Status.FEASIBLE.code
            elif self._exactly_infeasible(i, multipliers):
                verdict[i] = Status.INFEASIBLE.code
        return verdict

    def _rational(self) -> bool:
        return all(
            isinstance(item, Box) or (isinstance(item, Ball) and item.norm.p in (1, 2, math.inf)) for item in self.sets
        )

    def _exactly_inside(self, i: int, eta: Float[Tensor, "N d"]) -> bool:
        """η ∈ C_j for all j, in Q."""
        point = [Fraction(x) for x in eta[i].tolist()]
        for item in self.sets:
            if isinstance(item, Ball):
                r = Fraction(float(item.radii(self.g)[i]))
                powers = {
                    1: (sum(map(abs, point)), r),
                    2: (sum(x * x for x in point), r * r),
                    math.inf: (max(map(abs, point)), r),
                }
                length, limit = powers[item.norm.p]
                if length > limit:
                    return False
            elif isinstance(item, Box):
                low, high = (b[i].tolist() for b in item.bounds(self.g))
                if any(not lo <= x <= hi for x, lo, hi in zip(point, low, high, strict=True)):
                    return False
        return True

    def _exactly_infeasible(self, i: int, multipliers: Multipliers) -> bool:
        """L − Σ_j σ_j(v_j) ≥ 0 in Q, the first ball taking the residual exactly; ‖v‖_2 is compared by its square."""
        target = [-Fraction(x) for x in self.g[i].tolist()]
        v = [[Fraction(x) for x in part[i].tolist()] for part in multipliers]
        first = next((j for j, item in enumerate(self.sets) if isinstance(item, Ball)), 0)
        v[first] = [t - sum(other[k] for j, other in enumerate(v) if j != first) for k, t in enumerate(target)]
        left = Fraction(float(self.L[i]))
        roots = []
        for item, part in zip(self.sets, v, strict=True):
            if isinstance(item, Ball):
                r = Fraction(float(item.radii(self.g)[i]))
                if item.norm.p == 2:
                    roots.append(r * r * sum(x * x for x in part))
                else:
                    left -= r * (max(map(abs, part)) if item.norm.p == 1 else sum(map(abs, part)))
            elif isinstance(item, Box):
                low, high = (b[i].tolist() for b in item.bounds(self.g))
                for x, lo, hi in zip(part, low, high, strict=True):
                    edge = hi if x > 0 else lo
                    if x and math.isinf(edge):
                        return False
                    left -= x * Fraction(edge) if x else 0
        return left >= 0 and len(roots) <= 1 and all(left * left >= root for root in roots)


def _exact_linear(value: Tensor, gradient: Tensor, eta: Tensor) -> Fraction:
    """L + gᵀη in Q: every float is a rational number."""
    terms = zip(gradient.tolist(), eta.tolist(), strict=True)
    return Fraction(float(value)) + sum(Fraction(a) * Fraction(b) for a, b in terms)
