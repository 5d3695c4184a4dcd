"""Programs on the edge: feasible or not by a unit in the last place. Rationals decide, and no tolerance forgives.

(GN) with L within two units of ε‖g‖, sets that touch or miss each other by as much. FEASIBLE, INFEASIBLE and UNBOUNDED
must be true exactly, in float64 as in exact arithmetic.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import convexattack as ca
from verification.judge.fuzz import Tally
from verification.judge.oracles import exactly
from verification.judge.spec import (
    INF,
    Piece,
    Said,
    Spec,
    ball,
    box,
    feasible,
    gn,
    gnii,
    halfspaces,
    infeasible,
    min_norm,
    said,
    weighted,
)  # fmt: skip
from verification.judge.trial import ERRORS, Finding, accepted
from verification.judge.wrong.row import ACCEPTED

__all__ = ["edged"]


def _decimal(rng: np.random.Generator) -> float:
    """A number of one digit behind the point, or a third or a seventh of one: no binary fraction."""
    return float(rng.integers(-20, 21)) / float(rng.choice([10.0, 3.0, 7.0]))


def _moved(rng: np.random.Generator, x: float) -> float:
    """x, or a neighbour of it, or the next but one."""
    for _ in range(int(rng.integers(0, 3))):
        x = math.nextafter(x, float(rng.choice([-INF, INF])))
    return x


def _piece(rng: np.random.Generator, d: int) -> Piece:
    size = abs(_decimal(rng)) + 0.1
    match int(rng.integers(5)):
        case 0:
            return ball(float(rng.choice([1.0, INF])), size)
        case 1:
            low = [-abs(_decimal(rng)) for _ in range(d)]
            return box(low, [abs(_decimal(rng)) for _ in range(d)])
        case 2:
            return weighted(float(rng.choice([1.0, INF])), [abs(_decimal(rng)) + 0.1 for _ in range(d)], size)
        case 3:
            return box([x := _decimal(rng) for _ in range(d)], [x + size] * d)
    rows = [[_decimal(rng) or 1.0 for _ in range(d)], [_decimal(rng) or 1.0 for _ in range(d)]]
    return halfspaces(rows, [abs(_decimal(rng)), abs(_decimal(rng))])


def _program(rng: np.random.Generator) -> tuple[Spec, list[float]]:
    """A program near its edge, and an η near which that is."""
    d = int(rng.integers(1, 3))
    g = [_decimal(rng) for _ in range(d)]
    sets = [_piece(rng, d)]
    if sets[0].words == "halfspaces":
        sets.append(ball(INF, abs(_decimal(rng)) + 0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ca.solve(gnii(0, g, *sets).build())
    eta = found.eta[0].tolist()
    if not all(map(math.isfinite, eta)):
        eta = [0.0] * d
    fall = _moved(rng, -math.fsum(a * b for a, b in zip(g, eta, strict=True)))
    kind = int(rng.integers(4))
    if kind == 0:
        return gn(fall, g, *sets), eta
    if kind == 1:
        return min_norm(fall, g, float(rng.choice([1.0, INF])), *sets), eta
    row = halfspaces([g], [-fall])  # an equality that no float meets would have to be forgiven
    return (gnii if kind == 2 else gn)(_decimal(rng), [_decimal(rng) for _ in range(d)], *sets, row), eta


def _claims(rng: np.random.Generator, spec: Spec, eta: list[float], truth: str) -> list[Said]:
    """Claims that are false, of η and its neighbours, with the solver's multipliers, none, and what comes to mind."""
    near = [_moved(rng, x) for x in eta]
    far = [x * (1 + 1e-7) for x in eta]
    zeros, sizes = [], [1.0, 1e8, 1e16]
    for shape in spec.shapes or []:
        zeros.append(torch.zeros(shape, dtype=torch.float64).tolist())
    size = float(rng.choice(sizes))
    drawn = [(size * torch.tensor(rng.integers(-1, 2, shape)).double()).tolist() for shape in spec.shapes or []]
    found: list[Said] = []
    if truth != "INFEASIBLE":
        nothing = infeasible(spec.d)
        found += [nothing, replace(nothing, eta=tuple(eta)), infeasible(spec.d, *zeros), infeasible(spec.d, *drawn)]
    if truth != "FEASIBLE" and spec.kind == "gn":
        found += [feasible(eta), feasible(near), feasible(far, *zeros), feasible(near, *zeros), feasible(eta, *drawn)]
    if truth != "UNBOUNDED":
        ray = tuple(-x for x in spec.gradient)
        found += [said("UNBOUNDED", eta, *zeros, ray=ray), said("UNBOUNDED", near, ray=ray)]
    return found


def edged(rng: np.random.Generator, n: int, tally: Tally, exact: bool = True) -> None:
    """Draw n programs; judge false claims of each in both modes."""
    for _ in range(n):
        spec, eta = _program(rng)
        status, optimum = exactly(spec)
        if spec.kind == "gn" and status == "OPTIMAL":
            status = "FEASIBLE" if optimum < 0 else "INFEASIBLE"
        program = spec.build()
        for claim in _claims(rng, spec, eta, status):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                solution = claim.solution(spec)
            for mode in ("float64", "exact")[: 1 + exact]:
                _judge(spec, program, claim, solution, mode, status, optimum, tally)


def _judge(
    spec: Spec,
    program: Any,
    claim: Said,
    solution: ca.Solution,
    mode: str,
    status: str,
    optimum: float,
    tally: Tally,
) -> None:
    try:
        certificate = ca.certify(program, solution, exact=mode == "exact")
    except ERRORS as error:
        tally.add(7, mode, 1, [Finding(7, "on the edge", mode, f"{type(error).__name__}: {error}", str(spec))])
        return
    how = accepted(certificate, 0, mode == "exact", ACCEPTED)
    if not how:
        tally.add(7, mode, 1, [])
        return
    given = [part[0].tolist() for part in solution.multipliers]
    words = f"{claim.status} η = {claim.eta} u = {given}"
    why = f"right is {status}, {optimum:.9g}; {spec.kind} L = {spec.value} g = {spec.gradient} {spec.parts}; {words}"
    tally.add(7, mode, 1, [Finding(7, "on the edge", mode, how, why)])
