"""What was written becomes candidates for review, or leaves with a reason."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tracetune.files import canonical_json, sha256_json
from tracetune.near import Shingles, shingles, similarity
from tracetune.outputs import Target, read_target
from tracetune.privacy import PrivacyOptions, Redactor
from tracetune.records import Example, Message, Nearest, ReviewItem
from tracetune.splits import SplitOptions
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.synthesis.plan import Cell, Rewrite, cell_names

REASONS: dict[str, str] = {
    "malformed": "no message, or an output that is not one of the agent",
    "unknown_target": "the output names something that does not exist",
    "off_cell": "the output does not name what was asked for",
    "too_long": "longer than telemetry.max_chars",
    "private": "a secret or personal data in it",
    "same_answers": "the better and the worse answer say the same",
    "near_real": "nearly the message of a real row, training or held out",
    "near_candidate": "nearly the message of another candidate",
}
"""Why something written is no candidate, in the order in which it is asked."""

_NEAREST = 3
_SHORT, _LONG = 10, 200
"""Characters below and above which a message is less sure to be a good one (reference C4)."""


class Screen:
    """Checks what was written against the schema, the privacy rules and everything that exists.

    Args:
        telemetry: Schema and limits of the agent.
        splits: Threshold and shingles of near-duplicates.
        privacy: Whatever the policy says, a candidate with a finding leaves.
        real: Requests of all real rows, held-out ones too.
        before: Candidates ever submitted, whatever became of them.
        shown: Rows for training, which reviewers may see beside a candidate.
        written_by: Who writes.
    """

    def __init__(
        self,
        *,
        telemetry: TelemetryOptions,
        splits: SplitOptions,
        privacy: PrivacyOptions,
        real: Iterable[str],
        before: Iterable[ReviewItem],
        shown: Sequence[Example],
        written_by: str,
    ) -> None:
        self._telemetry = telemetry
        self._redactor = Redactor(privacy)
        self._size = splits.shingle
        self._real = _Index(splits.near_duplicate)
        self._candidates = _Index(splits.near_duplicate)
        self._written_by = written_by
        for text in real:
            self._real.add(shingles(text, self._size), "")
        for item in before:
            self._candidates.add(shingles(item.prompt[-1].content, self._size), item.root)
        self._shown = [
            (shingles(row.prompt[-1].content, 1), row.prompt[-1].content, row.completion[0].content)
            for row in shown
        ]
        self.dropped: Counter[str] = Counter(dict.fromkeys(REASONS, 0))

    def add(
        self, raw: Any, cell: Cell, request_id: str, rewrite: Rewrite | None = None
    ) -> ReviewItem | None:
        """The candidate in one written item; None, and one more in ``dropped``, if it is none.

        Args:
            raw: As the writer gave it: ``request``, ``output``, of a pair ``rejected`` and
                ``rejected_why``.
            cell: What was asked for.
            request_id: The request.
            rewrite: The rejected candidate that it replaces. Its answer need not be the old one.
        """
        reason, item = self._read(raw, cell, request_id, rewrite)
        if item is None:
            self.dropped[reason] += 1
            return None
        self._candidates.add(shingles(item.prompt[-1].content, self._size), item.root)
        return item

    def _read(
        self, raw: Any, cell: Cell, request_id: str, rewrite: Rewrite | None
    ) -> tuple[str, ReviewItem | None]:
        request = raw.get("request") if isinstance(raw, dict) else None
        if not isinstance(request, str) or not request.strip():
            return "malformed", None
        request = request.strip()
        right, wrong = self._target(raw.get("output")), None
        if right is None:
            return "malformed", None
        if cell.kind == "preference":
            wrong = self._target(raw.get("rejected"))
            if wrong is None:
                return "malformed", None
        problem = self._problem(request, raw, right, wrong, cell, rewrite)
        if problem:
            return problem, None
        return "", self._item(request, raw, right, cell, request_id, rewrite)

    def _target(self, value: Any) -> Target | None:
        return read_target(value, self._telemetry.output) if isinstance(value, dict) else None

    def _problem(
        self,
        request: str,
        raw: dict[str, Any],
        right: Target,
        wrong: Target | None,
        cell: Cell,
        rewrite: Rewrite | None,
    ) -> str:
        output = self._telemetry.output
        if not right.is_known(output):
            return "unknown_target"
        named = cell_names(right, output)
        if rewrite is None and cell.target != "answer" and cell.target not in named:
            return "off_cell"
        texts = [request, _compact(raw["output"])]
        texts += [_compact(raw["rejected"]), str(raw.get("rejected_why", ""))] if wrong else []
        if max(map(len, texts)) > self._telemetry.max_chars:
            return "too_long"
        if any(self._redactor.text(text)[1] for text in texts):
            return "private"
        if wrong is not None and wrong.items == right.items:
            return "same_answers"
        shape = shingles(request, self._size)
        if self._real.holds(shape):
            return "near_real"
        # What replaces a rejected candidate may keep its message: perhaps the answer was wrong.
        own = rewrite.item.root if rewrite else None
        return "near_candidate" if self._candidates.holds(shape, without=own) else ""

    def _item(
        self,
        request: str,
        raw: dict[str, Any],
        right: Target,
        cell: Cell,
        request_id: str,
        rewrite: Rewrite | None,
    ) -> ReviewItem:
        prompt = [
            Message(role="system", content=self._telemetry.instruction),
            Message(role="user", content=request),
        ]
        answer = _compact(raw["output"])
        pair = cell.kind == "preference"
        rejected = _compact(raw["rejected"]) if pair else None
        attempt = rewrite.attempt if rewrite else 0
        found = sha256_json([cell.kind, self._telemetry.instruction, request, answer, rejected])
        item_id = f"{rewrite.item.root}_regen_{attempt}" if rewrite else f"item-{found[:20]}"
        return ReviewItem(
            id=item_id,
            kind=cell.kind,
            prompt=prompt,
            answer=[Message(role="assistant", content=answer)],
            rejected=[Message(role="assistant", content=rejected)] if rejected else None,
            rejected_why=str(raw.get("rejected_why", "")) if pair else "",
            confidence=confidence(request, raw, right, attempt, self._telemetry.output.compare),
            attempt=attempt,
            written_by=self._written_by,
            request_id=request_id,
            # The right answer of what is written anew need not be the old one.
            cell=Cell(kind=cell.kind, target=right.label, count=1).id if rewrite else cell.id,
            nearest=self._nearest(request),
            tags={"target": right.label},
        )

    def _nearest(self, request: str) -> list[Nearest]:
        words = shingles(request, 1)
        ranked = sorted(
            ((similarity(words, other), text, answer) for other, text, answer in self._shown),
            key=lambda found: (-found[0], found[1], found[2]),
        )
        return [
            Nearest(text=text, answer=answer, similarity=round(share, 3))
            for share, text, answer in ranked[:_NEAREST]
        ]


class _Index:
    """Sets of shingles with their owners, asked whether one that is nearly the same is there."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._by_shingle: dict[str, list[tuple[Shingles, str]]] = defaultdict(list)

    def add(self, found: Shingles, owner: str) -> None:
        for shingle in found:
            self._by_shingle[shingle].append((found, owner))

    def holds(self, found: Shingles, without: str | None = None) -> bool:
        """Whether a set that does not belong to ``without`` is nearly the same."""
        near = {entry for shingle in found for entry in self._by_shingle.get(shingle, ())}
        return any(
            owner != without and similarity(found, other) >= self._threshold
            for other, owner in near
        )


def confidence(
    request: str, raw: dict[str, Any], right: Target, attempt: int, compare: str
) -> float:
    """How sure a candidate is to be a good one, by the rules of source document 003 (C4).

    It starts at 1: 0.15 less per earlier attempt; entities that stand in the message raise it by
    5 %, one that does not takes 30 %; shorter than 10 characters takes 20 %, longer than 200 10 %;
    a reason of more than 20 characters adds 2 %. A number of rules, not a probability.
    """
    value = 1.0 - 0.15 * attempt
    if compare == "entities" and right.items:
        said = " ".join(request.split()).lower()
        inside = all(text in said for text, _ in right.items)
        value = min(1.0, value * 1.05) if inside else value * 0.7
    if len(request) < _SHORT:
        value *= 0.8
    elif len(request) > _LONG:
        value *= 0.9
    if len(str(raw.get("rejected_why", ""))) > 20:
        value = min(1.0, value * 1.02)
    return round(min(1.0, max(0.0, value)), 2)


def _compact(value: dict[str, Any]) -> str:
    """The output as rows hold it: compact JSON."""
    canonical_json(value)  # refuses what is no JSON, NaN for example
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
