"""Rule 2: every error is charged. Sums that cancel must not prove more than their own rounding leaves."""

from __future__ import annotations

import math

from verification.judge.spec import (
    INF,
    affine,
    ball,
    box,
    feasible,
    gn,
    gnii,
    halfspaces,
    hinges,
    infeasible,
    min_norm,
    optimal,
)  # fmt: skip
from verification.judge.wrong.row import is_, met, none, wrong

__all__ = ["ROWS"]

CANCEL = "the multipliers cancel to 0 in float64 and to −g in truth: left is g, and η = 0 is not optimal"
SUM = ball(INF), halfspaces([[1, 1]], [0]), halfspaces([[-1, -1]], [0])
TWICE = ball(INF), affine([[1, 1]], [0]), affine([[1, 1]], [0])
ZERO = [0.0, 0.0]


def _cancel(size: float, sign: float = 1.0) -> tuple[list[float], list[float], list[float]]:
    """Multipliers of a ball and of two sets of one row."""
    return ZERO, [size], [sign * size]


EDGE = 0.1 + 0.2  # rounded up: above the sum of the two numbers, while 0.3 is below it
TIE = "L is above ε‖g‖ by half a unit in the last place"
UNDER = "L is below ε‖g‖ by half a unit in the last place"
OVER = "its price overflows to ∞, and proves nothing"
POINT = box([1, 1, 1], [1, 1, 1])
BIG = 1e17  # whose neighbours are 16 away

ROWS = (
    wrong(2, "1e17 that cancel, halfspaces", gnii(0, [1, 0], *SUM), optimal(ZERO, *_cancel(1e17)), is_(-1), CANCEL),
    wrong(
        2, "1e17 that cancel, equalities", gnii(0, [1, 0], *TWICE), optimal(ZERO, *_cancel(1e17, -1)), is_(-1), CANCEL,
    ),
    wrong(2, "1e18 that cancel", gnii(0, [1, 0], *SUM), optimal(ZERO, *_cancel(1e18)), is_(-1), CANCEL),
    wrong(2, "1e300 that cancel", gnii(0, [1, 0], *SUM), optimal(ZERO, *_cancel(1e300)), is_(-1), CANCEL),
    wrong(
        2, "1e17 that cancel in one set", gnii(0, [1, 0], ball(INF), halfspaces([[1, 1], [-1, -1]], ZERO)),
        optimal(ZERO, ZERO, [1e17, 1e17]), is_(-1), CANCEL,
    ),
    wrong(
        2, "1e17 that cancel in one set of equalities", gnii(0, [1, 0], ball(INF), affine([[1, 1], [1, 1]], ZERO)),
        optimal(ZERO, ZERO, [1e17, -1e17]), is_(-1), CANCEL,
    ),
    wrong(
        2, "the same set twice, halfway", gnii(0, [1, 0], *TWICE), optimal([-0.5, 0.5], *_cancel(1e17, -1)), is_(-1),
        CANCEL,
    ),
    wrong(
        2, "1e17 in the ball and back", gnii(0, [1, 0], *SUM), optimal(ZERO, [1e17, 1e17], [0], [1e17]), is_(-1),
        "the ball's price of 1e17 is not free",
    ),
    wrong(2, "1e17 for (GN)", gn(0.5, [1, 0], *SUM), infeasible(2, *_cancel(1e17)), met(-0.5), CANCEL),
    wrong(
        2, "1e17 for (8)", min_norm(1, [1, 0], 2, *SUM[1:]), optimal([-2, 2], 8**0.5, [1e17], [1e17]),
        is_(math.sqrt(2)), CANCEL,
    ),
    wrong(
        2, "1e17 against (8)", min_norm(1, [1, 0], 2, *SUM[1:]), infeasible(2, 1.0, [1e17], [1e17]), is_(math.sqrt(2)),
        CANCEL,
    ),
    wrong(2, "1e17 for hinges", hinges([1], [[1, 0]], *SUM), optimal(ZERO, [1], *_cancel(1e17)), is_(0), CANCEL),
    wrong(
        2, "cancelling rows of unlike size", gnii(0, [1, 0], ball(INF), halfspaces([[1e-9, 1e-9], [-1, -1]], ZERO)),
        optimal(ZERO, ZERO, [1e26, 1e17]), is_(-1), CANCEL,
    ),
    wrong(
        2, "a sum that rounds below 0", gn(10, [BIG, 7, -BIG - 16], POINT), feasible([1, 1, 1], [-BIG, -7, BIG + 16]),
        none(1), "10 + 7 − 16 = 1 in truth, −6 in float64",
    ),
    wrong(
        2, "a sum that rounds above 0", gn(6, [BIG, 9, -BIG - 16], POINT), infeasible(3, [-BIG, -9, BIG + 16]), met(-1),
        "6 + 9 − 16 = −1 in truth, 6 in float64",
    ),
    wrong(
        2, "the same sum, turned round", gn(10, [-BIG - 16, 7, BIG], POINT), feasible([1, 1, 1], [BIG + 16, -7, -BIG]),
        none(1), "10 + 7 − 16 = 1 in truth",
    ),
    wrong(
        2, "equality in (5), p = 2", gn(2.5, [3, 4], ball(2, 0.5)), feasible([-0.3, -0.4], [-3, -4]), none(0),
        "ε‖g‖₂ = 2.5 = L: the least is 0",
    ),
    wrong(
        2, "equality in (5), p = 1", gn(2, [3, -4], ball(1, 0.5)), feasible([0, 0.5], [-3, 4]), none(0),
        "ε‖g‖_∞ = 2 = L",
    ),
    wrong(
        2, "equality in (5), p = ∞", gn(3.5, [3, -4], ball(INF, 0.5)), feasible([-0.5, 0.5], [-3, 4]), none(0),
        "ε‖g‖₁ = 3.5 = L",
    ),
    wrong(
        2, "just above, p = ∞", gn(EDGE, [0.1, 0.2], ball(INF)), feasible([-1, -1], [-0.1, -0.2]), none(2.8e-17), TIE,
    ),
    wrong(2, "just below, p = ∞", gn(0.3, [0.1, 0.2], ball(INF)), infeasible(2, [-0.1, -0.2]), met(-2.8e-17), UNDER),
    wrong(2, "just above, box", gn(EDGE, [0.1, 0.2], box(-1, 1)), feasible([-1, -1], [-0.1, -0.2]), none(2.8e-17), TIE),
    wrong(2, "just below, box", gn(0.3, [0.1, 0.2], box(-1, 1)), infeasible(2, [-0.1, -0.2]), met(-2.8e-17), UNDER),
    wrong(
        2, "just below, (8)", min_norm(0.3, [0.1, 0.2], 2, box(-1, 1)), infeasible(2, 1.0, [-0.1, -0.2]),
        is_(math.sqrt(2)), "the corner (−1, −1) is in",
    ),
    wrong(
        2, "just above, p = 2", gn(math.sqrt(2), [1, 1], ball(2)),
        feasible([-0.7071067811865476, -0.7071067811865476], [-1, -1]), none(9.7e-17), "√2 rounded up is above √2",
    ),
    wrong(
        2, "just below, p = 2", gn(math.sqrt(3), [1, 1, 1], ball(2)), infeasible(3, [-1, -1, -1]), met(-1.0e-16),
        "√3 rounded down is below √3",
    ),
    wrong(
        2, "1e17 in L and g", gn(BIG + 16, [-BIG, 9], box([1, -1], [1, 1])), feasible([1, -1], [BIG, -9]), none(7),
        "16 − 9 = 7 in truth",
    ),
    wrong(
        2, "a coordinate that cannot move hides the gap", gnii(0, [1e18, 1], box([1, -1], [1, 1])),
        optimal([1, 0], [-1e18, -1]), is_(1e18 - 1), "η₂ = 0 is half way, which 1e18 swallows",
    ),
    *(
        wrong(2, f"u = {u:g} in a ball", gnii(0, [1], ball(INF, 28)), optimal([5], [u]), is_(-28), OVER)
        for u in (-9e307, 9e307, -1.7e308, 1.7e308)
    ),
    wrong(2, "u = 1e308 in a circle", gnii(0, [3, 4], ball(2, 28)), optimal([5, 5], [1e308, 1e308]), is_(-140), OVER),
    wrong(2, "u = 1e308 in a box", gnii(0, [1, 1], box(-28, 28)), optimal([5, 5], [1e308, -1e308]), is_(-56), OVER),
    wrong(
        2, "u = 1e308 of halfspaces", gnii(0, [1, 1], ball(INF), halfspaces([[1, 1]], [28])),
        optimal([0.5, 0.5], [0, 0], [1e308]), is_(-2), OVER,
    ),
    wrong(
        2, "u = 1e308 of a long row", gnii(0, [1, 1], ball(INF), halfspaces([[1e9, 1e9]], [0])),
        optimal([-0.5, -0.5], [0, 0], [1e308]), is_(-2), OVER,
    ),
    wrong(2, "u = 1e308 for (8)", min_norm(1, [1], 2, box(-28, 28)), optimal([-5], 1, [1e308]), is_(1), OVER),
    wrong(2, "λ = 1e308 for (8)", min_norm(28, [1], 2, box(-99, 99)), optimal([-50], 1e308, [0]), is_(28), OVER),
    wrong(2, "λ = 1e308 for (8), empty", min_norm(28, [1], 2, box(-99, 99)), infeasible(1, 1e308, [0]), is_(28), OVER),
    wrong(2, "u = 1e308 for hinges", hinges([1], [[1]], ball(INF, 28)), optimal([5], [1], [1e308]), is_(0), OVER),
    wrong(2, "u = 1e308, empty", gnii(0, [1], ball(INF, 28)), infeasible(1, [1e308]), is_(-28), OVER),
    wrong(2, "u = 1e308, (GN)", gn(1, [1], ball(INF, 28)), infeasible(1, [1e308]), met(-27), OVER),
)  # fmt: skip
