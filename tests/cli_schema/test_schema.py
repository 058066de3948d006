"""The format of schemas and its reader: what is read, and how mistakes are named."""

from __future__ import annotations

import json
import time

import jsonschema
import pytest
from hypothesis import given, settings

from tests.cli_schema.builders import MADE_UP, SAMPLES, dumped, sample, schemas
from tests.project import ROOT
from tracetune.cli_schema.load import load_schema, parse_schema
from tracetune.cli_schema.schema import CliSchema, json_schema
from tracetune.errors import DataError
from tracetune.files import pretty_json

START = "cli_name: p\ndescription: d\ncommands:\n"


def refused(text: str) -> str:
    with pytest.raises(DataError) as caught:
        parse_schema(text, source="f.yaml")
    return str(caught.value)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_valid_and_fit_the_json_schema(name):
    import yaml

    path = ROOT / "data/01_raw/demo/cli" / f"{name}.yaml"
    assert load_schema(path).places()
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())


def test_gh_has_what_the_source_document_has():
    gh = sample("gh")
    wanted = {
        "pr": "list view create merge checkout close ready",
        "issue": "list view create close reopen comment",
        "repo": "view clone fork list create",
        "run": "list view watch rerun cancel",
        "gist": "list view create",
        "release": "list view create",
    }
    found = {c.name: " ".join(s.name for s in c.subcommands) for c in gh.commands}
    assert found == wanted
    required = {p.label: p.spec.required[0].name for p in gh.places() if p.spec.required}
    assert required == {
        "pr checkout": "number",
        "issue view": "number",
        "issue close": "number",
        "issue reopen": "number",
        "issue comment": "number",
        "repo clone": "repository",
        "repo create": "name",
        "run rerun": "run_id",
        "run cancel": "run_id",
        "gist view": "id",
        "release create": "tag",
    }
    state = gh.place("pr", "list").spec.argument("state")
    assert state.values == ("open", "closed", "merged", "all")


def test_both_forms_of_an_enum_are_one():
    one = parse_schema(
        START + "- {name: a, description: d, args: [{name: x, type: {enum: [u, v]}}]}"
    )
    two = parse_schema(
        START + "- {name: a, description: d, args: [{name: x, type: enum, values: [u, v]}]}"
    )
    assert one == two


def test_names_and_aliases_find_the_same_place():
    schema = sample("demo")
    assert schema.place("boxes", "ls") is schema.place("box", "list")
    assert schema.place("box", None) is None
    assert schema.place("sync", None).label == "sync"
    assert len(schema.places()) == 6


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- {name: a}\n", 4, "commands[0].description: is missing"),
        ("- name: a\n  description: d\n  nmae: b\n", 6, "commands[0].nmae: unknown key"),
        ("- name: a\n  name: b\n", 5, "commands[0].name: the key stands there twice, first in"),
        ("- name: on\n  description: d\n", 4, "is True, expected text; put it in quotes"),
        ("- name: a b\n  description: d\n", 4, "one word without spaces"),
        ("- name: --a\n  description: d\n", 4, "without dashes: 'a'"),
        ("- name: a\n  description: ' '\n", 5, "is blank"),
        (
            "- {name: a, description: d}\n- {name: b, description: d}\n"
            "- {name: a, description: d}\n",
            6,
            "commands[2].name: 'a' is a command already",
        ),
        (
            "- {name: a, description: d}\n- {name: b, description: d, aliases: [x,\n   a]}\n",
            6,
            "commands[1].aliases[1]: the alias 'a' is a command already",
        ),
        (
            "- {name: a, description: d, aliases: [x]}\n"
            "- {name: b, description: d, aliases: [x]}\n",
            5,
            "an alias of the command 'a' already",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - {name: x, type: strng}\n",
            7,
            "commands[0].args[0].type: 'strng' is no type",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - name: x\n    type:\n      enum: [u,\n"
            "        u]\n",
            10,
            "type.enum[1]: the value 'u' stands there twice",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - {name: x, type: integer, default: true}\n",
            7,
            "args[0].default: True is not of the type integer",
        ),
        (
            "- name: a\n  description: d\n  args:\n"
            "  - {name: x, type: enum, values: [u], default: v}\n",
            7,
            "default: 'v' is not one of u",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - {name: x, type: enum}\n",
            7,
            "values: an enum needs at least one value",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - {name: x, type: path, values: [u]}\n",
            7,
            "only an enum has values, this is a path",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - {name: x, type: {enum: [u]}, values: [u]}\n",
            7,
            "values stand twice",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - {name: x, type: path}\n  flags:\n"
            "  - {name: x}\n",
            9,
            "flags[0].name: 'x' is an argument already",
        ),
        (
            "- name: a\n  description: d\n  flags:\n  - {name: x, short: s}\n"
            "  - {name: y, short: s}\n",
            8,
            "flags[1].short: 's' is the short form of 'x' already",
        ),
        (
            "- name: a\n  description: d\n  flags:\n  - {name: x, short: xx}\n",
            7,
            "is one character",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - {name: x, type: path, positional: true}\n"
            "  - {name: y, type: path, positional: true, required: true}\n",
            8,
            "a required positional argument stands after the optional 'x'",
        ),
        (
            "- name: a\n  description: d\n  flags: [{name: f}]\n"
            "  subcommands: [{name: s, description: d}]\n",
            6,
            "flags: are never used: a command with subcommands is not run itself",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - name: x\n    type: string\n"
            "    natural_language: [{pattern: last}]\n",
            9,
            "one placeholder such as {value}",
        ),
        (
            "- name: a\n  description: d\n  args:\n  - name: x\n    type: integer\n"
            "    natural_language: [{value: two, alternatives: [b]}]\n",
            9,
            "'two' is not of the type integer",
        ),
        ("- [\n", 5, "this is not YAML"),
        ("- name: a\n  <<: {x: y}\n  description: d\n", 5, "<<: unknown key"),
        ("- name: a\n  description: d\n  args: 3\n", 6, "args: expected a list"),
        ("- 3\n", 4, "commands[0]: expected a mapping"),
        ("- {name: a, description: d, args: [{name: x, type: path, default: [1]}]}", 4, "expected"),
        ("- {name: a, description: 2024-01-01}", 4, "expected text"),
    ],
)
def test_mistakes_are_named_with_line_and_path(text, line, words):
    message = refused(START + text)
    found = next((part for part in message.splitlines() if words in part), None)
    assert found is not None, message
    assert found.startswith(f"f.yaml:{line}:"), message
    assert "What to do:" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f.yaml:1: a schema is a mapping"),
        ("[]", "f.yaml:1: a schema is a mapping"),
        ("cli_name: p\ndescription: d\ncommands: []\n", "f.yaml:3: commands: a program needs"),
        ("cli_name: p\n", "commands: is missing"),
        ("? [a]\n: b\n", "a key is a name"),
        ("a: &x [*x]\n", "cannot be read: nested or repeated too often"),
        ("a: !!python/object:os.system {}\n", "a: unknown key"),
        ("a: 2024-99-99\n", "cannot be read"),
        ("a: b\n---\nc: d\n", "this is not YAML"),
    ],
)
def test_what_is_no_schema_at_all(text, words):
    assert words in refused(text)


def test_anchors_that_multiply_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    start = time.monotonic()
    assert "repeated too often" in refused("\n".join(lines))
    assert time.monotonic() - start < 30


def test_all_mistakes_come_at_once_and_no_more_than_ten():
    text = START + "- name: a\n  description: d\n" + "".join(f"  k{i}: 1\n" for i in range(15))
    message = refused(text)
    assert message.count("unknown key") == 10
    assert "and 5 more" in message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_schema(tmp_path / "none.yaml")
    broken = tmp_path / "b.yaml"
    broken.write_bytes(b"cli_name: p\ndescription: \xff\n")
    with pytest.raises(DataError, match=r"b\.yaml:2: the file is not UTF-8"):
        load_schema(broken)
    broken.write_bytes(b"#" * 5_000_001)
    with pytest.raises(DataError, match="too much for a schema"):
        load_schema(broken)
    broken.write_bytes(b"\xef\xbb\xbf" + MADE_UP.encode())
    assert load_schema(broken).cli_name == "zorp"


def test_unicode_stays():
    text = START + "- {name: größe, description: 大きさ, args: [{name: größe, type: {enum: [ß]}}]}"
    schema = parse_schema(text)
    assert schema.place("größe", None).spec.args[0].values == ("ß",)


def test_500_commands_are_read_fast():
    command = (
        "- name: c{i}\n  description: Does the thing {i}\n  subcommands:\n"
        "  - name: list\n    description: List\n    args: [{{name: limit, type: integer}}]\n"
        "  - name: view\n    description: View\n    flags: [{{name: web, short: w}}]\n"
    )
    text = START + "".join(command.format(i=i) for i in range(500))
    start = time.monotonic()
    schema = parse_schema(text)
    assert len(schema.places()) == 1000
    assert time.monotonic() - start < 10


def test_the_json_schema_for_editors_is_the_committed_one():
    committed = (ROOT / "docs/cli-schema.json").read_text(encoding="utf-8")
    assert committed == pretty_json(json_schema()), "write docs/cli-schema.json anew"
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "argument",
    [
        {"name": "x", "type": "enum"},
        {"name": "x", "type": "string", "values": ["a"]},
        {"name": "x", "type": "text"},
        {"name": "x", "type": "string", "more": 1},
    ],
)
def test_the_json_schema_refuses_mistakes(argument):
    value = {
        "cli_name": "p",
        "description": "d",
        "commands": [{"name": "a", "description": "d", "args": [argument]}],
    }
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(value)
    refused(json.dumps(value))


@settings(max_examples=60)
@given(schemas())
def test_a_schema_survives_being_written(schema):
    text = dumped(schema)
    again = parse_schema(text)
    assert again == schema
    assert CliSchema.model_validate_json(text) == schema
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(json.loads(text))
