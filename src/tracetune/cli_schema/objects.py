"""The answer of a model as an object: its canonical text, its strict check, its command line.

A command: ``{type: "command", command, subcommand, args, flags}``. A clarification, where a request
cannot be carried out as it stands: ``{type: "clarification", message, suggestions}``. Both may hold
``confidence``, which a program that runs the model adds: it is never trained and never compared
(domain reference B2, B10.8).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracetune.cli_schema.schema import Argument, CliSchema, Place, Subcommand, value_problem

Object = dict[str, Any]

COMMAND, CLARIFICATION = "command", "clarification"
_KEYS = {
    COMMAND: ("type", "command", "subcommand", "args", "flags"),
    CLARIFICATION: ("type", "message", "suggestions"),
}
_SUGGESTION_KEYS = ("label", "command", "subcommand")


@dataclass(frozen=True)
class Problem:
    """Why an object is no valid answer.

    Attributes:
        reason: Kind of problem, for counting: ``unknown_command``, ``argument_type`` …
        path: Where it is: ``args.state``.
        message: What is wrong.
    """

    reason: str
    path: str
    message: str


class AnswerError(ValueError):
    """A text that is not one JSON object."""


def command_object(
    place: Place, args: Mapping[str, Any] | None = None, flags: Iterable[str] = ()
) -> Object:
    """The object that runs ``place``, arguments and flags in the order of the schema."""
    return _ordered(
        {
            "type": COMMAND,
            "command": place.command,
            "subcommand": place.subcommand,
            "args": dict(args or {}),
            "flags": list(flags),
        },
        place.spec,
    )


def clarification_object(message: str, places: Sequence[Place]) -> Object:
    """The object that asks back and suggests ``places``."""
    suggestions = [
        {"label": place.label, "command": place.command, "subcommand": place.subcommand}
        for place in places
    ]
    return {"type": CLARIFICATION, "message": message, "suggestions": suggestions}


def parse_answer(text: str) -> Object:
    """The object in a model's answer, whatever its nesting.

    Raises:
        AnswerError: The whole text is not one JSON object, or holds a key twice.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise AnswerError("nested too deeply") from None
    except ValueError as error:
        raise AnswerError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise AnswerError("JSON, but not an object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def answer_text(value: Mapping[str, Any]) -> str:
    """An object as a model answers it: compact JSON, keys in the order they have."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def canonical(schema: CliSchema, value: Mapping[str, Any]) -> Object:
    """The one form of an object: no confidence, no aliases, order of the schema, no flag twice.

    Two objects mean the same if and only if their canonical forms are the same JSON. An object that
    is not valid keeps what cannot be understood.
    """
    kind = value.get("type")
    rest = {key: inner for key, inner in value.items() if key != "confidence"}
    if kind == CLARIFICATION and isinstance(rest.get("suggestions"), list):
        rest["suggestions"] = [
            _resolved(schema, inner, _SUGGESTION_KEYS) if isinstance(inner, dict) else inner
            for inner in rest["suggestions"]
        ]
        return _sorted(rest, _KEYS[CLARIFICATION])
    if kind != COMMAND:
        return _sorted(rest, ())
    rest = _resolved(schema, rest, _KEYS[COMMAND])
    place = _place(schema, rest)
    return rest if place is None else _ordered(rest, place.spec)


def _resolved(schema: CliSchema, value: Mapping[str, Any], keys: Sequence[str]) -> Object:
    """With names in place of aliases."""
    found = _sorted(value, keys)
    name, sub = found.get("command"), found.get("subcommand")
    command = schema.command(name) if isinstance(name, str) else None
    if command is None:
        return found
    found["command"] = command.name
    place = schema.place(command.name, sub) if isinstance(sub, str) else None
    if place is not None:
        found["subcommand"] = place.subcommand
    return found


def _sorted(value: Mapping[str, Any], keys: Sequence[str]) -> Object:
    """Known keys first, in their order; then the others by name."""
    known = [key for key in keys if key in value]
    return {key: value[key] for key in [*known, *sorted(set(value) - set(known))]}


def _ordered(value: Object, spec: Subcommand) -> Object:
    found = dict(value)
    args, flags = found.get("args"), found.get("flags")
    if isinstance(args, dict):
        typed = {key: _number(spec.argument(key), inner) for key, inner in args.items()}
        found["args"] = _sorted(typed, [arg.name for arg in spec.args])
    if isinstance(flags, list) and all(isinstance(flag, str) for flag in flags):
        order = {flag.name: i for i, flag in enumerate(spec.flags)}
        found["flags"] = sorted(set(flags), key=lambda name: (order.get(name, len(order)), name))
    return found


def _number(argument: Argument | None, value: Any) -> Any:
    """Floats as floats, so that 2 and 2.0 are the same value of a float."""
    if argument is None or argument.type != "float" or value_problem(argument, value):
        return value
    try:
        return float(value)
    except OverflowError:
        return value


def same(schema: CliSchema, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two objects mean the same; confidence does not count (B10.8)."""
    return _text(canonical(schema, one)) == _text(canonical(schema, other))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _place(schema: CliSchema, value: Mapping[str, Any]) -> Place | None:
    name, sub = value.get("command"), value.get("subcommand")
    if not isinstance(name, str) or not isinstance(sub, str | None):
        return None
    return schema.place(name, sub)


def place_of(schema: CliSchema, value: Mapping[str, Any]) -> Place | None:
    """What a command object runs; None for a clarification or names that do not exist."""
    return _place(schema, value) if value.get("type") == COMMAND else None


def problems(schema: CliSchema, value: Any) -> list[Problem]:
    """Everything that is wrong with an answer, by the strict rules (B4); empty: it is valid.

    Command and subcommand exist by name or alias, a command with subcommands has one, every
    argument is known and of its type (a boolean is no integer), every flag is known by its long
    name, everything required is there, and there is no other key. Of the positional arguments none
    is left out before one that is given, because no command line could say that.
    """
    if not isinstance(value, dict):
        return [Problem("not_an_object", "", "is not an object")]
    kind = value.get("type")
    if kind not in (COMMAND, CLARIFICATION):
        return [Problem("unknown_type", "type", f"{kind!r} is neither command nor clarification")]
    found = list(_key_problems(value, _KEYS[kind], ("confidence",), ""))
    found += _confidence(value)
    if kind == CLARIFICATION:
        return [*found, *_clarification(schema, value)]
    return [*found, *_command(schema, value)]


def _key_problems(
    value: Mapping[str, Any], needed: Sequence[str], more: Sequence[str], at: str
) -> Iterator[Problem]:
    for key in needed:
        if key not in value:
            yield Problem("missing_key", at + key, "is missing")
    for key in value:
        if key not in needed and key not in more:
            yield Problem("unknown_key", at + key, "unknown key")


def _confidence(value: Mapping[str, Any]) -> Iterator[Problem]:
    given = value.get("confidence", 0)
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 <= given <= 1:
        yield Problem("confidence", "confidence", f"{given!r} is no number from 0 to 1")


def _clarification(schema: CliSchema, value: Mapping[str, Any]) -> Iterator[Problem]:
    message = value.get("message")
    if "message" in value and (not isinstance(message, str) or not message):
        yield Problem("message", "message", "is no text, or empty")
    if "suggestions" not in value:
        return
    if not isinstance(value["suggestions"], list):
        yield Problem("suggestion", "suggestions", "is no list")
        return
    for i, suggestion in enumerate(value["suggestions"]):
        at = f"suggestions[{i}]"
        if not isinstance(suggestion, dict):
            yield Problem("suggestion", at, "is no object")
            continue
        yield from _key_problems(suggestion, _SUGGESTION_KEYS, (), f"{at}.")
        if not isinstance(suggestion.get("label", ""), str):
            yield Problem("suggestion", f"{at}.label", "is no text")
        if {"command", "subcommand"} <= set(suggestion):
            yield from _name_problems(schema, suggestion, f"{at}.")


def _name_problems(schema: CliSchema, value: Mapping[str, Any], at: str) -> Iterator[Problem]:
    name, sub = value["command"], value["subcommand"]
    command = schema.command(name) if isinstance(name, str) else None
    if command is None:
        yield Problem("unknown_command", f"{at}command", f"there is no command {name!r}")
    elif sub is None and command.subcommands:
        yield Problem("missing_subcommand", f"{at}subcommand", f"{command.name} needs one")
    elif sub is not None and (not isinstance(sub, str) or schema.place(command.name, sub) is None):
        yield Problem(
            "unknown_subcommand", f"{at}subcommand", f"{command.name} has no subcommand {sub!r}"
        )


def _command(schema: CliSchema, value: Mapping[str, Any]) -> Iterator[Problem]:
    if "command" not in value or "subcommand" not in value:
        return
    named = list(_name_problems(schema, value, ""))
    yield from named
    place = None if named else _place(schema, value)
    args, flags = value.get("args", {}), value.get("flags", [])
    if not isinstance(args, dict):
        yield Problem("args", "args", "is no object")
    elif place is not None:
        yield from _argument_problems(place, args)
    if not isinstance(flags, list):
        yield Problem("flags", "flags", "is no list")
    elif place is not None:
        known = [flag.name for flag in place.spec.flags]
        for i, flag in enumerate(flags):
            if flag not in known:
                message = f"{place.label} has no flag {flag!r}"
                yield Problem("unknown_flag", f"flags[{i}]", message)


def _argument_problems(place: Place, args: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in args.items():
        argument = place.spec.argument(name)
        if argument is None:
            message = f"{place.label} has no argument {name!r}"
            yield Problem("unknown_argument", f"args.{name}", message)
            continue
        problem = value_problem(argument, value)
        if problem is not None:
            wrong_value = argument.type == "enum" and isinstance(value, str)
            yield Problem("enum_value" if wrong_value else "argument_type", f"args.{name}", problem)
    for argument in place.spec.required:
        if argument.name not in args:
            yield Problem("missing_argument", f"args.{argument.name}", f"{place.label} needs it")
    left_out = ""
    for argument in place.spec.args:
        if not argument.positional:
            continue
        if argument.name not in args:
            left_out = left_out or argument.name
        elif left_out:
            message = f"stands after {left_out!r}, which is left out"
            yield Problem("positional_gap", f"args.{argument.name}", message)


def arguments_of(schema: CliSchema, value: Mapping[str, Any]) -> list[str]:
    """The command line of a valid command object as a list of words; nothing is run.

    Positional values come in the order of the schema, then ``--name value``, then flags. A value
    that starts with a dash cannot be taken for a flag: ``--name=-value``, and positional ones stand
    behind ``--`` at the end.

    Raises:
        ValueError: The object is not valid, or no command.
    """
    found = problems(schema, value)
    place = place_of(schema, value)
    if found or place is None:
        why = "; ".join(f"{problem.path}: {problem.message}" for problem in found)
        raise ValueError(f"no command line for this object: {why or 'it asks back'}")
    ready = canonical(schema, value)
    positional, named = [], []
    for argument in place.spec.args:
        if argument.name not in ready["args"]:
            continue
        word = _as_word(ready["args"][argument.name])
        if argument.positional:
            positional.append(word)
        elif word.startswith("-"):
            named.append(f"--{argument.name}={word}")
        else:
            named += [f"--{argument.name}", word]
    named += [f"--{flag}" for flag in ready["flags"]]
    start = [schema.cli_name, place.command, *([place.subcommand] if place.subcommand else [])]
    if any(word.startswith("-") for word in positional):
        return [*start, *named, "--", *positional]
    return [*start, *positional, *named]


def command_line(schema: CliSchema, value: Mapping[str, Any]) -> str:
    """The command line of a valid command object, quoted for a shell; nothing is run.

    Raises:
        ValueError: The object is not valid, or no command.
    """
    return shlex.join(arguments_of(schema, value))


def _as_word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
