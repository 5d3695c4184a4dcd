"""First-order perturbation analysis, equation (1): f(x + η) ≈ f(x) + J_f(x) η.

`linearize` returns value and gradient of every piece of a loss at every image, the data of the programs; `jacobian`
returns J_f(x), and `jacobian_operator` its products with vectors where it is too large to hold.

One forward pass, whose graph is kept once; then backward passes, each for as many pieces as `ENTRIES_AT_ONCE` allows,
by `torch.autograd.grad(is_grads_batched=True)`, and one piece at a time beyond that, or where an operation of the model
cannot be batched. On a CPU the batch is faster for few images, and slower and larger for wide convolutions on many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from convexattack.losses import Loss, Model, as_label, margin

__all__ = ["JacobianOperator", "Linearization", "jacobian", "jacobian_operator", "linearize"]

_NO_GRADIENT = (
    "model returns no gradient with respect to x: its output must depend on x through differentiable torch operations, "
    "without detach(), no_grad() or NumPy on the way"
)
ENTRIES_AT_ONCE = 2**20  # of the gradients that one backward pass computes together
PIECES_AT_ONCE = 10  # but no fewer, or all: a batch of a few pieces of many images is slower than one after another


@dataclass(frozen=True, eq=False)
class Linearization:
    """L_k(x + η) ≈ value_k + gradient_kᵀη, equation (1), for the K pieces of a loss at B images of d entries each.

    Attributes:
        value: (B, K) L_k(x), detached, in the images' dtype and on their device.
        gradient: (B, K, d) ∇L_k(x), likewise.
        label: (B,) the class k(x) that the loss starts from, int64.
    """

    value: Float[Tensor, "B K"]
    gradient: Float[Tensor, "B K d"]
    label: Int[Tensor, " B"]

    @property
    def pieces(self) -> int:
        """K."""
        return self.value.shape[1]

    def flat(self) -> tuple[Float[Tensor, " N"], Float[Tensor, "N d"]]:
        """(value, gradient) of the N = B·K programs: all pieces of the first image, then all of the second, ..."""
        return self.value.flatten(), self.gradient.flatten(0, 1)


def linearize(
    model: Model, x: Float[Tensor, "B *S"], label: Int[Tensor, " B"] | None = None, loss: Loss = margin
) -> Linearization:
    """L(x) and ∇L(x) of every piece of `loss` at every image: equation (1), with η in the units of x.

    What is not finite at one image stays in that image's rows.

    Args:
        model: (B, *S) → (B, m). A Module is evaluated in eval mode and left as it was: modes, buffers, parameters and
            their `.grad`. Any other callable is taken as it is.
        x: images of any floating-point dtype, on any device.
        label: the classes k(x); by default the clean prediction (2).
        loss: (output (B, m), label (B,)) → pieces (B, K), row by row.

    Raises:
        TypeError: integer images, or a model or a loss that returns anything but one floating-point tensor.
        ValueError: no batch dimension, no images, images that the model does not take, an output that is not (B, m), a
            label that is no class, a BatchNorm that mixes the images of a batch, or an output without a gradient in x.
    """
    check_images(x)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model, len(x)) as function:
        return backward_pass(*forward_pass(function, x), label, loss)


def backward_pass(
    point: Tensor, output: Tensor, label: Int[Tensor, " B"] | None, loss: Loss, rows: Int[Tensor, " n"] | None = None
) -> Linearization:
    """The linearization from what `forward_pass` returned, of all rows or of these."""
    classes = as_label(output.argmax(1) if label is None else label, output)
    pieces = loss(output, classes)
    _check_rows(pieces, "loss", "(B, K)", len(point))
    gradient, value, classes = _pull_back(pieces, point, rows), pieces.detach().to(point), classes.to(point.device)
    return (
        Linearization(value, gradient, classes) if rows is None else Linearization(value[rows], gradient, classes[rows])
    )


def jacobian(model: Model, x: Float[Tensor, "B *S"]) -> Float[Tensor, "B m d"]:
    """J_f(x) of equation (1), in output units by units of x. Model, x, errors as for `linearize`; m = 1 is enough."""
    check_images(x)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model, len(x)) as function:
        point, output = forward_pass(function, x)
        return _pull_back(output, point, None)


@dataclass(frozen=True, eq=False)
class JacobianOperator:
    """J_f(x) of equation (1) through its products alone, for outputs and inputs of any shape, flattened.

    Attributes:
        forward: η (B, d) → J_f(x)η (B, m), a Jacobian-vector product.
        adjoint: w (B, m) → J_f(x)ᵀw (B, d), a vector-Jacobian product.
        shape: (B, m, d).
        dtype, device: of x, and of the products.
    """

    forward: Callable[[Float[Tensor, "B d"]], Float[Tensor, "B m"]]
    adjoint: Callable[[Float[Tensor, "B m"]], Float[Tensor, "B d"]]
    shape: tuple[int, int, int]
    dtype: torch.dtype
    device: torch.device


def jacobian_operator(model: Model, x: Float[Tensor, "B *S"]) -> JacobianOperator:
    """J_f(x) as an operator. The model runs once and its graph is kept: J_fᵀw is one backward pass, and J_fη, since
    J_fᵀw is linear in w, the backward pass of that one.

    Model, x and errors are those of `linearize`, but the output may have any shape (B, ...).
    """
    check_images(x)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model, len(x)) as function:
        point, output = forward_pass(function, x, flat=True)
        w0 = torch.zeros_like(output, requires_grad=True)
        pulled = None
        if output.grad_fn is not None:
            (pulled,) = torch.autograd.grad(output, point, w0, create_graph=True, allow_unused=True)
        if pulled is None:
            raise ValueError(_NO_GRADIENT)

    def adjoint(w: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(output, point, w.to(output), retain_graph=True)
        return found.flatten(1)

    def forward(eta: Tensor) -> Tensor:
        if pulled.grad_fn is None:
            return torch.zeros_like(w0, requires_grad=False)
        (found,) = torch.autograd.grad(pulled, w0, eta.to(pulled).view_as(pulled), retain_graph=True, allow_unused=True)
        return torch.zeros_like(w0, requires_grad=False) if found is None else found

    return JacobianOperator(forward, adjoint, (len(x), output.shape[1], point[0].numel()), x.dtype, x.device)


def forward_pass(function: Model, x: Tensor, flat: bool = False, spare: bool = False) -> tuple[Tensor, Tensor]:
    """The images as a leaf of a new graph, and the output; the model may overwrite a copy, or x if it is to spare."""
    own = (
        x.detach().clone(memory_format=torch.contiguous_format)
        if x.is_inference() or not x.is_contiguous()
        else x.detach()
    )
    point = own.requires_grad_()
    try:
        output = function(own.detach() if spare else point.clone())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError, AssertionError, TypeError, AttributeError) as error:
        reason = str(error).partition("\n")[0].rstrip(". ") or type(error).__name__
        raise ValueError(
            f"model does not take x of shape {tuple(x.shape)}, {x.dtype} on {x.device} ({reason}): "
            "give it images of the shape, dtype and device that it was made for"
        ) from error
    if flat and isinstance(output, Tensor) and output.ndim > 2:
        output = output.flatten(1)
    _check_rows(output, "model", "(B, m)", len(x))
    return point, output


def _pull_back(pieces: Tensor, point: Tensor, rows: Tensor | None) -> Tensor:
    """The gradient (B, K, d) of each column of pieces (B, K), row by row; of these rows alone where some are named."""
    count = pieces.shape[1]
    if count == 1:
        return _backward(pieces, point, 0, 1, rows)
    gradient = point.new_empty(len(point) if rows is None else len(rows), count, point[0].numel())
    at_once = ENTRIES_AT_ONCE // point.numel()
    at_once = at_once if at_once >= min(count, PIECES_AT_ONCE) else 1
    start = 0
    while start < count:
        stop = min(start + at_once, count)
        try:
            gradient[:, start:stop] = _backward(pieces, point, start, stop, rows)
        except RuntimeError as error:
            if at_once == 1 or isinstance(error, torch.OutOfMemoryError):
                raise
            at_once = 1
        else:
            start = stop
    return gradient


def _backward(pieces: Tensor, point: Tensor, start: int, stop: int, rows: Tensor | None) -> Tensor:
    """The gradients of columns start to stop, (B, stop - start, d), by one backward pass."""
    columns = torch.zeros(stop - start, *pieces.shape, dtype=pieces.dtype, device=pieces.device)
    columns.diagonal(offset=start, dim1=0, dim2=2).fill_(1)
    batched = stop - start > 1
    found = None
    if pieces.grad_fn is not None:
        (found,) = torch.autograd.grad(
            pieces,
            point,
            columns if batched else columns[0],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )
    if found is None:
        raise ValueError(_NO_GRADIENT)
    found = (found if batched else found[None]).flatten(2).transpose(0, 1)
    return found if rows is None else found.index_select(0, rows)


@contextmanager
def evaluating(model: Any, batch: int) -> Iterator[Model]:
    """The model as a function in eval mode; every module's mode and buffers are put back, whatever happens."""
    if isinstance(model, type):
        raise TypeError(
            f"model must be a torch.nn.Module or a callable, got the class {model.__name__}: "
            f"make one, {model.__name__}()"
        )
    if not callable(model):
        raise TypeError(
            f"model must be a torch.nn.Module or a callable, got {type(model).__name__}: pass the network itself"
        )
    if not isinstance(model, nn.Module):
        yield model
        return
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if batch > 1 and isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"model has a BatchNorm without running statistics, {name or type(module).__name__!r}, which mixes the "
                "images of a batch: train it with track_running_stats=True, or pass one image at a time"
            )
    modes = [(module, module.training) for module in modules.values()]
    buffers = [
        (module, name, buffer, buffer._version, buffer.clone())
        for module in modules.values()
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    held = (
        (f"{path}.{name}" if path else name, tensor)
        for path, module in modules.items()
        for name, tensor in _tensors(module)
    )
    made_in_inference_mode = {name: tensor.clone() for name, tensor in held if tensor.is_inference()}
    try:
        for module, training in modes:
            if training:
                module.training = False
        yield partial(functional_call, model, made_in_inference_mode) if made_in_inference_mode else model
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training
        for module, name, buffer, version, kept in buffers:
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(kept)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The module's own parameters and buffers."""
    own = chain(module._parameters.items(), module._buffers.items())
    return ((name, tensor) for name, tensor in own if tensor is not None)


def check_images(x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor of images (B, *S), got {type(x).__name__}: use torch.as_tensor(...)")
    if not x.is_floating_point():
        raise TypeError(
            f"x must be floating point, got {x.dtype}: convert the images, for instance with x.float() / 255"
        )
    if x.ndim < 2:
        raise ValueError(f"x of shape {tuple(x.shape)} has no batch dimension: pass one image as x.unsqueeze(0)")
    if x.numel() == 0:
        raise ValueError(f"x of shape {tuple(x.shape)} is empty: pass at least one image with at least one entry")


def check_label(label: Any, x: Tensor) -> None:
    """Of whole batches, before they are taken apart; `losses.as_label` sees to dtype and classes."""
    if label is None:
        return
    if not isinstance(label, Tensor):
        raise TypeError(f"label must be an integer tensor (B,), got {type(label).__name__}: use torch.tensor(...)")
    if label.shape != x.shape[:1]:
        raise ValueError(f"label must have shape ({len(x)},), got {tuple(label.shape)}: give one class index per image")


def _check_rows(value: Any, name: str, shape: str, batch: int) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"{name} must return one floating-point tensor {shape}, got {kind}: wrap it in a function that does"
        )
    if value.ndim != 2 or len(value) != batch or value.shape[1] == 0:
        raise ValueError(
            f"{name} must return a tensor {shape} with B = {batch}, got shape {tuple(value.shape)}: "
            "return one row per image, and give x a batch dimension"
        )
