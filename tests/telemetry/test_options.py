"""Parameters: defaults are those of the documents, wrong ones are refused with their place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from tracetune.telemetry.options import TelemetryOptions


def test_defaults() -> None:
    options = TelemetryOptions()
    assert (options.span.name, options.span.kind) == ("routing_agent", "AGENT")
    assert options.verdicts.names == ("human_approval",)
    assert options.verdicts.kinds == ("HUMAN",)
    assert options.output.target == ("agent", "recommended_agent")
    assert options.max_chars == 20_000
    assert (options.windows.train_days, options.windows.test_days) == (30, 7)


def test_windows_hang_on_the_anchor_in_any_zone() -> None:
    anchor = datetime(2026, 3, 1, tzinfo=UTC)
    expected = TelemetryOptions().windows_at(anchor)
    assert expected.train_start == datetime(2026, 1, 30, tzinfo=UTC)
    assert expected.test_start == datetime(2026, 2, 22, tzinfo=UTC)
    assert expected.end == anchor
    moved = anchor.astimezone(timezone(timedelta(hours=-5)))
    for same in (moved, "2026-03-01T00:00:00Z", "2026-02-28T19:00:00-05:00"):
        assert TelemetryOptions().windows_at(same) == expected


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"spam": 1}, "spam"),
        ({"windows": {"train_days": 7, "test_days": 7}}, "windows"),
        ({"windows": {"test_days": 0}}, "test_days"),
        ({"read_days": 20}, "read_days"),
        ({"anchor": "2026-03-01T00:00:00"}, "anchor"),
        ({"anchor": "yesterday"}, "anchor"),
        ({"verdicts": {"names": []}}, "names"),
        ({"verdicts": {"names": ["a", "a"]}}, "names"),
        ({"verdicts": {"labels": {"approved": "x", "rejected": " X "}}}, "labels"),
        ({"verdicts": {"correction_key": "k", "rejected_key": "k"}}, "verdicts"),
        ({"output": {"target": ["  "]}}, "target"),
        ({"max_chars": "many"}, "max_chars"),
        ({"source": "jaeger"}, "source"),
        ({"agent_type": " "}, "agent_type"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as error:
        TelemetryOptions.model_validate(wrong)
    assert place in str(error.value)
