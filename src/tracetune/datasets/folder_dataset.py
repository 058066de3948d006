"""Folders as datasets: a versioned model folder, and an unversioned place to work in."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, AbstractVersionedDataset, Version
from kedro.io.core import VersionNotFoundError

from tracetune.errors import DataError
from tracetune.files import atomic_folder


class FolderDataset(AbstractVersionedDataset[Path, Path]):
    """A folder (adapter, tokenizer, GGUF) that is saved whole and loaded as a path.

    Models never travel through memory between nodes: a node returns the folder it filled, this
    class copies it under the run's version, and the next node gets the path of that copy.

    Example:
        ```yaml
        "{pipeline}.{stage}.adapter":
          type: tracetune.datasets.folder_dataset.FolderDataset
          filepath: data/06_models/adapter
          versioned: true
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Creates the dataset.

        Args:
            filepath: Local path of the folder.
            version: Version to load and save, as Kedro gives it.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        super().__init__(filepath=PurePosixPath(filepath), version=version)

    def load(self) -> Path:
        """The path of the saved folder."""
        path = Path(self._get_load_path())
        if not path.is_dir():
            raise DataError("the folder does not exist", where=str(path))
        return path

    def save(self, data: Path) -> None:
        """Copies ``data`` (a folder) to its version, whole or not at all."""
        if not data.is_dir() or not any(data.iterdir()):
            raise DataError("there is no filled folder to save", where=str(data))
        with atomic_folder(Path(self._get_save_path())) as temporary:
            shutil.copytree(data, temporary, dirs_exist_ok=True)

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_dir()
        except VersionNotFoundError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


class WorkspaceDataset(AbstractDataset[Path, Path]):
    """A folder in which a node keeps what must survive a kill: checkpoints, caches.

    It is only ever an input: loading it creates the folder and gives its path. It has no versions,
    because its purpose is to be found again.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Creates the dataset.

        Args:
            filepath: Local path of the folder.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        self._filepath = Path(filepath)

    def load(self) -> Path:
        """The path of the folder, which exists afterwards."""
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: Path) -> None:
        """Refused: nodes write into the folder itself."""
        raise DataError("a workspace is an input; write into its folder", where=str(self._filepath))

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
