"""What goes to whoever writes text, and what comes back: one interface for all providers.

A request says what is wanted and in which form; a result says what became of it, what it cost, and
holds the answer as JSON values. Domains make requests and read results; providers know no domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import Field, model_validator

from tracetune.errors import ServerError
from tracetune.records import Record, Text

Outcome = Literal[
    "answered", "refused", "truncated", "invalid", "failed", "expired", "lost", "over_budget"
]

OUTCOMES: dict[str, str] = {
    "answered": "an answer in the form that was asked for",
    "refused": "the model declined",
    "truncated": "the answer was cut at max_tokens",
    "invalid": "the answer is not in the form that was asked for",
    "failed": "the service refused the request or failed on it",
    "expired": "the batch ended before the request was worked on; nothing was paid",
    "lost": "it was sent and no reply came; it may have been paid, so it is not sent again",
    "over_budget": "not sent: it could have passed the budget",
}
"""Outcomes in words for people."""


class Grammar(Record):
    """What the offline generator writes from; a large model never sees it.

    Attributes:
        items: Forms of one item: JSON values whose strings hold slots, ``{name}``. A slot has one
            value throughout an item; ``{name#2}`` is a second, independent draw.
        rules: Slot → alternatives that may hold slots themselves.
        values: Slot → texts that are taken as they are.
        count: How many items are wanted.
        key: The answer is an object with the items under this key.
    """

    items: list[Any] = Field(min_length=1)
    rules: dict[str, list[Text]] = Field(default_factory=dict)
    values: dict[str, list[Text]] = Field(default_factory=dict)
    count: int = Field(ge=1)
    key: str = "items"

    @model_validator(mode="after")
    def _check(self) -> Grammar:
        both = sorted(set(self.rules) & set(self.values))
        if both:
            raise ValueError(f"slots with rules and values: {', '.join(both)}")
        empty = sorted(k for k, v in {**self.rules, **self.values}.items() if not v)
        if empty:
            raise ValueError(f"slots without an alternative: {', '.join(empty)}")
        return self


class TextRequest(Record):
    """One piece of text that is wanted.

    Attributes:
        id: Unique among the requests of one tenant and name; part of what is paid once.
        system: What the writer is told first; equal texts of many requests can be cached.
        prompt: What is wanted.
        answer_schema: JSON Schema of the answer. Maps with open keys
            (``additionalProperties: {...}``) are allowed; providers that cannot express them carry
            them as lists of name and value and give them back as maps.
        max_tokens: Longest answer; None: the provider's parameter.
        cell: The part of the plan it belongs to, for reports.
        grammar: For the offline generator.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")
    system: Text
    prompt: Text
    answer_schema: dict[str, Any]
    max_tokens: int | None = Field(default=None, ge=1)
    cell: str = ""
    grammar: Grammar | None = None


class Usage(Record):
    """Tokens of one or more requests."""

    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cache_read_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)


class TextResult(Record):
    """What became of one request.

    Attributes:
        id: Of the request.
        outcome: See :data:`OUTCOMES`.
        value: The answer as JSON values that fit the schema; None unless ``answered``.
        reason: Why there is no answer, for people; empty if there is one.
        usage: Tokens that were paid.
        usd: What it cost by the price table; an estimate, as every price here.
    """

    id: str
    outcome: Outcome
    value: Any = None
    reason: str = ""
    usage: Usage = Usage()
    usd: float = Field(default=0.0, ge=0)


class Unfinished(ServerError):
    """What was sent is not done yet. It is kept, and the same call picks it up another day."""


class TextWriter(Protocol):
    """Who writes text."""

    @property
    def label(self) -> str:
        """Name for reports: ``offline generator``, ``Anthropic claude-haiku-5-5``."""
        ...

    def known(self, requests: Sequence[TextRequest]) -> set[str]:
        """Ids of the requests that would not be sent: what became of them is kept for good."""
        ...

    def write(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        """One result per request, in the order given.

        Nothing that was paid for is paid again: replies are kept, and asked for first.

        Raises:
            ConfigurationError: Key, address or model are not usable.
            Unfinished: The service has not done its work in the time it was given.
            ServerError: The service cannot be reached or is not what it should be.
        """
        ...
