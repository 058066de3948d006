"""The judgement of heads as a whole: three heads, gates, both variants, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracetune.evaluation import heads_patterns, heads_planning, heads_style
from tracetune.evaluation.gate import Check, Gate, unjudged
from tracetune.evaluation.heads_held import (
    FULL,
    HEADS,
    OFF,
    SHUFFLED,
    Draws,
    Outputs,
    Turns,
    interval,
)
from tracetune.evaluation.heads_options import HeadsEvaluationOptions
from tracetune.records.heads import PHASES, TrajectoryRow

NOT_SHOWN = (
    "Patterns are judged against rules on the words of a turn, which the head was trained to "
    "imitate. How far the rules agree with a person's reading stands in docs/heads.md; F1 here "
    "says nothing of it.",
    "With one author, style means: turns of the same conversation. Such turns share their topic "
    "and were read with the same turns before them: recall says more of topic than of style.",
    "The plan is a vector near the next turns, not a text. A cosine is high without any knowledge; "
    "only the distance to the baselines counts.",
    "Intervals draw held-out conversations. They do not show how another training run, another "
    "division or other people's conversations would do.",
    "Rare patterns have a handful of held-out turns: their single F1 says next to nothing.",
    "Several heads are held against several baselines; of that many differences some lie beyond "
    "their interval by chance.",
)
"""What a reader could wrongly take from the figures."""

LABELS = {
    HEADS: "heads (causal)",
    OFF: "adapter off",
    SHUFFLED: "shuffled coordinates",
    FULL: "heads (full)",
    heads_patterns.CONSTANT: "best constant answer",
    heads_patterns.EMBEDDING: "mean embedding",
    heads_patterns.COORDINATES: "coordinates only",
    heads_style.CHANCE: "chance",
    heads_planning.MEAN: "mean by role and step",
    heads_planning.COPY: "this turn again",
}
"""Models and baselines, in words."""

HEAD_NAMES = ("patterns", "style", "planning")
TRIVIAL = {
    "patterns": heads_patterns.CONSTANT,
    "style": heads_style.CHANCE,
    "planning": heads_planning.MEAN,
}
"""The baseline that knows nothing of the turn."""
CHEAP = {
    "patterns": (heads_patterns.EMBEDDING, heads_patterns.COORDINATES),
    "style": (heads_style.EMBEDDING,),
    "planning": (heads_planning.COPY,),
}
"""Baselines that need no heads: the frozen base's mean embedding, or the coordinates alone."""


def judge(
    train: Turns,
    tuning: Turns,
    held: Turns,
    outputs: Mapping[str, Outputs],
    tuning_outputs: Mapping[str, Outputs],
    options: HeadsEvaluationOptions,
) -> tuple[dict[str, Any], Gate]:
    """Metrics of the three heads and the verdict of the gate.

    Args:
        train: Turns that the heads were fitted to.
        tuning: Turns on which thresholds are chosen.
        held: Held-out turns, of whole conversations.
        outputs: What each model says of the held-out turns; ``causal`` is judged.
        tuning_outputs: What each model says of the turns for tuning.
        options: Draws, seed, margin.
    """
    draws = Draws(held.conversations, options.bootstrap, options.seed)
    metrics: dict[str, Any] = {
        "status": "judged",
        "n": len(held),
        "conversations": draws.groups,
        "patterns": heads_patterns.judge_patterns(
            train, tuning, held, outputs, tuning_outputs, draws
        ),
        "style": heads_style.judge_style(held, outputs, draws, options.neighbours),
        "planning": heads_planning.judge_planning(train, held, outputs, draws),
        "gates": gates_by_phase(held, outputs[HEADS], draws),
        "not_shown": list(NOT_SHOWN),
    }
    metrics["style"]["roles"] = list(held.roles)
    metrics["style"]["conversations"] = list(held.conversations)
    metrics["verdicts"] = {head: verdict(metrics, head) for head in HEAD_NAMES}
    return metrics, decide(metrics, options.margin)


def nothing_judged(reason: str) -> tuple[dict[str, Any], Gate]:
    """Metrics and gate of a run with nothing to judge."""
    metrics = {"status": "unjudged", "reason": reason, "n": 0, "not_shown": list(NOT_SHOWN)}
    return metrics, unjudged(reason)


def gates_by_phase(held: Turns, heads: Outputs, draws: Draws) -> dict[str, dict[str, Any]]:
    """Mean gate of the held-out turns of each phase; a gate near 0 leaves the base as it is."""
    found = {}
    for number, name in enumerate(PHASES):
        here = held.phases == number
        count = int(here.sum())
        value = interval(draws.mean(heads.gate_mean, here)) if count else None
        found[name] = {"n": count, "gate": value}
    return found


def shuffled(rows: Sequence[TrajectoryRow], seed: int) -> list[TrajectoryRow]:
    """The rows with the coordinates of other rows; texts stay, so that the base says the same.

    Coordinates move as a whole: those of a turn with the same number of turns before it may meet
    another role. The position in the conversation stays with the row, since it names the row.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    return [
        row.model_copy(
            update={
                "trajectory": rows[other].trajectory.model_copy(
                    update={"turn_index": row.trajectory.turn_index}
                )
            }
        )
        for row, other in zip(rows, order, strict=True)
    ]


def measure_of(metrics: Mapping[str, Any], head: str) -> str:
    """The figure that decides on a head."""
    if head == "style":
        return f"recall_{metrics['style']['neighbours'][0]}"
    return {"patterns": "micro", "planning": "cosine"}[head]


_WORDS = {"patterns": "micro F1", "planning": "cosine with the next turns"}


_BESIDE = {
    "patterns": ("macro", "macro F1"),
    "planning": ("centred", "cosine without the mean of all turns"),
}
"""A second measure, in which the trivial baseline cannot shine by what is common to all turns."""


def measure_words(metrics: Mapping[str, Any], head: str) -> str:
    """That figure in words."""
    if head == "style":
        return f"recall@{metrics['style']['neighbours'][0]} of the same {metrics['style']['by']}"
    return _WORDS[head]


def verdict(metrics: Mapping[str, Any], head: str) -> str:
    """Whether a head knows more than its baselines, and what adapter and coordinates add."""
    found = metrics[head]
    if found.get("status") == "unjudged":
        return f"Not judged: {found['reason']}."
    measure = measure_of(metrics, head)
    value = found["models"][HEADS][measure]
    parts = [
        f"{measure_words(metrics, head)} {value['mean']:.3f} "
        f"[{value['low']:.3f}, {value['high']:.3f}] on {metrics['n']} turns of "
        f"{metrics['conversations']} conversations"
    ]
    for other in (TRIVIAL[head], *CHEAP[head], SHUFFLED, OFF, FULL):
        parts.append(_against(found, other, measure))
    if head in _BESIDE:
        beside, words = _BESIDE[head]
        parts.append(f"in {words} {_against(found, TRIVIAL[head], beside)}")
    if head == "style":
        signatures = found["spread"][HEADS]
        parts.append(
            "the signature is constant"
            if signatures["constant"]
            else "the signature is not constant (mean cosine of two turns "
            f"{signatures['mean_cosine']:.2f})"
        )
    knows = found["against"][TRIVIAL[head]][measure]["low"] > 0
    start = "It knows" if knows else "It is not shown to know"
    return f"{start} more than {LABELS[TRIVIAL[head]]}: {'; '.join(parts)}."


def decide(metrics: Mapping[str, Any], margin: float) -> Gate:
    """Every head must beat its trivial baseline and not fall behind the best cheap one.

    Args:
        metrics: Figures of the three heads.
        margin: By how much it may fall behind the best cheap baseline.
    """
    checks = []
    for head in HEAD_NAMES:
        found, measure = metrics[head], measure_of(metrics, head)
        words = measure_words(metrics, head)
        if found.get("status") == "unjudged":
            text = f"{words}: {found['reason']}"
            checks.append(Check(name=head, value=None, limit=0, passed=False, words=text))
            continue
        values = {name: each[measure]["mean"] for name, each in found["models"].items()}
        trivial, cheap = TRIVIAL[head], max(CHEAP[head], key=lambda name: values[name])
        over, near = found["against"][trivial][measure], found["against"][cheap][measure]
        checks += [
            Check(
                name=f"{head}_beats_trivial",
                value=over["low"],
                limit=0.0,
                passed=over["low"] > 0,
                words=f"{words} {values[HEADS]:.3f} against {values[trivial]:.3f} of "
                f"{LABELS[trivial]}; difference {_span(over)}, its lower end must lie above 0",
            ),
            Check(
                name=f"{head}_holds_against_cheap",
                value=near["mean"],
                limit=-margin,
                # A difference of exactly the margin must not fail by rounding.
                passed=near["mean"] >= -margin - 1e-9,
                words=f"{words} {values[cheap]:.3f} of the best cheap baseline, {LABELS[cheap]}; "
                f"difference {_span(near)}, must be at least {-margin:+.3f}",
            ),
        ]
    failed = [check for check in checks if not check.passed]
    text = "Promote: every head knows more than its trivial baseline and holds against cheap ones."
    if failed:
        names = ", ".join(check.name.replace("_", " ") for check in failed)
        text = f"Do not promote the heads: these conditions fail: {names}."
    return Gate(status="judged", promote=not failed, adapter=HEADS, verdict=text, checks=checks)


def _against(found: Mapping[str, Any], other: str, measure: str) -> str:
    apart = found["against"][other][measure]
    sure = "" if apart["low"] > 0 or apart["high"] < 0 else ", which may be chance"
    return f"{_span(apart)} to {LABELS[other]}{sure}"


def _span(found: Mapping[str, float]) -> str:
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
