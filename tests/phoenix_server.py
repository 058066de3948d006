"""The real Phoenix server for tests: one per worker, filled with the sample once per run.

Two workers of pytest-xdist share the installation and the filled database under a lock; each has a
server of its own, because tests delete and add on it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tools.phoenix import ROOT, free_port, running_server, seed, server_python

from tests.shared import alone, common_folder


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    folder: Path

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.folder / "phoenix.db"


def _python() -> Path:
    ready = os.environ.get("TRACETUNE_TEST_PHOENIX_VENV")
    if ready:
        return Path(ready) / "bin" / "python"
    with alone(ROOT / ".venv-phoenix.lock"):
        return server_python(ROOT / ".venv-phoenix")


@contextmanager
def start(folder: Path, settings: dict[str, str] | None = None) -> Iterator[Server]:
    """A server on free ports with its own empty database."""
    port = free_port()
    with running_server(
        _python(), port=port, grpc_port=free_port(), folder=folder, settings=settings
    ):
        yield Server(f"http://127.0.0.1:{port}", folder)


@pytest.fixture(scope="session")
def phoenix_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that holds the sample telemetry."""
    folder = tmp_path_factory.mktemp("phoenix")
    common = common_folder(tmp_path_factory)
    filled = common / "phoenix-filled"
    with ExitStack() as running:
        with alone(common / "phoenix.lock"):
            if filled.is_dir():
                shutil.copytree(filled, folder, dirs_exist_ok=True)
            server = running.enter_context(start(folder))
            if not filled.is_dir():
                seed(_python(), server.url, folder)
                _keep(server, filled)
        yield server


def _keep(server: Server, filled: Path) -> None:
    """A copy of the filled database for the other worker; the folder appears whole."""
    partial = filled.with_name("phoenix-partial")
    partial.mkdir()
    shutil.copy2(server.folder / "seeded", partial)
    copy = sqlite3.connect(partial / server.database.name)
    with closing(sqlite3.connect(server.database)) as source, closing(copy):
        source.backup(copy)
    partial.rename(filled)
