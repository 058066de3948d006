"""Which conversations are trained on: one division for turns, pairs and evaluation cases."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from tracetune.errors import DataError
from tracetune.near_rows import NearOptions
from tracetune.records import Example, Preference, Rating
from tracetune.splits import SplitManifest, SplitOptions, assign_by_hash, verify


class SideOptions(NearOptions):
    """How conversations are divided."""

    test_share: float = Field(0.1, gt=0, lt=1, description="Share of the rows held out for test.")
    validation_share: float = Field(
        0.1, ge=0, lt=1, description="Share of the rows set aside for validation."
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> SideOptions:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("test_share and validation_share leave nothing to train on")
        return self


def divide(
    rows: Sequence[Example | Preference | Rating], *, options: SideOptions, seed: int
) -> SplitManifest:
    """Divides rows by conversation; conversations with nearly the same requests stay together.

    Args:
        rows: Turns, pairs and evaluation cases together.
        options: Shares and thresholds.
        seed: Seed of the hash.

    Raises:
        DataError: There is no row.
    """
    if not rows:
        raise DataError(
            "there is nothing to train on",
            where="rows of conversations",
            remedy="look into the report of the surgery: which rules left the answers out",
        )
    manifest = assign_by_hash(
        rows,
        test_share=options.test_share,
        options=SplitOptions(
            validation_share=options.validation_share / (1 - options.test_share),
            near_duplicate=options.near_duplicate,
            shingle=options.shingle,
        ),
        seed=seed,
    )
    verify(manifest, rows)
    return manifest
