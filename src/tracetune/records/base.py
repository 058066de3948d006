"""What all contracts share: strict records, messages, provenance, rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from tracetune.files import sha256_json

Split = Literal["train", "validation", "test", "dropped"]


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a lone surrogate at character {error.start}; it has no UTF-8 form"
        ) from error
    return text


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


SYNTHETIC = "synthetic"
"""``provenance.source`` of rows that somebody wrote and a person approved."""

UtcTime = Annotated[
    AwareDatetime, AfterValidator(_utc), PlainSerializer(_iso, return_type=str, when_used="json")
]
"""An aware time in UTC, written with microseconds and ``Z``."""

Text = Annotated[str, AfterValidator(_encodable)]
"""Text that can be written as UTF-8."""


class Record(BaseModel):
    """Base of all contracts: immutable, no unknown fields, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class Provenance(Record):
    """Where a row came from.

    Attributes:
        source: Kind of source: ``phoenix``, ``cli``, ``eisv``, ``conversations``, ``synthetic``.
        tenant: The tenant whose data it is.
        ids: What it was made from, by kind: ``span_id``, ``session_id``, ``turn``, ``cell`` …
        group: The unit that must never be divided between training and test.
        created_at: When the source event happened (UTC); not when the row was made.
        content_hash: SHA-256 of the training content of the row.
        weight: Weight of the row in training, > 0.
    """

    source: Text
    tenant: Text
    ids: dict[str, Text]
    group: Text
    created_at: UtcTime | None
    content_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    weight: float = Field(default=1.0, gt=0)


def check_conversation(messages: list[Message], *, end: str) -> None:
    """Refuses a conversation without a user turn, with a late system turn or another end."""
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        raise ValueError("a system turn stands first or not at all")
    if not any(role == "user" for role in roles):
        raise ValueError("a prompt needs a user turn")
    if roles[-1] != end:
        raise ValueError(f"the last turn is {roles[-1]!r}, expected {end!r}")


def check_completion(name: str, messages: list[Message]) -> None:
    """Refuses an answer that is blank or does not start with the assistant."""
    if messages[0].role != "assistant":
        raise ValueError(f"{name} starts with {messages[0].role!r}, expected 'assistant'")
    if not any(message.content.strip() for message in messages):
        raise ValueError(f"{name} is blank")


class Row(Record, ABC):
    """What every training row has.

    Attributes:
        id: Stable id, derived from the content and its place of origin.
        tags: Small facts about the row used for reports (``target``, ``target_source`` …).
    """

    id: str = Field(pattern=r"^[a-z]+-[0-9a-f]{20}$")
    provenance: Provenance
    tags: dict[str, Text] = Field(default_factory=dict)

    @abstractmethod
    def content(self) -> Any:
        """The part of the row that a model is trained on, as plain JSON values."""

    @model_validator(mode="after")
    def _hash_matches(self) -> Row:
        if self.provenance.content_hash != sha256_json(self.content()):
            raise ValueError("provenance.content_hash does not match the content of the row")
        return self


def plain(messages: list[Message]) -> list[list[str]]:
    """Messages as plain JSON values."""
    return [[message.role, message.content] for message in messages]


def make_origin(kind: str, content: Any, origin: dict[str, Any]) -> tuple[Provenance, str]:
    """Provenance with the hash of the content, and the id that follows from both."""
    content_hash = sha256_json(content)
    found = Provenance(content_hash=content_hash, **origin)
    return found, row_id(kind, found.source, found.tenant, found.ids, content_hash)


def row_id(kind: str, source: str, tenant: str, ids: dict[str, str], content_hash: str) -> str:
    """The id of a row: its kind and 20 hex digits from where it is from and what it says."""
    return f"{kind}-{sha256_json([source, tenant, ids, content_hash])[:20]}"
