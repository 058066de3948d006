"""What is reviewed, and the states it goes through (source document 003, reference C4).

    submitted → pending_review ─┬→ approved
              → regenerated  ───┴→ rejected → (written anew: another item, regenerated)
              → auto_approved

An item never changes. What people decide about it is a history of events, and the state of an item
is what its events say.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tracetune.outputs import OutputSpec
from tracetune.records import Message, Record, Text, UtcTime
from tracetune.records.base import check_completion, check_conversation

State = Literal["auto_approved", "pending_review", "approved", "rejected", "regenerated"]
OPEN: frozenset[State] = frozenset({"pending_review", "regenerated"})
"""States that wait for a person."""
ACCEPTED: frozenset[State] = frozenset({"approved", "auto_approved"})
"""States whose items are taken into training."""

Place = Literal["rule", "terminal", "spreadsheet", "phoenix"]


class Nearest(Record):
    """A real row that is like an item, shown beside it."""

    text: Text
    answer: Text
    similarity: float = Field(ge=0, le=1)


class ReviewItem(Record):
    """A candidate row for training that no person has approved yet.

    Attributes:
        id: ``item-`` and 20 hex digits; written anew: the id of the first with ``_regen_<n>``.
        kind: What it becomes: a row of SFT, or a pair for DPO (whose better answer is an SFT row).
        prompt: Conversation up to the answer; ends with a user turn.
        answer: The right answer (of a pair: the better one).
        rejected: The worse answer of a pair, else None.
        rejected_why: Why it is worse.
        confidence: 0 to 1, by the rules of reference C4; it orders and may approve, never trains.
        attempt: 0 for the first writing, then 1, 2 …
        written_by: Who wrote it, for people and reports.
        request_id: The request to the writer.
        cell: The part of the plan it was written for (a label, a pair of labels …).
        nearest: The most similar real rows.
        tags: Small facts (``target`` …), as in the rows.
    """

    id: str = Field(pattern=r"^item-[0-9a-f]{20}(_regen_[1-9][0-9]*)?$")
    kind: Literal["example", "preference"]
    prompt: list[Message] = Field(min_length=1)
    answer: list[Message] = Field(min_length=1)
    rejected: list[Message] | None = None
    rejected_why: Text = ""
    confidence: float = Field(ge=0, le=1)
    attempt: int = Field(default=0, ge=0)
    written_by: Text
    request_id: Text
    cell: Text = ""
    nearest: list[Nearest] = Field(default_factory=list)
    tags: dict[str, Text] = Field(default_factory=dict)

    @property
    def root(self) -> str:
        """Id of the first writing."""
        return self.id.partition("_regen_")[0]

    @model_validator(mode="after")
    def _check(self) -> ReviewItem:
        check_conversation(self.prompt, end="user")
        check_completion("answer", self.answer)
        if (self.kind == "preference") != (self.rejected is not None):
            raise ValueError("a preference has a rejected answer, an example has none")
        if self.rejected is not None:
            check_completion("rejected", self.rejected)
            if self.rejected == self.answer:
                raise ValueError("answer and rejected are the same")
        if (self.attempt > 0) != ("_regen_" in self.id):
            raise ValueError("attempt and id disagree")
        return self


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
    """

    item: ReviewItem
    state: State
    final: ReviewItem
    why: Text = ""
    who: Text = ""
    at: UtcTime | None = None
