"""What became of many requests: outcomes, problems, tokens and cost, counted in one place."""

from __future__ import annotations

from collections import Counter

from tracetune.llm.contracts import TextResult


class Tally:
    """Counts over results whose answers are lists of items.

    Attributes:
        outcomes: Requests by what became of them.
        problems: Reasons of requests without an answer, each once, in the order they came.
        tokens: Tokens read (``input``) and written (``output``).
        usd: Estimated cost.
        written: Items in the answers.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.problems: dict[str, None] = {}
        self.tokens: Counter[str] = Counter()
        self.usd = 0.0
        self.written = 0

    def items(self, result: TextResult) -> list[object]:
        """The items in a result, counted; none if it was not answered."""
        self.outcomes[result.outcome] += 1
        self.tokens.update(input=result.usage.input_tokens, output=result.usage.output_tokens)
        self.usd += result.usd
        if result.outcome != "answered":
            self.problems[f"{result.outcome}: {result.reason}"] = None
            return []
        found: list[object] = list(result.value["items"])
        self.written += len(found)
        return found
