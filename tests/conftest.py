"""What holds for every test: one thread, the same examples every time under CI, no network, no window."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure() -> None:
    """One thread a process, for pytest-xdist runs one process a core, and a sum over one thread has one order."""
    os.environ.update(
        OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1", MPLBACKEND="Agg"
    )
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """Refuse every connection, so that no test comes to depend on one."""

    def refuse(connection: socket.socket, address: object) -> None:
        raise OSError(f"the tests are offline, but one of them asked for {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield
