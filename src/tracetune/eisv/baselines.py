"""What simple ways of answering score, by the published protocols.

All of them know the shape. So they say what a coherence is worth, not how hard the task is: the
look-up table of one fitting token per shape reaches 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tracetune.eisv.coherence import coherence
from tracetune.eisv.expression import (
    MAX_TOKENS,
    NO_TOKEN,
    Codes,
    ExpressionGenerator,
    Labels,
    label_many,
    shape_codes,
)
from tracetune.eisv.states import Floats
from tracetune.eisv.vocabulary import (
    AFFINITY,
    EISV_TOKENS,
    PATTERN_INDEX,
    SHAPES,
    TOKEN_INDEX,
)
from tracetune.errors import DataError

PUBLISHED_PERCENT: dict[str, float] = {
    "settled_presence": 47.19,
    "convergence": 41.45,
    "entropy_spike_recovery": 4.91,
    "basin_transition_up": 1.71,
    "rising_entropy": 1.49,
    "basin_transition_down": 1.47,
    "falling_energy": 1.45,
    "void_rising": 0.34,
    "drift_dissonance": 0.0,
}
"""Shares of the shapes among the published real windows."""

PUBLISHED_RECORDS = 21_452
PROMPTED_SHARE = 0.7
"""How often the prompt-conditioned baseline takes a token that fits."""

_AFFINE = [[TOKEN_INDEX[token] for token in AFFINITY[shape]] for shape in SHAPES]
_AFFINE_COUNT = np.array([len(tokens) for tokens in _AFFINE])
_AFFINE_TABLE = np.array(
    [tokens + [NO_TOKEN] * (max(_AFFINE_COUNT) - len(tokens)) for tokens in _AFFINE], dtype=np.int8
)


def random_baseline(shapes: Iterable[str] | Codes, seed: int) -> Labels:
    """Three tokens per record, uniform with replacement, whatever the shape."""
    codes = shape_codes(shapes)
    return _triples(_uniform(np.random.default_rng(seed), len(codes)))


def rules_baseline(shapes: Iterable[str] | Codes, seed: int) -> Labels:
    """The expression generator with its initial weights: how the labels are drawn."""
    return label_many(shapes, seed)


def feedback_baseline(shapes: Iterable[str] | Codes, seed: int) -> Labels:
    """The expression generator after learning from coherence on the same records.

    Two passes: the first draws, scores and updates; the second starts again with ``seed + 1`` and
    draws with the weights as they were at the end. There is no separate data for the second pass,
    and the score depends on how many updates each shape got.
    """
    codes = shape_codes(shapes)
    return label_many(codes, seed + 1, learned_weights(codes, seed))


def learned_weights(shapes: Iterable[str] | Codes, seed: int) -> Floats:
    """The weights after the first pass of ``feedback_baseline``: (shapes, tokens)."""
    generator = ExpressionGenerator(seed)
    for code in shape_codes(shapes).tolist():
        shape = SHAPES[code]
        tokens = generator.generate(shape).tokens
        generator.update(shape, tokens, coherence(shape, tokens))
    return generator.weights


def shape_matched(shapes: Iterable[str] | Codes, seed: int) -> Labels:
    """Three tokens per record, uniform with replacement among those that fit the shape."""
    return _triples(_affine(np.random.default_rng(seed), shape_codes(shapes)))


def prompt_conditioned(shapes: Iterable[str] | Codes, seed: int) -> Labels:
    """Three tokens per record, each with 70 % among those that fit, else among all."""
    codes = shape_codes(shapes)
    rng = np.random.default_rng(seed)
    prompted = rng.random((len(codes), MAX_TOKENS)) < PROMPTED_SHARE
    affine = _affine(rng, codes)
    return _triples(np.where(prompted, affine, _uniform(rng, len(codes))))


def lookup_table(shapes: Iterable[str] | Codes, seed: int = 0) -> Labels:
    """One token per shape, the first that fits, always. No model, and the seed changes nothing."""
    codes = shape_codes(shapes)
    tokens = np.full((len(codes), MAX_TOKENS), NO_TOKEN, dtype=np.int8)
    tokens[:, 0] = _AFFINE_TABLE[codes, 0]
    patterns = np.full(len(codes), PATTERN_INDEX["SINGLE"], dtype=np.int8)
    return Labels(tokens=tokens, patterns=patterns)


BASELINES: dict[str, Callable[[Iterable[str] | Codes, int], Labels]] = {
    "random": random_baseline,
    "rules": rules_baseline,
    "rules_feedback": feedback_baseline,
    "shape_matched": shape_matched,
    "prompt_conditioned": prompt_conditioned,
    "lookup_table": lookup_table,
}


def published_mix(n: int = PUBLISHED_RECORDS) -> list[str]:
    """Shapes in the published shares, the most frequent first.

    Counts are rounded so that they sum to n: the largest remainders are rounded up.

    Raises:
        DataError: n is negative.
    """
    if n < 0:
        raise DataError(f"a mix of {n} records", remedy="give a number that is not negative")
    whole = sum(PUBLISHED_PERCENT.values())
    exact = {shape: n * percent / whole for shape, percent in PUBLISHED_PERCENT.items()}
    counts = {shape: int(share) for shape, share in exact.items()}
    left = n - sum(counts.values())
    for shape in sorted(exact, key=lambda name: counts[name] - exact[name])[:left]:
        counts[shape] += 1
    return [shape for shape, count in counts.items() for _ in range(count)]


def _uniform(rng: np.random.Generator, n: int) -> Codes:
    return rng.integers(0, len(EISV_TOKENS), (n, MAX_TOKENS), dtype=np.int8)


def _affine(rng: np.random.Generator, codes: Codes) -> Codes:
    counts = _AFFINE_COUNT[codes][:, None]
    place = (rng.random((len(codes), MAX_TOKENS)) * counts).astype(np.int8)
    found: Codes = _AFFINE_TABLE[codes[:, None], place]
    return found


def _triples(tokens: Codes) -> Labels:
    patterns = np.full(len(tokens), PATTERN_INDEX["TRIPLE"], dtype=np.int8)
    return Labels(tokens=tokens, patterns=patterns)
