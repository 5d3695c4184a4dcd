"""`python -m verification audit`: run every step of every installed library, show progress, print and save a table."""

from __future__ import annotations

import argparse
import logging
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verification.audit import table
from verification.audit.counterexample import counterexample
from verification.audit.measure import measure
from verification.audit.peers import STEPS, Step
from verification.audit.table import Row

__all__ = ["audit", "main"]

INTERRUPTED = 130
INSTALL = "pip install -c constraints.txt -e '.[peers]'"
RESULTS = Path(__file__).parent.parent / "results"


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, whatever the steps are worth; 1 without any library; 2 for wrong arguments, 130 after Ctrl-C."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.seed < 0:
        parser.error(f"--seed {given.seed} must be 0 or more")
    if given.items < 1:
        parser.error(f"--items {given.items} must be 1 or more")
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=given.out):
            pass
    except OSError as error:
        parser.error(f"--out {given.out} cannot be written to ({error.strerror}): give a folder that can")
    threads, silenced = torch.get_num_threads(), logging.root.manager.disable
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # ART warns at every image that it has no clip values
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    rows: list[Row] = []
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=len(STEPS))

            def say(step: Step, done: int) -> None:
                progress.update(task, description=f"{step.library}: {step.name}", completed=done)

            rows.extend(audit(STEPS, given.items, given.seed, say))
    except KeyboardInterrupt:
        print(
            f"interrupted after {len(rows)} of {len(STEPS)} steps: nothing was written to {given.out}", file=sys.stderr
        )
        return INTERRUPTED
    finally:
        torch.set_num_threads(threads)
        logging.disable(silenced)
    table.show(rows)
    if not any(row.measured for row in rows):
        print(
            f"nothing was measured, so nothing was written to {given.out}; {INSTALL} installs the libraries",
            file=sys.stderr,
        )
        return 1
    facts = {
        "command": shlex.join(["python", "-m", "verification", "audit", *arguments]),
        "date": time.strftime("%Y-%m-%d"),
        "seed": given.seed,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy")},
        "rows": [asdict(row) for row in rows],
    }
    for path in table.save(given.out, facts):
        print(f"saved {path}")
    return 0


def audit(
    steps: Sequence[Step], items: int, seed: int, say: Callable[[Step, int], object] = lambda step, done: None
) -> Iterator[Row]:
    """One row a step, as it is measured; one row for a library that is not there, or cannot be imported."""
    done = 0
    for library, group in groupby(steps, key=lambda step: step.library):
        its = list(group)
        try:
            number = version(library)
        except PackageNotFoundError:
            yield Row(library, "", why=f"not installed: {INSTALL}")
            done += len(its)
            continue
        for k, step in enumerate(its):
            say(step, done + k)
            try:
                measured = measure(step, items, seed)
                found = counterexample(step)
            except ImportError as error:
                yield Row(library, number, why=f"not run: {type(error).__name__}: {error}")
                break
            p = f"{step.norm.p:g}".replace("inf", "∞")
            yield Row(library, number, step.name, step.options, step.program.__name__, p, step.case, measured, found)
        done += len(its)


def _parser() -> argparse.ArgumentParser:
    libraries = list(dict.fromkeys(step.library for step in STEPS))
    parser = argparse.ArgumentParser(
        prog="python -m verification audit",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the attack steps of other libraries on affine models, where the program that a step answers "
        "is known\n"
        "exactly, and compare what they reach with its certified optimum:\n"
        "  (GNII)  minimize gᵀη subject to ‖η‖_p ≤ ε, with and without 0 ≤ x + η ≤ 1: the share of the optimum "
        "reached\n"
        "  (8)     the smallest ‖η‖_p that changes the class, for DeepFool and FAB: how many are fooled, by how large "
        "an η\n"
        "Then convexattack.testing.check_step looks for the smallest program on which the step fails.\n"
        f"Libraries: {', '.join(libraries)}. One that is not installed becomes a row that says so.",
        epilog="examples:\n"
        f"  {INSTALL}\n"
        "  python -m verification audit                       a few minutes; replaces the table in "
        "verification/results\n"
        "  python -m verification audit --items 2 --out new   a first look\n\n"
        "The exit status is 0 whatever the libraries do: the table is a measurement, not a test. It is 1, and no file "
        "is written,\n"
        "where none of them is installed.",
    )
    parser.add_argument("--items", type=int, default=20, metavar="N", help="images of each kind and size (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of images and models, the same for every library (default: 0)"
    )
    help_out = "audit.md and audit.json go there, both or neither (default: verification/results)"
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help=help_out)
    return parser
