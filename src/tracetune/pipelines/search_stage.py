"""The search stage: searches with clicks and relevance → triplets, queries, catalogue, splits.

Tables before the rows hold ids, keys and feedback only; text is joined and redacted in one node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.telemetry_stage import (
    anchor_of,
    read_node,
    split_by_time,
    test_sessions_node,
)
from tracetune.privacy import PrivacyOptions
from tracetune.records import CatalogueDocument, SearchQuery, Triplet
from tracetune.splits import SplitOptions
from tracetune.telemetry.options import TelemetryOptions

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

Document = dict[str, Any]


def classify_searches(
    spans: Table, annotations: Table, snapshot: Document, telemetry: TelemetryOptions
) -> Table:
    """One row per span read: its keys, its window, and why it is no search with feedback."""
    from tracetune.telemetry import search_tables

    anchor = anchor_of(snapshot, telemetry)
    return search_tables.classify_searches(spans, annotations, telemetry, anchor)


def collect_feedback(searches: Table, annotations: Table, telemetry: TelemetryOptions) -> Table:
    """One row per click or relevance annotation on the searches."""
    from tracetune.telemetry import search_tables

    return search_tables.collect_feedback(searches, annotations, telemetry)


def write_triplets(
    searches: Table,
    feedback: Table,
    spans: Table,
    annotations: Table,
    telemetry: TelemetryOptions,
    privacy: PrivacyOptions,
    tenant: str,
    seed: int,
) -> tuple[list[Triplet], list[SearchQuery], list[CatalogueDocument], Document, Document]:
    """Joins text to searches and feedback, decides, redacts, de-duplicates.

    Returns:
        Triplets, queries, the catalogue of documents, the funnel and the privacy report.
    """
    from tracetune.telemetry.triplets import write_triplets as make_rows

    rows = make_rows(
        searches, feedback, spans, annotations, telemetry, privacy, tenant=tenant, seed=seed
    )
    return (
        rows.triplets,
        rows.queries,
        rows.documents,
        rows.funnel.model_dump(mode="json"),
        rows.privacy.model_dump(mode="json"),
    )


def split_searches(
    triplets: list[Triplet],
    queries: list[SearchQuery],
    test_sessions: Table,
    snapshot: Document,
    telemetry: TelemetryOptions,
    splits: SplitOptions,
    seed: int,
) -> Document:
    """The split manifest of triplets and queries: by time, session and nearly equal query."""
    rows = [*triplets, *queries]
    return split_by_time(rows, test_sessions, snapshot, telemetry, splits, seed)


def search_stage(pipeline: str) -> Pipeline:
    """Telemetry of the tenant → ``triplets``, ``queries``, ``documents``, ``funnel``, ``splits``.

    Args:
        pipeline: Name of the pipeline, which is the namespace of what the stage hands on.
    """
    rows = ["triplets", "queries", "documents", "funnel", "privacy"]
    return Pipeline(
        [
            read_node(),
            Node(
                classify_searches,
                inputs=["spans", "annotations", "snapshot", "params:telemetry"],
                outputs="searches",
                name="classify_searches",
                tags="telemetry",
            ),
            Node(
                collect_feedback,
                inputs=["searches", "annotations", "params:telemetry"],
                outputs="feedback",
                name="collect_feedback",
                tags="telemetry",
            ),
            Node(
                write_triplets,
                inputs=[
                    *("searches", "feedback", "spans", "annotations"),
                    *("params:telemetry", "params:privacy", "params:tenant", "params:seed"),
                ],
                outputs=rows,
                name="write_triplets",
                tags="telemetry",
            ),
            test_sessions_node(),
            Node(
                split_searches,
                inputs=[
                    *("triplets", "queries", "test_sessions", "snapshot"),
                    *("params:telemetry", "params:splits", "params:seed"),
                ],
                outputs="splits",
                name="split_searches",
                tags="splits",
            ),
        ],
        namespace=f"{pipeline}.telemetry",
        inputs={"phoenix", "spans", "annotations"},
        outputs=shared(
            pipeline, "snapshot", "searches", "feedback", *rows, "test_sessions", "splits"
        ),
        parameters={"telemetry", "privacy", "splits", "tenant", "seed"},
    )
