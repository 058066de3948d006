"""The one place where text meets verdicts: join, decide, redact, write rows.

Everything before works on keys, everything after sees redacted text only. The join is streamed in
Arrow batches sorted by (start time, span id); memory holds what rows are made of, never the spans,
and a row is made when it is asked for.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetune.errors import DataError
from tracetune.outputs import parse_json, read_target
from tracetune.privacy import PrivacyOptions, PrivacyReport, Redactor
from tracetune.records import Example, Message, Preference, Rating
from tracetune.telemetry import candidates
from tracetune.telemetry.candidates import Answer, Candidate, Origin, candidate_of
from tracetune.telemetry.funnel import Funnel, PairCounts, make_funnel
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.rules import (
    AnnotatedSpan,
    Annotation,
    Decision,
    Output,
    decide,
)
from tracetune.telemetry.tables import count_drops, safe_id, utc_literal

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    Table = Any

_BATCH = 1_000
_SLICE = 100_000
"""Units whose texts are joined and sorted at a time."""


class Rows(NamedTuple):
    """What :func:`write_rows` gives; the rows are made anew each time they are asked for."""

    examples: Sequence[Example]
    preferences: Sequence[Preference]
    ratings: Sequence[Rating]
    funnel: Funnel
    privacy: PrivacyReport


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
        Examples, preferences and ratings in the order (start time, span id), the funnel and the
        privacy report. The funnel adds up, or the run has stopped.

    Raises:
        DataError: If a span id stands twice, or if redaction left something.
    """
    drops = _key_drops(units)
    read = sum(drops.values())
    drops.pop("", None)

    writer = _Writer(options, Redactor(privacy))
    for keys, span in _annotated_spans(units, verdicts, spans, annotations):
        reason = writer.add(keys, decide(span, options))
        if reason:
            drops[reason] += 1

    instruction = Message(role="system", content=options.instruction)
    ratings, rated = candidates.ratings(writer.answers, writer.bad, instruction, tenant)
    kept_answers = candidates.deduplicate(writer.answers)
    kept_pairs = candidates.deduplicate(writer.pairs)
    drops["duplicate"] = len(writer.answers) - len(kept_answers)
    counts = PairCounts(
        candidates=len(writer.pairs),
        duplicate=len(writer.pairs) - len(kept_pairs),
        rows=len(kept_pairs),
    )
    report = writer.redactor.report()
    del writer
    funnel = make_funnel(
        read=read,
        drops=drops,
        examples=len(kept_answers),
        pairs=counts,
        ratings=rated,
        by_target_source=Counter(item.origin.target_source for item in kept_answers),
        by_window={
            "examples": Counter(item.origin.window for item in kept_answers),
            "pairs": Counter(item.origin.window for item in kept_pairs),
        },
    )
    return Rows(
        candidates.examples(kept_answers, instruction, tenant),
        candidates.preferences(kept_pairs, instruction, tenant),
        ratings,
        funnel,
        report,
    )


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


def _slices(units: Table) -> list[tuple[datetime | None, datetime | None]]:
    """Half-open stretches of time, in order, with about as many units each as are joined at once.

    The engine sorts texts in memory; of ten million spans they would take gigabytes.
    """
    remaining = units.filter(units["drop"].isnull()).select("start_time")
    times = remaining.order_by("start_time").to_pyarrow()["start_time"]
    cuts = dict.fromkeys(times[n].as_py() for n in range(_SLICE, len(times), _SLICE))
    return list(itertools.pairwise([None, *cuts, None]))


def _within(table: Table, start: datetime | None, end: datetime | None) -> Table:
    if start is not None:
        table = table.filter(table.start_time >= utc_literal(start))
    return table if end is None else table.filter(table.start_time < utc_literal(end))


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
    rows = _joined_rows(units, verdicts, spans, annotations)
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


def _joined_rows(
    units: Table, verdicts: Table, spans: Table, annotations: Table
) -> Iterator[dict[str, Any]]:
    for start, end in _slices(units):
        table = _joined(
            _within(units, start, end), verdicts, _within(spans, start, end), annotations
        )
        with table.to_pyarrow_batches(chunk_size=_BATCH) as batches:
            for batch in batches:
                yield from batch.to_pylist()


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


class _Writer:
    """Redacts what spans teach and collects the candidates."""

    def __init__(self, options: TelemetryOptions, redactor: Redactor) -> None:
        self.options = options
        self.redactor = redactor
        self.answers: list[Candidate] = []
        self.pairs: list[Candidate] = []
        self.bad: list[Candidate] = []

    def add(self, keys: dict[str, Any], decision: Decision) -> str | None:
        """Adds what a span teaches; the reason if it leaves without an SFT row."""
        if decision.own is None:
            return decision.drop
        prompt, hit = self.redactor.text(decision.prompt)
        # One surface for all answers: they must differ in what is said, not in the order of keys.
        order = list(decision.own.value)
        taught = decision.answer or decision.own
        answer, hits = _redacted(taught, order, self.redactor)
        hit |= hits
        rejected = []
        for pair in decision.pairs:
            worse, hits = _redacted(pair.rejected, order, self.redactor)
            hit |= hits
            rejected.append(worse)
        if hit and self.redactor.options.policy == "drop":
            self.redactor.drop()
            return decision.drop or "private"
        if any(worse.canonical == answer.canonical for worse in rejected):
            return "identical_pair"  # they differed only in what was redacted

        origin = self._origin(keys, answer, decision)
        _check_private(self.redactor, origin, prompt, answer, rejected)
        if decision.answer is None:
            self.bad.append(candidate_of(origin, prompt, answer))
            return decision.drop
        self.answers.append(candidate_of(origin, prompt, answer))
        for worse in rejected:
            self.pairs.append(candidate_of(origin, prompt, answer, worse))
            self.bad.append(candidate_of(origin, prompt, worse))
        return None

    def _origin(self, keys: dict[str, Any], answer: Answer, decision: Decision) -> Origin:
        target = read_target(answer.value, self.options.output)
        if target is None:
            raise DataError(
                "the redacted output is no valid output any more",
                where=f"span {keys['span_id']}",
                remedy="report this; until then set privacy.policy to drop",
            )
        return Origin(
            span_id=keys["span_id"],
            trace_id=keys["trace_id"],
            session_id=keys["session_id"],
            start_time=keys["start_time"].astimezone(UTC),
            window=keys["window"],
            target=target.label,
            target_source=decision.answer_source,
        )


def _redacted(output: Output | str, order: list[str], redactor: Redactor) -> tuple[Answer, bool]:
    """An output as the text that is taught: compact JSON with the keys in ``order``."""
    if isinstance(output, str):
        text, hit = redactor.text(output)
        return Answer.read(text), hit
    ranks = {name: rank for rank, name in enumerate(order)}
    names = sorted(output.value, key=lambda name: (ranks.get(name, len(order)), name))
    value, hit = redactor.json({name: output.value[name] for name in names})
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Answer.read(text), hit


def _check_private(
    redactor: Redactor, origin: Origin, prompt: str, answer: Answer, rejected: Iterable[Answer]
) -> None:
    """The second look: at the text as it will be written."""
    where = f"span {origin.span_id}"
    redactor.check(prompt, where=where)
    for written in (answer, *rejected):
        redactor.check(written.value, where=where)
