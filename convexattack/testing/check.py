"""`check_step`: draw programs, run the step, certify what it returns, shrink the first failure to the smallest."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import torch
from hypothesis import configuration, errors
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca
from convexattack.norms import round_down, round_up
from convexattack.testing.counterexample import NAMES, Counterexample, distances, explain
from convexattack.testing.strategies import DTYPES, gradients, images, scales

__all__ = ["check_step"]

OFFERED = ("x", "lower", "upper")
Sets = ca.ConvexSet | ca.PixelRange | type[ca.Box]


def check_step(
    step: Callable[..., Any],
    program: type[ca.Program] = ca.GNII,
    norm: ca.Lp = ca.Lp(math.inf),  # noqa: B008, it is frozen
    sets: Sequence[Sets] | Sets = (),
    tolerance: ca.Tolerance | None = None,
    dtypes: Sequence[torch.dtype] = DTYPES,
    examples: int = 200,
    seed: int = 0,
) -> int:
    """Refute a step, or find nothing against it on many degenerate programs, each judged by a certificate.

    Args:
        step: what is to be checked. For (GNII), minimize gᵀη, and (GN), find η with L + gᵀη < 0, both over ‖η‖_p ≤ ε
            and the sets, it is called as `step(gradient, radius)` with g (N, d), N ≤ 3, d ≤ 6, and ε ≥ 0, one float
            that the dtype of g holds exactly. For (8), minimize ‖η‖_p subject to L + gᵀη ≤ 0, as
            `step(gradient, value)` with L (N,). It returns η (N, d) in the dtype of g, a tensor or a NumPy array, and
            leaves its arguments as they are. Where it has further arguments of these names, it also gets `lower` and
            `upper`, the boxes' bounds on η (N, d), and `x`, the images (N, d) of a pixel range:
            `def step(gradient, radius, lower, upper)`.
        program: `ca.GNII`, `ca.GN` or `ca.MinNorm` (8).
        norm: of the ball, or of (8).
        sets: further convex sets that fit any N and d (`ca.Box(-0.3, 0.3)`, another `ca.Ball`), a
            `ca.PixelRange(0, 1)`, for which images are drawn, or `ca.Box` itself: boxes are drawn that hold 0, tight,
            flat and one-sided ones among them.
        tolerance: by default η must be inside its sets to the last bit, and its gap within
            `ca.Tolerance.closed_form(dtype)`. `ca.Tolerance()` forgives rounding: a violation and a gap of 1e-6 in
            float64, 1e-5 in float32; `ca.Tolerance(1e-9)` 1e-9.
        dtypes: of the gradients.
        examples: how many batches of programs are drawn.
        seed: of the draws; the same seed draws the same programs.

    Returns:
        How many programs were certified. What has no feasible η, or none that the dtype can hold, does not count, and
            any number may
        be returned for it. At g = 0 every η inside is optimal, but NaN is not.

    Inside a test that hypothesis draws itself, tell that test so:
    `@settings(suppress_health_check=[HealthCheck.nested_given])`.

    Raises:
        Counterexample: an AssertionError; the smallest program found on which the step is wrong by more than rounding
            where g ≠ 0, or, if there is none, where g = 0, or by rounding.
        AssertionError: the step answers the same program differently from call to call.
        TypeError, ValueError: a wrong argument, among them `ca.OperatorNorm` and sets of a fixed size.

    >>> import convexattack as ca
    >>> check_step(lambda g, radius: -radius * g.sign(), ca.GNII, ca.Lp(math.inf)) > 200
    True
    >>> check_step(lambda g, radius: -radius * g / g.abs().sum(-1, keepdim=True).clamp_min(1e-300), ca.GNII, ca.Lp(1))
    Traceback (most recent call last):
    ...
    convexattack.testing.counterexample.Counterexample: The step is wrong on (GNII) with p = 1 ...: it reaches 0.833...
    ...
    """
    asked = _check_arguments(step, program, norm, sets, tolerance, dtypes, examples)
    parts = _tuple(sets)
    cases = _cases(program, norm, parts, tuple(dtypes))
    certified, worst = 0, RIGHT

    def level(case: _Case) -> int:
        nonlocal certified, worst
        trial = _Trial.of(step, asked, case)
        found = trial.level(tolerance)
        certified, worst = certified + (0 if found else int(trial.judged.sum())), max(worst, found)
        return found

    smallest = _smallest(cases, lambda case: level(case) == WRONG, examples, seed)
    if smallest is None and worst > RIGHT:
        target = worst
        smallest = _smallest(cases, lambda case: level(case) >= target, examples, seed)
    if smallest is not None:
        trial = _Trial.of(step, asked, smallest)
        for i in range(len(smallest.program)):  # each item alone, for the neighbours seldom matter
            alone = _Trial.of(step, asked, smallest.item(i))
            trial = alone if alone.level(tolerance) >= max(trial.level(tolerance), ROUNDING) else trial
        raise trial.counterexample(tolerance) from trial.error
    if not certified:
        raise ValueError(
            f"sets must leave some program feasible, but none of {examples} drawn ones was: {parts!r}; "
            "boxes should hold 0"
        )
    return certified


RIGHT, ROUNDING, AT_ZERO, WRONG = range(4)  # in rounding alone; where g = 0 alone; elsewhere


def _smallest(
    cases: st.SearchStrategy[_Case], wrong: Callable[[_Case], bool], examples: int, seed: int
) -> _Case | None:
    """The smallest case that is wrong; None where there is none."""
    settings = hypothesis.settings(
        max_examples=examples, database=None, deadline=None, derandomize=False, print_blob=False, backend="hypothesis",
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink), verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    try:
        with _no_files():
            return hypothesis.find(cases, wrong, settings=settings, random=random.Random(seed))
    except errors.NoSuchExample:
        return None
    except errors.Flaky as error:
        sentence = (
            "The step gave two different answers for the same program; draw its random numbers from a fixed seed."
        )
        raise AssertionError(sentence) from error


@contextlib.contextmanager
def _no_files() -> Iterator[None]:
    """Keep hypothesis from leaving a folder `.hypothesis` behind."""
    before = getattr(configuration, "__hypothesis_home_directory", None)
    with tempfile.TemporaryDirectory() as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(before)


# --- what is drawn ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Case:
    """A batch of programs and what a step is given of it."""

    program: ca.Program
    second: float | Tensor  # ε, or L for (8)
    offered: dict[str, Tensor]  # by name: x, lower, upper

    def item(self, i: int) -> _Case:
        """Item i alone."""
        own, g = self.program, self.program.g
        sets = tuple(
            ca.Box(*(bound[i : i + 1] for bound in part.bounds(g))) if isinstance(part, ca.Box) else part
            for part in own.sets
        )
        alone = dataclasses.replace(own, value=own.value[i : i + 1], gradient=own.gradient[i : i + 1], sets=sets)  # type: ignore[type-var]
        second = self.second if isinstance(self.second, float) else self.second[i : i + 1]
        return _Case(alone, second, {name: entry[i : i + 1] for name, entry in self.offered.items()})


@st.composite
def _cases(
    draw: st.DrawFn, kind: type[ca.Program], norm: ca.Lp, parts: tuple[Sets, ...], dtypes: tuple[torch.dtype, ...]
) -> _Case:
    dtype = draw(st.sampled_from(dtypes))
    gradient = draw(gradients(dtype))
    n, d = gradient.shape
    unit = draw(scales(dtype) if not parts else st.sampled_from([1.0, 1.0, 1.0, 0.1, 1e-3]))
    sizes = [1.0, 0.5, 0.25, 2.0, 0.1, 0.3]
    if all(isinstance(part, ca.Ball | ca.Box | ca.PixelRange | type) for part in parts):
        sizes.append(0.0)  # where a conic solver takes part, its residual would be all there is beside it
    radius = float(torch.tensor(unit * draw(st.sampled_from(sizes)), dtype=dtype))
    offered: dict[str, Tensor] = {}
    sets: list[ca.ConvexSet] = []
    for part in parts:
        if isinstance(part, ca.PixelRange):
            offered["x"] = draw(images(dtype, (n, d), part))
            sets.append(part.at(offered["x"]))
        elif isinstance(part, type):
            width = st.sampled_from([1.0, 0.5, 0.25, 0.125, math.inf, 0.0, 2.0])
            ends = torch.tensor([[draw(width) for _ in range(d)] for _ in range(2 * n)], dtype=dtype).to(torch.float64)
            sets.append(ca.Box(-ends[:n], ends[n:]))
        else:
            sets.append(part)
    bounds = [part.bounds(gradient.to(torch.float64)) for part in sets if isinstance(part, ca.Box)]
    if bounds:
        low, high = torch.stack([b[0] for b in bounds]).amax(0), torch.stack([b[1] for b in bounds]).amin(0)
        offered["lower"] = torch.where(low > 0, round_up(low, dtype), round_down(low, dtype))
        offered["upper"] = torch.where(high > 0, round_down(high, dtype), round_up(high, dtype))
    zero = torch.zeros(n, dtype=dtype)
    if issubclass(kind, ca.MinNorm):
        share = torch.tensor(
            [draw(st.sampled_from([1.0, 2.0, -1.0, 0.5, 0.0, 3.0])) for _ in range(n)], dtype=torch.float64
        )
        value = (share * unit * gradient.to(torch.float64).abs().amax(-1)).to(dtype)
        return _Case(ca.MinNorm(value, gradient, norm, tuple(sets)), value, offered)
    every = (ca.Ball(norm, radius), *sets)
    if issubclass(kind, ca.GNII):
        return _Case(ca.GNII(zero, gradient, every), radius, offered)
    best = ca.solve(ca.GNII(zero, gradient, every))
    fall = -(gradient.to(torch.float64) * best.eta.to(torch.float64)).sum(-1).nan_to_num(0.0)
    share = torch.tensor(
        [draw(st.sampled_from([0.5, 0.9, 0.99, 0.0, 1.0, 2.0, -1.0])) for _ in range(n)], dtype=torch.float64
    )
    return _Case(ca.GN((share * fall).to(dtype), gradient, every), radius, offered)


# --- what a step made of it -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Trial:
    """One call of the step."""

    case: _Case
    found: ca.Solution  # what is optimal, and the multipliers that prove it
    eta: Tensor | None
    complaint: str  # what is wrong before any mathematics
    error: Exception | None = None

    @staticmethod
    def of(step: Callable[..., Any], asked: tuple[str, ...], case: _Case) -> _Trial:
        gradient, found = case.program.gradient, ca.solve(case.program)
        given = {"gradient": gradient, "value": case.second, **{name: case.offered[name] for name in asked}}
        copies = {name: entry.clone() if isinstance(entry, Tensor) else entry for name, entry in given.items()}
        try:
            eta = step(copies["gradient"], copies["value"], **{name: copies[name] for name in asked})
        except Exception as error:
            return _Trial(case, found, None, f"it raises {type(error).__name__}: {error}", error)
        eta = torch.from_numpy(eta) if isinstance(eta, np.ndarray) else eta
        tensors = {name: entry for name, entry in given.items() if isinstance(entry, Tensor)}
        changed = [name for name, entry in tensors.items() if not torch.equal(entry, torch.as_tensor(copies[name]))]
        wrong = ""
        if changed:
            wrong = f"it changes its argument {changed[0]} in place"
        elif not isinstance(eta, Tensor):
            wrong = f"it returns a {type(eta).__name__}, not a tensor"
        elif eta.shape != gradient.shape:
            wrong = f"it returns the shape {tuple(eta.shape)} for a gradient of shape {tuple(gradient.shape)}"
        elif eta.dtype != gradient.dtype:
            wrong = f"it returns {eta.dtype} for a gradient in {gradient.dtype}".replace("torch.", "")
        return _Trial(case, found, None if wrong else eta.detach().cpu(), wrong)

    @property
    def judged(self) -> Tensor:
        """(N,), the items of which a best η is known in this dtype."""
        known = (self.found.codes == ca.Status.OPTIMAL.code) | (self.found.codes == ca.Status.FEASIBLE.code)
        return known | (self.found.codes == ca.Status.INFEASIBLE.code) & isinstance(self.case.program, ca.GN)

    def certificate(self, exact: bool) -> ca.Certificate:
        assert self.eta is not None
        claims = torch.full_like(self.found.codes, ca.Status.OPTIMAL.code)
        return ca.certify(self.case.program, ca.Solution(self.eta, claims, self.found.multipliers), exact=exact)

    def level(self, tolerance: ca.Tolerance | None) -> int:
        """How wrong the step is, at the item that it gets most wrong."""
        return int(self.levels(tolerance).max())

    def levels(self, tolerance: ca.Tolerance | None) -> Tensor:
        """(N,), how wrong each item is; without a tolerance also in exact arithmetic."""
        program, dtype = self.case.program, self.case.program.gradient.dtype
        zero = (program.gradient == 0).all(-1)
        if self.eta is None:
            return torch.full_like(
                zero, AT_ZERO if self.error is not None and bool(zero.any()) else WRONG, dtype=torch.int8
            )
        certificate = self.certificate(exact=False)

        def right(limit: float, inside: Tensor) -> Tensor:
            near = certificate.gap <= limit
            if isinstance(program, ca.GN):  # what is asked is L + gᵀη < 0, where that can be had
                near = near | (certificate.primal < 0) | (self.found.codes == ca.Status.INFEASIBLE.code)
            return inside & near | ~self.judged

        limit = (tolerance or ca.Tolerance()).at(dtype)
        rough = right(limit, certificate.violation <= limit)
        levels = torch.where(rough, RIGHT, torch.where(zero, AT_ZERO, WRONG)).to(torch.int8)
        if tolerance is not None or not bool(rough.all()) or not _is_exact(program):
            return levels
        inside = torch.tensor([proof.violation.upper == 0 for proof in self.certificate(exact=True).proofs])  # type: ignore[attr-defined]
        closed = self.found.stats["solver"] == "closed_form"  # CVXPY does not know the optimum so well
        return torch.where(
            right((ca.Tolerance.closed_form(dtype) if closed else ca.Tolerance()).at(dtype), inside), RIGHT, ROUNDING
        )

    def counterexample(self, tolerance: ca.Tolerance | None) -> Counterexample:
        program, second, found, eta = self.case.program, self.case.second, self.found, self.eta
        levels = self.levels(tolerance)
        i, rounding = int(levels.argmax()), int(levels.max()) == ROUNDING
        given: dict[str, float | Tensor] = {"gradient": program.gradient}
        given |= {"value L": program.value} if not isinstance(program, ca.GNII) else {}
        given |= {} if isinstance(program, ca.MinNorm) else {"radius ε": float(second)}
        given |= self.case.offered
        exact = _is_exact(program)
        certificate, ratio, cure, verdict = None, math.nan, "", self.complaint
        if eta is not None:
            certificate, ratio = self.certificate(exact), self._ratio(i)
            limit = 0.0 if rounding else (tolerance or ca.Tolerance()).at(eta.dtype)
            verdict = self._verdict(i, ratio, exact, outside=not float(certificate.violation[i]) <= limit)
        if rounding:
            move = "1 + {} to reach L + gᵀη ≤ 0" if isinstance(program, ca.MinNorm) else "1 − {} to stay inside"
            dtype = program.gradient.dtype
            cure = f"This is rounding: the step is right to within {ca.Tolerance().at(dtype):.0e}. Multiply η by "
            cure += move.format(f"{8 * torch.finfo(dtype).eps:.0e}") + ", or forgive it with tolerance=ca.Tolerance()."
        message = explain(program, given, i, verdict, eta, found, cure)
        return Counterexample(message, program, i, eta, found.eta, certificate, ratio)

    def _ratio(self, i: int) -> float:
        program, eta = self.case.program, self.eta
        assert eta is not None
        if isinstance(program, ca.MinNorm):
            ours, best = (float(program.primal(point)[i]) for point in (eta, self.found.eta))
        else:
            ours, best = (-float((program.g[i] * point[i].to(torch.float64)).sum()) for point in (eta, self.found.eta))
        return ours / best if best else math.nan

    def _verdict(self, i: int, ratio: float, exact: bool, outside: bool) -> str:
        program, eta = self.case.program, self.eta
        assert eta is not None
        if not bool(eta[i].isfinite().all()):
            zero = not bool(program.gradient[i].any())
            return "it returns NaN or ∞" + (
                ", though at g = 0 any η inside its sets will do: return 0 there" if zero else ""
            )
        if outside:
            return distances(program, eta, i, exact)
        if isinstance(program, ca.MinNorm):
            return (
                f"‖η‖ is {_ratio(ratio)} times the smallest possible"
                if ratio == ratio
                else "‖η‖ is not 0, though η = 0 will do"
            )
        reached = f"it reaches {_ratio(ratio)} of the possible decrease"
        return f"L + gᵀη is not below 0, though it can be; {reached}" if isinstance(program, ca.GN) else reached


def _ratio(x: float) -> str:
    return f"{x:.4g}" if abs(1 - x) > 1e-3 else f"1 {'−' if x < 1 else '+'} {abs(1 - x):.1g}"


def _is_exact(program: ca.Program) -> bool:
    return all(isinstance(part, ca.Ball | ca.Box) for part in program.sets)


def _tuple(sets: Sequence[Sets] | Sets) -> tuple[Sets, ...]:
    return (sets,) if isinstance(sets, ca.ConvexSet | ca.PixelRange | type) else tuple(sets)


# --- arguments --------------------------------------------------------------------------------------------------------


def _check_arguments(
    step: Any, program: Any, norm: Any, sets: Any, tolerance: Any, dtypes: Any, examples: Any
) -> tuple[str, ...]:
    """Which further arguments the step asks for."""
    if not callable(step):
        raise TypeError(
            f"step must be a function (gradient, radius) -> eta, got {step!r}; "
            "write check_step(lambda g, radius: ..., ...)"
        )
    if program not in NAMES:
        raise ValueError(
            f"program must be ca.GNII, ca.GN or ca.MinNorm, got {program!r}; "
            "certify the answers to others with ca.certify"
        )
    if not isinstance(norm, ca.Lp):
        raise TypeError(f"norm must be a ca.Lp, got {norm!r}; write check_step(step, ca.GNII, norm=ca.Lp(2))")
    if not (tolerance is None or isinstance(tolerance, ca.Tolerance)):
        raise TypeError(f"tolerance must be a ca.Tolerance, got {tolerance!r}; write tolerance=ca.Tolerance(1e-9)")
    if (
        not isinstance(dtypes, Sequence)
        or not dtypes
        or not all(isinstance(t, torch.dtype) and t.is_floating_point for t in dtypes)
    ):
        raise TypeError(f"dtypes must be floating-point dtypes, got {dtypes!r}; write dtypes=(torch.float64,)")
    if not isinstance(examples, int) or examples < 1:
        raise ValueError(f"examples must be a whole number >= 1, got {examples!r}; 200 is the default")
    boxes = False
    for part in _tuple(sets):
        if not (isinstance(part, ca.ConvexSet | ca.PixelRange) or part is ca.Box):
            raise TypeError(
                f"sets must hold convex sets, ca.PixelRange(...) or ca.Box, got {part!r}; "
                "write sets=(ca.Box(-0.3, 0.3),)"
            )
        numbers = (
            [getattr(part, name, None) for name in ("radius", "lower", "upper")]
            if isinstance(part, ca.ConvexSet)
            else []
        )
        if any(isinstance(number, Tensor) and number.ndim for number in numbers):
            raise ValueError(
                f"sets must fit any N and d, got {part!r}; "
                "give its bounds as numbers, or ca.Box itself to have them drawn"
            )
        boxes = boxes or isinstance(part, ca.Box | ca.PixelRange | type)
    pixels = any(isinstance(part, ca.PixelRange) for part in _tuple(sets))
    there = OFFERED[0:1] * pixels + OFFERED[1:] * boxes
    try:
        names = inspect.signature(step).parameters
    except (TypeError, ValueError):  # a builtin without one
        return ()
    further = list(names.values())[2:]
    unknown = [
        part.name
        for part in further
        if part.default is part.empty and part.name not in there and part.kind not in (2, 4)
    ]
    if unknown:
        what = (
            f"gets {', '.join(there)} if it has them"
            if there
            else "gets no more without boxes or a pixel range in sets"
        )
        raise TypeError(
            f"step must take two arguments, got a third named {unknown[0]!r}: "
            f"it is called step(gradient, radius) and {what}"
        )
    return tuple(part.name for part in further if part.name in there)
