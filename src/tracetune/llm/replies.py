"""Raw replies of the service, read: a message that was paid, or why there is none."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from tracetune.llm.contracts import Usage
from tracetune.records import Record

Kind = Literal["message", "errored", "expired", "canceled", "broken"]

_TOKENS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
}
"""Field of :class:`Usage` → field of the service."""


class ReplyBody(Record):
    """A reply.

    Attributes:
        kind: ``message``: an answer, paid; ``errored``, ``expired``, ``canceled``: from a batch,
            not paid; ``broken``: not as the service documents it, so it may have been paid.
        text: The text blocks of the message, one after the other.
        stop_reason: Why the message ended.
        usage: Tokens paid.
        reason: For people, if it is no message.
    """

    kind: Kind
    text: str = ""
    stop_reason: str = ""
    usage: Usage = Field(default_factory=Usage)
    reason: str = ""

    @property
    def paid(self) -> bool:
        """Whether it was paid, as far as can be known."""
        return self.kind in ("message", "broken")


def read_reply(raw: str, *, from_batch: bool) -> ReplyBody:
    """The reply in a body of ``/v1/messages``, or in a line of the results of a batch."""
    try:
        body = json.loads(raw)
    except ValueError:
        return ReplyBody(kind="broken", reason=f"the reply is not JSON: {raw[:80]!r}")
    if not from_batch:
        return _message(body)
    result = body.get("result") if isinstance(body, dict) else None
    kind = result.get("type") if isinstance(result, dict) else None
    if not isinstance(result, dict) or kind not in ("succeeded", "errored", "expired", "canceled"):
        return ReplyBody(kind="broken", reason=f"a result of unknown type {kind!r}")
    if kind == "succeeded":
        return _message(result.get("message"))
    if kind == "errored":
        return ReplyBody(kind="errored", reason=error_text(result.get("error")))
    words = {
        "expired": "the batch expired before the request was worked on; it was not paid",
        "canceled": "the batch was canceled before the request was worked on; it was not paid",
    }
    return ReplyBody(kind=kind, reason=words[kind])


def error_text(body: Any) -> str:
    """Type and message of an error body of the service, whatever its nesting."""
    while isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return "no reason given"
    return f"{body.get('type', 'error')}: {str(body.get('message', 'no reason given'))[:500]}"


def is_error_body(body: Any) -> bool:
    """Whether ``body`` is an error as the service sends it."""
    return isinstance(body, dict) and body.get("type") == "error" and "error" in body


def _message(body: Any) -> ReplyBody:
    if not isinstance(body, dict) or body.get("type") != "message":
        return ReplyBody(kind="broken", reason="the reply is not a message")
    content, usage = body.get("content"), body.get("usage")
    if not isinstance(content, list) or not isinstance(usage, dict):
        return ReplyBody(kind="broken", reason="the message has no content or no usage")
    counts = {name: usage.get(field) or 0 for name, field in _TOKENS.items()}
    if not all(type(count) is int and count >= 0 for count in counts.values()):
        return ReplyBody(kind="broken", reason="the usage of the message is not in whole tokens")
    # A thinking block may come first, and further kinds may be added: only text is the answer.
    texts = [
        str(block.get("text", ""))
        for block in content
        if isinstance(block, dict) and block.get("type") == "text"
    ]
    return ReplyBody(
        kind="message",
        text="".join(texts),
        stop_reason=str(body.get("stop_reason") or ""),
        usage=Usage(**counts),
    )
