"""The record of a paid job: whoever looks, from wherever, cannot hide it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.backends.helpers import backend, options, train
from tests.backends.together_server import KEY
from tracetune.backends import commands
from tracetune.backends.remote import RemoteJobs
from tracetune.errors import DataError
from tracetune.training.model_folder import WEIGHTS


def test_a_slow_look_does_not_hide_a_job_that_is_paid(server, sft, tmp_path):
    server.endings = ["error", "stuck"]
    jobs, chosen = RemoteJobs(tmp_path / "jobs", KEY), backend(server, tmp_path)
    chosen.launch(sft, tmp_path / "model", tmp_path)
    old = jobs.find("ft-0001")  # as another terminal still has it
    while chosen.look(jobs.find("ft-0001")).state != "failed":
        pass
    handle = chosen.launch(sft, tmp_path / "model", tmp_path)
    assert handle.id == "ft-0002-abcd"
    assert chosen.look(old).state == "failed"
    [record] = jobs.all()
    assert (record.id, record.state) == ("ft-0002-abcd", "created")
    assert [attempt.id for attempt in record.attempts] == ["ft-0001-abcd"]
    with pytest.raises(DataError, match="about job ft-0002-abcd by now"):
        jobs.save(old, message="x")


def test_waiting_for_a_job_that_was_replaced_ends(server, sft, tmp_path):
    server.endings = ["stuck", "stuck"]
    jobs, chosen = RemoteJobs(tmp_path / "jobs", KEY), backend(server, tmp_path)
    chosen.launch(sft, tmp_path / "model", tmp_path)
    waiting = jobs.find("ft-0001")
    server.jobs["ft-0001-abcd"].ending = "error"
    while chosen.look(jobs.find("ft-0001")).state != "failed":
        pass
    chosen.launch(sft, tmp_path / "model", tmp_path)
    seen = RemoteJobs(tmp_path / "jobs", KEY)
    seen.find = lambda _name: waiting  # what the other terminal read before
    with pytest.raises(DataError, match="ft-0001-abcd gave no model: error"):
        commands.wait(seen, options(server), "ft-0001")
    assert jobs.all()[0].id == "ft-0002-abcd"


def test_what_two_terminals_write_is_kept(server, sft, tmp_path):
    jobs, chosen = RemoteJobs(tmp_path / "jobs", KEY), backend(server, tmp_path)
    chosen.launch(sft, tmp_path / "model", tmp_path)
    old = jobs.find("ft-0001")
    jobs.save(old, stage="another.stage")
    jobs.note(old, message="queued")
    [record] = jobs.all()
    assert (record.stage, record.message) == ("another.stage", "queued")
    while chosen.look(jobs.find("ft-0001")).state != "completed":
        pass
    jobs.note(old, state="created", status="running")  # a look that was slow
    assert jobs.find("ft-0001").state == "completed"
    folder = train(chosen, sft, tmp_path)
    assert (folder / WEIGHTS).is_file()


def _write(folder: Path, name: str) -> None:
    jobs = RemoteJobs(folder, None)
    old = jobs.find("ft-0001")
    for number in range(60):
        jobs.note(old, **{name: f"{name} {number}"})


def test_processes_that_write_at_once_lose_nothing(server, sft, tmp_path):
    backend(server, tmp_path).launch(sft, tmp_path / "model", tmp_path)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        list(pool.map(_write, [tmp_path / "jobs"] * 2, ["message", "status"]))
    [record] = RemoteJobs(tmp_path / "jobs", None).all()
    assert (record.message, record.status) == ("message 59", "status 59")
