"""The one place where the text of searches meets what people said: join, redact, decide, write.

Everything before works on keys, everything after sees redacted text only. Searches are streamed in
Arrow batches sorted by (start time, span id); memory holds the catalogue and the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetune.errors import DataError
from tracetune.privacy import PrivacyOptions, PrivacyReport, Redactor
from tracetune.records import CatalogueDocument, SearchQuery, Triplet
from tracetune.records.searches import TripletSet
from tracetune.telemetry.document_rules import VERDICTS
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.search_funnel import (
    CATALOGUE,
    DOCUMENT_REASONS,
    SEARCH_REASONS,
    CatalogueCounts,
    SearchFunnel,
    SetFunnel,
    make_search_funnel,
    make_set_funnel,
)
from tracetune.telemetry.search_lessons import Taught, document_lessons, feedback_lessons
from tracetune.telemetry.search_rules import FEEDBACK
from tracetune.telemetry.search_sets import set_rows, used_rows
from tracetune.telemetry.search_tables import is_search
from tracetune.telemetry.search_text import Cleaner, shown_documents, stream
from tracetune.telemetry.tables import count_drops, safe_id

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any


class SearchTables(NamedTuple):
    """The tables that hold keys and opinions, and those of the snapshot.

    Attributes:
        searches: Result of :func:`~tracetune.telemetry.search_tables.classify_searches`.
        feedback: Result of :func:`~tracetune.telemetry.search_tables.collect_feedback`.
        annotated: Result of :func:`~tracetune.telemetry.search_tables.classify_annotated`.
        verdicts: Result of :func:`~tracetune.telemetry.search_tables.collect_document_verdicts`.
        spans: Spans of the snapshot.
        annotations: Span annotations of the snapshot.
    """

    searches: Table
    feedback: Table
    annotated: Table
    verdicts: Table
    spans: Table
    annotations: Table


class SearchRows(NamedTuple):
    """What :func:`write_triplets` gives.

    Attributes:
        triplets: Triplets of the sets that are used.
        document_triplets: The set from annotations of documents on its own, used or not.
        queries: Queries of the sets that are used.
        documents: The catalogue.
        funnel: Where everything went.
        privacy: What was redacted.
    """

    triplets: list[Triplet]
    document_triplets: list[Triplet]
    queries: list[SearchQuery]
    documents: list[CatalogueDocument]
    funnel: SearchFunnel
    privacy: PrivacyReport


def write_triplets(
    tables: SearchTables,
    options: TelemetryOptions,
    privacy: PrivacyOptions,
    *,
    tenant: str,
    seed: int,
    sets: Sequence[TripletSet] = ("feedback",),
) -> SearchRows:
    """Joins text to searches and opinions, redacts, decides and de-duplicates.

    One row per (anchor, positive, negative) and one query per (text, relevant documents), compared
    after redaction. A row of the test window stays before one of the training window, within a
    window the earliest stays.

    Args:
        tables: Keys, opinions, and the snapshot.
        options: Rules of extraction.
        privacy: What happens to secrets and personal data.
        tenant: Whose data it is.
        seed: Seed of the strategy ``random_sampling``.
        sets: The sets whose triplets and queries are used.

    Returns:
        Triplets and queries in the order (start time, span id), the catalogue in the order of its
        ids, the funnel (which adds up, or the run has stopped) and the privacy report.

    Raises:
        DataError: If a span id stands twice, or if redaction left something.
    """
    redactor = Redactor(privacy)
    cleaner = Cleaner(redactor, options.max_chars)
    documents, catalogue = _catalogue(tables.spans, options, cleaner)
    feedback = list(
        feedback_lessons(
            *(tables.searches, tables.feedback, tables.spans, tables.annotations),
            *(options, cleaner, seed),
        )
    )
    annotated = list(
        document_lessons(tables.annotated, tables.verdicts, tables.spans, options, cleaner)
    )
    _, of_feedback = _one_set(feedback, "feedback", tables.searches, tenant)
    document_triplets, of_documents = _one_set(annotated, "documents", tables.annotated, tenant)
    triplets, queries, used = used_rows(
        {"feedback": feedback, "documents": annotated}, sets, tenant
    )
    funnel = make_search_funnel(
        feedback=of_feedback, documents=of_documents, used=used, catalogue=catalogue
    )
    return SearchRows(triplets, document_triplets, queries, documents, funnel, redactor.report())


def _one_set(
    taught: list[Taught], name: TripletSet, searches: Table, tenant: str
) -> tuple[list[Triplet], SetFunnel]:
    """The triplets of a set on its own, and where its spans and annotations went."""
    drops = _key_drops(searches)
    read = sum(drops.values())
    drops.pop("", None)
    triplets, counts, queries, later = set_rows(taught, name, tenant)
    outcomes: Counter[str] = Counter()
    for one in taught:
        outcomes.update(one.lesson.feedback)
    funnel = make_set_funnel(
        name,
        reasons=SEARCH_REASONS if name == "feedback" else DOCUMENT_REASONS,
        outcomes=tuple(FEEDBACK if name == "feedback" else VERDICTS),
        read=read,
        drops=drops + later,
        searches=len({row.provenance.ids["span_id"] for row in triplets}),
        said=outcomes,
        said_read=sum(one.said for one in taught),
        triplets=counts,
        queries=queries,
    )
    return triplets, funnel


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
    spans: Table, options: TelemetryOptions, cleaner: Cleaner
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
    for row in stream(table):
        searches += 1
        shown_here = shown_documents(row["attributes_json"], cleaner)
        shown.update(shown_here.outcomes)
        for result in shown_here.results:
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
