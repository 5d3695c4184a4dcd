"""The options that say what a command works on: the same words wherever they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Data", "Device", "Dtype", "Images", "Model", "Norm", "Pixels", "Seed", "Weights"]

Model = Annotated[
    str,
    typer.Option(
        help="A shipped network (digits, fcnn, lenet5, nin, densenet40; for (9) also: diabetes, digits-autoencoder), "
        "or MODULE:FACTORY of yours."
    ),
]
Data = Annotated[
    str, typer.Option(help="digits, mnist, cifar10, or a folder in the Hugging Face layout; for (9) also: diabetes.")
]
Images = Annotated[int, typer.Option(help="How many correctly classified test images.")]
Device = Annotated[str, typer.Option(help="Of network and programs: cpu, cuda, ...")]
Dtype = Annotated[str, typer.Option(help="Of network and programs: float64, float32 or float16.")]
Weights = Annotated[Path | None, typer.Option(help="A safetensors file for the network.")]
Seed = Annotated[int, typer.Option(help="Of the order in which test images are taken.")]
Norm = Annotated[str, typer.Option(help="p of ‖η‖_p, a number in [1, inf].")]
Pixels = Annotated[bool, typer.Option("--pixels", help="Keep x + η in [0, 1].")]
