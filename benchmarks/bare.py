"""The attacks of Section IV without sets in as few lines of PyTorch as they have: the yardstick of `benchmarks cost`.

Nothing is checked, rounded or certified, no dual is kept, and float32 may carry η an ulp out of its ball. What remains
is what anyone has to compute who wants a perturbation, its size, and what the network says of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["deepfool", "one_step"]

Loss = Callable[[Tensor, Tensor], Tensor]
Found = tuple[Tensor, Tensor]  # sizes and margins, (B,) each


def one_step(model: nn.Module, x: Tensor, label: Tensor, loss: Loss, p: float, radius: float, batched: bool) -> Found:
    """(GNII) for the best piece: eq. (6), for p = ∞ eq. (7)."""
    value, gradient = _pieces(model, x, label, loss, batched)
    piece = (value - radius * _dual(gradient, p)).argmin(0)
    g = gradient[piece, torch.arange(len(x))] if len(gradient) > 1 else gradient[0]
    eta = _steepest(g, p, torch.full_like(value[0], radius))
    with torch.no_grad():
        margin = _margin(model(x + eta.view_as(x)), label)
    return torch.linalg.vector_norm(eta, p, -1), margin


def deepfool(
    model: nn.Module, x: Tensor, label: Tensor, p: float, batched: bool, most: int = 50, overshoot: float = 0.02
) -> Found:
    """(8) for the nearest class, until the network agrees; live rows only."""
    eta, margin, rows = torch.zeros_like(x).flatten(1), torch.zeros(len(x)), torch.arange(len(x))
    for _ in range(most):
        there = x[rows] + eta[rows].view(-1, *x.shape[1:])
        value, gradient = _pieces(model, there, label[rows], _margins, batched)
        far, piece = (value / _dual(gradient, p)).min(0)
        eta[rows] += _steepest(gradient[piece, torch.arange(len(rows))], p, far * (1 + overshoot))
        with torch.no_grad():
            margin[rows] = _margin(model(x[rows] + eta[rows].view(-1, *x.shape[1:])), label[rows])
        rows = rows[margin[rows] >= 0]
        if len(rows) == 0:
            break
    return torch.linalg.vector_norm(eta, p, -1), margin


def _pieces(model: nn.Module, x: Tensor, label: Tensor, loss: Loss, batched: bool) -> tuple[Tensor, Tensor]:
    """Values (K, B) and gradients (K, B, d)."""
    point = x.clone().requires_grad_()
    pieces = loss(model(point), label)
    count = pieces.shape[1]
    if batched and count > 1:
        unit = torch.eye(count)[:, None].expand(count, len(x), count)
        (gradient,) = torch.autograd.grad(pieces, point, unit, is_grads_batched=True)
    else:
        gradient = torch.stack(
            [torch.autograd.grad(pieces[:, k].sum(), point, retain_graph=k < count - 1)[0] for k in range(count)]
        )
    return pieces.detach().T, gradient.flatten(2)


def _dual(g: Tensor, p: float) -> Tensor:
    """‖g‖_q."""
    return g.abs().amax(-1) if p == 1 else g.abs().sum(-1) if p == math.inf else torch.linalg.vector_norm(g, 2, -1)


def _steepest(g: Tensor, p: float, radius: Tensor) -> Tensor:
    if p == math.inf:
        return g.sign() * -radius[:, None]
    if p == 2:
        scale: Tensor = -radius / torch.linalg.vector_norm(g, 2, -1)
        return g * scale[:, None]
    k = g.abs().argmax(-1, keepdim=True)
    return torch.zeros_like(g).scatter_(1, k, -radius[:, None] * g.gather(1, k).sign())


def _margins(output: Tensor, label: Tensor) -> Tensor:
    """f_k − f_l for the other classes l."""
    others = torch.arange(output.shape[1] - 1).expand(len(label), -1)
    return output.gather(1, label[:, None]) - output.gather(1, others + (others >= label[:, None]))


def _margin(output: Tensor, label: Tensor) -> Tensor:
    return _margins(output, label).amin(1)
