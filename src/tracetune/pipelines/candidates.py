"""Which training stages of a run came to an adapter, and why others did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracetune.runs import StageState, read_status


@dataclass(frozen=True)
class Trained:
    """What several training stages came to.

    Attributes:
        adapters: Folder of each stage that was trained, in their order; empty while one waits.
        missing: State of those that were not: ``waiting`` if one runs elsewhere, else
            ``insufficient``, else ``skipped``.
        reason: Why they were not, each reason once.
    """

    adapters: dict[str, str]
    missing: StageState
    reason: str


def trained_adapters(folders: Mapping[str, Path]) -> Trained:
    """The adapters that were trained, and why others were not.

    Args:
        folders: Model folder of each stage, in order of training.
    """
    adapters: dict[str, str] = {}
    others = []
    for name, folder in folders.items():
        status = read_status(folder)
        if status.status == "trained":
            adapters[name] = str(folder)
        else:
            others.append(status)
    states = {status.status for status in others}
    known: tuple[StageState, ...] = ("waiting", "insufficient")
    missing: StageState = next((state for state in known if state in states), "skipped")
    return Trained(
        # One runs elsewhere: what is there so far is not the result.
        adapters={} if missing == "waiting" else adapters,
        missing=missing,
        reason="; ".join(dict.fromkeys(status.reason for status in others)),
    )
