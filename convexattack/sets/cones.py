"""Products of cones, 0^a × R₊^b × second-order × semidefinite × exponential × power: membership, dual cone and text.

The rows stand in the order in which Clarabel takes them. A block is one row of the first two kinds, and one cone of
the others:

    second-order  ‖(s_1, …)‖_2 ≤ s_0             exponential  (x, y, z): y e^{x/y} ≤ z, y > 0
    semidefinite  the upper triangle, column by column,          power        (x, y, z): |z| ≤ x^α y^{1−α}, x, y ≥ 0
                  what is off the diagonal times √2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.numerics import UNIT, gamma

__all__ = ["Cones"]

Rows = Float[Tensor, "N m"]
Blocks = Float[Tensor, "N k"]
Reader = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Cones:
    """How many rows or which sizes of each kind.

    Args:
        zero, nonneg: numbers of rows.
        soc: the size of each second-order cone, its head included.
        psd: the order of each semidefinite matrix.
        exp: the number of exponential cones.
        power: α of each power cone.
    """

    zero: int = 0
    nonneg: int = 0
    soc: tuple[int, ...] = ()
    psd: tuple[int, ...] = ()
    exp: int = 0
    power: tuple[float, ...] = ()

    # --- where things are --------------------------------------------------------------------------------------------

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Where the rows of each kind end."""
        triangles = sum(n * (n + 1) // 2 for n in self.psd)
        sizes = (self.zero, self.nonneg, sum(self.soc), triangles, 3 * self.exp, 3 * len(self.power))
        return tuple(np.cumsum(sizes).tolist())

    @cached_property
    def block(self) -> np.ndarray:
        """(m,) the block of each row."""
        sizes = [1] * (self.zero + self.nonneg) + [*self.soc, *(n * (n + 1) // 2 for n in self.psd)]
        sizes += [3] * (self.exp + len(self.power))
        return np.repeat(np.arange(len(sizes)), sizes)

    @cached_property
    def heads(self) -> np.ndarray:
        """The first row of each second-order cone."""
        return (
            self.ends[1] + np.concatenate([[0], np.cumsum(self.soc)[:-1]]).astype(int) if self.soc else np.zeros(0, int)
        )

    @cached_property
    def tails(self) -> tuple[Tensor, Tensor]:
        """The other rows of the second-order cones, and the number of the cone of each."""
        rows = np.setdiff1d(np.arange(self.ends[1], self.ends[2]), self.heads)
        return torch.from_numpy(rows), torch.from_numpy(self.block[rows] - self.ends[1])

    def triangles(self) -> Iterator[tuple[slice, int, np.ndarray, np.ndarray]]:
        """For each semidefinite cone: its rows, its order, the (i, j) of each row."""
        start = self.ends[2]
        for n in self.psd:
            j, i = np.tril_indices(n)  # by columns of the upper triangle
            yield slice(start, start + len(i)), n, i, j
            start += len(i)

    def matrix(self, s: Rows, rows: slice, n: int, i: np.ndarray, j: np.ndarray) -> Float[Tensor, "N n n"]:
        """The symmetric matrix of a triangle."""
        value = s[:, rows] * torch.from_numpy(np.where(i == j, 1.0, math.sqrt(0.5))).to(s.device)
        S = s.new_zeros(len(s), n, n)
        S[:, i, j] = value
        S[:, j, i] = value
        return S

    def triples(self, s: Rows, kind: int) -> tuple[Tensor, Tensor, Tensor]:
        """(x, y, z) of the exponential (kind 4) or power cones (5)."""
        x, y, z = s[:, self.ends[kind - 1] : self.ends[kind]].unflatten(-1, (-1, 3)).unbind(-1)
        return x, y, z

    def lengths(self, s: Rows) -> Float[Tensor, "N G"]:
        """‖(s_1, …)‖_2 of each second-order cone."""
        rows, label = (part.to(s.device) for part in self.tails)
        tail = s[:, rows]
        top = tail.abs().amax(-1, keepdim=True) if len(rows) else s[:, :1]
        unit = torch.where((top > 0) & (top < math.inf), top, 1.0)
        return s.new_zeros(len(s), len(self.soc)).index_add_(-1, label, (tail / unit).square()).sqrt() * unit

    @cached_property
    def slack(self) -> float:
        """What rounding does to `lengths`, relative."""
        return (max(self.soc, default=0) + 8) * UNIT

    @cached_property
    def centre(self) -> np.ndarray:
        """(m,) a direction into the cone, 0 in the rows of equalities."""
        e = np.zeros(self.ends[-1])
        e[self.zero : self.ends[1]] = 1.0
        e[self.heads] = 1.0
        for rows, _, i, j in self.triangles():
            e[rows] = i == j
        e[self.ends[3] : self.ends[4]] = np.tile([-1.0, 1.0, 1.0], self.exp)
        e[self.ends[4] :] = np.tile([1.0, 1.0, 0.0], len(self.power))
        return e

    # --- membership --------------------------------------------------------------------------------------------------

    def excess(self, s: Rows) -> Blocks:
        """How far s is outside, block by block; ≤ 0 inside."""
        parts = [s[:, : self.zero].abs(), -s[:, self.zero : self.ends[1]]]
        if self.soc:
            parts.append(self.lengths(s) - s[:, self.heads])
        for one in self.triangles():
            S = self.matrix(s, *one)
            good = S.isfinite().all(-1).all(-1)[:, None]
            parts.append(
                torch.where(good, -torch.linalg.eigvalsh(torch.where(good[..., None], S, 0.0))[:, :1], math.nan)
            )
        parts += [_exp_excess(*self.triples(s, 4))] * (self.exp > 0)
        parts += [self._power_excess(*self.triples(s, 5))] * bool(self.power)
        return torch.cat(parts, -1)

    def blur(self, s: Rows, ds: Rows) -> Blocks:
        """What rounding can do to `excess` if s is known to ±ds."""
        parts = [ds[:, : self.ends[1]]]
        if self.soc:
            parts.append(self.lengths(s) * self.slack + self.lengths(ds) * (1 + self.slack) + ds[:, self.heads])
        for rows, n, *_ in self.triangles():
            parts.append(
                (16 * n * UNIT * s[:, rows].norm(dim=-1) + ds[:, rows].norm(dim=-1) * (1 + gamma(n * n)))[:, None]
            )
        if self.exp:
            (x, y, z), (dx, dy, dz) = self.triples(s, 4), self.triples(ds, 4)
            here = _exp_excess(x, y, z)
            corners = torch.stack([_exp_excess(x + dx, y + side * dy, z - dz) for side in (-1, 1)]).amax(0)
            size = (here + z).abs() * (8 + 4 * (x / y).abs()) + z.abs()
            parts.append(torch.where(y > 0, (corners - here).clamp_min(0) + UNIT * size, math.inf))
        if self.power:
            (x, y, z), (dx, dy, dz) = self.triples(s, 5), self.triples(ds, 5)
            product = self._product(x, y)
            change = product - self._product(x - dx, y - dy) + dz + 16 * UNIT * (product + z.abs())
            parts.append(torch.where((x < dx) | (y < dy), math.inf, change))
        return torch.cat(parts, -1)

    def _product(self, x: Tensor, y: Tensor) -> Tensor:
        a = torch.tensor(self.power, dtype=torch.float64, device=x.device)
        return x.clamp_min(0) ** a * y.clamp_min(0) ** (1 - a)

    def _power_excess(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return torch.where((x >= 0) & (y >= 0), z.abs() - self._product(x, y), math.inf)

    # --- the dual cone -----------------------------------------------------------------------------------------------

    def dual(self, u: Rows) -> Rows:
        """A point of the dual cone near u, for certain: heads and diagonals are raised by what rounding could hide."""
        u = u.clone()
        u[:, self.zero : self.ends[1]].clamp_(min=0)
        if self.soc:
            u[:, self.heads] = torch.maximum(u[:, self.heads], self.lengths(u) * (1 + 2 * self.slack))
        for rows, n, i, j in self.triangles():
            S = self.matrix(u, rows, n, i, j)
            good = S.isfinite().all(-1).all(-1)[:, None]
            values, vectors = torch.linalg.eigh(torch.where(good[..., None], S, 0.0))
            values = torch.where(good, values, math.nan)
            U = (vectors * values.clamp_min(0)[:, None]) @ vectors.mT
            U = U + (32 * n * UNIT * values.abs().amax(-1))[:, None, None] * torch.eye(
                n, dtype=u.dtype, device=u.device
            )
            u[:, rows] = U[:, i, j] * torch.from_numpy(np.where(i == j, 1.0, math.sqrt(2.0))).to(u.device)
        if self.exp:
            u[:, self.ends[3] : self.ends[4]] = torch.stack(_exp_dual(*self.triples(u, 4)), -1).flatten(1)
        if self.power:
            a = torch.tensor(self.power, dtype=torch.float64, device=u.device)
            x, y, z = self.triples(u, 5)
            x, y = x.clamp_min(0), y.clamp_min(0)
            most = self._product(x / a, y / (1 - a)) * (1 - 32 * UNIT)
            u[:, self.ends[4] :] = torch.stack([x, y, torch.maximum(torch.minimum(z, most), -most)], -1).flatten(1)
        return u

    def charge(self, u: Rows, rho: Blocks) -> Float[Tensor, " N"]:
        """What u of the dual cone pays at most for blocks that are widened by `rho`."""
        weight = [u[:, : self.ends[1]].abs(), u[:, self.heads]]
        weight += [u[:, rows][:, i == j].sum(-1, keepdim=True) for rows, _, i, j in self.triangles()]
        weight += [self.triples(u, 4)[2]] * (self.exp > 0) + [self.triples(u, 5)[2].abs()] * bool(self.power)
        return (torch.cat(weight, -1) * rho).sum(-1) * (1 + gamma(u.shape[-1] + 2))

    # --- bounds on rows ----------------------------------------------------------------------------------------------

    def box(self, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on each row of a point whose rows are at most `high` (N, m): concave, increasing functions of it."""
        low, most = np.full_like(high, -np.inf), high.copy()
        low[:, : self.ends[1]] = 0.0
        most[:, : self.zero] = 0.0
        if self.soc:
            low[:, self.heads] = 0.0
            tails, label = (part.numpy() for part in self.tails)
            most[:, tails] = np.minimum(most[:, tails], high[:, self.heads][:, label])
            low[:, tails] = -high[:, self.heads][:, label]
        for rows, _, i, j in self.triangles():
            diagonal = np.flatnonzero(i == j) + rows.start
            low[:, diagonal] = 0.0
            off = np.flatnonzero(i != j)
            size = math.sqrt(0.5) * (1 + 4 * UNIT) * (high[:, diagonal[i[off]]] + high[:, diagonal[j[off]]])
            most[:, off + rows.start] = np.minimum(most[:, off + rows.start], size)
            low[:, off + rows.start] = -size
        x, y, z = (np.arange(self.ends[3] + k, self.ends[4], 3) for k in range(3))
        low[:, y], low[:, z] = 0.0, 0.0
        most[:, x] = np.minimum(most[:, x], high[:, z] * 0.3679)  # max_y y·log(z/y) = z/e
        x, y, z = (np.arange(self.ends[4] + k, self.ends[5], 3) for k in range(3))
        low[:, x], low[:, y] = 0.0, 0.0
        size = high[:, x] + high[:, y]
        low[:, z], most[:, z] = -size, np.minimum(most[:, z], size)
        return low, most

    # --- CVXPY -------------------------------------------------------------------------------------------------------

    def text(
        self, s: Callable[[np.ndarray], cp.Expression], soft: cp.Expression | None = None
    ) -> list[tuple[cp.Constraint, np.ndarray, Reader]]:
        """Constraints that say s ∈ K, `s(rows)` being some of its rows; of each the rows, and what reads their duals.

        `soft` ≤ 0 widens the equalities to |s| ≤ −soft.
        """
        found: list[tuple[cp.Constraint, np.ndarray, Reader]] = []

        def add(row: cp.Constraint, at: np.ndarray, read: Callable[[cp.Constraint], np.ndarray]) -> None:
            found.append((row, at, lambda: read(row)))

        kinds = np.split(np.arange(self.ends[-1]), self.ends[:-1])
        if self.zero and soft is None:
            add(s(kinds[0]) == 0, kinds[0], lambda row: -row.dual_value)
        elif self.zero:
            add(s(kinds[0]) >= soft, kinds[0], lambda row: row.dual_value)
            add(-s(kinds[0]) >= soft, kinds[0], lambda row: -row.dual_value)
        if self.nonneg:
            add(s(kinds[1]) >= 0, kinds[1], lambda row: row.dual_value)
        sizes = np.array(self.soc)
        for n in sorted(set(self.soc)):
            heads = self.heads[sizes == n]
            at = heads[:, None] + np.arange(n)
            if n == 1:
                add(s(heads) >= 0, heads, lambda row: row.dual_value)
                continue
            tail = cp.reshape(s(at[:, 1:].ravel()), (len(heads), n - 1), order="C")
            add(cp.SOC(s(heads), tail, axis=1), at.ravel(), _soc_dual)
        for rows, n, i, j in self.triangles():
            weight = np.where(i == j, 1.0, math.sqrt(0.5))
            k = np.arange(len(i))
            both = [np.concatenate([part, part[i != j]]) for part in (weight, k)]
            place = np.concatenate([i + n * j, (j + n * i)[i != j]])
            spread = sp.csr_array((both[0], (place, both[1])), shape=(n * n, len(i)))
            at = np.arange(rows.start, rows.stop)
            S = cp.reshape(spread @ s(at), (n, n), order="F")
            add(S >> 0, at, partial(_matrix_dual, i, j))
        if self.exp:
            at = kinds[4].reshape(-1, 3)
            x, y, z = (s(at[:, k]) for k in range(3))
            add(cp.ExpCone(x, y, z), at.ravel(), _triple_dual)
        if self.power:
            at = kinds[5].reshape(-1, 3)
            x, y, z = (s(at[:, k]) for k in range(3))
            add(cp.PowCone3D(x, y, z, np.array(self.power)), at.ravel(), _triple_dual)
        return found


def _matrix_dual(i: np.ndarray, j: np.ndarray, row: cp.Constraint) -> np.ndarray:
    return np.asarray(row.dual_value[i, j] * np.where(i == j, 1.0, math.sqrt(2.0)))


def _soc_dual(row: cp.Constraint) -> np.ndarray:
    head, tail = row.dual_value
    return np.concatenate([np.reshape(head, (-1, 1)), np.reshape(tail, (np.size(head), -1))], 1).ravel()


def _triple_dual(row: cp.Constraint) -> np.ndarray:
    return np.stack([np.ravel(part) for part in row.dual_value], 1).ravel()


def _exp_excess(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """y e^{x/y} − z; on the edge y = 0, where x ≤ 0, −z."""
    edge = torch.where((y == 0) & (x <= 0), -z, math.inf)
    return torch.where(y > 0, y * (x / torch.where(y > 0, y, 1.0)).exp() - z, edge)


def _exp_dual(u: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A point of the dual of the exponential cone, u < 0, −u e^{v/u} ≤ e·w (or u = 0 ≤ v, w): v or w is raised."""
    u, w = u.clamp_max(0), w.clamp_min(0)
    inner = u < 0
    a = torch.where(inner, -u, 1.0)
    wanted = (-v / a - 1).exp() * a
    wanted = wanted * (1 + 16 * UNIT * (4 + (v / a).abs()))
    least = -a * (1 + torch.log(w / a))
    least = least + 16 * UNIT * (least.abs() + a)
    raise_w = inner & (wanted > w) & (wanted - w <= (least - v).nan_to_num(math.inf, math.inf, math.inf))
    raise_v = inner & (wanted > w) & ~raise_w
    return (
        u,
        torch.where(raise_v, torch.maximum(v, least), torch.where(inner, v, v.clamp_min(0))),
        torch.where(raise_w, wanted, w),
    )
