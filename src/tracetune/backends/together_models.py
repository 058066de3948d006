"""Which models Together AI trains: a table for names, and the limits that the service states."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tracetune.errors import ConfigurationError
from tracetune.training.job import TrainingJob

TABLE = Path(__file__).with_name("together_models.yml")
_WHERE = "together.model"


class HostedModel(BaseModel):
    """A row of the table.

    Attributes:
        id: Name for training.
        hub: The same weights on the model hub.
        sft: Longest row for SFT, in tokens.
        dpo: Longest row for DPO; None if only the service knows.
        full: Whether all weights can be trained, not LoRA alone; LoRA can be done with all.
        size: Weights in billions; decides the rate.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    hub: str
    sft: int
    dpo: int | None
    full: bool
    size: float = Field(gt=0)


class Rate(BaseModel):
    """What a million tokens of training cost, by the size of the model.

    Attributes:
        up_to: Weights in billions up to which the rate holds.
        least: US dollars for the cheapest kind of training (LoRA, SFT).
        most: US dollars for the dearest kind (all weights, DPO).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    up_to: float
    least: float
    most: float


class Rates(BaseModel):
    """The rates that were public on one day.

    Attributes:
        as_of: The day, ISO.
        source: Where they were read.
        usd_per_million: The rates, smallest models first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: str
    source: str
    usd_per_million: list[Rate]


class Table(BaseModel):
    """The models that were trained when the table was written.

    Attributes:
        as_of: The day on which it was read, ISO.
        source: Where it was read.
        rates: What training costs.
        models: The rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: str
    source: str
    rates: Rates
    models: list[HostedModel]

    def rate(self, model: str) -> Rate | None:
        """The rate of a model; None if the table does not know it."""
        size = next((row.size for row in self.models if row.id == model), None)
        if size is None:
            return None
        return next((rate for rate in self.rates.usd_per_million if size <= rate.up_to), None)


class _LoraLimits(BaseModel):
    max_batch_size: int
    max_batch_size_dpo: int
    max_rank: int
    min_batch_size: int
    target_modules: list[str]


class Limits(BaseModel):
    """What the service states of a model today; fields that are not used here are left out.

    Attributes:
        max_seq_length_sft: Longest row for SFT, in tokens.
        max_seq_length_dpo: Longest row for DPO; 0 if the model cannot do DPO.
        min_max_seq_length: Least value of ``max_seq_length``.
        max_num_epochs: Most epochs.
        max_num_evals: Most evaluations.
        min_learning_rate: Smallest learning rate.
        max_learning_rate: Largest learning rate.
        supports_full_training: Whether all weights can be trained.
        lora_training: Ranks, batch sizes and modules of LoRA; None if it cannot be done.
    """

    max_seq_length_sft: int
    max_seq_length_dpo: int
    min_max_seq_length: int
    max_num_epochs: int
    max_num_evals: int
    min_learning_rate: float
    max_learning_rate: float
    supports_full_training: bool
    lora_training: _LoraLimits | None = None

    @property
    def dpo(self) -> bool:
        """Whether the model can be trained by DPO."""
        lora = self.lora_training
        return self.max_seq_length_dpo > 0 and lora is not None and lora.max_batch_size_dpo > 0

    def longest(self, method: str) -> int:
        """Longest row for a method, in tokens."""
        return self.max_seq_length_dpo if method == "dpo" else self.max_seq_length_sft


@cache
def table() -> Table:
    """The table that comes with the project."""
    import yaml

    return Table.model_validate(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def read_limits(answer: dict[str, Any], model: str) -> Limits:
    """Limits from an answer of the service.

    Raises:
        ConfigurationError: The answer is not one.
    """
    try:
        return Limits.model_validate(answer)
    except ValidationError as error:
        fields = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"])
        raise ConfigurationError(
            f"the limits of {model!r} cannot be read ({fields})",
            where=_WHERE,
            remedy="the service has changed its answer; report it",
        ) from None


def choose(job: TrainingJob, given: str | None) -> str:
    """The hosted model that a job trains.

    Args:
        job: The job; its base is the hosted model itself, or a local copy of it.
        given: ``together.model``.

    Raises:
        ConfigurationError: None is known for the base, or the name is one for inference only.
    """
    return hosted_name(job.base.hosted or job.base.id, given)


def hosted_name(base: str, given: str | None) -> str:
    """The hosted model of a base; known before anything is done.

    Args:
        base: ``base_model.id``, or the name of its folder.
        given: ``together.model``.

    Raises:
        ConfigurationError: None is known for the base, or the name is one for inference only.
    """
    if given is not None:
        refuse_inference_names(given)
        return given
    refuse_inference_names(base, where="base_model.id")
    for row in table().models:
        if base in (row.id, row.hub):
            return row.id
    raise ConfigurationError(
        f"no hosted model is known for base_model.id={base!r}{_closest(base)}",
        where=_WHERE,
        remedy="set together.model to the id of the hosted model that the local base is a copy of, "
        f"or base_model.id to one of: {', '.join(row.id for row in table().models[:6])} … "
        "(docs/together.md)",
    )


def refuse_inference_names(name: str, *, where: str = _WHERE) -> None:
    """Refuses names that answer but cannot be trained, such as ``…-Turbo``.

    Raises:
        ConfigurationError: It is one; the message has the right name.
    """
    ending = name.lower().rsplit("-", 1)[-1]
    if ending not in ("turbo", "lite", "free"):
        return
    stem = name[: -len(ending) - 1]
    known = {row.id for row in table().models}
    right = next((found for found in (f"{stem}-Reference", stem) if found in known), None)
    hint = f"the name for training is {right!r}" if right else f"it is not trained{_closest(stem)}"
    raise ConfigurationError(
        f"{name!r} is a name for inference; {hint}",
        where=where,
        remedy=f"set it to {right}" if right else "choose a model of docs/together.md",
    )


def unknown_model(name: str, reason: str) -> ConfigurationError:
    """The error for a model that the service does not train; ``reason``: what it says."""
    return ConfigurationError(
        f"Together AI does not train {name!r} ({reason}){_closest(name)}",
        where=_WHERE,
        remedy="choose a model of docs/together.md; names for inference are often others than "
        "those for training",
    )


def _closest(name: str) -> str:
    by_name = {row.id.lower(): row.id for row in table().models}
    by_name |= {row.id.split("/")[-1].lower(): row.id for row in table().models}
    wanted = (name.lower(), name.split("/")[-1].lower())
    found = [
        by_name[close]
        for text in wanted
        for close in difflib.get_close_matches(text, by_name, n=2, cutoff=0.6)
    ]
    names = list(dict.fromkeys(found))[:3]
    return f"; did you mean {' or '.join(repr(item) for item in names)}?" if names else ""
