"""``cli``: from a schema to a judged model file, with the real command, for any program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.project import EMBEDDED, ROOT, Project, copy_project
from tracetune.cli_schema.load import load_schema
from tracetune.cli_schema.objects import parse_answer, problems
from tracetune.records import Example, Preference
from tracetune.splits import SplitManifest

pytestmark = pytest.mark.training

ROBOT = """
cli_name: robo
description: A small robot in the garden
commands:
  - name: plant
    description: Plants in the beds
    subcommands:
      - name: water
        description: Water a plant
        args:
          - {name: litres, type: float, required: true, description: How much water}
          - {name: when, type: {enum: [now, tonight]}, default: now}
        flags:
          - {name: slowly, short: s, description: A little at a time}
      - name: list
        description: List the plants
        args:
          - {name: bed, type: integer}
  - name: stop
    description: Stop the robot
"""
"""Made up here: no code and no YAML of the project knows it."""


@pytest.fixture(scope="module")
def garden(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which ``cli`` ran to its end for a schema that only this file knows."""
    project = copy_project(tmp_path_factory.mktemp("garden") / "project", finished.path / EMBEDDED)
    (project.path / "data/01_raw/demo/cli/robo.yaml").write_text(ROBOT)
    result = project.run("--pipeline=cli", params="name=robo")
    (project.path / "console.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stdout
    return project


def latest(project: Project, layer: str, dataset: str) -> Path:
    return project.latest(layer, dataset, "demo/robo/cli")


def document(project: Project, layer: str, dataset: str) -> Any:
    return json.loads(latest(project, layer, dataset).read_text())


def rows(project: Project, layer: str, dataset: str, record: type) -> list[Any]:
    lines = latest(project, layer, dataset).read_text().splitlines()
    return [record.model_validate_json(line) for line in lines]


def test_examples_are_valid_and_no_request_is_on_two_sides(garden):
    schema = load_schema(garden.path / "data/01_raw/demo/cli/robo.yaml")
    examples = rows(garden, "04_feature", "examples.jsonl", Example)
    assert len(examples) > 60
    splits = SplitManifest.model_validate(document(garden, "05_model_input", "splits.json"))
    sides: dict[str, set[str]] = {}
    for row in examples:
        assert problems(schema, parse_answer(row.completion[0].content)) == []
        assert row.completion[0].content.startswith('{"type":')
        sides.setdefault(row.provenance.group, set()).add(splits.place(row.id).split)
    assert all(len(found) == 1 for found in sides.values())
    assert splits.count("sft", "test") > 0
    report = document(garden, "08_reporting", "generation.json")
    assert report["diversity"]["coverage"] == 1.0
    rejected = latest(garden, "03_primary", "rejected.jsonl").read_text().splitlines()
    assert all(json.loads(line)["reason"] for line in rejected)
    assert sum(report["rejected"].values()) == len(rejected)


def test_pairs_stand_where_their_rows_stand_and_hold_what_the_model_really_wrote(garden):
    examples = {row.id: row for row in rows(garden, "04_feature", "examples.jsonl", Example)}
    pairs = rows(garden, "04_feature", "preferences.jsonl", Preference)
    assert pairs
    splits = SplitManifest.model_validate(document(garden, "05_model_input", "splits.json"))
    divided = SplitManifest.model_validate(document(garden, "05_model_input", "pair_splits.json"))
    found = document(garden, "07_model_output", "sft_answers.json")
    answers = {a["row"]: a["text"] for a in found if a["finish"] == "stop"}
    for pair in pairs:
        row = examples[pair.provenance.ids["row"]]
        assert splits.place(row.id).split in ("train", "validation")
        assert divided.place(pair.id).split == splits.place(row.id).split
        assert pair.chosen == row.completion
        assert row.id in answers
        if pair.tags["rejected"] in ("not_json", "invalid", "different"):
            assert pair.rejected[0].content == answers[row.id]
    report = document(garden, "08_reporting", "pairs.json")
    sides = {"train": report["pairs"], "validation": report["validation"]["pairs"]}
    assert {side: divided.count("pair", side) for side in sides} == sides
    assert sum(sides.values()) == len(pairs)
    assert report["asked"] + report["validation"]["asked"] == len(found)
    # DPO was trained on the one side and watched by the other.
    preflight = document(garden, "08_reporting", "dpo/preflight.json")
    used = {"train": preflight["rows_used"], "validation": preflight["validation_rows"]}
    assert 0 < used["validation"] < used["train"]
    assert latest(garden, "06_models", "dpo/adapter").joinpath("adapter_model.safetensors").exists()


def test_everybody_is_judged_on_the_same_requests_and_parts_are_told_apart(garden):
    scores = document(garden, "08_reporting", "scores.json")
    models = {"base", "sft", "dpo", "majority", "nearest", "keyword"}
    assert models <= set(scores["models"])
    test = rows(garden, "05_model_input", "test.jsonl", Example)
    assert {found["all"]["n"] for found in scores["models"].values()} == {len(test)}
    metrics = document(garden, "08_reporting", "metrics.json")
    assert metrics["status"] == "judged"
    assert any("same writer" in sentence for sentence in metrics["not_shown"])
    page = latest(garden, "08_reporting", "report.html").read_text()
    assert all(0 <= found["cut"] <= 1 for found in scores["models"].values())
    assert scores["models"]["keyword"]["cut"] == 0
    for words in (
        *("Parts of the answers", "By subcommand", "keyword matcher", "with context"),
        *("Cut at the end of their room", "Command (target &gt; 98 %)", "Previous adapter: none"),
    ):
        assert words in page


def test_under_the_grammar_every_answer_of_the_file_passes_the_strict_check(garden):
    found = document(garden, "08_reporting", "from_file.json")
    assert found["status"] == "judged"
    constrained = found["constrained"]["all"]
    assert constrained["n"] == found["n"] > 0
    assert constrained["json_valid"] == constrained["schema_valid"] == 1.0
    assert found["constrained"]["cut"] == 0
    assert found["constrained"]["p99_ms"] >= found["constrained"]["p50_ms"] > 0
    model = latest(garden, "06_models", "export/model")
    assert {path.name for path in model.glob("*.gguf")} == {"robo-q4_k_m.gguf"}


def test_file_and_adapter_are_compared_on_the_same_requests(garden):
    found = document(garden, "08_reporting", "from_file.json")
    scores = document(garden, "08_reporting", "scores.json")["models"]
    metrics = document(garden, "08_reporting", "metrics.json")
    right = {kind: found[kind]["all"]["exact"] * found["n"] for kind in ("free", "constrained")}
    for kind in right:
        against = found[kind]["against"]
        assert against["n"] == found["n"]
        assert 0 <= against["p"] <= 1
        gained = right[kind] - metrics["models"][found["adapter"]]["correct"]
        assert against["wins"] - against["losses"] == pytest.approx(gained)
    page = latest(garden, "08_reporting", "report.html").read_text()
    assert "The file against the" in page
    assert "clusters of near-equal requests" in page
    assert "sessions or traces" not in page
    assert "Right among" not in page  # one answer per request was made
    for model in ("base", found["adapter"]):
        assert scores[model]["perplexity"] > 1
    assert scores["keyword"]["perplexity"] is None
    # the file scores the right answers through llama.cpp, the adapter through transformers
    likely = found["likelihood"]
    assert likely["n"] == found["n"]
    assert likely["adapter"] == pytest.approx(scores[found["adapter"]]["perplexity"])
    assert likely["file"] == pytest.approx(likely["adapter"], rel=0.05)
    assert "Perplexity of the right answer" in page


def test_ask_answers_from_the_file_with_a_command_that_is_valid_or_asks_back(garden):
    result = garden.kedro(
        "ask", "--env=test", "--name=robo", "--branch=main", "water the plants with 2.5 litres"
    )
    assert result.returncode == 0, result.stdout
    answer, *rest = result.stdout.strip().splitlines()
    schema = load_schema(garden.path / "data/01_raw/demo/cli/robo.yaml")
    value = parse_answer(answer)
    assert problems(schema, value) == []
    if value["type"] == "command":
        assert rest[0].startswith("robo ")
    assert "confidence" in rest[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "--name=nobody", "hello"], "there is no CLI schema of the name 'nobody'"),
        (["ask", "--name=gh", "hello"], "no model of 'gh' was exported"),
        (["ask", "--name=robo", " "], "nothing to turn into a command"),
        (["ask", "--name=robo", "--repo=x", "hello"], "is not OWNER/NAME"),
    ],
)
def test_what_cannot_be_asked_is_said(garden, arguments, words):
    result = garden.kedro(*arguments, "--env=test")
    assert result.returncode == 1
    assert words in " ".join(result.stdout.split())
    assert "Traceback" not in result.stdout


def test_a_dry_run_trains_nothing_and_asks_nobody_who_wants_money(garden):
    result = garden.run("--pipeline=cli", params="name=demo,dry_run=true,llm.provider=anthropic")
    assert result.returncode == 0, result.stdout
    assert (
        "Nothing was asked"
        in garden.latest("08_reporting", "report.html", "demo/demo/cli").read_text()
    )
    assert not (garden.path / "data/test/llm/demo/demo/ledger.jsonl").exists()


def test_a_schema_that_is_wrong_stops_the_run_with_its_line(garden):
    path = garden.path / "data/01_raw/demo/cli/broken.yaml"
    path.write_text(ROBOT.replace("type: float", "type: colour"))
    result = garden.run("--pipeline=cli", params="name=broken")
    assert result.returncode == 1
    assert "broken.yaml" in result.stdout
    assert "colour" in result.stdout
    assert "Traceback" not in result.stdout


def test_the_notebook_looks_at_the_run(garden: Project, tmp_path: Path):
    """The notebook as it is, but for the name of the program."""
    text = (ROOT / "notebooks/04_cli_model.ipynb").read_text(encoding="utf-8")
    assert text.count('name = \\"demo\\"') == 1
    source, target = garden.path / "notebooks/robo.ipynb", tmp_path / "executed.ipynb"
    source.write_text(text.replace('name = \\"demo\\"', 'name = \\"robo\\"'), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"),
            *("--output", str(target), str(source)),
        ],
        cwd=garden.path,
        env={**garden.environment(), "KEDRO_ENV": "test"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [
        o for cell in json.loads(target.read_text())["cells"] for o in cell.get("outputs", [])
    ]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    shown = json.dumps(outputs)
    for word in ("clusters on more than one side: 0", "keyword", "constrained", "command line"):
        assert word in shown, f"{word!r} is not shown"
