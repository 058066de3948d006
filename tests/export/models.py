"""Tiny models of all architectures and tokenizers, made at test time; random weights will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracetune.export.vocabulary import SPLITS
from tracetune.files import sha256_file, write_json
from tracetune.training import base, embedded_text, quiet
from tracetune.training.options import BaseModelOptions

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful desk.<|im_end|>\n' }}{% endif %}" + CHATML
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
ODD = (
    "{% for message in messages %}[{{ message['role'] | upper }}] {{ message['content'] }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}[ANSWER]{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """What a tiny model looks like."""

    architecture: str = "Llama"
    split: str = "gpt-2"
    template: str = CHATML
    width: int = 256
    inner: int = 256
    layers: int = 2
    add_bos: bool = False
    padding: int = 0
    config: dict[str, Any] = field(default_factory=dict)


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
SHAPES = {
    "llama": Shape(
        split="llama-bpe",
        template=LLAMA3,
        add_bos=True,
        layers=4,
        config={
            "rope_parameters": LLAMA3_ROPE,
            "num_key_value_heads": 2,
            "tie_word_embeddings": False,
        },
    ),
    "qwen2": Shape(
        "Qwen2",
        split="qwen2",
        template=CHATML_DEFAULT,
        padding=19,
        config={"num_key_value_heads": 2, "tie_word_embeddings": False},
    ),
    "qwen3": Shape(
        "Qwen3",
        split="qwen2",
        padding=8,
        config={"head_dim": 128, "num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    "smollm": Shape(split="smollm", config={"tie_word_embeddings": True, "rope_theta": 1e5}),
}


def make(shape: Shape, folder: Path, *, seed: int = 3) -> Path:
    """Writes a model of this shape with random weights into ``folder``."""
    import torch
    import transformers

    tokenizer = train_tokenizer(shape)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer) + shape.padding,
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "initializer_range": 0.08,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **shape.config,
    }
    torch.manual_seed(seed)
    config = getattr(transformers, f"{shape.architecture}Config")(**settings)
    model = getattr(transformers, f"{shape.architecture}ForCausalLM")(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias") or "norm" in name:  # they start at 0 and 1: nothing to confuse
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
    model.save_pretrained(folder)
    return folder


def train_tokenizer(shape: Shape) -> Any:
    """A byte-level BPE tokenizer that splits text by the rule of that name."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors, trainers
    from tokenizers import pre_tokenizers as pre
    from transformers import PreTrainedTokenizerFast

    llama3 = shape.split == "llama-bpe"
    specials = (
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        if llama3
        else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    )
    tokenizer = Tokenizer(models.BPE(ignore_merges=llama3))
    if shape.split in SPLITS.values():
        [rule] = [rule for rule, name in SPLITS.items() if name == shape.split]
        step = pre.Split(Regex(rule), behavior="isolated")
        tokenizer.pre_tokenizer = pre.Sequence(
            [step, pre.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    elif shape.split == "smollm":
        tokenizer.pre_tokenizer = pre.Sequence(
            [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
        )
    else:
        tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    if shape.split == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=sorted(pre.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(embedded_text.texts(7, 60), trainer)
    if shape.add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{specials[0]} $A", special_tokens=[(specials[0], 0)]
        )
    fast: Any = PreTrainedTokenizerFast
    ready = fast(
        tokenizer_object=tokenizer,
        bos_token=specials[0] if llama3 else None,
        eos_token=specials[-1],
        pad_token=specials[0],
        clean_up_tokenization_spaces=False,
    )
    ready.chat_template = shape.template
    return ready


def release(model: Path, folder: Path, *, instruction: str | None = "Answer in JSON.") -> Path:
    """A released adapter with random weights for a model, in the form in which pipelines leave it.

    Args:
        model: Folder of the base model.
        folder: Where the release goes.
        instruction: System turn that it was trained with.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    ref = base.resolve(BaseModelOptions(id=str(model)), folder)
    torch.manual_seed(5)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"]
    )
    with quiet.quiet():
        adapted = get_peft_model(base.load_model(ref), config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # which starts at 0: an adapter that changes nothing
            torch.nn.init.normal_(weight, std=0.05)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    write_json(
        folder / "manifest.json",
        {
            "method": "sft",
            "job_hash": "0" * 64,
            "base": ref.identity(),
            "dataset": {"files": {"train.jsonl": "1" * 64}, "rows": {"train.jsonl": 24}},
            "start_from": None,
            "adapter_sha256": sha256_file(folder / "adapter_model.safetensors"),
        },
    )
    write_json(
        folder / "serving.json",
        {
            "base": ref.model_dump(),
            "instruction": instruction,
            "output": {"compare": "text"},
            "max_new_tokens": 12,
            "trained_until": None,
        },
    )
    gate = {"status": "judged", "promote": True, "adapter": "sft", "verdict": "Promote: better."}
    check = {"name": "n", "value": 0.1, "limit": 0.0, "passed": True, "words": "10 points better"}
    write_json(folder / "gate.json", {**gate, "checks": [check]})
    write_json(folder / "status.json", {"status": "trained"})
    return folder
