"""The best piece by lower bounds: they hold, and what they leave out is no better, by brute force over all pieces."""

from __future__ import annotations

import math

import pytest
import torch
from examples import INF, normal, random
from torch import Tensor

import convexattack as ca
from convexattack.attacks.perturbation import LastSteps
from convexattack.attacks.pieces import Step, best_piece, least_norm, least_value

IMAGES, PIECES, D = 12, 5, 30
RADIUS = 0.7
each_norm = pytest.mark.parametrize("norm", [ca.Lp(p) for p in (1, 1.05, 1.5, 2, 3, INF)], ids=str)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
each_room = pytest.mark.parametrize("room", ["none", "pixels", "away from 0"])


def data(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Some pieces tied, some with a gradient of zero, on scales from 1e-3 to 1e3."""
    value = normal(1, IMAGES, PIECES).abs() * 10.0 ** torch.linspace(-3, 3, IMAGES, dtype=torch.float64)[:, None]
    gradient = normal(2, IMAGES, PIECES, D) * (normal(3, IMAGES, PIECES, D) > -0.5) * value.amax(1)[:, None, None]
    value[3, 2], gradient[3, 2] = value[3, 1], gradient[3, 1]
    gradient[4, 0] = 0.0
    return value, gradient.to(dtype)


def boxes(room: str) -> tuple[ca.Box, ...]:
    pixel = normal(4, IMAGES, D).abs().clamp_max(1.0) * (normal(5, IMAGES, D) > 0)
    known = {
        "none": (),
        "pixels": (ca.Box(-pixel, 1 - pixel),),
        "away from 0": (ca.Box(-0.5, 0.25), ca.Box(pixel / 50 - 0.3, 1.0)),
    }
    return known[room]


def program(norm: ca.Lp, dtype: torch.dtype, room: str, small: bool, image: Tensor, piece: Tensor) -> ca.Program:
    value, gradient = data(dtype)
    sets = tuple(
        ca.Box(*(bound[image] if isinstance(bound, Tensor) else bound for bound in (box.lower, box.upper)))
        for box in boxes(room)
    )
    if small:
        return ca.MinNorm(value[image, piece], gradient[image, piece], norm, sets)
    return ca.GNII(value[image, piece], gradient[image, piece], (ca.Ball(norm, RADIUS), *sets))


@each_norm
@each_dtype
@each_room
@pytest.mark.parametrize("small", [False, True], ids=["GNII", "MinNorm"])
def test_what_is_left_out_is_no_better(norm: ca.Lp, dtype: torch.dtype, room: str, small: bool) -> None:
    value, gradient = data(dtype)
    solved: list[tuple[int, int]] = []

    def solve(image: Tensor, piece: Tensor, whole: bool) -> Step:
        solved.extend(zip(image.tolist(), piece.tolist(), strict=True))
        posed = program(norm, dtype, room, small, image, piece)
        return Step.of(posed, ca.solve(posed))

    image, piece = (
        part.flatten() for part in torch.meshgrid(torch.arange(IMAGES), torch.arange(PIECES), indexing="ij")
    )
    every = solve(image, piece, False)
    objective = torch.where(every.usable, every.objective, INF).view(IMAGES, PIECES)
    if small:
        least = least_norm(value, gradient, norm, boxes(room))
    else:
        least = least_value(value, gradient, norm, torch.full((IMAGES,), RADIUS, dtype=torch.float64), boxes(room))
    assert (least <= objective).all()
    assert least.isfinite().float().mean() > 0.9
    solved.clear()
    found = best_piece(least, solve)
    assert len(set(solved)) == len(solved)
    assert len(solved) < 0.7 * IMAGES * PIECES
    there = objective.amin(1).isfinite()
    torch.testing.assert_close(
        found.objective[there], objective.amin(1)[there], rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=0
    )
    assert not found.usable[~there].any()


@each_norm
def test_without_a_box_one_program_an_image_is_left(norm: ca.Lp) -> None:
    value, gradient = data(torch.float64)
    value[3, 2], gradient[4, 0] = value[3, 2] + 1e-3, gradient[4, 1] * 2  # no tie, and a gradient each
    asked = []

    def solve(image: Tensor, piece: Tensor, whole: bool) -> Step:
        asked.append(len(image))
        posed = ca.GNII(value[image, piece], gradient[image, piece], (ca.Ball(norm, RADIUS),))
        return Step.of(posed, ca.solve(posed))

    best_piece(least_value(value, gradient, norm, torch.full((IMAGES,), RADIUS).double(), ()), solve)
    assert asked == [IMAGES]


def test_what_is_no_number_or_out_of_range_has_no_bound() -> None:
    value, gradient = data(torch.float32)
    gradient[0, 0, 0], gradient[1, 1, 0], gradient[2, 2], value[5, 0] = (
        math.nan,
        math.inf,
        gradient[2, 2] * 1e-35,
        math.nan,
    )
    for least in (
        least_value(value, gradient, ca.Lp(2), torch.ones(IMAGES).double(), ()),
        least_norm(value, gradient, ca.Lp(2), ()),
    ):
        for image, piece in ((0, 0), (1, 1), (2, 2), (5, 0)):
            assert least[image, piece] == -INF
        assert least.isfinite().sum() == least.numel() - 5  # and the one without a gradient


def test_one_bad_piece_leaves_the_others() -> None:
    value, gradient = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[[math.nan, 1.0], [3.0, 4.0]]]).double()
    norm = ca.Lp(2)

    def solve(image: Tensor, piece: Tensor, whole: bool) -> Step:
        posed = ca.GNII(value[image, piece], gradient[image, piece], (ca.Ball(norm, 1.0),))
        return Step.of(posed, ca.solve(posed))

    found = best_piece(least_value(value, gradient, norm, torch.ones(1).double(), ()), solve)
    assert found.usable.all()
    assert found.objective.item() == pytest.approx(2 - 5)


def test_last_steps_are_those_of_their_images() -> None:
    """Against what each image was given last; many small steps are put together on the way."""

    def step(number: int, rows: Tensor) -> Step:
        g = torch.full((len(rows), 2), float(number)).double()
        programs = [ca.GNII(1000 * k + rows.double(), g, (ca.Ball(ca.Lp(2), 1.0),)) for k in (0, 1)]
        first, second = (Step.of(one, ca.solve(one)) for one in programs)
        even = (rows % 2 == 0).nonzero().flatten()
        return first.put(even, second, even)

    images, generator = 5, random(5)
    kept, wanted = LastSteps(images), torch.zeros(images).double()
    for number in range(1, 30):
        some = (torch.rand(images, generator=generator) < (0.4 if number > 1 else 2)).nonzero().flatten()
        kept.add(some, step(number, some))
        wanted[some] = some.double() + 1000 * (some % 2 == 0) - number * math.sqrt(2)
        assert sum(len(part.rows) for part in kept.parts) <= 4 * images
        certificate = kept.certificate()
        assert certificate.holds().all()
        torch.testing.assert_close(certificate.primal, wanted, rtol=1e-12, atol=0)
