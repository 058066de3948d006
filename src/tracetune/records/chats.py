"""Conversations with an assistant: turns as a tree, and the path that counts."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from pydantic import Field, model_validator

from tracetune.records.base import Record, Text, UtcTime

ChatProvider = Literal["chatgpt", "claude", "internal"]
"""Whose export it is; ``internal`` for plain JSONL."""

ChatRole = Literal["system", "user", "assistant", "tool"]


class ChatAttachment(Record):
    """A file that came with a turn.

    Attributes:
        name: Its name.
        content: Its text where the export holds it; None of pictures and the like.
    """

    name: Text
    content: Text | None = None


class ChatTurn(Record):
    """One turn of a conversation.

    Attributes:
        id: Unique in its conversation.
        parent: The turn it answers; None of a first turn.
        role: Who said it.
        content: What was said; blank only if it has attachments.
        created_at: When (UTC), where the export says so.
        name: Of a tool: its name.
        attachments: Files that came with it.
    """

    id: Text = Field(min_length=1)
    parent: Text | None
    role: ChatRole
    content: Text
    created_at: UtcTime | None = None
    name: Text | None = None
    attachments: list[ChatAttachment] = Field(default_factory=list)

    @model_validator(mode="after")
    def _says_something(self) -> ChatTurn:
        if not self.content.strip() and not self.attachments:
            raise ValueError("a turn has text or an attachment")
        return self


class Conversation(Record):
    """One conversation of an export.

    Attributes:
        id: Id in the export.
        provider: Whose export it is.
        title: Its title; may be empty.
        created_at: When it began (UTC), where the export says so.
        turns: All turns, each after its parent; a turn with several children was regenerated or
            edited there.
        leaf: Id of the last turn of the main path: what the user saw in the end.
    """

    id: Text = Field(min_length=1)
    provider: ChatProvider
    title: Text = ""
    created_at: UtcTime | None = None
    turns: list[ChatTurn] = Field(min_length=1)
    leaf: Text

    @model_validator(mode="after")
    def _is_a_tree(self) -> Conversation:
        seen: set[str] = set()
        for turn in self.turns:
            if turn.id in seen:
                raise ValueError(f"the turn {turn.id!r} stands twice")
            if turn.parent is not None and turn.parent not in seen:
                raise ValueError(f"the parent of the turn {turn.id!r} does not stand before it")
            seen.add(turn.id)
        if self.leaf not in seen:
            raise ValueError(f"there is no turn {self.leaf!r}, which should end the main path")
        return self

    @property
    def group(self) -> str:
        """The unit that must never be divided between training and test."""
        return f"{self.provider}:{self.id}"

    def path(self) -> list[ChatTurn]:
        """The turns of the main path, from the first to ``leaf``."""
        return self.path_to(self.leaf)

    def path_to(self, turn_id: str) -> list[ChatTurn]:
        """The turns from the first to the given one."""
        by_id = {turn.id: turn for turn in self.turns}
        found = [by_id[turn_id]]
        while found[-1].parent is not None:
            found.append(by_id[found[-1].parent])
        return found[::-1]

    def alternatives(self) -> dict[str | None, list[ChatTurn]]:
        """Turns by their parent: more than one means that it was regenerated or edited there."""
        found: dict[str | None, list[ChatTurn]] = defaultdict(list)
        for turn in self.turns:
            found[turn.parent].append(turn)
        return dict(found)


RewriteSource = Literal["branch", "later", "cut", "written", "none"]
"""Where the text of an accepted rewrite is from: another branch of the conversation, a later answer
of it, the answer without its stalling sentences, a large model; ``none`` if there is none."""


class ChatRewrite(Record):
    """What became of an answer that should have been another one.

    Attributes:
        conversation: Group of the conversation.
        turn: Id of the answer that was to be rewritten.
        purpose: ``unjustified`` (it stalled) or ``friction`` (it made the user angry).
        answer: The accepted text; None if none was accepted.
        source: Where the text is from.
        outcome: Of the request, see ``tracetune.llm.OUTCOMES``; ``not_asked`` without a request.
        reasons: Why nothing was accepted.
    """

    conversation: Text
    turn: Text
    purpose: Literal["unjustified", "friction"]
    answer: Text | None
    source: RewriteSource
    outcome: Text
    reasons: list[Text] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> ChatRewrite:
        if (self.answer is None) != (self.source == "none"):
            raise ValueError("an accepted answer has a source, and only an accepted one")
        if (self.answer is None) != bool(self.reasons):
            raise ValueError("there are reasons exactly if nothing was accepted")
        return self
