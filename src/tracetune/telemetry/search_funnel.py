"""The funnel of searches: where every span, annotation and document went."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import DataError
from tracetune.telemetry.funnel import Step
from tracetune.telemetry.search_rules import FEEDBACK
from tracetune.telemetry.search_tables import SEARCH_KEY_DROPS

SEARCH_REASONS: dict[str, str] = {
    "other_name": "the span has another name than a search",
    "other_kind": "the span has another kind than a search",
    "outside_window": "the span started before the training window or after the test window",
    "no_feedback": "nobody and nothing clicked or scored a result",
    "failed": "the search ended with an error",
    "no_query": "there is no text that was searched for",
    "too_long": "the query is longer than max_chars",
    "no_documents": "the results hold no document with an id",
    "not_human": "no click and no score comes from a person",
    "unknown_id": "people named only documents that the search did not show",
    "no_verdict": "people's feedback names no document or holds no score",
    "contradiction": "the same document was wanted and scored below the threshold",
    "no_positive": "people said only which documents they did not want",
    "no_content": "the documents that people wanted have no usable text",
    "private": "the query holds secrets or personal data and privacy.policy is drop",
    "no_negatives": "no other document was shown that can stand on the worse side",
    "duplicate": "the same triplets stand in other rows",
}
"""Every reason in the order in which it is shown, in words for people."""

assert tuple(SEARCH_REASONS)[:4] == SEARCH_KEY_DROPS

CATALOGUE = ("no_id", "repeated", "no_content", "too_long", "private", "used")
"""What became of each document in the results of each search."""


class RowCounts(BaseModel):
    """``candidates`` = ``duplicate`` + ``rows``."""

    model_config = ConfigDict(extra="forbid")

    candidates: int = Field(ge=0)
    duplicate: int = Field(ge=0)
    rows: int = Field(ge=0)
    by_window: dict[str, int]


class CatalogueCounts(BaseModel):
    """The documents that were shown in the read window.

    Attributes:
        searches: Searches read.
        shown: Documents in all their results, by what became of them.
        documents: Different documents in the catalogue.
        two_contents: Documents that were shown with more than one text; the newest counts.
    """

    model_config = ConfigDict(extra="forbid")

    searches: int = Field(ge=0)
    shown: dict[str, int]
    documents: int = Field(ge=0)
    two_contents: int = Field(ge=0)


class SearchFunnel(BaseModel):
    """Counts from "read" to "row".

    Attributes:
        read: Spans in the snapshot.
        steps: Every drop in order, also those that dropped nothing. What remains after the last
            step are the searches that give triplets.
        searches: Searches with at least one triplet.
        feedback: Clicks and relevance annotations on searches, by outcome.
        triplets: Triplets.
        queries: Queries with the documents that answer them.
        catalogue: Documents.
    """

    model_config = ConfigDict(extra="forbid")

    read: int = Field(ge=0)
    steps: list[Step]
    searches: int = Field(ge=0)
    feedback: dict[str, int]
    triplets: RowCounts
    queries: RowCounts
    catalogue: CatalogueCounts

    def dropped(self, reason: str) -> int:
        """Spans that ended at this step."""
        return next(step.dropped for step in self.steps if step.reason == reason)

    def check(self, feedback: int) -> None:
        """Adds everything up.

        Args:
            feedback: Annotations that were read.

        Raises:
            DataError: If a span, an annotation or a row is lost or counted twice.
        """
        remaining = self.read
        for step in self.steps:
            remaining -= step.dropped
            self._same(f"after {step.reason}", remaining, step.remaining)
        self._same("searches", remaining, self.searches)
        self._same("feedback", feedback, sum(self.feedback.values()))
        for name, counts in (("triplets", self.triplets), ("queries", self.queries)):
            self._same(name, counts.candidates - counts.duplicate, counts.rows)
            self._same(f"{name} by window", sum(counts.by_window.values()), counts.rows)
        answered = self.searches + self.dropped("no_negatives") + self.dropped("duplicate")
        self._same("queries, candidates", answered, self.queries.candidates)

    @staticmethod
    def _same(name: str, expected: int, found: int) -> None:
        if expected != found or found < 0:
            raise DataError(
                f"{found} counted, the counts before give {expected}",
                where=f"funnel of searches, {name}",
                remedy="report this: something was lost or counted twice",
            )


def make_search_funnel(
    *,
    read: int,
    drops: Mapping[str, int],
    searches: int,
    feedback: Mapping[str, int],
    feedback_read: int,
    triplets: RowCounts,
    queries: RowCounts,
    catalogue: CatalogueCounts,
) -> SearchFunnel:
    """A checked :class:`SearchFunnel` from the number of spans that each reason dropped."""
    unknown = sorted((set(drops) - set(SEARCH_REASONS)) | (set(feedback) - set(FEEDBACK)))
    if unknown:
        raise DataError(f"unknown reasons {unknown}", where="funnel of searches")
    steps, remaining = [], read
    for reason, meaning in SEARCH_REASONS.items():
        dropped = drops.get(reason, 0)
        remaining -= dropped
        steps.append(
            Step(reason=reason, meaning=meaning, dropped=dropped, remaining=max(remaining, 0))
        )
    funnel = SearchFunnel(
        read=read,
        steps=steps,
        searches=searches,
        feedback={name: feedback.get(name, 0) for name in FEEDBACK},
        triplets=triplets,
        queries=queries,
        catalogue=catalogue,
    )
    funnel.check(feedback_read)
    return funnel
