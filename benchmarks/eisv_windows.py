"""A million EISV windows derived, classified and labelled, against a plain Python loop.

    python benchmarks/eisv_windows.py [--windows 1000000] [--loop 5000]

The windows have 20 states, all nine shapes, noise, and one in a thousand has two equal times. They
are made in blocks, outside the clock. Ours is timed over all of them; the loop over the first of
the windows, and scaled up. The loop works on lists of floats made before its clock starts, and does
by hand what ``tracetune.eisv`` does with arrays: all first and second derivatives and their means,
the rules, the draws (from the same uniform numbers). Every label of the loop is compared. The exit
status says whether all are the same and the arrays are at least 30 times faster.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from tracetune.eisv.expression import label_many
from tracetune.eisv.shapes import survey
from tracetune.eisv.synthetic import generate, seed_of
from tracetune.eisv.vocabulary import (
    AFFINITY,
    EISV_TOKENS,
    INQUIRY_TOKENS,
    PATTERN_WEIGHTS,
    SHAPES,
)

STATES = 20
BLOCK = 50_000
TEMPLATES = 40
SEED = 42
AT_LEAST = 30

Row = list[float]


def windows(count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Times, values and drift of windows of all shapes, in blocks."""
    made = [
        generate(shape, STATES, seed=seed_of(SEED, shape, i))
        for shape in SHAPES
        for i in range(TEMPLATES)
    ]
    t = np.stack([window.t for window in made])
    values = np.stack([window.values for window in made])
    drift = np.stack([np.zeros(STATES) if w.drift is None else w.drift for w in made])
    rng = np.random.default_rng(SEED)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        chosen = rng.integers(0, len(made), size)
        noise = rng.normal(0, 0.002, (size, STATES, 4)) * rng.integers(0, 2, (size, 1, 1))
        times = t[chosen]
        times[::1000, 7] = times[::1000, 6]
        yield times, np.clip(values[chosen] + noise, 0, 1), drift[chosen]


def derive_by_hand(t: Row, rows: list[Row]) -> tuple[Row, list[Row]]:
    """Difference quotients of consecutive rows; equal times give none."""
    new_t, found = [], []
    for i in range(1, len(rows)):
        step = t[i] - t[i - 1]
        if step == 0:
            continue
        a, b = rows[i - 1], rows[i]
        new_t.append(t[i])
        found.append([(b[k] - a[k]) / step for k in range(4)])
    return new_t, found


def mean_by_hand(rows: list[Row]) -> Row:
    """Mean of each of four columns; 0 without rows."""
    total = [0.0, 0.0, 0.0, 0.0]
    for row in rows:
        for k in range(4):
            total[k] += row[k]
    return [each / len(rows) for each in total] if rows else total


def classify_by_hand(rows: list[Row], drift: Row, first: list[Row], second: list[Row]) -> str:
    """The nine rules, in order."""
    energy = [row[0] for row in rows]
    entropy = [row[2] for row in rows]
    mean = mean_by_hand(first)
    wide = max(energy) - min(energy) >= 0.2
    if wide and mean[0] < 0 and energy[0] > energy[-1]:
        return "basin_transition_down"
    if wide and mean[0] > 0 and energy[-1] > energy[0]:
        return "basin_transition_up"
    top = max(entropy)
    if top - min(entropy) >= 0.2 and 0 < entropy.index(top) < len(entropy) - 1:
        return "entropy_spike_recovery"
    if max(drift) > 0.3:
        return "drift_dissonance"
    if mean[3] > 0.05:
        return "void_rising"
    if mean[2] > 0.05:
        return "rising_entropy"
    if mean[0] < -0.05:
        return "falling_energy"
    if first and second:
        changes = [abs(each) for row in first for each in row]
        slow = max(changes) < 0.05 and all(abs(each) < 0.05 for row in second for each in row)
        if slow and max(changes) > 1e-9:
            return "convergence"
    return "settled_presence"


def pick_by_hand(weights: Row, draw: float, used: tuple[int, ...] = ()) -> int:
    """The index on which a uniform number falls."""
    total, sums = 0.0, []
    for i, weight in enumerate(weights):
        total += 0.0 if i in used else weight
        sums.append(total)
    place = draw * total
    for i, reached in enumerate(sums):
        if place < reached:
            return i
    raise AssertionError("a uniform number is below 1")


def express_by_hand(shape: str, draws: Row) -> tuple[str, tuple[str, ...]]:
    """A pattern and its tokens, from four uniform numbers."""
    shares = PATTERN_WEIGHTS[shape]
    pattern = list(shares)[pick_by_hand(list(shares.values()), draws[0])]
    weights = [3.0 if token in AFFINITY[shape] else 1.0 for token in EISV_TOKENS]
    first = pick_by_hand(weights, draws[1])
    tokens = [EISV_TOKENS[first]]
    if pattern in ("PAIR", "TRIPLE"):
        second = pick_by_hand(weights, draws[2], (first,))
        tokens.append(EISV_TOKENS[second])
        if pattern == "TRIPLE":
            tokens.append(EISV_TOKENS[pick_by_hand(weights, draws[3], (first, second))])
    elif pattern == "REPETITION":
        tokens.append(tokens[0])
    elif pattern == "QUESTION":
        tokens.append(INQUIRY_TOKENS[0] if draws[2] < 0.5 else INQUIRY_TOKENS[1])
    return pattern, tuple(tokens)


Label = tuple[str, str, tuple[str, ...]]


def loop(t: list[Row], values: list[list[Row]], drift: list[Row], draws: list[Row]) -> list[Label]:
    """Shape, pattern and tokens of each window, one after the other."""
    found = []
    for times, rows, dissonance, uniform in zip(t, values, drift, draws, strict=True):
        first_t, first = derive_by_hand(times, rows)
        _, second = derive_by_hand(first_t, first)
        mean_by_hand(second)
        shape = classify_by_hand(rows, dissonance, first, second)
        found.append((shape, *express_by_hand(shape, uniform)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--loop", type=int, default=5_000, help="windows for the loop")
    arguments = parser.parse_args()
    looped = min(arguments.loop, arguments.windows, BLOCK)

    steps: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    ours: list[Label] = []
    by_hand: list[Label] = []
    loop_s = 0.0
    for block, (t, values, drift) in enumerate(windows(arguments.windows)):
        started = time.perf_counter()
        codes = survey(t, values, drift).codes
        classified = time.perf_counter()
        labels = label_many(codes, SEED + block)
        labelled = time.perf_counter()
        steps["derive_and_classify_s"] += classified - started
        steps["label_s"] += labelled - classified
        counts.update(np.array(SHAPES)[codes].tolist())
        if block == 0:
            names = [SHAPES[code] for code in codes[:looped].tolist()]
            patterns, tokens = labels.pattern_names()[:looped], labels.token_lists()[:looped]
            ours = list(zip(names, patterns, tokens, strict=True))
            draws = np.random.default_rng(SEED).random((looped, 4)).tolist()
            plain = [array[:looped].tolist() for array in (t, values, drift)]
            started = time.perf_counter()
            by_hand = loop(*plain, draws)
            loop_s = time.perf_counter() - started

    total = sum(steps.values())
    scaled = loop_s * arguments.windows / looped
    faster = round(scaled / total, 1)
    same = ours == by_hand
    result = {
        "windows": arguments.windows,
        "seconds": round(total, 2),
        "steps": {name: round(seconds, 2) for name, seconds in steps.items()},
        "loop_seconds": round(scaled, 1),
        "loop_measured_on": looped,
        "times_faster": faster,
        "same_labels": same,
        "shapes": dict(counts.most_common()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(result, indent=2))
    return 0 if same and faster >= AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
