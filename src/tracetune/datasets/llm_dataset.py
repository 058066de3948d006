"""Access to who writes text, with the folder in which everything that was paid for is kept."""

from __future__ import annotations

from pathlib import Path

from tracetune.datasets.handle_dataset import HandleDataset
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


class LlmDataset(HandleDataset[LlmAccess]):
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

    not_saved = "the ledger is kept by the writers"

    def make(self, folder: Path, api_key: str | None) -> LlmAccess:
        """The handle."""
        return LlmAccess(folder, api_key)

    def found(self, folder: Path) -> bool:
        """Always: an empty folder is a ledger without entries."""
        return True
