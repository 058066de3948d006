"""A run that is killed (SIGKILL, a real process) and started again ends with the same bytes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import warm
from tests.training.helpers import dpo_job, sft_job
from tracetune.files import read_json, sha256_folder, write_text
from tracetune.training import checkpoints
from tracetune.training.base import BaseModelRef
from tracetune.training.checkpoints import MARKER
from tracetune.training.job import TrainingJob, job_hash
from tracetune.training.run import run

pytestmark = [pytest.mark.training, pytest.mark.faults]
SKIP = frozenset({"timing.json"})


def _start(job: Path, out: Path, work: Path) -> warm.Started:
    arguments = ["--job", str(job), "--out", str(out), "--work", str(work)]
    return warm.Started("tracetune.training", arguments, cwd=job.parent, env=warm.SOURCE)


def _kill_when(process: warm.Started, moment: Callable[[], bool]) -> bool:
    """Kills the process at the moment; False if it ended before."""
    deadline = time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < deadline
        if moment():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0005)
    return False


def _saving(place: Path, step: int) -> bool:
    """A checkpoint of this step or later is being written: the folder without its marker."""
    return any(
        int(path.name.rsplit("-", 1)[-1]) >= step and not (path / MARKER).exists()
        for path in place.glob("checkpoint-*")
    )


def _saved(place: Path, step: int) -> bool:
    return any(
        int(path.name.rsplit("-", 1)[-1]) >= step and (path / MARKER).exists()
        for path in place.glob("checkpoint-*")
    )


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_killed_at_any_moment_the_result_is_the_same(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path, method: str
) -> None:
    rows = tmp_path / "rows"
    job: TrainingJob = (
        sft_job(base, rows, rows=96, validation=12)
        if method == "sft"
        else dpo_job(base, rows, sft_folder, rows=24, validation=4)
    )
    expected = sha256_folder(run(job, tmp_path / "whole"), skip=SKIP)
    write_text(tmp_path / "job.json", job.model_dump_json())
    work = tmp_path / "work"
    place = work / job_hash(job)[:12]
    moments: list[Callable[[], bool]] = [
        lambda: place.exists(),  # before the first step
        lambda: _saving(place, 2),  # while a checkpoint is written
        lambda: _saved(place, 4),  # just after one
        lambda: _saving(place, 8),
    ]
    killed = [
        _kill_when(_start(tmp_path / "job.json", tmp_path / "out", work), moment)
        for moment in moments
    ]
    assert all(killed)
    assert not (tmp_path / "out").exists()  # nothing half written where the result goes
    process = _start(tmp_path / "job.json", tmp_path / "out", work)
    assert process.wait(timeout=120) == 0
    assert read_json(tmp_path / "out" / "timing.json")["resumed_from_step"] >= 4
    assert sha256_folder(tmp_path / "out", skip=SKIP) == expected


def test_a_finished_job_gives_the_same_folder_again(base: BaseModelRef, tmp_path: Path) -> None:
    job = sft_job(base, tmp_path / "rows", rows=8)
    out = run(job, tmp_path / "out", tmp_path / "work")
    first = sha256_folder(out)
    (out / "adapter_model.safetensors").unlink()
    assert sha256_folder(run(job, out, tmp_path / "work")) == first


def test_killed_between_the_last_step_and_the_result(
    base: BaseModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after early stopping: no step is made beyond the one that training ended with."""
    from tracetune.training import model_folder

    job = sft_job(base, tmp_path / "rows", rows=96, validation=12, learning_rate=3.0)
    expected = sha256_folder(run(job, tmp_path / "whole"), skip=SKIP)
    write = model_folder.write
    monkeypatch.setattr(model_folder, "write", lambda *_: (_ for _ in ()).throw(SystemExit()))
    with pytest.raises(SystemExit):
        run(job, tmp_path / "out", tmp_path / "work")
    monkeypatch.setattr(model_folder, "write", write)
    out = run(job, tmp_path / "out", tmp_path / "work")
    assert read_json(out / "manifest.json")["steps"]["stopped_early"]
    assert sha256_folder(out, skip=SKIP) == expected


def test_a_checkpoint_that_was_cut_is_passed_over(tmp_path: Path) -> None:
    place = checkpoints.Place(tmp_path, "d" * 64)
    for step in (2, 4, 6):
        folder = place.checkpoint(step)
        folder.mkdir()
        (folder / "weights").write_bytes(b"12345678")
        checkpoints.mark_complete(folder, place.digest)
    assert place.last_complete() == place.checkpoint(6)
    (place.checkpoint(6) / "weights").write_bytes(b"1234")  # cut
    assert place.last_complete() == place.checkpoint(4)
    assert not place.checkpoint(6).exists()
    (place.checkpoint(4) / MARKER).unlink()
    assert place.last_complete() == place.checkpoint(2)
    other = checkpoints.Place(tmp_path, "e" * 64)
    assert other.last_complete() is None
