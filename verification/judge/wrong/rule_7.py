"""Rule 7: one item, one verdict. What is not a number proves nothing, and one such item never harms its neighbours."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch

import convexattack as ca
from verification.judge.spec import (
    INF,
    NAN,
    Said,
    Spec,
    affine,
    ball,
    box,
    bracketed,
    custom,
    feasible,
    gn,
    gnii,
    group,
    halfspaces,
    hinges,
    infeasible,
    min_norm,
    operator,
    optimal,
    said,
    support,
    total_variation,
    unbounded,
    undecided,
)  # fmt: skip
from verification.judge.wrong.row import Right, Row, falls, is_, made, met, none, wrong

__all__ = ["ROWS"]

ZERO = [0, 0]
CUBE = ball(INF)
ON_CIRCLE = gnii(1, [3, 4], ball(2))
J = [[1.0, 2.0], [3.0, -1.0]]
W = [[1.0, 0.0], [0.0, 1.0]]
CUBE_TOP = is_(17**0.5)
THERE = "0 is in all sets: there is an η"

# --- INFEASIBLE ------------------------------------------------------------------------------------------------------

PLAIN: dict[str, tuple[Spec, Right]] = {
    "ball": (gnii(1, [3, 4], ball(2)), is_(-4)),
    "box": (gnii(1, [3, 4], box(-1, 1)), is_(-6)),
    "halfspace": (gnii(1, [3, 4], halfspaces([[-3, -4]], [1])), is_(0)),
    "(GN)": (gn(1, [3, 4], ball(2)), met(-4)),
    "(8)": (min_norm(1, [3, 4], 2), is_(0.2)),
    "hinges": (hinges([1], [[3, 4]], ball(2, 0.1)), is_(0.5)),
}
SIZES = (0.0, 1.0, -1.0, 1e9, -1e9, 1e300, -1e300, INF, -INF, NAN)


def _filled(spec: Spec, entry: float) -> tuple[Any, ...]:
    """Multipliers that are one number throughout."""
    return tuple(torch.full(shape, entry, dtype=torch.float64).tolist() for shape in spec.shapes or [])


def _said_empty(name: str) -> list[Row]:
    """INFEASIBLE with multipliers of every size, η hidden and η shown."""
    spec, right = PLAIN[name]
    rows = []
    for entry in SIZES:
        u = _filled(spec, entry)
        rows.append(wrong(7, f"{name} said to be empty, u = {entry:g}", spec, infeasible(spec.d, *u), right, THERE))
    shown = said("INFEASIBLE", ZERO, *_filled(spec, 1.0))
    return [*rows, wrong(7, f"{name} said to be empty beside η = 0", spec, shown, right, THERE)]


EMPTY_CLAIMS = (
    wrong(
        7, "(8) with the norm left out", min_norm(1, [3, 4], 2), infeasible(2, 1.0), is_(0.2),
        "λL > 0 alone excludes nothing",
    ),
    wrong(
        7, "(8) with λ = 0.2", min_norm(1, [3, 4], 2), infeasible(2, 0.2), is_(0.2),
        "that proves the optimum, not that there is none",
    ),
    wrong(
        7, "(8) with λ < 0", min_norm(-1, [3, 4], 2, box(-1, 1)), infeasible(2, -1.0, [3, 4]), is_(0),
        "a negative λ proves nothing",
    ),
    wrong(
        7, "(8) with λ < 0, no set", min_norm(-1, ZERO, 2), infeasible(2, -1.0), is_(0), "a negative λ proves nothing",
    ),
    wrong(
        7, "(8) in a box, λ = 1e9", min_norm(1, [1, 0], 2, box(-1, 1)), infeasible(2, 1e9, [-1e9, 0]), is_(1),
        "η₁ = −1 meets it",
    ),
    wrong(
        7, "hinges that cannot all be met", hinges([1, 1], [[1], [-1]], ball(2)), infeasible(1, [1, 1], [0]), is_(2),
        "the demands exclude each other, the sets do not",
    ),
    wrong(
        7, "a hinge out of reach", hinges([5], [[1]], ball(2)), infeasible(1, [1], [-1]), is_(4),
        "a demand that cannot be met leaves η in the ball",
    ),
    wrong(
        7, "a hinge with u < 0", hinges([-5], [[1]], ball(2)), infeasible(1, [-1], [1]), is_(0), "u < 0 proves nothing",
    ),
    wrong(
        7, "(GN) a little below 0", gn(2.4999, [3, 4], ball(2, 0.5)), infeasible(2, [-3, -4]), met(-1e-4),
        "ε‖g‖ is above L",
    ),
    wrong(7, "(GN) far below 0", gn(-1e12, [3, 4], ball(2)), infeasible(2, [-3, -4]), met(-1e12 - 5), "η = 0 will do"),
    wrong(
        7, "(GN), u turned round", gn(1, [3, 4], box([-1, 0], [0, 0])), infeasible(2, [3, 4]), met(-2),
        "u = g is the wrong sign",
    ),
    wrong(
        7, "touching sets said to be empty", gnii(0, [0, 1], ball(2), box([1, -1], [2, 1])),
        infeasible(2, [1, 0], [-1, 0]), is_(0), "(1, 0) is in both",
    ),
    wrong(
        7, "touching boxes said to be empty", gnii(0, [0, 1], box([0, -1], [1, 1]), box([1, -1], [2, 1])),
        infeasible(2, [1, 0], [-1, 0]), is_(-1), "η₁ = 1 is in both",
    ),
    wrong(
        7, "a flat box said to be empty", gnii(0, [1, 1], box([0.1, 0.1], [0.1, 0.1])), infeasible(2, [-1, 1]),
        is_(0.2), "(0.1, 0.1) is in it",
    ),
    wrong(
        7, "an equality said to miss the ball", gnii(0, [1, 1], ball(2), affine([[3, 4]], [5])),
        infeasible(2, [3, 4], [-1]), is_(1.4), "the line touches the ball",
    ),
    wrong(
        7, "consistent equalities", gnii(0, [1, 1], CUBE, affine([[1, 1], [2, 2]], [1, 2])),
        infeasible(2, ZERO, [2, -1]), is_(1), "the second is twice the first",
    ),
    wrong(
        7, "equalities of 0.1 and 0.3", gnii(0, [1, 1], CUBE, affine([[1, 0], [3, 0]], [0.25, 0.75])),
        infeasible(2, ZERO, [3e17, -1e17]), is_(-0.75), "η₁ = 1/4 meets both",
    ),
    wrong(
        7, "halfspaces that meet", gnii(0, [1, 1], CUBE, halfspaces([[1, 0], [-1, 0]], [0, 0])),
        infeasible(2, ZERO, [1e17, 1e17]), is_(-1), "η₁ = 0 meets both",
    ),
    wrong(
        7, "halfspaces that are free", gnii(0, [1, 0], halfspaces([[1, 0], [0, 1]], [-1, -1])), infeasible(2, [1, 1]),
        falls(), "both go down without end",
    ),
    wrong(
        7, "a mask said to be empty", gnii(0, [1, 1], ball(2), support([True, False])),
        infeasible(2, [-1, 0], [0, -1e300]), is_(-1), THERE,
    ),
    wrong(
        7, "a group said to be empty", gnii(0, [1, 1, 1], group([0, 0, 1], 1), box(-1, 1)),
        infeasible(3, [-1, -1, -1], [1, 1, 1]), is_(-(2**0.5)), THERE,
    ),
    wrong(
        7, "a text said to be empty",
        gnii(0, [1, 0], CUBE, custom(lambda eta: [eta[0] <= 0], halfspaces([[1, 0]], [0]))), infeasible(2), is_(-1),
        THERE,
    ),
    wrong(
        7, "a falling program said to be empty", gnii(0, [1, 0], box(-INF, 1)), infeasible(2, [-1, 0]), falls(),
        "it falls instead",
    ),
    wrong(7, "(9) said to be empty", operator([[1, 2]], ball(2)), infeasible(2, [1, 1], [[1]]), is_(5**0.5), THERE),
)  # fmt: skip

# --- UNBOUNDED -------------------------------------------------------------------------------------------------------

NO_RAY = "no direction stays in the sets and falls"
RAYS = (
    wrong(7, "a ball said to fall", gnii(0, [3, 4], ball(2)), unbounded(ZERO, [-3, -4], [-3, -4]), is_(-5), NO_RAY),
    wrong(
        7, "a large ball said to fall", gnii(0, [3, 4], ball(2, 1e30)), unbounded(ZERO, [-3, -4], [-3, -4]), is_(-5e30),
        NO_RAY,
    ),
    wrong(
        7, "a box said to fall", gnii(0, [1, 1], box(-1e12, 1e12)), unbounded(ZERO, [-1, -1], [-1, -1]), is_(-2e12),
        NO_RAY,
    ),
    wrong(
        7, "bounded on the side that counts", gnii(0, [1, 0], box([-1, -INF], INF)), unbounded(ZERO, [-1, 0], [-1, 0]),
        is_(-1), NO_RAY,
    ),
    wrong(
        7, "a ray that costs nothing", gnii(0, [1, 0], box([-1, -INF], [1, INF])), unbounded(ZERO, [0, 1], [-1, 0]),
        is_(-1), "gᵀray = 0",
    ),
    wrong(
        7, "a ray that leaves slowly", gnii(0, [1, 0], box([-1, -INF], [1, INF])),
        unbounded(ZERO, [-1e-12, 1], [-1, 0]), is_(-1), "after 1e12 steps it is out",
    ),
    wrong(
        7, "a ray that leaves very slowly", gnii(0, [1, 0], box([-1, -INF], [1, INF])),
        unbounded(ZERO, [-1e-300, 1], [-1, 0]), is_(-1), "it leaves in the end",
    ),
    wrong(7, "a ray that rises", gnii(0, [1, 0], box(-1, INF)), unbounded(ZERO, [1, 0], [-1, 0]), is_(-1), "gᵀray > 0"),
    wrong(7, "a ray of zeros", gnii(0, [1, 0], box(-1, INF)), unbounded(ZERO, ZERO, [-1, 0]), is_(-1), "gᵀray = 0"),
    wrong(
        7, "a ray of NaN", gnii(0, [1, 0], box(-1, INF)), unbounded(ZERO, [NAN, NAN], [-1, 0]), is_(-1), "not a number",
    ),
    wrong(
        7, "an infinite ray", gnii(0, [1, 0], box([-1, -INF], INF)), unbounded(ZERO, [-INF, 0], [-1, 0]), is_(-1),
        "it leaves the box",
    ),
    wrong(
        7, "a ray along a slanted halfspace", gnii(0, [1, 1], halfspaces([[-1, -1]], [1])),
        unbounded(ZERO, [-1, 1], [1]), is_(-1), "gᵀray = 0",
    ),
    wrong(
        7, "a ray across a slanted halfspace", gnii(0, [1, 1], halfspaces([[-1, -1]], [1])),
        unbounded(ZERO, [-1 - 1e-12, 1], [1]), is_(-1), "it leaves in the end",
    ),
    wrong(
        7, "a ray across an equality", gnii(0, [1, 1], affine([[1, 1]], [0])), unbounded(ZERO, [-1 - 1e-12, 1], [-1]),
        is_(0), "it leaves at once",
    ),
    wrong(
        7, "a ray under total variation", gnii(0, [1, -1], total_variation((1, 2), 0.5)), unbounded(ZERO, [1, 1], [1]),
        is_(-0.5), "gᵀray = 0",
    ),
    wrong(
        7, "a ray across total variation", gnii(0, [1, -1], total_variation((1, 2), 0.5)),
        unbounded(ZERO, [-1, 1], [1]), is_(-0.5), "it leaves the set",
    ),
    wrong(
        7, "a ray in a custom set", gnii(0, [1, 0], custom(lambda eta: [eta[0] >= -5], halfspaces([[-1, 0]], [5]))),
        unbounded(ZERO, [-1, 0]), is_(-5), "it leaves the set",
    ),
    wrong(
        7, "a mask's ray", gnii(0, [1, 0], support([False, True])), unbounded(ZERO, [-1, 0], [-1, 0]), is_(0),
        "η₁ may not change",
    ),
    wrong(
        7, "falls from nowhere", gnii(0, [0, 1], halfspaces([[1, 0], [-1, 0]], [-1, -1])),
        unbounded(ZERO, [0, -1], [1, 1]), none(), "no point is in both halfspaces",
    ),
    wrong(
        7, "falls from nowhere, boxes", gnii(0, [0, 1], box([1, -INF], [2, INF]), box([-2, -INF], [-1, INF])),
        unbounded(ZERO, [0, -1], [-1, 0], [1, 0]), none(), "no point is in both boxes",
    ),
    wrong(
        7, "falls from a NaN", gnii(0, [1, 0], box(-1, INF)), unbounded([NAN, NAN], [-1, 0], [-1, 0]), is_(-1), NO_RAY,
    ),
    wrong(
        7, "(8) said to fall", min_norm(1, [1, 0], 2), unbounded([-1, 0], [-1, 0], 1.0), is_(1),
        "a norm is never below 0",
    ),
    wrong(
        7, "hinges said to fall", hinges([1], [[1]]), unbounded([0], [-1], [1]), is_(0),
        "a sum of hinges is never below 0",
    ),
    wrong(
        7, "(9) said to fall", operator([[1, 2]], ball(2)), unbounded(ZERO, [1, 2], [1, 1], [[1]]), is_(5**0.5),
        "the ball is bounded",
    ),
    wrong(
        7, "(GN) in a ball said to fall", gn(1, [3, 4], ball(2)), unbounded(ZERO, [-3, -4], [-3, -4]), met(-4), NO_RAY,
    ),
    wrong(
        7, "optimal where it falls", gnii(0, [1, 0], box(-INF, 1)), optimal([-1e300, 0], [-1, 0]), falls(),
        "it falls further",
    ),
    wrong(7, "optimal at −∞", gnii(0, [1, 0], box(-INF, 1)), optimal([-INF, 0], [-1, 0]), falls(), "−∞ is no η"),
    wrong(7, "g = 0 said to fall", gnii(0, ZERO), unbounded(ZERO, [1, 1]), is_(0), "nothing falls"),
)  # fmt: skip

# --- what is not a number --------------------------------------------------------------------------------------------

INVALID = Right("INVALID", NAN)
NO_NUMBER = "an item with NaN or a wrong infinity is INVALID: nothing else is true of it"


def _invalid() -> list[Row]:
    """Each kind of claim about each kind of broken item."""
    broken: dict[str, Spec] = {
        "L is NaN": gnii(NAN, [1, 0], ball(2)),
        "L is ∞": gnii(INF, [1, 0], ball(2)),
        "L is −∞": gnii(-INF, [1, 0], ball(2)),
        "g has a NaN": gnii(0, [1, NAN], ball(2)),
        "g has a NaN where nothing moves": gnii(0, [1, NAN], box([-1, 0], [1, 0])),
        "g has an ∞": gnii(0, [1, INF], ball(2)),
        "lower has a NaN": gnii(0, [1, 0], box([-1, NAN], [1, 1])),
        "lower is +∞": gnii(0, [1, 0], box([-1, INF], [1, INF])),
        "upper is −∞": gnii(0, [1, 0], box([-1, -INF], [1, -INF])),
        "b has a NaN": gnii(0, [1, 0], CUBE, halfspaces([[0, 1]], [NAN])),
        "L of (GN) is −∞": gn(-INF, [1, 0], ball(2)),
        "g of (GN) is −∞": gn(0, [-INF, 0], ball(2)),
        "L of (8) is NaN": min_norm(NAN, [1, 0], 2, ball(2)),
        "L of (8) is −∞": min_norm(-INF, [1, 0], 2, ball(2)),
        "c has a NaN": hinges([1, NAN], [[1, 0], [0, 1]], ball(2)),
        "c has a −∞": hinges([-INF, -1], [[1, 0], [0, 1]], ball(2)),
        "A has an ∞": hinges([-1, -1], [[1, INF], [0, 1]], ball(2)),
    }
    rows = []
    for name, spec in broken.items():
        u = _filled(spec, 0.0)
        claims = [optimal([-1, 0], *u), infeasible(2, *u), unbounded([-1, 0], [-1, 0], *u)]
        if spec.kind == "gn":
            claims.append(feasible([-1, 0], *u))
        rows += [wrong(7, f"{name}, {claim.status}", spec, claim, INVALID, NO_NUMBER, raises=True) for claim in claims]
    return rows


def _unproved() -> list[Row]:
    """A right η with a multiplier that is not a number: with such a multiplier nothing holds."""
    cases: list[tuple[str, Spec, Said]] = [
        ("ball", gnii(0, [3, 4], ball(2)), optimal([-0.6, -0.8], [NAN, -4])),
        ("ball, ∞", gnii(0, [3, 4], ball(2)), optimal([-0.6, -0.8], [-INF, -4])),
        ("flat box", gnii(0, [1, 1], box([0, -1], [0, 1])), optimal([0, -1], [NAN, -1])),
        ("flat box, ∞", gnii(0, [1, 1], box([0, -1], [0, 1])), optimal([0, -1], [INF, -1])),
        ("radius 0", gnii(0, [1, 1], ball(2, 0)), optimal([0, 0], [NAN, NAN])),
        ("no slope", gnii(0, [0, 0], box(-1, 1)), optimal([0, 0], [NAN, 0])),
        ("(8)", min_norm(2.5, [3, 4], 2), optimal([-0.3, -0.4], NAN)),
        ("(8), idle", min_norm(-1, [3, 4], 2), optimal([0, 0], NAN)),
        ("(8), ∞", min_norm(-1, [3, 4], 2), optimal([0, 0], INF)),
        ("(GN)", gn(1, [3, 4], ball(2)), feasible([-0.6, -0.8], [NAN, NAN])),
        ("hinges", hinges([1], [[1]], ball(2, 0.5)), optimal([-0.5], [NAN], [-1])),
    ]
    why = "η is right, but with a multiplier that is no number nothing holds"
    return [
        wrong(7, f"no number among the multipliers, {name}", spec, claim, PROVEN[spec.kind], why)
        for name, spec, claim in cases
    ]


PROVEN = {"gnii": Right("OPTIMAL", NAN), "gn": Right("FEASIBLE", NAN), "min_norm": is_(NAN), "hinges": is_(NAN)}


def _neighbours(bad_value: float, bad_slope: float, bad_eta: float, bad_multiplier: float) -> tuple[Any, Any]:
    """Three items, the middle one broken."""
    value = torch.tensor([1.0, bad_value, 1.0], dtype=torch.float64)
    gradient = torch.tensor([[3.0, 4.0], [3.0, bad_slope], [4.0, 3.0]], dtype=torch.float64)
    eta = torch.tensor([[-0.3, -0.4], [bad_eta, -0.4], [-0.4, -0.3]], dtype=torch.float64)
    u = torch.tensor([[-3.0, -4.0], [bad_multiplier, -4.0], [-4.0, -3.0]], dtype=torch.float64)
    codes = torch.full((3,), ca.Status.OPTIMAL.code, dtype=torch.int8)
    program = ca.GNII(value, gradient, (ca.Ball(ca.Lp(2), 0.5),))
    return program, ca.Solution(eta, codes, (u,))


HARM = "the middle item is broken; the two others are right, and must hold"
NEXT = tuple(
    made(
        7, f"neighbours of {name}", partial(_neighbours, *bad), is_(-1.5), HARM, items=(1,), neighbours=(0, 2),
        raises=False,
    )
    for name, bad in {
        "L = NaN": (NAN, 4.0, -0.3, -3.0),
        "L = ∞": (INF, 4.0, -0.3, -3.0),
        "g = NaN": (1.0, NAN, -0.3, -3.0),
        "g = −∞": (1.0, -INF, -0.3, -3.0),
        "η = NaN": (1.0, 4.0, NAN, -3.0),
        "η = ∞": (1.0, 4.0, INF, -3.0),
        "u = NaN": (1.0, 4.0, -0.3, NAN),
        "u = −∞": (1.0, 4.0, -0.3, -INF),
        "all of them": (NAN, INF, NAN, INF),
    }.items()
)  # fmt: skip

# --- and the rest ----------------------------------------------------------------------------------------------------

OTHER = (
    wrong(7, "NaN is optimal", gnii(0, [3, 4], ball(2)), optimal([NAN, NAN], [-3, -4]), is_(-5), "NaN is no η"),
    wrong(
        7, "half of it NaN", gnii(0, [0, 4], ball(2)), optimal([NAN, -1], [0, -4]), is_(-4),
        "NaN is no η, even where g is 0",
    ),
    wrong(7, "NaN is feasible", gn(-1, [3, 4], ball(2)), feasible([NAN, NAN], [-3, -4]), met(-6), "NaN is no η"),
    wrong(
        7, "∞ is optimal", gnii(0, [0, 1], box([-INF, -1], [INF, 1])), optimal([INF, -1], [0, -1]), is_(-1),
        "∞ is no η",
    ),
    wrong(
        7, "λ < 0 proves a longer η", min_norm(-1, [1, 0], 2), optimal([1, 0], -1), is_(0), "λ = −1 makes −L = 1 of it",
    ),
    wrong(
        7, "λ < 0 proves a longer η, p = ∞", min_norm(-2, [1, 1], INF), optimal([1, 1], -0.5), is_(0),
        "λ = −1/2 makes 1 of it",
    ),
    wrong(
        7, "λ < 0 in a box", min_norm(-1, [1, 0], 2, box(-5, 5)), optimal([1, 0], -1, ZERO), is_(0),
        "λ = −1 makes 1 of it",
    ),
    wrong(
        7, "u = 2 of a hinge", hinges([1], [[1]], ball(2, 0.5)), optimal([0], [2], [-2]), is_(0.5),
        "u = 2 proves 1 where the optimum is 1/2",
    ),
    wrong(
        7, "u = 1 + 1e-3 of a hinge", hinges([1000], [[1]], ball(2, 0.5)), optimal([0.4], [1.001], [-1.001]),
        is_(999.5), "u > 1 proves too much",
    ),
    wrong(
        7, "u < 0 of a hinge", hinges([-5, 1], [[1], [1]], ball(2)), optimal([1], [-1, 1], [0]), is_(0),
        "u = −1 makes 5 of it",
    ),
    wrong(7, "u = ∞ of a hinge", hinges([1], [[1]], ball(2, 0.5)), optimal([0], [INF], [-1]), is_(0.5), "no number"),
    wrong(
        7, "a hinge weighed down", hinges([1, 1], [[1, 0], [0, 1]], CUBE), optimal([-1, 0], [0, 1], [0, 0]), is_(0),
        "−A₂ is left over",
    ),
    wrong(
        7, "u of the wrong coordinate", gnii(0, [3, 4], ball(2)), optimal([-0.8, -0.6], [-4, -3]), is_(-5),
        "g and u are exchanged",
    ),
    wrong(
        7, "feasible, but L + gᵀη = 0", gn(5, [3, 4], ball(2)), feasible([-0.6, -0.8], [-3, -4]), none(0),
        "0 is not below 0",
    ),
    wrong(
        7, "feasible, but L + gᵀη > 0", gn(1, [3, 4], ball(2)), feasible([0.6, 0.8], [-3, -4]), met(-4),
        "this η is the worst",
    ),
    wrong(
        7, "feasible, but outside", gn(7, [3, 4], ball(2)), feasible([-1.2, -1.6], [-3, -4]), none(2), "twice too long",
    ),
    wrong(
        7, "feasible without a set that allows it", gn(1, [0, 0], ball(2)), feasible([-1, 0], ZERO), none(1), "g = 0",
    ),
    wrong(
        7, "undecided, but far below 0 in touching sets", gn(-1.5, [1], CUBE, box(1, 2)), undecided([1], [0], [-1]),
        met(-0.5), "−0.5 is not 0",
    ),
    wrong(
        7, "undecided, but far below 0", gn(1, [3, 4], ball(2)), undecided([-0.6, -0.8], [-3, -4]), met(-4),
        "−4 is not 0",
    ),
    wrong(
        7, "undecided, but far above 0", gn(9, [3, 4], ball(2)), undecided([-0.6, -0.8], [-3, -4]), none(4),
        "4 is not 0",
    ),
    wrong(
        7, "(GNII) undecided", gnii(1, [3, 4], ball(2)), undecided([-0.6, -0.8], [-3, -4]), is_(-4), "only (GN) can be",
    ),
    wrong(
        7, "(GNII) bracketed", gnii(1, [3, 4], ball(2)), bracketed([-0.3, -0.4], [-3, -4]), is_(-4), "only (9) can be",
    ),
    wrong(7, "(8) bracketed", min_norm(2.5, [3, 4], 2), bracketed([-0.6, -0.8], 0.2), is_(0.5), "only (9) can be"),
    *(
        wrong(7, f"{status} claims nothing", ON_CIRCLE, said(status, [-0.6, -0.8], [-3, -4]), is_(-4), "no claim holds")
        for status in ("FAILED", "INEXACT", "INVALID", "UNDECIDED", "BRACKETED")
    ),
    *(
        wrong(7, f"(8) {status} at 0", min_norm(1, [3, 4], 2), said(status, ZERO, 0.0), is_(0.2), "η = 0 leaves L = 1")
        for status in ("FEASIBLE", "UNDECIDED", "BRACKETED")
    ),
    *(
        wrong(7, f"(9) {status}", operator(J, CUBE), said(status, [1, 1], [1, 1], W), CUBE_TOP, "not a status of (9)")
        for status in ("FEASIBLE", "UNDECIDED")
    ),
)  # fmt: skip

# --- (9) -------------------------------------------------------------------------------------------------------------

BRACKETS = (
    *(
        wrong(7, f"(9) closed, y = {y}", operator(J, CUBE), optimal([1, 1], y, W), CUBE_TOP, "√13 is not √17")
        for y in ([1, 1], [-1, -1], [0, 0], [1, 0], [-1, 1], [NAN, 1], [INF, 1], [1e-300, 1], [1e300, 1e-300])
    ),
    *(
        wrong(7, f"(9) outside, y = {y}", operator(J, CUBE), bracketed([2, -2], y, W), CUBE_TOP, "η is twice too large")
        for y in ([1, 1], [-1, -1], [0, 0], [NAN, NAN])
    ),
    wrong(
        7, "(9) of another J", operator([[10, 0], [0, 1]], CUBE), optimal([0, 1], [0.1, 1], W), is_(101**0.5),
        "the first column is left out",
    ),
    wrong(
        7, "(9) outside its cube, y = 0", operator([[1, 0], [0, 1]], CUBE), bracketed([2, 0], [0, 0], W), is_(2**0.5),
        "η₁ = 2",
    ),
    wrong(7, "(9) with NaN", operator(J, CUBE), bracketed([NAN, 1], [1, 1], W), CUBE_TOP, "NaN is no η"),
    wrong(7, "(9) with ∞", operator(J, CUBE), bracketed([INF, 1], [1, 1], W), CUBE_TOP, "∞ is no η"),
    wrong(
        7, "(9), J with NaN", operator([[1, NAN], [3, -1]], CUBE), bracketed([1, 1], [1, 1], W), INVALID, NO_NUMBER,
        raises=True,
    ),
    wrong(
        7, "(9), J with ∞", operator([[1, INF], [3, -1]], CUBE), bracketed([1, 1], [1, 1], W), INVALID, NO_NUMBER,
        raises=True,
    ),
    wrong(
        7, "(9), p = 2, turned", operator(J, ball(2)), optimal([0.6, 0.8], [1, 1], W), is_(3.19258),
        "not the singular vector",
    ),
    wrong(
        7, "(9), p = 3, open", operator(J, ball(3)), optimal([0.5, 0.5], [1, 1], W), is_(3.37844),
        "far inside the ball",
    ),
    wrong(
        7, "(9), p = 1.5, open", operator(J, ball(1.5)), optimal([0.5, -0.5], [1, 1], W), is_(3.16342),
        "far inside the ball",
    ),
    wrong(
        7, "(9), p = 1.5, outside", operator(J, ball(1.5)), bracketed([1, -1], [1, 1], W), is_(3.16342),
        "‖η‖ = 2^(2/3)",
    ),
    wrong(
        7, "(9), zeros where J is not", operator(J, ball(3)), optimal([1, 0], [1, 0], W), is_(3.37844),
        "y₂ = 0 drops a column",
    ),
)  # fmt: skip

ROWS = (
    *itertools.chain.from_iterable(_said_empty(name) for name in PLAIN), *EMPTY_CLAIMS, *RAYS, *_invalid(),
    *_unproved(), *NEXT, *OTHER, *BRACKETS,
)  # fmt: skip
