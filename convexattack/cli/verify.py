"""`convexattack verify`: everything on a real network, both ways."""

from __future__ import annotations

import json
import math
import shlex
import sys
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from convexattack.cli.options import Data, Device, Dtype, Images, Model, Seed, Weights
from convexattack.cli.terminal import console, number, progress, sentences, words

if TYPE_CHECKING:
    from convexattack.verify import Report, Row

__all__ = ["verify"]

TITLES = {
    "gn": "(GN): find η with L + gᵀη < 0 and ‖η‖_p ≤ ε",
    "gnii": "(GNII): minimize L + gᵀη subject to ‖η‖_p ≤ ε",
    "min-norm": "(8): minimize ‖η‖_p subject to L + gᵀη ≤ 0",
    "operator-norm": "(9): maximize ‖Jη‖₂ subject to ‖η‖_p ≤ ε",
}


def verify(
    model: Model = "digits",
    data: Data = "digits",
    images: Images = 64,
    programs: Annotated[str, typer.Option(help="Of gn, gnii, min-norm, operator-norm; commas between.")] = (
        "gn,gnii,min-norm,operator-norm"
    ),
    norms: Annotated[str, typer.Option(help="Each p a number in [1, inf]; commas between.")] = "1,1.5,2,3,inf",
    radius: Annotated[
        float | None,
        typer.Option(help="ε for all norms, in units of the data range; default: for each norm the median of L/‖g‖_q."),
    ] = None,
    box: Annotated[
        bool | None,
        typer.Option("--box/--no-box", help="Keep x + η in [0, 1] (not for (9)); default: with and without."),
    ] = None,
    solver: Annotated[
        str, typer.Option(help="Of the other path: reference (HiGHS or Clarabel), or any CVXPY solver.")
    ] = "reference",
    device: Device = "cpu",
    dtype: Dtype = "float64",
    weights: Weights = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A folder for records.jsonl (one line an item) and perturbations.png.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the evidence for machines instead of tables.")] = False,
) -> None:
    """Solve, certify and compare everything on a real network.

    The network is linearized at test images that it classifies correctly: the margin (3), one piece an image, the most
    dangerous one (smallest L/‖g‖_q). Every item is solved by the closed form and by CVXPY, every claim is certified
    from its vectors alone, and the error of the linear model, |L(x+η) − (L + gᵀη)|, is shown beside it. (9) takes the
    Jacobian of all outputs; its optimum lies between a lower and an upper bound, and of the two paths the upper ones
    must agree. Alone it needs no classes: it takes regression networks (diabetes, digits-autoencoder) at any inputs,
    with ε = 0.1 by default. Exit status 0 only if every certificate holds and both paths agree to 1e-6 relative
    (float64; float32 1e-5, float16 1e-2).

    \b
      convexattack verify
      convexattack verify --norms 2,inf --programs gnii --radius 0.1 --no-box --out evidence
      convexattack verify --norms 2,3,inf --programs operator-norm
      convexattack verify --programs operator-norm --model diabetes --data diabetes
      convexattack verify --model my_networks:lenet --weights lenet.safetensors --data mnist
    """
    with sentences(out):
        exponents = [
            number("norms", word, "each p as a number in [1, inf], such as 1,2,inf") for word in words("norms", norms)
        ]
        from convexattack.verify import verify as run

        with progress() as update:
            report = run(
                model,
                data,
                images,
                words("programs", programs),
                exponents,
                radius,
                box,
                solver,
                device,
                dtype,
                weights,
                seed,
                out,
                update,
            )
        if as_json:
            print(
                json.dumps(
                    report.as_json(command=shlex.join(["convexattack", *sys.argv[1:]])), allow_nan=False, indent=1
                )
            )
        else:
            _show(report)
        raise typer.Exit(0 if report.passed else 1)


def _show(report: Report) -> None:
    """A table for each program, and the verdict."""
    screen = console()
    short = f" ({report.asked} were asked for)" if report.images < report.asked else ""
    what = "correctly classified test images" if report.pieces else "test inputs"
    lines = [f"model {report.model}, {report.images} {what}{short} of {report.data}, seed {report.seed}"]
    where = f"{report.dtype} on {report.device}; ε in units of the data"
    if report.pieces:
        lines = [f"{lines[0]}; one piece of {report.pieces} an image, smallest L/‖g‖_q"]
        lines += [
            f"{where} range; gaps and differences are relative; lin. "
            "error is |L(x+η) − (L + gᵀη)| in units of the scores"
        ]
    else:
        lines += [f"{where}; gaps and differences are relative"]
    screen.print("\n".join(lines), markup=False)
    for name, title in TITLES.items():
        rows = [row for row in report.rows if row.program == name]
        if rows:
            screen.print(_bracket_table(title, rows) if name == "operator-norm" else _table(title, rows))
            for row in rows:
                if not row.passed:
                    screen.print(
                        f"NOT OK: p = {row.p:g}, {row.sets}: {_wrong(row)}", markup=False, style="red", soft_wrap=True
                    )
    for why in dict.fromkeys(entry.why for entry in report.left_out):
        cells = [entry for entry in report.left_out if entry.why == why]
        exponents = ", p = " + ", ".join(f"{p:g}" for p in dict.fromkeys(entry.p for entry in cells))
        which = " with a box" if all(entry.box for entry in cells) else exponents
        screen.print(f"not run: {cells[0].program}{which}: {why}", markup=False, soft_wrap=True)
    for path in report.files:
        screen.print(f"written: {path}", markup=False, soft_wrap=True)
    screen.print(f"{report.verdict} {report.seconds:.0f} s.", markup=False, soft_wrap=True)


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("p", "sets", "ε", "items"):
        table.add_column(name, justify="left" if name == "sets" else "right", no_wrap=True)
    table.add_column("statuses")
    gaps, times = ("gap\nclosed", "gap\nCVXPY"), ("µs/item\nclosed", "ms/item\nCVXPY", "times\nfaster")
    for name in ("differ", *gaps, *times, "lin. error\nmedian", "lin. error\nworst"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if rows[0].radius is None and row is rows[0]:
            table.columns[2].header = ""
        table.add_row(
            "inf" if row.p == math.inf else f"{row.p:g}",
            row.sets,
            "" if row.radius is None else f"{row.radius:g}",
            str(row.items),
            _statuses(row),
            f"{row.difference:.0e}",
            f"{row.closed_form.gap:.0e}",
            f"{row.reference.gap:.0e}",
            f"{row.closed_form.seconds * 1e6:.1f}",
            f"{row.reference.seconds * 1e3:.1f}",
            f"{row.speedup:,.0f}",
            f"{row.linearization_median:.2g}",
            f"{row.linearization_worst:.2g}",
            style=None if row.passed else "red",
        )
    return table


def _bracket_table(title: str, rows: list[Row]) -> Table:
    """(9): the bracket, how wide it is at worst, and how well the two upper bounds are proved and agree."""
    legend = "\nbracket: medians of the torch path's bounds, rounded outwards; lin. error is ‖f(x+η) − f(x) − Jη‖₂"
    if any(row.bound == "formula" for row in rows):
        legend += "; p < 2: the upper bound is a formula, not a relaxation"
    table = Table(
        title=title + legend, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in ("p", "ε", "items"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("statuses")
    bracket, differ, gaps = (
        ("bracket\nfrom", "bracket\nto", "width\nworst"),
        ("upper\ndiffer", "lower\ndiffer"),
        ("gap\ntorch", "gap\nCVXPY"),
    )
    for name in (*bracket, *differ, *gaps, "ms/item\ntorch", "ms/item\nCVXPY", "lin.err\nmedian", "lin.err\nworst"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        relaxed = row.bound == "relaxation"
        low, high = row.closed_form.bracket or (math.nan, math.nan)
        table.add_row(
            f"{row.p:g}",
            f"{row.radius:g}",
            str(row.items),
            _statuses(row),
            _outwards(low, ROUND_FLOOR),
            _outwards(high, ROUND_CEILING),
            f"{row.closed_form.residual:.0e}",
            f"{row.difference:.0e}" if relaxed else "formula",
            f"{row.lower_difference:.0e}",
            f"{row.closed_form.gap:.0e}" if relaxed else "formula",
            f"{row.reference.gap:.0e}" if relaxed else "formula",
            f"{row.closed_form.seconds * 1e3:.2g}",
            f"{row.reference.seconds * 1e3:.2g}",
            f"{row.linearization_median:.2g}",
            f"{row.linearization_worst:.2g}",
            style=None if row.passed else "red",
        )
    return table


def _outwards(number: float, direction: str) -> str:
    """Four significant digits, rounded so that a bound stays one."""
    if not math.isfinite(number) or number == 0:
        return f"{number:g}"
    exact = Decimal(number)
    step = Decimal(1).scaleb(exact.adjusted() - 3)
    return f"{float(exact.quantize(step, rounding=direction)):#.4g}".rstrip(".")


def _statuses(row: Row) -> str:
    """The counts, of both paths where they differ."""
    sides = {"torch" if row.program == "operator-norm" else "closed form": row.closed_form, "CVXPY": row.reference}
    counts = {
        who: ", ".join(f"{count} {name}" for name, count in sorted(side.statuses.items()))
        for who, side in sides.items()
    }
    return (
        counts["CVXPY"]
        if len(set(counts.values())) == 1
        else "; ".join(f"{who} {count}" for who, count in counts.items())
    )


def _wrong(row: Row) -> str:
    """Why a row did not pass."""
    wrong = [
        f"{row.items - side.held} of {row.items} by {who} not proved ({side.why})"
        for who, side in (
            ("torch" if row.program == "operator-norm" else "the closed form", row.closed_form),
            ("CVXPY", row.reference),
        )
        if side.held < row.items
    ]
    return "; ".join(wrong + ([f"the paths disagree on {row.disagreements}"] if row.disagreements else []))
