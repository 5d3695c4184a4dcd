"""The paper's networks with the test images they are attacked on; or the reason why one cannot be."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

import convexattack as ca
from benchmarks import paper
from convexattack import datasets, models

__all__ = [
    "BATCH",
    "OUTPUTS",
    "SEED",
    "Subject",
    "add_arguments",
    "count",
    "load",
    "progress_bar",
    "said_of",
    "subjects",
]

SEED = 0
BATCH = 256
IMAGES = 1024
OUTPUTS = ("logits", "probabilities")
_CODE = (  # what decides a result; sources that only print or check are not among them
    "attacks/__init__.py", "attacks/live.py", "attacks/loop.py", "attacks/overshoot.py", "attacks/pieces.py",
    "attacks/total.py", "linearize.py", "losses.py", "norms.py", "numerics.py", "programs/base.py", "programs/gnii.py",
    "programs/min_norm.py", "programs/normal.py", "robustness.py", "sets/atoms.py", "sets/base.py", "sets/catalogue.py",
    "sets/maps.py", "sets/shrink.py", "solvers/__init__.py", "solvers/closed_form/__init__.py",
    "solvers/closed_form/ball.py", "solvers/closed_form/ball_and_box.py", "solvers/closed_form/narrow.py",
    "solvers/closed_form/path.py", "models/layers.py", "models/mnist.py", "models/cifar10.py",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network and n test images.

    Attributes:
        network: its row in the paper.
        model: images (n, C, H, W) → logits (n, 10), in eval mode.
        x: (n, C, H, W), the first n of the test set in a random order of fixed seed, pixels in [0, 1].
        label: (n,) true classes.
        right: (n,) which of them are classified correctly: the others are not attacked.
        wrong, tested: the misclassified images of the whole test set, and its size.
        note: what the data say of themselves.
    """

    network: paper.Network
    model: nn.Module
    x: Float[Tensor, "n C H W"]
    label: Int[Tensor, " n"]
    right: Bool[Tensor, " n"]
    wrong: int
    tested: int
    note: str

    @cached_property
    def inputs(self) -> str:
        """A checksum of everything that decides a result: weights, images, labels, code, torch and kind of device."""
        found = hashlib.sha256(f"{_code()} {torch.__version__} {self.x.device.type}".encode())
        tensors = {**self.model.state_dict(), " images": self.x, " labels": self.label}
        for name in sorted(tensors):
            array = tensors[name].detach().cpu().contiguous()
            found.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
            found.update(array.numpy().tobytes())
        return found.hexdigest()[:16]

    def item(self, **what: object) -> dict[str, object]:
        """The identity of a measurement."""
        return {"inputs": self.inputs, "model": self.network.name, **what}

    def function(self, output: str) -> nn.Module:
        """f of equation (2): the logits, or the probabilities."""
        return ca.probabilities(self.model) if output == "probabilities" else self.model


def load(name: str, images: int | None) -> Subject:
    """The network `name` and the first `images` of its shuffled test set (None: all), on the GPU where there is one.

    Raises:
        ValueError, FileNotFoundError, ImportError: weights or data are not to be had; the message says what to do.
    """
    network = paper.NETWORKS[name]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.load(name).to(device)
    test = datasets.load(network.data).padded(network.side)
    return of(network, model, test, images)


def of(network: paper.Network, model: nn.Module, test: datasets.Images, images: int | None) -> Subject:
    """The subject made of this model and this test set."""
    device = next(model.parameters()).device
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(SEED))
    x, label = test.x[order], test.label[order].to(device)
    with torch.no_grad():
        right = torch.cat([model(rows.to(device)).argmax(1) for rows in x.split(BATCH)]) == label
    return Subject(
        network, model, x[:images].to(device), label[:images], right[:images], int((~right).sum()), len(test), test.note
    )  # fmt: skip


def subjects(names: str, images: int | None) -> tuple[list[Subject], dict[str, str]]:
    """The subjects that can be had, in the paper's order, and for each of the others the reason why not.

    `names` is one network, "all", or the data set of some of them.
    """
    found, missing = [], {}
    for name, network in paper.NETWORKS.items():
        if names not in (name, network.data, "all"):
            continue
        if names == "all" and network.data == "cifar10" and not torch.cuda.is_available():
            missing[name] = "without a GPU it takes hours: ask for few images, with --model cifar10 --images 32"
            continue
        try:
            found.append(load(name, images))
        except (ValueError, FileNotFoundError, ImportError) as error:
            missing[name] = str(error)
    return found, missing


def said_of(given: argparse.Namespace) -> str:
    """What to add to the name of a file, so that results of another kind do not overwrite those of the default."""
    return ("" if given.images == IMAGES else f"-{given.images or 'all'}") + (
        "" if given.output == "logits" else f"-{given.output}"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --images and --output, which the commands share."""
    data = dict.fromkeys(network.data for network in paper.NETWORKS.values())
    parser.add_argument(
        "--model", choices=(*paper.NETWORKS, *data, "all"), default="all",
        help="one, those for one data set, or all (default; on a CPU those for MNIST)",
    )  # fmt: skip
    parser.add_argument(
        "--images",
        type=_images,
        default=IMAGES,
        metavar="N|all",
        help=f"the first N of the shuffled test set (default: {IMAGES})",
    )
    parser.add_argument("--output", choices=OUTPUTS, default="logits", help="what f is (default: logits)")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr with the time left; and convolutions in float32 throughout, also on a GPU."""
    columns = (
        SpinnerColumn(), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.description}"),
    )  # fmt: skip
    with (
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as progress,
    ):
        yield progress


def _images(text: str) -> int | None:
    return None if text == "all" else count(text, ", or all")


def count(text: str, other: str = "") -> int:
    """A number of things, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 up{other}")
    return int(text)


@cache
def _code() -> str:
    """A checksum of the sources in `_CODE` and of what measures."""
    found = hashlib.sha256()
    for path in [*(files("convexattack").joinpath(name) for name in _CODE), files("benchmarks").joinpath("measure.py")]:
        found.update(path.read_bytes())
    return found.hexdigest()
