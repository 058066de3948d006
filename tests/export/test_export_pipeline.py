"""``kedro run --pipeline=export`` after a finished training, and the stage behind a release."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.project import Project, copy_project
from tracetune.errors import ConfigurationError, DataError
from tracetune.export.options import ExportOptions
from tracetune.export.runtime import GgufModel
from tracetune.export.source import find
from tracetune.files import read_json, sha256_file, sha256_folder, write_json
from tracetune.pipelines.export_stage import export_adapter, export_stage
from tracetune.runs import write_skipped

WHERE = "demo/demo/export"


@pytest.fixture(scope="module")
def used(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with a finished ``dpo`` run, in which ``export`` ran as well."""
    target = tmp_path_factory.mktemp("export") / "project"
    copy = copy_project(target)
    shutil.copytree(finished.path / "data/test/06_models", target / "data/test/06_models")
    result = copy.run("--pipeline=export", anew=True)
    (target / "console.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stdout
    return copy


def test_the_embedded_model_is_exported_as_q4_k_m(used, finished):
    folder = used.latest("06_models", "export/model", WHERE)
    released = finished.latest("06_models", "release/adapter")
    assert (folder / "demo-q4_k_m.gguf").is_file()
    assert sha256_folder(folder / "adapter") == sha256_folder(released)
    report = read_json(used.latest("08_reporting", "export/report.json", WHERE))
    assert report["status"] == "trained"
    assert report["source"]["pipeline"] == "dpo"
    assert report["gguf"]["fell_back"] == {}
    assert report["gguf"]["types"].keys() == {"F32", "Q4_K", "Q6_K"}
    assert report["parity"]["f32"]["greedy_equal"] == report["parity"]["f32"]["prompts"]
    assert report["parity"]["f32"]["max_delta"] < 1e-4
    assert report["parity"]["nll"]["q4_k_m"] == pytest.approx(
        report["parity"]["nll"]["hugging_face"], abs=0.1
    )
    assert report["base"]["licence"] == "apache-2.0"
    model = report["files"]["demo-q4_k_m.gguf"]
    assert model["sha256"] == sha256_file(folder / "demo-q4_k_m.gguf")


def test_the_exported_model_answers_what_the_adapter_answers(used):
    folder = used.latest("06_models", "export/model", WHERE)
    serving = read_json(folder / "adapter" / "serving.json")
    with GgufModel(folder / "demo-q4_k_m.gguf", context=512) as model:
        answer = model.answer(
            [
                {"role": "system", "content": serving["instruction"]},
                {"role": "user", "content": "why was I charged twice?"},
            ],
            max_tokens=serving["max_new_tokens"],
        )
    assert answer.tokens >= 1
    assert answer.confidence is not None


def test_it_says_what_it_made_and_nothing_else(used):
    console = (used.path / "console.txt").read_text()
    for word in ("demo-q4_k_m.gguf", "Parity", "Nats/token", "Verdict", "Report:"):
        assert word in console
    for noise in ("Warning", "WARNING", "deprecat", "Traceback", "llama_", "shards"):
        assert noise not in console, console
    assert len(console.splitlines()) < 25


def test_pipeline_and_format_are_parameters(used):
    done = used.run("--pipeline=export", params="name=demo,export.from=dpo,export.quant=q8_0")
    assert done.returncode == 0, done.stdout
    assert (used.latest("06_models", "export/model", WHERE) / "demo-q8_0.gguf").is_file()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("name=other", "no pipeline has released an adapter"),
        ("export.from=cli", "the pipeline 'cli' has released nothing .* name one that has: dpo"),
        ("export.quant=q3_k", "export.*q4_k_m"),
        ("export.quantity=1", "export.*quantity"),
    ],
)
def test_what_cannot_be_exported_is_one_message(used, params, message):
    done = used.run("--pipeline=export", params=params)
    assert done.returncode == 1
    assert re.search(message, " ".join(done.stdout.split())), done.stdout
    assert "Traceback" not in done.stdout


def release(root: Path, pipeline: str, version: str, status: str, method: str = "sft") -> Path:
    folder = root / pipeline / "release/adapter" / version / "adapter"
    write_skipped(folder, "too few rows" if status != "trained" else "", status)  # type: ignore[arg-type]
    write_json(folder / "manifest.json", {"method": method})
    return folder


def test_the_newest_trained_language_model_is_found(tmp_path):
    release(tmp_path, "sft", "2026-01-01", "trained")
    newest = release(tmp_path, "dpo", "2026-01-02", "trained", "dpo")
    release(tmp_path, "auto", "2026-01-03", "insufficient")
    release(tmp_path, "embedding", "2026-01-04", "trained", "embedding")
    release(tmp_path, "heads", "2026-01-05", "trained", "heads")
    assert find(tmp_path, None) == {
        "path": str(newest),
        "pipeline": "dpo",
        "version": "2026-01-02",
    }
    assert find(tmp_path, "sft")["pipeline"] == "sft"
    assert find(tmp_path, "embedding")["pipeline"] == "embedding"  # refused by the merge, by name
    with pytest.raises(DataError, match="auto 2026-01-03 is insufficient: too few rows"):
        find(tmp_path, "auto")
    with pytest.raises(ConfigurationError, match=r"(?s)'twin' has released nothing.*auto, dpo"):
        find(tmp_path, "twin")


def test_only_encoders_are_no_release_to_export(tmp_path):
    release(tmp_path, "embedding", "2026-01-04", "trained", "embedding")
    with pytest.raises(DataError, match="2026-01-04 is an encoder"):
        find(tmp_path, None)


@pytest.mark.parametrize("status", ["insufficient", "waiting", "skipped"])
def test_the_stage_hands_on_that_nothing_was_trained(tmp_path, status):
    adapter = write_skipped(tmp_path / "adapter", "too few rows", status)
    (tmp_path / "work" / "model").mkdir(parents=True)
    (tmp_path / "work" / "model" / "old.gguf").write_text("of an earlier run")
    folder, report, summary = export_adapter(adapter, ExportOptions(), "demo", tmp_path / "work")
    assert [path.name for path in folder.iterdir()] == ["status.json"]
    assert json.loads((folder / "status.json").read_text()) == report
    assert report == {"status": status, "reason": "too few rows"}
    assert f"{status}: too few rows" in summary


def test_the_stage_stands_behind_the_release_of_any_pipeline():
    stage = export_stage("cli")
    assert stage.inputs() == {
        "cli.release.adapter",
        "cli.export.work",
        "params:export",
        "params:name",
    }
    assert stage.outputs() == {"cli.export.model", "cli.export.report", "cli.export.summary"}
    assert [node.namespace for node in stage.nodes] == ["cli.export"]
