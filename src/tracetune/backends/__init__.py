"""Where a training job runs. A backend only launches, polls, cancels and fetches.

It knows nothing of rows or datasets: it gets a :class:`~tracetune.training.job.TrainingJob` and a
folder to work in, and gives back a model folder. Its handle is a JSON document, so that a stopped
run can find a job again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from tracetune.errors import ConfigurationError, TracetuneError

if TYPE_CHECKING:
    from tracetune.training.job import TrainingJob

JobState = Literal["running", "completed", "failed", "cancelled"]
BACKENDS = ("local",)


class Handle(BaseModel):
    """What is needed to find a launched job again.

    Attributes:
        backend: Name of the backend.
        job_hash: Which job it is.
        reference: What the backend knows it by (for ``local`` a folder).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str
    job_hash: str
    reference: str


class Backend(Protocol):
    """The four verbs every backend has."""

    def launch(self, job: TrainingJob, work: Path) -> Handle:
        """Starts the job, or finds it again if it was launched before."""
        ...

    def poll(self, handle: Handle) -> JobState:
        """How it stands."""
        ...

    def cancel(self, handle: Handle) -> None:
        """Stops it; harmless when it has ended."""
        ...

    def fetch(self, handle: Handle) -> Path:
        """The model folder of a completed job, on this machine."""
        ...


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        ConfigurationError: If there is none.
    """
    if name == "local":
        from tracetune.backends.local import LocalBackend

        return LocalBackend()
    raise ConfigurationError(
        f"there is no backend {name!r}",
        where="backend",
        remedy=f"choose one of: {', '.join(BACKENDS)}",
    )


def run_to_end(backend: Backend, job: TrainingJob, work: Path, *, interval: float = 10.0) -> Path:
    """Launches a job, waits for it and fetches its model folder.

    Args:
        backend: Where it runs.
        job: What is trained.
        work: Folder that is kept between runs.
        interval: Seconds between two polls.

    Raises:
        TracetuneError: If the job failed or was cancelled.
    """
    handle = backend.launch(job, work)
    while (state := backend.poll(handle)) == "running":
        time.sleep(interval)
    if state != "completed":
        raise TracetuneError(
            f"the training job is {state}",
            where=f"{handle.backend}: {handle.reference}",
            remedy="look at its log, then run again; it goes on from its last checkpoint",
        )
    return backend.fetch(handle)
