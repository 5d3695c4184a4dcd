"""The pictures: of a timing run, time per item against d, a panel for each program and norm, and the closed form
against the batch; of the relaxation of (9), time and memory against d; of attacks, time over the floor."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks import sdp
from benchmarks.cost import Row as CostRow
from benchmarks.results import main_batch
from benchmarks.timing import BARE, CLOSED, FRESH, METHODS, PROGRAMS, RESOLVE, Row, brief

__all__ = ["cost_picture", "picture", "sdp_picture"]

LONG = {"gn": "(GN): feasible?", "gnii": "(GNII): best in the ball", "min-norm": "(8): smallest norm"}
BLUES = ("#0072b2", "#56b4e9")
GREENS = ("#a6dba0", "#5aae61", "#1b7837", "#00441b")
LINES = {
    FRESH: ("#d55e00", "s", 1.5, 4),
    RESOLVE: ("#e69f00", "D", 1.5, 4),
    BARE: ("#000000", "x", 0.8, 5),
}  # colour, marker, width, size


def picture(rows: Sequence[Row], batches: Sequence[int], heading: str) -> bytes:
    """A PNG."""
    norms = sorted({row.case.p for row in rows}, key=float)
    programs = [name for name in PROGRAMS if any(row.case.program == name for row in rows)]
    dims = sorted({row.case.d for row in rows})
    shown = list(dict.fromkeys((main_batch(batches), min(batches))))
    width, height = max(3.3 * len(norms) + 0.8, 10.5), 2.8 * (len(programs) + 1) + 1.4
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.75 / height, 1, 1 - 1.2 / height), w_pad=0.06, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    axes = figure.subplots(len(programs) + 1, len(norms), sharey="row", squeeze=False)
    every = [cell.seconds for row in rows for cell in row.cells if cell.seconds is not None] or [1.0]
    for i, program in enumerate(programs):
        for j, p in enumerate(norms):
            _against_d(axes[i, j], [row for row in rows if (row.case.program, row.case.p) == (program, p)], shown)
            _frame(axes[i, j], dims, "inputs d")
            axes[i, j].set_ylim(min(every) / 2, max(every) * 20)
        axes[i, 0].set_ylabel(f"{LONG[program]}\ntime per item", fontsize=9)
    chosen = "gnii" if "gnii" in programs else programs[0]
    for j, p in enumerate(norms):
        axes[0, j].set_title(f"p = {'∞' if p == 'inf' else p}", fontsize=12)
        _against_batch(axes[-1, j], [row for row in rows if (row.case.program, row.case.p) == (chosen, p)], dims)
        _frame(axes[-1, j], sorted(batches), "batch")
    axes[-1, 0].set_ylabel(f"closed form, {PROGRAMS[chosen]}\ntime per item", fontsize=9)
    figure.suptitle(heading, fontsize=11, y=1 - 0.12 / height, va="top")
    _legends(figure, shown, dims, height, sorted({row.case.box for row in rows}))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()


def _dash(box: bool) -> str:
    return "--" if box else "-"


def _against_d(ax: Axes, rows: Iterable[Row], shown: Sequence[int]) -> None:
    rows = sorted(rows, key=lambda row: row.case.d)
    series = [(CLOSED, b, color, "o", 1.5, 4) for b, color in zip(shown, BLUES, strict=False)]
    series += [(method, 1, *style) for method, style in LINES.items()]
    for method, batch, color, marker, width, size in series:
        for box in (False, True):
            cells = [(row.case.d, row.cell(method, batch)) for row in rows if row.case.box == box]
            run = [(d, cell.seconds) for d, cell in cells if cell is not None and cell.seconds is not None]
            above = 4 if method == BARE else 3
            if run:
                ax.plot(
                    *zip(*run, strict=True), color=color, ls=_dash(box), marker=marker, lw=width, ms=size, zorder=above
                )
    _say_not_run(ax, rows, shown)


def _say_not_run(ax: Axes, rows: Sequence[Row], shown: Sequence[int]) -> None:
    said = []
    for row in rows:
        idle = [cell for cell in row.cells if cell.not_run and (cell.method != CLOSED or cell.batch in shown)]
        for word in ("failed", "not run"):
            some = {cell.method for cell in idle if cell.not_run.startswith("failed") == (word == "failed")}
            if some:
                said.append(
                    f"{word} at {row.case.d:,}{', box' if row.case.box else ''}: "
                    f"{', '.join(sorted(some, key=METHODS.index))}"
                )
    ax.text(
        0.02, 0.985, "\n".join(said), transform=ax.transAxes, fontsize=6.5, color="#606060", va="top", linespacing=1.25
    )


def _against_batch(ax: Axes, rows: Iterable[Row], dims: Sequence[int]) -> None:
    for row in rows:
        run = [(cell.batch, cell.seconds) for cell in row.cells if cell.method == CLOSED and cell.seconds is not None]
        if run:
            color = GREENS[dims.index(row.case.d) % len(GREENS)]
            ax.plot(*zip(*run, strict=True), color=color, ls=_dash(row.case.box), marker="o", ms=4, lw=1.5)


def _frame(ax: Axes, ticks: Sequence[int], label: str) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(min(ticks) / 1.6, max(ticks) * 1.6)
    ax.yaxis.set_major_locator(LogLocator(numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: brief(y)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(labelsize=8)
    ax.grid(True, color="#e4e4e4", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(label, fontsize=9)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _legends(figure: Figure, shown: Sequence[int], dims: Sequence[int], height: float, boxes: Sequence[bool]) -> None:
    names = {FRESH: "CVXPY, a fresh problem", RESOLVE: "CVXPY, re-solve", BARE: "bare solver"}
    upper = [
        Line2D([], [], color=c, marker="o", ms=4, label=f"closed form, batch {b:,}")
        for b, c in zip(shown, BLUES, strict=False)
    ]
    upper += [
        Line2D([], [], color=c, marker=m, lw=w, ms=s, label=names[method]) for method, (c, m, w, s) in LINES.items()
    ]
    lower = [
        Line2D([], [], color="#707070", ls=_dash(box), label="with the box" if box else "without the box")
        for box in boxes
    ]
    lower += [
        Line2D([], [], color=GREENS[k % len(GREENS)], marker="o", ms=4, label=f"d = {d:,} (last row)")
        for k, d in enumerate(dims)
    ]
    for handles, inches in ((upper, 0.38), (lower, 0.08)):
        at = (0.5, inches / height)
        figure.legend(
            handles=handles, loc="lower center", bbox_to_anchor=at, ncols=len(handles), fontsize=9, frameon=False
        )


# --- the relaxation of (9) --------------------------------------------------------------------------------------------

SDP_LINES = {  # colour, marker
    sdp.CLARABEL: ("#d55e00", "s"), sdp.SCS: ("#e69f00", "D"), sdp.CVXPY: ("#000000", "x"), sdp.OURS: ("#0072b2", "o"),
    sdp.GPU: ("#009e73", "^"),
}  # fmt: skip


def sdp_picture(rows: Sequence[sdp.Row], heading: str) -> bytes:
    """A PNG."""
    thin = sorted((row for row in rows if row.case.m == sdp.M), key=lambda row: row.case.d)
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for method, (color, marker) in SDP_LINES.items():
        cells = [(row.case.d, row.cell(method, row.case.batch if method in (sdp.OURS, sdp.GPU) else 1)) for row in thin]
        run = [(d, cell.seconds) for d, cell in cells if cell is not None and cell.seconds is not None]
        slope = sdp.exponent(rows, method)
        name = f"{method}, growth d^{slope:.2f} from 1e3 to 1e6" if method == sdp.OURS and slope is not None else method
        if run:
            time.plot(*zip(*run, strict=True), color=color, marker=marker, ms=5, lw=1.5, label=name)
    single = [
        (row.case.d, cell.seconds) for row in thin if (cell := row.cell(sdp.OURS, 1)) and cell.seconds is not None
    ]
    if single:
        time.plot(
            *zip(*single, strict=True),
            color="#56b4e9",
            marker="o",
            ms=3,
            lw=1,
            ls="--",
            label="ours, one item at a time",
        )
    square = [
        (row.case.d, cell.seconds)
        for row in rows
        if row.case.m == row.case.d and (cell := row.cell(sdp.OURS)) and cell.seconds
    ]
    if square:
        time.plot(
            *zip(*square, strict=True), color="#cc79a7", marker="*", ms=11, ls="none", label="ours, full rank, m = d"
        )
    idle = {method: [row.case.d for row in thin if (cell := row.cell(method)) and cell.not_run] for method in SDP_LINES}
    said = [
        f"{method}: not run from d = {min(dims):,} on" for method, dims in idle.items() if dims and method != sdp.GPU
    ]
    said += [f"{sdp.GPU}: not run" for dims in [idle[sdp.GPU]] if len(dims) == len(thin) > 0]
    time.text(
        0.99, 0.01, "\n".join(said), transform=time.transAxes, fontsize=7.5, color="#606060", ha="right", va="bottom"
    )
    needs = [(row.case, cell.peak) for row in thin if (cell := row.cell(sdp.OURS, row.case.batch)) and cell.peak]
    if needs:
        dims = [case.d for case, _ in needs]
        peaks, limits = (
            [size / case.batch for case, size in pairs] for pairs in (needs, [(c, sdp.allowed(c)) for c, _ in needs])
        )
        memory.plot(dims, peaks, color="#0072b2", marker="o", ms=5, lw=1.5, label="ours, J included")
        memory.plot(dims, limits, color="#707070", ls="--", lw=1, label="3 J + d·m(m+1)/2 numbers")
        memory.plot(dims, [8 * case.m * case.d for case, _ in needs], color="#707070", ls=":", lw=1, label="J itself")
    ticks = [10**k for k in range(1, 7)]
    for ax, label in ((time, "seconds per item"), (memory, "peak memory of the batch, per item")):
        _frame(ax, ticks, "inputs d")
        ax.set_ylabel(label, fontsize=9)
        if ax.lines:
            ax.legend(fontsize=8, frameon=False, loc="upper left")
            low, high = ax.get_ylim()
            ax.set_ylim(low, high * 30)
    memory.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / 1e6:,g} MB"))
    figure.suptitle(heading, fontsize=11)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()


def cost_picture(rows: Sequence[CostRow]) -> bytes:
    """A PNG: a panel for each network, a line for each attack, a mark for each norm, filled where there is a box."""
    names, attacks = list(dict.fromkeys(row.model for row in rows)), list(dict.fromkeys(row.attack for row in rows))
    norms = list(dict.fromkeys(row.p for row in rows))
    colours = dict(zip(norms, ("#d55e00", "#0072b2", "#009e73"), strict=False))
    figure = Figure(figsize=(4.2 * len(names) + 2.2, 4.4), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        for row in (row for row in rows if row.model == name):
            y = attacks.index(row.attack) + 0.11 * (norms.index(row.p) - 1) + (0.22 if row.box else -0.22)
            ax.errorbar(
                row.ratio, y, xerr=[[row.ratio - row.low], [row.high - row.ratio]], fmt="o", color=colours[row.p],
                markersize=5, markerfacecolor=colours[row.p] if row.box else "white", linewidth=1,
            )  # fmt: skip
            if row.bare is not None:
                ax.plot(row.bare, y, "x", color=colours[row.p], markersize=5)
        for k, attack in enumerate(attacks):
            wanted = next(row.wanted for row in rows if row.attack == attack)
            ax.plot([wanted, wanted], [k - 0.45, k + 0.45], color="#505050", linewidth=1, linestyle=":")
        ax.axvline(1, color="#505050", linewidth=1)
        ax.set_xscale("log")
        near = max(row.high for row in rows if row.model == name) < 1.8
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7) if near else (1, 1.5, 2, 3, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_yticks(range(len(attacks)), attacks)
        ax.set_xlabel("time ÷ floor")
        ax.set_title(name)
        ax.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    marks = [
        Line2D([], [], marker="o", color=colours[p], linestyle="", label=f"p = {'∞' if p == 'inf' else p}")
        for p in norms
    ]
    marks += [
        Line2D([], [], marker="o", color="#505050", markerfacecolor=face, linestyle="", label=label)
        for face, label in (("white", "no further set"), ("#505050", "pixel range"))
    ]
    marks.append(Line2D([], [], marker="x", color="#505050", linestyle="", label="bare code, no further set"))
    figure.legend(
        handles=[*marks, Line2D([], [], color="#505050", linestyle=":", label="wanted")],
        loc="outside lower center",
        ncols=7,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
