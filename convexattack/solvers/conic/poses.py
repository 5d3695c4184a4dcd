"""How a conic solver is told that z lies in an atom: rows of unit size, numbers that differ by item, and their text."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import lsqr
from torch import Tensor

from convexattack.sets.atoms import Atom, Interval, NormBall
from convexattack.sets.custom import ConeSlice

SHARE = 16  # cones that are tightened in full
DEARLY = 100  # times what is left of Aᵀy: a change of y that costs more is not made

__all__ = ["Pose", "Written", "digest", "pose"]


@dataclass(frozen=True, eq=False)
class Written:
    """Constraints, what reads their multiplier (None where they do not show it), and the text's own unknowns."""

    rows: list[cp.Constraint]
    read: Callable[[], np.ndarray] | None = None
    aux: cp.Variable | None = None


@dataclass(frozen=True, eq=False)
class Pose:
    """An atom for N items, seen as f∘z ∈ f∘S.

    Attributes:
        factor: (N, r) f, so that each row has entries of size 1 at most.
        numbers: of the text, (N, …); infinite bounds are in no text.
        room: by how much each of the numbers moves for a slack of 1, rows of unit size: inwards, nothing in equalities.
        form: for each item what its text depends on besides the numbers.
        write: (item, f∘z, numbers, soft) → the text; `soft` ≤ 0 widens equalities by −soft.
        linked: whether the multiplier is that of a row f∘z − v = 0, v in f∘S.
        columns: (N, k) the unit of each of the text's own unknowns; None without them.
        real: (N, r) whether an upper and a lower bound of each row are the atom's own: others are there for the solver
            alone, and have no multiplier.
    """

    factor: np.ndarray
    numbers: dict[str, np.ndarray]
    room: dict[str, np.ndarray]
    form: list[Hashable]
    write: Callable[[int, cp.Expression, Mapping[str, Any], cp.Expression | None], Written]
    linked: bool = False
    columns: np.ndarray | None = None
    real: tuple[np.ndarray, np.ndarray] | None = None

    def own(self, i: int, u: np.ndarray) -> np.ndarray:
        """The multiplier of item i without what bounds beyond the atom's own have of it."""
        return u if self.real is None else np.where(u > 0, u * self.real[0][i], u * self.real[1][i])


@singledispatch
def pose(atom: Atom, size: np.ndarray, limit: np.ndarray, known: np.ndarray | None = None) -> Pose:
    """The pose of an atom.

    Args:
        atom: for N items, in the units of the solver.
        size: (N, r) the largest entry of each row of K.
        limit: (N, r) a bound on |z_i| over the other sets, ∞ where there is none: a number beyond it says nothing.
        known: (N, k) a bound on the text's own unknowns, ∞ where there is none; None without them.
    """
    raise TypeError(f"no conic text is known for a {type(atom).__name__}; add one to convexattack.solvers.conic.poses")


@pose.register
def _interval(atom: Interval, size: np.ndarray, limit: np.ndarray, known: np.ndarray | None = None) -> Pose:
    factor = 1 / np.where(size > 0, size, 1.0)
    low, high = (end.cpu().numpy() * factor for end in atom.ends(torch.empty(limit.shape)))
    equal, most = low == high, limit * factor
    kept = [np.isfinite(end) & ~equal for end in (low, high)]
    real = equal | (high <= most), equal | (low >= -most)
    low, high = np.where(equal, low, np.maximum(low, -most)), np.where(equal, high, np.minimum(high, most))
    below, above = (
        ~equal & np.isfinite(end) & any_.any(1, keepdims=True) for end, any_ in zip((low, high), kept, strict=True)
    )
    wide = high - low
    unit = np.where(equal, 0.0, np.minimum(1.0, np.where(wide > 0, wide / 8, 1.0)))
    finite = [np.where(np.isfinite(end), end, 0.0) for end in (low, high)]
    masks = [equal, below, above]
    form: list[Hashable] = [tuple(mask[i].tobytes() for mask in masks) for i in range(len(low))]

    def write(i: int, z: cp.Expression, p: Mapping[str, Any], soft: cp.Expression | None) -> Written:
        fixed, least, most = (np.flatnonzero(mask[i]) for mask in masks)
        rows: list[tuple[cp.Constraint, np.ndarray, int]] = []
        if len(fixed) and soft is None:
            rows.append((_at(z, fixed) == _at(p["low"], fixed), fixed, 1))
        elif len(fixed) and soft is not None:
            off = _at(z, fixed) - _at(p["low"], fixed)
            rows += [(off <= -soft, fixed, 1), (-off <= -soft, fixed, -1)]
        if len(least):
            rows.append((_at(z, least) >= _at(p["low"], least), least, -1))
        if len(most):
            rows.append((_at(z, most) <= _at(p["high"], most), most, 1))

        def read() -> np.ndarray:
            u = np.zeros(z.size)
            for row, at, sign in rows:
                u[at] += sign * np.ravel(row.dual_value)
            return u

        return Written([row for row, *_ in rows], read)

    return Pose(factor, {"low": finite[0], "high": finite[1]}, {"low": unit, "high": -unit}, form, write, real=real)


@pose.register
def _norm_ball(atom: NormBall, size: np.ndarray, limit: np.ndarray, known: np.ndarray | None = None) -> Pose:
    n, r = limit.shape
    largest = size.max(1, keepdims=True)
    factor = np.broadcast_to(1 / np.where(largest > 0, largest, 1.0), (n, r))
    like = torch.empty(n, r, dtype=torch.float64)
    centre = None if atom.centre is None else atom.middle(like).cpu().numpy() * factor
    far = limit * factor + (0 if centre is None else np.abs(centre))
    most = np.where(np.isfinite(far).all(1), atom.norm.length(torch.from_numpy(np.nan_to_num(far))).numpy(), np.inf)
    radius = np.minimum(atom.radii(like).cpu().numpy() * factor[:, 0], most)
    numbers = {"radius": radius} | ({} if centre is None else {"centre": centre})
    real = np.broadcast_to((radius < most)[:, None], (n, r))

    def write(i: int, z: cp.Expression, p: Mapping[str, Any], soft: cp.Expression | None) -> Written:
        return Written(atom.norm.text(z - p["centre"] if centre is not None else z, p["radius"]))

    form: list[Hashable] = [(digest(atom.norm), centre is None)] * n
    return Pose(factor, numbers, {"radius": -radius}, form, write, linked=True, real=(real, real))


@pose.register
def _cone_slice(atom: ConeSlice, size: np.ndarray, limit: np.ndarray, known: np.ndarray | None = None) -> Pose:
    n, m = limit.shape
    cones, k = atom.cones, int(atom.cones.block[-1]) + 1
    b = atom.right(torch.empty(n, m)).nan_to_num(0.0, np.inf, -np.inf).cpu().numpy()
    own, columns = np.zeros((n, m)), None
    if atom.hidden is not None and known is not None:
        columns = _coarse(np.where(np.isfinite(known), known, 1.0))
        own = atom.hidden.absolute(torch.from_numpy(columns)).cpu().numpy()
    flat = np.zeros(m, dtype=bool)
    flat[cones.zero : cones.ends[1]] = True
    b = np.where(flat & (own == 0), np.minimum(b, 2 * limit), b)  # such a row is about z alone
    idle = np.isinf(b)  # rows that say nothing
    largest = np.zeros((n, k))
    for i in range(n):
        np.maximum.at(
            largest[i], cones.block, np.maximum(np.maximum(size[i], own[i]), np.where(idle[i], 0.0, np.abs(b[i])))
        )
    factor = np.where(idle, 0.0, 1 / _coarse(largest)[:, cones.block])
    numbers = {"b": np.where(idle, 1.0, np.where(idle, 0.0, b) * factor)}
    inwards = np.broadcast_to(-cones.centre * min(1.0, SHARE / k), (n, m))  # what many cones cost, adds up
    hidden = atom.hidden
    shape = digest((None if hidden is None else hidden, dataclasses.astuple(cones)))
    form: list[Hashable] = [
        (shape, factor[i].tobytes(), None if columns is None else columns[i].tobytes()) for i in range(n)
    ]

    def write(i: int, z: cp.Expression, p: Mapping[str, Any], soft: cp.Expression | None) -> Written:
        x, A = None, None
        if hidden is not None and columns is not None:
            x = cp.Variable(columns.shape[1], name="x")
            A = sp.csr_array(sp.diags_array(factor[i]) @ _matrix(hidden, i) @ sp.diags_array(columns[i]))

        def slack(rows: np.ndarray) -> Any:
            s = _at(p["b"], rows) - _at(z, rows)
            return s if A is None else s - A[rows] @ x

        parts = cones.text(slack, soft)

        def read() -> np.ndarray:
            y = np.zeros(m)
            for _, at, value in parts:
                y[at] += np.ravel(value())
            return y if A is None else _balanced(y, A, cones.block)

        return Written([row for row, *_ in parts], read, x)

    return Pose(factor, numbers, {"b": inwards}, form, write, columns=columns)


def _balanced(y: np.ndarray, A: Any, block: np.ndarray) -> np.ndarray:
    """y with each cone's part scaled, so that it stays in the dual cone, by as little as will make Aᵀy = 0."""
    left = A.T @ y
    sums = sp.csr_array((np.ones(len(block)), (np.arange(len(block)), block)))
    theta = lsqr(A.T @ sp.diags_array(y) @ sums, -left, atol=1e-15, btol=1e-15, iter_lim=4 * len(left) + 50)[0]
    change = y * theta.clip(-0.5, 0.5)[block]
    worth = np.abs(A.T @ (y + change)).sum() < np.abs(left).sum() and np.abs(change).sum() < DEARLY * np.abs(left).sum()
    return np.asarray(y + change if worth else y)


def _coarse(size: np.ndarray) -> np.ndarray:
    """A power of 256 near each size, 1 for 0: units that many items share."""
    return np.asarray(2.0 ** (8 * np.round(np.log2(np.where(size > 0, size, 1.0)) / 8)))


def _at(x: Any, rows: np.ndarray) -> Any:
    """x[rows], x itself where that is all of it."""
    return x if len(rows) == x.size and (rows == np.arange(x.size)).all() else x[rows]


def _matrix(rows: Any, i: int) -> Any:
    K = rows.matrix
    return K if sp.issparse(K) else sp.csr_array((K if K.ndim == 2 else K[i]).cpu().numpy())


def digest(record: Any) -> bytes:
    """A fingerprint of a record's content: equal content is compiled once, whatever object holds it."""
    found = hashlib.blake2b(digest_size=16)

    def add(entry: Any) -> None:
        if dataclasses.is_dataclass(entry):
            found.update(type(entry).__name__.encode())
            for part in dataclasses.fields(entry):
                add(getattr(entry, part.name))
        elif isinstance(entry, Tensor):
            add(entry.cpu().numpy())
        elif sp.issparse(entry):
            for part in (entry.indptr, entry.indices, entry.data):
                add(part)
        elif isinstance(entry, np.ndarray):
            found.update(str(entry.shape).encode() + np.ascontiguousarray(entry).tobytes())
        elif isinstance(entry, tuple):
            for part in entry:
                add(part)
        else:
            found.update(repr(entry).encode() + b";")

    add(record)
    return found.digest()
