"""Many scores at once: as many halfspaces as can be met, by the sum of what is missed (Section III, segmentation).

The paper turns one class into another by one loss. A segmentation has a target class for every pixel, hence one linear inequality
c_i + a_iᵀη ≤ 0 a pixel. Whether one η meets all of them is a convex question, but the most that one η can meet is NP-hard to find. The sum
of hinges is convex, 0 exactly where all can be met, and any u in [0, 1]^P bounds it, since max(0, t) ≥ u·t:

    Σ_i max(0, c_i + a_iᵀη) ≥ uᵀc + (Aᵀu)ᵀη ≥ min {uᵀc + (Aᵀu)ᵀη : η in the sets},

a (GNII) with L = uᵀc and g = Aᵀu: uᵀc − ε‖Aᵀu‖_q for a ball. Where that is above 0, u is a Farkas certificate: no η meets all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import rounding_slack
from convexattack.programs.base import Bound, Multipliers
from convexattack.programs.gnii import GNII
from convexattack.sets import Ball, Box, ConvexSet

__all__ = ["HingeSum"]

UNIT = 2.0**-53


@dataclass(frozen=True, eq=False)
class HingeSum:
    """minimize Σ_i max(0, c_i + a_iᵀη)  subject to  η ∈ C_1 ∩ … ∩ C_k, N of them: P demands c_i + a_iᵀη ≤ 0, all at once.

    With `lin = ca.linearize(model, x, loss=ca.pixel_margins(target))` the program `ca.HingeSum(lin.value, lin.gradient, sets)` asks for the
    target class at every pixel of each image; adding a constant to the value asks for that much of a lead.

    Args:
        value: c, shape (N, P), in the units of the scores.
        gradient: A, shape (N, P, d), its rows a_i. Its dtype and device are those of the solution.
        sets: convex sets, e.g. `(ca.Ball(ca.Lp(math.inf), 0.1), ca.PixelRange(0.0, 1.0).at(x))`.

    Multipliers: (u, v_1, …, v_k), u (N, P) and v_j (N, d) those of the (GNII) with L = uᵀc, g = Aᵀu. Any u is clipped to [0, 1] and any v
    made to sum to −g, so that the bound holds whatever they are. Gaps are relative to Σ_i |c_i| + ε‖a_i‖_q (a box bounds |a_iᵀη|
    where there is no ball).

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

    def __post_init__(self) -> None:
        for name in ("value", "gradient"):
            entry = getattr(self, name)
            if isinstance(entry, np.ndarray):
                entry = torch.from_numpy(entry)
            if not isinstance(entry, Tensor):
                raise TypeError(
                    f"{name} must be a torch tensor or a NumPy array, got {type(entry).__name__}; write torch.tensor({name})"
                )
            if not entry.is_floating_point():
                raise TypeError(f"{name} must hold floating-point numbers, got {entry.dtype}; write {name}.float()")
            object.__setattr__(self, name, entry.detach())
        if self.gradient.ndim != 3 or 0 in self.gradient.shape[1:]:
            raise ValueError(
                f"gradient must have shape (N, P, d), P, d >= 1, got {tuple(self.gradient.shape)}; take that of ca.linearize"
            )
        if self.value.shape != self.gradient.shape[:2]:
            raise ValueError(
                f"value must have shape (N, P) = {tuple(self.gradient.shape[:2])}, like the rows of gradient, "
                f"got {tuple(self.value.shape)}; take both from ca.linearize"
            )
        object.__setattr__(self, "value", self.value.to(self.gradient.device))
        object.__setattr__(self, "sets", GNII(self.value[:, 0], self.gradient[:, 0], self.sets).sets)

    def __len__(self) -> int:
        return len(self.gradient)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, P, d)."""
        n, rows, d = self.gradient.shape
        return n, rows, d

    @property
    def rigorous(self) -> bool:
        """Whether no bound leans on a numerical solver."""
        return all(item.rigorous for item in self.sets)

    @property
    def c(self) -> Float[Tensor, "N P"]:
        """value in float64."""
        return self.value.to(torch.float64)

    @property
    def A(self) -> Float[Tensor, "N P d"]:
        """gradient in float64."""
        return self.gradient.to(torch.float64)

    def linear(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N P"]:
        """c + Aη, float64, eq. (1) row by row: a demand is met where it is ≤ 0."""
        return self.c + (self.A @ eta.to(torch.float64)[..., None]).squeeze(-1)

    def lost(self, eta: Float[Tensor, "N d"]) -> Int[Tensor, " N"]:
        """How many demands η misses: c_i + a_iᵀη > 0 (NaN is missed)."""
        return (~(self.linear(eta) <= 0)).sum(-1)

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Σ_i max(0, c_i + a_iᵀη), float64."""
        return self.linear(eta).clamp_min(0).sum(-1)

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """How far η is outside the sets, relative, as for (GNII); 0 inside, NaN for NaN."""
        return self.weighted(torch.zeros_like(self.c)).outside(eta)

    def weighted(self, u: Float[Tensor, "N P"]) -> GNII:
        """The (GNII) with L = uᵀc and g = Aᵀu: for u in [0, 1]^P its optimal value is a lower bound."""
        weight = u.to(self.c)
        return GNII((weight * self.c).sum(-1), (weight[:, None] @ self.A).squeeze(1), self.sets)

    def clipped(self, u: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
        """u in [0, 1]^P, float64, 0 for NaN."""
        return u.to(self.c).nan_to_num(0.0).clamp(0, 1)

    def check(self, multipliers: Multipliers) -> None:
        """Raise ValueError unless the multipliers have the shapes (N, P) and, one for each set, (N, d)."""
        n, rows, d = self.shape
        expected, found = [(n, rows)] + [(n, d)] * len(self.sets), [tuple(part.shape) for part in multipliers]
        if found != expected:
            raise ValueError(f"multipliers must be u and one v for each set, of shapes {expected}, got {found}")

    def bound(self, multipliers: Multipliers, eta: Float[Tensor, "N d"]) -> Bound:
        """A lower bound on the optimum from any multipliers; `residual` says how far u was outside [0, 1]^P, or v from −Aᵀu."""
        u = self.clipped(multipliers[0])
        found = self.weighted(u).bound(multipliers[1:], eta)
        terms = self.c.abs() + torch.where(u > 0, self._reach(), 0.0)
        rounding = (self.shape[1] + 2) * UNIT * (u * terms).sum(-1)
        missed = (multipliers[0].to(u) - u).abs().amax(-1)
        return Bound(found.value, found.error + rounding, torch.maximum(found.residual, missed))

    def recover(self, eta: Float[Tensor, "N d"]) -> tuple[Multipliers, bool]:
        """Multipliers for a bare η: u_i = 1 where a demand is missed, 0 where it is met. Tight where no demand is just met."""
        u = (self.linear(eta) > 0).to(torch.float64)
        return (u, *self.weighted(u).recover(eta.to(torch.float64))[0]), False

    def scale(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """What a gap is relative to."""
        reach = self._reach()
        reach = torch.where(reach < torch.inf, reach, (self.A * eta.to(torch.float64)[:, None]).abs().sum(-1))
        return (self.c.abs() + reach).sum(-1)

    def counted(self) -> HingeSum:
        """The linear relaxation of the NP-hard count: every demand divided by the most it can be missed by.

        With H_i ≥ c_i + a_iᵀη for all η in the sets (c_i + ε‖a_i‖_q, or less where a box gives it), max(0, c_i + a_iᵀη)/H_i is at most 1
        where the demand is missed and 0 where it is met. So the optimum is a lower bound on how many demands *any* η misses; see
        `least_lost`. A demand that no η meets counts 1 in full, one that every η meets counts 0.

        Raises:
            ValueError: no set bounds the rows: there is neither a ball nor a box.
        """
        reach = self._reach()
        if bool((reach == torch.inf).any()):
            raise ValueError(
                "sets must hold a Ball or a finite Box, which bounds how far a demand can be missed; add one"
            )
        most, least = self._ends()
        never, always = least > 0, most <= 0
        plain = ~never & ~always
        most = torch.where(plain, most, 1.0)
        value = torch.where(plain, self.c / most, never.to(self.c))
        return HingeSum(value, torch.where(plain[..., None], self.A / most[..., None], 0.0), self.sets)

    def least_lost(self, multipliers: Multipliers) -> Int[Tensor, " N"]:
        """How many demands any η in the sets misses at least, from the multipliers of `counted()`, of any quality.

        Of the P demands at most P − least_lost can be met. 0 where the multipliers prove nothing. Rounding is charged against the count.
        """
        relaxed = self.counted()
        relaxed.check(multipliers)
        found = relaxed.bound(multipliers, torch.zeros_like(self.A[:, 0]))
        rounding = (
            4 * (self.shape[2] + 8) * UNIT * (relaxed._reach() + relaxed.c.abs()).sum(-1)
        )  # of the divisions by H_i
        return (found.value - found.error - rounding).nan_to_num(0.0, 0.0, 0.0).ceil().clamp_min(0).to(torch.int64)

    def invalid(self) -> Bool[Tensor, " N"]:
        """Items whose data are not finite."""
        return ~(self.c.isfinite().all(-1) & self.A.isfinite().flatten(1).all(-1))

    def problem(self, i: int = 0) -> cp.Problem:
        """Item i: minimize Σ pos(c + Aη) subject to η ∈ C_j for all j."""
        n, _, d = self.shape
        if not -n <= i < n:
            raise IndexError(f"i must be in [0, {n}), got {i}")
        eta = cp.Variable(d, name="eta")
        missed = cp.pos(self.c[i].cpu().numpy() + self.A[i].cpu().numpy() @ eta)
        return cp.Problem(
            cp.Minimize(cp.sum(missed)), [row for item in self.sets for row in item.constraints(eta, i % n, n)]
        )

    def _reach(self) -> Float[Tensor, "N P"]:
        """A bound on |a_iᵀη| over the sets; ∞ where neither a ball nor a box gives one."""
        found = torch.full_like(self.c, torch.inf)
        for item in self.sets:
            if isinstance(item, Ball):
                found = torch.minimum(found, item.radii(self.c)[:, None] * item.norm.dual(self.A))
            elif isinstance(item, Box):
                low, high = item.bounds(self.A[:, 0])
                far = torch.maximum(low.abs(), high.abs())[:, None]
                found = torch.minimum(found, torch.where(self.A == 0, 0.0, self.A.abs() * far).sum(-1))
        return found * (1 + 2 * rounding_slack(self.shape[2] ** 2))

    def _ends(self) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N P"]]:
        """Bounds on c_i + a_iᵀη over the sets from above and below, rounding included; `_reach` is finite."""
        above, below = self._reach(), -self._reach()
        slack = 2 * rounding_slack(self.shape[2] ** 2)
        for item in self.sets:
            if isinstance(item, Box):
                low, high = (bound[:, None] for bound in item.bounds(self.A[:, 0]))
                up, down = (
                    torch.where(self.A == 0, 0.0, torch.where(self.A > 0, *ends) * self.A)
                    for ends in ((high, low), (low, high))
                )
                above = torch.minimum(above, up.sum(-1) + slack * up.abs().sum(-1))
                below = torch.maximum(below, down.sum(-1) - slack * down.abs().sum(-1))
        rounding = 4 * UNIT * (self.c.abs() + self._reach())
        return self.c + above + rounding, self.c + below - rounding
