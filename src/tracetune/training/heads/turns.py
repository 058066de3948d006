"""A row as token ids: the turn with as much of its past as fits, and where the turn begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracetune.errors import DataError
from tracetune.records.heads import HeadMessage, TrajectoryRow
from tracetune.training.rendering import common_prefix, on_the_fixed_day

_PROBES = ("x7", "Q3")
"""Texts that begin differently, so that any other text differs from one of them at once."""


@dataclass(frozen=True)
class TurnTokens:
    """What the base reads of a row.

    Attributes:
        ids: Past and turn.
        start: Where the text of the turn begins. What comes before is only context: the past, the
            start token (whose hidden state is an outlier in most models) and the header with the
            role.
        left_out: Messages of the past that did not fit.
        cut: Tokens of the turn itself that did not fit.
        as_user: Whether the turn is read as the one message of a user, because the chat template
            takes it neither with its past nor alone in its own role.
    """

    ids: tuple[int, ...]
    start: int
    left_out: int
    cut: int
    as_user: bool = False


class TurnReader:
    """Turns rows of one base into token ids.

    Args:
        tokenizer: Tokenizer with a chat template.
        max_length: Most tokens of a row.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        """Starts with nothing known about any text."""
        self._tokenizer = tokenizer
        self._template = on_the_fixed_day(tokenizer.chat_template)
        self.max_length = max_length
        self._lengths: dict[str, int] = {}

    def read(self, row: TrajectoryRow) -> TurnTokens:
        """The tokens of one row.

        Messages of one role in a row are rendered as one, as phase 1 does. Whole messages of the
        past are left out, the oldest first, until the rest fits and the chat template takes it:
        some want the first message to be the user's. A turn that the template takes in no way in
        its own role (a system turn alone, an answer whose request does not fit) is read as a
        message of the user. A turn that is too long alone is cut at its end.

        Raises:
            DataError: What the template puts before a turn leaves no room for it, or it does not
                even take a message of the user.
        """
        messages, refused = row.messages, ""
        last = len(messages) - 1
        for first in range(self._first_that_may_fit(messages), last + 1):
            found = self._try(messages[first:], must_fit=first < last)
            if isinstance(found, TurnTokens):
                return replace(found, left_out=first)
            refused = found
        found = self._try([HeadMessage(role="user", content=messages[-1].content)])
        if isinstance(found, TurnTokens):
            return replace(found, left_out=last, as_user=True)
        roles = [message.role for message in messages[-3:]]
        raise DataError(
            f"the chat template of the base does not take the turn ({roles}): {refused}; "
            f"as a message of the user: {found}",
            where=f"row {row.row_id}",
            remedy="raise heads.max_length, or use a base whose template takes a message of a user",
        )

    def _try(self, messages: Sequence[HeadMessage], *, must_fit: bool = False) -> TurnTokens | str:
        """The tokens of some messages, or why there are none."""
        from jinja2 import TemplateError

        try:
            ids = self._ids(messages)
            if must_fit and len(ids) > self.max_length:
                return f"{len(ids)} tokens, {self.max_length} are read"
            start = self._start(messages, ids)
        except TemplateError as error:
            return str(error)
        kept = ids[: self.max_length]
        if start >= len(ids):
            return "it leaves the text out"
        if start >= len(kept):
            return f"{start} of {self.max_length} tokens come before its text"
        return TurnTokens(tuple(kept), start, 0, len(ids) - len(kept))

    def _start(self, messages: Sequence[HeadMessage], ids: list[int]) -> int:
        """Tokens that are the same whatever the last message says."""
        *past, turn = messages
        others = [[*past, turn.model_copy(update={"content": probe})] for probe in _PROBES]
        return min(common_prefix(self._ids(other), ids) for other in others)

    def _ids(self, messages: Sequence[HeadMessage]) -> list[int]:
        turns: list[dict[str, str]] = []
        for message in messages:
            if turns and turns[-1]["role"] == message.role:
                turns[-1]["content"] += f"\n\n{message.content}"
            else:
                turns.append({"role": message.role, "content": message.content})
        found = self._tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, chat_template=self._template
        )
        return list(found["input_ids"])

    def _first_that_may_fit(self, messages: Sequence[HeadMessage]) -> int:
        """The first message from which on the bare texts fit; the template only adds to them."""
        room = self.max_length
        for position in range(len(messages) - 1, -1, -1):
            room -= self._length(messages[position].content)
            if room < 0:
                return min(position + 1, len(messages) - 1)
        return 0

    def _length(self, text: str) -> int:
        if text not in self._lengths:
            ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            self._lengths[text] = len(ids)
        return self._lengths[text]
