"""One writer per tool of experiment logging. Names and values are those of ``history.json``.

Nothing but metrics and the job goes into a log: no code, no console, no measurements of the
machine, no environment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracetune.errors import ConfigurationError
from tracetune.training.tracking import Entry, Tracking, Writer

PROJECT = "tracetune"
_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID")


def _values(entry: Entry) -> dict[str, float]:
    return {name: value for name, value in entry.items() if isinstance(value, int | float)}


class TensorBoard:
    """Event files in ``tensorboard/<run>/<first 12 characters of the job's hash>``."""

    def __init__(self, tracking: Tracking, digest: str, config: dict[str, Any]) -> None:
        """Starts the log of a job anew."""
        from torch.utils.tensorboard import SummaryWriter

        folder = tracking.folder / "tensorboard" / tracking.run / digest[:12]
        shutil.rmtree(folder, ignore_errors=True)
        self._writer: Any = SummaryWriter(str(folder))
        text = json.dumps(config, indent=2, sort_keys=True)
        self._writer.add_text("job", "".join(f"    {line}\n" for line in text.splitlines()))

    def write(self, entry: Entry) -> None:
        """Adds one entry; it can be seen at once."""
        for name, value in _values(entry).items():
            if name != "step":
                self._writer.add_scalar(name, value, entry["step"], new_style=True)
        self._writer.flush()

    def close(self, *, whole: bool) -> None:
        """Closes the file."""
        self._writer.close()


class Wandb:
    """A run of wandb, in ``wandb/``; its id is the job's hash, so a job has one run.

    Where it goes is decided by wandb's own settings: ``wandb login``, ``WANDB_MODE=offline``,
    ``WANDB_PROJECT``. Points stand at ``step``, not at wandb's own count, which cannot go back when
    a killed run writes its log anew.
    """

    def __init__(self, tracking: Tracking, digest: str, config: dict[str, Any]) -> None:
        """Starts the run, or goes on with it."""
        import wandb

        folder = tracking.folder / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                name=tracking.run,
                id=digest[:32],
                resume="allow",
                dir=str(folder),
                config=config,
                reinit="create_new",
                settings=settings,
            )
        except wandb.errors.Error as error:
            raise _refused(error) from None
        self._run.define_metric("*", step_metric="step")

    def write(self, entry: Entry) -> None:
        """Adds one entry."""
        self._run.log(_values(entry))

    def close(self, *, whole: bool) -> None:
        """Ends the run."""
        self._run.finish(exit_code=0 if whole else 1)


class Trackio:
    """A run of trackio in the database in ``trackio/``; nothing is sent anywhere."""

    def __init__(self, tracking: Tracking, digest: str, config: dict[str, Any]) -> None:
        """Starts the run of a job anew; what a killed training left of it is removed."""
        self._trackio = trackio = _trackio(tracking.folder / "trackio")
        with _local(), contextlib.redirect_stdout(io.StringIO()):
            known = (tracking.folder / "trackio" / f"{PROJECT}.db").is_file()
            for run in trackio.Api().runs(PROJECT) if known else []:
                if run.name == tracking.run and (run.config or {}).get("job_hash") == digest:
                    run.delete()
            self._run = trackio.init(
                project=PROJECT,
                name=tracking.run,
                config=config,
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def write(self, entry: Entry) -> None:
        """Adds one entry."""
        values = _values(entry)
        del values["step"]
        self._run.log(values, step=entry["step"])

    def close(self, *, whole: bool) -> None:
        """Writes what is not written yet."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()


WRITERS: dict[str, Callable[[Tracking, str, dict[str, Any]], Writer]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


def check_wandb() -> None:
    """Checks that wandb has a key, unless it is set to send nothing. It is never read here.

    Raises:
        ConfigurationError: There is none, or it cannot be one.
    """
    import wandb

    if wandb.setup().settings.mode in ("offline", "disabled"):
        return
    try:
        known = wandb.login(verify=False, prompt=False)
    except (wandb.errors.Error, ValueError) as error:
        raise _refused(error) from None
    if not known:
        raise ConfigurationError(
            "wandb has no key",
            where="report_to",
            remedy="run `wandb login`, or set WANDB_MODE=offline and `wandb sync` the log later",
        )


def _refused(error: Exception) -> ConfigurationError:
    """wandb's own words, without the key, should they ever repeat it."""
    words, key = str(error), os.environ.get("WANDB_API_KEY")
    return ConfigurationError(
        f"wandb cannot log: {words.replace(key, '***') if key else words}",
        where="report_to",
        remedy="correct the settings of wandb, or set WANDB_MODE=offline",
    )


def _trackio(folder: Path) -> Any:
    """trackio, with its database in ``folder``; it reads the place once, when it is imported.

    Raises:
        ConfigurationError: It is imported already and writes elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if "trackio" not in sys.modules:
        before = os.environ.get("TRACKIO_DIR")
        os.environ["TRACKIO_DIR"] = str(folder)
        try:
            import trackio
        finally:
            if before is None:
                del os.environ["TRACKIO_DIR"]
            else:
                os.environ["TRACKIO_DIR"] = before
    import trackio
    from trackio.utils import TRACKIO_DIR

    if Path(TRACKIO_DIR).resolve() != folder.resolve():
        raise ConfigurationError(
            f"trackio writes to {TRACKIO_DIR} in this process",
            where=f"report_to, {folder}",
            remedy="start a new process; trackio is bound to one folder when it is imported",
        )
    return trackio


@contextlib.contextmanager
def _local() -> Iterator[None]:
    """Hides from trackio the variables by which it would send the log away."""
    hidden = {name: os.environ.pop(name) for name in _ELSEWHERE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
