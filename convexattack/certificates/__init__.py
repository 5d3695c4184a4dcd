"""What a claimed perturbation and its multipliers prove, recomputed from the program alone; no solver is known here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, overload

import torch
from torch import Tensor

from convexattack.certificates.bracket import bracketed
from convexattack.certificates.certificate import Certificate, Tolerance
from convexattack.certificates.exact import prove
from convexattack.certificates.exact_norm import prove_bracket
from convexattack.certificates.judge import judged
from convexattack.certificates.proof import ExactCertificate, Proof, Verdict
from convexattack.enclosures import Enclosure
from convexattack.programs import OperatorNorm, Program
from convexattack.solution import Solution, Status

__all__ = ["Certificate", "Enclosure", "ExactCertificate", "Proof", "Tolerance", "Verdict", "check", "judge"]

AnyProgram = Program | OperatorNorm
Progress = Callable[[int], object]
Rival = Callable[[int], Tensor]


@overload
def judge(
    program: AnyProgram,
    solution: Solution,
    exact: Literal[False] = False,
    progress: Progress | None = None,
    rival: Rival | None = None,
) -> Certificate: ...


@overload
def judge(
    program: AnyProgram,
    solution: Solution,
    exact: Literal[True],
    progress: Progress | None = None,
    rival: Rival | None = None,
) -> ExactCertificate: ...


@overload
def judge(
    program: AnyProgram, solution: Solution, exact: bool, progress: Progress | None = None, rival: Rival | None = None
) -> Certificate: ...


def judge(
    program: AnyProgram,
    solution: Solution,
    exact: bool = False,
    progress: Progress | None = None,
    rival: Rival | None = None,
) -> Certificate:
    """Judge a claim from the program and the claimed vectors alone; `convexattack.certify` is its face.

    Args:
        program: N programs.
        solution: what is claimed of them.
        exact: whether to trust no floating-point number, see `certify`.
        progress: called with the number of items done since the last call.
        rival: gives a point (d,) of item i that may be better than η; exact=True asks for it where in doubt.

    Raises:
        ValueError: η, codes or a multiplier of the wrong shape; exact=True with a set or a program whose numbers are
            not rational.
        TypeError: η that is no floating-point tensor, codes that are no ints.
    """
    claim, tick = check(program, solution), progress or (lambda items: None)
    if exact:
        if isinstance(program, OperatorNorm):
            return prove_bracket(program, claim, tick)
        return prove(program, claim, tick, rival)
    tick(len(claim))
    return bracketed(program, claim) if isinstance(program, OperatorNorm) else judged(program, claim)


def check(program: AnyProgram, solution: Solution) -> Solution:
    """The claim on the device of the program; shapes, dtypes and codes that cannot be meant are refused."""
    data = program.jacobian if isinstance(program, OperatorNorm) else program.gradient
    n, d = len(program), data.shape[-1]
    given = "the columns of the jacobian" if isinstance(program, OperatorNorm) else "the gradient"
    eta, codes = solution.eta, solution.codes
    if not eta.is_floating_point():
        raise TypeError(f"eta must hold floating-point numbers, got {eta.dtype}; write eta.float()")
    if eta.shape != (n, d):
        raise ValueError(f"eta must have the shape (N, d) = {(n, d)} of {given}, got {tuple(eta.shape)}")
    if codes.is_floating_point() or codes.dtype.is_complex or codes.dtype == torch.bool:
        raise TypeError(f"codes must be ints, positions in ca.Status, got {codes.dtype}; write ca.Status.OPTIMAL.code")
    if codes.shape != (n,):
        raise ValueError(f"codes must have the shape (N,) = ({n},), got {tuple(codes.shape)}")
    if n and not 0 <= int(codes.min()) <= int(codes.max()) < len(Status):
        raise ValueError(f"codes must be positions in ca.Status, 0 to {len(Status) - 1}, got {int(codes.max())}")
    for name in ("inside", "ray"):
        part = getattr(solution, name)
        if part is not None and tuple(part.shape) != (n, d):
            raise ValueError(f"{name} must have the shape (N, d) = {(n, d)}, got {tuple(part.shape)}")
    program.check(solution.multipliers)
    return solution.to(data.device)
