"""The nine shapes of a trajectory: rules in order, the first that matches wins.

The thresholds on derivatives are per second, so a label depends on the sampling interval: at slow
sampling some shapes cannot occur (``impossible_shapes``). Two more things that the rules imply: an
entropy spike needs no recovery, only a maximum inside the window; and any jitter above 1e-9 turns
"settled" into "convergence".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracetune.eisv.derivatives import Chunk, Means, derivatives, derive_chunks, mean_planes
from tracetune.eisv.states import (
    DIMENSIONS,
    VOID_SCALE,
    Floats,
    Window,
    check_form,
    check_window,
    check_windows,
)
from tracetune.eisv.vocabulary import SHAPE_INDEX, SHAPES
from tracetune.errors import DataError

RATE = 0.05
"""Threshold of derivatives, per second (and per second squared for second derivatives)."""
RANGE = 0.2
"""Threshold of the range of E or S over a window."""
DRIFT_LIMIT = 0.3
"""An ethical drift above it is dissonance."""
STILL = 1e-9
"""A derivative up to it counts as no movement."""

Codes = npt.NDArray[np.int8]
_NAMES = np.array(SHAPES)
_ENERGY, _ENTROPY, _VOID = 0, 2, 3


def classify(window: Window) -> str:
    """The shape of one window.

    Raises:
        DataError: Fewer than two states, or numbers that ``check_window`` refuses.
    """
    check_window(window)
    drift = None if window.drift is None else window.drift[None]
    return SHAPES[int(classify_codes(window.t[None], window.values[None], drift)[0])]


def classify_many(t: Floats, values: Floats, drift: Floats | None = None) -> npt.NDArray[np.str_]:
    """The shapes of windows of equal length, the same as ``classify`` gives one by one.

    Args:
        t: Seconds, (windows, n).
        values: (windows, n, 4).
        drift: (windows, n); None counts as 0.

    Returns:
        Names, (windows,).

    Raises:
        DataError: Fewer than two states, or numbers that ``check_windows`` refuses.
    """
    return _NAMES[classify_codes(t, values, drift)]


def classify_codes(t: Floats, values: Floats, drift: Floats | None = None) -> Codes:
    """As ``classify_many``, with each shape as its index in ``SHAPES``: a byte a window."""
    return _scan(t, values, drift, None)


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over windows gives.

    Attributes:
        codes: The shape of each window as its index in ``SHAPES``.
        means: Mean states and mean derivatives of each window.
    """

    codes: Codes
    means: Means

    @property
    def shapes(self) -> npt.NDArray[np.str_]:
        """The names of the shapes."""
        return _NAMES[self.codes]


def survey(t: Floats, values: Floats, drift: Floats | None = None) -> Survey:
    """``classify_codes`` and ``derivatives.means_many`` in one pass, with the same results."""
    means = Means(*np.empty((3, len(t), len(DIMENSIONS))))
    return Survey(codes=_scan(t, values, drift, means), means=means)


def _scan(t: Floats, values: Floats, drift: Floats | None, means: Means | None) -> Codes:
    t, values = np.asarray(t, dtype=np.float64), np.asarray(values, dtype=np.float64)
    drift = None if drift is None else np.asarray(drift, dtype=np.float64)
    check_form(t, values, drift)
    if t.shape[1] < 2:
        raise DataError(
            f"windows need at least two states each; the times have the form {t.shape}",
            where="windows",
            remedy="give t (windows, n) with n of at least 2",
        )
    codes = np.empty(len(t), dtype=np.int8)
    for chunk in derive_chunks(t, values):
        part = chunk.part
        some = None if drift is None else drift[part]
        check_windows(t[part], values[part], some, first=part.start)
        if means is not None:
            means.fill(chunk, t, values)
        codes[part] = _codes_of(chunk, t, values, some)
    return codes


def _codes_of(chunk: Chunk, t: Floats, values: Floats, drift: Floats | None) -> Codes:
    mean = mean_planes(chunk.first)
    converging = _converging(chunk.first, chunk.second)
    for i in chunk.paused:
        place = i - chunk.part.start
        mean[:, place], converging[place] = _paused(Window(t=t[i], values=values[i]))
    return _rules(chunk.values, None if drift is None else drift.max(axis=1), mean, converging)


def _converging(first: Floats, second: Floats) -> npt.NDArray[np.bool_]:
    """Whether each window moves, and slowly: rule 8."""
    width = first.shape[-1]
    if not second.size:
        return np.zeros(width, dtype=bool)
    fast, bent = (_largest(rows.reshape(-1, width)) for rows in (first, second))
    slow: npt.NDArray[np.bool_] = (fast > STILL) & (fast < RATE) & (bent < RATE)
    return slow


def _largest(rows: Floats) -> Floats:
    """The largest absolute number of each column, without an array of absolute numbers."""
    found: Floats = np.maximum(rows.max(axis=0), -rows.min(axis=0))
    return found


def _paused(window: Window) -> tuple[Floats, bool]:
    """Mean derivatives and rule 8 of a window in which time stands still somewhere."""
    rows = derivatives(window)
    slow = bool(
        len(rows.first)
        and len(rows.second)
        and STILL < np.abs(rows.first).max() < RATE
        and np.abs(rows.second).max() < RATE
    )
    return rows.mean_first, slow


def _rules(
    planes: Floats, drift: Floats | None, mean: Floats, converging: npt.NDArray[np.bool_]
) -> Codes:
    """The first rule that matches, for each window.

    Args:
        planes: (4, n, windows).
        drift: Largest ethical drift of each window, or None.
        mean: Mean first derivatives, (4, windows).
        converging: Whether rule 8 holds.
    """
    energy, entropy = planes[_ENERGY], planes[_ENTROPY]
    wide = energy.max(axis=0) - energy.min(axis=0) >= RANGE
    top = entropy.max(axis=0)
    # The first maximum is inside: not at the start, and reached before the end.
    inside = (entropy[0] < top) & (entropy[1:-1] == top).any(axis=0)
    rules = {
        "basin_transition_down": wide & (mean[_ENERGY] < 0) & (energy[0] > energy[-1]),
        "basin_transition_up": wide & (mean[_ENERGY] > 0) & (energy[-1] > energy[0]),
        "entropy_spike_recovery": inside & (top - entropy.min(axis=0) >= RANGE),
        "drift_dissonance": np.zeros(len(inside), dtype=bool)
        if drift is None
        else drift > DRIFT_LIMIT,
        "void_rising": mean[_VOID] > RATE,
        "rising_entropy": mean[_ENTROPY] > RATE,
        "falling_energy": mean[_ENERGY] < -RATE,
        "convergence": converging,
    }
    codes = np.full(len(inside), SHAPE_INDEX["settled_presence"], dtype=np.int8)
    for name in reversed(SHAPES[:-1]):  # an earlier rule overwrites a later one
        codes[rules[name]] = SHAPE_INDEX[name]
    return codes


def impossible_shapes(n: int, median_interval_s: float) -> list[str]:
    """The shapes that windows of n states cannot have at a regular sampling interval.

    A mean derivative above 0.05 per second must fit into what the dimension can change: S rises by
    at most 1, V by at most 0.3 (all that the conversion from Lumen's scalars gives), and E falls by
    less than 0.2, or the window is a basin transition. So those shapes need windows shorter than
    20, 6 and 4 seconds. ``drift_dissonance`` also needs states with ``ethical_drift``, which is
    not looked at here.

    Args:
        n: States in a window.
        median_interval_s: Median time between two states, seconds.

    Returns:
        Names in the order of ``SHAPES``.

    Raises:
        DataError: Fewer than two states, or an interval that is not positive and finite.
    """
    if n < 2 or not math.isfinite(median_interval_s) or median_interval_s <= 0:
        raise DataError(
            f"windows of {n} states at an interval of {median_interval_s} s have no shapes",
            remedy="give at least two states and a positive interval",
        )
    duration = (n - 1) * median_interval_s
    longest = {"void_rising": VOID_SCALE / RATE, "rising_entropy": 1 / RATE}
    longest["falling_energy"] = RANGE / RATE
    states = {"entropy_spike_recovery": 3, "convergence": 3}
    return [
        name
        for name in SHAPES
        # 0.3 / 0.05 is not quite 6 in binary
        if duration > longest.get(name, math.inf) * (1 - 1e-9) or n < states.get(name, 2)
    ]
