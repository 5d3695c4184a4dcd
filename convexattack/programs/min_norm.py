"""(8): the smallest perturbation that the linear model calls adversarial (Section II)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cvxpy as cp
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp, rounding_slack
from convexattack.programs.base import Bound, Multipliers, Program, ratio
from convexattack.programs.duality import BallAndBox, split, supports
from convexattack.sets import Box, ConvexSet

__all__ = ["MinNorm"]


@dataclass(frozen=True, eq=False)
class MinNorm(Program):
    """minimize ‖η‖_p  subject to  L + gᵀη ≤ 0,  η ∈ C_1 ∩ … ∩ C_k;  in the paper without sets.

    Args:
        value: L, shape (N,). Where L ≤ 0 the answer is the point of the sets nearest to 0 (0 itself, mostly), if that satisfies
            the inequality.
        gradient: g = ∇L, shape (N, d).
        norm: an `Lp`; the optimum is in the units of the input.
        sets: further convex sets.

    Dual: for λ ≥ 0 and any v_j let u = −λg − Σ_j v_j. After division of (λ, v) by max(1, ‖u‖_q),
    ‖η‖_p ≥ uᵀη ≥ λL − Σ_j σ_{C_j}(v_j). Without sets, λ = 1/‖g‖_q and the bound is L/‖g‖_q.
    Multipliers: (λ, v_1, …, v_k), λ of shape (N,); ‖u‖_q ≤ 1 is their condition. A claim of infeasibility has u = 0 and
    λL − Σ_j σ_{C_j}(v_j) > 0. Gaps are relative to ‖η‖_p, or |L|/‖g‖_q where that is more.

    Raises:
        ValueError, TypeError: as `GNII`, and for a norm that is no `Lp`.
    """

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N d"]
    norm: Lp
    sets: tuple[ConvexSet, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.norm, Lp):
            raise TypeError(f"norm must be a ca.Lp, got {self.norm!r}; write ca.MinNorm(value, gradient, ca.Lp(2))")
        super().__post_init__()

    def problem(self, i: int = 0) -> cp.Problem:
        """minimize ‖η‖_p subject to L + gᵀη ≤ 0, η ∈ C_j for all j (‖η‖_p ≤ t, minimize t, where p needs power cones)."""
        value, gradient = self.row(i)
        eta = cp.Variable(len(gradient), name="eta")
        rows = [value + gradient @ eta <= 0, *self.constraints(eta, i)]
        if self.norm.p in (1, 2, math.inf):
            return cp.Problem(cp.Minimize(cp.norm(eta, "inf" if self.norm.p == math.inf else int(self.norm.p))), rows)
        t = cp.Variable(name="t")
        return cp.Problem(cp.Minimize(t), [*rows, *self.norm.epigraph(eta, t)])

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """‖η‖_p."""
        return self.norm(eta.to(torch.float64))

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Of the sets, and of L + gᵀη ≤ 0 relative to |L| + ‖η‖_p‖g‖_q."""
        excess = self.linear(eta).clamp_min(0)
        return torch.maximum(self.outside(eta), ratio(excess, self.L.abs() + self.primal(eta) * self.norm.dual(self.g)))

    def scale(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        steep = self.norm.dual(self.g)
        return torch.maximum(self.primal(eta), torch.where(steep > 0, self.L.abs() / steep, 0.0))

    def _numerator(self, multipliers: Multipliers, within: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """λL − Σσ_j(v_j), its error, u, and the size of what u was summed from."""
        g, L = self.g, self.L
        lam, *v = (part.to(torch.float64) for part in multipliers)
        lam = torch.where(lam < 0, 0.0, lam)
        cost, error = supports(self.sets, v, within)
        parts = [lam[:, None] * g, *v]
        u = -torch.stack(parts).sum(0)
        return (
            lam * L - cost,
            error + rounding_slack(1) * ((lam * L).abs() + cost.abs()),
            u,
            torch.stack(parts).abs().sum(0),
        )

    def bound(self, multipliers: Multipliers, eta: Float[Tensor, "N d"]) -> Bound:
        above, error, u, summed = self._numerator(multipliers, self.primal(eta))
        length = self.norm.dual(u)
        missed = (length - 1).clamp_min(0)
        unit = length.clamp_min(1)
        slip = above.abs() * rounding_slack(1) * self.norm.dual(summed) / (unit * unit)
        return Bound(above / unit, error / unit + slip, missed)

    def refuted(self, multipliers: Multipliers) -> Bool[Tensor, " N"]:
        above, error, u, summed = self._numerator(multipliers, self.reach())
        far = [item.magnitude(u.abs() + rounding_slack(1) * summed) for item in self.sets]
        left = torch.stack(far).amin(0) if far else torch.where((u == 0).all(-1), 0.0, torch.inf)
        margin = above - error - torch.where((u == 0).all(-1), 0.0, left)
        finite = (
            torch.stack([part.isfinite().reshape(len(u), -1).all(-1) for part in multipliers]).all(0)
            if len(u)
            else u[:, 0] == 0
        )
        return ((margin > 0) & margin.isfinite() & finite) | self.empty()

    @property
    def multiplier_shapes(self) -> list[tuple[int, ...]]:
        return [(len(self),), *super().multiplier_shapes]

    def unbounded(self) -> Bool[Tensor, " N"]:
        """Never: a norm is at least 0."""
        return torch.zeros_like(self.L, dtype=torch.bool)

    def recover(self, eta: Float[Tensor, "N d"]) -> tuple[Multipliers, bool]:
        """Complementary slackness: λ = 1/‖g‖_q without sets; with boxes the path of `split`, scaled to ‖u‖_q = 1."""
        g, L = self.g, self.L
        inverse = ratio((L > 0).to(L), self.norm.dual(g))
        free = (inverse, *(torch.zeros_like(g) for _ in self.sets))
        merged = BallAndBox.of(self.sets, g, keep_ball=False)
        if not self.sets or merged is None:
            return free, not self.sets
        box, size = Box(merged.low, merged.high), self.norm.dual(g)
        nearest = torch.zeros_like(g).clamp(merged.low, merged.high)
        unit = ratio(L.abs(), size) + self.norm(nearest)
        unit = torch.where((unit > 0) & (unit < torch.inf), unit, 1.0)
        u, _, _ = split(g, merged.low, merged.high, self.norm.p, unit, lambda a: (g.abs() * a).sum(-1) * unit >= L)
        above = L - box.support(-g - u, L)[0]
        pull = -Lp(self.norm.q).steepest(nearest)
        alone = -box.support(-pull, L)[0]  # where L + gᵀη ≤ 0 does not bind, the bound is the box's distance from 0
        length = self.norm.dual(u)
        use = torch.where(length > 0, above / length, torch.where(above > 0, torch.inf, -torch.inf)) > alone.clamp_min(
            0
        )
        lam = torch.where(use, torch.where(length > 0, 1 / length, 1.0), 0.0)
        u = torch.where(use[:, None], u * lam[:, None], torch.where((alone > 0)[:, None], pull, 0.0))
        return (lam, *merged.spread(self.sets, u, -lam[:, None] * g - u)), True

    def nearly_optimal(self) -> Float[Tensor, "N d"]:
        """The path of `split`, from the box's point nearest to 0 to where L + gᵀη ≤ 0 begins; without a box `Lp.steepest`."""
        g, L = self.g, self.L
        merged = BallAndBox.of(self.sets, g, keep_ball=False)
        if merged is None:
            return torch.full_like(g, torch.nan)
        size, slack = self.norm.dual(g), 8 * rounding_slack(g.shape[1])
        if not self.sets:
            return self.norm.steepest(g, ratio(L.clamp_min(0), size) * (1 + slack))
        nearest = torch.zeros_like(g).clamp(merged.low, merged.high)
        unit = ratio(L.abs(), size) + self.norm(nearest)
        unit = torch.where((unit > 0) & (unit < torch.inf), unit, 1.0)

        def short(a: Tensor) -> Tensor:  # how much of L is still to be reached, rounding included
            terms = g.abs() * a * unit[:, None]
            return L + slack * (L.abs() + terms.abs().sum(-1)) - terms.sum(-1)

        _, longer, shorter = split(g, merged.low, merged.high, self.norm.p, unit, lambda a: short(a) <= 0)
        left = short(-g.sign() * shorter)
        longer, shorter = longer * unit[:, None], shorter * unit[:, None]
        enough = ratio(left.clamp_min(0)[:, None], g.abs())  # by one coordinate alone
        longer = torch.minimum(torch.maximum(longer, shorter - enough), shorter + enough)
        gain = -(g * (longer - shorter)).sum(-1)
        step = torch.where(left > 0, torch.where(gain > 0, left / gain, 1.0), 0.0).clamp(0, 1)[:, None]
        point = torch.minimum(torch.maximum(shorter + step * (longer - shorter), merged.low), merged.high)
        return torch.where((short(-g.sign() * nearest / unit[:, None]) <= 0)[:, None], nearest, point)
