"""Seconds per item of the closed form and of CVXPY, on the same random programs.

One row is (program, p, box or not, d). In each of its rounds every contender runs once, in changing order, so that
other load falls on all alike; a ratio is formed within a round, and what is reported is its median over rounds.

| contender | what is timed |
|---|---|
| closed form | `ca.solve(program, "closed_form")` on a whole batch, divided by the batch |
| fresh | `program.problem(i).solve(solver=...)`: a new CVXPY problem, with the solver that "reference" picks |
| re-solve | `ca.solve(program, "reference")`, the parametrized program being compiled: `stats["seconds"]` of one item |
| bare | the solver's own call on data that are ready, for that same item |

The closed form of (GN) includes the proof of its verdict (`GN.decide`); `stats["seconds"]` of a re-solve does not.

Data: g_i ~ N(0, 1), images uniform in [0, 1]^d, ε = 0.1·d^{1/p}, L uniform in [0.05, 0.15]·‖g‖₁; the box is the pixel
range of the image. So (GN) is feasible for some items and not for others, and ball and box both bind.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import convexattack as ca
from convexattack.solvers.conic import bare

__all__ = [
    "BARE", "CLOSED", "FRESH", "ITEMS", "METHODS", "PROGRAMS", "RESOLVE", "Case", "Cell", "Limits", "Ratio", "Row",
    "Seen", "brief", "measure", "note",
]  # fmt: skip

CLOSED, FRESH, RESOLVE, BARE = METHODS = ("closed form", "fresh", "re-solve", "bare")
PROGRAMS = {"gn": "(GN)", "gnii": "(GNII)", "min-norm": "(8)"}
ITEMS = 4  # distinct items that CVXPY is timed on, one a round
LEAST = 0.005  # s; a shorter call is repeated until it takes as long
ARRAYS = {
    False: 16,
    True: 40,
}  # of shape (batch, d), float64, that the closed form holds at its peak, without and with a box
PROBE = 64  # how much smaller than d a program is that tells whether d is affordable, where nothing else does

Seen = dict[tuple[str, str, bool, str], dict[int, float]]


@dataclass(frozen=True)
class Case:
    """What a row is about. `p` is "1", "2", "inf" ...: JSON has no infinity."""

    program: str
    p: str
    box: bool
    d: int

    def __str__(self) -> str:
        return f"{PROGRAMS[self.program]} p = {self.p}, {'box, ' if self.box else ''}d = {self.d:,}"

    def make(self, value: Tensor, gradient: Tensor, image: Tensor) -> ca.Program:
        norm = ca.Lp(float(self.p))
        box = (ca.PixelRange(0.0, 1.0).at(image),) if self.box else ()
        if self.program == "min-norm":
            return ca.MinNorm(value, gradient, norm, box)
        ball = ca.Ball(norm, 0.1 * self.d ** (1 / norm.p))
        return (ca.GN if self.program == "gn" else ca.GNII)(value, gradient, (ball, *box))


@dataclass(frozen=True)
class Limits:
    """What a row may cost.

    Attributes:
        seconds: a call expected to take longer is not run; after as many seconds no new round begins.
        gib: a call expected to need more memory is not run, in GiB.
        least, most: rounds.
    """

    seconds: float
    gib: float
    least: int = 3
    most: int = 15


@dataclass(frozen=True)
class Cell:
    """One contender in one row: the median of its seconds per item over `repeats` rounds, or why there is none.

    Attributes:
        batch: 1 for CVXPY, which goes item by item.
        quartiles, fastest: the spread, seconds per item.
        statuses: what came out, and how often (of each item of the batch for the closed form).
        difference: worst |objective − objective of the closed form|, relative as in `certify`.
        not_run: the reason; "" where it was run.
    """

    method: str
    batch: int
    seconds: float | None = None
    quartiles: tuple[float, float] | None = None
    fastest: float | None = None
    repeats: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    difference: float | None = None
    not_run: str = ""


@dataclass(frozen=True)
class Ratio:
    """above/below: the median over rounds of the quotient within a round, and its quartiles."""

    above: str
    below: str
    batch: int
    value: float
    quartiles: tuple[float, float]


@dataclass(frozen=True)
class Row:
    """All contenders of one case; `solver` is CVXPY's, `load` the machine's load average when the row was done."""

    case: Case
    solver: str
    rounds: int
    load: float
    cells: tuple[Cell, ...]
    ratios: tuple[Ratio, ...]

    def cell(self, method: str, batch: int = 1) -> Cell | None:
        return next((cell for cell in self.cells if (cell.method, cell.batch) == (method, batch)), None)

    def ratio(self, above: str, below: str, batch: int = 1) -> Ratio | None:
        return next((r for r in self.ratios if (r.above, r.below, r.batch) == (above, below, batch)), None)


@dataclass(eq=False)
class _Contender:
    """`run(k)` does round k and returns (seconds per item, statuses, difference)."""

    method: str
    batch: int
    run: Callable[[int], tuple[float, Mapping[str, int], float | None]]
    not_run: str = ""
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    difference: float | None = None

    def go(self, k: int) -> float:
        """Round k; a failure counts as NaN seconds and as a status."""
        try:
            seconds, statuses, difference = self.run(k)
        except Exception as error:  # solvers raise what they like; so does CVXPY where memory is short
            seconds, statuses, difference = math.nan, {f"{type(error).__name__}: {_first_line(str(error))}": 1}, None
        self.seconds.append(seconds)
        self.statuses.update(statuses)
        if difference is not None:
            self.difference = max(difference, self.difference or 0.0)
        return seconds

    def cell(self) -> Cell:
        good = np.array([s for s in self.seconds if s == s])
        if self.not_run or not len(good):
            why = self.not_run or "failed: " + "; ".join(self.statuses)
            return Cell(self.method, self.batch, statuses=dict(self.statuses), not_run=why)
        low, middle, high = (float(x) for x in np.quantile(good, (0.25, 0.5, 0.75)))
        return Cell(
            self.method,
            self.batch,
            middle,
            (low, high),
            float(good.min()),
            len(good),
            dict(self.statuses),
            self.difference,
        )


def measure(
    case: Case,
    batches: Sequence[int],
    limits: Limits,
    seen: Seen,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    say: Callable[[str], object] = lambda _: None,
) -> Row:
    """One row, all contenders interleaved.

    Args:
        batches: of the closed form; CVXPY goes item by item.
        limits: what is too slow or too large becomes a cell that says so.
        seen: seconds of one call by (program, p, box, method) and size, batch·d for the closed form and d for CVXPY; it
            grows, and tells what a larger one would take.
        device, dtype: of the closed form.
        seed: of the data.
        say: told what is going on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inaccurate solution is in the statuses
        affordable = [b for b in batches if not _too_large(case, b, limits)]
        contenders, solver = _contenders(case, batches, max([ITEMS, *affordable]), device, dtype, seed)
        for one in contenders:
            say(f"{case}: {one.method}{f', batch {one.batch}' if one.method == CLOSED else ''}")
            one.not_run = _too_large(case, one.batch, limits, one.method, solver) or _too_slow(
                case, one, limits, seen, device, dtype, seed
            )
            if not one.not_run:
                _warm(case, one, limits, seen)
        live = [one for one in contenders if not one.not_run]
        rounds, begin = 0, time.perf_counter()
        while live and rounds < limits.most and (rounds < limits.least or time.perf_counter() - begin < limits.seconds):
            say(f"{case}: round {rounds + 1}")
            for one in live if rounds % 2 == 0 else reversed(live):
                one.go(rounds)
            rounds += 1
    return Row(case, solver, rounds, os.getloadavg()[0], tuple(one.cell() for one in contenders), tuple(_ratios(live)))


def _contenders(
    case: Case, batches: Sequence[int], most: int, device: str, dtype: torch.dtype, seed: int
) -> tuple[list[_Contender], str]:
    value, gradient, image = _data(case, most, seed, dtype)
    answers = ca.solve(case.make(value[:ITEMS], gradient[:ITEMS], image[:ITEMS]), "closed_form")
    singles = [case.make(value[i : i + 1], gradient[i : i + 1], image[i : i + 1]) for i in range(ITEMS)]
    solver = str(
        ca.solve(replace(case, d=2).make(*_data(replace(case, d=2), 1, seed, dtype)), "reference").stats["solver"]
    )

    def difference(i: int, objective: float) -> float:
        eta = answers.eta[i : i + 1]
        one = singles[i]
        scale = one.primal(eta) if isinstance(one, ca.MinNorm) else one.L.abs() + one.scale()
        return abs(objective - float(one.primal(eta))) / float(scale)

    def closed(batch: int) -> Callable[[int], tuple[float, Mapping[str, int], None]]:
        at: list[ca.Program] = []
        loops = 1

        def run(k: int) -> tuple[float, Mapping[str, int], None]:
            nonlocal loops
            if not at:
                at.append(case.make(*(part[:batch].to(device) for part in (value, gradient, image))))
            seconds, solution = _timed(lambda: ca.solve(at[0], "closed_form"), loops, device)
            loops = max(loops, min(1000, round(LEAST / seconds)))
            return seconds / batch, Counter(status.name for status in solution.status), None

        return run

    def fresh(k: int) -> tuple[float, Mapping[str, int], float | None]:
        i = k % ITEMS

        def whole() -> Any:
            problem = singles[i].problem(0)
            problem.solve(solver=solver)
            return problem

        seconds, problem = _timed(whole)
        found = problem.value is not None and math.isfinite(problem.value)
        objective = float(problem.value) if found else math.nan
        return (
            seconds,
            {problem.status: 1},
            difference(i, -objective if case.program == "gn" else objective) if found else None,
        )

    def resolve(k: int) -> tuple[float, Mapping[str, int], float | None]:
        i = k % ITEMS
        solution = ca.solve(singles[i], "reference")
        status = solution.status[0]
        if status is ca.Status.FAILED:
            return math.nan, {_first_line(solution.stats["words"][0]): 1}, None
        return (
            float(solution.stats["seconds"][0]),
            {status.name: 1},
            difference(i, float(singles[i].primal(solution.eta))),
        )

    calls: dict[int, Callable[[], object]] = {}

    def alone(k: int) -> tuple[float, Mapping[str, int], None]:
        i = k % ITEMS
        if i not in calls:
            calls[i] = bare(singles[i], 0)
        return _timed(calls[i])[0], {}, None

    slow = [_Contender(FRESH, 1, fresh), _Contender(RESOLVE, 1, resolve), _Contender(BARE, 1, alone)]
    return [_Contender(CLOSED, batch, closed(batch)) for batch in sorted(batches)] + slow, solver


def _data(case: Case, n: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(L, g, x) of n items, on the host."""
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(n, case.d, generator=generator, dtype=torch.float64)
    image = torch.rand(n, case.d, generator=generator, dtype=torch.float64)
    value = (0.05 + 0.1 * torch.rand(n, generator=generator, dtype=torch.float64)) * gradient.abs().sum(-1)
    return value.to(dtype), gradient.to(dtype), image.to(dtype)


def _timed(call: Callable[[], Any], loops: int = 1, device: str = "cpu") -> tuple[float, Any]:
    """Seconds per call, and what the last one returned."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    for _ in range(loops):
        result = call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / loops, result


# --- what is not run --------------------------------------------------------------------------------------------------


def _too_large(case: Case, batch: int, limits: Limits, method: str = CLOSED, solver: str = "") -> str:
    """Why memory forbids it; "" where it does not."""
    if method == CLOSED:
        need = ARRAYS[case.box] * 8.0 * batch * case.d
        what = f"about {ARRAYS[case.box]} arrays of {batch:,} × {case.d:,} float64"
    elif method in (RESOLVE, BARE) and solver != "HIGHS":
        need = 8.0 * (case.d + 1) * (case.d * (3 if case.box else 1) + 1)
        what = "CVXPY compiles a parametrized cone program with 8 bytes for each pair of a variable and a parameter"
    else:
        return ""
    return (
        f"memory: {what}, {need / 2**30:,.1f} GiB; the limit is {limits.gib:g} GiB" if need > limits.gib * 2**30 else ""
    )


def _too_slow(
    case: Case, one: _Contender, limits: Limits, seen: Seen, device: str, dtype: torch.dtype, seed: int
) -> str:
    """Why it would take too long, judged by smaller ones; "" where it does not."""
    known = seen.setdefault((case.program, case.p, case.box, one.method), {})
    size = one.batch * case.d
    smaller = {at: seconds for at, seconds in known.items() if at < size}
    if size > 1000 and max(smaller, default=0) < size // PROBE:
        _probe(case, one, seen, device, dtype, seed)
        smaller = {at: seconds for at, seconds in known.items() if at < size}
    if not smaller:
        return ""
    if one.method == BARE and size in seen.get((case.program, case.p, case.box, RESOLVE), {}):
        return ""  # a part of what has just been run
    expected, nearest = (_linear if one.method == CLOSED else _power_law)(smaller, size)
    if not expected > limits.seconds:
        return ""
    at = f"{'batch × ' if one.method == CLOSED else ''}d = {nearest:,}"
    return (
        f"time: about {brief(expected)} expected, from {brief(smaller[nearest])} at {at}; the limit is "
        f"{brief(limits.seconds)}"
    )


def _linear(known: Mapping[int, float], size: int) -> tuple[float, int]:
    """(seconds, from which size): linear growth, from the most hopeful known size, as other load only adds time."""
    return min((seconds * size / at, at) for at, seconds in known.items())


def _power_law(known: Mapping[int, float], size: int) -> tuple[float, int]:
    """(seconds, from which size): a power law through the two largest known sizes, exponent in [1, 2]; else linear."""
    *rest, nearest = sorted(known)
    before = next((at for at in reversed(rest) if 2 * at <= nearest), None)
    slope = 1.0 if before is None else math.log(known[nearest] / known[before]) / math.log(nearest / before)
    return float(known[nearest] * (size / nearest) ** min(max(slope, 1.0), 2.0)), nearest


def _probe(case: Case, one: _Contender, seen: Seen, device: str, dtype: torch.dtype, seed: int) -> None:
    """Run a program that is `PROBE` times smaller, for `seen`."""
    if one.method == CLOSED:
        small, batch = (
            (case, one.batch // PROBE)
            if one.batch >= PROBE
            else (replace(case, d=max(1, case.d * one.batch // PROBE)), 1)
        )
    else:
        small, batch = replace(case, d=case.d // PROBE), 1
    contenders, _ = _contenders(small, [batch], max(ITEMS, batch), device, dtype, seed)
    _warm(small, next(c for c in contenders if c.method == one.method), Limits(math.inf, math.inf), seen)


def _warm(case: Case, one: _Contender, limits: Limits, seen: Seen) -> None:
    """Two runs that do not count: the first compiles or imports; the second, unless the first is long, tells `seen`."""
    took = []
    for k, patience in ((0, 3.0), (1, 1.0)):
        seconds = one.go(k) * one.batch
        if seconds > patience * limits.seconds:
            one.not_run = (
                f"time: {'the first' if k == 0 else 'a'} call took {brief(seconds)}; the limit is "
                f"{brief(limits.seconds)}"
            )
            return
        if seconds == seconds:
            took.append(seconds)
        if one.method != RESOLVE and seconds > limits.seconds / 4:
            break
    if not took:
        one.not_run = "failed: " + "; ".join(one.statuses)
        return
    _note(seen, case, one.method, one.batch, took[-1])
    one.seconds.clear()
    one.statuses.clear()


def note(seen: Seen, row: Row) -> None:
    """Keep what the calls of a finished row took."""
    for cell in row.cells:
        if cell.fastest is not None:
            _note(seen, row.case, cell.method, cell.batch, cell.fastest * cell.batch)


def _note(seen: Seen, case: Case, method: str, batch: int, seconds: float) -> None:
    seen.setdefault((case.program, case.p, case.box, method), {})[batch * case.d] = seconds


def _ratios(live: Sequence[_Contender]) -> list[Ratio]:
    pairs = [
        (a, b)
        for a in live
        for b in live
        if (a.method, b.method) in ((FRESH, CLOSED), (RESOLVE, CLOSED), (RESOLVE, BARE))
    ]
    found = []
    for a, b in pairs:
        quotients = np.array(a.seconds) / np.array(b.seconds)
        quotients = quotients[np.isfinite(quotients)]
        if len(quotients):
            low, middle, high = (float(x) for x in np.quantile(quotients, (0.25, 0.5, 0.75)))
            found.append(Ratio(a.method, b.method, b.batch, middle, (low, high)))
    return found


def _first_line(text: str) -> str:
    line = (text.strip().splitlines() or [""])[0]
    return line if len(line) <= 160 else line[:159] + "…"


def brief(seconds: float) -> str:
    """`4.3 µs`, `12 ms`, `3.6 s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size * 0.9995:
            return f"{seconds / size:.3g} {unit}" if seconds / size < 1000 else f"{seconds / size:,.0f} {unit}"
    return f"{seconds * 1e6:.2g} µs"
