"""Jobs of one tenant and name that run elsewhere, as they are known on this machine.

One folder per job, named by its hash: ``job.json`` says what was asked for and what came of it. It
is on disk before anything is paid, and it is kept by ``make clean``.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tracetune.backends.endpoint_records import EndpointRecords
from tracetune.errors import DataError
from tracetune.files import read_json, write_json
from tracetune.runs import RunLock
from tracetune.training.job import TrainingJob

FILE = "job.json"
State = Literal["prepared", "intended", "created", "completed", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("completed", "failed", "cancelled")


class Attempt(BaseModel):
    """A job that was created and gave no model.

    Attributes:
        id: Its id.
        state: How it ended.
        message: Why.
        usd: What it cost, as the service says; the estimate if it does not say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    state: State
    message: str
    usd: float


class RemoteJob(BaseModel):
    """What was asked for, and what came of it.

    Attributes:
        format: Version of this document.
        backend: Where it runs.
        base_url: Address of the service; None: the vendor's own.
        key: Hash of all that decides the result; names the folder.
        stage: ``<pipeline>.<stage>`` that asked for it.
        job: The training job.
        model: The hosted model.
        arguments: What is asked of the service, without files and suffix.
        rows: Rows by file.
        dropped: Rows left out, by reason.
        redacted: What was replaced in texts, by kind.
        tokens: Tokens of all files, counted here.
        files: Ids of the uploaded files.
        suffix: Part of the name of the model, by which a lost job is found.
        state: How far it is.
        intended_at: When the first try of the present creation was announced.
        id: The service's id of the job; empty until it is known.
        status: The service's own word for the state, when last seen.
        message: Why, for people.
        estimate_usd: The service's price before the job.
        usd: The price when it had ended; the estimate if the service stated none.
        created_at: When the job was created or found.
        attempts: Earlier jobs of the same key that gave no model.
        archive_sha256: Hash of the downloaded archive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    backend: str
    base_url: str | None
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    stage: str
    job: TrainingJob
    model: str
    arguments: dict[str, Any]
    rows: dict[str, int]
    dropped: dict[str, int]
    redacted: dict[str, int]
    tokens: int
    files: dict[str, str] = Field(default_factory=dict)
    suffix: str = ""
    state: State = "prepared"
    intended_at: str = ""
    id: str = ""
    status: str = ""
    message: str = ""
    estimate_usd: float | None = None
    usd: float | None = None
    created_at: str = ""
    attempts: list[Attempt] = Field(default_factory=list)
    archive_sha256: str = ""

    @property
    def most_usd(self) -> float:
        """What it cost or can cost, earlier attempts included."""
        now = self.usd
        if now is None:
            now = 0.0 if self.state == "prepared" else self.estimate_usd or 0.0
        return now + sum(attempt.usd for attempt in self.attempts)


class RemoteJobs:
    """The jobs of a tenant and name.

    Args:
        folder: ``<data>/jobs/<tenant>/<name>``.
        api_key: Key of the service; never shown, and asked for only when something is sent.
    """

    def __init__(self, folder: Path, api_key: str | None) -> None:
        self.folder = folder
        self.api_key = api_key
        self.endpoints = EndpointRecords(folder)

    def __repr__(self) -> str:
        """Without the key."""
        return f"RemoteJobs({str(self.folder)!r})"

    def lock(self) -> RunLock:
        """One process at a time creates or fetches; the others may look and cancel."""
        return RunLock(self.folder / "jobs.lock")

    def endpoint_lock(self) -> RunLock:
        """One process at a time has endpoints, or deletes those that were left over."""
        return RunLock(self.folder / "endpoints.lock")

    def place(self, key: str) -> Path:
        """The folder of a job."""
        return self.folder / key[:16]

    def read(self, key: str) -> RemoteJob | None:
        """The job of a key, if there is one."""
        path = self.place(key) / FILE
        return _load(path) if path.is_file() else None

    def all(self) -> list[RemoteJob]:
        """All jobs, oldest first."""
        found = [_load(path) for path in sorted(self.folder.glob(f"*/{FILE}"))]
        return sorted(found, key=lambda job: (job.intended_at or "9", job.key))

    def save(self, remote: RemoteJob, **changes: Any) -> RemoteJob:
        """Changes some fields of a job, as it is now on disk; returns it.

        Only for the holder of :meth:`lock`, who alone creates records and gives them other ids.

        Raises:
            DataError: The record is about another job by now.
        """
        with self._writing():
            known = self.read(remote.key) or remote
            if known.id != remote.id:
                raise DataError(
                    f"the record is about job {known.id or 'none'} by now, not about "
                    f"{remote.id or 'none'}",
                    where=str(self.place(remote.key) / FILE),
                    remedy="let one process at a time work on this tenant and name, then run again",
                )
            return self._write(known, changes)

    def note(self, remote: RemoteJob, **changes: Any) -> RemoteJob:
        """Changes some fields after a look, which needs no lock; returns the job that was seen.

        If the record is about another job by now, nothing is written: a look that was slow must
        not hide a job that is paid.
        """
        with self._writing():
            known = self.read(remote.key)
            if known is None or known.id != remote.id or known.state in ENDED:
                return RemoteJob.model_validate({**remote.model_dump(), **changes})
            return self._write(known, changes)

    def _write(self, remote: RemoteJob, changes: dict[str, Any]) -> RemoteJob:
        changed = RemoteJob.model_validate({**remote.model_dump(), **changes})
        write_json(self.place(changed.key) / FILE, changed.model_dump(mode="json"))
        return changed

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One process at a time reads a record and writes it: for moments, so others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "records.lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def spent(self, *, without: str = "") -> float:
        """The most that all jobs and endpoints cost or can cost, in US dollars.

        Args:
            without: Key of a job that is left out.
        """
        jobs = sum(job.most_usd for job in self.all() if job.key != without)
        return jobs + self.endpoints.spent()

    def find(self, name: str) -> RemoteJob:
        """The job that a person means: its id, or the start of its id or hash.

        Raises:
            DataError: There is none, or several.
        """
        found = [job for job in self.all() if job.id.startswith(name) or job.key.startswith(name)]
        exact = [job for job in found if job.id == name]
        found = exact or found
        if len(found) != 1 or not name:
            what = "no job" if not found else f"{len(found)} jobs"
            raise DataError(
                f"{what} {name!r}",
                where=str(self.folder),
                remedy="`kedro jobs list` shows them",
            )
        return found[0]


def mark_ended(job: RemoteJob) -> dict[str, Any]:
    """Changes that put a job without a model among the attempts, so that a new one can start."""
    usd = job.usd if job.usd is not None else job.estimate_usd or 0.0
    attempt = Attempt(id=job.id, state=job.state, message=job.message, usd=usd)
    return {
        "attempts": [*job.attempts, attempt],
        "state": "prepared",
        "id": "",
        "status": "",
        "message": "",
        "usd": None,
        "suffix": "",
        "intended_at": "",
        "created_at": "",
    }


def not_created(job: RemoteJob) -> DataError:
    """The error for a job that has no id: it was not created, or nobody knows whether it was."""
    where = f"job {job.key[:12]}"
    if job.state == "intended":
        return DataError(
            "it is not known whether the job was created: the run that asked for it was cut off",
            where=where,
            remedy="run the pipeline again: it looks for the job before another one is created",
        )
    return DataError(
        "the job was not created yet; nothing was paid",
        where=where,
        remedy="run the pipeline again: it creates the job",
    )


def now() -> str:
    """The time now, for documents: to the millisecond, because waits are counted from it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _load(path: Path) -> RemoteJob:
    try:
        return RemoteJob.model_validate(read_json(path))
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"the job cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            remedy="restore the file from a copy: it says which job was paid for",
        ) from None
