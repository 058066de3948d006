"""A look at every conversation: its exchanges, their labels, and where the user was annoyed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tracetune.conversations.classify import Label, classify
from tracetune.conversations.exchanges import Exchange, exchanges
from tracetune.conversations.friction import Friction, friction_of
from tracetune.conversations.options import SurgeryOptions
from tracetune.records import Conversation

Purpose = Literal["unjustified", "friction"]


@dataclass(frozen=True)
class Surveyed:
    """One conversation and what is said of it.

    Attributes:
        group: The conversation.
        exchanges: Its exchanges; of some the answer is missing.
        labels: Number of an exchange with an answer → its label.
        frictions: Stretches in which the user was annoyed.
    """

    group: str
    exchanges: list[Exchange]
    labels: dict[int, Label]
    frictions: list[Friction]

    def friction_at(self, number: int) -> Friction | None:
        """The stretch whose quarantine holds the answer of an exchange."""
        return next((part for part in self.frictions if number in part.quarantined), None)


@dataclass(frozen=True)
class Target:
    """An answer that should have been another one.

    Attributes:
        exchange: The exchange.
        label: Its label.
        purpose: Why: it stalled, or it annoyed the user.
        complaint: What the user said after it; empty unless it annoyed.
        later: A later answer of the conversation that may be what was wanted.
        friction: The stretch it belongs to.
    """

    exchange: Exchange
    label: Label
    purpose: Purpose
    complaint: str
    later: str
    friction: Friction | None


def survey(conversations: Iterable[Conversation], options: SurgeryOptions) -> list[Surveyed]:
    """Labels every answer and finds friction.

    Args:
        conversations: The corpus, redacted.
        options: Thresholds.
    """
    found = []
    for conversation in conversations:
        parts = exchanges(conversation)
        labels = {
            part.number: classify(part, options.classifier) for part in parts if part.answered
        }
        found.append(Surveyed(conversation.group, parts, labels, friction_of(parts)))
    return found


def targets(surveyed: Surveyed, options: SurgeryOptions) -> Iterator[Target]:
    """The answers of a conversation that are to be rewritten, in order.

    Stalling ones, if the request is complete enough and they hold no work; and all that are
    quarantined for friction.
    """
    for number, label in surveyed.labels.items():
        exchange = surveyed.exchanges[number]
        friction = surveyed.friction_at(number)
        if friction is not None:
            complaint = surveyed.exchanges[number + 1].user
            later = surveyed.exchanges[friction.last].answer
            yield Target(exchange, label, "friction", complaint, later, friction)
        elif (
            label.verdict == "unjustified"
            and not label.exec
            and label.request.completeness >= options.rewrite.completeness_from
        ):
            yield Target(exchange, label, "unjustified", "", _granted(surveyed, number), None)


def _granted(surveyed: Surveyed, number: int) -> str:
    """The next answer, if all that the user said in between was yes, or which one."""
    if number + 1 >= len(surveyed.exchanges):
        return ""
    following = surveyed.exchanges[number + 1]
    return following.answer if is_consent(following.user) else ""


_CONSENT = frozenset(
    re.findall(
        r"\S+",
        """yes yep yeah sure ok okay please do it go ahead of course proceed fine absolutely just
        that's great good sounds both all of them the first one write send give me show then now
        thanks thank you obviously definitely exactly correct right""",
    )
)
_MOST_WORDS, _CHOICE_WORDS = 8, 3


def is_consent(text: str) -> bool:
    """Whether a user only agrees, or names one of the choices offered: no fact is added."""
    words = "".join(c if c.isalnum() or c in "'- " else " " for c in text.lower()).split()
    if "?" in text or any(c.isdigit() for c in text):
        return False
    short = 0 < len(words) <= _CHOICE_WORDS and "no" not in words and "not" not in words
    return short or (0 < len(words) <= _MOST_WORDS and set(words) <= _CONSENT)
