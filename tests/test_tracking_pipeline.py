"""``report_to``: one parameter of all training stages, through the real command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines as registered
from kedro.framework.startup import bootstrap_project

from tests.project import ROOT, Project

pytestmark = pytest.mark.training


@pytest.mark.parametrize("pipeline", ["sft", "dpo", "auto", "multi_turn", "cli", "embedding"])
def test_every_training_stage_takes_it_and_names_its_run(pipeline: str) -> None:
    bootstrap_project(ROOT)
    found = {n.namespace: n for n in registered[pipeline].nodes if n.name.endswith(".train")}
    assert found
    for stage, node in found.items():
        assert "params:report_to" in node.inputs
        assert node.func.keywords == {"stage": stage}


def test_a_wrong_name_stops_the_run_before_its_first_step(project: Project) -> None:
    result = project.run("--pipeline=cli", params="report_to=tensorbord")
    assert result.returncode != 0
    assert "nothing can be logged to 'tensorbord'; did you mean 'tensorboard'?" in result.stdout
    assert not (project.path / "data/test/04_feature").exists()


def test_logs_lie_with_the_reports_under_the_name_of_the_run(
    finished: Project, tmp_path: Path
) -> None:
    shutil.copytree(finished.path, tmp_path / "project")
    project = Project(tmp_path / "project")
    before = project.latest("06_models", "sft/adapter")
    result = project.run("--namespaces=dpo.sft", params="report_to=tensorboard")
    assert result.returncode == 0, result.stdout
    after = project.latest("06_models", "sft/adapter")
    assert after != before
    same: list[dict[str, Any]] = [
        json.loads((folder / "manifest.json").read_text()) for folder in (before, after)
    ]
    assert same[0] == same[1]
    logs = project.path / "data/test/08_reporting/demo/demo/dpo/logs"
    place = f"tensorboard/demo/demo/dpo.sft/{same[0]['job_hash'][:12]}"
    assert [path.parent.relative_to(logs).as_posix() for path in logs.rglob("events.*")] == [place]
