"""Statistics of the judgement: small, exact where exact is cheap, and written out.

Every function takes plain numbers, so that each can be checked by hand. Sources: McNemar 1947
(exact form: reference domain.md C9.12), Wilson 1927, Efron 1979 (bootstrap), Guo et al. 2017 (ECE).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p-value of McNemar's test.

    Args:
        b: Rows that only the first model got right.
        c: Rows that only the second model got right.

    Returns:
        ``min(1, 2 * sum(C(n, k) for k <= min(b, c)) / 2**n)`` with ``n = b + c``; 1 if n is 0.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts cannot be negative: b={b}, c={c}")
    n = b + c
    if n == 0:
        return 1.0
    tail = term = 1
    for k in range(min(b, c)):
        term = term * (n - k) // (k + 1)  # C(n, k + 1) from C(n, k), without rounding
        tail += term
    p: float = 2 * tail / 2**n
    return min(1.0, p)


def smallest_one_way(alpha: float) -> int:
    """Fewest rows that must change, all for the better, before McNemar gives ``p < alpha``.

    This many rows divided by the rows of the test set is the smallest improvement the set can show
    at all: 6 rows for alpha = 0.05.
    """
    rows = 1
    while mcnemar_exact(rows, 0) >= alpha:
        rows += 1
    return rows


def fewest_wins(discordant: int, alpha: float) -> int | None:
    """Fewest wins among ``discordant`` rows with ``p < alpha`` in favour of the first model.

    Returns:
        The count, or ``None`` when not even winning all of them is enough.
    """
    if discordant == 0 or mcnemar_exact(discordant, 0) >= alpha:
        return None
    wins = discordant
    while mcnemar_exact(wins - 1, discordant - wins + 1) < alpha and 2 * (wins - 1) > discordant:
        wins -= 1
    return wins


def detectable_difference(
    n: int, discordant: int, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Smallest true improvement of accuracy that would be noticed with the given power.

    Conditional on the observed number of discordant rows D: if a share q of them are wins, the
    wins are Binomial(D, q) and the improvement is D(2q - 1)/n. The smallest q whose probability of
    ``p < alpha`` (in favour) reaches ``power`` is found exactly, by bisection of the binomial tail.

    Args:
        n: Rows of the test set.
        discordant: Rows on which exactly one of the two models was right.
        alpha: Level of the test.
        power: Wanted probability of noticing it.

    Returns:
        The difference of accuracies (0 to 1), or ``None`` if D rows cannot show anything.
    """
    from scipy.stats import binom

    wins = fewest_wins(discordant, alpha)
    if n == 0 or wins is None:
        return None
    low, high = 0.5, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(binom.sf(wins - 1, discordant, middle)) >= power:
            high = middle
        else:
            low = middle
    return float(discordant * (2 * high - 1) / n)


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson score interval of a share; ``None`` if n is 0.

    Holds its level for small n and near 0 and 1, where the textbook interval does not.
    """
    from scipy.stats import norm

    if n == 0:
        return None
    z = float(norm.ppf((1 + level) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: Sequence[float],
    groups: Sequence[Any],
    *,
    draws: int = 2000,
    seed: int = 17,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of the mean of paired differences.

    Whole groups (sessions) are drawn with replacement, not rows: the turns of one session resemble
    each other, and drawing them one by one would make the interval too narrow.

    Args:
        differences: One score difference per row, in any unit.
        groups: The group of each row.
        draws: Number of bootstrap samples.
        seed: Seed of the draws; the same seed gives the same interval.
        level: Share of the draws inside the interval.

    Returns:
        Mean, low and high; ``None`` if there are no rows.
    """
    import numpy as np

    if len(differences) != len(groups):
        raise ValueError("one group per difference is needed")
    if not differences:
        return None
    values = np.asarray(differences, dtype=np.float64)
    index = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    of_row = np.array([index[group] for group in groups])
    sums = np.bincount(of_row, weights=values)
    sizes = np.bincount(of_row)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(0, len(sums), len(sums))
        means[draw] = sums[chosen].sum() / sizes[chosen].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


@dataclass(frozen=True)
class Bin:
    """Answers of similar confidence.

    Attributes:
        low: Lower edge of the confidence (exclusive, except 0).
        high: Upper edge (inclusive).
        n: Answers in the bin.
        confidence: Their mean confidence.
        accuracy: The share of them that was right.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(
    confidence: Sequence[float], correct: Sequence[bool], *, bins: int = 10
) -> list[Bin]:
    """Answers in bins of equal width over their confidence; empty bins are left out."""
    filled: dict[int, list[int]] = {}
    for position, value in enumerate(confidence):
        if not 0 <= value <= 1:
            raise ValueError(f"a confidence lies between 0 and 1, not at {value}")
        filled.setdefault(max(0, math.ceil(value * bins) - 1), []).append(position)
    return [
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            n=len(rows),
            confidence=math.fsum(confidence[row] for row in rows) / len(rows),
            accuracy=sum(correct[row] for row in rows) / len(rows),
        )
        for number, rows in sorted(filled.items())
    ]


def calibration_error(
    confidence: Sequence[float], correct: Sequence[bool], *, bins: int = 10
) -> float | None:
    """Expected calibration error: mean of |confidence - accuracy| over bins, weighted by rows."""
    if not confidence:
        return None
    parts = reliability(confidence, correct, bins=bins)
    return math.fsum(part.n * abs(part.confidence - part.accuracy) for part in parts) / len(
        confidence
    )


def confidence_gap(confidence: Sequence[float], correct: Sequence[bool]) -> float | None:
    """|mean confidence - accuracy|: 0 if the model is right as often as it believes, on average."""
    if not confidence:
        return None
    return abs(math.fsum(confidence) - sum(correct)) / len(confidence)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Linear-interpolated quantile; ``None`` without values."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def perplexity(nats: Sequence[float]) -> float | None:
    """``exp`` of the mean of nats per token, in which every answer counts the same.

    Args:
        nats: Negative log-probability per token of each answer.

    Returns:
        1 for a model that is sure of every answer; None without answers.
    """
    return math.exp(math.fsum(nats) / len(nats)) if nats else None
