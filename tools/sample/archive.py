"""The two agents of a media archive: what they were asked and what they answered.

The archive has an agent that selects search profiles and one that extracts entities. Both have the
same working days, faults and reviewers; ``profiles`` and ``entities`` say what is asked.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tools.sample.language import Grammar, Speaker
from tools.sample.private import PHRASES
from tools.sample.spans import (
    BORDER,
    DAYS,
    PROJECT,
    SEED,
    Span,
    hex_id,
    nanoseconds,
    pause,
    working_moment,
)

UNITS = 480
ODD = 36
Answer = dict[str, Any]


@dataclass
class Decision:
    """An answer of an agent, as reviewers see it.

    Attributes:
        span: Its span.
        truth: What it should have answered.
        said: What it answered; None where the output is no answer.
    """

    span: Span
    truth: Answer
    said: Answer | None


class ArchiveAgent(ABC):
    """Plays the history of one agent.

    Attributes:
        spans: Everything that happened.
        decisions: The answers among it, in order of time.
    """

    name: str
    error_rate: float
    misshaped: tuple[Answer, ...]
    """Outputs that are JSON but no answer."""
    unknown: tuple[Answer, ...]
    """Answers that name what does not exist."""

    def __init__(self, grammar: Grammar, secrets: list[tuple[str, str]] | None = None) -> None:
        """Creates the agent; nothing is played yet."""
        self.rng = random.Random(f"{self.name}:{SEED}")
        self.speaker = Speaker(grammar, random.Random(f"{self.name}:words:{SEED}"))
        self.secrets = list(secrets or [])
        self.spans: list[Span] = []
        self.decisions: list[Decision] = []

    @abstractmethod
    def request(self, *, late: bool) -> tuple[str, Answer]:
        """A request and the right answer to it; ``late`` allows new phrasings."""

    @abstractmethod
    def mistaken(self, rng: random.Random, truth: Answer) -> Answer:
        """A wrong answer where ``truth`` is right."""

    @abstractmethod
    def written(self, answer: Answer) -> Answer:
        """``answer`` in an order in which the agent may write it."""

    @staticmethod
    @abstractmethod
    def same(first: Answer | None, second: Answer | None) -> bool:
        """Whether two answers say the same, in whatever order."""

    def run(self) -> ArchiveAgent:
        """Plays all of it."""
        weights = [0.75 + 0.6 * day / DAYS for day in range(DAYS)]
        starts = sorted(working_moment(self.rng, weights) for _ in range(UNITS))
        # Two sessions reach over the border between the windows.
        starts = [BORDER - timedelta(seconds=seconds) for seconds in (70, 40)] + starts
        number = 0
        while len(self.decisions) < UNITS:
            # Spread over the whole history, as not every start is needed.
            start = starts[number if number < 2 else 2 + (number * 377) % UNITS]
            self._session(number, start)
            number += 1
        self.decisions.sort(key=lambda item: (item.span.start, item.span.span_id))
        self._confide()
        self._odd_spans()
        self.spans.sort(key=lambda span: (span.start, span.span_id))
        return self

    def _session(self, number: int, moment: datetime) -> None:
        rng = self.rng
        odd: dict[int, str | None] = {19: None, 57: None, 101: "  "}
        session = odd.get(number, f"demo-{hex_id(10, self.name, 'session', number)}")
        turns = 3 if number < 2 else rng.choices([1, 2, 3, 4], [3, 4, 2, 1])[0]
        for turn in range(min(turns, UNITS - len(self.decisions))):
            self._unit(number, turn, session, moment)
            moment += pause(rng)

    def _unit(self, number: int, turn: int, session: str | None, moment: datetime) -> None:
        rng = self.rng
        text, truth = self.request(late=moment >= BORDER and rng.random() < 0.15)
        wrong = rng.random() < self.error_rate
        said = self.written(self.mistaken(rng, truth) if wrong else truth)
        start = nanoseconds(moment)
        attributes: dict[str, Any] = {
            "openinference.span.kind": "AGENT",
            "input.value": text,
            "output.value": json.dumps(said, ensure_ascii=False),
            "llm.model_name": "archive-2026-05",
        }
        if session is not None:
            attributes["session.id"] = session
        span = Span(
            PROJECT, hex_id(32, self.name, "trace", number, turn),
            hex_id(16, self.name, number, turn), None, self.name,
            start, start + rng.randrange(150, 800) * 1_000_000, "OK", attributes,
        )  # fmt: skip
        self.spans.append(span)
        self.decisions.append(Decision(span, truth, said))
        if rng.random() < 0.1:
            self._child(span)

    def _child(self, parent: Span) -> None:
        """A call of the model of the same name, which is no answer of its own."""
        shared = {key: parent.attributes[key] for key in ("input.value", "output.value")}
        child = Span(
            PROJECT, parent.trace_id, hex_id(16, self.name, "child", parent.span_id),
            parent.span_id, self.name, parent.start + 20_000_000, parent.end - 10_000_000,
            "OK", {"openinference.span.kind": "LLM", **shared},
        )  # fmt: skip
        self.spans.append(child)

    def _confide(self) -> None:
        """Users paste secrets into some requests."""
        step = len(self.decisions) // (len(self.secrets) + 1)
        for index, (kind, secret) in enumerate(self.secrets, start=1):
            attributes = self.decisions[index * step].span.attributes
            phrase = self.rng.choice(PHRASES[kind]).format(it=secret)
            attributes["input.value"] = f"{attributes['input.value'].rstrip('?.')}, {phrase}"

    def _odd_spans(self) -> None:
        """Bends some answers into what real telemetry holds too: broken, huge, mistyped."""
        rng = self.rng
        step = len(self.decisions) // (len(self.secrets) + 1)
        # The answers to requests with secrets stay whole.
        plain = [item for index, item in enumerate(self.decisions) if index % step]
        for index, item in enumerate(rng.sample(plain, ODD)):
            attributes, kind = item.span.attributes, index % 12
            if kind not in (6, 7, 8, 9):
                item.said = None
            if kind in (0, 1):
                item.span.status = "ERROR"
                attributes["output.value"] = attributes["output.value"] if kind else ""
            elif kind == 2:
                attributes["output.value"] = rng.choice(['{"', "null", "[]", "I found two of them"])
            elif kind == 3:
                attributes["output.value"] = rng.choice([["frames"], 7, True, 0.5])
            elif kind == 4:
                attributes["input.value"] = rng.choice(["", "   ", "\n"])
            elif kind == 5:
                del attributes["output.value"]
            elif kind == 6:
                attributes["input.value"] += " 👩‍💻🇵🇹 \u202bשלום\u202c 日本語 e\u0301"
            elif kind == 7:
                attributes["input.value"] = (attributes["input.value"] + " ... ") * 800
            elif kind == 8:
                item.said = rng.choice(self.unknown)
                attributes["output.value"] = json.dumps(item.said)
            elif kind == 9:
                attributes["openinference.span.kind"] = rng.choice(["CHAIN", "TOOL"])
            else:
                attributes["output.value"] = json.dumps(rng.choice(self.misshaped))
