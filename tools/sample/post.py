"""Posts the sample to a Phoenix server: spans over OTLP protobuf, reviews over REST."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from tools.sample.spans import PROJECT, Span
from tools.sample.whole import Part

SPAN_ID = "query ($span: String!) { getSpanByOtelId(spanId: $span) { id } }"
ANNOTATE = """
mutation ($input: [CreateDocumentAnnotationInput!]!) {
  createDocumentAnnotations(input: $input) { documentAnnotations { id } }
}
"""
STATUS = {"OK": Status.STATUS_CODE_OK, "ERROR": Status.STATUS_CODE_ERROR}


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):  # before int: a bool is one
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    return AnyValue(string_value=value)


def _pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def otlp_request(project: str, spans: list[Span]) -> bytes:
    """The OTLP message with ``spans`` of one project."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(_pairs({"openinference.project.name": project}))
    resource.scope_spans.add().spans.extend(
        OtlpSpan(
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_id or ""),
            name=span.name,
            start_time_unix_nano=span.start,
            end_time_unix_nano=span.end,
            attributes=_pairs(span.attributes),
            status=Status(code=STATUS[span.status]),
        )
        for span in spans
    )
    return request.SerializeToString(deterministic=True)


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    """``items`` in lists of at most ``size``."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def post_sample(url: str, parts: list[Part], say: Callable[[str], None] = print) -> None:
    """Posts everything and returns when the server shows it.

    Args:
        url: Base address of the server.
        parts: What happened and what was said about it.
        say: Receives a line per step.

    Raises:
        httpx.HTTPStatusError: If the server refuses something.
        ValueError: If it refuses it in GraphQL.
        TimeoutError: If the server does not show all spans within ten minutes.
    """
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        by_project: dict[str, list[Span]] = {}
        for part in parts:
            for span in part.spans:
                by_project.setdefault(span.project, []).append(span)
        for project, spans in by_project.items():
            for batch in batches(spans, 200):
                client.post(
                    "/v1/traces",
                    content=gzip.compress(otlp_request(project, batch), mtime=0),
                    headers={
                        "content-type": "application/x-protobuf",
                        "content-encoding": "gzip",
                    },
                ).raise_for_status()
        # An OTLP answer only means "queued", and reviews of spans not stored yet are refused.
        for project, spans in by_project.items():
            _wait_for(client, project, len(spans))
        say(f"{sum(map(len, by_project.values()))} spans stored")
        count = sum(_post_reviews(client, part) for part in parts)
        say(f"{count} annotations stored in project {PROJECT!r}")


def _post_reviews(client: httpx.Client, part: Part) -> int:
    for batch in batches(part.first, 200):
        _annotate(client, "span", batch)
    for batch in batches(part.sessions, 200):
        _annotate(client, "session", batch)
    for note in part.notes:
        client.post("/v1/span_notes", json={"data": note}).raise_for_status()
    # The server keeps times of annotations to the second; late ones must be seen as late.
    time.sleep(1.5)
    for batch in batches(part.late, 200):
        _annotate(client, "span", batch)
    for batch in batches(part.documents, 200):
        _annotate(client, "document", batch)
    _post_opinions(client, part.opinions)
    posted = (part.first, part.sessions, part.notes, part.late, part.documents, part.opinions)
    return sum(map(len, posted))


def _post_opinions(client: httpx.Client, opinions: list[dict[str, Any]]) -> None:
    """As the pages of Phoenix do: REST takes no identifier for documents."""
    rows = [
        {
            "spanId": _graphql(client, SPAN_ID, {"span": one["span_id"]})["getSpanByOtelId"]["id"],
            "documentPosition": one["document_position"],
            "name": one["name"],
            "annotatorKind": one["annotator_kind"],
            "identifier": one["identifier"],
            "metadata": {},
            "source": "APP",
            **one["result"],
        }
        for one in opinions
    ]
    if rows:
        _graphql(client, ANNOTATE, {"input": rows})


def _annotate(client: httpx.Client, kind: str, batch: list[dict[str, Any]]) -> None:
    client.post(
        f"/v1/{kind}_annotations", params={"sync": "true"}, json={"data": batch}
    ).raise_for_status()


def _wait_for(client: httpx.Client, project: str, expected: int) -> None:
    deadline = time.monotonic() + 600
    seen = -1
    while time.monotonic() < deadline:
        seen = stored_spans(client, project)
        if seen >= expected:
            return
        time.sleep(0.5)
    raise TimeoutError(f"the server shows {seen} of {expected} spans of project {project!r}")


def stored_spans(client: httpx.Client, project: str) -> int:
    """Number of spans that the server holds for ``project``; 0 if there is no such project."""
    found = client.get(f"/v1/projects/{project}")
    if found.status_code == 404:
        return 0
    found.raise_for_status()
    query = "query ($id: ID!) { node(id: $id) { ... on Project { recordCount } } }"
    answer = _graphql(client, query, {"id": found.json()["data"]["id"]})
    return int(answer["node"]["recordCount"])


def _graphql(client: httpx.Client, query: str, variables: dict[str, Any]) -> Any:
    answer = client.post("/graphql", json={"query": query, "variables": variables})
    answer.raise_for_status()
    body = answer.json()
    if body.get("errors"):
        raise ValueError(f"the server refused a GraphQL request: {body['errors'][0]['message']}")
    return body["data"]
