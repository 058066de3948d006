"""Parameters of synthetic rows."""

from __future__ import annotations

from pydantic import Field

from tracetune.options import Options


class SynthesisOptions(Options):
    """What is written when ``auto`` finds too little telemetry."""

    allowed: bool = Field(
        True, description="Write candidates when rows are missing; nobody's rows without review."
    )
    pairs: bool = Field(
        True, description="Write candidates for preference pairs too (a better and a worse answer)."
    )
    surplus: float = Field(
        0.25, ge=0, le=5, description="Share written beyond what is missing: reviewers reject some."
    )
    most: int = Field(200, ge=1, description="Most candidates that wait for people at a time.")
    per_request: int = Field(10, ge=1, le=50, description="Candidates per request to the writer.")
    rounds: int = Field(3, ge=1, le=20, description="Rounds of writing until the plan is full.")
    style_rows: int = Field(
        8, ge=0, le=50, description="Real requests shown to a large model as style, per request."
    )
