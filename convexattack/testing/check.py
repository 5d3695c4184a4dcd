"""`check_step`: draw programs, run the step, certify what it returns, shrink the first failure to the smallest."""

from __future__ import annotations

import contextlib
import inspect
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import hypothesis
import numpy as np
import torch
from hypothesis import configuration, errors
from hypothesis import strategies as st
from torch import Tensor

import convexattack as ca
from convexattack.programs.normal import Normal
from convexattack.testing.counterexample import NAMES, Counterexample, distances, explain
from convexattack.testing.strategies import DTYPES, SHAPES, gradients, images, scales

__all__ = ["Checked", "check_step"]

OFFERED = ("x", "lower", "upper", "sets")
LARGE = st.tuples(st.integers(8, 9), st.integers(17, 20))
Part = ca.ConvexSet | ca.PixelRange | type[ca.Box]
Shapes = st.SearchStrategy[tuple[int, int]]
Sets = Sequence[Part] | Part | Callable[[tuple[int, int]], Any]


class Checked(int):
    """How many programs were certified. `ulps`: how far the worst η was outside, in units in the last place; 0 inside.

    >>> Checked(7)
    7
    """

    ulps: float = 0.0

    def __str__(self) -> str:
        return f"{int(self)}" + f" (correct to {self.ulps:.1g} ulp)" * (self.ulps > 0)


def check_step(
    step: Callable[..., Any],
    program: type[ca.Program] = ca.GNII,
    norm: ca.Lp = ca.Lp(math.inf),  # noqa: B008, it is frozen
    sets: Sets = (),
    tolerance: ca.Tolerance | None = None,
    dtypes: Sequence[torch.dtype] = DTYPES,
    examples: int = 200,
    seed: int = 0,
    exact: bool = False,
) -> Checked:
    """Refute a step, or find nothing against it on many degenerate programs, each judged by a certificate.

    Args:
        step: what is to be checked. For (GNII), minimize gᵀη, and (GN), find η with L + gᵀη < 0, both over ‖η‖_p ≤ ε
            and the sets, it is called as `step(gradient, radius)` with g (N, d), mostly N ≤ 3 and d ≤ 6, at times N ≥ 8
            and d ≥ 17, and ε ≥ 0, one float that the dtype of g holds exactly. For (8), minimize ‖η‖_p subject to
            L + gᵀη ≤ 0, as `step(gradient, value)` with L (N,). It returns η (N, d) in the dtype of g, a tensor or a
            NumPy array, and leaves its arguments as they are. Where it has further arguments of these names, it also
            gets `lower` and `upper`, the boxes' bounds on η (N, d), `x`, the images (N, d) of a pixel range, and
            `sets`, the sets themselves: `def step(gradient, radius, lower, upper)`.
        program: `ca.GNII`, `ca.GN` or `ca.MinNorm` (8).
        norm: of the ball, or of (8).
        sets: further convex sets that fit any N and d (`ca.Box(-0.3, 0.3)`, another `ca.Ball`), a
            `ca.PixelRange(0, 1)`, for which images are drawn, or `ca.Box` itself: boxes are drawn that hold 0, tight,
            flat and one-sided ones among them. Sets of a fixed size come as a function of (N, d):
            `sets=lambda shape: ca.Halfspaces(torch.ones(1, shape[1]), 0.5)`.
        tolerance: by default η may be outside its sets by rounding alone, a unit in the last place a coordinate, and
            its gap must be within `ca.Tolerance.closed_form(dtype)`. `ca.Tolerance()` forgives a violation and a gap of
            1e-6 in float64, 1e-5 in float32; `ca.Tolerance(1e-9)` 1e-9.
        dtypes: of the gradients.
        examples: how many batches of programs are drawn.
        seed: of the draws; the same seed draws the same programs.
        exact: η must be inside its sets to the last bit.

    Returns:
        How many programs were certified, which prints how far outside the worst η was: "412 (correct to 0.6 ulp)". What
        has no feasible η, or none that the dtype can hold, does not count, and any number may be returned for it. At
        g = 0 every η inside is optimal, but NaN is not.

    Inside a test that hypothesis draws itself, tell that test so:
    `@settings(suppress_health_check=[HealthCheck.nested_given])`.

    Raises:
        Counterexample: an AssertionError; the smallest program found on which the step is wrong by more than rounding
            where g ≠ 0, or, if there is none, where g = 0, or by rounding.
        AssertionError: the step answers the same program differently from call to call.
        TypeError, ValueError: a wrong argument, among them `ca.OperatorNorm` and sets that fit one size alone.

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
    rules = _Rules(tolerance, exact)
    sizes = ((SHAPES, examples), (LARGE, examples // 20 + 1))
    certified, worst, ulps, first = 0, RIGHT, 0.0, None

    def level(case: _Case) -> int:
        nonlocal certified, worst, ulps, first
        trial = _Trial.of(step, asked, case)
        first = first or trial
        found = trial.level(rules)
        worst = max(worst, found)
        if found == RIGHT:
            certified, ulps = certified + int(trial.judged.sum()), max(ulps, trial.ulps)
        return found

    def search(least: int) -> _Case | None:
        found = None
        for shapes, count in sizes:
            cases = _cases(program, norm, sets, tuple(dtypes), shapes)
            found = found or _smallest(cases, lambda case: level(case) >= least, count, seed)
        return found

    smallest = search(WRONG)
    if smallest is None and worst > RIGHT:
        smallest = search(worst)
    if smallest is not None:
        trial = _Trial.of(step, asked, smallest)
        for i in range(len(smallest.program)):  # each item alone, for the neighbours seldom matter
            alone = _Trial.of(step, asked, smallest.item(i))
            trial = alone if alone.level(rules) >= max(trial.level(rules), ROUNDING) else trial
        raise trial.counterexample(rules) from trial.error
    if first is not None and not first.same(_Trial.of(step, asked, first.case)):
        raise AssertionError(CHANCE)
    if not certified:
        raise ValueError(
            f"sets must leave some program feasible, but none of {examples} drawn ones was: {sets!r}; "
            "boxes should hold 0"
        )
    result = Checked(certified)
    result.ulps = ulps
    return result


CHANCE = "The step gave two different answers for the same program; draw its random numbers from a fixed seed."
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
        raise AssertionError(CHANCE) from error


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
    p: float  # of the ball, or of (8)
    second: float | Tensor  # ε, or L for (8)
    offered: dict[str, Any]  # by name: x, lower, upper, sets

    def item(self, i: int) -> _Case:
        """Item i alone."""
        rows = torch.tensor([i])
        second = self.second if isinstance(self.second, float) else self.second[rows]
        sets = tuple(part.take(rows) for part in self.offered["sets"])
        tensors = {name: entry[rows] for name, entry in self.offered.items() if name != "sets"}
        return _Case(self.program.take(rows), self.p, second, tensors | {"sets": sets})


@st.composite
def _cases(
    draw: st.DrawFn, kind: type[ca.Program], norm: ca.Lp, parts: Any, dtypes: tuple[torch.dtype, ...], shapes: Shapes
) -> _Case:
    dtype = draw(st.sampled_from(dtypes))
    gradient = draw(gradients(dtype, shapes))
    n, d = gradient.shape
    resolved: list[Part] = list(_tuple(parts((n, d)) if _is_function(parts) else parts))
    unit = draw(scales(dtype) if not resolved else st.sampled_from([1.0, 1.0, 1.0, 0.1, 1e-3]))
    given = tuple(part for part in resolved if isinstance(part, ca.ConvexSet))
    sizes = [1.0, 0.5, 0.25, 2.0, 0.1, 0.3]
    if len(Normal.of(given, gradient).boxes) == len(given):
        sizes.append(0.0)  # where a conic solver takes part, its residual would be all there is beside it
    size = draw(st.sampled_from([*sizes, math.nan]))
    size = draw(st.floats(0.01, 4.0)) if size != size else size
    radius = float(torch.tensor(unit * size, dtype=dtype))
    offered: dict[str, Any] = {}
    sets: list[ca.ConvexSet] = []
    for part in resolved:
        if isinstance(part, ca.PixelRange):
            offered["x"] = draw(images(dtype, (n, d), part))
            sets.append(part.at(offered["x"]))
        elif isinstance(part, type):
            width = st.sampled_from([1.0, 0.5, 0.25, 0.125, math.inf, 0.0, 2.0])
            ends = torch.tensor([[draw(width) for _ in range(d)] for _ in range(2 * n)], dtype=dtype).to(torch.float64)
            sets.append(ca.Box(-ends[:n], ends[n:]))
        else:
            sets.append(part)
    normal = Normal.of(tuple(sets), gradient)
    if normal.boxes:
        offered["lower"], offered["upper"] = (bound.expand(n, d) for bound in normal.ends)
    offered["sets"] = tuple(sets)
    zero = torch.zeros(n, dtype=dtype)
    if issubclass(kind, ca.MinNorm):
        share = _shares(draw, n, [1.0, 2.0, -1.0, 0.5, 0.0, 3.0])
        value = (share * unit * gradient.to(torch.float64).abs().amax(-1)).to(dtype)
        return _Case(ca.MinNorm(value, gradient, norm, tuple(sets)), norm.p, value, offered)
    every = (ca.Ball(norm, radius), *sets)
    if issubclass(kind, ca.GNII):
        return _Case(ca.GNII(zero, gradient, every), norm.p, radius, offered)
    best = ca.solve(ca.GNII(zero, gradient, every))
    fall = -(gradient.to(torch.float64) * best.eta.to(torch.float64)).sum(-1).nan_to_num(0.0)
    share = _shares(draw, n, [0.5, 0.9, 0.99, 0.0, 1.0, 2.0, -1.0])
    return _Case(ca.GN((share * fall).to(dtype), gradient, every), norm.p, radius, offered)


def _shares(draw: st.DrawFn, n: int, known: list[float]) -> Tensor:
    return torch.tensor([draw(st.sampled_from(known)) for _ in range(n)], dtype=torch.float64)


# --- what a step made of it -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rules:
    """What is forgiven."""

    tolerance: ca.Tolerance | None
    exact: bool

    def outside(self, dtype: torch.dtype, d: int) -> float:
        """The violation that is forgiven, relative, where no tolerance is given."""
        return 0.0 if self.exact else d * torch.finfo(dtype).eps


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
        copies: dict[str, Any] = {
            k: entry.clone() if isinstance(entry, Tensor) else entry for k, entry in given.items()
        }
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

    @cached_property
    def rough(self) -> ca.Certificate:
        """The certificate in float64."""
        return ca.certify(self.case.program, self._claim)

    @cached_property
    def certificate(self) -> ca.Certificate:
        """The exact certificate; the one in float64 where a set is not known exactly."""
        try:
            return ca.certify(self.case.program, self._claim, exact=True)
        except ValueError:
            return self.rough

    @property
    def _claim(self) -> ca.Solution:
        assert self.eta is not None
        found, codes = self.found, torch.full_like(self.found.codes, ca.Status.OPTIMAL.code)
        return ca.Solution(self.eta, codes, found.multipliers, inside=found.inside)

    @property
    def ulps(self) -> float:
        """How far the worst η is outside, in units in the last place of its dtype."""
        if self.eta is None:
            return 0.0
        return float((self.certificate.violation * self.judged).nan_to_num(0.0).max()) / torch.finfo(self.eta.dtype).eps

    def same(self, other: _Trial) -> bool:
        """Whether another call gave the same answer."""
        a, b = self.eta, other.eta
        return a is b or (a is not None and b is not None and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)))

    def level(self, rules: _Rules) -> int:
        """How wrong the step is, at the item that it gets most wrong."""
        return int(self.levels(rules).max())

    def levels(self, rules: _Rules) -> Tensor:
        """(N,), how wrong each item is; without a tolerance also in exact arithmetic."""
        program, dtype = self.case.program, self.case.program.gradient.dtype
        zero = (program.gradient == 0).all(-1)
        if self.eta is None:
            unfit = AT_ZERO if self.error is not None and bool(zero.any()) else WRONG
            return torch.full_like(zero, unfit, dtype=torch.int8)

        def right(certificate: ca.Certificate, outside: float, gap: float | Tensor) -> Tensor:
            near = certificate.gap <= gap
            if isinstance(program, ca.GN):  # what is asked is L + gᵀη < 0, where that can be had
                near = near | (certificate.primal < 0) | (self.found.codes == ca.Status.INFEASIBLE.code)
            return (certificate.violation <= outside) & near | ~self.judged

        limit = (rules.tolerance or ca.Tolerance()).at(dtype)
        rough = right(self.rough, limit, limit)
        levels = torch.where(rough, RIGHT, torch.where(zero, AT_ZERO, WRONG)).to(torch.int8)
        if rules.tolerance is not None or not bool(rough.all()):
            return levels
        closed = ca.Tolerance.closed_form(dtype).at(dtype)
        outside = rules.outside(dtype, program.gradient.shape[1])
        good = right(self.certificate, outside, closed)
        if not bool(good.all()):  # how well is the optimum known?
            known = torch.where(ca.certify(program, self.found).gap <= closed, closed, limit)
            good = right(self.certificate, outside, known)
        return torch.where(good, RIGHT, ROUNDING).to(torch.int8)

    def counterexample(self, rules: _Rules) -> Counterexample:
        program, second, found, eta = self.case.program, self.case.second, self.found, self.eta
        levels = self.levels(rules)
        i, rounding = int(levels.argmax()), int(levels.max()) == ROUNDING
        given: dict[str, float | Tensor] = {"gradient": program.gradient}
        given |= {"value L": program.value} if not isinstance(program, ca.GNII) else {}
        given |= {} if isinstance(program, ca.MinNorm) else {"radius ε": float(second)}
        given |= {name: entry for name, entry in self.case.offered.items() if name != "sets"}
        certificate, ratio, cure, verdict = None, math.nan, "", self.complaint
        dtype = program.gradient.dtype
        if eta is not None:
            certificate, ratio = self.certificate, self._ratio(i)
            limit = rules.outside(dtype, eta.shape[1]) if rounding else (rules.tolerance or ca.Tolerance()).at(dtype)
            verdict = self._verdict(i, ratio, outside=not float(certificate.violation[i]) <= limit)
        if rounding:
            move = "1 + {} to reach L + gᵀη ≤ 0" if isinstance(program, ca.MinNorm) else "1 − {} to stay inside"
            cure = f"This is rounding: the step is right to within {ca.Tolerance().at(dtype):.0e}. Multiply η by "
            cure += move.format(f"{8 * torch.finfo(dtype).eps:.0e}") + ", or forgive it with tolerance=ca.Tolerance()."
        message = explain(program, self.case.p, given, i, verdict, eta, found, cure)
        return Counterexample(message, program, i, eta, found.eta, certificate, ratio)

    def _ratio(self, i: int) -> float:
        program, eta = self.case.program, self.eta
        assert eta is not None
        if isinstance(program, ca.MinNorm):
            ours, best = (float(program.primal(point)[i]) for point in (eta, self.found.eta))
        else:
            ours, best = (-float((program.g[i] * point[i].to(torch.float64)).sum()) for point in (eta, self.found.eta))
        return ours / best if best else math.nan

    def _verdict(self, i: int, ratio: float, outside: bool) -> str:
        program, eta = self.case.program, self.eta
        assert eta is not None
        if not bool(eta[i].isfinite().all()):
            zero = not bool(program.gradient[i].any())
            return "it returns NaN or ∞" + (
                ", though at g = 0 any η inside its sets will do: return 0 there" if zero else ""
            )
        if outside:
            return distances(program, eta, i)
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


def _is_function(sets: Any) -> bool:
    return callable(sets) and not isinstance(sets, type)


def _tuple(sets: Any) -> tuple[Part, ...]:
    return tuple(sets) if isinstance(sets, Sequence) else (sets,)


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
    return _further(step, _offered(sets))


def _offered(sets: Any) -> tuple[str, ...]:
    """What a step may ask for by name."""
    boxes, pixels, function = False, False, _is_function(sets)
    for part in _tuple(sets((2, 3)) if function else sets):
        if isinstance(part, ca.ConvexSet):
            _fit(part, ((2, 3),) if function else ((2, 3), (3, 5)))
            boxes = boxes or bool(Normal.of((part,), torch.empty(2, 3)).boxes)
        elif isinstance(part, ca.PixelRange) or part is ca.Box:
            boxes, pixels = True, pixels or part is not ca.Box
        else:
            raise TypeError(
                f"sets must hold convex sets, ca.PixelRange(...) or ca.Box, got {part!r}; "
                "write sets=(ca.Box(-0.3, 0.3),)"
            )
    return OFFERED[0:1] * pixels + OFFERED[1:3] * boxes + OFFERED[3:]


def _further(step: Callable[..., Any], there: tuple[str, ...]) -> tuple[str, ...]:
    """What of that it asks for."""
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
        raise TypeError(
            f"step must take two arguments, got a third named {unknown[0]!r}: "
            f"it is called step(gradient, radius) and gets {', '.join(there)} if it has them"
        )
    return tuple(part.name for part in further if part.name in there)


def _fit(part: ca.ConvexSet, shapes: Sequence[tuple[int, int]]) -> None:
    try:
        for n, d in shapes:
            part.check(n, d)
    except ValueError as error:
        raise ValueError(
            f"sets must fit any N and d, got {part!r}; give its bounds as numbers, or ca.Box itself to have them "
            "drawn, or sets=lambda shape: ... for those of the size (N, d)"
        ) from error
