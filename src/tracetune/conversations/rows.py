"""CTv3.1 records → rows for training and held-out judgement, with provenance.

Only gold turns are taught; weights are kept; what a reviewer rejected or what weighs nothing is
left out. All records of a conversation share its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracetune.conversations.exchanges import with_attachments
from tracetune.errors import DataError
from tracetune.records import (
    Example,
    Message,
    Preference,
    Rating,
    make_example,
    make_preference,
    make_rating,
)
from tracetune.records.ctv3 import (
    Ctv3Attachment,
    Ctv3Extra,
    DpoPair,
    EvalCase,
    SftTurn,
    check_extras,
)

SOURCE = "conversations"


def examples_of(
    records: Iterable[SftTurn], extras: Sequence[Ctv3Extra], *, tenant: str
) -> list[Example]:
    """Rows of the gold turns, in order.

    Raises:
        DataError: A record has no extra.
    """
    chosen = [r for r in records if r.quality.gold and _counts(r)]
    known = _extras(chosen, extras)
    rows = []
    for record in chosen:
        prompt, before = _prompt(record)
        said = Message(role="assistant", content=record.target.assistant_content)
        rows.append(
            make_example(
                prompt=prompt,
                completion=[*before, said],
                tags=_tags(record, known),
                **_origin(record, known, tenant),
            )
        )
    return rows


def preferences_of(
    records: Iterable[DpoPair], extras: Sequence[Ctv3Extra], *, tenant: str
) -> list[Preference]:
    """Rows of the pairs, in order; calls of tools before the answer belong to both sides.

    Raises:
        DataError: A record has no extra.
    """
    chosen = [r for r in records if _counts(r)]
    known = _extras(chosen, extras)
    rows = []
    for record in chosen:
        prompt, before = _prompt(record)
        better, worse = record.candidates.preferred, record.candidates.dispreferred
        rows.append(
            make_preference(
                prompt=prompt,
                chosen=[*before, Message(role="assistant", content=better.assistant_content)],
                rejected=[*before, Message(role="assistant", content=worse.assistant_content)],
                tags={**_tags(record, known), "dpo_reason": record.tags.dpo_reason or ""},
                **_origin(record, known, tenant),
            )
        )
    return rows


def ratings_of(
    records: Iterable[EvalCase], extras: Sequence[Ctv3Extra], *, tenant: str
) -> list[Rating]:
    """Evaluation cases as rows for the split: the request, and the answer that failed.

    They are not trained on; :func:`cases_of` finds the cases of one side again.

    Raises:
        DataError: A record has no extra, or the extra has no answer that failed.
    """
    chosen = [r for r in records if r.quality.review_status != "rejected"]
    known = _extras(chosen, extras)
    rows = []
    for record in chosen:
        failed = known[record.record_id].observed
        if failed is None:
            raise DataError(
                "the extra of an evaluation case holds no answer that failed",
                where=f"record {record.record_id}",
                remedy="build the records anew",
            )
        prompt, before = _prompt(record)
        origin = {**_origin(record, known, tenant), "weight": 1.0}
        rows.append(
            make_rating(
                prompt=prompt,
                completion=[*before, Message(role="assistant", content=failed)],
                good=False,
                tags={"rule": known[record.record_id].rule},
                **origin,
            )
        )
    return rows


def cases_of(records: Iterable[EvalCase], rows: Iterable[Rating]) -> list[EvalCase]:
    """The evaluation cases whose rows are given, in the order of the records."""
    wanted = {row.provenance.ids["record_id"] for row in rows}
    return [record for record in records if record.record_id in wanted]


def prompt_of(record: SftTurn | DpoPair | EvalCase) -> list[Message]:
    """What a model is shown of a record: the conversation with its attachments."""
    return _inlined(record.input.messages, record.input.attachments)


def _counts(record: SftTurn | DpoPair) -> bool:
    return record.quality.weight > 0 and record.quality.review_status != "rejected"


def _extras(
    records: Sequence[SftTurn | DpoPair | EvalCase], extras: Sequence[Ctv3Extra]
) -> dict[str, Ctv3Extra]:
    try:
        return check_extras(records, extras)
    except ValueError as error:
        raise DataError(
            str(error),
            where="extras of CTv3.1 records",
            remedy="records and extras come from different runs; build both anew",
        ) from None


def _prompt(record: SftTurn | DpoPair | EvalCase) -> tuple[list[Message], list[Message]]:
    """The conversation up to the last user turn, and the calls of tools after it.

    A result without a call (what a service looked up by itself) is shown before the request, since
    a completion starts with the assistant.
    """
    messages = prompt_of(record)
    last = max(n for n, message in enumerate(messages) if message.role == "user")
    after = messages[last + 1 :]
    start = next((n for n, said in enumerate(after) if said.role == "assistant"), len(after))
    return [*messages[:last], *after[:start], messages[last]], after[start:]


def _inlined(messages: Sequence[Message], attachments: Sequence[Ctv3Attachment]) -> list[Message]:
    """Messages with the attachments after the last user turn's text."""
    if not attachments:
        return list(messages)
    last = max(n for n, message in enumerate(messages) if message.role == "user")
    files = [(file.path or file.type, file.content) for file in attachments]
    named = ", ".join(name for name, _ in files)
    text = messages[last].content
    text = with_attachments("" if text == f"[{named}]" else text, files)
    return [
        *messages[:last],
        Message(role="user", content=text),
        *messages[last + 1 :],
    ]


def _origin(
    record: SftTurn | DpoPair | EvalCase, known: Mapping[str, Ctv3Extra], tenant: str
) -> dict[str, Any]:
    extra = known[record.record_id]
    return {
        "source": SOURCE,
        "tenant": tenant,
        "ids": {
            "conversation_id": extra.conversation,
            "turn": extra.turn,
            "record_id": record.record_id,
        },
        "group": extra.conversation,
        "created_at": record.source.created_at_utc,
        "weight": record.quality.weight,
    }


def _tags(record: SftTurn | DpoPair, known: Mapping[str, Ctv3Extra]) -> dict[str, str]:
    return {
        "task_type": record.tags.task_type,
        "prompt_class": record.tags.prompt_class,
        "question_policy": record.context.policy.question_policy,
        "origin": record.source.origin,
        "rule": known[record.record_id].rule,
    }
