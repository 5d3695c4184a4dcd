"""(GNII): the best perturbation under given constraints (Section II, Proposition 2)."""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.programs.base import Program
from convexattack.sets import ConvexSet
from convexattack.solution import Multipliers

__all__ = ["GNII"]


@dataclass(frozen=True, eq=False)
class GNII(Program):
    """minimize L + gᵀη  subject to  η ∈ C_1 ∩ … ∩ C_k;  in the paper one set, ‖η‖_p ≤ ε.

    Args:
        value: L, shape (N,).
        gradient: g = ∇L, shape (N, d).
        sets: convex sets, e.g. `(ca.Ball(ca.Lp(2), 0.5), ca.Box(-0.1, 0.1))`.

    Dual: for any u_j with Σ_j K_jᵀu_j = −g,  L + gᵀη ≥ L − Σ_j price_j(u_j). With the ball alone u = −g and the bound
    is L − ε‖g‖_q, as in the proof of Proposition 2. Multipliers: (u_1, …, u_k), each in the rows of its set. A claim of
    infeasibility has u_j with Σ_j K_jᵀu_j = 0 and Σ_j price_j(u_j) < 0 instead. A gap is relative to how far the sets
    let gᵀη vary: 2ε‖g‖_q, Σ_i |g_i|(hi_i − lo_i), the least that is known.

    Raises:
        ValueError: shapes that do not fit, or an unresolved PixelRange.
        TypeError: integer data, or a set that is none.
    """

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N d"]
    sets: tuple[ConvexSet, ...]

    def weight(self, multipliers: Multipliers) -> tuple[Float[Tensor, "N 1"], Multipliers]:
        return torch.ones_like(self.c), multipliers

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.linear(eta)

    def problem(self, i: int = 0) -> cp.Problem:
        """minimize L + gᵀη subject to η ∈ C_j for all j."""
        value, gradient = self.row(i)
        eta = cp.Variable(len(gradient), name="eta")
        return cp.Problem(cp.Minimize(value + gradient @ eta), self.constraints(eta, i))
