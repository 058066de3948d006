"""The embedded encoder: a small BERT that the project builds itself, on any laptop, offline.

A byte-level BPE tokenizer, a transformer block, mean pooling and normalisation, trained for less
than a minute by contrast (InfoNCE: van den Oord et al. 2018, with the other pairs of the batch as
negatives) on three kinds of pairs, none of which needs a label of any pipeline:

- two requests of the same kind from the committed corpus belong together,
- a request and what is left of it after words were dropped belong together,
- two draws from the same bag of random tokens belong together: whatever the words are, those that
  share some are near. So the encoder is of use where the corpus knows nothing.

The same recipe, threads and library versions give the same weights; the hash of the recipe names
the folder in the cache.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tracetune.training import embedded_text, leaks, recipe_cache
from tracetune.training.embedding_options import EncoderRecipe
from tracetune.training.leaks import LeakReport

CODE_VERSION = 1
"""Raised whenever this module would build another encoder from the same recipe."""

SPECIAL = ["[PAD]", "[CLS]", "[SEP]"]
TEMPERATURE = 0.05
SHARES = {"kind": 0.15, "part": 0.1, "bag": 0.75}
"""How many pairs of each kind stand in a batch."""
_LIBRARIES = ("torch", "transformers", "tokenizers", "sentence-transformers")


def recipe_hash(recipe: EncoderRecipe) -> str:
    """SHA-256 over everything that decides the weights."""
    return recipe_cache.recipe_hash(recipe, _LIBRARIES, shares=SHARES, code=CODE_VERSION)


def build(recipe: EncoderRecipe, cache_root: Path) -> Path:
    """Folder of the encoder of this recipe; built first if the cache does not have it.

    Args:
        recipe: How the encoder is made.
        cache_root: Folder that holds one folder per recipe.
    """
    name = recipe_hash(recipe)
    folder = cache_root / f"encoder-{name[:16]}"
    return recipe_cache.cached(recipe, name, folder, lambda place: _make(recipe, place))


@cache
def requests(recipe: EncoderRecipe) -> list[tuple[str, str]]:
    """All text the encoder reads: (kind, request), generated from the committed corpus."""
    writer = embedded_text.Writer(recipe.seed)
    kinds = writer.corpus.kinds
    chosen = [kinds[number % len(kinds)] for number in range(recipe.requests)]
    return [(f"{kind.topic}/{kind.name}", writer.request(kind)[0]) for kind in chosen]


def check_no_leak(recipe: EncoderRecipe, held_out: list[str]) -> LeakReport:
    """Proves that none of the held-out texts is in the text of this recipe's encoder.

    Raises:
        GateError: One is, or nearly is.
    """
    return leaks.check_no_leak([text for _, text in requests(recipe)], held_out)


def _tokenizer(recipe: EncoderRecipe) -> Any:
    """Byte-level BPE of lower-case text without accents: no word is unknown.

    Not WordPiece, whose trainer in ``tokenizers`` numbers its pieces in the order of a hash table,
    another one in every process.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for _, text in requests(recipe)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer_class: Any = PreTrainedTokenizerFast
    return tokenizer_class(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=recipe.max_tokens,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def _make(recipe: EncoderRecipe, folder: Path) -> float:
    """Trains the encoder and saves it; the last loss."""
    import tempfile

    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel

    from tracetune.training.progress import bar
    from tracetune.training.seeds import deterministic

    tokenizer = _tokenizer(recipe)
    with deterministic(recipe.seed, recipe.threads):
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=recipe.max_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
        model: Any = BertModel(config).train()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=0.01
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(recipe.steps))
        smooth = 0.0
        with bar("building the embedded encoder", recipe.steps) as advance:
            for step, (left, right, same) in enumerate(_batches(recipe, tokenizer)):
                a, b = _vectors(model, left), _vectors(model, right)
                scores = (a @ b.T) / TEMPERATURE
                scores = scores.masked_fill(same, float("-inf"))  # of the same kind: no negatives
                target = torch.arange(len(scores))
                loss = (
                    torch.nn.functional.cross_entropy(scores, target)
                    + torch.nn.functional.cross_entropy(scores.T, target)
                ) / 2
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                value = float(loss.detach())
                smooth = value if step == 0 else 0.95 * smooth + 0.05 * value
                advance(loss=smooth)
        model.eval()
        with tempfile.TemporaryDirectory() as plain:
            model.save_pretrained(plain)
            tokenizer.save_pretrained(plain)
            encoder = SentenceTransformer(
                modules=[
                    modules.Transformer(plain, max_seq_length=recipe.max_tokens),
                    modules.Pooling(recipe.hidden_size, pooling_mode="mean"),
                    modules.Normalize(),
                ],
                device="cpu",
            )
        encoder.save(str(folder), create_model_card=False)
    return round(smooth, 6)


def _schedule(steps: int) -> Any:
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


def _vectors(model: Any, batch: Any) -> Any:
    """Normalised mean vectors, shape (texts, width)."""
    import torch

    states = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)


def _batches(recipe: EncoderRecipe, tokenizer: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Padded left sides, right sides, and which pairs are of the same kind but not the same."""
    import torch

    chance = random.Random(f"encoder batches {recipe.seed}")
    known: dict[str, list[list[int]]] = {}
    texts = [text for _, text in requests(recipe)]
    ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    for (kind, _), row in zip(requests(recipe), ids, strict=True):
        known.setdefault(kind, []).append(row[: recipe.max_tokens - 2])
    kinds = sorted(known)
    for _ in range(recipe.steps):
        pairs = []
        for number in range(recipe.batch):
            how = chance.choices(list(SHARES), list(SHARES.values()))[0]
            kind = chance.choice(kinds)
            if how == "kind":
                left, right = chance.choice(known[kind]), chance.choice(known[kind])
            elif how == "part":
                right = chance.choice(known[kind])
                left = _some(right, chance)
            else:
                left, right = _bag(len(tokenizer), recipe.max_tokens - 2, chance)
                kind = f"bag {number}"
            pairs.append((kind, left, right))
        marks = [kind for kind, _, _ in pairs]
        same = torch.tensor(
            [[i != j and a == b for j, b in enumerate(marks)] for i, a in enumerate(marks)]
        )
        yield (
            _padded([left for _, left, _ in pairs], tokenizer),
            _padded([right for _, _, right in pairs], tokenizer),
            same,
        )


def _some(row: list[int], chance: random.Random) -> list[int]:
    """A text with about a half of its tokens dropped, at least one kept."""
    return [token for token in row if chance.random() < 0.55] or row[:1]


def _bag(vocabulary: int, longest: int, chance: random.Random) -> tuple[list[int], list[int]]:
    """A short and a long text that share some tokens, both with others of their own."""

    def tokens(count: int) -> list[int]:
        return [chance.randrange(len(SPECIAL), vocabulary) for _ in range(count)]

    shared = tokens(chance.randint(1, 4))
    left = shared + tokens(chance.randint(0, 4))
    right = shared + tokens(chance.randint(4, 24))
    chance.shuffle(left)
    chance.shuffle(right)
    return left[:longest], right[:longest]


def _padded(rows: list[list[int]], tokenizer: Any) -> dict[str, Any]:
    import torch

    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    width = max(map(len, rows)) + 2
    tokens = torch.full((len(rows), width), tokenizer.pad_token_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        full = [first, *row, last]
        tokens[index, : len(full)] = torch.tensor(full)
        mask[index, : len(full)] = 1
    return {"input_ids": tokens, "attention_mask": mask}
