"""Dividing windows of a time series: blocks of time with a gap, and generated rows by shape.

Windows of one series overlap, so measured rows are divided by where they lie in time. The windows
stand in the order of their time and are cut into blocks; whole blocks are held out. Which ones is
searched, so that each held-out side gets its share of every shape as far as blocks allow. Rows that
lie nearer than the gap to a held-out row are dropped. Generated rows happened at no time; they are
drawn within their shape.

The rows are trajectories or what was made from them: they carry the tags ``shape`` and ``origin``,
and measured ones the ids of :func:`tracetune.records.window_ids`.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tracetune.errors import DataError
from tracetune.files import sha256_json
from tracetune.options import Options
from tracetune.records import Example, Preference, Rating, Row, Split
from tracetune.splits_search import TEST, TRAIN, VALIDATION, Costs, choose_blocks

BlockReason = Literal["gap", "near_test", "near_validation"]
Placed = tuple[Split, BlockReason | None]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MEASURED = "lumen_real"
FEWEST = 3
"""Fewer rows of a shape than there are sides are trained on."""
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class BlockOptions(Options):
    """How windows of a time series are divided."""

    test_share: float = Field(0.1, gt=0, lt=1, description="Share of the rows held out for test.")
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the rows set aside for validation."
    )
    blocks: int = Field(
        20, ge=3, description="Blocks of time; more follow the shapes better and lose more rows."
    )
    gap_windows: float = Field(
        1.0, ge=1, description="Least distance between two sides, in lengths of the longest window."
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> BlockOptions:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("test_share and validation_share leave nothing to train on")
        return self


@dataclass(frozen=True)
class Unit:
    """Rows of one group, which are never divided.

    Attributes:
        group: The group.
        shape: Its shape.
        series: Whose states they are; None of generated rows.
        start: Time of the first state.
        end: Time of the last state.
        rows: Ids of the rows.
    """

    group: str
    shape: str
    series: str | None
    start: float
    end: float
    rows: tuple[str, ...]


def units(rows: Sequence[Row]) -> list[Unit]:
    """Groups of rows, measured ones in the order of series and time, then generated ones.

    Raises:
        DataError: A row lacks the tags or ids that the split goes by.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.provenance.group].append(row)
    found = [_unit(group, members) for group, members in groups.items()]
    return sorted(found, key=lambda unit: (unit.series is None, unit.series or "", *_order(unit)))


def divide(rows: Sequence[Row], options: BlockOptions, seed: int) -> dict[str, Placed]:
    """Side of every row, by id.

    A group of training of which a row asks word for word what a held-out row asks is dropped as
    ``near_test`` or ``near_validation``.

    Args:
        rows: Trajectories, or rows made from them.
        options: Shares, number of blocks, gap.
        seed: Seed of the search and of the draw of generated rows.

    Raises:
        DataError: A row lacks tags or ids, or there are too few windows for the shares.
    """
    found = units(rows)
    measured = [unit for unit in found if unit.series is not None]
    generated = [unit for unit in found if unit.series is None]
    placed = _draw_generated(generated, options, seed)
    placed |= _draw_blocks(measured, options, seed)
    return placed | _same_questions(rows, placed)


def gaps(measured: Sequence[Unit], options: BlockOptions) -> dict[str, float]:
    """Least distance in seconds between two sides, by series."""
    longest: dict[str, float] = defaultdict(float)
    for unit in measured:
        assert unit.series is not None
        longest[unit.series] = max(longest[unit.series], unit.end - unit.start)
    return {series: options.gap_windows * length for series, length in longest.items()}


def overlaps(
    rows: Sequence[Row], split_of: Mapping[str, Split], options: BlockOptions
) -> list[tuple[str, list[str]]]:
    """What is wrong between the sides, with the ids of the rows of the lesser side.

    Between test and the rest, and between validation and training: shared states, a distance below
    the gap, the same question.
    """
    found = units(rows)
    measured = [unit for unit in found if unit.series is not None]
    wrong: list[tuple[str, list[str]]] = []
    needed = gaps(measured, options)
    for name, held, lesser in (
        ("test", {"test"}, {"train", "validation"}),
        ("validation", {"validation"}, {"train"}),
    ):
        shared: list[str] = []
        close: list[str] = []
        for series, gap in needed.items():
            one = [u for u in measured if u.series == series and _on(u, lesser, split_of)]
            other = [u for u in measured if u.series == series and _on(u, held, split_of)]
            sharing = touching(one, other, None)
            near = touching(one, other, gap) & ~sharing
            shared += [i for unit, bad in zip(one, sharing, strict=True) if bad for i in unit.rows]
            close += [i for unit, bad in zip(one, near, strict=True) if bad for i in unit.rows]
        asked = {question(row) for row in rows if split_of[row.id] in held}
        same = [r.id for r in rows if split_of[r.id] in lesser and question(r) in asked]
        wrong += [
            (f"share states with a {name} row", shared),
            (f"lie nearer than the gap to a {name} row", close),
            (f"ask the same as a {name} row", same),
        ]
    return [(what, ids) for what, ids in wrong if ids]


def touching(one: Sequence[Unit], other: Sequence[Unit], gap: float | None) -> Flags:
    """Which of ``one`` lie nearer than ``gap`` seconds to any of ``other``.

    Args:
        one: Units of one series.
        other: Units of the same series.
        gap: The distance; None asks for a shared moment.
    """
    if not one or not other:
        return np.zeros(len(one), dtype=np.bool_)
    starts, ends = _spans(one)
    held_starts, held_ends = _spans(sorted(other, key=lambda unit: unit.start))
    latest = np.maximum.accumulate(held_ends)
    distance = gap or 0.0
    # Of the held units that begin soon enough, the one that ends last decides.
    before = np.searchsorted(held_starts, ends + distance, "right" if gap is None else "left")
    last = np.where(before > 0, latest[np.maximum(before - 1, 0)], -np.inf)
    found: Flags = last >= starts if gap is None else last > starts - distance
    return found


def block_report(
    rows: Sequence[Row], placed: Mapping[str, Placed], options: BlockOptions
) -> dict[str, Any]:
    """What the division came to, as JSON values.

    Returns:
        ``gap_s`` by series; ``blocks``: series, from, to, side and windows of every stretch of time
        on one side; ``shapes``: rows by shape, origin and side; ``only_trained``: shapes of which
        an origin has too few rows to hold any out; ``untested``: shapes that no test row has.
    """
    found = units(rows)
    measured = [unit for unit in found if unit.series is not None]
    stretches: list[dict[str, Any]] = []
    for unit in measured:
        side = placed[unit.rows[0]][0]
        if side == "dropped":
            continue
        if not stretches or (stretches[-1]["series"], stretches[-1]["side"]) != (unit.series, side):
            stretches.append(
                {"series": unit.series, "from": unit.start, "side": side, "windows": 0}
            )
        stretches[-1]["windows"] += 1
        stretches[-1]["to"] = max(unit.end, stretches[-1].get("to", unit.end))
    shapes: dict[str, dict[str, dict[str, int]]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        origins = shapes.setdefault(row.tags["shape"], {})
        sides = origins.setdefault(row.tags["origin"], dict.fromkeys((*_SPLITS, "dropped"), 0))
        sides[placed[row.id][0]] += 1
    few = Counter((unit.shape, unit.series is None) for unit in found)
    return {
        "gap_s": gaps(measured, options),
        "blocks": stretches,
        "shapes": dict(sorted(shapes.items())),
        "only_trained": sorted({shape for (shape, _), count in few.items() if count < FEWEST}),
        "untested": sorted(
            shape
            for shape, origins in shapes.items()
            if not any(sides["test"] for sides in origins.values())
        ),
    }


def question(row: Row) -> str:
    """What a row asks: the user's text, or the content of a row that asks nothing."""
    if isinstance(row, Example | Preference | Rating):
        return "\n".join(turn.content for turn in row.prompt if turn.role == "user")
    return row.provenance.content_hash


def _on(unit: Unit, sides: set[str], split_of: Mapping[str, Split]) -> bool:
    return any(split_of[row_id] in sides for row_id in unit.rows)


def _order(unit: Unit) -> tuple[float, float, str]:
    return unit.start, unit.end, unit.group


def _spans(found: Sequence[Unit]) -> tuple[Floats, Floats]:
    return np.array([u.start for u in found]), np.array([u.end for u in found])


def _unit(group: str, members: Sequence[Row]) -> Unit:
    facts = [_facts(row) for row in members]
    if len({(series, shape) for series, shape, _, _ in facts}) > 1:
        raise DataError(
            "rows of one group differ in series or shape",
            where=f"group {group}",
            remedy="a group is one window; make the trajectories anew",
        )
    series, shape, _, _ = facts[0]
    return Unit(
        group=group,
        shape=shape,
        series=series,
        start=min(start for _, _, start, _ in facts),
        end=max(end for _, _, _, end in facts),
        rows=tuple(sorted(row.id for row in members)),
    )


def _facts(row: Row) -> tuple[str | None, str, float, float]:
    """Series (None of a generated row), shape, start and end of a row."""
    try:
        shape, origin = row.tags["shape"], row.tags["origin"]
        if origin != MEASURED:
            return None, shape, 0.0, 0.0
        ids = row.provenance.ids
        return ids["series"], shape, float(ids["t_start"]), float(ids["t_end"])
    except KeyError as error:
        raise DataError(
            f"a row of windows says nothing of {error.args[0]!r}",
            where=f"row {row.id}",
            remedy="keep tags and provenance.ids of the trajectory that the row was made from",
        ) from None


def _draw_generated(
    generated: Sequence[Unit], options: BlockOptions, seed: int
) -> dict[str, Placed]:
    """Generated units by shape, in the order of a seeded hash; at least one on each side."""
    shapes: dict[str, list[Unit]] = defaultdict(list)
    for unit in generated:
        shapes[unit.shape].append(unit)
    placed: dict[str, Placed] = {}
    for members in shapes.values():
        ordered = sorted(members, key=lambda unit: sha256_json([seed, unit.group]))
        test, validation = _held(len(ordered), options)
        for position, unit in enumerate(ordered):
            held = TEST if position < test else VALIDATION
            side = held if position < test + validation else TRAIN
            placed |= dict.fromkeys(unit.rows, (_SPLITS[side], None))
    return placed


def _held(count: int, options: BlockOptions) -> tuple[int, int]:
    """How many of ``count`` are test and validation."""
    if count < FEWEST:
        return 0, 0
    test = max(1, round(options.test_share * count))
    validation = max(1, round(options.validation_share * count))
    if test + validation >= count:
        raise DataError(
            f"{count} windows or blocks cannot be divided: test and validation take all of them",
            where="test_share, validation_share",
            remedy="lower the shares, or give more data",
        )
    return test, validation


def _draw_blocks(measured: Sequence[Unit], options: BlockOptions, seed: int) -> dict[str, Placed]:
    """Measured units by blocks of time; what lies in a gap is dropped, the held-out side stays."""
    if len(measured) < FEWEST:
        return {row_id: ("train", None) for unit in measured for row_id in unit.rows}
    count = min(options.blocks, len(measured))
    test, validation = _held(count, options)
    parts = np.array_split(np.arange(len(measured)), count)
    blocks = [[measured[i] for i in part] for part in parts]
    needed = gaps(measured, options)
    costs = Costs(
        counts=_shape_counts(blocks),
        lost=_lost_at_borders(blocks, needed),
        shares=(options.test_share, options.validation_share),
        fewest=FEWEST,
    )
    sides = choose_blocks(costs, (test, validation), seed)

    of: tuple[list[Unit], ...] = ([], [], [])
    for members, side in zip(blocks, sides, strict=True):
        of[int(side)].extend(members)
    placed: dict[str, Placed] = {i: ("test", None) for unit in of[TEST] for i in unit.rows}
    held = list(of[TEST])
    for side in (VALIDATION, TRAIN):
        kept = []
        for series, gap in needed.items():
            one = [unit for unit in of[side] if unit.series == series]
            other = [unit for unit in held if unit.series == series]
            for unit, near in zip(one, touching(one, other, gap), strict=True):
                place: Placed = ("dropped", "gap") if near else (_SPLITS[side], None)
                placed |= dict.fromkeys(unit.rows, place)
                kept += [] if near else [unit]
        held += kept
    return placed


def _shape_counts(blocks: Sequence[Sequence[Unit]]) -> Floats:
    """Units by block and shape."""
    shapes = sorted({unit.shape for members in blocks for unit in members})
    return np.array(
        [[sum(unit.shape == shape for unit in members) for shape in shapes] for members in blocks],
        dtype=np.float64,
    )


def _lost_at_borders(blocks: Sequence[Sequence[Unit]], needed: Mapping[str, float]) -> Floats:
    """Units before each border that lie too near to what follows it."""
    lost = []
    for members, following in itertools.pairwise(blocks):
        first = following[0]
        assert first.series is not None
        reach = first.start - needed[first.series]
        lost.append(sum(unit.series == first.series and unit.end > reach for unit in members))
    return np.array(lost, dtype=np.float64)


def _same_questions(rows: Sequence[Row], placed: Mapping[str, Placed]) -> dict[str, Placed]:
    """Rows of groups of which one asks word for word what a better held side asks.

    Whole groups go, so that the same windows are left whatever the rows say of them.
    """
    asked: dict[Split, set[str]] = {"validation": set(), "test": set()}
    for row in rows:
        side = placed[row.id][0]
        if side in asked:
            asked[side].add(question(row))
    reasons: dict[str, BlockReason] = {}
    for row in rows:
        side, group = placed[row.id][0], row.provenance.group
        if side in ("train", "validation") and question(row) in asked["test"]:
            reasons[group] = "near_test"
        elif side == "train" and question(row) in asked["validation"]:
            reasons.setdefault(group, "near_validation")
    return {
        row.id: ("dropped", reasons[row.provenance.group])
        for row in rows
        if row.provenance.group in reasons and placed[row.id][0] != "dropped"
    }
