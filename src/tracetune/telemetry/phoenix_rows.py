"""Rows of a snapshot from what the REST interface of Phoenix answers."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from tracetune.files import canonical_json

Row = dict[str, Any]


def utc_time(text: str) -> datetime:
    """A time as the server writes it, in UTC; without a zone it is UTC already."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _json(value: Any) -> str:
    """Canonical JSON; the fast writer first, which refuses whole numbers beyond 64 bits."""
    import orjson

    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return canonical_json(value)


def span_row(span: dict[str, Any]) -> Row:
    """A row of ``spans.parquet`` from a span of the REST listing."""
    attributes = span["attributes"]
    session = attributes.get("session.id")
    texts = {
        f"{side}_json": _json(attributes.pop(f"{side}.value"))
        if f"{side}.value" in attributes
        else None
        for side in ("input", "output")
    }
    return {
        "span_id": span["context"]["span_id"],
        "trace_id": span["context"]["trace_id"],
        "parent_id": span["parent_id"],
        "name": span["name"],
        "span_kind": span["span_kind"],
        "start_time": utc_time(span["start_time"]),
        "end_time": utc_time(span["end_time"]) if span["end_time"] else None,
        "status_code": span["status_code"],
        "session_id": (str(session).strip() or None) if session is not None else None,
        **texts,
        "attributes_json": _json(attributes),
    }


def annotation_row(annotation: dict[str, Any], owner: str) -> Row:
    """A row from an annotation; ``owner`` is ``span_id`` or ``session_id``."""
    result = annotation.get("result") or {}
    score = result.get("score")
    return {
        owner: annotation[owner],
        "annotation_id": sortable_id(annotation["id"]),
        "name": annotation["name"],
        "annotator_kind": annotation["annotator_kind"],
        "identifier": annotation["identifier"],
        "label": result.get("label"),
        "score": None if score is None else float(score),
        "explanation": result.get("explanation"),
        "metadata_json": _json(annotation.get("metadata") or {}),
        "created_at": utc_time(annotation["created_at"]),
        "updated_at": utc_time(annotation["updated_at"]),
    }


def document_annotation_row(annotation: dict[str, Any], span_id: str) -> Row:
    """A row of ``document_annotations.parquet`` from an annotation as GraphQL gives it."""
    score = annotation["score"]
    return {
        "annotation_id": sortable_id(annotation["id"]),
        "span_id": span_id,
        "position": int(annotation["documentPosition"]),
        "name": annotation["name"],
        "annotator_kind": annotation["annotatorKind"],
        "identifier": annotation["identifier"],
        "label": annotation["label"],
        "score": None if score is None else float(score),
        "explanation": annotation["explanation"],
        "metadata_json": _json(annotation["metadata"] or {}),
        "created_at": utc_time(annotation["createdAt"]),
        "updated_at": utc_time(annotation["updatedAt"]),
    }


def document_order(row: Row) -> tuple[str, int, str, str]:
    """Sort key of annotations of documents in a snapshot; no two rows have the same."""
    return row["span_id"], row["position"], row["name"], row["identifier"] or ""


def may_hold_documents(span: Row) -> bool:
    """Whether a row of ``spans.parquet`` may list documents that annotations can be about.

    The server counts what stands in these two attributes, whatever the kind of the span.
    """
    attributes = span["attributes_json"]
    return '"retrieval.documents' in attributes or '"reranker.output_documents' in attributes


def bare_session(session: str) -> Row:
    """The row of a session without annotations."""
    columns = ("annotation_id", "name", "annotator_kind", "identifier", "label", "score")
    empty = dict.fromkeys((*columns, "explanation", "metadata_json", "updated_at"))
    return {"session_id": session, **empty}


def annotation_order(row: Row, owner: str) -> tuple[str, ...]:
    """Sort key of annotations in a snapshot."""
    return tuple(str(row[key] or "") for key in (owner, "name", "identifier", "annotation_id"))


def sortable_id(annotation_id: str) -> str:
    """The server's id with its number padded, so that text order is order of creation."""
    try:
        kind, number = base64.b64decode(annotation_id, validate=True).decode().split(":")
        return f"{kind}:{int(number):012d}"
    except ValueError:
        return annotation_id
