"""Training of the heads, from the rows to the model folder (document 001, phase 2)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracetune.errors import ConfigurationError, GateError
from tracetune.training import base as base_model
from tracetune.training import checkpoints, model_folder
from tracetune.training.checkpoints import Place
from tracetune.training.heads import frozen, states, store
from tracetune.training.heads.batches import Part, parts_of
from tracetune.training.heads.config import base_hash
from tracetune.training.heads.data import HeadsDataset, load_dataset
from tracetune.training.heads.job import HeadsSettings, hidden_size
from tracetune.training.heads.turns import TurnReader, TurnTokens
from tracetune.training.job import EARLY_STOPPING_ROWS, TrainingJob
from tracetune.training.tracking import Tracking, logs, make_up

CALIBRATED_ROWS = 512
"""Training rows whose states the adapter's layer norm is fitted to; more change nothing."""
_PROBED_ROWS = 64
_LARGEST_RESIDUAL = 0.2
_LARGEST_CHANGE = 0.5
"""Shares of the size of H by which H' may differ before the first step: what the gate lets in, and
with what the layer norm cannot give back, which is a matter of the base."""
STATES_FOLDER = "hidden"


def train(job: TrainingJob, place: Place, tracking: Tracking) -> None:
    """Brings the job to its last step and writes ``place.result``.

    Args:
        job: The job.
        place: Its work folder; hidden states are kept in ``hidden`` beside it.
        tracking: Experiment logs that are written too.

    Raises:
        ConfigurationError: The memory or the room on disk is not enough; says what to do.
        DataError: Base, adapter or rows have changed since the job was made.
        GateError: There is no training row, or the adapter does not start near the identity.
    """
    from tracetune.training.heads.loop import Loop, memory_advice
    from tracetune.training.progress import bar

    started = time.perf_counter()
    settings = HeadsSettings.of(job)
    base_model.verify(job.base)
    model_folder.verify_start(job)
    dataset = load_dataset(Path(job.dataset.path), job.dataset.files)
    if not len(dataset.train):
        raise GateError(
            "no training row is left", where=job.dataset.path, remedy="see the preflight report"
        )
    tokenizer = base_model.load_tokenizer(job.base)
    reader = TurnReader(tokenizer, settings.max_length)
    tokens = [reader.read(row) for row in (*dataset.train.rows, *dataset.validation.rows)]
    with _accelerator(settings) as accelerator, memory_advice(settings):
        device = str(accelerator.device.type)
        dtype = "bfloat16" if _half(settings) and device == "cuda" else "float32"
        found, seconds = _states(job, place, settings, tokens, dtype, device)
        parts = parts_of(dataset, found, settings.architecture.plan_steps)
        with bar("mean state of each turn", len(tokens)) as advance:
            for part in parts:
                part.prepare(advance)
        heads, weights, invariants = _start(job, settings, dataset, *parts)
        early = bool(len(parts[1])) and len(tokens) > EARLY_STOPPING_ROWS
        loop = Loop(
            job,
            settings,
            place,
            heads,
            *parts,
            weights,
            early_stopping=early,
            accelerator=accelerator,
        )
        train_seconds, resumed = _run(job, place, loop, tracking)
    trained = sum(parameter.numel() for parameter in heads.parameters())
    facts = {
        "steps": loop.steps,
        "interval": loop.interval,
        "early_stopping": early,
        "rows": {"train": len(dataset.train), "validation": len(dataset.validation)},
        "invariants": invariants,
        "parameters": {"base": job.base.parameters, "trained": trained},
        "shortened": {
            "past": sum(row.left_out > 0 for row in tokens),
            "turn": sum(row.cut > 0 for row in tokens),
            "as_user": sum(row.as_user for row in tokens),
        },
        "support": dataset.train.support,
    }
    timing = {
        "train_seconds": round(train_seconds, 3),
        "states_seconds": round(seconds, 3),
        "total_seconds": round(time.perf_counter() - started, 3),
        "resumed_from_step": resumed,
        "device": device,
        "threads": job.limits.threads,
    }
    config = _config(job, settings, dataset, weights.tolist(), dtype)
    store.write_result(job, place, tokenizer, config, facts, timing)


def _config(
    job: TrainingJob,
    settings: HeadsSettings,
    dataset: HeadsDataset,
    weights: list[float],
    dtype: str,
) -> dict[str, Any]:
    """What stands in ``config.json``, but for the hash of the weights."""
    adapter = job.start_from.weights_sha256 if job.start_from else None
    return {
        "hidden_size": hidden_size(job.base),
        "architecture": settings.architecture,
        "reference": dataset.reference,
        "pos_weight": tuple(weights),
        "max_length": settings.max_length,
        "base": job.base.identity(),
        "adapter_sha256": adapter,
        "base_sha256": base_hash(job.base, adapter),
        "base_dtype": dtype,
    }


def _states(
    job: TrainingJob,
    place: Place,
    settings: HeadsSettings,
    tokens: list[TurnTokens],
    dtype: str,
    device: str,
) -> tuple[states.States, float]:
    """Where the hidden states come from, and the seconds that computing them took."""
    from tracetune.training.progress import bar

    adapter = Path(job.start_from.path) if job.start_from else None
    digest = base_hash(job.base, job.start_from.weights_sha256 if job.start_from else None)

    def load() -> Any:
        return frozen.load(job.base, adapter, dtype=dtype, device=device)

    if not settings.cache.enabled:
        return states.LiveStates(load(), tokens), 0.0
    started = time.perf_counter()
    with bar("hidden states of the base", len(tokens)) as advance:
        kept = states.kept(
            place.folder.parent / STATES_FOLDER,
            base_sha256=digest,
            tokens=tokens,
            hidden_size=hidden_size(job.base),
            computed_in=f"{dtype} on {device}, {job.limits.threads} threads",
            dtype=settings.cache.dtype,
            max_gb=settings.cache.max_gb,
            load=load,
            progress=advance,
        )
    return kept, time.perf_counter() - started


def _start(
    job: TrainingJob,
    settings: HeadsSettings,
    dataset: HeadsDataset,
    train: Part,
    validation: Part,
) -> tuple[Any, Any, dict[str, float]]:
    """New heads fitted to the base's states, class weights, and what holds before the first step.

    Raises:
        GateError: Base and heads differ in width, or the adapter changes the states too much.
    """
    import torch

    from tracetune.training.heads.losses import class_weights
    from tracetune.training.heads.model import TwinHeads

    # The states before may have come from the base or from the disk; chance starts anew here.
    torch.manual_seed(job.seed)
    heads = TwinHeads(train.means.shape[1], settings.architecture)
    spread = range(0, len(train), max(1, -(-len(train) // CALIBRATED_ROWS)))
    heads.calibrate(train.every(spread))
    support = torch.tensor([float(count) for count in dataset.train.support.values()])
    probed = train.inputs(list(spread)[:_PROBED_ROWS])
    with torch.no_grad():
        place = (probed.coordinates, probed.phase, probed.homogeneity)
        adapted, gate = heads.adapter(probed.hidden, probed.mask, *place)
        closed, _ = heads.adapter(probed.hidden, probed.mask, None, None, None)
        whole, size = adapted - probed.hidden, probed.hidden[probed.mask].norm()
        shares = [float(c[probed.mask].norm() / size) for c in (whole, adapted - closed)]
    if not (shares[0] <= _LARGEST_CHANGE and shares[1] <= _LARGEST_RESIDUAL):  # also if no number
        raise GateError(
            f"before the first step the adapter changes the base's states by {shares[0]:.2f} of "
            f"their size, its gated part by {shares[1]:.2f}; it must start near the identity (at "
            f"most {_LARGEST_CHANGE} and {_LARGEST_RESIDUAL})",
            where="heads, step 0",
            remedy="set heads.architecture.gate_bias to -2, and report the base model if it is",
        )
    weights = class_weights(support, len(train))
    found = {"adapter_change": shares[0], "residual": shares[1], "gate": float(gate.mean())}
    return heads, weights, {name: round(value, 6) for name, value in found.items()}


def _run(job: TrainingJob, place: Place, loop: Any, tracking: Tracking) -> tuple[float, int]:
    """The steps that are left; their seconds and the step they start at."""
    from tracetune.training.progress import bar

    checkpoint = place.last_complete()
    state = checkpoints.state_of(checkpoint) if checkpoint else None
    past = model_folder.history(state["log_history"]) if state else []
    if state and checkpoints.is_last(state, job.early_stopping_patience):
        make_up(job, place.digest, tracking, past)
        return 0.0, int(state["global_step"])
    if state:
        loop.resume(checkpoint, state)
    done = int(loop.state["global_step"])
    started = time.perf_counter()
    with (
        logs(job, place.digest, tracking, past) as write,
        bar("training heads", loop.steps, done) as advance,
    ):
        loop.run(write, advance)
    return time.perf_counter() - started, done


@contextmanager
def _accelerator(settings: HeadsSettings) -> Iterator[Any]:
    """Accelerate for this training alone; its state is one per process and others use it too."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    try:
        accelerator = Accelerator(
            cpu=settings.use_cpu, mixed_precision="bf16" if _half(settings) else "no"
        )
        if accelerator.num_processes > 1:
            raise ConfigurationError(
                f"the heads are trained in one process, this is one of {accelerator.num_processes}",
                where="accelerate",
                remedy="start python -m tracetune.training without a launcher",
            )
        yield accelerator
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def _half(settings: HeadsSettings) -> bool:
    """Whether mixed precision is used: as asked, or on a GPU that has bfloat16."""
    import torch

    if settings.bf16 is not None:
        return settings.bf16
    return not settings.use_cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
