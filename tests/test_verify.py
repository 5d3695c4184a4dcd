"""`verify` proves what is right, refuses what is wrong, and says of everything that it did not run why."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convexattack as ca
from convexattack import datasets, files, models
from convexattack.datasets import Images
from convexattack.verify import Report, refusals, verify

INF = math.inf
PROGRAMS = ("gn", "gnii", "min-norm")


@pytest.fixture(scope="module")
def report() -> Report:
    return verify(images=8, norms=(2.0, INF))


def test_both_paths_are_proved_and_agree(report: Report) -> None:
    assert report.passed
    assert report.verdict.startswith("VERIFIED: on all 96 items closed form and CVXPY agree to ")
    wanted = [(name, p, box) for name in PROGRAMS for p in (2, INF) for box in (False, True)]
    assert [(row.program, row.p, row.box) for row in report.rows] == wanted
    for row in report.rows:
        assert row.closed_form.held == row.reference.held == row.items == 8
        assert row.closed_form.gap <= ca.Tolerance.closed_form().at(torch.float64)
        assert row.difference <= 1e-6
        assert row.disagreements == 0
        assert row.closed_form.why is row.reference.why is None
        assert row.closed_form.seconds > 0 < row.reference.seconds


def test_the_default_radius_gives_both_verdicts(report: Report) -> None:
    for row in report.rows:
        if row.program == "gn":
            assert set(row.closed_form.statuses) == {"FEASIBLE", "INFEASIBLE"}
            assert row.radius == float(f"{row.radius:.1e}")


def test_images_are_classified_correctly_and_follow_the_seed(tmp_path: Path) -> None:
    found = {}
    for seed in (0, 1):
        verify(images=5, norms=(2.0,), programs=("gnii",), box=False, seed=seed, out=tmp_path / str(seed))
        found[seed] = [record["about"] for record, _, _ in files.read_records(tmp_path / str(seed) / "records.jsonl")]
    assert [about["image"] for about in found[0]] != [about["image"] for about in found[1]]
    images = datasets.load("digits")
    assert [about["label"] for about in found[0]] == [int(images.label[about["image"]]) for about in found[0]]
    x = images.x[[about["image"] for about in found[0]]]
    assert models.load("digits")(x).argmax(1).tolist() == [about["label"] for about in found[0]]


def test_the_piece_is_the_most_dangerous_one(tmp_path: Path) -> None:
    verify(images=6, norms=(1.0,), programs=("min-norm",), box=False, out=tmp_path)
    images, network = datasets.load("digits"), models.load("digits").double()
    for record, program, claims in files.read_records(tmp_path / "records.jsonl"):
        about = record["about"]
        lin = ca.linearize(network, images.x[about["image"]][None].double(), torch.tensor([about["label"]]))
        ratio = lin.value[0] / ca.Lp(1).dual(lin.gradient[0])
        others = [k for k in range(10) if k != about["label"]]
        assert about["piece"] == others[int(ratio.argmin())]
        torch.testing.assert_close(program.gradient[0], lin.gradient[0, ratio.argmin()])
        assert float(claims["closed_form"].eta.abs().sum()) == pytest.approx(float(ratio.min()), rel=1e-9)


def test_the_records_are_certified_bit_by_bit(tmp_path: Path) -> None:
    report = verify(images=4, norms=(2.0, INF), out=tmp_path)
    records = list(files.read_records(tmp_path / "records.jsonl"))
    assert len(records) == sum(row.items for row in report.rows) == 48
    for record, program, claims in records:
        assert set(claims) == {"closed_form", "reference"}
        for name, claim in claims.items():
            certificate = ca.certify(program, claim)
            assert certificate.holds().all()
            assert files.certificate_record(certificate, 0) == record["claims"][name]["certificate"]
    assert (tmp_path / "perturbations.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["perturbations.png", "records.jsonl"]
    assert report.files == (str(tmp_path / "records.jsonl"), str(tmp_path / "perturbations.png"))


def test_the_evidence_has_every_cell_and_a_reason_for_each_that_was_not_run(report: Report) -> None:
    cells = report.matrix()
    keys = {tuple(str(cell[name]) for name in ("program", "norm", "sets", "dtype", "device", "solver")) for cell in cells}
    assert len(keys) == len(cells) == 3 * 5 * 2 * 3 * 2 * 2
    ran = [cell for cell in cells if cell["result"] != "not run"]
    assert [cell["result"] for cell in ran] == ["holds"] * 24
    assert {cell["by"] for cell in ran if cell["solver"] == "reference"} == {"HIGHS", "CLARABEL"}
    why = {cell["why"] for cell in cells if cell["result"] == "not run"}
    assert None not in why
    assert "--norms left it out; run with --norms 1.5" in why
    assert "--dtype was float64; run with --dtype float16" in why
    if not torch.cuda.is_available():
        assert "torch finds no CUDA device on this machine" in why


def test_the_json_is_strict_and_whole(report: Report) -> None:
    text = json.dumps(report.as_json("convexattack verify"), allow_nan=False)
    found = json.loads(text)
    assert found["command"] == "convexattack verify"
    assert (found["passed"], found["seed"], len(found["rows"])) == (True, 0, 12)
    assert {"python", "torch", "cvxpy", "clarabel", "highspy", "scs"} <= found["versions"].keys()
    assert found["rows"][2]["p"] == "inf"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrower_dtypes_are_held_to_their_own_tolerance(dtype: str) -> None:
    report = verify(images=4, norms=(2.0, INF), dtype=dtype)
    assert report.passed
    assert report.tolerance == ca.Tolerance().at(getattr(torch, dtype))


def test_another_solver(report: Report) -> None:
    other = verify(images=3, norms=(2.0,), programs=("gnii",), box=False, solver="scs")
    assert other.passed
    assert other.rows[0].reference.solver == "SCS"
    assert "--solver was scs; run without it" in {cell.get("why") for cell in other.matrix()}


# --- a network whose answers are known ----------------------------------------------------------------------------------------------------


def affine(weight: list[list[float]], bias: list[float]) -> nn.Module:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return nn.Sequential(nn.Flatten(), layer)


def images_of(rows: list[list[float]], label: list[int]) -> Images:
    return Images(torch.tensor(rows).view(len(rows), 1, 1, -1), torch.tensor(label), "made up", "")


AFFINE = affine([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]], [3.0, 0.0])  # L = 3 + x_0 - 2 x_1 + x_2 / 2 > 0 wherever 0 <= x <= 1
MADE_UP = images_of([[0.5, 0.5, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]], [0, 0, 0])


def test_an_affine_network_has_no_linearization_error_and_its_box_is_refuted_by_both() -> None:
    report = verify(AFFINE, MADE_UP, images=3, norms=(1.0, 3.0), radius=0.7)
    assert report.passed
    assert all(row.linearization_worst < 1e-14 for row in report.rows if row.program != "min-norm" or not row.box)
    for row in report.rows:
        if row.program == "min-norm" and row.box:
            assert row.closed_form.statuses == row.reference.statuses == {"INFEASIBLE": 3}
            assert math.isnan(row.linearization_worst)
        if row.program != "min-norm":
            assert row.radius == 0.7
    assert json.dumps(report.as_json(), allow_nan=False)


def test_fewer_images_than_asked_are_reported() -> None:
    report = verify(AFFINE, images_of([[0.0, 0.0, 0.0]] * 3, [0, 1, 0]), images=9, norms=(2.0,), programs=("gnii",), box=False)
    assert (report.asked, report.images, report.misclassified) == (9, 2, 1)


def test_the_network_is_left_as_it_was() -> None:
    network = affine([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]).train()
    verify(network, images_of([[0.5, 0.5]], [0]), norms=(2.0,), programs=("gnii",), box=False)
    assert network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


class NanAtOne(nn.Module):
    """f = (2 + Σx, 0), with a NaN gradient where x_0 = 1."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        total = x.sum(1)
        return torch.stack([2 + total + 0 * (1 - x[:, 0]).abs().sqrt(), 0 * total], 1)


def test_a_bad_item_fails_alone_and_is_named(tmp_path: Path) -> None:
    report = verify(NanAtOne(), images_of([[0.5, 0.5], [1.0, 0.0]], [0, 0]), norms=(2.0,), radius=0.5, out=tmp_path)
    assert not report.passed
    for row in report.rows:
        assert row.closed_form.statuses["INVALID"] == row.reference.statuses["INVALID"] == 1
        assert row.closed_form.held == row.reference.held == 1
    assert "INVALID claims nothing" in report.verdict
    assert report.verdict.startswith("NOT VERIFIED: 12 of 24 certificates do not hold")
    assert len(list(files.read_records(tmp_path / "records.jsonl"))) == 12


# --- what is wrong is refused -------------------------------------------------------------------------------------------------------------


def spoilt(change: Callable[[ca.Solution], ca.Solution], monkeypatch: pytest.MonkeyPatch, path: str) -> Report:
    """A run in which one path's solutions are changed behind its back."""
    honest = ca.solve

    def solve(program: ca.Program, solver: str | None = None, progress: Any = None) -> ca.Solution:
        found = honest(program, solver, progress)
        return change(found) if solver == path else found

    monkeypatch.setattr("convexattack.verify.solve", solve)
    return verify(images=4, norms=(2.0,), programs=("gn", "gnii", "min-norm"), box=False)


@pytest.mark.parametrize("path", ["closed_form", "reference"])
@pytest.mark.parametrize(
    "change",
    [
        lambda s: dataclasses.replace(s, eta=-s.eta),
        lambda s: dataclasses.replace(s, eta=0.999 * s.eta),
        lambda s: dataclasses.replace(s, eta=1.001 * s.eta),
        lambda s: dataclasses.replace(s, eta=s.eta.roll(1, 0)),
        lambda s: dataclasses.replace(s, eta=s.eta * math.nan),
    ],
    ids=["flipped", "shorter", "longer", "shuffled", "nan"],
)
def test_a_wrong_solution_is_refused(change: Callable[[ca.Solution], ca.Solution], path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = spoilt(change, monkeypatch, path)
    assert not report.passed
    assert report.verdict.startswith("NOT VERIFIED: ")
    by_name = {row.program: row for row in report.rows}
    for name in ("gnii", "min-norm"):
        wrong, right = (by_name[name].closed_form, by_name[name].reference)[:: 1 if path == "closed_form" else -1]
        assert wrong.held < right.held == 4
        assert wrong.why is not None
    assert by_name["gnii"].disagreements > 0  # of (8) the certificates alone tell: -eta is as long as eta


def test_a_wrong_verdict_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    feasible, infeasible = ca.Status.FEASIBLE.code, ca.Status.INFEASIBLE.code

    def swap(s: ca.Solution) -> ca.Solution:
        codes = torch.where(s.codes == feasible, infeasible, torch.where(s.codes == infeasible, feasible, s.codes))
        return dataclasses.replace(s, codes=codes.to(torch.int8))

    row = next(row for row in spoilt(swap, monkeypatch, "closed_form").rows if row.program == "gn")
    assert (row.closed_form.held, row.reference.held, row.disagreements) == (0, 4, 4)
    assert row.difference <= 1e-6


def test_refusals_are_sentences_in_order() -> None:
    value, gradient = torch.tensor([1.0, 1.0, 9.0, 1.0]).double(), torch.tensor([[3.0, 4.0]] * 4).double()
    gradient[3, 0] = math.nan
    program = ca.GN(value, gradient, (ca.Ball(ca.Lp(2), 0.5),))
    solution = ca.solve(program)
    assert refusals(ca.certify(program, solution))[:3] == [None, None, None]
    moved = dataclasses.replace(solution, eta=solution.eta * torch.tensor([[1.0], [2.0], [1.0], [1.0]]))
    claims = dataclasses.replace(moved, codes=torch.full((4,), ca.Status.FEASIBLE.code, dtype=torch.int8))
    claims.codes[3] = ca.Status.INVALID.code
    first, second, third, fourth = refusals(ca.certify(program, claims))
    assert first is None
    assert second == "eta is outside its constraints by 1.0e+00 relative (tolerance 1e-06)"
    assert third == "it claims FEASIBLE, but the vectors prove INFEASIBLE"
    assert fourth is not None
    assert fourth.startswith("INVALID claims nothing: the value, the gradient or a bound of this item is NaN or infinite")


# --- arguments ----------------------------------------------------------------------------------------------------------------------------


NOTHING = [0.0, 0.0, 0.0]
INTEGERS = Images(torch.ones(1, 1, 1, 3, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), "integers", "")


def detached() -> nn.Module:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.detach().flatten(1).sum(1), 0 * x.detach().flatten(1).sum(1)], 1)

    return Detached()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"images": 0}, "images must be a whole number of at least 1, got 0"),
        ({"images": True}, "images must be a whole number of at least 1, got True"),
        ({"programs": ("gn", "fgsm")}, "programs 'fgsm' is unknown: use gn, gnii, min-norm"),
        ({"programs": ()}, "programs is empty: use gn, gnii, min-norm"),
        ({"norms": ()}, "norms is empty"),
        ({"norms": (2.0, 0.5)}, "p must be in [1, inf], got p = 0.5"),
        ({"radius": -0.1}, "radius must be a finite number >= 0, got -0.1"),
        ({"radius": math.nan}, "radius must be a finite number >= 0, got nan"),
        ({"dtype": "int8"}, "dtype 'int8' is unknown: use float64, float32, float16"),
        ({"device": "abacus"}, "device 'abacus' is not available for float64 here: use cpu"),
        ({"solver": "abacus"}, "installed are CLARABEL"),
        ({"solver": "closed_form"}, "solver 'closed_form' would be compared with itself"),
        ({"solver": "HIGHS", "norms": (2.0,)}, "cannot take this program"),
        ({"model": "resnet"}, "model 'resnet' is not shipped: use one of digits"),
        ({"model": 3}, "model must be a name, MODULE:FACTORY or a torch.nn.Module, got int"),
        ({"model": "no_such_module:net"}, "module 'no_such_module' of model 'no_such_module:net' does not exist"),
        ({"weights": "none.safetensors"}, "weights file none.safetensors does not exist"),
        ({"model": AFFINE, "weights": str(Path(models.__file__).parent / "weights" / "digits.safetensors")}, "is not for this Sequential"),
        ({"data": "imagenet"}, "dataset 'imagenet' is neither digits, mnist, cifar10 nor a folder"),
        ({"model": AFFINE}, "model does not take x of shape (1, 1, 8, 8)"),
        ({"model": detached()}, "model returns no gradient with respect to x"),
        ({"model": AFFINE, "data": images_of([NOTHING, NOTHING], [2, 0])}, "label 2 is out of range: with 2 classes use 0 to 1"),
        ({"model": AFFINE, "data": INTEGERS}, "x must be floating point, got torch.uint8"),
        ({"model": AFFINE, "data": images_of([NOTHING], [1])}, "model classifies none of the 1 images of made up correctly"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_wrong_argument_is_one_sentence_before_anything_is_written(arguments: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as error:
        verify(**arguments, out=tmp_path / "out")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_cannot_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ticks: list[int] = []
    with pytest.raises(OSError, match=r"out .+file cannot be written to \(.+\): give a folder of your own"):
        verify(images=1, out=tmp_path / "file", progress=lambda done, total, what: ticks.append(done))
    assert ticks == []


def test_without_matplotlib_out_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'run pip install "convexattack\[plot\]"$'):
        verify(images=1, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_complete_lines_or_nothing(tmp_path: Path) -> None:
    def stop_at(row: int) -> Callable[[int, int, str], None]:
        def progress(done: int, total: int, what: str) -> None:
            assert total == 3 * 2 * 4
            if done > 4 * row:
                raise KeyboardInterrupt

        return progress

    for row, left in ((0, []), (2, ["records.jsonl.part"])):
        with pytest.raises(KeyboardInterrupt):
            verify(images=4, norms=(2.0,), out=tmp_path / str(row), progress=stop_at(row))
        folder = tmp_path / str(row)
        assert [path.name for path in folder.iterdir()] == left if left else not folder.exists()
    assert len(list(files.read_records(tmp_path / "2" / "records.jsonl.part"))) == 8
