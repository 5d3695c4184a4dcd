"""The libraries that are audited: how each is called, with which options. None is imported before a step is run.

A step takes a model (logits of one image), an image (1, 1, 1, d) in float32, its label (1,), the pixel range to keep to
or None, and a radius (which DeepFool, whose program (8) has none, ignores); it returns the perturbed image. What is not
named in `options` is the library's default.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import convexattack as ca

__all__ = ["STEPS", "Pixels", "Step"]

Pixels = tuple[float, float] | None
Call = Callable[[nn.Module, Tensor, Tensor, Pixels, float], Tensor]
FREE = (-1e30, 1e30)  # Foolbox asks for a range: one that no step gets near


@dataclass(frozen=True)
class Step:
    """An attack of a library, and the program that it is measured against.

    Attributes:
        library: its distribution's name.
        name: what the library calls it.
        options: those that are not its defaults, as its documentation writes them.
        program: `ca.GNII` for a step of a given radius, `ca.MinNorm` for DeepFool and its kin.
        norm: the norm of the ball, or of the smallest perturbation.
        case: for (GNII) `ball` or `pixels` (clipped to the pixel range); for (8) a key of `measure.CASES`.
        call: runs it.
    """

    library: str
    name: str
    options: str
    program: type[ca.GNII] | type[ca.MinNorm]
    norm: ca.Lp
    case: str
    call: Call


def _foolbox(
    attack: str, model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float, **options: Any
) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=pixels or FREE)
    _, clipped, _ = getattr(foolbox.attacks, attack)(**options)(
        wrapped, x, label, epsilons=None if math.isnan(radius) else radius
    )
    return torch.as_tensor(clipped)


def _art(
    attack: str, model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float, **options: Any
) -> Tensor:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = model(x).shape[-1]
    loss = nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(model, loss, tuple(x.shape[1:]), classes, clip_values=pixels, device_type="cpu")
    given = options if math.isnan(radius) else options | {"eps": radius}
    made = getattr(evasion, attack)(classifier, **given)
    return torch.from_numpy(made.generate(x.numpy(), y=np.eye(classes)[label.numpy()]))


def _cleverhans(p: float, model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float) -> Tensor:
    from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method

    low, high = pixels or (None, None)
    return torch.as_tensor(fast_gradient_method(model, x, radius, p, clip_min=low, clip_max=high, y=label)).detach()


def _torchattacks(
    attack: str, model: nn.Module, x: Tensor, label: Tensor, pixels: Pixels, radius: float, **options: Any
) -> Tensor:
    import torchattacks

    if pixels != (0.0, 1.0):
        raise ValueError(f"torchattacks keeps to [0, 1] always, not to {pixels}")
    given = dict(options)
    if not math.isnan(radius):
        given["eps"] = radius
    if attack == "PGDL2":
        given["alpha"] = radius
    return torch.as_tensor(getattr(torchattacks, attack)(model, **given)(x, label)).detach()


def _steps() -> list[Step]:
    found: list[Step] = []
    inf = math.inf

    def one(
        library: str, name: str, p: float, call: Call, cases: tuple[str, ...] = ("ball", "pixels"), options: str = ""
    ) -> None:
        found.extend(Step(library, name, options, ca.GNII, ca.Lp(p), case, call) for case in cases)

    def deepfool(library: str, name: str, p: float, call: Call, cases: tuple[str, ...], options: str = "") -> None:
        found.extend(Step(library, name, options, ca.MinNorm, ca.Lp(p), case, call) for case in cases)

    for p, letters in ((1, "L1"), (2, "L2"), (inf, "Linf")):
        one("foolbox", f"{letters}FastGradientAttack", p, partial(_foolbox, f"{letters}FastGradientAttack"))
    art = "adversarial-robustness-toolbox"
    for p in (1, 2, 3, inf):
        one(art, "FastGradientMethod", p, partial(_art, "FastGradientMethod", norm=p), options=f"norm={p:g}")
    for p in (1, 2, inf):
        one("cleverhans", "fast_gradient_method", p, partial(_cleverhans, p), options=f"norm={p:g}")
    one("torchattacks", "FGSM", inf, partial(_torchattacks, "FGSM"), ("pixels",))
    single = partial(_torchattacks, "PGDL2", steps=1, random_start=False)
    one("torchattacks", "PGDL2", 2, single, ("pixels",), "steps=1, alpha=eps, random_start=False")

    every = ("inside", "tiny", "pixels", "bytes")
    for p, letters in ((2, "L2"), (inf, "Linf")):
        name = f"{letters}DeepFoolAttack"
        deepfool("foolbox", name, p, partial(_foolbox, name), every)
        deepfool("foolbox", name, p, partial(_foolbox, name, steps=1), ("pixels",), "steps=1")
    quiet = partial(_art, "DeepFool", verbose=False)
    deepfool(art, "DeepFool", 2, quiet, every)
    deepfool(art, "DeepFool", 2, partial(quiet, max_iter=1), ("pixels",), "max_iter=1")
    deepfool("torchattacks", "DeepFool", 2, partial(_torchattacks, "DeepFool"), every[:3])
    deepfool("torchattacks", "DeepFool", 2, partial(_torchattacks, "DeepFool", steps=1), ("pixels",), "steps=1")
    for p, letters in ((2, "L2"), (inf, "Linf")):
        fab = partial(_torchattacks, "FAB", norm=letters, eps=1e3)
        deepfool("torchattacks", "FAB", p, fab, every[:3], f"norm='{letters}', eps=1e3")
    return sorted(found, key=lambda step: step.library)  # stable


STEPS = _steps()
