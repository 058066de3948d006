"""Schemas both ways: what the service is asked for, and the answer as the domain wants it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.anthropic_rules import Refusal, check_schema
from tests.llm.helpers import fixed
from tracetune.errors import ConfigurationError
from tracetune.llm.schemas import AnswerForm, InvalidAnswer

NAMES = st.text("abcxyz_", min_size=1, max_size=4)
LEAVES: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    ({"type": "string"}, st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    ({"type": "string", "minLength": 2, "pattern": "^[a-z]+$"}, st.text("abc", min_size=2)),
    ({"type": "integer", "minimum": 3, "maximum": 9}, st.integers(3, 9)),
    ({"type": "boolean"}, st.booleans()),
    ({"type": ["string", "null"], "maxLength": 3}, st.none() | st.text("ab", max_size=3)),
    ({"enum": ["red", "green", None]}, st.sampled_from(["red", "green", None])),
    ({"const": 7}, st.just(7)),
]


@st.composite
def schemas(draw, depth: int = 3) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    """A schema, and the values that fit it."""
    kind = draw(st.sampled_from(["leaf", "object", "list", "map"] if depth else ["leaf"]))
    if kind == "leaf":
        return draw(st.sampled_from(LEAVES))
    if kind == "object":
        parts = draw(st.dictionaries(NAMES, schemas(depth - 1), max_size=3))
        fields = {name: schema for name, (schema, _) in parts.items()}
        return fixed(**fields), st.fixed_dictionaries({n: v for n, (_, v) in parts.items()})
    schema, values = draw(schemas(depth - 1))
    if kind == "list":
        fewest = draw(st.integers(0, 2))
        listed = {"type": "array", "items": schema, "minItems": fewest}
        return listed, st.lists(values, min_size=fewest, max_size=3)
    return (
        {"type": "object", "additionalProperties": schema, "maxProperties": 3},
        st.dictionaries(st.text("ab é", max_size=3), values, max_size=3),
    )


def as_asked(value: Any, schema: dict[str, Any]) -> Any:
    """What a model would answer for ``value``: maps as lists of names and values."""
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        inner = schema["additionalProperties"]
        return [{"name": name, "value": as_asked(v, inner)} for name, v in value.items()]
    if isinstance(value, dict):
        return {name: as_asked(v, schema["properties"][name]) for name, v in value.items()}
    if isinstance(value, list):
        return [as_asked(v, schema["items"]) for v in value]
    return value


@given(st.data())
def test_every_value_comes_back_and_every_schema_can_be_asked_for(data):
    schema, values = data.draw(schemas())
    value = data.draw(values)
    form = AnswerForm(schema)
    check_schema(form.asked, "schema")
    asked = as_asked(value, schema)
    is_object = schema.get("type") == "object" and "properties" in schema
    whole = asked if is_object else {"answer": asked}
    jsonschema.validate(whole, form.asked)
    assert form.read(json.dumps(whole)) == value


@given(st.data())
def test_nothing_that_does_not_fit_gets_through(data):
    schema, values = data.draw(schemas())
    value = data.draw(values)
    text = json.dumps(as_asked(value, schema))
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    form = AnswerForm(fixed(answer=schema))
    for broken in (cut, f'{{"answer": {cut}', f'{{"answer": {text}, "more": 1}}'):
        with pytest.raises(InvalidAnswer):
            form.read(broken)


MAP = fixed(args={"type": "object", "additionalProperties": {"type": "string", "minLength": 1}})


@pytest.mark.parametrize(
    ("schema", "text", "reason"),
    [
        (MAP, '{"args": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}', "twice"),
        (MAP, '{"args": [{"name": "a"}]}', "one name and one value"),
        (MAP, '{"args": {"a": "1"}}', "list of names"),
        (MAP, '{"args": [{"name": 1, "value": "1"}]}', "no text"),
        (MAP, '{"args": [{"name": "a", "value": ""}]}', "args.a"),
        (MAP, '{"args": [], "args": []}', "twice"),
        (MAP, '```json\n{"args": []}\n```', "not JSON"),
        (MAP, "", "not JSON"),
        (MAP, "[" * 100_000, "deep"),
        (fixed(n={"type": "number"}), '{"n": NaN}', "NaN"),
        (fixed(n={"type": "string"}), '{"n": "\\ud83d"}', "surrogate"),
        (
            fixed(n={"type": "array", "items": {"type": "integer"}, "minItems": 2}),
            '{"n": [1]}',
            "n",
        ),
        (fixed(n={"type": "string", "pattern": "^a"}), '{"n": "b"}', "match"),
        (fixed(n={"type": "integer", "maximum": 3}), '{"n": 4}', "maximum"),
        ({"type": "array", "items": {"type": "integer"}}, "[1]", "answer"),
    ],
)
def test_the_reason_says_what_is_wrong(schema, text, reason):
    with pytest.raises(InvalidAnswer, match=reason):
        AnswerForm(schema).read(text)


def test_maps_are_found_behind_references_and_choices():
    schema = {
        **fixed(
            one={"$ref": "#/$defs/args"},
            two={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/args"}]},
            three={"type": ["array", "null"], "items": {"$ref": "#/$defs/args"}},
        ),
        "$defs": {"args": {"type": "object", "additionalProperties": {"type": "integer"}}},
    }
    form = AnswerForm(schema)
    check_schema(form.asked, "schema")
    pair = [{"name": "a", "value": 1}]
    assert form.read(json.dumps({"one": pair, "two": pair, "three": [pair, []]})) == {
        "one": {"a": 1},
        "two": {"a": 1},
        "three": [{"a": 1}, {}],
    }
    nothing = json.dumps({"one": [], "two": None, "three": None})
    assert form.read(nothing) == {"one": {}, "two": None, "three": None}


def test_a_list_of_names_and_values_stays_a_list_where_it_was_one():
    pair = fixed(name={"type": "string"}, value={"type": "string"})
    schema = fixed(
        both={
            "anyOf": [
                {"type": "array", "items": pair},
                {"type": "object", "additionalProperties": {"type": "integer"}},
            ]
        }
    )
    form = AnswerForm(schema)
    texts = [{"name": "a", "value": "1"}]
    assert form.read(json.dumps({"both": texts})) == {"both": texts}
    assert form.read('{"both": [{"name": "a", "value": 1}]}') == {"both": {"a": 1}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": True},
        {"type": "object", "additionalProperties": {}},
        {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": MAP},
        {"type": "strange"},
        {"type": 3},
        {"properties": {}},
        fixed(a={}),
        fixed(a={"$ref": "https://example.com/schema"}),
    ],
)
def test_what_cannot_be_asked_for_is_a_clear_error(schema):
    with pytest.raises(ConfigurationError, match="answer_schema"):
        AnswerForm(schema)


def test_what_the_service_cannot_check_stands_in_the_description():
    asked = AnswerForm(fixed(n={"type": "array", "items": {"type": "integer"}, "minItems": 3}))
    assert "minItems: 3" in asked.asked["properties"]["n"]["description"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {**fixed(a={"type": "array", "items": {"type": "null"}, "minItems": 2})},
        fixed(a={"type": "string", "pattern": "a"}),
        fixed(a={"type": ["string", "null"]}),
        fixed(a={}),
        {**fixed(), "required": ["b"]},
    ],
)
def test_the_test_server_refuses_what_the_service_refuses(schema):
    with pytest.raises(Refusal):
        check_schema(schema, "schema")
