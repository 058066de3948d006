"""The nine rules: each by example, their order, their limits, and many windows at once."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from benchmarks.eisv_windows import classify_by_hand, derive_by_hand, loop, windows
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.project import ROOT
from tracetune.eisv.derivatives import means_many
from tracetune.eisv.expression import label_many
from tracetune.eisv.shapes import (
    classify,
    classify_codes,
    classify_many,
    impossible_shapes,
    survey,
)
from tracetune.eisv.states import Window
from tracetune.eisv.vocabulary import SHAPES
from tracetune.errors import DataError


def window(n=None, dt=1.0, drift=None, **columns):
    """A flat window except for the given dimensions."""
    n = n or max([len(column) for column in columns.values()] or [5])
    values = np.tile([0.6, 0.5, 0.2, 0.1], (n, 1))
    for name, column in columns.items():
        values[:, "EISV".index(name)] = column
    return Window(t=np.arange(n) * dt, values=values, drift=drift)


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (window(E=[0.8, 0.7, 0.6]), "basin_transition_down"),
        (window(E=[0.5, 0.6, 0.75]), "basin_transition_up"),
        (window(S=[0.2, 0.5, 0.48]), "entropy_spike_recovery"),  # no recovery is needed
        (window(S=[0.2, 0.5, 0.5]), "entropy_spike_recovery"),  # a plateau: its first maximum
        (window(drift=np.array([0, 0, 0.31, 0, 0])), "drift_dissonance"),
        (window(V=[0.0, 0.06, 0.12]), "void_rising"),
        (window(S=[0.1, 0.2, 0.5]), "rising_entropy"),
        (window(E=[0.6, 0.54, 0.48]), "falling_energy"),
        (window(E=[0.6, 0.61, 0.6]), "convergence"),
        (window(), "settled_presence"),
        # what the rules leave to the last one
        (window(E=[0.7, 0.4, 0.7]), "settled_presence"),  # a dip that comes back
        (window(I=[0.1, 0.9, 0.1]), "settled_presence"),  # integrity has no shape of its own
        (window(n=2, E=[0.6, 0.61]), "settled_presence"),  # no second derivative
        (window(S=[0.5, 0.3, 0.2], dt=0.1), "settled_presence"),  # the maximum comes first
        (window(S=[0.2, 0.3, 0.5], dt=10), "convergence"),  # the same rise, sampled slowly
    ],
)
def test_each_rule(made, shape):
    assert classify(made) == shape


def test_an_earlier_rule_wins():
    columns = {"E": [0.9, 0.8, 0.6], "S": [0.1, 0.5, 0.4], "V": [0.0, 0.1, 0.3]}
    drift = np.array([0.0, 0.9, 0.0])
    assert classify(window(**columns, drift=drift)) == "basin_transition_down"
    columns.pop("E")
    assert classify(window(**columns, drift=drift)) == "entropy_spike_recovery"
    columns["S"] = [0.1, 0.3, 0.5]
    assert classify(window(**columns, drift=drift)) == "drift_dissonance"
    assert classify(window(**columns)) == "void_rising"
    columns.pop("V")
    assert classify(window(**columns)) == "rising_entropy"


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (window(E=[0.5, 0.25, 0.25]), "basin_transition_down"),
        (window(E=[0.25, 0.375, 0.4375]), "settled_presence"),  # a range of 0.1875
        (window(drift=np.full(5, 0.3)), "settled_presence"),  # the drift must be above 0.3
        (window(E=[0.5, 0.5 + 5e-10, 0.5]), "settled_presence"),  # slower than 1e-9
        (window(E=[0.5, 0.5 + 2e-9, 0.5]), "convergence"),
        (window(S=[0.25, 0.3125, 0.3125, 0.25]), "settled_presence"),  # 0.0625 is too fast
    ],
)
def test_limits(made, shape):
    assert classify(made) == shape


def test_a_time_that_stands_still_gives_no_derivative():
    values = np.tile([0.6, 0.5, 0.2, 0.1], (4, 1))
    values[2, 3] = values[3, 3] = 0.25  # a jump of V between equal times
    t = np.array([0.0, 1, 1, 2])
    assert classify(Window(t=t, values=values)) == "settled_presence"
    assert classify(Window(t=np.arange(4.0), values=values)) == "settled_presence"
    assert classify(Window(t=np.array([0.0, 1, 1.5, 2]), values=values)) == "void_rising"


GRID = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.55, 0.6, 1.0])
STEPS = st.sampled_from([0.0, 0.5, 1.0, 1.0, 5.0])


@st.composite
def batches(draw):
    """Windows on a coarse grid, so that thresholds are hit exactly."""
    count, n = draw(st.integers(1, 6)), draw(st.integers(2, 7))
    flat = draw(hnp.arrays(np.float64, (count, 1, 4), elements=GRID))
    values = np.repeat(flat, n, axis=1)
    for column in draw(st.sets(st.integers(0, 3), max_size=2)):
        values[:, :, column] = draw(hnp.arrays(np.float64, (count, n), elements=GRID))
    t = np.cumsum(draw(hnp.arrays(np.float64, (count, n), elements=STEPS)), axis=1)
    drift = draw(st.none() | hnp.arrays(np.float64, (count, n), elements=GRID))
    return t, values, drift


@given(batches())
def test_one_and_many_and_by_hand_agree(batch):
    t, values, drift = batch
    found = classify_many(t, values, drift)
    for i in range(len(t)):
        dissonance = None if drift is None else drift[i]
        assert classify(Window(t=t[i], values=values[i], drift=dissonance)) == found[i]
        first_t, first = derive_by_hand(t[i].tolist(), values[i].tolist())
        _, second = derive_by_hand(first_t, first)
        drifts = [0.0] * len(t[i]) if drift is None else dissonance.tolist()
        assert classify_by_hand(values[i].tolist(), drifts, first, second) == found[i]


@given(batches(), st.floats(-1e6, 1e6))
def test_the_origin_of_time_and_the_order_of_windows_do_not_matter(batch, origin):
    t, values, drift = batch
    moved = np.round(t + np.round(origin), 1)  # exact: steps are multiples of a half
    found = classify_many(t, values, drift)
    assert (classify_many(moved, values, drift) == found).all()
    backwards = None if drift is None else drift[::-1]
    assert (classify_many(t[::-1], values[::-1], backwards)[::-1] == found).all()


def test_thousands_of_windows_get_the_labels_of_a_plain_loop():
    (t, values, drift) = next(windows(3000))
    surveyed = survey(t, values, drift)
    labels = label_many(surveyed.codes, 42)
    draws = np.random.default_rng(42).random((3000, 4)).tolist()
    by_hand = loop(t.tolist(), values.tolist(), drift.tolist(), draws)
    shapes = surveyed.shapes.tolist()
    ours = zip(shapes, labels.pattern_names(), labels.token_lists(), strict=True)
    assert list(ours) == by_hand
    assert set(shapes) == set(SHAPES)
    assert (classify_codes(t, values, drift) == surveyed.codes).all()
    assert np.array_equal(means_many(t, values).table(), surveyed.means.table())


def test_the_benchmark_compares_labels():
    script = ROOT / "benchmarks" / "eisv_windows.py"
    done = subprocess.run(
        [sys.executable, script, "--windows", "3000", "--loop", "500"],
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert found["same_labels"] is True
    assert sum(found["shapes"].values()) == found["windows"] == 3000
    # The 30 are measured by hand, on a quiet machine; the exit status follows the printed figure. A
    # noisy one holds less, and still far more than a plain loop.
    assert found["times_faster"] > 5
    assert done.returncode == (0 if found["times_faster"] >= 30 else 1)


def test_no_windows_have_no_shapes():
    assert classify_many(np.zeros((0, 20)), np.zeros((0, 20, 4))).tolist() == []


def test_bad_windows_are_named():
    t = np.tile(np.arange(3.0), (2500, 1))
    values = np.full((2500, 3, 4), 0.5)
    values[2100, 1, 2] = np.nan
    with pytest.raises(DataError, match="S is not a finite number") as error:
        classify_many(t, values)
    assert error.value.where == "windows: window 2100: state 1"
    with pytest.raises(DataError, match="at least two states"):
        classify_many(t[:, :1], values[:, :1])
    with pytest.raises(DataError, match="at least 2"):
        classify(window(n=1))
    with pytest.raises(DataError, match="is before the time"):
        classify(Window(t=np.array([1.0, 0]), values=np.full((2, 4), 0.5)))
    with pytest.raises(DataError, match="do not fit"):
        classify_many(t, values[:, :2])


@pytest.mark.parametrize(
    ("n", "interval", "impossible"),
    [
        (20, 0.2, []),
        (20, 0.3, ["falling_energy"]),
        (20, 0.5, ["void_rising", "falling_energy"]),
        (20, 2.0, ["void_rising", "rising_entropy", "falling_energy"]),
        (4, 2.0, ["void_rising", "falling_energy"]),  # exactly 6 s
        (2, 1.0, ["entropy_spike_recovery", "convergence"]),
    ],
)
def test_shapes_that_cannot_occur(n, interval, impossible):
    assert impossible_shapes(n, interval) == impossible


@given(st.integers(3, 30), st.floats(0.05, 30), st.data())
def test_no_window_has_a_shape_that_cannot_occur(n, interval, data):
    elements = st.floats(0, 1)
    values = data.draw(hnp.arrays(np.float64, (n, 4), elements=elements))
    values[:, 3] *= 0.3
    # the steepest that there is, too: only the sum of the steps can decide
    for column, ends in ((0, (0.5, 0.3001)), (2, (0.0, 1.0)), (3, (0.0, 0.3))):
        if data.draw(st.booleans()):
            values[:, column] = np.linspace(*ends, n)
    found = classify(Window(t=np.arange(n) * interval, values=values))
    assert found not in impossible_shapes(n, interval)


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_an_interval_that_is_none(interval):
    with pytest.raises(DataError, match="positive interval"):
        impossible_shapes(20, interval)
