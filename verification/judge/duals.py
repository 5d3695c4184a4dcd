"""Multipliers for the optima of `planes`, from the rows that are met with equality: a linear program an item, by HiGHS.

They need no solver of the package, so that right answers can be had, and corrupted, whatever that can solve.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import linprog

from verification.judge.planes import Truth
from verification.judge.worlds import Array, Shape, World

__all__ = ["duals"]

INF = math.inf
MET = 1e-9


def duals(world: World, known: Truth) -> tuple[Array, list[Array]]:
    """Which items have multipliers, and these, in the package's units; one array for each set, λ or u first."""
    n = len(world)
    rows = [_row_space(world, shape) for shape in world.shapes]
    first = {"min_norm": [np.zeros(n)], "hinges": [np.zeros((n, world.gradient.shape[1]))]}.get(world.kind, [])
    parts: list[Array] = [*first, *(np.zeros((n, r)) for r in rows)]
    good = np.zeros(n, bool)
    for i in np.flatnonzero(known.there & ~known.falls & ~world.broken & np.isfinite(known.eta).all(1)):
        found = _item(world.take([i]), known.eta[i])
        if found is None:
            continue
        good[i] = True
        for part, entry in zip(parts, found, strict=True):
            part[i] = entry
    for k, part in enumerate(parts):
        if k < len(first):
            part /= world.slope if world.kind == "min_norm" else 1.0
        elif world.kind != "min_norm":
            part *= world.slope[:, None]
    return good, parts


def _row_space(world: World, shape: Shape) -> int:
    if shape.rows is not None:
        return int(shape.rows.shape[1])
    return world.d - 1 if shape.name == "variation" else world.d


def _item(one: World, eta: Array) -> list[Array] | None:
    """The multipliers of one item at η: non-negative weights of the met rows that make the Lagrangian stationary."""
    columns: list[Array] = []  # what a unit of each unknown adds to the sum of all pulls
    places: list[tuple[int, Array]] = []  # where it goes: which set, and what is added to its multiplier
    for k, shape in enumerate(one.shapes):
        for pull, entry in _met(one, shape, eta):
            columns.append(pull)
            places.append((k, entry))
    right, extra, ends = _objective(one, eta)
    bounds = [(0.0, None)] * len(columns) + ends
    table = np.array([*columns, *extra]).reshape(-1, one.d).T
    if not table.size:
        return [np.zeros(_row_space(one, shape)) for shape in one.shapes] if not right.any() else None
    found = linprog(np.zeros(table.shape[1]), A_eq=table, b_eq=right, bounds=bounds, method="highs")
    if found.status != 0 or np.abs(table @ found.x - right).max() > 1e-14:
        return None  # where nothing bounds an entry, a residual of 1e-12 is as bad as none
    parts = [np.zeros(_row_space(one, shape)) for shape in one.shapes]
    for (k, entry), weight in zip(places, found.x, strict=False):
        parts[k] = parts[k] + weight * entry
    rest = found.x[len(columns) :]
    if one.kind == "hinges":
        return [rest, *parts]
    return [rest[0], *parts] if one.kind == "min_norm" else parts


def _met(one: World, shape: Shape, eta: Array) -> list[tuple[Array, Array]]:
    """(pull, entry of the multiplier) of each row that η meets with equality."""
    if shape.disk or (shape.name == "ball" and shape.p not in (1, INF)):
        length = np.linalg.norm(eta, 2 if shape.disk else shape.p)
        if length < shape.radius[0] - MET * max(1.0, shape.radius[0]) or not length:
            return [(a, a) for a in np.vstack([np.eye(one.d), -np.eye(one.d)])] if not shape.radius[0] else []
        power = 1.0 if shape.disk else shape.p - 1
        u = np.sign(eta) * (np.abs(eta) / np.abs(eta).max()) ** power
        return [(u, u)]
    found = []
    blocks = shape.planes(1, one.d)
    signs = _signs(one, shape, blocks)
    for (A, b), sign in zip(blocks, signs, strict=True):
        for row, limit, entry in zip(A[0], b[0], sign, strict=True):
            if limit < INF and row @ eta >= limit - MET * max(1.0, abs(limit)):
                found.append((row, entry))
    return found


def _signs(one: World, shape: Shape, blocks: list[tuple[Array, Array]]) -> list[Array]:
    """For each row of each block what it adds to the multiplier of the set."""
    if len(blocks) == 2:
        eye = np.eye(blocks[0][0].shape[1])
        return [eye, -eye]
    A = blocks[0][0][0]
    if shape.name == "halfspaces":
        return [np.eye(len(A))]
    if shape.name == "weighted":
        return [A / shape.fixed]
    return [np.round(A @ np.linalg.pinv(np.diff(np.eye(one.d), axis=0)))] if shape.name == "variation" else [A]


def _objective(one: World, eta: Array) -> tuple[Array, list[Array], list[tuple[Any, Any]]]:
    """(right-hand side, columns, bounds): Σ pulls + Σ columns·unknowns = right-hand side."""
    if one.kind == "hinges":
        slopes, levels = one.gradient[0], one.value[0] + one.gradient[0] @ eta
        ends = [(1.0, 1.0) if x > MET else (0.0, 0.0) if x < -MET else (0.0, 1.0) for x in levels]
        return np.zeros(one.d), list(slopes), ends
    g = one.gradient[0]
    if one.kind != "min_norm":
        return -g, [], []
    tight = one.value[0] + g @ eta > -MET * max(1.0, abs(one.value[0]))
    lam = (0.0, None if tight else 0.0)
    top, eye = np.abs(eta).max(), np.eye(one.d)
    if not top:  # λ = 0 and no multiplier will do: the bound is 0
        return np.zeros(one.d), [g], [(0.0, 0.0)]
    if one.p == 1:
        ends = [(1.0, 1.0) if x > MET else (-1.0, -1.0) if x < -MET else (-1.0, 1.0) for x in eta]
        return np.zeros(one.d), [g, *eye], [lam, *ends]
    if one.p == INF:
        return _cube(eta, g, lam)
    z = np.sign(eta) * (np.abs(eta) / top) ** (one.p - 1)
    q = one.p / (one.p - 1)
    return -z / np.linalg.norm(z, q), [g], [lam]


def _cube(eta: Array, g: Array, lam: tuple[Any, Any]) -> tuple[Array, list[Array], list[tuple[Any, Any]]]:
    """p = ∞: a convex combination of the signs of the largest entries; the last one takes what is left of 1."""
    top = np.abs(eta).max()
    corners = [np.sign(eta[i]) * np.eye(len(eta))[i] for i in np.flatnonzero(np.abs(eta) >= top - MET * max(1.0, top))]
    last = corners[-1]
    return -last, [g, *(corner - last for corner in corners[:-1])], [lam, *[(0.0, 1.0)] * (len(corners) - 1)]
