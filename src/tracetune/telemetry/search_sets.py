"""Two sets of triplets from the same searches, and the rows of those that a run uses.

The set ``feedback`` comes from clicks and relevance, the set ``documents`` from annotations of
single documents. Where a run uses both, their opinions on a search are joined: what one set calls
wanted and the other not stands on neither side, as within a set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from tracetune.files import sha256_json
from tracetune.records import SearchQuery, Triplet, make_query, make_triplet
from tracetune.records.searches import TripletSet
from tracetune.telemetry.search_funnel import RowCounts, UsedCounts
from tracetune.telemetry.search_lessons import Taught
from tracetune.telemetry.search_rules import Result

AnyRow = TypeVar("AnyRow", Triplet, SearchQuery)
Lessons = Mapping[TripletSet, Sequence[Taught]]


@dataclass
class Opinions:
    """What all sets that a run uses say about the documents of one search.

    Attributes:
        of: Wanted (true), not (false), or both, by document.
        wanted_texts: Texts of the documents that some set gives as wanted.
    """

    of: dict[str, set[bool]] = field(default_factory=dict)
    wanted_texts: set[str | None] = field(default_factory=set)

    def add(self, taught: Taught) -> None:
        """Joins what one set says."""
        for document, found in taught.lesson.opinions.items():
            self.of.setdefault(document, set()).update(found)
        self.wanted_texts |= {result.text for result in taught.lesson.positives}

    def refuse(self, pair: tuple[Result, Result]) -> bool:
        """Whether a pair contradicts what another set says."""
        positive, negative = pair
        unwanted = False in self.of.get(positive.id, ())
        wanted = True in self.of.get(negative.id, ()) or negative.text in self.wanted_texts
        return unwanted or wanted

    def relevant(self, taught: Iterable[Taught]) -> list[str]:
        """Ids of the documents that answer the search, sorted."""
        found = {result.id for one in taught for result in one.lesson.positives}
        return sorted(key for key in found if False not in self.of[key])


def set_rows(
    taught: Sequence[Taught], name: TripletSet, tenant: str
) -> tuple[list[Triplet], RowCounts, RowCounts, Counter[str]]:
    """The triplets of one set on its own.

    Returns:
        Its triplets, their counts, those of its queries, and the spans by reason of their drop.
    """
    triplets = [triplet_of(one, pair, name, tenant) for one in taught for pair in one.lesson.pairs]
    queries = [
        query_of(one, sorted({result.id for result in one.lesson.positives}), (name,), tenant)
        for one in taught
        if one.lesson.positives
    ]
    kept = deduplicate(triplets)
    drops = Counter(one.lesson.drop for one in taught if one.lesson.drop)
    spans = [{row.provenance.ids["span_id"] for row in rows} for rows in (triplets, kept)]
    drops["duplicate"] = len(spans[0] - spans[1])
    return kept, row_counts(triplets, kept), row_counts(queries, deduplicate(queries)), drops


def used_rows(
    lessons: Lessons, sets: Sequence[TripletSet], tenant: str
) -> tuple[list[Triplet], list[SearchQuery], UsedCounts]:
    """The triplets and queries of the sets that a run uses, each content once.

    Args:
        lessons: What the searches teach, by set.
        sets: The sets that are used; in this order, one row stays of equal ones.
        tenant: Whose data it is.

    Returns:
        Triplets and queries in the order (start time, span id), and their counts.
    """
    by_span: dict[str, list[tuple[TripletSet, Taught]]] = {}
    for name in sets:
        for one in lessons[name]:
            by_span.setdefault(one.origin.span_id, []).append((name, one))
    candidates: list[Triplet] = []
    queries: list[SearchQuery] = []
    contradiction = 0
    for members in sorted(by_span.values(), key=_order):
        opinions = Opinions()
        for _, one in members:
            opinions.add(one)
        for name, one in members:
            for pair in one.lesson.pairs:
                if opinions.refuse(pair):
                    contradiction += 1
                else:
                    candidates.append(triplet_of(one, pair, name, tenant))
        answering = [(name, one) for name, one in members if one.lesson.positives]
        relevant = opinions.relevant(one for _, one in answering)
        if relevant:
            names = tuple(name for name, _ in answering)
            queries.append(query_of(answering[0][1], relevant, names, tenant))
    kept, kept_queries = deduplicate(candidates), deduplicate(queries)
    counts = UsedCounts(
        sets=list(sets),
        contradiction=contradiction,
        triplets=row_counts(candidates, kept),
        by_set={name: sum(row.tags["set"] == name for row in kept) for name in sets},
        queries=row_counts(queries, kept_queries),
    )
    return kept, kept_queries, counts


def _order(members: list[tuple[TripletSet, Taught]]) -> tuple[datetime, str]:
    origin = members[0][1].origin
    return origin.start_time, origin.span_id


def triplet_of(
    taught: Taught, pair: tuple[Result, Result], name: TripletSet, tenant: str
) -> Triplet:
    """The row of one pair."""
    positive, negative = pair
    shared = taught.origin.shared(tenant, (name,))
    shared["ids"] |= {"positive_id": positive.id, "negative_id": negative.id}
    assert taught.query is not None
    assert positive.text is not None
    assert negative.text is not None
    return make_triplet(
        anchor=taught.query, positive=positive.text, negative=negative.text, **shared
    )


def query_of(
    taught: Taught, relevant: list[str], names: tuple[TripletSet, ...], tenant: str
) -> SearchQuery:
    """The row of one search that some documents answer."""
    assert taught.query is not None
    return make_query(text=taught.query, relevant=relevant, **taught.origin.shared(tenant, names))


def deduplicate(rows: list[AnyRow]) -> list[AnyRow]:
    """One row per content, in the order given: test before training, then the earliest."""
    winners: dict[str, int] = {}
    contents = [sha256_json(row.content()) for row in rows]
    for window in ("test", "train"):
        for place, (row, content) in enumerate(zip(rows, contents, strict=True)):
            if row.tags["window"] == window:
                winners.setdefault(content, place)
    kept = set(winners.values())
    return [row for place, row in enumerate(rows) if place in kept]


def row_counts(candidates: Sequence[AnyRow], kept: Sequence[AnyRow]) -> RowCounts:
    """Rows before and after de-duplication."""
    return RowCounts(
        candidates=len(candidates),
        duplicate=len(candidates) - len(kept),
        rows=len(kept),
        by_window=dict(sorted(Counter(row.tags["window"] for row in kept).items())),
    )
