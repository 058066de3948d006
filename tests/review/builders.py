"""Candidates for tests."""

from __future__ import annotations

import json
from typing import Any

from tracetune.files import sha256_text
from tracetune.outputs import OutputSpec
from tracetune.records import Message, Nearest, ReviewItem
from tracetune.review.items import ReviewSpec

AT = "2026-03-01T10:00:00Z"
KNOWN = ("billing_agent", "travel_agent", "weather_agent")
SPEC = ReviewSpec(output=OutputSpec(known=KNOWN), max_chars=500)


def agent(name: str) -> str:
    """An answer of the router, as rows hold it."""
    return json.dumps({"agent": name}, separators=(",", ":"))


def item(
    number: int = 1,
    request: str = "where is my invoice",
    answer: str = "billing_agent",
    rejected: str | None = None,
    attempt: int = 0,
    confidence: float = 0.8,
    **more: Any,
) -> ReviewItem:
    """One candidate; its id follows from ``number`` and ``attempt``."""
    root = f"item-{sha256_text(str(number))[:20]}"
    fields: dict[str, Any] = {
        "id": f"{root}_regen_{attempt}" if attempt else root,
        "kind": "example" if rejected is None else "preference",
        "prompt": [
            Message(role="system", content="Choose the agent."),
            Message(role="user", content=request),
        ],
        "answer": [Message(role="assistant", content=agent(answer))],
        "rejected": [Message(role="assistant", content=agent(rejected))] if rejected else None,
        "rejected_why": "it books trips" if rejected else "",
        "confidence": confidence,
        "attempt": attempt,
        "written_by": "offline generator",
        "request_id": f"request-{number}",
        "cell": f"{answer}:plain",
        "nearest": [
            Nearest(text="I never got my bill", answer=agent("billing_agent"), similarity=0.33)
        ],
        "tags": {"target": answer},
    }
    return ReviewItem(**(fields | more))
