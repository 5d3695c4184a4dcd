"""Pictures for the report, drawn from the library's own answers: SVG with letters as outlines; no font is fetched."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import convexattack as ca
from convexattack import datasets, models
from verification.claims import Record
from verification.draws import tensors

__all__ = ["PICTURES", "discrepancies"]

INK, QUIET, BLUE, RED, GROUND = "#14171a", "#8a929c", "#0b4fa8", "#a11414", "#dde5f0"
WIDTH = 4.8  # inches of 72 points: as wide as a phone, where the letters keep their size
FONT = 8
LEAST = 1e-12
PLANE = ((1.0, "p = 1"), (2.0, "p = 2"), (math.inf, "p = ∞"))
Array = NDArray[np.float64]


def discrepancies(records: Sequence[Record]) -> str:
    """One dot a claim: the worst discrepancy in units of what is allowed."""
    worst: dict[str, float] = {}
    for record in records:
        part = record.discrepancy / record.tolerance if record.tolerance else math.inf if record.discrepancy else 0.0
        worst[record.claim] = max(worst.get(record.claim, 0.0), part)
    figure = Figure((WIDTH, 0.55 + 0.19 * len(worst)))
    axes = figure.subplots()
    for row, part in enumerate(worst.values()):
        color = BLUE if part <= 1 else RED
        axes.plot([LEAST, min(max(part, LEAST), 10)], [row, row], color=GROUND, linewidth=3, zorder=1)
        axes.plot(min(max(part, LEAST), 10), row, "o" if part else "<", color=color, markersize=4, clip_on=False)
    axes.axvline(1, color=RED, linewidth=1)
    axes.set(xscale="log", xlim=(LEAST, 10), ylim=(len(worst) - 0.5, -0.5))
    axes.set_yticks(range(len(worst)), list(worst), fontsize=FONT)
    axes.set_xlabel("worst discrepancy ÷ tolerance (◂ none at all)", fontsize=FONT)
    return _svg(figure, axes, name="discrepancies")


def _proposition_2() -> str:
    """Three balls, the level lines of L + gᵀη and the optimum."""
    g = np.array([2.0, 1.0])
    figure = Figure((WIDTH, 1.8))
    for axes, (p, title) in zip(figure.subplots(1, 3), PLANE, strict=True):
        (eta,) = ca.solve(
            ca.GNII(torch.zeros(1, dtype=torch.float64), torch.from_numpy(g)[None], (ca.Ball(ca.Lp(p), 1.0),))
        ).eta.numpy()
        _plane(axes, title)
        _ball(axes, p, 1.0)
        _levels(axes, g, g @ eta, BLUE)
        for part in (0.5, 0.0, -0.5):
            _levels(axes, g, part * (g @ eta), QUIET)
        _point(axes, eta)
        axes.annotate("", eta - 0.28 * g, eta, arrowprops={"arrowstyle": "->", "color": RED, "linewidth": 1.2})
    return _svg(figure, *figure.axes, name="proposition_2")


def _min_norm_edge() -> str:
    """The smallest ball that touches L + gᵀη ≤ 0."""
    g, L = np.array([2.0, 1.0]), 1.6
    figure = Figure((WIDTH, 1.8))
    for axes, (p, title) in zip(figure.subplots(1, 3), PLANE, strict=True):
        (eta,) = ca.solve(
            ca.MinNorm(torch.full((1,), L, dtype=torch.float64), torch.from_numpy(g)[None], ca.Lp(p))
        ).eta.numpy()
        _plane(axes, title)
        side = np.array([[-1.5, 2 * 1.5 - L], [-1.5, -1.5], [(1.5 - L) / 2, -1.5]])
        axes.fill(side[:, 0], side[:, 1], color="#f6dddd", linewidth=0)
        _ball(axes, p, float(np.linalg.norm(eta, p)))
        _levels(axes, g, -L, RED)
        _point(axes, eta)
    return _svg(figure, *figure.axes, name="min_norm_edge")


def _with_box() -> str:
    """Ball ∩ box: the optimum, and the ball's answer clipped."""
    g, low, high = np.array([2.0, 1.0]), np.array([-0.45, -1.2]), np.array([0.9, 0.8])
    value, gradient = tensors(np.zeros(1), g[None])
    figure = Figure((WIDTH, 1.8))
    for axes, (p, title) in zip(figure.subplots(1, 3), PLANE, strict=True):
        ball, box = ca.Ball(ca.Lp(p), 1.0), ca.Box(*tensors(low[None], high[None]))
        (best,) = ca.solve(ca.GNII(value, gradient, (ball, box))).eta.numpy()
        (plain,) = ca.solve(ca.GNII(value, gradient, (ball,))).eta.numpy()
        clipped = np.clip(plain, low, high)
        _plane(axes, title)
        _ball(axes, p, 1.0)
        axes.plot(
            [low[0], high[0], high[0], low[0], low[0]],
            [low[1], low[1], high[1], high[1], low[1]],
            color=INK,
            linewidth=0.9,
        )
        _levels(axes, g, g @ best, BLUE)
        _point(axes, best)
        axes.plot(*clipped, "x", color=RED, markersize=6, markeredgewidth=1.5)
    return _svg(figure, *figure.axes, name="with_box")


def _linearization() -> str:
    """The margin of the digits network along one step, and the linear model at its start."""
    model, x = models.load("digits").double(), datasets.load("digits", limit=1).x.double()
    lin = ca.linearize(model, x)
    best = int((lin.value - 0.15 * lin.gradient.abs().sum(-1))[0].argmin())
    eta = -lin.gradient[0, best].sign()
    part = torch.linspace(0, 0.15, 301, dtype=torch.float64)
    with torch.no_grad():
        pieces = ca.margin(model(x.flatten(1) + part[:, None] * eta), lin.label.expand(301))[:, best]
    line = lin.value[0, best] + part * (lin.gradient[0, best] @ eta)
    figure = Figure((WIDTH, 2.2))
    axes = figure.subplots()
    axes.plot(part, pieces, color=INK, label="f_k − f_l of the network")
    axes.plot(part, line, color=BLUE, linestyle="--", label="L + gᵀη")
    axes.axhline(0, color=RED, linewidth=1)
    axes.set_xlabel("ε, for η = −ε sign(g)", fontsize=FONT)
    axes.legend(fontsize=FONT, frameon=False)
    return _svg(figure, axes, name="linearization")


def _pieces() -> str:
    """What the best and the active piece reach, image by image."""
    model, x = models.load("digits").double(), datasets.load("digits").x.double()
    lin = ca.linearize(model, x)
    optimum = (lin.value - 0.1 * lin.gradient.abs().sum(-1)).numpy()
    active, best = optimum[np.arange(len(x)), lin.value.numpy().argmin(1)], optimum.min(1)
    other = best < active
    figure = Figure((WIDTH, 2.6))
    axes = figure.subplots()
    axes.plot(
        active[~other], best[~other], ".", color=QUIET, markersize=3, label=f"the same piece ({(~other).sum()} images)"
    )
    axes.plot(active[other], best[other], ".", color=BLUE, markersize=4, label=f"another one is lower ({other.sum()})")
    axes.axhline(0, color=RED, linewidth=0.8)
    axes.axvline(0, color=RED, linewidth=0.8)
    axes.set_xlabel("L + gᵀη of the class that is closest at x", fontsize=FONT)
    axes.set_ylabel("least over all classes", fontsize=FONT)
    axes.legend(fontsize=FONT, frameon=False)
    return _svg(figure, axes, name="pieces")


def _probabilities() -> str:
    """The length of (8) on probabilities and on logits, for two classes."""
    lead = np.linspace(0.05, 12, 60)
    weight = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    point = torch.from_numpy(lead)[:, None]
    soft = ca.probabilities(lambda x: x @ weight.T)
    sizes = [
        ca.solve(
            ca.MinNorm(*ca.linearize(network, point, torch.zeros(60, dtype=torch.long)).flat(), ca.Lp(2))
        ).eta.abs()[:, 0]
        for network in (soft, lambda x: x @ weight.T)
    ]
    figure = Figure((WIDTH, 2.2))
    axes = figure.subplots()
    axes.plot(lead, sizes[0], color=RED, label="on probabilities: sinh(t)/‖∇t‖")
    axes.plot(lead, sizes[1], color=BLUE, label="on logits, exact: t/‖∇t‖")
    axes.set_yscale("log")
    axes.set_xlabel("lead t in logits", fontsize=FONT)
    axes.set_ylabel("‖η‖ of (8)", fontsize=FONT)
    axes.legend(fontsize=FONT, frameon=False)
    return _svg(figure, axes, name="probabilities")


def _operator_norm_sdp() -> str:
    """Unknowns of the two programs, ten outputs."""
    d = np.array([10.0, 100, 784, 3072, 150_528])
    figure = Figure((WIDTH, 2.2))
    axes = figure.subplots()
    axes.plot(d, d * (d + 1) / 2, "o-", color=RED, markersize=4, label="d × d: d(d + 1)/2")
    axes.plot(d, np.full(5, 55.0), "o-", color=BLUE, markersize=4, label="m × m: m(m + 1)/2 = 55")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("inputs d (784: MNIST, 3,072: CIFAR-10, 150,528: ImageNet)", fontsize=FONT)
    axes.set_ylabel("unknowns", fontsize=FONT)
    axes.legend(fontsize=FONT, frameon=False)
    return _svg(figure, axes, name="operator_norm_sdp")


PICTURES: dict[str, tuple[Callable[[], str], str]] = {
    "linearization": (
        _linearization,
        "A test image of the digits network: the lead over a class along a step, and its linear model.",
    ),
    "proposition_2": (
        _proposition_2,
        "(GNII) in the plane: the ball, lines on which gᵀη is constant, the optimum η, and −g.",
    ),
    "with_box": (
        _with_box,
        "Ball ∩ box: the optimum (dot), and the ball's answer clipped (cross), which is optimal for p = ∞ alone.",
    ),
    "pieces": (
        _pieces,
        "The digits network at ε = 0.1, p = ∞. Below the diagonal another class than the closest is overtaken first.",
    ),
    "probabilities": (
        _probabilities,
        "Two classes: the step that (8) thinks is needed, on probabilities and on logits.",
    ),
    "min_norm_edge": (
        _min_norm_edge,
        "(8) in the plane: the smallest ball touches L + gᵀη ≤ 0 (shaded) on its edge, where L + gᵀη = 0.",
    ),
    "operator_norm_sdp": (
        _operator_norm_sdp,
        "Unknowns of the relaxation of (9) for ten outputs, in the paper's form and as m × m.",
    ),
}
"""For some claims, what draws its picture, and what the picture shows."""


def _plane(axes: Axes, title: str) -> None:
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=FONT)
    axes.axhline(0, color=GROUND, linewidth=0.7)
    axes.axvline(0, color=GROUND, linewidth=0.7)


def _ball(axes: Axes, p: float, radius: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 721)
    edge = np.stack([np.cos(angle), np.sin(angle)])
    edge = radius * edge / np.linalg.norm(edge, p, axis=0)
    axes.fill(*edge, facecolor=GROUND, edgecolor=INK, linewidth=0.9, alpha=0.85)


def _levels(axes: Axes, g: Array, value: float, color: str) -> None:
    """The line gᵀη = value."""
    x = np.array([-1.5, 1.5])
    axes.plot(x, (value - g[0] * x) / g[1], color=color, linewidth=1 if color != QUIET else 0.6)


def _point(axes: Axes, eta: Array) -> None:
    axes.plot(*eta, "o", color=BLUE, markersize=4.5)


def _svg(figure: Figure, *axes: Axes, name: str) -> str:
    """The picture as text, its ids made its own."""
    for each in axes:
        each.tick_params(labelsize=FONT)
        for side in ("top", "right"):
            each.spines[side].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight", transparent=True)
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text[text.index("<svg") :])
