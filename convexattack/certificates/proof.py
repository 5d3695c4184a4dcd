"""What exact arithmetic says of N claims: a verdict each, its reason, and enclosures of every number that it rests on."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from convexattack.enclosures import Enclosure, as_float
from convexattack.certificates.certificate import Certificate, Tolerance
from convexattack.solution import Status

__all__ = ["ExactCertificate", "Proof", "Verdict", "collected"]


class Verdict(enum.Enum):
    """What exact arithmetic says of one claim. The value is the sentence to show."""

    PROVED = "The claim is true, in exact arithmetic."
    REFUTED = "The claim is false, in exact arithmetic."
    UNDECIDED = "These vectors prove nothing either way, or the item claims nothing."


@dataclass(frozen=True, eq=False)
class Proof:
    """What is known exactly of one item.

    Attributes:
        verdict: of the claim, at the certificate's own tolerance.
        why: the reason, one sentence.
        claimed, proved: the claim, and what the vectors prove whatever was claimed (UNDECIDED where that is nothing).
        primal, dual, gap, violation: as in `Certificate`, enclosed. `violation` is 0 exactly where η is inside every set. `gap` of (9) is
            that of its bracket where the claim is OPTIMAL, else that of the relaxation.
        better: how much better the witness is than η, relative like the gap; None without a witness.
        witness: (d,) a feasible point that is better than η (of (GN), one with L + gᵀη < 0; for a claim of infeasibility, any), or None.
    """

    verdict: Verdict
    why: str
    claimed: Status
    proved: Status
    primal: Enclosure
    dual: Enclosure
    gap: Enclosure
    violation: Enclosure
    better: Enclosure | None = None
    witness: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class ExactCertificate(Certificate):
    """A `Certificate` whose numbers are proved: its tensors are the ends of the enclosures that are worse for the claim, as float64.

    Attributes:
        proofs: one `Proof` an item, with the enclosures as rational numbers.
        tolerance: what the gap was allowed by `verdict`, relative; membership is allowed nothing.
    """

    proofs: tuple[Proof, ...] = ()
    tolerance: float = 0.0

    @property
    def verdict(self) -> np.ndarray:
        """(N,) array of `Verdict` members."""
        found = np.empty(len(self.proofs), dtype=object)
        found[:] = [proof.verdict for proof in self.proofs]
        return found

    def holds(self, tolerance: Tolerance | None = None) -> Tensor:
        """Which claims are PROVED. A tolerance replaces the certificate's own for gaps; for being inside there is none."""
        proved = [proof.verdict is Verdict.PROVED for proof in self.proofs]
        if tolerance is not None:
            limit = tolerance.at(self.dtype)
            for i, proof in enumerate(self.proofs):
                if proof.claimed in (Status.OPTIMAL, Status.BRACKETED):
                    proved[i] = proof.violation.upper == 0 and bool(proof.gap.upper <= limit)
        return torch.tensor(proved, dtype=torch.bool, device=self.primal.device)

    def __repr__(self) -> str:
        counts = ", ".join(f"{int((self.verdict == verdict).sum())} {verdict.name}" for verdict in Verdict)
        return f"ExactCertificate({counts}; gaps within {self.tolerance:.0e} relative)"


def collected(
    proofs: Sequence[Proof], eta: Tensor, tolerance: float, tight: bool, decides: bool = False, brackets: bool = False
) -> ExactCertificate:
    """The proofs of N items as a certificate for η."""

    def column(end: Callable[[Proof], Fraction | float]) -> Tensor:
        return torch.tensor([as_float(end(proof)) for proof in proofs], dtype=torch.float64, device=eta.device)

    def codes(status: Callable[[Proof], Status]) -> Tensor:
        return torch.tensor([status(proof).code for proof in proofs], dtype=torch.int8, device=eta.device)

    primal = column(lambda proof: proof.primal.lower if brackets else proof.primal.upper)
    dual = column(lambda proof: proof.dual.upper if brackets else proof.dual.lower)
    residual = torch.where(dual == primal, 0.0, (dual - primal) / dual) if brackets else torch.zeros_like(primal)
    return ExactCertificate(
        primal, dual, column(lambda proof: proof.gap.upper), column(lambda proof: proof.violation.upper), residual,
        codes(lambda proof: proof.claimed), codes(lambda proof: proof.proved), eta.dtype, tight,
        decides=decides, brackets=brackets, proofs=tuple(proofs), tolerance=tolerance,
    )  # fmt: skip
