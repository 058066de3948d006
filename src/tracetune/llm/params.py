"""What is sent to Anthropic for a request, and the hash that says which request it is."""

from __future__ import annotations

from typing import Any

from tracetune.files import sha256_json
from tracetune.llm.contracts import TextRequest
from tracetune.llm.options import LlmOptions


def request_hash(request: TextRequest, options: LlmOptions) -> str:
    """SHA-256 of all that decides the answer; the mode and the cache do not."""
    return sha256_json(
        {
            "id": request.id,
            "model": options.model,
            "effort": options.effort,
            "system": request.system,
            "prompt": request.prompt,
            "schema": request.answer_schema,
            "max_tokens": request.max_tokens or options.max_tokens,
        }
    )


def message_params(
    request: TextRequest, options: LlmOptions, asked: dict[str, Any], *, cached: bool
) -> dict[str, Any]:
    """Parameters of ``/v1/messages`` for a request.

    Args:
        request: The request.
        options: Model, effort and length.
        asked: Schema of the answer as the service takes it.
        cached: Whether the service should keep the system text for the next request.
    """
    output: dict[str, Any] = {"format": {"type": "json_schema", "schema": asked}}
    if options.effort is not None:
        output["effort"] = options.effort
    system: dict[str, Any] = {"type": "text", "text": request.system}
    if cached:
        system["cache_control"] = {"type": "ephemeral"}
    return {
        "model": options.model,
        "max_tokens": request.max_tokens or options.max_tokens,
        "system": [system],
        "messages": [{"role": "user", "content": request.prompt}],
        "output_config": output,
    }
