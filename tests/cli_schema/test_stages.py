"""What the nodes of ``cli`` do after SFT: pairs, waiting, judging an answer, earlier models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli_schema.builders import sample
from tests.cli_schema.test_generate import generated
from tracetune.backends.together_options import TogetherOptions
from tracetune.cli_schema.cli_options import CliOptions
from tracetune.cli_schema.objects import answer_text, command_object
from tracetune.cli_schema.rows import make_rows, object_of
from tracetune.evaluation.generate import Answer
from tracetune.files import write_json
from tracetune.pipelines import cli_judgement_stage, cli_preferences_stage, prepare_stage
from tracetune.records import Example
from tracetune.runs import write_skipped
from tracetune.splits import SplitManifest, SplitOptions, assign_by_hash, verify
from tracetune.splits_derived import fitted_groups
from tracetune.training.options import DpoOptions, SftOptions

GH = sample("gh")
CLI = CliOptions()
HERE = {"kind": "embedded"}
FREE = next(place for place in GH.places() if not place.spec.required)
"""A command that needs no argument."""


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    """All generated examples of ``gh``."""
    return make_rows(GH, generated("gh").examples, name="gh", tenant="demo", prompt=CLI.prompt)


@pytest.fixture(scope="module")
def manifest(rows: list[Example]) -> SplitManifest:
    return assign_by_hash(rows, test_share=0.1, options=SplitOptions(), seed=3)


def four_answers(rows: list[Example]) -> list[dict[str, Any]]:
    """To four commands: the right answer, an invalid one, another command, the right one cut."""
    commands = [row for row in rows if row.tags["target"] not in (FREE.label, "clarification")][:4]
    right = [row.completion[0].content for row in commands]
    invalid = answer_text(object_of(commands[1]) | {"flags": ["no-such-flag"]})
    texts = [right[0], invalid, answer_text(command_object(FREE)), right[3][: len(right[3]) // 2]]
    ends = ["stop", "stop", "stop", "length"]
    return [
        {"row": row.id, "text": text, "finish": finish}
        for row, text, finish in zip(commands, texts, ends, strict=True)
    ]


def test_wrong_answers_make_pairs_and_a_cut_one_makes_none(rows, manifest):
    train, validation = manifest.select(rows, "train"), manifest.select(rows, "validation")
    mine, theirs = four_answers(train), four_answers(validation)
    found, report = cli_preferences_stage.pair_answers(
        GH, train, validation, [*mine, *theirs], CLI, 3
    )
    for answers, told in ((mine, report), (theirs, report["validation"])):
        by_row = {pair.provenance.ids["row"]: pair for pair in found}
        right, invalid, different, cut = (by_row.get(answer["row"]) for answer in answers)
        assert cut is None
        assert invalid.tags["rejected"] == "invalid"
        assert different.tags["rejected"] == "different"
        for pair, answer in ((invalid, answers[1]), (different, answers[2])):
            assert pair.rejected[0].content == answer["text"]
        assert right is None or right.tags["rejected"] not in ("not_json", "invalid", "different")
        assert (told["asked"], told["right"], told["cut"]) == (4, 1, 1)

    divided = cli_preferences_stage.divide_pairs(found, manifest.model_dump(mode="json"))
    after = SplitManifest.model_validate(divided)
    verify(after, [*rows, *found])
    held = {answer["row"] for answer in theirs}
    for pair in found:
        wanted = "validation" if pair.provenance.ids["row"] in held else "train"
        assert after.place(pair.id).split == wanted
    assert fitted_groups(after) == fitted_groups(manifest)


@pytest.mark.parametrize(
    ("place", "valid_json", "known", "correct"),
    [
        (0, True, True, True),
        (1, True, False, False),
        (2, True, True, False),
        (3, False, False, False),
    ],
)
def test_an_answer_is_judged_by_what_it_says(rows, manifest, place, valid_json, known, correct):
    test = manifest.select(rows, "test")
    given = four_answers(test)[place]
    row = next(row for row in test if row.id == given["row"])
    answer = Answer(given["text"], tokens=9, confidence=0.5, finish=given["finish"])
    found = cli_judgement_stage.prediction(GH, row, "sft", answer)
    assert (found["valid_json"], found["known"], found["correct"]) == (valid_json, known, correct)
    assert found["finish"] == given["finish"]
    parts = cli_judgement_stage.parts_of(GH, [row], {row.id: given["text"]})["all"]
    assert (parts["json_valid"], parts["schema_valid"], parts["exact"]) == (
        *(float(valid_json), float(known), float(correct)),
    )


def test_dpo_waits_with_an_sft_that_runs_elsewhere(manifest, tmp_path: Path):
    splits = manifest.model_dump(mode="json")
    decision = prepare_stage.decide_cli(splits, SftOptions(), False)
    waiting = write_skipped(tmp_path / "waiting", "job 7 of cli.sft is not done", "waiting")
    found = cli_preferences_stage.decide_pairs(
        decision, splits, waiting, DpoOptions(), HERE, TogetherOptions()
    )
    assert found["method"] == "waiting"
    assert found["stages"]["dpo"] == {
        "chosen": False,
        "train": False,
        "reason": "job 7 of cli.sft is not done",
    }
    assert found["stages"]["sft"] == decision["stages"]["sft"]

    trained = tmp_path / "trained"
    trained.mkdir()
    write_json(trained / "status.json", {"status": "trained"})
    found = cli_preferences_stage.decide_pairs(
        decision, splits, trained, DpoOptions(), HERE, TogetherOptions()
    )
    assert found["stages"]["dpo"]["reason"].startswith("0 pairs, at least")


def test_an_earlier_adapter_counts_only_if_it_was_fitted_to_the_same_groups(
    rows, manifest, tmp_path: Path
):
    folder = tmp_path / "cli/release/adapter/1/adapter"
    folder.mkdir(parents=True)
    base = {"weights_sha256": "a"}
    serving = {"base": base, "output": {"compare": "cli"}, "trained_until": None}
    splits = manifest.model_dump(mode="json")

    def found(**more: str) -> dict[str, Any]:
        (folder / "serving.json").write_text(json.dumps({**serving, **more}))
        return prepare_stage.resolve_previous_cli(tmp_path, base, splits)

    fewer = assign_by_hash(rows[:600], test_share=0.1, options=SplitOptions(), seed=3)
    assert fitted_groups(fewer) != fitted_groups(manifest)
    assert found(fitted_groups=fitted_groups(manifest))["path"] == str(folder)
    for more in ({}, {"fitted_groups": fitted_groups(fewer)}):
        passed = found(**more)
        assert passed["path"] is None
        assert passed["reason"] == (
            "1 were made from other training rows, perhaps from rows that are held out now"
        )
