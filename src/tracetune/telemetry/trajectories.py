"""Sessions with their text: trajectories, training conversations and held-out turns.

Everything before works on keys, everything after sees redacted text only. The join is streamed
session by session; memory holds what is made of it, never the spans.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetune.errors import DataError
from tracetune.outputs import parse_json
from tracetune.privacy import PrivacyOptions, PrivacyReport, Redactor, count_in_json
from tracetune.records import Example, Trajectory, Turn, make_trajectory
from tracetune.telemetry.candidates import SOURCE, group_of
from tracetune.telemetry.conversations import conversation, held_out_turns, left_out
from tracetune.telemetry.options import SessionOptions, TelemetryOptions
from tracetune.telemetry.session_funnel import (
    Clocks,
    HeldOutTurns,
    SessionFunnel,
    make_session_funnel,
)
from tracetune.telemetry.tables import safe_id

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

_BATCH = 1_000


class SessionRows(NamedTuple):
    """What :func:`write_trajectories` gives."""

    trajectories: list[Trajectory]
    examples: list[Example]
    funnel: SessionFunnel
    privacy: PrivacyReport


class _Books:
    """Where sessions and their turns ended, and what clocks got wrong."""

    def __init__(self) -> None:
        self.sessions: Counter[str] = Counter()
        self.turns: Counter[str] = Counter()
        self.clocks = Clocks(end_before_start=0, overlapping=0)

    def end(self, reason: str, turns: int, sessions: int = 1) -> None:
        """Counts sessions under the reason they ended with; ``""`` for those that give rows."""
        self.sessions[reason] += sessions
        self.turns[reason] += turns

    def look_at_clocks(self, turns: list[dict[str, Any]]) -> None:
        """Counts turns that end before they start, or start before the one before has ended."""
        before: datetime | None = None
        for turn in turns:
            start, end = turn["start_time"], turn["end_time"]
            self.clocks.end_before_start += end is not None and end < start
            self.clocks.overlapping += before is not None and start < before
            before = end

    def by_reason(self) -> dict[str, tuple[int, int]]:
        """Sessions and turns by reason."""
        return {reason: (count, self.turns[reason]) for reason, count in self.sessions.items()}


def write_trajectories(
    turns: Table,
    session_keys: Table,
    spans: Table,
    sessions: Table,
    annotations: Table,
    options: TelemetryOptions,
    privacy: PrivacyOptions,
    *,
    tenant: str,
) -> SessionRows:
    """Joins text to the turns, redacts, and writes trajectories and rows.

    A session of the training window that passes the filters is one row: the first query is the
    prompt, the rest is the completion. A session of the test window gives one row per answer, with
    the reference answers before it as history. One row per content; the earliest stays.

    Args:
        turns: Result of :func:`~tracetune.telemetry.session_tables.classify_turns`.
        session_keys: Result of :func:`~tracetune.telemetry.session_tables.classify_sessions`.
        spans: Spans of the snapshot.
        sessions: Sessions of the snapshot with their annotations.
        annotations: Span annotations of the snapshot.
        options: Rules of extraction.
        privacy: What happens to secrets and personal data.
        tenant: Whose data it is.

    Returns:
        Trajectories (before the filters on outcome and score) and rows in the order (start of the
        session, session id), the funnel and the privacy report. The funnel adds up, or the run has
        stopped.

    Raises:
        DataError: If a span id stands twice with different texts, or if redaction left something.
    """
    books = _Books()
    for row in _key_drops(session_keys):
        books.end(row["drop"], row["turns"], row["sessions"])

    redactor = Redactor(privacy)
    trajectories = []
    for members in _by_session(_joined(turns, session_keys, spans, sessions, annotations, options)):
        trajectory, hit = _trajectory(members, redactor, tenant)
        if hit and privacy.policy == "drop":
            for _ in members:
                redactor.drop()
            books.end("private", len(members))
            continue
        books.look_at_clocks(members)
        trajectories.append(trajectory)

    examples, held_out, held_out_rows = _rows(trajectories, options.sessions, books)
    funnel = make_session_funnel(
        spans=_span_counts(turns),
        sessions=books.by_reason(),
        conversations=len(examples) - held_out_rows.rows,
        held_out=held_out,
        held_out_turns=held_out_rows,
        by_outcome=Counter(t.session_outcome or "none" for t in trajectories),
        clocks=books.clocks,
    )
    return SessionRows(trajectories, examples, funnel, redactor.report())


def _rows(
    trajectories: list[Trajectory], rules: SessionOptions, books: _Books
) -> tuple[list[Example], int, HeldOutTurns]:
    """Rows of all trajectories, the number of held-out sessions, and the count of their turns."""
    rows: list[Example] = []
    seen: set[tuple[str, str]] = set()
    counts: Counter[str] = Counter()
    for trajectory in trajectories:
        reason = left_out(trajectory, rules)
        if reason:
            books.end(reason, len(trajectory.turns))
            continue
        window = trajectory.tags["window"]
        made = (
            held_out_turns(trajectory, rules.system_prompt)
            if window == "test"
            else [conversation(trajectory, rules.system_prompt)]
        )
        new = [row for row in made if (window, row.provenance.content_hash) not in seen]
        seen.update((window, row.provenance.content_hash) for row in new)
        rows += new
        if window == "test":
            counts.update(sessions=1, candidates=len(made), rows=len(new))
        books.end("" if new or window == "test" else "duplicate", len(trajectory.turns))
    return (
        rows,
        counts["sessions"],
        HeldOutTurns(
            candidates=counts["candidates"],
            duplicate=counts["candidates"] - counts["rows"],
            rows=counts["rows"],
        ),
    )


def _span_counts(turns: Table) -> dict[str, int]:
    """Spans by reason; ``""`` for turns."""
    counted = turns.group_by("drop").aggregate(spans=turns.count()).to_pyarrow().to_pylist()
    return {row["drop"] or "": row["spans"] for row in counted}


def _key_drops(session_keys: Table) -> list[dict[str, Any]]:
    """Sessions and turns that end on keys alone, by reason."""
    dropped = session_keys.filter(session_keys["drop"].notnull())
    counted = dropped.group_by("drop").aggregate(
        sessions=dropped.count(), turns=dropped.turns.sum()
    )
    rows: list[dict[str, Any]] = counted.to_pyarrow().to_pylist()
    return rows


def _joined(
    turns: Table,
    session_keys: Table,
    spans: Table,
    sessions: Table,
    annotations: Table,
    options: TelemetryOptions,
) -> Table:
    """One row per turn with its text and what was said of its session, in their order."""
    kept = session_keys.filter(session_keys["drop"].isnull()).select(
        "session_id", "first_start", "window", "annotation_id", "evaluated_on", "score"
    )
    keys = turns.filter(turns["drop"].isnull()).select(
        "span_id", "trace_id", "session_id", "start_time", "end_time"
    )
    named = spans.filter(spans.name == options.turn_span.name)
    # A span may stand twice in the same words; with others it shows as two rows of one turn.
    texts = named.select(
        span_id=safe_id(named.span_id, telemetry=True),
        query_json=named.input_json,
        response_json=named.output_json,
    ).distinct()
    labels = (
        sessions.select("annotation_id", "label")
        .union(annotations.select("annotation_id", "label"))
        .filter(lambda rows: rows.annotation_id.notnull())
        .distinct()
    )
    return (
        keys.join(kept, "session_id")
        .join(texts, "span_id")
        .left_join(labels, "annotation_id")
        .select(
            "span_id",
            "trace_id",
            "session_id",
            "first_start",
            "start_time",
            "end_time",
            "window",
            "evaluated_on",
            "score",
            "label",
            "query_json",
            "response_json",
        )
        .order_by(["first_start", "session_id", "start_time", "span_id"])
    )


def _by_session(table: Table) -> Iterator[list[dict[str, Any]]]:
    """The turns of one session after the other."""
    last: tuple[Any, ...] | None = None
    with table.to_pyarrow_batches(chunk_size=_BATCH) as batches:
        rows = (row for batch in batches for row in batch.to_pylist())
        for session_id, group in itertools.groupby(rows, lambda row: row["session_id"]):
            members = list(group)
            for row in members:
                key = (row["first_start"], session_id, row["start_time"], row["span_id"])
                if last is not None and key <= last:
                    raise DataError(
                        f"span {row['span_id']} stands more than once, or out of order",
                        where=f"turns of session {session_id}",
                        remedy="delete the snapshot and read it again",
                    )
                last = key
            yield members


def _trajectory(
    members: list[dict[str, Any]], redactor: Redactor, tenant: str
) -> tuple[Trajectory, bool]:
    """One session, redacted, and whether anything had to be."""
    first = members[0]
    session_id = first["session_id"]
    hit = False
    turns = []
    for number, row in enumerate(members, start=1):
        query, in_query = _clean(row["query_json"], redactor, row["span_id"])
        response, in_response = _clean(row["response_json"], redactor, row["span_id"])
        hit |= in_query or in_response
        turns.append(
            Turn(
                turn_id=number,
                query=query,
                response=response,
                timestamp=row["start_time"].astimezone(UTC),
                span_id=row["span_id"],
                metadata={"trace_id": row["trace_id"]},
            )
        )
    label, in_label = redactor.text((first["label"] or "").strip().lower())
    redactor.check(label, where=f"outcome of session {session_id}")
    trajectory = make_trajectory(
        session_id=session_id,
        turns=turns,
        session_outcome=label or None,
        session_score=first["score"],
        source=SOURCE,
        tenant=tenant,
        group=group_of(session_id, ""),
        tags={"window": first["window"], "evaluated_on": first["evaluated_on"] or "none"},
    )
    return trajectory, hit or in_label


def _clean(encoded: str, redactor: Redactor, span_id: str) -> tuple[str, bool]:
    """The redacted text of a JSON-encoded string, and whether anything was found in it."""
    text, hit = redactor.text(parse_json(encoded))
    value = _container(text)
    if value is not None and count_in_json(value):
        # What only shows when a key is read together with its value.
        value, _ = redactor.json(value)
        text, hit = json.dumps(value, ensure_ascii=False), True
    redactor.check(text if value is None else value, where=f"span {span_id}")
    return text, hit


def _container(text: str) -> Any:
    """The JSON object or list that a text is; None if it is anything else."""
    try:
        value = parse_json(text)
    except ValueError:
        return None
    return value if isinstance(value, (dict, list)) else None
