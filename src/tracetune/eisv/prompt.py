"""What a teacher reads and writes: the layout of source document 004, Tasks 1 and 3.

Prompts have three variants, because the shape in the first line gives the answer away, and so does
the duration of a synthetic window (A10.1, A10.7). Numbers have four decimals where the document has
two and three, with which many rows of it read ``±0.000``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tracetune.eisv.answer import EISV_LABEL, LUMEN_LABEL, PATTERN_LABEL
from tracetune.eisv.derivatives import means_many
from tracetune.eisv.states import DIMENSIONS, Floats, Window
from tracetune.eisv.vocabulary import shape_index
from tracetune.errors import DataError
from tracetune.records import Message

Variant = Literal["full", "no_shape", "no_shape_no_duration"]
VARIANTS: tuple[Variant, ...] = ("full", "no_shape", "no_shape_no_duration")
"""With the line of the shape; without it; and without the duration as well."""

SYSTEM_PROMPT = (
    "You are Lumen's trajectory-to-expression mapper. "
    "Given an EISV trajectory, output the appropriate expression tokens.\n\n"
    "Output format:\n"
    "EISV_TOKENS: <space-separated EISV-Lumen tokens>\n"
    "LUMEN_TOKENS: <space-separated Lumen primitive tokens>\n"
    "PATTERN: <SINGLE|PAIR|TRIPLE|REPETITION|QUESTION>"
)
"""The system turn, fixed by document 004, Task 3."""

DECIMALS = 4
NUMBER_NAMES: tuple[str, ...] = (
    *DIMENSIONS,
    *(f"d{name}" for name in DIMENSIONS),
    *(f"d2{name}" for name in DIMENSIONS),
)
"""The twelve numbers of a window: means of states, first and second derivatives."""


@dataclass(frozen=True, eq=False)
class Summary:
    """The numbers of a window as the prompt shows them.

    Attributes:
        n_states: States of the window.
        duration: Seconds from the first state to the last, rounded to whole ones.
        numbers: ``(12,)`` in the order of ``NUMBER_NAMES``, rounded to four decimals.
    """

    n_states: int
    duration: int
    numbers: Floats


def summarize(window: Window) -> Summary:
    """The means of a window; derivatives that do not exist count as 0."""
    return Summary(len(window), round(window.duration), numbers_of([window])[0])


def numbers_of(windows: Sequence[Window]) -> Floats:
    """``(windows, 12)`` the numbers of several windows, in the order of ``NUMBER_NAMES``.

    Windows of one length are derived at once, with the numbers that each has alone.
    """
    found = np.empty((len(windows), len(NUMBER_NAMES)))
    lengths: dict[int, list[int]] = defaultdict(list)
    for i, window in enumerate(windows):
        lengths[len(window)].append(i)
    for at in lengths.values():
        t = np.array([windows[i].t for i in at])
        values = np.array([windows[i].values for i in at])
        found[at] = means_many(t, values).table()
    # Adding 0 turns -0.0 into 0.0: the sign of a number that is shown as zero says nothing.
    rounded: Floats = np.round(found, DECIMALS) + 0.0
    return rounded


def user_text(window: Window, shape: str, variant: Variant) -> str:
    """The user turn for a window.

    Args:
        window: Its states.
        shape: Its shape; shown by the variant ``full`` only.
        variant: What is shown.

    Raises:
        DataError: There is no such shape or variant.
    """
    shape_index(shape)
    if variant not in VARIANTS:
        raise DataError(
            f"there is no variant {variant!r}", remedy=f"use one of {', '.join(VARIANTS)}"
        )
    found = summarize(window)
    length = f"window: {found.n_states} states"
    if variant != "no_shape_no_duration":
        length += f" over {found.duration}s"
    means, first, second = (found.numbers[i : i + 4] for i in (0, 4, 8))
    lines = [
        "TRAJECTORY:",
        *([f"shape: {shape}"] if variant == "full" else []),
        length,
        f"eisv_mean: {_listed('', means, '')}",
        f"derivatives: {_listed('d', first, '+')}",
        f"second_derivatives: {_listed('d2', second, '+')}",
    ]
    return "\n".join(lines)


def _listed(prefix: str, numbers: Floats, sign: str) -> str:
    return ", ".join(
        f"{prefix}{name}={number:{sign}z.{DECIMALS}f}"
        for name, number in zip(DIMENSIONS, numbers, strict=True)
    )


def answer_text(tokens: Sequence[str], lumen: Sequence[str], pattern: str) -> str:
    """The three lines of an answer."""
    return (
        f"{EISV_LABEL} {' '.join(tokens)}\n{LUMEN_LABEL} {' '.join(lumen)}\n"
        f"{PATTERN_LABEL} {pattern}"
    )


def prompt_messages(window: Window, shape: str, variant: Variant) -> list[Message]:
    """The prompt for a window in the chat format: system and user turn."""
    return [
        Message(role="system", content=SYSTEM_PROMPT),
        Message(role="user", content=user_text(window, shape, variant)),
    ]


def answer_messages(tokens: Sequence[str], lumen: Sequence[str], pattern: str) -> list[Message]:
    """The completion that a teacher is taught."""
    return [Message(role="assistant", content=answer_text(tokens, lumen, pattern))]


def tagged_text(messages: Sequence[Message]) -> str:
    """Messages in the text format of document 004: a tag before each turn, one at the end.

    For reading and for tools that take plain text. Training and judgement go through the template
    of the model instead (A11.6). Messages that end with the user's turn end with the open tag of
    the assistant, which is where a model goes on.
    """
    parts = [f"<|{message.role}|>\n{message.content}" for message in messages]
    parts.append("<|end|>" if messages[-1].role == "assistant" else "<|assistant|>\n")
    return "\n".join(parts)
