"""Scores of answer texts: policy, format, content, and the heuristic of the A/B comparison.

They are document 000's scores with the domain reference's corrections (E4, E6.6, E7.11). What the
original got from constants is ``None`` here, and what could be gained without doing the work is
gone; :data:`CHANGED` names each. All functions are pure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from tracetune.conversations.accept import is_mock, leaves_out, without_stalling
from tracetune.conversations.classify import BULLET, NUMBERED, json_in
from tracetune.conversations.phrases import (
    OPTIONS,
    PERMISSION,
    PREAMBLES,
    REFUSALS,
    ends_with_question,
    fence_body,
    fence_language,
    fences,
    found,
    normalise,
    sentences,
    times,
    without_fences,
)
from tracetune.records import Record
from tracetune.records.ctv3 import DpoPair, EvalCase, FormatConstraints, SftTurn

CHANGED = {
    "policy: matching": "phrases match on word boundaries and outside of code and quotations; the "
    "original found 'should i' in 'should index' and in a quoted sentence",
    "policy: questions": "where the user asked for options or input is missing, asking costs "
    "nothing; the original took points for it",
    "policy and format: blank": "a blank answer scores 0; in the original it had a perfect policy",
    "format: JSON": "an object or a list; the original took a bare number or word too",
    "format: numbers": "numbered lines count upwards from one; the original counted any digits",
    "content: correctness": "not measured; the original gave .7 to every answer",
    "content: relevance": "not measured; the original gave .8 to every answer",
    "content: code": "counts only where code is asked for, holds no placeholder and, if it is "
    "Python or JSON, can be parsed; the original gave points for three backticks",
    "a/b: code": "a fence earns points only where code is asked for, and only if it holds some",
    "a/b: length": "up to fifty words of different sentences that do not stall earn points "
    "gradually; the original gave .1 for the 51st word, whatever it was",
    "a/b: blank": "a blank answer has the lowest score; in the original it beat one that asks",
    "a/b: permission": "asking costs the same with and without a question mark, and nothing where "
    "it is allowed",
}
"""What differs from document 000, for reports and docs."""

NOT_MEASURED = ("correctness", "relevance")
"""Parts of the content score that were constants."""

_POLICY = {"no_permission": 0.4, "no_question_end": 0.3, "no_options": 0.2, "no_stalling": 0.1}
_CONTENT = {"completeness": 0.3, "correctness": 0.3, "code": 0.2, "relevance": 0.2}
_AB_PERMISSION = ("would you like me to", "should i", "do you want me to", "can i proceed")
_AB_WORDS = 50
_AB_LEAST = -1.4
"""All four phrases and a question at the end."""
_CONTENT_WORD = re.compile(r"\w{3,}")
_EMPTY_WORDS = frozenset({"the", "and", "for", "with", "all", "whole", "its", "any"})


@dataclass(frozen=True)
class Score:
    """A score and what it is made of.

    Attributes:
        value: 0 to 1 (A/B: below 0 too); None if nothing could be measured.
        parts: Part → its value; None if it was not measured or does not apply.
    """

    value: float | None
    parts: dict[str, float | None]


@dataclass(frozen=True)
class Expectation:
    """What is expected of an answer.

    Attributes:
        may_ask: Whether questions and options are welcome.
        wants_code: Whether it should hold code.
        constraints: Form.
        must_not_omit: What it has to mention.
    """

    may_ask: bool = False
    wants_code: bool = False
    constraints: FormatConstraints = field(default_factory=FormatConstraints)
    must_not_omit: tuple[str, ...] = ()


def expectation_of(record: SftTurn | DpoPair | EvalCase) -> Expectation:
    """What a record expects of an answer; code, if it asks for code or its good answer does."""
    policy = record.context.policy
    if isinstance(record, EvalCase):
        may_ask = not record.checks.must_not_end_with_question
        code = "returns_code" in record.checks.expected_behaviors
    else:
        required = policy.question_policy == "questions_if_required"
        blocked = record.tags.prompt_class == "blocked"
        may_ask = policy.question_policy == "questions_allowed" or (required and blocked)
        good = record.target if isinstance(record, SftTurn) else record.candidates.preferred
        code = bool(fences(good.assistant_content))
    return Expectation(
        may_ask=may_ask,
        wants_code=code or policy.format_constraints.must_return_code,
        constraints=policy.format_constraints,
        must_not_omit=tuple(policy.must_not_omit),
    )


def policy_score(answer: str, expected: Expectation, *, cut: bool = False) -> Score:
    """How directly an answer goes to work.

    .4 no permission + .3 no question at the end + .2 no options + .1 no stalling; each 1 less .3,
    all, .4 and .5 per occurrence, not below 0. A blank answer has 0.

    Args:
        answer: The answer.
        expected: What is expected of it.
        cut: Whether it was cut; how it would have ended is not measured then.
    """
    normal = normalise(answer, quote_chars=1)
    asked = 0 if expected.may_ask else 1
    parts: dict[str, float | None] = {
        "no_permission": max(0.0, 1 - 0.3 * asked * times(PERMISSION, normal)),
        "no_question_end": None if cut else 1.0 - asked * ends_with_question(normal),
        "no_options": max(0.0, 1 - 0.4 * asked * times(OPTIONS, normal)),
        "no_stalling": max(0.0, 1 - 0.5 * asked * times(PREAMBLES, normal)),
    }
    return policy_of(_said(answer, parts))


def policy_of(parts: Mapping[str, float | None]) -> Score:
    """The policy score of its parts; those that are None are left out."""
    return _weighted(parts, _POLICY)


def format_score(answer: str, expected: Expectation) -> Score:
    """Mean of what applies: no bullets, numbers, JSON, nothing left out; None if nothing does."""
    asked = expected.constraints
    prose = without_fences(answer)
    parts: dict[str, float | None] = {
        "bullets": float(not BULLET.search(prose)) if asked.forbid_bullets else None,
        "numbered": float(counts_up(prose)) if asked.require_numbered else None,
        "json": float(json_in(answer) is not None) if asked.must_return_json else None,
        "no_omit": kept_share(answer, expected.must_not_omit) if expected.must_not_omit else None,
    }
    return _weighted(_said(answer, parts), dict.fromkeys(parts, 1.0))


def content_score(answer: str, expected: Expectation) -> Score:
    """.3 completeness and .2 code, over what is measured; correctness and relevance are not."""
    substance = bool(_CONTENT_WORD.search(without_stalling(answer)))
    whole = not leaves_out(answer)
    marks = [float(substance), float(substance and whole)]
    if expected.must_not_omit:
        marks.append(kept_share(answer, expected.must_not_omit))
    parts: dict[str, float | None] = {
        "completeness": sum(marks) / len(marks),
        "correctness": None,
        "code": float(holds_code(answer)) if expected.wants_code else None,
        "relevance": None,
    }
    return _weighted(parts, _CONTENT)


def ab_score(answer: str, expected: Expectation, *, cut: bool = False) -> Score:
    """The heuristic of document 000's A/B comparison.

    −.3 per phrase of four that asks for permission, −.2 for a question at the end, +.2 for code
    where it is expected, up to +.1 for fifty words. A blank answer has the lowest score.

    Args:
        answer: The answer.
        expected: What is expected of it.
        cut: Whether its end is left out, because it or the one it is compared with was cut.
    """
    normal = normalise(answer, quote_chars=1)
    asked = 0 if expected.may_ask else 1
    parts: dict[str, float | None] = {
        "permission": 0.0 - 0.3 * asked * len(found(_AB_PERMISSION, normal)),
        "question_end": None if cut else 0.0 - 0.2 * asked * ends_with_question(normal),
        "code": 0.2 * (expected.wants_code and holds_code(answer)),
        "length": 0.1 * min(_own_words(answer), _AB_WORDS) / _AB_WORDS,
        "blank": 0.0 if answer.strip() else _AB_LEAST,
    }
    return Score(round(sum(part or 0.0 for part in parts.values()), 6), parts)


class AbResult(Record):
    """An A/B comparison on the same prompts.

    Attributes:
        n: Comparisons with two answers.
        failed: Prompts of which an answer is missing; they count nowhere else.
        wins: Ours scored higher.
        losses: Theirs scored higher.
        ties: Both the same.
        win_rate: Of ``n``; None if it is 0.
        loss_rate: Of ``n``; None if it is 0.
        outcomes: 1, -1 or 0 per comparison in the order of the prompts; None if it failed.
    """

    n: int
    failed: int
    wins: int
    losses: int
    ties: int
    win_rate: float | None
    loss_rate: float | None
    outcomes: list[Literal[-1, 0, 1] | None] = Field(default_factory=list)


def compare(ours: Sequence[float | None], theirs: Sequence[float | None]) -> AbResult:
    """Compares scores of answers to the same prompts (:func:`ab_score`); a win is strictly larger.

    Args:
        ours: Scores of the model under test; None where it gave no answer.
        theirs: Scores of the baseline.

    Raises:
        ValueError: The two have different lengths.
    """
    outcomes: list[Literal[-1, 0, 1] | None] = []
    for one, other in zip(ours, theirs, strict=True):
        if one is None or other is None:
            outcomes.append(None)
            continue
        outcomes.append(1 if one - other > 1e-9 else -1 if one - other < -1e-9 else 0)
    return counted(outcomes)


def counted(outcomes: Sequence[Literal[-1, 0, 1] | None]) -> AbResult:
    """Wins, losses and ties of comparisons; those that failed are in no rate.

    Args:
        outcomes: 1, -1 or 0 per comparison; None if it failed.
    """
    wins, losses, ties = (sum(one == value for one in outcomes) for value in (1, -1, 0))
    n = wins + losses + ties
    return AbResult(
        n=n,
        failed=len(outcomes) - n,
        wins=wins,
        losses=losses,
        ties=ties,
        win_rate=wins / n if n else None,
        loss_rate=losses / n if n else None,
        outcomes=list(outcomes),
    )


def kept_share(answer: str, items: Sequence[str]) -> float:
    """Share of the items that an answer mentions; 0 if it says itself that it leaves some out.

    An item is mentioned if each of its longer words is there, in any form that starts alike.
    """
    if leaves_out(answer) or not items:
        return 0.0 if items else 1.0
    there = set(_CONTENT_WORD.findall(answer.lower().replace("_", " ")))
    stems = {word[:length] for word in there for length in range(3, len(word) + 1)}

    def mentioned(item: str) -> bool:
        words = [w for w in _CONTENT_WORD.findall(item.lower()) if w not in _EMPTY_WORDS]
        return all(_stem(word) in stems for word in words)

    return sum(mentioned(item) for item in items) / len(items)


def counts_up(text: str) -> bool:
    """Whether the numbered lines of a text are at least two and count 1, 2, 3 …"""
    numbers = [int(re.findall(r"\d+", line)[0]) for line in NUMBERED.findall(text)]
    return len(numbers) >= 2 and numbers == list(range(1, len(numbers) + 1))


def holds_code(answer: str) -> bool:
    """Whether an answer holds code: closed, no placeholder, parseable if Python or JSON."""
    blocks = fences(answer)
    return bool(blocks) and not is_mock(answer) and all(_parses(block) for block in blocks)


def refuses(answer: str) -> bool:
    """Whether an answer refuses."""
    return bool(found(REFUSALS, normalise(answer, quote_chars=1)))


def _parses(fence: str) -> bool:
    language, body = fence_language(fence), fence_body(fence)
    try:
        if language in ("python", "py"):
            ast.parse(body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return language != "json" or json_in(fence) is not None


def _own_words(answer: str) -> int:
    """Words of different sentences that do not stall, code not counted."""
    said = {" ".join(part.split()).lower() for part in sentences(without_stalling(answer))}
    return sum(len(part.split()) for part in said if not part.startswith(("```", "~~~")))


def _stem(word: str) -> str:
    return word[: max(3, len(word) - 2)] if len(word) > 4 else word


def _said(answer: str, parts: dict[str, float | None]) -> dict[str, float | None]:
    """The parts of a score; all that apply are 0 for a blank answer, which avoids every fault."""
    if answer.strip():
        return parts
    return {name: None if value is None else 0.0 for name, value in parts.items()}


def _weighted(parts: Mapping[str, float | None], weights: Mapping[str, float]) -> Score:
    """The weighted mean of the parts that are measured."""
    measured = {name: value for name, value in parts.items() if value is not None}
    total = sum(weights[name] for name in measured)
    value = sum(weights[name] * part for name, part in measured.items()) / total if total else None
    return Score(None if value is None else round(value, 6), dict(parts))
