"""Rule 4: a violation is in units of the row it violates; scaling a set's text changes no verdict."""

from __future__ import annotations

import cvxpy as cp

from verification.judge.spec import (
    INF,
    Piece,
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
    interval_rows,
    min_norm,
    off_centre,
    operator,
    optimal,
    pixels,
    said,
    support,
    total_variation,
    weighted,
)  # fmt: skip
from verification.judge.wrong.row import Row, falls, is_, none, wrong

__all__ = ["ROWS"]

BEYOND = "a thousandth beyond the row"
SIZES = (1e-12, 1e-8, 1.0, 1e8, 1e12)
CUBE = ball(INF)


def _halfspace(size: float) -> Row:
    """η₁ ≥ −1/2 in other units, and η₁ = −0.501."""
    spec = gnii(0, [1, 1], CUBE, halfspaces([[-size, 0]], [0.5 * size]))
    return wrong(4, f"a halfspace times {size:g}", spec, optimal([-0.501, -1], [0, -1], [1 / size]), is_(-1.5), BEYOND)


def _equality(size: float) -> Row:
    """η₁ + η₂ = 1/2 in other units, and a sum of 0.499."""
    spec = gnii(0, [1, 0], CUBE, affine([[size, size]], [0.5 * size]))
    return wrong(4, f"an equality times {size:g}", spec, optimal([-0.501, 1], [0, 1], [-1 / size]), is_(-0.5), BEYOND)


def _rows(size: float) -> Row:
    """−1 ≤ η₁ + η₂ ≤ 1 in other units."""
    spec = gnii(0, [1, 1], CUBE, interval_rows([[size, size]], [-size], [size]))
    return wrong(
        4, f"interval rows times {size:g}", spec, optimal([-0.501, -0.501], [0, 0], [-1 / size]), is_(-1), BEYOND
    )


def _text(size: float) -> Piece:
    return custom(lambda eta: [size * eta[0] >= -0.5 * size], halfspaces([[-1, 0]], [0.5]))


def _custom(size: float) -> Row:
    """A user's text in other units."""
    spec = gnii(0, [1, 1], CUBE, _text(size))
    return wrong(4, f"a text times {size:g}", spec, optimal([-0.501, -1]), is_(-1.5), BEYOND)


def _ball(size: float) -> Row:
    """A ball in other units."""
    spec = gnii(0, [3, 4], ball(2, size))
    return wrong(
        4, f"a ball times {size:g}", spec, optimal([-0.6006 * size, -0.8008 * size], [-3, -4]), is_(-5 * size), BEYOND
    )


def _weighted(size: float) -> Row:
    """A weight of `size` on one entry."""
    spec = gnii(0, [1, 1], weighted(INF, [size, 1], 1))
    return wrong(
        4, f"a weight of {size:g}", spec, optimal([-1.001 / size, -1], [-1 / size, -1]), is_(-1 - 1 / size), BEYOND
    )


def _two(size: float) -> Row:
    """A user's text of two blocks in unlike units: the smaller one is violated."""
    same = box([-0.5, -0.5], [INF, INF])
    piece = custom(lambda eta: [size * eta[0] >= -0.5 * size, eta[1] / size >= -0.5 / size], same)
    spec = gnii(0, [1, 1], CUBE, piece)
    return wrong(
        4, f"a text of two units, {size:g}", spec, optimal([-0.5, -0.51]), is_(-1), "a hundredth beyond the row"
    )


FLAT = custom(lambda eta: [cp.abs(eta[1]) <= 1e-3], box([-INF, -1e-3], [INF, 1e-3]))
EMPTY = "the box is empty: no η has both entries in it"
ROWS = (
    *map(_halfspace, SIZES), *map(_equality, SIZES), *map(_rows, SIZES), *map(_custom, (1e-6, 1.0, 1e6)),
    *map(_ball, (1e-12, 1e12)),
    *map(_weighted, (1e-6, 1e6)), *map(_two, (1e-4, 1e4)),
    wrong(
        4, "|η₂| ≤ 1e-3 beside 1e9", gnii(0, [0, 1], box([-1e9, -1e-3], [1e9, 1e-3])), optimal([0, -0.9], [0, -1]),
        is_(-1e-3), "η₂ = −0.9, 900 times too large",
    ),
    wrong(
        4, "|η₂| ≤ 1e-3 beside 1e9, used", gnii(0, [1, 1], box([-1e9, -1e-3], [1e9, 1e-3])),
        optimal([-1e9, -0.9], [-1, -1]), is_(-1e9 - 1e-3), "η₂ = −0.9, 900 times too large",
    ),
    wrong(
        4, "the same as halfspaces",
        gnii(0, [0, 1], ball(INF, 1e9), halfspaces([[0, 1], [0, -1]], [1e-3, 1e-3]), box([-1e9, -1], [1e9, 1])),
        optimal([0, -0.9], [0, 0], [0, 1], [0, 0]), is_(-1e-3), "η₂ = −0.9, 900 times too large",
    ),
    wrong(
        4, "the same as a text",
        gnii(0, [0, 1], box([-1e9, -1], [1e9, 1]), FLAT),
        optimal([0, -0.9]), is_(-1e-3), "η₂ = −0.9, 900 times too large",
    ),
    wrong(
        4, "the same weighted", gnii(0, [0, 1], weighted(INF, [1e-9, 1e3], 1)), optimal([0, -0.9], [0, -1e-3]),
        is_(-1e-3), "η₂ = −0.9, 900 times too large",
    ),
    wrong(
        4, "an empty box", gnii(0, [1, 1], box([-1, 1], [1, -1])), optimal([-1, 0], [-1, -1]), none(), EMPTY,
        raises=True,
    ),
    wrong(
        4, "a box empty by 1e-3 beside 1e9", gnii(0, [1, 1], box([-1e9, 1e-3], [1e9, -1e-3])),
        optimal([-1e9, 0], [-1, -1]), none(), EMPTY, raises=True,
    ),
    wrong(
        4, "a box empty by 1e-3 beside 1e9, (8)", min_norm(-1, [1, 1], 2, box([-1e9, 1e-3], [1e9, -1e-3])),
        optimal([0, 0], 0, [0, 0]), none(), EMPTY, raises=True,
    ),
    wrong(
        4, "two boxes with nothing in common", gnii(0, [1, 1], box([-1e9, 1], [1e9, 2]), box([-1e9, -2], [1e9, -1])),
        optimal([-1e9, 0], [-1, -1], [0, 0]), none(), EMPTY,
    ),
    wrong(
        4, "a small ball in a wide box", gnii(0, [1, 0], ball(2, 1e-6), box(-1e6, 1e6)),
        optimal([-1.1e-6, 0], [-1, 0], [0, 0]), is_(-1e-6), "a tenth outside the ball",
    ),
    wrong(
        4, "a small box in a wide ball", gnii(0, [1, 0], ball(2, 1e6), box(-1e-6, 1e-6)),
        optimal([-1.1e-6, 0], [0, 0], [-1, 0]), is_(-1e-6), "a twentieth outside the box",
    ),
    wrong(
        4, "a halfspace across a flat box",
        gnii(0, [0, -1], box([-1e9, -1e-3], [1e9, 1e-3]), halfspaces([[0, 1]], [0])), optimal([0, 5e-4], [0, 0], [1]),
        is_(0), "a quarter of all that η₂ can move",
    ),
    wrong(
        4, "an equality across a flat box", gnii(0, [0, -1], box([-1e9, -1e-3], [1e9, 1e-3]), affine([[0, 1]], [0])),
        optimal([0, 5e-4], [0, 0], [1]), is_(0), "a quarter of all that η₂ can move",
    ),
    wrong(
        4, "a mask in a small ball", gnii(0, [0, 1], ball(2, 1e-3), support([True, False])),
        optimal([0, -1e-6], [0, 0], [0, -1]), is_(0), "1e-6 of 2e-3 where nothing may change",
    ),
    wrong(
        4, "a mask in a ball of 1e-9", gnii(0, [0, 1], ball(2, 1e-9), support([True, False])),
        optimal([0, -1e-10], [0, 0], [0, -1]), is_(0), "a tenth of the radius where nothing may change",
    ),
    wrong(
        4, "a mask and nothing else", gnii(0, [0, 1], support([True, False])), optimal([0, -1e-7], [0, -1]), is_(0),
        "η₂ must be 0 and nothing gives it a unit",
    ),
    wrong(
        4, "a mask and a huge claim", gnii(0, [0, 1], support([True, False])), optimal([1e12, -1e-3], [0, -1]), is_(0),
        "the size of the claimed η₁ is no unit",
    ),
    wrong(
        4, "a width of 1e-9 beside 1", gnii(0, [1, 1], box([-1, -1e-9], [1, 1e-9])), optimal([-1, -1e-7], [-1, -1]),
        is_(-1 - 1e-9), "η₂ is a hundred times too large",
    ),
    wrong(
        4, "a width of 0 beside 1", gnii(0, [0, 1], box([-1, 0], [1, 0])), optimal([0, -1e-4], [0, -1]), is_(0),
        "η₂ must be 0, and no other set gives it a unit",
    ),
    wrong(4, "a halfspace alone", gnii(0, [1], halfspaces([[-1]], [1])), optimal([-1.001], [1]), is_(-1), BEYOND),
    wrong(
        4, "a halfspace alone, far", gnii(0, [1], halfspaces([[-1e-6]], [1])), optimal([-1.001e6], [1e6]), is_(-1e6),
        BEYOND,
    ),
    wrong(
        4, "a halfspace through 0 alone", gnii(0, [1], halfspaces([[-1]], [0])), optimal([-1e-9], [1]), is_(0),
        "nothing gives the row a unit: it is not met",
    ),
    wrong(
        4, "an equality through 0 alone", gnii(0, [1, 1], affine([[1, 1]], [0])), optimal([-1, 1 - 1e-9], [-1]), is_(0),
        "nothing gives the row a unit: it is not met",
    ),
    wrong(
        4, "contradictory halfspaces", gnii(0, [1, 0], CUBE, halfspaces([[1, 0], [-1, 0]], [-0.5, -0.5])),
        optimal([0, 0], [0, 0], [0, 1]), none(), "η₁ ≤ −1/2 and η₁ ≥ 1/2",
    ),
    wrong(
        4, "contradictory halfspaces, 1e-6 each",
        gnii(0, [1, 0], CUBE, halfspaces([[1e-6, 0], [-1e-6, 0]], [-1e-9, -1e-9])), optimal([0, 0], [0, 0], [0, 1e6]),
        none(), "η₁ ≤ −1e-3 and η₁ ≥ 1e-3",
    ),
    wrong(
        4, "contradictory equalities", gnii(0, [1, 0], CUBE, affine([[1, 0], [1, 0]], [0.25, -0.25])),
        optimal([0, 0], [0, 0], [-0.5, -0.5]), none(), "η₁ = 1/4 and η₁ = −1/4",
    ),
    wrong(
        4, "a pixel at 0", gnii(0, [1, 1], pixels([0.0, 0.5])), optimal([-0.001, -0.5], [-1, -1]), is_(-0.5),
        "the first pixel would be −0.001",
    ),
    wrong(
        4, "a pixel at 1", gnii(0, [-1, 1], pixels([1.0, 0.5])), optimal([0.001, -0.5], [1, -1]), is_(-0.5),
        "the first pixel would be 1.001",
    ),
    wrong(
        4, "bytes", gnii(0, [1, 1], pixels([3.0, 128.0], 0, 255)), optimal([-3.3, -128], [-1, -1]), is_(-131),
        "the first byte would be −0.3",
    ),
    wrong(
        4, "a group", gnii(0, [3, 4, 0, 1], group([0, 0, 1, 1], 1)), optimal([-0.6006, -0.8008, 0, 0], [-3, -4, 0, -1]),
        is_(-5), BEYOND,
    ),
    wrong(
        4, "a group beside a group", gnii(0, [3, 4, 0, 1], group([0, 0, 1, 1], 1, INF)),
        optimal([-0.6, -0.8, 0, -1.001], [-3, -4, 0, -1]), is_(-6), BEYOND,
    ),
    wrong(
        4, "total variation", gnii(0, [1, -1], CUBE, total_variation((1, 2), 0.5)),
        optimal([-0.2505, 0.2505], [0, 0], [1]), is_(-0.5), BEYOND,
    ),
    wrong(
        4, "a ball off centre", gnii(0, [1, 0], off_centre(2, 1, [1e6, 0])), optimal([999998.9, 0], [-1, 0]),
        is_(999999), "a tenth outside the ball, whose centre is far",
    ),
    wrong(
        4, "radius 0", gnii(0, [1, 0], ball(2, 0)), optimal([-1e-9, 0], [-1, 0]), is_(0),
        "only 0 is in a ball of radius 0",
    ),
    wrong(
        4, "radius 0 beside a box", gnii(0, [1, 0], ball(INF, 0), box(-1, 1)), optimal([-1e-4, 0], [-1, 0], [0, 0]),
        is_(0), "only 0 is in a ball of radius 0",
    ),
    wrong(
        4, "radius 0, (GN)", gn(1e-10, [1, 0], ball(1, 0)), feasible([-1e-9, 0], [-1, 0]), none(1e-10),
        "only 0 is in a ball of radius 0",
    ),
    wrong(
        4, "radius 0, hinges", hinges([1], [[1, 0]], ball(2, 0)), optimal([-1, 0], [0], [0, 0]), is_(1),
        "only 0 is in a ball of radius 0",
    ),
    wrong(
        4, "radius 0, (9)", operator([[1, 2]], ball(2, 0)), said("BRACKETED", [1e-9, 0], [1, 1], [[1]]), is_(0),
        "only 0 is in a ball of radius 0",
    ),
    wrong(
        4, "(8)'s own row", min_norm(1, [1, 0], 2, box(-1e9, 1e9)), optimal([-0.999, 0], 1, [0, 0]), is_(1),
        "L + gᵀη = 0.001, and |L| = 1",
    ),
    wrong(
        4, "(8)'s own row, small", min_norm(1e-6, [1, 0], 2, box(-1e9, 1e9)), optimal([-9e-7, 0], 1, [0, 0]), is_(1e-6),
        "a tenth of L is left",
    ),
    wrong(
        4, "(8)'s own row, L = 0", min_norm(0, [1, 0], 2, box([1e-3, -1], [1, 1])), optimal([1e-3, 0], 0, [-1, 0]),
        none(), "gᵀη ≥ 1e-3 over the box",
    ),
    wrong(
        4, "(8) outside its box", min_norm(1, [1, 1], 2, box([-0.4, -1], [1, 1])),
        optimal([-0.5, -0.5], 2**-0.5, [0, 0]), is_(0.52**0.5), "η₁ = −0.5 < −0.4",
    ),
    wrong(
        4, "hinges outside their box", hinges([1, 1], [[1, 0], [0, 1]], box([-1, -1e-3], [1, 1e-3])),
        optimal([-1, -0.9], [0, 1], [0, -1]), is_(0.999), "η₂ = −0.9, 900 times too large",
    ),
    wrong(
        4, "(9) outside its ball", operator([[1, 0], [0, 1e-3]], ball(INF)),
        said("BRACKETED", [1.001, 1], [1, 1e-3], [[1], [0]]), is_(1.0000005), BEYOND,
    ),
    wrong(
        4, "(9) outside, OPTIMAL", operator([[3, 4]], ball(2)), optimal([0.6006, 0.8008], [1, 1], [[1]]), is_(5),
        BEYOND,
    ),
    wrong(
        4, "a far corner of an ℓ1 ball", gnii(0, [1, 1], ball(1), box(-1, 1)), optimal([-1, -1], [-1, -1], [0, 0]),
        is_(-1), "‖η‖₁ = 2",
    ),
    wrong(
        4, "p = 3, a thousandth", gnii(0, [4, -1], ball(3)), optimal([-0.9624, 0.4812], [-4, 1]), is_(-(9 ** (2 / 3))),
        BEYOND,
    ),
    wrong(
        4, "two coordinates of 1e±9", gnii(0, [1e-9, 1e9], box([-1e9, -1e-9], [1e9, 1e-9])),
        optimal([-1e9, -2e-9], [-1e-9, -1e9]), is_(-2), "η₂ is twice too large",
    ),
    wrong(
        4, "no row is met", gnii(0, [1, 1], affine([[1, 0], [0, 1]], [1, 1])), optimal([0, 0], [-1, -1]), is_(2),
        "η must be (1, 1)",
    ),
    wrong(
        4, "inconsistent with the ball", gnii(0, [1, 1], ball(2), affine([[1, 1]], [2])),
        optimal([-0.7071, -0.7071], [-1, -1], [0]), none(), "the line misses the ball",
    ),
    wrong(
        4, "unmet by an unbounded program", gnii(0, [1, 0], halfspaces([[0, 1]], [-1])), optimal([0, 0], [0]), falls(),
        "η₂ ≤ −1 is not met, and η₁ is free",
    ),
)  # fmt: skip
