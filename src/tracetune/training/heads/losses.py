"""The parts of the loss (project choice D3 on document 001).

Imported only where tensors are at work, because torch is heavy. Each part is a sum with the number
of things it is over, so that micro-batches of any size add up to the loss of the whole batch. The
contrastive part alone depends on what stands in one micro-batch: it compares the rows in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tracetune.training.heads.model import TwinOutput
from tracetune.training.heads.options import LossOptions

PARTS = ("pattern", "style", "planning", "stop", "gate")


@dataclass(frozen=True)
class Targets:
    """What the heads should say about B rows.

    Attributes:
        patterns: B x 12, 0 or 1.
        groups: B, number of the style group; rows with the same one are positives.
        next_turns: B x steps x d, mean hidden states of the next turns.
        present: B x steps, whether there is such a turn.
    """

    patterns: Tensor
    groups: Tensor
    next_turns: Tensor
    present: Tensor


def contrastive(signatures: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, the sum outside the logarithm).

    For an anchor i with positives P(i), over p in P(i) and all a other than i::

        -1 / |P(i)| * sum_p log(exp(s_ip / t) / sum_a exp(s_ia / t))

    Args:
        signatures: B x n, of length 1.
        groups: B; rows with the same number are positives of one another.
        temperature: t.

    Returns:
        The sum over the anchors that have a positive.
    """
    if len(groups) < 2:  # nobody to compare with; the logarithm below would be one of zero
        return signatures.sum() * 0.0
    positive, itself = _positives(groups)
    scores = (signatures @ signatures.T / temperature).masked_fill(itself, float("-inf"))
    log_share = scores - scores.logsumexp(dim=1, keepdim=True)
    number = positive.sum(1)
    of_anchor = -torch.where(positive, log_share, 0.0).sum(1) / number.clamp(min=1)
    return of_anchor[number > 0].sum()


def _positives(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows are positives of which, and which are the same row; both B x B."""
    itself = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    return (groups[:, None] == groups[None, :]) & ~itself, itself


def style_errors(signatures: Tensor, groups: Tensor) -> Tensor:
    """Number of anchors with a positive whose nearest other row is of another style group."""
    positive, itself = _positives(groups)
    scores = (signatures @ signatures.T).masked_fill(itself, float("-inf"))
    nearest = groups[scores.argmax(1)]
    return (positive.any(1) & (nearest != groups)).sum()


def planning(plan: Tensor, next_turns: Tensor, present: Tensor) -> Tensor:
    """Sum of one minus the cosine between each step of the plan and the turn that came, if any."""
    distance = 1 - nn.functional.cosine_similarity(plan.float(), next_turns.float(), dim=-1)
    return torch.where(present, distance, 0.0).sum()


def counts(targets: Targets, hidden_size: int) -> dict[str, float]:
    """What each part of the loss is over, by :data:`PARTS`.

    Args:
        targets: Of the rows, on the CPU.
        hidden_size: Width of the gate.
    """
    anchors = _positives(targets.groups)[0].any(1).sum()
    return {
        "pattern": float(targets.patterns.numel()),
        "style": float(anchors),
        "planning": float(targets.present.sum()),
        "stop": float(targets.present.numel()),
        "gate": float(len(targets.groups) * hidden_size),
    }


def sums(
    output: TwinOutput, targets: Targets, pos_weight: Tensor, temperature: float
) -> dict[str, Tensor]:
    """All parts of the loss of one micro-batch as sums, by :data:`PARTS`.

    Args:
        output: What the heads say.
        targets: What they should say.
        pos_weight: 12; weight of the positives of each pattern.
        temperature: Of the contrastive part.
    """
    cross_entropy = nn.functional.binary_cross_entropy_with_logits
    logits, stop = output.pattern_logits.float(), output.stop_logits.float()
    ended = (~targets.present).float()
    return {
        "pattern": cross_entropy(logits, targets.patterns, pos_weight=pos_weight, reduction="sum"),
        "style": contrastive(output.style_signature, targets.groups, temperature),
        "planning": planning(output.plan_steps, targets.next_turns, targets.present),
        "stop": cross_entropy(stop, ended, reduction="sum"),
        # The gate is never negative, so its L1 norm per number is its mean.
        "gate": output.gate.float().sum(),
    }


def whole(found: Mapping[str, Tensor], over: Mapping[str, float], weights: LossOptions) -> Tensor:
    """The loss of a micro-batch as its share of a batch.

    Args:
        found: Sums of its parts.
        over: What each part is over in the whole batch.
        weights: Weights of the parts.
    """
    terms = [getattr(weights, name) * found[name] / over[name] for name in PARTS if over[name]]
    return torch.stack(terms).sum()


def class_weights(support: Tensor, rows: int, limit: float = 5.0) -> Tensor:
    """Weight of the positives of each pattern: negatives by positives, at most ``limit``.

    Args:
        support: 12; rows that have the pattern.
        rows: Training rows.
        limit: Largest weight. A pattern nobody has weighs 1: there is nothing to learn about it.
    """
    positives = support.clamp(min=1)
    weights = ((rows - support) / positives).clamp(min=1.0 / limit, max=limit)
    return torch.where(support > 0, weights, torch.ones_like(weights))
