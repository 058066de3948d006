"""Parameters of the rows of the heads, as they stand under ``heads_data``."""

from __future__ import annotations

from pydantic import Field

from tracetune.conversations.sides import SideOptions
from tracetune.records.heads import SiblingOrder


class HeadsDataOptions(SideOptions):
    """From conversations to rows with coordinates."""

    test_share: float = Field(0.25, gt=0, lt=1, description="Share of the answers held out.")
    sibling_order: SiblingOrder = Field(
        "role",
        description="Second coordinate: code of the role (document 001), or regeneration: the "
        "place among regenerated answers.",
    )
    history_chars: int = Field(
        12_000,
        ge=0,
        description="Most characters of the conversation before a request that a row of phase 1 "
        "keeps; whole turns, the latest ones.",
    )
