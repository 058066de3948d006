"""Approved candidates become rows for training, with the way back to who approved them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracetune.records import (
    SYNTHETIC,
    Example,
    Preference,
    ReviewItem,
    make_example,
    make_preference,
)


def group_of(item: ReviewItem) -> str:
    """The unit that is never divided: a candidate and whatever was written anew from it."""
    return f"{SYNTHETIC}:{item.root}"


def rows_of(items: Sequence[ReviewItem], tenant: str) -> tuple[list[Example], list[Preference]]:
    """Rows of approved candidates: a row of SFT for each, and a pair where there is a worse answer.

    They have no time: they happened nowhere. The split puts them on the side of training.

    Args:
        items: Approved candidates with the corrections of their reviewers.
        tenant: Whose data it is.
    """
    examples, preferences = [], []
    for item in sorted(items, key=lambda item: item.id):
        shared: dict[str, Any] = {
            "prompt": item.prompt,
            "source": SYNTHETIC,
            "tenant": tenant,
            "ids": {"item_id": item.id, "request_id": item.request_id},
            "group": group_of(item),
            "created_at": None,
            "tags": {
                **item.tags,
                "target_source": "synthetic",
                "window": "train",
                "written_by": item.written_by,
            },
        }
        examples.append(make_example(completion=item.answer, **shared))
        if item.rejected is not None:
            preferences.append(
                make_preference(chosen=item.answer, rejected=item.rejected, **shared)
            )
    return examples, preferences
