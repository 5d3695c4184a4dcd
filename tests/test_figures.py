"""The paper's figures and table, tiny: measured is what the attacks do, files are whole, a second start goes on."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import convexattack as ca
from benchmarks import figure1, figure2, measure, pages, paper, subjects, table1
from benchmarks.__main__ import main
from benchmarks.ledger import Ledger
from benchmarks.subjects import Subject
from convexattack import datasets, models

CUBE = ca.Lp(math.inf)
RADII = paper.NETWORKS["lenet5"].radii
MNIST = Path(os.environ.get("CONVEXATTACK_DATA", ""), "mnist")


@pytest.fixture(scope="module")
def digits() -> Subject:
    """Forty digits under the name of a network of the paper; two labels are wrong, so two images are misclassified."""
    images = datasets.load("digits")
    label = images.label.clone()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(subjects.SEED))
    label[order[:2]] = (label[order[:2]] + 1) % 10
    return subjects.of(paper.NETWORKS["lenet5"], models.load("digits"), dataclasses.replace(images, label=label), 40)


@pytest.fixture
def paper_is_digits(digits: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """LeNet-5 is the digits network, FCNN has no data, the others no weights, and there is no GPU."""

    def load(name: str, images: int | None) -> Subject:
        if name == "fcnn":
            raise FileNotFoundError("dataset mnist is nowhere: connect to the hub once")
        if name == "lenet5":
            return subjects.of(digits.network, digits.model, datasets.load("digits"), images)
        raise ValueError(f"no weights: python -m convexattack.models.train {name}")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(subjects, "load", load)


@pytest.mark.usefixtures("paper_is_digits")
def test_a_data_set_stands_for_its_networks() -> None:
    found, missing = subjects.subjects("mnist", 8)
    assert ([subject.network.name for subject in found], list(missing)) == (["lenet5"], ["fcnn"])
    found, missing = subjects.subjects("cifar10", 8)
    assert (found, list(missing)) == ([], ["nin", "densenet40"])
    assert missing["nin"].startswith("no weights")  # asked for by name, it is tried without a GPU as well


def curve(result: dict[str, Any]) -> np.ndarray:
    return np.stack([measure.fooled_at(result, radius) for radius in RADII])


def attacked(subject: Subject, attack: ca.Attack | ca.RandomSign, model: torch.nn.Module | None = None) -> np.ndarray:
    """What the attack itself does at each ε."""
    x, label = subject.x[subject.right], subject.label[subject.right]
    return np.stack([attack.at(radius)(model or subject.model, x, label).fooled.numpy() for radius in RADII])


def test_the_subject_leaves_out_what_is_misclassified(digits: Subject) -> None:
    assert len(digits.x) == len(digits.label) == 40
    assert not digits.right[:2].any()
    assert int(digits.right.sum()) == 38 - int((digits.model(digits.x[2:]).argmax(1) != digits.label[2:]).sum())
    assert digits.tested == 360
    assert 2 <= digits.wrong <= 10


@pytest.mark.parametrize("batch", [7, 256])
@pytest.mark.parametrize(
    ("method", "piece", "attack"),
    [
        ("FastGrad", "", ca.fastgrad(0.1)),
        ("Algorithm 1", "best", ca.algorithm1(0.1)),
        ("Algorithm 1", "active", ca.algorithm1(0.1, piece="active")),
        ("Algorithm 2", "", ca.algorithm2(0.1)),
    ],
)
def test_one_linearization_for_all_radii_is_the_attack_at_each(
    digits: Subject, method: str, piece: str, attack: ca.Attack, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "BATCH", batch)
    found = curve(measure.one_step(digits, method, piece, "logits", RADII))
    assert (found == attacked(digits, attack)).all()
    assert found[-1].mean() > 0.1
    assert found[0].mean() < 0.1


def test_the_best_piece_depends_on_the_radius(digits: Subject) -> None:
    found = measure.one_step(digits, "Algorithm 1", "best", "logits", RADII)
    lin = ca.linearize(digits.model, digits.x[digits.right], digits.label[digits.right])
    for radius, other in zip(RADII, found["other"], strict=True):
        best = (lin.value.double() - radius * lin.gradient.double().abs().sum(-1)).argmin(1)
        assert other == int((best != lin.value.argmin(1)).sum())
    assert found["other"][-1] > found["other"][0]


def test_other_methods_are_the_attacks(digits: Subject) -> None:
    for method, steps in measure.ITERATIVE.items():
        for piece in ("best", "active"):
            found = measure.iterated(digits, method, piece, "logits", RADII[6])
            assert (
                measure.fooled_at(found, RADII[6]) == attacked(digits, ca.algorithm1(0.1, steps=steps, piece=piece))[6]
            ).all()
    x, label = digits.x[digits.right], digits.label[digits.right]
    result = ca.deepfool()(digits.model, x, label)
    found = measure.deepfool(digits, "logits")
    assert (curve(found) == np.stack([(result.fooled & (result.size < radius)).numpy() for radius in RADII])).all()
    assert found["steps"] == int(result.steps.sum())
    smallest = min(size for size in found["sizes"] if size is not None)
    assert not measure.fooled_at(found, smallest).any()  # strictly smaller
    signs = [
        ca.random_sign(radius, torch.Generator().manual_seed(subjects.SEED))(digits.model, x, label).fooled
        for radius in RADII
    ]
    assert (curve(measure.random(digits, "logits", RADII)) == torch.stack(signs).numpy()).all()


def test_with_probabilities_algorithm_2_is_fastgrad(digits: Subject) -> None:
    """L = f_k and L = log f_k have gradients of one sign; the training loss is that of the logits, whatever f is."""
    two, fast = (
        curve(measure.one_step(digits, method, "", "probabilities", RADII)) for method in ("Algorithm 2", "FastGrad")
    )
    assert (fast == curve(measure.one_step(digits, "FastGrad", "", "logits", RADII))).all()
    assert (two == fast).mean() > 0.99
    assert (two != curve(measure.one_step(digits, "Algorithm 2", "", "logits", RADII))).any()


def test_the_numbers_of_table_1(digits: Subject) -> None:
    done: list[int] = []
    found = {name: measure.measure(digits, name, "logits", done.append)["estimates"] for name in measure.MEASURES}
    assert done == [40] * 4
    expected = {
        "rho_1": [ca.rho_1(digits.model, digits.x, digits.label, CUBE)],
        "rho_2": [(both := ca.rho_2(digits.model, digits.x, digits.label, CUBE)).active, both.smallest],
        "epsilon": [ca.smallest_radius(digits.model, digits.x, digits.label, CUBE)],
    }
    for name, estimates in expected.items():
        for plain, estimate in zip(found[name], estimates, strict=True):
            assert plain["value"] == estimate.value
            assert plain["low"] == estimate.low
            assert plain["high"] == (estimate.high if math.isfinite(estimate.high) else None)
            assert plain["images"] == int(digits.right.sum())
    x, label = digits.x[digits.right], digits.label[digits.right]
    lin = ca.linearize(digits.model, x, label)
    ratio = (lin.value.double() / lin.gradient.double().abs().sum(-1)).amin(1)
    assert found["rho_2"][1]["standard error"] == pytest.approx(float(ratio.std() / math.sqrt(len(ratio))), rel=1e-6)
    (error,) = found["test error"]
    assert error["value"] == digits.wrong / 360
    assert error["standard error"] == pytest.approx(math.sqrt(error["value"] * (1 - error["value"]) / 360))
    assert error["low"] < error["value"] < error["high"]


def test_differences_are_in_standard_errors() -> None:
    ours = {"value": 0.05, "low": 0.03, "high": 0.07, "standard error": 0.01, "images": 10}
    row = pages.Compared(paper.NETWORKS["fcnn"], "ρ₁", "Table I", 0.02, ours)
    assert row.errors == pytest.approx(3)
    assert row.quotient == pytest.approx(2.5)
    unknown = dataclasses.replace(row, ours={**ours, "value": None, "standard error": None})
    assert (unknown.errors, unknown.quotient) == (None, None)
    error = dataclasses.replace(row, what="test error", paper=0.04)
    assert "2.5 for ρ₁" in pages.reasons([error, row])[0]
    assert "Within 2 standard errors: ρ₁" in pages.reasons([error, dataclasses.replace(row, paper=0.04)])[0]


def test_a_claim_is_judged_on_the_same_images(digits: Subject) -> None:
    """Two curves over 40 images that differ on 9 in one direction and 1 in the other: 8/40 is 2.7 standard errors."""
    first, second = np.zeros((10, 40), bool), np.zeros((10, 40), bool)
    first[3, :9], second[3, 9] = True, True
    first[4, :2] = True
    second[5, :9] = True
    curves = (figure2.Curve("Algorithm 1", "best", first), figure2.Curve("FastGrad", "", second))
    claim = paper.Claim("", "Algorithm 1", "FastGrad")
    gap = figure2.Gap.of(claim, figure2.Panel(digits.network, curves, ()), "best")
    assert (gap.above, gap.below, gap.radii) == (1, 1, 10)
    assert gap.most == pytest.approx(0.2)
    assert gap.least == pytest.approx(-0.225)


def test_what_was_measured_is_not_measured_again(
    digits: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figure2.jsonl"
    (before,) = figure2.measured([digits], "logits", ("best",), Ledger(path))
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 + 1 + 3 + 1 + 2 * 10
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:50])  # cut off, as by a crash, in the line before the last
    measured: list[str] = []
    iterated = measure.iterated

    def counted(subject: Subject, method: str, *rest: Any) -> dict[str, Any]:
        measured.append(method)
        return iterated(subject, method, *rest)

    monkeypatch.setattr(measure, "iterated", counted)
    (after,) = figure2.measured([digits], "logits", ("best",), Ledger(path))
    assert measured == ["Algorithm 1-10"] * 2
    for one, other in zip(before.curves, after.curves, strict=True):
        assert (one.method, one.piece) == (other.method, other.piece)
        assert (one.fooled == other.fooled).all()
    assert figure2.measured([digits], "logits", ("best",), Ledger(path))
    assert len(measured) == 2


def test_two_processes_measure_what_one_does(digits: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert figure2.processes(digits, 1.0) == 1
    assert figure2.processes(digits, 1000.0) == 2
    (alone,) = figure2.measured([digits], "logits", ("active",), Ledger(tmp_path / "alone.jsonl"))
    monkeypatch.setattr(figure2, "SHORT", 0.0)
    (together,) = figure2.measured([digits], "logits", ("active",), Ledger(tmp_path / "together.jsonl"))
    for one, other in zip(alone.curves, together.curves, strict=True):
        assert (one.method, one.piece) == (other.method, other.piece)
        assert (one.fooled == other.fooled).all()
    items = [sorted(Ledger(tmp_path / f"{name}.jsonl").found) for name in ("alone", "together")]
    assert items[0] == items[1]


def test_what_fails_in_another_process_leaves_no_process(
    digits: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(figure2, "SHORT", 0.0)
    monkeypatch.setattr(measure, "random", math.sqrt)  # called with three arguments, there
    with pytest.raises(TypeError, match="sqrt"):
        figure2.measured([digits], "logits", ("active",), Ledger(tmp_path / "figure2.jsonl"))
    assert not multiprocessing.active_children()


def test_stale_results_are_not_mixed_in(digits: Subject) -> None:
    def changed(**parts: Any) -> str:
        return dataclasses.replace(digits, **parts).inputs

    model = models.load("digits")
    assert changed(model=model) == digits.inputs
    with torch.no_grad():
        next(model.parameters()).view(-1)[0].mul_(1 + 1e-6)
    others = [changed(model=model), changed(x=digits.x[:39]), changed(x=digits.x.nextafter(digits.x + 1))]
    assert len({digits.inputs, *others, changed(label=digits.label.flip(0))}) == 5


def test_two_may_write_to_one_ledger(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "a.jsonl"), Ledger(tmp_path / "a.jsonl")
    assert one.get({"n": 1}, lambda: {"value": 1})["value"] == 1
    assert other.get({"n": 2}, lambda: {"value": 2})["value"] == 2
    assert one.get({"n": 1}, lambda: {"value": 3})["value"] == 1
    both = Ledger(tmp_path / "a.jsonl")
    assert both.has({"n": 1})
    assert both.has({"n": 2})
    assert not both.has({"n": 3})


def check_files(out: Path, name: str, lines: int) -> dict[str, Any]:
    content = json.loads((out / f"{name}.json").read_text())
    with (out / f"{name}.csv").open() as file:
        assert len(list(csv.DictReader(file))) == lines
    height, width, _ = imread(out / f"{name}.png").shape
    assert min(height, width) > 400
    text = (out / f"{name}.md").read_text()
    assert "python -m benchmarks" in text
    assert "connect to the hub once" in text
    assert "without a GPU it takes hours: ask for few images, with --model cifar10" in text
    assert set(content["not run"]) == {"fcnn", "nin", "densenet40"}
    assert str(out) not in text.replace(content["about"]["command"], "")
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert isinstance(content, dict)
    return content


@pytest.mark.usefixtures("paper_is_digits")
def test_figure_2_comes_out_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["figure2", "--images", "30", "--out", str(tmp_path)]) == 0
    content = check_files(tmp_path, "figure2-30", 10 * (4 + 2 * 3))
    assert {(row["method"], row["piece"]) for row in content["curves"]} == {
        *((method, "") for method in ("FastGrad", "Algorithm 2", "DeepFool", "Random")),
        *(
            (method, piece)
            for method in ("Algorithm 1", "Algorithm 1-5", "Algorithm 1-10")
            for piece in ("best", "active")
        ),
    }
    known = content["about"]["networks"]["lenet5"]
    for row in content["curves"]:
        assert row["images"] == known["classified correctly"] <= known["images"] == 30
        assert 0 <= row["low"] <= row["ratio"] == row["fooled"] / row["images"] <= row["high"] <= 1
    assert [row["number"] for row in content["compared"]] == [
        "test error",
        "ρ₂, active piece",
        "ρ₂, smallest",
        "DeepFool at ε = 0.164",
    ]
    assert "Algorithm 1-5 − DeepFool" in capsys.readouterr().out

    def again(*_: Any) -> None:
        raise AssertionError("this was measured before")

    for name in ("iterated", "one_step", "deepfool", "random", "measure"):
        monkeypatch.setattr(measure, name, again)
    assert main(["figure2", "--images", "30", "--piece", "active", "--out", str(tmp_path)]) == 0
    second = json.loads((tmp_path / "figure2-30.json").read_text())
    assert second["curves"] == [row for row in content["curves"] if row["piece"] != "best"]


@pytest.mark.usefixtures("paper_is_digits")
def test_table_1_comes_out_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table1", "--images", "all", "--output", "probabilities", "--out", str(tmp_path)]) == 0
    content = check_files(tmp_path, "table1-all-probabilities", 5)
    assert [row["number"] for row in content["compared"]] == [
        what for numbers in table1.NUMBERS.values() for what, _ in numbers
    ]
    assert [row["paper"] for row in content["compared"]] == [0.009, 0.077, 0.061, 0.061, 0.164]
    finite = [
        row for row in content["compared"][2:] if row["value"] is not None
    ]  # DeepFool stalls on probabilities: no ε
    assert len(finite) >= 2
    for quotient, row in zip(content["quotients"], finite, strict=True):
        assert quotient["ours"] == pytest.approx(row["value"] / content["compared"][1]["value"])
        assert quotient["paper"] == pytest.approx(row["paper"] / 0.077)
        assert quotient["low"] < quotient["paper"] < quotient["high"]
        assert quotient["within"] == (quotient["low"] <= quotient["ours"] <= quotient["high"])
    assert content["quotients"][0]["low"] == pytest.approx(0.0605 / 0.0775)
    assert "not run" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["figure2", "table1"])
def test_a_network_in_colour_comes_out_whole(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NIN on CIFAR-10 would, with three colours, and with what the data say of themselves on the page."""
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 5, stride=4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 7 * 7, 10)
    small = torch.nn.Sequential(*layers).eval()
    x = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        label = small(x).argmax(1)
    label[0] = (label[0] + 1) % 10
    images = datasets.Images(x, label, "cifar10", "CIFAR-10 as lossy JPEG, NOT the original order.")
    monkeypatch.setattr(subjects, "load", lambda name, count: subjects.of(paper.NETWORKS[name], small, images, count))
    assert main([command, "--model", "nin", "--images", "all", "--out", str(tmp_path)]) == 0
    text = (tmp_path / f"{command}-all.md").read_text()
    assert "nin: the first 12 of the shuffled test set, of which 11 are classified correctly" in text
    assert "CIFAR-10 as lossy JPEG, NOT the original order." in text
    assert "NIN (CIFAR-10)" in text
    content = json.loads((tmp_path / f"{command}-all.json").read_text())
    assert {row["model"] for row in content["compared"]} == {"nin"}
    assert content["not run"] == {}


@pytest.mark.usefixtures("paper_is_digits")
def test_figure_1_comes_out_whole(digits: Subject, tmp_path: Path) -> None:
    assert main(["figure1", "--out", str(tmp_path)]) == 0
    content = check_files(tmp_path, "figure1", 10)
    assert [row["class"] for row in content["examples"]] == list("0123456789")
    for example in figure1.examples(digits):
        assert digits.right[example.position]
        assert int(digits.model(digits.x[example.position][None]).argmax()) == example.label
        assert int(digits.model((example.x + example.eta)[None]).argmax()) == example.found != example.label
        assert float(example.eta.abs().max()) <= digits.network.epsilon


@pytest.mark.usefixtures("paper_is_digits")
@pytest.mark.parametrize("command", ["figure1", "figure2", "table1"])
def test_nothing_is_half_written_after_ctrl_c(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(measure.MEASURES, "rho_2", interrupt)
    monkeypatch.setattr(figure1, "examples", interrupt)
    size = [] if command == "figure1" else ["--images", "30"]
    assert main([command, *size, "--out", str(tmp_path)]) == pages.INTERRUPTED
    left = sorted(tmp_path.iterdir())
    assert [path.name for path in left] == ([] if command == "figure1" else [f"{command}.jsonl"])
    assert all(json.loads(line)["result"] for path in left for line in path.read_text().splitlines())


@pytest.mark.usefixtures("paper_is_digits")
@pytest.mark.parametrize("command", ["figure1", "figure2", "table1"])
def test_a_network_without_weights_says_how_to_train_it(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--model", "nin", "--out", str(tmp_path)]) == 1
    assert "python -m convexattack.models.train nin" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["--images 0", "--images some", "--model vgg", "--output scores", "--piece none"])
def test_wrong_arguments(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["figure2", *wrong.split()])
    assert stopped.value.code == 2
    assert wrong.split()[1] in capsys.readouterr().err


@pytest.mark.skipif(
    not MNIST.is_dir(), reason="MNIST is not there: set CONVEXATTACK_DATA to the folder that holds mnist/"
)
def test_mnist(tmp_path: Path) -> None:
    assert main(["figure2", "--model", "fcnn", "--images", "16", "--piece", "best", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "figure2-16.json").read_text())
    assert content["about"]["networks"]["fcnn"]["test set"] == 10_000
    at = {(row["method"], round(row["epsilon"], 3)): row["ratio"] for row in content["curves"]}
    assert at["Algorithm 1-10", 0.1] >= at["Algorithm 1-10", 0.034] > at["Random", 0.1]
    (error, *_) = content["compared"]
    assert error["paper"] == 0.017
    assert abs(error["difference in standard errors"]) < 3
