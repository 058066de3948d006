"""Using trained heads: turns of conversations in, signatures, patterns and plans out.

Imports torch only when something is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracetune.errors import ConfigurationError, DataError
from tracetune.files import read_json, sha256_json
from tracetune.records.heads import HeadVariant, TrajectoryRow
from tracetune.training import base as base_model
from tracetune.training import profiles, quiet
from tracetune.training.base import BaseModelRef
from tracetune.training.heads import frozen
from tracetune.training.heads.config import (
    ADAPTER_FOLDER,
    HeadsConfig,
    base_hash,
    check_variant,
    read_config,
)
from tracetune.training.heads.options import ArchitectureOptions
from tracetune.training.heads.turns import TurnReader

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tracetune.training.heads.model import CognitiveTwin

    Numbers = NDArray[np.float32]
else:
    Numbers = Any

BATCH = 32
"""Turns that go through the heads at a time."""
CHUNK = 8 * BATCH
"""Turns whose hidden states are in memory at a time, where they are not kept for later."""


def _nothing(_: int) -> None:
    """Progress for those who do not look."""


@dataclass(frozen=True)
class TurnStates:
    """Hidden states of the frozen base for some turns; they depend on texts alone.

    Attributes:
        base_sha256: Of the base that computed them.
        texts_sha256: Of the tokens of each turn and its past.
        turns: Tokens x d of each turn.
    """

    base_sha256: str
    texts_sha256: tuple[str, ...]
    turns: tuple[Tensor, ...]


@dataclass(frozen=True)
class Encoded:
    """What the heads say about n turns; all numbers are float32.

    Attributes:
        row_ids: Ids of the turns.
        style: n x 256, signatures of length 1.
        pattern_logits: n x 12, as trained (with class weights).
        pattern_probabilities: n x 12, with the class weights of the training taken out again, so
            that they can be compared with how often a pattern occurs.
        plan: n x 8 x d, mean hidden state expected of each next turn.
        stop: n x 8, probability that the conversation has ended before this step.
        pooled: n x d, mean of the adapted hidden states of the turn.
        base_pooled: n x d, mean of the base's hidden states of the turn.
        gate_mean: n, mean of the adapter's gate.
    """

    row_ids: tuple[str, ...]
    style: Numbers
    pattern_logits: Numbers
    pattern_probabilities: Numbers
    plan: Numbers
    stop: Numbers
    pooled: Numbers
    base_pooled: Numbers
    gate_mean: Numbers


class Twin:
    """Trained heads on their base, ready to read turns.

    Args:
        model: The model with trained heads.
        tokenizer: Tokenizer of its base.
        threads: CPU threads; other numbers round differently.
    """

    def __init__(self, model: CognitiveTwin, tokenizer: Any, threads: int | None = None) -> None:
        """Keeps the model in evaluation mode."""
        from tracetune.training.job import cpu_threads

        if model.config is None:
            raise ConfigurationError(
                "the heads of this model are new ones and know nothing",
                where="CognitiveTwin",
                remedy="load trained heads with load_custom_components()",
            )
        self.model = model
        self.config: HeadsConfig = model.config
        self._reader = TurnReader(tokenizer, self.config.max_length)
        self._threads = threads or cpu_threads()
        model.eval()

    def states(self, rows: Sequence[TrajectoryRow]) -> TurnStates:
        """Runs the base on some turns, for several calls of :meth:`encode`.

        Args:
            rows: The turns, each with its past.

        Raises:
            DataError: A turn cannot be read.
            ConfigurationError: The twin was loaded without its base.
        """
        import torch

        from tracetune.training.heads.states import LiveStates
        from tracetune.training.seeds import deterministic

        if self.model.base is None:
            raise ConfigurationError(
                "these heads were loaded without their base, which computes the states",
                where="Twin",
                remedy="load them with load_base_model=True, or give states of another twin",
            )
        tokens = [self._reader.read(row) for row in rows]
        live, turns = LiveStates(self.model.base, tokens), []
        with deterministic(0, self._threads), torch.inference_mode():
            for first in range(0, len(rows), CHUNK):
                turns += live.turns(range(first, min(first + CHUNK, len(rows))))
        return TurnStates(
            base_sha256=self.config.base_sha256,
            texts_sha256=tuple(sha256_json([list(row.ids), row.start]) for row in tokens),
            turns=tuple(turns),
        )

    def encode(
        self,
        rows: Sequence[TrajectoryRow],
        *,
        variant: HeadVariant,
        adapter: bool = True,
        states: TurnStates | None = None,
        progress: Callable[[int], Any] = _nothing,
    ) -> Encoded:
        """What the heads say about some turns; the same for the same turns.

        Args:
            rows: The turns, each with its past.
            variant: Of their coordinates; must be that of the training.
            adapter: Whether the trajectory is used; else its gate is closed.
            states: Of :meth:`states` for the same texts; coordinates may be others.
            progress: Takes the number of turns done, now and then.

        Raises:
            ConfigurationError: Another variant, or states of another base.
            DataError: ``states`` are of other texts, or a turn cannot be read.
        """
        check_variant(self.config, variant)
        if states is not None:
            self._check_states(rows, states)
        parts: list[Any] = []
        for first in range(0, len(rows), CHUNK):
            chunk = rows[first : first + CHUNK]
            if states is None:
                turns = self.states(chunk).turns
            else:
                turns = states.turns[first : first + CHUNK]
            parts += self._heads(chunk, turns, adapter=adapter)
            progress(len(chunk))
        return self._gathered(rows, parts)

    def _heads(
        self, rows: Sequence[TrajectoryRow], turns: Sequence[Tensor], *, adapter: bool
    ) -> list[Any]:
        """What the heads say, batch by batch."""
        import torch

        from tracetune.training.heads.batches import pad
        from tracetune.training.seeds import deterministic

        heads, parts = self.model.heads, []
        device = next(heads.parameters()).device
        with deterministic(0, self._threads), torch.inference_mode():
            for first in range(0, len(rows), BATCH):
                batch = pad(turns[first : first + BATCH], rows[first : first + BATCH])
                place = (batch.coordinates, batch.phase, batch.homogeneity)
                parts.append(
                    heads(
                        batch.hidden.to(device),
                        batch.mask.to(device),
                        *(value.to(device) if adapter else None for value in place),
                    )
                )
        return parts

    def _gathered(self, rows: Sequence[TrajectoryRow], parts: Sequence[Any]) -> Encoded:
        def all_of(name: str, *shape: int) -> Numbers:
            found = [getattr(part, name).float().cpu().numpy() for part in parts]
            return np.concatenate(found) if found else np.zeros((0, *shape), dtype=np.float32)

        sizes, width = self.config.architecture, self.config.hidden_size
        logits = all_of("pattern_logits", len(self.config.patterns))
        weights = np.log(np.asarray(self.config.pos_weight, dtype=np.float32))
        return Encoded(
            row_ids=tuple(row.row_id for row in rows),
            style=all_of("style_signature", sizes.style_size),
            pattern_logits=logits,
            pattern_probabilities=_sigmoid(logits - weights),
            plan=all_of("plan_steps", sizes.plan_steps, width),
            stop=_sigmoid(all_of("stop_logits", sizes.plan_steps)),
            pooled=all_of("pooled", width),
            base_pooled=all_of("base_pooled", width),
            gate_mean=all_of("gate", width).mean(axis=1, dtype=np.float32),
        )

    def _check_states(self, rows: Sequence[TrajectoryRow], states: TurnStates) -> None:
        if states.base_sha256 != self.config.base_sha256:
            raise ConfigurationError(
                "the hidden states are of another base than these heads",
                where="states",
                remedy="compute them with states() of this model",
            )
        tokens = [self._reader.read(row) for row in rows]
        digests = tuple(sha256_json([list(row.ids), row.start]) for row in tokens)
        if digests != states.texts_sha256:
            raise DataError(
                "the hidden states are of other texts than these rows",
                where="states",
                remedy="compute them with states() for the same rows in the same order",
            )


def joined(parts: Sequence[Encoded]) -> Encoded:
    """What was said about several lots of turns as one; there is one lot at least."""
    found: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Encoded)
        if field.name != "row_ids"
    }
    return Encoded(row_ids=tuple(name for part in parts for name in part.row_ids), **found)


def load_twin(
    folder: Path,
    base: BaseModelRef | Path | str | None = None,
    *,
    device: str = "cpu",
    load_base_model: bool = True,
) -> Twin:
    """Trained heads on their base.

    Args:
        folder: Model folder of a heads job, or what a pipeline released of it.
        base: The base model of their training (resolved, or its folder); None: the one that
            ``serving.json`` of a released folder names.
        device: Where they run.
        load_base_model: Whether the base's weights are loaded; without them the heads read the
            states that another twin on the same base computed (:meth:`Twin.states`).

    Raises:
        ConfigurationError: The base is another one.
        DataError: The folder holds no heads or names no base, or the base has changed.
    """
    config = read_config(folder)
    if base is None:
        serving = folder / "serving.json"
        if not serving.is_file():
            raise DataError(
                "the folder does not say where its base model lies",
                where=str(folder),
                remedy="give the base model, or the folder that the pipeline released",
            )
        base = BaseModelRef.model_validate(read_json(serving)["base"])
    adapter = folder / ADAPTER_FOLDER if config.adapter_sha256 else None
    model = create_cognitive_twin(
        base,
        adapter=adapter,
        load_base_model=load_base_model,
        device=device,
        dtype=config.base_dtype if device != "cpu" else None,
    )
    model.load_custom_components(folder)
    found = base if isinstance(base, BaseModelRef) else Path(base)
    return Twin(model, base_model.load_tokenizer(found))


def create_cognitive_twin(
    base_model_path: BaseModelRef | Path | str,
    *,
    adapter: Path | str | None = None,
    load_base_model: bool = True,
    device: str = "cpu",
    dtype: str | None = None,
    architecture: ArchitectureOptions | None = None,
) -> CognitiveTwin:
    """A model with new heads on a base (document 001: ``create_cognitivetwin_v2``).

    Args:
        base_model_path: The base: resolved, or a folder of transformers; also the released folder
            of a LoRA adapter (phase 1), which names its base in ``serving.json``.
        adapter: Folder of the phase-1 LoRA; it is merged into the base.
        load_base_model: Whether the base's weights are loaded; without them the heads can be
            loaded and used on hidden states.
        device: Where it runs.
        dtype: Type of the base's weights after merging; None: float32.
        architecture: Sizes of the new heads.

    Raises:
        ConfigurationError: The base cannot be used, or is not on this machine.
        DataError: The adapter was made for another base, or the files of a resolved base are not
            the hashed ones any more.
    """
    from tracetune.training.heads.job import hidden_size
    from tracetune.training.heads.model import CognitiveTwin

    base, merged = _base_and_adapter(base_model_path, Path(adapter) if adapter else None)
    base_model.demand_here(base)
    if load_base_model:
        # The hashes of a resolved base were written down earlier; the files may be others by now.
        base_model.verify(base)
    digest = base_hash(base, frozen.adapter_hash(base, merged))
    with quiet.offline(), quiet.quiet():
        loaded = (
            frozen.load(base, merged, dtype=dtype or "float32", device=device)
            if load_base_model
            else None
        )
        model = CognitiveTwin(
            loaded,
            hidden_size=hidden_size(base),
            architecture=architecture,
            base_sha256=digest,
        )
    model.heads.to(device)
    model.eval()
    return model


def _base_and_adapter(
    given: BaseModelRef | Path | str, adapter: Path | None
) -> tuple[BaseModelRef, Path | None]:
    """The base with its hashes, and the phase-1 adapter that is to be merged into it."""
    if isinstance(given, BaseModelRef):
        return given, adapter
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no folder {str(given)!r}",
            where="base_model_path",
            remedy="give the folder of the base, or of the adapter that phase 1 released",
        )
    if (folder / "adapter_config.json").is_file():
        serving = folder / "serving.json"
        if adapter is not None or not serving.is_file():
            raise ConfigurationError(
                "this is a LoRA adapter that does not name its base model",
                where=str(folder),
                remedy="give the base as base_model_path and this folder as adapter",
            )
        return BaseModelRef.model_validate(read_json(serving)["base"]), folder
    profile = profiles.choose(folder.name).name
    return base_model.describe(folder.resolve(), folder.name, None, profile, "local"), adapter


def _sigmoid(values: Numbers) -> Numbers:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)), dtype=np.float32)


__all__ = [
    "Encoded",
    "TurnStates",
    "Twin",
    "create_cognitive_twin",
    "joined",
    "load_twin",
    "read_config",
]
