"""Large tables of searches: which spans are searches with feedback, and what that feedback is.

Ibis expressions in a subset that DuckDB and Spark share. As in :mod:`tracetune.telemetry.tables`
they hold ids, keys and feedback and no text; queries and documents stay in the snapshot until
:mod:`tracetune.telemetry.triplets` joins and redacts them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.tables import clean_session_id, safe_id, stripped, utc_literal

if TYPE_CHECKING:
    from ibis.expr.types import BooleanValue, Table
else:
    Table = Any

SEARCH_KEY_DROPS = ("other_name", "other_kind", "outside_window", "no_feedback")
"""Reasons decided on keys alone, in the order in which they are asked."""


def _names(options: TelemetryOptions) -> list[str]:
    return [options.search.click, options.search.relevance]


def is_search(spans: Table, options: TelemetryOptions) -> tuple[BooleanValue, BooleanValue]:
    """Whether a span has the name, and whether it has the kind, of a search.

    A search is mostly a step of something larger, so that it may have a parent.
    """
    span = options.search.span
    return (
        (spans.name == span.name).fill_null(False),
        (stripped(spans.span_kind).upper() == span.kind.upper()).fill_null(False),
    )


def classify_searches(
    spans: Table, annotations: Table, options: TelemetryOptions, anchor: datetime | str
) -> Table:
    """One row per span that was read: what it is and, if it is no search with feedback, why not.

    Args:
        spans: Spans of the snapshot.
        annotations: Span annotations of the snapshot.
        options: Names, kinds and windows.
        anchor: End of the test window, from the snapshot manifest.

    Returns:
        Columns ``span_id``, ``trace_id``, ``session_id``, ``start_time``, ``window`` (``train``,
        ``test`` or null) and ``drop``: the first reason of :data:`SEARCH_KEY_DROPS` that holds,
        null for a search with feedback of any annotator kind.
    """
    import ibis

    windows = options.windows_at(anchor)
    start = spans.start_time
    window = ibis.cases(
        (
            (start >= utc_literal(windows.train_start)) & (start < utc_literal(windows.test_start)),
            ibis.literal("train"),
        ),
        ((start >= utc_literal(windows.test_start)) & (start < utc_literal(windows.end)), "test"),
    )
    noted = (
        annotations.filter(annotations.name.isin(_names(options)))
        .select(key=safe_id(annotations.span_id, telemetry=True))
        .distinct()
        .mutate(annotated=True)
    )
    same_name, same_kind = is_search(spans, options)
    keys = spans.select(
        span_id=safe_id(spans.span_id, telemetry=True),
        trace_id=safe_id(spans.trace_id, telemetry=True),
        session_id=clean_session_id(spans.session_id),
        start_time=start,
        window=window,
        same_name=same_name,
        same_kind=same_kind,
    )
    joined = keys.left_join(noted, keys.span_id == noted.key)
    drop = ibis.cases(
        (~joined.same_name, "other_name"),
        (~joined.same_kind, "other_kind"),
        (joined.window.isnull(), "outside_window"),
        (joined.annotated.isnull(), "no_feedback"),
    )
    return joined.mutate(drop=drop).select(
        "span_id", "trace_id", "session_id", "start_time", "window", "drop"
    )


def collect_feedback(searches: Table, annotations: Table, options: TelemetryOptions) -> Table:
    """One row per click or relevance annotation on the remaining searches.

    Args:
        searches: Result of :func:`classify_searches`.
        annotations: Span annotations of the snapshot.
        options: Names, kinds and threshold.

    Returns:
        Columns ``span_id``, ``annotation_id``, ``name``, ``annotator_kind``, ``updated_at``,
        ``human`` (its kind may decide) and ``wanted``: true for a click and for a score of at least
        the threshold, false below it, null for a relevance without a score (NaN is none).
    """
    import ibis

    rules = options.search
    chosen = annotations.filter(annotations.name.isin(_names(options))).mutate(
        span_id=safe_id(annotations.span_id, telemetry=True)
    )
    rows = chosen.semi_join(searches.filter(searches["drop"].isnull()), "span_id")
    kinds = [kind.strip().upper() for kind in options.verdicts.kinds]
    kind = stripped(rows.annotator_kind).upper()
    score = rows.score.cast("float64")
    # DuckDB sorts NaN above every number, so it would count as relevant.
    score = ibis.ifelse(score.isnan(), ibis.null("float64"), score)
    wanted = ibis.cases(
        (rows.name == rules.click, ibis.literal(True)), else_=score >= rules.threshold
    )
    human: BooleanValue = kind.isin(kinds).fill_null(False)
    return rows.select(
        span_id=rows.span_id,
        annotation_id=rows.annotation_id,
        name=rows.name,
        annotator_kind=kind,
        updated_at=rows.updated_at,
        human=human,
        wanted=wanted,
    )
