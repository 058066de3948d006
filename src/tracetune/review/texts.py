"""Texts of candidates as people see them: nothing in them reaches the terminal as a command."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracetune.records import Message, ReviewItem

_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_INVISIBLE = "\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
"""Characters that nobody sees, or that turn the order of what is seen."""
_HARMFUL = re.compile(f"[{_CONTROL}{_INVISIBLE}]")
_CONTROLS = re.compile(f"[{_CONTROL}]")
_SPACE, _DELETE = 0x20, 0x7F


def harmless(text: str) -> str:
    """``text`` with control characters and invisible ones made visible.

    Control characters become their pictures (``␛``), others their number (``<U+202E>``). Line
    feeds and tabs stay.
    """
    return _HARMFUL.sub(lambda found: _visible(found[0]), text)


def restored(edited: str, original: str) -> str:
    """``edited`` with the characters back that :func:`harmless` had replaced in ``original``."""
    for character in sorted(set(_HARMFUL.findall(original))):
        edited = edited.replace(_visible(character), character)
    return edited


def _visible(character: str) -> str:
    code = ord(character)
    if code < _SPACE:
        return chr(0x2400 + code)
    return "\u2421" if code == _DELETE else f"<U+{code:04X}>"


def has_controls(text: str) -> bool:
    """Whether ``text`` holds control characters other than line feeds and tabs."""
    return _CONTROLS.search(text) is not None


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
