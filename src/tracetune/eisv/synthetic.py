"""Synthetic trajectories of each shape.

The recipes are those of the published generator. They are easy to tell apart by their making: three
shapes have no noise, some dimensions are flat, and the windows of ``rising_entropy``,
``falling_energy`` and ``void_rising`` are shorter than all others, because only short windows can
have these shapes. A model that sees the duration sees the shape.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

from tracetune.eisv.shapes import classify
from tracetune.eisv.states import VOID_SCALE, Floats, Window
from tracetune.eisv.vocabulary import shape_index
from tracetune.errors import DataError

MIN_POINTS = 3
"""Fewer states can have neither a spike nor a second derivative."""
ATTEMPTS = 20
_NEXT_ATTEMPT = 7919
# Room for the seeds of all attempts and of their noise between two items.
_SEED_STEP = 1 << 18
_MAX_ITEMS = 1 << 24

_Recipe = Callable[[np.random.Generator, int, float], tuple[Window, float]]


def generate(shape: str, n_points: int = 20, dt: float = 1.0, *, seed: int) -> Window:
    """A window of a shape, the same for the same arguments.

    Each attempt is classified; one of another shape is made again with the next seed.

    Args:
        shape: One of ``vocabulary.SHAPES``.
        n_points: States in the window, at least 3.
        dt: Seconds between two states. Shapes that can only occur in short windows use less.
        seed: Not negative.

    Returns:
        Times from 0; with ``ethical_drift`` only for ``drift_dissonance``.

    Raises:
        DataError: No such shape, too few points, or none of 20 attempts had the shape.
    """
    shape_index(shape)
    if n_points < MIN_POINTS or not (math.isfinite(dt) and dt > 0) or seed < 0:
        raise DataError(
            f"no trajectory of {n_points} points at {dt} s with the seed {seed}",
            where=shape,
            remedy="give at least 3 points, a positive dt and a seed that is not negative",
        )
    for attempt in range(ATTEMPTS):
        window = _attempt(shape, n_points, dt, seed + attempt * _NEXT_ATTEMPT)
        if classify(window) == shape:
            return window
    raise DataError(
        f"{ATTEMPTS} attempts gave no trajectory of this shape",
        where=f"{shape}: {n_points} points at {dt} s, seed {seed}",
        remedy="use another number of points or a smaller dt",
    )


def seed_of(run_seed: int, shape: str, index: int) -> int:
    """The seed of a synthetic item, from the run's seed, the shape and the item's number.

    No two items of a run share one, and neither do their attempts and their noise. Other runs start
    from another place.

    Returns:
        A number that fits into 63 bits.

    Raises:
        DataError: No such shape, or a number outside 0 to 16,777,215.
    """
    place = shape_index(shape)
    if not 0 <= index < _MAX_ITEMS:
        raise DataError(
            f"the number {index} of a synthetic item is outside 0 to {_MAX_ITEMS - 1}", where=shape
        )
    digest = hashlib.blake2b(f"eisv:{run_seed}".encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "big") >> 2
    return start + (place * _MAX_ITEMS + index) * _SEED_STEP


def _attempt(shape: str, n: int, dt: float, seed: int) -> Window:
    window, sigma = _RECIPES[shape](np.random.default_rng(seed), n, dt)
    values = window.values
    if sigma:
        values = values + np.random.default_rng(seed + 1).normal(0.0, sigma, values.shape)
    return Window(t=window.t, values=values.clip(0.0, 1.0), drift=window.drift)


def _window(
    n: int,
    dt: float,
    e: Floats | float,
    i: Floats | float,
    s: Floats | float,
    v: Floats | float,
    drift: Floats | None = None,
) -> Window:
    t = np.arange(n, dtype=np.float64) * dt
    columns = [np.broadcast_to(np.asarray(each, dtype=np.float64), (n,)) for each in (e, i, s, v)]
    return Window(t=t, values=np.stack(columns, axis=1), drift=drift)


def _u(rng: np.random.Generator, low: float, width: float) -> float:
    return low + float(rng.uniform(0.0, width))


def _short(n: int, dt: float, span: float, rate: float) -> float:
    """The interval at which a change of ``span`` within a window is fast enough."""
    return min(dt, span / (rate * (n - 1)))


def _settled_presence(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    e, i = _u(rng, 0.65, 0.15), _u(rng, 0.60, 0.15)
    s, v = _u(rng, 0.15, 0.10), _u(rng, 0.05, 0.05)
    return _window(n, dt, e, i, s, v), 0.0


def _rising_entropy(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    dt = _short(n, dt, 0.85, 0.06)
    start = _u(rng, 0.05, 0.10)
    s = np.linspace(start, min(start + 0.06 * (n - 1) * dt, 0.95), n)
    e, i, v = _u(rng, 0.50, 0.05), _u(rng, 0.55, 0.10), _u(rng, 0.08, 0.02)
    return _window(n, dt, e, i, s, v), 0.001


def _falling_energy(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    dt = _short(n, dt, 0.19, 0.055)
    start = _u(rng, 0.55, 0.10)
    e = np.linspace(start, start - min(0.06 * (n - 1) * dt, 0.19), n)
    s, i, v = _u(rng, 0.20, 0.05), _u(rng, 0.55, 0.10), _u(rng, 0.08, 0.02)
    return _window(n, dt, e, i, s, v), 0.001


def _basin_transition_down(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    start = _u(rng, 0.80, 0.10)
    end = min(max(start - _u(rng, 0.25, 0.10), 0.05), 0.55)
    return _basin(rng, n, dt, start, end)


def _basin_transition_up(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    start = _u(rng, 0.30, 0.10)
    end = min(max(start + _u(rng, 0.25, 0.10), 0.60), 0.95)
    return _basin(rng, n, dt, start, end)


def _basin(
    rng: np.random.Generator, n: int, dt: float, start: float, end: float
) -> tuple[Window, float]:
    s, i, v = _u(rng, 0.20, 0.05), _u(rng, 0.55, 0.10), _u(rng, 0.08, 0.02)
    return _window(n, dt, np.linspace(start, end, n), i, s, v), 0.002


def _entropy_spike_recovery(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    base = _u(rng, 0.15, 0.05)
    top = min(base + _u(rng, 0.30, 0.15), 0.95)
    reach = max(1, n // 6)
    peak = n // 2 + int(rng.integers(-reach, reach + 1))
    peak = min(max(peak, 1), n - 2)
    s = np.interp(np.arange(n), [0, peak, n - 1], [base, top, base])
    e, i, v = _u(rng, 0.55, 0.05), _u(rng, 0.55, 0.10), _u(rng, 0.08, 0.02)
    return _window(n, dt, e, i, s, v), 0.002


def _drift_dissonance(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    drift = 0.05 + rng.uniform(0.0, 0.05, n)
    place = n // 2 + int(rng.integers(-1, 2))
    drift[min(max(place, 0), n - 1)] = _u(rng, 0.35, 0.20)
    e, i = _u(rng, 0.50, 0.05), _u(rng, 0.35, 0.10)
    s, v = _u(rng, 0.20, 0.05), _u(rng, 0.08, 0.02)
    return _window(n, dt, e, i, s, v, drift), 0.0


def _void_rising(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    dt = _short(n, dt, 0.25, 0.06)
    start = _u(rng, 0.02, 0.03)
    v = np.linspace(start, min(start + 0.06 * (n - 1) * dt, VOID_SCALE), n)
    e, i, s = _u(rng, 0.55, 0.05), _u(rng, 0.55, 0.10), _u(rng, 0.20, 0.05)
    return _window(n, dt, e, i, s, v), 0.001


def _convergence(rng: np.random.Generator, n: int, dt: float) -> tuple[Window, float]:
    e, i = _u(rng, 0.60, 0.05), _u(rng, 0.55, 0.05)
    s, v = _u(rng, 0.25, 0.05), _u(rng, 0.10, 0.03)
    # Small enough for derivatives below the threshold, large enough not to stand still.
    swing = 0.5 * min(0.08, 0.04 * n * dt / (2 * math.pi))
    swing = max(swing, 1e-7, 1e-8 * dt)
    steps = np.arange(n)
    phase = 2 * math.pi * steps / n
    decay = swing * np.exp(-2 * steps / n)
    return _window(
        n,
        dt,
        e + decay * np.sin(phase),
        i + decay * np.cos(phase),
        s + 0.5 * decay * np.sin(phase + 1),
        v + 0.3 * decay * np.cos(phase + 2),
    ), 0.0


_RECIPES: dict[str, _Recipe] = {
    "settled_presence": _settled_presence,
    "rising_entropy": _rising_entropy,
    "falling_energy": _falling_energy,
    "basin_transition_down": _basin_transition_down,
    "basin_transition_up": _basin_transition_up,
    "entropy_spike_recovery": _entropy_spike_recovery,
    "drift_dissonance": _drift_dissonance,
    "void_rising": _void_rising,
    "convergence": _convergence,
}
