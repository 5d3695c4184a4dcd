"""The optima of many small programs at once, by enumeration and by bisection in NumPy, without a line of the package.

Two or three entries: every linear, piecewise linear or radial objective over rows and one disk has its optimum at a
corner of the arrangement of rows and kinks, where a row meets the circle, at the foot of 0 on a row, or where the
circle is lowest. One ball and a box in any dimension: one unknown, by bisection.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from verification.judge.worlds import Array, World

__all__ = ["Truth", "objective", "truth"]

INF = math.inf
TINY = 1e-11  # what enumeration forgives a row of unit length, in eighths
WIDE = 1e-9  # by how much rows are moved both ways where the data are no eighths


@dataclass(frozen=True)
class Truth:
    """What is true of each item, in units of 1.

    Attributes:
        least, most: the optimum lies between them; ∞ where there is no η, −∞ where the objective falls.
        there: whether there is certainly an η; `nowhere`: whether there is certainly none.
        falls: whether the objective certainly has no minimum; `bounded`: whether it certainly has one.
        eta: an η that reaches it; NaN where there is none.
        inside: a point amid all that were found to be in the sets; NaN where there is none.
    """

    least: Array
    most: Array
    there: Array
    nowhere: Array
    falls: Array
    bounded: Array
    eta: Array
    inside: Array


def objective(world: World, eta: Array) -> Array:
    """The objective at η (N, ..., d), in units of 1."""
    if world.kind == "min_norm":
        return np.asarray(np.linalg.norm(eta, world.p, axis=-1))
    if world.kind == "operator":
        return np.asarray(np.linalg.norm(np.einsum("nmd,n...d->n...m", world.gradient, eta), axis=-1))
    if world.kind == "hinges":
        fall = np.einsum("nkd,n...d->n...k", world.gradient, eta)
        c = world.value.reshape((len(world),) + (1,) * (fall.ndim - 2) + (-1,))
        return np.asarray(np.maximum(0.0, c + fall).sum(-1))
    fall = np.einsum("nd,n...d->n...", world.gradient, eta)
    return np.asarray(world.value.reshape((len(world),) + (1,) * (fall.ndim - 1)) + fall)


def truth(world: World, room: str) -> Truth:
    """What is true of every item."""
    if world.kind == "operator":
        return _stretched(world)
    if room == "ball":
        return _rooted(world)
    loose = _enumerated(world, TINY if world.eighths else WIDE)
    tight = loose if world.eighths else _enumerated(world, -WIDE)
    falling = _falls(world)
    low, high = loose[0], tight[0]
    there, nowhere = high < INF, low == INF
    falls, bounded = falling & there, ~falling
    if world.kind in ("min_norm", "hinges"):
        falls, bounded = falls & False, bounded | True
    gone = falling & ~nowhere & (world.kind in ("gnii", "gn"))
    return Truth(
        np.where(gone, -INF, low), np.where(gone, -INF, high), there, nowhere, falls, bounded, loose[1], loose[2]
    )


# --- corners ---------------------------------------------------------------------------------------------------------


def _rows(world: World) -> tuple[Array, Array]:
    """All rows, of unit length."""
    n, d = len(world), world.d
    parts = [part for shape in world.shapes for part in shape.planes(n, d)]
    if world.kind == "min_norm":
        parts.append((world.gradient[:, None], -world.value[:, None]))
    if not parts:
        return np.zeros((n, 0, d)), np.zeros((n, 0))
    A, b = np.concatenate([a for a, _ in parts], 1), np.concatenate([b for _, b in parts], 1)
    size = np.linalg.norm(A, axis=2)
    safe = np.where(size > 0, size, 1.0)
    return A / safe[..., None], b / safe


def _kinks(world: World) -> tuple[Array, Array]:
    """Coordinate planes, and where the objective has its kinks."""
    n, d = len(world), world.d
    eye = np.eye(d)
    fixed = [eye]
    if world.kind == "min_norm" and world.p == INF:
        fixed += [np.array([eye[i] + s * eye[j] for i, j in itertools.combinations(range(d), 2) for s in (1, -1)])]
    planes = np.broadcast_to(np.concatenate(fixed), (n, sum(map(len, fixed)), d))
    right = np.zeros(planes.shape[:2])
    if world.kind == "hinges":
        return np.concatenate([planes, world.gradient], 1), np.concatenate([right, -world.value], 1)
    return planes, right


def _disk(world: World) -> Array:
    radii = [np.asarray(shape.radius) for shape in world.shapes if shape.disk]
    return np.min(radii, axis=0) if radii else None


def _corners(A: Array, b: Array) -> Array:
    """Where d rows meet, (N, K, d); NaN where they do not."""
    d = A.shape[2]
    chosen = np.array(list(itertools.combinations(range(A.shape[1]), d)))
    R, right = A[:, chosen], b[:, chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        if d == 2:
            det = R[..., 0, 0] * R[..., 1, 1] - R[..., 0, 1] * R[..., 1, 0]
            x = right[..., 0] * R[..., 1, 1] - right[..., 1] * R[..., 0, 1]
            y = right[..., 1] * R[..., 0, 0] - right[..., 0] * R[..., 1, 0]
            point = np.stack([x, y], -1)
        else:
            c = [np.cross(R[..., (k + 1) % 3, :], R[..., (k + 2) % 3, :]) for k in range(3)]
            det = (R[..., 0, :] * c[0]).sum(-1)
            point = sum(right[..., k, None] * c[k] for k in range(3))
        return np.where(np.abs(det)[..., None] > 1e-9, point / det[..., None], np.nan)


def _around(world: World, A: Array, b: Array, r: Array) -> Array:
    """Where rows meet the circle, and where it is lowest for each set of open hinges."""
    foot = A * b[..., None]
    with np.errstate(invalid="ignore"):
        h = np.sqrt(np.maximum(r[:, None] ** 2 - b**2, 0.0))[..., None]
    across = np.stack([-A[..., 1], A[..., 0]], -1)
    slopes = world.gradient if world.kind == "hinges" else world.gradient[:, None]
    subsets = np.array(list(itertools.product((0.0, 1.0), repeat=slopes.shape[1])))
    down = -np.einsum("sk,nkd->nsd", subsets, slopes)
    length = np.linalg.norm(down, axis=-1, keepdims=True)
    down = down / np.where(length > 0, length, 1.0) * r[:, None, None]
    return np.concatenate([foot + h * across, foot - h * across, down], 1)


def _enumerated(world: World, slack: float) -> tuple[Array, Array, Array]:
    """(optimum, η, a point amid the candidates) with rows moved outwards by `slack`; ∞ and NaN where there is none."""
    A, b = _rows(world)
    kinks, right = _kinks(world)
    disk = _disk(world)
    if slack < 0 or slack == WIDE:
        b, disk = b + slack, None if disk is None else np.maximum(disk + slack, 0.0)
    n, d = len(world), world.d
    size = np.linalg.norm(kinks, axis=2)
    unit = np.where(size > 0, size, 1.0)
    everything = np.concatenate([A, kinks / unit[..., None]], 1), np.concatenate([b, right / unit], 1)
    finite = np.where(np.isfinite(everything[1]), everything[1], np.nan)
    points = [_corners(everything[0], finite), np.zeros((n, 1, d))]
    if disk is not None:
        points.append(_around(world, everything[0], finite, disk))
    if world.kind == "min_norm" and world.p == 2:
        points.append(everything[0] * finite[..., None])
    x = np.concatenate(points, 1)
    with np.errstate(invalid="ignore"):
        beyond = np.einsum("nmd,nkd->nkm", A, x) - b[:, None]
        good = (beyond <= TINY).all(-1) & np.isfinite(x).all(-1)
        if disk is not None:
            good &= np.linalg.norm(x, axis=-1) <= disk[:, None] + TINY
        found = np.where(good, objective(world, np.nan_to_num(x)), INF)
    k = found.argmin(1)
    eta = np.where(np.isfinite(found.min(1))[:, None], x[np.arange(n), k], np.nan)
    eta = np.where(np.abs(eta) < 1e-13, 0.0, eta)  # where a radius is 0, nothing else is inside
    return found.min(1), eta, _amid(x, good)


def _amid(x: Array, good: Array) -> Array:
    """The mean of the good points, each counted once for each time that it was found."""
    count = good.sum(1)[:, None]
    total = np.where(good[..., None], np.nan_to_num(x), 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _falls(world: World) -> Array:
    """Whether some direction stays in all rows and goes down."""
    if world.kind in ("min_norm", "hinges"):
        return np.zeros(len(world), bool)
    A, b = _rows(world)
    n, d = len(world), world.d
    rows = np.where(np.isfinite(b)[..., None], A, 0.0)
    walls = np.broadcast_to(np.vstack([np.eye(d), -np.eye(d)]), (n, 2 * d, d))
    everything = np.concatenate([rows, walls], 1), np.concatenate([np.zeros(rows.shape[:2]), np.ones((n, 2 * d))], 1)
    v = _corners(*everything)
    with np.errstate(invalid="ignore"):
        good = (np.einsum("nmd,nkd->nkm", everything[0], v) <= everything[1][:, None] + TINY).all(-1)
        fall = np.where(good, np.einsum("nd,nkd->nk", world.gradient, np.nan_to_num(v)), 0.0).min(1, initial=0.0)
    return np.asarray((fall < -1e-9) & np.array(_disk(world) is None))


# --- one ball and a box ----------------------------------------------------------------------------------------------


def _bounds(world: World) -> tuple[Array, Array]:
    low, high = np.full((len(world), world.d), -INF), np.full((len(world), world.d), INF)
    for shape in world.shapes:
        if shape.name == "box":
            low, high = np.maximum(low, np.asarray(shape.low)), np.minimum(high, np.asarray(shape.high))
    return low, high


def _path(y: Array, g: Array, p: float, low: Array, high: Array) -> Array:
    """Each entry against its slope, within its bounds: the path along which one number decides."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        power = 0.0 if p == INF else 1 / (p - 1)
        size = np.where(g != 0, np.exp(y[:, None] + power * np.log(np.abs(g))), 0.0)
        size = np.where(size < 1e-140, 0.0, size)  # whose squares are 0 as well
        return np.minimum(np.maximum(-np.sign(g) * size, low), high)


def _bisected(test: Any, n: int) -> Array:
    """The number at which the test of each item turns true."""
    low, high = np.full(n, -700.0), np.full(n, 700.0)
    for _ in range(70):
        middle = (low + high) / 2
        hit = test(middle)
        low, high = np.where(hit, low, middle), np.where(hit, middle, high)
    return low


def _spent(r: Array, g: Array, low: Array, high: Array, near: Array) -> Array:
    """p = 1: from the nearest point on, the steepest entries first, until r is spent."""
    point, left = near.copy(), r - np.abs(near).sum(1)
    rows = np.arange(len(g))
    for k in np.argsort(-np.abs(g), axis=1).T:
        slope = g[rows, k]
        end = np.where(slope > 0, low[rows, k], high[rows, k])
        back = (point[rows, k] != 0) & (np.sign(point[rows, k]) == np.sign(slope))
        move = np.where((slope != 0) & ~back, np.minimum(np.abs(end - point[rows, k]), np.maximum(left, 0)), 0.0)
        point[rows, k] -= np.sign(slope) * move
        left = left - move
    return point


def _paid(need: Array, g: Array, low: Array, high: Array, near: Array) -> Array:
    """p = 1: the steepest entries first, until gᵀη has fallen by `need`."""
    point, rows = near.copy(), np.arange(len(g))
    for k in np.argsort(-np.abs(g), axis=1).T:
        slope = np.abs(g[rows, k])
        end = np.where(g[rows, k] > 0, low[rows, k], high[rows, k])
        back = (point[rows, k] != 0) & (np.sign(point[rows, k]) == np.sign(g[rows, k]))
        move = np.minimum(np.abs(end - point[rows, k]), np.maximum(need, 0) / np.where(slope > 0, slope, 1.0))
        move = np.where((slope > 0) & ~back, move, 0.0)
        point[rows, k] -= np.sign(g[rows, k]) * move
        need = need - slope * move
    return point


def _rooted(world: World) -> Truth:
    """One ball and a box: (GNII) and (GN) stop at the radius, (8) where L + gᵀη = 0. Hinges are not for this room."""
    low, high = _bounds(world)
    g, n = world.gradient, len(world)
    near = np.minimum(np.maximum(0.0, low), high)
    with np.errstate(invalid="ignore"):
        corner = np.where(g > 0, low, np.where(g < 0, high, near))
        empty = (low > high).any(1)
        if world.kind == "min_norm":
            eta, nowhere, there = _shortest(world, low, high, near, corner)
            nowhere, there = nowhere | empty, there & ~empty
            falls = np.zeros(n, bool)
        else:
            eta, nowhere, there, falls = _lowest(world, low, high, near, corner)
            nowhere, there, falls = nowhere | empty, there & ~empty, falls & ~empty
        found = np.where(falls, -INF, objective(world, np.nan_to_num(eta, posinf=0.0, neginf=0.0)))
    found = np.where(there, found, INF)
    eta = np.where((there & ~falls)[:, None], eta, np.nan)
    return Truth(found, found, there, nowhere, falls, ~falls, eta, 0 * eta + np.nan)


def _lowest(world: World, low: Array, high: Array, near: Array, corner: Array) -> tuple[Array, ...]:
    g, n = world.gradient, len(world)
    balls = [shape for shape in world.shapes if shape.name == "ball"]
    if not balls:
        falls = ((corner == -INF) & (g > 0) | (corner == INF) & (g < 0)).any(1)
        return corner, np.zeros(n, bool), np.ones(n, bool), falls
    p, r = balls[0].p, np.asarray(balls[0].radius)
    away = np.linalg.norm(near, p, axis=1)
    edge = 1e-12 if world.eighths and p in (1, INF) else 1e-9
    nowhere, there = away > r + edge, away <= (r if edge == 1e-12 else r - edge * (r > 0))
    if p == 1:
        eta = _spent(r, g, low, high, near)
    else:
        y = _bisected(lambda y: np.linalg.norm(_path(y, g, p, low, high), p, axis=1) > r, n)
        eta = _path(y, g, p, low, high)
    inside = np.linalg.norm(corner, p, axis=1) <= r
    return np.where(inside[:, None], corner, eta), nowhere, there, np.zeros(n, bool)


def _shortest(world: World, low: Array, high: Array, near: Array, corner: Array) -> tuple[Array, ...]:
    g, L, n, p = world.gradient, world.value, len(world), world.p

    def rest(x: Array) -> Array:
        return L + np.where(g != 0, g * x, 0.0).sum(1)

    idle = rest(near) <= 0
    lowest = rest(corner)
    edge = 1e-12 if world.eighths else 1e-9
    nowhere, there = lowest > edge, lowest <= (0 if world.eighths else -edge)
    if p == 1:
        eta = _paid(rest(near), g, low, high, near)
    else:
        y = _bisected(lambda y: rest(_path(y, g, p, low, high)) <= 0, n)
        eta = _path(y, g, p, low, high)
    return np.where(idle[:, None], near, eta), nowhere & ~idle, there | idle


# --- (9) -------------------------------------------------------------------------------------------------------------


def _stretched(world: World) -> Truth:
    (ball,), J, n, d = world.shapes, world.gradient, len(world), world.d
    r = np.asarray(ball.radius)
    if ball.p == 1:
        tried = np.broadcast_to(np.eye(d), (n, d, d))
    elif ball.p == 2:
        tried = np.linalg.svd(J, full_matrices=True)[2]
    elif ball.p == INF:
        tried = np.broadcast_to(np.array(list(itertools.product((-1.0, 1.0), repeat=d))), (n, 2**d, d))
    else:
        angle = np.linspace(0, np.pi, 4001)
        circle = np.stack([np.cos(angle), np.sin(angle)], 1)
        tried = np.broadcast_to(circle / np.linalg.norm(circle, ball.p, axis=1, keepdims=True), (n, len(angle), 2))
    length = objective(world, tried)
    k = length.argmax(1)
    eta = tried[np.arange(n), k] * r[:, None]
    top = length.max(1) * r
    yes, no = np.ones(n, bool), np.zeros(n, bool)
    return Truth(top, top * (1 + (1e-6 if ball.p == 3 else 0)), yes, no, no, yes, eta, 0 * eta)
