"""Annotations of the documents of spans, as a Phoenix server gives them by GraphQL.

REST takes these annotations and does not give them back, and the server offers no count of those by
people. So the ids of all of them are listed first, by the ids of the spans that were read: every
span that is asked for must come back. The rows must then hold every id that was listed, and at the
end the ids are listed once more. Nothing is cut off in silence.

A row takes the server about a millisecond, an id a twentieth of that; so rows are asked for only
where there are some, and a bounded number at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tracetune.errors import ServerError
from tracetune.phoenix_rest import PhoenixServer
from tracetune.telemetry.phoenix_parallel import batches, in_order
from tracetune.telemetry.phoenix_rows import (
    Row,
    document_annotation_row,
    document_order,
    sortable_id,
)

ROWS_PER_REQUEST = 2_000
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

Ids = dict[str, set[str]]


class DocumentReader:
    """Reads the annotations of documents of one project.

    Args:
        server: The server.
        project_id: Its id of the project.
        page_size: Most spans per request.
        concurrency: Requests on the way at the same time.
    """

    def __init__(
        self, server: PhoenixServer, project_id: str, page_size: int, concurrency: int
    ) -> None:
        """Asks nothing yet."""
        self._server = server
        self._project_id = project_id
        self._page_size = page_size
        self._concurrency = concurrency
        self._read: Ids = {}

    def rows(
        self, span_ids: list[str], begin: Callable[[int], None]
    ) -> Iterator[tuple[list[Row], int]]:
        """All annotations of the documents of these spans, in the order of the snapshot.

        Args:
            span_ids: Spans that were read before and list documents, sorted.
            begin: Told how many annotations there are.

        Yields:
            Rows of ``document_annotations.parquet``, and the number of texts with half characters.

        Raises:
            ServerError: If something is gone, missing from an answer, or there twice.
        """
        listed = self._list(span_ids)
        begin(sum(map(len, listed.values())))
        groups = _groups(listed, self._page_size)
        for (rows, repaired), group in zip(
            in_order(self._server, self._concurrency, self._rows_of, groups), groups, strict=True
        ):
            for span_id in group:
                self._read[span_id] = set()
            for row in rows:
                self._read[row["span_id"]].add(row["annotation_id"])
            missing = sum(len(listed[span_id] - self._read[span_id]) for span_id in group)
            if missing:
                raise ServerError(
                    f"{missing} annotations of documents that the server listed are not in its "
                    "answer; nothing of this reading is kept",
                    where=self._server.address,
                    remedy="run again when nothing is being deleted there",
                )
            yield rows, repaired

    def gone(self) -> int:
        """How many annotations were read and are not there any more."""
        now = self._list(sorted(self._read))
        return sum(len(ids - now.get(span_id, set())) for span_id, ids in self._read.items())

    def _list(self, span_ids: list[str]) -> Ids:
        """The ids of the annotations at this moment, by span, of spans that have some."""
        found: Ids = {}
        pages = batches(span_ids, self._page_size)
        for ids in in_order(self._server, self._concurrency, self._ids_of, pages):
            found |= ids
        # The server answers in an order of its own.
        return dict(sorted(found.items()))

    def _ids_of(self, span_ids: list[str]) -> Ids:
        found, _ = self._ask(span_ids, IDS)
        return {
            span_id: {sortable_id(annotation["id"]) for annotation in annotations}
            for span_id, annotations in found.items()
            if annotations
        }

    def _rows_of(self, span_ids: list[str]) -> tuple[list[Row], int]:
        found, repaired = self._ask(span_ids, ROWS)
        rows = [
            document_annotation_row(annotation, span_id)
            for span_id, annotations in found.items()
            for annotation in annotations
        ]
        if len({row["annotation_id"] for row in rows}) != len(rows):
            raise ServerError(
                "an annotation of a document came twice",
                where=self._server.address,
                remedy="run again",
            )
        rows.sort(key=document_order)
        return rows, repaired

    def _ask(self, span_ids: list[str], fields: str) -> tuple[dict[str, list[dict[str, Any]]], int]:
        """The annotations by span, and every span exactly once."""
        data, repaired = self._server.graphql(
            _QUERY % fields,
            {
                "id": self._project_id,
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
                where=self._server.address,
                remedy="run again when nothing is being deleted there",
            )
        return found, repaired


def _groups(listed: Ids, page_size: int) -> list[list[str]]:
    """The spans in their order, in groups that hold a bounded number of annotations."""
    groups: list[list[str]] = []
    held = 0
    for span_id, ids in listed.items():
        held += len(ids)
        if not groups or held > ROWS_PER_REQUEST or len(groups[-1]) == page_size:
            groups.append([])
            held = len(ids)
        groups[-1].append(span_id)
    return groups
