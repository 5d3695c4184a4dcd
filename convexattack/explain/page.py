"""An explanation as a list of steps, and its three formats."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from convexattack.certificates import Certificate
from convexattack.explain.notation import broken, latex, plain, relate, stacked
from convexattack.solution import Solution, Status

__all__ = ["FORMATS", "Explanation", "Step"]

COLUMNS = 100
FORMATS = ("terminal", "markdown", "latex")
_PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[a4paper,margin=25mm]{geometry}
\usepackage{amsmath}
\usepackage{amssymb}
\setlength{\parindent}{0pt}
\setlength{\parskip}{1ex}
\begin{document}
"""


@dataclass(frozen=True)
class Step:
    """One step of a derivation.

    Attributes:
        title: what the step is, in a few words.
        words: why it holds, in a sentence or two; formulas stand between backticks.
        formulas: in letters first, then with numbers; in the notation of this package's docstrings, for a terminal.
        values: the numbers that the formulas end in, unrounded, by name.
    """

    title: str
    words: str
    formulas: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "formulas", tuple(relate(formula) for formula in self.formulas))

    @property
    def latex(self) -> tuple[str, ...]:
        """The formulas in LaTeX, without delimiters, each on one line."""
        return tuple(latex(formula) for formula in self.formulas)

    @property
    def display(self) -> str:
        """All formulas in LaTeX, for one display; long ones on several lines."""
        rows = []
        for formula in self.formulas:
            first, *rest = broken(formula)
            rows += [f"& {latex(first)}", *(rf"& \qquad {latex(line)}" for line in rest)]
        body = " \\cr\n".join(rows)
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}" if rows else ""


@dataclass(frozen=True, eq=False)
class Explanation:
    """The derivation of one program with its own numbers, step by step.

    Attributes:
        title: the program in words.
        steps: program, Lagrangian, dual, optimum, which inequalities are tight, certificate.
        status: what was claimed.
        solution, certificate: of this item alone (N = 1): where the numbers come from.

    `print(explanation)` shows it in a terminal; `markdown()` is for GitHub or a notebook, `latex()` to compile.
    """

    title: str
    steps: tuple[Step, ...]
    status: Status
    solution: Solution
    certificate: Certificate

    @property
    def proved(self) -> bool:
        """Whether the claim is proved, in exact arithmetic wherever the sets are known exactly."""
        return bool(self.certificate.holds()[0])

    def __str__(self) -> str:
        return self.terminal()

    def terminal(self) -> str:
        """Plain text, formulas in Unicode."""
        parts = [_wrapped(self.title)]
        for k, step in enumerate(self.steps, 1):
            lines = [line for formula in step.formulas for line in _lines(plain(formula))]
            parts.append(
                "\n".join([f"{k}. {step.title}", textwrap.indent(_wrapped(step.words, COLUMNS - 3), "   "), *lines])
            )
        return "\n\n".join(parts) + "\n"

    def markdown(self) -> str:
        """Markdown with formulas in `$` and `$$`, as GitHub and notebooks show them."""
        parts = [f"# {_inline(self.title)}"]
        for k, step in enumerate(self.steps, 1):
            parts += [f"## {k}. {step.title}", _inline(step.words), *[f"$$\n{step.display}\n$$"] * bool(step.formulas)]
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """A whole document (article, amsmath)."""
        parts = [rf"\section*{{{_inline(self.title)}}}"]
        for step in self.steps:
            parts += [
                rf"\subsection*{{{step.title}}}",
                _inline(step.words),
                *[f"\\[\n{step.display}\n\\]"] * bool(step.formulas),
            ]
        return _PREAMBLE + "\n\n".join(parts) + "\n\n\\end{document}\n"

    def render(self, form: str) -> str:
        """One of `FORMATS`, by its name.

        Raises:
            ValueError: another format.
        """
        if form not in FORMATS:
            raise ValueError(f"format {form!r} is unknown: use one of {', '.join(FORMATS)}")
        write: Callable[[], str] = getattr(self, form)
        return write()


def _lines(formula: str) -> list[str]:
    """A formula for a terminal, indented; what follows its first line is indented more."""
    return [f"{' ' * (6 if k == 0 else 10)}{line}" for k, part in enumerate(broken(formula)) for line in stacked(part)]


def _inline(words: str) -> str:
    return re.sub("`([^`]*)`", lambda found: f"${latex(relate(found[1]))}$", words)


def _wrapped(words: str, width: int = COLUMNS) -> str:
    """Lines of at most so many characters; a formula is not torn apart."""
    words = re.sub("`([^`]*)`", lambda found: plain(relate(found[1])).replace(" ", "\xa0"), words)
    return "\n".join(textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)).replace("\xa0", " ")
