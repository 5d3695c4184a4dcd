"""The judge, judged: every wrong claim of the table, a small fuzz, right answers; the oracles among themselves."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import convexattack as ca
from convexattack.cli import app
from verification.__main__ import main
from verification.judge import ROWS, command
from verification.judge.edges import edged
from verification.judge.fuzz import Tally, clearly_false, fuzzed
from verification.judge.oracles import answer, by_root, by_solver, distance, exactly, polyhedral, scale, stretched
from verification.judge.planes import truth
from verification.judge.right import FAMILIES, Rates, family
from verification.judge.spec import INF, Part, Piece, Spec, ball, box, gnii, min_norm, optimal
from verification.judge.trial import Finding, tried
from verification.judge.worlds import World, drawn, narrowed
from verification.judge.wrong.row import Row, is_, wrong
from verification.judge.wrong.rule_10 import CASES, records

BY_RULE = [pytest.param(rule, id=f"rule {rule}") for rule in sorted({row.rule for row in ROWS})]
FEW = {"gnii", "gn", "min_norm", "hinges"}


@pytest.fixture(autouse=True)
def quiet() -> object:
    """Solvers warn about programs that are degenerate on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [False, True], ids=["float64", "exact"])
@pytest.mark.parametrize("rule", BY_RULE)
def test_no_wrong_claim_holds(rule: int, exact: bool) -> None:
    found = [str(finding) for row in ROWS if row.rule == rule for finding in tried(row, exact)[1]]
    assert found == []


def test_the_table_is_large_and_says_why() -> None:
    assert len(ROWS) >= 150
    assert {row.rule for row in ROWS} >= set(range(1, 10))
    assert len({(row.rule, row.name) for row in ROWS}) == len(ROWS)
    assert all(row.why and "\n" not in row.why for row in ROWS)
    assert min(Counter(row.rule for row in ROWS).values()) >= 15


def test_the_right_answers_of_the_table_are_right() -> None:
    """By oracles that share no code with the package, nor with whoever wrote the table."""
    checked, wrong_ones, known = 0, [], dict[Spec, tuple[str, float] | None]()
    for row in ROWS:
        if row.spec is None or row.right.status == "INVALID" or math.isnan(row.right.optimum):
            continue
        spec = Spec(row.spec.kind, row.spec.value, row.spec.gradient, row.spec.sets, row.spec.p)
        if spec not in known:
            known[spec] = quick(spec)
        if (found := known[spec]) is None:
            continue
        status, optimum = found
        checked += 1
        if spec.kind == "gn" and status == "OPTIMAL":
            status = "FEASIBLE" if optimum < 0 else "INFEASIBLE"
        if status != row.right.status or not _same(optimum, row.right.optimum, spec):
            wrong_ones.append(f"{row.name}: {row.right} but {status}, {optimum}")
    assert wrong_ones == []
    assert checked > 400


def quick(spec: Spec) -> tuple[str, float] | None:
    """What an oracle other than a conic solver says; those were compared once, and take their time."""
    return answer(spec) if spec.kind == "operator" or (polyhedral(spec) and spec.d <= 3) else by_root(spec)


def _same(a: float, b: float, spec: Spec) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return True  # the status says it
    unit = 0.0 if spec.kind == "operator" else scale(spec)
    return abs(a - b) <= 1e-5 * max(abs(a), abs(b)) + (1e-6 * unit if math.isfinite(unit) else 1e-9)


def test_wrong_claims_of_the_table_are_far_from_the_truth() -> None:
    """Outside by more than thirty tolerances, or as far from the optimum: whatever claims to be optimal in float64."""
    near = []
    for row in ROWS:
        spec, said = row.spec, row.said
        if (
            spec is None
            or said is None
            or said.status != "OPTIMAL"
            or spec.kind != "gnii"
            or row.right.status != "OPTIMAL"
            or not row.floats
        ):
            continue
        eta = torch.tensor(said.eta, dtype=torch.float64).to(said.dtype).double().numpy()
        limit = 30 * ca.Tolerance().at(spec.dtype)
        gap = abs(spec.value + float(np.dot(spec.gradient, eta)) - row.right.optimum)
        if (
            distance(spec, eta) <= limit
            and gap <= limit * (scale(spec) if math.isfinite(scale(spec)) else 0)
            and np.isfinite(eta).all()
        ):
            near.append(row.name)
    lost = ("a coordinate that cannot move hides the gap", "slopes that vanish")  # what float64 cannot hold, here too
    assert [name for name in near if "no number" not in name and name not in lost] == []


# --- a row that is not wrong is found, whatever its disguise ---------------------------------------------------------


def test_a_claim_that_holds_is_a_finding() -> None:
    right = wrong(2, "right", gnii(0, [3, 4], ball(2)), optimal([-0.6, -0.8], [-3, -4]), is_(-5), "it is not")
    for exact in (False, True):
        n, found = tried(right, exact)
        assert n > 1
        assert len(found) == n
        assert all("right is OPTIMAL, -5" in finding.what for finding in found)
    assert str(found[0]).startswith("rule 2, exact, right: ")


def test_a_bound_beyond_the_optimum_is_a_finding() -> None:
    row = wrong(2, "a lie", gnii(0, [3, 4], ball(2)), optimal([0, 0], [-3, -4]), is_(-6), "the optimum is −5, not −6")
    assert any("lies beyond the optimum -6" in finding.what for finding in tried(row, False)[1])


def test_an_error_is_a_finding_unless_the_row_allows_it() -> None:
    spec, said = gnii(0, [3, 4], ball(2, -1.0)), optimal([0, 0], [-3, -4])
    assert "no program: ValueError" in tried(wrong(8, "an error", spec, said, is_(0), "no ball"), False)[1][0].what
    assert tried(wrong(8, "an error", spec, said, is_(0), "no ball", raises=True), False)[1] == []


def test_an_exact_row_is_not_asked_in_float64() -> None:
    row = Row("exact", 9, is_(0), "weak", gnii(0, [1], box(-1, 1)), optimal([0], [-1]), floats=False)
    assert tried(row, False) == (0, [])


# --- oracles ---------------------------------------------------------------------------------------------------------


def _spec(world: World, i: int) -> Spec:
    """Item i in plain numbers."""
    one, d = world.take([i]), world.d
    parts: list[Part] = []
    for shape in one.shapes:
        if shape.disk or shape.name == "ball":
            assert shape.radius is not None
            parts.append(Part(p=2.0 if shape.disk else shape.p, radius=float(shape.radius[0]), centre=(0.0,) * d))
            continue
        for A, b in shape.planes(1, d):
            rows = None if shape.name == "box" else tuple(map(tuple, A[0].tolist()))
            low = tuple((-b[0]).tolist()) if shape.name == "box" and A[0, 0, 0] < 0 else (-INF,) * len(b[0])
            high = tuple(b[0].tolist()) if not (shape.name == "box" and A[0, 0, 0] < 0) else (INF,) * len(b[0])
            parts.append(Part(rows=rows, low=low, high=high))
    piece = Piece("", lambda d: None, lambda d: tuple(parts), lambda d: 0)
    value, gradient = one.value[0].tolist(), one.gradient[0].tolist()
    if world.gradient.ndim == 3:
        gradient = [tuple(row) for row in gradient]
    return Spec(world.kind, tuple(value) if world.kind == "hinges" else value, tuple(gradient), (piece,), world.p)


@pytest.mark.parametrize("seed", range(24))
def test_oracles_agree(seed: int) -> None:
    """Many at once in NumPy, and one at a time: in rationals, to 40 digits, or by Clarabel."""
    rng = np.random.default_rng(seed)
    room, kind = ("ball", "plane", "space")[seed % 3], ("gnii", "gn", "min_norm", "hinges")[seed // 3 % 4]
    world = drawn(rng, 4, "operator" if room == "ball" and kind == "hinges" else kind, room)
    known = truth(world, room)
    for i in range(4 if room != "space" else 2):
        spec = _spec(world, i)
        if spec.kind == "operator":
            assert stretched(spec) == pytest.approx(known.least[i], rel=1e-5)
            continue
        small = polyhedral(spec) and spec.d <= 3
        status, optimum = exactly(spec) if small else by_root(spec) or by_solver(spec)
        if status == "FAILED":
            continue
        assert not (status == "INFEASIBLE" and known.there[i])
        assert not (status != "INFEASIBLE" and known.nowhere[i])
        assert not (status == "UNBOUNDED" and known.bounded[i])
        assert not (status != "UNBOUNDED" and known.falls[i])
        if status == "OPTIMAL" and known.there[i]:
            slack = 1e-6 * (1 + abs(optimum))
            assert known.least[i] - slack <= optimum <= known.most[i] + slack


@pytest.mark.parametrize(
    ("spec", "status", "optimum"),
    [
        (gnii(0, [1, -2], box(-1, 2)), "OPTIMAL", -5.0),
        (gnii(1, [3, 4], ball(1)), "OPTIMAL", -3.0),
        (gnii(0, [1, 0], box(-INF, 1)), "UNBOUNDED", -INF),
        (gnii(0, [1, 0], box([0, 0], [-1, 1])), "INFEASIBLE", INF),
        (min_norm(5, [3, 1], INF, box([-1, -9], [1, 9])), "OPTIMAL", 2.0),
        (min_norm(5, [3, 1], 1, box([-1, -9], [1, 9])), "OPTIMAL", 3.0),
    ],
)
def test_oracles_know_what_is_known(spec: Spec, status: str, optimum: float) -> None:
    assert exactly(spec) == (status, optimum)
    found = by_root(spec)
    assert found is not None
    assert found[0] == status
    assert found[1] == pytest.approx(optimum)


def test_the_truth_is_not_called_false() -> None:
    """Nor is what lies within a tolerance of it."""
    for seed in range(8):
        world = drawn(np.random.default_rng(seed), 30, "gnii", "plane")
        known = truth(world, "plane")
        for factor in (1.0, 1 + 1e-9):
            false = clearly_false(world, known, "OPTIMAL", known.eta * factor)
            assert not (false & known.there & ~known.falls & ~world.broken).any()


def test_what_is_changed_afterwards_is_another_program() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        world = drawn(rng, 20, "gnii", "plane")
        other = narrowed(rng, world)
        same = np.array_equal(world.value, other.value) and np.array_equal(world.gradient, other.gradient)
        assert not same or any(a is not b for a, b in zip(world.shapes, other.shapes, strict=True))


# --- the fuzz, and right answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_no_corrupted_claim_holds(seed: int) -> None:
    tally = Tally()
    fuzzed(np.random.default_rng(seed), 20 if seed < 5 else 6, 0.01, tally, texts=seed == 5)
    assert [str(finding) for finding in tally.findings] == []
    assert tally.total("float64") > 100


def test_nothing_holds_on_the_wrong_side_of_an_edge() -> None:
    tally = Tally()
    edged(np.random.default_rng(0), 8, tally)
    assert [str(finding) for finding in tally.findings] == []
    assert tally.total("float64") == tally.total("exact") > 25


def test_spoiled_records_are_refused() -> None:
    n, found = records(lambda words: CliRunner().invoke(app, list(words)).exit_code)
    assert [str(finding) for finding in found] == []
    assert n == 1 + len(CASES)


def test_records_that_are_taken_are_findings() -> None:
    """A reader that takes everything."""

    def run(words: Sequence[str]) -> int:
        if words[0] == "verify":
            lines = ['{"claims": {"a": {"eta": [1.0], "certificate": {}}}}'] * 2
            (Path(words[-1]) / "records.jsonl").write_text("".join(line + "\n" for line in [*lines, '{"count": 2}']))
        return 0

    assert len(records(run)[1]) == len(CASES)
    assert "there are no records to spoil" in str(records(lambda words: 1)[1][0])


@pytest.mark.parametrize("name", FAMILIES)
def test_right_answers_hold(name: str) -> None:
    rates = Rates()
    assert family(name, np.random.default_rng(1), 16, 0.1, rates) > 0
    assert rates.mute == []
    tried_, held = rates.total("float64")
    assert held >= 0.95 * tried_, rates.refused


def test_rates_below_what_is_asked_for_are_named() -> None:
    rates = Rates()
    rates.tried["float64", "OPTIMAL", "box"], rates.held["float64", "OPTIMAL", "box"] = 1000, 990
    rates.tried["float64", "FEASIBLE", "ball"], rates.held["float64", "FEASIBLE", "ball"] = 100, 90
    assert rates.short() == [
        "float64, all: 1,080 of 1,100 right answers hold",
        "float64, OPTIMAL: 990 of 1,000 right answers hold",
        "float64, box: 990 of 1,000 right answers hold",
    ]


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_tables_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ROWS", ROWS[:3])
    monkeypatch.setattr(command, "FAMILIES", ("closed",))
    file = tmp_path / "judge.json"
    assert main(["judge", "--claims", "300", "--exact", "5", "--right", "40", "--no-records", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "wrong claims: none may hold" in out
    assert "The judge passes." in out
    saved = json.loads(file.read_text())
    assert saved["good"]
    assert saved["findings"] == []
    assert sum(entry["claims"] for entry in saved["fuzz"] if entry["mode"] == "float64") >= 300


def test_a_finding_fails_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = wrong(2, "right after all", gnii(0, [3, 4], ball(2)), optimal([-0.6, -0.8], [-3, -4]), is_(-5), "it is not")
    monkeypatch.setattr(command, "ROWS", (row,))
    assert main(["judge", "--claims", "0", "--right", "0", "--no-records"]) == 1
    out = capsys.readouterr().out
    assert "rule 2, float64, right after all: holds" in out
    assert "The judge does not pass." in out


@pytest.mark.parametrize("words", [["--claims", "-1"], ["--seed", "-2"], ["--json", "nowhere/at/all.json"], ["--what"]])
def test_wrong_arguments_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["judge", *words])
    assert left.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_findings_are_sentences() -> None:
    assert str(Finding(4, "a name", "exact", "holds", "because")) == "rule 4, exact, a name: holds (because)"
