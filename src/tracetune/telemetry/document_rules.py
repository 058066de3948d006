"""What annotations of single documents teach: relevant ones against irrelevant ones.

Plain Python over one search and what people said about the documents in its results, by position;
the texts are redacted before. Order and reasons are those of ``docs/embeddings.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracetune.telemetry.search_rules import Lesson, Result, Search, early_drop

VERDICTS: dict[str, str] = {
    "left_out": "on a search that was left out before its annotations were read",
    "not_human": "not by a person",
    "unknown_position": "on a position that the results do not have",
    "no_id": "on a document without an id",
    "no_verdict": "has another label, or neither label nor score",
    "contradiction": "on a document that people called both relevant and irrelevant",
    "no_content": "on a document without usable text",
    "relevant": "says that the document is relevant",
    "irrelevant": "says that the document is irrelevant",
}
"""What a single annotation came to; every one counts exactly once."""


@dataclass(frozen=True, slots=True)
class DocumentVerdict:
    """What one annotation says about the document at one position.

    Attributes:
        position: Place of the document in the results, from 0.
        human: Whether its annotator kind may decide.
        relevant: True, false, or None where it says nothing.
    """

    position: int
    human: bool
    relevant: bool | None


def decide_documents(
    search: Search,
    verdicts: Sequence[DocumentVerdict],
    positions: Mapping[int, str | None],
    *,
    max_chars: int,
) -> Lesson:
    """What a search teaches whose documents were annotated: every relevant x every irrelevant one.

    Documents are told apart by their id, so that one that stands at two positions gathers the
    opinions of both.

    Args:
        search: The search, its texts redacted.
        verdicts: The annotations of its documents.
        positions: Id of the document at each position; None where it has none.
        max_chars: Longest query that is used.
    """
    early = early_drop(search, max_chars)
    if early:
        return Lesson(early, feedback=Counter(left_out=len(verdicts)))
    if not any(verdict.human for verdict in verdicts):
        return Lesson("not_human", feedback=Counter(not_human=len(verdicts)))
    shown = {result.id: result for result in search.results}
    opinions: dict[str, set[bool]] = {}
    for verdict in verdicts:
        document = positions.get(verdict.position)
        if verdict.human and document is not None and verdict.relevant is not None:
            opinions.setdefault(document, set()).add(verdict.relevant)
    counts = Counter(_outcome(verdict, positions, shown, opinions) for verdict in verdicts)
    relevant = [r for r in search.results if opinions.get(r.id) == {True} and r.text]
    if not relevant:
        reason = _why_none_relevant(shown, opinions)
        return Lesson(reason, feedback=counts, opinions=opinions)
    irrelevant = _irrelevant(search, relevant, opinions)
    pairs = [(positive, negative) for positive in relevant for negative in irrelevant]
    return Lesson(None if pairs else "no_irrelevant", relevant, pairs, counts, opinions)


def _outcome(
    verdict: DocumentVerdict,
    positions: Mapping[int, str | None],
    shown: Mapping[str, Result],
    opinions: Mapping[str, set[bool]],
) -> str:
    if not verdict.human:
        return "not_human"
    if verdict.position not in positions:
        return "unknown_position"
    document = positions[verdict.position]
    if document is None:
        return "no_id"
    if verdict.relevant is None:
        return "no_verdict"
    if len(opinions[document]) == 2:
        return "contradiction"
    if not shown[document].text:
        return "no_content"
    return "relevant" if verdict.relevant else "irrelevant"


def _why_none_relevant(shown: Mapping[str, Result], opinions: Mapping[str, set[bool]]) -> str:
    """The reason that came closest to a relevant document."""
    if any(found == {True} and not shown[key].text for key, found in opinions.items()):
        return "no_content"
    if any(len(found) == 2 for found in opinions.values()):
        return "contradiction"
    return "no_relevant" if opinions else "no_verdict"


def _irrelevant(
    search: Search, relevant: Sequence[Result], opinions: Mapping[str, set[bool]]
) -> list[Result]:
    """Documents people called irrelevant, each text once, that say something else."""
    found: dict[str, Result] = {}
    texts = {result.text for result in relevant}
    for result in search.results:
        if opinions.get(result.id) == {False} and result.text and result.text not in texts:
            found.setdefault(result.text, result)
    return list(found.values())
