"""Exports of conversations with an assistant, whatever their layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from tracetune.conversations.read import read_folder
from tracetune.errors import DataError
from tracetune.records import Conversation


class ConversationsDataset(AbstractDataset[Any, list[Conversation]]):
    """A folder of exports: ChatGPT, Claude and plain JSONL, at any depth. It is only read.

    Example:
        ```yaml
        conversations:
          type: tracetune.datasets.conversations_dataset.ConversationsDataset
          filepath: data/01_raw/demo/conversations
        ```
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Creates the dataset.

        Args:
            filepath: Local path of the folder.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        self._filepath = Path(filepath)

    def load(self) -> list[Conversation]:
        """All conversations of the folder, in the order of their groups, not yet redacted."""
        return read_folder(self._filepath)

    def save(self, data: Any) -> None:
        """Refused."""
        raise DataError("exports of conversations are only read", where=str(self._filepath))

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
