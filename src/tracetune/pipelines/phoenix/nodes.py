"""The node of the pipeline ``phoenix``."""

from __future__ import annotations

from typing import Any

from tracetune.datasets.phoenix_dataset import PhoenixTelemetry
from tracetune.telemetry.options import TelemetryOptions


def ingest(phoenix: PhoenixTelemetry, telemetry: TelemetryOptions) -> dict[str, Any]:
    """Reads the project from the live server, whatever ``telemetry.source`` says."""
    return phoenix.read_server(telemetry).model_dump(mode="json")
