"""(GNII) and (GN): minimize L + gᵀη over a ball, a box, or both; the two share everything but the question."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from convexattack.certificates import Certificate
from convexattack.explain.notation import apart, n, norm, signed, vector
from convexattack.explain.page import Step
from convexattack.explain.parts import (
    BOX,
    SEEN,
    SIGMA,
    Item,
    certified,
    close,
    cut,
    dot,
    exponent,
    length,
    near,
    nothing,
    steepest,
)
from convexattack.norms import Lp
from convexattack.programs import GN, GNII
from convexattack.sets.record import ball_and_box
from convexattack.solution import Solution, Status

__all__ = ["explain"]


def explain(program: GN | GNII, solution: Solution, certificate: Certificate) -> Iterator[Step]:
    """The steps for item 0 of a program with at most one ball, then at most one box."""
    side, status = _Side(program, solution), solution.status[0]
    yield side.program()
    if status in (Status.INVALID, Status.UNBOUNDED, Status.FAILED):
        yield nothing(status)
        return
    yield side.lagrangian()
    if math.isnan(side.item.eta[0]):
        yield side.empty()
        yield certified(certificate, status, SEEN, side.scale)
        return
    yield side.dual()
    if side.asks:
        yield side.proposition_1(status)
    yield side.optimum()
    yield side.tight()
    meaning = (
        "`η` lies in the set, so the smallest `L + gᵀη` is at most primal; the multipliers prove that it is at least "
        "dual."
    )
    yield certified(certificate, status, meaning, 0.0 if status is Status.FEASIBLE else side.scale)


class _Side:
    """The numbers of one program, and a method for each step."""

    def __init__(self, program: GN | GNII, solution: Solution) -> None:
        item = self.item = Item.of(program, solution)
        self.asks = isinstance(program, GN)
        ball = (ball_and_box(program.sets) or (None, None))[0]
        self.ball, self.boxed = ball is not None, item.boxed
        self.p = ball.norm.p if ball else math.inf
        self.q = Lp(self.p).q
        self.P, self.Q = f"{{{n(self.p)}}}", f"{{{n(self.q)}}}"
        self.eps = float(ball.radii(program.g)[0]) if ball else 0.0
        parts = [part[0].to(torch.float64).tolist() for part in solution.multipliers]
        zero = [0.0] * len(item.g)
        self.v = parts[0] if self.ball else zero
        self.w = parts[-1] if self.boxed else zero
        self.mu, self.sigma = length(self.q, self.v), item.support(self.w)
        if self.boxed and self.mu <= 1e-12 * length(self.q, item.g):  # rounding alone: the ball is not reached
            self.v, self.mu = zero, 0.0
        self.value = item.L - self.eps * self.mu - self.sigma
        self.scale = abs(item.L) + abs(self.eps * self.mu) + abs(self.sigma)
        self.fall = f"ε‖g‖_{self.Q}"
        if self.boxed:
            self.fall = f"ε‖v‖_{self.Q} + σ(w)" if self.ball else "σ(w)"

    def program(self) -> Step:
        where = ",  ".join([f"‖η‖_{self.P} ≤ ε"] * self.ball + [BOX] * self.boxed)
        data = self.item.given(*[f"p = {n(self.p)}", f"ε = {n(self.eps)}"] * self.ball)
        if self.asks:
            words = (
                "Is there a perturbation in the set that the linear model `L + gᵀη` of equation (1) calls adversarial?"
            )
            return Step("The program, (GN)", words, (f"find η  subject to  L + gᵀη < 0,  {where}", *data))
        words = "The linear model of equation (1) is to fall as far as the set allows."
        return Step("The program, (GNII)", words, (f"minimize L + gᵀη  subject to  {where}", *data))

    def lagrangian(self) -> Step:
        words = (
            "(GN) has an answer exactly if the minimum of `L + gᵀη` over the set, which is (GNII), is negative. "
            * self.asks
        )
        if not self.boxed:
            words += (
                f"One multiplier, `μ ≥ 0`, for the one constraint: where `‖η‖_{self.P} ≤ ε`, `Λ` is at most `L + gᵀη`."
            )
            return Step("The Lagrangian", words, (f"Λ(η, μ) = L + gᵀη + μ(‖η‖_{self.P} − ε)",))
        if not self.ball:
            words += (
                "A multiplier `w` for the box, positive at upper bounds, negative at lower ones: "
                "in the box `wᵀη ≤ σ(w)`, so `Λ ≤ L + gᵀη`."
            )
            return Step("The Lagrangian", words, ("Λ(η, w) = L + gᵀη + wᵀη − σ(w)", SIGMA))
        words += (
            "A multiplier `μ ≥ 0` for the ball and `w` for the box, positive at upper bounds, negative at lower ones: "
            f"where `‖η‖_{self.P} ≤ ε` and, in the box, `wᵀη ≤ σ(w)`, `Λ` is at most `L + gᵀη`."
        )
        return Step("The Lagrangian", words, (f"Λ(η, μ, w) = L + gᵀη + μ(‖η‖_{self.P} − ε) + wᵀη − σ(w)", SIGMA))

    def empty(self) -> Step:
        worst = f"ε‖v‖_{self.Q} + σ(w)" if self.ball else "σ(w)"
        edge = self.eps if self.ball else math.inf
        bounds = [(max(a, -edge), min(b, edge)) for a, b in zip(self.item.low, self.item.high, strict=True)]
        clash = [i for i, (low, high) in enumerate(bounds) if low > high]
        words = "The set is empty. "
        if clash:
            i = clash[0]
            words += f"The bounds of `η_{{{i + 1}}}` exclude each other: `{n(bounds[i][0])} > {n(bounds[i][1])}`."
            return Step("No perturbation", words)
        words += (
            "Here the multipliers have `v + w = 0`: every `η` of the set would have `0 = vᵀη + wᵀη` at most this, "
            "which is negative."
        )
        vectors = ",  ".join([f"v = {vector(self.v)}"] * self.ball + [f"w = {vector(self.w)}"])
        least = self.eps * self.mu + self.sigma
        return Step(
            "No perturbation",
            words,
            (vectors, f"0 = vᵀη + wᵀη ≤ {worst} = {n(least)} < 0:  a contradiction"),
            {"least": least},
        )

    def dual(self) -> Step:
        P, Q, L, eps = self.P, self.Q, n(self.item.L), n(self.eps)
        value = near(self.value, self.scale)
        if not self.ball:
            words = (
                "`Λ` is linear in `η`, so its minimum over all `η` is finite only if `w = −g`; "
                "then it is a bound for every `η` in the box."
            )
            rows = [
                f"w = −g = {vector(self.w)},  σ(w) = {n(self.sigma)}",
                f"L + gᵀη ≥ L − σ(w) = {L} − {signed(self.sigma)} = {value}",
            ]
        elif not self.boxed:
            words = (
                f"By Hölder `gᵀη ≥ −‖g‖_{Q}‖η‖_{P}`, so the minimum of `Λ` over all `η` is `L − με` if `μ ≥ ‖g‖_{Q}`, "
                f"else there is none. The largest such bound has `μ = ‖g‖_{Q}`: no `η` in the ball goes below it, as "
                "the proof of Proposition 2 says."
            )
            rows = [
                f"maximize L − με  subject to  μ ≥ ‖g‖_{Q}",
                exponent(self.p),
                f"μ = ‖g‖_{Q} = {norm(self.q, self.item.g)} = {n(self.mu)}",
                f"L + gᵀη ≥ L − ε‖g‖_{Q} = {L} − {eps}·{signed(self.mu)} = {value}",
            ]
        else:
            words = (
                f"By Hölder the minimum of `Λ` over all `η` is `L − με − σ(w)` if `μ ≥ ‖g + w‖_{Q}`, else there is "
                "none. So `−g` is split: the box takes `w`, the ball `v = −g − w`. Any split is a bound; this is the "
                "one of complementary slackness."
            )
            if self.mu == 0:
                words += " The ball is not needed: the box takes all."
            rows = [
                f"maximize L − ε‖g + w‖_{Q} − σ(w)",
                exponent(self.p),
                f"v = {vector(self.v)},  w = {vector(self.w)}",
                f"μ = ‖v‖_{Q} = {f'{norm(self.q, self.v)} = ' * (self.mu > 0)}{n(self.mu)},  σ(w) = {n(self.sigma)}",
                f"L + gᵀη ≥ L − ε‖v‖_{Q} − σ(w) = {L} − {eps}·{signed(self.mu)} − {signed(self.sigma)} = {value}",
            ]
        return Step("The dual", words, tuple(rows), {"dual": self.value, "mu": self.mu, "sigma": self.sigma})

    def proposition_1(self, status: Status) -> Step:
        L, reach = self.item.L, self.eps * self.mu + self.sigma
        tie = abs(reach - L) <= 1e-14 * self.scale
        a, b = apart(reach, L)
        words = (
            f"The largest fall that the set allows is `{self.fall}`: (GN) is feasible if and only if that exceeds `L`. "
        )
        if status is Status.FEASIBLE:
            words += (
                "It does, if only in the last digits: 0.1 is not 0.1 in binary, and the binary numbers are meant."
                if tie
                else "It does."
            )
        elif status is Status.INFEASIBLE and tie:
            words += (
                "Up to rounding it equals `L`, the case that Proposition 1 leaves out, for (5) is strict. Then the "
                "smallest `L + gᵀη` is 0, which is not negative: infeasible as well."
            )
        elif status is Status.INFEASIBLE:
            words += "It does not, inequality (5)."
        else:
            words += "The two are so near each other that floating point cannot tell."
        rows = [f"{self.fall} = {a},  L = {b}"]
        if status is Status.INFEASIBLE:
            words += (
                " The multipliers are a Farkas certificate: an `η` that satisfied (GN) would lead to a contradiction."
            )
            rows.append(f"0 > L + gᵀη ≥ L − {self.fall.replace('+', '−')} = {near(self.value, self.scale)}")
        return Step("Proposition 1", words, tuple(rows), {"reach": reach, "L": L})

    def optimum(self) -> Step:
        title = "Where the smallest value is attained" if self.asks else "The optimum"
        g, eta, words, rows = self.item.g, self.item.eta, "", [f"η = {vector(self.item.eta)}"]
        if self.ball and self.eps == 0:
            words = "A ball of radius 0 is a single point."
        elif not any(g):
            words = (
                "The gradient is 0, so the objective is `L` everywhere: every `η` of the set is optimal, and this is "
                "one."
            )
        elif self.boxed:
            words, lines = self.boxed_optimum()
            rows = [*lines, *rows]
        elif self.p == 1:
            words, lines = self.sparse_optimum()
            rows = [*lines, *rows]
        elif self.p == math.inf:
            words = (
                "For `p = ∞` equation (6) becomes (7): every coordinate goes to the edge of the ball, against its "
                "gradient."
            )
            words += " Where `g_i = 0` any value of the ball does as well." * (0.0 in g)
            rows = ["η_i = −ε sign(g_i)", *steepest(self.item, self.eps, self.mu, self.q), *rows]
        else:
            words = (
                "Equation (6): the `η` for which both inequalities of the dual, Hölder's and the ball's, are "
                "equalities."
            )
            letters = f"η_i = −ε sign(g_i) (|g_i|/‖g‖_{self.Q})^{{q−1}},  q − 1 = {n(self.q - 1)}"
            rows = [letters, *steepest(self.item, self.eps, self.mu, self.q), *rows]
        return Step(title, words, tuple(rows), {f"eta_{i + 1}": x for i, x in enumerate(eta)})

    def sparse_optimum(self) -> tuple[str, list[str]]:
        top = max(map(abs, self.item.g))
        ties = [i for i, x in enumerate(self.item.g) if abs(x) == top]
        k = next((i for i, x in enumerate(self.item.eta) if x), ties[0])
        words = (
            "For `p = 1` the limit of equation (6) is one coordinate: all of `ε` goes where `|g_i|` is largest, "
            "against its gradient."
        )
        if len(ties) > 1:
            names = ", ".join(f"`η_{{{i + 1}}}`" for i in ties[:6]) + " and others" * (len(ties) > 6)
            words += f" Here {len(ties)} coordinates tie, {names}: any split of `ε` among them is optimal as well."
        sign = "−" if self.item.g[k] > 0 else ""
        return words, [
            f"max_i |g_i| = |g_{{{k + 1}}}| = {n(top)}",
            f"η_{{{k + 1}}} = −ε sign(g_{{{k + 1}}}) = {sign}{n(self.eps)}",
        ]

    def boxed_optimum(self) -> tuple[str, list[str]]:
        if self.mu == 0:
            words = (
                "Every coordinate goes as far as the box allows: to `a_i` where `g_i > 0`, to `b_i` where `g_i < 0`."
            )
            words += " Where `g_i = 0` its place does not matter." * (0.0 in self.item.g)
            return words + f" There `‖η‖_{self.P} = {n(length(self.p, self.item.eta))} ≤ ε`." * self.ball, []
        found, lines = cut(self.item, self.p, self.eps, self.mu, ("ε", "|g_i|/μ"))
        if not all(close(a, b, self.eps) for a, b in zip(found, self.item.eta, strict=True)):
            return "The multipliers leave open which point of the set it is; this is the one that was found.", []
        if self.p == 1:
            words = (
                f"The norm charges `μ = {n(self.mu)}` for every unit: coordinates with `|g_i| > μ` go to their bound, "
                "those with `|g_i| < μ` stay as near to 0 as the box lets them, and one with `|g_i| = μ` takes what is "
                "left of `ε` (a knapsack, filled by descending `|g_i|`)."
            )
        elif self.p == math.inf:
            words = "Equation (7), cut off at the box, coordinate by coordinate: two boxes meet in a box."
        else:
            words = (
                f"Equation (6) with `μ = ‖v‖_{self.Q}` in place of `‖g‖_{self.Q}`, cut off at the box; `μ` is such "
                f"that `‖η‖_{self.P} = ε`. Where `η_i` is strictly within its bounds, `w_i = 0`."
            )
        return words, lines

    def tight(self) -> Step:
        item, P, Q = self.item, self.P, self.Q
        size, fall = length(self.p, item.eta), dot(item.g, item.eta)
        values = {"fall": fall, "norm": size}
        holder, ball = close(-dot(self.v, item.eta), -self.mu * size, self.scale), close(size, self.eps, self.eps)
        box = close(dot(self.w, item.eta), self.sigma, self.scale)
        verdict = {True: "tight", False: "not tight"}
        if not self.ball:
            words = f"Between `gᵀη = −wᵀη` and `−σ(w)` lies the box alone, {verdict[box]}: {item.at_bounds()}."
            return Step(
                "Which inequality is tight",
                words,
                (f"wᵀη = {n(dot(self.w, item.eta))},  σ(w) = {n(self.sigma)}",),
                values,
            )
        if not self.boxed:
            words = (
                f"Two inequalities lead from `gᵀη` to the bound. Hölder's is {verdict[holder]}{self.aligned(holder)}. "
                f"The ball's is {verdict[ball]}"
            )
            words += (
                f", and `μ = ‖g‖_{Q}` is its price: one more unit of `ε` lowers the bound by `{n(self.mu)}`."
                if self.mu
                else "; it has no price."
            )
            rows = [
                f"gᵀη ≥ −‖g‖_{Q}‖η‖_{P} ≥ −ε‖g‖_{Q}",
                f"gᵀη = {n(fall)},  −‖g‖_{Q}‖η‖_{P} = {n(-self.mu * size)},  −ε‖g‖_{Q} = {n(-self.eps * self.mu)}",
            ]
            if 1 < self.p < math.inf and size > 0 and self.mu > 0:
                left = [(abs(x) / size) ** self.p for x in item.eta]
                right = [(abs(x) / self.mu) ** self.q for x in item.g]
                rows.append(f"(|η_i|/‖η‖_{P})^{P} = {vector(left)}")
                rows.append(f"(|g_i|/‖g‖_{Q})^{Q} = {vector(right)}")
        else:
            words = (
                f"Three inequalities lead from `gᵀη = −vᵀη − wᵀη` to the bound: Hölder's, {verdict[holder]}; the "
                f"ball's, {verdict[ball] if self.mu else 'which has no price'}; the box's, {verdict[box]}: "
                f"{item.at_bounds()}."
            )
            rows = [
                f"gᵀη ≥ −‖v‖_{Q}‖η‖_{P} − wᵀη ≥ −ε‖v‖_{Q} − wᵀη ≥ −ε‖v‖_{Q} − σ(w)",
                f"vᵀη = {n(dot(self.v, item.eta))},  ‖v‖_{Q}‖η‖_{P} = {n(self.mu * size)},  ε‖v‖_{Q} = "
                f"{n(self.eps * self.mu)}",
                f"wᵀη = {n(dot(self.w, item.eta))},  σ(w) = {n(self.sigma)}",
            ]
        return Step("Which inequality is tight", words, tuple(rows), values)

    def aligned(self, tight: bool) -> str:
        if not tight or self.mu == 0:
            return ""
        if self.p == 1:
            return ", for `η_i` is 0 wherever `|g_i|` is not the largest"
        if self.p == math.inf:
            return ", for `|η_i|` is the largest wherever `g_i` is not 0"
        return f", for the shares `|η_i|^{self.P}` and `|g_i|^{self.Q}` of the two sums are the same"
