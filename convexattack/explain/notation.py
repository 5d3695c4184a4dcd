"""How numbers and formulas are written: once, as they read in a terminal, and from that in LaTeX.

A formula is a line of text in the notation of this package's docstrings: `‖η‖_p ≤ ε`, `|g_i|^{q−1}`, a matrix as
`[1, 2; 3, 4]`, two spaces between formulas that share a line. `latex` translates it; only commands of letters come out,
which Markdown leaves alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

__all__ = [
    "apart",
    "broken",
    "coordinates",
    "entries",
    "latex",
    "marked",
    "matrix",
    "n",
    "norm",
    "outwards",
    "plain",
    "relate",
    "signed",
    "stacked",
    "vector",
]

MOST, HEAD, TAIL = 6, 3, 2  # entries of a vector shown whole; else the first and the last
WIDTH = 88  # of a formula on one line
ROUNDED = "~"  # follows a number that is not shown to its last digit, until `relate` has seen it

_SYMBOLS = {
    "η": r"\eta",
    "ε": r"\varepsilon",
    "λ": r"\lambda",
    "μ": r"\mu",
    "σ": r"\sigma",
    "Λ": r"\Lambda",
    "Σ": r"\sum",
    "⟦": r"\lVert",
    "⟧": r"\rVert",
    "⟨": r"\lvert",
    "⟩": r"\rvert",
    "·": r"\cdot",
    "×": r"\times",
    "−": "-",
    "±": r"\pm",
    "≤": r"\le",
    "≥": r"\ge",
    "≠": r"\ne",
    "≈": r"\approx",
    "∝": r"\propto",
    "∈": r"\in",
    "∞": r"\infty",
    "→": r"\to",
    "⪰": r"\succeq",
    "⪯": r"\preceq",
    "…": r"\dots",
    "ᵀ": r"^{\mathsf{T}}",
    "²": "^{2}",
    "*": r"^{\star}",
    "  ": r"\quad",
}
_LETTERS = {"ii"}
_FUNCTIONS = {"min", "max", "sup"}
_NAMES = {"sign", "clip", "tr", "Diag", "diag", "primal", "dual", "gap", "violation"}
_TOKEN = re.compile(r"  +|subject to|a contradiction|[A-Za-z]{2,}|[^\x00-\x7f]|\*")


def n(x: float, digits: int = 6) -> str:
    """A number to six significant digits, as one writes it: −0.3, 2.23607, 1.5·10^{−7}, ∞."""
    x = float(x) + 0.0
    if not math.isfinite(x):
        return "NaN" if x != x else "∞" if x > 0 else "−∞"
    text = f"{x:.{digits}g}"
    rounded = abs(float(text) - x) > 1e-12 * abs(x)
    number, _, power = text.partition("e")
    text = f"{number}·10^{{{int(power)}}}" if power else number
    return text.replace("-", "−") + ROUNDED * rounded


def apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to see which is larger."""
    digits = next((k for k in range(6, 18) if a == b or f"{a:.{k}g}" != f"{b:.{k}g}"), 17)
    return n(a, digits), n(b, digits)


def outwards(low: float, high: float) -> tuple[str, str]:
    """The ends of a bracket, rounded down and up, with as many digits as keep it about as narrow as it is."""
    for digits in range(6, 18):
        down, up = (
            float(Context(digits, end).create_decimal_from_float(x))
            for x, end in ((low, ROUND_FLOOR), (high, ROUND_CEILING))
        )
        if up - down <= 2 * (high - low):
            break
    return n(down, digits), n(up, digits)


def signed(x: float) -> str:
    """A number as it stands behind a factor or a power: −3 in parentheses."""
    text = n(x)
    return f"({text})" if text.startswith("−") or "·" in text else text


def coordinates(d: int) -> list[int | None]:
    """The coordinates that are shown, None for those left out."""
    return [*range(d)] if d <= MOST else [*range(HEAD), None, *range(d - TAIL, d)]


def entries(x: Sequence[float], write: Callable[[float], str] = n) -> list[str]:
    return ["…" if i is None else write(x[i]) for i in coordinates(len(x))]


def vector(x: Sequence[float]) -> str:
    """(1, −2, 3)."""
    return f"({', '.join(entries(x))})"


def matrix(rows: Sequence[Sequence[float]]) -> str:
    """[1, 2; 3, 4]."""
    lines = ["…" if i is None else ", ".join(entries(rows[i])) for i in coordinates(len(rows))]
    return f"[{'; '.join(lines)}]"


def norm(q: float, x: Sequence[float]) -> str:
    """‖x‖_q with the numbers in it: (3^{2} + 4^{2})^{1/2}."""
    size = [abs(entry) for entry in x]
    if len(size) == 1:
        return f"|{n(x[0])}|"
    if q == math.inf:
        return f"max({', '.join(entries(size))})"
    if q == 1:
        return " + ".join(entries(size))
    power = n(q)
    return f"({' + '.join(entries(size, lambda entry: f'{signed(entry)}^{{{power}}}'))})^{{1/{power}}}"


def relate(formula: str) -> str:
    """The formula with ≈ for = wherever a number beside it is rounded."""
    parts = formula.split(" = ")
    sides = [re.split("  | [<>≤≥≠] ", part) for part in parts]
    out = parts[0]
    for left, right, part in zip(sides, sides[1:], parts[1:], strict=False):
        out += (" ≈ " if ROUNDED in left[-1] + right[0] else " = ") + part
    return out.replace(ROUNDED, "")


def broken(formula: str) -> list[str]:
    """The formula on as few lines as hold it, each but the first beginning with a relation; a matrix is left whole."""
    if len(formula) <= WIDTH or "[" in formula:
        return [formula]
    lines: list[str] = []
    for part in re.split(r"(?= [=≈≤≥] )", formula):
        if lines and len(lines[-1]) + len(part) <= WIDTH:
            lines[-1] += part
        else:
            lines.append(part.strip())
    return lines


def stacked(formula: str) -> list[str]:
    """A formula that ends in a matrix, on one line for each row if it is long."""
    head, _, body = formula.partition("[")
    if ";" not in body or len(formula) <= WIDTH:
        return [formula]
    rows = [row.split(", ") for row in body.rstrip("]").split("; ")]
    wide = [max(len(row[k]) for row in rows if k < len(row)) for k in range(max(map(len, rows)))]
    lines = [", ".join(entry.rjust(size) for entry, size in zip(row, wide, strict=False)) for row in rows]
    first, last = f"{head}[{lines[0]}", " " * (len(head) + 1)
    return [f"{line};" for line in (first, *(last + line for line in lines[1:-1]))] + [f"{last}{lines[-1]}]"]


def marked(sentence: str) -> str:
    """A sentence from elsewhere with its formulas between backticks."""
    return re.sub(r"[^\s:;,.]*[^\x00-\x7f][^\s:;,.]*", r"`\g<0>`", sentence)


def plain(formula: str) -> str:
    """The formula for a terminal: braces only where they hold more than a word or a number."""
    return re.sub(r"([\^_])\{(−?[\w.∞]+)\}", r"\1\2", formula)


def latex(formula: str) -> str:
    """The formula in LaTeX, for MathJax, KaTeX and amsmath alike."""
    formula = re.sub("‖([^‖]*)‖", r"⟦\1⟧", formula)
    formula = re.sub(r"\|([^|]*)\|", r"⟨\1⟩", formula)
    formula = re.sub(r"\[([^]]*)\]", _pmatrix, formula)
    return re.sub(r" +", " ", _TOKEN.sub(_command, formula)).strip()


def _pmatrix(found: re.Match[str]) -> str:
    rows = found[1].replace("; ", r"\cr ").replace(", ", " & ")
    return rf"\begin{{pmatrix}}{rows}\end{{pmatrix}}"


def _command(found: re.Match[str]) -> str:
    word = found[0]
    if word.startswith(" "):
        return r"\quad "
    if word in _SYMBOLS:
        letter_follows = re.match("[A-Za-z]", found.string[found.end() :])
        return _SYMBOLS[word] + " " * bool(letter_follows)
    if word in _LETTERS or word.isupper() or found.string[: found.start()].endswith(("\\", r"\begin{", r"\end{")):
        return word
    if word in _FUNCTIONS:
        return rf"\{word}"
    if word in _NAMES:
        return rf"\operatorname{{{word}}}"
    return rf"\text{{ {word} }}"
