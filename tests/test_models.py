from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convexattack import models
from convexattack.models import from_factory, load, load_weights
from convexattack.models.digits import data, digits, errors, main, train

WEIGHTS = Path(models.__file__).parent / "weights"


def row(card: str, name: str) -> str:
    found = re.search(rf"^\| {name} \| (.*) \|$", card, re.MULTILINE)
    assert found, f"the card has no row {name}"
    return found[1]


def test_the_shipped_network_is_what_its_card_says() -> None:
    card = (WEIGHTS / "digits.md").read_text(encoding="utf-8")
    model = load("digits")
    wrong_in_training, wrong = errors(model)
    assert row(card, "Test error") == f"{wrong / 360:.2%} ({wrong} of 360 images)"
    assert row(card, "Training error") == f"{wrong_in_training / 1437:.2%} ({wrong_in_training} of 1,437 images)"
    assert wrong / 360 < 0.02
    assert row(card, "SHA-256 of the weights") == f"`{hashlib.sha256((WEIGHTS / 'digits.safetensors').read_bytes()).hexdigest()}`"
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters" in row(card, "Network")


def test_the_shipped_network_is_ready() -> None:
    model = load("digits")
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert torch.equal(model(torch.zeros(3, 64)), model(torch.zeros(3, 1, 8, 8)))
    assert load("digits") is not model


@pytest.mark.parametrize("name", models.SHIPPED)
def test_what_is_shipped_is_small_and_has_a_card(name: str) -> None:
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 500_000
    assert (WEIGHTS / f"{name}.md").is_file()


def test_a_network_that_is_not_shipped_is_named() -> None:
    with pytest.raises(ValueError, match="model 'resnet' is not shipped: use one of digits, or your own"):
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
    with pytest.raises(ValueError, match=r"w.safetensors cannot be read as safetensors \(.*\): save it again") as raised:
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
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, as the current one, with a module of networks; what is imported from it is forgotten afterwards."""
    for name in ("my_networks_for_the_test", "my_layers_for_the_test", "my_broken_module_for_the_test", "my_needy_module_for_the_test"):
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
        ("my_networks_for_the_test", ValueError, "model 'my_networks_for_the_test' does not name a factory: write MODULE:FACTORY"),
        (":wide", ValueError, "model ':wide' does not name a factory"),
        ("my_networks_for_the_test:", ValueError, "does not name a factory"),
        ("my_other_networks:wide", ValueError, "module 'my_other_networks' of model 'my_other_networks:wide' does not exist"),
        ("my_networks_for_the_test.deep:wide", ValueError, "module 'my_networks_for_the_test.deep' of model .* (does not exist|cannot be)"),
        ("my_broken_module_for_the_test:wide", ValueError, r"cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("my_needy_module_for_the_test:wide", ValueError, r"cannot be imported \(ModuleNotFoundError: No module named 'a_module_that"),
        ("my_networks_for_the_test:deep", ValueError, "module 'my_networks_for_the_test' has no attribute 'deep': name a function"),
        ("my_networks_for_the_test:number", TypeError, "my_networks_for_the_test:number is a int: name a torch.nn.Module"),
        ("my_networks_for_the_test:wants", TypeError, r"wants cannot be called without arguments \(.*'width'\): wrap it"),
        ("my_networks_for_the_test:nothing", TypeError, "nothing returned a NoneType: let it return a torch.nn.Module"),
    ],
)
def test_what_is_wrong_with_a_factory_is_named(spec: str, kind: type[Exception], words: str, here: Path) -> None:
    path = list(sys.path)
    with pytest.raises(kind, match=words) as raised:
        from_factory(spec)
    assert "\n" not in str(raised.value)
    assert sys.path == path


def test_training_is_reproducible_and_leaves_no_trace() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second, other = train(seed=1, epochs=2), train(seed=1, epochs=2), train(seed=2, epochs=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert not torch.equal(first.state_dict()["1.weight"], other.state_dict()["1.weight"])
    assert not first.training
    assert errors(first)[1] < 0.2 * 360


def test_the_data_are_all_digits() -> None:
    (x_train, label_train), (x_test, label_test) = data()
    assert (x_train.shape, x_test.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert (float(x_train.min()), float(x_train.max()), x_train.dtype) == (0.0, 1.0, torch.float32)
    assert (label_train.bincount() + label_test.bincount()).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert label_test.bincount().min() >= 35


def test_the_command_writes_weights_and_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my.safetensors"
    assert main(["--out", str(out), "--seed", "3", "--epochs", "2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.md", "my.safetensors"]
    card = out.with_suffix(".md").read_text(encoding="utf-8")
    _, wrong = errors(load_weights(digits(), out))
    assert row(card, "Test error") == f"{wrong / 360:.2%} ({wrong} of 360 images)"
    assert row(card, "Command") == "`python -m convexattack.models.digits --out my.safetensors --seed 3 --epochs 2`"
    assert row(card, "SHA-256 of the weights") == f"`{hashlib.sha256(out.read_bytes()).hexdigest()}`"
    printed = capsys.readouterr()
    assert printed.out == f"test error {wrong / 360:.2%} ({wrong} of 360): {out} and {out.with_suffix('.md')}\n"
    assert "training" in printed.err


def test_the_command_leaves_nothing_when_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--out", str(tmp_path / "missing" / "my.safetensors")]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"--out .*my.safetensors cannot be written \(No such file or directory\): give a file in a folder .*\n", said)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convexattack.models.digits.errors", stop)
    with pytest.raises(KeyboardInterrupt):
        main(["--out", str(tmp_path / "my.safetensors"), "--epochs", "1"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "my.pt"], "--out my.pt must end in .safetensors"),
        (["--out", "my.safetensors", "--epochs", "0"], "--epochs 0 must be at least 1"),
        ([], "required: --out"),
    ],
)
def test_the_command_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


def test_the_command_explains_itself() -> None:
    command = [sys.executable, "-W", "error", "-m", "convexattack.models.digits", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stderr == ""
    for word in ("--out FILE", "--seed", "--epochs", "model card", "load_weights", "seconds"):
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
