"""Rule 6: a point outside buys nothing. Half a millionth outside a ball that touches a box bought a thousandth."""

from __future__ import annotations

import torch

from verification.judge.spec import (
    INF,
    NAN,
    Spec,
    affine,
    ball,
    box,
    custom,
    feasible,
    gn,
    gnii,
    group,
    halfspaces,
    hinges,
    min_norm,
    off_centre,
    optimal,
    unbounded,
    weighted,
)  # fmt: skip
from verification.judge.wrong.row import Row, exact_only, is_, met, none, wrong

__all__ = ["ROWS"]

NARROW = torch.bfloat16
BUYS = "the two sets have one point in common, (1, 0): 5e-7 outside the ball buys 1e-3 of η₂"
DOOR = box([1, -1], [2, 1])  # it touches the circle in (1, 0)
SETS = {
    "a box": (ball(2), DOOR),
    "a halfspace": (ball(2), halfspaces([[-1, 0]], [-1])),
    "an equality": (ball(2), affine([[1, 0]], [1])),
    "a small text": (ball(2), custom(lambda eta: [1e-3 * eta[0] >= 1e-3], halfspaces([[-1, 0]], [-1]))),
    "another circle": (ball(2), off_centre(2, 1, [2, 0])),
    "a group": (group([0, 0], 1), DOOR),
    "a weighted ball": (weighted(2, [2, 2], 2), DOOR),
    "a ball of p = 3": (ball(3), DOOR),
    "a ball of p = 1.5": (ball(1.5), DOOR),
}
FULL = ("a box", "a halfspace", "an equality", "a small text")  # with these every kind of claim is tried
STEP = {"a ball of p = 3": 1e-2, "a ball of p = 1.5": 1e-4}


def _touching(name: str) -> list[Row]:
    """Every kind of claim with the point that is not in the ball."""
    sets, step = SETS[name], STEP.get(name, 1e-3)
    out = [1, -step]
    told = {"inside": (1.0, 0.0)}
    rows = [
        (gnii(0, [0, 1], *sets), optimal(out), is_(0)),
        (gnii(0, [0, 1], *sets), optimal(out, **told), is_(0)),
        (gn(step / 2, [0, 1], *sets), feasible(out), none(step / 2)),
        (gn(step / 2, [0, 1], *sets), feasible(out, inside=(1.5, 0.0)), none(step / 2)),
        (min_norm(step / 2, [0, 1], 2, *sets), optimal(out), none()),
        (hinges([1], [[0, 1 / step]], *sets), optimal(out), is_(1)),
    ]
    return [
        wrong(6, f"touching {name}, {spec.kind} {k}", spec, said, right, BUYS)
        for k, (spec, said, right) in enumerate(rows)
        if name in FULL or k in (0, 2)
    ]


LENS: Spec = gnii(0, [1, 0], ball(2), halfspaces([[-1, 0]], [0.5]))  # η₁ ≥ −1/2
LIES = {
    "outside the ball": (3.0, 0.0),
    "outside the halfspace": (-0.9, 0.0),
    "η itself": (-0.6, 0.0),
    "NaN": (NAN, 0.0),
    "infinite": (INF, 0.0),
    "far": (1e300, 1e300),
}


def _lies() -> list[Row]:
    """An `inside` that is not inside, beside a point that is not either, or is too short."""
    rows = []
    for name, point in LIES.items():
        why = f"the point that is said to be inside is {name}"
        for eta in ([-0.6, 0], [-0.4, 0]):
            said = optimal(eta, [0, 0], [1], inside=point)
            rows.append(wrong(6, f"inside is {name}, η₁ = {eta[0]}", LENS, said, is_(-0.5), why))
    return rows


FAR = box([1e11, -1e11, -1], [1e11, -1e11, 1]), affine([[1, 1, 1]], [0])
APART = halfspaces([[1, 1, 0], [-1, -1, 0]], [0, -1e-9]), box([1e8, -INF, -INF], [1e8, INF, INF])
HAIR = "empty by a hair: nothing is inside, so that nothing can be optimal"
ROWS = (
    *(row for name in SETS for row in _touching(name)),
    *_lies(),
    wrong(
        6, "two boxes apart by 1e-8", gnii(0, [0, 1], box([0, -1], [1, 1]), box([1 + 1e-8, -1], [2, 1])),
        optimal([1, -1], [0, -1], [0, 0]), none(), HAIR,
    ),
    wrong(
        6, "ball and box apart by 1e-8", gnii(0, [0, 1], ball(2), box([1 + 1e-8, -1], [2, 1])),
        optimal([1, 0], [0, -1], [0, 0]), none(), HAIR,
    ),
    wrong(
        6, "halfspaces apart by 1e-8", gnii(0, [0, 1], ball(INF), halfspaces([[1, 0], [-1, 0]], [0, -1e-8])),
        optimal([0, -1], [0, -1], [0, 0]), none(), HAIR,
    ),
    wrong(
        6, "a box empty by 1e-8", gnii(0, [0, 1], ball(INF), box([1e-8, -1], [0, 1])),
        optimal([0, -1], [0, -1], [0, 0]), none(), HAIR, raises=True,
    ),
    wrong(
        6, "apart by 1e-8, (GN)", gn(0, [0, 1], box([0, -1], [1, 1]), box([1 + 1e-8, -1], [2, 1])),
        feasible([1, -1], [0, -1], [0, 0]), none(), HAIR,
    ),
    wrong(
        6, "apart by 1e-8, (8)", min_norm(0.5, [0, 1], 2, box([0, -1], [1, 1]), box([1 + 1e-8, -1], [2, 1])),
        optimal([1, -0.5]), none(), HAIR,
    ),
    wrong(
        6, "apart by 1e-8, hinges", hinges([0], [[0, 1]], box([0, -1], [1, 1]), box([1 + 1e-8, -1], [2, 1])),
        optimal([1, -1], [0], [0, 0], [0, 0]), none(), HAIR,
    ),
    wrong(
        6, "(8), out of reach by 1e-8", min_norm(2 + 1e-8, [1, 1], 2, box(-1, 1)), optimal([-1, -1], 1, [0, 0]), none(),
        "L + gᵀη ≥ 1e-8 over the box",
    ),
    wrong(
        6, "equality beside the ball by 1e-8", gnii(0, [0, 1], ball(2), affine([[1, 0]], [1 + 1e-8])),
        optimal([1, 0], [0, -1], [0]), none(), HAIR,
    ),
    wrong(
        6, "(GN) by a forgiven step", gn(1 + 1e-8, [1, 0], ball(2)), feasible([-1 - 1e-7, 0], [-1, 0]), none(1e-8),
        "only 1e-7 outside the ball is L + gᵀη < 0",
    ),
    wrong(
        6, "(GN) by a forgiven step, box", gn(2 + 1e-8, [1, 1], box(-1, 1)), feasible([-1 - 1e-7, -1 - 1e-7], [-1, -1]),
        none(1e-8), "only 1e-7 outside the box is L + gᵀη < 0",
    ),
    wrong(
        6, "(GN) by a forgiven step, p = 1", gn(4 + 1e-8, [3, -4], ball(1)), feasible([0, 1 + 1e-7], [-3, 4]),
        none(1e-8), "only 1e-7 outside the ball is L + gᵀη < 0",
    ),
    wrong(
        6, "(GN) on a line, by a forgiven step", gn(1e-8, [1, 1], ball(INF), affine([[1, 1]], [0])),
        feasible([-1e-7, 0], [0, 0], [-1]), none(1e-8), "only beside the line is L + gᵀη < 0",
    ),
    wrong(
        6, "a needle's tip", gnii(0, [0, -1], ball(INF), halfspaces([[1, 1e-5], [-1, 1e-5]], [0, 0])),
        optimal([0, 0.05], [0, 0], [5e4, 5e4]), is_(0), "5e-7 outside two halfspaces, 0.05 beyond their tip",
    ),
    wrong(
        6, "a needle's tip, told", gnii(0, [0, -1], ball(INF), halfspaces([[1, 1e-5], [-1, 1e-5]], [0, 0])),
        optimal([0, 0.05], [0, 0], [5e4, 5e4], inside=(0.0, -1.0)), is_(0),
        "5e-7 outside two halfspaces, 0.05 beyond their tip",
    ),
    wrong(
        6, "a needle's tip, (GN)", gn(0.01, [0, -1], ball(INF), halfspaces([[1, 1e-5], [-1, 1e-5]], [0, 0])),
        feasible([0, 0.05], [0, 0], [5e4, 5e4]), none(0.01), "only beyond the tip is L + gᵀη < 0",
    ),
    wrong(
        6, "(GN) by the blur of a far equality", gn(5e-7, [0, 0, 1], *FAR),
        feasible([1e11, -1e11, -1e-6], [0, 0, 0], [0]), none(5e-7), "η₁ + η₂ + η₃ = 0 leaves η₃ = 0",
    ),
    wrong(
        6, "(GN) by the blur of a ball", gn(1e-7, [1, 0], ball(2), box([-1, 1], [1, 1])),
        feasible([-1.5e-7, 1], [0, 0], [0, 0]), none(1e-7), "only (0, 1) is in both; 1e-14 outside buys 1.5e-7",
    ),
    wrong(
        6, "(GN) by the blur of a ball, p = 3", gn(1e-5, [1, 0], ball(3), box([-1, 1], [1, 1])),
        feasible([-2e-5, 1], [0, 0], [0, 0]), none(1e-5), "only (0, 1) is in both; 3e-15 outside buys 2e-5",
    ),
    wrong(
        6, "falls beside a far equality", gnii(0, [0, 0, 1], *APART),
        unbounded([1e8, -1e8, 0], [0, 0, -1], [0, 0], [0, 0, 0]), none(), "the two halfspaces are 1e-9 apart",
    ),
    wrong(
        6, "(GN) at another point than η", gn(1e-7, [1, 0], ball(INF), halfspaces([[1, 0]], [-1e-6])),
        feasible([0, 0], [-1, 0], [0], inside=(-0.5, 0.0)), met(-1 + 1e-7), "L + gᵀη = 1e-7 at this η",
    ),
    wrong(
        6, "(GN) at another point, bfloat16", gn(0.05, [1, 0], ball(INF), halfspaces([[1, 0]], [-0.19])).of(NARROW),
        feasible([0, 0], [-1, 0], [0], inside=(-0.5, 0.0)), met(-0.95), "L + gᵀη = 0.05 at this η",
    ),
    exact_only(
        6, "a hair outside", gnii(0, [3, 4], ball(2)), optimal([-0.6 - 1e-9, -0.8], [-3, -4]), is_(-5),
        "1e-9 outside: TOLERATED at most", "PROVED", "ROUNDING",
    ),
)  # fmt: skip
