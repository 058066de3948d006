"""Snapshots of sessions from short Python descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa

from tests.telemetry.builders import ANCHOR, ANNOTATIONS, SPANS, TRAIN
from tracetune.privacy import PrivacyOptions
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.session_tables import classify_sessions, classify_turns
from tracetune.telemetry.trajectories import SessionRows, write_trajectories

_TIME = pa.timestamp("us", tz="UTC")
SESSIONS = pa.schema(
    [("session_id", pa.string()), ("start_time", _TIME), ("end_time", _TIME)]
    + [
        (name, pa.string())
        for name in ("annotation_id", "name", "annotator_kind", "identifier", "label")
    ]
    + [("score", pa.float64()), ("explanation", pa.string()), ("metadata_json", pa.string())]
    + [("updated_at", _TIME)]
)
MINUTE = timedelta(minutes=1)


@dataclass
class Said:
    """One turn; the defaults are a good one."""

    session: str | None = "s1"
    query: Any = "Where is my parcel?"
    response: Any = "On its way."
    start: datetime = TRAIN
    end: datetime | None = None
    name: str = "chat_turn"
    parent: str | None = None
    span_id: str | None = None


@dataclass
class Judged:
    """One evaluation; the defaults are a person's."""

    owner: str = "s1"
    label: str | None = "success"
    score: float | None = 0.9
    kind: str = "HUMAN"
    name: str = "session_evaluation"
    minute: int = 0
    on_span: bool = False


def dialogue(session: str, count: int = 2, start: datetime = TRAIN) -> list[Said]:
    """Turns of one session, a minute apart, that resemble no others."""
    return [
        Said(
            session, f"{session} asks thing {n}", f"{session} hears answer {n}", start + n * MINUTE
        )
        for n in range(count)
    ]


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def tables(said: Iterable[Said], judged: Iterable[Judged] = ()) -> tuple[ibis.Table, ...]:
    """Spans, annotations and sessions of a snapshot."""
    spans = [
        {
            "span_id": turn.span_id or f"{number:016x}",
            "trace_id": f"{number:032x}",
            "parent_id": turn.parent,
            "name": turn.name,
            "span_kind": "CHAIN",
            "start_time": turn.start,
            "end_time": turn.end or turn.start + timedelta(seconds=1),
            "status_code": "OK",
            "session_id": turn.session,
            "input_json": _json(turn.query),
            "output_json": _json(turn.response),
            "attributes_json": "{}",
        }
        for number, turn in enumerate(said)
    ]
    notes: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for number, note in enumerate(judged):
        notes[note.on_span].append(
            {
                "span_id" if note.on_span else "session_id": note.owner,
                "annotation_id": f"{'Span' if note.on_span else 'Session'}:{number:012d}",
                "name": note.name,
                "annotator_kind": note.kind,
                "identifier": f"r{number}",
                "label": note.label,
                "score": note.score,
                "updated_at": TRAIN + note.minute * MINUTE,
            }
        )
    owners = {row["session_id"] for row in notes[False]}
    bare = sorted({turn.session for turn in said if turn.session} - owners)
    notes[False] += [{"session_id": session} for session in bare]
    return (
        ibis.memtable(pa.Table.from_pylist(spans, schema=SPANS)),
        ibis.memtable(pa.Table.from_pylist(notes[True], schema=ANNOTATIONS)),
        ibis.memtable(pa.Table.from_pylist(notes[False], schema=SESSIONS)),
    )


def rows_of(
    said: Iterable[Said],
    judged: Iterable[Judged] = (),
    privacy: str = "redact",
    anchor: datetime = ANCHOR,
    **sessions: Any,
) -> SessionRows:
    """The whole way from spans to rows."""
    options = TelemetryOptions.model_validate({"sessions": sessions})
    spans, annotations, evaluated = tables(list(said), judged)
    turns = classify_turns(spans, options, anchor).cache()
    keys = classify_sessions(turns, evaluated, spans, annotations, options, anchor).cache()
    policy = PrivacyOptions.model_validate({"policy": privacy})
    return write_trajectories(
        turns, keys, spans, evaluated, annotations, options, policy, tenant="demo"
    )


def dropped(rows: SessionRows) -> dict[str, int]:
    """Spans by the reason they ended with."""
    return {step.reason: step.dropped for step in rows.funnel.steps if step.dropped}
