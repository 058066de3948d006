"""Trajectories as JSONL and Parquet: the same rows, clear errors, nothing half written."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from tests.telemetry.session_builders import dialogue, rows_of
from tracetune.datasets.jsonl_dataset import JSONLDataset
from tracetune.datasets.trajectory_dataset import TrajectoryDataset, trajectory_schema
from tracetune.records import Trajectory, Turn, make_trajectory

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(
    lambda text: text.strip()
)
ODD = st.one_of(
    TEXT,
    st.sampled_from(
        ["🙂🙂", "नमस्ते दुनिया", "\u202eright to left", "a\u0000b", "nan", "null", "é\u0301\ufeff"]
    ),
)
FACTS = st.dictionaries(TEXT, TEXT, max_size=2)
TURNS = st.lists(
    st.tuples(ODD, ODD, st.datetimes(timezones=st.just(UTC)), FACTS), min_size=1, max_size=4
)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    turns = [
        Turn(turn_id=n, query=q, response=r, timestamp=t, span_id=f"{n:016x}", metadata=m)
        for n, (q, r, t, m) in enumerate(draw(TURNS), start=1)
    ]
    session = draw(ODD)
    return make_trajectory(
        session_id=session,
        turns=turns,
        session_outcome=draw(st.none() | ODD),
        session_score=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        source="phoenix",
        tenant="demo",
        group=f"session:{session}",
        tags=draw(FACTS),
    )


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(trajectories(), max_size=3))
def test_jsonl_and_parquet_load_back_identically(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("trajectories")
    lines = JSONLDataset(filepath=str(folder / "t.jsonl"), record="tracetune.records.Trajectory")
    columns = TrajectoryDataset(filepath=str(folder / "t.parquet"))
    lines.save(rows)
    columns.save(rows)
    assert columns.load() == lines.load() == rows
    before = (folder / "t.parquet").read_bytes()
    columns.save(iter(columns.load()))
    assert (folder / "t.parquet").read_bytes() == before


def test_parquet_is_refused_with_the_place_when_it_is_not_what_it_should_be(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    data = TrajectoryDataset(filepath=str(path))
    data.save(rows_of(dialogue("s1")).trajectories)
    good = pq.read_table(path)

    naive = good.schema.field("turns").type.value_type
    fields = [
        pa.field("timestamp", pa.timestamp("us"), nullable=False) if f.name == "timestamp" else f
        for f in naive
    ]
    turns = good.schema.field("turns").with_type(pa.list_(pa.struct(fields)))
    pq.write_table(good.cast(good.schema.set(2, turns)), path)
    with pytest.raises(DatasetError) as caught:
        data.load()
    assert "column 'turns' holds times without a zone" in str(caught.value.__cause__)
    assert str(path) in str(caught.value.__cause__)

    pq.write_table(good.drop_columns("session_outcome"), path)
    with pytest.raises(DatasetError, match="'session_outcome' is missing"):
        data.load()

    spoiled = good.to_pylist()
    spoiled[0]["turns"][1]["response"] = "other"
    pq.write_table(pa.Table.from_pylist(spoiled, schema=trajectory_schema()), path)
    with pytest.raises(DatasetError, match="row 1"):
        data.load()

    path.write_bytes(b"not parquet")
    with pytest.raises(DatasetError, match="not a Parquet file"):
        data.load()


def test_jsonl_refuses_a_time_without_a_zone_with_line_and_field(tmp_path) -> None:
    path = tmp_path / "t.jsonl"
    data = JSONLDataset(filepath=str(path), record="tracetune.records.Trajectory")
    data.save(rows_of(dialogue("s1")).trajectories)
    path.write_text(path.read_text().replace("00:00:00.000000Z", "00:00:00.000000"))
    with pytest.raises(DatasetError) as caught:
        data.load()
    message = str(caught.value.__cause__)
    assert f"{path}, line 1" in message
    assert "turns.0.timestamp" in message
    assert "timezone" in message


def test_nothing_half_written_replaces_a_file(tmp_path) -> None:
    data = TrajectoryDataset(filepath=str(tmp_path / "t.parquet"))
    rows = rows_of(dialogue("s1")).trajectories
    data.save(rows)

    def failing() -> Iterable[Trajectory]:
        yield rows[0]
        raise RuntimeError("source went away")

    with pytest.raises(DatasetError, match="source went away"):
        data.save(failing())
    assert data.load() == rows
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
    with pytest.raises(DatasetError, match="field 'turns'"):
        data.save([rows[0].model_copy(update={"turns": []})])
    assert data.load() == rows


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"turn_id": 2}, "numbered from 1"), ({"response": "  "}, "not blank")],
)
def test_turns_are_numbered_and_say_something(change, reason) -> None:
    plain = rows_of(dialogue("s1")).trajectories[0].model_dump()
    plain["turns"][0] |= change
    with pytest.raises(ValueError, match=reason):
        Trajectory.model_validate(plain)
