"""What Balda, Behboodi and Mathar (2018) print: Table I, the axes of Figure 2, and what Section IV says of its curves.

Figure 2 is a picture; no number was read off it. The paper's data and weights were not published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["CLAIMS", "METHODS", "NETWORKS", "Claim", "Network"]


@dataclass(frozen=True)
class Network:
    """A row of Table I and a panel of Figure 2.

    Attributes:
        name: as `convexattack.models.load` has it.
        title: as the paper has it.
        data: as `convexattack.datasets.load` has it.
        side: of the square images, in pixels; smaller ones get a frame of zeros.
        largest: ε at the right end of Figure 2, in units of the data range.
        test_error, rho_1, rho_2: Table I.
        epsilon: Table I, "fooled > 99%", by DeepFool.
    """

    name: str
    title: str
    data: str
    side: int
    largest: float
    test_error: float
    rho_1: float
    rho_2: float
    epsilon: float

    @property
    def radii(self) -> tuple[float, ...]:
        """The ten ε at which curves are measured."""
        return tuple(float(radius) for radius in np.linspace(0.001, self.largest, 10))


NETWORKS = {
    network.name: network
    for network in (
        Network("fcnn", "FCNN (MNIST)", "mnist", 32, 0.1, 0.017, 0.036, 0.034, 0.076),
        Network("lenet5", "LeNet-5 (MNIST)", "mnist", 32, 0.2, 0.009, 0.077, 0.061, 0.164),
        Network("nin", "NIN (CIFAR-10)", "cifar10", 32, 0.03, 0.138, 0.012, 0.004, 0.018),
        Network("densenet40", "DenseNet (CIFAR-10)", "cifar10", 32, 0.01, 0.052, 0.006, 0.002, 0.010),
    )
}

METHODS = ("FastGrad", "Algorithm 1", "Algorithm 1-5", "Algorithm 1-10", "Algorithm 2", "DeepFool", "Random")


@dataclass(frozen=True)
class Claim:
    """What Section IV says of the curves of Figure 2: the first method is above the second, or level with it."""

    words: str
    first: str
    second: str

    @property
    def by_piece(self) -> bool:
        """Whether it is about Algorithm 1 or 1-n, which go by the best or by the active piece."""
        return any(name.partition("-")[0] == "Algorithm 1" for name in (self.first, self.second))


CLAIMS = (
    Claim("the proposed Algorithm 1-n outperforms DeepFool", "Algorithm 1-5", "DeepFool"),
    Claim("the proposed Algorithm 1-n outperforms DeepFool", "Algorithm 1-10", "DeepFool"),
    Claim("the same holds true for Algorithm 1 with respect to … FastGrad", "Algorithm 1", "FastGrad"),
    Claim("Algorithm 2 obtains competitive performance with respect to FastGrad", "Algorithm 2", "FastGrad"),
    Claim(
        "the gap between iterative and non-iterative algorithms is not always significant",
        "Algorithm 1-10",
        "Algorithm 1",
    ),
    Claim(
        "the gap between iterative and non-iterative algorithms is not always significant", "DeepFool", "Algorithm 1"
    ),
)
