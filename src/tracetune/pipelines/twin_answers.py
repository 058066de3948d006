"""What models answer to the cases and held-out prompts of ``twin``, as one table with scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracetune.conversations.ab_options import TwinEvaluationOptions
from tracetune.conversations.regression import CUT, NamedCase, failures_of
from tracetune.conversations.scores import (
    Expectation,
    Score,
    ab_score,
    content_score,
    expectation_of,
    format_score,
    policy_score,
)
from tracetune.records import Example, Message, Preference
from tracetune.records.ctv3 import SftTurn

if TYPE_CHECKING:
    from pandas import DataFrame

    from tracetune.evaluation.asked import Asked
    from tracetune.evaluation.generate import Answer
else:
    DataFrame = Any

logger = logging.getLogger("tracetune")

Document = dict[str, Any]

PARTS = {
    "policy": ("no_permission", "no_question_end", "no_options", "no_stalling"),
    "format": ("bullets", "numbered", "json", "no_omit"),
    "content": ("completeness", "correctness", "code", "relevance"),
}
"""Scores and their parts, as the table and the metrics name them: ``policy_no_options``."""

CANNED = "canned"
CANNED_ANSWER = "Done. I made the change exactly as you described it, and nothing is left to do."
"""An answer that stalls nowhere and does nothing: what policy scores alone are worth."""

COLUMNS: dict[str, str] = {
    "kind": "string",
    "row_id": "string",
    "group": "string",
    "category": "string",
    "priority": "string",
    "model": "string",
    "prompt": "string",
    "target": "string",
    "answer_text": "string",
    "finish": "string",
    "tokens": "int64",
    "confidence": "double",
    "reference_nats": "double",
    "passed": "bool",
    "failures": "string",
    "policy": "double",
    "format": "double",
    "content": "double",
    "heuristic": "double",
    "heuristic_open": "double",
    "agreement": "double",
    **{f"{score}_{part}": "double" for score, parts in PARTS.items() for part in parts},
}
"""One row per (case or held-out prompt, model).

``kind`` is ``suite`` (named cases), ``corpus`` (evaluation cases of held-out conversations) or
``prompt`` (held-out prompts). ``answer_text`` is null where a prompt did not fit the model.
``passed`` and ``failures`` are of cases, ``target`` (what was answered in the conversation),
``reference_nats`` and ``agreement`` (F1 of the words of answer and target) of held-out prompts.
``heuristic`` is document 000's score of the A/B comparison, ``heuristic_open`` the same without
what the end of an answer decides. Of an answer that was cut (``finish`` is ``length``) the end is
not measured: it has no ``heuristic`` and no ``policy_no_question_end``, and a case has failed.
"""


@dataclass(frozen=True)
class Question:
    """One thing that all models are asked.

    Attributes:
        kind: ``suite``, ``corpus`` or ``prompt``.
        row_id: Name of the case, or id of the held-out row.
        group: Its conversation; of a named case its name.
        prompt: What a model is shown.
        expected: What is expected of the answer.
        case: The case, of a case.
        row: The held-out row, of a held-out prompt.
    """

    kind: str
    row_id: str
    group: str
    prompt: list[Message]
    expected: Expectation
    case: NamedCase | None = None
    row: Example | None = None

    @property
    def target(self) -> str | None:
        """The answer of the conversation; None for a case."""
        return None if self.row is None else self.row.completion[-1].content


def questions_of(
    named: Sequence[NamedCase],
    corpus: Sequence[NamedCase],
    groups: Mapping[str, str],
    test: Sequence[Example],
    records: Sequence[SftTurn],
) -> list[Question]:
    """Everything that is asked, in the order of the table.

    Args:
        named: The named cases.
        corpus: Evaluation cases of held-out conversations.
        groups: Name of a corpus case → its conversation.
        test: Held-out rows.
        records: Records of the rows; they say what is expected of an answer.
    """
    from tracetune.conversations.rows import prompt_of

    found = [
        Question(
            kind=kind,
            row_id=case.name,
            group=groups.get(case.name, case.name),
            prompt=prompt_of(case.case),
            expected=expectation_of(case.case),
            case=case,
        )
        for kind, cases in (("suite", named), ("corpus", corpus))
        for case in cases
    ]
    known = {record.record_id: record for record in records}
    found += [
        Question(
            kind="prompt",
            row_id=row.id,
            group=row.provenance.group,
            # Calls of tools before the answer are shown: the answer was given after them.
            prompt=[*row.prompt, *row.completion[:-1]],
            expected=expectation_of(known[row.provenance.ids["record_id"]]),
            row=row,
        )
        for row in test
    ]
    return found


def answer_all(
    generator: Asked,
    models: Sequence[str],
    questions: Sequence[Question],
    train: Sequence[Example],
    options: TwinEvaluationOptions,
) -> DataFrame:
    """The table of answers: models, and two cheap baselines that know no model.

    Args:
        generator: The base model with its adapters.
        models: Who answers.
        questions: What is asked.
        train: Training rows; the nearest neighbour answers with one of them.
        options: Sizes.
    """
    from tracetune.evaluation.likelihood import reference_nats

    held_out = [one.row for one in questions if one.row is not None]
    rows = []
    for model in models:
        logger.info("%s answers %d cases and prompts", model, len(questions))
        given = generator.answers(
            model,
            [one.prompt for one in questions],
            max_new_tokens=options.max_new_tokens,
            batch_size=options.batch_size,
        )
        nats = iter(reference_nats(generator, model, held_out, batch_size=options.batch_size))
        rows += [
            table_row(one, model, answer, next(nats) if one.row is not None else None)
            for one, answer in zip(questions, given, strict=True)
        ]
    for model, texts in cheap_answers(questions, train).items():
        rows += [
            table_row(one, model, answer, None)
            for one, answer in zip(questions, texts, strict=True)
        ]
    return frame(rows)


def cheap_answers(
    questions: Sequence[Question], train: Sequence[Example]
) -> dict[str, list[Answer]]:
    """Answers of the cheap baselines; without a training row there is no neighbour."""
    from tracetune.evaluation.baselines import NearestNeighbour
    from tracetune.evaluation.generate import Answer
    from tracetune.outputs import OutputSpec

    canned = Answer(CANNED_ANSWER, tokens=0, confidence=None)
    found = {CANNED: [canned for _ in questions]}
    if train:
        # What answers a request is the last turn, not the call of a tool before it.
        taught = [row.model_copy(update={"completion": row.completion[-1:]}) for row in train]
        nearest = NearestNeighbour(taught, OutputSpec(compare="text"))
        requests = [[m for m in one.prompt if m.role == "user"] for one in questions]
        found = {NearestNeighbour.name: nearest.answers(requests), **found}
    return found


def table_row(one: Question, model: str, answer: Answer, nats: float | None) -> Document:
    """One answer with its scores as a row of the table."""
    text = None if answer.finish == "too_long" else answer.text
    cut = answer.finish == "length"
    case = one.case
    row: Document = {
        "kind": one.kind,
        "row_id": one.row_id,
        "group": one.group,
        "category": case.category if case else None,
        "priority": case.priority if case else None,
        "model": model,
        "prompt": next(m.content for m in reversed(one.prompt) if m.role == "user"),
        "target": one.target,
        "answer_text": text,
        "finish": answer.finish,
        "tokens": answer.tokens,
        "confidence": answer.confidence,
        "reference_nats": nats,
        "passed": None,
        "failures": None,
        "agreement": None,
    }
    if case is not None:
        failures = (
            ["there is no answer"] if text is None else failures_of(text, case.case.checks)[0]
        )
        failures = [*([CUT] if cut else []), *failures]
        row |= {"passed": not failures, "failures": "; ".join(failures)}
    if text is None:
        return row
    if one.target is not None:
        row["agreement"] = agreement(text, one.target)
    return row | scores_of(text, one.expected, cut=cut)


def scores_of(text: str, expected: Expectation, *, cut: bool = False) -> Document:
    """Policy, format and content with their parts, and the heuristic of the A/B comparison."""
    found: dict[str, Score] = {
        "policy": policy_score(text, expected, cut=cut),
        "format": format_score(text, expected),
        "content": content_score(text, expected),
    }
    parts = {f"{n}_{part}": score.parts[part] for n, score in found.items() for part in PARTS[n]}
    values = {name: score.value for name, score in found.items()}
    return {
        **values,
        **parts,
        "heuristic": None if cut else ab_score(text, expected).value,
        "heuristic_open": ab_score(text, expected, cut=True).value,
    }


def agreement(answer: str, target: str) -> float:
    """F1 of the words of an answer and of what was answered in the conversation."""
    from tracetune.outputs import OutputSpec, score, text_target

    return score(text_target(answer), text_target(target), OutputSpec(compare="text"))


def pair_rewards(
    generator: Asked, pairs: Sequence[Preference], spec: Document, batch_size: int
) -> list[Document]:
    """Rewards of held-out pairs, as :class:`tracetune.evaluation.judge.Predictions` has them.

    A pair that does not fit the model is left out: training has its own rule for long rows, and
    nothing that is only measured should end a run. A hosted model shows no probabilities, so it
    has no rewards.

    Args:
        generator: The model with its adapters.
        pairs: Held-out pairs.
        spec: ``reference`` and ``beta`` of the DPO training.
        batch_size: Pairs scored at once.
    """
    from tracetune.evaluation.hosted import HostedGenerator
    from tracetune.evaluation.rewards import divided_ids, preference_scores

    if not pairs or isinstance(generator, HostedGenerator):
        return []

    def fits(pair: Preference) -> bool:
        sides = (
            divided_ids(generator.tokenizer, pair.prompt, answer, pair.id)
            for answer in (pair.chosen, pair.rejected)
        )
        most = generator.context
        return most is None or all(len(start) + len(rest) <= most for start, rest in sides)

    scores = preference_scores(
        generator,
        [pair for pair in pairs if fits(pair)],
        policy="dpo",
        reference=spec["reference"],
        beta=spec["beta"],
        batch_size=batch_size,
    )
    return [
        {
            "row_id": score.row_id,
            "group": score.group,
            "policy": "dpo",
            **spec,
            "chosen_reward": score.chosen,
            "rejected_reward": score.rejected,
        }
        for score in scores
    ]


def frame(rows: Sequence[Document]) -> DataFrame:
    """A data frame with exactly the columns and types of :data:`COLUMNS`, also without rows."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "bool": pa.bool_(),
        "double": pa.float64(),
        "int64": pa.int64(),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    return pa.Table.from_pylist(list(rows), schema=schema).to_pandas()
