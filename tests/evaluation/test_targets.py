"""The parser of answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.evaluation.options import OutputSpec
from tracetune.evaluation.targets import COMPARISONS, ParsedAnswer, parse_answer

SPEC = OutputSpec(target=("agent", "recommended_agent"), known=("mail", "weather"))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("agent"), inner),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"agent":"mail"}', ParsedAnswer(True, "mail", True)),
        (' {"agent": " mail "}\n', ParsedAnswer(True, "mail", True)),
        ('{"recommended_agent":"weather"}', ParsedAnswer(True, "weather", True)),
        ('{"agent":"mail","recommended_agent":"weather"}', ParsedAnswer(True, "mail", True)),
        ('{"agent":7,"recommended_agent":"weather"}', ParsedAnswer(True, "weather", True)),
        ('{"agent":"","recommended_agent":"weather"}', ParsedAnswer(True, "weather", True)),
        ('{"agent":"cook"}', ParsedAnswer(True, "cook", False)),
        ('{"agent":"Mail"}', ParsedAnswer(True, "Mail", False)),
        ('{"agent":null}', ParsedAnswer(True, None, False)),
        ("{}", ParsedAnswer(True, None, False)),
        ('["mail"]', ParsedAnswer(False, None, False)),
        ('"mail"', ParsedAnswer(False, None, False)),
        ("mail", ParsedAnswer(False, None, False)),
        ('Sure: {"agent":"mail"}', ParsedAnswer(False, None, False)),
        ('{"agent":"mail"', ParsedAnswer(False, None, False)),
        ('{"agent":"mail","score":NaN}', ParsedAnswer(False, None, False)),
        ("", ParsedAnswer(False, None, False)),
        ("[" * 100_000, ParsedAnswer(False, None, False)),
        ('{"a":' * 100_000, ParsedAnswer(False, None, False)),
        ("1" * 10_000, ParsedAnswer(False, None, False)),
    ],
)
def test_answers(text: str, expected: ParsedAnswer) -> None:
    assert parse_answer(text, SPEC) == expected


@given(st.text() | JSON.map(json.dumps))
def test_parser_never_raises(text: str) -> None:
    parsed = parse_answer(text, SPEC)
    assert not (parsed.known and parsed.target is None)
    assert parsed.valid_json or parsed.target is None


@given(st.text(), st.text(min_size=1))
def test_exact_comparison(answer: str, target: str) -> None:
    exact = COMPARISONS["exact"]
    assert exact(answer, target) == (answer == target)
    assert not exact(None, target)
