"""What `verify` found: rows, the verdict, and the evidence as JSON."""

from __future__ import annotations

import math
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from convexattack.files import PROGRAMS
from convexattack.verify.setting import DTYPES, NO_BOX, NORMS, LeftOut

__all__ = ["Report", "Row", "Side", "versions"]


@dataclass(frozen=True)
class Side:
    """What one solver did with the items of a row.

    Attributes:
        solver: its name; for CVXPY the solver underneath.
        statuses: how many items have each status.
        held: how many certificates hold.
        gap, violation, residual: the worst of all items with an η, relative (see `Certificate`; for (9) the gap is that
            of the relaxation, and the residual the width of the bracket).
        seconds: wall-clock time per item.
        why: the first refusal, None where every certificate holds.
        bracket: for (9) the medians of the lower and of the upper bounds on the norm, around the median norm.
    """

    solver: str
    statuses: dict[str, int]
    held: int
    gap: float
    violation: float
    residual: float
    seconds: float
    why: str | None
    bracket: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """One program, norm and choice of sets on all images.

    Attributes:
        program: `gn`, `gnii`, `min-norm` or `operator-norm`.
        p: of the norm.
        box: whether x + η must stay in the pixel range [0, 1].
        radius: ε in units of the data range; None for (8).
        items: how many.
        closed_form, reference: the two paths.
        difference: the worst relative difference between their objectives, for (9) between their upper bounds (∞ where
            one has an η and the other none).
        disagreements: on how many items their verdicts differ, or these numbers by more than the tolerance.
        linearization_median, linearization_worst: |L(x + η) − (L + gᵀη)| of the real network, for (9)
            ‖f(x + η) − f(x) − Jη‖₂, in units of its scores.
        lower_difference: for (9) the worst relative difference between the lower bounds, which two roundings may have.
        bound: for (9) where the upper bound comes from, `relaxation` or, for p < 2, `formula` on both paths.
    """

    program: str
    p: float
    box: bool
    radius: float | None
    items: int
    closed_form: Side
    reference: Side
    difference: float
    disagreements: int
    linearization_median: float
    linearization_worst: float
    lower_difference: float | None = None
    bound: str | None = None

    @property
    def sets(self) -> str:
        """What η is confined to, in words."""
        return ("box" if self.box else "none") if self.radius is None else ("ball, box" if self.box else "ball")

    @property
    def speedup(self) -> float:
        """Time of CVXPY over time of the closed form."""
        return self.reference.seconds / self.closed_form.seconds

    @property
    def passed(self) -> bool:
        """Whether every certificate of both paths holds and they agree on every item."""
        return self.closed_form.held == self.reference.held == self.items and self.disagreements == 0


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`: its settings, one row for each program, norm and choice of sets, where the files are,
    and what was asked for and cannot be run. `pieces` is 0 without classes: any inputs were taken."""

    model: str
    data: str
    note: str
    asked: int
    images: int
    misclassified: int
    pieces: int
    solver: str
    device: str
    dtype: str
    seed: int
    tolerance: float
    rows: tuple[Row, ...]
    seconds: float
    files: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    @property
    def verdict(self) -> str:
        """One sentence."""
        items = sum(row.items for row in self.rows)
        if self.passed:
            solved = [row for row in self.rows if row.program != "operator-norm"]
            bracketed = [row for row in self.rows if row.program == "operator-norm"]
            parts = [self._agreement(solved)] if solved else []
            parts += [self._bracketing(bracketed)] if bracketed else []
            return (
                f"VERIFIED: {'; '.join(parts)}; all {2 * items:,} certificates hold (tolerance {self.tolerance:.0e})."
            )
        broken = [2 * row.items - row.closed_form.held - row.reference.held for row in self.rows]
        first = next(row for row in self.rows if not row.passed)
        why = first.closed_form.why or first.reference.why or f"the paths differ by {first.difference:.1e}"
        return (
            f"NOT VERIFIED: {sum(broken):,} of {2 * items:,} certificates do not hold, and the paths disagree on "
            f"{sum(row.disagreements for row in self.rows):,} of {items:,} items; "
            f"first at {first.program}, p = {first.p:g}, sets {first.sets}: {why}."
        )

    @staticmethod
    def _agreement(rows: list[Row]) -> str:
        items, worst = sum(row.items for row in rows), max(row.difference for row in rows)
        gaps = [max(getattr(row, path).gap for row in rows) for path in ("closed_form", "reference")]
        return (
            f"on all {items:,} items closed form and CVXPY agree to {worst:.1e} relative (worst gap {gaps[0]:.1e} and "
            f"{gaps[1]:.1e})"
        )

    @staticmethod
    def _bracketing(rows: list[Row]) -> str:
        items, widest = sum(row.items for row in rows), max(rows, key=lambda row: row.closed_form.residual)
        text = (
            f"all {items:,} items of (9) are bracketed, to {widest.closed_form.residual:.1e} relative at worst (p = "
            f"{widest.p:g})"
        )
        relaxed = [row for row in rows if row.bound == "relaxation"]
        if relaxed:
            gaps = [max(getattr(row, path).gap for row in relaxed) for path in ("closed_form", "reference")]
            text += (
                f", and the upper bounds of the relaxation agree to {max(row.difference for row in relaxed):.1e} "
                f"(worst gap {gaps[0]:.1e} and {gaps[1]:.1e})"
            )
        return text

    def matrix(self) -> list[dict[str, Any]]:
        """The evidence: every program x norm x sets x dtype x device x solver, with result, or `not run` and why."""
        found = {(row.program, row.p, row.box): row for row in self.rows}
        norms = sorted({*NORMS, *(row.p for row in self.rows)})
        solvers = dict.fromkeys(("closed_form", "reference", self.solver))
        devices = dict.fromkeys(("cpu", "cuda", self.device))
        cells = []
        for name in PROGRAMS:
            for p in norms:
                for box in (False, True):
                    row = found.get((name, p, box))
                    for dtype in DTYPES:
                        for device in devices:
                            for solver in solvers:
                                ball = [] if name == "min-norm" else ["ball"]
                                cell: dict[str, Any] = {
                                    "program": name,
                                    "norm": _number(p),
                                    "sets": ball + ["box"] * box,
                                }
                                cell |= {"dtype": dtype, "device": device, "solver": solver}
                                why = self._why_not_run(row, name, p, box, dtype, device, solver)
                                cells.append(
                                    cell
                                    | (
                                        _evidence(row, solver)
                                        if why is None and row
                                        else {"result": "not run", "why": why}
                                    )
                                )
        return cells

    def _why_not_run(
        self, row: Row | None, name: str, p: float, box: bool, dtype: str, device: str, solver: str
    ) -> str | None:
        if device != self.device:
            if device == "cuda" and not torch.cuda.is_available():
                return "torch finds no CUDA device on this machine"
            return f"--device was {self.device}; run with --device {device}"
        if dtype != self.dtype:
            return f"--dtype was {self.dtype}; run with --dtype {dtype}"
        if solver not in ("closed_form", self.solver):
            return f"--solver was {self.solver}; run without it"
        impossible = {(entry.program, entry.p, entry.box): entry.why for entry in self.left_out}
        if row is None:
            if name == "operator-norm" and box:
                return NO_BOX
            if (name, p, box) in impossible:
                return impossible[name, p, box]
            if name not in {row.program for row in self.rows} | {entry.program for entry in self.left_out}:
                return f"--programs left it out; run with --programs {name}"
            if p not in {row.p for row in self.rows}:
                return f"--norms left it out; run with --norms {p:g}"
            return f"--{'no-' * box}box left it out; run without --{'no-' * box}box"
        return None

    def as_json(self, command: str | None = None) -> dict[str, Any]:
        """Everything, for machines: JSON without NaN or infinities ("inf" is a string)."""
        rows = [{**asdict(row), "sets": row.sets, "speedup": row.speedup, "passed": row.passed} for row in self.rows]
        settings = {name: value for name, value in vars(self).items() if name not in ("rows", "left_out")}
        head = {"command": command, "passed": self.passed, "verdict": self.verdict, "versions": versions()}
        return _jsonable({**head, **settings, "rows": rows, "matrix": self.matrix()})  # type: ignore[no-any-return]


def _evidence(row: Row, solver: str) -> dict[str, Any]:
    path = row.closed_form if solver == "closed_form" else row.reference
    result = "holds" if path.held == row.items and row.disagreements == 0 else "fails"
    numbers: dict[str, Any] = {
        "items": row.items,
        "held": path.held,
        "disagreements": row.disagreements,
        "gap": path.gap,
        "difference": row.difference,
    }
    if row.bound is not None:
        numbers |= {
            "bound": row.bound,
            "width": path.residual,
            "bracket": path.bracket,
            "lower_difference": row.lower_difference,
        }
    return {
        "result": result,
        "by": path.solver,
        **numbers,
        "statuses": path.statuses,
        "seconds": path.seconds,
        "why": path.why,
    }


def versions() -> dict[str, str]:
    """Of Python, of this package, and of what computes."""
    found = {"python": platform.python_version()}
    for name in ("convexattack", "torch", "numpy", "scipy", "cvxpy", "clarabel", "highspy", "scs", "osqp"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"}


def _number(x: float) -> float | str:
    return x if math.isfinite(x) else str(x)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    return _number(value) if isinstance(value, float) else value
