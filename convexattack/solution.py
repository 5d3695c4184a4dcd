"""What a solver hands over: a claim per item, in a sentence, with the vectors that would prove it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Multipliers", "Solution", "Status"]


class Status(enum.Enum):
    """What is claimed of one item. The value is the sentence to show."""

    OPTIMAL = "The perturbation is claimed optimal for its program."
    FEASIBLE = "The perturbation satisfies (GN): inside every set, with L + gᵀη < 0."
    INFEASIBLE = "No perturbation satisfies all constraints; the multipliers are the proof."
    UNBOUNDED = "The objective falls without end: no set bounds the perturbation along −g; add a Ball or a finite Box."
    UNDECIDED = "So near the edge that float64 cannot tell whether the program is feasible."
    INEXACT = (
        "Its dtype is too coarse to hold the optimum, or any number between two bounds; "
        "solve in a wider dtype, or rescale."
    )
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


Multipliers = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False, init=False)
class Solution:
    """A claim about N programs; `certify` judges it, and believes none of it.

    Attributes:
        eta: (N, d) perturbations, dtype and device of the gradient; NaN where the claim is that there is none.
        codes: (N,) positions in `Status`, on the device of eta (reading `status` copies them to the host).
        multipliers: one tensor (N, r_j) for each set, in order, in that set's own rows; (8) has λ, (N,), first, and the
            sum of hinges u, (N, P); (9) has (y, F). See the program. A solver may hand over a function that returns
            them, which is called once, when someone looks.
        stats: what the solver wants to tell: its name, times, its own status words, why others were passed over.
        inside: (N, d) a point well inside the sets, towards which η may be pulled; None where the solver knows none.
        witness: for each set the values of its text's own unknowns at η (N, m), or None; `()` where no set has any.
        witness_inside: the same at `inside`.
        ray: (N, d) a direction in which an unbounded program falls without end; None where nothing is claimed to.
    """

    eta: Float[Tensor, "N d"]
    codes: Int[Tensor, " N"]
    multipliers: Multipliers
    stats: dict[str, Any]
    inside: Float[Tensor, "N d"] | None
    witness: tuple[Tensor | None, ...]
    witness_inside: tuple[Tensor | None, ...]
    ray: Float[Tensor, "N d"] | None

    def __init__(
        self,
        eta: Float[Tensor, "N d"],
        codes: Int[Tensor, " N"],
        multipliers: Multipliers | Callable[[], Multipliers],
        stats: dict[str, Any] | None = None,
        inside: Float[Tensor, "N d"] | None = None,
        witness: tuple[Tensor | None, ...] = (),
        witness_inside: tuple[Tensor | None, ...] = (),
        ray: Float[Tensor, "N d"] | None = None,
    ) -> None:
        self.__dict__.update(
            eta=eta, codes=codes, stats=stats or {}, inside=inside, witness=tuple(witness),
            witness_inside=tuple(witness_inside), ray=ray, _proof=multipliers,
        )  # fmt: skip

    @cached_property  # type: ignore[no-redef]
    def multipliers(self) -> Multipliers:
        """See the class."""
        return tuple(self._proof()) if callable(self._proof) else tuple(self._proof)  # type: ignore[attr-defined]

    @property
    def status(self) -> np.ndarray:
        """(N,) array of `Status` members."""
        return np.asarray(_MEMBERS[self.codes.cpu().numpy()])

    def __len__(self) -> int:
        return len(self.eta)

    def __getitem__(self, rows: Any) -> Solution:
        return self.take(torch.as_tensor(rows))

    def take(self, rows: Int[Tensor, " M"]) -> Solution:
        """The claims about these items."""
        return self._each([self], lambda parts: parts[0][rows.to(parts[0].device)])

    def put(self, rows: Int[Tensor, " M"], other: Solution) -> Solution:
        """The same claims, but those about these items replaced by the M claims of `other`."""

        def placed(parts: Sequence[Tensor]) -> Tensor:
            old, new = parts
            wide = torch.promote_types(old.dtype, new.dtype)
            return old.to(wide).index_copy(0, rows.to(old.device), new.to(old.device, wide))

        return self._each([self, other], placed)

    @staticmethod
    def cat(parts: Sequence[Solution]) -> Solution:
        """Claims about the items of all parts, in order."""
        return parts[0]._each(list(parts), torch.cat)  # type: ignore[arg-type]

    def with_codes(self, new: Int[Tensor, " N"]) -> Solution:
        """The same vectors under other claims."""
        return self._each([self], lambda parts: parts[0], new.to(torch.int8))

    def to(self, device: torch.device | str) -> Solution:
        """The same claims on a device."""
        if self.eta.device == torch.device(device):
            return self
        return self._each([self], lambda parts: parts[0].to(device))

    def _each(
        self, parts: list[Solution], join: Callable[[Sequence[Tensor]], Tensor], new: Tensor | None = None
    ) -> Solution:
        """One solution from several, tensor by tensor; multipliers only when someone looks."""

        def joined(name: str) -> Any:
            found = [getattr(part, name) for part in parts]
            return None if any(entry is None for entry in found) else join(found)

        def each(name: str) -> tuple[Tensor | None, ...]:
            columns = zip(*(getattr(part, name) for part in parts), strict=False)
            return tuple(None if any(entry is None for entry in column) else join(column) for column in columns)

        def proof() -> Multipliers:
            return tuple(join(column) for column in zip(*(part.multipliers for part in parts), strict=True))

        codes = join([part.codes for part in parts]) if new is None else new
        return Solution(
            join([part.eta for part in parts]), codes, proof, self.stats, joined("inside"), each("witness"),
            each("witness_inside"), joined("ray"),
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in self.__dict__.items() if k != "multipliers"}, "_proof": self.multipliers}

    def __repr__(self) -> str:
        names, counts = np.unique([s.name for s in self.status], return_counts=True)
        said = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
        return f"Solution(N={self.eta.shape[0]}, d={self.eta.shape[1]}, {self.eta.dtype}: {said or 'empty'})"


def codes(status: Status, like: Tensor) -> Tensor:
    """(N,) codes, all of one status."""
    return torch.full((len(like),), status.code, dtype=torch.int8, device=like.device)
