from __future__ import annotations

import dataclasses
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convexattack import datasets as here
from convexattack.datasets import load
from convexattack.models.digits import data

DATA = os.environ.get("CONVEXATTACK_DATA", "")
library = pytest.importorskip("datasets", reason="the extra convexattack[data] is not installed")
PIL_Image = pytest.importorskip("PIL.Image", reason="the extra convexattack[data] is not installed")

README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
# My images

Taken by hand,
and lossy.

Another paragraph.
"""


def pictures(n: int, h: int = 3, w: int = 2, colours: int = 1, seed: int = 0) -> np.ndarray:
    shape = (n, h, w, colours) if colours > 1 else (n, h, w)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL_Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def rows(
    images: Any, label: list[int | None], label_type: Any = None, names: tuple[str, str] = ("img", "label")
) -> Any:
    columns = {
        names[0]: library.Image(),
        "id": library.Value("int64"),
        names[1]: label_type or library.ClassLabel(names=[str(i) for i in range(12)]),
    }
    encoded = [
        image if image is None else {"bytes": image if isinstance(image, bytes) else png(image), "path": None}
        for image in images
    ]
    table = {names[0]: encoded, "id": list(range(len(label))), names[1]: label}
    return library.Dataset.from_dict(table, features=library.Features(columns))


def folder(path: Path, **splits: Any) -> Path:
    """A folder in the Hugging Face layout: parquet files and a README."""
    (path / "data").mkdir(parents=True)
    (path / "README.md").write_text(README, encoding="utf-8")
    for split, table in splits.items():
        table.to_parquet(path / "data" / f"{split}-00000-of-00001.parquet")
    return path


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that is loaded says anything on stdout; no test sees the real data by accident."""
    monkeypatch.delenv("CONVEXATTACK_DATA", raising=False)
    library.disable_progress_bars()
    yield
    assert capfd.readouterr().out == ""


def test_digits_are_those_of_the_shipped_network() -> None:
    for split, (x, label) in zip(("train", "test"), data(), strict=True):
        images = load("digits", split)
        assert torch.equal(images.x, x)
        assert torch.equal(images.label, label)
        assert images.x.dtype == torch.float32
        assert images.label.dtype == torch.int64
        assert len(images) == len(x)
        assert images.name == "digits"
        assert f"the {len(x):,} {split} images of train_test_split" in images.note


def test_digits_with_a_limit() -> None:
    images = load("digits", limit=7)
    assert torch.equal(images.x, load("digits").x[:7])
    assert torch.equal(images.label, load("digits").label[:7])
    assert len(load("digits", limit=10_000)) == 360


@pytest.mark.parametrize("colours", [1, 3])
def test_a_folder_is_read_as_it_is(colours: int, tmp_path: Path) -> None:
    train, test = pictures(3, colours=colours), pictures(4, colours=colours, seed=1)
    path = folder(tmp_path / "mine", train=rows(train, [1, 2, 3]), test=rows(test, [11, 0, 3, 3]))
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")} | {path: path.stat().st_mtime_ns}
    images = load(path)
    expected = torch.from_numpy(test.reshape(4, 3, 2, colours).astype(np.float32) / 255).permute(0, 3, 1, 2)
    assert torch.equal(images.x, expected)
    assert images.x.is_contiguous()
    assert images.label.tolist() == [11, 0, 3, 3]
    assert (images.name, images.note) == ("mine", "Taken by hand, and lossy.")
    assert load(str(path), "train").label.tolist() == [1, 2, 3]
    first = load(path, limit=2)
    assert torch.equal(first.x, expected[:2])
    assert first.label.tolist() == [11, 0]
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} | {path: path.stat().st_mtime_ns} == before


def test_a_folder_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    for name in ("HF_DATASETS_CACHE", "HF_CACHE_HOME"):
        monkeypatch.setattr(library.config, name, str(cache), raising=False)
    load(folder(tmp_path / "mine", test=rows(pictures(2), [0, 1]), train=rows(pictures(1), [0])))
    assert not cache.exists()


def test_many_batches_keep_their_order(tmp_path: Path) -> None:
    label: list[int | None] = [i % 12 for i in range(2500)]
    path = folder(tmp_path / "mine", test=rows(pictures(2500, 1, 1), label), train=rows(pictures(1), [0]))
    assert load(path).label.tolist() == label
    assert load(path, limit=1700).label.tolist() == label[:1700]
    assert (
        load(path, limit=1700).x.flatten().mul(255).round().tolist() == pictures(2500, 1, 1).flatten()[:1700].tolist()
    )


def test_a_bar_is_shown_on_a_terminals_stderr_where_decoding_takes_long(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path / "mine", test=rows(pictures(9), [0] * 9), train=rows(pictures(1), [0]))
    monkeypatch.setenv("FORCE_COLOR", "1")  # has rich take any stream for a terminal
    load(path)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(here, "_SLOW", 9)
    load(path)
    said = capfd.readouterr()
    assert said.out == ""
    assert "decoding" in said.err


def test_a_folder_of_image_files(tmp_path: Path) -> None:
    for split, kind, value in (("train", "cat", 1), ("test", "cat", 10), ("test", "dog", 20)):
        file = tmp_path / split / kind / "0.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(np.full((2, 2, 3), value, np.uint8)))
    images = load(tmp_path)
    assert images.label.tolist() == [0, 1]
    assert images.x.shape == (2, 3, 2, 2)
    assert images.x.mul(255).round().unique().tolist() == [10, 20]
    assert images.note == ""


def test_modes_and_columns_of_other_names(tmp_path: Path) -> None:
    file = io.BytesIO()
    PIL_Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(file, "PNG")
    palette = io.BytesIO()
    PIL_Image.fromarray(np.full((1, 2, 3), 255, np.uint8)).convert("P").save(palette, "PNG")
    for encoded, name in ((file, "one"), (palette, "p")):
        table = rows([encoded.getvalue()], [1], library.Value("int8"), ("image", "fine_label"))
        images = load(folder(tmp_path / name, test=table, train=table))
        assert images.x.shape == (1, 1 if name == "one" else 3, 1, 2)
        assert images.x.max() == 1
        assert images.label.tolist() == [1]


@pytest.mark.parametrize(
    ("images", "label", "words"),
    [
        (pictures(2), [0, None], r"has no class for image 1 \(label None\)"),
        (pictures(2), [0, -1], r"has no class for image 1 \(label -1\)"),
        (
            [*pictures(1), *pictures(1, h=4)],
            [0, 1],
            r"image 1 of .* has shape \(4, 2, 1\) and image 0 \(3, 2, 1\) \(H, W, C\): bring all",
        ),
        (
            [*pictures(1), *pictures(1, colours=3)],
            [0, 1],
            r"image 1 of .* has shape \(3, 2, 3\) and image 0 \(3, 2, 1\)",
        ),
        ([pictures(1)[0], b"no image"], [0, 1], r"image 1 of .* cannot be decoded \(cannot identify image"),
        (pictures(1, colours=4), [0], r"image 0 of .* cannot be decoded \(its mode RGBA is not 8-bit grey or RGB\)"),
        ([*pictures(1), None], [0, 1], "has no image 1, only a class: choose a split"),
        ([], [], "has no images in its split 'test'"),
    ],
)
def test_what_is_wrong_with_an_image_or_label_is_named(
    images: Any, label: list[int | None], words: str, tmp_path: Path
) -> None:
    path = folder(tmp_path / "mine", test=rows(images, label), train=rows(pictures(1), [0]))
    with pytest.raises(ValueError, match=words) as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_a_folder_needs_both_columns(tmp_path: Path) -> None:
    table = rows(pictures(1), [0])
    for gone in ("img", "label"):
        path = folder(tmp_path / gone, test=table.remove_columns([gone]), train=table.remove_columns([gone]))
        with pytest.raises(
            ValueError, match=rf"{gone} needs a column of images and one of classes, and has .*id.*: declare both"
        ):
            load(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "validation"), "dataset 'digits' has no split 'validation': use one of train, test"),
        (("mnist", "validation"), "dataset 'mnist' has no split 'validation': use one of train, test"),
        (("imagenet",), "dataset 'imagenet' is neither digits, mnist, cifar10 nor a folder: give one of these"),
        (("digits", "test", 0), "limit must be a whole number, at least 1, got 0: leave it out for all images"),
        (("digits", "test", -3), "limit must be a whole number, at least 1, got -3"),
        (("digits", "test", 2.5), "limit must be a whole number, at least 1, got 2.5"),
        (("digits", "test", "3"), "limit must be a whole number, at least 1, got '3'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load(*arguments)


def test_nothing_is_neither_a_name_nor_a_path() -> None:
    with pytest.raises(
        TypeError, match="name_or_folder must be a name or a path, got None: use digits, mnist, cifar10 or a folder"
    ):
        load(None)  # type: ignore[arg-type]


def test_a_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine", test=rows(pictures(1), [0]), train=rows(pictures(1), [0]))
    with pytest.raises(
        ValueError, match=r"mine cannot be read for its split 'validation' \(.*\): it must have that split in"
    ):
        load(path, "validation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty cannot be read for its split 'test' \(.*\)") as raised:
        load(tmp_path / "empty")
    assert "\n" not in str(raised.value)
    (path / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(ValueError, match=r"mine cannot be read for its split 'test' \(.*\)"):
        load(path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST and CIFAR-10 with 6 training and 4 test images."""
    counts = {"train": (6, *[0] * 9), "test": (1, 1, 1, *[0] * 6, 1)}
    small = {name: dataclasses.replace(known, images=counts, sha256={}) for name, known in here._KNOWN.items()}
    monkeypatch.setattr(here, "_KNOWN", small)


def test_known_data_come_from_the_folder_that_is_named(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEXATTACK_DATA", str(tmp_path))
    grey, colour = pictures(4, 28, 28), pictures(4, 32, 32, 3)
    folder(tmp_path / "mnist", train=rows(pictures(6, 28, 28), [0] * 6), test=rows(grey, [0, 1, 2, 9]))
    folder(tmp_path / "cifar10", train=rows(pictures(6, 32, 32, 3), [0] * 6), test=rows(colour, [0, 1, 2, 9]))
    mnist, cifar10 = load("mnist"), load("cifar10", limit=3)
    assert torch.equal(mnist.x, torch.from_numpy(grey).float().div(255)[:, None])
    assert mnist.label.tolist() == [0, 1, 2, 9]
    assert (mnist.name, mnist.note) == ("mnist", "Taken by hand, and lossy.")
    assert torch.equal(cifar10.x, torch.from_numpy(colour[:3]).permute(0, 3, 1, 2).float().div(255))
    assert (cifar10.name, cifar10.note) == ("cifar10", "Taken by hand, and lossy.")
    assert len(load("mnist", "train")) == 6


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize(
    ("images", "label", "words"),
    [
        (pictures(3, 28, 28), [0, 1, 2], "mnist holds 3 test images, and mnist has 4: get it again"),
        (pictures(5, 28, 28), [0, 1, 2, 3, 4], "mnist holds 5 test images, and mnist has 4: get it again"),
        (pictures(4, 28, 28), [10, 1, 2, 3], "mnist has a label 10, and mnist has classes 0 to 9"),
        (pictures(4, 28, 28), [0, 1, 9, 9], "mnist has 0 test images of class 2, and mnist has 1: get it again"),
        (
            pictures(4, 27, 28),
            [0, 1, 2, 9],
            r"mnist has images of shape \(1, 27, 28\) \(C, H, W\), and mnist has \(1, 28, 28\)",
        ),
        (pictures(4, 28, 28, 3), [0, 1, 2, 9], r"mnist has images of shape \(3, 28, 28\)"),
    ],
)
def test_known_data_are_counted(
    images: Any,
    label: list[int | None],
    words: str,
    limit: int | None,
    small: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVEXATTACK_DATA", str(tmp_path))
    folder(tmp_path / "mnist", test=rows(images, label), train=rows(pictures(1, 28, 28), [0]))
    with pytest.raises(ValueError, match=words):
        load("mnist", limit=limit)


def test_known_data_are_counted_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = here._Known("", {"test": (1500,)}, (1, 1, 1))
    monkeypatch.setattr(here, "_KNOWN", {"mnist": known})
    monkeypatch.setenv("CONVEXATTACK_DATA", str(tmp_path))
    folder(tmp_path / "mnist", test=rows(pictures(1500, 1, 1), [0] * 1500), train=rows(pictures(1), [0]))
    assert len(load("mnist", limit=2)) == 2


def test_other_pixels_of_mnist_are_found_by_their_checksum(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVEXATTACK_DATA", str(tmp_path))
    pixels = pictures(4, 28, 28)
    label: list[int | None] = [0, 1, 2, 9]
    right = here._checksum(pixels[..., None], torch.tensor([0, 1, 2, 9]))
    monkeypatch.setitem(here._KNOWN, "mnist", dataclasses.replace(here._KNOWN["mnist"], sha256={"test": right}))
    folder(tmp_path / "mnist", test=rows(pixels[::-1], label[::-1]), train=rows(pictures(1), [0]))
    assert len(load("mnist")) == 4  # in another order
    pixels[2, 5, 5] ^= 1
    table = rows(pixels, label)
    table.to_parquet(tmp_path / "mnist" / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(
        ValueError, match=r"mnist has test images with other pixels or labels than mnist \(their SHA-256 differs\): get"
    ):
        load("mnist")
    assert len(load("mnist", limit=2)) == 2  # a part is not compared


def test_a_folder_holds_as_many_images_as_its_card_says(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine", test=rows(pictures(3), [0, 1, 2]), train=rows(pictures(1), [0]))
    stated = (
        "---\ndataset_info:\n  splits:\n  - name: test\n    num_examples: {}\n  - name: train\n    num_examples: 1\n"
    )
    for count in (3, 4):
        (path / "README.md").write_text(README.replace("---\n", stated.format(count), 1))
        if count == 3:
            assert len(load(path)) == 3
        else:
            with pytest.raises(ValueError, match="mine holds 3 test images, and its card says 4: get it again"):
                load(path)


@pytest.mark.parametrize("elsewhere", [None, "a folder that is not there"])
def test_known_data_come_from_the_hub_otherwise(
    elsewhere: str | None, small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if elsewhere:
        monkeypatch.setenv("CONVEXATTACK_DATA", elsewhere)
    (tmp_path / "mnist").mkdir()
    monkeypatch.chdir(tmp_path)
    pixels = pictures(4, 28, 28)
    asked = []

    def load_dataset(source: str, split: str) -> Any:
        asked.append((source, split))
        return rows(pixels, [9, 1, 0, 2])

    monkeypatch.setattr(library, "load_dataset", load_dataset)
    images = load("mnist", limit=3)
    assert asked == [("ylecun/mnist", "test")]
    assert torch.equal(images.x, torch.from_numpy(pixels[:3]).float().div(255)[:, None])
    assert images.label.tolist() == [9, 1, 0]
    assert (images.name, images.note) == ("mnist", "from the Hugging Face hub, ylecun/mnist")


def test_a_hub_out_of_reach_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(source: str, split: str) -> Any:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(library, "load_dataset", load_dataset)
    words = r"dataset uoft-cs/cifar10 cannot be had from .* \(ConnectionError: no route\): connect .* CONVEXATTACK_DATA"
    with pytest.raises(FileNotFoundError, match=words) as raised:
        load("cifar10")
    assert "\n" not in str(raised.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ImportError, match=r'needs the Hugging Face datasets library: pip install "convexattack\[data\]"'
    ):
        load("mnist")
    assert len(load("digits")) == 360


@pytest.mark.parametrize(
    ("name", "shape", "first"), [("mnist", (1, 28, 28), [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]), ("cifar10", (3, 32, 32), None)]
)
def test_the_real_data(
    name: str, shape: tuple[int, int, int], first: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path(DATA, name).is_dir() or not DATA:
        pytest.skip(f"$CONVEXATTACK_DATA has no folder {name}")
    monkeypatch.setenv("CONVEXATTACK_DATA", DATA)
    images = load(name, limit=100)
    assert images.x.shape == (100, *shape)
    assert images.x.min() >= 0
    assert 0.9 < images.x.max() <= 1
    assert images.label.unique().tolist() == list(range(10))
    assert first is None or images.label[:10].tolist() == first
    assert name != "mnist" or len(load(name)) == 10_000  # with the right checksum
    assert images.note == load(Path(DATA, name), limit=1).note
    assert name != "cifar10" or "JPEG" in images.note or "JPEG" not in Path(DATA, name, "README.md").read_text()
