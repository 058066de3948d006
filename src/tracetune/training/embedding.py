"""Training of an encoder with sentence-transformers: bring wanted documents near their queries.

Triplet loss (Schroff et al. 2015) in cosine distance: ``max(0, d(a, p) - d(a, n) + margin)``; or
multiple negatives ranking (Henderson et al. 2017), where every other document of the batch is a
negative too.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.errors import GateError
from tracetune.files import atomic_folder, read_json, sha256_file, sha256_folder, write_json
from tracetune.records import Triplet
from tracetune.training import checkpoints, encoder
from tracetune.training.checkpoints import Place
from tracetune.training.job import (
    EARLY_STOPPING_ROWS,
    TRAIN_FILE,
    VALIDATION_FILE,
    TrainingJob,
    read_rows,
)
from tracetune.training.model_folder import (
    adapter_config,
    common_manifest,
    finished,
    history,
)

_NOT_OF_THE_MODEL = {
    checkpoints.MARKER,
    checkpoints.STATE,
    "README.md",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "training_args.bin",
}

Loop = Callable[[Any, TrainingJob, Place, bool, int], tuple[float, int]]


@dataclass(frozen=True)
class TripletRows:
    """The rows that are trained on."""

    train: list[Triplet]
    validation: list[Triplet]

    @property
    def early_stopping(self) -> bool:
        """Whether there are validation rows, and more than 100 rows in all (document 003)."""
        both = len(self.train) + len(self.validation)
        return bool(self.validation) and both > EARLY_STOPPING_ROWS


def train(job: TrainingJob, place: Place, loop: Loop) -> None:
    """Brings the job to its last step and writes ``place.result``.

    Args:
        job: The job.
        place: Its work folder.
        loop: The training loop with checkpoints, as all methods share it.
    """
    from tracetune.training import embedding_trainer, trainers

    started = time.perf_counter()
    encoder.verify(job.base)
    rows = _load_rows(job)
    model = embedding_trainer.load_policy(job)
    trainer = embedding_trainer.make_trainer(job, place, rows, model)
    steps, interval = trainers.set_intervals(trainer, job)
    named = list(model.named_parameters())
    facts = {
        "steps": steps,
        "interval": interval,
        "early_stopping": rows.early_stopping,
        "rows": {"train": len(rows.train), "validation": len(rows.validation)},
        "invariants": embedding_trainer.invariants(job, model, rows.train),
        "parameters": {
            "base": sum(p.numel() for n, p in named if "lora_" not in n),
            "trained": sum(p.numel() for _, p in named if p.requires_grad),
        },
    }
    seconds, resumed = loop(trainer, job, place, rows.early_stopping, steps)
    timing = {
        "train_seconds": round(seconds, 3),
        "total_seconds": round(time.perf_counter() - started, 3),
        "resumed_from_step": resumed,
        "device": trainer.args.device.type,
        "threads": job.limits.threads,
    }
    _write(job, place, facts, timing)


def _load_rows(job: TrainingJob) -> TripletRows:
    found: list[Any] = [read_rows(job, name) for name in (TRAIN_FILE, VALIDATION_FILE)]
    if not found[0]:
        raise GateError(
            "no training row is left", where=job.dataset.path, remedy="see the preflight report"
        )
    return TripletRows(*found)


def _write(job: TrainingJob, place: Place, facts: dict[str, Any], timing: dict[str, Any]) -> None:
    """Writes ``place.result`` from the files of the checkpoints: the best one, or the last."""
    state, chosen, used = finished(place, early_stopping=facts["early_stopping"])
    with atomic_folder(place.result) as folder:
        _copy_model(chosen, folder)
        config = folder / encoder.ADAPTER_FILE
        if config.is_file():
            write_json(config, adapter_config(read_json(config), job))
        weights = sha256_folder(folder)
        write_json(folder / "history.json", history(state["log_history"]))
        write_json(folder / "timing.json", timing)
        write_json(
            folder / "manifest.json",
            {
                **common_manifest(job, place, facts, state, used),
                "weights": {
                    path.relative_to(folder).as_posix(): sha256_file(path)
                    for path in sorted(folder.rglob("*.safetensors"))
                },
                "model_sha256": weights,
            },
        )
        write_json(folder / "status.json", {"status": "trained", "job_hash": place.digest})


def _copy_model(checkpoint: Path, folder: Path) -> None:
    """The encoder of a checkpoint without the state of its training."""

    def left_out(_: str, names: list[str]) -> set[str]:
        return {n for n in names if n in _NOT_OF_THE_MODEL or n.startswith("rng_state")}

    shutil.copytree(checkpoint, folder, dirs_exist_ok=True, ignore=left_out)
