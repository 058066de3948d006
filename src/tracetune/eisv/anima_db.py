"""Reads the database in which Lumen keeps its states and expressions (SQLite).

Tables: ``state_history`` (id, timestamp, warmth, clarity, stability, presence) and
``primitive_history`` (id, timestamp, tokens); further columns are not needed. Times are ISO text;
one without a zone is UTC. The file is not changed. Beside it nothing is left either, with one
exception: while a write-ahead log (``-wal``) lies beside it, of a program that runs or that was
killed, SQLite needs its index to read what stands in the log, and a ``-shm`` file may stay there.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracetune.eisv.recording import BadStates, Recording, expression_of
from tracetune.eisv.states import ANIMA, Floats, from_anima
from tracetune.errors import DataError
from tracetune.records import EisvExpression

COLUMNS: dict[str, tuple[str, ...]] = {
    "state_history": ("id", "timestamp", *ANIMA),
    "primitive_history": ("id", "timestamp", "tokens"),
}
BATCH = 50_000
LOCK_TIMEOUT_S = 5.0
_SHOWN = 5
_ROUNDING = 1e-9
"""A scalar may be this far outside [0, 1] and is clamped."""
_NOT_A_DATABASE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PRIMARY_CODE = 0xFF
_HEADER = b"SQLite format 3\x00"
_WAL = 2


@dataclass(frozen=True)
class AnimaDatabase:
    """A handle on a database file. Nothing is read until it is asked for.

    Attributes:
        path: The file.
    """

    path: Path

    def read(
        self, bad_states: BadStates = "stop", *, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> Recording:
        """All states and expressions, from one moment of the database.

        Args:
            bad_states: What is done with states that hold no finite number in [0, 1] or no time.
            lock_timeout_s: How long another program may hold the file.

        Raises:
            DataError: No such file, not a database, broken, locked, a table or column is missing,
                or states cannot be used; the message names them by id.
        """
        stamp = self._stamp()
        with self._errors(), contextlib.closing(self._connect(stamp, lock_timeout_s)) as found:
            found.execute("BEGIN")  # one moment for both tables
            self._check_whole(found)
            self._check_tables(found)
            recording = self._states(found, bad_states)
            dropped: Counter[str] = Counter()
            recording.expressions.extend(self._expressions(found, dropped))
            recording.expressions_dropped.update(dropped)
        if stamp.frozen and self._stamp() != stamp:
            raise DataError(
                "the database was changed while it was read",
                where=str(self.path),
                remedy="run again, or read a copy of it",
            )
        return recording

    def _stamp(self) -> _Stamp:
        if not self.path.is_file():
            known = sorted(path.name for path in self.path.parent.glob("*.db"))
            raise DataError(
                "there is no such database",
                where=str(self.path),
                remedy=f"give the path of an anima database (there: {', '.join(known) or 'none'})",
            )
        try:
            with self.path.open("rb") as file:
                header = file.read(20)
        except OSError as error:
            raise DataError(
                f"the database cannot be read: {error.strerror}",
                where=str(self.path),
                remedy="allow reading it",
            ) from None
        if not header.startswith(_HEADER):
            raise self._broken("it does not begin like an SQLite database")
        facts = self.path.stat()
        log = self.path.with_name(self.path.name + "-wal").exists()
        # A database with a write-ahead log that no program has open has no log beside it. Opened as
        # usual, reading would leave two files there; as immutable, it leaves none.
        frozen = header[18:20] == bytes((_WAL, _WAL)) and not log
        return _Stamp(facts.st_size, facts.st_mtime_ns, frozen)

    def _connect(self, stamp: _Stamp, lock_timeout_s: float) -> sqlite3.Connection:
        uri = self.path.resolve().as_uri() + "?mode=ro" + ("&immutable=1" if stamp.frozen else "")
        return sqlite3.connect(uri, uri=True, timeout=lock_timeout_s, isolation_level=None)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of SQLite as errors for people."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
            if code in _BUSY:
                raise DataError(
                    "another program has locked the database",
                    where=str(self.path),
                    remedy="wait until it is done, or read a copy of the database",
                ) from None
            if code in _NOT_A_DATABASE:
                raise self._broken(str(error)) from None
            raise DataError(
                f"the database cannot be read: {error}",
                where=str(self.path),
                remedy="check the file and the folder that it lies in",
            ) from None

    def _broken(self, why: str) -> DataError:
        return DataError(
            f"the file is not a database or is broken: {why}",
            where=str(self.path),
            remedy="take it from a backup, or recover what is left: sqlite3 FILE .recover",
        )

    def _check_whole(self, found: sqlite3.Connection) -> None:
        answer = found.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise self._broken(str(answer).splitlines()[-1])

    def _check_tables(self, found: sqlite3.Connection) -> None:
        for table, needed in COLUMNS.items():
            there = {row[1] for row in found.execute(f"PRAGMA table_info({table})")}
            missing = [name for name in needed if name not in there]
            if not there or missing:
                what = f"no column {', '.join(missing)}" if there else "no such table"
                raise DataError(
                    what,
                    where=f"{self.path}, table {table}",
                    remedy=f"an anima database has {table}({', '.join(needed)})",
                )

    def _states(self, found: sqlite3.Connection, bad_states: BadStates) -> Recording:
        parts: list[tuple[npt.NDArray[np.int64], Floats, Floats]] = []
        for rows in _batches(found, "state_history"):
            ids = self._ids(rows)
            times = np.array([_seconds(row[1]) for row in rows], dtype=np.float64)
            parts.append((ids, times, _numbers([row[2:] for row in rows])))
        empty = (np.empty(0, np.int64), np.empty(0), np.empty((0, len(ANIMA))))
        ids, times, scalars = (np.concatenate(each) for each in zip(empty, *parts, strict=True))
        bad = {
            "no time": np.isnan(times),
            "no finite number": ~np.isfinite(scalars).all(axis=1),
            "outside [0, 1]": ((scalars < -_ROUNDING) | (scalars > 1 + _ROUNDING)).any(axis=1),
        }
        bad["outside [0, 1]"] &= ~bad["no finite number"]
        wrong = np.logical_or.reduce(list(bad.values()))
        if wrong.any() and bad_states == "stop":
            raise self._bad(ids, bad)
        dropped = _first_reasons(bad)
        kept = ~wrong
        return Recording(
            ids=ids[kept],
            t=times[kept],
            values=from_anima(*scalars[kept].T),
            expressions=[],
            states_read=len(ids),
            dropped=dropped,
        )

    def _ids(self, rows: list[tuple[object, ...]]) -> npt.NDArray[np.int64]:
        ids = [row[0] for row in rows if isinstance(row[0], int)]
        if len(ids) < len(rows):
            wrong = next(row[0] for row in rows if not isinstance(row[0], int))
            raise DataError(
                f"an id that is not a whole number: {wrong!r}",
                where=f"{self.path}, table state_history",
                remedy="give each state a whole number as id",
            )
        return np.array(ids, dtype=np.int64)

    def _bad(self, ids: npt.NDArray[np.int64], bad: dict[str, npt.NDArray[np.bool_]]) -> DataError:
        said = []
        for reason, wrong in bad.items():
            if wrong.any():
                some = ", ".join(str(i) for i in ids[wrong][:_SHOWN].tolist())
                more = f" and {int(wrong.sum()) - _SHOWN} more" if wrong.sum() > _SHOWN else ""
                said.append(f"{reason}: id {some}{more}")
        return DataError(
            f"states cannot be used ({'; '.join(said)})",
            where=f"{self.path}, table state_history",
            remedy="correct them, or leave them out: bad_states=drop",
        )

    def _expressions(
        self, found: sqlite3.Connection, dropped: Counter[str]
    ) -> Iterator[EisvExpression]:
        for rows in _batches(found, "primitive_history"):
            for _, timestamp, tokens in rows:
                time = _seconds(timestamp)
                if np.isnan(time):
                    dropped["no time"] += 1
                    continue
                words = [word.strip() for word in str(tokens or "").split(",") if word.strip()]
                said = expression_of(words, time, dropped)
                if said is not None:
                    yield said


@dataclass(frozen=True)
class _Stamp:
    """Size and time of a file, and whether no program has it open."""

    size: int
    changed_ns: int
    frozen: bool


def _batches(found: sqlite3.Connection, table: str) -> Iterator[list[tuple[object, ...]]]:
    cursor = found.execute(f"SELECT {', '.join(COLUMNS[table])} FROM {table} ORDER BY id")
    while rows := cursor.fetchmany(BATCH):
        yield rows


def _seconds(timestamp: object) -> float:
    """Seconds since 1970 UTC of an ISO time, NaN if it is none."""
    if not isinstance(timestamp, str):
        return float("nan")
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _numbers(rows: list[tuple[object, ...]]) -> Floats:
    """Rows as floats; what is no number is NaN (SQLite keeps NaN itself as NULL).

    Text and bytes are no numbers, even if they read like one.
    """
    return np.array(
        [[v if isinstance(v, int | float) else np.nan for v in row] for row in rows],
        dtype=np.float64,
    )


def _first_reasons(bad: dict[str, npt.NDArray[np.bool_]]) -> dict[str, int]:
    """Counts by reason, a state that has several under the first."""
    counts: dict[str, int] = {}
    seen: npt.NDArray[np.bool_] | None = None
    for reason, wrong in bad.items():
        new = wrong if seen is None else wrong & ~seen
        seen = wrong if seen is None else wrong | seen
        if new.any():
            counts[reason] = int(new.sum())
    return counts
