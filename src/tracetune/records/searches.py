"""Rows of a search: triplets, queries, documents."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from tracetune.files import sha256_json
from tracetune.records.base import Provenance, Record, Row, Text, UtcTime, row_id

TripletSet = Literal["feedback", "documents"]
"""Where triplets come from: clicks and relevance of a search, or annotations of its documents."""


class Triplet(Row):
    """A search with a document that answered it and one that did not (embedding).

    Attributes:
        anchor: What was searched for.
        positive: Text of the document that people wanted.
        negative: Text of a document that was shown with it and not wanted; never the same text.

    ``provenance.ids`` holds ``positive_id`` and ``negative_id`` beside the ids of the span; the tag
    ``set`` is its :data:`TripletSet`.
    """

    anchor: Text
    positive: Text
    negative: Text

    def content(self) -> Any:
        """Anchor, positive and negative."""
        return [self.anchor, self.positive, self.negative]

    @model_validator(mode="after")
    def _check(self) -> Triplet:
        for name in ("anchor", "positive", "negative"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is blank")
        if self.positive == self.negative:
            raise ValueError("positive and negative are the same: such a triplet teaches nothing")
        return self


class SearchQuery(Row):
    """A search and the documents that answer it, by their ids in the catalogue.

    Attributes:
        text: What was searched for.
        relevant: Ids of the documents that people wanted, sorted, each once.
    """

    text: Text
    relevant: list[Text] = Field(min_length=1)

    def content(self) -> Any:
        """Text and relevant ids."""
        return [self.text, self.relevant]

    @model_validator(mode="after")
    def _check(self) -> SearchQuery:
        if not self.text.strip():
            raise ValueError("text is blank")
        if self.relevant != sorted(set(self.relevant)):
            raise ValueError("relevant ids must be sorted, each once")
        return self


class CatalogueDocument(Record):
    """A document that a search can find.

    Attributes:
        id: Its id in the results of searches.
        text: Its newest content, redacted.
        seen_at: When that content was last shown (UTC).
    """

    id: Text = Field(min_length=1)
    text: Text
    seen_at: UtcTime

    @model_validator(mode="after")
    def _check(self) -> CatalogueDocument:
        if not self.text.strip():
            raise ValueError("text is blank")
        return self


def make_triplet(
    *,
    anchor: str,
    positive: str,
    negative: str,
    source: str,
    tenant: str,
    ids: dict[str, str],
    group: str,
    created_at: datetime | None,
    weight: float = 1.0,
    tags: dict[str, str] | None = None,
) -> Triplet:
    """A :class:`Triplet` with its id and content hash filled in."""
    content_hash = sha256_json([anchor, positive, negative])
    return Triplet(
        id=row_id("triplet", source, tenant, ids, content_hash),
        provenance=Provenance(
            source=source,
            tenant=tenant,
            ids=ids,
            group=group,
            created_at=created_at,
            content_hash=content_hash,
            weight=weight,
        ),
        anchor=anchor,
        positive=positive,
        negative=negative,
        tags=tags or {},
    )


def make_query(
    *,
    text: str,
    relevant: list[str],
    source: str,
    tenant: str,
    ids: dict[str, str],
    group: str,
    created_at: datetime | None,
    tags: dict[str, str] | None = None,
) -> SearchQuery:
    """A :class:`SearchQuery` with its id and content hash filled in."""
    content_hash = sha256_json([text, relevant])
    return SearchQuery(
        id=row_id("query", source, tenant, ids, content_hash),
        provenance=Provenance(
            source=source,
            tenant=tenant,
            ids=ids,
            group=group,
            created_at=created_at,
            content_hash=content_hash,
        ),
        text=text,
        relevant=relevant,
        tags=tags or {},
    )
