"""Large tables: which spans are units, who judged them, which sessions reach into the test window.

Ibis expressions in a subset that DuckDB and Spark share. The tables hold ids, keys and verdicts and
no text: everything a person typed stays in the snapshot until :mod:`tracetune.telemetry.rows` joins
and redacts it. Ids go through :func:`safe_id`, because applications put e-mail addresses there.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tracetune.privacy import HASHED_ID_PREFIX, NAME_ID, PLAIN_ID, RISKY_ID, TELEMETRY_ID
from tracetune.telemetry.options import TelemetryOptions

if TYPE_CHECKING:
    from ibis.expr.types import BooleanColumn, BooleanValue, StringColumn, StringValue, Table
else:
    Table = Any

KEY_DROPS = ("other_name", "other_kind", "child_span", "outside_window", "no_annotation")
"""Reasons decided on keys alone, in the order in which they are asked."""

# White space as ``str.strip`` knows it: RE2 and Java take \s as ASCII only, hence \p{Z} and U+0085.
_SPACE = r"[\s\p{Z}\x{1C}-\x{1F}\x{0B}\x{85}]"
_EDGES = rf"^{_SPACE}+|{_SPACE}+$"
# A JSON string that holds something else than white space; other JSON values do not match.
_BLANK_JSON = r'^"(?:[\p{Z}\x{85}]|\\[nrtf]|\\u000[bB]|\\u001[c-fC-F])*"$'


def safe_id(column: StringValue, *, telemetry: bool = False) -> StringValue:
    """The expression form of :func:`tracetune.privacy.safe_id`.

    Args:
        column: Ids as the application or the server wrote them.
        telemetry: True for span and trace ids, where 16 or 32 hexadecimal digits are always fine.
    """
    import ibis

    safe = column.re_search(PLAIN_ID) | (column.re_search(NAME_ID) & ~column.re_search(RISKY_ID))
    if telemetry:
        safe = safe | column.re_search(TELEMETRY_ID)
    hashed = ibis.literal(HASHED_ID_PREFIX) + column.hexdigest("sha256").left(32)
    return ibis.ifelse(safe, column, hashed)


def stripped(column: StringColumn) -> StringColumn:
    """Text without blanks at its ends; missing if nothing is left."""
    return column.re_replace(_EDGES, "").nullif("")


def utc_literal(moment: datetime) -> Any:
    """A time as a literal of the engine."""
    import ibis

    return ibis.literal(moment, type="timestamp('UTC', 6)")


def clean_session_id(column: StringColumn) -> StringValue:
    """Session ids that may be shown; missing where there is no session."""
    # Source document 003 writes "unknown" where an application gave no session.
    return safe_id(stripped(column).nullif("unknown"))


def _is_root(spans: Table) -> BooleanColumn:
    return stripped(spans.parent_id).isnull()


def classify_spans(
    spans: Table, annotations: Table, options: TelemetryOptions, anchor: datetime | str
) -> Table:
    """One row per span that was read: what it is and, if it is no unit, why not.

    Args:
        spans: Spans of the snapshot.
        annotations: Span annotations of the snapshot.
        options: Names, kinds and windows.
        anchor: End of the test window, from the snapshot manifest.

    Returns:
        Columns ``span_id``, ``trace_id``, ``session_id``, ``start_time``, ``window`` (``train``,
        ``test`` or null) and ``drop``: the first reason of :data:`KEY_DROPS` that holds, null for a
        unit. A span with an approval annotation of any annotator kind is a unit; whether a person
        decided is asked later, after the malformed ones were counted.
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
    approvals = (
        annotations.filter(annotations.name.isin(options.verdicts.names))
        .select(key=safe_id(annotations.span_id, telemetry=True))
        .distinct()
        .mutate(annotated=True)
    )
    keys = spans.select(
        span_id=safe_id(spans.span_id, telemetry=True),
        trace_id=safe_id(spans.trace_id, telemetry=True),
        session_id=clean_session_id(spans.session_id),
        start_time=start,
        window=window,
        same_name=(spans.name == options.span.name).fill_null(False),
        same_kind=(stripped(spans.span_kind).upper() == options.span.kind.upper()).fill_null(False),
        root=_is_root(spans),
    )
    joined = keys.left_join(approvals, keys.span_id == approvals.key)
    drop = ibis.cases(
        (~joined.same_name, "other_name"),
        (~joined.same_kind, "other_kind"),
        (~joined.root, "child_span"),
        (joined.window.isnull(), "outside_window"),
        (joined.annotated.isnull(), "no_annotation"),
    )
    return joined.mutate(drop=drop).select(
        "span_id", "trace_id", "session_id", "start_time", "window", "drop"
    )


def collect_verdicts(units: Table, annotations: Table, options: TelemetryOptions) -> Table:
    """One row per approval annotation on the remaining units, with its verdict.

    The label wins: stripped and in lower case it approves, rejects, or (any other label) is no
    verdict. Only without a label does the score speak. A NaN score is no score.

    Args:
        units: Result of :func:`classify_spans`.
        annotations: Span annotations of the snapshot.
        options: Names, kinds, labels and threshold.

    Returns:
        Columns ``span_id``, ``annotation_id``, ``name``, ``annotator_kind``, ``identifier``,
        ``updated_at``, ``human`` (its kind may decide), ``verdict`` (``approved``, ``rejected`` or
        null) and ``decides`` (human and with a verdict).
    """
    import ibis

    rules = options.verdicts
    chosen = annotations.filter(annotations.name.isin(rules.names)).mutate(
        span_id=safe_id(annotations.span_id, telemetry=True)
    )
    rows = chosen.semi_join(units.filter(units["drop"].isnull()), "span_id")
    kinds = [kind.strip().upper() for kind in rules.kinds]
    kind = stripped(rows.annotator_kind).upper()
    label = stripped(rows.label).lower()
    score = rows.score.cast("float64")
    # DuckDB sorts NaN above every number, so it would approve.
    score = ibis.ifelse(score.isnan(), ibis.null("float64"), score)
    verdict = ibis.cases(
        (label == rules.labels.approved, ibis.literal("approved")),
        (label == rules.labels.rejected, ibis.literal("rejected")),
        (label.notnull(), ibis.null("string")),
        (score >= rules.threshold, ibis.literal("approved")),
        (score < rules.threshold, ibis.literal("rejected")),
    )
    human: BooleanValue = kind.isin(kinds).fill_null(False)
    return rows.select(
        span_id=rows.span_id,
        annotation_id=rows.annotation_id,
        name=rows.name,
        annotator_kind=kind,
        identifier=safe_id(stripped(rows.identifier)),
        updated_at=rows.updated_at,
        human=human,
        verdict=verdict,
        decides=human & verdict.notnull(),
    )


def kept_turns(spans: Table, options: TelemetryOptions) -> Table:
    """Turns of sessions: root spans of the turn name with a non-blank prompt and response.

    Sessions with fewer than two such turns are left out, as are spans without a session.

    Returns:
        Columns ``session_id``, ``span_id``, ``start_time``.
    """
    import ibis

    turns = spans.filter(
        (spans.name == options.turn_span.name)
        & _is_root(spans)
        & _is_text(spans.input_json)
        & _is_text(spans.output_json)
    ).select(
        session_id=clean_session_id(spans.session_id),
        span_id=safe_id(spans.span_id, telemetry=True),
        start_time=spans.start_time,
    )
    turns = turns.filter(turns.session_id.notnull())
    counted = turns.mutate(turns=turns.count().over(ibis.window(group_by="session_id")))
    return counted.filter(counted.turns >= 2).drop("turns")


def _is_text(column: StringColumn) -> BooleanValue:
    """True where a JSON-encoded value is a string with something in it."""
    text = column.startswith('"') & ~column.re_search(_BLANK_JSON)
    return text.fill_null(False)


def sessions_in_test(spans: Table, options: TelemetryOptions, anchor: datetime | str) -> Table:
    """Sessions with a kept turn in the test window: they belong to the test side as a whole.

    Returns:
        One column ``session_id``, each once.
    """
    windows = options.windows_at(anchor)
    turns = kept_turns(spans, options)
    inside = (turns.start_time >= utc_literal(windows.test_start)) & (
        turns.start_time < utc_literal(windows.end)
    )
    return turns.filter(inside).select("session_id").distinct().order_by("session_id")


def count_drops(units: Table) -> Table:
    """How many spans each key decides: columns ``drop`` (null: a unit), ``spans``, ``ids``.

    ``ids`` counts distinct span ids; a difference to ``spans`` means that a span was read twice.
    """
    return units.group_by("drop").aggregate(spans=units.count(), ids=units.span_id.nunique())
