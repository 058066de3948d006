"""From the text of an answer to the thing that is judged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracetune.outputs import OutputSpec, Target, read_target, text_target

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ParsedAnswer:
    """An answer as the judgement sees it.

    Attributes:
        valid_json: The text is one JSON object; ``None`` where plain text is wanted.
        target: What it names; ``None`` if the text cannot be parsed (not a JSON object, or none of
            the judged fields holds a usable value).
        known: Everything it names exists. An answer that parses and is not known is *impossible*:
            another fault than one that does not parse (reference C9.13).
    """

    valid_json: bool | None
    target: Target | None
    known: bool


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        # RecursionError: a model that repeats itself may nest brackets thousands deep.
        value = json.loads(text, parse_constant=_refuse_constant)
        return _clean(value) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def _clean(value: Any) -> Any:
    """Without escaped lone surrogates: valid JSON, but no text that a file could hold."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def parse_answer(text: str, output: OutputSpec) -> ParsedAnswer:
    """Reads the target out of an answer; never raises, whatever the text is.

    The whole text must be JSON: what a router would have to cut out of prose would break it.

    Args:
        text: The answer.
        output: What a valid output looks like.
    """
    if output.compare == "text":
        target = text_target(_clean(text)) if text.strip() else None
        return ParsedAnswer(valid_json=None, target=target, known=target is not None)
    value = _json_object(text)
    if value is None:
        return ParsedAnswer(valid_json=False, target=None, known=False)
    target = read_target(value, output)
    known = target is not None and target.is_known(output)
    return ParsedAnswer(valid_json=True, target=target, known=known)
