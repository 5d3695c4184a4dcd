"""`python -m benchmarks timing`, `sdp`, `cost`, tiny: files are whole, what was not run says why, a cut run goes on."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread

import convexattack as ca
from benchmarks import cost, results, sdp, timing
from benchmarks.__main__ import main
from benchmarks.picture import cost_picture, picture, sdp_picture
from benchmarks.timing import BARE, CLOSED, FRESH, RESOLVE, Case, Cell, Limits, Ratio, Row

TINY = ["timing", "--quick", "--dims", "8,40", "--batches", "1,3", "--norms", "2,inf", "--programs", "gnii,min-norm"]


def run(out: Path, *more: str) -> dict[str, Any]:
    assert main([*TINY, *more, "--out", str(out)]) == 0
    content = json.loads((out / "timing.json").read_text())
    assert isinstance(content, dict)
    return content


def made_up(case: Case, batches: list[int], not_run: str = "") -> Row:
    """A row nobody measured."""
    seconds = 1e-6 * case.d
    cells = [
        Cell(CLOSED, b, seconds / b, (seconds / b, 2 * seconds / b), seconds / b, 3, {"OPTIMAL": b}) for b in batches
    ]
    cells += (
        [Cell(FRESH, 1, not_run=not_run)]
        if not_run
        else [Cell(FRESH, 1, 1.0, (0.9, 1.1), 0.8, 3, {"optimal": 3}, 1e-9)]
    )
    cells += [Cell(method, 1, 0.5, (0.4, 0.6), 0.3, 3, {"OPTIMAL": 3}, 1e-9) for method in (RESOLVE, BARE)]
    ratios = [Ratio(RESOLVE, CLOSED, b, 1500.0, (1400.0, 1600.0)) for b in batches] + [
        Ratio(RESOLVE, BARE, 1, 1.5, (1.2, 1.6))
    ]
    return Row(case, "CLARABEL", 3, 0.5, tuple(cells), tuple(ratios))


def test_the_files_come_out_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = run(tmp_path, "--norms", "2", "--box", "both")
    assert {(r["case"]["program"], r["case"]["p"], r["case"]["box"], r["case"]["d"]) for r in content["rows"]} == {
        (program, p, box, d)
        for program in ("gnii", "min-norm")
        for p in ("2",)
        for box in (False, True)
        for d in (8, 40)
    }
    for row in map(results.row_of, content["rows"]):
        assert [(cell.method, cell.batch) for cell in row.cells] == [
            (CLOSED, 1),
            (CLOSED, 3),
            (FRESH, 1),
            (RESOLVE, 1),
            (BARE, 1),
        ]
        assert row.rounds == 3
        for cell in row.cells:
            assert cell.not_run == ""
            assert cell.seconds is not None
            assert cell.quartiles is not None
            assert 0 < cell.quartiles[0] <= cell.seconds <= cell.quartiles[1]
            assert set(cell.statuses) <= {"OPTIMAL", "optimal"}
            assert sum(cell.statuses.values()) == (0 if cell.method == BARE else 3 * cell.batch)
            if cell.method in (FRESH, RESOLVE):
                assert cell.difference is not None
                assert cell.difference < 1e-6
        assert {(r.above, r.below, r.batch) for r in row.ratios} == {
            (FRESH, CLOSED, 1), (FRESH, CLOSED, 3), (RESOLVE, CLOSED, 1), (RESOLVE, CLOSED, 3), (RESOLVE, BARE, 1),
        }  # fmt: skip
    assert content["about"]["versions"]["torch"] == torch.__version__
    assert content["about"]["torch threads"] == torch.get_num_threads()
    assert content["about"]["command"].startswith("python -m benchmarks timing --quick")
    height, width, _ = imread(tmp_path / "timing.png").shape
    assert min(height, width) > 500
    assert "Time per item" in capsys.readouterr().out
    text = (tmp_path / "timing.md").read_text()
    assert text.count("\n| (GNII) |") == text.count("\n| (8) |") == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_is_too_large_says_so(tmp_path: Path) -> None:
    content = run(tmp_path, "--norms", "2", "--programs", "gnii", "--box", "no", "--memory", "1.2e-5")  # 13 kB
    cells = {(r["case"]["d"], c["method"], c["batch"]): c for r in content["rows"] for c in r["cells"]}
    idle = {key for key, cell in cells.items() if cell["not_run"]}
    assert idle == {(40, CLOSED, 3), (40, RESOLVE, 1), (40, BARE, 1)}
    assert all(cells[key]["not_run"].startswith("memory: ") and cells[key]["seconds"] is None for key in idle)
    assert "16 arrays of 3 × 40 float64" in (tmp_path / "timing.md").read_text()


def test_what_is_too_slow_says_so(tmp_path: Path) -> None:
    content = run(tmp_path, "--norms", "inf", "--programs", "gnii", "--box", "no", "--budget", "1e-7")
    cells = [cell for row in content["rows"] for cell in row["cells"]]
    assert all(cell["not_run"].startswith("time: ") and "the limit is 0.1 µs" in cell["not_run"] for cell in cells)
    assert content["rows"][0]["ratios"] == []
    assert "Not run" in (tmp_path / "timing.md").read_text()


def test_a_slow_one_is_foreseen() -> None:
    """Measured at d = 10 and 100; at 1,000 the closed form is linear and CVXPY quadratic, which alone is beyond 4 s."""
    key = ("gnii", "2", False)
    seen = {(*key, CLOSED): {10: 1e-5, 100: 1e-4}, **{(*key, m): {10: 5e-4, 100: 5e-2} for m in (FRESH, RESOLVE, BARE)}}
    row = timing.measure(Case(*key, 1000), [1], Limits(4.0, 1.0, 1, 1), seen)
    assert {cell.method: cell.not_run for cell in row.cells} == {
        CLOSED: "",
        **dict.fromkeys((FRESH, RESOLVE, BARE), "time: about 5 s expected, from 50 ms at d = 100; the limit is 4 s"),
    }  # fmt: skip


def test_a_failure_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 169. GiB\nand more")

    monkeypatch.setattr(timing, "bare", fail)
    row = timing.measure(Case("min-norm", "1", True, 8), [2], Limits(4.0, 1.0, 1, 1), {})
    said = "failed: MemoryError: Unable to allocate 169. GiB"
    assert [(cell.method, cell.not_run) for cell in row.cells if cell.not_run] == [(BARE, said)]
    assert row.ratio(RESOLVE, BARE) is None


def test_a_failure_now_and_then_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def moody(*_: object) -> Callable[[], None]:
        def call() -> None:
            if next(calls) % 2:
                raise ArithmeticError("not now")

        return call

    monkeypatch.setattr(timing, "bare", moody)
    row = timing.measure(Case("gnii", "2", False, 8), [256], Limits(4.0, 1.0, 4, 4), {})
    found = row.cell(BARE)
    assert found is not None
    assert (found.not_run, found.repeats, dict(found.statuses)) == ("", 2, {"ArithmeticError: not now": 2})
    (table,) = results.sheets([row], [256], spread=False)
    assert [", 2 of 4 failed" in cell for cell in table.lines[0]] == [name == "bare solver" for name in table.columns]


def test_gn_and_its_fresh_text_have_one_objective() -> None:
    row = timing.measure(Case("gn", "3", False, 8), [2], Limits(4.0, 1.0, 2, 2), {})
    assert [
        cell.difference is not None and cell.difference < 1e-6 for cell in row.cells if cell.method in (FRESH, RESOLVE)
    ] == [True, True]


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Case] = []

    def measure(case: Case, batches: list[int], *_: object) -> Row:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(case)
        return made_up(case, batches)

    monkeypatch.setattr(timing, "measure", measure)
    assert main([*TINY, "--out", str(tmp_path)]) == 130
    assert not (tmp_path / "timing.json").exists()
    with (tmp_path / "timing.jsonl").open("a") as file:
        file.write('{"case": {"progr')  # the power went off
    first, measured[:] = list(measured), []
    while main([*TINY, "--resume", "--out", str(tmp_path)]) == 130:
        first, measured[:] = first + measured, []
    assert len(set(first + measured)) == len(first + measured) == 16
    assert len(json.loads((tmp_path / "timing.json").read_text())["rows"]) == 16


def test_a_run_under_other_conditions_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "measure", lambda case, batches, *_: made_up(case, batches))
    run(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--resume", "--seed", "1")
    assert "timing.jsonl was measured with seed = 0, this run has 1; leave --resume out" in " ".join(
        capsys.readouterr().err.split()
    )


def test_targets_are_reported_and_never_asserted() -> None:
    rows = [made_up(Case("gnii", p, box, 784), [256]) for p in ("2", "inf") for box in (False, True)]
    met = {(t["p"], t["box"], t["ratio"]): t["met"] for t in results.targets(rows, 256)}
    assert met[("2", False, "re-solve / closed form")] is True
    assert met[("inf", False, "re-solve / closed form")] is False
    assert met[("3", False, "re-solve / closed form")] is None
    assert met[("2", True, "re-solve / bare")] is False


def test_a_row_survives_json() -> None:
    row = made_up(Case("gnii", "inf", True, 784), [1, 256], not_run="time: too long")
    assert results.row_of(json.loads(json.dumps(results.plain(row), allow_nan=False))) == row


def test_the_picture_shows_what_was_not_run() -> None:
    """Not a blank page with the same words: with fewer points the picture is another one."""
    full = [made_up(Case("gnii", "2", False, d), [1, 16]) for d in (64, 784)]
    less = [full[0], made_up(replace(full[1].case), [1, 16], not_run="time: too long")]
    pictures = [picture(rows, [1, 16], "Time per item") for rows in (full, less)]
    assert pictures[0] != pictures[1]
    assert imread(io.BytesIO(pictures[0])).std() > 0.01


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--norms", "0.5"], "'0.5' must be numbers from 1 to inf"),
        (["--norms", "two"], "'two' must be numbers from 1 to inf"),
        (["--dims", "0"], "'0' must be whole numbers from 1 up"),
        (["--batches", "1,x"], "'1,x' must be whole numbers from 1 up"),
        (["--programs", "gn,lp"], "'lp' is not one of gn, gnii, min-norm"),
        (["--box", "maybe"], "'maybe' must be no, yes or both"),
        (["--budget", "-1"], "'-1' must be a number above 0"),
        (["--memory", "nan"], "'nan' must be a number above 0"),
        (["--device", "tpu"], "'tpu' must be cpu, cuda or cuda:N"),
        (["--device", "cuda:99"], "--device cuda:99"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["timing", *arguments, "--out", str(tmp_path / "new")])
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        main([*TINY, "--out", str(tmp_path / "file")])
    assert "cannot be written to" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["timing", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    said = capsys.readouterr().out
    assert all(
        word in said for word in ("closed form", "re-solve", "bare solver", "--resume", "timing.png", "examples:")
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.26e-6, "4.26 µs"), (9.999e-4, "1 ms"), (0.0123, "12.3 ms"), (3.6, "3.6 s"), (1234.0, "1,234 s")],
)
def test_seconds_in_words(seconds: float, text: str) -> None:
    assert timing.brief(seconds) == text


# --- sdp --------------------------------------------------------------------------------------------------------------

TINY_SDP = ["sdp", "--quick", "--dims", "6,12", "--squares", "8"]


def made_up_sdp(m: int, d: int, seconds: float, peak: int | None = None) -> sdp.Row:
    """A row nobody measured."""
    slow = (
        sdp.Cell(sdp.CLARABEL, 1, not_run="memory: too much"),
        sdp.Cell(sdp.SCS, 1, 400 * seconds, (1.0, 2.0), 1, 1e-9),
    )
    ours = sdp.Cell(sdp.OURS, 256, seconds, (seconds, seconds), 3, None, 3e-9, 9, 0.95, peak)
    return sdp.Row(sdp.Case(m, d, 256), 0.5, (*slow, ours), {(sdp.SCS, 256): 400.0})


def test_the_relaxation_comes_out_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdp, "batch_at", lambda d: 3)
    assert main([*TINY_SDP, "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "sdp.json").read_text())
    assert content["complete"]
    assert [(row["case"]["m"], row["case"]["d"], row["case"]["batch"]) for row in content["rows"]] == [
        (10, 6, 3),
        (10, 12, 3),
        (8, 8, 1),
    ]
    for row in content["rows"]:
        run = {(cell["method"], cell["batch"]): cell for cell in row["cells"] if not cell["not_run"]}
        thin = row["case"]["m"] == 10
        others = (
            {(sdp.CLARABEL, 1), (sdp.SCS, 1), (sdp.CVXPY, 1), (sdp.OURS, 3), (sdp.OURS, 1)} if thin else {(sdp.OURS, 1)}
        )
        assert set(run) - {(sdp.GPU, row["case"]["batch"])} == others
        for (method, _), cell in run.items():
            assert 0 < cell["quartiles"][0] <= cell["seconds"] <= cell["quartiles"][1]
            if method in (sdp.OURS, sdp.GPU):
                assert abs(cell["gap"]) < 1e-8
                assert 0.7 < cell["bracket"] <= 1
                assert cell["steps"] > 0
            else:
                assert cell["difference"] < 1e-4
        assert {(ratio["above"], ratio["batch"]) for ratio in row["ratios"]} >= {
            (method, batch) for method, _ in others - {(sdp.OURS, 3), (sdp.OURS, 1)} for batch in (1, 3)
        }
    page = (tmp_path / "sdp.md").read_text()
    assert page.startswith("# The relaxation of the operator norm, p = ∞\n\n`python -m benchmarks sdp --quick")
    assert "not asked: m = d is about ours alone" in page
    height, width, _ = imread(tmp_path / "sdp.png").shape
    assert min(height, width) > 500
    assert "primal / dual" in capsys.readouterr().out
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_relaxation_that_is_too_slow_or_too_large_is_foreseen() -> None:
    seen: sdp.Seen = {method: {10: 1e-3, 20: 4e-3} for method in (sdp.CLARABEL, sdp.SCS, sdp.CVXPY)}
    row = sdp.measure(sdp.Case(2, 400, 1), 0.1, 1.0, seen, rounds=1)
    assert {
        cell.method: cell.not_run.split(";")[0] for cell in row.cells if cell.method not in (sdp.OURS, sdp.GPU)
    } == {
        sdp.CLARABEL: "memory: a dense triangle for the 80,200 unknowns of X in Clarabel's linear system, 24.0 GiB",
        sdp.SCS: "time: about 1.6 s expected, from 4 ms at d = 20",
        sdp.CVXPY: "time: about 197 ms expected, from 4 ms at d = 20",
    }
    assert row.cell(sdp.OURS, 1) is not None
    assert row.ratios == {} or set(row.ratios) == {(sdp.GPU, 1)}


def test_a_solver_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 169. GiB\nand more")

    monkeypatch.setattr(ca.OperatorNorm, "problem", fail)
    row = sdp.measure(sdp.Case(2, 4, 1), 1.0, 1.0, {}, rounds=1)
    said = "failed: MemoryError: Unable to allocate 169. GiB"
    assert [cell.method for cell in row.cells if cell.not_run == said] == [sdp.CLARABEL, sdp.SCS]


def test_the_growth_is_the_slope_between_a_thousand_and_a_million() -> None:
    rows = [made_up_sdp(10, d, 1e-6 * d**1.5 if d >= 1_000 else 1.0) for d in (100, 1_000, 10_000, 1_000_000)]
    assert sdp.exponent(rows) == pytest.approx(1.5)
    assert sdp.exponent(rows[:2]) is None


def test_targets_of_the_relaxation_are_reported_and_never_asserted() -> None:
    limit = 8 * 256 * 150_528 * (30 + 55)
    rows = [made_up_sdp(10, 100, 1e-3), made_up_sdp(10, 784, 2e-3), made_up_sdp(10, 150_528, 1.0, limit + 1)]
    met = {target["what"]: target["met"] for target in sdp.targets(rows)}
    assert met["d × d, SCS / ours, m = 10, d = 100"] is True
    assert met["d × d, Clarabel / ours, m = 10, d = 100"] is None
    assert met["ours, seconds an item, m = 10, d = 784, batch 256"] is True
    assert met["ours, seconds an item, m = 10, d = 150,528, batch 256"] is False
    assert met["ours, relative gap, m = 10, d = 784, batch 256"] is True
    assert met["ours, peak memory / (3 J + d·m(m+1)/2 numbers), m = 10, d = 150,528"] is False
    assert met["ours, seconds an item, m = 2,000, d = 2,000"] is None


def test_the_memory_of_a_call_is_that_of_a_process_of_its_own() -> None:
    case = sdp.Case(2, 30_000, 10)
    peak = sdp._peak(case, 0, "cpu")
    if peak is None:
        pytest.skip("only Linux says what a process needs")
    J = 8 * case.batch * case.m * case.d
    assert 1.5 * J < peak < 30 * J
    assert sdp._peak(sdp.Case(2, 30, 10), 0, "cpu") is None


def test_the_picture_of_the_relaxation_shows_what_was_measured() -> None:
    rows = [made_up_sdp(10, d, 1e-6 * d, 100 * d) for d in (1_000, 10_000)] + [made_up_sdp(500, 500, 1.0)]
    pictures = [sdp_picture(some, "heading") for some in (rows, rows[:2], rows[:1])]
    assert len(set(pictures)) == 3
    assert imread(io.BytesIO(pictures[0])).std() > 0.01


def test_an_interrupted_relaxation_leaves_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(case: sdp.Case, *_: object) -> sdp.Row:
        if case.d == 12:
            raise KeyboardInterrupt
        return made_up_sdp(case.m, case.d, 1e-3)

    monkeypatch.setattr(sdp, "measure", measure)
    assert main([*TINY_SDP, "--out", str(tmp_path)]) == 130
    content = json.loads((tmp_path / "sdp.json").read_text())
    assert (content["complete"], len(content["rows"])) == (False, 1)
    assert "1 of 3 rows were measured" in capsys.readouterr().err
    assert not (tmp_path / "sdp.png").exists()


def test_help_teaches_the_relaxation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["sdp", "--help"])
    said = capsys.readouterr().out
    assert all(word in said for word in ("d x d", "m x m", "--budget 200 --full", "sdp.png", "not run"))


# --- the cost of attacks ----------------------------------------------------------------------------------------------


def test_the_cost_of_attacks_comes_out_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--model", "digits", "--images", "5", "--rounds", "2", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "cost.json").read_text())
    assert {(row["attack"], row["p"], row["box"]) for row in content["rows"]} == set(
        itertools.product(cost.ATTACKS, ("1", "2", "inf"), (False, True))
    )
    for row in content["rows"]:
        assert (row["model"], row["images"], row["rounds"]) == ("digits", 5, 2)
        assert row["steps"] >= 5
        assert 0 < row["floor"] < 10 * row["seconds"]
        assert 0.1 < row["low"] <= row["ratio"] <= row["high"]
        assert row["attack"] in ("Algorithm 1, best piece", "DeepFool") or not row["batched"]
    text = (tmp_path / "cost.md").read_text()
    assert "python -m benchmarks cost --model digits" in text
    assert "one forward pass with a graph, K backward passes" in text
    assert text.count("\n| DeepFool |") == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cost.json", "cost.md", "cost.png"]
    assert imread(tmp_path / "cost.png").std() > 0.01
    assert "attack ÷ floor" in capsys.readouterr().out


@pytest.mark.parametrize("batched", [False, True])
def test_the_floor_is_these_passes_and_no_more(batched: bool) -> None:
    passes = {"with": 0, "without": 0, "backward": 0}

    class Counted(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            passes["with" if torch.is_grad_enabled() else "without"] += len(x)
            return super().forward(x)

    class Backward(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            passes["backward"] += 1
            return gradient

    model, x, label = Counted(4, 3), torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
    alive = [torch.arange(5), torch.tensor([1, 4])]

    def loss(output: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return ca.margin(Backward.apply(output), classes)  # type: ignore[no-untyped-call]

    cost.floor(model, x, label, loss, alive, batched)
    assert passes == {"with": 5 + 2, "without": 5, "backward": 2 if batched else 4}


def test_costs_that_are_above_what_was_wanted_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str, attack: str, p: float, box: bool, *_: object) -> cost.Row:
        ratio, bare = 1.0 if p == 2 else 1.5, None if box else 1.15 if p == 2 else 1.35
        return cost.Row(
            name,
            attack,
            f"{p:g}",
            box,
            5,
            5,
            0.1 * ratio,
            0.1,
            ratio,
            ratio,
            ratio,
            bare,
            False,
            3,
            cost.ATTACKS[attack][2],
        )

    monkeypatch.setattr(cost, "measure", made)
    assert main(["cost", "--model", "digits", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "cost.md").read_text()
    assert (
        "10 of 30 ratios are at or below what was wanted; "
        "of those without a pixel range 5 of 15, where bare code has 4." in text
    )
    assert (text.count("| yes | 1.15 | 100.0 | 100.0 |"), text.count("| yes | – | 100.0 | 100.0 |")) == (5, 5)
    assert (text.count("| no | 1.35 | 150.0 | 100.0 |"), text.count("| no | – | 150.0 | 100.0 |")) == (10, 10)
    rows = [made("digits", "DeepFool", p, False) for p in (1.0, 2.0)]
    pictures = [cost_picture(rows), cost_picture(rows[:1]), cost_picture([replace(row, bare=None) for row in rows])]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("p", cost.NORMS)
@pytest.mark.parametrize("attack", cost.ATTACKS)
def test_bare_code_does_the_same(attack: str, p: float, batched: bool) -> None:
    make, loss, _ = cost.ATTACKS[attack]
    model, x, label = cost._subject("digits", 40)
    ours = make(ca.Lp(p), ())(model, x, label)
    size, margin = cost._bare(attack, p, model, x, label, loss, batched)
    torch.testing.assert_close(size.double(), ours.size, rtol=1e-4, atol=0)
    torch.testing.assert_close(margin, ours.margin, rtol=0, atol=2e-4)


def test_an_interrupted_cost_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> cost.Row:
        raise KeyboardInterrupt

    monkeypatch.setattr(cost, "measure", interrupt)
    assert main(["cost", "--model", "digits", "--out", str(tmp_path)]) == 130
    assert not list(tmp_path.iterdir())
    assert "interrupted after 0 rows" in capsys.readouterr().err
