"""The offline generator: same seed, same text; nothing twice; errors that say what is wrong."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.errors import ConfigurationError
from tracetune.llm import Grammar, TextRequest
from tracetune.llm.offline import LABEL, OfflineWriter, expand
from tracetune.llm.recombine import frames, kind_of, requests_of, take_apart, tidy

SCHEMA = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "object"}}},
    "required": ["items"],
}
GRAMMAR = Grammar(
    items=[{"request": "{way} {city} on {day}", "city": "{city}", "other": "{city#2}"}],
    rules={"way": ["weather in", "is it warm in {city} or in"]},
    values={"city": ["Oslo", "Lima", "Ghent", "Porto"], "day": ["Monday", "Friday"]},
    count=12,
)


def ask(seed: int = 1, grammar: Grammar | None = GRAMMAR, request_id: str = "a") -> TextRequest:
    return TextRequest(id=request_id, system="s", prompt="p", answer_schema=SCHEMA, grammar=grammar)


def test_the_same_seed_and_request_give_the_same_text():
    first, second = OfflineWriter(7).write([ask()]), OfflineWriter(7).write([ask()])
    assert first == second
    assert first[0].outcome == "answered"
    assert len(first[0].value["items"]) == 12
    assert OfflineWriter(8).write([ask()]) != first
    assert OfflineWriter(7).write([ask(request_id="b")])[0].value != first[0].value


def test_a_slot_has_one_value_in_an_item_and_a_numbered_one_its_own():
    items = OfflineWriter(1).write([ask()])[0].value["items"]
    assert all(item["city"] in item["request"] for item in items)
    assert any(item["other"] != item["city"] for item in items)


def test_an_exhausted_grammar_gives_what_it_has():
    grammar = Grammar(items=["{a} {b}"], values={"a": ["1", "2"], "b": ["x", "y"]}, count=50)
    assert sorted(expand(grammar, random.Random(1))) == ["1 x", "1 y", "2 x", "2 y"]


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Grammar(items=["{nothing}"], count=1), "there is no slot {nothing}"),
        (Grammar(items=["{a}"], rules={"a": ["{b}"], "b": ["{a#2}"]}, count=1), "without end"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_an_error(grammar, message):
    with pytest.raises(ConfigurationError, match=message):
        OfflineWriter(1).write([ask(grammar=grammar)])


def test_nothing_to_write_from_is_an_outcome_that_says_so():
    result = OfflineWriter(1).write([ask(grammar=None)])[0]
    assert result.outcome == "failed"
    assert "no real row and no known name" in result.reason


def test_a_grammar_against_the_schema_is_invalid_and_says_why():
    grammar = Grammar(items=["text"], count=1)
    result = OfflineWriter(1).write([ask(grammar=grammar)])[0]
    assert (result.outcome, result.value) == ("invalid", None)
    assert "is not of type 'object'" in result.reason
    assert OfflineWriter(1).label == LABEL == "offline generator"


@given(
    values=st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.lists(st.text("xyz", min_size=1, max_size=3), min_size=1, max_size=4),
        min_size=3,
    ),
    count=st.integers(1, 30),
    seed=st.integers(0, 5),
)
def test_items_are_different_and_never_more_than_asked_for(values, count, seed):
    grammar = Grammar(items=["{a}-{b}", "{c}"], values=values, count=count)
    found = expand(grammar, random.Random(seed))
    assert len(found) == len(set(found)) <= count
    assert found == expand(grammar, random.Random(seed))


@given(st.text(max_size=80))
def test_taking_apart_and_tidying_bear_any_text(text):
    parts = take_apart(text)
    assert parts.kind in ("question", "command", "statement", "other")
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize(
    ("text", "opening", "core", "closing", "kind"),
    [
        ("hi team, drop my ticket for now, thanks", "hi team,", "drop my ticket for now", "thanks",
         "command"),
        ("Who pays for the train? I only have five minutes.", "", "who pays for the train", "",
         "question"),
        ("WHERE IS MY INVOICE", "", "where is my invoice", "", "question"),
        ("I can't log in", "", "I can't log in", "", "statement"),
        ("yes, no", "", "yes, no", "", "other"),
    ],
)  # fmt: skip
def test_requests_are_taken_apart_where_people_would(text, opening, core, closing, kind):
    parts = take_apart(text)
    assert (parts.opening, parts.core, parts.closing, parts.kind) == (opening, core, closing, kind)
    assert kind_of(parts.core) == kind


def test_what_only_one_request_has_is_no_opening_of_others():
    parts = [take_apart(text) for text in ("my boss said: pay the bill now", "ok so, pay my bill",
                                           "ok so, drop my bill now")]  # fmt: skip
    found = frames(parts)["opening"]
    assert "ok so," in found
    assert "my boss said:" not in found


def test_texts_with_braces_never_become_slots():
    assert requests_of([take_apart("what does {x} mean here")]) == []
