"""What does an attack cost beyond the passes through the network that nobody can do without?

The floor of an attack is plain PyTorch, run on the same images, in the same rounds as the attack:
  one-step attacks: one forward pass with a graph, K backward passes from the K pieces of the loss, one forward pass
  without a graph, for what became of the images;
  DeepFool: at each step one forward pass with a graph and m − 1 backward passes, on the rows that are alive at that
  step (those of the attack itself), and one forward pass without a graph on all images at the end.
Nothing of what the backward passes return is looked at. They run one after another, or all K at once as
`torch.autograd.grad` batches them by vmap: the floor is whichever has the lower median, and the page says which.
`ca.linearize` chooses between the two by the number of entries, so that an attack may also be below its floor. Our
DeepFool makes one more forward pass a step than its floor: it asks the network after each step, on the rows alive;
where few of them fall, the next step starts from that pass.

Bare code, `benchmarks/bare.py`, is the same attack without sets in as few lines of PyTorch as it has, its backward
passes in either form, whichever is faster: what nobody can do without who wants a perturbation and not gradients alone.
It rounds as it comes and proves nothing.

A round is the attack, its floor and its bare code once each; times are seconds of the processor, so that a busy machine
falsifies little; a ratio is the median over rounds of the round's own quotient.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

import convexattack as ca
from benchmarks import bare, pages, paper, results, subjects
from benchmarks.results import Sheet
from convexattack import datasets, models

__all__ = ["ATTACKS", "NETWORKS", "Row", "add_parser", "floor", "measure", "run"]

NETWORKS = ("digits", "fcnn", "lenet5")
NORMS = (1.0, 2.0, math.inf)
RADII = {1.0: 5.0, 2.0: 1.0, math.inf: 0.1}  # in units of the data range; what a step costs hardly depends on them
Loss = Callable[[Tensor, Tensor], Tensor]  # output (B, m), label (B,) → pieces (B, K)
ATTACKS: dict[str, tuple[Callable[..., ca.Attack], Loss, float]] = {  # made from (norm, sets); the floor's loss; wanted
    "Algorithm 1, best piece": (lambda norm, sets: ca.algorithm1(RADII[norm.p], norm, sets=sets), ca.margin, 1.2),
    "Algorithm 1, active piece": (
        lambda norm, sets: ca.algorithm1(RADII[norm.p], norm, piece="active", sets=sets),
        lambda output, label: ca.margin(output, label).amin(1, keepdim=True),
        1.2,
    ),
    "Algorithm 2": (lambda norm, sets: ca.algorithm2(RADII[norm.p], norm, sets=sets), ca.class_score, 1.2),
    "FastGrad": (lambda norm, sets: ca.fastgrad(RADII[norm.p], norm, sets=sets), ca.negative_cross_entropy, 1.2),
    "DeepFool": (lambda norm, sets: ca.deepfool(norm, sets=sets), ca.margin, 1.1),
}


@dataclass(frozen=True)
class Row:
    """One attack on one network: seconds of the processor, medians over rounds.

    Attributes:
        model, attack, p, box: what.
        images, steps: how many images, and steps of all of them together.
        seconds, floor: of the attack, and of its floor.
        ratio, low, high: median and quartiles of attack ÷ floor.
        bare: median of bare code ÷ floor; None with a pixel range, for which there is none.
        batched: whether the backward passes of the floor run all at once.
        rounds: how often each ran.
        wanted: the ratio aimed at.
    """

    model: str
    attack: str
    p: str
    box: bool
    images: int
    steps: int
    seconds: float
    floor: float
    ratio: float
    low: float
    high: float
    bare: float | None
    batched: bool
    rounds: int
    wanted: float


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "cost",
        help="each attack against the bare passes through the network that it needs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Time of each attack ÷ its floor, p = 1, 2, ∞, with and without the pixel range as a set.\n"
        + _FLOOR,
        epilog="leaves cost.json, cost.md and cost.png in --out.\n\n"
        "examples:\n"
        "  python -m benchmarks cost --model digits --rounds 3    seconds\n"
        "  python -m benchmarks cost                              minutes",
    )
    parser.add_argument(
        "--model",
        choices=(*NETWORKS, "nin", "densenet40", "all"),
        default="all",
        help=f"default: {', '.join(NETWORKS)}",
    )
    parser.add_argument(
        "--images",
        type=subjects.count,
        default=256,
        metavar="N",
        help="correctly classified test images (default: 256)",
    )
    parser.add_argument(
        "--rounds", type=subjects.count, default=9, metavar="N", help="attack and floor, in turn (default: 9)"
    )


_FLOOR = (__doc__ or "").partition("\n\n")[2]


def run(given: argparse.Namespace, command: str) -> int:
    """Exit status: 0, 1 where no network can be had, 130 after Ctrl-C."""
    names = NETWORKS if given.model == "all" else (given.model,)
    rows: list[Row] = []
    missing: dict[str, str] = {}
    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("", total=len(names) * len(ATTACKS) * len(NORMS) * 2)
            for name in names:
                try:
                    model, x, label = _subject(name, given.images)
                except (ValueError, FileNotFoundError, ImportError) as error:
                    missing[name] = str(error)
                    continue
                for attack, p, box in _cases():
                    progress.update(bar, description=f"{name} {attack}, p = {p:g}{', box' if box else ''}")
                    rows.append(measure(name, attack, p, box, model, x, label, given.rounds))
                    progress.advance(bar)
    except KeyboardInterrupt:
        print(
            f"interrupted after {len(rows)} rows; nothing was written, what stands in {given.out} is an earlier run's",
            file=sys.stderr,
        )
        return pages.INTERRUPTED
    if not rows:
        print("\n".join(f"{name} is not run: {why}" for name, why in missing.items()), file=sys.stderr)
        return 1
    _save(given, rows, missing, command)
    return 0


def measure(
    name: str, attack: str, p: float, box: bool, model: nn.Module, x: Tensor, label: Tensor, rounds: int
) -> Row:
    """The attack and its floor in turn."""
    make, loss, wanted = ATTACKS[attack]
    ours = make(ca.Lp(p), (ca.PixelRange(0.0, 1.0),) if box else ())
    result = ours(model, x, label)
    alive = [torch.arange(len(x))]
    if attack == "DeepFool":
        alive = [(result.steps > k).nonzero().flatten() for k in range(int(result.steps.max()))]
    many = attack in ("Algorithm 1, best piece", "DeepFool")  # others have one piece
    forms = (False, True)[: 1 + many]
    floors = [partial(floor, model, x, label, loss, alive, batched) for batched in forms]
    plain = [] if box else [partial(_bare, attack, p, model, x, label, loss, batched) for batched in forms]
    timed: list[Callable[[], object]] = [partial(ours, model, x, label), *floors, *plain]
    mine, *others = zip(*([_seconds(form) for form in timed] for _ in range(rounds)), strict=True)
    batched = many and statistics.median(others[1]) < statistics.median(others[0])
    bottom = others[batched]
    ratios = [
        [seconds / least for seconds, least in zip(column, bottom, strict=True)]
        for column in (mine, *others[len(forms) :])
    ]
    quotients, *simple = ratios
    low, _, high = statistics.quantiles(quotients, n=4, method="inclusive") if rounds > 1 else quotients * 3
    steps = int(result.steps.sum()) if attack == "DeepFool" else len(x)
    return Row(
        name, attack, f"{p:g}", box, len(x), steps, statistics.median(mine), statistics.median(bottom),
        statistics.median(quotients), low, high, min(map(statistics.median, simple), default=None), batched, rounds,
        wanted,
    )  # fmt: skip


def _bare(attack: str, p: float, model: nn.Module, x: Tensor, label: Tensor, loss: Loss, batched: bool) -> bare.Found:
    if attack == "DeepFool":
        return bare.deepfool(model, x, label, p, batched)
    return bare.one_step(model, x, label, loss, p, RADII[p], batched)


def floor(model: nn.Module, x: Tensor, label: Tensor, loss: Loss, alive: Sequence[Tensor], batched: bool) -> None:
    """The passes that no attack can do without: at each step those of its live rows, one forward pass at the end."""
    for rows in alive:
        every = len(rows) == len(x)
        point = (x if every else x[rows]).clone().requires_grad_()
        pieces = loss(model(point), label if every else label[rows])
        count = pieces.shape[1]
        if batched and count > 1:
            unit = torch.eye(count, dtype=x.dtype)[:, None].expand(count, len(rows), count)
            torch.autograd.grad(pieces, point, unit, is_grads_batched=True)
        else:
            for k in range(count):
                torch.autograd.grad(pieces[:, k].sum(), point, retain_graph=k < count - 1)
    with torch.no_grad():
        model(x)


def _cases() -> Iterator[tuple[str, float, bool]]:
    return ((attack, p, box) for attack in ATTACKS for box in (False, True) for p in NORMS)


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _subject(name: str, images: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The network and its first correctly classified test images."""
    network = paper.NETWORKS.get(name)
    test = datasets.load("digits") if network is None else datasets.load(network.data).padded(network.side)
    model = models.load(name)
    with torch.no_grad():
        x, label = test.x[: 2 * images], test.label[: 2 * images]
        right = (
            (torch.cat([model(rows).argmax(1) for rows in x.split(subjects.BATCH)]) == label)
            .nonzero()
            .flatten()[:images]
        )
    return model, x[right], label[right]


def _sheets(rows: Sequence[Row], missing: dict[str, str]) -> list[Sheet]:
    columns = ["attack", "p", "pixel range", "attack ÷ floor (quartiles)", "wanted", "met", "bare code ÷ floor"]
    columns += ["attack, ms", "floor, ms", "backward passes"]
    found = []
    for name in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == name]
        lines = [
            (row.attack, row.p, "yes" if row.box else "no", f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})",
             f"{row.wanted:g}", "yes" if row.ratio <= row.wanted else "no",
             "–" if row.bare is None else f"{row.bare:.2f}", f"{1e3 * row.seconds:.1f}", f"{1e3 * row.floor:.1f}",
             "all at once" if row.batched else "in turn")
            for row in mine
        ]  # fmt: skip
        title = paper.NETWORKS[name].title if name in paper.NETWORKS else name
        found.append(Sheet(f"{title}: {mine[0].images} images", columns, 3, lines))
    return found + ([Sheet("Not run", ["network", "why"], 2, list(missing.items()))] if missing else [])


def _save(given: argparse.Namespace, rows: Sequence[Row], missing: dict[str, str], command: str) -> None:
    from benchmarks.picture import cost_picture

    facts = results.about("cpu", "float32", subjects.SEED, 0, 0)
    del facts["limits"]
    met, free = sum(row.ratio <= row.wanted for row in rows), [row for row in rows if not row.box]
    facts |= {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    radii = {f"{p:g}": radius for p, radius in RADII.items()}
    content = {"about": facts, "radii": radii, "rows": [asdict(row) for row in rows], "not run": missing}
    said = [
        f"`{command}`, {facts['date']}.",
        f"{facts['cpu']}, {facts['cores']} cores, torch on {facts['torch threads']} of them, float32"
        + (f"; load average {facts['load']:.1f} at the end." if facts["load"] is not None else "."),
        "; ".join(f"{package} {version}" for package, version in facts["versions"].items()) + ".",
        f"{met} of {len(rows)} ratios are at or below what was wanted; of those without a pixel range "
        f"{sum(row.ratio <= row.wanted for row in free)} of {len(free)}, where bare code has "
        f"{sum(row.bare <= row.wanted for row in free if row.bare is not None)}.",
        "One-step attacks: "
        + ", ".join(f"ε = {radius:g} for p = {p}" for p, radius in radii.items()) + "; DeepFool: at most 50 steps.",
    ]  # fmt: skip
    parts = ["# Cost of the attacks", "  \n".join(said), _FLOOR.strip(), *map(results.section, _sheets(rows, missing))]
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    results.write_whole(given.out / "cost.json", (text + "\n").encode())
    results.write_whole(given.out / "cost.md", ("\n\n".join(parts) + "\n").encode())
    results.write_whole(given.out / "cost.png", cost_picture(rows))
    results.show(_sheets(rows, missing))
    print(f"cost.json, cost.md and cost.png are in {given.out}")
