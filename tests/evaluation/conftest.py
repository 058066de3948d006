"""A tiny Llama with a tokenizer and two adapters, and rows for it: made once per session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tracetune.evaluation.options import EvaluationOptions
from tracetune.outputs import OutputSpec
from tracetune.records import Example, Message, Preference, make_example, make_preference

SYSTEM = "Answer with the agent."
REQUESTS = {
    "weather": ["will it rain", "is it cold in Oslo", "sun tomorrow?", "wind now"],
    "mail": ["read my mail", "send a note to Ann", "any new letters", "reply to Bob please"],
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def answer_text(agent: str) -> str:
    return f'{{"agent":"{agent}"}}'


def example(text: str, agent: str, number: int = 0, group: str | None = None) -> Example:
    return make_example(
        prompt=[Message(role="system", content=SYSTEM), Message(role="user", content=text)],
        completion=[Message(role="assistant", content=answer_text(agent))],
        source="phoenix",
        tenant="demo",
        ids={"span_id": f"span-{number}"},
        group=group or f"trace:{number}",
        created_at=datetime(2026, 5, 1, tzinfo=UTC) + timedelta(minutes=number),
        tags={"target": agent},
    )


def preference(text: str, better: str, worse: str, number: int = 0) -> Preference:
    return make_preference(
        prompt=[Message(role="system", content=SYSTEM), Message(role="user", content=text)],
        chosen=[Message(role="assistant", content=answer_text(better))],
        rejected=[Message(role="assistant", content=answer_text(worse))],
        source="phoenix",
        tenant="demo",
        ids={"span_id": f"span-{number}"},
        group=f"trace:{number}",
        created_at=datetime(2026, 5, 1, tzinfo=UTC),
    )


@pytest.fixture(scope="session")
def rows() -> list[Example]:
    found = [(text, agent) for agent, texts in REQUESTS.items() for text in texts]
    return [example(text, agent, number) for number, (text, agent) in enumerate(found)]


@pytest.fixture(scope="session")
def output() -> OutputSpec:
    return OutputSpec(target=("agent", "recommended_agent"), known=("mail", "weather"))


@pytest.fixture(scope="session")
def options() -> EvaluationOptions:
    return EvaluationOptions(max_new_tokens=24, batch_size=3, latency_rows=2, bootstrap=200)


@dataclass(frozen=True)
class Tiny:
    """Folders of a base model and of adapters on it."""

    base: Path
    adapters: dict[str, Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, rows: list[Example]) -> Tiny:
    """A base that was shown the rows for some steps, and two adapters with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = _tokenizer(rows)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    _show(model, tokenizer, rows, steps=60)
    base = folder / "base"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    adapters = {}
    for seed, name in enumerate(("sft", "dpo")):
        torch.manual_seed(seed + 1)
        lora = LoraConfig(
            r=8,
            lora_alpha=16,
            target_modules=["q_proj", "v_proj"],
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        model = LlamaForCausalLM.from_pretrained(base)
        adapters[name] = folder / name
        get_peft_model(model, lora).save_pretrained(adapters[name])
        tokenizer.save_pretrained(adapters[name])
    return Tiny(base, adapters)


def _tokenizer(rows: list[Example]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [message.content for row in rows for message in [*row.prompt, *row.completion]],
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _show(model: Any, tokenizer: Any, rows: list[Example], steps: int) -> None:
    """Lets the model see whole conversations, so that its answers are JSON and end."""
    import torch

    from tracetune.evaluation.generate import render

    texts = [render(tokenizer, [*row.prompt, *row.completion]) for row in rows]
    batch = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
