"""The command that trains any of the shipped networks, measures it, and writes its weights and their card:

    python -m convexattack.models.train digits --out digits.safetensors

Stopped, even in mid-epoch, it goes on with the same command from the end of the last whole epoch, and on a CPU comes to
the same weights as without the stop.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from convexattack.models import SHIPPED, from_factory
from convexattack.models.recipes import RECIPES, Part, Recipe

__all__ = ["main", "train", "write"]


def train(
    name: str,
    seed: int = 0,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    training: Part | None = None,
    device: torch.device | None = None,
    coarse: int = 0,
) -> nn.Module:
    """The network `name`, trained as its recipe says, in eval mode, on the CPU; the global random state is kept.

    On a CPU it runs on one thread, and the same seed gives the same weights on the same kind of machine. On a GPU it
    runs in bfloat16 (float32 weights), and two runs may differ. Networks for a GPU have channels last.

    Args:
        name: a key of `RECIPES`.
        seed: of the initial weights, the batches, the noise and the shifts.
        epochs: passes over the training part (default: the recipe's).
        checkpoint: a file that is written after every epoch; if it is there, training goes on from it. It is kept.
        training: inputs and labels, or targets (default: the recipe's).
        device: default: a GPU where the recipe wants one and there is one, otherwise the CPU.
        coarse: how many of the epochs, the first ones, see images of half the side (means of 2 × 2 pixels), a quarter
            of the work; for networks that end in a mean over the image, where no GPU is at hand.

    Raises:
        ValueError: the checkpoint is of another training, or cannot be read; coarse epochs for a network that takes one
            size of image.
    """
    recipe = RECIPES[name]
    epochs = recipe.epochs if epochs is None else epochs
    if coarse and not (recipe.gpu and 0 < coarse <= epochs):
        sizes = ", ".join(key for key, row in RECIPES.items() if row.gpu)
        allowed = (
            f"from 0 to the {epochs} epochs"
            if recipe.gpu
            else f"0 for {name}, which takes one size of image; only {sizes} take more"
        )
        raise ValueError(f"coarse = {coarse} must be {allowed}")
    device = place(recipe) if device is None else device
    x, target = (part.to(device) for part in training or recipe.data()[0])
    cuda = device.type == "cuda"
    with _random_state(seed, device):
        model = from_factory(SHIPPED[name]).to(device).train()
        if recipe.gpu:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        steps = -(-len(x) // recipe.batch)
        optimizer, schedule = _optimizer(model, recipe, epochs * steps)
        training_of = {"name": name, "seed": seed, "epochs": epochs, "coarse": coarse, "items": len(x)}
        state = _Checkpoint(checkpoint, training_of, model, optimizer, device)
        done = state.load()
        schedule.load_state_dict({**schedule.state_dict(), "last_epoch": done * steps})
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(f"training {name}", total=epochs * steps, completed=done * steps)
            for epoch in range(done, epochs):
                for rows in torch.randperm(len(x)).to(device).split(recipe.batch):
                    inputs = _shifted(x[rows]) if recipe.shift else x[rows]
                    if recipe.noise:
                        inputs = inputs + recipe.noise * torch.randn(inputs.shape, device=device)
                    optimizer.zero_grad()
                    if epoch < coarse:
                        inputs = nn.functional.avg_pool2d(inputs, 2)
                    if recipe.gpu:
                        inputs = inputs.contiguous(memory_format=torch.channels_last)
                    with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                        loss = recipe.loss(model(inputs), target[rows])
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    bar.advance(task)
                state.save(epoch + 1)
    model.to("cpu").eval()
    return model


def place(recipe: Recipe) -> torch.device:
    """Where a recipe trains on this machine."""
    return torch.device("cuda" if recipe.gpu and torch.cuda.is_available() else "cpu")


@contextmanager
def _random_state(seed: int, device: torch.device) -> Iterator[None]:
    """One thread and a seeded random state; both as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _optimizer(
    model: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    optimizer: torch.optim.Optimizer
    if recipe.sgd:
        optimizer = torch.optim.SGD(
            model.parameters(), recipe.rate, momentum=0.9, nesterov=True, weight_decay=recipe.decay
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=steps, cycle_momentum=not recipe.sgd
    )
    return optimizer, schedule


def _shifted(x: Tensor) -> Tensor:
    """Each image (B, C, H, W) mirrored or not, and shifted by up to 4 pixels each way, zeros coming in."""
    size, h, w = len(x), *x.shape[2:]
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    top, left = torch.randint(0, 9, (2, size, 1, 1), device=x.device)
    rows = top + torch.arange(h, device=x.device)[:, None]
    columns = left + torch.arange(w, device=x.device)
    columns = torch.where(torch.rand(size, 1, 1, device=x.device) < 0.5, columns.flip(-1), columns)
    return padded[torch.arange(size, device=x.device)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


class _Checkpoint:
    """Where a training stands after an epoch, in a safetensors file: weights, the optimizer's state, random states."""

    def __init__(
        self,
        file: Path | None,
        training: dict[str, Any],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        self.file, self.training, self.model, self.optimizer, self.device = file, training, model, optimizer, device

    def save(self, done: int) -> None:
        if self.file is None:
            return
        tensors = {f"model.{key}": tensor for key, tensor in self.model.state_dict().items()}
        state = self.optimizer.state_dict()
        for number, of_parameter in state["state"].items():
            tensors |= {
                f"optimizer.{number}.{key}": tensor for key, tensor in of_parameter.items() if tensor is not None
            }
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        about = {"training": json.dumps(self.training), "done": str(done), "groups": json.dumps(state["param_groups"])}
        _put(self.file, save({key: tensor.contiguous() for key, tensor in tensors.items()}, about))

    def load(self) -> int:
        """How many epochs are done: 0 if there is no file."""
        if self.file is None or not self.file.exists():
            return 0
        try:
            with safe_open(self.file, "pt") as content:
                about = content.metadata() or {}
                tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (it is no dict)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"checkpoint {self.file} cannot be read ({error}): remove it to begin anew") from error
        if about.get("training") != json.dumps(self.training):
            raise ValueError(
                f"checkpoint {self.file} is of another training ({about.get('training')}): "
                "repeat that one, or remove it to begin anew"
            )
        self.model.load_state_dict(
            {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, number, entry = key.split(".")
                state.setdefault(int(number), {})[entry] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": json.loads(about["groups"])})
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        return int(about["done"])


def _put(file: Path, content: bytes) -> None:
    """Replace the file by the whole content, or leave it as it is."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".writing-") as folder:
        whole = Path(folder) / file.name
        whole.write_bytes(content)
        os.replace(whole, file)


def write(name: str, out: Path, seed: int, epochs: int, coarse: int = 0) -> dict[str, str]:
    """Train, measure, put weights and card in place, remove the checkpoint (OUT with .checkpoint); the measures."""
    recipe = RECIPES[name]
    checkpoint = out.with_suffix(".checkpoint")
    training, test = recipe.data()
    model = train(name, seed, epochs, checkpoint, training, coarse=coarse)
    measured = recipe.measure(model.to(place(recipe)), training, test)
    content = save({key: tensor.cpu().contiguous() for key, tensor in model.state_dict().items()})
    text = card(name, model, out.name, measured, seed, epochs, hashlib.sha256(content).hexdigest(), coarse)
    _put(out, content)
    _put(out.with_suffix(".md"), text.encode())
    checkpoint.unlink(missing_ok=True)
    return measured


def card(
    name: str,
    model: nn.Module,
    file: str,
    measured: dict[str, str],
    seed: int,
    epochs: int,
    sha256: str,
    coarse: int = 0,
) -> str:
    """The model card: what was measured, and how to get there again."""
    import sklearn

    from convexattack import datasets

    recipe = RECIPES[name]
    gpu = place(recipe).type == "cuda"
    smaller = f" --coarse {coarse}" if coarse else ""
    rows = {
        **measured,
        **recipe.rows,
        "Network": f"{recipe.rows['Network']}; {sum(parameter.numel() for parameter in model.parameters()):,} "
        "parameters, float32",
        **({"Source of the data": datasets.load(recipe.source, limit=1).note} if recipe.source else {}),
        "Training": recipe.training(epochs, coarse),
        "Seed": str(seed),
        "Command": f"`python -m convexattack.models.train {name} --out {file} --seed {seed} --epochs "
        f"{epochs}{smaller}`",
        "Hardware": f"{torch.cuda.get_device_name()}, bfloat16" if gpu else f"CPU ({platform.machine()}), one thread",
        "Versions": f"torch {torch.__version__.partition('+')[0]}, scikit-learn {sklearn.__version__}",
        "Date": datetime.now(UTC).date().isoformat(),
        "SHA-256 of the weights": f"`{sha256}`",
    }
    lines = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"# {name}\n\n{recipe.about}\n\n| | |\n|---|---|\n{lines}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m convexattack.models.train",
        description="Train a network that ships with convexattack; write weights and, beside them, a model card.",
        epilog="example: python -m convexattack.models.train fcnn --out fcnn.safetensors writes fcnn.safetensors and "
        "fcnn.md. digits and diabetes take seconds on one CPU thread, scenes, fcnn and lenet5 minutes; nin and "
        "densenet40 want a GPU. fcnn and lenet5 need MNIST, nin and densenet40 CIFAR-10, from $CONVEXATTACK_DATA or "
        "the Hugging Face hub. Stopped, the same command goes on from the last whole epoch: its state is beside FILE, "
        "with .checkpoint, until the end. On a CPU the same seed gives the same weights on the same kind of machine.",
    )
    parser.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="for the weights, ends in .safetensors; replaced if it exists",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the initial weights, the batches and the noise (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=int, help="passes over the training data (default: the recipe's; a card says what was taken)"
    )
    parser.add_argument(
        "--coarse", type=int, default=0, metavar="N",
        help="of nin and densenet40, without a GPU: the first N epochs see images of half the side, "
        "a quarter of the work (default: 0)",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    epochs = RECIPES[given.name].epochs if given.epochs is None else given.epochs
    if given.out.suffix != ".safetensors":
        parser.error(f"--out {given.out} must end in .safetensors, since its card takes the same name with .md")
    if not given.out.parent.is_dir():
        parser.error(f"--out {given.out} is in no folder that exists: make {given.out.parent}")
    if epochs < 1:
        parser.error(f"--epochs {epochs} must be at least 1")
    try:
        measured = write(given.name, given.out, given.seed, epochs, given.coarse)
    except KeyboardInterrupt:
        print("stopped: the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    except OSError as error:
        said = f"--out {given.out} cannot be written ({error.strerror}): give a file in a folder that can be written to"
        print(said if error.strerror else error, file=sys.stderr)
        return 1
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    (first, value), *_ = measured.items()
    print(f"{first}: {value}: {given.out} and {given.out.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
