"""The training stages that pipelines share: SFT, DPO, KTO, all from one template.

Each stage inspects its rows (preflight), plans a job or says why it does not train, and trains. A
stage that does not train hands on a folder that holds only a status; nothing is left unsaved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.train_node import TRAIN_PARAMETERS, for_stage, train_node
from tracetune.records import SYNTHETIC, Example
from tracetune.runs import read_status
from tracetune.splits import AnyRow, SplitManifest
from tracetune.training.options import (
    DpoOptions,
    KtoOptions,
    Method,
    PreflightOptions,
    SftOptions,
    StageOptions,
)

if TYPE_CHECKING:
    from tracetune.training.job import TrainingJob
    from tracetune.training.preflight import PreflightReport

Document = dict[str, Any]


@dataclass(frozen=True)
class _Place:
    """Where a job would run."""

    backend: str
    together: TogetherOptions
    jobs: RemoteJobs


def select_rows(splits: Document, rows: list[AnyRow]) -> tuple[list[AnyRow], list[AnyRow]]:
    """The training and validation rows of a stage, as the manifest says."""
    manifest = SplitManifest.model_validate(splits)
    return manifest.select(rows, "train"), manifest.select(rows, "validation")


def select_real_rows(splits: Document, rows: list[Example]) -> tuple[list[Example], list[Example]]:
    """The training and validation rows that are not synthetic."""
    train, validation = select_rows(splits, rows)
    return [row for row in train if row.provenance.source != SYNTHETIC], validation


def inspect_sft(
    train: list[Any],
    validation: list[Any],
    base: Document,
    decision: Document,
    options: SftOptions,
    preflight: PreflightOptions,
    *,
    stage: str = "sft",
) -> Document:
    """The preflight report of an SFT stage."""
    return _inspect("sft", train, validation, base, decision, options, preflight, stage=stage)


def inspect_real(
    train: list[Any],
    validation: list[Any],
    base: Document,
    decision: Document,
    options: SftOptions,
    preflight: PreflightOptions,
) -> Document:
    """The preflight report of the SFT stage without synthetic rows."""
    return _inspect("sft", train, validation, base, decision, options, preflight, stage="real")


def inspect_dpo(
    train: list[Any],
    validation: list[Any],
    base: Document,
    decision: Document,
    options: DpoOptions,
    preflight: PreflightOptions,
) -> Document:
    """The preflight report of a DPO stage."""
    return _inspect("dpo", train, validation, base, decision, options, preflight)


def inspect_kto(
    train: list[Any],
    validation: list[Any],
    base: Document,
    decision: Document,
    options: KtoOptions,
    preflight: PreflightOptions,
) -> Document:
    """The preflight report of a KTO stage."""
    return _inspect("kto", train, validation, base, decision, options, preflight)


def _inspect(
    method: Method,
    train: list[Any],
    validation: list[Any],
    base: Document,
    decision: Document,
    options: StageOptions,
    preflight: PreflightOptions,
    *,
    stage: str | None = None,
) -> Document:
    from tracetune.training.base import BaseModelRef
    from tracetune.training.preflight import inspect

    decided = decision["stages"][stage or method]
    if not decided["chosen"]:
        return {"method": method, "skipped": decided["reason"]}
    model = BaseModelRef.model_validate(base)
    return inspect(train, validation, model, method, options, preflight).model_dump(mode="json")


def plan_sft(
    train: list[Any],
    validation: list[Any],
    base: Document,
    report: Document,
    decision: Document,
    options: SftOptions,
    seed: int,
    work: Path,
    backend: str,
    together: TogetherOptions,
    jobs: RemoteJobs,
    *,
    stage: str = "sft",
) -> Document:
    """The SFT job with a time estimate, once the preflight gates have passed."""
    return _plan(
        *("sft", train, validation, base, report, decision, options, seed, work),
        *(_Place(backend, together, jobs), None),
        stage=stage,
    )


def plan_real(
    train: list[Any],
    validation: list[Any],
    base: Document,
    report: Document,
    decision: Document,
    options: SftOptions,
    seed: int,
    work: Path,
    backend: str,
    together: TogetherOptions,
    jobs: RemoteJobs,
) -> Document:
    """The SFT job without synthetic rows."""
    stage = "real"
    return _plan(
        *("sft", train, validation, base, report, decision, options, seed, work),
        *(_Place(backend, together, jobs), None),
        stage=stage,
    )


def plan_dpo(
    train: list[Any],
    validation: list[Any],
    base: Document,
    report: Document,
    decision: Document,
    options: DpoOptions,
    seed: int,
    work: Path,
    backend: str,
    together: TogetherOptions,
    jobs: RemoteJobs,
    sft_adapter: Path,
) -> Document:
    """The DPO job with a time estimate, once the preflight gates have passed."""
    before = read_status(sft_adapter)
    chosen = decision["stages"]["dpo"]["chosen"]
    if chosen and before.status == "waiting" and options.start_from == "sft":
        # Its SFT runs elsewhere and has not ended: DPO never starts from another model instead.
        nothing: Document = {"job_hash": None, "job": None, "estimate": None, "price": None}
        return {"train": False, "reason": before.reason, "status": "waiting", **nothing}
    start = sft_adapter if before.status == "trained" else None
    at = _Place(backend, together, jobs)
    return _plan("dpo", train, validation, base, report, decision, options, seed, work, at, start)


def plan_kto(
    train: list[Any],
    validation: list[Any],
    base: Document,
    report: Document,
    decision: Document,
    options: KtoOptions,
    seed: int,
    work: Path,
    backend: str,
    together: TogetherOptions,
    jobs: RemoteJobs,
) -> Document:
    """The KTO job; weights that are not given make up for the rarer kind of answers."""
    from tracetune.training.kto import balanced_weights

    given = {name: value for name, value in options.trainer.items() if value is not None}
    if not {"desirable_weight", "undesirable_weight"} & set(given):
        good = sum(row.good for row in train)
        given |= balanced_weights(good, len(train) - good)
    balanced = options.model_copy(update={"trainer": given})
    at = _Place(backend, together, jobs)
    return _plan("kto", train, validation, base, report, decision, balanced, seed, work, at, None)


def _plan(
    method: Method,
    train: list[Any],
    validation: list[Any],
    base: Document,
    report: Document,
    decision: Document,
    options: StageOptions,
    seed: int,
    work: Path,
    at: _Place,
    start_from: Path | None,
    *,
    stage: str | None = None,
) -> Document:
    from tracetune.training.base import BaseModelRef
    from tracetune.training.job import build_job, job_hash, write_dataset
    from tracetune.training.preflight import PreflightReport, enforce

    decided = decision["stages"][stage or method]
    none = decision["method"] if decision["method"] in ("insufficient", "waiting") else None
    plan = {
        "train": decided["train"],
        "reason": decided["reason"],
        "status": none or ("planned" if decided["train"] else "skipped"),
    }
    if not decided["chosen"]:
        return {**plan, "job_hash": None, "job": None, "estimate": None, "price": None}
    inspected = PreflightReport.model_validate(report)
    failed = [gate.name for gate in inspected.gates if not gate.passed]
    if stage == "real" and failed:
        # It is there for comparison: few rows alone may fail a gate that all rows together pass.
        reason = f"the real rows alone do not pass the preflight ({', '.join(failed)})"
        none_of_it = {"job_hash": None, "job": None, "estimate": None, "price": None}
        return {"train": False, "reason": reason, "status": "skipped", **none_of_it}
    enforce(inspected)
    job = build_job(
        method,
        base=BaseModelRef.model_validate(base),
        dataset=write_dataset(work / "data", train, validation),
        stage=options,
        seed=seed,
        start_from=start_from,
    )
    costs: Document = {"estimate": None, "price": None}
    if decision["dry_run"]:
        costs |= _costs(job, inspected, at, stage or method)
    return {**plan, "job_hash": job_hash(job), "job": job.model_dump(mode="json"), **costs}


def _costs(job: TrainingJob, report: PreflightReport, at: _Place, stage: str) -> Document:
    """What a planned job will take: time on this machine, or money at the service."""
    if at.backend == "together":
        from tracetune.backends.together_prices import price

        return {"price": price(job, at.together, at.jobs, stage).model_dump(mode="json")}
    from tracetune.training.estimate import estimate

    return {"estimate": estimate(job, report).model_dump(mode="json")}


def sft_stage(
    pipeline: str,
    parameters: str = "sft",
    *,
    stage: str = "sft",
    select: Callable[..., Any] = select_rows,
) -> Pipeline:
    """Examples → preflight → job → adapter, under the namespace ``<pipeline>.<stage>``.

    Args:
        pipeline: Name of the pipeline.
        parameters: Name of the parameters of the stage.
        stage: Its name, for pipelines with several SFT stages; the decision names them.
        select: The training and validation rows of the stage.
    """
    inspect, plan = for_stage(inspect_sft, stage=stage), for_stage(plan_sft, stage=stage)
    return _stage(pipeline, stage, "examples", parameters, inspect, plan, select=select)


def real_stage(pipeline: str) -> Pipeline:
    """SFT as in :func:`sft_stage` without synthetic rows, under ``<pipeline>.real``.

    It trains only where synthetic rows are trained on, so that one sees what they change.
    """
    return _stage(
        pipeline, "real", "examples", "sft", inspect_real, plan_real, select=select_real_rows
    )


def dpo_stage(
    pipeline: str, parameters: str = "dpo", *, splits: str = "splits", decision: str = "decision"
) -> Pipeline:
    """Preferences → preflight → job on top of the SFT adapter → adapter, ``<pipeline>.dpo``.

    Args:
        pipeline: Name of the pipeline.
        parameters: Name of the parameters of the stage.
        splits: The manifest that divides the pairs.
        decision: The document that says whether pairs are trained on.
    """
    return _stage(
        pipeline,
        "dpo",
        "preferences",
        parameters,
        inspect_dpo,
        plan_dpo,
        {"sft_adapter": f"{pipeline}.sft.adapter"},
        documents={"splits": splits, "decision": decision},
    )


def kto_stage(pipeline: str) -> Pipeline:
    """Ratings → preflight → job from the base → adapter, under ``<pipeline>.kto``."""
    return _stage(pipeline, "kto", "ratings", "kto", inspect_kto, plan_kto)


def _stage(
    pipeline: str,
    stage: str,
    rows: str,
    parameters: str,
    inspect: Callable[..., Document],
    plan: Callable[..., Document],
    start: dict[str, str] | None = None,
    select: Callable[..., Any] = select_rows,
    documents: dict[str, str] | None = None,
) -> Pipeline:
    start = start or {}
    options = f"params:{parameters}"
    nodes = [
        Node(
            select,
            inputs=["splits", rows],
            outputs=["train", "validation"],
            name="select_rows",
            tags="splits",
        ),
        Node(
            inspect,
            inputs=["train", "validation", "base", "decision", options, "params:preflight"],
            outputs="preflight",
            name="inspect",
            tags="training",
        ),
        Node(
            plan,
            inputs=[
                *("train", "validation", "base", "preflight", "decision"),
                *(options, "params:seed", "work", "params:backend", "params:together", "jobs"),
                *start,
            ],
            outputs="plan",
            name="plan",
            tags="training",
        ),
        train_node(f"{pipeline}.{stage}"),
    ]
    return Pipeline(
        nodes,
        namespace=f"{pipeline}.{stage}",
        inputs={
            **shared(pipeline, "splits", rows, "base", "decision", "logs"),
            "jobs": "jobs",
            **{name: f"{pipeline}.{given}" for name, given in (documents or {}).items()},
            **start,
        },
        parameters={parameters, "preflight", "seed", *TRAIN_PARAMETERS},
    )
