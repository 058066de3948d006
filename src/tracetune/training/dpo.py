"""Direct preference optimisation with TRL and LoRA: prefer the better answer.

Rafailov et al. 2023: the loss is ``-log sigmoid(beta * margin)`` with ``margin`` the difference of
the log-ratios policy/reference of the chosen and the rejected answer. The reference is never a
second model: on top of an SFT adapter TRL keeps a frozen copy of that adapter, and without one it
switches the adapter off. At step 0 policy and reference are the same, so every log-ratio is 0 and
most losses have a known value; a reference that is not the starting point shows there.
"""

from __future__ import annotations

import math
from typing import Any

from tracetune.training import trainers
from tracetune.training.checkpoints import Place
from tracetune.training.job import TrainingJob
from tracetune.training.trainers import Rows

TOLERANCE = 1e-4
PROBE_PAIRS = 8


def make_trainer(job: TrainingJob, place: Place, rows: Rows, tokenizer: Any) -> Any:
    """The DPO trainer of a job, ready to train."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    return trainers.build(DPOTrainer, DPOConfig, job, place, rows, tokenizer)


def initial_loss(arguments: Any) -> float | None:
    """The loss when policy and reference agree; None where it depends on the policy.

    Args:
        arguments: A ``DPOConfig``.

    Returns:
        The weighted sum over the losses in use. Unknown for ``sft`` (a plain likelihood) and with
        ``use_weighting`` (weights by the policy's own likelihood).
    """
    beta, smoothing = arguments.beta, arguments.label_smoothing
    log2 = math.log(2)
    known = {
        "sigmoid": log2,
        "hinge": 1.0,
        "ipo": (1 / (2 * beta)) ** 2,
        "nca_pair": 2 * log2,
        "robust": log2,
        "bco_pair": 2 * log2,
        "sppo_hard": 2 * (0.5 / beta) ** 2,
        "aot": log2,
        "aot_unpaired": log2,
        "apo_zero": 1.0,
        "apo_down": 1.0,
        "discopop": 0.5 * log2 + 0.5,
        "sigmoid_norm": log2,
    }
    if 0 < smoothing < 1:
        known["exo_pair"] = -log2 - 0.5 * math.log1p(-smoothing) - 0.5 * math.log(smoothing)
    weights = arguments.loss_weights or [1.0] * len(arguments.loss_type)
    if arguments.use_weighting or any(name not in known for name in arguments.loss_type):
        return None
    return float(sum(w * known[n] for n, w in zip(arguments.loss_type, weights, strict=True)))


def invariants(trainer: Any) -> dict[str, Any]:
    """Checks on a probe batch that training starts from its own reference.

    The rewards of both answers must be 0 (hence the margin), and the loss the known one; for the
    sigmoid loss ln 2. This finds a wrong reference adapter and stale precomputed values.

    Returns:
        What was measured, for the manifest.

    Raises:
        GateError: The margin or the loss is off by more than 1e-4 (relative above 1).
    """
    features, loss, measured = trainers.probe(trainer, PROBE_PAIRS)
    rewards = {name: measured[f"rewards/{name}"] for name in ("chosen", "rejected", "margins")}
    expected = initial_loss(trainer.args)
    wrong = [f"rewards/{n} = {v:.6f}, not 0" for n, v in rewards.items() if abs(v) > TOLERANCE]
    if expected is not None and abs(loss - expected) > TOLERANCE * max(1.0, expected):
        wrong.append(f"the loss is {loss:.6f}, not {expected:.6f}")
    trainers.refuse_start(wrong, "dpo")
    return {"pairs": len(features), "loss": loss, "expected_loss": expected, "rewards": rewards}
