"""What a certificate says of N claims, and how much it forgives."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.solution import Status

__all__ = ["Certificate", "Tolerance"]

_DEFAULT = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}
_CLOSED_FORM = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 2e-2}
TIE = 1e-12  # of the scale: nearer to 0 than this, L + gᵀη may be of either sign
_MEMBERS = list(Status)
_NAN = "η, or the data of its program, holds a NaN or an infinite number."


@dataclass(frozen=True)
class Tolerance:
    """How much a certificate forgives: violations by their row's unit, gaps by how far the sets let the objective vary.

    Args:
        relative: bounds gap and violation alike; None takes 1e-6 for float64, 1e-5 for float32, 1e-2 for float16 and
            1e-1 for bfloat16, by the dtype of the program's gradient.
    """

    relative: float | None = None

    def __post_init__(self) -> None:
        if self.relative is not None and not self.relative >= 0:
            raise ValueError(
                f"relative must be a number >= 0, got {self.relative}; Tolerance() picks one from the dtype"
            )

    @staticmethod
    def closed_form(dtype: torch.dtype = torch.float64) -> Tolerance:
        """The tight one, for kernels: 1e-12, 1e-6, 1e-3 and 2e-2 for float64, float32, float16, bfloat16."""
        return Tolerance(_CLOSED_FORM[dtype])

    def at(self, dtype: torch.dtype) -> float:
        """The number that applies to programs of this dtype."""
        return _DEFAULT.get(dtype, 1e-6) if self.relative is None else self.relative


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was proved of N claims. All tensors have shape (N,), float64.

    Attributes:
        primal: the objective at the judged η, plus its own rounding error: an upper bound on the optimum wherever η is
            feasible. The judged η is the claimed one, or, where that is outside by less than a tolerance, a point
            inside nearby. For (9), which maximizes, it is a lower bound, minus its error.
        dual: the bound on the optimum from the other side that the multipliers prove, its own rounding error charged.
            For (9) `primal` ≤ `dual` bracket the norm itself, not its square.
        gap: how far the objective at the judged η is above the bound, relative to `scale`; optimal if 0 to within the
            tolerance, ∞ where no point inside was found. For (9) the gap of the relaxation, (dual − value of W) / dual.
        violation: how far the claimed η is outside, each row in its own unit; 0 inside.
        scale: what the gap is relative to; ∞ where the sets do not say how far the objective can vary.
        residual: for (9) how wide the bracket is, (dual − primal) / dual; 0 elsewhere.
        claimed, proved: codes of `Status`: the claim, and what the vectors prove (UNDECIDED where they prove nothing,
            or contradict each other).
        dtype: of the program's gradient, from which tolerances follow.
        rigorous: False where a bound leans on an estimate.
        decides: whether the program is (GN), which alone may be left UNDECIDED.
        brackets: whether the program is (9), which alone may be left BRACKETED.
    """

    primal: Float[Tensor, " N"]
    dual: Float[Tensor, " N"]
    gap: Float[Tensor, " N"]
    violation: Float[Tensor, " N"]
    scale: Float[Tensor, " N"]
    residual: Float[Tensor, " N"]
    claimed: Int[Tensor, " N"]
    proved: Int[Tensor, " N"]
    dtype: torch.dtype
    rigorous: bool = True
    decides: bool = False
    brackets: bool = False

    @staticmethod
    def cat(parts: Sequence[Certificate]) -> Certificate:
        """The certificate of the items of all parts, in order."""
        tensors = {
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(parts[0])
            if isinstance(getattr(parts[0], field.name), Tensor)
        }
        return dataclasses.replace(parts[0], **tensors)  # type: ignore[arg-type]

    def holds(self, tolerance: Tolerance | None = None) -> Bool[Tensor, " N"]:
        """Which claims are proved.

        OPTIMAL needs violation and gap within tolerance, and nothing that contradicts it. FEASIBLE needs a violation
        within tolerance and, for certain, L + gᵀη < 0 at a point inside. BRACKETED, (9), needs a violation and a gap
        within tolerance and primal ≤ dual, however wide the bracket is. INFEASIBLE needs multipliers that exclude every
        η, UNBOUNDED a point inside and a ray. UNDECIDED, (GN),
        holds where that is all one can say: a tight bracket around zero. INEXACT, INVALID and FAILED claim nothing, so
            nothing holds. A NaN fails everything.
        """
        limit = (tolerance or Tolerance()).at(self.dtype)
        inside, tight = self.violation <= limit, self.gap <= limit
        agrees = self.claimed == self.proved
        open_ = (self.proved != Status.INFEASIBLE.code) & (self.proved != Status.UNBOUNDED.code)
        sound = self.primal >= self.dual
        around = (self.primal >= -TIE * self.scale) & (self.dual < 0)
        return (
            (
                self._claims(Status.OPTIMAL)
                & inside
                & tight
                & open_
                & (self.residual.abs() <= limit)
                & (sound | self.brackets)
            )
            | (self._claims(Status.BRACKETED) & inside & tight & (self.residual >= 0) & self.brackets)
            | (self._claims(Status.FEASIBLE) & inside & agrees)
            | (self._claims(Status.INFEASIBLE) & agrees)
            | (self._claims(Status.UNBOUNDED) & agrees)
            | (self._claims(Status.UNDECIDED) & agrees & inside & tight & self.decides & around)
        )

    @property
    def why(self) -> np.ndarray:
        """(N,) sentences: why each claim holds, or does not, at the default tolerance."""
        names = ("claimed", "proved", "primal", "dual", "gap", "violation", "scale", "residual")
        items = zip(self.holds().tolist(), *(getattr(self, name).tolist() for name in names), strict=True)
        limit = Tolerance().at(self.dtype)
        return np.array([_sentence(_Item(*item), limit, self.brackets) for item in items], dtype=object)

    def _claims(self, status: Status) -> Bool[Tensor, " N"]:
        return self.claimed == status.code

    def __repr__(self) -> str:
        held = int(self.holds().sum())
        there = self.gap[~self.primal.isnan()].abs().nan_to_num(torch.inf)  # items that claim an η
        worst = there.max().item() if len(there) else 0.0
        extra = "" if self.rigorous else ", rigorous=False"
        return f"Certificate({held} of {len(self.gap)} hold, worst |gap| {worst:.1e}{extra})"


class _Item(NamedTuple):
    """The numbers of one item."""

    held: bool
    claimed: int
    proved: int
    primal: float
    dual: float
    gap: float
    violation: float
    scale: float
    width: float


def _sentence(item: _Item, limit: float, brackets: bool) -> str:
    """Why a claim holds, or does not."""
    claim, found = _MEMBERS[item.claimed], _MEMBERS[item.proved]
    if item.held:
        numbers = f": violation {item.violation:.1e}, gap {item.gap:.1e}" if item.primal == item.primal else ""
        return f"{claim.name} holds{numbers}."
    if claim in (Status.INEXACT, Status.INVALID, Status.FAILED):
        return f"{claim.name} claims nothing that could be proved."
    if brackets:
        return _of_bracket(claim, item.gap, item.violation, item.width, limit)
    if found in (Status.INFEASIBLE, Status.UNBOUNDED, Status.FEASIBLE) and found is not claim:
        return f"{claim.name} is contradicted: the vectors prove {found.name}."
    if claim in (Status.INFEASIBLE, Status.UNBOUNDED):
        return f"The vectors do not prove {claim.name}, or a point inside contradicts it."
    if item.violation != item.violation or item.primal != item.primal:
        return _NAN
    if item.violation > limit:
        return f"η is outside by {item.violation:.1e} of the violated row's own unit."
    if claim is Status.FEASIBLE:
        return f"L + gᵀη is not below 0 for certain at a point inside: it is at most {item.primal:.3g}."
    if item.scale == math.inf:
        return "No set says how far the objective can vary, so that no gap can be called small: add a Ball or a Box."
    if item.gap == math.inf and item.dual > -math.inf:
        return "No point of the sets was found near η: hand one over that is well inside (`Solution.inside`)."
    return f"The multipliers prove {item.dual:.6g} where η has {item.primal:.6g}: a gap of {item.gap:.1e}."


def _of_bracket(claim: Status, gap: float, violation: float, width: float, limit: float) -> str:
    """Why a claim about (9) does not hold."""
    if violation != violation:
        return _NAN
    if violation > limit:
        return f"η is outside its ball by {violation:.1e} of the radius."
    if claim not in (Status.OPTIMAL, Status.BRACKETED):
        return f"{claim.name} is claimed, but (9) has an η and a bracket alone: OPTIMAL or BRACKETED."
    if not gap <= limit:
        return f"The multipliers leave a gap of {gap:.1e} in the relaxation: the upper bound can be lowered."
    if width < 0:
        return f"The value of η is above the upper bound by {-width:.1e} of it."
    return f"OPTIMAL is claimed, but the optimum is bracketed to {width:.1e} alone."
