"""Losses: from a model's output f(x) to the pieces L_1, …, L_K whose linearizations a program attacks.

A loss maps (output (B, m), label (B,)) to pieces (B, K), differentiably and row by row. It is what an attack *decreases*. The paper's
class k(x) is `label`, counted from 0; pieces are in the units of the output.

Every loss raises TypeError or ValueError for an output that is not a floating-point tensor (B, m), and for a label that is not an integer
tensor (B,) with entries in 0, …, m - 1.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Loss", "Model", "as_label", "class_score", "margin", "negative_cross_entropy", "probabilities", "targeted"]

Model = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def margin(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
    """L_l = f_k - f_l for every class l ≠ k, in ascending order of l: K = m - 1 pieces.

    Equation (3): the classifier is fooled at x + η where the smallest piece is negative there.
    Raises ValueError for fewer than two classes.
    """
    label = as_label(label, output)
    if output.shape[1] < 2:
        raise ValueError(f"output of shape {tuple(output.shape)} has one class, and a margin compares two: use class_score")
    others = torch.arange(output.shape[1] - 1, device=output.device).expand(len(output), -1)
    return _pick(output, label) - output.gather(1, others + (others >= label[:, None]).long())


def targeted(t: int | Int[Tensor, " B"]) -> Loss:
    """The loss L_t = f_k - f_t, one piece: negative once class t has overtaken k (Section III, the segmentation example).

    `t` is one class for all images, or an integer tensor (B,) with a class for each. An image with k = t has L = 0 and no gradient.
    Raises TypeError for another t; the loss raises ValueError where t is not a class.
    """
    target = t if isinstance(t, Tensor) and t.ndim > 0 else _as_class(t)

    def loss(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
        label = as_label(label, output)
        classes = target if isinstance(target, Tensor) else torch.full((len(output),), target)
        return _pick(output, label) - _pick(output, as_label(classes, output, "t"))

    loss.__name__ = loss.__qualname__ = f"targeted({target})" if isinstance(target, int) else "targeted(t)"
    return loss


def class_score(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
    """L = f_k, one piece: the loss of Algorithm 2 (Section IV).

    Its sign does not tell whether the network is fooled; the lower it is, the likelier that is.
    """
    return _pick(output, as_label(label, output))


def negative_cross_entropy(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
    """L = log softmax(f)_k, one piece, in nats: the negative training loss of FastGrad (Section IV), for a model of logits."""
    label = as_label(label, output)
    return _pick(output.log_softmax(1), label)


def probabilities(model: Model) -> nn.Module:
    """The model followed by a softmax: from logits to the f of unit ℓ1 norm in equation (2).

    `model` (a Module, or any callable from (B, *S) to (B, m)) is held, neither copied nor changed. Raises TypeError if it is not callable.
    """
    if not callable(model):
        raise TypeError(f"model must be a torch.nn.Module or a callable, got {type(model).__name__}: pass the network itself")
    return _Probabilities(model)


def as_label(label: Any, output: Any, name: str = "label") -> Int[Tensor, " B"]:
    """A fresh int64 copy of `label` on the output's device, after the checks that the module speaks of."""
    if not isinstance(output, Tensor):
        raise TypeError(f"output must be a tensor (B, m), got {type(output).__name__}: let the model return its scores alone")
    if output.ndim != 2:
        raise ValueError(f"output must have shape (B, m), got {tuple(output.shape)}: one row of class scores per image")
    if not output.is_floating_point():
        raise TypeError(f"output must be floating point, got {output.dtype}: let the model return scores, not class indices")
    if not isinstance(label, Tensor):
        raise TypeError(f"{name} must be an integer tensor (B,), got {type(label).__name__}: use torch.tensor(...)")
    if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(f"{name} must be an integer tensor, got {label.dtype}: give class indices, for instance {name}.long()")
    if label.shape != output.shape[:1]:
        raise ValueError(f"{name} must have shape ({len(output)},), got {tuple(label.shape)}: give one class index per image")
    classes = torch.empty(len(output), dtype=torch.long, device=output.device).copy_(label)
    outside = (classes < 0) | (classes >= output.shape[1])
    if outside.any():
        raise ValueError(
            f"{name} {int(classes[outside][0])} is out of range: with {output.shape[1]} classes use 0 to {output.shape[1] - 1}"
        )
    return classes


def _pick(scores: Tensor, classes: Tensor) -> Tensor:
    return scores.gather(1, classes[:, None])


def _as_class(t: Any) -> int:
    if not isinstance(t, bool):
        try:
            return operator.index(t)
        except TypeError:
            pass
    raise TypeError(f"t must be an int or an integer tensor (B,), got {t!r}: give the class that the attack aims at")


class _Probabilities(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.training = getattr(model, "training", False)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).softmax(1)
