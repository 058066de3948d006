"""Rows before they are rows: candidates with their keys, duplicates and contradictions removed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar, overload

from tracetune.files import canonical_json
from tracetune.outputs import parse_json
from tracetune.records import (
    Example,
    Message,
    Preference,
    Rating,
    Record,
    make_example,
    make_preference,
    make_rating,
)

SOURCE = "phoenix"
_Item = TypeVar("_Item")
_Row = TypeVar("_Row", bound=Record)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row comes from: keys only."""

    span_id: str
    trace_id: str
    session_id: str | None
    start_time: datetime
    window: str
    target: str
    target_source: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row before de-duplication; ``answers`` is (answer) or (chosen, rejected)."""

    origin: Origin
    prompt: str
    answers: tuple[str, ...]
    key: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it will be written.

    Attributes:
        text: What is taught.
        value: Its JSON value, or the text itself if it is none.
        canonical: The form in which two are compared: objects with sorted keys.
    """

    text: str
    value: Any
    canonical: str

    @classmethod
    def read(cls, text: str) -> Answer:
        """The answer in a text."""
        try:
            value = parse_json(text)
        except ValueError:
            value = text
        return cls(text, value, canonical_json(value) if isinstance(value, dict) else text)


class Made(Sequence[_Row], Generic[_Item, _Row]):
    """Rows that are made each time they are asked for; memory holds only what they are made of."""

    def __init__(self, items: Sequence[_Item], make: Callable[[_Item], _Row]) -> None:
        """Keeps ``items``; ``make`` gives the row of one of them."""
        self._items = items
        self._make = make

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> _Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Row]: ...
    def __getitem__(self, index: int | slice) -> _Row | list[_Row]:
        """One row, or a list of some."""
        if isinstance(index, slice):
            return [self._make(item) for item in self._items[index]]
        return self._make(self._items[index])

    def __iter__(self) -> Iterator[_Row]:
        """All rows in their order."""
        return map(self._make, self._items)

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of equal rows."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def candidate_of(origin: Origin, prompt: str, *answers: Answer) -> Candidate:
    """A candidate with the key of its content."""
    digest = hashlib.sha256()
    for text in (prompt, *(answer.canonical for answer in answers)):
        content = text.encode("utf-8")
        # With its length first, so that no two lists of texts run together to the same bytes.
        digest.update(b"%d:" % len(content))
        digest.update(content)
    return Candidate(origin, prompt, tuple(answer.text for answer in answers), digest.digest())


def deduplicate(candidates: list[Candidate]) -> list[Candidate]:
    """One candidate per key, in the order given: test before training, then the earliest."""
    winners: dict[bytes, Candidate] = {}
    for window in ("test", "train"):
        for candidate in candidates:
            if candidate.origin.window == window:
                winners.setdefault(candidate.key, candidate)
    return [candidate for candidate in candidates if winners[candidate.key] is candidate]


def contradictions(good: Sequence[Candidate], bad: Sequence[Candidate]) -> set[bytes]:
    """Keys of the answers that some approved and others rejected for the same prompt."""
    return {candidate.key for candidate in good} & {candidate.key for candidate in bad}


def ratings(
    good: Sequence[Candidate], bad: Sequence[Candidate], instruction: Message, tenant: str
) -> tuple[Sequence[Rating], Counter[str]]:
    """Answers that were good or bad, each (prompt, answer) once; contradictions leave.

    Args:
        good: Approved and corrected answers.
        bad: Rejected answers.
        instruction: System turn.
        tenant: Whose data it is.

    Returns:
        The rows in the order (start time, span id), and their counts: ``good``, ``bad`` and
        ``contradictory`` (prompts with an answer on both sides, left out).
    """
    both = contradictions(good, bad)
    kept = [
        (candidate, verdict)
        for candidates, verdict in (
            (deduplicate(list(good)), True),
            (deduplicate(list(bad)), False),
        )
        for candidate in candidates
        if candidate.key not in both
    ]
    kept.sort(key=lambda item: (item[0].origin.start_time, item[0].origin.span_id, item[1]))
    counts = Counter({"good": 0, "bad": 0, "contradictory": len(both)})
    counts.update("good" if verdict else "bad" for _, verdict in kept)
    return Made(kept, partial(_rating, instruction=instruction, tenant=tenant)), counts


def _rating(item: tuple[Candidate, bool], instruction: Message, tenant: str) -> Rating:
    candidate, verdict = item
    return make_rating(
        completion=_answer(candidate.answers[0]),
        good=verdict,
        **_shared(candidate, instruction, tenant),
    )


def _shared(candidate: Candidate, instruction: Message, tenant: str) -> dict[str, Any]:
    origin = candidate.origin
    ids = {"span_id": origin.span_id, "trace_id": origin.trace_id}
    if origin.session_id is not None:
        ids["session_id"] = origin.session_id
    return {
        "prompt": [instruction, Message(role="user", content=candidate.prompt)],
        "source": SOURCE,
        "tenant": tenant,
        "ids": ids,
        "group": group_of(origin.session_id, origin.trace_id),
        "created_at": origin.start_time,
        "tags": {
            "target": origin.target,
            "target_source": origin.target_source,
            "window": origin.window,
        },
    }


def group_of(session_id: str | None, trace_id: str) -> str:
    """The unit that is never split: the session, or the trace where there is none."""
    return f"session:{session_id}" if session_id is not None else f"trace:{trace_id}"


def _answer(text: str) -> list[Message]:
    return [Message(role="assistant", content=text)]


def examples(
    candidates: Sequence[Candidate], instruction: Message, tenant: str
) -> Sequence[Example]:
    """The SFT rows of candidates."""
    return Made(candidates, partial(_example, instruction=instruction, tenant=tenant))


def _example(candidate: Candidate, instruction: Message, tenant: str) -> Example:
    return make_example(
        completion=_answer(candidate.answers[0]), **_shared(candidate, instruction, tenant)
    )


def preferences(
    candidates: Sequence[Candidate], instruction: Message, tenant: str
) -> Sequence[Preference]:
    """The pairs of candidates."""
    return Made(candidates, partial(_preference, instruction=instruction, tenant=tenant))


def _preference(candidate: Candidate, instruction: Message, tenant: str) -> Preference:
    chosen, rejected = candidate.answers
    return make_preference(
        chosen=_answer(chosen),
        rejected=_answer(rejected),
        **_shared(candidate, instruction, tenant),
    )
