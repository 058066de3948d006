"""``python -m tools.eisv_sample.make [FILE]``: writes the sample database, always the same.

Besides what a device measures and says the file has what real files have: a session that was
written late, so that ids are not in the order of time, and a few states written twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tools.eisv_sample.sessions import SEED, Session, sessions

from tracetune.eisv.expression import ExpressionGenerator
from tracetune.eisv.options import WindowOptions
from tracetune.eisv.recording import Recording
from tracetune.eisv.states import to_anima
from tracetune.eisv.vocabulary import LUMEN_CATEGORIES
from tracetune.eisv.windows import trajectories_of
from tracetune.files import atomic_path
from tracetune.records import EisvTrajectory

FILE = Path(__file__).parents[2] / "data/01_raw/demo/eisv/demo.db"

LATE_SESSION = 10
TWICE = (412, 1_733, 2_950, 4_301)
SPEAKS = 0.7
"""Share of the windows in which something is said."""
TOKENS_SINCE = 32
"""From this session on the tokens themselves are stored; before, what they were translated to."""

SCHEMA = """
CREATE TABLE state_history (
    id INTEGER PRIMARY KEY, timestamp TEXT NOT NULL,
    warmth REAL, clarity REAL, stability REAL, presence REAL, sensors TEXT
);
CREATE TABLE primitive_history (
    id INTEGER PRIMARY KEY, timestamp TEXT NOT NULL, tokens TEXT NOT NULL, category_pattern TEXT,
    warmth REAL, brightness REAL, stability REAL, presence REAL, score REAL, feedback_signals TEXT,
    UNIQUE (timestamp, tokens)
);
"""


def write(path: Path, seed: int = SEED) -> None:
    """Writes the database, whole or not at all."""
    made = sessions(seed)
    with atomic_path(path) as temporary:
        temporary.unlink()
        with contextlib.closing(sqlite3.connect(temporary)) as file, file:
            file.executescript(SCHEMA)
            file.executemany(
                "INSERT INTO state_history VALUES (?, ?, ?, ?, ?, ?, ?)", _states(made)
            )
            file.executemany(
                "INSERT INTO primitive_history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _expressions(made, seed),
            )


def _states(made: list[Session]) -> Iterator[tuple[object, ...]]:
    late = made[LATE_SESSION]
    ordered = [*made[:LATE_SESSION], *made[LATE_SESSION + 1 :], late]
    times = np.concatenate([session.t for session in ordered])
    scalars = to_anima(np.concatenate([session.values for session in ordered])).round(4)
    number = 0
    for place, (time, row) in enumerate(zip(times.tolist(), scalars.tolist(), strict=True)):
        for _ in range(2 if place in TWICE else 1):
            number += 1
            sensors = json.dumps({"lux": round(400 * row[1] + place % 7, 1)})
            yield number, _iso(time), *row, sensors


def _expressions(made: list[Session], seed: int) -> Iterator[tuple[object, ...]]:
    generator, speaker = np.random.default_rng(seed + 1), ExpressionGenerator(seed + 2)
    number = 0
    for session_number, session in enumerate(made):
        for window in _windows(session):
            said = speaker.generate(window.shape)
            time = generator.uniform(window.t_start, window.t_end)
            if generator.uniform() > SPEAKS:
                continue
            number += 1
            words = said.tokens if session_number >= TOKENS_SINCE else said.lumen
            kinds = [_category(word) for word in said.lumen]
            state = window.states[0]
            warmth, clarity, stability, presence = (
                to_anima([state.E, state.I, state.S, state.V]).round(4).tolist()
            )
            score = round(float(generator.uniform(0.2, 0.9)), 3)
            signals = json.dumps({"resonance": score > 0.6})
            yield (
                *(number, _iso(time), ",".join(words), ",".join(kinds)),
                *(warmth, clarity, stability, presence, score, signals),
            )


def _windows(session: Session) -> list[EisvTrajectory]:
    recording = Recording(
        ids=np.arange(len(session.t)),
        t=session.t,
        values=session.values,
        expressions=[],
        states_read=len(session.t),
    )
    return trajectories_of(recording, WindowOptions(), tenant="demo")[0]


def _category(word: str) -> str:
    return next(kind for kind, words in LUMEN_CATEGORIES.items() if word in words)


def _iso(time: float) -> str:
    """Without a zone, as the device writes it; it is UTC."""
    return datetime.fromtimestamp(time, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.eisv_sample.make", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=FILE)
    path = parser.parse_args().file
    write(path)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
