"""Proof that nothing that is held out stands in the text of a model the project builds itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from tracetune.errors import GateError
from tracetune.near import Shingles, shingles, similarity

NEAR = 0.8
"""Overlap of word shingles from which two texts are nearly the same."""
SHINGLE = 3
WHOLE = sys.maxsize
"""Size of a shingle that is the whole text, normalised."""


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


def check_no_leak(base_texts: Iterable[str], held_out: Iterable[str]) -> LeakReport:
    """Proves that no held-out row stands in the text the base model has read.

    Args:
        base_texts: Texts of the base model.
        held_out: User texts of the test windows.

    Raises:
        GateError: A held-out text is in the base text, or nearly so.
    """
    known = {shingles(text, WHOLE): shingles(text, SHINGLE) for text in base_texts}
    index: dict[str, list[Shingles]] = {}
    for parts in known.values():
        for part in parts:
            index.setdefault(part, []).append(parts)
    rows = sorted(set(held_out))
    exact, near, closest = [], [], 0.0
    for text in rows:
        parts = shingles(text, SHINGLE)
        candidates = (other for part in parts for other in index.get(part, ()))
        best = max((similarity(parts, other) for other in candidates), default=0.0)
        closest = max(closest, best)
        if shingles(text, WHOLE) in known:
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
