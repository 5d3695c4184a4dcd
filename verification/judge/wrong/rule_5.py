"""Rule 5: a gap is relative to what the sets let the objective vary. No large L and no far coordinate excuses it."""

from __future__ import annotations

from verification.judge.spec import (
    INF,
    affine,
    ball,
    box,
    gnii,
    group,
    halfspaces,
    hinges,
    min_norm,
    off_centre,
    operator,
    optimal,
    pixels,
    support,
    total_variation,
    weighted,
)  # fmt: skip
from verification.judge.wrong.row import Row, is_, wrong

__all__ = ["ROWS"]

LARGE = "η = 0 is half way between the best and the worst, however large L is"
ZERO = [0, 0]
CUBE = ball(INF)


def _offset(value: float) -> list[Row]:
    """The same program with another L."""
    return [
        wrong(5, f"L = {value:g}, ball", gnii(value, [1, 0], ball(2)), optimal(ZERO, [-1, 0]), is_(value - 1), LARGE),
        wrong(
            5, f"L = {value:g}, box", gnii(value, [1, 1], box(-1, 1)), optimal(ZERO, [-1, -1]), is_(value - 2), LARGE,
        ),
    ]  # fmt: skip


def _tiny(value: float) -> list[Row]:
    """(8) with an L that is small, and not 0."""
    why = f"L = {value:g} > 0 must be met"
    return [
        wrong(5, f"(8), L = {value:g}, η = 0", min_norm(value, [1, 0], 2), optimal(ZERO, 0), is_(value), why),
        wrong(5, f"(8), L = {value:g}, η = 0, λ = 1", min_norm(value, [1, 0], 2), optimal(ZERO, 1), is_(value), why),
        wrong(
            5, f"(8), L = {value:g}, boxed", min_norm(value, [1, 0], 2, box(-1, 1)), optimal(ZERO, 0, ZERO), is_(value),
            why,
        ),
        wrong(
            5, f"(8), L = {value:g}, too far", min_norm(value, [1, 0], 2), optimal([-2 * value, 0], 1), is_(value),
            "twice as long as needed",
        ),
        wrong(
            5, f"(8), L = {value:g}, far", min_norm(value, [1, 0], 2, box(-1, 1)), optimal([-0.5, 0], 1, ZERO),
            is_(value), "far longer than needed",
        ),
    ]  # fmt: skip


IDLE = "L ≤ 0 and 0 is in the sets: η = 0 is the answer"
ROWS = (
    *(row for value in (1e6, 1e9, 1e12, -1e12) for row in _offset(value)),
    *(row for value in (1e-9, 1e-30, 1e-200) for row in _tiny(value)),
    wrong(5, "L = 1e12, small g", gnii(1e12, [1e-3, 0], ball(2)), optimal(ZERO, [-1e-3, 0]), is_(1e12 - 1e-3), LARGE),
    wrong(
        5, "L = 1e12, nearly right", gnii(1e12, [1, 0], ball(2)), optimal([-0.99, 0], [-1, 0]), is_(1e12 - 1),
        "a hundredth short",
    ),
    wrong(
        5, "L = 1e12, hinges", hinges([1e12, 1], [[1, 0], [0, 1]], CUBE), optimal(ZERO, [1, 1], [-1, -1]),
        is_(1e12 - 1), LARGE,
    ),
    wrong(
        5, "L = −1e12, idle hinges", hinges([-1e12, 1], [[1, 0], [0, 1]], CUBE), optimal(ZERO, [0, 1], [0, -1]), is_(0),
        "the other hinge can be closed",
    ),
    wrong(
        5, "a far coordinate", gnii(0, [1e-9, 1], box([-1e9, -1], [1e9, 1])), optimal([-1e9, 0], [-1e-9, -1]), is_(-2),
        "η₂ = 0 is half way",
    ),
    wrong(
        5, "a far coordinate that does not matter", gnii(0, [0, 1], box([-1e12, -1], [1e12, 1])),
        optimal(ZERO, [0, -1]), is_(-1), "η₂ = 0 is half way",
    ),
    wrong(
        5, "a far coordinate in a ball", gnii(0, [0, 1], ball(2, 1e9), box([-1e9, -1], [1e9, 1])),
        optimal(ZERO, ZERO, [0, -1]), is_(-1), "η₂ = 0 is half way",
    ),
    wrong(
        5, "a fixed coordinate with a huge slope", gnii(0, [1e12, 1], box([0.1, -1], [0.1, 1])),
        optimal([0.1, 0], [-1e12, -1]), is_(1e11 - 1), "η₂ = 0 is half way",
    ),
    wrong(
        5, "a huge ball about a small box", gnii(0, [1, 1], ball(2, 1e9), box(-1e-3, 1e-3)),
        optimal(ZERO, ZERO, [-1, -1]), is_(-2e-3), "half way in the box",
    ),
    wrong(
        5, "a huge box about a small ball", gnii(0, [1, 0], ball(2, 1e-3), box(-1e9, 1e9)),
        optimal(ZERO, [-1, 0], ZERO), is_(-1e-3), "half way in the ball",
    ),
    wrong(
        5, "a huge halfspace about a small ball", gnii(0, [1, 0], ball(2, 1e-3), halfspaces([[-1, 0]], [1e9])),
        optimal(ZERO, [-1, 0], [0]), is_(-1e-3), "half way in the ball",
    ),
    wrong(
        5, "short in the circle", gnii(0, [3, 4], ball(2)), optimal([-0.5994, -0.7992], [-3, -4]), is_(-5),
        "a thousandth short",
    ),
    wrong(
        5, "turned in the circle", gnii(0, [3, 4], ball(2)), optimal([-0.62, -0.7846018], [-3, -4]), is_(-5),
        "not along −g",
    ),
    wrong(5, "the wrong corner", gnii(0, [3, -4], CUBE), optimal([-1, -1], [-3, 4]), is_(-7), "η₂ has the wrong sign"),
    wrong(5, "the wrong coordinate", gnii(0, [3, -4], ball(1)), optimal([-1, 0], [-3, 4]), is_(-4), "|g₂| is larger"),
    wrong(5, "the worst point", gnii(0, [3, 4], ball(2)), optimal([0.6, 0.8], [-3, -4]), is_(-5), "the maximum"),
    wrong(
        5, "u shrunk to fit", gnii(0, [3, 4], ball(2)), optimal([-0.3, -0.4], [-1.5, -2]), is_(-5),
        "half of g is left over",
    ),
    wrong(5, "u = 0", gnii(0, [3, 4], ball(2)), optimal(ZERO, ZERO), is_(-5), "all of g is left over"),
    wrong(5, "u = g", gnii(0, [3, 4], ball(2)), optimal([0.6, 0.8], [3, 4]), is_(-5), "the sign is wrong"),
    wrong(
        5, "u much too large", gnii(0, [3, 4], ball(2)), optimal(ZERO, [-3e9, -4e9]), is_(-5),
        "the price is a billion times too large",
    ),
    wrong(
        5, "short in the pixel range", gnii(0, [1, 1], pixels([0.25, 0.75])), optimal([-0.25, -0.7], [-1, -1]), is_(-1),
        "0.05 short",
    ),
    wrong(
        5, "short under a mask", gnii(0, [1, 1], ball(2), support([True, False])), optimal([-0.7, 0], [-1, 0], [0, -1]),
        is_(-1), "the ball allows −1",
    ),
    wrong(
        5, "short on a line", gnii(0, [1, 0], CUBE, affine([[1, 1]], [0])), optimal([-0.5, 0.5], [0, 1], [-1]), is_(-1),
        "half way",
    ),
    wrong(
        5, "short in a halfspace", gnii(0, [1, 0], CUBE, halfspaces([[-1, 0]], [0.5])), optimal(ZERO, ZERO, [1]),
        is_(-0.5), "η₁ may go to −0.5",
    ),
    wrong(
        5, "short under total variation", gnii(0, [1, -1], CUBE, total_variation((1, 2), 1)),
        optimal([-0.25, 0.25], ZERO, [1]), is_(-1), "half of it",
    ),
    wrong(
        5, "short in a group", gnii(0, [3, 4, 1], group([0, 0, 1], 1)), optimal([-0.3, -0.4, 0], [-3, -4, -1]), is_(-5),
        "half of it",
    ),
    wrong(
        5, "the wrong group", gnii(0, [3, 4, 4.5], group([0, 0, 1], 1)), optimal([0, 0, -1], [-3, -4, -4.5]), is_(-5),
        "the first group is worth 5",
    ),
    wrong(
        5, "short in a weighted ball", gnii(0, [1, 1], weighted(2, [1, 0.5], 1)), optimal([-1, 0], [-1, -2]),
        is_(-(5**0.5)), "η₂ is the cheaper one",
    ),
    wrong(
        5, "short in a ball off centre", gnii(0, [1, 0], off_centre(2, 1, [3, 0])), optimal([3, 0], [-1, 0]), is_(2),
        "the centre is half way",
    ),
    wrong(
        5, "equal slopes, half of them", gnii(0, [1, 1, 1, 1], CUBE), optimal([-1, -1, 0, 0], [-1] * 4), is_(-4),
        "half way",
    ),
    wrong(
        5, "no slope, outside", gnii(7, ZERO, ball(2)), optimal([3, 4], ZERO), is_(7),
        "outside the ball: with g = 0 nothing but that can be wrong",
    ),
    wrong(
        5, "one hinge left open", hinges([1, 1], [[2, 0], [0, 2]], CUBE), optimal([-0.5, 0], [0, 1], [0, -2]), is_(0),
        "both can be closed",
    ),
    wrong(
        5, "two hinges of unlike slope", hinges([1, 1], [[2], [-1]], ball(2)), optimal([0], [0.5, 1], [0]), is_(1.5),
        "η = −1/2 is better: 0 and 1.5",
    ),
    wrong(
        5, "a slack hinge", hinges([-2], [[1]], ball(2, 3)), optimal([3], [1], [-1]), is_(0),
        "η = 3 opens a hinge that is closed at 0",
    ),
    wrong(5, "(8), L = −1e9, η = 500", min_norm(-1e9, [1, 0], 2), optimal([500, 0], 0), is_(0), IDLE),
    wrong(
        5, "(8), L = −1e9, η = 500, boxed", min_norm(-1e9, [1, 0], 2, box(-1e3, 1e3)), optimal([500, 0], 0, ZERO),
        is_(0), IDLE,
    ),
    wrong(
        5, "(8), L = −1e9, η = 500, one box is wide", min_norm(-1e9, [1, 0], 2, box([-1e3, -1e9], [1e3, 1e9])),
        optimal([500, 0], 0, ZERO), is_(0), IDLE,
    ),
    wrong(5, "(8), L = −1e9, η = 1e-3, no set", min_norm(-1e9, [1, 0], 2), optimal([1e-3, 0], 0), is_(0), IDLE),
    wrong(5, "(8), L = 0, η = 1e-3", min_norm(0, [1, 0], 2), optimal([-1e-3, 0], 0), is_(0), IDLE),
    wrong(5, "(8), L = 0, g = 0", min_norm(0, ZERO, 1), optimal([1, 0], 0), is_(0), IDLE),
    wrong(5, "(8), L = −1, η = 1", min_norm(-1, [1, 0], INF, box(-2, 2)), optimal([1, 1], 0, ZERO), is_(0), IDLE),
    wrong(
        5, "(8), L = −1e-300, η = 1", min_norm(-1e-300, [1, 0], 2, box(-2, 2)), optimal([-1, 0], 1, ZERO), is_(0), IDLE,
    ),
    wrong(
        5, "(8), the box without 0, too far", min_norm(-9, [1, 1], 2, box(1, 2)), optimal([2, 2], 0, [-1, -1]),
        is_(2**0.5), "(1, 1) is nearer",
    ),
    wrong(
        5, "(8), L < 0, η = 0 outside", min_norm(-10, [1, 1], 2, box(1, 2)), optimal(ZERO, 0, ZERO), is_(2**0.5),
        "0 is not in the box",
    ),
    wrong(
        5, "(8) a thousandth too long", min_norm(2.5, [3, 4], 2), optimal([-0.3003, -0.4004], 0.2), is_(0.5),
        "overshoot",
    ),
    wrong(
        5, "(8) not along −g", min_norm(1, [1, 1], 2), optimal([-1, 0], 2**-0.5), is_(2**-0.5),
        "(−1/2, −1/2) is shorter",
    ),
    wrong(
        5, "(8) not the cheapest coordinate", min_norm(1, [1, 2], 1), optimal([-1, 0], 0.5), is_(0.5),
        "η₂ = −1/2 is shorter",
    ),
    wrong(
        5, "(8), p = ∞, one coordinate", min_norm(1, [1, 1], INF), optimal([-1, 0], 0.5), is_(0.5),
        "(−1/2, −1/2) is shorter",
    ),
    wrong(
        5, "(8) in a huge box", min_norm(1, [1, 0], 2, box(-1e12, 1e12)), optimal([-1e3, 0], 1, ZERO), is_(1),
        "a thousand times too long",
    ),
    wrong(
        5, "(9), η = 0", operator([[1, 2], [3, -1]], ball(2)), optimal(ZERO, [1, 1], [[1], [0]]), is_(3.19258),
        "‖Jη‖ = 0",
    ),
    wrong(
        5, "(9), the smaller column", operator([[1, 2], [3, -1]], ball(1)), optimal([0, 1], [1, 1], [[1], [0]]),
        is_(10**0.5), "the first column is longer",
    ),
    wrong(
        5, "nothing known of the gap", gnii(0, [1, 0], halfspaces([[-1, 0]], [1])), optimal(ZERO, [1]), is_(-1),
        "η₁ = −1 is better",
    ),
    wrong(
        5, "nothing known of the gap, nearly", gnii(0, [1, 0], halfspaces([[-1, 0]], [1e12])),
        optimal([1 - 1e12, 0], [1]), is_(-1e12), "1 above the optimum, and nothing gives it a unit",
    ),
    wrong(
        5, "half of a corner", gnii(-1e12, [1, 1, 1], box(-1, 1)), optimal([-1, -1, 0.5], [-1, -1, -1]), is_(-1e12 - 3),
        "η₃ has the wrong sign",
    ),
    wrong(
        5, "p = 1.5", gnii(0, [1, -1], ball(1.5)), optimal([-0.62, 0.62], [-1, 1]), is_(-(2 ** (1 / 3))),
        "(0.62, 0.62) is inside: 1.6 % short",
    ),
    wrong(
        5, "p = 1.5, one coordinate", gnii(0, [1, -1], ball(1.5)), optimal([-1, 0], [-1, 1]), is_(-(2 ** (1 / 3))),
        "both coordinates together reach more",
    ),
    wrong(5, "p = 3", gnii(0, [4, -1], ball(3)), optimal([-1, 0], [-4, 1]), is_(-(9 ** (2 / 3))), "−4 is not −4.33"),
    wrong(
        5, "p = 10 in a box", gnii(0, [1, 1], ball(10), box(-0.5, INF)), optimal([-0.5, -0.4], ZERO, [-1, -1]), is_(-1),
        "η₂ may go to −0.5",
    ),
    wrong(
        5, "knapsack, too little", gnii(0, [3, -2, 1], ball(1), box(-0.6, 0.6)),
        optimal([-0.6, 0, 0], [-2, 2, -1], [-1, 0, 0]), is_(-2.6), "0.4 of the budget is left",
    ),
    wrong(
        5, "knapsack, the wrong order", gnii(0, [3, -2, 1], ball(1), box(-0.6, 0.6)),
        optimal([-0.4, 0.6, 0], [-2, 2, -1], [-1, 0, 0]), is_(-2.6), "the dearest coordinate first",
    ),
    wrong(
        5, "circle and box, not filled", gnii(0, [3, 4], ball(2), box([-1, -0.6], [1, 0.6])),
        optimal([-0.6, -0.6], [-3, -2.25], [0, -1.75]), is_(-4.8), "η₁ may go to −0.8",
    ),
    wrong(
        5, "a narrow box far away", gnii(0, [1, 1], box([1e15, -10], [1e15 + 1, 10])),
        optimal([1e15, 0], [-1, -1]), is_(1e15 - 10), "η₂ = 0 is half way; 1e15 is rounded by 0.1",
    ),
    wrong(
        5, "a narrow box far away, the worst point", gnii(0, [1, 1], box([1e8, -1e-7], [1e8 + 1e-7, 1e-7])),
        optimal([1e8, 1e-7], [-1, -1]), is_(1e8 - 1e-7), "η₂ has the wrong sign, in a box of its own size",
    ),
)  # fmt: skip
