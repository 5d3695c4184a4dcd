"""Measurements on disk, a line each, as they are made: a second start finds what is there and goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Ledger"]


@dataclass
class Ledger:
    """What was measured, item by item, in a file of JSON lines.

    An item is the whole identity of a measurement, the checksum of its inputs included; what was measured from other inputs stays in the
    file and is never found. Several processes may write to one file at once: a line is one write. A line that was cut off is passed over.
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
        """The result of the item: the one on file, or what `measure` returns, which is on the disk before this returns.

        `seconds`, how long that took, stands in the result.
        """
        key = _key(item)
        if key not in self.found:
            start = time.perf_counter()
            result = dict(measure())
            entry = {"item": dict(item), "result": result | {"seconds": round(time.perf_counter() - start, 3)}}
            self._append(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode())
            self.found[key] = entry
        result = self.found[key]["result"]
        assert isinstance(result, dict)
        return result

    def _append(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
            os.write(handle, (b"" if whole else b"\n") + line + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)


def _key(item: Mapping[str, Any]) -> str:
    return json.dumps(item, sort_keys=True, ensure_ascii=False)
