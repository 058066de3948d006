"""First and second derivatives of windows, by differences between consecutive states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracetune.eisv.states import Floats, Window
from tracetune.errors import DataError


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Derivative rows of one window, or of several windows with a leading axis.

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


def many(t: Floats, values: Floats) -> Derivatives:
    """The derivatives of windows of equal length at once, bit for bit those of ``derivatives``.

    Args:
        t: Seconds, (windows, n).
        values: (windows, n, 4).

    Returns:
        Arrays (windows, n - 1[, 4]) and (windows, n - 2[, 4]).

    Raises:
        DataError: A window has two equal times, so that its rows are fewer than those of others.
    """
    step = t[:, 1:] - t[:, :-1]
    if not step.all():
        window, state = (int(i) for i in np.argwhere(step == 0)[0])
        raise DataError(
            f"the states {state} and {state + 1} have the same time {float(t[window, state])}",
            where=f"window {window}",
            remedy="drop one of them, or derive that window alone with derivatives()",
        )
    first = (values[:, 1:] - values[:, :-1]) / step[:, :, None]
    second = (first[:, 1:] - first[:, :-1]) / step[:, 1:, None]
    return Derivatives(first_t=t[:, 1:], first=first, second_t=t[:, 2:], second=second)
