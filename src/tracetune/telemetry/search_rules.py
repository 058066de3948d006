"""What one search teaches: which of its documents people wanted, and what stood beside them.

Plain Python over one span with its results and feedback; the texts are redacted before. Order and
reasons are those of ``docs/embeddings.md``.
"""

from __future__ import annotations

import random
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracetune.files import sha256_json
from tracetune.telemetry.options import SearchOptions

_DOCUMENT = re.compile(r"^retrieval\.documents\.(\d+)\.document\.(id|content|score)$")

FEEDBACK: dict[str, str] = {
    "left_out": "on a search that was left out before its feedback was read",
    "not_human": "not by a person",
    "no_id": "names no document",
    "unknown_id": "names a document that the search did not show",
    "no_score": "a relevance without a score",
    "contradiction": "on a document that was both wanted and scored below the threshold",
    "no_content": "on a document without usable text",
    "positive": "says that the document was wanted",
    "negative": "says that the document was not wanted",
}
"""What a single annotation came to; every one counts exactly once."""


@dataclass(frozen=True, slots=True)
class Result:
    """One document in the results of a search.

    Attributes:
        id: Its id.
        text: Its text, redacted; None if it has none that may be used.
        score: What the search service gave it.
    """

    id: str
    text: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one annotation says about one document.

    Attributes:
        document_id: The document; None if the annotation names none.
        human: Whether its annotator kind may decide.
        wanted: True, false, or None where it says nothing.
    """

    document_id: str | None
    human: bool
    wanted: bool | None


@dataclass(frozen=True, slots=True)
class Search:
    """One search.

    Attributes:
        span_id: Its span.
        failed: Whether the span ended with an error.
        query: What was searched for, redacted; None if it is no text.
        results: Its documents in rank order.
        feedback: What was said about them.
    """

    span_id: str
    failed: bool
    query: str | None
    results: Sequence[Result]
    feedback: Sequence[Feedback]


@dataclass(frozen=True)
class Lesson:
    """What a search teaches.

    Attributes:
        drop: Why it gives no triplet; None if it gives some.
        positives: Documents people wanted; they answer the query also where ``drop`` is
            ``no_negatives``.
        pairs: (positive, negative) documents.
        feedback: Number of annotations per outcome, see :data:`FEEDBACK`.
        opinions: What people said about each document, by its id: wanted (true), not (false), or
            both.
    """

    drop: str | None
    positives: list[Result] = field(default_factory=list)
    pairs: list[tuple[Result, Result]] = field(default_factory=list)
    feedback: Counter[str] = field(default_factory=Counter)
    opinions: Mapping[str, set[bool]] = field(default_factory=dict)


def results_of(attributes: Mapping[str, Any]) -> list[tuple[int, Any, Any, float | None]]:
    """(rank, id, content, score) of the documents in the flat attributes of a span, in rank order.

    OpenInference writes them as ``retrieval.documents.<rank>.document.<field>``.
    """
    found: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        match = _DOCUMENT.match(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value
    return [
        (rank, fields.get("id"), fields.get("content"), _number(fields.get("score")))
        for rank, fields in sorted(found.items())
    ]


def _number(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable else None


def named_document(
    metadata: Mapping[str, Any], name: str, identifier: str | None, options: SearchOptions
) -> str | None:
    """The document an annotation is about: its metadata, else its identifier ``<name>:<id>``."""
    value = metadata.get(options.id_key)
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
        return str(value).strip()
    prefix = f"{name}:"
    if identifier is not None and identifier.startswith(prefix):
        return identifier.removeprefix(prefix).strip() or None
    return None


def decide(search: Search, options: SearchOptions, *, max_chars: int, seed: int) -> Lesson:
    """What a search with feedback teaches.

    Args:
        search: The search, its texts redacted.
        options: Rules.
        max_chars: Longest query that is used.
        seed: Seed of ``random_sampling``; with it the span decides what is drawn.
    """
    early = early_drop(search, max_chars)
    if early:
        return Lesson(early, feedback=Counter(left_out=len(search.feedback)))
    if not any(item.human for item in search.feedback):
        return Lesson("not_human", feedback=Counter(not_human=len(search.feedback)))
    shown = {result.id: result for result in search.results}
    opinions: dict[str, set[bool]] = {}
    for item in search.feedback:
        if item.human and item.document_id in shown and item.wanted is not None:
            opinions.setdefault(str(item.document_id), set()).add(item.wanted)
    counts = Counter(_outcome(item, shown, opinions) for item in search.feedback)
    positives = [r for r in search.results if opinions.get(r.id) == {True} and r.text]
    if not positives:
        reason = _why_no_positive(counts, shown, opinions)
        return Lesson(reason, feedback=counts, opinions=opinions)
    disputed = {key for key, found in opinions.items() if len(found) == 2}
    pairs = [
        (positive, negative)
        for positive in positives
        for negative in _negatives(search, positive, opinions, disputed, options, seed)
    ]
    return Lesson(None if pairs else "no_negatives", positives, pairs, counts, opinions)


def early_drop(search: Search, max_chars: int) -> str | None:
    """Why a search teaches nothing whatever people said about it, or None."""
    if search.failed:
        return "failed"
    if search.query is None:
        return "no_query"
    if len(search.query) > max_chars:
        return "too_long"
    return None if search.results else "no_documents"


def _outcome(item: Feedback, shown: Mapping[str, Result], opinions: Mapping[str, set[bool]]) -> str:
    if not item.human:
        return "not_human"
    if item.document_id is None:
        return "no_id"
    if item.document_id not in shown:
        return "unknown_id"
    if item.wanted is None:
        return "no_score"
    if len(opinions[item.document_id]) == 2:
        return "contradiction"
    if not shown[item.document_id].text:
        return "no_content"
    return "positive" if item.wanted else "negative"


def _why_no_positive(
    counts: Counter[str], shown: Mapping[str, Result], opinions: Mapping[str, set[bool]]
) -> str:
    """The reason that came closest to a positive document."""
    wanted_blank = any(found == {True} and not shown[key].text for key, found in opinions.items())
    if wanted_blank:
        return "no_content"
    if counts["contradiction"]:
        return "contradiction"
    if opinions:
        return "no_positive"
    return "unknown_id" if counts["unknown_id"] else "no_verdict"


def _negatives(
    search: Search,
    positive: Result,
    opinions: Mapping[str, set[bool]],
    disputed: Iterable[str],
    options: SearchOptions,
    seed: int,
) -> list[Result]:
    """Documents shown beside ``positive`` that nobody wanted and that say something else."""
    left_out = {key for key, found in opinions.items() if True in found} | set(disputed)
    wanted_texts = {r.text for r in search.results if opinions.get(r.id) == {True}}
    pool, texts = [], {positive.text, None} | wanted_texts
    for result in search.results:
        if result.id not in left_out and result.text not in texts:
            texts.add(result.text)
            pool.append(result)
    if options.strategy == "random_sampling":
        draw = random.Random(sha256_json([seed, search.span_id, positive.id]))
        pool = draw.sample(pool, min(options.negatives, len(pool)))
    elif options.strategy == "above_threshold":
        scores = [result.score for result in pool if result.score is not None]
        median = statistics.median(scores) if scores else 0.0
        pool = [r for r in pool if r.score is not None and r.score > median]
    return pool[: options.negatives]
