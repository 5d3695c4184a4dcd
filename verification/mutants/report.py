"""What is printed at the end: a table of rooms, every survivor with the reason it may survive, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from verification.mutants.ledger import Row
from verification.mutants.mutator import Mutant

__all__ = ["ENOUGH", "passes", "show"]

ENOUGH = 0.95  # the share of mutants that must be noticed

Judged = Sequence[tuple[Mutant, Row]]


def passes(judged: Judged, reasons: Mapping[str, str]) -> bool:
    """Whether enough were noticed, and every allowance that was not has a reason."""
    noticed = sum(row.detected for _, row in judged)
    return bool(judged) and noticed >= ENOUGH * len(judged) and not _unexplained(judged, reasons, allowances=True)


def show(judged: Judged, reasons: Mapping[str, str], stale: Sequence[str]) -> None:
    """`stale`: reasons that fit no mutant of these rooms."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    console.print(_table([row for _, row in judged]))
    for mutant, row in judged:
        if not row.detected:
            console.print(mutant.said, highlight=False, markup=False, soft_wrap=True)
            reason = reasons.get(mutant.key, "NO REASON GIVEN")
            console.print(f"    {mutant.code}\n    {reason}", highlight=False, markup=False, soft_wrap=True)
    if missing := _unexplained(judged, reasons):
        console.print("reasons.json has no reason for these; a new test is better than a reason:", highlight=False)
        lines = (f'  {json.dumps(key, ensure_ascii=False)}: "",' for key in dict.fromkeys(missing))
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    for key in stale:
        console.print(
            f"a reason that fits no mutant, to be taken out: {key}", highlight=False, markup=False, soft_wrap=True
        )
    console.print(_verdict(judged, reasons), highlight=False)


def _unexplained(judged: Judged, reasons: Mapping[str, str], allowances: bool = False) -> list[str]:
    survivors = (mutant for mutant, row in judged if not row.detected)
    return [mutant.key for mutant in survivors if mutant.key not in reasons and (mutant.allowance or not allowances)]


def _verdict(judged: Judged, reasons: Mapping[str, str]) -> str:
    noticed = sum(row.detected for _, row in judged)
    allowances = len(_unexplained(judged, reasons, allowances=True))
    share = f"{noticed} of {len(judged)} mutants were noticed, {_percent(noticed, len(judged))} ({ENOUGH:.0%} must be)"
    return (
        f"{share}; {allowances or 'no'} {'allowance' if allowances == 1 else 'allowances'} survived without a reason."
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="errors put into the source on purpose, and whether the tests noticed")
    table.add_column("room")
    for name in ("mutants", "killed", "timed out", "survived", "noticed", "allowances", "of them survived", "seconds"):
        table.add_column(name, justify="right")
    names = list(dict.fromkeys(row.room for row in rows))
    for name in [*names, "all"] if len(names) > 1 else names:
        if name == "all":
            table.add_section()
        its = [row for row in rows if name in (row.room, "all")]
        table.add_row(name, *_numbers(its))
    return table


def _numbers(rows: Sequence[Row]) -> list[str]:
    killed, late = (sum(row.verdict == verdict for row in rows) for verdict in ("killed", "timeout"))
    allowances = [row for row in rows if row.allowance]
    kept = sum(not row.detected for row in allowances)
    counts = [len(rows), killed, late, len(rows) - killed - late]
    noticed = _percent(killed + late, len(rows))
    return [*map(str, counts), noticed, str(len(allowances)), str(kept), f"{sum(row.seconds for row in rows):.0f}"]


def _percent(part: int, whole: int) -> str:
    """Rounded down, so that no number that falls short looks as if it did not."""
    return f"{1000 * part // whole / 10 if whole else 0:.1f} %"
