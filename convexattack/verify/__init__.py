"""Both paths side by side on a real network: what `convexattack verify` runs.

A network is linearized at test images that it classifies correctly, equation (1), by the margin (3): one piece an
image, the most dangerous one, which has the smallest L/‖g‖_q. For every program, norm and set the items are solved by
the closed form and by CVXPY; every claim of both is certified, the two objectives are compared, and the real margin at
x + η is held against its linear model (Remark 1). Of (9), with the Jacobian of all outputs, the two upper bounds are
compared, and the optimum lies in a bracket; it needs no classes, so that alone it is verified on a regression network
as well, at inputs of any kind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from os import PathLike
from pathlib import Path

from torch import Tensor, nn

from convexattack.certificates import Tolerance
from convexattack.datasets import Images, Table
from convexattack.files import PROGRAMS, appending, as_record
from convexattack.linearize import jacobian, linearize
from convexattack.verify.picture import picture
from convexattack.verify.report import Report, Row, Side, versions
from convexattack.verify.rows import default_radius, linearization_error, program_of, run_row
from convexattack.verify.setting import (
    DTYPES,
    NORMS,
    PICTURE,
    RECORDS,
    LeftOut,
    any_inputs,
    as_device,
    as_network,
    as_norms,
    chosen,
    correctly_classified,
    load_any,
    plan,
    regresses,
    writable_folder,
)

__all__ = ["DTYPES", "NORMS", "LeftOut", "Report", "Row", "Side", "verify", "versions"]


def verify(
    model: str | nn.Module = "digits",
    data: str | PathLike[str] | Images | Table = "digits",
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
        data: a dataset by name, a folder in the Hugging Face layout, or `Images` in [0, 1]; for (9) alone `diabetes` or
            a `Table` as well.
        images: how many correctly classified test images (without classes, inputs); fewer if there are no more.
        programs: names in `files.PROGRAMS`.
        norms: real numbers p in [1, ∞].
        radius: ε for all norms, in units of the data range. None takes for each norm the median of L/‖g‖_q, to two
            digits: by Proposition 1, (GN) is then feasible for about half of the images (fewer with a box). Without
            classes it takes 0.1, to which every number of (9) is proportional.
        box: confine x + η to [0, 1]; None does both. (9) takes one ball and has no box: `Report.left_out` says so.
        solver: of the other path: "reference", or an installed CVXPY solver.
        device, dtype: of the network, the images and the programs; dtype is a name in `DTYPES`.
        weights: a safetensors file.
        seed: of the order in which test images are taken.
        out: a folder for records.jsonl, one line an item, and perturbations.png.
        progress: called with (items done, of how many, what comes next).

    Times are wall-clock: of the closed form the median of three calls for the whole batch, after a first one; of CVXPY
    one pass over the items, re-solving what a first solve has compiled; (9) is compiled for each item.

    Raises:
        ValueError, TypeError: an argument that is wrong, in a sentence that names it.
        FileNotFoundError, OSError: missing weights, or a folder that cannot be written to.
        ImportError: `out` without matplotlib, or a dataset without its extra.
    """
    began = time.perf_counter()
    kinds, balls = chosen("programs", programs, PROGRAMS), as_norms(norms)
    if isinstance(images, bool) or not isinstance(images, int) or images < 1:
        raise ValueError(f"images must be a whole number of at least 1, got {images!r}")
    if radius is not None and not 0 <= radius < math.inf:
        raise ValueError(f"radius must be a finite number >= 0, got {radius}: it is in units of the data range")
    kind, where = DTYPES[chosen("dtype", [dtype], DTYPES)[0]], as_device(device, dtype)
    planned, left_out = plan(kinds, balls, (False, True) if box is None else (box,), solver)
    free, source = regresses(model, data, kinds), load_any(data)
    network, name = as_network(model, weights, kind, where)
    label, wrong, lin = None, 0, None
    if free:
        x, index = any_inputs(source, images, seed, kind, where)
    else:
        assert isinstance(source, Images)
        x, label, index, wrong = correctly_classified(network, source, images, seed, kind, where)
        lin = linearize(network, x, label)
    J = jacobian(network, x) if "operator-norm" in kinds else None
    with ExitStack() as stack:
        folder = None if out is None else writable_folder(Path(out), stack)
        append = None if folder is None else stack.enter_context(appending(folder / RECORDS))
        tick = _ticker(progress, len(planned) * len(x))
        rows, shown = [], {}
        pictured = "gnii" if "gnii" in kinds else planned[-1].program
        for norm in balls:
            piece = None if lin is None else (lin.value.double() / norm.dual(lin.gradient.double())).argmin(1)
            told = 0.1 if lin is None or piece is None else default_radius(norm, lin, piece)
            bound = told if radius is None else float(radius)
            for cell in [cell for cell in planned if cell.norm == norm]:
                program = program_of(cell, bound, lin, piece, x, J)
                error = partial(linearization_error, network, x, label, piece, program)
                row, solutions = run_row(cell, bound, program, solver, tick, error)
                rows.append(row)
                for i in range(len(x)) if append is not None else ():
                    about = {"model": name, "data": source.name, "device": device, "image": int(index[i])}
                    seen = None if piece is None or cell.program == "operator-norm" else piece[i]
                    append(as_record(program, i, solutions) | {"about": about | _classes(label, seen, i)})  # type: ignore[misc]
                if cell.program == pictured:
                    shown[norm] = solutions["closed_form"].eta[0]
        if folder is not None:
            picture(folder / PICTURE, network, x[:1], None if label is None else label[0], shown)
    order = list(PROGRAMS)
    files = () if folder is None else (str(folder / RECORDS), str(folder / PICTURE))
    return Report(
        name, source.name, source.note, images, len(x), wrong, 0 if lin is None else lin.pieces, solver, device, dtype,
        seed, Tolerance().at(kind), tuple(sorted(rows, key=lambda row: (order.index(row.program), row.p, row.box))),
        time.perf_counter() - began, files, tuple(left_out),
    )  # fmt: skip


def _classes(label: Tensor | None, piece: Tensor | None, i: int) -> dict[str, int]:
    """The label k of an image, and the class l of its piece f_k − f_l: `margin` leaves k out."""
    if label is None:
        return {}
    return {"label": int(label[i])} | ({} if piece is None else {"piece": int(piece) + int(piece >= label[i])})


def _ticker(progress: Callable[[int, int, str], object] | None, total: int) -> Callable[[int, str], None]:
    done = 0

    def tick(more: int, what: str) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total, what)

    return tick
