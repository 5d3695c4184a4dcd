"""Which files are mutated, and which tests must notice: one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOMS", "ROOT", "Room", "existing"]

ROOMS: dict[str, tuple[list[str], list[str]]] = {  # room: its files, and the tests that are run on each of its mutants
    "numerics": (["convexattack/numerics.py"], ["tests/test_numerics.py", "tests/test_norms.py"]),
    "norms": (["convexattack/norms.py"], ["tests/test_norms.py"]),
    "sets": (
        ["convexattack/sets/*.py"],
        ["tests/test_sets.py", "tests/test_programs.py", "tests/test_certificates.py"],
    ),
    "programs": (
        ["convexattack/programs/*.py", "convexattack/solution.py"],
        ["tests/test_programs.py", "tests/test_operator_norm.py", "tests/test_certificates.py"],
    ),
    "certificates": (
        ["convexattack/certificates/*.py"],
        ["tests/test_certificates.py", "tests/test_judge.py", "tests/test_exact.py"],
    ),
}
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Room:
    """Files, and the tests that must notice what is wrong in them, both relative to the checkout."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]


def existing(names: Iterable[str], root: Path) -> tuple[list[Room], list[str]]:
    """The rooms that there are, and a sentence for everything in the table that there is not."""
    found, left_out = [], []
    for name in names:
        files, tests = (list(_files(root, patterns)) for patterns in ROOMS[name])
        left_out += [
            f"room {name}: {pattern} is left out, for there is no such file"
            for pattern in (*ROOMS[name][0], *ROOMS[name][1])
            if not any(root.glob(pattern))
        ]
        if files and tests:
            found.append(Room(name, tuple(files), tuple(tests)))
        else:
            left_out.append(f"room {name} is left out: it has no {'tests' if files else 'source'}")
    return found, left_out


def _files(root: Path, patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        yield from sorted(path.relative_to(root).as_posix() for path in root.glob(pattern))
