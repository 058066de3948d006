"""Trajectories as training rows: the prompt of a variant, and an expression as its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tracetune.eisv.expression import ExpressionGenerator
from tracetune.eisv.prompt import Variant, answer_messages, prompt_messages, tagged_text
from tracetune.eisv.vocabulary import EISV_TOKENS, LUMEN_PRIMITIVES, translate
from tracetune.eisv.windows import window_of
from tracetune.files import sha256_json
from tracetune.records import EisvExpression, EisvTrajectory, Example, make_example


def label_of(row: EisvTrajectory, seed: int) -> EisvExpression:
    """The expression that the rules draw for a trajectory.

    It depends on the seed, the trajectory and nothing else: not on the variant, so that all
    teachers learn the same answers, and not on what other rows there are.
    """
    own = int(sha256_json([seed, row.id])[:16], 16)
    drawn = ExpressionGenerator(own).generate(row.shape)
    return EisvExpression.model_validate(
        {
            "tokens": list(drawn.tokens),
            "pattern": drawn.pattern,
            "pattern_source": "drawn",
            "lumen": list(drawn.lumen),
        }
    )


def examples_of(
    rows: Sequence[EisvTrajectory],
    *,
    variant: Variant,
    seed: int,
    measured_expressions: bool = False,
) -> tuple[list[Example], dict[str, Any]]:
    """Training rows of one variant, in the order of the trajectories.

    Args:
        rows: Trajectories.
        variant: What the prompt shows.
        seed: Of the drawn expressions.
        measured_expressions: Answer with what was expressed in a window while it was measured,
            where its EISV tokens are known; the last one of several. Everything else, and without
            this everything, is drawn by the rules.

    Returns:
        The rows, and the report: ``examples``, ``labels`` by source (drawn, measured), and
        ``not_used`` (measured windows whose expressions have no EISV tokens or unknown ones).
    """
    examples, labels, not_used = [], Counter[str](), 0
    for row in rows:
        said = _measured(row) if measured_expressions else None
        labels["measured" if said else "drawn"] += 1
        not_used += measured_expressions and bool(row.expressions) and said is None
        examples.append(_example(row, said or label_of(row, seed), variant))
    return examples, {
        "variant": variant,
        "examples": len(examples),
        "labels": dict(sorted(labels.items())),
        "not_used": not_used,
    }


def _measured(row: EisvTrajectory) -> EisvExpression | None:
    """The last expression of a window that can be an answer: its tokens and primitives are known.

    Primitives that were not recorded are translated.
    """
    for said in reversed(row.expressions):
        lumen = said.lumen or translate(said.tokens)
        known = set(said.tokens) <= set(EISV_TOKENS) and set(lumen) <= set(LUMEN_PRIMITIVES)
        if said.tokens and known:
            return said.model_copy(update={"lumen": lumen})
    return None


def _example(row: EisvTrajectory, said: EisvExpression, variant: Variant) -> Example:
    origin = row.provenance
    return make_example(
        prompt=prompt_messages(window_of(row), row.shape, variant),
        completion=answer_messages(said.tokens, said.lumen, said.pattern),
        tags={
            **row.tags,
            "pattern": said.pattern,
            "pattern_source": said.pattern_source,
            "variant": variant,
        },
        source=origin.source,
        tenant=origin.tenant,
        ids={**origin.ids, "trajectory": row.id},
        group=origin.group,
        created_at=origin.created_at,
        weight=origin.weight,
    )


def text_row(row: Example) -> dict[str, Any]:
    """A row in the text format of document 004, Task 3: text, shape, pattern and messages."""
    messages = [*row.prompt, *row.completion]
    return {
        "text": tagged_text(messages),
        "shape": row.tags["shape"],
        "pattern": row.tags["pattern"],
        "messages": [message.model_dump() for message in messages],
    }


def spread_groups(rows: Sequence[Example] | Sequence[EisvTrajectory]) -> list[str]:
    """The group of each row for intervals: neighbours that share states, in pairs.

    Measured windows are walked in the order of time; a group takes those that begin before its
    first window ends. Where windows overlap by half these are two windows each, and the second of
    a pair shares states with the first of the next. So intervals are wider than over single windows
    and still somewhat too narrow. Whole stretches would be groups without that fault, but a test
    side has few of them: six of the sample, one or two of an unbroken recording. A generated
    trajectory is a group of its own.

    Args:
        rows: With the provenance that trajectories have.
    """
    spans = []
    names = [row.provenance.group for row in rows]
    for i, row in enumerate(rows):
        ids = row.provenance.ids
        if "t_start" in ids:
            spans.append((ids["series"], float(ids["t_start"]), float(ids["t_end"]), i))
    series, end, name = "", 0.0, ""
    for found, start, stop, i in sorted(spans):
        if found != series or start > end:
            series, end, name = found, stop, names[i]
        names[i] = name
    return names
