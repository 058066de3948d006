"""The trajectory adapter: where a turn stands in its conversation, added to the base's output.

Imported only where tensors are at work, because torch is heavy.

With H the hidden states (B x T x d) of the frozen base, m their mask, c the five coordinates, p the
phase and h the homogeneity (project choice D3 on document 001)::

    e  = GELU(LN(W2 GELU(W1 c)))                 ph = Emb6(p)
    g  = sigmoid(Wg [mean(H, m); e; ph])         a  = Wo GELU(Wi [e; ph])
    s  = 0.5 + 0.5 sigmoid(alpha h + beta)       H' = LN(H + g * s * a), the same for every token
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_GATE_SPREAD = 0.02
"""Spread of the weights of the gate's last layer: the gate starts at its bias."""
_CHANGE_SPREAD = 0.1
"""Spread of the weights of Wo for states of size 1: H' starts near H, and yet the heads see the
trajectory at once. With 0.02 patterns were found less well (cross-validation on training
conversations of the sample)."""


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that count.

    Args:
        hidden: B x T x d.
        mask: B x T, true where a token counts; at least one per row.

    Returns:
        B x d.
    """
    kept = torch.where(mask.unsqueeze(-1), hidden, hidden.new_zeros(()))
    count = mask.sum(1, keepdim=True).clamp(min=1)
    return kept.sum(1) / count.to(hidden.dtype)


class Standard(nn.Module):
    """Centres and scales vectors by fixed figures, so that heads see numbers of one size.

    Hidden states of a language model share a large common part, and their size differs from model
    to model; both would drown what a small head has to see.
    """

    def __init__(self, size: int) -> None:
        """Starts as the identity."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.mean: Tensor
        self.deviation: Tensor

    def fit(self, vectors: Tensor) -> None:
        """Takes mean and deviation from N x d vectors."""
        values = vectors.double()
        self.mean.copy_(values.mean(0))
        spread = values.std(0, correction=0)
        # A number that never changes says nothing; dividing by its rounding would.
        floor = 1e-3 * spread.mean().clamp(min=1e-6)
        self.deviation.copy_(spread.clamp(min=float(floor)))

    def forward(self, vectors: Tensor) -> Tensor:
        """... x d → the same shape."""
        return (vectors - self.mean) / self.deviation


class TrajectoryAdapter(nn.Module):
    """Coordinate embedding, phase-aware gate, homogeneity modulation, gated residual.

    Args:
        hidden_size: Width d of the base.
        width: Inner width of its layers.
        gate_bias: Bias of the last layer of the gate at the start.
    """

    def __init__(self, hidden_size: int, width: int = 256, gate_bias: float = -2.0) -> None:
        """Starts near the identity; how near, :meth:`calibrate` sees to."""
        super().__init__()
        size = hidden_size
        self.coordinates = nn.Sequential(
            nn.Linear(5, width), nn.GELU(), nn.Linear(width, size), nn.LayerNorm(size), nn.GELU()
        )
        self.phases = nn.Embedding(6, size)
        last = nn.Linear(width, size)
        self.gate = nn.Sequential(nn.Linear(3 * size, width), nn.GELU(), last)
        self.inner = nn.Linear(2 * size, width)
        self.outer = nn.Linear(width, size)
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.zeros(()))
        self.norm = nn.LayerNorm(size)
        self.standard = Standard(size)
        nn.init.normal_(last.weight, std=_GATE_SPREAD)
        nn.init.constant_(last.bias, gate_bias)
        nn.init.normal_(self.outer.weight, std=_CHANGE_SPREAD)
        nn.init.zeros_(self.outer.bias)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        coordinates: Tensor | None,
        phase: Tensor | None,
        homogeneity: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Adapts hidden states.

        Args:
            hidden: B x T x d.
            mask: B x T, the tokens of the turn.
            coordinates: B x 5; None closes the gate, which leaves the layer norm alone.
            phase: B, 0 to 5.
            homogeneity: B.

        Returns:
            H' (B x T x d) and the gate g (B x d).
        """
        if coordinates is None or phase is None or homogeneity is None:
            closed = hidden.new_zeros(hidden.shape[0], hidden.shape[2])
            adapted: Tensor = self.norm(hidden)
            return adapted, closed
        place = torch.cat([self.coordinates(coordinates), self.phases(phase)], dim=-1)
        mean = self.standard(masked_mean(hidden, mask))
        gate = torch.sigmoid(self.gate(torch.cat([mean, place], dim=-1)))
        change = self.outer(nn.functional.gelu(self.inner(place)))
        strength = 0.5 + 0.5 * torch.sigmoid(self.alpha * homogeneity + self.beta)
        residual = gate * strength.unsqueeze(-1) * change
        adapted = self.norm(hidden + residual.unsqueeze(1))
        return adapted, gate

    @torch.no_grad()
    def calibrate(self, turns: Iterable[Tensor]) -> None:
        """Fits the layer norm to hidden states, so that H' starts near H and not merely parallel.

        The output of a base is normalised already (RMS norm with learned weights), but a fresh
        layer norm would give every number mean 0 and deviation 1. Weight and bias are set to the
        least-squares answer of ``weight * normalised(H) + bias = H``, number by number. The first
        residual is given the size of H, which differs from base to base; so this is done once.

        Args:
            turns: Hidden states, tokens x d each.
        """
        count, means = 0, []
        total = torch.zeros(5, self.norm.normalized_shape[0], dtype=torch.float64)
        for tokens in turns:
            values = tokens.to("cpu", torch.float64)
            plain = nn.functional.layer_norm(values, values.shape[-1:], eps=self.norm.eps)
            for row, part in enumerate((plain, plain**2, values, plain * values, values**2)):
                total[row] += part.sum(0)
            count += len(values)
            means.append(values.mean(0))
        plain, square, value, both, size = total / max(1, count)
        variance = (square - plain**2).clamp(min=0)
        weight = torch.where(variance > 1e-8, (both - plain * value) / (variance + 1e-12), 0.0)
        self.norm.weight.copy_(weight)
        self.norm.bias.copy_(value - weight * plain)
        self.outer.weight.mul_(float(size.mean().sqrt()))
        self.standard.fit(torch.stack(means))
