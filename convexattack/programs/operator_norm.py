"""(9): the largest change of the output, the operator norm ‖J_f(x)‖_{p→2} (Section III, regression).

The program is maximize ‖Jη‖₂ subject to ‖η‖_p ≤ ε. Its relaxation for p ≥ 2, and how d × d becomes m × m, for ε = 1:

1. X = ηηᵀ turns it into maximize ⟨JᵀJ, X⟩ subject to X ⪰ 0, ‖diag X‖_{p/2} ≤ 1, rank X = 1. Without the rank it is the
   d × d program (for p = ∞ the paper's, diag X ≤ 1); its optimal value is the *square* of a bound on the norm.
2. Its dual is minimize ‖y‖_σ subject to Diag(y) ⪰ JᵀJ, 1/σ + 2/p = 1, that is σ = p/(p − 2).
3. By a Schur complement Diag(y) ⪰ JᵀJ says J Diag(1/y) Jᵀ ⪯ I, an m × m matrix. Scaling y makes the bound
   λ_max(J Diag(1/y) Jᵀ)·‖y‖_σ, which holds for *every* y > 0: the certificate.
4. λ_max(·) = max {⟨W, ·⟩ : W ⪰ 0, tr W = 1}; exchange min and max (convex in y, linear in W): maximize over W the
   minimum over y of ‖y‖_σ Σ_i s_i²/y_i with s_i² = j_iᵀWj_i. By Hölder the minimum is ‖s‖_q², at y_i = s_i^{2−q}.

So the bound is max {‖s(W)‖_q : W ⪰ 0, tr W = 1}, a concave function of m(m+1)/2 unknowns; W = wwᵀ gives back ‖Jᵀw‖_q,
the norm of the transpose, ‖J‖_{p→2} = ‖Jᵀ‖_{2→q}. p = 2 gives the spectral norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from convexattack.linearize import JacobianOperator, jacobian_operator
from convexattack.norms import Lp
from convexattack.numerics import UNIT, gamma, ratio, rounding_slack
from convexattack.programs.base import Bound
from convexattack.sets import Ball
from convexattack.sets.atoms import replaced
from convexattack.solution import Multipliers

__all__ = ["OperatorNorm"]


@dataclass(frozen=True, eq=False)
class OperatorNorm:
    """maximize ‖Jη‖₂  subject to  ‖η‖_p ≤ ε: equation (9), N of them.

    Args:
        jacobian: J, shape (N, m, d), in output units by units of the input; or a `JacobianOperator`, see `from_model`.
            Its dtype and device are those of the solution.
        ball: `ca.Ball(ca.Lp(p), radius)`, ε in the units of the input.

    Multipliers: (y, F). y ≥ 0, shape (N, d), proves the upper bound ε(λ_max(J Diag(1/y) Jᵀ)‖y‖_{p/(p−2)})^{1/2} for
    p ≥ 2, whatever it is (y_i = 0 where column i is 0). F, shape (N, m, r), is a factor of W = FFᵀ, whose value
    ε‖s(W)‖_q/(tr W)^{1/2} shows that no y can prove much less. For p = 1 the bound is the largest column; for 1 < p < 2
    it is Riesz and Thorin's, ε‖J‖_{1→2}^{1−2/q}‖J‖_{2→2}^{2/q}, or ε(Σ_k ‖(UJ)_k‖_q²)^{1/2} with the rows in their
    principal axes, which is exact for rank 1; there neither needs y.

    For p in {1, 2} the bound is attained. For other p the optimum lies between `primal` and `dual` of the certificate,
    and how close they are depends on J: for p = ∞ the problem is NP-hard, and the ratio is at least √(2/π) at best
    rounding (Nesterov).

    Raises:
        ValueError: shapes that do not fit, or a ball whose radius is not per item.
        TypeError: integer data, or a set that is not one Ball.

    >>> J = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]])
    >>> OperatorNorm(J, Ball(Lp(math.inf), 1.0)).primal(torch.tensor([[1.0, -1.0]]))
    tensor([4.1231], dtype=torch.float64)
    """

    jacobian: Float[Tensor, "N m d"] | JacobianOperator
    ball: Ball

    def __post_init__(self) -> None:
        J: Any = self.jacobian
        if isinstance(J, np.ndarray):
            J = torch.from_numpy(J)
        if not isinstance(J, JacobianOperator):
            if not isinstance(J, Tensor):
                raise TypeError(
                    f"jacobian must be a torch tensor or a NumPy array, got {type(J).__name__}; "
                    "write ca.jacobian(model, x)"
                )
            if not J.is_floating_point():
                raise TypeError(f"jacobian must hold floating-point numbers, got {J.dtype}; write jacobian.float()")
            if J.ndim != 3 or 0 in J.shape[1:]:
                raise ValueError(
                    f"jacobian must have shape (N, m, d), m, d >= 1, got {tuple(J.shape)}; "
                    "a single matrix is jacobian[None]"
                )
            J = J.detach().clone()
        if isinstance(self.ball, tuple | list) and len(self.ball) == 1:
            object.__setattr__(self, "ball", self.ball[0])
        if type(self.ball) is not Ball:
            raise TypeError(f"ball must be one ca.Ball, got {self.ball!r}; write ca.Ball(ca.Lp(math.inf), radius)")
        object.__setattr__(self, "jacobian", J)
        self.ball.check(self.shape[0], self.shape[2])

    @classmethod
    def from_model(cls, model: Callable[[Tensor], Tensor], x: Float[Tensor, "B *S"], ball: Ball) -> OperatorNorm:
        """(9) at the images x without ever holding J, for outputs (of any shape) and inputs too large for it.

        Only Jη (a jvp) and Jᵀw (a vjp) are used: p = 2 by Lanczos steps, other p by alternation, which gives feasible η
        and lower bounds. The upper bounds rest on an estimate of the largest singular value, so the certificate says
        `rigorous=False`.
        """
        return cls(jacobian_operator(model, x), ball)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> OperatorNorm:
        """The programs of these items."""
        every = torch.arange(len(self), device=self.J.device)
        return self.take(every[rows.to(every.device) if isinstance(rows, Tensor) else rows].reshape(-1))

    def take(self, rows: Int[Tensor, " M"]) -> OperatorNorm:
        """The programs of these items."""
        taken: OperatorNorm = replaced(self, jacobian=self.J.to(self.jacobian.dtype)[rows], ball=self.ball.take(rows))
        return taken

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, m, d)."""
        n, m, d = self.jacobian.shape
        return n, m, d

    @property
    def norm(self) -> Lp:
        """‖·‖_p of the ball."""
        return self.ball.norm

    @property
    def explicit(self) -> bool:
        """Whether J is held, and not only its products."""
        return isinstance(self.jacobian, Tensor)

    @property
    def rigorous(self) -> bool:
        """Whether the upper bounds are theorems about J rather than estimates."""
        return self.explicit or self.norm.p == 1

    @property
    def relaxes(self) -> bool:
        """Whether the upper bound comes from the relaxation, and has a gap of its own, rather than from a formula."""
        return (self.norm.p >= 2 and self.explicit) or self.norm.p == 2

    @property
    def J(self) -> Float[Tensor, "N m d"]:  # the paper's letter
        """jacobian in float64."""
        if not isinstance(self.jacobian, Tensor):
            raise TypeError(
                "jacobian is matrix-free here; "
                "build ca.OperatorNorm(ca.jacobian(model, x), ball) where J fits into memory"
            )
        return self.jacobian.to(torch.float64)

    def change(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, "N m"]:
        """Jη, float64."""
        wide = eta.to(torch.float64)
        if isinstance(self.jacobian, Tensor):
            return (self.J @ wide[..., None]).squeeze(-1)
        return self.jacobian.forward(wide.to(self.jacobian.dtype)).to(torch.float64)

    def primal(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """‖Jη‖₂, float64: a lower bound on the optimum wherever η is feasible."""
        return Lp(2)(self.change(eta))

    def primal_error(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """What rounding can do to `primal`."""
        if not isinstance(self.jacobian, Tensor):
            return self.primal(eta) * gamma(self.shape[2])
        size = (self.J.abs() @ eta.to(torch.float64).abs()[..., None]).squeeze(-1)
        return Lp(2)(size) * gamma(self.shape[2] + self.shape[1] + 8)

    def violation(self, eta: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """How far ‖η‖_p exceeds ε, relative to ε; 0 inside, NaN for NaN."""
        wide = eta.to(torch.float64)
        return ratio(self.ball.violation(wide), self.ball.radii(wide)) + (0 * wide.sum(-1)).abs()

    def check(self, multipliers: Multipliers) -> None:
        """Raise ValueError unless the multipliers have the shapes (N, d) and (N, m, r)."""
        n, m, d = self.shape
        found = [tuple(part.shape) for part in multipliers]
        if len(found) != 2 or found[0] != (n, d) or len(found[1]) != 3 or found[1][:2] != (n, m):
            raise ValueError(f"multipliers must be (y, F) of shapes {(n, d)} and ({n}, {m}, r), got {found}")

    def bound(self, multipliers: Multipliers) -> Bound:
        """An upper bound on the optimum from y alone; `error`, for rounding, is already added to `value`."""
        if not self.explicit:
            return self._estimate(multipliers[1].to(torch.float64))
        y = multipliers[0].to(torch.float64)
        J, top, valid = self._scaled()
        radius, p, q = self.ball.radii(y), self.norm.p, self.norm.q
        columns = J.square().sum(1).sqrt()
        if p == 1:
            value, slack = columns.amax(-1), torch.zeros_like(top)
        elif p < 2:
            spectral, slack = _spectral(J)
            value = columns.amax(-1) ** (1 - 2 / q) * (spectral + slack).sqrt() ** (2 / q)
            value, slack = torch.minimum(value, _by_rows(J, q)), ratio(slack, spectral)
        else:
            sigma = Lp(p / (p - 2) if 2 < p < math.inf else math.inf if p == 2 else 1)
            sound = (y >= 0).all(-1) & y.isfinite().all(-1)
            size = sigma(torch.where(sound[:, None], y, 1.0))
            y = torch.where(sound[:, None], y, 1.0) / torch.where(size > 0, size, 1.0)[:, None]
            sound = sound & ~((y == 0) & (columns > 0)).any(-1)
            root = torch.where(y > 0, y.rsqrt(), 0.0)
            Z = torch.where((columns > 0)[:, None], J * root[:, None], 0.0)
            sound = sound & Z.isfinite().flatten(1).all(1)
            squared, slack = _spectral(torch.where(sound[:, None, None], Z, 0.0))
            value = torch.where(sound, (squared + slack).sqrt(), torch.inf)
            slack = ratio(slack, squared)
        value = value * (1 + (J.shape[1] + 64) * UNIT)
        value = torch.where(radius > 0, radius * top * value, 0.0)
        value = torch.where(valid, value, torch.nan)
        return Bound(value, value * slack)

    def _estimate(self, F: Float[Tensor, "N m r"]) -> Bound:
        """Without J: ε d^{max(0, 1/2 − 1/p)}‖J‖₂, with ‖J‖₂² ≤ θ² + ‖JJᵀw − θ²w‖, which holds if w is near its top."""
        assert isinstance(self.jacobian, JacobianOperator)
        J, p = self.jacobian, self.norm.p
        size = Lp(2)(F[..., 0])
        w = F[..., 0] / torch.where(size > 0, size, 1.0)[:, None]
        image = J.forward(J.adjoint(w.to(J.dtype))).to(torch.float64)
        squared = (w * image).sum(1).clamp_min(0)
        error = Lp(2)(image - squared[:, None] * w)
        factor = self.ball.radii(w) * self.shape[2] ** max(0.0, 0.5 - 1 / p)
        value = factor * (squared + error).sqrt()
        return Bound(value, value * ratio(error, squared))

    def relaxation(self, multipliers: Multipliers) -> Float[Tensor, " N"]:
        """ε‖s(W)‖_q/(tr W)^{1/2} for W = FFᵀ: a value of the relaxation (p ≥ 2), below which no y can prove a bound."""
        F = multipliers[1].to(torch.float64)
        if isinstance(self.jacobian, JacobianOperator):
            w = F[..., 0] / Lp(2)(F[..., 0])[:, None].clamp_min(1e-300)
            image = self.jacobian.adjoint(w.to(self.jacobian.dtype)).to(torch.float64)
            return self.ball.radii(w) * self.norm.dual(image)
        J, top, valid = self._scaled()
        largest = F.abs().amax((1, 2), keepdim=True)
        F = F / torch.where(largest > 0, largest, 1.0)
        s = torch.zeros_like(J[:, 0])
        for part in F.split(64, dim=2):
            s += (part.mT @ J).square_().sum(1)
        size = Lp(2)(F.flatten(1))
        value = self.ball.radii(F) * top * ratio(self.norm.dual(s.sqrt_()), size)
        return torch.where(valid, value, torch.nan)

    def problem(self, i: int = 0, form: str = "reduced") -> cp.Problem:
        """Item i of the relaxation as an explicit CVXPY problem, p ≥ 2.

        form="primal", the d × d program of the paper, whose optimal value is the square of the bound:

            maximize ⟨JᵀJ, X⟩  subject to  X ⪰ 0,  ‖diag X‖_{p/2} ≤ ε²      (p = ∞: diag X ≤ ε²)

        form="reduced", m × m, whose optimal value is the bound itself:

            maximize ε (Σ_i (j_iᵀWj_i)^{q/2})^{1/q}  subject to  W ⪰ 0,  tr W = 1

        (for 1 < q < 2 in power cones: t_i ≤ (j_iᵀWj_i)^{q/2} u^{1−q/2} and Σ_i t_i ≥ u say u^{1/2} ≤ (Σ_i …)^{1/q}).

        Raises:
            ValueError: another form, or p < 2, where the program has no relaxation of this kind.
        """
        if form not in ("primal", "reduced"):
            raise ValueError(f"form must be 'primal' (d x d) or 'reduced' (m x m), got {form!r}")
        p, q = self.norm.p, self.norm.q
        if p < 2:
            raise ValueError(
                f"the relaxation needs p >= 2, got p = {self.norm}: there the bound is a formula, "
                "see ca.certify(...).dual"
            )
        if not -len(self) <= i < len(self):
            raise IndexError(f"i must be in [0, {len(self)}), got {i}")
        J, radius = self.J[i].cpu().numpy(), float(self.ball.radii(self.J)[i])
        m, d = J.shape
        if form == "primal":
            X = cp.Variable((d, d), PSD=True, name="X")
            diagonal = cp.diag(X)
            bounded = [cp.sum(diagonal) <= radius**2] if p == 2 else Lp(p / 2).text(diagonal, radius**2)
            if p == math.inf:
                bounded = [diagonal <= radius**2]
            return cp.Problem(cp.Maximize(cp.trace((J.T @ J) @ X)), bounded)
        W = cp.Variable((m, m), PSD=True, name="W")
        squares = cp.sum(cp.multiply(J, W @ J), axis=0)
        if q == 1:
            return cp.Problem(cp.Maximize(radius * cp.sum(cp.sqrt(squares))), [cp.trace(W) == 1])
        if q == 2:
            return cp.Problem(cp.Maximize(radius * cp.sqrt(cp.sum(squares))), [cp.trace(W) == 1])
        u, t = cp.Variable(name="u"), cp.Variable(d, name="t")
        root = [cp.PowCone3D(squares, u * np.ones(d), t, q / 2), cp.sum(t) >= u]
        return cp.Problem(cp.Maximize(radius * cp.sqrt(u)), [cp.trace(W) == 1, *root])

    def _scaled(self) -> tuple[Tensor, Tensor, Bool[Tensor, " N"]]:
        """J/‖J‖_max with 0 for items that are not finite, ‖J‖_max, and which items are."""
        J = self.J
        top = J.abs().flatten(1).amax(1)
        valid = top.isfinite()  # NaN is not
        J = J / torch.where(valid & (top > 0), top, 1.0)[:, None, None]
        return J if bool(valid.all()) else torch.where(valid[:, None, None], J, 0.0), top, valid


def _by_rows(J: Float[Tensor, "N m d"], q: float) -> Float[Tensor, " N"]:
    """(Σ_k ‖(UJ)_k‖_q²)^{1/2} ≥ ‖J‖_{p→2}, U the principal axes of the rows; what U lacks of orthogonal is paid for."""
    _, m, d = J.shape
    axes = torch.linalg.svd(J, full_matrices=False)[0].mT if d < m else torch.linalg.eigh(J @ J.mT)[1].mT
    turned = axes @ J
    rest = J - axes.mT @ turned if d < m else torch.zeros_like(J)  # outside the axes, where they do not span R^m
    off = (axes @ axes.mT - torch.eye(axes.shape[1], dtype=J.dtype, device=J.device)).flatten(1).norm(dim=1)
    rounding = (m + 8) * m * UNIT
    lengths = Lp(q)(turned).square().sum(1).sqrt() + Lp(q)(rest).square().sum(1).sqrt()
    bound: Tensor = lengths * (1 + off + rounding) * (1 + rounding_slack(d))
    return bound


def _spectral(Z: Float[Tensor, "N m d"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """λ_max(ZZᵀ), summed in blocks, and what rounding can have taken from it, as eigvalsh is backward stable."""
    wide = Z if Z.shape[1] <= Z.shape[2] else Z.mT
    n, m, d = wide.shape
    block = max(256, math.isqrt(d))
    gram = torch.zeros(n, m, m, dtype=Z.dtype, device=Z.device)
    for part in wide.split(block, dim=2):
        gram.baddbmm_(part, part.mT)
    slack = (min(d, block) + d / block + 10 * m + 64) * UNIT * gram.diagonal(dim1=1, dim2=2).sum(-1)
    return torch.linalg.eigvalsh(gram)[:, -1].clamp_min(0), slack
