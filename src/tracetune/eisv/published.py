"""Reads the published table of trajectories (Parquet).

Columns: ``shape``, ``eisv_states`` (JSON), ``t_start``, ``t_end``, ``provenance`` and ``tokens``
(JSON). The table also has ``derivatives`` and ``n_expressions``, which follow from the others and
are not read.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tracetune.eisv.options import WindowOptions
from tracetune.eisv.recording import expression_of
from tracetune.eisv.shapes import classify_many
from tracetune.eisv.states import Floats, Window, check_window, window_from_states
from tracetune.eisv.vocabulary import shape_index
from tracetune.eisv.windows import longest_step, measured_row, state_rows, windows_made
from tracetune.errors import DataError
from tracetune.records import (
    EisvExpression,
    EisvShape,
    EisvTrajectory,
    make_eisv_trajectory,
)

COLUMNS = ("shape", "eisv_states", "t_start", "t_end", "provenance", "tokens")
MEASURED, GENERATED = "lumen_real", "synthetic"
BATCH = 2_000
DRIFTING = "drift_dissonance"


@dataclass(frozen=True, eq=False)
class _Item:
    """One row of the table, parsed."""

    number: int
    stored: str
    origin: str
    window: Window
    said: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PublishedTable:
    """A handle on a published table. Nothing is read until it is asked for.

    Attributes:
        path: The file.
    """

    path: Path

    def read(
        self, options: WindowOptions, *, tenant: str
    ) -> tuple[list[EisvTrajectory], dict[str, Any]]:
        """All windows as rows, classified anew, and what became of them.

        A shape is derived from the states and replaces the stored one, except ``drift_dissonance``
        of states without ``ethical_drift``, which cannot be derived and is kept. Measured windows
        with a step above ``max_gap_s`` are dropped; the length of the windows is that of the table.

        Args:
            options: Only ``max_gap_s`` counts.
            tenant: Whose data it is.

        Returns:
            The rows in the order of the table, and the report: what that of
            :func:`tracetune.eisv.windows.trajectories_of` has, and beside it ``rows`` of the table
            (read, dropped by reason) and ``labels`` (kept, disagree, and differences as "stored ->
            derived"). States are those of measured windows: ``duplicates`` stand in an earlier
            window too, ``unused`` in no window that was kept, and ``gaps`` are steps between states
            that follow each other, in one window or not. ``size`` is that of most windows, and
            ``stride`` is not known.

        Raises:
            DataError: No such file, not a table, a column is missing, or a row is wrong; the
                message names row and column.
        """
        items = list(self._items())
        median = _median_step(items)
        longest = longest_step(options, median)
        kept = [item for item in items if not _has_gap(item, longest)]
        shapes = _derive(kept)
        dropped: Counter[str] = Counter()
        rows = [_row(item, shapes[item.number], tenant, dropped) for item in kept]
        usable = sum(len(row.expressions) for row in rows)
        return rows, {
            "rows": {
                "read": len(items),
                "dropped": {"gap": len(items) - len(kept)} if len(kept) < len(items) else {},
            },
            **_state_report(items, kept, longest),
            "max_gap_s": longest,
            "median_interval_s": median,
            "windows": windows_made(rows, _common_size(kept), None, median),
            "labels": _label_report(kept, shapes),
            "expressions": {
                "read": sum(len(item.said) for item in kept),
                "dropped": dict(dropped),
                "in_a_window": usable,  # the table has them by window
                "in_no_window": 0,
                "windows_with": sum(bool(row.expressions) for row in rows),
            },
        }

    def _items(self) -> Iterator[_Item]:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        if not self.path.is_file():
            known = sorted(path.name for path in self.path.parent.glob("*.parquet"))
            raise DataError(
                "there is no such table",
                where=str(self.path),
                remedy=f"give the path of a published table (there: {', '.join(known) or 'none'})",
            )
        try:
            with ParquetFile(self.path) as table:
                missing = [name for name in COLUMNS if name not in table.schema_arrow.names]
                if missing:
                    raise DataError(
                        f"no column {', '.join(missing)}",
                        where=str(self.path),
                        remedy=f"a published table has the columns {', '.join(COLUMNS)}",
                    )
                number = 0
                for batch in table.iter_batches(BATCH, columns=list(COLUMNS)):
                    for row in batch.to_pylist():
                        yield _item(row, number, f"{self.path}, row {number}")
                        number += 1
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"the file is not a Parquet table or is broken: {error}",
                where=str(self.path),
                remedy="fetch the table again",
            ) from None


def _item(row: Mapping[str, Any], number: int, where: str) -> _Item:
    shape_index(str(row["shape"]), where=f"{where}, column shape")
    if row["provenance"] not in (MEASURED, GENERATED):
        raise DataError(
            f"an origin that nobody knows: {row['provenance']!r}",
            where=f"{where}, column provenance",
            remedy=f"write {MEASURED} or {GENERATED}",
        )
    place = f"{where}, column eisv_states"
    states = _parsed(row["eisv_states"], place)
    if not all(isinstance(state, Mapping) for state in states):
        raise DataError("a state is not an object", where=place, remedy="correct the table")
    window = check_window(window_from_states(states, where=place), where=place)
    for name, t in (("t_start", window.t[0]), ("t_end", window.t[-1])):
        if row[name] != t:
            raise DataError(
                f"{row[name]!r}, but the states say {float(t)!r}",
                where=f"{where}, column {name}",
                remedy="correct the table",
            )
    place = f"{where}, column tokens"
    said = _parsed(row["tokens"], place)
    if not all(
        isinstance(words, list) and all(isinstance(w, str) for w in words) for words in said
    ):
        raise DataError(
            "an expression is not a list of words", where=place, remedy="correct the table"
        )
    return _Item(number, row["shape"], row["provenance"], window, tuple(tuple(w) for w in said))


def _parsed(text: object, where: str) -> list[Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except json.JSONDecodeError as error:
        raise DataError(f"no JSON: {error}", where=where, remedy="correct the table") from None
    if not isinstance(found, list):
        raise DataError("no JSON list", where=where, remedy="correct the table")
    return found


def _median_step(items: Sequence[_Item]) -> float | None:
    """Over the measured windows; overlapping windows count their common steps twice."""
    steps = [np.diff(item.window.t) for item in items if item.origin == MEASURED]
    return float(np.median(np.concatenate(steps))) if steps else None


def _has_gap(item: _Item, longest: float | None) -> bool:
    if item.origin != MEASURED or longest is None:
        return False
    return bool((np.diff(item.window.t) > longest).any())


def _state_report(
    items: Sequence[_Item], kept: Sequence[_Item], longest: float | None
) -> dict[str, Any]:
    """``states`` and ``gaps`` of the measured windows; overlapping windows repeat their states."""
    every, used = _times(items), _times(kept)
    t = np.unique(every)
    return {
        "states": {
            "read": len(every),
            "dropped": {},
            "duplicates": len(every) - len(t),
            "unused": len(t) - len(np.unique(used)),
        },
        "gaps": 0 if longest is None else int((np.diff(t) > longest).sum()),
    }


def _times(items: Sequence[_Item]) -> Floats:
    """Times of the states of all measured windows."""
    return np.concatenate([np.empty(0), *(i.window.t for i in items if i.origin == MEASURED)])


def _common_size(items: Sequence[_Item]) -> int | None:
    """States in most windows; the shorter of two lengths that are as frequent."""
    sizes = Counter(len(item.window) for item in items)
    return min(sizes, key=lambda size: (-sizes[size], size), default=None)


def _derive(items: Sequence[_Item]) -> dict[int, str]:
    """The shape of each row by its number."""
    lengths: dict[int, list[_Item]] = defaultdict(list)
    for item in items:
        lengths[len(item.window)].append(item)
    shapes: dict[int, str] = {}
    for length, members in lengths.items():
        found = classify_many(
            np.array([item.window.t for item in members]),
            np.array([item.window.values for item in members]),
            np.array(
                [
                    np.zeros(length) if item.window.drift is None else item.window.drift
                    for item in members
                ]
            ),
        )
        for item, shape in zip(members, found.tolist(), strict=True):
            shapes[item.number] = DRIFTING if _keeps_label(item) else shape
    return shapes


def _keeps_label(item: _Item) -> bool:
    return item.stored == DRIFTING and item.window.drift is None


def _label_report(items: Sequence[_Item], shapes: Mapping[int, str]) -> dict[str, Any]:
    pairs = Counter((item.stored, shapes[item.number]) for item in items)
    differences = {
        f"{stored} -> {derived}": count
        for (stored, derived), count in sorted(pairs.items())
        if stored != derived
    }
    return {
        "kept": sum(_keeps_label(item) for item in items),
        "disagree": sum(differences.values()),
        "differences": differences,
    }


def _row(item: _Item, shape: str, tenant: str, dropped: Counter[str]) -> EisvTrajectory:
    expressions = _expressions(item, dropped)
    ids = {"table_row": str(item.number)}
    if item.origin == MEASURED:
        return measured_row(state_rows(item.window), shape, expressions, tenant=tenant, ids=ids)
    return make_eisv_trajectory(
        states=state_rows(item.window),
        shape=cast(EisvShape, shape),
        origin="synthetic",
        expressions=expressions,
        source="eisv",
        tenant=tenant,
        ids=ids,
        group=f"published:{item.number}",
        created_at=None,
    )


def _expressions(item: _Item, dropped: Counter[str]) -> list[EisvExpression]:
    """The table does not tell when they were said."""
    found = (expression_of(words, None, dropped) for words in item.said)
    return [one for one in found if one is not None]
