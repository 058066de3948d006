"""Expressions: what each pattern gives, how often, learning, and many at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from benchmarks.eisv_windows import express_by_hand
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracetune.eisv import expression as drawn
from tracetune.eisv.coherence import coherence
from tracetune.eisv.expression import (
    Expression,
    ExpressionGenerator,
    initial_weights,
    label_many,
    shape_codes,
)
from tracetune.eisv.vocabulary import (
    AFFINITY,
    EISV_TOKENS,
    INQUIRY_TOKENS,
    PATTERN_COUNT,
    PATTERN_WEIGHTS,
    SHAPES,
    infer_pattern,
    translate,
)
from tracetune.errors import DataError

SEEDS = st.integers(0, 2**63 - 1)
SHAPE_LISTS = st.lists(st.sampled_from(SHAPES), max_size=12)
WEIGHTS = hnp.arrays(np.float64, (len(SHAPES), len(EISV_TOKENS)), elements=st.floats(0.1, 10))
MANY = [shape for shape in SHAPES for _ in range(20_000)]


@pytest.fixture(scope="module")
def many():
    """Twenty thousand expressions of each shape."""
    return label_many(MANY, 11).expressions()


@given(SHAPE_LISTS, SEEDS)
def test_an_expression_is_what_its_pattern_says(shapes, seed):
    for found in label_many(shapes, seed).expressions():
        tokens = found.tokens
        assert len(tokens) == PATTERN_COUNT[found.pattern]
        assert set(tokens) <= set(EISV_TOKENS)
        assert found.lumen == tuple(translate(tokens))
        if found.pattern in ("PAIR", "TRIPLE"):
            assert len(set(tokens)) == len(tokens)
        elif found.pattern == "REPETITION":
            assert tokens[0] == tokens[1]
        elif found.pattern == "QUESTION":
            assert tokens[1] in INQUIRY_TOKENS


@given(SHAPE_LISTS, SEEDS, st.none() | WEIGHTS)
def test_many_at_once_are_those_drawn_one_by_one(shapes, seed, weights):
    generator = ExpressionGenerator(seed, weights)
    one_by_one = [generator.generate(shape) for shape in shapes]
    labels = label_many(shapes, seed, weights)
    assert labels.expressions() == one_by_one
    assert labels.pattern_names() == [found.pattern for found in one_by_one]
    assert labels.token_lists() == [found.tokens for found in one_by_one]
    assert len(labels) == len(shapes)


def test_parts_do_not_show(monkeypatch):
    shapes = MANY[::90]
    whole = label_many(shapes, 3)
    monkeypatch.setattr(drawn, "_CHUNK", 7)
    parts = label_many(shapes, 3)
    assert np.array_equal(whole.tokens, parts.tokens)
    assert np.array_equal(whole.patterns, parts.patterns)


@given(SEEDS, st.lists(st.sampled_from(SHAPES), min_size=1, max_size=6))
def test_the_shapes_before_do_not_change_an_expression(seed, shapes):
    others = ["void_rising"] * (len(shapes) - 1) + shapes[-1:]
    assert label_many(shapes, seed).expressions()[-1] == label_many(others, seed).expressions()[-1]


@given(st.sampled_from(SHAPES), SEEDS)
def test_the_same_as_by_hand(shape, seed):
    found = ExpressionGenerator(seed).generate(shape)
    draws = np.random.default_rng(seed).random(4).tolist()
    assert express_by_hand(shape, draws) == (found.pattern, found.tokens)


def test_patterns_come_in_their_shares(many):
    for shape in SHAPES:
        some = [found.pattern for found, s in zip(many, MANY, strict=True) if s == shape]
        counts = Counter(some)
        for pattern, share in PATTERN_WEIGHTS[shape].items():
            assert counts[pattern] / len(some) == pytest.approx(share, abs=0.015)


def test_fitting_tokens_are_three_times_as_likely(many):
    for shape in SHAPES:
        first = Counter(f.tokens[0] for f, s in zip(many, MANY, strict=True) if s == shape)
        fitting = len(AFFINITY[shape])
        for token in EISV_TOKENS:
            weight = 3 if token in AFFINITY[shape] else 1
            share = weight / (3 * fitting + 15 - fitting)
            assert first[token] / 20_000 == pytest.approx(share, abs=0.01)


def test_the_two_inquiry_tokens_are_equally_likely(many):
    asked = Counter(found.tokens[1] for found in many if found.pattern == "QUESTION")
    assert asked["~curiosity~"] / asked.total() == pytest.approx(0.5, abs=0.01)


def test_inferring_the_pattern_is_wrong_for_one_in_twenty(many):
    wrong = [found for found in many if infer_pattern(found.tokens) != found.pattern]
    assert len(wrong) / len(many) == pytest.approx(0.050, abs=0.004)
    assert {found.pattern for found in wrong} == {"PAIR", "QUESTION"}


def test_a_score_moves_the_weights_of_the_tokens_used():
    generator = ExpressionGenerator(1)
    generator.update("void_rising", ["~reaching~", "~warmth~"], 1.0)
    generator.update("void_rising", ["~holding~", "~holding~"], 0.0)
    generator.update("void_rising", ["~return~"], 0.5)
    moved = generator.weights - initial_weights()
    places = {token: EISV_TOKENS.index(token) for token in ("~reaching~", "~warmth~", "~holding~")}
    row = moved[SHAPES.index("void_rising")]
    assert row[places["~reaching~"]] == pytest.approx(0.08)
    assert row[places["~warmth~"]] == pytest.approx(0.08)
    assert row[places["~holding~"]] == pytest.approx(-0.16)  # it stands twice
    assert np.count_nonzero(moved) == 3


@given(st.lists(st.tuples(st.sampled_from(EISV_TOKENS), st.floats(0, 1)), max_size=40))
def test_weights_stay_within_their_bounds(scores):
    generator = ExpressionGenerator(1)
    for token, score in scores:
        for _ in range(30):
            generator.update("convergence", [token], score)
    assert (generator.weights >= 0.1).all()
    assert (generator.weights <= 10).all()
    assert isinstance(generator.generate("convergence"), Expression)


def test_weights_are_a_copy_and_change_what_is_drawn():
    generator = ExpressionGenerator(1)
    generator.weights[:] = 100
    assert np.array_equal(generator.weights, initial_weights())
    only = np.full((9, 15), 0.1)
    only[:, EISV_TOKENS.index("~warmth~")] = 10
    said = Counter(f.tokens[0] for f in label_many(MANY[::20], 1, only).expressions())
    assert said["~warmth~"] / said.total() == pytest.approx(10 / 11.4, abs=0.01)


def test_learning_raises_coherence():
    generator = ExpressionGenerator(5)
    before, after = [], []
    for scores in (before, after):
        for _ in range(800):
            found = generator.generate("settled_presence")
            scores.append(coherence("settled_presence", found.tokens))
            generator.update("settled_presence", found.tokens, scores[-1])
    assert np.mean(before) + 0.1 < np.mean(after)
    assert np.mean(after) > 0.85


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda g: g.generate("calm"), "no shape 'calm'"),
        (lambda g: g.update("calm", [], 0.5), "no shape 'calm'"),
        (lambda g: g.update("convergence", ["~warm~"], 0.5), "no EISV token '~warm~'"),
        (lambda g: g.update("convergence", ["~warmth~"], 1.1), "score of 1.1"),
        (lambda g: g.update("convergence", ["~warmth~"], float("nan")), "score of nan"),
    ],
)
def test_what_the_generator_refuses(act, message):
    generator = ExpressionGenerator(1)
    with pytest.raises(DataError, match=message):
        act(generator)
    assert np.array_equal(generator.weights, initial_weights())


def test_codes_and_names_are_the_same_shapes():
    codes = np.arange(9, dtype=np.int8)
    assert np.array_equal(shape_codes(SHAPES), codes)
    assert np.array_equal(shape_codes(np.array(SHAPES)), codes)
    assert label_many(codes, 2).expressions() == label_many(SHAPES, 2).expressions()
    with pytest.raises(DataError, match="no shape 'calm'") as error:
        label_many(["convergence", "calm"], 1)
    assert error.value.where == "shape 1"
    with pytest.raises(DataError, match="code 9"):
        label_many(np.array([1, 9]), 1)


@pytest.mark.parametrize("wrong", [np.ones((9, 14)), np.zeros((9, 15)), np.full((9, 15), np.nan)])
def test_weights_that_are_none(wrong):
    with pytest.raises(DataError, match="positive finite"):
        label_many(SHAPES, 1, wrong)
