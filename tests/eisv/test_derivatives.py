"""Derivatives: by hand, one by one and many at once."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.eisv_windows import derive_by_hand, mean_by_hand
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracetune.eisv.derivatives import derivatives, means_many
from tracetune.eisv.states import Window

UNIT = st.floats(0, 1, width=32)
STEPS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 7.3])


@st.composite
def batches(draw, least=1, steps=STEPS):
    """Times (windows, n) and values (windows, n, 4)."""
    count, n = draw(st.integers(1, 5)), draw(st.integers(least, 9))
    step = draw(hnp.arrays(np.float64, (count, n), elements=steps))
    values = draw(hnp.arrays(np.float64, (count, n, 4), elements=UNIT))
    return np.cumsum(step, axis=1), values


def line(t, energy):
    values = np.full((len(t), 4), 0.25)
    values[:, 0] = energy
    return Window(t=np.array(t, dtype=float), values=values)


def test_rows_carry_the_end_of_their_interval():
    found = derivatives(line([0, 1, 3, 4], [0.1, 0.2, 0.6, 0.5]))
    assert found.first_t.tolist() == [1, 3, 4]
    assert found.first[:, 0].tolist() == pytest.approx([0.1, 0.2, -0.1])
    assert found.second_t.tolist() == [3, 4]
    assert found.second[:, 0].tolist() == pytest.approx([0.05, -0.3])
    assert found.first[:, 1:].tolist() == [[0, 0, 0]] * 3
    # a plain mean: not (last - first) / duration, which would be 0.1
    assert found.mean_first[0] == pytest.approx(0.2 / 3)
    assert found.mean_second[0] == pytest.approx(-0.125)


def test_equal_times_give_no_row_and_the_later_state_goes_on():
    found = derivatives(line([0, 1, 1, 2], [0.1, 0.2, 0.6, 0.7]))
    assert found.first_t.tolist() == [1, 2]
    assert found.first[:, 0].tolist() == pytest.approx([0.1, 0.1])
    assert found.second[:, 0].tolist() == pytest.approx([0])


def test_times_are_not_sorted_and_the_sign_flips():
    assert derivatives(line([1, 0], [0.1, 0.3])).first[0, 0] == pytest.approx(-0.2)


@pytest.mark.parametrize(("n", "first", "second"), [(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 2, 1)])
def test_short_windows_are_not_padded(n, first, second):
    found = derivatives(line(np.arange(n), np.linspace(0, 1, n)))
    assert found.first.shape == (first, 4)
    assert found.second.shape == (second, 4)
    assert found.mean_second.tolist() == [0, 0, 0, 0]


@given(batches())
def test_the_same_as_by_hand(batch):
    for t, values in zip(*batch, strict=True):
        found = derivatives(Window(t=t, values=values))
        first_t, first = derive_by_hand(t.tolist(), values.tolist())
        second_t, second = derive_by_hand(first_t, first)
        assert found.first_t.tolist() == first_t
        assert found.first.tolist() == first
        assert found.second_t.tolist() == second_t
        assert found.second.tolist() == second
        assert found.mean_first.tolist() == mean_by_hand(first)
        assert found.mean_second.tolist() == mean_by_hand(second)


@given(batches())
def test_means_of_many_give_the_same_bits_with_equal_times_too(batch):
    t, values = batch
    found = means_many(t, values)
    for i in range(len(t)):
        alone = derivatives(Window(t=t[i], values=values[i]))
        assert np.array_equal(found.first[i], alone.mean_first)
        assert np.array_equal(found.second[i], alone.mean_second)
        assert found.values[i].tolist() == mean_by_hand(values[i].tolist())
    assert found.table().shape == (len(t), 12)


def test_means_do_not_depend_on_the_number_of_windows():
    rng = np.random.default_rng(1)
    t = np.cumsum(rng.uniform(0.1, 1, (2500, 300)), axis=1)
    values = rng.random((2500, 300, 4))
    every = means_many(t, values).table()
    for count in (1, 2, 1024, 1025):
        assert np.array_equal(means_many(t[:count], values[:count]).table(), every[:count])


def test_nothing_gives_nothing():
    assert means_many(np.zeros((0, 5)), np.zeros((0, 5, 4))).table().shape == (0, 12)
