"""Cheap baselines."""

from __future__ import annotations

import pytest

from tests.evaluation.conftest import answer_text, example
from tracetune.errors import DataError
from tracetune.evaluation.baselines import MajorityClass, NearestNeighbour, user_text
from tracetune.outputs import OutputSpec
from tracetune.records import Example, Message


def prompt(text: str) -> list[Message]:
    return [Message(role="system", content="s"), Message(role="user", content=text)]


def test_majority_is_the_most_frequent_target(rows: list[Example], output: OutputSpec) -> None:
    more = [*rows, example("what about snow", "weather", 50)]
    answers = MajorityClass(more, output).answers([prompt("anything"), prompt("else")])
    assert [answer.text for answer in answers] == [answer_text("weather")] * 2
    assert answers[0].confidence == pytest.approx(5 / 9)


def test_a_tie_goes_to_the_name_that_sorts_first(rows: list[Example], output: OutputSpec) -> None:
    assert MajorityClass(rows, output).text == answer_text("mail")
    assert MajorityClass(rows[::-1], output).text == answer_text("mail")


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ("will it rain", "weather"),
        ("WILL IT RAIN?", "weather"),
        ("read my mails", "mail"),
        ("raed my mial", "mail"),
    ],
)
def test_nearest_row_answers(
    rows: list[Example], output: OutputSpec, text: str, agent: str
) -> None:
    answer = NearestNeighbour(rows, output).answers([prompt(text)])[0]
    assert answer.text == answer_text(agent)
    assert answer.confidence is None
    assert answer.latency_ms is not None
    assert answer.latency_ms > 0


@pytest.mark.parametrize("text", ["🎈", "東京", "zzz", "x"])
def test_a_prompt_like_no_other_gets_the_majority(
    rows: list[Example], output: OutputSpec, text: str
) -> None:
    weather = [row for row in rows if row.tags["target"] == "weather"]
    train = [rows[-1], *weather]
    answer = NearestNeighbour(train, output).answers([prompt(text)])[0]
    assert answer.text == answer_text("weather")


def test_training_prompts_without_a_letter(output: OutputSpec) -> None:
    train = [example("🎈", "mail", 1), example("?", "weather", 2)]
    assert NearestNeighbour(train, output).answers([prompt("🎈")])[0].text == answer_text("mail")


def test_no_training_rows_is_said(output: OutputSpec) -> None:
    for baseline in (MajorityClass, NearestNeighbour):
        with pytest.raises(DataError, match="no training rows"):
            baseline([], output)


def test_rows_without_a_target_are_said(rows: list[Example]) -> None:
    with pytest.raises(DataError, match="no training row names a target"):
        MajorityClass(rows, OutputSpec(target=("route",), known=("mail",)))


def test_only_user_turns_count() -> None:
    turns = [*prompt("one"), Message(role="assistant", content="x"), *prompt("two")[1:]]
    assert user_text(turns) == "one\ntwo"
