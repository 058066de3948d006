"""The layout of prompts: what each variant shows and what it hides."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracetune.eisv.derivatives import derivatives
from tracetune.eisv.prompt import (
    NUMBER_NAMES,
    SYSTEM_PROMPT,
    VARIANTS,
    answer_messages,
    numbers_of,
    prompt_messages,
    summarize,
    tagged_text,
    user_text,
)
from tracetune.eisv.states import Window
from tracetune.eisv.synthetic import generate
from tracetune.eisv.vocabulary import SHAPES
from tracetune.errors import DataError

WINDOW = Window(
    t=np.array([0.0, 1.0, 3.0]),
    values=np.array([[0.5, 0.6, 0.2, 0.1], [0.4, 0.6, 0.2, 0.1], [0.5, 0.6, 0.3, 0.1]]),
)


def test_the_full_prompt_has_the_lines_of_the_document():
    assert user_text(WINDOW, "convergence", "full") == (
        "TRAJECTORY:\n"
        "shape: convergence\n"
        "window: 3 states over 3s\n"
        "eisv_mean: E=0.4667, I=0.6000, S=0.2333, V=0.1000\n"
        "derivatives: dE=-0.0250, dI=+0.0000, dS=+0.0250, dV=+0.0000\n"
        "second_derivatives: d2E=+0.0750, d2I=+0.0000, d2S=+0.0250, d2V=+0.0000"
    )


def test_variants_leave_out_the_shape_and_then_the_duration():
    full, no_shape, neither = (user_text(WINDOW, "convergence", one) for one in VARIANTS)
    assert no_shape == full.replace("shape: convergence\n", "")
    assert neither == no_shape.replace(" over 3s", "")


@given(st.sampled_from(SHAPES), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_without_shape_and_duration_nothing_but_the_numbers_is_left(shape, seed):
    window = generate(shape, seed=seed)
    text = user_text(window, shape, "no_shape_no_duration")
    assert shape not in text
    assert "-0.0000" not in text
    shown = [float(found) for found in re.findall(r"=([+-]?\d\.\d{4})", text)]
    assert shown == summarize(window).numbers.tolist()
    rows = derivatives(window)
    exact = np.concatenate([window.values.mean(axis=0), rows.mean_first, rows.mean_second])
    assert np.abs(np.array(shown) - exact).max() <= 0.5e-4 + 1e-12
    assert len(shown) == len(NUMBER_NAMES)


def test_two_states_have_no_second_derivatives():
    short = Window(t=WINDOW.t[:2], values=WINDOW.values[:2])
    assert "d2E=+0.0000, d2I=+0.0000" in user_text(short, "falling_energy", "full")


def test_many_windows_have_the_numbers_that_each_has_alone():
    windows = [generate(shape, n, seed=n) for shape in SHAPES for n in (20, 6, 20)]
    windows += [WINDOW, Window(t=np.array([0.0, 1.0, 1.0]), values=WINDOW.values)]
    together = numbers_of(windows)
    for window, numbers in zip(windows, together, strict=True):
        assert numbers.tolist() == summarize(window).numbers.tolist()
        rows = derivatives(window)
        exact = np.concatenate([window.values.mean(axis=0), rows.mean_first, rows.mean_second])
        assert numbers.tolist() == (np.round(exact, 4) + 0.0).tolist()
    assert numbers_of([]).shape == (0, len(NUMBER_NAMES))


def test_chat_and_text_formats():
    prompt = prompt_messages(WINDOW, "convergence", "full")
    assert [message.role for message in prompt] == ["system", "user"]
    assert prompt[0].content == SYSTEM_PROMPT
    answer = answer_messages(["~ripple~"], ["busy"], "SINGLE")
    text = tagged_text([*prompt, *answer])
    assert text.startswith("<|system|>\nYou are Lumen's trajectory-to-expression mapper.")
    assert text.endswith(
        "<|assistant|>\nEISV_TOKENS: ~ripple~\nLUMEN_TOKENS: busy\nPATTERN: SINGLE\n<|end|>"
    )
    assert text.startswith(tagged_text(prompt))  # a model goes on where the prompt ends


def test_an_unknown_shape_is_refused():
    with pytest.raises(DataError, match="there is no shape 'sleepy'"):
        user_text(WINDOW, "sleepy", "no_shape")
