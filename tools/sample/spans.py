"""What every part of the sample shares: spans, their ids and the time in which it plays."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

SEED = 20261001
ANCHOR = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 40
TRAIN_DAYS = 30
TEST_DAYS = 7
BORDER = ANCHOR - timedelta(days=TEST_DAYS)
"""Where training ends and the test begins."""
PROJECT = "demo"
OTHER_PROJECT = "demo-staging"


@dataclass
class Span:
    """A span as it is posted; ids are hex text, times nanoseconds since 1970."""

    project: str
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: int
    end: int
    status: str
    attributes: dict[str, Any]


def hex_id(length: int, *parts: object) -> str:
    """A hex id of ``length`` characters, derived from the seed and ``parts``."""
    return hashlib.sha256(repr((SEED, *parts)).encode()).hexdigest()[:length]


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970, exact to the microsecond."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1_000


def working_moment(rng: random.Random, weights: list[float]) -> datetime:
    """A moment of the history, mostly in office hours of a working day.

    Args:
        rng: Where chance comes from.
        weights: How much happens, day by day.
    """
    day = rng.choices(range(DAYS), weights)[0]
    moment = ANCHOR - timedelta(days=DAYS - day)
    if moment.weekday() >= 5 and rng.random() < 0.6:
        moment -= timedelta(days=2 if day >= 2 else 0)
    hour = min(22.5, max(0.5, rng.gauss(13, 3.2)))
    return moment + timedelta(hours=hour, microseconds=rng.randrange(1_000_000))


def pause(rng: random.Random) -> timedelta:
    """The time between two requests of a session."""
    return timedelta(seconds=rng.randrange(25, 400), microseconds=rng.randrange(10**6))
