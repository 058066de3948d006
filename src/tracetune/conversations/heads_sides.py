"""Which conversations heads are trained on: one division for both phases."""

from __future__ import annotations

from collections.abc import Sequence

from tracetune.conversations.heads_options import HeadsDataOptions
from tracetune.errors import DataError
from tracetune.records import Example, Split
from tracetune.splits import SplitManifest, SplitOptions, assign_by_hash, verify


def divide_answers(
    rows: Sequence[Example], *, options: HeadsDataOptions, seed: int
) -> SplitManifest:
    """Divides answers by conversation; conversations with nearly the same requests stay together.

    Args:
        rows: Rows of phase 1.
        options: Shares and thresholds.
        seed: Seed of the hash.

    Raises:
        DataError: There is no row.
    """
    if not rows:
        raise DataError(
            "no conversation has a request with an answer",
            where="data/01_raw/<tenant>/conversations",
            remedy="put exports of ChatGPT or Claude there, or plain JSONL (docs/twin.md)",
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


def side_of_conversations(manifest: SplitManifest) -> dict[str, Split]:
    """The side of every conversation that the manifest divides."""
    return {place.group: place.split for place in manifest.rows.values()}
