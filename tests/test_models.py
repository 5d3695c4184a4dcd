from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convexattack import datasets, models
from convexattack.models import SHIPPED, from_factory, load, load_weights
from convexattack.models.digits import data, digits
from convexattack.models.layers import Affine, Centred
from convexattack.models.recipes import RECIPES, Recipe, outputs, wrong
from convexattack.models.train import _shifted, main, train

WEIGHTS = Path(models.__file__).parent / "weights"
DATA = os.environ.get("CONVEXATTACK_DATA", "")


def row(card: str, name: str) -> str:
    found = re.search(rf"^\| {name} \| (.*) \|$", card, re.MULTILINE)
    assert found, f"the card has no row {name}"
    return found[1]


def shipped_card(name: str) -> str:
    return (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")


COARSE = {"nin": (6, 5), "densenet40": (5, 4)}  # epochs, and how many of them on images of half the side


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_the_one_of_its_card(name: str) -> None:
    card = shipped_card(name)
    file = WEIGHTS / f"{name}.safetensors"
    assert file.stat().st_size < (4_500_000 if name in COARSE else 700_000)
    assert row(card, "SHA-256 of the weights") == f"`{hashlib.sha256(file.read_bytes()).hexdigest()}`"
    assert f"; {sum(parameter.numel() for parameter in load(name).parameters()):,} parameters" in row(card, "Network")
    recipe = RECIPES[name]
    epochs, coarse = COARSE.get(name, (recipe.epochs, 0))
    smaller = f" --coarse {coarse}" if coarse else ""
    assert row(card, "Training") == recipe.training(epochs, coarse)
    command = f"python -m convexattack.models.train {name} --out {name}.safetensors --seed 0 --epochs {epochs}{smaller}"
    assert row(card, "Command") == f"`{command}`"
    assert card.startswith(f"# {name}\n\n{recipe.about}\n")
    for key, value in recipe.rows.items():
        assert row(card, key).startswith(value)


@pytest.mark.parametrize("name", ["digits", "digits-autoencoder", "scenes", "diabetes"])
def test_a_shipped_network_measures_what_its_card_says(name: str) -> None:
    card = shipped_card(name)
    measured = RECIPES[name].measure(load(name), *RECIPES[name].data())
    assert len(measured) >= 2
    for key, value in measured.items():
        assert row(card, key) == value


@pytest.mark.parametrize(("name", "paper"), [("fcnn", 0.017), ("lenet5", 0.009)])
def test_a_network_for_mnist_errs_as_its_card_and_the_paper_say(
    name: str, paper: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not DATA or not Path(DATA, "mnist").is_dir():
        pytest.skip("$CONVEXATTACK_DATA has no folder mnist")
    monkeypatch.setenv("CONVEXATTACK_DATA", DATA)
    images = datasets.load("mnist").padded(32)
    count = wrong(load(name), images.x, images.label)
    assert row(shipped_card(name), "Test error") == f"{count / 10_000:.2%} ({count:,} of 10,000 images)"
    assert abs(count / 10_000 - paper) < 0.001


def test_the_regression_on_the_card_is_what_scikit_learn_finds() -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import r2_score, root_mean_squared_error

    training, test = datasets.diabetes("train"), datasets.diabetes("test")
    answer = outputs(load("diabetes"), test.x).numpy()
    line = LinearRegression().fit(training.x.numpy(), training.target.numpy()).predict(test.x.numpy())
    card = shipped_card("diabetes")
    target = test.target.numpy()
    assert (
        row(card, "Test R²")
        == f"{r2_score(target, answer):.3f} (88 rows; linear least squares {r2_score(target, line):.3f})"
    )
    assert row(card, "Test RMSE").startswith(f"{root_mean_squared_error(target, answer):.1f} points (linear")
    assert r2_score(target, answer) > 0.3


def test_the_autoencoder_beats_the_best_linear_code_of_its_size() -> None:
    x, x_test = data()[0][0].flatten(1).double(), data()[1][0].flatten(1).double()
    directions = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:16]
    centred = x_test - x.mean(0)
    linear = float((centred - centred @ directions.T @ directions).square().mean())
    model = load("digits-autoencoder")
    error = float((outputs(model, x_test.float()).double() - x_test).square().mean())
    assert error < 0.8 * linear
    assert row(shipped_card("digits-autoencoder"), "Test error") == (
        f"mean squared error {error:.5f} a pixel (360 images; PCA with 16 numbers {linear:.5f})"
    )
    jacobian = torch.autograd.functional.jacobian(model, x_test[:1].float())
    assert isinstance(jacobian, torch.Tensor)
    assert torch.linalg.matrix_rank(jacobian.view(64, 64).double(), rtol=1e-5) <= 16


SHAPES = {
    "digits": ((1, 8, 8), 10, 17_226),
    "digits-autoencoder": ((1, 8, 8), 64, 7_856),
    "scenes": ((1, 20, 20), 11 * 400, 14_667),
    "diabetes": ((10,), 1, 193),
    "fcnn": ((1, 32, 32), 10, 169_860),
    "lenet5": ((1, 32, 32), 10, 61_706),
    "nin": ((3, 32, 32), 10, 966_986),
    "densenet40": ((3, 32, 32), 10, 1_019_722),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_network_has_the_shape_and_size_that_it_is_known_for(name: str) -> None:
    shape, out, parameters = SHAPES[name]
    model = from_factory(SHIPPED[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    x = torch.rand(2, *shape, requires_grad=True)
    answer = model(x)
    assert answer.shape == (2, out)
    answer.sum().backward()
    assert x.grad is not None
    assert (x.grad.flatten(1).abs().sum(1) > 0).all()


def test_every_network_has_a_recipe_and_no_recipe_lacks_one() -> None:
    assert list(RECIPES) == list(SHIPPED)
    assert {path.stem for path in WEIGHTS.iterdir()} == set(SHIPPED)


def test_dense_layers_have_forty_weights_in_depth() -> None:
    weights = [
        layer for layer in from_factory(SHIPPED["densenet40"]).modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    assert len(weights) == 40
    assert [layer.out_channels for layer in weights[:-1] if isinstance(layer, nn.Conv2d)].count(12) == 36


def test_a_network_in_network_pools_to_eight_by_eight() -> None:
    model = from_factory(SHIPPED["nin"])
    assert isinstance(model, nn.Sequential)
    assert model[:-2](torch.zeros(1, 3, 32, 32)).shape == (1, 10, 8, 8)


@pytest.mark.parametrize("name", ["fcnn", "lenet5"])
def test_the_frame_is_the_same_whoever_adds_it_and_can_be_attacked(name: str) -> None:
    images = datasets.Images(torch.rand(3, 1, 28, 28), torch.zeros(3, dtype=torch.long), "random", "")
    framed = images.padded(32)
    model = load(name)
    assert torch.equal(model(images.x), model(framed.x))
    x = framed.x.clone().requires_grad_()
    model(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert x.grad[:, :, :2].abs().sum() > 0


def test_a_frame_that_does_not_fit_is_named() -> None:
    layer = Centred(32)
    for shape in ((1, 1, 27, 27), (1, 1, 34, 34), (1, 1, 28, 32), (28, 28)):
        with pytest.raises(
            ValueError, match=rf"images have shape \({', '.join(map(str, shape))}\): give \(B, C, h, h\) with h = 32"
        ):
            layer(torch.zeros(shape))
    images = datasets.Images(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.long), "mine", "")
    for size in (27, 29, 0):
        with pytest.raises(
            ValueError, match=rf"size must exceed the 28 × 28 pixels of mine by an even number, got {size}"
        ):
            images.padded(size)


@pytest.mark.parametrize(("name", "mean", "deviation"), [("fcnn", 0.1, 0.2752), ("lenet5", 0.1, 0.2752)])
def test_the_first_layer_takes_mean_and_deviation_out(name: str, mean: float, deviation: float) -> None:
    model = load(name)
    assert isinstance(model, nn.Sequential)
    assert isinstance(model[1], Affine)
    assert torch.allclose(model[1](torch.tensor([[[[mean, mean + deviation]]]])), torch.tensor([0.0, 1.0]), atol=1e-6)


def test_the_pixels_of_mnist_have_that_mean_and_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    if not DATA or not Path(DATA, "mnist").is_dir():
        pytest.skip("$CONVEXATTACK_DATA has no folder mnist")
    monkeypatch.setenv("CONVEXATTACK_DATA", DATA)
    x = datasets.load("mnist", limit=5000).padded(32).x
    assert abs(float(x.mean()) - 0.1) < 0.01
    assert abs(float(x.std()) - 0.2752) < 0.01


def test_diabetes_is_standardised_by_its_training_rows() -> None:
    from sklearn.datasets import load_diabetes

    training, test = datasets.diabetes("train"), datasets.diabetes()
    assert (training.x.shape, training.target.shape) == ((354, 10), (354, 1))
    assert (test.x.shape, test.target.shape) == ((88, 10), (88, 1))
    assert (training.x.dtype, training.target.dtype) == (torch.float32, torch.float32)
    assert torch.allclose(training.x.mean(0), torch.zeros(10), atol=1e-5)
    assert torch.allclose(training.x.std(0, correction=0), torch.ones(10), atol=1e-5)
    everyone = torch.cat([training.target, test.target]).flatten().sort().values
    assert everyone.tolist() == sorted(load_diabetes().target.tolist())
    assert torch.equal(datasets.diabetes(limit=5).x, test.x[:5])
    assert len(datasets.diabetes(limit=5)) == 5
    assert "the 88 test rows" in test.note
    with pytest.raises(ValueError, match="limit must be a whole number, at least 1, got 0: leave it out for all rows"):
        datasets.diabetes(limit=0)
    with pytest.raises(ValueError, match="diabetes has no split 'all': use one of train, test"):
        datasets.diabetes("all")


def test_the_shipped_network_is_ready() -> None:
    model = load("digits")
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert torch.equal(model(torch.zeros(3, 64)), model(torch.zeros(3, 1, 8, 8)))
    assert load("digits") is not model


def test_a_network_that_is_not_shipped_is_named() -> None:
    with pytest.raises(ValueError, match=r"model 'resnet' is not shipped: use one of digits, .*, or your own"):
        load("resnet")


@pytest.fixture
def small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())


def test_weights_are_loaded(small: nn.Module, tmp_path: Path) -> None:
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())
    other(torch.randn(5, 4))
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    assert load_weights(small, str(tmp_path / "other.safetensors")) is small
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in small.state_dict().items())
    assert not any(module.training for module in small.modules())


def test_all_that_is_wrong_with_weights_is_named(small: nn.Module, tmp_path: Path) -> None:
    state = small.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    del state["1.running_mean"]
    save_file({**state, "0.weight": torch.ones(3, 5), "2.bias": torch.ones(3)}, tmp_path / "w.safetensors")
    words = (
        r"w.safetensors is not for this Sequential \(0.weight has shape \(3, 5\) instead of \(3, 4\); "
        r"1.running_mean is missing; 2.bias is unexpected\): use the file saved from this network"
    )
    with pytest.raises(ValueError, match=words):
        load_weights(small, tmp_path / "w.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
    assert small.training


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_broken_weights_file_is_named(content: bytes | None, small: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(small.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    with pytest.raises(
        ValueError, match=r"w.safetensors cannot be read as safetensors \(.*\): save it again"
    ) as raised:
        load_weights(small, path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["missing.safetensors", "."])
def test_a_missing_weights_file_is_named(name: str, small: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"weights file .* does not exist: give the path of a safetensors file"):
        load_weights(small, tmp_path / name)


def test_a_shipped_file_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(FileNotFoundError, match=r"digits.safetensors does not exist"):
        load("digits")
    (tmp_path / "weights").mkdir()
    save_file({"weight": torch.ones(2)}, tmp_path / "weights" / "digits.safetensors")
    with pytest.raises(ValueError, match=r"1.bias is missing; 1.weight is missing; .*; weight is unexpected"):
        load("digits")


SOURCE = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, x):
        return self.layer(x)

def wide():
    return Network(7)

def late():
    import my_layers_for_the_test
    return my_layers_for_the_test.layer

network = Network(5)
number = 3
def wants(width):
    return Network(width)
def nothing():
    return None
def breaks():
    raise RuntimeError("no file\\nof weights")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, the current one, with a module of networks; what is imported from it is forgotten afterwards."""
    for name in (
        "my_networks_for_the_test",
        "my_layers_for_the_test",
        "my_broken_module_for_the_test",
        "my_needy_module_for_the_test",
    ):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, name, None)  # so that the teardown removes the module
        del sys.modules[name]
    (tmp_path / "my_networks_for_the_test.py").write_text(SOURCE)
    (tmp_path / "my_layers_for_the_test.py").write_text("from torch import nn\nlayer = nn.Linear(4, 9)")
    (tmp_path / "my_broken_module_for_the_test.py").write_text("1 / 0")
    (tmp_path / "my_needy_module_for_the_test.py").write_text("import a_module_that_is_not_installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.parametrize(("factory", "width"), [("Network", 3), ("wide", 7), ("late", 9), ("network", 5)])
def test_a_users_network_is_made_from_the_current_directory(factory: str, width: int, here: Path) -> None:
    path = list(sys.path)
    model = from_factory(f"my_networks_for_the_test:{factory}")
    assert model(torch.zeros(2, 4)).shape == (2, width)
    assert not model.training
    assert sys.path == path


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (
            "my_networks_for_the_test",
            ValueError,
            "model 'my_networks_for_the_test' does not name a factory: write MODULE:FACTORY",
        ),
        (":wide", ValueError, "model ':wide' does not name a factory"),
        ("my_networks_for_the_test:", ValueError, "does not name a factory"),
        (
            "my_other_networks:wide",
            ValueError,
            "module 'my_other_networks' of model 'my_other_networks:wide' does not exist",
        ),
        (
            "my_networks_for_the_test.deep:wide",
            ValueError,
            "module 'my_networks_for_the_test.deep' of model .* (does not exist|cannot be)",
        ),
        (
            "my_broken_module_for_the_test:wide",
            ValueError,
            r"cannot be imported \(ZeroDivisionError: division by zero\)",
        ),
        (
            "my_needy_module_for_the_test:wide",
            ValueError,
            r"cannot be imported \(ModuleNotFoundError: No module named 'a_module_that",
        ),
        (
            "my_networks_for_the_test:deep",
            ValueError,
            "module 'my_networks_for_the_test' has no attribute 'deep': name a function",
        ),
        (
            "my_networks_for_the_test:number",
            TypeError,
            "my_networks_for_the_test:number is a int: name a torch.nn.Module",
        ),
        (
            "my_networks_for_the_test:wants",
            TypeError,
            r"wants cannot be called without arguments \(.*'width'\): wrap it",
        ),
        (
            "my_networks_for_the_test:breaks",
            ValueError,
            r"breaks made no network \(RuntimeError: no file\): call it in Python",
        ),
        ("my_networks_for_the_test:nothing", TypeError, "nothing returned a NoneType: let it return a torch.nn.Module"),
    ],
)
def test_what_is_wrong_with_a_factory_is_named(spec: str, kind: type[Exception], words: str, here: Path) -> None:
    path = list(sys.path)
    with pytest.raises(kind, match=words) as raised:
        from_factory(spec)
    assert "\n" not in str(raised.value)
    assert sys.path == path


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in one.state_dict().items())


def test_training_is_reproducible_and_leaves_no_trace() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second, other = train("digits", 1, 2), train("digits", 1, 2), train("digits", 2, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert same(first, second)
    assert not torch.equal(first.state_dict()["1.weight"], other.state_dict()["1.weight"])
    assert not first.training
    assert wrong(first, *data()[1]) < 0.2 * 360


class Stop(KeyboardInterrupt):
    """What Ctrl-C raises, told apart from a real one."""


def stop_after(calls: int, recipe: Recipe) -> Recipe:
    """The recipe, stopped within the loss when that is asked for the `calls`-th time."""
    asked = 0

    def loss(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += 1
        if asked == calls:
            raise Stop
        return recipe.loss(answer, target)

    return dataclasses.replace(recipe, loss=loss)


@pytest.mark.parametrize("name", ["digits", "nin", "densenet40"])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = SHAPES[name][0]
    size = {"digits": (64, 8), "nin": (16, 16), "densenet40": (8, 8)}[name]
    x = torch.rand(3, *(shape[:1] if name == "digits" else (3,)), *([8, 8] if name == "digits" else size))
    training = (x, torch.tensor([0, 1, 2]))
    recipe = dataclasses.replace(RECIPES[name], batch=2)
    monkeypatch.setitem(RECIPES, name, recipe)
    whole = train(name, 1, 3, training=training, device=torch.device("cpu"))
    file = tmp_path / "a.checkpoint"
    monkeypatch.setitem(RECIPES, name, stop_after(4, recipe))
    with pytest.raises(Stop):
        train(name, 1, 3, file, training, torch.device("cpu"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.checkpoint"]
    monkeypatch.setitem(RECIPES, name, stop_after(5, recipe))
    assert same(train(name, 1, 3, file, training, torch.device("cpu")), whole)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.checkpoint"
    x, label = data()[0]
    training = (x[:9], label[:9])
    trained = train("digits", 1, 2, file, training)
    assert same(train("digits", 1, 2, file, training), trained)
    for name, seed, epochs in (("digits", 2, 2), ("digits", 1, 3)):
        with pytest.raises(
            ValueError, match=r"a.checkpoint is of another training \(.*\): repeat that one, or remove it"
        ):
            train(name, seed, epochs, file, training)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"a.checkpoint cannot be read \(.*\): remove it to begin anew"):
        train("digits", 1, 2, file, training)


def test_images_are_shifted_and_mirrored() -> None:
    x = torch.zeros(500, 2, 6, 6)
    x[:, 0, 1, 2] = 1
    x[:, 1, 4, 3] = 2
    torch.manual_seed(0)
    moved = _shifted(x)
    assert moved.shape == x.shape
    places = [tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()]
    assert {row for row, _ in places} == set(range(6))
    assert {column for _, column in places} == set(range(6))
    both = (moved[:, 0].amax((1, 2)) > 0) & (moved[:, 1].amax((1, 2)) > 0)
    apart = moved[both, 1].nonzero()[:, 1:] - moved[both, 0].nonzero()[:, 1:]
    assert {tuple(step) for step in apart.tolist()} == {(3, 1), (3, -1)}


def test_the_data_are_all_digits() -> None:
    (x_train, label_train), (x_test, label_test) = data()
    assert (x_train.shape, x_test.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert (float(x_train.min()), float(x_train.max()), x_train.dtype) == (0.0, 1.0, torch.float32)
    assert (label_train.bincount() + label_test.bincount()).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]
    assert label_test.bincount().min() >= 35


@pytest.mark.parametrize("name", ["digits", "digits-autoencoder", "diabetes"])
def test_the_command_writes_weights_and_card(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my.safetensors"
    assert main([name, "--out", str(out), "--seed", "3", "--epochs", "2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.md", "my.safetensors"]
    card = out.with_suffix(".md").read_text(encoding="utf-8")
    measured = RECIPES[name].measure(load_weights(from_factory(SHIPPED[name]), out), *RECIPES[name].data())
    (key, value), *_ = measured.items()
    assert row(card, key) == value
    assert (
        row(card, "Command") == f"`python -m convexattack.models.train {name} --out my.safetensors --seed 3 --epochs 2`"
    )
    assert row(card, "Training").startswith("2 epochs of AdamW")
    assert row(card, "SHA-256 of the weights") == f"`{hashlib.sha256(out.read_bytes()).hexdigest()}`"
    printed = capsys.readouterr()
    assert printed.out == f"{key}: {value}: {out} and {out.with_suffix('.md')}\n"
    assert f"training {name}" in printed.err


@pytest.mark.parametrize(("name", "source"), [("lenet5", "mnist"), ("nin", "cifar10"), ("densenet40", "cifar10")])
def test_the_command_trains_on_images_and_says_where_they_come_from(
    name: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 28 if name == "lenet5" else 8
    part = (torch.rand(3, SHAPES[name][0][0], size, size), torch.tensor([0, 1, 2]))
    recipe = dataclasses.replace(RECIPES[name], data=lambda: (part, part), batch=2)
    monkeypatch.setitem(RECIPES, name, recipe)
    asked = []

    def load_images(*arguments: object, **options: object) -> datasets.Images:
        asked.append((arguments, options))
        return datasets.Images(*part, source, "lossy, and taken by hand")

    monkeypatch.setattr(datasets, "load", load_images)
    out = tmp_path / "my.safetensors"
    assert main([name, "--out", str(out), "--epochs", "1"]) == 0
    assert asked == [((source,), {"limit": 1})]
    card = out.with_suffix(".md").read_text(encoding="utf-8")
    assert row(card, "Source of the data") == "lossy, and taken by hand"
    assert row(card, "Test error").endswith("of 3 images)")
    load_weights(from_factory(SHIPPED[name]), out)


def test_the_command_goes_on_after_a_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "my.safetensors", tmp_path / "whole.safetensors"
    assert main(["diabetes", "--out", str(whole), "--epochs", "3"]) == 0
    recipe = RECIPES["diabetes"]
    monkeypatch.setitem(RECIPES, "diabetes", stop_after(30, recipe))
    assert main(["diabetes", "--out", str(out), "--epochs", "3"]) == 130
    assert "stopped: the same command goes on from the last whole epoch\n" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.checkpoint", "whole.md", "whole.safetensors"]
    monkeypatch.setitem(RECIPES, "diabetes", recipe)
    assert main(["diabetes", "--out", str(out), "--epochs", "4"]) == 1
    assert "my.checkpoint is of another training" in capsys.readouterr().err
    assert main(["diabetes", "--out", str(out), "--epochs", "3"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "my.md",
        "my.safetensors",
        "whole.md",
        "whole.safetensors",
    ]
    assert out.read_bytes() == whole.read_bytes()


def test_the_command_leaves_nothing_when_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convexattack.models.train.os.replace", full)
    assert main(["diabetes", "--out", str(tmp_path / "my.safetensors"), "--epochs", "1"]) == 1
    said = capsys.readouterr().err
    assert re.search(
        r"--out .*my.safetensors cannot be written \(No space left on device\): give a file in a folder .*\n", said
    )
    assert list(tmp_path.iterdir()) == []


def test_data_that_cannot_be_had_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object) -> None:
        raise FileNotFoundError("dataset mnist cannot be had: connect to the hub once")

    monkeypatch.setattr(datasets, "load", nowhere)
    assert main(["fcnn", "--out", str(tmp_path / "my.safetensors")]) == 1
    assert capsys.readouterr().err == "dataset mnist cannot be had: connect to the hub once\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "--out", "my.pt"], "--out my.pt must end in .safetensors"),
        (
            ["digits", "--out", "missing/my.safetensors"],
            "--out missing/my.safetensors is in no folder that exists: make missing",
        ),
        (["digits", "--out", "my.safetensors", "--epochs", "0"], "--epochs 0 must be at least 1"),
        (["digits"], "required: --out"),
        (["resnet", "--out", "my.safetensors"], "invalid choice: 'resnet'"),
    ],
)
def test_the_command_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


def test_the_command_explains_itself() -> None:
    command = [sys.executable, "-W", "error", "-m", "convexattack.models.train", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stderr == ""
    for word in ("--out FILE", "--seed", "--epochs", "model card", "CONVEXATTACK_DATA", "seconds", *SHIPPED):
        assert word in said.stdout


def test_the_shipped_files_are_not_touched_by_loading(tmp_path: Path) -> None:
    copy = tmp_path / "digits.safetensors"
    shutil.copy(WEIGHTS / "digits.safetensors", copy)
    model = load_weights(digits(), copy)
    before = copy.read_bytes()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert copy.read_bytes() == before


def test_coarse_epochs_see_images_of_half_the_side(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def small() -> nn.Module:
        model = nn.Sequential(nn.Conv2d(3, 10, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
        return model

    monkeypatch.setattr("convexattack.models.train.from_factory", lambda spec: small())
    images, label = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])
    train("nin", epochs=3, coarse=2, training=(images, label), device=torch.device("cpu"))
    assert seen == [(4, 3, 4, 4)] * 2 + [(4, 3, 8, 8)]
    assert "the first 2 of them on images of half the side" in RECIPES["nin"].training(3, 2)


@pytest.mark.parametrize(
    ("name", "coarse", "sentence"),
    [
        ("digits", 1, "coarse = 1 must be 0 for digits"),
        ("nin", 4, "coarse = 4 must be from 0 to the 3 epochs"),
        ("nin", -1, "= -1"),
    ],
)
def test_coarse_epochs_that_cannot_be(name: str, coarse: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        train(name, epochs=3, coarse=coarse)
