"""The stages that tune an encoder: held-out queries, base, decision; triplets → job → encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.errors import ConfigurationError
from tracetune.pipelines import training_stage
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.train_node import TRAIN_PARAMETERS, train_node
from tracetune.records import SearchQuery, Triplet
from tracetune.runs import previous_release
from tracetune.splits import SplitManifest, verify
from tracetune.training.embedding_options import EmbeddingOptions, EncoderOptions

Document = dict[str, Any]


def select_queries(
    splits: Document, triplets: list[Triplet], queries: list[SearchQuery]
) -> list[SearchQuery]:
    """The held-out queries, once the manifest has been checked against all rows."""
    manifest = SplitManifest.model_validate(splits)
    verify(manifest, [*triplets, *queries])
    return manifest.select(queries, "test")


def resolve_encoder(
    options: EncoderOptions, test_queries: list[SearchQuery], models: Path
) -> Document:
    """Finds or builds the encoder, and checks that no held-out query was in its text.

    Returns:
        The encoder with its hashes (:class:`tracetune.training.base.BaseModelRef`).
    """
    from tracetune.training import encoder, encoder_embedded

    base = encoder.resolve(options, models)
    if base.kind == "embedded":
        encoder_embedded.check_no_leak(options.embedded, [query.text for query in test_queries])
    return base.model_dump(mode="json")


def resolve_previous_encoder(released: Path, base: Document, splits: Document) -> Document:
    """The encoder released before for this tenant, name and base, or none and why."""
    manifest = SplitManifest.model_validate(splits)
    return previous_release(released, base["weights_sha256"], manifest.test_start)


def decide_embedding(splits: Document, options: EmbeddingOptions, dry_run: bool) -> Document:
    """Whether the encoder is trained, and why; nothing further down decides again."""
    if not isinstance(dry_run, bool):
        raise ConfigurationError(
            f"{dry_run!r} is neither true nor false", where="dry_run", remedy="use dry_run=true"
        )
    found = SplitManifest.model_validate(splits).count("triplet", "train")
    missing = max(0, options.min_triplets - found)
    if missing:
        reason = (
            f"{found} training triplets, {missing} fewer than embedding.min_triplets "
            f"({options.min_triplets})"
        )
    else:
        reason = f"{found} training triplets reach {options.min_triplets}"
    return {
        "method": "insufficient" if missing else "embedding",
        "counts": {"triplets": found},
        "thresholds": {"triplets": options.min_triplets},
        "missing": {"triplets": missing} if missing else {},
        "reason": reason,
        "dry_run": dry_run,
        "train": not missing and not dry_run,
    }


def inspect_triplets(
    train: list[Triplet], validation: list[Triplet], base: Document, decision: Document
) -> Document:
    """The preflight report of the triplets."""
    from tracetune.training.base import BaseModelRef
    from tracetune.training.embedding_job import inspect

    if decision["method"] == "insufficient":
        return {"skipped": decision["reason"]}
    return inspect(train, validation, BaseModelRef.model_validate(base)).model_dump(mode="json")


def plan_encoder(
    train: list[Triplet],
    validation: list[Triplet],
    base: Document,
    report: Document,
    decision: Document,
    options: EmbeddingOptions,
    seed: int,
    work: Path,
) -> Document:
    """The training job, once the preflight gates have passed, or why there is none."""
    from tracetune.training import embedding_job
    from tracetune.training.base import BaseModelRef
    from tracetune.training.job import job_hash, write_dataset

    if decision["method"] == "insufficient":
        nothing = {"job": None, "job_hash": None, "estimate": None}
        return {"train": False, "status": "insufficient", "reason": decision["reason"], **nothing}
    inspected = embedding_job.EmbeddingPreflight.model_validate(report)
    embedding_job.enforce(inspected)
    job = embedding_job.build_embedding_job(
        base=BaseModelRef.model_validate(base),
        dataset=write_dataset(work / "data", train, validation),
        options=options,
        seed=seed,
    )
    dry = decision["dry_run"]
    return {
        "train": decision["train"],
        "status": "skipped" if dry else "planned",
        "reason": "dry run: nothing is trained" if dry else "",
        "job": job.model_dump(mode="json"),
        "job_hash": job_hash(job),
        "estimate": embedding_job.estimate(job, inspected) if dry else None,
    }


def embedding_prepare_stage(pipeline: str) -> Pipeline:
    """``splits`` and rows → held-out queries, base encoder, earlier encoder, decision.

    Args:
        pipeline: Name of the pipeline.
    """
    return Pipeline(
        [
            Node(
                select_queries,
                inputs=["splits", "triplets", "queries"],
                outputs="test_queries",
                name="select_queries",
                tags="splits",
            ),
            Node(
                resolve_encoder,
                inputs=["params:encoder", "test_queries", "embedded_models"],
                outputs="base",
                name="resolve_encoder",
                tags="training",
            ),
            Node(
                resolve_previous_encoder,
                inputs=["released", "base", "splits"],
                outputs="previous",
                name="resolve_previous",
                tags="judgement",
            ),
            Node(
                decide_embedding,
                inputs=["splits", "params:embedding", "params:dry_run"],
                outputs="decision",
                name="decide",
                tags="training",
            ),
        ],
        namespace=f"{pipeline}.prepare",
        inputs={
            **shared(pipeline, "splits", "triplets", "queries"),
            "embedded_models": "embedded_models",
            "released": "released",
        },
        outputs=shared(pipeline, "test_queries", "base", "previous", "decision"),
        parameters={"encoder", "embedding", "dry_run"},
    )


def encoder_stage(pipeline: str) -> Pipeline:
    """Triplets → preflight → job → encoder, under the namespace ``<pipeline>.encoder``."""
    return Pipeline(
        [
            Node(
                training_stage.select_rows,
                inputs=["splits", "triplets"],
                outputs=["train", "validation"],
                name="select_rows",
                tags="splits",
            ),
            Node(
                inspect_triplets,
                inputs=["train", "validation", "base", "decision"],
                outputs="preflight",
                name="inspect",
                tags="training",
            ),
            Node(
                plan_encoder,
                inputs=[
                    *("train", "validation", "base", "preflight", "decision"),
                    *("params:embedding", "params:seed", "work"),
                ],
                outputs="plan",
                name="plan",
                tags="training",
            ),
            train_node(f"{pipeline}.encoder"),
        ],
        namespace=f"{pipeline}.encoder",
        inputs={
            **shared(pipeline, "splits", "triplets", "base", "decision", "logs"),
            "jobs": "jobs",
        },
        parameters={"embedding", "seed", *TRAIN_PARAMETERS},
    )
