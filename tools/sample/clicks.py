"""What users and raters said about search results."""

from __future__ import annotations

import random
from typing import Any

from tools.sample.catalogue import Item
from tools.sample.reviewing import Annotation
from tools.sample.searches import Search, SearchPlanner
from tools.sample.spans import SEED

CLICK = "result_click"
RELEVANCE = "result_relevance"
LOST_IDS = ["clip-0007", "clip-1093", "talk-0042"]
"""Ids that no result has: of items which were removed since."""


class Feedback:
    """Annotations of search spans in the order in which they are posted."""

    def __init__(self, planner: SearchPlanner) -> None:
        """Watches the whole history."""
        self.rng = random.Random(f"clicks:{SEED}")
        self.first: list[Annotation] = []
        for number, search in enumerate(planner.searches):
            search.quiet = self.rng.random() < 0.1
            if not search.quiet and search.results:
                self._people(search)
            self._machines(search)
            if number % 55 == 7:
                self._lost(search, LOST_IDS[number % len(LOST_IDS)])

    def _people(self, search: Search) -> None:
        rng = self.rng
        rated = rng.random() < 0.4
        for place, item in enumerate(search.results):
            if search.relevant(item):
                # What stands far down is overlooked more often.
                clicked = rng.random() < 0.97 - 0.02 * place
                if clicked:
                    self._click(search, item)
                if rated or not clicked:
                    self._rate(search, item, rng.choice([0.7, 0.8, 0.9, 1.0]))
            elif place == 0 and rng.random() < 0.05:
                # The first result tempts; some say afterwards that it was nothing.
                self._click(search, item)
                if rng.random() < 0.7:
                    self._rate(search, item, rng.choice([0.0, 0.1, 0.2]))
            elif rated and rng.random() < 0.3:
                near = item.subject == search.wanted.subject
                scores = [0.3, 0.4, 0.5, 0.6] if near else [0.0, 0.1, 0.2]
                self._rate(search, item, rng.choice(scores))

    def _machines(self, search: Search) -> None:
        """Verdicts that never count: of a model, and of a program that follows links."""
        rng = self.rng
        if search.results and rng.random() < 0.06:
            item = rng.choice(search.results)
            self._say(search, RELEVANCE, item.id, 0.9, kind="LLM", who="judge-v2")
        if search.results and rng.random() < 0.02:
            self._say(search, CLICK, search.results[-1].id, 1.0, kind="CODE", who="crawler")

    def _lost(self, search: Search, item: str) -> None:
        self._say(search, CLICK, item, 1.0)

    def _click(self, search: Search, item: Item) -> None:
        self._say(search, CLICK, item.id, 1.0)

    def _rate(self, search: Search, item: Item, score: float) -> None:
        self._say(search, RELEVANCE, item.id, score)

    def _say(
        self,
        search: Search,
        name: str,
        item: str,
        score: float,
        kind: str = "HUMAN",
        who: str | None = None,
    ) -> None:
        result: dict[str, Any] = {"score": score}
        if name == CLICK:
            result["label"] = "clicked"
        # One verdict per name and item; what a program says must not overwrite a person.
        identifier = f"{name}:{item}" if who is None else f"{name}:{item}:{who}"
        self.first.append(
            {
                "span_id": search.span.span_id,
                "name": name,
                "annotator_kind": kind,
                "identifier": identifier,
                "result": result,
                "metadata": {"result_id": item},
            }
        )
