"""The three heads. Imported only where tensors are at work, because torch is heavy."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StyleHead(nn.Module):
    """A turn as a signature of length 1: d → width → size, L2-normalised."""

    def __init__(self, hidden_size: int, width: int = 512, size: int = 256) -> None:
        """Makes the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(hidden_size, width), nn.GELU(), nn.Linear(width, size)
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """B x d → B x size."""
        return nn.functional.normalize(self.layers(pooled).float(), dim=-1)


class PatternHead(nn.Module):
    """Which patterns a turn has, each by itself: d → width → patterns, as logits."""

    def __init__(self, hidden_size: int, width: int = 256, patterns: int = 12) -> None:
        """Makes the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(hidden_size, width), nn.GELU(), nn.Linear(width, patterns)
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """B x d → B x patterns."""
        logits: Tensor = self.layers(pooled)
        return logits


class PlanningHead(nn.Module):
    """What the next turns will be about, and whether they come.

    One learned query per step, one layer of cross-attention over the tokens of the turn, then the
    mean hidden state expected of each next turn, and a logit for "the conversation has ended".
    """

    def __init__(self, hidden_size: int, steps: int = 8) -> None:
        """Makes queries and layers."""
        super().__init__()
        self.heads = next(n for n in (8, 4, 2, 1) if hidden_size % n == 0)
        self.queries = nn.Parameter(torch.empty(steps, hidden_size))
        self.ask = nn.Linear(hidden_size, hidden_size)
        # The same number added to all scores of a query changes nothing, so keys need no bias.
        self.keys = nn.Linear(hidden_size, hidden_size, bias=False)
        self.values = nn.Linear(hidden_size, hidden_size)
        self.join = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)
        self.stop = nn.Linear(hidden_size, 1)
        nn.init.normal_(self.queries, std=1.0)
        # Every plan starts as the same vector (see start_at) and leaves it as far as that helps.
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Plans.

        Args:
            tokens: B x T x d.
            mask: B x T, true where a token counts.

        Returns:
            Plan (B x steps x d) and stop logits (B x steps).
        """
        states = self.norm(self.queries + self.join(self.attend(tokens, mask)))
        return self.project(states), self.stop(states).squeeze(-1)

    def attend(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Multi-head attention of the queries over the tokens, B x steps x d, before the join.

        The queries are the same for all rows, and there are few of them: so the matrix of the keys
        is applied to them and that of the values to what they have gathered, instead of both to
        every token. The result is the same, and the work per token no longer grows with d squared.
        """
        size = tokens.shape[-1]
        part = size // self.heads
        asked = self.ask(self.queries).view(-1, self.heads, part)
        keys = self.keys.weight.view(self.heads, part, size)
        directions = torch.einsum("shk,hkd->shd", asked, keys).reshape(-1, size)
        scores = tokens @ (directions.T / part**0.5)
        scores = scores.float().masked_fill(~mask.unsqueeze(-1), float("-inf"))
        gathered = scores.softmax(1).to(tokens.dtype).transpose(1, 2) @ tokens
        gathered = gathered.view(len(tokens), -1, self.heads, size)
        values = self.values.weight.view(self.heads, part, size)
        seen = torch.einsum("bshd,hkd->bshk", gathered, values).flatten(2)
        return seen + self.values.bias

    @torch.no_grad()
    def start_at(self, mean: Tensor) -> None:
        """Lets every plan start at the mean of the training turns, the trivial answer.

        Args:
            mean: d.
        """
        self.project.bias.copy_(mean)
