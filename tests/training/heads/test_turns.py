"""Rows as token ids: the turn with as much of its past as fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conversations.builders import SAMPLE
from tests.training.heads.helpers import conversation, point, reference
from tracetune.conversations.coordinates import spoken
from tracetune.conversations.read import read_folder
from tracetune.conversations.trajectory_rows import trajectory_rows
from tracetune.errors import DataError
from tracetune.records.heads import HeadMessage, TrajectoryRow
from tracetune.training.base import BaseModelRef, load_tokenizer
from tracetune.training.heads.turns import TurnReader
from tracetune.training.model_folder import PROBES, template_probes

STRICT = (
    "{% if messages[0]['role'] != 'user' %}{{ raise_exception('the user comes first') }}{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
)

ALTERNATING = """{% if messages[0]['role'] == 'system' %}
{%- set before, rest = messages[0]['content'] + '\n\n', messages[1:] %}
{%- else %}{% set before, rest = '', messages %}{% endif %}
{%- for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles must alternate user/assistant') }}{% endif %}
{{- '<' + m['role'] + '>' + (before if loop.first else '') + m['content'] + '</s>' }}
{%- endfor %}"""
"""Alternation is enforced, and a system turn is part of the user's after it (as in Gemma 3)."""


def with_template(tokenizer: Any, template: str) -> Any:
    import copy

    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def spoken_row(*messages: tuple[str, str]) -> TrajectoryRow:
    return TrajectoryRow(
        messages=[HeadMessage.model_validate({"role": r, "content": c}) for r, c in messages],
        trajectory=point(len(messages) - 1, messages[-1][0]),
        conversation_id="c",
    )


@pytest.fixture(scope="module")
def tokenizer(base: BaseModelRef) -> Any:
    return load_tokenizer(base)


def row(*texts: str) -> TrajectoryRow:
    messages = [
        HeadMessage(role="user" if place % 2 == 0 else "assistant", content=text)
        for place, text in enumerate(texts)
    ]
    return TrajectoryRow(
        messages=messages,
        trajectory=point(len(texts) - 1, messages[-1].role),
        conversation_id="c",
    )


def test_the_past_is_context_and_the_turn_begins_after_it(tokenizer: Any) -> None:
    found = TurnReader(tokenizer, 200).read(row("first words", "second words"))
    past, turn = found.ids[: found.start], found.ids[found.start :]
    assert "first words" in tokenizer.decode(past)
    assert "second words" in tokenizer.decode(turn)
    assert "first" not in tokenizer.decode(turn)
    assert (found.left_out, found.cut) == (0, 0)


def test_neither_start_token_nor_role_are_part_of_the_turn(tokenizer: Any) -> None:
    """The state of a start token is an outlier, and it would stand in first turns alone."""
    alone = TurnReader(tokenizer, 200).read(row("the same words"))
    later = TurnReader(tokenizer, 200).read(row("before", "answer", "the same words"))
    assert tokenizer.bos_token_id in alone.ids[: alone.start]
    assert alone.ids[alone.start :] == later.ids[later.start :]
    assert "user" not in tokenizer.decode(alone.ids[alone.start :])


def test_a_template_that_leaves_no_room_is_named(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="tokens come before its text"):
        TurnReader(tokenizer, 4).read(row("some words"))


def test_whole_messages_are_left_out_oldest_first(tokenizer: Any) -> None:
    texts = [f"message number {place} with some words" for place in range(8)]
    found = TurnReader(tokenizer, 80).read(row(*texts))
    text = tokenizer.decode(found.ids)
    assert 0 < found.left_out < 7
    for place, message in enumerate(texts):
        assert (message in text) == (place >= found.left_out)


def test_a_turn_too_long_alone_is_cut_at_its_end(tokenizer: Any) -> None:
    found = TurnReader(tokenizer, 30).read(row("past", "start " + "and so on " * 50))
    assert len(found.ids) == 30
    assert found.left_out == 1
    assert found.cut > 0
    assert "start" in tokenizer.decode(found.ids)


@settings(max_examples=25)
@given(
    texts=st.lists(st.text(min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=6),
    limit=st.integers(24, 110),
)
def test_what_is_read_always_fits_and_holds_the_turn(
    tokenizer: Any, texts: list[str], limit: int
) -> None:
    given_row = row(*texts)
    found = TurnReader(tokenizer, limit).read(given_row)
    assert 0 <= found.start < len(found.ids) <= limit
    assert 0 <= found.left_out < len(texts)
    if not found.cut:
        turns = [{"role": m.role, "content": m.content} for m in given_row.messages]
        whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
        turn = found.ids[found.start :]
        assert tuple(whole[-len(turn) :]) == turn
        longer = turns[found.left_out - 1 :] if found.left_out else None
        if longer:  # one message more would not have fitted
            ids = tokenizer.apply_chat_template(longer, tokenize=True, return_dict=True)
            assert len(ids["input_ids"]) > limit


def test_a_template_that_wants_the_user_first_gets_it(tokenizer: Any) -> None:
    strict = with_template(tokenizer, STRICT)
    rows, _ = conversation(2, 6)
    room = TurnReader(strict, 200).read(rows[-1])
    assert room.left_out == 0
    limit = len(room.ids) - 3  # the first message does not fit, and the second is the assistant's
    found = TurnReader(strict, limit).read(rows[-1])
    assert (found.left_out, found.as_user) == (2, False)
    alone = TurnReader(strict, 28).read(rows[-1])  # its request does not fit either
    assert (alone.left_out, alone.as_user) == (5, True)
    assert "<user>" in tokenizer.decode(alone.ids[: alone.start])
    assert tokenizer.decode(alone.ids[alone.start :]).startswith(rows[-1].messages[-1].content)
    with pytest.raises(DataError, match="the user comes first") as error:
        TurnReader(strict, 2).read(rows[-1])
    assert "row c2#5" in str(error.value)
    assert "max_length" in str(error.value)


def test_neighbours_of_one_role_are_rendered_as_one(tokenizer: Any) -> None:
    strict = with_template(tokenizer, ALTERNATING)
    messages = [("user", "First."), ("user", "Second."), ("assistant", "Yes."), ("user", "More.")]
    found = TurnReader(strict, 200).read(spoken_row(*messages, ("user", "The last one.")))
    whole = tokenizer.decode(found.ids)
    assert whole.startswith("<user>First.\n\nSecond.</s><assistant>Yes.</s><user>More.\n\n")
    assert tokenizer.decode(found.ids[found.start :]) == "The last one.</s>"
    assert (found.left_out, found.as_user) == (0, False)


def test_turns_that_a_template_takes_in_no_way_are_read_as_the_users(tokenizer: Any) -> None:
    strict = with_template(tokenizer, ALTERNATING)
    reader = TurnReader(strict, 200)
    for messages in (
        [("system", "Be brief.")],  # the template leaves it out
        [("assistant", "Be brief.")],
        [("user", "Hello."), ("assistant", "Yes?"), ("system", "Be brief.")],
    ):
        found = reader.read(spoken_row(*messages))
        assert tokenizer.decode(found.ids) == "<user>Be brief.</s>"
        assert (found.as_user, found.left_out) == (True, len(messages) - 1)
    system = reader.read(spoken_row(("system", "Be brief."), ("user", "Hello.")))
    assert tokenizer.decode(system.ids) == "<user>Be brief.\n\nHello.</s>"
    assert not system.as_user


@pytest.mark.parametrize("template", [STRICT, ALTERNATING])
def test_every_turn_of_the_sample_is_read_by_strict_templates(
    tokenizer: Any, template: str
) -> None:
    reader = TurnReader(with_template(tokenizer, template), 48)
    found = [
        reader.read(turn)
        for talk in read_folder(SAMPLE)
        for turn in trajectory_rows(talk.group, spoken(talk), reference())
    ]
    assert len(found) == 310
    assert 8 <= sum(tokens.as_user for tokens in found) < 310


def test_a_template_that_prints_the_date_gives_the_same_tokens_on_every_day(tokenizer: Any) -> None:
    """Kept states, continued trainings and use would each read something else (Llama 3.2)."""
    dated = with_template(
        tokenizer,
        "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}"
        "{% else %}{% set day = '26 Jul 2024' %}{% endif %}"
        "{% for m in messages %}<{{ m['role'] }} {{ day }}>{{ m['content'] }}</s>{% endfor %}",
    )
    found = TurnReader(dated, 200).read(row("first words"))
    assert tokenizer.decode(found.ids) == "<user 01 Jan 2025>first words</s>"
    assert tokenizer.decode(found.ids[found.start :]) == "first words</s>"
    assert len(set(template_probes(dated).values())) == len(PROBES)
    probes = template_probes(dated)
    dated.chat_template = dated.chat_template.replace("strftime_now(", "('01 Jan 2025' or ")
    assert template_probes(dated) == probes
