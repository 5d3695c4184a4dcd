"""The command line: parse, one public call, print or save. What computes is imported inside the commands, so that --help is quick."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from convexattack.verify import Report, Row

__all__ = ["app", "main"]

WIDTH = 118  # of what is printed to a file or a pipe
FEW = 20  # items that are shown one by one
TITLES = {
    "gn": "(GN): find η with L + gᵀη < 0 and ‖η‖_p ≤ ε",
    "gnii": "(GNII): minimize L + gᵀη subject to ‖η‖_p ≤ ε",
    "min-norm": "(8): minimize ‖η‖_p subject to L + gᵀη ≤ 0",
    "operator-norm": "(9): maximize ‖Jη‖₂ subject to ‖η‖_p ≤ ε",
}

app = typer.Typer(
    name="convexattack",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def main() -> None:
    """The console script."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"convexattack {version('convexattack')}")
        except PackageNotFoundError:
            print("convexattack, not installed (run from its source)")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Adversarial perturbations as convex programs, solved twice and certified.

    A network's loss L is linearized at an image x, equation (1): L(x + η) ≈ L + gᵀη with g = ∇L(x), or its outputs f themselves:
    f(x + η) ≈ f(x) + Jη with J = J_f(x). Four programs then look for the perturbation η:

    \b
      gn             (GN)    is there an η with L + gᵀη < 0 and ‖η‖_p ≤ ε?  By Proposition 1: if and only if ε‖g‖_q > L.
      gnii           (GNII)  minimize L + gᵀη subject to ‖η‖_p ≤ ε: the best perturbation; Proposition 2, equations (6) and (7).
      min-norm       (8)     minimize ‖η‖_p subject to L + gᵀη ≤ 0: the smallest perturbation.
      operator-norm  (9)     maximize ‖Jη‖₂ subject to ‖η‖_p ≤ ε: the largest change of the outputs, in a bracket of certified bounds.

    The first three may confine η to a box as well. `verify` does all of it on a real network, by closed form (for (9) with p > 2 by Newton
    steps on its relaxation) and by CVXPY; `solve` and `certify` do it on numbers of yours, without a network.

    Exit status: 0 all is proved; 1 something is not; 2 an argument is wrong, with one sentence that says how; 130 interrupted.
    """


@app.command()
def verify(
    model: Annotated[str, typer.Option(help="A shipped network (digits), or MODULE:FACTORY of your own.")] = "digits",
    data: Annotated[str, typer.Option(help="digits, mnist, cifar10, or a folder in the Hugging Face layout.")] = "digits",
    images: Annotated[int, typer.Option(help="How many correctly classified test images.")] = 64,
    programs: Annotated[str, typer.Option(help="Of gn, gnii, min-norm, operator-norm; commas between.")] = (
        "gn,gnii,min-norm,operator-norm"
    ),
    norms: Annotated[str, typer.Option(help="Each p a number in [1, inf]; commas between.")] = "1,1.5,2,3,inf",
    radius: Annotated[
        float | None, typer.Option(help="ε for all norms, in units of the data range; default: for each norm the median of L/‖g‖_q.")
    ] = None,
    box: Annotated[
        bool | None, typer.Option("--box/--no-box", help="Keep x + η in [0, 1] (not for (9)); default: with and without.")
    ] = None,
    solver: Annotated[str, typer.Option(help="Of the other path: reference (HiGHS or Clarabel), or any CVXPY solver.")] = "reference",
    device: Annotated[str, typer.Option(help="Of network and programs: cpu, cuda, ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of network and programs: float64, float32 or float16.")] = "float64",
    weights: Annotated[Path | None, typer.Option(help="A safetensors file for the network.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order in which test images are taken.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A folder for records.jsonl (one line an item) and perturbations.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the evidence for machines instead of tables.")] = False,
) -> None:
    """Solve, certify and compare everything on a real network.

    The network is linearized at test images that it classifies correctly: the margin (3), one piece an image, the most dangerous one
    (smallest L/‖g‖_q). Every item is solved by the closed form and by CVXPY, every claim is certified from its vectors alone, and the
    error of the linear model, |L(x+η) − (L + gᵀη)|, is shown beside it. (9) takes the Jacobian of all outputs; its optimum lies between a
    lower and an upper bound, and of the two paths the upper ones must agree. Exit status 0 only if every certificate holds and both paths
    agree to 1e-6 relative (float64; float32 1e-5, float16 1e-2).

    \b
      convexattack verify
      convexattack verify --norms 2,inf --programs gnii --radius 0.1 --no-box --out evidence
      convexattack verify --norms 2,3,inf --programs operator-norm
      convexattack verify --model my_networks:lenet --weights lenet.safetensors --data mnist
    """
    with _sentences(out):
        exponents = [_exponent(word) for word in _words("norms", norms)]
        from convexattack.verify import verify as run

        with _progress() as update:
            report = run(
                model, data, images, _words("programs", programs), exponents, radius, box, solver, device, dtype, weights, seed, out, update
            )
        if as_json:
            print(json.dumps(report.as_json(command=shlex.join(["convexattack", *sys.argv[1:]])), allow_nan=False, indent=1))
        else:
            _show(report)
        raise typer.Exit(0 if report.passed else 1)


@app.command()
def solve(
    problem: Annotated[Path, typer.Argument(metavar="PROBLEM.npz", help="To read.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="SOLUTION.npz", help="To write: problem and solution together.")],
    solver: Annotated[
        str | None,
        typer.Option(
            help="closed_form, reference (CVXPY), any installed CVXPY solver, or, for (9) with p = inf and d <= 20, enumeration; "
            "default: the closed form."
        ),
    ] = None,
) -> None:
    """Solve the programs in problem.npz, and write problem and solution to solution.npz.

    \b
      import numpy as np
      g = np.random.default_rng(0).normal(size=(3, 64))
      np.savez("problem.npz", value=[1.0, 2.0, 9.0], gradient=g, program="gnii", p=2.0, radius=0.5)

    \b
    value     (N,)       L of each item
    gradient  (N, d)     g of each item
    program              "gn": find L + gᵀη < 0, (GN); "gnii": minimize L + gᵀη, (GNII); "min-norm": minimize ‖η‖_p with L + gᵀη ≤ 0, (8)
    p                    of the norm, a number in [1, inf]
    radius               gn and gnii: ‖η‖_p ≤ radius, a number or (N,)
    lower, upper         optional bounds on η: numbers, (d,) or (N, d)

    For (9), maximize ‖Jη‖₂ with ‖η‖_p ≤ radius, program is "operator-norm", and instead of value, gradient and bounds there is

    \b
    jacobian  (N, m, d)  J of each item

    Exit status 1 if an item could not be solved; the others are written all the same.
    """
    with _sentences():
        from convexattack.files import check_writable, read_problem, write_solution
        from convexattack.solution import Status
        from convexattack.solvers import solve as run

        program = read_problem(problem)
        check_writable(output)
        with _progress() as update:
            done = 0

            def tick(more: int) -> None:
                nonlocal done
                done += more
                update(done, len(program), "solving")

            solution = run(program, solver, tick)
        write_solution(output, program, solution)
        status = list(solution.status)
        for name, count in Counter(entry.name for entry in status).items():
            print(f"{count:,} {name}: {Status[name].value}")
        bad = [i for i, entry in enumerate(status) if entry in (Status.INVALID, Status.FAILED, Status.INEXACT)]
        print(f"{output}: {len(program):,} items by {solution.stats['solver']}; check it with: convexattack certify {output}")
        if bad:
            shown = ", ".join(map(str, bad[:FEW])) + (", ..." if len(bad) > FEW else "")
            typer.echo(f"{len(bad):,} of {len(program):,} items were not solved: {shown}", err=True)
            raise typer.Exit(1)


@app.command()
def certify(
    solution: Annotated[Path, typer.Argument(metavar="SOLUTION.npz", help="What `solve` wrote, or the records.jsonl of `verify --out`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print every certificate for machines instead of a table.")] = False,
) -> None:
    """Check what a file claims, from the file alone.

    Exit status 0 if everything is proved, 1 if anything is not. Weak duality does the work: an η inside its sets is an upper bound on the
    optimum, multipliers are a lower bound, and where the two meet η is optimal, whoever found it. Of (9), which maximizes, primal is the
    lower bound and dual the upper one; where they do not meet the claim is BRACKETED, and width says how far apart they are, relative. A
    solution.npz without multipliers (eta, with or without status) is fine: they are recovered. A records.jsonl is certified line by line,
    and compared with what it records.
    """
    with _sentences():
        items = _recorded(solution) if solution.suffix == ".jsonl" else _certified(solution)
        failed = [item for item in items if item["why"]]
        verdict = f"{len(items) - len(failed):,} of {len(items):,} claims in {solution} are proved" + ("" if failed else ".")
        verdict += f"; {len(failed):,} {'is' if len(failed) == 1 else 'are'} not." if failed else ""
        if solution.suffix == ".jsonl":
            verdict += f" {sum(item['same'] for item in items):,} certificates are bit by bit those on record."
        if as_json:
            document = {"file": str(solution), "passed": not failed, "verdict": verdict, "items": items}
            print(json.dumps(document, allow_nan=False, indent=1))
        else:
            _list(items if len(items) <= FEW else failed[:FEW])
            if len(items) > FEW and len(failed) > FEW:
                print(f"... and {len(failed) - FEW:,} more that are not proved; --json lists all")
            print(verdict)
        raise typer.Exit(1 if failed else 0)


# --- arguments ----------------------------------------------------------------------------------------------------------------------------


@contextmanager
def _sentences(out: Path | None = None) -> Iterator[None]:
    """What is wrong with an argument is one sentence and exit status 2; Ctrl-C is 130."""
    try:
        yield
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as error:
        part = None if out is None else out / "records.jsonl.part"
        kept = f"; the records so far are in {part}, complete lines only" if part is not None and part.exists() else ", nothing was written"
        typer.echo(f"interrupted{kept}", err=True)
        raise typer.Exit(130) from error
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"convexattack: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def _words(name: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError(f"{name} is empty: give at least one, with commas between")
    return words


def _exponent(word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise ValueError(f"norms holds {word!r}, which is no number: give each p as a number in [1, inf], such as 1,2,inf") from error


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr, gone once all is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


# --- output -------------------------------------------------------------------------------------------------------------------------------


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, WIDTH))


def _show(report: Report) -> None:
    """A table for each program, and the verdict."""
    console = _console()
    short = f" ({report.asked} were asked for)" if report.images < report.asked else ""
    lines = [
        f"model {report.model}, {report.images} correctly classified test images{short} of {report.data}, seed {report.seed}; "
        f"one piece of {report.pieces} an image, smallest L/‖g‖_q",
        f"{report.dtype} on {report.device}; ε in units of the data range; gaps and differences are relative; lin. error is "
        "|L(x+η) − (L + gᵀη)| in units of the scores",
    ]
    console.print("\n".join(lines), markup=False)
    for name, title in TITLES.items():
        rows = [row for row in report.rows if row.program == name]
        if rows:
            console.print(_bracket_table(title, rows) if name == "operator-norm" else _table(title, rows))
            for row in rows:
                if not row.passed:
                    console.print(f"NOT OK: p = {row.p:g}, {row.sets}: {_wrong(row)}", markup=False, style="red", soft_wrap=True)
    for why in dict.fromkeys(entry.why for entry in report.left_out):
        cells = [entry for entry in report.left_out if entry.why == why]
        exponents = ", p = " + ", ".join(f"{p:g}" for p in dict.fromkeys(entry.p for entry in cells))
        which = " with a box" if all(entry.box for entry in cells) else exponents
        console.print(f"not run: {cells[0].program}{which}: {why}", markup=False, soft_wrap=True)
    for path in report.files:
        console.print(f"written: {path}", markup=False, soft_wrap=True)
    console.print(f"{report.verdict} {report.seconds:.0f} s.", markup=False, soft_wrap=True)


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
    table = Table(title=title + legend, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
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
    counts = {who: ", ".join(f"{count} {name}" for name, count in sorted(side.statuses.items())) for who, side in sides.items()}
    return counts["CVXPY"] if len(set(counts.values())) == 1 else "; ".join(f"{who} {count}" for who, count in counts.items())


def _wrong(row: Row) -> str:
    """Why a row did not pass."""
    wrong = [
        f"{row.items - side.held} of {row.items} by {who} not proved ({side.why})"
        for who, side in (("torch" if row.program == "operator-norm" else "the closed form", row.closed_form), ("CVXPY", row.reference))
        if side.held < row.items
    ]
    return "; ".join(wrong + ([f"the paths disagree on {row.disagreements}"] if row.disagreements else []))


def _certified(path: Path) -> list[dict[str, Any]]:
    """One line an item of a solution.npz."""
    from convexattack.certificates import certify as run
    from convexattack.files import certificate_record, name_of, read_solution
    from convexattack.solution import Solution, Status
    from convexattack.verify import refusals

    program, claim = read_solution(path)
    certificate = run(program, claim)
    members = list(Status)
    name, bare = name_of(program), not isinstance(claim, Solution)
    return [
        {"item": i, "program": name, "claimed": "(eta alone)" if bare else members[code].name}
        | {**certificate_record(certificate, i), "why": why}
        for i, (code, why) in enumerate(zip(certificate.claimed.tolist(), refusals(program, certificate), strict=True))
    ]


def _recorded(path: Path) -> list[dict[str, Any]]:
    """One line a claim of a records.jsonl."""
    from convexattack.certificates import certify as run
    from convexattack.files import certificate_record, name_of, read_records
    from convexattack.verify import refusals

    items = []
    with _progress() as update:
        for number, (record, program, claims) in enumerate(read_records(path), 1):
            for name, claim in claims.items():
                certificate = run(program, claim)
                found = certificate_record(certificate, 0)
                why = refusals(program, certificate)[0]
                same = found == record["claims"][name]["certificate"]
                item = {"item": f"{number} {name}", "program": name_of(program), "claimed": claim.status[0].name}
                items.append(item | {**found, "why": why, "same": same})
            update(number, number, "certifying")
    return items


def _list(items: list[dict[str, Any]]) -> None:
    if not items:
        return
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    names = ("primal", "dual", "gap", "violation", "residual")
    last = "width" if {item["program"] for item in items} == {"operator-norm"} else "residual"
    for name in ("item", "claimed", *names[:-1], last):
        table.add_column(name, justify="left" if name == "claimed" else "right", no_wrap=True)
    table.add_column("holds")
    for item in items:
        numbers = [f"{float(item[name]) + 0.0:.{6 if name in ('primal', 'dual') else 1}g}" for name in names]
        table.add_row(str(item["item"]), item["claimed"], *numbers, f"no: {item['why']}" if item["why"] else "yes")
    _console().print(table)


if __name__ == "__main__":
    main()
