"""``kedro run --pipeline=dpo`` from end to end: same bytes, nothing private, dry run, kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from tools.sample.private import planted

from tests.phoenix_server import Server
from tests.project import Project, copy_project
from tracetune.files import sha256_file

ROWS = "--to-nodes=dpo.telemetry.split_rows"
RECORDS = (
    ("02_intermediate", "snapshot.json"),
    ("04_feature", "examples.jsonl"),
    ("04_feature", "preferences.jsonl"),
    ("05_model_input", "splits.json"),
    ("08_reporting", "funnel.json"),
    ("08_reporting", "privacy.json"),
)


def hashes(project: Project, records=RECORDS) -> dict[str, str]:
    return {f"{layer}/{name}": sha256_file(project.latest(layer, name)) for layer, name in records}


def weights(project: Project, stage: str) -> str:
    return sha256_file(
        project.latest("06_models", f"{stage}/adapter") / "adapter_model.safetensors"
    )


def load(project: Project, layer: str, name: str):
    return json.loads(project.latest(layer, name).read_text())


def test_ends_with_a_few_lines_for_a_person(finished):
    console = (finished.path / "console.txt").read_text()
    for word in ("Rows", "Accuracy", "Verdict", "Report:"):
        assert word in console
    report = finished.latest("08_reporting", "report.html")
    assert str(report) in re.sub(r"\s", "", console)
    assert len(console.splitlines()) < 60


def test_console_has_no_noise(finished):
    console = (finished.path / "console.txt").read_text()
    for noise in ("Warning", "WARNING", "deprecat", "Traceback", "telemetry consent"):
        assert noise not in console, console


def test_funnel_adds_up(finished):
    funnel = load(finished, "08_reporting", "funnel.json")
    snapshot = load(finished, "02_intermediate", "snapshot.json")
    assert funnel["read"] == snapshot["counts"]["spans"]
    assert funnel["read"] - sum(step["dropped"] for step in funnel["steps"]) == funnel["examples"]


def test_test_window_is_held_out(finished):
    splits = load(finished, "05_model_input", "splits.json")
    sides = {side: set() for side in ("train", "validation", "test")}
    for line in finished.latest("04_feature", "examples.jsonl").read_text().splitlines():
        row = json.loads(line)
        place = splits["rows"][row["id"]]
        if place["split"] != "dropped":
            sides[place["split"]].add(row["provenance"]["group"])
        assert (row["provenance"]["created_at"] >= splits["test_start"]) == (
            place["split"] == "test"
        )
    assert all(sides.values())
    assert not sides["train"] & sides["test"]
    assert not sides["validation"] & sides["test"]
    assert not sides["train"] & sides["validation"]


def test_release_says_what_it_is(finished):
    folder = finished.latest("06_models", "release/adapter")
    names = {path.name for path in folder.iterdir()}
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "gate.json",
        "serving.json",
        "status.json",
    } <= names
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    gate = json.loads((folder / "gate.json").read_text())
    assert gate["status"] == "judged"


def test_run_manifest_holds_what_is_needed_to_do_it_again(finished):
    [path] = (finished.path / "data/test/08_reporting/demo/demo/dpo/runs").glob("*.json")
    manifest = json.loads(path.read_text())
    assert manifest["status"] == "completed"
    assert manifest["parameters"]["telemetry"]["project"] == "demo"
    assert manifest["versions"]["torch"]
    assert manifest["commit"]


def test_no_planted_secret_leaves_the_raw_data(finished):
    strings = {text for texts in planted().values() for text in texts}
    spans = pd.read_parquet(finished.path / "data/01_raw/demo/telemetry/spans.parquet")
    held = "\n".join(spans.input_json.dropna())
    seen = {text for text in strings if text in held}
    assert len(seen) >= 5, "the sample holds no planted strings any more"
    files = [path for path in (finished.path / "data/test").rglob("*") if path.is_file()]
    files.append(finished.path / "console.txt")
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            # As plain text: JSON would escape characters and hide a match.
            values = pd.read_parquet(path).to_numpy(dtype=object).ravel()
            content += "\n".join(map(str, values)).encode()
        for text in strings:
            assert text.encode() not in content, (path, text)


def test_dry_run_shows_and_trains_nothing(project):
    result = project.run("--pipeline=dpo", params="dry_run=true")
    assert result.returncode == 0, result.stdout
    assert "would take about" in result.stdout
    assert "training sft" not in result.stdout
    assert load(project, "08_reporting", "funnel.json")["examples"] > 0
    assert load(project, "08_reporting", "sft/preflight.json")["rows_used"] > 0
    assert load(project, "08_reporting", "gate.json")["status"] == "unjudged"
    assert not list((project.path / "data/test").rglob("adapter_model.safetensors"))
    answer = project.kedro("predict", "--env=test", "hello")
    assert "nothing was trained" in answer.stdout


def test_predict_refuses_a_base_that_has_changed(finished, tmp_path):
    copy = copy_project(tmp_path / "project")
    shutil.copytree(finished.path / "data/test", copy.path / "data/test")
    release = copy.latest("06_models", "release/adapter")
    serving = json.loads((release / "serving.json").read_text())
    serving["base"]["path"] = serving["base"]["path"].replace(str(finished.path), str(copy.path))
    (release / "serving.json").write_text(json.dumps(serving))
    weights_file = Path(serving["base"]["path"]) / "model.safetensors"
    content = bytearray(weights_file.read_bytes())
    content[-1] ^= 1
    weights_file.write_bytes(content)
    result = copy.kedro("predict", "--env=test", "hello")
    assert result.returncode != 0
    assert "the base model has changed" in " ".join(result.stdout.split())


def killed_inside(project: Project, step: str) -> None:
    """Starts the run and kills it inside the step that comes after the one named."""
    process = subprocess.Popen(
        project.command("run", "--env=test", "--pipeline=dpo"),
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if step in line:
            break
    time.sleep(1.0)
    assert process.poll() is None, f"the run ended before {step} was over"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.faults
def test_a_second_run_killed_again_and_again_gives_the_same_bytes(finished, project):
    """Killed while SFT trains, while DPO trains and while models answer, each time started anew."""
    for step in ("dpo.sft.plan", "dpo.dpo.plan", "dpo.dpo.train"):
        killed_inside(project, step)
        assert not project.versions("08_reporting", "report.html"), "nothing was left to do"
    again = project.run("--pipeline=dpo")
    assert again.returncode == 0, again.stdout
    assert hashes(project) == hashes(finished)
    for stage in ("sft", "dpo", "release"):
        assert weights(project, stage) == weights(finished, stage)
    first, second = (
        pd.read_parquet(copy.latest("07_model_output", "predictions.parquet")).drop(
            columns="latency_ms"
        )
        for copy in (finished, project)
    )
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.phoenix
def test_live_server_gives_byte_identical_records(project, phoenix_server: Server):
    assert project.run("--pipeline=dpo", ROWS).returncode == 0
    snapshot = hashes(project)
    raw = project.path / "data/01_raw/demo/telemetry"
    before = {path.name: path.read_bytes() for path in raw.iterdir()}
    live = project.run(
        "--pipeline=dpo",
        ROWS,
        params=f"telemetry.source=phoenix,telemetry.url={phoenix_server.url}",
    )
    assert live.returncode == 0, live.stdout
    assert hashes(project) == snapshot
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == before

    shutil.rmtree(raw)
    ingest = project.run("--pipeline=phoenix", params=f"telemetry.url={phoenix_server.url}")
    assert ingest.returncode == 0, ingest.stdout
    assert project.run("--pipeline=dpo", ROWS).returncode == 0
    assert hashes(project, RECORDS[1:]) == {
        key: value for key, value in snapshot.items() if "snapshot" not in key
    }
