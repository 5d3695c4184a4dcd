"""(GNII) over one ball and one box around 0, and (8) alone or over one such box, in float32: the steps of an attack.

The closed forms of `closed_form` without copies of the gradients in float64. Every answer is inside its sets and loses at most two units in
the last place of the optimum: for (8) alone by the way it is rounded, else by sums in float64 that are looked at. `Quick.good` is False
where they fail, or where numbers are so small or large that a square leaves the range of float32; such items are for `closed_form`.

Notation as there: η = −sign(g)·a with 0 ≤ a ≤ u, and a_i = min(κ|g_i|^{q−1}, u_i) for one κ an item.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convexattack.norms import Lp
from convexattack.numerics import by_rows, round_down, round_up, sum64
from convexattack.programs import GN, GNII, MinNorm, Program
from convexattack.sets import Ball, Box

__all__ = ["Quick", "solve"]

HALF = 2.0**-24  # half a unit in the last place of float32
STEEPEST = (16, 64)  # how many of the steepest coordinates p = 1 looks at, first and where those are too few


@dataclass(frozen=True, eq=False)
class Quick:
    """η of N items, which of them hold, and their multipliers when someone looks."""

    eta: Float[Tensor, "N d"]
    good: Bool[Tensor, " N"]
    multipliers: Callable[[], tuple[Tensor, ...]]


def solve(program: Program) -> Quick | None:
    """None for programs that are others."""
    sets, g = program.sets, program.gradient
    boxes = [item for item in sets if isinstance(item, Box)]
    balls = [item for item in sets if isinstance(item, Ball)]
    if g.dtype != torch.float32 or g.numel() == 0:
        return None
    if isinstance(program, MinNorm) and not sets:
        return _shortest_alone(program) if program.norm.p in (1, 2, math.inf) else None
    if len(boxes) != 1 or len(boxes) + len(balls) != len(sets):
        return None
    low, high, centred = boxes[0].inwards(g)
    if isinstance(program, MinNorm) and not balls and program.norm.p in (1, 2, math.inf):
        shortest = _shortest_sparse if program.norm.p == 1 else _shortest
        found = shortest(program, boxes[0], low, high)
    elif isinstance(program, GN | GNII) and len(balls) == 1 and balls[0].norm.p in (1, 2):
        lowest = _lowest_sparse if balls[0].norm.p == 1 else _lowest
        found = lowest(program, balls[0], boxes[0], low, high)
    else:
        return None
    around = (
        found.good if centred else found.good & ((low <= 0) & (high >= 0)).all(-1)
    )  # each item by its own box alone
    return Quick(found.eta, around, found.multipliers)


def _room(g: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """u: how far each coordinate may go downhill; 0 where g is 0."""
    down = g.sign().neg_()
    return torch.maximum(low * down, down.mul_(high))


def _lowest(program: GN | GNII, ball: Ball, box: Box, low: Tensor, high: Tensor) -> Quick:
    """(GNII), p = 2: Σ min(κ|g_i|, u_i)² = ε². The sum is aimed at half a unit below, and may be off by half of that."""
    g, radius = program.gradient, ball.radii(program.gradient)
    square = radius.square()
    w, most = g.abs(), _room(g, low, high)
    slopes, rooms = w * w, most * most
    kappa, full = _newton(
        slopes, rooms, square, lambda kappa, out: torch.mul(w, kappa[:, None], out=out).ge_(most), 0.5
    )
    fixed, free = sum64(rooms.mul_(full)), sum64(slopes.addcmul_(slopes, full, value=-1))
    kappa = ((square * (1 - 2 * HALF) - fixed) / free).sqrt()
    eta = _scaled(g, kappa, low, high)
    length = sum64(eta * eta)
    good = (length <= square * (1 - 1.01 * HALF)) & (length >= square * (1 - 2.99 * HALF)) & program.L.isfinite()
    good = good & (kappa > 1e-15) & (kappa < 1e15) & (square > 1e-20) & (square < 1e30)

    def multipliers() -> tuple[Tensor, ...]:
        share = torch.minimum(program.g.abs(), _room(program.g, *box.bounds(g)) / kappa[:, None])
        v_ball = share.copysign(-program.g)
        return tuple(v_ball if item is ball else -program.g - v_ball for item in program.sets)

    return Quick(eta, good, multipliers)


def _lowest_sparse(program: GN | GNII, ball: Ball, box: Box, low: Tensor, high: Tensor) -> Quick:
    """(GNII), p = 1: the steepest coordinates go to their bounds until ε is spent."""
    radius = ball.radii(program.gradient)

    def spend(k: int, g: Tensor, low: Tensor, high: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steepest = _Steepest.of(k, g, low, high, radius * (1 - 2.0**-40), weighted=False)
        return (
            steepest.eta(g, round_down(steepest.left, g.dtype)),
            steepest.price,
            steepest.good & (radius > 1e-20) & (radius < 1e30),
        )

    eta, price, good = _few_then_many(spend, program.gradient, low, high, radius)

    def multipliers() -> tuple[Tensor, ...]:
        v_ball = torch.minimum(program.g.abs(), price[:, None]).copysign(-program.g)
        return tuple(v_ball if item is ball else -program.g - v_ball for item in program.sets)

    return Quick(eta, good & program.L.isfinite(), multipliers)


def _shortest(program: MinNorm, box: Box, low: Tensor, high: Tensor) -> Quick:
    """(8), p = 2 and ∞: Σ|g_i| min(κ|g_i|^{q−1}, u_i) = L. The sum is aimed at one unit above, and may be off by half a unit."""
    g, L, cube = program.gradient, program.L, program.norm.p == math.inf
    w, most = g.abs(), _room(g, low, high)
    slopes, rooms = w.clone() if cube else w * w, w * most

    def full_at(kappa: Tensor, out: Tensor) -> Tensor:
        return out.copy_(most).le_(kappa[:, None]) if cube else torch.mul(w, kappa[:, None], out=out).ge_(most)

    kappa, full = _newton(slopes, rooms, L, full_at, 1.0)
    fixed, free = sum64(rooms.mul_(full)), sum64(slopes.addcmul_(slopes, full, value=-1))
    kappa = (L * (1 + (1.05 if cube else 1.5) * HALF) - fixed) / free
    if cube:
        edge = round_up(kappa, g.dtype)
        eta = torch.minimum(torch.maximum(g.sign().mul_(-edge[:, None]), low), high)
        slope = kappa * free  # L·dκ/dL is L/free
    else:
        eta = _scaled(g, kappa, low, high)
        slope = sum64(eta * eta) / kappa
    fall = sum64(g * eta).neg_()  # of products that float32 has rounded by half a unit at most
    excess = fall - L + 2 * HALF * fixed  # the bounds may have lost a unit each, which the other coordinates made good
    good = (fall >= L * (1 + 1.01 * HALF)) & (excess <= 4 * HALF * slope) & (L < 1e30) & (L > 1e-20)
    good = good & (kappa > 1e-15) & (kappa < 1e15)

    def multipliers() -> tuple[Tensor, ...]:
        share, room = program.g.abs(), _room(program.g, *box.bounds(g))
        share = share * (room > kappa[:, None]) if cube else torch.minimum(share, room / kappa[:, None])
        return _scaled_multipliers(g, program.norm, share)

    return Quick(eta, good, multipliers)


def _shortest_alone(program: MinNorm) -> Quick:
    """(8) without sets, η = −L/‖g‖_q^q · sign(g)|g|^{q−1}: p = 1 and ∞ round one number up; p = 2 rounds each by half a unit in the last
    place, and aims half a unit higher.
    """
    g, L, p = program.gradient, program.L, program.norm.p
    need = L * (1 + 2.0**-40 + g.shape[1] * 2.0**-53)  # sums in float64 are off by less
    if p == 2:
        eta, steep = by_rows(_straight, g, need * (1 + HALF))
    else:
        at = g.abs().argmax(-1, keepdim=True) if p == 1 else None
        steep = sum64(g.abs()) if at is None else g.gather(1, at)[:, 0].abs().to(torch.float64)
        edge = round_up(need / steep, g.dtype)[:, None]
        eta = (
            g.sign().mul_(-edge) if at is None else torch.zeros_like(g).scatter_(1, at, -edge * g.gather(1, at).sign())
        )
    length = need / steep
    good = (length > 1e-15) & (length < 1e15) & (L > 1e-20) & (L < 1e30)
    return Quick(eta, good, lambda: (1 / steep,))


def _straight(g: Float[Tensor, "N d"], goal: Float[Tensor, " N"]) -> tuple[Tensor, Tensor]:
    """η = −goal·g/‖g‖² in the dtype of g, and ‖g‖."""
    wide = g.to(torch.float64)
    steep = torch.linalg.vector_norm(wide, 2, -1)
    return wide.mul_(-(goal / steep / steep)[:, None]).to(g.dtype), steep


def _shortest_sparse(program: MinNorm, box: Box, low: Tensor, high: Tensor) -> Quick:
    """(8), p = 1: the steepest coordinates go to their bounds until the linear model has fallen to 0."""

    def spend(k: int, g: Tensor, low: Tensor, high: Tensor, L: Tensor, *exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steepest = _Steepest.of(k, g, low, high, L * (1 + 2.0**-40), weighted=True)
        part = round_up(steepest.left / steepest.price, g.dtype)
        eta = steepest.eta(g, part)
        excess = steepest.lost(g, *exact) / steepest.price + 2 * HALF * part
        good = steepest.good & (part <= steepest.most) & (part > 1e-30) & (L < 1e30) & (L > 1e-20)
        return eta, steepest.price, good & (excess <= 4 * HALF * sum64(eta.abs()))

    g, norm = program.gradient, program.norm
    eta, price, good = _few_then_many(spend, g, low, high, program.L, *box.bounds(g))
    return Quick(
        eta, good, lambda: _scaled_multipliers(g, norm, torch.minimum(g.to(torch.float64).abs(), price[:, None]))
    )


def _few_then_many(
    spend: Callable[..., tuple[Tensor, Tensor, Tensor]], *parts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """η, the last price and which items hold, from few of the steepest coordinates, and from more where those did not do."""
    few, many = STEEPEST
    found = spend(few, *parts)
    again = (~found[2]).nonzero().flatten()
    if len(again) == 0 or parts[0].shape[1] <= few:
        return found
    others = spend(many, *(part[again] for part in parts))
    eta, price, good = (old.index_copy(0, again, new) for old, new in zip(found, others, strict=True))
    return eta, price, good


def _scaled_multipliers(gradient: Tensor, norm: Lp, share: Float[Tensor, "N d"]) -> tuple[Tensor, ...]:
    """(λ, v) of (8) from the norm's share of |g|: λ scales it to a unit vector of ‖·‖_q, and the box takes the rest of −λg."""
    g, lam = gradient.to(torch.float64), 1 / norm.dual(share)
    return lam, ((g.abs() - share) * lam[:, None]).copysign(-g)


def _newton(
    slopes: Tensor, rooms: Tensor, goal: Tensor, full_at: Callable[[Tensor, Tensor], Tensor], root: float
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N d"]]:
    """κ with Σ_full rooms + κ^{1/root} Σ_free slopes = goal, from below; and 1.0 where a coordinate is full, else 0.0."""
    goal = goal.to(slopes.dtype)
    kappa, full, terms = (goal / slopes.sum(-1)).pow(root), torch.empty_like(slopes), torch.empty_like(slopes)
    for _ in range(40):  # 5 to 10 as a rule
        full = full_at(kappa, full)
        left = goal - torch.mul(rooms, full, out=terms).sum(-1)
        free = torch.addcmul(slopes, slopes, full, value=-1, out=terms).sum(-1)
        new = (left.clamp_min_(0) / free).pow(root)
        moved = (new > kappa * (1 + 1e-6)) & (new < torch.inf)
        if not bool(moved.any()):
            break
        kappa = torch.where(moved, new, kappa)
    return kappa, full


def _scaled(g: Tensor, kappa: Float[Tensor, " N"], low: Tensor, high: Tensor) -> Float[Tensor, "N d"]:
    """−κg within its bounds, κ being more than a float32."""
    head = kappa.to(g.dtype)
    rest = (kappa - head).to(g.dtype)
    eta = torch.addcmul(g * -rest[:, None], g, -head[:, None])
    return torch.minimum(torch.maximum(eta, low), high)


@dataclass(frozen=True, eq=False)
class _Steepest:
    """The k steepest coordinates of each item, and where its budget ends among them."""

    at: Tensor  # (N, k) which coordinates
    room: Tensor  # (N, k) their u
    last: Tensor  # (N,) the place of the one that ends the budget
    price: Tensor  # (N,) its |g|, float64
    most: Tensor  # (N,) its u
    left: Tensor  # (N,) what is left of the budget for it, float64
    good: Tensor  # (N,) whether the budget ends there, at a coordinate as steep as no other

    @staticmethod
    def of(k: int, g: Tensor, low: Tensor, high: Tensor, budget: Tensor, weighted: bool) -> _Steepest:
        """The budget is one of Σa_i, or of Σ|g_i|a_i (`weighted`)."""
        k = min(k, g.shape[1])
        top, at = g.abs().topk(k, -1)
        room = _room(g.gather(1, at), low.gather(1, at), high.gather(1, at))
        wide = room.to(torch.float64)
        spent = (wide * top if weighted else wide).cumsum(-1)
        last = (spent < budget[:, None]).sum(-1, keepdim=True)
        known = last < (k if k == g.shape[1] else k - 1)  # so that one just as steep would be seen
        last = last.clamp_max(k - 1)
        price = top.gather(1, last)
        alone = ((top == price).sum(-1, keepdim=True) == 1) & (price > 1e-30) & (price < 1e30)
        before = torch.where(last > 0, spent.gather(1, (last - 1).clamp_min(0)), 0.0)
        left = budget[:, None] - before
        numbers = top[:, :1].isfinite() & spent[:, -1:].isfinite()  # NaN counts as the steepest
        columns = (last, price.to(torch.float64), room.gather(1, last), left, known & alone & numbers)
        return _Steepest(at, room, *(column[:, 0] for column in columns))

    def lost(self, g: Tensor, low: Tensor, high: Tensor) -> Float[Tensor, " N"]:
        """How much less the linear model falls over those before the last, because these bounds were rounded to float32."""
        low, high, g = (whole.gather(1, self.at) for whole in (low, high, g))
        order = torch.arange(self.at.shape[1], device=g.device)
        less = (_room(g.to(torch.float64), low, high) - self.room) * (order < self.last[:, None])
        return (g.abs() * less).sum(1)

    def eta(self, g: Tensor, part: Float[Tensor, " N"]) -> Float[Tensor, "N d"]:
        """All before the last at their bounds, the last at `part`."""
        order = torch.arange(self.at.shape[1], device=g.device)
        taken = self.room * (order < self.last[:, None])
        taken = taken.scatter(1, self.last[:, None], part[:, None])
        return torch.zeros_like(g).scatter_(1, self.at, taken * -g.gather(1, self.at).sign())
