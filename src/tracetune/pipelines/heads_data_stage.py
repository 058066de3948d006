"""The first stages of ``heads``: conversations → rows of phase 1, division, turns with targets."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.conversations.heads_options import HeadsDataOptions
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.train_node import for_stage
from tracetune.pipelines.twin_corpus_stage import redact_conversations
from tracetune.records import Conversation, Example
from tracetune.records.heads import HeadExtra, HeadVariant, TrajectoryRow
from tracetune.splits import SplitManifest

Document = dict[str, Any]

VARIANTS: tuple[HeadVariant, ...] = ("causal", "full")
"""Both are trained; ``causal`` is released, because only it is known while somebody talks."""
RELEASED: HeadVariant = "causal"
PARTS = ("turns", "sidecar", "reference")
"""What a variant is made of."""


def make_answers(
    redacted: list[Conversation], heads_data: HeadsDataOptions, tenant: str
) -> list[Example]:
    """Rows of phase 1: every answer as it stands, after what was said before it."""
    from tracetune.conversations.trajectory_rows import tuning_examples

    return [
        row
        for conversation in redacted
        for row in tuning_examples(
            conversation, tenant=tenant, history_chars=heads_data.history_chars
        )
    ]


def divide_conversations(
    examples: list[Example], heads_data: HeadsDataOptions, seed: int
) -> Document:
    """The split manifest: whole conversations, the same for both phases."""
    from tracetune.conversations.heads_sides import divide_answers

    return divide_answers(examples, options=heads_data, seed=seed).model_dump(mode="json")


def make_turns(
    redacted: list[Conversation],
    splits: Document,
    heads_data: HeadsDataOptions,
    *,
    variant: HeadVariant,
) -> tuple[list[TrajectoryRow], list[HeadExtra], Document]:
    """Turns with coordinates and targets.

    Coordinates are measured against the training conversations alone. Conversations in which
    nobody answered are on no side and left out.

    Returns:
        Rows (document 001), what is known beside them, and the reference
        (:class:`tracetune.records.heads.TrajectoryReference`).
    """
    from tracetune.conversations.coordinates import measure, spoken
    from tracetune.conversations.heads_sides import side_of_conversations
    from tracetune.conversations.patterns import RULES_VERSION
    from tracetune.conversations.trajectory_rows import (
        check_extras,
        head_extras,
        people,
        trajectory_rows,
    )

    sides = side_of_conversations(SplitManifest.model_validate(splits))
    talks = {c.group: (c.provider, spoken(c)) for c in redacted if c.group in sides}
    trained = [turns for group, (_, turns) in talks.items() if sides[group] == "train"]
    by_author = len(people(trained)) > 1
    reference = measure(
        trained,
        variant=variant,
        sibling_order=heads_data.sibling_order,
        pattern_rules=RULES_VERSION,
    )
    rows: list[TrajectoryRow] = []
    extras: list[HeadExtra] = []
    for group, (provider, turns) in talks.items():
        rows += trajectory_rows(group, turns, reference)
        extras += head_extras(group, turns, reference, source=provider, by_author=by_author)
    check_extras(rows, extras)
    return rows, extras, reference.model_dump(mode="json")


def describe_corpus(
    redacted: list[Conversation], sidecar: list[HeadExtra], splits: Document
) -> Document:
    """How many conversations and turns there are, who wrote them, and what they show.

    Returns:
        Conversations read and left out, turns by role and by side, calls of tools that are no
        turns, what tells styles apart, and the support of each pattern by side.
    """
    from tracetune.conversations.heads_sides import side_of_conversations
    from tracetune.conversations.patterns import RULES_VERSION, support

    sides = side_of_conversations(SplitManifest.model_validate(splits))
    of_side = {
        side: [extra for extra in sidecar if sides[extra.conversation_id] == side]
        for side in ("train", "validation", "test")
    }
    turns = sum(len(c.path()) for c in redacted if c.group in sides)
    return {
        "conversations": {
            "read": len(redacted),
            "without_an_answer": sum(c.group not in sides for c in redacted),
            **{side: len({e.conversation_id for e in extras}) for side, extras in of_side.items()},
        },
        "turns": {side: len(extras) for side, extras in of_side.items()},
        "calls_of_tools": turns - len(sidecar),
        "roles": dict(Counter(extra.role for extra in sidecar)),
        "style_by": "author"
        if any(extra.style_group != extra.conversation_id for extra in sidecar)
        else "conversation",
        "pattern_rules": RULES_VERSION,
        "support": {
            side: support([extra.patterns for extra in extras]) for side, extras in of_side.items()
        },
    }


def heads_data_stage(pipeline: str) -> Pipeline:
    """``conversations`` → ``examples``, ``splits``, turns of both variants, ``corpus``.

    Args:
        pipeline: Name of the pipeline.
    """
    of_variants = {
        f"{variant}_{what}": f"{pipeline}.{variant}.{what}"
        for variant in VARIANTS
        for what in PARTS
    }
    return Pipeline(
        [
            Node(
                redact_conversations,
                inputs=["conversations", "params:privacy"],
                outputs=["redacted", "privacy"],
                name="redact",
                tags="coordinates",
            ),
            Node(
                make_answers,
                inputs=["redacted", "params:heads_data", "params:tenant"],
                outputs="examples",
                name="make_answers",
                tags="coordinates",
            ),
            Node(
                divide_conversations,
                inputs=["examples", "params:heads_data", "params:seed"],
                outputs="splits",
                name="divide",
                tags="splits",
            ),
            *(
                Node(
                    for_stage(make_turns, variant=variant),
                    inputs=["redacted", "splits", "params:heads_data"],
                    outputs=[f"{variant}_{what}" for what in PARTS],
                    name=f"make_turns_{variant}",
                    tags="coordinates",
                )
                for variant in VARIANTS
            ),
            Node(
                describe_corpus,
                inputs=["redacted", f"{RELEASED}_sidecar", "splits"],
                outputs="corpus",
                name="describe",
                tags="coordinates",
            ),
        ],
        namespace=f"{pipeline}.data",
        inputs={"conversations"},
        outputs={
            **shared(pipeline, "redacted", "privacy", "examples", "splits", "corpus"),
            **of_variants,
        },
        parameters={"privacy", "heads_data", "tenant", "seed"},
    )
