"""The shipped regression network: the progression of diabetes after one year, from ten measurements of a patient.

10 → 16 → 1 with ReLU between, in front of an affine layer that brings the answer to points of the progression score (25
to 346), so that ‖f(x + η) − f(x)‖₂ is in points too. The measurements are standardised before the network
(`datasets.diabetes`): one unit of η, and of ε, is one standard deviation of that measurement among the training rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convexattack import datasets
from convexattack.models.layers import Affine

__all__ = ["data", "diabetes"]


def diabetes() -> nn.Sequential:
    """The untrained network: ten standardised measurements (B, 10) → points of the progression score (B, 1)."""
    return nn.Sequential(
        nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1), Affine(torch.tensor(77.0), torch.tensor(152.0))
    )


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(measurements, scores) of the 354 rows for training and of the 88 for testing."""
    training, test = datasets.diabetes("train"), datasets.diabetes("test")
    return (training.x, training.target), (test.x, test.target)
