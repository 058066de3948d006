"""What every backend offers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from tracetune.training.job import TrainingJob
from tracetune.training.tracking import NOWHERE, Tracking


class JobHandle(BaseModel):
    """Where a launched job is found again.

    Attributes:
        backend: Name of the backend.
        job_hash: Hash of the job.
        id: The backend's own name for the job.
        out: Folder on this machine that the model will be in after ``fetch``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str
    job_hash: str
    id: str
    out: str


class JobState(BaseModel):
    """How a job is doing.

    Attributes:
        state: ``running``, ``completed``, ``failed`` or ``cancelled``.
        message: Why, for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Literal["running", "completed", "failed", "cancelled"]
    message: str = ""


class Backend(Protocol):
    """A place where jobs run.

    Attributes:
        name: What the parameter ``backend`` calls it.
        poll_seconds: Between two looks at a job.
        wait_seconds: Longest wait of one run for a job; None for no limit.
    """

    name: ClassVar[str]
    poll_seconds: float
    wait_seconds: float | None

    def launch(
        self, job: TrainingJob, out: Path, work: Path, tracking: Tracking = NOWHERE
    ) -> JobHandle:
        """Starts ``job``, or goes on with it; ``work`` keeps its checkpoints."""
        ...

    def poll(self, handle: JobHandle) -> JobState:
        """How the job is doing."""
        ...

    def cancel(self, handle: JobHandle) -> None:
        """Stops the job; what it has saved stays."""
        ...

    def fetch(self, handle: JobHandle) -> Path:
        """The model folder of a completed job.

        Raises:
            DataError: The job has not completed.
        """
        ...
