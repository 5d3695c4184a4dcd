"""What the figures and the table leave: conditions, the paper's numbers beside ours; Markdown, CSV, JSON, a picture."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import paper, results
from benchmarks.results import Sheet
from benchmarks.subjects import SEED, Subject

__all__ = [
    "INTERRUPTED",
    "Compared",
    "compared_sheet",
    "conditions",
    "missing_sheet",
    "number",
    "plain",
    "reasons",
    "save",
]

INTERRUPTED = 130
OTHER = 2.0  # standard errors from which two numbers are called different


@dataclass(frozen=True)
class Compared:
    """A number of the paper beside ours.

    Attributes:
        network: its row in the paper.
        what: the name of the number.
        where: in the paper.
        paper: what is printed there.
        ours: value, interval, standard error, images, what was left out; see `measure.measure`.
    """

    network: paper.Network
    what: str
    where: str
    paper: float
    ours: Mapping[str, Any]

    @property
    def errors(self) -> float | None:
        """(ours − paper) in standard errors of ours; the paper's are not known, and its numbers are rounded."""
        value, error = self.ours["value"], self.ours["standard error"]
        return None if value is None or not error else float((value - self.paper) / error)

    @property
    def quotient(self) -> float | None:
        """ours / paper."""
        value = self.ours["value"]
        return None if value is None else float(value / self.paper)


def conditions(found: Sequence[Subject], command: str, given: argparse.Namespace) -> dict[str, Any]:
    """What the numbers hold for."""
    kind = found[0].x.device.type
    facts = results.about("cuda:0" if kind == "cuda" else kind, "float32", SEED, 0, 0)
    del facts["limits"]
    networks = {
        subject.network.name: {
            "inputs": subject.inputs,
            "images": len(subject.x),
            "classified correctly": int(subject.right.sum()),
            "test set": subject.tested,
            "misclassified in the test set": subject.wrong,
            "data": subject.note,
        }
        for subject in found
    }
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        **facts,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "output": given.output,
        "load": load,
        "networks": networks,
    }


def plain(row: Compared) -> dict[str, Any]:
    """A row as JSON and CSV take it."""
    ours = {name: row.ours[name] for name in ("value", "low", "high", "standard error", "images")}
    errors, quotient = row.errors, row.quotient
    return {
        "model": row.network.name, "number": row.what, "where": row.where, "paper": row.paper, **ours,
        "difference in standard errors": errors, "ours / paper": quotient,
    }  # fmt: skip


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def compared_sheet(title: str, rows: Iterable[Compared]) -> Sheet:
    """The paper's numbers beside ours."""
    columns = [
        "network",
        "number",
        "where",
        "paper",
        "ours",
        "95% interval",
        "(ours − paper) / s.e.",
        "ours / paper",
        "images",
    ]
    lines = []
    for row in rows:
        share = row.what.startswith(("test error", "DeepFool"))
        values = [row.ours[name] for name in ("value", "low", "high")]
        shown = [f"{value:.2%}" if share and value is not None else number(value) for value in values]
        printed = row.where.partition(", ")[2] or (f"{row.paper:.1%}" if share else f"{row.paper:g}")
        errors = "–" if row.errors is None else f"{row.errors:+.1f}"
        interval = f"{shown[1]} to {'∞' if row.ours['high'] is None else shown[2]}"
        lines.append((
            row.network.title, row.what, row.where.partition(", ")[0], printed, shown[0], interval, errors,
            number(row.quotient), f"{row.ours['images']:,}",
        ))  # fmt: skip
    return Sheet(title, columns, 3, lines)


def missing_sheet(missing: Mapping[str, str]) -> list[Sheet]:
    lines = [(paper.NETWORKS[name].title, why) for name, why in missing.items()]
    return [Sheet("Not run", ["network", "why"], 2, lines)] if lines else []


def reasons(rows: Sequence[Compared]) -> list[str]:
    """Where ours differ from the paper's, and what was measured of the reason, a sentence or two for each network."""
    said = []
    for network in paper.NETWORKS.values():
        mine = {row.what: row for row in rows if row.network == network}
        error = mine.pop("test error", None)
        if error is None or not mine:
            continue
        apart = error.errors is not None and abs(error.errors) > OTHER
        off = [row for row in mine.values() if row.errors is not None and abs(row.errors) > OTHER]
        near = [row.what for row in mine.values() if row not in off]
        kept = f"further than {OTHER:g} standard errors off" if apart else f"within {OTHER:g} standard errors"
        text = (
            f"{network.title}: the paper's weights are not published, so this is another training of that "
            "architecture. "
        )
        text += f"Its test error is {error.ours['value']:.2%} (paper: {error.paper:.1%}, {kept}). "
        if off:
            text += f"Its distances to other classes are {'' if apart else 'nevertheless '}its own: ours / paper is "
            text += ", ".join(f"{number(row.quotient)} for {row.what}" for row in off) + "."
        if near:
            text += f"{' ' if off else ''}Within {OTHER:g} standard errors: {', '.join(near)}."
        said.append(text)
    if said:
        said.append(
            "ρ₂ needs L and its gradient at x alone: a difference there is one of networks (or of units of x), "
            "not of attacks."
        )
    return said


def save(
    out: Path,
    name: str,
    title: str,
    content: Mapping[str, Any],
    table: Sequence[Mapping[str, Any]],
    sheets: Sequence[Sheet],
    remarks: Sequence[str],
    picture: Callable[[], bytes],
) -> None:
    """NAME.json, .csv, .md and .png in `out`, each whole or not at all. `content["about"]` holds the conditions."""
    facts = content["about"]
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    results.write_whole(out / f"{name}.json", (text + "\n").encode())
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    results.write_whole(out / f"{name}.csv", lines.getvalue().encode())
    parts = [
        f"# {title}",
        "  \n".join(_said(facts)),
        "\n".join(f"- {remark}" for remark in remarks),
        *map(results.section, sheets),
    ]
    results.write_whole(out / f"{name}.md", ("\n\n".join(parts) + "\n").encode())
    results.write_whole(out / f"{name}.png", picture())


def _said(facts: Mapping[str, Any]) -> list[str]:
    said = [
        f"`{facts['command']}`, {facts['date']}.",
        f"{facts['cpu']}, {facts['cores']} cores, torch on {facts['torch threads']} of them; on {facts['device']}, "
        f"{facts['dtype']}; seed {facts['seed']}"
        + (f"; load average {facts['load']:.1f} at the end." if facts["load"] is not None else "."),
        "; ".join(f"{package} {version}" for package, version in facts["versions"].items()) + ".",
        f"f is the network's {facts['output']}; ε is in units of the data range; p = ∞; no clipping to that range.",
    ]
    for name, known in facts["networks"].items():
        said.append(
            f"{name}: the first {known['images']:,} of the shuffled test set, of which "
            f"{known['classified correctly']:,} are classified correctly and attacked; inputs {known['inputs']}; "
            f"{known['data'].replace('.;', ';')}."
        )
    return said
