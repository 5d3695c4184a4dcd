"""CustomSet: whatever CVXPY can write is solved, and certified without a solver, from the cones of the text alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from examples import INF, ball, names, normal, numbers
from torch import Tensor

import convexattack as ca
from convexattack.sets.cones import Cones
from convexattack.sets.custom import ConeSlice
from convexattack.sets.hidden import bounds
from convexattack.solvers import conic

N, D = 3, 6
NORMS = [ca.Lp(p) for p in (1, 1.5, 2, 3, INF)]
Text = Callable[..., Any]
A = normal(1, 2, D).numpy()


def _psd(eta: cp.Expression, corner: float = 0.2) -> list[cp.Constraint]:
    return [cp.bmat([[np.full((1, 1), corner), eta[None, :2]], [eta[:2, None], np.eye(2)]]) >> 0]


TEXTS: dict[str, Text] = {
    "sum": lambda eta: [cp.sum(eta) == 0],
    "rows": lambda eta: [A @ eta == np.array([0.1, 0.2]), eta[0] <= 0.1],
    "norm 1": lambda eta: [cp.norm(eta, 1) <= 0.7],
    "norm 2": lambda eta: cp.norm(eta[:3] - 0.1) <= 0.3,
    "norm 3": lambda eta: [cp.norm(eta, 3) <= 0.4],
    "quadratic": lambda eta: [cp.quad_form(eta, np.diag(np.arange(1.0, 7))) <= 0.5],
    "variation": lambda eta: [cp.norm1(cp.diff(eta)) <= 0.5],
    "groups": lambda eta: [cp.sum(cp.norm(cp.reshape(eta, (3, 2), order="C"), 2, axis=1)) <= 0.6],
    "semidefinite": _psd,
    "nuclear": lambda eta: [cp.normNuc(cp.reshape(eta, (2, 3), order="C")) <= 0.5],
    "exponential": lambda eta: [cp.log_sum_exp(eta) <= 2.0],
    "entropy": lambda eta: [cp.sum(cp.kl_div(eta + 1, np.ones(D))) <= 0.1],
    "power": lambda eta: [cp.PowCone3D(eta[0] + 0.5, eta[1] + 0.6, eta[2], 0.3)],
    "unknowns": lambda eta: [cp.norm(eta - (free := cp.Variable(D)), 1) <= 0.2, cp.norm(free, "inf") <= 0.1],
}
KINDS: dict[str, Any] = {
    "gnii": lambda value, gradient, norm, own: ca.GNII(value, gradient, (ca.Ball(norm, 0.5), own)),
    "gn": lambda value, gradient, norm, own: ca.GN(value, gradient, (own, ca.Ball(norm, 0.5))),
    "min_norm": lambda value, gradient, norm, own: ca.MinNorm(0.2 * value, gradient, norm, (own,)),
    "hinges": lambda value, gradient, norm, own: ca.HingeSum(
        normal(9, N, 3), normal(10, N, 3, D), (ca.Ball(norm, 0.5), own)
    ),
}


def data() -> tuple[Tensor, Tensor]:
    return numbers(0.3, 1, 0.1), normal(5, N, D)


def optimum(program: ca.Program, i: int) -> float:
    """Of the text on paper, by a first-order solver."""
    problem = program.problem(i)
    problem.solve(solver=cp.SCS, eps=1e-8, max_iters=50_000)
    return float(-problem.value if isinstance(program, ca.GN) else problem.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_solved_and_certified(kind: str, norm: ca.Lp, text: str) -> None:
    program = KINDS[kind](*data(), norm, ca.CustomSet(TEXTS[text]))
    found = ca.solve(program)
    certificate = ca.certify(program, found)
    assert certificate.holds().all(), (certificate.why, found.stats["words"])
    assert certificate.rigorous
    if norm.p == 2:
        best = optimum(program, 0)
        assert program.primal(found.eta)[0].item() == pytest.approx(best, rel=1e-4, abs=1e-4)
        assert certificate.dual[0] <= best + 1e-4


@pytest.mark.parametrize("text", TEXTS)
def test_multipliers_never_beat_the_optimum(text: str) -> None:
    program = KINDS["gnii"](*data(), ca.Lp(2), ca.CustomSet(TEXTS[text]))
    found = ca.solve(program)
    best = program.primal(found.eta)
    for seed in range(20):
        noise = tuple(part + 10.0 ** (-seed % 9) * normal(seed, *part.shape) for part in found.multipliers)
        assert (program.bound(noise).sure <= best + 1e-8).all()


@pytest.mark.parametrize("text", TEXTS)
def test_a_bare_point_is_seen_to_be_right_and_another_to_be_wrong(text: str) -> None:
    program = KINDS["gnii"](*data(), ca.Lp(2), ca.CustomSet(TEXTS[text]))
    eta = ca.solve(program).eta
    assert ca.certify(program, eta).holds().all()
    assert not ca.certify(program, 0.99 * eta).holds().any()
    assert not ca.certify(program, 1.01 * eta).holds().any()


@pytest.mark.parametrize("text", TEXTS)
def test_canonicalization_keeps_the_set(text: str) -> None:
    """Where the user's own text is violated, no witness makes the cones hold, and the other way round."""
    own = ca.CustomSet(TEXTS[text])
    points = torch.cat([ca.solve(KINDS["gnii"](*data(), ca.Lp(2), own)).eta, 0.2 * normal(3, 40, D)])
    program = ca.GNII(torch.zeros(len(points)), torch.zeros_like(points), (ca.Ball(ca.Lp(2), 9.0), own))
    by_cones = program.sets[1].excess(points, *conic.witness(program, points)[1:]).amax(-1)
    if text != "unknowns":  # CVXPY cannot evaluate a text whose unknowns have no value
        by_text = own.violation(points)
        assert ((by_cones > 1e-5) == (by_text > 1e-5)).all()
    assert (by_cones[:N] <= 1e-6).all()


def test_data_that_differ_by_item() -> None:
    value, gradient = data()
    most = numbers(0.3, math.nan, 0.9)
    own = ca.CustomSet(lambda eta, most: [cp.norm(eta, 1) <= most], {"most": most})
    program = ca.GNII(value, gradient, (ca.Ball(ca.Lp(2), 0.5), own))
    found = ca.solve(program)
    assert names(found) == ["OPTIMAL", "INVALID", "OPTIMAL"]
    assert ca.certify(program, found).holds().tolist() == [True, False, True]
    alone = ca.solve(program[[2]])
    assert torch.equal(alone.eta[0], found.eta[2])
    scaled = ca.CustomSet(lambda eta, w: [cp.norm(cp.multiply(w, eta), 1) <= 0.5], {"w": 1 + normal(2, N, D).abs()})
    smallest = ca.MinNorm(0.1 * value, gradient, ca.Lp(2), (scaled, ca.Ball(ca.Lp(INF), 1.0)))
    assert ca.certify(smallest, ca.solve(smallest)).holds().all()


def test_a_set_moves_with_the_total_and_is_taken_by_item() -> None:
    total = 0.1 * normal(4, N, D)
    for text in ("norm 1", "exponential", "semidefinite"):
        moved = ca.CustomSet(TEXTS[text]).shifted(total)
        eta = 0.3 * normal(8, N, D)
        torch.testing.assert_close(moved.violation(eta), ca.CustomSet(TEXTS[text]).violation(total + eta))
        program = ca.GNII(*data(), (ca.Ball(ca.Lp(2), 0.2), moved))
        found = ca.solve(program)
        assert ca.certify(program, found).holds().all()
        assert ca.CustomSet(TEXTS[text]).violation(total + found.eta).max() <= 1e-7
        taken = program[[2, 0]]
        assert torch.equal(ca.solve(taken).eta, found.eta[[2, 0]])
        assert program.primal(found.eta)[1].item() == pytest.approx(optimum(program, 1), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("power", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("norm", [ca.Lp(1), ca.Lp(2), ca.Lp(INF)], ids=str)
def test_a_radius_of_any_size_gives_the_same_answer_scaled(power: float, norm: ca.Lp) -> None:
    value, gradient = data()
    texts: dict[str, Callable[[float], Text]] = {
        "sum": lambda k: lambda eta: [cp.sum(eta) == 0],
        "variation": lambda k: lambda eta: [cp.norm1(cp.diff(eta)) <= 0.5 * k],
        "norm": lambda k: lambda eta: [cp.norm(A @ eta) <= 0.1 * k],
    }
    for text in texts.values():
        one = ca.GNII(value, gradient, (ca.Ball(norm, 0.5), ca.CustomSet(text(1.0))))
        other = ca.GNII(value * power, gradient, (ca.Ball(norm, 0.5 * power), ca.CustomSet(text(power))))
        found = ca.solve(other)
        assert ca.certify(other, found).holds().all()
        same = one.primal(ca.solve(one).eta)
        torch.testing.assert_close(other.primal(found.eta) / power, same, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("power", [1e8, 1e-8])
def test_the_scale_of_a_text_changes_nothing(power: float) -> None:
    value, gradient = data()
    texts: tuple[Callable[[float], Text], ...] = (
        lambda k: lambda eta: [k * (A @ eta) == k * np.array([0.1, 0.2])],
        lambda k: lambda eta: [k * cp.norm1(cp.diff(eta)) <= 0.5 * k],
        lambda k: lambda eta: [cp.norm(k * (A @ eta)) <= 0.1 * k],
        lambda k: lambda eta: [k * cp.log_sum_exp(eta) <= 2 * k],
    )
    for text in texts:
        one, other = (ca.GNII(value, gradient, (ca.Ball(ca.Lp(2), 0.5), ca.CustomSet(text(k)))) for k in (1.0, power))
        found = ca.solve(other)
        assert ca.certify(other, found).holds().all()
        torch.testing.assert_close(other.primal(found.eta), one.primal(ca.solve(one).eta), rtol=1e-6, atol=1e-6)


EMPTY: dict[str, Text] = {
    "by itself": lambda eta: [eta[0] >= 1, eta[0] <= 0.5],
    "far away": lambda eta: [cp.sum(eta) >= 9],
    "a ball": lambda eta: [cp.norm(eta - 3) <= 1],
    "a diamond": lambda eta: [cp.norm(eta - 3, 1) <= 1],
    "exponential": lambda eta: [cp.log_sum_exp(eta) <= -3.0],
    "semidefinite": lambda eta: _psd(eta, -0.2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", EMPTY)
def test_what_is_empty_is_proved_to_be(kind: str, text: str) -> None:
    program = KINDS[kind](*data(), ca.Lp(2), ca.CustomSet(EMPTY[text]))
    if kind == "min_norm":
        program = ca.MinNorm(program.value, program.gradient, program.norm, (*program.sets, ball(2, 0.5)))
    found = ca.solve(program)
    assert set(names(found)) == {"INFEASIBLE"}
    assert ca.certify(program, found).holds().all()


def test_what_no_text_may_be() -> None:
    value, gradient = data()

    def refused(message: str, build: Any, given: Any = None, error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=message):
            ca.GNII(value, gradient, (ca.CustomSet(build, given),))

    refused("build must be a function", [cp.Variable() == 0], error=TypeError)
    refused("build must return a list of CVXPY constraints", lambda eta: [cp.sum(eta)], error=TypeError)
    refused("build must return a list of CVXPY constraints", lambda eta: [], error=TypeError)
    refused(r"rules \(DCP\) do not accept", lambda eta: [cp.norm(eta, 2) >= 1])
    refused("integer or boolean", lambda eta: [eta <= cp.Variable(D, boolean=True)])
    refused("data must have an item without NaN", lambda eta, a: [cp.sum(eta) == a], {"a": torch.full((N,), math.nan)})
    refused(r"data\['a'\] must have one row for each", lambda eta, a: [cp.sum(eta) == a], {"a": numbers(1, 2)})
    refused(
        "the same constraints for every item",
        lambda eta, a: [cp.sum(eta) == a] if a > 0 else [cp.sum(eta) <= a],
        {"a": numbers(1, 2, -1)},
    )


# --- cones -----------------------------------------------------------------------------------------------------------

CONES = Cones(2, 2, (3, 2), (2, 3), 2, (0.3, 0.6))


def _inside(seed: int, n: int) -> Tensor:
    """Points of the cones, most of them on an edge."""
    s = normal(seed, n, CONES.ends[-1])
    s[:, :2] = 0.0
    step = torch.ones(n, CONES.ends[-1], dtype=torch.float64) * torch.from_numpy(CONES.centre)
    low, high = torch.zeros(n, 1, dtype=torch.float64), torch.full((n, 1), 1e3, dtype=torch.float64)
    for _ in range(100):
        middle = (low + high) / 2
        out = (CONES.excess(s + middle * step).nan_to_num(INF).amax(-1, keepdim=True)) > 0
        low, high = torch.where(out, middle, low), torch.where(out, high, middle)
    return s + high * step


def test_a_dual_point_is_dual() -> None:
    """uᵀs ≥ 0 for members s, whatever u was; a point of the dual cone is moved by rounding alone."""
    s = _inside(1, 400)
    for scale in (1.0, 1e-9):
        u = CONES.dual(scale * normal(2, 400, CONES.ends[-1]))
        u[:, :2] = 0.0
        products = u @ s.mT
        assert (products >= -1e-13 * (u.norm(dim=1)[:, None] * s.norm(dim=1))).all()
        torch.testing.assert_close(CONES.dual(u), u, rtol=1e-12, atol=1e-13 * scale)


def test_bounds_on_rows_hold() -> None:
    s = _inside(3, 400)
    low, high = CONES.box(s.numpy() + np.abs(normal(4, *s.shape).numpy()))
    assert (low <= s.numpy() + 1e-12).all()
    assert (s.numpy() <= high + 1e-12).all()


def test_what_rounding_can_do_to_a_cone_is_forgiven_and_no_more() -> None:
    s = _inside(5, 400)
    ds = 1e-9 * s.abs()
    moved = s + ds * (2 * torch.rand(s.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)
    allowed = CONES.blur(s, ds)
    assert (CONES.excess(moved) <= CONES.excess(s) + allowed).all()
    assert (allowed[:, :4] <= 2 * ds[:, :4]).all()


@pytest.mark.parametrize("text", TEXTS)
def test_bounds_on_unknowns_hold(text: str) -> None:
    """Those of η and of CVXPY's unknowns, at points of the set and their witnesses."""
    program = KINDS["gnii"](*data(), ca.Lp(2), ca.CustomSet(TEXTS[text]))
    found, own = ca.solve(program), program.sets[1]
    extent = own.extent(program.g)
    assert (extent.low - 1e-8 <= found.eta).all()
    assert (found.eta <= extent.high + 1e-8).all()
    if own.hides:
        assert isinstance(own, ca.CustomSet)
        known = found.witness[1]
        assert known is not None
        assert (known.abs() <= own.unknowns(torch.full_like(program.g, 0.5)) + 1e-7).all()


def test_an_absolute_value_is_not_negative() -> None:
    """x ≥ |η| comes as two rows, of which neither bounds x from below."""
    own = ca.CustomSet(lambda eta: [cp.norm(eta, 1) <= 0.7]).fitted(1, 2)
    assert isinstance(own.atom, ConeSlice)
    assert own.atom.hidden is not None
    endless = np.full((1, 2), INF)
    low, high = bounds(
        own.map.matrix, own.atom.hidden.matrix, own.atom.cones, own.atom.b.numpy()[None], -endless, endless
    )
    np.testing.assert_allclose(low, [[-0.7, -0.7, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(high, [[0.7, 0.7, 0.7, 0.7]], atol=1e-12)


def test_threads_share_a_custom_set() -> None:
    from concurrent.futures import ThreadPoolExecutor

    program = KINDS["gnii"](*data(), ca.Lp(2), ca.CustomSet(TEXTS["norm 1"]))
    alone = conic.solve(program)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda k: conic.solve(program[[k % N]]).eta[0], range(60)))
    assert all(torch.equal(eta, alone.eta[k % N]) for k, eta in enumerate(again))
