"""The telemetry stage: spans and annotations → checked rows, a funnel, and the split manifest.

Tables before the rows hold ids, keys and verdicts only; text is joined and redacted in one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.datasets.phoenix_dataset import PhoenixTelemetry
from tracetune.pipelines.namespaces import shared
from tracetune.privacy import PrivacyOptions
from tracetune.records import Example, Preference, Rating
from tracetune.splits import SplitOptions
from tracetune.telemetry.options import TelemetryOptions

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any


def read_telemetry(phoenix: PhoenixTelemetry, telemetry: TelemetryOptions) -> dict[str, Any]:
    """Reads the server into the snapshot if asked to; gives the manifest of the snapshot."""
    if telemetry.source == "phoenix":
        return phoenix.read_server(telemetry).model_dump(mode="json")
    return phoenix.read_snapshot(telemetry).model_dump(mode="json")


def classify_spans(
    spans: Table, annotations: Table, snapshot: dict[str, Any], telemetry: TelemetryOptions
) -> Table:
    """One row per span read: its keys, its window, and why it is no unit if it is none."""
    from tracetune.telemetry import tables

    return tables.classify_spans(spans, annotations, telemetry, anchor_of(snapshot, telemetry))


def collect_verdicts(units: Table, annotations: Table, telemetry: TelemetryOptions) -> Table:
    """One row per approval annotation on the units, with its verdict."""
    from tracetune.telemetry import tables

    return tables.collect_verdicts(units, annotations, telemetry)


def find_test_sessions(
    spans: Table, snapshot: dict[str, Any], telemetry: TelemetryOptions
) -> Table:
    """The sessions with a kept turn in the test window."""
    from tracetune.telemetry import tables

    return tables.sessions_in_test(spans, telemetry, anchor_of(snapshot, telemetry))


def split_rows(
    examples: list[Example],
    preferences: list[Preference],
    ratings: list[Rating],
    test_sessions: Table,
    snapshot: dict[str, Any],
    telemetry: TelemetryOptions,
    splits: SplitOptions,
    seed: int,
) -> dict[str, Any]:
    """The split manifest: test by time and session, and the test wins."""
    rows = [*examples, *preferences, *ratings]
    return split_by_time(rows, test_sessions, snapshot, telemetry, splits, seed)


def split_by_time(
    rows: list[Any],
    test_sessions: Table,
    snapshot: dict[str, Any],
    telemetry: TelemetryOptions,
    splits: SplitOptions,
    seed: int,
) -> dict[str, Any]:
    """The split manifest of any rows of telemetry."""
    from tracetune.splits import assign_by_time
    from tracetune.telemetry.candidates import group_of

    manifest = assign_by_time(
        rows,
        test_start=telemetry.windows_at(anchor_of(snapshot, telemetry)).test_start,
        test_groups={
            group_of(session, "") for session in test_sessions.session_id.to_pyarrow().to_pylist()
        },
        options=splits,
        seed=seed,
    )
    return manifest.model_dump(mode="json")


def write_rows(
    units: Table,
    verdicts: Table,
    spans: Table,
    annotations: Table,
    telemetry: TelemetryOptions,
    privacy: PrivacyOptions,
    tenant: str,
) -> tuple[
    Sequence[Example], Sequence[Preference], Sequence[Rating], dict[str, Any], dict[str, Any]
]:
    """Joins text to the units, decides, redacts, de-duplicates.

    Returns:
        Examples, preferences, ratings, the funnel and the privacy report.
    """
    from tracetune.telemetry.rows import write_rows as make_rows

    rows = make_rows(units, verdicts, spans, annotations, telemetry, privacy, tenant=tenant)
    return (
        rows.examples,
        rows.preferences,
        rows.ratings,
        rows.funnel.model_dump(mode="json"),
        rows.privacy.model_dump(mode="json"),
    )


def anchor_of(snapshot: dict[str, Any], telemetry: TelemetryOptions) -> str:
    """End of the test window: the parameter if given, else what the snapshot says."""
    return telemetry.anchor or snapshot["anchor"]


def read_node() -> Node:
    """The node that every stage on telemetry begins with."""
    return Node(
        read_telemetry,
        inputs=["phoenix", "params:telemetry"],
        outputs="snapshot",
        name="read_telemetry",
        tags="telemetry",
    )


def test_sessions_node() -> Node:
    """The node that finds the sessions of the test window."""
    return Node(
        find_test_sessions,
        inputs=["spans", "snapshot", "params:telemetry"],
        outputs="test_sessions",
        name="find_test_sessions",
        tags="splits",
    )


def telemetry_stage(pipeline: str, *, prefix: str = "") -> Pipeline:
    """Telemetry of the tenant → ``examples``, ``preferences``, ``funnel``, ``splits``.

    Args:
        pipeline: Name of the pipeline, which is the namespace of what the stage hands on.
        prefix: Put before ``examples``, ``preferences`` and ``splits``, where further rows join
            them under these names.
    """
    return Pipeline(
        [
            read_node(),
            Node(
                classify_spans,
                inputs=["spans", "annotations", "snapshot", "params:telemetry"],
                outputs="units",
                name="classify_spans",
                tags="telemetry",
            ),
            Node(
                collect_verdicts,
                inputs=["units", "annotations", "params:telemetry"],
                outputs="verdicts",
                name="collect_verdicts",
                tags="telemetry",
            ),
            Node(
                write_rows,
                inputs=[
                    "units",
                    "verdicts",
                    "spans",
                    "annotations",
                    "params:telemetry",
                    "params:privacy",
                    "params:tenant",
                ],
                outputs=["examples", "preferences", "ratings", "funnel", "privacy"],
                name="write_rows",
                tags="telemetry",
            ),
            test_sessions_node(),
            Node(
                split_rows,
                inputs=[
                    "examples",
                    "preferences",
                    "ratings",
                    "test_sessions",
                    "snapshot",
                    "params:telemetry",
                    "params:splits",
                    "params:seed",
                ],
                outputs="splits",
                name="split_rows",
                tags="splits",
            ),
        ],
        namespace=f"{pipeline}.telemetry",
        inputs={"phoenix", "spans", "annotations"},
        outputs={
            **shared(pipeline, "snapshot", "units", "verdicts", "ratings", "funnel", "privacy"),
            **shared(pipeline, "test_sessions"),
            **{n: f"{pipeline}.{prefix}{n}" for n in ("examples", "preferences", "splits")},
        },
        parameters={"telemetry", "privacy", "splits", "tenant", "seed"},
    )
