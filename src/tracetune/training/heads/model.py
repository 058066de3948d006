"""``CognitiveTwin``: a frozen causal language model with trajectory adapter and three heads.

Imported only where tensors are at work, because torch is heavy. The base is used unchanged: one
ordinary forward pass with attention mask, so it handles its own position embeddings; everything
trained acts on its last hidden states (document 001, output-level injection).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tracetune.errors import ConfigurationError
from tracetune.records.heads import PATTERNS
from tracetune.training.heads.adapter import TrajectoryAdapter, masked_mean
from tracetune.training.heads.config import HeadsConfig, check_fits, read_config
from tracetune.training.heads.frozen import hidden_size_of, last_hidden
from tracetune.training.heads.options import ArchitectureOptions
from tracetune.training.heads.parts import PatternHead, PlanningHead, StyleHead


@dataclass(frozen=True)
class TwinOutput:
    """What the heads say about B turns.

    Attributes:
        style_signature: B x 256, each of length 1.
        pattern_logits: B x 12.
        plan_steps: B x 8 x d, the mean hidden state expected of each next turn.
        stop_logits: B x 8, that the conversation has ended before this step.
        pooled: B x d, mean of the adapted hidden states.
        base_pooled: B x d, mean of the base's hidden states.
        gate: B x d, how far the adapter's gate is open; 0 without a trajectory.
    """

    style_signature: Tensor
    pattern_logits: Tensor
    plan_steps: Tensor
    stop_logits: Tensor
    pooled: Tensor
    base_pooled: Tensor
    gate: Tensor


class TwinHeads(nn.Module):
    """Everything that is trained: adapter and heads, on hidden states.

    Args:
        hidden_size: Width d of the base.
        architecture: Sizes.
    """

    def __init__(self, hidden_size: int, architecture: ArchitectureOptions | None = None) -> None:
        """Makes the layers with weights from torch's random generator."""
        super().__init__()
        sizes = architecture or ArchitectureOptions()
        self.hidden_size = hidden_size
        self.adapter = TrajectoryAdapter(hidden_size, sizes.adapter_width, sizes.gate_bias)
        self.style = StyleHead(hidden_size, sizes.style_width, sizes.style_size)
        self.pattern = PatternHead(hidden_size, sizes.pattern_width, len(PATTERNS))
        self.planning = PlanningHead(hidden_size, sizes.plan_steps)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        coordinates: Tensor | None = None,
        phase: Tensor | None = None,
        homogeneity: Tensor | None = None,
    ) -> TwinOutput:
        """Says what the heads say.

        Args:
            hidden: B x T x d, last hidden states of the base.
            mask: B x T, true for the tokens of the turn.
            coordinates: B x 5; None leaves the adapter out.
            phase: B.
            homogeneity: B.
        """
        hidden = torch.where(mask.unsqueeze(-1), hidden, hidden.new_zeros(()))
        adapted, gate = self.adapter(hidden, mask, coordinates, phase, homogeneity)
        pooled = masked_mean(adapted, mask)
        seen = self.adapter.standard(pooled)
        plan, stop = self.planning(self.adapter.standard(adapted), mask)
        return TwinOutput(
            style_signature=self.style(seen),
            pattern_logits=self.pattern(seen),
            plan_steps=plan,
            stop_logits=stop,
            pooled=pooled,
            base_pooled=masked_mean(hidden, mask),
            gate=gate,
        )

    @torch.no_grad()
    def calibrate(self, turns: Iterable[Tensor]) -> None:
        """Fits what is no matter of learning to hidden states of training turns.

        The adapter's layer norm and the scale of what the heads see, and plans start at the mean.

        Args:
            turns: Hidden states of turns, tokens x d each.
        """
        self.adapter.calibrate(turns)
        self.planning.start_at(self.adapter.standard.mean)


class CognitiveTwin(nn.Module):
    """A causal language model of transformers with trajectory adapter and heads (document 001).

    Args:
        base: The model, with any phase-1 LoRA merged; None leaves it out. It is frozen here.
        hidden_size: Width of the base; read from its configuration if there is one.
        architecture: Sizes of the trained parts.
        base_sha256: :func:`~tracetune.training.heads.config.base_hash` of the base, by which heads
            are checked before they are loaded.
    """

    def __init__(
        self,
        base: Any | None,
        *,
        hidden_size: int | None = None,
        architecture: ArchitectureOptions | None = None,
        base_sha256: str | None = None,
    ) -> None:
        """Freezes the base and makes new heads."""
        super().__init__()
        if base is not None:
            if hasattr(base, "peft_config"):
                raise ConfigurationError(
                    "the base still carries an adapter that is not merged",
                    where="base model",
                    remedy="merge the phase-1 LoRA first; create_cognitive_twin() does it",
                )
            hidden_size = hidden_size_of(base.config)
            base.requires_grad_(False)
            base.eval()
        if hidden_size is None:
            raise ConfigurationError(
                "without a base the hidden size is not known",
                where="hidden_size",
                remedy="give hidden_size, or a base model",
            )
        self.base = base
        self.heads = TwinHeads(hidden_size, architecture)
        self.base_sha256 = base_sha256
        self.config: HeadsConfig | None = None

    @property
    def hidden_size(self) -> int:
        """Width d of the base."""
        return self.heads.hidden_size

    def train(self, mode: bool = True) -> CognitiveTwin:
        """Puts the heads into training mode; the frozen base stays in evaluation mode."""
        super().train(mode)
        if self.base is not None:
            self.base.eval()
        return self

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Last hidden states of the frozen base, B x T x d; what padding gives is not to be used.

        Raises:
            ConfigurationError: There is no base.
        """
        if self.base is None:
            raise ConfigurationError(
                "the model was made without its base, which turns tokens into hidden states",
                where="CognitiveTwin",
                remedy="make it with load_base_model=True, or call .heads on hidden states",
            )
        return last_hidden(self.base, input_ids, _mask(self.base, input_ids, attention_mask))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        trajectory_coords: Tensor | None = None,
        phase_id: Tensor | None = None,
        homogeneity: Tensor | None = None,
        pool_mask: Tensor | None = None,
    ) -> TwinOutput:
        """One pass from tokens to signature, patterns and plan.

        Args:
            input_ids: B x T.
            attention_mask: B x T, 0 where padding stands, on either side; None: no padding.
            trajectory_coords: B x 5, each 0 to 1; None leaves the adapter out (gate closed).
            phase_id: B, 0 to 5; needed with the coordinates.
            homogeneity: B x 1 or B, equal to the third coordinate; None takes that one.
            pool_mask: B x T, the tokens of the turn itself, as in training; None: all tokens.

        Raises:
            ConfigurationError: Shapes or values are not these.
        """
        hidden = self.hidden_states(input_ids, attention_mask)
        mask = _mask(self.base, input_ids, attention_mask).bool()
        if pool_mask is not None:
            if pool_mask.shape != input_ids.shape:
                raise _wrong("pool_mask", f"shape {tuple(pool_mask.shape)}", "that of input_ids")
            mask = mask & pool_mask.bool()
        if not bool(mask.any(1).all()):
            raise _wrong("attention_mask", "a row without a token", "one token per row or more")
        place = check_trajectory(len(input_ids), trajectory_coords, phase_id, homogeneity)
        device = next(self.heads.parameters()).device
        found: TwinOutput = self.heads(
            hidden.to(device, torch.float32),
            mask.to(device),
            *(None if value is None else value.to(device) for value in place),
        )
        return found

    @torch.no_grad()
    def extract_style(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        trajectory_coords: Tensor | None = None,
        phase_id: Tensor | None = None,
        homogeneity: Tensor | None = None,
        pool_mask: Tensor | None = None,
    ) -> Tensor:
        """The style signature alone, B x 256; arguments as in :meth:`forward`."""
        self.eval()
        output: TwinOutput = self(
            input_ids, attention_mask, trajectory_coords, phase_id, homogeneity, pool_mask
        )
        return output.style_signature

    def load_custom_components(self, folder: str | Path) -> CognitiveTwin:
        """Puts trained heads in place of the present ones.

        Args:
            folder: Model folder of a heads job, or a folder of :func:`.store.save_heads`.

        Raises:
            ConfigurationError: They are for another hidden size or another base.
            DataError: The folder holds no heads, or they were changed.
        """
        from tracetune.training.heads.store import load_heads

        place = Path(folder)
        config = read_config(place)
        check_fits(config, hidden_size=self.hidden_size, base_sha256=self.base_sha256)
        device = next(self.heads.parameters()).device
        self.heads = load_heads(place, config).to(device)
        self.config = config
        self.eval()
        return self


def check_trajectory(
    rows: int, coords: Tensor | None, phase: Tensor | None, homogeneity: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Coordinates, phase and homogeneity of B rows in the form the heads take, checked.

    Raises:
        ConfigurationError: A shape or a value is wrong, or one of them is missing.
    """
    if coords is None:
        if phase is not None or homogeneity is not None:
            raise _wrong("trajectory_coords", "nothing", "B x 5 with phase_id and homogeneity")
        return None, None, None
    if coords.shape != (rows, 5):
        raise _wrong("trajectory_coords", f"shape {tuple(coords.shape)}", f"({rows}, 5)")
    coords = coords.float()
    if not bool(((coords >= 0) & (coords <= 1)).all()):  # also when one is no number
        raise _wrong("trajectory_coords", "a coordinate outside 0 to 1", "numbers from 0 to 1")
    if phase is None or phase.numel() != rows:
        raise _wrong("phase_id", "another number of phases", f"one phase of each of {rows} rows")
    phase = phase.reshape(rows).long()
    if not bool(((phase >= 0) & (phase <= 5)).all()):
        raise _wrong("phase_id", "an unknown phase", "0 to 5")
    third = coords[:, 2]
    if homogeneity is not None:
        if homogeneity.numel() != rows:
            raise _wrong("homogeneity", f"shape {tuple(homogeneity.shape)}", f"({rows}, 1)")
        given = homogeneity.reshape(rows).float().to(third.device)
        if not torch.equal(given, third):
            raise _wrong("homogeneity", "another number than trajectory_coords[:, 2]", "the same")
    return coords, phase, third


def _mask(base: Any, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The attention mask; all ones if none was given and nothing looks like padding."""
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            raise _wrong(
                "attention_mask",
                f"shape {tuple(attention_mask.shape)}",
                f"{tuple(input_ids.shape)}, that of input_ids",
            )
        return attention_mask.long()
    pad = getattr(base.config, "pad_token_id", None)
    if len(input_ids) > 1 and isinstance(pad, int) and bool((input_ids == pad).any()):
        raise _wrong("attention_mask", "nothing, but the batch holds padding", "the mask of it")
    return torch.ones_like(input_ids)


def _wrong(name: str, found: str, expected: str) -> ConfigurationError:
    return ConfigurationError(
        f"found {found}", where=f"CognitiveTwin, {name}", remedy=f"give {expected}"
    )
