"""What a model says after it has thought: a thought is no part of an answer."""

from __future__ import annotations

import re

OPENING = "<think>"
"""Begins a thought, as the templates of thinking models write it."""

_CLOSING = "</think>"
# Where the template or the service has taken the opening away, the end stands on a line of its own.
_LONE_CLOSING = re.compile(rf"^[ \t]*{_CLOSING}[ \t]*$", re.MULTILINE)


def spoken(text: str) -> str:
    """The answer in a text that may begin with a thought, without surrounding blanks.

    Args:
        text: What a model wrote.

    Returns:
        What follows on the thought; nothing if the thought was never ended.
    """
    text = text.strip()
    if text.startswith(OPENING):
        return text.partition(_CLOSING)[2].strip()
    end = _LONE_CLOSING.search(text)
    if end is not None and OPENING not in text[: end.start()]:
        return text[end.end() :].strip()
    return text
