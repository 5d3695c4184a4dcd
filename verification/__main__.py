"""The command line: check claims, show progress, print a table, save records."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from verification import CLAIMS, Claim, Record, run
from verification.claims import PACKAGES
from verification.page import write_whole

INTERRUPTED = 130
COMMANDS: dict[
    str, Callable[[], ModuleType]
] = {  # a first word, and the module whose `main(arguments) -> int` takes the rest
    "audit": lambda: import_module("verification.audit"),
    "judge": lambda: import_module("verification.judge"),
    "lessons": lambda: import_module("verification.lessons"),
    "mutants": lambda: import_module("verification.mutants"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 if every claim holds, 1 if one does not, 2 for wrong arguments, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in COMMANDS:
        return int(COMMANDS[words[0]]().main(words[1:]))
    parser = _parser()
    given = parser.parse_args(words)
    unknown = [name for name in given.claim if name not in CLAIMS]
    if unknown:
        parser.error(f"claim {unknown[0]!r} is not one of {', '.join(CLAIMS)}: --help says what each is")
    if given.seed < 0:
        parser.error(f"--seed {given.seed} must be 0 or more")
    chosen = [CLAIMS[name] for name in given.claim or CLAIMS]
    for option, file in (("--json", given.json), ("--report", given.report)):
        if file is not None and (refusal := _refusal(file)):
            parser.error(
                f"{option} {file} cannot be written ({refusal}): give a file in a folder that can be written to"
            )
    if given.report is not None and (
        missing := [name for name in ("latex2mathml", "matplotlib") if find_spec(name) is None]
    ):
        parser.error(f'--report needs {" and ".join(missing)}: pip install -c constraints.txt ".[report]"')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    records: list[Record] = []
    try:
        _check(chosen, given, records)
    except KeyboardInterrupt:
        done = {record.claim for record in records}
        print(f"interrupted: {len(done)} of {len(chosen)} claims were checked; the others were not", file=sys.stderr)
        _report(records)
        return INTERRUPTED
    finally:
        torch.set_num_threads(threads)
    _report(records)
    if given.report is not None:
        from verification.report import report

        write_whole(given.report, report(chosen, records, given.seed, given.instances, words))
    return 0 if all(record.holds for record in records) else 1


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, CLAIMS))
    listed = "\n".join(f"  {name:{width}}  {claim.statement} ({claim.equation})" for name, claim in CLAIMS.items())
    parser = argparse.ArgumentParser(
        prog="python -m verification",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Check the claims of 'On Generation of Adversarial Examples using Convex Programming'\n"
        "on random programs and on a small trained network. Each claim is judged by oracles that share\n"
        "no code with the library: another solver (HiGHS through scipy, SCS), enumeration of vertices,\n"
        "rational numbers, fifty digits. One row of the table is one claim and one oracle: the worst\n"
        "discrepancy over all instances, and the tolerance that it must not exceed (0 for verdicts, and\n"
        "for equality to the last bit). An instance counts as abstained where the library itself says\n"
        "that it cannot tell, or that the dtype cannot hold the answer.",
        epilog=f"claims:\n{listed}\n\n"
        "Each claim is derived in its own file, from program through Lagrangian and dual to optimum:\n"
        "  python -m pydoc verification.min_norm\n\n"
        "examples:\n"
        "  python -m verification                                   every claim, a few minutes\n"
        "  python -m verification --instances small                 every claim and every case, seconds\n"
        "  python -m verification sign fastgrad                     two claims\n"
        "  python -m verification min_norm --instances 1000 --seed 7 --json records.json\n"
        "  python -m verification --report evidence.html            one page to read, print or send\n"
        "  python -m verification audit --help                      other libraries' steps, by the same yardstick\n"
        "  python -m verification judge --help                      wrong claims must not hold, right ones must\n"
        "  python -m verification mutants --help                    whether the tests notice a small error",
    )
    parser.add_argument("claim", nargs="*", metavar="CLAIM", help="names from the list below (default: all)")
    parser.add_argument(
        "--instances",
        type=_instances,
        default="full",
        metavar="small|full|N",
        help="random instances of each claim; N is rounded up so that each case (norm, box, dtype, ...) has as many "
        "(default: full)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the instances; a claim's do not depend on what else runs (default: 0)"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="save the records there, replaced as a whole after each claim: always a complete file",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write one page with derivations and results there, at the end"
    )
    return parser


def _refusal(file: Path) -> str:
    """Why the file cannot be written; "" if it can."""
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            return "it is a folder" if file.is_dir() else ""
    except OSError as error:
        return error.strerror or "its folder refuses"


def _instances(text: str) -> str | int:
    if text in ("small", "full"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} must be small, full or a number from 1 up")


def _each(claim: Claim, instances: str | int) -> int:
    """Instances a case."""
    if isinstance(instances, int):
        return math.ceil(instances / len(claim.cases))
    return claim.small if instances == "small" else claim.full


def _check(chosen: Sequence[Claim], given: argparse.Namespace, records: list[Record]) -> None:
    """Run the claims; `records` grows claim by claim, and the file with it."""
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {claim.name: progress.add_task(claim.name, total=len(claim.cases), start=False) for claim in chosen}
        for k, claim in enumerate(chosen):
            task = tasks[claim.name]
            progress.start_task(task)
            records += run(claim, _each(claim, given.instances), given.seed, lambda task=task: progress.advance(task))  # type: ignore[misc]
            if given.json is not None:
                _save(given.json, records, k + 1 == len(chosen), given)


def _save(path: Path, records: Sequence[Record], complete: bool, given: argparse.Namespace) -> None:
    """Write beside the file, then put it in its place."""
    rows = [
        {key: _plain(value) for key, value in asdict(record).items()} | {"holds": record.holds} for record in records
    ]
    packages = {name: version(name) for name in PACKAGES}
    content = {
        "complete": complete,
        "seed": given.seed,
        "instances": given.instances,
        "versions": packages,
        "records": rows,
    }
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no infinity: a discrepancy that is not finite becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _report(records: Sequence[Record]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    table = Table(title="claims of the paper, each judged by oracles that share no code with the library")
    for name in ("claim", "equation", "judged by"):
        table.add_column(name)
    for name in ("instances", "abstained", "worst discrepancy", "tolerance", "holds", "seconds"):
        table.add_column(name, justify="right")
    last = ""
    for record in records:
        first = record.claim != last
        if first and last:
            table.add_section()
        last = record.claim
        table.add_row(
            record.claim if first else "",
            record.equation if first else "",
            record.oracle,
            f"{record.instances:,}",
            f"{record.abstained:,}" if record.abstained else "",
            f"{record.discrepancy:.1e}" if record.discrepancy else "0",
            f"{record.tolerance:g}",
            "yes" if record.holds else "[bold red]NO[/]",
            f"{record.seconds:.1f}",
        )
    console.print(table)
    for record in records:
        if record.note:
            console.print(f"{record.claim}, {record.oracle}: {record.note}", highlight=False, markup=False)
    for record in records:
        if not record.holds:
            sentence = (
                f"{record.claim} does not hold: {record.discrepancy:.1e} > {record.tolerance:g} at {record.where} "
                f"({record.oracle})"
            )
            console.print(sentence, highlight=False, markup=False)
    claims, broken = {r.claim for r in records}, {r.claim for r in records if not r.holds}
    slips = [name for name in CLAIMS if name in claims - broken and CLAIMS[name].slip]
    if slips:
        console.print(f"The paper slips, and the claim is what holds instead: {', '.join(slips)}.", highlight=False)
    console.print(f"{len(claims) - len(broken)} of {len(claims)} claims hold.")


if __name__ == "__main__":
    sys.exit(main())
