"""Two paths, one answer: ten thousand random programs through the closed forms and through explicit conic programs.

Programs. (GNII) over a ball, and (8); each without a box, with a box around 0, and with a box that leaves 0 out in
places; eight norms; scales from 1e−12 to 1e+12 (1e±1.5 in float16, whose numbers end at 65,504 and 6e−8); float16,
float32 and float64. (GN) has the programs of (GNII) and is decided by its answer: near_ties.py. Radii and L are drawn
a few percent of the box away from where a program becomes infeasible: near_ties.py goes there. Near that edge a box
that leaves 0 out makes (8) ill-conditioned, λ|L| being much larger than ‖η‖, and the rounding of L + gᵀη can cost the
objective more than the tight tolerance.

Lagrangian, dual, optimum: proposition_2.py, min_norm.py and with_box.py. The closed form evaluates them; the
reference writes the primal program down in CVXPY and leaves the rest to HiGHS or Clarabel. They share no line of
code.

The check: what must agree. The objective at the one η and at the other, relative to the program's own scale (for
(GNII) |L| + ε‖g‖_q, or what the box allows if that is less; for (8) ‖η‖_p), within 1e-6; and each claim of
infeasibility. Where the reference's solver gives up, SCS is asked instead, and the note says so. Besides, the closed
form's multipliers must prove its η optimal by weak duality, with a gap, a violation and a residual within the tight
tolerance of its dtype, 1e-12, 1e-6 or 1e-3.

What float16 can hold. Its numbers are 1e-3 apart, relatively, so an η in float16 cannot have an objective that is
right to 1e-6. Both statements are checked: the float16 η against 1e-3; and the closed form on the same data in
float64 against 1e-6. In every dtype the reference solves the rounded data in float64. An item that the closed form
calls INEXACT (entries lost below the smallest number of the dtype) claims nothing and is counted as abstained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

import convexattack as ca
from verification.claims import Finding, claim
from verification.draws import BOXES, NORMS, TYPES, Either, programs, word

DIMENSION = {"no box": 12, "box around 0": 8, "box without 0": 5}
AGREE = ca.Tolerance().at(torch.float64)


@claim(
    "the closed forms and the conic programs have the same optimum, and the closed form's own certificate holds",
    "Section II, (GNII), (8)",
    cases=[(kind, p, box, dtype) for kind in ("(GNII)", "(8)") for p in NORMS for box in BOXES for dtype in TYPES],
    small=2,
    full=70,
    formulas=(r"\text{closed form}\quad\eta=\eta(L,g,\varepsilon,p,l,u)\qquad\text{against}\qquad\text{CVXPY}",),
)
def check(case: tuple[str, float, str, str], rng: np.random.Generator, n: int) -> Iterator[Finding]:
    kind, p, box, dtype = case
    program = programs(rng, n, kind, p, box, TYPES[dtype], DIMENSION[box])
    wide = _in_float64(program)
    found = ca.solve(program, "closed_form")
    exact = ca.solve(wide, "closed_form")
    where = f"{kind}, {word(p)}, {box}, {dtype}"

    inexact = found.status == ca.Status.INEXACT
    certificate = ca.certify(program, found)
    tight = ca.Tolerance.closed_form(TYPES[dtype])
    worst = torch.stack([certificate.gap, certificate.violation]).amax(0).numpy()
    refused = np.where(certificate.holds(tight).numpy(), 0.0, np.inf)
    proof = np.where(inexact, 0.0, np.where(found.status == ca.Status.OPTIMAL, worst, refused))
    yield Finding(f"own certificate, {dtype}", proof, tight.at(TYPES[dtype]), where, int(inexact.sum()))

    other, note = _conic(wide, where)
    holds = tight.at(TYPES[dtype]) if dtype == "float16" else AGREE
    yield Finding(
        f"conic program, {dtype}",
        np.where(inexact, 0.0, _apart(wide, found, other)),
        holds,
        where,
        int(inexact.sum()),
        note,
    )
    if dtype == "float16":
        yield Finding("conic program, float16 data in float64", _apart(wide, exact, other), AGREE, where)


def _conic(wide: Either, where: str) -> tuple[ca.Solution, str]:
    """The reference; where its solver gave up, SCS."""
    found = ca.solve(wide, "reference")
    failed = torch.from_numpy(np.flatnonzero(found.status == ca.Status.FAILED))
    if len(failed) == 0:
        return found, ""
    again = ca.solve(wide[failed], "SCS")
    eta, codes = found.eta.index_copy(0, failed, again.eta), found.codes.index_copy(0, failed, again.codes)
    note = f"{found.stats['solver']} gave up on {len(failed)} of {len(wide)} ({where}), and SCS was asked"
    return ca.Solution(eta, codes, found.multipliers), note


def _apart(wide: Either, one: ca.Solution, other: ca.Solution) -> NDArray[np.float64]:
    """Relative difference of the objectives; ∞ where the two statuses differ."""
    first, second = (s.eta.to(torch.float64).nan_to_num(0.0) for s in (one, other))
    scale = wide.primal(first) if isinstance(wide, ca.MinNorm) else wide.L.abs() + wide.scale()
    difference = (wide.primal(first) - wide.primal(second)).abs() / torch.where(scale > 0, scale, 1.0)
    none = one.status == ca.Status.INFEASIBLE
    return np.where(one.status == other.status, np.where(none, 0.0, difference.numpy()), np.inf)


def _in_float64(program: Either) -> Either:
    return replace(program, value=program.value.double(), gradient=program.gradient.double())
