"""What ``kedro jobs`` does: jobs that run elsewhere, seen and steered from the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tracetune.backends.remote import ENDED, RemoteJob, RemoteJobs, not_created
from tracetune.backends.together import TogetherBackend
from tracetune.backends.together_calls import Service
from tracetune.backends.together_endpoint import delete, endpoint_service
from tracetune.backends.together_models import (
    HostedModel,
    Limits,
    read_limits,
    table,
    unknown_model,
)
from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import DataError
from tracetune.hosted_calls import Refused

_SHOWN_EVENTS = 20
_SHOWN_METRICS = 10


def list_jobs(jobs: RemoteJobs) -> list[str]:
    """One line per job and open endpoint, as they are known on this machine; asks nobody."""
    found = jobs.all()
    left = [
        f"endpoint {record.name} may be open since {record.intended_at} "
        f"(${record.usd_per_hour:.2f} an hour): `kedro jobs cleanup` deletes it"
        for record in jobs.endpoints.open()
    ]
    if not found:
        return ["no jobs were sent anywhere", *left]
    rows = [("JOB", "STAGE", "STATE", "MODEL", "USD", "SINCE")]
    rows += [
        (
            job.id or job.key[:12],
            job.stage or "-",
            f"{job.state} ({job.status})" if job.status and job.status != job.state else job.state,
            job.model,
            _usd(job),
            job.created_at or job.intended_at or "-",
        )
        for job in found
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*lines, f"at most ${jobs.spent():.2f} spent or reserved", *left]


def cleanup(jobs: RemoteJobs, options: TogetherOptions) -> list[str]:
    """Deletes the endpoints that a process left over, each where it was created.

    Raises:
        TracetuneError: A run is using one now.
        ServerError: The service cannot be reached, or still has one.
    """
    lock = jobs.endpoint_lock()
    lock.acquire()
    try:
        lines = []
        for record in jobs.endpoints.open():
            own = options.model_copy(update={"base_url": record.base_url})
            with endpoint_service(own, jobs) as service:
                ended = delete(jobs, service, own, record)
            lines.append(f"{record.name} is deleted (about ${ended.usd or 0:.2f})")
        return lines or ["no endpoint is open"]
    finally:
        lock.release()


def show(jobs: RemoteJobs, options: TogetherOptions, name: str) -> list[str]:
    """What was asked for, how it is doing, its events, metrics and checkpoints."""
    remote = jobs.find(name)
    lines = _description(remote)
    if not remote.id:
        unknown = not_created(remote)
        return [*lines, f"{unknown.what}; {unknown.remedy}"]
    with _opened(jobs, options, remote) as backend:
        remote = backend.look(remote)
        service = backend.service
        events = service.again("reading the events", lambda: service.events(remote.id))
        metrics = service.again("reading the metrics", lambda: service.metrics(remote.id))
        points = service.again("reading the checkpoints", lambda: service.checkpoints(remote.id))
        clean = service.scrub
    lines = _description(remote)
    lines += ["events:"] + [
        f"  {event.get('created_at', '')}  {clean(str(event.get('message', '')))}"
        for event in events[-_SHOWN_EVENTS:]
    ]
    lines += ["metrics:"] + [f"  {_figures(row)}" for row in metrics[-_SHOWN_METRICS:]]
    lines += ["checkpoints:"] + [
        f"  step {point.get('step')}: {point.get('checkpoint_type')}" for point in points
    ]
    return lines


def wait(jobs: RemoteJobs, options: TogetherOptions, name: str) -> list[str]:
    """Waits until a job has ended; the log tells what changes.

    Raises:
        DataError: It gave no model, or has no id yet.
        ServerError: The service cannot be reached, or the job is past its deadline.
    """
    remote = jobs.find(name)
    if not remote.id:
        raise not_created(remote)
    with _opened(jobs, options, remote) as backend:
        while True:
            remote = backend.look(remote)
            if remote.state in ENDED:
                break
            backend.check_deadline(remote)
            time.sleep(options.poll_seconds)
    if remote.state != "completed":
        raise DataError(
            f"job {remote.id} gave no model: {remote.status or remote.state}, "
            f"{remote.message or 'no reason given'}",
            where="kedro jobs wait",
            remedy="correct the cause, then run the pipeline again",
        )
    return [f"{remote.id} is completed (${remote.usd or 0:.2f}); run the pipeline again to go on"]


def cancel(jobs: RemoteJobs, options: TogetherOptions, name: str) -> list[str]:
    """Asks for the end of a job."""
    remote = jobs.find(name)
    with _opened(jobs, options, remote) as backend:
        remote = backend.stop(remote)
    return [f"{remote.id}: {remote.status}; steps that were done are billed"]


def fetch(jobs: RemoteJobs, options: TogetherOptions, name: str, out: Path | None) -> list[str]:
    """Downloads the adapter of a completed job as a model folder."""
    remote = jobs.find(name)
    folder = out or jobs.place(remote.key) / "model"
    if out is not None and out.exists():
        raise DataError(f"{out} exists", where="--out", remedy="give a folder that does not exist")
    with _opened(jobs, options, remote) as backend:
        backend.bring(backend.look(remote), folder)
    return [str(folder)]


def check(jobs: RemoteJobs, options: TogetherOptions, model: str | None) -> list[str]:
    """Whose key it is, and the limits of a model as the service states them today.

    Args:
        jobs: For the key.
        options: Parameters.
        model: A hosted model; None for ``together.model``, else the whole table is shown. Where
            the service states no limits, the facts of the table are.

    Raises:
        ConfigurationError: The service does not train ``model``.
        ServerError: The service cannot be reached, or refuses a call.
    """
    with _opened(jobs, options) as backend:
        service = backend.service
        who = service.again("asking whose key it is", service.whoami)
        lines = [f"connected to {service.address}, key of {_owner(who)}"]
        wanted = model or options.model
        if wanted:
            try:
                return [*lines, _stated(service, wanted)]
            except Refused as error:
                raise unknown_model(wanted, str(error)) from None
        known = table()
        lines.append(f"table of {known.as_of} ({known.source}), and what the service states today:")
        for row in known.models:
            try:
                lines.append(_stated(service, row.id))
            except Refused as error:
                lines.append(f"{row.id}: no limits today ({error}); in the table: {_facts(row)}")
    return lines


def _stated(service: Service, model: str) -> str:
    answer = service.again("asking for limits", partial(service.limits, model), refusals=True)
    return f"{model}: {_limits(read_limits(answer, model))}"


@contextmanager
def _opened(
    jobs: RemoteJobs, options: TogetherOptions, remote: RemoteJob | None = None
) -> Iterator[TogetherBackend]:
    """The backend, at the address that a job was sent to."""
    given = {} if remote is None else {"base_url": remote.base_url}
    backend = TogetherBackend(options.model_copy(update=given), jobs)
    try:
        yield backend
    finally:
        backend.close()


def _description(remote: RemoteJob) -> list[str]:
    rows = ", ".join(f"{name} {count}" for name, count in remote.rows.items())
    lines = [
        f"job         {remote.id or 'none yet'} ({remote.key[:12]}, {remote.suffix or 'no name'})",
        f"stage       {remote.stage or '-'}",
        f"state       {remote.state} {remote.status} {remote.message}".rstrip(),
        f"model       {remote.model}",
        f"rows        {rows}; about {remote.tokens} tokens",
        f"price       {_usd(remote)}",
    ]
    for title, counts in (("left out", remote.dropped), ("redacted", remote.redacted)):
        if counts:
            shown = ", ".join(f"{name} {count}" for name, count in counts.items())
            lines.append(f"{title.ljust(11)} {shown}")
    for attempt in remote.attempts:
        lines.append(f"before      {attempt.id}: {attempt.state}, {attempt.message}")
    lines.append("arguments:")
    return lines + [f"  {name} = {value}" for name, value in sorted(remote.arguments.items())]


def _usd(remote: RemoteJob) -> str:
    if remote.usd is not None:
        return f"{remote.usd:.2f}"
    return "-" if remote.estimate_usd is None else f"~{remote.estimate_usd:.2f}"


def _figures(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in row.items())


def _owner(who: dict[str, Any]) -> str:
    for part in ("project", "organization", "user"):
        found = who.get(part)
        if isinstance(found, dict):
            return f"{part} {found.get('name') or found.get('id')}"
    return "an unknown owner"


def _facts(row: HostedModel) -> str:
    dpo = "about half of that" if row.dpo is None else f"{row.dpo} tokens"
    kinds = "LoRA or full training" if row.full else "LoRA only"
    return f"SFT up to {row.sft} tokens, DPO up to {dpo}, {kinds}"


def _limits(limits: Limits) -> str:
    lora = limits.lora_training
    parts = [f"SFT up to {limits.max_seq_length_sft} tokens"]
    parts.append(f"DPO up to {limits.max_seq_length_dpo} tokens" if limits.dpo else "no DPO")
    if lora is None:
        parts.append("no LoRA")
    else:
        parts.append(f"LoRA up to rank {lora.max_rank}")
        parts.append(f"batches of {lora.min_batch_size} to {lora.max_batch_size}")
    parts.append("full training" if limits.supports_full_training else "LoRA only")
    return ", ".join(parts)
