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
from tracetune.training.embedding_options import EmbeddingOptions

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


def classify_annotated(
    spans: Table, document_annotations: Table, snapshot: Document, telemetry: TelemetryOptions
) -> Table:
    """One row per span read: its keys, its window, and why it has no annotated documents."""
    from tracetune.telemetry import search_tables

    anchor = anchor_of(snapshot, telemetry)
    return search_tables.classify_annotated(spans, document_annotations, telemetry, anchor)


def collect_document_verdicts(
    annotated: Table, document_annotations: Table, telemetry: TelemetryOptions
) -> Table:
    """One row per annotation of a document in the results of the searches."""
    from tracetune.telemetry import search_tables

    return search_tables.collect_document_verdicts(annotated, document_annotations, telemetry)


def write_triplets(
    searches: Table,
    feedback: Table,
    annotated: Table,
    document_verdicts: Table,
    spans: Table,
    annotations: Table,
    telemetry: TelemetryOptions,
    privacy: PrivacyOptions,
    embedding: EmbeddingOptions,
    tenant: str,
    seed: int,
) -> tuple[
    list[Triplet], list[Triplet], list[SearchQuery], list[CatalogueDocument], Document, Document
]:
    """Joins text to searches and what was said about them, decides, redacts, de-duplicates.

    Returns:
        Triplets of the sets in use, the set from annotations of documents on its own, queries, the
        catalogue of documents, the funnel and the privacy report.
    """
    from tracetune.telemetry.triplets import SearchTables
    from tracetune.telemetry.triplets import write_triplets as make_rows

    rows = make_rows(
        SearchTables(searches, feedback, annotated, document_verdicts, spans, annotations),
        telemetry,
        privacy,
        tenant=tenant,
        seed=seed,
        sets=embedding.sets,
    )
    return (
        rows.triplets,
        rows.document_triplets,
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

    ``triplets`` and ``queries`` are those of the sets that ``embedding.sets`` names;
    ``document_triplets`` is the set from annotations of documents, in use or not.

    Args:
        pipeline: Name of the pipeline, which is the namespace of what the stage hands on.
    """
    rows = ["triplets", "document_triplets", "queries", "documents", "funnel", "privacy"]
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
                classify_annotated,
                inputs=["spans", "document_annotations", "snapshot", "params:telemetry"],
                outputs="annotated",
                name="classify_annotated",
                tags="telemetry",
            ),
            Node(
                collect_document_verdicts,
                inputs=["annotated", "document_annotations", "params:telemetry"],
                outputs="document_verdicts",
                name="collect_document_verdicts",
                tags="telemetry",
            ),
            Node(
                write_triplets,
                inputs=[
                    *("searches", "feedback", "annotated", "document_verdicts"),
                    *("spans", "annotations", "params:telemetry", "params:privacy"),
                    *("params:embedding", "params:tenant", "params:seed"),
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
        inputs={"phoenix", "spans", "annotations", "document_annotations"},
        outputs=shared(
            pipeline,
            *("snapshot", "searches", "feedback", "annotated", "document_verdicts"),
            *(*rows, "test_sessions", "splits"),
        ),
        parameters={"telemetry", "privacy", "embedding", "splits", "tenant", "seed"},
    )
