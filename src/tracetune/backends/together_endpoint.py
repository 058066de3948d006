"""An endpoint at Together AI for as long as it is needed, and its end whatever happens.

It is written down before it is asked for. When the block that uses it ends, by an error or by
Ctrl-C too, it is deleted. A process that is killed leaves the record: the next run, or ``kedro jobs
cleanup``, deletes what it names. The service itself stops a deployment that nobody asks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from tracetune.backends import remote
from tracetune.backends.endpoint_records import EndpointRecord, most_usd
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_calls import Answer
from tracetune.backends.together_endpoint_calls import EndpointService
from tracetune.backends.together_hardware import project_of
from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import GateError, ServerError, TracetuneError
from tracetune.hosted_calls import Ambiguous, NotTaken, Refused, backoff

logger = logging.getLogger("tracetune")

_READY, _FAILED = "DEPLOYMENT_STATE_READY", "DEPLOYMENT_STATE_FAILED"
_CLEANUP = "`kedro jobs cleanup` deletes it"
_LONGEST_DELETION_SECONDS = 600.0
_LOCAL = "or set together.judge_on=local"


class Endpoint:
    """An endpoint that is created at the first deployment and deleted at the end of the block.

    Args:
        jobs: The jobs and endpoints of the tenant and name.
        options: Parameters.
        service: The API.
        key: Hash of what it is for; part of its name.
    """

    def __init__(
        self, jobs: RemoteJobs, options: TogetherOptions, service: EndpointService, key: str
    ) -> None:
        self._jobs = jobs
        self._options = options
        self._service = service
        self._key = key
        self._record: EndpointRecord | None = None
        self._until = 0.0
        self._lock = jobs.endpoint_lock()

    def __enter__(self) -> Endpoint:
        """Takes the lock and deletes what an earlier process left over."""
        self._lock.acquire()
        try:
            sweep(self._jobs, self._service, self._options)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Deletes the endpoint; an error of the block stays the error that is told."""
        try:
            if self._record is not None and self._record.state != "deleted":
                delete(self._jobs, self._service, self._options, self._record)
        except TracetuneError as failure:
            if error is None:
                raise
            logger.error("%s", failure)
        finally:
            self._lock.release()

    @property
    def seconds_left(self) -> float:
        """Until the time limit; the whole of it before there is an endpoint."""
        if self._record is None:
            return self._options.endpoint_minutes * 60
        return self._until - time.monotonic()

    def check_time(self) -> None:
        """Stops at the time limit.

        Raises:
            ServerError: It has passed.
        """
        if self.seconds_left <= 0:
            raise ServerError(
                f"the time of the endpoint is over (together.endpoint_minutes="
                f"{self._options.endpoint_minutes:g})",
                where="together.endpoint_minutes",
                remedy="run again: answers that came are kept; or raise the limit",
            )

    def deploy(self, name: str, model: str, config: Answer) -> str:
        """Deploys a model alone and waits until it answers; the name to ask it by.

        Args:
            name: Short name of the deployment.
            model: Resource name of the model.
            config: The configuration to run it with, with ``path``, ``hardware`` and
                ``usd_per_hour``.

        Raises:
            GateError: It may cost more than the budget has left.
            ServerError: The service refuses it, or it does not get ready in time.
        """
        record = self._record or self._create(config)
        project = record.project
        for old in self._deployed(record):
            _end(self._service, record, str(old["id"]))
        deployment = self._once(
            f"deploying {model}",
            lambda: self._deployment(record, name),
            lambda: self._service.deploy(project, record.id, name, model, config["path"]),
        )
        return self._wait(record, deployment, model)

    def _deployed(self, record: EndpointRecord) -> list[Answer]:
        service = self._service
        return service.again(
            "listing the deployments", lambda: service.deployments(record.project, record.id)
        )

    def _deployment(self, record: EndpointRecord, name: str) -> str | None:
        found = [row for row in self._deployed(record) if _bare(row) == name]
        return str(found[0]["id"]) if found else None

    def _create(self, config: Answer) -> EndpointRecord:
        """Announces the endpoint, then creates it once."""
        minutes = self._options.endpoint_minutes
        self._check_budget(most_usd(config["usd_per_hour"], minutes), config)
        record = self._record = self._jobs.endpoints.save(
            EndpointRecord(
                base_url=self._options.base_url,
                project=project_of(self._service, self._options),
                name=self._jobs.endpoints.new_name(self._key),
                usd_per_hour=config["usd_per_hour"],
                hardware=config["hardware"],
                minutes=minutes,
                intended_at=remote.now(),
            )
        )
        self._until = time.monotonic() + minutes * 60
        found = self._once(
            "creating an endpoint",
            lambda: find(self._service, record),
            lambda: self._service.create_endpoint(record.project, record.name),
        )
        self._record = self._jobs.endpoints.save(
            record, state="created", id=found, created_at=remote.now()
        )
        logger.info(
            "Endpoint %s on %s: $%.2f an hour, at most %g minutes",
            *(record.name, record.hardware, record.usd_per_hour, minutes),
        )
        return self._record

    def _check_budget(self, most: float, config: Answer) -> None:
        spent, budget = self._jobs.spent(), self._options.budget_usd
        if spent + most > budget + 1e-9:
            raise GateError(
                f"an endpoint on {config['hardware']} may cost ${most:.2f} "
                f"(${config['usd_per_hour']:.2f} an hour, {self._options.endpoint_minutes:g} "
                "minutes, and the idle time after which the service stops it by itself); "
                f"${spent:.2f} of together.budget_usd={budget:g} are spent or reserved",
                where="together.budget_usd",
                remedy=f"raise the budget, lower together.endpoint_minutes, {_LOCAL}; nothing was "
                "created",
            )

    def _once(self, what: str, look: Callable[[], str | None], create: Callable[[], str]) -> str:
        """Creates something that is billed: looks for it before every try, and never tries blindly.

        Raises:
            ServerError: The service refuses it, or no attempt was confirmed.
        """
        reason = ""
        for attempt in range(self._options.attempts):
            self.check_time()
            found = look()
            if found is not None:
                return found
            wait = None
            try:
                return create()
            except Refused as error:
                raise ServerError(
                    f"the service refuses {what}: {error}",
                    where=self._service.address,
                    remedy=f"correct what it names, {_LOCAL}",
                ) from None
            except Ambiguous as error:
                reason, wait = str(error), min(self._options.settle_seconds, self.seconds_left)
            except NotTaken as error:
                reason, wait = str(error), error.wait
            logger.warning("Not confirmed (%s): %s", what, reason)
            time.sleep(max(0.0, backoff(attempt) if wait is None else wait))
        found = look()
        if found is not None:
            return found
        raise ServerError(
            f"{what} failed: {reason}",
            where=self._service.address,
            remedy=f"run again later, {_LOCAL}",
        )

    def _wait(self, record: EndpointRecord, deployment: str, model: str) -> str:
        service, said = self._service, ("", "")
        while True:
            self.check_time()
            found = service.again(
                "a look at a deployment",
                lambda: service.deployment(record.project, record.id, deployment),
            )
            status: Any = found.get("status") or {}
            state, words = str(status.get("state")), service.scrub(str(status.get("message") or ""))
            if state == _READY:
                return str(found.get("name"))
            if state == _FAILED:
                raise ServerError(
                    f"{model} could not be deployed: {words or 'no reason given'}",
                    where=service.address,
                    remedy=f"run again later, {_LOCAL}",
                )
            if (state, words) != said:
                logger.info("Deployment of %s: %s %s", model, state, words)
                said = (state, words)
            time.sleep(min(self._options.poll_seconds, max(0.0, self.seconds_left)))


def find(service: EndpointService, record: EndpointRecord) -> str | None:
    """The id of an endpoint, by its name; None if the service has none."""
    rows = service.again(
        "listing the endpoints", lambda: service.endpoints(record.project, record.name)
    )
    return next((str(row["id"]) for row in rows if _bare(row) == record.name), None)


def delete(
    jobs: RemoteJobs, service: EndpointService, options: TogetherOptions, record: EndpointRecord
) -> EndpointRecord:
    """Deletes an endpoint with all that is deployed on it, and sees that it is gone.

    Raises:
        ServerError: The service cannot be reached, or still has it.
    """
    known = jobs.endpoints.open()
    record = next((other for other in known if other.name == record.name), record)
    try:
        found = record.id or _settled(service, options, record)
        if found:
            record = jobs.endpoints.save(record, id=found)
            _remove(service, options, record)
    except TracetuneError as error:
        raise ServerError(
            f"the endpoint {record.name} may be open and billed: {error.what}",
            where=service.address,
            remedy=f"{_CLEANUP}; so does the next run",
        ) from None
    ended = jobs.endpoints.ended(record)
    if found:
        logger.info("Endpoint %s is deleted (about $%.2f)", record.name, ended.usd or 0.0)
    return ended


def sweep(
    jobs: RemoteJobs, service: EndpointService, options: TogetherOptions
) -> list[EndpointRecord]:
    """Deletes the endpoints that earlier processes left over; the caller holds their lock.

    Only those at the address of ``service``: another one would not know them.
    """
    return [
        delete(jobs, service, options, record)
        for record in jobs.endpoints.open()
        if record.base_url == options.base_url
    ]


@contextmanager
def endpoint_service(options: TogetherOptions, jobs: RemoteJobs) -> Iterator[EndpointService]:
    """The API; its connections are closed in the end."""
    service = EndpointService(options, jobs.api_key)
    try:
        yield service
    finally:
        service.close()


def _settled(
    service: EndpointService, options: TogetherOptions, record: EndpointRecord
) -> str | None:
    """The endpoint of a record without an id, looked for until the list cannot lag any more."""
    until = time.monotonic() + options.settle_seconds
    while True:
        found = find(service, record)
        if found is not None or time.monotonic() >= until:
            return found
        time.sleep(min(options.poll_seconds, options.settle_seconds))


def _remove(service: EndpointService, options: TogetherOptions, record: EndpointRecord) -> None:
    """Ends the bill of all deployments first, then deletes until nothing is listed any more."""
    project, endpoint = record.project, record.id
    refused = "the service still lists it"
    until = time.monotonic() + _LONGEST_DELETION_SECONDS
    while time.monotonic() < until:
        for row in service.again(
            "listing the deployments", lambda: service.deployments(project, endpoint)
        ):
            _end(service, record, str(row["id"]))
        try:
            service.again(
                "deleting the endpoint",
                lambda: service.delete_endpoint(project, endpoint),
                refusals=True,
            )
            if find(service, record) is None:
                return
        except Refused as error:  # while its deployments are still on their way out
            refused = str(error)
        time.sleep(options.poll_seconds)
    raise ServerError(refused)


def _end(service: EndpointService, record: EndpointRecord, deployment: str) -> None:
    """Stops a deployment, which ends its bill, and deletes it."""
    service.again(
        "stopping a deployment",
        lambda: service.stop(record.project, record.id, deployment),
    )
    service.again(
        "deleting a deployment",
        lambda: service.delete_deployment(record.project, record.id, deployment),
    )


def _bare(row: Answer) -> str:
    """The last part of a name; the service puts project and endpoint before it."""
    return str(row.get("name") or "").rsplit("/", 1)[-1]
