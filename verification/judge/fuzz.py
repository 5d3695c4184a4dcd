"""Wrong claims by the thousand: right answers, corrupted, kept where an oracle calls them clearly false. None may hold.

A claim within a factor of its tolerance of the truth is not counted. What is counted besides: a bound beyond the
optimum, which weak duality allows to no multiplier whatever.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import convexattack as ca
from verification.judge.duals import duals
from verification.judge.planes import Truth, objective, truth
from verification.judge.trial import GIVEN, Finding, accepted, unsupported
from verification.judge.worlds import Array, Shape, World, drawn, narrowed
from verification.judge.wrong.row import ACCEPTED

__all__ = ["Tally", "clearly_false", "fuzzed", "taken"]

INF, NAN = math.inf, math.nan
STATUSES = ("OPTIMAL", "FEASIBLE", "INFEASIBLE", "UNBOUNDED", "UNDECIDED", "BRACKETED", "FAILED", "INEXACT", "INVALID")
GREY = {torch.float64: 30.0, torch.float32: 30.0, torch.float16: 10.0, torch.bfloat16: 4.0}
SURE = 1e-10  # what a sum of numbers about 1 may be off by
KINDS = ("gnii", "gn", "min_norm", "hinges", "operator")
RULES = {"η": 6, "status": 7, "u": 2, "later": 5, "bound": 2}


@dataclass
class Tally:
    """What came of the fuzz: claims tried by rule and mode, and the findings."""

    tried: Counter[tuple[int, str]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, rule: int, mode: str, n: int, found: list[Finding]) -> None:
        """Count n more claims."""
        self.tried[rule, mode] += n
        self.findings += found

    def total(self, mode: str) -> int:
        """How many claims were tried in one mode."""
        return sum(n for (_, which), n in self.tried.items() if which == mode)


# --- what is clearly false -------------------------------------------------------------------------------------------


def clearly_false(world: World, known: Truth, status: str, eta: Array) -> Array:
    """Which items' claim is false by more than a factor of the tolerance; η in units of 1."""
    limit = GREY[world.dtype] * ca.Tolerance().at(world.dtype)
    finite = np.isfinite(eta).all(1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        away = ~finite | (world.outside(np.nan_to_num(eta)) > limit)
        worth = objective(world, np.nan_to_num(eta))
    match status:
        case "OPTIMAL":
            wrong = away | known.nowhere | known.falls | _far(world, known, worth, limit, np.nan_to_num(eta))
        case "FEASIBLE" if world.kind == "gn":
            size = _size(world, known)
            wrong = away | (known.least > SURE * size) | (worth > SURE * size) | known.nowhere
        case "FEASIBLE":
            wrong = away | known.nowhere
        case "INFEASIBLE":
            wrong = known.there & ((world.kind != "gn") | (known.most < -SURE * _size(world, known)))
        case "UNBOUNDED":
            wrong = known.bounded | known.nowhere
        case "UNDECIDED" if world.kind == "gn":
            size = world.varies()
            wrong = known.there & (np.abs(known.least) > limit * np.where(size < INF, size, 1e3)) & ~known.falls | away
        case "BRACKETED" if world.kind == "operator":
            wrong = away
        case _:
            wrong = np.ones(len(world), bool)
    return np.asarray(wrong | world.broken)


def _size(world: World, known: Truth) -> Array:
    """What rounding is relative to."""
    with np.errstate(invalid="ignore"):
        reach = np.abs(np.nan_to_num(known.eta)).max(1) * np.abs(world.gradient).sum(
            tuple(range(1, world.gradient.ndim))
        )
        value = np.abs(world.value).reshape(len(world), -1).sum(1)
    return np.asarray(1e-300 + reach + value + np.where(world.varies() < INF, world.varies(), 0.0))


def _far(world: World, known: Truth, worth: Array, limit: float, eta: Array) -> Array:
    """Whether the objective at η is clearly not the optimum."""
    if world.kind == "operator":
        return np.asarray(worth < known.least * (1 - limit))
    off: Any = np.where(np.isfinite(known.least), np.maximum(known.least - worth, worth - known.most), INF)
    outside = world.outside(eta) > 0
    if world.dtype in (torch.float16, torch.bfloat16):
        off = np.where(outside, 0.0, off)  # a tolerance of a tenth: what it may buy is not small
    known_one = np.isfinite(known.least)
    if world.kind != "min_norm":
        varies: Any = world.varies()
        unit: Any = np.where(varies < INF, varies, _size(world, known))
        slopes = np.abs(world.gradient).reshape(len(world), -1, world.d).sum(1)
        bought = np.where(outside, limit * (slopes * np.abs(eta)).sum(1), 0.0)
        return np.asarray((off > limit * unit + bought + SURE * _size(world, known)) & known_one)
    left = world.value + (world.gradient * eta).sum(1)
    size = np.abs(world.gradient * eta).sum(1)
    row = np.where(world.value != 0, np.abs(world.value), np.abs(world.gradient).sum(1) * np.abs(eta).max(1))
    unmet = left > limit * row + SURE * (row + size)
    unit = np.where(known.most > 0, known.most, 1.0)
    bought = np.where(outside, limit * np.abs(eta).max(1), 0.0)
    return np.asarray((off > limit * unit + bought) & known_one | unmet)


# --- corruptions -----------------------------------------------------------------------------------------------------

Move = Callable[[np.random.Generator, Array], Array]


def _scaled(*factors: float) -> Move:
    return lambda rng, x: x * rng.choice(factors, (len(x),) + (1,) * (x.ndim - 1))


POINTS: dict[str, Move] = {
    "as it is": lambda rng, x: x,
    "scaled": _scaled(0.0, 0.5, 0.9, 0.999, 1.001, 1.1, 2.0, -1.0, 100.0),
    "scaled by a hair": _scaled(1 + 5e-7, 1 + 9e-7, 1 + 2e-6, 1 - 2e-6, 1 + 1e-4),
    "shifted": lambda rng, x: (
        x + rng.choice([1e-4, 1e-2, 0.125, 1.0], (len(x), 1)) * rng.choice([-1.0, 0.0, 1.0], x.shape)
    ),
    "rolled": lambda rng, x: np.roll(x, 1, 0),
    "turned": lambda rng, x: np.roll(x, 1, 1),
    "clipped": lambda rng, x: np.clip(x, -0.25, 0.25),
    "drawn": lambda rng, x: np.asarray(rng.integers(-16, 17, x.shape)) / 8.0,
    "one entry": lambda rng, x: np.where(
        np.arange(x.shape[1]) == rng.integers(x.shape[1]), rng.choice([-2.0, 0.0, 2.0], (len(x), 1)), x
    ),
    "NaN": lambda rng, x: np.where(rng.random(x.shape) < 0.3, NAN, x),
    "infinite": lambda rng, x: np.where(rng.random(x.shape) < 0.3, INF, x),
}

PROOFS: dict[str, Move] = {
    "as it is": lambda rng, u: u,
    "scaled": _scaled(0.0, 0.5, 0.999, 1.001, 2.0, -1.0, 1e3),
    "huge": _scaled(1e9, -1e9, 1e17, 1e150, 1e300),
    "rolled": lambda rng, u: np.roll(u, 1, 0),
    "drawn": lambda rng, u: np.asarray(rng.integers(-16, 17, u.shape)) / 8.0 * 4.0 ** rng.integers(-3, 3),
    "nearly": lambda rng, u: u * (1 + 1e-3 * rng.standard_normal(u.shape)),
    "NaN": lambda rng, u: np.where(rng.random(u.shape) < 0.2, NAN, u),
    "infinite": lambda rng, u: np.where(rng.random(u.shape) < 0.2, rng.choice([INF, -INF]), u),
    "one": lambda rng, u: np.ones_like(u),
}


def _cancelling(rng: np.random.Generator, parts: list[Array]) -> list[Array]:
    """Something huge in one multiplier, and minus that in another of its shape."""
    size = float(rng.choice([1e8, 1e15, 1e17, 1e20]))
    pairs = [
        (i, j) for i in range(len(parts)) for j in range(i) if parts[i].shape == parts[j].shape and parts[i].ndim > 1
    ]
    if not pairs:
        return [part * size for part in parts]
    i, j = pairs[int(rng.integers(len(pairs)))]
    huge = size * rng.choice([-1.0, 0.0, 1.0], parts[i].shape)
    parts = list(parts)
    parts[i], parts[j] = parts[i] + huge, parts[j] - huge
    return parts


# --- solving and claiming ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What the package says of a world: η in units of 1, multipliers in those of the package, and the rest."""

    eta: Array
    status: Array
    parts: list[Array]
    extra: dict[str, Any]


def _by_hand(world: World, known: Truth) -> Answer:
    """The oracle's answer, with multipliers from the rows that are met."""
    inside = torch.tensor(known.inside * world.unit[:, None])
    usual = "FEASIBLE" if world.kind == "gn" else "OPTIMAL"
    status = np.full(len(world), usual, dtype=object)
    return Answer(np.nan_to_num(known.eta), status, duals(world, known)[1], {"inside": inside})


def _solved(program: Any, world: World, known: Truth) -> Answer:
    """The package's own answer, with an η of the oracle where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ca.solve(program)
    eta = found.eta.to(torch.float64).numpy() / world.unit[:, None]
    eta = np.where(np.isfinite(eta), eta, np.nan_to_num(known.eta))
    extra = {name: entry for name in GIVEN if (entry := getattr(found, name, None)) is not None}
    status = np.array([entry.name for entry in np.atleast_1d(found.status)], dtype=object)
    return Answer(eta, status, [part.to(torch.float64).numpy() for part in found.multipliers], extra)


def _claim(
    world: World, eta: Array, status: str, parts: list[Array], extra: dict[str, Any], dtype: torch.dtype
) -> tuple[ca.Solution, Array]:
    """The claim, and the η that it holds after rounding, in units of 1."""
    point = torch.tensor(eta * world.unit[:, None]).to(dtype)
    codes = torch.full((len(world),), ca.Status[status].code, dtype=torch.int8)
    given = tuple(torch.tensor(np.ascontiguousarray(part)) for part in parts)
    back = point.to(torch.float64).numpy() / world.unit[:, None]
    return ca.Solution(point, codes, given, **extra), back


def _tampered(
    rng: np.random.Generator, world: World, found: Answer
) -> Iterator[tuple[str, str, Array, str, list[Array], dict[str, Any]]]:
    """(rule's name, in words, η, status, multipliers, the rest), one corrupted claim after the other."""
    usual = {"gn": "FEASIBLE", "operator": "BRACKETED"}.get(world.kind, "OPTIMAL")
    for name, move in POINTS.items():
        for status in dict.fromkeys((usual, "OPTIMAL")):
            yield "η", f"η {name}", move(rng, found.eta), status, found.parts, found.extra
    for name, move in PROOFS.items():
        parts = [move(rng, part) for part in found.parts]
        for status in dict.fromkeys((usual, "INFEASIBLE")):
            how = "drawn" if rng.random() < 0.5 else "scaled"
            yield "u", f"u {name}, η {how}", POINTS[how](rng, found.eta), status, parts, found.extra
    for status in (usual, "INFEASIBLE"):
        yield "u", "u cancels", POINTS["scaled"](rng, found.eta), status, _cancelling(rng, found.parts), found.extra
    for status in STATUSES:
        yield "status", "status", found.eta, status, found.parts, found.extra
    for ray in (-found.eta, found.eta, np.roll(found.eta, 1, 0), rng.integers(-1, 2, found.eta.shape).astype(float)):
        rest = found.extra | {"ray": torch.tensor(ray)}
        yield "status", "a ray", found.eta, "UNBOUNDED", found.parts, rest
    for name in ("drawn", "scaled", "NaN", "infinite"):
        inside = torch.tensor(POINTS[name](rng, found.eta) * world.unit[:, None])
        hair = POINTS["scaled by a hair"](rng, found.eta)
        yield "η", f"inside {name}", hair, usual, found.parts, found.extra | {"inside": inside}


def fuzzed(
    rng: np.random.Generator,
    batch: int,
    exact: float,
    tally: Tally,
    texts: bool = False,
    room: str = "",
    kind: str = "",
) -> None:
    """One world of `batch` items: solve, corrupt, judge; a share `exact` of the false claims is judged exactly too."""
    room = room or str(rng.choice(["ball", "plane", "plane", "space"]))
    kinds = [name for name in KINDS if (name != "hinges" or room != "ball") and (name != "operator" or room == "ball")]
    kind = kind or str(rng.choice(kinds))
    world = drawn(rng, batch, kind, room, texts)
    known = truth(world, room)
    program = world.build()
    by_hand = kind != "operator" and not texts and rng.random() < 0.5
    found = _by_hand(world, known) if by_hand else _solved(program, world, known)
    for name, words, eta, status, parts, extra in _tampered(rng, world, found):
        narrow = rng.random() < 0.2
        dtype = [torch.bfloat16, torch.float16, torch.float32][int(rng.integers(3))] if narrow else torch.float64
        claim = _claim(world, eta, status, parts, extra, dtype)
        _count(tally, RULES[name], f"{kind}, {room}: {words}", world, known, program, claim, status, exact, rng)
    other = narrowed(rng, world)
    claimed = [("OPTIMAL", found.eta), ("INFEASIBLE", found.eta)] + ([("FEASIBLE", found.eta)] if kind == "gn" else [])
    later, changed = truth(other, room), other.build()
    for status, eta in claimed:
        claim = _claim(other, eta, status, found.parts, found.extra, world.dtype)
        _count(
            tally,
            RULES["later"],
            f"{kind}, {room}: changed afterwards",
            other,
            later,
            changed,
            claim,
            status,
            exact,
            rng,
        )


def _count(
    tally: Tally, rule: int, words: str, world: World, known: Truth, program: Any, claim: tuple[ca.Solution, Array],
    status: str, exact: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Judge the claim; count what is clearly false, and what holds nevertheless."""
    solution, eta = claim
    false = clearly_false(world, known, status, eta)
    certificate = ca.certify(program, solution)
    held = certificate.holds().numpy() & false
    found = [_finding(rule, words, "float64", "holds", world, known, solution, i) for i in np.flatnonzero(held)[:3]]
    found += [
        _finding(
            2,
            words,
            "float64",
            f"dual = {float(certificate.dual[i]):.12g} lies beyond the optimum",
            world,
            known,
            solution,
            i,
        )
        for i in np.flatnonzero(_beyond(world, known, certificate))[:3]
    ]
    tally.add(rule, "float64", int(false.sum()), found)
    chosen = np.flatnonzero(false & (rng.random(len(world)) < exact))
    if not len(chosen):
        return
    part = world.take(chosen)
    try:
        proofs = ca.certify(part.build(), taken(solution, chosen), exact=True)
    except ValueError as error:
        if unsupported(error):
            return
        raise
    held_now = [(i, how) for k, i in enumerate(chosen) if (how := accepted(proofs, k, True, ACCEPTED))]
    found = [_finding(rule, words, "exact", how, world, known, solution, i) for i, how in held_now[:3]]
    tally.add(rule, "exact", len(chosen), found)


def taken(claim: Any, k: Array) -> Any:
    """The claims of these items; of a bare η the rows."""
    rows = torch.tensor(k)

    def cut(entry: Any) -> Any:
        return entry[rows] if isinstance(entry, Tensor) else None if entry is None else tuple(map(cut, entry))

    if isinstance(claim, Tensor):
        return claim[rows]
    extra = {name: cut(getattr(claim, name, None)) for name in GIVEN}
    extra = {name: entry for name, entry in extra.items() if entry is not None}
    return ca.Solution(claim.eta[rows], claim.codes[rows], cut(claim.multipliers), **extra)


def _beyond(world: World, known: Truth, certificate: Any) -> Array:
    """Whether the bound is beyond the optimum: no multiplier may do that. Only where there is an η."""
    unit = world.unit if world.kind == "min_norm" else world.unit * world.slope
    with np.errstate(invalid="ignore", over="ignore"):
        bound = certificate.dual.numpy() / unit
        slack = 1e-8 * _size(world, known)
        if world.kind == "min_norm":
            slack = 1e-8 * np.where(np.isfinite(known.most), np.abs(known.most), 0.0) + 1e-12
        there = known.there & ~world.broken & (known.most < INF)
        if world.kind == "operator":
            return np.asarray(there & (bound < known.least - slack))
        return np.asarray(there & (bound > np.where(known.falls, -1e30, known.most) + slack))


def _finding(
    rule: int, words: str, mode: str, what: str, world: World, known: Truth, solution: ca.Solution, i: Any
) -> Finding:
    """One item in numbers."""
    one = world.take([i])
    program = {name: getattr(one, name)[0].tolist() for name in ("value", "gradient", "unit", "slope")}
    sets = [_shown(shape.times(one.unit)) for shape in one.shapes]
    claim = {"status": solution.status[i].name, "η": solution.eta[i].tolist()}
    claim["u"] = [part[i].tolist() for part in solution.multipliers]
    for name in ("inside", "ray"):
        if isinstance(entry := getattr(solution, name, None), Tensor):
            claim[name] = entry[i].tolist()
    optimum = f"optimum in [{known.least[i]:.9g}, {known.most[i]:.9g}] × units"
    why = f"{optimum}; {one.kind} p = {one.p:g} {one.dtype} {program} {sets}; {claim}"
    return Finding(rule, words, mode, what, why)


def _shown(shape: Shape) -> dict[str, Any]:
    """A set of one item in numbers."""
    numbers = {name: entry for name, entry in vars(shape).items() if entry is not None}
    arrays = {name: entry.tolist() for name, entry in numbers.items() if isinstance(entry, np.ndarray)}
    return numbers | {name: entry if name == "fixed" else entry[0] for name, entry in arrays.items()}
