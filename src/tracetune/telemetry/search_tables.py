"""Large tables of searches: which spans are searches that people judged, and what they said.

Two kinds of opinion are kept apart: feedback (clicks and relevance, annotations of the span) and
annotations of single documents in its results.

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
    from ibis.expr.types import BooleanValue, FloatingValue, StringValue, Table
else:
    Table = Any

SEARCH_KEY_DROPS = ("other_name", "other_kind", "outside_window", "no_feedback")
ANNOTATED_KEY_DROPS = (*SEARCH_KEY_DROPS[:3], "no_annotation")
"""Reasons decided on keys alone, in the order in which they are asked: of feedback, and of
annotations of documents."""


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
    noted = annotations.filter(annotations.name.isin(_names(options)))
    return _classify(spans, noted, SEARCH_KEY_DROPS[-1], options, anchor)


def classify_annotated(
    spans: Table, document_annotations: Table, options: TelemetryOptions, anchor: datetime | str
) -> Table:
    """The same for annotations of documents.

    Args:
        spans: Spans of the snapshot.
        document_annotations: Annotations of documents of the snapshot.
        options: Names, kinds and windows.
        anchor: End of the test window, from the snapshot manifest.

    Returns:
        The columns of :func:`classify_searches`; ``drop`` is the first reason of
        :data:`ANNOTATED_KEY_DROPS` that holds.
    """
    noted = document_annotations.filter(
        document_annotations.name == options.search.document_annotation.name
    )
    return _classify(spans, noted, ANNOTATED_KEY_DROPS[-1], options, anchor)


def _classify(
    spans: Table, noted: Table, missing: str, options: TelemetryOptions, anchor: datetime | str
) -> Table:
    """Every span with the first reason that holds; ``missing`` where none of ``noted`` is on it."""
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
    marked = (
        noted.select(key=safe_id(noted.span_id, telemetry=True)).distinct().mutate(annotated=True)
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
    joined = keys.left_join(marked, keys.span_id == marked.key)
    drop = ibis.cases(
        (~joined.same_name, "other_name"),
        (~joined.same_kind, "other_kind"),
        (joined.window.isnull(), "outside_window"),
        (joined.annotated.isnull(), missing),
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
    kind, human = _who(rows, options)
    wanted = ibis.cases(
        (rows.name == rules.click, ibis.literal(True)), else_=_score(rows) >= rules.threshold
    )
    return rows.select(
        span_id=rows.span_id,
        annotation_id=rows.annotation_id,
        name=rows.name,
        annotator_kind=kind,
        updated_at=rows.updated_at,
        human=human,
        wanted=wanted,
    )


def collect_document_verdicts(
    searches: Table, document_annotations: Table, options: TelemetryOptions
) -> Table:
    """One row per annotation of a document on the remaining searches.

    Args:
        searches: Result of :func:`classify_annotated`.
        document_annotations: Annotations of documents of the snapshot.
        options: Names, labels, kinds and threshold.

    Returns:
        Columns ``span_id``, ``annotation_id``, ``position`` (of the document, from 0),
        ``annotator_kind``, ``updated_at``, ``human`` (its kind may decide) and ``relevant``: true,
        false, or null for a label that is neither and for no label and no score. The label wins.
    """
    import ibis

    rules = options.search.document_annotation
    chosen = document_annotations.filter(document_annotations.name == rules.name).mutate(
        span_id=safe_id(document_annotations.span_id, telemetry=True)
    )
    rows = chosen.semi_join(searches.filter(searches["drop"].isnull()), "span_id")
    kind, human = _who(rows, options)
    label = stripped(rows.label).lower()
    relevant = ibis.cases(
        (label.isin(list(rules.relevant)), ibis.literal(True)),
        (label.isin(list(rules.irrelevant)), ibis.literal(False)),
        (label.notnull(), ibis.null("boolean")),
        else_=_score(rows) >= rules.threshold,
    )
    return rows.select(
        span_id=rows.span_id,
        annotation_id=rows.annotation_id,
        position=rows.position,
        annotator_kind=kind,
        updated_at=rows.updated_at,
        human=human,
        relevant=relevant,
    )


def _who(rows: Table, options: TelemetryOptions) -> tuple[StringValue, BooleanValue]:
    """The annotator kind, and whether it may decide."""
    kinds = [kind.strip().upper() for kind in options.verdicts.kinds]
    kind = stripped(rows.annotator_kind).upper()
    return kind, kind.isin(kinds).fill_null(False)


def _score(rows: Table) -> FloatingValue:
    """The score; NaN is none, because DuckDB sorts it above every number."""
    import ibis

    score = rows.score.cast("float64")
    return ibis.ifelse(score.isnan(), ibis.null("float64"), score)
