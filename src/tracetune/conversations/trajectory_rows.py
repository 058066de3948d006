"""Conversations → rows of the heads: document 001's record, what is known beside it, and phase 1.

A row is one turn with what was said up to it. Rows of phase 1 are the answers as they stand, in
document 001's chat format: one division holds for both, so that the base has not been tuned on a
conversation that the heads are judged on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from tracetune.conversations.coordinates import SpokenTurn, coordinates
from tracetune.conversations.exchanges import exchanges, merged, recent, with_attachments
from tracetune.conversations.patterns import patterns_of
from tracetune.errors import DataError
from tracetune.files import atomic_path, canonical_json
from tracetune.records import Conversation, Example, Message, make_example
from tracetune.records.heads import (
    NEXT_TURNS,
    HeadExtra,
    HeadMessage,
    TrajectoryReference,
    TrajectoryRow,
    head_row_id,
)

SOURCE = "conversations"


def trajectory_rows(
    conversation_id: str, turns: Sequence[SpokenTurn], reference: TrajectoryReference
) -> list[TrajectoryRow]:
    """One row per turn of a conversation.

    Args:
        conversation_id: Its group, which is unique over all exports.
        turns: All its turns.
        reference: How coordinates are made.
    """
    messages = [HeadMessage(role=turn.role, content=turn.content) for turn in turns]
    return [
        TrajectoryRow(
            messages=messages[: index + 1], trajectory=point, conversation_id=conversation_id
        )
        for index, point in enumerate(coordinates(turns, reference))
    ]


def head_extras(
    conversation_id: str,
    turns: Sequence[SpokenTurn],
    reference: TrajectoryReference,
    *,
    source: str,
    by_author: bool,
) -> list[HeadExtra]:
    """Targets of every turn of a conversation.

    Args:
        conversation_id: Its group.
        turns: All its turns.
        reference: How coordinates are made.
        source: Whose export it is from.
        by_author: Whether rows of one author are alike in style, or those of one conversation.
    """
    ids = [head_row_id(conversation_id, index) for index in range(len(turns))]
    return [
        HeadExtra(
            row_id=ids[index],
            conversation_id=conversation_id,
            author=turn.author,
            style_group=turn.author if by_author else conversation_id,
            role=turn.role,
            source=source,
            created_at=turn.created_at,
            turn_index=index,
            variant=reference.variant,
            patterns=patterns_of(turn.content),
            next_rows=ids[index + 1 : index + 1 + NEXT_TURNS],
        )
        for index, turn in enumerate(turns)
    ]


def people(conversations: Iterable[Sequence[SpokenTurn]]) -> set[str]:
    """The people who wrote turns of the user; a system turn makes nobody an author."""
    return {turn.author for turns in conversations for turn in turns if turn.role == "user"}


def tuning_examples(
    conversation: Conversation, *, tenant: str, history_chars: int
) -> list[Example]:
    """Rows of phase 1: every answer of a conversation, with what was said before it.

    Args:
        conversation: The conversation.
        tenant: Whose data it is.
        history_chars: Most characters of the conversation before a request that a row keeps.
    """
    rows = []
    for exchange in exchanges(conversation):
        if not exchange.answered:
            continue
        asked = with_attachments(
            exchange.user, [(file.name, file.content) for file in exchange.attachments]
        )
        before = recent(exchange.history, history_chars)
        rows.append(
            make_example(
                prompt=[*before, Message(role="user", content=asked)],
                completion=list(
                    merged([*exchange.between, Message(role="assistant", content=exchange.answer)])
                ),
                tags={"provider": exchange.provider},
                source=SOURCE,
                tenant=tenant,
                ids={"conversation_id": exchange.conversation_id, "turn": exchange.answer_id},
                group=exchange.conversation,
                created_at=exchange.created_at,
            )
        )
    return rows


def write_rows(path: Path, rows: Iterable[TrajectoryRow]) -> None:
    """Writes rows as JSONL, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(canonical_json(row.model_dump(mode="json")) + "\n")


def read_rows(path: Path) -> list[TrajectoryRow]:
    """Reads document 001's JSONL; empty lines are passed over.

    Raises:
        DataError: A line is not a record; the message names file, line, field and reason.
    """
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(_row(line, f"{path}, line {number}"))
    return rows


def check_extras(rows: Sequence[TrajectoryRow], extras: Sequence[HeadExtra]) -> None:
    """Every row has exactly one extra, and what is said of its conversation and turn agrees.

    Raises:
        DataError: One is missing, stands twice, or belongs to no row.
    """
    known: Mapping[str, HeadExtra] = {extra.row_id: extra for extra in extras}
    ids = [row.row_id for row in rows]
    if len(known) != len(extras) or len(set(ids)) != len(ids):
        raise DataError("a row id stands twice", where="rows of the heads")
    if set(ids) != set(known):
        wrong = sorted(set(ids) ^ set(known))[0]
        missing = "extra" if wrong not in known else "row"
        raise DataError(
            f"there is no {missing} with the id {wrong!r}",
            where="rows of the heads",
            remedy="rows and sidecar are of different runs; run the pipeline anew",
        )


def _row(line: str, where: str) -> TrajectoryRow:
    try:
        return TrajectoryRow.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        raise DataError(
            f"field '{field}': {first['msg']}",
            where=where,
            remedy="correct the line; docs/heads.md shows the record",
        ) from None
