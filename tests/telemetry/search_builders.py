"""Searches, and what was said about their results, from short Python descriptions."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa

from tests.telemetry.builders import ANCHOR, ANNOTATIONS, SPANS, TRAIN
from tracetune.privacy import PrivacyOptions
from tracetune.records import Triplet
from tracetune.records.searches import TripletSet
from tracetune.telemetry.options import SearchOptions, TelemetryOptions
from tracetune.telemetry.search_tables import (
    classify_annotated,
    classify_searches,
    collect_document_verdicts,
    collect_feedback,
)
from tracetune.telemetry.snapshot import table_schema
from tracetune.telemetry.triplets import SearchRows, SearchTables, write_triplets


@dataclass
class Say:
    """One annotation on a result; the default is a person's click."""

    document: str | None
    score: float | None = None
    name: str = "result_click"
    kind: str = "HUMAN"
    identifier: str | None = None


@dataclass
class Mark:
    """One annotation of the document at a position; the default is a person's "relevant"."""

    position: int
    label: str | None = "relevant"
    score: float | None = None
    name: str = "relevance"
    kind: str = "HUMAN"
    who: str = ""


def irrelevant(position: int, **more: Any) -> Mark:
    return Mark(position, "irrelevant", **more)


@dataclass
class Searched:
    """One search span; documents are (id, content, score)."""

    query: Any = "refund for a cancelled order"
    documents: Iterable[tuple[Any, Any, float | None]] = (
        ("d1", "How to return an order", 0.9),
        ("d2", "Opening hours", 0.8),
        ("d3", "Delivery times", 0.7),
        ("d4", "Gift cards", 0.1),
    )
    said: Iterable[Say] = (Say("d1"),)
    marks: Iterable[Mark] = ()
    name: str = "search_service"
    kind: str = "RETRIEVER"
    session: str | None = None
    status: str = "OK"
    start: datetime = TRAIN
    extra: Mapping[str, Any] = field(default_factory=dict)


def relevance(document: str, score: float | None, **more: Any) -> Say:
    return Say(document, score, name="result_relevance", **more)


def tables(searches: Iterable[Searched]) -> tuple[ibis.Table, ibis.Table, ibis.Table]:
    """Spans, their annotations, and the annotations of their documents."""
    spans, notes, marks = [], [], []
    for number, search in enumerate(searches):
        attributes = dict(search.extra)
        for rank, (key, content, score) in enumerate(search.documents):
            prefix = f"retrieval.documents.{rank}.document"
            values = {"id": key, "content": content, "score": score}
            attributes |= {f"{prefix}.{k}": v for k, v in values.items() if v is not None}
        spans.append(
            {
                "span_id": f"{number:016x}",
                "trace_id": f"{number:032x}",
                "parent_id": "00000000000000aa",
                "name": search.name,
                "span_kind": search.kind,
                "start_time": search.start + timedelta(seconds=number),
                "end_time": search.start + timedelta(seconds=number + 1),
                "status_code": search.status,
                "session_id": search.session,
                "input_json": None if search.query is None else json.dumps(search.query),
                "output_json": None,
                "attributes_json": json.dumps(attributes),
            }
        )
        for said in search.said:
            running = len(notes) + 1
            notes.append(
                {
                    "annotation_id": base64.b64encode(b"SpanAnnotation:%d" % running).decode(),
                    "span_id": f"{number:016x}",
                    "name": said.name,
                    "annotator_kind": said.kind,
                    "identifier": said.identifier or f"{said.name}:{running}",
                    "label": None,
                    "score": said.score,
                    "explanation": None,
                    "metadata_json": json.dumps({"result_id": said.document})
                    if said.document is not None
                    else "{}",
                    "created_at": search.start,
                    "updated_at": search.start,
                }
            )
        for mark in search.marks:
            running = len(marks) + 1
            marks.append(
                {
                    "annotation_id": f"DocumentAnnotation:{running:012d}",
                    "span_id": f"{number:016x}",
                    "position": mark.position,
                    "name": mark.name,
                    "annotator_kind": mark.kind,
                    "identifier": mark.who,
                    "label": mark.label,
                    "score": mark.score,
                    "explanation": None,
                    "metadata_json": "{}",
                    "created_at": search.start,
                    "updated_at": search.start,
                }
            )
    return (
        ibis.memtable(pa.Table.from_pylist(spans, schema=SPANS)),
        ibis.memtable(pa.Table.from_pylist(notes, schema=ANNOTATIONS)),
        ibis.memtable(pa.Table.from_pylist(marks, schema=table_schema("document_annotations"))),
    )


def rows_of(
    *searches: Searched,
    search: SearchOptions | None = None,
    privacy: PrivacyOptions | None = None,
    seed: int = 1,
    sets: Sequence[TripletSet] = ("feedback",),
) -> SearchRows:
    """The whole way from spans to rows."""
    options = TelemetryOptions(search=search or SearchOptions())
    spans, notes, marks = tables(searches)
    found = classify_searches(spans, notes, options, ANCHOR).cache()
    feedback = collect_feedback(found, notes, options).cache()
    annotated = classify_annotated(spans, marks, options, ANCHOR).cache()
    verdicts = collect_document_verdicts(annotated, marks, options).cache()
    return write_triplets(
        SearchTables(found, feedback, annotated, verdicts, spans, notes),
        options,
        privacy or PrivacyOptions(),
        tenant="demo",
        seed=seed,
        sets=sets,
    )


def reasons(rows: SearchRows) -> dict[str, int]:
    return {step.reason: step.dropped for step in rows.funnel.steps if step.dropped}


def pairs(triplets: Iterable[Triplet]) -> list[tuple[str, str]]:
    """Ids of the positive and the negative document."""
    return [(r.provenance.ids["positive_id"], r.provenance.ids["negative_id"]) for r in triplets]


def sides(rows: SearchRows) -> list[tuple[str, str]]:
    return pairs(rows.triplets)
