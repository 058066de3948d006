"""The training loop of the heads. Imported only by a running job, because torch is heavy.

Everything that a step depends on follows from the seed, the number of the step and the checkpoint
before it: a run that was killed and goes on makes the same steps as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from tracetune.errors import ConfigurationError
from tracetune.training.checkpoints import Place
from tracetune.training.heads import losses, store
from tracetune.training.heads.batches import Inputs, Part, divided, epoch_order
from tracetune.training.heads.job import HeadsSettings, lengths, steps_per_epoch
from tracetune.training.heads.model import TwinHeads, TwinOutput
from tracetune.training.job import TrainingJob

Entry = dict[str, Any]


@dataclass
class Sums:
    """Sums of the parts of the loss since the last log line, and what they are over."""

    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(losses.PARTS, 0.0))
    over: dict[str, float] = field(default_factory=lambda: dict.fromkeys(losses.PARTS, 0.0))

    def add(self, totals: dict[str, float], over: dict[str, float]) -> None:
        """Adds those of a batch."""
        for name in losses.PARTS:
            self.totals[name] += totals[name]
            self.over[name] += over[name]

    def entry(self, weights: Any, prefix: str = "") -> Entry:
        """The loss and its parts as means; a part that nothing was over is left out."""
        means = {
            name: self.totals[name] / self.over[name] for name in losses.PARTS if self.over[name]
        }
        loss = sum(getattr(weights, name) * value for name, value in means.items())
        return {
            f"{prefix}loss": loss,
            **{f"{prefix}{name}_loss": value for name, value in means.items()},
        }


def rate(settings: HeadsSettings, step: int, steps: int) -> float:
    """Learning rate of the step of that number: linear warm-up, then a cosine down to 0.

    Args:
        settings: Settings of the job.
        step: Number of the step, from 0.
        steps: Steps in all.
    """
    warm = settings.warmup_steps
    warm = math.ceil(warm * steps) if warm < 1 else int(warm)
    if step < warm:
        return settings.learning_rate * (step + 1) / (warm + 1)
    done = (step - warm) / max(1, steps - warm)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def interval(value: float | None, steps: int, default: int) -> int:
    """Steps between two events: a number of steps, or their share if below 1."""
    if value is None:
        return default
    return max(1, int(value * steps) if value < 1 else int(value))


class Loop:
    """One training, from the last complete checkpoint to its end.

    Args:
        job: The job.
        settings: Its settings.
        place: Its work folder.
        heads: New heads, calibrated.
        train: Training rows.
        validation: Validation rows; may be empty.
        pos_weight: Weight of the positives of each pattern.
        early_stopping: Whether the best checkpoint counts.
    """

    def __init__(
        self,
        job: TrainingJob,
        settings: HeadsSettings,
        place: Place,
        heads: TwinHeads,
        train: Part,
        validation: Part,
        pos_weight: Tensor,
        *,
        early_stopping: bool,
        accelerator: Any,
    ) -> None:
        """Puts the heads and their optimiser on the device."""
        self.job, self.settings, self.place = job, settings, place
        self.train_part, self.validation = train, validation
        self.early_stopping = early_stopping
        self.accelerator = accelerator
        self.steps = lengths(settings, len(train), job.limits.max_steps)[1]
        self.per_epoch = steps_per_epoch(settings, len(train))
        self.interval = interval(settings.eval_steps, self.steps, max(1, self.steps // 10))
        self.logging = interval(settings.logging_steps, self.steps, self.interval)
        self.heads = heads
        self.optimizer = torch.optim.AdamW(_decayed(heads, settings.weight_decay))
        self.model, self.stepper = accelerator.prepare(heads, self.optimizer)
        self.pos_weight = pos_weight.to(accelerator.device)
        self.state: dict[str, Any] = {
            "global_step": 0,
            "max_steps": self.steps,
            "best_global_step": None,
            "best_metric": None,
            "without_improvement": 0,
            "log_history": [],
            "since_log": asdict(Sums()),
            "norm": 0.0,
        }
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def resume(self, checkpoint: Any, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        store.read_checkpoint(checkpoint, self.heads, self.optimizer)
        self.state = state

    def run(self, write: Callable[[Entry], None], advance: Callable[..., None]) -> None:
        """Makes the steps that are left.

        Args:
            write: Takes each entry of the history.
            advance: Moves the progress bar.
        """
        since = Sums(**self.state.pop("since_log"))
        for step in range(self.state["global_step"], self.steps):
            totals, over = self._step(step)
            since.add(totals, over)
            done = self.state["global_step"] = step + 1
            last = done == self.steps
            if done % self.logging == 0 or last:
                entry = since.entry(self.settings.losses)
                entry["learning_rate"] = rate(self.settings, step, self.steps)
                entry["grad_norm"] = self.state["norm"]
                self._log(entry, write, advance)
                since = Sums()
            if done % self.interval == 0 or last:
                stop = self._evaluate(write, advance)
                state = {**self.state, "since_log": asdict(since), **_patience(self.state)}
                best = self.state["best_global_step"] if self.early_stopping else None
                store.write_checkpoint(self.place, self.heads, self.optimizer, state, best)
                if stop:
                    advance(1)
                    return
            advance(1)

    def _step(self, step: int) -> tuple[dict[str, float], dict[str, float]]:
        """One optimiser step; the sums of its parts of the loss, and what they are over."""
        micro = self._micro_batches(step)
        targets = [self.train_part.targets(rows) for rows in micro]
        each = [losses.counts(target, self.heads.hidden_size) for target in targets]
        over = {name: sum(counts[name] for counts in each) for name in losses.PARTS}
        totals = dict.fromkeys(losses.PARTS, 0.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.settings, step, self.steps)
        self.model.train()
        for rows, target in zip(micro, targets, strict=True):
            found, _, _ = self._sums(self.train_part.inputs(rows), target)
            self.accelerator.backward(losses.whole(found, over, self.settings.losses))
            for name in losses.PARTS:
                totals[name] += float(found[name].detach())
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), self.settings.max_grad_norm
        )
        self.state["norm"] = float(norm)
        if not math.isfinite(self.state["norm"]):
            raise ConfigurationError(
                f"the gradient of step {step + 1} is no number any more",
                where="heads.trainer",
                remedy="lower heads.trainer.learning_rate, or set heads.trainer.bf16 to false",
            )
        self.stepper.step()
        self.stepper.zero_grad()
        return totals, over

    def _sums(
        self, inputs: Inputs, targets: losses.Targets
    ) -> tuple[dict[str, Tensor], TwinOutput, losses.Targets]:
        """Sums of the parts of the loss, with what they are of, on the device."""
        device = self.accelerator.device
        output = self.model(
            *(
                getattr(inputs, name).to(device)
                for name in ("hidden", "mask", "coordinates", "phase", "homogeneity")
            )
        )
        moved = losses.Targets(**{n: v.to(device) for n, v in vars(targets).items()})
        temperature = self.settings.losses.temperature
        return losses.sums(output, moved, self.pos_weight, temperature), output, moved

    def _micro_batches(self, step: int) -> list[list[int]]:
        epoch, number = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            order = epoch_order(self.train_part.groups, self.job.seed, epoch)
            size = self.settings.per_device_train_batch_size
            self._epoch = (epoch, divided(order, size))
        together = self.settings.gradient_accumulation_steps
        return self._epoch[1][number * together : (number + 1) * together]

    @torch.no_grad()
    def _evaluate(self, write: Callable[[Entry], None], advance: Callable[..., None]) -> bool:
        """Evaluates on the validation rows; whether training stops early now."""
        if not len(self.validation):
            return False
        self.model.eval()
        found, errors = Sums(), 0.0
        order = epoch_order(self.validation.groups, self.job.seed, 0)
        for rows in divided(order, self.settings.per_device_eval_batch_size):
            targets = self.validation.targets(rows)
            totals, output, moved = self._sums(self.validation.inputs(rows), targets)
            if len(rows) > 1:
                errors += float(losses.style_errors(output.style_signature, moved.groups))
            found.add(
                {name: float(value) for name, value in totals.items()},
                losses.counts(targets, self.heads.hidden_size),
            )
        entry = found.entry(self.settings.losses, "eval_")
        entry["eval_criterion"] = self._criterion(entry, errors, found.over["style"])
        self._log(entry, write, advance)
        if not self.early_stopping:
            return False
        best = self.state["best_metric"]
        if best is None or entry["eval_criterion"] < best:
            self.state["best_metric"] = entry["eval_criterion"]
            self.state["best_global_step"] = self.state["global_step"]
            self.state["without_improvement"] = 0
        else:
            self.state["without_improvement"] += 1
        return bool(self.state["without_improvement"] >= self.job.early_stopping_patience)

    def _criterion(self, entry: Entry, errors: float, anchors: float) -> float:
        """What early stopping goes by: the loss with errors of retrieval for its contrastive part.

        On held-out rows that part grows as soon as signatures are surer of themselves (temperature
        0.07), though they find their like as well as before; it is the largest by far, and would
        stop everything after an epoch or two.
        """
        if not anchors:
            return float(entry["eval_loss"])
        share = errors / anchors
        entry["eval_style_errors"] = share
        change = share - entry["eval_style_loss"]
        return float(entry["eval_loss"] + self.settings.losses.style * change)

    def _log(
        self, entry: Entry, write: Callable[[Entry], None], advance: Callable[..., None]
    ) -> None:
        done = self.state["global_step"]
        whole = {**entry, "epoch": round(done / self.per_epoch, 4), "step": done}
        self.state["log_history"].append(whole)
        write(whole)
        shown = {name: entry[name] for name in ("loss", "eval_loss") if name in entry}
        advance(0, **shown)


def _patience(state: dict[str, Any]) -> dict[str, Any]:
    """The counter of early stopping where :func:`.checkpoints.is_last` looks for it."""
    counter = {"early_stopping_patience_counter": state["without_improvement"]}
    return {"stateful_callbacks": {"EarlyStopping": {"attributes": counter}}}


def _decayed(heads: TwinHeads, decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: matrices with weight decay; biases, norms and scalars without."""
    named = list(heads.parameters())
    return [
        {"params": [p for p in named if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in named if p.dim() < 2], "weight_decay": 0.0},
    ]


@contextmanager
def memory_advice(settings: HeadsSettings) -> Iterator[None]:
    """Says what to do when the memory is not enough.

    Raises:
        ConfigurationError: It was not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not full and "not enough memory" not in text and "can't allocate memory" not in text:
            raise
        batch, together = (
            settings.per_device_train_batch_size,
            settings.gradient_accumulation_steps,
        )
        place = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        raise ConfigurationError(
            f"the memory of {place} is not enough for batches of {batch} turns of up to "
            f"{settings.max_length} tokens ({text.splitlines()[0] if text else 'out of memory'})",
            where="heads.trainer",
            remedy=f"halve per_device_train_batch_size to {max(1, batch // 2)} and double "
            f"gradient_accumulation_steps to {together * 2}; lower "
            f"per_device_eval_batch_size ({settings.per_device_eval_batch_size}) and "
            "heads.max_length; or set use_cpu: true (slower)",
        ) from error
