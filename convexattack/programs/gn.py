"""(GN): is there a perturbation inside the sets that the linear model calls adversarial? (Section II, Proposition 1)"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.programs.base import Program
from convexattack.programs.gnii import GNII
from convexattack.sets import ConvexSet
from convexattack.solution import Multipliers, Status

__all__ = ["GN"]


@dataclass(frozen=True, eq=False)
class GN(Program):
    """find η  subject to  L + gᵀη < 0,  η ∈ C_1 ∩ … ∩ C_k.

    Decided from (GNII), which has the same sets: a point with L + gᵀη < 0 proves FEASIBLE; multipliers whose (GNII) bound is ≥ 0
    prove INFEASIBLE (Farkas). The inequality is strict, so equality in (5), ε‖g‖_q = L, is infeasible as well: the case that
    Proposition 1 leaves out. Both verdicts allow for rounding; what is nearer to the edge than that is UNDECIDED in float64.
    Arguments, multipliers, scale and errors as in `GNII`.
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
        """The verdict that η and the multipliers prove in float64: codes of FEASIBLE, INFEASIBLE or UNDECIDED."""
        wide = eta.to(torch.float64)
        yes = (self.primal(wide) + self.primal_error(wide) < 0) & (self.violation(wide) == 0)
        no = self.bound(multipliers).sure >= 0
        verdict = torch.full(yes.shape, Status.UNDECIDED.code, dtype=torch.int8, device=yes.device)
        verdict = torch.where(yes, Status.FEASIBLE.code, verdict)
        return torch.where(no, Status.INFEASIBLE.code, verdict).to(torch.int8)

    def problem(self, i: int = 0) -> cp.Problem:
        """maximize s subject to L + gᵀη + s ≤ 0, η ∈ C_j: feasible if and only if the optimal s is positive."""
        value, gradient = self.row(i)
        eta, s = cp.Variable(len(gradient), name="eta"), cp.Variable(name="s")
        return cp.Problem(cp.Maximize(s), [value + gradient @ eta + s <= 0, *self.constraints(eta, i)])
