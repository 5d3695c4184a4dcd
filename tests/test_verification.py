"""Every claim of verification/ holds on a small scale, and does not hold for a closed form that is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import convexattack as ca
from verification import CLAIMS, Claim, Finding, Record, run
from verification.__main__ import COMMANDS, main

SHARED = {"__init__", "__main__", "claims", "draws", "oracles", "page", "pictures", "report", "statements"}
right = ca.solve
rho_1, rho_2 = ca.rho_1, ca.rho_2


@pytest.mark.parametrize("name", CLAIMS)
def test_the_claim_holds(name: str) -> None:
    records = run(CLAIMS[name], CLAIMS[name].small)
    assert records
    assert [f"{r.oracle}: {r.discrepancy} > {r.tolerance} at {r.where}" for r in records if not r.holds] == []


@pytest.mark.parametrize("name", CLAIMS)
def test_the_claim_is_derived(name: str) -> None:
    text = import_module(f"verification.{name}").__doc__ or ""
    for word in ("Program", "Lagrangian", "Dual", "Optimum", "The check"):
        assert word.lower() in text.lower(), word


def test_every_file_is_a_claim() -> None:
    files = {path.stem for path in (Path(__file__).resolve().parent.parent / "verification").glob("*.py")}
    assert files - SHARED - set(COMMANDS) == set(CLAIMS)


# --- closed forms that are wrong --------------------------------------------------------------------------------------


def power(g: Tensor, exponent: float) -> Tensor:
    return g.sign() * (g.abs() / g.abs().amax(-1, keepdim=True).clamp_min(1e-300)).pow(exponent)


def in_ball(program: ca.GNII, direction: Tensor) -> Tensor:
    """Minus the direction, scaled to the boundary of the program's ball."""
    ball = next(item for item in program.sets if isinstance(item, ca.Ball))
    return -direction * (torch.as_tensor(ball.radius) / ball.norm(direction).clamp_min(1e-300)).reshape(-1, 1)


def reaching(program: ca.MinNorm, direction: Tensor) -> Tensor:
    """Minus the direction, scaled to L + gᵀη = 0."""
    return -direction * (program.L / (program.g * direction).sum(-1))[:, None]


def exponent_q(program: Any, found: ca.Solution) -> Tensor:
    """|g|^q where it must be |g|^{q−1}."""
    norm = program.norm if isinstance(program, ca.MinNorm) else program.sets[0].norm
    direction = power(program.g, norm.q) if norm.q < math.inf else power(program.g, 1.0)
    return reaching(program, direction) if isinstance(program, ca.MinNorm) else in_ball(program, direction)


def normalized_for_l1(program: Any, found: ca.Solution) -> Tensor:
    """g/‖g‖₁ for p = 1, where one coordinate takes all."""
    return in_ball(program, program.g) if program.sets[0].norm.p == 1 else found.eta


def flipped(program: Any, found: ca.Solution) -> Tensor:
    return -found.eta


def clipped(program: Any, found: ca.Solution) -> Tensor:
    """The answer without the box, clipped to it."""
    box = next((item for item in program.sets if isinstance(item, ca.Box)), None)
    if box is None:
        return found.eta
    rest = tuple(item for item in program.sets if item is not box)
    if isinstance(program, ca.MinNorm):
        plain = right(ca.MinNorm(program.value, program.gradient, program.norm, rest))
    else:
        plain = right(ca.GNII(program.value, program.gradient, rest))
    return plain.eta.clamp(torch.as_tensor(box.lower), torch.as_tensor(box.upper)).to(found.eta)


def a_thousandth_short(program: Any, found: ca.Solution) -> Tensor:
    return found.eta * 0.999


def with_step(step: Callable[[Any, ca.Solution], Tensor]) -> Callable[..., ca.Solution]:
    """`ca.solve` whose closed forms of (GNII) and (8) return that step; the conic path is left alone."""

    def solve(program: ca.Program, solver: str | None = None) -> ca.Solution:
        found = right(program, solver)
        if solver not in (None, "closed_form") or not isinstance(program, ca.GNII | ca.MinNorm):
            return found
        return replace(found, eta=torch.where(found.eta.isnan(), found.eta, step(program, found).to(found.eta)))

    return solve


def verdict_in_floating_point(strict: bool) -> Callable[..., ca.Solution]:
    """(GN) by comparing ε‖g‖_q with L as they come out of floating-point sums, with < or with ≤, whatever the box."""

    def solve(program: ca.Program, solver: str | None = None) -> ca.Solution:
        found = right(program, solver)
        if not isinstance(program, ca.GN):
            return found
        (ball,) = [item for item in program.sets if isinstance(item, ca.Ball)]
        reach = torch.as_tensor(ball.radius) * ball.norm.dual(program.g)
        feasible = reach > program.L if strict else reach >= program.L
        codes = torch.where(feasible, ca.Status.FEASIBLE.code, ca.Status.INFEASIBLE.code).to(found.codes)
        return replace(found, codes=codes)

    return solve


def always_feasible(program: ca.Program, solver: str | None = None) -> ca.Solution:
    """(GN) without Proposition 1."""
    found = right(program, solver)
    return (
        replace(found, codes=torch.full_like(found.codes, ca.Status.FEASIBLE.code))
        if isinstance(program, ca.GN)
        else found
    )


def a_little_less(program: ca.Program, solver: str | None = None) -> ca.Solution:
    """Any answer, a thousandth short: feasible, but not optimal."""
    found = right(program, solver)
    return replace(found, eta=found.eta * 0.999)


def bracket_with(step: Callable[[ca.OperatorNorm, ca.Solution], ca.Solution]) -> Callable[..., ca.Solution]:
    """`ca.solve` whose answers to (9) that step changes; CVXPY's are left alone."""

    def solve(program: Any, solver: str | None = None) -> ca.Solution:
        found = right(program, solver)
        return (
            found
            if solver not in (None, "enumeration") or not isinstance(program, ca.OperatorNorm)
            else step(program, found)
        )

    return solve


def one_sign_flipped(program: ca.OperatorNorm, found: ca.Solution) -> ca.Solution:
    return replace(found, eta=torch.cat((-found.eta[:, :1], found.eta[:, 1:]), 1))


def a_little_outside(program: ca.OperatorNorm, found: ca.Solution) -> ca.Solution:
    return replace(found, eta=found.eta * (1 + 2.0**-50))


def y_of_the_wrong_power(program: ca.OperatorNorm, found: ca.Solution) -> ca.Solution:
    """s where it must be s^{2−q}: a valid bound, but a bad one."""
    y, F = found.multipliers
    q = program.norm.q
    return replace(found, multipliers=(y if q in (1, 2) else y.pow(1 / (2 - q)), F))


def a_factor_of_nothing(program: ca.OperatorNorm, found: ca.Solution) -> ca.Solution:
    y, F = found.multipliers
    return replace(found, multipliers=(y, torch.ones_like(F)))


def everything_exact(program: ca.OperatorNorm, found: ca.Solution) -> ca.Solution:
    """η by the sign of one row of J, and the boast that it is the optimum."""
    radius = torch.as_tensor(program.ball.radius).to(found.eta).reshape(-1, 1)
    stats = found.stats | {"exact": torch.ones_like(found.stats["exact"])}
    return replace(found, eta=radius * torch.where(program.J[:, 0] < 0, -1.0, 1.0), stats=stats)


def ratio_of_squares(program: ca.OperatorNorm, found: ca.Solution) -> ca.Solution:
    """A mean of norms where it must be one of squares."""
    return replace(found, stats=found.stats | {"rounding_ratio": found.stats["rounding_ratio"].pow(0.25)})


WRONG_BRACKETS = [
    ("operator_norm", one_sign_flipped, slice(62, 64)),
    ("operator_norm", a_little_outside, slice(0, 60, 28)),
    ("operator_norm", y_of_the_wrong_power, slice(39, 40)),
    ("operator_norm", a_factor_of_nothing, slice(63, 64)),
    ("operator_norm", everything_exact, slice(62, 63)),
    ("operator_norm_sdp", y_of_the_wrong_power, slice(6, 7)),
    ("max_cut", everything_exact, slice(2, 3)),
    ("rounding", a_factor_of_nothing, slice(3, 5)),
    ("rounding", one_sign_flipped, slice(0, 1)),
    ("rounding", ratio_of_squares, slice(4, 6)),
]

WRONG = [
    ("proposition_1", always_feasible, slice(None)),
    ("proposition_1_equality", verdict_in_floating_point(strict=False), slice(None)),
    ("min_norm_edge", with_step(a_thousandth_short), slice(0, 1)),
    ("min_norm_edge", verdict_in_floating_point(strict=False), slice(1, 3)),
    ("other_constraints", a_little_less, slice(0, 1)),
    ("probabilities", with_step(a_thousandth_short), slice(0, 1)),
    ("certified", with_step(a_thousandth_short), slice(300, 303)),
    ("segmentation", with_step(flipped), slice(0, 3)),
    ("proposition_2", with_step(exponent_q), slice(7, 8)),
    ("proposition_2", with_step(normalized_for_l1), slice(1, 3)),
    ("proposition_2", with_step(a_thousandth_short), slice(21, 22)),
    ("sign", with_step(flipped), slice(None)),
    ("min_norm", with_step(exponent_q), slice(7, 8)),
    ("min_norm", with_step(a_thousandth_short), slice(0, 1)),
    ("with_box", with_step(clipped), slice(6, 8)),
    ("with_box", with_step(a_thousandth_short), slice(0, 2)),
    ("near_ties", verdict_in_floating_point(strict=True), slice(None)),
    ("fastgrad", with_step(flipped), slice(None)),
    ("deepfool_step", with_step(exponent_q), slice(None)),
    ("agreement", with_step(clipped), slice(27, 36)),
    ("agreement", with_step(a_thousandth_short), slice(0, 3)),
]


@pytest.mark.parametrize(("name", "solve", "cases"), WRONG)
def test_a_wrong_closed_form_is_found(
    name: str, solve: Callable[..., ca.Solution], cases: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = CLAIMS[name]
    few = replace(claim, cases=claim.cases[cases])
    monkeypatch.setattr(ca, "solve", solve)
    assert not all(record.holds for record in run(few, few.small))


@pytest.mark.parametrize(("name", "step", "cases"), WRONG_BRACKETS)
def test_a_wrong_bracket_is_found(
    name: str,
    step: Callable[[ca.OperatorNorm, ca.Solution], ca.Solution],
    cases: slice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = CLAIMS[name]
    few = replace(claim, cases=claim.cases[cases])
    monkeypatch.setattr(ca, "solve", bracket_with(step))
    assert not all(record.holds for record in run(few, few.small))


def spoiled(name: str) -> Callable[..., Any]:
    """The attack `ca.name` with a result that is a thousandth short, and the opposite said of `fooled`."""
    make = getattr(ca, name)

    def wrong(*arguments: Any, **options: Any) -> Callable[..., ca.Perturbation]:
        attack = make(*arguments, **options)

        def run(*data: Any) -> ca.Perturbation:
            found: ca.Perturbation = attack(*data)
            return replace(found, eta=found.eta * 0.999, fooled=~found.fooled)

        return run

    return wrong


@pytest.mark.parametrize(
    ("name", "attack", "cases"),
    [
        ("linearization", "algorithm1", slice(0, 1)),
        ("fooled", "algorithm2", slice(0, 1)),
        ("pieces", "algorithm1", slice(0, 1)),
        ("probabilities", "fastgrad", slice(1, 2)),
        ("iterations", "algorithm1", slice(0, 1)),
        ("iterations", "deepfool", slice(3, 4)),
        ("random_sign", "random_sign", slice(0, 1)),
        ("segmentation", "algorithm1", slice(0, 1)),
        ("single_score", "algorithm1", slice(2, 3)),
        ("single_score", "algorithm2", slice(3, 4)),
    ],
)
def test_a_wrong_attack_is_found(name: str, attack: str, cases: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = CLAIMS[name]
    few = replace(claim, cases=claim.cases[cases])
    monkeypatch.setattr(ca, attack, spoiled(attack))
    assert not all(record.holds for record in run(few, few.small))


@pytest.mark.parametrize(
    ("name", "case", "what", "wrong"),
    [
        ("dual_norm", 1, "Lp.dual", lambda self, g: self(g)),  # p where it must be q
        ("measures", 0, "rho_1", lambda *data: replace(rho_1(*data), value=1.001 * rho_1(*data).value)),
        ("measures", 0, "rho_2", lambda *data: ca.Rho2(rho_2(*data).smallest, rho_2(*data).active)),
    ],
)
def test_a_wrong_measure_is_found(
    name: str, case: int, what: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = CLAIMS[name]
    few = replace(claim, cases=claim.cases[case : case + 1])
    monkeypatch.setattr(f"convexattack.{what}", wrong)
    assert not all(record.holds for record in run(few, few.small))


@pytest.mark.parametrize("factor", [1 - 1e-7, 1 - 1e-11, 2.0])
def test_a_bound_that_is_too_low_or_squared_is_found(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a part in 10⁷ or in 10¹¹; or the square of the norm where it must be the norm."""
    certify = ca.certify

    def lower(program: Any, solution: Any) -> ca.Certificate:
        found = certify(program, solution)
        return replace(found, dual=found.dual.square() if factor == 2 else found.dual * factor)

    claim = CLAIMS["operator_norm"]
    few = replace(claim, cases=claim.cases[56:59])
    monkeypatch.setattr(ca, "certify", lower)
    broken = [record.oracle for record in run(few, few.small) if not record.holds]
    assert "50 digits: no η goes beyond the bound" in broken


# --- records ----------------------------------------------------------------------------------------------------------


def made(*findings: Finding, cases: int = 1) -> Claim:
    def check(case: int, rng: np.random.Generator, n: int) -> Iterator[Finding]:
        yield from findings

    return replace(CLAIMS["sign"], name="made", check=check, cases=range(cases))


def test_a_record_keeps_the_worst_of_all_instances() -> None:
    claim = made(
        Finding("a", [0.1, 0.3], 1.0, "first"),
        Finding("b", 0.5, 1.0, "alone"),
        Finding("a", [0.2, 0.1], 1.0, "second", 2, "said"),
    )
    a, b = run(claim, 1)
    assert (a.oracle, a.instances, a.discrepancy, a.where, a.abstained, a.note) == (
        "a",
        4,
        0.3,
        "first, item 1",
        2,
        "said",
    )
    assert (b.oracle, b.instances, b.discrepancy, b.where) == ("b", 1, 0.5, "alone")
    assert a.holds
    assert b.holds


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.5])
def test_one_bad_instance_is_enough(bad: float) -> None:
    (record,) = run(made(Finding("a", [0.1, bad, 0.2], 1.0, "here"), Finding("a", [0.9], 1.0, "there")), 1)
    assert not record.holds
    assert record.where == "here, item 1"


def test_findings_of_different_tolerance_are_compared_by_what_is_allowed() -> None:
    (record,) = run(made(Finding("a", 1e-4, 1e-6, "float32"), Finding("a", 5e-4, 1e-3, "float16")), 1)
    assert not record.holds
    assert record.where == "float32"


def test_nothing_judged_does_not_hold() -> None:
    (record,) = run(made(Finding("a", [], 1.0, "nowhere")), 1)
    assert not record.holds


def test_instances_depend_on_the_seed_alone() -> None:
    def numbers(seed: int) -> list[tuple[Any, ...]]:
        claim = CLAIMS["min_norm"]
        return [(r.oracle, r.discrepancy, r.where) for r in run(replace(claim, cases=claim.cases[1:3]), 4, seed)]

    first = numbers(0)
    run(CLAIMS["sign"], 1)
    assert numbers(0) == first
    assert numbers(1) != first


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_saves_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.json"
    assert main(["sign", "fastgrad", "--instances", "10", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 claims hold" in said
    assert "vertices, in fractions" in said
    saved = json.loads(file.read_text())
    assert saved["complete"]
    assert {row["claim"] for row in saved["records"]} == {"sign", "fastgrad"}
    assert all(row["holds"] and row["instances"] >= 10 for row in saved["records"])
    assert list(tmp_path.iterdir()) == [file]


def test_a_claim_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CLAIMS, "made", made(Finding("a judge", [0.0, math.nan], 1e-6, "p = 2")))
    file = tmp_path / "records.json"
    assert main(["made", "--json", str(file)]) == 1
    assert "made does not hold: inf > 1e-06 at p = 2, item 1 (a judge)" in capsys.readouterr().out
    assert json.loads(file.read_text())["records"][0]["discrepancy"] is None


def test_an_interrupted_run_leaves_complete_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(case: int, rng: np.random.Generator, n: int) -> Iterator[Finding]:
        yield Finding("a judge", 0.0, 1e-6, "p = 2")
        raise KeyboardInterrupt

    monkeypatch.setitem(CLAIMS, "made", replace(CLAIMS["sign"], name="made", check=stop))
    file = tmp_path / "records.json"
    assert main(["sign", "made", "--instances", "small", "--json", str(file)]) == 130
    assert "interrupted: 1 of 2 claims were checked" in capsys.readouterr().err
    saved = json.loads(file.read_text())
    assert not saved["complete"]
    assert {row["claim"] for row in saved["records"]} == {"sign"}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["proposition_3"], "'proposition_3' is not one of"),
        (["sign", "--instances", "0"], "must be small, full or a number from 1 up"),
        (["sign", "--seed", "-1"], "--seed -1 must be 0 or more"),
        (["sign", "--json", "no/such/folder.json"], "cannot be written (No such file or directory)"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_first_word_hands_over_to_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("audited")
    module.main = lambda arguments: len(arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(COMMANDS, "audit", lambda: module)
    assert main(["audit", "--steps", "all"]) == 2


def test_help_names_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and claim.statement in said for name, claim in CLAIMS.items())


def test_a_record_holds_at_its_tolerance() -> None:
    record = Record("a", "b", "c", "d", 1, 0.0, 0.0, "e", 0, "", 0.0)
    assert record.holds
    assert not replace(record, discrepancy=1e-300).holds
