"""Access to who writes text, with the folder in which everything that was paid for is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from tracetune.errors import DataError
from tracetune.llm import LlmOptions, TextWriter
from tracetune.llm.writers import open_writer


class LlmAccess:
    """A handle on the writers of one tenant and name. Nothing happens until one is opened.

    Args:
        folder: Where replies and spending are kept.
        api_key: Key of the paid provider; never shown.
    """

    def __init__(self, folder: Path, api_key: str | None) -> None:
        self.folder = folder
        self._api_key = api_key

    def __repr__(self) -> str:
        """Without the key."""
        return f"LlmAccess({str(self.folder)!r})"

    def open(self, options: LlmOptions, seed: int) -> TextWriter:
        """The writer that ``options`` name; ``seed`` is for the offline generator."""
        return open_writer(options, folder=self.folder, api_key=self._api_key, seed=seed)


class LlmDataset(AbstractDataset[Any, LlmAccess]):
    """Who writes text for a tenant and name, and the ledger of what was paid.

    Loading gives a handle; provider, model and budget are parameters (``llm``).

    Example:
        ```yaml
        llm:
          type: tracetune.datasets.llm_dataset.LlmDataset
          filepath: data/llm/demo/demo
          credentials: anthropic
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Creates the dataset.

        Args:
            filepath: Folder of the ledger; made when it is first needed.
            credentials: ``api_key`` of the provider, or null.
            metadata: Ignored here; read by kedro-viz.
        """
        self.metadata = metadata
        self._filepath = Path(filepath)
        self._api_key = (credentials or {}).get("api_key")

    def load(self) -> LlmAccess:
        """The handle."""
        return LlmAccess(self._filepath, self._api_key)

    def save(self, data: Any) -> None:
        """Refused: the writers keep the ledger themselves."""
        raise DataError("the ledger is kept by the writers", where=str(self._filepath))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
