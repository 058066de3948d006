"""The committed sample, from snapshot to split manifest."""

from __future__ import annotations

import json
from pathlib import Path

import ibis
import pytest
from tools.sample.private import planted

from tests.telemetry.builders import Span, tables
from tracetune.files import canonical_json
from tracetune.privacy import PrivacyOptions
from tracetune.splits import SplitOptions, assign_by_time, verify
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.rows import Rows, write_rows
from tracetune.telemetry.tables import classify_spans, collect_verdicts, sessions_in_test

SAMPLE = Path(__file__).parents[2] / "data" / "01_raw" / "demo" / "telemetry"
OPTIONS = TelemetryOptions()
ANCHOR = json.loads((SAMPLE / "snapshot.json").read_text())["anchor"]


def read(zone: str = "UTC") -> tuple[Rows, list[str], str]:
    """Rows, sessions in test, and everything the tables before hold, as text."""
    connection = ibis.duckdb.connect()
    connection.raw_sql(f"SET TimeZone = '{zone}'")
    spans = connection.read_parquet(SAMPLE / "spans.parquet")
    annotations = connection.read_parquet(SAMPLE / "annotations.parquet")
    units = classify_spans(spans, annotations, OPTIONS, ANCHOR).cache()
    verdicts = collect_verdicts(units, annotations, OPTIONS).cache()
    rows = write_rows(units, verdicts, spans, annotations, OPTIONS, PrivacyOptions(), tenant="demo")
    sessions = sessions_in_test(spans, OPTIONS, ANCHOR).to_pyarrow()["session_id"].to_pylist()
    before = str(units.to_pyarrow().to_pylist()) + str(verdicts.to_pyarrow().to_pylist())
    return rows, sessions, before


@pytest.fixture(scope="module")
def sample() -> tuple[Rows, list[str], str]:
    return read()


def test_every_span_is_accounted_for(sample) -> None:
    rows = sample[0]
    funnel = rows.funnel
    funnel.check()
    assert funnel.read == json.loads((SAMPLE / "snapshot.json").read_text())["counts"]["spans"]
    assert funnel.examples == len(rows.examples) >= 500
    assert funnel.pairs.rows == len(rows.preferences) >= 100
    for reason in ("malformed", "too_long", "not_human", "identical_pair", "rejected_only"):
        assert funnel.dropped(reason) > 0, f"the sample shows no {reason}"


def test_no_planted_string_is_in_a_row_a_table_or_a_report(sample) -> None:
    rows, sessions, before = sample
    raw = "".join(
        str(ibis.read_parquet(SAMPLE / f"{name}.parquet").to_pyarrow().to_pylist())
        for name in ("spans", "annotations")
    )
    written = before + str(sessions)
    written += "".join(r.model_dump_json() for r in (*rows.examples, *rows.preferences))
    written += rows.funnel.model_dump_json() + rows.privacy.model_dump_json()
    used = [text for texts in planted().values() for text in texts if text in raw]
    assert len(used) >= 10
    assert [text for text in used if text in written] == []
    assert sum(rows.privacy.found.values()) > 0
    assert rows.privacy.left == {}


def test_the_split_is_clean_and_the_test_side_wins(sample) -> None:
    rows, sessions, _ = sample
    everything = [*rows.examples, *rows.preferences]
    manifest = assign_by_time(
        everything,
        test_start=OPTIONS.windows_at(ANCHOR).test_start,
        test_groups={f"session:{name}" for name in sessions},
        options=SplitOptions(),
        seed=42,
    )
    verify(manifest, everything)
    assert manifest.dropped["sft"]["same_session"] > 0
    for kind in ("sft", "pair"):
        assert min(manifest.count(kind, side) for side in ("train", "validation", "test")) > 0


def test_the_zone_of_the_machine_changes_nothing(sample) -> None:
    rows, sessions, _ = sample
    there, sessions_there, _ = read("America/New_York")
    assert sessions_there == sessions
    assert there == rows
    assert [canonical_json(r.model_dump(mode="json")) for r in there.examples] == [
        canonical_json(r.model_dump(mode="json")) for r in rows.examples
    ]


def test_the_builders_write_tables_of_the_same_types() -> None:
    made = tables([Span()])
    for table, name in zip(made, ("spans", "annotations"), strict=True):
        real = ibis.read_parquet(SAMPLE / f"{name}.parquet").schema()
        mine = table.schema()
        assert {column: str(mine[column]).removeprefix("!") for column in mine} == {
            column: str(real[column]).removeprefix("!") for column in real
        }
