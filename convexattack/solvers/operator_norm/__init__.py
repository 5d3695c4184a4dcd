"""(9), ‖J‖_{p→2}: closed forms for p in {1, 2}, the relaxation and its rounding for p > 2, the nonlinear power method
for 1 < p < 2.

Batched torch on any device, float64 inside. Items are scaled by their largest entry; those that hold a NaN become
`Status.INVALID`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import round_down
from convexattack.programs import OperatorNorm
from convexattack.solution import Solution, Status
from convexattack.solvers.operator_norm import columns, matrix_free, rows
from convexattack.solvers.operator_norm.rounding import MOST_SIGNS, enumerate_signs, in_few_rows, round_factor, sweep

__all__ = ["solve", "why_not", "why_not_exactly"]

SMALL = 1e-100  # of ‖J‖_F: shorter columns are left out of the work, not out of the bound
FEW, MANY = 210, 5000  # unknowns of W: m <= 20 and m < 100
NUMBERS = 2**25  # of float64, of the Jacobians that are worked on together: 256 MiB


def why_not(program: Any) -> str | None:
    """Why this is no program for the batched torch path; None where it is one."""
    return None if isinstance(program, OperatorNorm) else "it is for (9), the operator norm"


def why_not_exactly(program: Any) -> str | None:
    """Why not all signs can be tried; None where they can."""
    if not isinstance(program, OperatorNorm):
        return why_not(program)
    p, d = program.norm.p, program.shape[2]
    if p == math.inf and d <= MOST_SIGNS and program.explicit:
        return None
    return f"it tries the 2^d vertices of an l-inf ball, d <= {MOST_SIGNS}, got p = {program.norm} and d = {d}"


def solve(program: OperatorNorm, exact: bool = False) -> Solution:
    """Solve all items, so many at once that their Jacobians take 256 MiB (one item, if that alone takes more).

    Args:
        program: with p in [1, ∞].
        exact: for p = ∞ and d ≤ 20, try all 2^{d−1} vertices: η is then the optimum, though only the bracket is
            certified.

    Returns:
        A `Solution`: status OPTIMAL where the bracket closes, BRACKETED elsewhere. `stats`, each (N,): `gap` of the
        relaxation, relative (0 for p < 2, where the bound is a formula); `rounding_ratio`, the mean over Gaussian draws
        of ‖Jη‖₂² against the squared bound (p > 2), for p = ∞ at least 2/π in expectation; `newton_steps`; `exact`,
        whether η is known to be the optimum although the bound need not show it (p in {1, 2}, rank at most 2 with p = ∞
        or rank 1, and enumeration).
    """
    n, m, d = program.shape
    if not program.explicit:
        return matrix_free.solve(program)
    assert isinstance(program.jacobian, Tensor)
    radius = program.ball.radii(program.jacobian)
    items = max(1, NUMBERS // (m * d))
    parts = [
        _some(program.jacobian[a : a + items], radius[a : a + items], program.norm, exact) for a in range(0, n, items)
    ]
    if not parts:
        parts = [_some(program.jacobian, radius, program.norm, exact)]
    eta, codes, y, F = (torch.cat(column) for column in list(zip(*parts, strict=True))[:4])
    stats: dict[str, Any] = {name: torch.cat([part[4][name] for part in parts]) for name in parts[0][4]}
    return Solution(eta, codes, (y, F), {"solver": "enumeration" if exact else "operator_norm", **stats})


def _some(
    jacobian: Tensor, radius: Tensor, norm: Lp, exact: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """η, codes, y, F and stats of some items; J is worked on as J/‖J‖_F without columns that are far too short to
    matter.
    """
    J = jacobian.to(torch.float64, copy=True)
    top = J.abs().flatten(1).amax(1)
    valid = top.isfinite()  # NaN is not
    if not bool(valid.all()):
        J[~valid] = 0.0
    J /= torch.where(valid & (top > 0), top, 1.0)[:, None, None]
    size = Lp(2)(J.flatten(1))
    J /= torch.where(size > 0, size, 1.0)[:, None, None]
    lengths = J.abs().amax(1)
    short = lengths <= SMALL
    if bool(short.any()):
        J.masked_fill_(short[:, None], 0.0)
    n, m = J.shape[:2]
    y = torch.ones_like(lengths)
    stats = {"gap": torch.zeros_like(top), "rounding_ratio": torch.full_like(top, torch.nan)}
    steps, done = torch.zeros(n, dtype=torch.int64, device=J.device), torch.zeros_like(valid)
    if norm.p == 1:
        high, k = Lp(2)(J.mT).max(1)
        eta, done = torch.zeros_like(y).scatter_(1, k[:, None], 1.0), ~done
        F = J.gather(2, k[:, None, None].expand(-1, m, 1))
    elif norm.p == 2:
        F, eta, high = _singular(J)
        done = ~done
    elif norm.p < 2:
        F, _, high = _singular(J)
        eta, _ = round_factor(J, torch.cat((F, torch.eye(m).to(J).expand(n, m, m)), 2) if m <= FEW else F, norm)
        F = J @ eta[..., None]
        done = in_few_rows(J, 1)[0]
    else:
        nothing = size == 0
        J[nothing, 0, 0] = 1.0  # any other matrix will do
        found = _relaxed(J, norm.q)
        J[nothing, 0, 0] = 0.0
        F, high, steps = found.factor, torch.where(nothing, 0.0, found.high), found.steps
        y = torch.where(
            short, lengths.pow(2 - norm.q), found.y
        )  # a column that was left out weighs as little as it is long
        stats["gap"] = (found.high - found.low) / found.high
        eta, mean = round_factor(J, F, norm)
        stats["rounding_ratio"] = mean / torch.where(high > 0, high, 1.0).square()
        done, two = in_few_rows(J, 2 if norm.p == math.inf else 1)
        if norm.p == math.inf and bool(done.any()):
            eta[done] = sweep(two[done])
    if exact:
        eta, done = enumerate_signs(J), torch.ones_like(done)
    low = _change(J, eta)
    eta = eta * (radius if norm.p in (1, math.inf) else radius * (1 - 2.0**-51))[:, None]
    eta = torch.where(valid[:, None], round_down(eta, jacobian.dtype), torch.nan)
    kept = _change(J, eta.to(torch.float64)) / torch.where(radius > 0, radius, 1.0)
    kept = torch.where(radius > 0, kept, low)
    fine = 1 - 1e-9
    coarse = fine - 4 * torch.finfo(jacobian.dtype).eps
    codes = torch.where(kept >= high * coarse, Status.OPTIMAL.code, Status.BRACKETED.code)
    lost = ((low >= high * fine) & (kept < high * coarse)) | ((kept == 0) & (low > 0))
    codes = torch.where(lost, Status.INEXACT.code, codes)
    codes = torch.where(valid, codes, Status.INVALID.code).to(torch.int8)
    return eta, codes, y, F, {**stats, "newton_steps": steps, "exact": done & valid}


def _change(J: Tensor, eta: Tensor) -> Tensor:
    return Lp(2)((J @ eta[..., None]).squeeze(-1))


def _relaxed(J: Tensor, q: float) -> rows.Relaxed:
    """By multiplications of one Newton step: k = m(m+1)/2 unknowns from d columns, against twenty d × d factorizations
    or products. Where both are nothing, the rows' method is the more accurate one; where both are too much, it takes
    conjugate gradients."""
    m, d = J.shape[1:]
    k = m * (m + 1) // 2
    if k <= FEW or (k <= MANY and d * k**2 + k**3 <= 20 * d**3):
        return rows.relax(J, q)
    if d > MANY:
        return rows.relax(J, q, direct=False)
    found = columns.relax(J, q)
    missed = (
        found.high - found.low > 1e-8 * found.high
    )  # it can stall with p near 2 and columns of very different length
    if k > MANY or not bool(missed.any()):
        return found
    again = rows.relax(J[missed], q)
    F = torch.nn.functional.pad(found.factor, (0, m - found.factor.shape[2]))
    for old, new in zip((found.y, F, found.low, found.high, found.steps), vars(again).values(), strict=True):
        old[missed] = new
    return rows.Relaxed(found.y, F, found.low, found.high, found.steps)


def _singular(J: Float[Tensor, "N m d"]) -> tuple[Tensor, Tensor, Tensor]:
    """The top left singular vector (N, m, 1), the right one (N, d), and the singular value."""
    m, d = J.shape[1:]
    if m <= d:
        _, vectors = torch.linalg.eigh(J @ J.mT)
        u = vectors[..., -1:]
        eta = (J.mT @ u).squeeze(-1)
    else:
        _, vectors = torch.linalg.eigh(J.mT @ J)
        eta = vectors[..., -1]
    eta = -Lp(2).steepest(eta)
    return (u if m <= d else J @ eta[..., None]), eta, _change(J, eta)
