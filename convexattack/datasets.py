"""Data to attack: scikit-learn's digits, MNIST, CIFAR-10, any folder of labelled images in the Hugging Face layout;
and, for regression, scikit-learn's diabetes data; for segmentation, scenes of its digits."""

from __future__ import annotations

import hashlib
import os
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Images", "Scenes", "Table", "diabetes", "load", "scenes"]


@dataclass(frozen=True, eq=False)
class Images:
    """n labelled images.

    Attributes:
        x: (n, C, H, W) float32, pixels in [0, 1]: a perturbation η and its radius ε are in units of that range.
        label: (n,) int64, the true class, counted from 0.
        name: what was asked for: `digits`, `mnist`, `cifar10`, or the folder's name.
        note: what the source says of itself (for a folder, the first paragraph of its README.md); to be printed with
            every result.
    """

    x: Float[Tensor, "n C H W"]
    label: Int[Tensor, " n"]
    name: str
    note: str

    def __len__(self) -> int:
        return len(self.x)

    def padded(self, size: int) -> Images:
        """The images amid size × size pixels, zeros around, as the paper has MNIST at 32: η covers the frame as well.

        Raises:
            ValueError: an image is larger than that, or the zeros do not go evenly around it.
        """
        h, w = self.x.shape[2:]
        if h > size or w > size or (size - h) % 2 or (size - w) % 2:
            raise ValueError(
                f"size must exceed the {h} × {w} pixels of {self.name} by an even number, got {size}: "
                "choose another size"
            )
        rows, columns = (size - h) // 2, (size - w) // 2
        x = torch.nn.functional.pad(self.x, (columns, columns, rows, rows))
        return replace(self, x=x, note=f"{self.note}; zeros around to {size} × {size} pixels".lstrip("; "))


@dataclass(frozen=True, eq=False)
class Table:
    """n rows of measurements, and the numbers to be predicted from them.

    Attributes:
        x: (n, d) float32, standardised: one unit of η and ε is a standard deviation of that column among training rows.
        target: (n, m) float32, in the units of the source.
        name: what was asked for.
        note: what the source is, and which rows these are; to be printed with every result.
    """

    x: Float[Tensor, "n d"]
    target: Float[Tensor, "n m"]
    name: str
    note: str

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Scenes:
    """n images with a class for every pixel.

    Attributes:
        x: (n, 1, H, W) float32, pixels in [0, 1].
        label: (n, H, W) int64: 0 for background, 1 + k for a pixel of digit k.
        name: what was asked for.
        note: what the source is, and how the scenes are made; to be printed with every result.
    """

    x: Float[Tensor, "n 1 H W"]
    label: Int[Tensor, "n H W"]
    name: str
    note: str

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class _Known:
    """What a well-known dataset must look like, wherever it comes from and whatever its order."""

    hub: str
    images: Mapping[str, tuple[int, ...]]  # of each class
    shape: tuple[int, int, int]
    sha256: Mapping[str, str] = field(
        default_factory=dict
    )  # of a whole split, see `_checksum`; none where copies are lossy


_KNOWN = {
    "mnist": _Known(
        "ylecun/mnist",
        {
            "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        },
        (1, 28, 28),
        {
            "train": "3655811c0e1223700a4714a92a51f55bd215ed7dc1fa2baa4326a2b58042d82d",
            "test": "634538fb34c5277fce98470b8b285d1e8419eb87f328da42ef1faf690d2c3911",
        },
    ),
    "cifar10": _Known("uoft-cs/cifar10", {"train": (5_000,) * 10, "test": (1_000,) * 10}, (3, 32, 32)),
}
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "CMYK": "RGB"}  # Pillow's 8-bit modes, and what each becomes
_SLOW = 5_000  # images; decoding twice as many takes over two seconds


def load(name_or_folder: str | PathLike[str], split: str = "test", limit: int | None = None) -> Images:
    """The first `limit` images (default: all) of a split, in the order of the source.

    Args:
        name_or_folder: `digits` (in scikit-learn; 1,437 for training and 360 for testing, as the shipped network has
            it); `mnist` or `cifar10`, from `$CONVEXATTACK_DATA/NAME` where that is a folder, otherwise from the Hugging
            Face hub and its cache; or the path of a folder in the Hugging Face layout (parquet, image folder, ...) with
            a column of images of one size, 8-bit grey or RGB, and a column of classes. A folder is only read: nothing
            is written into it, nor cached.
        split: `train` or `test`, or what else the folder has.
        limit: at least 1.

    MNIST and CIFAR-10 are counted by class, whatever the limit; the pixels of MNIST, the same in every good copy, are
    compared with a checksum if a split is whole. A folder of which the card states `num_examples` is counted likewise.

    Raises:
        ValueError: no such dataset or split, a wrong limit, or images, labels, counts or pixels other than the dataset
            must have.
        FileNotFoundError: the hub cannot be reached.
        ImportError: the extra `convexattack[data]`, which everything but the digits needs, is not installed.
    """
    _check_limit(limit, "images")
    if not isinstance(name_or_folder, str | PathLike):
        raise TypeError(
            f"name_or_folder must be a name or a path, got {name_or_folder!r}: "
            f"use digits, {', '.join(_KNOWN)} or a folder"
        )
    name = os.fspath(name_or_folder)
    if name == "digits":
        return _digits(split, limit)
    known = _KNOWN.get(name)
    if known and split not in known.images:
        raise ValueError(f"dataset {name!r} has no split {split!r}: use one of {', '.join(known.images)}")
    folder = Path(os.environ.get("CONVEXATTACK_DATA", ""), name) if known else Path(name)
    if known and not ("CONVEXATTACK_DATA" in os.environ and folder.is_dir()):
        return _images(known.hub, None, name, split, limit, known)
    if not folder.is_dir():
        raise ValueError(f"dataset {name!r} is neither digits, {', '.join(_KNOWN)} nor a folder: give one of these")
    return _images(str(folder), folder, name if known else folder.resolve().name, split, limit, known)


def diabetes(split: str = "test", limit: int | None = None) -> Table:
    """The first `limit` rows (default: all) of scikit-learn's diabetes data: 442 patients, d = 10 measurements, m = 1.

    The target is a score of the disease's progression one year later, 25 to 346 points. 354 rows are for training and
    88 for testing, by `train_test_split(test_size=88, random_state=0)`; mean and standard deviation of each column are
    those of the 354.

    Raises:
        ValueError: no such split, or a limit below 1.
    """
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    _check_limit(limit, "rows")
    if split not in ("train", "test"):
        raise ValueError(f"diabetes has no split {split!r}: use one of train, test")
    measured, score = load_diabetes(return_X_y=True, scaled=False)
    training, test, *scores = train_test_split(measured, score, test_size=88, random_state=0)
    part, target = (training, scores[0]) if split == "train" else (test, scores[1])
    x = (part - training.mean(0)) / training.std(0)
    return Table(
        torch.tensor(x[:limit], dtype=torch.float32),
        torch.tensor(target[:limit, None], dtype=torch.float32),
        "diabetes",
        "scikit-learn's diabetes data, standardised: "
        f"the {len(part)} {split} rows of train_test_split(test_size=88, random_state=0)",
    )


SCENES = {"train": 3_000, "test": 500}
SIDE, INK = 20, 0.25


def scenes(split: str = "test", limit: int | None = None) -> Scenes:
    """The first `limit` scenes of two digits (default: all, 3,000 for training, 500 for testing), for segmentation.

    Two of scikit-learn's digits, drawn from that split of `load("digits")`, stand on 20 × 20 pixels of background 0, in
    places where their frames of 8 × 8 do not overlap; everything is drawn by `numpy.random.default_rng(0)` for
    training, `(1)` for testing. A pixel of at least 0.25 belongs to its digit, any other to the background.

    Raises:
        ValueError: no such split, or a limit below 1.
    """
    _check_limit(limit, "scenes")
    if split not in SCENES:
        raise ValueError(f"scenes has no split {split!r}: use one of {', '.join(SCENES)}")
    source = load("digits", split)
    digits, classes = source.x[:, 0].numpy(), source.label.numpy()
    draw = np.random.default_rng(list(SCENES).index(split))
    count = min(limit or SCENES[split], SCENES[split])
    x, label = np.zeros((count, 1, SIDE, SIDE), np.float32), np.zeros((count, SIDE, SIDE), np.int64)
    h, w = digits.shape[1:]
    for scene, of_pixels in zip(x[:, 0], label, strict=True):
        places = draw.integers(0, SIDE - h + 1, (2, 2))
        while abs(places[0] - places[1]).max() < h:
            places = draw.integers(0, SIDE - h + 1, (2, 2))
        for row, column in places:
            k = draw.integers(len(digits))
            scene[row : row + h, column : column + w] = digits[k]
            of_pixels[row : row + h, column : column + w] = np.where(digits[k] >= INK, classes[k] + 1, 0)
    note = f"scenes of two digits on {SIDE} × {SIDE} pixels, composed from {source.note}"
    return Scenes(torch.from_numpy(x), torch.from_numpy(label), "scenes", note)


def _check_limit(limit: object, what: str) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit must be a whole number, at least 1, got {limit!r}: leave it out for all {what}")


def _digits(split: str, limit: int | None) -> Images:
    """The split is that of `models.digits.data`; a test compares them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if split not in ("train", "test"):
        raise ValueError(f"dataset 'digits' has no split {split!r}: use one of train, test")
    pixels, classes = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, classes, test_size=360, random_state=0, stratify=classes)
    x, label = parts[split == "test" :: 2]
    return Images(
        torch.tensor(x[:limit], dtype=torch.float32).view(-1, 1, 8, 8),
        torch.tensor(label[:limit], dtype=torch.long),
        "digits",
        f"scikit-learn's digits: the {len(x):,} {split} images of train_test_split(test_size=360, random_state=0, "
        "stratify=labels)",
    )


def _images(source: str, folder: Path | None, name: str, split: str, limit: int | None, known: _Known | None) -> Images:
    images, classes, stated = _rows(source, folder, split, limit, whole=known is not None)
    if known and len(classes) != sum(known.images[split]):
        raise ValueError(
            f"{source} holds {len(classes):,} {split} images, and {name} has {sum(known.images[split]):,}: get it again"
        )
    if limit is None and stated is not None and len(classes) != stated:
        raise ValueError(f"{source} holds {len(classes):,} {split} images, and its card says {stated:,}: get it again")
    label = _labels(classes, source)
    if known:
        m = len(known.images[split])
        if int(label.max()) >= m:
            raise ValueError(
                f"{source} has a label {int(label.max())}, and {name} has classes 0 to {m - 1}: get it again"
            )
        pairs = enumerate(zip(label.bincount(minlength=m).tolist(), known.images[split], strict=True))
        wrong = next(((k, found, right) for k, (found, right) in pairs if found != right), None)
        if wrong is not None:
            raise ValueError(
                f"{source} has {wrong[1]:,} {split} images of class {wrong[0]}, and {name} has {wrong[2]:,}: "
                "get it again"
            )
    label = label[: len(images)].clone()
    pixels = _pixels(images, source)
    shape = (pixels.shape[3], *pixels.shape[1:3])
    if known and shape != known.shape:
        raise ValueError(f"{source} has images of shape {shape} (C, H, W), and {name} has {known.shape}: get it again")
    if (
        known
        and split in known.sha256
        and len(images) == len(classes)
        and _checksum(pixels, label) != known.sha256[split]
    ):
        raise ValueError(
            f"{source} has {split} images with other pixels or labels than {name} (their SHA-256 differs): get it again"
        )
    x = torch.empty(len(pixels), *shape).copy_(torch.from_numpy(pixels).permute(0, 3, 1, 2)).div_(255)
    return Images(x, label, name, _readme(folder) if folder else f"from the Hugging Face hub, {source}")


def _checksum(pixels: np.ndarray, label: Int[Tensor, " n"]) -> str:
    """SHA-256 of the sorted SHA-256s of each image's label and pixels: the same for any order and lossless encoding."""
    each = sorted(
        hashlib.sha256(bytes([k]) + image.tobytes()).digest() for image, k in zip(pixels, label.tolist(), strict=True)
    )
    return hashlib.sha256(b"".join(each)).hexdigest()


def _rows(
    source: str, folder: Path | None, split: str, limit: int | None, whole: bool
) -> tuple[list[Any], list[Any], int | None]:
    """The first `limit` encoded images, their labels (all if `whole`), and how many images the card says there are."""
    try:
        from datasets import ClassLabel, Image, Value, load_dataset
    except ImportError as error:
        raise ImportError(
            f'reading {source} needs the Hugging Face datasets library: pip install "convexattack[data]"'
        ) from error
    images: list[Any] = []
    classes: list[Any] = []
    stated = None
    with tempfile.TemporaryDirectory() as cache:  # a folder is streamed, so that this holds a lock file at most
        try:
            table = (
                load_dataset(source, split=split, streaming=True, cache_dir=cache)
                if folder
                else load_dataset(source, split=split)
            )
            columns = table.features or {}
            stated = getattr((table.info.splits or {}).get(split), "num_examples", None)
            image = next((key for key, kind in columns.items() if isinstance(kind, Image)), None)
            numbers = [
                key
                for key, kind in columns.items()
                if isinstance(kind, Value) and "int" in kind.dtype and "label" in key
            ]
            label = next((key for key, kind in columns.items() if isinstance(kind, ClassLabel)), *numbers[:1] or [None])
            if image and label:
                table = (
                    table.cast_column(image, Image(decode=False)).select_columns([image, label]).with_format("arrow")
                )
                for batch in table.iter(batch_size=1000 if whole else min(limit or 1000, 1000)):
                    missing = len(batch) if limit is None else limit - len(images)
                    images += batch[image].slice(0, missing).to_pylist()
                    classes += batch[label].slice(0, len(batch) if whole else missing).to_pylist()
                    if not whole and len(images) == limit:
                        break
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            if folder is None:
                cure = "connect to the hub once, or set CONVEXATTACK_DATA to the folder that holds it"
                raise FileNotFoundError(
                    f"dataset {source} cannot be had from the Hugging Face hub ({reason}): {cure}"
                ) from error
            cure = "it must have that split in the Hugging Face layout"
            raise ValueError(f"folder {source} cannot be read for its split {split!r} ({reason}): {cure}") from error
    if not (image and label):
        raise ValueError(
            f"{source} needs a column of images and one of classes, and has {', '.join(columns) or 'none'}: "
            "declare both"
        )
    if not images:
        raise ValueError(f"{source} has no images in its split {split!r}: choose another split")
    return images, classes, stated


def _labels(classes: Sequence[Any], source: str) -> Int[Tensor, " n"]:
    wrong = next((i for i, value in enumerate(classes) if value is None or value < 0), None)
    if wrong is not None:
        raise ValueError(
            f"{source} has no class for image {wrong} (label {classes[wrong]}): choose a split that is labelled"
        )
    return torch.tensor(classes, dtype=torch.long)


def _pixels(images: Sequence[Mapping[str, Any] | None], source: str) -> np.ndarray:
    """The decoded images, (n, H, W, C) uint8, all of the first one's size and colour."""
    import PIL.Image
    from rich.console import Console
    from rich.progress import track

    pixels = np.empty(0, np.uint8)
    console = Console(stderr=True)
    bar = track(
        images, "decoding", console=console, transient=True, disable=len(images) < _SLOW or not console.is_terminal
    )
    for i, encoded in enumerate(bar):
        if encoded is None:
            raise ValueError(f"{source} has no image {i}, only a class: choose a split whose images are all there")
        try:
            with PIL.Image.open(encoded["path"] if encoded["bytes"] is None else BytesIO(encoded["bytes"])) as image:
                if image.mode not in _MODES:
                    raise ValueError(f"its mode {image.mode} is not 8-bit grey or RGB")
                decoded = np.atleast_3d(np.asarray(image.convert(_MODES[image.mode])))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"image {i} of {source} cannot be decoded ({error}): save it as an 8-bit grey or RGB image"
            ) from error
        if i == 0:
            pixels = np.empty((len(images), *decoded.shape), np.uint8)
        if decoded.shape != pixels.shape[1:]:
            raise ValueError(
                f"image {i} of {source} has shape {decoded.shape} and image 0 {pixels.shape[1:]} (H, W, C): "
                "bring all to one"
            )
        pixels[i] = decoded
    return pixels


def _readme(folder: Path) -> str:
    """The first paragraph of the folder's README.md after its YAML header and headings; "" if there is none."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if text.startswith("---\n"):
        text = text[4:].partition("\n---")[2]
    lines = "\n".join("" if line.startswith("#") else line for line in text.splitlines())
    return textwrap.shorten(next(filter(None, map(str.strip, lines.split("\n\n"))), ""), 400, placeholder=" ...")
