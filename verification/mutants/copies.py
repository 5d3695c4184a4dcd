"""Copies of the package and its tests in temporary folders, one a worker: the checkout itself is never changed."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue
from types import TracebackType

from verification.mutants.mutator import Mutant, mutated

__all__ = ["Copies", "Copy", "Ran"]

COPIED = ("convexattack", "tests", "pyproject.toml")
SERVER = Path(__file__).with_name("server.py")
ENVIRONMENT = {
    "CI": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}


@dataclass(frozen=True)
class Ran:
    """What the tests made of the copy: "killed", "survived", "timeout", or "elsewhere" where they imported another.

    Attributes:
        by: the first test that failed.
        said: the end of what pytest printed.
    """

    verdict: str
    seconds: float
    by: str
    said: str


class Copy:
    """One copy, and the process that runs its tests.

    Compiled modules are told by their content, lest a mutant written within a second of the last be mistaken for it.
    """

    def __init__(self, root: Path, warm: bool) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="mutants-")
        self.folder = Path(self.scratch.name).resolve()
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / name).exists():
                shutil.copy(root / name, self.folder)
        compileall.compile_dir(
            self.folder / COPIED[0], quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH, workers=1
        )
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), *(["--warm"] if warm else [])],
            cwd=self.folder,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the process that started this one
        )

    def run(self, tests: Sequence[str], limit: float, mutant: Mutant | None = None) -> Ran:
        """The tests' verdict on the mutant, or on the copy as it is.

        Raises:
            RuntimeError: the process that runs the tests is gone.
        """
        order = {"file": "", "text": "", "tests": [*tests], "limit": limit}
        if mutant is not None:
            text = mutated((self.folder / mutant.file).read_text(encoding="utf-8"), mutant)
            order |= {"file": mutant.file, "text": text}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(order), file=self.process.stdin, flush=True)
            return Ran(**json.loads(self.process.stdout.readline()))
        except (BrokenPipeError, ValueError):
            raise RuntimeError(
                f"the process that runs the tests ended ({self.process.poll()}); what it said is above"
            ) from None

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.scratch.cleanup()


class Copies:
    """As many copies as mutants are run at a time; a context, at whose end they are gone."""

    def __init__(self, root: Path, jobs: int, warm: bool = True) -> None:
        self.copies = [Copy(root, warm) for _ in range(jobs)]
        self.free: SimpleQueue[Copy] = SimpleQueue()
        for copy in self.copies:
            self.free.put(copy)
        self.pool = ThreadPoolExecutor(jobs)

    def unmutated(self, tests: Sequence[str], limit: float) -> Ran:
        """The tests without a mutant, in every copy at once: what the slowest says, or one that fails.

        Each copy learns how long every test takes.
        """
        ran: list[Ran] = list(self.pool.map(lambda copy: copy.run(tests, limit), self.copies))
        return max(ran, key=lambda one: (one.verdict != "survived", one.seconds))

    def run(self, orders: Iterable[tuple[Mutant, Sequence[str], float]]) -> Iterator[tuple[Mutant, Ran]]:
        """Mutants with what their tests said (orders are mutant, tests, time limit), as they come."""
        futures = [self.pool.submit(self._one, *order) for order in orders]
        for future in as_completed(futures):
            yield future.result()

    def _one(self, mutant: Mutant, tests: Sequence[str], limit: float) -> tuple[Mutant, Ran]:
        copy = self.free.get()
        try:
            return mutant, copy.run(tests, limit, mutant)
        finally:
            self.free.put(copy)

    def __enter__(self) -> Copies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for copy in self.copies:
            copy.close()
        self.pool.shutdown()
