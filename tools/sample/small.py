"""``python -m tools.sample.small``: a tenant with little telemetry, cut from the committed sample.

Fifteen routing spans that people approved (nine in the training window, one per agent, and six in
the test window) and some that nobody looked at: too little for any method of training, so that
``auto`` has candidates written and waits for people. Every row is as the real server gave it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

RAW = Path(__file__).parents[2] / "data/01_raw"
TRAIN_ROWS, TEST_ROWS, UNSEEN = 9, 6, 45
# Inside the windows of conf/base and of conf/test, which has shorter ones.
TRAIN_DAYS, TEST_DAYS = (12, 7), (3, 0)

Row = dict[str, Any]


def cut(source: Path, target: Path) -> None:
    """Writes the snapshot of the small tenant.

    Args:
        source: Snapshot of the sample.
        target: Folder of the new snapshot.
    """
    import pyarrow.parquet as pq

    from tracetune.telemetry import snapshot

    manifest = snapshot.read_manifest(source)
    tables = {
        name: pq.read_table(source / f"{name}.parquet").to_pylist() for name in snapshot.TABLES
    }
    chosen = _choose(tables["spans"], tables["annotations"], manifest.anchor)
    spans = [row for row in tables["spans"] if row["span_id"] in chosen]
    notes = [row for row in tables["annotations"] if row["span_id"] in chosen]
    snapshot.write(
        target,
        spans=[spans],
        annotations=[notes],
        sessions=[],
        document_annotations=[],
        fields=lambda: {
            "project": manifest.project,
            "window": manifest.window.model_dump(mode="json"),
            "anchor": manifest.anchor.isoformat(),
            "repaired_surrogates": 0,
            "server": manifest.server,
        },
    )


def _choose(spans: list[Row], annotations: list[Row], anchor: datetime) -> set[str]:
    """Ids of the approved spans, one per agent in turn, and of some that nobody looked at."""
    by_span: dict[str, list[Row]] = {}
    for note in annotations:
        by_span.setdefault(note["span_id"], []).append(note)
    approved, unseen = [], []
    for span in spans:
        if span["name"] != "routing_agent" or span["parent_id"] is not None:
            continue
        notes = by_span.get(span["span_id"])
        if notes is None:
            unseen.append(span)
        elif _agent(span) and all(_approves(note) for note in notes):
            approved.append(span)
    train = _within(approved, anchor, *TRAIN_DAYS)
    test = _within(approved, anchor, *TEST_DAYS)
    busy = {span["session_id"] for span in spans if span in test}
    quiet = [span for span in train if span["session_id"] not in busy]
    picked = [*_one_per_agent(quiet, TRAIN_ROWS), *_one_per_agent(test, TEST_ROWS)]
    rest = _within(unseen, anchor, *TRAIN_DAYS)[:UNSEEN]
    return {span["span_id"] for span in (*picked, *rest)}


def _approves(note: Row) -> bool:
    return (
        note["name"] == "human_approval"
        and note["annotator_kind"] == "HUMAN"
        and note["label"] == "approved"
        and note["explanation"] is None
        and note["metadata_json"] == "{}"
    )


def _agent(span: Row) -> str | None:
    """The agent that a span names, if its request is plain text without private data."""
    from tracetune.privacy import find

    try:
        request, output = json.loads(span["input_json"]), json.loads(span["output_json"])
        agent = json.loads(output)["agent"]
    except (TypeError, ValueError, KeyError):
        return None
    if not isinstance(request, str) or not isinstance(agent, str) or find(request):
        return None
    return agent if span["status_code"] == "OK" and agent.endswith("_agent") else None


def _within(spans: list[Row], anchor: datetime, first: int, last: int) -> list[Row]:
    start, end = anchor - timedelta(days=first), anchor - timedelta(days=last)
    return [span for span in spans if start <= span["start_time"] < end]


def _one_per_agent(spans: list[Row], count: int) -> list[Row]:
    """``count`` spans of different sessions and requests, as many agents as there are in turn."""
    picked: list[Row] = []
    while len(picked) < count:
        found = list(_round(spans, picked))[: count - len(picked)]
        if not found:
            raise SystemExit(f"only {len(picked)} of {count} spans can be had")
        picked += found
    return picked


def _round(spans: list[Row], picked: list[Row]) -> Iterator[Row]:
    agents: set[str | None] = set()
    sessions = {span["session_id"] for span in picked}
    requests = {span["input_json"].casefold() for span in picked}
    for span in spans:
        agent, request = _agent(span), span["input_json"].casefold()
        if agent not in agents and span["session_id"] not in sessions and request not in requests:
            agents.add(agent)
            sessions.add(span["session_id"])
            requests.add(request)
            yield span


if __name__ == "__main__":
    cut(RAW / "demo/telemetry", RAW / "small/telemetry")
