"""What the trainers share: configuration, LoRA, intervals, checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.errors import ConfigurationError, GateError
from tracetune.records import Example, Preference, Rating
from tracetune.training import base as base_model
from tracetune.training.checkpoints import Place
from tracetune.training.job import (
    EARLY_STOPPING_ROWS,
    TRAIN_FILE,
    VALIDATION_FILE,
    TrainingJob,
    read_rows,
)
from tracetune.training.preflight import RenderedRow, drop_reason, render_rows


@dataclass(frozen=True)
class Rows:
    """The rows that are trained on, with how they are rendered.

    Attributes:
        train: Training rows.
        validation: Validation rows; may be empty.
        dropped: Ids of the rows left out, with the reason.
    """

    train: list[RenderedRow]
    validation: list[RenderedRow]
    dropped: dict[str, str]

    @property
    def early_stopping(self) -> bool:
        """Whether there are validation rows, and more than 100 rows in all (document 003)."""
        both = len(self.train) + len(self.validation)
        return bool(self.validation) and both > EARLY_STOPPING_ROWS


def load_rows(job: TrainingJob, tokenizer: Any) -> Rows:
    """Reads and renders the job's rows and applies its rule for over-long ones.

    Raises:
        DataError: A file has changed or holds something else.
        GateError: A row is too long, or none is left.
    """
    from tracetune.training.arguments import mask_switches
    from tracetune.training.rendering import MaskRule, Renderer

    renderer = Renderer(tokenizer, MaskRule(*mask_switches(job.method, job.trainer)))
    limit = job.trainer.get("max_length")
    dropped: dict[str, str] = {}
    parts: list[list[RenderedRow]] = []
    for name in (TRAIN_FILE, VALIDATION_FILE):
        kept = []
        for row in render_rows(renderer, read_rows(job, name)):
            if limit and row.length > limit and job.over_length == "raise":
                raise GateError(
                    f"row {row.row.id} has {row.length} tokens, more than max_length = {limit}",
                    where=f"{job.dataset.path}, {name}",
                    remedy="raise trainer.max_length, or set over_length to drop or truncate",
                )
            reason = drop_reason(row, limit, job.over_length)
            if reason:
                dropped[row.row.id] = reason
            else:
                kept.append(row)
        parts.append(kept)
    if not parts[0]:
        raise GateError(
            "no training row is left", where=job.dataset.path, remedy="see the preflight report"
        )
    return Rows(parts[0], parts[1], dropped)


def as_dataset(rows: Sequence[RenderedRow]) -> Any:
    """The rows as a data set of conversations, which TRL renders itself."""
    from datasets import Dataset
    from tracetune.training.rendering import as_dicts

    def plain(row: Example | Preference | Rating) -> dict[str, Any]:
        if not isinstance(row, Preference):
            label = {"label": row.good} if isinstance(row, Rating) else {}
            prompt, completion = as_dicts(row.prompt), as_dicts(row.completion)
            return {"prompt": prompt, "completion": completion, **label}
        parts = (as_dicts(part) for part in row.parted())
        return dict(zip(("prompt", "chosen", "rejected"), parts, strict=True))

    return Dataset.from_list([plain(row.row) for row in rows])


def config_values(job: TrainingJob, place: Place, rows: Rows) -> dict[str, Any]:
    """All arguments of the trainer's configuration: the project's, then the job's."""
    import torch

    cuda = torch.cuda.is_available() and not job.trainer.get("use_cpu")
    values: dict[str, Any] = {
        "output_dir": str(place.folder),
        "seed": job.seed,
        "data_seed": job.seed,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "steps",
        "logging_strategy": "steps",
        "eval_strategy": "steps" if rows.validation else "no",
        "restore_callback_states_from_checkpoint": True,
        # transformers turns both on by default; a CPU gains nothing from them
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": cuda,
    }
    if rows.early_stopping:
        values |= {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    values |= job.trainer
    if job.limits.max_steps is not None:
        given = job.trainer.get("max_steps", -1)
        bound = job.limits.max_steps
        values["max_steps"] = bound if given <= 0 else min(given, bound)
    return values


def build(
    trainer: Any, config: Any, job: TrainingJob, place: Place, rows: Rows, tokenizer: Any
) -> Any:
    """A trainer of TRL for a job, ready to train.

    Args:
        trainer: Its class.
        config: The class of its configuration.
        job: The job.
        place: Its work folder.
        rows: Its rows.
        tokenizer: Tokenizer of the base.
    """
    return trainer(
        model=load_policy(job),
        args=config(**config_values(job, place, rows)),
        train_dataset=as_dataset(rows.train),
        eval_dataset=as_dataset(rows.validation) if rows.validation else None,
        processing_class=tokenizer,
        peft_config=None if job.start_from else lora_config(job),
    )


def probe(trainer: Any, count: int) -> tuple[list[dict[str, Any]], float, dict[str, float]]:
    """The first training rows, their loss before any step, and what was measured."""
    import torch

    features = [trainer.train_dataset[i] for i in range(min(count, len(trainer.train_dataset)))]
    batch = trainer._prepare_inputs(trainer.data_collator(features))
    training = trainer.model.training
    trainer.model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        loss = float(trainer.compute_loss(trainer.model, batch))
    trainer.model.train(training)
    measured = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    trainer._metrics["eval"].clear()
    return features, loss, measured


def refuse_start(wrong: list[str], method: str) -> None:
    """Stops a preference training that does not start from its own reference.

    Raises:
        GateError: There is anything in ``wrong``.
    """
    if wrong:
        raise GateError(
            f"before the first step {'; '.join(wrong)}: the reference is not the model that "
            "training starts from",
            where=f"{method}, step 0",
            remedy="remove precomputed reference values and the work folder, and start again",
        )


def set_intervals(trainer: Any, job: TrainingJob) -> tuple[int, int]:
    """Sets when to evaluate, save and log; steps in all, and the interval.

    ``max(1, steps // 10)`` unless the job says otherwise, from the steps that will really be made:
    an interval longer than the run would never evaluate, and early stopping could never fire.
    """
    arguments = trainer.args
    batches = len(trainer.get_train_dataloader())
    per_epoch = max(1, -(-batches // arguments.gradient_accumulation_steps))
    steps = arguments.max_steps
    if steps <= 0:
        steps = -(-int(arguments.num_train_epochs * per_epoch * 1000) // 1000)
    given = job.trainer.get("eval_steps")
    interval = max(1, steps // 10) if not given else _steps(given, steps)
    arguments.eval_steps = arguments.save_steps = interval
    logging = job.trainer.get("logging_steps")
    arguments.logging_steps = _steps(logging, steps) if logging else interval
    return steps, interval


def _steps(value: float, steps: int) -> int:
    return max(1, int(value * steps)) if value < 1 else int(value)


def lora_config(job: TrainingJob) -> Any:
    """PEFT's configuration of a new adapter."""
    from peft import LoraConfig

    try:
        return LoraConfig(task_type="CAUSAL_LM", **job.lora)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"PEFT does not take these settings: {error}", where="lora", remedy="correct them"
        ) from error


def check_targets(model: Any, targets: str | Iterable[str]) -> None:
    """Every LoRA target must exist; nothing is left out or trained otherwise in silence.

    Raises:
        ConfigurationError: A target fits no linear module of this architecture.
    """
    import torch

    linear = [n for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    exist = sorted({name.rsplit(".", 1)[-1] for name in linear})
    if targets == "all-linear":
        return
    if isinstance(targets, str):
        missing = [] if any(re.fullmatch(targets, name) for name in linear) else [targets]
        wanted = [targets]
    else:
        wanted = sorted(targets)
        missing = [t for t in wanted if not any(n == t or n.endswith(f".{t}") for n in linear)]
    if "lm_head" in wanted:
        raise ConfigurationError(
            "LoRA on 'lm_head' would never be trained: the loss multiplies by its weight directly",
            where="lora.target_modules",
            remedy="take it out",
        )
    if missing:
        raise ConfigurationError(
            f"the base model has no module {', '.join(map(repr, missing))} for LoRA (targets: "
            f"{', '.join(wanted)}); its linear modules are: {', '.join(exist)}",
            where="lora.target_modules",
            remedy="name modules that exist, or 'all-linear'",
        )


def load_policy(job: TrainingJob) -> Any:
    """The model to train: the base alone, or with the adapter that training goes on from."""
    dtype = "bfloat16" if job.trainer.get("bf16") else "float32"
    adapter = Path(job.start_from.path) if job.start_from else None
    model = base_model.load_model(job.base, adapter, dtype=dtype, trainable=True)
    if adapter is None:
        check_targets(model, job.lora["target_modules"])
    return model


def check_same_rows(trainer: Any, rows: Rows, job: TrainingJob) -> None:
    """What the trainer prepared must be what the preflight report was about.

    Raises:
        GateError: Number of rows or of trained tokens differ.
    """
    if job.trainer.get("packing"):
        return  # packed sequences are no rows
    limit = job.trainer.get("max_length")
    cut = [[s.truncated(limit) for s in row.sequences] for row in rows.train]
    expected = (len(cut), sum(sum(s.mask) for row in cut for s in row))
    data = trainer.train_dataset
    if job.method == "sft":
        trained = sum(label != -100 for labels in data["labels"] for label in labels)
    else:
        room = limit or 10**9
        sides = ("completion_ids",) if job.method == "kto" else ("chosen_ids", "rejected_ids")
        trained = sum(
            min(len(side), room - len(prompt))
            for name in sides
            for prompt, side in zip(data["prompt_ids"], data[name], strict=True)
        )
    if (len(data), trained) != expected:
        raise GateError(
            f"the trainer prepared {len(data)} rows with {trained} trained tokens, the preflight "
            f"counted {expected[0]} and {expected[1]}",
            where=f"{job.method} training",
            remedy="report this as a fault of tracetune, with the chat template of the model",
        )
