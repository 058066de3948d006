"""Search over the media archive: queries, and the results of a mediocre engine."""

from __future__ import annotations

import json
import random
import tomllib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tools.sample.catalogue import Item, make_catalogue
from tools.sample.language import GRAMMAR, Grammar, Speaker
from tools.sample.private import PHRASES
from tools.sample.spans import (
    BORDER,
    DAYS,
    PROJECT,
    SEED,
    TRAIN_DAYS,
    Span,
    hex_id,
    nanoseconds,
    pause,
    working_moment,
)

NAME = "search_service"
SEARCHES = 720
ODD = 40


@dataclass
class Search:
    """A query with its results, as users see them.

    Attributes:
        span: Its span.
        wanted: What the user had in mind.
        broad: Whether any item on the subject would do.
        results: What the engine gave, the best first.
        quiet: Whether nobody says anything about it.
    """

    span: Span
    wanted: Item
    broad: bool
    results: list[Item]
    quiet: bool = False

    def relevant(self, item: Item) -> bool:
        """Whether ``item`` is what the user wants."""
        same = item.subject == self.wanted.subject
        return same and (self.broad or item.aspect == self.wanted.aspect)


class SearchPlanner:
    """Plays the history of the search.

    Attributes:
        spans: Everything that happened.
        searches: The queries among it, in order of time.
    """

    words = tomllib.loads((GRAMMAR / "search.toml").read_text("utf-8"))

    def __init__(self, grammar: Grammar, secrets: list[tuple[str, str]] | None = None) -> None:
        """Creates the planner; nothing is played yet."""
        self.rng = random.Random(f"search:{SEED}")
        self.speaker = Speaker(grammar, random.Random(f"search:words:{SEED}"))
        self.catalogue = make_catalogue()
        self.secrets = list(secrets or [])
        self.spans: list[Span] = []
        self.searches: list[Search] = []
        self._said: list[tuple[str, Item, bool]] = []

    def run(self) -> SearchPlanner:
        """Plays all of it."""
        # The archive opened its search to everybody when the training window begins.
        weights = [0.3 if day < DAYS - TRAIN_DAYS else 1.0 for day in range(DAYS)]
        starts = [BORDER - timedelta(seconds=seconds) for seconds in (90, 45)] + [BORDER]
        number = 0
        while len(self.searches) < SEARCHES:
            start = starts[number] if number < 3 else working_moment(self.rng, weights)
            self._session(number, start)
            number += 1
        self.searches.sort(key=lambda item: (item.span.start, item.span.span_id))
        self._confide()
        self._odd_spans()
        self.spans.sort(key=lambda span: (span.start, span.span_id))
        return self

    def _session(self, number: int, moment: datetime) -> None:
        rng = self.rng
        odd: dict[int, str | None] = {23: None, 71: None, 140: ""}
        session = odd.get(number, f"demo-{hex_id(10, 'search session', number)}")
        turns = 3 if number < 2 else rng.choices([1, 2, 3, 4], [5, 3, 2, 1])[0]
        wanted = self._wish(moment)
        for turn in range(min(turns, SEARCHES - len(self.searches))):
            # People who did not find it ask again in other words.
            if turn and rng.random() < 0.7:
                wanted = self._wish(moment)
            self._search(number, turn, session, moment, wanted)
            moment += pause(rng)

    def _wish(self, moment: datetime) -> Item:
        there = self._there(moment)
        new = [item for item in there if item.new]
        if new and self.rng.random() < 0.15:
            return self.rng.choice(new)
        return self.rng.choice([item for item in there if item.content and not item.new])

    def _there(self, moment: datetime) -> list[Item]:
        return [item for item in self.catalogue if not item.new or moment >= BORDER]

    def _search(
        self, number: int, turn: int, session: str | None, moment: datetime, wanted: Item
    ) -> None:
        rng = self.rng
        broad = rng.random() < 0.12
        text = self._query(wanted, broad, late=moment >= BORDER and rng.random() < 0.15)
        if self._said and rng.random() < 0.04:
            # What many people ask for.
            text, wanted, broad = rng.choice([said for said in self._said if not said[1].new])
        self._said.append((text, wanted, broad))
        results = self._rank(wanted, self._there(moment))
        start = nanoseconds(moment)
        attributes: dict[str, Any] = {"openinference.span.kind": "RETRIEVER", "input.value": text}
        if session is not None:
            attributes["session.id"] = session
        span = Span(
            PROJECT, hex_id(32, NAME, "trace", number, turn), hex_id(16, NAME, number, turn), None,
            NAME, start, start + rng.randrange(40, 320) * 1_000_000, "OK",
            attributes | self._documents(results),
        )  # fmt: skip
        self.spans.append(span)
        self.searches.append(Search(span, wanted, broad, results))
        if rng.random() < 0.08:
            self._child(span)

    def _query(self, wanted: Item, broad: bool, *, late: bool) -> str:
        rng = self.speaker.rng
        # Some know what the archive calls it.
        it = wanted.subject.name if rng.random() < 0.3 else rng.choice(wanted.subject.asked)
        if not broad:
            it = rng.choice(wanted.aspect.asked).format(q=it)
        forms = self.words["late" if late else "forms"]
        return self.speaker.typed(rng.choice(forms).format(it=it))

    def _rank(self, wanted: Item, there: list[Item]) -> list[Item]:
        """Finds the theme, guesses the subject and knows little of the rest."""
        scores: dict[str, float] = {}
        for item in there:
            score = self.rng.gauss(0, 0.2)
            if item.subject.theme == wanted.subject.theme:
                score += 0.3
            if item.subject == wanted.subject:
                score += 0.15
            if item.id == wanted.id:
                score += 0.12
            scores[item.id] = score
        ranked = sorted(there, key=lambda item: (-scores[item.id], item.id))
        return ranked[: self.rng.choice([8, 9, 10])]

    def _documents(self, results: list[Item]) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        score = self.rng.uniform(0.72, 0.95)
        for place, item in enumerate(results):
            key = f"retrieval.documents.{place}.document"
            attributes[f"{key}.id"] = item.id
            if item.content is not None:
                attributes[f"{key}.content"] = item.content
            attributes[f"{key}.score"] = round(score, 4)
            attributes[f"{key}.metadata"] = json.dumps(item.metadata)
            score -= self.rng.uniform(0.004, 0.06)
        return attributes

    def _child(self, parent: Span) -> None:
        child = Span(
            PROJECT, parent.trace_id, hex_id(16, NAME, "child", parent.span_id), parent.span_id,
            "embed_query", parent.start + 2_000_000, parent.start + 14_000_000, "OK",
            {
                "openinference.span.kind": "EMBEDDING",
                "embedding.model_name": "archive-embed-2025",
                "input.value": parent.attributes["input.value"],
            },
        )  # fmt: skip
        self.spans.append(child)

    def _confide(self) -> None:
        """Users paste secrets into some queries."""
        step = len(self.searches) // (len(self.secrets) + 1)
        for index, (kind, secret) in enumerate(self.secrets, start=1):
            attributes = self.searches[index * step].span.attributes
            phrase = self.rng.choice(PHRASES[kind]).format(it=secret)
            attributes["input.value"] = f"{attributes['input.value'].rstrip('?.')}, {phrase}"

    def _odd_spans(self) -> None:
        """Bends some searches: blank queries, no results, faults, missing texts."""
        rng = self.rng
        step = len(self.searches) // (len(self.secrets) + 1)
        # Queries with secrets stay whole.
        plain = [item for index, item in enumerate(self.searches) if index % step]
        for index, search in enumerate(rng.sample(plain, ODD)):
            attributes, kind = search.span.attributes, index % 8
            if kind in (0, 1):
                attributes["input.value"] = rng.choice(["", "   ", "\n"])
            elif kind == 2:
                search.span.status = "ERROR"
            elif kind == 3:
                search.results = []
                for key in [key for key in attributes if key.startswith("retrieval.")]:
                    del attributes[key]
            elif kind == 4:
                attributes["openinference.span.kind"] = rng.choice(["CHAIN", "TOOL"])
            elif kind in (5, 6):
                # The index lost the text of what the user wanted, or of its neighbours.
                for place, item in enumerate(search.results):
                    lost = search.relevant(item) if kind == 5 else place in (0, 2, 3)
                    if lost:
                        attributes.pop(f"retrieval.documents.{place}.document.content", None)
            else:
                attributes["input.value"] = rng.choice([1968, 21.5, True])
