"""Attacks, measures and curves on a user's own network and data: what `convexattack attack`, `measure` and `curve` run.

A `Setting` names network and data. Everything but regression is about images that the network classifies correctly; the
others are passed over and counted. A radius that is not given is ρ₂ of these images (smallest ratio, two digits): by
Proposition 1 the linear model of an image is fooled within ε if and only if ε > min_l L_l/‖∇L_l‖_q, whose mean is ρ₂.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexattack.attacks import Attack, Perturbation, RandomSign, RegressionAttack, RegressionPerturbation, deepfool
from convexattack.attacks.live import evaluate
from convexattack.certificates import Certificate
from convexattack.files import atomically, check_writable
from convexattack.norms import Lp
from convexattack.robustness import fooling_curve, rho_1, rho_2, smallest_radius
from convexattack.runs.report import FORMATS, Attacked, Curve, Measures, save
from convexattack.runs.setting import Setting, Subject
from convexattack.runs.table import ATTACKS, FIGURE_2, attack_named, check_radius, pixel_range

__all__ = ["ATTACKS", "FIGURE_2", "Attacked", "Curve", "Measures", "Setting", "attack", "curve", "measure"]

BATCH, ONE_BY_ONE = 64, 4  # images at a time: by closed form, by another solver
Progress = Callable[[int, int, str], object]


def attack(
    name: str = "algorithm1",
    setting: Setting | None = None,
    norm: Lp | None = None,
    radius: float | None = None,
    steps: int | None = None,
    piece: str | None = None,
    target: int | None = None,
    pixels: bool = False,
    solver: str | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Attacked:
    """Perturb images (or, with `regression`, any inputs), certify the last convex step of each, keep all in a file.

    Args:
        name: an attack in `ATTACKS`, or algorithm1-5 for five steps.
        setting: network and data; by default the shipped digits.
        norm: ‖·‖_p; p = ∞ by default.
        radius: ε, in the units of the inputs. By default ρ₂; regression needs one.
        steps: convex steps, DeepFool's at most (50).
        piece: of algorithm1, "best" or "active".
        target: aim at this class; images of that class are left out.
        pixels: keep x + η in [0, 1].
        solver: as for `ca.solve`.
        out: a .safetensors or .npz; the picture, first inputs only, goes next to it as .png. Both are in place whole,
            or not at all.
        progress: called with (inputs done, of how many, what is being done).

    Raises:
        ValueError, TypeError: an argument that is wrong, or that the attack does not take, in a sentence that names it.
        FileNotFoundError, OSError: missing weights, or a file that cannot be written.
        ImportError: `out` without matplotlib, or a dataset without its extra.
    """
    setting, norm = setting or Setting(), norm or Lp(math.inf)
    options: dict[str, Any] = {
        "steps": steps,
        "piece": piece,
        "target": target,
        "pixels": pixels,
        "solver": solver,
        "seed": setting.seed,
    }
    told = _has_radius(name) and name != "regression" and radius is None
    made = attack_named(name, norm, 1.0 if told else radius, **options)
    files = None if out is None else _to_write(out, FORMATS)
    subject = Subject.regressed(setting) if isinstance(made, RegressionAttack) else Subject.classified(setting, target)
    if told:
        radius = _typical(subject, norm, progress)
        made = made.at(radius)
    arrays = _arrays(made, subject, target, progress, BATCH if solver in (None, "closed_form") else ONE_BY_ONE)
    about = {"attack": made.name, "name": name, "norm": norm.p, "radius": radius, **options, **subject.about}
    about |= {} if files is None else {"format": files[0].suffix}
    found = Attacked(about, arrays, () if files is None else tuple(map(str, files)))
    if files is not None:
        from convexattack.runs.picture import grid_picture

        with atomically(files[0]) as whole, atomically(files[1]) as shot:
            save(whole, found)
            grid_picture(shot, found, _heading(found.about))
    return found


def measure(
    setting: Setting | None = None,
    norm: Lp | None = None,
    radius: float | None = None,
    name: str = "algorithm1",
    pixels: bool = False,
    progress: Progress | None = None,
) -> Measures:
    """ρ₁, ρ₂, the fooling ratio of an attack at a radius, the smallest radius at which DeepFool fools more than 99%.

    Args:
        setting, norm, progress: as for `attack`.
        radius: ε of the fooling ratio; by default ρ₂.
        name: the attack of the fooling ratio, in `ATTACKS`.
        pixels: keep x + η in [0, 1], for the attack and for DeepFool.

    Raises:
        As `attack`.
    """
    setting, norm = setting or Setting(), norm or Lp(math.inf)
    if radius is not None:
        check_radius(radius)
    made = _fooling(name, norm, pixels, setting.seed)
    subject = Subject.classified(setting)
    model, x, label = subject.network, subject.x, subject.label
    tick = _ticker(progress, 4 * len(subject))
    smallest = deepfool(norm, sets=pixel_range(pixels))
    by_rho_2 = rho_2(model, x, label, norm, BATCH, tick("ρ₂"))
    radius = _two_digits(by_rho_2.smallest.value) if radius is None else radius
    ratios = fooling_curve([made], model, x, label, [radius], BATCH, tick("fooling ratio")).ratios[made.name]
    about = {"attack": made.name, "name": name, "norm": norm.p, "radius": radius, "pixels": pixels, **subject.about}
    return Measures(
        about=about,
        rho_1=rho_1(model, x, label, norm, smallest, BATCH, tick("ρ₁")),
        rho_2_active=by_rho_2.active,
        rho_2_smallest=by_rho_2.smallest,
        fooling_ratio=ratios[0],
        smallest_radius=smallest_radius(model, x, label, norm, 0.99, smallest, BATCH, tick("smallest radius")),
    )


def curve(
    setting: Setting | None = None,
    names: Sequence[str] | None = None,
    radii: Sequence[float] | None = None,
    norm: Lp | None = None,
    pixels: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Fooling ratios of several attacks over radii, as in Figure 2.

    Args:
        setting, norm, progress: as for `attack`.
        names: attacks in `ATTACKS`, or algorithm1-5 and its like; by default those of Figure 2, random only with p = ∞
            and no pixel range.
        radii: ε, in the units of the images; by default ten, evenly up to 3 ρ₂.
        pixels: keep x + η in [0, 1].
        out: a .png.

    Raises:
        As `attack`.
    """
    setting, norm = setting or Setting(), norm or Lp(math.inf)
    if names is None:
        names = [name for name in FIGURE_2 if name != "random" or (norm.p == math.inf and not pixels)]
    made = [_fooling(name, norm, pixels, setting.seed) for name in names]
    if not made or len({one.name for one in made}) < len(made):
        raise ValueError(
            f"attacks must be different ones, at least one, got {', '.join(names) or 'none'}: name each of them once"
        )
    if radii is not None and not radii:
        raise ValueError("radii is empty: give at least one, for instance 0.01,0.02,0.05")
    for radius in radii or ():
        check_radius(radius)
    files = None if out is None else _to_write(out, (".png",))
    subject = Subject.classified(setting)
    if radii is None:
        top = 3 * _typical(subject, norm, progress)
        radii = [float(f"{top * i / 10:.6g}") for i in range(1, 11)]
    tick = _ticker(progress, len(subject) * sum(1 if one.radius is None else len(radii) for one in made))
    found = fooling_curve(made, subject.network, subject.x, subject.label, radii, BATCH, tick("fooling"))
    about = {"norm": norm.p, "pixels": pixels, **subject.about}
    if files is not None:
        from convexattack.runs.picture import curve_picture

        with atomically(files[0]) as part:
            curve_picture(part, found, _heading(about))
    return Curve(about, found, () if files is None else (str(files[0]),))


def _fooling(name: str, norm: Lp, pixels: bool, seed: int) -> Attack | RandomSign:
    """An attack that has a fooling ratio; its radius is still to come."""
    made = attack_named(name, norm, 1.0 if _has_radius(name) else None, pixels=pixels, seed=seed)
    if isinstance(made, RegressionAttack):
        raise ValueError(
            f"attack {name!r} has no fooling ratio, for a regression network has no classes: use `convexattack attack`"
        )
    return made


def _has_radius(name: str) -> bool:
    return "radius" in ATTACKS.get(name.partition("-")[0], ())


def _typical(subject: Subject, norm: Lp, progress: Progress | None) -> float:
    """ρ₂ of the images, to two digits."""
    found = rho_2(
        subject.network, subject.x, subject.label, norm, BATCH, _ticker(progress, len(subject))("ρ₂")
    ).smallest.value
    return _two_digits(found)


def _two_digits(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"radius is missing, and ρ₂ of these images, which stands in for it, is {value}: "
            "give a radius, for instance 0.1"
        )
    return float(f"{value:.1e}")


def _to_write(out: str | Path, formats: tuple[str, ...]) -> tuple[Path, Path]:
    """The file and its picture, both found writable."""
    path = Path(out)
    if path.suffix not in formats:
        raise ValueError(f"out {path} must end in {' or '.join(formats)}: it says how the result is kept")
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError('out writes a picture, which needs matplotlib: run pip install "convexattack[plot]"')
    picture = path.with_suffix(".png")
    check_writable(path)
    check_writable(picture)
    return path, picture


def _ticker(progress: Progress | None, total: int) -> Callable[[str], Callable[[int], None]]:
    """`tick(what)` begins something, and returns what to call with the number of inputs done since."""
    done = 0

    def begin(what: str) -> Callable[[int], None]:
        def tick(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, total, what)

        tick(0)
        return tick

    return begin


def _arrays(
    made: Attack | RandomSign | RegressionAttack,
    subject: Subject,
    target: int | None,
    progress: Progress | None,
    batch: int,
) -> dict[str, np.ndarray]:
    """The attack on all inputs, a batch at a time."""
    tick, parts = _ticker(progress, len(subject))(made.name), []
    for rows in torch.arange(len(subject), device=subject.x.device).split(batch):
        x = subject.x[rows]
        if isinstance(made, RegressionAttack):
            part = _regressed(made(subject.network, x), subject.network, x)
        else:
            assert subject.label is not None
            part = _classified(made(subject.network, x, subject.label[rows]), subject.network, x, target)
        parts.append({name: np.asarray(entry.detach().cpu()) for name, entry in part.items()})
        tick(len(rows))
    return {"index": subject.index.numpy()} | {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }


def _classified(found: Perturbation, network: nn.Module, x: Tensor, target: int | None) -> dict[str, Tensor]:
    after = evaluate(network, x + found.eta)
    part = {
        "x": x,
        "eta": found.eta,
        "label": found.label,
        "before": evaluate(network, x).argmax(1),
        "after": after.argmax(1),
    }
    part |= {
        "fooled": found.fooled,
        "size": found.size,
        "margin": found.margin,
        "steps": found.steps,
        "flagged": found.flagged,
    }
    if target is not None:
        part["reached"] = after[:, target] > after.gather(1, found.label[:, None])[:, 0]
    if found.codes is not None and found.certificate is not None:
        part |= {"status": found.codes} | _judged(found.certificate)
    return part


def _regressed(found: RegressionPerturbation, network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    part = {
        "x": x,
        "eta": found.eta,
        "before": evaluate(network, x, flat=True),
        "after": evaluate(network, x + found.eta, flat=True),
    }
    part |= {"size": found.size, "predicted": found.predicted, "change": found.change, "bound": found.certificate.dual}
    return part | {"steps": found.steps, "status": found.solution.codes} | _judged(found.certificate)


def _judged(certificate: Certificate) -> dict[str, Tensor]:
    return {"holds": certificate.holds()} | {
        name: getattr(certificate, name) for name in ("gap", "violation", "residual")
    }


def _heading(about: Mapping[str, Any]) -> str:
    """Attack, norm, radius, network and data of a run, in a line."""
    words = [about["attack"]] if "attack" in about else []
    words += [f"target {about['target']}"] if about.get("target") is not None else []
    words += [f"p = {about['norm']:g}"]
    words += [f"ε = {about['radius']:g}"] if about.get("radius") is not None else []
    words += ["x + η in [0, 1]"] if about.get("pixels") else []
    what = "images" if "misclassified" in about else "inputs"
    return f"{', '.join(words)}; model {about['model']}, {about['images']} {what} of {about['data']}"
