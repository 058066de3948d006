"""Parameters of the judgement of the heads, as they stand under ``heads_evaluation``."""

from __future__ import annotations

from pydantic import Field

from tracetune.options import Options


class HeadsEvaluationOptions(Options):
    """How the heads are judged on held-out conversations."""

    bootstrap: int = Field(2000, ge=100, description="Draws of the bootstrap over conversations.")
    seed: int = Field(17, ge=0, description="Seed of the bootstrap and of shuffled coordinates.")
    neighbours: tuple[int, ...] = Field(
        (1, 5), min_length=1, description="Numbers of neighbours for the recall of the style head."
    )
    margin: float = Field(
        0.02, ge=0, le=1, description="By how much a head may fall behind its best cheap baseline."
    )
