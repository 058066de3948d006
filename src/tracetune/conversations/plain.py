"""Reader of plain JSONL: one conversation per line, ``{"id": …, "messages": [{role, content}]}``.

Optional: ``title``, ``created_at``; of a message ``id``, ``parent``, ``name``, ``created_at``. With
parents the messages form a tree whose end is ``leaf`` or else the last message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracetune.conversations.reading import (
    Place,
    RawTurn,
    build,
    list_of,
    mapping_of,
    string_of,
    text_of,
    time_of,
)
from tracetune.files import sha256_json
from tracetune.records import ChatRole, Conversation

_ROLES: dict[str, ChatRole] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_FIELDS = frozenset({"id", "messages", "title", "created_at", "leaf"})
_MESSAGE_FIELDS = frozenset({"id", "parent", "role", "content", "name", "created_at"})


def plain_conversation(value: Mapping[str, Any], place: Place) -> Conversation | None:
    """One conversation of a plain file.

    Args:
        value: The conversation.
        place: File and number of the conversation, for messages.

    Returns:
        None if nobody says anything in it.

    Raises:
        DataError: It is not in this layout.
    """
    _known(value, _FIELDS, place)
    messages = list_of(value.get("messages"), place.at("messages"))
    # Without an id the content is the id.
    given = value.get("id", sha256_json(messages)[:20])
    name = string_of(given, place.at("id"))
    place = Place(f"{place.file} ({name})")
    raw: list[RawTurn] = []
    for number, item in enumerate(messages):
        where = place.at(f"messages[{number}]")
        message = mapping_of(item, where)
        _known(message, _MESSAGE_FIELDS, where)
        raw.append(_turn(message, number, raw[-1].id if raw else None, where))
    if not raw:
        return None
    return build(
        raw,
        leaf=string_of(value["leaf"], place.at("leaf")) if "leaf" in value else raw[-1].id,
        identifier=name,
        provider="internal",
        title=text_of(str(value.get("title") or "")),
        created_at=time_of(value.get("created_at"), place.at("created_at")),
        place=place,
    )


def _turn(message: Mapping[str, Any], number: int, before: str | None, place: Place) -> RawTurn:
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        place.at("role").wrong(
            f"an unknown role: {message.get('role')!r}; known: {', '.join(_ROLES)}"
        )
    content = message.get("content")
    if not isinstance(content, str):
        place.at("content").wrong("the content is not a text")
    parent = before
    if "parent" in message:
        given = message["parent"]
        parent = None if given is None else string_of(given, place.at("parent"))
    name = message.get("name")
    return RawTurn(
        string_of(message["id"], place.at("id")) if "id" in message else str(number + 1),
        parent,
        role,
        text_of(content),
        time_of(message.get("created_at"), place.at("created_at")),
        None if name is None else string_of(name, place.at("name")),
    )


def _known(value: Mapping[str, Any], fields: frozenset[str], place: Place) -> None:
    unknown = sorted(set(value) - fields)
    if unknown:
        place.wrong(f"unknown fields: {', '.join(unknown)}; known: {', '.join(sorted(fields))}")
