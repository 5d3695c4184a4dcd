"""What a run is about: the network, and the inputs that it attacks."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from convexattack import datasets
from convexattack.attacks.live import evaluate
from convexattack.datasets import Images, Table
from convexattack.verify import DTYPES, versions
from convexattack.verify.setting import (
    NO_CLASSES,
    any_inputs,
    as_device,
    as_network,
    chosen,
    correctly_classified,
    load_any,
)

__all__ = ["Setting", "Subject"]


@dataclass(frozen=True)
class Setting:
    """Network and data.

    Attributes:
        model: a shipped network by name, `MODULE:FACTORY`, or a Module (a copy is used).
        data: a dataset by name (for regression `diabetes` as well), a folder in the Hugging Face layout, or the data.
        images: how many of the test images at most, correctly classified ones where classes matter.
        device, dtype: of the network, the images and the programs; dtype is a name in `verify.DTYPES`.
        weights: a safetensors file for the network.
        seed: of the order in which test images are taken, and of what is random.
    """

    model: str | nn.Module = "digits"
    data: str | PathLike[str] | Images | Table = "digits"
    images: int = 64
    device: str = "cpu"
    dtype: str = "float64"
    weights: str | PathLike[str] | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Subject:
    """A network in eval mode and n inputs.

    Attributes:
        network: (n, *S) → (n, m).
        x: the inputs, in the dtype of the run.
        label: the true classes, which the network finds; None for regression.
        index: positions in the dataset.
        misclassified: how many images were passed over.
        about: the facts to be kept with every result; JSON can hold them.
    """

    network: nn.Module
    x: Float[Tensor, "n *S"]
    label: Int[Tensor, " n"] | None
    index: Int[Tensor, " n"]
    misclassified: int
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.x)

    @staticmethod
    def classified(setting: Setting, target: int | None = None) -> Subject:
        """Correctly classified images, none of them of the class `target`.

        Raises:
            ValueError, TypeError: an argument that is wrong, in a sentence that names it.
            FileNotFoundError: missing weights, or a dataset that cannot be had.
            ImportError: a dataset without its extra.
        """
        kind, where = _checked(setting)
        if setting.model in NO_CLASSES:
            raise ValueError(
                f"model {setting.model!r} is no classifier of images: "
                "use the attack regression, or one of digits, fcnn, lenet5, nin, densenet40"
            )
        if setting.data == "diabetes" or isinstance(setting.data, Table):
            raise ValueError(
                "data 'diabetes' has no classes: use the attack regression with --model diabetes, "
                "or images with classes"
            )
        source = setting.data if isinstance(setting.data, Images) else datasets.load(setting.data)
        network, name = as_network(setting.model, setting.weights, kind, where)
        keep = torch.arange(len(source))
        if target is not None:
            classes = evaluate(network, source.x[:1].to(where, kind)).shape[1]
            if not 0 <= target < classes:
                raise ValueError(f"target {target} is no class: with {classes} classes use 0 to {classes - 1}")
            keep = (source.label != target).nonzero().flatten()
            if len(keep) == 0:
                raise ValueError(f"target {target} is the class of every image of {source.name}: aim at another")
        chosen_from = (
            Images(source.x[keep], source.label[keep], source.name, source.note) if target is not None else source
        )
        x, label, index, wrong = correctly_classified(network, chosen_from, setting.images, setting.seed, kind, where)
        about = _facts(setting, name, source) | {"images": len(x), "misclassified": wrong}
        return Subject(network, x, label, keep[index], wrong, about)

    @staticmethod
    def regressed(setting: Setting) -> Subject:
        """Inputs in the order of the seed, whatever the network makes of them; errors are those of `classified`."""
        kind, where = _checked(setting)
        source = load_any(setting.data)
        network, name = as_network(setting.model, setting.weights, kind, where)
        x, index = any_inputs(source, setting.images, setting.seed, kind, where)
        about = _facts(setting, name, source) | {"images": len(index)}
        return Subject(network, x, None, index, 0, about)


def _checked(setting: Setting) -> tuple[torch.dtype, torch.device]:
    if isinstance(setting.images, bool) or not isinstance(setting.images, int) or setting.images < 1:
        raise ValueError(f"images must be a whole number of at least 1, got {setting.images!r}")
    return DTYPES[chosen("dtype", [setting.dtype], DTYPES)[0]], as_device(setting.device, setting.dtype)


def _facts(setting: Setting, name: str, source: Images | Table) -> dict[str, Any]:
    return {
        "model": name,
        "weights": None if setting.weights is None else str(setting.weights),
        "data": source.name,
        "note": source.note,
        "asked": setting.images,
        "seed": setting.seed,
        "device": setting.device,
        "dtype": setting.dtype,
        "versions": versions(),
    }
