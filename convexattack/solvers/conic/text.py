"""The normalised text of a program: u = η/s and c = g/size, so that absolute tolerances mean the same for all data.

    (GN), (GNII)    minimize cᵀu     subject to  u ∈ C_j/s
    (8)             minimize ‖u‖_p   subject to  cᵀu ≤ −L/(s·size),  u ∈ C_j/s
    sum of hinges   minimize Σ w_i h_i/Σw  subject to  h ≥ 0,  h_i ≥ c_i/w_i + (s a_i/w_i)ᵀu,  u ∈ C_j/s

One set acts on u itself and absorbs what the multipliers of the others leave of the gradient; every other set has
rows whose dual values are its multiplier. Beside `solve` three texts are about the sets alone: `inside`, the point
with the most slack in all inequalities; `violated`, the least by which all rows must be widened, whose multipliers
prove that the sets have no common point; and `ray`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from convexattack.norms import Lp
from convexattack.programs import Program
from convexattack.sets.atoms import replaced
from convexattack.solution import Multipliers
from convexattack.solvers.conic.compiled import Compiled, chosen, compiled, refused
from convexattack.solvers.conic.poses import Pose, digest, pose

__all__ = ["Text", "explained"]

FAR = 100.0  # in units of u: how far η is taken to reach where nothing says so, for the units of unknowns alone
MOST = 50_000  # entries of a matrix that differs by item and is a parameter nevertheless


class _Parameters(dict[str, Any]):
    """CVXPY parameters of the shapes of these numbers, made when asked for."""

    def __init__(self, numbers: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.numbers = numbers

    def __missing__(self, name: str) -> cp.Parameter:
        made = self[name] = cp.Parameter(self.numbers[name].shape[1:], name=name)
        return made


@dataclass(eq=False)
class Text:
    """N programs of one kind, in numbers of about 1, on the host."""

    program: Program
    unit: np.ndarray = field(init=False)  # (N,) s
    size: np.ndarray = field(init=False)  # (N,) of the objective, or of (8)'s own row
    numbers: dict[str, np.ndarray] = field(init=False)
    room: dict[str, np.ndarray] = field(default_factory=dict, init=False)
    poses: list[Pose] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        program = self.program
        g = program.A.abs().sum(1)
        extent = program.extent
        reach = extent.reach
        far = reach.amax(-1)
        if program.norm is not None:
            size = program.norm.dual(program.g)
            nearest = torch.zeros_like(g).clamp(extent.low.nan_to_num(0.0), extent.high.nan_to_num(0.0))
            unit = program.norm(nearest) + (size > 0) * program.L.abs() / torch.where(size > 0, size, 1.0)
            far = _longest(program, unit)
        else:
            unit = torch.where(far < torch.inf, far, 1.0)
            apart = program.scale() / (2 * torch.where(unit > 0, unit, 1.0))
            size = torch.where((apart > 0) & (apart < torch.inf), apart, g.sum(-1))
        unit, size = (torch.where((x > 0) & (x < torch.inf), x, 1.0) for x in (unit, size))
        most = torch.minimum(2 * reach, 2 * far[:, None]) / unit[:, None]
        self.unit, self.size = unit.numpy(), size.numpy()
        self.numbers = self._head()
        for j, item in enumerate(program.sets):
            self._add(j, self._pose(item, most))

    def _pose(self, item: Any, most: Tensor) -> Pose:
        n, d = most.shape
        scaled = item.scaled(torch.from_numpy(1 / self.unit))
        lengths = torch.as_tensor(item.map.row_lengths(Lp(float("inf")), d), dtype=torch.float64)
        size = lengths.expand(n, item.rows(d)).numpy()
        known = scaled.unknowns(most.clamp_max(FAR)).numpy() if item.hides else None
        return pose(scaled.atom, size, item.map.absolute(most).numpy(), known)

    @cached_property
    def fixed(self) -> list[bytes | None]:
        """A fingerprint of each map that serves all items."""
        d = self.program.gradient.shape[-1]
        maps = [item.map for item in self.program.sets]
        return [None if one.parameters(len(self.program), d) else digest(one) for one in maps]

    def _add(self, j: int, made: Pose) -> None:
        """The numbers of set j, and those of its map where they differ by item."""
        self.poses.append(made)
        n, d = len(self.unit), self.program.gradient.shape[-1]
        for name, rows in self.program.sets[j].map.parameters(n, d).items():
            self.numbers[f"{j}:map:{name}"] = rows * made.factor.reshape(made.factor.shape + (1,) * (rows.ndim - 2))
        self.numbers |= {f"{j}:{name}": rows for name, rows in made.numbers.items()}
        self.room |= {f"{j}:{name}": rows for name, rows in made.room.items()}

    def _head(self) -> dict[str, np.ndarray]:
        """The numbers of the objective."""
        program, unit, size = self.program, self.unit, self.size
        if not program.pieces:
            numbers = {"c": program.g.numpy() / size[:, None]}
            if program.norm is not None:
                numbers["limit"], self.room["limit"] = -program.L.numpy() / (unit * size), -np.ones(len(unit))
            return numbers
        c, A = program.c.numpy(), program.A.numpy()
        weight = np.abs(c) + unit[:, None] * np.abs(A).sum(-1)
        self.weight = np.where(weight > 0, weight, 1.0)
        self.total = self.weight.sum(-1)
        return {"start": c / self.weight, "share": self.weight / self.total[:, None]}

    @cached_property
    def acting(self) -> int | None:
        """The set that absorbs what is left: the first ball of η itself, else the first such set at all."""
        one = torch.ones(1, self.program.gradient.shape[-1], dtype=torch.float64).expand(len(self.unit), -1)
        own = [item.map.lift(one) for item in self.program.sets]
        plain = [j for j, u in enumerate(own) if u is not None and bool(u.isfinite().all())]
        return next((j for j in plain if not self.program.sets[j].atom.separable), plain[0] if plain else None)

    # --- the text of an item -----------------------------------------------------------------------------------------

    def of(self, i: int, mode: str, solver: str | None) -> Compiled:
        """Its compiled problem, that of this thread."""
        program = self.program
        kind = (program.pieces, None if program.norm is None else program.norm.p, program.gradient.shape[-1])
        sets = []
        for j, made in enumerate(self.poses):
            seen: Hashable = self.fixed[j]
            if seen is None:
                shapes = [(name, rows.shape[1:]) for name, rows in self.numbers.items() if name.startswith(f"{j}:map:")]
                if any(np.prod(shape) > MOST for _, shape in shapes):
                    return compiled(None, lambda: self._write(i, mode, solver))
                seen = tuple(shapes)
            else:
                seen = (seen, made.factor[i].tobytes())
            sets.append((seen, made.form[i]))
        key = None if program.pieces and mode == "solve" else (mode, solver, kind, self.acting, tuple(sets))
        return compiled(key, lambda: self._write(i, mode, solver))

    def _write(self, i: int, mode: str, solver: str | None) -> Compiled:
        program = self.program
        p = _Parameters(self.numbers | {f"room:{name}": rows for name, rows in self.room.items()})
        u = cp.Variable(program.gradient.shape[-1], name="u")
        t = cp.Variable(name="t") if mode in ("inside", "violated") else None
        goal, rows, read = self._objective(i, u, t, p)
        if mode == "ray":
            rows = [cp.norm(u, "inf") <= 1]
        variables, reads = {"u": u}, [read]
        if t is not None:
            goal = -t
            rows += [t <= 1, t >= 0] if mode == "inside" else [t <= 0]
            variables["t"] = t
        for j, made in enumerate(self.poses):
            z = self._seen(i, j, u, p)
            numbers = {name: self._number(f"{j}:{name}", t, p) for name in made.numbers}
            if made.linked and (j != self.acting or (mode == "solve" and program.norm is not None)):
                own = cp.Variable(z.size, name="z")
                link = z - own == 0
                written = made.write(i, own, numbers, None)
                rows.append(link)
                reads.append(partial(_dual, link))
            else:
                written = made.write(i, z, numbers, t if mode == "violated" else None)
                reads.append(written.read)
            rows += written.rows
            if written.aux is not None:
                variables[f"x{j}"] = written.aux
        problem = cp.Problem(cp.Minimize(goal), rows)
        name = solver or chosen(problem)
        try:
            problem._construct_chain(solver=name, ignore_dpp=not problem.is_dpp())
        except cp.error.SolverError as error:
            raise refused(name, error) from error
        return Compiled(problem, dict(p), name, reads, variables)

    def _number(self, name: str, t: cp.Variable | None, p: _Parameters) -> Any:
        """A number of the text; with a slack t, moved by it."""
        if t is None or name not in self.room:
            return p[name]
        room = p[f"room:{name}"]
        return p[name] + (t * room if room.ndim == 0 else cp.multiply(t, room))

    def _seen(self, i: int, j: int, u: cp.Variable, p: _Parameters) -> cp.Expression:
        """f∘Ku."""
        item, factor = self.program.sets[j], self.poses[j].factor[i]
        names = [name for name in self.numbers if name.startswith(f"{j}:map:")]
        if names:
            large = any(self.numbers[name][i].size > MOST for name in names)
            own = {name.split(":")[2]: self.numbers[name][i] if large else p[name] for name in names}
            return item.map.text(u, own)
        z = item.map.text(u, {})
        return z if (factor == 1).all() else cp.multiply(factor, z)

    def _objective(
        self, i: int, u: cp.Variable, t: cp.Variable | None, p: _Parameters
    ) -> tuple[cp.Expression, list[cp.Constraint], Any]:
        """What is minimized, the rows that belong to it, and what reads their multiplier."""
        program = self.program
        if program.norm is not None:
            row = p["c"] @ u <= self._number("limit", t, p)
            length = cp.Variable(name="length")
            rows = [row] if t is not None else [row, *program.norm.text(u, length)]
            return length, rows, lambda: np.ravel(row.dual_value)
        if not program.pieces:
            return p["c"] @ u if t is None else cp.Constant(0), [], None
        if t is not None:
            return cp.Constant(0), [], None
        h = cp.Variable(self.weight.shape[1], name="h")
        table = sp.csr_array(program.A[i].numpy() * (self.unit[i] / self.weight[i])[:, None])
        demand = h >= p["start"] + table @ u
        return p["share"] @ h, [demand, h >= 0], lambda: np.ravel(demand.dual_value)

    # --- numbers in, vectors out -------------------------------------------------------------------------------------

    def values(self, i: int, mode: str, tight: float = 0.0) -> dict[str, np.ndarray]:
        """The numbers of item i; `tight` moves inequalities inwards, `ray` asks of directions instead."""
        found = {name: rows[i] for name, rows in self.numbers.items()}
        moved = {name: rows[i] for name, rows in self.room.items()}
        if mode == "ray":
            sets = [name for name in found if name[0].isdigit() and ":map:" not in name]
            found |= {name: np.zeros_like(found[name]) for name in sets}
            moved = {name: 0 * rows if name.endswith("radius") else np.sign(rows) for name, rows in moved.items()}
        if tight:
            found |= {name: found[name] + tight * rows for name, rows in moved.items()}
        return found | {f"room:{name}": rows for name, rows in moved.items()}

    def multipliers(self, i: int, made: Compiled, claim: bool) -> list[np.ndarray]:
        """Of the program, in the rows of its sets; `claim`: of the claim that nothing is feasible."""
        program = self.program
        read, *others = made.reads
        first: list[np.ndarray] = []
        back = 1.0 if claim else self.size[i]
        if program.norm is not None and read is not None:
            first, back = [read()[0] / self.size[i]], 1.0
        if program.pieces:
            back = 1.0 if claim else self.total[i] / self.unit[i]
            u = np.zeros(self.weight.shape[1]) if read is None else read() * self.total[i] / self.weight[i]
            first = [u.clip(0, 1)]
        sets = zip(self.poses, others, strict=True)
        return first + [
            np.zeros(one.factor.shape[1]) if get is None else back * one.factor[i] * one.own(i, get())
            for one, get in sets
        ]

    def absorbed(self, multipliers: list[Tensor], claim: Tensor) -> Multipliers:
        """The acting set takes what is left of the gradient; in a claim that nothing is feasible, of 0."""
        program, k = self.program, self.acting
        if program.norm is not None:  # a proof with λ = 1, so that λg is exact
            lam = multipliers[0]
            unit = torch.where(claim & (lam > 0), lam, 1.0)
            multipliers = [lam / unit, *(part / unit[:, None] for part in multipliers[1:])]
        if k is None:
            return tuple(multipliers)
        idle, u = program.idle(tuple(multipliers))
        w = torch.where(claim[:, None], idle, program.weight(tuple(multipliers))[0])
        take = claim | (program.norm is None)
        rest = -(w[:, None] @ program.A)[:, 0]
        for j, part in enumerate(u):
            rest = rest if j == k else rest - program.sets[j].pull(part)
        lifted = program.sets[k].map.lift(rest)
        assert lifted is not None
        first = list(multipliers[: len(multipliers) - len(u)])
        return tuple(first + [torch.where(take[:, None], lifted, part) if j == k else part for j, part in enumerate(u)])


def _dual(row: cp.Constraint) -> np.ndarray:
    return np.ravel(row.dual_value)


def _longest(program: Program, unit: Tensor) -> Tensor:
    """(8): a bound on the optimal ‖η‖, from the first point clip(−t·sign(g)) of the sets that reaches L; ∞ without one.

    Without it Clarabel fails on some power cones, whose unknowns nothing bounds.
    """
    assert program.norm is not None
    g, low, high = program.g, program.extent.low, program.extent.high

    def point(t: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(-g.sign() * t[:, None], low), high)

    least, most = torch.zeros_like(unit), 1e9 * unit
    for _ in range(80):
        middle = torch.where(least > 0, (least * most).sqrt(), most * 1e-9)
        enough = program.linear(point(middle)) <= 0
        least, most = torch.where(enough, least, middle), torch.where(enough, middle, most)
    eta = point(most)
    good = (program.linear(eta) <= 0) & (program.violation(eta) == 0)
    return torch.where(good, 1.01 * program.norm.length(eta), torch.inf)


def explained(item: Any, eta: Tensor) -> Tensor:
    """The unknowns of a set's own text that leave its inequalities the most slack at η; NaN where none is found."""
    z, atom = item.map(eta), item.atom
    k = atom.hidden.matrix.shape[-1]
    told = (atom.hidden.absolute(torch.ones(len(eta), k, dtype=torch.float64)) > 0).to(torch.float64)
    block = torch.from_numpy(atom.cones.block).expand(z.shape)
    told = torch.zeros_like(z).scatter_reduce(-1, block, told, "amax").gather(-1, block) > 0
    moved = replaced(atom, b=torch.where(told, atom.right(z) - z, 0.0))  # other blocks say nothing about x
    unit = moved.b.nan_to_num(0.0, 0.0, 0.0).abs().amax(-1)
    unit = torch.where(unit > 0, unit, 1.0)
    known = (item.unknowns(eta.abs()) / unit[:, None]).numpy()
    made = pose(moved.scaled(1 / unit), np.zeros(z.shape), np.full(z.shape, np.inf), known)
    found = torch.full((len(eta), k), torch.nan, dtype=torch.float64)
    for i in range(len(eta)):
        one = compiled(("witness", made.form[i]), partial(_slack, made, i))
        answer = one.run({"b": made.numbers["b"][i]}, almost=True)
        if answer.primal is not None:
            assert made.columns is not None
            found[i] = unit[i] * torch.from_numpy(made.columns[i] * one.value(answer, "x"))
    equal = item.equalities(eta, found.nan_to_num())
    if equal is None:
        return found
    _, A, off = equal
    step: Tensor = (torch.linalg.pinv(A) @ (off * told[:, : off.shape[1]])[..., None])[..., 0]
    return found - step


def _slack(made: Pose, i: int) -> Compiled:
    b, t = cp.Parameter(made.numbers["b"].shape[1], name="b"), cp.Variable(name="t")
    written = made.write(i, cp.Constant(np.zeros(b.size)), {"b": b + cp.multiply(t, made.room["b"][i])}, None)
    problem = cp.Problem(cp.Maximize(t), [t <= 1, *written.rows])
    assert written.aux is not None
    return Compiled(problem, {"b": b}, chosen(problem), [], {"x": written.aux})
