"""The datasets of EISV sources, as a catalog makes them, and trajectories on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DataCatalog
from kedro.io.core import DatasetError

from tests.project import ROOT
from tracetune.datasets.jsonl_dataset import JSONLDataset
from tracetune.eisv.mix import fill_up
from tracetune.eisv.options import MixOptions, WindowOptions
from tracetune.eisv.windows import trajectories_of
from tracetune.errors import DataError

SAMPLE = ROOT / "data/01_raw/demo/eisv/demo.db"
ANIMA = "tracetune.datasets.anima_dataset.AnimaDataset"
PUBLISHED = "tracetune.datasets.published_eisv_dataset.PublishedEisvDataset"


def catalog(kind: str, path: Path) -> DataCatalog:
    entry: dict[str, Any] = {
        "type": kind,
        "filepath": str(path),
        "metadata": {"kedro-viz": {"layer": "raw"}},
    }
    return DataCatalog.from_config({"source": entry})


@pytest.mark.parametrize("kind", [ANIMA, PUBLISHED])
def test_a_missing_file_is_told_when_it_is_used(tmp_path: Path, kind: str) -> None:
    made = catalog(kind, tmp_path / "missing")
    assert not made.exists("source")
    handle = made.load("source")
    with pytest.raises(DataError, match="there is no such"):
        handle.read() if kind == ANIMA else handle.read(WindowOptions(), tenant="demo")


@pytest.mark.parametrize("kind", [ANIMA, PUBLISHED])
def test_sources_are_never_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"as it was")
    made = catalog(kind, path)
    assert made.exists("source")
    with pytest.raises((DataError, DatasetError), match="only read"):
        made.save("source", [1])
    assert path.read_bytes() == b"as it was"


def test_the_sample_goes_from_the_catalog_to_rows_on_disk_and_back(tmp_path: Path) -> None:
    before = SAMPLE.read_bytes()
    recording = catalog(ANIMA, SAMPLE).load("source").read()
    rows, _ = trajectories_of(recording, WindowOptions(), tenant="demo")
    rows, _ = fill_up(rows[::5], MixOptions(min_per_shape=3), tenant="demo", seed=1)
    kept = JSONLDataset(
        filepath=str(tmp_path / "trajectories.jsonl"), record="tracetune.records.EisvTrajectory"
    )
    kept.save(rows)
    assert kept.load() == rows
    assert SAMPLE.read_bytes() == before


def test_a_published_table_is_read_through_the_catalog(tmp_path: Path) -> None:
    states = '[{"t": 0, "E": 0, "I": 0, "S": 0, "V": 0}, {"t": 1, "E": 0, "I": 0, "S": 0, "V": 0}]'
    columns = {
        "shape": ["settled_presence"],
        "eisv_states": [states],
        "derivatives": ["[]"],
        "t_start": [0.0],
        "t_end": [1.0],
        "provenance": ["synthetic"],
        "tokens": ["[]"],
        "n_expressions": [0],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    handle = catalog(PUBLISHED, tmp_path / "a.parquet").load("source")
    (row,), _ = handle.read(WindowOptions(), tenant="demo")
    assert (row.shape, row.origin) == ("settled_presence", "synthetic")
