"""The database in which Lumen keeps its states and expressions."""

from __future__ import annotations

from pathlib import Path

from tracetune.datasets.handle_dataset import HandleDataset
from tracetune.eisv.anima_db import AnimaDatabase


class AnimaDataset(HandleDataset[AnimaDatabase]):
    """An anima database (SQLite), opened for reading only.

    Loading gives a handle; nothing is read before it is used, so that the file may be missing where
    the pipeline takes its trajectories from elsewhere.

    Example:
        ```yaml
        anima:
          type: tracetune.datasets.anima_dataset.AnimaDataset
          filepath: data/01_raw/demo/eisv/demo.db
        ```
    """

    not_saved = "the device writes its database; here it is only read"

    def make(self, folder: Path, api_key: str | None) -> AnimaDatabase:
        """The handle."""
        return AnimaDatabase(folder)

    def found(self, folder: Path) -> bool:
        """Whether there is such a file."""
        return folder.is_file()
