"""What an attack hands over, and the last convex step of each image, from which its certificate is judged."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.attacks.pieces import Part, Step
from convexattack.certificates import Certificate
from convexattack.judged import certify
from convexattack.solution import Solution

__all__ = ["LastSteps", "Perturbation"]


@dataclass(frozen=True, eq=False)
class Perturbation:
    """What an attack did to B images. The certificate speaks of the last convex step, `fooled` of the network.

    Attributes:
        eta: (B, *S) the total perturbation η, in the dtype and on the device of the images.
        fooled: (B,) whether the margin (3) of the real model is negative at x + η. True as well for an image that was
            misclassified to begin with, and False throughout for a model of one score.
        wrong: (B,) whether the image was misclassified to begin with: its margin at x is not ≥ 0. Such images belong in
            no ratio.
        label: (B,) the class k(x) attacked: the given one, or the clean prediction.
        size: (B,) ‖η‖_p in the attack's norm, float64, in the units of the images.
        margin: (B,) min_l f_k − f_l at x + η, equation (3).
        loss: (B,) the smallest piece of the attack's own loss at x + η: negative where a targeted attack has won.
        steps: (B,) how many convex steps moved the image.
        flagged: (B,) where some step was not the program as stated: (8) had no solution within the sets, so that the
            (GNII) minimizer was taken; or the step had no solution at all (see `status`), and the image stays where it
            was.
        codes: (B,) positions in `Status`: the claim about the last step. None where no program was solved.
        judge: computes `certificate`, once and only if someone asks.
    """

    eta: Float[Tensor, "B *S"]
    fooled: Bool[Tensor, " B"]
    wrong: Bool[Tensor, " B"]
    label: Int[Tensor, " B"]
    size: Float[Tensor, " B"]
    margin: Float[Tensor, " B"]
    loss: Float[Tensor, " B"]
    steps: Int[Tensor, " B"]
    flagged: Bool[Tensor, " B"]
    codes: Int[Tensor, " B"] | None = None
    judge: Callable[[], Certificate] | None = None

    @cached_property
    def certificate(self) -> Certificate | None:
        """The certificate of each image's last convex step, judged in float64 from its program and multipliers.

        It is of (8), or of (GNII), also where that replaced (8); there a `dual` above 0 proves that (8) has no
        solution. None where no program was solved.
        """
        return None if self.judge is None else self.judge()

    @property
    def status(self) -> np.ndarray:
        """(B,) array of `Status` members: the claim about the last step; None where no program was solved."""
        return np.full(len(self), None) if self.codes is None else Solution(self.eta, self.codes, ()).status

    def __len__(self) -> int:
        return len(self.eta)

    def __repr__(self) -> str:
        right = ~self.wrong
        said = [f"fooled {int((self.fooled & right).sum())} of {int(right.sum())}"]
        said += [f"{count} {what}" for what in ("wrong", "flagged") if (count := int(getattr(self, what).sum()))]
        return f"Perturbation({', '.join(said)}; {self.certificate})"


class LastSteps:
    """The last step of each of B images, which live for different numbers of steps; judged only when someone looks."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.parts: list[Part] = []

    def add(self, rows: Int[Tensor, " n"], step: Step) -> None:
        """The step of these rows replaces an earlier one of theirs; at most four rows an image are kept."""
        if len(rows) == self.images:
            self.parts.clear()
        self.parts += [part.renumbered(rows) for part in step.parts]
        if sum(len(part.rows) for part in self.parts) > 4 * self.images:
            self.parts = [settled(part) for part in self.last()]

    def last(self) -> list[Part]:
        """The parts, each with those images alone that no later one has."""
        owner = torch.zeros(self.images, dtype=torch.int64, device=self.parts[0].rows.device)
        for number, part in enumerate(self.parts):
            owner[part.rows] = number
        kept = [part.where(owner[part.rows] == number) for number, part in enumerate(self.parts)]
        return [part for part in kept if len(part.rows)]

    def certificate(self) -> Certificate:
        """The last step of every image, judged from its own program."""
        parts = self.last()
        found = [certify(part.program[part.items], part.solution.take(part.items)) for part in parts]
        order = torch.cat([part.rows for part in parts]).argsort()
        names = [name for name, entry in vars(found[0]).items() if isinstance(entry, Tensor)]
        joined: dict[str, Any] = {name: torch.cat([getattr(one, name) for one in found])[order] for name in names}
        return dataclasses.replace(found[0], **joined, rigorous=all(one.rigorous for one in found))


def settled(part: Part) -> Part:
    """The part with these items alone in memory, their multipliers computed."""
    solution = copy.copy(part.solution.take(part.items))
    return Part(part.rows, torch.arange(len(part.rows), device=part.rows.device), part.program[part.items], solution)
