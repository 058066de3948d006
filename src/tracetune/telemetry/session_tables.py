"""Large tables of sessions: which spans are turns, which sessions count, what people said of them.

Ibis expressions as in :mod:`tracetune.telemetry.tables`: ids, keys and verdicts, no text.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tracetune.errors import DataError
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.tables import (
    _is_root,
    _is_text,
    clean_session_id,
    safe_id,
    stripped,
    utc_literal,
)

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

TURN_DROPS = (
    "other_name",
    "child_span",
    "no_session",
    "after_anchor",
    "blank_turn",
    "duplicate_turn",
)
"""Why a span is no turn, in the order in which it is asked."""
SESSION_DROPS = ("too_few_turns", "outside_window")
"""Why a session is left out on its keys alone, in the order in which it is asked."""


def classify_turns(spans: Table, options: TelemetryOptions, anchor: datetime | str) -> Table:
    """One row per span that was read: whether it is a turn of a session and, if not, why.

    A turn that a client sent again (same query, response and start time in the same session) counts
    once, and so does a span that stands twice in the same words: the smallest span id stays.

    Args:
        spans: Spans of the snapshot.
        options: Name of the turns.
        anchor: End of the test window, from the snapshot manifest.

    Returns:
        Columns ``span_id``, ``trace_id``, ``session_id``, ``start_time``, ``end_time`` and
        ``drop``: the first reason of :data:`TURN_DROPS` that holds, null for a turn.

    Raises:
        DataError: If the times have no zone.
    """
    import ibis

    refuse_naive(spans, "spans", "start_time", "end_time")
    end = options.windows_at(anchor).end
    keys = spans.select(
        span_id=safe_id(spans.span_id, telemetry=True),
        trace_id=safe_id(spans.trace_id, telemetry=True),
        session_id=clean_session_id(spans.session_id),
        start_time=spans.start_time,
        end_time=spans.end_time,
        same_name=(spans.name == options.turn_span.name).fill_null(False),
        root=_is_root(spans),
        text=_is_text(spans.input_json) & _is_text(spans.output_json),
        query_json=spans.input_json,
        response_json=spans.output_json,
    )
    first = ibis.cases(
        (~keys.same_name, "other_name"),
        (~keys.root, "child_span"),
        (keys.session_id.isnull(), "no_session"),
        (keys.start_time >= utc_literal(end), "after_anchor"),
        (~keys.text, "blank_turn"),
    )
    keys = keys.mutate(drop=first)
    columns = ("span_id", "trace_id", "session_id", "start_time", "end_time", "drop")
    turns = keys.filter(keys["drop"].isnull())
    # Hashes and not the texts themselves: a window over long texts would hold them all.
    turns = turns.mutate(
        query_json=turns.query_json.hexdigest("sha256"),
        response_json=turns.response_json.hexdigest("sha256"),
    )
    said = ["session_id", "start_time", "query_json", "response_json"]
    times = ibis.row_number().over(ibis.window(group_by=said, order_by="span_id"))
    turns = turns.mutate(times=times)
    turns = turns.mutate(
        drop=ibis.ifelse(turns.times > 0, ibis.literal("duplicate_turn"), ibis.null("string"))
    )
    return keys.filter(keys["drop"].notnull()).select(columns).union(turns.select(columns))


def classify_sessions(
    turns: Table,
    sessions: Table,
    spans: Table,
    annotations: Table,
    options: TelemetryOptions,
    anchor: datetime | str,
) -> Table:
    """One row per session with a turn: its size, its window, and what a person said of it.

    A session with a turn in the test window belongs to it as a whole.

    Args:
        turns: Result of :func:`classify_turns`.
        sessions: Sessions of the snapshot with their annotations.
        spans: Spans of the snapshot.
        annotations: Span annotations of the snapshot.
        options: Smallest session and name of its annotation.
        anchor: End of the test window, from the snapshot manifest.

    Returns:
        Columns ``session_id``, ``turns``, ``first_start``, ``last_start``, ``window`` (``train``,
        ``test`` or null), ``drop`` (the first reason of :data:`SESSION_DROPS` that holds), and the
        evaluation that counts: ``annotation_id``, ``evaluated_on`` (``session`` or ``span``) and
        ``score``; all three null without one.

    Raises:
        DataError: If the times have no zone.
    """
    import ibis

    windows = options.windows_at(anchor)
    kept = turns.filter(turns["drop"].isnull())
    counted = kept.group_by("session_id").aggregate(
        turns=kept.count(), first_start=kept.start_time.min(), last_start=kept.start_time.max()
    )
    window = ibis.cases(
        (counted.last_start >= utc_literal(windows.test_start), "test"),
        (counted.last_start >= utc_literal(windows.train_start), "train"),
    )
    counted = counted.mutate(window=window)
    counted = counted.mutate(
        drop=ibis.cases(
            (counted.turns < options.sessions.min_turns, "too_few_turns"),
            (counted.window.isnull(), "outside_window"),
        )
    )
    found = _evaluations(sessions, spans, annotations, options)
    return counted.left_join(found, counted.session_id == found.evaluated).select(
        "session_id",
        "turns",
        "first_start",
        "last_start",
        "window",
        "drop",
        "annotation_id",
        "evaluated_on",
        "score",
    )


def _evaluations(
    sessions: Table, spans: Table, annotations: Table, options: TelemetryOptions
) -> Table:
    """The evaluation of each session that counts: of the session itself, else of one of its spans.

    Of several the most recent (time of update, then annotation id). Models and code never evaluate,
    whoever may decide elsewhere.
    """
    import ibis

    refuse_naive(sessions, "sessions", "updated_at")
    refuse_naive(annotations, "annotations", "updated_at")
    own = _by_people(sessions, options)
    own = own.select(
        evaluated=clean_session_id(own.session_id),
        annotation_id="annotation_id",
        evaluated_on=ibis.literal("session"),
        score="score",
        updated_at="updated_at",
    )
    noted = _by_people(annotations, options)
    owner = spans.select(
        span_id=spans.span_id, evaluated=clean_session_id(spans.session_id)
    ).distinct()
    noted = noted.join(owner, "span_id").select(
        evaluated="evaluated",
        annotation_id="annotation_id",
        evaluated_on=ibis.literal("span"),
        score="score",
        updated_at="updated_at",
    )
    both = own.union(noted)
    both = both.filter(both.evaluated.notnull())
    newest = ibis.window(
        group_by="evaluated",
        order_by=[
            both.evaluated_on,  # "session" before "span"
            ibis.desc(both.updated_at, nulls_first=False),
            ibis.desc(both.annotation_id),
        ],
    )
    both = both.mutate(place=ibis.row_number().over(newest))
    return both.filter(both.place == 0).drop("place", "updated_at")


def _by_people(annotations: Table, options: TelemetryOptions) -> Table:
    """Evaluations by a person that say something: an outcome or a score."""
    import ibis

    score = annotations.score.cast("float64")
    rows = annotations.mutate(score=ibis.ifelse(score.isnan(), ibis.null("float64"), score))
    return rows.filter(
        (rows.name == options.sessions.annotation)
        & (stripped(rows.annotator_kind).upper() == "HUMAN")
        & (stripped(rows.label).notnull() | rows.score.notnull())
    )


def refuse_naive(table: Table, name: str, *columns: str) -> None:
    """Stops where a time has no zone: an hour more or less moves turns across a window.

    Raises:
        DataError: Names table and column.
    """
    schema = table.schema()
    for column in columns:
        if not schema[column].is_timestamp() or schema[column].timezone is None:
            raise DataError(
                f"the times are of type {schema[column]}, without a time zone",
                where=f"table {name}, column {column}",
                remedy="write them in UTC with their zone, or read the server again "
                "(telemetry.source=phoenix)",
            )
