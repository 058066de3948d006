"""Predictions as a real run gives them, without a model: for metrics, figures and the report."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tracetune.evaluation.tables import frame
from tracetune.evaluation.targets import parse_answer
from tracetune.outputs import OutputSpec

AGENTS = (
    "weather_agent",
    "search_agent",
    "calendar_agent",
    "email_agent",
    "billing_agent",
    "travel_agent",
    "music_agent",
    "smalltalk_agent",
)
RIGHT = {"base": 0.55, "sft": 0.78, "dpo": 0.86, "majority": 0.0, "nearest": 0.76}
OUTPUT = OutputSpec(target=("agent",), known=AGENTS)


def prediction(
    row: int,
    model: str,
    target: str,
    text: str,
    *,
    confidence: float | None = 0.9,
    prompt: str = "Move my dentist to Friday and tell Ann",
    group: str | None = None,
    latency: float | None = 12.0,
) -> dict[str, Any]:
    parsed = parse_answer(text, OUTPUT)
    said = parsed.target.label if parsed.target else None
    return {
        "row_id": f"sft-{row:020x}",
        "group": group or f"session:{row // 3}",
        "created_at": datetime(2026, 5, 1, tzinfo=UTC) + timedelta(minutes=row),
        "model": model,
        "prompt": prompt,
        "target": target,
        "answer_text": text,
        "answer": said,
        "valid_json": parsed.valid_json,
        "known": parsed.known,
        "correct": said == target,
        "score": float(said == target),
        "slices": target,
        "in_top_k": None if model in ("majority", "nearest") else said == target,
        "reference_nats": None,
        "confidence": confidence,
        "latency_ms": latency,
        "tokens": 9,
        "finish": "stop",
    }


def many(n: int = 112, seed: int = 5) -> Any:
    """A data frame of ``n`` rows answered by five models, with faults of every kind."""
    draw = random.Random(seed)
    rows = []
    for row in range(n):
        target = draw.choices(AGENTS, weights=range(16, 0, -2))[0]
        prompt = draw.choice(PROMPTS)
        for model, share in RIGHT.items():
            right = draw.random() < share
            other = draw.choice([agent for agent in AGENTS if agent != target])
            text = f'{{"agent":"{target if right else other}"}}'
            if model == "base" and draw.random() < 0.12:
                text = draw.choice(['{"agent":', '{"agent":"cook_agent"}', "I think weather"])
            if model == "majority":
                text = f'{{"agent":"{AGENTS[0]}"}}'
            rows.append(
                prediction(
                    row,
                    model,
                    target,
                    text,
                    prompt=prompt,
                    confidence=None if model == "nearest" else draw.betavariate(6, 2),
                    latency=draw.gammavariate(9, 3) if row % 5 == 0 else None,
                )
            )
    return frame(rows)


PROMPTS = (
    "Can you check whether my flight to Lisbon is still on time, and add it to my calendar?",
    "what's the damage on last month's invoice",
    "Play something calm & <b>slow</b>",
    "Write Ann that I'm late, also is it going to rain?",
    "hello you 👋",
    "Contact <EMAIL> about the refund and put a reminder for Tuesday 9 o'clock in my calendar",
)


def rewards(n: int = 28, seed: int = 3) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "row_id": f"pair-{row:020x}",
            "group": f"session:{row}",
            "policy": "dpo",
            "reference": "sft",
            "beta": 0.1,
            "chosen_reward": draw.gauss(0.4, 0.5),
            "rejected_reward": draw.gauss(-0.5, 0.5),
        }
        for row in range(n)
    ]


def history(steps: int, start: float, *, dpo: bool = False, seed: int = 1) -> list[dict[str, Any]]:
    """A log as the trainers write it: training lines, evaluation lines, a summary."""
    draw = random.Random(seed)
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        done = step / steps
        line: dict[str, Any] = {"step": step, "epoch": 3 * done, "learning_rate": 2e-4}
        line["loss"] = start * (0.35 + 0.65 * (1 - done) ** 2) + draw.gauss(0, 0.02)
        if dpo:
            line["rewards/margins"] = 1.4 * done + draw.gauss(0, 0.05)
            line["rewards/accuracies"] = min(1.0, 0.5 + 0.5 * done + draw.gauss(0, 0.03))
        lines.append(line)
        if step % max(1, steps // 10) == 0:
            evaluation: dict[str, Any] = {"step": step, "eval_loss": line["loss"] + 0.05}
            if dpo:
                evaluation["eval_rewards/margins"] = 1.1 * done
                evaluation["eval_rewards/accuracies"] = 0.5 + 0.35 * done
            lines.append(evaluation)
    return [*lines, {"step": steps, "train_runtime": 12.5, "train_loss": 0.5}]


def funnel() -> dict[str, Any]:
    """A funnel report in the form of the telemetry package."""
    drops = [
        ("child_span", "the span has a parent", 2130),
        ("outside_window", "the span started before the training window", 260),
        ("no_annotation", "nobody and nothing left an approval annotation", 0),
        ("malformed", "the span failed, or its prompt or output is no text", 31),
        ("not_human", "no approval annotation comes from a person", 88),
        ("rejected_only", "people rejected the output and nobody said what is right", 46),
        ("duplicate", "the same prompt and output stand in another row", 12),
    ]
    left = 3400
    steps = []
    for reason, meaning, dropped in drops:
        left -= dropped
        steps.append({"reason": reason, "meaning": meaning, "dropped": dropped, "remaining": left})
    return {"read": 3400, "steps": steps, "examples": left}


def preflight() -> dict[str, Any]:
    return {
        "method": "sft",
        "rows_in": 640,
        "rows_used": 636,
        "dropped": {"over_length": 4},
        "dropped_rows": {"sft-00": "over_length"},
        "sequence_tokens": {"0.5": 61, "0.99": 118, "1.0": 171},
        "trained_by_role": {"assistant": 1.0},
        "bos_per_row": None,
        "gates": [
            {
                "name": "end_untrained",
                "value": 0,
                "limit": 0,
                "passed": True,
                "text": "every answer trains its end of turn",
            },
            {
                "name": "lost_completion_share",
                "value": 0.012,
                "limit": 0.01,
                "passed": False,
                "text": "1.2 % of the answer tokens are cut off; raise max_length",
            },
        ],
    }
