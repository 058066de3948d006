"""The funnel of searches: where every span, annotation and document went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import DataError
from tracetune.telemetry.funnel import Step
from tracetune.telemetry.search_tables import ANNOTATED_KEY_DROPS, SEARCH_KEY_DROPS

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
"""Every reason of the set ``feedback`` in the order in which it is shown, in words for people."""

DOCUMENT_REASONS: dict[str, str] = {
    **{name: SEARCH_REASONS[name] for name in ANNOTATED_KEY_DROPS[:3]},
    "no_annotation": "nobody and nothing annotated a document of the results",
    **{name: SEARCH_REASONS[name] for name in ("failed", "no_query", "too_long", "no_documents")},
    "not_human": "no annotation of a document comes from a person",
    "no_verdict": "people's annotations name no document of the results or hold no verdict",
    "contradiction": "people called the same documents both relevant and irrelevant",
    "no_relevant": "people said only which documents are irrelevant",
    "no_content": "the documents that people called relevant have no usable text",
    "private": SEARCH_REASONS["private"],
    "no_irrelevant": "no document with another text was called irrelevant",
    "duplicate": SEARCH_REASONS["duplicate"],
}
"""The same of the set ``documents``."""

assert tuple(SEARCH_REASONS)[:4] == SEARCH_KEY_DROPS
assert tuple(DOCUMENT_REASONS)[:4] == ANNOTATED_KEY_DROPS

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


class SetFunnel(BaseModel):
    """Counts of one set of triplets from "read" to "row".

    Attributes:
        read: Spans in the snapshot.
        steps: Every drop in order, also those that dropped nothing. What remains after the last
            step are the searches that give triplets.
        searches: Searches with at least one triplet.
        said: What people and programs said about results, by outcome.
        triplets: Triplets.
        queries: Queries with the documents that answer them.
    """

    model_config = ConfigDict(extra="forbid")

    read: int = Field(ge=0)
    steps: list[Step]
    searches: int = Field(ge=0)
    said: dict[str, int]
    triplets: RowCounts
    queries: RowCounts

    def check(self, name: str, said: int) -> None:
        """Adds everything up.

        Args:
            name: Name of the set.
            said: Annotations that were read.

        Raises:
            DataError: If a span, an annotation or a row is lost or counted twice.
        """
        remaining = self.read
        for step in self.steps:
            remaining -= step.dropped
            _same(f"{name}, after {step.reason}", remaining, step.remaining)
        _same(f"{name}, searches", remaining, self.searches)
        _same(f"{name}, annotations", said, sum(self.said.values()))
        for kind, counts in (("triplets", self.triplets), ("queries", self.queries)):
            _add_up(f"{name}, {kind}", counts)
        last, duplicate = self.steps[-2], self.steps[-1]
        answered = self.searches + last.dropped + duplicate.dropped
        _same(f"{name}, queries, candidates", answered, self.queries.candidates)


class UsedCounts(BaseModel):
    """The rows of the sets that a run uses, each content once.

    Attributes:
        sets: Names of the sets.
        contradiction: Triplets left out because another set says the opposite.
        triplets: Triplets.
        by_set: Triplets by the set they come from.
        queries: Queries.
    """

    model_config = ConfigDict(extra="forbid")

    sets: list[str]
    contradiction: int = Field(ge=0)
    triplets: RowCounts
    by_set: dict[str, int]
    queries: RowCounts


class SearchFunnel(BaseModel):
    """Where every span, annotation and document went.

    Attributes:
        read: Spans in the snapshot.
        steps: Drops of the set ``feedback``, as in :class:`SetFunnel`.
        searches: Its searches with at least one triplet.
        feedback: Clicks and relevance annotations on searches, by outcome.
        triplets: Its triplets.
        queries: Its queries.
        document_set: The set ``documents``, from annotations of single documents.
        used: The rows of the sets that the run uses.
        catalogue: Documents.
    """

    model_config = ConfigDict(extra="forbid")

    read: int = Field(ge=0)
    steps: list[Step]
    searches: int = Field(ge=0)
    feedback: dict[str, int]
    triplets: RowCounts
    queries: RowCounts
    document_set: SetFunnel
    used: UsedCounts
    catalogue: CatalogueCounts


def _same(name: str, expected: int, found: int) -> None:
    if expected != found or found < 0:
        raise DataError(
            f"{found} counted, the counts before give {expected}",
            where=f"funnel of searches, {name}",
            remedy="report this: something was lost or counted twice",
        )


def _add_up(name: str, counts: RowCounts) -> None:
    _same(name, counts.candidates - counts.duplicate, counts.rows)
    _same(f"{name} by window", sum(counts.by_window.values()), counts.rows)


def make_set_funnel(
    name: str,
    *,
    reasons: Mapping[str, str],
    outcomes: Sequence[str],
    read: int,
    drops: Mapping[str, int],
    searches: int,
    said: Mapping[str, int],
    said_read: int,
    triplets: RowCounts,
    queries: RowCounts,
) -> SetFunnel:
    """A checked :class:`SetFunnel`.

    Args:
        name: Name of the set.
        reasons: Every reason to drop a span, in order, in words.
        outcomes: Everything that an annotation can come to.
        read: Spans read.
        drops: Spans by the reason that dropped them.
        searches: Searches with at least one triplet.
        said: Annotations by outcome.
        said_read: Annotations read.
        triplets: Triplets.
        queries: Queries.

    Raises:
        DataError: If a reason or an outcome is unknown, or the sums do not add up.
    """
    unknown = sorted((set(drops) - set(reasons)) | (set(said) - set(outcomes)))
    if unknown:
        raise DataError(f"unknown reasons {unknown}", where=f"funnel of searches, {name}")
    steps, remaining = [], read
    for reason, meaning in reasons.items():
        dropped = drops.get(reason, 0)
        remaining -= dropped
        steps.append(
            Step(reason=reason, meaning=meaning, dropped=dropped, remaining=max(remaining, 0))
        )
    funnel = SetFunnel(
        read=read,
        steps=steps,
        searches=searches,
        said={outcome: said.get(outcome, 0) for outcome in outcomes},
        triplets=triplets,
        queries=queries,
    )
    funnel.check(name, said_read)
    return funnel


def make_search_funnel(
    *, feedback: SetFunnel, documents: SetFunnel, used: UsedCounts, catalogue: CatalogueCounts
) -> SearchFunnel:
    """A checked :class:`SearchFunnel` of both sets.

    Raises:
        DataError: If a row that is used is lost or counted twice.
    """
    sets = {"feedback": feedback, "documents": documents}
    candidates = sum(sets[name].triplets.candidates for name in used.sets)
    _same("used, candidates", candidates - used.contradiction, used.triplets.candidates)
    _add_up("used, triplets", used.triplets)
    _add_up("used, queries", used.queries)
    _same("used, by set", sum(used.by_set.values()), used.triplets.rows)
    return SearchFunnel(
        read=feedback.read,
        steps=feedback.steps,
        searches=feedback.searches,
        feedback=feedback.said,
        triplets=feedback.triplets,
        queries=feedback.queries,
        document_set=documents,
        used=used,
        catalogue=catalogue,
    )
