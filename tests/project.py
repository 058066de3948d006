"""Copies of the project in which tests run, break and kill what they like."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import warm
from tests.shared import made_once

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("conf", "src", "docs", "notebooks", "tools", "data/01_raw", "pyproject.toml", "README.md")
EMBEDDED = "data/test/06_models/_embedded"


@dataclass(frozen=True)
class Project:
    """A copy of the project with its own data.

    Attributes:
        path: Its root.
    """

    path: Path

    def command(self, *arguments: str) -> list[str]:
        """A ``kedro`` command line."""
        return [sys.executable, "-m", "kedro", *arguments]

    def environment(self) -> dict[str, str]:
        """Environment variables: this copy's code, no usage telemetry."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.path / "src"),
            "DO_NOT_TRACK": "1",
            "KEDRO_DISABLE_TELEMETRY": "1",
            "COLUMNS": "200",
        }

    def kedro(
        self, *arguments: str, timeout: float = 300, anew: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Runs a ``kedro`` command to its end; standard output and error together.

        Args:
            arguments: What follows ``kedro``.
            timeout: Seconds until it is killed.
            anew: Start Python anew, as a person does; :mod:`tests.warm` says what that shows.
        """
        environment = self.environment()
        if not anew:
            return warm.run("kedro", arguments, cwd=self.path, env=environment, timeout=timeout)
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def run(
        self, *arguments: str, params: str = "", anew: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """``kedro run`` in the test environment."""
        extra = [f"--params={params}"] if params else []
        return self.kedro("run", "--env=test", *arguments, *extra, anew=anew)

    def versions(self, layer: str, dataset: str, where: str = "demo/demo/dpo") -> list[Path]:
        """Complete versions of a dataset, the newest first."""
        root = self.path / "data/test" / layer / where / dataset
        return sorted(root.glob(f"*/{Path(dataset).name}"), reverse=True)

    def latest(self, layer: str, dataset: str, where: str = "demo/demo/dpo") -> Path:
        """The newest version of a dataset."""
        found = self.versions(layer, dataset, where)
        assert found, f"no version of {layer}/{where}/{dataset}"
        return found[0]


def copy_project(target: Path, embedded: Path | None = None) -> Project:
    """A copy of the project's files, with the cached base models of another copy."""
    for part in PARTS:
        source, place = ROOT / part, target / part
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, place, ignore=ignore)
        elif source.exists():
            shutil.copy2(source, place)
    # A developer's own keys stay out; the committed example keeps `conf/local` in every clone.
    (target / "conf/local/credentials.yml").unlink(missing_ok=True)
    if embedded is not None:
        shutil.copytree(embedded, target / EMBEDDED)
    return Project(target)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which ``dpo`` ran to its end in the test environment. Do not change it."""

    def make(folder: Path) -> None:
        result = copy_project(folder).run("--pipeline=dpo", anew=True)
        (folder / "console.txt").write_text(result.stdout)
        assert result.returncode == 0, result.stdout

    return Project(made_once(tmp_path_factory, "finished", make))


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A fresh copy with the tiny base model already built, and nothing else."""
    return copy_project(tmp_path / "project", finished.path / EMBEDDED)
