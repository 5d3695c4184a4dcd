"""Random data for the claims, degenerate on purpose: heavy tails, ties, zeros, entries six decades apart, any scale."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import convexattack as ca

__all__ = [
    "BOXES", "JACOBIANS", "NORMS", "TYPES", "Either", "boxes", "gradients", "jacobian", "jacobians", "programs",
    "radii", "scales", "tensors", "values", "word",
]  # fmt: skip

NORMS = (1.0, 1.01, 1.5, 2.0, 3.0, math.pi, 10.0, math.inf)
TYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}
BOXES = {"no box": None, "box around 0": True, "box without 0": False}
Either = ca.GN | ca.GNII | ca.MinNorm

Array = NDArray[np.float64]


def gradients(rng: np.random.Generator, n: int, d: int) -> Array:
    """(n, d); of four rows one has heavy tails, one ties, one mostly (or only) zeros, one entries decades apart."""
    g = rng.standard_t(2, (n, d))
    g[1::4] = rng.integers(-2, 3, g[1::4].shape)
    g[2::4] *= rng.random(g[2::4].shape) < 0.4
    g[3::4] *= 10.0 ** rng.uniform(-6, 0, g[3::4].shape)
    return g


def scales(rng: np.random.Generator, n: int, decades: float = 12) -> Array:
    """(n,) numbers between 1e-`decades` and 1e+`decades`, log-uniform."""
    return np.asarray(10.0 ** rng.uniform(-decades, decades, n))


def boxes(rng: np.random.Generator, n: int, d: int, around_zero: bool) -> tuple[Array, Array]:
    """Bounds (n, d) of size one: pixel ranges −x ≤ η ≤ 1 − x, or boxes, a third of whose coordinates leaves out 0."""
    x = rng.random((n, d))
    shift = (
        np.zeros((n, d))
        if around_zero
        else (rng.random((n, d)) < 1 / 3) * rng.choice([-1.0, 1.0], (n, d)) * (0.5 + rng.random((n, d)))
    )
    width = np.where(shift == 0, 1.0, 0.7)
    return width * (shift - x), width * (shift + 1 - x)


def radii(rng: np.random.Generator, g: Array, p: float, low: Array, high: Array) -> Array:
    """(n,) radii at which ball and box both matter; where the box leaves 0 out, one in eight does not reach it."""
    short, long = (np.linalg.norm(rows, p, axis=1) for rows in (np.clip(0, low, high), np.where(g > 0, -low, high)))
    enough = 1.02 * short + rng.uniform(0.05, 1.2, len(g)) * np.maximum(long - short, 0.1 * long)
    return np.asarray(np.where((short > 0) & (rng.random(len(g)) < 1 / 8), 0.9 * short, enough))


def values(rng: np.random.Generator, g: Array, low: Array, high: Array) -> Array:
    """(n,) L such that L + gᵀη ≤ 0 takes a good part of the box, and in one row of eight more than all of it."""
    nearest, corner = (g * np.clip(0, low, high)).sum(1), np.where(g > 0, g * low, g * high).sum(1)
    room = np.abs(g * np.maximum(-low, high)).sum(1)
    part = np.where(corner < nearest - 0.05 * room, rng.uniform(0.05, 0.95, len(g)), 0)
    part = np.where((part == 0) | (rng.random(len(g)) < 1 / 8), 1 + rng.uniform(0.05, 0.2, len(g)), part)
    return np.asarray(-nearest + part * np.maximum(nearest - corner, 0.05 * room))


def programs(rng: np.random.Generator, n: int, kind: str, p: float, box: str, dtype: torch.dtype, d: int) -> Either:
    """n random "(GN)", "(GNII)" or "(8)" over `BOXES[box]`, of any scale, a few percent off the edge of feasibility."""
    decades = 1.5 if dtype == torch.float16 else 12.0
    g = gradients(rng, n, d)
    unit, scale = scales(rng, n, decades), scales(rng, n, decades)
    low, high = boxes(rng, n, d, BOXES[box] is not False)
    bounds = ca.Box(*tensors(low * unit[:, None], high * unit[:, None]))
    if kind == "(8)":
        L, gradient = _rounded(dtype, values(rng, g, low, high) * unit * scale, g * scale[:, None])
        return ca.MinNorm(L, gradient, ca.Lp(p), () if BOXES[box] is None else (bounds,))
    radius = radii(rng, g, p, low, high) * unit
    L, gradient = _rounded(dtype, rng.standard_normal(n) * radius * np.abs(g).max(1) * scale, g * scale[:, None])
    ball = ca.Ball(ca.Lp(p), torch.from_numpy(radius))
    return (ca.GN if kind == "(GN)" else ca.GNII)(L, gradient, (ball,) if BOXES[box] is None else (ball, bounds))


def _rounded(dtype: torch.dtype, *arrays: Array) -> tuple[Tensor, ...]:
    """In that dtype, cut off at 60,000 for float16."""
    most = 6e4 if dtype == torch.float16 else np.inf
    return tuple(torch.from_numpy(a.clip(-most, most)).to(dtype) for a in arrays)


JACOBIANS = (
    "normal", "log-normal columns", "zero columns", "equal columns", "nearly equal columns", "rank 1", "rank 2",
    "rows that sum to 0", "±1", "small integers", "columns of 16 decades", "rows of 16 decades",
    "entries of 16 decades", "orthogonal", "one column", "zero",
)  # fmt: skip


def jacobian(rng: np.random.Generator, kind: str, m: int, d: int) -> Array:
    """(m, d), of size one."""
    J = rng.standard_normal((m, d))
    match kind:
        case "log-normal columns":
            J *= np.exp(rng.standard_normal(d))
        case "zero columns":
            J *= rng.random(d) < 0.5
        case "equal columns":
            J = J[:, rng.integers(0, max(1, d // 2), d)]
        case "nearly equal columns":
            J = J[:, rng.integers(0, max(1, d // 2), d)] + 1e-9 * J
        case "rank 1" | "rank 2":
            r = int(kind[-1])
            J = rng.standard_normal((m, r)) @ rng.standard_normal((r, d))
        case "rows that sum to 0":
            J -= J.mean(0)
        case "±1":
            J = rng.choice([-1.0, 1.0], (m, d))
        case "small integers":
            J = rng.integers(-2, 3, (m, d)).astype(float)
        case "columns of 16 decades" | "rows of 16 decades" | "entries of 16 decades":
            size = {"columns": (1, d), "rows": (m, 1), "entries": (m, d)}[kind.split()[0]]
            J *= 10.0 ** rng.uniform(-16, 0, size)
        case "orthogonal":
            J = np.linalg.qr(J)[0] if m >= d else np.linalg.qr(J.T)[0].T
        case "one column":
            J *= np.arange(d) == rng.integers(d)
        case "zero":
            J = np.zeros((m, d))
    return np.asarray(J)


def jacobians(rng: np.random.Generator, n: int, m: int, d: int) -> Array:
    """(n, m, d), of any scale; item k is of the kind `JACOBIANS[k % len(JACOBIANS)]`."""
    kinds = [JACOBIANS[k % len(JACOBIANS)] for k in range(n)]
    return np.stack([jacobian(rng, kind, m, d) for kind in kinds]) * scales(rng, n)[:, None, None]


def tensors(*arrays: Array) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)


def word(p: float) -> str:
    """`p = 1.5`, for people."""
    return "p = ∞" if p == math.inf else "p = π" if p == math.pi else f"p = {p:g}"
