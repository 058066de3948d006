"""The schema of a command-line program, as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from tracetune.cli_schema.load import load_schema
from tracetune.cli_schema.schema import CliSchema
from tracetune.errors import DataError


class CliSchemaDataset(AbstractDataset[Any, CliSchema]):
    """A program that a model learns to use: ``data/01_raw/<tenant>/cli/<name>.yaml``.

    Example:
        ```yaml
        cli_schema:
          type: tracetune.datasets.cli_schema_dataset.CliSchemaDataset
          filepath: data/01_raw/demo/cli/gh.yaml
        ```
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Creates the dataset.

        Args:
            filepath: The file.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        self._filepath = Path(filepath)

    def load(self) -> CliSchema:
        """The schema.

        Raises:
            DataError: There is no such file, or it is wrong; names file, line and path.
        """
        if not self._filepath.is_file():
            known = sorted(path.stem for path in self._filepath.parent.glob("*.yaml"))
            raise DataError(
                f"there is no CLI schema of the name {self._filepath.stem!r}",
                where=str(self._filepath),
                remedy=f"write one (kedro schemas draft PROGRAM), or choose one of: "
                f"{', '.join(known) or 'none'}",
            )
        return load_schema(self._filepath)

    def save(self, data: Any) -> None:
        """Refused: people write schemas."""
        raise DataError("a schema is written by people", where=str(self._filepath))

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
