"""Parameters of encoders and of their training, as they stand in ``parameters_embedding.yml``.

Imports nothing heavy: pipeline nodes annotate with these models.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from tracetune.options import Options
from tracetune.records.searches import TripletSet

Loss = Literal["triplet", "multiple_negatives"]


class EncoderRecipe(Options):
    """How the embedded encoder is made. Everything here is part of its cache key.

    Attributes:
        seed: Seed of text, weights and order.
        vocab_size: Size of the byte-level BPE vocabulary.
        hidden_size: Width of the model and of its vectors.
        intermediate_size: Width of the MLP.
        layers: Number of transformer blocks.
        heads: Attention heads.
        max_tokens: Longest text in tokens; a longer one is cut.
        requests: Number of generated requests.
        steps: Optimiser steps.
        batch: Pairs per step; every other pair of the batch is a negative.
        learning_rate: Peak rate of AdamW (warm-up, then cosine).
        threads: CPU threads; other numbers give other rounding, hence other weights.
    """

    seed: int = 7
    vocab_size: int = Field(default=4096, ge=300, le=32_768)
    hidden_size: int = Field(default=256, gt=0)
    intermediate_size: int = Field(default=512, gt=0)
    layers: int = Field(default=1, gt=0)
    heads: int = Field(default=4, gt=0)
    max_tokens: int = Field(default=128, ge=8)
    requests: int = Field(default=12_000, gt=0)
    steps: int = Field(default=200, gt=0)
    batch: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    threads: int = Field(default=2, gt=0)


class EncoderOptions(Options):
    """Which encoder is tuned.

    Attributes:
        id: ``embedded`` (built by the project), a Hugging Face id, or a local folder of
            sentence-transformers.
        revision: Branch, tag or commit of a Hugging Face id. Not for the other two.
        profile: Name of the recommended settings; ``null`` chooses by ``id``.
        embedded: Recipe of the embedded encoder.
    """

    id: str = "embedded"
    revision: str | None = None
    profile: Literal["default", "embedded"] | None = None
    embedded: EncoderRecipe = EncoderRecipe()


class EmbeddingOptions(Options):
    """Parameters of the training of an encoder.

    Attributes:
        sets: Sets of triplets that are trained on and whose relevant documents count for the
            held-out queries: ``feedback`` (clicks and relevance), ``documents`` (annotations of
            single documents), or both; also as one text, ``feedback+documents``.
        min_triplets: Fewer training triplets than this and nothing is trained.
        loss: ``triplet``: the positive must be nearer than the negative by ``margin``;
            ``multiple_negatives``: the positive must be the nearest of all documents of the batch.
        margin: Of ``triplet``, in cosine distance (0 to 2).
        scale: Of ``multiple_negatives``: factor on the cosine similarities.
        lora: ``null`` trains all weights; else PEFT's ``LoraConfig`` names (``alpha`` and
            ``dropout`` are short for ``lora_alpha`` and ``lora_dropout``).
        trainer: Names of ``SentenceTransformerTrainingArguments``; ``null`` means from the profile.
        early_stopping_patience: Evaluations without improvement after which training stops.
            Applies when there are validation rows and more than 100 rows in all.
    """

    sets: tuple[TripletSet, ...] = Field(default=("feedback",), min_length=1)
    min_triplets: int = Field(default=100, ge=1)
    loss: Loss = "triplet"
    margin: float = Field(default=0.5, gt=0, le=2)
    scale: float = Field(default=20.0, gt=0)
    lora: dict[str, Any] | None = None
    trainer: dict[str, Any] = Field(default_factory=dict)
    early_stopping_patience: int = Field(default=3, ge=1)

    @field_validator("sets", mode="before")
    @classmethod
    def _from_text(cls, sets: Any) -> Any:
        # Kedro divides --params at commas, so a list of two cannot be given there.
        return tuple(sets.split("+")) if isinstance(sets, str) else sets

    @field_validator("sets")
    @classmethod
    def _each_once(cls, sets: tuple[TripletSet, ...]) -> tuple[TripletSet, ...]:
        if len(set(sets)) != len(sets):
            raise ValueError(f"a set stands there twice: {list(sets)}")
        # The order in which they are written says nothing.
        return tuple(sorted(sets, reverse=True))
