"""From a training job to exactly one paid job at Together AI, whatever goes wrong in between.

What is to be paid is on disk before it is asked for. A job whose creation is in doubt (the reply
was lost, the process was killed) is looked for in the list of jobs before another one is created.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracetune.backends import remote
from tracetune.backends.remote import RemoteJob, RemoteJobs
from tracetune.backends.together_calls import Answer, Service, amount
from tracetune.backends.together_models import read_limits, unknown_model
from tracetune.backends.together_options import TogetherOptions
from tracetune.backends.together_prepare import Prepared
from tracetune.backends.together_request import flat_arguments
from tracetune.errors import ConfigurationError, DataError, GateError, ServerError
from tracetune.files import write_text
from tracetune.hosted_calls import Ambiguous, Missing, NotTaken, Refused, backoff
from tracetune.training.job import TRAIN_FILE, VALIDATION_FILE

logger = logging.getLogger("tracetune")

FAILED = ("error", "user_error", "cancelled")
"""Statuses of jobs that gave no model."""
_FILE_KINDS = {TRAIN_FILE: "training_file", VALIDATION_FILE: "validation_file"}
_NOT_YET = ("train_file_not_validated", "eval_file_not_validated")
_LONGEST_SUFFIX = 40


class Launch:
    """Brings one job to the service.

    Args:
        jobs: The jobs of the tenant and name; the caller holds their lock.
        options: Parameters.
        service: The API.
        prepared: What is uploaded and asked for.
    """

    def __init__(
        self, jobs: RemoteJobs, options: TogetherOptions, service: Service, prepared: Prepared
    ) -> None:
        self._jobs = jobs
        self._options = options
        self._service = service
        self._prepared = prepared
        self._limits: Answer = {}

    def run(self, known: RemoteJob | None) -> RemoteJob:
        """The job, created or found.

        Args:
            known: What an earlier run left.

        Raises:
            ConfigurationError: The model, the arguments or the key are refused.
            DataError: The service refuses a file.
            GateError: The price is above the budget, or unknown.
            ServerError: The service cannot be reached, or it is not known whether the job exists.
        """
        if known is not None and known.state == "intended":
            found = self._look(known, settle=True)
            if found is not None:
                return self._adopt(known, found)
        job = self._describe(known)
        for compiled in self._prepared.files:
            job = self._upload(job, compiled.name, compiled.text())
        job = self._estimate(job)
        return self._create(job)

    def _describe(self, known: RemoteJob | None) -> RemoteJob:
        """Asks for today's limits and writes down what will be asked for."""
        prepared = self._prepared
        try:
            self._limits = self._service.again(
                "asking for the limits of the model",
                lambda: self._service.limits(prepared.model),
                refusals=True,
            )
        except Refused as error:
            if isinstance(error, Missing) and not error.real:
                raise self._refused("the limits of the model", error) from None
            raise unknown_model(prepared.model, str(error)) from None
        limits = read_limits(self._limits, prepared.model)
        arguments = flat_arguments(prepared.job, limits, self._options, prepared.rows)
        arguments |= prepared.start()
        if known is not None:
            asked = {"job": prepared.job, "stage": prepared.stage, "arguments": arguments}
            return self._jobs.save(known, **asked, state="prepared")
        return self._jobs.save(
            RemoteJob(
                backend="together",
                base_url=self._options.base_url,
                key=prepared.key,
                stage=prepared.stage,
                job=prepared.job,
                model=prepared.model,
                arguments=arguments,
                rows=prepared.rows,
                dropped=prepared.dropped,
                redacted=prepared.redacted,
                tokens=sum(prepared.tokens.values()),
            )
        )

    # Files -------------------------------------------------------------------------------------

    def _upload(self, job: RemoteJob, name: str, text: str) -> RemoteJob:
        """Uploads one file, unless it is there, and waits until the service has checked it."""
        path = self._jobs.place(job.key) / name
        write_text(path, text)
        if name in job.files and self._still_there(job.files[name]):
            self._wait_for_file(job, name, path)
            return job
        file_id, existed = self._send(path)
        if existed and self._file(file_id).get("processing_status") == "PENDING":
            # A broken upload: the service has the bytes, and was never told to look at them.
            self._service.again("removing a file", lambda: self._service.delete_file(file_id))
            file_id, _ = self._send(path)
        job = self._jobs.save(job, files={**job.files, name: file_id})
        logger.info("Uploaded %s with %d rows: %s", name, job.rows[name], file_id)
        self._wait_for_file(job, name, path)
        return job

    def _send(self, path: Path) -> tuple[str, bool]:
        return self._service.again(f"the upload of {path.name}", lambda: self._service.upload(path))

    def _file(self, file_id: str) -> Answer:
        return self._service.again("a look at a file", lambda: self._service.file(file_id))

    def _still_there(self, file_id: str) -> bool:
        try:
            self._service.again(
                "a look at a file", lambda: self._service.file(file_id), refusals=True
            )
        except Refused:  # sent once more, it is known by its content
            return False
        return True

    def _wait_for_file(self, job: RemoteJob, name: str, path: Path) -> None:
        until = time.monotonic() + self._options.file_minutes * 60
        file_id = job.files[name]
        while True:
            found = self._file(file_id)
            status = found.get("processing_status")
            if status == "INVALID_FORMAT":
                raise self._bad_file(name, found)
            if status == "FAILED":
                raise self._send_anew(
                    job, name, f"the service could not check {name}: {self._told(found)}"
                )
            if status == "COMPLETED":
                break
            if time.monotonic() + self._options.poll_seconds > until:
                self._forget(job, name)
                raise ServerError(
                    f"the service has not checked {name} within together.file_minutes="
                    f"{self._options.file_minutes:g} (status {status})",
                    where=f"file {file_id}",
                    remedy="run again later; nothing was paid",
                )
            time.sleep(self._options.poll_seconds)
        size, report = path.stat().st_size, found.get("validation_report") or {}
        if found.get("bytes") != size or report.get("nlines", job.rows[name]) != job.rows[name]:
            raise self._send_anew(
                job,
                name,
                f"the service has another {name} than was sent ({found.get('bytes')} bytes, "
                f"{report.get('nlines')} rows instead of {size}, {job.rows[name]})",
            )

    def _send_anew(self, job: RemoteJob, name: str, what: str) -> ServerError:
        """Removes a file there: sent once more, the service would only find the same one again."""
        file_id = job.files[name]
        self._service.again("removing a file", lambda: self._service.delete_file(file_id))
        self._forget(job, name)
        return ServerError(
            what,
            where=f"file {file_id}",
            remedy="run again: it was removed there and is sent anew",
        )

    def _forget(self, job: RemoteJob, name: str) -> None:
        self._jobs.save(job, files={kept: i for kept, i in job.files.items() if kept != name})

    def _told(self, found: Answer) -> str:
        report = found.get("validation_report") or {}
        return self._service.scrub(str(report.get("error") or "no reason given"))

    def _bad_file(self, name: str, found: Answer) -> DataError:
        return DataError(
            f"the service refuses {name} ({found.get('processing_status')}): {self._told(found)}",
            where=f"file {found['id']}",
            remedy="correct the rows, then run again; nothing was paid",
        )

    # Price -------------------------------------------------------------------------------------

    def _estimate(self, job: RemoteJob) -> RemoteJob:
        """The price by the service; stops above the budget. Nothing is created without a price."""
        until = time.monotonic() + self._options.file_minutes * 60
        asked = _price_arguments(job)
        while True:
            found = self._service.again(
                "the estimate of the price", lambda: self._service.estimate(asked)
            )
            if found.get("estimation_available"):
                break
            reason = str(found.get("unavailable_reason"))
            late = time.monotonic() + self._options.poll_seconds > until
            if reason not in _NOT_YET or late:
                raise GateError(
                    f"the service gives no price for this job ({reason})",
                    where="together.budget_usd",
                    remedy="no job is created without a price; run again later",
                )
            time.sleep(self._options.poll_seconds)
        price = amount(found.get("estimated_total_price"))
        if price is None:
            raise GateError(
                "the service gives no price for this job",
                where="together.budget_usd",
                remedy="no job is created without a price; run again later",
            )
        self._check_budget(job, price, found)
        logger.info(
            "Estimated price $%.2f for %s tokens",
            price,
            found.get("estimated_train_token_count"),
        )
        return self._jobs.save(job, estimate_usd=price)

    def _check_budget(self, job: RemoteJob, price: float, found: Answer) -> None:
        before = self._jobs.spent(without=job.key) + sum(item.usd for item in job.attempts)
        if before + price > self._options.budget_usd + 1e-9:
            raise GateError(
                f"the job is estimated at ${price:.2f}; ${before:.2f} of together.budget_usd="
                f"{self._options.budget_usd:g} are spent or reserved",
                where="together.budget_usd",
                remedy="raise the budget, or train on fewer rows or epochs; nothing was paid",
            )
        if found.get("allowed_to_proceed") is False:
            raise GateError(
                f"the account does not cover the estimated ${price:.2f}",
                where="together",
                remedy="add credit to the account; nothing was paid",
            )

    # Creation ----------------------------------------------------------------------------------

    def _create(self, job: RemoteJob) -> RemoteJob:
        """Creates the job once; looks for it before every further try."""
        job = self._jobs.save(job, state="intended", suffix=_suffix(job), intended_at=remote.now())
        arguments = {**job.arguments, **_file_arguments(job), "suffix": job.suffix}
        doubt, reason = False, ""
        for attempt in range(self._options.attempts):
            found = self._look(job, settle=doubt)
            if found is not None:
                return self._adopt(job, found)
            doubt, wait = False, None
            try:
                created = self._service.create(arguments, self._limits)
            except Ambiguous as error:
                doubt, reason = True, str(error)
                job = self._jobs.save(job, intended_at=remote.now())
            except NotTaken as error:
                wait, reason = error.wait, str(error)
            except (Refused, ConfigurationError) as error:
                self._jobs.save(job, state="prepared")
                if isinstance(error, ConfigurationError):
                    raise
                raise self._refused("the job", error) from None
            else:
                return self._created(job, created, "Created")
            logger.warning("The job was not confirmed: %s", reason)
            time.sleep(backoff(attempt) if wait is None else wait)
        found = self._look(job, settle=doubt)
        if found is not None:
            return self._adopt(job, found)
        if doubt:
            raise ServerError(
                f"it is not known whether the job was created: {reason}",
                where=self._service.address,
                remedy="run again: the job is looked for before another one is created",
            )
        self._jobs.save(job, state="prepared")
        raise ServerError(
            f"no job could be created: {reason}",
            where=self._service.address,
            remedy="run again later; nothing was paid",
        )

    def _created(self, job: RemoteJob, job_id: str, what: str) -> RemoteJob:
        saved = self._jobs.save(job, state="created", id=job_id, created_at=remote.now())
        logger.info("%s job %s at Together AI (%s, %s)", what, job_id, job.stage, job.model)
        return saved

    def _adopt(self, job: RemoteJob, found: Answer) -> RemoteJob:
        return self._created(job, str(found["id"]), "Found")

    def _look(self, job: RemoteJob, *, settle: bool) -> Answer | None:
        """The job among those of the account; ``settle``: until the list cannot lag any more."""
        match = _matcher(job, in_doubt=settle)
        while True:
            rows = self._service.again("listing the jobs", self._service.jobs)
            found = sorted(filter(match, rows), key=_rank)
            if found:
                return found[0]
            if not settle or _age(job.intended_at) >= self._options.settle_seconds:
                return None
            time.sleep(min(self._options.poll_seconds, self._options.settle_seconds))

    def _refused(self, what: str, error: Refused) -> ServerError:
        return ServerError(
            f"the service refuses {what}: {error}",
            where=self._service.address,
            remedy="correct what it names, then run again; nothing was paid",
        )


def _suffix(job: RemoteJob) -> str:
    """Part of the name of the model; the same for every try of one attempt."""
    number = f"-{len(job.attempts) + 1}" if job.attempts else ""
    return f"tt-{job.key[:24]}{number}"[:_LONGEST_SUFFIX]


def _matcher(job: RemoteJob, *, in_doubt: bool) -> Callable[[Answer], bool]:
    """Whether a row of the list is this job.

    The name says it: it holds a hash of the rows, so it does not matter under which id they were
    uploaded (a file that was removed there gets another one). A job that failed counts only when
    our own creation is in doubt: it may be ours, and failed at once. Jobs of other machines count
    only while they can still give a model.
    """
    known = {attempt.id for attempt in job.attempts}
    stem, method = f"tt-{job.key[:24]}", job.job.method

    def match(row: Answer) -> bool:
        name, given = str(row.get("model_output_name") or ""), row.get("suffix")
        exact = job.suffix and (given == job.suffix or (given is None and job.suffix in name))
        related = str(given or "").startswith(stem) or (given is None and stem in name)
        healthy = row.get("status") not in FAILED
        asked = row.get("training_method")
        return bool(
            row.get("id")
            and row["id"] not in known
            and ((related and healthy) or (exact and in_doubt))
            and (not isinstance(asked, dict) or asked.get("method", method) == method)
        )

    return match


def _rank(row: Answer) -> tuple[bool, bool, str]:
    """Completed jobs first, failed ones last, older ones before newer ones."""
    status = row.get("status")
    return status in FAILED, status != "completed", str(row.get("created_at"))


def _file_arguments(job: RemoteJob) -> dict[str, str]:
    return {kind: job.files[name] for name, kind in _FILE_KINDS.items() if name in job.files}


def _price_arguments(job: RemoteJob) -> dict[str, Any]:
    given = job.arguments
    method: dict[str, Any] = {"method": given["training_method"]}
    if method["method"] == "sft":
        method["train_on_inputs"] = given["train_on_inputs"]
    else:
        method["dpo_beta"] = given["dpo_beta"]
    lora = ("lora_r", "lora_alpha", "lora_dropout", "lora_trainable_modules")
    start: dict[str, Any] = {
        name: given[name] for name in ("model", "from_checkpoint") if name in given
    }
    return {
        **_file_arguments(job),
        **start,
        "n_epochs": given["n_epochs"],
        "n_evals": given["n_evals"],
        "training_method": method,
        "training_type": {"type": "Lora", **{name: given[name] for name in lora}},
    }


def _age(moment: str) -> float:
    """Seconds since a time that was written down."""
    then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return (datetime.now(UTC) - then).total_seconds()
