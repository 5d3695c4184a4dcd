"""`convexattack attack`, `measure` and `curve`: perturbations for a network, and how robust it is against them."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from convexattack.cli.options import Data, Device, Dtype, Images, Model, Norm, Pixels, Seed, Weights
from convexattack.cli.terminal import console, number, progress, sentences, words

if TYPE_CHECKING:
    from convexattack.norms import Lp
    from convexattack.robustness import Estimate
    from convexattack.runs import Attacked, Curve, Measures

__all__ = ["attack", "curve", "measure"]


def attack(
    name: Annotated[
        str, typer.Argument(metavar="ATTACK", help="algorithm1, algorithm2, fastgrad, deepfool, random or regression.")
    ] = "algorithm1",
    model: Model = "digits",
    data: Data = "digits",
    images: Images = 64,
    norm: Norm = "inf",
    radius: Annotated[
        float | None,
        typer.Option(help="ε, in units of the data range; default: ρ₂ of the images (regression has none)."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Convex steps, each within ε/steps (1); deepfool: at most so many (50).")
    ] = None,
    piece: Annotated[
        str | None, typer.Option(help="Of algorithm1: best (a program for each class) or active (one in all).")
    ] = None,
    target: Annotated[int | None, typer.Option(help="The class to aim at, counted from 0.")] = None,
    pixels: Pixels = False,
    solver: Annotated[
        str | None, typer.Option(help="closed_form, reference (CVXPY), or any CVXPY solver; default: the closed form.")
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float64",
    weights: Weights = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="A file.safetensors or file.npz; a picture of the first images goes to file.png."),
    ] = None,
) -> None:
    """Perturb images so that a network misclassifies them, and certify the last convex step of each.

    \b
    algorithm1   minimize the linearized margin (3), one (GNII) for each class; --steps n, or algorithm1-n: n steps
    algorithm2   the same with the score of the class alone: one backward pass
    fastgrad     the same with the training loss: for p = inf equation (7)
    deepfool     the smallest perturbation: (8), repeated until the network is fooled
    random       every pixel ε up or down
    regression   (9): change the outputs most, of a network that is no classifier

    Images that the network misclassifies anyway are passed over. A certificate speaks of the convex step, "fooled" of
    the network itself.

    \b
      convexattack attack
      convexattack attack deepfool --norm 2 --pixels --out small.safetensors
      convexattack attack algorithm1 --steps 5 --radius 0.1 --target 3 --out threes.npz
      convexattack attack regression --model diabetes --data diabetes --norm 2 --radius 0.1
      convexattack attack fastgrad --model my_networks:lenet --weights lenet.safetensors --data mnist --radius 0.2

    The file holds one row an image, x and eta (η), index (its place in the data), label, before and after (classes),
    fooled, size (‖η‖_p), margin, steps, status, holds, gap, ..., and as metadata the attack, the model and the
    versions. Nothing in it needs pickle:

    \b
      from safetensors.numpy import load_file
      eta = load_file("small.safetensors")["eta"]
      import numpy as np
      with np.load("threes.npz", allow_pickle=False) as found: eta = found["eta"]

    Exit status 1 if the certificate of any last step does not hold; the file is written all the same.
    """
    with sentences():
        p = _norm(norm)
        from convexattack import runs

        setting = runs.Setting(model, data, images, device, dtype, weights, seed)
        with progress() as update:
            found = runs.attack(name, setting, p, radius, steps, piece, target, pixels, solver, out, update)
        _show_attack(found)
        if found.unproved:
            first = found.unproved[0]
            typer.echo(
                f"{len(found.unproved)} of {len(found)} last steps are not proved; "
                f"first row {first}: {found.why(first)}",
                err=True,
            )
            raise typer.Exit(1)


def measure(
    model: Model = "digits",
    data: Data = "digits",
    images: Images = 64,
    norm: Norm = "inf",
    radius: Annotated[
        float | None, typer.Option(help="ε of the fooling ratio, in units of the data range; default: ρ₂.")
    ] = None,
    name: Annotated[
        str, typer.Option("--attack", help="Of the fooling ratio: algorithm1, algorithm1-5 (five steps), fastgrad, ...")
    ] = ("algorithm1"),
    pixels: Pixels = False,
    device: Device = "cpu",
    dtype: Dtype = "float64",
    weights: Weights = None,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything for machines instead of a table.")] = False,
) -> None:
    """Measure how robust a network is: ρ₁, ρ₂, a fooling ratio, and the radius that fools 99%.

    \b
    ρ₁               the mean of ‖r‖_p/‖x‖_p, r the smallest perturbation that DeepFool finds
    ρ₂               the mean of L/‖∇L‖_q, the radius beyond which the linear model is fooled (Proposition 1): for the
                     smallest margin, as the paper's text has it, and for the smallest ratio, as its figures have it
    fooling ratio    the share of images that the attack turns into another class within ε
    smallest radius  at which DeepFool fools more than 99%

    All are over images that the network classifies correctly; each has its 95% interval, for the sampling of images
    alone: Student's for means, Wilson's for the ratio, order statistics for the radius (its upper end is inf where the
    images are too few to bound it).

    \b
      convexattack measure
      convexattack measure --model lenet5 --data mnist --images 1024 --norm 2
      convexattack measure --model my_networks:lenet --weights lenet.safetensors --data my_images --json
    """
    with sentences():
        p = _norm(norm)
        from convexattack import runs

        setting = runs.Setting(model, data, images, device, dtype, weights, seed)
        with progress() as update:
            found = runs.measure(setting, p, radius, name, pixels, update)
        if as_json:
            print(json.dumps(found.as_json(_command()), allow_nan=False, indent=1))
        else:
            _show_measures(found)


def curve(
    model: Model = "digits",
    data: Data = "digits",
    images: Images = 64,
    attacks: Annotated[
        str | None,
        typer.Option(help="Commas between; algorithm1-5 has five steps; default: those of the paper's Figure 2."),
    ] = None,
    radii: Annotated[
        str | None, typer.Option(help="ε, in units of the data range, commas between; default: ten, evenly up to 3 ρ₂.")
    ] = None,
    norm: Norm = "inf",
    pixels: Pixels = False,
    device: Device = "cpu",
    dtype: Dtype = "float64",
    weights: Weights = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="A file.png for the picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything for machines instead of a table.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print one line for each attack and radius instead of a table.")
    ] = False,
) -> None:
    """Fooling ratios over radii for several attacks, as in the paper's Figure 2.

    The fooling ratio is the share of correctly classified images that are misclassified at x + η. DeepFool finds its
    own size, and fools an image at ε if that is smaller than ε. Intervals are Wilson's, for the sampling of images.

    \b
      convexattack curve
      convexattack curve --attacks algorithm1,deepfool --norm 2 --radii 0.5,1,2 --out curve.png
      convexattack curve --model lenet5 --data mnist --images 1024 --csv > curve.csv
    """
    with sentences():
        if as_json and as_csv:
            raise ValueError("json and csv are given both: choose one, for they print to the same place")
        p = _norm(norm)
        names = None if attacks is None else words("attacks", attacks)
        levels = (
            None
            if radii is None
            else [number("radii", word, "numbers >= 0, such as 0.01,0.02,0.05") for word in words("radii", radii)]
        )
        from convexattack import runs

        setting = runs.Setting(model, data, images, device, dtype, weights, seed)
        with progress() as update:
            found = runs.curve(setting, names, levels, p, pixels, out, update)
        if as_json:
            print(json.dumps(found.as_json(_command()), allow_nan=False, indent=1))
        elif as_csv:
            print(found.as_csv(), end="")
        else:
            _show_curve(found)


def _norm(text: str) -> Lp:
    value = number("norm", text, "p as one number in [1, inf], such as 2 or inf")
    from convexattack.norms import Lp

    return Lp(value)


def _command() -> str:
    return shlex.join(["convexattack", *sys.argv[1:]])


# --- output -----------------------------------------------------------------------------------------------------------


def _about(about: Any) -> str:
    """Network and data, in a line or two."""
    what = "inputs" if "misclassified" not in about else "correctly classified images"
    short = f" ({about['asked']} were asked for)" if about["images"] < about["asked"] else ""
    wrong = f" ({about['misclassified']} misclassified passed over)" if about.get("misclassified") else ""
    weights = "" if about["weights"] is None else f" with {about['weights']}"
    lines = (
        f"model {about['model']}{weights}, {about['images']} {what}{short} of {about['data']}{wrong}, seed "
        f"{about['seed']}; "
    )
    return (
        lines
        + f"{about['dtype']} on {about['device']}; p = {about['norm']:g}"
        + (", x + η in [0, 1]" if about.get("pixels") else "")
    )


def _rows(pairs: list[tuple[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, said in pairs:
        table.add_row(name, said)
    return table


def _show_attack(found: Attacked) -> None:
    import numpy as np

    screen, n, about, arrays = console(), len(found), found.about, found.arrays
    screen.print(_about(about), markup=False, soft_wrap=True)

    def median(name: str, rows: Any = slice(None)) -> str:
        part = arrays[name][rows]
        return f"{np.median(part):.4g}" if len(part) else "none"

    within = f", ε = {about['radius']:g}" if about["radius"] is not None else ""
    aim = f", target {about['target']}" if about["target"] is not None else ""
    table = [("attack", f"{about['attack']}{within}{aim}")]
    if "label" in arrays:
        if aim:
            table.append(("reached", f"{_share(found.won)}: class {about['target']} is above the label"))
        table.append(("fooled", _share(arrays["fooled"])))
        table.append(("median ‖η‖", f"{median('size')} of all, {median('size', arrays['fooled'])} of those fooled"))
    else:
        table.append(("median ‖η‖", median("size")))
        table.append(("median change", f"{median('change')} = ‖f(x + η) − f(x)‖₂ of the network itself"))
        table.append(
            (
                "",
                f"{median('predicted')} = ‖Jη‖₂ of its linear model, "
                f"in which no η within ε can do more than {median('bound')}",
            )
        )
    table.append(("median steps", median("steps")))
    if "holds" in arrays:
        held = int(arrays["holds"].sum())
        statuses = ", ".join(f"{count} {name}" for name, count in found.statuses.items())
        relaxed = int(arrays["flagged"].sum()) if "flagged" in arrays else 0
        flagged = f"; {relaxed} flagged: some step was not the program as stated" if relaxed else ""
        worst = np.nanmax(np.abs(arrays["gap"])) if np.isfinite(arrays["gap"]).any() else math.nan
        table.append(
            (
                "certificates",
                f"{held} of {n} last convex steps hold ({statuses}; worst |gap| {worst:.0e} relative){flagged}",
            )
        )
    screen.print(_rows(table))
    for path in found.files:
        screen.print(f"written: {path}", markup=False, soft_wrap=True)


def _share(hit: Any) -> str:
    return f"{int(hit.sum())} of {len(hit)} ({hit.mean():.1%})"


def _show_measures(found: Measures) -> None:
    screen, about = console(), found.about
    screen.print(_about(about), markup=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("measure", "value", "95% interval", "images", "left out"):
        table.add_column(name, justify="right" if name in ("value", "images") else "left", no_wrap=name != "left out")
    ratio = f"fooling ratio of {about['attack']}" + (
        f", ε = {about['radius']:g}" if about["radius"] is not None else ""
    )
    estimates = {
        "ρ₁, relative size by DeepFool": found.rho_1,
        "ρ₂, class of the smallest margin": found.rho_2_active,
        "ρ₂, class of the smallest ratio": found.rho_2_smallest,
        ratio: found.fooling_ratio,
        "smallest ε, DeepFool fools > 99%": found.smallest_radius,
    }
    for name, of in estimates.items():
        left = ", ".join(f"{count} {why}" for why, count in of.left_out.items() if count)
        table.add_row(name, f"{of.value:.4g}", f"{of.low:.4g} to {of.high:.4g}", str(of.images), left or "none")
    screen.print(table)
    screen.print("ε, ρ₂ and the smallest ε are in units of the data range", markup=False)


def _show_curve(found: Curve) -> None:
    screen = console()
    screen.print(_about(found.about), markup=False, soft_wrap=True)
    screen.print("fooling ratio in %, with its 95% interval; ε in units of the data range", style="bold", markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("ε", justify="right", no_wrap=True)
    for name in found.curve.ratios:
        table.add_column(name, justify="right")
    for i, radius in enumerate(found.curve.radii):
        table.add_row(f"{radius:g}", *(_percent(ratios[i]) for ratios in found.curve.ratios.values()))
    screen.print(table)
    for path in found.files:
        screen.print(f"written: {path}", markup=False, soft_wrap=True)


def _percent(of: Estimate) -> str:
    """The interval is rounded outwards."""
    return f"{100 * of.value:.1f} [{math.floor(100 * of.low)}, {math.ceil(100 * of.high)}]"
