"""Scores of answers, and the keyword matcher that a model has to beat."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli_schema.builders import sample, schema_and_answer
from tests.cli_schema.test_generate import generated
from tracetune.cli_schema.baselines import KeywordMatcher
from tracetune.cli_schema.corrupt import corruptions
from tracetune.cli_schema.objects import answer_text, clarification_object
from tracetune.cli_schema.score import Score, score, summarize, summarize_by

LIST = {
    "type": "command",
    "command": "pr",
    "subcommand": "list",
    "args": {"state": "open", "limit": 3},
    "flags": ["web"],
}


def scored(answer, expected=LIST, schema="gh"):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return score(sample(schema), expected, text)


def test_a_right_answer_in_other_spelling():
    found = scored({**LIST, "subcommand": "ls", "flags": ["web", "web"], "confidence": 0.1})
    assert found == Score(
        exact=True,
        type=True,
        command=True,
        subcommand=True,
        args_right=2,
        args_given=2,
        args_wanted=2,
        flags_right=1,
        flags_given=1,
        flags_wanted=1,
        json_valid=True,
        schema_valid=True,
    )


def test_parts_of_a_wrong_answer():
    found = scored({**LIST, "args": {"state": "all", "limit": 3, "author": "bob"}, "flags": []})
    assert (found.exact, found.subcommand, found.schema_valid) == (False, True, True)
    assert (found.args_right, found.args_given, found.args_wanted) == (1, 3, 2)
    assert (found.flags_right, found.flags_given, found.flags_wanted) == (0, 0, 1)
    other = scored({**LIST, "subcommand": "view"})
    assert (other.command, other.subcommand, other.args_right) == (True, False, 0)
    assert not other.schema_valid
    almost = scored({**LIST, "args": {"state": "open", "limit": True}})
    assert (almost.args_right, almost.schema_valid) == (1, False)


def test_the_wrong_type_is_wrong_on_every_part():
    asking = clarification_object("Which?", [sample("gh").place("pr", "list")])
    found = scored(asking)
    assert (found.type, found.command, found.subcommand, found.exact) == (False,) * 4
    assert (found.json_valid, found.schema_valid) == (True, True)
    back = scored(LIST, asking)
    assert (back.type, back.command, back.args_given, back.args_wanted) == (False, False, 2, 0)
    words = scored({**asking, "message": "Other words"}, asking)
    assert (words.exact, words.type, words.subcommand) == (False, True, True)
    other = clarification_object("Which?", [sample("gh").place("issue", "list")])
    assert (scored(other, asking).type, scored(other, asking).command) == (True, False)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"type":1e999}'])
def test_what_is_no_json_is_wrong_on_every_part(text):
    found = scored(text)
    assert found == Score(args_wanted=2, flags_wanted=1)


def test_odd_json_is_scored_and_never_breaks():
    for answer in (
        {},
        {"type": "command"},
        {"type": ["command"]},
        {**LIST, "args": [1], "flags": {"web": 1}},
        {**LIST, "flags": [["web"]], "command": {"a": 1}},
        {"type": "clarification", "suggestions": 3},
        {"type": "clarification", "suggestions": [3, {"command": []}]},
    ):
        assert scored(answer).json_valid
        assert not scored(answer).schema_valid
        assert not scored(answer).exact


def test_nothing_to_score_gives_no_rates():
    empty = summarize([])
    assert empty.n == 0
    assert set(empty.model_dump(exclude={"n"}).values()) == {None}


def test_summaries():
    rows = [scored(LIST), scored({**LIST, "args": {"state": "open"}}), scored("no")]
    found = summarize(rows)
    assert (found.n, found.exact) == (3, pytest.approx(1 / 3))
    assert found.json_valid == pytest.approx(2 / 3)
    assert found.args_f1 == pytest.approx(2 * 3 / (3 + 6))
    assert found.flags_f1 == pytest.approx(2 * 2 / (2 + 3))
    parts = summarize_by(["b", "a", "b"], rows)
    assert [(key, part.n) for key, part in parts.items()] == [("a", 1), ("b", 2)]
    asking = clarification_object("m", [])
    assert summarize([scored(asking, asking)]).args_f1 is None


@settings(max_examples=100)
@given(schema_and_answer(), st.integers(0, 100))
def test_only_the_right_answer_is_exact(pair, seed):
    schema, value = pair
    right = score(schema, value, answer_text(value))
    assert right.exact
    assert right.schema_valid
    assert right.args_right == right.args_given == right.args_wanted
    assert right.flags_right == right.flags_given == right.flags_wanted
    for corruption in corruptions(schema, value, random.Random(seed)):
        found = score(schema, value, answer_text(corruption.value))
        assert not found.exact
        assert found.json_valid
        assert found.args_right <= min(found.args_given, found.args_wanted)


@pytest.mark.parametrize("name", ["demo", "gh", "docker", "zorp"])
def test_the_keyword_matcher_is_a_real_opponent_and_no_oracle(name):
    schema = sample(name)
    matcher = KeywordMatcher(schema)
    rows = generated(name).examples
    scores = [score(schema, row.output, matcher.answer(row.request)) for row in rows]
    found = summarize(scores)
    assert found.json_valid == 1.0
    assert 0.2 < found.structural < 0.9
    assert found.exact < 0.6
    assert matcher.answer("") == matcher.answer("")


def test_the_keyword_matcher_reads_numbers_enums_and_flags():
    matcher = KeywordMatcher(sample("gh"))
    assert json.loads(matcher.answer("checkout pull request #12 by force")) == {
        "type": "command",
        "command": "pr",
        "subcommand": "checkout",
        "args": {"number": 12},
        "flags": ["force"],
    }
    listed = json.loads(matcher.answer("list closed issues"))
    assert (listed["subcommand"], listed["args"]) == ("list", {"state": "closed"})
