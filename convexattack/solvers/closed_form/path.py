"""The path of ball ∩ box: a(κ)_i = clip(κ w_i^{q−1}, nearest_i, most_i).

w_i ≥ 0 is how steep coordinate i is, a_i how far down it goes. Of all points as long as a(κ) none falls further, and of
all that fall as far none is shorter. So (GNII) is the stop at a length, Σ|a_i|^p = ε^p, and (8) the stop at a fall,
Σ w_i a_i = L. Between two breakpoints both read A + B·κ^power = goal: once the free coordinates are known, κ is
explicit. For p = 1 the path visits the coordinates one by one, the steepest first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.numerics import UNIT, two_level_sum

__all__ = ["Path", "Stop", "total"]

SAME = 4 * UNIT  # two κ, or logarithms of κ, are the same: what one evaluation of a power and a quotient loses
STEPS = 200  # of the bracket; Newton's method takes 10 of them as a rule, bisection alone 80


@dataclass(frozen=True, eq=False)
class Stop:
    """Where a path ends.

    Attributes:
        a: (n, d) the point.
        log_mu: (n,) log μ: the ball's, or the norm's, share of w_i is μ|a_i|^{p−1} wherever no bound takes part; −∞
        where all bounds do.
    """

    a: Float[Tensor, "n d"]
    log_mu: Float[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Path:
    """The paths of n items.

    Attributes:
        w: (n, d) from 0 to 1.
        most: (n, d) the farthest a_i.
        nearest: (n, d) the a_i nearest to 0; None where that is 0.
        p: from 1 to ∞.
    """

    w: Float[Tensor, "n d"]
    most: Float[Tensor, "n d"]
    nearest: Float[Tensor, "n d"] | None
    p: float

    @property
    def r(self) -> float:
        """q − 1."""
        return 0.0 if self.p == math.inf else 1 / (self.p - 1)

    @cached_property
    def rise(self) -> Float[Tensor, "n d"]:
        """w^{q−1}, da_i/dκ of a free coordinate."""
        return torch.ones_like(self.w) if self.r == 0 else self.w if self.r == 1 else self.w.pow(self.r)

    @cached_property
    def falls(self) -> Float[Tensor, "n d"]:
        """w_i·most_i, what each coordinate falls by at the end of the path."""
        found = self.w * self.most
        return found if bool(found.sum() < math.inf) else found.nan_to_num(0.0, math.inf)

    def at(self, kappa: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """a(κ)."""
        a = torch.minimum(self.rise * kappa[:, None], self.most)
        return a if self.nearest is None else torch.maximum(a, self.nearest)

    def take(self, rows: Int[Tensor, " m"]) -> Path:
        """The paths of these items."""
        return Path(self.w[rows], self.most[rows], None if self.nearest is None else self.nearest[rows], self.p)

    # --- two stops --------------------------------------------------------------------------------------------------

    def stop_at_length(self, length: Float[Tensor, " n"], start: Float[Tensor, " n"]) -> Stop:
        """The point of ‖a‖_p = length, p < ∞; the path's end if that is shorter, its beginning if `start` is more."""
        if self.p == 1:
            goal, parts = length, self.most.abs()
        else:
            goal, parts = length**self.p, self.most**2 if self.p == 2 else self.most.abs().pow(self.p)
        return self._stop(parts, goal, goal < two_level_sum(parts), length <= start, self.p)

    def stop_at_fall(self, fall: Float[Tensor, " n"], start: Float[Tensor, " n"]) -> Stop:
        """The point of Σ w_i a_i = fall; the path's end if that falls less, its beginning if `start` is more."""
        end = two_level_sum(self.falls)
        parts = self.falls
        if not bool(end.sum() < math.inf):
            parts = parts.nan_to_num(0.0, 0.0)  # an endless coordinate is never full
        return self._stop(parts, fall, fall < end, fall <= start, None)

    def _stop(self, parts: Tensor, goal: Tensor, short: Tensor, idle: Tensor, power: float | None) -> Stop:
        """`parts` are the terms of the sum at the end of the path; power None means a fall."""
        bound = short & ~idle
        if bool(bound.all()):
            return self._found(parts, goal, power)
        begin = torch.zeros_like(self.most) if self.nearest is None else self.nearest
        a, log_mu = torch.where(idle[:, None], begin, self.most), torch.full_like(goal, -math.inf)
        rows = bound.nonzero().flatten()
        if len(rows):
            found = self.take(rows)._found(parts[rows], goal[rows], power)
            a, log_mu = a.index_copy(0, rows, found.a), log_mu.index_copy(0, rows, found.log_mu)
        return Stop(a, log_mu)

    def _found(self, parts: Tensor, goal: Tensor, power: float | None) -> Stop:
        if self.p == 1:
            return self._visit(goal, power is None)
        moderate = self.r <= 4 and (power is None or power <= 32)  # w^r and a^p stay in the range of float64
        if self.nearest is None and moderate:
            kappa = self.climbed(parts, goal, power or 1.0)[0]
            return Stop(self.at(kappa), self._log_mu(kappa.log()))
        return self._bracket(goal, power)

    # --- 1 < p: the κ of a sum --------------------------------------------------------------------------------------

    def climbed(
        self, parts: Float[Tensor, "n d"], goal: Float[Tensor, " n"], power: float
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """κ of Σ_full parts + κ^power Σ_free w·rise = goal, nearest = 0 (rise^p is w·rise); and Σ_full parts.

        Newton's method from below: it never passes the root, and each of its steps but the last fills a coordinate.
        """
        free_parts = self.w if self.r == 0 else self.w * self.rise
        wide, same = parts.dtype == torch.float64, 1 + 8 * torch.finfo(parts.dtype).eps
        kappa = (goal / total(free_parts)) ** (1 / power)
        result, filled, rows = kappa, torch.zeros_like(kappa), None
        live = (self.rise, self.most, parts, free_parts, goal)
        for _ in range(self.w.shape[-1] + 1):
            new, fixed = _explicit(*live, kappa, power, two_level_sum if wide else _loose)
            moved = (new > kappa * same) & (new < math.inf)
            kappa = torch.where((new > 0) & (new < math.inf), new, kappa)
            result = kappa if rows is None else result.index_copy(0, rows, kappa)
            filled = fixed if rows is None else filled.index_copy(0, rows, fixed)
            alive = int(moved.sum())
            if alive == 0:
                break
            if alive <= len(kappa) // 2:
                rows = moved.nonzero().flatten() if rows is None else rows[moved]
                kappa, live = kappa[moved], tuple(part[moved] for part in live)  # type: ignore[assignment]
        if wide:
            return result, filled
        return _explicit(self.rise, self.most, parts, free_parts, goal, result, power, total)

    def _bracket(self, goal: Tensor, power: float | None) -> Stop:
        """The same for any box and p: y = log κ stays in range where κ and w^r do not, and a bracket guards Newton."""
        nearest = torch.zeros_like(self.most) if self.nearest is None else self.nearest
        exponent, log_w = power or 1.0, self.w.log()
        log_rise = torch.where(self.w > 0, self.r * log_w if self.r else torch.zeros_like(log_w), -math.inf)
        log_free = torch.where(self.w > 0, exponent * log_rise + (log_w if power is None else 0.0), -math.inf)

        def weigh(a: Tensor, w: Tensor) -> Tensor:
            return w * a if power is None else a * a if power == 2 else a.abs() ** power

        never = weigh(torch.where(self.most <= 0, nearest, 0.0), self.w).sum(-1)
        steepest = torch.where(self.most > 0, log_free, -math.inf).logsumexp(-1)
        y = ((goal - never).clamp_min(1e-300).log() - steepest) / exponent
        result, rows = torch.empty_like(y), torch.arange(len(y), device=y.device)
        low, high = torch.full_like(y, -math.inf), torch.full_like(y, math.inf)
        live = (self.w, nearest, self.most, log_rise, log_free, goal)
        for _ in range(STEPS):
            y, low, high, done = _narrowed(y, low, high, live, weigh, exponent)
            result[rows] = y
            if bool(done.all()):
                break
            if int(done.sum()) > len(y) // 2:
                rows, y, low, high = (part[~done] for part in (rows, y, low, high))
                live = tuple(part[~done] for part in live)  # type: ignore[assignment]
        return Stop(self._settled(nearest, goal, result, log_rise, weigh, exponent), self._log_mu(result))

    def _settled(
        self,
        nearest: Tensor,
        goal: Tensor,
        y: Tensor,
        log_rise: Tensor,
        weigh: Callable[[Tensor, Tensor], Tensor],
        exponent: float,
    ) -> Float[Tensor, "n d"]:
        """a(e^y), its free coordinates scaled so that the sum is `goal`: that undoes the rounding of the logarithms."""
        t = (y[:, None] + log_rise).exp()
        free = (t > nearest) & (t < self.most)
        parts = weigh(torch.minimum(torch.maximum(t, nearest), self.most), self.w)
        fixed, moving = (two_level_sum(torch.where(pick, parts, 0.0)) for pick in (~free, free))
        exact = ((goal - fixed) / moving).nan_to_num(1.0, 1.0, 1.0).clamp(0.5, 2.0) ** (1 / exponent)
        return torch.minimum(torch.maximum(torch.where(free, t * exact[:, None], t), nearest), self.most)

    def _log_mu(self, log_kappa: Tensor) -> Tensor:
        return (1 - self.p) * log_kappa if self.p < math.inf else torch.zeros_like(log_kappa)

    # --- p = 1: one coordinate after another ------------------------------------------------------------------------

    def _visit(self, goal: Tensor, fall: bool) -> Stop:
        """From `nearest`, raise the steepest until Σ|a_i|, or Σ w_i a_i, is `goal`; μ is the steepness of the last."""
        begin = torch.zeros_like(self.most) if self.nearest is None else self.nearest
        if self.nearest is not None:
            goal = goal - two_level_sum(begin * self.w if fall else begin.abs())
        top, at = self.w.sort(dim=-1, descending=True, stable=True)
        room = ((self.most.gather(-1, at) - begin.gather(-1, at)) * (top > 0)).nan_to_num(0.0, math.inf)
        gain = top if fall else torch.ones_like(top)
        left = goal[:, None] - torch.nn.functional.pad((gain * room).cumsum(-1)[:, :-1], (1, 0))
        taken = torch.minimum((left / torch.where(gain > 0, gain, 1.0)).clamp_min(0), room)
        last = (((left > 0) & (room > 0)) * torch.arange(1, top.shape[-1] + 1, device=top.device)).amax(
            -1, keepdim=True
        )
        price = top.gather(-1, (last - 1).clamp_min(0)).squeeze(-1)
        return Stop(begin.scatter_add(-1, at, taken), price.log())


def _explicit(
    rise: Tensor, most: Tensor, parts: Tensor, free_parts: Tensor, goal: Tensor, kappa: Tensor, power: float,
    sums: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:  # fmt: skip
    """The κ that is right if the coordinates that are full at `kappa` are those that are full; and Σ_full parts."""
    full = (rise * kappa[:, None].to(rise.dtype)).ge_(most)
    fixed, free = sums(parts * full), sums(free_parts.addcmul(free_parts, full, value=-1))
    return ((goal - fixed).clamp_min_(0) / free) ** (1 / power), fixed


def _loose(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return x.sum(-1).to(torch.float64)


def total(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Σ_i x_i in float64; of float64 itself to `rounding_slack`."""
    return two_level_sum(x) if x.dtype == torch.float64 else x.sum(-1, dtype=torch.float64)


def _narrowed(
    y: Tensor,
    low: Tensor,
    high: Tensor,
    live: tuple[Tensor, ...],
    weigh: Callable[[Tensor, Tensor], Tensor],
    power: float,
) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, " n"]]:
    """One step of Newton's method, or of bisection where that leaves the bracket; and who has arrived."""
    w, nearest, most, log_rise, log_free, goal = live
    t = (y[:, None] + log_rise).exp()
    free = (t > nearest) & (t < most)
    fixed = torch.where(free, 0.0, weigh(torch.minimum(torch.maximum(t, nearest), most), w)).sum(-1)
    slope = torch.where(free, log_free, -math.inf).logsumexp(-1)
    short = fixed + (power * y + slope).exp() < goal
    low, high = torch.where(short, y, low), torch.where(short, high, y)
    new = ((goal - fixed).log() - slope) / power  # NaN or ±∞ where nothing is free
    middle = torch.where(high == math.inf, y + 1 + y.abs(), (low + high) / 2)
    middle = torch.where(low == -math.inf, y - 1 - y.abs(), middle)
    same, ends = (new - y).abs() <= SAME / 2 * y.abs().clamp_min(1), high - low <= SAME * y.abs()
    new = torch.where(same, new, torch.where((new > low) & (new < high), new, middle))
    return torch.where(ends & ~same, y, new), low, high, same | ends
