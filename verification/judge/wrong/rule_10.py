"""Rule 10: records say how many there are and carry a digest.

A file that is not what was written is refused (exit status 2), and a record whose stored certificate is not the one
computed anew fails (1).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from verification.judge.trial import Finding

__all__ = ["CASES", "records"]

Run = Callable[[Sequence[str]], int]
Lines = list[str]
Change = Callable[[Lines], Lines]
WRITE = ["verify", "--images", "3", "--programs", "gnii,min-norm", "--norms", "2", "--no-box", "--out"]


def _signed(lines: Lines) -> Lines:
    """The lines with the count and the digest that they should have: a forger has those too."""
    body = "".join(line + "\n" for line in lines)
    footer = {"count": len(lines), "sha256": hashlib.sha256(body.encode()).hexdigest()}
    return [*lines, json.dumps(footer)]


def _edited(change: Callable[[dict[str, Any]], None]) -> Change:
    """Another first claim of the first record, signed anew."""

    def edit(lines: Lines) -> Lines:
        record = json.loads(lines[0])
        change(next(iter(record["claims"].values())))
        return _signed([json.dumps(record), *lines[1:-1]])

    return edit


def _eta(claim: dict[str, Any]) -> None:
    claim["eta"] = [2 * float(x) for x in claim["eta"]]


def _shorter(claim: dict[str, Any]) -> None:
    claim["eta"] = [0.5 * float(x) for x in claim["eta"]]


def _stored(name: str, entry: Any) -> Callable[[dict[str, Any]], None]:
    def change(claim: dict[str, Any]) -> None:
        claim["certificate"][name] = entry

    return change


def _status(claim: dict[str, Any]) -> None:
    claim["status"] = "INFEASIBLE"


CASES: dict[str, tuple[int, Change]] = {
    "empty": (2, lambda lines: []),
    "nothing but a count": (2, lambda lines: _signed([])),
    "without its last line": (2, lambda lines: lines[:-1]),
    "without its first record": (2, lambda lines: lines[1:]),
    "a record twice": (2, lambda lines: [lines[0], *lines]),
    "two records exchanged": (2, lambda lines: [lines[1], lines[0], *lines[2:]]),
    "another digit": (2, lambda lines: [lines[0].replace("1", "2", 1), *lines[1:]]),
    "another count": (2, lambda lines: [*lines[:-1], lines[-1].replace('"count": ', '"count": 1')]),
    "a line that is no record": (2, lambda lines: _signed(["{}", *lines[:-1]])),
    "η twice as long, signed": (1, _edited(_eta)),
    "η half as long, signed": (1, _edited(_shorter)),
    "another status, signed": (1, _edited(_status)),
    "another primal on record, signed": (1, _edited(_stored("primal", -1e6))),
    "another dual on record, signed": (1, _edited(_stored("dual", -1e6))),
    "another gap on record, signed": (1, _edited(_stored("gap", 0.25))),
    "another verdict on record, signed": (1, _edited(_stored("holds", False))),
    "no certificate on record, signed": (1, _edited(lambda claim: claim["certificate"].clear())),
}


def _process(words: Sequence[str]) -> int:
    """The exit status of `convexattack WORDS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "convexattack.cli", *words], capture_output=True, check=False
    ).returncode


def records(run: Run = _process, say: Callable[[], object] = lambda: None) -> tuple[int, list[Finding]]:
    """Write records, spoil them, ask `convexattack certify`: how many were tried, and what was not refused."""
    found: list[Finding] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        if (code := run([*WRITE, folder])) != 0 or not path.is_file():
            return 1, [Finding(10, "writing", "float64", f"exit status {code}", "there are no records to spoil")]
        lines = path.read_text().splitlines()
        for name, (expected, change) in {"as written": (0, list), **CASES}.items():
            spoiled = Path(folder) / "spoiled.jsonl"
            spoiled.write_text("".join(line + "\n" for line in change(lines)))
            code = run(["certify", str(spoiled)])
            if code != expected:
                what = f"exit status {code}, not {expected}"
                found.append(Finding(10, name, "float64", what, "the file is not what was written"))
            say()
    return 1 + len(CASES), found
