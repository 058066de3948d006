"""Row rules: what one annotated span teaches, and if nothing, why not.

Plain Python over one span at a time, in the order in which ``docs/telemetry-rules.md`` tells it.
Nothing here reads a file, knows a window or looks at another span.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from tracetune.files import canonical_json
from tracetune.outputs import SURROGATE, Target, clean_json, parse_json, read_target
from tracetune.telemetry.options import TelemetryOptions

SHAPE_DROPS = ("malformed", "too_long", "not_human", "no_verdict")
"""Reasons asked first, in this order."""
TEACHING_DROPS = ("invalid_correction", "identical_pair", "rejected_only", "unknown_target")
"""Reasons that follow from what people decided."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One approval annotation, with its verdict as :mod:`~tracetune.telemetry.tables` read it."""

    annotation_id: str
    human: bool
    verdict: Literal["approved", "rejected"] | None
    updated_at: datetime | None
    explanation: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decides(self) -> bool:
        """True if a person gave a verdict with it."""
        return self.human and self.verdict is not None


@dataclass(frozen=True, slots=True)
class AnnotatedSpan:
    """One unit with the values of its attributes, of whatever type they came."""

    status_code: str | None
    prompt: Any
    output: Any
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """A valid output of the agent, with what it names."""

    value: dict[str, Any]
    target: Target

    @property
    def canonical(self) -> str:
        """Sorted keys, no white space: equal outputs give equal text."""
        return canonical_json(self.value)


@dataclass(frozen=True, slots=True)
class Pair:
    """A better and a worse answer; the worse one may be text that is no valid output."""

    chosen: Output
    rejected: Output | str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a span teaches.

    Attributes:
        drop: Why it teaches nothing, else None.
        prompt: What the agent was asked; also given for ``rejected_only``, as is ``own``: an answer
            that is known to be bad teaches KTO.
        own: The span's own output; rows follow its order of keys.
        answer: The SFT target; every span that is not dropped has one.
        answer_source: ``own`` output of the span, or ``corrected`` by a person.
        pairs: Preference pairs, at most one per rejected text.
    """

    drop: str | None = None
    prompt: str = ""
    own: Output | None = None
    answer: Output | None = None
    answer_source: Literal["own", "corrected"] = "own"
    pairs: tuple[Pair, ...] = ()


def present(value: Any) -> Any:
    """``value``, or None for everything that means "missing": NaN, NaT, pandas.NA, blank text.

    It comes before every truth test, because NaN is truthy and prints as the text "nan".
    """
    if value is None or isinstance(value, str):
        return value if value and value.strip() else None
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    scalar = isinstance(value, numbers.Number) or type(value).__name__ == "datetime64"
    if scalar and value != value:
        return None
    return value


def parse_output(raw: Any, options: TelemetryOptions) -> Output | None:
    """A valid output of the agent: a JSON object whose judged field holds a usable value.

    Args:
        raw: Text of one JSON object, or the object itself (metadata may hold either).
        options: Target fields and longest text.

    Returns:
        None if it is anything else, or longer than ``max_chars``.
    """
    return _read_output(present(raw), options, options.max_chars)


def _read_output(raw: Any, options: TelemetryOptions, limit: int) -> Output | None:
    try:
        # Most texts are what people wrote, and no object.
        if isinstance(raw, str) and len(raw) <= limit and raw.lstrip().startswith("{"):
            raw = parse_json(raw)
        elif isinstance(raw, Mapping):
            raw = clean_json(raw)
            if len(canonical_json(raw)) > limit:
                return None
    except ValueError:
        return None
    if not isinstance(raw, dict):
        return None
    target = read_target(raw, options.output)
    return None if target is None else Output(raw, target)


def recency(annotation: Annotation) -> tuple[datetime, str]:
    """Sort key, most recent last: time of update, then the id.

    The server stamps whole seconds; the ids of a snapshot are written so that their order as text
    is the order of creation.
    """
    return annotation.updated_at or datetime.min.replace(tzinfo=UTC), annotation.annotation_id


def _check_shape(span: AnnotatedSpan, options: TelemetryOptions) -> Output | str:
    """The span's own output, or the reason why the span cannot be used."""
    prompt, output = present(span.prompt), present(span.output)
    if (present(span.status_code) or "").strip().upper() == "ERROR":
        return "malformed"
    if not isinstance(prompt, str) or not isinstance(output, str):
        return "malformed"
    # An output too long to be used is still read here: a long text that is no JSON is malformed.
    own = _read_output(output, options, limit=len(output))
    if own is None:
        return "malformed"
    if max(len(prompt), len(output)) > options.max_chars:
        return "too_long"
    if not any(annotation.human for annotation in span.annotations):
        return "not_human"
    if not any(annotation.decides for annotation in span.annotations):
        return "no_verdict"
    return own


def _correction(
    deciding: list[Annotation], options: TelemetryOptions
) -> tuple[Output | None, bool]:
    """The most recent valid correction, and whether one was tried that is no valid output.

    ``deciding`` comes most recent first. The correction key is a statement: if it cannot be read,
    the span's own output is known to be wrong. An explanation is free text that may happen to be
    an output.
    """
    failed = False
    for annotation in deciding:
        stated = present(annotation.metadata.get(options.verdicts.correction_key))
        if stated is not None:
            correction = parse_output(stated, options)
            if correction is not None and _is_known(correction, options):
                return correction, failed
            failed = True
            continue
        correction = parse_output(annotation.explanation, options)
        if correction is not None and _is_known(correction, options):
            return correction, failed
    return None, failed


def _is_known(output: Output, options: TelemetryOptions) -> bool:
    return output.target.is_known(options.output)


def _rejected_texts(rejecting: list[Annotation], options: TelemetryOptions) -> list[Output | str]:
    """Other answers that people rejected, most recent first, each once."""
    texts: dict[str, Output | str] = {}
    for annotation in rejecting:
        raw = present(annotation.metadata.get(options.verdicts.rejected_key))
        parsed = parse_output(raw, options)
        if isinstance(raw, Mapping) and parsed is None:
            raw = canonical_json(raw)
        if parsed is not None:
            texts.setdefault(parsed.canonical, parsed)
        elif isinstance(raw, str) and len(raw) <= options.max_chars:
            text = SURROGATE.sub("\ufffd", raw.strip())
            texts.setdefault(text, text)
    return list(texts.values())


def decide(span: AnnotatedSpan, options: TelemetryOptions) -> Decision:
    """What one span with an approval annotation teaches.

    Args:
        span: The span with all its approval annotations.
        options: Schema, limits and keys.

    Returns:
        A decision with a drop reason, or with an answer and up to one pair per rejected text.
    """
    own = _check_shape(span, options)
    if isinstance(own, str):
        return Decision(drop=own)

    deciding = sorted((a for a in span.annotations if a.decides), key=recency, reverse=True)
    approved = any(annotation.verdict == "approved" for annotation in deciding)
    rejecting = [annotation for annotation in deciding if annotation.verdict == "rejected"]

    correction, failed = _correction(deciding, options)
    if correction is not None:
        if correction.canonical == own.canonical:
            return Decision(drop="identical_pair")
        pairs = (Pair(correction, own),) if rejecting else ()
        return Decision(None, span.prompt, own, correction, "corrected", pairs)
    if failed:
        return Decision(drop="invalid_correction")
    if not approved:
        return Decision(drop="rejected_only", prompt=span.prompt, own=own)

    if rejecting:
        texts = _rejected_texts(rejecting, options)
        if not texts or any(isinstance(t, Output) and t.canonical == own.canonical for t in texts):
            return Decision(drop="identical_pair")
    else:
        texts = []
    if not _is_known(own, options):
        return Decision(drop="unknown_target")
    return Decision(None, span.prompt, own, own, "own", tuple(Pair(own, text) for text in texts))
