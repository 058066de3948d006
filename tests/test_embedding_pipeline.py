"""``kedro run --pipeline=embedding`` from end to end in the test environment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.project import EMBEDDED, Project, copy_project
from tests.telemetry.test_snapshot import as_format_1
from tracetune.files import sha256_file, sha256_folder
from tracetune.runs import read_status

pytestmark = pytest.mark.training

WHERE = "demo/demo/embedding"
RECORDS = (
    ("04_feature", "triplets.jsonl"),
    ("04_feature", "document_triplets.jsonl"),
    ("04_feature", "queries.jsonl"),
    ("04_feature", "documents.jsonl"),
    ("05_model_input", "splits.json"),
    ("05_model_input", "test_queries.jsonl"),
    ("08_reporting", "funnel.json"),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which ``embedding`` ran to its end. Do not change it."""
    project = copy_project(tmp_path_factory.mktemp("embedding") / "project")
    result = project.run("--pipeline=embedding", anew=True)
    (project.path / "console.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture
def fresh(done: Project, tmp_path: Path) -> Project:
    """A fresh copy with the tiny encoder already built."""
    return copy_project(tmp_path / "project", done.path / EMBEDDED)


def load(project: Project, layer: str, name: str, where: str = WHERE):
    return json.loads(project.latest(layer, name, where).read_text())


def lines(project: Project, layer: str, name: str) -> list[dict]:
    text = project.latest(layer, name, WHERE).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_ends_with_a_judged_and_released_encoder(done):
    released = done.latest("06_models", "release/adapter", WHERE)
    assert read_status(released).status == "trained"
    serving = json.loads((released / "serving.json").read_text())
    assert serving["form"] == "encoder"
    assert json.loads((released / "gate.json").read_text()) == load(
        done, "08_reporting", "gate.json"
    )
    assert not list(released.rglob("*.bin"))
    console = (done.path / "console.txt").read_text()
    for word in ("Rows", "nDCG@10", "Verdict", "Report:"):
        assert word in console
    for noise in ("Warning", "WARNING", "deprecat", "Traceback"):
        assert noise not in console, console


def test_every_search_is_counted(done):
    funnel = load(done, "08_reporting", "funnel.json")
    assert funnel["read"] - sum(step["dropped"] for step in funnel["steps"]) == funnel["searches"]
    assert funnel["triplets"]["rows"] == len(lines(done, "04_feature", "triplets.jsonl"))
    assert funnel["catalogue"]["documents"] == len(lines(done, "04_feature", "documents.jsonl"))


def test_the_set_from_documents_is_there_and_not_in_use(done):
    funnel = load(done, "08_reporting", "funnel.json")
    rows = lines(done, "04_feature", "document_triplets.jsonl")
    assert len(rows) == funnel["document_set"]["triplets"]["rows"] >= 100
    assert {row["tags"]["set"] for row in rows} == {"documents"}
    assert {t["tags"]["set"] for t in lines(done, "04_feature", "triplets.jsonl")} == {"feedback"}
    assert funnel["used"]["sets"] == ["feedback"]
    assert f"not in use: {len(rows)} of documents" in (done.path / "console.txt").read_text()


def test_test_queries_and_training_share_nothing(done):
    places = load(done, "05_model_input", "splits.json")["rows"]
    queries = {q["text"].casefold() for q in lines(done, "05_model_input", "test_queries.jsonl")}
    train = [
        t
        for t in lines(done, "04_feature", "triplets.jsonl")
        if places[t["id"]]["split"] == "train"
    ]
    assert queries
    assert train
    assert not queries & {t["anchor"].casefold() for t in train}
    groups = {place["group"] for place in places.values() if place["split"] == "test"}
    assert not groups & {t["provenance"]["group"] for t in train}


def test_ranks_and_metrics_agree(done):
    frame = pd.read_parquet(done.latest("07_model_output", "predictions.parquet", WHERE))
    metrics = load(done, "08_reporting", "metrics.json")
    assert set(frame["model"]) == {"trained", "base", "bm25"}
    for model, part in frame.groupby("model"):
        assert metrics["models"][model]["ndcg_10"]["mean"] == pytest.approx(part["ndcg_10"].mean())
    assert metrics["n"] == len(lines(done, "05_model_input", "test_queries.jsonl"))


def test_two_runs_give_the_same_bytes(done, fresh):
    result = fresh.run("--pipeline=embedding")
    assert result.returncode == 0, result.stdout
    for layer, name in RECORDS:
        one, two = (sha256_file(p.latest(layer, name, WHERE)) for p in (done, fresh))
        assert one == two, name
    one, two = (
        sha256_folder(
            p.latest("06_models", "encoder/adapter", WHERE), skip=frozenset({"timing.json"})
        )
        for p in (done, fresh)
    )
    assert one == two


def test_a_second_run_compares_with_the_first(done, tmp_path):
    copy = copy_project(tmp_path / "project")
    shutil.copytree(done.path / "data/test", copy.path / "data/test")
    result = copy.run("--pipeline=embedding", params="embedding.loss=multiple_negatives")
    assert result.returncode == 0, result.stdout
    assert "previous" in load(copy, "08_reporting", "metrics.json")["models"]
    assert load(copy, "05_model_input", "previous.json")["pipeline"] == "embedding"


@pytest.mark.parametrize(
    ("params", "status", "word"),
    [
        ("embedding.min_triplets=100000", "insufficient", "fewer than embedding.min_triplets"),
        ("dry_run=true", "skipped", "dry run"),
    ],
)
def test_nothing_is_trained_and_the_report_says_why(fresh, params, status, word):
    result = fresh.run("--pipeline=embedding", params=params)
    assert result.returncode == 0, result.stdout
    adapter = fresh.latest("06_models", "release/adapter", WHERE)
    assert read_status(adapter).status == status
    assert load(fresh, "08_reporting", "gate.json")["status"] == "unjudged"
    assert word in fresh.latest("08_reporting", "report.html", WHERE).read_text()
    assert word in result.stdout.replace("\n", " ")


def only_rows(project: Project, params: str = "") -> None:
    node = "embedding.prepare.select_queries"
    result = project.run("--pipeline=embedding", f"--to-nodes={node}", params=params)
    assert result.returncode == 0, result.stdout


def test_the_set_from_documents_alone_trains_an_encoder(done, fresh):
    result = fresh.run("--pipeline=embedding", params="embedding.sets=documents")
    assert result.returncode == 0, result.stdout
    released = fresh.latest("06_models", "release/adapter", WHERE)
    assert read_status(released).status == "trained"
    rows = lines(fresh, "04_feature", "triplets.jsonl")
    assert rows == lines(done, "04_feature", "document_triplets.jsonl")
    assert {query["tags"]["set"] for query in lines(fresh, "04_feature", "queries.jsonl")} == {
        "documents"
    }
    assert load(fresh, "08_reporting", "gate.json")["status"] != "unjudged"
    report = fresh.latest("08_reporting", "report.html", WHERE).read_text()
    assert "nobody and nothing annotated a document" in report


def test_both_sets_stand_in_one_manifest(done, fresh):
    only_rows(fresh, "embedding.sets=documents+feedback")
    rows = lines(fresh, "04_feature", "triplets.jsonl")
    places = load(fresh, "05_model_input", "splits.json")["rows"]
    funnel = load(fresh, "08_reporting", "funnel.json")
    assert set(places) == {row["id"] for row in rows + lines(fresh, "04_feature", "queries.jsonl")}
    sides = {(row["tags"]["set"], places[row["id"]]["split"]) for row in rows}
    assert {
        (name, side) for name in ("feedback", "documents") for side in ("train", "test")
    } <= sides
    assert len({row["provenance"]["content_hash"] for row in rows}) == len(rows)
    used = funnel["used"]
    assert sum(used["by_set"].values()) == len(rows)
    assert used["contradiction"] > 0
    assert used["triplets"]["candidates"] + used["contradiction"] == (
        funnel["triplets"]["candidates"] + funnel["document_set"]["triplets"]["candidates"]
    )
    asked = {
        query["text"]: query["relevant"]
        for query in lines(done, "05_model_input", "test_queries.jsonl")
    }
    both = {
        query["text"]: query["relevant"]
        for query in lines(fresh, "05_model_input", "test_queries.jsonl")
    }
    assert any(set(asked[text]) < set(relevant) for text, relevant in both.items() if text in asked)


def test_a_snapshot_from_before_runs_as_without_annotations_of_documents(done, fresh):
    as_format_1(fresh.path / "data/01_raw/demo/telemetry")
    only_rows(fresh)
    for name in ("triplets.jsonl", "queries.jsonl"):
        assert lines(fresh, "04_feature", name) == lines(done, "04_feature", name)
    assert lines(fresh, "04_feature", "document_triplets.jsonl") == []


def test_a_set_that_does_not_exist_is_refused(fresh):
    result = fresh.run("--pipeline=embedding", params="embedding.sets=clicks")
    assert result.returncode != 0
    assert "'feedback' or 'documents'" in result.stdout


def test_lora_is_released_as_an_adapter(fresh):
    result = fresh.run("--pipeline=embedding", params="embedding.lora={r: 4}")
    assert result.returncode == 0, result.stdout
    released = fresh.latest("06_models", "release/adapter", WHERE)
    assert (released / "adapter_model.safetensors").is_file()
    assert json.loads((released / "serving.json").read_text())["form"] == "adapter"
