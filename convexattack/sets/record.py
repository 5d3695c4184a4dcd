"""A set as a flat record of names, numbers and arrays, which a file can hold, and back. Nothing in a record is code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from convexattack.norms import Lp, Mixed
from convexattack.sets.atoms import Interval, NormBall, replaced
from convexattack.sets.base import ConvexSet
from convexattack.sets.catalogue import Ball, Box
from convexattack.sets.maps import Diagonal, Identity, Rows

__all__ = ["ball_and_box", "from_record", "to_record"]

KINDS = {kind.__name__: kind for kind in (Interval, NormBall, Identity, Diagonal, Rows, Lp, Mixed)}
SPARSE = ("data", "indices", "indptr", "shape")


def ball_and_box(sets: Sequence[ConvexSet]) -> tuple[Ball | None, Box | None] | None:
    """The ball and the box, in this order, where that is all there is; None where a set is another by kind or name."""
    kinds = [type(item) for item in sets]
    if kinds not in ([], [Ball], [Box], [Ball, Box]) or any(item.label not in ("Ball", "Box") for item in sets):
        return None
    found = dict(zip(kinds, sets, strict=True))
    return found.get(Ball), found.get(Box)  # type: ignore[return-value]


def to_record(item: ConvexSet, name: str) -> dict[str, Any]:
    """`name_label`; `name_atom` and `name_map`, the kinds by their names; and their fields, `name_atom_low` and so on.

    A field of a field has a longer name, `name_atom_norm_p`; sparse rows are `name_map_matrix_data`, `_indices`,
    `_indptr` and `_shape`.

    Raises:
        ValueError: a set that is a text, which is code.
    """
    found: dict[str, Any] = {f"{name}_label": item.label}
    for part in ("atom", "map"):
        _write(getattr(item, part), f"{name}_{part}", item.label, found)
    return found


def _write(value: Any, name: str, label: str, found: dict[str, Any]) -> None:
    if sp.issparse(value):
        found.update({f"{name}_{part}": np.asarray(getattr(value, part)) for part in SPARSE})
    elif isinstance(value, float | torch.Tensor):
        found[name] = value
    elif type(value) in KINDS.values():
        found[name] = type(value).__name__
        for field in dataclasses.fields(value):
            _write(getattr(value, field.name), f"{name}_{field.name}", label, found)
    elif value is not None:
        raise ValueError(
            f"the set {label} does not fit into a file, which holds numbers and no code, so that it can be trusted; "
            "compose the set of ca.atoms and ca.maps"
        )


def from_record(fields: Mapping[str, Any], name: str) -> ConvexSet:
    """The set that `to_record` wrote, from texts, floats and arrays.

    Raises:
        ValueError, TypeError: a field that is missing, or that its atom or map refuses.
    """
    label, atom, map_ = (_read(fields, f"{name}_{part}") for part in ("label", "atom", "map"))
    if type(map_) is Identity and type(atom) is Interval:
        return replaced(Box(atom.low, atom.high), label=str(label))
    if type(map_) is Identity and type(atom) is NormBall and type(atom.norm) is Lp and atom.centre is None:
        return replaced(Ball(atom.norm, atom.radius), label=str(label))
    return ConvexSet(atom, map_, str(label))


def _read(fields: Mapping[str, Any], name: str) -> Any:
    if f"{name}_indptr" in fields:
        data, indices, indptr, shape = (np.asarray(fields[f"{name}_{part}"]) for part in SPARSE)
        whole = [part.astype(np.int64) for part in (indices, indptr, shape)]
        matrix = sp.csr_array((data, whole[0], whole[1]), shape=tuple(whole[2].tolist()))
        matrix.check_format(full_check=True)
        return matrix
    if name not in fields:
        raise ValueError(f"{name} is missing: it says what the set is made of")
    value = fields[name]
    if not isinstance(value, str) or name.endswith("_label"):
        return value if isinstance(value, float | str) else torch.from_numpy(np.array(value))
    if value not in KINDS:
        raise ValueError(f"{name} is {value!r}, which is none of {', '.join(KINDS)}")
    kind = KINDS[value]
    given = [
        field.name
        for field in dataclasses.fields(kind)
        if any(key.startswith(f"{name}_{field.name}") for key in fields)
    ]
    return kind(**{field: _read(fields, f"{name}_{field}") for field in given})
