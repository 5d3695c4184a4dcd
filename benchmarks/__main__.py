"""The command line: measure row by row, show progress, print the tables, save JSON, Markdown and a picture."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks import cost, exact, figure1, figure2, results, sdp, table1, timing
from benchmarks.timing import Case, Limits, Row

INTERRUPTED = 130
RESULTS = Path(__file__).parent / "results"
FULL: dict[str, Any] = {"dims": (64, 784, 3072, 150528), "batches": (1, 16, 256, 1024), "most": 15}
QUICK: dict[str, Any] = {"dims": (64, 784), "batches": (1, 16), "most": 3}
QUICK_SDP = (20, 40, 784, 3_072)
STUDIES = {"cost": cost, "exact": exact, "figure1": figure1, "figure2": figure2, "table1": table1}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for wrong arguments, 130 after Ctrl-C."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if (
        given.command == "timing"
        and given.device != "cpu"
        and (torch.device(given.device).index or 0) >= torch.cuda.device_count()
    ):
        parser.error(f"--device {given.device}: this torch finds {torch.cuda.device_count()} GPUs; use --device cpu")
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("the picture needs matplotlib: pip install -c constraints.txt -e '.[plot]'")
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=given.out):
            pass
    except OSError as error:
        parser.error(f"--out {given.out} cannot be written to ({error.strerror}): give a folder that can")
    command = shlex.join(
        ["python", "-m", "benchmarks", *(word for word in arguments or sys.argv[1:] if word != "--resume")]
    )
    if given.command in STUDIES:
        run: Callable[[argparse.Namespace, str], int] = STUDIES[given.command].run
        return run(given, command)
    return _sdp(given, command) if given.command == "sdp" else _timing(parser, given, command)


def _timing(parser: argparse.ArgumentParser, given: argparse.Namespace, command: str) -> int:
    plan = QUICK if given.quick else FULL
    dims, batches = sorted(set(given.dims or plan["dims"])), sorted(set(given.batches or plan["batches"]))
    cases = [Case(*key, d) for key in product(given.programs, given.norms, given.box) for d in dims]
    facts = results.about(given.device, given.dtype, given.seed, given.budget, given.memory)
    lines = given.out / "timing.jsonl"
    rows: list[Row] = []
    if given.resume and lines.exists():
        before, rows = results.read(lines)
        different = [name for name in facts if before.get(name) != facts[name]]
        if different:
            name = different[0]
            was = f"{lines.name} was measured with {name} = {before.get(name)}, this run has {facts[name]}"
            parser.error(f"--resume: {was}; leave --resume out, or change --out")
    else:
        lines.unlink(missing_ok=True)
        results.append(lines, facts)
    facts |= {"command": command, "date": time.strftime("%Y-%m-%d"), "CVXPY items": timing.ITEMS}
    try:
        _measure(
            cases, batches, Limits(given.budget, given.memory, min(3, plan["most"]), plan["most"]), given, lines, rows
        )
    except KeyboardInterrupt:
        print(
            f"interrupted: {len(rows)} rows are in {lines.name}; the same command with --resume goes on from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    rows = [row for case in cases for row in rows if row.case == case]
    _save(given.out, facts | {"load": [pick(row.load for row in rows) for pick in (min, max)]}, rows, batches)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="How fast, and how do the paper's figures come out? Nothing is asserted here; "
        "python -m verification does that.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser(
        "timing",
        help="closed form against CVXPY, seconds per item",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Time both paths side by side on random programs (GN), (GNII) and (8), with and without the pixel "
        "range as a box:\n"
        "  closed form     a whole batch, divided by its size\n"
        "  CVXPY fresh     build, compile and solve a new problem\n"
        "  CVXPY re-solve  the parametrized program of solver='reference', already compiled\n"
        "  bare solver     HiGHS or Clarabel alone, on data that are ready\n"
        "All contenders of a row run once in each round, so that what else the machine does falls on all alike. "
        "Medians over rounds are\n"
        "printed; quartiles are in the files. What would take too long or too much memory is reported as not run, with "
        "the reason.",
        epilog="leaves timing.json, timing.md and timing.png in --out, and timing.jsonl, one line a row, to resume "
        "from.\n\n"
        "examples:\n"
        "  python -m benchmarks timing --quick                              a minute or two\n"
        "  python -m benchmarks timing                                      everything\n"
        "  python -m benchmarks timing --dims 784 --batches 256 --norms 2   one question\n"
        "  python -m benchmarks timing --resume                             go on after Ctrl-C\n"
        "  OMP_NUM_THREADS=1 python -m benchmarks timing                    on one thread",
    )
    dims, batches = (",".join(map(str, FULL[name])) for name in ("dims", "batches"))
    one.add_argument("--dims", type=_counts, metavar="D,…", help=f"inputs (default: {dims})")
    one.add_argument(
        "--batches",
        type=_counts,
        metavar="B,…",
        help=f"of the closed form; CVXPY goes item by item (default: {batches})",
    )
    one.add_argument(
        "--norms",
        type=_norms,
        default=("1", "2", "3", "inf"),
        metavar="P,…",
        help="p from 1 to inf (default: 1,2,3,inf)",
    )
    names = tuple(timing.PROGRAMS)
    one.add_argument(
        "--programs", type=_programs, default=names, metavar="NAME,…", help=f"of {', '.join(names)} (default: all)"
    )
    one.add_argument(
        "--box",
        type=_box,
        default=(False, True),
        metavar="no|yes|both",
        help="the pixel range as a set (default: both)",
    )
    one.add_argument(
        "--device", type=_device, default="cpu", help="of the closed form: cpu, cuda, cuda:1 … (default: cpu)"
    )
    dtypes = ("float64", "float32", "float16", "bfloat16")
    one.add_argument("--dtype", choices=dtypes, default="float64", help="of the data (default: float64)")
    one.add_argument(
        "--budget", type=_positive, default=4.0, metavar="SECONDS", help="no call longer than this (default: 4)"
    )
    one.add_argument(
        "--memory", type=_positive, default=6.0, metavar="GIB", help="no call that needs more than this (default: 6)"
    )
    one.add_argument("--seed", type=int, default=0, help="of the data (default: 0)")
    one.add_argument("--quick", action="store_true", help="small dims and batches, three rounds")
    one.add_argument("--resume", action="store_true", help="keep the rows that timing.jsonl in --out already has")
    one.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where results go (default: benchmarks/results)"
    )
    _sdp_parser(commands)
    for name, study in STUDIES.items():
        study.add_parser(commands)
        commands.choices[name].add_argument(
            "--out", type=Path, default=RESULTS, metavar="DIR", help="where results go (default: benchmarks/results)"
        )
    return parser


def _sdp_parser(commands: Any) -> None:
    two = commands.add_parser(
        "sdp",
        help="the relaxation of (9), d x d and m x m, against CVXPY",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Time the relaxation of (9), p = inf, on random Jacobians of m = 10 rows, with columns of "
        "log-normal scale:\n"
        "  d x d, Clarabel and SCS   the paper's semidefinite program, a fresh CVXPY problem, its square root being "
        "the bound\n"
        "  m x m, CVXPY              solver='reference'\n"
        "  ours                      ca.solve as a whole, rounding included, in batches of 256, 32 and 1, and one item "
        "at a time\n"
        "  ours, GPU                 the same there, where torch finds one\n"
        "and ours on square Jacobians, m = d, of full rank. The certified relative gap, Newton steps, primal/dual and "
        "the peak of memory\n"
        "stand beside the times; then the growth of the time with d. What would take too long is reported as not run, "
        "with the reason.",
        epilog="leaves sdp.json, sdp.md and sdp.png in --out.\n\n"
        "examples:\n"
        "  python -m benchmarks sdp --quick              half a minute\n"
        "  python -m benchmarks sdp                      minutes\n"
        "  python -m benchmarks sdp --budget 200 --full  with Clarabel at d = 100 (a minute and a half), and m = d = "
        "2,000",
    )
    dims, squares = (",".join(map(str, sizes)) for sizes in (sdp.DIMS, sdp.SQUARES))
    two.add_argument("--dims", type=_counts, metavar="D,…", help=f"inputs, m = {sdp.M} (default: {dims})")
    two.add_argument("--squares", type=_counts, metavar="D,…", help=f"m = d, ours alone (default: {squares})")
    two.add_argument("--full", action="store_true", help=f"squares {','.join(map(str, sdp.FULL_SQUARES))}")
    two.add_argument(
        "--budget", type=_positive, default=20.0, metavar="SECONDS", help="no call longer than this (default: 20)"
    )
    two.add_argument(
        "--memory", type=_positive, default=6.0, metavar="GIB", help="no call that needs more than this (default: 6)"
    )
    two.add_argument("--seed", type=int, default=0, help="of the data (default: 0)")
    two.add_argument("--quick", action="store_true", help="small dims, no squares, three rounds")
    two.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where results go (default: benchmarks/results)"
    )


def _counts(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be whole numbers from 1 up, such as 64,784")
    return found


def _norms(text: str) -> tuple[str, ...]:
    try:
        found = {float(part) for part in text.split(",")}
    except ValueError:
        found = {0.0}
    if not all(p >= 1 for p in found):
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers from 1 to inf, such as 1,2,inf")
    return tuple("inf" if p == float("inf") else f"{p:g}" for p in sorted(found))


def _programs(text: str) -> tuple[str, ...]:
    unknown = [name for name in text.split(",") if name not in timing.PROGRAMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(timing.PROGRAMS)}")
    return tuple(name for name in timing.PROGRAMS if name in text.split(","))


def _box(text: str) -> tuple[bool, ...]:
    choices = {"no": (False,), "yes": (True,), "both": (False, True)}
    if text not in choices:
        raise argparse.ArgumentTypeError(f"{text!r} must be no, yes or both")
    return choices[text]


def _device(text: str) -> str:
    if text != "cpu" and not (text.partition(":")[0] == "cuda" and text.partition(":")[2].isdecimal() == (":" in text)):
        raise argparse.ArgumentTypeError(f"{text!r} must be cpu, cuda or cuda:N")
    return text


def _positive(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not found > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return found


def _measure(
    cases: Sequence[Case],
    batches: Sequence[int],
    limits: Limits,
    given: argparse.Namespace,
    lines: Path,
    rows: list[Row],
) -> None:
    """Measure what `rows` does not have yet; it grows row by row, and the file with it."""
    seen: timing.Seen = {}
    for row in rows:
        timing.note(seen, row)
    done = {row.case for row in rows if all(row.cell(timing.CLOSED, b) for b in batches)}
    rows[:] = [row for row in rows if row.case in done]
    left = [case for case in cases if case not in done]
    columns = (
        SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.description}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=600) as progress:
        task = progress.add_task("", total=len(left))
        for case in left:
            row = timing.measure(
                case, batches, limits, seen, given.device, getattr(torch, given.dtype), given.seed,
                lambda text: progress.update(task, description=text),
            )  # fmt: skip
            timing.note(seen, row)
            rows.append(row)
            results.append(lines, results.plain(row))
            progress.advance(task)


def _sdp(given: argparse.Namespace, command: str) -> int:
    squares = given.squares or (() if given.quick else sdp.FULL_SQUARES if given.full else sdp.SQUARES)
    cases = [
        sdp.Case(sdp.M, d, sdp.batch_at(d)) for d in sorted(set(given.dims or (QUICK_SDP if given.quick else sdp.DIMS)))
    ]
    cases += [sdp.Case(d, d, 1) for d in sorted(set(squares))]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    facts = results.about(device, "float64", given.seed, given.budget, given.memory)
    facts |= {"command": command, "date": time.strftime("%Y-%m-%d")}
    seen: sdp.Seen = {}
    rows: list[sdp.Row] = []
    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=len(cases))
            for case in cases:
                rounds = 3 if given.quick else sdp.ROUNDS
                history = seen if case.m == sdp.M else {}
                rows.append(
                    sdp.measure(
                        case, given.budget, given.memory, history, given.seed, rounds,
                        lambda text: progress.update(task, description=text),
                    )
                )  # fmt: skip
                progress.advance(task)
                _save_sdp(given.out, facts, rows, len(rows) == len(cases))
    except KeyboardInterrupt:
        print(f"interrupted: {len(rows)} of {len(cases)} rows were measured; those are in sdp.json", file=sys.stderr)
        return INTERRUPTED
    results.show(sdp.sheets(rows))
    print(f"{len(rows)} rows; sdp.json, sdp.md and sdp.png are in {given.out}")
    return 0


def _save_sdp(out: Path, facts: dict[str, Any], rows: Sequence[sdp.Row], complete: bool) -> None:
    facts = facts | {"load": [pick(row.load for row in rows) for pick in (min, max)]}
    content = {
        "about": facts,
        "complete": complete,
        "targets": sdp.targets(rows),
        "rows": [row.plain() for row in rows],
    }
    results.write_whole(
        out / "sdp.json", (json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
    )
    if complete:
        from benchmarks.picture import sdp_picture

        page = results.markdown(facts, sdp.sheets(rows), "The relaxation of the operator norm, p = ∞", "ours")
        results.write_whole(out / "sdp.md", page.encode())
        heading = (
            f"The relaxation of (9), p = ∞, m = {sdp.M}, float64; {facts['cpu']}, torch threads: "
            f"{facts['torch threads']}"
        )
        results.write_whole(out / "sdp.png", sdp_picture(rows, heading))


def _save(out: Path, facts: dict[str, Any], rows: Sequence[Row], batches: Sequence[int]) -> None:
    from benchmarks.picture import picture

    content = {
        "about": facts,
        "targets": results.targets(rows, results.main_batch(batches)),
        "rows": [results.plain(row) for row in rows],
    }
    results.write_whole(
        out / "timing.json", (json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
    )
    results.write_whole(out / "timing.md", results.markdown(facts, results.sheets(rows, batches, spread=True)).encode())
    heading = f"Time per item, {facts['dtype']}; {facts['cpu']}, torch threads: {facts['torch threads']}"
    results.write_whole(out / "timing.png", picture(rows, batches, heading))
    results.show(results.sheets(rows, batches, spread=False))
    print(f"{len(rows)} rows; timing.json, timing.md and timing.png are in {out}")


if __name__ == "__main__":
    sys.exit(main())
