"""What reviewers write instead: checked before it is accepted, as candidates are checked."""

from __future__ import annotations

import json
from typing import Any, Literal

from tracetune.errors import DataError
from tracetune.outputs import OutputSpec, Target, parse_json, read_target, text_target
from tracetune.privacy import count_in_json, find
from tracetune.records import Message, ReviewItem
from tracetune.review.items import Correction, ReviewSpec
from tracetune.review.texts import has_controls, request_of, words_of

Part = Literal["request", "answer", "rejected"]


class CorrectionError(DataError):
    """A correction that cannot be taken.

    Args:
        part: What is wrong with it: the request, the answer or the worse answer.
        what: Why.
        where: The candidate.
        remedy: What to do.
    """

    def __init__(self, part: Part, what: str, *, where: str, remedy: str) -> None:
        self.part: Part = part
        super().__init__(what, where=where, remedy=remedy)


def check_correction(
    item: ReviewItem, correction: Correction | None, spec: ReviewSpec
) -> Correction | None:
    """The correction as it is kept: parts that change nothing become None, JSON becomes compact.

    Args:
        item: The candidate as it was written.
        correction: What the reviewer wrote.
        spec: What answers look like.

    Returns:
        None if nothing changes.

    Raises:
        CorrectionError: If a part is blank, too long, holds control characters, secrets or
            personal data, is no answer of the agent, or names something that does not exist; or if
            the two answers of a pair say the same.
    """
    if correction is None:
        return None
    request = _changed(correction.request, request_of(item))
    answer = _changed(correction.answer, words_of(item.answer))
    rejected = _changed(correction.rejected, words_of(item.rejected or []))
    if request is not None:
        request = request.strip()
        _check_text("request", request, item, spec)
    if answer is not None:
        answer = _checked_answer("answer", answer, item, spec)
    if rejected is not None:
        if item.rejected is None:
            raise CorrectionError(
                "rejected",
                "this candidate is no pair, it has no worse answer",
                where=item.id,
                remedy="leave the worse answer empty",
            )
        rejected = _checked_answer("rejected", rejected, item, spec)
    found = Correction(
        request=request,
        answer=_changed(answer, words_of(item.answer)),
        rejected=_changed(rejected, words_of(item.rejected or [])),
    )
    if found == Correction():
        return None
    _check_pair(item, found, spec)
    return found


def corrected(item: ReviewItem, correction: Correction | None, spec: ReviewSpec) -> ReviewItem:
    """The candidate with a checked correction in it; ``target`` of its tags follows the answer."""
    if correction is None:
        return item
    changed: dict[str, Any] = {}
    if correction.request is not None:
        last = Message(role="user", content=correction.request)
        changed["prompt"] = [*item.prompt[:-1], last]
    if correction.answer is not None:
        changed["answer"] = [Message(role="assistant", content=correction.answer)]
        target = read_answer(correction.answer, spec.output)
        label = target.label if target is not None else correction.answer
        changed["tags"] = {**item.tags, "target": label}
    if correction.rejected is not None:
        changed["rejected"] = [Message(role="assistant", content=correction.rejected)]
    fields = {name: getattr(item, name) for name in ReviewItem.model_fields}
    return ReviewItem(**{**fields, **changed})


def difference(item: ReviewItem, final: ReviewItem) -> Correction | None:
    """The correction that makes ``final`` out of ``item``; None if they are the same."""
    if item == final:
        return None
    answer, rejected = words_of(final.answer), words_of(final.rejected or [])
    return Correction(
        request=request_of(final) if request_of(final) != request_of(item) else None,
        answer=answer if answer != words_of(item.answer) else None,
        rejected=rejected if rejected != words_of(item.rejected or []) else None,
    )


def read_answer(text: str, output: OutputSpec) -> Target | None:
    """What an answer names; None if it is no answer of the agent."""
    if output.compare == "text":
        return text_target(text) if text.strip() else None
    value = _json_object(text)
    return None if value is None else read_target(value, output)


def _changed(text: str | None, before: str) -> str | None:
    return None if text is None or text.strip() == before.strip() else text


def _check_text(part: Part, text: str, item: ReviewItem, spec: ReviewSpec) -> None:
    names = {"request": "the request", "answer": "the answer", "rejected": "the worse answer"}
    what, remedy = "", ""
    if not text.strip():
        what, remedy = "is blank", "write one, or reject the candidate"
    elif len(text) > spec.max_chars:
        what = f"has {len(text)} characters, at most {spec.max_chars} are allowed"
        remedy = "shorten it"
    elif has_controls(text):
        what = "holds control characters"
        remedy = "take them out"
    else:
        value = _json_object(text)
        kinds = {finding.kind for finding in find(text)} | set(count_in_json(value or {}))
        if kinds:
            what = f"holds what looks like {', '.join(sorted(kinds))}"
            remedy = "write placeholders such as <EMAIL> instead"
    if what:
        raise CorrectionError(part, f"{names[part]} {what}", where=item.id, remedy=remedy)


def _checked_answer(part: Part, text: str, item: ReviewItem, spec: ReviewSpec) -> str:
    """The answer in the form in which rows hold it."""
    text = text.strip()
    _check_text(part, text, item, spec)
    name = "the answer" if part == "answer" else "the worse answer"
    fields = " or ".join(spec.output.target)
    target = read_answer(text, spec.output)
    if target is None:
        kind = {
            "exact": "one name",
            "set": "a list of names",
            "entities": "a list of objects with text and type",
            "text": "words",
        }[spec.output.compare]
        raise CorrectionError(
            part,
            f"{name} is not a JSON object whose field {fields} holds {kind}",
            where=item.id,
            remedy=f"write it as {words_of(item.answer)}",
        )
    # A worse answer may name what does not exist: that is one way to be worse.
    if part == "answer" and not target.is_known(spec.output):
        unknown = sorted(set(target.names) - set(spec.output.known))
        raise CorrectionError(
            part,
            f"{name} names {', '.join(unknown)}, which does not exist",
            where=item.id,
            remedy=f"known are {', '.join(spec.output.known)}",
        )
    value = _json_object(text)
    if spec.output.compare == "text" or value is None:
        return text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _check_pair(item: ReviewItem, correction: Correction, spec: ReviewSpec) -> None:
    final = correction.rejected or (words_of(item.rejected) if item.rejected is not None else None)
    answer = correction.answer or words_of(item.answer)
    if final is None:
        return
    better, worse = read_answer(answer, spec.output), read_answer(final, spec.output)
    if better is not None and worse is not None and better.items == worse.items:
        raise CorrectionError(
            "rejected" if correction.rejected is not None else "answer",
            "the answer and the worse answer say the same",
            where=item.id,
            remedy="change one of them, or reject the candidate",
        )


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
