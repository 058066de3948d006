"""The one place where text meets verdicts: join, decide, redact, write rows.

Everything before works on keys, everything after sees redacted text only. The join is streamed in
Arrow batches sorted by (start time, span id); memory holds the rows that are made, never the spans.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetune.errors import DataError
from tracetune.files import canonical_json
from tracetune.privacy import PrivacyOptions, PrivacyReport, Redactor
from tracetune.records import Example, Message, Preference, make_example, make_preference
from tracetune.telemetry.funnel import Funnel, PairCounts, make_funnel
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.rules import (
    AnnotatedSpan,
    Annotation,
    Decision,
    Output,
    decide,
    parse_json,
    target_of,
)
from tracetune.telemetry.tables import count_drops, safe_id

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

SOURCE = "phoenix"
_BATCH = 1_000


class Rows(NamedTuple):
    """What :func:`write_rows` gives."""

    examples: list[Example]
    preferences: list[Preference]
    funnel: Funnel
    privacy: PrivacyReport


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a row comes from: keys only."""

    span_id: str
    trace_id: str
    session_id: str | None
    start_time: datetime
    window: str
    target: str
    target_source: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row before de-duplication; ``answers`` is (answer) or (chosen, rejected)."""

    origin: _Origin
    prompt: str
    answers: tuple[str, ...]
    key: bytes


def write_rows(
    units: Table,
    verdicts: Table,
    spans: Table,
    annotations: Table,
    options: TelemetryOptions,
    privacy: PrivacyOptions,
    *,
    tenant: str,
) -> Rows:
    """Joins text to the labelled units, decides, redacts and de-duplicates.

    One row per (prompt, canonical output) and one pair per (prompt, chosen, rejected), compared
    after redaction. A row of the test window stays before one of the training window, so that
    training never takes a test row away; within a window the earliest stays.

    Args:
        units: Result of :func:`~tracetune.telemetry.tables.classify_spans`.
        verdicts: Result of :func:`~tracetune.telemetry.tables.collect_verdicts`.
        spans: Spans of the snapshot.
        annotations: Span annotations of the snapshot.
        options: Rules of extraction.
        privacy: What happens to secrets and personal data.
        tenant: Whose data it is.

    Returns:
        Examples and preferences in the order (start time, span id), the funnel and the privacy
        report. The funnel adds up, or the run has stopped.

    Raises:
        DataError: If a span id stands twice, or if redaction left something.
    """
    drops = _key_drops(units)
    read = sum(drops.values())
    drops.pop("", None)

    redactor = Redactor(privacy)
    answers: list[_Candidate] = []
    pairs: list[_Candidate] = []
    for keys, span in _annotated_spans(units, verdicts, spans, annotations):
        decision = decide(span, options)
        reason = decision.drop or _write(keys, decision, options, redactor, answers, pairs)
        if reason:
            drops[reason] += 1

    kept_answers, kept_pairs = _deduplicate(answers), _deduplicate(pairs)
    drops["duplicate"] = len(answers) - len(kept_answers)
    counts = PairCounts(
        candidates=len(pairs), duplicate=len(pairs) - len(kept_pairs), rows=len(kept_pairs)
    )
    del answers, pairs
    instruction = Message(role="system", content=options.instruction)
    examples = [_example(candidate, instruction, tenant) for candidate in kept_answers]
    preferences = [_preference(candidate, instruction, tenant) for candidate in kept_pairs]
    funnel = make_funnel(
        read=read,
        drops=drops,
        examples=len(examples),
        pairs=counts,
        by_target_source=Counter(row.tags["target_source"] for row in examples),
        by_window={
            "examples": Counter(row.tags["window"] for row in examples),
            "pairs": Counter(row.tags["window"] for row in preferences),
        },
    )
    return Rows(examples, preferences, funnel, redactor.report())


def _key_drops(units: Table) -> Counter[str]:
    drops: Counter[str] = Counter()
    for row in count_drops(units).to_pyarrow().to_pylist():
        if row["spans"] != row["ids"]:
            raise DataError(
                f"{row['spans'] - row['ids']} span ids stand more than once",
                where="spans of the snapshot",
                remedy="delete the snapshot and read it again",
            )
        drops[row["drop"] or ""] = row["spans"]
    return drops


def _joined(units: Table, verdicts: Table, spans: Table, annotations: Table) -> Table:
    """One row per (unit, approval annotation) with the texts, sorted by (start time, span id)."""
    remaining = units.filter(units["drop"].isnull()).select(
        "span_id", "trace_id", "session_id", "start_time", "window"
    )
    span_text = spans.select(
        span_id=safe_id(spans.span_id, telemetry=True),
        status_code=spans.status_code,
        input_json=spans.input_json,
        output_json=spans.output_json,
    )
    notes = annotations.select(
        span_id=safe_id(annotations.span_id, telemetry=True),
        annotation_id=annotations.annotation_id,
        explanation=annotations.explanation,
        metadata_json=annotations.metadata_json,
    )
    marks = verdicts.select("span_id", "annotation_id", "human", "verdict", "updated_at")
    return (
        remaining.join(span_text, "span_id")
        .join(marks, "span_id")
        .join(notes, ["span_id", "annotation_id"])
        .order_by(["start_time", "span_id", "annotation_id"])
    )


def _annotated_spans(
    units: Table, verdicts: Table, spans: Table, annotations: Table
) -> Iterator[tuple[dict[str, Any], AnnotatedSpan]]:
    """Every unit with its values and approval annotations, in the order (start time, span id)."""
    last: tuple[datetime, str] | None = None
    table = _joined(units, verdicts, spans, annotations)
    with table.to_pyarrow_batches(chunk_size=_BATCH) as batches:
        rows = (row for batch in batches for row in batch.to_pylist())
        for key, group in itertools.groupby(rows, lambda r: (r["start_time"], r["span_id"])):
            if last is not None and key <= last:
                raise DataError(
                    f"span {key[1]} came after span {last[1]}, although it was sorted before it",
                    where="joined telemetry",
                    remedy="report the versions of ibis and duckdb; pin those in constraints.txt",
                )
            last = key
            members = list(group)
            yield (
                members[0],
                AnnotatedSpan(
                    status_code=members[0]["status_code"],
                    prompt=_value(members[0]["input_json"]),
                    output=_value(members[0]["output_json"]),
                    annotations=tuple(_annotation(member) for member in members),
                ),
            )


def _value(text: str | None) -> Any:
    """The value of an attribute; one that cannot be read is as good as none."""
    if text is None:
        return None
    try:
        return parse_json(text)
    except ValueError:
        return None


def _annotation(row: dict[str, Any]) -> Annotation:
    metadata = _value(row["metadata_json"])
    return Annotation(
        annotation_id=row["annotation_id"],
        human=row["human"],
        verdict=row["verdict"],
        updated_at=row["updated_at"],
        explanation=row["explanation"],
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def _write(
    keys: dict[str, Any],
    decision: Decision,
    options: TelemetryOptions,
    redactor: Redactor,
    answers: list[_Candidate],
    pairs: list[_Candidate],
) -> str | None:
    """Redacts what a span teaches and adds the candidates; the reason if it must be left out."""
    assert decision.answer is not None
    assert decision.own is not None
    prompt, hit = redactor.text(decision.prompt)
    # One surface for both sides: a pair must differ in what is said, not in the order of keys.
    order = list(decision.own.value)
    answer, hits = _redacted(decision.answer, order, redactor)
    hit |= hits
    rejected = []
    for pair in decision.pairs:
        text, hits = _redacted(pair.rejected, order, redactor)
        hit |= hits
        rejected.append(text)
    if hit and redactor.options.policy == "drop":
        redactor.drop()
        return "private"
    if any(_canonical(text) == _canonical(answer) for text in rejected):
        return "identical_pair"  # they differed only in what was redacted

    target = target_of(_as_json(answer), options)
    if target is None:
        raise DataError(
            "the redacted output is no valid output any more",
            where=f"span {keys['span_id']}",
            remedy="report this; until then set privacy.policy to drop",
        )
    origin = _Origin(
        span_id=keys["span_id"],
        trace_id=keys["trace_id"],
        session_id=keys["session_id"],
        start_time=keys["start_time"].astimezone(UTC),
        window=keys["window"],
        target=target,
        target_source=decision.answer_source,
    )
    _check_private(redactor, origin, prompt, answer, rejected)
    answers.append(_candidate(origin, prompt, answer))
    pairs.extend(_candidate(origin, prompt, answer, text) for text in rejected)
    return None


def _redacted(output: Output | str, order: list[str], redactor: Redactor) -> tuple[str, bool]:
    """An output as the text that is taught: compact JSON with the keys in ``order``."""
    if isinstance(output, str):
        return redactor.text(output)
    ranks = {name: rank for rank, name in enumerate(order)}
    names = sorted(output.value, key=lambda name: (ranks.get(name, len(order)), name))
    value, hit = redactor.json({name: output.value[name] for name in names})
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False), hit


def _check_private(
    redactor: Redactor, origin: _Origin, prompt: str, answer: str, rejected: Iterable[str]
) -> None:
    """The second look: at the text as it will be written."""
    where = f"span {origin.span_id}"
    redactor.check(prompt, where=where)
    for text in (answer, *rejected):
        redactor.check(_as_json(text), where=where)


def _as_json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _canonical(text: str) -> str:
    value = _as_json(text)
    return canonical_json(value) if isinstance(value, dict) else text


def _candidate(origin: _Origin, prompt: str, *answers: str) -> _Candidate:
    content = canonical_json([prompt, *map(_canonical, answers)])
    key = hashlib.sha256(content.encode("utf-8")).digest()
    return _Candidate(origin, prompt, answers, key)


def _deduplicate(candidates: list[_Candidate]) -> list[_Candidate]:
    """One candidate per key, in the order given: test before training, then the earliest."""
    winners: dict[bytes, _Candidate] = {}
    for window in ("test", "train"):
        for candidate in candidates:
            if candidate.origin.window == window:
                winners.setdefault(candidate.key, candidate)
    return [candidate for candidate in candidates if winners[candidate.key] is candidate]


def _shared(candidate: _Candidate, instruction: Message, tenant: str) -> dict[str, Any]:
    origin = candidate.origin
    ids = {"span_id": origin.span_id, "trace_id": origin.trace_id}
    if origin.session_id is not None:
        ids["session_id"] = origin.session_id
    return {
        "prompt": [instruction, Message(role="user", content=candidate.prompt)],
        "source": SOURCE,
        "tenant": tenant,
        "ids": ids,
        "group": group_of(origin.session_id, origin.trace_id),
        "created_at": origin.start_time,
        "tags": {
            "target": origin.target,
            "target_source": origin.target_source,
            "window": origin.window,
        },
    }


def group_of(session_id: str | None, trace_id: str) -> str:
    """The unit that is never split: the session, or the trace where there is none."""
    return f"session:{session_id}" if session_id is not None else f"trace:{trace_id}"


def _answer(text: str) -> list[Message]:
    return [Message(role="assistant", content=text)]


def _example(candidate: _Candidate, instruction: Message, tenant: str) -> Example:
    return make_example(
        completion=_answer(candidate.answers[0]), **_shared(candidate, instruction, tenant)
    )


def _preference(candidate: _Candidate, instruction: Message, tenant: str) -> Preference:
    chosen, rejected = candidate.answers
    return make_preference(
        chosen=_answer(chosen),
        rejected=_answer(rejected),
        **_shared(candidate, instruction, tenant),
    )
