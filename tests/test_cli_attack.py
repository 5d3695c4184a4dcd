"""`convexattack attack`, `measure` and `curve`: what they print, what they keep, and what they refuse."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import nn
from typer.testing import CliRunner

import convexattack as ca
from convexattack import datasets, models, runs
from convexattack.cli import app


def run(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """What the command prints on stdout and stderr; its exit status must be the one given."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})
    assert done.exit_code == status, (done.exit_code, done.stdout, done.stderr, done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network() -> nn.Module:
    return models.load("digits").double()


def kept(path: str) -> dict[str, Any]:
    """The arrays of a .npz, read without pickle."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def classes(x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network()(torch.from_numpy(x)).argmax(1))


# --- attack


def test_what_an_attack_keeps_is_what_the_network_does(folder: Path) -> None:
    out, err = run("attack", "algorithm1", "--images", "40", "--radius", "0.1", "--out", "a.npz")
    assert err == ""
    found = kept("a.npz")
    source = datasets.load("digits")
    assert len(set(found["index"].tolist())) == 40
    np.testing.assert_array_equal(found["x"], source.x[found["index"]].double().numpy())
    np.testing.assert_array_equal(found["label"], source.label[found["index"]].numpy())
    np.testing.assert_array_equal(found["before"], found["label"])
    np.testing.assert_array_equal(found["after"], classes(found["x"] + found["eta"]))
    np.testing.assert_array_equal(found["fooled"], found["after"] != found["label"])
    assert 5 < found["fooled"].sum() < 35
    assert np.abs(found["eta"]).reshape(40, -1).max(1) == pytest.approx(found["size"], rel=1e-15)
    assert found["size"].max() <= 0.1
    assert found["holds"].all()
    assert set(found["status"].tolist()) == {"OPTIMAL"}
    assert f"fooled        {found['fooled'].sum()} of 40 (" in out
    assert "certificates  40 of 40 last convex steps hold (40 OPTIMAL; " in out
    assert "written: a.npz\nwritten: a.png\n" in out
    about = json.loads(str(found["metadata"]))
    wanted = {"attack": "Algorithm 1", "norm": "inf", "radius": 0.1, "model": "digits", "data": "digits", "seed": 0}
    assert wanted.items() <= about.items()
    assert about["versions"]["torch"] == torch.__version__
    assert sorted(path.name for path in folder.iterdir()) == ["a.npz", "a.png"]


def test_both_formats_hold_the_same(folder: Path) -> None:
    for name in ("a.npz", "a.safetensors"):
        run("attack", "algorithm1", "--images", "5", "--norm", "2", "--out", name)
    one, other = kept("a.npz"), load_file("a.safetensors")
    status, about = one.pop("status"), json.loads(str(one.pop("metadata")))
    with safe_open("a.safetensors", framework="numpy") as file:
        metadata = {name: json.loads(entry) for name, entry in file.metadata().items()}
    names = metadata.pop("statuses")
    assert [names[code] for code in other.pop("status")] == status.tolist()
    assert metadata == about | {"format": ".safetensors"}
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_without_a_radius_it_is_rho_2(folder: Path) -> None:
    run("attack", "algorithm2", "--images", "9", "--norm", "2", "--out", "a.npz")
    found = kept("a.npz")
    x, label = torch.from_numpy(found["x"]), torch.from_numpy(found["label"])
    mean = ca.rho_2(network(), x, label, ca.Lp(2)).smallest.value
    assert json.loads(str(found["metadata"]))["radius"] == float(f"{mean:.1e}")
    assert found["size"] == pytest.approx(float(f"{mean:.1e}"), rel=1e-12)


def test_deepfool_keeps_to_the_pixel_range(folder: Path) -> None:
    run("attack", "deepfool", "--images", "12", "--norm", "2", "--out", "free.npz")
    run("attack", "deepfool", "--images", "12", "--norm", "2", "--pixels", "--out", "kept.npz")
    free, inside = kept("free.npz"), kept("kept.npz")
    assert (free["x"] + free["eta"]).min() < -1e-3
    assert (inside["x"] + inside["eta"]).min() >= 0
    assert (inside["x"] + inside["eta"]).max() <= 1
    for found in (free, inside):
        assert found["fooled"].all()
        assert found["holds"].all()
        assert np.linalg.norm(found["eta"].reshape(12, -1), axis=1) == pytest.approx(found["size"], rel=1e-12)
    assert inside["size"].mean() > free["size"].mean()


def test_a_target_is_aimed_at(folder: Path) -> None:
    out, _ = run("attack", "deepfool", "--images", "12", "--target", "3", "--out", "a.npz")
    found = kept("a.npz")
    assert 3 not in found["label"]
    np.testing.assert_array_equal(found["label"], datasets.load("digits").label[found["index"]].numpy())
    with torch.no_grad():
        scores = network()(torch.from_numpy(found["x"] + found["eta"])).numpy()
    np.testing.assert_array_equal(found["reached"], scores[:, 3] > scores[np.arange(12), found["label"]])
    assert found["reached"].all()
    assert "DeepFool, target 3" in out
    assert "reached       12 of 12 (100.0%): class 3 is above the label" in out


@pytest.mark.parametrize("name", ["algorithm2", "fastgrad"])
def test_a_single_loss_is_aimed_at_a_class(name: str, folder: Path) -> None:
    run("attack", name, "--images", "12", "--target", "3", "--radius", "0.3", "--out", "a.npz")
    found, model = kept("a.npz"), models.load("digits").double()
    with torch.no_grad():
        before, after = (model(torch.from_numpy(x)).softmax(1)[:, 3] for x in (found["x"], found["x"] + found["eta"]))
        scores = model(torch.from_numpy(found["x"] + found["eta"])).numpy()
    assert (after > before).double().mean() > 0.8
    assert found["reached"].tolist() == (scores[:, 3] > scores[range(12), found["label"]]).tolist()
    assert found["reached"].any()


def test_two_ways_to_say_five_steps(folder: Path) -> None:
    common = ("--images", "4", "--radius", "0.1", "--piece", "active")
    run("attack", "algorithm1", "--steps", "5", *common, "--out", "a.npz")
    run("attack", "algorithm1-5", *common, "--out", "b.npz")
    run("attack", "algorithm1", *common, "--out", "c.npz")
    one, two, other = (kept(f"{name}.npz") for name in "abc")
    np.testing.assert_array_equal(one["eta"], two["eta"])
    assert (one["eta"] != other["eta"]).any()
    assert one["steps"].tolist() == [5] * 4


def test_the_reference_solver_finds_the_same(folder: Path) -> None:
    common = ("attack", "algorithm1", "--images", "3", "--norm", "2", "--radius", "0.4", "--pixels")
    run(*common, "--out", "a.npz")
    run(*common, "--solver", "reference", "--out", "b.npz")
    one, two = kept("a.npz"), kept("b.npz")
    assert one["margin"] == pytest.approx(two["margin"], rel=1e-4, abs=1e-4)
    assert two["holds"].all()


def test_random_signs_come_from_the_seed(folder: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out, _ = run(
            "attack", "random", "--images", "3", "--radius", "0.2", "--seed", str(seed), "--out", f"{name}.npz"
        )
    one, again, other = (kept(f"{name}.npz") for name in "abc")
    assert set(np.abs(one["eta"]).flatten().tolist()) == {0.2}
    np.testing.assert_array_equal(one["eta"], again["eta"])
    assert (one["eta"] != other["eta"]).any()
    assert not {"status", "holds"} & one.keys()
    assert "certificates" not in out


@pytest.mark.parametrize(
    ("name", "data", "norm"), [("diabetes", "diabetes", "2"), ("digits-autoencoder", "digits", "inf")]
)
def test_regression_networks(name: str, data: str, norm: str, folder: Path) -> None:
    arguments = (
        "attack",
        "regression",
        "--model",
        name,
        "--data",
        data,
        "--norm",
        norm,
        "--radius",
        "0.1",
        "--images",
        "6",
    )
    out, _ = run(*arguments, "--out", "a.npz")
    found = kept("a.npz")
    model = models.load(name).double()
    with torch.no_grad():
        before, after = (model(torch.from_numpy(x)).flatten(1).numpy() for x in (found["x"], found["x"] + found["eta"]))
    assert found["before"] == pytest.approx(before, rel=1e-12)
    assert np.linalg.norm(after - before, axis=1) == pytest.approx(found["change"], rel=1e-9)
    assert (found["predicted"] <= found["bound"] * (1 + 1e-12)).all()
    assert (found["predicted"] > 0.9 * found["bound"]).all()
    assert found["holds"].all()
    assert f"median change  {np.median(found['change']):.4g} = " in out
    assert not {"label", "fooled"} & found.keys()
    assert imread("a.png").shape[0] > 300


def test_the_picture_shows_the_first_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    class Drawn(Figure):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            drawn.append(self)

    monkeypatch.setattr("convexattack.runs.picture.Figure", Drawn)
    run("attack", "algorithm1", "--norm", "2", "--images", "10", "--radius", "0.5", "--out", "a.npz")
    found, axes = kept("a.npz"), drawn[0].get_axes()
    assert len(axes) == 24
    for i in range(8):
        x, eta = found["x"][i, 0], found["eta"][i, 0]
        edge = np.abs(eta).max()
        titles = [f"class {found['before'][i]}", f"±{edge:.2g}", f"class {found['after'][i]}"]
        scales = [(0, 1), (-edge, edge), (0, 1)]
        for ax, title, scale, shot in zip(axes[i::8], titles, scales, (x, eta, x + eta), strict=True):
            assert ax.get_title() == title
            assert ax.get_images()[0].get_clim() == scale
            np.testing.assert_array_equal(np.asarray(ax.get_images()[0].get_array()), shot)
        assert (axes[16 + i].title.get_color() != "black") == found["fooled"][i]
    assert 0 < found["fooled"][:8].sum() < 8
    assert imread("a.png").shape[1] == round(130 * drawn[0].get_figwidth())


def test_a_network_and_data_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    source = """
    from torch import nn

    def line():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    """
    (folder / "my_own.py").write_text(textwrap.dedent(source))
    monkeypatch.delitem(sys.modules, "my_own", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    generator = torch.Generator().manual_seed(0)
    save_file({"1.weight": torch.randn(10, 64, generator=generator), "1.bias": torch.zeros(10)}, "line.safetensors")
    out, _ = run(
        "attack",
        "deepfool",
        "--model",
        "my_own:line",
        "--weights",
        "line.safetensors",
        "--images",
        "10",
        "--out",
        "a.npz",
    )
    found = kept("a.npz")
    assert "model my_own:line with line.safetensors, 10 correctly classified images of digits (" in out
    model = models.load_weights(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "line.safetensors").double()
    lin = ca.linearize(model, torch.from_numpy(found["x"]))
    ratios = (lin.value / lin.gradient.abs().sum(-1)).amin(1).numpy()
    assert found["size"] == pytest.approx(1.02 * ratios, rel=1e-9)


def test_a_step_that_is_not_proved_ends_with_1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ca.solve

    def solve(program: ca.Program, solver: str | None = None) -> ca.Solution:
        found = honest(program, solver)
        found.eta[: 9 * 2].mul_(-1)
        return found

    monkeypatch.setattr("convexattack.attacks.loop.solve", solve)
    out, err = run("attack", "algorithm1", "--images", "5", "--radius", "0.1", "--out", "a.npz", status=1)
    assert err.startswith("2 of 5 last steps are not proved; first row 0: OPTIMAL is claimed with a gap of ")
    assert "3 of 5 last convex steps hold" in out
    assert kept("a.npz")["holds"].tolist() == [False] * 2 + [True] * 3


@pytest.mark.parametrize(
    "when", ["convexattack.runs.picture.grid_picture", "convexattack.runs.save", "convexattack.attacks.loop.solve"]
)
def test_ctrl_c_leaves_what_was_there(when: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.npz").write_text("mine")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(when, interrupted)
    out, err = run("attack", "deepfool", "--images", "2", "--out", "a.npz", status=130)
    assert (out, err) == ("", "interrupted, nothing was written\n")
    assert [path.name for path in folder.iterdir()] == ["a.npz"]
    assert Path("a.npz").read_text() == "mine"


# --- measure


def test_measure_is_what_the_library_says(folder: Path) -> None:
    arguments = ("measure", "--images", "30", "--norm", "2", "--radius", "0.5", "--attack", "fastgrad")
    document = json.loads(run(*arguments, "--json")[0])
    run("attack", "fastgrad", "--images", "30", "--norm", "2", "--radius", "0.5", "--out", "a.npz")
    found = kept("a.npz")
    x, label, norm = torch.from_numpy(found["x"]), torch.from_numpy(found["label"]), ca.Lp(2)
    bound = ca.rho_2(network(), x, label, norm)
    wanted = {
        "rho_1": ca.rho_1(network(), x, label, norm),
        "rho_2_active": bound.active,
        "rho_2_smallest": bound.smallest,
        "fooling_ratio": ca.fooling_ratio(ca.fastgrad(0.5, norm), network(), x, label),
        "smallest_radius": ca.smallest_radius(network(), x, label, norm),
    }
    assert document["measures"].keys() == wanted.keys()
    out, _ = run(*arguments)
    for name, estimate in wanted.items():
        shown = document["measures"][name]
        assert [float(shown[part]) for part in ("value", "low", "high")] == [
            estimate.value,
            estimate.low,
            estimate.high,
        ]
        assert shown["images"] == 30
        assert re.search(rf" {estimate.value:.4g} +{estimate.low:.4g} to {estimate.high:.4g} +30 +none\b", out)
    assert document["measures"]["fooling_ratio"]["value"] == found["fooled"].mean()
    assert document["measures"]["smallest_radius"]["high"] == "inf"
    assert (document["norm"], document["attack"], document["misclassified"]) == (2.0, "FastGrad", 0)
    assert "fooling ratio of FastGrad, ε = 0.5" in out


# --- curve


def test_a_curve_in_three_forms(folder: Path) -> None:
    arguments = ("curve", "--images", "25", "--attacks", "algorithm1-5,deepfool", "--radii", "0.05,0.1,0.2")
    out, _ = run(*arguments, "--out", "c.png")
    document = json.loads(run(*arguments, "--json")[0])
    lines = [line.split(",") for line in run(*arguments, "--csv")[0].splitlines()]
    assert lines[0] == ["attack", "radius", "ratio", "low", "high", "images", "misclassified"]
    run("attack", "deepfool", "--images", "25", "--out", "a.npz")
    found = kept("a.npz")
    x, label = torch.from_numpy(found["x"]), torch.from_numpy(found["label"])
    curve = ca.fooling_curve([ca.algorithm1(1.0, steps=5), ca.deepfool()], network(), x, label, [0.05, 0.1, 0.2])
    wanted = [
        (name, radius, of)
        for name, ratios in curve.ratios.items()
        for radius, of in zip(curve.radii, ratios, strict=True)
    ]
    assert len(document["curve"]) == len(lines) - 1 == len(wanted) == 6
    for row, line, (name, radius, of) in zip(document["curve"], lines[1:], wanted, strict=True):
        assert [row["attack"], row["radius"], row["ratio"], row["low"], row["high"]] == [
            name,
            radius,
            of.value,
            of.low,
            of.high,
        ]
        assert line == [str(entry) for entry in row.values()]
        assert f"{100 * of.value:.1f} [{math.floor(100 * of.low)}, {math.ceil(100 * of.high)}]" in out
    assert [row["ratio"] for row in document["curve"][3:]] == [
        float((found["size"] < radius).mean()) for radius in (0.05, 0.1, 0.2)
    ]
    assert "written: c.png" in out
    assert imread("c.png").shape[:2] == (624, 936)


def test_the_curve_by_default_is_figure_2(folder: Path) -> None:
    rows = json.loads(run("curve", "--images", "4", "--json")[0])["curve"]
    names = ["FastGrad", "Algorithm 1", "Algorithm 1-5", "Algorithm 1-10", "Algorithm 2", "DeepFool", "Random"]
    assert list(dict.fromkeys(row["attack"] for row in rows)) == names
    radii = [row["radius"] for row in rows if row["attack"] == "DeepFool"]
    assert radii == pytest.approx(np.linspace(0, radii[-1], 11)[1:].tolist(), rel=1e-5)
    for further in (["--norm", "2"], ["--pixels"]):
        rows = json.loads(run("curve", "--images", "2", "--json", *further)[0])["curve"]
        assert list(dict.fromkeys(row["attack"] for row in rows)) == names[:-1]


def test_progress_counts_every_image() -> None:
    for count, call in (
        (5, lambda tell: runs.attack("deepfool", runs.Setting(images=5), progress=tell)),
        (20, lambda tell: runs.measure(runs.Setting(images=5), radius=0.1, progress=tell)),
        (15, lambda tell: runs.curve(runs.Setting(images=5), ["fastgrad", "deepfool"], [0.1, 0.2], progress=tell)),
    ):
        told: list[tuple[int, int, str]] = []
        call(lambda done, total, what, told=told: told.append((done, total, what)))
        assert told[0][:2] == (0, count)
        assert told[-1][:2] == (count, count)
        assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


# --- what is refused


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("attack fgsm", "attack 'fgsm' is unknown: use one of algorithm1, "),
        ("attack algorithm1-0", "attack 'algorithm1-0' is unknown"),
        ("attack deepfool-5", "attack 'deepfool-5' is unknown"),
        ("attack algorithm1-5 --steps 3", "steps 3 is given twice"),
        ("attack --steps 0", "steps must be at least 1, got 0"),
        (
            "attack deepfool --radius 0.1",
            "radius 0.1 has no place in the attack deepfool: leave it out, or use algorithm1, ",
        ),
        (
            "attack random --target 3",
            "target 3 has no place in the attack random: "
            "leave it out, or use algorithm1, algorithm2, fastgrad, deepfool",
        ),
        (
            "attack deepfool --piece best",
            "piece best has no place in the attack deepfool: leave it out, or use algorithm1",
        ),
        ("attack random --pixels", "pixels has no place in the attack random"),
        ("attack random --norm 2", "norm 2 has no place in the attack random"),
        ("attack --target 10", "target 10 is no class: with 10 classes use 0 to 9"),
        ("attack --piece worst", "piece must be 'best' or 'active', got 'worst'"),
        ("attack --radius -1", "radius must be a finite number >= 0, got -1.0: it is in units"),
        ("attack --norm 0.5", "p must be in [1, inf], got p = 0.5"),
        ("attack --norm two", "norm holds 'two', which is no number: give p as one number"),
        ("attack --solver abacus", "solver='abacus' is neither"),
        ("attack --images 0", "images must be a whole number of at least 1, got 0"),
        ("attack --model resnet", "model 'resnet' is not shipped"),
        ("attack --model diabetes", "model 'diabetes' is no classifier of images: use the attack regression"),
        ("attack --data diabetes", "data 'diabetes' has no classes: use the attack regression"),
        ("attack --data imagenet", "dataset 'imagenet' is neither"),
        ("attack --out a.txt", "out a.txt must end in .safetensors or .npz"),
        ("attack --out no/a.npz", "no/a.npz cannot be written (No such file or directory)"),
        ("attack --device abacus", "device 'abacus' is not available"),
        ("attack --dtype int8", "dtype 'int8' is unknown"),
        (
            "attack regression --model diabetes --data diabetes",
            "radius is missing: the attack regression needs to know",
        ),
        ("attack regression --model diabetes --radius 1", "model does not take x of shape"),
        ("measure --radius nan", "radius must be a finite number >= 0, got nan"),
        ("measure --attack regression", "attack 'regression' has no fooling ratio"),
        ("measure --model digits-autoencoder", "model 'digits-autoencoder' is no classifier of images"),
        ("curve --radii 1,-2", "radius must be a finite number >= 0, got -2.0"),
        ("curve --radii 1,x", "radii holds 'x', which is no number: give numbers >= 0"),
        ("curve --radii ,", "radii is empty"),
        ("curve --attacks deepfool,deepfool", "attacks must be different ones, at least one, got deepfool, deepfool"),
        ("curve --json --csv", "json and csv are given both: choose one"),
        ("curve --out c.pdf", "out c.pdf must end in .png"),
    ],
)
def test_a_wrong_argument_is_one_sentence(line: str, sentence: str, folder: Path) -> None:
    out, err = run(*shlex.split(line), status=2)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("convexattack: ")
    assert sentence in err
    assert list(folder.iterdir()) == []


# --- help


@pytest.mark.parametrize("command", ["attack", "measure", "curve"])
def test_the_examples_in_the_help_run(command: str, folder: Path) -> None:
    out, _ = run(command, "--help")
    examples = [
        shlex.split(line.partition(">")[0])[1:]
        for line in out.splitlines()
        if line.strip().startswith(f"convexattack {command}")
    ]
    here = [example for example in examples if "my_networks:lenet" not in example and "mnist" not in example]
    assert len(here) >= 1 + (command == "curve") + 3 * (command == "attack")
    for example in here:
        run(*example, "--images", "3")
    if command == "attack":
        names: dict[str, Any] = {}
        lines = [
            line.strip()
            for line in out.splitlines()
            if re.match(r"\s+(from safetensors|import numpy|eta =|with np)", line)
        ]
        for line in lines:
            exec(line, names)
            if "eta" in line:
                assert names.pop("eta").shape == (3, 1, 8, 8)
        assert len(lines) == 4


def test_the_help_names_every_network_that_is_shipped() -> None:
    for command in ("attack", "measure", "curve", "verify"):
        words = set(re.findall(r"[\w-]+", run(command, "--help")[0]))
        assert set(models.SHIPPED) - words <= {"scenes"}
