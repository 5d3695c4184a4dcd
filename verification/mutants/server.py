"""Runs the tests on one mutant after another, each in a fork of this process, which has imported what takes long.

Started by `copies`, as a script of its own: importing `verification` would import the package that is mutated. It works
in the folder it was started in, a copy of the package and its tests. An order is one line of JSON on standard input,
and so is the answer on standard output; see `copies`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

MEMORY = 4 * 2**30  # bytes that a mutant may take on top of what is imported: one that asks for more is wrong
PACKAGE = "convexattack"
ELSEWHERE = 77  # the exit status where the package that was imported is not the copy
VERDICTS = {0: "survived", 5: "survived", ELSEWHERE: "elsewhere"}  # of pytest's own 5 is that there was no test
SAID, FOUND = Path("said.txt"), Path("found.json")


class Watch:
    """A plugin: quick tests first, for -x ends at the first that fails; how long each takes, and which failed."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.before, self.seconds, self.by = seconds, dict[str, float](), ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.before.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        self._failed(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._failed(report)

    def _failed(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            self.by = self.by or report.nodeid


def serve(seconds: dict[str, float]) -> None:
    """Answer every order; `seconds`: what each test took, halved whenever it notices a mutant, to come earlier."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        changed = Path(order["file"]) if order["file"] else None
        source = changed.read_bytes() if changed else b""
        try:
            if changed:
                changed.write_text(order["text"], encoding="utf-8")
            answer = run(order["tests"], order["limit"], seconds)
        finally:
            if changed:
                changed.write_bytes(source)
        if answer["by"] in seconds:
            seconds[answer["by"]] /= 2
        print(json.dumps(answer), file=answers, flush=True)


def run(tests: list[str], limit: float, seconds: dict[str, float]) -> dict[str, Any]:
    """The verdict of the tests on the copy as it stands; where they pass, `seconds` gets what each took."""
    for file in (SAID, FOUND):
        file.unlink(missing_ok=True)
    begin = time.monotonic()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = judged(tests, limit, seconds)
        except BaseException:  # a fork must not go on as if it were its parent
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = awaited(child, limit)
    verdict = "timeout" if status is None else VERDICTS.get(os.waitstatus_to_exitcode(status), "killed")
    found: dict[str, Any] = json.loads(FOUND.read_text()) if FOUND.exists() else {"by": "", "seconds": {}}
    if verdict == "survived":
        seconds.update({name: taken for name, taken in found["seconds"].items() if name not in seconds})
    said = SAID.read_text(errors="replace") if SAID.exists() else ""
    return {"verdict": verdict, "seconds": time.monotonic() - begin, "by": found["by"], "said": said[-4000:]}


def judged(tests: list[str], limit: float, seconds: dict[str, float]) -> int:
    """In the fork: the tests' exit status."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(SAID, os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    longest = int(limit) + 60  # seconds, lest it outlive a server that was killed
    resource.setrlimit(resource.RLIMIT_CPU, (longest, longest))
    watch = Watch(seconds)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-n0", "--no-header", "--assert=plain"]
    status = int(pytest.main([*options, *tests], plugins=[watch]))
    FOUND.write_text(json.dumps({"by": watch.by, "seconds": watch.seconds}))
    place = getattr(sys.modules.get(PACKAGE), "__file__", None)
    sys.stdout.flush()
    return status if place is None or Path.cwd() in Path(place).resolve().parents else ELSEWHERE


def awaited(child: int, limit: float) -> int | None:
    """The status with which the child ended; None if it was stopped because its time was over."""
    end, parent = time.monotonic() + limit, os.getppid()
    try:
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
            if os.getppid() != parent:
                sys.exit("whoever gave the orders is gone")
            time.sleep(0.02)
        return None
    finally:
        for stop in (os.killpg, os.kill):  # with whatever it started; it may not have its group yet
            with contextlib.suppress(ProcessLookupError):
                stop(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def warm() -> None:
    """Import what the package and its tests import, but not the package."""
    import cvxpy  # noqa: F401
    import flint  # noqa: F401
    import hypothesis.strategies  # noqa: F401
    import jaxtyping  # noqa: F401
    import mpmath  # noqa: F401
    import scipy.optimize  # noqa: F401
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if "--warm" in sys.argv:
        warm()
    serve({})
