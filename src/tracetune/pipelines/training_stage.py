"""The training stages that pipelines share: sets, base model, decision, SFT, DPO.

Each stage inspects its rows (preflight), plans a job or says why it does not train, and trains. A
stage that does not train hands on a folder that holds only a status; nothing is left unsaved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.errors import ConfigurationError, DataError
from tracetune.pipelines.namespaces import shared
from tracetune.records import Example, Preference
from tracetune.runs import read_status, write_skipped
from tracetune.splits import SplitManifest, verify
from tracetune.training.options import (
    BaseModelOptions,
    DpoOptions,
    EmbeddedRecipe,
    Method,
    PreflightOptions,
    SftOptions,
    StageOptions,
)

POLL_SECONDS = 10.0
"""Between two looks at a job that runs elsewhere."""


def select_examples(
    splits: dict[str, Any], examples: list[Example]
) -> tuple[list[Example], list[Example]]:
    """The training and validation rows of SFT, as the manifest says."""
    manifest = SplitManifest.model_validate(splits)
    return manifest.select(examples, "train"), manifest.select(examples, "validation")


def select_pairs(
    splits: dict[str, Any], preferences: list[Preference]
) -> tuple[list[Preference], list[Preference]]:
    """The training and validation rows of DPO, as the manifest says."""
    manifest = SplitManifest.model_validate(splits)
    return manifest.select(preferences, "train"), manifest.select(preferences, "validation")


def select_test(
    splits: dict[str, Any], examples: list[Example], preferences: list[Preference]
) -> tuple[list[Example], list[Preference]]:
    """The held-out rows and pairs, once the manifest has been checked against all rows."""
    manifest = SplitManifest.model_validate(splits)
    verify(manifest, [*examples, *preferences])
    return manifest.select(examples, "test"), manifest.select(preferences, "test")


def resolve_base(
    base_model: BaseModelOptions, embedded: EmbeddedRecipe, test: list[Example], models: Path
) -> dict[str, Any]:
    """Finds or builds the base model, and checks that no held-out row was in its text.

    Returns:
        The base model with its hashes (:class:`tracetune.training.base.BaseModelRef`).
    """
    from tracetune.training.base import resolve
    from tracetune.training.embedded import check_no_leak

    base = resolve(base_model, models, embedded)
    if base.kind == "embedded":
        check_no_leak(embedded, [row.prompt[-1].content for row in test])
    return base.model_dump(mode="json")


def decide(splits: dict[str, Any], dpo: DpoOptions, dry_run: bool) -> dict[str, Any]:
    """What will be trained, and why; nothing further down decides again.

    Raises:
        DataError: If there are fewer training pairs than ``dpo.min_dpo_pairs``.
    """
    if not isinstance(dry_run, bool):
        raise ConfigurationError(
            f"{dry_run!r} is neither true nor false", where="dry_run", remedy="use dry_run=true"
        )
    manifest = SplitManifest.model_validate(splits)
    rows, pairs = manifest.count("sft", "train"), manifest.count("pair", "train")
    if pairs < dpo.min_dpo_pairs:
        raise DataError(
            f"{pairs} preference pairs for training, at least {dpo.min_dpo_pairs} are needed",
            where="dpo.min_dpo_pairs",
            remedy="collect corrections (metadata.corrected_output on rejected spans), widen "
            "telemetry.windows, or lower dpo.min_dpo_pairs; the funnel shows where rows were lost",
        )
    with_sft = dpo.start_from == "sft"
    skip = "dry run: nothing is trained" if dry_run else ""
    return {
        "dry_run": dry_run,
        "counts": {"sft_rows": rows, "dpo_pairs": pairs},
        "thresholds": {"min_dpo_pairs": dpo.min_dpo_pairs},
        "sft": {
            "train": with_sft and not dry_run,
            "reason": skip or ("" if with_sft else "dpo.start_from is 'base'"),
        },
        "dpo": {"train": not dry_run, "reason": skip},
        "reason": f"{pairs} pairs reach {dpo.min_dpo_pairs}: "
        + ("SFT, then DPO on top of it" if with_sft else "DPO from the base model"),
    }


def inspect_examples(
    train: list[Example],
    validation: list[Example],
    base: dict[str, Any],
    options: SftOptions,
    preflight: PreflightOptions,
) -> dict[str, Any]:
    """The preflight report of an SFT stage."""
    return _inspect(train, validation, base, "sft", options, preflight)


def inspect_pairs(
    train: list[Preference],
    validation: list[Preference],
    base: dict[str, Any],
    options: DpoOptions,
    preflight: PreflightOptions,
) -> dict[str, Any]:
    """The preflight report of a DPO stage."""
    return _inspect(train, validation, base, "dpo", options, preflight)


def _inspect(
    train: list[Example] | list[Preference],
    validation: list[Example] | list[Preference],
    base: dict[str, Any],
    method: Method,
    options: StageOptions,
    preflight: PreflightOptions,
) -> dict[str, Any]:
    from tracetune.training.base import BaseModelRef
    from tracetune.training.preflight import inspect

    report = inspect(
        train, validation, BaseModelRef.model_validate(base), method, options, preflight
    )
    return report.model_dump(mode="json")


def plan_sft(
    train: list[Example],
    validation: list[Example],
    base: dict[str, Any],
    report: dict[str, Any],
    decision: dict[str, Any],
    options: SftOptions,
    seed: int,
    work: Path,
) -> dict[str, Any]:
    """The SFT job with a time estimate, once the preflight gates have passed."""
    return _plan("sft", train, validation, base, report, decision, options, seed, work, None)


def plan_dpo(
    train: list[Preference],
    validation: list[Preference],
    base: dict[str, Any],
    report: dict[str, Any],
    decision: dict[str, Any],
    options: DpoOptions,
    seed: int,
    work: Path,
    sft_adapter: Path,
) -> dict[str, Any]:
    """The DPO job with a time estimate, once the preflight gates have passed."""
    start = sft_adapter if read_status(sft_adapter).status == "trained" else None
    return _plan("dpo", train, validation, base, report, decision, options, seed, work, start)


def _plan(
    method: Method,
    train: list[Example] | list[Preference],
    validation: list[Example] | list[Preference],
    base: dict[str, Any],
    report: dict[str, Any],
    decision: dict[str, Any],
    options: StageOptions,
    seed: int,
    work: Path,
    start_from: Path | None,
) -> dict[str, Any]:
    from tracetune.training.base import BaseModelRef
    from tracetune.training.estimate import estimate
    from tracetune.training.job import build_job, job_hash, write_dataset
    from tracetune.training.preflight import PreflightReport, enforce

    dry_run = decision["dry_run"]
    inspected = PreflightReport.model_validate(report)
    enforce(inspected)
    job = build_job(
        method,
        base=BaseModelRef.model_validate(base),
        dataset=write_dataset(work / "data", train, validation),
        stage=options,
        seed=seed,
        start_from=start_from,
    )
    return {
        "train": decision[method]["train"],
        "reason": decision[method]["reason"],
        "job_hash": job_hash(job),
        "job": job.model_dump(mode="json"),
        "estimate": estimate(job, inspected).model_dump(mode="json") if dry_run else None,
    }


def train(plan: dict[str, Any], work: Path, backend: str) -> Path:
    """Trains the planned job, or hands on why it is not trained. Returns the model folder."""
    import time

    from tracetune import backends
    from tracetune.training.job import TrainingJob

    chosen = backends.get(backend)
    if not plan["train"]:
        return write_skipped(work / "skipped", plan["reason"])
    handle = chosen.launch(TrainingJob.model_validate(plan["job"]), work / "model", work / "jobs")
    while chosen.poll(handle).state == "running":
        time.sleep(POLL_SECONDS)
    return chosen.fetch(handle)


def prepare_stage(pipeline: str) -> Pipeline:
    """``splits`` and rows → held-out sets, base model, and the decision what is trained.

    Args:
        pipeline: Name of the pipeline.
    """
    return Pipeline(
        [
            Node(
                select_test,
                inputs=["splits", "examples", "preferences"],
                outputs=["test", "test_pairs"],
                name="select_test",
                tags="splits",
            ),
            Node(
                resolve_base,
                inputs=["params:base_model", "params:embedded", "test", "embedded_models"],
                outputs="base",
                name="resolve_base",
                tags="training",
            ),
            Node(
                decide,
                inputs=["splits", "params:dpo", "params:dry_run"],
                outputs="decision",
                name="decide",
                tags="training",
            ),
        ],
        namespace=f"{pipeline}.prepare",
        inputs={
            **shared(pipeline, "splits", "examples", "preferences"),
            "embedded_models": "embedded_models",
        },
        outputs=shared(pipeline, "test", "test_pairs", "base", "decision"),
        parameters={"base_model", "embedded", "dpo", "dry_run"},
    )


def sft_stage(pipeline: str) -> Pipeline:
    """Examples → preflight → job → adapter, under the namespace ``<pipeline>.sft``."""
    return Pipeline(
        [
            Node(
                select_examples,
                inputs=["splits", "examples"],
                outputs=["train", "validation"],
                name="select_rows",
                tags="splits",
            ),
            Node(
                inspect_examples,
                inputs=["train", "validation", "base", "params:sft", "params:preflight"],
                outputs="preflight",
                name="inspect",
                tags="training",
            ),
            Node(
                plan_sft,
                inputs=[
                    "train",
                    "validation",
                    "base",
                    "preflight",
                    "decision",
                    "params:sft",
                    "params:seed",
                    "work",
                ],
                outputs="plan",
                name="plan",
                tags="training",
            ),
            Node(
                train,
                inputs=["plan", "work", "params:backend"],
                outputs="adapter",
                name="train",
                tags=["training", "gpu"],
            ),
        ],
        namespace=f"{pipeline}.sft",
        inputs=shared(pipeline, "splits", "examples", "base", "decision"),
        parameters={"sft", "preflight", "seed", "backend"},
    )


def dpo_stage(pipeline: str) -> Pipeline:
    """Preferences → preflight → job on top of the SFT adapter → adapter, ``<pipeline>.dpo``."""
    return Pipeline(
        [
            Node(
                select_pairs,
                inputs=["splits", "preferences"],
                outputs=["train", "validation"],
                name="select_rows",
                tags="splits",
            ),
            Node(
                inspect_pairs,
                inputs=["train", "validation", "base", "params:dpo", "params:preflight"],
                outputs="preflight",
                name="inspect",
                tags="training",
            ),
            Node(
                plan_dpo,
                inputs=[
                    "train",
                    "validation",
                    "base",
                    "preflight",
                    "decision",
                    "params:dpo",
                    "params:seed",
                    "work",
                    "sft_adapter",
                ],
                outputs="plan",
                name="plan",
                tags="training",
            ),
            Node(
                train,
                inputs=["plan", "work", "params:backend"],
                outputs="adapter",
                name="train",
                tags=["training", "gpu"],
            ),
        ],
        namespace=f"{pipeline}.dpo",
        inputs={
            **shared(pipeline, "splits", "preferences", "base", "decision"),
            "sft_adapter": f"{pipeline}.sft.adapter",
        },
        parameters={"dpo", "preflight", "seed", "backend"},
    )
