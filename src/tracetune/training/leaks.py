"""Proof that nothing that is held out stands in the text of a model the project builds itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from tracetune.errors import GateError

NEAR = 0.8
"""Overlap of word shingles from which two texts are nearly the same."""
SHINGLE = 3


class LeakReport(BaseModel):
    """What of the held-out rows stands in the text of the base model.

    Attributes:
        texts: Number of different texts of the base model.
        held_out: Number of held-out texts compared.
        exact: Held-out texts that stand in it word for word.
        near: Held-out texts whose word 3-shingles overlap one of its texts by 0.8 or more.
        closest: Largest overlap found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: int
    held_out: int
    exact: list[str]
    near: list[str]
    closest: float


def _normal(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))


def _shingles(words: Sequence[str]) -> frozenset[Any]:
    if len(words) < SHINGLE:
        return frozenset([tuple(words)])
    return frozenset(tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))


def check_no_leak(base_texts: Iterable[str], held_out: Iterable[str]) -> LeakReport:
    """Proves that no held-out row stands in the text the base model has read.

    Args:
        base_texts: Texts of the base model.
        held_out: User texts of the test windows.

    Raises:
        GateError: A held-out text is in the base text, or nearly so.
    """
    known = {_normal(text) for text in base_texts}
    index: dict[Any, list[frozenset[Any]]] = {}
    for words in known:
        shingles = _shingles(words)
        for shingle in shingles:
            index.setdefault(shingle, []).append(shingles)
    rows = sorted(set(held_out))
    exact, near, closest = [], [], 0.0
    for text in rows:
        words = _normal(text)
        shingles = _shingles(words)
        candidates = (other for shingle in shingles for other in index.get(shingle, ()))
        best = max((len(shingles & o) / len(shingles | o) for o in candidates), default=0.0)
        closest = max(closest, best)
        if words in known:
            exact.append(text)
        elif best >= NEAR:
            near.append(text)
    report = LeakReport(
        texts=len(known), held_out=len(rows), exact=exact, near=near, closest=round(closest, 4)
    )
    if exact or near:
        raise GateError(
            f"{len(exact)} held-out texts are in the text of the embedded base model and "
            f"{len(near)} nearly are, for example {(exact + near)[0]!r}",
            where="embedded base model",
            remedy="change embedded.seed, which writes another text, or take another base model",
        )
    return report
