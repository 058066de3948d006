"""Prediction and judgement through a real tiny model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import Tiny, example, preference
from tracetune.errors import DataError
from tracetune.evaluation.judge import (
    Predictions,
    RewardSpec,
    judge,
    no_predictions,
    predict,
    spread,
)
from tracetune.evaluation.options import EvaluationOptions
from tracetune.evaluation.tables import ANSWERS
from tracetune.outputs import OutputSpec
from tracetune.records import Example

PAIRS = [preference("will it rain", "weather", "mail", 1), preference("mail", "mail", "x", 2)]
REWARDS = RewardSpec(policy="dpo", reference="sft", beta=0.1)


def run(tiny: Tiny, rows: list[Example], output: OutputSpec, **more: Any) -> Predictions:
    return predict(
        **{
            "base": tiny.base,
            "adapters": tiny.adapters,
            "train": rows,
            "test": rows,
            "pairs": PAIRS,
            "rewards": REWARDS,
            "output": output,
            "options": EvaluationOptions(max_new_tokens=24, latency_rows=2, bootstrap=200),
            **more,
        }
    )


@pytest.fixture(scope="module")
def predictions(tiny: Tiny, rows: list[Example], output: OutputSpec) -> Predictions:
    return run(tiny, rows, output)


def test_every_model_answers_every_row(predictions: Predictions, rows: list[Example]) -> None:
    table = predictions.answers
    assert list(table.columns) == list(ANSWERS)
    assert table.groupby("model").size().to_dict() == {
        model: len(rows) for model in ("base", "sft", "dpo", "majority", "nearest")
    }
    assert set(table["target"]) == {"mail", "weather"}
    assert not table["prompt"].str.contains("Answer with the agent").any()
    measured = table[table["model"] == "dpo"]["latency_ms"].notna().sum()
    assert measured == 2
    assert [row["row_id"] for row in predictions.rewards] == [pair.id for pair in PAIRS]


def test_the_nearest_neighbour_knows_its_own_rows(predictions: Predictions) -> None:
    table = predictions.answers
    assert table[table["model"] == "nearest"]["correct"].all()


def test_judgement(predictions: Predictions, options: EvaluationOptions) -> None:
    found = judge(predictions, adapter="dpo", options=options)
    json.dumps(found.metrics, allow_nan=False)
    json.dumps(found.gate.model_dump(mode="json"), allow_nan=False)
    assert found.metrics["comparisons"].keys() == {"base", "sft", "majority", "nearest"}
    assert found.gate.status == "judged"
    assert found.metrics["rewards"]["n"] == 2


def test_predictions_are_the_same_twice_but_for_latency(
    predictions: Predictions, tiny: Tiny, rows: list[Example], output: OutputSpec
) -> None:
    again = run(tiny, rows, output)
    first = predictions.answers.drop(columns="latency_ms")
    assert again.answers.drop(columns="latency_ms").equals(first)
    assert again.rewards == predictions.rewards


@pytest.mark.parametrize("empty", ["test", "adapters"])
def test_nothing_to_judge_is_no_crash(
    tiny: Tiny,
    rows: list[Example],
    output: OutputSpec,
    options: EvaluationOptions,
    empty: str,
) -> None:
    found = run(tiny, rows, output, **{empty: {} if empty == "adapters" else []})
    assert len(found.answers) == 0
    gate = judge(found, adapter="dpo" if empty == "test" else None, options=options).gate
    assert gate.status == "unjudged"
    assert (
        gate.verdict
        == {
            "test": "Not judged: the test window has no row.",
            "adapters": "Not judged: no adapter was trained.",
        }[empty]
    )


def test_the_callers_reason_is_kept(options: EvaluationOptions) -> None:
    found = judge(no_predictions(), adapter=None, options=options, reason="this is a dry run")
    assert found.metrics["reason"] == "this is a dry run"
    assert found.gate.verdict == "Not judged: this is a dry run."


def test_a_row_without_a_target_is_named(
    tiny: Tiny, rows: list[Example], output: OutputSpec
) -> None:
    other = output.model_copy(update={"target": ("route",)})
    with pytest.raises(DataError, match=rows[0].id):
        run(tiny, rows, other)


def test_an_adapter_of_other_weights_is_refused(
    tiny: Tiny, rows: list[Example], output: OutputSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "dpo"
    shutil.copytree(tiny.adapters["dpo"], folder)
    (folder / "manifest.json").write_text(
        json.dumps({"base": {"weights_sha256": "a" * 64}}), encoding="utf-8"
    )
    adapters = {**tiny.adapters, "dpo": folder}
    run(tiny, rows[:1], output, adapters=adapters, weights_sha256="a" * 64)
    with pytest.raises(DataError, match="other base weights"):
        run(tiny, rows[:1], output, adapters=adapters, weights_sha256="b" * 64)


def test_baselines_never_see_held_out_rows(tiny: Tiny, output: OutputSpec) -> None:
    """The same test row asked after training on others: its own answer is not found."""
    train = [example("read my mail", "mail", 1), example("send a letter", "mail", 2)]
    test = [example("will it rain in May", "weather", 3)]
    table = run(tiny, train, output, test=test, rewards=None, pairs=[]).answers
    cheap = table[table["model"].isin(["majority", "nearest"])]
    assert set(cheap["answer"]) == {"mail"}


@pytest.mark.parametrize(
    ("n", "count", "expected"),
    [(10, 5, [0, 2, 4, 6, 8]), (3, 5, [0, 1, 2]), (0, 5, []), (4, 0, [])],
)
def test_spread(n: int, count: int, expected: list[int]) -> None:
    assert spread(n, count) == expected


def test_reward_spec_is_plain() -> None:
    assert replace(REWARDS, reference="base").reference == "base"
