"""Windows of a recording: order, duplicates, gaps, expressions, shapes."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.project import ROOT
from tracetune.eisv.anima_db import AnimaDatabase
from tracetune.eisv.options import WindowOptions
from tracetune.eisv.recording import Recording
from tracetune.eisv.shapes import classify
from tracetune.eisv.vocabulary import PATTERNS, SHAPES
from tracetune.eisv.windows import Cut, cut, trajectories_of, window_of
from tracetune.records import (
    EisvExpression,
    EisvPattern,
    EisvShape,
    EisvState,
    EisvTrajectory,
    make_eisv_trajectory,
)

FOUR_BY_TWO = WindowOptions(size=4, stride=2)
PUBLISHED_MIX = {
    "settled_presence": 47.19,
    "convergence": 41.45,
    "entropy_spike_recovery": 4.91,
    "basin_transition_up": 1.71,
    "rising_entropy": 1.49,
    "basin_transition_down": 1.47,
    "falling_energy": 1.45,
    "void_rising": 0.34,
}


def recording(times, ids=None, said=()) -> Recording:
    t = np.array(times, dtype=np.float64)
    numbers = np.arange(1, len(t) + 1) if ids is None else np.array(ids)
    values = np.full((len(t), 4), 0.25)
    values[:, 1] = numbers / 1_000  # so that a state can be told from another
    return Recording(ids=numbers, t=t, values=values, expressions=list(said), states_read=len(t))


def windows_of(found: Cut) -> tuple[list[list[float]], list[list[int]]]:
    """Times of each window, and ids of its first and last state."""
    return found.t[found.places].tolist(), found.ids[found.places[:, [0, -1]]].tolist()


def word(time: float | None) -> EisvExpression:
    return EisvExpression(
        tokens=[], pattern="SINGLE", pattern_source="inferred", lumen=["warm"], time=time
    )


def test_the_contract_knows_the_names_of_the_package() -> None:
    assert get_args(EisvShape) == SHAPES
    assert get_args(EisvPattern) == PATTERNS


def test_windows_by_size_and_stride() -> None:
    found = cut(recording(range(9)), FOUR_BY_TWO)
    assert windows_of(found) == (
        [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]],
        [[1, 4], [3, 6], [5, 8]],
    )
    assert (found.unused, found.gaps, found.duplicates) == (1, 0, 0)
    assert (found.max_gap_s, found.median_interval_s) == (3.0, 1.0)


def test_states_are_sorted_and_of_equal_times_the_last_written_stays() -> None:
    found = cut(recording([3, 1, 2, 1, 0]), FOUR_BY_TWO)
    assert windows_of(found) == ([[0, 1, 2, 3]], [[5, 1]])
    assert found.values[:, 1].tolist() == [0.005, 0.004, 0.003, 0.001]
    assert found.duplicates == 1


def test_no_window_holds_a_gap_and_the_count_starts_anew_after_it() -> None:
    times = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 17, 18]
    found = cut(recording(times), FOUR_BY_TWO)
    assert [t[0] for t in windows_of(found)[0]] == [
        0,
        10,
        12,
    ]  # a step of three intervals is no gap
    assert (found.gaps, found.unused) == (1, 1 + 1)
    closer = cut(recording(times), WindowOptions(size=4, stride=2, max_gap_s=2.9))
    assert [t[0] for t in windows_of(closer)[0]] == [0, 10]
    assert (closer.gaps, closer.max_gap_s) == (2, 2.9)


@pytest.mark.parametrize("times", [[], [5.0], [5.0, 5.0], [0.0, 1.0, 2.0]])
def test_too_few_states_give_no_window(times) -> None:
    rows, report = trajectories_of(recording(times), FOUR_BY_TWO, tenant="demo")
    assert rows == []
    assert report["windows"]["made"] == 0
    assert report["states"]["unused"] == len(set(times))


def test_an_expression_belongs_to_every_window_that_it_falls_into() -> None:
    said = [word(3.0), word(2.0), word(9.0), word(-0.1), word(0.0), word(5.0)]
    rows, report = trajectories_of(recording(range(8), said=said), FOUR_BY_TWO, tenant="demo")
    assert [[one.time for one in row.expressions] for row in rows] == [
        [0.0, 2.0, 3.0],
        [2.0, 3.0, 5.0],
        [5.0],
    ]
    assert report["expressions"] == {
        "read": 6,
        "dropped": {},
        "in_a_window": 4,
        "in_no_window": 2,
        "windows_with": 3,
    }


def test_a_row_says_where_it_is_from_and_gives_its_states_back() -> None:
    made = recording(np.arange(20) + 1.7e9)
    (row,), _ = trajectories_of(made, WindowOptions(), tenant="t")
    assert row.provenance.ids == {
        "series": "lumen",
        "t_start": "1700000000.0",
        "t_end": "1700000019.0",
        "first_state": "1",
        "last_state": "20",
    }
    assert row.provenance.created_at is not None
    assert row.provenance.created_at.timestamp() == row.t_end
    assert row.tags == {"shape": row.shape, "origin": "lumen_real"}
    back = window_of(row)
    assert back.t.tolist() == made.t.tolist()
    assert back.values.tolist() == made.values.tolist()
    assert back.drift is None


def test_the_sample_has_the_mix_of_the_published_table() -> None:
    base = AnimaDatabase(ROOT / "data/01_raw/demo/eisv/demo.db").read()
    rows, report = trajectories_of(base, WindowOptions(), tenant="demo")
    assert report["states"] == {"read": 4764, "dropped": {}, "duplicates": 4, "unused": 0}
    assert report["gaps"] == 47
    assert 1.9 < report["median_interval_s"] < 2.1
    assert report["windows"]["impossible"] == ["void_rising", "rising_entropy", "falling_energy"]
    assert report["expressions"]["read"] == 292
    assert report["expressions"]["in_no_window"] == 0
    shares = {name: 100 * n / len(rows) for name, n in report["windows"]["shapes"].items()}
    assert shares == pytest.approx(PUBLISHED_MIX, abs=1.5)
    assert [row.shape for row in rows[::7]] == [classify(window_of(row)) for row in rows[::7]]
    kinds = {bool(one.tokens) for row in rows for one in row.expressions}
    assert kinds == {True, False}


@settings(max_examples=60)
@given(
    steps=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0, 50.0]), max_size=60),
    size=st.integers(2, 8),
    stride=st.integers(1, 9),
    order=st.randoms(use_true_random=False),
)
def test_what_holds_of_all_windows(steps, size: int, stride: int, order) -> None:
    times = np.cumsum(steps).tolist()
    order.shuffle(times)
    made, options = recording(times), WindowOptions(size=size, stride=stride)
    found = cut(made, options)
    steps_in = np.diff(found.t[found.places], axis=1)
    assert (steps_in > 0).all()
    if len(found.places):
        assert found.max_gap_s is not None
        assert (steps_in <= found.max_gap_s).all()
    assert len(np.unique(found.places)) + found.unused + found.duplicates == len(times)
    by_id = dict(zip(made.ids.tolist(), made.t.tolist(), strict=True))
    for t, (first, last) in zip(*windows_of(found), strict=True):
        assert (by_id[first], by_id[last]) == (t[0], t[-1])


def states(*times: float, **changed: float) -> list[EisvState]:
    fine = {"E": 0.5, "I": 0.5, "S": 0.1, "V": 0.1, **changed}
    return [EisvState(t=t, **fine) for t in times]


def row_of(found: list[EisvState], said: list[EisvExpression] | None = None) -> EisvTrajectory:
    return make_eisv_trajectory(
        states=found,
        shape="convergence",
        origin="lumen_real",
        expressions=said,
        source="eisv",
        tenant="demo",
        ids={},
        group="g",
        created_at=None,
    )


def test_the_contract_refuses_what_is_no_window() -> None:
    for changed in ({"E": 1.1}, {"I": -0.1}, {"S": float("nan")}, {"V": float("inf")}):
        with pytest.raises(ValidationError):
            states(0.0, **changed)
    with pytest.raises(ValidationError, match="at least 2 items"):
        row_of(states(0.0))
    with pytest.raises(ValidationError, match="state 2 is earlier than the state before it"):
        row_of(states(0.0, 2.0, 1.0))
    with pytest.raises(ValidationError, match=r"the expression at 3\.0 lies outside"):
        row_of(states(0.0, 2.0), [word(3.0)])
    with pytest.raises(ValidationError, match="has EISV tokens or Lumen primitives"):
        EisvExpression(tokens=[], pattern="SINGLE", pattern_source="drawn", lumen=[])
    row = row_of(states(0.0, 0.0, 1.0), [word(0.5), word(None)])
    assert EisvTrajectory.model_validate_json(row.model_dump_json()) == row
    for changed in ({"shape": "void_rising"}, {"t_end": 2.0}, {"shape": "hollow"}):
        with pytest.raises(ValidationError):
            EisvTrajectory.model_validate({**row.model_dump(), **changed})
