"""The reference: (GN), (GNII) and (8) as parametrized CVXPY programs, normalised, compiled once for each kind and re-solved item by item.

Conic solvers stop at absolute tolerances, so the text they see is normalised: c = g/‖g‖_q and u = η/s, where s is the radius (or the box,
if that is smaller) for (GNII) and about ‖η‖ for (8):

    (GN), (GNII)   minimize cᵀu   subject to  u ∈ C_j/s
    (8)            minimize ‖u‖_p  subject to  cᵀu ≤ −L/(s‖g‖_q),  u ∈ C_j/s

One set acts on u itself and absorbs what the multipliers of the others leave of −c; every other set gets a row whose dual value is its
multiplier. Linear programs go to HiGHS, all others to Clarabel (p other than 1, 2, ∞ as power cones).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm, Program
from convexattack.sets import Ball, Box, ConvexSet
from convexattack.solution import Solution, Status

__all__ = ["bare", "solve"]

_OPTIONS: dict[str, dict[str, Any]] = {"SCS": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 100_000}}
_MEANING = {
    cp.OPTIMAL: Status.OPTIMAL,
    cp.OPTIMAL_INACCURATE: Status.OPTIMAL,
    cp.INFEASIBLE: Status.INFEASIBLE,
    cp.INFEASIBLE_INACCURATE: Status.INFEASIBLE,
    cp.UNBOUNDED: Status.UNBOUNDED,
    cp.UNBOUNDED_INACCURATE: Status.UNBOUNDED,
}


def solve(program: Program, solver: str | None = None, progress: Callable[[int], object] | None = None) -> Solution:
    """Solve item by item with CVXPY.

    Args:
        program: `GN`, `GNII` or `MinNorm`, with any sets.
        solver: an installed CVXPY solver; None picks HiGHS for linear programs and Clarabel for the rest, and asks SCS where that one
            gave up.
        progress: called with 1 after each item.

    Returns:
        A `Solution`; stats has the solver's name, its own status words and the seconds of each item.

    Raises:
        ValueError: a solver that is unknown, not installed, or that cannot take this kind of program.
    """
    if not isinstance(program, GN | GNII | MinNorm):
        raise TypeError(f"program must be a GN, GNII or MinNorm, got {type(program).__name__}")
    name = _installed(solver)
    found = _run(program, name, None, progress)
    codes, multipliers = _prove_infeasible(program, found, name)
    if solver is None:
        found, codes, multipliers = _second_opinion(program, found, codes, multipliers)
    multipliers = _absorbed(program, codes, multipliers)
    found = Solution(found.eta, codes.to(program.gradient.device), multipliers, found.stats)
    if isinstance(program, GN):
        settled = found.codes == Status.OPTIMAL.code
        return Solution(
            found.eta,
            torch.where(settled, program.decide(found.eta, found.multipliers), found.codes),
            multipliers,
            found.stats,
        )
    return found


def _run(
    program: Program, solver: str | None, wanted: np.ndarray | None, progress: Callable[[int], object] | None
) -> Solution:
    """Each valid (and wanted) item through the solver; codes and multipliers on the host."""
    compiled, scaled = _compile(program, solver)
    n, d = program.gradient.shape
    eta, multipliers = np.full((n, d), np.nan), [np.zeros(shape) for shape in program.multiplier_shapes]
    codes, words, seconds = np.full(n, Status.INVALID.code, dtype=np.int8), ["not run"] * n, np.zeros(n)
    trivial = _zero_is_optimal(program)
    for i in range(n):
        if scaled.valid[i] and trivial[i]:
            eta[i], codes[i], words[i] = 0.0, Status.OPTIMAL.code, "0 is feasible"
        elif scaled.valid[i] and (wanted is None or wanted[i]):
            begin = time.perf_counter()
            status, words[i], u, lam, duals = compiled.run({key: rows[i] for key, rows in scaled.parameters.items()})
            seconds[i], codes[i] = time.perf_counter() - begin, status.code
            if u is not None:
                eta[i] = scaled.unit[i] * u
            if isinstance(program, MinNorm):
                parts = [lam / scaled.size[i] if scaled.size[i] else 0.0, *duals]
            else:
                parts = [scaled.size[i] * v for v in duals]
            for whole, part in zip(multipliers, parts, strict=True):
                whole[i] = part
        if progress is not None:
            progress(1)
    stats = {"solver": compiled.solver, "words": words, "seconds": seconds}
    return Solution(
        torch.from_numpy(eta).to(program.gradient),
        torch.from_numpy(codes),
        tuple(map(torch.from_numpy, multipliers)),
        stats,
    )


def bare(program: Program, i: int, solver: str | None = None) -> Callable[[], object]:
    """What the solver itself does for item i, on data that are ready: the floor under a re-solve, for benchmarks."""
    compiled, scaled = _compile(program, _installed(solver))
    data = compiled.data({key: rows[i] for key, rows in scaled.parameters.items()})
    return lambda: compiled.call(data)


def _installed(solver: str | None) -> str | None:
    if solver is None:
        return None
    found: dict[str, str] = {name.upper(): name for name in cp.installed_solvers()}
    if str(solver).upper() not in found:
        raise ValueError(
            f"solver={solver!r} is neither 'closed_form', 'reference' nor an installed CVXPY solver; installed are {', '.join(found)}"
        )
    return found[str(solver).upper()]


# --- one kind of program, compiled --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Compiled:
    """A parametrized problem in u, and the way from parameter values to a solver's raw answer and back."""

    problem: cp.Problem
    u: cp.Variable
    parameters: dict[str, cp.Parameter]
    adversarial: cp.Constraint | None
    links: list[Callable[[], np.ndarray] | None]
    solver: str

    def __post_init__(self) -> None:
        self.affine: _Affine | None = None
        self.chain: Any = None
        self.options = _OPTIONS.get(self.solver, {})

    def assign(self, values: dict[str, np.ndarray]) -> None:
        for name, parameter in self.parameters.items():
            parameter.save_value(values[name])  # without the checks of `value`, which the numbers have passed

    def data(self, values: dict[str, np.ndarray]) -> Any:
        """The solver's arguments. CVXPY makes them once; from then on they are an affine function of the parameters."""
        self.assign(values)
        if self.chain is None or self.affine is None:
            data, self.chain, self.inverse = self.problem.get_problem_data(
                self.solver, solver_opts=dict(self.options), ignore_dpp=not self.problem.is_dpp()
            )
            self.affine = _Affine.of(data, self.parameters) if self.problem.is_dpp() else None
            return data
        return self.affine(values)

    def call(self, data: Any) -> Any:
        return self.chain.solve_via_data(
            self.problem, data, warm_start=False, verbose=False, solver_opts=dict(self.options)
        )

    def run(self, values: dict[str, np.ndarray]) -> tuple[Status, str, np.ndarray | None, float, list[np.ndarray]]:
        """Solve one item: (status, the solver's word, u, λ, the sets' multipliers). Whatever a solver throws fails this item alone."""
        nothing = [np.zeros(self.u.size) for _ in self.links]
        try:
            raw = self.call(self.data(values))  # the first call makes the chain
            found = self.chain.invert(raw, self.inverse)
        except Exception as error:  # solvers raise what they like, Rust panics included
            return Status.FAILED, f"{type(error).__name__}: {error}", None, 0.0, nothing
        status = _MEANING.get(found.status, Status.FAILED)
        if status is not Status.OPTIMAL or found.primal_vars is None:
            return status, found.status, None, 0.0, nothing
        for row in self.problem.constraints:
            if row.id in found.dual_vars:
                row.save_dual_value(found.dual_vars[row.id])
        duals = [np.zeros(self.u.size) if link is None else link() for link in self.links]
        lam = 0.0 if self.adversarial is None else float(np.asarray(self.adversarial.dual_value))
        return status, found.status, np.asarray(found.primal_vars[self.u.id], dtype=float).reshape(-1), lam, duals


@dataclass(eq=False)
class _Affine:
    """The solver's arguments as an affine function of the parameters, read off CVXPY's own parametrized cone program once.

    CVXPY recomputes that map through several Python layers, 1 ms or more an item; a sparse product takes 0.05 ms.
    """

    template: dict[str, Any]
    columns: dict[str, tuple[int, int]]  # where a parameter stands in the argument of the map
    length: int
    objective: Any
    matrix: Any | None  # None where the constraints' matrix does not depend on the parameters
    right: Any
    rows: np.ndarray
    index: tuple[np.ndarray, np.ndarray, tuple[int, int]]

    @staticmethod
    def of(data: dict[str, Any], parameters: dict[str, cp.Parameter]) -> _Affine | None:
        """None where this CVXPY keeps its map elsewhere, or where it does not reproduce its own data: then CVXPY is asked each time."""
        try:
            cone = data["param_prob"]
            cone.reduced_A.cache(False)
            whole, (rows, ends, (m, n)) = cone.reduced_A.reduced_mat.tocsr(), cone.reduced_A.problem_data_index
            used = {name: p for name, p in parameters.items() if p.id in cone.param_id_to_col}
            columns = {name: (cone.param_id_to_col[p.id], p.size) for name, p in used.items()}
            length, last = cone.total_param_size + 1, ends[n - 1]
            matrix = whole[:last]
            fixed = matrix[:, : length - 1].nnz == 0
            index = (rows[:last], ends[:n], (m, n - 1))
            found = _Affine(data, columns, length, cone.q, None if fixed else matrix, whole[last:], rows[last:], index)
            again = found({name: np.asarray(p.value) for name, p in parameters.items()})
            same = "P" not in data and data["lower_bounds"] is None and data["upper_bounds"] is None
            same = same and np.array_equal(again["c"], data["c"]) and np.array_equal(again["b"], data["b"])
            return found if same and abs(again["A"] - data["A"]).nnz == 0 else None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def __call__(self, values: dict[str, np.ndarray]) -> dict[str, Any]:
        at = np.zeros(self.length)
        at[-1] = 1.0
        for name, (start, size) in self.columns.items():
            at[start : start + size] = np.ravel(values[name], order="F")
        rows, ends, shape = self.index
        b = np.zeros(shape[0])
        b[self.rows] = self.right @ at
        data = {**self.template, "c": (self.objective @ at)[:-1], "b": b}
        if self.matrix is not None:
            data["A"] = sp.csc_array((-(self.matrix @ at), rows, ends), shape=shape)
        return data


@lru_cache(maxsize=64)
def _build(
    kind: str,
    norm: Lp | None,
    keys: tuple[Any, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    d: int,
    solver: str | None,
) -> _Compiled:
    """The normalised text. `keys` stand for the sets: an `Lp` for a ball of that norm, `Box` for a box, the set itself for any other."""
    sets = [Ball(key, 1.0) if isinstance(key, Lp) else Box(-1.0, 1.0) if key is Box else key for key in keys]
    u = cp.Variable(d, name="u")
    parameters = {name: cp.Parameter(shape, name=name) for name, shape in shapes}
    c = parameters["c"]
    rows: list[cp.Constraint] = []
    links: list[Callable[[], np.ndarray] | None] = []
    acting = _acting(sets) if kind == "gnii" else None
    for j, item in enumerate(sets):
        own = {name.split(":", 1)[1]: parameter for name, parameter in parameters.items() if name.startswith(f"{j}:")}
        if j == acting and isinstance(item, Ball):
            rows += item.text(u, own)
            links.append(None)
        else:
            more, multiplier = item.link(u, own)
            rows += more
            links.append(multiplier)
    adversarial = None
    if kind == "gnii":
        problem = cp.Problem(cp.Minimize(c @ u), rows)
    else:
        assert norm is not None
        t = cp.Variable(name="t")
        adversarial = c @ u <= parameters["limit"]
        problem = cp.Problem(cp.Minimize(t), [adversarial, *norm.text(u, t), *rows])
    chosen = solver or (cp.HIGHS if problem.is_qp() else cp.CLARABEL)  # the objective is linear
    try:
        problem._construct_chain(solver=chosen, ignore_dpp=not problem.is_dpp())
    except cp.error.SolverError as error:
        raise ValueError(
            f"solver={chosen!r} cannot take this program: {str(error).rstrip('.')}; use 'CLARABEL' or 'SCS'"
        ) from error
    return _Compiled(problem, u, parameters, adversarial, links, chosen)


# --- from a program to the numbers in that text ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Scaled:
    unit: np.ndarray  # η = unit·u
    size: np.ndarray  # ‖g‖_q
    valid: np.ndarray
    parameters: dict[str, np.ndarray]


def _compile(program: Program, solver: str | None) -> tuple[_Compiled, _Scaled]:
    n, d = program.gradient.shape
    norm = program.norm if isinstance(program, MinNorm) else None
    host = torch.device("cpu")
    g, L = program.g.to(host), program.L.to(host)
    valid = g.isfinite().all(-1) & L.isfinite()
    g, L = torch.where(valid[:, None], g, 0.0), torch.where(valid, L, 0.0)
    for item in program.sets:
        if isinstance(item, Box):
            low, high = item.bounds(g)
            valid = valid & ~(low.isnan() | high.isnan()).any(-1)
    acting = _acting(program.sets)
    ball = norm or (
        program.sets[acting].norm if acting is not None and isinstance(program.sets[acting], Ball) else Lp(math.inf)
    )  # type: ignore[attr-defined]
    steep = ball.dual(g)
    size = torch.where(steep > 0, steep, 1.0)
    reach = program.reach().to(host)
    parameters = {"c": (g / size[:, None]).numpy()}
    if norm is None:
        unit = torch.where((reach > 0) & (reach < torch.inf), reach, 1.0)
        limit = torch.where(reach < torch.inf, 2.0, torch.inf)
        point = reach == 0  # nothing but η = 0 is left, whatever the solver's u
    else:
        unit, limit = _unit(program, norm, g, L, size)
        parameters["limit"] = (-L / (unit * size)).numpy()
    for j, item in enumerate(program.sets):
        rows = item.parameters(n, d, unit.numpy(), limit.numpy())
        parameters |= {f"{j}:{name}": np.nan_to_num(np.asarray(row)) for name, row in rows.items()}
    keys = tuple(
        item.norm if isinstance(item, Ball) else Box if isinstance(item, Box) else item for item in program.sets
    )
    shapes = tuple((name, row.shape[1:]) for name, row in parameters.items())
    compiled = _build("gnii" if norm is None else "min_norm", norm, keys, shapes, d, solver)
    unit = unit if norm is not None else torch.where(point, 0.0, unit)
    return compiled, _Scaled(unit.numpy(), steep.numpy(), valid.numpy(), parameters)


def _unit(program: Program, norm: Lp, g: Tensor, L: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """(8): a length like ‖η‖, and a bound on |u_i| = |η_i|/length: the norm of the first point clip(−t·sign(g)) in the boxes to reach L."""
    boxes = [item.bounds(g) for item in program.sets if isinstance(item, Box)]
    cubes = [
        item.radii(g)[:, None].expand_as(g)
        for item in program.sets
        if isinstance(item, Ball) and item.norm.p == math.inf
    ]
    boxes += [(-edge, edge) for edge in cubes]
    low, high = torch.full_like(g, -torch.inf), torch.full_like(g, torch.inf)
    for below, above in boxes:
        low, high = torch.maximum(low, below.nan_to_num(0.0)), torch.minimum(high, above.nan_to_num(0.0))
    unit = L.abs() / size + norm(torch.zeros_like(g).clamp(low, high))
    unit = torch.where((unit > 0) & (unit < torch.inf), unit, 1.0)
    if not boxes or len(boxes) < len(program.sets):  # with other sets, that point need not be feasible
        return unit, torch.full_like(unit, torch.inf)
    low, high = low / unit[:, None], high / unit[:, None]

    def point(t: Tensor) -> Tensor:
        return (-g.sign() * t[:, None]).clamp(low, high)

    least, most = torch.zeros_like(L), torch.full_like(L, 1e9)
    for _ in range(80):
        middle = torch.where(least > 0, (least * most).sqrt(), most * 1e-9)
        enough = L + unit * (g * point(middle)).sum(-1) <= 0
        least, most = torch.where(enough, least, middle), torch.where(enough, middle, most)
    finite = torch.stack([torch.where(b.isfinite(), b.abs(), 0.0).amax(-1) for b in (low, high)]).amax(0)
    reached = L + unit * (g * point(most)).sum(-1) <= 0
    return unit, torch.where(reached, 1.01 * norm(point(most)), 2 * finite + 2)


def _zero_is_optimal(program: Program) -> np.ndarray:
    """(8) with L ≤ 0 and 0 in every set: nothing is shorter than 0, and a conic solver would only blur it."""
    idle = (program.L <= 0).cpu().numpy() if isinstance(program, MinNorm) else np.zeros(len(program), dtype=bool)
    return idle & (program.outside(torch.zeros_like(program.g)) == 0).cpu().numpy() if idle.any() else idle


def _acting(sets: tuple[ConvexSet, ...] | list[ConvexSet]) -> int | None:
    """The set that acts on u itself: the first ball, else the first set."""
    return next((j for j, item in enumerate(sets) if isinstance(item, Ball)), 0 if sets else None)


def _second_opinion(
    program: Program, found: Solution, codes: Tensor, multipliers: tuple[Tensor, ...]
) -> tuple[Solution, Tensor, tuple[Tensor, ...]]:
    """What SCS, a first-order method, says of the items on which an interior-point method broke down."""
    failed = codes == Status.FAILED.code
    if not bool(failed.any()):
        return found, codes, multipliers
    again = _run(program, "SCS", failed.numpy(), None)
    solved = failed & (again.codes == Status.OPTIMAL.code)
    eta = torch.where(solved[:, None].to(found.eta.device), again.eta, found.eta)
    parts = (
        torch.where(solved.view(-1, *[1] * (old.ndim - 1)), new, old.cpu())
        for old, new in zip(multipliers, again.multipliers, strict=True)
    )
    words = [
        f"{one}, SCS: {two}" if bad else one
        for one, two, bad in zip(found.stats["words"], again.stats["words"], failed, strict=True)
    ]
    stats = {**found.stats, "words": words, "seconds": found.stats["seconds"] + again.stats["seconds"]}
    return Solution(eta, found.codes, multipliers, stats), torch.where(solved, again.codes, codes), tuple(parts)


def _absorbed(program: Program, codes: Tensor, multipliers: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(GN), (GNII): the acting set takes what is left of −g (of 0, where the claim is infeasibility)."""
    device, acting = program.gradient.device, _acting(program.sets)
    if isinstance(program, MinNorm) or acting is None:
        return tuple(part.to(device) for part in multipliers)
    codes, multipliers = codes.cpu(), tuple(part.cpu() for part in multipliers)
    target = torch.where((codes == Status.INFEASIBLE.code)[:, None], 0.0, -program.g.cpu())
    rest = target - sum((part for j, part in enumerate(multipliers) if j != acting), torch.zeros_like(target))
    return tuple((rest if j == acting else part).to(device) for j, part in enumerate(multipliers))


def _prove_infeasible(program: Program, found: Solution, solver: str | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Codes and multipliers, with proofs of infeasibility from the program that measures it (solvers do not reliably hand over a ray).

    (8): the (GNII) minimizer over the same sets still has L + gᵀη > 0; a solver that gave up gets this chance too. (GN), (GNII): the point
    of the other sets nearest to 0 is outside the ball.
    """
    codes, multipliers = found.codes, found.multipliers
    claimed = codes == Status.INFEASIBLE.code
    if isinstance(program, MinNorm) and program.sets:
        claimed = claimed | (codes == Status.FAILED.code)
    if not bool(claimed.any()):
        return codes, multipliers
    if isinstance(program, MinNorm):
        if not program.sets:
            return codes, (torch.where(claimed, 1.0, multipliers[0]),)
        relaxed = GNII(program.L, program.g, program.sets)
        proof = _run(relaxed, solver, claimed.numpy(), None)
        empty = proof.codes == Status.INFEASIBLE.code  # not even the sets have a point in common
        _, proofs = _prove_infeasible(relaxed, proof, solver)
        lam = torch.where(empty, 0.0, torch.ones_like(multipliers[0]))
        vectors = (lam, *(part.cpu() for part in _absorbed(relaxed, proof.codes, proofs)))
        proved = claimed & program.refuted(tuple(part.to(program.gradient.device) for part in vectors)).cpu()
        codes = torch.where(proved, Status.INFEASIBLE.code, codes).to(torch.int8)
    else:
        k = _acting(program.sets)
        ball = program.sets[k or 0]
        if not isinstance(ball, Ball) or len(program.sets) == 1:
            return codes, multipliers
        others = tuple(item for j, item in enumerate(program.sets) if j != k)
        nothing = torch.zeros_like(program.g)
        proof = _run(MinNorm(nothing[:, 0] - 1, nothing, ball.norm, others), solver, claimed.numpy(), None)
        parts = list(proof.multipliers[1:])
        vectors = (*parts[:k], multipliers[k or 0], *parts[k:])
        proved = claimed & (proof.codes == Status.OPTIMAL.code)
    chosen = (
        torch.where(proved.reshape(-1, *[1] * (old.ndim - 1)), new, old)
        for old, new in zip(multipliers, vectors, strict=True)
    )
    return codes, tuple(chosen)
