"""The parser of answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.evaluation.targets import parse_answer
from tracetune.outputs import OutputSpec

SPEC = OutputSpec(target=("agent", "recommended_agent"), known=("mail", "weather"))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("agent"), inner),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"agent":"mail"}', (True, "mail", True)),
        (' {"agent": " mail "}\n', (True, "mail", True)),
        ('{"recommended_agent":"weather"}', (True, "weather", True)),
        ('{"agent":"mail","recommended_agent":"weather"}', (True, "mail", True)),
        ('{"agent":7,"recommended_agent":"weather"}', (True, "weather", True)),
        ('{"agent":"","recommended_agent":"weather"}', (True, "weather", True)),
        ('{"agent":"cook"}', (True, "cook", False)),
        ('{"agent":"Mail"}', (True, "Mail", False)),
        ('{"agent":null}', (True, None, False)),
        ("{}", (True, None, False)),
        ('["mail"]', (False, None, False)),
        ('"mail"', (False, None, False)),
        ("mail", (False, None, False)),
        ('Sure: {"agent":"mail"}', (False, None, False)),
        ('{"agent":"mail"', (False, None, False)),
        ('{"agent":"mail","score":NaN}', (False, None, False)),
        ("", (False, None, False)),
        ("[" * 100_000, (False, None, False)),
        ('{"a":' * 100_000, (False, None, False)),
        ("1" * 10_000, (False, None, False)),
    ],
)
def test_answers(text: str, expected: tuple[bool, str | None, bool]) -> None:
    found = parse_answer(text, SPEC)
    label = found.target.label if found.target else None
    assert (found.valid_json, label, found.known) == expected


@given(st.text() | JSON.map(json.dumps))
def test_parser_never_raises(text: str) -> None:
    parsed = parse_answer(text, SPEC)
    assert not (parsed.known and parsed.target is None)
    assert parsed.valid_json or parsed.target is None
