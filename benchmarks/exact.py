"""Exact certificates: time an item, over an item's float64 certificate, and what they said.

An item is random, solved by the closed form (by the relaxation, for (9)) and certified alone; times are those of the
processor, so that other work on the machine does not count. The targets, at d = 784, are 20 ms without a box, 50 ms
with one, and 1 s for (9) with m = 10.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import convexattack as ca
from benchmarks import pages, results, subjects
from benchmarks.results import Sheet

__all__ = ["Row", "add_parser", "measure", "run"]

NORMS = (1, 1.5, 2, 3, math.inf)
DTYPES = {"float64": torch.float64, "float32": torch.float32}
OUTPUTS = 10
WANTED = {False: 0.020, True: 0.050}
WANTED_NORM = 1.0


@dataclass(frozen=True)
class Row:
    """One program, norm and dtype.

    Attributes:
        seconds, low, high: an exact certificate, an item: median and quartiles over the items.
        plain: a float64 certificate, one item alone.
        verdicts: how many items were PROVED, REFUTED, UNDECIDED.
        gap: the largest upper end of an enclosed gap, relative.
    """

    program: str
    p: str
    box: bool
    dtype: str
    d: int
    seconds: float
    low: float
    high: float
    plain: float
    verdicts: dict[str, int]
    gap: float
    wanted: float


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "exact",
        help="how long an exact certificate takes",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="leaves exact.json and exact.md in --out.\n\n"
        "examples:\n"
        "  python -m benchmarks exact --items 3   seconds\n"
        "  python -m benchmarks exact             a minute",
    )
    parser.add_argument("--items", type=subjects.count, default=16, metavar="N", help="of each row (default: 16)")
    parser.add_argument("--dim", type=subjects.count, default=784, metavar="D", help="inputs (default: 784)")


def run(given: argparse.Namespace, command: str) -> int:
    """Exit status: 0, 130 after Ctrl-C."""
    rows: list[Row] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with subjects.progress_bar() as progress:
            cases = list(_cases(given.dim, given.items))
            bar = progress.add_task("", total=len(cases))
            for name, p, box, dtype, program in cases:
                progress.update(bar, description=f"{name}, p = {p:g}{', box' if box else ''}, {dtype}")
                rows.append(measure(name, p, box, dtype, program))
                progress.advance(bar)
    except KeyboardInterrupt:
        print(
            f"interrupted after {len(rows)} rows; nothing was written, what stands in {given.out} is an earlier run's",
            file=sys.stderr,
        )
        return pages.INTERRUPTED
    finally:
        torch.set_num_threads(threads)
    _save(given, rows, command)
    return 0


def measure(name: str, p: float, box: bool, dtype: str, program: ca.Program | ca.OperatorNorm) -> Row:
    """Certify item by item."""
    solution = ca.solve(program)
    exact, plain, verdicts, gap = [], [], Counter({verdict.name: 0 for verdict in ca.Verdict}), 0.0
    for i in range(len(program)):
        one, claim = program[i : i + 1], ca.Solution(
            solution.eta[i : i + 1], solution.codes[i : i + 1], tuple(part[i : i + 1] for part in solution.multipliers)
        )  # fmt: skip
        start = time.process_time()
        ca.certify(one, claim)
        middle = time.process_time()
        found = ca.certify(one, claim, exact=True)
        plain.append(middle - start)
        exact.append(time.process_time() - middle)
        verdicts.update(verdict.name for verdict in found.verdict)
        gap = max(gap, float(found.gap.nan_to_num(0.0).max()))
    low, median, high = (
        torch.tensor(exact, dtype=torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    )
    d = solution.eta.shape[1]
    wanted = WANTED_NORM if isinstance(program, ca.OperatorNorm) else WANTED[box]
    return Row(
        name, f"{p:g}", box, dtype, d, median, low, high, sorted(plain)[len(plain) // 2], dict(verdicts), gap, wanted
    )


def _cases(d: int, n: int) -> Iterator[tuple[str, float, bool, str, ca.Program | ca.OperatorNorm]]:
    """Random programs: gradients and Jacobians are white noise, boxes the pixel range around random images."""
    random = torch.Generator().manual_seed(subjects.SEED)
    g, J = torch.randn(n, d, generator=random), torch.randn(n, OUTPUTS, d, generator=random)
    x, share = torch.rand(n, d, generator=random), torch.rand(n, generator=random)
    for dtype, kind in DTYPES.items():
        for p in NORMS:
            norm = ca.Lp(p)
            for box in (False, True):
                sets: tuple[ca.ConvexSet, ...] = (ca.PixelRange().at(x.to(kind)),) if box else ()
                radius = 0.1 * d ** (1 / p)
                value = (2 * share * 0.5 * radius * norm.dual(g)).to(kind)  # about half of these are feasible
                ball = ca.Ball(norm, radius)
                yield "(GN)", p, box, dtype, ca.GN(value, g.to(kind), (ball, *sets))
                yield "(GNII)", p, box, dtype, ca.GNII(value, g.to(kind), (ball, *sets))
                yield "(8)", p, box, dtype, ca.MinNorm(value, g.to(kind), norm, sets)
            yield "(9)", p, False, dtype, ca.OperatorNorm(J.to(kind), ball)


def _save(given: argparse.Namespace, rows: Sequence[Row], command: str) -> None:
    facts = results.about("cpu", "float64", subjects.SEED, 0, 0)
    del facts["limits"]
    facts |= {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    met = sum(row.seconds <= row.wanted for row in rows)
    said = [
        f"`{command}`, {facts['date']}.",
        f"{facts['cpu']}, {facts['cores']} cores, one of them used"
        + (f"; load average {facts['load']:.1f} at the end." if facts["load"] is not None else "."),
        "; ".join(f"{package} {version}" for package, version in facts["versions"].items()) + ".",
        f"{met} of {len(rows)} medians are at or below what was wanted; "
        f"{given.items} items a row, d = {given.dim}, m = {OUTPUTS} for (9).",
    ]  # fmt: skip
    lines = [
        (row.program, row.p, "yes" if row.box else "no", row.dtype,
         f"{1e3 * row.seconds:.1f} ({1e3 * row.low:.1f} to {1e3 * row.high:.1f})", f"{1e3 * row.wanted:g}",
         "yes" if row.seconds <= row.wanted else "no", f"{1e3 * row.plain:.1f}",
         ", ".join(f"{count} {name}" for name, count in row.verdicts.items() if count), f"{row.gap:.0e}")
        for row in rows
    ]  # fmt: skip
    columns = [
        "program",
        "p",
        "box",
        "η in",
        "exact, ms an item (quartiles)",
        "wanted",
        "met",
        "float64, ms",
        "verdicts",
        "gap, at most",
    ]
    sheet = Sheet("Certificates", columns, 4, lines)
    text = json.dumps(
        {"about": facts, "rows": [asdict(row) for row in rows]}, ensure_ascii=False, indent=1, allow_nan=False
    )
    results.write_whole(given.out / "exact.json", (text + "\n").encode())
    page = [
        "# Exact certificates",
        "  \n".join(said),
        (__doc__ or "").partition("\n\n")[2].strip(),
        results.section(sheet),
    ]
    results.write_whole(given.out / "exact.md", ("\n\n".join(page) + "\n").encode())
    results.show([sheet])
    print(f"exact.json and exact.md are in {given.out}")
