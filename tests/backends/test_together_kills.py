"""kill -9 between any two steps: one paid job, and the next run ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.backends.endpoint_helpers import finished_jobs
from tests.backends.helpers import layers, options
from tests.backends.together_hosting import Hosting
from tests.backends.together_server import KEY, Server, running_server
from tests.project import ROOT
from tracetune.backends import commands
from tracetune.backends.remote import RemoteJobs
from tracetune.files import read_json, sha256_file
from tracetune.training.base import BaseModelRef
from tracetune.training.job import TrainingJob
from tracetune.training.model_folder import WEIGHTS

pytestmark = pytest.mark.faults

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def processes(base: BaseModelRef) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.backends.driver"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    process.stdin.write(json.dumps({"base": base.path}) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    process.wait(timeout=30)


@pytest.fixture
def run(processes: subprocess.Popen[str], sft: TrainingJob) -> Run:
    def one(server: Server, folder: Path, **more: Any) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "task.json").write_text(sft.model_dump_json())
        task = {"url": server.url, "key": server.key, "folder": str(folder)}
        task |= {"job": str(folder / "task.json")} if "endpoint" not in more else {}
        task |= more
        processes.stdin.write(json.dumps(task) + "\n")
        processes.stdin.flush()
        return json.loads(processes.stdout.readline())

    return one


def test_killed_before_every_step(run: Run, base: BaseModelRef, tmp_path: Path) -> None:
    quick = {"file_polls": 1, "way": ["queued", "completed"], "layers": layers(Path(base.path))}
    with running_server(**quick) as server:
        whole = run(server, tmp_path / "whole")
        assert whole["status"] == 0, whole
        assert server.paid() == 1
    weights = sha256_file(tmp_path / "whole/model" / WEIGHTS)
    names = whole["steps"]
    assert {"upload", "estimate", "create", "write_json", "_take", "unpack", "write"} <= set(names)
    for step, name in enumerate(names):
        folder = tmp_path / f"{step}-{name}"
        with running_server(**quick) as server:
            assert run(server, folder, kill_at=step)["status"] == -9, name
            again = run(server, folder)
            assert again["status"] == 0, (name, again)
            assert len(server.jobs) == 1, (step, name, names)
        assert sha256_file(folder / "model" / WEIGHTS) == weights


def test_killed_at_step_after_step_of_one_job(run: Run, base: BaseModelRef, tmp_path: Path) -> None:
    with running_server(layers=layers(Path(base.path)), lag=2) as server:
        changes = {"settle_seconds": 3.0}
        for step in (3, 7, 12, 16, 18, 9, 5, 4):
            run(server, tmp_path / "one", kill_at=step, changes=changes)
        ended = run(server, tmp_path / "one", changes=changes)
        assert ended["status"] == 0, ended
        assert len(server.jobs) == 1


@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize("kind", ["hold_before", "hold_after"])
def test_killed_while_the_creation_is_in_flight(
    run: Run,
    processes: subprocess.Popen[str],
    base: BaseModelRef,
    tmp_path: Path,
    kind: str,
    lag: int,
) -> None:
    # Enough for as many listings as lag, on a busy machine too; without a job all of it passes.
    settle = {"settle_seconds": 5.0 if kind == "hold_after" else 1.0}
    with running_server(layers=layers(Path(base.path)), lag=lag) as server:
        server.fail("create", kind)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(run, server, tmp_path, changes={**settle, "timeout": 60.0})
            assert server.held.wait(20)
            [child] = psutil.Process(processes.pid).children()
            child.kill()
            assert first.result(20)["status"] == -9
        server.release.set()
        ended = run(server, tmp_path, changes=settle)
        assert ended["status"] == 0, ended
        assert len(server.jobs) == 1


@contextmanager
def hosting() -> Iterator[Server]:
    """A server with finished jobs, quick to deploy them."""
    with running_server(project="proj-1", hosting=Hosting(ready_looks=0, leaving=0)) as server:
        finished_jobs(server)
        yield server


def left(server: Server, folder: Path) -> list[Any]:
    """What is left of endpoints at the service and in the records."""
    open_ones = RemoteJobs(folder / "jobs", KEY).endpoints.open()
    return [*server.hosting.endpoints, *open_ones] + [1] * server.hosting.billed()


def test_no_endpoint_is_left_when_killed_before_every_step(run: Run, tmp_path: Path) -> None:
    with hosting() as server:
        whole = run(server, tmp_path / "whole", endpoint=True)
        assert whole["status"] == 0, whole
        assert left(server, tmp_path / "whole") == []
    expected = read_json(tmp_path / "whole/answers.json")
    names = whole["steps"]
    assert {"create_endpoint", "deploy", "chat", "stop", "delete_endpoint"} <= set(names)
    assert {"write_json", "append_bytes", "delete_deployment"} <= set(names)
    orphans = 0
    for step, name in enumerate(names):
        folder = tmp_path / f"{step}-{name}"
        with hosting() as server:
            assert run(server, folder, endpoint=True, kill_at=step)["status"] == -9, name
            orphans += bool(server.hosting.endpoints)
            if step % 2:  # by hand, or by the next run
                jobs = RemoteJobs(folder / "jobs", KEY)
                commands.cleanup(jobs, options(server))
                assert left(server, folder) == [], (step, name)
                continue
            again = run(server, folder, endpoint=True)
            assert again["status"] == 0, (name, again)
            assert left(server, folder) == [], (step, name)
            assert read_json(folder / "answers.json") == expected
            assert len(server.hosting.asked) <= 3  # at most the one that was not written down
    assert orphans > 10


@pytest.mark.parametrize("kind", ["hold_before", "hold_after"])
@pytest.mark.parametrize("call", ["create_endpoint", "deploy"])
def test_killed_while_a_creation_is_in_flight_leaves_no_endpoint(
    run: Run, processes: subprocess.Popen[str], tmp_path: Path, kind: str, call: str
) -> None:
    with hosting() as server:
        server.fail(call, kind)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(run, server, tmp_path, endpoint=True, changes={"timeout": 60.0})
            assert server.held.wait(20)
            [child] = psutil.Process(processes.pid).children()
            child.kill()
            assert first.result(20)["status"] == -9
        server.release.set()
        assert run(server, tmp_path, endpoint=True)["status"] == 0
        assert left(server, tmp_path) == []


def test_ctrl_c_deletes_the_endpoint_while_a_call_hangs(
    run: Run, processes: subprocess.Popen[str], tmp_path: Path
) -> None:
    with hosting() as server:
        server.fail("chat", "hold_before")
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(run, server, tmp_path, endpoint=True, changes={"timeout": 60.0})
            assert server.held.wait(20)
            assert server.hosting.billed() == 1
            [child] = psutil.Process(processes.pid).children()
            child.send_signal(signal.SIGINT)
            assert first.result(20)["status"] == 1
        assert not server.release.is_set()  # the call still hangs
        assert left(server, tmp_path) == []
