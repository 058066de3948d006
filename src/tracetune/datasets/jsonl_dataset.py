"""JSONL of contract rows: validated on save and on load, exact round trip, atomic."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import VersionNotFoundError
from kedro_datasets._typing import TablePreview
from pydantic import ValidationError

from tracetune.errors import ConfigurationError, DataError
from tracetune.files import atomic_path, canonical_json
from tracetune.records import Record

_SHOWN = 3
"""Items of a list that a preview shows."""


class JSONLDataset(AbstractVersionedDataset[Iterable[Record], list[Record]]):
    """Rows of one contract, one JSON object per line.

    A row that breaks its contract is an error that names file, line, field and reason; nothing is
    left half written. Saving takes any iterable, so that rows can be streamed.

    Example:
        ```yaml
        "{pipeline}.examples":
          type: tracetune.datasets.jsonl_dataset.JSONLDataset
          filepath: data/04_feature/examples.jsonl
          record: tracetune.records.Example
          versioned: true
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        record: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Creates the dataset.

        Args:
            filepath: Local path of the file.
            record: Dotted path of the contract, a subclass of ``tracetune.records.Record``.
            version: Version to load and save, as Kedro gives it.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        self._record_path = record
        super().__init__(filepath=PurePosixPath(filepath), version=version)

    @property
    def record(self) -> type[Record]:
        """The contract of the rows."""
        module, _, name = self._record_path.rpartition(".")
        found = getattr(importlib.import_module(module), name, None) if module else None
        if not (isinstance(found, type) and issubclass(found, Record)):
            raise ConfigurationError(
                f"'record: {self._record_path}' is not a contract of tracetune.records",
                where=f"catalog entry of {self._filepath}",
                remedy="name a subclass of tracetune.records.Record",
            )
        return found

    def load(self) -> list[Record]:
        """All rows of the file, validated."""
        record, path = self.record, Path(self._get_load_path())
        rows = []
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                rows.append(_parse(record, line, f"{path}, line {number}"))
        return rows

    def save(self, data: Iterable[Record]) -> None:
        """Writes the rows in their order, validated, whole or not at all."""
        record, path = self.record, Path(self._get_save_path())
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
            for number, row in enumerate(data, start=1):
                if type(row) is not record:
                    raise DataError(
                        f"a {type(row).__name__} where {record.__name__} rows are expected",
                        where=f"{path}, row {number}",
                    )
                line = canonical_json(row.model_dump(mode="json"))
                # Rows made by model_construct or model_copy skip validation; the line is the truth.
                _parse(record, line, f"{path}, row {number}")
                handle.write(line + "\n")

    def preview(self, nrows: int = 8) -> TablePreview:
        """The first rows as a table of texts, for kedro-viz."""
        with Path(self._get_load_path()).open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in islice(lines, nrows)]
        columns = list(rows[0]) if rows else []
        return TablePreview(
            {
                "index": list(range(len(rows))),
                "columns": columns,
                "data": [[_brief(row.get(column)) for column in columns] for row in rows],
            }
        )

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except VersionNotFoundError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": str(self._filepath),
            "record": self._record_path,
            "version": self._version,
        }


def _parse(record: type[Record], line: str, where: str) -> Record:
    try:
        return record.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        raise DataError(
            f"field '{field}': {first['msg']}",
            where=where,
            remedy=f"correct the line; the contract is {record.__module__}.{record.__name__}",
        ) from None


def _brief(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(i, dict) and "role" in i for i in value):
        return " | ".join(f"{turn['role']}: {turn['content']}" for turn in value)
    if isinstance(value, list):
        more = f" … {len(value)} in all" if len(value) > _SHOWN else ""
        return "; ".join(_brief(item) for item in value[:_SHOWN]) + more
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items() if key != "content_hash")
    return str(value)
