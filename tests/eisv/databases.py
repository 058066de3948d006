"""Small anima databases for tests."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

TABLES = """
CREATE TABLE state_history (
    id INTEGER PRIMARY KEY, timestamp TEXT, warmth REAL, clarity REAL, stability REAL,
    presence REAL, sensors TEXT
);
CREATE TABLE primitive_history (
    id INTEGER PRIMARY KEY, timestamp TEXT, tokens TEXT, category_pattern TEXT, score REAL
);
"""


def database(
    path: Path,
    states: Iterable[Sequence[object]] = (),
    said: Iterable[Sequence[object]] = (),
    *,
    tables: str = TABLES,
) -> Path:
    """Writes a database.

    Args:
        path: Where.
        states: (timestamp, warmth, clarity, stability, presence), numbered from 1.
        said: (timestamp, tokens), numbered from 1.
        tables: Statements that make the tables.
    """
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.executescript(tables)
        file.executemany(
            "INSERT INTO state_history (timestamp, warmth, clarity, stability, presence)"
            " VALUES (?, ?, ?, ?, ?)",
            states,
        )
        file.executemany("INSERT INTO primitive_history (timestamp, tokens) VALUES (?, ?)", said)
    return path
