"""Heads trained once for all tests, and tiny models of every architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.heads.helpers import heads_job
from tracetune.training.base import BaseModelRef
from tracetune.training.run import run


@pytest.fixture(scope="session")
def trained(base: BaseModelRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder of heads on the base as it is; work beside it."""
    root = tmp_path_factory.mktemp("heads")
    return run(heads_job(base, root / "rows", validation=2), root / "model", root / "work")


SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny_model(kind: str, **changes: Any) -> Any:
    """A random causal language model of one architecture."""
    import torch
    import transformers as t

    sizes = {**SIZES, **changes}
    torch.manual_seed(3)
    if kind == "gemma3":
        # Only the text part has these sizes; the language model is inside a larger configuration.
        vision = {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        }
        config = t.Gemma3Config(text_config=sizes, vision_config=vision, mm_tokens_per_image=4)
        return t.Gemma3ForConditionalGeneration(config).eval()
    configs = {
        "llama": t.LlamaConfig,
        "qwen2": t.Qwen2Config,
        "qwen3": t.Qwen3Config,
        "gemma3_text": t.Gemma3TextConfig,
        "mistral": t.MistralConfig,
    }
    if kind in ("gemma3_text", "mistral"):
        sizes["sliding_window"] = 8
    return t.AutoModelForCausalLM.from_config(configs[kind](**sizes)).eval()


KINDS = ("llama", "qwen2", "qwen3", "gemma3_text", "gemma3", "mistral")


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    return {kind: tiny_model(kind) for kind in KINDS}
