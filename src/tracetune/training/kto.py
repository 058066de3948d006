"""Kahneman-Tversky optimisation with TRL and LoRA: learn from answers that were good or bad.

Ethayarajh et al. 2024, equation 7: each answer is pushed above or below the reference by itself, so
no pair is needed. The reference is the base with the adapter off (or the frozen copy of the adapter
that training goes on from). At step 0 policy and reference are the same: every log-ratio and the KL
term are 0, and the loss is half the weight of the rows.
"""

from __future__ import annotations

from typing import Any

from tracetune.errors import GateError
from tracetune.training import trainers
from tracetune.training.checkpoints import Place
from tracetune.training.job import TrainingJob
from tracetune.training.trainers import Rows

TOLERANCE = 1e-4
PROBE_ROWS = 8


def balanced_weights(good: int, bad: int) -> dict[str, float]:
    """Weights that give good and bad answers the same sum (equation 8 of the paper, ratio 1).

    Args:
        good: Number of good training rows.
        bad: Number of bad ones.
    """
    more = max(good, bad)
    return {
        "desirable_weight": round(more / max(1, good), 4),
        "undesirable_weight": round(more / max(1, bad), 4),
    }


def make_trainer(job: TrainingJob, place: Place, rows: Rows, tokenizer: Any) -> Any:
    """The KTO trainer of a job, ready to train."""
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    model = trainers.load_policy(job)
    return KTOTrainer(
        model=model,
        args=KTOConfig(**trainers.config_values(job, place, rows)),
        train_dataset=trainers.as_dataset(rows.train),
        eval_dataset=trainers.as_dataset(rows.validation) if rows.validation else None,
        processing_class=tokenizer,
        peft_config=None if job.start_from else trainers.lora_config(job),
    )


def invariants(trainer: Any) -> dict[str, Any]:
    """Checks on a probe batch that training starts from its own reference.

    Returns:
        What was measured, for the manifest.

    Raises:
        GateError: A reward is not 0, or the loss is not half the mean weight of the rows.
    """
    import torch

    count = min(PROBE_ROWS, len(trainer.train_dataset))
    features = [trainer.train_dataset[index] for index in range(count)]
    batch = trainer._prepare_inputs(trainer.data_collator(features))
    training = trainer.model.training
    trainer.model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        loss = float(trainer.compute_loss(trainer.model, batch))
    trainer.model.train(training)
    measured = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    trainer._metrics["eval"].clear()
    good = sum(bool(feature["label"]) for feature in features)
    weights = good * trainer.args.desirable_weight
    weights += (count - good) * trainer.args.undesirable_weight
    expected = 0.5 * weights / count
    rewards = {
        name: measured[f"rewards/{name}"]
        for name in ("chosen", "rejected")
        if f"rewards/{name}" in measured
    }
    wrong = [f"rewards/{n} = {v:.6f}, not 0" for n, v in rewards.items() if abs(v) > TOLERANCE]
    if abs(loss - expected) > TOLERANCE * max(1.0, expected):
        wrong.append(f"the loss is {loss:.6f}, not {expected:.6f}")
    if wrong:
        raise GateError(
            f"before the first step {'; '.join(wrong)}: the reference is not the model that "
            "training starts from",
            where="kto, step 0",
            remedy="remove precomputed reference values and the work folder, and start again",
        )
    return {"rows": count, "loss": loss, "expected_loss": expected, "rewards": rewards}
