"""Kahneman-Tversky optimisation with TRL and LoRA: learn from answers that were good or bad.

Ethayarajh et al. 2024, equation 7: each answer is pushed above or below the reference by itself, so
no pair is needed. The reference is the base with the adapter off (or the frozen copy of the adapter
that training goes on from). At step 0 policy and reference are the same: every log-ratio and the KL
term are 0, and the loss is half the weight of the rows.
"""

from __future__ import annotations

from typing import Any

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

    return trainers.build(KTOTrainer, KTOConfig, job, place, rows, tokenizer)


def invariants(trainer: Any) -> dict[str, Any]:
    """Checks on a probe batch that training starts from its own reference.

    Returns:
        What was measured, for the manifest.

    Raises:
        GateError: A reward is not 0, or the loss is not half the mean weight of the rows.
    """
    features, loss, measured = trainers.probe(trainer, PROBE_ROWS)
    count = len(features)
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
    trainers.refuse_start(wrong, "kto")
    return {"rows": count, "loss": loss, "expected_loss": expected, "rewards": rewards}
