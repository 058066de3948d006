"""The classifier of answers (domain reference, E3 with the project choices of E7).

An answer is *unjustified* if it stalls although nothing stood in the way of answering,
*justified* if it asks where asking was right, else *neutral*.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from tracetune.conversations.exchanges import Exchange
from tracetune.conversations.options import ClassifierOptions
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
)
from tracetune.conversations.request import Request, read_request
from tracetune.records.ctv3 import (
    FailureMode,
    FormatConstraints,
    Policy,
    PromptClass,
    QuestionPolicy,
    Topology,
)

Verdict = Literal["unjustified", "justified", "neutral"]

PHASES = ("opening", "context", "solution", "refinement", "synthesis", "conclusion")
_PHASE_FROM = (0.1, 0.25, 0.5, 0.75, 0.9)

_DIFF = re.compile(r"^(?:--- \S|\+\+\+ \S|@@ -\d+(?:,\d+)? \+\d+)", re.MULTILINE)
_JSON = re.compile(r'\{\s*"[^"\n]+"\s*:')
_HERE_IS = re.compile(r"\bhere(?:'s| is)\b", re.IGNORECASE)
NUMBERED = re.compile(r"^[ \t]*\d+[.)][ \t]+\S", re.MULTILINE)
BULLET = re.compile(r"^[ \t]*[-*•+][ \t]+\S", re.MULTILINE)
_ENOUGH_AFTER, _NUMBERED_LINES = 100, 3


@dataclass(frozen=True)
class Stall:
    """How much an answer stalls.

    Attributes:
        refusals: Phrases of refusal, each once.
        permission: Phrases that ask for permission.
        options: Phrases that offer a choice.
        preambles: Phrases that put off the work.
        question: Whether it ends with a question.
    """

    refusals: tuple[str, ...]
    permission: tuple[str, ...]
    options: tuple[str, ...]
    preambles: tuple[str, ...]
    question: bool

    @property
    def score(self) -> int:
        """4 per refusal, 3 per permission, 2 per options, 1 per preamble and for the question."""
        return (
            4 * len(self.refusals)
            + 3 * len(self.permission)
            + 2 * len(self.options)
            + len(self.preambles)
            + self.question
        )

    @property
    def phrases(self) -> tuple[str, ...]:
        """All phrases of the lists."""
        return (*self.refusals, *self.permission, *self.options, *self.preambles)

    @property
    def failure_modes(self) -> list[FailureMode]:
        """What is wrong with it, in the words of the schema."""
        modes: list[FailureMode] = []
        if self.permission:
            modes.append("asked_permission")
        if self.question:
            modes.append("ended_with_question")
        if self.options:
            modes.append("option_spam")
        return modes


@dataclass(frozen=True)
class Label:
    """What the classifier says of one exchange.

    Attributes:
        request: The request.
        stall: How much the answer stalls.
        exec: How much work the answer holds; 0: none.
        policy: Whether it may ask.
        phase: Place in the conversation, index of :data:`PHASES`.
        verdict: What follows at the threshold.
        strict_verdict: What would follow at the second threshold.
        prompt_class: Class of the request.
    """

    request: Request
    stall: Stall
    exec: int
    policy: QuestionPolicy
    phase: int
    verdict: Verdict
    strict_verdict: Verdict
    prompt_class: PromptClass

    @property
    def rules(self) -> list[str]:
        """Names of the rules that touched it, for the report."""
        touched = {
            "refusal": bool(self.stall.refusals),
            "permission": bool(self.stall.permission),
            "options": bool(self.stall.options),
            "preamble": bool(self.stall.preambles),
            "ends_with_question": self.stall.question,
            "exec": self.exec > 0,
            "missing_input": self.request.missing_input,
            "vague_target": self.request.vague,
            "options_asked": self.request.wants_options,
            "blocked": self.prompt_class == "blocked",
            f"verdict_{self.verdict}": True,
        }
        return [name for name, is_so in touched.items() if is_so]

    def ctv3_policy(self) -> Policy:
        """The policy as the schema has it."""
        return Policy(
            question_policy=self.policy,
            directive_completeness=self.request.completeness,
            must_not_omit=list(self.request.must_not_omit),
            format_constraints=self.request.constraints,
        )


def stall_of(answer: str, quote_chars: int = 50) -> Stall:
    """Looks for stalling in an answer."""
    normal = normalise(answer, quote_chars)
    return Stall(
        refusals=tuple(found(REFUSALS, normal)),
        permission=tuple(found(PERMISSION, normal)),
        options=tuple(found(OPTIONS, normal)),
        preambles=tuple(found(PREAMBLES, normal)),
        question=ends_with_question(normal),
    )


def exec_of(answer: str, constraints: FormatConstraints) -> int:
    """How much work an answer holds.

    1 each for a code fence, marks of a unified diff, JSON, "here is" with 100 characters after it,
    and three numbered lines; 2 for a whole artefact of the form that was asked for.
    """
    here = _HERE_IS.search(answer)
    score = bool(fences(answer)) + bool(_DIFF.search(answer)) + bool(_JSON.search(answer))
    score += here is not None and len(answer[here.end() :].strip()) >= _ENOUGH_AFTER
    score += len(NUMBERED.findall(answer)) >= _NUMBERED_LINES
    whole = (
        (constraints.must_return_code and bool(fences(answer)))
        or (constraints.must_return_diff and holds_diff(answer))
        or (constraints.must_return_json and json_in(answer) is not None)
    )
    return int(score) + 2 * whole


def holds_diff(answer: str) -> bool:
    """Whether an answer holds marks of a unified diff."""
    return bool(_DIFF.search(answer))


def json_in(answer: str) -> Any | None:
    """The JSON of an answer: of its first ```json block, or else the whole of it; None if none.

    Nobody who asks for JSON means a bare number or word, though each is a JSON text.
    """
    blocks = [fence_body(fence) for fence in fences(answer) if fence_language(fence) == "json"]
    try:
        found = json.loads(blocks[0] if blocks else answer)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def classify(exchange: Exchange, options: ClassifierOptions) -> Label:
    """Labels one exchange.

    The policy comes first: who was asked for options may ask. An answer that holds work and does
    not stall is neutral, however unclear the request was.
    """
    request = read_request(
        exchange.user,
        options,
        earlier=[message.content for message in exchange.history if message.role != "system"],
        attachments=bool(exchange.attachments),
        answer=exchange.answer,
    )
    stall = stall_of(exchange.answer, options.quote_chars)
    work = exec_of(exchange.answer, request.constraints)
    phase = phase_of(exchange.request_depth)
    policy = policy_of(request, phase, options)

    def verdict(threshold: int) -> Verdict:
        if work and not stall.score:
            return "neutral"
        if policy != "questions_allowed":
            stalls = stall.score >= threshold and request.blocked <= options.blocked_at_most
            asks = stall.question and bool(stall.permission)
            complete = request.completeness >= options.complete_from
            if (stalls and not work) or (asks and complete):
                return "unjustified"
        required = policy == "questions_if_required" and request.blocked >= 2
        if request.blocked >= options.justified_from or policy == "questions_allowed" or required:
            return "justified"
        return "neutral"

    return Label(
        request=request,
        stall=stall,
        exec=work,
        policy=policy,
        phase=phase,
        verdict=verdict(options.stall_threshold),
        strict_verdict=verdict(options.strict_threshold),
        prompt_class=prompt_class_of(request, options),
    )


def policy_of(request: Request, phase: int, options: ClassifierOptions) -> QuestionPolicy:
    """Whether an answer may ask: by what was asked for, how completely, and where."""
    if request.wants_options:
        return "questions_allowed"
    if request.completeness >= options.complete_from:
        return "no_questions"
    if request.completeness < options.unclear_below or phase <= 1:
        return "questions_if_required"
    return "no_questions"


def phase_of(depth: float) -> int:
    """The phase of a place on the path, 0 to 1; index of :data:`PHASES`."""
    return sum(depth >= start for start in _PHASE_FROM)


def prompt_class_of(request: Request, options: ClassifierOptions) -> PromptClass:
    """The class of a request."""
    if request.blocked >= options.justified_from:
        return "blocked"
    if request.completeness >= options.directive_from:
        return "directive"
    return "ambiguous" if request.completeness >= options.unclear_below else "open_ended"


def topology_of(exchange: Exchange, phase: int) -> Topology:
    """Where the answer stands: depth, order among branches, likeness, time, complexity."""
    homogeneity = _likeness(exchange.user, exchange.answer)
    lines = exchange.answer.count("\n") + 1
    complexity = (
        0.5 * min(len(exchange.answer.split()) / 400, 1)
        + 0.3 * bool(fences(exchange.answer))
        + 0.2 * min(lines / 60, 1)
    )
    values = {
        "depth_norm": round(exchange.depth, 4),
        "sibling_order": round(exchange.sibling, 4),
        "homogeneity": round(homogeneity, 4),
        "temporal_norm": round(exchange.temporal, 4),
        "complexity": round(min(complexity, 1.0), 4),
    }
    return Topology(coords_5d=list(values.values()), phase_id=phase, **values)


def _likeness(one: str, other: str) -> float:
    """Jaccard similarity of word sets."""
    a, b = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0
