"""How users of the sample talk: a grammar in TOML files, and a seeded speaker."""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GRAMMAR = Path(__file__).parent / "grammar"
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Topic:
    """What one agent is asked for.

    Attributes:
        name: Name of the agent.
        weight: How often it is asked, relative to the others.
        slots: Words of its own by slot name.
        intents: Templates that are used all the time, one list per intent.
        late: Templates that come up in the last days only, one list per intent.
        replies: What the assistant answers.
    """

    name: str
    weight: float
    slots: dict[str, list[str]]
    intents: list[list[str]]
    late: list[list[str]]
    replies: list[str]


@dataclass(frozen=True)
class Grammar:
    """All topics and the words they share."""

    topics: dict[str, Topic]
    shared: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, folder: Path = GRAMMAR) -> Grammar:
        """Reads ``shared.toml`` and one file per agent."""
        shared = tomllib.loads((folder / "shared.toml").read_text("utf-8"))
        topics = {}
        for path in sorted(folder.glob("*_agent.toml")):
            raw = tomllib.loads(path.read_text("utf-8"))
            topics[raw["name"]] = Topic(
                name=raw["name"],
                weight=raw["weight"],
                slots=raw["slots"],
                intents=[intent["templates"] for intent in raw["intents"]],
                late=[intent["late"] for intent in raw["intents"]],
                replies=raw["replies"],
            )
        return cls(topics, shared)


class Speaker:
    """Words requests. All chance comes from the generator it is given."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        """Creates a speaker."""
        self.grammar = grammar
        self.rng = rng

    def request(self, agent: str, *, late: float) -> str:
        """A request for ``agent``; ``late`` is the share of phrasings that are new."""
        return self.dress(self._core(agent, late))

    def two_requests(self, first: str, second: str, *, late: float) -> str:
        """One message with two requests, of which ``first`` is the one to route."""
        join = self.rng.choice(self.grammar.shared["multi"]["joins"])
        parts = [self._core(agent, late).rstrip("?.") for agent in (first, second)]
        return self.dress(join.format(a=parts[0], b=parts[1]))

    def vague(self) -> str:
        """A request which only the earlier turns explain."""
        rng, shared = self.rng, self.grammar.shared
        text = self._fill(rng.choice(shared["ambiguous"]["templates"]), {})
        return self.dress(text) if rng.random() < 0.3 else text

    def reply(self, agent: str) -> str:
        """What the assistant answers in the end."""
        return self.rng.choice(self.grammar.topics[agent].replies)

    def _core(self, agent: str, late: float) -> str:
        topic = self.grammar.topics[agent]
        intent = self.rng.randrange(len(topic.intents))
        pool = topic.late if self.rng.random() < late else topic.intents
        return self._fill(self.rng.choice(pool[intent]), topic.slots)

    def _fill(self, template: str, own: dict[str, list[str]]) -> str:
        used: set[str] = set()

        def word(match: re.Match[str]) -> str:
            options = own.get(match[1]) or self.grammar.shared["slots"][match[1]]
            # The same word twice ("from Rome to Rome") is what nobody says.
            choice = self.rng.choice([option for option in options if option not in used])
            used.add(choice)
            return choice

        return _SLOT.sub(word, template)

    def dress(self, text: str) -> str:
        """``text`` as people type it: words around it, synonyms, typos."""
        rng, style = self.rng, self.grammar.shared["style"]
        for plain, others in self.grammar.shared["synonyms"].items():
            if plain in text and rng.random() < 0.45:
                text = text.replace(plain, rng.choice(others), 1)
        if rng.random() < 0.10:
            words = text.split(" ")
            words.insert(rng.randrange(1, max(2, len(words))), rng.choice(style["fillers"]))
            text = " ".join(words)
        if rng.random() < 0.26:
            text = f"{rng.choice(style['openers'])} {text}"
        if rng.random() < 0.24:
            text = f"{text.rstrip('?.')}, {rng.choice(style['closers'])}"
        if rng.random() < 0.12:
            context = rng.choice(style["contexts"])
            text = f"{context} {text}" if rng.random() < 0.5 else f"{text}. {context}"
        return self.typed(text)

    def typed(self, text: str) -> str:
        """``text`` with typing habits: case, typos, emoji, punctuation."""
        rng = self.rng
        habit = rng.random()
        if habit < 0.45:
            text = text[0].upper() + text[1:]
        elif habit < 0.60:
            text = text.lower().replace("'", "")
        elif habit < 0.63:
            text = text.upper()
        if rng.random() < 0.12:
            text = self._typo(text)
        if rng.random() < 0.08:
            text = text.rstrip("?.") + rng.choice(["??", "!!", "...", " ?"])
        if rng.random() < 0.05:
            text = f"{text} {rng.choice(self.grammar.shared['style']['emoji'])}"
        return text

    def _typo(self, text: str) -> str:
        spots = [
            index
            for index in range(1, len(text) - 2)
            if text[index].isalpha() and text[index + 1].isalpha()
        ]
        if not spots:
            return text
        spot = self.rng.choice(spots)
        kind = self.rng.random()
        if kind < 0.4:
            return text[:spot] + text[spot + 1] + text[spot] + text[spot + 2 :]
        if kind < 0.7:
            return text[:spot] + text[spot + 1 :]
        return text[:spot] + text[spot] + text[spot:]
