"""What a row of the table may hold, and its sets at the images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from convexattack.norms import Lp
from convexattack.programs.base import check_set
from convexattack.sets import ConvexSet, PixelRange

__all__ = ["as_sets", "check_row", "resolved"]


def check_row(row: Any) -> None:
    """Raise TypeError or ValueError, in one sentence, for what no `Attack` can hold."""
    over = row.overshoot
    if not callable(row.loss):
        raise TypeError(
            f"loss must be a function (output, label) -> pieces (B, K), got {row.loss!r}; "
            "use ca.margin or ca.targeted(t)"
        )
    if not isinstance(row.norm, Lp):
        raise TypeError(f"norm must be a ca.Lp, got {row.norm!r}; write ca.Lp(2)")
    if isinstance(row.steps, bool) or not isinstance(row.steps, int):
        raise TypeError(f"steps must be an int, got {row.steps!r}; one step is the attack as the paper states it")
    if row.steps < 1:
        raise ValueError(f"steps must be at least 1, got {row.steps}; for no perturbation give radius 0")
    if isinstance(over, bool) or not isinstance(over, int | float):
        raise TypeError(f"overshoot must be a number, got {over!r}; 0.02 goes 2% beyond the boundary")
    if not 0 <= over < math.inf:
        raise ValueError(f"overshoot must be a finite number >= 0, got {over}; 0.02 goes 2% beyond the boundary")
    if row.piece not in ("best", "active"):
        raise ValueError(f"piece must be 'best' or 'active', got {row.piece!r}; 'best' solves one program per piece")


def as_sets(sets: Any) -> tuple[ConvexSet | PixelRange, ...]:
    """One set or several as a tuple."""

    def is_set(item: Any) -> bool:
        return not isinstance(item, type) and (hasattr(item, "shifted") or hasattr(item, "at"))

    if not (is_set(sets) or isinstance(sets, Iterable)):
        raise TypeError(f"sets must be a tuple of convex sets, got {sets!r}; () is no constraint")
    found = (sets,) if is_set(sets) else tuple(sets)
    for j, item in enumerate(found):
        if not is_set(item):
            raise TypeError(
                f"sets[{j}] must be a convex set such as ca.Box or ca.PixelRange, got {item!r}; put sets into a tuple"
            )
    return found


def resolved(sets: Sequence[ConvexSet | PixelRange], x: Tensor) -> tuple[ConvexSet, ...]:
    """The sets at these images, each checked against them."""
    n, d = len(x), x[0].numel()
    known = [item.at(x) if hasattr(item, "at") else item for item in sets]
    for j, item in enumerate(known):
        check_set(j, item)
        item.check(n, d)
    return tuple(item.fitted(n, d) for item in known)
