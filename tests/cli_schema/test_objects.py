"""Answers as objects: canonical form, strict check, comparison, command line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli_schema.builders import sample, schema_and_answer
from tracetune.cli_schema.answer_schema import decoding_schema
from tracetune.cli_schema.objects import (
    AnswerError,
    answer_text,
    arguments_of,
    canonical,
    command_line,
    parse_answer,
    problems,
    same,
)


def command(name, sub, args=None, flags=None, **more):
    return {
        "type": "command",
        "command": name,
        "subcommand": sub,
        "args": args or {},
        "flags": flags or [],
        **more,
    }


def reasons(value, schema="demo"):
    return [(found.reason, found.path) for found in problems(sample(schema), value)]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (command("box", "list"), []),
        (command("boxes", "ls", {"state": "full"}, ["wide"], confidence=0.9), []),
        (command("sync", None, {"since": "monday"}), []),
        (command("box", "create", {"name": "a", "volume": 2}), []),
        ([], [("not_an_object", "")]),
        ({}, [("unknown_type", "type")]),
        (command("crate", "list"), [("unknown_command", "command")]),
        (command(3, None), [("unknown_command", "command")]),
        (command("box", None), [("missing_subcommand", "subcommand")]),
        (command("box", "sort"), [("unknown_subcommand", "subcommand")]),
        (command("sync", "now"), [("unknown_subcommand", "subcommand")]),
        (command("box", "list", {"size": 1}), [("unknown_argument", "args.size")]),
        (command("box", "list", {"state": "half"}), [("enum_value", "args.state")]),
        (command("box", "list", {"state": 1}), [("argument_type", "args.state")]),
        (command("box", "list", {"limit": True}), [("argument_type", "args.limit")]),
        (command("box", "list", {"limit": "3"}), [("argument_type", "args.limit")]),
        (command("box", "list", {"limit": 3.0}), [("argument_type", "args.limit")]),
        (
            command("box", "create", {"name": "a", "volume": True}),
            [("argument_type", "args.volume")],
        ),
        (command("box", "create", {"name": "a", "locked": 1}), [("argument_type", "args.locked")]),
        (command("box", "create", {"name": "\ud800"}), [("argument_type", "args.name")]),
        (command("box", "create"), [("missing_argument", "args.name")]),
        (command("box", "list", flags=["w"]), [("unknown_flag", "flags[0]")]),
        (command("box", "list", flags=[["wide"]]), [("unknown_flag", "flags[0]")]),
        ({**command("box", "list"), "args": []}, [("args", "args")]),
        ({**command("box", "list"), "flags": "wide"}, [("flags", "flags")]),
        (command("box", "list", note=1), [("unknown_key", "note")]),
        (command("box", "list", confidence=True), [("confidence", "confidence")]),
        (command("box", "list", confidence=1.5), [("confidence", "confidence")]),
        (
            {"type": "command", "command": "box"},
            [("missing_key", "subcommand"), ("missing_key", "args"), ("missing_key", "flags")],
        ),
        ({"type": "clarification", "message": "which?", "suggestions": []}, []),
        (
            {"type": "clarification", "message": "", "suggestions": [3]},
            [("message", "message"), ("suggestion", "suggestions[0]")],
        ),
        (
            {
                "type": "clarification",
                "message": "m",
                "suggestions": [{"label": "x", "command": "box", "subcommand": None}],
            },
            [("missing_subcommand", "suggestions[0].subcommand")],
        ),
        (
            {"type": "clarification", "message": "m", "suggestions": [{"label": "x"}]},
            [
                ("missing_key", "suggestions[0].command"),
                ("missing_key", "suggestions[0].subcommand"),
            ],
        ),
    ],
)
def test_the_strict_check_names_what_is_wrong_and_where(value, wanted):
    assert reasons(value) == wanted


def test_a_gap_between_positional_arguments_is_wrong():
    value = command("glimmer", "quench", {"where_to": "x"})
    assert reasons(value, "zorp") == [
        ("missing_argument", "args.which"),
        ("positional_gap", "args.where_to"),
    ]


def test_canonical_form_and_comparison():
    demo = sample("demo")
    one = command("boxes", "ls", {"limit": 3, "state": "full"}, ["wide", "wide"], confidence=0.2)
    two = command("box", "list", {"state": "full", "limit": 3}, ["wide"])
    assert answer_text(canonical(demo, one)) == (
        '{"type":"command","command":"box","subcommand":"list",'
        '"args":{"state":"full","limit":3},"flags":["wide"]}'
    )
    assert same(demo, one, two)
    number = command("box", "create", {"name": "a", "volume": 2})
    assert same(demo, number, command("box", "create", {"name": "a", "volume": 2.0}))
    assert not same(
        demo, command("box", "list", {"limit": 1}), command("box", "list", {"limit": True})
    )
    assert not same(demo, two, command("box", "list", {"state": "full"}, ["wide"]))


@pytest.mark.parametrize(
    ("schema", "value", "line"),
    [
        ("gh", command("pr", "checkout", {"number": 42}, ["force"]), "gh pr checkout 42 --force"),
        (
            "gh",
            command("pr", "ls", {"limit": 5, "state": "all"}),
            "gh pr list --state all --limit 5",
        ),
        (
            "gh",
            command("issue", "create", {"title": "it's $HOME; rm -rf /"}),
            "gh issue create --title 'it'\"'\"'s $HOME; rm -rf /'",
        ),
        ("gh", command("gist", "view", {"id": "-w"}, ["raw"]), "gh gist view --raw -- -w"),
        ("gh", command("pr", "create", {"body": "--web"}), "gh pr create --body=--web"),
        (
            "gh",
            command("repo", "clone", {"repository": "a/b", "directory": "x y"}),
            "gh repo clone a/b 'x y'",
        ),
        ("docker", command("ps", None, {"last": -1}, ["all"]), "docker ps --last=-1 --all"),
        (
            "demo",
            command("box", "create", {"locked": False, "volume": 2.0, "name": "a"}),
            "box box create a --volume 2 --locked false",
        ),
    ],
)
def test_command_lines(schema, value, line):
    assert command_line(sample(schema), value) == line


@pytest.mark.parametrize(
    "value",
    [
        command("pr", "checkout"),
        {"type": "clarification", "message": "m", "suggestions": []},
        {"type": "clarification"},
    ],
)
def test_no_command_line_without_a_valid_command(value):
    with pytest.raises(ValueError, match="no command line"):
        command_line(sample("gh"), value)


def test_a_shell_reads_the_words_that_were_meant():
    value = command("issue", "create", {"title": 'a\'b "c" $x `y` \\ * \n z', "label": "ü"})
    words = arguments_of(sample("gh"), value)
    script = f"for word in {command_line(sample('gh'), value)}; do printf '%s\\0' \"$word\"; done"
    found = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    assert found.decode().split("\0")[:-1] == words
    assert sys.platform != "win32"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "[1]",
        '{"a":1',
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":1,"a":2}',
        '{"a":1} x',
        "[" * 100_000,
    ],
)
def test_answers_that_are_no_json_object(text):
    with pytest.raises(AnswerError):
        parse_answer(text)


def test_deep_objects_are_read_whole():
    assert parse_answer(' {"a":{"b":{"c":[{}]}}}\n') == {"a": {"b": {"c": [{}]}}}


@settings(max_examples=150)
@given(schema_and_answer())
def test_valid_objects_stay_valid_and_the_same(pair):
    schema, value = pair
    assert problems(schema, value) == []
    ready = canonical(schema, value)
    assert problems(schema, ready) == []
    assert canonical(schema, ready) == ready
    assert same(schema, parse_answer(answer_text(ready)), value)
    assert same(schema, {**value, "confidence": 0.5}, value)
    assert jsonschema.Draft202012Validator(decoding_schema(schema)).is_valid(ready)


@settings(max_examples=100)
@given(schema_and_answer(clarifications=False))
def test_every_valid_command_has_a_command_line(pair):
    schema, value = pair
    words = arguments_of(schema, value)
    assert shlex.split(command_line(schema, value)) == words
    assert words[0] == "prog"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["type", "command", "subcommand", "args", "flags", "message", "suggestions", "x"]
)


@settings(max_examples=200)
@given(
    st.dictionaries(KEYS, JSON | st.sampled_from(["command", "clarification", "box", "list"])),
)
def test_no_object_breaks_the_check(value):
    demo = sample("demo")
    problems(demo, value)
    same(demo, canonical(demo, value), value)
    fits = jsonschema.Draft202012Validator(decoding_schema(demo)).is_valid(value)
    if fits:
        assert problems(demo, value) == []


@settings(max_examples=150)
@given(schema_and_answer(), st.data())
def test_what_fits_the_decoding_schema_passes_the_check(pair, data):
    schema, value = pair
    changed = json.loads(json.dumps(value))
    for _ in range(data.draw(st.integers(1, 2))):
        place = changed
        if data.draw(st.booleans()) and isinstance(changed.get("args"), dict):
            place = changed["args"]
        key = data.draw(st.sampled_from([*place, "new"]))
        if data.draw(st.booleans()) and key in place:
            del place[key]
        else:
            place[key] = data.draw(JSON)
    if jsonschema.Draft202012Validator(decoding_schema(schema)).is_valid(changed):
        assert [p for p in problems(schema, changed) if not _half(p)] == []


def _half(problem):
    """JSON Schema takes 3.0 for an integer, a grammar never writes it; neither knows surrogates."""
    return problem.reason == "argument_type"
