"""What a solver hands over: a claim per item, in a sentence, with the vectors that would prove it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Solution", "Status"]


class Status(enum.Enum):
    """What is claimed of one item. The value is the sentence to show."""

    OPTIMAL = "The perturbation is claimed optimal for its program."
    FEASIBLE = "The perturbation satisfies (GN): inside every set, with L + gᵀη < 0."
    INFEASIBLE = "No perturbation satisfies all constraints; the multipliers are the proof."
    UNBOUNDED = "The objective falls without end: no set bounds the perturbation along −g; add a Ball or a finite Box."
    UNDECIDED = "So near the edge that float64 cannot tell whether the program is feasible."
    INEXACT = "Its dtype is too coarse to hold the optimum, or any number between two bounds; solve in a wider dtype, or rescale."
    INVALID = (
        "The value, the gradient or a bound of this item is NaN or infinite; look at the model's output at this sample."
    )
    FAILED = "The solver gave up on this item; try another solver, or another scale of the data."
    BRACKETED = (
        "The perturbation is feasible and the upper bound holds; the optimum lies between its value and the bound."
    )

    @property
    def code(self) -> int:
        """The position of this member, as kept in `Solution.codes`."""
        return _CODES[self]


_MEMBERS = np.array(list(Status), dtype=object)
_CODES = {status: code for code, status in enumerate(Status)}


@dataclass(frozen=True, eq=False)
class Solution:
    """A claim about N programs; `certify` judges it.

    Attributes:
        eta: (N, d) perturbations, dtype and device of the gradient; NaN where the claim is that there is none.
        codes: (N,) positions in `Status`, on the device of eta (reading `status` copies them to the host).
        multipliers: one (N, d) tensor for each set, in order; (8) has λ, shape (N,), first; (9) has (y, F). See the program. A solver
            may hand over a function that returns them, which is called once, when someone looks.
        stats: what the solver wants to tell: its name, times, its own status words.
    """

    eta: Float[Tensor, "N d"]
    codes: Int[Tensor, " N"]
    multipliers: tuple[Tensor, ...]
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> np.ndarray:
        """(N,) array of `Status` members."""
        return np.asarray(_MEMBERS[self.codes.cpu().numpy()])

    def __post_init__(self) -> None:
        if callable(self.multipliers):
            self.__dict__["_multipliers"] = self.__dict__.pop("multipliers")

    def __getattr__(self, name: str) -> Any:
        if name != "multipliers" or "_multipliers" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        self.__dict__["multipliers"] = self.__dict__.pop("_multipliers")()
        return self.__dict__["multipliers"]

    def __reduce__(self) -> tuple[Any, ...]:
        return Solution, (self.eta, self.codes, self.multipliers, self.stats)

    @staticmethod
    def later(
        eta: Tensor, codes: Tensor, multipliers: Callable[[], tuple[Tensor, ...]], stats: dict[str, Any]
    ) -> Solution:
        """A solution whose multipliers are computed when someone looks."""
        return Solution(eta, codes, multipliers, stats)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.eta)

    def __repr__(self) -> str:
        names, counts = np.unique([s.name for s in self.status], return_counts=True)
        said = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
        return f"Solution(N={self.eta.shape[0]}, d={self.eta.shape[1]}, {self.eta.dtype}: {said or 'empty'})"


def codes(status: Status, like: Tensor) -> Tensor:
    """(N,) codes, all of one status."""
    return torch.full((len(like),), status.code, dtype=torch.int8, device=like.device)
