"""(GNII): the best perturbation under given constraints (Section II, Proposition 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cvxpy as cp
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp, rounding_slack
from convexattack.programs.base import Bound, Multipliers, Program, ratio
from convexattack.programs.duality import BallAndBox, absorb, split, supports
from convexattack.sets import Ball, Box, ConvexSet

__all__ = ["GNII"]


@dataclass(frozen=True, eq=False)
class GNII(Program):
    """minimize L + gᵀη  subject to  η ∈ C_1 ∩ … ∩ C_k;  in the paper one set, ‖η‖_p ≤ ε.

    Args:
        value: L, shape (N,).
        gradient: g = ∇L, shape (N, d).
        sets: convex sets, e.g. `(ca.Ball(ca.Lp(2), 0.5), ca.Box(-0.1, 0.1))`.

    Dual: for any v_j with Σ_j v_j = −g,  L + gᵀη ≥ L − Σ_j σ_{C_j}(v_j). With the ball alone v = −g and the bound is
    L − ε‖g‖_q, as in the proof of Proposition 2. Multipliers: (v_1, …, v_k), each (N, d). A claim of infeasibility has v_j with
    Σ_j v_j = 0 and Σ_j σ_{C_j}(v_j) < 0 instead. Gaps are relative to |L| + ε‖g‖_q, or to |L| + Σ_i |g_i| max(|lo_i|, |hi_i|) where a
    box allows less than the ball.

    Raises:
        ValueError: shapes that do not fit, or an unresolved PixelRange.
        TypeError: integer data.
    """

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N d"]
    sets: tuple[ConvexSet, ...]

    def problem(self, i: int = 0) -> cp.Problem:
        """minimize L + gᵀη subject to η ∈ C_j for all j."""
        value, gradient = self.row(i)
        eta = cp.Variable(len(gradient), name="eta")
        return cp.Problem(cp.Minimize(value + gradient @ eta), self.constraints(eta, i))

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.linear(eta)

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.outside(eta)

    def scale(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        reach = [item.magnitude(self.g) for item in self.sets]
        least = torch.stack(reach).amin(0) if reach else torch.full_like(self.L, torch.inf)
        return self.L.abs() + torch.where(least < torch.inf, least, (self.g * eta.to(torch.float64)).abs().sum(-1))

    def bound(self, multipliers: Multipliers, eta: Float[Tensor, "N d"]) -> Bound:
        within = self.size(eta.to(torch.float64))
        g = self.g
        v, residual, slip = absorb(self.sets, multipliers, -g)
        cost, error = supports(self.sets, v, within)
        error = error + slip + rounding_slack(1) * (self.L.abs() + cost.abs())
        if residual is None:
            missed = torch.zeros_like(cost)
        else:
            norm = next((item.norm for item in self.sets if isinstance(item, Ball)), Lp(math.inf))
            missed = ratio(norm.dual(residual), norm.dual(g))
        return Bound(self.L - cost, error, missed)

    def refuted(self, multipliers: Multipliers) -> Bool[Tensor, " N"]:
        v, _, slip = absorb(self.sets, multipliers, torch.zeros_like(self.g))
        cost, error = supports(self.sets, v, self.reach())
        least = cost + error + slip
        finite = torch.stack([part.isfinite().all(-1) for part in v] or [least.isfinite()]).all(0)
        return ((least < 0) & least.isfinite() & finite) | self.empty()

    def unbounded(self) -> Bool[Tensor, " N"]:
        merged = BallAndBox.of(self.sets, self.g, keep_ball=True)
        if merged is None or merged.ball is not None:
            return torch.zeros_like(self.L, dtype=torch.bool)
        steepest, _ = Box(merged.low, merged.high).support(-self.g, self.L)
        return (steepest == torch.inf) & (merged.low <= merged.high).all(-1)

    def recover(self, eta: Float[Tensor, "N d"]) -> tuple[Multipliers, bool]:
        """Complementary slackness for ball ∩ box: see `split`. With other sets the first set takes −g, which is valid and seldom tight."""
        g = self.g
        if len(self.sets) == 1:
            return (-g,), True
        merged = BallAndBox.of(self.sets, g, keep_ball=True)
        if merged is None:
            first = next((j for j, item in enumerate(self.sets) if isinstance(item, Ball)), 0)
            return tuple(-g if j == first else torch.zeros_like(g) for j in range(len(self.sets))), False
        if merged.ball is None:
            return merged.spread(self.sets, torch.zeros_like(g), -g), True
        ball = merged.ball
        if ball.norm.p == math.inf:  # the box takes a coordinate where it is the tighter one
            reach = torch.where(g > 0, -merged.low, merged.high)
            v = torch.where(reach >= ball.radii(g)[:, None], -g, 0.0)
        else:
            radius = torch.where(ball.radii(g) > 0, ball.radii(g), 1.0)
            v, longer, _ = split(g, merged.low, merged.high, ball.norm.p, radius, lambda a: ball.norm(a) >= 1)
            v = torch.where((ball.norm(longer) >= 1)[:, None], v, 0.0)  # a ball that is not reached takes no part
            v = torch.where((ball.radii(g) > 0)[:, None], v, -g)  # one that is a point takes all
            box = Box(merged.low, merged.high)
            costs = [ball.support(part, self.L)[0] + box.support(-g - part, self.L)[0] for part in (v, -g)]
            v = torch.where(
                (costs[0] <= costs[1])[:, None], v, -g
            )  # no finite multiplier need exist where the box touches the ball
        return merged.spread(self.sets, v, -g - v), True

    def nearly_optimal(self) -> Float[Tensor, "N d"]:
        """The path of `split`, from the box's point nearest to 0 to where it leaves the ball; a ball alone is `Lp.steepest`."""
        g = self.g
        merged = BallAndBox.of(self.sets, g, keep_ball=True)
        if merged is None:
            return torch.full_like(g, torch.nan)
        ball, low, high = merged.ball, merged.low, merged.high
        if ball is None or ball.norm.p == math.inf:
            edge = torch.full_like(g, torch.inf) if ball is None else ball.radii(g)[:, None]
            return torch.minimum(torch.maximum(-edge * g.sign(), low), high).nan_to_num(0.0, torch.inf, -torch.inf)
        if not merged.boxes:
            return ball.norm.steepest(g, ball.radii(g))
        radius = ball.radii(g)
        unit = torch.where(radius > 0, radius, 1.0)
        slack = 4 * rounding_slack(g.shape[1])
        _, longer, shorter = split(g, low, high, ball.norm.p, unit, lambda a: ball.norm(a) >= 1 - 2 * slack)
        longer = longer.clamp(-1, 1)  # no coordinate is longer than the ball
        sizes = ball.norm(longer), ball.norm(shorter)
        room = (radius / unit) * (1 - slack) - sizes[1]
        step = torch.where(sizes[0] > sizes[1], room / (sizes[0] - sizes[1]), 1.0).clamp(0, 1)[:, None]
        return torch.minimum(torch.maximum((shorter + step * (longer - shorter)) * unit[:, None], low), high)
