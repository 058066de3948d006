"""The classifier on the numbers of a prompt: what it sees, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from tracetune.eisv.classifier import classify_numbers, one_token_coherence, shown_numbers
from tracetune.eisv.prompt import user_text
from tracetune.eisv.synthetic import generate, seed_of
from tracetune.eisv.vocabulary import AFFINITY, SHAPES
from tracetune.errors import DataError

BLIND = "no_shape_no_duration"


@pytest.fixture(scope="module")
def windows():
    return [
        (shape, generate(shape, seed=seed_of(3, shape, i))) for shape in SHAPES for i in range(24)
    ]


def sides(windows, variant):
    train = [one for i, one in enumerate(windows) if i % 4]
    test = windows[::4]
    return [
        part
        for side in (train, test)
        for part in (shown_numbers([w for _, w in side], variant), [s for s, _ in side])
    ]


def test_it_sees_what_the_prompt_shows_and_no_more(windows):
    shape, window = windows[50]
    blind = shown_numbers([window], BLIND)[0]
    shown = shown_numbers([window], "no_shape")[0]
    assert shown[:-1].tolist() == blind.tolist()
    text = user_text(window, shape, "no_shape")
    assert f"over {shown[-1]:.0f}s" in text
    assert f"window: {blind[-1]:.0f} states" in text
    assert f"E={blind[0]:.4f}" in text


def test_generated_windows_are_told_apart_without_the_duration(windows):
    found = classify_numbers(*sides(windows, BLIND), variant=BLIND, seed=1)
    assert (found.n_train, found.n_test) == (162, 54)
    assert found.balanced_accuracy > 0.9
    assert found.untaught == []
    assert sum(sum(row.values()) for row in found.confusion.values()) == 54
    assert found.accuracy == sum(found.confusion[s][s] for s in SHAPES) / 54
    shapes = [shape for shape, _ in windows[::4]]
    assert one_token_coherence(found.one_token, shapes).mean() >= found.accuracy - 1e-12


def test_the_same_seed_gives_the_same_answers(windows):
    one, two = (classify_numbers(*sides(windows, BLIND), variant=BLIND, seed=1) for _ in range(2))
    assert one == two


def test_a_classifier_of_noise_recognises_nothing_and_answers_by_frequency():
    rng = np.random.default_rng(0)
    shapes = ["settled_presence"] * 60 + ["convergence"] * 60 + ["void_rising"] * 60
    train, test = rng.random((180, 13)), rng.random((180, 13))
    found = classify_numbers(train, shapes, test, shapes, variant=BLIND, seed=1)
    assert found.balanced_accuracy == pytest.approx(1 / 3, abs=0.12)
    # Of two shapes that share tokens the best single answer takes one that fits both.
    both = set(AFFINITY["settled_presence"]) & set(AFFINITY["convergence"])
    assert sum(token in both for token in found.one_token) > 100


def test_a_shape_without_training_rows_is_named(windows):
    train, train_shapes, test, shapes = sides(windows, BLIND)
    kept = [i for i, shape in enumerate(train_shapes) if shape != "void_rising"]
    found = classify_numbers(
        train[kept], [train_shapes[i] for i in kept], test, shapes, variant=BLIND, seed=1
    )
    assert found.untaught == ["void_rising"]
    assert found.recall["void_rising"] == 0


def test_no_rows_and_unknown_shapes_are_refused(windows):
    train, shapes, test, test_shapes = sides(windows, BLIND)
    with pytest.raises(DataError, match="162 to train, 0 to test"):
        classify_numbers(train, shapes, test[:0], [], variant=BLIND, seed=1)
    with pytest.raises(DataError, match="there is no shape 'sleepy'"):
        classify_numbers(train, ["sleepy"] * 162, test, test_shapes, variant=BLIND, seed=1)
    assert shown_numbers([], BLIND).shape == (0, 13)
