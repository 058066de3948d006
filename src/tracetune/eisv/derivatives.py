"""First and second derivatives of windows, by differences between consecutive states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tracetune.eisv.states import Floats, Window

# As many windows as stay in the cache of a processor: at most this many, with this many states.
_CHUNK = 1024
_CHUNK_STATES = 1 << 15


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Derivative rows of one window.

    Nothing is padded: n states give n - 1 first and n - 2 second derivatives, and fewer where two
    times are equal.

    Attributes:
        first_t: Time of each first derivative: that of the later state, seconds.
        first: dE, dI, dS and dV per second.
        second_t: Time of each second derivative.
        second: d2E, d2I, d2S and d2V per second squared.
    """

    first_t: Floats
    first: Floats
    second_t: Floats
    second: Floats

    @property
    def mean_first(self) -> Floats:
        """Plain mean of the first derivatives over rows, not weighted by time; 0 without rows."""
        return mean_rows(self.first)

    @property
    def mean_second(self) -> Floats:
        """Plain mean of the second derivatives over rows; 0 without rows."""
        return mean_rows(self.second)


def mean_rows(rows: Floats) -> Floats:
    """The mean over rows (..., rows, 4) → (..., 4), added from the first to the last.

    The order of the additions is fixed, so that one window and a million windows give the same
    bits: a threshold next to a mean must not decide differently by the size of the batch.
    """
    total: Floats = np.zeros((*rows.shape[:-2], rows.shape[-1]))
    for i in range(rows.shape[-2]):
        total += rows[..., i, :]
    total /= max(1, rows.shape[-2])
    return total


def derivatives(window: Window) -> Derivatives:
    """The derivatives of one window.

    States with the same time as the one in front of them give no row; the later of the two becomes
    the previous state. Times are not sorted and not checked: where one goes back, the sign flips
    (``states.check_window`` refuses that).
    """
    first_t, first = _quotients(window.t, window.values)
    second_t, second = _quotients(first_t, first)
    return Derivatives(first_t=first_t, first=first, second_t=second_t, second=second)


def _quotients(t: Floats, rows: Floats) -> tuple[Floats, Floats]:
    step = t[1:] - t[:-1]
    moved = step != 0
    change = rows[1:] - rows[:-1]
    return t[1:][moved], change[moved] / step[moved][:, None]


@dataclass(frozen=True, eq=False)
class Means:
    """Twelve numbers per window: the means over its states and over its derivative rows.

    Attributes:
        values: E, I, S and V, (windows, 4).
        first: dE, dI, dS and dV, (windows, 4).
        second: d2E, d2I, d2S and d2V, (windows, 4); 0 for windows without second derivatives.
    """

    values: Floats
    first: Floats
    second: Floats

    def table(self) -> Floats:
        """All twelve side by side: (windows, 12)."""
        return np.hstack([self.values, self.first, self.second])

    def fill(self, chunk: Chunk, t: Floats, values: Floats) -> None:
        """Writes the rows of some of the windows, of which ``t`` and ``values`` are all."""
        self.values[chunk.part] = mean_planes(chunk.values).T
        self.first[chunk.part] = mean_planes(chunk.first).T
        self.second[chunk.part] = mean_planes(chunk.second).T
        for i in chunk.paused:
            rows = derivatives(Window(t=t[i], values=values[i]))
            self.first[i], self.second[i] = rows.mean_first, rows.mean_second


def means_many(t: Floats, values: Floats) -> Means:
    """The means of windows of equal length, bit for bit those of each window alone.

    Equal times within a window are allowed and give no row, as in ``derivatives``.

    Args:
        t: Seconds, (windows, n).
        values: (windows, n, 4).
    """
    found = Means(*np.empty((3, len(t), values.shape[-1])))
    for chunk in derive_chunks(t, values):
        found.fill(chunk, t, values)
    return found


def mean_planes(planes: Floats) -> Floats:
    """As ``mean_rows``, for windows on the last axis: (4, rows, windows) → (4, windows)."""
    if planes.shape[-1] == 1:  # a reduction over the last axis in memory would add in pairs
        return mean_rows(planes.transpose(2, 1, 0)).T
    total: Floats = np.add.reduce(planes, axis=1)
    total /= max(1, planes.shape[1])
    return total


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some windows of equal length with the window on the last axis, and their derivatives.

    Attributes:
        part: Which windows they are.
        values: (4, n, windows).
        first: (4, n - 1, windows).
        second: (4, n - 2, windows).
        paused: Numbers of the windows with equal times among all windows. Their derivatives here
            are not to be used; ``derivatives`` makes them.
    """

    part: slice
    values: Floats
    first: Floats
    second: Floats
    paused: list[int]


def derive_chunks(t: Floats, values: Floats) -> Iterator[Chunk]:
    """Derives windows of equal length part by part.

    With the window on the last axis every step runs over contiguous memory, and sums over states
    are made in the order of the states, whatever the number of windows. All parts share the same
    memory: what is kept of a part must be copied before the next. Fresh arrays for each would cost
    more than the arithmetic.
    """
    count, n = t.shape
    most = max(1, min(_CHUNK, _CHUNK_STATES // max(1, n)))
    size = min(count, most)
    # One block each, cut to the width of the last part below, so that rows stay contiguous.
    room = [np.empty(rows * size) for rows in (n, max(0, n - 1), 4 * n, 4 * n, 4 * n)]
    for start in range(0, count, most):
        part = slice(start, min(start + most, count))
        width = part.stop - start
        times = _cut(room[0], n, width)
        times[:] = t[part].T
        step = _cut(room[1], max(0, n - 1), width)
        np.subtract(times[1:], times[:-1], out=step)
        still = step == 0
        paused = np.flatnonzero(still.any(axis=0))
        if len(paused):
            step[still] = 1.0
        planes = _cut(room[2], 4, n, width)
        planes[:] = values[part].transpose(2, 1, 0)
        first = _divide(planes, step, _cut(room[3], 4, max(0, n - 1), width))
        second = _divide(first, step[1:], _cut(room[4], 4, max(0, n - 2), width))
        yield Chunk(part, planes, first, second, (start + paused).tolist())


def _cut(room: Floats, *form: int) -> Floats:
    size = 1
    for length in form:
        size *= length
    return room[:size].reshape(form)


def _divide(rows: Floats, step: Floats, out: Floats) -> Floats:
    np.subtract(rows[:, 1:], rows[:, :-1], out=out)
    np.divide(out, step, out=out)
    return out
