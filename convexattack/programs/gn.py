"""(GN): is there a perturbation inside the sets that the linear model calls adversarial? (Section II, Proposition 1)"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import torch
from flint import arb
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.enclosures import dot, rounded, vector
from convexattack.programs.base import Program
from convexattack.programs.gnii import GNII
from convexattack.sets import ConvexSet, exact
from convexattack.solution import Multipliers, Status

__all__ = ["GN"]

CLEAR = 1e-7  # of |L| + |gᵀη|: where L + gᵀη is nearer to 0, being inside must be certain
NEAR = 1e-12  # violations that exact arithmetic may find to be none
BITS = 256  # of roots


@dataclass(frozen=True, eq=False)
class GN(Program):
    """find η  subject to  L + gᵀη < 0,  η ∈ C_1 ∩ … ∩ C_k.

    Decided from (GNII), which has the same sets: a point with L + gᵀη < 0 proves FEASIBLE; multipliers whose (GNII)
    bound is ≥ 0 prove INFEASIBLE (Farkas). The inequality is strict, so equality in (5), ε‖g‖_q = L, is infeasible as
    well: the case that Proposition 1 leaves out. Arguments, multipliers, scale and errors as in `GNII`.
    """

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N d"]
    sets: tuple[ConvexSet, ...]

    @property
    def relaxed(self) -> GNII:
        """(GNII) with the same data."""
        return GNII(self.value, self.gradient, self.sets)

    def weight(self, multipliers: Multipliers) -> tuple[Float[Tensor, "N 1"], Multipliers]:
        return torch.ones_like(self.c), multipliers

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """L + gᵀη = −s."""
        return self.linear(eta)

    def decide(self, eta: Float[Tensor, "N d"], multipliers: Multipliers) -> Int[Tensor, " N"]:
        """The verdict that η and the multipliers prove: codes of FEASIBLE, INFEASIBLE or UNDECIDED.

        Near ties are decided in exact arithmetic, where the sets have exact formulas.
        """
        wide = eta.to(torch.float64)
        primal, error = self.primal(wide), self.primal_error(wide)
        out, bound = self.violation(wide), self.bound(multipliers)
        inside = torch.ones_like(out, dtype=torch.bool)
        for item in self.sets:
            inside = inside & (item.excess(wide) + item.blur(wide) <= 0).all(-1)
        inside = inside | (primal < -CLEAR * (self.L.abs() + (self.L - primal).abs()))
        yes, no = (primal + error < 0) & (out == 0) & inside, bound.sure >= 0
        verdict = torch.where(yes, Status.FEASIBLE.code, Status.UNDECIDED.code)
        verdict = torch.where(no, Status.INFEASIBLE.code, verdict).to(torch.int8)
        near = ((primal - error < 0) & (out <= NEAR)) | (bound.value + bound.error >= 0)
        for i in (near & ~yes & ~no & wide.isfinite().all(-1) & self.valid()).nonzero().flatten().tolist():
            verdict[i] = self._exactly(i, wide[i], [part[i] for part in multipliers]).code
        return verdict

    def _exactly(self, i: int, eta: Float[Tensor, " d"], multipliers: list[Tensor]) -> Status:
        """`decide` for one item in rational numbers, and balls where p wants roots."""
        try:
            sets = exact.Family(self.sets, self.gradient.shape[1]).item(i)
        except ValueError:  # a set that has no exact formula
            return Status.UNDECIDED
        point, g, value = vector(eta), vector(self.g[i]), arb(float(self.L[i]))

        def decided() -> Status:
            if dot(g, point, value) < 0 and sets.outside(exact.Place(point))[0]:
                return Status.FEASIBLE
            if not all(bool(part.isfinite().all()) for part in multipliers):
                return Status.UNDECIDED
            u = [part.clip(vector(v.to(torch.float64))) for part, v in zip(sets.parts, multipliers, strict=True)]
            paid = sets.paid(u, sets.left([-x for x in g], u))
            return Status.INFEASIBLE if paid is not None and value >= paid else Status.UNDECIDED

        return rounded(BITS, decided)

    def problem(self, i: int = 0) -> cp.Problem:
        """maximize s subject to L + gᵀη + s ≤ 0, η ∈ C_j: feasible if and only if the optimal s is positive."""
        value, gradient = self.row(i)
        eta, s = cp.Variable(len(gradient), name="eta"), cp.Variable(name="s")
        return cp.Problem(cp.Maximize(s), [value + gradient @ eta + s <= 0, *self.constraints(eta, i)])
