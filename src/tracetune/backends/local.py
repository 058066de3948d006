"""The local backend: the job runs in this process.

A process of its own would import torch and trl once more for every stage, and would live on as an
orphan when the run is killed. ``python -m tracetune.training`` runs the same function; both give
byte-equal adapters.
"""

from __future__ import annotations

from pathlib import Path

from tracetune.backends import Handle, JobState
from tracetune.training.job import TrainingJob, job_hash


class LocalBackend:
    """Runs jobs to their end when they are launched."""

    def launch(self, job: TrainingJob, work: Path) -> Handle:
        """Trains the job, or goes on with it; returns when it is done."""
        from tracetune.training.run import run

        folder = run(job, work / "model", work / "jobs")
        return Handle(backend="local", job_hash=job_hash(job), reference=str(folder))

    def poll(self, handle: Handle) -> JobState:
        """``completed`` when the model folder is there."""
        done = (Path(handle.reference) / "status.json").is_file()
        return "completed" if done else "failed"

    def cancel(self, handle: Handle) -> None:
        """Nothing to stop: a launched job has ended."""

    def fetch(self, handle: Handle) -> Path:
        """The model folder."""
        return Path(handle.reference)
