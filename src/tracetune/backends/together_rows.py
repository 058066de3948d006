"""Records → the lines that Together AI takes today, redacted.

SFT rows become ``{"messages": [...]}``; the turns of the prompt have weight 0, so that the same
tokens are trained as locally. Pairs become ``input`` (with the turns that both sides share),
``preferred_output`` and ``non_preferred_output``. No other key leaves the machine: no ids, no tags,
no provenance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tracetune.files import canonical_json
from tracetune.privacy import redact_counted
from tracetune.records import Example, Message, Preference
from tracetune.training.job import TRAIN_FILE, VALIDATION_FILE, TrainingJob, read_rows

FILES = (TRAIN_FILE, VALIDATION_FILE)
_SEPARATORS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


@dataclass
class Compiled:
    """One file as it will be uploaded.

    Attributes:
        name: Name of the file of rows.
        lines: JSON values, one per row.
        sources: Line in the file of rows that each was made from.
        dropped: Rows left out, by reason.
        redacted: What was replaced, by kind.
    """

    name: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        """The file: one line per row, whatever a reader takes for the end of a line."""
        return "".join(canonical_json(line).translate(_SEPARATORS) + "\n" for line in self.lines)


def compile_rows(job: TrainingJob, *, redact: bool) -> list[Compiled]:
    """The files of a job.

    A row that repeats an earlier one of its file would be paid for again and is left out; so is a
    pair whose answers are the same once they are redacted. Both are counted.

    Args:
        job: An SFT or DPO job.
        redact: Whether secrets and personal data are replaced.

    Raises:
        DataError: A file has changed since the job was made, or a line is not a row.
    """
    return [_compile(job, name, redact) for name in FILES if name in job.dataset.files]


def _compile(job: TrainingJob, name: str, redact: bool) -> Compiled:
    found, seen = Compiled(name), set()
    for number, row in enumerate(read_rows(job, name), start=1):
        make = _Maker(found.redacted if redact else None)
        line = make.pair(row) if isinstance(row, Preference) else make.example(row)
        key = canonical_json({part: value for part, value in line.items() if part != "weight"})
        if "input" in line and line["preferred_output"] == line["non_preferred_output"]:
            found.dropped["identical_once_redacted"] += 1
        elif key in seen:
            found.dropped["repeated"] += 1
        else:
            seen.add(key)
            found.lines.append(line)
            found.sources.append(number)
    return found


class _Maker:
    """Lines from rows.

    Args:
        counts: Where replacements are counted; None to replace nothing.
    """

    def __init__(self, counts: Counter[str] | None) -> None:
        self._counts = counts

    def example(self, row: Example) -> dict[str, Any]:
        """A conversation of which only the answer is trained."""
        messages = [
            *(self._message(message, weight=0) for message in row.prompt),
            *(self._message(message, weight=1) for message in row.completion),
        ]
        return self._weighted({"messages": messages}, row)

    def pair(self, row: Preference) -> dict[str, Any]:
        """A conversation with a better and a worse answer.

        The service takes one message per side. Turns that both sides share before it, such as
        calls of tools, are no part of the choice, and so stand in the input.
        """
        before, better, worse = row.parted()
        return self._weighted(
            {
                "input": {"messages": [self._message(message) for message in before]},
                "preferred_output": [self._message(message) for message in better],
                "non_preferred_output": [self._message(message) for message in worse],
            },
            row,
        )

    def _message(self, message: Message, weight: int | None = None) -> dict[str, Any]:
        made: dict[str, Any] = {"role": message.role, "content": self._text(message.content)}
        # Only answers of the assistant are trained at all, so only they need a weight.
        if weight is not None and message.role == "assistant":
            made["weight"] = weight
        return made

    def _text(self, text: str) -> str:
        if self._counts is None:
            return text
        clean, counts = redact_counted(text)
        self._counts.update(counts)
        return clean

    def _weighted(self, line: dict[str, Any], row: Example | Preference) -> dict[str, Any]:
        weight = row.provenance.weight
        return line if weight == 1.0 else {**line, "weight": weight}
