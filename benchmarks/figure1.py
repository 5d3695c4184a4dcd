"""Figure 1: correctly classified images that Algorithm 1 turns into another class."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import convexattack as ca
from benchmarks import pages, paper
from benchmarks.results import Sheet, show
from benchmarks.subjects import BATCH, Subject, progress_bar, subjects

__all__ = ["Example", "add_parser", "examples", "run"]

IMAGES = 1024
CLASSES = {
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


@dataclass(frozen=True, eq=False)
class Example:
    """An image (C, H, W) that the network of `network` puts into `label`, and into `found` once η (C, H, W) is added.

    `position` counts in the shuffled test set, `before` and `after` are the probabilities of the two classes at x and
    at x + η, and `tried` says how many correctly classified images of that class came before the first that was fooled,
    it included.
    """

    network: paper.Network
    position: int
    x: Float[Tensor, "C H W"]
    eta: Float[Tensor, "C H W"]
    label: int
    found: int
    before: float
    after: float
    tried: int

    @property
    def words(self) -> tuple[str, str]:
        names = CLASSES[self.network.data]
        return names[self.label], names[self.found]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "figure1",
        help="images that Algorithm 1 turns into another class, as in the paper's Figure 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="For each network and class the first image of the shuffled test set that is classified correctly "
        "and that\n"
        "Algorithm 1 (p = ∞, best piece) turns into another class, at the ε of Table I; with η and x + η.",
        epilog="leaves figure1.json, .csv, .md and .png in --out; it takes seconds and starts afresh each time.",
    )
    parser.add_argument(
        "--model",
        choices=(*paper.NETWORKS, "all"),
        default="all",
        help="default: all; those without weights are not run",
    )
    parser.set_defaults(output="logits")


def run(given: argparse.Namespace, command: str) -> int:
    """Exit status: 0, 1 where no network can be had, 130 after Ctrl-C."""
    try:
        found, missing = subjects(given.model, IMAGES)
        if not found:
            print("\n".join(f"{name} is not run: {why}" for name, why in missing.items()), file=sys.stderr)
            return 1
        with progress_bar() as progress:
            bar = progress.add_task("", total=len(found))
            shown = []
            for subject in found:
                progress.update(bar, description=subject.network.name)
                shown += examples(subject)
                progress.advance(bar)
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return pages.INTERRUPTED
    _save(given, shown, missing, pages.conditions(found, command, given))
    return 0


def examples(subject: Subject) -> list[Example]:
    """The first fooled image of each class, in the order of the classes; a class of which none is fooled has none."""
    attack = ca.algorithm1(subject.network.epsilon, ca.Lp(math.inf))
    first: dict[int, Example] = {}
    tried: dict[int, int] = {}
    for rows in subject.right.nonzero().flatten().split(BATCH):
        x, label = subject.x[rows], subject.label[rows]
        result = attack(subject.model, x, label)
        with torch.no_grad():
            clean, moved = subject.model(x).softmax(1), subject.model(x + result.eta).softmax(1)
        for i, k in enumerate(label.tolist()):
            if k in first:
                continue
            tried[k] = tried.get(k, 0) + 1
            if bool(result.fooled[i]):
                to = int(moved[i].argmax())
                first[k] = Example(
                    subject.network,
                    int(rows[i]),
                    x[i].cpu(),
                    result.eta[i].cpu(),
                    k,
                    to,
                    float(clean[i, k]),
                    float(moved[i, to]),
                    tried[k],
                )
        if len(first) == clean.shape[1]:
            break
    return [first[k] for k in sorted(first)]


def _save(
    given: argparse.Namespace, shown: Sequence[Example], missing: Mapping[str, str], facts: dict[str, Any]
) -> None:
    from benchmarks.paper_pictures import figure1

    table: list[dict[str, Any]] = [
        {
            "model": example.network.name, "epsilon": example.network.epsilon, "position": example.position,
            "class": example.words[0], "probability": example.before, "class at x + eta": example.words[1],
            "probability there": example.after, "tried": example.tried,
        }
        for example in shown
    ]  # fmt: skip
    if not table:
        raise RuntimeError(f"Algorithm 1 fools none of {IMAGES} images at the ε of Table I; no picture was made")
    lines = [
        (example.network.title, *example.words, f"{example.network.epsilon:g}", f"{example.before:.3f}",
         f"{example.after:.3f}", str(example.position), str(example.tried))
        for example in shown
    ]  # fmt: skip
    columns = [
        "network",
        "class",
        "becomes",
        "ε",
        "probability at x",
        "probability at x + η",
        "place in the test set",
        "images tried",
    ]
    sheets = [Sheet("The first image of each class that is fooled", columns, 3, lines), *pages.missing_sheet(missing)]
    remarks = [
        "Each network at the ε of the paper's Table I, at which its DeepFool fools more than 99%; "
        "Algorithm 1 fools fewer.",
        "x + η is shown as the network sees it, but for pixels outside the data range, which no screen shows.",
    ]
    pages.save(
        given.out, "figure1", "Figure 1: images that Algorithm 1 fools",
        {"about": facts, "examples": table, "not run": dict(missing)}, table, sheets, remarks,
        partial(figure1, shown, missing),
    )  # fmt: skip
    show(sheets)
    print(f"figure1.json, .csv, .md and .png are in {given.out}")
