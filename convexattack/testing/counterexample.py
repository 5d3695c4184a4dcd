"""A refuted step: the program, what was returned, what is optimal, and the multipliers that prove it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

import convexattack as ca

__all__ = ["Counterexample", "distances", "explain"]

NAMES = {ca.GNII: "(GNII)", ca.GN: "(GN)", ca.MinNorm: "(8)"}


class Counterexample(AssertionError):
    """`check_step` found a program that the step gets wrong; the message says how.

    Attributes:
        program: the N programs the step was handed at once.
        item: which of them it gets wrong.
        eta: what it returned; None where it raised, or returned no (N, d) tensor of the right dtype.
        optimal: (N, d), the closed form's η (or CVXPY's, where a set has none).
        certificate: of eta, with the multipliers that prove the bound; None like eta.
        ratio: the decrease −gᵀη reached ÷ the largest possible one, for (8) ‖η‖_p ÷ the smallest; NaN if meaningless.
    """

    def __init__(
        self,
        message: str,
        program: ca.Program,
        item: int,
        eta: Tensor | None,
        optimal: Tensor,
        certificate: ca.Certificate | None,
        ratio: float,
    ) -> None:
        super().__init__(message)
        self.program, self.item, self.eta, self.optimal = program, item, eta, optimal
        self.certificate, self.ratio = certificate, ratio


def explain(
    program: ca.Program,
    p: float,
    given: dict[str, float | Tensor],
    i: int,
    verdict: str,
    eta: Tensor | None,
    found: ca.Solution,
    cure: str,
) -> str:
    """The sentences of a counterexample; `verdict` says what is wrong with η, `cure` what to do if it is rounding."""
    n, d = program.gradient.shape
    kind, dtype = NAMES[type(program)], str(program.gradient.dtype).removeprefix("torch.")
    where = f" (item {i} of {n}; all of them below)" if n > 1 else ""
    lines = [
        f"The step is wrong on {kind} with p = {_p(p)} in {d} coordinate{'s' * (d > 1)}, {dtype}{where}: {verdict}."
    ]
    for name, entry in given.items():
        row = entry if isinstance(entry, float) else entry[i]
        lines.append(f"  {name:<9} {_shown(row)}")
    if n > 1:
        rows = [f"{name} = {entry.tolist()}" for name, entry in given.items() if isinstance(entry, Tensor)]
        lines.append(f"  all rows  {', '.join(rows)}")
    goal = "‖η‖" if isinstance(program, ca.MinNorm) else "gᵀη" if isinstance(program, ca.GNII) else "L + gᵀη"
    if eta is not None:
        lines.append(f"  returned  {_shown(eta[i])}, {goal} = {float(program.primal(eta)[i]) + 0.0:.6g}")
    lines.append(f"  optimal   {_shown(found.eta[i])}, {goal} = {float(program.primal(found.eta)[i]) + 0.0:.6g}")
    lines.append(f"  proof     {proof(program, found, i)}")
    return "\n".join(lines + [cure] * bool(cure))


def proof(program: ca.Program, found: ca.Solution, i: int) -> str:
    """The bound that the multipliers prove of item i, in a sentence."""
    bound = float(program.bound(found.multipliers).value[i]) + 0.0  # no −0
    names = [f"C{j + 1}" for j in range(len(program.sets))]
    if isinstance(program, ca.MinNorm):
        weight, *v = (part[i] for part in found.multipliers)
        shares = "".join(f", v({name}) = {_shown(part)}" for name, part in zip(names, v, strict=True))
        return (
            f"with λ = {float(weight):.6g}{shares} every feasible η has ‖η‖_p ≥ λL{' − Σσ(v)' * bool(v)} = {bound:.6g}"
        )
    shares = ", ".join(f"v({name}) = {_shown(part[i])}" for name, part in zip(names, found.multipliers, strict=True))
    goal = "gᵀη ≥ −Σσ(v)" if isinstance(program, ca.GNII) else "L + gᵀη ≥ L − Σσ(v)"
    return f"v sums to −g, so every η in the sets has {goal} = {bound:.6g}: {shares}"


def distances(program: ca.Program, eta: Tensor, i: int) -> str:
    """In what way η_i is outside, in a sentence; "" where it is not."""
    point, rows = eta[i : i + 1].to(torch.float64), torch.tensor([i])
    for j, part in enumerate(item.take(rows) for item in program.sets):
        alone = ca.GNII(torch.zeros(1), torch.zeros_like(eta[i : i + 1]), (part,))
        violation = _violation(alone, eta[i : i + 1])
        if not violation > 0:
            continue
        excess, unit = part.excess(point)[0], alone.units[0][0]
        k = int(excess.argmax())
        far = violation * float(unit[k]) if 0 < float(unit[k]) < math.inf else float(excess[k])
        if j == 0 and not isinstance(program, ca.MinNorm):  # the step's own ball
            radius = float(unit[0])
            far = far or float(excess[0])
            return f"‖η‖_{_p(part.atom.norm.p)} exceeds ε = {radius:.6g} by {far:.2g}{_ulps(far, radius, eta.dtype)}"  # type: ignore[attr-defined]
        if part.atom.separable and part.map(point) is point:
            return f"η[{k}] leaves its bounds by {far:.2g}{_ulps(far, float(eta[i, k]), eta.dtype)}"
        return f"η violates {part.label}{f', row {k},' * part.atom.separable} by {far:.2g}"
    if isinstance(program, ca.MinNorm):
        over = float(program.linear(eta)[i])
        shown = f"by {over:.2g}" if over > 0 else "by less than float64 can show"
        return f"L + gᵀη ≤ 0 is violated, {shown}"
    return ""


def _violation(program: ca.Program, eta: Tensor) -> float:
    """Of one item, exact where its set is known exactly."""
    try:
        return float(ca.certify(program, eta, exact=True).violation[0])
    except ValueError:
        return float(program.violation(eta)[0])


def _ulps(far: float, at: float, dtype: torch.dtype) -> str:
    """How many units in the last place of `at` that is, where it is rounding."""
    unit = torch.tensor(abs(at), dtype=dtype)
    unit = torch.nextafter(unit, torch.full_like(unit, math.inf)) - unit
    steps = far / float(unit)
    return f", {steps:.1g} ulp of {dtype}".replace("torch.", "") if steps < 1000 else ""


def _p(p: float) -> str:
    return "∞" if p == math.inf else f"{p:g}"


def _shown(row: float | Tensor) -> str:
    """A number or a vector, with the fewest digits that tell it from its neighbours."""
    if isinstance(row, Tensor) and row.ndim:
        return "[" + ", ".join(_shown(entry) for entry in row) + "]"
    short, number = f"{float(row) + 0.0:.6g}", float(row)
    if float(short) == number or number != number:
        return short
    return str(np.float32(number)) if isinstance(row, Tensor) and row.dtype == torch.float32 else repr(number)
