"""(9): maximize ‖Jη‖₂ subject to ‖η‖_p ≤ ε: two closed forms, a formula, a relaxation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from convexattack.certificates import Certificate
from convexattack.explain.notation import matrix, n, outwards, signed, vector
from convexattack.explain.page import Step
from convexattack.explain.parts import certified, exponent, length, nothing
from convexattack.norms import Lp
from convexattack.programs import OperatorNorm
from convexattack.solution import Solution, Status

__all__ = ["explain"]


def explain(program: OperatorNorm, solution: Solution, certificate: Certificate) -> Iterator[Step]:
    """The steps for item 0."""
    side, status = _Side(program, solution, certificate), solution.status[0]
    yield side.program()
    if status in (Status.INVALID, Status.FAILED):
        yield nothing(status)
        return
    if side.p == 1:
        yield from side.columns()
    elif side.p < 2:
        yield from side.between()
    elif side.p == 2:
        yield from side.spectral()
    else:
        yield from side.relaxation()
    meaning = (
        "Primal is `‖Jη‖_2` at a feasible `η`, so the maximum is at least that; dual is a bound that no `η` exceeds."
    )
    yield certified(certificate, status, meaning, side.bound)


class _Side:
    """The numbers of one program, and the steps of each range of p."""

    def __init__(self, program: OperatorNorm, solution: Solution, certificate: Certificate) -> None:
        self.J, self.p, self.q = program.J[0].cpu(), program.norm.p, program.norm.q
        self.P, self.Q = f"{{{n(self.p)}}}", f"{{{n(self.q)}}}"
        self.eps = float(program.ball.radii(program.J)[0])
        self.eta = solution.eta[0].to(torch.float64).cpu()
        self.y, self.F = (part[0].to(torch.float64).cpu() for part in solution.multipliers)
        self.value, self.bound = float(certificate.primal[0]), float(certificate.dual[0])

    def program(self) -> Step:
        m, d = self.J.shape
        words = (
            f"The linear model of equation (1) for all {m} outputs at once: how far can `f(x + η) − f(x) ≈ Jη` be from "
            "0? It maximizes a convex function, which is hard in general: an `η` is a bound from below, and duality "
            "gives one from above."
        )
        rows = (
            f"maximize ‖Jη‖_2  subject to  ‖η‖_{self.P} ≤ ε",
            f"p = {n(self.p)},  ε = {n(self.eps)}",
            f"J = {matrix(self.J.tolist())}",
        )
        return Step("The program, (9)", words, rows, {"outputs": m, "inputs": d})

    def best(self, words: str, *rows: str) -> Step:
        values = {f"eta_{i + 1}": x for i, x in enumerate(self.eta.tolist())} | {"primal": self.value}
        last = f"Jη = {vector((self.J @ self.eta).tolist())},  ‖Jη‖_2 = {n(self.value)}"
        return Step("The perturbation", words, (*rows, f"η = {vector(self.eta.tolist())}", last), values)

    def columns(self) -> Iterator[Step]:
        sizes = Lp(2)(self.J.mT)
        k = int(sizes.argmax())
        bound = self.eps * float(sizes[k])
        yield Step(
            "The bound",
            "The triangle inequality over the columns `j_i` of `J`, then Hölder's: "
            "all of `ε` is worth most on the longest column.",
            (
                "‖Jη‖_2 = ‖Σ_i η_i j_i‖_2 ≤ Σ_i |η_i| ‖j_i‖_2 ≤ ε max_i ‖j_i‖_2",
                f"s_i = ‖j_i‖_2,  s = {vector(sizes.tolist())}",
                f"ε max_i ‖j_i‖_2 = {n(self.eps)}·{signed(float(sizes[k]))} = {n(bound)}",
            ),
            {"dual": bound},
        )
        ties = int((sizes == sizes[k]).sum())
        words = f"One coordinate, `k = {k + 1}`, either sign: the single-pixel attack of the paper's Section III."
        words += f" {ties} columns tie for it." if ties > 1 else ""
        yield self.best(words, f"η = ε e_{{{k + 1}}}")
        words = (
            "The triangle inequality is tight, for one column is all there is; Hölder's is tight, for it is the "
            "longest."
        )
        yield Step("Which inequality is tight", words, (f"‖Jη‖_2 = {n(self.value)},  ε max_i ‖j_i‖_2 = {n(bound)}",))

    def spectral(self) -> Iterator[Step]:
        gram = self.J.mT @ self.J if self.J.shape[1] <= self.J.shape[0] else self.J @ self.J.mT
        name = "JᵀJ" if self.J.shape[1] <= self.J.shape[0] else "JJᵀ"
        top = max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))
        bound = self.eps * math.sqrt(top)
        yield Step(
            "The Lagrangian",
            "Of the squares, `‖Jη‖_2^2` with `‖η‖_2^2 ≤ ε^2` and a multiplier `μ ≥ 0`: "
            "where the constraint holds, `Λ` is at least `‖Jη‖_2^2`.",
            ("Λ(η, μ) = ηᵀJᵀJη − μ(ηᵀη − ε^2)",),
        )
        yield Step(
            "The dual",
            "`Λ` has a finite maximum over `η`, `με^2`, if and only if `μI − JᵀJ` has no negative eigenvalue. The "
            "smallest such `μ` is the largest eigenvalue: the maximum is `ε` times the largest singular value.",
            (
                "minimize με^2  subject to  μI ⪰ JᵀJ",
                f"{name} = {matrix(gram.tolist())}",
                f"μ = λ_{{max}}({name}) = {n(top)}",
                f"‖Jη‖_2 ≤ ε μ^{{1/2}} = {n(self.eps)}·{signed(top)}^{{1/2}} = {n(bound)}",
            ),
            {"dual": bound, "mu": top},
        )
        yield self.best(
            "`η` is `ε` times a unit eigenvector for that eigenvalue; its sign does not matter.",
            "JᵀJη = μη,  ‖η‖_2 = ε",
        )
        image = float(Lp(2)(self.J @ self.eta)) ** 2
        words = (
            "`ηᵀJᵀJη ≤ μηᵀη` is tight on the eigenvector, and `‖η‖_2 ≤ ε` on the sphere; "
            "although the program is not convex, nothing is lost."
        )
        size = float(self.eta @ self.eta)
        rows = (f"ηᵀJᵀJη = {n(image)},  μηᵀη = {n(top * size)},  με^2 = {n(top * self.eps**2)}",)
        yield Step("Which inequality is tight", words, rows)

    def between(self) -> Iterator[Step]:
        sizes, top = Lp(2)(self.J.mT), float(torch.linalg.matrix_norm(self.J, 2))
        column = float(sizes.max())
        thorin = self.eps * column ** (1 - 2 / self.q) * top ** (2 / self.q)
        rows_win = self.bound < thorin * (1 - 1e-9)
        words = (
            "No closed form is known between 1 and 2. The norms at both ends are known, and the theorem of Riesz and "
            "Thorin says that the logarithm of the norm is convex between them, in `1/p`. Hölder for each row `r_k` of "
            "`UJ`, with any orthogonal `U`, is a second bound: "
            + (
                "here it is the smaller one, with the principal axes of the rows as `U`."
                if rows_win
                else "here it is not the smaller one."
            )
        )
        formulas = [
            f"‖Jη‖_2 ≤ ε ‖J‖_{{1→2}}^{{1−2/q}} ‖J‖_{{2→2}}^{{2/q}},  ‖Jη‖_2 ≤ ε (Σ_k ‖r_k‖_{self.Q}^2)^{{1/2}}",
            exponent(self.p),
            f"‖J‖_{{1→2}} = {n(column)},  ‖J‖_{{2→2}} = {n(top)}",
            f"ε ‖J‖_{{1→2}}^{{1−2/q}} ‖J‖_{{2→2}}^{{2/q}} = {n(thorin)}",
        ]
        if rows_win:
            formulas.append(f"ε (Σ_k ‖r_k‖_{self.Q}^2)^{{1/2}} = {n(self.bound)}")
        yield Step("The bound", words, tuple(formulas), {"dual": min(thorin, self.bound), "thorin": thorin})
        yield self.turned("Boyd's nonlinear power method")
        yield self.bracket("Neither bound needs to be attained")

    def turned(self, name: str) -> Step:
        image = self.J @ self.eta
        size = float(Lp(2)(image))
        w = image / size if size > 0 else image
        reach = self.eps * length(self.q, (self.J.mT @ w).tolist())
        words = (
            f"{name} ends at an `η` that is the best answer, equation (6) for `−Jᵀw`, to its own direction `w = "
            "Jη/‖Jη‖_2`: no further turn raises `‖Jη‖_2` by much."
        )
        return self.best(words, f"w = {vector(w.tolist())}", f"ε‖Jᵀw‖_{self.Q} = {n(reach)}")

    def relaxation(self) -> Iterator[Step]:
        d = self.J.shape[1]
        sigma = 1.0 if self.p == math.inf else self.p / (self.p - 2)
        gram = self.J.mT @ self.J
        diag = "X_{ii} ≤ ε^2" if self.p == math.inf else f"‖diag(X)‖_{{{n(self.p / 2)}}} ≤ ε^2"
        yield Step(
            "The relaxation",
            "With `X = ηηᵀ` the square of the norm is linear, `‖Jη‖_2^2 = tr(JᵀJX)`. Only rank 1 is hard to ask for; "
            f"without it a semidefinite program is left, `{d} × {d}`, whose value bounds `‖Jη‖_2^2`.",
            (f"maximize tr(JᵀJX)  subject to  X ⪰ 0,  {diag}", f"JᵀJ = {matrix(gram.tolist())}"),
        )
        yield self.relaxation_dual(sigma)
        yield self.tightness()
        yield self.turned(
            "Rounding draws directions `w` from `W`, answers each by equation (6), and turns the best: that"
        )
        yield self.bracket("What the relaxation gave away is the rank of `X`")

    def relaxation_dual(self, sigma: float) -> Step:
        m = len(self.J)
        unit = length(sigma, self.y.tolist())
        y = self.y / unit if unit > 0 else self.y
        live = y > 0
        Z = torch.where(live, self.J / torch.where(live, y, 1.0).sqrt(), 0.0)
        inner = Z @ Z.mT
        top = max(0.0, float(torch.linalg.eigvalsh(inner)[-1]))
        bound = self.eps * math.sqrt(top)
        weights = "Σ_i y_i" if sigma == 1 else f"‖y‖_{{{n(sigma)}}}"
        zero = (
            " A column of zeros takes part in nothing: its `y_i` is 0, and `1/y_i` counts as 0."
            if not bool(live.all())
            else ""
        )
        return Step(
            "Its dual",
            "One multiplier `y_i > 0` for each diagonal entry; by a Schur complement `Diag(y) ⪰ JᵀJ` says that the "
            f"`{m} × {m}` matrix `J Diag(1/y) Jᵀ` has no eigenvalue above 1. For every `y`, good or bad, scaled to "
            f"`{weights} = 1`, this proves a bound.{zero}",
            (
                f"minimize ε^2 {weights}  subject to  Diag(y) ⪰ JᵀJ",
                f"‖Jη‖_2^2 ≤ λ_{{max}}(J Diag(1/y) Jᵀ) Σ_i y_i η_i^2 ≤ ε^2 λ_{{max}}(J Diag(1/y) Jᵀ) {weights}",
                f"y = {vector(y.tolist())}",
                f"J Diag(1/y) Jᵀ = {matrix(inner.tolist())}",
                f"λ_{{max}}(J Diag(1/y) Jᵀ) = {n(top)}",
                f"‖Jη‖_2 ≤ ε (λ_{{max}} {weights})^{{1/2}} = {n(self.eps)}·{signed(top)}^{{1/2}} = {n(bound)}",
            ),
            {"dual": bound, "lambda_max": top},
        )

    def tightness(self) -> Step:
        m = len(self.J)
        W = self.F @ self.F.mT
        trace = float(W.trace())
        W = W / trace if trace > 0 else W
        s = (self.J * (W @ self.J)).sum(0).clamp_min(0).sqrt()
        value = self.eps * length(self.q, s.tolist())
        return Step(
            "How good the bound is",
            f"The dual of that dual has one unknown matrix `W`, `{m} × {m}`. Its value is what no `y` can go below, so "
            "the relaxation is solved to within the difference of the two; at its optimum `y_i` is proportional to "
            "`s_i^{2−q}`.",
            (
                f"maximize ε‖s‖_{self.Q}  subject to  W ⪰ 0,  tr(W) = 1,  s_i^2 = j_iᵀW j_i",
                f"W = {matrix(W.tolist())}",
                f"s = {vector(s.tolist())}",
                f"ε‖s‖_{self.Q} = {n(value)}",
            ),
            {"relaxed": value},
        )

    def bracket(self, why: str) -> Step:
        width = (self.bound - self.value) / self.bound if self.bound > 0 else 0.0
        if width <= 1e-9:
            words = "Nothing was lost: the two ends meet, so every inequality above is tight."
        else:
            words = (
                f"{why}: the ends are apart by `{n(width, 2)}` of the upper one, and the maximum is somewhere between "
                "them."
            )
        low, high = outwards(self.value, self.bound)
        return Step("Which inequality is tight", words, (f"{low} ≤ max ‖Jη‖_2 ≤ {high}",), {"width": width})
