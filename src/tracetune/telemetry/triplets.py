"""The one place where the text of searches meets feedback: join, redact, decide, write rows.

Everything before works on keys, everything after sees redacted text only. Searches are streamed in
Arrow batches sorted by (start time, span id); memory holds the catalogue and the rows.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tracetune.errors import DataError
from tracetune.files import sha256_json
from tracetune.privacy import PrivacyOptions, PrivacyReport, Redactor
from tracetune.privacy import safe_id as safe_text_id
from tracetune.records import (
    CatalogueDocument,
    SearchQuery,
    Triplet,
    make_query,
    make_triplet,
)
from tracetune.telemetry.candidates import SOURCE, group_of
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.rules import parse_json
from tracetune.telemetry.search_funnel import (
    CATALOGUE,
    CatalogueCounts,
    RowCounts,
    SearchFunnel,
    make_search_funnel,
)
from tracetune.telemetry.search_rules import (
    Feedback,
    Lesson,
    Result,
    Search,
    decide,
    named_document,
    results_of,
)
from tracetune.telemetry.search_tables import is_search
from tracetune.telemetry.tables import count_drops, safe_id

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

AnyRow = TypeVar("AnyRow", Triplet, SearchQuery)

_BATCH = 1_000


class SearchRows(NamedTuple):
    """What :func:`write_triplets` gives."""

    triplets: list[Triplet]
    queries: list[SearchQuery]
    documents: list[CatalogueDocument]
    funnel: SearchFunnel
    privacy: PrivacyReport


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a row comes from: keys only."""

    span_id: str
    trace_id: str
    session_id: str | None
    start_time: datetime
    window: str

    def shared(self, tenant: str) -> dict[str, Any]:
        """What triplets and queries of this search have in common."""
        ids = {"span_id": self.span_id, "trace_id": self.trace_id}
        if self.session_id is not None:
            ids["session_id"] = self.session_id
        return {
            "source": SOURCE,
            "tenant": tenant,
            "ids": ids,
            "group": group_of(self.session_id, self.trace_id),
            "created_at": self.start_time,
            "tags": {"window": self.window},
        }


class _Cleaner:
    """Redacts each different text once, and says whether it may be used."""

    def __init__(self, redactor: Redactor, max_chars: int) -> None:
        self.redactor = redactor
        self.max_chars = max_chars
        self._known: dict[str, tuple[str | None, str]] = {}

    def text(self, value: Any, *, where: str) -> tuple[str | None, str]:
        """The clean text or None, and ``used`` or the reason why it is None."""
        if not isinstance(value, str) or not value.strip():
            return None, "no_content"
        raw = value.strip()
        if len(raw) > self.max_chars:
            return None, "too_long"
        if raw not in self._known:
            clean, hit = self.redactor.text(raw)
            if hit and self.redactor.options.policy == "drop":
                self._known[raw] = (None, "private")
            else:
                self.redactor.check(clean, where=where)
                self._known[raw] = (clean, "used")
        return self._known[raw]


def write_triplets(
    searches: Table,
    feedback: Table,
    spans: Table,
    annotations: Table,
    options: TelemetryOptions,
    privacy: PrivacyOptions,
    *,
    tenant: str,
    seed: int,
) -> SearchRows:
    """Joins text to searches and feedback, redacts, decides and de-duplicates.

    One row per (anchor, positive, negative) and one query per (text, relevant documents), compared
    after redaction. A row of the test window stays before one of the training window, within a
    window the earliest stays.

    Args:
        searches: Result of :func:`~tracetune.telemetry.search_tables.classify_searches`.
        feedback: Result of :func:`~tracetune.telemetry.search_tables.collect_feedback`.
        spans: Spans of the snapshot.
        annotations: Span annotations of the snapshot.
        options: Rules of extraction.
        privacy: What happens to secrets and personal data.
        tenant: Whose data it is.
        seed: Seed of the strategy ``random_sampling``.

    Returns:
        Triplets and queries in the order (start time, span id), the catalogue in the order of its
        ids, the funnel (which adds up, or the run has stopped) and the privacy report.

    Raises:
        DataError: If a span id stands twice, or if redaction left something.
    """
    drops = _key_drops(searches)
    read = sum(drops.values())
    drops.pop("", None)
    redactor = Redactor(privacy)
    cleaner = _Cleaner(redactor, options.max_chars)
    documents, catalogue = _catalogue(spans, options, cleaner)

    triplets: list[Triplet] = []
    queries: list[SearchQuery] = []
    ledger: Counter[str] = Counter()
    feedback_read = 0
    for origin, search, private in _searches(
        searches, feedback, spans, annotations, options, cleaner
    ):
        feedback_read += len(search.feedback)
        if private:
            redactor.drop()
            lesson = Lesson("private", feedback=Counter(left_out=len(search.feedback)))
        else:
            lesson = decide(search, options.search, max_chars=options.max_chars, seed=seed)
        ledger.update(lesson.feedback)
        if lesson.drop:
            drops[lesson.drop] += 1
        if lesson.positives:
            queries.append(_query(origin, search, lesson, tenant))
        triplets += [_triplet(origin, search, pair, tenant) for pair in lesson.pairs]

    kept_triplets, kept_queries = _deduplicate(triplets), _deduplicate(queries)
    teaching = {row.provenance.ids["span_id"] for row in triplets}
    kept_spans = {row.provenance.ids["span_id"] for row in kept_triplets}
    drops["duplicate"] = len(teaching - kept_spans)
    funnel = make_search_funnel(
        read=read,
        drops=drops,
        searches=len(kept_spans),
        feedback=ledger,
        feedback_read=feedback_read,
        triplets=_counts(triplets, kept_triplets),
        queries=_counts(queries, kept_queries),
        catalogue=catalogue,
    )
    return SearchRows(kept_triplets, kept_queries, documents, funnel, redactor.report())


def _key_drops(searches: Table) -> Counter[str]:
    drops: Counter[str] = Counter()
    for row in count_drops(searches).to_pyarrow().to_pylist():
        if row["spans"] != row["ids"]:
            raise DataError(
                f"{row['spans'] - row['ids']} span ids stand more than once",
                where="spans of the snapshot",
                remedy="delete the snapshot and read it again",
            )
        drops[row["drop"] or ""] = row["spans"]
    return drops


def _catalogue(
    spans: Table, options: TelemetryOptions, cleaner: _Cleaner
) -> tuple[list[CatalogueDocument], CatalogueCounts]:
    """Every document shown by a search of the snapshot, with its newest text."""
    same_name, same_kind = is_search(spans, options)
    table = (
        spans.filter(same_name & same_kind)
        .select(
            span_id=safe_id(spans.span_id, telemetry=True),
            start_time=spans.start_time,
            attributes_json=spans.attributes_json,
        )
        .order_by(["start_time", "span_id"])
    )
    newest: dict[str, CatalogueDocument] = {}
    changed: set[str] = set()
    shown: Counter[str] = Counter()
    searches = 0
    for row in _stream(table):
        searches += 1
        outcomes, results = _results(row, cleaner)
        shown.update(outcomes)
        for result in results:
            if result.text is not None:
                before = newest.get(result.id)
                if before is not None and before.text != result.text:
                    changed.add(result.id)
                newest[result.id] = CatalogueDocument(
                    id=result.id, text=result.text, seen_at=row["start_time"].astimezone(UTC)
                )
    counts = CatalogueCounts(
        searches=searches,
        shown={name: shown[name] for name in CATALOGUE},
        documents=len(newest),
        two_contents=len(changed),
    )
    return [newest[key] for key in sorted(newest)], counts


def _stream(table: Table) -> Iterator[dict[str, Any]]:
    with table.to_pyarrow_batches(chunk_size=_BATCH) as batches:
        for batch in batches:
            yield from batch.to_pylist()


def _results(row: dict[str, Any], cleaner: _Cleaner) -> tuple[list[str], list[Result]]:
    """What became of each document in the results of a span, and those that have an id."""
    outcomes: list[str] = []
    results: dict[str, Result] = {}
    for key, content, score in results_of(_object(row["attributes_json"])):
        known = isinstance(key, str | int) and not isinstance(key, bool) and str(key).strip()
        if not known:
            outcomes.append("no_id")
            continue
        document = safe_text_id(str(key).strip())
        if document in results:
            outcomes.append("repeated")  # the first rank counts
            continue
        text, outcome = cleaner.text(content, where=f"document {document}")
        outcomes.append(outcome)
        results[document] = Result(document, text, score)
    return outcomes, list(results.values())


def _object(text: str | None) -> dict[str, Any]:
    value = _value(text)
    return value if isinstance(value, dict) else {}


def _value(text: str | None) -> Any:
    """A JSON value; one that cannot be read is as good as none."""
    if text is None:
        return None
    try:
        return parse_json(text)
    except ValueError:
        return None


def _searches(
    searches: Table,
    feedback: Table,
    spans: Table,
    annotations: Table,
    options: TelemetryOptions,
    cleaner: _Cleaner,
) -> Iterator[tuple[_Origin, Search, bool]]:
    """Every search with feedback, in the order (start time, span id); true if it is private."""
    remaining = searches.filter(searches["drop"].isnull()).select(
        "span_id", "trace_id", "session_id", "start_time", "window"
    )
    texts = spans.select(
        span_id=safe_id(spans.span_id, telemetry=True),
        status_code=spans.status_code,
        input_json=spans.input_json,
        attributes_json=spans.attributes_json,
    )
    notes = annotations.select(
        span_id=safe_id(annotations.span_id, telemetry=True),
        annotation_id=annotations.annotation_id,
        identifier=annotations.identifier,
        metadata_json=annotations.metadata_json,
    )
    marks = feedback.select("span_id", "annotation_id", "name", "human", "wanted")
    joined = (
        remaining.join(texts, "span_id")
        .join(marks, "span_id")
        .join(notes, ["span_id", "annotation_id"])
        .order_by(["start_time", "span_id", "annotation_id"])
    )
    for _, group in itertools.groupby(_stream(joined), lambda r: (r["start_time"], r["span_id"])):
        members = list(group)
        first = members[0]
        origin = _Origin(
            span_id=first["span_id"],
            trace_id=first["trace_id"],
            session_id=first["session_id"],
            start_time=first["start_time"].astimezone(UTC),
            window=first["window"],
        )
        query, outcome = _query_text(first["input_json"], origin, cleaner)
        search = Search(
            span_id=origin.span_id,
            failed=(first["status_code"] or "").strip().upper() == "ERROR",
            query=query,
            results=_results(first, cleaner)[1],
            feedback=[_feedback(member, options) for member in members],
        )
        yield origin, search, outcome == "private" and not search.failed


def _query_text(
    input_json: str | None, origin: _Origin, cleaner: _Cleaner
) -> tuple[str | None, str]:
    value = _value(input_json)
    text, outcome = cleaner.text(value, where=f"span {origin.span_id}")
    # A query that is too long is told from none by the rules, which know its length.
    return (value.strip() if outcome == "too_long" else text), outcome


def _feedback(row: dict[str, Any], options: TelemetryOptions) -> Feedback:
    named = named_document(
        _object(row["metadata_json"]), row["name"], row["identifier"], options.search
    )
    return Feedback(
        document_id=None if named is None else safe_text_id(named),
        human=row["human"],
        wanted=row["wanted"],
    )


def _triplet(origin: _Origin, search: Search, pair: tuple[Result, Result], tenant: str) -> Triplet:
    positive, negative = pair
    shared = origin.shared(tenant)
    shared["ids"] |= {"positive_id": positive.id, "negative_id": negative.id}
    assert search.query is not None
    assert positive.text is not None
    assert negative.text is not None
    return make_triplet(
        anchor=search.query, positive=positive.text, negative=negative.text, **shared
    )


def _query(origin: _Origin, search: Search, lesson: Lesson, tenant: str) -> SearchQuery:
    assert search.query is not None
    relevant = sorted({positive.id for positive in lesson.positives})
    return make_query(text=search.query, relevant=relevant, **origin.shared(tenant))


def _deduplicate(rows: list[AnyRow]) -> list[AnyRow]:
    """One row per content, in the order given: test before training, then the earliest."""
    winners: dict[str, str] = {}
    for window in ("test", "train"):
        for row in rows:
            if row.tags["window"] == window:
                winners.setdefault(sha256_json(row.content()), row.id)
    return [row for row in rows if winners[sha256_json(row.content())] == row.id]


def _counts(candidates: list[Any], kept: list[Any]) -> RowCounts:
    return RowCounts(
        candidates=len(candidates),
        duplicate=len(candidates) - len(kept),
        rows=len(kept),
        by_window=dict(sorted(Counter(row.tags["window"] for row in kept).items())),
    )
