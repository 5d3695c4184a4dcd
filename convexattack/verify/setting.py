"""The arguments of `verify`, checked: the rows to run, the network, its correctly classified images, a folder."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from convexattack import datasets, models
from convexattack.datasets import Images, Table
from convexattack.files import check_writable
from convexattack.linearize import linearize
from convexattack.losses import as_label
from convexattack.norms import Lp
from convexattack.programs import GNII, OperatorNorm
from convexattack.sets import Ball
from convexattack.solvers import solve

__all__ = [
    "DTYPES",
    "NORMS",
    "NO_BOX",
    "NO_CLASSES",
    "PICTURE",
    "RECORDS",
    "LeftOut",
    "Planned",
    "any_inputs",
    "as_device",
    "as_network",
    "as_norms",
    "chosen",
    "correctly_classified",
    "load_any",
    "plan",
    "regresses",
    "writable_folder",
]

NORMS = (1.0, 1.5, 2.0, 3.0, math.inf)
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}
NO_BOX = "(9) takes one ball, no box"
NO_CLASSES = ("diabetes", "digits-autoencoder", "scenes")  # shipped networks that are no classifiers of images
RECORDS, PICTURE = "records.jsonl", "perturbations.png"


@dataclass(frozen=True)
class Planned:
    """One program, norm and choice of sets to be run on all images."""

    program: str
    norm: Lp
    box: bool


@dataclass(frozen=True)
class LeftOut:
    """One program, norm and choice of sets that was asked for and cannot be run, and why."""

    program: str
    p: float
    box: bool
    why: str


def chosen(what: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{what} {f'{unknown[0]!r} is unknown' if unknown else 'is empty'}: use {', '.join(known)}")
    return list(dict.fromkeys(names))


def as_norms(given: Sequence[float]) -> list[Lp]:
    if not given:
        raise ValueError("norms is empty: give numbers in [1, inf], for instance 1,2,inf")
    return list(dict.fromkeys(map(Lp, given)))


def as_device(device: str, dtype: str) -> torch.device:
    try:
        found = torch.device(device)
        torch.ones(2, dtype=DTYPES[dtype], device=found).sum()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(f"device {device!r} is not available for {dtype} here: use {', '.join(available)}") from error
    return found


def plan(
    kinds: list[str], norms: list[Lp], boxes: tuple[bool, ...], solver: str
) -> tuple[list[Planned], list[LeftOut]]:
    """What is run, norm by norm, and what cannot be.

    Raises:
        ValueError: a solver that is no CVXPY solver here or does not take the norms, or nothing is left to run.
    """
    if solver in ("closed_form", "enumeration"):
        raise ValueError(
            f"solver {solver!r} would be compared with itself: use 'reference', or an installed CVXPY solver"
        )
    one = torch.ones(1, 1, dtype=torch.float64)
    planned: list[Planned] = []
    left_out: list[LeftOut] = []
    for norm in norms:
        if solver != "reference" and kinds != ["operator-norm"]:
            solve(GNII(one[0], one, (Ball(norm, 1.0),)), solver)
        for kind in kinds:
            refused = _refused(norm, solver) if kind == "operator-norm" else None
            for boxed in boxes:
                why = NO_BOX if kind == "operator-norm" and boxed else refused
                if why is None:
                    planned.append(Planned(kind, norm, boxed))
                else:
                    left_out.append(LeftOut(kind, norm.p, boxed, why))
    if not planned:
        raise ValueError(f"programs operator-norm, norms and box leave nothing to run: {left_out[0].why}")
    return planned, left_out


def _refused(norm: Lp, solver: str) -> str | None:
    """Why the solver cannot be the other path of (9) with this norm; None where it can."""
    try:
        if solver != "reference":
            solve(OperatorNorm(torch.ones(1, 1, 1, dtype=torch.float64), Ball(norm, 1.0)), solver)
    except ValueError as error:
        return str(error)
    return None


def as_network(
    model: str | nn.Module, weights: str | PathLike[str] | None, dtype: torch.dtype, device: torch.device
) -> tuple[nn.Module, str]:
    if isinstance(model, str):
        network = models.from_factory(model) if ":" in model else models.load(model)
    elif isinstance(model, nn.Module):
        network = copy.deepcopy(model)
    else:
        raise TypeError(
            f"model must be a name, MODULE:FACTORY or a torch.nn.Module, got {type(model).__name__}: "
            "wrap it in a Module"
        )
    if weights is not None:
        models.load_weights(network, weights)
    return network.to(device, dtype).eval(), model if isinstance(model, str) else type(model).__name__


def regresses(model: str | nn.Module, data: str | PathLike[str] | Images | Table, kinds: Sequence[str]) -> bool:
    """Whether there are no classes, so that (9) alone makes sense.

    Raises:
        ValueError: it does not, and another program is asked for.
    """
    told = [f"model {model!r} is no classifier"] * (isinstance(model, str) and model in NO_CLASSES)
    told += ["data 'diabetes' has no classes"] * (isinstance(data, Table) or data == "diabetes")
    others = ", ".join(kind for kind in kinds if kind != "operator-norm")
    if told and others:
        raise ValueError(
            f"programs {others} need classes, and {told[0]}: ask for operator-norm alone (--programs operator-norm)"
        )
    return bool(told)


def load_any(data: str | PathLike[str] | Images | Table) -> Images | Table:
    """The data themselves, with or without classes."""
    if isinstance(data, Images | Table):
        return data
    return datasets.diabetes() if data == "diabetes" else datasets.load(data)


def any_inputs(
    source: Images | Table, images: int, seed: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "B *S"], Int[Tensor, " B"]]:
    """The first inputs in an order drawn from the seed, whatever the network makes of them, and their positions."""
    index = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:images]
    return source.x[index].to(device, dtype), index


def correctly_classified(
    network: nn.Module, source: Images, images: int, seed: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "B *S"], Int[Tensor, " B"], Int[Tensor, " B"], int]:
    """The first correctly classified images in an order drawn from the seed: (x, label, positions, how many wrong)."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    first = order[:1]
    linearize(
        network, _cast(source.x[first], dtype, device), source.label[first].to(device)
    )  # whatever is wrong with model or data
    found: list[int] = []
    seen = 0
    for rows in order.split(256):
        with torch.no_grad():
            output = network(_cast(source.x[rows], dtype, device))
        right = (output.argmax(1) == as_label(source.label[rows], output)).tolist()
        for i, good in zip(rows.tolist(), right, strict=True):
            if len(found) < images:
                seen += 1
                found += [i] if good else []
    wrong = seen - len(found)
    if not found:
        raise ValueError(
            f"model classifies none of the {len(source):,} images of {source.name} correctly: "
            "give its trained --weights"
        )
    index = torch.tensor(found)
    return _cast(source.x[index], dtype, device), source.label[index].to(device), index, wrong


def _cast(x: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return x.to(device, dtype) if x.is_floating_point() else x


def writable_folder(folder: Path, stack: ExitStack) -> Path:
    """The folder, made and found writable; one that was made goes again if it stays empty."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError('out writes a picture, which needs matplotlib: run pip install "convexattack[plot]"')
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / RECORDS)
        check_writable(folder / PICTURE)
    except OSError as error:
        raise OSError(
            f"out {folder} cannot be written to ({error.strerror or error}): give a folder of your own"
        ) from error
    if made:
        stack.callback(_remove_if_empty, folder)
    return folder


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
