"""Bad input: one clear message that names the place and the remedy, exit code not 0."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.project import Project

ROWS = "--to-nodes=dpo.telemetry.split_rows"


def fails(project: Project, *expected: str, params: str = "", pipeline: str = "dpo") -> str:
    """Runs the pipeline; it must end in one message that holds all of ``expected``."""
    result = project.run(f"--pipeline={pipeline}", params=params)
    flat = " ".join(result.stdout.split())
    assert result.returncode != 0, flat
    assert "Traceback" not in result.stdout, result.stdout
    assert result.stdout.count("Error:") == 1, result.stdout
    for text in expected:
        assert text in flat, (text, result.stdout)
    return flat


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("nmae=gh", ["no parameter 'nmae'", "did you mean 'name'?", "--params"]),
        ("telemetry.sorce=phoenix", ["telemetry", "sorce"]),
        ("dpo.betta=0.2", ["dpo", "betta"]),
        ("dpo.trainer.betta=0.2", ["betta", "beta"]),
        ("dpo.min_dpo_pairs=many", ["min_dpo_pairs", "integer"]),
        ("dry_run=maybe", ["dry_run", "true"]),
        ("telemetry.windows.test_days=40", ["test_days"]),
        ("name=../x", ["'../x' is not a tenant or name"]),
        ("tenant=Acme", ["'Acme' is not a tenant or name"]),
        ("name=007", ["7 is not a tenant or name"]),
        ("together.judge_on=endpoint", ["an endpoint has only what was trained there"]),
        ("backend=together", ["no hosted model is known for base_model.id='embedded'"]),
        ("tenant=nobody", ["no telemetry of this tenant", "tenants with telemetry: demo"]),
        ("telemetry.project=other", ["holds project 'demo', not 'other'", "--pipeline=phoenix"]),
        (
            "telemetry.source=phoenix,telemetry.url=http://127.0.0.1:9",
            ["http://127.0.0.1:9", "What to do"],
        ),
        ("base_model.profile=tiny", ["no profile 'tiny'", "base_model.profile"]),
        ("base_model.id=./nowhere", ["no folder './nowhere'", "base_model.id"]),
        ("dpo.min_dpo_pairs=5000", ["preference pairs", "at least 5000", "What to do"]),
        ("backend=cloud", ["backend", "cloud", "local"]),
    ],
)
def test_wrong_parameter(project, params, expected):
    fails(project, *expected, params=params)
    assert not project.versions("06_models", "release/adapter")


def test_wrong_pipeline_name(project):
    fails(project, "dpp", "dpo", pipeline="dpp")


def test_server_down_leaves_the_snapshot_as_it_was(project):
    folder = project.path / "data/01_raw/demo/telemetry"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    address = "http://127.0.0.1:9"
    fails(project, address, params=f"telemetry.url={address}", pipeline="phoenix")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["spans.parquet", "annotations.parquet"])
def test_broken_parquet(project, name):
    path = project.path / "data/01_raw/demo/telemetry" / name
    path.write_bytes(path.read_bytes()[:-200])
    fails(project, name, "What to do")


def test_missing_table(project):
    (project.path / "data/01_raw/demo/telemetry/annotations.parquet").unlink()
    fails(project, "annotations.parquet", "What to do")


def test_snapshot_manifest_that_is_not_json(project):
    (project.path / "data/01_raw/demo/telemetry/snapshot.json").write_text("{")
    fails(project, "snapshot.json", "What to do")


def test_line_that_is_not_json(project):
    assert project.run("--pipeline=dpo", ROWS).returncode == 0
    path = project.latest("04_feature", "examples.jsonl")
    lines = path.read_text().splitlines()
    lines[4] = "this is no JSON"
    path.write_text("\n".join(lines) + "\n")
    result = project.run("--pipeline=dpo", "--nodes=dpo.prepare.select_test")
    flat = " ".join(result.stdout.split())
    assert result.returncode != 0
    assert "Traceback" not in result.stdout
    assert "examples.jsonl, line 5: field 'row': Invalid JSON" in flat
    assert "What to do" in flat


def test_predict_before_training(project):
    result = project.kedro("predict", "--env=test", "hello")
    assert result.returncode != 0
    assert "nothing was trained for tenant 'demo', name 'demo'" in result.stdout
    assert "kedro run --pipeline=dpo" in result.stdout


def test_credentials_file_is_read_under_every_environment(project):
    path = project.path / "conf/local/credentials.yml"
    path.write_text("phoenix: {api_key: planted-key-123}\n")
    code = (
        "from pathlib import Path\n"
        "from kedro.framework.startup import bootstrap_project\n"
        "from kedro.framework.session import KedroSession\n"
        "bootstrap_project(Path.cwd())\n"
        "with KedroSession.create(Path.cwd(), env='test') as session:\n"
        "    context = session.load_context()\n"
        "    handle = context.catalog.load('phoenix')\n"
        "    print(handle._api_key == 'planted-key-123', handle, context.catalog.get('phoenix'))\n"
    )
    done = subprocess.run(
        [project.command()[0], "-W", "ignore", "-c", code],
        cwd=project.path,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].startswith("True ")
    assert "planted-key-123" not in done.stdout.splitlines()[-1]


@pytest.mark.faults
def test_second_run_of_the_same_name_is_refused_and_a_killed_run_leaves_no_lock(project):
    environment = project.environment()
    first = subprocess.Popen(
        project.command("run", "--env=test", "--pipeline=dpo"),
        cwd=project.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert first.stdout is not None
    for line in first.stdout:
        if "read_telemetry" in line:
            break
    try:
        flat = fails(project, "another run is at work on this tenant and name")
        assert f"process {first.pid}" in flat
        other = project.run("--pipeline=dpo", ROWS, params="name=other")
        assert other.returncode == 0, other.stdout
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert project.run("--pipeline=dpo", ROWS).returncode == 0


@pytest.mark.faults
@pytest.mark.parametrize("delay", [0.05, 0.4, 0.8])
def test_killed_extraction_leaves_only_complete_versions(project, delay):
    shutil.rmtree(project.path / "data/test/04_feature", ignore_errors=True)
    process = subprocess.Popen(
        project.command("run", "--env=test", "--pipeline=dpo", ROWS),
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "collect_verdicts" in line:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in project.versions("04_feature", "examples.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line)
    again = project.run("--pipeline=dpo", ROWS)
    assert again.returncode == 0, again.stdout
