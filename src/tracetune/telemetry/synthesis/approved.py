"""Approved candidates become rows for training, with the way back to who approved them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tracetune.records import (
    SYNTHETIC,
    Example,
    Message,
    Preference,
    ReviewItem,
    make_example,
    make_preference,
)
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.synthesis.plan import target_of

LEFT_OUT: dict[str, str] = {
    "other_agent": "the answer is none of this kind of agent",
    "unknown_target": "the answer names something that does not exist any more",
}
"""Why an approved candidate is not trained on."""


@dataclass(frozen=True)
class ApprovedRows:
    """Rows of approved candidates.

    Attributes:
        examples: A row of SFT for each.
        preferences: A pair for each that has a worse answer.
        left_out: Candidates that do not fit the agent as it is now, by reason.
    """

    examples: list[Example] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def group_of(item: ReviewItem) -> str:
    """The unit that is never divided: a candidate and whatever was written anew from it."""
    return f"{SYNTHETIC}:{item.root}"


def rows_of(items: Sequence[ReviewItem], telemetry: TelemetryOptions, tenant: str) -> ApprovedRows:
    """Rows of approved candidates, for the agent as it is described now.

    They have no time: they happened nowhere. The split puts them on the side of training. The
    system turn is the instruction of today, as in the real rows; what names something that was
    taken out since is not taught.

    Args:
        items: Approved candidates with the corrections of their reviewers.
        telemetry: Instruction and schema of the agent.
        tenant: Whose data it is.
    """
    found = ApprovedRows()
    for item in sorted(items, key=lambda item: item.id):
        target = target_of(item.answer[0].content, telemetry.output)
        if target is None or not target.is_known(telemetry.output):
            found.left_out["other_agent" if target is None else "unknown_target"] += 1
            continue
        turns = [message for message in item.prompt if message.role != "system"]
        shared: dict[str, Any] = {
            "prompt": [Message(role="system", content=telemetry.instruction), *turns],
            "source": SYNTHETIC,
            "tenant": tenant,
            "ids": {"item_id": item.id, "request_id": item.request_id},
            "group": group_of(item),
            "created_at": None,
            "tags": {
                **item.tags,
                "target": target.label,
                "target_source": "synthetic",
                "window": "train",
                "written_by": item.written_by,
            },
        }
        found.examples.append(make_example(completion=item.answer, **shared))
        if item.rejected is not None:
            pair = make_preference(chosen=item.answer, rejected=item.rejected, **shared)
            found.preferences.append(pair)
    return found
