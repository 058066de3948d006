"""The text of searches: queries and documents, redacted once each, and what became of them.

Everything before works on keys; what leaves here is redacted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetune.outputs import parse_json
from tracetune.privacy import Redactor
from tracetune.privacy import safe_id as safe_text_id
from tracetune.records.searches import TripletSet
from tracetune.telemetry.candidates import SOURCE, group_of
from tracetune.telemetry.search_rules import Result, results_of
from tracetune.telemetry.tables import safe_id

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row comes from: keys only."""

    span_id: str
    trace_id: str
    session_id: str | None
    start_time: datetime
    window: str

    def shared(self, tenant: str, sets: tuple[TripletSet, ...]) -> dict[str, Any]:
        """What triplets and queries of this search have in common."""
        ids = {"span_id": self.span_id, "trace_id": self.trace_id}
        if self.session_id is not None:
            ids["session_id"] = self.session_id
        return {
            "source": SOURCE,
            "tenant": tenant,
            "ids": ids,
            "group": group_of(self.session_id, self.trace_id),
            "created_at": self.start_time,
            "tags": {"window": self.window, "set": "+".join(sets)},
        }


class Cleaner:
    """Redacts each different text once, and says whether it may be used."""

    def __init__(self, redactor: Redactor, max_chars: int) -> None:
        """Knows no text yet."""
        self.redactor = redactor
        self.max_chars = max_chars
        self._known: dict[str, tuple[str | None, str]] = {}
        self._dropped: set[str] = set()

    def text(self, value: Any, *, where: str) -> tuple[str | None, str]:
        """The clean text or None, and ``used`` or the reason why it is None."""
        if not isinstance(value, str) or not value.strip():
            return None, "no_content"
        raw = value.strip()
        if len(raw) > self.max_chars:
            return None, "too_long"
        if raw not in self._known:
            clean, hit = self.redactor.text(raw)
            if hit and self.redactor.options.policy == "drop":
                self._known[raw] = (None, "private")
            else:
                self.redactor.check(clean, where=where)
                self._known[raw] = (clean, "used")
        return self._known[raw]

    def drop(self, span_id: str) -> None:
        """Counts a span that the policy leaves out, once for all sets."""
        if span_id not in self._dropped:
            self._dropped.add(span_id)
            self.redactor.drop()


class Shown(NamedTuple):
    """The documents in the results of a span.

    Attributes:
        outcomes: What became of each of them.
        results: Those that have an id, each once, at its first rank.
        positions: The id at each position; None where there is none.
    """

    outcomes: list[str]
    results: list[Result]
    positions: dict[int, str | None]


def shown_documents(attributes_json: str | None, cleaner: Cleaner) -> Shown:
    """The documents in the results of a span, their texts redacted."""
    outcomes: list[str] = []
    results: dict[str, Result] = {}
    positions: dict[int, str | None] = {}
    for position, key, content, score in results_of(read_object(attributes_json)):
        known = isinstance(key, str | int) and not isinstance(key, bool) and str(key).strip()
        if not known:
            positions[position] = None
            outcomes.append("no_id")
            continue
        document = positions[position] = safe_text_id(str(key).strip())
        if document in results:
            outcomes.append("repeated")  # the first rank counts
            continue
        text, outcome = cleaner.text(content, where=f"document {document}")
        outcomes.append(outcome)
        results[document] = Result(document, text, score)
    return Shown(outcomes, list(results.values()), positions)


def query_text(input_json: str | None, origin: Origin, cleaner: Cleaner) -> tuple[str | None, str]:
    """What was searched for, redacted, and what became of it."""
    value = read_value(input_json)
    text, outcome = cleaner.text(value, where=f"span {origin.span_id}")
    # A query that is too long is told from none by the rules, which know its length.
    return (value.strip() if outcome == "too_long" else text), outcome


def search_texts(searches: Table, spans: Table) -> Table:
    """The searches that remain, with their keys, status, query and results."""
    remaining = searches.filter(searches["drop"].isnull()).select(
        "span_id", "trace_id", "session_id", "start_time", "window"
    )
    texts = spans.select(
        span_id=safe_id(spans.span_id, telemetry=True),
        status_code=spans.status_code,
        input_json=spans.input_json,
        attributes_json=spans.attributes_json,
    )
    return remaining.join(texts, "span_id")


def origin_of(row: dict[str, Any]) -> Origin:
    """The keys of a row of :func:`search_texts`."""
    return Origin(
        span_id=row["span_id"],
        trace_id=row["trace_id"],
        session_id=row["session_id"],
        start_time=row["start_time"].astimezone(UTC),
        window=row["window"],
    )


def has_failed(row: dict[str, Any]) -> bool:
    """Whether the span of a row of :func:`search_texts` ended with an error."""
    return (row["status_code"] or "").strip().upper() == "ERROR"


def stream(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of a table, a batch at a time."""
    with table.to_pyarrow_batches(chunk_size=_BATCH) as batches:
        for batch in batches:
            yield from batch.to_pylist()


def read_object(text: str | None) -> dict[str, Any]:
    """A JSON object; anything else is as good as an empty one."""
    value = read_value(text)
    return value if isinstance(value, dict) else {}


def read_value(text: str | None) -> Any:
    """A JSON value; one that cannot be read is as good as none."""
    if text is None:
        return None
    try:
        return parse_json(text)
    except ValueError:
        return None
