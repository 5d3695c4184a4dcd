"""Convex sets of perturbations, each with three faces: `violation` (membership), `support` (all that duality needs), `text` (CVXPY)."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from convexattack.norms import Lp, round_inwards, rounding_slack

__all__ = ["Ball", "Box", "ConvexSet", "CustomSet", "PixelRange"]

Link = tuple[list[cp.Constraint], Callable[[], np.ndarray]]


class ConvexSet(abc.ABC):
    """A convex set C of perturbations η ∈ R^d for each of N programs. All numbers are float64."""

    rigorous: bool = True  # False where `support` comes out of a numerical solver

    @abc.abstractmethod
    def check(self, n: int, d: int) -> None:
        """Raise ValueError unless the set can serve N programs in d dimensions."""

    @abc.abstractmethod
    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """How far η is outside, in units of η; 0 inside, NaN for NaN."""

    @abc.abstractmethod
    def support(self, v: Float[Tensor, "N d"], within: Float[Tensor, " N"]) -> tuple[Tensor, Tensor]:
        """σ_C(v) = sup {vᵀη : η ∈ C}, (N,), and a bound on its rounding (or solver) error, (N,).

        A set that has no finite support may use that ‖η‖_∞ ≤ within is known (in units of η).
        """

    @abc.abstractmethod
    def radius_inf(self, like: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """A bound on ‖η‖_∞ over C; ∞ where there is none."""

    @abc.abstractmethod
    def magnitude(self, g: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """A bound on |gᵀη| over C: the scale against which a gap is measured; ∞ where there is none."""

    @abc.abstractmethod
    def parameters(self, n: int, d: int, scale: np.ndarray, limit: np.ndarray) -> dict[str, np.ndarray]:
        """The numbers in the text of C/scale, one row an item. `limit` (N,) bounds |u_i| for every u that matters."""

    @abc.abstractmethod
    def text(self, u: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        """CVXPY constraints that say u ∈ C/scale, with `parameters` as numbers or as `cvxpy.Parameter`s."""

    def constraints(self, eta: cp.Expression, i: int = 0, n: int = 1) -> list[cp.Constraint]:
        """CVXPY constraints that say η ∈ C for item i of n, as on paper."""
        rows = self.parameters(n, eta.size, np.ones(n), np.full(n, np.inf))
        return self.text(eta, {name: row[i] for name, row in rows.items()})

    def link(self, u: cp.Variable, parameters: Mapping[str, Any]) -> Link:
        """The constraints with a row whose dual value is the multiplier of this set: u − z = 0, z ∈ C."""
        z = cp.Variable(u.shape, name="z")
        row = u - z == 0
        return [row, *self.text(z, parameters)], lambda: np.asarray(row.dual_value)


def _per_item(name: str, value: float | Tensor, n: int) -> None:
    if isinstance(value, Tensor) and value.ndim and value.shape != (n,):
        raise ValueError(f"{name} must be a number or have shape (N,) = ({n},), got shape {tuple(value.shape)}")


def _floating(name: str, value: Any) -> float | Tensor:
    """A float, or a float64 tensor; anything else is the caller's mistake."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise TypeError(f"{name} must hold floating-point numbers, got {value.dtype}; write {name}.double()")
        return value.detach().to(torch.float64)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number or a tensor, got {value!r}")
    return float(value)


@dataclass(frozen=True, eq=False)
class Ball(ConvexSet):
    """{η : ‖η‖_p ≤ ε}, with support function σ(v) = ε‖v‖_q.

    Args:
        norm: an `Lp`.
        radius: ε ≥ 0, a number or (N,), in the units of the input (the data range, for an image in [0, 1]).

    Raises:
        ValueError: a radius that is negative, NaN or infinite.
    """

    norm: Lp
    radius: float | Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.norm, Lp):
            raise TypeError(f"norm must be a ca.Lp, got {self.norm!r}; write ca.Ball(ca.Lp(2), radius)")
        radius = _floating("radius", self.radius)
        if isinstance(radius, Tensor):
            lowest = float(radius.nan_to_num(-1.0, -1.0).min()) if radius.numel() else 0.0
        else:
            lowest = radius if math.isfinite(radius) else -1.0
        if lowest < 0:
            raise ValueError(f"radius must be a finite number >= 0, got {self.radius}; leave the Ball out for no bound")
        object.__setattr__(self, "radius", radius)

    def check(self, n: int, d: int) -> None:
        _per_item("radius", self.radius, n)

    def radii(self, like: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """ε for each item."""
        return torch.as_tensor(self.radius, dtype=torch.float64, device=like.device).expand(len(like))

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return (self.norm(eta) - self.radii(eta)).clamp_min(0)

    def support(self, v: Float[Tensor, "N d"], within: Float[Tensor, " N"]) -> tuple[Tensor, Tensor]:
        value = self.radii(v) * self.norm.dual(v)
        return value, value * rounding_slack(v.shape[-1])

    def radius_inf(self, like: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.radii(like)

    def magnitude(self, g: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.radii(g) * self.norm.dual(g)

    def parameters(self, n: int, d: int, scale: np.ndarray, limit: np.ndarray) -> dict[str, np.ndarray]:
        radius = np.broadcast_to(np.asarray(torch.as_tensor(self.radius, dtype=torch.float64).cpu()), (n,))
        edge = d * np.maximum(limit, 1.0)  # a larger radius never binds
        return {"radius": np.minimum(radius / scale, edge), "edge": edge}

    def text(self, u: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        return self.norm.epigraph(u, parameters["radius"])

    def link(self, u: cp.Variable, parameters: Mapping[str, Any]) -> Link:
        rows, multiplier = super().link(u, parameters)
        radius, edge = parameters["radius"], parameters["edge"]
        return rows, lambda: multiplier() * float(radius.value < edge.value)


@dataclass(frozen=True, eq=False)
class Box(ConvexSet):
    """{η : lower ≤ η ≤ upper}, with σ(v) = Σ_i upper_i max(v_i, 0) + lower_i min(v_i, 0).

    Args:
        lower, upper: numbers, or tensors that broadcast to (N, d); −∞ and ∞ are allowed.

    A box that is empty for one item makes that item INFEASIBLE; one that is empty for every item is an error.

    Raises:
        ValueError: lower > upper everywhere, or NaN given as a number.
    """

    lower: float | Tensor
    upper: float | Tensor

    def __post_init__(self) -> None:
        lower, upper = _floating("lower", self.lower), _floating("upper", self.upper)
        for name, bound in (("lower", lower), ("upper", upper)):
            if isinstance(bound, float) and bound != bound:
                raise ValueError(f"{name} must be a number, got nan; use -math.inf or math.inf for no bound")
        if isinstance(lower, float) and isinstance(upper, float) and lower > upper:
            raise ValueError(f"the box is empty: lower = {lower} is above upper = {upper}; swap them")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    def check(self, n: int, d: int) -> None:
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            shape = tuple(torch.as_tensor(bound).shape)
            try:
                fits = torch.broadcast_shapes(shape, (n, d)) == (n, d)
            except RuntimeError:
                fits = False
            if not fits:
                raise ValueError(f"{name} must be a number or broadcast to (N, d) = ({n}, {d}), got shape {shape}")

    def bounds(self, like: Float[Tensor, "N d"]) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """(lower, upper), each (N, d), without a copy where a number or a row serves all."""
        low, high = (
            torch.as_tensor(b, dtype=torch.float64, device=like.device).expand(like.shape)
            for b in (self.lower, self.upper)
        )
        return low, high

    def inwards(self, like: Float[Tensor, "N d"]) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"], bool]:
        """The bounds in the dtype of `like`, rounded into the box, and whether 0 is within them everywhere; kept for the next who asks."""
        low, high = self.bounds(like)
        key = (
            like.dtype,
            like.device,
            like.shape,
            *(0 if bound.is_inference() else bound._version for bound in (low, high)),
        )
        kept = self.__dict__.get("_inwards", (None,))
        if kept[0] != key:
            centred = low.numel() == 0 or bool((low.amax() <= 0) & (high.amin() >= 0))
            kept = (key, *round_inwards(low, high, like.dtype, centred), centred)
            self.__dict__["_inwards"] = kept
        return kept[1], kept[2], kept[3]

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        low, high = self.bounds(eta)
        return torch.maximum(low - eta, eta - high).amax(-1).clamp_min(0)

    def support(self, v: Float[Tensor, "N d"], within: Float[Tensor, " N"]) -> tuple[Tensor, Tensor]:
        terms = _products(v, *self.bounds(v))
        return terms.sum(-1), terms.abs().sum(-1) * rounding_slack(v.shape[-1] ** 2)

    def radius_inf(self, like: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        low, high = self.bounds(like)
        return torch.maximum(low.abs(), high.abs()).amax(-1)

    def magnitude(self, g: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        low, high = self.bounds(g)
        reach = torch.maximum(low.abs(), high.abs())
        return _products(g.abs(), reach, reach).sum(-1)

    def parameters(self, n: int, d: int, scale: np.ndarray, limit: np.ndarray) -> dict[str, np.ndarray]:
        low, high = (b.cpu().numpy() for b in self.bounds(torch.empty(n, d, dtype=torch.float64)))
        edge = np.minimum(limit, 1e20)[:, None]  # a bound beyond the limit never binds
        return {
            "lower": np.clip(low / scale[:, None], -edge, edge),
            "upper": np.clip(high / scale[:, None], -edge, edge),
            "edge": edge[:, 0],
        }

    def text(self, u: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        return [u >= parameters["lower"], u <= parameters["upper"]]

    def link(self, u: cp.Variable, parameters: Mapping[str, Any]) -> Link:
        rows = self.text(u, parameters)

        def multiplier() -> np.ndarray:
            low, high, edge = (np.asarray(parameters[name].value) for name in ("lower", "upper", "edge"))
            below, above = (np.asarray(row.dual_value) for row in rows)
            return np.where(high < edge, above, 0.0) - np.where(low > -edge, below, 0.0)

        return rows, multiplier


def _products(v: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """max(v·low, v·high) entry by entry, with 0·∞ = 0."""
    bound = torch.where(v > 0, high, low)
    return torch.where(v == 0, 0.0, v * bound)


@dataclass(frozen=True)
class PixelRange:
    """{η : low ≤ x + η ≤ high}: the perturbed image stays in the data range (Section I of the paper). A set only once x is known.

    Args:
        low, high: numbers, low < high, in units of the data.

    >>> PixelRange(0.0, 1.0).at(torch.tensor([[0.25, 1.0]])).upper
    tensor([[0.7500, 0.0000]], dtype=torch.float64)
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not float(self.low) < float(self.high):
            raise ValueError(f"the pixel range is empty: low = {self.low} is not below high = {self.high}")

    def at(self, x: Float[Tensor, "B *S"], pieces: int = 1) -> Box:
        """The box of perturbations at the images x (B, *S), each repeated for its K pieces: B·K items.

        The bounds are rounded inwards, so that x + η is in range in exact arithmetic.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(
                f"x must be a floating-point tensor of images, got {getattr(x, 'dtype', type(x).__name__)}; write x.float()"
            )
        if x.ndim < 2:
            raise ValueError(f"x must have a batch dimension (B, ...), got shape {tuple(x.shape)}; write x[None]")
        x = x.detach().flatten(1)
        largest = float(x.abs().amax()) if x.numel() else 0.0
        bounds = [
            _minus(end, x.to(torch.float64), largest, towards)
            for end, towards in ((self.low, torch.inf), (self.high, -torch.inf))
        ]
        return Box(*(bounds if pieces == 1 else [bound.repeat_interleave(pieces, 0) for bound in bounds]))


def _minus(a: float, x: Tensor, largest: float, towards: float) -> Tensor:
    """a − x, |x| ≤ largest, rounded towards ±∞: the error of the rounded difference is itself a float64 number (Knuth's two-sum)."""
    difference = a - x
    if a == 0 or (largest <= abs(a) and torch.equal(a - difference, x)):  # exact (Dekker), as for images in float32
        return difference
    part = difference + x
    error = (a - part) - (x - (part - difference))  # exact: a − x = difference + error
    wrong = error > 0 if towards > 0 else error < 0
    return torch.where(wrong, torch.nextafter(difference, torch.full_like(x, towards)), difference)


@dataclass(frozen=True, eq=False)
class CustomSet(ConvexSet):
    """Any convex set that CVXPY can write: one line adds a constraint to an attack.

    Args:
        build: a function from a CVXPY expression of shape (d,) to a list of constraints; with data, also of one keyword for each entry.
        data: numbers that differ by item, {"name": (N, ...)}.

    Its support function is a CVXPY problem of its own, so a certificate over it is as good as that solver: the solver's
    residuals are charged against the bound, and `rigorous` is False.

    >>> no_brightness_change = CustomSet(lambda eta: [cp.sum(eta) == 0])
    """

    build: Callable[..., list[cp.Constraint]]
    data: Mapping[str, Any] = field(default_factory=dict)
    rigorous = False

    def __post_init__(self) -> None:
        if not callable(self.build):
            raise TypeError(
                f"build must be a function eta -> [constraints], got {self.build!r}; write CustomSet(lambda eta: [...])"
            )
        rows = {name: torch.as_tensor(value).detach().to("cpu", torch.float64) for name, value in self.data.items()}
        object.__setattr__(self, "data", rows)

    def check(self, n: int, d: int) -> None:
        for name, rows in self.data.items():
            if rows.ndim == 0 or len(rows) != n:
                raise ValueError(
                    f"data[{name!r}] must have one row for each of the N = {n} items, got shape {tuple(rows.shape)}"
                )
        self._problem(d, 0)

    def _built(self, eta: cp.Expression, **data: Any) -> list[cp.Constraint]:
        rows = self.build(eta, **data)
        if isinstance(rows, cp.Constraint):
            rows = [rows]
        if not isinstance(rows, list | tuple) or not all(isinstance(row, cp.Constraint) for row in rows):
            raise TypeError(
                f"build must return a list of CVXPY constraints, got {rows!r}; write lambda eta: [cp.norm(eta, 1) <= 2]"
            )
        return list(rows)

    def _problem(self, d: int, i: int) -> tuple[cp.Variable, cp.Problem]:
        eta = cp.Variable(d, name="eta")
        problem = cp.Problem(
            cp.Minimize(0), self._built(eta, **{name: rows[i].numpy() for name, rows in self.data.items()})
        )
        if not problem.is_dcp():
            raise ValueError(
                "build must return convex constraints: CVXPY's rules (DCP) do not accept "
                + "; ".join(map(str, problem.constraints))
            )
        return eta, problem

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        found = []
        for i, point in enumerate(eta.cpu().numpy()):
            if not np.isfinite(point).all():
                found.append(np.nan)
                continue
            variable, problem = self._problem(eta.shape[1], i if self.data else 0)
            variable.value = point
            found.append(max((float(np.max(row.violation())) for row in problem.constraints), default=0.0))
        return torch.tensor(found, dtype=torch.float64, device=eta.device)

    def support(self, v: Float[Tensor, "N d"], within: Float[Tensor, " N"]) -> tuple[Tensor, Tensor]:
        """max vᵀη over C ∩ {‖η‖_∞ ≤ within} by Clarabel, in units of ‖v‖_1 and `within`; the error is the solver's gap and residuals."""
        rows, reach = v.cpu().numpy(), within.cpu().numpy()
        value, error = np.zeros(len(rows)), np.zeros(len(rows))
        for i in range(len(rows)):
            unit, length = (reach[i] if 0 < reach[i] < np.inf else 1.0), np.abs(rows[i]).sum()
            if length == 0:
                continue
            z = cp.Variable(v.shape[1], name="z")
            data = {name: values[i].numpy() for name, values in self.data.items()}
            inside = self.text(z, {"scale": unit, **data}) + ([cp.norm(z, "inf") <= 1] if reach[i] < np.inf else [])
            problem = cp.Problem(cp.Minimize(-(rows[i] / length) @ z), inside)
            arguments, chain, _ = problem.get_problem_data(cp.CLARABEL, solver_opts={})
            found = chain.solve_via_data(problem, arguments)
            solved = str(found.status) in ("Solved", "AlmostSolved")
            value[i] = length * unit * -min(found.obj_val, found.obj_val_dual) if solved else np.inf
            error[i] = (
                length * unit * (abs(found.obj_val - found.obj_val_dual) + found.r_prim + found.r_dual)
                if solved
                else 0.0
            )
        return torch.as_tensor(value, device=v.device), torch.as_tensor(error, device=v.device)

    def radius_inf(self, like: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return like.new_full((len(like),), torch.inf, dtype=torch.float64)

    def magnitude(self, g: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        return self.radius_inf(g)

    def parameters(self, n: int, d: int, scale: np.ndarray, limit: np.ndarray) -> dict[str, np.ndarray]:
        return {"scale": scale, **{name: rows.numpy() for name, rows in self.data.items()}}

    def text(self, u: cp.Expression, parameters: Mapping[str, Any]) -> list[cp.Constraint]:
        data = {name: parameters[name] for name in self.data}
        return self._built(parameters["scale"] * u, **data)
