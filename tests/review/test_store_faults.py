"""Real processes on one folder: killed while they write, and writing at the same time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.project import ROOT
from tests.review.builders import AT, SPEC, item
from tracetune.errors import DataError
from tracetune.review.store import ReviewStore

pytestmark = pytest.mark.faults

COUNT = 60
WORKER = """
import sys
from pathlib import Path
from tests.review.builders import AT, SPEC, item
from tracetune.errors import DataError
from tracetune.review.store import ReviewStore

folder, who, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = ReviewStore(folder)
for start in range(1, count + 1, 5):
    store.submit([item(n) for n in range(start, start + 5)], SPEC, auto_approve_from=None, at=AT)
for shown in store.open_items():
    try:
        store.decide(shown.item.id, True, who=who, place="terminal", at=AT)
    except DataError:
        continue
    print(shown.item.id, flush=True)
"""


def worker(folder: Path, who: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), who, str(COUNT)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_moment_nothing_confirmed_is_lost_and_nothing_is_there_twice(tmp_path):
    confirmed: set[str] = set()
    delays = random.Random(7)
    for _ in range(6):
        process = worker(tmp_path, "ada")
        first = process.stdout.readline() if confirmed or delays.random() < 0.5 else ""
        time.sleep(delays.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        # The last line of the output may be cut, the decision is on the disk all the same.
        confirmed |= {line for line in (first + rest).splitlines() if len(line) == 25}
        found = ReviewStore(tmp_path).items()
        assert len({shown.item.id for shown in found}) == len(found)
        assert confirmed <= {shown.item.id for shown in found if shown.state == "approved"}
    process = worker(tmp_path, "ada")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    store = ReviewStore(tmp_path)
    assert store.counts()["approved"] == len(store.items()) == COUNT
    assert [event.seq for event in store.history()] == list(range(1, 2 * COUNT + 1))


@pytest.mark.parametrize("name", ["items.jsonl", "history.jsonl"])
def test_a_file_cut_at_any_byte_of_its_last_line_is_continued(tmp_path, name):
    store = ReviewStore(tmp_path)
    items = [item(n) for n in range(1, 4)]
    store.submit(items, SPEC, auto_approve_from=None, at=AT)
    whole = {path: (tmp_path / path).read_bytes() for path in ("items.jsonl", "history.jsonl")}
    last = len(whole[name].rstrip(b"\n").rpartition(b"\n")[0]) + 1
    for cut in range(last, len(whole[name]), 7):
        for path, content in whole.items():
            (tmp_path / path).write_bytes(content)
        (tmp_path / name).write_bytes(whole[name][:cut])
        if name == "items.jsonl":
            # The events were never written before the candidates they are about.
            lines = whole["history.jsonl"].splitlines(keepends=True)
            (tmp_path / "history.jsonl").write_bytes(b"".join(lines[:2]))
        again = ReviewStore(tmp_path)
        again.submit(items, SPEC, auto_approve_from=None, at=AT)
        assert {path: (tmp_path / path).read_bytes() for path in whole} == whole


def test_two_processes_at_once_decide_everything_once(tmp_path):
    workers = [worker(tmp_path, who) for who in ("ada", "bob")]
    outputs = [process.communicate(timeout=60)[0].split() for process in workers]
    assert [process.returncode for process in workers] == [0, 0]
    assert sorted(outputs[0] + outputs[1]) == sorted(item(n).id for n in range(1, COUNT + 1))
    store = ReviewStore(tmp_path)
    assert store.counts()["approved"] == COUNT
    for line in (tmp_path / "history.jsonl").read_text().splitlines():
        json.loads(line)
    with pytest.raises(DataError):
        store.decide(item(1).id, True, who="eve", place="terminal", at=AT)
