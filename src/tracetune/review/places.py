"""Where people review, and the state of a review for reports: one way for all pipelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

from tracetune.review.items import ACCEPTED, OPEN, ReviewedItem, State
from tracetune.review.options import ReviewOptions


def summary(
    items: Sequence[ReviewedItem],
    options: ReviewOptions,
    tenant: str,
    name: str,
    *,
    pipeline: str,
    submitted: int,
) -> dict[str, Any]:
    """The state of a review as JSON values.

    Args:
        items: All candidates ever submitted.
        options: Where people review.
        tenant: Whose review it is.
        name: What is trained.
        pipeline: The pipeline that goes on when people have decided.
        submitted: Candidates submitted in this run.

    Returns:
        Counts by state, the approval rate (source document 003: approved by people or rule over
        all, 0 if there are none), who wrote what was approved, how many are ``open``, and the
        ``commands`` that go on.
    """
    counts = Counter(item.state for item in items)
    accepted = [item for item in items if item.state in ACCEPTED]
    return {
        "place": options.place,
        "total": len(items),
        "submitted": submitted,
        "counts": {state: counts[state] for state in get_args(State)},
        "open": sum(counts[state] for state in OPEN),
        "approved": len(accepted),
        "approval_rate": round(len(accepted) / len(items), 4) if items else 0.0,
        "writers": sorted({item.item.written_by for item in accepted}),
        "commands": [_review_command(options, tenant, name), _run_command(pipeline, tenant, name)],
    }


def _review_command(options: ReviewOptions, tenant: str, name: str) -> str:
    if options.place == "phoenix":
        return f"annotate the spans of {options.project_of(tenant, name)} at {options.url}"
    return f"kedro review --tenant={tenant} --name={name}"


def _run_command(pipeline: str, tenant: str, name: str) -> str:
    return f"kedro run --pipeline={pipeline} --params=tenant={tenant},name={name}"
