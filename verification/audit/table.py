"""The table: for the terminal, for Markdown, and as JSON from which the Markdown is made."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verification.audit.measure import CASES, DIMS, KINDS, RADIUS, Measured

__all__ = ["Row", "markdown", "row_of", "save", "show"]

EXACT = 1e-5  # what float32 explains, as in ca.Tolerance(): within it of 1 is printed as 1

NOTES = """\
Every library is called as its documentation says, one image at a time, on an affine model, so that no gradient is in
doubt; options that are not named are its defaults. The loss is cross entropy; the classes are two for (GNII) and ten
for (8). Everything runs in float32, as the libraries do, and the perturbation x_adv − x is judged in float64. A printed
1 is within 1e-5, which is what float32 explains. The optimum is `ca.solve` in float64, certified item by item by
`ca.certify` to 1e-12. A violation is relative; 1e-7 is what rounding x + η to float32 does.

A low number is no bug by itself. No library here says that its step solves for the pixel range: all take the step of
the ball and clip it, and what that keeps is measured. Foolbox's ℓ1 step is −ε g/‖g‖₁ and is not said to be the best one
of the ball; those of cleverhans and ART are said to maximize over the ball. An item that the library's own code raised
on is counted under "raised" and in no mean. DeepFool is said to find a small perturbation, not the smallest; with its
overshoot of 0.02 (ART: 1e-6) the exact ratio is 1.02 where no pixel range binds. "Fooled" is judged in float64: a
margin that float32 cannot resolve counts as not fooled. cleverhans has no DeepFool for PyTorch.

A counterexample is what `convexattack.testing.check_step` shrinks its first failure to, among models of two classes and
at most six inputs. Its tolerance is 1e-5; with a pixel range 1e-3, since ε may be 1e-4 there and x + η is rounded; for
(8) a tenth, which the overshoots need, and of the L shown a library is asked for 0.95, lest nothing but the boundary
itself be within the pixel range. That none is found proves nothing. None is looked for (–) where the program is that of
another row, or is not that of the library: torchattacks keeps to [0, 1] always.

torchattacks 3.3.0 is the newest that installs beside `constraints.txt`: later ones require requests~=2.25.1, hence an
older idna than the one pinned there."""


@dataclass(frozen=True)
class Row:
    """A step of a library and what was measured of it; `why` it was not, if it was not."""

    library: str
    version: str
    name: str = ""
    options: str = ""
    program: str = ""
    p: str = ""
    case: str = ""
    measured: Measured | None = None
    counterexample: str = ""
    why: str = ""


def row_of(entry: Mapping[str, Any]) -> Row:
    """The row that a JSON object stands for."""
    measured = entry["measured"]
    return Row(**{**entry, "measured": measured and Measured(**measured)})


@dataclass(frozen=True)
class Sheet:
    title: str
    columns: Sequence[str]
    words: int  # leading columns of text; a last column named "smallest counterexample" is text as well
    lines: Sequence[Sequence[str]]


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    measured = [(row, row.measured) for row in rows if row.measured]
    steps = [(row, of) for row, of in measured if row.program == "GNII"]
    small = [(row, of) for row, of in measured if row.program == "MinNorm"]
    found = []
    if steps:
        columns = [
            "library", "step", "program: minimize gᵀη subject to", "items", "raised", "mean", "worst", "violation",
            "smallest counterexample",
        ]  # fmt: skip
        lines: list[Sequence[str]] = [
            (
                f"{row.library} {row.version}", _step(row),
                f"‖η‖_{row.p} ≤ ε" + (", 0 ≤ x + η ≤ 1" if row.case == "pixels" else ""), str(of.items), _raised(of),
                _share(of.mean), _share(of.worst), _small(of.violation), row.counterexample or "–",
            )
            for row, of in steps
        ]  # fmt: skip
        found.append(Sheet("(GNII), one step: the share of the optimum that is reached", columns, 3, lines))
    if small:
        columns = [
            "library", "step", "norm", "images", "items", "raised", "fooled", "decrease reached",
            "‖η‖ ÷ smallest, mean", "worst", "violation", "smallest counterexample",
        ]  # fmt: skip
        lines = [
            (
                f"{row.library} {row.version}", _step(row), f"ℓ{row.p}", row.case, str(of.items), _raised(of),
                f"{of.fooled:.0%}" if of.fooled is not None else "–", _share(of.reached), _share(of.mean),
                _share(of.worst), _small(of.violation), row.counterexample or "–",
            )
            for row, of in small
        ]  # fmt: skip
        found.append(Sheet("(8), DeepFool and its kin: the size, where it fools", columns, 4, lines))
    if steps:
        groups = [f"{kind}, d = {d}" for d in DIMS for kind in KINDS]
        lines = [
            (r.library, _step(r), f"‖η‖_{r.p}, {r.case}", *(_share(of.by.get(group)) for group in groups))
            for r, of in steps
        ]
        found.append(Sheet("(GNII), the mean by kind of gradient", ["library", "step", "program", *groups], 3, lines))
    if idle := [(f"{row.library} {row.version}".strip(), row.name or "all", row.why) for row in rows if row.why]:
        found.append(Sheet("Not run", ["library", "step", "why"], 3, idle))
    return found


def _step(row: Row) -> str:
    return f"{row.name}({row.options})"


def _raised(of: Measured) -> str:
    return f"{of.raised}: {of.error}"[:80] if of.raised else "0"


def _share(x: float | None) -> str:
    return "–" if x is None else "1" if abs(x - 1) <= EXACT else f"{x:#.4g}" if abs(x) >= 1e-3 else _small(x)


def _small(x: float | None) -> str:
    return "–" if x is None else "0" if x == 0 else f"{x:.0e}"


def show(rows: Sequence[Row]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    for sheet in sheets(rows):
        table = Table(title=sheet.title)
        for k, name in enumerate(sheet.columns):
            table.add_column(name, justify="left" if _is_text(sheet, k) else "right", overflow="fold")
        last = ""
        for line in sheet.lines:
            if last and line[0] != last:
                table.add_section()
            last = line[0]
            table.add_row(*map(escape, line))
        console.print(table)


def markdown(facts: Mapping[str, Any]) -> str:
    """The whole page, from what the JSON file holds."""
    rows = [row_of(entry) for entry in facts["rows"]]
    versions = "; ".join(f"{name} {number}" for name, number in facts["versions"].items())
    radii = ", ".join(f"{radius:g} (p = {p:g})" for p, radius in RADIUS.items()).replace("inf", "∞")
    sizes = f"ε at d = 784 is {radii}, and the same share of a pixel at d = 16. The kinds of gradients and of images:"
    kinds = "\n".join(f"- {name}: {text}" for name, text in (KINDS | CASES).items())
    conditions = f"`{facts['command']}`, {facts['date']}, seed {facts['seed']}.  \n{versions}."
    parts = ["# What steps of other libraries reach", conditions, NOTES, sizes, kinds, *map(_section, sheets(rows))]
    return "\n\n".join(parts) + "\n"


def _section(sheet: Sheet) -> str:
    rule = [":--" if _is_text(sheet, k) else "--:" for k in range(len(sheet.columns))]
    cells = [
        [cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (sheet.columns, rule, *sheet.lines)
    ]
    lines = ("| " + " | ".join(line) + " |" for line in cells)
    return f"## {sheet.title}\n\n" + "\n".join(lines)


def _is_text(sheet: Sheet, k: int) -> bool:
    return k < sheet.words or sheet.columns[k] == "smallest counterexample"


def save(folder: Path, facts: Mapping[str, Any]) -> list[Path]:
    """audit.json and audit.md; both are whole before either takes its place."""
    text = json.dumps(facts, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    contents = {folder / "audit.json": text, folder / "audit.md": markdown(json.loads(text))}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".audit-") as beside:
        parts = {path: Path(beside, path.name) for path in contents}
        for path, part in parts.items():
            part.write_text(contents[path], encoding="utf-8")
        for path, part in parts.items():
            os.replace(part, path)
    return list(contents)
