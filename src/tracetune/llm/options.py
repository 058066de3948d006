"""Parameters of text written for training data: who writes, how, and for how much at most."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tracetune.options import Options


def _iso_day(text: str) -> str:
    date.fromisoformat(text)
    return text


class ModelPrice(Options):
    """US dollars per million tokens."""

    input: float = Field(ge=0, description="Tokens read.")
    output: float = Field(ge=0, description="Tokens written.")


class PriceTable(Options):
    """Prices as they stood on a day. They change: every cost computed from them is an estimate."""

    as_of: Annotated[str, AfterValidator(_iso_day)] = Field(
        "2026-10-15", description="Day on which the prices were read (ISO)."
    )
    models: dict[str, ModelPrice] = Field(
        {
            "claude-haiku-5-5": ModelPrice(input=0.10, output=0.50),
            "claude-sonnet-5-5": ModelPrice(input=2.0, output=10.0),
            "claude-opus-5-5": ModelPrice(input=4.0, output=20.0),
            "claude-opus-5": ModelPrice(input=5.0, output=25.0),
            "claude-fable-5-1": ModelPrice(input=10.0, output=50.0),
            "claude-haiku-4-5": ModelPrice(input=1.0, output=5.0),
        },
        description="Model id → price; a model that is not listed cannot be used with a budget.",
    )
    batch: float = Field(0.5, gt=0, le=1, description="Factor for Message Batches.")
    cache_read: float = Field(0.1, ge=0, description="Factor on input read from the cache.")
    cache_write: float = Field(1.25, ge=0, description="Factor on input written to the cache.")
    cache_minimum: dict[str, int] = Field(
        {"claude-opus-5": 512, "claude-fable-5-1": 512, "claude-haiku-4-5": 4096},
        description="Model id → tokens below which the service caches nothing (its documentation, "
        "2026).",
    )
    cache_minimum_unknown: int = Field(
        4096, ge=1, description="The same for models that are not listed: the largest known."
    )


class LlmOptions(Options):
    """Who writes text for training data.

    The key is not here: it belongs to ``conf/local/credentials.yml``.
    """

    provider: Literal["offline", "anthropic"] = Field(
        "offline", description="The offline generator (no network), or Anthropic's API."
    )
    model: str = Field("claude-haiku-5-5", min_length=1, description="Model id.")
    effort: Literal["low", "medium", "high"] | None = Field(
        "low", description="How much the model thinks; None: as the service decides."
    )
    mode: Literal["batch", "direct"] = Field(
        "batch",
        description="Message Batches (half the price, survives every interruption), or one request "
        "after the other (sooner; a reply that is lost on the way is not asked for again).",
    )
    base_url: str | None = Field(None, description="Address of the service; None: the vendor's.")
    budget_usd: float = Field(
        5.0, ge=0, description="Most that one tenant and name may spend, over all runs."
    )
    max_tokens: int = Field(4_000, ge=1, le=21_000, description="Longest answer of a request.")
    concurrency: int = Field(4, ge=1, le=64, description="Requests at a time (direct).")
    batch_size: int = Field(500, ge=1, le=10_000, description="Most requests per batch.")
    timeout: float = Field(
        600.0,
        gt=0,
        description="Seconds without an answer after which a call is given up. A direct request "
        "that is given up may have been paid, so this is long.",
    )
    attempts: int = Field(6, ge=1, description="Tries of a call that costs nothing when it fails.")
    poll_seconds: float = Field(20.0, gt=0, description="Between two looks at a batch.")
    deadline_hours: float = Field(
        26.0, gt=0, description="Longest wait for a batch; it can be picked up after that."
    )
    prices: PriceTable = Field(PriceTable(), description="What tokens cost.")

    @model_validator(mode="after")
    def _priced(self) -> LlmOptions:
        if self.provider == "anthropic" and self.model not in self.prices.models:
            raise ValueError(
                f"llm.prices.models has no price of {self.model!r}, so no budget can be kept; "
                f"priced: {', '.join(self.prices.models)}"
            )
        return self
