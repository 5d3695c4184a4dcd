"""The paper's networks for CIFAR-10: Network in Network (Lin, Chen and Yan, 2013), DenseNet-40 with growth rate 12.

Pixels are in [0, 1]; the first layer takes each colour's mean and deviation out, so that ε is in units of that range.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convexattack import datasets
from convexattack.models.layers import Affine, normalize

__all__ = ["data", "densenet40", "nin"]


def nin() -> nn.Sequential:
    """The untrained Network in Network: images (B, 3, 32, 32) with pixels in [0, 1] → scores (B, 10).

    Three blocks of a convolution and two 1 × 1 convolutions, each with ReLU but the very last, whose 10 channels' means
    are the scores; 3 × 3 pooling with stride 2 and dropout after the first two blocks.
    """

    def block(channels: int, kernel: int, widths: tuple[int, int, int]) -> list[nn.Module]:
        first, second, third = widths
        convolutions = [
            nn.Conv2d(channels, first, kernel, padding=kernel // 2),
            nn.Conv2d(first, second, 1),
            nn.Conv2d(second, third, 1),
        ]
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        return [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]

    return nn.Sequential(
        _colours(),
        *block(3, 5, (192, 160, 96)),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.Dropout(),
        *block(96, 5, (192, 192, 192)),
        nn.AvgPool2d(3, stride=2, ceil_mode=True),
        nn.Dropout(),
        *block(192, 3, (192, 192, 10))[:-1],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def densenet40() -> nn.Sequential:
    """The untrained DenseNet-40, growth rate 12, no bottleneck: images (B, 3, 32, 32) in [0, 1] → scores (B, 10).

    Three blocks of twelve layers (batch norm, ReLU, 3 × 3 convolution to 12 channels, beside what came in); between
    them batch norm, ReLU, a 1 × 1 convolution that keeps the channels, and mean pooling.
    """
    layers: list[nn.Module] = [_colours(), nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for block in range(3):
        if block:
            layers += [*_convolution(channels, channels, 1), nn.AvgPool2d(2)]
        layers += [_Dense(channels + 12 * i, 12) for i in range(12)]
        channels += 12 * 12
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    model = nn.Sequential(*layers)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return model


class _Dense(nn.Module):
    """x ↦ (x, convolution(ReLU(batch norm(x)))), side by side as channels."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_convolution(channels, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


def _convolution(channels: int, out: int, kernel: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)]


def _colours() -> Affine:
    return normalize([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, labels) for training, 50,000, and for testing, 10,000; `datasets.load` says where they come from."""
    training, test = datasets.load("cifar10", "train"), datasets.load("cifar10", "test")
    return (training.x, training.label), (test.x, test.label)
