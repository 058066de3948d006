"""Runs one training job, from the rows to the model folder.

The final adapter is taken from the files of a checkpoint (the best one with early stopping, else
the last), never from memory: whatever moment a run was killed at, going on from its checkpoints
leads to the same files.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tracetune.errors import ConfigurationError
from tracetune.files import atomic_folder, read_json
from tracetune.runs import installed_versions
from tracetune.training import base as base_model
from tracetune.training import checkpoints, quiet
from tracetune.training.checkpoints import Place
from tracetune.training.job import TrainingJob
from tracetune.training.tracking import NOWHERE, Tracking, logs, make_up
from tracetune.training.trained_positions import trained_positions_only


def run(
    job: TrainingJob,
    out: Path,
    work: Path | None = None,
    *,
    resume: bool = False,
    tracking: Tracking = NOWHERE,
) -> Path:
    """Trains a job, or goes on with it, and writes the model folder.

    Args:
        job: The job.
        out: The model folder; replaced as a whole when training is done.
        work: Folder for checkpoints, kept between runs; beside ``out`` if None.
        resume: Refuse to start from the beginning.
        tracking: Experiment logs that are written too; they change nothing in the result.

    Returns:
        ``out``: adapter, tokenizer, ``manifest.json``, ``history.json``, ``timing.json`` and
        ``status.json``.

    Raises:
        ConfigurationError: The job does not fit the model or the installed libraries, or a log
            cannot be written.
        DataError: Base model, rows or starting adapter have changed since the job was made.
        GateError: A row is too long, or an invariant of step 0 does not hold.
        ResumeError: ``resume`` was asked for and there is nothing of this job to continue.
    """
    _check_versions(job)
    place = checkpoints.open_place(job, work or out.with_name(f"{out.name}.work"), resume=resume)
    if not place.result.is_dir():
        from tracetune.training.seeds import deterministic

        with quiet.offline(), quiet.quiet(), deterministic(job.seed, job.limits.threads):
            _train(job, place, tracking)
    else:
        history = read_json(place.result / "history.json")
        make_up(job, place.digest, tracking, history)
    place.clear()
    with atomic_folder(out) as temporary:
        shutil.copytree(place.result, temporary, dirs_exist_ok=True)
    return out


def _check_versions(job: TrainingJob) -> None:
    installed = installed_versions(name for name in job.versions if name != "tracetune")
    # "+cpu" and "+cu130" name builds of one version
    differ = [
        f"{name} {installed.get(name, 'missing')} instead of {version}"
        for name, version in job.versions.items()
        if installed.get(name, "").split("+")[0] != version.split("+")[0]
    ]
    if differ:
        raise ConfigurationError(
            f"the job was made for other versions: {', '.join(differ)}",
            where="job.versions",
            remedy="install the versions of the job, or make the job again here",
        )


def _train(job: TrainingJob, place: Place, tracking: Tracking) -> None:
    """Brings the job to its last step and writes ``place.result``."""
    from tracetune.training import dpo, embedding, kto, model_folder, sft, trainers

    loop = partial(_loop, tracking=tracking)
    if job.method == "embedding":
        with _no_caches():
            embedding.train(job, place, loop)
        return
    if job.method == "heads":
        from tracetune.training.heads import train as heads

        heads.train(job, place, tracking)
        return
    started = time.perf_counter()
    base_model.verify(job.base)
    model_folder.verify_start(job)
    tokenizer = base_model.load_tokenizer(job.base)
    rows = trainers.load_rows(job, tokenizer)
    stage: Any = {"sft": sft, "dpo": dpo, "kto": kto}[job.method]
    with _no_caches(), trained_positions_only():
        trainer = stage.make_trainer(job, place, rows, tokenizer)
        trainers.check_same_rows(trainer, rows, job)
        steps, interval = trainers.set_intervals(trainer, job)
        facts = {
            "steps": steps,
            "interval": interval,
            "early_stopping": rows.early_stopping,
            "rows": {"train": len(rows.train), "validation": len(rows.validation)},
            "dropped": rows.dropped,
            "invariants": stage.invariants(trainer),
            "parameters": _parameters(trainer),
        }
        seconds, resumed = loop(trainer, job, place, rows.early_stopping, steps)
    timing = {
        "train_seconds": round(seconds, 3),
        "total_seconds": round(time.perf_counter() - started, 3),
        "resumed_from_step": resumed,
        "device": trainer.args.device.type,
        "threads": job.limits.threads,
    }
    model_folder.write(job, place, tokenizer, facts, timing)


def _loop(
    trainer: Any,
    job: TrainingJob,
    place: Place,
    early_stopping: bool,
    steps: int,
    *,
    tracking: Tracking,
) -> tuple[float, int]:
    """The training loop, from the last complete checkpoint; its seconds and starting step."""
    from transformers.trainer_callback import PrinterCallback

    from tracetune.training import callbacks, model_folder
    from tracetune.training.progress import bar

    checkpoint = place.last_complete()
    state = checkpoints.state_of(checkpoint) if checkpoint else None
    past = model_folder.history(state["log_history"]) if state else []
    if state and checkpoints.is_last(state, job.early_stopping_patience):
        make_up(job, place.digest, tracking, past)
        return 0.0, int(state["global_step"])
    done = int(state["global_step"]) if state else 0
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callbacks.Keeper(place))
    trainer.add_callback(callbacks.Continuation(trainer))
    if early_stopping:
        trainer.add_callback(callbacks.EarlyStopping(job.early_stopping_patience))
    started = time.perf_counter()
    with (
        logs(job, place.digest, tracking, past) as write,
        bar(f"training {job.method}", steps, done) as advance,
    ):
        trainer.add_callback(callbacks.Tracked(write))
        trainer.add_callback(callbacks.Progress(advance, done))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return time.perf_counter() - started, done


@contextmanager
def _no_caches() -> Iterator[None]:
    """Prepared rows and reference values are never taken from an earlier run's cache."""
    import datasets

    was = datasets.is_caching_enabled()
    datasets.disable_caching()
    try:
        yield
    finally:
        if was:
            datasets.enable_caching()


def _parameters(trainer: Any) -> dict[str, int]:
    """Weights of the base, trained weights, and weights of the frozen reference adapter."""
    named = list(trainer.model.named_parameters())
    return {
        "base": sum(p.numel() for n, p in named if "lora_" not in n),
        "trained": sum(p.numel() for _, p in named if p.requires_grad),
        "reference": sum(p.numel() for n, p in named if ".ref." in n),
    }
