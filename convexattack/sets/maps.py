"""Maps K: R^d → R^r, through which a set sees a perturbation; a set's multiplier lives in the r rows."""

from __future__ import annotations

import abc
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import UNIT, gamma, times
from convexattack.sets.atoms import fits, numbers, replaced

__all__ = ["Diagonal", "Identity", "Map", "Rows"]


class Map(abc.ABC):
    """A linear map K for each of N items: a frozen record that copies its data. Everything is float64."""

    @abc.abstractmethod
    def check(self, n: int, d: int) -> None:
        """Raise ValueError unless the map can serve N items in d dimensions."""

    @abc.abstractmethod
    def rows(self, d: int) -> int:
        """r."""

    @abc.abstractmethod
    def __call__(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N r"]:
        """Kη."""

    @abc.abstractmethod
    def pull(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N d"]:
        """Kᵀu."""

    @abc.abstractmethod
    def absolute(self, a: Float[Tensor, "N d"]) -> Float[Tensor, "N r"]:
        """|K|a, for a ≥ 0; 0·∞ = 0."""

    @abc.abstractmethod
    def blur(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N r"]:
        """What rounding can do to Kη."""

    @abc.abstractmethod
    def pull_blur(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N d"]:
        """What rounding can do to Kᵀu."""

    @abc.abstractmethod
    def row_lengths(self, norm: Lp, d: int) -> Float[Tensor, "..."]:
        """‖K_i‖ of each row, (r,) or (N, r) or a number for all."""

    @abc.abstractmethod
    def lift(self, v: Float[Tensor, "N d"]) -> Float[Tensor, "N r"] | None:
        """u with Kᵀu = v, ±∞ where a coordinate has none; None where it is not known."""

    @abc.abstractmethod
    def take(self, rows: Int[Tensor, " M"]) -> Map:
        """K of these items."""

    @abc.abstractmethod
    def parameters(self, n: int, d: int) -> dict[str, np.ndarray]:
        """The numbers in K's text that differ by item, one row an item."""

    @abc.abstractmethod
    def text(self, eta: cp.Expression, parameters: Mapping[str, Any]) -> cp.Expression:
        """Kη in CVXPY."""

    @abc.abstractmethod
    def table(self, d: int) -> Float[Tensor, "*N r d"]:
        """K entry by entry, (r, d) where it serves all items, else (N, r, d)."""


@dataclass(frozen=True, eq=False)
class Identity(Map):
    """K = I."""

    def check(self, n: int, d: int) -> None:
        pass

    def rows(self, d: int) -> int:
        return d

    def __call__(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return eta

    def pull(self, u: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return u

    def absolute(self, a: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return a

    def blur(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return torch.zeros_like(eta)

    def pull_blur(self, u: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return torch.zeros_like(u)

    def row_lengths(self, norm: Lp, d: int) -> Float[Tensor, "..."]:
        return torch.ones((), dtype=torch.float64)

    def lift(self, v: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return v

    def take(self, rows: Int[Tensor, " M"]) -> Identity:
        return self

    def parameters(self, n: int, d: int) -> dict[str, np.ndarray]:
        return {}

    def text(self, eta: cp.Expression, parameters: Mapping[str, Any]) -> cp.Expression:
        return eta

    def table(self, d: int) -> Float[Tensor, "d d"]:
        return torch.eye(d, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Diagonal(Map):
    """K = Diag(weights): a weight for each coordinate.

    Args:
        weights: ≥ 0, a tensor that broadcasts to (N, d); 0 leaves a coordinate free.

    Raises:
        ValueError: a weight that is negative, NaN or infinite.
    """

    weights: Tensor

    def __post_init__(self) -> None:
        weights = torch.as_tensor(numbers("weights", self.weights))
        if weights.numel() and not bool((weights.isfinite() & (weights >= 0)).all()):
            raise ValueError(f"weights must be finite numbers >= 0, got {self.weights}; 0 leaves a coordinate free")
        object.__setattr__(self, "weights", weights)

    def check(self, n: int, d: int) -> None:
        fits("weights", self.weights, (n, d), "(N, d)")

    def rows(self, d: int) -> int:
        return d

    def of(self, like: Tensor) -> Float[Tensor, "N d"]:
        """The weights of each item."""
        return self.weights.to(like.device).expand(like.shape)

    def __call__(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return times(self.of(eta), eta)

    def pull(self, u: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return times(self.of(u), u)

    def absolute(self, a: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return times(self.of(a), a)

    def blur(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return self(eta).abs() * UNIT

    def pull_blur(self, u: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return self(u).abs() * UNIT

    def row_lengths(self, norm: Lp, d: int) -> Float[Tensor, "..."]:
        return self.weights

    def lift(self, v: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        return torch.where(v == 0, 0.0, v / self.of(v))

    def take(self, rows: Int[Tensor, " M"]) -> Diagonal:
        if self.weights.ndim < 2 or len(self.weights) == 1:
            return self
        taken: Diagonal = replaced(self, weights=self.weights.index_select(0, rows.to(self.weights.device)))
        return taken

    def parameters(self, n: int, d: int) -> dict[str, np.ndarray]:
        return {"weights": self.weights.expand(n, d).cpu().numpy()}

    def text(self, eta: cp.Expression, parameters: Mapping[str, Any]) -> cp.Expression:
        return cp.multiply(parameters["weights"], eta)

    def table(self, d: int) -> Float[Tensor, "*N d d"]:
        return torch.diag_embed(self.weights.expand(*self.weights.shape[:-1], d))


@dataclass(frozen=True, eq=False)
class Rows(Map):
    """K given by its rows, dense or sparse.

    Args:
        matrix: (r, d) for all items, or (N, r, d); a tensor, a NumPy array or, for all items, a SciPy sparse array.

    Raises:
        ValueError: another shape, or an entry that is NaN or infinite.
        TypeError: integers.
    """

    matrix: Any

    def __post_init__(self) -> None:
        K = self.matrix
        if sp.issparse(K):
            K = sp.csr_array(K, dtype=np.float64, copy=True)
            K.sum_duplicates()
            finite = bool(np.isfinite(K.data).all())
        else:
            K = torch.as_tensor(numbers("the matrix of rows", K.to_dense() if isinstance(K, Tensor) else K))
            finite = bool(K.isfinite().all())
        if K.ndim not in (2, 3) or 0 in K.shape[-2:]:
            raise ValueError(
                f"the matrix of rows must have shape (r, d), or (N, r, d) for one an item, got {tuple(K.shape)}"
            )
        if not finite:
            raise ValueError("the matrix of rows holds a NaN or an infinite number; leave such a row out")
        object.__setattr__(self, "matrix", K)

    def check(self, n: int, d: int) -> None:
        if self.matrix.shape[-1] != d or (self.matrix.ndim == 3 and len(self.matrix) != n):
            raise ValueError(
                f"the matrix of rows must have shape (r, d) or (N, r, d) with N = {n}, d = {d}, "
                f"got {tuple(self.matrix.shape)}"
            )

    def rows(self, d: int) -> int:
        return int(self.matrix.shape[-2])

    @cached_property
    def _pair(self) -> tuple[Tensor, Tensor]:
        """K and |K| as tensors; sparse ones in rows."""
        K = self.matrix
        if isinstance(K, Tensor):
            return K, K.abs()
        made = [_sparse(part) for part in (K, abs(K))]
        return made[0], made[1]

    @cached_property
    def _turned(self) -> tuple[Tensor, Tensor]:
        """Kᵀ and |K|ᵀ."""
        K = self.matrix
        if isinstance(K, Tensor):
            return K.mT, K.mT.abs()
        made = [_sparse(sp.csr_array(part.T)) for part in (K, abs(K))]
        return made[0], made[1]

    @cached_property
    def _terms(self) -> tuple[int, int]:
        """The most entries of a row, and of a column, that are not 0."""
        K = self.matrix
        if isinstance(K, Tensor):
            return int((K != 0).sum(-1).max()), int((K != 0).sum(-2).max())
        return int(np.diff(K.indptr).max()), int(np.diff(sp.csc_array(K).indptr).max())

    def __call__(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N r"]:
        return _product(self._pair[0], eta)

    def pull(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N d"]:
        return _product(self._turned[0], u)

    def absolute(self, a: Float[Tensor, "N d"]) -> Float[Tensor, "N r"]:
        endless = a == math.inf
        if not bool(endless.any()):
            return _product(self._pair[1], a)
        free = _product(self._pair[1], endless.to(torch.float64)) > 0
        return torch.where(free, math.inf, _product(self._pair[1], torch.where(endless, 0.0, a)))

    def blur(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N r"]:
        return _product(self._pair[1], eta.abs()) * gamma(self._terms[0] + 2)

    def pull_blur(self, u: Float[Tensor, "N r"]) -> Float[Tensor, "N d"]:
        return _product(self._turned[1], u.abs()) * gamma(self._terms[1] + 2)

    def row_lengths(self, norm: Lp, d: int) -> Float[Tensor, "..."]:
        K = self.matrix
        if isinstance(K, Tensor):
            return norm.length(K)
        starts, size = np.diff(K.indptr), max(1, self._terms[0])
        place = np.arange(K.nnz) - np.repeat(K.indptr[:-1], starts)
        table = np.zeros((K.shape[0], size))
        table[np.repeat(np.arange(K.shape[0]), starts), place] = K.data
        return norm.length(torch.from_numpy(table))

    def lift(self, v: Float[Tensor, "N d"]) -> Float[Tensor, "N r"] | None:
        return None

    def take(self, rows: Int[Tensor, " M"]) -> Rows:
        if self.matrix.ndim == 2:
            return self
        taken: Rows = replaced(self, matrix=self.matrix.index_select(0, rows.to(self.matrix.device)))
        return taken

    def parameters(self, n: int, d: int) -> dict[str, np.ndarray]:
        return {"rows": self.matrix.cpu().numpy()} if self.matrix.ndim == 3 else {}

    def text(self, eta: cp.Expression, parameters: Mapping[str, Any]) -> cp.Expression:
        K = parameters.get("rows", self.matrix)
        if isinstance(K, Tensor):
            K = K.cpu().numpy()
            K = sp.csr_array(K) if np.count_nonzero(K) < K.size / 4 else K
        product: cp.Expression = K @ eta
        return product

    def table(self, d: int) -> Float[Tensor, "*N r d"]:
        return self.matrix if isinstance(self.matrix, Tensor) else torch.from_numpy(self.matrix.toarray())


def _sparse(K: Any) -> Tensor:
    starts, columns = (torch.from_numpy(np.asarray(part, dtype=np.int64)) for part in (K.indptr, K.indices))
    with warnings.catch_warnings():  # torch calls its sparse rows a beta
        warnings.simplefilter("ignore", UserWarning)
        entries = torch.from_numpy(K.data.copy())
        return torch.sparse_csr_tensor(starts, columns, entries, K.shape, check_invariants=False)


def _product(K: Tensor, x: Float[Tensor, "N d"]) -> Tensor:
    """Kx, item by item."""
    K = K.to(x.device)
    if K.layout == torch.sparse_csr:
        return (K @ x.mT.contiguous()).mT
    return x @ K.mT if K.ndim == 2 else (K @ x[..., None]).squeeze(-1)
