"""Document 001's record: exactly its fields, JSONL in and out, clear errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.conversations.builders import SAMPLE, conversation
from tracetune.conversations.coordinates import measure, spoken
from tracetune.conversations.plain import plain_conversation
from tracetune.conversations.read import read_folder
from tracetune.conversations.reading import Place
from tracetune.conversations.trajectory_rows import (
    check_extras,
    head_extras,
    people,
    read_rows,
    trajectory_rows,
    tuning_examples,
    write_rows,
)
from tracetune.errors import DataError
from tracetune.records.heads import (
    NEXT_TURNS,
    PATTERNS,
    HeadExtra,
    HeadMessage,
    TrajectoryPoint,
    TrajectoryRow,
)

DOCUMENT = {
    "messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}],
    "trajectory": {
        "coordinates": [0.5, 0.33, 0.75, 0.5, 0.6],
        "phase_id": 2,
        "homogeneity": 0.75,
        "turn_index": 5,
    },
    "conversation_id": "uuid",
}
"""The example of document 001."""

unit = st.floats(0, 1)
message = st.builds(
    HeadMessage,
    role=st.sampled_from(["system", "user", "assistant"]),
    content=st.text(min_size=1, max_size=40).filter(
        lambda text: text.strip() and text.isprintable()
    ),
)


@st.composite
def rows(draw):
    numbers = draw(st.lists(unit, min_size=5, max_size=5))
    point = TrajectoryPoint(
        coordinates=numbers,
        phase_id=draw(st.integers(0, 5)),
        homogeneity=numbers[2],
        turn_index=draw(st.integers(0, 10**6)),
    )
    return TrajectoryRow(
        messages=draw(st.lists(message, min_size=1, max_size=4)),
        trajectory=point,
        conversation_id=draw(st.text(min_size=1, max_size=20).filter(str.isprintable)),
    )


def reference(talks, variant="causal"):
    return measure(talks, variant=variant, sibling_order="role", pattern_rules="x")


def test_the_documents_example_is_a_row_and_nothing_more_is_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(DOCUMENT) + "\n", encoding="utf-8")
    (row,) = read_rows(path)
    write_rows(path, [row])
    assert json.loads(path.read_text(encoding="utf-8")) == DOCUMENT


@given(st.lists(rows(), max_size=4))
def test_rows_come_back_as_they_were(tmp_path_factory, given_rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, given_rows)
    assert read_rows(path) == given_rows


def changed(**fields):
    value = json.loads(json.dumps(DOCUMENT))
    for name, new in fields.items():
        place, _, key = name.rpartition("__")
        (value[place] if place else value)[key] = new
    return value


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        (changed(trajectory__coordinates=[0.5] * 4), "coordinates", "at least 5"),
        (changed(trajectory__coordinates=[0.5] * 6), "coordinates", "at most 5"),
        (changed(trajectory__coordinates=[1.1, 0, 0.75, 0, 0]), "coordinates.0", "less than"),
        (changed(trajectory__coordinates=[-0.1, 0, 0.75, 0, 0]), "coordinates.0", "greater"),
        (changed(trajectory__phase_id=6), "phase_id", "less than"),
        (changed(trajectory__phase_id=2.5), "phase_id", "integer"),
        (changed(trajectory__homogeneity=0.5), "trajectory", "both are the same number"),
        (changed(trajectory__turn_index=-1), "turn_index", "greater"),
        (changed(messages=[]), "messages", "at least 1"),
        (changed(messages=[{"role": "tool", "content": "x"}]), "messages.0.role", "assistant"),
        (changed(messages=[{"role": "user", "content": " "}]), "messages.0", "blank"),
        (changed(trajectory=None), "trajectory", "object"),
        (changed(conversation_id=""), "conversation_id", "at least 1"),
        (changed(author="x"), "author", "not permitted"),
        ({"messages": DOCUMENT["messages"]}, "trajectory", "required"),
        (changed(trajectory__coordinates="abc"), "coordinates", "array"),
    ],
)
def test_a_wrong_record_is_told_with_file_line_and_field(tmp_path, value, field, reason):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(DOCUMENT)}\n\n{json.dumps(value)}\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_rows(path)
    text = str(raised.value)
    assert f"{path}, line 3" in text
    assert field in text
    assert reason in text


def test_not_a_number_is_no_coordinate(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(changed(trajectory__coordinates=[float("nan")] * 5)), "utf-8")
    with pytest.raises(DataError, match="line 1"):
        read_rows(path)


def test_every_turn_of_the_sample_is_a_row_with_its_targets():
    talks = {c.group: (c, spoken(c)) for c in read_folder(SAMPLE)}
    ref = reference([turns for _, turns in talks.values()])
    assert ref.turns == 4
    for group, (source, turns) in talks.items():
        made = trajectory_rows(group, turns, ref)
        extras = head_extras(group, turns, ref, source=source.provider, by_author=False)
        check_extras(made, extras)
        assert [row.messages[-1].content for row in made] == [turn.content for turn in turns]
        assert [len(row.messages) for row in made] == list(range(1, len(turns) + 1))
        for place, extra in enumerate(extras):
            rest = len(turns) - place - 1
            assert extra.next_rows == [row.row_id for row in made[place + 1 :]][:NEXT_TURNS]
            assert len(extra.next_rows) == min(rest, NEXT_TURNS)
            assert extra.style_group == group
            assert len(extra.patterns) == len(PATTERNS)


def test_a_plan_ends_with_the_conversation_and_after_eight_turns():
    said = conversation(*[f"turn {n}" for n in range(12)])
    turns = spoken(said)
    extras = head_extras(said.group, turns, reference([turns]), source="internal", by_author=False)
    assert [len(extra.next_rows) for extra in extras] == [8, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_two_people_are_told_apart_without_their_names():
    messages = [
        {"role": "user", "content": "one", "name": "Ada"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three", "name": "Ben"},
    ]
    said = plain_conversation({"id": "x", "messages": messages}, Place("built"))
    turns = spoken(said)
    assert len(people([turns])) == 2
    extras = head_extras("x", turns, reference([turns]), source="internal", by_author=True)
    assert len({extra.style_group for extra in extras}) == 3
    assert "Ada" not in str(extras)


def test_an_extra_that_does_not_belong_is_refused():
    said = conversation("one", "two")
    turns = spoken(said)
    ref = reference([turns])
    made = trajectory_rows(said.group, turns, ref)
    extras = head_extras(said.group, turns, ref, source="internal", by_author=False)
    with pytest.raises(DataError, match="no extra with the id"):
        check_extras(made, extras[:1])
    with pytest.raises(DataError, match="no row with the id"):
        check_extras(made[:1], extras)
    with pytest.raises(DataError, match="stands twice"):
        check_extras(made, [*extras, extras[0]])
    wrong = extras[0].model_dump(mode="json") | {"next_rows": ["other#1"]}
    with pytest.raises(ValidationError, match="turns that follow"):
        HeadExtra.model_validate(wrong)


def test_phase_one_is_trained_on_every_answer_as_it_stands():
    said = conversation("Write a plan", "Would you like one?", "yes", "Here.", "thanks")
    rows = tuning_examples(said, tenant="demo", history_chars=1000)
    assert [row.completion[-1].content for row in rows] == ["Would you like one?", "Here."]
    assert [message.role for message in rows[1].prompt] == ["user", "assistant", "user"]
    assert {row.provenance.group for row in rows} == {said.group}
