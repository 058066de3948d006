"""Callbacks of the trainers. Imported only by a running job, because transformers is heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from tracetune.training import checkpoints
from tracetune.training.checkpoints import Place
from tracetune.training.model_folder import history


class EarlyStopping(EarlyStoppingCallback):
    """Stops when the evaluation got no better for a while.

    The best checkpoint is taken from the files afterwards, so transformers need not load it, and
    its warning about that does not apply.
    """

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Leaves out the warning of the parent."""


class Keeper(TrainerCallback):
    """Marks each checkpoint complete and removes those no longer needed."""

    def __init__(self, place: Place) -> None:
        """Remembers whose checkpoints they are."""
        self.place = place

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Runs after everything of the checkpoint is on disk."""
        newest = self.place.checkpoint(state.global_step)
        checkpoints.mark_complete(newest, self.place.digest)
        checkpoints.rotate(self.place, state.global_step, state.best_global_step)


class Continuation(TrainerCallback):
    """Carries over the counters of TRL that its checkpoints leave out."""

    def __init__(self, trainer: Any) -> None:
        """Remembers the trainer."""
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Sets the number of tokens seen to that of the last log line."""
        seen = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        if seen:
            self.trainer._total_train_tokens = seen[-1]


class Tracked(TrainerCallback):
    """Hands each log line on to the experiment logs, as it will stand in ``history.json``."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        """Remembers who takes the entries."""
        self.write = write

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Runs after the line was added to the trainer's own log."""
        for entry in history(state.log_history[-1:]):
            self.write(entry)


class Progress(TrainerCallback):
    """Moves the one progress bar of a training."""

    def __init__(self, advance: Callable[..., None], start: int) -> None:
        """Remembers the bar and the step it starts at."""
        self.advance = advance
        self.done = start

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One optimiser step."""
        self.advance(state.global_step - self.done)
        self.done = state.global_step

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Shows the newest loss."""
        values = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name in ("loss", "eval_loss")
        }
        if values:
            self.advance(0, **values)
