"""Reading anima databases: what comes out, and what is refused."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tools.eisv_sample import make

from tests.eisv.databases import TABLES, database
from tests.project import ROOT
from tracetune.eisv.anima_db import AnimaDatabase
from tracetune.errors import DataError

SAMPLE = ROOT / "data/01_raw/demo/eisv/demo.db"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
FINE = (0.5, 0.6, 0.7, 0.8)


def test_states_become_eisv_and_times_without_zone_are_utc(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        [
            ("2026-01-05T12:00:00", 0.5, 0.6, 0.7, 0.8),
            ("2026-01-05 12:00:02.5", 1, 0, 1.0, 0),
            ("2026-01-05T13:00:00+01:00", 0, 1, 0, 1),
            ("2026-01-05T12:00:00Z", 1.0 + 1e-12, 0.25, 0.5, 0.5),
        ],
    )
    found = AnimaDatabase(path).read()
    assert found.ids.tolist() == [1, 2, 3, 4]
    assert found.t.tolist() == [NOON, NOON + 2.5, NOON, NOON]
    assert found.values == pytest.approx(
        np.array([[0.5, 0.6, 0.3, 0.06], [1, 0, 0, 0.3], [0, 1, 1, 0], [1, 0.25, 0.5, 0.15]])
    )
    assert found.values.max() <= 1
    assert (found.states_read, found.dropped, found.expressions) == (4, {}, [])


def test_words_are_tokens_or_primitives_and_their_pattern_is_inferred(tmp_path: Path) -> None:
    said = [
        ("2026-01-05T12:00:01", "warm"),
        ("2026-01-05T12:00:02", "quiet, here"),
        ("2026-01-05T12:00:03", "here,here"),
        ("2026-01-05T12:00:04", "busy,wonder"),
        ("2026-01-05T12:00:05", "why,busy,what"),
        ("2026-01-05T12:00:06", "~ripple~,~curiosity~"),
        ("2026-01-05T12:00:07", "~stillness~,~holding~,~return~"),
        ("2026-01-05T12:00:08", ""),
        ("2026-01-05T12:00:09", None),
        ("2026-01-05T12:00:10", "hello"),
        ("2026-01-05T12:00:11", "warm,~ripple~"),
        ("2026-01-05T12:00:12", "warm,cold,dim,busy"),
        ("yesterday", "warm"),
    ]
    found = AnimaDatabase(database(tmp_path / "a.db", said=said)).read()
    assert [(one.pattern, one.tokens, one.lumen) for one in found.expressions] == [
        ("SINGLE", [], ["warm"]),
        ("PAIR", [], ["quiet", "here"]),
        ("REPETITION", [], ["here", "here"]),
        ("QUESTION", [], ["busy", "wonder"]),
        ("TRIPLE", [], ["why", "busy", "what"]),
        ("QUESTION", ["~ripple~", "~curiosity~"], ["busy", "why"]),
        ("TRIPLE", ["~stillness~", "~holding~", "~return~"], ["quiet", "here", "warm"]),
    ]
    assert {one.pattern_source for one in found.expressions} == {"inferred"}
    assert [one.time for one in found.expressions] == [NOON + n for n in range(1, 8)]
    assert found.expressions_dropped == {
        "no words": 2,
        "unknown words": 2,
        "more than three words": 1,
        "no time": 1,
    }


BAD = [
    ("2026-01-05T12:00:00", *FINE),
    ("2026-01-05T12:00:02", None, 0.6, 0.7, 0.8),
    ("2026-01-05T12:00:04", 0.5, float("inf"), 0.7, 0.8),
    ("2026-01-05T12:00:06", 0.5, 0.6, float("nan"), 0.8),
    ("2026-01-05T12:00:08", 0.5, 0.6, 0.7, 1.01),
    ("2026-01-05T12:00:10", -0.5, 0.6, 0.7, 0.8),
    ("soon", *FINE),
    (None, *FINE),
    (7, *FINE),
    ("2026-01-05T12:00:12", "warm", 0.6, 0.7, 0.8),
    ("2026-01-05T12:00:14", *FINE),
]


def test_states_that_cannot_be_used_are_named_by_id(tmp_path: Path) -> None:
    base = AnimaDatabase(database(tmp_path / "a.db", BAD))
    with pytest.raises(DataError) as caught:
        base.read()
    message = str(caught.value)
    assert "no time: id 7, 8, 9;" in message
    assert "no finite number: id 2, 3, 4, 10;" in message
    assert "outside [0, 1]: id 5, 6)" in message
    assert "bad_states=drop" in message


def test_or_they_are_dropped_and_counted(tmp_path: Path) -> None:
    found = AnimaDatabase(database(tmp_path / "a.db", BAD)).read("drop")
    assert found.ids.tolist() == [1, 11]
    assert found.states_read == 11
    assert found.dropped == {"no time": 3, "no finite number": 4, "outside [0, 1]": 2}


@pytest.mark.parametrize("neighbour", [0.6, "warm", None])
@pytest.mark.parametrize("text", ["0.5", b"0.5"])
def test_text_is_no_number_whatever_stands_beside_it(tmp_path: Path, text, neighbour) -> None:
    tables = TABLES.replace("warmth REAL, clarity REAL", "warmth, clarity")  # kept as written
    states = [("2026-01-05T12:00:00", text, 0.6, 0.7, 0.8)]
    states += [("2026-01-05T12:00:02", 0.5, neighbour, 0.7, 0.8)]
    found = AnimaDatabase(database(tmp_path / "a.db", states, tables=tables)).read("drop")
    assert found.ids.tolist() == ([2] if neighbour == 0.6 else [])
    assert found.dropped == {"no finite number": 1 if neighbour == 0.6 else 2}


def test_a_long_list_of_bad_states_is_cut(tmp_path: Path) -> None:
    states = [("2026-01-05T12:00:00", 2.0, 0.6, 0.7, 0.8)] * 8
    with pytest.raises(DataError, match=r"id 1, 2, 3, 4, 5 and 3 more"):
        AnimaDatabase(database(tmp_path / "a.db", states)).read()


def test_missing_file_names_what_there_is(tmp_path: Path) -> None:
    database(tmp_path / "there.db")
    with pytest.raises(DataError, match=r"no such database[\s\S]*there: there\.db"):
        AnimaDatabase(tmp_path / "missing.db").read()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.db"]


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\x00" + b"\x00" * 4096])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(DataError, match=r"not a database|no such table"):
        AnimaDatabase(tmp_path / "a.db").read()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_database_is_refused(tmp_path: Path, share: float) -> None:
    whole = SAMPLE.read_bytes()
    (tmp_path / "a.db").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"not a database or is broken"):
        AnimaDatabase(tmp_path / "a.db").read()


def test_a_page_overwritten_is_refused(tmp_path: Path) -> None:
    broken = bytearray(SAMPLE.read_bytes())
    broken[8192:12288] = b"\xff" * 4096
    (tmp_path / "a.db").write_bytes(broken)
    with pytest.raises(DataError, match=r"not a database or is broken"):
        AnimaDatabase(tmp_path / "a.db").read()


def test_a_broken_page_that_no_row_stands_on_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(SAMPLE.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as file:
        (page,) = file.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchone()
        (size,) = file.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as bytes_of:
        bytes_of.seek((page - 1) * size)
        bytes_of.write(b"\xff" * size)
    with pytest.raises(DataError, match=r"not a database or is broken"):
        AnimaDatabase(path).read()


def test_missing_tables_and_columns_are_named(tmp_path: Path) -> None:
    for name, old, new, message in (
        ("a", "state_history", "states", r"no such table[\s\S]*state_history\(id, timestamp"),
        ("b", "primitive_history", "said", r"no such table[\s\S]*primitive_history\(id"),
        ("c", "clarity REAL", "clear REAL", r"table state_history: no column clarity"),
        ("d", "tokens TEXT", "words TEXT", r"table primitive_history: no column tokens"),
    ):
        path = tmp_path / f"{name}.db"
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            file.executescript(TABLES.replace(old, new))
        with pytest.raises(DataError, match=message):
            AnimaDatabase(path).read()


LOCK = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_locked_database_says_so_and_a_free_one_is_read(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", [("2026-01-05T12:00:00", *FINE)])
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(DataError, match="another program has locked the database"):
            AnimaDatabase(path).read(lock_timeout_s=0.1)
    finally:
        holder.communicate("")
    assert len(AnimaDatabase(path).read().t) == 1


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", [("2026-01-05T12:00:00", *FINE)])
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("UPDATE state_history SET warmth = 0.9")
        file.commit()
    before = path.read_bytes()
    assert before[18:20] == b"\x02\x02"
    assert AnimaDatabase(path).read().values[0, 0] == 0.9
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.db"]
    assert path.read_bytes() == before


def test_with_a_log_left_over_the_file_stays_as_it_is(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", [("2026-01-05T12:00:00", *FINE)])
    with contextlib.closing(sqlite3.connect(path)) as device:
        device.execute("PRAGMA journal_mode=WAL")
        device.execute("UPDATE state_history SET warmth = 0.25")
        device.commit()
        left = {name: (tmp_path / name).read_bytes() for name in ("a.db", "a.db-wal")}
    (tmp_path / "killed").mkdir()
    for name, content in left.items():
        (tmp_path / "killed" / name).write_bytes(content)
    assert AnimaDatabase(tmp_path / "killed/a.db").read().values[0, 0] == 0.25
    there = {entry.name: entry for entry in (tmp_path / "killed").iterdir()}
    assert set(there) - {"a.db-shm"} == {"a.db", "a.db-wal"}
    assert {name: there[name].read_bytes() for name in left} == left


def test_what_stands_only_in_the_log_of_a_running_device_is_read(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", [("2026-01-05T12:00:00", *FINE)])
    with contextlib.closing(sqlite3.connect(path)) as device:
        device.execute("PRAGMA journal_mode=WAL")
        device.execute("UPDATE state_history SET warmth = 0.25")
        device.commit()
        assert (tmp_path / "a.db-wal").stat().st_size > 0
        assert AnimaDatabase(path).read().values[0, 0] == 0.25


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db")
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        AnimaDatabase(path).read()


def test_more_rows_than_one_batch(tmp_path: Path) -> None:
    count = 60_000
    states = (
        (f"2026-01-{1 + n // 40_000:02}T{n // 3600 % 11:02}:{n // 60 % 60:02}:{n % 60:02}", *FINE)
        for n in range(count)
    )
    found = AnimaDatabase(database(tmp_path / "a.db", states)).read()
    assert found.states_read == len(found.t) == count
    assert found.ids.tolist() == list(range(1, count + 1))


def test_the_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    make.write(tmp_path / "again.db")
    tables = []
    for path in (SAMPLE, tmp_path / "again.db"):
        with contextlib.closing(sqlite3.connect(path)) as file:
            tables.append(
                [
                    file.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
                    for table in ("state_history", "primitive_history")
                ]
            )
    assert tables[0] == tables[1]
    assert SAMPLE.stat().st_size < 1_000_000
