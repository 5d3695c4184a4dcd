"""`python -m verification judge`: wrong claims that must not hold, right answers that must, in tables."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from verification.judge.edges import edged
from verification.judge.fuzz import Tally, fuzzed
from verification.judge.right import FAMILIES, Rates, family
from verification.judge.trial import Finding, tried
from verification.judge.wrong import ROWS
from verification.judge.wrong.rule_10 import CASES, records
from verification.page import write_whole

__all__ = ["Report", "main", "measured"]

INTERRUPTED = 130
BATCH = 400
SHOWN = 40
TITLES = {
    1: "the checker chooses tolerances",
    2: "every error is charged",
    3: "nothing is assumed that no set says",
    4: "a violation in units of its row",
    5: "a gap in units of what the sets allow",
    6: "a point outside buys nothing",
    7: "one item, one verdict",
    8: "types are what they are",
    9: "exact=True inherits nothing",
    10: "records are whole",
}
Say = Callable[[str, int], object]


@dataclass
class Report:
    """What came of the whole: wrong claims by hand and by fuzz, right answers."""

    by_hand: Counter[tuple[int, str]] = field(default_factory=Counter)
    found: list[Finding] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    rates: Rates = field(default_factory=Rates)

    @property
    def findings(self) -> list[Finding]:
        """Everything that held and should not have."""
        return self.found + self.tally.findings

    @property
    def good(self) -> bool:
        """Whether no wrong claim held, the rates are reached, and what was refused came with a sentence."""
        return not self.findings and not self.rates.short() and not self.rates.mute


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, 1 if a wrong claim held or too few right ones did, 2 for wrong arguments, 130 after Ctrl-C."""
    parser = _parser()
    given = parser.parse_args(arguments)
    for name in ("claims", "exact", "right", "seed"):
        if getattr(given, name) < 0:
            parser.error(f"--{name} {getattr(given, name)} must be 0 or more")
    if given.json is not None:
        try:
            with tempfile.TemporaryFile(dir=given.json.parent):
                pass
        except OSError as error:
            parser.error(f"--json {given.json} cannot be written ({error.strerror}): give a file in a folder that can")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    report = Report()
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            totals = {"by hand": 2 * len(ROWS), "records": 1 + len(CASES), "fuzz": given.claims, "right": given.right}
            if not given.records:
                del totals["records"]
            tasks = {name: progress.add_task(name, total=total) for name, total in totals.items()}
            measured(
                report, given.claims, given.exact, given.right, given.seed,
                lambda name, done: progress.update(tasks[name], completed=min(done, totals[name])),
            )  # fmt: skip
            if given.records:
                n, found = records(say=lambda: progress.advance(tasks["records"]))
                report.by_hand[10, "float64"] += n
                report.found += found
    except KeyboardInterrupt:
        print("interrupted: the tables show what was judged until then", file=sys.stderr)
        show(report)
        return INTERRUPTED
    finally:
        torch.set_num_threads(threads)
    show(report)
    if given.json is not None:
        write_whole(given.json, json.dumps(_plain(report, given), ensure_ascii=False, indent=1))
    return 0 if report.good else 1


def measured(
    report: Report, claims: int, exact: int, right: int, seed: int, say: Say = lambda name, done: None
) -> Report:
    """Fill the report: all rows in both modes, `claims` by fuzz, `exact` of them exactly, `right` right answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k, row in enumerate(ROWS):
            for j, mode in enumerate(("float64", "exact")):
                n, found = tried(row, mode == "exact")
                report.by_hand[row.rule, mode] += n
                report.found += found
                say("by hand", 2 * k + j + 1)
        rng = np.random.default_rng([seed, 1])
        share, turn = min(1.0, exact / max(1, claims)), 0
        while report.tally.total("float64") < claims:
            turn += 1
            fuzzed(rng, min(BATCH, max(16, claims // 100)), share, report.tally, texts=turn % 20 == 0)
            say("fuzz", report.tally.total("float64"))
        edged(np.random.default_rng([seed, 3]), claims // 1000, report.tally, exact > 0)
        _right(report.rates, right, min(1.0, exact / max(1, right)), np.random.default_rng([seed, 2]), say)
    return report


def _right(rates: Rates, right: int, share: float, rng: np.random.Generator, say: Say) -> None:
    """All families in turn, until enough answers were judged."""
    done = 0
    while done < right:
        for name in FAMILIES:
            done += family(name, rng, min(128, max(16, right // 100)), share, rates)
            say("right", done)


def show(report: Report) -> None:
    """The tables, and a line for everything that went wrong."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    table = Table(title="wrong claims: none may hold")
    table.add_column("rule")
    for name in ("by hand, float64", "exact", "by fuzz, float64", "exact", "held"):
        table.add_column(name, justify="right")
    for rule, title in TITLES.items():
        counts = [
            counter[rule, mode] for counter in (report.by_hand, report.tally.tried) for mode in ("float64", "exact")
        ]
        held = sum(finding.rule == rule for finding in report.findings)
        table.add_row(f"{rule}  {title}", *(f"{n:,}" for n in counts), f"[bold red]{held}[/]" if held else "0")
    console.print(table)
    table = Table(title="right answers: 99.5 % must hold")
    table.add_column("status or set")
    for name in ("float64", "held", "exact", "held"):
        table.add_column(name, justify="right")
    for column, name in [(0, "all"), *((c, name) for c in (1, 2) for name in report.rates.names(c))]:
        cells = [f"{n:,}" for mode in ("float64", "exact") for n in report.rates.total(mode, column, name)]
        table.add_row(name, *cells, end_section=column == 0)
    console.print(table)
    lines = [str(finding) for finding in report.findings] + report.rates.refused + report.rates.short()
    for line in lines[:SHOWN]:
        console.print(line, highlight=False, markup=False)
    if len(lines) > SHOWN:
        console.print(f"… and {len(lines) - SHOWN:,} more: --json FILE has them all", highlight=False)
    console.print("The judge passes." if report.good else "The judge does not pass.", highlight=False)


def _plain(report: Report, given: argparse.Namespace) -> dict[str, object]:
    """The report as JSON has it."""
    rates = report.rates

    def counted(counter: Counter[tuple[int, str]]) -> list[dict[str, object]]:
        return [{"rule": rule, "mode": mode, "claims": n} for (rule, mode), n in sorted(counter.items())]

    return {
        "good": report.good,
        "seed": given.seed,
        "by_hand": counted(report.by_hand),
        "fuzz": counted(report.tally.tried),
        "findings": [asdict(finding) for finding in report.findings],
        "right": [
            {"mode": mode, "status": status, "set": name, "tried": n, "held": rates.held[mode, status, name]}
            for (mode, status, name), n in sorted(rates.tried.items())
        ],
        "short": rates.short(),
        "refused": rates.refused,
        "without_a_sentence": rates.mute,
        "unanswered": dict(rates.unanswered),
        "not_right_by_the_oracle": dict(rates.faulty),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verification judge",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Judge the judge. A certificate promises that what holds is true, whoever claimed it:\n"
        "  by hand   a table of wrong claims, each with the right answer beside it and why it is wrong\n"
        "  by fuzz   right answers corrupted in many ways, kept where an oracle says that they are clearly false\n"
        "  right     closed forms in four dtypes, HiGHS, Clarabel and SCS, textbook steps: 99.5 % must hold\n"
        "Programs are degenerate on purpose: ties, zeros, flat boxes, sets that touch, units of 1e±12. Oracles are\n"
        "rational enumeration, bisection to 40 digits, HiGHS and Clarabel; they share no code with the judge.",
        epilog="examples:\n"
        "  python -m verification judge                                          everything, some minutes\n"
        "  python -m verification judge --claims 2000 --exact 100 --right 500 --no-records    a first look\n"
        "  python -m verification judge --seed 7 --json judge.json               other programs, every finding",
    )
    parser.add_argument(
        "--claims", type=int, default=200_000, metavar="N", help="wrong claims by fuzz (default: 200000)"
    )
    parser.add_argument(
        "--exact",
        type=int,
        default=4_000,
        metavar="N",
        help="about so many of them, and of the right ones, are judged exactly too (default: 4000)",
    )
    parser.add_argument("--right", type=int, default=20_000, metavar="N", help="right answers (default: 20000)")
    parser.add_argument(
        "--records",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also write records and spoil them, one process each (default: yes)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of programs and corruptions (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save counts, findings and refusals there")
    return parser
