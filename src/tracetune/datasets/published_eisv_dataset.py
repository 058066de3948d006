"""The published table of EISV trajectories."""

from __future__ import annotations

from pathlib import Path

from tracetune.datasets.handle_dataset import HandleDataset
from tracetune.eisv.published import PublishedTable


class PublishedEisvDataset(HandleDataset[PublishedTable]):
    """Published EISV trajectories (Parquet), for reading only.

    Loading gives a handle; nothing is read before it is used, so that the file may be missing where
    the pipeline takes its trajectories from elsewhere.

    Example:
        ```yaml
        published_eisv:
          type: tracetune.datasets.published_eisv_dataset.PublishedEisvDataset
          filepath: data/01_raw/demo/eisv/demo.parquet
        ```
    """

    not_saved = "the published table is only read"

    def make(self, folder: Path, api_key: str | None) -> PublishedTable:
        """The handle."""
        return PublishedTable(folder)

    def found(self, folder: Path) -> bool:
        """Whether there is such a file."""
        return folder.is_file()
