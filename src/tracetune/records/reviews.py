"""Candidates that wait for a person: what somebody wrote and nobody has approved yet."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tracetune.records.base import (
    Message,
    Record,
    Text,
    check_completion,
    check_conversation,
)


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
