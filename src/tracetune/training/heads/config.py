"""``config.json`` beside the weights of the heads: what they are, and what they fit.

Readable without torch, so that commands and reports can ask before anything is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tracetune.errors import ConfigurationError, DataError
from tracetune.files import read_json, sha256_file, sha256_json
from tracetune.records.heads import PATTERNS, HeadVariant, TrajectoryReference
from tracetune.training.base import BaseModelRef
from tracetune.training.heads.options import ArchitectureOptions

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "heads.safetensors"
ADAPTER_FOLDER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


class HeadsConfig(BaseModel):
    """What trained heads are.

    Attributes:
        format: Version of this document.
        hidden_size: Width of the base they were trained on.
        architecture: Sizes of their layers.
        reference: How the coordinates were made, and what they are measured against.
        patterns: Names of the outputs of the pattern head, in order.
        pos_weight: Weight of the positives of each pattern in training.
        max_length: Most tokens of a turn with its past.
        base: The base model, without places.
        adapter_sha256: Weights of the phase-1 adapter that was merged into it; null if none.
        base_sha256: :func:`base_hash` of both.
        base_dtype: Type in which the base computed the states that were trained on.
        heads_sha256: Of the weights of the heads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    hidden_size: int = Field(ge=1)
    architecture: ArchitectureOptions
    reference: TrajectoryReference
    patterns: tuple[str, ...] = PATTERNS
    pos_weight: tuple[float, ...] = Field(min_length=len(PATTERNS), max_length=len(PATTERNS))
    max_length: int = Field(ge=1)
    base: dict[str, Any]
    adapter_sha256: str | None
    base_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    base_dtype: Literal["float32", "bfloat16"]
    heads_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def variant(self) -> HeadVariant:
        """What the coordinates may know."""
        return self.reference.variant

    @property
    def pattern_rules(self) -> str:
        """Version of the rules that the pattern labels are from."""
        return self.reference.pattern_rules


def base_hash(base: BaseModelRef, adapter_sha256: str | None) -> str:
    """SHA-256 of what decides the hidden states: weights, tokenizer, template, merged adapter."""
    return sha256_json(
        [base.weights_sha256, base.tokenizer_sha256, base.template_sha256, adapter_sha256]
    )


def read_config(folder: Path) -> HeadsConfig:
    """The configuration of trained heads.

    Args:
        folder: A model folder, or ``load_custom_components``'s.

    Raises:
        DataError: There are no heads in the folder, or they are incomplete.
    """
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise DataError(
            f"there is no {CONFIG_FILE} with {WEIGHTS_FILE} beside it, so these are no heads",
            where=str(folder),
            remedy="give the folder that the heads stage wrote or released",
        )
    try:
        return HeadsConfig.model_validate(read_json(path), strict=False)
    except (ValueError, ValidationError) as error:
        raise DataError(
            f"not the configuration of heads: {error}",
            where=str(path),
            remedy="restore the folder, or train the heads again",
        ) from error


def check_weights(folder: Path, config: HeadsConfig) -> None:
    """Refuses weights that are not those the configuration was written for.

    Raises:
        DataError: They were changed or cut.
    """
    if sha256_file(folder / WEIGHTS_FILE) != config.heads_sha256:
        raise DataError(
            "the weights of the heads were changed since they were saved",
            where=str(folder / WEIGHTS_FILE),
            remedy="restore the folder, or train the heads again",
        )


def check_fits(config: HeadsConfig, *, hidden_size: int, base_sha256: str | None) -> None:
    """Refuses heads that were trained on another base.

    Args:
        config: Of the heads.
        hidden_size: Width of the base they shall work on.
        base_sha256: Its :func:`base_hash`; None if it is not known.

    Raises:
        ConfigurationError: They do not fit.
    """
    if config.hidden_size != hidden_size:
        raise ConfigurationError(
            f"the heads are for a hidden size of {config.hidden_size}, the base has {hidden_size}",
            where="heads",
            remedy=f"load them on their own base ({config.base.get('id')}), or train new ones",
        )
    if base_sha256 is None:
        raise ConfigurationError(
            "it is not known what this base is, so nothing shows that the heads fit it",
            where="heads",
            remedy="make the model with create_cognitive_twin(), or give base_sha256",
        )
    if config.base_sha256 != base_sha256:
        raise ConfigurationError(
            f"the heads were trained on another base: on {config.base_sha256[:12]} "
            f"({config.base.get('id')}, "
            f"{'with' if config.adapter_sha256 else 'without'} a phase-1 adapter), "
            f"this one is {base_sha256[:12]}",
            where="heads",
            remedy="give the base and the phase-1 adapter of their training, or train new heads",
        )


def check_variant(config: HeadsConfig, variant: HeadVariant) -> None:
    """Refuses coordinates of another variant than that of the training.

    Raises:
        ConfigurationError: They differ.
    """
    if variant != config.variant:
        raise ConfigurationError(
            f"the coordinates are {variant!r}, the heads were trained on {config.variant!r} ones",
            where="variant",
            remedy=f"make the coordinates as {config.variant!r}, or use heads trained on "
            f"{variant!r}",
        )
