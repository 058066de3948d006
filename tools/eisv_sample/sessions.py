"""Twelve days of a small device: four sessions a day, idle or awake, with rare events.

The levels follow the hour of the day and wander slowly. Awake, a state is taken about every two
seconds; in some events the device looks much closer, because only short windows can hold the shapes
``falling_energy``, ``void_rising`` and ``rising_entropy``. How often each thing happens is set so
that the windows have about the mix of the published table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SEED = 20260105
START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 12
HOURS = (7.25, 11.0, 15.5, 20.75)
INTERVAL_S = 2.0
CALM_NOISE = 0.004
LAMP_NOISE = 0.07
_E, _I, _S, _V = range(4)


@dataclass(frozen=True, eq=False)
class Session:
    """States taken without a longer pause.

    Attributes:
        t: Seconds since 1970 UTC, (n,).
        values: E, I, S and V, (n, 4).
    """

    t: Floats
    values: Floats


Event = Callable[[np.random.Generator, Floats, Floats], None]
"""Changes the steps before each state, (n,), and the values, (n, 4), in place."""

EVENTS: dict[int, str] = {
    1: "spike", 4: "up", 5: "spike", 6: "rush", 9: "spike", 11: "fade", 12: "down", 13: "spike",
    15: "spike", 18: "spike", 19: "up", 20: "rush", 22: "up", 25: "spike", 27: "fade",
    28: "down", 30: "down", 31: "spike",
    33: "void", 34: "spike", 36: "rush", 38: "spike", 39: "up", 41: "spike", 43: "fade",
    45: "down",
}  # fmt: skip
"""What happens in which session."""

IDLE = (0, 3, 8, 14, 17, 23, 26, 32, 37, 42, 46)
"""Sessions in which the device rests: the sensors repeat their last reading."""

FLICKER = (2, 7, 10, 16, 21, 24, 29, 35, 40, 44, 47)
"""Sessions under a lamp that flickers: clarity jumps, which no rule but the last one knows."""


def sessions(seed: int = SEED) -> list[Session]:
    """All sessions, in the order of time."""
    generator = np.random.default_rng(seed)
    wander = np.zeros(4)
    made = []
    for number in range(DAYS * len(HOURS)):
        wander = 0.8 * wander + generator.normal(0, [0.02, 0.02, 0.015, 0.008])
        day, hour = divmod(number, len(HOURS))
        start = START.timestamp() + day * 86_400 + HOURS[hour] * 3_600
        made.append(_session(generator, number, start + generator.uniform(-600, 600), wander))
    return made


def _session(generator: np.random.Generator, number: int, start: float, wander: Floats) -> Session:
    n = 10 * int(generator.integers(9, 12))
    steps = INTERVAL_S + generator.normal(0, 0.03, n)
    drift = np.linspace(0, 1, n)[:, None] * generator.normal(0, [0.02, 0.015, 0.01, 0.004])
    hour = HOURS[number % len(HOURS)]
    values = _levels(hour) + wander + drift
    if number in IDLE:
        values = np.repeat(values[:1], n, axis=0)
    else:
        values = values + generator.normal(0, CALM_NOISE, (n, 4)) * [1, 1, 1, 0.4]
    if number in FLICKER:
        values[:, _I] += generator.normal(0, LAMP_NOISE, n)
    if number in EVENTS:
        _EVENTS[EVENTS[number]](generator, steps, values)
    values = values.clip(0.0, [1.0, 1.0, 1.0, 0.3]).round(4)
    return Session(t=start + np.cumsum(steps), values=values)


def _levels(hour: float) -> Floats:
    """E, I, S and V at an hour of the day: warm and clear in the afternoon, restless at night."""
    sun = np.sin(2 * np.pi * (hour - 8.5) / 24)
    return np.array([0.55 + 0.12 * sun, 0.60 + 0.10 * sun, 0.22 - 0.05 * sun, 0.08 - 0.03 * sun])


def _spike(generator: np.random.Generator, steps: Floats, values: Floats) -> None:
    """Entropy jumps and comes back within about twenty seconds."""
    place = int(generator.integers(24, len(values) - 24))
    fall = np.exp(-np.arange(12) / 4.0)
    values[place : place + 12, _S] += generator.uniform(0.30, 0.45) * fall
    values[place - 1, _S] += 0.12


def _up(generator: np.random.Generator, steps: Floats, values: Floats) -> None:
    _move(generator, values, 1)


def _down(generator: np.random.Generator, steps: Floats, values: Floats) -> None:
    _move(generator, values, -1)


def _move(generator: np.random.Generator, values: Floats, sign: int) -> None:
    """Energy goes to another level, within half a minute, and stays there."""
    place = int(generator.integers(30, len(values) - 40))
    path = np.clip((np.arange(len(values)) - place) / 14.0, 0, 1)
    values[:, _E] += sign * generator.uniform(0.26, 0.34) * path


def _rush(generator: np.random.Generator, steps: Floats, values: Floats) -> None:
    """Entropy rises to the end of the session, which is seen closely."""
    steps[-30:] = 0.4
    values[-30:, _S] += np.linspace(0, 0.07 * 0.4 * 29, 30)


def _fade(generator: np.random.Generator, steps: Floats, values: Floats) -> None:
    """Energy sinks fast, but not far, at the end of the session."""
    steps[-30:] = 0.15
    values[-30:, _E] -= np.linspace(0, 0.06 * 0.15 * 29, 30)


def _void(generator: np.random.Generator, steps: Floats, values: Floats) -> None:
    """Somebody leaves: presence goes within a few seconds."""
    steps[-20:] = 0.18
    values[-20:, _V] = 0.03 + np.linspace(0, 0.065 * 0.18 * 19, 20)


_EVENTS: dict[str, Event] = {
    "spike": _spike,
    "up": _up,
    "down": _down,
    "rush": _rush,
    "fade": _fade,
    "void": _void,
}
