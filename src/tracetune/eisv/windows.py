"""Windows of a recording: sorted, cut at gaps, classified, with what was said in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tracetune.eisv.options import WindowOptions
from tracetune.eisv.recording import SERIES, Recording
from tracetune.eisv.shapes import classify_many, impossible_shapes
from tracetune.eisv.states import Floats, Window
from tracetune.records import (
    EisvExpression,
    EisvShape,
    EisvState,
    EisvTrajectory,
    make_eisv_trajectory,
    window_ids,
)

Integers = npt.NDArray[np.int64]

GAP_IN_INTERVALS = 3.0
"""The default of ``max_gap_s``, in median intervals."""


@dataclass(frozen=True, eq=False)
class Cut:
    """Where windows lie in the sorted states, and what became of the states.

    Attributes:
        ids: Id of each state that is left, (n,).
        t: Its time in seconds, rising, (n,).
        values: Its E, I, S and V, (n, 4).
        places: Positions of the states of each window, (windows, size).
        duplicates: States at the time of another one.
        gaps: Steps longer than ``max_gap_s``.
        max_gap_s: Longest step within a window; None if fewer than two states are left.
        median_interval_s: Median step; None likewise.
    """

    ids: Integers
    t: Floats
    values: Floats
    places: Integers
    duplicates: int
    gaps: int
    max_gap_s: float | None
    median_interval_s: float | None

    @property
    def unused(self) -> int:
        """States that no window holds."""
        return len(self.t) - len(np.unique(self.places))


def cut(recording: Recording, options: WindowOptions) -> Cut:
    """Sorts states by time and cuts windows that hold no gap.

    Of several states at the same time the one with the highest id stays: it was written last. At
    each gap the count starts anew, so that no state before it is in a window with one after it.
    """
    order = np.lexsort((recording.ids, recording.t))
    t = recording.t[order]
    last = np.append(t[1:] != t[:-1], True)[: len(t)]
    order, t = order[last], t[last]
    steps = np.diff(t)
    median = float(np.median(steps)) if len(steps) else None
    longest = longest_step(options, median)
    breaks = np.flatnonzero(steps > longest) + 1 if longest is not None else np.empty(0, np.int64)
    return Cut(
        ids=recording.ids[order],
        t=t,
        values=recording.values[order],
        places=_places(np.append(0, breaks), np.append(breaks, len(t)), options),
        duplicates=len(recording.t) - len(t),
        gaps=len(breaks),
        max_gap_s=longest,
        median_interval_s=median,
    )


def longest_step(options: WindowOptions, median_interval_s: float | None) -> float | None:
    """``max_gap_s``, or its default from the median interval; None where there is no interval."""
    if options.max_gap_s is not None or median_interval_s is None:
        return options.max_gap_s if median_interval_s is not None else None
    return GAP_IN_INTERVALS * median_interval_s


def _places(begins: Integers, ends: Integers, options: WindowOptions) -> Integers:
    """Positions of the states of each window, (windows, size)."""
    starts = [
        np.arange(begin, end - options.size + 1, options.stride, dtype=np.int64)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        if end - begin >= options.size
    ]
    first = np.concatenate([np.empty(0, np.int64), *starts])
    places: Integers = first[:, None] + np.arange(options.size)
    return places


def trajectories_of(
    recording: Recording, options: WindowOptions, *, tenant: str
) -> tuple[list[EisvTrajectory], dict[str, Any]]:
    """Windows of a recording as rows, and what became of states and expressions.

    An expression belongs to every window with ``t_start <= time <= t_end``.

    Args:
        recording: States in any order, and expressions.
        options: Size, stride, longest step.
        tenant: Whose data it is.

    Returns:
        The rows in the order of time, and the report: ``states`` (read, dropped by reason,
        duplicates, unused), ``gaps``, ``max_gap_s``, ``median_interval_s``, ``windows`` (made, by
        shape, impossible shapes) and ``expressions`` (read, dropped by reason, in a window, in
        none, windows with one).
    """
    found = cut(recording, options)
    said, placed = _align(recording.expressions, found)
    places = found.places
    shapes = classify_many(found.t[places], found.values[places]) if len(places) else np.empty(0)
    # Windows that overlap share the records of their states.
    states = state_rows(Window(t=found.t, values=found.values))
    rows = []
    for inside, shape, words in zip(places.tolist(), shapes.tolist(), said, strict=True):
        first, last = inside[0], inside[-1]
        ids = {"first_state": str(found.ids[first]), "last_state": str(found.ids[last])}
        row = measured_row(states[first : last + 1], shape, words, tenant=tenant, ids=ids)
        rows.append(row)
    return rows, _report(recording, found, rows, placed, options)


def measured_row(
    states: list[EisvState],
    shape: str,
    expressions: Sequence[EisvExpression],
    *,
    tenant: str,
    ids: dict[str, str],
) -> EisvTrajectory:
    """A measured window as a row; its group is the window itself.

    Args:
        states: In the order of time.
        shape: One of the nine.
        expressions: What was said in it.
        tenant: Whose data it is.
        ids: Where its source has it.
    """
    start, end = states[0].t, states[-1].t
    return make_eisv_trajectory(
        states=states,
        shape=cast(EisvShape, shape),
        origin="lumen_real",
        expressions=list(expressions),
        source="eisv",
        tenant=tenant,
        ids={**window_ids(SERIES, start, end), **ids},
        group=f"{SERIES}:{start!r}-{end!r}",
        created_at=datetime.fromtimestamp(end, UTC),
    )


def state_rows(window: Window) -> list[EisvState]:
    """The states of a window as records."""
    drift = [None] * len(window) if window.drift is None else window.drift.tolist()
    return [
        EisvState(t=t, E=e, I=i, S=s, V=v, ethical_drift=d)
        for t, (e, i, s, v), d in zip(window.t.tolist(), window.values.tolist(), drift, strict=True)
    ]


def window_of(row: EisvTrajectory) -> Window:
    """The states of a row as arrays; without drift if no state has any."""
    table = np.array([state.plain()[:5] for state in row.states], dtype=np.float64)
    drift = None
    if any(state.ethical_drift is not None for state in row.states):
        drift = np.array([state.ethical_drift or 0.0 for state in row.states])
    return Window(t=table[:, 0], values=table[:, 1:], drift=drift)


def _align(
    expressions: Sequence[EisvExpression], found: Cut
) -> tuple[list[list[EisvExpression]], int]:
    """Expressions by window, in the order of their times, and how many are in one at all."""
    said: list[list[EisvExpression]] = [[] for _ in range(len(found.places))]
    placed = 0
    starts, ends = (
        found.t[found.places[:, 0]],
        found.t[found.places[:, -1]],
    )  # both rise: windows have the same size
    timed = sorted((one.time, i) for i, one in enumerate(expressions) if one.time is not None)
    for time, i in timed:
        lowest = int(np.searchsorted(ends, time, "left"))
        highest = int(np.searchsorted(starts, time, "right"))
        placed += lowest < highest
        for window in range(lowest, highest):
            said[window].append(expressions[i])
    return said, placed


def _report(
    recording: Recording,
    found: Cut,
    rows: Sequence[EisvTrajectory],
    placed: int,
    options: WindowOptions,
) -> dict[str, Any]:
    median = found.median_interval_s
    usable = len(recording.expressions)
    return {
        "states": {
            "read": recording.states_read,
            "dropped": recording.dropped,
            "duplicates": found.duplicates,
            "unused": found.unused,
        },
        "gaps": found.gaps,
        "max_gap_s": found.max_gap_s,
        "median_interval_s": median,
        "windows": windows_made(rows, options.size, options.stride, median),
        "expressions": {
            "read": usable + sum(recording.expressions_dropped.values()),
            "dropped": recording.expressions_dropped,
            "in_a_window": placed,
            "in_no_window": usable - placed,
            "windows_with": sum(bool(row.expressions) for row in rows),
        },
    }


def windows_made(
    rows: Sequence[EisvTrajectory],
    size: int | None,
    stride: int | None,
    median_interval_s: float | None,
) -> dict[str, Any]:
    """The part ``windows`` of a report: how many, of which shapes, and which cannot occur.

    Args:
        rows: The windows.
        size: States in a window; None if there is no window.
        stride: States from one window to the next; None if that is not known.
        median_interval_s: Median step between measured states; None if there is none.
    """
    impossible = []
    if size is not None and median_interval_s:
        impossible = impossible_shapes(size, median_interval_s)
    return {
        "made": len(rows),
        "size": size,
        "stride": stride,
        "shapes": dict(sorted(Counter(row.shape for row in rows).items())),
        "impossible": impossible,
    }
