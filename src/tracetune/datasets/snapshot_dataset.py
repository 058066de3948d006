"""Tables of a snapshot of telemetry that not every snapshot has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracetune.datasets.atomic_datasets import TableDataset
from tracetune.telemetry.snapshot import is_older_than, table_schema


class SnapshotTableDataset(TableDataset):
    """A table of a snapshot that older snapshots do not have.

    A snapshot written before there was this table loads as one without rows in it. A table that is
    missing from a snapshot that should have it is an error.

    Example:
        ```yaml
        document_annotations:
          type: tracetune.datasets.snapshot_dataset.SnapshotTableDataset
          filepath: data/01_raw/demo/telemetry/document_annotations.parquet
          connection: {backend: duckdb}
        ```
    """

    def load(self) -> Any:
        """The table, lazily."""
        path = Path(self._get_load_path())
        if not path.exists() and is_older_than(path.stem, path.parent):
            import ibis

            return ibis.memtable(table_schema(path.stem).empty_table())
        return super().load()
