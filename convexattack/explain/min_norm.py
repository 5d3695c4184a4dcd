"""(8): minimize ‖η‖_p subject to L + gᵀη ≤ 0, with a box or without."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from convexattack.certificates import Certificate
from convexattack.explain.notation import n, norm, signed, vector
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
from convexattack.programs import MinNorm
from convexattack.solution import Solution, Status

__all__ = ["explain"]


def explain(program: MinNorm, solution: Solution, certificate: Certificate) -> Iterator[Step]:
    """The steps for item 0 of a program with at most one box."""
    side, status = _Side(program, solution), solution.status[0]
    yield side.program()
    if status in (Status.INVALID, Status.UNBOUNDED, Status.FAILED):
        yield nothing(status)
        return
    yield side.lagrangian()
    if math.isnan(side.item.eta[0]):
        yield side.none()
        yield certified(certificate, status, SEEN, side.scale)
        return
    yield side.dual()
    yield side.optimum()
    yield side.tight()
    meaning = (
        f"`η` meets all constraints: the smallest `‖η‖_{side.P}` is at most primal; the multipliers prove that it is "
        "at least dual."
    )
    yield certified(certificate, status, meaning, side.size)


class _Side:
    """The numbers of one program, and a method for each step."""

    def __init__(self, program: MinNorm, solution: Solution) -> None:
        item = self.item = Item.of(program, solution)
        self.p, self.q = program.norm.p, program.norm.q
        self.P, self.Q = f"{{{n(self.p)}}}", f"{{{n(self.q)}}}"
        self.lam = float(solution.multipliers[0][0])
        self.w = solution.multipliers[1][0].to(torch.float64).tolist() if item.boxed else [0.0] * len(item.g)
        self.u = [-self.lam * a - b for a, b in zip(item.g, self.w, strict=True)]
        self.sigma, self.steep = item.support(self.w), length(self.q, self.u)
        self.above = self.lam * item.L - self.sigma
        self.value = self.above / max(1.0, self.steep)
        self.size = length(self.p, item.eta)
        self.scale = abs(self.lam * item.L) + abs(self.sigma)

    def program(self) -> Step:
        where = ",  ".join(["L + gᵀη ≤ 0"] + [BOX] * self.item.boxed)
        words = "The smallest perturbation for which the linear model of equation (1) is no longer positive."
        return Step(
            "The program, (8)",
            words,
            (f"minimize ‖η‖_{self.P}  subject to  {where}", *self.item.given(f"p = {n(self.p)}")),
        )

    def lagrangian(self) -> Step:
        if not self.item.boxed:
            words = (
                f"One multiplier, `λ ≥ 0`, for the one constraint: where `L + gᵀη ≤ 0`, `Λ` is at most `‖η‖_{self.P}`."
            )
            return Step("The Lagrangian", words, (f"Λ(η, λ) = ‖η‖_{self.P} + λ(L + gᵀη)",))
        words = (
            "A multiplier `λ ≥ 0` for the inequality and `w` for the box, positive at upper bounds, negative at lower "
            f"ones: where `L + gᵀη ≤ 0` and, in the box, `wᵀη ≤ σ(w)`, `Λ` is at most `‖η‖_{self.P}`."
        )
        return Step("The Lagrangian", words, (f"Λ(η, λ, w) = ‖η‖_{self.P} + λ(L + gᵀη) + wᵀη − σ(w)", SIGMA))

    def none(self) -> Step:
        item = self.item
        clash = [i for i, (low, high) in enumerate(zip(item.low, item.high, strict=True)) if low > high]
        if clash:
            i = clash[0]
            words = f"The bounds of `η_{{{i + 1}}}` exclude each other: `{n(item.low[i])} > {n(item.high[i])}`."
            return Step("No perturbation", words)
        if not item.boxed:
            words = (
                "The gradient is 0 and `L` is positive: `L + gᵀη = L` whatever `η` is. In the dual `λ` may grow "
                "without end."
            )
            return Step("No perturbation", words, (f"L + gᵀη = {n(item.L)} > 0",), {"above": item.L})
        words = (
            "The box does not reach the half-space: these multipliers have `λg + w = 0`, so an `η` that met all "
            "constraints would have `0 ≥ λ(L + gᵀη) ≥ λL − σ(w)`, which is positive."
        )
        rows = (f"λ = {n(self.lam)},  w = {vector(self.w)}", f"0 ≥ λL − σ(w) = {n(self.above)} > 0:  a contradiction")
        return Step("No perturbation", words, rows, {"above": self.above})

    def dual(self) -> Step:
        P, Q, L, item = self.P, self.Q, signed(self.item.L), self.item
        values = {"dual": self.value, "lambda": self.lam, "sigma": self.sigma}
        if not item.boxed:
            words = (
                f"By Hölder `λgᵀη ≥ −λ‖g‖_{Q}‖η‖_{P}`, so the minimum of `Λ` over all `η` is `λL` if `λ‖g‖_{Q} ≤ 1`, "
                "else there is none. "
            )
            rows = [f"maximize λL  subject to  λ‖g‖_{Q} ≤ 1,  λ ≥ 0", exponent(self.p)]
            if self.lam == 0:
                words += "`L` is not positive, so the best `λ` is 0: the inequality costs nothing."
                return Step("The dual", words, (*rows, f"‖η‖_{P} ≥ λL = 0"), values)
            words += "`L` is positive, so the best `λ` is the largest."
            rows += [
                f"‖g‖_{Q} = {norm(self.q, item.g)} = {n(1 / self.lam)},  λ = 1/‖g‖_{Q} = {n(self.lam)}",
                f"‖η‖_{P} ≥ λL = L/‖g‖_{Q} = {L}/{signed(1 / self.lam)} = {n(self.value)}",
            ]
            return Step("The dual", words, tuple(rows), values)
        words = (
            f"By Hölder the minimum of `Λ` over all `η` is `λL − σ(w)` if `‖λg + w‖_{Q} ≤ 1`, else there is none. With "
            "`u = −λg − w`, any such `λ` and `w` are a bound; these are the ones of complementary slackness."
        )
        rows = [
            f"maximize λL − σ(w)  subject to  ‖λg + w‖_{Q} ≤ 1,  λ ≥ 0",
            exponent(self.p),
            f"λ = {n(self.lam)},  w = {vector(self.w)},  σ(w) = {n(self.sigma)}",
            f"u = {vector(self.u)},  ‖u‖_{Q} = {norm(self.q, self.u)} = {n(self.steep)}",
            f"‖η‖_{P} ≥ λL − σ(w) = {n(self.lam)}·{L} − {signed(self.sigma)} = {near(self.above, self.scale)}",
        ]
        return Step("The dual", words, tuple(rows), values)

    def optimum(self) -> Step:
        item, eta = self.item, self.item.eta
        rows = [f"η = {vector(eta)}"]
        if self.size == 0:
            words = "`η = 0` satisfies every constraint, and no norm is smaller than 0."
        elif self.lam == 0:
            words = "The inequality does not bind: `η` is the point of the box nearest to 0."
        elif item.boxed:
            words, lines = self.boxed_optimum()
            rows = [*lines, *rows]
        else:
            words, lines = self.plain_optimum()
            rows = [*lines, *rows]
        return Step(
            "The optimum", words, tuple(rows), {f"eta_{i + 1}": x for i, x in enumerate(eta)} | {"norm": self.size}
        )

    def plain_optimum(self) -> tuple[str, list[str]]:
        g, eta, Q = self.item.g, self.item.eta, self.Q
        size = n(self.size)
        top = max(map(abs, g))
        if self.p == 1:
            ties = [i for i, x in enumerate(g) if abs(x) == top]
            k = next(i for i, x in enumerate(eta) if x)
            words = "For `p = 1` one coordinate does it all: the one where `|g_i|` is largest, against its gradient."
            if len(ties) > 1:
                names = ", ".join(f"`η_{{{i + 1}}}`" for i in ties[:6]) + " and others" * (len(ties) > 6)
                words += f" Here {len(ties)} coordinates tie, {names}: any split among them is optimal as well."
            return words, [
                f"max_i |g_i| = |g_{{{k + 1}}}| = {n(top)}",
                f"η_{{{k + 1}}} = −L/g_{{{k + 1}}} = {n(eta[k])}",
            ]
        if self.p == math.inf:
            words = "For `p = ∞` every coordinate moves by the same length, against its gradient."
            words += " Where `g_i = 0` any value of that ball does as well." * (0.0 in g)
            return words, [f"η_i = −(L/‖g‖_{Q}) sign(g_i),  L/‖g‖_{Q} = {size}"]
        words = f"Equation (6) at the radius `ε = L/‖g‖_{Q}`: the `η` for which both inequalities are equalities."
        lines = steepest(self.item, self.size, 1 / self.lam, self.q)
        return words, [f"η_i = −(L/‖g‖_{Q}) sign(g_i) (|g_i|/‖g‖_{Q})^{{q−1}},  q − 1 = {n(self.q - 1)}", *lines]

    def boxed_optimum(self) -> tuple[str, list[str]]:
        found, lines = cut(self.item, self.p, self.size, 1 / self.lam, ("t", "|g_i|/μ"))
        if not all(close(a, b, self.size) for a, b in zip(found, self.item.eta, strict=True)):
            return "The multipliers leave open which point of the set it is; this is the one that was found.", []
        facts = f"μ = 1/λ = {n(1 / self.lam)},  t = ‖η‖_{self.P} = {n(self.size)}"
        if self.p == 1:
            words = (
                "A unit of the norm is paid back by `|g_i|`: coordinates with `|g_i| > μ` go to their bound, those "
                "with `|g_i| < μ` stay as near to 0 as the box lets them, and one with `|g_i| = μ` does the rest (a "
                "knapsack, filled by descending `|g_i|`)."
            )
        elif self.p == math.inf:
            words = (
                "Every coordinate moves by the same length, against its gradient, cut off at the box; `t` is such that "
                "`L + gᵀη = 0`."
            )
        else:
            words = (
                "Equation (6) cut off at the box; `t` is such that `L + gᵀη = 0`. Where `η_i` is strictly within its "
                "bounds, `w_i = 0`."
            )
        return words, [facts, *lines]

    def tight(self) -> Step:
        item, P, Q = self.item, self.P, self.Q
        verdict = {True: "tight", False: "not tight"}
        scale = max(self.size, self.scale)
        pull, model = dot(self.u, item.eta), item.L + dot(item.g, item.eta)
        reach = abs(item.L) + math.fsum(abs(a * b) for a, b in zip(item.g, item.eta, strict=True))
        values = {"model": model, "pull": pull}
        holder, line = verdict[close(self.size, pull, scale)], verdict[close(model, 0.0, reach)]
        moved = f"L + gᵀη = {near(model, reach)}"
        if self.size == 0:
            return Step(
                "Which inequality is tight", f"`‖η‖_{P} ≥ 0` is tight; that is the whole bound.", (moved,), values
            )
        if not item.boxed:
            words = (
                f"Two inequalities lead from `‖η‖_{P}` to the bound. Hölder's is {holder}; that of the linear model is "
                f"{line}: `η` ends where it is 0. Its price is `λ = 1/‖g‖_{Q}`: one more unit of `L` takes "
                f"`{n(self.lam)}` more of `η`."
            )
            rows = [
                f"‖η‖_{P} ≥ −λgᵀη ≥ λL",
                f"‖η‖_{P} = {n(self.size)},  −λgᵀη = {n(pull)},  λL = {n(self.above)}",
                moved,
            ]
            return Step("Which inequality is tight", words, tuple(rows), values)
        box = verdict[close(dot(self.w, item.eta), self.sigma, scale)]
        words = (
            f"Three inequalities lead from `‖η‖_{P}` to the bound: Hölder's, {holder}; that of the linear model, "
            f"{line if self.lam else 'which has no price'}; the box's, {box}: {item.at_bounds()}."
        )
        rows = [
            f"‖η‖_{P} ≥ uᵀη = −λgᵀη − wᵀη ≥ λL − wᵀη ≥ λL − σ(w)",
            f"‖η‖_{P} = {n(self.size)},  uᵀη = {n(pull)}",
            moved,
            f"wᵀη = {n(dot(self.w, item.eta))},  σ(w) = {n(self.sigma)}",
        ]
        return Step("Which inequality is tight", words, tuple(rows), values)
