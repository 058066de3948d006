"""A training job as a JSON document: everything that decides what comes out, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import ConfigurationError, DataError
from tracetune.files import atomic_folder, canonical_json, read_json, sha256_file, sha256_json
from tracetune.records import Example, Preference, Rating, Triplet
from tracetune.records.heads import TrajectoryRow
from tracetune.runs import installed_versions
from tracetune.training.base import UNKNOWN, BaseModelRef
from tracetune.training.options import (
    BaseModelOptions,
    DpoOptions,
    EmbeddedRecipe,
    KtoOptions,
    Method,
    OverLength,
    PreflightOptions,
    SftOptions,
    StageOptions,
)

__all__ = [
    "AdapterRef",
    "BaseModelOptions",
    "DatasetRef",
    "DpoOptions",
    "EmbeddedRecipe",
    "KtoOptions",
    "Limits",
    "PreflightOptions",
    "SftOptions",
    "StageOptions",
    "TrainingJob",
    "build_job",
    "job_document",
    "job_hash",
    "read_rows",
    "write_dataset",
]

TRAIN_FILE = "train.jsonl"
VALIDATION_FILE = "validation.jsonl"
EARLY_STOPPING_ROWS = 100
TrainingRow = Example | Preference | Rating | Triplet | TrajectoryRow
RECORDS: dict[Method, type[TrainingRow]] = {
    "sft": Example,
    "dpo": Preference,
    "kto": Rating,
    "embedding": Triplet,
    "heads": TrajectoryRow,
}
"""What each method is trained on."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetRef(_Document):
    """A folder with ``train.jsonl`` and perhaps ``validation.jsonl``.

    Attributes:
        path: The folder. Machine-dependent, never part of the job's hash.
        files: SHA-256 of each file by its name; of heads also the files beside the rows.
        rows: Number of rows by the name of the file.
    """

    path: str
    files: dict[str, str]
    rows: dict[str, int]


class AdapterRef(_Document):
    """An adapter to go on from.

    Attributes:
        path: Its folder. Machine-dependent, never part of the job's hash.
        weights_sha256: SHA-256 of its ``adapter_model.safetensors``.
    """

    path: str
    weights_sha256: str


class Limits(_Document):
    """Bounds of a job.

    Attributes:
        max_steps: Largest number of optimiser steps; null for what the epochs give.
        threads: CPU threads. Another number gives another rounding, hence other weights.
    """

    max_steps: int | None = Field(default=None, ge=1)
    threads: int = Field(ge=1)


class TrainingJob(_Document):
    """What is trained, from what, on what, and how.

    Attributes:
        format: Version of this document.
        method: ``sft``, ``dpo``, ``kto``, ``embedding`` or ``heads``.
        base: The base model.
        dataset: The rows.
        start_from: Adapter that training goes on from; for DPO it also is the reference. Null: a
            new adapter (for DPO the base with its adapter off is the reference). For heads: the
            phase-1 adapter that is merged into the frozen base.
        lora: LoRA settings under PEFT's names.
        trainer: Arguments under TRL's names, those that differ from TRL's defaults.
        over_length: What happens to rows longer than ``trainer.max_length``.
        early_stopping_patience: Evaluations without improvement before training stops.
        seed: Seed of weights, order and dropout.
        limits: Bounds.
        versions: Versions of the libraries the job was made for.
    """

    format: Literal[1] = 1
    method: Method
    base: BaseModelRef
    dataset: DatasetRef
    start_from: AdapterRef | None
    lora: dict[str, Any]
    trainer: dict[str, Any]
    over_length: OverLength
    early_stopping_patience: int
    seed: int
    limits: Limits
    versions: dict[str, str]


def job_hash(job: TrainingJob) -> str:
    """SHA-256 over what decides the result; places on this machine are left out."""
    return sha256_json(job_document(job))


def job_document(job: TrainingJob) -> dict[str, Any]:
    """What decides the result of a job, as JSON values, without places on this machine."""
    document = job.model_dump(mode="json")
    document["base"] = job.base.identity()
    del document["dataset"]["path"]
    if document["start_from"]:
        del document["start_from"]["path"]
    return document


def build_job(
    method: Method,
    *,
    base: BaseModelRef,
    dataset: Path,
    stage: StageOptions,
    seed: int,
    start_from: Path | None = None,
    max_steps: int | None = None,
    threads: int | None = None,
) -> TrainingJob:
    """Makes the job of one stage: checks the arguments, hashes the inputs.

    Args:
        method: ``sft``, ``dpo`` or ``kto``.
        base: The resolved base model; its profile fills what ``stage`` leaves open.
        dataset: Folder with ``train.jsonl`` and perhaps ``validation.jsonl``.
        stage: Parameters of the stage.
        seed: Seed of the run.
        start_from: Folder of the adapter to go on from.
        max_steps: Bound on the optimiser steps.
        threads: CPU threads; all that this process may use (at most 8) if None.

    Raises:
        ConfigurationError: An argument is unknown, of a wrong type, or contradicts ``start_from``.
        DataError: A file is missing.
    """
    from tracetune.training import arguments, profiles

    trainer, lora = arguments.stage_arguments(method, stage, base.profile)
    adapter = None
    if start_from is not None:
        lora = _inherited_lora(start_from, arguments.lora_given(stage.lora), base)
        weights = start_from / "adapter_model.safetensors"
        adapter = AdapterRef(path=str(start_from.resolve()), weights_sha256=sha256_file(weights))
    rows = dataset_ref(dataset)
    if stage.trainer.get("num_train_epochs") is None:
        profile, count = profiles.choose("", base.profile), rows.rows[TRAIN_FILE]
        least = stage.min_steps if isinstance(stage, SftOptions) else None
        trainer["num_train_epochs"] = profiles.epochs(profile, method, count, trainer, least)
    return TrainingJob(
        method=method,
        base=base,
        dataset=rows,
        start_from=adapter,
        lora=lora,
        trainer=trainer,
        over_length=stage.over_length,
        early_stopping_patience=stage.early_stopping_patience,
        seed=seed,
        limits=Limits(max_steps=max_steps, threads=threads or cpu_threads()),
        versions=installed_versions(LIBRARIES),
    )


def dataset_ref(folder: Path) -> DatasetRef:
    """Hashes and counts the rows in ``folder``.

    Raises:
        DataError: ``train.jsonl`` is missing.
    """
    if not (folder / TRAIN_FILE).is_file():
        raise DataError(
            f"there is no {TRAIN_FILE}", where=str(folder), remedy="run the stages before training"
        )
    files, rows = {}, {}
    for name in (TRAIN_FILE, VALIDATION_FILE):
        path = folder / name
        if path.is_file():
            files[name] = sha256_file(path)
            with path.open("rb") as handle:
                rows[name] = sum(1 for line in handle if line.strip())
    return DatasetRef(path=str(folder.resolve()), files=files, rows=rows)


def write_dataset(
    folder: Path, train: Sequence[TrainingRow], validation: Sequence[TrainingRow]
) -> Path:
    """Writes the rows of a stage as the job reads them; an older content is replaced as a whole."""
    with atomic_folder(folder) as temporary:
        for name, rows in ((TRAIN_FILE, train), (VALIDATION_FILE, validation)):
            if rows or name == TRAIN_FILE:
                text = "".join(canonical_json(row.model_dump(mode="json")) + "\n" for row in rows)
                (temporary / name).write_text(text, encoding="utf-8")
    return folder


def read_rows(job: TrainingJob, name: str) -> list[Any]:
    """The rows of one file of the job's dataset, checked against the hash in the job.

    Raises:
        DataError: The file has changed since the job was made, or a line is not a row.
    """
    if name not in job.dataset.files:
        return []
    path = Path(job.dataset.path) / name
    if not path.is_file() or sha256_file(path) != job.dataset.files[name]:
        raise DataError(
            "the rows are missing or have changed since the job was made",
            where=str(path),
            remedy="make a new job from the rows as they are now",
        )
    record = RECORDS[job.method]
    rows: list[Any] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    rows.append(record.model_validate_json(line))
                except ValueError as error:
                    raise DataError(
                        f"not a row for {job.method}: {error}",
                        where=f"{path}, line {number}",
                        remedy="correct the line, or run the stage that wrote it again",
                    ) from error
    return rows


def _inherited_lora(adapter: Path, given: Mapping[str, Any], base: BaseModelRef) -> dict[str, Any]:
    """LoRA settings of the adapter to go on from; what was given must agree with them."""
    if not (adapter / "adapter_config.json").is_file():
        raise DataError(
            "there is no adapter to go on from",
            where=str(adapter),
            remedy="train the SFT stage first, or set dpo.start_from to base",
        )
    manifest = adapter / "manifest.json"
    if manifest.is_file():
        made_on = read_json(manifest)["base"]
        # Of hosted models only the name can be compared.
        part = "id" if base.weights_sha256 == UNKNOWN else "weights_sha256"
        mine = {"id": base.id, "weights_sha256": base.weights_sha256}
        if made_on["weights_sha256"] != mine["weights_sha256"] or made_on[part] != mine[part]:
            raise DataError(
                "the adapter to go on from was made for another base model",
                where=str(adapter),
                remedy="train the SFT stage again with this base model",
            )
    config = read_json(adapter / "adapter_config.json")
    lora = {name: config[name] for name in ("r", "lora_alpha", "lora_dropout", "target_modules")}
    lora["target_modules"] = sorted(lora["target_modules"])
    for name, value in given.items():
        has = config.get(name)
        same = sorted(has) == sorted(value) if isinstance(value, list) else has == value
        if not same:
            raise ConfigurationError(
                f"{name} = {value!r}, but the adapter of the SFT stage has {has!r}; training goes "
                "on with one and the same adapter",
                where="dpo.lora",
                remedy="leave it out (null), set the same in sft.lora, or set dpo.start_from: base",
            )
    return lora


def cpu_threads() -> int:
    """CPU threads that this process may use, at most 8."""
    try:
        return min(8, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS and Windows
        return min(8, os.cpu_count() or 1)
