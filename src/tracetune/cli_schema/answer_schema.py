"""JSON Schemas of answers: for decoding under a grammar, and for whoever writes training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracetune.cli_schema.objects import CLARIFICATION, COMMAND, Object
from tracetune.cli_schema.schema import Argument, CliSchema, Place

Schema = dict[str, Any]

MAX_TEXT = 100
"""Longest text in an answer that is decoded under a grammar, in characters.

A text of just this length may have been meant longer: :func:`maybe_cut` finds it.
"""
MAX_SUGGESTIONS = 4
_MAX_INTEGER = 999_999_999_999
"""Whole numbers stay below this, so that a grammar has a bounded number of digits."""

_COMPACT = {
    "x-guidance": {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
}
"""For llguidance, which llama.cpp decodes with here: no blanks, as in the training rows."""


def decoding_schema(schema: CliSchema) -> Schema:
    """JSON Schema under which every complete answer passes the strict check.

    One variant per command or subcommand with its own arguments and flags, and one for the
    clarification. Keys stand in the order of the training rows. Every text and list is bounded, so
    that decoding ends; a text that the model would have made longer ends at the bound in silence
    (:func:`maybe_cut`).
    """
    variants = [variant for place in schema.places() for variant in _commands(place)]
    return {"anyOf": [*variants, _clarification(schema)], **_COMPACT}


def maybe_cut(schema: CliSchema, value: Object) -> bool:
    """Whether a text in a valid answer is as long as a grammar lets it be, so may lack its end.

    Args:
        schema: The program.
        value: An answer that passes the strict check.
    """
    if value["type"] == CLARIFICATION:
        return len(value["message"]) >= MAX_TEXT
    place = schema.place(value["command"], value["subcommand"])
    assert place is not None
    free = {arg.name for arg in place.spec.args if arg.type in ("string", "path")}
    return any(len(text) >= MAX_TEXT for name, text in value["args"].items() if name in free)


def _commands(place: Place) -> list[Schema]:
    """The variants of one command: one, or one per number of positional arguments that are given.

    Positional arguments can only be left out from the end, which one object with optional keys
    cannot say.
    """
    positional = [arg for arg in place.spec.args if arg.positional]
    fewest = sum(arg.required for arg in positional)
    counts = range(fewest, len(positional) + 1) if len(positional) - fewest > 1 else [None]
    return [_command(place, positional, count) for count in counts]


def _command(place: Place, positional: Sequence[Argument], count: int | None) -> Schema:
    left_out = () if count is None else positional[count:]
    given = () if count is None else positional[:count]
    args = [arg for arg in place.spec.args if arg not in left_out]
    needed = [arg.name for arg in args if arg.required or arg in given]
    flags: Schema = {"type": "array", "maxItems": 0, "items": {"type": "string", "maxLength": 0}}
    if place.spec.flags:
        names = [flag.name for flag in place.spec.flags]
        flags = {"type": "array", "maxItems": len(names), "items": {"enum": names}}
    return fixed_object(
        {
            "type": {"const": COMMAND},
            "command": {"const": place.command},
            "subcommand": {"const": place.subcommand},
            "args": fixed_object({arg.name: _value(arg) for arg in args}, needed),
            "flags": flags,
        }
    )


def _value(argument: Argument) -> Schema:
    if argument.type == "enum":
        return {"enum": list(argument.values)}
    kinds: dict[str, Schema] = {
        "string": {"type": "string", "maxLength": MAX_TEXT},
        "path": {"type": "string", "maxLength": MAX_TEXT},
        "integer": {"type": "integer", "minimum": -_MAX_INTEGER, "maximum": _MAX_INTEGER},
        "float": {"type": "number", "minimum": -_MAX_INTEGER, "maximum": _MAX_INTEGER},
        "boolean": {"type": "boolean"},
    }
    return kinds[argument.type]


def _clarification(schema: CliSchema) -> Schema:
    choices = [
        fixed_object(
            {
                "label": {"const": place.label},
                "command": {"const": place.command},
                "subcommand": {"const": place.subcommand},
            }
        )
        for place in schema.places()
    ]
    return fixed_object(
        {
            "type": {"const": CLARIFICATION},
            "message": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
            "suggestions": {
                "type": "array",
                "maxItems": MAX_SUGGESTIONS,
                "items": {"anyOf": choices} if len(choices) > 1 else choices[0],
            },
        }
    )


_CONTEXT: Schema = {
    "anyOf": [
        {"type": "null"},
        {
            "type": "object",
            "properties": {
                "repo_owner": {"type": "string"},
                "repo_name": {"type": "string"},
                "current_branch": {"type": "string"},
                "current_pr": {"type": ["integer", "string"]},
                "has_uncommitted_changes": {"type": "boolean"},
                "has_staged_changes": {"type": "boolean"},
            },
            "additionalProperties": False,
        },
    ]
}


def writing_schema(*, answers: bool) -> Schema:
    """JSON Schema of what a writer gives: a list of requests, each with its context.

    Arguments are a map with open names, and their values may be texts: a writer who fills in
    templates writes every value as text, and the schema of the program gives it its type.

    Args:
        answers: Whether command, subcommand, arguments and flags are written too. They are not
            where the answer is known beforehand.
    """
    fields: Schema = {"request": {"type": "string", "minLength": 1}, "context": _CONTEXT}
    if answers:
        fields |= {
            "command": {"type": "string"},
            "subcommand": {"type": ["string", "null"]},
            "args": {
                "type": "object",
                "additionalProperties": {"type": ["string", "integer", "number", "boolean"]},
            },
            "flags": {"type": "array", "items": {"type": "string"}},
        }
    return fixed_object({"items": {"type": "array", "items": fixed_object(fields)}})


def fixed_object(fields: Mapping[str, Schema], required: Sequence[str] | None = None) -> Schema:
    """JSON Schema of an object with these fields and no others; all of them required by default."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields) if required is None else list(required),
        "additionalProperties": False,
    }
