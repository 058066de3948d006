"""Asking an exported model: what is checked before it is loaded, and what may be missing after."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tracetune import ask as asking
from tracetune.ask import Interpreter
from tracetune.cli_schema import answer_schema
from tracetune.cli_schema.load import parse_schema, schema_hash
from tracetune.cli_schema.objects import parse_answer
from tracetune.cli_schema.schema import CliSchema
from tracetune.errors import DataError
from tracetune.export import runtime
from tracetune.files import write_json

NOTES = """
cli_name: notes
description: Keeps notes
commands:
  - name: add
    description: Write a note
    args:
      - {name: text, type: string, required: true, positional: true}
"""


@pytest.fixture
def schema() -> CliSchema:
    return parse_schema(NOTES)


@pytest.fixture
def exported(written: Any, schema: CliSchema, tmp_path: Path) -> Path:
    """An exported folder whose model has random weights: it hardly ever ends a text itself."""
    folder = tmp_path / "model"
    (folder / "adapter").mkdir(parents=True)
    shutil.copy(written["qwen3"]["f16"].path, folder / "notes-f16.gguf")
    output = {"compare": "cli", "schema": "notes", "schema_sha256": schema_hash(schema)}
    serving = {"instruction": "Turn requests into commands.", "output": output}
    write_json(folder / "adapter" / "serving.json", serving)
    return folder


def test_a_text_as_long_as_the_grammar_allows_is_said_to_be_perhaps_cut(exported, schema):
    with Interpreter(exported, schema) as notes:
        found = notes.ask("note that the roses need water")
    value = parse_answer(found.text)
    text = value["message"] if value["type"] == "clarification" else value["args"]["text"]
    assert len(text) == answer_schema.MAX_TEXT
    assert found.problems == ["a text may have been cut at 100 characters"]
    assert found.command_line is None


def test_a_shorter_text_is_no_problem(exported, schema, monkeypatch):
    # The grammar of before with a bound that the texts do not reach.
    with Interpreter(exported, schema) as notes:
        monkeypatch.setattr(answer_schema, "MAX_TEXT", 101)
        found = notes.ask("note that the roses need water")
    assert found.problems == []
    command = parse_answer(found.text)["type"] == "command"
    assert (found.command_line is not None) == command


def test_an_answer_that_ends_by_its_length_is_said_to_be_cut(exported, schema, monkeypatch):
    monkeypatch.setattr(asking, "MOST_TOKENS", 4)
    with Interpreter(exported, schema) as notes:
        found = notes.ask("note that the roses need water")
    assert found.problems == ["the answer was cut"]
    assert found.command_line is None


def test_a_layout_may_change_and_a_schema_may_not(exported, schema):
    Interpreter(exported, parse_schema("# a comment\n" + NOTES))
    edited = parse_schema(NOTES.replace("Write a note", "Write a note down"))
    with pytest.raises(DataError, match="not the one that the model was trained for; it was edit"):
        Interpreter(exported, edited)
    other = parse_schema(NOTES.replace("cli_name: notes", "cli_name: memos"))
    with pytest.raises(DataError, match="the model was trained for notes"):
        Interpreter(exported, other)


def test_one_thread_for_a_small_file_two_for_a_larger_one_or_as_given(exported, monkeypatch):
    [file] = exported.glob("*.gguf")
    assert runtime.GgufModel(file).threads == 1
    assert runtime.GgufModel(file, threads=3).threads == 3
    monkeypatch.setattr(runtime, "SMALL", file.stat().st_size)
    assert runtime.GgufModel(file).threads == 2
