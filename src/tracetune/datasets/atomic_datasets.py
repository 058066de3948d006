"""kedro-datasets classes whose saves cannot be seen half done.

A killed save of the originals leaves a truncated file as the latest version. These classes let the
original write to a temporary name in the same folder and rename it afterwards, so that a version
exists only when it is complete.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from kedro_datasets.ibis import FileDataset
from kedro_datasets.json import JSONDataset as KedroJSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.plotly import JSONDataset as PlotlyJSONDataset
from kedro_datasets.text import TextDataset as KedroTextDataset

from tracetune.errors import DataError
from tracetune.files import atomic_path


class _AtomicSave:
    """Mixin: what the next class in line saves goes to a temporary file, then is renamed."""

    _redirect: PurePosixPath | None = None

    def _get_save_path(self) -> PurePosixPath:
        if self._redirect is not None:
            return self._redirect
        return super()._get_save_path()  # type: ignore[misc, no-any-return]

    def save(self, data: Any) -> None:
        """Saves ``data`` whole or not at all."""
        target = Path(self._get_save_path())
        with atomic_path(target) as temporary:
            self._redirect = PurePosixPath(temporary)
            try:
                # The undecorated save: Kedro's wrapper would look for the version too early.
                super().save.__wrapped__(self, data)  # type: ignore[misc]
            finally:
                self._redirect = None


class JSONDataset(_AtomicSave, KedroJSONDataset):  # type: ignore[misc]
    """A JSON document, saved atomically with sorted keys.

    Example:
        ```yaml
        "{pipeline}.metrics":
          type: tracetune.datasets.atomic_datasets.JSONDataset
          filepath: data/08_reporting/metrics.json
          versioned: true
        ```
    """

    DEFAULT_SAVE_ARGS: ClassVar[dict[str, Any]] = {
        "indent": 2,
        "sort_keys": True,
        "ensure_ascii": False,
        "allow_nan": False,
    }


class FigureDataset(_AtomicSave, PlotlyJSONDataset):  # type: ignore[misc]
    """A Plotly figure as JSON, saved atomically; kedro-viz draws it as a preview."""


class TextDataset(_AtomicSave, KedroTextDataset):  # type: ignore[misc]
    """A text file (the HTML report), saved atomically."""


class FrameDataset(_AtomicSave, ParquetDataset):  # type: ignore[misc]
    """A pandas frame as Parquet, saved atomically; kedro-viz previews its first rows."""


class TableDataset(_AtomicSave, FileDataset):  # type: ignore[misc]
    """A lazy Ibis table as Parquet, saved atomically.

    Loading a file that is not Parquet is an error that names the file instead of an engine's
    message. On engines that write folders (Spark) the folder is renamed in the same way by Spark's
    own commit protocol, so this class is meant for single files.
    """

    def load(self) -> Any:
        """The table, lazily."""
        path = Path(self._get_load_path())
        if not path.exists():
            raise DataError(
                "the table does not exist",
                where=str(path),
                remedy="run the pipeline that makes it, or check tenant and name",
            )
        try:
            return super().load()
        except Exception as error:
            raise DataError(
                f"the file cannot be read as a Parquet table ({type(error).__name__})",
                where=str(path),
                remedy="read the telemetry again or restore the file",
            ) from error
