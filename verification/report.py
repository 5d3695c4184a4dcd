"""The report of a run, one HTML page: verdict, statements, each claim with formulas, picture, oracles, derivation."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from sys import modules

from verification.claims import PACKAGES, Claim, Record
from verification.page import escape, figure, formula, inline, page, prose, table
from verification.pictures import PICTURES, discrepancies
from verification.statements import STATEMENTS

__all__ = ["report"]

TITLE = "On Generation of Adversarial Examples using Convex Programming: the evidence"


def report(
    chosen: Sequence[Claim], records: Sequence[Record], seed: int, instances: str | int, arguments: Sequence[str]
) -> str:
    """The page for claims that were run, as HTML."""
    found = {claim.name: [record for record in records if record.claim == claim.name] for claim in chosen}
    broken = [name for name, rows in found.items() if not rows or not all(record.holds for record in rows)]
    parts = [
        f"<h1>{escape(TITLE)}</h1>",
        f'<p class="verdict {"broken" if broken else "holds"}">'
        f"{len(found) - len(broken)} of {len(found)} claims hold.</p>",
        _summary(chosen, records, broken),
        _run(records, seed, instances, arguments),
        _contents(chosen, broken),
        f'<h2 id="statements">The paper, statement by statement</h2>{_statements(set(found), broken)}',
        '<h2 id="at-a-glance">All claims at a glance</h2>',
        figure(
            discrepancies(records),
            "Each claim's worst discrepancy in units of what is allowed; right of the line it would not hold.",
        )
        if records
        else "",
        *(_claim(claim, found[claim.name]) for claim in chosen),
    ]
    return page(TITLE, "\n".join(parts))


def _summary(chosen: Sequence[Claim], records: Sequence[Record], broken: Sequence[str]) -> str:
    judged, abstained = sum(record.instances for record in records), sum(record.abstained for record in records)
    slips = [claim for claim in chosen if claim.slip and claim.name not in broken]
    text = (
        "<p>Each claim is derived from the program through its Lagrangian and dual to the optimum, and judged by "
        "oracles that share no code with the library: other solvers, enumeration, rational numbers, fifty digits. "
        f"{judged:,} judgements, {abstained:,} of them abstentions, where the library itself says that it cannot "
        "tell.</p>"
    )
    if broken:
        text += f'<p class="broken">Not so: {", ".join(_link(name) for name in broken)}.</p>'
    if slips:
        items = "".join(f"<li>{_link(claim.name)}: {inline(claim.slip)}</li>" for claim in slips)
        text += f"<p>Where the paper slips, the claim is what holds instead:</p><ul>{items}</ul>"
    return text


def _run(records: Sequence[Record], seed: int, instances: str | int, arguments: Sequence[str]) -> str:
    """When, how, with what."""
    try:
        own = f"convexattack {version('convexattack')}, "
    except PackageNotFoundError:
        own = ""
    rows = [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("command", f"python -m verification {shlex.join(arguments)}"),
        ("seed, instances", f"{seed}, {instances}"),
        (
            "versions",
            own + ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]),
        ),
        (
            "machine",
            f"{_processor()}, {os.cpu_count()} logical cores, one thread used; "
            f"{platform.system()} {platform.machine()}",
        ),
        ("time", f"{sum(record.seconds for record in records):,.0f} s"),
    ]
    return table(("run", ""), [(escape(name), escape(value)) for name, value in rows])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "processor not named"


def _contents(chosen: Sequence[Claim], broken: Sequence[str]) -> str:
    items = "".join(f"<li>{_link(claim.name)} {_verdict(claim, claim.name in broken)}</li>" for claim in chosen)
    first = '<li><a href="#statements">statement by statement</a></li><li><a href="#at-a-glance">at a glance</a></li>'
    return f'<nav aria-label="contents"><ul>{first}{items}</ul></nav>'


def _statements(checked: set[str], broken: Sequence[str]) -> str:
    """The paper's statements, and who checks each."""

    def who(names: Sequence[str], note: str) -> str:
        said = [
            _link(name) + (" (does not hold)" if name in broken else "")
            if name in checked
            else f"{escape(name)} (not run)"
            for name in names
        ]
        return ", ".join(said) or f'<span class="quiet">{inline(note)}</span>'

    return table(
        ("where", "the paper says", "checked by"),
        [(escape(s.where), inline(s.text), who(s.claims, s.note)) for s in STATEMENTS],
    )


def _claim(claim: Claim, records: Sequence[Record]) -> str:
    holds = bool(records) and all(record.holds for record in records)
    text = modules[claim.check.__module__].__doc__ or ""
    title, _, derivation = text.strip().partition("\n\n")
    parts = [
        f'<section><h2 id="{escape(claim.name)}">{inline(" ".join(title.split()))}</h2>',
        f'<p class="quiet">{escape(claim.equation)} · <code>verification/{escape(claim.source.name)}</code></p>',
        f"<p>{_verdict(claim, not holds)} {inline(_sentence(claim.statement))}</p>",
        f'<p><span class="slip">The paper:</span> {inline(claim.slip)}</p>' if claim.slip else "",
        *map(formula, claim.formulas),
    ]
    if claim.name in PICTURES:
        draw, caption = PICTURES[claim.name]
        parts.append(figure(draw(), caption))
    columns = ("judged by", "instances", "abstained", "worst", "tolerance", "holds", "where the worst was")
    rows = [
        (
            inline(record.oracle),
            f"{record.instances:,}",
            f"{record.abstained:,}" if record.abstained else "",
            f"{record.discrepancy:.1e}" if record.discrepancy else "0",
            f"{record.tolerance:g}",
            '<span class="holds">yes</span>' if record.holds else '<span class="broken">NO</span>',
            inline(record.where) if record.discrepancy else "",
        )
        for record in records
    ]
    parts += ["<h3>Evidence</h3>", table(columns, rows, columns[1:5])]
    parts += [f'<p class="quiet">{inline(f"{record.oracle}: {record.note}")}</p>' for record in records if record.note]
    parts += ["<h3>Derivation</h3>", prose(derivation), "</section>"]
    return "\n".join(parts)


def _verdict(claim: Claim, broken: bool) -> str:
    if broken:
        return '<span class="broken">does not hold</span>'
    return '<span class="slip">holds, corrected</span>' if claim.slip else '<span class="holds">holds</span>'


def _sentence(text: str) -> str:
    """With a full stop, and a capital where it begins with a word and not with a letter of a formula."""
    return f"{text[0].upper() if text[:2].isalpha() else text[:1]}{text[1:]}."


def _link(name: str) -> str:
    """To the claim's section; the name may be broken at its underscores."""
    return f'<a href="#{escape(name)}">{escape(name).replace("_", "_<wbr />")}</a>'
