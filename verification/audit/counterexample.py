"""The smallest program on which a step falls short, by `convexattack.testing.check_step`, which anyone can run."""

from __future__ import annotations

import torch
from torch import Tensor

import convexattack as ca
from verification.audit.measure import affine_margin, perturb
from verification.audit.peers import Pixels, Step

__all__ = ["counterexample"]

ROUNDING = 1e-3  # of x + η in float32, where x is near 1 and the smallest ε that is drawn 1e-4
ENOUGH = 0.1  # (8): an η a tenth too long, or short of the boundary, passes: overshoots and rounding do
HANDED = 0.95  # the share of L asked of a library, lest the only η in the pixel range that will do lie on the boundary
EXAMPLES = {ca.GNII: 60, ca.MinNorm: 30}


def counterexample(step: Step) -> str:
    """In words: the program and what the step makes of it, or that none was found; "" for a case that has no check.

    Models have two classes and up to six inputs. Without a pixel range the image is 0, so that x + η is not rounded.
    (GNII) is the same program for cg, and (8) for cL and cg, c > 0: max |g_i| is brought to 1, for (GNII) if larger.
    """
    from convexattack.testing import check_step

    pixels = _range(step)
    if step.case == "tiny" or (pixels is None and step.library == "torchattacks"):
        return ""
    last: dict[str, Tensor | float] = {}

    def run(gradient: Tensor, size: Tensor | float, x: Tensor) -> Tensor:
        """Item by item; `size` is ε, or L for (8)."""
        last.update(g=gradient, x=x)
        last["L" if isinstance(size, Tensor) else "ε"] = size
        eta = torch.zeros_like(gradient)
        for i, (g, image) in enumerate(zip(gradient, x, strict=True)):
            scale = g.abs().max()
            if not isinstance(size, Tensor):  # cross entropy, which saturates where g is large
                eta[i] = perturb(step, affine_margin(g / scale.clamp_min(1), image), image, pixels, size)
            elif size[i] > 0 and scale > 0:  # an image that is misclassified already is not attacked
                eta[i] = perturb(step, affine_margin(g / scale, image, HANDED * float(size[i] / scale)), image, pixels)
        return eta

    def at_zero(gradient: Tensor, size: Tensor | float) -> Tensor:
        return run(gradient, size, torch.zeros_like(gradient))

    relative = (
        ENOUGH if step.program is ca.MinNorm else ca.Tolerance().at(torch.float32) if pixels is None else ROUNDING
    )
    try:
        tried = check_step(
            at_zero if pixels is None else run,
            step.program,
            step.norm,
            () if pixels is None else (ca.PixelRange(*pixels),),
            tolerance=ca.Tolerance(relative),
            dtypes=(torch.float32,),
            examples=EXAMPLES[step.program],
        )
    except AssertionError as found:
        return _words(found, last, pixels)
    return f"none found in {tried} programs"


def _range(step: Step) -> Pixels:
    return {"pixels": (0.0, 1.0), "bytes": (0.0, 255.0)}.get(step.case)


def _words(found: AssertionError, last: dict[str, Tensor | float], pixels: Pixels) -> str:
    """`last` is what the step was called with last: the smallest program."""
    item: int = getattr(found, "item", 0)
    names = ("g", "L", "ε", "x") if pixels else ("g", "L", "ε")
    given = ", ".join(f"{name} = {_number(last[name], item)}" for name in names if name in last)
    return f"{given}: {str(found).splitlines()[0].partition(': ')[2].rstrip('.: ')}"


def _number(entry: Tensor | float, item: int) -> str:
    if not isinstance(entry, Tensor):
        return f"{entry:.3g}"
    row = entry[item]
    return f"{float(row):.3g}" if row.ndim == 0 else "(" + ", ".join(f"{float(number):.3g}" for number in row) + ")"
