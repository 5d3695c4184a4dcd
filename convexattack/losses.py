"""Losses: from a model's output f(x) to the pieces L_1, …, L_K whose linearizations a program attacks.

A loss maps (output (B, m), label (B,)) to pieces (B, K), differentiably and row by row. It is what an attack
*decreases*. The paper's class k(x) is `label`, counted from 0; pieces are in the units of the output.

Every loss raises TypeError or ValueError for an output that is not a floating-point tensor (B, m), and for a label that
is not an integer tensor (B,) with entries in 0, …, m - 1.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = [
    "Loss",
    "Model",
    "above",
    "as_label",
    "below",
    "class_score",
    "margin",
    "negative_cross_entropy",
    "pixel_margins",
    "probabilities",
    "reconstruction_error",
    "summed",
    "targeted",
]

Model = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def margin(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
    """L_l = f_k - f_l for every class l ≠ k, in ascending order of l: K = m - 1 pieces.

    Equation (3): the classifier is fooled at x + η where the smallest piece is negative there.
    Raises ValueError for fewer than two classes.
    """
    label = as_label(label, output)
    if output.shape[1] < 2:
        raise ValueError(
            f"output of shape {tuple(output.shape)} has one class, and a margin compares two: use class_score"
        )
    others = torch.arange(output.shape[1] - 1, device=output.device)
    return _pick(output, label) - output.gather(1, others + (others >= label[:, None]))


def targeted(t: int | Int[Tensor, " B"], of: Loss | None = None) -> Loss:
    """The loss L_t = f_k - f_t, one piece: negative once class t has overtaken k (Section III, segmentation).

    `t` is one class for all images, or an integer tensor (B,) with a class for each. An image with k = t has L = 0 and
    no gradient. With `of`, a loss that a class can be labelled by, it is -of(f, t) instead, whatever k is: for
    `class_score` L = -f_t, for `negative_cross_entropy` L = -log softmax(f)_t, the training loss of class t; its sign
    says nothing.

    Raises TypeError for another t or `of`; the loss raises ValueError where t is not a class.

    >>> targeted(1, class_score)(torch.tensor([[5.0, 2.0, 3.0]]), torch.tensor([0]))
    tensor([[-2.]])
    """
    target = t if isinstance(t, Tensor) and t.ndim > 0 else _as_class(t)
    if of is not None and not callable(of):
        raise TypeError(
            f"of must be a function (output, label) -> pieces (B, K), got {of!r}; use ca.negative_cross_entropy"
        )

    def loss(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
        label = as_label(label, output)
        classes = target if isinstance(target, Tensor) else torch.full((len(output),), target)
        classes = as_label(classes, output, "t")
        return _pick(output, label) - _pick(output, classes) if of is None else -of(output, classes)

    loss.__name__ = loss.__qualname__ = f"targeted({target})" if isinstance(target, int) else "targeted(t)"
    return loss


def class_score(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
    """L = f_k, one piece: the loss of Algorithm 2 (Section IV).

    Its sign does not tell whether the network is fooled; the lower it is, the likelier that is.
    """
    return _pick(output, as_label(label, output))


def negative_cross_entropy(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
    """L = log softmax(f)_k, one piece, in nats: the negative training loss of FastGrad (Section IV), f being logits."""
    label = as_label(label, output)
    return _pick(output.log_softmax(1), label)


def below(threshold: float | Tensor = 0.0) -> Loss:
    """The loss L = f − τ of a model of one score, one piece: negative below τ (Section III, a false negative).

    Minimized, it pushes the score down; within a given ε by as much as the linear model allows, whatever τ. `threshold`
    is a number, or one per image (B,). Raises TypeError or ValueError for another threshold; the loss raises ValueError
    for a model of several scores.
    """
    return _threshold("below", threshold, 1.0)


def above(threshold: float | Tensor = 0.0) -> Loss:
    """The loss L = τ − f of a model of one score, one piece: negative above τ (Section III, a false positive).

    See `below`, with which it shares argument and errors.
    """
    return _threshold("above", threshold, -1.0)


def pixel_margins(target: Int[Tensor, "*P"]) -> Loss:
    """One margin per pixel, L_i = max_{l ≠ t_i} f_l − f_{t_i} at pixel i: K = P pieces, each negative where t_i leads.

    The output of the model is flat, (B, m·P): the scores of class 0 at all P pixels, then those of class 1, and so on,
    as `Flatten` makes it of (B, m, H, W). Where the strongest rival is the clean prediction, L_i is the paper's
    f_k − f_t (Section III). Each piece is one halfspace of `ca.HingeSum`; `ca.summed(...)` of it is one loss. Attacks
    run with either; their `fooled` and `margin`, which take the flat scores for those of one image, mean nothing here.

    Args:
        target: the class t_i of every pixel: (B, P) or (B, H, W) for each image, or (H, W) for all images. Labels are
            not used.

    Raises TypeError for another target; the loss raises ValueError where it does not fit the output.
    """
    if (
        not isinstance(target, Tensor)
        or target.is_floating_point()
        or target.is_complex()
        or target.dtype == torch.bool
    ):
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(
            f"target must be an integer tensor of one class per pixel, got {kind}: "
            "use torch.tensor(...) or target.long()"
        )
    if target.ndim < 2 or target.numel() == 0:
        raise ValueError(
            f"target must have shape (B, P), (B, H, W) or (H, W), got {tuple(target.shape)}: give one class per pixel"
        )

    def loss(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B P"]:
        as_label(label, output)
        of_each = len(target) == len(output) and output.shape[1] % target[0].numel() == 0
        rows = target.flatten(1) if of_each else target.flatten()[None]
        pixels = rows.shape[1]
        if output.shape[1] % pixels or output.shape[1] // pixels < 2:
            raise ValueError(
                f"target of shape {tuple(target.shape)} does not fit an output of shape {tuple(output.shape)}: the "
                "model returns at least two scores per pixel, flat, class by class"
            )
        scores = output.view(len(output), -1, pixels)
        classes = rows.to(output.device).long().expand(len(output), -1)
        if int(classes.min()) < 0 or int(classes.max()) >= scores.shape[1]:
            raise ValueError(
                f"target has classes from {int(classes.min())} to {int(classes.max())}: with {scores.shape[1]} classes "
                f"use 0 to {scores.shape[1] - 1}"
            )
        wanted = scores.gather(1, classes[:, None])
        rivals = scores.scatter(1, classes[:, None], -torch.inf)
        return rivals.amax(1) - wanted[:, 0]

    return loss


def summed(loss: Loss) -> Loss:
    """Σ of the pieces of a loss, as one piece: the paper's way from many pixels to one loss (Section III).

    Its sign says nothing of the single pieces. Raises TypeError for a loss that is no function.
    """
    if not callable(loss):
        raise TypeError(
            f"loss must be a function (output, label) -> pieces (B, K), got {loss!r}; use ca.pixel_margins(target)"
        )

    def total(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
        return loss(output, label).sum(1, keepdim=True)

    return total


def probabilities(model: Model) -> nn.Module:
    """The model followed by a softmax: from logits to the f of unit ℓ1 norm in equation (2).

    `model` (any callable (B, *S) → (B, m)) is held, neither copied nor changed. Raises TypeError if it is not callable.
    """
    if not callable(model):
        raise TypeError(
            f"model must be a torch.nn.Module or a callable, got {type(model).__name__}: pass the network itself"
        )
    return _Probabilities(model)


def reconstruction_error(model: Model) -> nn.Module:
    """A score of anomaly from an autoencoder: the mean squared error of a pixel, (B, *S) → (B, 1), in squared units.

    `model` returns its input again, in any shape of as many numbers; it is held, neither copied nor changed. Raises
    TypeError if it is not callable.
    """
    if not callable(model):
        raise TypeError(
            f"model must be a torch.nn.Module or a callable, got {type(model).__name__}: pass the network itself"
        )
    return _ReconstructionError(model)


def as_label(label: Any, output: Any, name: str = "label") -> Int[Tensor, " B"]:
    """A fresh int64 copy of `label` on the output's device, after the checks that the module speaks of."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"output must be a tensor (B, m), got {type(output).__name__}: let the model return its scores alone"
        )
    if output.ndim != 2:
        raise ValueError(f"output must have shape (B, m), got {tuple(output.shape)}: one row of class scores per image")
    if not output.is_floating_point():
        raise TypeError(
            f"output must be floating point, got {output.dtype}: let the model return scores, not class indices"
        )
    if not isinstance(label, Tensor):
        raise TypeError(f"{name} must be an integer tensor (B,), got {type(label).__name__}: use torch.tensor(...)")
    if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(
            f"{name} must be an integer tensor, got {label.dtype}: give class indices, for instance {name}.long()"
        )
    if label.shape != output.shape[:1]:
        raise ValueError(
            f"{name} must have shape ({len(output)},), got {tuple(label.shape)}: give one class index per image"
        )
    classes = torch.empty(len(output), dtype=torch.long, device=output.device).copy_(label)
    if len(classes):
        lowest, highest = (int(end) for end in classes.aminmax())
        if lowest < 0 or highest >= output.shape[1]:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                f"{name} {wrong} is out of range: with {output.shape[1]} classes use 0 to {output.shape[1] - 1}"
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


def _threshold(name: str, threshold: float | Tensor, sign: float) -> Loss:
    if isinstance(threshold, Tensor) and threshold.ndim:
        if threshold.ndim != 1 or not threshold.is_floating_point():
            raise ValueError(
                "threshold must be a number or a floating-point tensor (B,), "
                f"got {threshold.dtype} of shape {tuple(threshold.shape)}"
            )
    elif isinstance(threshold, bool) or not isinstance(threshold, int | float | Tensor):
        raise TypeError(
            f"threshold must be a number or a tensor (B,), got {threshold!r}: "
            "give the score at which the alarm goes off"
        )

    def loss(output: Float[Tensor, "B 1"], label: Int[Tensor, " B"]) -> Float[Tensor, "B 1"]:
        as_label(label, output)
        if output.shape[1] != 1:
            raise ValueError(
                f"output of shape {tuple(output.shape)} has several scores, and {name} a threshold is one: "
                "pick a column"
            )
        limit = torch.as_tensor(threshold).to(output).view(-1, 1)
        if len(limit) not in (1, len(output)):
            raise ValueError(f"threshold must be a number or have shape (B,) = ({len(output)},), got ({len(limit)},)")
        return sign * (output - limit)

    loss.__name__ = loss.__qualname__ = f"{name}(threshold)"
    return loss


class _ReconstructionError(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.training = getattr(model, "training", False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x).flatten(1) - x.flatten(1)).square().mean(1, keepdim=True)


class _Probabilities(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.training = getattr(model, "training", False)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).softmax(1)
