"""1,000,000 spans and 1,500,000 annotations through tables, rows and splits: time and peak memory.

    python benchmarks/million_spans.py [--spans 1000000] [--folder DIR]
    python benchmarks/million_spans.py --spans 10000000 --rows-only

Of the spans 30 % are routing spans with an approval annotation, three quarters of those lie in the
windows and 70 % of them were judged by people: about 130,000 row candidates of 300 characters each.
Generation and processing run in separate processes, so the peak is that of the processing alone.
It must stay under 3 GB for a million spans with splits, and under 4 GB for any number that is
extracted only (``--rows-only``); the exit status says whether it did.
``extraction_pandas.py`` holds the extraction against a script of pandas.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ANCHOR = datetime(2026, 3, 1, tzinfo=UTC)
LIMIT_MB = 3000
ROWS_LIMIT_MB = 4000
TENANT = "bench"
KINDS = {"examples": "Example", "preferences": "Preference", "ratings": "Rating"}

SPANS = """
COPY (
  SELECT
    printf('%016x', i) AS span_id,
    printf('%032x', i // 3) AS trace_id,
    CASE WHEN i % 10 < 5 THEN NULL ELSE printf('%016x', i - 1) END AS parent_id,
    CASE WHEN i % 10 < 3 THEN 'routing_agent' WHEN i % 10 < 5 THEN 'chat_turn' ELSE 'llm' END
      AS name,
    CASE WHEN i % 10 < 3 THEN 'AGENT' WHEN i % 10 < 5 THEN 'CHAIN' ELSE 'LLM' END AS span_kind,
    TIMESTAMPTZ '2026-01-20 00:00:00+00' + to_microseconds(i * (40 * 86400000000 // {n}))
      AS start_time,
    TIMESTAMPTZ '2026-01-20 00:00:01+00' + to_microseconds(i * (40 * 86400000000 // {n}))
      AS end_time,
    CASE WHEN hash(i) % 50 = 0 THEN 'ERROR' ELSE 'OK' END AS status_code,
    printf('s-%d', i // 20) AS session_id,
    to_json(list_aggregate(list_transform(range(40), k ->
      printf('%s%d',
        ['order','invoice','refund','meeting','flight','bug','deploy','salary']
          [1 + (hash(i * 41 + k) % 8)::INT],
        (hash(i * 43 + k) % 900)::INT)), 'string_agg', ' ')
      || CASE WHEN hash(i * 7 + 1) % 50 = 0 THEN ' mail me at user' || i || '@example.com'
         ELSE '' END)::VARCHAR AS input_json,
    to_json(printf('{{"agent": "%s", "confidence": 0.%d}}',
      ['billing','calendar','code','hr','search','support','travel','weather']
        [1 + (hash(i) % 8)::INT],
      (hash(i) % 90)::INT + 10))::VARCHAR AS output_json,
    '{{}}' AS attributes_json
  FROM range({n}) t(i)
) TO '{folder}/spans.parquet' (FORMAT parquet)
"""
ANNOTATIONS = """
COPY (
  SELECT
    printf('SpanAnnotation:%012d', j) AS annotation_id,
    printf('%016x', i) AS span_id,
    CASE WHEN i % 10 < 3 THEN 'human_approval' ELSE 'quality' END AS name,
    CASE WHEN i % 10 < 3 AND hash(i) % 10 < 7 THEN 'HUMAN' ELSE 'LLM' END AS annotator_kind,
    printf('reviewer-%d', j % 7) AS identifier,
    CASE WHEN hash(j) % 4 = 0 THEN 'rejected' ELSE 'approved' END AS label,
    NULL::DOUBLE AS score,
    'looks fine to me, checked against the handbook' AS explanation,
    CASE WHEN hash(j) % 4 = 0 AND hash(j) % 3 > 0
         THEN '{{"corrected_output":{{"agent":"refunds"}}}}' ELSE '{{}}' END AS metadata_json,
    TIMESTAMPTZ '2026-02-28 00:00:00+00' AS created_at,
    TIMESTAMPTZ '2026-02-28 00:00:00+00' + to_seconds(j % 3600) AS updated_at
  FROM (SELECT j, CASE WHEN j < {n} THEN j ELSE (j - {n}) * 2 END AS i FROM range({m}) t(j))
) TO '{folder}/annotations.parquet' (FORMAT parquet)
"""


def generate(folder: Path, spans: int) -> None:
    import duckdb

    duckdb.sql("SET threads = 2")
    values = {"n": spans, "m": spans * 3 // 2, "folder": folder}
    duckdb.sql(SPANS.format(**values))
    duckdb.sql(ANNOTATIONS.format(**values))


class Laps:
    """Seconds of wall and CPU time and the peak so far, step by step."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}
        self._last = self._now()

    def __call__(self, name: str) -> None:
        """Closes the step ``name``."""
        now = self._now()
        wall, cpu = (round(b - a, 1) for a, b in zip(self._last, now, strict=True))
        self.steps[name] = {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak_mb()}
        self._last = now
        print(f"{name}: {self.steps[name]}", file=sys.stderr, flush=True)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def extract(folder: Path, lap: Laps) -> tuple[Any, list[str]]:
    """Tables and rows as the pipelines make and save them.

    Returns:
        The rows and the sessions that reach into the test window.
    """
    warnings.simplefilter("ignore", DeprecationWarning)
    import ibis

    from tracetune.datasets.jsonl_dataset import JSONLDataset
    from tracetune.privacy import PrivacyOptions
    from tracetune.telemetry import tables
    from tracetune.telemetry.options import TelemetryOptions
    from tracetune.telemetry.rows import write_rows

    options = TelemetryOptions()
    connection = ibis.duckdb.connect(threads=2)
    lap("start")
    spans = connection.read_parquet(folder / "spans.parquet")
    annotations = connection.read_parquet(folder / "annotations.parquet")
    tables.classify_spans(spans, annotations, options, ANCHOR).to_parquet(folder / "units.parquet")
    units = connection.read_parquet(folder / "units.parquet")
    lap("classify_spans")
    tables.collect_verdicts(units, annotations, options).to_parquet(folder / "verdicts.parquet")
    verdicts = connection.read_parquet(folder / "verdicts.parquet")
    lap("collect_verdicts")
    sessions = tables.sessions_in_test(spans, options, ANCHOR).to_pyarrow()["session_id"]
    lap("sessions_in_test")
    rows = write_rows(units, verdicts, spans, annotations, options, PrivacyOptions(), tenant=TENANT)
    lap("write_rows")
    for name, record in KINDS.items():
        dataset = JSONLDataset(
            filepath=str(folder / f"{name}.jsonl"), record=f"tracetune.records.{record}"
        )
        dataset.save(getattr(rows, name))
    lap("write_jsonl")
    return rows, sessions.to_pylist()


def process(folder: Path, *, splits: bool) -> None:
    lap = Laps()
    rows, sessions = extract(folder, lap)
    result = {
        "read": rows.funnel.read,
        "candidates": rows.funnel.examples + rows.funnel.dropped("duplicate"),
        "examples": rows.funnel.examples,
        "pairs": rows.funnel.pairs.rows,
        "ratings": rows.funnel.ratings,
        "redacted": rows.privacy.found,
    }
    if splits:
        result["splits"] = divide(rows, sessions, lap)
    print(json.dumps({**result, "steps": lap.steps, "peak_mb": peak_mb()}, indent=2))


def divide(rows: Any, sessions: list[str], lap: Laps) -> dict[str, dict[str, int]]:
    from tracetune.splits import SplitOptions, assign_by_time, verify
    from tracetune.telemetry.options import TelemetryOptions

    everything = [row for name in KINDS for row in getattr(rows, name)]
    manifest = assign_by_time(
        everything,
        test_start=TelemetryOptions().windows_at(ANCHOR).test_start,
        test_groups={f"session:{name}" for name in sessions},
        options=SplitOptions(),
        seed=42,
    )
    lap("assign_by_time")
    verify(manifest, everything)
    lap("verify")
    return manifest.counts


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the tables go; default: a temporary one")
    parser.add_argument("--rows-only", action="store_true", help="stop before the splits")
    parser.add_argument("--step", choices=["generate", "process"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "generate":
        generate(arguments.folder, arguments.spans)
        return 0
    if arguments.step == "process":
        process(arguments.folder, splits=not arguments.rows_only)
        return 0

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        common = [sys.executable, __file__, "--folder", folder, "--spans", str(arguments.spans)]
        subprocess.run([*common, "--step", "generate"], check=True)
        rows_only = ["--rows-only"] if arguments.rows_only else []
        found = subprocess.run(
            [*common, "--step", "process", *rows_only],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    print(found)
    peak = json.loads(found)["peak_mb"]
    limit = ROWS_LIMIT_MB if arguments.rows_only else LIMIT_MB
    print(f"peak {peak} MB, limit {limit} MB: {'kept' if peak < limit else 'BROKEN'}")
    return 0 if peak < limit else 1


if __name__ == "__main__":
    sys.exit(main())
