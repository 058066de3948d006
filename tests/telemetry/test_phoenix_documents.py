"""Annotations of documents from the real server: complete, as they are, and never half of them."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.phoenix_server import Server
from tests.telemetry import fault_proxy as faults
from tests.telemetry.test_phoenix_server import SAMPLE, rows_of
from tracetune import phoenix_rest as rest
from tracetune.errors import ServerError
from tracetune.telemetry import snapshot
from tracetune.telemetry.phoenix import PhoenixProject

pytestmark = [pytest.mark.phoenix, pytest.mark.faults]

START = datetime(2026, 3, 4, 10, 40, tzinfo=UTC)
NUMBERS = itertools.count(1)
ROWS = "documentPosition"
"""In the question for the rows; the ones before and after ask for ids alone."""
CREATE = """
mutation ($input: [CreateDocumentAnnotationInput!]!) {
  createDocumentAnnotations(input: $input) { documentAnnotations { id } }
}
"""
DELETE = """
mutation ($ids: [ID!]!) {
  deleteDocumentAnnotations(input: {annotationIds: $ids}) { documentAnnotations { id } }
}
"""


class Annotated:
    """A project of its own: four spans with three documents each, and one without any."""

    def __init__(self, client: httpx.Client) -> None:
        project = next(NUMBERS)
        self.name = f"documents-{project}"
        self.client = client
        self.ids = [f"d0c5{project:06x}{number:06x}" for number in range(5)]
        kinds = ["RETRIEVER", "CHAIN", "RERANKER", "RETRIEVER", "AGENT"]
        spans = [
            {
                "name": "search_service",
                "context": {"trace_id": span * 2, "span_id": span},
                "span_kind": kind,
                "start_time": (START + timedelta(seconds=number)).isoformat(),
                "end_time": (START + timedelta(seconds=number + 1)).isoformat(),
                "status_code": "OK",
                "attributes": {"input.value": span, **self._documents(kind)},
            }
            for number, (span, kind) in enumerate(zip(self.ids, kinds, strict=True))
        ]
        self.post(f"/v1/projects/{self.name}/spans", spans)
        for _ in range(200):
            found = self.client.get(f"/v1/projects/{self.name}/spans", params={"limit": 100})
            if found.status_code == 200 and len(found.json()["data"]) == len(spans):
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the server did not store the spans")
        self.gids = {row["context"]["span_id"]: row["id"] for row in found.json()["data"]}
        made = self.post(
            "/v1/document_annotations?sync=true",
            [
                {
                    "span_id": span,
                    "document_position": position,
                    "name": "relevance",
                    "annotator_kind": "HUMAN",
                    "result": {"label": "relevant"},
                }
                for span in self.ids[:4]
                for position in range(3)
            ],
        )
        self.annotations = [row["id"] for row in made["data"]]

    @staticmethod
    def _documents(kind: str) -> dict[str, Any]:
        if kind == "AGENT":
            return {}
        prefix = "reranker.output_documents" if kind == "RERANKER" else "retrieval.documents"
        return {f"{prefix}.{n}.document.content": f"text {n}" for n in range(3)}

    def post(self, path: str, rows: list[dict[str, Any]]) -> Any:
        """Sends rows to the server."""
        answer = self.client.post(path, json={"data": rows})
        return answer.raise_for_status().json()

    def graphql(self, query: str, **variables: Any) -> None:
        """Changes something as the pages of Phoenix do."""
        answer = self.client.post("/graphql", json={"query": query, "variables": variables})
        assert not answer.json().get("errors"), answer.text

    def say(self, number: int, **more: Any) -> None:
        """A further annotation of the first document of a span."""
        row = {"spanId": self.gids[self.ids[number]], "documentPosition": 0, "name": "relevance"}
        rest = {"annotatorKind": "HUMAN", "metadata": {}, "source": "APP"}
        self.graphql(CREATE, input=[row | rest | more])

    def delete(self, number: int) -> None:
        """Deletes one annotation."""
        self.graphql(DELETE, ids=[self.annotations[number]])

    def delete_span(self, number: int) -> None:
        """Deletes one span, and with it its annotations."""
        self.client.delete(f"/v1/spans/{self.ids[number]}").raise_for_status()

    def read(self, url: str, folder: Path) -> None:
        """Reads it page after page of two spans, never two at a time."""
        project = PhoenixProject(url, self.name, page_size=2, concurrency=1)
        project.save_snapshot(folder, "2026-03-05T00:00:00Z", read_days=2)


@pytest.fixture
def annotated(phoenix_server: Server) -> Iterator[Annotated]:
    with httpx.Client(base_url=phoenix_server.url, timeout=60, trust_env=False) as client:
        yield Annotated(client)


@pytest.fixture
def proxy(phoenix_server: Server) -> Iterator[faults.Proxy]:
    with faults.proxy_for(phoenix_server.url) as running:
        running.part = ROWS
        yield running


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The snapshot of an earlier reading, with a mark of its own."""
    folder: Path = shutil.copytree(SAMPLE, tmp_path / "telemetry")
    (folder / "snapshot.json").write_text("the one before")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.parent.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder.parent)): path.read_bytes() for path in paths}


def documents(folder: Path) -> list[dict[str, Any]]:
    return rows_of(folder, "document_annotations")


def test_all_of_them_arrive_as_they_are(
    annotated: Annotated, phoenix_server: Server, tmp_path: Path
) -> None:
    """Of every kind of span, from several people, a model and with odd values."""
    odd = "\u202bשלום\u202c 👩‍💻 e\u0301 \ufffd"
    annotated.say(
        0, identifier="ben", label="irrelevant", explanation=odd, metadata={"b": 1, "a": []}
    )
    annotated.say(1, identifier="judge", annotatorKind="LLM", score=0.25)
    annotated.say(3, name="freshness", annotatorKind="CODE")
    annotated.read(phoenix_server.url, tmp_path / "live")
    rows = documents(tmp_path / "live")
    assert len(rows) == 15
    order = [(row["span_id"], row["position"], row["name"], row["identifier"]) for row in rows]
    assert order == sorted(order)
    assert {row["span_id"] for row in rows} == set(annotated.ids[:4])
    told = {(row["name"], row["identifier"]): row for row in rows}
    ben = told["relevance", "ben"]
    assert (ben["annotator_kind"], ben["label"], ben["score"]) == ("HUMAN", "irrelevant", None)
    assert (ben["explanation"], ben["metadata_json"]) == (odd, '{"a":[],"b":1}')
    judge = told["relevance", "judge"]
    assert (judge["annotator_kind"], judge["label"], judge["score"]) == ("LLM", None, 0.25)
    assert told["freshness", ""]["annotator_kind"] == "CODE"
    assert all(row["updated_at"].tzinfo is not None for row in rows)


def test_a_second_reading_leaves_the_snapshot_untouched(
    annotated: Annotated, phoenix_server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "live"
    annotated.read(phoenix_server.url, folder)
    old = content(folder)
    annotated.read(phoenix_server.url, folder)
    assert content(folder) == old
    annotated.say(0, identifier="ben", label="irrelevant")
    annotated.read(phoenix_server.url, folder)
    assert len(documents(folder)) == 13


def test_passing_faults_are_survived(proxy: faults.Proxy, tmp_path: Path) -> None:
    """Connections that end within a page, errors and a slow answer: none lost, none twice."""
    proxy.faults = [
        *(faults.cut, faults.status(503), faults.cut_without_length, faults.slow(4)),
        *(faults.status(429, "1"), faults.cut),
    ]
    project = PhoenixProject(proxy.url, "demo", page_size=60, timeout=2)
    manifest = project.save_snapshot(tmp_path / "live", "2026-10-01T00:00:00Z")
    assert proxy.hits == 6
    assert manifest.content_hash == snapshot.read_manifest(SAMPLE).content_hash


@pytest.mark.parametrize("part", [ROWS, "documentEvaluations { id }"])
def test_lasting_fault_leaves_the_old_snapshot(
    annotated: Annotated,
    proxy: faults.Proxy,
    before: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    monkeypatch.setattr(rest, "ATTEMPTS", 2)
    old = content(before)
    proxy.part, proxy.forever = part, faults.cut
    with pytest.raises(ServerError, match=r"does not answer /graphql: connection lost"):
        annotated.read(proxy.url, before)
    assert proxy.hits >= 2
    assert content(before) == old


def test_server_that_dies_leaves_the_old_snapshot(
    annotated: Annotated, proxy: faults.Proxy, before: Path
) -> None:
    old = content(before)
    proxy.faults = [faults.die]
    with pytest.raises(ServerError, match=r"does not answer .*no connection"):
        annotated.read(proxy.url, before)
    assert content(before) == old


def changed(change: Callable[[list[Any]], None]) -> faults.Fault:
    """The answer holds other spans than were asked for."""

    def fault(handler: Any, code: int, headers: dict[str, str], content: bytes) -> None:
        answer = json.loads(content)
        change(answer["data"]["node"]["spans"]["edges"])
        faults.reply(handler, code, headers, json.dumps(answer).encode())

    return fault


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda edges: edges.pop(), "of 2 spans .* gives 1 now"),
        (lambda edges: edges.append(edges[0]), "of 2 spans .* gives 2 now"),
        (lambda edges: edges.__setitem__(0, edges[1]), "of 2 spans .* gives 1 now"),
        (
            lambda edges: edges[0]["node"].update(
                documentEvaluations=edges[1]["node"]["documentEvaluations"]
            ),
            "came twice",
        ),
        (
            lambda edges: edges[0]["node"]["documentEvaluations"].pop(),
            "1 annotations of documents that the server listed are not in its answer",
        ),
    ],
    ids=["one_less", "one_more", "one_twice", "annotations_twice", "annotation_less"],
)
def test_page_that_is_not_what_was_asked_for_is_noticed(
    annotated: Annotated, proxy: faults.Proxy, before: Path, change: Any, words: str
) -> None:
    old = content(before)
    proxy.faults = [changed(change)]
    with pytest.raises(ServerError, match=words) as error:
        annotated.read(proxy.url, before)
    assert "run again" in str(error.value)
    assert content(before) == old


def test_refusal_says_why(annotated: Annotated, proxy: faults.Proxy, tmp_path: Path) -> None:
    """A server without this question answers with an error in place of data."""

    def refuse(handler: Any, code: int, headers: dict[str, str], content: bytes) -> None:
        reason = "Cannot query field 'documentEvaluations' on type 'Span'."
        body = json.dumps({"data": None, "errors": [{"message": reason}]}).encode()
        faults.reply(handler, 200, headers, body)

    proxy.forever = refuse
    with pytest.raises(ServerError, match=r"refused .*Cannot query field") as error:
        annotated.read(proxy.url, tmp_path / "live")
    assert "20.26 or newer" in str(error.value)
    assert len(set(proxy.seen)) == len(proxy.seen), "a refused question is not repeated"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.delete(0), "0 spans and 1 annotations were deleted"),
        # What arrives on the same document does not make up for what is gone.
        (
            lambda it: [it.delete(0), it.say(0, identifier="new")],
            "0 spans and 1 annotations were deleted",
        ),
        (lambda it: it.delete_span(0), "of 2 spans .* gives 1 now"),
        (lambda it: it.delete_span(3), "of 2 spans .* gives 1 now"),
    ],
    ids=["annotation", "replaced", "span_read", "span_not_read_yet"],
)
def test_deleted_while_read_is_no_half_snapshot(
    annotated: Annotated, proxy: faults.Proxy, before: Path, change: Any, words: str
) -> None:
    old = content(before)
    proxy.faults = [faults.afterwards(lambda: change(annotated))]
    with pytest.raises(ServerError, match=words):
        annotated.read(proxy.url, before)
    assert proxy.hits == 1
    assert content(before) == old


def test_what_arrives_while_read_does_no_harm(
    annotated: Annotated, proxy: faults.Proxy, tmp_path: Path
) -> None:
    proxy.faults = [faults.afterwards(lambda: annotated.say(0, identifier="late"))]
    annotated.read(proxy.url, tmp_path / "live")
    assert proxy.hits == 1
    assert len(documents(tmp_path / "live")) == 12


def test_half_characters_are_counted(
    annotated: Annotated, proxy: faults.Proxy, tmp_path: Path
) -> None:
    def spoil(edges: list[Any]) -> None:
        edges[0]["node"]["documentEvaluations"][0]["explanation"] = "half \ud83d"

    proxy.faults = [changed(spoil)]
    annotated.read(proxy.url, tmp_path / "live")
    assert "half \ufffd" in {row["explanation"] for row in documents(tmp_path / "live")}
    assert snapshot.read_manifest(tmp_path / "live").repaired_surrogates == 1
