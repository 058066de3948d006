"""The snapshot on disk: whole or not at all, verified, the same for the same content."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError
from tools.sample.plan import CONFUSIONS
from tools.sample.private import planted
from tools.sample.spans import ANCHOR
from tools.sample.whole import all_spans

from tracetune.datasets.snapshot_dataset import SnapshotTableDataset
from tracetune.errors import DataError
from tracetune.phoenix_rest import repair_surrogates
from tracetune.telemetry import snapshot

SAMPLE = Path(__file__).parents[2] / "data/01_raw/demo/telemetry"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE, tmp_path / "telemetry")


def span(number: int, **changes: Any) -> snapshot.Row:
    row = dict.fromkeys(snapshot.table_schema("spans").names) | {
        "span_id": f"{number:016x}",
        "trace_id": f"{number:032x}",
        "start_time": NOON + timedelta(seconds=number),
        "input_json": '"hello"',
        "attributes_json": "{}",
    }
    return row | changes


def annotation(number: int, **changes: Any) -> snapshot.Row:
    row = dict.fromkeys(snapshot.table_schema("annotations").names) | {
        "annotation_id": f"SpanAnnotation:{number:012d}",
        "span_id": f"{1:016x}",
        "name": "human_approval",
        "identifier": f"reviewer-{number}",
        "metadata_json": "{}",
        "created_at": NOON,
        "updated_at": NOON,
    }
    return row | changes


def document(number: int, **changes: Any) -> snapshot.Row:
    row = dict.fromkeys(snapshot.table_schema("document_annotations").names) | {
        "annotation_id": f"DocumentAnnotation:{number:012d}",
        "span_id": f"{1:016x}",
        "position": number,
        "name": "relevance",
        "identifier": "",
        "metadata_json": "{}",
        "created_at": NOON,
        "updated_at": NOON,
    }
    return row | changes


def save(
    folder: Path, spans: Any = None, annotations: Any = None, documents: Any = ()
) -> snapshot.SnapshotManifest:
    return snapshot.write(
        folder,
        spans=[[span(1), span(2)]] if spans is None else spans,
        annotations=[[annotation(1), annotation(2)]] if annotations is None else annotations,
        sessions=[],
        document_annotations=documents,
        fields=lambda: {
            "project": "p",
            "window": {"start": NOON, "end": NOON + timedelta(days=1)},
            "anchor": NOON + timedelta(days=1),
            "repaired_surrogates": 0,
            "server": {"version": "20.26.1", "host": "localhost"},
        },
    )


def test_sample_is_what_the_issue_asks_for() -> None:
    manifest = snapshot.read_manifest(SAMPLE)
    assert manifest.project == "demo"
    assert manifest.anchor == ANCHOR
    assert manifest.window.start == ANCHOR - timedelta(days=40)
    spans = pq.read_table(SAMPLE / "spans.parquet").to_pylist()
    units = [
        row
        for row in spans
        if (row["name"], row["span_kind"], row["parent_id"]) == ("routing_agent", "AGENT", None)
    ]
    outputs = {row["output_json"] for row in units}
    assert len(units) >= 900
    assert {json.dumps(json.dumps({"agent": agent})) for agent in CONFUSIONS} <= outputs
    assert len(CONFUSIONS) >= 8
    assert any(row["name"] == "routing_agent" and row["parent_id"] for row in spans)
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 1_000_000


def test_every_planted_string_is_in_the_sample() -> None:
    text = "".join(
        f"{row['input_json']} {row['attributes_json']}"
        for row in pq.read_table(SAMPLE / "spans.parquet").to_pylist()
    )
    missing = [value for values in planted().values() for value in values if value not in text]
    assert not missing


def test_the_sample_is_made_the_same_in_every_process() -> None:
    command = [sys.executable, "-m", "tools.sample", "digest"]
    made = {
        subprocess.run(
            command,
            cwd=SAMPLE.parents[3],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(made) == 1


def test_the_sample_on_disk_is_the_one_that_the_script_makes() -> None:
    made = {item.span_id for item in all_spans() if item.project == "demo"}
    assert {row["span_id"] for row in pq.read_table(SAMPLE / "spans.parquet").to_pylist()} == made


def test_missing_snapshot(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"snapshot\.json: there is no snapshot"):
        snapshot.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", r"snapshot\.json: not JSON"),
        ("[]", r"snapshot\.json: .*valid dictionary"),
        ('{"format": 1}', r"project: Field required"),
    ],
)
def test_broken_manifest(copy: Path, text: str, message: str) -> None:
    (copy / "snapshot.json").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        snapshot.read_manifest(copy)
    assert "What to do" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "format 3 is unknown; this version reads 1 and 2"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"anchor": "2026-10-01T00:00:00"}, "anchor: .*timezone"),
        ({"files": {}}, r"spans\.parquet: the file is not the one"),
        ({"counts": {"spans": 1}}, r"spans\.parquet: \d+ rows, but snapshot\.json counts 1"),
    ],
)
def test_wrong_manifest(copy: Path, changes: dict[str, Any], message: str) -> None:
    path = copy / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DataError, match=message):
        snapshot.read_manifest(copy)


@pytest.mark.parametrize("table", snapshot.TABLES)
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damaged_parquet(copy: Path, table: str, damage: str) -> None:
    path = copy / f"{table}.parquet"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(DataError, match=rf"{table}\.parquet: the file is") as error:
        snapshot.read_manifest(copy)
    assert "read the server again" in str(error.value)


@pytest.mark.parametrize("content", ["no parquet at all", None])
def test_files_that_are_no_such_table(copy: Path, content: str | None) -> None:
    """Even if snapshot.json was made to match."""
    path = copy / "spans.parquet"
    if content is None:
        pq.write_table(pa.table({"other": [1]}), path)
    else:
        path.write_text(content)
    manifest = json.loads((copy / "snapshot.json").read_text())
    manifest["files"]["spans.parquet"] = snapshot.sha256_file(path)
    (copy / "snapshot.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"not a Parquet file|its columns are not"):
        snapshot.read_manifest(copy)


def test_round_trip(tmp_path: Path) -> None:
    manifest = save(tmp_path / "t")
    assert snapshot.read_manifest(tmp_path / "t") == manifest
    assert manifest.counts == {
        "spans": 2,
        "annotations": 2,
        "sessions": 0,
        "document_annotations": 0,
    }
    assert pq.read_table(tmp_path / "t/spans.parquet").to_pylist() == [span(1), span(2)]


def test_ids_and_times_of_the_server_do_not_count(tmp_path: Path) -> None:
    first = save(tmp_path / "t")
    before = (tmp_path / "t/snapshot.json").stat().st_mtime_ns
    later = {"created_at": NOON + timedelta(days=3), "updated_at": NOON + timedelta(days=3)}
    others = [
        annotation(1, annotation_id="A:7", **later),
        annotation(2, annotation_id="A:8", **later),
    ]
    assert save(tmp_path / "t", annotations=[others]) == first
    assert (tmp_path / "t/snapshot.json").stat().st_mtime_ns == before


def test_their_order_counts(tmp_path: Path) -> None:
    """Which of two corrections came last decides about a row."""
    first = save(tmp_path / "a")
    late = [annotation(1, updated_at=NOON + timedelta(seconds=1)), annotation(2)]
    assert save(tmp_path / "b", annotations=[late]).content_hash != first.content_hash


@pytest.mark.parametrize(
    "changes", [{"input_json": "0"}, {"session_id": "s"}, {"status_code": "ERROR"}, {"name": "n"}]
)
def test_every_value_counts(tmp_path: Path, changes: dict[str, Any]) -> None:
    first = save(tmp_path / "t")
    second = save(tmp_path / "t", spans=[[span(1), span(2, **changes)]])
    assert second.content_hash != first.content_hash
    assert snapshot.read_manifest(tmp_path / "t") == second


def as_format_1(folder: Path) -> Path:
    """The snapshot as it was written before there were annotations of documents."""
    (folder / "document_annotations.parquet").unlink()
    manifest = json.loads((folder / "snapshot.json").read_text())
    del manifest["counts"]["document_annotations"]
    del manifest["files"]["document_annotations.parquet"]
    (folder / "snapshot.json").write_text(json.dumps(manifest | {"format": 1}))
    return folder


def documents_in(folder: Path) -> list[dict[str, Any]]:
    path = str(folder / "document_annotations.parquet")
    table = SnapshotTableDataset(filepath=path, connection={"backend": "duckdb"}).load()
    rows: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return rows


def test_older_snapshot_is_read_as_without_annotations_of_documents(tmp_path: Path) -> None:
    save(tmp_path / "t")
    folder = as_format_1(tmp_path / "t")
    manifest = snapshot.read_manifest(folder)
    assert (manifest.format, manifest.counts["spans"]) == (1, 2)
    assert documents_in(folder) == []


def test_table_that_is_missing_from_a_new_snapshot_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "t")
    (tmp_path / "t/document_annotations.parquet").unlink()
    with pytest.raises(DatasetError, match=r"annotations\.parquet: the table does not exist"):
        documents_in(tmp_path / "t")


def test_the_same_content_has_the_same_hash_in_both_formats(tmp_path: Path) -> None:
    """Written anew, though, so that the folder holds the table."""
    first = save(tmp_path / "t")
    as_format_1(tmp_path / "t")
    assert snapshot.read_manifest(tmp_path / "t").content_hash == first.content_hash
    assert save(tmp_path / "t") == first
    assert snapshot.read_manifest(tmp_path / "t").format == 2


def test_annotations_of_documents_count(tmp_path: Path) -> None:
    rows = [document(0), document(1, label="relevant", score=1.0)]
    with_rows = save(tmp_path / "a", documents=[rows])
    assert documents_in(tmp_path / "a") == rows
    hashes = {
        with_rows.content_hash,
        save(tmp_path / "b").content_hash,
        save(tmp_path / "c", documents=[[rows[0], rows[1] | {"label": "no"}]]).content_hash,
        save(tmp_path / "d", documents=[[rows[0], rows[1] | {"position": 2}]]).content_hash,
    }
    assert len(hashes) == 4


@given(
    st.permutations(range(4)),
    st.lists(st.datetimes(timezones=st.just(UTC)), min_size=4, max_size=4),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_only_the_server_knows_of_documents_does_not_count(
    tmp_path: Path, ids: list[int], times: list[datetime]
) -> None:
    rows = [
        document(n, annotation_id=f"A:{number}", updated_at=time, created_at=time)
        for n, (number, time) in enumerate(zip(ids, times, strict=True))
    ]
    shutil.rmtree(tmp_path, ignore_errors=True)
    tmp_path.mkdir()
    first = save(tmp_path / "a", documents=[[document(n) for n in range(4)]])
    assert save(tmp_path / "b", documents=[rows]).content_hash == first.content_hash


def test_how_rows_were_batched_does_not_count(tmp_path: Path) -> None:
    first = save(tmp_path / "a")
    assert save(tmp_path / "b", spans=[[span(1)], [], [span(2)]]).content_hash == first.content_hash


def test_broken_snapshot_is_replaced_by_the_same_content(tmp_path: Path) -> None:
    save(tmp_path / "t")
    (tmp_path / "t/spans.parquet").write_bytes(b"broken")
    save(tmp_path / "t")
    assert snapshot.read_manifest(tmp_path / "t").counts["spans"] == 2


def test_error_while_writing_keeps_the_old(tmp_path: Path) -> None:
    first = save(tmp_path / "t")

    def failing() -> Iterator[list[snapshot.Row]]:
        yield [span(number) for number in range(20_000)]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save(tmp_path / "t", spans=failing())
    assert snapshot.read_manifest(tmp_path / "t") == first
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_row_groups_are_bounded(tmp_path: Path) -> None:
    """Long texts make smaller groups, so that memory stays bounded."""
    long = [[span(number, input_json=json.dumps("x" * 200_000))] for number in range(200)]
    save(tmp_path / "t", spans=long)
    with pq.ParquetFile(tmp_path / "t/spans.parquet") as file:
        assert file.num_row_groups > 1
        assert file.metadata.num_rows == 200


@pytest.mark.faults
def test_kill_while_writing_keeps_the_old(tmp_path: Path) -> None:
    first = save(tmp_path / "t")
    program = (
        "import sys, time; from pathlib import Path; import tests.telemetry.test_snapshot as t\n"
        "def rows():\n"
        "    yield [t.span(n) for n in range(20_000)]\n"
        "    print('half way', flush=True); time.sleep(60)\n"
        "t.save(Path(sys.argv[1]), spans=rows())"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "t")],
        cwd=SAMPLE.parents[3],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"half way\n"
    time.sleep(0.1)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert snapshot.read_manifest(tmp_path / "t") == first
    assert save(tmp_path / "t", spans=[[span(5)]]).counts["spans"] == 1


@pytest.mark.parametrize(
    ("value", "repaired", "count"),
    [
        ("plain 😀", "plain 😀", 0),
        ("half \ud83d", "half \ufffd", 1),
        ("\ude00 half", "\ufffd half", 1),
        ("\ud83d\ude00", "😀", 1),
        ({"k\ud83d": ["\ud83d", 1, None]}, {"k\ufffd": ["\ufffd", 1, None]}, 2),
        (1.5, 1.5, 0),
    ],
)
def test_half_characters(value: Any, repaired: Any, count: int) -> None:
    assert repair_surrogates(value) == (repaired, count)
