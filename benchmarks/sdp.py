"""What the relaxation of (9), ‖J‖_{∞→2}, costs: d × d as in the paper, m × m through CVXPY, the library's own solver.

| contender | what is timed |
|---|---|
| d × d, Clarabel and SCS | `program.problem(0, "primal").solve(solver=...)`, fresh, the solver's own tolerances |
| m × m, CVXPY | `ca.solve(program, "reference")`, one item |
| ours | `ca.solve(program)` on a whole batch, divided by the batch: relaxation, multipliers and rounding |

Every contender of a row takes turns with the others, so that what else the machine does falls on all alike, and a ratio
is the median over the rounds of ours. A call that takes more than a quarter of the budget is made once. The
certificate, which gives the gap, is not timed.

Data: J_ki = e^{c_i} z_ki with c_i, z_ki ~ N(0, 1), so columns of log-normal scale; ε = 1.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

import convexattack as ca
from benchmarks.results import Sheet
from benchmarks.timing import brief

__all__ = [
    "CLARABEL", "CVXPY", "DIMS", "FULL_SQUARES", "GPU", "GROWTH", "METHODS", "OURS", "SCS", "SQUARES", "Case", "Cell",
    "M", "Row", "allowed", "batch_at", "exponent", "measure", "sheets", "targets",
]  # fmt: skip

CLARABEL, SCS, CVXPY, OURS, GPU = METHODS = ("d × d, Clarabel", "d × d, SCS", "m × m, CVXPY", "ours", "ours, GPU")
M = 10
DIMS = (25, 50, 100, 784, 1_000, 3_072, 10_000, 100_000, 150_528, 1_000_000)
SQUARES = (500,)  # m = d
FULL_SQUARES = (500, 2_000)
PROBES = {CLARABEL: (20, 40), SCS: (20, 40), CVXPY: (20, 100)}  # d, measured first where nothing smaller was
SLOPES = {
    CLARABEL: (2.0, 6.0),
    SCS: (2.0, 4.0),
    CVXPY: (1.0, 1.3),
}  # of seconds in d, as far as an extrapolation may believe
ROUNDS = 7
LARGE = 500_000  # numbers of J from which the memory of a call is measured: before, it drowns in the libraries'
GROWTH = (1_000, 1_000_000)
TARGETS = [  # m, d, seconds an item, relative gap
    (M, 784, 0.003, 1e-8), (M, 3_072, 0.010, 1e-8), (M, 150_528, 0.4, 1e-8), (500, 500, 2.0, 1e-7),
    (2_000, 2_000, 60.0, 1e-6),
]  # fmt: skip

Seen = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Case:
    """What a row is about."""

    m: int
    d: int
    batch: int

    def __str__(self) -> str:
        return f"m = {self.m:,}, d = {self.d:,}"


@dataclass(frozen=True)
class Cell:
    """One contender in one row: the median of its seconds per item over `repeats` calls, or why there is none.

    Attributes:
        quartiles: the spread, seconds per item.
        difference: |bound of this contender − ours|, relative.
        gap: of the relaxation, relative, as certified, the worst of the batch.
        steps: Newton steps, the most of the batch.
        bracket: primal/dual, the median of the batch.
        peak: bytes that one call needs, J included; None where J is small, or where that cannot be read.
        not_run: the reason; "" where it was run.
    """

    method: str
    batch: int
    seconds: float | None = None
    quartiles: tuple[float, float] | None = None
    repeats: int = 0
    difference: float | None = None
    gap: float | None = None
    steps: int | None = None
    bracket: float | None = None
    peak: int | None = None
    not_run: str = ""


@dataclass(frozen=True)
class Row:
    """All contenders of one case; `ratios` maps (contender, batch of ours) to its seconds over ours."""

    case: Case
    load: float
    cells: tuple[Cell, ...]
    ratios: Mapping[tuple[str, int], float]

    def cell(self, method: str, batch: int | None = None) -> Cell | None:
        return next((cell for cell in self.cells if cell.method == method and batch in (None, cell.batch)), None)

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        ratios = [
            {"above": above, "below": OURS, "batch": batch, "value": value}
            for (above, batch), value in self.ratios.items()
        ]
        return {
            "case": asdict(self.case),
            "load": self.load,
            "cells": [asdict(cell) for cell in self.cells],
            "ratios": ratios,
        }


@dataclass(eq=False)
class _Contender:
    """`run()` returns (seconds per item, the bound it found for item 0)."""

    method: str
    batch: int
    run: Callable[[], tuple[float, float]]
    seconds: list[float] = field(default_factory=list)
    bound: float = math.nan
    not_run: str = ""
    once: bool = False

    def go(self) -> None:
        """One call; solvers raise what they like, and so does CVXPY where memory is short."""
        try:
            seconds, self.bound = self.run()
            self.seconds.append(seconds)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0][:160]
            self.not_run = f"failed: {type(error).__name__}: {first}"


def batch_at(d: int) -> int:
    """256 items, fewer where they would take more than 8 million numbers of J; 32 at d = 3,072."""
    return 256 if d <= 1_000 else 32 if d <= 10_000 else 1


def data(case: Case, seed: int) -> Tensor:
    """(batch, m, d), float64."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.randn(case.batch, 1, case.d, generator=generator, dtype=torch.float64).exp()
    return torch.randn(case.batch, case.m, case.d, generator=generator, dtype=torch.float64).mul_(scale)


def measure(
    case: Case,
    budget: float,
    gib: float,
    seen: Seen,
    seed: int = 0,
    rounds: int = ROUNDS,
    say: Callable[[str], object] = lambda _: None,
) -> Row:
    """One row.

    Args:
        budget: seconds; a call expected to take longer is not made, and no new round begins after as many.
        gib: a call expected to need more memory is not made, in GiB.
        seen: seconds of one call by contender and d, of this m; it grows, and tells what a larger d would take.
        say: told what is going on.
    """
    J = data(case, seed)
    contenders = _contenders(case, J)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inaccurate solution shows in the difference
        for one in contenders:
            say(f"{case}: {one.method}")
            one.not_run = one.not_run or _too_large(case, one.method, gib) or _too_slow(case, one, budget, seen, seed)
            if not one.not_run:
                _first(one, budget)
        begin, k = time.perf_counter(), 0
        while k < rounds and (k == 0 or time.perf_counter() - begin < budget):
            say(f"{case}: round {k + 1}")
            live = [one for one in contenders if not one.not_run and not one.once]
            for one in live if k % 2 == 0 else reversed(live):
                one.go()
            k += 1
    for one in contenders:
        if one.seconds:
            seen.setdefault(one.method, {})[case.d] = float(np.median(one.seconds)) * one.batch
    cells = tuple(_cell(case, one, J, seed) for one in contenders)
    return Row(case, os.getloadavg()[0], cells, _ratios(contenders))


def _contenders(case: Case, J: Tensor) -> list[_Contender]:
    one = ca.OperatorNorm(J[:1], _ball())

    def square(solver: str) -> Callable[[], tuple[float, float]]:
        def run() -> tuple[float, float]:
            begin = time.perf_counter()
            problem = one.problem(0, "primal")
            problem.solve(solver=solver)
            return time.perf_counter() - begin, math.sqrt(max(float(problem.value), 0.0))

        return run

    def reference() -> tuple[float, float]:
        begin = time.perf_counter()
        found = ca.solve(one, "reference")
        seconds = time.perf_counter() - begin
        if found.status[0] is ca.Status.FAILED:
            raise ArithmeticError(found.stats["words"][0])
        return seconds, float(ca.certify(one, found).dual)

    slow = [
        _Contender(CLARABEL, 1, square(cp.CLARABEL)),
        _Contender(SCS, 1, square(cp.SCS)),
        _Contender(CVXPY, 1, reference),
    ]
    if case.m == case.d:
        for contender in slow:
            contender.not_run = "not asked: m = d is about ours alone"
    ours = [_Contender(OURS, batch, _ours(J[:batch], "cpu")) for batch in sorted({1, case.batch}, reverse=True)]
    gpu = _Contender(
        GPU, case.batch, _ours(J, "cuda"), not_run="" if torch.cuda.is_available() else "this torch finds no GPU"
    )
    return [*slow, *ours, gpu]


def _ball() -> ca.Ball:
    return ca.Ball(ca.Lp(math.inf), 1.0)


def _ours(J: Tensor, device: str) -> Callable[[], tuple[float, float]]:
    def run() -> tuple[float, float]:
        program = ca.OperatorNorm(J.to(device), _ball())
        _wait(device)
        begin = time.perf_counter()
        ca.solve(program)
        _wait(device)
        return (time.perf_counter() - begin) / len(J), math.nan

    return run


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _first(one: _Contender, budget: float) -> None:
    """A call that is thrown away, as it imports and compiles, unless it is too long to be made again."""
    begin = time.perf_counter()
    one.go()
    one.once = time.perf_counter() - begin > budget / 4
    if not one.once:
        one.seconds.clear()


# --- what is not run --------------------------------------------------------------------------------------------------


def _too_large(case: Case, method: str, gib: float) -> str:
    """Why memory forbids it; "" where it does not."""
    unknowns = case.d * (case.d + 1) // 2
    need, what = {
        CLARABEL: (
            4.0 * unknowns**2,
            f"a dense triangle for the {unknowns:,} unknowns of X in Clarabel's linear system",
        ),
        SCS: (8.0 * 20 * unknowns, f"about 20 vectors of the {unknowns:,} unknowns of X"),
        CVXPY: (
            8.0 * 10 * case.d * case.m**2,
            f"about ten sparse copies of the {case.d:,} × {case.m**2:,} matrix of the rows j_ij_iᵀ",
        ),
    }.get(method, (8.0 * case.batch * case.m * case.d * 4, "four times J"))
    return f"memory: {what}, {need / 2**30:,.1f} GiB; the limit is {gib:g} GiB" if need > gib * 2**30 else ""


def _too_slow(case: Case, one: _Contender, budget: float, seen: Seen, seed: int) -> str:
    """Why it would take too long, by a power law through the two largest smaller d; "" where not. Ours never does."""
    if one.method in (OURS, GPU):
        return ""
    known = seen.setdefault(one.method, {})
    if not any(at < case.d for at in known):
        for at in PROBES[one.method]:
            if at < case.d:
                small = Case(case.m, at, 1)
                probe = next(c for c in _contenders(small, data(small, seed)) if c.method == one.method)
                probe.go()
                if probe.seconds:
                    known[at] = probe.seconds[0]
    sizes = sorted(at for at in known if at < case.d)
    if not sizes:
        return ""
    nearest = sizes[-1]
    least, most = SLOPES[one.method]
    slope = math.log(known[nearest] / known[sizes[-2]]) / math.log(nearest / sizes[-2]) if len(sizes) > 1 else least
    expected = known[nearest] * (case.d / nearest) ** min(max(slope, least), most)
    if expected <= budget:
        return ""
    return (
        f"time: about {brief(expected)} expected, from {brief(known[nearest])} at d = {nearest:,}; the limit is "
        f"{brief(budget)}"
    )


# --- what came out ----------------------------------------------------------------------------------------------------


def _cell(case: Case, one: _Contender, J: Tensor, seed: int) -> Cell:
    if one.not_run or not one.seconds:
        return Cell(one.method, one.batch, not_run=one.not_run or "failed")
    low, middle, high = (float(x) for x in np.quantile(one.seconds, (0.25, 0.5, 0.75)))
    cell = Cell(one.method, one.batch, middle, (low, high), len(one.seconds))
    device = {OURS: "cpu", GPU: "cuda"}.get(one.method)
    if device is None:
        first = ca.OperatorNorm(J[:1], _ball())
        bound = float(ca.certify(first, ca.solve(first)).dual)
        return Cell(**{**asdict(cell), "difference": abs(one.bound / bound - 1)})
    program = ca.OperatorNorm(J[: one.batch].to(device), _ball())
    found = ca.solve(program)
    certificate = ca.certify(program, found)
    more = {
        "gap": float(certificate.gap.max()), "steps": int(found.stats["newton_steps"].max()),
        "bracket": float((certificate.primal / certificate.dual).median()),
        "peak": _peak(case, seed, device) if one.batch == case.batch else None,
    }  # fmt: skip
    return Cell(**{**asdict(cell), **more})


def _peak(case: Case, seed: int, device: str) -> int | None:
    """Bytes that one call needs, J included: of the GPU, or of a process of its own as Linux counts it; None elsewhere.

    A process that has solved before would fill its own holes again, and seem to need nothing.
    """
    size = 8 * case.batch * case.m * case.d
    if device == "cuda":
        program = ca.OperatorNorm(data(case, seed).to(device), _ball())
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        ca.solve(program)
        return int(torch.cuda.max_memory_allocated() - before) + size
    if size < 8 * LARGE or not Path("/proc/self/clear_refs").exists():
        return None
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        more = alone.submit(_peak_here, case, seed, torch.get_num_threads()).result()
    return None if more is None else size + more


def _peak_here(case: Case, seed: int, threads: int) -> int | None:
    torch.set_num_threads(threads)
    ca.solve(ca.OperatorNorm(data(Case(case.m, 100, 1), seed), _ball()))  # imports
    program = ca.OperatorNorm(data(case, seed), _ball())
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
        before = _resident("VmRSS")
    except OSError:
        return None
    ca.solve(program)
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def _ratios(contenders: Sequence[_Contender]) -> dict[tuple[str, int], float]:
    found = {}
    for ours in contenders:
        if ours.method == OURS and ours.seconds:
            for other in contenders:
                if other.method != OURS and other.seconds and not other.not_run:
                    rounds = range(len(ours.seconds))
                    quotients = [other.seconds[min(k, len(other.seconds) - 1)] / ours.seconds[k] for k in rounds]
                    found[other.method, ours.batch] = float(np.median(quotients))
    return found


def exponent(rows: Sequence[Row], method: str = OURS) -> float | None:
    """The least-squares slope of log(seconds per item) against log d, m = 10, d ≥ 1,000; None for fewer than two d."""
    cells = [
        (row.case.d, row.cell(method, row.case.batch))
        for row in rows
        if row.case.m == M and GROWTH[0] <= row.case.d <= GROWTH[1]
    ]
    points = [(math.log(d), math.log(cell.seconds)) for d, cell in cells if cell is not None and cell.seconds]
    return float(np.polyfit(np.array(points)[:, 0], np.array(points)[:, 1], 1)[0]) if len(points) > 1 else None


def allowed(case: Case) -> float:
    """Bytes: 3 times J's own and d·m(m+1)/2 numbers."""
    return 8.0 * case.batch * case.d * (3 * case.m + case.m * (case.m + 1) / 2)


def targets(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What was wanted, and what was measured; a target whose row is not there has no value."""
    at = {(row.case.m, row.case.d): row for row in rows}
    found = []

    def add(what: str, sense: str, wanted: float, measured: float | None) -> None:
        met = None if measured is None else measured <= wanted if sense == "at most" else measured >= wanted
        found.append({"what": what, "wanted": f"{sense} {wanted:g}", "measured": measured, "met": met})

    for m, d, seconds, gap in TARGETS:
        row = at.get((m, d))
        cell = row.cell(OURS, row.case.batch) if row else None
        name = f"m = {m:,}, d = {d:,}" + (f", batch {cell.batch:,}" if cell and cell.batch > 1 else "")
        add(f"ours, seconds an item, {name}", "at most", seconds, cell.seconds if cell else None)
        add(f"ours, relative gap, {name}", "at most", gap, cell.gap if cell else None)
    row = at.get((M, 100))
    for method, wanted in ((SCS, 300.0), (CLARABEL, 20_000.0)):
        add(
            f"{method} / ours, m = {M}, d = 100",
            "at least",
            wanted,
            row.ratios.get((method, row.case.batch)) if row else None,
        )
    for row in rows:
        cell = row.cell(OURS, row.case.batch)
        if row.case.m == M and row.case.d >= 100_000 and cell and cell.peak is not None:
            add(
                f"ours, peak memory / (3 J + d·m(m+1)/2 numbers), {row.case}",
                "at most",
                1.0,
                cell.peak / allowed(row.case),
            )
    add("ours, growth exponent of seconds in d, 1e3 to 1e6", "at most", 1.1, exponent(rows))
    return found


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """Targets, times and ratios, what was not run."""
    wanted = [
        (
            t["what"],
            t["wanted"],
            _text(t["measured"], ".3g").replace("–", "not measured"),
            {None: "–", True: "yes", False: "no"}[t["met"]],
        )
        for t in targets(rows)
    ]
    columns = [
        "m",
        "d",
        *METHODS[:3],
        "ours, batch 1",
        "batch",
        "ours",
        "ours, GPU",
        "gap",
        "steps",
        "primal / dual",
        "peak / J",
    ]
    columns += [f"{method} / ours" for method in METHODS[:3]]
    lines = []
    for row in rows:
        batch = row.case.batch
        ours = row.cell(OURS, batch) or Cell(OURS, batch)
        size = 8 * batch * row.case.m * row.case.d
        lines.append((
            f"{row.case.m:,}", f"{row.case.d:,}", *(_time(row.cell(method)) for method in METHODS[:3]),
            _time(row.cell(OURS, 1)), f"{batch:,}", _time(ours), _time(row.cell(GPU)),
            _text(ours.gap, ".1e"), _text(ours.steps, "d"), _text(ours.bracket, ".4f"),
            _text(ours.peak and ours.peak / size, ".2f"),
            *(_times(row.ratios.get((method, batch))) for method in METHODS[:3]),
        ))  # fmt: skip
    found = [
        Sheet("Targets", ["what", "wanted", "measured", "met"], 2, wanted),
        Sheet("Time per item (median)", columns, 1, lines),
    ]
    accuracy = [
        (str(row.case), cell.method, f"{cell.difference:.1e}", str(cell.repeats))
        for row in rows for cell in row.cells if cell.difference is not None
    ]  # fmt: skip
    idle = [(str(row.case), cell.method, cell.not_run) for row in rows for cell in row.cells if cell.not_run]
    if accuracy:
        found.append(
            Sheet("Their bound against ours, relative", ["row", "contender", "difference", "calls"], 2, accuracy)
        )
    if idle:
        found.append(Sheet("Not run, or failed", ["row", "contender", "why"], 3, idle))
    return found


def _time(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    if cell.seconds is None:
        return "failed" if cell.not_run.startswith("failed") else "not run"
    return brief(cell.seconds)


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
