"""Metrics of small tables worked out by hand, and of a realistic one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation import fakes
from tests.evaluation.fakes import prediction
from tracetune.errors import DataError
from tracetune.evaluation import metrics
from tracetune.evaluation.options import EvaluationOptions
from tracetune.evaluation.tables import ANSWERS, frame

OPTIONS = EvaluationOptions(bootstrap=200)
A, B = "weather_agent", "search_agent"


def answer(agent: str) -> str:
    return json.dumps({"agent": agent})


@pytest.fixture(scope="module")
def judged() -> dict[str, Any]:
    return metrics.compute(fakes.many(), fakes.rewards(), adapter="dpo", options=OPTIONS)


def test_rates_by_hand() -> None:
    texts = [answer(A), answer(B), answer("cook"), "{}", "no idea"]
    rows = [
        prediction(n, "base", A, text, confidence=0.5, latency=float(n))
        for n, text in enumerate(texts)
    ]
    rows[0]["finish"], rows[1]["finish"] = "length", "too_long"
    found = metrics.model_metrics(rows)
    assert (found["n"], found["correct"], found["accuracy"]) == (5, 1, 0.2)
    assert found["valid_json_rate"] == 0.8
    assert found["unparsable_rate"] == 0.4
    assert found["impossible_rate"] == 0.2
    assert (found["cut_rate"], found["too_long_rate"]) == (0.2, 0.2)
    assert found["confidence_gap"] == pytest.approx(0.3)
    assert (found["latency_n"], found["latency_p50_ms"]) == (5, 2.0)
    assert found["latency_p95_ms"] == pytest.approx(3.8)


def test_comparison_by_hand() -> None:
    """8 rows: 6 won, 0 lost, 1 both right, 1 both wrong."""
    ours = [prediction(n, "dpo", A, answer(A if n < 7 else B)) for n in range(8)]
    theirs = [prediction(n, "base", A, answer(A if n == 6 else B)) for n in range(8)]
    found = metrics.comparison(ours, theirs, OPTIONS)
    assert (found["wins"], found["losses"], found["difference"]) == (6, 0, 0.75)
    assert found["p"] == 0.03125
    assert found["difference_low"] <= 0.75 <= found["difference_high"]
    assert found["smallest_effect"] == 0.75
    back = metrics.comparison(theirs, ours, OPTIONS)
    assert (back["wins"], back["losses"], back["p"]) == (0, 6, 0.03125)


def test_too_few_rows_cannot_show_anything() -> None:
    assert metrics.smallest_effect(5, 0.05) is None
    assert metrics.smallest_effect(120, 0.05) == 0.05


def test_slices_cover_every_row_and_flag_small_ones(judged: dict[str, Any]) -> None:
    assert sum(part["n"] for part in judged["slices"]) == judged["n"] == 112
    assert [part["n"] for part in judged["slices"]] == sorted(
        (part["n"] for part in judged["slices"]), reverse=True
    )
    assert all(part["small"] == (part["n"] < 10) for part in judged["slices"])
    for model, found in judged["models"].items():
        assert sum(part["correct"][model] for part in judged["slices"]) == found["correct"]


def test_examples_are_what_they_are_called(judged: dict[str, Any]) -> None:
    kinds = judged["examples"]
    assert all(len(rows) <= OPTIONS.examples for rows in kinds.values())
    for row in kinds["wins"]:
        assert row["answers"]["dpo"] == row["target"] != row["answers"]["base"]
    for row in kinds["losses"]:
        assert row["answers"]["base"] == row["target"] != row["answers"]["dpo"]
    for row in kinds["nearest_better"]:
        assert row["answers"]["nearest"] == row["target"] != row["answers"]["dpo"]
    assert len({row["target"] for row in kinds["wins"]}) == OPTIONS.examples


def test_rewards(judged: dict[str, Any]) -> None:
    found = judged["rewards"]
    rows = fakes.rewards()
    assert found["n"] == len(rows) == 28
    assert found["accuracy"] == pytest.approx(
        sum(row["chosen_reward"] > row["rejected_reward"] for row in rows) / 28
    )
    assert found["margin"] == pytest.approx(found["chosen_reward"] - found["rejected_reward"])
    assert metrics.reward_metrics([], OPTIONS) is None


def test_metrics_are_strict_json_and_the_same_twice(judged: dict[str, Any]) -> None:
    text = json.dumps(judged, allow_nan=False, sort_keys=True)
    again = metrics.compute(fakes.many(), fakes.rewards(), adapter="dpo", options=OPTIONS)
    assert json.dumps(again, allow_nan=False, sort_keys=True) == text


def test_order_of_the_table_does_not_matter(judged: dict[str, Any]) -> None:
    shuffled = fakes.many().sample(frac=1, random_state=3)
    again = metrics.compute(shuffled, fakes.rewards(), adapter="dpo", options=OPTIONS)
    assert again["models"].keys() == judged["models"].keys()
    assert again["comparisons"]["base"] == judged["comparisons"]["base"]
    assert again["slices"] == [
        {**part, "correct": dict(part["correct"]), "accuracy": dict(part["accuracy"])}
        for part in judged["slices"]
    ]


def test_the_table_survives_parquet(tmp_path: Any) -> None:
    import pandas as pd

    table = fakes.many()
    assert list(table.columns) == list(ANSWERS)
    table.to_parquet(tmp_path / "p.parquet")
    loaded = pd.read_parquet(tmp_path / "p.parquet")
    assert metrics.records(loaded) == metrics.records(table)
    assert metrics.compute(loaded, [], adapter="dpo", options=OPTIONS) == metrics.compute(
        table, [], adapter="dpo", options=OPTIONS
    )


def test_empty_table_has_the_columns() -> None:
    assert list(frame([]).columns) == list(ANSWERS)
    assert len(frame([])) == 0


def test_models_must_have_answered_the_same_rows() -> None:
    rows = [prediction(0, "base", A, answer(A)), prediction(1, "dpo", A, answer(A))]
    with pytest.raises(DataError, match="same rows"):
        metrics.compute(frame(rows), [], adapter="dpo", options=OPTIONS)
    twice = [prediction(0, "base", A, answer(A))] * 2
    with pytest.raises(DataError, match="twice"):
        metrics.compute(frame(twice), [], adapter="base", options=OPTIONS)
    with pytest.raises(DataError, match="no answers of 'dpo'"):
        metrics.compute(
            frame([prediction(0, "base", A, answer(A))]), [], adapter="dpo", options=OPTIONS
        )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(), st.text(), st.none() | st.floats(min_value=0, max_value=1)),
        min_size=1,
        max_size=12,
    )
)
def test_any_answers_can_be_judged(answers: list[tuple[str, str, float | None]]) -> None:
    rows = []
    for number, (base, ours, confidence) in enumerate(answers):
        for model, text in (("base", base), ("dpo", ours)):
            clean = text.encode("utf-8", "replace").decode("utf-8")
            rows.append(prediction(number, model, A, clean, confidence=confidence))
    found = metrics.compute(frame(rows), [], adapter="dpo", options=OPTIONS)
    json.dumps(found, allow_nan=False)
    assert found["n"] == len(answers)
