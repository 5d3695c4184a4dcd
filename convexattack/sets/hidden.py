"""Bounds on the unknowns of a user's text, by interval propagation over its rows and the heads of its cones, rounded outwards."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from convexattack.numerics import UNIT
from convexattack.sets.cones import Cones

__all__ = ["bounds"]

SWEEPS = 12
SHORT = 8  # entries: a longer row without unknowns of the text says little of each of its coordinates


def bounds(
    K: sp.csr_array, hidden: sp.csr_array, cones: Cones, b: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on each entry of (η, x), given some of η, where b − Kη − hidden·x is in the cones.

    Args:
        K, hidden: (m, d) and (m, k).
        b: (N, m).
        low, high: (N, d) what is known of η; ±∞ where nothing is.

    Returns:
        (N, d + k) each.
    """
    n, k = len(b), hidden.shape[1]
    low, high = (np.concatenate([part, np.full((n, k), end)], 1) for part, end in ((low, -np.inf), (high, np.inf)))
    sums, one, two = _opposite(K, hidden, cones)
    whole = sp.csr_array(sp.vstack([sp.hstack([K, hidden]), sums]))
    both = np.concatenate([b, b[:, one] + b[:, two]], 1)
    counts = np.diff(whole.indptr)
    unknown = np.concatenate([np.diff(hidden.indptr), np.ones(len(one))])
    kept = np.flatnonzero((counts > 0) & ((unknown > 0) | (counts <= SHORT)))
    if not len(kept):
        return low, high
    table = _Table(whole[kept])
    for _ in range(SWEEPS):
        closer = table.sweep(both, kept, cones, low, high)
        finite = np.isfinite(closer[0]).sum() + np.isfinite(closer[1]).sum()
        before = np.isfinite(low).sum() + np.isfinite(high).sum()
        wide, wider = (np.where(np.isfinite(w), w, 0.0).sum() for w in (closer[1] - closer[0], high - low))
        low, high = closer
        if finite == before and wide >= 0.99 * wider:
            break
    return low, high


def _opposite(K: sp.csr_array, hidden: sp.csr_array, cones: Cones) -> tuple[sp.csr_array, np.ndarray, np.ndarray]:
    """Sums of two inequalities in which η cancels: −η − x ≤ 0 and η − x ≤ 0 say x ≥ 0, which no single row does."""
    seen: dict[tuple[bytes, bytes], int] = {}
    one, two = [], []
    for i in range(cones.ends[0], cones.ends[1]):
        row = slice(K.indptr[i], K.indptr[i + 1])
        if row.start == row.stop or hidden.indptr[i] == hidden.indptr[i + 1]:
            continue
        places = K.indices[row].tobytes()
        other = seen.get((places, (-K.data[row]).tobytes()))
        if other is None:
            seen[places, K.data[row].tobytes()] = i
        else:
            one.append(other)
            two.append(i)
    sums = sp.csr_array(hidden[one] + hidden[two]) if one else sp.csr_array((0, hidden.shape[1]))
    wide = sp.csr_array(sp.hstack([sp.csr_array((len(one), K.shape[1])), sums]))
    wide.eliminate_zeros()
    return wide, np.array(one, dtype=int), np.array(two, dtype=int)


class _Table:
    """The entries of the rows that are used, by row and by column."""

    def __init__(self, A: sp.csr_array) -> None:
        self.starts, self.columns, self.values = A.indptr[:-1], A.indices, A.data
        self.row = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
        self.terms = np.diff(A.indptr) + 4
        self.order = np.argsort(A.indices, kind="stable")
        self.places, self.first = np.unique(A.indices[self.order], return_index=True)

    def sweep(
        self, b: np.ndarray, kept: np.ndarray, cones: Cones, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each unknown bounded by what the others leave it in each row."""
        positive = self.values > 0
        ends = [self.values * part[:, self.columns] for part in (low, high)]
        least, most = np.where(positive, *ends), np.where(positive, *ends[::-1])
        sums, lost = zip(*(self._sums(part) for part in (least, most)), strict=True)
        own = b[:, kept]
        size = np.abs(own) + sum(self._sums(np.abs(part))[0] for part in (least, most))
        error = 4 * UNIT * self.terms * size
        above = np.full_like(b, np.inf)
        above[:, kept] = np.where(lost[0] == 0, own - sums[0] + error, np.inf)
        m = cones.ends[-1]
        floor, ceiling = cones.box(above[:, :m])
        more = b.shape[1] - m
        floor = np.concatenate([floor, np.zeros((len(b), more))], 1)[:, kept]
        ceiling = np.concatenate([ceiling, np.full((len(b), more), np.inf)], 1)[:, kept]
        up = self._rest(own - floor + error, least, sums[0], lost[0], np.inf)
        down = self._rest(own - ceiling - error, most, sums[1], lost[1], -np.inf)
        out = 1 + 4 * UNIT
        tops, bottoms = np.where(positive, up, down) / self.values, np.where(positive, down, up) / self.values
        tops, bottoms = tops + np.abs(tops) * (out - 1), bottoms - np.abs(bottoms) * (out - 1)
        low, high = low.copy(), high.copy()
        low[:, self.places] = np.maximum(
            low[:, self.places], np.maximum.reduceat(bottoms[:, self.order], self.first, 1)
        )
        high[:, self.places] = np.minimum(high[:, self.places], np.minimum.reduceat(tops[:, self.order], self.first, 1))
        return low, high

    def _sums(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row by row: the sum of what is finite, and how much is not."""
        finite = np.isfinite(part)
        return np.add.reduceat(np.where(finite, part, 0.0), self.starts, 1), np.add.reduceat(
            ~finite, self.starts, 1, dtype=int
        )

    def _rest(self, own: np.ndarray, part: np.ndarray, total: np.ndarray, lost: np.ndarray, none: float) -> np.ndarray:
        """own − the sum of the other entries of the row, `none` where one of them is infinite."""
        finite = np.isfinite(part)
        others = lost[:, self.row] - ~finite
        return np.where(others == 0, own[:, self.row] - (total[:, self.row] - np.where(finite, part, 0.0)), none)
