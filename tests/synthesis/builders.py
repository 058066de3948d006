"""Real rows, candidates and specifications for tests of synthetic rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tracetune.outputs import OutputSpec
from tracetune.privacy import PrivacyOptions
from tracetune.records import Example, Message, Preference, make_example, make_preference
from tracetune.splits import SplitOptions
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.synthesis.screen import Screen

START = datetime(2026, 3, 1, tzinfo=UTC)
AGENTS = ("billing_agent", "code_agent", "hr_agent", "travel_agent")
ROUTING = TelemetryOptions(output=OutputSpec(known=AGENTS))
PROFILES = TelemetryOptions(
    output=OutputSpec(target=("selected",), compare="set", known=("audio", "faces", "slides"))
)
ENTITIES = TelemetryOptions(
    output=OutputSpec(target=("entities",), compare="entities", known=("PERSON", "PLACE"))
)
REAL = (
    ("hi team, why was I charged twice in May?", "billing_agent"),
    ("send my invoice again, please", "billing_agent"),
    ("rewrite this loop in Rust, thanks", "code_agent"),
    ("how many days of leave do I have left?", "hr_agent"),
)


def example(text: str, value: dict[str, Any], number: int = 0) -> Example:
    return make_example(
        prompt=[Message(role="system", content=ROUTING.instruction), user(text)],
        completion=[assistant(value)],
        source="phoenix",
        tenant="demo",
        ids={"span_id": f"{number:016x}"},
        group=f"session:{number}",
        created_at=START + timedelta(hours=number),
        tags={"window": "train"},
    )


def preference(text: str, right: str, wrong: str, number: int = 0) -> Preference:
    return make_preference(
        prompt=[Message(role="system", content=ROUTING.instruction), user(text)],
        chosen=[assistant({"agent": right})],
        rejected=[assistant({"agent": wrong})],
        source="phoenix",
        tenant="demo",
        ids={"span_id": f"{number:016x}"},
        group=f"session:{number}",
        created_at=START + timedelta(hours=number),
        tags={"window": "train"},
    )


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(value: dict[str, Any]) -> Message:
    return Message(role="assistant", content=json.dumps(value, separators=(",", ":")))


def routing_rows() -> list[Example]:
    return [example(text, {"agent": agent}, n) for n, (text, agent) in enumerate(REAL)]


def screen(
    telemetry: TelemetryOptions = ROUTING, real: list[str] | None = None, **given: Any
) -> Screen:
    return Screen(
        **{
            "telemetry": telemetry,
            "splits": SplitOptions(),
            "privacy": PrivacyOptions(),
            "real": real or [],
            "before": [],
            "shown": routing_rows(),
            "written_by": "offline generator",
            **given,
        }
    )
