"""Processes that train at Together AI and can kill themselves (-9) between any two steps.

``python -m tests.backends.driver`` loads the libraries once and then forks a process for every line
of its input: JSON with ``url``, ``key``, ``folder``, ``job`` (a file; without one the models of
finished jobs are asked at an endpoint), ``changes`` (options) and ``kill_at``: the step before
which the process dies. It answers each line with the exit status, the steps that were begun, and
the error, if any.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.backends.endpoint_helpers import PROMPTS, ask, folders
from tests.backends.helpers import FAST, MODEL, train
from tracetune import hosted_calls
from tracetune.backends import (
    endpoint_records,
    remote,
    together_fetch,
    together_host,
    together_model,
)
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together import TogetherBackend
from tracetune.backends.together_calls import Service
from tracetune.backends.together_endpoint_calls import EndpointService
from tracetune.backends.together_options import TogetherOptions
from tracetune.training import base as base_model
from tracetune.training.job import TrainingJob

HOSTING_CALLS = (
    *("registered", "configs", "hardware", "endpoints", "create_endpoint", "deployments", "deploy"),
    *("deployment", "chat", "stop", "delete_deployment", "delete_endpoint"),
)
CALLS = ("limits", "upload", "file", "estimate", "jobs", "create", "job", "metrics")


class Steps:
    """Counts steps, writes them down, and dies before one of them."""

    def __init__(self, path: Path, kill_at: int | None) -> None:
        self._path, self._kill_at, self._names = path, kill_at, []

    def begin(self, name: str) -> None:
        """One more step."""
        if self._kill_at == len(self._names):
            os.kill(os.getpid(), signal.SIGKILL)
        self._names.append(name)
        self._path.write_text(json.dumps(self._names))

    def around(self, owner: Any, name: str) -> None:
        """Makes a step of every call of a function."""
        inner: Callable[..., Any] = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            self.begin(name)
            return inner(*given, **named)

        setattr(owner, name, counted)


def run(task: dict[str, Any], steps: Path) -> None:
    """One training, in this process."""
    counter = Steps(steps, task.get("kill_at"))
    if "job" not in task:
        return judge(task, counter)
    for name in CALLS:
        counter.around(Service, name)
    counter.around(remote, "write_json")
    counter.around(together_fetch, "_take")
    counter.around(together_fetch, "unpack")
    counter.around(together_model, "write")
    options = TogetherOptions(
        **({"model": MODEL, "base_url": task["url"], **FAST} | task.get("changes", {}))
    )
    folder = Path(task["folder"])
    job = TrainingJob.model_validate_json(Path(task["job"]).read_text())
    train(TogetherBackend(options, RemoteJobs(folder / "jobs", task["key"])), job, folder)
    counter.begin("end")


def judge(task: dict[str, Any], counter: Steps) -> None:
    """Models asked at an endpoint, in this process; the answers are in ``answers.json``."""
    for name in HOSTING_CALLS:
        counter.around(EndpointService, name)
    counter.around(endpoint_records, "write_json")
    counter.around(together_host, "append_bytes")
    options = TogetherOptions(**({"base_url": task["url"], **FAST} | task.get("changes", {})))
    folder = Path(task["folder"])
    jobs = RemoteJobs(folder / "jobs", task["key"])
    adapters = {"sft": folders(folder)["sft"]}
    found = ask(options, jobs, adapters, prompts=PROMPTS[:1])
    (folder / "answers.json").write_text(json.dumps(found))
    counter.begin("end")


def main() -> None:
    """Answers lines until the input ends."""
    import together
    import transformers  # noqa: F401

    hosted_calls._FIRST_WAIT = 0.01
    together.Together(api_key="warm").fine_tuning.create  # noqa: B018
    first = json.loads(sys.stdin.readline())
    base_model.load_tokenizer(Path(first["base"]))
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        steps = Path(task["folder"]) / "steps.json"
        errors = Path(task["folder"]) / "error.txt"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(task, steps)
                status = 0
            except Exception as error:
                errors.write_text(f"{type(error).__name__}: {error}")
            finally:
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        print(
            json.dumps(
                {
                    "status": os.waitstatus_to_exitcode(ended),
                    "steps": json.loads(steps.read_text()) if steps.exists() else [],
                    "error": errors.read_text() if errors.exists() else "",
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
