"""What a perfect imitator of the labels scores, exactly and at every temperature (A10.2, A10.3).

The expression rules are a small tree: 15 first tokens, then stop or 15 second tokens, then stop or
15 third ones. All 3,615 expressions of it have a probability, so no number here is sampled. A
temperature sharpens each choice of the tree as decoding sharpens each token. (A10.2 sharpens the
draws of the generator instead, the pattern before the tokens; the two differ by at most .02.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from tracetune.eisv.expression import initial_weights
from tracetune.eisv.states import Floats
from tracetune.eisv.vocabulary import (
    AFFINITY,
    EISV_TOKENS,
    INQUIRY_TOKENS,
    PATTERN_WEIGHTS,
    PATTERNS,
    SHAPE_INDEX,
    SHAPES,
)

_TIE = 1e-12


@dataclass(frozen=True)
class Tree:
    """Probabilities of all expressions of one shape.

    Attributes:
        first: ``(15,)`` the first token.
        stop_1: ``(15,)`` nothing follows it.
        second: ``(15, 15)`` the second token, given the first and that one follows.
        stop_2: ``(15, 15)`` nothing follows the second.
        third: ``(15, 15, 15)`` the third token, given the two and that one follows.
    """

    first: Floats
    stop_1: Floats
    second: Floats
    stop_2: Floats
    third: Floats


def affine(shape: str) -> Floats:
    """``(15,)`` of 1 for the affine tokens of a shape and 0 for the others."""
    return np.array([float(token in AFFINITY[shape]) for token in EISV_TOKENS])


@cache
def tree(shape: str) -> Tree:
    """The expressions that the rules of A6 draw for a shape, from the initial weights."""
    weight = PATTERN_WEIGHTS[shape]
    chance = initial_weights()[SHAPE_INDEX[shape]]
    first = chance / chance.sum()
    n = len(EISV_TOKENS)
    apart = 1.0 - np.eye(n)
    distinct = apart * first / (1 - first)[:, None]
    question = np.array([float(token in INQUIRY_TOKENS) for token in EISV_TOKENS])
    question /= question.sum()
    longer = np.stack(  # the patterns with two tokens or more
        [
            weight["PAIR"] * distinct,
            weight["TRIPLE"] * distinct,
            weight["REPETITION"] * np.eye(n),
            weight["QUESTION"] * np.broadcast_to(question, (n, n)),
        ]
    )
    total = longer.sum(axis=0)
    stop_1 = np.full(n, weight["SINGLE"])
    stop_2 = 1 - np.divide(longer[1], total, out=np.zeros_like(total), where=total > 0)
    free = apart[:, None, :] * apart[None, :, :]  # [a, b, c]: c is neither a nor b
    third = free * first
    third = third / third.sum(axis=2, keepdims=True)
    second = total / total.sum(axis=1, keepdims=True)
    return Tree(first, stop_1, second, stop_2, third)


def sharpen(probabilities: Floats, temperature: float) -> Floats:
    """Probabilities along the last axis at a temperature; 0 takes the best, shared between ties."""
    best = probabilities.max(axis=-1, keepdims=True)
    if temperature == 0:
        sharp = (probabilities >= best - _TIE).astype(np.float64)
    else:
        # Divided by the best first: a power of small numbers would be nothing but zeros.
        sharp = np.divide(probabilities, best, out=np.zeros_like(probabilities), where=best > 0)
        sharp = sharp ** (1 / temperature)
    total = sharp.sum(axis=-1, keepdims=True)
    found: Floats = np.divide(sharp, total, out=np.zeros_like(sharp), where=total > 0)
    return found


def _continues(stop: Floats, temperature: float) -> tuple[Floats, Floats]:
    both = sharpen(np.stack([stop, 1 - stop], axis=-1), temperature)
    return both[..., 0], both[..., 1]


def _hits(hit: Floats) -> tuple[Floats, Floats, Floats]:
    """Coherence of every expression of one, two and three tokens, given which tokens count."""
    two = (hit[:, None] + hit[None, :]) / 2
    three = (hit[:, None, None] + hit[None, :, None] + hit[None, None, :]) / 3
    return hit, two, three


@cache
def _expected(shape: str, temperature: float) -> tuple[tuple[float, ...], float]:
    """Expected coherence with each shape, and with the shape that fits the expression best."""
    found = tree(shape)
    first, second, third = (
        sharpen(part, temperature) for part in (found.first, found.second, found.third)
    )
    end_1, on_1 = _continues(found.stop_1, temperature)
    end_2, on_2 = _continues(found.stop_2, temperature)
    pair = (first * on_1)[:, None] * second
    chances = (first * end_1, pair * end_2, (pair * on_2)[:, :, None] * third)
    hits = [_hits(affine(true)) for true in SHAPES]

    def mean(values: Sequence[Floats]) -> float:
        return float(sum((chance * v).sum() for chance, v in zip(chances, values, strict=True)))

    best = [np.max([hit[length] for hit in hits], axis=0) for length in range(3)]
    return tuple(mean(hit) for hit in hits), mean(best)


def expected_coherence(
    spoken: Sequence[str], true: Sequence[str], *, temperature: float = 1.0
) -> Floats:
    """Expected coherence per row of expressions drawn for one shape and scored on another.

    Args:
        spoken: The shape whose rules the answer follows, for example what a classifier says.
        true: The shape that it is scored on.
        temperature: Of decoding; 1 leaves the rules as they are, 0 is greedy.

    Returns:
        ``(n,)`` numbers from 0 to 1.
    """
    return np.array(
        [
            _expected(a, float(temperature))[0][SHAPE_INDEX[b]]
            for a, b in zip(spoken, true, strict=True)
        ]
    )


def expected_fit(shapes: Sequence[str], *, temperature: float = 1.0) -> float:
    """Expected coherence of an imitator's expressions with whatever shape fits each of them best.

    It tells how sharp expressions are, whether or not they were made for the right shape.

    Args:
        shapes: The shapes that they are made for, at least one.
        temperature: Of decoding.
    """
    return float(np.mean([_expected(shape, float(temperature))[1] for shape in shapes]))


def pattern_bounds(shapes: Sequence[str]) -> tuple[float, float]:
    """What pattern accuracy can be at most, and what independent drawing from the rules gives.

    Args:
        shapes: True shapes of the rows, at least one.

    Returns:
        Ceiling (the likeliest pattern of each shape) and chance (sum of squares), both expected.
    """
    rows = [[PATTERN_WEIGHTS[shape][pattern] for pattern in PATTERNS] for shape in shapes]
    chances = np.array(rows)
    return float(chances.max(axis=1).mean()), float((chances**2).sum(axis=1).mean())
