"""``sft`` for every agent type, ``auto`` for every decision, and the adapter released before."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from tests.phoenix_server import Server
from tests.project import EMBEDDED, Project, copy_project
from tracetune.files import sha256_file

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def shop(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One copy of the project for the runs of this file, which have names of their own."""
    return copy_project(tmp_path_factory.mktemp("shop") / "project", finished.path / EMBEDDED)


def load(project: Project, name: str, pipeline: str, layer: str, dataset: str):
    found = project.latest(layer, dataset, f"demo/{name}/{pipeline}")
    return json.loads(found.read_text())


@pytest.fixture(scope="module")
def sft(shop: Project) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """``sft`` under a name, run the first time it is asked for."""
    return functools.cache(lambda name: shop.run("--pipeline=sft", params=f"name={name}"))


@pytest.mark.parametrize(
    ("name", "compare", "slices"),
    [
        ("profile_selection", "set", {"audio", "captions", "faces", "frames", "slides"}),
        ("entity_extraction", "entities", {"DATE", "ORG", "PERSON", "PLACE", "PRODUCT"}),
    ],
)
def test_every_agent_type_is_trained_and_judged(
    shop: Project, sft: Callable[..., Any], name: str, compare: str, slices: set[str]
) -> None:
    result = sft(name)
    assert result.returncode == 0, result.stdout
    metrics = load(shop, name, "sft", "08_reporting", "metrics.json")
    assert (metrics["status"], metrics["compare"]) == ("judged", compare)
    assert slices <= {part["target"] for part in metrics["slices"]}
    assert {"base", "sft", "majority", "nearest"} <= set(metrics["models"])
    nearest = metrics["models"]["nearest"]
    assert nearest["valid_json_rate"] == 1.0
    assert 0 < nearest["score"] <= 1
    for model in ("base", "sft"):
        assert metrics["models"][model]["top_k_accuracy"] is not None
    serving = shop.latest("06_models", "release/adapter", f"demo/{name}/sft") / "serving.json"
    assert json.loads(serving.read_text())["output"]["compare"] == compare
    assert "Accuracy" in result.stdout


def test_the_adapter_released_before_is_one_more_column(
    shop: Project, sft: Callable[..., Any]
) -> None:
    name = "entity_extraction"
    assert sft(name).returncode == 0
    first = load(shop, name, "sft", "05_model_input", "previous.json")
    assert (first["path"], first["reason"]) == (None, "none was released")
    assert "previous" not in load(shop, name, "sft", "08_reporting", "metrics.json")["models"]
    again = shop.run("--pipeline=sft", params=f"name={name},sft.trainer.max_steps=3")
    assert again.returncode == 0, again.stdout
    second = load(shop, name, "sft", "05_model_input", "previous.json")
    assert second["pipeline"] == "sft"
    assert second["saw_test_window"] is False
    metrics = load(shop, name, "sft", "08_reporting", "metrics.json")
    assert "previous" in metrics["comparisons"]
    page = shop.latest("08_reporting", "report.html", f"demo/{name}/sft").read_text()
    assert "previous adapter" in page


FEW = "dpo.min_dpo_pairs=100000"
NONE = f"{FEW},sft.min_sft_examples=100000"


@pytest.mark.parametrize(
    ("name", "params", "method", "trained"),
    [
        ("autodpo", "", "dpo", {"sft", "dpo"}),
        ("autosft", FEW, "sft", {"sft"}),
        ("autokto", f"{NONE},kto.allowed=true,kto.min_kto_ratings=4", "kto", {"kto"}),
        ("autonone", f"{NONE},synthesis.allowed=false", "insufficient", set()),
    ],
)
def test_auto_decides_once_and_trains_that(
    shop: Project, name: str, params: str, method: str, trained: set[str]
) -> None:
    result = shop.run("--pipeline=auto", params=",".join(filter(None, [f"name={name}", params])))
    assert result.returncode == 0, result.stdout
    decision = load(shop, name, "auto", "05_model_input", "decision.json")
    assert decision["method"] == method
    folders = {
        stage: shop.latest("06_models", f"{stage}/adapter", f"demo/{name}/auto")
        for stage in ("sft", "dpo", "kto")
    }
    status = {stage: json.loads((f / "status.json").read_text()) for stage, f in folders.items()}
    assert {stage for stage, found in status.items() if found["status"] == "trained"} == trained
    metrics = load(shop, name, "auto", "08_reporting", "metrics.json")
    report = shop.latest("08_reporting", "report.html", f"demo/{name}/auto").read_text()
    assert decision["reason"].split(":")[0] in report
    if trained:
        judged = "dpo" if "dpo" in trained else next(iter(trained))
        assert (metrics["status"], metrics["adapter"]) == ("judged", judged)
    else:
        assert metrics["status"] == "unjudged"
        assert set(decision["missing"]) == {"pairs", "examples"}
        assert {found["status"] for found in status.values()} == {"insufficient"}
        assert "missing for training" in result.stdout


def test_no_test_rows_is_unjudged_and_no_failure(shop: Project) -> None:
    """An anchor a month after the last span: the training window holds rows, the other none."""
    result = shop.run(
        "--pipeline=sft", params="name=untested,telemetry.anchor=2026-10-09T00:00:00Z"
    )
    assert result.returncode == 0, result.stdout
    metrics = load(shop, "untested", "sft", "08_reporting", "metrics.json")
    assert (metrics["status"], metrics["n"]) == ("unjudged", 0)
    assert "no row" in metrics["reason"]
    path = shop.latest("07_model_output", "predictions.parquet", "demo/untested/sft")
    assert len(pd.read_parquet(path)) == 0


def test_a_changed_manifest_is_found_where_answers_are_made(finished, tmp_path) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(finished.path, project.path)
    path = project.latest("05_model_input", "splits.json")
    splits = json.loads(path.read_text())
    held = next(i for i, place in splits["rows"].items() if place["split"] == "test")
    splits["rows"][held]["split"] = "train"
    path.write_text(json.dumps(splits))
    result = project.run("--pipeline=dpo", "--from-nodes=dpo.judgement.predict")
    assert result.returncode == 1
    assert "split manifest" in result.stdout
    assert "run the pipeline from the start" in result.stdout


@pytest.mark.parametrize(
    ("pipeline", "params", "words"),
    [
        ("sft", "telemetry.agent_type=cooking", "there is no kind of agent 'cooking'"),
        ("sft", "sft.min_sft_examples=100000", "at least 100000 are needed"),
    ],
)
def test_what_cannot_be_done_is_said(shop: Project, pipeline: str, params: str, words: str) -> None:
    result = shop.run(f"--pipeline={pipeline}", params=f"name=wrong,{params}")
    assert result.returncode == 1
    assert words in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.phoenix
@pytest.mark.parametrize(
    ("pipeline", "name", "last", "records"),
    [
        ("sft", "entity_extraction", "split_rows", ("examples.jsonl", "ratings.jsonl")),
        (
            "auto",
            "profile_selection",
            "split_rows",
            ("real_examples.jsonl", "real_preferences.jsonl", "real_splits.json"),
        ),
        (
            "embedding",
            "demo",
            "split_searches",
            ("triplets.jsonl", "documents.jsonl", "document_triplets.jsonl"),
        ),
    ],
)
def test_a_live_server_gives_the_same_records(
    project: Project,
    phoenix_server: Server,
    pipeline: str,
    name: str,
    last: str,
    records: tuple[str, ...],
) -> None:
    live = f"telemetry.source=phoenix,telemetry.url={phoenix_server.url}"
    found = []
    for params in (f"name={name}", f"name={name},{live}"):
        stop = f"--to-nodes={pipeline}.telemetry.{last}"
        result = project.run(f"--pipeline={pipeline}", stop, params=params)
        assert result.returncode == 0, result.stdout
        where = f"demo/{name}/{pipeline}"
        paths = [project.latest("04_feature", record, where) for record in records]
        if "real_splits.json" not in records:
            paths.append(project.latest("05_model_input", "splits.json", where))
        found.append([sha256_file(path) for path in paths])
    assert found[0] == found[1]
