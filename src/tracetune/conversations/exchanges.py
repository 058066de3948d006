"""Conversations as exchanges: a request, and the answer that the user saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tracetune.records import ChatAttachment, ChatProvider, ChatTurn, Conversation, Message


@dataclass(frozen=True)
class Exchange:
    """One request of the user and the answer to it on the main path.

    Attributes:
        conversation: Group of the conversation.
        conversation_id: Its id.
        provider: Whose export it is.
        number: Position among the exchanges of the conversation, from 0.
        count: How many exchanges there are.
        user: What the user said; several turns in a row are one.
        user_id: Id of the last of them.
        attachments: What came with them.
        history: Everything before, the system turn first; attachments are part of the text.
        between: Calls of tools and their results between request and answer.
        answer: What the assistant answered in the end; empty if it never did.
        answer_id: Id of the (last) turn of it, or of the request without an answer.
        branches: Answers to the same request on other branches, in order.
        depth: Place of the answer on the path, 0 to 1.
        sibling: Place of the answer among those of other branches, 0 to 1.
        temporal: Time of the answer between first and last turn, 0 to 1.
        request_depth: Place of the request on the path, 0 to 1.
        created_at: Time of the answer, or of the conversation.
    """

    conversation: str
    conversation_id: str
    provider: ChatProvider
    number: int
    count: int
    user: str
    user_id: str
    attachments: tuple[ChatAttachment, ...]
    history: tuple[Message, ...]
    between: tuple[Message, ...]
    answer: str
    answer_id: str
    branches: tuple[str, ...]
    depth: float
    sibling: float
    temporal: float
    request_depth: float
    created_at: datetime | None

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.conversation}#{self.answer_id}"

    @property
    def answered(self) -> bool:
        """Whether the assistant answered."""
        return bool(self.answer.strip())


@dataclass
class _Draft:
    users: list[ChatTurn]
    history: tuple[Message, ...]
    replies: list[ChatTurn] = field(default_factory=list)


def inlined(turn: ChatTurn) -> str:
    """What a turn says, with its attachments."""
    return with_attachments(turn.content, [(file.name, file.content) for file in turn.attachments])


def with_attachments(text: str, files: Sequence[tuple[str, str | None]]) -> str:
    """A text with files after it: their name, and their content where it is known."""
    parts = [text.strip()] if text.strip() else []
    for name, content in files:
        parts.append(f"[{name}]\n{content}" if content else f"[{name}]")
    return "\n\n".join(parts)


def exchanges(conversation: Conversation) -> list[Exchange]:
    """The exchanges on the main path, in order; of the last one the answer may be missing.

    System turns, wherever they stand, are joined and come first: they hold from there on. Turns of
    one side in a row are one.
    """
    path = conversation.path()
    system = [turn.content for turn in path if turn.role == "system"]
    drafts: list[_Draft] = []
    said: list[Message] = []
    instructions: list[str] = []
    for turn in path:
        if turn.role == "system":
            instructions.append(turn.content)
            continue
        if turn.role == "user":
            if drafts and not drafts[-1].replies:
                drafts[-1].users.append(turn)
            else:
                drafts.append(_Draft([turn], _history(instructions, said)))
        elif drafts:
            drafts[-1].replies.append(turn)
        said.append(Message(role=turn.role, content=inlined(turn)))
    places = {turn.id: n for n, turn in enumerate(t for t in path if t.role != "system")}
    last = max(len(path) - len(system) - 1, 1)
    return [
        replace(
            _exchange(conversation, draft, places, last, path), number=number, count=len(drafts)
        )
        for number, draft in enumerate(drafts)
    ]


def merged(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Messages with those of one role in a row as one."""
    found: list[Message] = []
    for message in messages:
        if found and found[-1].role == message.role:
            text = f"{found[-1].content}\n\n{message.content}"
            found[-1] = Message(role=message.role, content=text)
        else:
            found.append(message)
    return tuple(found)


def recent(history: Sequence[Message], most: int) -> list[Message]:
    """The end of a history, in whole turns from a user turn on; the system turn always stays.

    Args:
        history: What was said before a request.
        most: Most characters without the system turn.
    """
    system = [message for message in history[:1] if message.role == "system"]
    rest = list(history[len(system) :])
    size, start = 0, len(rest)
    for number in range(len(rest) - 1, -1, -1):
        size += len(rest[number].content)
        if size > most:
            break
        if rest[number].role == "user" or number == 0:
            start = number
    return [*system, *rest[start:]]


def _history(instructions: Sequence[str], said: Sequence[Message]) -> tuple[Message, ...]:
    first = [Message(role="system", content="\n\n".join(instructions))] if instructions else []
    return (*first, *merged(said))


def _exchange(
    conversation: Conversation,
    draft: _Draft,
    places: dict[str, int],
    last: int,
    path: Sequence[ChatTurn],
) -> Exchange:
    spoken = len(draft.replies)
    while spoken and _speaks(draft.replies[spoken - 1]):
        spoken -= 1
    final = draft.replies[spoken:]
    user = draft.users[-1]
    end = final[-1] if final else user
    branches, sibling = _branches(conversation, draft.replies[0]) if final else ((), 0.0)
    between = [Message(role=turn.role, content=inlined(turn)) for turn in draft.replies[:spoken]]
    while between and between[-1].role == "assistant":  # a call that nothing came back from
        between.pop()
    return Exchange(
        conversation=conversation.group,
        conversation_id=conversation.id,
        provider=conversation.provider,
        number=0,
        count=0,
        user="\n\n".join(turn.content for turn in draft.users if turn.content.strip()),
        user_id=user.id,
        attachments=tuple(file for turn in draft.users for file in turn.attachments),
        history=draft.history,
        between=merged(between),
        answer="\n\n".join(turn.content for turn in final),
        answer_id=end.id,
        branches=branches,
        depth=places[end.id] / last,
        sibling=sibling,
        temporal=_temporal(end, path, places[end.id] / last),
        request_depth=places[user.id] / last,
        created_at=end.created_at or user.created_at or conversation.created_at,
    )


def _speaks(turn: ChatTurn) -> bool:
    """Whether a turn speaks to the user: not a tool, nor a call of one."""
    return turn.role == "assistant" and turn.name is None


def _branches(conversation: Conversation, first: ChatTurn) -> tuple[tuple[str, ...], float]:
    """Answers on other branches that need no tool, and the place of this one among all."""
    siblings = conversation.alternatives()[first.parent]
    others = tuple(turn.content for turn in siblings if turn.id != first.id and _speaks(turn))
    ids = [turn.id for turn in siblings]
    place = ids.index(first.id) / (len(ids) - 1) if len(ids) > 1 else 0.0
    return others, place


def _temporal(end: ChatTurn, path: Sequence[ChatTurn], depth: float) -> float:
    times = [turn.created_at for turn in path if turn.created_at is not None]
    if end.created_at is None or len(times) < 2 or max(times) == min(times):
        return depth
    return (end.created_at - min(times)) / (max(times) - min(times))
