"""What a step reaches, against the certified optimum of the program that it answers.

The models are affine, so that the program is not an approximation: its gradient is a row of the model's weights,
whatever the library does to find it. Every library gets the same images and models, one at a time, in float32; the
perturbation is x_adv − x, and what it is worth is computed in float64 from those float32 numbers.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import convexattack as ca
from verification.audit.peers import Pixels, Step

__all__ = ["CASES", "DIMS", "KINDS", "Measured", "affine", "affine_margin", "measure", "perturb"]

DIMS = (16, 784)
KINDS = {
    "noise": "white noise",
    "sparse": "white noise, one coordinate in eight",
    "ties": "each coordinate ±1 or ±2",
    "small": "white noise times 1e-9, as of a confident network",
}
RADIUS = {1.0: 10.0, 2.0: 2.0, 3.0: 1.0, float("inf"): 0.3}  # at d = 784; the same share of a pixel elsewhere
CASES = {
    "inside": "images in [1/4, 3/4], where the pixel range binds nowhere",
    "tiny": "the same, margins a ten-thousandth of those",
    "pixels": "a half of the pixels at 0 or 1, and the pixel range among the constraints",
    "bytes": "as `inside`, in units of 0 to 255",
}
DISTANCE = {
    2.0: 1.0,
    float("inf"): 0.05,
}  # the smallest perturbation at d = 784, before any pixel range; `pixels` doubles it
CLASSES = 10


@dataclass(frozen=True)
class Measured:
    """What came of one step.

    Attributes:
        items: how many images; `raised` on how many the library raised, and `error` what it said first.
        mean, worst: (GNII): the share of the optimal decrease −gᵀη that is reached. (8): ‖η‖ over the smallest ‖η‖ of
            all, where fooled. None where there is no such item.
        violation: the worst, relative: how far outside the ball or the pixel range.
        fooled: (8) only: the share of images whose class changes; `reached`: the mean share of the decrease that this
            takes, 1 if fooled.
        by: the mean in each group of images.
    """

    items: int
    raised: int
    error: str
    mean: float | None
    worst: float | None
    violation: float | None
    fooled: float | None = None
    reached: float | None = None
    by: dict[str, float] = field(default_factory=dict)


def affine(weights: Tensor, bias: Tensor) -> nn.Module:
    """logits = weights · x + bias for images (N, 1, 1, d), a plain network of one layer."""
    layer = nn.Linear(weights.shape[1], len(weights))
    layer.load_state_dict({"weight": weights, "bias": bias})
    return nn.Sequential(nn.Flatten(), layer).eval()


def perturb(step: Step, model: nn.Module, x: Tensor, pixels: Pixels, radius: float = float("nan")) -> Tensor:
    """η (d,) in float64 of one image x (d,), whose label is 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moved = step.call(model, x.reshape(1, 1, 1, -1).clone(), torch.zeros(1, dtype=torch.int64), pixels, radius)
    return moved.detach().reshape(-1).to(torch.float64) - x.to(torch.float64)


def affine_margin(gradient: Tensor, x: Tensor, value: float = 0.0) -> nn.Module:
    """An affine model whose margin at x is `value`, up to rounding, with this gradient; its label there is 0."""
    bias = (value - (gradient.double() * x.double()).sum()) / 2
    return affine(torch.stack([gradient, -gradient]) / 2, torch.stack([bias, -bias]).to(gradient.dtype))


def measure(step: Step, items: int, seed: int) -> Measured:
    """Run the step on `items` images of each group. What it raises is counted; a missing library is an ImportError."""
    groups = _ball_groups(step, items, seed) if step.program is ca.GNII else _margin_groups(step, items, seed)
    mean = {name: shares.nanmean().item() for name, shares in groups.shares.items() if not bool(shares.isnan().all())}
    all_shares = torch.cat(list(groups.shares.values()))
    known = all_shares[~all_shares.isnan()]
    worst = None if not len(known) else (known.min() if step.program is ca.GNII else known.max()).item()
    return Measured(
        len(all_shares), len(groups.errors), groups.errors[0] if groups.errors else "",
        known.mean().item() if len(known) else None, worst, max(groups.violations, default=None), *groups.fooling(),
        by=mean,
    )  # fmt: skip


@dataclass
class _Groups:
    shares: dict[str, Tensor] = field(default_factory=dict)  # NaN: no such number
    violations: list[float] = field(default_factory=list)
    fooled: list[bool] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def run(
        self, step: Step, models: Sequence[nn.Module], x: Tensor, pixels: Pixels, radius: float = float("nan")
    ) -> Tensor:
        """η (N, d) in float64; NaN where the library raised."""
        eta = torch.full(x.shape, torch.nan, dtype=torch.float64)
        for i, model in enumerate(models):
            try:
                eta[i] = perturb(step, model, x[i], pixels, radius)
            except ImportError:
                raise
            except Exception as error:  # whatever a library raises is a result
                self.errors.append(f"{type(error).__name__}: {error}".strip(": "))
        return eta

    def fooling(self) -> tuple[float | None, float | None]:
        n = len(self.fooled)
        return (sum(self.fooled) / n, sum(self.reached) / n) if n else (None, None)


def _ball_groups(step: Step, items: int, seed: int) -> _Groups:
    """(GNII) over the ball, or over ball and pixel range."""
    groups = _Groups()
    pixels = (0.0, 1.0) if step.case == "pixels" else None
    for d in DIMS:
        radius = RADIUS[step.norm.p] * (d / 784) ** (1 / step.norm.p)
        for kind in KINDS:
            rng = _generator(seed, "step", kind, d)
            x, g = _image(rng, items, d), _gradient(rng, kind, items, d)
            eta = groups.run(step, [affine_margin(*pair) for pair in zip(g, x, strict=True)], x, pixels, radius)
            ball = ca.Ball(step.norm, radius)
            sets = (ball, ca.PixelRange(*pixels).at(x.double())) if pixels else (ball,)
            program = ca.GNII(torch.zeros(items, dtype=torch.float64), g.double(), sets)
            best = _certified(program, ca.solve(program)).primal
            there = ~eta.isnan().any(-1)
            groups.shares[f"{kind}, d = {d}"] = torch.where(there, (g.double() * eta).sum(-1) / best, torch.nan)
            groups.violations += program.violation(eta)[there].tolist()
    return groups


def _margin_groups(step: Step, items: int, seed: int) -> _Groups:
    """(8) over every other class, the nearest of them, with or without the pixel range."""
    groups = _Groups()
    unit = 255.0 if step.case == "bytes" else 1.0
    for d in DIMS:
        rng = _generator(seed, "margin", step.case.replace("bytes", "inside"), d)
        x = _image(rng, items, d) if step.case == "pixels" else torch.rand(items, d, generator=rng) / 2 + 0.25
        weights = torch.randn(items, CLASSES, d, generator=rng) / unit
        x = x * unit
        others = 1 + 2 * torch.rand(items, CLASSES - 1, generator=rng, dtype=torch.float64)
        others[:, 0] = 1
        g = (weights[:, :1] - weights[:, 1:]).double()  # (N, K, d): of the margins
        size = (
            unit
            * DISTANCE[step.norm.p]
            * (d / 784) ** (1 / step.norm.p)
            * {"tiny": 1e-4, "pixels": 2.0}.get(step.case, 1.0)
        )
        scores = (weights.double() * x.double()[:, None]).sum(-1)
        wanted = (
            scores[:, :1] - scores[:, 1:] - size * step.norm.dual(g.flatten(0, 1)).unflatten(0, (items, -1)) * others
        )
        bias = torch.cat([torch.zeros(items, 1), wanted.float()], 1)
        value = scores[:, :1] - scores[:, 1:] - bias[:, 1:].double()
        pieces = CLASSES - 1
        sets = (ca.PixelRange(0.0, unit).at(x.double(), pieces=pieces),)
        program = ca.MinNorm(value.flatten(), g.flatten(0, 1), step.norm, sets)
        solution = ca.solve(program)
        _certified(program, solution)
        optimal = torch.tensor([status == ca.Status.OPTIMAL for status in solution.status])
        smallest = torch.where(optimal, step.norm(solution.eta), torch.inf).unflatten(0, (items, -1)).amin(1)
        feasible = smallest.isfinite().nonzero().flatten()
        models = [affine(weights[i], bias[i]) for i in feasible]
        eta = groups.run(step, models, x[feasible], (0.0, unit))
        there = ~eta.isnan().any(-1)
        decrease = -(g[feasible] * eta[:, None]).sum(-1) / value[feasible]
        fooled = there & (decrease > 1).any(-1)
        groups.fooled += fooled[there].tolist()
        groups.reached += decrease.amax(-1).clamp(max=1.0)[there].tolist()
        groups.shares[f"d = {d}"] = torch.where(fooled, step.norm(eta) / smallest[feasible], torch.nan)
        outside = (
            torch.maximum(-(x[feasible].double() + eta), x[feasible].double() + eta - unit).amax(-1).clamp_min(0) / unit
        )
        groups.violations += outside[there].tolist()
    return groups


def _certified(program: ca.Program, solution: ca.Solution) -> ca.Certificate:
    certificate = ca.certify(program, solution)
    if not bool(certificate.holds(ca.Tolerance.closed_form()).all()):
        raise ArithmeticError(f"the optimum itself is not certified: {certificate}")
    return certificate


def _generator(seed: int, *words: object) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(repr((seed, *words)).encode()))


def _image(rng: torch.Generator, n: int, d: int) -> Tensor:
    """Half of the pixels at 0 or 1, as in scanned digits, the others uniform."""
    return (2 * torch.rand(n, d, generator=rng) - 0.5).clamp(0.0, 1.0)


def _gradient(rng: torch.Generator, kind: str, n: int, d: int) -> Tensor:
    noise = torch.randn(n, d, generator=rng)
    if kind == "sparse":
        order = torch.rand(n, d, generator=rng).argsort(-1).argsort(-1)
        return noise * (order < d // 8)
    if kind == "ties":
        return noise.sign() * torch.randint(1, 3, (n, d), generator=rng)
    return noise * 1e-9 if kind == "small" else noise
