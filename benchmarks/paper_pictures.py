"""The pictures of the paper's Figure 1, Figure 2 and Table I."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from torch import Tensor

from benchmarks import paper
from benchmarks.figure1 import Example
from benchmarks.figure2 import Panel
from benchmarks.pages import Compared

__all__ = ["figure1", "figure2", "table1"]

LINES = {  # colour, marker
    "FastGrad": ("#e69f00", "s"), "Algorithm 1": ("#56b4e9", "o"), "Algorithm 1-5": ("#0072b2", "^"),
    "Algorithm 1-10": ("#000000", "D"), "Algorithm 2": ("#009e73", "v"), "DeepFool": ("#d55e00", "X"),
    "Random": ("#999999", "P"),
}  # fmt: skip
GREY = "#505050"


def figure1(shown: Sequence[Example], missing: Mapping[str, str]) -> bytes:
    """A PNG: a block of three rows for each network, a column for each class."""
    blocks = [[example for example in shown if example.network == network] for network in paper.NETWORKS.values()]
    blocks = [block for block in blocks if block]
    columns = max(len(block) for block in blocks)
    figure = Figure(figsize=(1.05 * columns + 1.0, 3.95 * len(blocks) + 0.5), layout="constrained")
    legend = "η: purple is +ε, orange −ε, white 0 (no gradient there); x + η: grey values in [0, 1]"
    note = "\n".join(filter(None, (legend, _not_run(missing))))
    parts = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    for part, block in zip(parts, blocks, strict=True):
        epsilon = block[0].network.epsilon
        part.suptitle(
            f"{block[0].network.title}: Algorithm 1, p = ∞, ε = {epsilon:g} (probabilities in %)", fontsize=11
        )
        axes = part.subplots(3, columns, squeeze=False)
        for ax in axes.flat:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_frame_on(False)
        for row, name in enumerate(("x", "η", "x + η")):
            axes[row, 0].set_ylabel(name, fontsize=11, rotation=0, labelpad=18, va="center")
        for column, example in enumerate(block):
            before, after = example.words
            noise = (
                example.eta.sign().mean(0)
                if len(example.eta) == 1
                else example.eta.permute(1, 2, 0) / (2 * epsilon) + 0.5
            )
            pictures = (_pixels(example.x), noise.numpy(), _pixels(example.x + example.eta))
            for row, (picture, title) in enumerate(
                zip(
                    pictures,
                    (f"{before} ({100 * example.before:.0f})", "", f"{after} ({100 * example.after:.0f})"),
                    strict=True,
                )
            ):
                grey = row == 1 and picture.ndim == 2
                axes[row, column].imshow(
                    picture, cmap="PuOr" if grey else "gray", vmin=-1.4 if grey else 0, vmax=1.4 if grey else 1
                )
                axes[row, column].set_title(title, fontsize=9, pad=3)
    figure.supxlabel(note, fontsize=8, color=GREY)
    return _png(figure)


def figure2(panels: Sequence[Panel], missing: Mapping[str, str], heading: str) -> bytes:
    """A PNG: a panel for each network."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.6 * columns + 0.4, 4.9 * rows + 1.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, panel in zip(axes, panels, strict=False):
        _curves(ax, panel)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    methods = [Line2D([], [], color=c, marker=m, ms=6, lw=1.6, label=name) for name, (c, m) in LINES.items()]
    pieces = {curve.piece for panel in panels for curve in panel.curves} - {""}
    if len(pieces) == 2:
        methods += [
            Line2D([], [], color=GREY, lw=1.6, label="best piece, with 95% intervals"),
            Line2D([], [], color=GREY, lw=1.3, ls="--", label="active piece"),
        ]
    star: dict[str, Any] = {"color": LINES["DeepFool"][0], "marker": "*", "ms": 13, "ls": "none", "mec": "black"}
    methods.append(Line2D([], [], label="paper, Table I: DeepFool > 99%", **star))
    figure.legend(handles=methods, loc="outside lower center", ncols=2 * columns + 1, fontsize=9, frameon=False)
    figure.suptitle("\n".join(filter(None, (heading, _not_run(missing, 75 * columns)))), fontsize=10.5)
    return _png(figure)


def _curves(ax: Axes, panel: Panel) -> None:
    radii = panel.network.radii
    both = len({curve.piece for curve in panel.curves} - {""}) == 2
    for curve in panel.curves:
        color, marker = LINES[curve.method]
        second = both and curve.piece == "active"
        ratios = [ratio for _, _, ratio, _, _ in curve.shares]
        style: dict[str, Any] = (
            {"ls": "--", "lw": 1.3, "ms": 4, "mfc": "white"} if second else {"ls": "-", "lw": 1.6, "ms": 5.5}
        )
        ax.plot(radii, ratios, color=color, marker=marker, **style)
        if not second:
            ax.fill_between(
                radii,
                [low for *_, low, _ in curve.shares],
                [high for *_, high in curve.shares],
                color=color,
                alpha=0.13,
                lw=0,
            )
    right = max(max(radii), panel.network.epsilon)
    ax.plot([panel.network.epsilon], [0.99], marker="*", ms=13, color=LINES["DeepFool"][0], mec="black", zorder=5)
    ax.set_title(panel.network.title, fontsize=11)
    ax.set_xlim(0, 1.03 * right)
    ax.set_ylim(-0.02, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("ε, in units of the data range", fontsize=9.5)
    ax.set_ylabel("fooling ratio", fontsize=9.5)
    _plain(ax)


def table1(rows: Sequence[Compared], missing: Mapping[str, str], heading: str) -> bytes:
    """A PNG: a panel for each column of Table I, a place for each network; on a logarithmic scale."""
    panels = {  # title → (the paper's attribute, our numbers)
        "test error": ("test_error", ("test error",)),
        "ρ₁ (DeepFool)": ("rho_1", ("ρ₁",)),
        "ρ₂": ("rho_2", ("ρ₂, active piece", "ρ₂, smallest")),
        "ε at which DeepFool fools > 99%": ("epsilon", ("ε, > 99% fooled",)),
    }
    networks = list(paper.NETWORKS.values())
    figure = Figure(figsize=(13.5, 4.9), layout="constrained")
    axes = figure.subplots(1, len(panels))
    for ax, (title, (attribute, names)) in zip(axes, panels.items(), strict=True):
        values = [getattr(network, attribute) for network in networks]
        ax.plot(range(len(networks)), values, ls="none", marker="D", ms=7, color="black", zorder=3)
        for k, name in enumerate(names):
            mine = [row for row in rows if row.what == name and row.ours["value"] is not None]
            for row in mine:
                low, high = row.ours["low"], row.ours["high"]
                at, value = networks.index(row.network) + 0.18 + 0.16 * k, row.ours["value"]
                values += [value]
                sides = [[value - (low or value)], [(high or value) - value]]
                ax.errorbar(
                    [at], [value], sides, color=("#0072b2", "#d55e00")[k], marker="os"[k], ms=6, capsize=4, lw=1.5
                )
        for k, network in enumerate(networks):
            if network.name in missing:
                ax.text(k + 0.18, getattr(network, attribute), "not run", fontsize=8, color=GREY, va="center")
        ax.set_yscale("log")
        ax.set_ylim(min(values) / 1.6, max(values) * 1.6)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        share = attribute == "test_error"
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _, share=share: f"{100 * y:g}%" if share else f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xticks(range(len(networks)), [network.title.replace(" (", "\n(") for network in networks], fontsize=8)
        ax.set_xlim(-0.4, len(networks) - 0.2)
        ax.set_title(title, fontsize=11)
        _plain(ax)
    handles = [
        Line2D([], [], color="black", marker="D", ms=7, ls="none", label="paper"),
        Line2D([], [], color="#0072b2", marker="o", ms=6, label="ours, 95% interval (ρ₂: active piece)"),
        Line2D([], [], color="#d55e00", marker="s", ms=6, label="ours, ρ₂, smallest"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.suptitle(heading, fontsize=11)
    return _png(figure)


def _plain(ax: Axes) -> None:
    ax.tick_params(labelsize=8.5)
    ax.grid(True, color="#e4e4e4", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _pixels(x: Tensor) -> np.ndarray:
    """(C, H, W) as matplotlib takes it."""
    shown = x[0] if len(x) == 1 else x.permute(1, 2, 0)
    return shown.clamp(0, 1).numpy()


def _not_run(missing: Mapping[str, str], width: int = 150) -> str:
    if not missing:
        return ""
    return textwrap.fill(
        "not run: " + "; ".join(f"{paper.NETWORKS[name].title}, {_short(why)}" for name, why in missing.items()), width
    )


def _short(why: str) -> str:
    return why.split(":")[0]


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()
