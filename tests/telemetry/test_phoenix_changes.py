"""What changes on the real server while it is read: rows that are deleted, a server that dies."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.phoenix_server import Server
from tests.telemetry import fault_proxy as faults
from tests.telemetry.test_phoenix_server import SAMPLE, rows_of
from tracetune.errors import ServerError
from tracetune.telemetry.phoenix import PhoenixProject

pytestmark = [pytest.mark.phoenix, pytest.mark.faults]

START = datetime(2026, 3, 4, 10, 40, tzinfo=UTC)
NUMBERS = itertools.count(1)
PAGE = 2
"""Spans per page; annotations come in pages of ten times that."""
REVIEWERS = [f"reviewer-{number:02d}" for number in range(12)]


class Deletable:
    """A project of its own on the server: five spans in one minute, one later, all annotated."""

    def __init__(self, client: httpx.Client) -> None:
        project = next(NUMBERS)
        self.name = f"deletable-{project}"
        self.client = client
        # Ids are unique on the whole server.
        self.ids = [f"de1e7ab1{project:04x}{number:04x}" for number in range(6)]
        starts = [START + timedelta(seconds=number) for number in range(5)]
        spans = [
            {
                "name": "routing_agent",
                "context": {"trace_id": span * 2, "span_id": span},
                "span_kind": "AGENT",
                "start_time": start.isoformat(),
                "end_time": (start + timedelta(seconds=1)).isoformat(),
                "status_code": "OK",
                "attributes": {"input.value": span, "session.id": f"session-{self.name}"},
            }
            for span, start in zip(self.ids, [*starts, START + timedelta(minutes=30)], strict=True)
        ]
        self.post(f"/v1/projects/{self.name}/spans", spans)
        for _ in range(200):
            found = self.client.get(f"/v1/projects/{self.name}/spans", params={"limit": 100})
            if found.status_code == 200 and len(found.json()["data"]) == len(spans):
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the server did not store the spans")
        verdict = {"annotator_kind": "HUMAN", "result": {"label": "approved"}}
        self.post(
            "/v1/span_annotations?sync=true",
            [
                {"span_id": span, "name": "human_approval", "identifier": reviewer, **verdict}
                for span in self.ids
                for reviewer in REVIEWERS
            ],
        )
        session = {"session_id": f"session-{self.name}", "name": "outcome", **verdict}
        self.post("/v1/session_annotations?sync=true", [session])

    def post(self, path: str, rows: list[dict[str, Any]]) -> None:
        """Sends rows to the server."""
        self.client.post(path, json={"data": rows}).raise_for_status()

    def delete_span(self, number: int) -> None:
        """Deletes one span, and with it its annotations."""
        self.client.delete(f"/v1/spans/{self.ids[number]}").raise_for_status()

    def delete_annotations(self, kind: str, **which: str) -> None:
        """Deletes annotations of spans or of sessions."""
        path = f"/v1/projects/{self.name}/{kind}_annotations"
        self.client.delete(path, params={"delete_all": "true", **which}).raise_for_status()

    def read(self, url: str, folder: Path) -> None:
        """Reads it page after page, never two at a time."""
        project = PhoenixProject(url, self.name, page_size=PAGE, concurrency=1)
        project.save_snapshot(folder, "2026-03-05T00:00:00Z", read_days=2)


@pytest.fixture
def deletable(phoenix_server: Server) -> Iterator[Deletable]:
    with httpx.Client(base_url=phoenix_server.url, timeout=60, trust_env=False) as client:
        yield Deletable(client)


@pytest.fixture
def proxy(phoenix_server: Server) -> Iterator[faults.Proxy]:
    with faults.proxy_for(phoenix_server.url) as running:
        yield running


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The snapshot of an earlier reading, with a mark of its own."""
    folder: Path = shutil.copytree(SAMPLE, tmp_path / "telemetry")
    (folder / "snapshot.json").write_text("the one before")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file beside and in the folder: nothing half written may stand there either."""
    paths = [path for path in folder.parent.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder.parent)): path.read_bytes() for path in paths}


def together(folder: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """Spans, and annotations by span and reviewer."""
    spans = {row["span_id"] for row in rows_of(folder)}
    return spans, {(row["span_id"], row["identifier"]) for row in rows_of(folder, "annotations")}


def test_span_gone_before_its_page_is_in_no_table(
    deletable: Deletable, proxy: faults.Proxy, tmp_path: Path
) -> None:
    """The pages hold one span less than was counted: that window is read again, without it."""
    proxy.part = "limit=2&sort=start_time&order=asc"
    proxy.faults = [faults.afterwards(lambda: deletable.delete_span(4))]
    deletable.read(proxy.url, tmp_path / "live")
    assert proxy.hits == 1
    left = {*deletable.ids} - {deletable.ids[4]}
    assert together(tmp_path / "live") == (left, set(itertools.product(left, REVIEWERS)))


@pytest.mark.parametrize(
    ("part", "gone", "words"),
    [
        # Its page was read: it would stand there without verdicts.
        ("order=asc", lambda it: it.delete_span(0), "1 spans and 0 annotations"),
        ("/sessions", lambda it: it.delete_span(0), "1 spans and 12 annotations"),
        # Half of the verdicts of a span: one page of annotations was read, or none of it.
        (
            "/span_annotations",
            lambda it: it.delete_annotations("span", identifier=REVIEWERS[0]),
            "0 spans and 6 annotations",
        ),
        (
            "/session_annotations",
            lambda it: it.delete_annotations("session", name="outcome"),
            "0 spans and 1 annotations",
        ),
        # Nothing is left of what is asked for.
        ("/span_annotations", lambda it: [it.delete_span(n) for n in range(6)], "is gone"),
    ],
    ids=["span_read", "span_annotated", "annotation", "session_annotation", "all"],
)
def test_deleted_while_read_is_no_half_snapshot(
    deletable: Deletable,
    proxy: faults.Proxy,
    before: Path,
    part: str,
    gone: Any,
    words: str,
) -> None:
    old = content(before)
    proxy.part, proxy.faults = part, [faults.afterwards(lambda: gone(deletable))]
    with pytest.raises(ServerError, match=words) as error:
        deletable.read(proxy.url, before)
    assert proxy.hits == 1
    assert "run again" in str(error.value)
    assert content(before) == old


def test_reading_again_gives_what_is_left(
    deletable: Deletable, proxy: faults.Proxy, before: Path
) -> None:
    proxy.part = "/span_annotations"
    proxy.faults = [
        faults.afterwards(lambda: deletable.delete_annotations("span", identifier=REVIEWERS[3]))
    ]
    with pytest.raises(ServerError, match="were deleted on the server while it was read"):
        deletable.read(proxy.url, before)
    deletable.read(proxy.url, before)
    left = {*REVIEWERS} - {REVIEWERS[3]}
    assert together(before) == ({*deletable.ids}, set(itertools.product(deletable.ids, left)))


def test_what_arrives_while_read_does_no_harm(
    deletable: Deletable, proxy: faults.Proxy, tmp_path: Path
) -> None:
    late = {"span_id": deletable.ids[0], "name": "human_approval", "identifier": "late"}
    verdict = {"annotator_kind": "HUMAN", "result": {"label": "rejected"}}
    proxy.part = "/sessions"
    proxy.faults = [
        faults.afterwards(
            lambda: deletable.post("/v1/span_annotations?sync=true", [{**late, **verdict}])
        )
    ]
    deletable.read(proxy.url, tmp_path / "live")
    assert proxy.hits == 1
    assert together(tmp_path / "live")[1] == set(itertools.product(deletable.ids, REVIEWERS))


def test_window_that_begins_within_a_full_hour(
    deletable: Deletable, phoenix_server: Server, tmp_path: Path
) -> None:
    """Its first hour is counted by the minute, to the end of that hour and not beyond it."""
    project = PhoenixProject(phoenix_server.url, deletable.name, page_size=PAGE)
    manifest = project.save_snapshot(tmp_path / "live", "2026-03-05T10:30:00Z", read_days=1)
    assert manifest.counts["spans"] == len(deletable.ids)


@pytest.mark.parametrize("part", ["order=asc", "/span_annotations", "/session_annotations"])
def test_server_that_dies_leaves_the_old_snapshot(
    phoenix_server: Server, proxy: faults.Proxy, before: Path, part: str
) -> None:
    """The connection ends in the middle of a page; after that nobody listens."""
    old = content(before)
    proxy.part, proxy.faults = part, [faults.die]
    with pytest.raises(ServerError, match=r"does not answer .*no connection") as error:
        PhoenixProject(proxy.url, "demo").save_snapshot(before)
    assert proxy.hits == 1
    assert "telemetry.source=snapshot runs without a server" in str(error.value)
    assert content(before) == old
