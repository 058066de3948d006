"""Near misses: a right answer with exactly one thing wrong, stated by name."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any, Literal

from tracetune.cli_schema.objects import Object, canonical, command_object, place_of, same
from tracetune.cli_schema.schema import Argument, CliSchema, Place
from tracetune.records import Record

Kind = Literal[
    "wrong_subcommand",
    "dropped_argument",
    "wrong_type",
    "unknown_flag",
    "wrong_enum",
    "wrong_value",
    "acted_instead",
    "wrong_suggestion",
]
KINDS: dict[Kind, str] = {
    "wrong_subcommand": "another command or subcommand, with the same arguments",
    "dropped_argument": "a required argument is left out (an optional one where none is required)",
    "wrong_type": "a value of another type",
    "unknown_flag": "a flag that does not exist",
    "wrong_enum": "a value that is not in the list",
    "wrong_value": "another value that is in the list, or another number",
    "acted_instead": "a command where the right answer asks back",
    "wrong_suggestion": "a clarification that suggests another command",
}
"""Corruptions in words."""

_INVENTED = ("verbose", "yes", "json", "silent", "everything", "no-check", "fast")


class Corruption(Record):
    """A near miss.

    Attributes:
        kind: What is wrong with it.
        value: The object; it never means the same as the one it was made from.
    """

    kind: Kind
    value: dict[str, Any]


def corruptions(schema: CliSchema, value: Object, draw: random.Random) -> list[Corruption]:
    """One near miss of every kind that the object allows.

    Args:
        schema: The program.
        value: A valid object.
        draw: Chance.
    """
    ready = canonical(schema, value)
    place = place_of(schema, ready)
    makers = _of_clarification(schema, ready, draw)
    if place is not None:
        makers = _of_command(schema, place, ready, draw)
    return [
        Corruption(kind=kind, value=changed)
        for kind, changed in makers
        if not same(schema, changed, ready)
    ]


def corrupt(schema: CliSchema, value: Object, draw: random.Random) -> Corruption | None:
    """One near miss of a valid object, every kind equally likely; None if there is none."""
    found = corruptions(schema, value, draw)
    return draw.choice(found) if found else None


def _of_command(
    schema: CliSchema, place: Place, value: Object, draw: random.Random
) -> Iterator[tuple[Kind, Object]]:
    others = [other for other in schema.places() if other.label != place.label]
    near = [other for other in others if other.command == place.command] or others
    if near:
        other = draw.choice(near)
        changed = copy.deepcopy(value)
        changed |= {"command": other.command, "subcommand": other.subcommand}
        yield "wrong_subcommand", changed
    args = value["args"]
    required = [arg.name for arg in place.spec.required if arg.name in args]
    if args:
        dropped = draw.choice(required or sorted(args))
        yield "dropped_argument", _with_args(value, {k: v for k, v in args.items() if k != dropped})
        name = draw.choice(sorted(args))
        yield "wrong_type", _with_args(value, {**args, name: _other_type(args[name], draw)})
    known = {flag.name for flag in place.spec.flags}
    invented = [name for name in _INVENTED if name not in known]
    if invented:
        changed = copy.deepcopy(value)
        changed["flags"] = [*value["flags"], draw.choice(invented)]
        yield "unknown_flag", changed
    enums = [arg for arg in place.spec.args if arg.type == "enum" and arg.name in args]
    if enums:
        argument = draw.choice(enums)
        wrong = _not_listed(argument, draw)
        yield "wrong_enum", _with_args(value, {**args, argument.name: wrong})
    yield from _other_value(place, value, draw)


def _other_value(place: Place, value: Object, draw: random.Random) -> Iterator[tuple[Kind, Object]]:
    args = value["args"]
    found: dict[str, Any] = {}
    for argument in place.spec.args:
        if argument.name not in args:
            continue
        given = args[argument.name]
        listed = [other for other in argument.values if other != given]
        if listed:
            found[argument.name] = draw.choice(listed)
        elif argument.type == "integer":
            found[argument.name] = given + draw.choice((-1, 1, 10))
        elif argument.type == "boolean":
            found[argument.name] = not given
    if found:
        name = draw.choice(sorted(found))
        yield "wrong_value", _with_args(value, {**args, name: found[name]})


def _with_args(value: Object, args: dict[str, Any]) -> Object:
    return {**copy.deepcopy(value), "args": args}


def _other_type(given: Any, draw: random.Random) -> Any:
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int | float):
        return draw.choice((str(given), [given]))
    return draw.choice(([given], {"value": given}, True))


def _not_listed(argument: Argument, draw: random.Random) -> str:
    tries = [f"{draw.choice(argument.values)}s", argument.name, "any", "none", "other", "unknown"]
    fresh = [word for word in tries if word not in argument.values]
    return fresh[0] if fresh else max(argument.values, key=len) + "x"


def _of_clarification(
    schema: CliSchema, value: Object, draw: random.Random
) -> Iterator[tuple[Kind, Object]]:
    suggested = [
        place
        for item in value.get("suggestions", [])
        if (place := schema.place(item["command"], item["subcommand"])) is not None
    ]
    if suggested:
        yield "acted_instead", command_object(draw.choice(suggested))
    others = [place for place in schema.places() if place not in suggested]
    if suggested and others:
        changed = copy.deepcopy(value)
        other = draw.choice(others)
        changed["suggestions"][0] = {
            "label": other.label,
            "command": other.command,
            "subcommand": other.subcommand,
        }
        yield "wrong_suggestion", changed
