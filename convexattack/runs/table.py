"""The attacks by their names on the command line, and the options that each of them takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from convexattack.attacks import (
    Attack,
    RandomSign,
    RegressionAttack,
    algorithm1,
    algorithm2,
    deepfool,
    fastgrad,
    random_sign,
)
from convexattack.attacks import regression_attack as regression
from convexattack.losses import class_score, margin, negative_cross_entropy, targeted
from convexattack.norms import Lp
from convexattack.sets import PixelRange

__all__ = ["ATTACKS", "FIGURE_2", "attack_named", "check_radius", "pixel_range"]

ATTACKS: dict[str, tuple[str, ...]] = {
    "algorithm1": ("radius", "steps", "piece", "target", "pixels", "solver"),
    "algorithm2": ("radius", "steps", "target", "pixels", "solver"),
    "fastgrad": ("radius", "steps", "target", "pixels", "solver"),
    "deepfool": ("steps", "target", "pixels", "solver"),
    "random": ("radius",),
    "regression": ("radius", "solver"),
}
"""Name → its options besides the norm. algorithm1-5 is algorithm1 with steps 5; likewise algorithm2 and fastgrad."""

FIGURE_2 = ("fastgrad", "algorithm1", "algorithm1-5", "algorithm1-10", "algorithm2", "deepfool", "random")


def pixel_range(pixels: bool) -> tuple[PixelRange, ...]:
    """The sets of an attack whose images stay in [0, 1], or of one whose images need not."""
    return (PixelRange(0.0, 1.0),) if pixels else ()


def check_radius(radius: float) -> None:
    """Raise ValueError unless it is a finite number >= 0."""
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius must be a finite number >= 0, got {radius}: it is in units of the data range")


def attack_named(
    name: str,
    norm: Lp,
    radius: float | None,
    steps: int | None = None,
    piece: str | None = None,
    target: int | None = None,
    pixels: bool = False,
    solver: str | None = None,
    seed: int = 0,
) -> Attack | RandomSign | RegressionAttack:
    """The attack of this name; `steps` of DeepFool are its `max_steps`, and `seed` is for Random.

    Raises:
        ValueError: no such attack, or an option that it does not take.
    """
    base, dash, count = name.partition("-")
    repeats = base in ("algorithm1", "algorithm2", "fastgrad")
    if base not in ATTACKS or (dash and not (repeats and count.isdecimal() and int(count) > 0)):
        raise ValueError(f"attack {name!r} is unknown: use one of {', '.join(ATTACKS)}, or algorithm1-5 for five steps")
    if dash and steps is not None:
        raise ValueError(f"steps {steps} is given twice, for attack {name!r} says it too: leave one of them out")
    given = {
        "radius": radius,
        "steps": steps,
        "piece": piece,
        "target": target,
        "pixels": pixels or None,
        "solver": solver,
    }
    for option, value in given.items():
        if value is not None and option not in ATTACKS[base]:
            others = ", ".join(other for other, takes in ATTACKS.items() if option in takes)
            said = "pixels" if option == "pixels" else f"{option} {value}"
            raise ValueError(f"{said} has no place in the attack {base}: leave it out, or use {others}")
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}: one step is the attack as the paper states it")
    if radius is None and "radius" in ATTACKS[base]:
        raise ValueError(
            f"radius is missing: the attack {base} needs to know how large a perturbation may be, for instance 0.1"
        )
    if radius is not None:
        check_radius(radius)
    sets: Sequence[PixelRange] = pixel_range(pixels)
    times = int(count) if dash else steps or 1
    aim = margin if target is None else targeted(target)
    small: dict[str, Any] = {"norm": norm, "sets": sets, "solver": solver}
    if base == "deepfool":
        return deepfool(max_steps=steps or 50, loss=aim, **small)
    assert radius is not None
    if base == "random":
        if norm.p != math.inf:
            raise ValueError(f"norm {norm.p:g} has no place in the attack random, whose entries are ±ε: use norm inf")
        return random_sign(radius, torch.Generator().manual_seed(seed))
    if base == "regression":
        return regression(radius, norm, solver)
    if base == "algorithm1":
        return algorithm1(radius, steps=times, piece=piece or "best", loss=aim, **small)
    row, own = (algorithm2, class_score) if base == "algorithm2" else (fastgrad, negative_cross_entropy)
    return row(radius, steps=times, loss=own if target is None else targeted(target, own), **small)
