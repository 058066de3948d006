"""Friction: turns in which the user is annoyed by the answer before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tracetune.conversations.exchanges import Exchange
from tracetune.conversations.phrases import found, normalise

TRIGGERS = (
    "stop asking",
    "don't ask",
    "don't do that",
    "i said",
    "just do it",
    "i challenge you",
    "actually,",
    "no, i meant",
    "that's not what i asked",
    "try again",
    "you keep",
    "i already told you",
    "as i mentioned",
    "like i said",
    "for the third time",
    "please just",
)
WEAK = frozenset({"i said", "actually,"})
"""Said without annoyance just as often, so they count only together with another sign."""

_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bwhy (?:do|are|did) you (?:still|keep|always|again)\b",
        r"\bhow (?:many times|often) do i\b",
        r"\bfor the (?:second|fourth|fifth|tenth|last|\d+(?:nd|rd|th)) time\b",
        r"\b(?:that's|that is|this is) (?:still )?(?:wrong|not it|not right|useless|nonsense)\b",
        r"\byou (?:didn't|did not|haven't|never|still haven't) (?:even )?"
        r"(?:read|answer|listen|do|done|write|written|look)\b",
        r"\bstop (?:with the|offering|repeating|giving me|adding)\b",
        r"[!?]{3,}",
    )
)
_CAPITALS = re.compile(r"\b[A-Z]{4,}\b")
_ACRONYMS = frozenset(
    {"JSON", "YAML", "HTML", "HTTP", "HTTPS", "REST", "TODO", "UUID", "ASCII", "TOML", "CORS"}
)
_NEGATION = re.compile(r"\b(?:no|not|don't|didn't|doesn't|isn't|never|wrong|stop)\b")


@dataclass(frozen=True)
class Friction:
    """A stretch of a conversation in which the user is annoyed.

    Attributes:
        bad: Number of the exchange whose answer annoyed; None if it was the first request.
        first: Number of the first exchange with an annoyed request.
        last: Number of the last one in a row.
        intensity: The strongest of them, 0 to 1.
        triggers: What was found.
    """

    bad: int | None
    first: int
    last: int
    intensity: float
    triggers: tuple[str, ...]

    @property
    def quarantined(self) -> range:
        """Numbers of the exchanges whose answers are not taught.

        From the answer before the first annoyed request to the answer before the last one; the
        answer to the last one did not annoy any more.
        """
        return range(self.first if self.bad is None else self.bad, self.last)


def signs_of(text: str) -> tuple[float, tuple[str, ...]]:
    """Intensity and triggers of what a user said; intensity 0 if it is no friction."""
    normal = normalise(text)
    triggers = found(TRIGGERS, normal)
    patterns = [match[0] for pattern in _PATTERNS if (match := pattern.search(normal))]
    shouts = [word for word in _CAPITALS.findall(text) if word not in _ACRONYMS]
    exclaims, again = normal.count("!"), bool(re.search(r"\bagain\b", normal))
    negation = bool(_NEGATION.search(normal))
    if not triggers and not patterns:
        return 0.0, ()
    signs = bool(patterns) or exclaims or shouts or again or negation
    if set(triggers) <= WEAK and len(triggers) < 2 and not signs:
        return 0.0, ()
    intensity = (
        min(0.4, 0.1 * (len(triggers) + len(patterns)))
        + min(0.2, 0.05 * exclaims)
        + min(0.2, 0.1 * len(shouts))
        + 0.1 * again
        + 0.1 * negation
    )
    return round(intensity, 3), (*triggers, *patterns)


def friction_of(exchanges: Sequence[Exchange]) -> list[Friction]:
    """The stretches of friction in a conversation, in order.

    Args:
        exchanges: All exchanges of one conversation.
    """
    marks = [signs_of(exchange.user) for exchange in exchanges]
    segments, number = [], 0
    while number < len(marks):
        if not marks[number][1]:
            number += 1
            continue
        end = number
        while end + 1 < len(marks) and marks[end + 1][1]:
            end += 1
        run = marks[number : end + 1]
        segments.append(
            Friction(
                bad=number - 1 if number else None,
                first=number,
                last=end,
                intensity=max(intensity for intensity, _ in run),
                triggers=tuple(dict.fromkeys(sign for _, signs in run for sign in signs)),
            )
        )
        number = end + 1
    return segments
