"""Recombination of real requests: take them apart, vary how they are said, put them together.

Material for grammars of the offline generator (:mod:`tracetune.llm.offline`). English only; a text
in another language keeps its core and gets no other way of asking.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["question", "command", "statement", "other"]

_LEAD = re.compile(r"^((?:\S+\s+){0,3}\S*[^\s,:;.!?])\s*[,:;.!]+\s+")
_TAIL = re.compile(r"\s*[,;.!?]+\s+((?:\S+\s+){0,3}\S+?)\s*[.!?]*$")
_END = re.compile(r"[\s,;.!?]+$")
_FEWEST_WORDS = 3

_QUESTION = re.compile(
    r"(who|whom|whose|what|when|where|which|why|how|is|are|was|were|am|do|does|did|can|could|will"
    r"|would|should|shall|may|might|has|have|had)(n't|'s)?\b",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    r"(i|we|you|he|she|it|they|there|the|an?|my|our|your|this|that|these|those|no|not|for|to|in|on"
    r"|at|with|by|from|and|but|or|if|as|of)\b",
    re.IGNORECASE,
)
_AFTER_A_VERB = re.compile(
    r"(my|the|an?|this|that|these|those|our|your|me|us|all|up|out|every|any|some|it|them|his|her"
    r"|their|its|both|each|another)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?]+\s+")

OPENINGS = (
    "hi,",
    "hello,",
    "hi there,",
    "good morning,",
    "quick one:",
    "one more thing:",
    "excuse me,",
    "short question:",
    "hey,",
    "sorry to bother you,",
)
CLOSINGS = (
    "please",
    "thanks",
    "thank you",
    "if possible today",
    "when you have a minute",
    "many thanks in advance",
    "no hurry",
    "as soon as you can",
)
CONTEXTS = (
    "I only have a few minutes.",
    "I am on my phone right now.",
    "This is for a colleague.",
    "I already asked last week.",
    "It came up in our team meeting.",
    "I tried it on my own first.",
    "My manager wants to know.",
    "I am new here.",
)
WAYS: dict[Kind, tuple[str, ...]] = {
    "question": ("{core}?", "do you happen to know: {core}?", "I keep wondering: {core}?"),
    "command": (
        "{core}",
        "can you {core}?",
        "could you {core}?",
        "I need you to {core}",
        "I would like you to {core}",
        "would you {core}?",
    ),
    "statement": ("{core}",),
    "other": ("{core}", "it is about this: {core}", "what I need: {core}"),
}
"""Ways of asking by the kind of the core."""
JOINTS = ("and also", "plus", "together with", "and then", "as well as")
TOPIC_WAYS = (
    "I have a question about {topic}",
    "who takes care of {topic}?",
    "I need some help with {topic}",
    "please tell me more about {topic}",
    "something about {topic}",
    "where do I turn to with {topic}?",
    "there is a problem with {topic}",
    "can somebody look into {topic} for me?",
)
"""Requests for labels of which there is no real example."""


@dataclass(frozen=True)
class Parts:
    """A request taken apart.

    Attributes:
        opening: Greeting or lead-in with its punctuation; empty if there is none.
        core: What is asked for, without final punctuation.
        closing: Thanks or other tail; empty if there is none.
        kind: Question, command, statement, or none of them for sure.
    """

    opening: str
    core: str
    closing: str
    kind: Kind


def take_apart(text: str) -> Parts:
    """The parts of a request; cutting stops where fewer than three words would be left."""
    core = " ".join(text.split())
    if core.isupper():
        core = core.lower()
    opening = closing = ""
    lead = _LEAD.match(core)
    if lead is not None and len(core[lead.end() :].split()) >= _FEWEST_WORDS:
        opening, core = core[: lead.end()].strip(), core[lead.end() :]
    tail = _TAIL.search(core)
    if tail is not None and len(core[: tail.start()].split()) >= _FEWEST_WORDS:
        closing, core = tail[1], core[: tail.start()]
    first = _SENTENCE.split(core, maxsplit=1)[0]
    if len(first.split()) >= _FEWEST_WORDS:
        core = first
    core = _END.sub("", core)
    if core[:1].isupper() and core[1:2].islower() and kind_of(core) != "other":
        core = core[0].lower() + core[1:]
    return Parts(opening, core, closing, kind_of(core))


def kind_of(core: str) -> Kind:
    """What a core is by its first two words."""
    first, _, rest = core.partition(" ")
    if _QUESTION.fullmatch(first):
        return "question"
    if _STATEMENT.fullmatch(first.split("'")[0]):
        return "statement"
    return "command" if _AFTER_A_VERB.match(rest) else "other"


def requests_of(cores: Iterable[Parts]) -> list[str]:
    """Every way of asking for every core, as they stand in a rule of a grammar.

    Braces of real texts are kept apart from slots: cores with braces are left out.
    """
    return [
        way.replace("{core}", part.core)
        for part in cores
        if "{" not in part.core and "}" not in part.core
        for way in WAYS[part.kind]
    ]


def frames(parts: Sequence[Parts]) -> dict[str, list[str]]:
    """Values of the slots ``opening``, ``closing`` and ``context``: real ones and neutral ones.

    A real one counts if at least two requests have it: what only one has may be what it is about.
    """
    openings = Counter(part.opening for part in parts if part.opening)
    closings = Counter(part.closing for part in parts if part.closing)
    return {
        "opening": [*_common(openings), *(text for text in OPENINGS if openings[text] < 2)],
        "closing": [*_common(closings), *(text for text in CLOSINGS if closings[text] < 2)],
        "context": list(CONTEXTS),
    }


def _common(counts: Counter[str]) -> list[str]:
    return [text for text, count in sorted(counts.items()) if count > 1]


FRAMES = (
    "{opening} {request}",
    "{request}, {closing}",
    "{opening} {request}, {closing}",
    "{context} {request}",
    "{opening} {context} {request}",
    "{request}. {context}",
)
"""How a request stands in a message; the slots are those of :func:`frames` and ``request``."""


def tidy(text: str) -> str:
    """A put-together message with punctuation and spaces as a person would leave them."""
    text = " ".join(text.split())
    text = re.sub(r"([?!.])\s*[,.]\s*", r"\1 ", text)  # "… today?, thanks"
    text = re.sub(r"\s+([,.;:?!])", r"\1", text)
    return re.sub(r"([.?!])\1+", r"\1", text).strip()
