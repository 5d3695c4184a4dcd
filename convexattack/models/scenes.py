"""The shipped network for segmentation: a class for every pixel of a scene of scikit-learn's digits.

Fully convolutional and piecewise linear: a pixel's scores depend on the 17 × 17 pixels around it, and equation (1) is
exact near a scene.
"""

from __future__ import annotations

from torch import Tensor, nn

from convexattack import datasets

__all__ = ["data", "scenes"]


def scenes() -> nn.Sequential:
    """The untrained network: scenes (B, 1, H, W), pixels in [0, 1] → scores (B, 11·H·W), flat from (B, 11, H, W).

    Class 0 is the background and 1 + k the digit k.
    """
    near = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=2, dilation=2), nn.ReLU()]
    far = [nn.Conv2d(32, 32, 3, padding=4, dilation=4), nn.ReLU(), nn.Conv2d(32, 11, 1)]
    return nn.Sequential(*near, *far, nn.Flatten())


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(scenes, the class of every pixel, flat (n, H·W)) for training, 3,000 of them, and for testing, 500."""
    training, test = datasets.scenes("train"), datasets.scenes("test")
    return (training.x, training.label.flatten(1)), (test.x, test.label.flatten(1))
