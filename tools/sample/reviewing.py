"""How reviewers write a verdict down, whatever agent it is about."""

from __future__ import annotations

import random
from typing import Any, Protocol

from tools.sample.spans import Span

REVIEWERS = ["ana", "ben", "chloe", "dmitri", "esra"]
Annotation = dict[str, Any]


class Reviewed(Protocol):
    """Whatever has a span that is judged."""

    span: Span


class Reviewing:
    """Gathers span annotations.

    Attributes:
        rng: Where chance comes from.
        words: Free text by verdict.
        first: Annotations of the daily review.
        late: Annotations posted afterwards.
    """

    def __init__(self, rng: random.Random, words: dict[str, list[str]]) -> None:
        """Creates it without annotations."""
        self.rng = rng
        self.words = words
        self.first: list[Annotation] = []
        self.late: list[Annotation] = []

    def _verdict(
        self, item: Reviewed, reviewer: str, approved: bool, *, late: bool = False, **extra: Any
    ) -> None:
        rng = self.rng
        label: str | None = "approved" if approved else "rejected"
        score: float | None = rng.choice([None, 1.0 if approved else 0.0])
        style = rng.random()
        if style < 0.03:
            label, score = None, (rng.choice([0.5, 0.8, 0.9, 1.0]) if approved else 0.2)
        elif style < 0.05 and label:
            label = rng.choice([label.upper(), f" {label} ", label.capitalize()])
        elif style < 0.06:
            score = 0.1 if approved else 0.9  # contradicts the label, which wins
        result = {"label": label, "score": score, "explanation": extra.get("explanation")}
        annotation = {
            "span_id": item.span.span_id,
            "name": extra.get("name", "human_approval"),
            "annotator_kind": extra.get("kind", "HUMAN"),
            "identifier": reviewer,
            "result": {key: value for key, value in result.items() if value is not None},
        }
        if extra.get("metadata"):
            annotation["metadata"] = extra["metadata"]
        (self.late if late else self.first).append(annotation)

    def _unsure(self, item: Reviewed, reviewer: str) -> None:
        self.first.append(
            {
                "span_id": item.span.span_id,
                "name": "human_approval",
                "annotator_kind": "HUMAN",
                "identifier": reviewer,
                "result": {"label": "unsure", "score": 0.5},
            }
        )
