"""What a run found, as numbers, as files and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as as_safetensors

from convexattack.robustness import Estimate, FoolingCurve
from convexattack.solution import Status

__all__ = ["Attacked", "Curve", "Measures", "save"]

FORMATS = (".safetensors", ".npz")
_MEMBERS = list(Status)


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack did to n inputs.

    Attributes:
        about: the attack and its options, the model, the data, the versions; JSON can hold it.
        arrays: one row an input. `x`, `eta` (n, *S) the input and η; `index` (n,) the position in the dataset; `size`
            (n,) ‖η‖_p; `steps` (n,) convex steps taken; `before`, `after`: classes (n,) at x and x + η, or for
            regression outputs (n, m). Of classes: `label`, `fooled`, `margin`, `flagged` (n,) as in `Perturbation`;
            with a target `reached` (n,), whether its score is above that of the label. Of regression: `predicted`,
            `change`, `bound` (n,), see `RegressionPerturbation`. Where a convex program was solved: `status` (n,) codes
            of `Status` and, of the certificate, `holds`, `gap`, `violation`, `residual` (n,).
        files: what was written.
    """

    about: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrays["eta"])

    @property
    def won(self) -> np.ndarray:
        """(n,) where the network is fooled, or with a target, where that is reached; nowhere by regression."""
        return self.arrays.get("reached", self.arrays.get("fooled", np.zeros(len(self), bool)))

    @property
    def statuses(self) -> dict[str, int]:
        """How many last convex steps have each status; empty where no program was solved."""
        return dict(Counter(_MEMBERS[code].name for code in self.arrays.get("status", np.zeros(0, int)).tolist()))

    @property
    def unproved(self) -> list[int]:
        """The rows whose last convex step no certificate proves."""
        return np.flatnonzero(~self.arrays["holds"]).tolist() if "holds" in self.arrays else []

    def why(self, row: int) -> str:
        """Why the certificate of a row does not hold."""
        status = _MEMBERS[int(self.arrays["status"][row])]
        if status in (Status.INEXACT, Status.INVALID, Status.FAILED):
            return f"{status.name}: {status.value}"
        gap, violation, residual = (float(self.arrays[name][row]) for name in ("gap", "violation", "residual"))
        return (
            f"{status.name} is claimed with a gap of {gap:.1e}, a violation of {violation:.1e} and a residual of "
            f"{residual:.1e}"
        )


def save(path: Path, found: Attacked) -> None:
    """The arrays and `about`: in a .safetensors its entries as JSON metadata; in a .npz as JSON, the array `metadata`.

    `status` is a name in a .npz, and in a .safetensors, which holds no strings, a code: its metadata `statuses` lists
    the names. Nothing in either file needs pickle.
    """
    about = {name: _jsonable(entry) for name, entry in found.about.items()}
    arrays = {name: np.ascontiguousarray(array) for name, array in found.arrays.items()}
    if found.about["format"] == ".safetensors":
        entries = about | {"statuses": [status.name for status in Status]}
        path.write_bytes(
            as_safetensors(arrays, {name: json.dumps(entry, ensure_ascii=False) for name, entry in entries.items()})
        )
        return
    if "status" in arrays:
        arrays["status"] = np.array([_MEMBERS[code].name for code in arrays["status"].tolist()])
    arrays["metadata"] = np.array(json.dumps(about, ensure_ascii=False))
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


@dataclass(frozen=True)
class Measures:
    """How robust a network is on n images.

    Attributes:
        about: the norm, the radius and the attack of the fooling ratio, the model, the data, the versions; JSON can
            hold it.
        rho_1: mean ‖r‖_p/‖x‖_p of DeepFool's perturbations.
        rho_2_active, rho_2_smallest: `Rho2`, in the units of the images.
        fooling_ratio: of the attack at the radius.
        smallest_radius: at which DeepFool fools more than 99%, in the units of the images.
    """

    about: Mapping[str, Any]
    rho_1: Estimate
    rho_2_active: Estimate
    rho_2_smallest: Estimate
    fooling_ratio: Estimate
    smallest_radius: Estimate

    def as_json(self, command: str | None = None) -> dict[str, Any]:
        """Everything; what JSON cannot say is the string "nan" or "inf"."""
        names = ("rho_1", "rho_2_active", "rho_2_smallest", "fooling_ratio", "smallest_radius")
        measures = {name: asdict(getattr(self, name)) for name in names}
        return _jsonable({"command": command, **self.about, "measures": measures})  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Curve:
    """Fooling ratios over radii.

    Attributes:
        about: the norm, the model, the data, the versions; JSON can hold it.
        curve: radii, and the ratios of each attack by its name.
        files: what was written.
    """

    about: Mapping[str, Any]
    curve: FoolingCurve
    files: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One for each attack and radius: attack, radius, ratio, low, high, images, misclassified."""
        return [
            {
                "attack": name,
                "radius": radius,
                "ratio": of.value,
                "low": of.low,
                "high": of.high,
                "images": of.images,
                **of.left_out,
            }
            for name, ratios in self.curve.ratios.items()
            for radius, of in zip(self.curve.radii, ratios, strict=True)
        ]

    def as_csv(self) -> str:
        """`rows` with a line of names."""
        rows, lines = self.rows(), io.StringIO()
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return lines.getvalue()

    def as_json(self, command: str | None = None) -> dict[str, Any]:
        """Everything; what JSON cannot say is the string "nan" or "inf"."""
        return _jsonable({"command": command, **self.about, "curve": self.rows(), "files": self.files})  # type: ignore[no-any-return]


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
