"""How long a job will take, before it is run: for ``dry_run``.

Work: the tokens of all used sequences times the epochs, times the cost of a token. With LoRA and N
weights a token costs 4N floating-point operations for SFT (forward 2N, gradients of the
activations 2N) and 6N for DPO, whose reference adds a forward pass.

Speed: a short matrix product is timed on this machine. Training reaches a part of that speed, which
depends on the sizes of model and batch; small models reach little. So the estimate is a range.
"""

from __future__ import annotations

import math
import time

from pydantic import BaseModel, ConfigDict

from tracetune.training.job import TrainingJob
from tracetune.training.preflight import PreflightReport

COST = {"sft": 4, "dpo": 6}
EFFICIENCY = (0.15, 0.6)
_SIZE = 1024
_ROUNDS = 5


class Estimate(BaseModel):
    """What a job costs.

    Attributes:
        tokens: Tokens that go through the model, all epochs.
        flops: Floating-point operations.
        seconds: Shortest and longest time expected on this machine.
        words: The same for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int
    flops: float
    seconds: tuple[float, float]
    words: str


def estimate(job: TrainingJob, report: PreflightReport) -> Estimate:
    """The cost of ``job`` on this machine.

    Args:
        job: The job.
        report: Its preflight report, which knows the tokens.
    """
    tokens = round(report.total_tokens * _epochs(job, report.rows_used))
    flops = float(tokens) * COST[job.method] * job.base.parameters
    speed = _matmul_speed(job.limits.threads)
    fast, slow = (flops / (speed * share) for share in reversed(EFFICIENCY))
    return Estimate(
        tokens=tokens,
        flops=flops,
        seconds=(round(fast, 1), round(slow, 1)),
        words=f"{_words(fast)} to {_words(slow)} on this machine for {tokens:,} tokens",
    )


def _epochs(job: TrainingJob, rows: int) -> float:
    """Epochs that are run at most; early stopping may end sooner."""
    trainer = job.trainer
    epochs = float(trainer.get("num_train_epochs", 3))
    limit = job.limits.max_steps or trainer.get("max_steps", -1)
    if limit is None or limit <= 0:
        return epochs
    batch = trainer.get("per_device_train_batch_size", 8)
    steps = math.ceil(rows / (batch * trainer.get("gradient_accumulation_steps", 1)))
    return float(limit) / max(1, steps)


def _matmul_speed(threads: int) -> float:
    """Floating-point operations per second of a large float32 product (bfloat16 on a GPU)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    cuda = torch.cuda.is_available()
    device, kind = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
    left = torch.ones(_SIZE, _SIZE, device=device, dtype=kind)
    try:
        best = math.inf
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            left @ left
            if cuda:
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return float(2 * _SIZE**3 / best)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
