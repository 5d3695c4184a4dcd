"""Rule 3: nothing is assumed that no set says. Where the sets leave η free, a claimed η bounds nothing."""

from __future__ import annotations

import cvxpy as cp

from verification.judge.spec import (
    INF,
    Spec,
    affine,
    box,
    custom,
    gnii,
    group,
    halfspaces,
    hinges,
    interval_rows,
    min_norm,
    optimal,
    support,
    total_variation,
    unbounded,
    weighted,
)  # fmt: skip
from verification.judge.wrong.row import Row, falls, is_, wrong

__all__ = ["ROWS"]

FAR = "the optimum is −5: that η = −0.7 was claimed bounds nothing"
FREE = "nothing stops η from falling along −g"
WIDE = {
    "custom": custom(lambda eta: [cp.abs(eta) <= 5], box(-5, 5)),
    "halfspaces": halfspaces([[1], [-1]], [5, 5]),
    "one halfspace": halfspaces([[-1]], [5]),
    "one-sided box": box(-5, INF),
    "interval rows": interval_rows([[0.5]], [-2.5], [2.5]),
    "box": box(-5, 5),
    "weighted ball": weighted(2, [0.2], 1),
}


def _far(name: str) -> list[Row]:
    """η = −0.7 with no multiplier, and with a short one."""
    spec = gnii(0, [1], WIDE[name])
    rows = spec.shapes[0] if spec.shapes else None
    given = [optimal([-0.7])]
    if rows is not None:
        given += [optimal([-0.7], [u] + [0.0] * (rows[0] - 1)) for u in (0.0, -0.99)]
    return [wrong(3, f"−0.7 in {name}, {k}", spec, said, is_(-5), FAR) for k, said in enumerate(given)]


FALLING: dict[str, tuple[Spec, list[float], list[list[float]]]] = {
    "no set": (gnii(0, [1, 0]), [-1, 0], []),
    "half a box": (gnii(0, [1, 0], box(-INF, 1)), [-1, 0], [[-1, 0]]),
    "one coordinate boxed": (gnii(0, [1, 1e-13], box([-1, -INF], [1, INF])), [-1, 0], [[-1, 0]]),
    "one coordinate boxed, 1e-300": (gnii(0, [1, 1e-300], box([-1, -INF], [1, INF])), [-1, 0], [[-1, 0]]),
    "one coordinate boxed, far out": (gnii(0, [1, 1], box([-1, -INF], [1, INF])), [-1, -1e12], [[-1, 0]]),
    "a halfspace": (gnii(0, [1, 0], halfspaces([[1, 0]], [1])), [-1, 0], [[0]]),
    "a slanted halfspace": (gnii(0, [1, 1.000001], halfspaces([[-1, -1]], [1])), [-0.5, -0.5], [[1]]),
    "an equality": (gnii(0, [1, 0], affine([[1, 1]], [0])), [-1, 1], [[-1]]),
    "a mask": (gnii(0, [1, 1], support([True, False])), [-1, 0], [[0, -1]]),
    "total variation": (gnii(0, [1, 1], total_variation((1, 2), 0.5)), [-1, -1], [[0]]),
    "total variation, nearly balanced": (gnii(0, [1, -0.999999], total_variation((1, 2), 0.5)), [-0.25, 0.25], [[1]]),
    "custom": (gnii(0, [1, 0], custom(lambda eta: [eta[1] <= 1], halfspaces([[0, 1]], [1]))), [-1, 0], []),
}


def _falling(name: str) -> list[Row]:
    spec, eta, u = FALLING[name]
    return [wrong(3, f"falls, {name}", spec, optimal(eta, *u), falls(), FREE)]


ROWS = (
    *(row for name in WIDE for row in _far(name)),
    *(row for name in FALLING for row in _falling(name)),
    wrong(
        3, "a flat halfspace far away", gnii(0, [1], halfspaces([[-1e-9]], [1])), optimal([-0.7], [0]), is_(-1e9),
        "the halfspace lies at −1e9",
    ),
    wrong(3, "a huge box", gnii(0, [1], box(-1e12, 1e12)), optimal([-0.7], [0]), is_(-1e12), "the box lies at −1e12"),
    wrong(
        3, "a huge box, u short by 1e-3", gnii(0, [1], box(-1e12, 1e12)), optimal([-0.7], [-0.999]), is_(-1e12),
        "the box lies at −1e12",
    ),
    wrong(3, "hinges without a set", hinges([1], [[1]]), optimal([0], [1]), is_(0), "η = −1 reaches 0"),
    wrong(
        3, "hinges without a set, u = 0.5", hinges([1, 1], [[1], [-1]]), optimal([3], [0.5, 0.5]), is_(2),
        "the value is 4 at η = 3, and 2 in between",
    ),
    wrong(
        3, "hinges over half a box", hinges([1], [[1]], box(-INF, 0)), optimal([0], [1], [0]), is_(0),
        "η = −1 reaches 0",
    ),
    wrong(
        3, "hinges over a halfspace", hinges([1], [[1]], halfspaces([[1]], [0])), optimal([-0.5], [0.5], [0]), is_(0),
        "η = −1 reaches 0",
    ),
    wrong(
        3, "a group free", gnii(0, [1, 1, 1], group([0, 0, 0], 1), box([-1, -1, -1], INF)),
        optimal([0, 0, -0.5], [0, 0, -1], [-1, -1, 0]), is_(-(3**0.5)), "it is −√3",
    ),
    wrong(
        3, "(8) with a short multiplier", min_norm(1, [1, 0], 2), optimal([-3, 0], 1), is_(1),
        "three times as long as needed",
    ),
    wrong(
        3, "(8) with λ too large", min_norm(1, [1, 0], 2), optimal([-3, 0], 3), is_(1), "‖λg‖₂ = 3 > 1 proves nothing",
    ),
    wrong(
        3, "(8) over half a box", min_norm(1, [1, 0], 1, box(-INF, INF)), optimal([-3, 0], 3, [-2, 0]), is_(1),
        "a multiplier where there is no bound",
    ),
    wrong(
        3, "a weight of 0", gnii(0, [1, 1], weighted(2, [1, 0], 1)), optimal([-1, 0], [-1, 0]), falls(),
        "η₂ has no weight, hence no bound", raises=True,
    ),
    wrong(
        3, "a bounded program said to fall", gnii(0, [1], WIDE["custom"]), unbounded([0], [-1]), is_(-5),
        "the text bounds η₁",
    ),
)  # fmt: skip
