"""The regression suite: what is checked of an answer, and what a model must pass.

The checks are those of document 000 (disallowed phrases, no question at the end, JSON), with word
boundaries, and named behaviours. Critical cases block: one failure, or one missing answer, and the
model is not good enough. Of the others a share must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tracetune.conversations.accept import leaves_out, without_stalling
from tracetune.conversations.classify import BULLET, holds_diff, json_in, stall_of
from tracetune.conversations.phrases import (
    ends_with_question,
    fences,
    found,
    normalise,
    without_fences,
)
from tracetune.conversations.scores import counts_up, holds_code, refuses
from tracetune.options import Options
from tracetune.records import Record
from tracetune.records.ctv3 import Checks, EvalCase

Priority = Literal["critical", "high", "medium"]

BEHAVIOURS: dict[str, Callable[[str], bool]] = {
    "answers": lambda answer: len(without_stalling(answer).split()) >= 3,
    "asks_a_question": lambda answer: "?" in normalise(answer, quote_chars=1),
    "asks_permission": lambda answer: bool(stall_of(answer, quote_chars=1).permission),
    "ends_with_question": lambda answer: ends_with_question(normalise(answer, quote_chars=1)),
    "offers_options": lambda answer: bool(stall_of(answer, quote_chars=1).options),
    "stalls": lambda answer: bool(stall_of(answer, quote_chars=1).preambles),
    "refuses": refuses,
    "omits": leaves_out,
    "returns_code": holds_code,
    "returns_diff": holds_diff,
    "returns_json": lambda answer: json_in(answer) is not None,
    "counts_up": lambda answer: counts_up(without_fences(answer)),
    "uses_bullets": lambda answer: bool(BULLET.search(without_fences(answer))),
}
"""Behaviour → whether an answer shows it."""

FORMATS: dict[str, Callable[[str], bool]] = {
    "json": lambda answer: json_in(answer) is not None,
    "code": lambda answer: bool(fences(answer)),
    "diff": holds_diff,
    "numbered": lambda answer: counts_up(without_fences(answer)),
    "no_bullets": lambda answer: not BULLET.search(without_fences(answer)),
}
"""Format → whether an answer has it."""


CUT = "the answer was cut"
"""Why a case has failed whose answer did not come to its end: nobody knows how it ends."""


class SuiteOptions(Options):
    """When a suite is passed."""

    others_from: float = Field(
        0.7, ge=0, le=1, description="Share of the cases that are not critical which must pass."
    )


@dataclass(frozen=True)
class NamedCase:
    """An evaluation case with its name and weight in the decision.

    Attributes:
        name: Its name.
        category: What it is about.
        priority: ``critical`` blocks.
        case: The case.
    """

    name: str
    category: str
    priority: Priority
    case: EvalCase


class CaseResult(Record):
    """What became of one case.

    Attributes:
        name: The case.
        category: What it is about.
        priority: Its priority.
        passed: Whether nothing was found; False without an answer.
        failures: What was found.
        unchecked: Behaviours and formats that no check is known of.
    """

    name: str
    category: str
    priority: Priority
    passed: bool
    failures: list[str] = Field(default_factory=list)
    unchecked: list[str] = Field(default_factory=list)


class SuiteResult(Record):
    """What became of a suite.

    Attributes:
        total: Cases.
        passed: Cases passed.
        pass_rate: Share; None without a case.
        others_rate: Share of those that are not critical; None without one.
        critical_failures: Names of the critical cases that failed.
        deploy: Whether the model may go on; None without a case.
        cases: Each case.
    """

    total: int
    passed: int
    pass_rate: float | None
    others_rate: float | None
    critical_failures: list[str]
    deploy: bool | None
    cases: list[CaseResult]


def failures_of(answer: str, checks: Checks) -> tuple[list[str], list[str]]:
    """What is wrong with an answer, and what could not be checked."""
    normal = normalise(answer, quote_chars=1)
    failures, unchecked = [], []
    if not answer.strip():
        failures.append("the answer is blank")
    for phrase in checks.disallowed_phrases:
        if found([phrase.lower()], normal):
            failures.append(f"contains the phrase {phrase!r}")
    if checks.must_not_end_with_question and ends_with_question(normal):
        failures.append("ends with a question")
    name = checks.must_follow_format
    if name is not None and name not in FORMATS:
        unchecked.append(f"format {name}")
    elif name is not None and not FORMATS[name](answer):
        failures.append(f"is not in the format {name}")
    for wanted, names in (
        (True, checks.expected_behaviors),
        (False, checks.disallowed_behaviors),
    ):
        for behaviour in names:
            if behaviour not in BEHAVIOURS:
                unchecked.append(f"behaviour {behaviour}")
            elif BEHAVIOURS[behaviour](answer) != wanted:
                failures.append(f"{'lacks' if wanted else 'shows'} the behaviour {behaviour}")
    return failures, unchecked


def judge(
    cases: Sequence[NamedCase],
    answers: Mapping[str, str | None],
    options: SuiteOptions,
    cut: Collection[str] = (),
) -> SuiteResult:
    """Judges the answers of a model.

    Args:
        cases: The suite.
        answers: Name of a case → answer; a case without one has failed.
        options: What must be passed.
        cut: Names of the cases whose answer was cut; they have failed.
    """
    results = [_result(case, answers.get(case.name), case.name in cut) for case in cases]
    others = [result for result in results if result.priority != "critical"]
    blocked = [r.name for r in results if r.priority == "critical" and not r.passed]
    others_rate = sum(r.passed for r in others) / len(others) if others else None
    passed = sum(result.passed for result in results)
    enough = others_rate is None or others_rate >= options.others_from
    return SuiteResult(
        total=len(results),
        passed=passed,
        pass_rate=passed / len(results) if results else None,
        others_rate=others_rate,
        critical_failures=blocked,
        deploy=(enough and not blocked) if results else None,
        cases=results,
    )


def corpus_cases(cases: Sequence[EvalCase]) -> list[NamedCase]:
    """Evaluation cases of a corpus as cases of a suite, under their record ids."""
    return [NamedCase(case.record_id, "corpus", "high", case) for case in cases]


def _result(case: NamedCase, answer: str | None, cut: bool) -> CaseResult:
    if answer is None:
        failures, unchecked = ["there is no answer"], list[str]()
    else:
        failures, unchecked = failures_of(answer, case.case.checks)
        failures = [*([CUT] if cut else []), *failures]
    return CaseResult(
        name=case.name,
        category=case.category,
        priority=case.priority,
        passed=not failures,
        failures=failures,
        unchecked=unchecked,
    )
