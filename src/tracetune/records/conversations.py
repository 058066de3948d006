"""Conversations with their outcome: trajectories."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tracetune.files import sha256_json
from tracetune.records.base import Provenance, Record, Row, Text, UtcTime, row_id


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
        id=row_id("trajectory", source, tenant, ids, content_hash),
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
