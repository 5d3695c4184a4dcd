"""What (GN), (GNII), (8) and the sum of hinges share: minimize f(c + Aη) + ψ(η) over ∩ C_j, and one bound for all.

A multiplier w of c + Aη and multipliers u_j of the sets, each in its set's own rows, leave −Aᵀw − Σ_j K_jᵀu_j =: left.
For every feasible η, by the definition of a price,

    wᵀ(c + Aη) ≥ wᵀc − Σ_j price_j(u_j) − leftᵀη,

whatever w and u_j are. The programs differ only in where w may live (so that f(t) ≥ wᵀt) and in ψ:

    (GN), (GNII)    f(t) = t            w = 1
    (8)             f(t) = 0 if t ≤ 0   w = λ ≥ 0, ψ = ‖·‖_p
    sum of hinges   f(t) = Σ max(0, t)  w ∈ [0, 1]^P

Without ψ, leftᵀη is at most what the sets' own bounds on η allow; with ψ = ‖·‖_p, all is divided by max(1, ‖left‖_q).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import UNIT, gamma, rounding_slack, times, two_level_sum
from convexattack.programs.normal import Normal
from convexattack.sets import SETS, ConvexSet, PixelRange
from convexattack.sets.atoms import replaced
from convexattack.sets.base import Extent, Point, drift, met, relative
from convexattack.solution import Multipliers

__all__ = ["Bound", "Program"]


@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound on the optimal value that holds whatever the multipliers are.

    Attributes:
        value: (N,) the bound, float64; −∞ where the multipliers prove nothing.
        error: (N,) how far rounding can have lifted it: `value − error` is a theorem.
    """

    value: Float[Tensor, " N"]
    error: Float[Tensor, " N"]

    @property
    def sure(self) -> Float[Tensor, " N"]:
        """value − error, −∞ for NaN."""
        return (self.value - self.error).nan_to_num(-torch.inf, torch.inf, -torch.inf)


@dataclass(frozen=True, eq=False)
class Balance:
    """What multipliers leave of a program's gradients, and what they pay.

    Attributes:
        w: (N, P) the multiplier of c + Aη, in its domain.
        u: those of the sets, each of finite price.
        start, start_error: wᵀc.
        paid, paid_error: Σ_j price_j(u_j).
        left, left_error: −Aᵀw − Σ_j K_jᵀu_j, entry by entry.
        hidden: what unknowns of the sets' texts can take from the bound; part of `paid_error`.
    """

    w: Float[Tensor, "N P"]
    u: tuple[Tensor, ...]
    start: Float[Tensor, " N"]
    start_error: Float[Tensor, " N"]
    paid: Float[Tensor, " N"]
    paid_error: Float[Tensor, " N"]
    left: Float[Tensor, "N d"]
    left_error: Float[Tensor, "N d"]
    hidden: Float[Tensor, " N"]


class Program(abc.ABC):
    """N convex programs of one kind in d dimensions.

    Attributes:
        value: (N,) L(x) of each linearized piece; of a sum of hinges (N, P).
        gradient: (N, d) g = ∇L(x), or (N, P, d); its dtype and device are those of the solution.
        sets: convex sets that η must lie in.
        norm: ψ of (8), None for the others.
    """

    value: Float[Tensor, "N *P"]
    gradient: Float[Tensor, "N *P d"]
    sets: tuple[ConvexSet, ...]
    norm: Lp | None = None
    pieces: bool = False  # whether value and gradient have a dimension of P pieces

    def __post_init__(self) -> None:
        gradient, value = floating("gradient", self.gradient), floating("value", self.value)
        self._check_shapes(value, gradient)
        n, d = len(gradient), gradient.shape[-1]
        given: Any = self.sets
        sets = (given,) if isinstance(given, ConvexSet | PixelRange) else tuple(given)
        for j, item in enumerate(sets):
            check_set(j, item)
            item.check(n, d)
        sets = tuple(item.fitted(n, d) for item in sets)
        for name, entry in (("gradient", gradient), ("value", value.to(gradient.device)), ("sets", sets)):
            object.__setattr__(self, name, entry)

    @classmethod
    def owning(cls, *data: Any) -> Self:
        """The programs of these fields, in order, which are nobody else's: neither checked nor copied."""
        new = object.__new__(cls)
        new.__dict__.update(zip((entry.name for entry in fields(cls)), data, strict=True))  # type: ignore[arg-type]
        return new

    def _check_shapes(self, value: Tensor, gradient: Tensor) -> None:
        if gradient.ndim != 2 or gradient.shape[1] == 0:
            raise ValueError(
                f"gradient must have shape (N, d), d >= 1, got {tuple(gradient.shape)}; "
                "flatten the pieces with lin.flat()"
            )
        if value.shape != gradient.shape[:1]:
            raise ValueError(
                f"value must have shape (N,) = ({len(gradient)},), like the rows of gradient, "
                f"got {tuple(value.shape)}; gradient has shape {tuple(gradient.shape)}"
            )

    def __len__(self) -> int:
        return len(self.gradient)

    def __getitem__(self, rows: Any) -> Self:
        """The programs of these items: `program[3:5]`, `program[mask]`, `program[indices]`."""
        every = torch.arange(len(self), device=self.gradient.device)
        return self.take(every[rows.to(every.device) if isinstance(rows, Tensor) else rows].reshape(-1))

    def take(self, rows: Int[Tensor, " M"]) -> Self:
        """The programs of these items."""
        sets = tuple(item.take(rows) for item in self.sets)
        taken: Self = replaced(self, value=self.value[rows], gradient=self.gradient[rows], sets=sets)
        return taken

    def check(self, multipliers: Multipliers) -> None:
        """Raise ValueError unless the multipliers have the shapes that this program wants."""
        for part in multipliers:
            if not part.is_floating_point():
                raise TypeError(f"multipliers must hold floating-point numbers, got {part.dtype}; write part.double()")
        expected, found = self.multiplier_shapes, [tuple(part.shape) for part in multipliers]
        if found != expected:
            how = "one per set, in its rows; before them (8) has λ, a sum of hinges u"
            raise ValueError(f"multipliers must have the shapes {expected} ({how}), got {found}")

    # --- the data -----------------------------------------------------------------------------------------------------

    @property
    def rigorous(self) -> bool:
        """Whether no bound of this program leans on an estimate."""
        return all(item.rigorous for item in self.sets)

    @property
    def multiplier_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of `Solution.multipliers`."""
        n, d = len(self), self.gradient.shape[-1]
        first: list[tuple[int, ...]] = (
            [(n,)] if self.norm is not None else [tuple(self.value.shape)] if self.pieces else []
        )
        return first + [(n, item.rows(d)) for item in self.sets]

    @property
    def L(self) -> Float[Tensor, "N *P"]:  # the paper's letter
        """value in float64."""
        return self.value.to(torch.float64)

    @property
    def g(self) -> Float[Tensor, "N *P d"]:
        """gradient in float64."""
        return self.gradient.to(torch.float64)

    @property
    def c(self) -> Float[Tensor, "N P"]:
        """value in float64, a column a piece."""
        return self.L if self.pieces else self.L[:, None]

    @property
    def A(self) -> Float[Tensor, "N P d"]:
        """gradient in float64, a row a piece."""
        return self.g if self.pieces else self.g[:, None]

    @cached_property
    def normal(self) -> Normal:
        """The sets, sorted for those who solve."""
        return Normal.of(self.sets, self.gradient[:, 0] if self.pieces else self.gradient)

    @cached_property
    def extent(self) -> Extent:
        """Bounds on each η_i that the sets imply."""
        return Extent.of(self.sets, self._like)

    @property
    def _like(self) -> Float[Tensor, "N d"]:
        """A float64 tensor of the shape of η; only its shape and device mean something."""
        return self.gradient.new_zeros((), dtype=torch.float64).expand(len(self), self.gradient.shape[-1])

    def valid(self) -> Bool[Tensor, " N"]:
        """Whether an item's data are numbers: L and g finite, no NaN or impossible bound in a set."""
        values = self.value.isfinite()
        finite = (values.all(-1) if self.pieces else values) & self.gradient.isfinite().flatten(1).all(-1)
        for item in self.sets:
            finite = finite & item.valid(self._like)
        return finite

    def linear(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N *P"]:
        """The linear model L + gᵀη, eq. (1); of a sum of hinges row by row."""
        wide = eta.to(torch.float64)
        return self.L + ((self.g @ wide[..., None]).squeeze(-1) if self.pieces else two_level_sum(self.g * wide))

    def linear_error(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N P"]:
        """What rounding can do to `linear`."""
        size = (self.A.abs() @ eta.to(torch.float64).abs()[..., None]).squeeze(-1)
        d = self.gradient.shape[-1]
        return (gamma(d + 2) if self.pieces else rounding_slack(d)) * (self.c.abs() + size)

    # --- the primal side ----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The objective at η, float64."""

    def primal_error(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """What rounding can do to `primal`."""
        return self.linear_error(eta).sum(-1)

    def violation(self, eta: Float[Tensor, "N d"], aux: Sequence[Tensor | None] = ()) -> Float[Tensor, " N"]:
        """How far η is from feasible, each row in its own unit (see `units`), float64; 0 inside, NaN for NaN."""
        rows = self.violations(Point(eta.to(torch.float64), tuple(aux) or (None,) * len(self.sets)))
        worst = (0 * eta.to(torch.float64).sum(-1)).abs()  # NaN for NaN
        for part in rows:
            worst = torch.maximum(worst, part.amax(-1))
        return worst

    def violations(self, point: Point) -> list[Float[Tensor, "N b"]]:
        """The violations of every row of every set, in units of the rows."""
        found = []
        for item, unit, aux in zip(self.sets, self.units_at(point), point.aux, strict=True):
            found.append(relative(item.excess(point.eta, aux), item.blur(point.eta, aux), unit))
        return found

    @cached_property
    def units(self) -> list[Float[Tensor, "N b"]]:
        """The unit of each row of each set: its own width.

        Where that is 0 or ∞, how far the row varies over the other sets; where nothing bounds that, the size of its
        bound. 0 where all of this is 0.
        """
        return [self._units_of(j) for j in range(len(self.sets))]

    def units_at(self, point: Point) -> list[Float[Tensor, "N b"]]:
        """`units`; that of a row which nothing bounds and whose own bound is 0 is the size of what it sums at η."""
        pairs = zip(self.sets, self.units, strict=True)
        return [
            torch.where(unit < 0, item.map.absolute(point.eta.abs()), unit) if bool((unit < 0).any()) else unit
            for item, unit in pairs
        ]

    def _units_of(self, j: int) -> Float[Tensor, "N b"]:
        item, like = self.sets[j], self._like
        own = item.widths(self.extent.reach)
        open_ = ~((own > 0) & (own < torch.inf))
        if not item.atom.separable or not bool(open_.any()):
            return own
        others = self.sets[:j] + self.sets[j + 1 :]
        width = item.map.absolute(Extent.of(others, like).width)
        for other in others:
            span = other.span(item, like)
            width = width if span is None else torch.minimum(width, span)
        low, high = item.atom.extent(own)
        size = torch.where(high.isfinite(), high.abs(), torch.where(low.isfinite(), low.abs(), 0.0))
        size = torch.where(size > 0, size, -1.0)
        return torch.where(open_, torch.where(width < torch.inf, width, size), own)

    def scale(self) -> Float[Tensor, " N"]:
        """What a gap is relative to: how far the sets let the objective vary, ∞ where that is not known."""
        return torch.stack([self._variation(row) for row in self.A.unbind(1)]).sum(0)

    def _variation(self, v: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The least known bound on how far vᵀη varies over the sets."""
        apart = (self.highest(v) + self.highest(-v)).clamp_min(0)
        return torch.minimum(apart, two_level_sum(times(v.abs(), self.extent.width)))

    def still(self) -> Bool[Tensor, " N"]:
        """Whether the sets do not let the objective vary at all: by their bounds on each η_i, or as two that touch in a
        point, whose bounds on vᵀη from above and below are one number but for rounding."""
        found = torch.ones(len(self), dtype=torch.bool, device=self.gradient.device)
        slack = 4 * rounding_slack(self.gradient.shape[-1])
        for v in self.A.unbind(1):
            wide = two_level_sum(times(v.abs(), self.extent.width))
            up, down = self.highest(v), self.highest(-v)
            touch = (up + down <= slack * (up.abs() + down.abs())) & (up + down < wide / 2)
            found = found & (((v == 0) | (self.extent.width == 0)).all(-1) | touch)
        return found

    def highest(self, v: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The least known bound on vᵀη over the sets, rounding included; ∞ where there is none."""
        terms = times(v, torch.where(v > 0, self.extent.high, self.extent.low))
        least = two_level_sum(terms) + rounding_slack(v.shape[-1]) * two_level_sum(terms.abs())
        for item in self.sets:
            least = torch.minimum(least, item.highest(v))
        return least

    def sway(self, v: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """The least known bound on |vᵀη| over the sets, for v ≥ 0 known in size only."""
        least = two_level_sum(times(v, self.extent.reach))
        for item in self.sets:
            if item.symmetric:
                least = torch.minimum(least, item.highest(v))
        return torch.where((v == 0).all(-1), 0.0, least * (1 + rounding_slack(v.shape[-1])))

    def met(self, point: Point) -> Point:
        """The point moved within the bounds on each coordinate, then onto the other equality rows."""
        return met(self.sets, self.extent, point, self._inverse)

    def drift(self, point: Point) -> Point:
        """How far, entry by entry, a point is at which the equality rows hold exactly; ∞ where that is not known."""
        return drift(self.sets, self.extent, point, self._inverse)

    def _inverse(self, table: Tensor) -> Tensor:
        """The pseudo-inverse of a table of equations, of which a program has one or two."""
        kept: list[tuple[Tensor, Tensor]] = self.__dict__.setdefault("_inverses", [])
        for known, found in kept:
            if known.shape == table.shape and torch.equal(known, table):
                return found
        kept.append((table, torch.linalg.pinv(table)))
        return kept[-1][1]

    # --- the dual side ------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def weight(self, multipliers: Multipliers) -> tuple[Float[Tensor, "N P"], Multipliers]:
        """The multiplier of c + Aη, moved into its domain, and those of the sets."""

    def idle(self, multipliers: Multipliers) -> tuple[Float[Tensor, "N P"], Multipliers]:
        """The multipliers of a claim that nothing is feasible: those with which the objective takes no part."""
        w, u = self.weight(multipliers)
        return torch.zeros_like(w), u

    def balance(self, w: Float[Tensor, "N P"], multipliers: Multipliers, everywhere: bool = False) -> Balance:
        """What these multipliers leave and pay. Errors are running ones: a sum that is exact costs nothing.

        `everywhere`: for all η of the sets, and not only where ‖η‖_p is at most twice the bound.
        """
        c, A = self.c, self.A
        terms = w * c
        start_error = rounded_product(w, c).sum(-1) + gamma(c.shape[1]) * terms.abs().sum(-1) * (c.shape[1] > 1)
        if c.shape[1] == 1:
            s, error = -(w * A[:, 0]), rounded_product(w, A[:, 0])
        else:
            s = -(w[:, None] @ A)[:, 0]
            error = gamma(c.shape[1] + 1) * (w.abs()[:, None] @ A.abs())[:, 0]
        paid, paid_error, u = torch.zeros_like(terms[:, 0]), torch.zeros_like(terms[:, 0]), []
        for item, part in zip(self.sets, multipliers, strict=True):
            mine = item.clip(part.to(torch.float64))
            pulled = item.pull(mine)
            exact = (s == 0) | (pulled == 0)
            s = s - pulled
            error = error + torch.where(exact, 0.0, UNIT * s.abs()) + item.map.pull_blur(mine)
            value, slip = item.price(mine)
            paid, paid_error = paid + value, paid_error + slip
            paid_error = paid_error + UNIT * paid.abs()
            u.append(mine)
        start = terms.sum(-1)
        hidden = self._hidden(u, (start - paid).clamp_min(0), s, everywhere)
        return Balance(w, tuple(u), start, start_error, paid, paid_error + hidden, s, error, hidden)

    def _hidden(self, u: list[Tensor], above: Tensor, left: Tensor, everywhere: bool) -> Float[Tensor, " N"]:
        """What unknowns of the sets' texts can take from a bound; in (8) no η longer than twice the bound counts."""
        hiding = [(item, part) for item, part in zip(self.sets, u, strict=True) if item.hides]
        total = torch.zeros_like(above)
        if not hiding:
            return total
        reach = self.extent.reach
        if self.norm is not None and not everywhere:
            reach = torch.minimum(reach, (2 * above / self.norm.conjugate.length(left).clamp_min(1))[:, None])
        for item, part in hiding:
            total = total + item.loose(part, reach)
        return total

    def bound(self, multipliers: Multipliers) -> Bound:
        """A lower bound on the optimal value from any multipliers."""
        return self.bound_of(self.balance(*self.weight(multipliers)))

    def bound_of(self, b: Balance) -> Bound:
        """See `bound`."""
        above = b.start - b.paid
        error = b.start_error + b.paid_error + UNIT * above.abs()
        if self.norm is None:
            lost = self.sway(b.left.abs())
            value = above - lost
            return Bound(value, error + self.sway(b.left_error) + UNIT * (value.abs() + lost))
        dual = self.norm.conjugate
        inflated = 1 + dual.slack(b.left.shape[-1]) + 4 * UNIT
        length = (dual.length(b.left) + dual.length(b.left_error)) * inflated
        unit = length.clamp_min(1)
        value = torch.where(above - error > 0, above / unit, 0.0)  # no norm is below 0
        return Bound(
            torch.where(above.isnan() | unit.isnan(), torch.nan, value), torch.where(value > 0, error / unit, 0.0)
        )

    def excludes(self, multipliers: Multipliers) -> Bool[Tensor, " N"]:
        """Whether no η is feasible, for certain.

        By the multipliers: λL − Σ price − |left|ᵀreach > 0, without ψ, all rounding charged. Or by crossed bounds.
        """
        b = self.balance(*self.idle(multipliers), everywhere=True)
        most = b.paid + b.paid_error + b.start_error + self.sway(b.left.abs() + b.left_error)
        finite = [part.isfinite().reshape(len(self), part.shape[1:].numel()).all(-1) for part in multipliers]
        margin = b.start - most - 4 * UNIT * (b.start.abs() + most.abs())
        found = (margin > 0) & margin.isfinite()
        return torch.stack([found, *finite]).all(0) | self.crossed()

    def crossed(self) -> Bool[Tensor, " N"]:
        """Whether a lower bound is above an upper one, of one row or of what the sets imply for one coordinate."""
        found = (self.extent.low > self.extent.high).any(-1)
        for item in self.sets:
            rows = item.rows(self.gradient.shape[-1])
            low, high = item.atom.extent(self.extent.low.new_empty(len(self), 1).expand(-1, rows))
            found = found | (low > high).any(-1)
        return found

    def shortfall(self, point: Point, b: Balance) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """primal(η) − bound ≥ 0 for feasible η, summed so that nothing large cancels, and what rounding can hide of it.

        Σ_j (price_j(u_j) − u_jᵀK_jη) and the most that leftᵀ(η′ − η) can be for η′ in the sets.
        """
        eta = point.eta
        total, error = self.slackness(eta, b)
        for item, u in zip(self.sets, b.u, strict=True):
            part, slip = item.apart(u, eta)
            total, error = total + part, error + slip + UNIT * total.abs()
        ends = torch.where(b.left > 0, self.extent.high, self.extent.low)
        room = (1 + 4 * UNIT) * torch.maximum(self.extent.high - eta, eta - self.extent.low).clamp_min(0)
        lost = torch.minimum(
            two_level_sum(times(b.left, ends - eta)), self.sway(b.left.abs()) - two_level_sum(b.left * eta)
        )
        far = torch.minimum(
            two_level_sum(times(b.left_error, room)), self.sway(b.left_error) + two_level_sum(b.left_error * eta.abs())
        )
        slack = 2 * rounding_slack(eta.shape[-1])
        error = error + far * (1 + slack) + slack * two_level_sum(b.left.abs() * eta.abs()) + UNIT * total.abs()
        return total + lost + slack * lost.abs(), error + b.hidden

    def slackness(self, eta: Float[Tensor, "N d"], b: Balance) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """f(c + Aη) − wᵀ(c + Aη), and its error: 0 where f is linear."""
        return torch.zeros_like(b.start), torch.zeros_like(b.start)

    # --- CVXPY --------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def problem(self, i: int = 0) -> cp.Problem:
        """Item i as an explicit CVXPY problem that reads as on paper."""

    def row(self, i: int) -> tuple[Any, np.ndarray]:
        """(L, g) of item i for `problem`."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"i must be in [0, {len(self)}), got {i}")
        value = self.L[i].cpu().numpy()
        return (value if self.pieces else float(value)), self.g[i].cpu().numpy()

    def constraints(self, eta: cp.Variable, i: int) -> list[cp.Constraint]:
        """The sets' own text for item i."""
        return [row for item in self.sets for row in item.constraints(eta, i % len(self), len(self))]


def check_set(j: int, item: Any) -> None:
    """Raise unless this is a resolved set of the package's own: what a subclass says of itself, nobody can check."""
    if isinstance(item, PixelRange):
        raise ValueError(
            f"sets[{j}] is a PixelRange that knows no image yet; resolve it with PixelRange(...).at(x, pieces=K)"
        )
    if not isinstance(item, ConvexSet):
        raise TypeError(f"sets[{j}] must be a convex set such as ca.Ball or ca.Box, got {item!r}")
    if type(item) not in SETS:
        raise TypeError(
            f"sets[{j}] is a {type(item).__name__}, a subclass whose answers nobody can check; "
            "compose ca.ConvexSet(atom, map)"
        )


def rounded_product(w: Tensor, x: Tensor) -> Tensor:
    """What rounding can do to w·x: nothing where w is 0 or a power of 2."""
    exact = (w == 0) | (torch.frexp(w.abs()).mantissa == 0.5)
    return torch.where(exact, 0.0, UNIT * (w * x).abs())


def floating(name: str, value: Any) -> Tensor:
    """A floating-point tensor of its own memory, outside any graph; anything else is the caller's mistake."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor or a NumPy array, got {type(value).__name__}; write torch.tensor({name})"
        )
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers, got {value.dtype}; write {name}.float()")
    return value.detach().clone()
