"""Work in progress: where it lies, which checkpoint is complete, and whose it is.

``work/<first 12 characters of the job's hash>/`` holds ``job.json``, the checkpoints, and when the
job is done ``result/``. Another job (other base, rows or configuration) has another folder, so it
neither continues nor destroys this one. A checkpoint counts only if the marker, written last, is
there and every file it names has its size: a save cut by a kill is passed over and removed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.errors import ResumeError
from tracetune.files import read_json, write_json
from tracetune.training.job import TrainingJob, job_hash

MARKER = "complete.json"
RESULT = "result"
STATE = "trainer_state.json"


@dataclass(frozen=True)
class Place:
    """The folder of one job in progress.

    Attributes:
        folder: ``work/<hash12>``.
        digest: The job's hash.
    """

    folder: Path
    digest: str

    @property
    def result(self) -> Path:
        """The finished model folder; it appears whole or not at all."""
        return self.folder / RESULT

    def checkpoints(self) -> list[Path]:
        """All checkpoint folders, complete or not, in the order of their steps."""
        found = [path for path in self.folder.glob("checkpoint-*") if path.is_dir()]
        return sorted(found, key=_step)

    def checkpoint(self, step: int) -> Path:
        """The folder of one step."""
        return self.folder / f"checkpoint-{step}"

    def last_complete(self) -> Path | None:
        """The newest complete checkpoint; incomplete ones are removed."""
        complete = []
        for path in self.checkpoints():
            if is_complete(path, self.digest):
                complete.append(path)
            else:
                shutil.rmtree(path)
        return complete[-1] if complete else None

    def clear(self) -> None:
        """Removes the checkpoints, which a finished job no longer needs."""
        for path in self.checkpoints():
            shutil.rmtree(path, ignore_errors=True)


def _step(checkpoint: Path) -> int:
    digits = checkpoint.name.rsplit("-", 1)[-1]
    return int(digits) if digits.isdigit() else -1


def open_place(job: TrainingJob, work: Path, *, resume: bool = False) -> Place:
    """The folder of ``job`` under ``work``.

    Args:
        job: The job.
        work: Folder for the work of all jobs of a stage.
        resume: Refuse to start from the beginning.

    Raises:
        ResumeError: The folder holds another job's work, or there is nothing to continue although
            ``resume`` asks for it.
    """
    digest = job_hash(job)
    place = Place(work / digest[:12], digest)
    note = place.folder / "job.json"
    if note.is_file() and read_json(note).get("job_hash") != digest:
        raise ResumeError(
            "this folder holds the work of another job",
            where=str(place.folder),
            remedy="move it away, or give another work folder",
        )
    if resume and not place.result.is_dir() and place.last_complete() is None:
        raise ResumeError(
            f"there is nothing to continue for this job{_differences(job, work)}",
            where=str(work),
            remedy="run without resume to start from the beginning, or restore what has changed",
        )
    if not note.is_file():
        write_json(note, {"job_hash": digest, "job": job.model_dump(mode="json")})
    return place


def _differences(job: TrainingJob, work: Path) -> str:
    """In which parts the jobs that do lie under ``work`` differ from this one."""
    mine = _semantics(job.model_dump(mode="json"))
    texts = []
    for note in sorted(work.glob("*/job.json")):
        other = _semantics(read_json(note)["job"])
        parts = [part for part in mine if mine[part] != other.get(part)]
        if parts:
            texts.append(f"{note.parent.name} differs in {', '.join(parts)}")
    return f"; {'; '.join(texts)}" if texts else ""


def _semantics(document: dict[str, Any]) -> dict[str, Any]:
    parts = dict(document)
    for name in ("base", "dataset", "start_from"):
        if parts.get(name):
            parts[name] = {k: v for k, v in parts[name].items() if k not in ("path", "profile")}
    return parts


def mark_complete(checkpoint: Path, digest: str) -> None:
    """Writes the marker of a checkpoint; the last thing written."""
    files = {
        path.relative_to(checkpoint).as_posix(): path.stat().st_size
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != MARKER
    }
    write_json(checkpoint / MARKER, {"job_hash": digest, "files": files})


def is_complete(checkpoint: Path, digest: str) -> bool:
    """Whether the checkpoint belongs to the job and every file it should have is whole."""
    marker = checkpoint / MARKER
    if not marker.is_file():
        return False
    document = read_json(marker)
    return document["job_hash"] == digest and all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size == size
        for name, size in document["files"].items()
    )


def rotate(place: Place, newest: int, best: int | None) -> None:
    """Keeps the newest complete checkpoint and the best one."""
    keep = {place.checkpoint(newest)} | ({place.checkpoint(best)} if best else set())
    for path in place.checkpoints():
        if path not in keep:
            # The marker goes first, so that a kill in between leaves nothing that looks whole.
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path)


def state_of(checkpoint: Path) -> dict[str, Any]:
    """The trainer's state in a checkpoint."""
    state: dict[str, Any] = read_json(checkpoint / STATE)
    return state


def is_last(state: dict[str, Any], patience: int) -> bool:
    """Whether training ended with this checkpoint: all steps done, or stopped early."""
    stopping = state.get("stateful_callbacks", {}).get("EarlyStopping", {})
    counter = stopping.get("attributes", {}).get("early_stopping_patience_counter", 0)
    return bool(state["global_step"] >= state["max_steps"] or counter >= patience)
