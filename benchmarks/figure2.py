"""Figure 2: the share of correctly classified images that each method fools, against ε, beside what the paper says."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children, get_context
from typing import Any

import numpy as np
import torch

import convexattack as ca
from benchmarks import measure, pages, paper, results
from benchmarks.ledger import Ledger, timed
from benchmarks.measure import ITERATIVE, ONE_STEP
from benchmarks.pages import Compared
from benchmarks.results import Sheet
from benchmarks.subjects import BATCH, SEED, Subject, add_arguments, progress_bar, said_of, subjects

__all__ = ["Curve", "Gap", "Panel", "add_parser", "measured", "run"]

PIECES = ("best", "active")
SHORT = 20.0  # seconds of work that are not worth a second process
CLEAR = 2.0  # standard errors beyond which one curve is called above another


@dataclass(frozen=True, eq=False)
class Curve:
    """One method on one network.

    Attributes:
        method: as the paper has it.
        piece: "best" or "active" for Algorithm 1 and 1-n; "" for the others, which have or choose one piece.
        fooled: (radii, images) which correctly classified image is fooled at which ε.
        other: for each ε on how many images the best piece is not the active one; of Algorithm 1 alone.
        seconds: what it took to measure, in seconds of the processor.
    """

    method: str
    piece: str
    fooled: np.ndarray
    other: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def shares(self) -> list[tuple[int, int, float, float, float]]:
        """For each ε: fooled, images, their ratio, and its 95% interval by Wilson."""
        images = self.fooled.shape[1]
        return [(k, images, k / images, *measure.wilson(k, images)) for k in self.fooled.sum(1).tolist()]


@dataclass(frozen=True, eq=False)
class Panel:
    """One network: its curves, and the numbers of Table I that belong to them."""

    network: paper.Network
    curves: tuple[Curve, ...]
    numbers: tuple[Compared, ...]

    def curve(self, method: str, piece: str) -> Curve:
        return next(curve for curve in self.curves if curve.method == method and curve.piece in ("", piece))


@dataclass(frozen=True)
class Gap:
    """How far the first curve of a claim is above the second, on the same images.

    Attributes:
        above, below: at how many ε it is so by more than two standard errors of the paired difference.
        most, least: the largest and the smallest difference of the fooling ratios.
    """

    claim: paper.Claim
    network: paper.Network
    piece: str
    above: int
    below: int
    radii: int
    most: float
    least: float

    @staticmethod
    def of(claim: paper.Claim, panel: Panel, piece: str) -> Gap:
        first, second = panel.curve(claim.first, piece), panel.curve(claim.second, piece)
        difference = first.fooled.astype(float) - second.fooled
        mean = difference.mean(1)
        clear = np.abs(mean) > CLEAR * difference.std(1, ddof=1) / math.sqrt(difference.shape[1])
        above, below = (int((clear & (sign * mean > 0)).sum()) for sign in (1, -1))
        return Gap(claim, panel.network, piece, above, below, len(mean), float(mean.max()), float(mean.min()))

    @property
    def said(self) -> str:
        level = self.radii - self.above - self.below
        return f"above at {self.above}, below at {self.below}, neither at {level}"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "figure2",
        help="fooling ratios against ε, as in the paper's Figure 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The share of correctly classified images that FastGrad, Algorithm 1, 1-5, 1-10 and 2, DeepFool "
        "and random signs\n"
        "fool, p = ∞, at ten ε from 0.001 to the right end of the paper's Figure 2; Algorithm 1 by the best piece (the "
        "class is\n"
        "chosen after the step) and by the active one (the class closest at x). No clipping to the data range;\n"
        "MNIST's frame is perturbed too.",
        epilog="leaves figure2.json, .csv, .md and .png in --out (figure2-all.* for all images, and so on), and "
        "figure2.jsonl, a line for\n"
        "every measurement. A second start skips what is there and was measured from the same weights, images, code "
        "and torch; delete\n"
        "figure2.jsonl to measure afresh. Two processes may share it, each with a --model; the command without one "
        "then reports.\n\n"
        "examples:\n"
        "  python -m benchmarks figure2                            1,024 images, minutes\n"
        "  python -m benchmarks figure2 --model fcnn --images 64   seconds\n"
        "  python -m benchmarks figure2 --images all               the whole test set, ten times as long\n"
        "  python -m benchmarks figure2 --output probabilities     f of unit ℓ1 norm, as equation (2) has it",
    )
    add_arguments(parser)
    parser.add_argument(
        "--piece", choices=(*PIECES, "both"), default="both", help="of Algorithm 1 and 1-n (default: both)"
    )


def run(given: argparse.Namespace, command: str) -> int:
    """Exit status: 0, 1 where no network can be had, 130 after Ctrl-C."""
    found, missing = subjects(given.model, given.images)
    if not found:
        print("\n".join(f"{name} is not run: {why}" for name, why in missing.items()), file=sys.stderr)
        return 1
    ledger, start = Ledger(given.out / "figure2.jsonl"), time.perf_counter()
    try:
        panels = measured(found, given.output, PIECES if given.piece == "both" else (given.piece,), ledger)
    except KeyboardInterrupt:
        print(
            f"interrupted: what was measured is in {ledger.path.name}; the same command goes on from there",
            file=sys.stderr,
        )
        return pages.INTERRUPTED
    _save(
        given,
        panels,
        missing,
        pages.conditions(found, command, given) | {"wall seconds": round(time.perf_counter() - start)},
    )
    return 0


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """One measurement: what it is, how it is done, and the seconds it is expected to take."""

    item: dict[str, object]
    work: Callable[[measure.Progress], Mapping[str, Any]]
    images: int
    seconds: float

    @property
    def words(self) -> str:
        return " ".join(
            str(self.item[key]) for key in ("model", "measure", "method", "piece", "radius") if self.item.get(key)
        )

    def counted(self, advance: Callable[[float], object]) -> Callable[[int], object]:
        """From images done to seconds done."""
        return lambda images: advance(images * self.seconds / self.images)


def measured(found: Sequence[Subject], output: str, pieces: Sequence[str], ledger: Ledger) -> list[Panel]:
    """Every curve, from the ledger or measured now."""
    todo = [(subject, _tasks(subject, output, pieces)) for subject in found]
    left = [task for _, tasks in todo for task in tasks if not ledger.has(task.item)]
    workers = processes(found[0], sum(task.seconds for task in left))
    with progress_bar() as progress:
        bar = progress.add_task("", total=sum(task.seconds for task in left))
        if workers > 1:
            _shared(
                left, ledger, workers, lambda task: progress.update(bar, description=task.words, advance=task.seconds)
            )
        for task in left if workers == 1 else ():
            progress.update(bar, description=task.words)
            ledger.get(task.item, partial(task.work, task.counted(partial(progress.advance, bar))))
    return [_panel(subject, [(task.item, ledger[task.item]) for task in tasks]) for subject, tasks in todo]


def processes(subject: Subject, seconds: float) -> int:
    """How many processes measure: one where a GPU works, or for a short while; else one a core, with a thread each."""
    return 1 if subject.x.device.type != "cpu" or seconds < SHORT else os.cpu_count() or 1


def _shared(tasks: Sequence[_Task], ledger: Ledger, workers: int, done: Callable[[_Task], object]) -> None:
    """Measure in several processes, the longest tasks first. Each result is in the ledger as soon as it comes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin) as pool:
        try:
            order = sorted(tasks, key=lambda task: -task.seconds)
            pending = {pool.submit(timed, partial(task.work, _nothing)): task for task in order}
            for future in as_completed(pending):
                ledger.put(pending[future].item, future.result())
                done(pending[future])
        except BaseException:
            for child in active_children():
                child.terminate()
            raise


def _begin() -> None:
    """One thread, and Ctrl-C is for the process that waits for this one."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _nothing(images: int) -> None:
    """Progress that nobody watches."""


def _tasks(subject: Subject, output: str, pieces: Sequence[str]) -> list[_Task]:
    radii, right = list(subject.network.radii), int(subject.right.sum())
    unit = _pace(subject, output)
    tasks = []

    def add(
        work: Callable[[measure.Progress], Mapping[str, Any]], units: float, images: int = right, **what: object
    ) -> None:
        tasks.append(_Task(subject.item(output=output, **what), work, images, units * unit))

    for name in ("test error", "rho_2"):
        add(partial(measure.measure, subject, name, output), 1, len(subject.x), measure=name)
    add(partial(measure.random, subject, output, radii), 2, method="Random", piece="", radii=radii, seed=SEED)
    for method in ONE_STEP:
        for piece in pieces if method == "Algorithm 1" else ("",):
            add(
                partial(measure.one_step, subject, method, piece, output, radii),
                2,
                method=method,
                piece=piece,
                radii=radii,
            )
    add(partial(measure.deepfool, subject, output), 4, method="DeepFool", piece="")
    for method, steps in ITERATIVE.items():
        for piece in pieces:
            units = steps * (1.2 if piece == "best" else 0.25)
            for radius in radii:
                add(
                    partial(measure.iterated, subject, method, piece, output, radius),
                    units,
                    method=method,
                    piece=piece,
                    radius=radius,
                )
    return tasks


def _pace(subject: Subject, output: str) -> float:
    """Seconds to linearize the margin at every image, from one batch."""
    part = slice(min(BATCH, len(subject.x)))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        ca.linearize(subject.function(output), subject.x[part], subject.label[part])
        times.append(time.perf_counter() - start)
    return min(times) * len(subject.x) / min(BATCH, len(subject.x))


def _panel(subject: Subject, made: Sequence[tuple[dict[str, object], dict[str, Any]]]) -> Panel:
    network = subject.network
    curves: list[Curve] = []
    for method in paper.METHODS:
        for piece in ("", *PIECES):
            mine = [result for item, result in made if (item.get("method"), item.get("piece")) == (method, piece)]
            if mine:
                at = {radius: result for result in mine for radius in result.get("radii", network.radii)}
                fooled = np.stack([measure.fooled_at(at[radius], radius) for radius in network.radii])
                seconds = sum(float(result["cpu"]) for result in mine)
                curves.append(Curve(method, piece, fooled, tuple(mine[0].get("other", ())), seconds))
    numbers = {item["measure"]: result["estimates"] for item, result in made if "measure" in item}
    (sizes,) = (result for item, result in made if item.get("method") == "DeepFool")
    hits = measure.fooled_at(sizes, network.epsilon)
    share, (low, high) = float(hits.mean()), measure.wilson(int(hits.sum()), len(hits))
    error = math.sqrt(share * (1 - share) / len(hits)) or None
    at_paper: dict[str, Any] = {
        "value": share,
        "low": low,
        "high": high,
        "standard error": error,
        "images": len(hits),
        "left out": {},
    }
    compared = (
        Compared(network, "test error", "Table I", network.test_error, numbers["test error"][0]),
        Compared(network, "ρ₂, active piece", "Table I", network.rho_2, numbers["rho_2"][0]),
        Compared(network, "ρ₂, smallest", "Table I", network.rho_2, numbers["rho_2"][1]),
        Compared(network, f"DeepFool at ε = {network.epsilon:g}", "Table I, > 99%", 0.99, at_paper),
    )
    return Panel(network, tuple(curves), compared)


# --- reporting --------------------------------------------------------------------------------------------------------


def _gaps(panels: Sequence[Panel]) -> list[Gap]:
    pieces = [piece for piece in PIECES if any(curve.piece == piece for panel in panels for curve in panel.curves)]
    pairs = [(panel, claim, piece) for panel in panels for claim in paper.CLAIMS for piece in pieces]
    own = [(panel, claim, piece) for panel, claim, piece in pairs if claim.by_piece or piece == pieces[0]]
    return [Gap.of(claim, panel, piece if claim.by_piece else "") for panel, claim, piece in own]


def _sheets(panels: Sequence[Panel], missing: Mapping[str, str], spread: bool) -> list[Sheet]:
    found = []
    for panel in panels:
        lines = []
        for curve in panel.curves:
            shown = [
                f"{r:.1%}" + (f" ({low:.1%} to {high:.1%})" if spread else "") for _, _, r, low, high in curve.shares
            ]
            lines.append((curve.method, curve.piece or "–", *shown, f"{curve.seconds:,.0f}"))
        for curve in panel.curves:
            if curve.other and curve.piece == "best":
                images = curve.fooled.shape[1]
                lines.append(
                    (
                        "images whose best piece is not the active one",
                        "–",
                        *(f"{k / images:.1%}" for k in curve.other),
                        "–",
                    )
                )
        images = panel.curves[0].fooled.shape[1]
        title = (
            f"{panel.network.title}: fooling ratio of {images:,} images{', 95% intervals by Wilson' if spread else ''}"
        )
        found.append(
            Sheet(
                title,
                ["method", "piece", *(f"ε = {radius:.4g}" for radius in panel.network.radii), "seconds (CPU)"],
                2,
                lines,
            )
        )
    lines = [
        (gap.network.title, gap.claim.words, f"{gap.claim.first} − {gap.claim.second}", gap.piece or "–", gap.said,
         f"{100 * gap.most:+.1f}", f"{100 * gap.least:+.1f}")
        for gap in _gaps(panels)
    ]  # fmt: skip
    columns = [
        "network",
        "Section IV says",
        "difference",
        "piece",
        "by over 2 s.e., of ten ε",
        "largest, points",
        "smallest, points",
    ]
    found.append(Sheet("What the paper says of the curves, on the same images (paired)", columns, 5, lines))
    found.append(
        pages.compared_sheet("The paper's numbers beside ours", [row for panel in panels for row in panel.numbers])
    )
    return found + pages.missing_sheet(missing)


def _remarks(panels: Sequence[Panel], wall: float) -> list[str]:
    seconds = sum(curve.seconds for panel in panels for curve in panel.curves)
    return [
        "The paper's curves are a picture only: no number was read off it, "
        "so what stands beside ours is what its text and Table I say.",
        "One-step attacks share one linearization per image over all ε; the best piece is chosen anew for each. "
        "DeepFool runs once, and fools an image at ε if its perturbation is smaller than ε, strictly. Random has the "
        "same signs at every ε.",
        "An interval, and a standard error (s.e.), speaks of the sampling of images alone.",
        f"Seconds are those of a processor: {seconds:,.0f} for all curves, shared by a process a core with one thread "
        f"each where that pays. This run took {wall:,.0f} s by the clock, less what an earlier one had measured.",
        *pages.reasons([row for panel in panels for row in panel.numbers if not row.what.startswith("DeepFool")]),
    ]


def _save(
    given: argparse.Namespace, panels: Sequence[Panel], missing: Mapping[str, str], facts: dict[str, Any]
) -> None:
    from benchmarks.paper_pictures import figure2

    table = [
        {
            "model": panel.network.name, "output": given.output, "method": curve.method, "piece": curve.piece,
            "epsilon": radius, "fooled": k, "images": n, "ratio": ratio, "low": low, "high": high,
        }
        for panel in panels
        for curve in panel.curves
        for radius, (k, n, ratio, low, high) in zip(panel.network.radii, curve.shares, strict=True)
    ]  # fmt: skip
    content = {
        "about": facts,
        "curves": table,
        "other piece": {
            panel.network.name: dict(zip(map(str, panel.network.radii), curve.other, strict=True))
            for panel in panels
            for curve in panel.curves
            if curve.other and curve.piece == "best"
        },
        "claims": [
            {
                "model": gap.network.name, "words": gap.claim.words, "first": gap.claim.first,
                "second": gap.claim.second, "piece": gap.piece, "clearly above": gap.above, "clearly below": gap.below,
                "radii": gap.radii, "largest": gap.most, "smallest": gap.least,
            }
            for gap in _gaps(panels)
        ],
        "compared": [pages.plain(row) for panel in panels for row in panel.numbers],
        "not run": dict(missing),
    }  # fmt: skip
    most = max(known["images"] for known in facts["networks"].values())
    heading = f"Figure 2: p = ∞, {facts['output']}, correctly classified among {most:,} test images"
    pages.save(
        given.out, f"figure2{said_of(given)}", "Figure 2: fooling ratios", content, table,
        _sheets(panels, missing, spread=True), _remarks(panels, facts["wall seconds"]),
        partial(figure2, panels, missing, heading),
    )  # fmt: skip
    results.show(_sheets(panels, missing, spread=False))
    print(f"figure2{said_of(given)}.json, .csv, .md and .png are in {given.out}")
