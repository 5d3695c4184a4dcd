"""`convexattack solve` and `certify`: numbers from anywhere, without a network."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from convexattack.cli.terminal import FEW, console, progress, sentences

__all__ = ["certify", "solve"]


def solve(
    problem: Annotated[Path, typer.Argument(metavar="PROBLEM.npz", help="To read.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="SOLUTION.npz", help="To write: problem and solution together.")
    ],
    solver: Annotated[
        str | None,
        typer.Option(
            help="closed_form, reference (CVXPY), any installed CVXPY solver, or, for (9) with p = inf and d <= 20, "
            "enumeration; default: the closed form."
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
    program              "gn": find L + gᵀη < 0; "gnii": minimize L + gᵀη; "min-norm": minimize ‖η‖_p, L + gᵀη ≤ 0, (8)
    p                    of the norm, a number in [1, inf]
    radius               gn and gnii: ‖η‖_p ≤ radius, a number or (N,)
    lower, upper         optional bounds on η: numbers, (d,) or (N, d)

    For (9), maximize ‖Jη‖₂ with ‖η‖_p ≤ radius, program is "operator-norm", with, for value, gradient and bounds,

    \b
    jacobian  (N, m, d)  J of each item

    Sets of other kinds are what a solution.npz holds of them, set0_label, set0_atom, set0_map and the numbers of both.

    Exit status 1 if an item could not be solved; the others are written all the same.
    """
    with sentences():
        from convexattack.files import check_writable, read_problem, write_solution
        from convexattack.solution import Status
        from convexattack.solvers import solve as run

        program = read_problem(problem)
        check_writable(output)
        with progress() as update:
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
        print(
            f"{output}: {len(program):,} items by {solution.stats['solver']}; check it with: "
            f"convexattack certify {output}"
        )
        if bad:
            shown = ", ".join(map(str, bad[:FEW])) + (", ..." if len(bad) > FEW else "")
            typer.echo(f"{len(bad):,} of {len(program):,} items were not solved: {shown}", err=True)
            raise typer.Exit(1)


def certify(
    solution: Annotated[
        Path, typer.Argument(metavar="SOLUTION.npz", help="What `solve` wrote, or the records.jsonl of `verify --out`.")
    ],
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Trust no float: PROVED, ROUNDING, TOLERATED, REFUTED or UNDECIDED in exact arithmetic."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every certificate for machines instead of a table.")
    ] = False,
) -> None:
    """Check what a file claims, from the file alone.

    Exit status 0 if everything is proved, 1 if anything is not. Weak duality does the work: an η inside its sets is an
    upper bound on the optimum, multipliers are a lower bound, and where the two meet η is optimal, whoever found it. Of
    (9), which maximizes, primal is the lower bound and dual the upper one; where they do not meet the claim is
    BRACKETED, and width says how far apart they are, relative. A solution.npz without multipliers (eta, with or without
    status) is fine: those of `solve` are taken. A records.jsonl is refused (exit status 2) unless it is whole, as its
    count and digest say; it is certified line by line, and a certificate other than the one on record is not proved.

    With --exact the numbers shown are proved, and --json has enclosures as fractions. PROVED: η is inside its sets to
    the last bit, its gap within 1e-12 (float64), 1e-6 (float32) or 1e-3 (float16), for (9) within 1e-6, 1e-5 or 1e-2.
    ROUNDING: outside by at most d units in the last place. TOLERATED: violation and gap within 1e-6, 1e-5 or 1e-2, as
    a conic solver's are. REFUTED: by what is outside, or by a better point. Exit status 3 if nothing is worse than
    ROUNDING or TOLERATED, but not all is PROVED.
    """
    with sentences():
        items = _recorded(solution, exact) if solution.suffix == ".jsonl" else _certified(solution, exact)
        failed = [item for item in items if not item["holds"]]
        how = " in exact arithmetic" if exact else ""
        near = sum(item.get("verdict") in ("ROUNDING", "TOLERATED") for item in failed)
        wrong = len(failed) - near
        verdict = f"{len(items) - len(failed):,} of {len(items):,} claims in {solution} are proved{how}"
        verdict += f"; {near:,} more but for rounding or a tolerance" if near else ""
        verdict += f"; {wrong:,} {'is' if wrong == 1 else 'are'} not." if wrong else "."
        if solution.suffix == ".jsonl" and not exact:
            verdict += f" {sum(item['same'] for item in items):,} certificates are bit by bit those on record."
        if as_json:
            document = {"file": str(solution), "passed": not failed, "verdict": verdict, "items": items}
            print(json.dumps(document, allow_nan=False, indent=1))
        else:
            _list(items if len(items) <= FEW else failed[:FEW])
            if len(items) > FEW and len(failed) > FEW:
                print(f"... and {len(failed) - FEW:,} more that are not proved; --json lists all")
            print(verdict)
        raise typer.Exit(1 if wrong else 3 if near else 0)


def _certified(path: Path, exact: bool) -> list[dict[str, Any]]:
    """One line an item of a solution.npz."""
    from convexattack.files import certificate_records, name_of, read_solution
    from convexattack.judged import certify as run
    from convexattack.solution import Solution, Status

    program, claim = read_solution(path)
    with progress() as update:
        done = 0

        def tick(more: int) -> None:
            nonlocal done
            done += more
            update(done, len(program), "certifying")

        certificate = run(program, claim, exact, tick)
    members = list(Status)
    name, bare = name_of(program), not isinstance(claim, Solution)
    return [
        {"item": i, "program": name, "claimed": "(eta alone)" if bare else members[code].name, **record}
        for i, (code, record) in enumerate(
            zip(certificate.claimed.tolist(), certificate_records(certificate), strict=True)
        )
    ]


def _recorded(path: Path, exact: bool) -> list[dict[str, Any]]:
    """One line a claim of a records.jsonl; one whose certificate is not the one on record does not hold."""
    from convexattack.files import certificate_records, name_of, read_records
    from convexattack.judged import certify as run

    items = []
    with progress() as update:
        for number, (record, program, claims) in enumerate(read_records(path), 1):
            for name, claim in claims.items():
                found = certificate_records(run(program, claim, exact))[0]
                item = {
                    "item": f"{number} {name}",
                    "program": name_of(program),
                    "claimed": claim.status[0].name,
                    **found,
                }
                stored = record["claims"][name]["certificate"]
                if not exact:
                    item["same"] = found == stored
                    wrong = _differs(found, stored)
                    if wrong is not None:
                        why = f"the record has {wrong} {stored.get(wrong)}, computed anew it is {found[wrong]}"
                        item |= {"holds": False, "why": why}
                items.append(item)
            update(number, number, "certifying")
    return items


def _differs(found: dict[str, Any], stored: dict[str, Any]) -> str | None:
    """The first entry of a certificate that the last digits of another machine's sums do not explain."""
    scale = float(found["scale"])
    units = {"primal": scale, "dual": scale, "scale": scale, "gap": 1.0, "violation": 1.0, "residual": 1.0}
    for name, entry in found.items():
        same = entry == stored.get(name) or name == "why"
        if not same and name in units and isinstance(stored.get(name), float) and isinstance(entry, float):
            same = abs(entry - stored[name]) <= 1e-9 * max(units[name], abs(entry))
        if not same:
            return name
    return None


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
        table.add_row(
            str(item["item"]),
            item["claimed"],
            *numbers,
            item.get("verdict", "yes") if item["holds"] else f"{item.get('verdict', 'no')}: {item['why']}",
        )
    console().print(table)
