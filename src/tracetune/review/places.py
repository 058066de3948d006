"""Where people review, and the state of a review for reports: one way for all pipelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from tracetune.review.items import ACCEPTED, OPEN, ReviewedItem, State
from tracetune.review.options import ReviewOptions


def summary(
    items: Sequence[ReviewedItem],
    options: ReviewOptions,
    tenant: str,
    name: str,
    *,
    submitted: int,
) -> dict[str, Any]:
    """The state of a review as JSON values.

    Args:
        items: All candidates ever submitted.
        options: Where people review.
        tenant: Whose review it is.
        name: What is trained.
        submitted: Candidates submitted in this run.

    Returns:
        Counts by state, the approval rate (source document 003: approved by people or rule over
        all, 0 if there are none), who wrote what was approved, how many are ``open``, and ``next``:
        what reviewers do. The command that goes on is told by who knows how this run was started.
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
        "next": review_command(options, tenant, name),
    }


def review_command(
    options: ReviewOptions, tenant: str, name: str, *, option: str = "", env: str | None = None
) -> str:
    """What reviewers do next: the command of the terminal, or where in Phoenix.

    Args:
        options: Where people review.
        tenant: Whose review it is.
        name: What is trained.
        option: A further option of the command (``--status``); it is shown in place of Phoenix.
        env: The environment of Kedro, if one was given.
    """
    if options.place == "phoenix" and not option:
        return f"annotate the spans of {options.project_of(tenant, name)} at {options.url}"
    parts = ["kedro review", f"--tenant={tenant}", f"--name={name}", option]
    return " ".join([part for part in parts if part] + [f"--env={env}"] * bool(env))


_ANEW = "cli.generation.force"


def run_command(pipeline: str, given: Mapping[str, Any], *, env: str | None = None) -> str:
    """The command that goes on when people have decided.

    Args:
        pipeline: The pipeline.
        given: Parameters as the command line takes them, nested ones too. What asks for everything
            anew is left out: to go on is to take what is there.
        env: The environment of Kedro, if one was given.
    """
    shown = ",".join(part for part in _flat(given) if not part.startswith(f"{_ANEW}="))
    parts = ["kedro run", f"--pipeline={pipeline}", f"--env={env}" if env else ""]
    return " ".join([part for part in parts if part] + [f"--params={shown}"] * bool(shown))


def _flat(given: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in given.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found.append(f"{prefix}{key}={text}")
    return found
