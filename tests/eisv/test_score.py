"""Scores of answers, and what a perfect imitator of the labels reaches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracetune.eisv.baselines import lookup_table, published_mix, random_baseline
from tracetune.eisv.coherence import coherence
from tracetune.eisv.expression import label_many
from tracetune.eisv.imitator import expected_coherence, expected_fit, pattern_bounds, sharpen
from tracetune.eisv.prompt import answer_text
from tracetune.eisv.score import Judged, interval, score, score_all
from tracetune.eisv.vocabulary import SHAPES
from tracetune.errors import DataError

EVERY = [shape for shape in SHAPES for _ in range(40)]


def judged(shapes, said, labels=None, *, temperature=1.0, variant="full", model="teacher"):
    labels = labels or label_many(shapes, 1)
    return [
        Judged(
            model=model,
            variant=variant,
            temperature=temperature,
            shape=shape,
            answer=text
            if isinstance(text, str)
            else answer_text(text.tokens, text.lumen, text.pattern),
            label=list(label.tokens),
            pattern=label.pattern,
            group=f"g{i}",
        )
        for i, (shape, text, label) in enumerate(
            zip(
                shapes,
                said if isinstance(said, list) else said.expressions(),
                labels.expressions(),
                strict=True,
            )
        )
    ]


def test_labels_answered_with_themselves():
    labels = label_many(EVERY, 1)
    found = score(judged(EVERY, labels, labels))
    assert (found.n, found.n_complete, found.n_valid) == (360, 360, 360)
    assert found.pattern_accuracy.mean == found.consistent == found.valid_rate.mean == 1
    assert found.total_variation == 0
    assert found.coherence.low < found.coherence.mean < found.coherence.high
    assert found.coherence.mean == pytest.approx(found.coherence_imitator, abs=0.05)
    assert list(found.per_shape) == list(SHAPES)


def test_a_fresh_imitator_is_as_far_from_the_labels_as_noise_alone():
    found = score(judged(EVERY, label_many(EVERY, 2)))
    # The noise is of one draw against fixed labels; two draws differ by sqrt(2) more.
    assert found.total_variation == pytest.approx(2**0.5 * found.total_variation_noise, rel=0.2)
    assert found.pattern_accuracy.mean == pytest.approx(found.pattern_chance, abs=0.06)
    assert found.pattern_chance < found.pattern_ceiling
    assert not any(one.few_tokens for one in found.per_shape.values())


def test_the_lookup_table_is_coherent_and_poor():
    found = score(judged(EVERY, lookup_table(EVERY)))
    assert found.coherence.mean == found.consistent == 1
    assert found.total_variation > 3 * found.total_variation_noise
    assert all(one.few_tokens and one.distinct_tokens == 1 for one in found.per_shape.values())


def test_answers_out_of_vocabulary_count_nothing_or_zero():
    shapes = ["convergence"] * 4
    text = answer_text(["~stillness~"], ["quiet"], "SINGLE")
    said = [text, text, "nonsense", text.replace("quiet", "loud")]
    found = score(judged(shapes, said))
    assert (found.n, found.n_complete, found.n_valid) == (4, 3, 2)
    assert found.coherence.mean == 1
    assert found.coherence_all.mean == found.valid_rate.mean == found.consistent == 0.5
    assert found.per_shape["convergence"].coherence_all == 0.5


def test_nothing_in_vocabulary():
    found = score(judged(["convergence"] * 3, ["", "no", "PATTERN: PAIR"]))
    assert found.coherence is None
    assert found.pattern_accuracy is None
    assert found.total_variation is None
    assert found.per_shape["convergence"].coherence is None
    assert found.coherence_all.mean == 0


def test_score_all_divides_by_model_variant_and_temperature():
    rows = [
        row
        for model in ("teacher", "base")
        for temperature in (1.0, 0.3, 0.0)
        for row in judged(EVERY, random_baseline(EVERY, 3), temperature=temperature, model=model)
    ]
    found = score_all(rows)
    assert [(one.model, one.temperature) for one in found] == [
        (model, t) for model in ("teacher", "base") for t in (1.0, 0.3, 0.0)
    ]
    # The answers are the same, so only what an imitator would reach changes.
    imitator = [one.coherence_imitator for one in found[:3]]
    assert imitator == sorted(imitator)
    assert len({one.coherence.mean for one in found}) == 1
    assert found == score_all(rows)
    with pytest.raises(DataError, match="differ in origin"):
        score(rows)


def test_no_answers_and_unknown_shapes_are_refused():
    with pytest.raises(DataError, match="no answers to score"):
        score([])
    with pytest.raises(DataError, match="there is no shape 'sleepy'"):
        score([judged(["convergence"], [""])[0].model_copy(update={"shape": "sleepy"})])


def test_rows_of_one_group_are_drawn_together():
    values = [0.0, 1.0] * 50
    apart = interval(values, [str(i) for i in range(100)], seed=1)
    together = interval(values, [str(i % 2) for i in range(100)], seed=1)
    assert apart.high - apart.low < 0.25 < together.high - together.low
    alone = interval(values, ["one"] * 100, seed=1)
    assert (alone.mean, alone.low, alone.high) == (0.5, None, None)
    assert interval([], [], seed=1) is None


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(5)
    names = [str(i) for i in range(60)]
    hits = 0
    for _ in range(200):
        found = interval(rng.random(60).tolist(), names, seed=2)
        hits += found.low <= 0.5 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


@pytest.mark.parametrize("shape", ["settled_presence", "drift_dissonance"])
def test_expected_coherence_is_that_of_drawn_expressions(shape):
    said = label_many([shape] * 20_000, 7).token_lists()
    for true in SHAPES:
        drawn = np.mean([coherence(true, tokens) for tokens in said])
        assert expected_coherence([shape], [true])[0] == pytest.approx(drawn, abs=0.012)
    best = np.mean([max(coherence(one, tokens) for one in SHAPES) for tokens in said])
    assert expected_fit([shape]) == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize(
    ("temperature", "uniform", "published"),
    # A10.2, which sharpens the draws of the generator; here every choice is sharpened.
    [(1, 0.50, 0.50), (0.5, 0.726, None), (0.3, 0.900, 0.931), (0.2, 0.96, 0.99), (0.1, 0.97, 1)],
)
def test_coherence_rises_as_the_temperature_falls(temperature, uniform, published):
    found = expected_coherence(SHAPES, SHAPES, temperature=temperature).mean()
    assert found == pytest.approx(uniform, abs=0.02)
    if published is not None:
        mix = published_mix(2000)
        found = expected_coherence(mix, mix, temperature=temperature).mean()
        assert found == pytest.approx(published, abs=0.02)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.sampled_from([0.0, 0.01, 0.3, 1.0]))
@settings(max_examples=50)
def test_sharpened_probabilities_are_probabilities(weights, temperature):
    chances = np.array(weights) / sum(weights)
    found = sharpen(chances, temperature)
    assert found.sum() == pytest.approx(1)
    assert found.max() >= chances.max() - 1e-12
    if temperature == 1:
        assert found == pytest.approx(chances)


def test_pattern_bounds():
    ceiling, chance = pattern_bounds(["settled_presence"])
    assert ceiling == pytest.approx(0.40)
    assert chance == pytest.approx(0.4**2 + 0.3**2 + 0.1**2 + 0.15**2 + 0.05**2)
