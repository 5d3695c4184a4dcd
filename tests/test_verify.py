"""`verify` proves what is right, refuses what is wrong, and says of everything that it did not run why."""

from __future__ import annotations

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
from convexattack.verify import Report, verify

INF = math.inf
PROGRAMS = ("gn", "gnii", "min-norm")


@pytest.fixture(scope="module")
def report() -> Report:
    return verify(images=8, norms=(2.0, INF))


def test_both_paths_are_proved_and_agree(report: Report) -> None:
    assert report.passed
    assert report.verdict.startswith("VERIFIED: on all 96 items closed form and CVXPY agree to ")
    assert "; all 16 items of (9) are bracketed, to " in report.verdict
    wanted = [(name, p, box) for name in PROGRAMS for p in (2, INF) for box in (False, True)]
    assert [(row.program, row.p, row.box) for row in report.rows] == [
        *wanted,
        ("operator-norm", 2, False),
        ("operator-norm", INF, False),
    ]
    for row in report.rows[:12]:
        assert row.closed_form.held == row.reference.held == row.items == 8
        assert row.closed_form.gap <= ca.Tolerance.closed_form().at(torch.float64)
        assert row.difference <= 1e-6
        assert row.disagreements == 0
        assert row.closed_form.why is row.reference.why is None
        assert row.closed_form.seconds > 0 < row.reference.seconds


def test_the_operator_norm_is_bracketed_by_both_paths(report: Report) -> None:
    spectral, sign = report.rows[12:]
    for row in (spectral, sign):
        assert row.closed_form.held == row.reference.held == row.items == 8
        assert row.bound == "relaxation"
        assert row.radius == next(other.radius for other in report.rows if other.program == "gn" and other.p == row.p)
        for side in (row.closed_form, row.reference):
            assert side.bracket is not None
            low, high = side.bracket
            assert 0 < low <= high
            assert side.gap <= 1e-8
            assert (high - low) / high <= side.residual
        assert row.difference <= 1e-8
        assert row.disagreements == 0
        assert row.lower_difference is not None
        assert row.lower_difference <= max(row.closed_form.residual, row.reference.residual)
    assert (spectral.closed_form.statuses, spectral.reference.solver) == ({"OPTIMAL": 8}, "NumPy")
    assert spectral.closed_form.residual <= 1e-12
    assert (sign.closed_form.statuses, sign.reference.solver) == ({"BRACKETED": 8}, "CLARABEL")
    assert 1e-3 < sign.closed_form.residual < 1 - math.sqrt(2 / math.pi)


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
        assert isinstance(program, ca.MinNorm)
        lin = ca.linearize(network, images.x[about["image"]][None].double(), torch.tensor([about["label"]]))
        ratio = lin.value[0] / ca.Lp(1).dual(lin.gradient[0])
        others = [k for k in range(10) if k != about["label"]]
        assert about["piece"] == others[int(ratio.argmin())]
        torch.testing.assert_close(program.gradient[0], lin.gradient[0, ratio.argmin()])
        assert float(claims["closed_form"].eta.abs().sum()) == pytest.approx(float(ratio.min()), rel=1e-9)


def test_the_records_are_certified_bit_by_bit(tmp_path: Path) -> None:
    report = verify(images=4, norms=(2.0, INF), out=tmp_path)
    records = list(files.read_records(tmp_path / "records.jsonl"))
    assert len(records) == sum(row.items for row in report.rows) == 56
    for record, program, claims in records:
        assert set(claims) == {"closed_form", "reference"}
        for name, claim in claims.items():
            certificate = ca.certify(program, claim)
            assert certificate.holds().all()
            assert files.certificate_records(certificate)[0] == record["claims"][name]["certificate"]
    assert (tmp_path / "perturbations.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["perturbations.png", "records.jsonl"]
    assert report.files == (str(tmp_path / "records.jsonl"), str(tmp_path / "perturbations.png"))


def test_the_evidence_has_every_cell_and_a_reason_for_each_that_was_not_run(report: Report) -> None:
    cells = report.matrix()
    keys = {
        tuple(str(cell[name]) for name in ("program", "norm", "sets", "dtype", "device", "solver")) for cell in cells
    }
    assert len(keys) == len(cells) == 4 * 5 * 2 * 3 * 2 * 2
    ran = [cell for cell in cells if cell["result"] != "not run"]
    assert [cell["result"] for cell in ran] == ["holds"] * 28
    assert {cell["by"] for cell in ran if cell["solver"] == "reference"} <= {
        "HIGHS",
        "CLARABEL",
        "CLARABEL/HIGHS",
        "NumPy",
    }
    why = {cell["why"] for cell in cells if cell["result"] == "not run"}
    assert None not in why
    assert "--norms left it out; run with --norms 1.5" in why
    assert "--dtype was float64; run with --dtype float16" in why
    for cell in cells:
        if cell["program"] == "operator-norm":
            if cell["sets"] == ["ball", "box"]:
                assert cell["result"] == "not run"
                assert (cell["why"] == "(9) takes one ball, no box") == (
                    (cell["dtype"], cell["device"]) == ("float64", "cpu")
                )
            elif cell["result"] == "holds":
                assert cell["bound"] == "relaxation"
                assert cell["bracket"][0] <= cell["bracket"][1]
                assert cell["width"] >= cell["lower_difference"]
        else:
            assert "bracket" not in cell
    if not torch.cuda.is_available():
        assert "torch finds no CUDA device on this machine" in why


def test_the_json_is_strict_and_whole(report: Report) -> None:
    text = json.dumps(report.as_json("convexattack verify"), allow_nan=False)
    found = json.loads(text)
    assert found["command"] == "convexattack verify"
    assert (found["passed"], found["seed"], len(found["rows"])) == (True, 0, 14)
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


# --- a network whose answers are known --------------------------------------------------------------------------------


def affine(weight: list[list[float]], bias: list[float]) -> nn.Module:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return nn.Sequential(nn.Flatten(), layer)


def images_of(rows: list[list[float]], label: list[int]) -> Images:
    return Images(torch.tensor(rows).view(len(rows), 1, 1, -1), torch.tensor(label), "made up", "")


AFFINE = affine(
    [[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]], [3.0, 0.0]
)  # L = 3 + x_0 - 2 x_1 + x_2 / 2 > 0 wherever 0 <= x <= 1
MADE_UP = images_of([[0.5, 0.5, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]], [0, 0, 0])


def test_an_affine_network_has_no_linearization_error_and_its_box_is_refuted_by_both() -> None:
    report = verify(AFFINE, MADE_UP, images=3, norms=(1.0, 3.0), radius=0.7)
    assert report.passed
    assert all(row.linearization_worst < 1e-14 for row in report.rows if row.program != "min-norm" or not row.box)
    lengths = {
        1.0: 2.0,
        3.0: (1 + 2**1.5 + 0.5**1.5) ** (2 / 3),
    }  # J has rank 1: its norm is the dual one of (1, -2, 0.5)
    for row in report.rows:
        if row.program == "operator-norm":
            for side in (row.closed_form, row.reference):
                assert side.bracket == pytest.approx((0.7 * lengths[row.p],) * 2, rel=1e-7)
    for row in report.rows:
        if row.program == "min-norm" and row.box:
            assert row.closed_form.statuses == row.reference.statuses == {"INFEASIBLE": 3}
            assert math.isnan(row.linearization_worst)
        if row.program != "min-norm":
            assert row.radius == 0.7
    assert json.dumps(report.as_json(), allow_nan=False)


def test_fewer_images_than_asked_are_reported() -> None:
    report = verify(
        AFFINE, images_of([[0.0, 0.0, 0.0]] * 3, [0, 1, 0]), images=9, norms=(2.0,), programs=("gnii",), box=False
    )
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
    assert report.verdict.startswith("NOT VERIFIED: 14 of 28 certificates do not hold")
    assert len(list(files.read_records(tmp_path / "records.jsonl"))) == 14


def test_the_bracket_holds_the_norm_of_every_image(tmp_path: Path) -> None:
    """Against all 2^6 vertices, on a network whose Jacobian depends on the image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = torch.rand(6, 1, 1, 6, generator=generator)
    label = network(x.double()).argmax(1)
    report = verify(
        network,
        Images(x, label, "made up", ""),
        images=6,
        programs=("operator-norm",),
        norms=(INF,),
        radius=0.1,
        out=tmp_path,
    )
    assert report.passed
    signs = torch.cartesian_prod(*[torch.tensor([-0.1, 0.1], dtype=torch.float64)] * 6)
    errors = []
    for record, program, claims in files.read_records(tmp_path / "records.jsonl"):
        shot = x[record["about"]["image"]][None].double()
        assert "piece" not in record["about"]
        jacobian = ca.jacobian(network, shot)
        assert isinstance(program, ca.OperatorNorm)
        torch.testing.assert_close(program.J, jacobian)
        best = (signs @ jacobian[0].T).norm(dim=1).max().item()
        for claim in claims.values():
            certificate = ca.certify(program, claim)
            assert certificate.primal.item() <= best * (1 + 1e-14)
            assert certificate.dual.item() >= best * (1 - 1e-14)
        eta = claims["closed_form"].eta
        with torch.no_grad():
            moved = network(shot + eta.view_as(shot)) - network(shot)
        errors.append((moved[0] - jacobian[0] @ eta[0]).norm().item())
    assert report.rows[0].linearization_worst == pytest.approx(max(errors), rel=1e-9)
    assert report.rows[0].linearization_worst > 1e-3


@pytest.mark.parametrize(("model", "data"), [("diabetes", "diabetes"), ("digits-autoencoder", "digits")])
def test_a_regression_network_has_its_operator_norm_verified(model: str, data: str, tmp_path: Path) -> None:
    report = verify(model, data, 3, ("operator-norm",), (2.0, INF), out=tmp_path)
    assert report.passed
    assert (report.images, report.misclassified, report.pieces) == (3, 0, 0)
    network, source = models.load(model).double(), datasets.diabetes() if data == "diabetes" else datasets.load(data)
    for record, program, _ in files.read_records(tmp_path / "records.jsonl"):
        assert isinstance(program, ca.OperatorNorm)
        assert "label" not in record["about"]
        at = source.x[record["about"]["image"]][None].double()
        torch.testing.assert_close(program.jacobian, ca.jacobian(network, at))
        assert record["problem"]["radius"] == 0.1
    assert (tmp_path / "perturbations.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("model", "data", "why"),
    [
        ("diabetes", "diabetes", "model 'diabetes' is no classifier"),
        ("digits", datasets.diabetes(), "data 'diabetes' has no classes"),
    ],
)
def test_what_needs_classes_says_so_of_a_regression(model: str, data: Any, why: str) -> None:
    with pytest.raises(
        ValueError, match=rf"programs gn, gnii, min-norm need classes, and {why}: ask for operator-norm alone"
    ):
        verify(model, data)


def test_what_the_other_solver_cannot_take_is_left_out() -> None:
    report = verify(images=2, norms=(1.0, INF), programs=("gnii", "operator-norm"), box=False, solver="HIGHS")
    assert report.passed
    assert [(row.program, row.p) for row in report.rows] == [("gnii", 1.0), ("gnii", INF), ("operator-norm", 1.0)]
    assert report.rows[2].reference.solver == "NumPy"
    (left,) = report.left_out
    assert (left.program, left.p, left.box) == ("operator-norm", INF, False)
    assert left.why.startswith("solver='HIGHS' cannot take this program")
    why = {
        cell["why"]
        for cell in report.matrix()
        if (cell["program"], cell["norm"], cell["sets"], cell["dtype"], cell["device"], cell["solver"])
        == ("operator-norm", "inf", ["ball"], "float64", "cpu", "HIGHS")
    }
    assert why == {left.why}


# --- what is wrong is refused -----------------------------------------------------------------------------------------


def other(s: ca.Solution, **parts: Any) -> ca.Solution:
    """The same claim with other tensors."""
    return ca.Solution(**{"eta": s.eta, "codes": s.codes, "multipliers": s.multipliers, "stats": s.stats, **parts})


def spoilt(
    change: Callable[[ca.Solution], ca.Solution],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    programs: tuple[str, ...] = PROGRAMS,
    norms: tuple[float, ...] = (2.0,),
) -> Report:
    """A run in which one path's solutions are changed behind its back."""
    honest = ca.solve

    def solve(program: ca.Program, solver: str | None = None, progress: Any = None) -> ca.Solution:
        found = honest(program, solver, progress)
        return change(found) if solver == path else found

    monkeypatch.setattr("convexattack.verify.rows.solve", solve)
    return verify(images=4, norms=norms, programs=programs, box=False)


@pytest.mark.parametrize("path", ["closed_form", "reference"])
@pytest.mark.parametrize(
    "change",
    [
        lambda s: other(s, eta=-s.eta),
        lambda s: other(s, eta=0.999 * s.eta),
        lambda s: other(s, eta=1.001 * s.eta),
        lambda s: other(s, eta=s.eta.roll(1, 0)),
        lambda s: other(s, eta=s.eta * math.nan),
    ],
    ids=["flipped", "shorter", "longer", "shuffled", "nan"],
)
def test_a_wrong_solution_is_refused(
    change: Callable[[ca.Solution], ca.Solution], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = spoilt(change, monkeypatch, path)
    assert not report.passed
    assert report.verdict.startswith("NOT VERIFIED: ")
    by_name = {row.program: row for row in report.rows}
    for name in ("gnii", "min-norm"):
        wrong, right = (by_name[name].closed_form, by_name[name].reference)[:: 1 if path == "closed_form" else -1]
        assert wrong.held < right.held == 4
        assert wrong.why is not None
        tell = (name, wrong.violation > 1e-4) != ("gnii", False)
        assert tell or by_name["gnii"].disagreements > 0  # else the certificates alone: -eta is as long as eta


@pytest.mark.parametrize("path", ["closed_form", "reference"])
@pytest.mark.parametrize(
    ("change", "held", "apart", "why"),
    [
        (
            lambda s: other(s, eta=1.001 * s.eta),
            0,
            0,
            "item 0: η is outside its ball by 1.0e-03 of the radius",
        ),
        (
            lambda s: other(s, eta=s.eta * math.nan),
            0,
            4,
            "item 0: η, or the data of its program, holds a NaN",
        ),
        (
            lambda s: other(s, multipliers=tuple(m.roll(1, 0) for m in s.multipliers)),
            0,
            4,
            "item 0: The multipliers leave a",
        ),
        (
            lambda s: other(s, multipliers=(s.multipliers[0].flip(1), s.multipliers[1])),
            0,
            4,
            "item 0: The multipliers leave",
        ),
        (
            lambda s: other(s, multipliers=(s.multipliers[0], s.multipliers[1].flip(1))),
            0,
            0,
            "item 0: The multipliers leave",
        ),
        (
            lambda s: other(s, codes=0 * s.codes),
            0,
            0,
            "item 0: OPTIMAL is claimed, but the optimum is bracketed to ",
        ),
        (lambda s: other(s, eta=0.9 * s.eta), 4, 0, None),
        (lambda s: other(s, eta=-s.eta), 4, 0, None),
    ],
    ids=["longer", "nan", "shuffled", "another y", "another F", "optimal", "shorter", "flipped"],
)
def test_a_wrong_bracket_is_refused(
    change: Callable[[ca.Solution], ca.Solution],
    held: int,
    apart: int,
    why: str | None,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = spoilt(change, monkeypatch, path, ("operator-norm",), (INF,))
    (row,) = report.rows
    wrong, right = (row.closed_form, row.reference)[:: 1 if path == "closed_form" else -1]
    assert (wrong.held, right.held, row.disagreements) == (held, 4, apart)
    assert wrong.why == why if why is None else (wrong.why or "").startswith(why)
    assert report.passed == (why is None)


def test_a_wrong_verdict_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    feasible, infeasible = ca.Status.FEASIBLE.code, ca.Status.INFEASIBLE.code

    def swap(s: ca.Solution) -> ca.Solution:
        codes = torch.where(s.codes == feasible, infeasible, torch.where(s.codes == infeasible, feasible, s.codes))
        return other(s, codes=codes.to(torch.int8))

    row = next(row for row in spoilt(swap, monkeypatch, "closed_form").rows if row.program == "gn")
    assert (row.closed_form.held, row.reference.held, row.disagreements) == (0, 4, 4)
    assert row.difference <= 1e-6


# --- arguments --------------------------------------------------------------------------------------------------------


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
        ({"programs": ("gn", "fgsm")}, "programs 'fgsm' is unknown: use gn, gnii, min-norm, operator-norm"),
        ({"programs": ()}, "programs is empty: use gn, gnii, min-norm, operator-norm"),
        ({"programs": ("operator-norm",), "box": True}, "leave nothing to run: (9) takes one ball, no box"),
        (
            {"programs": ("operator-norm",), "norms": (INF,), "solver": "HIGHS"},
            "leave nothing to run: solver='HIGHS' cannot take",
        ),
        ({"solver": "enumeration"}, "solver 'enumeration' would be compared with itself"),
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
        (
            {"model": AFFINE, "weights": str(Path(models.__file__).parent / "weights" / "digits.safetensors")},
            "is not for this Sequential",
        ),
        ({"data": "imagenet"}, "dataset 'imagenet' is neither digits, mnist, cifar10 nor a folder"),
        ({"model": AFFINE}, "model does not take x of shape (1, 1, 8, 8)"),
        ({"model": detached()}, "model returns no gradient with respect to x"),
        (
            {"model": AFFINE, "data": images_of([NOTHING, NOTHING], [2, 0])},
            "label 2 is out of range: with 2 classes use 0 to 1",
        ),
        ({"model": AFFINE, "data": INTEGERS}, "x must be floating point, got torch.uint8"),
        (
            {"model": AFFINE, "data": images_of([NOTHING], [1])},
            "model classifies none of the 1 images of made up correctly",
        ),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_wrong_argument_is_one_sentence_before_anything_is_written(
    arguments: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
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
            assert total == (3 * 2 + 1) * 4
            if done > 4 * row:
                raise KeyboardInterrupt

        return progress

    for row, left in ((0, []), (2, ["records.jsonl.part"])):
        with pytest.raises(KeyboardInterrupt):
            verify(images=4, norms=(2.0,), out=tmp_path / str(row), progress=stop_at(row))
        folder = tmp_path / str(row)
        assert [path.name for path in folder.iterdir()] == left if left else not folder.exists()
    lines = (tmp_path / "2" / "records.jsonl.part").read_text().splitlines()
    assert [len(json.loads(line)["claims"]) for line in lines] == [2] * 8
