"""Reading the published table: labels, gaps, words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracetune.eisv.mix import fill_up
from tracetune.eisv.options import MixOptions, WindowOptions
from tracetune.eisv.published import PublishedTable
from tracetune.eisv.recording import empty_recording
from tracetune.eisv.windows import trajectories_of, window_of
from tracetune.errors import DataError


def state(t: float, **changed: float) -> dict[str, float]:
    return {"t": t, "E": 0.5, "I": 0.5, "S": 0.1, "V": 0.1, **changed}


def row(
    states: list[dict[str, float]],
    shape: str = "settled_presence",
    tokens: list[list[str]] | None = None,
    provenance: str = "lumen_real",
) -> dict[str, Any]:
    return {
        "shape": shape,
        "eisv_states": json.dumps(states),
        "derivatives": "[]",
        "t_start": states[0]["t"],
        "t_end": states[-1]["t"],
        "provenance": provenance,
        "tokens": json.dumps(tokens or []),
        "n_expressions": len(tokens or []),
    }


def flat(start: float = 0.0) -> list[dict[str, float]]:
    return [state(start + t) for t in range(4)]


def falling(start: float = 0.0) -> list[dict[str, float]]:
    return [state(start + t, E=0.9 - 0.1 * t) for t in range(4)]


def drifting(start: float = 0.0) -> list[dict[str, float]]:
    return [state(start + t, ethical_drift=0.2 * t) for t in range(4)]


def table(path: Path, *rows: dict[str, Any]) -> PublishedTable:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return PublishedTable(path)


def read(found: PublishedTable, **options: Any):
    return found.read(WindowOptions(**options), tenant="demo")


def test_labels_are_derived_anew_unless_that_is_impossible(tmp_path: Path) -> None:
    found = table(
        tmp_path / "a.parquet",
        row(flat(0)),
        row(falling(10), "convergence"),
        row(falling(20), "basin_transition_down"),
        row(flat(30), "drift_dissonance"),
        row(drifting(40), "settled_presence"),
        row([state(t, E=0.5 + 0.2 * t) for t in range(3)], "rising_entropy", None, "synthetic"),
    )
    rows, report = read(found)
    assert [one.shape for one in rows] == [
        "settled_presence",
        "basin_transition_down",
        "basin_transition_down",
        "drift_dissonance",
        "drift_dissonance",
        "basin_transition_up",
    ]
    assert report["labels"] == {
        "kept": 1,
        "disagree": 3,
        "differences": {
            "convergence -> basin_transition_down": 1,
            "rising_entropy -> basin_transition_up": 1,
            "settled_presence -> drift_dissonance": 1,
        },
    }
    assert [one.origin for one in rows] == ["lumen_real"] * 5 + ["synthetic"]
    assert window_of(rows[4]).drift is not None
    assert rows[0].provenance.ids["table_row"] == "0"
    assert "series" not in rows[5].provenance.ids


def test_measured_windows_with_a_gap_are_dropped(tmp_path: Path) -> None:
    found = table(
        tmp_path / "a.parquet",
        row(flat()),
        row([state(10), state(11), state(15), state(16)]),
        row([state(0), state(100)], "settled_presence", None, "synthetic"),
    )
    rows, report = read(found)
    assert [one.t_start for one in rows] == [0, 0]
    assert report["rows"] == {"read": 3, "dropped": {"gap": 1}}
    assert (report["max_gap_s"], report["median_interval_s"]) == (3.0, 1.0)
    assert len(read(found, max_gap_s=4.0)[0]) == 3


def test_the_report_has_what_that_of_a_recording_has(tmp_path: Path) -> None:
    _, wanted = trajectories_of(empty_recording(), WindowOptions(), tenant="demo")
    found = table(
        tmp_path / "a.parquet",
        row(flat(0), tokens=[["~ripple~"], ["~glee~"]]),
        row(falling(2)),  # shares two states with the one before
        row([state(10), state(11), state(15), state(16)]),  # holds a gap, and is not kept
        row([state(t, E=0.5 + 0.2 * t) for t in range(3)], "rising_entropy", None, "synthetic"),
    )
    _, report = read(found)
    assert set(wanted) == set(report) - {"rows", "labels"}
    for part in ("states", "windows", "expressions"):
        assert set(wanted[part]) == set(report[part]), part
    assert report["states"] == {"read": 12, "dropped": {}, "duplicates": 2, "unused": 4}
    assert report["gaps"] == 2  # from 5 to 10, and from 11 to 15
    assert report["windows"] == {
        "made": 3,
        "size": 4,
        "stride": None,
        "shapes": {"basin_transition_down": 1, "basin_transition_up": 1, "settled_presence": 1},
        "impossible": [],
    }
    assert report["expressions"] == {
        "read": 2,
        "dropped": {"unknown words": 1},
        "in_a_window": 1,
        "in_no_window": 0,
        "windows_with": 1,
    }


def test_words_have_no_time_and_unknown_ones_are_counted(tmp_path: Path) -> None:
    said = [["warm", "why"], ["~ripple~"], ["hello"], []]
    (one,), report = read(table(tmp_path / "a.parquet", row(flat(), tokens=said)))
    assert [(e.pattern, e.tokens, e.lumen, e.time) for e in one.expressions] == [
        ("QUESTION", [], ["warm", "why"], None),
        ("SINGLE", ["~ripple~"], ["busy"], None),
    ]
    assert report["expressions"] == {
        "read": 4,
        "dropped": {"unknown words": 1, "no words": 1},
        "in_a_window": 2,
        "in_no_window": 0,
        "windows_with": 1,
    }


def test_generated_rows_of_the_table_count_towards_the_minimum(tmp_path: Path) -> None:
    found = table(
        tmp_path / "a.parquet", row(falling(), "basin_transition_down", None, "synthetic")
    )
    _, report = fill_up(read(found)[0], MixOptions(min_per_shape=2), tenant="demo", seed=1)
    assert report["shapes"]["basin_transition_down"] == {
        "measured": 0,
        "given": 1,
        "generated": 1,
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": "hollow"}, "row 1, column shape: there is no shape 'hollow'"),
        ({"provenance": "dreamt"}, "row 1, column provenance: an origin that nobody knows"),
        ({"eisv_states": "[{"}, "row 1, column eisv_states: no JSON"),
        ({"eisv_states": '{"t": 1}'}, "row 1, column eisv_states: no JSON list"),
        ({"eisv_states": "[1, 2]"}, "row 1, column eisv_states: a state is not an object"),
        ({"eisv_states": None}, "row 1, column eisv_states: no JSON list"),
        ({"eisv_states": json.dumps(flat()[:1])}, "eisv_states: 1 state"),
        ({"eisv_states": json.dumps([state(0), {"t": 1}])}, "eisv_states: state 1: E is missing"),
        (
            {"eisv_states": json.dumps([state(0), state(1, E=float("nan"))])},
            "eisv_states: state 1: E is not a finite number",
        ),
        (
            {"eisv_states": json.dumps([state(0), state(1, V=1.5)])},
            "eisv_states: state 1: V is outside",
        ),
        ({"eisv_states": json.dumps(flat()[::-1])}, "eisv_states: state 1: t is before"),
        ({"t_end": 7.0}, "row 1, column t_end: 7.0, but the states say 3.0"),
        ({"tokens": '["warm"]'}, "row 1, column tokens: an expression is not a list of words"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, changed, message: str) -> None:
    found = table(tmp_path / "a.parquet", row(flat()), {**row(flat()), **changed})
    with pytest.raises(DataError) as caught:
        read(found)
    assert message in str(caught.value)
    assert "What to do" in str(caught.value)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("hello")
    with pytest.raises(DataError, match="not a Parquet table or is broken"):
        read(PublishedTable(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match=r"no such table[\s\S]*there: a\.parquet"):
        read(PublishedTable(tmp_path / "b.parquet"))
    pq.write_table(pa.table({"shape": ["convergence"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="no column eisv_states, t_start"):
        read(PublishedTable(tmp_path / "c.parquet"))
    whole = table(tmp_path / "d.parquet", *(row(flat(10.0 * n)) for n in range(50)))
    data = bytearray(whole.path.read_bytes())
    whole.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="not a Parquet table or is broken"):
        read(whole)


def test_an_empty_table_gives_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row(flat())])[:0], tmp_path / "a.parquet")
    rows, report = read(PublishedTable(tmp_path / "a.parquet"))
    assert rows == []
    assert report["median_interval_s"] is None
