"""What a certificate says of N claims, and how much it forgives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.solution import Status

__all__ = ["Certificate", "Tolerance"]

_DEFAULT = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}
_CLOSED_FORM = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Tolerance:
    """How much a certificate forgives, relative to the scale of each program.

    Args:
        relative: bounds |gap|, violation and residual alike; None takes 1e-6 for float64, 1e-5 for float32, 1e-2 for float16 and 1e-1 for
            bfloat16, by the dtype in which η was returned.
    """

    relative: float | None = None

    def __post_init__(self) -> None:
        if self.relative is not None and not self.relative >= 0:
            raise ValueError(
                f"relative must be a number >= 0, got {self.relative}; Tolerance() picks one from the dtype"
            )

    @staticmethod
    def closed_form(dtype: torch.dtype = torch.float64) -> Tolerance:
        """The tight one, which kernels must meet: 1e-12 for float64, 1e-6 for float32, 1e-3 for float16, 2e-2 for bfloat16."""
        return Tolerance(_CLOSED_FORM[dtype])

    def at(self, dtype: torch.dtype) -> float:
        """The number that applies to vectors of this dtype."""
        return _DEFAULT.get(dtype, 1e-6) if self.relative is None else self.relative


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was proved of N claims. All tensors have shape (N,), float64.

    Attributes:
        primal: the objective at the claimed η (an upper bound on the optimum if η is feasible; for (9), which maximizes, a lower one).
        dual: the bound on the optimum from the other side that the multipliers prove, of any quality. For (9) `primal` ≤ `dual` bracket
            the norm itself, not its square.
        gap: (primal − dual) / scale; optimal if 0 to within the tolerance. Below −tolerance it is refused too. For (9) the
            gap of the relaxation, (dual − value of W) / dual: how far `dual` is from the best bound of its kind; 0 where that is a formula.
        violation: how far η is outside its sets, relative; 0 inside.
        residual: how far the claimed multipliers miss their own condition, relative. For (9) how wide the bracket is,
            (dual − primal) / dual.
        claimed, proved: codes of `Status`: the claim, and what the vectors prove (UNDECIDED where they prove nothing).
        dtype: of the claimed η.
        tight: False where η came without multipliers and its sets allow no recovery of tight ones.
        rigorous: False where a bound leans on a numerical solver (`CustomSet`).
        decides: whether the program is (GN), which alone may be left UNDECIDED.
        brackets: whether the program is (9), which alone may be left BRACKETED.
    """

    primal: Float[Tensor, " N"]
    dual: Float[Tensor, " N"]
    gap: Float[Tensor, " N"]
    violation: Float[Tensor, " N"]
    residual: Float[Tensor, " N"]
    claimed: Int[Tensor, " N"]
    proved: Int[Tensor, " N"]
    dtype: torch.dtype
    tight: bool = True
    rigorous: bool = True
    decides: bool = False
    brackets: bool = False

    def holds(self, tolerance: Tolerance | None = None) -> Bool[Tensor, " N"]:
        """Which claims are proved.

        OPTIMAL needs violation, residual and |gap| within tolerance. FEASIBLE needs a violation within tolerance and, for certain,
        L + gᵀη < 0.
        BRACKETED, (9), needs a violation and a gap within tolerance and primal ≤ dual, however wide the bracket is.
        INFEASIBLE needs multipliers that exclude every η. UNDECIDED holds where that is all one can say: a tight bracket around zero.
        INEXACT, INVALID and FAILED claim nothing, so nothing holds. A NaN fails everything.
        """
        limit = (tolerance or Tolerance()).at(self.dtype)
        inside, tight = self.violation <= limit, self.gap.abs() <= limit
        agrees = self.claimed == self.proved
        return (
            (self._claims(Status.OPTIMAL) & inside & tight & (self.residual.abs() <= limit))
            | (self._claims(Status.BRACKETED) & inside & tight & (self.residual >= -limit) & self.brackets)
            | (self._claims(Status.FEASIBLE) & inside & agrees)
            | (self._claims(Status.INFEASIBLE) & agrees & (self.residual <= limit))
            | (self._claims(Status.UNBOUNDED) & agrees)
            | (self._claims(Status.UNDECIDED) & agrees & inside & tight & self.decides)
        )

    def _claims(self, status: Status) -> Bool[Tensor, " N"]:
        return self.claimed == status.code

    def __repr__(self) -> str:
        held = int(self.holds().sum())
        there = self.gap[~self.primal.isnan()].abs().nan_to_num(torch.inf)  # items that claim an η
        worst = there.max().item() if len(there) else 0.0
        extra = ("" if self.tight else ", tight=False") + ("" if self.rigorous else ", rigorous=False")
        return f"Certificate({held} of {len(self.gap)} hold, worst |gap| {worst:.1e}{extra})"
