"""Recommended settings per base model.

Learning rates and batch sizes follow the hyper-parameter table of source document 003
(SmolLM-135M: batch 4-8, 2e-4; Qwen2.5-3B: 2-4, 5e-5; Llama-3.1-8B: 1-2, 2e-5). The table names one
rate per model; for the default it is the SFT rate, and DPO gets a quarter of it (2e-4 and 5e-5),
so the other models keep that ratio. Micro-batch x accumulation is 16 everywhere, as in its code.
Its warm-up of 100 steps would outlast a small run; a tenth of the steps is used.
"""

from __future__ import annotations

import copy
import difflib
import math
from typing import Any

from pydantic import BaseModel, ConfigDict

from tracetune.errors import ConfigurationError
from tracetune.training.options import Method

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
_LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ATTENTION}
_COMMON: dict[str, Any] = {
    "num_train_epochs": 3,
    "warmup_steps": 0.1,
    "lr_scheduler_type": "cosine",
    "max_length": 1024,
    "max_grad_norm": 1.0,
}


class Profile(BaseModel):
    """Settings for one base model: trainer arguments per method, and LoRA.

    Attributes:
        min_steps: Optimiser steps that SFT needs on this base, whatever the number of rows: a base
            that knows little has to see few rows more often. 0 for a base that knows enough.
        max_epochs: Most epochs that this may lead to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    min_steps: int = 0
    max_epochs: int = 20
    lora: dict[str, Any]
    sft: dict[str, Any]
    dpo: dict[str, Any]
    kto: dict[str, Any]


def _profile(
    name: str,
    rate: float,
    batch: int,
    *,
    dpo_rate: float | None = None,
    dpo_epochs: int = 3,
    kto_rate: float | None = None,
    min_steps: int = 0,
    modules: list[str] = ATTENTION,
    **trainer: Any,
) -> Profile:
    common = {
        **_COMMON,
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": batch,
        "gradient_accumulation_steps": 16 // batch,
        **trainer,
    }
    preference = {"beta": 0.1, "loss_type": ["sigmoid"]}
    return Profile(
        name=name,
        min_steps=min_steps,
        lora={**_LORA, "target_modules": modules},
        sft={**common, "learning_rate": rate},
        dpo={
            **common,
            **preference,
            "learning_rate": dpo_rate or rate / 4,
            "num_train_epochs": dpo_epochs,
        },
        kto={**common, "beta": 0.1, "learning_rate": kto_rate or rate / 4},
    )


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _profile("default", 2e-4, 4),
        _profile("smollm2-135m", 2e-4, 8),
        _profile("smollm2-360m", 2e-4, 4),
        _profile("qwen2.5-3b", 5e-5, 4),
        _profile("llama-3.1-8b", 2e-5, 2),
        # A model of two million weights learns with far larger steps than the table's, and
        # needs its MLP layers too. More DPO than this pushes its answers off the known names.
        _profile(
            "embedded",
            5e-3,
            16,
            min_steps=180,
            dpo_rate=1e-4,
            kto_rate=5e-3,  # it starts from a base that has not seen the task
            dpo_epochs=2,
            modules=[*ATTENTION, "gate_proj", "up_proj", "down_proj"],
            per_device_eval_batch_size=32,
            num_train_epochs=4,
        ),
    )
}

_KNOWN_IDS = {
    "embedded": "embedded",
    "smollm2-135m": "smollm2-135m",
    "smollm2-135m-instruct": "smollm2-135m",
    "smollm2-360m": "smollm2-360m",
    "smollm2-360m-instruct": "smollm2-360m",
    "qwen2.5-3b": "qwen2.5-3b",
    "qwen2.5-3b-instruct": "qwen2.5-3b",
    "llama-3.1-8b": "llama-3.1-8b",
    "llama-3.1-8b-instruct": "llama-3.1-8b",
    "meta-llama-3.1-8b": "llama-3.1-8b",
    "meta-llama-3.1-8b-instruct": "llama-3.1-8b",
}


def choose(model_id: str, profile: str | None = None) -> Profile:
    """The profile called ``profile``, else the one known for ``model_id``, else ``default``.

    Raises:
        ConfigurationError: There is no profile of that name.
    """
    if profile is None:
        return PROFILES[_KNOWN_IDS.get(model_id.rstrip("/").split("/")[-1].lower(), "default")]
    if profile not in PROFILES:
        close = difflib.get_close_matches(profile, PROFILES, n=1)
        hint = f"did you mean {close[0]!r}? Known" if close else "known"
        raise ConfigurationError(
            f"there is no profile {profile!r}; {hint}: {', '.join(PROFILES)}",
            where="base_model.profile",
            remedy="choose one of these, or null to choose by base_model.id",
        )
    return PROFILES[profile]


def merge(recommended: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``recommended`` overlaid by what was given; a given ``None`` means "as recommended"."""
    chosen = {name: value for name, value in given.items() if value is not None}
    return {**copy.deepcopy(recommended), **copy.deepcopy(chosen)}


def settings(profile: Profile, method: Method) -> dict[str, Any]:
    """Trainer arguments that ``profile`` recommends for ``method``."""
    return copy.deepcopy(getattr(profile, method))


def epochs(
    profile: Profile,
    method: Method,
    rows: int,
    trainer: dict[str, Any],
    min_steps: int | None = None,
) -> int | float:
    """Epochs of a job: those of its arguments, or more if the profile asks for a minimum of steps.

    Args:
        profile: The profile of the base model.
        method: The method; only SFT and KTO, which start from the base, have a minimum.
        rows: Training rows.
        trainer: Arguments of the trainer; ``num_train_epochs`` comes from the profile.
        min_steps: The minimum for this task; None for that of the profile.
    """
    planned: int | float = trainer["num_train_epochs"]
    if not profile.min_steps or method not in ("sft", "kto") or not rows:
        return planned
    batch = int(trainer["per_device_train_batch_size"] * trainer["gradient_accumulation_steps"])
    needed = math.ceil((min_steps or profile.min_steps) / math.ceil(rows / batch))
    needed = min(needed, profile.max_epochs)
    return needed if needed > planned else planned
