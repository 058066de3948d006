"""Reader of Claude exports: ``conversations.json``, each conversation a list ``chat_messages``.

With ``parent_message_uuid`` the messages form a tree, whose first messages have a parent of zeros
and whose end is ``current_leaf_message_uuid`` or else the latest message without a child; without
it they follow each other. The blocks of a message hold text, calls of tools and their results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from tracetune.records import ChatAttachment, ChatRole, Conversation

_ROLES: dict[str, ChatRole] = {
    "human": "user",
    "user": "user",
    "assistant": "assistant",
    "system": "system",
}
_SILENT = frozenset({"thinking", "redacted_thinking", "token_budget", "flag"})
_ZERO = "00000000-0000-"


def claude_conversation(value: Mapping[str, Any], place: Place) -> Conversation | None:
    """One conversation of the export.

    Args:
        value: The conversation.
        place: File and number of the conversation, for messages.

    Returns:
        None if nobody says anything in it.

    Raises:
        DataError: It is not in the layout of the export.
    """
    name = string_of(value.get("uuid"), place.at("uuid"))
    place = Place(f"{place.file} ({name})")
    messages = list_of(value.get("chat_messages"), place.at("chat_messages"))
    raw: list[RawTurn] = []
    last_of: dict[str, str] = {}
    before: str | None = None
    for number, item in enumerate(messages):
        where = place.at(f"chat_messages[{number}]")
        message = mapping_of(item, where)
        uuid = string_of(message.get("uuid"), where.at("uuid"))
        if uuid in last_of:
            where.at("uuid").wrong(f"two messages have the uuid {uuid!r}")
        parts = _turns(message, uuid, where)
        raw += parts
        last_of[uuid] = parts[-1].id
        raw[-len(parts)] = _under(parts[0], _parent(message, before, where))
        before = uuid
    if not raw:
        return None
    # A parent is named by its message; a message with tools is several turns.
    heads = set(last_of)
    linked = [
        _under(turn, last_of[turn.parent]) if turn.id in heads and turn.parent in heads else turn
        for turn in raw
    ]
    return build(
        linked,
        leaf=_leaf(value, messages, last_of, place),
        identifier=name,
        provider="claude",
        title=text_of(str(value.get("name") or "")),
        created_at=time_of(value.get("created_at"), place.at("created_at")),
        place=place,
    )


def _under(turn: RawTurn, parent: str | None) -> RawTurn:
    return RawTurn(
        turn.id, parent, turn.role, turn.content, turn.created_at, turn.name, turn.attachments
    )


def _parent(message: Mapping[str, Any], before: str | None, place: Place) -> str | None:
    if "parent_message_uuid" not in message:
        return before
    parent = message["parent_message_uuid"]
    if parent is None:
        return None
    name = string_of(parent, place.at("parent_message_uuid"))
    return None if name.startswith(_ZERO) else name


def _leaf(
    value: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    last_of: Mapping[str, str],
    place: Place,
) -> str:
    named = value.get("current_leaf_message_uuid")
    if named is not None:
        uuid = string_of(named, place.at("current_leaf_message_uuid"))
        if uuid not in last_of:
            place.at("current_leaf_message_uuid").wrong(f"there is no message {uuid!r}")
        return last_of[uuid]
    if not any("parent_message_uuid" in message for message in messages):
        return last_of[messages[-1]["uuid"]]
    parents = {message.get("parent_message_uuid") for message in messages}
    ends = [message for message in messages if message["uuid"] not in parents] or list(messages)
    latest = max(ends, key=lambda message: str(message.get("created_at") or ""))
    return last_of[latest["uuid"]]


def _turns(message: Mapping[str, Any], uuid: str, place: Place) -> list[RawTurn]:
    """The turns of one message: text, calls of tools and results in their order, chained."""
    role = _ROLES.get(str(message.get("sender")))
    if role is None:
        place.at("sender").wrong(f"an unknown sender: {message.get('sender')!r}")
    moment = time_of(message.get("created_at"), place.at("created_at"))
    attachments = _attachments(message, place)
    pieces = _pieces(message, role, place) or [(role, "", None)]
    turns: list[RawTurn] = []
    for number, (who, text, name) in enumerate(pieces):
        turns.append(
            RawTurn(
                uuid if number == 0 else f"{uuid}/{number}",
                turns[-1].id if turns else None,
                who,
                text_of(text),
                moment,
                name,
                attachments if number == 0 else (),
            )
        )
    return turns


def _pieces(
    message: Mapping[str, Any], role: ChatRole, place: Place
) -> list[tuple[ChatRole, str, str | None]]:
    """(role, text, tool) of the blocks of a message; older exports have ``text`` only."""
    blocks = list_of(message.get("content") or [], place.at("content"))
    found: list[tuple[ChatRole, str, str | None]] = []
    for number, item in enumerate(blocks):
        where = place.at(f"content[{number}]")
        block = mapping_of(item, where)
        kind = block.get("type")
        if kind in _SILENT:
            continue
        if kind == "text":
            text = block.get("text")
            if not isinstance(text, str):
                where.at("text").wrong("a block of text holds none")
            if found and found[-1][0] == role and found[-1][2] is None:
                found[-1] = (role, f"{found[-1][1]}\n\n{text}", None)
            else:
                found.append((role, text, None))
        elif kind == "tool_use":
            call = json.dumps(block.get("input"), ensure_ascii=False)
            found.append(("assistant", call, text_of(str(block.get("name") or "tool"))))
        elif kind == "tool_result":
            name = text_of(str(block.get("name") or "tool"))
            found.append(("tool", _result(block.get("content")), name))
        elif isinstance(kind, str):
            # A new kind of block is kept as JSON; with a name it is no part of what was said.
            found.append((role, json.dumps(block, ensure_ascii=False), text_of(kind)))
        else:
            where.at("type").wrong("a block has no kind")
    if not blocks and isinstance(message.get("text"), str):
        return [(role, message["text"], None)]
    return found


def _result(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else json.dumps(content, ensure_ascii=False)
    texts = []
    for block in content:
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            texts.append(block["text"])
        else:
            texts.append(json.dumps(block, ensure_ascii=False))
    return "\n".join(texts)


def _attachments(message: Mapping[str, Any], place: Place) -> tuple[ChatAttachment, ...]:
    """Pasted texts with their content, and names of files."""
    found = []
    for number, file in enumerate(message.get("attachments") or ()):
        entry = mapping_of(file, place.at(f"attachments[{number}]"))
        text = entry.get("extracted_content")
        found.append(
            ChatAttachment(
                name=text_of(str(entry.get("file_name") or "pasted text")),
                content=text_of(text) if isinstance(text, str) and text else None,
            )
        )
    for number, file in enumerate(message.get("files") or ()):
        entry = mapping_of(file, place.at(f"files[{number}]"))
        if entry.get("file_name"):
            found.append(ChatAttachment(name=text_of(str(entry["file_name"]))))
    return tuple(found)
