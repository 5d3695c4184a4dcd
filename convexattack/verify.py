"""Both paths side by side on a real network: what `convexattack verify` runs.

A network is linearized at test images that it classifies correctly, equation (1), by the margin (3): one piece an image, the most dangerous
one, which has the smallest L/‖g‖_q. For every program, norm and set the items are solved by the closed form and by CVXPY; every claim of
both is certified, the two objectives are compared, and the real margin at x + η is held against its linear model (Remark 1).
"""

from __future__ import annotations

import copy
import importlib.util
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from convexattack import datasets, models
from convexattack.certificates import Certificate, Tolerance, certify
from convexattack.datasets import Images
from convexattack.files import PROGRAMS, appending, as_record, atomically, check_writable, name_of, only
from convexattack.linearize import Linearization, linearize
from convexattack.losses import Model, as_label, margin
from convexattack.norms import Lp
from convexattack.programs import GN, GNII, MinNorm, Program
from convexattack.sets import Ball, ConvexSet, PixelRange
from convexattack.solution import Solution, Status
from convexattack.solvers import solve

__all__ = ["DTYPES", "NORMS", "Report", "Row", "Side", "refusals", "verify", "versions"]

NORMS = (1.0, 1.5, 2.0, 3.0, math.inf)
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}
RECORDS, PICTURE = "records.jsonl", "perturbations.png"

_CLAIMS_NOTHING = {Status.INEXACT, Status.INVALID, Status.FAILED}
_MEMBERS = list(Status)


@dataclass(frozen=True)
class Side:
    """What one solver did with the items of a row.

    Attributes:
        solver: its name; for CVXPY the solver underneath.
        statuses: how many items have each status.
        held: how many certificates hold.
        gap, violation, residual: the worst of all items with an η, relative (see `Certificate`).
        seconds: wall-clock time per item.
        why: the first refusal, None where every certificate holds.
    """

    solver: str
    statuses: dict[str, int]
    held: int
    gap: float
    violation: float
    residual: float
    seconds: float
    why: str | None


@dataclass(frozen=True)
class Row:
    """One program, norm and choice of sets on all images.

    Attributes:
        program: `gn`, `gnii` or `min-norm`.
        p: of the norm.
        box: whether x + η must stay in the pixel range [0, 1].
        radius: ε in units of the data range; None for (8).
        items: how many.
        closed_form, reference: the two paths.
        difference: the worst relative difference between their objectives (∞ where one has an η and the other none).
        disagreements: on how many items their verdicts differ, or their objectives by more than the tolerance.
        linearization_median, linearization_worst: |L(x + η) − (L + gᵀη)| of the real network, in units of its scores.
    """

    program: str
    p: float
    box: bool
    radius: float | None
    items: int
    closed_form: Side
    reference: Side
    difference: float
    disagreements: int
    linearization_median: float
    linearization_worst: float

    @property
    def sets(self) -> str:
        """What η is confined to, in words."""
        return ("box" if self.box else "none") if self.radius is None else ("ball, box" if self.box else "ball")

    @property
    def speedup(self) -> float:
        """Time of CVXPY over time of the closed form."""
        return self.reference.seconds / self.closed_form.seconds

    @property
    def passed(self) -> bool:
        """Whether every certificate of both paths holds and they agree on every item."""
        return self.closed_form.held == self.reference.held == self.items and self.disagreements == 0


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`: its settings, one row for each program, norm and choice of sets, and where the files are."""

    model: str
    data: str
    note: str
    asked: int
    images: int
    misclassified: int
    pieces: int
    solver: str
    device: str
    dtype: str
    seed: int
    tolerance: float
    rows: tuple[Row, ...]
    seconds: float
    files: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    @property
    def verdict(self) -> str:
        """One sentence."""
        items = sum(row.items for row in self.rows)
        if self.passed:
            worst = max(row.difference for row in self.rows)
            gaps = [max(getattr(row, path).gap for row in self.rows) for path in ("closed_form", "reference")]
            return (
                f"VERIFIED: on all {items:,} items closed form and CVXPY agree to {worst:.1e} relative, and all {2 * items:,} certificates "
                f"hold (worst gap {gaps[0]:.1e} and {gaps[1]:.1e}, tolerance {self.tolerance:.0e})."
            )
        broken = [2 * row.items - row.closed_form.held - row.reference.held for row in self.rows]
        first = next(row for row in self.rows if not row.passed)
        why = first.closed_form.why or first.reference.why or f"the paths differ by {first.difference:.1e}"
        return (
            f"NOT VERIFIED: {sum(broken):,} of {2 * items:,} certificates do not hold, and the paths disagree on "
            f"{sum(row.disagreements for row in self.rows):,} of {items:,} items; "
            f"first at {first.program}, p = {first.p:g}, sets {first.sets}: {why}."
        )

    def matrix(self) -> list[dict[str, Any]]:
        """The evidence: every program x norm x sets x dtype x device x solver, with the result, or `not run` and why."""
        found = {(row.program, row.p, row.box): row for row in self.rows}
        norms = sorted({*NORMS, *(row.p for row in self.rows)})
        solvers = dict.fromkeys(("closed_form", "reference", self.solver))
        devices = dict.fromkeys(("cpu", "cuda", self.device))
        cells = []
        for name in PROGRAMS:
            for p in norms:
                for box in (False, True):
                    row = found.get((name, p, box))
                    for dtype in DTYPES:
                        for device in devices:
                            for solver in solvers:
                                ball = [] if name == "min-norm" else ["ball"]
                                cell: dict[str, Any] = {"program": name, "norm": _number(p), "sets": ball + ["box"] * box}
                                cell |= {"dtype": dtype, "device": device, "solver": solver}
                                why = self._why_not_run(row, name, p, box, dtype, device, solver)
                                cells.append(cell | (_evidence(row, solver) if why is None and row else {"result": "not run", "why": why}))
        return cells

    def _why_not_run(self, row: Row | None, name: str, p: float, box: bool, dtype: str, device: str, solver: str) -> str | None:
        if device != self.device:
            if device == "cuda" and not torch.cuda.is_available():
                return "torch finds no CUDA device on this machine"
            return f"--device was {self.device}; run with --device {device}"
        if dtype != self.dtype:
            return f"--dtype was {self.dtype}; run with --dtype {dtype}"
        if solver not in ("closed_form", self.solver):
            return f"--solver was {self.solver}; run without it"
        if row is None:
            if name not in {row.program for row in self.rows}:
                return f"--programs left it out; run with --programs {name}"
            if p not in {row.p for row in self.rows}:
                return f"--norms left it out; run with --norms {p:g}"
            return f"--{'no-' * box}box left it out; run without --{'no-' * box}box"
        return None

    def as_json(self, command: str | None = None) -> dict[str, Any]:
        """Everything, for machines: JSON without NaN or infinities ("inf" is a string)."""
        rows = [{**asdict(row), "sets": row.sets, "speedup": row.speedup, "passed": row.passed} for row in self.rows]
        settings = {name: value for name, value in vars(self).items() if name != "rows"}
        head = {"command": command, "passed": self.passed, "verdict": self.verdict, "versions": versions()}
        return _jsonable({**head, **settings, "rows": rows, "matrix": self.matrix()})  # type: ignore[no-any-return]


def _evidence(row: Row, solver: str) -> dict[str, Any]:
    path = row.closed_form if solver == "closed_form" else row.reference
    result = "holds" if path.held == row.items and row.disagreements == 0 else "fails"
    numbers = {"items": row.items, "held": path.held, "disagreements": row.disagreements, "gap": path.gap, "difference": row.difference}
    return {"result": result, "by": path.solver, **numbers, "statuses": path.statuses, "seconds": path.seconds, "why": path.why}


def versions() -> dict[str, str]:
    """Of Python, of this package, and of what computes."""
    found = {"python": platform.python_version()}
    for name in ("convexattack", "torch", "numpy", "scipy", "cvxpy", "clarabel", "highspy", "scs", "osqp"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"}


def refusals(certificate: Certificate) -> list[str | None]:
    """For each claim why it does not hold, in words; None where it does."""
    limit = Tolerance().at(certificate.dtype)
    names = ("claimed", "proved", "gap", "violation", "residual")
    rows = zip(*(getattr(certificate, name).tolist() for name in names), strict=True)
    words = (_refusal(_MEMBERS[int(claimed)], _MEMBERS[int(proved)], g, v, r, limit) for claimed, proved, g, v, r in rows)
    return [None if holds else why for holds, why in zip(certificate.holds().tolist(), words, strict=True)]


def _refusal(claimed: Status, proved: Status, gap: float, violation: float, residual: float, limit: float) -> str:
    if claimed in _CLAIMS_NOTHING:
        return f"{claimed.name} claims nothing: {claimed.value[0].lower()}{claimed.value[1:].rstrip('.')}"
    if claimed is not Status.INFEASIBLE and not violation <= limit:
        return f"eta is outside its constraints by {violation:.1e} relative (tolerance {limit:.0e})"
    if claimed is not Status.OPTIMAL and claimed is not proved:
        return f"it claims {claimed.name}, but the vectors prove {'nothing' if proved is Status.UNDECIDED else proved.name}"
    if not abs(gap) <= limit and claimed is not Status.INFEASIBLE:
        return f"the gap between primal and dual is {gap:.1e} relative (tolerance {limit:.0e}): eta or the multipliers are not optimal"
    return f"the multipliers miss their own condition by {residual:.1e} relative (tolerance {limit:.0e})"


def verify(
    model: str | nn.Module = "digits",
    data: str | PathLike[str] | Images = "digits",
    images: int = 64,
    programs: Sequence[str] = tuple(PROGRAMS),
    norms: Sequence[float] = NORMS,
    radius: float | None = None,
    box: bool | None = None,
    solver: str = "reference",
    device: str = "cpu",
    dtype: str = "float64",
    weights: str | PathLike[str] | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> Report:
    """Solve, certify and compare every program, norm and set on linearizations of a network at real images.

    Args:
        model: a shipped network by name, `MODULE:FACTORY`, or a Module (a copy is used).
        data: a dataset by name, a folder in the Hugging Face layout, or `Images` in [0, 1].
        images: how many correctly classified test images; fewer where there are no more.
        programs: names in `files.PROGRAMS`.
        norms: real numbers p in [1, ∞].
        radius: ε for all norms, in units of the data range. None takes for each norm the median of L/‖g‖_q, to two digits: by
            Proposition 1, (GN) is then feasible for about half of the images (fewer with a box).
        box: confine x + η to [0, 1]; None does both.
        solver: of the other path: "reference", or an installed CVXPY solver.
        device, dtype: of the network, the images and the programs; dtype is a name in `DTYPES`.
        weights: a safetensors file.
        seed: of the order in which test images are taken.
        out: a folder for records.jsonl, one line an item, and perturbations.png.
        progress: called with (items done, of how many, what comes next).

    Times are wall-clock: of the closed form the median of three calls for the whole batch, after a first one; of CVXPY one pass over the
    items, re-solving what a first solve has compiled.

    Raises:
        ValueError, TypeError: an argument that is wrong, in a sentence that names it.
        FileNotFoundError, OSError: missing weights, or a folder that cannot be written to.
        ImportError: `out` without matplotlib, or a dataset without its extra.
    """
    began = time.perf_counter()
    kinds, balls = _chosen("programs", programs, PROGRAMS), _norms(norms)
    if isinstance(images, bool) or not isinstance(images, int) or images < 1:
        raise ValueError(f"images must be a whole number of at least 1, got {images!r}")
    if radius is not None and not 0 <= radius < math.inf:
        raise ValueError(f"radius must be a finite number >= 0, got {radius}: it is in units of the data range")
    kind, where = DTYPES[_chosen("dtype", [dtype], DTYPES)[0]], _device(device, dtype)
    _check_solver(solver, balls)
    network, name = _network(model, weights, kind, where)
    source = data if isinstance(data, Images) else datasets.load(data)
    x, label, index, wrong = _correct(network, source, images, seed, kind, where)
    lin = linearize(network, x, label)
    boxes = (False, True) if box is None else (box,)
    total = len(kinds) * len(balls) * len(boxes) * len(x)
    with ExitStack() as stack:
        folder = None if out is None else _folder(Path(out), stack)
        append = None if folder is None else stack.enter_context(appending(folder / RECORDS))
        tick = _ticker(progress, total)
        rows, shown = [], {}
        for norm in balls:
            piece = (lin.value.double() / norm.dual(lin.gradient.double())).argmin(1)
            bound = _radius(norm, lin, piece) if radius is None else float(radius)
            for program_name in kinds:
                for boxed in boxes:
                    program = _program(program_name, norm, bound, boxed, lin, piece, x)
                    row, solutions = _row(program, boxed, solver, tick, partial(_real, network, x, label, piece))
                    rows.append(row)
                    if append is not None:
                        for i in range(len(x)):
                            about = {"model": name, "data": source.name, "device": device, "image": int(index[i])}
                            classes = {"label": int(label[i]), "piece": _class(label[i], piece[i])}
                            append(as_record(program, i, solutions) | {"about": about | classes})
                    if program_name == ("gnii" if "gnii" in kinds else kinds[-1]):
                        shown[norm] = solutions["closed_form"].eta[0]
        if folder is not None:
            _picture(folder / PICTURE, network, x[:1], label[0], shown)
    order = list(PROGRAMS)
    return Report(
        model=name,
        data=source.name,
        note=source.note,
        asked=images,
        images=len(x),
        misclassified=wrong,
        pieces=lin.pieces,
        solver=solver,
        device=device,
        dtype=dtype,
        seed=seed,
        tolerance=Tolerance().at(kind),
        rows=tuple(sorted(rows, key=lambda row: (order.index(row.program), row.p, row.box))),
        seconds=time.perf_counter() - began,
        files=() if folder is None else (str(folder / RECORDS), str(folder / PICTURE)),
    )


# --- arguments ----------------------------------------------------------------------------------------------------------------------------


def _chosen(what: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{what} {f'{unknown[0]!r} is unknown' if unknown else 'is empty'}: use {', '.join(known)}")
    return list(dict.fromkeys(names))


def _norms(norms: Sequence[float]) -> list[Lp]:
    if not norms:
        raise ValueError("norms is empty: give numbers in [1, inf], for instance 1,2,inf")
    return list(dict.fromkeys(map(Lp, norms)))


def _device(device: str, dtype: str) -> torch.device:
    try:
        found = torch.device(device)
        torch.ones(2, dtype=DTYPES[dtype], device=found).sum()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(f"device {device!r} is not available for {dtype} here: use {', '.join(available)}") from error
    return found


def _check_solver(solver: str, norms: list[Lp]) -> None:
    """Raise ValueError unless it is a CVXPY solver that is here and takes programs with these norms."""
    if solver == "closed_form":
        raise ValueError("solver 'closed_form' would be compared with itself: use 'reference', or an installed CVXPY solver")
    one = torch.ones(1, 1, dtype=torch.float64)
    for norm in norms if solver != "reference" else []:
        solve(GNII(one[0], one, (Ball(norm, 1.0),)), solver)


def _network(
    model: str | nn.Module, weights: str | PathLike[str] | None, dtype: torch.dtype, device: torch.device
) -> tuple[nn.Module, str]:
    if isinstance(model, str):
        network = models.from_factory(model) if ":" in model else models.load(model)
    elif isinstance(model, nn.Module):
        network = copy.deepcopy(model)
    else:
        raise TypeError(f"model must be a name, MODULE:FACTORY or a torch.nn.Module, got {type(model).__name__}: wrap it in a Module")
    if weights is not None:
        models.load_weights(network, weights)
    return network.to(device, dtype).eval(), model if isinstance(model, str) else type(model).__name__


def _correct(
    network: nn.Module, source: Images, images: int, seed: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "B *S"], Int[Tensor, " B"], Int[Tensor, " B"], int]:
    """The first correctly classified images in an order drawn from the seed: (x, label, positions in the dataset, how many were wrong)."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    first = order[:1]
    linearize(network, _cast(source.x[first], dtype, device), source.label[first].to(device))  # whatever is wrong with model or data
    found: list[int] = []
    seen = 0
    for rows in order.split(256):
        with torch.no_grad():
            output = network(_cast(source.x[rows], dtype, device))
        right = (output.argmax(1) == as_label(source.label[rows], output)).tolist()
        for i, good in zip(rows.tolist(), right, strict=True):
            if len(found) < images:
                seen += 1
                found += [i] if good else []
    wrong = seen - len(found)
    if not found:
        raise ValueError(f"model classifies none of the {len(source):,} images of {source.name} correctly: give its trained --weights")
    index = torch.tensor(found)
    return _cast(source.x[index], dtype, device), source.label[index].to(device), index, wrong


def _cast(x: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return x.to(device, dtype) if x.is_floating_point() else x


def _folder(folder: Path, stack: ExitStack) -> Path:
    """The folder, made and found writable; one that was made goes again if it stays empty."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError('out writes a picture, which needs matplotlib: run pip install "convexattack[plot]"')
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / RECORDS)
        check_writable(folder / PICTURE)
    except OSError as error:
        raise OSError(f"out {folder} cannot be written to ({error.strerror or error}): give a folder of your own") from error
    if made:
        stack.callback(_remove_if_empty, folder)
    return folder


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


# --- one row ------------------------------------------------------------------------------------------------------------------------------


def _radius(norm: Lp, lin: Linearization, piece: Int[Tensor, " B"]) -> float:
    """The median of L/‖g‖_q over the images, to two significant digits."""
    ratio = (lin.value.double() / norm.dual(lin.gradient.double())).gather(1, piece[:, None])
    finite = ratio[ratio.isfinite()]
    return float(f"{finite.median().item():.1e}") if len(finite) else 1.0


def _program(
    name: str, norm: Lp, radius: float, boxed: bool, lin: Linearization, piece: Int[Tensor, " B"], x: Float[Tensor, "B *S"]
) -> GN | GNII | MinNorm:
    rows = torch.arange(len(x), device=x.device)
    value, gradient = lin.value[rows, piece], lin.gradient[rows, piece]
    box: tuple[ConvexSet, ...] = (PixelRange(0.0, 1.0).at(x),) if boxed else ()
    if name == "min-norm":
        return MinNorm(value, gradient, norm, box)
    return (GN if name == "gn" else GNII)(value, gradient, (Ball(norm, radius), *box))


def _row(
    program: GN | GNII | MinNorm, boxed: bool, solver: str, tick: Callable[[int, str], None], real: Callable[[Tensor], Tensor]
) -> tuple[Row, dict[str, Solution]]:
    name, ball = name_of(program), next((item for item in program.sets if isinstance(item, Ball)), None)
    norm = program.norm if isinstance(program, MinNorm) else ball.norm if ball else Lp(math.inf)
    label = f"{name}, p = {norm}" + (", box" if boxed else "")
    tick(0, label)
    tries = [_timed(lambda: solve(program, "closed_form")) for _ in range(4)]
    closed, seconds = tries[0][0], sorted(time_ for _, time_ in tries[1:])[1]
    solve(only(program, 0), solver)
    other, other_seconds = _timed(lambda: solve(program, solver, lambda done: tick(done, label)))
    first, second, n = certify(program, closed), certify(program, other), len(program)
    difference, disagree = _compare(program, closed, first, other, second)
    error = (real(closed.eta).double() - program.linear(closed.eta)).abs()[closed.eta.isfinite().all(-1)]
    found = Row(
        program=name,
        p=norm.p,
        box=boxed,
        radius=float(ball.radius) if ball else None,
        items=n,
        closed_form=_side(closed, first, seconds / n),
        reference=_side(other, second, other_seconds / n),
        difference=difference,
        disagreements=disagree,
        linearization_median=error.median().item() if len(error) else math.nan,
        linearization_worst=error.max().item() if len(error) else math.nan,
    )
    return found, {"closed_form": closed, "reference": other}


def _timed(call: Callable[[], Solution]) -> tuple[Solution, float]:
    began = time.perf_counter()
    found = call()
    found.codes.tolist()  # waits for the device
    return found, time.perf_counter() - began


def _side(solution: Solution, certificate: Certificate, seconds: float) -> Side:
    here = solution.eta.isfinite().all(-1)
    gap, violation, residual = (_worst(getattr(certificate, name)[here]) for name in ("gap", "violation", "residual"))
    why = next((f"item {i}: {reason}" for i, reason in enumerate(refusals(certificate)) if reason), None)
    counts = dict(Counter(status.name for status in solution.status))
    return Side(str(solution.stats["solver"]), counts, int(certificate.holds().sum()), gap, violation, residual, seconds, why)


def _compare(program: Program, closed: Solution, first: Certificate, other: Solution, second: Certificate) -> tuple[float, int]:
    """The worst relative difference in objective, and on how many items the two paths disagree."""
    here, there = (solution.eta.isfinite().all(-1) for solution in (closed, other))
    apart = (first.primal - second.primal).abs() / torch.where(here, program.scale(closed.eta), 1.0)
    apart = torch.where(first.primal == second.primal, 0.0, apart)  # both 0
    apart = torch.where(here & there, apart, torch.where(here | there, torch.inf, 0.0)).nan_to_num(torch.inf, torch.inf)
    same = closed.codes == other.codes
    if isinstance(program, GN):
        undecided = Status.UNDECIDED.code
        same = same | (closed.codes == undecided) | (other.codes == undecided)
    agree = same & (apart <= Tolerance().at(closed.eta.dtype))
    return apart.max().item(), int((~agree).sum())


def _worst(values: Tensor) -> float:
    return float(values.abs().nan_to_num(torch.inf).max()) if len(values) else 0.0


def _real(network: Model, x: Tensor, label: Tensor, piece: Tensor, eta: Tensor) -> Tensor:
    """L(x + η) of the real network, for the piece that was linearized."""
    with torch.no_grad():
        return margin(network(x + eta.view_as(x)), label).gather(1, piece[:, None])[:, 0]


def _class(label: Tensor, piece: Tensor) -> int:
    """The class l of the piece f_k − f_l: `margin` leaves k out."""
    return int(piece) + int(piece >= label)


def _ticker(progress: Callable[[int, int, str], object] | None, total: int) -> Callable[[int, str], None]:
    done = 0

    def tick(more: int, what: str) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total, what)

    return tick


def _picture(path: Path, network: Model, x: Tensor, label: Tensor, shown: dict[Lp, Tensor]) -> None:
    """Image, perturbation and perturbed image, one row a norm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 2.2 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for (norm, eta), row in zip(shown.items(), axes, strict=True):
        eta = eta.view_as(x)
        with torch.no_grad():
            after = int(network(x + eta).argmax(1))
        size = float(norm(eta.flatten(1).double()))
        titles = (f"x: class {int(label)}", f"η: ‖η‖ = {size:.3g}, p = {norm}", f"x + η: class {after}")
        edge = float(eta.abs().max()) or 1.0
        for plot, title, shot in zip(row, titles, (x, eta, x + eta), strict=True):
            pixels = _pixels(shot[0].double().cpu())
            if shot is eta and pixels.ndim == 3:
                pixels = 0.5 + pixels / (2 * edge)
            cmap, low, high = ("RdBu_r", -edge, edge) if shot is eta else ("gray", 0.0, 1.0)
            plot.imshow(pixels.clip(0, 1) if pixels.ndim == 3 else pixels, cmap=cmap, vmin=low, vmax=high)
            plot.set_title(title, fontsize=9)
            plot.set_axis_off()
    with atomically(path) as part:
        figure.savefig(part, format="png", dpi=120)


def _pixels(image: Tensor) -> np.ndarray:
    """(H, W) grey, or (H, W, 3) colour."""
    return np.asarray(image.permute(1, 2, 0) if len(image) == 3 else image.mean(0))


# --- JSON ---------------------------------------------------------------------------------------------------------------------------------


def _number(x: float) -> float | str:
    return x if math.isfinite(x) else str(x)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    return _number(value) if isinstance(value, float) else value
