"""The funnel: where every span went between "read" and "row"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import DataError
from tracetune.telemetry.rules import SHAPE_DROPS, TEACHING_DROPS
from tracetune.telemetry.tables import KEY_DROPS

REASONS: dict[str, str] = {
    "other_name": "the span has another name than the one configured",
    "other_kind": "the span has another kind than the one configured",
    "child_span": "the span has a parent",
    "outside_window": "the span started before the training window or after the test window",
    "no_annotation": "nobody and nothing left an approval annotation",
    "malformed": "the span failed, its prompt or output is no text, or its output is not valid",
    "too_long": "the prompt or the output is longer than max_chars",
    "not_human": "no approval annotation comes from a person",
    "no_verdict": "no person's annotation holds a verdict",
    "invalid_correction": "a person corrected the output, but the correction is not valid output",
    "identical_pair": "the better and the worse answer are the same, or people disagree",
    "rejected_only": "people rejected the output and nobody said what is right",
    "unknown_target": "the approved output names what is not in output.known",
    "private": "the text holds secrets or personal data and privacy.policy is drop",
    "duplicate": "the same prompt and output stand in another row",
}
"""Every reason in the order in which it is asked, in words for people."""

assert tuple(REASONS) == (*KEY_DROPS, *SHAPE_DROPS, *TEACHING_DROPS, "private", "duplicate")


class Step(BaseModel):
    """One step of the funnel.

    Attributes:
        reason: Name of the drop.
        meaning: The same in words.
        dropped: Spans that end here.
        remaining: Spans that go on.
    """

    model_config = ConfigDict(extra="forbid")

    reason: str
    meaning: str
    dropped: int = Field(ge=0)
    remaining: int = Field(ge=0)


class PairCounts(BaseModel):
    """Preference pairs: ``candidates`` = ``duplicate`` + ``rows``."""

    model_config = ConfigDict(extra="forbid")

    candidates: int = Field(ge=0)
    duplicate: int = Field(ge=0)
    rows: int = Field(ge=0)


class Funnel(BaseModel):
    """Counts from "read" to "row"; one row of SFT per span that passes every step.

    Attributes:
        read: Spans in the snapshot.
        steps: Every drop in the order in which it is asked, also those that dropped nothing.
        examples: SFT rows.
        pairs: Preference pairs of the spans that pass every step but the last.
        ratings: Answers by ``good``, ``bad`` and ``contradictory`` (both, left out).
        by_target_source: SFT rows by ``own`` and ``corrected``.
        by_window: Rows by kind (``examples``, ``pairs``) and window.
    """

    model_config = ConfigDict(extra="forbid")

    read: int = Field(ge=0)
    steps: list[Step]
    examples: int = Field(ge=0)
    pairs: PairCounts
    ratings: dict[str, int]
    by_target_source: dict[str, int]
    by_window: dict[str, dict[str, int]]

    def check(self) -> None:
        """Adds everything up.

        Raises:
            DataError: If a span is lost or counted twice; the message names the step.
        """
        remaining = self.read
        for step in self.steps:
            remaining -= step.dropped
            if remaining != step.remaining or remaining < 0:
                raise DataError(
                    f"{step.remaining} spans remain, the counts before give {remaining}",
                    where=f"funnel, step {step.reason}",
                    remedy="report this: a span was lost or counted twice",
                )
        sums = {
            "examples": (remaining, self.examples),
            "examples by target_source": (sum(self.by_target_source.values()), self.examples),
            "examples by window": (sum(self.by_window["examples"].values()), self.examples),
            "pairs": (self.pairs.candidates - self.pairs.duplicate, self.pairs.rows),
            "pairs by window": (sum(self.by_window["pairs"].values()), self.pairs.rows),
        }
        for name, (expected, found) in sums.items():
            if expected != found:
                raise DataError(
                    f"{found} rows, the counts give {expected}",
                    where=f"funnel, {name}",
                    remedy="report this: a row was lost or counted twice",
                )

    def dropped(self, reason: str) -> int:
        """Spans that ended at this step."""
        return next(step.dropped for step in self.steps if step.reason == reason)


def make_funnel(
    *,
    read: int,
    drops: Mapping[str, int],
    examples: int,
    pairs: PairCounts,
    ratings: Mapping[str, int],
    by_target_source: Mapping[str, int],
    by_window: Mapping[str, Mapping[str, int]],
) -> Funnel:
    """A checked :class:`Funnel` from the number of spans that each reason dropped."""
    unknown = sorted(set(drops) - set(REASONS))
    if unknown:
        raise DataError(f"unknown reasons {unknown}", where="funnel")
    steps, remaining = [], read
    for reason, meaning in REASONS.items():
        remaining -= drops.get(reason, 0)
        steps.append(
            Step(
                reason=reason,
                meaning=meaning,
                dropped=drops.get(reason, 0),
                remaining=max(remaining, 0),
            )
        )
    funnel = Funnel(
        read=read,
        steps=steps,
        examples=examples,
        pairs=pairs,
        ratings=dict(sorted(ratings.items())),
        by_target_source=dict(sorted(Counter(by_target_source).items())),
        by_window={kind: dict(sorted(counts.items())) for kind, counts in by_window.items()},
    )
    funnel.check()
    return funnel
