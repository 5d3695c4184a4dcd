"""The regression attack (Section III): the most that the linear model lets the output change, and the real change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.attacks.live import evaluate
from convexattack.certificates import Certificate
from convexattack.judged import certify
from convexattack.linearize import check_images, jacobian
from convexattack.losses import Model
from convexattack.norms import Lp
from convexattack.programs import OperatorNorm
from convexattack.sets import Ball
from convexattack.solution import Solution
from convexattack.solvers import solve

__all__ = ["RegressionAttack", "RegressionPerturbation", "regression_attack"]

NUMBERS = 2**28  # of a Jacobian; beyond, only its products are used


@dataclass(frozen=True, eq=False)
class RegressionPerturbation:
    """What a regression attack did to B inputs.

    Attributes:
        eta: (B, *S) the perturbation η, in the dtype and on the device of the inputs.
        size: (B,) ‖η‖_p, float64, in the units of the inputs.
        predicted: (B,) ‖J_f(x)η‖₂, the linear model's change of the output, in the units of the output.
        change: (B,) ‖f(x + η) − f(x)‖₂, measured on the real model, likewise.
        steps: (B,) 1: the attack takes one convex step.
        solution, program: the claim and the program (9) it is about.
    """

    eta: Float[Tensor, "B *S"]
    size: Float[Tensor, " B"]
    predicted: Float[Tensor, " B"]
    change: Float[Tensor, " B"]
    steps: Int[Tensor, " B"]
    solution: Solution
    program: OperatorNorm

    @cached_property
    def certificate(self) -> Certificate:
        """The bracket of (9): `dual` bounds ‖J_fη‖₂ over the whole ball. The real change knows no such bound."""
        return certify(self.program, self.solution)

    def __len__(self) -> int:
        return len(self.eta)

    def __repr__(self) -> str:
        ratio = (self.change / self.predicted).nanmean().item() if len(self) else float("nan")
        return f"RegressionPerturbation(B={len(self)}, mean real/predicted change {ratio:.3f}; {self.certificate})"


@dataclass(frozen=True, eq=False)
class RegressionAttack:
    """The perturbation that changes the output most to first order: maximize ‖J_f(x)η‖₂ subject to ‖η‖_p ≤ ε, eq. (9).

    Called `ca.regression_attack`.

    Args:
        radius: ε ≥ 0, a number or one per input (B,), in the units of the inputs.
        norm: ‖·‖_p; p = 1 moves one input, p = 2 follows the top singular vector, p = ∞ moves all inputs by ±ε.
        solver: as for `ca.solve`.

    Raises:
        TypeError, ValueError: an argument that is none of these.

    >>> import convexattack as ca
    >>> attack = ca.regression_attack(0.5, ca.Lp(float("inf")))
    >>> attack(lambda x: x @ torch.tensor([[1.0, 3.0], [2.0, -1.0]]), torch.zeros(1, 2)).change
    tensor([2.0616], dtype=torch.float64)
    """

    radius: float | Tensor
    norm: Lp
    solver: str | None = None
    name: str = field(default="Regression", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", Ball(self.norm, self.radius).radius)

    def at(self, radius: float | Tensor) -> RegressionAttack:
        """The same attack with another radius ε."""
        return RegressionAttack(radius, self.norm, self.solver)

    def __call__(self, model: Callable[[Tensor], Tensor], x: Float[Tensor, "B *S"]) -> RegressionPerturbation:
        """Perturb B inputs; of ±η, which are one to the linear model, the one that changes the output more.

        Args:
            model: (B, *S) → (B, ...), any differentiable callable; outputs are flattened to m numbers.
            x: inputs of any floating-point dtype, on any device.

        Raises:
            TypeError, ValueError: as `linearize`; a radius that does not fit the inputs; a solver that cannot take (9).
        """
        check_images(x)
        clean = evaluate(model, x, flat=True).to(torch.float64)
        ball = Ball(self.norm, self.radius)
        ball.check(len(x), x[0].numel())
        if len(x) * clean.shape[1] * x[0].numel() <= NUMBERS:
            program = OperatorNorm(jacobian(_flat(model), x), ball)
        else:
            program = OperatorNorm.from_model(model, x, ball)
        found = solve(program, self.solver)
        step = found.eta.to(x.dtype)

        def measured(eta: Tensor) -> Tensor:
            return Lp(2)(evaluate(model, x + eta.view_as(x), flat=True).to(torch.float64) - clean)

        there, back = measured(step), measured(-step)
        flip = back > there
        eta = torch.where(flip[:, None], -step, step)
        claim = Solution(eta, found.codes, lambda: found.multipliers, found.stats)
        size, steps = self.norm(eta.to(torch.float64)), torch.ones_like(found.codes, dtype=torch.int64)
        change = torch.where(flip, back, there)
        return RegressionPerturbation(eta.view_as(x), size, program.primal(eta), change, steps, claim, program)


def _flat(model: Callable[[Tensor], Tensor]) -> Model:
    """The same model with outputs (B, m); a Module stays one, so that it is evaluated in eval mode."""
    if isinstance(model, torch.nn.Module):
        return torch.nn.Sequential(model, torch.nn.Flatten(1))
    return lambda x: model(x).flatten(1)


regression_attack = RegressionAttack
