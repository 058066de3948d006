"""Parameters of the heads and of their training, as they stand in ``parameters_heads.yml``.

Imports nothing heavy: pipeline nodes annotate with these models.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tracetune.options import Options
from tracetune.records.heads import NEXT_TURNS

StateType = Literal["float32", "bfloat16"]
"""How hidden states are kept: as computed on a CPU, or in half the room."""


class ArchitectureOptions(Options):
    """Sizes of the trained parts; part of what is saved with the weights.

    Attributes:
        style_size: Length of the style signature.
        style_width: Inner width of the style head.
        pattern_width: Inner width of the pattern head.
        plan_steps: Next turns that are planned.
        adapter_width: Inner width of the trajectory adapter.
        gate_bias: Bias of the last layer of the gate at the start; -2 opens it by 0.12.
    """

    style_size: int = Field(default=256, ge=2)
    style_width: int = Field(default=512, ge=1)
    pattern_width: int = Field(default=256, ge=1)
    plan_steps: int = Field(default=NEXT_TURNS, ge=1, le=NEXT_TURNS)
    adapter_width: int = Field(default=256, ge=1)
    gate_bias: float = -2.0


class LossOptions(Options):
    """Weights of the parts of the loss.

    Attributes:
        pattern: Of the binary cross-entropy of the patterns.
        style: Of the supervised contrastive loss of the signatures.
        planning: Of the cosine distance between plan and next turns.
        stop: Of the binary cross-entropy of the end of the conversation.
        gate: Of the mean of the gate.
        temperature: Of the contrastive loss.
    """

    pattern: float = Field(default=1.0, ge=0)
    style: float = Field(default=0.5, ge=0)
    planning: float = Field(default=0.5, ge=0)
    stop: float = Field(default=0.1, ge=0)
    gate: float = Field(default=0.01, ge=0)
    temperature: float = Field(default=0.07, gt=0)


class HeadsTrainerOptions(Options):
    """Arguments of the training under the names that transformers gives them.

    ``null`` means "as recommended for the base" (:data:`RECOMMENDED`).

    Attributes:
        num_train_epochs: Passes over the training rows.
        per_device_train_batch_size: Rows per micro-batch; the contrastive loss compares them.
        per_device_eval_batch_size: Rows per batch of the evaluation.
        gradient_accumulation_steps: Micro-batches per optimiser step.
        learning_rate: Peak rate of AdamW.
        weight_decay: Decay of matrices; biases and norms have none.
        warmup_steps: Steps of warm-up, or their share if below 1; then the rate falls as a cosine.
        max_grad_norm: Largest norm of the gradient.
        max_steps: Bound on the optimiser steps.
        eval_steps: Steps between evaluations and checkpoints, or their share; ``null``: a tenth.
        logging_steps: Steps between log lines, or their share; ``null``: as ``eval_steps``.
        bf16: Mixed precision; ``null``: on a GPU that has it.
        use_cpu: Leave a GPU alone.
    """

    num_train_epochs: int | None = Field(default=None, ge=1)
    per_device_train_batch_size: int | None = Field(default=None, ge=1)
    per_device_eval_batch_size: int | None = Field(default=None, ge=1)
    gradient_accumulation_steps: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    warmup_steps: float | None = Field(default=None, ge=0)
    max_grad_norm: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    eval_steps: float | None = Field(default=None, gt=0)
    logging_steps: float | None = Field(default=None, gt=0)
    bf16: bool | None = None
    use_cpu: bool = False

    def filled(self, profile: str) -> dict[str, Any]:
        """The arguments as a job holds them, what was left open as recommended for the base.

        Args:
            profile: Name of the profile of the base.
        """
        given = self.model_dump(mode="json", exclude_none=True)
        return RECOMMENDED.get(profile, RECOMMENDED["default"]) | given


RECOMMENDED: dict[str, dict[str, Any]] = {
    # Epochs and rate of document 001. Its batch of 4 is for the memory of the base, which does not
    # take part here; of 4 turns few have a negative, so the style head would learn little.
    "default": {
        "num_train_epochs": 10,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 64,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "warmup_steps": 0.1,
        "max_grad_norm": 1.0,
    },
}
RECOMMENDED["embedded"] = {**RECOMMENDED["default"], "learning_rate": 1e-3}


class CacheOptions(Options):
    """Where the frozen base's hidden states come from in each epoch.

    Attributes:
        enabled: Compute them once and keep them on disk; else anew in every epoch.
        max_gb: Largest size of all that is kept, in GB (10^9 bytes).
        dtype: How they are kept.
    """

    enabled: bool = True
    max_gb: float = Field(default=20.0, gt=0)
    dtype: StateType = "float32"


class HeadsOptions(Options):
    """Parameters of the heads.

    Attributes:
        min_turns: Fewer training rows than this and nothing is trained.
        max_length: Most tokens of a turn and its past. Whole messages of the past are left out,
            the oldest first; a turn that is too long alone is cut at its end.
        architecture: Sizes of the trained parts.
        losses: Weights of the parts of the loss.
        trainer: Arguments of the training.
        cache: Where hidden states come from.
        early_stopping_patience: Evaluations after which training stops if ``eval_criterion`` (the
            loss with errors of retrieval for its contrastive part) got no better. Applies when
            there are validation rows and more than 100 rows in all.
    """

    min_turns: int = Field(default=50, ge=1)
    max_length: int = Field(default=512, ge=8)
    architecture: ArchitectureOptions = ArchitectureOptions()
    losses: LossOptions = LossOptions()
    trainer: HeadsTrainerOptions = HeadsTrainerOptions()
    cache: CacheOptions = CacheOptions()
    early_stopping_patience: int = Field(default=3, ge=1)
