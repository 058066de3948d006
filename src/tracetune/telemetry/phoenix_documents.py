"""Annotations of the documents of spans, as a Phoenix server gives them by GraphQL.

REST takes these annotations and does not give them back. They are asked for by the ids of the spans
that were read: every span that was asked for must come back, so that nothing is cut off in silence.
The server offers no count of them; what was read is looked for once more at the end instead.
"""

from __future__ import annotations

import json
from typing import Any

from tracetune.errors import ServerError
from tracetune.phoenix_rest import PhoenixServer
from tracetune.telemetry.phoenix_rows import (
    Row,
    document_annotation_row,
    document_order,
    sortable_id,
)

ROWS = """
id documentPosition name annotatorKind identifier label score explanation metadata
createdAt updatedAt
"""
IDS = "id"

_QUERY = """
query ($id: ID!, $first: Int!, $filter: String!) {
  node(id: $id) { ... on Project {
    spans(first: $first, filterCondition: $filter) {
      edges { node { spanId documentEvaluations { %s } } }
    } } } }
"""


def read_documents(
    server: PhoenixServer, project_id: str, span_ids: list[str]
) -> tuple[list[Row], int]:
    """All annotations of the documents of these spans, in the order of the snapshot.

    Args:
        server: The server.
        project_id: Its id of the project.
        span_ids: Spans that were read before, at most 1000.

    Returns:
        Rows of ``document_annotations.parquet``, and the number of texts with half characters.

    Raises:
        ServerError: If a span is gone, or something came twice.
    """
    found, repaired = _annotations(server, project_id, span_ids, ROWS)
    rows = [
        document_annotation_row(annotation, span_id)
        for span_id, annotations in found.items()
        for annotation in annotations
    ]
    if len({row["annotation_id"] for row in rows}) != len(rows):
        raise ServerError(
            "an annotation of a document came twice", where=server.address, remedy="run again"
        )
    rows.sort(key=document_order)
    return rows, repaired


def document_ids(server: PhoenixServer, project_id: str, span_ids: list[str]) -> set[str]:
    """The ids of the annotations that the documents of these spans have at this moment.

    Raises:
        ServerError: As :func:`read_documents`.
    """
    found, _ = _annotations(server, project_id, span_ids, IDS)
    return {
        sortable_id(annotation["id"])
        for annotations in found.values()
        for annotation in annotations
    }


def _annotations(
    server: PhoenixServer, project_id: str, span_ids: list[str], fields: str
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """The annotations by span, and every span exactly once."""
    data, repaired = server.graphql(
        _QUERY % fields,
        {
            "id": project_id,
            "first": len(span_ids),
            "filter": f"span_id in {json.dumps(span_ids)}",
        },
    )
    spans = [edge["node"] for edge in data["node"]["spans"]["edges"]]
    found = {span["spanId"]: span["documentEvaluations"] for span in spans}
    if len(spans) != len(span_ids) or found.keys() != set(span_ids):
        raise ServerError(
            f"of {len(span_ids)} spans with documents that were read, the server gives "
            f"{len(found.keys() & set(span_ids))} now; nothing of this reading is kept",
            where=server.address,
            remedy="run again when nothing is being deleted there",
        )
    return found, repaired
