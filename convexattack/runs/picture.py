"""The pictures: inputs, perturbations and both together; fooling ratios over radii."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from convexattack.robustness import FoolingCurve
from convexattack.runs.report import Attacked

__all__ = ["curve_picture", "grid_picture"]

COLUMNS = 8
COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#56b4e9",
    "#cc79a7",
    "#000000",
    "#999999",
)  # Okabe and Ito's, told apart by all
MARKERS = "oXvs^PD*"
GREY, RED = "#505050", "#b2182b"


def grid_picture(path: Path, found: Attacked, heading: str) -> None:
    """The first inputs of a run in columns: x, η over its largest entry, x + η; classes, or the outputs' change."""
    count = min(COLUMNS, len(found))
    flat = found.arrays["x"].ndim == 2
    width, height = max(1.35 * count, 5.0) + 0.6, (4.6 if flat else 5.2) + 0.8
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(3, count, squeeze=False, sharey="row" if flat else False)
    for column in range(count):
        x, eta = (found.arrays[name][column].astype(np.float64) for name in ("x", "eta"))
        edge = float(np.abs(eta).max()) or 1.0
        titles = (_before(found, column), f"±{edge:.2g}", _after(found, column))
        for row, (shot, title) in enumerate(zip((x, eta, x + eta), titles, strict=True)):
            ax = axes[row, column]
            _bars(ax, shot) if flat else _pixels(ax, shot, edge if row == 1 else None)
            ax.set_title(title, fontsize=9, pad=3, color=RED if row == 2 and found.won[column] else "black")
    for row, name in enumerate(("x", "η", "x + η")):
        axes[row, 0].set_ylabel(name, fontsize=11, rotation=0, labelpad=20, va="center")
    figure.suptitle(heading, fontsize=10)
    figure.supxlabel(_legend(found, count, flat), fontsize=8, color=GREY)
    figure.savefig(path, format="png", dpi=130)


def _before(found: Attacked, i: int) -> str:
    return f"class {found.arrays['before'][i]}" if "label" in found.arrays else f"input {found.arrays['index'][i]}"


def _after(found: Attacked, i: int) -> str:
    if "label" in found.arrays:
        return f"class {found.arrays['after'][i]}"
    before, after = found.arrays["before"][i], found.arrays["after"][i]
    return f"f {before[0]:.3g} → {after[0]:.3g}" if len(before) == 1 else f"‖Δf‖₂ = {found.arrays['change'][i]:.2g}"


def _legend(found: Attacked, count: int, flat: bool) -> str:
    which = f"the first {count} of {len(found)}" if count < len(found) else f"all {count}"
    if flat:
        return (
            f"{which}; bars: the entries 1 to {found.arrays['x'].shape[1]} of each input; ± is the largest entry of η"
        )
    colour = found.arrays["x"].ndim == 4 and found.arrays["x"].shape[1] == 3
    scale = "grey is 0, each colour from −a to a" if colour else "white is 0, red to +a, blue to −a"
    moved = (found.arrays["x"] + found.arrays["eta"])[:count]
    clipped = "; x + η leaves [0, 1] and is shown clipped to it" if moved.min() < 0 or moved.max() > 1 else ""
    said = (
        "; a red class: the target is reached"
        if "reached" in found.arrays
        else "; a red class: fooled"
        if "label" in found.arrays
        else ""
    )
    return f"{which}; η is scaled, ±a above it is its largest entry: {scale}{said}{clipped}"


def _pixels(ax: Axes, shot: np.ndarray, edge: float | None) -> None:
    """An image in [0, 1], or a perturbation between ±edge."""
    colour = shot.ndim == 3 and len(shot) == 3
    pixels = shot.transpose(1, 2, 0) if colour else shot.reshape(-1, *shot.shape[-2:]).mean(0)
    if edge is not None and colour:
        pixels = 0.5 + pixels / (2 * edge)
    low, high = (0.0, 1.0) if edge is None else (-edge, edge)
    ax.imshow(pixels.clip(0, 1) if colour else pixels, cmap="gray" if edge is None else "RdBu_r", vmin=low, vmax=high)
    ax.set_xticks([])
    ax.set_yticks([])


def _bars(ax: Axes, shot: np.ndarray) -> None:
    ax.bar(np.arange(1, len(shot) + 1), shot, color=COLORS[0])
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xticks([])
    ax.tick_params(labelsize=7)


def curve_picture(path: Path, curve: FoolingCurve, heading: str) -> None:
    """A line for each attack, with its intervals."""
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    ax = figure.subplots()
    order = np.argsort(curve.radii)
    radii = np.array(curve.radii)[order]
    width = np.linspace(3.2, 1.2, len(curve.ratios))  # so that a line shows behind one that lies on it
    for i, (name, estimates) in enumerate(curve.ratios.items()):
        value, low, high = (np.array([getattr(estimates[j], part) for j in order]) for part in ("value", "low", "high"))
        style: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}
        ax.plot(radii, value, label=name, ms=3.2 * width[i], lw=width[i], **style)
        ax.fill_between(radii, low, high, color=style["color"], alpha=0.08, lw=0)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlim(0, 1.03 * float(radii[-1]) or 1.0)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("ε, in units of the data range", fontsize=9.5)
    ax.set_ylabel("fooling ratio, with 95% intervals", fontsize=9.5)
    ax.grid(alpha=0.25, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(4, math.ceil(len(curve.ratios))), fontsize=9, frameon=False)
    figure.suptitle(heading, fontsize=10)
    figure.savefig(path, format="png", dpi=130)
