"""What an agent's output names, and how two of them compare: one rule for rows and judgement.

An agent answers with a JSON object (or, with ``text``, with plain words). The judged field holds
one name (routing), a set of names (profile selection) or a list of entities (entity extraction);
which of them is configuration, so a further agent needs no code.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tracetune.options import Options

Comparison = Literal["exact", "set", "entities", "text"]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"a name stands there twice: {list(names)}")
    return names


Name = Annotated[str, AfterValidator(_not_blank)]


SURROGATE = re.compile("[\ud800-\udfff]")
"""Half characters, which have no UTF-8 form."""
_MAX_DEPTH = 64


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:30]} does not fit a float")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def parse_json(text: str) -> Any:
    """The JSON value in ``text``.

    Lone surrogates written as escapes become U+FFFD, since they have no UTF-8 form.

    Raises:
        ValueError: If it is no JSON, holds NaN or infinity, or is nested deeper than 64 levels.
    """
    try:
        return clean_json(_DECODER.decode(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def clean_json(value: Any, depth: int = 0) -> Any:
    """A JSON value whose lone surrogates are U+FFFD.

    Raises:
        ValueError: If it is nested deeper than 64 levels.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return value if value.isascii() else SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [clean_json(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {clean_json(key): clean_json(item, depth + 1) for key, item in value.items()}
    return value


class OutputSpec(Options):
    """What a valid output of the agent looks like, and when two of them agree."""

    target: Annotated[tuple[Name, ...], AfterValidator(_distinct)] = Field(
        ("agent", "recommended_agent"),
        min_length=1,
        description="Fields of the JSON output; the first that holds a usable value is judged.",
    )
    compare: Comparison = Field(
        "exact",
        description="exact: the field holds one name. set: a list of names, in any order. "
        "entities: a list of objects with text and type, compared by F1. text: the whole output "
        "is plain text, compared by the F1 of its words.",
    )
    known: Annotated[tuple[Name, ...], AfterValidator(_distinct)] = Field(
        (),
        description="Names that exist (for entities: types). An output that names another one is "
        "never taught. Empty: every name is accepted.",
    )
    right_from: float = Field(
        0.5,
        gt=0,
        le=1,
        description="F1 from which entities or text count as right; one and set must be equal.",
    )

    @property
    def all_or_nothing(self) -> bool:
        """Whether an answer is either right or wrong, with no score in between."""
        return self.compare in ("exact", "set")


@dataclass(frozen=True)
class Target:
    """What an output names.

    Attributes:
        items: The names; (text, type) in lower and upper case for entities; words with their
            number for text. Two targets with the same items are equal.
        label: The same for people: one line, equal for equal targets.
        names: What is held against ``known``: names or entity types; empty for text.
    """

    items: tuple[Any, ...]
    label: str
    names: tuple[str, ...]

    def is_known(self, spec: OutputSpec) -> bool:
        """Whether everything it names exists."""
        return not spec.known or all(name in spec.known for name in self.names)

    def slices(self, spec: OutputSpec) -> list[str]:
        """The parts of a report the row belongs to: each name or entity type, once."""
        if spec.compare == "text":
            return []
        return sorted(set(self.names)) or ["none"]


def read_target(value: Mapping[str, Any], spec: OutputSpec) -> Target | None:
    """The target in an output object: of the first field that holds a usable value.

    Returns:
        None if no field does: it is missing, of another type, or blank. An empty list of entities
        is a statement (there are none), an empty selection is not.
    """
    for name in spec.target:
        found = _READERS[spec.compare](value.get(name))
        if found is not None:
            return found
    return None


def text_target(text: str) -> Target:
    """A plain text as target: its words without regard to case and punctuation."""
    words = Counter(re.findall(r"\w+", text.casefold()))
    return Target(tuple(sorted(words.items())), " ".join(text.split()), ())


def score(answer: Target | None, reference: Target, spec: OutputSpec) -> float:
    """How well an answer agrees with what a person approved, from 0 to 1.

    Exact and set: 1 if equal, else 0. Entities and text: F1, the harmonic mean of the share of
    named items that are right and of right items that are named; 1 if both are empty.
    """
    if answer is None:
        return 0.0
    if spec.all_or_nothing:
        return float(answer.items == reference.items)
    ours, theirs = _counted(answer, spec), _counted(reference, spec)
    if not ours and not theirs:
        return 1.0
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total())


def is_right(value: float, spec: OutputSpec) -> bool:
    """Whether an answer with this score counts as right."""
    return value >= (1.0 if spec.all_or_nothing else spec.right_from)


def _counted(target: Target, spec: OutputSpec) -> Counter[Any]:
    return Counter(dict(target.items)) if spec.compare == "text" else Counter(target.items)


def _one(value: Any) -> Target | None:
    if not isinstance(value, str) or not value.strip():
        return None
    name = value.strip()
    return Target((name,), name, (name,))


def _set(value: Any) -> Target | None:
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(name, str) and name.strip() for name in value):
        return None
    names = tuple(sorted({name.strip() for name in value}))
    return Target(names, ", ".join(names), names)


def _entities(value: Any) -> Target | None:
    if not isinstance(value, list):
        return None
    found: dict[tuple[str, str], str] = {}
    for entity in value:
        text = entity.get("text") if isinstance(entity, Mapping) else None
        kind = entity.get("type") if isinstance(entity, Mapping) else None
        if not isinstance(text, str) or not isinstance(kind, str):
            return None
        if not text.strip() or not kind.strip():
            return None
        key = (" ".join(text.split()).lower(), kind.strip().upper())
        found.setdefault(key, " ".join(text.split()))
    label = ", ".join(f"{found[key]} ({key[1]})" for key in sorted(found))
    return Target(tuple(sorted(found)), label or "none", tuple(kind for _, kind in sorted(found)))


_READERS = {"exact": _one, "set": _set, "entities": _entities, "text": _one}
