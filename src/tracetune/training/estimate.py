"""What a job will cost before it is run: tokens, floating point operations, seconds.

Operations per token follow the usual model (N weights in matrix products): the forward pass costs
2N, the gradients of the activations 2N, and of the weights 2N, which LoRA leaves out. So SFT with
LoRA costs 4N and DPO 6N per token, because the reference is one more forward pass; gradient
checkpointing repeats the forward pass (+2N). Evaluation costs 2N (DPO 4N) per token.

Seconds are those operations over the rate of this machine, measured for a fraction of a second with
matrix products of the model's own shape, times a stated efficiency: small models spend most of
their time between the products. It is an estimate, good to a factor of about two.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tracetune.files import read_json
from tracetune.training.base import demand_here
from tracetune.training.job import TrainingJob
from tracetune.training.preflight import PreflightReport

EFFICIENCY = 0.35
"""Share of the rate of bare matrix products that training reaches: assumed, not measured."""
_MEASURED_SECONDS = 0.3


class Estimate(BaseModel):
    """What a job will cost.

    Attributes:
        tokens: Tokens that go through training, over all epochs; padding not counted.
        steps: Optimiser steps (an upper bound; early stopping may end before).
        flops: Floating point operations, evaluation included.
        flops_per_second: Rate assumed: measured rate of this machine times the efficiency.
        seconds: ``flops / flops_per_second``; start-up and saving are not counted.
        method: How it was worked out, for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int
    steps: int
    flops: float
    flops_per_second: float
    seconds: float
    method: str


def estimate(job: TrainingJob, report: PreflightReport) -> Estimate:
    """The cost of ``job`` on this machine; nothing is loaded or trained.

    Args:
        job: The job.
        report: Its preflight report, which knows the tokens.

    Raises:
        ConfigurationError: The base model is hosted: nothing of it is trained on this machine.
    """
    demand_here(job.base)
    assert job.base.parameters is not None
    trainer = job.trainer
    batch = trainer.get("per_device_train_batch_size", 8)
    batch *= trainer.get("gradient_accumulation_steps", 1)
    per_epoch = max(1, math.ceil(report.rows_used / batch))
    steps = math.ceil(trainer.get("num_train_epochs", 3) * per_epoch)
    bounds = [trainer.get("max_steps") or -1, job.limits.max_steps or -1]
    steps = min([steps, *(bound for bound in bounds if bound > 0)])
    epochs = steps / per_epoch
    tokens = round(report.total_tokens * epochs)
    # KTO also reads every answer after another prompt, with both models, for its KL term.
    per_token = {"sft": 4, "dpo": 6, "kto": 10}[job.method]
    per_token += 2 if trainer.get("gradient_checkpointing") else 0
    held_out = report.total_tokens * report.validation_rows / max(1, report.rows_used)
    evaluations = math.ceil(steps / max(1, steps // 10)) if report.validation_rows else 0
    evaluated = held_out * evaluations * {"sft": 2, "dpo": 4, "kto": 8}[job.method]
    flops = job.base.parameters * (tokens * per_token + evaluated)
    rate = _rate(job) * EFFICIENCY
    return Estimate(
        tokens=tokens,
        steps=steps,
        flops=float(flops),
        flops_per_second=rate,
        seconds=round(flops / rate, 1),
        method=f"{per_token}N per token, N = {job.base.parameters}; rate of matrix products of "
        f"this machine ({job.limits.threads} threads) times {EFFICIENCY}",
    )


def _rate(job: TrainingJob) -> float:
    """Floating point operations per second of matrix products of the model's shape."""
    config: dict[str, Any] = read_json(Path(job.base.path) / "config.json")
    hidden = int(config.get("hidden_size", 1024))
    return matrix_rate(
        hidden,
        int(config.get("intermediate_size", 4 * hidden)),
        threads=job.limits.threads,
        cpu=bool(job.trainer.get("use_cpu")),
        half=bool(job.trainer.get("bf16")),
    )


def matrix_rate(
    hidden: int, inner: int, *, threads: int, cpu: bool = False, half: bool = False
) -> float:
    """Floating point operations per second of matrix products on this machine, measured now.

    Args:
        hidden: Width of the model.
        inner: Width of its MLP.
        threads: CPU threads.
        cpu: Leave an accelerator alone.
        half: In bfloat16.
    """
    import time

    import torch

    device = "cuda" if torch.cuda.is_available() and not cpu else "cpu"
    dtype = torch.bfloat16 if half else torch.float32
    left = torch.ones(1024, hidden, device=device, dtype=dtype)
    right = torch.ones(hidden, inner, device=device, dtype=dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left @ right
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < _MEASURED_SECONDS:
            left @ right
            if device == "cuda":
                torch.cuda.synchronize()
            count += 1
        return 2.0 * 1024 * hidden * inner * count / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
