"""Reading from the real Phoenix server: completeness, the true shape, and what may go wrong."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from tools.sample.spans import ANCHOR

from tests.phoenix_server import Server, start
from tests.telemetry import fault_proxy as faults
from tracetune import phoenix_rest as rest
from tracetune.errors import ConfigurationError, DataError, ServerError
from tracetune.telemetry import snapshot
from tracetune.telemetry.phoenix import PhoenixProject

pytestmark = pytest.mark.phoenix

SAMPLE = Path(__file__).parents[2] / "data/01_raw/demo/telemetry"
KEY = "test-key-that-must-never-be-shown"


@pytest.fixture
def proxy(phoenix_server: Server) -> Iterator[faults.Proxy]:
    with faults.proxy_for(phoenix_server.url) as running:
        yield running


def rows_of(folder: Path, table: str = "spans") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{table}.parquet").to_pylist()
    return rows


def test_live_read_is_the_committed_sample(phoenix_server: Server, tmp_path: Path) -> None:
    live = PhoenixProject(phoenix_server.url, "demo").save_snapshot(tmp_path / "live")
    sample = snapshot.read_manifest(SAMPLE)
    assert live.content_hash == sample.content_hash
    assert (live.counts, live.window, live.anchor) == (sample.counts, sample.window, sample.anchor)
    assert live.server["version"] == "20.26.1"


def test_same_content_leaves_the_snapshot_untouched(phoenix_server: Server, tmp_path: Path) -> None:
    folder = shutil.copytree(SAMPLE, tmp_path / "telemetry")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    manifest = PhoenixProject(phoenix_server.url, "demo").save_snapshot(folder)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert before == after
    assert manifest == snapshot.read_manifest(SAMPLE)
    assert [path.name for path in tmp_path.iterdir()] == ["telemetry"]


def test_count_is_what_the_database_holds(phoenix_server: Server, tmp_path: Path) -> None:
    manifest = PhoenixProject(phoenix_server.url, "demo").save_snapshot(tmp_path / "live")
    joined = (
        "from spans join traces on traces.id = spans.trace_rowid "
        "join projects on projects.id = traces.project_rowid"
    )
    with closing(sqlite3.connect(f"file:{phoenix_server.database}?mode=ro", uri=True)) as database:
        spans = database.execute(f"select span_id {joined} where projects.name = 'demo'").fetchall()
        annotations = database.execute(
            f"select count(*) {joined} join span_annotations on span_rowid = spans.id "
            "where projects.name = 'demo'"
        ).fetchone()
        documents = database.execute(
            f"select count(*) {joined} join document_annotations on span_rowid = spans.id "
            "where projects.name = 'demo'"
        ).fetchone()
    assert {row["span_id"] for row in rows_of(tmp_path / "live")} == {span for (span,) in spans}
    assert manifest.counts["spans"] == len(spans)
    assert manifest.counts["annotations"] == annotations[0]
    assert manifest.counts["document_annotations"] == documents[0]


def test_small_pages_give_the_same(phoenix_server: Server, tmp_path: Path) -> None:
    project = PhoenixProject(phoenix_server.url, "demo", page_size=97, concurrency=2)
    manifest = project.save_snapshot(tmp_path / "live")
    assert manifest.content_hash == snapshot.read_manifest(SAMPLE).content_hash


def test_several_pages_per_window(phoenix_server: Server, tmp_path: Path) -> None:
    """One span per page: minutes hold more than one, so cursors are followed."""
    project = PhoenixProject(phoenix_server.url, "demo", page_size=1)
    manifest = project.save_snapshot(tmp_path / "live", "2026-08-23T00:00:00Z", read_days=1)
    expected = [
        row for row in rows_of(SAMPLE) if row["start_time"].date().isoformat() < "2026-08-23"
    ]
    assert rows_of(tmp_path / "live") == expected
    assert manifest.counts["spans"] == len(expected) > 20


def test_windows_are_half_open(phoenix_server: Server, tmp_path: Path) -> None:
    """The sample holds a decision exactly on the border between training and test."""
    border = ANCHOR.replace(month=9, day=24)
    on_border = [row["span_id"] for row in rows_of(SAMPLE) if row["start_time"] == border]
    assert on_border
    project = PhoenixProject(phoenix_server.url, "demo")
    project.save_snapshot(tmp_path / "before", "2026-09-24T02:00:00+02:00", read_days=1)
    project.save_snapshot(tmp_path / "after", "2026-09-25T00:00:00Z", read_days=1)
    before, after = (
        {row["span_id"] for row in rows_of(tmp_path / name)} for name in ("before", "after")
    )
    assert not before & set(on_border)
    assert set(on_border) <= after


def test_unknown_project_names_those_that_exist(phoenix_server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no project 'dmeo'.*demo, demo-staging"):
        PhoenixProject(phoenix_server.url, "dmeo").save_snapshot(tmp_path / "live")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("anchor", ["2026-10-01", "2026-10-01T00:00:00", "yesterday"])
def test_anchor_needs_a_zone(phoenix_server: Server, tmp_path: Path, anchor: str) -> None:
    with pytest.raises(ConfigurationError, match=r"telemetry\.anchor"):
        PhoenixProject(phoenix_server.url, "demo").save_snapshot(tmp_path / "live", anchor)


def test_empty_window_is_an_error(phoenix_server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no spans from 2019"):
        PhoenixProject(phoenix_server.url, "demo").save_snapshot(
            tmp_path / "live", "2020-01-01T00:00:00Z", read_days=30
        )
    assert not list(tmp_path.iterdir())


def test_server_down(tmp_path: Path) -> None:
    project = PhoenixProject("http://user:secret@127.0.0.1:9", "demo", api_key=KEY)
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9: .*no connection") as error:
        project.save_snapshot(tmp_path / "live")
    assert KEY not in str(error.value)
    assert "secret" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["localhost:6006", "ftp://localhost", "http://", "http://h:port"])
def test_bad_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"telemetry\.url"):
        PhoenixProject(url, "demo").save_snapshot(tmp_path / "live")


def test_bad_key_is_not_quoted(phoenix_server: Server, tmp_path: Path) -> None:
    project = PhoenixProject(phoenix_server.url, "demo", api_key=f"{KEY}\nx")
    with pytest.raises(ConfigurationError, match="cannot stand in a header") as error:
        project.save_snapshot(tmp_path / "live")
    assert KEY not in str(error.value)
    assert KEY not in repr(project)


def test_authentication(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    admin = "admin-secret-of-this-test-0123456789abcdef"
    settings = {
        "PHOENIX_ENABLE_AUTH": "true",
        "PHOENIX_SECRET": "secret-of-this-test-0123456789abcdefghij",
        "PHOENIX_ADMIN_SECRET": admin,
    }
    with start(tmp_path / "server", settings) as server:
        made = httpx.post(
            f"{server.url}/v1/system/api_keys",
            json={"data": {"name": "test"}},
            headers={"authorization": f"Bearer {admin}"},
        )
        key = made.raise_for_status().json()["data"]["key"]
        for wrong in (None, KEY):
            with pytest.raises(ServerError, match=r"refused the API key.*401") as error:
                PhoenixProject(server.url, "demo", wrong).save_snapshot(tmp_path / "live")
            assert "credentials.yml" in str(error.value)
            assert KEY not in str(error.value)
        # The right key reaches the projects, of which there is only the empty default one.
        with pytest.raises(DataError, match="'default' holds no spans"):
            PhoenixProject(server.url, "default", key).save_snapshot(tmp_path / "live")
    assert KEY not in caplog.text
    assert key not in caplog.text
    assert not (tmp_path / "live").exists()


def test_passing_faults_are_survived(proxy: faults.Proxy, tmp_path: Path) -> None:
    """Every kind of fault on spans, counts and annotations: none lost, none twice."""
    proxy.part = "/v1/projects/"
    proxy.faults = [
        faults.status(503),
        faults.cut,
        faults.status(429, "1"),
        faults.slow(4),
        faults.cut_without_length,
        faults.status(500),
        faults.status(429, "Sat, 01 Jan 2000 00:00:00 GMT"),
        faults.status(502),
    ]
    project = PhoenixProject(proxy.url, "demo", api_key=KEY, timeout=2)
    manifest = project.save_snapshot(tmp_path / "live", "2026-10-01T00:00:00Z")
    assert proxy.hits == 8
    assert manifest.content_hash == snapshot.read_manifest(SAMPLE).content_hash


@pytest.mark.parametrize(
    "part", ["/graphql", "/spans", "/span_annotations", "/session_annotations"]
)
def test_lasting_fault_leaves_nothing(
    proxy: faults.Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(rest, "ATTEMPTS", 2)
    folder = tmp_path / "telemetry"
    folder.mkdir()
    (folder / "snapshot.json").write_text("the one before")
    proxy.part, proxy.forever = part, faults.status(500)
    with pytest.raises(ServerError, match=r"does not answer .*status 500") as error:
        PhoenixProject(proxy.url, "demo", api_key=KEY).save_snapshot(folder)
    assert KEY not in str(error.value)
    assert (folder / "snapshot.json").read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["telemetry"]


def test_refused_request_is_not_repeated(proxy: faults.Proxy, tmp_path: Path) -> None:
    proxy.part, proxy.forever = "/spans", faults.status(422)
    with pytest.raises(ServerError, match="status 422: not now"):
        PhoenixProject(proxy.url, "demo").save_snapshot(
            tmp_path / "live", "2026-08-24T00:00:00Z", read_days=1
        )
    assert proxy.hits == 1


def test_silently_cut_page_is_noticed(proxy: faults.Proxy, tmp_path: Path) -> None:
    """A page with a row less and no cursor looks whole; the count of the server says it is not."""

    def drop_one(handler: Any, code: int, headers: dict[str, str], content: bytes) -> None:
        page = json.loads(content)
        faults.reply(
            handler, code, headers, json.dumps({**page, "data": page["data"][1:]}).encode()
        )

    proxy.part, proxy.forever = "/spans", drop_one
    with pytest.raises(ServerError, match=r"held \d+ spans, the server counts \d+"):
        PhoenixProject(proxy.url, "demo").save_snapshot(tmp_path / "live", "2026-10-01T00:00:00Z")
    assert not list(tmp_path.iterdir())


def test_repeated_span_is_noticed(proxy: faults.Proxy, tmp_path: Path) -> None:
    def repeat_one(handler: Any, code: int, headers: dict[str, str], content: bytes) -> None:
        page = json.loads(content)
        page["data"][0] = page["data"][1]
        faults.reply(handler, code, headers, json.dumps(page).encode())

    proxy.part, proxy.forever = "/spans", repeat_one
    with pytest.raises(ServerError, match="came twice"):
        PhoenixProject(proxy.url, "demo").save_snapshot(tmp_path / "live", "2026-10-01T00:00:00Z")


def test_half_characters_are_replaced_and_counted(proxy: faults.Proxy, tmp_path: Path) -> None:
    """Another server may hold what this one refuses: half a character, as an escape in JSON."""

    def spoil(handler: Any, code: int, headers: dict[str, str], content: bytes) -> None:
        page = json.loads(content)
        for span in page["data"]:
            span["attributes"]["input.value"] = "half \ud83d, whole \ud83d\ude00"
        # json.dumps writes escapes, as a server in Python would.
        faults.reply(handler, code, headers, json.dumps(page).encode())

    proxy.part, proxy.forever = "/spans", spoil
    project = PhoenixProject(proxy.url, "demo")
    manifest = project.save_snapshot(tmp_path / "live", "2026-08-23T00:00:00Z", read_days=1)
    rows = rows_of(tmp_path / "live")
    assert {json.loads(row["input_json"]) for row in rows} == {"half \ufffd, whole 😀"}
    assert manifest.repaired_surrogates == len(rows) > 20


def test_not_a_phoenix_server(proxy: faults.Proxy, tmp_path: Path) -> None:
    def page(handler: Any, code: int, headers: dict[str, str], content: bytes) -> None:
        faults.reply(handler, 200, {"content-type": "text/html"}, b"<html>hello</html>")

    proxy.part, proxy.forever = "/v1", page
    with pytest.raises(ServerError, match="may not be a Phoenix server"):
        PhoenixProject(proxy.url, "demo").save_snapshot(tmp_path / "live")


@pytest.mark.faults
def test_killed_reading_leaves_the_old_snapshot(proxy: faults.Proxy, tmp_path: Path) -> None:
    folder = shutil.copytree(SAMPLE, tmp_path / "telemetry")
    (folder / "snapshot.json").write_text("the one before")
    proxy.part, proxy.forever = "/span_annotations", faults.slow(60)
    program = (
        "import sys; from pathlib import Path; from tracetune.telemetry.phoenix import *; "
        "PhoenixProject(sys.argv[1], 'demo').save_snapshot(Path(sys.argv[2]))"
    )
    child = subprocess.Popen([sys.executable, "-c", program, proxy.url, str(folder)])
    deadline = time.monotonic() + 60
    while not proxy.hits and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert proxy.hits
    assert (folder / "snapshot.json").read_text() == "the one before"
    assert len(rows_of(folder)) == snapshot.read_manifest(SAMPLE).counts["spans"]


def _post_spans(url: str, project: str, bodies: list[dict[str, Any]]) -> None:
    spans = [
        {
            "name": "routing_agent",
            "context": {"trace_id": f"{index + 1:032x}", "span_id": f"{index + 1:016x}"},
            "span_kind": "AGENT",
            "start_time": f"2026-01-0{index + 1}T00:00:00.000001+00:00",
            "end_time": f"2026-01-0{index + 1}T00:00:01+00:00",
            "status_code": "OK",
            "attributes": attributes,
        }
        for index, attributes in enumerate(bodies)
    ]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        path = f"/v1/projects/{project}/spans"
        client.post(path, json={"data": spans}).raise_for_status()
        for _ in range(200):
            found = client.get(path, params={"limit": 100})
            if found.status_code == 200 and len(found.json()["data"]) == len(spans):
                return
            time.sleep(0.1)
    raise AssertionError("the server did not store the spans")


def test_odd_values_arrive_as_they_are(phoenix_server: Server, tmp_path: Path) -> None:
    emoji = "👩‍💻🇵🇹 \u202bשלום\u202c e\u0301 \u2028 \ufffd"
    values = [
        {"input.value": emoji, "output.value": ["a", 1, None], "session.id": "  odd-1 "},
        {"input.value": "x" * 200_000, "output.value": 7, "session.id": 4711},
        {"input.value": 42, "output.value": {"agent": "hr_agent"}, "session.id": "   "},
        {"output.value": True, "params": {"a": {"b": [1, 2]}}, "big": 2**62, "none": None},
        {"input.value": "", "output.value": 0.1, "docs": [{"text": "one"}, {"text": "two"}]},
    ]
    _post_spans(phoenix_server.url, "odd", values)
    manifest = PhoenixProject(phoenix_server.url, "odd").save_snapshot(tmp_path / "odd")
    rows = rows_of(tmp_path / "odd")
    assert manifest.anchor.isoformat() == "2026-01-06T00:00:00+00:00"
    assert [row["session_id"] for row in rows] == ["odd-1", "4711", None, None, None]
    decoded = [
        [json.loads(row[name]) if row[name] is not None else "absent" for name in columns]
        for columns in [("input_json", "output_json")]
        for row in rows
    ]
    assert decoded[0] == [emoji, ["a", 1, None]]
    assert decoded[1] == ["x" * 200_000, 7]
    assert decoded[3] == ["absent", True]
    assert decoded[4] == ["", 0.1]
    assert json.loads(rows[3]["attributes_json"])["params.a.b"] == [1, 2]
    assert json.loads(rows[3]["attributes_json"])["big"] == 2**62
    assert json.loads(rows[4]["attributes_json"])["docs.1.text"] == "two"
    assert rows[0]["start_time"].microsecond == 1


def test_project_name_that_is_no_path(phoenix_server: Server, tmp_path: Path) -> None:
    """Names with a slash cannot stand in an address; the project is found by listing."""
    query = "mutation ($name: String!) { createProject(input: {name: $name}) { __typename } }"
    answer = httpx.post(
        f"{phoenix_server.url}/graphql",
        json={"query": query, "variables": {"name": "a/b c?#d"}},
        trust_env=False,
    )
    assert not answer.json().get("errors"), answer.text
    with pytest.raises(DataError, match=r"'a/b c\?#d' holds no spans"):
        PhoenixProject(phoenix_server.url, "a/b c?#d").save_snapshot(tmp_path / "live")
