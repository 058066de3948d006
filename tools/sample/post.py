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
    return sum(map(len, (part.first, part.sessions, part.notes, part.late)))


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
    answer = client.post(
        "/graphql", json={"query": query, "variables": {"id": found.json()["data"]["id"]}}
    )
    answer.raise_for_status()
    return int(answer.json()["data"]["node"]["recordCount"])
