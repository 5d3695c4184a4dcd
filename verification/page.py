"""One self-contained HTML page: formulas as MathML, pictures as SVG, its style inside, nothing fetched.

Every function takes text and returns HTML that is also well-formed XML. A `body`, the cells of a table and an SVG are
taken as they are; all else is escaped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from textwrap import dedent

__all__ = ["escape", "figure", "formula", "inline", "page", "prose", "table", "write_whole"]

SCRIPT = re.compile(
    r"(?:(?<![a-z0-9_.])(?P<base>[^\W\d_]\u0302?|arg(?:min|max)|min|max|sup)|(?<=[‖|)\]}⟩]))"
    r"_(?P<sub>\{(?:[^{}]|\{[^{}]*\})*\}|max|[A-Za-z0-9α-ω]{1,2}(?![A-Za-z0-9_])|∞)"
    r"|\^(?P<sup>\{[^{}]*\}|[A-Za-z0-9]{1,2}(?![A-Za-z0-9_])|∞)"
)

STYLE = """
:root { color-scheme: light; --line: #d4d7dc; --quiet: #50565e; --ground: #f5f6f8;
        --good: #11632f; --bad: #a11414; --slip: #7a4b00 }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 52rem; color: #14171a; background: #fff;
       font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
       overflow-wrap: break-word }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1rem 0 .5rem }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 3rem 0 .3rem; padding-top: .8rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.5rem 0 .3rem }
p, ul { margin: .6rem 0 }
a { color: #0b4fa8 }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .875em }
pre { margin: .6rem 0; padding: .6rem .8rem; background: var(--ground); overflow-x: auto; line-height: 1.45 }
pre.maths { background: none; padding: .1rem .8rem; font-size: .9em }
math { font-size: 1.08em }
sub, sup { font-size: .75em; line-height: 0 }
.formula { margin: .7rem 0; padding: .15rem 0; overflow-x: auto; overflow-y: hidden }
.scroll { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-size: .875rem; min-width: 100% }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { font-weight: 600; white-space: nowrap }
td:first-child { min-width: 8rem }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
figure { margin: 1rem 0 }
figure svg, figure img { display: block; max-width: 100%; height: auto; margin: 0 auto }
details { margin: .6rem 0 }
summary { cursor: pointer; color: #0b4fa8 }
pre.printed { background: none; border-left: .2rem solid var(--line) }
pre.printed, .highlight pre { font-size: .8rem }
figcaption, .quiet { color: var(--quiet); font-size: .875rem }
.holds, .broken, .slip { font-weight: 600 }
.holds { color: var(--good) } .broken { color: var(--bad) } .slip { color: var(--slip) }
.verdict { font-size: 1.15rem; font-weight: 600; padding: .6rem .8rem; background: var(--ground);
            border-left: .3rem solid currentColor }
nav ul { padding-left: 1.1rem; columns: 19rem auto; column-gap: 2rem }
nav li { break-inside: avoid }
@page { margin: 18mm 15mm }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt }
  a { color: #000; text-decoration: none }
  h2, h3 { break-after: avoid; break-inside: avoid }
  table, figure, pre, .formula, .verdict { break-inside: avoid }
  thead { display: table-header-group }
  tr { break-inside: avoid }
  .scroll, .formula, pre { overflow: visible }
  pre { white-space: pre-wrap }
  table { font-size: 8pt }
}
"""


def page(title: str, body: str, language: str = "en") -> str:
    """The whole document: `title` as text, `body` as HTML."""
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def formula(latex: str, inline: bool = False) -> str:
    """A LaTeX formula as MathML, which browsers draw by themselves; by `latex2mathml`, of the extra `report`."""
    from latex2mathml.converter import convert

    made = _spaced(convert(latex, display="inline" if inline else "block"))
    return made if inline else f'<div class="formula">{made}</div>'


def _spaced(mathml: str) -> str:
    """latex2mathml takes ∞ for an operator, ⪰ for a letter, a minus after a relation for binary, | for a relation."""
    for pattern, right in (
        (r"<mo>(&#x0221E;)</mo>", r"<mi>\1</mi>"),
        (r"<mi>(&#x02AB0;|&#x02AAF;|:)</mi>", r"<mo>\1</mo>"),
        (
            r"((?:<mrow>|(?:&#x0003D;|&#x02264;|&#x02265;|&#x02192;|,)</mo>))<mo>&#x02212;</mo>",
            r'\1<mo form="prefix">&#x02212;</mo>',
        ),
        (r"<mo [^>]*>(&#x0007C;|&#x02016;)</mo>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'),
    ):
        mathml = re.sub(pattern, right, mathml)
    return mathml


def inline(text: str) -> str:
    """Text of docstrings: a_i and b^{q−1} get their sub- and superscripts, `code` its letters; all else is escaped."""
    parts = re.split(r"`([^`\n]+)`", text)
    return "".join(f"<code>{escape(part)}</code>" if k % 2 else _scripts(part) for k, part in enumerate(parts))


def _scripts(text: str) -> str:
    found, end = [], 0
    for match in SCRIPT.finditer(text):
        tag = "sub" if match["sub"] else "sup"
        inner = match[tag]
        found += [escape(text[end : match.start()]), escape(match["base"] or "")]
        found.append(f"<{tag}>{_scripts(inner[1:-1] if inner[0] == '{' else inner)}</{tag}>")
        end = match.end()
    return "".join(found) + escape(text[end:])


def figure(svg: str, caption: str) -> str:
    """An SVG picture, from its root element on, with what it shows."""
    return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{inline(caption)}</figcaption></figure>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """A table that scrolls in its own box on a narrow screen; cells are HTML, columns in `numbers` right-aligned."""
    kind = [' class="number"' if name in numbers else "" for name in columns]
    head = "".join(f"<th{k}>{escape(name)}</th>" for k, name in zip(kind, columns, strict=True))
    lines = (
        "<tr>" + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kind, row, strict=True)) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def prose(text: str) -> str:
    """A docstring, or a part of one: paragraphs, and what is indented in them as formulas or code in their own lines.

    The words up to the first full stop of a paragraph are set in bold where they are a heading
    (`Lagrangian and dual. …`).
    """
    found = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines):
            found.append(f'<pre class="maths">{inline(dedent(block))}</pre>')
            continue
        lead = re.match(r"[A-Z][\w ,’'()-]{1,48}\. ?(?=\S|$)", joined := " ".join(line.strip() for line in lines))
        found.append(
            f"<p><strong>{escape(lead[0])}</strong>{inline(joined[lead.end() :])}</p>"
            if lead
            else f"<p>{inline(joined)}</p>"
        )
    return "\n".join(found)


def write_whole(path: Path, text: str) -> None:
    """Write beside the file, then put it in its place: what one finds is the old file or the new, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
