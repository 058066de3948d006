"""The telemetry stage: spans and annotations → checked rows, a funnel, and the split manifest.

Tables before the rows hold ids, keys and verdicts only; text is joined and redacted in one node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.datasets.phoenix_dataset import PhoenixTelemetry
from tracetune.privacy import PrivacyOptions
from tracetune.records import Example, Preference
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

    return tables.classify_spans(spans, annotations, telemetry, _anchor(snapshot, telemetry))


def collect_verdicts(units: Table, annotations: Table, telemetry: TelemetryOptions) -> Table:
    """One row per approval annotation on the units, with its verdict."""
    from tracetune.telemetry import tables

    return tables.collect_verdicts(units, annotations, telemetry)


def find_test_sessions(
    spans: Table, snapshot: dict[str, Any], telemetry: TelemetryOptions
) -> Table:
    """The sessions with a kept turn in the test window."""
    from tracetune.telemetry import tables

    return tables.sessions_in_test(spans, telemetry, _anchor(snapshot, telemetry))


def write_rows(
    units: Table,
    verdicts: Table,
    spans: Table,
    annotations: Table,
    telemetry: TelemetryOptions,
    privacy: PrivacyOptions,
    tenant: str,
) -> tuple[list[Example], list[Preference], dict[str, Any], dict[str, Any]]:
    """Joins text to the units, decides, redacts, de-duplicates.

    Returns:
        Examples, preferences, the funnel and the privacy report.
    """
    from tracetune.telemetry.rows import write_rows as make_rows

    rows = make_rows(units, verdicts, spans, annotations, telemetry, privacy, tenant=tenant)
    return (
        rows.examples,
        rows.preferences,
        rows.funnel.model_dump(mode="json"),
        rows.privacy.model_dump(mode="json"),
    )


def _anchor(snapshot: dict[str, Any], telemetry: TelemetryOptions) -> str:
    """End of the test window: the parameter if given, else what the snapshot says."""
    return telemetry.anchor or snapshot["anchor"]
