"""Any program over any sets: one multiplier for each set, in its own rows, and complementary slackness set by set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from convexattack.certificates import Certificate
from convexattack.explain.notation import matrix, n, vector
from convexattack.explain.page import Step
from convexattack.explain.parts import SEEN, TIGHT, certified, near, nothing
from convexattack.norms import Lp
from convexattack.programs import GN, Program
from convexattack.sets import ConvexSet
from convexattack.solution import Solution, Status

__all__ = ["explain"]

SHOWN = 10_000  # entries of a matrix that is looked at to be shown


def explain(program: Program, solution: Solution, certificate: Certificate) -> Iterator[Step]:
    """The steps for item 0 of (GN), (GNII), (8) or a sum of hinges."""
    side, status = _Side(program, solution), solution.status[0]
    yield side.program()
    if status in (Status.INVALID, Status.UNBOUNDED, Status.FAILED):
        yield nothing(status)
        return
    yield side.lagrangian()
    if not bool(side.eta.isfinite().all()):
        yield side.empty()
        yield certified(certificate, status, SEEN, side.scale)
        return
    yield side.dual()
    yield side.optimum(status)
    yield side.slackness()
    meaning = "`η` lies in every set, so the optimum is at most primal; the multipliers prove that it is at least dual."
    yield certified(certificate, status, meaning, 0.0 if status is Status.FEASIBLE else side.scale)


@dataclass(frozen=True, eq=False)
class _Part:
    """One set, its multiplier, and how both are written."""

    j: int
    item: ConvexSet
    u: Tensor
    eta: Tensor

    @property
    def image(self) -> str:
        """K_jη, or η where K is the identity."""
        return "η" if self.item.map(self.eta) is self.eta else f"K_{self.j}η"

    @property
    def norm(self) -> Lp | None:
        norm = getattr(self.item.atom, "norm", None)
        return norm if isinstance(norm, Lp) else None

    def membership(self) -> str:
        j = self.j
        if self.item.atom.separable:
            return f"a_{j} ≤ {self.image} ≤ b_{j}"
        if self.norm is None:
            return f"{self.image} ∈ S_{j}"
        centre = f" − c_{j}" * ("centre" in self.item.parameters(1, self.eta.shape[1]))
        return f"‖{self.image}{centre}‖_{{{n(self.norm.p)}}} ≤ ε_{j}"

    def numbers(self) -> str:
        """The set with its numbers, on one line."""
        j, d = self.j, self.eta.shape[1]
        letters = {"lower": f"a_{j}", "upper": f"b_{j}", "radius": f"ε_{j}", "centre": f"c_{j}"}
        found = [self.membership()]
        for name, value in self.item.parameters(1, d).items():
            if name in letters:
                found.append(
                    f"{letters[name]} = {n(float(value[0])) if value.ndim == 1 else vector(value[0].tolist())}"
                )
        return ",  ".join(found)

    def rows(self) -> list[str]:
        """K_j with its numbers, where it is no larger than can be shown."""
        r, d = self.u.shape[1], self.eta.shape[1]
        if self.image == "η" or r * d > SHOWN:
            return []
        table = self.item.map.table(d)
        return [f"K_{self.j} = {matrix((table if table.ndim == 2 else table[0]).tolist())}"]

    def price(self) -> float:
        return float(self.item.price(self.u)[0][0])

    def pull(self) -> float:
        """u_jᵀK_jη."""
        return float((self.u * self.item.map(self.eta)).sum())

    def verdict(self, scale: float, steep: float) -> str:
        """Whether the set holds η back, in words; u_j counts as 0 beside gradients of the size `steep`."""
        j, item = self.j, self.item
        excess, blur = item.excess(self.eta)[0], item.blur(self.eta)[0]
        unit = item.atom.widths(item.map.absolute(self.eta.abs()))[0]
        near_ = excess >= -blur - TIGHT * torch.where(unit.isfinite(), unit, 1.0)
        active = near_.nonzero().flatten().tolist()
        if float(item.pull(self.u).abs().max()) <= TIGHT * steep:
            return (
                f"`C_{j}` ({item.label}) has no price"
                + "." * (not active)
                + ", though `η` is at its edge." * bool(active)
            )
        tight = abs(float(item.apart(self.u, self.eta)[0][0])) <= TIGHT * max(scale, 1e-300)
        words = f"`C_{j}` ({item.label}) is {'' if tight else 'not '}tight"
        if not item.atom.separable:
            return words + "."
        shown = ", ".join(str(i + 1) for i in active[:6]) + f" and {len(active) - 6} more" * (len(active) > 6)
        return words + (f": `{self.image}` is at a bound in row {shown}." if active else ", and no row is at a bound.")


class _Side:
    """The numbers of one program, and a method for each step."""

    def __init__(self, program: Program, solution: Solution) -> None:
        solution = solution.to("cpu")
        self.own, self.asks, self.hinges, self.norm = program, isinstance(program, GN), program.pieces, program.norm
        self.eta = solution.eta.to(torch.float64)
        self.balance = program.balance(*program.weight(solution.multipliers))
        self.parts = [
            _Part(j, item, u, self.eta) for j, (item, u) in enumerate(zip(program.sets, self.balance.u, strict=True), 1)
        ]
        self.multipliers = solution.multipliers
        self.paid = math.fsum(part.price() for part in self.parts)
        self.value = float(program.bound(solution.multipliers).value[0])
        self.start = float(self.balance.start[0])
        self.scale = abs(self.start) + math.fsum(abs(part.price()) for part in self.parts)

    @property
    def objective(self) -> str:
        if self.norm is not None:
            return f"‖η‖_{{{n(self.norm.p)}}}"
        return "Σ_i max(0, c_i + a_iᵀη)" if self.hinges else "L + gᵀη"

    @property
    def weighted(self) -> str:
        """What the multiplier of c + Aη makes of it."""
        return "λ(L + gᵀη)" if self.norm is not None else "Σ_i w_i(c_i + a_iᵀη)" if self.hinges else "L + gᵀη"

    @property
    def leading(self) -> str:
        """wᵀc."""
        return "λL" if self.norm is not None else "wᵀc" if self.hinges else "L"

    def program(self) -> Step:
        where = ",  ".join(["L + gᵀη ≤ 0"] * (self.norm is not None) + [f"η ∈ C_{part.j}" for part in self.parts])
        goal = f"minimize {self.objective}  subject to  {where}"
        if self.asks:
            goal = f"find η  subject to  L + gᵀη < 0,  {where}"
        names = ", ".join(f"`C_{part.j}` is {part.item.label}" for part in self.parts)
        words = "The linear model of equation (1) over convex sets at once, each an atom `S_j` seen through a map"
        words += f" `K_j`: {names}." if names else "."
        c, A = self.own.c[0].tolist(), self.own.A[0].tolist()
        data = [f"c = {vector(c)}", f"A = {matrix(A)}"] if self.hinges else [f"L = {n(c[0])},  g = {vector(A[0])}"]
        rows = [line for part in self.parts for line in (part.numbers(), *part.rows())]
        return Step("The program", words, (goal, *data, *rows))

    def lagrangian(self) -> Step:
        words = (
            "For each set a multiplier `u_j`, in the rows of `K_j`: in `C_j`, `u_jᵀK_jη` is at most the price "
            "`σ_j(u_j)`, the largest value that `u_jᵀz` has for `z ∈ S_j`. "
        )
        if self.norm is not None:
            words += f"With `λ ≥ 0` for the inequality, `Λ` is at most `{self.objective}` at every feasible `η`."
        elif self.hinges:
            words += "With `w_i` between 0 and 1, `max(0, t) ≥ w_i t`, so `Λ` is at most the objective in all sets."
        else:
            words += "So `Λ` is at most `L + gᵀη` in all sets."
            words += " (GN) has an answer exactly if the minimum of `L + gᵀη` over the sets is negative." * self.asks
        first = f"{self.objective} + {self.weighted}" if self.norm is not None else self.weighted
        rows = [f"Λ = {first} + Σ_j (u_jᵀK_jη − σ_j(u_j))"]
        for part in self.parts:
            if part.item.atom.separable:
                rows.append(f"σ_{part.j}(u) = Σ_i (b_i max(u_i, 0) + a_i min(u_i, 0))")
            elif part.norm is not None:
                rows.append(f"σ_{part.j}(u) = ε_{part.j}‖u‖_{{{n(part.norm.q)}}}")
        return Step("The Lagrangian", words, tuple(dict.fromkeys(rows)))

    def given(self) -> list[str]:
        """The multipliers and what they pay."""
        first = [f"λ = {n(float(self.balance.w[0, 0]))}"] * (self.norm is not None)
        first += [f"w = {vector(self.balance.w[0].tolist())}"] * self.hinges
        return first + [
            f"u_{part.j} = {vector(part.u[0].tolist())},  σ_{part.j}(u_{part.j}) = {n(part.price())}"
            for part in self.parts
        ]

    def empty(self) -> Step:
        words = "No `η` meets all constraints: in these multipliers `η` cancels, and what is left contradicts itself."
        balance = self.own.balance(*self.own.idle(self.multipliers))
        least = float((balance.paid - balance.start)[0])
        row = f"0 = Σ_j u_jᵀK_jη ≤ Σ_j σ_j(u_j) = {n(least)} < 0:  a contradiction"
        if self.norm is not None:
            row = f"0 ≥ λ(L + gᵀη) ≥ λL − Σ_j σ_j(u_j) = {n(-least)} > 0:  a contradiction"
        return Step("No perturbation", words, (*self.given(), row), {"least": least})

    def dual(self) -> Step:
        above, rows = self.start - self.paid, self.given()
        number = near(self.value, self.scale)
        if self.norm is not None:
            q = n(self.norm.q)
            size = float(self.norm.conjugate.length(self.balance.left)[0])
            words = (
                f"By Hölder the minimum of `Λ` over all `η` is `λL − Σ_j σ_j(u_j)` if "
                f"`‖λg + Σ_j K_jᵀu_j‖_{{{q}}} ≤ 1`, else there is none; any multipliers can be scaled until it is."
            )
            rows += [f"‖λg + Σ_j K_jᵀu_j‖_{{{q}}} = {n(size)}", f"{self.objective} ≥ λL − Σ_j σ_j(u_j) = {number}"]
        else:
            target = "Aᵀw" if self.hinges else "g"
            words = (
                f"`Λ` is linear in `η`, so its minimum over all `η` is finite only if `{target} + Σ_j K_jᵀu_j = 0`. "
                "What rounding leaves of that is charged against the sets' own bounds on `η`."
            )
            rows.append(
                f"{self.objective} ≥ {self.leading} − Σ_j σ_j(u_j) = {n(self.start)} − {n(self.paid)} = {number}"
            )
        return Step("The dual", words, tuple(rows), {"dual": self.value, "above": above})

    def optimum(self, status: Status) -> Step:
        value = float(self.own.primal(self.eta)[0])
        words = "A solver found this point; how it did does not matter to what follows."
        if self.asks and status is Status.INFEASIBLE:
            words += (
                " The bound is not negative, so no `η` has `L + gᵀη < 0`: the multipliers are a Farkas certificate."
            )
        rows = (f"η = {vector(self.eta[0].tolist())}", f"{self.objective} = {near(value, self.scale)}")
        values = {f"eta_{i + 1}": x for i, x in enumerate(self.eta[0].tolist())} | {"value": value}
        return Step("Where the smallest value is attained" if self.asks else "The optimum", words, rows, values)

    def slackness(self) -> Step:
        steep = float((self.balance.w[:, None] @ self.own.A).abs().max())
        words = (
            "The objective is above the bound by what each price exceeds `u_jᵀK_jη`, so at an optimum each of these "
            "inequalities is tight (complementary slackness). "
            + " ".join(part.verdict(self.scale, steep) for part in self.parts)
        )
        rows = [
            f"σ_{k}(u_{k}) = {near(part.price(), self.scale)},  u_{k}ᵀ{part.image} = {near(part.pull(), self.scale)}"
            for k, part in enumerate(self.parts, 1)
        ]
        if self.norm is not None:
            rows.append(f"L + gᵀη = {near(float(self.own.linear(self.eta)[0]), abs(float(self.own.L[0])))}")
        return Step("Which inequality is tight", words, tuple(rows), {f"price_{p.j}": p.price() for p in self.parts})
