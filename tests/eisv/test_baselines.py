"""Coherence and the other measures, and the baselines against the published figures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.eisv.baselines import (
    BASELINES,
    PUBLISHED_PERCENT,
    feedback_baseline,
    learned_weights,
    lookup_table,
    published_mix,
)
from tracetune.eisv.coherence import (
    coherence,
    coherence_many,
    diversity,
    token_counts,
    token_distribution,
    total_variation,
)
from tracetune.eisv.expression import initial_weights
from tracetune.eisv.vocabulary import AFFINITY, EISV_TOKENS, SHAPES
from tracetune.errors import DataError

UNIFORM = [shape for shape in SHAPES for _ in range(300)]
MIXES = {"published": published_mix(21_452), "uniform": UNIFORM}
SEEDS = (42, 1, 2, 3)
TOKENS = st.lists(st.sampled_from([*EISV_TOKENS, "~unknown~"]), max_size=4)

# Figure and tolerance, for the mean of four seeds. The figures (domain.md A6) are single runs with
# a random stream of their own. Runs of ours have a standard deviation of .001 to .004 (published
# mix) and of .005 to .007 (uniform). With feedback A6 has .9335 on the published mix, ours .927 to
# .935 by seed, .931 on average. The difference is largest on the uniform mix with feedback: .8295,
# and ours .815 on average, .800 to .833 by seed.
FIGURES = {
    ("published", "random"): (0.2657, 0.005),
    ("published", "rules"): (0.4977, 0.008),
    ("published", "rules_feedback"): (0.9335, 0.005),
    ("published", "shape_matched"): (1.0, 0.0),
    ("published", "prompt_conditioned"): (0.7823, 0.006),
    ("published", "lookup_table"): (1.0, 0.0),
    ("uniform", "random"): (0.2519, 0.015),
    ("uniform", "rules"): (0.5001, 0.02),
    ("uniform", "rules_feedback"): (0.8295, 0.025),
    ("uniform", "shape_matched"): (1.0, 0.0),
    ("uniform", "prompt_conditioned"): (0.7827, 0.015),
    ("uniform", "lookup_table"): (1.0, 0.0),
}


def score(name, shapes, seed):
    return float(coherence_many(shapes, BASELINES[name](shapes, seed)).mean())


@pytest.mark.parametrize(("mix", "name"), FIGURES)
def test_published_figures(mix, name):
    figure, tolerance = FIGURES[mix, name]
    found = np.mean([score(name, MIXES[mix], seed) for seed in SEEDS])
    assert found == pytest.approx(figure, abs=tolerance + 1e-12)


@pytest.mark.parametrize(
    ("records", "figure", "tolerance"),
    [(100, 0.663, 0.04), (500, 0.903, 0.02), (2000, 0.944, 0.01)],
)
def test_feedback_depends_on_how_many_updates_a_shape_got(records, figure, tolerance):
    shapes = ["settled_presence"] * records
    found = np.mean([score("rules_feedback", shapes, seed) for seed in range(8)])
    assert found == pytest.approx(figure, abs=tolerance)


def test_feedback_starts_the_second_pass_again():
    weights = learned_weights(UNIFORM, 5)
    assert not np.array_equal(weights, initial_weights())
    first = feedback_baseline(UNIFORM, 5)
    assert np.array_equal(first.tokens, feedback_baseline(UNIFORM, 5).tokens)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_answers_every_record_the_same_way_again(name):
    shapes = UNIFORM[::7]
    found = BASELINES[name](shapes, 3)
    assert len(found) == len(shapes)
    for expression in found.expressions():
        assert 1 <= len(expression.tokens) <= 3
        assert expression.lumen
    assert np.array_equal(found.tokens, BASELINES[name](shapes, 3).tokens)
    if name != "lookup_table":
        assert not np.array_equal(found.tokens, BASELINES[name](shapes, 4).tokens)
    assert len(BASELINES[name]([], 3)) == 0
    with pytest.raises(DataError, match="no shape 'calm'"):
        BASELINES[name](["calm"], 3)


def test_the_lookup_table_knows_one_token_per_shape():
    found = lookup_table(SHAPES).expressions()
    assert [e.tokens for e in found] == [(AFFINITY[shape][0],) for shape in SHAPES]
    assert {e.pattern for e in found} == {"SINGLE"}


@given(st.integers(0, 30_000))
def test_the_published_mix_has_the_published_shares(n):
    counts = Counter(published_mix(n))
    assert counts.total() == n
    for shape, percent in PUBLISHED_PERCENT.items():
        assert abs(counts[shape] - n * percent / 100) < 1 + n * 1e-4


def test_a_negative_mix_is_none():
    with pytest.raises(DataError, match="-1 records"):
        published_mix(-1)


@pytest.mark.parametrize(
    ("shape", "tokens", "value"),
    [
        ("convergence", ["~stillness~", "~stillness~", "~warmth~"], 2 / 3),
        ("convergence", ["~return~"], 1.0),
        ("convergence", ["~unknown~", "~return~"], 0.5),
        ("convergence", [], 0.0),
        ("calm", ["~return~"], 0.0),
    ],
)
def test_coherence(shape, tokens, value):
    assert coherence(shape, tokens) == pytest.approx(value)


@given(st.lists(st.tuples(st.sampled_from([*SHAPES, "calm"]), TOKENS), max_size=10))
def test_coherence_of_many(rows):
    shapes, tokens = [shape for shape, _ in rows], [row for _, row in rows]
    assert coherence_many(shapes, tokens).tolist() == [coherence(*row) for row in rows]


def test_coherence_of_labels_is_that_of_their_tokens():
    labels = BASELINES["rules"](UNIFORM, 9)
    by_codes = coherence_many(UNIFORM, labels)
    assert np.allclose(by_codes, coherence_many(UNIFORM, labels.token_lists()), atol=0)
    with pytest.raises(DataError, match="2699 shapes and 2700 token lists"):
        coherence_many(UNIFORM[1:], labels)


def test_diversity():
    assert diversity([["~warmth~", "~warmth~"], ["~return~", "~ripple~"]]) == 0.75
    assert diversity([]) == diversity([[]]) == 0.0


def test_distribution_and_distance():
    shares = token_distribution(
        ["convergence", "convergence", "void_rising", "falling_energy"],
        [["~return~", "~warmth~"], ["~return~", "~ripple~"], ["~return~"], []],
    )
    assert shares == {
        "convergence": {"~return~": 0.5, "~ripple~": 0.25, "~warmth~": 0.25},
        "void_rising": {"~return~": 1.0},
    }
    table = token_counts([["~return~", "~warmth~"], ["~return~", "~ripple~"], ["~return~"], []])
    assert table.sum(axis=1).tolist() == [2, 2, 1, 0]
    one, other = table[:2].sum(axis=0) / 4, table[2]
    assert total_variation(one, other) == pytest.approx(0.5)
    assert total_variation(np.array([one, other, one]), other).tolist() == [0.5, 0, 0.5]
    assert total_variation(np.array([1.0, 0]), np.array([0, 1.0])) == 1.0
    with pytest.raises(DataError, match="second distribution sum to 0"):
        total_variation(one, table[3])
    with pytest.raises(DataError, match="first distribution sum to 2"):
        total_variation(table[:2], one)
    with pytest.raises(DataError, match="there is no token '~unknown~'"):
        token_counts([["~return~"], ["~unknown~"]])
    with pytest.raises(DataError, match="1 shapes and 0 token lists"):
        token_distribution(["convergence"], [])


SHARES = (
    st.lists(st.integers(0, 9), min_size=15, max_size=15)
    .filter(any)
    .map(lambda counts: np.array(counts) / sum(counts))
)


@given(SHARES, SHARES, SHARES)
def test_total_variation_is_a_distance(p, q, r):
    assert total_variation(p, p) == 0
    assert total_variation(p, q) == pytest.approx(total_variation(q, p))
    assert 0 <= total_variation(p, q) <= 1 + 1e-12
    assert total_variation(p, r) <= total_variation(p, q) + total_variation(q, r) + 1e-12
