"""The embedded base model: a small Llama that the project builds itself, on any laptop, offline.

A byte-level BPE tokenizer, a ChatML-like template and a few million weights, trained for about a
minute on generated text (:mod:`tracetune.training.embedded_text`), so that LoRA has something to
adapt. The same recipe, threads and library versions give the same weights; the hash of the recipe
names the folder in the cache.

One policy for the beginning of a sequence: the template writes ``<|bos|>`` once, the tokenizer adds
none. A turn ends with ``<|im_end|>``, which is the end-of-sequence token and is trained; padding is
a token of its own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.training import embedded_programs, embedded_text, leaks, recipe_cache
from tracetune.training.leaks import LeakReport
from tracetune.training.options import EmbeddedRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CODE_VERSION = 7
"""Raised whenever this module would build another model from the same recipe."""

PAD, BOS, START, END = "<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if not loop.first %}{{- '\\n' }}{%- endif %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '\\n<|im_start|>assistant\\n' }}{%- endif %}"
)
EMBEDDING_START = 1.5
"""Length of the part of an embedding that says what a word is about, against the random part."""
OTHER_SHARE = 0.15
"""Share of the tokens outside the answers that are learned as well."""
WORD_REPEATS = 200
"""How often the tokenizer reads the words that shall be tokens of their own."""
_LIBRARIES = ("torch", "transformers", "tokenizers")


def recipe_hash(recipe: EmbeddedRecipe) -> str:
    """SHA-256 over everything that decides the weights."""
    return recipe_cache.recipe_hash(recipe, _LIBRARIES, template=TEMPLATE, code=CODE_VERSION)


def build(recipe: EmbeddedRecipe, cache_root: Path) -> Path:
    """Folder of the model of this recipe; built first if the cache does not have it.

    Args:
        recipe: How the model is made.
        cache_root: Folder that holds one folder per recipe.

    Returns:
        Folder with config, safetensors, tokenizer, template and ``recipe.json``.
    """
    name = recipe_hash(recipe)
    return recipe_cache.cached(
        recipe, name, cache_root / name[:16], lambda place: _make(recipe, place)
    )


def _make(recipe: EmbeddedRecipe, folder: Path) -> float:
    """Writes tokenizer and model into ``folder`` and gives the final loss."""
    texts = embedded_text.conversations(recipe.seed, recipe.conversations)
    tokenizer = train_tokenizer(recipe, texts)
    tokenizer.save_pretrained(folder)
    return _pretrain(recipe, tokenizer, texts, folder)


def check_no_leak(recipe: EmbeddedRecipe, held_out: list[str]) -> LeakReport:
    """Proves that none of the held-out user texts is in the text of this recipe's model.

    Raises:
        GateError: One is, or nearly is.
    """
    known = embedded_text.texts(recipe.seed, recipe.conversations)
    return leaks.check_no_leak(known, held_out)


def train_tokenizer(
    recipe: EmbeddedRecipe, conversations: list[embedded_text.Conversation]
) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with the chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # a digit is a token: numbers are copied digit by digit, whatever stands before them
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[PAD, BOS, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    turns = (turn["content"] for talk in conversations for turn in talk)
    corpus = embedded_text.read_corpus()
    words = [*corpus.words, *embedded_text.line_words(), *embedded_programs.words()] * WORD_REPEATS
    tokenizer.train_from_iterator((text for part in (turns, words) for text in part), trainer)
    tokenizer_class: Any = PreTrainedTokenizerFast
    fast = tokenizer_class(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=recipe.max_positions,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    fast.chat_template = TEMPLATE
    ready: PreTrainedTokenizerBase = fast
    return ready


def _pretrain(
    recipe: EmbeddedRecipe,
    tokenizer: PreTrainedTokenizerBase,
    conversations: list[embedded_text.Conversation],
    folder: Path,
) -> float:
    """Trains the model on the conversations, once, and saves it; the last loss."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tracetune.training.muon import Muon
    from tracetune.training.progress import bar
    from tracetune.training.seeds import deterministic

    with deterministic(recipe.seed, recipe.threads):
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=recipe.max_positions,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        model: Any = LlamaForCausalLM(config).train()
        _start_embedding(model.get_input_embeddings().weight, tokenizer)
        batches = [*_copying(recipe, tokenizer), *_batches(recipe, tokenizer, conversations)]
        hidden = [p for p in model.model.layers.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if all(p is not q for q in hidden)]
        optimizers = [
            Muon(hidden, lr=recipe.learning_rate),
            torch.optim.AdamW(
                others, lr=recipe.embedding_rate, betas=(0.9, 0.98), weight_decay=0.0
            ),
        ]
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(len(batches)))
            for optimizer in optimizers
        ]
        smooth = 0.0
        with bar("building the embedded base model", len(batches)) as advance:
            for step, (ids, learned) in enumerate(batches):
                states = model.model(input_ids=ids, use_cache=False).last_hidden_state
                counted = learned[:, 1:]  # the head is computed only where there is a loss
                loss = torch.nn.functional.cross_entropy(
                    model.lm_head(states[:, :-1][counted]), ids[:, 1:][counted]
                )
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                if step < recipe.copy_steps:
                    # random tokens would undo what the embedding knows from its start
                    optimizers[1].zero_grad(set_to_none=True)
                for optimizer, schedule in zip(optimizers, schedules, strict=True):
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad(set_to_none=True)
                value = float(loss.detach())
                smooth = value if step == 0 else 0.95 * smooth + 0.05 * value
                advance(loss=smooth)
        model.save_pretrained(folder)
        return round(smooth, 6)


def _start_embedding(weight: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Lets words of one kind start close together, which saves most of the steps to learn it.

    To the random embedding (tokens, width) comes the positive pointwise mutual information of
    tokens and kinds in the corpus, projected to the width by a random matrix.
    """
    import torch

    texts = embedded_text.kind_texts()
    counts = torch.zeros(weight.shape[0], len(texts))
    for column, lines in enumerate(texts):
        for ids in tokenizer(lines, add_special_tokens=False)["input_ids"]:
            for token in ids:
                counts[token, column] += 1
    share = counts / counts.sum(0, keepdim=True)
    information = torch.log((share + 1e-9) / (share.mean(1, keepdim=True) + 1e-9)).clamp(min=0)
    # a word seen once says less than one seen often
    information *= counts.sum(1, keepdim=True) / (counts.sum(1, keepdim=True) + 1)
    direction = information @ torch.randn(len(texts), weight.shape[1])
    scale = EMBEDDING_START * weight.norm(dim=1).mean() / direction.norm(dim=1).max()
    with torch.no_grad():
        weight += scale * direction


def _schedule(steps: int) -> Any:
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


def _copying(recipe: EmbeddedRecipe, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Any, Any]]:
    """Batches of random tokens, others, and the first ones again, which are learned.

    A model of two layers finds out how to copy in about a hundred such steps, and hardly ever from
    text, where copying is one thing among many (Olsson et al. 2022, "In-context learning and
    induction heads").
    """
    import torch

    special = len(tokenizer.all_special_ids)
    batches = []
    for _ in range(recipe.copy_steps):
        length, between = (int(torch.randint(low, 40, ())) for low in (8, 0))
        rows = max(1, recipe.batch_tokens // (2 * length + between))
        tokens = torch.randint(special, len(tokenizer), (rows, length + between))
        tokens = torch.cat([tokens, tokens[:, :length]], dim=1)
        learned = torch.zeros_like(tokens, dtype=torch.bool)
        learned[:, length + between + 1 :] = True  # the first one cannot be foreseen
        batches.append((tokens, learned))
    return batches


def _batches(
    recipe: EmbeddedRecipe,
    tokenizer: PreTrainedTokenizerBase,
    conversations: list[embedded_text.Conversation],
) -> list[tuple[Any, Any]]:
    """Batches of about equal length, in a seeded order: token ids and which of them are learned.

    Padding stands at the right, where causal attention never looks back from a real token, so the
    model needs no attention mask; it is told what to learn.
    """
    import random

    import torch

    rendered: Any = tokenizer.apply_chat_template(conversations, tokenize=False)
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    rows = sorted((row[: recipe.max_positions] for row in ids), key=len)
    groups: list[list[list[int]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * len(row) > recipe.batch_tokens:
            groups.append([])
        groups[-1].append(row)
    random.Random(f"embedded order {recipe.seed}").shuffle(groups)
    batches = []
    for group in groups:
        width = max(map(len, group))
        tokens = torch.full((len(group), width), tokenizer.pad_token_id)
        learned = torch.zeros(len(group), width, dtype=torch.bool)
        for index, row in enumerate(group):
            tokens[index, : len(row)] = torch.tensor(row)
            learned[index, : len(row)] = torch.tensor(_answers(row, tokenizer))
            # some of the other tokens too, or most words could never be said
            learned[index, 1 : len(row)] |= torch.rand(len(row) - 1) < OTHER_SHARE
        batches.append((tokens, learned))
    return batches


def _answers(row: list[int], tokenizer: PreTrainedTokenizerBase) -> list[bool]:
    """Which tokens of a conversation are answers, each with its end of turn."""
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in (START, END))
    header = tokenizer("assistant\n", add_special_tokens=False)["input_ids"]
    learned, inside, skip = [], False, 0
    for index, token in enumerate(row):
        if token == start:
            inside = row[index + 1 : index + 1 + len(header)] == header
            skip = len(header) + 1
        skip = max(0, skip - 1) if token != start else skip
        learned.append(inside and token != start and skip == 0)
        if token == end:
            inside = False
    return learned
