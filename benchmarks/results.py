"""What a run leaves: rows as JSON lines while it goes, one JSON file at the end, tables for terminal and Markdown."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.timing import BARE, CLOSED, FRESH, METHODS, PROGRAMS, RESOLVE, Case, Cell, Ratio, Row, brief

__all__ = [
    "Sheet", "about", "append", "main_batch", "markdown", "plain", "read", "row_of", "section", "sheets", "show",
    "targets", "write_whole",
]  # fmt: skip

MAIN = 256  # the batch that ratios are quoted for, where it was asked for
TARGET_D = 784
TARGETS = [  # program by program: (above, below, p, box, wanted)
    (RESOLVE, CLOSED, "2", False, 1000.0),
    (RESOLVE, CLOSED, "3", False, 1000.0),
    (RESOLVE, CLOSED, "inf", False, 2000.0),
    (RESOLVE, CLOSED, "2", True, 200.0),
]
BARE_TARGET = 1.3


# --- files ------------------------------------------------------------------------------------------------------------


def about(device: str, dtype: str, seed: int, seconds: float, gib: float) -> dict[str, Any]:
    """The conditions of a run; rows measured under others are not resumed."""
    packages = ("torch", "cvxpy", "clarabel", "highspy", "scs", "numpy", "scipy", "convexattack")
    return {
        "device": f"{device}: {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device,
        "dtype": dtype,
        "seed": seed,
        "limits": {"seconds": seconds, "gib": gib},
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """One line, on the disk before this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """The conditions and the rows of a JSON-lines file. A last line that was cut off is removed from the file."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        write_whole(path, "".join(lines).encode())
    entries = [json.loads(line) for line in lines]
    return (entries[0] if entries else {}), [row_of(entry) for entry in entries[1:]]


def row_of(entry: Mapping[str, Any]) -> Row:
    cells = tuple(
        Cell(**{**cell, "quartiles": tuple(cell["quartiles"]) if cell["quartiles"] else None})
        for cell in entry["cells"]
    )
    ratios = tuple(Ratio(**{**ratio, "quartiles": tuple(ratio["quartiles"])}) for ratio in entry["ratios"])
    return Row(Case(**entry["case"]), entry["solver"], entry["rounds"], entry["load"], cells, ratios)


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the file, then put it in its place: nobody ever reads half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sheet:
    """A table for a terminal or for Markdown; the first `words` columns are text, the rest numbers."""

    title: str
    columns: Sequence[str]
    words: int
    lines: Sequence[Sequence[str]]


def main_batch(batches: Sequence[int]) -> int:
    return MAIN if MAIN in batches else max(batches)


def targets(rows: Iterable[Row], batch: int) -> list[dict[str, Any]]:
    """What was wanted at d = 784, and what was measured; a target whose row is not there has no value."""
    at = {row.case: row for row in rows if row.case.d == TARGET_D}
    found = []
    for program in sorted({case.program for case in at}, key=list(PROGRAMS).index):
        for above, below, p, box, wanted in TARGETS:
            row = at.get(Case(program, p, box, TARGET_D))
            found.append(_target(Case(program, p, box, TARGET_D), row, above, below, batch, "at least", wanted))
        found += [
            _target(case, row, RESOLVE, BARE, 1, "at most", BARE_TARGET)
            for case, row in at.items()
            if case.program == program
        ]
    return found


def _target(
    case: Case, row: Row | None, above: str, below: str, batch: int, sense: str, wanted: float
) -> dict[str, Any]:
    """`of_fastest`: the quotient of the two fastest rounds, which is what a busy machine falsifies least."""
    ratio = row.ratio(above, below, batch) if row else None
    over, under = (row.cell(above), row.cell(below, batch)) if row else (None, None)
    fastest = over.fastest / under.fastest if over and under and over.fastest and under.fastest else None
    met = None if ratio is None else ratio.value >= wanted if sense == "at least" else ratio.value <= wanted
    return {
        "program": case.program, "p": case.p, "box": case.box, "d": case.d, "batch": batch,
        "ratio": f"{above} / {below}", "wanted": f"{sense} {wanted:g}", "measured": ratio and ratio.value,
        "quartiles": ratio and ratio.quartiles, "of_fastest": fastest, "met": met,
    }  # fmt: skip


def sheets(rows: Sequence[Row], batches: Sequence[int], spread: bool) -> list[Sheet]:
    """Targets, times and ratios, what was not run. With `spread`, quartiles stand beside every median."""
    main = main_batch(batches)
    wanted = [
        (
            PROGRAMS[t["program"]], t["p"], _box(t["box"]), t["ratio"], t["wanted"],
            "not measured" if t["measured"] is None else _ratio(Ratio("", "", 1, t["measured"], t["quartiles"]), True),
            "–" if t["of_fastest"] is None else _number(t["of_fastest"]),
            {None: "–", True: "yes", False: "no"}[t["met"]],
        )
        for t in targets(rows, main)
    ]  # fmt: skip
    columns = [
        "program", "p", "box", "solver", "d", *(f"closed form, batch {b:,}" for b in batches),
        "CVXPY fresh", "CVXPY re-solve", "bare solver", "fresh / closed", "re-solve / closed", "re-solve / bare",
        "rounds",
    ]  # fmt: skip
    lines = []
    for row in rows:
        cells = [row.cell(CLOSED, b) for b in batches] + [row.cell(method) for method in (FRESH, RESOLVE, BARE)]
        ratios = [row.ratio(FRESH, CLOSED, main), row.ratio(RESOLVE, CLOSED, main), row.ratio(RESOLVE, BARE)]
        lines.append((
            PROGRAMS[row.case.program], row.case.p, _box(row.case.box), row.solver, f"{row.case.d:,}",
            *(_time(cell, row.rounds, spread) for cell in cells), *(_ratio(ratio, spread) for ratio in ratios),
            str(row.rounds),
        ))  # fmt: skip
    title = f"Time per item (median{' and quartiles' if spread else ''}); ratios to the closed form at batch {main:,}"
    found = [Sheet(title, columns, 4, lines)]
    if wanted:
        title = f"Targets at d = {TARGET_D}, batch {main:,}"
        names = ["program", "p", "box", "ratio", "wanted", "measured (quartiles)", "of the fastest rounds", "met"]
        found.insert(0, Sheet(title, names, 5, wanted))
    idle = _idle(rows)
    if idle:
        found.append(Sheet("Not run, or failed", ["program", "p", "box", "d", "contender", "why"], 6, idle))
    return found


def _idle(rows: Sequence[Row]) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for row in rows:
        for cell in sorted((c for c in row.cells if c.not_run), key=lambda c: METHODS.index(c.method)):
            what = f"{cell.method}, batch {cell.batch:,}" if cell.method == CLOSED else cell.method
            lines.append(
                (PROGRAMS[row.case.program], row.case.p, _box(row.case.box), f"{row.case.d:,}", what, cell.not_run)
            )
    return lines


def _box(box: bool) -> str:
    return "yes" if box else "no"


def _time(cell: Cell | None, rounds: int, spread: bool) -> str:
    if cell is None:
        return "–"
    if cell.seconds is None or cell.quartiles is None:
        return "failed" if cell.not_run.startswith("failed") else "not run"
    failed = f", {rounds - cell.repeats} of {rounds} failed" if cell.repeats < rounds else ""
    return (
        brief(cell.seconds)
        + (f" ({brief(cell.quartiles[0])} to {brief(cell.quartiles[1])})" if spread else "")
        + failed
    )


def _ratio(ratio: Ratio | None, spread: bool) -> str:
    if ratio is None:
        return "–"
    return _number(ratio.value) + (
        f" ({_number(ratio.quartiles[0])} to {_number(ratio.quartiles[1])})" if spread else ""
    )


def _number(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}" if x >= 10 else f"{x:.2f}"


def show(found: Sequence[Sheet]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    for sheet in found:
        table = RichTable(title=sheet.title)
        for k, name in enumerate(sheet.columns):
            table.add_column(name, justify="left" if k < sheet.words else "right", overflow="fold")
        last: Sequence[str] = ()
        for line in sheet.lines:
            if last and line[: sheet.words - 1] != last[: sheet.words - 1] and sheet.words == 4:
                table.add_section()
            last = line
            table.add_row(*line)
        console.print(table)


def markdown(facts: Mapping[str, Any], found: Sequence[Sheet], title: str = "Timing", ours: str = "closed form") -> str:
    """The conditions and the tables; `ours` is what `facts["device"]` and the dtype are those of."""
    items = (
        f" CVXPY was timed on {facts['CVXPY items']} items of each row, one a round." if "CVXPY items" in facts else ""
    )
    conditions = [
        f"`{facts['command']}`, {facts['date']}.",
        f"{facts['cpu']}, {facts['cores']} cores, torch on {facts['torch threads']} of them; "
        f"{ours} on {facts['device']}, {facts['dtype']}; seed {facts['seed']}.",
        f"Load average {facts['load'][0]:.1f} to {facts['load'][1]:.1f} meanwhile.",
        "; ".join(f"{name} {number}" for name, number in facts["versions"].items()) + ".",
        f"A call expected to take more than {facts['limits']['seconds']:g} s or {facts['limits']['gib']:g} GiB was not "
        f"run.{items}",
    ]
    return "\n\n".join([f"# {title}", "  \n".join(conditions), *map(section, found)]) + "\n"


def section(sheet: Sheet) -> str:
    """A heading and a table."""
    rule = [":--" if k < sheet.words else "--:" for k in range(len(sheet.columns))]
    lines = ("| " + " | ".join(map(_cell, line)) + " |" for line in (sheet.columns, rule, *sheet.lines))
    return f"## {sheet.title}\n\n" + "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def plain(row: Row) -> dict[str, Any]:
    """A row as JSON takes it."""
    return asdict(row)
