"""Reader of ChatGPT exports: ``conversations.json``, each conversation a tree under ``mapping``.

A node holds one message or none, its parent and its children; ``current_node`` is the end of what
the user saw. A regenerated answer or an edited question is a further child. What the model thinks
for itself (``thoughts``, ``reasoning_recap``) says nothing to the user and is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracetune.conversations.reading import (
    Place,
    RawTurn,
    build,
    kind_of,
    list_of,
    mapping_of,
    string_of,
    text_of,
    time_of,
)
from tracetune.records import ChatAttachment, ChatRole, Conversation

_ROLES: dict[str, ChatRole] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_SILENT = frozenset({"thoughts", "reasoning_recap", "model_editable_context"})
_TEXT_FIELDS = ("text", "result", "summary", "content")
_TO_EVERYBODY = ("all", "", None)


def chatgpt_conversation(value: Mapping[str, Any], place: Place) -> Conversation | None:
    """One conversation of the export.

    Args:
        value: The conversation.
        place: File and number of the conversation, for messages.

    Returns:
        None if nobody says anything in it.

    Raises:
        DataError: It is not in the layout of the export.
    """
    identifier = value.get("conversation_id") or value.get("id")
    name = string_of(identifier, place.at("conversation_id"))
    place = Place(f"{place.file} ({name})")
    mapping = mapping_of(value.get("mapping"), place.at("mapping"))
    raw = [
        _node(key, mapping_of(node, place.at(f"mapping.{key}")), place.at(f"mapping.{key}"))
        for key, node in mapping.items()
    ]
    if not raw:
        return None
    leaf = value.get("current_node")
    return build(
        raw,
        leaf=_last(raw) if leaf is None else string_of(leaf, place.at("current_node")),
        identifier=name,
        provider="chatgpt",
        title=text_of(str(value.get("title") or "")),
        created_at=time_of(value.get("create_time"), place.at("create_time")),
        place=place,
    )


def _last(raw: list[RawTurn]) -> str:
    """The end where the export names none: the latest turn without a child."""
    parents = {turn.parent for turn in raw}
    ends = [turn for turn in raw if turn.id not in parents] or raw
    timed = [turn for turn in ends if turn.created_at is not None]
    return max(timed, key=lambda turn: str(turn.created_at)).id if timed else ends[-1].id


def _node(key: str, node: Mapping[str, Any], place: Place) -> RawTurn:
    parent = node.get("parent")
    if parent is not None:
        parent = string_of(parent, place.at("parent"))
    message = node.get("message")
    if message is None:
        return RawTurn(key, parent)
    message = mapping_of(message, place.at("message"))
    author = mapping_of(message.get("author"), place.at("message.author"))
    role = _ROLES.get(str(author.get("role")))
    if role is None:
        place.at("message.author.role").wrong(f"an unknown role: {author.get('role')!r}")
    content = mapping_of(message.get("content"), place.at("message.content"))
    metadata = message.get("metadata") or {}
    kind = content.get("content_type")
    if kind in _SILENT:
        return RawTurn(key, parent)
    if kind == "user_editable_context":
        # Custom instructions: written by the user once, shown to the model as instructions.
        role = "system"
    recipient = message.get("recipient")
    return RawTurn(
        key,
        parent,
        role,
        _text(content, place.at("message.content")),
        time_of(message.get("create_time"), place.at("message.create_time")),
        _tool(role, author, recipient, content),
        _attachments(content, metadata),
    )


def _tool(
    role: ChatRole, author: Mapping[str, Any], recipient: Any, content: Mapping[str, Any]
) -> str | None:
    """Name of the tool that speaks, or that the assistant calls.

    A content of a new kind without text is kept as JSON, and counts as a call: nobody said it.
    """
    if role == "tool":
        return text_of(str(author.get("name") or "tool"))
    if role == "assistant" and recipient not in _TO_EVERYBODY:
        return text_of(str(recipient))
    if role == "assistant" and "parts" not in content:
        known = any(isinstance(content.get(name), str) for name in _TEXT_FIELDS)
        return None if known else text_of(str(content.get("content_type")))
    return None


def _text(content: Mapping[str, Any], place: Place) -> str:
    kind = content.get("content_type")
    if kind == "code":
        return text_of(str(content.get("text") or ""))
    if kind == "user_editable_context":
        parts = [content.get("user_profile"), content.get("user_instructions")]
        return text_of("\n\n".join(part for part in parts if isinstance(part, str) and part))
    if "parts" in content:
        parts = [_part(part, place) for part in list_of(content["parts"], place.at("parts"))]
        return text_of("\n\n".join(part for part in parts if part))
    for name in _TEXT_FIELDS:
        if isinstance(content.get(name), str):
            return text_of(content[name])
    return text_of(json.dumps(content, ensure_ascii=False))


def _part(part: Any, place: Place) -> str:
    if isinstance(part, str):
        return part
    if part is None:
        return ""
    if isinstance(part, dict):
        if isinstance(part.get("text"), str):  # transcribed speech
            return str(part["text"])
        if part.get("content_type"):  # a picture or sound, which is named by _attachments
            return ""
        return json.dumps(part, ensure_ascii=False)
    place.at("parts").wrong(f"a text or an object is expected here, not {kind_of(part)}")


def _attachments(
    content: Mapping[str, Any], metadata: Mapping[str, Any]
) -> tuple[ChatAttachment, ...]:
    named = [
        ChatAttachment(name=text_of(str(file.get("name") or "file")))
        for file in metadata.get("attachments") or ()
        if isinstance(file, dict)
    ]
    if named:
        return tuple(named)
    return tuple(
        ChatAttachment(name=text_of(str(part["asset_pointer"])))
        for part in content.get("parts") or ()
        if isinstance(part, dict) and isinstance(part.get("asset_pointer"), str)
    )
