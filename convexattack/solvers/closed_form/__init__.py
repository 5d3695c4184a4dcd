"""Closed forms: Proposition 1, eqs. (6) and (7), and (8) for every p in [1, ∞], with a box as well. Batched, exact, on any device.

All arithmetic is float64, but for float32 programs that `quick` answers with less of it. What is returned has the
dtype of the gradient and is rounded so that it stays inside its sets: towards zero for (GNII), away from zero (up to the box) for (8).

With a box, write η = s·a, s = −sign(g), so that −gᵀη = Σ|g_i|a_i, and l ≤ a ≤ u for the box. With n_i the point of [l_i, u_i] nearest
to 0, the optimum lies on the path a_i = clip(κ|g_i|^{q−1}, n_i, u_i), and one equation in κ is left: Σ|a_i|^p = ε^p for (GNII),
Σ|g_i|a_i = L for (8). Between two breakpoints it reads A + B·κ^p = ε^p or A + B·κ = L: once the free coordinates are known, κ is
explicit. `_fill` finds them by Newton's method, which ends when they no longer change; for p = 1 the path is a knapsack, filled by
descending |g_i|.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import by_rows, round_down, round_inwards, round_up, rounding_slack
from convexattack.programs import GN, GNII, MinNorm, Program
from convexattack.sets import Ball, Box, ConvexSet
from convexattack.solution import Solution, Status, codes
from convexattack.solvers.closed_form import quick

__all__ = ["solve", "why_not"]

TINY = 64  # smallest normal numbers an entry: in a shorter vector the lost digits of small entries add up to one unit of the largest


def why_not(program: Program) -> str | None:
    """Why there is no closed form for this program; None where there is one."""
    if not isinstance(program, GN | GNII | MinNorm):
        return f"{type(program).__name__} has none"
    other = next((item for item in program.sets if not isinstance(item, Ball | Box)), None)
    if other is not None:
        return f"{type(other).__name__} is neither a Ball nor a Box"
    most = 0 if isinstance(program, MinNorm) else 1
    if sum(isinstance(item, Ball) and item.norm.p < math.inf for item in program.sets) > most:
        return f"{type(program).__name__} takes boxes, l-inf balls and {most} other ball(s), and this has more"
    return None


def solve(program: Program) -> Solution:
    """Solve all items at once.

    Raises:
        ValueError: a program without a closed form, see `why_not`.
    """
    reason = why_not(program)
    if reason is not None:
        raise ValueError(f"solver='closed_form' cannot take this program: {reason}; use solver='reference'")
    if isinstance(program, MinNorm):
        return _quick(program, _min_norm if program.sets else _min_norm_plain)
    assert isinstance(program, GN | GNII)
    first = program.sets[0] if len(program.sets) == 1 else None
    found = (
        _ball(program, first) if isinstance(first, Ball) else _cube_and_box(program) or _quick(program, _ball_and_box)
    )
    return _verdict(program, found) if isinstance(program, GN) else found


def _quick(program: Any, thorough: Callable[[Any], Solution]) -> Solution:
    """In float32 where that is good enough, and thoroughly for the other items."""
    fast = quick.solve(program)
    if fast is None:
        return thorough(program)
    code, stats = codes(Status.OPTIMAL, fast.eta), {"solver": "closed_form"}
    if bool(fast.good.all()):
        return Solution(fast.eta, code, fast.multipliers, stats)
    rows = (~fast.good).nonzero().flatten()
    if len(rows) == len(program):
        return thorough(program)
    others = thorough(program.take(rows))

    def multipliers() -> tuple[Tensor, ...]:
        return tuple(
            part.index_copy(0, rows, other) for part, other in zip(fast.multipliers(), others.multipliers, strict=True)
        )

    return Solution(
        fast.eta.index_copy(0, rows, others.eta), code.index_copy(0, rows, others.codes), multipliers, stats
    )


def _verdict(program: GN, found: Solution) -> Solution:
    """(GN) by Proposition 1: the sign of the optimum of (GNII). Only near ties take the program's own, rigorous `decide`."""
    eta = found.eta.to(torch.float64)
    fall = -torch.linalg.vecdot(program.g, eta)
    away = (program.L - fall).abs() > (1e-9 + 4 * torch.finfo(found.eta.dtype).eps) * (program.L.abs() + fall.abs())
    verdict = torch.where(fall > program.L, Status.FEASIBLE.code, Status.INFEASIBLE.code).to(torch.int8)
    settled = (
        (found.codes == Status.OPTIMAL.code)
        | (found.codes == Status.INEXACT.code)
        | (found.codes == Status.UNDECIDED.code)
    )
    exact = found.codes == Status.OPTIMAL.code
    if bool((settled & ~(away & exact)).any()):
        verdict = torch.where(away & exact, verdict, program.decide(found.eta, found.multipliers))
        for item in program.sets:
            if isinstance(item, Box):  # that some η is feasible does not make this one so
                verdict = torch.where(
                    (verdict == Status.FEASIBLE.code) & (item.violation(eta) > 0), Status.INEXACT.code, verdict
                )
    return Solution(found.eta, torch.where(settled, verdict, found.codes), found.multipliers, found.stats)


def _ball(program: GN | GNII, ball: Ball) -> Solution:
    """(GNII) over one ball: eqs. (6) and (7)."""
    g, radius = program.gradient, ball.radii(program.gradient)
    eta = ball.norm.steepest(g, radius)
    code = codes(Status.OPTIMAL, g)
    good = eta[:, 0].isfinite() & program.value.isfinite()
    code = torch.where(good, code, Status.INVALID.code).to(torch.int8)
    found = Solution(_blank(eta, code), code, lambda: (-g,), {"solver": "closed_form"})
    risky = (radius > 0) & (radius < g.shape[1] * TINY * torch.finfo(g.dtype).smallest_normal)
    return _judged(program, found) if bool(risky.any()) else found


def _min_norm_plain(program: MinNorm) -> Solution:
    """(8) without sets: η = −L⁺/‖g‖_q^q · sign(g)|g|^{q−1}."""
    eta, lam, code, risky = by_rows(
        partial(_shortest, p=program.norm.p, q=program.norm.q), program.gradient, program.value
    )
    found = Solution(_blank(eta, code), code, (lam,), {"solver": "closed_form"})
    return _judged(program, found) if bool(risky.any()) else found


def _shortest(
    gradient: Float[Tensor, "N d"], value: Float[Tensor, " N"], p: float, q: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """η, λ, the claim, and whether η has entries so small or large that their rounding counts."""
    g, L, dtype = gradient.to(torch.float64), value.to(torch.float64), gradient.dtype
    h, unit = g, torch.ones_like(L)
    direction, reach = _direction(h, p) if p in (2, math.inf) else (h, torch.zeros_like(L))
    plain = (reach > 1e-280) & (reach < 1e280)  # nothing vanished or overflowed
    if not bool(plain.all()):
        top = g.abs().amax(-1)
        unit = torch.where(plain | (top == 0), 1.0, top)
        h = g / unit[:, None]
        direction, reach = _direction(h, p)
    some = torch.where(reach > 0, reach, 1.0)
    margin = 1 + _sum_slack(g.shape[1])  # so that L + gᵀη ≤ 0 survives rounding
    step = L.clamp_min(0) * margin / some / unit
    eta = round_up(direction * -step[:, None], dtype)
    none = (reach <= 0) & (L > 0)
    lam = torch.where(none, 1.0, torch.where(L > 0, 1 / (some ** (1 / q) * unit), 0.0))
    code = torch.where(none, Status.INFEASIBLE.code, Status.OPTIMAL.code)
    code = torch.where(reach.isfinite() & L.isfinite(), code, Status.INVALID.code).to(torch.int8)
    if dtype == torch.float64:
        return eta, lam, code, torch.zeros_like(none)
    length = step * direction.abs().amax(-1)
    risky = ((length > 0) & (length < g.shape[1] * TINY * torch.finfo(dtype).smallest_normal)) | (
        length > torch.finfo(dtype).max / 2
    )
    return eta, lam, code, risky


def _direction(h: Float[Tensor, "N d"], p: float) -> tuple[Float[Tensor, "N d"], Float[Tensor, " N"]]:
    """sign(h)|h|^{q−1} and Σ|h|^q; one coordinate for p = 1, signs for p = ∞."""
    if p == math.inf:
        return h.sign(), h.abs().sum(-1)
    if p == 2:
        return h, torch.linalg.vecdot(h, h)
    size = h.abs()
    if p == 1:
        top, k = size.max(-1, keepdim=True)
        return torch.zeros_like(h).scatter_(-1, k, h.gather(-1, k).sign()), top.squeeze(-1)
    power = size.pow(_exponent(p))
    return power.copysign(h), torch.linalg.vecdot(size, power)


def _cube_and_box(program: GN | GNII) -> Solution | None:
    """(GNII) over one ℓ∞ ball and one box around 0, as a pixel range is, without leaving the dtype of g; None for any other data.

    Every coordinate goes to its own bound, η_i = clip(−ε sign(g_i), lo_i, hi_i), and the tighter of the two takes −g_i.
    """
    g, sets = program.gradient, program.sets
    ball = next((item for item in sets if isinstance(item, Ball) and item.norm.p == math.inf), None)
    box = next((item for item in sets if isinstance(item, Box)), None)
    if len(sets) != 2 or ball is None or box is None or len(g) == 0:
        return None
    low, high, centred = box.inwards(g)
    radius = ball.radii(g)
    if not (centred and bool((radius.amin() > 0) & g.sum().isfinite() & program.L.sum().isfinite())):
        return None
    edge = round_down(radius, g.dtype)[:, None]
    eta = torch.minimum(torch.maximum(-edge * g.sign(), low), high)

    def multipliers() -> tuple[Tensor, ...]:
        v_box = -program.g * (eta.abs() < edge)
        return tuple(v_box if item is box else -program.g - v_box for item in sets)

    found = Solution(eta, codes(Status.OPTIMAL, g), multipliers, {"solver": "closed_form"})
    return found if _harmless(program, found) else _judged(program, found)


def _ball_and_box(program: GN | GNII) -> Solution:
    """(GNII) over at most one ball and any boxes, in units of the radius."""
    sets = program.sets
    balls = [j for j, item in enumerate(sets) if isinstance(item, Ball)]
    k = next((j for j in balls if _p(sets[j]) < math.inf), balls[0] if balls else None)
    side = _Descent.of(program, sets, k)
    w, p, dtype = side.w, _p(sets[k]) if k is not None else math.inf, program.gradient.dtype
    norm, slack = Lp(p), rounding_slack(w.shape[1])
    radius = sets[k].radii(w) if k is not None else torch.full_like(side.top, torch.inf)
    unit = torch.where((radius > 0) & (radius < torch.inf), radius, 1.0)
    full = torch.where(radius > 0, radius / unit, 0.0)
    nearest, most = side.nearest / unit[:, None], side.most / unit[:, None]
    a = torch.minimum(most, full[:, None] if side.centred else torch.maximum(nearest, full[:, None]))
    start = torch.zeros_like(full) if side.centred else norm(nearest)
    goal, empty = full * (1 - slack), start > full * (1 + slack)
    touching = ~empty & (start >= goal) & (full > 0)  # one point, at which a finite multiplier need not exist
    log_mu = torch.full_like(full, -torch.inf)  # of the ball's multiplier mu·sign(a)|a|^{p−1}, in units of `top`
    if p < math.inf:
        bound = (norm(a) > goal) & ~empty & (start < goal)
        rows = slice(None) if bool(bound.all()) else bound.nonzero().flatten()
        if p == 1:
            filled, price = _knapsack(
                w[rows], nearest[rows], a[rows], torch.ones_like(w[rows]), goal[rows] - start[rows]
            )
            log_mu[rows] = price.log()
        else:
            filled, log_kappa = _fill(w[rows], nearest[rows], a[rows], _exponent(p), goal[rows], p, side.centred)
            log_mu[rows] = (1 - p) * log_kappa
        a = filled if isinstance(rows, slice) else a.index_copy(0, rows, filled)
        if not side.centred:
            a = torch.where((start >= goal)[:, None], nearest, a)
        length = norm(a)
        step = torch.where(length > goal, (goal - start) / (length - start), 1.0).nan_to_num(0.0).clamp(0, 1)[:, None]
        a = a * step if side.centred else torch.where(step < 1, nearest + step * (a - nearest), a)
        share = torch.minimum(w, _slope(most, p, log_mu))
        share = share if side.centred else torch.maximum(share, _slope(nearest, p, log_mu))
        share = (
            torch.where(((full > 0) & ~touching)[:, None], share, w) if bool((touching | (full == 0)).any()) else share
        )
        size = a * unit[:, None]
    else:
        share = w * (most >= full[:, None])
        size = torch.maximum(side.nearest, torch.minimum(side.most, radius[:, None]))
    eta = side.back(round_down(side.sign * size, dtype))
    v_box = (w - share) * side.top[:, None] if p < math.inf else torch.where(share < w, program.g.abs(), 0.0)
    v_ball = program.g.abs() - v_box  # so that they sum to −g to the last bit where the box takes nothing
    if bool(empty.any()):
        pull = torch.where(empty[:, None], -Lp(norm.q).steepest(nearest), 0.0)
        v_ball, v_box = torch.where(empty[:, None], pull, v_ball), torch.where(empty[:, None], -pull, v_box)
    endless = torch.where(a.amax(-1) == torch.inf, Status.UNBOUNDED.code, Status.OPTIMAL.code)
    code = torch.where(empty, Status.INFEASIBLE.code, endless)
    found = side.finish(eta, code, side.spread(v_ball, v_box))
    if (
        side.centred and dtype != torch.float64 and len(sets) > (k is not None)
    ):  # the cost is Σσ_j(v_j), the gap what −gᵀη is below it
        cost, fall = side.cost(v_box), -torch.linalg.vecdot(program.g, found.eta.to(torch.float64))
        cost = cost if k is None else cost + radius * norm.dual(v_ball)
        close = cost - fall <= torch.finfo(dtype).eps * (program.L.abs() + fall)
    else:
        close = torch.zeros_like(empty)
    if not bool((close & (found.codes == Status.OPTIMAL.code)).all()):
        found = _judged(program, found)
    if not bool(touching.any()):
        return found
    wide = found.eta.to(torch.float64)
    proved = program.primal(wide) - program.bound(found.multipliers).value <= 1e-12 * _unit(program, wide)
    doubtful = touching & (found.codes == Status.OPTIMAL.code) & ~proved
    return Solution(
        found.eta,
        torch.where(doubtful, Status.UNDECIDED.code, found.codes).to(torch.int8),
        found.multipliers,
        found.stats,
    )


def _min_norm(program: MinNorm) -> Solution:
    """(8) over any boxes, in units of about ‖η‖ so that logarithms stay small."""
    p, norm, dtype = program.norm.p, program.norm, program.gradient.dtype
    side = _Descent.of(program, program.sets, None)
    zero = torch.zeros_like(side.top)
    w, need = side.w, program.L.nan_to_num(0.0, 0.0, 0.0) / side.top
    unit = need.abs() / norm.dual(w).clamp_min(1) + (zero if side.centred else norm(side.nearest))
    unit = torch.where((unit > 0) & (unit < torch.inf), unit, 1.0)
    nearest, most, need = side.nearest / unit[:, None], side.most / unit[:, None], need / unit
    reach0, reach1 = zero if side.centred else (w * nearest).sum(-1), (w * most).nan_to_num(0.0, torch.inf).sum(-1)
    idle, none = reach0 >= need, reach1 < need
    goal = need + _sum_slack(w.shape[1]) * (need.abs() + (zero if side.centred else (w * nearest.abs()).sum(-1)))
    bound = (goal < reach1) & ~idle & ~none
    rows = slice(None) if bool(bound.all()) else bound.nonzero().flatten()
    shrink = torch.ones_like(zero)
    log_mu = zero - torch.inf  # of the norm's share mu·sign(a)|a|^{p−1} of |g|/top
    if p == 1:
        filled, price = _knapsack(w[rows], nearest[rows], most[rows], w[rows], goal[rows] - reach0[rows])
        log_mu[rows] = price.log()
    else:
        filled, log_kappa = _fill(w[rows], nearest[rows], most[rows], _exponent(p), goal[rows], None, side.centred)
        log_mu[rows] = (1 - p) * log_kappa if p < math.inf else 0.0
    a = (
        filled
        if isinstance(rows, slice)
        else torch.where((idle | none)[:, None], nearest, most).index_copy(0, rows, filled)
    )
    full = ~idle & ~none & (goal >= reach1)  # every coordinate is at its bound: any multiplier that keeps it there
    if p == math.inf:
        length = norm(a)
        idle = idle | ((nearest.abs().amax(-1) >= length) & ~none)
        share = w * (most >= length[:, None])
    else:
        if bool(full.any()):
            least = torch.where((w > 0) & (most > 0), w.log() - (p - 1) * most.log(), torch.inf).amin(-1)
            log_mu = torch.where(full, least, log_mu)
        if side.centred:
            share = torch.minimum(w, _slope(most, p, log_mu))
        else:  # `nearest` may outweigh w beyond the range of a float
            over = (log_mu[:, None] + (p - 1) * nearest.abs().log()).nan_to_num(-torch.inf).amax(-1).clamp_min(0)
            shrink, log_mu = (-over).exp(), log_mu - over
            share = torch.maximum(
                torch.minimum(w * shrink[:, None], _slope(most, p, log_mu)), _slope(nearest, p, log_mu)
            )
    steep = norm.dual(share)  # λ scales −λg so that the norm's share of it is a unit vector of ‖·‖_q
    steep = torch.where(steep > 0, steep, 1.0)
    lam = shrink / steep / side.top
    lam = torch.where(idle, 0.0, torch.where(none, 1.0, lam)) if bool((idle | none).any()) else lam
    v_box = (
        program.g.abs() * lam[:, None]
    )  # as the certificate will compute λg, so that the norm's share survives the subtraction
    binds = (share != w * shrink[:, None]) | none[:, None]
    share = share / steep[:, None]
    if bool((idle | none).any()):
        share = torch.where(idle[:, None], -Lp(norm.q).steepest(nearest), torch.where(none[:, None], 0.0, share))
        binds = binds | idle[:, None]
    v_box = (v_box - share) * binds
    wide = side.sign * a * unit[:, None]
    eta = round_up(wide, dtype)
    if not side.centred:  # where the box forces an entry uphill, away from zero is uphill as well
        eta = torch.where(a < 0, round_down(wide, dtype), eta)
    eta = side.back(eta)
    code = torch.where(none, Status.INFEASIBLE.code, Status.OPTIMAL.code)
    found = side.finish(eta, code, side.spread(share, v_box), lam)
    if side.centred and dtype != torch.float64:  # then ‖η‖ ≥ λL − Σσ_j(v_j) is this bound
        limit, wide = torch.finfo(dtype).eps, found.eta.to(torch.float64)
        length, least = norm(wide), lam * program.L - side.cost(v_box)
        close = (length - least <= limit * length) & (
            program.L + torch.linalg.vecdot(program.g, wide) <= limit * program.L.abs()
        )
        if bool((close & (found.codes == Status.OPTIMAL.code)).all()):
            return found
    return _judged(program, found)


@dataclass(frozen=True, eq=False)
class _Descent:
    """The data of N items in the direction of descent: η = sign·a, bounds on a, and |g| = top·w with 0 ≤ w ≤ 1."""

    sign: Float[Tensor, "N d"]
    top: Float[Tensor, " N"]
    w: Float[Tensor, "N d"]
    nearest: Float[Tensor, "N d"]  # the a nearest to 0
    most: Float[Tensor, "N d"]  # the largest a that helps: the upper bound, or `nearest` where w = 0
    centred: bool  # 0 is in every box, so nearest = 0
    low: Float[Tensor, "N d"]  # bounds on η in its own dtype, rounded inwards
    high: Float[Tensor, "N d"]
    valid: Bool[Tensor, " N"]
    clash: Bool[Tensor, " N"]  # some lower bound is above its upper bound
    bounds: tuple[tuple[Tensor, Tensor] | None, ...]  # of each set; None for the ball

    @staticmethod
    def of(program: Program, sets: tuple[ConvexSet, ...], skip: int | None) -> _Descent:
        g, dtype = program.g, program.gradient.dtype
        bounds = tuple(None if j == skip else _bounds(item, g) for j, item in enumerate(sets))
        pairs = [pair for pair in bounds if pair is not None] or [
            (g.new_full((1, 1), -torch.inf).expand(g.shape), g.new_full((1, 1), torch.inf).expand(g.shape))
        ]
        low, high = (
            reduce(torch.maximum, [pair[0] for pair in pairs]),
            reduce(torch.minimum, [pair[1] for pair in pairs]),
        )
        top = g.abs().amax(-1)
        room = (high - low).amin(-1) if g.numel() else top
        valid = top.isfinite() & program.value.isfinite()
        ordered = (low <= high).all(-1) if bool(room.isnan().any()) else room >= 0
        if not bool(ordered.all()):
            valid = valid & ~(low.isnan() | high.isnan()).any(-1)
        if not bool(valid.all()):
            g, low, high = (torch.where(valid[:, None], part, 0.0) for part in (g, low, high))
        low, high = round_inwards(low, high, dtype)
        top = torch.where(valid & (top > 0), top, 1.0)
        sign = torch.ones_like(g).copysign_(-g)
        one, other = sign * low, sign * high
        least, most = torch.minimum(one, other), torch.maximum(one, other)
        centred = bool((least.amax() <= 0) & (most.amin() >= 0)) if g.numel() else True
        nearest = torch.zeros_like(g) if centred else torch.minimum(least.clamp_min(0), most)
        w = g.abs() / top[:, None]
        if w.numel() and float(w.amin()) == 0:
            most = torch.where(w > 0, most, nearest)
        return _Descent(sign, top, w, nearest, most, centred, low, high, valid, valid & ~ordered, bounds)

    def back(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        """η within its bounds, which rounding may have passed by one unit in the last place."""
        return torch.minimum(torch.maximum(eta, self.low), self.high)

    def merged(self) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """All boxes as one, before any rounding."""
        pairs = [pair for pair in self.bounds if pair is not None]
        return reduce(torch.maximum, [pair[0] for pair in pairs]), reduce(torch.minimum, [pair[1] for pair in pairs])

    def cost(self, v_box: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Σσ_j(v_j) of the boxes, 0 being in all of them; NaN where a bound is infinite."""
        v, (low, high) = v_box * self.sign, self.merged()
        paid: Tensor = torch.linalg.vecdot(v.clamp_min(0), high) + torch.linalg.vecdot(v.clamp_max(0), low)
        return paid

    def spread(self, v_ball: Float[Tensor, "N d"], v_box: Float[Tensor, "N d"]) -> tuple[Tensor, ...]:
        """One multiplier a set, for η: each coordinate of the box's goes to the set whose bound is the tight one."""
        pairs = [pair for pair in self.bounds if pair is not None]
        left, out = v_box * self.sign, []
        for pair in self.bounds:
            if pair is None:
                out.append(v_ball * self.sign)
            elif len(pairs) == 1:
                out.append(left)
            else:
                low, high = self.merged()
                mine = torch.where(left > 0, pair[1] == high, pair[0] == low)
                out.append(left * mine)
                left = left * ~mine
        return tuple(out)

    def finish(self, eta: Tensor, code: Tensor, multipliers: tuple[Tensor, ...], lam: Tensor | None = None) -> Solution:
        """The solution, with items that have none set to NaN."""
        if bool(self.clash.any()):
            multipliers = self._prove_clash(multipliers)
            lam = None if lam is None else torch.where(self.clash, 0.0, lam)
            code = torch.where(self.clash, Status.INFEASIBLE.code, code)
        code = torch.where(self.valid, code, Status.INVALID.code).to(torch.int8)
        return Solution(
            _blank(eta, code), code, multipliers if lam is None else (lam, *multipliers), {"solver": "closed_form"}
        )

    def _prove_clash(self, multipliers: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Where two bounds exclude each other at coordinate k, e_k on the upper one and −e_k on the lower one: Σv = 0 and Σσ(v) < 0."""
        low, high = self.merged()
        at = torch.zeros_like(self.w, dtype=torch.bool).scatter_(
            -1, (low - high).nan_to_num(-torch.inf).argmax(-1, keepdim=True), True
        )
        upper, lower, proof = at, at, []
        for pair, v in zip(self.bounds, multipliers, strict=True):
            mine = torch.zeros_like(v)
            if pair is not None:
                above, below = upper & (pair[1] == high), lower & (pair[0] == low)
                upper, lower = upper & ~above, lower & ~below
                mine = above.to(v) - below.to(v)
            proof.append(torch.where(self.clash[:, None], mine, v))
        return tuple(proof)


def _blank(eta: Tensor, code: Tensor) -> Tensor:
    """η, NaN where the claim is that there is none."""
    nothing = (code == Status.INFEASIBLE.code) | (code == Status.INVALID.code) | (code == Status.UNBOUNDED.code)
    return torch.where(nothing[:, None], torch.nan, eta) if bool(nothing.any()) else eta


def _fill(
    w: Float[Tensor, "n d"],
    nearest: Float[Tensor, "n d"],
    most: Float[Tensor, "n d"],
    r: float,
    goal: Float[Tensor, " n"],
    p: float | None,
    centred: bool,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """a_i = clip(κ w_i^r, nearest_i, most_i) with Σ|a_i|^p = goal^p, or with Σ w_i a_i = goal where p is None; returns a and log κ.

    With the free coordinates F known, Σ over F is κ^power·B, so κ is explicit; that is Newton's step, and it is final once F no longer
    changes. With 0 in the box it climbs monotonically, in 5 to 10 steps as a rule.
    """
    moderate = r <= 4 and (p is None or p <= 32)  # w^r and a^p stay in range
    goal = goal if p is None else goal**p
    if not moderate:
        return _fill_guarded(w, nearest, most, r, goal, p)
    simple = (
        None if centred else (nearest == 0).all(-1)
    )  # each item by its own data: no answer depends on its neighbours
    if simple is None or bool(simple.all()):
        return _fill_centred(w, most, r, goal, p)
    a, log_kappa = _fill_guarded(w, nearest, most, r, goal, p)
    if bool(simple.any()):
        k = simple.nonzero().flatten()
        a[k], log_kappa[k] = _fill_centred(w[k], most[k], r, goal[k], p)
    return a, log_kappa


def _fill_centred(w: Tensor, most: Tensor, r: float, goal: Tensor, p: float | None) -> tuple[Tensor, Tensor]:
    """`_fill` with nearest = 0: a_i = min(κ w_i^r, most_i)."""
    power = 1.0 if p is None else p
    e = (w > 0).to(w) if r == 0 else w if r == 1 else w.pow(r)
    free_part = w * e if p is None else e * e if p == 2 else e.pow(p)
    full_part = (w * most if p is None else most * most if p == 2 else most.pow(p)).nan_to_num(
        0.0, 0.0
    )  # an infinite bound never binds
    rows = None
    kappa = result = (goal / free_part.sum(-1)) ** (1 / power)
    live = (e, most, free_part, full_part, goal)
    for _ in range(w.shape[-1] + 1):  # each step but the last fixes a coordinate
        e_, most_, free_, full_, goal_ = live
        full = (e_ * kappa[:, None]).ge_(most_)
        left = goal_ - torch.linalg.vecdot(full_, full)
        new = (left / torch.linalg.vecdot(free_, 1 - full)).clamp_min(0) ** (1 / power)
        moved = (new > kappa * (1 + 2e-15)) & (new < torch.inf)
        kappa = torch.where(moved, new, kappa)
        if rows is None:
            result = kappa
        else:
            result[rows] = kappa
        alive = int(moved.sum())
        if alive == 0:
            break
        if alive <= len(kappa) // 2:  # live rows only
            rows = moved.nonzero().flatten() if rows is None else rows[moved]
            kappa, live = kappa[moved], tuple(part[moved] for part in live)  # type: ignore[assignment]
    return torch.minimum(e * result[:, None], most), result.log()


def _fill_guarded(
    w: Tensor, nearest: Tensor, most: Tensor, r: float, goal: Tensor, p: float | None
) -> tuple[Tensor, Tensor]:
    """`_fill` for any box and any p: y = log κ, so that κ and w^r stay in range (r = 1000 at p = 1.001); a bracket guards Newton."""
    power = 1.0 if p is None else p
    log_w = w.log()
    log_e = torch.where(w > 0, r * log_w, -torch.inf) if r else torch.where(w > 0, 0.0, -torch.inf)
    log_b = torch.where(w > 0, power * log_e + (log_w if p is None else 0.0), -torch.inf)

    def weigh(a: Tensor, w: Tensor) -> Tensor:
        return w * a if p is None else a * a if p == 2 else a.abs() ** p

    never = weigh(torch.where(most <= 0, nearest, 0.0), w).sum(-1)
    y = ((goal - never).clamp_min(1e-300).log() - torch.where(most > 0, log_b, -torch.inf).logsumexp(-1)) / power
    result = torch.empty_like(y)
    rows = torch.arange(len(y), device=y.device)
    low, high = torch.full_like(y, -torch.inf), torch.full_like(y, torch.inf)
    live = (w, nearest, most, log_e, log_b, goal)
    for _ in range(200):  # 10 as a rule; the bracket alone would need 80
        w_, n_, u_, e_, b_, goal_ = live
        t = (y[:, None] + e_).exp()
        free = (t > n_) & (t < u_)
        fixed = torch.where(free, 0.0, weigh(torch.minimum(torch.maximum(t, n_), u_), w_)).sum(-1)
        log_free = torch.where(free, b_, -torch.inf).logsumexp(-1)
        short = fixed + (power * y + log_free).exp() < goal_
        low, high = torch.where(short, y, low), torch.where(short, high, y)
        new = ((goal_ - fixed).log() - log_free) / power  # NaN or ±∞ where nothing is free
        middle = torch.where(
            low == -torch.inf, y - 1 - y.abs(), torch.where(high == torch.inf, y + 1 + y.abs(), (low + high) / 2)
        )
        ends = (high - low) <= 4e-16 * y.abs()
        same = (new - y).abs() <= 2e-16 * y.abs().clamp_min(1)
        new = torch.where(same, new, torch.where((new > low) & (new < high), new, middle))
        done = same | ends
        y = torch.where(ends & ~same, y, new)
        if bool(done.all()):
            break
        if int(done.sum()) > len(y) // 2:
            result[rows[done]] = y[done]
            rows, y, low, high = (part[~done] for part in (rows, y, low, high))
            live = tuple(part[~done] for part in live)  # type: ignore[assignment]
    result[rows] = y
    t = (result[:, None] + log_e).exp()
    free = (t > nearest) & (t < most)
    a = torch.minimum(torch.maximum(t, nearest), most)
    parts = weigh(a, w)
    fixed, moving = torch.where(free, 0.0, parts).sum(-1), torch.where(free, parts, 0.0).sum(-1)
    exact = ((goal - fixed) / moving).nan_to_num(1.0, 1.0, 1.0).clamp(0.5, 2.0) ** (
        1 / power
    )  # undoes the rounding of the logarithms
    return torch.minimum(torch.maximum(torch.where(free, t * exact[:, None], a), nearest), most), result


def _knapsack(
    w: Float[Tensor, "n d"],
    nearest: Float[Tensor, "n d"],
    most: Float[Tensor, "n d"],
    gain: Float[Tensor, "n d"],
    budget: Float[Tensor, " n"],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """p = 1: from `nearest`, raise coordinates by descending w until Σ gain·(a − nearest) = budget; returns a and the last w raised."""
    order = w.argsort(dim=-1, descending=True, stable=True)
    room = torch.where(w > 0, most - nearest, 0.0).gather(-1, order)
    gain = gain.gather(-1, order)
    spent = torch.where(room > 0, gain * room, 0.0).cumsum(-1).roll(1, -1)
    spent[:, 0] = 0.0
    left = budget[:, None] - spent
    taken = torch.minimum((left / torch.where(gain > 0, gain, 1.0)).clamp_min(0), room)
    last = ((left > 0) & (room > 0)).to(torch.int64) * torch.arange(1, w.shape[-1] + 1, device=w.device)
    price = w.gather(-1, order).gather(-1, (last.amax(-1, keepdim=True) - 1).clamp_min(0)).squeeze(-1)
    return nearest + torch.zeros_like(w).scatter_(-1, order, taken), price


def _sum_slack(d: int) -> float:
    """What Σ|g_i|a_i, a sum of d products, is raised by relatively so that it reaches L in spite of rounding."""
    return (2 * math.isqrt(d) + 8) * 2.0**-53


def _slope(x: Float[Tensor, "N d"], p: float, log_mu: Float[Tensor, " N"]) -> Float[Tensor, "N d"]:
    """μ·sign(x)|x|^{p−1}."""
    if p == 2:
        return x * log_mu.exp()[:, None]
    if 1 < p <= 8:
        return x.abs().pow(p - 1).copysign(x) * log_mu.exp()[:, None]
    size = log_mu[:, None] + ((p - 1) * x.abs().log() if p > 1 else torch.zeros_like(x))
    return torch.where((x == 0) | x.isinf(), x, x.sign() * size.exp())


def _bounds(item: ConvexSet, like: Float[Tensor, "N d"]) -> tuple[Tensor, Tensor]:
    if isinstance(item, Box):
        return item.bounds(like)
    edge = item.radii(like)[:, None].expand(like.shape)
    return -edge, edge


def _p(item: ConvexSet) -> float:
    assert isinstance(item, Ball)
    return item.norm.p


def _exponent(p: float) -> float:
    """q − 1."""
    return 0.0 if p == math.inf else 1 / (p - 1)


def _harmless(program: Program, found: Solution) -> bool:
    """Whether rounding towards zero, once an entry, cannot have cost a unit in the last place of any optimum.

    It costs less than one of each entry, or less than the smallest normal number, which is nothing beside the whole.
    """
    if not bool((found.codes == Status.OPTIMAL.code).all()):
        return False
    info = torch.finfo(found.eta.dtype)
    g = program.gradient if info.bits >= 32 else program.g
    fall = torch.linalg.vecdot(g, found.eta.to(g.dtype)).abs()
    lost = g.abs().amax(-1) * (g.shape[1] * info.smallest_normal)
    return bool((1000 * lost <= info.eps * fall).all())


def _judged(program: Program, found: Solution) -> Solution:
    """INEXACT where a dtype narrower than float64 cost more than a unit in the last place of the optimum, or has no number in a box.

    In float64, UNDECIDED where (8) is so nearly feasible that the multipliers do not prove it infeasible.
    """
    if found.eta.dtype == torch.float64:
        claimed = found.codes == Status.INFEASIBLE.code
        if not bool(claimed.any()):
            return found
        unproved = claimed & ~program.excludes(found.multipliers)
        return Solution(
            found.eta,
            torch.where(unproved, Status.UNDECIDED.code, found.codes).to(torch.int8),
            found.multipliers,
            found.stats,
        )
    eta, limit = found.eta.to(torch.float64), torch.finfo(found.eta.dtype).eps
    gap = program.primal(eta) - program.bound(found.multipliers).value
    fine = (gap <= limit * _unit(program, eta)) & (program.violation(eta) <= limit)
    for item in program.sets:
        if isinstance(item, Box):  # between its bounds there need not be a number of this dtype
            fine = fine & (item.violation(eta) == 0)
    claimed = found.codes == Status.INFEASIBLE.code
    if bool(claimed.any()):
        fine = torch.where(claimed, program.excludes(found.multipliers), fine)
    settled = (found.codes == Status.OPTIMAL.code) | (found.codes == Status.INFEASIBLE.code)
    code = torch.where(settled & ~fine, Status.INEXACT.code, found.codes).to(torch.int8)
    return Solution(found.eta, code, found.multipliers, found.stats)


def _unit(program: Program, eta: Tensor) -> Float[Tensor, " N"]:
    """What a unit in the last place is relative to: the size of the optimum, or of what it is summed from."""
    if isinstance(program, MinNorm):
        return program.primal(eta)
    return program.L.abs() + program.scale()
