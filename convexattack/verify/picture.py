"""The picture of `verify`: an image, its perturbation, and both together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convexattack.files import atomically
from convexattack.losses import Model
from convexattack.norms import Lp

__all__ = ["picture"]


def picture(path: Path, network: Model, x: Tensor, label: Tensor | None, shown: dict[Lp, Tensor]) -> None:
    """Image, perturbation, perturbed image, a row a norm; bars for an input that is no image. No label: no classes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 2.2 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for (norm, eta), row in zip(shown.items(), axes, strict=True):
        eta = eta.view_as(x)
        with torch.no_grad():
            before, after = network(x), network(x + eta)
        size = float(norm(eta.flatten(1).double()))
        ends = ("x", f"x + η: f moves by {float((after - before).double().norm()):.3g}")
        if label is not None:
            ends = (f"x: class {int(label)}", f"x + η: class {int(after.argmax(1))}")
        titles = (ends[0], f"η: ‖η‖ = {size:.3g}, p = {norm}", ends[1])
        edge = float(eta.abs().max()) or 1.0
        for plot, title, shot in zip(row, titles, (x, eta, x + eta), strict=True):
            plot.set_title(title, fontsize=9)
            if x.ndim == 2:
                plot.bar(range(1, x.shape[1] + 1), shot[0].double().cpu().numpy())
                continue
            pixels = _pixels(shot[0].double().cpu())
            if shot is eta and pixels.ndim == 3:
                pixels = 0.5 + pixels / (2 * edge)
            cmap, low, high = ("RdBu_r", -edge, edge) if shot is eta else ("gray", 0.0, 1.0)
            plot.imshow(pixels.clip(0, 1) if pixels.ndim == 3 else pixels, cmap=cmap, vmin=low, vmax=high)
            plot.set_axis_off()
    with atomically(path) as part:
        figure.savefig(part, format="png", dpi=120)


def _pixels(image: Tensor) -> np.ndarray:
    """(H, W) grey, or (H, W, 3) colour."""
    return np.asarray(image.permute(1, 2, 0) if len(image) == 3 else image.mean(0))
