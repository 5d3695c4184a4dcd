"""`python -m verification mutants`: choose mutants, test each that is not in the ledger, print what came of it."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verification.mutants import ledger as ledgers
from verification.mutants import report
from verification.mutants import rooms as table
from verification.mutants.copies import Copies
from verification.mutants.ledger import Ledger, Row
from verification.mutants.mutator import Mutant, mutants
from verification.mutants.rooms import Room

__all__ = ["main"]

INTERRUPTED = 130
OUT = Path("verification", "results", "mutants.jsonl")
WARM = True  # import once, in the process that is forked, what the package needs
UNMUTATED = 3600.0  # seconds that the tests may take on the package as it is
TIMES, MORE = 5, 20  # a mutant may take so many times as long, and so many seconds more

Chosen = list[tuple[Room, Mutant]]


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 if the tests notice enough, 1 if not or if they fail as they are, 2 and 130 as ever."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _checked(parser, given)
    found, left_out = table.existing(given.room or table.ROOMS, table.ROOT)
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    if not found:
        parser.error(
            f"--room {' '.join(given.room or table.ROOMS)} has nothing to mutate: name a room whose files are there, "
            "in the table of verification/mutants/rooms.py"
        )
    every = _every(found)
    chosen = every if given.all else _sample(every, given.count, given.seed)
    if given.list:
        print("\n".join(f"{room.name}  {mutant.said}" for room, mutant in chosen))
        return 0
    try:
        reasons = ledgers.reasons(ledgers.REASONS)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    digests = {file: ledgers.digest(_source(file)) for room in found for file in room.files}
    ledger = Ledger(given.out)
    status = 0
    try:
        _run(_to_run(chosen, ledger, digests, given.again), ledger, digests, given.jobs)
    except KeyboardInterrupt:
        print(f"interrupted: {given.out} has what was found; the same command goes on from there", file=sys.stderr)
        status = INTERRUPTED
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    rows = ((mutant, ledger.get(mutant, room.name, digests[mutant.file])) for room, mutant in chosen)
    judged = [(mutant, row) for mutant, row in rows if row is not None]
    keys = {mutant.key for _, mutant in every}
    stale = [key for key in reasons if key.split(" | ")[0] in digests and key not in keys]
    report.show(judged, reasons, stale)
    return status or (0 if report.passes(judged, reasons) else 1)


def _source(file: str) -> str:
    return (table.ROOT / file).read_text(encoding="utf-8")


def _every(found: Iterable[Room]) -> Chosen:
    return [(room, mutant) for room in found for file in room.files for mutant in mutants(file, _source(file))]


def _sample(every: Chosen, count: int, seed: int) -> Chosen:
    """Drawn by a hash of each mutant, lest a change in one place draw all others anew; in the order of the source."""

    def lot(k: int) -> bytes:
        mutant = every[k][1]
        return sha256(f"{seed} {mutant.key} {mutant.column}".encode()).digest()

    return [every[k] for k in sorted(sorted(range(len(every)), key=lot)[:count])]


def _to_run(chosen: Chosen, ledger: Ledger, digests: dict[str, str], again: bool) -> Chosen:
    """The mutants of which nothing is known; those that survived as well, if they are to be run again."""
    left = []
    for room, mutant in chosen:
        row = ledger.get(mutant, room.name, digests[mutant.file])
        if row is None or (again and not row.detected):
            left.append((room, mutant))
    return left


def _run(left: Chosen, ledger: Ledger, digests: dict[str, str], jobs: int) -> None:
    """Run the tests on each; the ledger grows mutant by mutant.

    Raises:
        RuntimeError: the tests of a room fail on the package as it is, or import another package than the copy; or a
            file was edited meanwhile.
    """
    if not left:
        return
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with (
        Copies(table.ROOT, min(jobs, len(left)), WARM) as copies,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        _same(copies, digests)
        task = progress.add_task("", total=len(left))
        survived = 0
        for room in dict.fromkeys(room for room, _ in left):
            progress.update(task, description=f"{room.name}: the tests without a mutant")
            limit = _limit(room, copies)
            progress.update(task, description=room.name)
            orders = [(mutant, room.tests, limit) for other, mutant in left if other == room]
            for mutant, ran in copies.run(orders):
                row = Row(
                    room.name, mutant.file, mutant.line, mutant.column, mutant.what, mutant.allowance, ran.verdict,
                    round(ran.seconds, 2), ran.by, digests[mutant.file],
                )  # fmt: skip
                ledger.put(row)
                survived += not row.detected
                progress.update(task, advance=1, description=f"{room.name}, {survived} survived")


def _same(copies: Copies, digests: dict[str, str]) -> None:
    for copy in copies.copies:
        for file, digest in digests.items():
            if ledgers.digest((copy.folder / file).read_text(encoding="utf-8")) != digest:
                raise RuntimeError(f"{file} was edited while it was copied: start again")


def _limit(room: Room, copies: Copies) -> float:
    """The seconds that a mutant has, from what the tests take without one: as they stand, then the quick ones first."""
    seconds = 0.0
    for _ in range(2):
        plain = copies.unmutated(room.tests, UNMUTATED)
        if plain.verdict == "elsewhere":
            raise RuntimeError(
                f"room {room.name}: its tests import a package that is not the copy, so nothing can be learnt; "
                "unset PYTHONPATH, or see what puts another folder first on sys.path"
            )
        if plain.verdict != "survived":
            raise RuntimeError(
                f"{plain.said}\nroom {room.name}: its tests do not pass without a mutant ({plain.verdict}); "
                f"mend them first: pytest -n0 {' '.join(room.tests)}"
            )
        seconds = max(seconds, plain.seconds)
    return TIMES * seconds + MORE


def _checked(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if not hasattr(os, "fork"):
        parser.error("this system has no os.fork, which runs a mutant without importing everything anew: use Linux")
    for name in given.room:
        if name not in table.ROOMS:
            parser.error(f"--room {name} is not one of {', '.join(table.ROOMS)}: --help says what each holds")
    if given.count < 1:
        parser.error(f"--count {given.count} must be 1 or more; --all runs every mutant")
    if given.seed < 0:
        parser.error(f"--seed {given.seed} must be 0 or more")
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs} must be 1 or more")
    try:
        if given.out.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        with tempfile.TemporaryFile(dir=given.out.parent), suppress(FileNotFoundError):
            given.out.read_bytes()
    except OSError as error:
        parser.error(f"--out {given.out} cannot be written to ({error.strerror}): give a file in a folder that can")


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, table.ROOMS))
    listed = "\n".join(f"  {name:{width}}  {' '.join(files)}" for name, (files, _) in table.ROOMS.items())
    parser = argparse.ArgumentParser(
        prog="python -m verification mutants",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Put one small error at a time into the source, and see whether the tests notice. A mutant is one\n"
        "changed operator (+ to -, * to /, & to |, a minus or a `not` gone), one comparison (< to <=, and to >=),\n"
        "one minimum made a maximum, or one allowance for rounding taken away: a term with `slack`, `error`, `UNIT`\n"
        "or the like in it dropped, such a factor or a tiny number set to 0. It is killed if a test of its room\n"
        "fails, or if the tests take longer than they may. A mutant that survives is an error that nobody would\n"
        "notice, or one that changes nothing: then verification/mutants/reasons.json says why, under\n"
        "`file | line | mutation` as it is printed at the end.\n\n"
        "Mutants are run on a copy of the package: nothing in the checkout is changed. What is found is kept in\n"
        "--out, and not run again while the mutated file stays as it is, so an interrupted run goes on where it was.",
        epilog=f"rooms:\n{listed}\n\n"
        "examples:\n"
        "  python -m verification mutants                            300 of all mutants, drawn by --seed\n"
        "  python -m verification mutants --room norms --count 20    a first look, a minute or two\n"
        "  python -m verification mutants --room sets --all --list   what can be wrong there; runs nothing\n"
        "  python -m verification mutants --again                    after a new test: the survivors once more\n\n"
        f"Exit status: 0 if at least {report.ENOUGH:.0%} were noticed and every allowance that survived has a reason.",
    )
    _options(parser)
    return parser


def _options(parser: argparse.ArgumentParser) -> None:
    help_room = "one of those below; may be given several times (default: all)"
    parser.add_argument("--room", action="append", default=[], metavar="ROOM", help=help_room)
    number = parser.add_mutually_exclusive_group()
    help_count = "how many are drawn from the mutants of these rooms (default: 300)"
    number.add_argument("--count", type=int, default=300, metavar="N", help=help_count)
    number.add_argument("--all", action="store_true", help="every mutant of these rooms")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    help_jobs = "mutants at a time, one core each (default: 2)"
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help=help_jobs)
    help_again = "run those that survived again: tests may have changed, which the ledger does not see"
    parser.add_argument("--again", action="store_true", help=help_again)
    parser.add_argument("--list", action="store_true", help="print the mutants, and run none")
    help_out = f"the ledger, a line of JSON a mutant (default: {OUT})"
    parser.add_argument("--out", type=Path, default=table.ROOT / OUT, metavar="FILE.jsonl", help=help_out)
