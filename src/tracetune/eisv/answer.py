"""What a model answered: three fields, their vocabulary, and whether they agree (A7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tracetune.eisv.vocabulary import (
    EISV_TOKENS,
    INQUIRY_TOKENS,
    LUMEN_PRIMITIVES,
    PATTERN_COUNT,
    PATTERNS,
    translate,
)

EISV_LABEL, LUMEN_LABEL, PATTERN_LABEL = "EISV_TOKENS:", "LUMEN_TOKENS:", "PATTERN:"

# A label without a value must not take the next label for its value, so blank space is never given
# back (``*+``) once another label was seen behind it.
_VALUE = rf"\s*+(?!{EISV_LABEL}|{LUMEN_LABEL}|{PATTERN_LABEL})"
_EISV = re.compile(EISV_LABEL + _VALUE + r"([^\n]+)")
_LUMEN = re.compile(LUMEN_LABEL + _VALUE + r"([^\n]+)")
_PATTERN = re.compile(PATTERN_LABEL + _VALUE + r"(\w+)")
_SHOWN = 40


@dataclass(frozen=True)
class Answer:
    """An answer in its parts.

    Attributes:
        eisv_tokens: What stands behind ``EISV_TOKENS:`` on its line, divided at blanks.
        lumen_tokens: The same of ``LUMEN_TOKENS:``.
        pattern: The first word behind ``PATTERN:``; empty if there is none.
        valid: All three have a value.
        in_vocabulary: Valid, every token and primitive is known, and the pattern is one of five.
        problems: What keeps it from being in vocabulary, in words.
    """

    eisv_tokens: tuple[str, ...]
    lumen_tokens: tuple[str, ...]
    pattern: str
    valid: bool
    in_vocabulary: bool
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Consistency:
    """Whether the three fields of an answer agree; no part of Gate 1.

    Attributes:
        count: The EISV tokens are as many as the pattern says, and of its kind: equal for
            REPETITION, different for PAIR and TRIPLE, an inquiry token at the end of QUESTION.
        bridge: The Lumen primitives are the translation of the EISV tokens, in their order.
        problems: What does not agree, in words.
    """

    count: bool
    bridge: bool
    problems: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Everything agrees."""
        return self.count and self.bridge


def parse_answer(text: str) -> Answer:
    """Reads an answer as document 004 does: labels anywhere, case-sensitive, the first one counts.

    Two readings of the document are closed: a label without a value is missing instead of taking
    the next line with its label, and a label whose value is missing gives way to a later one that
    has it. Neither changes what counts as in vocabulary.

    Args:
        text: What the model wrote.
    """
    eisv, lumen, pattern = _tokens(_EISV, text), _tokens(_LUMEN, text), _PATTERN.search(text)
    word = pattern[1] if pattern else ""
    parts = ((EISV_LABEL, eisv), (LUMEN_LABEL, lumen), (PATTERN_LABEL, word))
    problems = [f"no {label.rstrip(':')}" for label, value in parts if not value]
    valid = not problems
    problems += [f"{_short(t)} is no EISV token" for t in eisv if t not in EISV_TOKENS]
    problems += [f"{_short(t)} is no Lumen primitive" for t in lumen if t not in LUMEN_PRIMITIVES]
    if word and word not in PATTERNS:
        problems.append(f"{_short(word)} is no pattern")
    return Answer(eisv, lumen, word, valid, valid and not problems, tuple(problems))


def _tokens(label: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = label.search(text)
    return tuple(found[1].split()) if found else ()


def _short(word: str) -> str:
    return repr(word if len(word) <= _SHOWN else word[: _SHOWN - 1] + "…")


def fits_pattern(tokens: Sequence[str], pattern: str) -> bool:
    """Whether EISV tokens are what a pattern makes: their number, and what sets it apart."""
    if len(tokens) != PATTERN_COUNT.get(pattern):
        return False
    if pattern == "REPETITION":
        return tokens[0] == tokens[1]
    if pattern == "QUESTION":
        return tokens[1] in INQUIRY_TOKENS
    return len(set(tokens)) == len(tokens)


def consistency(answer: Answer) -> Consistency:
    """Whether token count, pattern and Lumen primitives of an answer agree.

    An answer that is not in vocabulary agrees with nothing.
    """
    if not answer.in_vocabulary:
        return Consistency(count=False, bridge=False, problems=("not in vocabulary",))
    problems = []
    if not (count := fits_pattern(answer.eisv_tokens, answer.pattern)):
        problems.append(f"{' '.join(answer.eisv_tokens)} is no {answer.pattern}")
    wanted = tuple(translate(answer.eisv_tokens))
    if not (bridge := wanted == answer.lumen_tokens):
        problems.append(
            f"the bridge gives {' '.join(wanted)}, the answer {' '.join(answer.lumen_tokens)}"
        )
    return Consistency(count, bridge, tuple(problems))
