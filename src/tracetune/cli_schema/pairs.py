"""Preference pairs: the right answer against what a model answers, or against a near miss."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tracetune.cli_schema.corrupt import KINDS, corrupt
from tracetune.cli_schema.objects import (
    AnswerError,
    Object,
    answer_text,
    parse_answer,
    problems,
    same,
)
from tracetune.cli_schema.options import CliPairOptions
from tracetune.cli_schema.rows import object_of
from tracetune.cli_schema.schema import CliSchema
from tracetune.errors import DataError
from tracetune.files import sha256_json
from tracetune.records import Example, Message, Preference, Record, make_preference

WRONG: dict[str, str] = {
    "not_json": "the model's answer is no JSON object",
    "invalid": "the model's answer breaks the schema",
    "different": "the model's answer is valid and another one",
}
"""What is wrong with an answer of a model."""


class PairReport(Record):
    """What pairs were made of.

    Attributes:
        asked: Rows that the model answered.
        right: Of those, answers that are right.
        pairs: Pairs.
        by_reason: Pairs by what is wrong with the worse answer.
        left_out: Rows without a pair: answered rightly, and no near miss was wanted.
    """

    asked: int
    right: int
    pairs: int
    by_reason: dict[str, int] = Field(default_factory=dict)
    left_out: int


def wrong_answer(schema: CliSchema, expected: Object, answer: str) -> str | None:
    """Why an answer is wrong: ``not_json``, ``invalid`` or ``different``; None if it is right."""
    try:
        found = parse_answer(answer)
    except AnswerError:
        return "not_json"
    if problems(schema, found):
        return "invalid"
    return None if same(schema, found, expected) else "different"


def make_pairs(
    schema: CliSchema,
    rows: Sequence[Example],
    answers: Sequence[str],
    *,
    options: CliPairOptions,
    seed: int,
) -> tuple[list[Preference], PairReport]:
    """Pairs from training rows and what a model answered to them.

    What the model got wrong comes first. Near misses, for rows that it got right, are at most
    ``corruption_share`` of all pairs. The two sides of a pair never mean the same.

    Args:
        schema: The program.
        rows: Rows for training; never held-out ones.
        answers: The model's answer to each row.
        options: Number and share.
        seed: Which rows are taken and which near misses are made.

    Raises:
        DataError: There is not one answer per row, or the answer of a row is not valid.
    """
    if len(rows) != len(answers):
        raise DataError(f"{len(answers)} answers to {len(rows)} rows", where="preferences")
    order = sorted(
        zip(rows, answers, strict=True), key=lambda pair: sha256_json([seed, pair[0].id])
    )
    wrong: list[tuple[Example, str, str]] = []
    right: list[Example] = []
    for row, answer in order:
        reason = wrong_answer(schema, _expected(schema, row), answer)
        if reason is None:
            right.append(row)
        elif answer.strip():
            wrong.append((row, answer, reason))
        else:
            # A blank turn cannot be trained on; a near miss stands for it.
            right.append(row)
    real = wrong[: options.num_pairs]
    room = min(options.num_pairs - len(real), _most_near_misses(len(real), options))
    pairs = [_pair(row, answer, reason) for row, answer, reason in real]
    for row in right:
        if len(pairs) - len(real) >= room:
            break
        draw = random.Random(sha256_json([seed, row.id, "corrupt"]))
        found = corrupt(schema, _expected(schema, row), draw)
        if found is not None:
            pairs.append(_pair(row, answer_text(found.value), found.kind))
    reasons = Counter(pair.tags["rejected"] for pair in pairs)
    names = [*WRONG, *KINDS]
    right_count = sum(
        wrong_answer(schema, _expected(schema, row), answer) is None for row, answer in order
    )
    return pairs, PairReport(
        asked=len(rows),
        right=right_count,
        pairs=len(pairs),
        by_reason={name: reasons[name] for name in names if reasons[name]},
        left_out=len(rows) - len(pairs),
    )


def _most_near_misses(real: int, options: CliPairOptions) -> int:
    """So many that their share of all pairs is not passed."""
    share = options.corruption_share
    if share >= 1:
        return options.num_pairs
    return int(real * share / (1 - share) + 1e-9)


def _expected(schema: CliSchema, row: Example) -> Object:
    try:
        found = object_of(row)
    except AnswerError as error:
        raise DataError(f"the answer of the row is {error}", where=f"row {row.id}") from None
    wrong = problems(schema, found)
    if wrong:
        raise DataError(
            f"the answer of the row is not valid: {wrong[0].path}: {wrong[0].message}",
            where=f"row {row.id}",
            remedy="the schema was changed after the rows were made; generate them anew",
        )
    return found


def _pair(row: Example, rejected: str, reason: str) -> Preference:
    origin: dict[str, Any] = {
        "source": row.provenance.source,
        "tenant": row.provenance.tenant,
        "ids": {**row.provenance.ids, "row": row.id},
        "group": row.provenance.group,
        "created_at": row.provenance.created_at,
    }
    return make_preference(
        prompt=row.prompt,
        chosen=row.completion,
        rejected=[Message(role="assistant", content=rejected)],
        tags={**row.tags, "rejected": reason},
        **origin,
    )
