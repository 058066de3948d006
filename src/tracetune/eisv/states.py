"""States and windows of E, I, S and V, and what makes a window fit to be used.

A state is ``{"t", "E", "I", "S", "V"}`` with ``t`` in seconds of any origin, and optionally
``ethical_drift``. E (energy), I (information integrity), S (entropy) and V (void) lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracetune.errors import DataError

Floats = npt.NDArray[np.float64]

DIMENSIONS: tuple[str, ...] = ("E", "I", "S", "V")
ANIMA: tuple[str, ...] = ("warmth", "clarity", "stability", "presence")
DRIFT = "ethical_drift"
_ALONE = -1
VOID_SCALE = 0.3
"""V of a presence of 0; real data has no larger V."""


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive states as arrays.

    Only the form is checked here; ``check_window`` checks the numbers.

    Attributes:
        t: Seconds, (n,).
        values: E, I, S and V of each state, (n, 4).
        drift: Ethical drift of each state, (n,); None where the data has none, which counts as 0.

    Raises:
        DataError: The arrays do not fit each other.
    """

    t: Floats
    values: Floats
    drift: Floats | None = None

    def __post_init__(self) -> None:
        """Brings the arrays into one form and refuses those that do not fit."""
        t = np.ascontiguousarray(self.t, dtype=np.float64)
        values = np.ascontiguousarray(self.values, dtype=np.float64)
        drift = None if self.drift is None else np.ascontiguousarray(self.drift, dtype=np.float64)
        fits = t.ndim == 1 and values.shape == (len(t), len(DIMENSIONS))
        if not fits or (drift is not None and drift.shape != t.shape):
            shapes = [array.shape for array in (t, values, drift) if array is not None]
            raise DataError(
                f"the arrays of a window do not fit each other: {shapes}",
                remedy="give t (n,), values (n, 4) and drift (n,) or None",
            )
        object.__setattr__(self, "t", t)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "drift", drift)

    def __len__(self) -> int:
        """How many states it has."""
        return len(self.t)

    @property
    def duration(self) -> float:
        """Seconds from the first state to the last; 0 without states."""
        return float(self.t[-1] - self.t[0]) if len(self) else 0.0


def check_window(window: Window, *, min_states: int = 2, where: str = "window") -> Window:
    """Refuses a window whose numbers cannot be used, and returns it otherwise.

    Equal times are allowed: they give no derivative. Times that go back are not, because a
    derivative over them would have the wrong sign.

    Args:
        window: The window.
        min_states: How many states it needs at least.
        where: How messages name it.

    Raises:
        DataError: Too few states, a number that is not finite or outside [0, 1], or a time before
            the one in front of it. The message names the index and the field.
    """
    if len(window) < min_states:
        raise DataError(
            f"{len(window)} state(s), and at least {min_states} are needed",
            where=where,
            remedy="take a longer window",
        )
    drift = None if window.drift is None else window.drift[None]
    check_windows(window.t[None], window.values[None], drift, where=where, first=_ALONE)
    return window


def check_windows(
    t: Floats,
    values: Floats,
    drift: Floats | None = None,
    *,
    where: str = "windows",
    first: int = 0,
) -> None:
    """Refuses windows of equal length whose numbers cannot be used; see ``check_window``.

    Args:
        t: Seconds, (windows, n).
        values: (windows, n, 4).
        drift: (windows, n), or None.
        where: How messages name them.
        first: Number of the first window, for messages about a part of many.

    Raises:
        DataError: As ``check_window``, for the first fault found.
    """
    check_form(t, values, drift, where=where)
    _refuse(~np.isfinite(t), t, "t", "is not a finite number", where, first)
    if t.size:
        # Two passes for the usual case; NaN makes both comparisons false.
        if not (values.min() >= 0 and values.max() <= 1):
            for column, name in enumerate(DIMENSIONS):
                found = values[:, :, column]
                _refuse(~np.isfinite(found), found, name, "is not a finite number", where, first)
                _refuse((found < 0) | (found > 1), found, name, "is outside [0, 1]", where, first)
        back = t[:, 1:] < t[:, :-1]
        if back.any():
            padded = np.zeros(t.shape, dtype=bool)
            padded[:, 1:] = back
            _refuse(padded, t, "t", "is before the time of the state in front of it", where, first)
    if drift is not None:
        _refuse(~np.isfinite(drift), drift, DRIFT, "is not a finite number", where, first)


def check_form(
    t: Floats, values: Floats, drift: Floats | None = None, *, where: str = "windows"
) -> None:
    """Refuses arrays that are not windows of equal length.

    Raises:
        DataError: The forms are not (windows, n), (windows, n, 4) and (windows, n).
    """
    if t.ndim != 2 or values.shape != (*t.shape, len(DIMENSIONS)):
        raise DataError(
            f"the arrays of the windows do not fit each other: {t.shape}, {values.shape}",
            where=where,
            remedy="give t (windows, n) and values (windows, n, 4)",
        )
    if drift is not None and drift.shape != t.shape:
        raise DataError(
            f"ethical_drift has the form {drift.shape}, the times have {t.shape}",
            where=where,
            remedy="give one drift for each state",
        )


def _refuse(
    wrong: npt.NDArray[np.bool_],
    numbers: Floats,
    field: str,
    problem: str,
    where: str,
    first: int,
) -> None:
    if not wrong.any():
        return
    window, state = (int(i) for i in np.argwhere(wrong)[0])
    place = where if first == _ALONE else f"{where}: window {first + window}"
    raise DataError(
        f"{field} {problem}: {float(numbers[window, state])}",
        where=f"{place}: state {state}",
        remedy="correct the state or leave it out",
    )


def window_from_states(states: Sequence[Mapping[str, Any]], *, where: str = "window") -> Window:
    """A window of states given as mappings; a missing ``ethical_drift`` counts as 0.

    Raises:
        DataError: A key is missing or holds no number. The message names the index and the field.
    """
    rows = [
        [_number(state, name, i, where) for name in ("t", *DIMENSIONS)]
        for i, state in enumerate(states)
    ]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 1 + len(DIMENSIONS))
    drift = None
    if any(DRIFT in state for state in states):
        drift = np.array(
            [
                _number(state, DRIFT, i, where) if DRIFT in state else 0.0
                for i, state in enumerate(states)
            ]
        )
    return Window(t=table[:, 0], values=table[:, 1:], drift=drift)


def _number(state: Mapping[str, Any], name: str, index: int, where: str) -> float:
    value = state.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        problem = "is missing" if name not in state else f"is not a number: {value!r}"
        raise DataError(
            f"{name} {problem}",
            where=f"{where}: state {index}",
            remedy="a state has the numbers t, E, I, S and V, and may have ethical_drift",
        )
    return float(value)


def states_of(window: Window) -> list[dict[str, float]]:
    """The states of a window as mappings; ``ethical_drift`` only where the window has it."""
    names = ["t", *DIMENSIONS]
    columns = [window.t[:, None], window.values]
    if window.drift is not None:
        names.append(DRIFT)
        columns.append(window.drift[:, None])
    return [dict(zip(names, row, strict=True)) for row in np.hstack(columns).tolist()]


def from_anima(
    warmth: npt.ArrayLike | None,
    clarity: npt.ArrayLike | None,
    stability: npt.ArrayLike | None,
    presence: npt.ArrayLike | None,
) -> Floats:
    """E, I, S and V of Lumen's four scalars, each clamped to [0, 1].

    ``E = warmth``, ``I = clarity``, ``S = 1 - stability``, ``V = 0.3 (1 - presence)``. A scalar
    that is missing (None) counts as 0. NaN stays NaN.

    Returns:
        (..., 4) for arguments of the form (...).
    """
    given = [0.0 if scalar is None else scalar for scalar in (warmth, clarity, stability, presence)]
    e, i, stable, present = np.broadcast_arrays(
        *(np.asarray(scalar, dtype=np.float64) for scalar in given)
    )
    values: Floats = np.stack([e, i, 1 - stable, VOID_SCALE * (1 - present)], axis=-1)
    return values.clip(0.0, 1.0)


def to_anima(values: npt.ArrayLike) -> Floats:
    """Warmth, clarity, stability and presence of E, I, S and V, each clamped to [0, 1].

    Args:
        values: (..., 4), in the order of ``DIMENSIONS``.

    Returns:
        (..., 4), in the order of ``ANIMA``.
    """
    e, i, s, v = np.moveaxis(np.asarray(values, dtype=np.float64), -1, 0)
    scalars: Floats = np.stack([e, i, 1 - s, 1 - v / VOID_SCALE], axis=-1)
    return scalars.clip(0.0, 1.0)
