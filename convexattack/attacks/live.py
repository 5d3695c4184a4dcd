"""The images that are still attacked, what the network says of them, and the forward pass that may serve twice."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.attacks.total import of_rows
from convexattack.linearize import Linearization, backward_pass, evaluating, forward_pass, linearize
from convexattack.losses import Loss, Model

__all__ = ["Live", "evaluate", "lowest_margin", "of_batch"]

Pass = tuple[Tensor, Tensor, Tensor, Tensor]
"""Images as a leaf, their output with its graph, which rows they are, and which of them are alive."""


class Live:
    """The images alive of B, and the network at x + e.

    Attributes:
        rows: (n,) the images alive, ascending.
        label: (B,) k(x), known after the first look.
        wrong: (B,) whether the margin (3) at x is not ≥ 0; False for a model of one score.
        margin, loss: (B,) the margins and the smallest pieces where each image was looked at last.
    """

    label: Int[Tensor, " B"]
    wrong: Bool[Tensor, " B"]
    margin: Float[Tensor, " B"]
    loss: Float[Tensor, " B"]

    def __init__(
        self, model: Model, x: Float[Tensor, "B *S"], label: Int[Tensor, " B"] | None, loss: Loss, piece: str
    ) -> None:
        self.shape, self.x = x.shape[1:], x.detach().flatten(1)
        self.rows = torch.arange(len(x), device=x.device)
        self._model, self._given, self._loss, self._piece = model, label, loss, piece
        self._passed: Pass | None = None
        self._steady = True  # few images fell at the last step: then the pass that asks the network keeps its graph

    def look(self, eta: Float[Tensor, "B d"], first: bool) -> tuple[Linearization, Float[Tensor, "n m"]]:
        """The linearization of the images alive, and the output that it started from."""
        if first:
            lin, output = self._linearized(self.x, self._given)
            self.label, self.loss, self.margin = lin.label, lin.value.amin(1), lowest_margin(output, lin.label)
            self.wrong = ~(self.margin >= 0) & (output.shape[1] > 1)
            return lin, output
        passed, self._passed = self._passed, None
        if passed is not None:
            leaf, output, before, alive = passed
            seen: list[Tensor] = []
            try:
                with torch.enable_grad(), evaluating(self._model, len(before)):
                    label = of_rows(self.label, before)
                    lin = backward_pass(leaf, output, label, partial(self._pieces, before, seen), alive)
                    return lin, seen[0][alive]
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # the model has changed in place what its graph needs
                pass
        return self._linearized(of_rows(self.x, self.rows) + of_rows(eta, self.rows), of_rows(self.label, self.rows))

    def ask(self, eta: Float[Tensor, "B d"], moved: Bool[Tensor, " n"], pieces: int, more: bool) -> bool:
        """Ask the network about x + e; who has fallen, or does not move any more, is left. Whether anybody is alive.

        `more` says that a step may follow; it starts from this pass where few of the images fell at the last step.
        """
        rows, point = self.rows, (of_rows(self.x, self.rows) + of_rows(eta, self.rows)).view(-1, *self.shape)
        traced = trace(self._model, point) if self._steady and more else None
        output = evaluate(self._model, point, own=True) if traced is None else traced[1].detach().clone()
        least = of_batch(self._loss, output, self.label, rows).amin(1).to(self.loss)
        self.loss = self.loss.index_copy(0, rows, least)
        self.margin = self.margin.index_copy(0, rows, lowest_margin(output, self.label[rows]))
        alive = (moved & ~(least < 0)).nonzero().flatten()
        self._steady = 2 * pieces * (len(rows) - len(alive)) <= len(alive)
        self._passed = (*traced, rows, alive) if traced is not None and self._steady else None
        self.rows = rows[alive]
        return len(alive) > 0

    def finish(self, eta: Float[Tensor, "B d"]) -> None:
        """Ask the network about all images at the end."""
        output = evaluate(self._model, (self.x + eta).view(-1, *self.shape), own=True)
        self.loss, self.margin = self._loss(output, self.label).amin(1), lowest_margin(output, self.label)

    def _linearized(self, point: Float[Tensor, "n d"], label: Int[Tensor, " n"] | None) -> tuple[Linearization, Tensor]:
        seen: list[Tensor] = []
        loss = partial(self._pieces, self.rows, seen)
        return linearize(self._model, point.view(-1, *self.shape), label, loss), seen[0]

    def _pieces(self, rows: Int[Tensor, " n"], seen: list[Tensor], output: Tensor, label: Tensor) -> Tensor:
        """The pieces of these rows to be linearized; the output is kept in `seen`."""
        seen.append(output.detach())
        pieces = of_batch(self._loss, output, label if len(rows) == len(self.x) else self.label, rows)
        if self._piece == "best" or not isinstance(pieces, Tensor) or pieces.ndim != 2:
            return pieces
        return pieces.gather(1, pieces.detach().argmin(1, keepdim=True))


def of_batch(loss: Loss, output: Float[Tensor, "n m"], label: Int[Tensor, " B"], rows: Int[Tensor, " n"]) -> Tensor:
    """The loss of these rows alone; it sees a whole batch, for it may hold one number (a target class) per image."""
    if len(output) == len(label):
        return loss(output, label)
    whole = torch.zeros(len(label), output.shape[1], dtype=output.dtype, device=output.device)
    return loss(whole.index_copy(0, rows, output), label).index_select(0, rows)


def evaluate(model: Model, x: Float[Tensor, "B *S"], flat: bool = False, own: bool = False) -> Float[Tensor, "B m"]:
    """f(x) as `linearize` sees it: eval mode, no graph, and the same errors. `own` says that nobody else looks at x."""
    with torch.inference_mode(False), torch.no_grad(), evaluating(model, len(x)) as function:
        return forward_pass(function, x, flat, own)[1]


def trace(model: Model, x: Float[Tensor, "B *S"]) -> tuple[Float[Tensor, "B *S"], Float[Tensor, "B m"]]:
    """x as a leaf, and f(x) with the graph that leads there; for the rest as `evaluate`."""
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model, len(x)) as function:
        return forward_pass(function, x)


def lowest_margin(output: Float[Tensor, "B m"], label: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """L of equation (3), for classes that are known to be some; NaN for a model of one score, which has no margin."""
    if output.shape[1] == 1:
        return torch.full_like(output[:, 0], torch.nan)
    classes = label.to(output.device)[:, None]
    return output.gather(1, classes)[:, 0] - output.scatter(1, classes, -torch.inf).amax(1)
