"""Searches one after the other, with what people said about their results and what that teaches."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetune.privacy import safe_id as safe_text_id
from tracetune.telemetry.document_rules import DocumentVerdict, decide_documents
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.search_rules import (
    Feedback,
    Lesson,
    Search,
    decide,
    named_document,
)
from tracetune.telemetry.search_text import (
    Cleaner,
    Origin,
    Shown,
    has_failed,
    origin_of,
    query_text,
    read_object,
    search_texts,
    shown_documents,
    stream,
)
from tracetune.telemetry.tables import safe_id

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taught:
    """One search and what it teaches.

    Attributes:
        origin: Its keys.
        query: What was searched for; not None if the lesson holds anything.
        lesson: What it teaches.
        said: Number of annotations that were read.
    """

    origin: Origin
    query: str | None
    lesson: Lesson
    said: int


class _Read(NamedTuple):
    """A search as it was read, and the rows of what was said about it."""

    origin: Origin
    search: Search
    shown: Shown
    private: bool
    said: list[Row]


def feedback_lessons(
    searches: Table,
    feedback: Table,
    spans: Table,
    annotations: Table,
    options: TelemetryOptions,
    cleaner: Cleaner,
    seed: int,
) -> Iterator[Taught]:
    """What every search with feedback teaches, in the order (start time, span id)."""
    notes = annotations.select(
        span_id=safe_id(annotations.span_id, telemetry=True),
        annotation_id=annotations.annotation_id,
        identifier=annotations.identifier,
        metadata_json=annotations.metadata_json,
    )
    marks = feedback.select("span_id", "annotation_id", "name", "human", "wanted")
    said = marks.join(notes, ["span_id", "annotation_id"])
    for read in _read(searches, said, spans, options, cleaner):
        search = Search(
            **_fields(read.search), feedback=[_feedback(row, options) for row in read.said]
        )
        lesson = decide(search, options.search, max_chars=options.max_chars, seed=seed)
        yield _taught(read, lesson, cleaner)


def document_lessons(
    searches: Table,
    verdicts: Table,
    spans: Table,
    options: TelemetryOptions,
    cleaner: Cleaner,
) -> Iterator[Taught]:
    """What every search with annotated documents teaches, in the order (start time, span id)."""
    said = verdicts.select("span_id", "annotation_id", "position", "human", "relevant")
    for read in _read(searches, said, spans, options, cleaner):
        lesson = decide_documents(
            read.search,
            [DocumentVerdict(row["position"], row["human"], row["relevant"]) for row in read.said],
            read.shown.positions,
            max_chars=options.max_chars,
        )
        yield _taught(read, lesson, cleaner)


def _read(
    searches: Table, said: Table, spans: Table, options: TelemetryOptions, cleaner: Cleaner
) -> Iterator[_Read]:
    joined = (
        search_texts(searches, spans)
        .join(said, "span_id")
        .order_by(["start_time", "span_id", "annotation_id"])
    )
    for _, group in itertools.groupby(stream(joined), lambda r: (r["start_time"], r["span_id"])):
        members = list(group)
        first = members[0]
        origin = origin_of(first)
        query, outcome = query_text(first["input_json"], origin, cleaner)
        shown = shown_documents(first["attributes_json"], cleaner)
        failed = has_failed(first)
        search = Search(origin.span_id, failed, query, shown.results, feedback=[])
        yield _Read(origin, search, shown, outcome == "private" and not failed, members)


def _fields(search: Search) -> dict[str, Any]:
    names = ("span_id", "failed", "query", "results")
    return {name: getattr(search, name) for name in names}


def _taught(read: _Read, lesson: Lesson, cleaner: Cleaner) -> Taught:
    """The lesson, or none if the query may not be used."""
    if read.private:
        cleaner.drop(read.origin.span_id)
        lesson = Lesson("private", feedback=Counter(left_out=len(read.said)))
    return Taught(read.origin, read.search.query, lesson, len(read.said))


def _feedback(row: Row, options: TelemetryOptions) -> Feedback:
    named = named_document(
        read_object(row["metadata_json"]), row["name"], row["identifier"], options.search
    )
    return Feedback(
        document_id=None if named is None else safe_text_id(named),
        human=row["human"],
        wanted=row["wanted"],
    )
