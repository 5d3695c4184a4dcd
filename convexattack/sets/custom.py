"""Any convex set that CVXPY can write, canonicalized once in units of η: {η : b − A_ηη − A_x x ∈ K for some x}.

A multiplier u lives in the rows, in the dual cone K*. Members have uᵀ(b − A_ηη − A_x x) ≥ 0, hence
uᵀA_ηη ≤ bᵀu − (A_xᵀu)ᵀx: the price is bᵀu, and what A_xᵀu leaves of 0 is charged against a bound on x, found by
interval propagation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.numerics import UNIT, gamma, rounding_slack, times
from convexattack.sets.atoms import Atom, fits, replaced
from convexattack.sets.base import ATOMS, ConvexSet, Equalities, Extent
from convexattack.sets.cones import Cones
from convexattack.sets.hidden import bounds
from convexattack.sets.maps import Rows

__all__ = ["ConeSlice", "CustomSet"]

Build = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class ConeSlice(Atom):
    """{z : b − z − A_x x ∈ K for some x}, K a product of cones. σ(u) ≤ bᵀu for u ∈ K* with A_xᵀu = 0.

    Args:
        b: (m,) or (N, m); ∞ in a row of an inequality means "no bound".
        hidden: A_x as `ca.maps.Rows`, or None without unknowns x.
        cones: K.
    """

    b: Tensor
    hidden: Rows | None
    cones: Cones
    shared: ClassVar[Mapping[str, int]] = {"b": 1}

    def check(self, n: int, r: int) -> None:
        fits("b", self.b, (n, r), "(N, m)")

    def take(self, rows: Int[Tensor, " M"]) -> Atom:
        hidden = None if self.hidden is None else self.hidden.take(rows)
        return replaced(super().take(rows), hidden=hidden)

    def right(self, like: Float[Tensor, "N m"]) -> Float[Tensor, "N m"]:
        """b of each item."""
        return self.b.to(like.device).expand(like.shape)

    def valid(self, like: Float[Tensor, "N m"]) -> Bool[Tensor, " N"]:
        b = self.right(like)
        open_ = torch.zeros(b.shape[1], dtype=torch.bool, device=b.device)
        open_[self.cones.zero : self.cones.ends[1]] = True
        return (b.isfinite() | ((b == math.inf) & open_)).all(-1)

    def slack(self, z: Float[Tensor, "N m"], aux: Tensor | None) -> Float[Tensor, "N m"] | None:
        """s = b − z − A_x x; None where x is not known."""
        s = self.right(z) - z
        if self.hidden is None:
            return s
        return None if aux is None else s - self.hidden(aux.to(z))

    def excess(self, z: Float[Tensor, "N m"], aux: Tensor | None = None) -> Float[Tensor, "N k"]:
        s = self.slack(z, aux)
        return self.cones.excess(z).fill_(math.inf) if s is None else self.cones.excess(s)

    def blur(
        self, z: Float[Tensor, "N m"], dz: Float[Tensor, "N m"], aux: Tensor | None = None
    ) -> Float[Tensor, "N k"]:
        s = self.slack(z, aux)
        if s is None:
            return self.cones.excess(z).fill_(0.0)
        b = self.right(z)
        ds = dz + 2 * UNIT * (torch.where(b.isfinite(), b.abs(), 0.0) + z.abs())
        if self.hidden is not None and aux is not None:
            ds = ds + self.hidden.blur(aux.to(z)) + 2 * UNIT * self.hidden.absolute(aux.to(z).abs())
        return self.cones.blur(s, ds)

    def tied(self, excess: Float[Tensor, "N k"]) -> Bool[Tensor, "N k"]:
        return (torch.arange(excess.shape[1], device=excess.device) < self.cones.zero).expand(excess.shape)

    def widths(self, reach: Float[Tensor, "N m"]) -> Float[Tensor, "N k"]:
        b = self.right(reach)
        size = torch.where(b.isfinite(), b.abs(), 0.0) + reach
        block = torch.from_numpy(self.cones.block).to(reach.device).expand(reach.shape)
        found = reach.new_zeros(len(reach), int(self.cones.block[-1]) + 1)
        return found.scatter_reduce(-1, block, size, "amax")

    def support(self, u: Float[Tensor, "N m"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        terms = times(u, self.right(u))
        return terms.sum(-1), terms.abs().sum(-1) * rounding_slack(u.shape[-1] ** 2)

    def apart(
        self, u: Float[Tensor, "N m"], z: Float[Tensor, "N m"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        terms = times(u, self.right(u) - z)
        return terms.sum(-1), terms.abs().sum(-1) * rounding_slack(u.shape[-1] ** 2)

    def charge(self, u: Float[Tensor, "N m"], rho: Float[Tensor, "N k"]) -> Float[Tensor, " N"]:
        return self.cones.charge(u, rho)

    def clip(self, u: Float[Tensor, "N m"]) -> Float[Tensor, "N m"]:
        return self.cones.dual(torch.where(self.right(u) == math.inf, 0.0, u))

    def recedes(self, ray: Float[Tensor, "N m"], blur: Float[Tensor, "N m"]) -> Bool[Tensor, " N"]:
        if self.hidden is not None:
            return torch.zeros_like(ray[:, 0], dtype=torch.bool)
        return (self.cones.excess(-ray) + self.cones.blur(-ray, blur) <= 0).all(-1)

    def extent(self, like: Float[Tensor, "N m"]) -> tuple[Float[Tensor, "N m"], Float[Tensor, "N m"]]:
        endless = torch.full_like(like, torch.inf)
        return -endless, endless

    def moved(self, by: Float[Tensor, "N m"]) -> ConeSlice:
        return replaced(self, b=self.right(by) + by)

    def scaled(self, by: Float[Tensor, " N"]) -> ConeSlice:
        return replaced(self, b=self.b.to(by.device) * by[:, None])

    def parameters(self, n: int, r: int) -> dict[str, np.ndarray]:
        return {"b": self.b.expand(n, r).cpu().numpy()}

    def text(self, z: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        b, x = parameters["b"], None
        if self.hidden is not None:
            x = self.hidden.text(cp.Variable(self.hidden.matrix.shape[-1], name="x"), {})
        return [row for row, *_ in self.cones.text(lambda at: b[at] - z[at] - (0 if x is None else x[at]))]


ATOMS.add(ConeSlice)


@dataclass(frozen=True, eq=False, init=False)
class CustomSet(ConvexSet):
    """Any convex set that CVXPY can write: one line adds a constraint to an attack.

    Args:
        build: a function from a CVXPY expression of shape (d,) to a list of constraints; with data, also of one keyword
            for each entry.
        data: numbers that differ by item, {"name": (N, ...)}; NaN makes an item INVALID.

    CVXPY's own unknowns are allowed in the text, and every cone but those of integers.

    >>> no_brightness_change = CustomSet(lambda eta: [cp.sum(eta) == 0])
    """

    atom: ConeSlice
    map: Rows
    build: Build = list
    data: Mapping[str, Tensor] = field(default_factory=dict)
    total: Tensor | None = None  # e: the text speaks of e + η

    def __init__(self, build: Build, data: Mapping[str, Any] | None = None) -> None:
        if not callable(build):
            raise TypeError(
                f"build must be a function eta -> [constraints], got {build!r}; write CustomSet(lambda eta: [...])"
            )
        rows = {
            name: torch.as_tensor(value).detach().to("cpu", torch.float64, copy=True)
            for name, value in (data or {}).items()
        }
        self.__dict__.update(atom=None, map=None, label="CustomSet", build=build, data=rows, total=None)

    # --- from the text to a cone slice -------------------------------------------------------------------------------

    def check(self, n: int, d: int) -> None:
        for name, rows in self.data.items():
            if rows.ndim == 0 or len(rows) != n:
                raise ValueError(
                    f"data[{name!r}] must have one row for each of the N = {n} items, got shape {tuple(rows.shape)}"
                )
        super(CustomSet, self.fitted(n, d)).check(n, d)

    def fitted(self, n: int, d: int) -> CustomSet:
        """The set in d dimensions: its text canonicalized, once."""
        if self.atom is not None:
            return self
        kept = self.__dict__.setdefault("_fits", {})
        if (n if self.data else 0, d) not in kept:
            kept[n if self.data else 0, d] = replaced(self, **self._canonicalized(n, d))
        fit: CustomSet = kept[n if self.data else 0, d]
        return fit

    def _canonicalized(self, n: int, d: int) -> dict[str, Any]:
        flat = [rows.reshape(len(rows), -1).isnan().any(-1) for rows in self.data.values()]
        good = ~torch.stack(flat).any(0) if flat else torch.ones(1, dtype=torch.bool)
        if not bool(good.any()):
            raise ValueError(f"data must have an item without NaN, got {', '.join(self.data)} with one in every item")
        found = {i: self._cone_form(cp.Variable(d, name="eta"), i) for i in good.nonzero()[:, 0].tolist()}
        _, hidden, b, cones = next(iter(found.values()))
        for other in found.values():
            if other[3] != cones or other[1].shape != hidden.shape:
                raise ValueError(
                    "build must write the same constraints for every item, with other numbers; got other cones"
                )
        right = np.full((len(good), len(b)), np.nan)
        right[list(found)] = [one[2] for one in found.values()]
        maps = [_rows([one[k] for one in found.values()], list(found), len(good)) for k in (0, 1)]
        atom = ConeSlice(torch.from_numpy(right if self.data else b), maps[1], cones)
        return {"atom": atom, "map": maps[0]}

    def _cone_form(self, eta: cp.Variable, i: int) -> tuple[sp.csr_array, sp.csr_array, np.ndarray, Cones]:
        """(A_η, A_x, b, K) of item i, in Clarabel's rows."""
        problem = cp.Problem(cp.Minimize(cp.sum(eta)), self._rows(eta, i))
        if not problem.is_dcp():
            wrong = "; ".join(str(row) for row in problem.constraints if not row.is_dcp())
            raise ValueError(f"build must return convex constraints: CVXPY's rules (DCP) do not accept {wrong}")
        if problem.is_mixed_integer():
            raise ValueError(
                "build must not use integer or boolean variables, which are not convex; relax them to an interval"
            )
        data = problem.get_problem_data(cp.CLARABEL)[0]
        dims, A = data["dims"], sp.csc_array(data["A"])
        if getattr(dims, "pnd", None):
            raise ValueError("build must not use power cones of more than three numbers; write them with cp.PowCone3D")
        start = data["param_prob"].var_id_to_col[eta.id]
        own = np.arange(start, start + eta.size)
        cones = Cones(dims.zero, dims.nonneg, tuple(dims.soc), tuple(dims.psd), int(dims.exp), tuple(dims.p3d))
        K, hidden = sp.csr_array(A[:, own]), sp.csr_array(A[:, np.setdiff1d(np.arange(A.shape[1]), own)])
        for part in (K, hidden):
            part.eliminate_zeros()
            part.sort_indices()
        return K, hidden, np.asarray(data["b"], dtype=float), cones

    def _rows(self, eta: cp.Expression, i: int) -> list[cp.Constraint]:
        """The user's text for item i."""
        rows = self.build(eta, **{name: rows[i].numpy() for name, rows in self.data.items()})
        rows = [rows] if isinstance(rows, cp.Constraint) else rows
        if not isinstance(rows, list | tuple) or not rows or not all(isinstance(row, cp.Constraint) for row in rows):
            raise TypeError(
                f"build must return a list of CVXPY constraints, got {rows!r}; write lambda eta: [cp.norm(eta, 1) <= 2]"
            )
        return list(rows)

    # --- unknowns of the text ----------------------------------------------------------------------------------------

    @property
    def hides(self) -> bool:
        """Whether the text has unknowns x of its own, whose values are η's witness."""
        return self.atom is not None and self.atom.hidden is not None

    @property
    def _hidden(self) -> Rows:
        assert self.atom.hidden is not None
        return self.atom.hidden

    def loose(self, u: Float[Tensor, "N m"], reach: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """What −(A_xᵀu)ᵀx is at most for |η_i| ≤ reach_i."""
        hidden = self._hidden
        left = hidden.pull(u).abs() + hidden.pull_blur(u)
        return times(left, self.unknowns(reach)).sum(-1) * (1 + gamma(left.shape[1] + 2))

    def unknowns(self, reach: Float[Tensor, "N d"]) -> Float[Tensor, "N k"]:
        """A bound on each |x_i| for |η_i| ≤ reach_i."""
        low, high = self._bounds(-reach, reach)
        return torch.maximum(low.abs(), high.abs())[:, reach.shape[1] :]

    def strayed(self, aux: Tensor | None) -> float | Float[Tensor, "N m"]:
        return 0.0 if aux is None or not self.hides else self._hidden.absolute(aux)

    def widths(self, reach: Float[Tensor, "N d"]) -> Float[Tensor, "N k"]:
        own = super().widths(reach)
        if not self.hides:
            return own
        x = self.unknowns(reach)
        size = self._hidden.absolute(torch.where(x < math.inf, x, 0.0))
        alone = replaced(self.atom, b=torch.zeros_like(size)).widths(size)
        return torch.where(own == 0, alone, own)  # of a row about x alone

    def extent(self, like: Float[Tensor, "N d"]) -> Extent:
        d = like.shape[1]
        endless = torch.full(like.shape, torch.inf, dtype=torch.float64, device=like.device)
        low, high = self._bounds(-endless, endless)
        return Extent(low[:, :d], high[:, :d])

    def _bounds(self, low: Float[Tensor, "N d"], high: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
        """Bounds on (η, x), those on η given; of the last two questions the answers are kept."""
        kept = self.__dict__.setdefault("_kept", [])
        for known in kept:
            if known[0].shape == high.shape and torch.equal(known[0], high):
                return known[1]  # type: ignore[no-any-return]
        n, m = len(high), self.map.rows(high.shape[1])
        b = self.atom.right(high.new_empty(()).expand(n, m)).nan_to_num(0.0, math.inf, -math.inf)
        numbers = [part.cpu().numpy() for part in (b, low, high)]
        differ = self.map.matrix.ndim == 3 or (self.atom.hidden is not None and self.atom.hidden.matrix.ndim == 3)
        alike = all((part == part[:1]).all() for part in numbers)  # one item speaks for all
        groups = [slice(i, i + 1) for i in range(n)] if differ else [slice(0, min(n, 1) if alike else n)]
        found = []
        for rows in groups:
            matrices = _item(self.map, rows.start), _item(self.atom.hidden, rows.start, m)
            found.append(bounds(*matrices, self.atom.cones, *(part[rows] for part in numbers)))
        ends = [np.concatenate(part) for part in zip(*found, strict=True)]
        answer = tuple(torch.from_numpy(end).to(high.device).expand(n, end.shape[1]) for end in ends)
        self.__dict__["_kept"] = [*kept[-1:], (high, answer)]
        return answer  # type: ignore[return-value]

    # --- membership --------------------------------------------------------------------------------------------------

    def equalities(self, eta: Float[Tensor, "N d"], aux: Tensor | None = None) -> Equalities | None:
        count, s = self.atom.cones.zero, self.atom.slack(self.map(eta), aux)
        if not count or s is None:
            return None
        tables = [None if part is None else _head(part, count).to(eta.device) for part in (self.map, self.atom.hidden)]
        return tables[0], tables[1], -s[:, :count]  # type: ignore[return-value]

    def violation(self, eta: Float[Tensor, "N d"], aux: Tensor | None = None) -> Float[Tensor, " N"]:
        """How far η is outside, as CVXPY evaluates the text; with a witness `aux`, in units of the cones' rows."""
        if aux is not None or (self.fitted(*eta.shape).hides is False):
            return super(CustomSet, self.fitted(*eta.shape)).violation(eta, aux)
        found = []
        for i, point in enumerate(eta.to("cpu", torch.float64)):
            variable = cp.Variable(len(point), name="eta")
            rows = self.constraints(variable, i, len(eta))
            variable.value = point.nan_to_num().numpy()
            worst = max(float(np.max(row.violation())) for row in rows)
            found.append(worst if bool(point.isfinite().all()) else math.nan)
        return torch.tensor(found, dtype=torch.float64, device=eta.device)

    def constraints(self, eta: cp.Expression, i: int = 0, n: int = 1) -> list[cp.Constraint]:
        return self._rows(eta if self.total is None else eta + self.total[i].cpu().numpy(), i if self.data else 0)

    # --- for other items, after a step, in other units ---------------------------------------------------------------

    def take(self, rows: Int[Tensor, " M"]) -> CustomSet:
        host = rows.cpu()
        total = None if self.total is None else self.total[rows.to(self.total.device)]
        parts: dict[str, Any] = {"data": {name: entry[host] for name, entry in self.data.items()}, "total": total}
        if self.atom is not None:
            parts |= {"atom": self.atom.take(rows), "map": self.map.take(rows)}
        return replaced(self, **parts)

    def shifted(self, total: Float[Tensor, "N d"]) -> CustomSet:
        fit = self.fitted(*total.shape)
        wide = total.to(torch.float64)
        whole = wide if self.total is None else self.total + wide
        return replaced(fit, atom=fit.atom.moved(-fit.map(wide)), total=whole)


def _rows(parts: list[sp.csr_array], items: list[int], n: int) -> Rows | None:
    """The map of n items from the matrices of some: one for all where they agree. None without columns."""
    first = parts[0]
    if not first.shape[1]:
        return None
    if all(abs(first - part).nnz == 0 for part in parts[1:]):
        return Rows(first)
    table = torch.zeros(n, *first.shape, dtype=torch.float64)
    table[items] = torch.from_numpy(np.stack([part.toarray() for part in parts]))
    return Rows(table)


def _head(rows: Rows, count: int) -> Tensor:
    """The first rows, dense."""
    K = rows.matrix
    return K[..., :count, :] if isinstance(K, Tensor) else torch.from_numpy(K[:count].toarray())


def _item(rows: Rows | None, i: int, m: int = 0) -> sp.csr_array:
    """The matrix of item i."""
    if rows is None:
        return sp.csr_array((m, 0))
    return sp.csr_array(rows.matrix[i].cpu().numpy()) if rows.matrix.ndim == 3 else rows.matrix
