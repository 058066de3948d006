"""Words that stall: lists of phrases, and how a text is made ready to look for them.

Phrases match on word boundaries in the normalised text: in ``you should index it`` nobody asks
``should i``, and what is quoted or stands in code is not said by the one who writes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

PERMISSION = (
    "would you like me to",
    "do you want me to",
    "should i",
    "shall i",
    "can i proceed",
    "before i proceed",
    "can you confirm",
    "please confirm",
    "let me know if you want",
    "tell me if you want",
    "is that okay",
    "does that work",
    "sound good",
    "would you prefer",
    "should we",
)
OPTIONS = (
    "i can do",
    "here are a few options",
    "here are some options",
    "which approach do you want",
    "pick one of the following",
    "choose between",
    "a few ways to",
    "several approaches",
    "multiple options",
    "we could either",
)
PREAMBLES = (
    "i need a bit more information",
    "i'll need more context",
    "to help you better",
    "could you provide",
    "what exactly do you mean",
    "could you clarify",
    "to make sure i understand",
    "just to clarify",
    "can you tell me more",
    "what do you mean by",
)
REFUSALS = (
    "i can't help with",
    "i cannot help with",
    "i can't do that",
    "i cannot do that",
    "i can't assist",
    "i cannot assist",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "i am not able to",
    "i won't be able to",
    "i don't have the ability to",
    "i can't provide",
    "i cannot provide",
    "i must decline",
    "as an ai",
    "as a language model",
)
"""Refusals of the project: the domain reference gives their number, not their words."""

CODE = " \N{BLACK SQUARE} "
"""What stands in place of code and quotations: it is no word and ends no sentence."""

_FENCE = re.compile(r"(?:^|(?<=\n))[ \t]*(`{3,}|~{3,}).*?(?:\n[ \t]*\1[`~]*(?=\s|$)|\Z)", re.DOTALL)
_INLINE_FENCE = re.compile(r"```.*?```", re.DOTALL)
_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_PARAGRAPH = re.compile(r"(\n[ \t]*\n)")
_QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”|«([^»]*)»')
_CLOSING = " \t\r\n*_`)]}\"'”»"
_QUESTION_WORDS = "what|which|who|whom|whose|when|where|why|how"
_ASKING_VERBS = (
    "do|does|did|is|are|was|were|can|could|would|will|should|shall|may|might|have|has|want"
)
_OPEN_QUESTION = re.compile(rf"(?:{_QUESTION_WORDS}|{_ASKING_VERBS})\b")
_CLOSED_QUESTION = re.compile(
    rf"(?:(?:{_QUESTION_WORDS})\b(?:\s+\w+){{0,3}}\s+)?(?:{_ASKING_VERBS})\s+"
    r"(?:you|i|we|that|this|it|me)\b"
)


@lru_cache(maxsize=4_096)
def normalise(text: str, quote_chars: int = 50) -> str:
    """Lower-case text without code, quoted lines and long quotations.

    Args:
        text: What somebody said.
        quote_chars: Quoted stretches of at least this length are left out.
    """
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = _INLINE_FENCE.sub(CODE, _FENCE.sub(CODE, text))
    text = _QUOTED_LINE.sub("", text)

    def unquoted(match: re.Match[str]) -> str:
        inner = next(group for group in match.groups() if group is not None)
        return CODE if len(inner) >= quote_chars else match[0]

    # Quotation marks pair up within a paragraph; one that is left open reaches no further.
    parts = _PARAGRAPH.split(text)
    return "".join(_QUOTED.sub(unquoted, part) for part in parts).lower()


@cache
def _pattern(phrase: str) -> re.Pattern[str]:
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    start = r"(?<!\w)" if phrase[0].isalnum() else ""
    end = r"(?!\w)" if phrase[-1].isalnum() else ""
    return re.compile(start + words + end)


def found(phrases: Sequence[str], normal: str) -> list[str]:
    """The phrases that a normalised text holds, each once."""
    return [phrase for phrase in phrases if _pattern(phrase).search(normal)]


def times(phrases: Sequence[str], normal: str) -> int:
    """How often the phrases stand in a normalised text, repetitions counted."""
    return sum(len(_pattern(phrase).findall(normal)) for phrase in phrases)


def ends_with_question(normal: str) -> bool:
    """Whether a normalised text ends with a question, with or without a question mark."""
    text = normal.rstrip(_CLOSING)
    if text.endswith(("?", "？")):
        return True
    open_end = not text.endswith((".", "!", ":", ";", "…", CODE.strip()))
    last = re.split(r"[.!?\n]+", text.rstrip(".!… "))[-1].strip(" *_-")
    if open_end and _OPEN_QUESTION.match(last):
        return True
    return not text.endswith((":", CODE.strip())) and bool(_CLOSED_QUESTION.match(last))


def sentences(text: str) -> list[str]:
    """Sentences and lines of a text outside of code, in order and as they stand."""
    pieces: list[str] = []
    at = 0
    for fence in _FENCE.finditer(text):
        pieces += _split(text[at : fence.start()])
        pieces.append(fence[0])
        at = fence.end()
    return [*pieces, *_split(text[at:])]


def fences(text: str) -> list[str]:
    """The closed fences of a text, with their marks."""
    whole = [match[0] for match in _FENCE.finditer(text)]
    return [fence for fence in whole if len(fence.strip().splitlines()) >= 2 and _closed(fence)]


def _closed(fence: str) -> bool:
    lines = fence.strip().splitlines()
    mark = lines[0].strip()[:3]
    return len(lines) >= 3 and lines[-1].strip().startswith(mark) and bool(fence_body(fence))


def fence_body(fence: str) -> str:
    """What stands between the marks of a fence."""
    return "\n".join(fence.strip().splitlines()[1:-1]).strip()


def fence_language(fence: str) -> str:
    """The language that a fence names; empty if none."""
    words = fence.strip().splitlines()[0].strip().strip("`~").split()
    return words[0].lower() if words else ""


def without_fences(text: str) -> str:
    """A text without its fences."""
    return _FENCE.sub("\n", text)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])[ \t]+|(?<=\n)", text) if part]
