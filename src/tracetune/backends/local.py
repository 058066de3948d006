"""Training in this process: no second start of Python, no second import of torch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tracetune.backends.base import JobHandle, JobState
from tracetune.errors import DataError
from tracetune.files import read_json
from tracetune.training.job import TrainingJob, job_hash
from tracetune.training.tracking import NOWHERE, Tracking


class LocalBackend:
    """Runs a job to its end inside ``launch``; gives the same bytes as ``python -m``."""

    name: ClassVar[str] = "local"
    poll_seconds = 0.0  # a job has ended when launch returns
    wait_seconds: float | None = None

    def launch(
        self, job: TrainingJob, out: Path, work: Path, tracking: Tracking = NOWHERE
    ) -> JobHandle:
        """Trains here and now; a killed run is continued by launching the same job again."""
        from tracetune.training.run import run

        run(job, out, work, tracking=tracking)
        digest = job_hash(job)
        return JobHandle(backend=self.name, job_hash=digest, id=digest[:12], out=str(out))

    def poll(self, handle: JobHandle) -> JobState:
        """``completed`` if the model folder is there and belongs to the job."""
        status = Path(handle.out) / "status.json"
        if status.is_file() and read_json(status).get("job_hash") == handle.job_hash:
            return JobState(state="completed")
        return JobState(state="failed", message=f"no model of this job in {handle.out}")

    def cancel(self, handle: JobHandle) -> None:
        """Nothing runs after ``launch`` has returned; interrupt the process to stop it before."""

    def fetch(self, handle: JobHandle) -> Path:
        """The model folder.

        Raises:
            DataError: It is not there, or belongs to another job.
        """
        state = self.poll(handle)
        if state.state != "completed":
            raise DataError(state.message, where=handle.out, remedy="launch the job again")
        return Path(handle.out)
