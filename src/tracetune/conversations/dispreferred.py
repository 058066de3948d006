"""Worse answers made from good ones: what the model is to unlearn (domain reference, E3).

Each construction has several wordings, chosen by the request, so that a model cannot tell a worse
answer by one sentence alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracetune.conversations.classify import BULLET, NUMBERED, json_in
from tracetune.conversations.options import PairOptions
from tracetune.conversations.phrases import fence_body, fences
from tracetune.conversations.request import command_in
from tracetune.files import pretty_json, sha256_text
from tracetune.records.ctv3 import FormatConstraints

_FIRST_WORDS = 5
_NO_ENDS = frozenset(
    ("the", "a", "an", "of", "with", "to", "in", "for", "and", "that", "on", "as", "is", "my")
)
_NO_MARKS = str.maketrans("", "", '"“”`*')

_REFLEXES = (
    "Would you like me to {task}?",
    "Sure, that is possible. Do you want me to {task}, or would you prefer something else first?",
    "Before I proceed, should I {task}?",
    "I can help with that. Would you like me to {task} now?",
    "Got it. To make sure I understand: shall I {task}?",
    "That sounds doable. Do you want me to {task} right away? Please confirm and I will start.",
    "Happy to. Should I {task}, or is there anything I should know before?",
)
_SPAMS = (
    "There are several approaches here:\n\n- {a}\n- {b}\n- {c}\n\nWhich approach do you want?",
    "Here are a few options:\n\n1. {a}\n2. {b}\n3. {c}\n\nWhich of them would you prefer?",
    "We could either {a_low} or {b_low}. Which one should I go with?",
    "There are a few ways to do this. {a}, {b_low}, or {c_low}: pick one of the following and I "
    "will start. Which is it?",
    "Happy to help! Here are some options:\n\n- {a}\n- {b}\n\nDo you want me to take the first?",
)
_CHOICES = (
    "Start with a short version and extend it later",
    "Do the complete version in one go",
    "Begin with an outline that you can comment on",
    "Keep it minimal and simple",
    "Do it thoroughly with all details",
    "Take the usual approach",
    "Try something more flexible",
    "Go step by step and check with you in between",
)
_SUMMARIES = (
    "In short:\n\n{part}\n\nThe rest follows the same pattern.",
    "Here is a summary of the main part:\n\n{part}\n\nThe remaining parts are similar.",
    "{part}\n\nThe other points are omitted for brevity.",
    "To keep it brief, here is the beginning:\n\n{part}\n\nThe rest stays the same.",
)
_PREFIXES = (
    "Sure! Here is the JSON you asked for:\n\n{body}\n\nEvery field is filled in as you wanted.",
    "The result is below. It holds all the fields.\n\n{body}",
    "Of course. I put this together for you:\n\n{body}\n\nIt can be pasted as it is.",
)


def confirmation_reflex(request: str) -> str:
    """An answer that asks whether it should do what it was told to do."""
    command = command_in(request.strip())
    words = (command or request).split()[:_FIRST_WORDS]
    while len(words) > 1 and words[-1].lower() in _NO_ENDS:
        words.pop()
    start = " ".join(words).translate(_NO_MARKS).rstrip(" .,:;!?-")
    task = start if command else f"take care of “{start}”"
    return _choose(_REFLEXES, request).format(task=task)


def option_spam(request: str) -> str:
    """An answer that offers a choice nobody asked for, and asks."""
    first = int(sha256_text("options" + request)[:8], 16)
    a, b, c = (_CHOICES[(first + step) % len(_CHOICES)] for step in (0, 3, 5))
    return _choose(_SPAMS, request).format(
        a=a, b=b, c=c, a_low=_low(a), b_low=_low(b), c_low=_low(c)
    )


def omission(answer: str, options: PairOptions) -> str | None:
    """The beginning of an answer in place of all of it; None if it is too short to be cut."""
    lines = answer.strip().splitlines()
    kept = max(options.kept_lines, round(options.kept_share * len(lines)))
    if kept >= len(lines):
        return None
    part = "\n".join(lines[:kept]).rstrip()
    if part.count("```") % 2:
        part += "\n```"
    return _choose(_SUMMARIES, answer).format(part=part)


def format_drift(answer: str, constraints: FormatConstraints) -> str | None:
    """An answer that says the same in another form than was asked for; None if nothing changes.

    Numbers become bullets, JSON gets a sentence before it, fences of code go, prose becomes a
    list.
    """
    changed = answer
    if constraints.must_return_json and json_in(answer) is not None:
        blocks = fences(answer)
        body = fence_body(blocks[0]) if blocks else pretty_json(json_in(answer)).strip()
        changed = _choose(_PREFIXES, answer).format(body=body)
    elif constraints.require_numbered and NUMBERED.search(answer):
        changed = re.sub(r"^([ \t]*)\d+[.)]([ \t]+)", r"\1-\2", answer, flags=re.MULTILINE)
    elif constraints.must_return_diff and fences(answer):
        changed = _without_diff(answer)
    elif constraints.must_return_code and fences(answer):
        changed = _unfenced(answer)
    elif constraints.forbid_bullets and not BULLET.search(answer) and not fences(answer):
        changed = _bulleted(answer)
    return None if changed.strip() == answer.strip() else changed


def _unfenced(answer: str) -> str:
    for fence in fences(answer):
        answer = answer.replace(fence.strip(), fence_body(fence))
    return answer


def _without_diff(answer: str) -> str:
    """Only what the diff adds, as plain lines."""
    lines = [
        line[1:]
        for line in _unfenced(answer).splitlines()
        if line.startswith("+") and not line.startswith("+++")
    ]
    return "\n".join(lines) if any(line.strip() for line in lines) else answer


def _bulleted(answer: str) -> str:
    pieces = [part for part in re.split(r"(?<=[.!?])\s+|\n+", answer.strip()) if part]
    return "\n".join(f"- {part}" for part in pieces) if len(pieces) > 1 else answer


def _choose(wordings: Sequence[str], text: str) -> str:
    return wordings[int(sha256_text(text)[:8], 16) % len(wordings)]


def _low(text: str) -> str:
    return text[:1].lower() + text[1:]
