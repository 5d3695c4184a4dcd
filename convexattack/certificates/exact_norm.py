"""(9) without floating-point trust: ‖Jη‖₂ as it is, and bounds proved by an exact LDLᵀ of an m × m matrix of integers.

For y > 0 the bound is ε(λ_max(J Diag(1/y) Jᵀ)‖y‖_{p/(p−2)})^{1/2}. Its eigenvalue is enclosed from below by a Rayleigh
quotient and from above by a number t for which tI − J Diag(1/y) Jᵀ has positive pivots only. Any y does, so 1/y is
taken as the nearest float.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from flint import arb, arb_mat, fmpz
from torch import Tensor

from convexattack.certificates.certificate import Tolerance
from convexattack.certificates.exact import BITS, Limits, nothing
from convexattack.certificates.proof import ExactCertificate, Proof, Verdict, collected
from convexattack.enclosures import (
    Enclosure,
    Vector,
    dual_exponent,
    exactly,
    length,
    quotient,
    rounded,
    shown,
    vector,
    within,
)
from convexattack.programs import OperatorNorm
from convexattack.solution import Solution, Status

__all__ = ["prove_bracket"]

GRID = 112  # bits of the matrix whose pivots are computed; what rounding it costs is added to the bound
MARGINS = (44, 36, 28, 20, 12, 4)  # −log2 of how far above the estimate the bound on λ_max is tried


def prove_bracket(program: OperatorNorm, solution: Solution, tick: Callable[[int], object]) -> ExactCertificate:
    """Judge N claims about (9) exactly; arguments as for `prove`.

    PROVED is OPTIMAL where bound and value meet within `Tolerance()`, BRACKETED where η is inside and the relaxation
    is solved to within it.

    Raises:
        ValueError: J is not held, so that nothing about it can be proved.
    """
    if not program.explicit:
        raise ValueError(
            "exact must be False for a matrix-free OperatorNorm: build ca.OperatorNorm(ca.jacobian(model, x), ball)"
        )
    dtype, members = program.jacobian.dtype, list(Status)
    jacobian, wide = program.J.cpu(), solution.eta.to("cpu", torch.float64)
    y, factor = (part.to("cpu", torch.float64) for part in solution.multipliers)
    radii, p = program.ball.radii(wide).tolist(), program.norm.p
    limits = replace(Limits.of(dtype, wide.shape[-1]), closed=arb(Tolerance().at(dtype)))
    proofs = []
    for i, code in enumerate(solution.codes.tolist()):
        item = _Bracket(jacobian[i], p, radii[i], y[i], factor[i])
        steps = program.norm.steepest(-(jacobian[i].mT @ (jacobian[i] @ wide[i]))[None], radii[i])[0]
        proofs.append(item.judge(members[code], wide[i], steps, limits))
        tick(1)
    return collected(proofs, solution.eta, dtype, brackets=True)


class _Bracket:
    """One Jacobian with its multipliers."""

    def __init__(self, jacobian: Tensor, p: float, radius: float, y: Tensor, factor: Tensor) -> None:
        self.jacobian, self.p, self.radius, self.y, self.factor = jacobian, p, arb(radius), y, factor
        self.matrix = arb_mat(jacobian.tolist())

    def judge(self, claim: Status, eta: Tensor, further: Tensor, limits: Limits) -> Proof:
        """Raise the precision until the claim is decided."""
        if not bool(self.jacobian.isfinite().all()):
            why = "The jacobian of this item is NaN or infinite."
            return nothing(Verdict.UNDECIDED, why, claim)
        if not bool(eta.isfinite().all()):
            why = "η holds a NaN or an infinite number."
            return nothing(Verdict.REFUTED, why, claim)
        for bits in BITS:
            proof = rounded(bits, lambda: self._judge(claim, eta, further, limits))
            if proof.verdict is not Verdict.UNDECIDED:
                break
        return proof

    def _judge(self, claim: Status, eta: Tensor, further: Tensor, limits: Limits) -> Proof:
        point = vector(eta)
        dual, relaxed = self.bound(), self.relaxation()
        inside, out, share = self._inside(point)
        value = share * self.value(point)  # at η, or at the multiple of it that is inside
        width = None if dual is None else quotient(dual - value, dual)
        gap = arb(0) if relaxed is None else None if dual is None else quotient(dual - relaxed, dual)
        closed = width is not None and width <= limits.closed
        proved = Status.UNDECIDED if dual is None else Status.OPTIMAL if closed else Status.BRACKETED
        mine = width if claim is Status.OPTIMAL else gap
        primal, upper, open_by, far = (Enclosure.of(x) for x in (value, dual, mine, out))

        def say(verdict: Verdict, why: str, better: Enclosure | None = None, witness: Tensor | None = None) -> Proof:
            return Proof(verdict, why, claim, proved, primal, upper, open_by, far, upper, better, witness)

        if claim not in (Status.OPTIMAL, Status.BRACKETED):
            return say(Verdict.UNDECIDED, "It claims nothing that could be proved.")
        if inside is False and (out is None or out > limits.loose):
            return say(Verdict.REFUTED, f"η violates ‖η‖_p ≤ ε, by {shown(far)} relative.")
        if (verdict := limits.grade(out, mine, inside)) is not None:
            how = "is inside" if inside else f"is outside by {shown(far)} relative and judged inside"
            what = "no η is better" if claim is Status.OPTIMAL else "the bound is proved, and no y proves less"
            return say(verdict, f"η {how}, and {what} by more than {shown(open_by)} relative.")
        if claim is Status.OPTIMAL and bool(further.isfinite().all()) and self._inside(there := vector(further))[0]:
            better = quotient(self.value(there) - value, value)
            if better is None or better > limits.closed:
                margin = Enclosure.of(better)
                return say(
                    Verdict.REFUTED, f"The witness is inside and better by {shown(margin)} relative.", margin, further
                )
        return say(
            Verdict.UNDECIDED,
            f"The multipliers leave a gap of {shown(open_by)} relative, and no better point was found.",
        )

    def _inside(self, eta: Vector) -> tuple[bool | None, arb | None, arb]:
        """Whether ‖η‖_p ≤ ε, by how much it is not, relative to ε, and a multiple of η that surely is, as a factor."""
        if inside := within(eta, self.p, self.radius):
            return True, arb(0), arb(1)
        size = length(eta, self.p)
        return inside, quotient((size - self.radius).max(arb(0)), self.radius), (self.radius / size).lower()

    def value(self, eta: Vector) -> arb:
        """‖Jη‖₂."""
        image = exactly(lambda: self.matrix * arb_mat(len(eta), 1, eta))
        return length([image[k, 0] for k in range(self.matrix.nrows())], 2)

    def bound(self) -> arb | None:
        """The upper bound; None where the multipliers give none."""
        m, d = self.jacobian.shape
        longest = exactly(lambda: [sum((self.matrix[k, i] ** 2 for k in range(m)), arb(0)) for i in range(d)])
        top = max(longest).sqrt()
        if self.p == 1:
            return self.radius * top
        if self.p < 2:
            q = arb(dual_exponent(self.p))
            spectral = _largest(self.jacobian, torch.ones(d, dtype=torch.float64)).sqrt()
            mixed = top ** (1 - 2 / q) * spectral ** (2 / q) if top > 0 else arb(0)
            return self.radius * mixed.min(self._by_rows())
        y = torch.ones_like(self.y) if self.p == 2 else self.y
        used = [i for i in range(d) if longest[i] > 0]
        if not bool((y.isfinite() & (y >= 0)).all()) or any(
            float(y[i]) == 0 or not math.isfinite(1 / float(y[i])) for i in used
        ):
            return None
        if not used or self.radius == 0:
            return arb(0)
        inverse = torch.tensor([1 / float(y[i]) for i in used], dtype=torch.float64)
        sigma = 1.0 if self.p == math.inf else math.inf if self.p == 2 else arb(self.p) / (arb(self.p) - 2)
        size = length([1 / arb(z) for z in inverse.tolist()], sigma)
        scaled = self.jacobian[:, used]
        return self.radius * (_largest(scaled, inverse) * size).sqrt()

    def _by_rows(self) -> arb:
        """(Σ_k ‖(AJ)_k‖_q²/(1 − ‖AᵀA − I‖_F))^{1/2} with the rows' principal axes as A.

        ‖Jη‖₂ ≤ ‖A⁻¹‖‖AJη‖₂, and A is nearly orthogonal.
        """
        axes = arb_mat(torch.linalg.eigh(self.jacobian @ self.jacobian.mT)[1].mT.tolist())
        m, d = self.matrix.nrows(), self.matrix.ncols()
        turned = exactly(lambda: axes * self.matrix)
        defect = exactly(lambda: axes.transpose() * axes - arb_mat([[int(i == k) for k in range(m)] for i in range(m)]))
        lengths = [length([turned[k, i] for i in range(d)], dual_exponent(self.p)) for k in range(m)]
        least = 1 - length([x for row in defect.tolist() for x in row], 2)
        return (sum((size * size for size in lengths), arb(0)) / least).sqrt()

    def relaxation(self) -> arb | None:
        """ε‖s(W)‖_q/(tr W)^{1/2}, W = FFᵀ: no y proves less. None where the bound is a formula."""
        if self.p < 2:
            return None
        F = arb_mat(self.factor.nan_to_num(0.0, 0.0, 0.0).tolist())
        image = exactly(lambda: F.transpose() * self.matrix)
        rows, d = image.nrows(), image.ncols()
        s = [length([image[k, i] for k in range(rows)], 2) for i in range(d)]
        trace = length([x for row in F.tolist() for x in row], 2)
        found = quotient(self.radius * length(s, dual_exponent(self.p)), trace)
        return arb(0) if found is None else found


def _largest(jacobian: Tensor, inverse: Tensor) -> arb:
    """A ball with λ_max(G) in it, G = J Diag(inverse) Jᵀ."""
    m = len(jacobian)
    J, z = arb_mat(jacobian.tolist()), vector(inverse)
    scaled = exactly(lambda: arb_mat([[x * weight for x, weight in zip(row, z, strict=True)] for row in J.tolist()]))
    G = exactly(lambda: scaled * J.transpose())
    diagonal = [G[k, k] for k in range(m)]
    trace = exactly(lambda: sum(diagonal, arb(0)))
    if trace == 0:
        return arb(0)
    mantissa, exponent = trace.man_exp()
    unit = arb(2) ** (int(exponent) + int(mantissa).bit_length() - GRID)
    whole = exactly(lambda: [[_floor(G[k, i] / unit) for i in range(m)] for k in range(m)])
    values, vectors = np.linalg.eigh(np.array([[math.ldexp(int(x) >> 1, 1 - GRID) for x in row] for row in whole]))
    top = arb_mat(m, 1, vectors[:, -1].tolist())
    quadratic, squared = exactly(lambda: ((top.transpose() * G * top)[0, 0], (top.transpose() * top)[0, 0]))
    estimate = int(math.ldexp(float(values[-1]), GRID))
    for margin in MARGINS:
        bound = estimate + (estimate >> margin) + 1
        if _positive_definite([[fmpz(bound * (i == k)) - x for i, x in enumerate(row)] for k, row in enumerate(whole)]):
            return (quadratic / squared).union(unit * (bound + m))  # rounding down cost less than one unit an entry
    return (quadratic / squared).union(trace)


def _floor(x: arb) -> fmpz:
    found = x.floor().unique_fmpz()
    assert found is not None  # x is exact
    return found


def _positive_definite(matrix: list[list[fmpz]]) -> bool:
    """Whether all pivots of LDLᵀ are positive, in integers.

    After each step every entry is a minor (Bareiss), a pivot a quotient of two.
    """
    last = fmpz(1)
    for k, row in enumerate(matrix):
        pivot = row[k]
        if pivot <= 0:
            return False
        for i in range(k + 1, len(matrix)):
            below, factor = matrix[i], row[i]
            for j in range(i, len(matrix)):
                below[j] = (pivot * below[j] - factor * row[j]) // last
        last = pivot
    return True
