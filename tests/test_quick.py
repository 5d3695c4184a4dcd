"""The float32 kernels for (8), and for a box around 0: what they keep is optimal in exact arithmetic, and no item leans on another."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from examples import INF, item, normal, random
from hypothesis import given, settings
from torch import Tensor

import convexattack as ca
from convexattack.attacks.pieces import LastSteps, Step
from convexattack.solvers.closed_form import quick
from convexattack.testing import programs

N, D = 24, 784
UNITS = 2.0**-22  # two units in the last place of float32
CASES = [
    ("gnii", 1.0),
    ("gnii", 2.0),
    ("gn", 1.0),
    ("gn", 2.0),
    ("min_norm", 1.0),
    ("min_norm", 2.0),
    ("min_norm", INF),
]
each_case = pytest.mark.parametrize(("kind", "p"), CASES)


def images(seed: int) -> Tensor:
    """Dark margins, a bright stroke, and grey levels between."""
    x = torch.rand(N, D, generator=random(seed))
    return torch.where(x < 0.5, 0.0, torch.where(x > 0.9, 1.0, x))


def posed(kind: str, p: float, seed: int = 0, scale: float = 1.0, reach: float = 0.3) -> ca.Program:
    """A program within the pixel range whose optimum uses `reach` of what the box gives."""
    x, g = images(seed), (scale * normal(seed + 1, N, D)).float()
    box = ca.PixelRange(0.0, 1.0).at(x)
    low, high = box.bounds(g)
    most = torch.where(g > 0, -low, high)
    if kind == "min_norm":
        return ca.MinNorm((reach * (g.abs() * most).sum(1)).float(), g, ca.Lp(p), (box,))
    return (ca.GN if kind == "gn" else ca.GNII)(
        normal(seed + 2, N).float(), g, (ca.Ball(ca.Lp(p), reach * ca.Lp(p)(most)), box)
    )


@each_case
@pytest.mark.parametrize("reach", [0.03, 0.3, 0.8])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_is_kept_is_optimal_in_exact_arithmetic(kind: str, p: float, reach: float, scale: float) -> None:
    reach = reach * 0.05 if p == 1 else reach  # of hundreds of coordinates, it looks at the steepest 64
    program = posed(kind, p, scale=scale, reach=reach)
    fast = quick.solve(program)
    assert fast is not None
    assert fast.good.float().mean() > 0.9
    found = ca.solve(program)
    assert torch.equal(found.eta[fast.good], fast.eta[fast.good])
    relaxed = program.relaxed if isinstance(program, ca.GN) else program
    claim = ca.Solution(found.eta, torch.full_like(found.codes, ca.Status.OPTIMAL.code), found.multipliers)
    proofs = ca.certify(relaxed, claim, exact=True)
    assert proofs.holds().all()
    assert (ca.certify(relaxed, claim).gap <= UNITS).all()


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_rounded_bounds_that_cost_too_much_are_not_kept(p: float) -> None:
    """Steep coordinates end at bounds that float32 has rounded; what they lose, a flat one makes good a thousand times over."""
    g = torch.tensor([[-1.0, -0.7, -1e-3, -5e-4]])
    box = ca.Box(-1.0, torch.tensor([[0.1, 0.3, 1.0, 1.0]], dtype=torch.float64) + 1e-9)
    program = ca.MinNorm(torch.tensor([0.3104]), g, ca.Lp(p), (box,))
    fast = quick.solve(program)
    assert fast is not None
    assert not fast.good[0]
    found = ca.solve(program)
    gap = ca.certify(program, found).gap[0]
    assert found.status[0] == (ca.Status.OPTIMAL if gap <= UNITS / 2 else ca.Status.INEXACT)


@pytest.mark.parametrize("kind", ["gnii", "min_norm"])
@pytest.mark.parametrize("units", [-3, 3])
def test_a_step_that_is_too_short_or_too_long_is_not_kept(
    kind: str, units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, scaled = posed(kind, 2.0), quick._scaled
    monkeypatch.setattr(quick, "_scaled", lambda *given: scaled(*given) * (1 + units * 2.0**-23))
    fast = quick.solve(program)
    assert fast is not None
    assert not fast.good.any()
    assert ca.certify(program, ca.solve(program), exact=True).holds().all()


def alone(p: float, seed: int = 0, scale: float = 1.0) -> ca.MinNorm:
    return ca.MinNorm(
        (scale * torch.rand(N, generator=random(seed))).float(), (scale * normal(seed + 1, N, D)).float(), ca.Lp(p)
    )


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_shortest_step_alone_is_optimal_in_exact_arithmetic(p: float, scale: float) -> None:
    program = alone(p, scale=scale)
    fast = quick.solve(program)
    assert fast is not None
    assert fast.good.all()
    found = ca.solve(program)
    assert torch.equal(found.eta, fast.eta)
    assert (found.status == ca.Status.OPTIMAL).all()
    assert ca.certify(program, found, exact=True).holds().all()
    assert (ca.certify(program, found).gap <= UNITS / 2).all()


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
@pytest.mark.parametrize(
    ("value", "slope"),
    [(1e-30, 1e-12), (1e20, 1e-12), (1e35, 1e10), (1e-22, 1e-10), (1.0, 1e-18), (1.0, 1e18), (1e-38, 1.0)],
)
def test_the_shortest_step_alone_leaves_the_edges_of_float32_to_others(p: float, value: float, slope: float) -> None:
    program = ca.MinNorm(torch.full((4,), value), (slope * normal(5, 4, 30)).float(), ca.Lp(p))
    fast = quick.solve(program)
    assert fast is not None
    assert not fast.good.any()
    assert (
        ca.certify(program, ca.solve(program), exact=True)
        .holds()[ca.solve(program).codes == ca.Status.OPTIMAL.code]
        .all()
    )


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_no_item_leans_on_another_without_sets(p: float) -> None:
    plain = alone(p)
    g, value = plain.gradient.clone(), plain.value.clone()
    g[0], g[1] = 0.0, g[1].sign()
    g[2, 5], g[3, 6] = math.nan, INF
    g[4] *= 1e-25
    value[5], value[6], value[7], value[8] = INF, math.nan, 0.0, -1.0
    program = ca.MinNorm(value, g, ca.Lp(p))
    fast = quick.solve(program)
    assert fast is not None
    assert fast.good.tolist() == [i == 1 or i > 8 for i in range(N)]
    found = ca.solve(program)
    for i in range(N):
        single = ca.solve(item(program, i))
        assert found.status[i] == single.status[0], i
        torch.testing.assert_close(found.eta[i], single.eta[0], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(
            found.multipliers[0][i], single.multipliers[0][0], rtol=1e-12, atol=0, equal_nan=True
        )


@settings(max_examples=300)
@given(programs(dtypes=(torch.float32,), shape=(3, 5)))
def test_what_is_kept_of_a_degenerate_program_is_within_two_units(program: ca.Program) -> None:
    fast = quick.solve(program)
    if fast is None:
        return
    relaxed = program.relaxed if isinstance(program, ca.GN) else program
    codes = torch.full((len(program),), ca.Status.OPTIMAL.code, dtype=torch.int8)
    judged = ca.certify(relaxed, ca.Solution(fast.eta, codes, fast.multipliers()))
    exact = ca.certify(relaxed, ca.Solution(fast.eta, codes, fast.multipliers()), exact=True)
    for i in fast.good.nonzero().flatten().tolist():
        assert judged.gap[i] <= UNITS
        assert exact.holds()[i]


@each_case
def test_no_item_leans_on_another(kind: str, p: float) -> None:
    """Bit for bit what each gives alone, among items that are not quick, not centred, or no numbers."""
    plain = posed(kind, p, reach=0.02 if p == 1 else 0.3)
    g, value, box = (
        plain.gradient.clone(),
        plain.value.clone(),
        next(part for part in plain.sets if isinstance(part, ca.Box)),
    )
    low, high = (bound.clone() for bound in box.bounds(g))
    g[0], g[1] = 0.0, g[1].sign()
    g[2, 5] = math.nan
    low[3] += 0.01 * (high[3] - low[3]).clamp_max(0.5)
    low[4], high[4] = low[4] - 0.5, low[4] - 0.25
    high[5] = INF
    g[6] *= 1e-20
    value[7] = INF
    sets: list[ca.ConvexSet] = [ca.Box(low, high) if isinstance(part, ca.Box) else part for part in plain.sets]
    program: ca.Program = (
        ca.MinNorm(value, g, ca.Lp(p), tuple(sets))
        if isinstance(plain, ca.MinNorm)
        else type(plain)(value, g, tuple(sets))  # type: ignore[call-arg]
    )
    fast = quick.solve(program)
    assert fast is not None
    assert fast.good.any()
    assert not fast.good[[0, 2, 3, 4] if p == 1 else [0, 2, 3, 4, 6]].any()
    found = ca.solve(program)
    for i in range(N):
        alone = ca.solve(item(program, i))
        assert found.status[i] == alone.status[0], i
        torch.testing.assert_close(found.eta[i], alone.eta[0], rtol=0, atol=0, equal_nan=True)
        for together, single in zip(found.multipliers, alone.multipliers, strict=True):
            torch.testing.assert_close(together[i], single[0], rtol=1e-12, atol=1e-300, equal_nan=True)


def test_the_order_of_the_sets_does_not_matter() -> None:
    program = posed("gnii", 2.0)
    other = ca.GNII(program.value, program.gradient, program.sets[::-1])
    one, two = ca.solve(program), ca.solve(other)
    assert torch.equal(one.eta, two.eta)
    assert all(torch.equal(a, b) for a, b in zip(one.multipliers, two.multipliers[::-1], strict=True))


@pytest.mark.parametrize(
    "program",
    [
        ca.GNII(torch.ones(1), torch.ones(1, 3), (ca.Ball(ca.Lp(2), 1.0),)),
        ca.GNII(torch.ones(1), torch.ones(1, 3), (ca.Ball(ca.Lp(3), 1.0), ca.Box(-1.0, 1.0))),
        ca.GNII(torch.ones(1), torch.ones(1, 3), (ca.Ball(ca.Lp(2), 1.0), ca.Box(-1.0, 1.0), ca.Box(-2.0, 1.0))),
        ca.GNII(torch.ones(1).double(), torch.ones(1, 3).double(), (ca.Ball(ca.Lp(2), 1.0), ca.Box(-1.0, 1.0))),
        ca.MinNorm(torch.ones(1), torch.ones(1, 3), ca.Lp(1.5), (ca.Box(-1.0, 1.0),)),
        ca.MinNorm(torch.ones(1), torch.ones(1, 3), ca.Lp(1.5)),
        ca.MinNorm(torch.ones(1), torch.ones(1, 3), ca.Lp(2), (ca.Box(-1.0, 1.0), ca.Ball(ca.Lp(INF), 1.0))),
    ],
    ids=["no box", "p = 3", "two boxes", "float64", "p = 1.5", "p = 1.5 alone", "a cube as well"],
)
def test_other_programs_are_not_its_own(program: ca.Program) -> None:
    assert quick.solve(program) is None


def test_multipliers_are_computed_once_and_only_if_someone_looks() -> None:
    calls: list[int] = []

    def multipliers() -> tuple[Tensor, ...]:
        calls.append(1)
        return (torch.ones(2, 3),)

    found = ca.Solution.later(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int8), multipliers, {})
    assert (len(found), repr(found), calls) == (2, "Solution(N=2, d=3, torch.float32: 2 OPTIMAL)", [])
    assert found.multipliers is found.multipliers
    assert len(calls) == 1
    with pytest.raises(AttributeError, match="Solution has no attribute 'multiplier'"):
        found.multiplier  # noqa: B018
    again = copy.copy(ca.Solution.later(found.eta, found.codes, lambda: found.multipliers, {"solver": "mine"}))
    assert torch.equal(again.multipliers[0], torch.ones(2, 3))
    assert again.stats == {"solver": "mine"}


def test_bounds_that_are_changed_in_place_are_rounded_again() -> None:
    upper = torch.full((2, 3), 0.1, dtype=torch.float64)
    box, like = ca.Box(-1.0, upper), torch.zeros(2, 3)
    assert box.inwards(like)[1] is box.inwards(like)[1]
    upper[0, 0] = -0.5
    _, high, centred = box.inwards(like)
    assert not centred
    assert high[0, 0] == -0.5
    assert (high.double() <= upper).all()


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_inference_mode(p: float) -> None:
    """Tensors made there have no version."""
    with torch.inference_mode():
        program = posed("gnii", p)
        found = ca.solve(program)
        assert ca.certify(program, found).holds().all()
        box = ca.PixelRange(0.0, 1.0).at(images(3))
        assert box.inwards(program.gradient)[2]
        x = images(4)[:5]
        for attack in (ca.deepfool(ca.Lp(p), sets=(ca.PixelRange(0.0, 1.0),)), ca.algorithm1(0.5, ca.Lp(p), steps=3)):
            result = attack(torch.nn.Sequential(torch.nn.Linear(D, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)), x)
            assert result.certificate is not None
            assert result.certificate.holds().all()


def test_last_steps_are_put_together_in_their_order() -> None:
    """Against steps replaced at once; many small ones are merged on the way."""

    def step(rows: Tensor, number: int) -> Step:
        g = torch.full((len(rows), 2), float(number)).double()
        return Step.of(program := ca.GNII(g[:, 0], g, (ca.Ball(ca.Lp(2), 1.0 + number),)), ca.solve(program))

    images, generator = 4, random(5)
    kept, wanted = LastSteps(images), torch.zeros(images)
    for number in range(1, 30):
        some = (
            (torch.rand(images, generator=generator) < 0.4).nonzero().flatten() if number > 1 else torch.arange(images)
        )
        kept.add(some, step(some, number), torch.full((len(some), 2), float(number)))
        wanted[some] = number
        assert sum(len(part[0]) for part in kept.parts) <= 4 * images
        whole, base = kept.merged()
        lam, (v,) = whole.proof()
        assert torch.equal(whole.value, wanted.double())
        assert torch.equal(base[:, 0], wanted)
        assert torch.equal(v, -whole.gradient)
        assert len(lam) == images


@pytest.mark.parametrize("sets", [(), (ca.PixelRange(0.0, 1.0),)], ids=["no box", "pixel range"])
@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_attacks_on_a_batch_and_on_its_images(p: float, sets: Any) -> None:
    """A linear model of two classes, so that no product of matrices depends on the batch."""
    x = images(9)[:6]
    g = normal(10, D).float()

    def model(images: Tensor) -> Tensor:
        score = (images * g).sum(1)
        return torch.stack([score, -score], 1)

    for attack in (ca.deepfool(ca.Lp(p), sets=sets), ca.algorithm1(0.5, ca.Lp(p), sets=sets, steps=3)):
        together = attack(model, x)
        assert together.certificate is not None
        assert together.certificate.holds().all()
        for i in range(len(x)):
            alone = attack(model, x[i : i + 1])
            assert torch.equal(alone.eta[0], together.eta[i])
