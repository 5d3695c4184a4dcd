"""What was found of each mutant, a line of JSON each, on the disk at once: a second start goes on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from verification.mutants.mutator import Mutant

__all__ = ["DETECTED", "REASONS", "Ledger", "Row", "digest", "reasons"]

DETECTED = ("killed", "timeout")
REASONS = Path(__file__).with_name("reasons.json")


@dataclass(frozen=True)
class Row:
    """One mutant and its verdict.

    Attributes:
        verdict: "killed", "survived", or "timeout", which is noticed too.
        by: the test that failed first.
        digest: of the file without the mutant.
    """

    room: str
    file: str
    line: int
    column: int
    what: str
    allowance: bool
    verdict: str
    seconds: float
    by: str
    digest: str

    @property
    def detected(self) -> bool:
        return self.verdict in DETECTED


Key = tuple[str, str, int, int, str, str]


class Ledger:
    """The rows of a file; of a mutant that was run twice, the last. A line that was cut off is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.whole = not text or text.endswith("\n")
        for line in text.splitlines():
            try:
                row = Row(**json.loads(line))
            except (ValueError, TypeError):
                continue
            self.rows[_key(row, row.room, row.digest)] = row

    def get(self, mutant: Mutant, room: str, digest: str) -> Row | None:
        """What was found of the mutant while its file was as it is now."""
        return self.rows.get(_key(mutant, room, digest))

    def put(self, row: Row) -> None:
        """It is on the disk before this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            print(("" if self.whole else "\n") + json.dumps(asdict(row), ensure_ascii=False), file=file)
        self.whole = True
        self.rows[_key(row, row.room, row.digest)] = row


def digest(source: str) -> str:
    return sha256(source.encode()).hexdigest()[:16]


def reasons(path: Path) -> Mapping[str, str]:
    """Why a mutant may survive, by its key; an empty reason is none.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): correct it there") from None
    if not isinstance(table, dict) or not all(isinstance(reason, str) for reason in table.values()):
        raise ValueError(f'{path} must be one table {{"file | line | mutation": "reason", ...}}: write it as one')
    return {key: reason for key, reason in table.items() if reason.strip()}


def _key(one: Mutant | Row, room: str, digest: str) -> Key:
    return room, one.file, one.line, one.column, one.what, digest
