"""Rows before they are rows: candidates with their keys, duplicates and contradictions removed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tracetune.files import canonical_json
from tracetune.records import (
    Example,
    Message,
    Preference,
    Rating,
    make_example,
    make_preference,
    make_rating,
)
from tracetune.telemetry.rules import parse_json

SOURCE = "phoenix"


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


def as_json(text: str) -> Any:
    """The JSON value of a text, or the text itself if it is none."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def canonical(text: str) -> str:
    """An answer in the form in which two are compared: objects with sorted keys."""
    value = as_json(text)
    return canonical_json(value) if isinstance(value, dict) else text


def candidate_of(origin: Origin, prompt: str, *answers: str) -> Candidate:
    """A candidate with the key of its content."""
    content = canonical_json([prompt, *map(canonical, answers)])
    key = hashlib.sha256(content.encode("utf-8")).digest()
    return Candidate(origin, prompt, answers, key)


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
) -> tuple[list[Rating], Counter[str]]:
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
    rows = [
        make_rating(
            completion=_answer(candidate.answers[0]),
            good=verdict,
            **_shared(candidate, instruction, tenant),
        )
        for candidate, verdict in kept
    ]
    counts = Counter({"good": 0, "bad": 0, "contradictory": len(both)})
    counts.update("good" if row.good else "bad" for row in rows)
    return rows, counts


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


def example(candidate: Candidate, instruction: Message, tenant: str) -> Example:
    """The SFT row of a candidate."""
    return make_example(
        completion=_answer(candidate.answers[0]), **_shared(candidate, instruction, tenant)
    )


def preference(candidate: Candidate, instruction: Message, tenant: str) -> Preference:
    """The pair of a candidate."""
    chosen, rejected = candidate.answers
    return make_preference(
        chosen=_answer(chosen),
        rejected=_answer(rejected),
        **_shared(candidate, instruction, tenant),
    )
