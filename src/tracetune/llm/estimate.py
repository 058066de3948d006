"""What requests could cost at most, before anybody is asked: for dry runs."""

from __future__ import annotations

from collections.abc import Sequence

from tracetune.files import canonical_json
from tracetune.llm.contracts import TextRequest
from tracetune.llm.options import LlmOptions


def most_usd(requests: Sequence[TextRequest], options: LlmOptions) -> float:
    """The most that requests can cost by the price table: every answer as long as allowed.

    Nothing is asked for it: no text has more tokens than bytes, and all input is counted at the
    price of a cache write. A real run has the tokens counted before anything is sent.

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
        total += len(text.encode("utf-8")) * price.input * max(1.0, options.prices.cache_write)
        total += (request.max_tokens or options.max_tokens) * price.output
    return round(total * factor / 1e6, 4)
