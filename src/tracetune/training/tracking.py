"""Experiment logging: the curves of a training, written for TensorBoard, wandb or trackio as well.

A log is a copy of ``history.json`` that one can watch while it grows. It is no part of the job: the
same run with and without it gives the same bytes. A run that goes on after a kill writes its log
anew, first what its checkpoint remembers, so a log never has holes or steps that came to nothing.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tracetune.errors import ConfigurationError
from tracetune.files import write_json
from tracetune.training.job import TrainingJob, job_document

INSTALL = {
    "tensorboard": "pip install 'tracetune[logging]'",
    "wandb": "pip install 'wandb>=0.31'",
    "trackio": "pip install 'trackio>=0.43'",
}
"""What writes each log, and how to get it."""

Entry = dict[str, Any]


class Writer(Protocol):
    """One log that is being written."""

    def write(self, entry: Entry) -> None:
        """Adds one entry of ``history.json``."""
        ...

    def close(self, *, whole: bool) -> None:
        """Ends the log; ``whole`` is false if the training was broken off."""
        ...


@dataclass(frozen=True)
class Tracking:
    """Which logs a training writes, and where.

    Attributes:
        tools: Names of :data:`INSTALL`; none: no log.
        run: What the run is called in them: ``<tenant>/<name>/<pipeline>.<stage>``.
        folder: Where they lie, each in a folder of its own.
    """

    tools: tuple[str, ...]
    run: str
    folder: Path

    def mark(self, tool: str, digest: str) -> Path:
        """The file that says that the log of a job is whole."""
        return self.folder / tool / f"{digest[:12]}.json"


NOWHERE = Tracking((), "", Path())


def tools_of(report_to: Any) -> tuple[str, ...]:
    """The tools that the parameter ``report_to`` names.

    Args:
        report_to: ``none`` or null, a name, a list of names, or ``tensorboard+wandb``, because a
            comma ends a parameter on the command line.

    Raises:
        ConfigurationError: It names something else.
    """
    names = report_to.split("+") if isinstance(report_to, str) else report_to
    names = names if isinstance(names, list | tuple) else [names]
    if names in ([None], ["none"]):
        return ()
    for name in names:
        if not isinstance(name, str) or name not in INSTALL:
            close = difflib.get_close_matches(str(name), INSTALL, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(
                f"nothing can be logged to {name!r}{hint}",
                where="report_to",
                remedy=f"choose none or some of: {', '.join(INSTALL)} (several joined by +)",
            )
    return tuple(sorted(set(names)))


def check(tools: Sequence[str]) -> None:
    """Checks before anything is trained that every log can be written.

    Raises:
        ConfigurationError: A library is missing, wandb has no key, or trackio writes elsewhere.
    """
    for tool in tools:
        if find_spec(tool) is None:
            raise ConfigurationError(
                f"{tool} is not installed", where="report_to", remedy=INSTALL[tool]
            )
    if "wandb" in tools:
        from tracetune.training import tracking_writers

        tracking_writers.check_wandb()


@contextlib.contextmanager
def logs(job: TrainingJob, digest: str, tracking: Tracking, past: Sequence[Entry]) -> Iterator[Any]:
    """Opens the logs of a training and yields a function that takes one entry after another.

    Args:
        job: The job.
        digest: Its hash.
        tracking: Which logs.
        past: Entries of the steps before, which a run that goes on does not make again.
    """
    from tracetune.training import tracking_writers

    check(tracking.tools)
    config = {"job_hash": digest, **job_document(job)}
    writers: list[Writer] = []
    whole = False
    try:
        for tool in tracking.tools:
            tracking.mark(tool, digest).unlink(missing_ok=True)
            writers.append(tracking_writers.WRITERS[tool](tracking, digest, config))

        def write(entry: Entry) -> None:
            for writer in writers:
                writer.write(entry)

        for entry in past:
            write(entry)
        yield write
        whole = True
    finally:
        for writer in writers:
            writer.close(whole=whole)
    for tool in tracking.tools:
        write_json(tracking.mark(tool, digest), {"run": tracking.run, "job_hash": digest})


def make_up(job: TrainingJob, digest: str, tracking: Tracking, history: Sequence[Entry]) -> None:
    """Writes the logs that a finished training lacks, from its history.

    Args:
        job: The job.
        digest: Its hash.
        tracking: Which logs there should be.
        history: Content of ``history.json``.
    """
    missing = tuple(t for t in tracking.tools if not tracking.mark(t, digest).is_file())
    if missing:
        with logs(job, digest, Tracking(missing, tracking.run, tracking.folder), history):
            pass
