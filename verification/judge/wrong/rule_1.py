"""Rule 1: the checker chooses. A claim in a narrow dtype is judged as strictly as the program's own dtype asks for."""

from __future__ import annotations

import torch

from verification.judge.spec import (
    INF,
    ball,
    box,
    feasible,
    gn,
    gnii,
    halfspaces,
    hinges,
    min_norm,
    operator,
    optimal,
    said,
    weighted,
)  # fmt: skip
from verification.judge.wrong.row import is_, none, wrong

__all__ = ["ROWS"]

NARROW, HALF, SINGLE = torch.bfloat16, torch.float16, torch.float32
CIRCLE = gnii(1, [3, 4], ball(2, 0.5))
TOO_LONG = "its bfloat16 numbers are rounded away from zero, out of the set"
TOO_SHORT = "a hundredth short of the optimum: no float64 answer is"

ROWS = (
    wrong(1, "bfloat16 leaves the circle", CIRCLE, optimal([-0.3, -0.4], [-3, -4]).of(NARROW), is_(-1.5), TOO_LONG),
    wrong(
        1, "bfloat16 leaves the cube", gnii(0, [1, -1], ball(INF, 0.3)), optimal([-0.3, 0.3], [-1, 1]).of(NARROW),
        is_(-0.6), TOO_LONG,
    ),
    wrong(
        1, "bfloat16 leaves the box", gnii(0, [1, 2], box(-0.3, 0.3)), optimal([-0.3, -0.3], [-1, -2]).of(NARROW),
        is_(-0.9), TOO_LONG,
    ),
    wrong(
        1, "bfloat16 leaves the ℓ1 ball", gnii(0, [1, 5], ball(1, 0.3)), optimal([0, -0.3], [-1, -5]).of(NARROW),
        is_(-1.5), TOO_LONG,
    ),
    wrong(
        1, "bfloat16 leaves the weighted ball", gnii(0, [1, 1], weighted(INF, [1, 2], 0.3)),
        optimal([-0.3, -0.15], [-1, -0.5]).of(NARROW), is_(-0.45), TOO_LONG,
    ),
    wrong(
        1, "bfloat16 leaves the halfspace", gnii(0, [-1, 0], ball(INF), halfspaces([[1, 0]], [0.3])),
        optimal([0.3, 0], [0, 0], [1]).of(NARROW), is_(-0.3), TOO_LONG,
    ),
    wrong(
        1, "bfloat16 short in the circle", CIRCLE, optimal([-0.296875, -0.396484375], [-3, -4]).of(NARROW), is_(-1.5),
        TOO_SHORT,
    ),
    wrong(
        1, "float16 short in the cube", gnii(0, [1, -1], ball(INF, 0.5)), optimal([-0.49, 0.49], [-1, 1]).of(HALF),
        is_(-1.0), TOO_SHORT,
    ),
    wrong(
        1, "float32 short by 1e-4", CIRCLE, optimal([-0.29997, -0.39996], [-3, -4]).of(SINGLE), is_(-1.5),
        "1e-4 short of the optimum",
    ),
    wrong(
        1, "float16 leaves the box by 1e-3", gnii(0, [1, 2], box(-1.1, 1.1)),
        optimal([-1.1015625, -1.1], [-1, -2]).of(HALF), is_(-3.3), "1.1015625 > 1.1",
    ),
    wrong(
        1, "bfloat16 for a float32 program", CIRCLE.of(SINGLE), optimal([-0.3, -0.4], [-3, -4]).of(NARROW), is_(-1.5),
        TOO_LONG,
    ),
    wrong(
        1, "float16 zero for a float64 program", gnii(0, [1, 0], ball(2)), optimal([0, 0], [-1, 0]).of(HALF), is_(-1.0),
        "η = 0 is the worst but one",
    ),
    wrong(
        1, "bfloat16 for (8) overshoots", min_norm(2.5, [3, 4], 2), optimal([-0.3, -0.4], 0.2).of(NARROW), is_(0.5),
        "a thousandth longer than needed",
    ),
    wrong(
        1, "bfloat16 for (8) falls short", min_norm(3.0, [3, 0], 2), optimal([-0.99609375, 0], 1 / 3).of(NARROW),
        is_(1.0), "L + gᵀη = 0.012 > 0",
    ),
    wrong(
        1, "float16 for (8), p = ∞", min_norm(3.5, [3, -4], INF), optimal([-0.5005, 0.5005], 1 / 7).of(HALF), is_(0.5),
        "a thousandth longer than needed",
    ),
    wrong(
        1, "bfloat16 η of (GN)", gn(1.5002, [3, 4], ball(2, 0.3)), feasible([-0.18, -0.2402], [-3, -4]).of(NARROW),
        none(0.0002), "outside the ball, where alone L + gᵀη < 0",
    ),
    wrong(
        1, "float16 η of hinges", hinges([1, 1], [[2, 0], [0, 1]], ball(INF, 0.5)),
        optimal([-0.5, -0.49], [1, 1], [-2, -1]).of(HALF), is_(0.5), "a hundredth above the optimum",
    ),
    wrong(
        1, "bfloat16 η of (9)", operator([[1, 2], [3, -1]], ball(2, 0.3)),
        said("BRACKETED", [-0.3, 0.01], [1, 1], [[1], [0]]).of(NARROW), is_(0.957775),
        "outside the ball by a thousandth",
    ),
    wrong(
        1, "bfloat16 η of (9), p = 1", operator([[1, 2], [3, -1]], ball(1, 0.3)),
        optimal([-0.3, 0], [1, 1], [[1], [0]]).of(NARROW), is_(0.3 * 10**0.5), "outside the ball by a thousandth",
    ),
)  # fmt: skip
