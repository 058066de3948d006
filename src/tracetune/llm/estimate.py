"""What requests could cost at most, before anybody is asked: for dry runs."""

from __future__ import annotations

from collections.abc import Sequence

from tracetune.files import canonical_json
from tracetune.llm.contracts import TextRequest
from tracetune.llm.options import LlmOptions

CHARACTERS_PER_TOKEN = 3.0
"""Fewer than English text has per token (about 4), so that the estimate is rather too high."""


def most_usd(requests: Sequence[TextRequest], options: LlmOptions) -> float:
    """The most that requests can cost by the price table: every answer as long as allowed.

    Nothing is asked for it: tokens of the input are estimated from its characters. A real run
    counts them exactly before anything is sent.

    Args:
        requests: What would be asked.
        options: Provider, model, mode and prices.
    """
    if options.provider == "offline":
        return 0.0
    price = options.prices.models[options.model]
    factor = options.prices.batch if options.mode == "batch" else 1.0
    total = 0.0
    for request in requests:
        text = request.system + request.prompt + canonical_json(request.answer_schema)
        total += len(text) / CHARACTERS_PER_TOKEN * price.input
        total += (request.max_tokens or options.max_tokens) * price.output
    return round(total * factor / 1e6, 4)
