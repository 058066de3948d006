"""Reading answers: by label, by vocabulary, and whether their parts agree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracetune.eisv.answer import consistency, parse_answer
from tracetune.eisv.expression import label_many
from tracetune.eisv.prompt import answer_text
from tracetune.eisv.vocabulary import (
    EISV_TOKENS,
    LUMEN_PRIMITIVES,
    PATTERNS,
    SHAPES,
    translate,
)

PAIR = "EISV_TOKENS: ~warmth~ ~stillness~\nLUMEN_TOKENS: warm quiet\nPATTERN: PAIR"


def test_three_lines_are_read():
    found = parse_answer(PAIR)
    assert found.eisv_tokens == ("~warmth~", "~stillness~")
    assert found.lumen_tokens == ("warm", "quiet")
    assert (found.pattern, found.valid, found.in_vocabulary) == ("PAIR", True, True)
    assert found.problems == ()


@given(
    st.lists(st.sampled_from(EISV_TOKENS), min_size=1, max_size=4),
    st.lists(st.sampled_from(LUMEN_PRIMITIVES), min_size=1, max_size=4),
    st.sampled_from(PATTERNS),
    st.permutations(range(3)),
    st.sampled_from(["", "Here you are:\n", "EISV "]),
)
def test_labels_are_found_in_any_order_behind_any_text(tokens, lumen, pattern, order, before):
    lines = answer_text(tokens, lumen, pattern).split("\n")
    found = parse_answer(before + "\n".join(lines[i] for i in order) + "\nbye")
    assert (found.eisv_tokens, found.lumen_tokens) == (tuple(tokens), tuple(lumen))
    assert found.pattern == pattern
    assert found.in_vocabulary


@given(st.text(max_size=200))
def test_any_text_gives_an_answer(text):
    found = parse_answer(text)
    assert found.valid == bool(found.eisv_tokens and found.lumen_tokens and found.pattern)
    assert found.in_vocabulary == (found.problems == ())


@pytest.mark.parametrize(
    ("text", "valid", "problem"),
    [
        ("garbage text here", False, "no EISV_TOKENS"),
        ("EISV_TOKENS: ~warmth~\nPATTERN: SINGLE", False, "no LUMEN_TOKENS"),
        (PAIR.lower(), False, "no PATTERN"),
        ("EISV_TOKENS:\nLUMEN_TOKENS: warm\nPATTERN: SINGLE", False, "no EISV_TOKENS"),
        ("EISV_TOKENS: ~warmth~\nLUMEN_TOKENS: warm\nPATTERN:", False, "no PATTERN"),
        (PAIR.replace("~warmth~", "~glee~"), True, "'~glee~' is no EISV token"),
        (PAIR.replace("quiet", "loud"), True, "'loud' is no Lumen primitive"),
        (PAIR.replace("PAIR", "DUO"), True, "'DUO' is no pattern"),
        (PAIR.replace("\n", " "), True, "'LUMEN_TOKENS:' is no EISV token"),
    ],
)
def test_what_is_wrong_is_named(text, valid, problem):
    found = parse_answer(text)
    assert (found.valid, found.in_vocabulary) == (valid, False)
    assert problem in found.problems


def test_a_long_word_is_cut_in_the_message():
    (problem,) = parse_answer(PAIR.replace("PAIR", "X" * 5000)).problems
    assert len(problem) < 80


def test_a_value_may_stand_on_the_next_line_and_the_first_label_with_a_value_counts():
    found = parse_answer("EISV_TOKENS:\n  ~warmth~\nPATTERN: SINGLE\nLUMEN_TOKENS:\n\n warm")
    assert found.in_vocabulary
    twice = parse_answer("EISV_TOKENS:\nPATTERN: PAIR\nPATTERN: SINGLE\n" + PAIR)
    assert (twice.eisv_tokens[0], twice.pattern) == ("~warmth~", "PAIR")


@given(st.sampled_from(SHAPES), st.integers(0, 2**32))
@settings(max_examples=50)
def test_every_drawn_expression_agrees_with_itself(shape, seed):
    (drawn,) = label_many([shape], seed).expressions()
    text = answer_text(drawn.tokens, drawn.lumen, drawn.pattern)
    assert consistency(parse_answer(text)).agrees


@pytest.mark.parametrize(
    ("tokens", "pattern", "count"),
    [
        (["~ripple~"], "SINGLE", True),
        (["~ripple~"], "TRIPLE", False),  # passes the check of document 004
        (["~ripple~", "~ripple~"], "PAIR", False),
        (["~ripple~", "~ripple~"], "REPETITION", True),
        (["~ripple~", "~return~"], "REPETITION", False),
        (["~ripple~", "~curiosity~"], "PAIR", True),
        (["~curiosity~", "~curiosity~"], "QUESTION", True),
        (["~ripple~", "~return~"], "QUESTION", False),
        (["~ripple~", "~return~", "~holding~", "~warmth~"], "TRIPLE", False),
        (["~ripple~", "~return~", "~ripple~"], "TRIPLE", False),
    ],
)
def test_token_count_against_pattern(tokens, pattern, count):
    answer = parse_answer(answer_text(tokens, translate(tokens), pattern))
    assert answer.in_vocabulary
    found = consistency(answer)
    assert (found.count, found.bridge) == (count, True)
    assert bool(found.problems) != count


def test_bridge_against_primitives_is_reported_apart():
    found = consistency(parse_answer(PAIR.replace("warm quiet", "quiet warm")))
    assert (found.count, found.bridge) == (True, False)
    assert found.problems == ("the bridge gives warm quiet, the answer quiet warm",)
    assert not consistency(parse_answer("nothing")).agrees
