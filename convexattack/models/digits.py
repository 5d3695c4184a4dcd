"""The shipped network for scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, and the command that trains it:

    python -m convexattack.models.digits --out digits.safetensors

64 → 128 → 64 → 10 with ReLU between: piecewise linear, so that equation (1) is exact near an image. Pixels are in [0, 1]
(16 grey levels divided by 16) and nothing is normalised, so that ε is in units of that range.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["data", "digits", "train"]

TEST_IMAGES = 360
EPOCHS = 40
BATCH = 64
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-2
NOISE = 0.1


def digits() -> nn.Sequential:
    """The untrained network: images (B, 1, 8, 8), or flat (B, 64), with pixels in [0, 1] → scores (B, 10)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, labels) for training, 1,437 of them, and for testing, 360: the split of `datasets.load("digits")`."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, classes = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, classes, test_size=TEST_IMAGES, random_state=0, stratify=classes)
    x_train, x_test = (torch.tensor(part, dtype=torch.float32).view(-1, 1, 8, 8) for part in parts[:2])
    return (x_train, torch.tensor(parts[2])), (x_test, torch.tensor(parts[3]))


def train(seed: int = 0, epochs: int = EPOCHS) -> nn.Sequential:
    """The network trained on one CPU thread, in eval mode: the same weights for the same seed on the same kind of machine.

    AdamW on the cross entropy, images perturbed by Gaussian noise of standard deviation 0.1, a one-cycle learning rate.
    Leaves the global random state as it was.
    """
    from rich.console import Console
    from rich.progress import track

    (x, label), _ = data()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = digits()
            optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
            steps = epochs * -(-len(x) // BATCH)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
            for _ in track(range(epochs), "training", console=Console(stderr=True)):
                for rows in torch.randperm(len(x)).split(BATCH):
                    noisy = x[rows] + NOISE * torch.randn(len(rows), 1, 8, 8)
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(noisy), label[rows]).backward()
                    optimizer.step()
                    schedule.step()
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def errors(model: nn.Module) -> tuple[int, int]:
    """How many of the 1,437 training and of the 360 test images the network gets wrong."""
    with torch.no_grad():
        wrong = [int((model(x).argmax(1) != label).sum()) for x, label in data()]
    return wrong[0], wrong[1]


def card(weights: Path, wrong: tuple[int, int], seed: int, epochs: int) -> str:
    """The model card of freshly written weights: what was measured, and how to get there again."""
    import sklearn

    return CARD.format(
        test=f"{wrong[1] / TEST_IMAGES:.2%} ({wrong[1]} of {TEST_IMAGES} images)",
        training=f"{wrong[0] / (1797 - TEST_IMAGES):.2%} ({wrong[0]} of {1797 - TEST_IMAGES:,} images)",
        parameters=f"{sum(parameter.numel() for parameter in digits().parameters()):,}",
        seed=seed,
        epochs=epochs,
        command=f"python -m convexattack.models.digits --out {weights.name} --seed {seed} --epochs {epochs}",
        machine=f"CPU ({platform.machine()}), one thread",
        versions=f"torch {torch.__version__.partition('+')[0]}, scikit-learn {sklearn.__version__}",
        date=datetime.now(UTC).date().isoformat(),
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: train, measure, write the weights and their card; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m convexattack.models.digits",
        description="Train the small network for 8 x 8 digits that ships with convexattack; write weights and, beside them, a model card.",
        epilog="example: python -m convexattack.models.digits --out my.safetensors writes my.safetensors and my.md, then "
        'convexattack.models.load_weights(convexattack.models.digits.digits(), "my.safetensors") is the network. '
        "It takes a few seconds on one CPU thread; the same seed gives the same weights on the same kind of machine.",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="for the weights, ends in .safetensors; replaced if it exists"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights, the batches and the noise (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the 1,437 training images (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.out.suffix != ".safetensors":
        parser.error(f"--out {given.out} must end in .safetensors, since its card takes the same name with .md")
    if given.epochs < 1:
        parser.error(f"--epochs {given.epochs} must be at least 1")
    try:
        wrong = write(given.out, given.seed, given.epochs)
    except OSError as error:
        print(f"--out {given.out} cannot be written ({error.strerror}): give a file in a folder that can be written to", file=sys.stderr)
        return 1
    print(f"test error {wrong[1] / TEST_IMAGES:.2%} ({wrong[1]} of {TEST_IMAGES}): {given.out} and {given.out.with_suffix('.md')}")
    return 0


def write(out: Path, seed: int, epochs: int) -> tuple[int, int]:
    """Train, then put weights and card in place together; nothing is left behind if it fails. Returns `errors`."""
    from safetensors.torch import save

    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".training-") as folder:
        model = train(seed, epochs)
        wrong = errors(model)
        weights = Path(folder) / out.name
        weights.write_bytes(save(model.state_dict()))
        weights.with_suffix(".md").write_text(card(weights, wrong, seed, epochs), encoding="utf-8")
        for suffix in (".safetensors", ".md"):
            os.replace(weights.with_suffix(suffix), out.with_suffix(suffix))
    return wrong


CARD = """\
# digits

A small ReLU network for handwritten digits of 8 × 8 pixels: the model that convexattack is tried out on.

| | |
|---|---|
| Test error | {test} |
| Training error | {training} |
| Input | images (B, 1, 8, 8), pixels in [0, 1]; nothing is normalised, so ε is in units of the pixel range |
| Output | scores (logits) of the classes 0 to 9 |
| Network | 64 → 128 → 64 → 10, ReLU, {parameters} parameters, float32 |
| Data | the 1,797 images of `sklearn.datasets.load_digits` (test set of UCI's Optical Recognition of Handwritten Digits), divided by 16 |
| Split | `train_test_split(..., test_size=360, random_state=0, stratify=labels)`: random images, not held-out writers |
| Training | {epochs} epochs of AdamW, one-cycle learning rate up to 0.01, weight decay 0.01, Gaussian noise of 0.1 on the images |
| Seed | {seed} |
| Command | `{command}` |
| Hardware | {machine} |
| Versions | {versions} |
| Date | {date} |
| SHA-256 of the weights | `{sha256}` |

It is trained to be accurate, not robust, and to be small; it is no use for reading digits of any other origin.
"""

if __name__ == "__main__":
    sys.exit(main())
