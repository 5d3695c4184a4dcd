"""What exact arithmetic says of N claims: a verdict each, its reason, and enclosures of every number it rests on."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from convexattack.certificates.certificate import Certificate, Tolerance
from convexattack.enclosures import Enclosure, as_float
from convexattack.solution import Status

__all__ = ["ExactCertificate", "Proof", "Verdict", "collected"]


class Verdict(enum.Enum):
    """What exact arithmetic says of one claim. The value is the sentence to show."""

    PROVED = "The claim is true, in exact arithmetic."
    ROUNDING = "True but for rounding: η is outside by at most d units in the last place; proved at a point inside."
    TOLERATED = "True to within the tolerance: the violation, or the gap at a point inside, is small but not 0."
    REFUTED = "The claim is false, in exact arithmetic."
    UNDECIDED = "These vectors prove nothing either way, or the item claims nothing."


TRUE = (Verdict.PROVED, Verdict.ROUNDING, Verdict.TOLERATED)


@dataclass(frozen=True, eq=False)
class Proof:
    """What is known exactly of one item.

    Attributes:
        verdict: of the claim.
        why: the reason, one sentence.
        claimed, proved: the claim, and what the vectors prove whatever was claimed (UNDECIDED where that is nothing).
        primal, dual, gap, violation, scale: as in `Certificate`, enclosed. `violation` is 0 exactly where η is inside
            every set. `gap` of (9) is that of its bracket where the claim is OPTIMAL, else that of the relaxation.
        better: how much better the witness is than η, relative like the gap; None without a witness.
        witness: (d,) a feasible point that is better than η, in floats (of (GN), one with L + gᵀη < 0; for a claim of
            infeasibility, any), or None.
    """

    verdict: Verdict
    why: str
    claimed: Status
    proved: Status
    primal: Enclosure
    dual: Enclosure
    gap: Enclosure
    violation: Enclosure
    scale: Enclosure
    better: Enclosure | None = None
    witness: Tensor | None = None

    def within(self, limit: float) -> bool:
        """Whether the claim is true to within this tolerance."""
        small = bool(self.violation.upper <= limit)
        if self.claimed is Status.FEASIBLE:
            return small and self.verdict in TRUE
        if self.claimed not in (Status.OPTIMAL, Status.BRACKETED):
            return self.verdict is Verdict.PROVED
        return small and bool(self.gap.upper <= limit) and self.proved not in (Status.INFEASIBLE, Status.UNBOUNDED)


@dataclass(frozen=True, eq=False, repr=False)
class ExactCertificate(Certificate):
    """A `Certificate` whose numbers are proved: the ends of the enclosures that are worse for the claim, as float64.

    Attributes:
        proofs: one `Proof` an item, with the enclosures as rational numbers.
    """

    proofs: tuple[Proof, ...] = ()

    @property
    def verdict(self) -> np.ndarray:
        """(N,) array of `Verdict` members."""
        found = np.empty(len(self.proofs), dtype=object)
        found[:] = [proof.verdict for proof in self.proofs]
        return found

    def holds(self, tolerance: Tolerance | None = None) -> Tensor:
        """Which claims are PROVED; with a tolerance, which are true to within it, in violation and gap."""
        limit = None if tolerance is None else tolerance.at(self.dtype)
        held = [proof.verdict is Verdict.PROVED if limit is None else proof.within(limit) for proof in self.proofs]
        brackets = self._claims(Status.BRACKETED)
        return torch.tensor(held, dtype=torch.bool, device=self.primal.device) & (~brackets | self.brackets)

    @property
    def why(self) -> np.ndarray:
        """(N,) sentences: the reason of each verdict."""
        return np.array([proof.why for proof in self.proofs], dtype=object)

    def __repr__(self) -> str:
        counts = ", ".join(f"{int((self.verdict == verdict).sum())} {verdict.name}" for verdict in Verdict)
        return f"ExactCertificate({counts})"


def collected(
    proofs: Sequence[Proof], eta: Tensor, dtype: torch.dtype, decides: bool = False, brackets: bool = False
) -> ExactCertificate:
    """The proofs of N items as a certificate for η, gradients being of this dtype."""

    def column(end: Callable[[Proof], Fraction | float]) -> Tensor:
        return torch.tensor([as_float(end(proof)) for proof in proofs], dtype=torch.float64, device=eta.device)

    def codes(status: Callable[[Proof], Status]) -> Tensor:
        return torch.tensor([status(proof).code for proof in proofs], dtype=torch.int8, device=eta.device)

    primal = column(lambda proof: proof.primal.lower if brackets else proof.primal.upper)
    dual = column(lambda proof: proof.dual.upper if brackets else proof.dual.lower)
    residual = torch.where(dual == primal, 0.0, (dual - primal) / dual) if brackets else torch.zeros_like(primal)
    return ExactCertificate(
        primal, dual, column(lambda proof: proof.gap.upper), column(lambda proof: proof.violation.upper),
        column(lambda proof: proof.scale.lower), residual, codes(lambda proof: proof.claimed),
        codes(lambda proof: proof.proved), dtype, decides=decides, brackets=brackets, proofs=tuple(proofs),
    )  # fmt: skip
