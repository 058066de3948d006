"""What was measured and said: states with their times, and expressions, as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from tracetune.eisv.states import DIMENSIONS, Floats
from tracetune.eisv.vocabulary import (
    EISV_TOKENS,
    LUMEN_CATEGORIES,
    LUMEN_PRIMITIVES,
    MAX_PRIMITIVES,
    infer_pattern,
    translate,
)
from tracetune.records import EisvExpression

SERIES = "lumen"
"""The series of all measured states: a database and a published table tell of the same device."""

BadStates = Literal["stop", "drop"]
"""What is done with states that cannot be used: an error that names them, or counted and left."""


@dataclass(frozen=True, eq=False)
class Recording:
    """States in the order of a database, and what was said meanwhile.

    Attributes:
        ids: Id of each state in its table, (n,).
        t: Seconds since 1970 UTC, (n,).
        values: E, I, S and V, (n, 4).
        expressions: In the order of the database; each has its time.
        states_read: States in the table, dropped ones included.
        dropped: States that could not be used, by reason.
        expressions_dropped: Expressions that could not be used, by reason.
    """

    ids: npt.NDArray[np.int64]
    t: Floats
    values: Floats
    expressions: list[EisvExpression]
    states_read: int
    dropped: dict[str, int] = field(default_factory=dict)
    expressions_dropped: dict[str, int] = field(default_factory=dict)


def empty_recording() -> Recording:
    """A recording of nothing."""
    return Recording(
        ids=np.empty(0, np.int64),
        t=np.empty(0),
        values=np.empty((0, len(DIMENSIONS))),
        expressions=[],
        states_read=0,
    )


def expression_of(
    words: Sequence[str], time: float | None, dropped: Counter[str]
) -> EisvExpression | None:
    """An expression of recorded words, or None if they are none, which is counted.

    The words are Lumen primitives, or the EISV tokens that they are translated from. The pattern
    was not recorded: it is inferred from the number of words, and from a last word that asks.

    Args:
        words: As they were recorded.
        time: When they were said.
        dropped: Counts by reason.
    """
    tokens, lumen = _words(words)
    if not words:
        dropped["no words"] += 1
    elif not tokens and not lumen:
        dropped["unknown words"] += 1
    elif len(words) > MAX_PRIMITIVES:
        dropped["more than three words"] += 1
    else:
        asks = len(lumen) == 2 and lumen[1] in LUMEN_CATEGORIES["INQUIRY"]
        pattern = infer_pattern(words)
        return EisvExpression.model_validate(
            {
                "tokens": tokens,
                "pattern": "QUESTION" if not tokens and asks and pattern == "PAIR" else pattern,
                "pattern_source": "inferred",
                "lumen": lumen or translate(tokens),
                "time": time,
            }
        )
    return None


def _words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words as EISV tokens or as primitives; both empty if they are neither or mixed."""
    if all(word in EISV_TOKENS for word in words):
        return list(words), []
    if all(word in LUMEN_PRIMITIVES for word in words):
        return [], list(words)
    return [], []
