"""Schemas and answers for the tests, by hand and by hypothesis."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.project import ROOT
from tracetune.cli_schema.load import load_schema, parse_schema
from tracetune.cli_schema.objects import Object, clarification_object, command_object
from tracetune.cli_schema.schema import Argument, CliSchema, Place

SAMPLES = ("demo", "gh", "docker")

# A program nobody has seen: no name of it stands in the lists of words.
MADE_UP = """\
cli_name: zorp
description: Tends the glimmers of a starship
commands:
  - name: glimmer
    description: Tend glimmers
    subcommands:
      - name: attune
        description: Attune a glimmer
        args:
          - {name: frequency, type: float, required: true, description: Frequency in hertz}
          - {name: hue, type: {enum: [amber, teal, "deep red"]}, default: teal}
        flags:
          - {name: gently, short: g, description: Do it slowly}
      - name: quench
        description: Quench a glimmer
        args:
          - {name: which, type: string, required: true, positional: true}
          - {name: where_to, type: path, positional: true}
  - name: hum
    description: Make the ship hum
    args:
      - {name: loud, type: boolean}
      - {name: repeats, type: integer, default: 1}
"""


@cache
def sample(name: str) -> CliSchema:
    """A schema of the repository, or the made-up one."""
    if name == "zorp":
        return parse_schema(MADE_UP)
    return load_schema(ROOT / "data/01_raw/demo/cli" / f"{name}.yaml")


NAMES = st.text("abcdefgxyzäß_-0", min_size=1, max_size=6).filter(lambda t: not t.startswith("-"))
PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" ")
PHRASES = st.text(PRINTABLE, min_size=1, max_size=20).filter(lambda t: t.strip())


@st.composite
def arguments(draw: st.DrawFn, name: str, optional_before: bool) -> dict[str, Any]:
    """An argument with a name."""
    kind = draw(st.sampled_from(["string", "integer", "float", "boolean", "path", "enum"]))
    positional = draw(st.booleans())
    found: dict[str, Any] = {"name": name, "type": kind, "positional": positional}
    found["required"] = draw(st.booleans()) and not (positional and optional_before)
    if kind == "enum":
        found["values"] = draw(st.lists(PHRASES, min_size=1, max_size=4, unique=True))
    return found


@st.composite
def runnable(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A command or subcommand with arguments and flags."""
    names = draw(st.lists(NAMES, max_size=5, unique=True))
    cut = draw(st.integers(0, len(names)))
    args: list[dict[str, Any]] = []
    for arg in names[:cut]:
        optional = any(a["positional"] and not a["required"] for a in args)
        args.append(draw(arguments(arg, optional)))
    return {
        "name": name,
        "description": draw(PHRASES),
        "args": args,
        "flags": [{"name": flag} for flag in names[cut:]],
    }


@st.composite
def schemas(draw: st.DrawFn) -> CliSchema:
    """Any schema of the format."""
    commands = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        subs = draw(st.lists(NAMES, max_size=3, unique=True))
        if subs:
            parts = [draw(runnable(sub)) for sub in subs]
            commands.append({"name": name, "description": draw(PHRASES), "subcommands": parts})
        else:
            commands.append(draw(runnable(name)))
    return CliSchema.model_validate(
        {"cli_name": "prog", "description": "A program", "commands": commands}
    )


def values(argument: Argument) -> st.SearchStrategy[Any]:
    """Values of an argument."""
    text = st.text(max_size=12).filter(lambda t: t.encode("utf-8", "ignore").decode() == t)
    return {
        "string": text,
        "path": text,
        "integer": st.integers(-(10**9), 10**9),
        "float": st.floats(-1e9, 1e9) | st.integers(-1000, 1000),
        "boolean": st.booleans(),
        "enum": st.sampled_from(argument.values or ("x",)),
    }[argument.type]


@st.composite
def answers_of(draw: st.DrawFn, place: Place) -> Object:
    """A valid command object of a place."""
    args = {}
    stopped = False
    for argument in place.spec.args:
        taken = argument.required or draw(st.booleans())
        if argument.positional:
            taken = taken and not stopped
            stopped = stopped or not taken
        if taken:
            args[argument.name] = draw(values(argument))
    names = [flag.name for flag in place.spec.flags]
    flags = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    return command_object(place, args, flags)


@st.composite
def schema_and_answer(draw: st.DrawFn, clarifications: bool = True) -> tuple[CliSchema, Object]:
    """A schema and a valid object of it."""
    schema = draw(schemas())
    places = schema.places()
    if clarifications and draw(st.integers(0, 4)) == 0:
        chosen = draw(st.lists(st.sampled_from(places), max_size=3))
        return schema, clarification_object(draw(PHRASES), chosen)
    return schema, draw(answers_of(draw(st.sampled_from(places))))


def dumped(schema: CliSchema) -> str:
    """A schema as YAML: JSON of printable characters is YAML."""
    value = schema.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return json.dumps(value, ensure_ascii=False)
