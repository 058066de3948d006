"""Texts of candidates as people see them: nothing in them reaches the terminal as a command."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracetune.records import Message, ReviewItem

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"  # invisible, or they turn the order
)
_ESCAPE, _DELETE = 0x20, 0x7F


def harmless(text: str) -> str:
    """``text`` with control characters and characters that turn the order made visible.

    Control characters become their pictures (``␛``), others their number (``<U+202E>``). Line
    feeds and tabs stay.
    """
    return _HARMFUL.sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < _ESCAPE:
        return chr(0x2400 + code)
    return "\u2421" if code == _DELETE else f"<U+{code:04X}>"


def has_controls(text: str) -> bool:
    """Whether ``text`` holds characters that :func:`harmless` would replace."""
    return _HARMFUL.search(text) is not None


def request_of(item: ReviewItem) -> str:
    """The last user turn."""
    return item.prompt[-1].content


def words_of(messages: Sequence[Message]) -> str:
    """The text of an answer."""
    return "\n".join(message.content for message in messages)


def one_line(text: str, width: int) -> str:
    """``text`` harmless, on one line of at most ``width`` characters."""
    flat = " ".join(harmless(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
