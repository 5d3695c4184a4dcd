"""Certificates: what a claimed perturbation and its multipliers prove, recomputed in float64 from the program alone.

Nothing here knows a solver. Weak duality does the work: any multipliers give a lower bound, any feasible η an upper bound, and where
the two meet η is optimal, whoever found it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.programs import GN, HingeSum, OperatorNorm, Program
from convexattack.programs.base import ratio
from convexattack.solution import Solution, Status, codes

__all__ = ["Certificate", "Tolerance", "certify"]

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
            raise ValueError(f"relative must be a number >= 0, got {self.relative}; Tolerance() picks one from the dtype")

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


def certify(program: Program | OperatorNorm | HingeSum, solution: Solution | Tensor, exact: bool = False) -> Certificate:
    """Judge a claim from the program and the claimed vectors alone.

    Args:
        program: N programs.
        solution: a `Solution`, or a bare tensor η (N, d), which claims to be optimal ((GN): to settle feasibility). For a bare η
            multipliers are recovered from complementary slackness; where the sets do not allow that, the bound comes from the ball and
            `tight` is False.
        exact: must be False: this version certifies in float64 (with exact arithmetic for the near ties of (GN) alone).

    Returns:
        A `Certificate`; `.holds(Tolerance())` says which claims are proved.

    Raises:
        ValueError: η or a multiplier of the wrong shape, or exact=True.
        TypeError: η that is no floating-point tensor.

    >>> import convexattack as ca
    >>> program = ca.GNII(torch.tensor([1.0]), torch.tensor([[3.0, 4.0]]), (ca.Ball(ca.Lp(2), 0.5),))
    >>> bool(certify(program, torch.tensor([[-0.3, -0.4]])).holds())
    True
    """
    if exact:
        raise ValueError("exact must be False: this version certifies in float64; tighten Tolerance(relative=...) instead")
    bare = not isinstance(solution, Solution)
    eta = solution if isinstance(solution, Tensor) else solution.eta if isinstance(solution, Solution) else torch.as_tensor(solution)
    if not eta.is_floating_point():
        raise TypeError(f"eta must hold floating-point numbers, got {eta.dtype}; write eta.float()")
    if isinstance(program, OperatorNorm):
        return _bracket(program, solution, eta.detach().to(program.jacobian.device))
    if isinstance(program, HingeSum):
        return _hinges(program, solution, eta.detach().to(program.gradient.device))
    if eta.shape != program.gradient.shape:
        raise ValueError(f"eta must have the shape of the gradient, (N, d) = {tuple(program.gradient.shape)}, got {tuple(eta.shape)}")
    eta = eta.detach().to(program.gradient.device)
    wide = eta.to(torch.float64)
    tight = True
    if isinstance(solution, Solution):
        multipliers, claimed = solution.multipliers, solution.codes.to(eta.device)
        _check(program, multipliers)
    else:
        (multipliers, tight), claimed = program.recover(wide), codes(Status.OPTIMAL, eta)
    bound = program.bound(multipliers, wide)
    primal, violation = program.primal(wide), program.violation(wide)
    residual = torch.where(claimed == Status.INFEASIBLE.code, 0.0, bound.residual)
    proved = torch.full_like(claimed, Status.UNDECIDED.code)
    if isinstance(program, GN):
        proved = program.decide(wide, multipliers)
        claimed = proved if bare else claimed
        residual = torch.where(proved == Status.INFEASIBLE.code, bound.residual, residual)
    empty = torch.zeros_like(violation, dtype=torch.bool)
    if not bool((violation == 0).all()):  # an η inside refutes the refutation
        empty = program.refuted(multipliers)
    residual = torch.where(empty, 0.0, residual)
    proved = torch.where(empty, Status.INFEASIBLE.code, torch.where(program.unbounded(), Status.UNBOUNDED.code, proved)).to(torch.int8)
    gap = ratio(primal - bound.value, program.scale(wide))
    decides = isinstance(program, GN)
    return Certificate(primal, bound.value, gap, violation, residual, claimed, proved, eta.dtype, tight, program.rigorous, decides)


def _bracket(program: OperatorNorm, solution: Solution | Tensor, eta: Tensor) -> Certificate:
    """(9): ‖Jη‖₂ from η alone, the upper bound from y alone, the value of the relaxation from F alone."""
    n, _, d = program.shape
    if eta.shape != (n, d):
        raise ValueError(f"eta must have the shape (N, d) = {(n, d)} of the columns of the jacobian, got {tuple(eta.shape)}")
    if isinstance(solution, Solution):
        multipliers, tight, claimed = solution.multipliers, True, solution.codes.to(eta.device)
        program.check(multipliers)
    else:
        (multipliers, tight), claimed = program.recover(eta), codes(Status.OPTIMAL, eta)
    multipliers = tuple(part.to(eta.device) for part in multipliers)
    primal, violation, dual = program.primal(eta), program.violation(eta), program.bound(multipliers).value
    gap = ratio(dual - program.relaxation(multipliers), dual) if program.relaxes else 0 * dual
    width = ratio(dual - primal, dual)
    inside = (violation == 0) & dual.isfinite()
    proved = torch.where(inside, Status.BRACKETED.code, Status.UNDECIDED.code)
    proved = torch.where(inside & (width <= 0), Status.OPTIMAL.code, proved).to(torch.int8)
    return Certificate(primal, dual, gap, violation, width, claimed, proved, eta.dtype, tight, program.rigorous, brackets=True)


def _hinges(program: HingeSum, solution: Solution | Tensor, eta: Tensor) -> Certificate:
    """A sum of hinges: the value at η, and the (GNII) bound that u and v prove."""
    n, _, d = program.shape
    if eta.shape != (n, d):
        raise ValueError(f"eta must have the shape (N, d) = {(n, d)} of the rows of the gradient, got {tuple(eta.shape)}")
    wide = eta.to(torch.float64)
    if isinstance(solution, Solution):
        multipliers, tight, claimed = solution.multipliers, True, solution.codes.to(eta.device)
        program.check(multipliers)
    else:
        (multipliers, tight), claimed = program.recover(wide), codes(Status.OPTIMAL, eta)
    multipliers = tuple(part.to(eta.device) for part in multipliers)
    bound, primal = program.bound(multipliers, wide), program.primal(wide)
    empty = program.weighted(multipliers[0] * 0).refuted(multipliers[1:])
    proved = torch.where(empty, Status.INFEASIBLE.code, Status.UNDECIDED.code).to(torch.int8)
    residual = torch.where(empty, 0.0, bound.residual)
    gap = ratio(primal - bound.value, program.scale(wide))
    return Certificate(primal, bound.value, gap, program.violation(wide), residual, claimed, proved, eta.dtype, tight, program.rigorous)


def _check(program: Program, multipliers: tuple[Tensor, ...]) -> None:
    expected = program.multiplier_shapes
    found = [tuple(part.shape) for part in multipliers]
    if found != expected:
        raise ValueError(f"multipliers must have the shapes {expected} (one per set; (8) has λ first), got {found}")
