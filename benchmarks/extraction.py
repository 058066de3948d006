"""Reading spans: tracetune against ``get_spans_dataframe`` of the official Phoenix client.

Both read the same 20,000 spans of one real server in the same run, in turns, each in a fresh
process; the medians are compared. Our reading does more: it also asks for the annotations of every
span, lists sessions, checks counts and writes the snapshot to disk.

The server is filled through its own SQLite file while it is stopped (one span is posted and copied
there; OTLP would take minutes). Times are those of the call alone, after the imports; memory is the
peak of the whole process.

Run: python benchmarks/extraction.py [--spans 20000] [--repeats 3] [--venv .venv-phoenix]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.phoenix import free_port, running_server, server_python  # noqa: E402

START = datetime(2026, 9, 1, tzinfo=UTC)
DAYS = 30
PROJECT = "bench"

OURS = """
import json, resource, sys, time
from pathlib import Path
import httpx, orjson, pyarrow.parquet as pq, rich.progress
from tracetune.telemetry.phoenix import PhoenixProject
started = time.perf_counter()
PhoenixProject(sys.argv[1], "bench").save_snapshot(
    Path(sys.argv[2]), anchor="2026-10-01T00:00:00Z", read_days=30
)
took = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ids = pq.read_table(Path(sys.argv[2]) / "spans.parquet", columns=["span_id"])["span_id"].to_pylist()
print(json.dumps({"seconds": took, "peak": peak, "ids": ids}))
"""

OFFICIAL = """
import json, resource, sys, time
from datetime import datetime, timezone
import pandas
from phoenix.client import Client
client = Client(base_url=sys.argv[1])
started = time.perf_counter()
frame = client.spans.get_spans_dataframe(
    project_identifier="bench",
    start_time=datetime(2026, 9, 1, tzinfo=timezone.utc),
    end_time=datetime(2026, 10, 1, tzinfo=timezone.utc),
    limit=1_000_000,
    timeout=600,
)
took = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": took, "peak": peak, "ids": list(frame.index)}))
"""


def first_span(url: str) -> None:
    """Posts the span that is copied."""
    span = {
        "name": "routing_agent",
        "context": {"trace_id": f"{1:032x}", "span_id": f"{1:016x}"},
        "span_kind": "AGENT",
        "start_time": START.isoformat(),
        "end_time": (START + timedelta(seconds=1)).isoformat(),
        "status_code": "OK",
        "attributes": {"input.value": "x", "output.value": "y"},
    }
    request = urllib.request.Request(
        f"{url}/v1/projects/{PROJECT}/spans",
        json.dumps({"data": [span]}).encode(),
        {"content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=60).close()
    time.sleep(3)


def fill(database: Path, spans: int) -> None:
    """Copies the one span and its trace until there are ``spans``, about 1 kB each."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        trace, span = (
            dict(connection.execute(f"select * from {table} order by id desc").fetchone())
            for table in ("traces", "spans")
        )
        connection.execute("delete from spans")
        connection.execute("delete from traces")
        for number in range(1, spans + 1):
            start = START + timedelta(days=DAYS) * ((number - 1) / spans)
            times = {
                "start_time": start.strftime("%Y-%m-%d %H:%M:%S.%f"),
                "end_time": (start + timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S.%f"),
            }
            text = f"request {number}: please route this to the right agent. " * 6
            attributes = {
                "input": {"value": text, "mime_type": "text/plain"},
                "output": {"value": json.dumps({"agent": "billing_agent", "why": text})},
                "llm": {"model_name": "router", "token_count": {"prompt": number, "total": 9}},
                "metadata": {"tenant": "acme", "channel": "web"},
                "openinference": {"span": {"kind": "AGENT"}},
            }
            insert(
                connection, "traces", trace | times | {"id": number, "trace_id": f"{number:032x}"}
            )
            own = {"id": number, "trace_rowid": number, "span_id": f"{number:016x}"}
            insert(connection, "spans", span | times | own | {"attributes": json.dumps(attributes)})
        connection.commit()


def insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"insert into {table} ({names}) values ({marks})", list(row.values()))


def measure(command: list[str | Path], spans: int) -> tuple[float, float]:
    """Runs one reader; returns seconds and peak MiB, after checking that no span is missing."""
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": f"{ROOT}/src"}
    )
    result = json.loads(done.stdout.splitlines()[-1])
    wanted = {f"{number:016x}" for number in range(1, spans + 1)}
    if len(result["ids"]) != spans or set(result["ids"]) != wanted:
        raise SystemExit(f"{len(result['ids'])} spans came back, {spans} were stored")
    return result["seconds"], result["peak"] / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-phoenix")
    options = parser.parse_args()
    python = server_python(options.venv.resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = {"port": free_port(), "grpc_port": free_port()}
        url = f"http://127.0.0.1:{ports['port']}"
        with running_server(python, folder=folder / "server", **ports):
            first_span(url)
        fill(folder / "server" / "phoenix.db", options.spans)
        times: dict[str, list[float]] = {"ours": [], "official": []}
        peaks: dict[str, list[float]] = {"ours": [], "official": []}
        with running_server(python, folder=folder / "server", **ports):
            for turn in range(options.repeats):
                readers: dict[str, list[str | Path]] = {
                    "ours": [sys.executable, "-c", OURS, url, folder / f"snapshot-{turn}"],
                    "official": [python, "-c", OFFICIAL, url],
                }
                # The one that comes second finds a warm server: take turns.
                for reader in sorted(readers, reverse=bool(turn % 2)):
                    seconds, peak = measure(readers[reader], options.spans)
                    times[reader].append(seconds)
                    peaks[reader].append(peak)
    for reader in times:
        print(
            f"{reader:9} {statistics.median(times[reader]):6.2f} s "
            f"({', '.join(f'{value:.2f}' for value in times[reader])})  "
            f"peak {statistics.median(peaks[reader]):6.0f} MiB"
        )
    ratio = {
        what: statistics.median(values["ours"]) / statistics.median(values["official"])
        for what, values in (("time", times), ("memory", peaks))
    }
    print(f"{options.spans} spans, none lost by either")
    print(f"time ratio   {ratio['time']:.2f} (target: at most 0.90)")
    print(f"memory ratio {ratio['memory']:.2f} (target: at most 0.50)")


if __name__ == "__main__":
    main()
