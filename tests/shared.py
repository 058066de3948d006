"""What the workers of pytest-xdist share: folders that one of them makes and all of them read."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Only one worker at a time inside the block."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def common_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of this run of pytest, the same one in every worker."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker in need of it makes; the others wait and use it as it is.

    It is made in its place, because what is made holds absolute paths. What a worker left that
    failed is removed by nobody and stands in the way of the next: the run has failed anyway.

    Args:
        factory: pytest's own.
        name: Name of the folder, unique in the suite.
        make: Fills the folder, which does not exist yet.
    """
    folder, made = common_folder(factory) / name, common_folder(factory) / f"{name}.made"
    with alone(folder.with_name(f"{name}.lock")):
        if not made.exists():
            make(folder)
            made.touch()
    return folder
