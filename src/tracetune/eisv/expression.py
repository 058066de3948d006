"""Expressions of a shape: a pattern, one to three EISV tokens and their Lumen primitives.

An expression is drawn by rules (published as layer 2 of EISV-Lumen): a pattern by the shape's
shares, then tokens by weights, at first 3 for the tokens that fit the shape and 1 for all others.
A score can raise or lower the weights of the tokens used.

Every expression takes four uniform numbers from the generator, used or not: one for the pattern and
one for each token. So ``label_many`` gives the same expressions as a new ``ExpressionGenerator``
asked one by one with the same seed, bit for bit, and the expression number i does not depend on the
shapes before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from tracetune.eisv.states import Floats
from tracetune.eisv.vocabulary import (
    AFFINITY,
    EISV_TOKENS,
    INQUIRY_TOKENS,
    PATTERN_INDEX,
    PATTERN_WEIGHTS,
    PATTERNS,
    SHAPE_INDEX,
    SHAPES,
    TOKEN_INDEX,
    shape_index,
    translate,
)
from tracetune.errors import DataError

AFFINE_WEIGHT = 3.0
OTHER_WEIGHT = 1.0
LEARNING_RATE = 0.08
MIN_WEIGHT, MAX_WEIGHT = 0.1, 10.0
MAX_TOKENS = 3
NO_TOKEN = -1
DRAWS = 4
"""Uniform numbers that an expression takes: its pattern and three tokens."""

Codes = npt.NDArray[np.int8]
_CHUNK = 8192
_SINGLE, _PAIR, _TRIPLE, _REPETITION, _QUESTION = (PATTERN_INDEX[name] for name in PATTERNS)
_INQUIRY = [TOKEN_INDEX[token] for token in INQUIRY_TOKENS]


@dataclass(frozen=True)
class Expression:
    """What a shape says.

    Attributes:
        tokens: One to three EISV tokens.
        pattern: The pattern it was drawn with, never inferred from the tokens.
        lumen: Its Lumen primitives.
    """

    tokens: tuple[str, ...]
    pattern: str
    lumen: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Labels:
    """Many expressions as codes, four bytes each.

    Attributes:
        tokens: Indices in ``EISV_TOKENS``, (n, 3); -1 where an expression has fewer.
        patterns: Indices in ``PATTERNS``, (n,).
    """

    tokens: Codes
    patterns: Codes

    def __len__(self) -> int:
        """How many expressions they are."""
        return len(self.patterns)

    def token_lists(self) -> list[tuple[str, ...]]:
        """The tokens of each expression."""
        return [_token_names(*row) for row in self.tokens.tolist()]

    def pattern_names(self) -> list[str]:
        """The pattern of each expression."""
        return [PATTERNS[code] for code in self.patterns.tolist()]

    def expressions(self) -> list[Expression]:
        """The expressions themselves."""
        return [
            _expression(*row, pattern)
            for row, pattern in zip(self.tokens.tolist(), self.patterns.tolist(), strict=True)
        ]


# There are at most 15 + 15 ** 2 + 15 ** 3 lists of tokens, times five patterns.
@cache
def _token_names(*codes: int) -> tuple[str, ...]:
    return tuple(EISV_TOKENS[code] for code in codes if code != NO_TOKEN)


@cache
def _expression(first: int, second: int, third: int, pattern: int) -> Expression:
    tokens = _token_names(first, second, third)
    return Expression(tokens=tokens, pattern=PATTERNS[pattern], lumen=tuple(translate(tokens)))


def initial_weights() -> Floats:
    """The weights before any feedback: 3 for affine tokens, 1 for others; (shapes, tokens)."""
    return np.array(
        [
            [AFFINE_WEIGHT if token in AFFINITY[shape] else OTHER_WEIGHT for token in EISV_TOKENS]
            for shape in SHAPES
        ]
    )


def shape_codes(shapes: Iterable[str] | Codes) -> Codes:
    """Shapes as indices in ``SHAPES``; codes are checked and returned.

    Raises:
        DataError: An unknown shape. The message names its index.
    """
    if isinstance(shapes, np.ndarray) and np.issubdtype(shapes.dtype, np.integer):
        wrong = np.flatnonzero((shapes < 0) | (shapes >= len(SHAPES)))
        if len(wrong):
            raise DataError(
                f"there is no shape with the code {int(shapes[wrong[0]])}",
                where=f"shape {int(wrong[0])}",
                remedy=f"codes go from 0 to {len(SHAPES) - 1}",
            )
        return shapes.astype(np.int8, copy=False)
    names: list[str] = shapes.tolist() if isinstance(shapes, np.ndarray) else list(shapes)
    try:
        return np.array([SHAPE_INDEX[name] for name in names], dtype=np.int8)
    except KeyError:
        for i, name in enumerate(names):
            shape_index(name, where=f"shape {i}")
        raise


class ExpressionGenerator:
    """Draws expressions one by one and learns from scores.

    Args:
        seed: Seed of the draws.
        weights: Weights to start from, (shapes, tokens); default: ``initial_weights()``.
    """

    def __init__(self, seed: int, weights: Floats | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        self._weights: list[list[float]] = _checked(weights).tolist()

    @property
    def weights(self) -> Floats:
        """A copy of the weights as they are now: (shapes, tokens), in the order of the names."""
        return np.array(self._weights)

    def generate(self, shape: str) -> Expression:
        """Draws an expression of a shape.

        Raises:
            DataError: There is no such shape.
        """
        place = shape_index(shape)
        for_pattern, *draws = self._rng.random(DRAWS).tolist()
        pattern = _pick(list(PATTERN_WEIGHTS[shape].values()), for_pattern)
        weights = self._weights[place]
        tokens = [_pick(weights, draws[0])]
        if pattern in (_PAIR, _TRIPLE):
            tokens.append(_pick(weights, draws[1], tokens))
        if pattern == _TRIPLE:
            tokens.append(_pick(weights, draws[2], tokens))
        elif pattern == _REPETITION:
            tokens *= 2
        elif pattern == _QUESTION:
            tokens.append(_INQUIRY[int(draws[1] * len(_INQUIRY))])
        return _expression(*tokens, *[NO_TOKEN] * (MAX_TOKENS - len(tokens)), pattern)

    def update(self, shape: str, tokens: Sequence[str], score: float) -> None:
        """Moves the weights of the tokens used by ``0.16 (score - 0.5)``, within [0.1, 10].

        A token that stands twice is moved twice.

        Args:
            shape: The shape that the tokens were drawn for.
            tokens: EISV tokens.
            score: Coherence or another score from 0 to 1.

        Raises:
            DataError: An unknown shape or token, or a score outside [0, 1].
        """
        weights = self._weights[shape_index(shape)]
        if not 0 <= score <= 1:
            raise DataError(
                f"a score of {score} is outside [0, 1]", where=shape, remedy="give a coherence"
            )
        for token in tokens:
            if token not in TOKEN_INDEX:
                raise DataError(
                    f"there is no EISV token {token!r}",
                    where=shape,
                    remedy=f"use {', '.join(EISV_TOKENS)}",
                )
        step = LEARNING_RATE * 2 * (score - 0.5)
        for token in tokens:
            place = TOKEN_INDEX[token]
            weights[place] = min(max(weights[place] + step, MIN_WEIGHT), MAX_WEIGHT)


def _checked(weights: Floats | None) -> Floats:
    if weights is None:
        return initial_weights()
    found = np.array(weights, dtype=np.float64)
    form = (len(SHAPES), len(EISV_TOKENS))
    if found.shape != form or not (np.isfinite(found).all() and (found > 0).all()):
        raise DataError(
            f"weights need the form {form} and positive finite numbers",
            remedy="take them from ExpressionGenerator.weights",
        )
    return found


def _pick(weights: Sequence[float], draw: float, used: Sequence[int] = ()) -> int:
    """The index that a uniform number in [0, 1) falls on, among those that are not used."""
    sums = list(accumulate(0.0 if i in used else weight for i, weight in enumerate(weights)))
    place = draw * sums[-1]
    return sum(each <= place for each in sums)


def label_many(shapes: Iterable[str] | Codes, seed: int, weights: Floats | None = None) -> Labels:
    """Draws an expression for each of many shapes, with weights that stay as they are.

    Args:
        shapes: Names, or codes as ``shapes.classify_codes`` gives them.
        seed: Seed of the draws.
        weights: (shapes, tokens); default: ``initial_weights()``.

    Returns:
        The same expressions as ``ExpressionGenerator(seed, weights).generate`` for each shape in
        turn, without ``update``.

    Raises:
        DataError: An unknown shape, or weights that are none.
    """
    codes = shape_codes(shapes)
    tables = _Tables(_checked(weights))
    rng = np.random.default_rng(seed)
    tokens = np.empty((len(codes), MAX_TOKENS), dtype=np.int8)
    patterns = np.empty(len(codes), dtype=np.int8)
    for start in range(0, len(codes), _CHUNK):
        part = slice(start, start + _CHUNK)
        some = codes[part]
        tokens[part], patterns[part] = tables.draw(some, rng.random((len(some), DRAWS)))
    return Labels(tokens=tokens, patterns=patterns)


class _Tables:
    """Running sums of the weights for every state in which a draw can be.

    Three tokens without repetition have only 15 x 15 states per shape, so the sums are made once
    and looked up. They are added in the order in which ``_pick`` adds them.
    """

    def __init__(self, weights: Floats) -> None:
        count = len(EISV_TOKENS)
        others = 1.0 - np.eye(count)
        without_one = weights[:, None, :] * others
        without_two = without_one[:, :, None, :] * others
        self.first = np.cumsum(weights, axis=-1)
        self.second = np.cumsum(without_one, axis=-1)
        self.third = np.cumsum(without_two, axis=-1)
        shares = [list(PATTERN_WEIGHTS[shape].values()) for shape in SHAPES]
        self.pattern = np.cumsum(np.array(shares), axis=-1)

    def draw(self, shapes: Codes, uniform: Floats) -> tuple[Codes, Codes]:
        """Tokens (n, 3) and patterns (n,) of shapes, from uniform numbers (n, 4)."""
        patterns = _fall(self.pattern[shapes], uniform[:, 0])
        first = _fall(self.first[shapes], uniform[:, 1])
        tokens = np.full((len(shapes), MAX_TOKENS), NO_TOKEN, dtype=np.int8)
        tokens[:, 0] = first
        more = np.flatnonzero((patterns == _PAIR) | (patterns == _TRIPLE))
        before = shapes[more], first[more]
        tokens[more, 1] = _fall(self.second[before], uniform[more, 2])
        most = np.flatnonzero(patterns == _TRIPLE)
        before_last = shapes[most], first[most], tokens[most, 1]
        tokens[most, 2] = _fall(self.third[before_last], uniform[most, 3])
        again = patterns == _REPETITION
        tokens[again, 1] = first[again]
        asked = patterns == _QUESTION
        choice = (uniform[asked, 2] * len(_INQUIRY)).astype(np.int8)
        tokens[asked, 1] = np.array(_INQUIRY, dtype=np.int8)[choice]
        return tokens, patterns


def _fall(sums: Floats, draws: Floats) -> Codes:
    place = draws * sums[:, -1]
    found: Codes = (sums <= place[:, None]).sum(axis=1, dtype=np.int8)
    return found
