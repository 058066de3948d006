"""From the text of an answer to the thing that is judged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tracetune.evaluation.options import OutputSpec

Comparison = Literal["exact"]

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer as the judgement sees it.

    Attributes:
        valid_json: The text is one JSON object.
        target: What it names, without surrounding blanks; ``None`` if the text cannot be parsed
            (not a JSON object, or none of the target fields holds a non-blank string).
        known: The target is one of those that exist. An answer that parses and is not known is
            *impossible*: another fault than one that does not parse (reference C9.13).
    """

    valid_json: bool
    target: str | None
    known: bool


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        # RecursionError: a model that repeats itself may nest brackets thousands deep.
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def parse_answer(text: str, output: OutputSpec) -> ParsedAnswer:
    """Reads the target out of an answer; never raises, whatever the text is.

    The whole text must be JSON: what a router would have to cut out of prose would break it.

    Args:
        text: The answer.
        output: Fields that may hold the target, in order, and the targets that exist.
    """
    value = _json_object(text)
    if value is None:
        return ParsedAnswer(valid_json=False, target=None, known=False)
    for field in output.target:
        found = value.get(field)
        if isinstance(found, str) and found.strip():
            # An escaped lone surrogate is valid JSON but no text that a file could hold.
            target = _SURROGATE.sub("\ufffd", found.strip())
            known = not output.known or target in output.known
            return ParsedAnswer(valid_json=True, target=target, known=known)
    return ParsedAnswer(valid_json=True, target=None, known=False)


def _exact(answer: str | None, target: str) -> bool:
    return answer is not None and answer == target


COMPARISONS: dict[Comparison, Callable[[str | None, str], bool]] = {"exact": _exact}
"""How an answer is held against the target: one function per kind of agent output."""
