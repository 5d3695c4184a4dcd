"""The one door to CVXPY: every program over any sets, item by item, normalised, compiled once for each kind.

Linear programs go to HiGHS, large semidefinite ones to SCS, all others to Clarabel. What comes back is a claim in the
units of the program: η with a witness for the unknowns of the sets' own texts, multipliers in the rows of the sets, a
point inside where η is not, for INFEASIBLE a proof, for UNBOUNDED a ray. "Almost solved" is not solved: another solver
is asked, and the item fails with their words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from convexattack.numerics import gamma
from convexattack.programs import OperatorNorm, Program
from convexattack.sets.atoms import replaced
from convexattack.sets.base import Point, met
from convexattack.sets.shrink import shrunk
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
    """The program on the CPU, and which items have data that are numbers; L and g of the others become 0."""
    host = replaced(program, value=program.value.cpu(), gradient=program.gradient.cpu())
    good = host.valid()
    for name in ("value", "gradient"):
        rows = getattr(host, name)
        object.__setattr__(host, name, torch.where(good.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0.0))
    return host, good.tolist()


class _Claims:
    """What is found for each item: η and the values of the texts' own unknowns, multipliers, rays, codes."""

    def __init__(self, program: Program, valid: list[bool], solver: str | None) -> None:
        n, d = len(program), program.gradient.shape[-1]
        self.program, self.valid, self.solver, self.text = program, valid, solver, Text(program)
        self.eta = torch.full((n, d), math.nan, dtype=torch.float64)
        self.codes = torch.full((n,), Status.INVALID.code, dtype=torch.int8)
        self.multipliers = [torch.zeros(shape, dtype=torch.float64) for shape in program.multiplier_shapes]
        self.aux = [None if one.columns is None else torch.zeros(one.columns.shape).double() for one in self.text.poses]
        self.ray = torch.zeros_like(self.eta)
        self.claim = torch.zeros(n, dtype=torch.bool)  # whose multipliers are about emptiness
        self.names: list[str] = []
        self.words, self.seconds = ["not run"] * n, np.zeros(n)
        self.idle = self._idle()
        self.decides = hasattr(program, "decide")  # (GN), which is the sign of (GNII)

    def _idle(self) -> list[bool]:
        """(8) with L ≤ 0 and 0 in every set: nothing is shorter than 0, and a conic solver would only blur it."""
        if self.program.norm is None or not bool((self.program.L <= 0).any()):
            return [False] * len(self.program)
        there = self.program.violation(torch.zeros_like(self.program.g)) == 0
        return ((self.program.L <= 0) & there).tolist()

    # --- one item ----------------------------------------------------------------------------------------------------

    def settle(self, i: int) -> None:
        """Find what can be claimed of item i."""
        if not self.valid[i]:
            return
        if self.idle[i]:
            self.eta[i], self.codes[i], self.words[i] = 0.0, Status.OPTIMAL.code, "0 is feasible"
            return
        made, found, falls = self._asked(i)
        said = found.empty or found.falls
        self.codes[i] = Status.UNDECIDED.code if said else Status.FAILED.code
        if found.primal is not None:
            self.eta[i], aux = self._point(i, made, found)
            _placed(self.aux, i, aux)
            _placed(self.multipliers, i, self.text.multipliers(i, made, claim=False))
            self.codes[i] = Status.OPTIMAL.code
        elif not (falls and self._falls(i)) and (self.program.sets or self.program.norm is not None):
            made, found = self._run(i, "violated", None, 0.0)  # by how much, which is the proof
            if found.primal is not None:
                _placed(self.multipliers, i, self.text.multipliers(i, made, claim=True))
                self.claim[i] = True

    def _asked(self, i: int) -> tuple[Compiled, Found, bool]:
        """The first answer that is one: of rows tightened, of rows as they are, of another solver; whether one fell."""
        tries: list[tuple[str | None, float | None]] = [(self.solver, None), (self.solver, 0.0)]
        falls, words = False, list[str]()
        for solver, tight in tries:
            made, found = self._run(i, "solve", solver, tight)
            word = found.word if solver == self.solver else f"{made.solver}: {found.word}"
            words += [word] if word not in words else []
            falls = falls or found.falls
            if found.primal is not None:
                break
            if tight == 0.0 and not (found.empty or found.falls) and self.solver is None and made.solver in SECOND:
                tries.append((SECOND[made.solver], None))
        self.words[i] = ", ".join(words)
        return made, found, falls and self.program.norm is None

    def _run(self, i: int, mode: str, solver: str | None, tight: float | None) -> tuple[Compiled, Found]:
        made = self.text.of(i, mode, solver)
        if mode == "solve" and made.solver not in self.names:
            self.names.append(made.solver)
        by = TIGHT.get(made.solver, TOLERANCE) if tight is None else tight
        found = made.run(self.text.values(i, mode, by), almost=mode != "solve")
        self.seconds[i] += made.seconds
        return made, found

    def _point(self, i: int, made: Compiled, found: Found) -> tuple[Tensor, list[np.ndarray | None]]:
        """η, and the values of the texts' own unknowns."""
        unit, extent = self.text.unit[i], self.program.extent
        eta = torch.from_numpy(unit * made.value(found, "u"))
        columns = [one.columns for one in self.text.poses]
        aux = [None if one is None else unit * one[i] * made.value(found, f"x{j}") for j, one in enumerate(columns)]
        return torch.minimum(torch.maximum(eta, extent.low[i]), extent.high[i]), aux

    def _falls(self, i: int) -> bool:
        """Whether a ray along which the objective falls, and a point of the sets, are found."""
        g, one = self.program.g[i], self.program.take(torch.tensor([i]))
        for tight in (STRICT, 0.0):
            made, found = self._run(i, "ray", None, tight)
            ray = torch.from_numpy(made.value(found, "u"))
            ray = torch.where(ray.abs() < 1e-7, 0.0, ray)
            stays = self.decides or all(bool(item.contains_ray(ray[None])) for item in one.sets)
            if stays and float(g @ ray + gamma(len(g) + 1) * (g * ray).abs().sum()) < 0:
                break
        else:
            return False
        made, found = self._run(i, "inside", None, 0.0)
        if found.primal is None:
            return False
        self.eta[i] = self._point(i, made, found)[0]
        self.ray[i], self.codes[i] = ray, Status.UNBOUNDED.code
        return True

    # --- all items ---------------------------------------------------------------------------------------------------

    def finished(self, program: Program) -> Solution:
        """The solution of the program as it was given."""
        host, device = self.program, program.gradient.device
        multipliers = self.text.absorbed(self.multipliers, self.claim)
        if bool(self.claim.any()):
            self._code(self.claim & host.excludes(multipliers), Status.INFEASIBLE)
        falls = self.codes == Status.UNBOUNDED.code
        if self.decides and bool(falls.any()):
            self._go_far(falls)
        solved = self.codes == Status.OPTIMAL.code
        point = self._snapped(self._met(Point(self.eta.nan_to_num(), tuple(self.aux))))
        eta = point.eta.to(program.gradient.dtype)
        if eta.dtype != torch.float64:
            near = shrunk(host.sets, point.eta, eta)
            hair = (near - eta).abs().amax(-1) <= 16 * torch.finfo(eta.dtype).eps * eta.abs().amax(-1)
            eta = torch.where(hair[:, None], near, eta)  # 0 may lie on an edge: towards it is then no way inside
        point = self._explained(Point(eta.to(torch.float64), point.aux), solved)
        inside = self._inside(point, solved)
        eta = torch.where(solved[:, None], eta, math.nan)
        if self.decides:
            verdict = host.decide(eta, multipliers)  # type: ignore[attr-defined]
            clear = host.primal(eta) < -NEAR * host.scale().nan_to_num(0.0, 0.0, 0.0)
            self.codes = torch.where(solved, verdict, self.codes).to(torch.int8)
            self._code(solved & clear & (self.codes == Status.UNDECIDED.code), Status.FEASIBLE)
        stats = {"solver": "/".join(self.names) or "none", "words": self.words, "seconds": self.seconds}
        hides = any(part is not None for part in self.aux)
        return Solution(
            eta, self.codes, multipliers, stats, inside.eta, point.aux if hides else (), inside.aux if hides else (),
            self.ray if bool(falls.any()) else None,
        ).to(device)  # fmt: skip

    def _code(self, where: Tensor, status: Status) -> None:
        self.codes = torch.where(where, status.code, self.codes).to(torch.int8)

    def _go_far(self, falls: Tensor) -> None:
        """(GN): where (GNII) is unbounded, a point so far along the ray that L + gᵀη < 0."""
        slope, start = (self.program.g * self.ray).sum(-1), self.eta.nan_to_num()
        t = 2 * self.program.linear(start).abs() / torch.where(slope < 0, -slope, 1.0) + 1
        self.eta = torch.where(falls[:, None], start + t[:, None] * self.ray, self.eta)
        self._code(falls, Status.OPTIMAL)
        known = Point(self.eta, witness(self.program, self.eta) or tuple(self.aux))
        self.aux = list(known.where(falls, Point(self.eta, tuple(self.aux))).aux)

    def _met(self, point: Point) -> Point:
        """The nearest point at which the equalities hold to rounding."""
        moved = met(self.program.sets, self.program.extent, point, _right_inverse)
        return moved.where(~within(self.program, point), point)

    def _snapped(self, point: Point) -> Point:
        """Coordinates a solver's tolerance away from their bounds are put there, where η stays inside."""
        eta, near = point.eta, torch.from_numpy(2 * TOLERANCE * self.text.unit)[:, None]
        for end in (self.program.extent.low, self.program.extent.high):
            eta = torch.where((eta - end).abs() <= near, end, eta)
        better = Point(eta, point.aux)
        return better.where(within(self.program, better), point)

    def _explained(self, point: Point, solved: Tensor) -> Point:
        """The point with another witness where the solver's own does not do: HiGHS drops very small coefficients."""
        bad = (solved & ~within(self.program, point)).nonzero()[:, 0]
        if not len(bad) or all(part is None for part in self.aux):
            return point
        found = zip(point.aux, witness(self.program.take(bad), point.eta[bad]), strict=True)
        other = tuple(x if new is None or x is None else x.index_copy(0, bad, new) for x, new in found)
        worse = self.program.violation(point.eta, other) > self.program.violation(point.eta, point.aux)
        return point.where(worse, Point(point.eta, other))

    def _inside(self, point: Point, solved: Tensor) -> Point:
        """A point inside for items whose η is not: where the way costs least, else the one with the most slack."""
        eta, aux = self.eta.where(~solved[:, None], point.eta), [None if x is None else x.clone() for x in point.aux]
        tight = max(1e-4, math.sqrt(torch.finfo(self.program.gradient.dtype).eps))
        outside = (solved & ~within(self.program, point)).nonzero()[:, 0].tolist()
        for i in outside:
            for mode, by in (("solve", tight), ("inside", 0.0)):
                made, found = self._run(i, mode, self.solver, by)
                if found.primal is not None:
                    eta[i], values = self._point(i, made, found)
                    _placed(aux, i, values)
                    break
        known = Point(eta, tuple(aux))
        return self._met(Point(eta.nan_to_num(), known.aux)) if outside else known


def _placed(whole: Sequence[Tensor | None], i: int, parts: Sequence[np.ndarray | None]) -> None:
    for rows, part in zip(whole, parts, strict=True):
        if rows is not None and part is not None:
            rows[i] = torch.from_numpy(np.asarray(part))


def _right_inverse(K: Tensor) -> Tensor:
    """Kᵀ(KKᵀ)⁻¹ by Cholesky, where K has full rank: enough to mend what a solver left, and cheap."""
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
    """Values of the unknowns of the sets' own texts with which η lies deepest in each; `()` where no set has any."""
    if not any(item.hides for item in program.sets):
        return ()
    wide = eta.to("cpu", torch.float64).nan_to_num()
    return tuple(explained(item, wide).to(eta.device) if item.hides else None for item in program.sets)
