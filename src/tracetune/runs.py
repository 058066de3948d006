"""State of runs: one run at a time per tenant and name, statuses of stages, the run manifest."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from tracetune import __version__
from tracetune.errors import DataError, TracetuneError
from tracetune.files import read_json, write_json
from tracetune.records import Record

StageState = Literal["trained", "skipped", "insufficient", "waiting", "unjudged", "failed"]

LIBRARIES = ("kedro", "torch", "transformers", "trl", "peft", "tokenizers", "duckdb", "pyarrow")


class StageStatus(Record):
    """What became of a stage; lies as ``status.json`` in every model folder.

    Attributes:
        status: ``trained``, or why there is no model.
        reason: One sentence for people when nothing was trained.
    """

    status: StageState
    reason: str = ""


class RunLock:
    """One run at a time per tenant and name.

    The lock is held by the process (``flock``), so it vanishes with it: a killed run leaves none.

    Args:
        path: The lock file. It stays behind when the lock is released, and means nothing then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: Any = None

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            TracetuneError: If another run holds it; names that run's process.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "an unknown process"
            handle.close()
            raise TracetuneError(
                f"another run is at work on this tenant and name ({holder})",
                where=str(self._path),
                remedy="wait until it has ended, stop it, or give this run another name "
                "(--params=name=…)",
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()} since {utc_now()}")
        handle.flush()
        self._handle = handle

    def release(self) -> None:
        """Gives the lock back; harmless when it is not held."""
        if self._handle is not None:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._handle.close()
            self._handle = None


def utc_now() -> str:
    """The time now as ISO text; only for manifests and messages, never for rows or windows."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def installed_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Versions of this project and of the libraries that can change a result."""
    found = {"tracetune": __version__}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def code_commit(project: Path) -> str:
    """The commit of the project's code, with ``+changes`` when files differ from it."""
    git = ["git", "-C", str(project)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown: not a git checkout"
    return f"{head}+changes" if changed else head


def write_run_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest of one run: everything that is needed to do it again."""
    # Through JSON once: parameters may hold models and paths, which are written as text.
    write_json(path, json.loads(json.dumps(manifest, default=_as_json)))


def _as_json(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump else str(value)


def read_status(folder: Path) -> StageStatus:
    """The status of a model folder.

    Raises:
        DataError: If the folder has no readable status.
    """
    path = folder / "status.json"
    try:
        found = read_json(path)
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(
            f"the model folder has no readable status ({error})",
            where=str(path),
            remedy="run the pipeline again",
        ) from None
    return StageStatus(status=found["status"], reason=found.get("reason", ""))


def write_skipped(folder: Path, reason: str, status: StageState = "skipped") -> Path:
    """A model folder of a stage that did not train; it holds only the status. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "status.json", {"status": status, "reason": reason})
    return folder


def latest_trained(versions: list[str]) -> Path | None:
    """The newest folder among ``versions`` (newest first) that holds a trained model."""
    for version_path in versions:
        folder = Path(version_path)
        if (folder / "status.json").is_file() and read_status(folder).status == "trained":
            return folder
    return None


def previous_release(
    released: Path,
    weights_sha256: str,
    test_start: datetime | None,
    task: dict[str, Any] | None = None,
    fitted_groups: str | None = None,
) -> dict[str, Any]:
    """The newest adapter that was released before, by any pipeline, for the same base and task.

    Args:
        released: Folder of the models of a tenant and name: ``<pipeline>/release/adapter/…``.
        weights_sha256: Hash of the base weights; an adapter on others cannot be compared.
        test_start: Start of the test window of this run.
        task: What an answer is and how it is compared (fields of the output specification); an
            adapter that was released for another task is passed over. None asks for none.
        fitted_groups: Hash of the groups that this run is fitted to
            (:func:`tracetune.splits_derived.fitted_groups`). An adapter with another one, or with
            none, may have seen rows that are held out now, and is passed over. None: rows have a
            time, and ``saw_test_window`` tells.

    Returns:
        ``path`` (None if there is none), ``pipeline``, ``version``, ``reason`` (why none), and
        ``saw_test_window``: whether it was trained on rows from after ``test_start``, so that its
        figures flatter it (None if it does not say).
    """
    other_base = other_task = other_rows = 0
    found = sorted(
        released.glob("*/release/adapter/*/adapter/serving.json"),
        key=lambda path: path.parents[1].name,
        reverse=True,
    )
    for serving in found:
        settings = read_json(serving)
        if settings["base"]["weights_sha256"] != weights_sha256:
            other_base += 1
            continue
        output = settings.get("output", {})
        if task is not None and any(output.get(name) != value for name, value in task.items()):
            other_task += 1
            continue
        if fitted_groups is not None and settings.get("fitted_groups") != fitted_groups:
            other_rows += 1
            continue
        until = settings.get("trained_until")
        saw = None
        if until is not None and test_start is not None:
            saw = datetime.fromisoformat(until) > test_start
        return {
            "path": str(serving.parent.resolve()),
            "pipeline": serving.parents[4].name,
            "version": serving.parents[1].name,
            "reason": "",
            "saw_test_window": saw,
        }
    passed = {
        "for another base model": other_base,
        "for another task": other_task,
        "from other training rows, perhaps from rows that are held out now": other_rows,
    }
    reasons = [f"{count} were made {what}" for what, count in passed.items() if count]
    return no_release(", ".join(reasons) or "none was released")


def no_release(reason: str) -> dict[str, Any]:
    """What :func:`previous_release` gives where there is none; ``reason`` says why."""
    return {
        "path": None,
        "pipeline": None,
        "version": None,
        "reason": reason,
        "saw_test_window": None,
    }
