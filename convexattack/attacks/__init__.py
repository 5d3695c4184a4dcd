"""The attacks of Section IV as rows of one table, run by one loop:

| attack | loss (pieces) | program | steps | until fooled |
|---|---|---|---|---|
| Algorithm 1 | margin (m − 1) | (GNII) | 1 | no |
| Algorithm 1-n | margin (m − 1) | (GNII) with ε/n | n | no |
| Algorithm 2 | class score (1) | (GNII) | 1 | no |
| FastGrad | −cross entropy (1) | (GNII) | 1 | no |
| DeepFool | margin (m − 1) | (8) | 50 | yes |
| Random | does not linearize | | | |

`regression_attack` maximizes the change of the output instead, (9), in one step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.attacks.live import evaluate, lowest_margin
from convexattack.attacks.loop import Attack
from convexattack.attacks.perturbation import Perturbation
from convexattack.attacks.regression import RegressionAttack, RegressionPerturbation, regression_attack
from convexattack.linearize import check_images, check_label
from convexattack.losses import Loss, Model, as_label, class_score, margin, negative_cross_entropy
from convexattack.norms import Lp
from convexattack.numerics import round_down
from convexattack.sets import Ball, ConvexSet, PixelRange

__all__ = [
    "Attack", "Perturbation", "RandomSign", "RegressionAttack", "RegressionPerturbation", "algorithm1", "algorithm2",
    "deepfool", "fastgrad", "random_sign", "regression_attack",
]  # fmt: skip

CUBE = Lp(math.inf)
Radius = float | Tensor
Sets = Sequence[ConvexSet | PixelRange]


def algorithm1(
    radius: Radius, norm: Lp = CUBE, steps: int = 1, piece: str = "best", sets: Sets = (), loss: Loss = margin,
    solver: str | None = None,
) -> Attack:  # fmt: skip
    """Algorithm 1, and Algorithm 1-n for steps = n: minimize the linearized margin (3) within ‖η‖_p ≤ ε, by (GNII).

    Args:
        radius: ε, a number or one per image (B,), in the units of the images. The total obeys it in exact arithmetic;
            each of n steps has the ball of radius ε/n.
        norm: ‖·‖_p.
        steps: n, each with a new linearization and a new choice of class.
        piece: "best" solves (GNII) for every class l ≠ k and keeps the smallest optimal value, as the paper's figures
            have it; "active" linearizes L itself, the class of the smallest margin at x, as its text has it, for one
            backward pass.
        sets: what the total perturbation must satisfy besides, after every step.
        loss: `ca.targeted(t)` aims at class t.
        solver: as for `ca.solve`.

    Raises:
        TypeError, ValueError: an argument that is none of these.

    >>> import convexattack as ca
    >>> attack = ca.attacks.algorithm1(0.5, ca.Lp(2))
    >>> result = attack(lambda x: x @ torch.tensor([[3.0, 0.0], [4.0, 0.0]]), torch.tensor([[0.2, 0.2]]))
    >>> result.eta, result.fooled
    (tensor([[-0.3000, -0.4000]]), tensor([True]))
    """
    return _within("Algorithm 1", radius, norm, steps, sets, loss, solver, piece)


def algorithm2(
    radius: Radius,
    norm: Lp = CUBE,
    steps: int = 1,
    sets: Sets = (),
    loss: Loss = class_score,
    solver: str | None = None,
) -> Attack:
    """Algorithm 2: (GNII) with L ≈ f_k, the score of the class: one backward pass, whatever the number of classes.

    Arguments and errors are those of `algorithm1`. On a model of one score (anomaly detection) it lowers that score.
    With `ca.targeted(t, ca.class_score)` for its loss it raises the score of class t.
    """
    return _within("Algorithm 2", radius, norm, steps, sets, loss, solver)


def fastgrad(
    radius: Radius, norm: Lp = CUBE, steps: int = 1, sets: Sets = (), loss: Loss = negative_cross_entropy,
    solver: str | None = None,
) -> Attack:  # fmt: skip
    """FastGrad (Goodfellow et al.): (GNII) with the negative training loss, L = −cross entropy; for p = ∞, eq. (7).

    Arguments and errors are those of `algorithm1`. The model returns logits. The loss
    `ca.targeted(t, ca.negative_cross_entropy)` aims at class t: it lowers the training loss of t.
    """
    return _within("FastGrad", radius, norm, steps, sets, loss, solver)


def deepfool(
    norm: Lp = CUBE, max_steps: int = 50, overshoot: float = 0.02, sets: Sets = (), loss: Loss = margin,
    solver: str | None = None,
) -> Attack:  # fmt: skip
    """DeepFool (Moosavi-Dezfooli et al.): repeat (8), the shortest step that the linear model calls adversarial, until
    the real one agrees.

    Every step minimizes ‖η‖_p subject to L(1 + overshoot) + gᵀη ≤ 0 and e + η in `sets`, e the total so far, for every
    class, and keeps the shortest. So the overshoot never leaves a set, and on an affine model the result is
    (1 + overshoot) times the shortest perturbation. The overshoot is never less than what rounding hides,
    2u(‖f‖_∞ + Σ|g_i||x_i|) with the unit u of the images' dtype: 1e-15 of the scale of the scores in float64, which
    moves images at the boundary past it and is out of sight for any other. Where (8) has no solution within the sets
    the step is the (GNII) minimizer over them, and the image is `flagged`.

    Args:
        norm: ‖·‖_p, in the units of the images.
        max_steps: at most so many linearizations per image.
        overshoot: relative, ≥ 0.
        sets: what the total perturbation must satisfy after every step.
        loss: `ca.targeted(t)` goes on until class t overtakes k.
        solver: as for `ca.solve`.

    Raises:
        TypeError, ValueError: an argument that is none of these.
    """
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"max_steps must be an int >= 1, got {max_steps!r}; the paper takes 50")
    return Attack("DeepFool", loss, norm, None, max_steps, True, overshoot, "best", sets, solver)


def _within(
    name: str, radius: Radius, norm: Lp, steps: int, sets: Sets, loss: Loss, solver: str | None, piece: str = "best"
) -> Attack:
    """A row with (GNII); only (8) does without a radius."""
    if radius is None:
        raise TypeError("radius must be a number or a tensor, got None; ca.deepfool finds its own size")
    return Attack(name if steps == 1 else f"{name}-{steps}", loss, norm, radius, steps, False, 0.0, piece, sets, solver)


@dataclass(frozen=True, eq=False)
class RandomSign:
    """Random: every entry of η is +ε or −ε with probability 1/2, the yardstick of Figure 2. Called `ca.random_sign`.

    It costs two forward passes: at x, for the label and for who is misclassified, and at x + η.

    Args:
        radius: ε ≥ 0, a number or one per image (B,), in the units of the images.
        generator: where the signs come from; by default PyTorch's global one (`torch.manual_seed`).

    Raises:
        TypeError, ValueError: a radius that is none.
    """

    radius: Radius
    generator: torch.Generator | None = None
    name: str = field(default="Random", init=False)
    norm: Lp = field(default=CUBE, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", Ball(self.norm, self.radius).radius)

    def at(self, radius: Radius) -> RandomSign:
        """The same attack with another radius ε."""
        return dataclasses.replace(self, radius=radius)

    def part(self, rows: Int[Tensor, " n"], images: int) -> RandomSign:
        """The same attack on these rows of a batch of `images` images."""
        return self.at(Ball(self.norm, self.radius).atom.take(rows).radius)  # type: ignore[attr-defined]

    def __call__(self, model: Model, x: Float[Tensor, "B *S"], label: Int[Tensor, " B"] | None = None) -> Perturbation:
        """As for `Attack`."""
        check_images(x)
        check_label(label, x)
        ball = Ball(self.norm, self.radius)
        ball.check(len(x), x[0].numel())
        output = evaluate(model, x)
        label = as_label(output.argmax(1) if label is None else label, output)
        start = lowest_margin(output, label)
        source = x.device if self.generator is None else self.generator.device
        signs = torch.randint(2, x.shape, generator=self.generator, device=source).to(x.device) * 2 - 1
        eta = signs * round_down(ball.radii(x), x.dtype).view(-1, *[1] * (x.ndim - 1))
        there = lowest_margin(evaluate(model, x.detach() + eta), label)
        wrong, none = ~(start >= 0) & (output.shape[1] > 1), torch.zeros_like(start, dtype=torch.bool)
        size = self.norm(eta.flatten(1).to(torch.float64))
        return Perturbation(eta, there < 0, wrong, label, size, there, there, torch.zeros_like(label), none)


random_sign = RandomSign
