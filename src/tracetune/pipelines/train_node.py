"""The node that trains: it hands a planned job to a backend and waits for the model folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

from kedro.pipeline import Node

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.runs import write_skipped

Document = dict[str, Any]


def train(
    plan: Document,
    work: Path,
    logs: Path,
    backend: str,
    together: TogetherOptions,
    report_to: Any,
    tenant: str,
    name: str,
    jobs: RemoteJobs,
    job_folders: Path | None = None,
    *,
    stage: str,
) -> Path:
    """Trains the planned job, or hands on why it is not trained.

    Args:
        plan: The job, or why there is none.
        work: Folder for its rows, checkpoints and result.
        logs: Folder for experiment logs.
        backend: Where it runs.
        together: Parameters of Together AI.
        report_to: Which experiment logs are written; no part of the job.
        tenant: Whose data it is.
        name: What is trained.
        jobs: Jobs of the tenant and name that run elsewhere.
        job_folders: Folder for the work of each job, and what lies beside it for several jobs;
            None: one of this stage alone, in ``work``.
        stage: ``<pipeline>.<stage>``.

    Returns:
        The model folder; of a job that runs elsewhere and has not ended, one that says ``waiting``.
    """
    import time

    from tracetune import backends
    from tracetune.training.job import TrainingJob
    from tracetune.training.tracking import Tracking, check, tools_of

    chosen, tools = backends.get(backend, together, jobs), tools_of(report_to)
    check(tools)
    if not plan["train"]:
        return write_skipped(work / "skipped", plan["reason"], plan["status"])
    tracking = Tracking(tools, f"{tenant}/{name}/{stage}", logs)
    job = TrainingJob.model_validate(plan["job"])
    handle = chosen.launch(job, work / "model", job_folders or work / "jobs", tracking)
    started, longest = time.monotonic(), chosen.wait_seconds
    while (state := chosen.poll(handle)).state == "running":
        if longest is not None and time.monotonic() + chosen.poll_seconds - started > longest:
            reason = (
                f"job {handle.id} of {stage} is not done ({state.message}); "
                f"`kedro jobs wait {handle.id} --tenant={tenant} --name={name}` waits for it"
            )
            return write_skipped(work / "waiting", reason, "waiting")
        time.sleep(chosen.poll_seconds)
    return chosen.fetch(handle)


TRAIN_PARAMETERS = ("backend", "together", "report_to", "tenant", "name")
"""Parameters of :func:`train_node`."""


def train_node(stage: str, *, job_folders: str | None = None) -> Node:
    """``plan`` and ``work`` → ``adapter``.

    Args:
        stage: ``<pipeline>.<stage>``, by which experiment logs call the run.
        job_folders: Dataset of a folder that the jobs of several stages share; None: each stage
            has its own.
    """
    shared = [job_folders] if job_folders else []
    return Node(
        for_stage(train, stage=stage),
        inputs=[
            *("plan", "work", "logs"),
            *(f"params:{given}" for given in TRAIN_PARAMETERS),
            *("jobs", *shared),
        ],
        outputs="adapter",
        name="train",
        tags=["training", "gpu"],
    )


def for_stage(function: Callable[..., Any], **fixed: str) -> Callable[..., Any]:
    """A function of a node with some arguments fixed; its name and types stay."""
    return update_wrapper(partial(function, **fixed), function)
