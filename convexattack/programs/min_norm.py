"""(8): the smallest perturbation that the linear model calls adversarial (Section II)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cvxpy as cp
import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.programs.base import Program
from convexattack.sets import ConvexSet
from convexattack.sets.base import relative
from convexattack.solution import Multipliers

__all__ = ["MinNorm"]


@dataclass(frozen=True, eq=False)
class MinNorm(Program):
    """minimize ‖η‖_p  subject to  L + gᵀη ≤ 0,  η ∈ C_1 ∩ … ∩ C_k;  in the paper without sets.

    Args:
        value: L, shape (N,). Where L ≤ 0 the answer is the point of the sets nearest to 0 (0 itself, mostly), if that
            satisfies the inequality.
        gradient: g = ∇L, shape (N, d).
        norm: an `Lp`; the optimum is in the units of the input.
        sets: further convex sets.

    Dual: for λ ≥ 0 and any u_j let u = −λg − Σ_j K_jᵀu_j. After division of (λ, u_j) by max(1, ‖u‖_q),
    ‖η‖_p ≥ uᵀη ≥ λL − Σ_j price_j(u_j). Without sets, λ = 1/‖g‖_q and the bound is L/‖g‖_q.
    Multipliers: (λ, u_1, …, u_k), λ of shape (N,). A claim of infeasibility has u = 0 and λL − Σ_j price_j(u_j) > 0. A
    gap is relative to the bound itself, and where 0 is optimal to the least reach of the sets.

    Raises:
        ValueError, TypeError: as `GNII`, and for a norm that is no `Lp`.
    """

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N d"]
    norm: Lp
    sets: tuple[ConvexSet, ...] = ()

    def __post_init__(self) -> None:
        if type(self.norm) is not Lp:
            raise TypeError(f"norm must be a ca.Lp, got {self.norm!r}; write ca.MinNorm(value, gradient, ca.Lp(2))")
        super().__post_init__()

    def weight(self, multipliers: Multipliers) -> tuple[Float[Tensor, "N 1"], Multipliers]:
        lam = multipliers[0].to(self.g)[:, None]
        return torch.where(lam < 0, 0.0, lam), multipliers[1:]

    def idle(self, multipliers: Multipliers) -> tuple[Float[Tensor, "N 1"], Multipliers]:
        """L + gᵀη ≤ 0 is a constraint, so λ takes part in a proof that nothing is feasible."""
        return self.weight(multipliers)

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """‖η‖_p."""
        return self.norm.length(eta.to(torch.float64))

    def primal_error(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.primal(eta) * self.norm.slack(eta.shape[-1])

    def violation(self, eta: Float[Tensor, "N d"], aux: Sequence[Tensor | None] = ()) -> Float[Tensor, " N"]:
        """Of the sets, and of L + gᵀη ≤ 0 in units of |L|."""
        own = relative(self.linear(eta)[:, None], self.linear_error(eta), self.L.abs()[:, None])[:, 0]
        return torch.maximum(super().violation(eta, aux), own)

    def scale(self) -> Float[Tensor, " N"]:
        """What ‖η‖ is relative to where 0 is optimal: the least reach of the sets, 0 where they have none."""
        least = self.extent.reach.amin(-1)
        return torch.where(least < torch.inf, least, 0.0)

    def problem(self, i: int = 0) -> cp.Problem:
        """minimize ‖η‖_p subject to L + gᵀη ≤ 0, η ∈ C_j for all j (t with ‖η‖_p ≤ t, where p needs power cones)."""
        value, gradient = self.row(i)
        eta = cp.Variable(len(gradient), name="eta")
        rows = [value + gradient @ eta <= 0, *self.constraints(eta, i)]
        if self.norm.p in (1, 2, math.inf):
            return cp.Problem(cp.Minimize(cp.norm(eta, "inf" if self.norm.p == math.inf else int(self.norm.p))), rows)
        t = cp.Variable(name="t")
        return cp.Problem(cp.Minimize(t), [*rows, *self.norm.text(eta, t)])
