"""The hand-written dialogues: text files with a mark at the start of each turn."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
FILES = ("code", "ops", "writing", "planning", "research")

Kind = str
_TURN = re.compile(r"^(?:([SUAB]): ?|([CT]) ([\w.]+): ?|(F) (\S+)$)")


@dataclass
class Said:
    """One turn of a dialogue.

    Attributes:
        kind: S system, U user, A assistant, B an answer that was regenerated, C call of a tool,
            T its result, F a file that comes with the next turn of the user.
        text: What was said.
        name: Of a tool or a file.
    """

    kind: Kind
    text: str
    name: str = ""


@dataclass
class Dialogue:
    """One conversation.

    Attributes:
        title: Its title.
        theme: The file it stands in.
        said: Its turns.
    """

    title: str
    theme: str
    said: list[Said] = field(default_factory=list)

    def has(self, kinds: str) -> bool:
        """Whether it has a turn of one of these kinds."""
        return any(turn.kind in kinds for turn in self.said)


def dialogues() -> list[Dialogue]:
    """All dialogues, in the order of the files."""
    found: list[Dialogue] = []
    for theme in FILES:
        for line in (FOLDER / f"{theme}.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("=== "):
                found.append(Dialogue(line[4:].strip(), theme))
                continue
            start = _TURN.match(line)
            turns = found[-1].said
            if start is None:
                turns[-1].text += "\n" + line
                continue
            kind = start[1] or start[2] or start[4]
            turns.append(Said(kind, line[start.end() :], start[3] or start[5] or ""))
    for dialogue in found:
        for turn in dialogue.said:
            turn.text = turn.text.strip()
    return found
