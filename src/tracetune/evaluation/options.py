"""Parameters of the judgement, as they stand under ``evaluation`` in the configuration."""

from __future__ import annotations

from pydantic import Field

from tracetune.options import Options


class GateOptions(Options):
    """When an adapter may be promoted."""

    alpha: float = Field(
        default=0.05, gt=0, lt=1, description="the McNemar p-value must lie below this"
    )
    margin: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="accuracy by which the adapter may fall behind the best cheap baseline",
    )


class EvaluationOptions(Options):
    """How answers are made and judged."""

    max_new_tokens: int = Field(
        default=64, ge=1, description="longest answer in tokens; a longer one is cut and counted"
    )
    batch_size: int = Field(default=32, ge=1, description="prompts answered at once")
    latency_rows: int = Field(
        default=24,
        ge=0,
        description="rows answered one at a time to measure latency, spread evenly over the set",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the model; none: what the machine gives"
    )
    bootstrap: int = Field(default=2000, ge=100, description="draws of the paired bootstrap")
    seed: int = Field(default=17, ge=0, description="seed of the bootstrap")
    examples: int = Field(
        default=5, ge=0, description="examples of each kind (win, loss …) kept for the report"
    )
    top_k: int = Field(
        default=3, ge=1, description="best answers among which the right one is looked for; 1: none"
    )
    top_k_rows: int = Field(
        default=96,
        ge=1,
        description="rows for which the best answers are searched, spread evenly over the set",
    )
    gate: GateOptions = GateOptions()
