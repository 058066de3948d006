"""Conversations of a file or a folder of exports, whatever their layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tracetune.conversations.chatgpt import chatgpt_conversation
from tracetune.conversations.claude import claude_conversation
from tracetune.conversations.plain import plain_conversation
from tracetune.conversations.reading import Place
from tracetune.conversations.stream import items
from tracetune.errors import DataError
from tracetune.privacy import Redactor, safe_id
from tracetune.records import ChatTurn, Conversation

_READERS = {
    "mapping": chatgpt_conversation,
    "chat_messages": claude_conversation,
    "messages": plain_conversation,
}
"""The field that tells a layout, and its reader."""
_ENDINGS = (".json", ".jsonl")
_OTHER_FILES = frozenset(
    {
        *("user.json", "users.json", "user_settings.json", "projects.json", "memories.json"),
        *("message_feedback.json", "model_comparisons.json", "shared_conversations.json"),
    }
)
"""Files beside the conversations in an unpacked export."""


def read_file(path: Path) -> Iterator[Conversation]:
    """The conversations of one file, one after the other, without those that say nothing.

    Raises:
        DataError: The file is broken, or a conversation has no known layout; the message names
            file, conversation and place.
    """
    seen: set[str] = set()
    for item in items(path):
        place = Place(f"{path}, conversation {item.number}")
        if not isinstance(item.value, dict):
            place.wrong(f"a conversation is an object (line {item.line})")
        found = [name for name in _READERS if name in item.value]
        if len(found) != 1:
            raise DataError(
                "no known layout: none of mapping (ChatGPT), chat_messages (Claude) and messages "
                "(plain) is there"
                if not found
                else f"several layouts at once: {found}",
                where=f"{place}, line {item.line}",
                remedy="give conversations.json of a ChatGPT or Claude export, or plain JSONL; "
                "other files of an export belong elsewhere",
            )
        conversation = _READERS[found[0]](item.value, place)
        if conversation is None:
            continue
        if conversation.group in seen:
            place.wrong(f"the conversation {conversation.id!r} stands twice in this file")
        seen.add(conversation.group)
        yield conversation


def read_folder(folder: Path) -> list[Conversation]:
    """All conversations of the files below a folder, in the order of their groups.

    The other files of an unpacked export (account, feedback, projects …) are passed over.
    A conversation that several exports hold is taken from the one with the most turns: a later
    export holds it continued.

    Raises:
        DataError: There is no file, or one is broken.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _ENDINGS and path.name not in _OTHER_FILES and path.is_file()
    )
    if not paths:
        raise DataError(
            "there are no conversations (*.json, *.jsonl)",
            where=str(folder),
            remedy="put conversations.json of an export there, or plain JSONL",
        )
    found: dict[str, Conversation] = {}
    for path in paths:
        for conversation in read_file(path):
            known = found.get(conversation.group)
            if known is None or len(conversation.turns) > len(known.turns):
                found[conversation.group] = conversation
    return [found[group] for group in sorted(found)]


def redacted(conversation: Conversation, redactor: Redactor) -> Conversation | None:
    """A conversation without secrets and personal data, with ids that say nothing of anybody.

    Args:
        conversation: As it was read.
        redactor: Redacts and keeps the books.

    Returns:
        None if the policy is ``drop`` and something was found.
    """
    hit = False

    def clean(text: str) -> str:
        nonlocal hit
        value, found = redactor.text(text)
        hit |= found
        return value

    def turn_of(turn: ChatTurn) -> ChatTurn:
        return turn.model_copy(
            update={
                "id": safe_id(turn.id),
                "parent": None if turn.parent is None else safe_id(turn.parent),
                "content": clean(turn.content),
                "attachments": [
                    file.model_copy(
                        update={
                            "name": clean(file.name),
                            "content": None if file.content is None else clean(file.content),
                        }
                    )
                    for file in turn.attachments
                ],
            }
        )

    changed = conversation.model_copy(
        update={
            "id": safe_id(conversation.id),
            "title": clean(conversation.title),
            "turns": [turn_of(turn) for turn in conversation.turns],
            "leaf": safe_id(conversation.leaf),
        }
    )
    if hit and redactor.options.policy == "drop":
        redactor.drop()
        return None
    return Conversation.model_validate(changed.model_dump())
