"""The frozen base: loaded, its phase-1 LoRA merged, run for its hidden states.

Merging is done in float32: in bfloat16 small updates are rounded away.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.errors import ConfigurationError, DataError, GateError
from tracetune.files import read_json, sha256_file
from tracetune.training import base as base_model
from tracetune.training.base import BaseModelRef
from tracetune.training.heads.config import ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_CHANGE = 1e-3
"""Largest difference that merging may make to a hidden state, relative to their size."""


def hidden_size_of(config: Any) -> int:
    """Width of a model of transformers; of its text part if it has several (Gemma 3).

    Raises:
        ConfigurationError: The configuration states none.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(text, "hidden_size", None)
    if not isinstance(size, int) or size < 1:
        raise ConfigurationError(
            f"the configuration of {type(config).__name__} states no hidden size",
            where="base model",
            remedy="use a causal language model of transformers (Llama, Qwen, Gemma, Mistral …)",
        )
    return size


def last_hidden(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Last hidden states, B x T x d, of a normal forward pass without the output layer.

    Positions count from the first real token, so that padding on the left moves nothing.

    Args:
        model: A causal language model of transformers.
        input_ids: B x T.
        attention_mask: B x T, 0 where padding stands.

    Raises:
        ConfigurationError: The model does not give hidden states.
    """
    import torch

    body = model.base_model
    if body is model:
        raise ConfigurationError(
            f"{type(model).__name__} has no body that gives hidden states",
            where="base model",
            remedy="use a causal language model of transformers (Llama, Qwen, Gemma, Mistral …)",
        )
    device = next(body.parameters()).device
    mask = attention_mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        output = body(
            input_ids=input_ids.to(device),
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
        )
    hidden: Tensor = output.last_hidden_state
    return hidden


def adapter_hash(base: BaseModelRef, adapter: Path | None) -> str | None:
    """SHA-256 of the weights of a phase-1 adapter that was checked to fit its base.

    Raises:
        DataError: It is no adapter, or it was made for another base.
        ConfigurationError: It is no plain LoRA adapter, which could not be merged.
    """
    if adapter is None:
        return None
    weights, config = adapter / ADAPTER_WEIGHTS, adapter / "adapter_config.json"
    if not weights.is_file() or not config.is_file():
        raise DataError(
            "there is no phase-1 adapter",
            where=str(adapter),
            remedy="give the folder with adapter_config.json, or none for the base as it is",
        )
    manifest = adapter / "manifest.json"
    if manifest.is_file():
        made_on = read_json(manifest)["base"]
        same = made_on["weights_sha256"] == base.weights_sha256
        if made_on["weights_sha256"] == base_model.UNKNOWN:
            # Trained by a service that shows no weights: only the names can be compared.
            same = made_on["id"] in (base.id, base.hosted)
        if not same:
            raise DataError(
                f"the phase-1 adapter was made for another base ({made_on['id']}, "
                f"{made_on['weights_sha256'][:12]}) than this one ({base.id}, "
                f"{base.weights_sha256[:12]})",
                where=str(adapter),
                remedy="give the base model of that adapter, or train phase 1 again",
            )
    found = read_json(config)
    if found.get("peft_type") != "LORA" or found.get("modules_to_save"):
        raise ConfigurationError(
            "the phase-1 adapter is no plain LoRA adapter, so it cannot be merged",
            where=str(adapter),
            remedy="train phase 1 with LoRA and without whole modules",
        )
    return sha256_file(weights)


def load(
    base: BaseModelRef, adapter: Path | None, *, dtype: str = "float32", device: str = "cpu"
) -> Any:
    """The frozen model: base with the phase-1 adapter merged, in evaluation mode.

    Args:
        base: The base model.
        adapter: Folder of the phase-1 LoRA; None for the base as it is.
        dtype: Type of its weights after merging.
        device: Where it runs.

    Raises:
        ConfigurationError: The adapter does not fit the base: another width, other modules.
        GateError: Merged, it computes something else.
    """
    import torch

    try:
        model: Any = base_model.load_model(base, adapter)
    except (RuntimeError, ValueError) as error:
        if adapter is None or "memory" in str(error):
            raise
        raise _does_not_fit(adapter, str(error).splitlines()[-1].strip()) from error
    if adapter is not None:
        _check_all_is_there(model, adapter)
        ids = torch.arange(3, 19).unsqueeze(0)
        ones = torch.ones_like(ids)
        before = last_hidden(model.get_base_model(), ids, ones)
        model = model.merge_and_unload()
        change = float((last_hidden(model, ids, ones) - before).abs().max() / before.abs().max())
        if not change <= _LARGEST_CHANGE:  # also when it is no number
            raise GateError(
                f"merged, the base computes something else: its states differ by {change:.2g}",
                where=str(adapter),
                remedy="report this with the manifest of the adapter; PEFT merged it wrongly",
            )
    model.requires_grad_(False)
    model.eval()
    return model.to(device, getattr(torch, dtype))


def _check_all_is_there(model: Any, adapter: Path) -> None:
    """Refuses an adapter of which PEFT took only a part, which it does with a mere warning."""
    from safetensors import safe_open

    taken = {name.replace(".default.", ".") for name in model.state_dict() if ".lora_" in name}
    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as file:
        stored: set[str] = set(file.keys())
    if other := sorted(stored ^ taken):
        raise _does_not_fit(adapter, f"{len(other)} weights have no place, such as {other[0]}")


def _does_not_fit(adapter: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the phase-1 adapter does not fit the base: {reason}",
        where=str(adapter),
        remedy="give the base model of that adapter, or train phase 1 again on this one",
    )
