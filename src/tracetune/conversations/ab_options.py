"""Parameters of the judgement of ``twin``: how answers are made, and what they are held to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracetune.conversations.regression import SuiteOptions
from tracetune.options import Options


class AbOptions(Options):
    """The A/B comparison on held-out prompts."""

    against: Literal["base", "previous", "sft"] = Field(
        "base",
        description="Whom the judged adapter is held against: the base model, the adapter that was "
        "released before, or the SFT adapter.",
    )
    context_chars: int = Field(
        6_000, ge=500, description="Most characters of the conversation that the judge sees."
    )
    max_tokens: int = Field(
        1_000, ge=50, description="Longest reply of the judge; thinking counts."
    )


class TwinGateOptions(Options):
    """When an adapter may be promoted."""

    margin: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Policy score by which the adapter may fall behind the best cheap baseline.",
    )


class TwinEvaluationOptions(Options):
    """How answers are made and judged."""

    max_new_tokens: int = Field(
        256, ge=1, description="Longest answer in tokens; a longer one is cut and counted."
    )
    batch_size: int = Field(32, ge=1, description="Prompts answered at once.")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of the model; none: what the machine gives."
    )
    bootstrap: int = Field(2000, ge=100, description="Draws of the bootstrap.")
    seed: int = Field(17, ge=0, description="Seed of the bootstrap.")
    suite: SuiteOptions = Field(SuiteOptions(), description="When the regression suite is passed.")
    ab: AbOptions = Field(AbOptions(), description="The A/B comparison.")
    gate: TwinGateOptions = Field(TwinGateOptions(), description="When it may be promoted.")
