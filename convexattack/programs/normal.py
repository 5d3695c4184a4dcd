"""The normal form of a program's sets: one ball around 0, one interval for each coordinate, and the rest.

The only place that knows kinds of sets. Solvers ask it, and never the class of a set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import ratio, round_down, round_inwards
from convexattack.sets import Box, ConvexSet
from convexattack.sets.atoms import Interval, NormBall
from convexattack.sets.maps import Diagonal, Identity

__all__ = ["Normal"]

Bounds = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Normal:
    """The sets of N programs, sorted. Nothing is copied to float64 before someone asks for it.

    Attributes:
        sets: those of the program.
        like: (N, d), of the dtype and on the device of the gradient; only that and its shape mean something.
        ball: the index of the one {η : ‖w ∘ η‖_p ≤ ε}, 1 ≤ p < ∞; None without one.
        boxes: the indices of those that bound each coordinate by itself: boxes, masks, cubes, also weighted or shifted.
        rest: the indices of all others.
    """

    sets: tuple[ConvexSet, ...]
    like: Float[Tensor, "N d"]
    ball: int | None
    boxes: tuple[int, ...]
    rest: tuple[int, ...]

    @staticmethod
    def of(sets: tuple[ConvexSet, ...], like: Float[Tensor, "N d"]) -> Normal:
        """The normal form of these sets."""
        boxes = tuple(j for j, item in enumerate(sets) if _is_box(item))
        ball = next((j for j, item in enumerate(sets) if _is_ball(item)), None)
        return Normal(sets, like, ball, boxes, tuple(j for j in range(len(sets)) if j not in boxes and j != ball))

    @property
    def others(self) -> str:
        """The rest, in words."""
        return " and ".join(f"sets[{j}], a {self.sets[j].label}," for j in self.rest)

    @property
    def alone(self) -> bool:
        """Whether there is one plain ball and nothing else."""
        return len(self.sets) == 1 and (_is_cube(self.sets[0]) or (self.ball is not None and self.weights is None))

    # --- the ball -----------------------------------------------------------------------------------------------------

    @property
    def norm(self) -> Lp | None:
        """‖·‖_p of the ball."""
        norm = None if self.ball is None else self.sets[self.ball].atom.norm  # type: ignore[attr-defined]
        assert norm is None or isinstance(norm, Lp)
        return norm

    @property
    def radii(self) -> Float[Tensor, " N"]:
        """ε of the ball, float64."""
        assert self.ball is not None
        return self.sets[self.ball].atom.radii(self.like)  # type: ignore[attr-defined,no-any-return]

    @property
    def weights(self) -> Float[Tensor, "N d"] | None:
        """w of the ball; None for 1."""
        map = None if self.ball is None else self.sets[self.ball].map
        return map.of(self.like) if isinstance(map, Diagonal) else None

    # --- the interval -------------------------------------------------------------------------------------------------

    @cached_property
    def cube(self) -> Float[Tensor, "N 1"] | None:
        """The least radius of the plain cubes, in the dtype of the gradient, rounded towards 0; None without one."""
        radii = [self.sets[j].atom.radii(self.like) for j in self.boxes if _is_cube(self.sets[j])]  # type: ignore[attr-defined]
        return round_down(reduce(torch.minimum, radii), self.like.dtype)[:, None] if radii else None

    @cached_property
    def inwards(self) -> Bounds | None:
        """All boxes but the plain cubes as one, in the gradient's dtype, rounded inwards, (N, d); None without one."""
        pairs = [self._rounded(j) for j in self.boxes if not _is_cube(self.sets[j])]
        return _merged(pairs) if pairs else None

    @cached_property
    def ends(self) -> Bounds:
        """`inwards` and `cube` as one, (N, d), or (N, 1) for a cube alone; ∓∞ without any."""
        cube = None if self.cube is None else (-self.cube, self.cube)
        pairs = [pair for pair in (self.inwards, cube) if pair is not None]
        return _merged(pairs) if pairs else (-(endless := self.like.new_full((len(self.like), 1), math.inf)), endless)

    @cached_property
    def around(self) -> bool:
        """Whether 0 is in all boxes of every item, as far as that is known without looking at each."""
        known = [self.sets[j] for j in self.boxes if not _is_cube(self.sets[j])]
        boxes = all(isinstance(item, Box) and item.inwards(self.like)[2] for item in known)
        return boxes and (self.cube is None or bool((self.cube >= 0).all()))

    @cached_property
    def bounds(self) -> tuple[Bounds, ...]:
        """(low, high) of each of `boxes` in float64, (N, d), or (N, 1) for a cube."""
        return tuple(_bounds(self.sets[j], self.like) for j in self.boxes)

    @cached_property
    def merged(self) -> Bounds:
        """All of them as one, (N, d), in float64."""
        endless = self.like.new_full((1, 1), math.inf, dtype=torch.float64)
        low, high = _merged(self.bounds or ((-endless, endless),))
        return low.expand(self.like.shape), high.expand(self.like.shape)

    def _rounded(self, j: int) -> Bounds:
        item = self.sets[j]
        if isinstance(item, Box):
            return item.inwards(self.like)[:2]
        return round_inwards(*_bounds(item, self.like), self.like.dtype)

    # --- multipliers --------------------------------------------------------------------------------------------------

    def spread(self, ball: Float[Tensor, "N d"], box: Float[Tensor, "N d"]) -> tuple[Float[Tensor, "N d"], ...]:
        """A multiplier a set, in its rows: `ball` for the ball, each coordinate of `box` for its tightest box."""
        found = [ball if j == self.ball else torch.zeros_like(box) for j in range(len(self.sets))]
        for j, (low, high) in zip(self.boxes, self.bounds, strict=True):
            if len(self.boxes) == 1:
                mine = box
            else:
                ends = torch.where(box > 0, high == self.merged[1], low == self.merged[0])
                mine, box = box * ends, box * ~ends
            found[j] = self._in_rows(j, mine)
        return tuple(found)

    def _in_rows(self, j: int, v: Tensor) -> Tensor:
        map = self.sets[j].map
        return ratio(v, map.of(v)) if isinstance(map, Diagonal) else v


def _is_box(item: ConvexSet) -> bool:
    if isinstance(item.map, Diagonal) and isinstance(item.atom, Interval):
        idle = item.map.weights == 0
        below, above = (torch.as_tensor(end, device=idle.device) for end in (item.atom.low, item.atom.high))
        if bool((idle & ((below > 0) | (above < 0))).any()):  # empty, but not coordinate by coordinate
            return False
    plain = isinstance(item.map, Identity | Diagonal)
    return plain and (
        isinstance(item.atom, Interval) or (isinstance(item.atom, NormBall) and item.atom.norm == Lp(math.inf))
    )


def _is_ball(item: ConvexSet) -> bool:
    around = isinstance(item.atom, NormBall) and item.atom.centre is None and isinstance(item.atom.norm, Lp)
    return around and isinstance(item.map, Identity | Diagonal) and item.atom.norm.p < math.inf  # type: ignore[attr-defined]


def _is_cube(item: ConvexSet) -> bool:
    return isinstance(item.atom, NormBall) and item.atom.centre is None and isinstance(item.map, Identity)


def _bounds(item: ConvexSet, like: Float[Tensor, "N d"]) -> Bounds:
    """Bounds on η, (N, d), or (N, 1) for a cube; what is divided or subtracted is rounded inwards."""
    atom, map = item.atom, item.map
    if isinstance(atom, Interval):
        low, high = atom.ends(like)
    else:
        assert isinstance(atom, NormBall)
        edge = atom.radii(like)[:, None]
        if _is_cube(item):
            return -edge, edge
        middle = atom.middle(like.to(torch.float64))
        low, high = middle - edge, middle + edge
    if not isinstance(map, Diagonal) and isinstance(atom, Interval):
        return low, high
    w = map.of(low) if isinstance(map, Diagonal) else torch.ones_like(low)
    free = w == 0
    low, high = torch.where(free, -math.inf, low / w), torch.where(free, math.inf, high / w)
    least, most = _tighter(low, math.inf), _tighter(high, -math.inf)
    return torch.where(least <= most, least, low), torch.where(least <= most, most, high)


def _tighter(x: Tensor, towards: float) -> Tensor:
    return torch.where((x == 0) | x.isinf(), x, torch.nextafter(x, torch.full_like(x, towards)))


def _merged(pairs: tuple[Bounds, ...] | list[Bounds]) -> Bounds:
    return reduce(torch.maximum, [low for low, _ in pairs]), reduce(torch.minimum, [high for _, high in pairs])
