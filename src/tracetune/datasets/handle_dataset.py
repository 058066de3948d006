"""Datasets that give a handle: on a server, a review, a text service. They are never saved."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

from kedro.io import AbstractDataset

from tracetune.errors import DataError

Handle = TypeVar("Handle")


class HandleDataset(AbstractDataset[Any, Handle], Generic[Handle]):
    """A folder and a key, given on as a handle; nothing happens before the handle is used.

    Subclasses say what the handle is (:meth:`make`), when there is something (:meth:`found`), and
    why it is not saved (``not_saved``).
    """

    not_saved = "it is only read"

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Creates the dataset.

        Args:
            filepath: The folder.
            credentials: ``api_key`` of the service behind it, or null.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        self._filepath = Path(filepath)
        self._api_key = (credentials or {}).get("api_key")

    @abstractmethod
    def make(self, folder: Path, api_key: str | None) -> Handle:
        """The handle."""

    @abstractmethod
    def found(self, folder: Path) -> bool:
        """Whether there is something in the folder."""

    def load(self) -> Handle:
        """The handle."""
        return self.make(self._filepath, self._api_key)

    def save(self, data: Any) -> None:
        """Refused."""
        raise DataError(self.not_saved, where=str(self._filepath))

    def _exists(self) -> bool:
        return self.found(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
