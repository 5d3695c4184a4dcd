"""The catalogue: each set in the terms of those who want it, composed of an atom and a map in a line or two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import Lp, Mixed, Norm
from convexattack.numerics import round_inwards
from convexattack.sets.atoms import Atom, Interval, NormBall, replaced
from convexattack.sets.base import ConvexSet
from convexattack.sets.maps import Diagonal, Identity, Map, Rows

__all__ = [
    "Affine",
    "Ball",
    "Box",
    "GroupBall",
    "Halfspaces",
    "PixelRange",
    "Support",
    "TotalVariation",
    "WeightedBall",
]


class Ball(ConvexSet):
    """{η : ‖η‖_p ≤ ε}, with σ(v) = ε‖v‖_q.

    Args:
        norm: an `Lp`.
        radius: ε ≥ 0, a number or (N,), in the units of the input (the data range, for an image in [0, 1]).

    Raises:
        ValueError: a radius that is negative, NaN or infinite.
    """

    atom: NormBall

    def __init__(self, norm: Lp, radius: float | Tensor) -> None:
        if type(norm) is not Lp:
            raise TypeError(f"norm must be a ca.Lp, got {norm!r}; write ca.Ball(ca.Lp(2), radius)")
        super().__init__(NormBall(norm, radius), Identity(), "Ball")

    @property
    def norm(self) -> Lp:
        """‖·‖_p."""
        assert isinstance(self.atom.norm, Lp)
        return self.atom.norm

    @property
    def radius(self) -> float | Tensor:
        """ε, a number or (N,)."""
        return self.atom.radius

    def radii(self, like: Float[Tensor, "N *d"]) -> Float[Tensor, " N"]:
        """ε of each item."""
        return self.atom.radii(like)

    def _as(self, atom: Atom, map: Map) -> ConvexSet:
        if atom is self.atom:
            return self
        assert isinstance(atom, NormBall)
        if atom.centre is None:
            return replaced(self, atom=atom)
        if self.norm.p == math.inf:  # a shifted cube is a box, and keeps its closed form
            r = atom.radii(atom.centre)[:, None]
            return box_of(atom.centre - r, atom.centre + r, "Ball")
        return ConvexSet(atom, map, "Ball")

    def __repr__(self) -> str:
        return f"Ball({self.norm!r}, {self.radius!r})"


class Box(ConvexSet):
    """{η : lower ≤ η ≤ upper}, with σ(v) = Σ_i upper_i max(v_i, 0) + lower_i min(v_i, 0).

    Args:
        lower, upper: numbers, or tensors that broadcast to (N, d); −∞ and ∞ are allowed. Equal bounds fix a coordinate.

    A box that is empty for one item makes that item INFEASIBLE; one that is empty for every item is an error.

    Raises:
        ValueError: lower > upper everywhere, or NaN given as a number.
    """

    atom: Interval

    def __init__(self, lower: float | Tensor, upper: float | Tensor) -> None:
        super().__init__(Interval(lower, upper), Identity(), "Box")

    @property
    def lower(self) -> float | Tensor:
        """The lower bounds, as given."""
        return self.atom.low

    @property
    def upper(self) -> float | Tensor:
        """The upper bounds, as given."""
        return self.atom.high

    def bounds(self, like: Float[Tensor, "N d"]) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """(lower, upper), each (N, d) in float64, without a copy where a number or a row serves all."""
        return self.atom.ends(like)

    def inwards(self, like: Float[Tensor, "N d"]) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"], bool]:
        """The bounds in the dtype of `like`, rounded inwards, and whether 0 is within them everywhere; kept."""
        key = (like.dtype, like.device, like.shape)
        kept = self.__dict__.get("_inwards", (None,))
        if kept[0] != key:
            low, high = self.bounds(like)
            centred = low.numel() == 0 or bool((low.amax() <= 0) & (high.amin() >= 0))
            kept = (key, *round_inwards(low, high, like.dtype, centred), centred)
            self.__dict__["_inwards"] = kept
        return kept[1], kept[2], kept[3]

    def _as(self, atom: Atom, map: Map) -> ConvexSet:
        return self if atom is self.atom else replaced(self, atom=atom)

    def __repr__(self) -> str:
        return f"{self.label}({self.lower!r}, {self.upper!r})"


def box_of(low: Float[Tensor, "N d"], high: Float[Tensor, "N d"], label: str = "Box") -> Box:
    """A box of float64 bounds that are nobody else's: neither checked nor copied."""
    return replaced(Box(0.0, 0.0), atom=replaced(Interval(0.0, 0.0), low=low, high=high), label=label)


@dataclass(frozen=True)
class PixelRange:
    """{η : low ≤ x + η ≤ high}: the perturbed image stays in the data range (Section I). A set only once x is known.

    Args:
        low, high: numbers, low < high, in units of the data.

    >>> PixelRange(0.0, 1.0).at(torch.tensor([[0.25, 1.0]])).upper
    tensor([[0.7500, 0.0000]], dtype=torch.float64)
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not float(self.low) < float(self.high):
            raise ValueError(f"the pixel range is empty: low = {self.low} is not below high = {self.high}")

    def at(self, x: Float[Tensor, "B *S"], pieces: int = 1) -> Box:
        """The box of perturbations at the images x (B, *S), each repeated for its K pieces: B·K items.

        The bounds are rounded inwards, so that x + η is in range in exact arithmetic.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(
                f"x must be a floating-point tensor of images, got {getattr(x, 'dtype', type(x).__name__)}; "
                "write x.float()"
            )
        if x.ndim < 2:
            raise ValueError(f"x must have a batch dimension (B, ...), got shape {tuple(x.shape)}; write x[None]")
        x = x.detach().flatten(1)
        largest = float(x.abs().amax()) if x.numel() else 0.0
        bounds = [
            _minus(end, x.to(torch.float64), largest, towards)
            for end, towards in ((self.low, torch.inf), (self.high, -torch.inf))
        ]
        low, high = bounds if pieces == 1 else [bound.repeat_interleave(pieces, 0) for bound in bounds]
        return box_of(low, high)


def _minus(a: float, x: Tensor, largest: float, towards: float) -> Tensor:
    """a − x, |x| ≤ largest, rounded towards ±∞: the error of the difference is a float64 number (Knuth's two-sum)."""
    difference = a - x
    if a == 0 or (largest <= abs(a) and torch.equal(a - difference, x)):  # exact (Dekker), as for images in float32
        return difference
    part = difference + x
    error = (a - part) - (x - (part - difference))  # exact: a − x = difference + error
    wrong = error > 0 if towards > 0 else error < 0
    return torch.where(wrong, torch.nextafter(difference, torch.full_like(x, towards)), difference)


def Support(mask: Bool[Tensor, "*S"]) -> Box:
    """{η : η_i = 0 where the mask is False}: only some pixels may change, those of a sticker, say.

    Args:
        mask: booleans of the shape of an image, or (d,); True: this pixel may change.

    >>> Support(torch.tensor([True, False])).violation(torch.tensor([[5.0, 0.5]]))
    tensor([0.5000], dtype=torch.float64)
    """
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must hold booleans, True where a pixel may change, got {mask.dtype}; write mask.bool()")
    edge = torch.where(mask.flatten(), math.inf, 0.0).to(torch.float64)
    return box_of(-edge, edge, "Support")


def WeightedBall(norm: Lp, weights: Float[Tensor, "*S"], radius: float | Float[Tensor, " N"]) -> ConvexSet:
    """{η : ‖w ∘ η‖_p ≤ ε}: a pixel of weight 2 may change half as much, one of weight 0 as it likes.

    Args:
        norm: an `Lp`.
        weights: w ≥ 0, of the shape of an image or (d,).
        radius: ε ≥ 0, a number or (N,), in units of weight times input.
    """
    if type(norm) is not Lp:
        raise TypeError(f"norm must be a ca.Lp, got {norm!r}; write ca.WeightedBall(ca.Lp(2), weights, radius)")
    return ConvexSet(NormBall(norm, radius), Diagonal(torch.as_tensor(weights).flatten()), "WeightedBall")


def GroupBall(groups: Int[Tensor, "*S"], radius: float | Float[Tensor, " N"], outer: float = 1) -> ConvexSet:
    """{η : ‖(‖η_1‖_2, …, ‖η_G‖_2)‖_outer ≤ ε}, η_k the pixels of group k: few change (outer = 1), or each a little (∞).

    Args:
        groups: ints of the shape of an image, or (d,): the group of each pixel, from 0.
        radius: ε ≥ 0, a number or (N,), in the units of the input.
        outer: p of the norm over the groups' lengths.
    """
    return ConvexSet(NormBall(Mixed(torch.as_tensor(groups), Lp(outer)), radius), Identity(), "GroupBall")


def TotalVariation(shape: Sequence[int], radius: float | Float[Tensor, " N"], isotropic: bool = False) -> ConvexSet:
    """{η : Σ |η_a − η_b| ≤ ε over neighbouring pixels}: smooth perturbations; summed over channels.

    Args:
        shape: (H, W) or (C, H, W) of an image.
        radius: ε ≥ 0, a number or (N,), in the units of the input.
        isotropic: sums the lengths of (down, right) differences instead of their sizes, so that no direction is
            preferred.

    >>> TotalVariation((1, 3), 1.0).violation(torch.tensor([[0.0, 2.0, 1.0]]))
    tensor([2.], dtype=torch.float64)
    """
    size = tuple(int(n) for n in shape)
    if len(size) not in (2, 3) or min(size) < 1 or math.prod(size[-2:]) < 2:
        raise ValueError(
            f"shape must be (H, W) or (C, H, W) of at least two pixels, got {tuple(shape)}; take x.shape[1:]"
        )
    i = np.arange(math.prod(size)).reshape(-1, *size[-2:])
    tails = np.concatenate([i[:, :-1].ravel(), i[:, :, :-1].ravel()])
    heads = np.concatenate([i[:, 1:].ravel(), i[:, :, 1:].ravel()])
    r = len(tails)
    entries = np.concatenate([np.ones(r), -np.ones(r)])
    matrix = sp.csr_array((entries, (np.tile(np.arange(r), 2), np.concatenate([heads, tails]))), shape=(r, i.size))
    norm: Norm = Mixed(torch.from_numpy(np.unique(tails, return_inverse=True)[1]), Lp(1)) if isotropic else Lp(1)
    return ConvexSet(NormBall(norm, radius), Rows(matrix), "TotalVariation")


def Affine(A: Any, b: float | Tensor = 0.0) -> ConvexSet:
    """{η : Aη = b}.

    Args:
        A: (r, d) for all items, or (N, r, d); a tensor, a NumPy or (for all items) a SciPy sparse array.
        b: a number, (r,) or (N, r).
    """
    return ConvexSet(Interval(b, b), Rows(A), "Affine")


def Halfspaces(A: Any, b: float | Tensor) -> ConvexSet:
    """{η : Aη ≤ b}; arguments as for `Affine`."""
    return ConvexSet(Interval(-math.inf, b), Rows(A), "Halfspaces")
