"""Batches of the heads: which rows come together, and their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracetune.records.heads import TrajectoryRow
from tracetune.training.heads.data import HeadRows, HeadsDataset, style_groups
from tracetune.training.heads.states import States

if TYPE_CHECKING:
    from torch import Tensor

    from tracetune.training.heads.losses import Targets

CHUNK = 64
"""Rows that are read at a time where all rows are read."""


@dataclass(frozen=True)
class Inputs:
    """What the heads take of B rows.

    Attributes:
        hidden: B x T x d, padded on the right with zeros.
        mask: B x T.
        coordinates: B x 5.
        phase: B.
        homogeneity: B.
    """

    hidden: Tensor
    mask: Tensor
    coordinates: Tensor
    phase: Tensor
    homogeneity: Tensor


def epoch_order(groups: Sequence[int], seed: int, epoch: int) -> list[int]:
    """Rows in the order of one epoch, drawn from seed and epoch alone.

    Rows of one style group come in couples, so that in every batch the contrastive loss finds
    positives; which two make a couple changes from epoch to epoch. Rows without a
    partner come last.

    Args:
        groups: Style group of each row.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
    """
    draw = np.random.default_rng([seed, epoch])
    of_group: dict[int, list[int]] = {}
    for row in draw.permutation(len(groups)).tolist():
        of_group.setdefault(groups[row], []).append(row)
    couples, alone = [], []
    for group in sorted(of_group):
        rows = of_group[group]
        couples += [rows[start : start + 2] for start in range(0, len(rows) - 1, 2)]
        alone += rows[len(rows) - len(rows) % 2 :]
    order = [row for number in draw.permutation(len(couples)) for row in couples[number]]
    return order + [alone[number] for number in draw.permutation(len(alone))]


def divided(order: Sequence[int], size: int) -> list[list[int]]:
    """``order`` in batches of ``size``; the last may be smaller."""
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


def pad(turns: Sequence[Tensor], rows: Sequence[TrajectoryRow]) -> Inputs:
    """Hidden states of turns and their trajectories as one batch.

    Args:
        turns: Tokens x d of each row.
        rows: The rows.
    """
    import torch

    longest = max(len(turn) for turn in turns)
    hidden = torch.zeros(len(turns), longest, turns[0].shape[1])
    mask = torch.zeros(len(turns), longest, dtype=torch.bool)
    for position, turn in enumerate(turns):
        hidden[position, : len(turn)] = turn.float()
        mask[position, : len(turn)] = True
    coordinates = torch.tensor([row.trajectory.coordinates for row in rows])
    return Inputs(
        hidden=hidden,
        mask=mask,
        coordinates=coordinates,
        phase=torch.tensor([row.trajectory.phase_id for row in rows]),
        homogeneity=coordinates[:, 2],
    )


class Part:
    """Training or validation rows with their hidden states.

    Args:
        rows: The rows.
        groups: Style group of each.
        states: Hidden states of all rows of the job.
        first: Position of the first of these rows among them.
        plan_steps: Next turns that are planned.
    """

    def __init__(
        self, rows: HeadRows, groups: list[int], states: States, first: int, plan_steps: int
    ) -> None:
        """Reads nothing yet."""
        import torch

        self.rows = rows
        self.groups = groups
        self._states = states
        self._first = first
        self._plan_steps = plan_steps
        self.means: Tensor = torch.zeros(0, 0)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def prepare(self, progress: Callable[[], Any]) -> None:
        """Works out the mean hidden state of each row, the target of the plans before it.

        Args:
            progress: Called once per row.
        """
        import torch

        found = []
        for turn in self.every(range(len(self))):
            found.append(turn.float().mean(0))
            progress()
        self.means = torch.stack(found) if found else torch.zeros(0, 0)

    def every(self, chosen: Sequence[int]) -> Iterator[Tensor]:
        """Hidden states of some rows, one after another."""
        for chunk in divided(chosen, CHUNK):
            yield from self.turns(chunk)

    def turns(self, chosen: Sequence[int]) -> list[Tensor]:
        """Hidden states of some rows, tokens x d each."""
        return self._states.turns([self._first + row for row in chosen])

    def inputs(self, chosen: Sequence[int]) -> Inputs:
        """What the heads take of some rows."""
        return pad(self.turns(chosen), [self.rows.rows[row] for row in chosen])

    def targets(self, chosen: Sequence[int]) -> Targets:
        """What the heads should say about them."""
        import torch

        from tracetune.training.heads.losses import Targets

        steps, size = self._plan_steps, self.means.shape[1]
        following = torch.zeros(len(chosen), steps, size)
        present = torch.zeros(len(chosen), steps, dtype=torch.bool)
        for position, row in enumerate(chosen):
            for step, other in enumerate(self.rows.next_rows[row][:steps]):
                following[position, step] = self.means[other]
                present[position, step] = True
        patterns = [self.rows.extras[row].patterns for row in chosen]
        return Targets(
            patterns=torch.tensor(patterns, dtype=torch.float32),
            groups=torch.tensor([self.groups[row] for row in chosen]),
            next_turns=following,
            present=present,
        )


def parts_of(dataset: HeadsDataset, states: States, plan_steps: int) -> tuple[Part, Part]:
    """Training and validation rows with their hidden states, which lie one after the other."""
    train_groups, validation_groups = style_groups([dataset.train, dataset.validation])
    return (
        Part(dataset.train, train_groups, states, 0, plan_steps),
        Part(dataset.validation, validation_groups, states, len(dataset.train), plan_steps),
    )
