"""The one door to CVXPY: every program over any sets, item by item, normalised, compiled once for each kind and solved again.

Linear programs go to HiGHS, large semidefinite ones to SCS, all others to Clarabel. What comes back is a claim in the units of the program:
η with a witness for the unknowns of the sets' own texts, multipliers in the rows of the sets, a point inside where η is not, for INFEASIBLE
a proof, for UNBOUNDED a ray. "Almost solved" is not solved: another solver is asked, and the item fails with both their words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convexattack.numerics import gamma
from convexattack.programs import OperatorNorm, Program
from convexattack.sets.atoms import replaced
from convexattack.sets.base import Point, met
from convexattack.solution import Solution, Status
from convexattack.solvers.conic import operator_norm
from convexattack.solvers.conic.compiled import SECOND, TIGHT, Compiled, Found, installed
from convexattack.solvers.conic.text import Text, explained

__all__ = ["bare", "solve", "why_not", "witness"]

TOLERANCE = 2e-9  # twice what solvers are asked for: by so much inequalities are tightened, in units of their rows
STRICT = 1e-3  # by how much a ray is tightened, so that rounding cannot turn it out of a halfspace
NEAR = 1e-7  # of what the objective can vary: so far below 0, (GN) is settled even if η is outside by rounding


def why_not(program: Program | OperatorNorm) -> str | None:
    """Why CVXPY cannot take this program; None where it can."""
    if isinstance(program, OperatorNorm) and not program.explicit:
        return "it needs the Jacobian itself: write ca.OperatorNorm(ca.jacobian(model, x), ball)"
    return None


def solve(
    program: Program | OperatorNorm, solver: str | None = None, progress: Callable[[int], object] | None = None
) -> Solution:
    """Solve item by item with CVXPY.

    Args:
        program: any program over any sets.
        solver: an installed CVXPY solver; None picks one, and asks another where that one gave up.
        progress: called with 1 after each item.

    Returns:
        A `Solution`; stats has the solver's name, its own status words and the seconds of each item.

    Raises:
        ValueError: a solver that is unknown, not installed, or that cannot take this kind of program.
    """
    reason = why_not(program)
    if reason:
        raise ValueError(f"CVXPY cannot take this program: {reason}")
    name = installed(solver)
    if isinstance(program, OperatorNorm):
        return operator_norm.solve(program, name, progress)
    host, valid = _on_host(program)
    claims = _Claims(host, valid, name)
    for i in range(len(program)):
        claims.settle(i)
        if progress is not None:
            progress(1)
    return claims.finished(program)


def bare(program: Program, i: int, solver: str | None = None) -> Callable[[], object]:
    """What the solver itself does for item i, on data that are ready: the floor under a re-solve, for benchmarks."""
    text = Text(_on_host(program)[0])
    made = text.of(i, "solve", installed(solver))
    data = made.data(text.values(i, "solve"))
    return lambda: made.call(data)


def _on_host(program: Program) -> tuple[Program, list[bool]]:
    """The program on the CPU, and which items have data that are numbers; L and g of the others are replaced by zeros."""
    host = replaced(program, value=program.value.cpu(), gradient=program.gradient.cpu())
    good = host.valid()
    for name in ("value", "gradient"):
        rows = getattr(host, name)
        object.__setattr__(host, name, torch.where(good.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0.0))
    return host, good.tolist()


@dataclass(eq=False)
class _Claims:
    """What is found for each item, on the host."""

    program: Program
    valid: list[bool]
    solver: str | None
    text: Text = field(init=False)
    eta: Tensor = field(init=False)
    codes: Tensor = field(init=False)
    multipliers: list[Tensor] = field(init=False)
    aux: list[Tensor | None] = field(init=False)
    ray: Tensor | None = None
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n, d = len(self.program), self.program.gradient.shape[-1]
        double = torch.float64
        self.text = Text(self.program)
        self.eta = torch.full((n, d), math.nan, dtype=double)
        self.codes = torch.full((n,), Status.INVALID.code, dtype=torch.int8)
        self.multipliers = [torch.zeros(shape, dtype=double) for shape in self.program.multiplier_shapes]
        widths = [item.atom.hidden.matrix.shape[-1] if item.hides else 0 for item in self.program.sets]  # type: ignore[attr-defined]
        self.aux = [torch.zeros(n, k, dtype=double) if k else None for k in widths]
        self.words, self.seconds = ["not run"] * n, np.zeros(n)
        self.idle = self._idle().tolist()
        self.claim = torch.zeros(n, dtype=torch.bool)
        self.decides = hasattr(self.program, "decide")  # (GN), which is the sign of (GNII)

    def _idle(self) -> Tensor:
        """(8) with L ≤ 0 and 0 in every set: nothing is shorter than 0, and a conic solver would only blur it."""
        if self.program.norm is None:
            return torch.zeros(len(self.program), dtype=torch.bool)
        idle = self.program.L <= 0
        return idle & (self.program.violation(torch.zeros_like(self.program.g)) == 0) if bool(idle.any()) else idle

    # --- one item ----------------------------------------------------------------------------------------------------------

    def settle(self, i: int) -> None:
        """Find what can be claimed of item i."""
        if not self.valid[i]:
            return
        if self.idle[i]:
            self.eta[i], self.codes[i], self.words[i] = 0.0, Status.OPTIMAL.code, "0 is feasible"
            return
        made, found, said = self._asked(i)
        self.codes[i] = Status.FAILED.code
        if found.primal is not None:
            self._place(i, made, found)
            self.codes[i] = Status.OPTIMAL.code
        elif any(one.falls for one in said) and self.program.norm is None:
            self._falls(i)
        if self.codes[i] == Status.FAILED.code:
            self._violated(i)
            if self.codes[i] == Status.FAILED.code and (found.empty or found.falls):
                self.codes[i] = Status.UNDECIDED.code

    def _asked(self, i: int) -> tuple[Compiled, Found, list[Found]]:
        """The first answer of the solvers that is one: inequalities tightened, as they are, by another solver."""
        made, found = self._run(i, "solve", self.solver, None)
        said, words = [found], [found.word]
        if found.primal is None:
            made, found = self._run(i, "solve", self.solver, 0.0)
            said.append(found)
            words += [found.word] if found.word != words[-1] else []
        if (
            found.primal is None
            and not found.empty
            and not found.falls
            and self.solver is None
            and made.solver in SECOND
        ):
            made, found = self._run(i, "solve", SECOND[made.solver], None)
            said.append(found)
            words.append(f"{made.solver}: {found.word}")
        self.words[i] = ", ".join(words)
        return made, found, said

    def _run(self, i: int, mode: str, solver: str | None, tight: float | None) -> tuple[Compiled, Found]:
        made = self.text.of(i, mode, solver)
        if mode == "solve" and made.solver not in self.names:
            self.names.append(made.solver)
        by = TIGHT.get(made.solver, TOLERANCE) if tight is None else tight
        found = made.run(self.text.values(i, mode, by), almost=mode != "solve")
        self.seconds[i] += made.seconds
        return made, found

    def _place(self, i: int, made: Compiled, found: Found) -> None:
        """η, its witness and the multipliers of an answer."""
        self.eta[i], aux = self._point(i, made, found)
        for whole, part in zip(self.aux, aux, strict=True):
            if whole is not None:
                whole[i] = part
        for whole, part in zip(self.multipliers, self.text.multipliers(i, made, claim=False), strict=True):
            whole[i] = torch.from_numpy(np.asarray(part))

    def _point(self, i: int, made: Compiled, found: Found) -> tuple[Tensor, list[Tensor | None]]:
        unit = self.text.unit[i]
        eta = torch.from_numpy(unit * made.value(found, "u"))
        low, high = (
            torch.where(end[i].isnan(), eta, end[i]) for end in (self.program.extent.low, self.program.extent.high)
        )
        columns = [one.columns for one in self.text.poses]
        known = [None if one is None else unit * one[i] * made.value(found, f"x{j}") for j, one in enumerate(columns)]
        aux = [None if one is None else torch.from_numpy(one) for one in known]
        return torch.minimum(torch.maximum(eta, low), high), aux

    def _violated(self, i: int) -> None:
        """Multipliers which prove that nothing is feasible, from the program that measures by how much."""
        if not self.program.sets and self.program.norm is None:
            return
        made, found = self._run(i, "violated", None, 0.0)
        if found.primal is None:
            return
        parts = self.text.multipliers(i, made, claim=True)
        for whole, part in zip(self.multipliers, parts, strict=True):
            whole[i] = torch.from_numpy(np.asarray(part))
        self.claim[i] = True
        one = torch.tensor([i])
        proof = Text.absorbed(self.text, [part for part in self.multipliers], self.claim)
        if bool(self.program.take(one).excludes(tuple(part[one] for part in proof))):
            self.codes[i] = Status.INFEASIBLE.code

    def _falls(self, i: int) -> None:
        """A ray along which the objective falls, and a point of the sets."""
        g = self.program.g[i]
        for tight in (STRICT, 0.0):
            made, found = self._run(i, "ray", None, tight)
            if found.primal is None:
                continue
            ray = torch.from_numpy(made.value(found, "u"))
            ray = torch.where(ray.abs() < 1e-7, 0.0, ray)[None]
            stays = all(bool(item.contains_ray(ray)) for item in self.program.take(torch.tensor([i])).sets)
            if (stays or self.decides) and float(g @ ray[0] + gamma(len(g) + 1) * (g * ray[0]).abs().sum()) < 0:
                break
        else:
            return
        made, found = self._run(i, "inside", None, 0.0)
        if found.primal is None:
            return
        start, _ = self._point(i, made, found)
        if self.ray is None:
            self.ray = torch.zeros_like(self.eta)
        self.ray[i], self.eta[i], self.codes[i] = ray[0], start, Status.UNBOUNDED.code

    # --- all items ---------------------------------------------------------------------------------------------------------

    def finished(self, program: Program) -> Solution:
        """The solution of the program as it was given."""
        host, device = self.program, program.gradient.device
        if self.decides and self.ray is not None:
            self._go_far()
        multipliers = self.text.absorbed(self.multipliers, self.claim)
        point = self._snapped(self._met(Point(self.eta, tuple(self.aux))))
        eta = point.eta.to(program.gradient.dtype)
        solved = self.codes == Status.OPTIMAL.code
        falls = self.codes == Status.UNBOUNDED.code
        rounded = self._explained(Point(eta.to(torch.float64).nan_to_num(), point.aux), solved)
        inside, aux_inside = self._inside(rounded, solved)
        inside = torch.where(falls[:, None], self.eta, inside)
        eta = torch.where((solved)[:, None], eta, math.nan)
        if self.decides:
            verdict = host.decide(eta, multipliers)  # type: ignore[attr-defined]
            clear = host.primal(eta) < -NEAR * host.scale().nan_to_num(0.0, 0.0, 0.0)  # wherever the judge pulls η
            verdict = torch.where((verdict == Status.UNDECIDED.code) & clear, Status.FEASIBLE.code, verdict)
            self.codes = torch.where(solved, verdict, self.codes).to(torch.int8)
        stats = {"solver": "/".join(self.names) or "none", "words": self.words, "seconds": self.seconds}
        hides = any(part is not None for part in self.aux)
        return Solution(
            eta.to(device), self.codes.to(device), tuple(part.to(device) for part in multipliers), stats, inside.to(device),
            rounded.aux if hides else (), aux_inside if hides else (), None if self.ray is None else self.ray.to(device),
        ).to(device)  # fmt: skip

    def _met(self, point: Point) -> Point:
        """The nearest point at which the equalities hold to rounding, for items that claim one."""
        if not self.program.sets:
            return point
        zero = Point(point.eta.nan_to_num(), point.aux)
        moved = met(self.program.sets, self.program.extent, zero, _right_inverse)
        return moved.where(~within(self.program, zero), zero)

    def _snapped(self, point: Point) -> Point:
        """Coordinates a solver's tolerance away from their bounds are put there, where η stays inside."""
        eta, near = point.eta, torch.from_numpy(2 * TOLERANCE * self.text.unit)[:, None]
        for end in (self.program.extent.low, self.program.extent.high):
            eta = torch.where((eta - end).abs() <= near, end, eta)
        better = Point(eta, point.aux)
        return better.where(within(self.program, better), point)

    def _explained(self, point: Point, solved: Tensor) -> Point:
        """The point with another witness where the solver's own does not do: it drops small coefficients of unknowns of no consequence."""
        if not any(item.hides for item in self.program.sets):
            return point
        bad = (solved & ~within(self.program, point)).nonzero()[:, 0]
        if not len(bad):
            return point
        other = list(point.aux)
        for j, x in enumerate(witness(self.program.take(bad), point.eta[bad])):
            if x is not None:
                other[j] = point.aux[j].index_copy(0, bad, x)  # type: ignore[union-attr]
        better = Point(point.eta, tuple(other))
        return better.where(
            self.program.violation(point.eta, other) <= self.program.violation(point.eta, point.aux), point
        )

    def _go_far(self) -> None:
        """(GN): where (GNII) is unbounded, a point so far along the ray that L + gᵀη < 0."""
        falls = self.codes == Status.UNBOUNDED.code
        slope, start = (self.program.g * self.ray).sum(-1), self.eta.nan_to_num()
        t = 2 * self.program.linear(start).abs() / torch.where(slope < 0, -slope, 1.0) + 1
        self.eta = torch.where(falls[:, None], start + t[:, None] * self.ray, self.eta)
        self.codes = torch.where(falls, Status.OPTIMAL.code, self.codes).to(torch.int8)
        for j, x in enumerate(witness(self.program, self.eta)):
            self.aux[j] = x if x is None else torch.where(falls[:, None], x, self.aux[j])  # type: ignore[arg-type]

    def _inside(self, point: Point, solved: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """A point inside the sets for items whose η is not itself inside, and its witness: the optimum of rows tightened by more than
        rounding can do, for the way there costs least; else the point with the most slack."""
        eta, aux = point.eta.clone(), [None if part is None else part.clone() for part in point.aux]
        tight = max(1e-4, math.sqrt(torch.finfo(self.program.gradient.dtype).eps))
        for i in (solved & ~within(self.program, point)).nonzero()[:, 0].tolist():
            for mode, by in (("solve", tight), ("inside", 0.0)):
                made, found = self._run(i, mode, self.solver, by)
                if found.primal is not None:
                    eta[i], values = self._point(i, made, found)
                    for whole, part in zip(aux, values, strict=True):
                        if whole is not None and part is not None:
                            whole[i] = part
                    break
        same = torch.equal(eta, point.eta)
        good = Point(eta, tuple(aux)) if same else self._met(Point(eta, tuple(aux)))
        return good.eta, good.aux


def _right_inverse(K: Tensor) -> Tensor:
    """Kᵀ(KKᵀ)⁻¹, by Cholesky where K has full rank: enough for a step that mends what a solver left, at a fraction of the cost."""
    factor, failed = torch.linalg.cholesky_ex(K @ K.mT)
    return torch.linalg.pinv(K) if bool(failed.any()) else K.mT @ torch.cholesky_inverse(factor)


def within(program: Program, point: Point) -> Tensor:
    """Whether a point is inside, each row to the rounding of its own evaluation."""
    pairs = zip(program.sets, point.aux, strict=True)
    good = [(item.excess(point.eta, aux) <= item.blur(point.eta, aux)).all(-1) for item, aux in pairs]
    if program.norm is not None:
        good.append(program.linear(point.eta) <= program.linear_error(point.eta)[:, 0])
    return torch.stack([torch.ones(len(program), dtype=torch.bool), *good]).all(0)


def witness(program: Program, eta: Tensor) -> tuple[Tensor | None, ...]:
    """Values of the unknowns of the sets' own texts with which η lies deepest in each set; `()` where no set has any."""
    if not any(item.hides for item in program.sets):
        return ()
    wide = eta.to("cpu", torch.float64).nan_to_num()
    return tuple(explained(item, wide).to(eta.device) if item.hides else None for item in program.sets)
