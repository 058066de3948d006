"""A training job → the flat arguments of ``fine_tuning.create``, checked against the limits.

Every argument of the trainer is translated, is known to change nothing but speed, or is refused: no
setting is left out in silence.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tracetune.backends.together_models import Limits
from tracetune.backends.together_options import TogetherOptions
from tracetune.errors import ConfigurationError
from tracetune.training.job import (
    EARLY_STOPPING_ROWS,
    TRAIN_FILE,
    VALIDATION_FILE,
    TrainingJob,
)

METHODS = ("sft", "dpo")
_NO_LIMIT = sys.maxsize
MACHINE = (
    "bf16",
    "bf16_full_eval",
    "dtype",
    "eval_steps",
    "fp16",
    "fp16_full_eval",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "logging_first_step",
    "logging_steps",
    "logging_strategy",
    "optim",
    "pad_to_multiple_of",
    "padding_free",
    "per_device_eval_batch_size",
    "precompute_ref_batch_size",
    "precompute_ref_log_probs",
    "save_steps",
    "tf32",
    "torch_compile",
    "use_cache",
    "use_cpu",
    "use_liger_kernel",
)
"""Arguments that decide speed, memory and log lines of this machine, which trains nothing here."""
MACHINE_PREFIXES = ("dataloader_", "dataset_num_proc", "torch_compile_")
_TRANSLATED = {
    "learning_rate",
    "num_train_epochs",
    "max_length",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "max_grad_norm",
    "weight_decay",
    "beta",
    "loss_type",
    "packing",
}
_ANYWAY = ("completion_only_loss", "assistant_only_loss", "shuffle_dataset", "disable_dropout")
"""What the service does without being asked: every message has its weight, tools have none."""
_FOR_SPEED = {"train_sampling_strategy": "group_by_length"}
"""Values that only save padding where batches are padded."""
_LORA = {"r", "lora_alpha", "lora_dropout", "target_modules"}
_LORA_SAME: dict[str, Any] = {"bias": "none", "use_rslora": False, "use_dora": False}
_BETA = (0.05, 0.9)
_DEFAULT_GRAD_NORM = 1.0


def check_method(job: TrainingJob) -> None:
    """Refuses a method that Together AI does not train.

    Raises:
        ConfigurationError: It is one.
    """
    if job.method not in METHODS:
        raise _refuse(
            f"Together AI trains sft and dpo, not {job.method}", "run it with backend=local"
        )


def flat_arguments(
    job: TrainingJob, limits: Limits, options: TogetherOptions, rows: Mapping[str, int]
) -> dict[str, Any]:
    """Arguments of ``fine_tuning.create`` without files, model, checkpoint and suffix.

    Args:
        job: The job.
        limits: What the service states of the model.
        options: Packing and evaluations.
        rows: Rows of each compiled file.

    Raises:
        ConfigurationError: Something of the job cannot be done at Together AI.
    """
    check_method(job)
    if limits.lora_training is None:
        raise _refuse("this model cannot be trained by LoRA", "choose another together.model")
    if job.method == "dpo" and not limits.dpo:
        raise _refuse(
            "this model cannot be trained by DPO", "choose another together.model, or run sft"
        )
    if job.limits.max_steps is not None or (job.trainer.get("max_steps") or -1) > 0:
        raise _refuse(
            "a number of steps cannot be set, only epochs", "leave max_steps out", job.method
        )
    # A null says no more than leaving it out.
    given = {name: value for name, value in job.trainer.items() if value is not None}
    job = job.model_copy(update={"trainer": given})
    _refuse_unknown(job)
    return {
        **_training(job, limits),
        **_batch(job, limits),
        **_lora(job, limits),
        **_evaluation(job, limits, options, rows),
        **_method(job),
        "packing": bool(job.trainer.get("packing", options.packing)),
        "n_checkpoints": 1,
        "random_seed": job.seed,
    }


def essence(job: TrainingJob, options: TogetherOptions, rows: Mapping[str, int]) -> dict[str, Any]:
    """What a job asks for, however it is written down and whatever the limits are today.

    Two jobs that send the same request have the same essence: a batch is one number, what is not
    given has its default, and 2 is 2.0.

    Args:
        job: The job.
        options: Packing and evaluations.
        rows: Rows of each compiled file.

    Raises:
        ConfigurationError: Something of the job cannot be done at Together AI, at no model.
    """
    modules = job.lora["target_modules"]
    endless = Limits.model_validate(
        {
            "max_seq_length_sft": _NO_LIMIT,
            "max_seq_length_dpo": _NO_LIMIT,
            "min_max_seq_length": 1,
            "max_num_epochs": _NO_LIMIT,
            "max_num_evals": _NO_LIMIT,
            "min_learning_rate": 0.0,
            "max_learning_rate": float("inf"),
            "supports_full_training": True,
            "lora_training": {
                "max_batch_size": _NO_LIMIT,
                "max_batch_size_dpo": _NO_LIMIT,
                "max_rank": _NO_LIMIT,
                "min_batch_size": 1,
                "target_modules": [] if modules == "all-linear" else modules,
            },
        }
    )
    return flat_arguments(job, endless, options, rows)


def _refuse_unknown(job: TrainingJob) -> None:
    for name, value in job.trainer.items():
        known = name in _TRANSLATED or name in MACHINE or name.startswith(MACHINE_PREFIXES)
        # A switch that is off asks for nothing.
        if known or name == "max_steps" or value is False:
            continue
        if name in _ANYWAY or value == _FOR_SPEED.get(name):
            continue
        raise _refuse(
            f"{name} = {value!r} has no counterpart at Together AI",
            "leave it out, or run with backend=local",
            f"{job.method}.trainer",
        )
    if job.trainer.get("completion_only_loss") is False:
        raise _refuse(
            "the prompt is never trained at Together AI",
            "leave completion_only_loss out",
            f"{job.method}.trainer",
        )
    for name, value in job.lora.items():
        if name not in _LORA and value != _LORA_SAME.get(name):
            raise _refuse(
                f"{name} = {value!r} has no counterpart at Together AI",
                "leave it out, or run with backend=local",
                f"{job.method}.lora",
            )


def _training(job: TrainingJob, limits: Limits) -> dict[str, Any]:
    trainer, where = job.trainer, f"{job.method}.trainer"
    for name in ("num_train_epochs", "learning_rate", "max_length"):
        if name not in trainer:
            raise _refuse(f"{name} is not given", "set it", where)
    epochs = trainer["num_train_epochs"]
    if epochs != int(epochs) or not 1 <= epochs <= limits.max_num_epochs:
        raise _refuse(
            f"num_train_epochs = {epochs} is not a whole number from 1 to {limits.max_num_epochs}",
            "set it to one",
            where,
        )
    rate = trainer["learning_rate"]
    if not limits.min_learning_rate <= rate <= limits.max_learning_rate:
        raise _refuse(
            f"learning_rate = {rate} is not between {limits.min_learning_rate} and "
            f"{limits.max_learning_rate}",
            "choose one between them",
            where,
        )
    length, longest = trainer["max_length"], limits.longest(job.method)
    if not limits.min_max_seq_length <= length <= longest:
        raise _refuse(
            f"max_length = {length} is not between {limits.min_max_seq_length} and {longest}",
            "choose one between them",
            where,
        )
    return {
        "n_epochs": int(epochs),
        "learning_rate": float(rate),
        "max_seq_length": int(length),
        "lr_scheduler_type": _scheduler(trainer, where),
        "warmup_ratio": _warmup(trainer, where),
        "max_grad_norm": float(trainer.get("max_grad_norm", _DEFAULT_GRAD_NORM)),
        "weight_decay": float(trainer.get("weight_decay", 0.0)),
    }


def _scheduler(trainer: Mapping[str, Any], where: str) -> str:
    kind = trainer.get("lr_scheduler_type", "linear")
    if kind not in ("cosine", "linear"):
        raise _refuse(f"lr_scheduler_type = {kind!r}", "choose cosine or linear", where)
    return str(kind)


def _warmup(trainer: Mapping[str, Any], where: str) -> float:
    steps = trainer.get("warmup_steps", 0)
    if not 0 <= steps < 1:
        raise _refuse(
            f"warmup_steps = {steps}: only a share of the steps can be set",
            "give a number below 1, such as 0.1",
            where,
        )
    return float(steps)


def _batch(job: TrainingJob, limits: Limits) -> dict[str, Any]:
    """The batch of the job, if need be as several smaller ones whose gradients are summed."""
    lora = limits.lora_training
    assert lora is not None
    least = lora.min_batch_size
    most = lora.max_batch_size_dpo if job.method == "dpo" else lora.max_batch_size
    wanted = int(
        job.trainer.get("per_device_train_batch_size", 8)
        * job.trainer.get("gradient_accumulation_steps", 1)
    )
    for size in range(min(wanted, most), least - 1, -1):
        if wanted % size == 0:
            steps = wanted // size
            return {"batch_size": size, "gradient_accumulation_steps": steps}
    raise _refuse(
        f"a batch of {wanted} rows (per_device_train_batch_size x gradient_accumulation_steps) "
        f"cannot be made of batches of {least} to {most}",
        f"choose a multiple of {least}",
        f"{job.method}.trainer",
    )


def _lora(job: TrainingJob, limits: Limits) -> dict[str, Any]:
    lora = limits.lora_training
    assert lora is not None
    where, rank = f"{job.method}.lora", int(job.lora["r"])
    if rank > lora.max_rank:
        raise _refuse(f"r = {rank} is larger than {lora.max_rank}", "choose a smaller one", where)
    alpha = job.lora["lora_alpha"]
    if alpha != int(alpha):
        raise _refuse(f"lora_alpha = {alpha} is not a whole number", "choose one", where)
    modules = job.lora["target_modules"]
    if modules != "all-linear":
        unknown = sorted(set(modules) - set(lora.target_modules))
        if unknown:
            raise _refuse(
                f"target_modules {unknown} cannot be trained on this model",
                f"choose among {', '.join(lora.target_modules)}",
                where,
            )
        modules = ",".join(sorted(modules))
    return {
        "lora": True,
        "lora_r": rank,
        "lora_alpha": int(alpha),
        "lora_dropout": float(job.lora.get("lora_dropout", 0.0)),
        "lora_trainable_modules": modules,
    }


def _evaluation(
    job: TrainingJob, limits: Limits, options: TogetherOptions, rows: Mapping[str, int]
) -> dict[str, Any]:
    """Evaluations only where there are rows for them; early stopping as it is done locally."""
    validation = rows.get(VALIDATION_FILE, 0)
    evaluations = min(options.evaluations, limits.max_num_evals) if validation else 0
    early = evaluations > 0 and rows[TRAIN_FILE] + validation > EARLY_STOPPING_ROWS
    needed = job.early_stopping_patience + 1
    if not early or evaluations < needed:
        return {"n_evals": evaluations}
    return {
        "n_evals": evaluations,
        "early_stopping_enabled": True,
        "early_stopping_patience": job.early_stopping_patience,
        "early_stopping_warmup_evals": 0,
    }


def _method(job: TrainingJob) -> dict[str, Any]:
    if job.method == "sft":
        return {"training_method": "sft", "train_on_inputs": False}
    beta, loss = job.trainer.get("beta", 0.1), job.trainer.get("loss_type", ["sigmoid"])
    if loss not in ("sigmoid", ["sigmoid"]):
        raise _refuse(f"loss_type = {loss!r}", "choose [sigmoid]", "dpo.trainer")
    if not _BETA[0] <= beta <= _BETA[1]:
        raise _refuse(
            f"beta = {beta} is not between {_BETA[0]} and {_BETA[1]}", "choose one", "dpo"
        )
    return {"training_method": "dpo", "dpo_beta": float(beta)}


def _refuse(what: str, remedy: str, where: str = "backend=together") -> ConfigurationError:
    return ConfigurationError(what, where=where, remedy=remedy)
