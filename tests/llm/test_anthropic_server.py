"""The test server is strict: what the service refuses, it refuses too."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import pytest

from tests.llm.helpers import SCHEMA, fixed
from tracetune.llm.schemas import AnswerForm

GOOD: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 4000,
    "system": [{"type": "text", "text": "You write."}],
    "messages": [{"role": "user", "content": "Write 3 messages whose right output names hr."}],
    "output_config": {
        "effort": "low",
        "format": {"type": "json_schema", "schema": AnswerForm(SCHEMA).asked},
    },
}


@pytest.fixture
def client(server):
    found = anthropic.Anthropic(api_key=server.key, base_url=server.url, max_retries=0)
    yield found
    found.close()


def post(server, path: str, body: Any, **headers: str) -> httpx.Response:
    given = {"x-api-key": server.key, "anthropic-version": "2023-06-01", **headers}
    return httpx.post(f"{server.url}{path}", json=body, headers=given, trust_env=False)


def test_answers_fit_the_schema_and_the_prompt(client, server):
    message = client.messages.create(**GOOD)
    value = AnswerForm(SCHEMA).read(message.content[0].text)
    assert len(value["items"]) == 3
    assert {item["output"]["agent"] for item in value["items"]} == {"hr"}
    counted = client.messages.count_tokens(
        **{name: value for name, value in GOOD.items() if name != "max_tokens"}
    )
    assert counted.input_tokens == message.usage.input_tokens


def test_a_near_miss_names_what_is_wanted_and_rejects_something_else(client):
    fields = {"agent": {"type": "string", "enum": ["hr", "it", "travel"]}}
    schema = fixed(
        items={
            "type": "array",
            "items": fixed(
                request={"type": "string"}, output=fixed(**fields), rejected=fixed(**fields)
            ),
        }
    )
    prompt = "Write 4 messages whose right output names travel, and which come near hr: a reader."
    config = {"format": {"type": "json_schema", "schema": schema}}
    turns = [{"role": "user", "content": prompt}]
    message = client.messages.create(**{**GOOD, "messages": turns, "output_config": config})
    items = AnswerForm(schema).read(message.content[0].text)["items"]
    assert len({item["request"] for item in items}) == 4
    assert {item["output"]["agent"] for item in items} == {"travel"}
    assert {item["rejected"]["agent"] for item in items} <= {"hr", "it"}


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": None},
        {"max_tokens": 0},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"unknown": 1},
        {"messages": []},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [*GOOD["messages"], {"role": "assistant", "content": "{"}]},
        {"system": [{"type": "text", "text": ""}]},
        {"system": [{"type": "text", "text": "x", "cache_control": {"type": "forever"}}]},
        {"output_config": {"effort": "extreme"}},
        {"output_config": {"format": {"type": "json_object"}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ],
)
def test_a_wrong_message_is_refused(server, change):
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    answer = post(server, "/v1/messages", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert not server.paid


def test_wrong_headers_and_models_are_refused(server):
    assert post(server, "/v1/messages", GOOD, **{"x-api-key": "no"}).status_code == 401
    assert post(server, "/v1/messages", GOOD, **{"anthropic-version": "1"}).status_code == 400
    assert post(server, "/v1/messages", {**GOOD, "model": "gpt"}).status_code == 404
    assert post(server, "/v2/messages", GOOD).status_code == 404
    assert post(server, "/v1/messages/count_tokens", GOOD).status_code == 400


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [{"custom_id": "a b", "params": GOOD}],
        [{"custom_id": "a" * 65, "params": GOOD}],
        [{"custom_id": "a", "params": GOOD}, {"custom_id": "a", "params": GOOD}],
        [{"custom_id": "a"}],
        [{"custom_id": "a", "params": GOOD, "name": "x"}],
    ],
)
def test_a_wrong_batch_is_refused(server, requests):
    assert post(server, "/v1/messages/batches", {"requests": requests}).status_code == 400
    assert not server.batches


def test_a_batch_lives_as_the_sdk_expects(client, server):
    server.polls = 2
    requests = [{"custom_id": f"r{n}", "params": GOOD} for n in range(5)]
    requests[3] = {"custom_id": "r3", "params": {**GOOD, "temperature": 1.0}}
    batch = client.messages.batches.create(requests=requests)
    assert batch.request_counts.processing == 5
    with pytest.raises(anthropic.AnthropicError, match="results_url"):
        client.messages.batches.results(batch.id)
    while batch.processing_status != "ended":
        batch = client.messages.batches.retrieve(batch.id)
    assert (batch.request_counts.succeeded, batch.request_counts.errored) == (4, 1)
    rows = list(client.messages.batches.results(batch.id))
    assert {row.custom_id for row in rows} == {f"r{n}" for n in range(5)}
    assert {row.result.type for row in rows if row.custom_id == "r3"} == {"errored"}
    server.page = 2
    others = [client.messages.batches.create(requests=requests[:1]) for _ in range(4)]
    listed = [item.id for item in client.messages.batches.list(limit=2)]
    assert listed == [item.id for item in [*reversed(others), batch]]
    assert client.messages.batches.cancel(others[0].id).processing_status == "canceling"
