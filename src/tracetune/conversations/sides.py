"""Which conversations are trained on: one division for turns, pairs and evaluation cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pydantic import Field, model_validator

from tracetune.errors import DataError
from tracetune.files import sha256_json
from tracetune.near_rows import NearOptions, clusters
from tracetune.records import Example, Preference, Rating, Split
from tracetune.splits import Place, SplitManifest, SplitOptions, make_manifest, verify

Rows = Sequence[Example | Preference | Rating]
Stratum = tuple[str, bool]
"""Kind of work of a conversation, and whether an evaluation case is in it."""

NO_TASK = "none"
"""Kind of work of a conversation that holds nothing but evaluation cases."""


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


def divide(rows: Rows, *, options: SideOptions, seed: int) -> SplitManifest:
    """Divides rows by conversation, each kind of work and the evaluation cases by the same shares.

    Conversations with nearly the same requests stay together. What stays together is one unit; its
    stratum is the most frequent task type of its rows, and whether evaluation cases are among them.
    The smallest strata are divided first, the units of each in the order of a seeded hash: a unit
    goes to the side that lacks most. What a stratum is too small to give to a side is asked of the
    next one, so that the shares hold over all rows.

    Args:
        rows: Turns, pairs and evaluation cases together.
        options: Shares and thresholds.
        seed: Seed of the hash.

    Raises:
        DataError: There is no row, or a row id stands twice.
    """
    if not rows:
        raise DataError(
            "there is nothing to train on",
            where="rows of conversations",
            remedy="look into the report of the surgery: which rules left the answers out",
        )
    by_id = {row.id: row for row in rows}
    if len(by_id) != len(rows):
        raise DataError("a row id stands twice", where="rows of conversations")
    strata: dict[Stratum, list[list[str]]] = defaultdict(list)
    for ids in clusters(rows, options):
        strata[stratum_of([by_id[row_id] for row_id in ids])].append(ids)
    side_of = _fill(strata, options, seed)
    manifest = make_manifest(
        "strata",
        {row.id: Place(split=side_of[row.id], group=row.provenance.group) for row in rows},
        SplitOptions(
            validation_share=options.validation_share / (1 - options.test_share),
            near_duplicate=options.near_duplicate,
            shingle=options.shingle,
        ),
        seed,
        None,
    )
    verify(manifest, rows)
    return manifest


def stratum_of(rows: Rows) -> Stratum:
    """The most frequent task type of some rows (of several the first by name), and evaluations."""
    types = Counter(row.tags["task_type"] for row in rows if not isinstance(row, Rating))
    main = min(types, key=lambda name: (-types[name], name), default=NO_TASK)
    return main, any(isinstance(row, Rating) for row in rows)


def _fill(
    strata: Mapping[Stratum, Sequence[list[str]]], options: SideOptions, seed: int
) -> dict[str, Split]:
    """The side of every row."""
    shares: dict[Split, float] = {
        "train": 1 - options.test_share - options.validation_share,
        "validation": options.validation_share,
        "test": options.test_share,
    }
    sizes = {name: sum(map(len, units)) for name, units in strata.items()}
    lacking: dict[Split, float] = dict.fromkeys(shares, 0.0)
    side_of: dict[str, Split] = {}
    for name in sorted(strata, key=lambda name: (sizes[name], name)):
        for side, share in shares.items():
            lacking[side] += share * sizes[name]
        for ids in sorted(strata[name], key=lambda ids: sha256_json([seed, ids[0]])):
            side = max(shares, key=lambda side: lacking[side])  # of equals the first: training
            lacking[side] -= len(ids)
            side_of |= dict.fromkeys(ids, side)
    return side_of
