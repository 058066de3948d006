"""The real Phoenix server for tests: started once per run, filled with the sample."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tools.phoenix import ROOT, free_port, running_server, seed, server_python


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
    return Path(ready) / "bin" / "python" if ready else server_python(ROOT / ".venv-phoenix")


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
    with start(folder) as server:
        seed(_python(), server.url, folder)
        yield server
