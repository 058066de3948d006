"""What heads are judged on: held-out turns, what heads say of them, draws of conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tracetune.records.heads import NEXT_TURNS, HeadExtra, TrajectoryRow

Floats = npt.NDArray[np.floating[Any]]
Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

HEADS, OFF, SHUFFLED, FULL = "causal", "off", "shuffled", "full"
"""The judged heads; the same without the adapter; with the coordinates of other turns; the heads
that were trained on coordinates which know the whole conversation."""


class Outputs(Protocol):
    """What heads say of n turns; ``tracetune.training.heads.api.Encoded`` has these fields."""

    @property
    def style(self) -> Floats:
        """Signatures, n x s."""

    @property
    def pattern_probabilities(self) -> Floats:
        """n x 12, comparable with frequencies."""

    @property
    def plan(self) -> Floats:
        """Vectors of the next turns, n x steps x d."""

    @property
    def stop(self) -> Floats:
        """Probabilities that the conversation has ended before a step, n x steps."""

    @property
    def gate_mean(self) -> Floats:
        """Mean gate of each turn, n."""


@dataclass(frozen=True)
class Turns:
    """Turns of one side of the division, in one order.

    Attributes:
        conversations: Whose turns they are.
        alike: Turns with the same value are alike in style.
        roles: Who said them.
        phases: 0 to 5.
        coordinates: n x 5.
        labels: Patterns, n x 12.
        following: Place of the k-th next turn, n x 8; -1 where the conversation has ended.
        base: Mean embedding of each turn by the frozen base, n x d.
    """

    conversations: tuple[str, ...]
    alike: tuple[str, ...]
    roles: tuple[str, ...]
    phases: Whole
    coordinates: Floats
    labels: Flags
    following: Whole
    base: Floats

    def __len__(self) -> int:
        """How many turns there are."""
        return len(self.conversations)


def turns_of(rows: Sequence[TrajectoryRow], extras: Mapping[str, HeadExtra], base: Floats) -> Turns:
    """The turns of some rows.

    Args:
        rows: Rows of whole conversations.
        extras: What is known of them, by row id.
        base: Mean embedding of each row.
    """
    place = {row.row_id: number for number, row in enumerate(rows)}
    known = [extras[row.row_id] for row in rows]
    following = np.full((len(rows), NEXT_TURNS), -1, dtype=np.int64)
    for number, extra in enumerate(known):
        for step, other in enumerate(extra.next_rows):
            following[number, step] = place[other]
    return Turns(
        conversations=tuple(row.conversation_id for row in rows),
        alike=tuple(extra.style_group for extra in known),
        roles=tuple(extra.role for extra in known),
        phases=np.array([row.trajectory.phase_id for row in rows], dtype=np.int64),
        coordinates=np.array([row.trajectory.coordinates for row in rows], dtype=np.float64),
        labels=np.array([extra.patterns for extra in known], dtype=np.bool_),
        following=following,
        base=base.astype(np.float64),
    )


class Draws:
    """Bootstrap over whole conversations: how often each is in each draw.

    Turns of one conversation resemble each other; drawn one by one, intervals would be too narrow.
    All figures of a judgement use the same draws, so that differences are paired.

    Args:
        conversations: Of each row.
        draws: Number of draws.
        seed: Seed of the draws.
    """

    def __init__(self, conversations: Sequence[str], draws: int, seed: int) -> None:
        names = list(dict.fromkeys(conversations))
        index = {name: number for number, name in enumerate(names)}
        self.of_row = np.array([index[name] for name in conversations], dtype=np.int64)
        self.groups = len(names)
        even = np.full(self.groups, 1 / self.groups)
        rng = np.random.default_rng(seed)
        self._weights = rng.multinomial(self.groups, even, size=draws).astype(np.float64)

    def sums(self, values: Floats | Flags) -> tuple[Floats, Floats]:
        """Sums over the rows: of all rows, and in each draw.

        Args:
            values: n or n x m numbers.
        """
        flat = np.asarray(values, dtype=np.float64)
        by_group = np.zeros((self.groups, *flat.shape[1:]))
        np.add.at(by_group, self.of_row, flat)
        return by_group.sum(axis=0), np.tensordot(self._weights, by_group, axes=1)

    def mean(self, values: Floats, counted: Flags | None = None) -> tuple[float, Floats]:
        """Mean over the rows that count: of all rows, and in each draw."""
        use = np.ones(len(values), dtype=np.bool_) if counted is None else counted
        total, drawn = self.sums(np.where(use, values, 0.0))
        n, drawn_n = self.sums(use)
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(total / n), np.asarray(drawn / drawn_n)


Estimate = tuple[float, Floats]
"""A figure, and the same figure in each draw."""


def interval(estimate: Estimate) -> dict[str, float]:
    """A figure with its 95 % percentile interval; draws in which it is undefined do not count."""
    value, drawn = estimate
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {"mean": value, "low": float(low), "high": float(high)}


def difference(one: Estimate, other: Estimate) -> dict[str, float]:
    """The paired difference of two figures of the same rows and draws."""
    return interval((one[0] - other[0], one[1] - other[1]))
