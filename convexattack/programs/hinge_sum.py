"""Many scores at once: as many halfspaces as can be met, by the sum of what is missed (Section III, segmentation).

The paper turns one class into another by one loss. A segmentation has a target class for every pixel, hence one linear
inequality c_i + a_iᵀη ≤ 0 a pixel. Whether one η meets all of them is a convex question, but the most that one η can
meet is NP-hard to find. The sum of hinges is convex, 0 exactly where all can be met, and any u in [0, 1]^P bounds it,
since max(0, t) ≥ u·t:

    Σ_i max(0, c_i + a_iᵀη) ≥ uᵀc + (Aᵀu)ᵀη ≥ min {uᵀc + (Aᵀu)ᵀη : η in the sets},

a (GNII) with L = uᵀc and g = Aᵀu: uᵀc − ε‖Aᵀu‖_q for a ball. Where that is above 0, u is a Farkas certificate: no η
meets all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.numerics import UNIT
from convexattack.programs.base import Balance, Program
from convexattack.sets import ConvexSet
from convexattack.solution import Multipliers

__all__ = ["HingeSum"]


@dataclass(frozen=True, eq=False)
class HingeSum(Program):
    """minimize Σ_i max(0, c_i + a_iᵀη)  subject to  η ∈ C_1 ∩ … ∩ C_k, P demands at once, N of them.

    With `lin = ca.linearize(model, x, loss=ca.pixel_margins(target))` the program `ca.HingeSum(lin.value, lin.gradient,
    sets)` asks for the target class at every pixel of each image; adding a constant to the value asks for that much of
    a lead.

    Args:
        value: c, shape (N, P), in the units of the scores.
        gradient: A, shape (N, P, d), its rows a_i. Its dtype and device are those of the solution.
        sets: convex sets, e.g. `(ca.Ball(ca.Lp(math.inf), 0.1), ca.PixelRange(0.0, 1.0).at(x))`.

    Multipliers: (u, u_1, …, u_k), u (N, P) in [0, 1] and u_j those of the (GNII) with L = uᵀc, g = Aᵀu. Any u is
    clipped, and what the u_j leave is charged, so that the bound holds whatever they are. A gap is relative to how far
    the sets let the demands vary, all of them together.

    Raises:
        ValueError: shapes that do not fit, or an unresolved PixelRange.
        TypeError: integer data, or a set that is none.

    >>> import convexattack as ca
    >>> c, A = torch.tensor([[1.0, 1.0]]), torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    >>> program = ca.HingeSum(c, A, (ca.Ball(ca.Lp(float("inf")), 0.5),))
    >>> program.primal(torch.tensor([[-0.5, -0.5]])), program.lost(torch.tensor([[-0.5, -0.5]]))
    (tensor([0.5000], dtype=torch.float64), tensor([1]))
    """

    value: Float[Tensor, "N P"]
    gradient: Float[Tensor, "N P d"]
    sets: tuple[ConvexSet, ...]
    pieces = True

    def _check_shapes(self, value: Tensor, gradient: Tensor) -> None:
        if gradient.ndim != 3 or 0 in gradient.shape[1:]:
            raise ValueError(
                f"gradient must have shape (N, P, d), P, d >= 1, got {tuple(gradient.shape)}; take that of ca.linearize"
            )
        if value.shape != gradient.shape[:2]:
            raise ValueError(
                f"value must have shape (N, P) = {tuple(gradient.shape[:2])}, like the rows of gradient, "
                f"got {tuple(value.shape)}; take both from ca.linearize"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, P, d)."""
        n, rows, d = self.gradient.shape
        return n, rows, d

    def weight(self, multipliers: Multipliers) -> tuple[Float[Tensor, "N P"], Multipliers]:
        return multipliers[0].to(self.c).clamp(0, 1), multipliers[1:]

    def lost(self, eta: Float[Tensor, "N d"]) -> Int[Tensor, " N"]:
        """How many demands η misses: c_i + a_iᵀη > 0 (NaN is missed)."""
        return (~(self.linear(eta) <= 0)).sum(-1)

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Σ_i max(0, c_i + a_iᵀη), float64."""
        return self.linear(eta).clamp_min(0).sum(-1)

    def primal_error(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        missed = self.linear(eta) + self.linear_error(eta) > 0
        return (self.linear_error(eta) * missed).sum(-1) + self.shape[1] * UNIT * self.primal(eta)

    def slackness(self, eta: Float[Tensor, "N d"], b: Balance) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Σ_i (max(0, t_i) − u_i t_i), t = c + Aη: (1 − u_i)t_i where a demand is missed, −u_i t_i where it is met."""
        t, u = self.linear(eta), b.w
        share = torch.where(t > 0, 1 - u, u)
        total = (share * t.abs()).sum(-1)
        return total, (share.abs() * self.linear_error(eta)).sum(-1) + (self.shape[1] + 2) * UNIT * total

    def counted(self) -> HingeSum:
        """The linear relaxation of the NP-hard count: every demand divided by the most it can be missed by.

        With H_i ≥ c_i + a_iᵀη for all η in the sets (c_i + ε‖a_i‖_q, or less where a box gives it), max(0, c_i +
        a_iᵀη)/H_i is at most 1 where the demand is missed and 0 where it is met. So the optimum is a lower bound on how
        many demands *any* η misses; see `least_lost`. A demand that no η meets counts 1 in full, one that every η meets
        counts 0.

        Raises:
            ValueError: no set bounds the rows: there is neither a ball nor a box.
        """
        most, least = self._ends()
        if bool((most == torch.inf).any() | (least == -torch.inf).any()):
            raise ValueError(
                "sets must hold a Ball or a finite Box, which bounds how far a demand can be missed; add one"
            )
        never, always = least > 0, most <= 0
        plain = ~never & ~always
        most = torch.where(plain, most, 1.0)
        value = torch.where(plain, self.c / most, never.to(self.c))
        return HingeSum(value, torch.where(plain[..., None], self.A / most[..., None], 0.0), self.sets)

    def least_lost(self, multipliers: Multipliers) -> Int[Tensor, " N"]:
        """How many demands any η in the sets misses at least, from the multipliers of `counted()`, of any quality.

        Of the P demands at most P − least_lost can be met. 0 where the multipliers prove nothing. Rounding is charged
        against the count.
        """
        relaxed = self.counted()
        found = relaxed.bound(multipliers)
        far = torch.stack(relaxed._ends()).abs().amax(0)
        rounding = 4 * (self.shape[2] + 8) * UNIT * (far + relaxed.c.abs()).sum(-1)  # of the divisions by H_i
        return (found.sure - rounding).nan_to_num(0.0, 0.0, 0.0).ceil().clamp_min(0).to(torch.int64)

    def problem(self, i: int = 0) -> cp.Problem:
        """Item i: minimize Σ pos(c + Aη) subject to η ∈ C_j for all j."""
        value, gradient = self.row(i)
        eta = cp.Variable(gradient.shape[1], name="eta")
        return cp.Problem(cp.Minimize(cp.sum(cp.pos(value + gradient @ eta))), self.constraints(eta, i))

    def _ends(self) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N P"]]:
        """Bounds on c_i + a_iᵀη over the sets from above and below, rounding included."""
        up, down = (torch.stack([self.highest(sign * row) for row in self.A.unbind(1)], 1) for sign in (1, -1))
        rounding = 4 * UNIT
        return self.c + up + rounding * (self.c.abs() + up.abs()), self.c - down - rounding * (
            self.c.abs() + down.abs()
        )
