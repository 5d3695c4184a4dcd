"""Right answers, which must hold: closed forms in four dtypes, solvers at their own tolerance, textbook steps.

What is refused although an oracle calls it right is listed with the judge's sentence; what a solver got wrong is not
counted as right.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from scipy.optimize import linprog

import convexattack as ca
from verification.judge.duals import duals
from verification.judge.fuzz import clearly_false, taken
from verification.judge.planes import Truth, objective, truth
from verification.judge.trial import accepted, unsupported
from verification.judge.worlds import Array, World, drawn
from verification.judge.wrong.row import ACCEPTED

__all__ = ["ENOUGH", "FAMILIES", "Rates", "family"]

ENOUGH = 0.995
ANSWERS = ("OPTIMAL", "FEASIBLE", "INFEASIBLE", "UNBOUNDED", "BRACKETED")
D = torch.float64
INF = math.inf


@dataclass
class Rates:
    """How many right answers were tried and held, by (mode, status, set); and sentences for those that did not.

    `unanswered`: items of which the solver claimed nothing; `faulty`: claims that the oracle does not call right.
    """

    tried: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    held: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    mute: list[str] = field(default_factory=list)
    unanswered: Counter[str] = field(default_factory=Counter)
    faulty: Counter[str] = field(default_factory=Counter)

    def total(self, mode: str, column: int = 0, name: str = "") -> tuple[int, int]:
        """(tried, held) in one mode, of one status (column 1) or set (column 2, alone or with others), or of all."""
        keys = [key for key in self.tried if key[0] == mode and (not column or name in key[column].split(" + "))]
        return sum(self.tried[key] for key in keys), sum(self.held[key] for key in keys)

    def names(self, column: int) -> list[str]:
        """The statuses (1) or sets (2) that were tried."""
        return sorted({name for key in self.tried for name in key[column].split(" + ")})

    def short(self) -> list[str]:
        """Which rates are too low: the totals, and those of a status or set that was tried 200 times."""
        groups = [(mode, 0, "") for mode in ("float64", "exact")]
        groups += [
            (mode, column, name) for mode in ("float64", "exact") for column in (1, 2) for name in self.names(column)
        ]
        found = []
        for mode, column, name in groups:
            tried, held = self.total(mode, column, name)
            if held < ENOUGH * tried and (not column or tried >= 200):
                found.append(f"{mode}, {name or 'all'}: {held:,} of {tried:,} right answers hold")
        return found


@dataclass(frozen=True)
class Batch:
    """Right answers to judge: a name for the sets, the program, the claim, and which item is right (None: all are)."""

    name: str
    program: Any
    claim: Any
    right: Callable[[int], bool] | None = None
    again: Callable[[Any], tuple[Any, Any]] | None = None  # program and claim of these items


def judged(batch: Batch, exact: float, rng: np.random.Generator, rates: Rates) -> int:
    """Judge all items in float64, a share of them exactly; how many were judged."""
    certificate = ca.certify(batch.program, batch.claim)
    held, names = certificate.holds().numpy(), _statuses(batch)
    sentences = getattr(certificate, "why", None)
    for i, name in enumerate(names):
        _counted("float64", batch, i, name, bool(held[i]), "" if sentences is None else str(sentences[i]), "", rates)
    chosen = np.flatnonzero(rng.random(len(names)) < exact)
    if len(chosen):
        program, claim = (
            batch.again(chosen) if batch.again else (batch.program[torch.tensor(chosen)], taken(batch.claim, chosen))
        )
        try:
            proofs = ca.certify(program, claim, exact=True)
        except ValueError as error:
            if unsupported(error):
                return len(names)
            raise
        for k, i in enumerate(chosen.tolist()):
            good, proof = bool(accepted(proofs, k, True, ACCEPTED)), proofs.proofs[k]
            _counted("exact", batch, i, names[i], good, proof.why, proof.verdict.name, rates)
    return len(names)


def _statuses(batch: Batch) -> list[str]:
    if isinstance(batch.claim, ca.Solution):
        return [status.name for status in np.atleast_1d(batch.claim.status)]
    return ["OPTIMAL"] * len(batch.claim)


def _counted(mode: str, batch: Batch, i: Any, status: str, good: bool, why: str, verdict: str, rates: Rates) -> None:
    if status not in ANSWERS:
        rates.unanswered[f"{batch.name}, {status}"] += mode == "float64"
        return
    if not good and batch.right is not None and not batch.right(i):
        rates.faulty[f"{mode}, {batch.name}, {status}"] += 1
        return
    key = mode, status, batch.name.split(":")[-1].strip()
    rates.tried[key] += 1
    rates.held[key] += good
    if not good:
        rates.refused.append(f"{mode}, {batch.name}, item {i}, {status}: {verdict} {why}")
        if not why.strip() or verdict not in ("", "UNDECIDED"):
            rates.mute.append(rates.refused[-1])


# --- what an oracle calls right ---------------------------------------------------------------------------------------


def _right(world: World, known: Truth, claim: ca.Solution) -> Callable[[int], bool]:
    """Whether item i is right by the oracle, with room to spare."""
    limit = 0.3 * ca.Tolerance().at(world.dtype)
    eta = claim.eta.to(D).numpy() / world.unit[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        worth, away = objective(world, np.nan_to_num(eta)), world.outside(eta)
        unit = np.abs(known.most) if world.kind in ("min_norm", "operator") else world.varies()
        near = (np.abs(worth - known.least) <= limit * unit) | (world.kind == "gn") | (world.kind == "operator")
        if world.kind == "min_norm":
            left = world.value + (world.gradient * np.nan_to_num(eta)).sum(1)
            near &= left <= limit * np.abs(world.value)
    names = [status.name for status in np.atleast_1d(claim.status)]
    wrong = np.array(
        [bool(clearly_false(world.take([i]), _one(known, i), names[i], eta[[i]])[0]) for i in range(len(world))]
    )

    def right(i: int) -> bool:
        if world.broken[i] or wrong[i]:
            return False
        match names[i]:
            case "INFEASIBLE":
                return bool(known.nowhere[i] or (world.kind == "gn" and known.least[i] > limit * unit[i]))
            case "UNBOUNDED":
                return bool(known.falls[i])
        return bool(known.there[i] and near[i] and away[i] <= limit and np.isfinite(unit[i]))

    return right


def _one(known: Truth, i: int) -> Truth:
    return Truth(
        *(
            getattr(known, name)[[i]]
            for name in ("least", "most", "there", "nowhere", "falls", "bounded", "eta", "inside")
        )
    )


def _solve(program: Any, solver: str | None = None) -> ca.Solution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ca.solve(program) if solver is None else ca.solve(program, solver)


def _named(world: World) -> str:
    return (
        " + ".join(
            sorted({f"{shape.name} {shape.p:g}" if shape.name == "ball" else shape.name for shape in world.shapes})
        )
        or "no set"
    )


def _world(
    rng: np.random.Generator, n: int, room: str, kind: str, solver: str | None = None, texts: bool = False
) -> Batch:
    world = drawn(rng, n, kind, room, texts)
    known, program = truth(world, room), world.build()
    claim = _solve(program, solver)

    return _batch(f"{kind} {_word(world.dtype)} {solver or ''}", world, known, claim)


def _batch(label: str, world: World, known: Truth, claim: ca.Solution) -> Batch:
    def again(k: Any) -> tuple[Any, Any]:
        return world.take(k).build(), taken(claim, k)

    return Batch(f"{label}: {_named(world)}", world.build(), claim, _right(world, known, claim), again)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- families --------------------------------------------------------------------------------------------------------


def by_hand(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """The oracle's own optima, with multipliers from the rows that are met: no solver of the package takes part."""
    for kind in ("gnii", "gn", "min_norm", "hinges"):
        room = "plane" if kind == "hinges" else str(rng.choice(["ball", "plane", "space"]))
        world = drawn(rng, max(4, n // 8), kind, room)
        known = truth(world, room)
        good, parts = duals(world, known)
        status = ca.Status.FEASIBLE if kind == "gn" else ca.Status.OPTIMAL
        codes = np.where(good, status.code, ca.Status.FAILED.code)
        if kind == "gn":
            clear = known.least < -1e-9 * (1 + np.abs(world.value))
            codes = np.where(clear, codes, ca.Status.FAILED.code)
        eta = torch.tensor(known.eta * world.unit[:, None])  # float64: rounding it further is a solver's art
        inside = torch.tensor(known.inside * world.unit[:, None])
        claim = ca.Solution(eta, torch.tensor(codes).to(torch.int8), tuple(map(torch.tensor, parts)), inside=inside)
        yield _batch(f"{kind} {_word(world.dtype)} by hand", world, known, claim)


def closed(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """One ball and a box, by whatever the package finds fastest; all kinds and dtypes."""
    for kind in ("gnii", "gn", "min_norm", "operator"):
        yield _world(rng, n, "ball", kind)


def rows(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """Rows, masks, weights, groups, differences: two and three entries."""
    for kind in ("gnii", "gn", "min_norm", "hinges"):
        yield _world(rng, n // 4, str(rng.choice(["plane", "space"])), kind)


def conic(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """The same from solvers that stop early."""
    for kind in ("gnii", "gn", "min_norm", "hinges"):
        yield _world(rng, n // 16, "plane", kind, str(rng.choice(["CLARABEL", "SCS"])))
    for kind in ("gnii", "min_norm"):
        world = "space"  # no disk there: HiGHS will do
        yield _world(rng, n // 16, world, kind, "HIGHS")


def texts(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """A user's own text beside other sets."""
    yield _world(rng, n // 16, "plane", "gnii", texts=True)


def steps(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """Textbook steps as everybody writes them, with nothing but η."""
    dtype = torch.float32 if rng.random() < 0.5 else D
    d = int(rng.choice([2, 10, 100, 784]))
    g = torch.tensor(rng.standard_normal((n, d))).to(dtype)
    g = torch.where(torch.tensor(rng.random((n, d)) < 0.2), 0.0, g)
    g[:, 0] = torch.where((g == 0).all(1), 1.0, g[:, 0])
    eps, value = float(rng.choice([0.1, 8 / 255, 0.5, 3.0])), torch.tensor(rng.standard_normal(n)).to(dtype)
    word = _word(dtype)

    def ball(p: float) -> Any:
        return ca.GNII(value, g, (ca.Ball(ca.Lp(p), eps),))

    yield Batch(f"step {word}: −ε·g/‖g‖", ball(2), -eps * g / g.norm(dim=1, keepdim=True))
    yield Batch(f"step {word}: −ε·sign g", ball(INF), -eps * g.sign())
    top = torch.zeros_like(g).scatter(1, g.abs().argmax(1, keepdim=True), 1.0)
    yield Batch(f"step {word}: the steepest entry", ball(1), -eps * g.sign() * top)
    x = torch.tensor(rng.random((n, d))).to(dtype)
    clipped = (x - eps * g.sign()).clamp(0, 1) - x
    box = ca.Box(-x.to(D), 1 - x.to(D))
    yield Batch(f"step {word}: sign, clipped", ca.GNII(value, g, (ca.Ball(ca.Lp(INF), eps), box)), clipped)
    positive = value.abs() + 0.1
    yield Batch(
        f"step {word}: −L·g/‖g‖²",
        ca.MinNorm(positive, g, ca.Lp(2)),
        -positive[:, None] * g / (g * g).sum(1, keepdim=True),
    )


def linear(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """SciPy's linprog, asked here: η and multipliers from its marginals."""
    world = _linear_world(rng, max(4, n // 8))
    known = truth(world, "space" if world.d == 3 else "plane")
    eta, parts = np.full((len(world), world.d), np.nan), [np.zeros((len(world), r)) for r in _row_counts(world)]
    codes = np.full(len(world), ca.Status.FAILED.code)
    for i in range(len(world)):
        found = _linprog(world.take([i]))
        if found is not None:
            eta[i], codes[i] = found[0], ca.Status.OPTIMAL.code
            for part, u in zip(parts, found[1], strict=True):
                part[i] = u
    claim = ca.Solution(torch.tensor(eta), torch.tensor(codes).to(torch.int8), tuple(map(torch.tensor, parts)))
    yield _batch("gnii scipy", world, known, claim)


def _linear_world(rng: np.random.Generator, n: int) -> World:
    while True:
        world = drawn(rng, n, "gnii", str(rng.choice(["plane", "space"])))
        good = all(
            shape.name in ("box", "halfspaces", "equalities", "support") or (shape.name == "ball" and shape.p == INF)
            for shape in world.shapes
        )
        if good and world.dtype == D and (world.unit == 1).all():
            return world


def _row_counts(world: World) -> list[int]:
    return [np.asarray(shape.rows).shape[1] if shape.rows is not None else world.d for shape in world.shapes]


def _linprog(one: World) -> tuple[Array, list[Array]] | None:
    blocks = [shape.planes(1, one.d) for shape in one.shapes]
    A = np.concatenate([a[0] for block in blocks for a, _ in block])
    b = np.concatenate([right[0] for block in blocks for _, right in block])
    keep = np.isfinite(b)
    found = linprog(one.gradient[0], A[keep], b[keep], bounds=(None, None), method="highs")
    if found.status != 0:
        return None
    y = np.zeros(len(b))
    y[keep] = -found.ineqlin.marginals
    parts, at = [], 0
    for shape, block in zip(one.shapes, blocks, strict=True):
        size = sum(len(a[0]) for a, _ in block)
        mine, at = y[at : at + size], at + size
        parts.append(mine if shape.name == "halfspaces" else mine[: size // 2] - mine[size // 2 :])
    return np.asarray(found.x), parts


def larger(rng: np.random.Generator, n: int) -> Iterator[Batch]:
    """Sets of images of 4 × 4, and several balls at once."""
    few, d = max(4, n // 16), 16
    g = torch.tensor(rng.standard_normal((few, d)))
    g = torch.where(torch.tensor(rng.random((few, d)) < 0.3), 0.0, g)
    value = torch.tensor(rng.standard_normal(few))
    x = torch.tensor(rng.random((few, d)).round(1))
    pixels, labels = ca.PixelRange(0.0, 1.0).at(x), torch.arange(d) // 4
    mask = torch.tensor(rng.random(d) < 0.6)
    A, b = torch.tensor(rng.integers(-1, 2, (2, d)).astype(float)), torch.tensor([0.5, 1.0], dtype=D)
    cases: dict[str, tuple[Any, ...]] = {
        "two balls": (ca.Ball(ca.Lp(2), 0.5), ca.Ball(ca.Lp(INF), 0.2), pixels),
        "three balls": (ca.Ball(ca.Lp(1), 1.0), ca.Ball(ca.Lp(2), 0.5), ca.Ball(ca.Lp(INF), 0.3)),
        "groups, ℓ1": (ca.GroupBall(labels, 0.5), pixels),
        "groups, ℓ∞": (ca.GroupBall(labels, 0.5, outer=INF), pixels),
        "total variation, 4 × 4": (ca.TotalVariation((4, 4), 0.5), ca.Ball(ca.Lp(INF), 0.2)),
        "isotropic total variation": (ca.TotalVariation((4, 4), 0.5, isotropic=True), ca.Ball(ca.Lp(INF), 0.2)),
        "mask and ball": (ca.Support(mask), ca.Ball(ca.Lp(2), 0.5)),
        "equalities and ball": (ca.Affine(A, 0 * b), ca.Ball(ca.Lp(2), 0.5), pixels),
        "halfspaces and ball": (ca.Halfspaces(A, b), ca.Ball(ca.Lp(2), 0.5), pixels),
        "weights and range": (ca.WeightedBall(ca.Lp(2), torch.linspace(0.5, 2, d, dtype=D), 0.5), pixels),
        "a text with a cone": (
            ca.CustomSet(lambda eta: [cp.norm(eta, 2) <= 0.5, cp.sum(eta) == 0]),
            ca.Ball(ca.Lp(INF), 0.3),
        ),
        "a text with its own unknowns": (
            ca.CustomSet(lambda eta: [cp.sum_largest(cp.abs(eta), 3) <= 0.5]),
            ca.Ball(ca.Lp(INF), 0.3),
        ),
    }
    chosen = rng.choice(list(cases), size=3, replace=False)
    for name in map(str, chosen):
        program: Any = ca.GNII(value, g, cases[name])
        if rng.random() < 0.3:
            program = ca.MinNorm(value.abs() * 0.1, g, ca.Lp(2), cases[name])
        yield Batch(f"{type(program).__name__} float64: {name}", program, _solve(program))


FAMILIES: dict[str, Callable[[np.random.Generator, int], Iterator[Batch]]] = {
    "by hand": by_hand,
    "closed": closed,
    "rows": rows,
    "conic": conic,
    "texts": texts,
    "steps": steps,
    "linear": linear,
    "larger": larger,
}


def family(name: str, rng: np.random.Generator, n: int, exact: float, rates: Rates) -> int:
    """One round of a family: batches of about n items; how many were judged."""
    return sum(judged(batch, exact, rng, rates) for batch in FAMILIES[name](rng, n))
