"""The first node of the pipeline ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracetune.export.options import ExportOptions
from tracetune.export.source import find


def resolve_release(released: Path, options: ExportOptions) -> dict[str, Any]:
    """The newest trained release of the named pipeline, or of all; else an error that says why."""
    return find(released, options.source)
