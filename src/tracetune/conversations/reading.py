"""What the readers of all layouts share: places in error messages, texts, times."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from pydantic import ValidationError

from tracetune.errors import DataError
from tracetune.records import ChatAttachment, ChatProvider, ChatRole, ChatTurn, Conversation

_SURROGATE = re.compile("[\ud800-\udfff]")
_REMEDY = "export it again; if the layout of the export has changed, report it"


@dataclass(frozen=True)
class Place:
    """Where a reader is, for messages.

    Attributes:
        file: The file, the number of the conversation in it, and its id.
        within: The part of the conversation.
    """

    file: str
    within: str = ""

    def at(self, within: str) -> Place:
        """A place inside this one."""
        return Place(self.file, f"{self.within}.{within}" if self.within else within)

    def __str__(self) -> str:
        """File and place."""
        return f"{self.file}, {self.within}" if self.within else self.file

    def wrong(self, what: str) -> NoReturn:
        """Raises the error of this place."""
        raise DataError(what, where=str(self), remedy=_REMEDY)


@dataclass(frozen=True)
class RawTurn:
    """A turn as a layout gives it, before empty ones are left out.

    Attributes:
        id: Its id in the export.
        parent: Id of the turn before it; None of a first one.
        role: Who said it; None of a node that says nothing to anybody.
        content: Text.
        created_at: When.
        name: Of a tool: its name.
        attachments: Files.
    """

    id: str
    parent: str | None
    role: ChatRole | None = None
    content: str = ""
    created_at: datetime | None = None
    name: str | None = None
    attachments: tuple[ChatAttachment, ...] = ()


def text_of(value: str) -> str:
    """Text with a replacement character for half characters, which have no UTF-8 form."""
    return value if value.isascii() else _SURROGATE.sub("\ufffd", value)


def mapping_of(value: Any, place: Place) -> Mapping[str, Any]:
    """``value`` if it is an object."""
    if not isinstance(value, dict):
        place.wrong(f"an object is expected here, not {kind_of(value)}")
    return value


def list_of(value: Any, place: Place) -> Sequence[Any]:
    """``value`` if it is a list."""
    if not isinstance(value, list):
        place.wrong(f"a list is expected here, not {kind_of(value)}")
    return value


def string_of(value: Any, place: Place) -> str:
    """``value`` if it is a text that is not empty."""
    if not isinstance(value, str) or not value:
        place.wrong(f"a text is expected here, not {kind_of(value)}")
    return text_of(value)


def time_of(value: Any, place: Place) -> datetime | None:
    """A time: seconds since 1970, or ISO 8601 with a zone (``Z``); None stays None."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                place.wrong(f"the time {value!r} has no zone")
            return moment.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    place.wrong(f"no time: {str(value)[:40]!r}")


def kind_of(value: Any) -> str:
    """What a JSON value is, for messages."""
    if value is None:
        return "null"
    if value == "":
        return "an empty text"
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "a number")


def build(
    raw: Sequence[RawTurn],
    *,
    leaf: str,
    identifier: str,
    provider: ChatProvider,
    title: str,
    created_at: datetime | None,
    place: Place,
) -> Conversation | None:
    """A conversation from its turns; those that say nothing are left out and bridged.

    Args:
        raw: Turns in any order.
        leaf: Id of the end of the main path.
        identifier: Id of the conversation.
        provider: Whose export it is.
        title: Title.
        created_at: When it began.
        place: For messages.

    Returns:
        None if nobody says anything in it: exports hold such conversations.

    Raises:
        DataError: A parent is missing, parents lead in a circle, or the end is unknown.
    """
    by_id = {turn.id: turn for turn in raw}
    if len(by_id) != len(raw):
        place.wrong("two turns have the same id")
    if leaf not in by_id:
        place.wrong(f"the end of the conversation, {leaf!r}, is not among its turns")
    ordered = _parents_first(raw, by_id, place)
    kept_of: dict[str, str | None] = {}
    turns = []
    for turn in ordered:
        before = kept_of[turn.parent] if turn.parent is not None else None
        if turn.role is None or not (turn.content.strip() or turn.attachments):
            kept_of[turn.id] = before
            continue
        kept_of[turn.id] = turn.id
        turns.append(
            ChatTurn(
                id=turn.id,
                parent=before,
                role=turn.role,
                content=turn.content,
                created_at=turn.created_at,
                name=turn.name,
                attachments=list(turn.attachments),
            )
        )
    end = kept_of[leaf]
    if end is None:
        return None
    try:
        return Conversation(
            id=identifier,
            provider=provider,
            title=title,
            created_at=created_at,
            turns=turns,
            leaf=end,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place.wrong(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def _parents_first(
    raw: Sequence[RawTurn], by_id: Mapping[str, RawTurn], place: Place
) -> list[RawTurn]:
    """Turns so that each stands after its parent, otherwise in the order given."""
    done: dict[str, RawTurn] = {}
    for turn in raw:
        waiting: dict[str, RawTurn] = {}
        current: RawTurn | None = turn
        while current is not None and current.id not in done:
            if current.id in waiting:
                place.at(current.id).wrong("the parents of this turn lead in a circle")
            waiting[current.id] = current
            if current.parent is None:
                break
            if current.parent not in by_id:
                place.at(current.id).wrong(f"its parent {current.parent!r} does not exist")
            current = by_id[current.parent]
        done |= dict(reversed(waiting.items()))
    return list(done.values())
