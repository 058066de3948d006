"""Access to the jobs of a tenant and name that run elsewhere."""

from __future__ import annotations

from pathlib import Path

from tracetune.backends.remote import RemoteJobs
from tracetune.datasets.handle_dataset import HandleDataset


class JobsDataset(HandleDataset[RemoteJobs]):
    """The jobs of a tenant and name that run elsewhere: what was asked for, paid, and came of it.

    Loading gives a handle; backend and budget are parameters (``backend``, ``together``).

    Example:
        ```yaml
        jobs:
          type: tracetune.datasets.jobs_dataset.JobsDataset
          filepath: data/jobs/demo/demo
          credentials: together
        ```
    """

    not_saved = "jobs are written down by the backends"

    def make(self, folder: Path, api_key: str | None) -> RemoteJobs:
        """The handle."""
        return RemoteJobs(folder, api_key)

    def found(self, folder: Path) -> bool:
        """Always: an empty folder means that no job was sent anywhere."""
        return True
