"""What is reviewed, and the states it goes through (source document 003, reference C4).

    submitted → pending_review ─┬→ approved
              → regenerated  ───┴→ rejected → (written anew: another item, regenerated)
              → auto_approved

A person may change a decision later: approved ⇄ rejected, auto_approved → approved or rejected.
Only what was rejected and then written anew stays rejected. An item never changes. What people
decide about it is a history of events, and the state of an item is what its events say.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracetune.outputs import OutputSpec
from tracetune.records import Nearest, Record, ReviewItem, Text, UtcTime

__all__ = [
    "ACCEPTED",
    "OPEN",
    "Correction",
    "Nearest",
    "Place",
    "ReviewEvent",
    "ReviewItem",
    "ReviewSpec",
    "ReviewedItem",
    "State",
]

State = Literal["auto_approved", "pending_review", "approved", "rejected", "regenerated"]
OPEN: frozenset[State] = frozenset({"pending_review", "regenerated"})
"""States that wait for a person."""
ACCEPTED: frozenset[State] = frozenset({"approved", "auto_approved"})
"""States whose items are taken into training."""

Place = Literal["rule", "terminal", "spreadsheet", "phoenix"]


class Correction(Record):
    """What a reviewer wrote instead; None leaves a part as it is.

    Attributes:
        request: The last user turn.
        answer: The answer.
        rejected: The worse answer of a pair.
    """

    request: Text | None = None
    answer: Text | None = None
    rejected: Text | None = None


class ReviewEvent(Record):
    """One line of the history.

    Attributes:
        seq: Position in the history, from 1.
        at: When (UTC).
        who: The person, or ``rule``.
        place: Where it was decided.
        item: The item.
        before: Its state before; None: it was submitted.
        after: Its state after.
        why: The reviewer's words; a rejection needs some.
        correction: What was edited when it was approved.
        undoes: ``seq`` of the event this one takes back.
    """

    seq: int = Field(ge=1)
    at: UtcTime
    who: Text = Field(min_length=1)
    place: Place
    item: str
    before: State | None
    after: State
    why: Text = ""
    correction: Correction | None = None
    undoes: int | None = None


class ReviewSpec(Record):
    """What answers must look like; kept beside the items so that edits can be checked.

    Attributes:
        output: Schema and comparison of the agent's output.
        max_chars: Longest request or answer.
    """

    output: OutputSpec
    max_chars: int = Field(ge=1)


class ReviewedItem(Record):
    """An item with what was decided about it.

    Attributes:
        item: The item as it was written.
        state: Its state now.
        final: The item with the reviewer's corrections in it.
        why: The words of the last decision.
        who: Who decided last; empty while nobody did.
        at: When.
        seq: Position in the history of the last event about it; whoever changes a decision says
            which one it saw.
    """

    item: ReviewItem
    state: State
    final: ReviewItem
    why: Text = ""
    who: Text = ""
    at: UtcTime | None = None
    seq: int = 0
