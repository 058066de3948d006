"""The tables of EISV-Lumen and the rules on words alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.eisv import vocabulary as words
from tracetune.errors import DataError

TOKENS = st.lists(st.sampled_from([*words.EISV_TOKENS, "~unknown~", ""]), max_size=6)


def test_sizes_and_order():
    assert len(words.SHAPES) == 9
    assert set(words.GENERATION_ORDER) == set(words.SHAPES)
    assert len(set(words.EISV_TOKENS)) == 15
    assert len(set(words.LUMEN_PRIMITIVES)) == 16
    assert [len(members) for members in words.LUMEN_CATEGORIES.values()] == [6, 3, 2, 3, 2]
    assert words.SHAPES[0] == "basin_transition_down"
    assert words.SHAPES[-1] == "settled_presence"


def test_every_table_speaks_of_the_same_names():
    for table in (words.AFFINITY, words.PATTERN_WEIGHTS, words.SUGGESTED_COUNT):
        assert set(table) == set(words.SHAPES)
    assert {token for each in words.AFFINITY.values() for token in each} <= set(words.EISV_TOKENS)
    assert set(words.BRIDGE) == set(words.EISV_TOKENS)
    produced = {primitive for pair in words.BRIDGE.values() for primitive in pair}
    assert set(words.LUMEN_PRIMITIVES) - produced == {"cold"}
    second_only = produced - {first for first, _ in words.BRIDGE.values()}
    assert second_only == {"bright", "dim", "wonder", "you", "feel"}
    assert set(words.PATTERN_COUNT) == set(words.PATTERNS)


def test_pattern_shares_sum_to_one():
    for shape, shares in words.PATTERN_WEIGHTS.items():
        assert tuple(shares) == words.PATTERNS
        assert sum(shares.values()) == pytest.approx(1), shape
    assert words.PATTERN_WEIGHTS["drift_dissonance"]["QUESTION"] == 0.40
    assert words.PATTERN_WEIGHTS["basin_transition_up"]["TRIPLE"] == 0.35


@pytest.mark.parametrize(
    ("tokens", "primitives"),
    [
        (["~stillness~"], ["quiet"]),
        (["~stillness~", "~stillness~"], ["quiet", "here"]),
        (["~stillness~"] * 3, ["quiet", "here"]),
        (["~curiosity~", "~ripple~", "~questioning~"], ["why", "busy", "what"]),
        (["~nothing~", "~warmth~"], ["warm"]),
        (["~warmth~", "~curiosity~", "~resonance~", "~reaching~"], ["warm", "why", "with"]),
        (["~stillness~", "~deep_listening~", "~deep_listening~"], ["quiet", "sense"]),
        ([], []),
    ],
)
def test_translation(tokens, primitives):
    assert words.translate(tokens) == primitives


@given(TOKENS)
def test_a_translation_is_short_without_repetition_and_from_the_bridge(tokens):
    found = words.translate(tokens)
    assert len(found) == len(set(found)) <= 3
    reachable = {one for token in tokens for one in words.BRIDGE.get(token, ())}
    assert set(found) <= reachable
    known = [token for token in tokens if token in words.BRIDGE]
    assert found == words.translate(known)
    if known:
        assert found[0] == words.BRIDGE[known[0]][0]


@pytest.mark.parametrize(
    ("tokens", "pattern"),
    [
        (["~warmth~"], "SINGLE"),
        (["~warmth~", "~return~"], "PAIR"),
        (["~questioning~", "~questioning~"], "REPETITION"),
        (["~warmth~", "~curiosity~"], "QUESTION"),
        (["~warmth~", "~return~", "~curiosity~"], "TRIPLE"),
        (["~warmth~"] * 3, "TRIPLE"),
    ],
)
def test_inferred_patterns(tokens, pattern):
    assert words.infer_pattern(tokens) == pattern


@pytest.mark.parametrize("count", [0, 4])
def test_no_pattern_is_inferred_where_there_is_none(count):
    with pytest.raises(DataError, match=f"expression of {count} tokens"):
        words.infer_pattern(["~warmth~"] * count)


def test_an_unknown_shape_is_named_with_those_that_exist():
    with pytest.raises(DataError, match="no shape 'calm'") as error:
        words.shape_index("calm", where="row 7")
    assert "row 7" in str(error.value)
    assert "settled_presence" in str(error.value)
