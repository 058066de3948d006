"""Snapshot tables from short Python descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa

from tracetune.privacy import PrivacyOptions
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.rows import Rows, write_rows
from tracetune.telemetry.tables import classify_spans, collect_verdicts

ANCHOR = datetime(2026, 3, 1, tzinfo=UTC)
TRAIN = ANCHOR - timedelta(days=20)
TEST = ANCHOR - timedelta(days=3)

_TIME = pa.timestamp("us", tz="UTC")
SPANS = pa.schema(
    [(name, pa.string()) for name in ("span_id", "trace_id", "parent_id", "name", "span_kind")]
    + [("start_time", _TIME), ("end_time", _TIME)]
    + [
        (name, pa.string())
        for name in ("status_code", "session_id", "input_json", "output_json", "attributes_json")
    ]
)
ANNOTATIONS = pa.schema(
    [
        (name, pa.string())
        for name in ("annotation_id", "span_id", "name", "annotator_kind", "identifier", "label")
    ]
    + [("score", pa.float64()), ("explanation", pa.string()), ("metadata_json", pa.string())]
    + [("created_at", _TIME), ("updated_at", _TIME)]
)


@dataclass
class Note:
    """One annotation; the defaults are a person's approval."""

    label: str | None = "approved"
    score: float | None = None
    name: str = "human_approval"
    kind: str | None = "HUMAN"
    identifier: str | None = None
    explanation: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    minute: int = 0


@dataclass
class Span:
    """One span; the defaults are a unit of the training window."""

    notes: Iterable[Note] = ()
    prompt: Any = None
    output: Any = '{"agent":"billing"}'
    name: str | None = "routing_agent"
    kind: str | None = "AGENT"
    parent: str | None = None
    session: str | None = None
    status: str | None = "OK"
    start: datetime = TRAIN
    trace: str | None = None
    span_id: str | None = None


def encoded(value: Any) -> str | None:
    """As the snapshot holds an attribute."""
    return None if value is None else json.dumps(value, ensure_ascii=False)


def tables(spans: Iterable[Span]) -> tuple[ibis.Table, ibis.Table]:
    """Spans and annotations as in-memory tables; the n-th span is asked "request number n"."""
    rows: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for number, span in enumerate(spans):
        span_id = span.span_id or f"{number:016x}"
        prompt = f"request about topic{number} please" if span.prompt is None else span.prompt
        rows.append(
            {
                "span_id": span_id,
                "trace_id": span.trace or f"{number:032x}",
                "parent_id": span.parent,
                "name": span.name,
                "span_kind": span.kind,
                "start_time": span.start,
                "end_time": span.start + timedelta(seconds=1),
                "status_code": span.status,
                "session_id": span.session,
                "input_json": encoded(prompt),
                "output_json": encoded(span.output),
                "attributes_json": "{}",
            }
        )
        for place, note in enumerate(span.notes):
            running = len(notes) + 1
            notes.append(
                {
                    "annotation_id": f"SpanAnnotation:{running:012d}",
                    "span_id": span_id,
                    "name": note.name,
                    "annotator_kind": note.kind,
                    "identifier": note.identifier or f"r{place}",
                    "label": note.label,
                    "score": note.score,
                    "explanation": note.explanation,
                    "metadata_json": encoded(dict(note.metadata)),
                    "created_at": span.start,
                    "updated_at": span.start + timedelta(minutes=note.minute),
                }
            )
    return (
        ibis.memtable(pa.Table.from_pylist(rows, schema=SPANS)),
        ibis.memtable(pa.Table.from_pylist(notes, schema=ANNOTATIONS)),
    )


def drops(spans: list[Span], options: TelemetryOptions | None = None) -> list[str | None]:
    """What :func:`classify_spans` says to each span, in the order given."""
    options = options or TelemetryOptions()
    table, notes = tables(spans)
    found = classify_spans(table, notes, options, ANCHOR).to_pyarrow().to_pylist()
    by_id = {row["span_id"]: row["drop"] for row in found}
    return [by_id[span.span_id or f"{n:016x}"] for n, span in enumerate(spans)]


def rows_of(
    spans: Iterable[Span],
    options: TelemetryOptions | None = None,
    privacy: PrivacyOptions | None = None,
) -> Rows:
    """The whole way from spans to rows."""
    options = options or TelemetryOptions()
    table, notes = tables(spans)
    units = classify_spans(table, notes, options, ANCHOR).cache()
    verdicts = collect_verdicts(units, notes, options).cache()
    return write_rows(
        units, verdicts, table, notes, options, privacy or PrivacyOptions(), tenant="demo"
    )
