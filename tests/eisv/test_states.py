"""States, windows and the messages about bad ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracetune.eisv.states import (
    Window,
    check_window,
    check_windows,
    from_anima,
    states_of,
    to_anima,
    window_from_states,
)
from tracetune.errors import DataError

UNIT = st.floats(0, 1)


def states(*times, **changes):
    return [{"t": t, "E": 0.6, "I": 0.5, "S": 0.2, "V": 0.1, **changes} for t in times]


def test_states_become_arrays_and_come_back():
    given_states = states(0, 1.5, 4)
    given_states[1]["ethical_drift"] = 0.4
    window = window_from_states(given_states)
    assert window.t.tolist() == [0, 1.5, 4]
    assert window.values.shape == (3, 4)
    assert window.drift.tolist() == [0, 0.4, 0]  # missing counts as 0
    assert window.duration == 4
    assert states_of(window)[1] == given_states[1]
    without = window_from_states(states(0, 1))
    assert without.drift is None
    assert states_of(without) == states(0.0, 1.0)
    assert len(window_from_states([])) == 0


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=UNIT),
    st.booleans(),
)
def test_round_trip_of_states(values, with_drift):
    t = np.arange(len(values)) * 0.5
    window = Window(t=t, values=values, drift=values[:, 0] if with_drift and len(t) else None)
    again = window_from_states(states_of(window))
    assert np.array_equal(again.values, window.values)
    assert np.array_equal(again.t, window.t)
    assert (again.drift is None) == (window.drift is None)
    assert again.drift is None or np.array_equal(again.drift, window.drift)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"S": None}, "S is not a number: None"),
        ({"E": "0.5"}, "E is not a number: '0.5'"),
        ({"V": True}, "V is not a number: True"),
        ({"ethical_drift": "x"}, "ethical_drift is not a number"),
    ],
)
def test_what_is_no_number_is_named(change, message):
    rows = [*states(0), *states(1, **change)]
    with pytest.raises(DataError, match=message) as error:
        window_from_states(rows, where="trajectory t-7")
    assert error.value.where == "trajectory t-7: state 1"


@pytest.mark.parametrize("field", ["t", "E", "I", "S", "V"])
def test_a_missing_key_is_named(field):
    rows = states(0, 1)
    del rows[1][field]
    with pytest.raises(DataError, match=f"state 1: {field} is missing"):
        window_from_states(rows)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("E", float("nan"), "E is not a finite number: nan"),
        ("I", float("inf"), "I is not a finite number: inf"),
        ("S", 1.2, r"S is outside \[0, 1\]: 1.2"),
        ("V", -0.01, r"V is outside \[0, 1\]: -0.01"),
        ("t", float("nan"), "t is not a finite number"),
        ("t", -1, "t is before the time of the state in front of it: -1.0"),
        ("ethical_drift", float("inf"), "ethical_drift is not a finite number"),
    ],
)
def test_numbers_that_cannot_be_used_are_named(field, value, message):
    rows = [*states(0, 1), *states(2, **{field: value}), *states(3)]
    with pytest.raises(DataError, match=message) as error:
        check_window(window_from_states(rows), where="row 9")
    assert error.value.where == "row 9: state 2"
    assert error.value.remedy


def test_one_state_is_too_few_and_equal_times_are_allowed():
    with pytest.raises(DataError, match=r"1 state\(s\), and at least 2"):
        check_window(window_from_states(states(0)))
    assert check_window(window_from_states(states(0)), min_states=1)
    window = window_from_states(states(0, 1, 1, 2))
    assert check_window(window) is window


def test_the_bad_window_among_many_is_named():
    t = np.tile(np.arange(3.0), (5, 1))
    values = np.full((5, 3, 4), 0.5)
    check_windows(t, values)
    values[3, 1, 2] = 7
    with pytest.raises(DataError) as error:
        check_windows(t, values, first=100)
    assert error.value.where == "windows: window 103: state 1"


@pytest.mark.parametrize(
    ("t", "values", "drift"),
    [
        (np.zeros(3), np.zeros((3, 3)), None),
        (np.zeros(3), np.zeros((2, 4)), None),
        (np.zeros((3, 1)), np.zeros((3, 4)), None),
        (np.zeros(3), np.zeros((3, 4)), np.zeros(2)),
    ],
)
def test_arrays_that_do_not_fit(t, values, drift):
    with pytest.raises(DataError, match="do not fit each other"):
        Window(t=t, values=values, drift=drift)


def test_conversion_of_lumen_scalars():
    assert from_anima(0.7, 0.6, 0.8, 0.5).tolist() == pytest.approx([0.7, 0.6, 0.2, 0.15])
    assert from_anima(None, None, None, None).tolist() == pytest.approx([0, 0, 1, 0.3])
    many = from_anima([0.1, 2.0], [0.2, -1.0], [0.3, 1.5], [0.4, 1.5])
    assert many.tolist() == [pytest.approx([0.1, 0.2, 0.7, 0.18]), [1, 0, 0, 0]]
    assert np.isnan(from_anima([np.nan], [0.5], [0.5], [0.5])[0, 0])
    assert to_anima([0.7, 0.6, 0.2, 0.9]).tolist() == pytest.approx([0.7, 0.6, 0.8, 0])


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(4)), elements=UNIT))
def test_lumen_scalars_come_back(scalars):
    values = from_anima(*scalars.T)
    assert values.shape == scalars.shape
    assert ((values >= 0) & (values <= [1, 1, 1, 0.3])).all()
    assert np.allclose(to_anima(values), scalars, atol=1e-12)
