"""Measurements on disk, a line each, as they are made: a second start finds what is there and goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Ledger", "timed"]


@dataclass
class Ledger:
    """What was measured, item by item, in a file of JSON lines.

    An item is the whole identity of a measurement, the checksum of its inputs included; what was measured from other
    inputs stays in the file and is never found. Several processes may write to one file at once: a line is one write. A
    line that was cut off is passed over.
    """

    path: Path
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.path.read_bytes().splitlines() if self.path.exists() else []:
            try:
                entry = json.loads(line)
                self.found[_key(entry["item"])] = entry
            except (ValueError, TypeError, KeyError):
                continue

    def has(self, item: Mapping[str, Any]) -> bool:
        return _key(item) in self.found

    def get(self, item: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The result of the item: the one on file, or what `measure` returns, on the disk before this returns."""
        if not self.has(item):
            self.put(item, timed(measure))
        return self[item]

    def __getitem__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        result = self.found[_key(item)]["result"]
        assert isinstance(result, dict)
        return result

    def put(self, item: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """A result measured elsewhere; it is on the disk before this returns."""
        entry = {"item": dict(item), "result": dict(result)}
        self._append(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode())
        self.found[_key(item)] = entry

    def _append(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
            os.write(handle, (b"" if whole else b"\n") + line + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)


def timed(measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What `measure` returns, with the `seconds` that it took and those of the processor in this process, `cpu`."""
    start, busy = time.perf_counter(), time.process_time()
    result = dict(measure())
    return result | {"seconds": round(time.perf_counter() - start, 3), "cpu": round(time.process_time() - busy, 3)}


def _key(item: Mapping[str, Any]) -> str:
    return json.dumps(item, sort_keys=True, ensure_ascii=False)
