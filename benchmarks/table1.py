"""Table I: test error, ρ₁, ρ₂ and the ε at which DeepFool fools more than 99%, the paper's beside ours."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks import measure, pages, paper, results
from benchmarks.ledger import Ledger
from benchmarks.pages import Compared
from benchmarks.results import Sheet
from benchmarks.subjects import Subject, add_arguments, progress_bar, said_of, subjects

__all__ = ["add_parser", "measured", "run"]

NUMBERS = {  # names in the table, the paper's attribute
    "test error": (("test error", "test_error"),),
    "rho_1": (("ρ₁", "rho_1"),),
    "rho_2": (("ρ₂, active piece", "rho_2"), ("ρ₂, smallest", "rho_2")),
    "epsilon": (("ε, > 99% fooled", "epsilon"),),
}
ROUNDED = 0.0005  # what the three decimals of Table I may hide
REMARKS = (
    "ρ₁ is over the images that DeepFool fools, ρ₂ over those classified correctly that have a gradient; the ρ₂ of the "
    "active piece is the paper's text, the smallest over all classes what DeepFool's first step is. Images "
    "misclassified to begin with are left out of both. The test error is that of the whole test set.",
    "Intervals: Student's for means, Wilson's for the test error, order statistics for ε, whose standard error (s.e.) "
    "is taken as the interval's width over 3.92. They speak of the sampling of images alone; the paper gives none, and "
    "rounds.",
)


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "table1",
        help="the robustness measures of the paper's Table I",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Test error, ρ₁ by DeepFool, ρ₂ by the active piece and by the smallest ratio, and the smallest ε "
        "at which DeepFool\n"
        "fools more than 99%, p = ∞, with 95% intervals, beside the paper's numbers.",
        epilog="leaves table1.json, .csv, .md and .png in --out (table1-all.* for all images, and so on), and "
        "table1.jsonl, a line for\n"
        "every measurement, from which a second start goes on.\n\n"
        "examples:\n"
        "  python -m benchmarks table1                 1,024 images, a minute\n"
        "  python -m benchmarks table1 --images all    the whole test set",
    )
    add_arguments(parser)


def run(given: argparse.Namespace, command: str) -> int:
    """Exit status: 0, 1 where no network can be had, 130 after Ctrl-C."""
    found, missing = subjects(given.model, given.images)
    if not found:
        print("\n".join(f"{name} is not run: {why}" for name, why in missing.items()), file=sys.stderr)
        return 1
    ledger = Ledger(given.out / "table1.jsonl")
    try:
        rows = measured(found, given.output, ledger)
    except KeyboardInterrupt:
        print(
            f"interrupted: what was measured is in {ledger.path.name}; the same command goes on from there",
            file=sys.stderr,
        )
        return pages.INTERRUPTED
    _save(given, rows, missing, pages.conditions(found, command, given))
    return 0


def measured(found: Sequence[Subject], output: str, ledger: Ledger) -> list[Compared]:
    """Every number, from the ledger or measured now."""
    items = [(subject, name, subject.item(output=output, measure=name)) for subject in found for name in NUMBERS]
    rows = []
    with progress_bar() as progress:
        bar = progress.add_task("", total=sum(len(subject.x) for subject, _, item in items if not ledger.has(item)))
        for subject, name, item in items:
            progress.update(bar, description=f"{subject.network.name} {name}")
            result = ledger.get(item, partial(measure.measure, subject, name, output, partial(progress.advance, bar)))
            for (what, attribute), estimate in zip(NUMBERS[name], result["estimates"], strict=True):
                rows.append(Compared(subject.network, what, "Table I", getattr(subject.network, attribute), estimate))
    return rows


def _quotients(rows: Sequence[Compared]) -> list[dict[str, Any]]:
    """Each number over ρ₁, so that the network's scale drops out; the paper's with the range of its rounding."""
    found = []
    for network in paper.NETWORKS.values():
        mine = {row.what: row for row in rows if row.network == network and row.ours["value"]}
        below = mine.pop("ρ₁", None)
        for what, row in mine.items():
            if what != "test error" and below is not None:
                low, high = ((row.paper + sign * ROUNDED) / (below.paper - sign * ROUNDED) for sign in (-1, 1))
                ours = row.ours["value"] / below.ours["value"]
                found.append({
                    "model": network.name, "quotient": f"{what} / ρ₁", "paper": row.paper / below.paper, "low": low,
                    "high": high, "ours": ours, "within": low <= ours <= high,
                })  # fmt: skip
    return found


def _sheets(rows: Sequence[Compared], missing: Mapping[str, str]) -> list[Sheet]:
    absent = [(name, what) for name in missing for numbers in NUMBERS.values() for what in numbers]
    printed = [
        (paper.NETWORKS[name].title, what, f"{getattr(paper.NETWORKS[name], attribute):g}", "not run")
        for name, (what, attribute) in absent
    ]
    lines = [
        (paper.NETWORKS[q["model"]].title, q["quotient"], f"{q['paper']:.3f}", f"{q['low']:.3f} to {q['high']:.3f}",
         f"{q['ours']:.3f}", "yes" if q["within"] else "no")
        for q in _quotients(rows)
    ]  # fmt: skip
    columns = ["network", "quotient", "paper", "range of the paper's rounding", "ours", "within"]
    found = [
        pages.compared_sheet("Table I, p = ∞", rows),
        Sheet("Free of a network's scale: over its ρ₁", columns, 2, lines),
    ]
    if printed:
        found.append(Sheet("The paper's other networks", ["network", "number", "paper", "ours"], 2, printed))
    return found + pages.missing_sheet(missing)


def _save(
    given: argparse.Namespace, rows: Sequence[Compared], missing: Mapping[str, str], facts: dict[str, Any]
) -> None:
    from benchmarks.paper_pictures import table1

    name = f"table1{said_of(given)}"
    left_out = [
        {"model": row.network.name, "number": row.what, **row.ours["left out"]} for row in rows if row.ours["left out"]
    ]
    odd = [row for row in left_out if row.keys() - {"model", "number", "misclassified"}]
    table = [pages.plain(row) for row in rows]
    content = {
        "about": facts,
        "compared": table,
        "quotients": _quotients(rows),
        "left out": left_out,
        "not run": dict(missing),
    }
    most = max(known["images"] for known in facts["networks"].values())
    heading = f"Table I: p = ∞, {facts['output']}, {most:,} test images (test error: all)"
    remarks = [*REMARKS, *(_said_of(row) for row in odd), *pages.reasons(rows)]
    pages.save(
        given.out, name, "Table I: robustness measures", content, table, _sheets(rows, missing), remarks,
        partial(table1, rows, missing, heading),
    )  # fmt: skip
    results.show(_sheets(rows, missing))
    print(f"{name}.json, .csv, .md and .png are in {given.out}")


def _said_of(row: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {why}" for why, count in row.items() if isinstance(count, int))
    return f"{row['model']}, {row['number']}: left out were {counts}."
