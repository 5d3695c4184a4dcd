"""The shipped networks for scikit-learn's 1,797 handwritten digits of 8 × 8 pixels: a classifier and an autoencoder.

Both are piecewise linear, so that equation (1) is exact near an image. Pixels are in [0, 1] (16 grey levels divided by
16) and nothing is normalised, so that ε is in units of that range.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["data", "digits", "digits_autoencoder", "pixels"]


def digits() -> nn.Sequential:
    """The untrained classifier: images (B, 1, 8, 8), or flat (B, 64), with pixels in [0, 1] → scores (B, 10)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def digits_autoencoder() -> nn.Sequential:
    """The untrained autoencoder: images (B, 1, 8, 8), or flat (B, 64), pixels in [0, 1] → the same pixels, (B, 64).

    The code between its two halves has 16 numbers, so that the Jacobian (64 × 64) has rank 16 at most.
    """
    encoder = [nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16)]
    return nn.Sequential(*encoder, nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 64))


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, labels) for training, 1,437 of them, and for testing, 360: the split of `datasets.load("digits")`."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    grey, classes = load_digits(return_X_y=True)
    parts = train_test_split(grey / 16, classes, test_size=360, random_state=0, stratify=classes)
    x_train, x_test = (torch.tensor(part, dtype=torch.float32).view(-1, 1, 8, 8) for part in parts[:2])
    return (x_train, torch.tensor(parts[2])), (x_test, torch.tensor(parts[3]))


def pixels() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, what an autoencoder should return) of the same split: the pixels themselves, flat (n, 64)."""
    (x, _), (x_test, _) = data()
    return (x, x.flatten(1)), (x_test, x_test.flatten(1))
