"""(GNII) and (8) within boxes: stops of one path, in the direction of descent. With η = −sign(g)·a, −gᵀη is Σ|g_i|a_i.

All arithmetic is float64. η has the dtype of the gradient and is rounded towards 0 for (GNII), away from 0, up to the
box, for (8); the bounds of the boxes are rounded inwards before. Multipliers are computed only if someone looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import by_rows, round_down, round_up, rounding_slack, two_level_sum
from convexattack.programs import Program
from convexattack.solution import Multipliers, Solution, Status, codes
from convexattack.solvers.closed_form import narrow
from convexattack.solvers.closed_form.path import Path

__all__ = ["corner", "lowest", "shortest"]

Kernel = Callable[..., tuple[Tensor, ...]]
FEW = (16, 64)  # of the steepest coordinates, before all are looked at
LITTLE = 1e-3  # units in the last place of −gᵀη that the smallest normal number in every entry may cost
COSTLY = 3.0  # units in the last place of ‖η‖ = λ Σ share·a that rounding the bounds may cost, λ Σ_full w·most


@dataclass(frozen=True, eq=False)
class _Descent:
    """The data of n items in the direction of descent.

    Attributes:
        down: (n, d) −sign(g), in the dtype of g; 0 where g is 0 if nearest is.
        top: (n,) the largest |g_i|, 1 where that is 0.
        w: (n, d) |g|/top.
        most: (n, d) how far each coordinate may go downhill; no farther than `nearest` where that changes nothing.
        nearest: (n, d) the nearest to 0 that it may be, also for one without slope; None where that is 0.
    """

    down: Float[Tensor, "n d"]
    top: Float[Tensor, " n"]
    w: Float[Tensor, "n d"]
    most: Float[Tensor, "n d"]
    nearest: Float[Tensor, "n d"] | None

    @staticmethod
    def of(g: Float[Tensor, "n d"], low: Float[Tensor, "n d"], high: Float[Tensor, "n d"], around: bool) -> _Descent:
        down = (g.sign() if around else torch.ones_like(g).copysign_(g)).neg_()
        one, other = down * low, down * high
        most = torch.maximum(one, other).to(torch.float64)
        if around and not bool((low.amin() > -math.inf) & (high.amax() < math.inf)):
            most = torch.where(down == 0, 0.0, most)
        w = g.abs().to(torch.float64)
        top = w.amax(-1)
        top = torch.where(top > 0, top, 1.0)
        w = w.div_(top[:, None])
        if around:
            return _Descent(down, top, w, most, None)
        nearest = torch.minimum(torch.minimum(one, other).clamp_min(0).to(torch.float64), most)
        return _Descent(down, top, w, torch.where(w > 0, most, nearest), nearest)

    def back(self, a: Float[Tensor, "n d"], low: Tensor, high: Tensor, up: bool) -> Float[Tensor, "n d"]:
        """η in the dtype of g, rounded away from 0 or towards it, within its bounds."""
        dtype, wide = self.down.dtype, a.mul_(self.down)
        eta = round_up(wide, dtype) if up else round_down(wide, dtype)
        if up and self.nearest is not None:  # where the box forces an entry uphill, away from 0 is uphill as well
            eta = torch.where(wide * self.down < 0, round_down(wide, dtype), eta)
        return torch.minimum(torch.maximum(eta, low), high)


# --- attempts -------------------------------------------------------------------------------------------------------


def _tried(
    kernel: Kernel, quick: Kernel | None, around: bool, p: float, g: Tensor, goal: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, ...]:
    """Each item by the first attempt that holds, the last as it is; and which `quick` has, at harmless rounding."""
    attempts, parts = [partial(by_rows, kernel)], (g, goal, low.expand_as(g), high.expand_as(g))
    scouted = around and quick is not None and g.dtype == torch.float32
    if around and p == 1:  # only the steepest coordinates move
        attempts = [*(partial(_among_the_steepest, kernel, k) for k in FEW if k < g.shape[1]), *attempts]
    elif scouted:
        attempts = [quick, *attempts]  # type: ignore[list-item]
    *found, good = attempts[0](*parts)
    rows, harmless = torch.arange(len(g), device=g.device), good & scouted
    for attempt in attempts[1:]:
        rows = rows[~good]
        if not len(rows):
            break
        *new, good = attempt(*(part[rows] for part in parts))
        found = [old.index_copy(0, rows, part) for old, part in zip(found, new, strict=True)]
    return *found, harmless


def _among_the_steepest(
    kernel: Kernel, k: int, g: Tensor, goal: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, ...]:
    """The same program in the k steepest coordinates; it holds where the ball, or the fall, is reached among them."""
    at = g.abs().topk(k, -1).indices
    eta, *rest = kernel(g.gather(-1, at), goal, low.gather(-1, at), high.gather(-1, at))
    return torch.zeros_like(g).scatter_(-1, at, eta), *rest


def _risky(program: Program, eta: Float[Tensor, "N d"], harmless: Bool[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """Where rounding each entry by a unit, or the smallest normal number, may cost a unit of the optimum."""
    if bool(harmless.all()) or eta.dtype == torch.float64:
        return torch.zeros_like(harmless)
    info, g = torch.finfo(eta.dtype), program.gradient
    fall = torch.linalg.vecdot(g, eta).abs()
    lost = g.abs().amax(-1) * (g.shape[1] * info.smallest_normal)
    little: Tensor = lost <= LITTLE * info.eps * fall
    return ~(harmless | little)


# --- (GNII) ---------------------------------------------------------------------------------------------------------


def corner(program: Program) -> tuple[Solution, Bool[Tensor, " N"]]:
    """(GNII) within boxes alone: every coordinate goes to its own bound, the tightest takes −g_i; and what is risky."""
    g, normal = program.gradient, program.normal
    if normal.cube is None:
        low, high = normal.ends
        least = torch.minimum(low.clamp_min(0), high)
        eta = torch.where(g > 0, low, torch.where(g < 0, high, least))
    else:
        eta = g.sign().mul_(-normal.cube)
        if normal.inwards is not None:
            eta = torch.minimum(torch.maximum(eta, normal.inwards[0]), normal.inwards[1])
    code, open_ = codes(Status.OPTIMAL, g), torch.zeros(len(g), dtype=torch.bool, device=g.device)
    if normal.cube is None:
        open_ = ~(low.isfinite() & high.isfinite()).all(-1)
        code = torch.where(eta.isinf().any(-1), Status.UNBOUNDED.code, code).to(torch.int8)
    found = Solution(eta, code, lambda: normal.spread(torch.zeros_like(program.g), -program.g))
    return found, open_ | _risky(program, eta, open_ & False)


def lowest(program: Program, around: bool) -> tuple[Solution, Bool[Tensor, " N"]]:
    """(GNII) over the ball and any boxes, and where rounding can have cost much; `around`: 0 is in all boxes."""
    normal, g = program.normal, program.gradient
    norm, radius, weights = normal.norm, normal.radii, normal.weights
    assert norm is not None
    if weights is None:
        kernel = partial(_lowest, p=norm.p, around=around)
        quick = narrow.lowest if norm.p == 2 else None
        eta, log_mu, start, harmless = _tried(kernel, quick, around, norm.p, g, radius, *normal.ends)
    else:
        z, log_mu, start, harmless = _lowest(*_weighted(program, weights), p=norm.p, around=around)
        least, free = corner(program)[0], weights == 0
        eta = torch.where(free, least.eta, round_down(z / torch.where(free, 1.0, weights), g.dtype))
        eta = torch.minimum(torch.maximum(eta, normal.ends[0]), normal.ends[1])
    slack = rounding_slack(g.shape[1])
    empty = start > torch.where(radius > 0, 1 + slack, 0.0)
    code = torch.where(empty, Status.INFEASIBLE.code, Status.OPTIMAL.code)
    if weights is not None:
        code = torch.where(~empty & eta.isinf().any(-1), Status.UNBOUNDED.code, code)
    found = Solution(eta, code.to(torch.int8), lambda: _lowest_proof(program, around, log_mu, empty))
    return found, _risky(program, eta, harmless & (weights is None))


def _weighted(program: Program, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """g, ε and the bounds in units of w ∘ η, where the ball is a plain one; coordinates of weight 0 stay at 0."""
    low, high = program.normal.merged
    g = torch.where(w > 0, program.g / w, 0.0).nan_to_num()
    low, high = (torch.where(w > 0, bound * w, 0.0) for bound in (low, high))
    return g, program.normal.radii, low, high


def _lowest(
    g: Float[Tensor, "n d"], radius: Float[Tensor, " n"], low: Tensor, high: Tensor, p: float, around: bool
) -> tuple[Tensor, ...]:
    """η, log μ, how long the nearest point to 0 is, in units of the radius, and whether the ball is reached."""
    side = _Descent.of(g, low, high, around)
    unit, full = torch.where(radius > 0, radius, 1.0), (radius > 0).to(torch.float64)
    most = side.most.div_(unit[:, None])
    nearest = None if side.nearest is None else side.nearest / unit[:, None]
    far = torch.minimum(most, full[:, None])
    if nearest is None:
        start = torch.zeros_like(full)
    else:
        far, start = torch.maximum(far, nearest), Lp(p).length(nearest)
    goal = full * (1 - rounding_slack(g.shape[1]))
    stop = Path(side.w, far, nearest, p).stop_at_length(goal, start)
    log_mu = stop.log_mu
    if nearest is not None:  # the one point of both: as large a share as keeps it there
        least = torch.where(nearest > 0, side.w.log() - (p - 1) * nearest.log(), -math.inf).amax(-1)
        log_mu = torch.where(start >= goal, least, log_mu)
    return side.back(stop.a.mul_(unit[:, None]), low, high, up=False), log_mu, start, log_mu > -math.inf


def _lowest_proof(program: Program, around: bool, log_mu: Tensor, empty: Tensor) -> Multipliers:
    """The ball's share of −g, and what is left for the boxes. Where they are apart, the plane between them."""
    normal = program.normal
    norm, radius, weights = normal.norm, normal.radii, normal.weights
    assert norm is not None
    g, _, low, high = (program.g, radius, *normal.merged) if weights is None else _weighted(program, weights)
    side = _Descent.of(g, low, high, around)
    unit = torch.where(radius > 0, radius, 1.0)[:, None]
    nearest = None if side.nearest is None else side.nearest / unit
    share = _share(side.w, side.most / unit, nearest, norm.p, log_mu)
    share = torch.where((radius > 0)[:, None], share, side.w)
    ball = torch.where(share == side.w, g.abs(), share * side.top[:, None]) * side.down
    if nearest is not None and bool(empty.any()):
        ball = torch.where(empty[:, None], -norm.conjugate.steepest(nearest) * side.down, ball)
    total = torch.where(empty[:, None], torch.zeros_like(program.g), -program.g)
    return normal.spread(ball, total - (ball if weights is None else ball * weights))


def _share(
    w: Float[Tensor, "n d"],
    most: Float[Tensor, "n d"],
    nearest: Float[Tensor, "n d"] | None,
    p: float,
    log_mu: Float[Tensor, " n"],
) -> Float[Tensor, "n d"]:
    """The norm's share of w, clip(w, μφ(nearest), μφ(most)), φ(a) = sign(a)|a|^{p−1}; for p = 1, φ(0) is [−1, 1]."""
    if p == 1:
        mu = log_mu.exp()[:, None]
        share = torch.minimum(w, torch.where(most >= 0, mu, -mu))
        return share if nearest is None else torch.maximum(share, torch.where(nearest > 0, mu, -mu))
    share = torch.minimum(w, _slope(most, p, log_mu))
    return share if nearest is None else torch.maximum(share, _slope(nearest, p, log_mu))


def _slope(x: Float[Tensor, "n d"], p: float, log_mu: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """μ·sign(x)|x|^{p−1}."""
    size = log_mu[:, None] + (p - 1) * x.abs().log()
    return torch.where((x == 0) | x.isinf(), x, size.exp().copysign(x))


# --- (8) ------------------------------------------------------------------------------------------------------------


def shortest(program: Program, around: bool) -> tuple[Solution, Bool[Tensor, " N"]]:
    """(8) within boxes, and where rounding can have cost much, that of η or that of the bounds."""
    norm = program.norm
    assert norm is not None
    g, p = program.gradient, norm.p
    kernel = partial(_shortest, p=p, around=around)
    quick = partial(narrow.shortest, p=p) if p in (2, math.inf) else None
    eta, log_mu, code, costly, harmless = _tried(kernel, quick, around, p, g, program.L, *program.normal.ends)
    found = Solution(eta, code.to(torch.int8), lambda: _shortest_proof(program, around, log_mu, code))
    return found, costly | _risky(program, eta, harmless)


def _shortest(
    g: Float[Tensor, "n d"], L: Float[Tensor, " n"], low: Tensor, high: Tensor, p: float, around: bool
) -> tuple[Tensor, ...]:
    """η, log μ (p = ∞: the length; NaN where L asks for nothing), the claim, where rounded bounds cost, what holds."""
    side, zero = _Descent.of(g, low, high, around), torch.zeros_like(L)
    unit, need, most, nearest = _in_units(side, L, p)
    begins = zero if nearest is None else two_level_sum(side.w * nearest)
    path = Path(side.w, most, nearest, p)
    ends = two_level_sum(path.falls)
    idle, none = begins >= need, ends < need
    sizes = zero if nearest is None else two_level_sum(side.w * nearest.abs())
    goal = need + rounding_slack(g.shape[1]) * (need.abs() + sizes)  # so that L + gᵀη ≤ 0 survives the rounding of both
    stop = path.stop_at_fall(torch.where(idle, begins, goal), begins)
    a, log_mu = stop.a, torch.where(idle, math.nan, stop.log_mu)
    every = ~idle & ~none & (goal >= ends)  # at its bound is every coordinate: any share that keeps it there
    if bool(every.any()):
        none = none | _missed(g, L, low, high, every)
        every = every & ~none
    if p < math.inf and bool(every.any()):
        least = torch.where((side.w > 0) & (most > 0), side.w.log() - (p - 1) * most.log(), math.inf).amin(-1)
        log_mu = torch.where(every, least, log_mu)
    if p == math.inf:
        length = a.abs().amax(-1)
        worth = torch.linalg.vecdot(side.w, (most >= length[:, None]).to(a)) * length
        if nearest is not None:
            idle = idle | ((nearest.abs().amax(-1) >= length) & ~none)
        log_mu = torch.where(idle, math.nan, length)
    else:
        worth = log_mu.exp() * two_level_sum(a * a if p == 2 else a.abs().pow(p))
    code = torch.where(none, Status.INFEASIBLE.code, Status.OPTIMAL.code)
    costly = ~idle & (~(goal <= COSTLY * worth) | every)
    return side.back(a.mul_(unit[:, None]), low, high, up=True), log_mu, code, costly, ~(costly | none)


def _missed(g: Tensor, L: Tensor, low: Tensor, high: Tensor, asked: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Where L + gᵀη > 0 in exact arithmetic at the corner that falls most, of the rows `asked`."""
    found = torch.zeros_like(asked)
    for i in asked.nonzero().flatten().tolist():
        steep = g[i] != 0
        corner = torch.where(g[i] > 0, low[i], high[i])[steep]
        if bool(corner.isfinite().all()):
            terms = zip(g[i][steep].tolist(), corner.tolist(), strict=True)
            found[i] = Fraction(float(L[i])) + sum(Fraction(a) * Fraction(b) for a, b in terms) > 0
    return found


def _in_units(side: _Descent, L: Float[Tensor, " n"], p: float) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """A unit of ‖η‖, to a factor of d at most, in which logarithms are small, and the need and the bounds in it."""
    need = L.nan_to_num(0.0, 0.0, 0.0) / side.top
    near = torch.zeros_like(need) if side.nearest is None else Lp(p).length(side.nearest)
    unit = need.abs() + near
    unit = torch.where((unit > 0) & (unit < math.inf), unit, 1.0)
    nearest = None if side.nearest is None else side.nearest / unit[:, None]
    return unit, need / unit, side.most / unit[:, None], nearest


def _shortest_proof(program: Program, around: bool, log_mu: Tensor, code: Tensor) -> Multipliers:
    """λ, and what is left of −λg for the boxes when the norm has taken its share, a unit vector of ‖·‖_q."""
    norm, g = program.norm, program.g
    assert norm is not None
    p, normal = norm.p, program.normal
    side = _Descent.of(g, *normal.merged, around)
    _, need, most, nearest = _in_units(side, program.L, p)
    none, idle, shrink = code == Status.INFEASIBLE.code, log_mu.isnan(), torch.ones_like(need)
    log_mu = log_mu.nan_to_num(0.0)
    if p == math.inf:
        share = side.w * (most >= log_mu[:, None])
    else:
        if nearest is not None:  # `nearest` may outweigh w beyond the range of a float
            over = (log_mu[:, None] + (p - 1) * nearest.abs().log()).nan_to_num(-math.inf).amax(-1).clamp_min(0)
            shrink, log_mu = (-over).exp(), log_mu - over
        share = _share(side.w * shrink[:, None], most, nearest, p, log_mu)
    steep = norm.dual(share)
    steep = torch.where(steep > 0, steep, 1.0)
    lam = torch.where(idle, 0.0, torch.where(none, 1.0, shrink / steep / side.top))
    binds = (share != side.w * shrink[:, None]) | none[:, None] | idle[:, None]
    share = torch.where(none[:, None], 0.0, share / steep[:, None])
    if bool(idle.any()):
        away = torch.zeros_like(share) if nearest is None else -norm.conjugate.steepest(nearest)
        share = torch.where(idle[:, None], away, share)
    box = (g.abs() * lam[:, None] - share) * binds * side.down
    return lam, *normal.spread(torch.zeros_like(g), box)
