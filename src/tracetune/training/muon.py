"""Muon: momentum whose update is made orthogonal; learns in far fewer steps than Adam.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". The version in torch
computes in bfloat16, which is slow on a CPU without matrix units; this one stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with (about) equal singular values, by Newton-Schulz iteration.

    Args:
        matrices: Shape (count, rows, columns) with rows <= columns, float32.

    Returns:
        Same shape, singular values between about 0.7 and 1.2.
    """
    a, b, c = _COEFFICIENTS
    x: torch.Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum, for the matrices between embedding and output.

    Args:
        matrices: Weights with two dimensions.
        lr: Learning rate.
        momentum: Decay of the running gradient.
    """

    def __init__(
        self, matrices: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        """Sets up one group."""
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            # equal shapes together: few large products instead of many small ones
            by_shape: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                running = self.state[weight].setdefault("running", torch.zeros_like(weight))
                running.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(running, group["momentum"])
                tall = ahead.shape[0] > ahead.shape[1]
                wide = (ahead.T, weight.T) if tall else (ahead, weight)
                by_shape.setdefault(tuple(wide[0].shape), []).append(wide)
            for pairs in by_shape.values():
                updates = orthogonal(torch.stack([ahead for ahead, _ in pairs]))
                for update, (_, weight) in zip(updates, pairs, strict=True):
                    weight.add_(update, alpha=-group["lr"])
