"""``twin``: from exports of conversations to a judged adapter, with the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.project import EMBEDDED, Project, copy_project
from tracetune.conversations.exchange_files import read_records, write_records
from tracetune.errors import DataError
from tracetune.pipelines.prepare_stage import decide_twin, resolve_previous_twin
from tracetune.privacy import find
from tracetune.records import ChatRewrite, Conversation, Example, Preference, Rating
from tracetune.splits import SplitManifest, verify
from tracetune.training.options import DpoOptions, SftOptions

pytestmark = pytest.mark.training

ADDRESS, KEY = "jana.novak@garden-club.example", "sk-ant-" + "a1B2c3D4e5" * 4
MINE = [
    {"role": "user", "content": f"Write one line to {ADDRESS} that says the seeds are here."},
    {"role": "assistant", "content": f"Dear {ADDRESS}, the seeds are here. Come on Friday."},
    {"role": "user", "content": f"Put this key into a note: api_key = {KEY}"},
    {"role": "assistant", "content": f"Noted for the shed door: api_key = {KEY}"},
]
"""A conversation with what must not be found anywhere afterwards."""


@pytest.fixture(scope="module")
def talked(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which ``twin`` ran to its end, with a conversation of this file. Do not change."""
    project = copy_project(tmp_path_factory.mktemp("talked") / "project", finished.path / EMBEDDED)
    mine = project.path / "data/01_raw/demo/conversations/plain/mine.jsonl"
    mine.write_text(json.dumps({"id": "mine", "messages": MINE}) + "\n")
    result = project.run("--pipeline=twin")
    (project.path / "console.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stdout
    return project


def latest(project: Project, layer: str, dataset: str) -> Path:
    return project.latest(layer, dataset, "demo/demo/twin")


def document(project: Project, layer: str, dataset: str) -> Any:
    return json.loads(latest(project, layer, dataset).read_text())


def rows(project: Project, layer: str, dataset: str, record: type) -> list[Any]:
    lines = latest(project, layer, dataset).read_text().splitlines()
    return [record.model_validate_json(line) for line in lines]


def test_nothing_that_was_written_holds_the_secrets_that_came_in(talked):
    found = document(talked, "08_reporting", "privacy.json")
    assert found["found"]["EMAIL"] >= 2  # the sample holds some too
    assert found["left"] == {}
    written = [path for path in (talked.path / "data/test").rglob("*") if path.is_file()]
    assert len(written) > 50
    for path in [*written, talked.path / "console.txt"]:
        content = path.read_bytes()
        assert ADDRESS.encode() not in content, path
        assert KEY.encode() not in content, path
    redacted = rows(talked, "02_intermediate", "redacted.jsonl", Conversation)
    [mine] = [found for found in redacted if found.id == "mine"]
    assert "<EMAIL>" in mine.turns[0].content
    assert all(find(turn.content) == [] for turn in mine.turns)
    # What was redacted is taught; it is no reason to leave a conversation out.
    taught = rows(talked, "04_feature", "examples.jsonl", Example)
    assert "internal:mine" in {row.provenance.group for row in taught}


def test_one_manifest_divides_turns_pairs_and_cases_by_conversation(talked):
    examples = rows(talked, "04_feature", "examples.jsonl", Example)
    pairs = rows(talked, "04_feature", "preferences.jsonl", Preference)
    cases = rows(talked, "04_feature", "ratings.jsonl", Rating)
    splits = SplitManifest.model_validate(document(talked, "05_model_input", "splits.json"))
    verify(splits, [*examples, *pairs, *cases])
    sides: dict[str, set[str]] = {}
    for row in (*examples, *pairs, *cases):
        sides.setdefault(row.provenance.group, set()).add(splits.place(row.id).split)
    assert all(len(found) == 1 for found in sides.values())
    for kind, most in {"sft": 0.05, "pair": 0.05, "bad": 0.1}.items():
        counts = splits.counts[kind]
        total = sum(counts.values())
        assert counts["test"] > 0
        assert counts["test"] / total == pytest.approx(0.1, abs=most)
        assert counts["train"] / total == pytest.approx(0.8, abs=most + 0.05)
    trained = rows(talked, "05_model_input", "dpo/train.jsonl", Preference)
    assert {splits.place(row.id).split for row in trained} == {"train"}


def test_records_are_read_again_without_a_loss_and_rows_are_made_of_them(talked, tmp_path):
    kinds = Counter[str]()
    for name in ("sft_records", "pair_records", "eval_cases"):
        path = latest(talked, "04_feature", f"{name}.jsonl")
        records = list(read_records(path))
        kinds += Counter(record.record_type for record in records)
        write_records(tmp_path / name, records)
        assert (tmp_path / name).read_bytes() == path.read_bytes()
    assert set(kinds) == {"sft_turn", "dpo_pair", "eval_case"}
    gold = {
        record.record_id
        for record in read_records(latest(talked, "04_feature", "sft_records.jsonl"))
        if record.quality.gold
    }
    assert {
        row.provenance.ids["record_id"]
        for row in rows(talked, "04_feature", "examples.jsonl", Example)
    } == gold
    assert kinds["sft_turn"] > len(gold)


def test_every_rule_is_counted_with_examples_and_rewrites_say_where_they_are_from(talked):
    report = document(talked, "08_reporting", "surgery.json")
    surgery, rewriting = report["surgery"], report["rewriting"]
    assert list(surgery["verdicts"]) == ["1", "3"]
    assert all(sum(found.values()) == surgery["turns"] for found in surgery["verdicts"].values())
    for rule in ("permission", "options", "quarantined", "rewritten", "left_out"):
        touched = surgery["rules"][rule]
        assert touched["turns"] >= len(touched["examples"]) > 0
    entries = rows(talked, "03_primary", "rewrites.jsonl", ChatRewrite)
    assert len(entries) == sum(rewriting["wanted"].values())
    accepted = Counter(entry.source for entry in entries if entry.answer is not None)
    assert dict(accepted) == rewriting["accepted"]
    assert rewriting["writer"] == "offline generator"
    page = latest(talked, "08_reporting", "report.html").read_text()
    for words in ("Corpus surgery", "Verdicts by stall threshold", "An example of each rule"):
        assert words in page


def test_dpo_goes_on_from_sft_and_the_last_adapter_is_released_with_its_verdict(talked):
    plan = document(talked, "05_model_input", "dpo/plan.json")
    assert plan["job"]["start_from"]["path"].endswith("adapter")
    assert plan["job"]["lora"]["r"] == 16
    released = latest(talked, "06_models", "release/adapter")
    dpo = latest(talked, "06_models", "dpo/adapter")
    weights = "adapter_model.safetensors"
    assert (released / weights).read_bytes() == (dpo / weights).read_bytes()
    serving = json.loads((released / "serving.json").read_text())
    assert serving["output"] == {"compare": "twin"}
    gate = json.loads((released / "gate.json").read_text())
    assert gate["status"] == "judged"
    assert gate == document(talked, "08_reporting", "gate.json")
    console = (talked.path / "console.txt").read_text()
    assert "Report:" in console


def test_an_earlier_release_counts_for_the_same_conversations_only(talked):
    base = document(talked, "06_models", "base.json")
    splits = document(talked, "05_model_input", "splits.json")
    released = talked.path / "data/test/06_models/demo/demo"
    found = resolve_previous_twin(released, base, splits)
    assert found["path"] == str(latest(talked, "06_models", "release/adapter"))
    row = next(iter(splits["rows"]))
    moved = {**splits["rows"][row], "group": "chatgpt:another", "split": "train"}
    other = {**splits, "rows": {**splits["rows"], row: moved}}
    assert resolve_previous_twin(released, base, other)["path"] is None


def manifest(examples: int, pairs: int) -> dict[str, Any]:
    def side(count: int) -> dict[str, int]:
        return {"train": count, "validation": 0, "test": 0, "dropped": 0}

    return {
        **{"method": "strata", "seed": 1, "options": {}, "test_start": None, "dropped": {}},
        **{"counts": {"sft": side(examples), "pair": side(pairs)}, "rows": {}},
    }


def test_too_few_pairs_leave_dpo_out_and_too_few_turns_stop_the_run():
    sft, dpo = SftOptions(min_sft_examples=50), DpoOptions(min_dpo_pairs=20)
    enough = decide_twin(manifest(50, 20), sft, dpo, False)
    assert [enough["stages"][stage]["train"] for stage in ("sft", "dpo")] == [True, True]
    few = decide_twin(manifest(50, 19), sft, dpo, False)
    assert few["method"] == "sft"
    assert few["missing"] == {"pairs": 1}
    assert few["stages"]["sft"]["train"]
    assert not few["stages"]["dpo"]["chosen"]
    assert "19 pairs, at least 20 are needed for DPO" in few["stages"]["dpo"]["reason"]
    assert "50 gold turns reach 50" in few["reason"]
    base = decide_twin(manifest(50, 20), sft, DpoOptions(start_from="base"), False)
    assert not base["stages"]["sft"]["chosen"]
    dry = decide_twin(manifest(50, 20), sft, dpo, True)
    assert [dry["stages"][stage]["train"] for stage in ("sft", "dpo")] == [False, False]
    with pytest.raises(DataError, match="49 gold turns for training, at least 50"):
        decide_twin(manifest(49, 90), sft, dpo, True)


def test_a_dry_run_trains_nothing_and_asks_nobody_who_wants_money(talked):
    result = talked.run(
        "--pipeline=twin", params="name=dry,dry_run=true,llm.provider=anthropic,llm.budget_usd=1"
    )
    assert result.returncode == 0, result.stdout
    where = "demo/dry/twin"
    report = json.loads(talked.latest("08_reporting", "surgery.json", where).read_text())
    assert report["rewriting"]["dry_run"]["requests"] > 20
    assert 0 < report["rewriting"]["dry_run"]["most_usd"] < 5
    assert not (talked.path / "data/test/llm/demo/dry/ledger.jsonl").exists()
    for stage in ("sft", "dpo", "release"):
        folder = talked.latest("06_models", f"{stage}/adapter", where)
        assert [path.name for path in folder.iterdir()] == ["status.json"]
    page = talked.latest("08_reporting", "report.html", where).read_text()
    assert "Nothing was asked" in page


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nobody", None, "there are no conversations"),
        ("broken", '{"id": "a", "messages": [{"role": "user"', "broken/conversations/it.jsonl"),
        ("other", '{"id": "a", "text": "hello"}', "no known layout"),
    ],
)
def test_what_cannot_be_read_is_said(talked, name, content, words):
    folder = talked.path / "data/01_raw" / name / "conversations"
    if content is not None:
        folder.mkdir(parents=True)
        (folder / "it.jsonl").write_text(content + "\n")
    result = talked.run("--pipeline=twin", params=f"tenant={name}")
    assert result.returncode == 1
    told = "".join(result.stdout.split())
    assert words.replace(" ", "") in told
    assert "Traceback" not in result.stdout


def test_notebook_looks_at_the_finished_run(talked, tmp_path):
    target = tmp_path / "executed.ipynb"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"),
            *("--output", str(target), "notebooks/06_twin.ipynb"),
        ],
        cwd=talked.path,
        env={**talked.environment(), "KEDRO_ENV": "test"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads(target.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    drawn = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(drawn) == 4
    printed = "".join("".join(output.get("text", [])) for output in outputs)
    for words in (
        "conversations on more than one side: 0",
        "written by: offline generator",
        "preferred:",
        "EMAIL",
    ):
        assert words in printed, words
