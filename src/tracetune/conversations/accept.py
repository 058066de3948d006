"""What an answer must be before it is taught in place of another one."""

from __future__ import annotations

import re

from tracetune.conversations.classify import BULLET, NUMBERED, Label, holds_diff, json_in, stall_of
from tracetune.conversations.options import RewriteOptions
from tracetune.conversations.phrases import fences, sentences, without_fences
from tracetune.records.ctv3 import FormatConstraints

_CODE_VERBS = frozenset({"implement", "create", "write", "generate", "build"})
_MOCK = re.compile(
    r"(?:#|//|--|/\*|<!--)\s*(?:todo|fixme|your (?:code|logic|implementation)"
    r"|(?:add|put|insert|implement) (?:your|the (?:rest|logic|implementation)|this)"
    r"|(?:the )?rest of (?:the|your)|\.\.\.|implementation (?:here|goes here)|existing code)"
    r"|\byour[_ ](?:code|logic)[_ ](?:goes )?here\b|<your[ _-]|\braise NotImplementedError\b"
    r"|^\s*\.\.\.\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_OMITTED = re.compile(
    r"\b(?:omitted for brevity|for brevity|remains? unchanged|stays? the same as before"
    r"|and so on(?: for the rest)?\b|(?:the )?rest (?:is|follows|stays) (?:the same|similar"
    r"|unchanged)|left as an exercise)",
    re.IGNORECASE,
)
_APOLOGY = re.compile(
    r"^(?:(?:oh|ah|right|ok|okay|yes|got it|understood|noted|fair)[,.! ]+)*"
    r"(?:i'm (?:very |so )?sorry|sorry|i apologi[sz]e|my (?:apologies|mistake|bad)|apologies"
    r"|you(?:'re| are) (?:absolutely |completely |quite )?right|understood|got it|fair (?:point"
    r"|enough)|point taken|noted|no more questions|right)\b",
    re.IGNORECASE,
)


def is_mock(text: str) -> bool:
    """Whether code is only pretended: a placeholder stands where work should be."""
    return bool(_MOCK.search(text))


def leaves_out(text: str) -> bool:
    """Whether a text says itself that it leaves something out."""
    return is_mock(text) or bool(_OMITTED.search(text))


def format_faults(text: str, constraints: FormatConstraints) -> list[str]:
    """The constraints that an answer breaks, by their names."""
    prose = without_fences(text)
    kept = {
        "forbid_bullets": not BULLET.search(prose),
        "require_numbered": len(NUMBERED.findall(prose)) >= 2,
        "must_return_code": bool(fences(text)),
        "must_return_diff": holds_diff(text),
        "must_return_json": json_in(text) is not None,
    }
    asked = constraints.model_dump()
    return [name for name, holds in kept.items() if asked[name] and not holds]


def refusals(text: str, label: Label, original: str, options: RewriteOptions) -> list[str]:
    """Why an answer is not accepted; empty if it is.

    It ends with no question, holds no phrase of the lists and no pretended code, keeps the form
    that was asked for, and holds what was asked for: code where code is written, code or a diff
    where it is refactored, else more than a hundred characters. Code is expected only of requests
    about code: a letter that is to be written is text.

    Args:
        text: The answer.
        label: Label of the exchange.
        original: The answer that it would replace.
        options: Lengths.
    """
    stall = stall_of(text, quote_chars=1)
    reasons = []
    if stall.question:
        reasons.append("it ends with a question")
    if stall.phrases:
        reasons.append("it stalls: " + ", ".join(stall.phrases))
    if is_mock(text):
        reasons.append("its code is a placeholder")
    faults = format_faults(text, label.request.constraints)
    if faults:
        reasons.append("its form is not what was asked for: " + ", ".join(faults))
    if " ".join(text.split()) == " ".join(original.split()):
        reasons.append("it is the answer that it should replace")
    return [*reasons, *_artefact(text, label, options)]


def _artefact(text: str, label: Label, options: RewriteOptions) -> list[str]:
    request = label.request
    code = bool(fences(text))
    if request.task_type == "refactor" and request.domain == "code":
        return [] if code or holds_diff(text) else ["neither code nor a diff is in it"]
    if request.wants_code and (
        request.imperative in _CODE_VERBS or request.constraints.must_return_code
    ):
        return [] if code else ["no code is in it"]
    # Code, JSON and a diff that were asked for are whole however short they are.
    if code or (request.constraints.must_return_json and json_in(text) is not None):
        return []
    if len(text.strip()) > options.fewest_chars:
        return []
    return [f"it has no more than {options.fewest_chars} characters"]


def without_stalling(text: str) -> str:
    """A text without the sentences that stall, and without a question at its end."""
    kept = [part for part in sentences(text) if not stall_of(part, quote_chars=1).phrases]
    while kept and stall_of(kept[-1], quote_chars=1).question:
        kept.pop()
    return _joined(kept)


def without_apology(text: str) -> str:
    """A text without the apologies at its start."""
    parts = sentences(text)
    while parts and (_APOLOGY.match(parts[0].strip()) or not parts[0].strip()):
        parts.pop(0)
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    text = ""
    for part in parts:
        gap = "" if not text or text.endswith("\n") or part.startswith("\n") else " "
        text += gap + part
    return re.sub(r"\n{3,}", "\n\n", text).strip()
