"""The paper's two networks for MNIST: fully connected 150-100, and LeNet-5.

Both see 32 × 32 pixels, as the paper has it: the 28 × 28 image with two rows of zeros around. They pad 28 × 28 images
themselves, and then η has 28 × 28 pixels and the frame stays black; given images that are padded
(`datasets.load("mnist").padded(32)`), η covers the frame too, which is what the paper does. Pixels are in [0, 1]; the
next layer takes the mean 0.1 and the standard deviation 0.2752 of the padded training pixels out, so that ε is in units
of the data range. The paper names the networks and no more: that the activation is ReLU and the pooling the maximum is
the usual reading, and a choice made here.
"""

from __future__ import annotations

from torch import Tensor, nn

from convexattack import datasets
from convexattack.models.layers import Centred, normalize

__all__ = ["data", "fcnn", "lenet5"]


def fcnn() -> nn.Sequential:
    """Untrained, hidden layers of 150 and 100: images (B, 1, 32, 32) or (B, 1, 28, 28), pixels in [0, 1] → (B, 10)."""
    hidden = [nn.Flatten(), nn.Linear(32 * 32, 150), nn.ReLU(), nn.Linear(150, 100), nn.ReLU()]
    return nn.Sequential(Centred(32), normalize([0.1], [0.2752]), *hidden, nn.Linear(100, 10))


def lenet5() -> nn.Sequential:
    """LeNet-5, untrained, ReLU and max pooling: images (B, 1, 32, 32) or (B, 1, 28, 28), pixels in [0, 1] → (B, 10)."""
    convolutions = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    connected = [nn.Flatten(), nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(Centred(32), normalize([0.1], [0.2752]), *convolutions, *connected)


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, labels) for training, 60,000 of 28 × 28 pixels, and for testing, 10,000, by `datasets.load`."""
    training, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    return (training.x, training.label), (test.x, test.label)
