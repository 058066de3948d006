"""What a Phoenix server counts: the measure that its pages are held against.

These counts are not cached by the server, unlike ``recordCount``, and they do not go through the
pages that are being checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

from tracetune.phoenix_rest import PhoenixServer
from tracetune.telemetry.phoenix_rows import utc_time

Place = TypeVar("Place")

SPANS = """
query ($id: ID!, $range: TimeRange!, $scale: TimeBinScale!) {
  node(id: $id) { ... on Project {
    spanCountTimeSeries(timeRange: $range, timeBinConfig: {scale: $scale, utcOffsetMinutes: 0}) {
      data { timestamp totalCount }
    } } } }
"""
"""What the server holds per hour or minute."""

ANNOTATIONS = """
query ($id: ID!) {
  node(id: $id) { ... on Project {
    span: spanAnnotationNameCounts { name count }
    session: sessionAnnotationNameCounts { name count }
  } } }
"""
"""What the server holds per name, in the whole project: it does not count them by time."""


def count_spans(
    server: PhoenixServer,
    project_id: str,
    start: datetime,
    end: datetime,
    scale: Literal["HOUR", "MINUTE"],
) -> list[tuple[datetime, int]]:
    """Spans per hour or minute of [start, end), in order of time, without empty ones.

    The first one begins at ``start``, also if that is in the middle of an hour or minute.
    """
    data, _ = server.graphql(
        SPANS,
        {
            "id": project_id,
            "range": {"start": iso(start), "end": iso(end)},
            "scale": scale,
        },
    )
    points = data["node"]["spanCountTimeSeries"]["data"]
    counted = ((utc_time(point["timestamp"]), int(point["totalCount"] or 0)) for point in points)
    # The first bin may begin before the window, of which only a part is counted.
    return sorted((max(moment, start), count) for moment, count in counted if count)


def count_annotations(server: PhoenixServer, project_id: str) -> Counter[tuple[str, str]]:
    """Annotations of the project by ("span" or "session", name)."""
    data, _ = server.graphql(ANNOTATIONS, {"id": project_id})
    counts: dict[str, list[dict[str, Any]]] = data["node"]
    return Counter(
        {(owner, row["name"]): row["count"] for owner, rows in counts.items() for row in rows}
    )


def full_hour(moment: datetime) -> datetime:
    """The hour that holds the moment."""
    return moment.replace(minute=0, second=0, microsecond=0)


def gone(before: Mapping[Place, int], now: Mapping[Place, int]) -> int:
    """How many were there before and are not there now, place by place.

    What arrived in one place does not make up for what is gone from another.
    """
    return sum(max(0, count - now.get(place, 0)) for place, count in before.items())


def iso(moment: datetime) -> str:
    """A time in UTC as the server reads it."""
    return moment.isoformat().replace("+00:00", "Z")
