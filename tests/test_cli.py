"""The command line: every command as a user types it, what it prints, its exit status, and what it leaves behind."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import convexattack as ca
from convexattack.cli import app

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """What the command prints on stdout and stderr; its exit status must be the one given."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})
    assert done.exit_code == status, (done.exit_code, done.stdout, done.stderr, done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.stdout, done.stderr


def refused(*arguments: str | Path) -> str:
    """The one sentence with which the command refuses its arguments."""
    out, err = run(*arguments, status=2)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("convexattack: ")
    return err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- verify

SMALL = ("verify", "--images", "6", "--norms", "2,inf")


def test_verify_shows_a_table_for_each_program_and_a_verdict() -> None:
    out, err = run(*SMALL)
    assert err == ""
    for title in ("(GN): find η", "(GNII): minimize L + gᵀη", "(8): minimize ‖η‖_p", "(9): maximize ‖Jη‖₂"):
        assert title in out
    lines = out.splitlines()
    assert sum(bool(re.match(r" *(2|inf) (ball|none|box)", line)) for line in lines) == 12
    assert "6 correctly classified test images of digits, seed 0" in lines[0]
    assert lines[-1].startswith("VERIFIED: on all 72 items closed form and CVXPY agree to ")
    assert "; all 12 items of (9) are bracketed, to " in lines[-1]
    assert max(map(len, lines[:-1])) <= 120


def test_verify_shows_the_bracket_of_the_operator_norm() -> None:
    arguments = ("verify", "--images", "6", "--norms", "1,1.5,2,3,inf", "--programs", "operator-norm")
    out, _ = run(*arguments)
    rows = json.loads(run(*arguments, "--json")[0])["rows"]
    assert [row["p"] for row in rows] == [1.0, 1.5, 2.0, 3.0, "inf"]
    lines = [line.split() for line in out.splitlines() if re.match(r" *(1|1\.5|2|3|inf) +\d", line)]
    for row, words in zip(rows, lines, strict=True):
        low, high = row["closed_form"]["bracket"]
        shown = [float(word) for word in words[-11:-9]]
        assert shown[0] <= low <= high <= shown[1] <= shown[0] + (high - low) + 2e-3 * high
        assert words.count("formula") == (3 if row["bound"] == "formula" else 0)
    assert [row["bound"] for row in rows] == ["formula", "formula", "relaxation", "relaxation", "relaxation"]
    assert "p < 2: the upper" in out
    assert "not run: operator-norm with a box: (9) takes one ball, no box\n" in out
    assert out.splitlines()[-1].startswith("VERIFIED: all 30 items of (9) are bracketed, to ")
    assert "(p = 1.5), and the upper bounds of the relaxation agree to " in out


def test_verify_says_what_it_cannot_run() -> None:
    out, _ = run(
        "verify", "--images", "2", "--norms", "1,inf", "--programs", "gnii,operator-norm", "--box", "--solver", "highs"
    )
    assert "(9): maximize" not in out
    assert "not run: operator-norm with a box: (9) takes one ball, no box\n" in out
    out, _ = run(
        "verify",
        "--images",
        "2",
        "--norms",
        "1,inf",
        "--programs",
        "gnii,operator-norm",
        "--no-box",
        "--solver",
        "highs",
    )
    assert "not run: operator-norm, p = inf: solver='HIGHS' cannot take this program" in out
    assert "all 2 items of (9) are bracketed" in out


def test_verify_as_json() -> None:
    out, err = run(*SMALL[:3], "--norms", "2", "--programs", "gn", "--no-box", "--json")
    assert err == ""
    found = json.loads(out)
    assert found["passed"] is True
    assert [(row["program"], row["p"], row["sets"]) for row in found["rows"]] == [("gn", 2.0, "ball")]
    results = [cell["result"] for cell in found["matrix"]]
    assert (results.count("holds"), results.count("not run"), len(results)) == (2, 478, 480)
    assert all(cell["why"] for cell in found["matrix"] if cell["result"] == "not run")


def test_verify_ends_with_1_if_anything_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ca.solve

    def solve(program: ca.Program, solver: str | None = None, progress: Any = None) -> ca.Solution:
        found = honest(program, solver, progress)
        if solver == "reference" and len(found) == 3:
            found.eta[1].mul_(-1)
        return found

    monkeypatch.setattr("convexattack.verify.rows.solve", solve)
    out, _ = run("verify", "--images", "3", "--norms", "2", "--programs", "gnii", "--no-box", status=1)
    assert "NOT OK: p = 2, ball: 1 of 3 by CVXPY not proved (item 1: The multipliers prove " in out
    assert "; the paths disagree on 1\n" in out
    assert "NOT VERIFIED: 1 of 6 certificates do not hold, and the paths disagree on 1 of 3 items" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--norms", "0.5"], "p must be in [1, inf], got p = 0.5"),
        (["--norms", "2,two"], "norms holds 'two', which is no number"),
        (["--norms", ","], "norms is empty"),
        (["--radius", "-1"], "radius must be a finite number >= 0, got -1.0"),
        (["--programs", "gn,fgsm"], "programs 'fgsm' is unknown"),
        (["--programs", "operator-norm", "--box"], "leave nothing to run: (9) takes one ball, no box"),
        (["--images", "0"], "images must be a whole number of at least 1, got 0"),
        (["--model", "resnet"], "model 'resnet' is not shipped"),
        (["--data", "imagenet"], "dataset 'imagenet' is neither"),
        (["--weights", "none.safetensors"], "weights file none.safetensors does not exist"),
        (["--solver", "abacus"], "solver='abacus' is neither"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--dtype", "int8"], "dtype 'int8' is unknown"),
        (["--out", "file/out"], "out file/out cannot be written to (Not a directory)"),
        (["--model", "made_up:blind"], "model returns no gradient with respect to x"),
        (["--model", "made_up:small"], "model does not take x of shape (1, 1, 8, 8)"),
        (["--model", "made_up:few"], "is out of range: with 2 classes use 0 to 1"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
    import torch
    from torch import nn

    class Blind(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 10)

    def blind():
        return Blind()

    def small():
        return nn.Sequential(nn.Flatten(), nn.Linear(3, 10))

    def few():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    """
    (folder / "made_up.py").write_text(textwrap.dedent(source))
    (folder / "file").touch()
    monkeypatch.delitem(sys.modules, "made_up", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert sentence in refused("verify", *arguments)
    assert sorted(path.name for path in folder.iterdir()) == ["file", "made_up.py"]


def test_verify_writes_records_that_certify_again(folder: Path) -> None:
    out, _ = run(*SMALL[:3], "--norms", "2", "--programs", "gn,min-norm", "--out", "evidence")
    assert "written: evidence/records.jsonl" in out
    again, _ = run("certify", "evidence/records.jsonl")
    assert (
        again
        == "48 of 48 claims in evidence/records.jsonl are proved. 48 certificates are bit by bit those on record.\n"
    )
    path = folder / "evidence" / "records.jsonl"
    *lines, footer = path.read_text().splitlines()
    record = json.loads(lines[-1])
    assert record["problem"]["program"] == "min-norm"
    record["claims"]["reference"]["certificate"]["dual"] *= 1 + 1e-6
    text = "".join(f"{line}\n" for line in [*lines[:-1], json.dumps(record)])
    path.write_text(text + footer + "\n")
    assert "is not what was written: it is empty, cut, or changed" in refused("certify", "evidence/records.jsonl")
    path.write_text(text + json.dumps({"count": 24, "sha256": hashlib.sha256(text.encode()).hexdigest()}) + "\n")
    again, _ = run("certify", "evidence/records.jsonl", status=1)
    assert f"{len(lines)} reference" in again
    assert "no: the record has dual " in again
    assert (
        "47 of 48 claims in evidence/records.jsonl are proved; 1 is not. 47 certificates are bit by bit those" in again
    )


def test_ctrl_c_leaves_complete_lines_and_ends_with_130(folder: Path) -> None:
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from convexattack.cli import main; "
        "main()"
    )
    command = [sys.executable, "-c", program, "verify", "--norms", "2", "--images", "340", "--out", "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    part = folder / "out" / "records.jsonl.part"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while (
            not (part.exists() and part.read_bytes().count(b"\n") > 1) and time.monotonic() < deadline
        ):  # the last may be taken back
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err == f"interrupted; the records so far are in {Path('out', 'records.jsonl.part')}, complete lines only\n"
    assert [path.name for path in part.parent.iterdir()] == ["records.jsonl.part"]
    content = part.read_text()
    assert content.endswith("\n")
    assert all(json.loads(line)["claims"] for line in content.splitlines())


# --- solve and certify


def problem(**changes: Any) -> None:
    """The problem.npz of three items: feasible, feasible, infeasible as (GN)."""
    gradient = np.array([[3.0, 4.0], [-1.0, 0.5], [0.1, 0.1]])
    arrays: dict[str, Any] = {
        "value": np.array([1.0, 0.25, 5.0]),
        "gradient": gradient,
        "program": "gn",
        "p": 2.0,
        "radius": 0.5,
    }
    arrays |= changes
    np.savez("problem.npz", **{name: entry for name, entry in arrays.items() if entry is not None})


def change(**changes: Callable[[Any], Any]) -> None:
    """Change arrays of solution.npz, or leave out those that become None."""
    with np.load("solution.npz") as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    arrays |= {name: new(arrays[name]) for name, new in changes.items()}
    np.savez("solution.npz", **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    "solver", [[], ["--solver", "closed_form"], ["--solver", "reference"], ["--solver", "clarabel"]], ids=" ".join
)
@pytest.mark.parametrize("program", ["gn", "gnii", "min-norm"])
def test_solve_then_certify(program: str, solver: list[str], folder: Path) -> None:
    problem(program=program, radius=None if program == "min-norm" else 0.5, lower=-0.4)
    out, err = run("solve", "problem.npz", "-o", "solution.npz", *solver)
    assert err == ""
    assert "solution.npz: 3 items by " in out
    out, err = run("certify", "solution.npz")
    assert "3 of 3 claims in solution.npz are proved.\n" in out
    assert sorted(path.name for path in folder.iterdir()) == ["problem.npz", "solution.npz"]


def test_solve_prints_each_status_with_its_sentence(folder: Path) -> None:
    problem()
    out, _ = run("solve", "problem.npz", "-o", "solution.npz")
    assert out.splitlines() == [
        f"2 FEASIBLE: {ca.Status.FEASIBLE.value}",
        f"1 INFEASIBLE: {ca.Status.INFEASIBLE.value}",
        "solution.npz: 3 items by closed_form; check it with: convexattack certify solution.npz",
    ]
    out, _ = run("certify", "solution.npz")
    wanted = [["item", "claimed"], ["0", "FEASIBLE"], ["1", "FEASIBLE"], ["2", "INFEASIBLE"]]
    assert [line.split()[:2] for line in out.splitlines()[:-1]] == wanted


def test_an_item_that_cannot_be_solved_ends_with_1_and_spares_the_others(folder: Path) -> None:
    problem(value=np.array([1.0, math.nan, 5.0]))
    out, err = run("solve", "problem.npz", "-o", "solution.npz", status=1)
    assert f"1 INVALID: {ca.Status.INVALID.value}" in out
    assert err == "1 of 3 items were not solved: 1\n"
    out, _ = run("certify", "solution.npz", status=1)
    assert "INVALID claims nothing" in " ".join(out.split())
    assert "2 of 3 claims in solution.npz are proved; 1 is not." in out


Changes = dict[str, Callable[[Any], Any]]
CORRUPTED: dict[
    str, tuple[Changes, set[int]]
] = {  # item 2 is infeasible: its multipliers are the proof, and eta plays no part
    "flipped": ({"eta": lambda a: -a}, {0, 1}),
    "outside": ({"eta": lambda a: a * (1 + 1e-5)}, {0, 1}),
    "shuffled": ({"eta": lambda a: a[[1, 0, 2]]}, {0, 1}),
    "nan": ({"eta": lambda a: a * math.nan}, {0, 1}),
    "all feasible": ({"status": lambda a: np.array(["FEASIBLE"] * 3)}, {2}),
    "all infeasible": ({"status": lambda a: np.array(["INFEASIBLE"] * 3)}, {0, 1}),
    "all undecided": ({"status": lambda a: np.array(["UNDECIDED"] * 3)}, {0, 1, 2}),
    "another value": ({"value": lambda a: a + 4}, {0, 1}),
    "another radius": ({"radius": lambda a: a / 2}, {0, 1}),
    "another gradient": ({"gradient": lambda a: -a}, {0, 1}),
    "another norm": ({"p": lambda a: 1.0}, {0, 1}),
    "other multipliers": ({"v_ball": lambda a: 100 * a}, {2}),
}


@pytest.mark.parametrize(("changes", "failed"), CORRUPTED.values(), ids=CORRUPTED)
def test_a_corrupted_solution_fails(changes: Changes, failed: set[int], folder: Path) -> None:
    problem()
    run("solve", "problem.npz", "-o", "solution.npz")
    change(**changes)
    out, _ = run("certify", "solution.npz", "--json", status=1)
    items = json.loads(out)["items"]
    assert {item["item"] for item in items if not item["holds"]} == failed
    table, _ = run("certify", "solution.npz", status=1)
    assert (
        f"{3 - len(failed)} of 3 claims in solution.npz are proved; {len(failed)} "
        f"{'is' if len(failed) == 1 else 'are'} not." in table
    )


def operator_norm(**changes: Any) -> None:
    """The problem.npz of three Jacobians: one of rank 1, two random ones."""
    jacobian = np.random.default_rng(6).normal(size=(3, 4, 6))
    jacobian[0] = np.outer([1.0, 2.0, 0.0, -1.0], [3.0, 0.0, -1.0, 1.0, 2.0, 0.5])
    arrays: dict[str, Any] = {"jacobian": jacobian, "program": "operator-norm", "p": math.inf, "radius": 0.5} | changes
    np.savez("problem.npz", **{name: entry for name, entry in arrays.items() if entry is not None})


@pytest.mark.parametrize(
    "solver", [[], ["--solver", "closed_form"], ["--solver", "reference"], ["--solver", "clarabel"]], ids=" ".join
)
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, math.inf])
def test_solve_then_certify_the_operator_norm(p: float, solver: list[str], folder: Path) -> None:
    operator_norm(p=p, radius=np.array([0.5, 1.0, 2.0]))
    out, err = run("solve", "problem.npz", "-o", "solution.npz", *solver)
    assert err == ""
    assert "solution.npz: 3 items by " in out
    if p not in (1.0, 2.0):
        assert f" BRACKETED: {ca.Status.BRACKETED.value}" in out
    out, _ = run("certify", "solution.npz")
    assert "3 of 3 claims in solution.npz are proved.\n" in out
    assert out.split()[:7] == ["item", "claimed", "primal", "dual", "gap", "violation", "width"]


def test_the_vertices_are_enumerated(folder: Path) -> None:
    operator_norm()
    out, _ = run("solve", "problem.npz", "-o", "solution.npz", "--solver", "enumeration")
    assert "3 items by enumeration" in out
    items = json.loads(run("certify", "solution.npz", "--json")[0])["items"]
    with np.load("problem.npz") as archive:
        jacobian = archive["jacobian"]
    signs = np.array(list(itertools.product([-0.5, 0.5], repeat=6))).T
    for item, best in zip(items, np.linalg.norm(jacobian @ signs, axis=1).max(1), strict=True):
        assert item["program"] == "operator-norm"
        assert item["primal"] == pytest.approx(best, rel=1e-12)
        assert item["primal"] <= best * (1 + 1e-15) <= item["dual"] * (1 + 1e-12)


CORRUPTED_NORM: dict[
    str, tuple[Changes, dict[int, str]]
] = {  # item 0 has rank 1, where the bracket is closed and the claim OPTIMAL
    "outside": (
        {"eta": lambda a: a * (1 + 1e-5)},
        dict.fromkeys(range(3), "η is outside its ball by 1.0e-05 of the radius"),
    ),
    "inside": (
        {"eta": lambda a: a * 0.9},
        {0: "OPTIMAL is claimed, but the optimum is bracketed to 1.0e-01 alone"},
    ),
    "nan": ({"eta": lambda a: a * math.nan}, dict.fromkeys(range(3), "η, or the data of its program, holds a NaN")),
    "all optimal": (
        {"status": lambda a: np.array(["OPTIMAL"] * 3)},
        dict.fromkeys((1, 2), "OPTIMAL is claimed, but the optimum is bracketed"),
    ),
    "all bracketed": ({"status": lambda a: np.array(["BRACKETED"] * 3)}, {}),
    "all feasible": (
        {"status": lambda a: np.array(["FEASIBLE"] * 3)},
        dict.fromkeys(range(3), "FEASIBLE is claimed, but (9) has"),
    ),
    "given up": ({"status": lambda a: np.array(["FAILED"] * 3)}, dict.fromkeys(range(3), "FAILED claims nothing")),
    "another radius": (
        {"radius": lambda a: a / 2},
        dict.fromkeys(range(3), "η is outside its ball by 1.0e+00 of the radius"),
    ),
    "another y": ({"y": lambda a: a[:, ::-1]}, dict.fromkeys(range(3), "The multipliers leave a gap of ")),
    "another F": ({"F": lambda a: a[:, ::-1]}, dict.fromkeys(range(3), "The multipliers leave a gap of ")),
    "no y": ({"y": lambda a: 0 * a}, dict.fromkeys(range(3), "The multipliers leave a gap of nan")),
}


@pytest.mark.parametrize(("changes", "wrong"), CORRUPTED_NORM.values(), ids=CORRUPTED_NORM)
def test_a_corrupted_bracket_fails(changes: Changes, wrong: dict[int, str], folder: Path) -> None:
    operator_norm()
    run("solve", "problem.npz", "-o", "solution.npz")
    change(**changes)
    items = json.loads(run("certify", "solution.npz", "--json", status=1 if wrong else 0)[0])["items"]
    assert {item["item"] for item in items if not item["holds"]} == set(wrong)
    for i, sentence in wrong.items():
        assert items[i]["why"].startswith(sentence)


def test_someone_elses_multipliers_fail(folder: Path) -> None:
    problem(program="min-norm", radius=None)
    run("solve", "problem.npz", "-o", "solution.npz")
    change(lam=lambda a: a / 2)
    out, _ = run("certify", "solution.npz", status=1)
    assert out.count("no: ") == 3
    change(lam=lambda a: None)
    run("certify", "solution.npz")


def test_an_eta_alone_is_certified(folder: Path) -> None:
    problem(program="gnii", eta=np.array([[-0.3, -0.4], [0.5 / math.sqrt(1.25), -0.25 / math.sqrt(1.25)], [0.0, 0.0]]))
    out, _ = run("certify", "problem.npz", status=1)
    assert "2 of 3 claims in problem.npz are proved; 1 is not." in out
    assert "2 (eta alone)" in out


def test_many_items_are_summed_up(folder: Path) -> None:
    generator = np.random.default_rng(0)
    problem(value=generator.uniform(1, 2, 100), gradient=generator.normal(size=(100, 5)), program="gnii")
    run("solve", "problem.npz", "-o", "solution.npz")
    assert run("certify", "solution.npz")[0] == "100 of 100 claims in solution.npz are proved.\n"
    change(eta=lambda a: np.where(np.arange(100)[:, None] % 4 == 1, 0.9, 1.0) * a)
    out, _ = run("certify", "solution.npz", status=1)
    assert out.count("no: ") == 20
    assert out.endswith(
        "... and 5 more that are not proved; --json lists all\n"
        "75 of 100 claims in solution.npz are proved; 25 are not.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["solve", "none.npz", "-o", "a.npz"], "none.npz does not exist"),
        (["solve", "problem.npz", "-o", "no/a.npz"], "no/a.npz cannot be written (No such file or directory)"),
        (["solve", "problem.npz", "-o", "a.npz", "--solver", "abacus"], "installed are CLARABEL"),
        (["solve", "wrong.npz", "-o", "a.npz"], "p must be in [1, inf], got p = 0.5"),
        (["solve", "objects.npz", "-o", "a.npz"], "objects.npz is no NumPy archive to be read without pickle"),
        (["certify", "problem.npz"], "problem.npz has no array 'eta'"),
        (["certify", "none.jsonl"], "none.jsonl does not exist"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_wrong_file_is_one_sentence(arguments: list[str], sentence: str, folder: Path) -> None:
    problem(p=0.5)
    (folder / "problem.npz").rename("wrong.npz")
    problem(value=np.array([None] * 3))
    (folder / "problem.npz").rename("objects.npz")
    problem()
    assert sentence in refused(*arguments)
    assert sorted(path.name for path in folder.iterdir()) == ["objects.npz", "problem.npz", "wrong.npz"]


# --- help


def test_the_lines_in_the_help_of_solve_make_a_problem(folder: Path) -> None:
    out, _ = run("solve", "--help")
    lines = [line.strip() for line in out.splitlines() if re.match(r"\s+(import numpy|g = np|np\.savez)", line)]
    assert len(lines) == 3
    exec("\n".join(lines), {})
    run("solve", "problem.npz", "-o", "solution.npz")
    assert "3 of 3 claims in solution.npz are proved." in run("certify", "solution.npz")[0]


def test_the_help_teaches_the_programs() -> None:
    out, _ = run("--help")
    names = ("gn             (GN)", "gnii           (GNII)", "min-norm       (8)", "operator-norm  (9)")
    for words in (*names, "Proposition 1", "equation (1)", "130 interrupted"):
        assert words in out
    for command in ("verify", "solve", "certify", "attack", "measure", "curve"):
        assert "Usage: " in run(command, "--help")[0]


def test_the_version() -> None:
    assert re.match(r"convexattack(, not installed| \d)", run("--version")[0])


def test_the_installed_program_is_this_one() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.scripts]\nconvexattack = "convexattack.cli:main"\n' in text
    done = subprocess.run(
        [sys.executable, "-c", "from convexattack.cli import main; main()", "verify", "--images", "0"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "convexattack: images must be a whole number of at least 1, got 0\n"
