"""Layers that the shipped networks share: the data range in front, the middle of a larger image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Affine", "Centred", "normalize"]


class Affine(nn.Module):
    """x ↦ scale · x + shift, each a number or one per channel (C, 1, 1); both are fixed, and saved with the weights."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


def normalize(mean: Sequence[float], deviation: Sequence[float]) -> Affine:
    """The first layer of a network for images: (x − mean) / deviation by channel; η and ε keep the units of x."""
    mu, sigma = (torch.tensor(values).view(-1, 1, 1) for values in (mean, deviation))
    return Affine(1 / sigma, -mu / sigma)


class Centred(nn.Module):
    """Images (B, C, h, h) → (B, C, size, size) with zeros around; images of that size already are left as they are.

    Raises:
        ValueError: images that are larger, not square, or that differ from `size` by an odd number.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "B C h h"]) -> Float[Tensor, "B C size size"]:
        missing = self.size - x.shape[-1]
        if x.ndim != 4 or x.shape[-1] != x.shape[-2] or missing < 0 or missing % 2:
            raise ValueError(
                f"images have shape {tuple(x.shape)}: give (B, C, h, h) with h = {self.size}, "
                "or smaller by an even number of pixels"
            )
        return nn.functional.pad(x, (missing // 2,) * 4) if missing else x
