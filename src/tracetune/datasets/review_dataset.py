"""The review of one tenant and name: candidates, and what people decided about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.datasets.handle_dataset import HandleDataset
from tracetune.review.store import ReviewStore

if TYPE_CHECKING:
    from tracetune.phoenix_rest import PhoenixServer
else:
    PhoenixServer = Any


class Reviews:
    """A handle on the review of one tenant and name. Nothing is read until it is asked for.

    Args:
        folder: Where candidates and history lie.
        api_key: Key of the Phoenix server; never shown.
    """

    def __init__(self, folder: Path, api_key: str | None) -> None:
        self.store = ReviewStore(folder)
        self._api_key = api_key

    def __repr__(self) -> str:
        """Without the key."""
        return f"Reviews({str(self.store.folder)!r})"

    def server(self, url: str) -> PhoenixServer:
        """A connection to the Phoenix server in which people review; the caller closes it.

        Args:
            url: Its address.
        """
        from tracetune.phoenix_rest import PhoenixServer

        return PhoenixServer(
            url,
            self._api_key,
            setting="review.url",
            instead="review.place=terminal reviews without a server",
        )


class ReviewDataset(HandleDataset[Reviews]):
    """The review of one tenant and name, kept in files that only grow.

    Loading gives a handle. Candidates are handed in and decided through it, so that no decision is
    ever overwritten by a run; there is nothing to save.

    Example:
        ```yaml
        reviews:
          type: tracetune.datasets.review_dataset.ReviewDataset
          filepath: data/reviews/demo/demo
          credentials: phoenix
        ```
    """

    not_saved = "a review is not saved as a whole: load it and use its store"

    def make(self, folder: Path, api_key: str | None) -> Reviews:
        """The handle."""
        return Reviews(folder, api_key)

    def found(self, folder: Path) -> bool:
        """Whether candidates were handed in."""
        return (folder / "items.jsonl").is_file()
