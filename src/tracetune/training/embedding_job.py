"""The job of an encoder: from triplets to a JSON document, and what it will learn and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tracetune.errors import GateError
from tracetune.records import Triplet
from tracetune.runs import installed_versions
from tracetune.training import encoder
from tracetune.training.base import BaseModelRef
from tracetune.training.embedding_arguments import lora_arguments, trainer_arguments
from tracetune.training.embedding_options import EmbeddingOptions
from tracetune.training.estimate import matrix_rate
from tracetune.training.job import LIBRARIES, Limits, TrainingJob, cpu_threads, dataset_ref

ENCODER_LIBRARIES = (*LIBRARIES, "sentence-transformers")


class EmbeddingPreflight(BaseModel):
    """What will be learned, before anything is trained.

    Attributes:
        rows: Training triplets.
        validation_rows: Validation triplets.
        anchors: Different anchors among the training triplets.
        positives: Different positive texts.
        negatives: Different negative texts.
        max_tokens: Longest text the encoder reads.
        tokens: Quantiles of the length of anchors and documents in tokens.
        truncated_anchors: Share of anchors that are cut.
        truncated_documents: Share of documents that are cut.
        total_tokens: Tokens of all training triplets, as read.
        gates: Conditions that would stop the run, each with its figures.
    """

    model_config = ConfigDict(extra="forbid")

    rows: int
    validation_rows: int
    anchors: int
    positives: int
    negatives: int
    max_tokens: int
    tokens: dict[str, dict[str, int]]
    truncated_anchors: float
    truncated_documents: float
    total_tokens: int
    gates: list[dict[str, Any]]


def inspect(
    train: Sequence[Triplet], validation: Sequence[Triplet], base: BaseModelRef
) -> EmbeddingPreflight:
    """The preflight report of the triplets of a run."""
    model = encoder.load(base, cpu=True)
    limit = int(model.max_seq_length or 10**9)
    anchors = _lengths(model, [row.anchor for row in train])
    documents = _lengths(model, [t for row in train for t in (row.positive, row.negative)])
    shared = {row.anchor for row in train} & {row.anchor for row in validation}
    return EmbeddingPreflight(
        rows=len(train),
        validation_rows=len(validation),
        anchors=len({row.anchor for row in train}),
        positives=len({row.positive for row in train}),
        negatives=len({row.negative for row in train}),
        max_tokens=limit,
        tokens={"anchor": _quantiles(anchors), "document": _quantiles(documents)},
        truncated_anchors=_share(anchors, limit),
        truncated_documents=_share(documents, limit),
        total_tokens=sum(min(n, limit) for n in (*anchors, *documents)),
        gates=[
            {
                "name": "anchors_on_both_sides",
                "value": len(shared),
                "limit": 0,
                "passed": not shared,
                "words": f"{len(shared)} anchors stand in training and in validation",
            }
        ],
    )


def enforce(report: EmbeddingPreflight) -> None:
    """Stops the run if a gate of the preflight report does not pass.

    Raises:
        GateError: One does not.
    """
    failed = [gate["words"] for gate in report.gates if not gate["passed"]]
    if failed:
        raise GateError(
            "; ".join(failed),
            where="preflight of the encoder",
            remedy="run the pipeline from the start: rows and manifest do not belong together",
        )


def _lengths(model: Any, texts: list[str]) -> list[int]:
    """Tokens of each text, special ones included, before anything is cut."""
    if not texts:
        return []
    known = {
        text: len(ids)
        for text, ids in zip(
            dict.fromkeys(texts),
            model.tokenizer(list(dict.fromkeys(texts)), truncation=False, verbose=False)[
                "input_ids"
            ],
            strict=True,
        )
    }
    return [known[text] for text in texts]


def _quantiles(lengths: list[int]) -> dict[str, int]:
    ordered = sorted(lengths) or [0]
    return {
        name: ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]
        for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }


def _share(lengths: list[int], limit: int) -> float:
    return sum(n > limit for n in lengths) / len(lengths) if lengths else 0.0


def build_embedding_job(
    *,
    base: BaseModelRef,
    dataset: Path,
    options: EmbeddingOptions,
    seed: int,
    max_steps: int | None = None,
    threads: int | None = None,
) -> TrainingJob:
    """Makes the job: checks the arguments, hashes the inputs.

    Args:
        base: The resolved encoder; its profile fills what ``options`` leave open.
        dataset: Folder with ``train.jsonl`` and perhaps ``validation.jsonl``.
        options: Parameters of the stage.
        seed: Seed of the run.
        max_steps: Bound on the optimiser steps.
        threads: CPU threads; all that this process may use (at most 8) if None.

    Raises:
        ConfigurationError: An argument is unknown or of a wrong type.
        DataError: A file is missing.
    """
    return TrainingJob(
        method="embedding",
        base=base,
        dataset=dataset_ref(dataset),
        start_from=None,
        lora=lora_arguments(options),
        trainer=trainer_arguments(options, base.profile),
        over_length="truncate",
        early_stopping_patience=options.early_stopping_patience,
        seed=seed,
        limits=Limits(max_steps=max_steps, threads=threads or cpu_threads()),
        versions=installed_versions(ENCODER_LIBRARIES),
    )


def estimate(job: TrainingJob, report: EmbeddingPreflight) -> dict[str, Any]:
    """Steps, tokens and seconds of a job, good to a factor of about two; nothing is trained.

    6 floating point operations per weight and token (4 with LoRA), at a third of the rate of bare
    matrix products of this machine.
    """
    trainer = job.trainer
    batch = trainer.get("per_device_train_batch_size", 8)
    per_epoch = math.ceil(report.rows / (batch * trainer.get("gradient_accumulation_steps", 1)))
    steps = math.ceil(trainer.get("num_train_epochs", 3) * per_epoch)
    if (trainer.get("max_steps") or -1) > 0:  # wins over the epochs
        steps = trainer["max_steps"]
    if job.limits.max_steps is not None:
        steps = min(steps, job.limits.max_steps)
    tokens = round(report.total_tokens * steps / max(1, per_epoch))
    assert job.base.parameters is not None  # an encoder is always here
    flops = (4 if job.lora else 6) * job.base.parameters * tokens
    return {
        "steps": steps,
        "tokens": tokens,
        "seconds": round(flops / (matrix_rate(384, 384, threads=job.limits.threads) / 3), 1),
    }
