"""Rule 8: types are what they are. Subclasses that lie, data changed after the fact, codes and shapes that are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import convexattack as ca
from verification.judge.wrong.row import Right, Row, is_, made, met, none

__all__ = ["ROWS"]

D = torch.float64
GOOD = torch.tensor([[-3.0, -4.0]], dtype=D)  # u of the programs below
RIGHT = is_(-5)
LIE = "the set itself lies; what it holds is the unit ball"
CHANGED = "the data were changed after the set was made; the set is what it was"
NO_CLAIM = "this is no claim"


def _code(status: str, n: int = 1) -> Tensor:
    return torch.full((n,), ca.Status[status].code, dtype=torch.int8)


def _gnii(*sets: Any) -> Any:
    return ca.GNII(torch.zeros(1, dtype=D), torch.tensor([[3.0, 4.0]], dtype=D), sets)


def _gn(value: float) -> Any:
    return ca.GN(_eta(value)[0], _eta(3.0, 4.0), (ca.Ball(ca.Lp(2), 1.0),))


def _eta(*entries: float) -> Tensor:
    return torch.tensor([entries], dtype=D)


# --- subclasses that lie ---------------------------------------------------------------------------------------------


class Cheap(ca.Ball):
    """A ball that says that every multiplier is free."""

    def price(self, u: Tensor, *rest: Any) -> Any:
        return torch.zeros(len(u), dtype=D)

    def support(self, u: Tensor, *rest: Any) -> Any:
        zero = torch.zeros(len(u), dtype=D)
        return zero, zero


class Roomy(ca.Ball):
    """A ball that says that everything is inside."""

    def violation(self, eta: Tensor, *rest: Any) -> Any:
        return torch.zeros(len(eta), dtype=D)

    def excess(self, eta: Tensor, *rest: Any) -> Any:
        return torch.zeros(len(eta), 1, dtype=D)

    contains = excess


class Short(ca.Ball):
    """A ball that pulls every multiplier to 0."""

    def pull(self, u: Tensor, *rest: Any) -> Any:
        return -GOOD.expand(len(u), -1)


class WideBox(ca.Box):
    """A box that says that it is the plane."""

    def violation(self, eta: Tensor, *rest: Any) -> Any:
        return torch.zeros(len(eta), dtype=D)

    def bounds(self, like: Tensor) -> Any:
        return torch.full_like(like, -10.0), torch.full_like(like, 10.0)


class Blind(ca.Lp):
    """A norm that is 0 everywhere."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=D)

    def dual(self, g: Tensor) -> Tensor:
        return torch.zeros(len(g), dtype=D)

    def length(self, x: Tensor) -> Tensor:
        return torch.zeros(x.shape[:-1], dtype=D)


def _lying_program() -> Any:
    """A program that says that every value is −5."""

    class Kind(ca.GNII):
        def primal(self, eta: Tensor, *rest: Any) -> Any:
            return torch.full((len(eta),), -5.0, dtype=D)

    return Kind(torch.zeros(1, dtype=D), torch.tensor([[3.0, 4.0]], dtype=D), (ca.Ball(ca.Lp(2), 1.0),))


def _subclass(piece: Callable[[], Any], eta: Tensor, status: str = "OPTIMAL", u: Tensor = GOOD) -> Callable[[], Any]:
    def make() -> tuple[Any, Any]:
        return _gnii(piece()), ca.Solution(eta, _code(status), (u,))

    return make


def _atom(atom: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: ca.ConvexSet(atom(), ca.maps.Identity())


def _lying_atom() -> Any:
    class Lax(ca.atoms.NormBall):
        def excess(self, z: Tensor, *rest: Any) -> Any:
            return torch.zeros(len(z), 1, dtype=D)

        def outside(self, z: Tensor, *rest: Any) -> Any:
            return torch.zeros(len(z), dtype=D)

    return Lax(ca.Lp(2), 1.0)


def _lying_interval() -> Any:
    class Lax(ca.atoms.Interval):
        def ends(self, like: Tensor) -> Any:
            return torch.full_like(like, -10.0), torch.full_like(like, 10.0)

    return Lax(-1.0, 1.0)


def _lying_map() -> Any:
    class Shrink(ca.maps.Identity):
        def __call__(self, eta: Tensor) -> Tensor:
            return 0 * eta

        def pull(self, u: Tensor) -> Tensor:
            return 0 * u

    return ca.ConvexSet(ca.atoms.NormBall(ca.Lp(2), 1.0), Shrink())


@dataclass(frozen=True)
class Duck:
    """No set at all, but with the methods of one."""

    rigorous: bool = True

    def check(self, n: int, d: int) -> None: ...

    def violation(self, eta: Tensor) -> Tensor:
        return torch.zeros(len(eta), dtype=D)

    def price(self, u: Tensor) -> Tensor:
        return torch.zeros(len(u), dtype=D)


SHORT_POINT, FAR_POINT, NOWHERE = _eta(0.0, 0.0), _eta(-6.0, -8.0), _eta(float("nan"), float("nan"))
SUBCLASSES = (
    made(8, "a ball whose price is 0", _subclass(lambda: Cheap(ca.Lp(2), 1.0), SHORT_POINT), RIGHT, LIE),
    made(
        8, "a ball whose price is 0, empty", _subclass(lambda: Cheap(ca.Lp(2), 1.0), NOWHERE, "INFEASIBLE"), RIGHT, LIE,
    ),
    made(8, "a ball that holds everything", _subclass(lambda: Roomy(ca.Lp(2), 1.0), FAR_POINT), RIGHT, LIE),
    made(8, "a ball that pulls to g", _subclass(lambda: Short(ca.Lp(2), 1.0), SHORT_POINT, u=0 * GOOD), RIGHT, LIE),
    made(8, "a box that is the plane", _subclass(lambda: WideBox(-1.0, 1.0), _eta(-10.0, -10.0)), is_(-7), LIE),
    made(8, "a norm that is 0", _subclass(lambda: ca.Ball(Blind(2), 1.0), FAR_POINT), RIGHT, LIE),
    made(8, "a norm that is 0, η = 0", _subclass(lambda: ca.Ball(Blind(2), 1.0), SHORT_POINT), RIGHT, LIE),
    made(
        8, "(8) in a norm that is 0", lambda: (ca.MinNorm(_eta(2.5)[0], _eta(3.0, 4.0), Blind(2)), _eta(-0.6, -0.8)),
        is_(0.5), LIE,
    ),
    made(8, "an atom that holds everything", _subclass(_atom(_lying_atom), FAR_POINT), RIGHT, LIE),
    made(8, "an interval that is wider", _subclass(_atom(_lying_interval), _eta(-10.0, -10.0)), is_(-7), LIE),
    made(8, "a map that shrinks", _subclass(_lying_map, FAR_POINT), RIGHT, LIE),
    made(8, "no set at all", _subclass(Duck, FAR_POINT), RIGHT, LIE),
    made(
        8, "a program that lies", lambda: (_lying_program(), ca.Solution(SHORT_POINT, _code("OPTIMAL"), (GOOD,))),
        RIGHT, LIE,
    ),
)  # fmt: skip


# --- data changed afterwards -----------------------------------------------------------------------------------------


def _after(make_set: Callable[[Any], Any], data: Any, change: Callable[[Any], None], eta: Tensor, *u: Tensor) -> Any:
    """A set from `data`, which are changed before the claim is judged."""

    def make() -> tuple[Any, Any]:
        given = data.clone() if isinstance(data, Tensor) else data.copy()
        program = _gnii(make_set(given))
        change(given)
        return program, ca.Solution(eta, _code("OPTIMAL"), u)

    return make


def _norm_ball(radius: Any, map_: Any, centre: Any = None) -> Any:
    return ca.ConvexSet(ca.atoms.NormBall(ca.Lp(2), radius, centre=centre), map_)


def _interval(low: Any, high: Any, map_: Any) -> Any:
    return ca.ConvexSet(ca.atoms.Interval(low, high), map_)


def _filled(entry: float) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        data[...] = entry

    return change


ONE, ONES, FOUR, ZEROS = (torch.ones(shape, dtype=D) for shape in ((1,), (1, 2), (4,), (2,)))
ZEROS = 0 * ZEROS
EYE = torch.cat([torch.eye(2), -torch.eye(2)]).to(D)
AFTER = (
    made(
        8, "a radius changed", _after(lambda r: ca.Ball(ca.Lp(2), r), ONE, _filled(2.0), _eta(-1.2, -1.6), GOOD), RIGHT,
        CHANGED,
    ),
    made(
        8, "a radius changed to 0", _after(lambda r: ca.Ball(ca.Lp(2), r), ONE, _filled(0.0), SHORT_POINT, GOOD), RIGHT,
        CHANGED,
    ),
    made(
        8, "a radius changed, NumPy",
        _after(lambda r: ca.Ball(ca.Lp(2), r), np.ones(1), _filled(2.0), _eta(-1.2, -1.6), GOOD), RIGHT, CHANGED,
    ),
    made(
        8, "a box changed", _after(lambda b: ca.Box(-b, b), ONES, _filled(2.0), _eta(-1.0, 2.0), GOOD), is_(-7),
        CHANGED,
    ),
    made(
        8, "an upper bound changed", _after(lambda b: ca.Box(-1.0, b), ONES, _filled(-0.5), _eta(-1.0, -0.5), GOOD),
        is_(-7), CHANGED,
    ),
    made(
        8, "a lower bound changed", _after(lambda b: ca.Box(b, 1.0), -ONES, _filled(-2.0), _eta(-2.0, -2.0), GOOD),
        is_(-7), CHANGED,
    ),
    made(
        8, "a lower bound changed, NumPy",
        _after(lambda b: ca.Box(b, 1.0), -np.ones((1, 2)), _filled(-2.0), _eta(-2.0, -2.0), GOOD), is_(-7), CHANGED,
    ),
    made(
        8, "the image changed",
        _after(lambda x: ca.PixelRange(0.0, 1.0).at(x), ONES * 0.5, _filled(1.0), _eta(-1.0, -1.0), GOOD), is_(-3.5),
        CHANGED,
    ),
    made(
        8, "a mask changed",
        _after(lambda m: ca.Support(m), torch.zeros(2, dtype=torch.bool), _filled(True), _eta(-1.0, 0.0), 0 * GOOD),
        is_(0), CHANGED,
    ),
    made(
        8, "weights changed",
        _after(lambda w: ca.WeightedBall(ca.Lp(2), w, 1.0), ONES[0], _filled(0.5), _eta(-1.2, -1.6), GOOD), RIGHT,
        CHANGED,
    ),
    made(
        8, "labels changed",
        _after(lambda k: ca.GroupBall(k, 1.0), torch.tensor([0, 1]), _filled(0), _eta(-0.6, -0.8), GOOD), is_(-4),
        CHANGED,
    ),
    made(
        8, "A changed",
        _after(lambda A: ca.Halfspaces(A, FOUR), EYE, _filled(0.0), _eta(-9.0, -9.0), _eta(0.0, 0.0, 0.0, 0.0)),
        is_(-7), CHANGED,
    ),
    made(
        8, "b changed",
        _after(lambda b: ca.Halfspaces(EYE, b), FOUR, _filled(2.0), _eta(-2.0, -2.0), _eta(0.0, 0.0, 3.0, 4.0)),
        is_(-7), CHANGED,
    ),
    made(
        8, "b of equalities changed",
        _after(lambda b: ca.Affine(EYE[:2], b), ONES[0], _filled(-1.0), _eta(-1.0, -1.0), GOOD),
        is_(7), CHANGED,
    ),
    made(
        8, "the radius of an atom changed",
        _after(lambda r: _norm_ball(r, ca.maps.Identity()), ONE, _filled(2.0), _eta(-1.2, -1.6), GOOD),
        RIGHT, CHANGED,
    ),
    made(
        8, "the ends of an atom changed",
        _after(lambda b: _interval(-b, b, ca.maps.Identity()), ONES, _filled(2.0), _eta(-2.0, 0.0), GOOD),
        is_(-7), CHANGED,
    ),
    made(
        8, "the centre of an atom changed",
        _after(lambda c: _norm_ball(1.0, ca.maps.Identity(), c), ZEROS, _filled(-9.0), _eta(-9.6, -9.8), GOOD),
        RIGHT, CHANGED,
    ),
    made(
        8, "the diagonal of a map changed",
        _after(lambda w: _norm_ball(1.0, ca.maps.Diagonal(w)), ONES[0], _filled(0.5), _eta(-1.2, -1.6), GOOD),
        RIGHT, CHANGED,
    ),
    made(
        8, "the rows of a map changed",
        _after(lambda K: _interval(-1.0, 1.0, ca.maps.Rows(K)), EYE[:2], _filled(0.0), _eta(-9.0, -9.0), GOOD),
        is_(-7), CHANGED,
    ),
)  # fmt: skip


def _custom_changed() -> tuple[Any, Any]:
    """A user's text with data of its own, which are changed before the claim is judged."""
    limit = torch.ones(1, dtype=D)
    program = _gnii(ca.CustomSet(lambda eta, limit: [eta <= limit, eta >= -limit], {"limit": limit}))
    limit[...] = 2.0
    return program, _eta(-2.0, -2.0)


# --- what is no claim ------------------------------------------------------------------------------------------------

BEST = torch.tensor([[-0.6, -0.8]], dtype=D)
INT8 = torch.int8


def _claim(eta: Tensor, codes: Any, *u: Any, **more: Any) -> Callable[[], tuple[Any, Any]]:
    """A claim about the unit circle."""
    return lambda: (_gnii(ca.Ball(ca.Lp(2), 1.0)), ca.Solution(eta, codes, u, **more))


def _bad_code(code: int) -> Row:
    return made(
        8, f"code {code}", _claim(BEST, torch.tensor([code], dtype=INT8), GOOD), RIGHT, "no status has this code"
    )


OPT = _code("OPTIMAL")
MALFORMED = (
    *map(_bad_code, (-1, -9, 9, 99, 127)),
    made(8, "codes of floats", _claim(BEST, torch.tensor([0.2], dtype=D), GOOD), RIGHT, "0.2 is no code"),
    made(8, "a NaN code", _claim(BEST, torch.tensor([float("nan")], dtype=D), GOOD), RIGHT, "NaN is no code"),
    made(8, "two codes for one item", _claim(BEST, _code("OPTIMAL", 2), GOOD), RIGHT, "one item has one status"),
    made(8, "no code", _claim(BEST, _code("OPTIMAL", 0), GOOD), RIGHT, "one item has one status"),
    made(8, "a table of codes", _claim(BEST, _code("OPTIMAL")[None], GOOD), RIGHT, "codes are (N,)"),
    made(8, "η of integers", _claim(torch.tensor([[-1, 0]]), OPT, GOOD), RIGHT, "−3 is not −5"),
    made(
        8, "a complex η", _claim(torch.tensor([[-0.6 + 0j, -0.8 + 9j]]), OPT, GOOD), RIGHT,
        "0.8 − 9i is no number of a set",
    ),
    made(8, "η of another length", _claim(torch.tensor([[-0.6, -0.8, 9.0]], dtype=D), OPT, GOOD), RIGHT, "d is 2"),
    made(8, "η that would have to be spread", _claim(torch.tensor([[-0.7]], dtype=D), OPT, GOOD), RIGHT, "d is 2"),
    made(8, "η without items", _claim(torch.empty(0, 2, dtype=D), OPT, GOOD), RIGHT, "N is 1"),
    made(8, "η of two items", _claim(BEST.repeat(2, 1), OPT, GOOD), RIGHT, "N is 1"),
    made(8, "no multiplier", _claim(BEST, OPT), RIGHT, "one set, one multiplier"),
    made(8, "one multiplier too many", _claim(BEST, OPT, GOOD, GOOD), RIGHT, "one set, one multiplier"),
    made(8, "u that would have to be spread", _claim(BEST, OPT, torch.tensor([[-5.0]], dtype=D)), RIGHT, "u is (N, d)"),
    made(8, "u without items", _claim(BEST, OPT, torch.empty(0, 2, dtype=D)), RIGHT, "u is (N, d)"),
    made(8, "u of integers", _claim(SHORT_POINT, OPT, torch.tensor([[-3, -4]])), RIGHT, "and η = 0"),
    made(8, "a complex u", _claim(SHORT_POINT, OPT, torch.tensor([[-3 + 9j, -4 - 9j]])), RIGHT, "and η = 0"),
    made(
        8, "`inside` of another shape", _claim(_eta(-0.61, -0.81), OPT, GOOD, inside=torch.zeros(2, dtype=D)), RIGHT,
        "and η outside",
    ),
    made(
        8, "`inside` of another length", _claim(_eta(-0.61, -0.81), OPT, GOOD, inside=torch.zeros(1, 3, dtype=D)),
        RIGHT, "and η outside",
    ),
    made(
        8, "`ray` of another length", _claim(BEST, _code("UNBOUNDED"), GOOD, ray=torch.zeros(1, 3, dtype=D)), RIGHT,
        "the ball is bounded",
    ),
    made(
        8, "a witness for a ball", _claim(_eta(-6.0, -8.0), OPT, GOOD, witness=(torch.zeros(1, 5, dtype=D),)), RIGHT,
        "η is outside",
    ),
    made(8, "a witness of words", _claim(_eta(-6.0, -8.0), OPT, GOOD, witness="inside"), RIGHT, "η is outside"),
    made(
        8, "words in `stats`", _claim(_eta(-6.0, -8.0), OPT, GOOD, stats={"status": "optimal", "gap": 0.0}), RIGHT,
        "η is outside",
    ),
    made(
        8, "a negative radius", lambda: (_gnii(ca.Ball(ca.Lp(2), -1.0)), SHORT_POINT), none(),
        "a ball of radius −1 is empty",
    ),
    made(
        8, "a radius of NaN", lambda: (_gnii(ca.Ball(ca.Lp(2), torch.tensor([float("nan")], dtype=D))), BEST),
        Right("INVALID", 0.0), "no number",
    ),
    made(
        8, "a norm of p < 1", lambda: (_gnii(ca.Ball(ca.Lp(0.5), 1.0)), SHORT_POINT), Right("INVALID", 0.0),
        "‖·‖_{1/2} is no norm",
    ),
    made(
        8, "a pixel range without its image", lambda: (_gnii(ca.PixelRange(0.0, 1.0)), BEST), Right("INVALID", 0.0),
        "no set before x is known",
    ),
    made(8, "data of a text changed", _custom_changed, is_(-7), CHANGED),
    made(
        8, "status exchanged for another program's",
        lambda: (_gn(9.0), ca.Solution(BEST, _code("FEASIBLE"), (GOOD,))),
        none(4), "L + gᵀη = 4",
    ),
    made(
        8, "a claim of a narrower set", lambda: (_gnii(ca.Ball(ca.Lp(2), 1.0)), ca.Solution(BEST / 2, OPT, (GOOD,))),
        RIGHT, "half of the radius",
    ),
    made(
        8, "a claim of a wider set",
        lambda: (_gn(6.0), ca.Solution(2 * BEST, _code("FEASIBLE"), (GOOD,))),
        none(1), "twice the radius",
    ),
    made(
        8, "(GN) infeasible by another's u",
        lambda: (_gn(1.0), ca.Solution(NOWHERE, _code("INFEASIBLE"), (0 * GOOD,))),
        met(-4), "−4 is reached",
    ),
)  # fmt: skip

ROWS = (*SUBCLASSES, *AFTER, *MALFORMED)
