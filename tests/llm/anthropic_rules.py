"""What the API of Anthropic takes and refuses, as far as it is documented: the strict half of the
test server."""

from __future__ import annotations

import re
from typing import Any

from tests.strict_server import Refused

MODELS = (
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-opus-5",
    "claude-fable-5-1",
    "claude-haiku-4-5",
)
VERSIONS = ("2023-06-01", "2026-10-21")
COUNT_FIELDS = {
    "cache_control",
    "messages",
    "model",
    "output_config",
    "speed",
    "system",
    "thinking",
    "tool_choice",
    "tools",
}
MESSAGE_FIELDS = COUNT_FIELDS | {
    "container",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "metadata",
    "service_tier",
    "stop_sequences",
    "stream",
}
SCHEMA_KEYWORDS = {
    "$defs",
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "description",
    "enum",
    "format",
    "items",
    "minItems",
    "properties",
    "required",
    "title",
    "type",
}
FORMATS = {
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "time",
    "uri",
    "uuid",
}
TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}


class Refusal(Refused):
    """An error reply: status, type and message."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message

    def body(self) -> dict[str, Any]:
        """As the service sends it."""
        return {"type": "error", "error": {"type": self.kind, "message": self.message}}


def bad(message: str) -> Refusal:
    """A 400."""
    return Refusal(400, "invalid_request_error", message)


def check_headers(headers: Any, key: str) -> None:
    """Version and key: ``authorization`` as the installed SDK sends it, or ``x-api-key``."""
    given = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key")
    if not given:
        raise Refusal(401, "authentication_error", "x-api-key header is required")
    if given != key:
        raise Refusal(401, "authentication_error", f"invalid x-api-key: {given}")
    if headers.get("anthropic-version") not in VERSIONS:
        raise bad("anthropic-version: header is required")


def check_message(params: Any, *, counting: bool = False) -> None:
    """Parameters of a message, or of counting its tokens."""
    if not isinstance(params, dict):
        raise bad("an object is expected")
    for name in params:
        if name not in (COUNT_FIELDS if counting else MESSAGE_FIELDS):
            raise bad(f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages", *([] if counting else ["max_tokens"])):
        if name not in params:
            raise bad(f"{name}: Field required")
    if not counting and (type(params["max_tokens"]) is not int or params["max_tokens"] < 1):
        raise bad("max_tokens: Input should be a positive integer")
    if params["model"] not in MODELS:
        raise Refusal(404, "not_found_error", f"model: {params['model']}")
    _check_turns(params["messages"])
    _check_blocks("system", params.get("system", []))
    _check_output(params.get("output_config", {}))


def check_batch(body: Any) -> list[dict[str, Any]]:
    """The requests of a batch; their parameters are looked at when they are worked on."""
    if not isinstance(body, dict) or set(body) != {"requests"}:
        raise bad("requests: exactly this field is expected")
    requests = body["requests"]
    if not isinstance(requests, list) or not 1 <= len(requests) <= 100_000:
        raise bad("requests: 1 to 100000 are expected")
    seen: set[str] = set()
    for number, request in enumerate(requests):
        if not isinstance(request, dict) or set(request) != {"custom_id", "params"}:
            raise bad(f"requests.{number}: custom_id and params are expected")
        name = request["custom_id"]
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            raise bad(f"requests.{number}.custom_id: String should match the pattern")
        if name in seen:
            raise bad(f"requests.{number}.custom_id: is not unique")
        seen.add(name)
    return requests


def _check_turns(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise bad("messages: at least one message is required")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise bad(f"messages.{number}: role and content are expected")
        if message["role"] not in ("user", "assistant"):
            raise bad(f"messages.{number}.role: user or assistant is expected")
        _check_blocks(f"messages.{number}.content", message["content"])
        if not message["content"]:
            raise bad(f"messages.{number}.content: must not be empty")
    if messages[-1]["role"] == "assistant":
        raise bad("messages: prefill is not supported by this model")


def _check_blocks(place: str, content: Any) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise bad(f"{place}: text or blocks are expected")
    for block in content:
        if not isinstance(block, dict) or not {"type", "text"} <= set(block):
            raise bad(f"{place}: a text block has type and text")
        if set(block) - {"type", "text", "cache_control"} or block["type"] != "text":
            raise bad(f"{place}: Extra inputs are not permitted")
        if not isinstance(block["text"], str) or not block["text"]:
            raise bad(f"{place}: text content blocks must be non-empty")
        cache = block.get("cache_control", {"type": "ephemeral"})
        if cache.get("type") != "ephemeral" or cache.get("ttl", "5m") not in ("5m", "1h"):
            raise bad(f"{place}.cache_control: type ephemeral, ttl 5m or 1h")


def _check_output(config: Any) -> None:
    if not isinstance(config, dict) or set(config) - {"effort", "format"}:
        raise bad("output_config: Extra inputs are not permitted")
    if config.get("effort", "low") not in ("low", "medium", "high", "xhigh", "max"):
        raise bad("output_config.effort: unknown")
    form = config.get("format")
    if form is None:
        return
    if not isinstance(form, dict) or set(form) != {"type", "schema"}:
        raise bad("output_config.format: type and schema are expected")
    if form["type"] != "json_schema":
        raise bad("output_config.format.type: json_schema is expected")
    check_schema(form["schema"], "output_config.format.schema")


def check_schema(schema: Any, place: str) -> None:
    """A schema of structured outputs."""
    if not isinstance(schema, dict):
        raise bad(f"{place}: an object is expected")
    for keyword in schema:
        if keyword not in SCHEMA_KEYWORDS:
            raise bad(f"{place}: keyword {keyword!r} is not supported")
    kind = schema.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in TYPES):
        raise bad(f"{place}.type: one type is expected")
    if not {"type", "$ref", "anyOf", "allOf", "enum", "const"} & set(schema):
        raise bad(f"{place}: a type is required")
    if kind == "object" and schema.get("additionalProperties") is not False:
        raise bad(f"{place}: for 'object' type, 'additionalProperties' must be false")
    if kind == "object" and set(schema.get("required", [])) - set(schema.get("properties", {})):
        raise bad(f"{place}.required: names a property that is not there")
    if schema.get("minItems", 0) not in (0, 1):
        raise bad(f"{place}.minItems: only 0 and 1 are supported")
    if schema.get("format", "date") not in FORMATS:
        raise bad(f"{place}.format: not supported")
    for keyword in ("properties", "$defs"):
        for name, inner in schema.get(keyword, {}).items():
            check_schema(inner, f"{place}.{keyword}.{name}")
    for keyword in ("anyOf", "allOf"):
        for number, inner in enumerate(schema.get(keyword, [])):
            check_schema(inner, f"{place}.{keyword}.{number}")
    if "items" in schema:
        check_schema(schema["items"], f"{place}.items")
