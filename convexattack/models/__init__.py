"""Networks: those shipped with weights (`load`), and a user's own (`from_factory`, then `load_weights`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

__all__ = ["SHIPPED", "from_factory", "load", "load_weights"]

SHIPPED = {
    "digits": "convexattack.models.digits:digits",
    "digits-autoencoder": "convexattack.models.digits:digits_autoencoder",
    "scenes": "convexattack.models.scenes:scenes",
    "diabetes": "convexattack.models.diabetes:diabetes",
    "fcnn": "convexattack.models.mnist:fcnn",
    "lenet5": "convexattack.models.mnist:lenet5",
    "nin": "convexattack.models.cifar10:nin",
    "densenet40": "convexattack.models.cifar10:densenet40",
}
"""The networks whose weights are in the package: name → factory. A card (weights/NAME.md) says how each was trained."""

_Network = TypeVar("_Network", bound=nn.Module)


def load(name: str) -> nn.Module:
    """The shipped network `name`, with its weights, in eval mode.

    - `digits`: images (B, 1, 8, 8) with pixels in [0, 1] → scores (B, 10).
    - `digits-autoencoder`: images (B, 1, 8, 8) with pixels in [0, 1] → the same pixels, flat (B, 64).
    - `scenes`: scenes of digits (B, 1, H, W), pixels in [0, 1] → 11 scores a pixel, flat (B, 11·H·W), class by class.
    - `diabetes`: ten measurements (B, 10), standardised as `datasets.diabetes` has them → points of a score (B, 1).
    - `fcnn`, `lenet5`: MNIST's images (B, 1, 28, 28), or with the paper's frame of zeros (B, 1, 32, 32), pixels in
      [0, 1] → scores (B, 10).
    - `nin`, `densenet40`: CIFAR-10 (B, 3, 32, 32), pixels in [0, 1] → scores (B, 10); short trainings, see the cards.

    Raises:
        ValueError: no such network, or its weights file is not the one that was shipped.
        FileNotFoundError: the weights file is not there.
    """
    if name not in SHIPPED:
        raise ValueError(
            f"model {name!r} is not shipped: use one of {', '.join(SHIPPED)}, "
            "or your own as MODULE:FACTORY with its weights"
        )
    return load_weights(from_factory(SHIPPED[name]), Path(__file__).parent / "weights" / f"{name}.safetensors")


def load_weights(model: _Network, file: str | PathLike[str]) -> _Network:
    """`model` itself, in eval mode, with all tensors taken from a safetensors file; untouched if anything is wrong.

    The file must hold exactly the tensors of `model.state_dict()`, in their shapes; they take its dtype and device.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file, or tensors that are missing, unexpected or of another shape: all are named.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist: give the path of a safetensors file")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"weights file {path} cannot be read as safetensors ({error}): "
            "save it again with safetensors.torch.save_file"
        ) from error
    wanted = model.state_dict()
    wrong = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    wrong += [f"{name} is unexpected" for name in found.keys() - wanted.keys()]
    wrong += [
        f"{name} has shape {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted.keys() & found.keys()
        if found[name].shape != wanted[name].shape
    ]
    if wrong:
        raise ValueError(
            f"weights file {path} is not for this {type(model).__name__} ({'; '.join(sorted(wrong))}): "
            "use the file saved from this network"
        )
    model.load_state_dict(found)
    return model.eval()


def from_factory(spec: str) -> nn.Module:
    """The network that `module:factory` makes, in eval mode; a module in the current directory is found as well.

    `factory` is called without arguments and returns a `torch.nn.Module`; it may also be a Module itself.

    Raises:
        ValueError: not of the form `module:factory`, no such module or attribute, or an error within them.
        TypeError: not callable, it wants arguments, or what it makes is not a Module.
    """
    name, colon, attribute = spec.partition(":")
    if not (name and colon and attribute):
        raise ValueError(
            f"model {spec!r} does not name a factory: write MODULE:FACTORY, for instance my_networks:lenet"
        )
    with _current_directory():
        try:
            module = import_module(name)
        except Exception as error:
            missing = (
                isinstance(error, ModuleNotFoundError)
                and error.name is not None
                and f"{name}.".startswith(f"{error.name}.")
            )
            reason = "does not exist" if missing else f"cannot be imported ({type(error).__name__}: {error})"
            raise ValueError(
                f"module {name!r} of model {spec!r} {reason}: install it, or go to the folder that holds it"
            ) from error
        if not hasattr(module, attribute):
            raise ValueError(
                f"module {name!r} has no attribute {attribute!r}: name a function there that returns the network"
            )
        factory = getattr(module, attribute)
        if isinstance(factory, nn.Module):
            return factory.eval()
        if not callable(factory):
            raise TypeError(
                f"{spec} is a {type(factory).__name__}: name a torch.nn.Module, or a function that returns one"
            )
        try:
            model = factory()
        except TypeError as error:
            raise TypeError(
                f"{spec} cannot be called without arguments ({error}): wrap it in a function that needs none"
            ) from error
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise ValueError(f"{spec} made no network ({reason}): call it in Python to see where it fails") from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"{spec} returned a {type(model).__name__}: let it return a torch.nn.Module")
    return model.eval()


@contextmanager
def _current_directory() -> Iterator[None]:
    """The current directory first among the places where modules are looked for, as `python -m` has it."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
