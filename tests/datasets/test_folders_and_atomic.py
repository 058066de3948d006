"""Folders and atomic saves: a version counts only when it is complete, even after kill -9."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kedro.io import DatasetError, Version

from tracetune.datasets.atomic_datasets import JSONDataset, TableDataset
from tracetune.datasets.folder_dataset import FolderDataset, WorkspaceDataset


def fill(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_text(text)
    (folder / "deep").mkdir()
    (folder / "deep" / "config.json").write_text("{}")
    return folder


def test_folder_round_trip_by_version(tmp_path):
    for stamp in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        FolderDataset(filepath=str(tmp_path / "adapter"), version=Version(None, stamp)).save(
            fill(tmp_path / f"made-{stamp}", stamp)
        )
    latest = FolderDataset(filepath=str(tmp_path / "adapter"), version=Version(None, None))
    assert (latest.load() / "weights.bin").read_text() == "2026-01-02T00.00.00.000Z"
    assert (latest.load() / "deep" / "config.json").exists()
    assert len(latest.list_versions()) == 2


def test_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    data = FolderDataset(filepath=str(tmp_path / "adapter"), version=Version(None, None))
    with pytest.raises(DatasetError, match="no filled folder"):
        data.save(tmp_path / "empty")
    assert not data.exists()


def test_workspace_is_an_input_only(tmp_path):
    work = WorkspaceDataset(filepath=str(tmp_path / "work"))
    assert not work.exists()
    assert work.load().is_dir()
    assert work.exists()
    with pytest.raises(DatasetError, match="workspace is an input"):
        work.save(tmp_path)


def test_json_is_sorted_and_refuses_nan(tmp_path):
    data = JSONDataset(filepath=str(tmp_path / "m.json"))
    data.save({"b": 1, "a": 2})
    assert (tmp_path / "m.json").read_text().index('"a"') < (tmp_path / "m.json").read_text().index(
        '"b"'
    )
    with pytest.raises(DatasetError):
        data.save({"a": float("nan")})
    assert data.load() == {"a": 2, "b": 1}


def test_table_round_trip_and_broken_file(tmp_path):
    import ibis

    connection = {"backend": "duckdb"}
    data = TableDataset(filepath=str(tmp_path / "t.parquet"), connection=connection)
    data.save(ibis.memtable({"a": [1, 2, 3]}))
    assert sorted(data.load().a.execute()) == [1, 2, 3]
    (tmp_path / "t.parquet").write_bytes(b"PAR1 this is not a table")
    with pytest.raises(DatasetError, match="cannot be read as a Parquet table"):
        data.load()
    with pytest.raises(DatasetError, match="does not exist"):
        TableDataset(filepath=str(tmp_path / "none.parquet"), connection=connection).load()


SAVER = """
import sys, time
from pathlib import Path
from kedro.io import Version
import tracetune.files as files

kind, root = sys.argv[1], Path(sys.argv[2])
version = Version(None, "2026-01-02T00.00.00.000Z")

# Stop right before the rename, the latest moment at which nothing may be visible yet.
real_sync = files.sync
def slow_sync(path):
    real_sync(path)
    print("written", flush=True)
    time.sleep(60)
files.sync = slow_sync

if kind == "json":
    from tracetune.datasets.atomic_datasets import JSONDataset
    JSONDataset(filepath=str(root / "x"), version=version).save({"new": 1})
elif kind == "table":
    import ibis
    from tracetune.datasets.atomic_datasets import TableDataset
    TableDataset(filepath=str(root / "x"), connection={"backend": "duckdb"}, version=version).save(
        ibis.memtable({"a": list(range(1000))}))
elif kind == "folder":
    from tracetune.datasets.folder_dataset import FolderDataset
    FolderDataset(filepath=str(root / "x"), version=version).save(root / "made")
"""


def reader(kind: str, root: Path):
    path, version = str(root / "x"), Version(None, None)
    if kind == "json":
        return JSONDataset(filepath=path, version=version)
    if kind == "table":
        return TableDataset(filepath=path, connection={"backend": "duckdb"}, version=version)
    return FolderDataset(filepath=path, version=version)


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["json", "table", "folder"])
def test_killed_save_leaves_the_previous_version_as_latest(tmp_path, kind):
    import ibis

    first = Version(None, "2026-01-01T00.00.00.000Z")
    fill(tmp_path / "made", "old")
    old = {"json": {"old": 1}, "table": ibis.memtable({"a": [1]}), "folder": tmp_path / "made"}
    writer = reader(kind, tmp_path)
    writer._version = first
    writer.save(old[kind])

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SAVER), kind, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "written"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    latest = reader(kind, tmp_path)
    assert latest.list_versions(full_path=False) == ["2026-01-01T00.00.00.000Z"]
    assert latest.exists()
    latest.load()
