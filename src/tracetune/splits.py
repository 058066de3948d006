"""The one authority on train, validation and test.

A manifest says for every row on which side it is and, if it was dropped, why. Rows that belong
together (same group, or nearly the same text) are never divided. Nothing depends on the order in
which rows come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import DataError
from tracetune.files import sha256_json
from tracetune.near_rows import NearOptions, PromptRow, clusters, near_between
from tracetune.records import (
    EisvTrajectory,
    Example,
    Preference,
    Rating,
    SearchQuery,
    Split,
    Triplet,
    UtcTime,
)
from tracetune.splits_blocks import BlockOptions, divide, overlaps

AnyRow = TypeVar("AnyRow", Example, Preference, Rating, Triplet, SearchQuery, EisvTrajectory)
WindowRow = PromptRow | EisvTrajectory

DropReason = Literal["same_session", "near_test", "near_validation", "gap"]

Method = Literal["time", "hash", "block", "strata"]

VALIDATION_ABOVE = 100
"""Up to this many training rows (of the larger kind) none are set aside (source document 003)."""
_SHOWN = 5


class SplitOptions(NearOptions):
    """How rows are divided."""

    validation_share: float = Field(
        0.1, ge=0, lt=1, description="Share of the training rows set aside for validation."
    )


class Place(BaseModel):
    """Where one row went.

    Attributes:
        split: Its side.
        reason: Why it was dropped: ``same_session``, ``near_test``, ``near_validation`` or, of
            windows too near to a held-out one, ``gap``; else None.
        group: The unit it must not be separated from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: Split
    reason: DropReason | None = None
    group: str


class SplitManifest(BaseModel):
    """Every row of one (tenant, name, pipeline) and its side.

    Attributes:
        format: Version of this document.
        method: ``time`` (telemetry), ``hash`` (data without time), ``block`` (time series) or
            ``strata`` (conversations).
        seed: Seed of the draw.
        options: How rows were divided.
        test_start: Cut-off of the method ``time``, else None.
        counts: Rows by kind (``sft``, ``pair``, ``triplet``, ``query``, ``eisv``) and side.
        dropped: Dropped rows by kind and reason.
        rows: Row id → place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    method: Method
    seed: int
    options: SplitOptions | BlockOptions
    test_start: UtcTime | None
    counts: dict[str, dict[str, int]]
    dropped: dict[str, dict[str, int]]
    rows: dict[str, Place]

    def place(self, row_id: str) -> Place:
        """Where a row went.

        Raises:
            DataError: If the manifest does not know it.
        """
        try:
            return self.rows[row_id]
        except KeyError:
            raise DataError(
                "the split manifest does not know this row",
                where=f"row {row_id}",
                remedy="rows and manifest come from different runs; run the pipeline anew",
            ) from None

    def select(self, rows: Iterable[AnyRow], split: Split) -> list[AnyRow]:
        """The rows of one side, in the order given."""
        return [row for row in rows if self.place(row.id).split == split]

    def count(self, kind: str, split: Split) -> int:
        """How many rows of a kind (``sft``, ``pair``) are on a side."""
        return self.counts.get(kind, {}).get(split, 0)


def assign_by_time(
    rows: Sequence[PromptRow],
    *,
    test_start: datetime,
    test_groups: Collection[str],
    options: SplitOptions,
    seed: int,
) -> SplitManifest:
    """Divides rows by a cut-off time and by group; the test side wins.

    Rows from ``test_start`` on are test rows. Of the earlier ones a row is dropped if its group
    reaches into the test window (``same_session``) or if its prompt is nearly that of a test row
    (``near_test``). From the rest a validation set is drawn in whole clusters of groups and
    near-duplicates, if there are more than 100 rows.

    Args:
        rows: Examples and preferences together; both share one manifest.
        test_start: Start of the test window (aware).
        test_groups: Groups known to reach into the test window, also where no test row says so.
        options: Shares and thresholds.
        seed: Seed of the validation draw.

    Raises:
        DataError: If a row id stands twice or a row has no time.
    """
    _check_ids(rows)
    timeless = [row.id for row in rows if row.provenance.created_at is None]
    if timeless:
        raise DataError(f"no time to divide by: {_some(timeless)}", where="provenance.created_at")
    tested = [row for row in rows if _time(row) >= test_start]
    groups = {row.provenance.group for row in tested} | set(test_groups)
    places: dict[str, Place] = {row.id: _place(row, "test") for row in tested}

    earlier = []
    for row in rows:
        if row.id in places:
            continue
        if row.provenance.group in groups:
            places[row.id] = _place(row, "dropped", "same_session")
        else:
            earlier.append(row)
    near = near_between(earlier, tested, options)
    places |= {row.id: _place(row, "dropped", "near_test") for row in earlier if row.id in near}
    training = [row for row in earlier if row.id not in near]
    places |= _draw(training, {"validation": _validation_share(training, options)}, options, seed)
    return make_manifest("time", places, options, seed, test_start)


def add_training_rows(
    manifest: SplitManifest, rows: Sequence[PromptRow], added: Sequence[PromptRow]
) -> SplitManifest:
    """A manifest with rows that may only be trained on: synthetic ones, which happened nowhere.

    What the manifest says of the other rows stays. An added row is dropped if its prompt is nearly
    that of a held-out row (``near_test``, ``near_validation``).

    Args:
        manifest: The manifest of ``rows``.
        rows: The rows it divides.
        added: The further rows.

    Raises:
        DataError: If a row id stands twice, or the manifest does not know one of ``rows``.
    """
    if isinstance(manifest.options, BlockOptions):
        raise DataError("a division by blocks takes no further rows", where="split manifest")
    _check_ids([*rows, *added])
    places = {row.id: manifest.place(row.id) for row in rows}
    reasons: dict[str, DropReason] = {}
    sides: tuple[tuple[Split, DropReason], ...] = (
        ("validation", "near_validation"),
        ("test", "near_test"),
    )
    for split, reason in sides:
        held = [row for row in rows if places[row.id].split == split]
        reasons |= dict.fromkeys(near_between(added, held, manifest.options), reason)
    for row in added:
        found = reasons.get(row.id)
        places[row.id] = _place(row, "dropped" if found else "train", found)
    return make_manifest(
        manifest.method, places, manifest.options, manifest.seed, manifest.test_start
    )


def assign_by_hash(
    rows: Sequence[PromptRow], *, test_share: float, options: SplitOptions, seed: int
) -> SplitManifest:
    """Divides rows that have no time: whole clusters, in the order of a seeded hash.

    Clusters are groups and near-duplicates joined. The first clusters fill the test side, the next
    the validation side (if more than 100 rows are left), the rest is training.

    Args:
        rows: Examples and preferences together.
        test_share: Share of all rows that is held out, in (0, 1).
        options: Shares and thresholds.
        seed: Seed of the hash.

    Raises:
        DataError: If a row id stands twice.
    """
    _check_ids(rows)
    left = round(len(rows) * (1 - test_share))
    share = options.validation_share if left > VALIDATION_ABOVE else 0.0
    shares = {"test": test_share, "validation": share * (1 - test_share)}
    return make_manifest("hash", _draw(rows, shares, options, seed), options, seed, None)


def assign_by_block(
    rows: Sequence[WindowRow], *, options: BlockOptions, seed: int
) -> SplitManifest:
    """Divides windows of time series by blocks of time, and generated rows within their shape.

    Args:
        rows: Trajectories, or examples made from them with their ids, tags and groups.
        options: Shares, number of blocks, gap.
        seed: Seed of the choice.

    Raises:
        DataError: If a row id stands twice, a row says nothing of its window, or there are too few.
    """
    _check_ids(rows)
    placed = divide(rows, options, seed)
    places = {row.id: _place(row, *placed[row.id]) for row in rows}
    return make_manifest("block", places, options, seed, None)


def verify(manifest: SplitManifest, rows: Sequence[WindowRow]) -> None:
    """Checks a manifest against the rows, from nothing but the rows.

    Between test and training or validation, and between validation and training, no group, no
    content and no near-duplicate may be shared; by time, nothing may be trained on from the test
    window. Windows of time series may share no state and keep the gap; shingles of their numbers
    say nothing, so that of their texts only equal ones count.

    Raises:
        DataError: If anything overlaps or a row is missing; the message names the rows.
    """
    _check_ids(rows)
    unknown = sorted(set(manifest.rows) - {row.id for row in rows})
    if unknown:
        raise DataError(f"the manifest knows rows that do not exist: {_some(unknown)}")
    sides: dict[Split, list[WindowRow]] = defaultdict(list)
    for row in rows:
        sides[manifest.place(row.id).split].append(row)
    late = [
        row.id
        for row in (*sides["train"], *sides["validation"])
        if manifest.test_start is not None
        and row.provenance.created_at is not None
        and row.provenance.created_at >= manifest.test_start
    ]
    if late:
        raise _overlap("start in the test window but are not test rows", late)
    timeless = [
        row.id
        for row in (*sides["test"], *sides["validation"])
        if manifest.test_start is not None and row.provenance.created_at is None
    ]
    if timeless:
        raise DataError(
            f"{len(timeless)} held-out rows have no time and can only be trained on: "
            f"{_some(timeless)}",
            where="split manifest",
            remedy="the manifest was changed; run the pipeline from the start",
        )

    fitted = [*sides["train"], *sides["validation"]]
    for name, one, other in (
        ("test", fitted, sides["test"]),
        ("validation", sides["train"], sides["validation"]),
    ):
        held_groups = {row.provenance.group for row in other}
        held_contents = {row.provenance.content_hash for row in other}
        same_group = [row.id for row in one if row.provenance.group in held_groups]
        same_content = [row.id for row in one if row.provenance.content_hash in held_contents]
        for what, found in (
            ("share a group", same_group),
            ("have the content", same_content),
            ("are near-duplicates", _near(one, other, manifest)),
        ):
            if found:
                raise _overlap(f"{what} of a {name} row", found)
    if isinstance(manifest.options, BlockOptions):
        split_of = {row_id: place.split for row_id, place in manifest.rows.items()}
        for what, found in overlaps(rows, split_of, manifest.options):
            raise _overlap(what, found)


def _near(
    rows: Sequence[WindowRow], held: Sequence[WindowRow], manifest: SplitManifest
) -> list[str]:
    if isinstance(manifest.options, BlockOptions):
        return []
    texts = [row for row in rows if not isinstance(row, EisvTrajectory)]
    held_texts = [row for row in held if not isinstance(row, EisvTrajectory)]
    return sorted(near_between(texts, held_texts, manifest.options))


def _overlap(what: str, ids: list[str]) -> DataError:
    return DataError(
        f"{len(ids)} training or validation rows {what}: {_some(ids)}",
        where="split manifest",
        remedy="the manifest was changed or belongs to other rows; run the pipeline from the start",
    )


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(sorted(ids)[:_SHOWN])
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _check_ids(rows: Sequence[WindowRow]) -> None:
    twice = [row_id for row_id, times in Counter(row.id for row in rows).items() if times > 1]
    if twice:
        raise DataError(f"row ids stand twice: {_some(twice)}", where="rows")


def _time(row: PromptRow) -> datetime:
    assert row.provenance.created_at is not None
    return row.provenance.created_at


def _place(row: WindowRow, split: Split, reason: DropReason | None = None) -> Place:
    return Place(split=split, reason=reason, group=row.provenance.group)


def _kind(row_id: str) -> str:
    return row_id.partition("-")[0]


def _validation_share(rows: Sequence[PromptRow], options: SplitOptions) -> float:
    kinds = Counter(_kind(row.id) for row in rows)
    return options.validation_share if max(kinds.values(), default=0) > VALIDATION_ABOVE else 0.0


def _draw(
    rows: Sequence[PromptRow], shares: Mapping[str, float], options: SplitOptions, seed: int
) -> dict[str, Place]:
    """Fills each side with whole clusters up to its share, in the order of a seeded hash.

    A cluster that would overfill a side is passed over; what no side takes is training.
    """
    by_id = {row.id: row for row in rows}
    ordered = sorted(clusters(rows, options), key=lambda ids: sha256_json([seed, ids[0]]))
    split_of: dict[str, Split] = {}
    for name, share in shares.items():
        side: Split = "test" if name == "test" else "validation"
        room = round(share * len(rows))
        for ids in ordered:
            if ids[0] not in split_of and len(ids) <= room:
                room -= len(ids)
                split_of |= dict.fromkeys(ids, side)
    return {row_id: _place(row, split_of.get(row_id, "train")) for row_id, row in by_id.items()}


def make_manifest(
    method: Method,
    places: Mapping[str, Place],
    options: SplitOptions | BlockOptions,
    seed: int,
    test_start: datetime | None,
) -> SplitManifest:
    """The document of these places, with its counts."""
    counts: dict[str, dict[str, int]] = {}
    dropped: dict[str, dict[str, int]] = {}
    for row_id in sorted(places):
        place, kind = places[row_id], _kind(row_id)
        sides = counts.setdefault(
            kind, dict.fromkeys(("train", "validation", "test", "dropped"), 0)
        )
        reasons = dropped.setdefault(kind, {"same_session": 0, "near_test": 0})
        sides[place.split] += 1
        if place.reason is not None:
            reasons[place.reason] = reasons.get(place.reason, 0) + 1
    return SplitManifest(
        method=method,
        seed=seed,
        options=options,
        test_start=test_start,
        counts=counts,
        dropped=dropped,
        rows={row_id: places[row_id] for row_id in sorted(places)},
    )
