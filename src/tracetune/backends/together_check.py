"""The check before an upload: what the service would refuse or train wrongly, all of it at once.

The check of the SDK lets almost everything pass, and the service refuses a file only after the
upload. The rules here are those that the service documents, and some that nobody else checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tracetune.errors import DataError
from tracetune.files import canonical_json
from tracetune.training.base import BaseModelRef
from tracetune.training.rendering import TOKENS_PER_TURN, estimated_tokens

ROLES = ("system", "user", "assistant", "tool")
BEFORE = {
    "user": ("system", "assistant", None),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
    "system": (None,),
}
"""By role: which may stand before it; None is the start."""
_KEYS = {"sft": {"messages"}, "dpo": {"input", "preferred_output", "non_preferred_output"}}
_SHOWN = 100

CountTokens = Callable[[str], int]
Line = dict[str, Any]


class Problem(BaseModel):
    """Something wrong with one line.

    Attributes:
        line: Its number, from 1.
        reason: What is wrong; never quotes the text of the row.
        long: Whether it is only that the row is too long.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    line: int
    reason: str
    long: bool = False


class CheckReport(BaseModel):
    """What the check found in one file.

    Attributes:
        rows: Number of lines.
        tokens: Tokens of all texts of all lines, of a pair those of both answers; an estimate,
            because the service's template may add some.
        longest: Tokens of the longest line.
        problems: What is wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    tokens: int
    longest: int
    problems: list[Problem]


def token_counter(base: BaseModelRef) -> tuple[CountTokens, str]:
    """Counts tokens, and says by what: ``tokenizer``, or ``bytes`` if the base has none here."""
    path = Path(base.path) / "tokenizer.json"
    if not base.path or not path.is_file():
        return estimated_tokens, "bytes"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), "tokenizer"


def check_lines(
    lines: Sequence[Line],
    method: str,
    *,
    longest: int,
    count: CountTokens,
    numbers: Sequence[int] | None = None,
) -> CheckReport:
    """Checks the lines of a file.

    Args:
        lines: JSON values.
        method: ``sft`` or ``dpo``.
        longest: Most tokens of a row.
        count: Counts the tokens of a text.
        numbers: Numbers of the lines for messages; 1, 2, 3 … if None.
    """
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    total = most = 0
    for index, line in enumerate(lines):
        number = numbers[index] if numbers else index + 1
        reasons = list(_shape(line, method))
        if not reasons:
            tokens, other = _tokens(line, count)
            total, most = total + tokens + other, max(most, tokens)
            if tokens > longest:
                reason = f"about {tokens} tokens, more than the {longest} that fit"
                problems.append(Problem(line=number, reason=reason, long=True))
        key = canonical_json({part: value for part, value in line.items() if part != "weight"})
        if key in seen:
            reasons.append(f"the same as line {seen[key]}")
        seen.setdefault(key, number)
        problems += [Problem(line=number, reason=reason) for reason in reasons]
    return CheckReport(rows=len(lines), tokens=total, longest=most, problems=problems)


def demand(reports: dict[str, CheckReport], folder: str, counted_by: str = "tokenizer") -> None:
    """Stops if any file has a problem or there is nothing to train on.

    Args:
        reports: By file.
        folder: Where the rows lie, for messages.
        counted_by: ``tokenizer`` or ``bytes``.

    Raises:
        DataError: With every problem of every file.
    """
    found = [
        f"{name}, line {problem.line}: {problem.reason}"
        for name, report in reports.items()
        for problem in report.problems
    ]
    empty = [name for name, report in reports.items() if not report.rows]
    found = [f"{name} has no rows" for name in empty] + found
    if not found:
        return
    shown = "\n".join(f"  {line}" for line in found[:_SHOWN])
    long = any(problem.long for report in reports.values() for problem in report.problems)
    more = "; tokens are estimated from bytes: base_model.local can name the model's tokenizer"
    rest = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise DataError(
        f"{len(found)} problems in the rows; nothing was uploaded:\n{shown}{rest}",
        where=folder,
        remedy="correct or leave out these rows, then run again"
        + (more if long and counted_by == "bytes" else ""),
    )


def _shape(line: Line, method: str) -> Iterator[str]:
    """What is wrong with the keys, roles and texts of a line."""
    keys = set(line) - {"weight"}
    if keys != _KEYS[method]:
        yield f"the keys are {sorted(keys)}, expected {sorted(_KEYS[method])}"
        return
    weight = line.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
        yield "weight is not a number from 0 on"
    if method == "sft":
        yield from _messages(line["messages"], "messages", weights=True)
        if not _last_is(line["messages"], "assistant"):
            yield "messages: the last one is not from the assistant"
        elif not any(item.get("weight", 1) for item in line["messages"] if _answers(item)):
            yield "messages: no answer is trained, all have weight 0"
        return
    given = line["input"]
    if not isinstance(given, dict) or set(given) != {"messages"}:
        yield "input: expected an object with messages alone"
        return
    yield from _messages(given["messages"], "input", weights=False)
    if _last_is(given["messages"], "assistant"):
        yield "input: the last message is from the assistant"
    for name in ("preferred_output", "non_preferred_output"):
        yield from _output(line[name], name)
    if line["preferred_output"] == line["non_preferred_output"]:
        yield "the preferred and the other answer are the same"


def _messages(messages: Any, name: str, *, weights: bool) -> Iterator[str]:
    if not isinstance(messages, list) or not messages:
        yield f"{name}: expected a list with at least one message"
        return
    before: str | None = None
    for place, message in enumerate(messages, start=1):
        where = f"{name}, message {place}"
        if not isinstance(message, dict):
            yield f"{where}: not an object"
            return
        extra = set(message) - {"role", "content"} - ({"weight"} if weights else set())
        if extra:
            yield f"{where}: unknown keys {sorted(extra)}"
        role = message.get("role")
        if role not in ROLES:
            yield f"{where}: unknown role {role!r}"
            return
        if before not in BEFORE[role]:
            yield f"{where}: {role} after {before or 'nothing'}"
        yield from _content(message, where)
        if message.get("weight", 1) not in (0, 1) or isinstance(message.get("weight"), bool):
            yield f"{where}: weight is neither 0 nor 1"
        before = role


def _output(output: Any, name: str) -> Iterator[str]:
    if not isinstance(output, list) or len(output) != 1 or not _answers(output[0]):
        yield f"{name}: expected exactly one message, from the assistant"
        return
    if set(output[0]) != {"role", "content"}:
        yield f"{name}: expected role and content alone"
    yield from _content(output[0], name)


def _content(message: Line, where: str) -> Iterator[str]:
    content = message.get("content")
    if not isinstance(content, str):
        yield f"{where}: content is not text"
    elif not content.strip():
        yield f"{where}: content is empty"


def _answers(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "assistant"


def _last_is(messages: Any, role: str) -> bool:
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return False
    return bool(messages[-1].get("role") == role)


def _tokens(line: Line, count: CountTokens) -> tuple[int, int]:
    """Tokens of a row; of a pair those with its longer answer, and those of the shorter one."""

    def length(messages: Sequence[Line]) -> int:
        return sum(count(message["content"]) + TOKENS_PER_TURN for message in messages)

    if "messages" in line:
        return length(line["messages"]), 0
    answers = (length(line["preferred_output"]), length(line["non_preferred_output"]))
    return length(line["input"]["messages"]) + max(answers), min(answers)
