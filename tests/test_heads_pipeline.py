"""``heads``: from conversations to judged heads on a frozen base, with the real command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.project import EMBEDDED, Project, copy_project
from tracetune.conversations.heads_options import HeadsDataOptions
from tracetune.conversations.heads_sides import divide_answers, side_of_conversations
from tracetune.conversations.patterns import RULES_VERSION, patterns_of
from tracetune.conversations.plain import plain_conversation
from tracetune.conversations.reading import Place
from tracetune.conversations.trajectory_rows import read_rows, tuning_examples
from tracetune.errors import ConfigurationError, DataError
from tracetune.evaluation.answer import answer_once
from tracetune.evaluation.heads_judge import nothing_judged
from tracetune.export.merge import open_release
from tracetune.pipelines.heads_data_stage import VARIANTS, make_turns
from tracetune.pipelines.heads_judgement_stage import release_heads
from tracetune.pipelines.heads_training_stage import (
    HeadsParameters,
    decide_heads,
    phase_1_adapter,
    plan_heads,
)
from tracetune.privacy import PrivacyOptions
from tracetune.records import Conversation, Example
from tracetune.records.heads import PATTERNS, HeadExtra, TrajectoryReference, TrajectoryRow
from tracetune.runs import write_skipped
from tracetune.splits import SplitManifest, verify
from tracetune.training.heads.config import read_config
from tracetune.training.options import SftOptions
from tracetune.twin_style import json_lines, styles, threshold_of, turns_in

pytestmark = pytest.mark.training
WHERE = "demo/demo/heads"


@pytest.fixture(scope="module")
def twin(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which ``heads`` ran to its end in the test environment. Do not change it."""
    project = copy_project(tmp_path_factory.mktemp("heads") / "project", finished.path / EMBEDDED)
    result = project.run("--pipeline=heads")
    (project.path / "console.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stdout
    return project


def latest(project: Project, layer: str, dataset: str) -> Path:
    return project.latest(layer, dataset, WHERE)


def document(project: Project, layer: str, dataset: str) -> Any:
    return json.loads(latest(project, layer, dataset).read_text())


def rows(project: Project, layer: str, dataset: str, record: type) -> list[Any]:
    lines = latest(project, layer, dataset).read_text().splitlines()
    return [record.model_validate_json(line) for line in lines]


def manifest(project: Project) -> SplitManifest:
    return SplitManifest.model_validate(document(project, "05_model_input", "splits.json"))


def test_one_manifest_divides_both_phases_by_conversation(twin):
    examples = rows(twin, "04_feature", "examples.jsonl", Example)
    splits = manifest(twin)
    verify(splits, examples)
    sides = side_of_conversations(splits)
    assert set(sides.values()) == {"train", "validation", "test"}
    fitted = rows(twin, "05_model_input", "sft/train.jsonl", Example)
    assert {sides[row.provenance.group] for row in fitted} == {"train"}
    work = twin.path / "data/test/06_models" / WHERE
    files = ["reference.json", "sidecar.jsonl", "train.jsonl", "validation.jsonl"]
    for variant in VARIANTS:
        folder = work / variant / "work/data"
        assert sorted(path.name for path in folder.iterdir()) == files
        for side in ("train", "validation"):
            found = {row.conversation_id for row in read_rows(folder / f"{side}.jsonl")}
            assert {sides[name] for name in found} == {side}
        known = [json.loads(line) for line in (folder / "sidecar.jsonl").open()]
        assert "test" not in {sides[extra["conversation_id"]] for extra in known}


def test_both_variants_hold_the_same_turns_and_differ_in_place_alone(twin):
    causal, full = (
        rows(twin, "04_feature", f"{variant}/turns.jsonl", TrajectoryRow) for variant in VARIANTS
    )
    assert [row.row_id for row in causal] == [row.row_id for row in full]
    assert [row.messages for row in causal] == [row.messages for row in full]
    assert len(causal) == 310
    for one, other in zip(causal, full, strict=True):
        for k in (1, 2, 4):  # sibling order, homogeneity, complexity
            assert one.trajectory.coordinates[k] == other.trajectory.coordinates[k]
    last = {row.conversation_id: row for row in full}
    assert {row.trajectory.coordinates[0] for row in last.values()} <= {0.0, 1.0}
    assert "tool" not in {message.role for row in causal for message in row.messages}


def test_both_variants_read_the_same_kept_states(twin):
    work = twin.path / "data/test/06_models" / WHERE
    kept = [path.parent for path in work.rglob("states-*.safetensors")]
    assert {path.parent for path in kept} == {work / "phase_2/work/hidden"}
    assert len(set(kept)) == 1


def test_references_are_of_the_training_conversations_and_stand_in_the_heads(twin):
    sides = side_of_conversations(manifest(twin))
    for variant in VARIANTS:
        reference = TrajectoryReference.model_validate(
            document(twin, "04_feature", f"{variant}/reference.json")
        )
        assert reference.variant == variant
        assert reference.conversations == list(sides.values()).count("train")
        assert reference.pattern_rules == RULES_VERSION
        folder = latest(twin, "06_models", f"{variant}/adapter")
        assert read_config(folder).reference == reference


def test_labels_are_those_of_the_frozen_rules(twin):
    turns = rows(twin, "04_feature", "causal/turns.jsonl", TrajectoryRow)
    extras = rows(twin, "04_feature", "causal/sidecar.jsonl", HeadExtra)
    for row, extra in zip(turns, extras, strict=True):
        assert extra.patterns == patterns_of(row.messages[-1].content)
    corpus = document(twin, "08_reporting", "corpus.json")
    total = sum(side["directive"] for side in corpus["support"].values())
    assert total == sum(extra.patterns[0] for extra in extras)
    assert corpus["style_by"] == "conversation"
    assert corpus["calls_of_tools"] == 4


def test_every_head_stands_beside_its_baselines_with_intervals(twin):
    metrics = document(twin, "08_reporting", "metrics.json")
    sides = list(side_of_conversations(manifest(twin)).values())
    assert metrics["conversations"] == sides.count("test")
    ours = {"causal", "off", "shuffled", "full"}
    assert set(metrics["patterns"]["models"]) == ours | {
        *("constant", "mean_embedding", "coordinates")
    }
    assert set(metrics["style"]["models"]) == ours | {"chance", "mean_embedding"}
    assert set(metrics["planning"]["models"]) == ours | {"mean_by_role", "same_turn"}
    for head, measure in (("patterns", "micro"), ("style", "recall_1"), ("planning", "cosine")):
        for value in metrics[head]["models"].values():
            found = value[measure]
            assert found["low"] <= found["mean"] <= found["high"]
        assert set(metrics[head]["against"]) == set(metrics[head]["models"]) - {"causal"}
        assert metrics["verdicts"][head].startswith("It ")
    assert sum(phase["n"] for phase in metrics["gates"].values()) == metrics["n"]
    assert isinstance(metrics["style"]["spread"]["causal"]["constant"], bool)


def test_the_figures_can_be_counted_again_from_the_predictions(twin):
    found = pd.read_parquet(latest(twin, "07_model_output", "predictions.parquet"))
    metrics = document(twin, "08_reporting", "metrics.json")
    truth = found[found["model"] == "rules"].set_index("row_id")[list(PATTERNS)]
    assert len(truth) == metrics["n"]
    chances = found[found["model"] == "causal"].set_index("row_id").loc[truth.index]
    brier = float(((chances[list(PATTERNS)] - truth) ** 2).to_numpy().mean())
    stated = metrics["patterns"]["calibration"]["causal"]["brier"]["mean"]
    assert brier == pytest.approx(stated, abs=1e-6)
    off = found[found["model"] == "off"]
    assert (off["gate"] == 0).all()


def test_released_heads_carry_base_phase_1_and_verdict(twin):
    folder = latest(twin, "06_models", "release/adapter")
    serving = json.loads((folder / "serving.json").read_text())
    assert serving["output"] == {"compare": "heads"}
    assert json.loads((folder / "gate.json").read_text())["status"] == "judged"
    config = read_config(folder)
    assert config.variant == "causal"
    phase_1 = latest(twin, "06_models", "sft/adapter")
    assert (folder / "adapter/adapter_model.safetensors").read_bytes() == (
        phase_1 / "adapter_model.safetensors"
    ).read_bytes()
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_heads_are_no_language_model(twin):
    folder = latest(twin, "06_models", "release/adapter")
    with pytest.raises(DataError, match="this model answers nothing"):
        answer_once(folder, "Hello")
    with pytest.raises(ConfigurationError, match="heads on a frozen base"):
        open_release(folder)


def test_the_page_and_the_last_lines_say_what_was_found(twin):
    page = latest(twin, "08_reporting", "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", page.partition("<script>")[0])
    for words in (
        "Patterns head",
        "Style head",
        "Planning head",
        "Patterns one by one",
        "best constant answer",
        "shuffled coordinates",
        "What the figures do not show",
        "medians of",
        RULES_VERSION,
    ):
        assert words in text, words
    tuned = document(twin, "08_reporting", "corpus.json")["turns"]["validation"]
    assert f"on {tuned} validation turns" in " ".join(text.split())
    for figure in ("heads", "confusion", "style_map", "gates", "calibration", "losses"):
        assert f'id="figure-{figure}"' in page, figure
    printed = " ".join((twin.path / "console.txt").read_text().split())
    assert "more than best constant answer" in printed
    assert "75 conversations" in printed


def test_a_dry_run_says_what_it_would_take_and_trains_nothing(twin, tmp_path):
    other = copy_project(tmp_path / "dry", twin.path / EMBEDDED)
    result = other.run("--pipeline=heads", params="dry_run=true")
    assert result.returncode == 0, result.stdout
    printed = " ".join(result.stdout.split())
    assert "Heads (causal) would take about" in printed
    assert "Not judged: dry run" in printed
    released = latest(other, "06_models", "release/adapter")
    status = json.loads((released / "status.json").read_text())
    assert status["status"] == "skipped"


def test_the_command_names_patterns_and_alike_conversations(twin, tmp_path):
    file = tmp_path / "talk.jsonl"
    talks = [
        {"id": "one", "messages": [{"role": "user", "content": "Write a plan"}]},
        {"id": "two", "messages": [{"role": "user", "content": "It fails. Fix it"}]},
    ]
    file.write_text("\n".join(json.dumps(talk) for talk in talks))
    result = twin.kedro("twin", "style", str(file), "--env=test")
    assert result.returncode == 0, result.stdout
    assert re.search(r"internal:one#0 +user +opening", result.stdout)
    assert "internal:one is nearest to internal:two" in result.stdout


def test_the_same_from_python_and_in_document_001s_form(twin, tmp_path):
    heads = latest(twin, "06_models", "release/adapter")
    sample = twin.path / "data/01_raw/demo/conversations/plain/notes.jsonl"
    turns = turns_in(sample, read_config(heads).reference, PrivacyOptions())
    found = styles(heads, turns[:3], variant="causal")
    assert [turn.row_id for turn in found] == [row.row_id for row in turns[:3]]
    assert sum(number**2 for number in found[0].style_signature) == pytest.approx(1, abs=1e-4)
    assert set(found[0].patterns) == set(PATTERNS)
    assert len(found[0].ends_within) == 8
    again = tmp_path / "rows.jsonl"
    again.write_text("".join(row.model_dump_json() + "\n" for row in turns[:3]))
    made = read_config(heads).reference
    assert turns_in(again, made, PrivacyOptions(), variant="causal") == turns[:3]
    result = twin.kedro("twin", "style", str(again), "--env=test", "--variant=full")
    assert result.returncode != 0
    assert "trained on 'causal'" in " ".join(result.stdout.split())
    assert json.loads(json_lines(found)[0])["row_id"] == found[0].row_id
    assert styles(heads, turns[:3], variant="causal") == found
    with pytest.raises(ConfigurationError, match="trained on 'causal'"):
        styles(heads, turns[:3], variant="full")


def test_files_that_cannot_be_read_are_told(twin, tmp_path):
    reference = read_config(latest(twin, "06_models", "release/adapter")).reference
    with pytest.raises(DataError, match="no such file"):
        turns_in(tmp_path / "none.jsonl", reference, PrivacyOptions())
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"id": "a", "messages": []}\n')
    with pytest.raises(DataError, match="no turn"):
        turns_in(empty, reference, PrivacyOptions())


def test_notebook_looks_at_the_finished_run(twin, tmp_path):
    target = tmp_path / "executed.ipynb"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"),
            *("--output", str(target), "notebooks/07_heads.ipynb"),
        ],
        cwd=twin.path,
        env={**twin.environment(), "KEDRO_ENV": "test"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads(target.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    drawn = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(drawn) == 6
    printed = "".join("".join(output.get("text", [])) for output in outputs)
    for words in ("conversations on two sides: 0", "patterns: It", "style: It", "planning: It"):
        assert words in printed, words


# --- decisions, without a run -------------------------------------------------------------


def talk(number: int, *said: str, **names: str) -> Conversation:
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)
    ]
    for message in messages:
        if message["role"] in names:
            message["name"] = names[message["role"]]
    found = plain_conversation({"id": f"c{number}", "messages": messages}, Place("built"))
    assert found is not None
    return found


def many(count: int = 24, people: tuple[str, ...] = ()) -> list[Conversation]:
    return [
        talk(
            n,
            f"Question {n} about {' '.join(f'w{n}x{k}' for k in range(8))}",
            f"Answer {n}",
            f"And then {n}?",
            **({"user": people[n % len(people)]} if people else {}),
        )
        for n in range(count)
    ]


def divided(talks: list[Conversation]) -> dict[str, Any]:
    examples = [row for t in talks for row in tuning_examples(t, tenant="t", history_chars=999)]
    return divide_answers(examples, options=HeadsDataOptions(), seed=1).model_dump(mode="json")


def test_styles_are_told_apart_by_author_where_there_are_two():
    for people, expected in ((("Ada", "Ben"), 3), ((), 24)):
        talks = many(people=people)
        _, extras, _ = make_turns(talks, divided(talks), HeadsDataOptions(), variant="causal")
        assert len({extra.style_group for extra in extras}) == expected


def test_a_system_turn_makes_no_second_author():
    talks = many(people=("Ada",))
    for place, found in enumerate(talks):
        first, *rest = found.turns
        system = first.model_copy(
            update={"id": "s", "role": "system", "name": None, "content": "Be brief."}
        )
        turns = [system, first.model_copy(update={"parent": "s"}), *rest]
        talks[place] = found.model_copy(update={"turns": turns})
    _, extras, _ = make_turns(talks, divided(talks), HeadsDataOptions(), variant="causal")
    assert "system" in {extra.role for extra in extras}
    assert len({extra.author for extra in extras}) == 3  # Ada, the assistant, who wrote the system
    assert all(extra.style_group == extra.conversation_id for extra in extras)


def test_conversations_nobody_answered_are_left_out():
    talks = [*many(), talk(99, "Is anybody there?")]
    turns, _, _ = make_turns(talks, divided(talks), HeadsDataOptions(), variant="full")
    assert "internal:c99" not in {row.conversation_id for row in turns}
    with pytest.raises(DataError, match="no conversation has a request with an answer"):
        divide_answers([], options=HeadsDataOptions(), seed=1)


def test_near_duplicates_stay_together():
    talks = [
        *many(),
        *[talk(100 + n, "Plan the same long week for me again", "Ok") for n in range(6)],
    ]
    sides = side_of_conversations(SplitManifest.model_validate(divided(talks)))
    assert len({sides[f"internal:c{100 + n}"] for n in range(6)}) == 1


def test_the_decision_names_phase_1_or_stops(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    splits = divided(many())
    sft = SftOptions.model_validate({"min_sft_examples": 5})
    decision = decide_heads(splits, HeadsParameters(), sft, False)
    assert {name for name, stage in decision["stages"].items() if stage["train"]} == {
        *("sft", "causal", "full")
    }
    given = decide_heads(splits, HeadsParameters(base=str(tmp_path)), sft, False)
    assert not given["stages"]["sft"]["chosen"]
    assert given["stages"]["causal"]["train"]
    assert f"phase 1 is {tmp_path}" in given["reason"]
    with pytest.raises(ConfigurationError, match="no adapter in 'nowhere'"):
        decide_heads(splits, HeadsParameters(base="nowhere"), sft, False)
    dry = decide_heads(splits, HeadsParameters(), sft, True)
    assert not any(stage["train"] for stage in dry["stages"].values())
    with pytest.raises(DataError, match="answers for phase 1, at least 500"):
        decide_heads(splits, HeadsParameters(), SftOptions(min_sft_examples=500), False)


def test_phase_1_is_the_named_adapter_else_that_of_this_run(tmp_path):
    skipped = write_skipped(tmp_path / "skipped", "dry run")
    assert phase_1_adapter(skipped, None) is None
    with pytest.raises(ConfigurationError, match="no adapter in"):
        phase_1_adapter(skipped, str(tmp_path / "nothing"))
    folder = tmp_path / "job/adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    for given in (folder, folder.parent):
        assert phase_1_adapter(skipped, str(given)) == folder.resolve()


def test_heads_are_released_without_a_threshold_if_nothing_was_judged(tmp_path):
    trained = tmp_path / "causal"
    trained.mkdir()
    (trained / "status.json").write_text('{"status": "trained", "job_hash": "x"}')
    metrics, gate = nothing_judged("no turn was held out")
    folder = release_heads(
        trained, {}, divided(many()), metrics, gate.model_dump(mode="json"), tmp_path
    )
    assert json.loads((folder / "serving.json").read_text())["pattern_threshold"] is None
    assert json.loads((folder / "gate.json").read_text())["verdict"] == gate.verdict
    assert threshold_of(folder) == 0.5


def test_heads_wait_for_a_phase_1_that_runs_elsewhere(tmp_path):
    waiting = write_skipped(tmp_path / "waiting", "job ft-1 is not done", "waiting")
    decision = {"dry_run": False, "stages": {"causal": {"train": True, "reason": ""}}}
    plan = plan_heads(
        [], [], {}, {}, {}, waiting, {}, decision, HeadsParameters(), 0, tmp_path, variant="causal"
    )
    assert (plan["train"], plan["status"]) == (False, "waiting")
    assert "ft-1" in plan["reason"]
