"""The session stage: turns of sessions → trajectories, conversations, held-out turns, and splits.

It hands on the same names as the telemetry stage, and trajectories in both forms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.telemetry_stage import anchor_of, read_node
from tracetune.privacy import PrivacyOptions
from tracetune.records import Example, Trajectory
from tracetune.splits import SplitOptions
from tracetune.telemetry.options import TelemetryOptions

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

Document = dict[str, Any]


def classify_turns(spans: Table, snapshot: Document, telemetry: TelemetryOptions) -> Table:
    """One row per span read: whether it is a turn of a session, and why not."""
    from tracetune.telemetry import session_tables

    return session_tables.classify_turns(spans, telemetry, anchor_of(snapshot, telemetry))


def classify_sessions(
    turns: Table,
    sessions: Table,
    spans: Table,
    annotations: Table,
    snapshot: Document,
    telemetry: TelemetryOptions,
) -> Table:
    """One row per session: its size, its window, and which evaluation counts."""
    from tracetune.telemetry import session_tables

    return session_tables.classify_sessions(
        turns, sessions, spans, annotations, telemetry, anchor_of(snapshot, telemetry)
    )


def write_conversations(
    turns: Table,
    session_keys: Table,
    spans: Table,
    sessions: Table,
    annotations: Table,
    telemetry: TelemetryOptions,
    privacy: PrivacyOptions,
    tenant: str,
) -> tuple[list[Trajectory], list[Trajectory], list[Example], Document, Document]:
    """Joins text to the turns, redacts, and writes trajectories and rows.

    Returns:
        Trajectories, twice (for JSONL and Parquet), rows, the funnel and the privacy report.
    """
    from tracetune.telemetry.trajectories import write_trajectories

    found = write_trajectories(
        turns, session_keys, spans, sessions, annotations, telemetry, privacy, tenant=tenant
    )
    return (
        found.trajectories,
        found.trajectories,
        found.examples,
        found.funnel.model_dump(mode="json"),
        found.privacy.model_dump(mode="json"),
    )


def split_conversations(
    examples: list[Example],
    snapshot: Document,
    telemetry: TelemetryOptions,
    splits: SplitOptions,
    seed: int,
) -> Document:
    """The split manifest: test by time and session, and the test wins.

    All rows of a session have the time of its last turn, so a session that reaches into the test
    window is on that side as a whole.
    """
    from tracetune.splits import assign_by_time

    manifest = assign_by_time(
        examples,
        test_start=telemetry.windows_at(anchor_of(snapshot, telemetry)).test_start,
        test_groups=(),
        options=splits,
        seed=seed,
    )
    return manifest.model_dump(mode="json")


def session_stage(pipeline: str) -> Pipeline:
    """Sessions of the tenant → ``trajectories``, ``examples``, ``funnel``, ``splits``.

    Args:
        pipeline: Name of the pipeline, which is the namespace of what the stage hands on.
    """
    nodes = [
        read_node(),
        Node(
            classify_turns,
            inputs=["spans", "snapshot", "params:telemetry"],
            outputs="turns",
            name="classify_turns",
            tags="telemetry",
        ),
        Node(
            classify_sessions,
            inputs=["turns", "sessions", "spans", "annotations", "snapshot", "params:telemetry"],
            outputs="session_keys",
            name="classify_sessions",
            tags="telemetry",
        ),
        Node(
            write_conversations,
            inputs=[
                *("turns", "session_keys", "spans", "sessions", "annotations"),
                *("params:telemetry", "params:privacy", "params:tenant"),
            ],
            outputs=["trajectories", "trajectories_table", "examples", "funnel", "privacy"],
            name="write_conversations",
            tags="telemetry",
        ),
        Node(
            split_conversations,
            inputs=[
                *("examples", "snapshot"),
                *("params:telemetry", "params:splits", "params:seed"),
            ],
            outputs="splits",
            name="split_conversations",
            tags="splits",
        ),
    ]
    return Pipeline(
        nodes,
        namespace=f"{pipeline}.telemetry",
        inputs={"phoenix", "spans", "annotations", "sessions"},
        outputs=shared(
            pipeline,
            *("snapshot", "turns", "session_keys", "trajectories", "trajectories_table"),
            *("examples", "funnel", "privacy", "splits"),
        ),
        parameters={"telemetry", "privacy", "splits", "tenant", "seed"},
    )
