"""Supervised fine-tuning with TRL and LoRA: learn the approved answers."""

from __future__ import annotations

from typing import Any

from tracetune.training import trainers
from tracetune.training.checkpoints import Place
from tracetune.training.job import TrainingJob
from tracetune.training.trainers import Rows


def make_trainer(job: TrainingJob, place: Place, rows: Rows, tokenizer: Any) -> Any:
    """The SFT trainer of a job, ready to train.

    Rows go in as conversations with prompt and completion, so TRL trains the completion alone.
    """
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    model = trainers.load_policy(job)
    return SFTTrainer(
        model=model,
        args=SFTConfig(**trainers.config_values(job, place, rows)),
        train_dataset=trainers.as_dataset(rows.train),
        eval_dataset=trainers.as_dataset(rows.validation) if rows.validation else None,
        processing_class=tokenizer,
        peft_config=None if job.start_from else trainers.lora_config(job),
    )


def invariants(trainer: Any) -> dict[str, Any]:
    """SFT has no value that must hold before the first step."""
    return {}
