"""The sum of hinges through CVXPY, item by item: HiGHS where it is a linear program, Clarabel where a set is round.

The text is normalised. With a length s that the sets give (the radius), z = η/s and each demand divided by its own
w_i = |c_i| + s‖a_i‖₁:

    minimize Σ_i w_i h_i  subject to  h ≥ 0,  h_i ≥ c_i/w_i + (s a_i/w_i)ᵀz,  z ∈ C_j/s

u_i is the dual value of row i divided by w_i. Every set but the acting one gets a row whose dual value is its multiplier.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from convexattack.numerics import round_down, rounding_slack
from convexattack.programs import HingeSum
from convexattack.sets import Ball, Box
from convexattack.solution import Solution, Status

__all__ = ["solve"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "CLARABEL": {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9},
    "SCS": {"eps_abs": 1e-8, "eps_rel": 1e-8, "max_iters": 100_000},
}


def solve(program: HingeSum, solver: str | None = None, progress: Callable[[int], object] | None = None) -> Solution:
    """Solve item by item.

    Args:
        program: N sums of hinges, with any sets.
        solver: an installed CVXPY solver; None picks HiGHS for linear programs and Clarabel for the rest.
        progress: called with 1 after each item.

    Raises:
        ValueError: a solver that is unknown, not installed, or that cannot take this kind of program.
    """
    name = _installed(solver)
    n, rows, d = program.shape
    eta, u = np.full((n, d), np.nan), np.zeros((n, rows))
    v = [np.zeros((n, d)) for _ in program.sets]
    codes, words, seconds = np.full(n, Status.INVALID.code, dtype=np.int8), ["not run"] * n, np.zeros(n)
    invalid = program.invalid().cpu().numpy()
    unit = program.weighted(torch.zeros_like(program.c)).reach().cpu().numpy()
    unit = np.where((unit > 0) & (unit < np.inf), unit, 1.0)
    for i in range(n):
        if not invalid[i]:
            begin = time.perf_counter()
            codes[i], words[i], found = _one(program, i, float(unit[i]), name)
            seconds[i] = time.perf_counter() - begin
            if found is not None:
                eta[i], u[i] = found[0], found[1]
                for whole, part in zip(v, found[2], strict=True):
                    whole[i] = part
        if progress is not None:
            progress(1)
    device = program.gradient.device
    step = round_down(_inside(program, torch.from_numpy(eta).to(device)), program.gradient.dtype)
    multipliers = tuple(torch.from_numpy(part).to(device) for part in (u, *v))
    found_codes = torch.from_numpy(codes).to(device)
    return Solution(
        step, found_codes, multipliers, {"solver": name or "HIGHS/CLARABEL", "words": words, "seconds": seconds}
    )


def _installed(solver: str | None) -> str | None:
    if solver is None:
        return None
    found: dict[str, str] = {name.upper(): name for name in cp.installed_solvers()}
    if str(solver).upper() not in found:
        raise ValueError(
            f"solver={solver!r} is neither 'reference' nor an installed CVXPY solver; installed are {', '.join(found)}"
        )
    return found[str(solver).upper()]


Found = tuple[np.ndarray, np.ndarray, list[np.ndarray]]


def _one(program: HingeSum, i: int, unit: float, solver: str | None) -> tuple[int, str, Found | None]:
    """Code, the solver's word, and (η, u, v) of one item."""
    n, rows, d = program.shape
    c, A = program.c[i].cpu().numpy(), program.A[i].cpu().numpy()
    weight = np.abs(c) + unit * np.abs(A).sum(1)
    weight = np.where(weight > 0, weight, 1.0)
    table = sp.csr_array(A * (unit / weight)[:, None])
    z, h = cp.Variable(d, name="z"), cp.Variable(rows, name="h")
    demand = h >= c / weight + table @ z
    inside: list[cp.Constraint] = []
    links: list[Callable[[], np.ndarray] | None] = []
    acting = next((j for j, item in enumerate(program.sets) if isinstance(item, Ball)), 0)
    scale, limit = np.full(n, unit), np.full(n, np.inf)
    for j, item in enumerate(program.sets):
        numbers = {name: cp.Constant(row[i]) for name, row in item.parameters(n, d, scale, limit).items()}
        if j == acting:
            inside += item.text(z, numbers)
            links.append(None)
        else:
            more, multiplier = item.link(z, numbers)
            inside += more
            links.append(multiplier)
    total = weight.sum()
    problem = cp.Problem(cp.Minimize((weight / total) @ h), [demand, h >= 0, *inside])
    name = solver or (cp.HIGHS if problem.is_qp() else cp.CLARABEL)  # the objective is linear
    try:
        problem._construct_chain(solver=name)
    except cp.error.SolverError as error:
        raise ValueError(
            f"solver={name!r} cannot take this program: {str(error).rstrip('.')}; use 'CLARABEL' or 'SCS'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": the certificate says how much
            problem.solve(solver=name, **_OPTIONS.get(name, {}))
    except Exception as error:  # solvers raise what they like, Rust panics included
        return Status.FAILED.code, f"{type(error).__name__}: {error}", None
    if z.value is None or demand.dual_value is None:
        return Status.FAILED.code, str(problem.status), None
    u = (np.asarray(demand.dual_value) * total / weight).clip(0, 1)
    target = -A.T @ u
    v = [np.zeros(d) if link is None else link() * total / unit for link in links]
    if v:
        v[acting] = target - sum(part for j, part in enumerate(v) if j != acting)
    return Status.OPTIMAL.code, str(problem.status), (unit * np.asarray(z.value), u, v)


def _inside(program: HingeSum, eta: Tensor) -> Tensor:
    """η back into a ball and boxes that the solver left by its tolerance, where they hold 0."""
    slack = rounding_slack(eta.shape[-1])
    for item in program.sets:
        if isinstance(item, Ball):
            length, radius = item.norm(eta), item.radii(eta)
            eta = torch.where((length > radius)[:, None], eta * (radius * (1 - 2 * slack) / length)[:, None], eta)
    for item in program.sets:
        if isinstance(item, Box):
            low, high = item.bounds(eta)
            eta = torch.minimum(torch.maximum(eta, low), high)
    return eta
