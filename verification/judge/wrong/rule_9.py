"""Rule 9: exact=True inherits nothing from float64. What is true up to rounding is not PROVED."""

from __future__ import annotations

import math

import torch

from verification.judge.spec import (
    INF,
    affine,
    ball,
    box,
    feasible,
    gn,
    gnii,
    group,
    halfspaces,
    hinges,
    min_norm,
    off_centre,
    optimal,
    pixels,
    total_variation,
    weighted,
)  # fmt: skip
from verification.judge.wrong.row import exact_only, is_, met, none, wrong

__all__ = ["ROWS"]

UP = math.nextafter
CIRCLE = gnii(0, [3, 4], ball(2))
THIRD = 1 / 3  # below 1/3
ULP = "outside by one unit in the last place: ROUNDING at most"
ULPS = "outside by more than d units in the last place"
GAP = "a gap of 1e-9 is not that of a closed form"

ROWS = (
    exact_only(
        9, "one ulp outside a cube", gnii(0, [1], ball(INF, 0.1)), optimal([-UP(0.1, 1)], [-1]), is_(-0.1), ULP,
        "PROVED",
    ),
    exact_only(
        9, "one ulp outside a box", gnii(0, [1], box(-0.3, 0.3)), optimal([-UP(0.3, 1)], [-1]), is_(-0.3), ULP,
        "PROVED",
    ),
    exact_only(
        9, "one ulp outside a circle", gnii(0, [1, 1], ball(2)), optimal([-0.7071067811865476] * 2, [-1, -1]),
        is_(-math.sqrt(2)), ULP, "PROVED",
    ),
    exact_only(
        9, "one ulp outside an ℓ1 ball", gnii(0, [1, 1], ball(1, 0.3)), optimal([-0.1, -0.2], [-1, -1]), is_(-0.3),
        "0.1 + 0.2 > 0.3", "PROVED",
    ),
    exact_only(
        9, "one ulp beyond a halfspace", gnii(0, [1, 1], ball(INF), halfspaces([[-1, -1]], [0.3])),
        optimal([-0.1, -0.2], [0, 0], [1]), is_(-0.3), "0.1 + 0.2 > 0.3", "PROVED",
    ),
    exact_only(
        9, "one ulp off a line", gnii(0, [0, 1], ball(INF), affine([[1, 3]], [1])),
        optimal([1, 5e-17], [-1 / 3, 0], [-1 / 3]), is_(0), "η₁ + 3η₂ is not 1", "PROVED",
    ),
    exact_only(
        9, "a third of a line", gnii(0, [1, 1], box(0, 1), affine([[3, 0]], [1])),
        optimal([THIRD, 0], [0, -1], [-THIRD]), is_(1 / 3), "3·float(1/3) < 1", "PROVED",
    ),
    exact_only(
        9, "a hundred ulps outside a cube", gnii(0, [1], ball(INF, 0.1)), optimal([-0.1 * (1 + 100 * 2.0**-52)], [-1]),
        is_(-0.1), ULPS, "PROVED", "ROUNDING",
    ),
    exact_only(
        9, "a thousand ulps outside a circle", CIRCLE,
        optimal([-0.6 * (1 + 1000 * 2.0**-52), -0.8 * (1 + 1000 * 2.0**-52)], [-3, -4]), is_(-5), ULPS, "PROVED",
        "ROUNDING",
    ),
    exact_only(
        9, "float32 in a float64 program", gnii(1, [3, 4], ball(2, 0.5)),
        optimal([-0.3, -0.4], [-3, -4]).of(torch.float32), is_(-1.5), "float32(0.3) is 2e-8 above 0.3", "PROVED",
        "ROUNDING",
    ),
    exact_only(
        9, "a gap of 1e-9 in a circle", CIRCLE, optimal([-0.6 * (1 - 2e-9), -0.8 * (1 - 2e-9)], [-3, -4]), is_(-5), GAP,
        "PROVED", "ROUNDING",
    ),
    exact_only(
        9, "a gap of 1e-9 in a box", gnii(0, [1, 1], box(-1, 1)), optimal([-1, -1 + 4e-9], [-1, -1]), is_(-2), GAP,
        "PROVED", "ROUNDING",
    ),
    exact_only(
        9, "a gap of 1e-9 in (8)", min_norm(2.5, [3, 4], 2), optimal([-0.3 * (1 + 1e-9), -0.4 * (1 + 1e-9)], 0.2),
        is_(0.5), GAP, "PROVED", "ROUNDING",
    ),
    exact_only(
        9, "a gap of 1e-9 of hinges", hinges([1, 1], [[2, 0], [0, 1]], ball(INF, 0.5)),
        optimal([-0.5, -0.5 + 1e-8], [1, 1], [-2, -1]), is_(0.5), GAP, "PROVED", "ROUNDING",
    ),
    exact_only(
        9, "a gap of 1e-9 in a group", gnii(0, [3, 4, 1], group([0, 0, 1], 1)),
        optimal([-0.6 * (1 - 2e-9), -0.8 * (1 - 2e-9), 0], [-3, -4, -1]), is_(-5), GAP, "PROVED", "ROUNDING",
    ),
    exact_only(
        9, "a gap of 1e-9 under total variation", gnii(0, [1, -1], ball(INF), total_variation((1, 2), 0.5)),
        optimal([-0.25 + 2e-9, 0.25], [0, 0], [1]), is_(-0.5), GAP, "PROVED", "ROUNDING",
    ),
    exact_only(
        9, "(8) short by an ulp", min_norm(1, [3, 0], 2), optimal([-THIRD, 0], THIRD), is_(1 / 3),
        "3·float(1/3) < 1: L + gᵀη > 0", "PROVED",
    ),
    exact_only(
        9, "weights of 0.1", gnii(0, [1], weighted(INF, [0.1], 0.3)), optimal([-3.0], [-10]), is_(-3), "0.1 ∗ 3 > 0.3",
        "PROVED",
    ),
    exact_only(
        9, "a pixel of 0.1", gnii(0, [1], pixels([0.1], -0.2, 1)), optimal([-0.30000000000000004], [-1]), is_(-0.3),
        "0.1 − 0.30000000000000004 < −0.2", "PROVED",
    ),
    exact_only(
        9, "equality in (5) by an ulp", gn(UP(2.5, 9), [3, 4], ball(2, 0.5)), feasible([-0.3, -0.4], [-3, -4]),
        none(4e-16), "L is above ε‖g‖", "PROVED", "ROUNDING", "TOLERATED",
    ),
    wrong(
        9, "(GN) by float(1/3)", gn(1, [3], box(-THIRD, THIRD)), feasible([-THIRD], [-3]), none(5.6e-17),
        "1 − 3·float(1/3) > 0, which float64 rounds to 0",
    ),
    wrong(
        9, "L + gᵀη of 1e-320", gn(1e-320, [0, 0], ball(2)), feasible([0, 0], [0, 0]), none(1e-320),
        "1e-320 is not below 0",
    ),
    wrong(
        9, "L + gᵀη of −1e-320", gn(-1e-320, [0, 0], ball(2)), feasible([9, 0], [0, 0]), met(-1e-320),
        "below 0 everywhere, but this η is outside",
    ),
    wrong(
        9, "squares that vanish", gnii(0, [1, 0], ball(2, 1e-200)), optimal([-1e-199, 0], [-1, 0]), is_(-1e-200),
        "ten times too long; its square is 0 in float64",
    ),
    wrong(
        9, "squares that overflow", gnii(0, [1, 0], off_centre(2, 1e200, [0, 0])), optimal([-1e201, 0], [-1, 0]),
        is_(-1e200), "ten times too long; its square is ∞ in float64",
    ),
    wrong(
        9, "slopes that overflow", gnii(0, [1e300, 1e300], ball(INF, 1e10)), optimal([0, 0], [-1e300, -1e300]),
        is_(-math.inf), "η = 0 is half way; ε‖g‖ is ∞ in float64",
    ),
    wrong(
        9, "slopes that vanish", gnii(0, [1e-300, 0], ball(2, 1e-300)), optimal([0, 0], [-1e-300, 0]), is_(-0.0),
        "η = 0 is half way; ε‖g‖ is 0 in float64",
    ),
)  # fmt: skip
