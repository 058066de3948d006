"""Parts of CTv3.1 records that are made from an exchange and its label."""

from __future__ import annotations

import re
import uuid
from typing import Any

from tracetune.conversations.accept import format_faults
from tracetune.conversations.classify import NUMBERED, Label, holds_diff, json_in, topology_of
from tracetune.conversations.exchanges import Exchange, recent
from tracetune.conversations.phrases import fence_body, fence_language, fences
from tracetune.files import sha256_json
from tracetune.records import Message
from tracetune.records.ctv3 import (
    Answer,
    Checks,
    Ctv3Attachment,
    Ctv3Context,
    Ctv3Input,
    Ctv3Source,
    FailureMode,
    FormatConstraints,
    Origin,
    Structured,
    Tags,
)

_FORMATS = {
    "must_return_json": "json",
    "must_return_diff": "diff",
    "must_return_code": "code",
    "require_numbered": "numbered",
    "forbid_bullets": "no_bullets",
}
"""Constraint → name of the format in the checks of an evaluation case."""


def record_id(kind: str, key: str, rule: str) -> str:
    """A UUID of version 4 that hangs on the record's kind, turn and rule, so runs agree on it."""
    return str(uuid.UUID(hex=sha256_json([kind, key, rule])[:32], version=4))


def answer_of(text: str) -> Answer:
    """An answer with its structured parts."""
    diffs = [fence_body(f) for f in fences(text) if fence_language(f) in ("diff", "patch")]
    steps = [
        re.sub(r"^[ \t]*\d+[.)][ \t]+", "", line).strip()
        for line in text.splitlines()
        if NUMBERED.match(line)
    ]
    found = json_in(text)
    return Answer(
        assistant_content=text,
        structured=Structured(
            diff_unified=diffs[0] if diffs and holds_diff(diffs[0]) else None,
            json_value=found if isinstance(found, dict | list) else None,
            plan_steps=steps if len(steps) > 1 else None,
        ),
    )


def common_of(
    exchange: Exchange, label: Label, origin: Origin, history_chars: int
) -> dict[str, Any]:
    """Source, context and input of a record of an exchange.

    Args:
        exchange: The exchange.
        label: Its label.
        origin: How the record was made.
        history_chars: Most characters of the conversation before the request.
    """
    messages = [*recent(exchange.history, history_chars), *_request_messages(exchange)]
    return {
        "source": Ctv3Source(
            origin=origin,
            provider=exchange.provider,
            source_id=exchange.key,
            created_at_utc=exchange.created_at,
        ),
        "context": Ctv3Context(
            domain=label.request.domain,
            language=label.request.language,
            topology=topology_of(exchange, label.phase),
            policy=label.ctv3_policy(),
        ),
        "input": Ctv3Input(
            messages=messages,
            attachments=[
                Ctv3Attachment(type="file", path=file.name, content=file.content)
                for file in exchange.attachments
            ],
        ),
    }


def _request_messages(exchange: Exchange) -> list[Message]:
    """The request; attachments stand beside it. Calls of tools and results follow it."""
    names = ", ".join(file.name for file in exchange.attachments)
    said = Message(role="user", content=exchange.user or f"[{names}]")
    return [said, *exchange.between]


def tags_of(
    label: Label,
    *,
    dpo_reason: str | None = None,
    branch_type: str | None = None,
    enhancement_type: str | None = None,
) -> Tags:
    """Kind of the request, and how the record was made."""
    return Tags(
        task_type=label.request.task_type,
        prompt_class=label.prompt_class,
        dpo_reason=dpo_reason,
        branch_type=branch_type,
        enhancement_type=enhancement_type,
    )


def modes_of(answer: str, label: Label) -> list[FailureMode]:
    """What is wrong with an answer, in the words of the schema."""
    modes = list(label.stall.failure_modes)
    if format_faults(answer, label.request.constraints):
        modes.append("format_drift")
    return modes


def checks_of(label: Label) -> Checks:
    """What is checked of an answer to a request that once went wrong."""
    constraints, stall = label.request.constraints, label.stall
    may_ask = label.policy == "questions_allowed" or label.prompt_class == "blocked"
    disallowed = [] if may_ask else ["asks_permission", "offers_options", "stalls"]
    return Checks(
        expected_behaviors=["returns_code"] if label.request.wants_code else [],
        disallowed_behaviors=[*disallowed, "refuses", "omits"],
        disallowed_phrases=[] if may_ask else list(stall.phrases),
        must_not_end_with_question=not may_ask,
        must_follow_format=_format(constraints),
    )


def _format(constraints: FormatConstraints) -> str | None:
    asked = constraints.model_dump()
    return next((name for key, name in _FORMATS.items() if asked[key]), None)
