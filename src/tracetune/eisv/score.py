"""How good answers are: per model, variant and temperature, and per shape (A8, A11.8, A11.10)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from pydantic import Field

from tracetune.eisv.answer import Answer, consistency, parse_answer
from tracetune.eisv.coherence import coherence, diversity, token_counts, total_variation
from tracetune.eisv.imitator import expected_coherence, pattern_bounds
from tracetune.eisv.states import Floats
from tracetune.eisv.vocabulary import SHAPES, shape_index
from tracetune.errors import DataError
from tracetune.records import Record

DRAWS, LEVEL = 2000, 0.95
NOISE_DRAWS = 200
FEW_TOKENS = 0.5
"""Fewer distinct tokens than this share of the labels' are a sign of collapse (A11.10)."""


class Judged(Record):
    """One answer and what is known of its row.

    Attributes:
        model: Who answered: ``teacher``, ``base``, ``rules``, ``lookup_table`` …
        variant: What the prompt showed.
        temperature: Of decoding; 0 is greedy.
        shape: The true shape of the window.
        answer: What was answered, as text.
        label: EISV tokens that the label has.
        pattern: The pattern of the label; None where it has none to compare with.
        group: Rows of one group are drawn together in the intervals; a pair of windows that overlap
            is one.
    """

    model: str
    variant: str
    temperature: float = Field(ge=0, allow_inf_nan=False)
    shape: str
    answer: str
    label: list[str]
    pattern: str | None = None
    group: str


class Interval(Record):
    """A mean with its 95 % bootstrap interval; groups of rows are drawn, not rows.

    Attributes:
        mean: Over rows.
        low: Lower end; None where all rows are of one group, which tells nothing of its spread.
        high: Upper end; None likewise.
    """

    mean: float
    low: float | None
    high: float | None


class ShapeScores(Record):
    """Answers to the windows of one shape.

    Attributes:
        n: Answers.
        n_valid: Those in vocabulary.
        coherence: Mean over those in vocabulary; None if there are none.
        coherence_all: Mean over all, an answer that is not in vocabulary counts 0.
        valid_rate: Share in vocabulary.
        pattern_accuracy: Share with the pattern of the label, of those in vocabulary.
        diversity: Distinct tokens / all tokens; shrinks with n, so not comparable across n.
        total_variation: Between the tokens of the answers and of their labels; 0 to 1.
        total_variation_noise: What a fresh draw of as many labels is away from them on average.
        distinct_tokens: Different EISV tokens in the answers.
        distinct_label_tokens: Different EISV tokens in the labels of the same rows.
        few_tokens: Fewer than half as many as the labels.
    """

    n: int
    n_valid: int
    coherence: float | None
    coherence_all: float
    valid_rate: float
    pattern_accuracy: float | None
    diversity: float | None
    total_variation: float | None
    total_variation_noise: float | None
    distinct_tokens: int
    distinct_label_tokens: int
    few_tokens: bool


class Scores(Record):
    """Answers of one model to one variant at one temperature.

    Attributes:
        model: Who answered.
        variant: What the prompt showed.
        temperature: Of decoding; 0 is greedy.
        n: Answers.
        n_complete: Those with all three fields.
        n_valid: Those in vocabulary; what Gate 1 calls valid.
        coherence: Mean over those in vocabulary (the number of Gate 1); None if there are none.
        coherence_all: Mean over all, an answer that is not in vocabulary counts 0.
        coherence_imitator: What a perfect imitator of the labels gets at this temperature if it
            knows every shape: above it, answers are sharper than the labels.
        valid_rate: Share in vocabulary.
        pattern_accuracy: Share with the pattern of the label, of those in vocabulary that have one.
        pattern_ceiling: The most that pattern accuracy can be expected to reach (A10.3).
        pattern_chance: What independent drawing from the rules of the true shape reaches.
        diversity: Distinct tokens / all tokens of all answers; not comparable across n.
        total_variation: Mean of the shapes' distances to their labels, each shape counting once.
        total_variation_noise: The same of fresh draws of the labels.
        consistent: Share of all answers whose count, pattern and primitives agree.
        consistent_count: Share whose token count fits the pattern.
        consistent_bridge: Share whose primitives are the translation of the tokens.
        per_shape: The same per shape, in the order of the rules; only shapes that occur.
    """

    model: str
    variant: str
    temperature: float
    n: int
    n_complete: int
    n_valid: int
    coherence: Interval | None
    coherence_all: Interval
    coherence_imitator: float
    valid_rate: Interval
    pattern_accuracy: Interval | None
    pattern_ceiling: float
    pattern_chance: float
    diversity: float | None
    total_variation: float | None
    total_variation_noise: float | None
    consistent: float
    consistent_count: float
    consistent_bridge: float
    per_shape: dict[str, ShapeScores]


def interval(values: Sequence[float], groups: Sequence[str], *, seed: int) -> Interval | None:
    """The mean of values with its bootstrap interval; None without values.

    Args:
        values: One per row.
        groups: The group of each row.
        seed: Of the draws.
    """
    if not len(values):
        return None
    names, of_row = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    mean = float(np.mean(values))
    if len(names) == 1:
        return Interval(mean=mean, low=None, high=None)
    sums = np.bincount(of_row, weights=np.asarray(values, dtype=np.float64))
    sizes = np.bincount(of_row).astype(np.float64)
    times = _times(len(names), DRAWS, seed)
    means = (times @ sums) / (times @ sizes)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean=mean, low=float(low), high=float(high))


@lru_cache(maxsize=16)
def _times(n: int, draws: int, seed: int) -> Floats:
    """``(draws, n)`` how often each of n things is drawn when n are drawn with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def score(rows: Sequence[Judged], *, seed: int = 17) -> Scores:
    """Scores the answers of one model to one variant at one temperature.

    Args:
        rows: At least one.
        seed: Of the intervals.

    Raises:
        DataError: No rows, rows of several models, variants or temperatures, or an unknown shape.
    """
    model, variant, temperature = _one_key(rows)
    shapes, groups = [row.shape for row in rows], [row.group for row in rows]
    answers = [parse_answer(row.answer) for row in rows]
    known = [i for i, answer in enumerate(answers) if answer.in_vocabulary]
    agreement = [consistency(answer) for answer in answers]
    coherent = _coherences(shapes, answers)
    hits = _pattern_hits(rows, answers, known)
    per_shape = {
        shape: _score_shape([rows[i] for i in at], [answers[i] for i in at], seed)
        for shape in SHAPES
        if (at := [i for i, found in enumerate(shapes) if found == shape])
    }

    def mean_of(values: Sequence[float], at: Sequence[int]) -> Interval | None:
        return interval([values[i] for i in at], [groups[i] for i in at], seed=seed)

    def sure(values: Sequence[float]) -> Interval:
        found = interval(values, groups, seed=seed)
        assert found is not None  # there are rows
        return found

    def over_shapes(part: Callable[[ShapeScores], float | None]) -> float | None:
        found = [value for one in per_shape.values() if (value := part(one)) is not None]
        return float(np.mean(found)) if found else None

    ceiling, chance = pattern_bounds(shapes)
    return Scores(
        model=model,
        variant=variant,
        temperature=temperature,
        n=len(rows),
        n_complete=sum(answer.valid for answer in answers),
        n_valid=len(known),
        coherence=mean_of(coherent, known),
        coherence_all=sure(coherent),
        coherence_imitator=float(
            expected_coherence(shapes, shapes, temperature=temperature).mean()
        ),
        valid_rate=sure([float(answer.in_vocabulary) for answer in answers]),
        pattern_accuracy=interval(list(hits.values()), [groups[i] for i in hits], seed=seed),
        pattern_ceiling=ceiling,
        pattern_chance=chance,
        diversity=_diversity(answers),
        total_variation=over_shapes(lambda one: one.total_variation),
        total_variation_noise=over_shapes(lambda one: one.total_variation_noise),
        consistent=_share([found.agrees for found in agreement]),
        consistent_count=_share([found.count for found in agreement]),
        consistent_bridge=_share([found.bridge for found in agreement]),
        per_shape=per_shape,
    )


def score_all(rows: Sequence[Judged], *, seed: int = 17) -> list[Scores]:
    """Scores for every model, variant and temperature that occurs, in the order of the rows."""
    parts: dict[tuple[str, str, float], list[Judged]] = defaultdict(list)
    for row in rows:
        parts[row.model, row.variant, row.temperature].append(row)
    return [score(part, seed=seed) for part in parts.values()]


def _one_key(rows: Sequence[Judged]) -> tuple[str, str, float]:
    keys = {(row.model, row.variant, row.temperature) for row in rows}
    if len(keys) != 1:
        problem = "there are no answers to score" if not rows else "the answers differ in origin"
        raise DataError(
            problem,
            where=", ".join(map(str, sorted(keys))) or None,
            remedy="give the answers of one model to one variant at one temperature",
        )
    for row in rows:
        shape_index(row.shape, where=f"{row.model}, {row.variant}")
    return next(iter(keys))


def _coherences(shapes: Sequence[str], answers: Sequence[Answer]) -> list[float]:
    """Coherence per answer; 0 where it is not in vocabulary."""
    return [
        coherence(shape, answer.eisv_tokens) if answer.in_vocabulary else 0.0
        for shape, answer in zip(shapes, answers, strict=True)
    ]


def _pattern_hits(
    rows: Sequence[Judged], answers: Sequence[Answer], known: Sequence[int]
) -> dict[int, float]:
    return {
        i: float(answers[i].pattern == rows[i].pattern)
        for i in known
        if rows[i].pattern is not None
    }


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def _diversity(answers: Sequence[Answer]) -> float | None:
    said = [list(answer.eisv_tokens) for answer in answers if answer.in_vocabulary]
    return diversity(said) if said else None


def _score_shape(rows: Sequence[Judged], answers: Sequence[Answer], seed: int) -> ShapeScores:
    shape = rows[0].shape
    known = [i for i, answer in enumerate(answers) if answer.in_vocabulary]
    coherent = _coherences([shape] * len(rows), answers)
    hits = list(_pattern_hits(rows, answers, known).values())
    said = token_counts([answers[i].eisv_tokens for i in known])
    labels = token_counts([row.label for row in rows])
    distance, noise = _distances(said, labels, seed)
    distinct, wanted = (int((found.sum(axis=0) > 0).sum()) for found in (said, labels))
    return ShapeScores(
        n=len(rows),
        n_valid=len(known),
        coherence=float(np.mean([coherent[i] for i in known])) if known else None,
        coherence_all=float(np.mean(coherent)),
        valid_rate=len(known) / len(rows),
        pattern_accuracy=float(np.mean(hits)) if hits else None,
        diversity=_diversity(answers),
        total_variation=distance,
        total_variation_noise=noise,
        distinct_tokens=distinct,
        distinct_label_tokens=wanted,
        few_tokens=distinct < FEW_TOKENS * wanted,
    )


def _distances(said: Floats, labels: Floats, seed: int) -> tuple[float | None, float | None]:
    """Distance of answers to labels, and the mean distance of labels drawn again to the labels."""
    if not labels.sum():
        return None, None
    wanted = labels.sum(axis=0) / labels.sum()
    drawn = _times(len(labels), NOISE_DRAWS, seed) @ labels
    drawn = drawn[drawn.any(axis=1)]  # lists without a token may be all that was drawn
    noise = float(total_variation(drawn / drawn.sum(axis=1, keepdims=True), wanted).mean())
    if not said.sum():
        return None, noise
    return float(total_variation(said.sum(axis=0) / said.sum(), wanted)), noise
