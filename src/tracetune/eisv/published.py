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
from tracetune.eisv.states import Window, check_window, window_from_states
from tracetune.eisv.vocabulary import shape_index
from tracetune.eisv.windows import longest_step, measured_row, state_rows
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
            The rows in the order of the table, and the report: ``rows`` (read, dropped by reason),
            ``max_gap_s``, ``median_interval_s``, ``labels`` (kept, disagree, and differences as
            "stored -> derived") and ``expressions`` (read, dropped by reason).

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
        return rows, {
            "rows": {
                "read": len(items),
                "dropped": {"gap": len(items) - len(kept)} if len(kept) < len(items) else {},
            },
            "max_gap_s": longest,
            "median_interval_s": median,
            "labels": _label_report(kept, shapes),
            "expressions": {
                "read": sum(len(item.said) for item in kept),
                "dropped": dict(dropped),
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
