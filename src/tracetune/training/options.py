"""Parameters of base models and training stages, as they stand in ``parameters_*.yml``.

Imports nothing heavy: pipeline nodes annotate with these models. A value of ``null`` means "from
the profile" (see :mod:`tracetune.training.profiles`); a value that is given always wins.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tracetune.options import Options

OverLength = Literal["raise", "drop", "truncate"]
Method = Literal["sft", "dpo", "kto", "embedding", "heads"]


class BaseModelOptions(Options):
    """Which model is tuned.

    Attributes:
        id: ``embedded`` (built by the project), a Hugging Face id, or a local folder. With
            ``backend=together`` also the id of a hosted model, of which nothing is fetched.
        local: Copy of a hosted model on this machine: a folder or a Hugging Face id. A folder with
            a tokenizer alone serves for the checks before training.
        revision: Branch, tag or commit of a Hugging Face id. Not for the other two.
        profile: Name of the recommended settings; ``null`` chooses by ``id``.
    """

    id: str = "embedded"
    local: str | None = None
    revision: str | None = None
    profile: str | None = None


class EmbeddedRecipe(Options):
    """How the embedded base model is made. Everything here is part of its cache key.

    Attributes:
        seed: Seed of text, weights and order.
        vocab_size: Size of the byte-level BPE vocabulary.
        hidden_size: Width of the model, a multiple of 256.
        intermediate_size: Width of the MLP, a multiple of 256.
        layers: Number of transformer blocks.
        heads: Attention heads.
        max_positions: Longest sequence in tokens.
        copy_steps: Steps on random tokens that come twice, before the conversations.
        conversations: Number of generated conversations; each is seen once.
        batch_tokens: Tokens per optimiser step, padding included (approximate).
        learning_rate: Peak rate of Muon, for the matrices of the blocks (warm-up, then cosine).
        embedding_rate: Peak rate of AdamW, for the embedding and the norms.
        threads: CPU threads; other numbers give other rounding, hence other weights.
    """

    seed: int = 7
    vocab_size: int = Field(default=4096, ge=512, le=8192)
    hidden_size: int = Field(default=256, multiple_of=256, gt=0)
    intermediate_size: int = Field(default=512, multiple_of=256, gt=0)
    layers: int = Field(default=2, gt=0)
    heads: int = Field(default=4, gt=0)
    max_positions: int = Field(default=1024, gt=0)
    copy_steps: int = Field(default=100, ge=0)
    conversations: int = Field(default=5000, gt=0)
    batch_tokens: int = Field(default=1536, gt=0)
    learning_rate: float = Field(default=2e-2, gt=0)
    embedding_rate: float = Field(default=3e-3, gt=0)
    threads: int = Field(default=2, gt=0)


class StageOptions(Options):
    """What SFT and DPO share.

    Attributes:
        lora: PEFT's ``LoraConfig`` names (``alpha`` and ``dropout`` are short for ``lora_alpha``
            and ``lora_dropout``).
        trainer: TRL's own argument names (``SFTConfig`` or ``DPOConfig``).
        over_length: What happens to rows longer than ``trainer.max_length``: stop the run, leave
            the row out, or cut it.
        early_stopping_patience: Evaluations without improvement after which training stops.
            Applies when there are validation rows and more than 100 rows in all.
    """

    lora: dict[str, Any] = Field(default_factory=dict)
    trainer: dict[str, Any] = Field(default_factory=dict)
    over_length: OverLength = "raise"
    early_stopping_patience: int = Field(default=3, ge=1)


class SftOptions(StageOptions):
    """Parameters of a supervised fine-tuning stage.

    Attributes:
        min_sft_examples: Fewest training rows for a model of SFT alone; as the stage before DPO
            it takes what there is.
        min_steps: Optimiser steps that a base needs for this task if its profile has a minimum (the
            embedded one); ``null``: the minimum of the profile.
    """

    min_sft_examples: int = Field(default=50, ge=1)
    min_steps: int | None = Field(default=None, ge=1)


class DpoOptions(StageOptions):
    """Parameters of a preference stage.

    Attributes:
        start_from: ``sft``: go on from the adapter of the SFT stage, which also is the reference;
            ``base``: a new adapter, and the base with the adapter off is the reference.
        min_dpo_pairs: Fewest training pairs.
    """

    start_from: Literal["sft", "base"] = "sft"
    min_dpo_pairs: int = Field(default=20, ge=1)


class KtoOptions(StageOptions):
    """Parameters of a stage that learns from single good and bad answers.

    Attributes:
        allowed: Whether ``auto`` may choose it.
        min_kto_ratings: Fewest rated answers; the rarer kind counts twice, so that hundreds of
            good answers with one bad one are not enough.
    """

    allowed: bool = False
    min_kto_ratings: int = Field(default=50, ge=2)


class PreflightOptions(Options):
    """Thresholds of the gates before training. A share is between 0 and 1.

    Attributes:
        min_rows: Fewest training rows.
        max_lost_completion_share: Largest share of completion tokens lost to truncation.
        max_dropped_share: Largest share of rows dropped for their length.
        max_duplicate_share: Largest share of rows that repeat an earlier row.
        max_untrained_end: Rows whose end-of-turn token is not trained.
        max_prompt_mismatch: Rows whose rendered prompt is not a prefix of prompt + completion.
        max_identical_pairs: Pairs whose two answers are the same tokens.
        max_other_role_share: Largest share of trained tokens that belong to another role than
            the assistant.
    """

    min_rows: int = Field(default=1, ge=1)
    max_lost_completion_share: float = Field(default=0.05, ge=0, le=1)
    max_dropped_share: float = Field(default=0.05, ge=0, le=1)
    max_duplicate_share: float = Field(default=0.05, ge=0, le=1)
    max_untrained_end: int = Field(default=0, ge=0)
    max_prompt_mismatch: int = Field(default=0, ge=0)
    max_identical_pairs: int = Field(default=0, ge=0)
    max_other_role_share: float = Field(default=0.0, ge=0, le=1)
