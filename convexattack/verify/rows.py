"""One row of `verify`: a program on all images, solved by both paths, certified, and compared."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convexattack.certificates import Certificate, Tolerance
from convexattack.files import AnyProgram
from convexattack.judged import certify
from convexattack.linearize import Linearization
from convexattack.losses import Model, margin
from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm, OperatorNorm
from convexattack.sets import Ball, ConvexSet, PixelRange
from convexattack.solution import Solution, Status
from convexattack.solvers import solve
from convexattack.verify.report import Row, Side
from convexattack.verify.setting import Planned

__all__ = ["default_radius", "linearization_error", "program_of", "run_row"]


def default_radius(norm: Lp, lin: Linearization, piece: Int[Tensor, " B"]) -> float:
    """The median of L/‖g‖_q over the images, to two significant digits."""
    ratio = (lin.value.double() / norm.dual(lin.gradient.double())).gather(1, piece[:, None])
    finite = ratio[ratio.isfinite()]
    return float(f"{finite.median().item():.1e}") if len(finite) else 1.0


def program_of(
    planned: Planned,
    radius: float,
    lin: Linearization | None,
    piece: Int[Tensor, " B"] | None,
    x: Float[Tensor, "B *S"],
    J: Float[Tensor, "B m d"] | None,
) -> AnyProgram:
    """The program of one row; J only for (9), which has no pieces."""
    ball = Ball(planned.norm, radius)
    if planned.program == "operator-norm":
        assert J is not None
        return OperatorNorm(J, ball)
    assert lin is not None
    assert piece is not None
    rows = torch.arange(len(x), device=x.device)
    value, gradient = lin.value[rows, piece], lin.gradient[rows, piece]
    box: tuple[ConvexSet, ...] = (PixelRange(0.0, 1.0).at(x),) if planned.box else ()
    if planned.program == "min-norm":
        return MinNorm(value, gradient, planned.norm, box)
    return (GN if planned.program == "gn" else GNII)(value, gradient, (ball, *box))


def run_row(
    planned: Planned,
    radius: float,
    program: AnyProgram,
    solver: str,
    tick: Callable[[int, str], None],
    error: Callable[[Tensor], Tensor],
) -> tuple[Row, dict[str, Solution]]:
    """Both paths on all items of a row; `error` measures the real network against its linear model at η."""
    name, norm = planned.program, planned.norm
    label = f"{name}, p = {norm}" + (", box" if planned.box else "")
    tick(0, label)
    tries = [_timed(lambda: solve(program, "closed_form")) for _ in range(4)]
    closed, seconds = tries[0][0], sorted(time_ for _, time_ in tries[1:])[1]
    solve(program[:1], solver)
    other, other_seconds = _timed(lambda: solve(program, solver, lambda done: tick(done, label)))
    first, second, n = certify(program, closed), certify(program, other), len(program)
    lower, bound = None, None
    if isinstance(program, OperatorNorm):
        difference, lower, disagree = _compare_brackets(closed, first, other, second)
        bound = "relaxation" if program.relaxes else "formula"
    else:
        difference, disagree = _compare(closed, first, other, second)
    here = closed.eta.isfinite().all(-1)
    errors = error(closed.eta)[here]
    found = Row(
        program=name,
        p=norm.p,
        box=planned.box,
        radius=None if name == "min-norm" else radius,
        items=n,
        closed_form=_side(program, closed, first, seconds / n),
        reference=_side(program, other, second, other_seconds / n),
        difference=difference,
        disagreements=disagree,
        linearization_median=errors.median().item() if len(errors) else math.nan,
        linearization_worst=errors.max().item() if len(errors) else math.nan,
        lower_difference=lower,
        bound=bound,
    )
    return found, {"closed_form": closed, "reference": other}


def linearization_error(
    network: Model, x: Tensor, label: Tensor | None, piece: Tensor | None, program: AnyProgram, eta: Tensor
) -> Float[Tensor, " B"]:
    """|L(x + η) − (L + gᵀη)| of the piece that was linearized; for (9) ‖f(x + η) − f(x) − Jη‖₂."""
    with torch.no_grad():
        output = network(x + eta.view_as(x))
        if isinstance(program, OperatorNorm):
            return Lp(2)((output.double() - network(x).double()) - program.change(eta))
        assert label is not None
        assert piece is not None
        return (margin(output, label).gather(1, piece[:, None])[:, 0].double() - program.linear(eta)).abs()


def _timed(call: Callable[[], Solution]) -> tuple[Solution, float]:
    began = time.perf_counter()
    found = call()
    found.codes.tolist()  # waits for the device
    return found, time.perf_counter() - began


def _side(program: AnyProgram, solution: Solution, certificate: Certificate, seconds: float) -> Side:
    here = solution.eta.isfinite().all(-1)
    gap, violation, residual = (_worst(getattr(certificate, name)[here]) for name in ("gap", "violation", "residual"))
    held = certificate.holds().tolist()
    why = f"item {held.index(False)}: {certificate.why[held.index(False)].rstrip('.')}" if False in held else None
    counts = dict(Counter(status.name for status in solution.status))
    bracket = None
    if isinstance(program, OperatorNorm) and bool(here.any()):
        bracket = (certificate.primal[here].median().item(), certificate.dual[here].median().item())
    return Side(_solver(solution), counts, sum(held), gap, violation, residual, seconds, why, bracket)


def _solver(solution: Solution) -> str:
    """What solved it: for p <= 2 the reference of (9) asks no cone solver."""
    words = set(solution.stats.get("words", []))
    return "NumPy" if words and words <= {"not needed", "not run"} else str(solution.stats["solver"])


def _compare(closed: Solution, first: Certificate, other: Solution, second: Certificate) -> tuple[float, int]:
    """The worst relative difference in objective, and on how many items the two paths disagree."""
    here, there = (solution.eta.isfinite().all(-1) for solution in (closed, other))
    apart = (first.primal - second.primal).abs() / torch.maximum(first.scale, second.scale)
    apart = torch.where(first.primal == second.primal, 0.0, apart)  # both 0
    apart = torch.where(here & there, apart, torch.where(here | there, torch.inf, 0.0)).nan_to_num(torch.inf, torch.inf)
    same = closed.codes == other.codes
    if first.decides:
        undecided = Status.UNDECIDED.code
        same = same | (closed.codes == undecided) | (other.codes == undecided)
    agree = same & (apart <= Tolerance().at(closed.eta.dtype))
    return apart.max().item(), int((~agree).sum())


def _compare_brackets(
    closed: Solution, first: Certificate, other: Solution, second: Certificate
) -> tuple[float, float, int]:
    """(9): the worst relative differences of the upper and of the lower bounds, and how many items disagree (upper).

    Two brackets that hold and share their upper end overlap. The lower ends are found by rounding, and need not agree.
    """
    here, there = (solution.eta.isfinite().all(-1) for solution in (closed, other))
    scale = torch.maximum(first.dual, second.dual)
    found = []
    for a, b in ((first.dual, second.dual), (first.primal, second.primal)):
        apart = torch.where(a == b, 0.0, (a - b).abs() / scale)  # both 0
        found.append(
            torch.where(here & there, apart, torch.where(here | there, torch.inf, 0.0)).nan_to_num(torch.inf, torch.inf)
        )
    upper, lower = found
    return upper.max().item(), lower.max().item(), int((upper > Tolerance().at(closed.eta.dtype)).sum())


def _worst(values: Tensor) -> float:
    return float(values.abs().nan_to_num(torch.inf).max()) if len(values) else 0.0
