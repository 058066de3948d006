"""Parameters of the export, as they stand under ``export`` in the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracetune.options import Options

Quant = Literal["q4_k_m", "q5_k_m", "q6_k", "q8_0", "f16"]


class ExportOptions(Options):
    """What is exported, and as what."""

    source: str | None = Field(
        default=None,
        alias="from",
        description="pipeline whose newest trained release is taken; none: the newest of all",
    )
    quant: Quant = Field(default="q4_k_m", description="number format of the matrices")
    context: int = Field(
        default=4096, ge=64, description="longest conversation in tokens, at most the model's own"
    )
    threads: int = Field(default=2, ge=1, description="CPU threads of conversion and gates")
    nll_tokens: int = Field(
        default=64, ge=1, description="tokens over which the negative log-likelihood is taken"
    )
