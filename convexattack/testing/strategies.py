"""Hypothesis strategies for data on which steps go wrong: ties, zeros, very different scales, tight boxes.

The simplest number of each strategy is a 1, a small integer or a middle grey, which counterexamples shrink to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca

__all__ = ["DTYPES", "NORMS", "gradients", "images", "programs", "scales"]

DTYPES = (torch.float64, torch.float32)
NORMS = tuple(ca.Lp(p) for p in (2, 1, math.inf, 1.5, 3, math.pi, 1.001, 1.01, 10, 100, 1000, 1e6))
WIDE = (torch.float64, torch.float32)  # dtypes that hold scales of 1e±12
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 6))

_Drawn = TypeVar("_Drawn")


def _drawn(draw: st.DrawFn, value: _Drawn | st.SearchStrategy[_Drawn]) -> _Drawn:
    return draw(value) if isinstance(value, st.SearchStrategy) else value


def scales(dtype: torch.dtype, exponent: int = 12) -> st.SearchStrategy[float]:
    """1, or another power of ten as far as 1e±exponent; 1 alone for a dtype too narrow for that."""
    tens = [0, *(sign * k for k in range(1, exponent + 1) for sign in (-1, 1))]
    return st.sampled_from(tens if dtype in WIDE else [0]).map(lambda k: 10.0**k)


def _rows(draw: st.DrawFn, entry: st.SearchStrategy[float], n: int, d: int) -> Tensor:
    return torch.tensor([draw(st.lists(entry, min_size=d, max_size=d)) for _ in range(n)], dtype=torch.float64)


@st.composite
def gradients(
    draw: st.DrawFn,
    dtype: torch.dtype | st.SearchStrategy[torch.dtype] = torch.float64,
    shape: tuple[int, int] | st.SearchStrategy[tuple[int, int]] = SHAPES,
) -> Tensor:
    """Gradients g (N, d): small integers with ties and zeros, zero rows, entries decades apart, scales 1e±12 by row.

    Args:
        dtype: a floating-point dtype, or a strategy for one.
        shape: (N, d), or a strategy for it; by default N ≤ 3 and d ≤ 6.

    >>> from hypothesis import find
    >>> find(gradients(), lambda g: bool((g == 0).all()))
    tensor([[0.]], dtype=torch.float64)
    """
    dtype, (n, d) = _drawn(draw, dtype), _drawn(draw, shape)
    integers = st.sampled_from([1.0, 0.0, -1.0, 2.0, 0.0, -2.0, 3.0, -3.0])
    anything = st.floats(-1, 1, width=16)
    kinds = [integers, st.sampled_from([1.0, -1.0, 0.0]), integers | anything]
    if dtype in WIDE:
        kinds.append(integers.flatmap(lambda k: st.sampled_from([1.0, 1e-3, 1e-6, 1e3]).map(lambda unit: k * unit)))
    g = _rows(draw, draw(st.sampled_from(kinds)), n, d)
    units = [[draw(scales(dtype))] for _ in range(n)]
    return (g * torch.tensor(units, dtype=torch.float64)).to(dtype)


@st.composite
def images(
    draw: st.DrawFn,
    dtype: torch.dtype | st.SearchStrategy[torch.dtype] = torch.float64,
    shape: tuple[int, int] | st.SearchStrategy[tuple[int, int]] = SHAPES,
    pixels: ca.PixelRange = ca.PixelRange(0.0, 1.0),  # noqa: B008, it is frozen
) -> Tensor:
    """Images x (N, d) in a pixel range: its middle, its ends, where η can go one way only, and levels of 1/256 between.

    Args:
        dtype, shape: as for `gradients`.
        pixels: the range. Of [0, 1] and [−1, 1] the distances of x to both ends are exact in any dtype but bfloat16.

    >>> from hypothesis import find
    >>> find(images(shape=(1, 2)), lambda x: bool(x[0, 0] > 0.9))
    tensor([[1.0000, 0.5000]], dtype=torch.float64)
    """
    dtype, (n, d) = _drawn(draw, dtype), _drawn(draw, shape)
    level = st.sampled_from([0.5, 1.0, 0.0, 0.25, 0.75]) | st.integers(0, 256).map(lambda k: k / 256)
    x = pixels.low + (pixels.high - pixels.low) * _rows(draw, level, n, d)
    return x.to(dtype).clamp(pixels.low, pixels.high)


@st.composite
def programs(
    draw: st.DrawFn,
    kinds: Sequence[type[ca.Program]] = (ca.GNII, ca.GN, ca.MinNorm),
    norms: Sequence[ca.Lp] = NORMS,
    dtypes: Sequence[torch.dtype] = DTYPES,
    shape: tuple[int, int] | st.SearchStrategy[tuple[int, int]] = SHAPES,
) -> ca.Program:
    """(GNII), (GN), (8) over balls and boxes, feasible or not: radius 0; boxes tight, flat, one-sided, empty, no 0.

    Args:
        kinds: which programs. Of (GNII), a quarter have boxes alone.
        norms: of the ball, or of (8).
        dtypes: of value and gradient.
        shape: (N, d), or a strategy for it; by default N ≤ 3 and d ≤ 6.

    >>> from hypothesis import find
    >>> program = find(programs(kinds=(ca.GNII,)), lambda program: len(program.sets) == 1)
    >>> program.gradient, float(program.sets[0].radius)
    (tensor([[1.]], dtype=torch.float64), 1.0)
    """
    kind, norm, dtype = draw(st.sampled_from(kinds)), draw(st.sampled_from(norms)), draw(st.sampled_from(dtypes))
    n, d = _drawn(draw, shape)
    gradient = draw(gradients(dtype, (n, d)))
    unit = draw(scales(dtype))
    entry = st.sampled_from([1.0, 0.0, -1.0, 0.5, -0.5, 2.0, -2.0]) | st.floats(-1, 1, width=16)
    size = st.sampled_from([1.0, 0.25, 2.0, 0.0]) | st.floats(0, 2, width=16)
    steep = gradient.to(torch.float64).abs().amax(-1)
    value = (unit * steep * _rows(draw, entry | st.floats(0, 3, width=16), 1, n)[0]).to(dtype)
    sets: list[ca.ConvexSet] = []
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        shape_of_set = draw(st.sampled_from(["around", "cube", "around", "anywhere"]))
        if shape_of_set == "cube":
            sets.append(ca.Ball(ca.Lp(math.inf), unit * _rows(draw, size, 1, n)[0]))
            continue
        low = _rows(draw, entry, n, d) if shape_of_set == "anywhere" else -_rows(draw, size | st.just(math.inf), n, d)
        width = _rows(draw, size | st.just(math.inf), n, d)
        sets.append(ca.Box(unit * low, unit * (low + width if shape_of_set == "anywhere" else width)))
    if issubclass(kind, ca.MinNorm):
        return ca.MinNorm(value, gradient, norm, tuple(sets))
    if not sets or not issubclass(kind, ca.GNII) or draw(st.sampled_from([True, True, True, False])):
        sets.insert(draw(st.integers(0, len(sets))), ca.Ball(norm, unit * _rows(draw, size, 1, n)[0]))
    return kind(value, gradient, tuple(sets))  # type: ignore[call-arg]
