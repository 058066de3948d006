"""Parameters of EISV data: what is read, how it is cut, filled up and divided."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tracetune.eisv.recording import BadStates
from tracetune.eisv.synthetic import MIN_POINTS
from tracetune.options import Options
from tracetune.splits_blocks import BlockOptions


class WindowOptions(Options):
    """How a recording is cut into windows."""

    size: int = Field(20, ge=2, description="States in a window.")
    stride: int = Field(10, ge=1, description="States from the start of a window to the next.")
    max_gap_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Longest step within a window in seconds; null: 3 times the median interval.",
    )


class MixOptions(Options):
    """How generated trajectories join the measured ones."""

    min_per_shape: int = Field(
        50, ge=0, description="Each shape is filled up to this many; 0 generates nothing."
    )
    points: int = Field(20, ge=MIN_POINTS, description="States in a generated window.")
    interval_s: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Seconds between two generated states."
    )


class EisvDataOptions(Options):
    """From a source to divided trajectories."""

    source: Literal["anima", "published", "none"] = Field(
        "anima",
        description="The database, the published table, or none: generated trajectories only.",
    )
    bad_states: BadStates = Field(
        "stop",
        description="States that hold no number in [0, 1]: an error, or dropped and counted.",
    )
    windows: WindowOptions = WindowOptions()
    mix: MixOptions = MixOptions()
    split: BlockOptions = BlockOptions()

    @model_validator(mode="after")
    def _gives_something(self) -> EisvDataOptions:
        if self.source == "none" and self.mix.min_per_shape == 0:
            raise ValueError("without a source min_per_shape must be at least 1")
        return self
