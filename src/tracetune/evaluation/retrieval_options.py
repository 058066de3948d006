"""Parameters of the judgement of encoders, as they stand under ``retrieval``."""

from __future__ import annotations

from pydantic import Field

from tracetune.options import Options


class RetrievalGateOptions(Options):
    """When an encoder may be promoted."""

    margin: float = Field(
        default=0.02, ge=0, le=1, description="nDCG@10 by which it may fall behind BM25"
    )


class RetrievalOptions(Options):
    """How held-out queries are ranked and judged."""

    batch_size: int = Field(default=64, ge=1, description="texts encoded at once")
    latency_queries: int = Field(
        default=24,
        ge=0,
        description="queries answered one at a time to measure latency, spread evenly",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the encoders; none: what the machine gives"
    )
    bootstrap: int = Field(default=2000, ge=100, description="draws of the paired bootstrap")
    seed: int = Field(default=17, ge=0, description="seed of the bootstrap")
    examples: int = Field(default=5, ge=0, description="wins and losses kept for the report")
    gate: RetrievalGateOptions = RetrievalGateOptions()
