"""The contracts: every row that crosses a stage.

A row says what it is, where it came from and what must never be split from it. Sources write these
rows, splits and trainers read them, and neither knows the other. The dataset classes validate them
on save and on load.
"""

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
        source: Kind of source: ``phoenix``, ``cli``, ``eisv``, ``conversations``.
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


def _check_conversation(messages: list[Message], *, end: str) -> None:
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        raise ValueError("a system turn stands first or not at all")
    if not any(role == "user" for role in roles):
        raise ValueError("a prompt needs a user turn")
    if roles[-1] != end:
        raise ValueError(f"the last turn is {roles[-1]!r}, expected {end!r}")


def _check_completion(name: str, messages: list[Message]) -> None:
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


class Example(Row):
    """A prompt and the answer it should get (SFT).

    Attributes:
        prompt: Conversation up to the answer; the system turn is kept; ends with a user turn.
        completion: The answer, as a list of turns that starts with the assistant.
    """

    prompt: list[Message] = Field(min_length=1)
    completion: list[Message] = Field(min_length=1)

    def content(self) -> Any:
        """Prompt and completion."""
        return [_plain(self.prompt), _plain(self.completion)]

    @model_validator(mode="after")
    def _check(self) -> Example:
        _check_conversation(self.prompt, end="user")
        _check_completion("completion", self.completion)
        return self


class Preference(Row):
    """A prompt with a better and a worse answer (DPO).

    Attributes:
        prompt: Conversation up to the answers; ends with a user turn.
        chosen: The better answer.
        rejected: The worse answer; never equal to ``chosen``.
    """

    prompt: list[Message] = Field(min_length=1)
    chosen: list[Message] = Field(min_length=1)
    rejected: list[Message] = Field(min_length=1)

    def content(self) -> Any:
        """Prompt, chosen and rejected."""
        return [_plain(self.prompt), _plain(self.chosen), _plain(self.rejected)]

    @model_validator(mode="after")
    def _check(self) -> Preference:
        _check_conversation(self.prompt, end="user")
        _check_completion("chosen", self.chosen)
        _check_completion("rejected", self.rejected)
        if self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same: such a pair teaches nothing")
        return self


class Rating(Row):
    """A prompt with one answer and whether it was good (KTO); good and bad ones need no pair.

    Attributes:
        prompt: Conversation up to the answer; ends with a user turn.
        completion: The answer.
        good: What people said of it.
    """

    prompt: list[Message] = Field(min_length=1)
    completion: list[Message] = Field(min_length=1)
    good: bool

    def content(self) -> Any:
        """Prompt, completion and whether it was good."""
        return [_plain(self.prompt), _plain(self.completion), self.good]

    @model_validator(mode="after")
    def _check(self) -> Rating:
        _check_conversation(self.prompt, end="user")
        _check_completion("completion", self.completion)
        return self


class Triplet(Row):
    """A search with a document that answered it and one that did not (embedding).

    Attributes:
        anchor: What was searched for.
        positive: Text of the document that people wanted.
        negative: Text of a document that was shown with it and not wanted; never the same text.

    ``provenance.ids`` holds ``positive_id`` and ``negative_id`` beside the ids of the span.
    """

    anchor: Text
    positive: Text
    negative: Text

    def content(self) -> Any:
        """Anchor, positive and negative."""
        return [self.anchor, self.positive, self.negative]

    @model_validator(mode="after")
    def _check(self) -> Triplet:
        for name in ("anchor", "positive", "negative"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is blank")
        if self.positive == self.negative:
            raise ValueError("positive and negative are the same: such a triplet teaches nothing")
        return self


class SearchQuery(Row):
    """A search and the documents that answer it, by their ids in the catalogue.

    Attributes:
        text: What was searched for.
        relevant: Ids of the documents that people wanted, sorted, each once.
    """

    text: Text
    relevant: list[Text] = Field(min_length=1)

    def content(self) -> Any:
        """Text and relevant ids."""
        return [self.text, self.relevant]

    @model_validator(mode="after")
    def _check(self) -> SearchQuery:
        if not self.text.strip():
            raise ValueError("text is blank")
        if self.relevant != sorted(set(self.relevant)):
            raise ValueError("relevant ids must be sorted, each once")
        return self


class CatalogueDocument(Record):
    """A document that a search can find.

    Attributes:
        id: Its id in the results of searches.
        text: Its newest content, redacted.
        seen_at: When that content was last shown (UTC).
    """

    id: Text = Field(min_length=1)
    text: Text
    seen_at: UtcTime

    @model_validator(mode="after")
    def _check(self) -> CatalogueDocument:
        if not self.text.strip():
            raise ValueError("text is blank")
        return self


def _plain(messages: list[Message]) -> list[list[str]]:
    return [[message.role, message.content] for message in messages]


def make_example(
    *,
    prompt: list[Message],
    completion: list[Message],
    tags: dict[str, str] | None = None,
    **origin: Any,
) -> Example:
    """An :class:`Example` with its id and content hash filled in.

    Args:
        prompt: Conversation up to the answer.
        completion: The answer.
        tags: Small facts for reports.
        **origin: Fields of :class:`Provenance` without ``content_hash``.
    """
    found, row_id = _origin("sft", [_plain(prompt), _plain(completion)], origin)
    return Example(
        id=row_id, provenance=found, prompt=prompt, completion=completion, tags=tags or {}
    )


def make_preference(
    *,
    prompt: list[Message],
    chosen: list[Message],
    rejected: list[Message],
    tags: dict[str, str] | None = None,
    **origin: Any,
) -> Preference:
    """A :class:`Preference` with its id and content hash filled in.

    Args:
        prompt: Conversation up to the answers.
        chosen: The better answer.
        rejected: The worse answer.
        tags: Small facts for reports.
        **origin: Fields of :class:`Provenance` without ``content_hash``.
    """
    content = [_plain(prompt), _plain(chosen), _plain(rejected)]
    found, row_id = _origin("pair", content, origin)
    return Preference(
        id=row_id,
        provenance=found,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        tags=tags or {},
    )


def make_rating(
    *,
    prompt: list[Message],
    completion: list[Message],
    good: bool,
    tags: dict[str, str] | None = None,
    **origin: Any,
) -> Rating:
    """A :class:`Rating` with its id and content hash filled in.

    Args:
        prompt: Conversation up to the answer.
        completion: The answer.
        good: What people said of it.
        tags: Small facts for reports.
        **origin: Fields of :class:`Provenance` without ``content_hash``.
    """
    content = [_plain(prompt), _plain(completion), good]
    found, row_id = _origin("good" if good else "bad", content, origin)
    return Rating(
        id=row_id,
        provenance=found,
        prompt=prompt,
        completion=completion,
        good=good,
        tags=tags or {},
    )


def _origin(kind: str, content: Any, origin: dict[str, Any]) -> tuple[Provenance, str]:
    """Provenance with the hash of the content, and the id that follows from both."""
    content_hash = sha256_json(content)
    found = Provenance(content_hash=content_hash, **origin)
    return found, _row_id(kind, found.source, found.tenant, found.ids, content_hash)


def make_triplet(
    *,
    anchor: str,
    positive: str,
    negative: str,
    source: str,
    tenant: str,
    ids: dict[str, str],
    group: str,
    created_at: datetime | None,
    weight: float = 1.0,
    tags: dict[str, str] | None = None,
) -> Triplet:
    """A :class:`Triplet` with its id and content hash filled in."""
    content_hash = sha256_json([anchor, positive, negative])
    return Triplet(
        id=_row_id("triplet", source, tenant, ids, content_hash),
        provenance=Provenance(
            source=source,
            tenant=tenant,
            ids=ids,
            group=group,
            created_at=created_at,
            content_hash=content_hash,
            weight=weight,
        ),
        anchor=anchor,
        positive=positive,
        negative=negative,
        tags=tags or {},
    )


def make_query(
    *,
    text: str,
    relevant: list[str],
    source: str,
    tenant: str,
    ids: dict[str, str],
    group: str,
    created_at: datetime | None,
    tags: dict[str, str] | None = None,
) -> SearchQuery:
    """A :class:`SearchQuery` with its id and content hash filled in."""
    content_hash = sha256_json([text, relevant])
    return SearchQuery(
        id=_row_id("query", source, tenant, ids, content_hash),
        provenance=Provenance(
            source=source,
            tenant=tenant,
            ids=ids,
            group=group,
            created_at=created_at,
            content_hash=content_hash,
        ),
        text=text,
        relevant=relevant,
        tags=tags or {},
    )


def _row_id(kind: str, source: str, tenant: str, ids: dict[str, str], content_hash: str) -> str:
    return f"{kind}-{sha256_json([source, tenant, ids, content_hash])[:20]}"


class Turn(Record):
    """One question and its answer in a session (source document 003).

    Attributes:
        turn_id: Position in the session, from 1.
        query: What the user said.
        response: What the application answered.
        timestamp: When the turn started (UTC).
        span_id: The span it was.
        metadata: Small facts (``trace_id`` …).
    """

    turn_id: int = Field(ge=1)
    query: Text
    response: Text
    timestamp: UtcTime
    span_id: Text
    metadata: dict[str, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Turn:
        if not self.query.strip() or not self.response.strip():
            raise ValueError("query and response of a turn are not blank")
        return self


class Trajectory(Row):
    """One session: its turns in order and what a person said of it (source document 003).

    Attributes:
        session_id: The session.
        turns: Turns in the order (start time, span id), numbered from 1.
        session_outcome: ``success``, ``partial``, ``failure`` …; None if nobody judged it.
        session_score: The score given with it.
    """

    session_id: Text
    turns: list[Turn] = Field(min_length=1)
    session_outcome: Text | None
    session_score: float | None = Field(allow_inf_nan=False)

    def content(self) -> Any:
        """Queries and responses in order, outcome and score."""
        said = [[turn.query, turn.response] for turn in self.turns]
        return [said, self.session_outcome, self.session_score]

    @model_validator(mode="after")
    def _check(self) -> Trajectory:
        if [turn.turn_id for turn in self.turns] != list(range(1, len(self.turns) + 1)):
            raise ValueError("turns are numbered from 1 in their order")
        return self


def make_trajectory(
    *,
    session_id: str,
    turns: list[Turn],
    session_outcome: str | None,
    session_score: float | None,
    source: str,
    tenant: str,
    group: str,
    tags: dict[str, str] | None = None,
) -> Trajectory:
    """A :class:`Trajectory` with its id and content hash filled in.

    It counts as made when its last turn started: a session that reaches into the test window is a
    test session as a whole.
    """
    said = [[turn.query, turn.response] for turn in turns]
    content_hash = sha256_json([said, session_outcome, session_score])
    ids = {"session_id": session_id}
    return Trajectory(
        id=_row_id("trajectory", source, tenant, ids, content_hash),
        provenance=Provenance(
            source=source,
            tenant=tenant,
            ids=ids,
            group=group,
            created_at=turns[-1].timestamp,
            content_hash=content_hash,
        ),
        session_id=session_id,
        turns=turns,
        session_outcome=session_outcome,
        session_score=session_score,
        tags=tags or {},
    )
