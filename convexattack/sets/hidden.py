"""Bounds on the unknowns of a user's text, by interval propagation over its rows and cones, rounded outwards."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from convexattack.numerics import UNIT
from convexattack.sets.cones import Cones

__all__ = ["bounds"]

SWEEPS = 12
ROUNDS = 4
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
    sums = _implied(K, hidden, cones)
    plain = sp.csr_array(sp.hstack([K, hidden]))
    whole = sp.csr_array(sp.vstack([plain, sums @ plain]))
    whole.eliminate_zeros()
    both = np.concatenate([b, (sums @ b.T).T], 1)
    counts = np.diff(whole.indptr)
    unknown = np.concatenate([np.diff(hidden.indptr), np.ones(sums.shape[0])])
    kept = np.flatnonzero((counts > 0) & ((unknown > 0) | (counts <= SHORT)))
    if not len(kept):
        return low, high
    table = _Table(whole[kept], counts == 0)
    low, high = table.settled(both, kept, cones, low, high)
    if np.isfinite(low).all() and np.isfinite(high).all():
        return low, high
    return table.settled(both, kept, cones, *_trapped(table, both, kept, cones, low, high))


def _trapped(
    table: _Table, b: np.ndarray, kept: np.ndarray, cones: Cones, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that no single row gives, as of s² ≤ ar and a² ≤ ts (p = 3), where each unknown is bounded by the others.

    Let the unbounded ones be at most M in size; propagation then says x_k ≤ h_k(M), a concave function. Where
    h_k(M) < M and h_k grows by less than M does, the same holds for all larger M, so that no point of the set has its
    largest such entry at any of them: M is a bound.
    """
    endless = ~np.isfinite(low), ~np.isfinite(high)
    known = [np.where(np.isfinite(part), np.abs(part), 0.0).max(1, keepdims=True) for part in (low, high, b)]
    M = 1e3 * (1.0 * (sum(known) == 0) + sum(known))
    for _ in range(ROUNDS):
        found = []
        for size, outwards in ((M, 1), (M / 4, -1)):  # h_k(M) from above, h_k(M/4) from below
            ends = np.where(endless[0], -size, low), np.where(endless[1], size, high)
            for _ in range(SWEEPS):
                ends = table.sweep(b, kept, cones, *ends, outwards)
            found.append(ends)
        (low_m, high_m), (low_q, high_q) = found
        good = -low_m < 0.9 * M, high_m < 0.9 * M
        with np.errstate(invalid="ignore"):
            slow = low_q - low_m <= 0.7 * M, high_m - high_q <= 0.7 * M  # where M grew by 0.75·M
        kept_ends = [e & g & s for e, g, s in zip(endless, good, slow, strict=True)]
        if all((e == k).all() for e, k in zip(endless, kept_ends, strict=True)):
            return np.where(endless[0], low_m, low), np.where(endless[1], high_m, high)
        endless = kept_ends[0], kept_ends[1]
        if not any(part.any() for part in endless):
            break
    return low, high


def _implied(K: sp.csr_array, hidden: sp.csr_array, cones: Cones) -> sp.csr_array:
    """Sums of rows that are at least 0 and say more than each by itself, as a matrix that takes rows to sums.

    Two inequalities in which η cancels: x − η ≥ 0 and x + η ≥ 0 say x ≥ 0. The head of a second-order cone plus or
    minus another row of it: ‖(x − y, 2w)‖ ≤ x + y says x, y ≥ 0.
    """
    pairs: list[tuple[int, int, float]] = []
    seen: dict[tuple[bytes, bytes], int] = {}
    for i in range(cones.ends[0], cones.ends[1]):
        row = slice(K.indptr[i], K.indptr[i + 1])
        if row.start == row.stop or hidden.indptr[i] == hidden.indptr[i + 1]:
            continue
        places = K.indices[row].tobytes()
        other = seen.get((places, (-K.data[row]).tobytes()))
        if other is None:
            seen[places, K.data[row].tobytes()] = i
        else:
            pairs.append((other, i, 1.0))
    rows, label = (part.numpy() for part in cones.tails)
    for i, head in zip(rows, cones.heads[label], strict=True):
        if hidden.indptr[i] != hidden.indptr[i + 1]:
            pairs += [(head, i, 1.0), (head, i, -1.0)]
    one, two, sign = (np.array(part) for part in zip(*pairs, strict=True)) if pairs else (np.zeros(0, int),) * 3
    k = np.arange(len(pairs))
    entries = np.concatenate([np.ones(len(pairs)), sign]), (np.tile(k, 2), np.concatenate([one, two]))
    return sp.csr_array(entries, shape=(len(pairs), K.shape[0]))


class _Table:
    """The entries of the rows that are used, by row and by column."""

    def __init__(self, A: sp.csr_array, bare: np.ndarray) -> None:
        self.bare = bare  # rows of numbers alone
        self.starts, self.columns, self.values = A.indptr[:-1], A.indices, A.data
        self.row = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
        self.terms = np.diff(A.indptr) + 4
        self.order = np.argsort(A.indices, kind="stable")
        self.places, self.first = np.unique(A.indices[self.order], return_index=True)

    def settled(
        self, b: np.ndarray, kept: np.ndarray, cones: Cones, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sweeps until little changes."""
        for _ in range(SWEEPS):
            closer = self.sweep(b, kept, cones, low, high)
            finite = np.isfinite(closer[0]).sum() + np.isfinite(closer[1]).sum()
            before = np.isfinite(low).sum() + np.isfinite(high).sum()
            wide, wider = (np.where(np.isfinite(w), w, 0.0).sum() for w in (closer[1] - closer[0], high - low))
            low, high = closer
            if finite == before and wide >= 0.99 * wider:
                break
        return low, high

    def sweep(
        self, b: np.ndarray, kept: np.ndarray, cones: Cones, low: np.ndarray, high: np.ndarray, outwards: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each unknown bounded by what the others leave it in each row; rounded inwards for `outwards` = −1."""
        positive = self.values > 0
        ends = [self.values * part[:, self.columns] for part in (low, high)]
        least, most = np.where(positive, *ends), np.where(positive, *ends[::-1])
        sums, lost = zip(*(self._sums(part) for part in (least, most)), strict=True)
        own = b[:, kept]
        size = np.abs(own) + sum(self._sums(np.abs(part))[0] for part in (least, most))
        error = outwards * 4 * UNIT * self.terms * size
        above = np.where(self.bare, b, np.inf)
        above[:, kept] = np.where(lost[0] == 0, own - sums[0] + error, np.inf)
        m = cones.ends[-1]
        floor, ceiling = cones.box(above[:, :m])
        more = b.shape[1] - m
        floor = np.concatenate([floor, np.zeros((len(b), more))], 1)[:, kept]
        ceiling = np.concatenate([ceiling, np.full((len(b), more), np.inf)], 1)[:, kept]
        up = self._rest(own - floor + error, least, sums[0], lost[0], np.inf)
        down = self._rest(own - ceiling - error, most, sums[1], lost[1], -np.inf)
        tops, bottoms = np.where(positive, up, down) / self.values, np.where(positive, down, up) / self.values
        more = outwards * 4 * UNIT
        tops, bottoms = (
            end + sign * more * np.where(np.isfinite(end), np.abs(end), 0.0) for end, sign in ((tops, 1), (bottoms, -1))
        )
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
