"""Settings of the training of an encoder: recommended ones, and the check of those that are given.

The defaults are those of source document 003: batch 16, learning rate 2e-5, cosine distance with a
margin of 0.5. Its warm-up of 100 steps would outlast a small run; a tenth of the steps is used.
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from tracetune.errors import ConfigurationError
from tracetune.training import quiet
from tracetune.training.arguments import OWNED, lora_given
from tracetune.training.embedding_options import EmbeddingOptions

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {
        "learning_rate": 2e-5,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",
        "max_grad_norm": 1.0,
    },
}
# Two million weights learn with larger steps. Chosen on sessions of the training window of the
# sample that were set aside for it (docs/embeddings.md); the test window was not looked at.
SETTINGS["embedded"] = {**SETTINGS["default"], "learning_rate": 5e-4, "num_train_epochs": 10}

LORA: dict[str, Any] = {
    "r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.1,
    "target_modules": ["query", "value"],
}
"""Of source document 003, by the names that BERT gives these modules."""

LOSS_NAMES = ("loss", "margin", "scale")
"""Stand beside the arguments of the trainer in a job, as ``beta`` does for DPO."""

_OWNED_HERE = {
    **OWNED,
    "batch_sampler": "batches are drawn so that a continued run sees the same ones",
    "multi_dataset_batch_sampler": "there is one data set",
    "prompts": "prompts belong to the encoder, whose configuration holds them",
    "router_mapping": "the encoder has one way from text to vector",
}


@cache
def trainer_fields() -> dict[str, Any]:
    """Names of the arguments of sentence-transformers' configuration, with their types."""
    quiet.private()
    import dataclasses
    import typing

    from sentence_transformers import SentenceTransformerTrainingArguments

    hints = typing.get_type_hints(SentenceTransformerTrainingArguments)
    fields = dataclasses.fields(SentenceTransformerTrainingArguments)
    return {field.name: hints[field.name] for field in fields if field.init}


def trainer_arguments(options: EmbeddingOptions, profile: str) -> dict[str, Any]:
    """Profile and given values merged and checked, with the loss and its numbers.

    Raises:
        ConfigurationError: A name is unknown or owned by the project, or a value has another type.
    """
    fields = trainer_fields()
    for name in options.trainer:
        reason = "nothing is published by training" if name.startswith("hub_") else None
        reason = _OWNED_HERE.get(name) or reason
        if reason:
            raise ConfigurationError(
                f"{name!r} cannot be set: {reason}", where="embedding.trainer", remedy="remove it"
            )
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=3, cutoff=0.5)
            raise ConfigurationError(
                f"sentence-transformers has no argument {name!r}",
                where="embedding.trainer",
                remedy=f"closest names: {', '.join(close)}" if close else "remove it",
            )
    given = {name: value for name, value in options.trainer.items() if value is not None}
    merged = {**SETTINGS[profile], **given}
    typed = {name: _typed(name, merged[name], fields[name]) for name in sorted(merged)}
    number = {"margin": options.margin} if options.loss == "triplet" else {"scale": options.scale}
    return {**typed, "loss": options.loss, **number}


def _typed(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the type that the trainer states (``"2e-5"`` from YAML becomes a number)."""
    import pydantic

    try:
        adapter = pydantic.TypeAdapter(hint)
    except pydantic.PydanticSchemaGenerationError:
        return value
    try:
        typed = adapter.validate_python(value)
    except pydantic.ValidationError as error:
        raise ConfigurationError(
            f"{name} = {value!r} is not what sentence-transformers takes: "
            f"{error.errors()[0]['msg'].lower()}",
            where="embedding.trainer",
            remedy=f"give a value of type {getattr(hint, '__name__', hint)}",
        ) from error
    return getattr(typed, "value", typed)


def lora_arguments(options: EmbeddingOptions) -> dict[str, Any]:
    """LoRA settings under PEFT's names; empty if all weights are trained."""
    if options.lora is None:
        return {}
    return {**LORA, **lora_given(options.lora)}
