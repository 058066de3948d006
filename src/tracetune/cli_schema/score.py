"""How right an answer is: of one, and over many (domain reference B7, B10.8, B10.9)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import Field

from tracetune.cli_schema.objects import (
    COMMAND,
    AnswerError,
    Object,
    canonical,
    parse_answer,
    problems,
    same,
)
from tracetune.cli_schema.schema import CliSchema
from tracetune.files import canonical_json
from tracetune.records import Record


class Score(Record):
    """One answer against the right one.

    Attributes:
        exact: The same object; confidence does not count.
        type: Command where a command was right, clarification where one was.
        command: The right command; of a clarification: the right suggestions' commands.
        subcommand: Command and subcommand are right; of a clarification: the right suggestions.
        args_right: Arguments with the right value.
        args_given: Arguments in the answer.
        args_wanted: Arguments in the right answer.
        flags_right: Flags that are right.
        flags_given: Flags in the answer.
        flags_wanted: Flags in the right answer.
        json_valid: The answer is one JSON object.
        schema_valid: And it passes the strict check.
    """

    exact: bool = False
    type: bool = False
    command: bool = False
    subcommand: bool = False
    args_right: int = 0
    args_given: int = 0
    args_wanted: int = 0
    flags_right: int = 0
    flags_given: int = 0
    flags_wanted: int = 0
    json_valid: bool = False
    schema_valid: bool = False


def score(schema: CliSchema, expected: Object, answer: str) -> Score:
    """Scores the text that a model answered.

    An answer of the wrong type is wrong on every part: a clarification has no command that could
    happen to be right. Arguments and flags of a wrong command are not right either; they count as
    given.
    """
    right = canonical(schema, expected)
    wanted: dict[str, Any] = {
        "args_wanted": len(right["args"]) if right["type"] == COMMAND else 0,
        "flags_wanted": len(right["flags"]) if right["type"] == COMMAND else 0,
    }
    try:
        found = canonical(schema, parse_answer(answer))
    except AnswerError:
        return Score(**wanted)
    facts: dict[str, Any] = {**wanted, "json_valid": True}
    facts["schema_valid"] = not problems(schema, found)
    args, flags = found.get("args"), found.get("flags")
    args = args if isinstance(args, dict) else {}
    flags = flags if isinstance(flags, list) else []
    facts |= {"args_given": len(args), "flags_given": len(flags)}
    if found.get("type") != right["type"]:
        return Score(**facts)
    facts |= {"type": True, "exact": same(schema, found, right)}
    if right["type"] != COMMAND:
        return Score(**facts, **_clarification(found, right))
    facts["command"] = found.get("command") == right["command"]
    facts["subcommand"] = facts["command"] and found.get("subcommand") == right["subcommand"]
    if facts["subcommand"]:
        facts["args_right"] = sum(
            name in args and canonical_json(args[name]) == canonical_json(value)
            for name, value in right["args"].items()
        )
        facts["flags_right"] = sum(flag in flags for flag in right["flags"])
    return Score(**facts)


def _clarification(found: Object, right: Object) -> dict[str, bool]:
    return {
        "command": _names(found, "command") == _names(right, "command"),
        "subcommand": _names(found, "command", "subcommand")
        == _names(right, "command", "subcommand"),
    }


def _names(value: Object, *keys: str) -> set[str] | None:
    suggestions = value.get("suggestions")
    if not isinstance(suggestions, list):
        return None
    return {
        canonical_json([item.get(key) if isinstance(item, dict) else item for key in keys])
        for item in suggestions
    }


class Summary(Record):
    """Scores of many answers; every rate is over all of them, None if there are none.

    Attributes:
        n: Answers.
        exact: Share that is exactly right, without confidence.
        type: Share of the right type.
        command: Share with the right command.
        structural: Share with the right command and subcommand.
        args_f1: Micro F1 of arguments: name and value; None where there are none.
        flags_f1: Micro F1 of flags; None where there are none.
        json_valid: Share that is one JSON object.
        schema_valid: Share that passes the strict check.
    """

    n: int = Field(ge=0)
    exact: float | None
    type: float | None
    command: float | None
    structural: float | None
    args_f1: float | None
    flags_f1: float | None
    json_valid: float | None
    schema_valid: float | None


def summarize(scores: Sequence[Score]) -> Summary:
    """Rates over answers; with none of them n is 0 and every rate None."""

    def rate(part: Callable[[Score], bool]) -> float | None:
        return sum(map(part, scores)) / len(scores) if scores else None

    return Summary(
        n=len(scores),
        exact=rate(lambda row: row.exact),
        type=rate(lambda row: row.type),
        command=rate(lambda row: row.command),
        structural=rate(lambda row: row.subcommand),
        args_f1=_f1(
            sum(row.args_right for row in scores),
            sum(row.args_given for row in scores),
            sum(row.args_wanted for row in scores),
        ),
        flags_f1=_f1(
            sum(row.flags_right for row in scores),
            sum(row.flags_given for row in scores),
            sum(row.flags_wanted for row in scores),
        ),
        json_valid=rate(lambda row: row.json_valid),
        schema_valid=rate(lambda row: row.schema_valid),
    )


def _f1(right: int, given: int, wanted: int) -> float | None:
    return 2 * right / (given + wanted) if given + wanted else None


def summarize_by(keys: Iterable[str], scores: Sequence[Score]) -> dict[str, Summary]:
    """A summary for each key: per command, per context, per expected type.

    Args:
        keys: One for each score, for example ``tags["target"]`` of its row.
        scores: Scores.
    """
    parts: dict[str, list[Score]] = defaultdict(list)
    for key, row in zip(keys, scores, strict=True):
        parts[key].append(row)
    return {key: summarize(parts[key]) for key in sorted(parts)}
