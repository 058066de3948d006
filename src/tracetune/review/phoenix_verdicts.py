"""What a reviewer said of a candidate with annotations in Phoenix."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tracetune.privacy import redact, safe_id
from tracetune.records import ReviewItem
from tracetune.review.corrections import check_correction, difference, read_answer
from tracetune.review.items import Correction, ReviewedItem, ReviewSpec
from tracetune.review.options import ReviewOptions

WITHOUT_REASON = "rejected without a reason"
NOBODY = "phoenix"
"""Who decided where the server does not say: without sign-in it knows nobody."""

_APPROVED_FROM = 0.5


@dataclass(frozen=True)
class Verdict:
    """What the annotation that decides says.

    Attributes:
        state: Approved or rejected; a correction approves.
        who: The reviewer.
        at: When it was given, as ISO text.
        why: Words.
        correction: What the answer should have been.
    """

    state: Literal["approved", "rejected"]
    who: str
    at: str
    why: str
    correction: Correction | None

    def is_of(self, shown: ReviewedItem) -> bool:
        """Whether the candidate has this very correction."""
        return difference(shown.item, shown.final) == self.correction


def read_verdict(
    item: ReviewItem,
    annotations: Iterable[Mapping[str, Any]],
    options: ReviewOptions,
    spec: ReviewSpec,
) -> Verdict | None:
    """The verdict of the most recent annotation that a person gave; None if there is none.

    A label wins over a score. ``metadata.corrected_output`` is the answer that the candidate should
    have had, and so is an explanation that is itself an answer of the agent: such a candidate is
    approved in its corrected form, whatever the label says, as for telemetry.

    Args:
        item: The candidate.
        annotations: Annotations of its span, as the REST interface gives them.
        options: Names, labels and correction key.
        spec: What answers look like.

    Raises:
        CorrectionError: If the correction cannot be taken.
    """
    found = [
        (annotation, state)
        for annotation in annotations
        if annotation["name"] in options.names and annotation["annotator_kind"] == "HUMAN"
        for state in [_state(annotation.get("result") or {}, options)]
        if state is not None
    ]
    if not found:
        return None
    annotation, state = max(found, key=lambda pair: _recency(pair[0]))
    words = str((annotation.get("result") or {}).get("explanation") or "").strip()
    text = _corrected_text(annotation, options)
    if text is None and _is_answer(words, spec):
        text, words = words, ""
    correction = check_correction(item, Correction(answer=text) if text else None, spec)
    if correction is not None:
        state = "approved"
    if state == "rejected" and not words:
        words = WITHOUT_REASON
    who = annotation.get("identifier") or annotation.get("user_id")
    return Verdict(
        state=state,
        who=safe_id(str(who)) if who else NOBODY,
        at=_updated(annotation).isoformat(),
        why=redact(words),
        correction=correction,
    )


def _state(
    result: Mapping[str, Any], options: ReviewOptions
) -> Literal["approved", "rejected"] | None:
    label = str(result.get("label") or "").strip().lower()
    if label == options.approved_label:
        return "approved"
    if label == options.rejected_label:
        return "rejected"
    score = result.get("score")
    if label or score is None:
        return None
    return "approved" if score >= _APPROVED_FROM else "rejected"


def _corrected_text(annotation: Mapping[str, Any], options: ReviewOptions) -> str | None:
    stated = (annotation.get("metadata") or {}).get(options.correction_key)
    if stated is None or stated == "":
        return None
    return stated if isinstance(stated, str) else json.dumps(stated, ensure_ascii=False)


def _is_answer(words: str, spec: ReviewSpec) -> bool:
    """Whether words are an answer of the agent; where answers are plain text, none are."""
    if spec.output.compare == "text":
        return False
    target = read_answer(words, spec.output)
    return target is not None and target.is_known(spec.output)


def _updated(annotation: Mapping[str, Any]) -> datetime:
    moment = datetime.fromisoformat(annotation["updated_at"])
    # Without a zone it is UTC already.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _recency(annotation: Mapping[str, Any]) -> tuple[datetime, int]:
    """Time of the last change, then the number in the server's id: it keeps whole seconds only."""
    try:
        number = int(base64.b64decode(annotation["id"], validate=True).decode().split(":")[1])
    except (ValueError, IndexError):
        number = 0
    return _updated(annotation), number
