"""``kedro run --pipeline=multi_turn`` from end to end: sessions in, a judged adapter out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tools.sample.private import planted

from tests.phoenix_server import Server
from tests.project import EMBEDDED, Project, copy_project
from tracetune.datasets.jsonl_dataset import JSONLDataset
from tracetune.datasets.trajectory_dataset import TrajectoryDataset
from tracetune.files import sha256_file

WHERE = "demo/demo/multi_turn"
ROWS = "--to-nodes=multi_turn.telemetry.split_conversations"
RECORDS = (
    ("02_intermediate", "snapshot.json"),
    ("04_feature", "trajectories.jsonl"),
    ("04_feature", "trajectories.parquet"),
    ("04_feature", "examples.jsonl"),
    ("05_model_input", "splits.json"),
    ("08_reporting", "funnel.json"),
    ("08_reporting", "privacy.json"),
)


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory, finished: Project) -> Project:
    """A copy in which ``multi_turn`` ran to its end in the test environment."""
    project = copy_project(
        tmp_path_factory.mktemp("multi_turn") / "project", finished.path / EMBEDDED
    )
    result = project.run("--pipeline=multi_turn", anew=True)
    (project.path / "console.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stdout
    return project


def file(project: Project, layer: str, name: str) -> Path:
    return project.latest(layer, name, WHERE)


def document(project: Project, layer: str, name: str):
    return json.loads(file(project, layer, name).read_text())


def rows(project: Project, layer: str, name: str) -> list[dict]:
    return [json.loads(line) for line in file(project, layer, name).read_text().splitlines()]


def hashes(project: Project, records=RECORDS) -> dict[str, str]:
    return {name: sha256_file(file(project, layer, name)) for layer, name in records}


def test_ends_with_a_few_lines_for_a_person_and_no_noise(conversations):
    console = (conversations.path / "console.txt").read_text()
    for word in ("Rows", "Verdict", "Report:"):
        assert word in console
    for noise in ("Warning", "WARNING", "deprecat", "Traceback"):
        assert noise not in console, console


def test_trajectories_are_the_same_in_both_forms(conversations):
    lines = JSONLDataset(
        filepath=str(file(conversations, "04_feature", "trajectories.jsonl")),
        record="tracetune.records.Trajectory",
    ).load()
    columns = TrajectoryDataset(
        filepath=str(file(conversations, "04_feature", "trajectories.parquet"))
    ).load()
    assert lines == columns
    assert len(lines) > 100
    assert {row.session_outcome for row in lines} >= {"success", "partial", "failure", None}
    assert all(len(row.turns) >= 2 for row in lines)


def test_funnel_adds_up_in_spans_and_in_sessions(conversations):
    funnel = document(conversations, "08_reporting", "funnel.json")
    snapshot = document(conversations, "02_intermediate", "snapshot.json")
    assert funnel["read"] == snapshot["counts"]["spans"]
    assert funnel["read"] - sum(step["dropped"] for step in funnel["steps"]) == funnel["turns"]
    sessions = funnel["sessions"]
    left = sessions["read"] - sum(step["dropped"] for step in sessions["steps"])
    assert left == sessions["conversations"] + sessions["held_out"]
    assert funnel["examples"] == len(rows(conversations, "04_feature", "examples.jsonl"))


def test_sessions_are_never_divided_and_held_out_rows_are_turns(conversations):
    places = document(conversations, "05_model_input", "splits.json")["rows"]
    sides: dict[str, set[str]] = {}
    for row in rows(conversations, "04_feature", "examples.jsonl"):
        split = places[row["id"]]["split"]
        sides.setdefault(row["tags"]["session"], set()).add(split)
        if split == "test":
            assert len(row["completion"]) == 1
            turns = [message["role"] for message in row["prompt"]].count("user")
            assert row["tags"]["turn"] == str(turns)
        else:
            assert len(row["completion"]) >= 3
    assert all(len(split) == 1 for split in sides.values())
    assert {side for split in sides.values() for side in split} >= {"train", "test", "validation"}


def test_only_answers_are_trained_in_groups_of_equal_length(conversations):
    report = document(conversations, "08_reporting", "sft/preflight.json")
    assert report["trained_by_role"] == {"assistant": 1.0}
    trainer = document(conversations, "05_model_input", "sft/plan.json")["job"]["trainer"]
    assert trainer["assistant_only_loss"] is True
    assert trainer["train_sampling_strategy"] == "group_by_length"


def test_answers_are_judged_per_turn(conversations):
    metrics = document(conversations, "08_reporting", "metrics.json")
    assert metrics["status"] == "judged"
    test = rows(conversations, "05_model_input", "test.jsonl")
    counted = {part["target"]: part["n"] for part in metrics["slices"]}
    for turn in ("1", "2", "3"):
        expected = sum(row["tags"]["turn"] == turn for row in test)
        assert counted[f"turn {turn}"] == expected


def test_release_is_complete(conversations):
    folder = file(conversations, "06_models", "release/adapter")
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "serving.json", "gate.json", "manifest.json"} <= names


def test_a_second_run_writes_the_same_bytes(conversations, project):
    assert project.run("--pipeline=multi_turn", ROWS).returncode == 0
    assert hashes(project) == hashes(conversations)


def test_filters_are_parameters(project):
    result = project.run(
        "--pipeline=multi_turn",
        ROWS,
        params="telemetry.sessions.min_turns=4,telemetry.sessions.require_evaluation=true,"
        "telemetry.sessions.min_score=0.5",
    )
    assert result.returncode == 0, result.stdout
    funnel = document(project, "08_reporting", "funnel.json")
    dropped = {step["reason"]: step["dropped"] for step in funnel["sessions"]["steps"]}
    assert dropped["too_few_turns"] > 0
    assert dropped["no_evaluation"] > 0
    assert dropped["low_score"] > 0
    kept = {row["tags"]["session"] for row in rows(project, "04_feature", "examples.jsonl")}
    known = {row["session_id"]: row for row in rows(project, "04_feature", "trajectories.jsonl")}
    assert kept
    assert all(known[session]["session_score"] >= 0.5 for session in kept)
    assert all(len(known[session]["turns"]) >= 4 for session in kept)


def test_no_planted_secret_leaves_the_raw_data(conversations):
    strings = {text for texts in planted().values() for text in texts}
    spans = pd.read_parquet(conversations.path / "data/01_raw/demo/telemetry/spans.parquet")
    turns = spans[spans.name == "chat_turn"]
    held = "\n".join([*turns.input_json.dropna(), *turns.output_json.dropna()])
    assert {text for text in strings if text in held}, "no turn holds a planted string any more"
    files = [path for path in (conversations.path / "data/test").rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            values = pd.read_parquet(path).to_numpy(dtype=object).ravel()
            content += "\n".join(map(str, values)).encode()
        for text in strings:
            assert text.encode() not in content, (path, text)


@pytest.mark.phoenix
def test_live_server_gives_byte_identical_records(conversations, project, phoenix_server: Server):
    shutil.rmtree(project.path / "data/01_raw/demo/telemetry")
    live = project.run(
        "--pipeline=multi_turn",
        ROWS,
        params=f"telemetry.source=phoenix,telemetry.url={phoenix_server.url}",
    )
    assert live.returncode == 0, live.stdout
    expected = hashes(conversations, RECORDS[1:])
    assert hashes(project, RECORDS[1:]) == expected
