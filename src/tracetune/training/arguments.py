"""Trainer and LoRA arguments under the libraries' own names: checked before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from typing import Any

from tracetune.errors import ConfigurationError
from tracetune.training import profiles, quiet
from tracetune.training.options import Method, StageOptions

_PLACE = "the project decides where files go and how a run continues"
_TEMPLATE = "it would change the chat template or tokens, which are part of the base model"
_BEST = "the project evaluates, saves and keeps the best whenever there are validation rows"
OWNED = {
    "output_dir": _PLACE,
    "resume_from_checkpoint": _PLACE,
    "restore_callback_states_from_checkpoint": _PLACE,
    "save_only_model": "a run without optimiser state cannot be continued",
    "save_strategy": "set save_steps; checkpoints are what a killed run continues from",
    "save_total_limit": "the newest and the best checkpoint are kept",
    "eval_strategy": _BEST,
    "do_train": _PLACE,
    "do_eval": _BEST,
    "do_predict": _PLACE,
    "load_best_model_at_end": _BEST,
    "ignore_data_skip": "a continued run would see rows twice",
    "report_to": "it is one parameter for all stages; set report_to at the top level",
    "run_name": "a run is called <tenant>/<name>/<pipeline>.<stage> in every log",
    "project": "the project of experiment logs is called tracetune",
    "trackio_space_id": "the log of trackio stays on this machine",
    "disable_tqdm": "the project shows one progress bar of its own",
    "seed": "the seed of the job is used",
    "data_seed": "the seed of the job is used",
    "full_determinism": "the job is deterministic already",
    "push_to_hub": "nothing is published by training",
    "trust_remote_code": "code of a model repository is never run",
    "model_init_kwargs": "the base model is loaded once, by its hash",
    "chat_template_path": _TEMPLATE,
    "eos_token": _TEMPLATE,
    "pad_token": _TEMPLATE,
    "dataset_text_field": "only conversations are trained",
    "dataset_kwargs": "rows are prepared by the trainer, as the preflight report describes",
    "truncation_mode": "rows are cut at their end or not at all; see over_length",
    "sync_ref_model": "the reference stays the model that training started from",
}
_OWNED_PREFIXES = {"hub_": "nothing is published by training"}
_LORA_SHORT = {"alpha": "lora_alpha", "dropout": "lora_dropout"}
_LORA_OWNED = {
    "task_type": "only causal language models are tuned",
    "peft_type": "the method is LoRA",
    "base_model_name_or_path": "filled in from the base model",
    "revision": "filled in from the base model",
    "inference_mode": "set by training",
    "auto_mapping": "set by PEFT",
    "peft_version": "set by PEFT",
}


@cache
def trainer_fields(method: Method) -> dict[str, Any]:
    """Names of the arguments of TRL's configuration for ``method``, with their types."""
    quiet.private()
    import dataclasses
    import typing

    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.sft_config import SFTConfig

    config = {"sft": SFTConfig, "dpo": DPOConfig, "kto": KTOConfig}[method]
    hints = typing.get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config) if field.init}


def trainer_arguments(method: Method, given: dict[str, Any], profile: str) -> dict[str, Any]:
    """Profile and given values merged and checked.

    Args:
        method: ``sft``, ``dpo`` or ``kto``.
        given: Values by TRL's names; ``None`` means "from the profile".
        profile: Name of a profile.

    Returns:
        The arguments that differ from TRL's defaults, in plain JSON values.

    Raises:
        ConfigurationError: A name is unknown or owned by the project, or a value has another type.
    """
    fields = trainer_fields(method)
    for name in given:
        reason = OWNED.get(name) or next(
            (text for prefix, text in _OWNED_PREFIXES.items() if name.startswith(prefix)), None
        )
        if reason:
            raise ConfigurationError(
                f"{name!r} cannot be set: {reason}",
                where=f"{method}.trainer",
                remedy="remove it",
            )
        if name not in fields:
            raise _unknown(name, fields, f"{method}.trainer", "TRL")
    recommended = profiles.settings(profiles.choose("", profile), method)
    merged = profiles.merge(recommended, given)
    return {name: _typed(method, name, merged[name], fields[name]) for name in sorted(merged)}


def _unknown(name: str, known: Iterable[str], where: str, library: str) -> ConfigurationError:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return ConfigurationError(
        f"{library} has no argument {name!r}",
        where=where,
        remedy=f"closest names: {', '.join(close)}" if close else "remove it",
    )


def _typed(method: Method, name: str, value: Any, hint: Any) -> Any:
    """``value`` as the type that the trainer states (``"5e-5"`` from YAML becomes a number)."""
    import pydantic

    try:
        adapter = pydantic.TypeAdapter(hint)
    except pydantic.PydanticSchemaGenerationError:
        return value
    try:
        typed = adapter.validate_python(value)
    except pydantic.ValidationError as error:
        raise ConfigurationError(
            f"{name} = {value!r} is not what TRL takes: {error.errors()[0]['msg'].lower()}",
            where=f"{method}.trainer",
            remedy=f"give a value of type {getattr(hint, '__name__', hint)}",
        ) from error
    return getattr(typed, "value", typed)  # an enumeration stays the text it stands for


def lora_arguments(given: dict[str, Any], profile: str) -> dict[str, Any]:
    """LoRA settings under PEFT's names, profile and given values merged and checked.

    Raises:
        ConfigurationError: A name is unknown, owned by the project, or given twice.
    """
    return profiles.merge(profiles.choose("", profile).lora, lora_given(given))


def lora_given(given: dict[str, Any]) -> dict[str, Any]:
    """The LoRA values that were really given, under PEFT's names.

    Raises:
        ConfigurationError: A name is unknown, owned by the project, or given twice.
    """
    quiet.private()
    import dataclasses

    from peft import LoraConfig

    fields = {field.name for field in dataclasses.fields(LoraConfig) if field.init}
    chosen: dict[str, Any] = {}
    for short, value in given.items():
        name = _LORA_SHORT.get(short, short)
        if name in _LORA_OWNED:
            raise ConfigurationError(
                f"{name!r} cannot be set: {_LORA_OWNED[name]}", where="lora", remedy="remove it"
            )
        if name not in fields:
            raise _unknown(name, [*fields, *_LORA_SHORT], "lora", "PEFT's LoRA")
        if value is None:
            continue
        if name in chosen:
            raise ConfigurationError(
                f"{name!r} is given twice, once by its short name",
                where="lora",
                remedy="keep one of them",
            )
        chosen[name] = value
    return chosen


def mask_switches(method: Method, trainer: dict[str, Any]) -> tuple[bool, bool]:
    """TRL's ``(completion_only_loss, assistant_only_loss)`` for prompt-completion rows."""
    if method != "sft":
        return True, False
    completion_only = trainer.get("completion_only_loss")
    return completion_only is not False, bool(trainer.get("assistant_only_loss"))


def stage_arguments(
    method: Method, stage: StageOptions, profile: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trainer and LoRA arguments of a stage, checked."""
    return (
        trainer_arguments(method, stage.trainer, profile),
        lora_arguments(stage.lora, profile),
    )
