"""The job of the heads: from a folder of rows to a JSON document, what it learns and costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tracetune.errors import ConfigurationError, DataError, GateError
from tracetune.files import read_json
from tracetune.options import Options
from tracetune.records.heads import PATTERNS, TrajectoryReference
from tracetune.runs import installed_versions
from tracetune.training.base import BaseModelRef, demand_here, load_tokenizer
from tracetune.training.estimate import matrix_rate
from tracetune.training.heads.data import HeadRows, heads_dataset_ref, load_dataset, read_reference
from tracetune.training.heads.frozen import adapter_hash
from tracetune.training.heads.options import (
    ArchitectureOptions,
    CacheOptions,
    HeadsOptions,
    LossOptions,
)
from tracetune.training.heads.turns import TurnReader
from tracetune.training.job import LIBRARIES, AdapterRef, Limits, TrainingJob, cpu_threads


class HeadsSettings(Options):
    """``trainer`` of a job: everything that decides what the heads learn, nothing left open."""

    num_train_epochs: int
    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    weight_decay: float
    warmup_steps: float
    max_grad_norm: float
    max_steps: int | None = None
    eval_steps: float | None = None
    logging_steps: float | None = None
    bf16: bool | None = None
    use_cpu: bool = False
    max_length: int
    architecture: ArchitectureOptions
    losses: LossOptions
    cache: CacheOptions
    reference: TrajectoryReference

    @classmethod
    def of(cls, job: TrainingJob) -> HeadsSettings:
        """The settings of a job of method ``heads``.

        Raises:
            ConfigurationError: They are incomplete or hold something else.
        """
        try:
            return cls.model_validate(job.trainer, strict=False)
        except ValueError as error:
            raise ConfigurationError(
                f"not settings of heads: {error}",
                where="job.trainer",
                remedy="make the job with build_heads_job()",
            ) from error


class HeadsPreflight(BaseModel):
    """What will be learned, before anything is trained.

    Attributes:
        rows: Training rows.
        validation_rows: Validation rows.
        conversations: Training conversations.
        style_groups: Training rows of each style group, the largest first, at most ten.
        groups: Number of style groups among the training rows.
        support: Training rows that have each pattern.
        validation_support: Validation rows that have each pattern.
        planned: Training rows that have a next turn.
        max_length: Most tokens of a row.
        tokens: Quantiles of the tokens of a row as read, and of its turn alone.
        shortened: Share of training rows of whose past something was left out.
        cut: Share of training rows whose turn itself is cut.
        as_user: Share of training rows whose turn is read as a message of the user, because the
            chat template does not take it in its own role.
        total_tokens: Tokens that go through the base once, training and validation.
        cache_bytes: Room that the hidden states need; 0 if they are not kept.
        gates: Conditions that would stop the run, each with its figures.
    """

    model_config = ConfigDict(extra="forbid")

    rows: int
    validation_rows: int
    conversations: int
    style_groups: dict[str, int]
    groups: int
    support: dict[str, int]
    validation_support: dict[str, int]
    planned: int
    max_length: int
    tokens: dict[str, dict[str, int]]
    shortened: float
    cut: float
    as_user: float
    total_tokens: int
    cache_bytes: int
    gates: list[dict[str, Any]]


def inspect(dataset: Path, base: BaseModelRef, options: HeadsOptions) -> HeadsPreflight:
    """The preflight report of a folder of rows.

    Args:
        dataset: The folder.
        base: The resolved base model.
        options: Parameters of the heads.

    Raises:
        DataError: The folder holds something else.
        ConfigurationError: The base is not on this machine.
    """
    demand_here(base)
    from tracetune.training.heads.states import plan

    found = load_dataset(dataset)
    reader = TurnReader(load_tokenizer(base), options.max_length)
    train = [reader.read(row) for row in found.train.rows]
    both = [*train, *(reader.read(row) for row in found.validation.rows)]
    groups = _group_sizes(found.train)
    size = hidden_size(base)
    room = plan(both, size, options.cache.dtype).size if options.cache.enabled else 0
    return HeadsPreflight(
        rows=len(found.train),
        validation_rows=len(found.validation),
        conversations=len({row.conversation_id for row in found.train.rows}),
        style_groups=dict(sorted(groups.items(), key=lambda item: (-item[1], item[0]))[:10]),
        groups=len(groups),
        support=found.train.support,
        validation_support=found.validation.support,
        planned=sum(bool(following) for following in found.train.next_rows),
        max_length=options.max_length,
        tokens={
            "row": _quantiles([len(row.ids) for row in train]),
            "turn": _quantiles([len(row.ids) - row.start for row in train]),
        },
        shortened=_share([row.left_out > 0 for row in train]),
        cut=_share([row.cut > 0 for row in train]),
        as_user=_share([row.as_user for row in train]),
        total_tokens=sum(len(row.ids) for row in both),
        cache_bytes=room,
        gates=_gates(found.train, groups, room, options),
    )


def _gates(
    train: HeadRows, groups: dict[str, int], room: int, options: HeadsOptions
) -> list[dict[str, Any]]:
    weights = options.losses
    positives = sum(count for count in groups.values() if count > 1)
    support = sum(count > 0 for count in train.support.values())
    planned = sum(bool(following) for following in train.next_rows)
    limit = int(options.cache.max_gb * 10**9)
    checks: list[tuple[str, float, float, bool, str]] = [
        ("rows", len(train), 1, len(train) >= 1, f"{len(train)} training rows"),
        (
            "style_positives",
            positives,
            2,
            positives >= 2 or not weights.style,
            f"{positives} training rows share their style group with another",
        ),
        (
            "patterns",
            support,
            1,
            support >= 1 or not weights.pattern,
            f"{support} of {len(PATTERNS)} patterns occur in the training rows",
        ),
        (
            "planned",
            planned,
            1,
            planned >= 1 or not weights.planning,
            f"{planned} training rows have a next turn",
        ),
        (
            "cache",
            room,
            limit,
            room <= limit,
            f"the hidden states need {room / 10**9:.3g} GB, heads.cache.max_gb allows "
            f"{options.cache.max_gb:g} (raise it, set heads.cache.dtype to bfloat16, lower "
            "heads.max_length, or set heads.cache.enabled to false)",
        ),
    ]
    return [
        {"name": name, "value": value, "limit": bound, "passed": passed, "words": words}
        for name, value, bound, passed, words in checks
    ]


def enforce(report: HeadsPreflight) -> None:
    """Stops the run if a gate of the preflight report does not pass.

    Raises:
        GateError: One does not.
    """
    failed = [gate["words"] for gate in report.gates if not gate["passed"]]
    if failed:
        raise GateError(
            "; ".join(failed),
            where="preflight of the heads",
            remedy="give more conversations, or set the weight of the part of the loss to 0 that "
            "nothing can be learned for (heads.losses)",
        )


def build_heads_job(
    *,
    base: BaseModelRef,
    adapter: Path | None,
    dataset: Path,
    options: HeadsOptions,
    seed: int,
    max_steps: int | None = None,
    threads: int | None = None,
) -> TrainingJob:
    """Makes the job: checks the inputs and hashes them.

    Args:
        base: The resolved base model; its profile fills what ``options`` leave open.
        adapter: Folder of the phase-1 LoRA that is merged into the base; None: the base as it is.
        dataset: Folder with rows, ``sidecar.jsonl`` and ``reference.json``.
        options: Parameters of the heads.
        seed: Seed of weights and order.
        max_steps: Bound on the optimiser steps.
        threads: CPU threads; all that this process may use (at most 8) if None.

    Raises:
        DataError: A file is missing, or the adapter was made for another base.
        ConfigurationError: The adapter cannot be merged, the base is not on this machine, or it
            reads fewer tokens than ``max_length``.
    """
    demand_here(base)
    _check_context(base, options.max_length)
    start, weights = None, adapter_hash(base, adapter)
    if adapter is not None and weights is not None:
        start = AdapterRef(path=str(adapter.resolve()), weights_sha256=weights)
    files = heads_dataset_ref(dataset)
    settings = {
        **options.trainer.filled(base.profile),
        "max_length": options.max_length,
        **{
            name: getattr(options, name).model_dump(mode="json")
            for name in ("architecture", "losses", "cache")
        },
        "reference": read_reference(dataset).model_dump(mode="json"),
    }
    return TrainingJob(
        method="heads",
        base=base,
        dataset=files,
        start_from=start,
        lora={},
        trainer=settings,
        over_length="truncate",
        early_stopping_patience=options.early_stopping_patience,
        seed=seed,
        limits=Limits(max_steps=max_steps, threads=threads or cpu_threads()),
        versions=installed_versions(LIBRARIES),
    )


def estimate(job: TrainingJob, report: HeadsPreflight) -> dict[str, Any]:
    """Steps, tokens and seconds of a job, good to a factor of about three; nothing is trained.

    The base costs 2 operations per weight and token, once if its states are kept, else in every
    epoch; the heads 6 per product of a weight, most of them once per turn and plan step. Both at a
    third of the rate of bare matrix products of this machine.
    """
    settings = HeadsSettings.of(job)
    epochs, steps = lengths(settings, report.rows, job.limits.max_steps)
    size, inner = hidden_size(job.base), settings.architecture
    steps_of_plan = inner.plan_steps
    per_turn = size * (7 * inner.adapter_width + inner.style_width + inner.pattern_width)
    per_turn += 3 * steps_of_plan * size**2
    per_token = 16 * steps_of_plan * size
    passes = 1 if settings.cache.enabled else math.ceil(epochs)
    assert job.base.parameters is not None  # the base of a job of heads is always here
    base_flops = 2 * job.base.parameters * report.total_tokens * passes
    products = per_turn + per_token * report.tokens["turn"]["p50"]
    heads_flops = 6 * products * report.rows * epochs
    rate = matrix_rate(size, size, threads=job.limits.threads, cpu=settings.use_cpu) / 3
    return {
        "steps": steps,
        "tokens": report.total_tokens,
        "cache_gb": round(report.cache_bytes / 10**9, 3),
        "seconds": round((base_flops + heads_flops) / rate, 1),
    }


def lengths(settings: HeadsSettings, rows: int, bound: int | None) -> tuple[float, int]:
    """Epochs and optimiser steps of a job.

    Args:
        settings: Its settings.
        rows: Training rows.
        bound: Bound on the steps from outside.
    """
    per_epoch = steps_per_epoch(settings, rows)
    bounds = [limit for limit in (settings.max_steps, bound) if limit is not None]
    steps = min([settings.num_train_epochs * per_epoch, *bounds])
    return steps / per_epoch, steps


def steps_per_epoch(settings: HeadsSettings, rows: int) -> int:
    """Optimiser steps of one pass over the training rows."""
    batches = math.ceil(rows / settings.per_device_train_batch_size)
    return max(1, math.ceil(batches / settings.gradient_accumulation_steps))


def _check_context(base: BaseModelRef, max_length: int) -> None:
    config = read_json(Path(base.path) / "config.json")
    most = config.get("text_config", config).get("max_position_embeddings")
    if isinstance(most, int) and max_length > most:
        raise ConfigurationError(
            f"the base reads at most {most} tokens, not {max_length}",
            where="heads.max_length",
            remedy=f"lower it to {most} or less",
        )


def hidden_size(base: BaseModelRef) -> int:
    """Width of a base, from its configuration alone.

    Raises:
        DataError: The configuration states none.
    """
    config = read_json(Path(base.path) / "config.json")
    found = config.get("text_config", config).get("hidden_size", config.get("hidden_size"))
    if not isinstance(found, int):
        raise DataError(
            "the configuration of the base states no hidden size",
            where=f"{base.path}/config.json",
            remedy="use a causal language model of transformers (Llama, Qwen, Gemma, Mistral …)",
        )
    return found


def _group_sizes(rows: HeadRows) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for extra in rows.extras:
        sizes[extra.style_group] = sizes.get(extra.style_group, 0) + 1
    return sizes


def _quantiles(values: list[int]) -> dict[str, int]:
    ordered = sorted(values) or [0]
    return {
        name: ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]
        for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }


def _share(values: list[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
