"""Every command that README and docs show as ``bash`` runs; links and files named exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.phoenix_server import Server
from tests.project import ROOT, Project, copy_project

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def commands(prefix: str) -> list[str]:
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.splitlines():
                command = line.split("  #")[0].strip()
                if command.startswith(prefix) and command not in found:
                    found.append(command)
    return found


def test_every_command_is_covered():
    known = ("kedro ", "make ", "python -m ", ".venv/bin/pre-commit")
    unknown = [command for command in commands("") if command and not command.startswith(known)]
    assert not unknown


@pytest.fixture(scope="module")
def used(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with a finished run, which the commands may change."""
    target = tmp_path_factory.mktemp("docs") / "project"
    copy = copy_project(target)
    shutil.copytree(finished.path / "data/test", target / "data/test")
    return copy


@pytest.mark.docs
@pytest.mark.parametrize("command", commands("kedro "))
def test_kedro_command(used: Project, phoenix_server: Server, command: str):
    _, verb, *rest = shlex.split(command)
    if "telemetry.source=phoenix" in command:
        rest = [f"{part},telemetry.url={phoenix_server.url}" for part in rest if "params" in part]
    # Schemas are read as they are, whatever the environment. A group takes it at the end.
    env = [] if verb == "schemas" else ["--env=test"]
    given = [*rest, *env] if verb == "twin" else [*env, *rest]
    # What libraries say while they are imported is seen in a new process only.
    result = used.kedro(verb, *given, anew=verb == "predict")
    assert result.returncode == 0, result.stdout
    if verb == "predict":
        assert "Warning" not in result.stdout


@pytest.mark.docs
@pytest.mark.parametrize("command", commands("make "))
def test_make_target_exists(command: str):
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.docs
@pytest.mark.parametrize("command", commands("python -m "))
def test_python_command(used: Project, command: str):
    plan = json.loads(used.latest("05_model_input", "sft/plan.json").read_text())
    (used.path / "job.json").write_text(json.dumps(plan["job"]))
    done = subprocess.run(
        [used.command()[0], *shlex.split(command)[1:]],
        cwd=used.path,
        env=used.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path):
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not broken


def test_pages_name_no_machine():
    for page in PAGES:
        assert not re.search(r"/(root|home|tmp)/", page.read_text()), page
