"""Training at Together AI: the service runs its own trainer on the rows that it is sent."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from tracetune.backends import together_fetch, together_model
from tracetune.backends.base import JobHandle, JobState
from tracetune.backends.remote import ENDED, RemoteJob, RemoteJobs, mark_ended, not_created
from tracetune.backends.together_calls import Answer, Service, amount
from tracetune.backends.together_endpoint import endpoint_service, sweep
from tracetune.backends.together_launch import FAILED, Launch
from tracetune.backends.together_options import TogetherOptions
from tracetune.backends.together_prepare import prepare
from tracetune.errors import DataError, ServerError, TracetuneError
from tracetune.files import read_json, sha256_file
from tracetune.hosted_calls import Missing, Refused
from tracetune.training.job import TrainingJob, job_hash
from tracetune.training.tracking import NOWHERE, Tracking, make_up

logger = logging.getLogger("tracetune")

_NANO = 1e9
_REASONS = ("job_error", "job_user_error", "billing_limit", "job_stopped", "cancel_requested")


class TogetherBackend:
    """Sends SFT and DPO jobs to Together AI and brings their adapters back.

    Args:
        options: Parameters.
        jobs: Where jobs are written down, and the key.
    """

    name: ClassVar[str] = "together"

    def __init__(self, options: TogetherOptions, jobs: RemoteJobs) -> None:
        self._options = options
        self._jobs = jobs
        self._service: Service | None = None
        self._tracking: dict[str, Tracking] = {}
        self.poll_seconds = options.poll_seconds
        minutes = options.wait_minutes
        self.wait_seconds = None if minutes is None else minutes * 60

    def __repr__(self) -> str:
        """Without the key."""
        return f"TogetherBackend({self._jobs!r})"

    @property
    def service(self) -> Service:
        """The API, opened when it is first needed."""
        if self._service is None:
            self._service = Service(self._options, self._jobs.api_key)
        return self._service

    def launch(
        self, job: TrainingJob, out: Path, work: Path, tracking: Tracking = NOWHERE
    ) -> JobHandle:
        """Creates the job, or finds the one that was created for the same rows and settings."""
        prepared = prepare(job, self._options, tracking.run)
        self._sweep()
        digest = job_hash(job)
        self._tracking[digest] = tracking
        with self._locked():
            known = self._jobs.read(prepared.key)
            if known is not None and known.state in ("failed", "cancelled"):
                logger.warning(
                    "Job %s ended as %s (%s); another one is created",
                    *(known.id, known.status, known.message or "no reason given"),
                )
                known = self._jobs.save(known, **mark_ended(known))
            if known is not None and known.id:
                logger.info("Job %s of an earlier run is taken up", known.id)
                # Another local version or place asks for the same: the job stays the same.
                remote = self._jobs.save(known, job=job, stage=tracking.run)
            else:
                remote = Launch(self._jobs, self._options, self.service, prepared).run(known)
        return JobHandle(backend=self.name, job_hash=digest, id=remote.id, out=str(out))

    def poll(self, handle: JobHandle) -> JobState:
        """One look at the job.

        Raises:
            ServerError: The service cannot be reached, or the job is past its deadline.
        """
        remote = self.look(self._of(handle))
        self.check_deadline(remote)
        return self._state(remote)

    def look(self, remote: RemoteJob) -> RemoteJob:
        """Asks the service how a job is doing and writes it down.

        Raises:
            DataError: The service does not know the job.
            ServerError: The service cannot be reached.
        """
        if remote.state in ENDED or not remote.id:
            return remote
        try:
            found = self.service.again(
                "a look at the job", lambda: self.service.job(remote.id), refusals=True
            )
        except Refused as error:
            if isinstance(error, Missing) and error.real:
                raise DataError(
                    f"the service does not know job {remote.id} ({error})",
                    where=self.service.address,
                    remedy="see whether the key belongs to the account that created it",
                ) from None
            raise ServerError(
                f"the job cannot be seen: {error}",
                where=self.service.address,
                remedy="run again later: the same job is taken up",
            ) from None
        status = str(found.get("status"))
        if status == "completed":
            usd = _usd(found, remote.estimate_usd or 0.0) or remote.estimate_usd
            return self._jobs.note(remote, state="completed", status=status, message="", usd=usd)
        if status in FAILED:
            reason = self._reason(remote.id)
            state = "cancelled" if status == "cancelled" else "failed"
            # The steps that were done may be paid; at most what was estimated.
            usd = _usd(found, remote.estimate_usd or 0.0)
            return self._jobs.note(remote, state=state, status=status, message=reason, usd=usd)
        message = _progress(status, found)
        if (status, message) != (remote.status, remote.message):
            logger.info("Job %s: %s", remote.id, message)
            remote = self._jobs.note(remote, status=status, message=message)
        return remote

    def cancel(self, handle: JobHandle) -> None:
        """Asks the service to end the job; steps that were done are paid."""
        self.stop(self._of(handle))

    def stop(self, remote: RemoteJob) -> RemoteJob:
        """Cancels a job that has not ended.

        Raises:
            DataError: It has ended, or was never created.
            ServerError: The service refuses it or cannot be reached.
        """
        if not remote.id:
            raise not_created(remote)
        if remote.state != "created":
            raise DataError(
                f"job {remote.id} is {remote.state} and cannot be cancelled",
                where="kedro jobs cancel",
                remedy="`kedro jobs list` shows which jobs are under way",
            )
        try:
            self.service.again(
                "cancelling the job", lambda: self.service.cancel(remote.id), refusals=True
            )
        except Refused as error:
            raise ServerError(
                f"the service does not cancel {remote.id}: {error}",
                where=self.service.address,
                remedy="`kedro jobs show` says how it is doing",
            ) from None
        return self.look(remote)

    def fetch(self, handle: JobHandle) -> Path:
        """The model folder of a completed job; downloads it if it is not here yet.

        Raises:
            DataError: The job gave no model, or the adapter cannot be used.
            ServerError: It cannot be downloaded.
        """
        remote, out = self._of(handle), Path(handle.out)
        self.bring(remote, out)
        tracking = self._tracking.get(handle.job_hash, NOWHERE)
        make_up(remote.job, handle.job_hash, tracking, read_json(out / "history.json"))
        return out

    def bring(self, remote: RemoteJob, out: Path) -> Path:
        """Downloads the adapter of a job into ``out`` unless it is there.

        Raises:
            DataError: The job gave no model, or the adapter cannot be used.
            ServerError: It cannot be downloaded.
        """
        if not remote.id:
            raise not_created(remote)
        if remote.state != "completed":
            raise DataError(
                f"job {remote.id} gave no model: {remote.status or remote.state}, "
                f"{remote.message or 'no reason given'}",
                where="Together AI",
                remedy="correct the cause, then run again: that creates a new job. "
                "`kedro jobs show` has the events",
            )
        if _is_here(out, remote):
            return out
        place = self._jobs.place(remote.key)
        with self._locked():
            kept = (place / together_fetch.ARCHIVE).is_file()
            archive = together_fetch.download(
                self.service, remote.id, place, self._options.attempts
            )
            digest = sha256_file(archive)
            # The service may pack an adapter anew, and then it has another hash.
            if kept and remote.archive_sha256 not in ("", digest):
                archive.unlink()
                raise DataError(
                    "the downloaded archive has changed on this machine",
                    where=str(archive),
                    remedy="run again: it was removed and is downloaded anew",
                )
            folder = place / "adapter"
            adapter = together_fetch.unpack(archive, folder, self._options.archive_gb * 1e9)
            remote = self._jobs.save(remote, archive_sha256=digest)
            together_model.write(remote, adapter, self._metrics(remote.id), out)
            shutil.rmtree(folder)
        return out

    def close(self) -> None:
        """Closes the connections."""
        if self._service is not None:
            self._service.close()
            self._service = None

    def _of(self, handle: JobHandle) -> RemoteJob:
        for job in self._jobs.all():
            if job.id == handle.id:
                return job
        raise DataError(
            f"job {handle.id} is not known on this machine",
            where=str(self._jobs.folder),
            remedy="run the pipeline again: the job is found by its name",
        )

    def _metrics(self, job_id: str) -> list[Answer]:
        """Figures by step; an adapter that was paid for is good without them."""
        try:
            return self.service.again(
                "reading the metrics", lambda: self.service.metrics(job_id), refusals=True
            )
        except Refused as error:
            logger.warning("The service gives no metrics of %s: %s", job_id, error)
            return []

    def _reason(self, job_id: str) -> str:
        """Why a job gave no model; that stands only in its events."""
        try:
            events = self.service.again(
                "reading the events", lambda: self.service.events(job_id), refusals=True
            )
        except Refused:
            return ""
        told = [event for event in events if str(event.get("type", "")).lower() in _REASONS]
        return self.service.scrub(str(told[-1].get("message", ""))) if told else ""

    def check_deadline(self, remote: RemoteJob) -> None:
        """Stops waiting for a job that is stuck; those that have ended are never late.

        Raises:
            ServerError: It has not ended ``together.deadline_hours`` after its start.
        """
        if remote.state in ENDED or not remote.id:
            return
        started = datetime.fromisoformat(remote.created_at.replace("Z", "+00:00"))
        hours = (datetime.now(UTC) - started).total_seconds() / 3600
        if hours > self._options.deadline_hours:
            raise ServerError(
                f"job {remote.id} has not ended {hours:.1f} hours after its start "
                f"(together.deadline_hours={self._options.deadline_hours:g}): {remote.message}",
                where="Together AI",
                remedy=f"end it with `kedro jobs cancel {remote.id}`, or raise the deadline and "
                "run again: the same job is taken up",
            )

    def _state(self, remote: RemoteJob) -> JobState:
        if remote.state in ("completed", "failed", "cancelled"):
            return JobState(state=remote.state, message=remote.message)
        return JobState(state="running", message=remote.message)

    def _sweep(self) -> None:
        """Deletes endpoints that a killed judgement left over, before more money is spent."""
        if not self._jobs.endpoints.open():
            return
        lock = self._jobs.endpoint_lock()
        try:
            lock.acquire()
        except TracetuneError:  # somebody is asking there now
            return
        try:
            with endpoint_service(self._options, self._jobs) as service:
                sweep(self._jobs, service, self._options)
        except ServerError as error:
            logger.error("%s", error)
        finally:
            lock.release()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._jobs.lock()
        lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _is_here(out: Path, remote: RemoteJob) -> bool:
    status, manifest = out / "status.json", out / "manifest.json"
    if not status.is_file() or read_json(status).get("job_hash") != job_hash(remote.job):
        return False
    made = read_json(manifest).get("remote") if manifest.is_file() else None
    return bool(made and made["id"] == remote.id)


def _usd(found: Answer, otherwise: float) -> float:
    """The price of a job; the service counts in billionths of a dollar."""
    price = amount(found.get("total_price"))
    return otherwise if price is None else price / _NANO


def _progress(status: str, found: Answer) -> str:
    """How a job is doing, for people."""
    parts: list[str] = [status]
    depth: Any = found.get("queue_depth")
    if depth and status in ("pending", "queued"):
        parts.append(f"{depth} jobs before it")
    progress: Any = found.get("progress") or {}
    if progress.get("estimate_available"):
        parts.append(f"about {int(progress.get('seconds_remaining', 0)) // 60 + 1} min left")
    return ", ".join(parts)
