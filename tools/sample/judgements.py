"""What archivists and a model say about single documents in the results of searches."""

from __future__ import annotations

import random
from typing import Any

from tools.sample.catalogue import Item
from tools.sample.reviewing import Annotation
from tools.sample.searches import Search, SearchPlanner
from tools.sample.spans import SEED

NAME = "relevance"
SECOND = "ben"
LOOKED_AT = [4, 5, 6]


class Judgements:
    """Annotations of documents, in the order in which they are posted.

    Attributes:
        first: Of the archivist on duty and of a model. Phoenix keeps one of them per span, name and
            position, so the model is asked only about what no person judged.
        second: Of a second archivist about some of the same documents, under a name of their own.
    """

    def __init__(self, planner: SearchPlanner) -> None:
        """Goes through the whole history."""
        self.rng = random.Random(f"judgements:{SEED}")
        self.first: list[Annotation] = []
        self.second: list[Annotation] = []
        for search in planner.searches:
            looked_at = self._person(search) if self.rng.random() < 0.24 else 0
            if self.rng.random() < 0.1:
                self._model(search, looked_at)

    def _person(self, search: Search) -> int:
        """An archivist reads the query and looks at the first results."""
        rng = self.rng
        seen = search.results[: rng.choice(LOOKED_AT)]
        for place, item in enumerate(seen):
            if rng.random() < 0.96:
                self._say(search, place, self._verdict(search, item))
            if rng.random() < 0.03:
                self._say(search, place, {"label": "outdated"}, name="freshness")
        if rng.random() < 0.2:
            for place in sorted(rng.sample(range(len(seen)), min(2, len(seen)))):
                self._second(search, place, agree=rng.random() < 0.65)
        return len(seen)

    def _verdict(self, search: Search, item: Item) -> Annotation:
        rng = self.rng
        relevant = search.relevant(item) != (rng.random() < 0.04)
        style = rng.random()
        if style < 0.04:
            return {"label": "unsure", "score": 0.5}
        if style < 0.12:
            return {"score": rng.choice([0.5, 0.8, 1.0] if relevant else [0.0, 0.2, 0.4])}
        label = "relevant" if relevant else "irrelevant"
        if style < 0.16:
            label = rng.choice([label.upper(), f" {label} ", label.capitalize()])
        result: Annotation = {"label": label}
        if style > 0.5:
            result["score"] = 1.0 if relevant else 0.0
        if style > 0.9 and not relevant and item.subject == search.wanted.subject:
            result["explanation"] = "The right subject, another side of it."
        return result

    def _second(self, search: Search, place: int, *, agree: bool) -> None:
        relevant = search.relevant(search.results[place]) == agree
        result = {"label": "relevant" if relevant else "irrelevant"}
        self.second.append(self._annotation(search, place, result) | {"identifier": SECOND})

    def _model(self, search: Search, looked_at: int) -> None:
        """A model judges what nobody looked at; its verdicts never count."""
        for place in range(looked_at, len(search.results)):
            relevant = search.relevant(search.results[place]) or self.rng.random() < 0.2
            result = {"label": "relevant" if relevant else "unrelated", "score": float(relevant)}
            self._say(search, place, result, kind="LLM")

    def _say(self, search: Search, place: int, result: Annotation, **extra: str) -> None:
        self.first.append(self._annotation(search, place, result, **extra))

    @staticmethod
    def _annotation(
        search: Search, place: int, result: dict[str, Any], name: str = NAME, kind: str = "HUMAN"
    ) -> Annotation:
        return {
            "span_id": search.span.span_id,
            "document_position": place,
            "name": name,
            "annotator_kind": kind,
            "result": result,
        }
