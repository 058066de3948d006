"""Which blocks of a time series are held out, so that every shape is on every side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Sides = npt.NDArray[np.int64]

TRAIN, VALIDATION, TEST = 0, 1, 2
_STARTS = 6
"""Random starts of the search; the best end counts."""
_LEAST_GAIN = 1e-12


@dataclass(frozen=True)
class Costs:
    """What a choice of blocks costs.

    Attributes:
        counts: Windows by block and shape.
        lost: Windows that a border between two sides costs, by border.
        shares: Share of test and of validation.
        fewest: Shapes with fewer windows do not count.
    """

    counts: Floats
    lost: Floats
    shares: tuple[float, float]
    fewest: int

    def of(self, sides: Sides) -> float:
        """How far each held-out side is from its share of every shape, plus the share lost."""
        totals = self.counts.sum(axis=0)
        wanted = totals >= self.fewest
        cost = float(self.lost[sides[:-1] != sides[1:]].sum() / totals.sum())
        for side, share in zip((TEST, VALIDATION), self.shares, strict=True):
            goal = np.maximum(1.0, share * totals)
            off = np.abs(self.counts[sides == side].sum(axis=0) - goal) / goal
            cost += float(np.minimum(1.0, off)[wanted].sum())
        return cost


def choose_blocks(costs: Costs, held: tuple[int, int], seed: int) -> Sides:
    """Side of each block, in their order: a seeded search by exchange.

    From several random starts two blocks change sides as long as that lowers the cost. A shape with
    enough windows should be on each held-out side at least once.

    Args:
        costs: What a choice costs.
        held: Number of blocks for test and for validation.
        seed: Seed of the starts.
    """
    generator = np.random.default_rng(seed)
    sides = np.repeat([TEST, VALIDATION, TRAIN], [*held, len(costs.counts) - sum(held)])
    ends = [_climb(generator.permutation(sides), costs) for _ in range(_STARTS)]
    return min(ends, key=costs.of)


def _climb(sides: Sides, costs: Costs) -> Sides:
    """The best exchange, again and again, until none lowers the cost."""
    lowest = costs.of(sides)
    while True:
        best = None
        for i, j in zip(*np.triu_indices(len(sides), 1), strict=True):
            if sides[i] == sides[j]:
                continue
            tried = sides.copy()
            tried[[i, j]] = tried[[j, i]]
            if (cost := costs.of(tried)) < lowest - _LEAST_GAIN:
                lowest, best = cost, tried
        if best is None:
            return sides
        sides = best
