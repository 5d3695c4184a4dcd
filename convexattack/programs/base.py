"""What all programs share: data of N items, their checks, and how a gap is made relative."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.sets import Ball, Box, ConvexSet, PixelRange

__all__ = ["Bound", "Program", "ratio"]

Multipliers = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound on the optimal value that holds whatever the multipliers are.

    Attributes:
        value: (N,) the bound, float64.
        error: (N,) how far rounding (or a set's own solver) can have lifted it.
        residual: (N,) how far the multipliers miss their own condition; it is absorbed, so `value` holds all the same.
    """

    value: Float[Tensor, " N"]
    error: Float[Tensor, " N"]
    residual: Float[Tensor, " N"]


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a/b with 0/0 = 0."""
    return torch.where(a == 0, a, a / b)


class Program(abc.ABC):
    """N convex programs of one kind in d dimensions.

    Attributes:
        value: (N,) L(x) of each linearized piece.
        gradient: (N, d) g = ∇L(x); its dtype and device are those of the solution.
        sets: convex sets that η must lie in.
    """

    value: Float[Tensor, " N"]
    gradient: Float[Tensor, "N d"]
    sets: tuple[ConvexSet, ...]

    def __post_init__(self) -> None:
        gradient, value = _tensor("gradient", self.gradient), _tensor("value", self.value)
        if gradient.ndim != 2 or gradient.shape[1] == 0:
            raise ValueError(
                f"gradient must have shape (N, d), d >= 1, got {tuple(gradient.shape)}; flatten the pieces with lin.flat()"
            )
        if value.shape != gradient.shape[:1]:
            raise ValueError(
                f"value must have shape (N,) = ({len(gradient)},), like the rows of gradient, got {tuple(value.shape)}; "
                f"gradient has shape {tuple(gradient.shape)}"
            )
        sets = (self.sets,) if isinstance(self.sets, ConvexSet | PixelRange) else tuple(self.sets)
        for j, item in enumerate(sets):
            if isinstance(item, PixelRange):
                raise ValueError(
                    f"sets[{j}] is a PixelRange that knows no image yet; resolve it with PixelRange(...).at(x, pieces=K)"
                )
            if not isinstance(item, ConvexSet):
                raise TypeError(f"sets[{j}] must be a convex set such as ca.Ball or ca.Box, got {item!r}")
            item.check(*gradient.shape)
        for name, entry in (("gradient", gradient), ("value", value.to(gradient.device)), ("sets", sets)):
            object.__setattr__(self, name, entry)

    def __len__(self) -> int:
        return len(self.gradient)

    @property
    def rigorous(self) -> bool:
        """Whether no bound of this program leans on a numerical solver."""
        return all(item.rigorous for item in self.sets)

    @property
    def multiplier_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of `Solution.multipliers`."""
        return [tuple(self.gradient.shape)] * len(self.sets)

    @property
    def L(self) -> Float[Tensor, " N"]:  # the paper's letter
        """value in float64."""
        return self.value.to(torch.float64)

    @property
    def g(self) -> Float[Tensor, "N d"]:
        """gradient in float64."""
        return self.gradient.to(torch.float64)

    def linear(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The linear model L + gᵀη, eq. (1)."""
        return self.L + (self.g * eta.to(torch.float64)).sum(-1)

    def reach(self) -> Float[Tensor, " N"]:
        """The tightest bound on ‖η‖_∞ that the sets give; ∞ where they give none."""
        known = [item.radius_inf(self.gradient) for item in self.sets]
        return torch.stack(known).amin(0) if known else torch.full_like(self.L, torch.inf)

    def empty(self) -> Bool[Tensor, " N"]:
        """Whether bounds exclude each other outright: a lower one above an upper one, of boxes and ℓ∞ balls."""
        found, pairs = torch.zeros_like(self.L, dtype=torch.bool), []
        for item in self.sets:
            if isinstance(item, Box):
                pairs.append(item.bounds(self.g))
            elif isinstance(item, Ball) and item.norm.p == math.inf:
                edge = item.radii(self.g)[:, None]
                pairs.append((-edge, edge))
        for low, _ in pairs:
            for _, high in pairs:
                found = found | (low > high).any(-1)
        return found

    def size(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The length against which a violation is measured: `reach`, or ‖η‖_∞ where that is infinite."""
        reach = self.reach()
        return torch.where(reach < torch.inf, reach, eta.abs().amax(-1))

    def outside(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The worst violation of a set: relative to its radius for a ball, to `size` for any other."""
        eta = eta.to(torch.float64)
        size = self.size(eta)
        worst = (0 * eta.sum(-1)).abs()  # NaN for NaN
        for item in self.sets:
            worst = torch.maximum(
                worst, ratio(item.violation(eta), item.radii(eta) if isinstance(item, Ball) else size)
            )
        return worst

    @abc.abstractmethod
    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The objective at η, float64."""

    @abc.abstractmethod
    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """How far η is from feasible, relative, float64; 0 inside, NaN for NaN."""

    @abc.abstractmethod
    def scale(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """What a gap is relative to."""

    @abc.abstractmethod
    def bound(self, multipliers: Multipliers, eta: Float[Tensor, "N d"]) -> Bound:
        """A lower bound on the optimal value from any multipliers."""

    @abc.abstractmethod
    def refuted(self, multipliers: Multipliers) -> Bool[Tensor, " N"]:
        """Whether the multipliers prove that no η is feasible."""

    @abc.abstractmethod
    def unbounded(self) -> Bool[Tensor, " N"]:
        """Whether the objective falls without end (decided for balls and boxes; False where another set takes part)."""

    @abc.abstractmethod
    def recover(self, eta: Float[Tensor, "N d"]) -> tuple[Multipliers, bool]:
        """Multipliers for a bare η, and whether they can be tight."""

    @abc.abstractmethod
    def nearly_optimal(self) -> Float[Tensor, "N d"]:
        """A point of balls and boxes that is optimal up to rounding, float64: what a claim may be compared with, never a proof by itself.

        NaN where the sets are others. It comes from complementary slackness, as `recover` does, and whoever uses it checks it.
        """

    @abc.abstractmethod
    def problem(self, i: int = 0) -> cp.Problem:
        """Item i as an explicit CVXPY problem that reads as on paper."""

    def row(self, i: int) -> tuple[float, np.ndarray]:
        """(L, g) of item i for `problem`."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"i must be in [0, {len(self)}), got {i}")
        return float(self.L[i]), self.g[i].cpu().numpy()

    def constraints(self, eta: cp.Variable, i: int) -> list[cp.Constraint]:
        """The sets' own text for item i."""
        return [row for item in self.sets for row in item.constraints(eta, i % len(self), len(self))]


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor or a NumPy array, got {type(value).__name__}; write torch.tensor({name})"
        )
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers, got {value.dtype}; write {name}.float()")
    return value.detach()
