"""One text for CVXPY, compiled once and solved again for other numbers: which solver, its options, what it says."""

from __future__ import annotations

import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

__all__ = ["SECOND", "SOLVED", "TIGHT", "Compiled", "Found", "chosen", "compiled", "installed", "refused"]

TIME_LIMIT = 120.0  # seconds an item
OPTIONS: dict[str, dict[str, Any]] = {
    "CLARABEL": {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9, "time_limit": TIME_LIMIT},
    "SCS": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 100_000, "time_limit_secs": TIME_LIMIT},
    "HIGHS": {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9, "time_limit": TIME_LIMIT},
}
TIGHT = {"HIGHS": 1e-12}  # by how much inequalities are tightened; a vertex meets its rows to rounding, others to 1e-9
SECOND = {"HIGHS": "CLARABEL", "CLARABEL": "SCS"}  # whom to ask where one gives up
SOLVED, NOT = cp.OPTIMAL, (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE, cp.settings.INFEASIBLE_OR_UNBOUNDED)
KEPT = 64  # compiled problems a thread

_compiling = threading.Lock()  # CVXPY numbers its variables and silences warnings for the whole process
_own = threading.local()


def installed(solver: str | None, own: str = "'closed_form', 'reference'") -> str | None:
    """The name of an installed solver as CVXPY spells it."""
    if solver is None:
        return None
    found: dict[str, str] = {name.upper(): name for name in cp.installed_solvers()}
    if str(solver).upper() not in found:
        raise ValueError(
            f"solver={solver!r} is neither {own} nor an installed CVXPY solver; installed are {', '.join(found)}"
        )
    return found[str(solver).upper()]


def chosen(problem: cp.Problem) -> str:
    """HiGHS for linear programs, SCS for semidefinite ones of more than a few dozen rows, Clarabel for the rest."""
    if problem.is_qp():  # every objective here is linear
        return str(cp.HIGHS)
    large = any(isinstance(row, cp.constraints.PSD) and row.shape[-1] > 40 for row in problem.constraints)
    return str(cp.SCS if large else cp.CLARABEL)


def refused(solver: str, error: Exception) -> ValueError:
    """The sentence for a solver that lacks the cones of a program."""
    return ValueError(f"solver={solver!r} cannot take this program: {str(error).rstrip('.')}; use 'CLARABEL' or 'SCS'")


@dataclass(frozen=True, eq=False)
class Found:
    """What a solver says: its word and, where that is "optimal", the values of variables; duals are with the rows."""

    word: str
    primal: dict[int, np.ndarray] | None = None

    @property
    def empty(self) -> bool:
        """Whether it says that nothing is feasible."""
        return self.word in NOT

    @property
    def falls(self) -> bool:
        """Whether it says that the objective falls without end."""
        return self.word in (cp.UNBOUNDED, cp.UNBOUNDED_INACCURATE, cp.settings.INFEASIBLE_OR_UNBOUNDED)


@dataclass(eq=False)
class Compiled:
    """A problem whose numbers are CVXPY parameters, and the way from their values to a solver's answer and back.

    Attributes:
        problem, parameters: the text.
        solver: who solves it.
        reads: what reads the multiplier of each row of interest after a solve, see `text`.
        variables: those whose values are of interest.
    """

    problem: cp.Problem
    parameters: dict[str, cp.Parameter]
    solver: str
    reads: list[Callable[[], np.ndarray] | None]
    variables: dict[str, cp.Variable]
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.affine: _Affine | None = None
        self.first: Any = None
        self.chain: Any = None
        self.inverse: Any = None
        self.dpp = self.problem.is_dpp()

    def data(self, values: dict[str, np.ndarray]) -> Any:
        """The solver's arguments: made by CVXPY, and after the first time an affine function of the parameters."""
        if self.affine is None:
            with _compiling, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self.first is not None and self.dpp and self.parameters:
                    self.affine = _Affine.of(self.first, self.parameters)
                if self.affine is None:
                    return self._first(values)
        return self.affine(values)

    def _first(self, values: dict[str, np.ndarray]) -> Any:
        """The arguments by CVXPY itself, which makes the way back as well."""
        again = self.first is not None
        for name, parameter in self.parameters.items():
            parameter.save_value(values[name])  # without the checks of `value`, which the numbers have passed
        options = dict(OPTIONS.get(self.solver, {}))
        found = self.problem.get_problem_data(self.solver, solver_opts=options, ignore_dpp=not self.dpp)
        data, self.chain, self.inverse = found
        self.dpp, self.first = self.dpp and not again, data  # whose map is not CVXPY's own is asked of it each time
        return data

    def call(self, data: Any) -> Any:
        """What the solver itself does."""
        options = dict(OPTIONS.get(self.solver, {}))
        return self.chain.solve_via_data(self.problem, data, warm_start=False, verbose=False, solver_opts=options)

    def run(self, values: dict[str, np.ndarray], almost: bool = False) -> Found:
        """Solve for these numbers. Whatever a solver throws fails this item alone.

        "Almost optimal" is not optimal, unless `almost` says that the answer is proved right or left.
        """
        begin = time.perf_counter()
        try:
            data = self.data(values)  # the first call makes the chain
            found = self.chain.invert(self.call(data), self.inverse)
        except Exception as error:  # solvers raise what they like, Rust panics included
            return Found(f"{type(error).__name__}: {error}")
        finally:
            self.seconds = time.perf_counter() - begin
        enough = (SOLVED, cp.OPTIMAL_INACCURATE) if almost else (SOLVED,)
        if found.status not in enough or found.primal_vars is None:
            return Found(str(found.status))
        for row in self.problem.constraints:
            if row.id in found.dual_vars:
                row.save_dual_value(found.dual_vars[row.id])
        return Found(SOLVED, found.primal_vars)

    def value(self, found: Found, name: str) -> np.ndarray:
        """The value of a variable, flat; 0 where it is in no row."""
        variable = self.variables[name]
        value = (found.primal or {}).get(variable.id)
        return np.zeros(variable.size) if value is None else np.asarray(value, dtype=float).ravel(order="F")


@dataclass(eq=False)
class _Affine:
    """The solver's arguments as an affine function of the parameters, read off CVXPY's own parametrized cone program.

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
        """None where this CVXPY keeps its map elsewhere, or where it does not reproduce its own data."""
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


def compiled(key: Hashable | None, write: Callable[[], Compiled]) -> Compiled:
    """The problem of this key that belongs to this thread, written where it is new; None is for once."""
    kept: OrderedDict[Hashable, Compiled] = _own.__dict__.setdefault("kept", OrderedDict())
    if key is not None and key in kept:
        kept.move_to_end(key)
        return kept[key]
    with _compiling, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = write()
    if key is not None:
        kept[key] = made
        if len(kept) > KEPT:
            kept.popitem(last=False)
    return made
